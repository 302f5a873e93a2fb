//! Calls the engine, and carries out what it says.
//!
//! One task for all deployments. It looks when something has happened, and never more often than it
//! takes to look: ten thousand nodes that report in the same second cost a few looks, not ten
//! thousand.

use super::{
    Live,
    engine::{self, Next, Now, Report, View},
};
use crate::{
    bundles::{Bundles, BundlesError, Change, Draft, Fallback, Inner, Model, Wanted, held},
    fleet::{ChangeKind, FleetChange, NodeRecord},
    store::StoreError,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    DeploymentId, NodeId, PluginName,
    api::{NodeState, bundles::DeploymentState},
};

/// Between two looks at least.
const PACE: Duration = Duration::from_millis(5);
/// Between two tidyings.
const TIDY: Duration = Duration::from_secs(3600);
/// After a failure of the store.
const AGAIN: Duration = Duration::from_secs(1);

/// Nodes that something has happened to.
#[derive(Debug, Default)]
struct News {
    nodes: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    /// Some news was missed: look at all.
    all: bool,
}

impl News {
    fn take(&mut self, change: Result<FleetChange, broadcast::error::RecvError>) {
        match change {
            Ok(FleetChange { node, kind: ChangeKind::Deleted }) => drop(self.gone.insert(node)),
            Ok(FleetChange { kind: ChangeKind::Pending, .. }) => {}
            Ok(FleetChange { node, .. }) => drop(self.nodes.insert(node)),
            Err(_) => self.all = true,
        }
    }
}

impl Bundles {
    /// Drive deployments until `shutdown`.
    pub async fn drive(self, shutdown: CancellationToken) {
        let inner = &self.inner;
        let mut changes = inner.fleet.subscribe();
        let mut news = News { all: true, ..News::default() };
        let mut tidy = Instant::now();
        loop {
            let begun = Instant::now();
            let wake = match inner.look(std::mem::take(&mut news)).await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "cannot go on with deployments"
                    );
                    news.all = true;
                    Some(Instant::now() + AGAIN)
                }
            };
            if tidy <= begun {
                tidy = begun + TIDY;
                self.tidy().await;
            }
            let pace = PACE.max(begun.elapsed() * 2);
            if shutdown.run_until_cancelled(tokio::time::sleep(pace)).await.is_none() {
                return;
            }
            let wake = wake.map_or(tidy, |wake| wake.min(tidy));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = inner.wake.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
                change = changes.recv() => news.take(change),
            }
            while let Some(change) = match changes.try_recv() {
                Ok(change) => Some(Ok(change)),
                Err(broadcast::error::TryRecvError::Lagged(by)) => {
                    Some(Err(broadcast::error::RecvError::Lagged(by)))
                }
                Err(_) => None,
            } {
                news.take(change);
            }
        }
    }
}

impl Inner {
    /// Whether the absence of a node means anything yet.
    pub(super) fn presence_known(&self) -> bool {
        self.started.elapsed() >= self.options.reconnect
    }

    /// Look at what has happened, and at every deployment. Gives back when to look again.
    async fn look(&self, news: News) -> Result<Option<Instant>, BundlesError> {
        let _changing = self.changing.lock().await;
        self.newcomers(&news.nodes, &news.gone, news.all).await?;
        let ids: Vec<DeploymentId> = self.model().live.keys().copied().collect();
        let mut wake: Option<Instant> = None;
        for id in ids {
            if let Some(at_ms) = self.advance(id).await? {
                let left = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(0);
                let at = Instant::now() + Duration::from_millis(left);
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
            }
        }
        if !self.presence_known() && !self.model().live.is_empty() {
            let known = self.started + self.options.reconnect;
            wake = Some(wake.map_or(known, |wake| wake.min(known)));
        }
        Ok(wake)
    }

    /// Let a deployment go on as far as it can. The caller holds `changing`. Gives back when it has
    /// to be looked at again.
    pub(super) async fn advance(&self, id: DeploymentId) -> Result<Option<i64>, StoreError> {
        loop {
            let (live, next) = {
                let model = self.model();
                let Some(live) = model.live.get(&id).cloned() else { return Ok(None) };
                let now = Now { ms: self.now_ms(), presence_known: self.presence_known() };
                let plugin = &live.rollout.plugin;
                let next = engine::next(&live.rollout, |node| self.view(&model, plugin, id, node), now);
                (live, next)
            };
            if next.rollout == live.rollout && next.give.is_empty() {
                return Ok(next.wake_ms);
            }
            let won = live.to.is_some() && next.rollout.state == DeploymentState::Succeeded;
            // Who fits the target now and was not there when the deployment was made.
            let newcomers =
                if won { self.resolve(&live.target).await.unwrap_or_default() } else { Vec::new() };
            let changes = {
                let model = self.model();
                let mut draft = Draft::new(&model);
                self.take(&mut draft, &live, &next, &newcomers);
                draft.changes
            };
            self.commit(changes).await?;
            if next.rollout.state != live.rollout.state {
                let (plugin, state) = (&live.rollout.plugin, next.rollout.state);
                let reason = &next.rollout.reason;
                tracing::info!(deployment = %id, %plugin, ?state, reason, "deployment");
            }
        }
    }

    /// What a decision comes to.
    pub(super) fn take(
        &self,
        draft: &mut Draft<'_>,
        live: &Live,
        next: &Next,
        newcomers: &[Arc<NodeRecord>],
    ) {
        let (id, plugin) = (live.rollout.id, &live.rollout.plugin);
        for give in &next.give {
            match give.bundle {
                None => draft.unassign(give.node, plugin),
                Some(digest) => draft.assign(
                    give.node,
                    plugin,
                    Wanted {
                        digest: Some(digest),
                        deployment: id,
                        // What a node ran before is what it goes back to, whatever its number.
                        allow_downgrade: live.allow_downgrade || give.back,
                        pinned: false,
                        remember: !give.back && live.to.is_some(),
                    },
                ),
            }
        }
        let (after, parts) = live.after(next, crate::now_ms());
        if let (Some(to), DeploymentState::Succeeded) = (&live.to, after.rollout.state) {
            let fallback = Fallback {
                deployment: id,
                digest: to.digest,
                target: live.target.clone(),
                allow_downgrade: live.allow_downgrade,
                created_ms: crate::now_ms(),
            };
            self.put_fallback(draft, plugin, fallback);
            let known: BTreeSet<NodeId> = after.rollout.parts.iter().map(|part| part.node).collect();
            for node in newcomers.iter().filter(|node| !known.contains(&node.id)) {
                self.give_newcomer(draft, node, plugin, to.digest, id, live.allow_downgrade);
            }
        }
        draft.changes.push(Change::Deployment { live: Arc::new(after), new: false, parts });
    }

    /// A node as the engine sees it.
    pub(super) fn view(&self, model: &Model, plugin: &PluginName, id: DeploymentId, node: NodeId) -> View {
        let Some(record) = self.fleet.node(node) else { return View::default() };
        let assignment = model.assignment(node, plugin);
        let has = record.inventory.plugin(plugin);
        let held = held(&record);
        let wanted_since = match assignment {
            Some(assignment) => assignment.revision,
            None => model.sets.get(&node).map_or(u64::MAX, |set| set.revision),
        };
        let install = record.progress.of(plugin).filter(|install| install.deployment == Some(id));
        View {
            member: record.state == NodeState::Accepted,
            online: record.online() && held.is_none(),
            held,
            local: has.is_some_and(|plugin| plugin.local),
            pinned: assignment.is_some_and(|assignment| assignment.pinned),
            taken: record.progress.revision >= wanted_since,
            active: has.filter(|plugin| !plugin.local).map(|plugin| plugin.digest),
            report: install.map(|install| Report {
                digest: install.digest,
                stage: install.stage,
                problem: install.problem.clone(),
            }),
        }
    }
}
