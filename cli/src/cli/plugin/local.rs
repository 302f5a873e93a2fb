//! The surface of an author's loop on one machine: run, test, record.

use crate::{
    cli::{Consent, View},
    duration,
};
use clap::{Args, ValueHint};
use std::{path::PathBuf, time::Duration};

/// Run one operation on this machine, without a master, under exactly the grants of its manifest.
///
/// The first word is the plugin: the folder of a project or bundle, a package or a component; it may
/// be left out for the project of the working directory. Of a project the newest build is taken.
/// Operations are named with or without the plugin's own name. Arguments, results and exit codes are
/// those of `windlass run`.
///
/// What the plugin stores through `state` is kept beside its build.
#[derive(Debug, Args)]
#[command(
    override_usage = "windlass plugin run [OPTIONS] [PLUGIN] OPERATION [KEY=VALUE]...",
    after_help = "\
Examples:
  windlass plugin run disk.usage path=/
  windlass plugin run ./usage disk.usage path=/ --trace
  windlass plugin run zfs-0.2.0.tar pool.status name=tank -o json
  windlass plugin run dataset.remove name=tank/old run=r1 --dry-run"
)]
pub struct Run {
    /// The plugin unless it is the project of the working directory, the operation, and its arguments.
    #[arg(value_name = "[PLUGIN] OPERATION [KEY=VALUE]", required = true, value_hint = ValueHint::AnyPath)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub call: CallArgs,
    /// Show what the operation asked of its host.
    #[arg(long)]
    pub trace: bool,
    /// Write all that it asked of its host, with the answers, to this file: a cassette.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub record: Option<PathBuf>,
    #[command(flatten)]
    pub view: View,
    #[command(flatten)]
    pub consent: Consent,
}

/// How an operation is called.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Arguments as a JSON object, `@file` or `-` for stdin; `key=value` words replace its keys.
    #[arg(long, value_name = "JSON", value_hint = ValueHint::FilePath)]
    pub args: Option<String>,
    /// Change nothing: record what would be changed, and show it.
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration of the plugin on this node, as a JSON object or `@file`.
    #[arg(long, value_name = "JSON")]
    pub configuration: Option<String>,
    /// Values of the secrets that the arguments name: TOML with a line `name = "value"` for each.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub secrets: Option<PathBuf>,
    /// When it is ended at the latest. Unless told, the operation's own timeout.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

/// Run the cases of a project: calls whose host is a recording.
///
/// A case is a folder in `cases/` with `call.json`, the recording `cassette.json`, and what must come
/// of it: `expected.json`, `expected-error.json` or `expected-denial.json`. The operation must make
/// exactly the recorded calls, in their order; nothing of this machine is touched. Grants and limits
/// are the real ones. The exit code is 1 if a case fails.
#[derive(Debug, Args)]
#[command(
    override_usage = "windlass plugin test [OPTIONS] [PROJECT] [FILTER]",
    after_help = "\
Examples:
  windlass plugin test
  windlass plugin test ./usage full
  windlass plugin test --update
  windlass plugin test --bundle usage-0.2.0.tar -o json"
)]
pub struct Test {
    /// The project unless it is that of the working directory, and text that the names of cases contain.
    #[arg(value_name = "[PROJECT] [FILTER]", num_args = 0..=2, value_hint = ValueHint::DirPath)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub bundle: BundleArg,
    /// Write what came out as what is expected from now on.
    #[arg(long)]
    pub update: bool,
}

/// Make a case: run an operation on this machine and keep the call, its recording and its outcome.
///
/// It runs for real, as the user who calls this, under the grants of the manifest. Look through
/// `cassette.json` before you share it: it holds all that the programs and files said.
#[derive(Debug, Args)]
#[command(
    override_usage = "windlass plugin record [OPTIONS] [PROJECT] CASE OPERATION [KEY=VALUE]...",
    after_help = "\
Examples:
  windlass plugin record root-filesystem disk.usage path=/
  windlass plugin record ./usage no-such-path disk.usage path=/nowhere --replace"
)]
pub struct Record {
    /// The project unless it is that of the working directory, a name for the case, the operation, and its arguments.
    #[arg(
        value_name = "[PROJECT] CASE OPERATION [KEY=VALUE]",
        required = true,
        num_args = 2..,
        value_hint = ValueHint::DirPath
    )]
    pub words: Vec<String>,
    #[command(flatten)]
    pub bundle: BundleArg,
    #[command(flatten)]
    pub call: CallArgs,
    /// One line about the case, for who reads it.
    #[arg(long, value_name = "TEXT")]
    pub about: Option<String>,
    /// Replace a case of this name.
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    pub consent: Consent,
}

/// Another build than the project's own.
#[derive(Debug, Args)]
pub struct BundleArg {
    /// Take the plugin from here instead of the project's newest build: a package, a folder or a component.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub bundle: Option<PathBuf>,
}
