//! The surface of `windlass plugins`: what an operator does with bundles.

mod values;

pub use values::{BundleRef, PluginBundle, PluginOrBundle, Side, batch};

use super::{Consent, Target, duration};
use crate::commands::complete;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;
use std::{path::PathBuf, time::Duration};
use windlass_types::{
    Effect, PluginName,
    api::{Batch, bundles},
};

#[derive(Debug, Subcommand)]
pub enum Plugins {
    /// List the plugins: versions in use, what new nodes get, what is under way.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass plugins list")]
    List,
    /// Show a plugin: its versions, what it may touch, and what each node runs.
    ///
    /// With a version, all about that bundle: operations, what it asks for, signatures.
    #[command(after_help = "Examples:\n  windlass plugins show zfs\n  windlass plugins show zfs@0.2.0")]
    Show {
        /// Name of the plugin, `NAME@VERSION`, or the digest of a bundle.
        #[arg(value_name = "PLUGIN[@VERSION]", add = ArgValueCompleter::new(complete::plugins_and_bundles))]
        plugin: PluginOrBundle,
    },
    /// Put a bundle into the master's store. Nothing is rolled out by that.
    ///
    /// From a file, or from a registry: it is fetched here, checked, and sent to the master.
    #[command(after_help = "\
Examples:
  windlass plugins push zfs-0.2.0.tar
  windlass plugins push oci://registry.example/plugins/zfs:0.2.0")]
    Push {
        /// The package, or `oci://REGISTRY/REPOSITORY[:TAG][@DIGEST]`.
        #[arg(value_name = "FILE|oci://…", value_hint = ValueHint::FilePath)]
        source: String,
        #[command(flatten)]
        registry: super::plugin::registry::Registry,
    },
    /// Roll a version out, and follow how it goes.
    ///
    /// Shows first what will happen, and asks. A version that asks for more than was approved waits
    /// for approval (exit code 4) while the old one keeps running. Ctrl-C leaves; the deployment goes on.
    #[command(after_help = "\
Examples:
  windlass plugins deploy zfs@0.2.0
  windlass plugins deploy zfs@0.2.0 --label tier=test --yes
  windlass plugins deploy zfs@0.2.0 --canary 2 --batch 25% --soak 10m --on-failure pause
  windlass plugins deploy zfs@0.1.0 --allow-downgrade --replace --detach")]
    Deploy(Box<Deploy>),
    /// Look at deployments, and decide how they go on.
    #[command(subcommand, visible_alias = "rollout", arg_required_else_help = true)]
    Rollouts(Rollouts),
    /// Take nodes back to the version they ran before.
    ///
    /// A deployment under way is undone; without one, each node goes back to its previous version.
    #[command(after_help = "\
Examples:
  windlass plugins rollback zfs --reason 'resilver reports wrong times'
  windlass plugins rollback zfs --on n1 --yes")]
    Rollback(Box<Rollback>),
    /// Approve what a version asks for, or part of it.
    #[command(after_help = "\
Examples:
  windlass plugins approve zfs@0.2.0
  windlass plugins approve zfs@0.2.0 --max-effect read
  windlass plugins approve zfs@0.2.0 --deny dataset.remove --yes")]
    Approve(Approve),
    /// Show how two bundles differ: operations, what they may touch, limits.
    ///
    /// Each is `NAME@VERSION` or a digest in the master's store, or a file.
    #[command(after_help = "\
Examples:
  windlass plugins diff zfs@0.1.0 zfs@0.2.0
  windlass plugins diff zfs@0.1.0 ./zfs-0.2.0.tar")]
    Diff {
        /// The older one.
        #[arg(value_name = "FROM", add = ArgValueCompleter::new(complete::bundles))]
        from: Side,
        /// The newer one.
        #[arg(value_name = "TO", add = ArgValueCompleter::new(complete::bundles))]
        to: Side,
    },
    /// Keep nodes at one version, whatever is deployed.
    #[command(after_help = "\
Examples:
  windlass plugins pin zfs --on n1
  windlass plugins pin zfs@0.1.0 --label rack=a1")]
    Pin {
        /// Name of the plugin, with the version unless it is what the nodes are wanted to run now.
        #[arg(value_name = "PLUGIN[@VERSION]", add = ArgValueCompleter::new(complete::plugins_and_bundles))]
        plugin: PluginOrBundle,
        #[command(flatten)]
        target: Target,
    },
    /// Let nodes follow deployments again.
    #[command(
        after_help = "Examples:\n  windlass plugins unpin zfs --on n1\n  windlass plugins unpin zfs --all"
    )]
    Unpin {
        #[command(flatten)]
        plugin: PluginArg,
        #[command(flatten)]
        target: Target,
    },
    /// Take a plugin off all nodes, or off one. Its bundles stay in the store.
    #[command(
        visible_alias = "rm",
        after_help = "Examples:\n  windlass plugins remove zfs --node n1\n  windlass plugins remove zfs --yes"
    )]
    Remove {
        #[command(flatten)]
        plugin: PluginArg,
        /// Only from this node.
        #[arg(long, add = ArgValueCompleter::new(complete::nodes))]
        node: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
    /// List what happened to a plugin on the nodes, the newest first.
    #[command(
        after_help = "Examples:\n  windlass plugins events zfs\n  windlass plugins events zfs -n 5 -o json"
    )]
    Events {
        #[command(flatten)]
        plugin: PluginArg,
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Fetch a bundle from the master's store into a file, with its signatures.
    #[command(after_help = "\
Examples:
  windlass plugins export zfs@0.2.0
  windlass plugins export zfs@0.2.0 - > zfs.tar")]
    Export {
        #[command(flatten)]
        bundle: BundleArg,
        /// The file, `-` for stdout; `NAME-VERSION.tar` unless told.
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// Delete a bundle from the master's store. One that is in use stays.
    #[command(after_help = "Examples:\n  windlass plugins delete zfs@0.1.0")]
    Delete {
        #[command(flatten)]
        bundle: BundleArg,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A plugin.
#[derive(Debug, Args)]
pub struct PluginArg {
    /// Name of the plugin.
    #[arg(value_name = "PLUGIN", add = ArgValueCompleter::new(complete::plugins))]
    pub plugin: PluginName,
}

/// A bundle in the store.
#[derive(Debug, Args)]
pub struct BundleArg {
    /// `NAME@VERSION`, or the digest.
    #[arg(value_name = "BUNDLE", add = ArgValueCompleter::new(complete::bundles))]
    pub bundle: BundleRef,
}

/// A version of a plugin, as operators name it.
#[derive(Debug, Args)]
pub struct VersionArg {
    /// Name and version (or digest) of the bundle.
    #[arg(value_name = "NAME@VERSION", add = ArgValueCompleter::new(complete::bundles))]
    pub bundle: PluginBundle,
}

#[derive(Debug, Args)]
pub struct Deploy {
    #[command(flatten)]
    pub bundle: VersionArg,
    /// Nodes that go first, on their own; 0 for none.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub canary: u32,
    /// Nodes at a time after that: a number, or a share of all; 0 for all at once.
    #[arg(long, default_value = "0", value_parser = values::batch, value_name = "COUNT|PERCENT")]
    pub batch: Batch,
    /// How long the nodes of a step must stay healthy before the next one.
    #[arg(long, default_value = "5s", value_parser = duration::parse_or_none, value_name = "DURATION")]
    pub soak: Duration,
    /// A node that is online and has not finished by then counts as failed.
    #[arg(long, default_value = "5m", value_parser = duration::parse, value_name = "DURATION")]
    pub node_timeout: Duration,
    /// Nodes that may fail before `--on-failure` is done.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub max_failures: u32,
    /// What is done when too many nodes fail.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    pub on_failure: OnFailure,
    /// Approve what it asks for as well.
    #[arg(long)]
    pub approve: bool,
    /// Let nodes go to a lower version than they run.
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Take the place of a deployment of the same plugin that is under way.
    #[arg(long)]
    pub replace: bool,
    /// Do not follow: print the id of the deployment.
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub consent: Consent,
    // Last, because its heading holds for all that follows.
    /// All accepted nodes unless told.
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct Rollback {
    #[command(flatten)]
    pub plugin: PluginArg,
    /// Why, for the record.
    #[arg(long)]
    pub reason: Option<String>,
    /// Do not follow: print the id of the deployment.
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    pub consent: Consent,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct Approve {
    #[command(flatten)]
    pub bundle: VersionArg,
    /// Deny operations with a stronger effect.
    #[arg(long, value_enum, value_name = "EFFECT")]
    pub max_effect: Option<EffectArg>,
    /// Deny this operation (`interface.function`); may be repeated.
    #[arg(long, value_name = "OPERATION")]
    pub deny: Vec<String>,
    #[command(flatten)]
    pub consent: Consent,
}

#[derive(Debug, Subcommand)]
pub enum Rollouts {
    /// List deployments, the newest first.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  windlass plugins rollouts list\n  windlass plugins rollouts list zfs -n 5"
    )]
    List {
        /// Only of this plugin.
        #[arg(add = ArgValueCompleter::new(complete::plugins))]
        plugin: Option<PluginName>,
        /// How many at most.
        #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a deployment and where each node stands.
    #[command(after_help = "Examples:\n  windlass plugins rollouts show 0199a1b2")]
    Show {
        #[command(flatten)]
        deployment: DeploymentArg,
    },
    /// Follow a deployment to its end; the exit code is the one of `deploy`.
    #[command(after_help = "Examples:\n  windlass plugins rollouts watch 0199a1b2")]
    Watch {
        #[command(flatten)]
        deployment: DeploymentArg,
    },
    /// Give the bundle to no further node until it is resumed.
    #[command(after_help = "Examples:\n  windlass plugins rollouts pause 0199a1b2")]
    Pause {
        #[command(flatten)]
        deployment: DeploymentArg,
    },
    /// Go on. What has failed so far is accepted.
    #[command(after_help = "Examples:\n  windlass plugins rollouts resume 0199a1b2")]
    Resume {
        #[command(flatten)]
        deployment: DeploymentArg,
    },
    /// End a deployment where it is: nodes stay as they are.
    #[command(after_help = "Examples:\n  windlass plugins rollouts abort 0199a1b2")]
    Abort {
        #[command(flatten)]
        deployment: DeploymentArg,
    },
    /// Take every node of a deployment back to what it ran before, and follow.
    #[command(after_help = "Examples:\n  windlass plugins rollouts rollback 0199a1b2 --yes")]
    Rollback {
        #[command(flatten)]
        deployment: DeploymentArg,
        #[command(flatten)]
        consent: Consent,
    },
}

/// A deployment.
#[derive(Debug, Args)]
pub struct DeploymentArg {
    /// Id of the deployment, or the beginning of it.
    #[arg(value_name = "DEPLOYMENT", add = ArgValueCompleter::new(complete::deployments))]
    pub deployment: String,
}

/// Strength of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EffectArg {
    /// Only look.
    Read,
    /// Change what can be changed back.
    Change,
    /// May lose data.
    Destroy,
}

impl From<EffectArg> for Effect {
    fn from(effect: EffectArg) -> Self {
        match effect {
            EffectArg::Read => Effect::Read,
            EffectArg::Change => Effect::Change,
            EffectArg::Destroy => Effect::Destroy,
        }
    }
}

/// What is done when too many nodes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OnFailure {
    /// Every node of the deployment goes back to what it ran before.
    #[default]
    Rollback,
    /// Nothing more happens until an operator decides.
    Pause,
}

impl From<OnFailure> for bundles::OnFailure {
    fn from(what: OnFailure) -> Self {
        match what {
            OnFailure::Rollback => bundles::OnFailure::Rollback,
            OnFailure::Pause => bundles::OnFailure::Pause,
        }
    }
}
