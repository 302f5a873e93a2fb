//! The surface of the program: commands, flags and their help. `docs/cli.md`, man pages and
//! completion all come from here.

pub mod access;
mod events;
mod nodes;
pub mod plans;
pub mod plugin;
pub mod plugins;
pub mod rules;
pub mod schedule;
mod secrets;
mod status;

pub use access::{Roles, Tokens, Users};
pub use events::Events;
pub use nodes::{Accept, Consent, JoinToken, Nodes};
pub use plugin::Plugin;
pub use plugins::Plugins;
pub use secrets::Secrets;
pub use status::Status;

use crate::{
    commands::complete,
    config, duration,
    exit::Problem,
    output::{Format, Look},
};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint, builder::styling};
use clap_complete::{ArgValueCompleter, Shell};
use std::{path::PathBuf, time::Duration};
use windlass_types::{
    Fingerprint, OperationName, PluginName,
    api::{self, Batch},
};

/// Operate a grid of storage nodes from one point.
///
/// A master knows the nodes, and which typed operations their plugins offer. This command asks it:
/// look at nodes and operations, run an operation on many nodes at once, see what each answered, roll
/// plugins out. Authors of plugins need no master: see `windlass plugin`.
#[derive(Debug, Parser)]
#[command(
    name = "windlass",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    styles = STYLES,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{ENVIRONMENT}\n\n{EXIT_CODES}"),
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const STYLES: styling::Styles = styling::Styles::styled()
    .header(styling::AnsiColor::Green.on_default().bold())
    .usage(styling::AnsiColor::Green.on_default().bold())
    .literal(styling::AnsiColor::Cyan.on_default())
    .placeholder(styling::AnsiColor::Cyan.on_default().dimmed());

const EXAMPLES: &str = "\
Examples:
  windlass login https://master.example:7400 --ca-fingerprint sha256:…
  windlass nodes list
  windlass ops list
  windlass run monitor.system.read --on 'n*'";

const ENVIRONMENT: &str = "\
Environment:
  WINDLASS_URL             Address of the master; stored profiles are not looked at then
  WINDLASS_TOKEN           Token to use instead of the stored one
  WINDLASS_CA_FINGERPRINT  Fingerprint of the authority to trust
  WINDLASS_CA_FILE         File with the certificate of the authority to trust
  WINDLASS_PROFILE         Profile to use, like --profile
  NO_COLOR                 No colours, like --no-color";

const EXIT_CODES: &str = "\
Exit codes:
  0    All succeeded
  1    The command itself failed: no connection, an error of the master, an unknown job
  2    The command line makes no sense: flags, arguments, name of the operation
  3    The job or deployment ran, and not every node succeeded; or the run of a plan did not come to its end
  4    Denied: by the master, a registry, or every node that did not succeed; or waiting for approval
  130  Left with Ctrl-C while the job, deployment or run goes on";

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Form of the data on stdout.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
    /// Which stored login to use.
    #[arg(long, global = true, env = "WINDLASS_PROFILE", hide_env = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// No colours, even on a terminal.
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Tell each request on stderr.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Global {
    /// True where colours are not wanted at all.
    pub fn colorless(&self) -> bool {
        self.no_color || config::environment("NO_COLOR").is_some()
    }

    /// True where errors may be shown in colours.
    pub fn color_on_stderr(&self) -> bool {
        use std::io::IsTerminal as _;
        !self.colorless() && std::io::stderr().is_terminal()
    }

    /// The look of text on stderr.
    pub fn stderr_look(&self, stdout: &Look) -> Look {
        Look { color: self.color_on_stderr(), ..stdout.clone() }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Login(Login),
    /// Forget a stored login. The token itself stays good: see `tokens delete`.
    Logout,
    /// Show who you are to the master.
    Whoami,
    /// Look at nodes, and decide who belongs to the grid.
    #[command(subcommand, arg_required_else_help = true)]
    Nodes(Nodes),
    Status(Box<Status>),
    /// Find operations and read about them.
    #[command(subcommand, arg_required_else_help = true)]
    Ops(Ops),
    Run(Box<Run>),
    /// Look at jobs, follow and cancel them.
    #[command(subcommand, arg_required_else_help = true)]
    Jobs(Jobs),
    /// Roll plugins out, see who runs what, decide what they may touch.
    #[command(subcommand, arg_required_else_help = true)]
    Plugins(Plugins),
    /// Make, test, sign and ship a plugin.
    #[command(subcommand, arg_required_else_help = true)]
    Plugin(Plugin),
    /// Make plans: steps on several nodes that are done or undone as a whole.
    #[command(subcommand, arg_required_else_help = true)]
    Plan(plans::Plan),
    Apply(plans::Apply),
    /// Look at runs of plans, and take them in hand.
    #[command(subcommand, arg_required_else_help = true)]
    Runs(plans::Runs),
    Events(Events),
    /// Run operations by the clock.
    #[command(subcommand, arg_required_else_help = true)]
    Schedule(schedule::Schedule),
    /// Do something whenever something happens.
    #[command(subcommand, arg_required_else_help = true)]
    Rules(rules::Rules),
    /// Say who may use the grid. Each user has a role, and tokens.
    #[command(subcommand, arg_required_else_help = true)]
    Users(Users),
    /// Say which operations on which nodes go with a role.
    #[command(subcommand, arg_required_else_help = true)]
    Roles(Roles),
    /// Keep passwords and keys for operations. Nobody can read them back.
    #[command(subcommand, arg_required_else_help = true)]
    Secrets(Secrets),
    /// Make and remove tokens, of users and of programs.
    #[command(subcommand, arg_required_else_help = true)]
    Tokens(Tokens),
    /// Read the audit log.
    #[command(subcommand, arg_required_else_help = true)]
    Audit(Audit),
    /// Print the completion script of a shell.
    ///
    /// It completes names of operations and nodes too, by asking the master.
    #[command(after_help = "\
Examples:
  source <(windlass completion bash)
  windlass completion fish > ~/.config/fish/completions/windlass.fish")]
    Completion {
        shell: Shell,
    },
    /// Write the man pages into a directory.
    #[command(after_help = "Examples:\n  windlass man /usr/local/share/man/man1")]
    Man {
        /// The directory; made where it is missing.
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Print the reference of all commands in Markdown.
    #[command(hide = true)]
    Reference,
}

/// Store address and token of a master, after trying them.
///
/// The master prints the fingerprint of its authority when it is set up; with it this command knows
/// that it speaks with the right one. Without `--ca-fingerprint` and `--ca-file` the fingerprint is
/// shown, and asked about.
///
/// The token is asked for unless it is given; `--token` can be seen by other users of this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass login https://master.example:7400 --ca-fingerprint sha256:…
  windlass login https://master.example:7400 --ca-file ca.pem --token-file - < token
  windlass --profile lab login https://127.0.0.1:7400 --ca-fingerprint sha256:…")]
pub struct Login {
    /// Address of the operator API, such as `https://master.example:7400`.
    pub url: String,
    /// Fingerprint (SHA-256 of the public key) of the master's authority.
    #[arg(long, value_parser = config::fingerprint, value_name = "FINGERPRINT", group = "trust")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// File with the certificate of the master's authority (PEM).
    #[arg(long, value_name = "FILE", group = "trust", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,
    /// The token.
    #[arg(long, group = "secret")]
    pub token: Option<String>,
    /// File with the token; `-` for stdin.
    #[arg(long, value_name = "FILE", group = "secret", value_hint = ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Ops {
    /// List the operations that the nodes offer.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass ops list\n  windlass ops list zfs")]
    List {
        /// Only operations of this plugin.
        plugin: Option<PluginName>,
    },
    /// Show what an operation does, what it takes and what it gives, with an example.
    #[command(after_help = "\
Examples:
  windlass ops show zfs.pool.status
  windlass ops show zfs.pool.status --schema > args.schema.json")]
    Show {
        /// Name of the operation.
        #[arg(value_name = "OPERATION", add = ArgValueCompleter::new(complete::operations))]
        name: OperationName,
        /// Print the JSON Schema of the arguments instead.
        #[arg(long)]
        schema: bool,
    },
}

/// Run an operation on nodes, and show what each answered.
///
/// Arguments are `key=value`, read by their type (see `windlass ops show`): a string takes the text
/// as it is, a list takes the key once for each item or a JSON array, a record takes JSON or dotted
/// keys (`layout.kind=mirror`). `key=@file` takes the content of a file, `key=@-` stdin; a text that
/// begins with `@` is written `@@`.
///
/// All conditions given must hold for a node. The exit code tells whether every node succeeded.
/// Ctrl-C cancels the job and waits for its end; a second one leaves it to itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass run monitor.system.read --on 'n*'
  windlass run zfs.pool.status --on n1 pool=tank -o json
  windlass run zfs.dataset.list --label tier=hot --columns name,used_bytes
  windlass run zfs.pool.list --where 'node.facts.os == \"debian\" && !(\"maintenance\" in node.flags)'
  windlass run zfs.pool.status --all --args '{\"pool\": \"tank\"}' --dry-run
  windlass run samba.service.restart --label site=b --batch 25% --max-failures 1
  windlass run monitor.system.read --all --one
  windlass run zfs.pool.scrub --all pool=tank --wait-offline 2h --detach")]
pub struct Run {
    /// Name of the operation.
    #[arg(value_name = "OPERATION", add = ArgValueCompleter::new(complete::operations))]
    pub operation: OperationName,
    /// Arguments of the operation.
    #[arg(value_name = "KEY=VALUE", add = ArgValueCompleter::new(complete::arguments))]
    pub words: Vec<String>,
    /// Arguments as a JSON object, `@file` or `-` for stdin; `key=value` words replace its keys.
    #[arg(long, value_name = "JSON", value_hint = ValueHint::FilePath)]
    pub args: Option<String>,
    /// Change nothing: record what would be changed, and show it.
    #[arg(long)]
    pub dry_run: bool,
    /// When every node must have answered, counted from now. Unless told, the operation's own timeout and ten seconds.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// So many nodes at a time, or a share such as `25%`: the next has its turn when one has ended. Each has
    /// the whole `--timeout` from its turn on.
    #[arg(long, value_parser = plugins::batch, value_name = "COUNT|PERCENT")]
    pub batch: Option<Batch>,
    /// Stop when more nodes than this have ended without success; those that had no turn yet are refused
    /// (`stopped`). 0 unless told.
    #[arg(long, requires = "batch", value_name = "COUNT")]
    pub max_failures: Option<u32>,
    /// Ask a node again that has answered without success, so many times, each time with its whole `--timeout`.
    /// Only for operations that read or are idempotent.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub retries: Option<u32>,
    /// Wait for nodes that are not online, so long; they run it when they come.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION", conflicts_with = "batch")]
    pub wait_offline: Option<Duration>,
    /// Only so many of the nodes, picked at random; those that are online first.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub pick: Option<u32>,
    /// Only one of the nodes: `--pick 1`.
    #[arg(long, conflicts_with = "pick")]
    pub one: bool,
    /// Do not wait: print the id of the job.
    #[arg(long, conflicts_with = "trace")]
    pub detach: bool,
    /// Show what the operation asked of each host.
    #[arg(long)]
    pub trace: bool,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub consent: Consent,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    pub target: Target,
}

/// How results are shown.
#[derive(Debug, Args)]
pub struct View {
    /// Show only these fields, in this order; `outer.inner` for fields of records.
    #[arg(long, value_delimiter = ',', value_name = "FIELD,…")]
    pub columns: Vec<String>,
}

/// Which nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub struct Target {
    /// Names, ids or globs over names (`n*`, `rack[12]-*`); may be repeated or joined by commas.
    #[arg(long, value_name = "NODE", value_delimiter = ',', add = ArgValueCompleter::new(complete::nodes))]
    pub on: Vec<String>,
    /// Nodes with this label.
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    pub label: Vec<(String, String)>,
    /// Nodes with this flag.
    #[arg(long, value_name = "FLAG")]
    pub flag: Vec<String>,
    /// Nodes with this fact.
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    pub fact: Vec<(String, String)>,
    /// Nodes for which this CEL expression over `node` holds.
    #[arg(long, value_name = "CEL")]
    pub r#where: Option<String>,
    /// All accepted nodes.
    #[arg(long, conflicts_with_all = ["on", "label", "flag", "fact", "where"])]
    pub all: bool,
}

impl Target {
    /// As the API takes it.
    pub fn to_api(&self) -> api::Target {
        api::Target {
            on: if self.all { vec!["*".to_owned()] } else { self.on.clone() },
            labels: self.label.iter().cloned().collect(),
            flags: self.flag.clone(),
            facts: self.fact.iter().cloned().collect(),
            r#where: self.r#where.clone(),
        }
    }

    /// As the API takes it, where nodes must be named.
    ///
    /// # Errors
    /// If none are.
    pub fn required(&self) -> Result<api::Target, Problem> {
        match self.to_api() {
            target if target == api::Target::default() => Err(Problem::usage("on which nodes?")
                .hint("give `--on NODE`, `--label`, `--flag`, `--fact` or `--where`, or `--all`")),
            target => Ok(target),
        }
    }

    /// As the API takes it, where all nodes are meant unless some are named.
    pub fn or_all(&self) -> Option<api::Target> {
        Some(self.to_api()).filter(|target| *target != api::Target::default())
    }
}

#[derive(Debug, Subcommand)]
pub enum Jobs {
    /// List jobs, the newest first.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  windlass jobs list\n  windlass jobs list --limit 5 -o json"
    )]
    List {
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a job and what its nodes answered.
    #[command(after_help = "Examples:\n  windlass jobs show 0199a1b2\n  windlass jobs show 0199a1b2 -o json")]
    Show {
        #[command(flatten)]
        job: JobArg,
        #[command(flatten)]
        view: View,
    },
    /// Follow a job to its end; the exit code is the one of `run`. Ctrl-C leaves it to itself.
    #[command(after_help = "Examples:\n  windlass jobs watch 0199a1b2")]
    Watch {
        #[command(flatten)]
        job: JobArg,
        #[command(flatten)]
        view: View,
    },
    /// Ask the nodes to stop a job. What has been done stays done.
    #[command(after_help = "Examples:\n  windlass jobs cancel 0199a1b2")]
    Cancel {
        #[command(flatten)]
        job: JobArg,
    },
    /// Print what an operation has written on its way on one node, while it runs or later.
    #[command(
        after_help = "Examples:\n  windlass jobs output 0199a1b2\n  windlass jobs output 0199a1b2 n1 --follow"
    )]
    Output {
        #[command(flatten)]
        job: JobArg,
        /// Whose; needed where several nodes have written something.
        #[arg(add = ArgValueCompleter::new(complete::nodes))]
        node: Option<String>,
        /// Wait for more until the operation ends.
        #[arg(long, short)]
        follow: bool,
    },
    /// Show what the operation asked of its host: programs, files, probes, and by which rule.
    #[command(
        after_help = "Examples:\n  windlass jobs trace 0199a1b2\n  windlass jobs trace 0199a1b2 n1 -o json"
    )]
    Trace {
        #[command(flatten)]
        job: JobArg,
        /// Only this node.
        #[arg(add = ArgValueCompleter::new(complete::nodes))]
        node: Option<String>,
    },
}

/// A job.
#[derive(Debug, Args)]
pub struct JobArg {
    /// Id of the job, or the beginning of it.
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    pub job: String,
}

#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List entries of the audit log.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  windlass audit list\n  windlass audit list --after 1000 -o json"
    )]
    List {
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Only what follows the page that ended here.
        #[arg(long, value_name = "SEQ")]
        after: Option<String>,
    },
    /// Check that nothing in the audit log was changed or taken out
    ///
    /// Each entry holds the hash of the one before it, so the hash of the newest stands for all of them:
    /// keep it elsewhere, and compare it later with the same entry.
    #[command(after_help = "Examples:\n  windlass audit verify\n  windlass audit verify -o json")]
    Verify,
}

/// `key=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected `key=value`".into()),
    }
}

/// The whole surface.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The command line of this process. Ends the process where it makes no sense.
pub fn parse() -> Cli {
    Cli::parse()
}

#[cfg(test)]
mod tests;
