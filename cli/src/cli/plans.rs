//! The surface of `windlass plan`, `windlass apply` and `windlass runs`.

use super::Consent;
use crate::commands::complete;
use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCompleter;
use std::path::PathBuf;
use windlass_types::OperationName;

#[derive(Debug, Subcommand)]
pub enum Plan {
    /// Check a plan that is written out; nothing is kept.
    ///
    /// The master looks at all of it: whether the nodes and operations are there, whether the arguments fit,
    /// whether you may do it. What is wrong is told with its step and place.
    #[command(after_help = "Examples:\n  windlass plan check move.yaml\n  windlass plan check - < move.yaml")]
    Check {
        #[command(flatten)]
        file: FileArg,
    },
    Make(Make),
    /// Show a plan: its steps with their reasons, and what they do, and what undoes them.
    #[command(after_help = "Examples:\n  windlass plan show 0199a1b2\n  windlass plan show 0199a1b2 -o yaml")]
    Show {
        #[command(flatten)]
        plan: PlanArg,
    },
    /// List plans, the newest first.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  windlass plan list\n  windlass plan list -n 100"
    )]
    List {
        #[command(flatten)]
        most: Most,
    },
}

/// A file with a plan.
#[derive(Debug, Args)]
pub struct FileArg {
    /// The plan, YAML or JSON; `-` for stdin.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Make a plan, and show it. Nothing is done yet.
///
/// Some operations make plans: `windlass ops list` marks them. They run on the master, look at the fleet, and
/// touch nothing. A plan can also be written by hand.
///
/// The master checks it and keeps it for a day, with what it rests on: which nodes it means, and their flags
/// and labels. `windlass apply` carries it out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plan make gluster.volume.create name=media kind=replicated replica=2
  windlass plan make -f move.yaml
  windlass plan make -f move.yaml -o json | jq -r .id")]
pub struct Make {
    /// Name of an operation that makes plans.
    #[arg(value_name = "OPERATION", required_unless_present = "file", add = ArgValueCompleter::new(complete::operations))]
    pub operation: Option<OperationName>,
    /// Arguments of the operation.
    #[arg(value_name = "KEY=VALUE", add = ArgValueCompleter::new(complete::arguments))]
    pub words: Vec<String>,
    /// Arguments as a JSON object, `@file` or `-` for stdin; `key=value` words replace its keys.
    #[arg(long, value_name = "JSON", value_hint = ValueHint::FilePath)]
    pub args: Option<String>,
    /// A plan that is written out, YAML or JSON; `-` for stdin.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["operation", "words", "args"])]
    pub file: Option<PathBuf>,
}

/// A plan.
#[derive(Debug, Args)]
pub struct PlanArg {
    /// Id of the plan, or its beginning.
    #[arg(value_name = "PLAN", add = ArgValueCompleter::new(complete::plans))]
    pub id: String,
}

/// How many.
#[derive(Debug, Args)]
pub struct Most {
    /// How many at most.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// Apply a plan, and follow its run to the end.
///
/// A plan is applied once, and only while its nodes are as they were when it was made. When a step fails,
/// what was done is undone, the last first, unless the plan says `on_failure: hold`. What can't be undone at
/// the moment, because its node is gone, stays owed and is undone when that is back.
///
/// The master carries it out: Ctrl-C leaves the run to itself, and `windlass runs watch` comes back to it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass apply 0199a1b2
  windlass apply 0199a1b2 --detach

Ends with 0 when all steps are done, with 3 when the run was rolled back or abandoned.")]
pub struct Apply {
    #[command(flatten)]
    pub plan: PlanArg,
    /// Begin it, and leave.
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub consent: Consent,
}

#[derive(Debug, Subcommand)]
pub enum Runs {
    /// List runs, the newest first.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  windlass runs list\n  windlass runs list -n 100"
    )]
    List {
        #[command(flatten)]
        most: Most,
    },
    /// Show a run: where each step stands, what failed, what was undone, what is owed.
    ///
    /// A step stands below the one it comes after. One that comes after several stands below the last of
    /// these, and names the others.
    #[command(after_help = "Examples:\n  windlass runs show 0199a1b2\n  windlass runs show 0199a1b2 -o json")]
    Show {
        #[command(flatten)]
        run: RunArg,
    },
    /// Show what happened to a run, in its order.
    #[command(after_help = "Examples:\n  windlass runs events 0199a1b2")]
    Events {
        #[command(flatten)]
        run: RunArg,
    },
    /// Follow a run to its end. Ctrl-C leaves it to itself.
    #[command(after_help = "Examples:\n  windlass runs watch 0199a1b2")]
    Watch {
        #[command(flatten)]
        run: RunArg,
    },
    /// Begin nothing new. What is under way comes to its end.
    #[command(after_help = "Examples:\n  windlass runs pause 0199a1b2")]
    Pause {
        #[command(flatten)]
        run: RunArg,
    },
    /// Go on with a run that is paused.
    #[command(after_help = "Examples:\n  windlass runs resume 0199a1b2")]
    Resume {
        #[command(flatten)]
        run: RunArg,
    },
    /// Roll a run back: what is under way comes to its end, then all that was done is undone.
    #[command(after_help = "Examples:\n  windlass runs cancel 0199a1b2")]
    Cancel {
        #[command(flatten)]
        run: RunArg,
    },
    /// End a run as it is: nothing more begins, and nothing is undone.
    ///
    /// Operations that are under way go on to their end. What is owed is not paid any more.
    #[command(after_help = "Examples:\n  windlass runs abandon 0199a1b2 --yes")]
    Abandon {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// Say yes to a step that asks.
    #[command(after_help = "Examples:\n  windlass runs approve 0199a1b2 stop-old")]
    Approve {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        step: StepArg,
    },
    /// Try a step that failed, or an undo that did, once more.
    #[command(after_help = "Examples:\n  windlass runs retry-step 0199a1b2 stop-old")]
    RetryStep {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        step: StepArg,
    },
    /// Go on as if a step that failed were done; in a run that rolls back, leave what it did as it is.
    ///
    /// What a step is left with is for you to look after: nobody undoes it any more. For the undo of a node
    /// that never comes back this is the way on, since the steps before it wait for it.
    #[command(after_help = "Examples:\n  windlass runs skip-step 0199a1b2 stop-old --yes")]
    SkipStep {
        #[command(flatten)]
        run: RunArg,
        #[command(flatten)]
        step: StepArg,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A run.
#[derive(Debug, Args)]
pub struct RunArg {
    /// Id of the run, which is that of its plan, or its beginning.
    #[arg(value_name = "RUN", add = ArgValueCompleter::new(complete::runs))]
    pub id: String,
}

/// A step of the run.
#[derive(Debug, Args)]
pub struct StepArg {
    /// Name of the step.
    #[arg(value_name = "STEP")]
    pub step: String,
}
