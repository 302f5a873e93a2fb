//! Deployments: how a bundle gets to many nodes without breaking many nodes.
//!
//! A deployment goes through its nodes in steps: first some canaries, then batches. A step begins
//! when every node of the steps before has settled and the last of them has been healthy for its
//! soak. When more nodes fail than allowed, it stops, and pauses or takes every node back.
//!
//! ## What is guaranteed
//!
//! 1. *Never more at once than asked for.* A step gives the bundle to `canary` or `batch` nodes at
//!    most, and the next one begins only when none of them is on its way. Until a node has shown that
//!    the bundle works, every step is a canary: a deployment whose canaries all vanish does not go on
//!    as if they had been well.
//! 2. *What is recorded is never ahead of what was decided, and never behind what was sent.* Each
//!    decision is one transaction (the deployment, its nodes, what each node is wanted to run) and is
//!    applied and sent after its commit.
//! 3. *It ends in the truth.* A node counts as active because it said so, about this bundle and this
//!    deployment. One that said nothing is offline or failed, never active.
//! 4. *Going back is possible from everywhere.* Each node keeps what it ran before the deployment, as
//!    it was when the deployment was made.
//! 5. *One deployment of a plugin at a time.* Another one is refused, or takes its place.
//!
//! Pinned nodes, nodes with the plugin in their own folder and nodes outside of the grid are left
//! alone, whenever they become so.
//!
//! ## How
//!
//! [`engine`] decides and does nothing else. `driver` calls it: whenever a node says something new,
//! comes or goes, when a time is up, and when an operator asks. Nothing is sent by the engine's
//! order alone; it is put into what the node is *wanted* to run ([`crate::bundles`]), which the node
//! gets now if it is there, and else when it returns. So a message that is lost, a node that restarts
//! and a master that restarts are the same case, and there is nothing to repeat.
//!
//! ## Races and faults
//!
//! * **The master ends between commit and send.** The next session of each node begins with its set.
//! * **The master restarts.** Everything above is in the database. For a while ([`Options::reconnect`])
//!   nothing is concluded from the absence of a node: else a deployment would find the whole grid
//!   offline and skip it.
//! * **A node goes offline before its turn** is skipped, and taken in when it returns, as long as
//!   the deployment runs. At the end, those who are still away are given the bundle for when they
//!   return. It is not given to them earlier: a deployment that fails must leave no one behind who
//!   gets the bundle later.
//! * **A node goes offline on its way** keeps its place until its time is up, since it may well be the
//!   bundle that took it down; then it counts as offline, and its step has one proof less.
//! * **A node goes offline while its step soaks**: the soak does not end before it is back or its
//!   time is up.
//! * **Half the fleet is offline**: the other half is the deployment, in the same steps.
//! * **A node is revoked or deleted** is skipped, and what was wanted of it is forgotten.
//! * **A node joins meanwhile**: it gets what it would get without the deployment, and at a success what
//!   the deployment brought if it fits the target.
//! * **A node reports late**, after its time was up: the truth wins, failed becomes active.
//! * **A node falls back by itself after it was active**: that counts as a failure for as long as the
//!   deployment runs, and is an event of the plugin after that.
//! * **Two operators deploy at once**: decisions are made one at a time; the second sees the first.
//! * **Approval is given while a deployment waits for it**: one transaction holds both.
//!
//! [`Options::reconnect`]: crate::bundles::Options

mod control;
mod create;
mod driver;
pub mod engine;
mod newcomers;
mod rollback;

#[cfg(test)]
mod engine_tests;

pub use control::Action;
pub(crate) use engine::{Part, Rollout};

use engine::Next;
use windlass_types::api::{
    Target,
    bundles::{Deployment, PluginVersion},
};

/// A deployment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Live {
    pub rollout: Rollout,
    /// None for a rollback, where each node has its own.
    pub to: Option<PluginVersion>,
    pub target: Target,
    pub allow_downgrade: bool,
    pub revision: u64,
    pub created_by: String,
    pub created_ms: i64,
    pub finished_ms: Option<i64>,
}

impl Live {
    pub fn to_api(&self) -> Deployment {
        let mut by_state = std::collections::BTreeMap::new();
        for part in &self.rollout.parts {
            *by_state.entry(part.state).or_default() += 1;
        }
        Deployment {
            id: self.rollout.id,
            plugin: self.rollout.plugin.clone(),
            to: self.to.clone(),
            state: self.rollout.state,
            reason: self.rollout.reason.clone(),
            target: self.target.clone(),
            strategy: self.rollout.strategy.clone(),
            revision: self.revision,
            nodes: u32::try_from(self.rollout.parts.len()).unwrap_or(u32::MAX),
            by_state,
            created_by: self.created_by.clone(),
            created_ms: self.created_ms,
            finished_ms: self.finished_ms,
        }
    }

    /// As it is after a decision, and the parts that are not as they were.
    fn after(&self, next: &Next, now_ms: i64) -> (Live, Vec<usize>) {
        let pairs = self.rollout.parts.iter().zip(&next.rollout.parts).enumerate();
        let parts = pairs.filter(|(_, (was, is))| was != is).map(|(at, _)| at).collect();
        let live = Live {
            rollout: next.rollout.clone(),
            revision: self.revision + 1,
            finished_ms: next.rollout.state.ended().then_some(now_ms),
            ..self.clone()
        };
        (live, parts)
    }
}
