//! The surface of `windlass events`.

use crate::{commands::complete, duration};
use clap::Args;
use clap_complete::ArgValueCompleter;
use std::time::Duration;

/// See what happened on the grid, and what happens.
///
/// Nodes that come and go, jobs, deployments, plugins: `docs/schedules-events.md` lists the kinds of
/// events. The oldest of those shown comes first. Without `--after` and `--since` the newest are shown.
///
/// With `--follow` events are shown as they come, until Ctrl-C; JSON is then one object a line. A
/// connection that breaks is made again, and no event is missed or shown twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass events
  windlass events --since 1h --kind 'node.*'
  windlass events --follow --kind job.finished -o json
  windlass events --node n1 --after 4711")]
pub struct Events {
    /// Go on with what happens from now on.
    #[arg(long, short)]
    pub follow: bool,
    /// Only events after this number.
    #[arg(long, value_name = "SEQ")]
    pub after: Option<i64>,
    /// Only events of the last so long.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// Only events of this kind; `*` stands for any text.
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only events of this node, by name or id.
    #[arg(long, value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    pub node: Option<String>,
    /// How many at most; of the newest 50 unless told where to begin.
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: Option<u32>,
}
