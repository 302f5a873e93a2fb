//! The surface of `windlass schedule`.

use super::{Consent, Target, plugins};
use crate::{commands::complete, duration};
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;
use std::time::Duration;
use windlass_types::{
    OperationName, ScheduleName,
    api::{Batch, schedules},
};

#[derive(Debug, Subcommand)]
pub enum Schedule {
    Add(Box<Add>),
    /// List schedules.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass schedule list")]
    List,
    /// Show a schedule with its last runs.
    #[command(
        after_help = "Examples:\n  windlass schedule show nightly -n 50\n  windlass schedule show nightly -o json"
    )]
    Show {
        #[command(flatten)]
        schedule: ScheduleArg,
        /// How many runs at most.
        #[arg(long, short = 'n', default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Run nothing until it is resumed. Jobs that run go on.
    #[command(after_help = "Examples:\n  windlass schedule pause nightly")]
    Pause {
        #[command(flatten)]
        schedule: ScheduleArg,
    },
    /// Go on. Times that passed meanwhile stay left out.
    #[command(after_help = "Examples:\n  windlass schedule resume nightly")]
    Resume {
        #[command(flatten)]
        schedule: ScheduleArg,
    },
    /// Run a schedule now, out of turn, also when it is paused; prints the id of the job.
    #[command(after_help = "Examples:\n  windlass schedule run-now nightly")]
    RunNow {
        #[command(flatten)]
        schedule: ScheduleArg,
    },
    /// Tell when a schedule runs next.
    #[command(after_help = "Examples:\n  windlass schedule next nightly -n 3")]
    Next {
        #[command(flatten)]
        schedule: ScheduleArg,
        /// How many times.
        #[arg(long, short = 'n', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        number: u32,
    },
    /// Forget a schedule. Its jobs stay.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass schedule remove nightly")]
    Remove {
        #[command(flatten)]
        schedule: ScheduleArg,
    },
}

/// A schedule.
#[derive(Debug, Args)]
pub struct ScheduleArg {
    /// Name of the schedule.
    #[arg(value_name = "NAME")]
    pub name: ScheduleName,
}

/// Run an operation by the clock.
///
/// Operation, arguments and nodes are given as to `windlass run`; the nodes are looked up anew for each
/// run. The master runs it, whoever is logged in: its jobs are made by `schedule:NAME`.
///
/// A cron expression has five fields (minute, hour, day of month, month, day of week) or six with seconds
/// in front, and is read in the time zone of `--tz`. Where clocks are put forward, a time that does not
/// exist runs right after; where they are put back, a time that exists twice runs once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass schedule add nightly zfs.pool.list --all --cron '0 3 * * *' --tz Europe/Berlin
  windlass schedule add watch monitor.system.read --on 'n*' --every 15m --splay 5m
  windlass schedule add report monitor.system.read --label tier=hot --cron '0 8 * * MON' --missed once")]
pub struct Add {
    /// Name of the schedule: lower-case words joined by `-`.
    #[arg(value_name = "NAME")]
    pub name: ScheduleName,
    /// Name of the operation.
    #[arg(value_name = "OPERATION", add = ArgValueCompleter::new(complete::operations))]
    pub operation: OperationName,
    /// Arguments of the operation.
    #[arg(value_name = "KEY=VALUE")]
    pub words: Vec<String>,
    /// Arguments as a JSON object, `@file` or `-` for stdin; `key=value` words replace its keys.
    #[arg(long, value_name = "JSON", value_hint = ValueHint::FilePath)]
    pub args: Option<String>,
    /// When, as a cron expression.
    #[arg(long, value_name = "EXPRESSION", required_unless_present = "every", conflicts_with = "every")]
    pub cron: Option<String>,
    /// Time zone of the cron expression; UTC unless told.
    #[arg(long, value_name = "ZONE", requires = "cron")]
    pub tz: Option<String>,
    /// Every so long, counted from now or from `--from`.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub every: Option<Duration>,
    /// Run up to so long after the time, always the same: schedules of the same time do not all begin at once.
    #[arg(long, value_parser = duration::parse_or_none, value_name = "DURATION")]
    pub splay: Option<Duration>,
    /// Not before this time: `90d` from now, or the beginning of a day (UTC).
    #[arg(long, value_parser = duration::moment, value_name = "TIME")]
    pub from: Option<jiff::Timestamp>,
    /// Not at this time or later.
    #[arg(long, value_parser = duration::moment, value_name = "TIME")]
    pub until: Option<jiff::Timestamp>,
    /// How many of its jobs may run at once. A run beyond that is left out, or waits with `--missed all`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100), value_name = "NUMBER")]
    pub max_running: u32,
    /// What becomes of times at which no master ran.
    #[arg(long, value_enum, default_value_t = Missed::Skip)]
    pub missed: Missed,
    /// Begin paused.
    #[arg(long)]
    pub paused: bool,
    /// Change nothing: record what would be changed.
    #[arg(long)]
    pub dry_run: bool,
    /// When every node must have answered, counted from the begin of each run. Unless told, the operation's own timeout and ten seconds.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// So many nodes at a time, or this share of them (`25%`), as for `windlass run`.
    #[arg(long, value_parser = plugins::batch, value_name = "COUNT|PERCENT")]
    pub batch: Option<Batch>,
    /// With `--batch`: when more nodes than this have ended without success, the others are refused.
    #[arg(long, requires = "batch", value_name = "COUNT")]
    pub max_failures: Option<u32>,
    /// Ask a node again that has answered without success, so many times. Only for operations that read or are
    /// idempotent.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub retries: Option<u32>,
    /// Wait for nodes that are not online, so long; they run it when they come.
    #[arg(long, value_parser = duration::parse, value_name = "DURATION", conflicts_with = "batch")]
    pub wait_offline: Option<Duration>,
    /// Only so many of the nodes, picked at random for each run; those that are online first.
    #[arg(long, value_name = "COUNT")]
    pub pick: Option<u32>,
    #[command(flatten)]
    pub consent: Consent,
    // Last, because its heading holds for all that follows.
    #[command(flatten)]
    pub target: Target,
}

/// What becomes of times at which no master ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Missed {
    /// They are left out.
    Skip,
    /// It runs once for all of them.
    Once,
    /// Each of the newest 100 runs, one after the other.
    All,
}

impl From<Missed> for schedules::Missed {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Skip => schedules::Missed::Skip,
            Missed::Once => schedules::Missed::Once,
            Missed::All => schedules::Missed::All,
        }
    }
}
