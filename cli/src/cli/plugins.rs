//! The surface of `windlass plugins`: what an operator does with bundles.

use super::{Consent, Target, duration};
use crate::commands::complete;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::ArgValueCompleter;
use std::{path::PathBuf, str::FromStr, time::Duration};
use windlass_types::{Digest, Effect, PluginName, api::bundles};

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
  windlass plugins approve zfs@0.2.0 --deny pool.destroy --deny dataset.destroy --yes")]
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
    #[arg(long, default_value = "0", value_name = "COUNT|PERCENT")]
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

/// Nodes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    Count(u32),
    Percent(u32),
}

impl Batch {
    /// So many of `nodes`; a share is one node at least.
    pub fn of(self, nodes: usize) -> u32 {
        match self {
            Batch::Count(count) => count,
            Batch::Percent(percent) => {
                let share = (nodes as u64 * u64::from(percent)).div_ceil(100);
                u32::try_from(share).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

impl FromStr for Batch {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number of nodes, or a share from `1%` to `100%`".to_owned();
        match text.strip_suffix('%') {
            Some(percent) => match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Batch::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse().map(Batch::Count).map_err(|_| wrong()),
        }
    }
}

/// A bundle in the store: `name@version`, `name@sha256:…` or `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleRef {
    Named(PluginBundle),
    Digest(Digest),
}

/// A bundle of a plugin: by version or by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginBundle {
    pub plugin: PluginName,
    /// A version or a digest, as the API takes it.
    pub bundle: String,
}

/// A plugin, or one of its bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginOrBundle {
    Plugin(PluginName),
    Bundle(BundleRef),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Stored(BundleRef),
    File(PathBuf),
}

impl BundleRef {
    /// As the API takes it.
    pub fn to_api(&self) -> String {
        match self {
            BundleRef::Digest(digest) => digest.to_string(),
            // A digest says all.
            BundleRef::Named(named) if named.bundle.parse::<Digest>().is_ok() => named.bundle.clone(),
            BundleRef::Named(named) => named.to_string(),
        }
    }
}

impl std::fmt::Display for PluginBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.plugin, self.bundle)
    }
}

impl FromStr for PluginBundle {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (plugin, bundle) = text
            .split_once('@')
            .ok_or("expected `NAME@VERSION`, such as `zfs@0.2.0` (see `windlass plugins list`)")?;
        let plugin = plugin.parse::<PluginName>().map_err(|error| error.to_string())?;
        if bundle.parse::<Digest>().is_err() && bundle.parse::<windlass_bundle::Version>().is_err() {
            return Err(format!("`{bundle}` is neither a version such as `0.2.0` nor a digest"));
        }
        Ok(PluginBundle { plugin, bundle: bundle.to_owned() })
    }
}

impl FromStr for BundleRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(digest) => Ok(BundleRef::Digest(digest)),
            Err(_) => text.parse().map(BundleRef::Named),
        }
    }
}

impl FromStr for PluginOrBundle {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['@', ':']) {
            return text.parse().map(PluginOrBundle::Bundle);
        }
        text.parse()
            .map(PluginOrBundle::Plugin)
            .map_err(|error: windlass_types::ids::IdError| error.to_string())
    }
}

impl FromStr for Side {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // No plugin's name holds a slash, and none with a version ends so.
        let file = text.contains('/') || text.ends_with(".tar");
        if file { Ok(Side::File(text.into())) } else { text.parse().map(Side::Stored) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_as_typed() {
        let digest = Digest::of(b"x").to_string();
        assert_eq!("zfs@0.2.0".parse::<BundleRef>().unwrap().to_api(), "zfs@0.2.0");
        assert_eq!(digest.parse::<BundleRef>().unwrap().to_api(), digest);
        assert_eq!(format!("zfs@{digest}").parse::<BundleRef>().unwrap().to_api(), digest);
        for bad in ["zfs", "zfs@", "@0.1.0", "zfs@new", "sha256:12", "ZFS@0.1.0"] {
            assert!(bad.parse::<BundleRef>().is_err(), "{bad}");
        }
        assert_eq!("zfs".parse(), Ok(PluginOrBundle::Plugin("zfs".parse().unwrap())));
        assert_eq!("./zfs".parse(), Ok(Side::File("./zfs".into())));
        assert_eq!("zfs-0.1.0.tar".parse(), Ok(Side::File("zfs-0.1.0.tar".into())));
        assert!(matches!("zfs@0.1.0".parse(), Ok(Side::Stored(_))));
    }

    #[test]
    fn shares_of_nodes() {
        let of = |text: &str, nodes| text.parse::<Batch>().map(|batch| batch.of(nodes));
        assert_eq!(of("0", 10), Ok(0));
        assert_eq!(of("4", 10), Ok(4));
        assert_eq!(of("25%", 10), Ok(3));
        assert_eq!(of("1%", 10), Ok(1));
        assert_eq!(of("100%", 0), Ok(1));
        for bad in ["", "x", "0%", "101%", "-1", "5.5%"] {
            assert!(of(bad, 1).is_err(), "{bad}");
        }
    }
}
