//! The surface of `windlass status`.

use super::Target;
use crate::commands::complete;
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use windlass_types::api::status::WatchState;

/// See what the watches of nodes found last.
///
/// Plugins have watches: operations that each node repeats by itself. Without a node this lists the watches
/// of all nodes and how they stand; with one it shows what each of its watches found. A watch is stale when
/// its node is offline, or when it was not heard of for three of its periods.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass status
  windlass status --state failing
  windlass status --watch zfs.pools --label site=b
  windlass status n1
  windlass status n1 --watch zfs.pools -o json")]
pub struct Status {
    /// Show what the watches of this node found; a glob lists those of several.
    #[arg(value_name = "NODE", conflicts_with_all = ["on", "label", "flag", "fact", "where", "all"],
          add = ArgValueCompleter::new(complete::nodes))]
    pub node: Option<String>,
    /// Only this watch, `plugin.name`, or all of a plugin.
    #[arg(long, value_name = "PLUGIN[.NAME]")]
    pub watch: Option<String>,
    /// Only those that stand so.
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Option<State>,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    pub target: Target,
}

/// How a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Its latest run succeeded.
    Ok,
    /// Its latest run did not.
    Failing,
    /// What is known is old.
    Stale,
    /// It has not run yet.
    NotYet,
}

impl From<State> for WatchState {
    fn from(state: State) -> Self {
        match state {
            State::Ok => WatchState::Ok,
            State::Failing => WatchState::Failing,
            State::Stale => WatchState::Stale,
            State::NotYet => WatchState::NotYet,
        }
    }
}
