//! The surface of `windlass rules`.

use super::{Consent, Target};
use crate::{commands::complete, duration};
use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCompleter;
use std::time::Duration;
use windlass_types::{OperationName, RuleName};

#[derive(Debug, Subcommand)]
pub enum Rules {
    Add(Box<Add>),
    /// List rules.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass rules list")]
    List,
    /// Show a rule with the events that fitted it last.
    #[command(after_help = "Examples:\n  windlass rules show page -n 50\n  windlass rules show page -o json")]
    Show {
        #[command(flatten)]
        rule: RuleArg,
        /// How many events at most.
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Tell which events of the past a condition fits; nothing is done.
    #[command(
        name = "try",
        after_help = "Examples:\n  windlass rules try 'job.finished' --when 'has(event.data.outcomes.failed)'"
    )]
    Try {
        #[command(flatten)]
        condition: Condition,
        /// How many of the newest events of the kind are looked at.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "NUMBER")]
        last: u32,
    },
    /// Do nothing until it is resumed.
    #[command(after_help = "Examples:\n  windlass rules pause page")]
    Pause {
        #[command(flatten)]
        rule: RuleArg,
    },
    /// Go on with what happens from now on.
    #[command(after_help = "Examples:\n  windlass rules resume page")]
    Resume {
        #[command(flatten)]
        rule: RuleArg,
    },
    /// Forget a rule. Its jobs stay.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass rules remove page")]
    Remove {
        #[command(flatten)]
        rule: RuleArg,
    },
}

/// A rule.
#[derive(Debug, Args)]
pub struct RuleArg {
    /// Name of the rule.
    #[arg(value_name = "NAME")]
    pub name: RuleName,
}

/// Which events.
#[derive(Debug, Args)]
pub struct Condition {
    /// Kind of event; `*` stands for any text, as in `node.*`.
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// CEL over `event` (`seq`, `time_ms`, `kind`, `node`, `node_name`, `subject`, `data`). All events of the
    /// kind unless told.
    #[arg(long, value_name = "CEL")]
    pub when: Option<String>,
}

/// Do something whenever something happens.
///
/// What happens is an event, as `windlass events` shows them; which of them is told by their kind and an
/// expression over `event`. Try it on the past first, with `windlass rules try`.
///
/// With `--run` the operation runs on the nodes that are given, looked up anew each time; with `--run-there` on
/// the node that the event is about. With `--webhook` the event is sent as JSON.
///
/// Events about rules, and about jobs that rules made, fire no rule.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass rules add page job.finished --when 'has(event.data.outcomes.failed)' --webhook https://pager.example/hook
  windlass rules add look node.connected --run-there monitor.system.read
  windlass rules add reread plugin.installed --run zfs.pool.list --label tier=hot --most 1 --per 10m")]
pub struct Add {
    /// Name of the rule: lower-case words joined by `-`.
    #[arg(value_name = "NAME")]
    pub name: RuleName,
    #[command(flatten)]
    pub condition: Condition,
    /// Arguments of the operation.
    #[arg(value_name = "KEY=VALUE")]
    pub words: Vec<String>,
    /// Run this operation on the nodes that are given.
    #[arg(
        long,
        value_name = "OPERATION",
        add = ArgValueCompleter::new(complete::operations),
        required_unless_present_any = ["run_there", "webhook"],
        conflicts_with_all = ["run_there", "webhook"]
    )]
    pub run: Option<OperationName>,
    /// Run this operation on the node of the event.
    #[arg(
        long,
        value_name = "OPERATION",
        add = ArgValueCompleter::new(complete::operations),
        conflicts_with = "webhook"
    )]
    pub run_there: Option<OperationName>,
    /// Send the event as JSON by POST. `https://`, or `http://` on the master's own machine.
    #[arg(long, value_name = "URL", conflicts_with_all = ["words", "args", "dry_run", "timeout"])]
    pub webhook: Option<String>,
    /// Arguments as a JSON object, `@file` or `-` for stdin; `key=value` words replace its keys.
    #[arg(long, value_name = "JSON", value_hint = ValueHint::FilePath)]
    pub args: Option<String>,
    /// At most so many times within `--per`; what fits beyond that is left out.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "NUMBER")]
    pub most: u32,
    /// See `--most`.
    #[arg(long, default_value = "1m", value_parser = duration::parse, value_name = "DURATION")]
    pub per: Duration,
    /// Begin paused.
    #[arg(long)]
    pub paused: bool,
    /// Change nothing: record what would be changed.
    #[arg(long)]
    pub dry_run: bool,
    /// When every node must have answered. Unless told, the operation's own timeout and ten seconds.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub consent: Consent,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    pub target: Target,
}
