//! `windlass`: operate a grid of storage nodes from one point.
//!
//! * [`cli`]: the surface: commands, flags, help. Everything a person reads before running.
//! * [`args`]: `key=value` words to JSON, by the operation's type. Pure.
//! * [`client`]: the operator API over TLS, with its event streams.
//! * [`commands`]: what each command does.
//! * [`plugin`]: what authors of plugins do, without a master.
//! * [`render`]: JSON to tables and text. Pure.
//! * [`config`], [`output`], [`exit`]: where settings come from, where results go, how it ends.
//!
//! stdout is data and nothing else; everything said to a person goes to stderr.

mod args;
mod cli;
mod client;
mod commands;
mod config;
mod duration;
mod exit;
mod output;
mod plugin;
mod render;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Shells ask for candidates by calling the program with `COMPLETE` set; this answers and ends.
    clap_complete::CompleteEnv::with_factory(cli::command).complete();
    windlass_identity::install_provider();
    let cli = cli::parse();
    let report_color = cli.global.color_on_stderr();
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&error, report_color).into(),
    }
}
