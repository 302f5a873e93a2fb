//! The surface of `windlass nodes`.

use super::pair;
use crate::{commands::complete, config, duration};
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;
use std::time::Duration;
use windlass_types::{Fingerprint, NodeName, api};

#[derive(Debug, Subcommand)]
pub enum Nodes {
    /// List nodes.
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  windlass nodes list
  windlass nodes list --state pending
  windlass nodes list -o json | jq '.[] | select(.online | not) | .name'"
    )]
    List {
        /// Only nodes in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Show address, plugins and id too.
        #[arg(short, long)]
        wide: bool,
    },
    /// Show all about one node: facts, labels, flags, plugins.
    #[command(after_help = "Examples:\n  windlass nodes show n1")]
    Show {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Accept a pending node into the grid.
    ///
    /// Compare the fingerprint with the one that `windlass-host` prints on the node itself: that is
    /// what proves that it is the machine you mean.
    #[command(after_help = "\
Examples:
  windlass nodes accept n1 --fingerprint sha256:…
  windlass nodes accept n1 --name rack1-n1
  windlass nodes accept --all-pending")]
    Accept(Accept),
    /// Refuse a pending node.
    #[command(after_help = "Examples:\n  windlass nodes reject n1")]
    Reject {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Take a node out of the grid: its certificate counts no more, its session ends.
    #[command(after_help = "Examples:\n  windlass nodes revoke n1")]
    Revoke {
        #[command(flatten)]
        node: NodeArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// Forget a node. Should the machine come back, it is a new one and waits for acceptance.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass nodes delete n1 --yes")]
    Delete {
        #[command(flatten)]
        node: NodeArg,
        #[command(flatten)]
        consent: Consent,
    },
    /// Set labels (`key=value`) and remove them (`key-`).
    #[command(
        after_help = "Examples:\n  windlass nodes label n1 rack=a1 tier=hot\n  windlass nodes label n1 tier-"
    )]
    Label {
        #[command(flatten)]
        node: NodeArg,
        /// `key=value` sets a label, `key-` removes it.
        #[arg(required = true, value_name = "CHANGE")]
        changes: Vec<String>,
    },
    /// Set flags (`+flag`) and remove them (`-flag`).
    #[command(after_help = "\
Examples:
  windlass nodes flag n1 +maintenance
  windlass nodes flag n1 -maintenance

Options of the command go before the name of the node.")]
    Flag {
        #[command(flatten)]
        node: NodeArg,
        /// `+flag` sets a flag, `-flag` removes it.
        #[arg(required = true, value_name = "CHANGE", allow_hyphen_values = true)]
        changes: Vec<String>,
    },
    /// Make a join token: it lets one node in, once, without waiting for acceptance.
    ///
    /// Prints the token. It is shown this once only.
    #[command(after_help = "\
Examples:
  windlass nodes join-token --ttl 15m --label rack=a1
  windlass nodes join-token --list
  windlass nodes join-token --delete ID")]
    JoinToken(JoinToken),
}

/// A node.
#[derive(Debug, Args)]
pub struct NodeArg {
    /// Name or id of the node.
    #[arg(value_name = "NODE", add = ArgValueCompleter::new(complete::nodes))]
    pub node: String,
}

/// Consent to what can't be taken back.
#[derive(Debug, Args)]
pub struct Consent {
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Accept {
    /// Name or id of the node.
    #[arg(required_unless_present = "all_pending", add = ArgValueCompleter::new(complete::nodes))]
    pub node: Option<String>,
    /// The fingerprint of the node, as it prints it itself; another one is refused.
    #[arg(long, value_parser = config::fingerprint)]
    pub fingerprint: Option<Fingerprint>,
    /// Call it so, whatever name it asked for.
    #[arg(long)]
    pub name: Option<NodeName>,
    /// Accept every node that waits, after showing their fingerprints.
    #[arg(long, conflicts_with_all = ["node", "fingerprint", "name"])]
    pub all_pending: bool,
    #[command(flatten)]
    pub consent: Consent,
}

#[derive(Debug, Args)]
pub struct JoinToken {
    /// How long it is good for.
    #[arg(long, default_value = "1h", value_parser = duration::parse, value_name = "DURATION")]
    pub ttl: Duration,
    /// Label for the node that uses it; may be repeated.
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    pub label: Vec<(String, String)>,
    /// List the join tokens instead, without their secrets.
    #[arg(long, conflicts_with_all = ["ttl", "label", "delete"])]
    pub list: bool,
    /// Delete this join token instead.
    #[arg(long, value_name = "ID", conflicts_with_all = ["ttl", "label"])]
    pub delete: Option<String>,
}

/// States of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum State {
    Pending,
    Accepted,
    Rejected,
    Revoked,
}

impl From<State> for api::NodeState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => api::NodeState::Pending,
            State::Accepted => api::NodeState::Accepted,
            State::Rejected => api::NodeState::Rejected,
            State::Revoked => api::NodeState::Revoked,
        }
    }
}
