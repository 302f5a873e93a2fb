//! What each command does: asks the master, shows the reply, says how it went.

mod audit;
pub mod complete;
mod events;
mod follow;
mod ids;
mod jobs;
mod login;
mod nodes;
mod ops;
mod output;
mod plans;
mod plugins;
mod reference;
mod roles;
mod rules;
mod run;
mod schedule;
mod secrets;
mod shell;
mod show;
mod standing;
mod status;
mod tokens;
mod users;

pub use follow::Interrupts;

use crate::{
    cli::{Cli, Command, Global},
    client::Client,
    config,
    exit::Exit,
    output::{Look, Output},
};
use anyhow::{Context as _, Result};

/// What every command has at hand.
pub struct Context {
    pub global: Global,
    pub out: Output,
}

impl Context {
    /// A client for the master of the profile or the environment.
    pub fn client(&self) -> Result<Client> {
        let connection = config::connection(self.global.profile.as_deref(), &config::environment)?;
        Ok(Client::new(&connection, self.global.verbose)?)
    }

    /// The look of what is said on stderr.
    pub fn stderr_look(&self) -> Look {
        self.global.stderr_look(&self.out.look)
    }
}

/// Carry out a command line.
///
/// # Errors
/// With what went wrong; [`crate::exit::report`] makes words and an exit code of it.
pub fn run(cli: Cli) -> Result<Exit> {
    let out = Output::new(cli.global.output, cli.global.colorless());
    let context = Context { global: cli.global, out };
    match cli.command {
        Command::Completion { shell: kind } => shell::completion(&context, kind),
        Command::Man { dir } => shell::man(&context, &dir),
        Command::Reference => context.out.raw(reference::markdown().as_bytes()).map(|()| Exit::Success),
        Command::Logout => login::logout(&context),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the runtime")?;
            runtime.block_on(talk(&context, command))
        }
    }
}

/// The commands that speak with a master, a registry or a person.
async fn talk(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Login(login) => login::login(context, login).await,
        Command::Whoami => login::whoami(context).await,
        Command::Nodes(nodes) => nodes::run(context, nodes).await,
        Command::Status(status) => status::run(context, *status).await,
        Command::Ops(ops) => ops::run(context, ops).await,
        Command::Run(run) => Box::pin(run::run(context, *run)).await,
        Command::Jobs(jobs) => Box::pin(jobs::run(context, jobs)).await,
        Command::Plugins(plugins) => Box::pin(plugins::run(context, plugins)).await,
        Command::Plugin(plugin) => Box::pin(crate::plugin::run(context, plugin)).await,
        Command::Plan(plan) => Box::pin(plans::plan(context, plan)).await,
        Command::Apply(apply) => Box::pin(plans::apply(context, apply)).await,
        Command::Runs(runs) => Box::pin(plans::runs(context, runs)).await,
        Command::Events(events) => events::run(context, events).await,
        Command::Rules(rules) => Box::pin(rules::run(context, rules)).await,
        Command::Schedule(schedule) => Box::pin(schedule::run(context, schedule)).await,
        Command::Secrets(secrets) => secrets::run(context, secrets).await,
        Command::Users(users) => users::run(context, users).await,
        Command::Roles(roles) => Box::pin(roles::run(context, roles)).await,
        Command::Tokens(tokens) => tokens::run(context, tokens).await,
        Command::Audit(audit) => audit::run(context, audit).await,
        Command::Completion { .. } | Command::Man { .. } | Command::Reference | Command::Logout => {
            unreachable!("done without a master")
        }
    }
}
