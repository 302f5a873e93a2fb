//! What operators do to a deployment that is under way.

use super::{Live, engine::Now};
use crate::{
    bundles::{Bundles, BundlesError, Change, Draft, Inner},
    store::deployments as rows,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use windlass_types::{
    DeploymentId,
    api::bundles::{Deployment, DeploymentDetail, DeploymentNode, DeploymentNodeState, DeploymentState},
};

/// What is done to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Pause,
    Resume,
    Abort,
    Rollback,
}

impl Action {
    fn done(self) -> &'static str {
        match self {
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::Abort => "aborted",
            Action::Rollback => "rolled back",
        }
    }
    fn audited(self) -> &'static str {
        match self {
            Action::Pause => "deployment.pause",
            Action::Resume => "deployment.resume",
            Action::Abort => "deployment.abort",
            Action::Rollback => "deployment.rollback",
        }
    }
}

impl Bundles {
    /// Pause, resume, abort or roll back a deployment.
    ///
    /// # Errors
    /// If there is none, or it is not in a state for that.
    pub async fn control(
        &self,
        id: DeploymentId,
        action: Action,
        actor: &str,
    ) -> Result<Deployment, BundlesError> {
        let (this, actor) = (self.clone(), actor.to_owned());
        crate::uncut::uncut(async move {
            let _changing = this.inner.changing.lock().await;
            this.inner.control(id, action, &actor).await?;
            this.inner.advance(id).await?;
            this.inner.shown(id).await
        })
        .await
    }

    /// A page of deployments, newest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn deployments(
        &self,
        plugin: Option<&windlass_types::PluginName>,
        before: Option<DeploymentId>,
        limit: u32,
    ) -> Result<Vec<Deployment>, BundlesError> {
        Ok(rows::page(&self.inner.store, plugin, before, limit).await?)
    }

    /// A deployment with its nodes. With a revision: when it has a newer one, has ended, or `wait`
    /// is over.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn deployment(
        &self,
        id: DeploymentId,
        revision: Option<u64>,
        wait: Duration,
    ) -> Result<DeploymentDetail, BundlesError> {
        let mut changed = self.inner.changed.subscribe();
        let until = tokio::time::Instant::now() + wait;
        loop {
            changed.mark_unchanged();
            let live = self.inner.model().live.get(&id).cloned();
            let Some(live) = live else { break };
            if revision.is_none_or(|known| live.revision > known)
                || !matches!(tokio::time::timeout_at(until, changed.changed()).await, Ok(Ok(())))
            {
                break;
            }
        }
        self.inner.detail(id).await
    }
}

impl Inner {
    async fn control(&self, id: DeploymentId, action: Action, actor: &str) -> Result<(), BundlesError> {
        let live = self.model().live.get(&id).cloned();
        let Some(live) = live else {
            let ended = rows::get(&self.store, id).await?.ok_or(BundlesError::UnknownDeployment(id))?;
            return Err(BundlesError::WrongState { id, state: ended.rollout.state, action: action.done() });
        };
        let state = live.rollout.state;
        let wrong = BundlesError::WrongState { id, state, action: action.done() };
        let mut after = Live::clone(&live);
        let rollout = &mut after.rollout;
        match (action, state) {
            (Action::Pause, DeploymentState::Running) => {
                rollout.state = DeploymentState::Paused;
                rollout.reason = format!("paused by {actor}");
            }
            (Action::Resume, DeploymentState::Paused) => {
                rollout.state = DeploymentState::Running;
                rollout.reason.clear();
                // What has failed so far has been seen: only more of it stops the deployment again.
                let failed =
                    |state| matches!(state, DeploymentNodeState::Failed | DeploymentNodeState::RolledBack);
                let failures = rollout.parts.iter().filter(|part| failed(part.state)).count();
                rollout.forgiven = u32::try_from(failures).unwrap_or(u32::MAX);
            }
            (Action::Rollback, DeploymentState::Running | DeploymentState::Paused) => {
                let next = {
                    let model = self.model();
                    let mut next =
                        super::engine::Next { rollout: rollout.clone(), give: Vec::new(), wake_ms: None };
                    let now = Now { ms: self.now_ms(), presence_known: self.presence_known() };
                    let view = |node| self.view(&model, &live.rollout.plugin, id, node);
                    next.begin_rollback(format!("rolled back by {actor}"), &view, now);
                    next
                };
                let changes = {
                    let model = self.model();
                    let mut draft = Draft::new(&model);
                    draft.audit(actor, action.audited(), id, json!({ "plugin": live.rollout.plugin }));
                    self.take(&mut draft, &live, &next, &[]);
                    draft.changes
                };
                self.commit(changes).await?;
                return Ok(());
            }
            // Nothing was given to any node yet.
            (Action::Abort | Action::Rollback, DeploymentState::WaitingApproval)
            | (
                Action::Abort,
                DeploymentState::Running | DeploymentState::Paused | DeploymentState::RollingBack,
            ) => {
                rollout.state = DeploymentState::Aborted;
                rollout.reason = format!("aborted by {actor}");
                after.finished_ms = Some(crate::now_ms());
            }
            _ => return Err(wrong),
        }
        after.revision += 1;
        let changes = {
            let model = self.model();
            let mut draft = Draft::new(&model);
            draft.audit(actor, action.audited(), id, json!({ "plugin": live.rollout.plugin }));
            let live = Arc::new(after);
            draft.changes.push(Change::Deployment { live, new: false, parts: Vec::new() });
            draft.changes
        };
        Ok(self.commit(changes).await?)
    }

    /// A deployment as it is now.
    pub(super) async fn shown(&self, id: DeploymentId) -> Result<Deployment, BundlesError> {
        let live = self.model().live.get(&id).cloned();
        match live {
            Some(live) => Ok(live.to_api()),
            None => Ok(self.ended(id).await?.to_api()),
        }
    }

    async fn ended(&self, id: DeploymentId) -> Result<Live, BundlesError> {
        rows::get(&self.store, id).await?.ok_or(BundlesError::UnknownDeployment(id))
    }

    async fn detail(&self, id: DeploymentId) -> Result<DeploymentDetail, BundlesError> {
        let live = self.model().live.get(&id).cloned();
        let live = match live {
            Some(live) => live,
            None => Arc::new(self.ended(id).await?),
        };
        let progress = live.rollout.parts.iter().map(|part| {
            let node = self.fleet.node(part.node);
            let install = node.as_ref().and_then(|node| node.progress.of(&live.rollout.plugin));
            let install = install.filter(|install| install.deployment == Some(id));
            DeploymentNode {
                node: part.node,
                name: part.name.clone(),
                step: part.step,
                state: part.state,
                from: part.from.clone(),
                problem: part.problem.clone(),
                received_bytes: install.map_or(0, |install| install.received_bytes),
                total_bytes: install.map_or(0, |install| install.total_bytes),
                changed_ms: part.changed_ms,
            }
        });
        let progress = progress.collect();
        let unapproved = match (&live.to, live.rollout.state) {
            (Some(to), DeploymentState::WaitingApproval) => {
                let model = self.model();
                model.bundles.get(&to.digest).map(|stored| model.unapproved(stored)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        Ok(DeploymentDetail { deployment: live.to_api(), progress, unapproved })
    }
}
