//! What a master is told about installs.

use super::{Inner, State, desired::Wanted, ledger::Record};
use std::{sync::PoisonError, time::Duration};
use windlass_proto::v1;
use windlass_types::PluginName;

/// Progress of a fetch is told no more often than this.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What is said about installs, but for the progress of the one under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    revision: u64,
    installs: Vec<v1::Install>,
    changes: Vec<v1::PluginChange>,
}

/// Stage of an install under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Fetching,
    Verifying,
    Compiling,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Fetching => "fetching",
            Stage::Verifying => "verifying",
            Stage::Compiling => "compiling",
        }
    }
}

/// How far the install under way is.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    pub name: PluginName,
    pub stage: Stage,
    /// Bytes of all parts that are here.
    pub received: u64,
    /// Of so many; 0 while that is not known.
    pub total: u64,
    told: bool,
}

/// What is said when a plugin of the node's own is in the way.
pub(super) fn is_local(name: &PluginName) -> String {
    format!("this node has a plugin `{name}` of its own in its `plugins_dir`, which comes first")
}

impl Inner {
    /// What the inventory says about managed plugins.
    pub(super) fn report(&self) -> v1::Inventory {
        let Told { revision, mut installs, changes } =
            self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(progress) = progress
            && let Some(install) = installs.iter_mut().find(|install| install.name == progress.name.as_str())
        {
            install.stage = progress.stage.as_str().into();
            install.received_bytes = progress.received;
            install.total_bytes = progress.total;
        }
        v1::Inventory { plugins: Vec::new(), desired_revision: revision, installs, changes }
    }

    /// Say how things are now.
    pub(super) fn tell(&self, state: &State) {
        let tables = self.table.now();
        let mut installs = Vec::new();
        for (name, entry) in state.desired.iter().flat_map(|desired| &desired.plugins) {
            let install = |digest: String, deployment: &str, stage: &str, problem: String| v1::Install {
                name: name.to_string(),
                digest,
                deployment: deployment.to_owned(),
                stage: stage.into(),
                problem,
                received_bytes: 0,
                total_bytes: 0,
            };
            let wanted = match entry {
                Ok(wanted) => wanted,
                Err(unclear) => {
                    // Without a digest there is nothing to answer to.
                    if let Some(digest) = unclear.digest {
                        let problem = unclear.problem.clone();
                        installs.push(install(digest.to_string(), &unclear.deployment, "failed", problem));
                    }
                    continue;
                }
            };
            let record = state.ledger.plugins.get(name).cloned().unwrap_or_default();
            let (stage, problem) = if tables.local.contains_key(name) {
                ("failed", is_local(name))
            } else if self.runs(name, &record, wanted) {
                ("active", String::new())
            } else if let Some(back) = record.sent_back(wanted) {
                ("rolled_back", back.problem.clone())
            } else if let Some(failed) = record.failed(wanted) {
                ("failed", failed.problem.clone())
            } else {
                let tried = state.tries.get(name).filter(|tried| tried.request == wanted.request());
                ("fetching", tried.map(|tried| tried.problem.clone()).unwrap_or_default())
            };
            installs.push(install(wanted.digest.to_string(), &wanted.deployment, stage, problem));
        }
        let changes = state.ledger.changes.iter().map(super::ledger::Change::message).collect();
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) =
            Told { revision: state.desired_on_disk, installs, changes };
        self.table.bump();
    }

    /// Whether what is wanted is what runs, in every respect.
    pub(super) fn runs(&self, name: &PluginName, record: &Record, wanted: &Wanted) -> bool {
        let is_current = record.current.as_ref().is_some_and(|slot| {
            slot.digest == wanted.digest
                && slot.deployment == wanted.deployment
                && slot.signatures == wanted.signatures
                && slot.approval == wanted.approval
        });
        is_current && self.is_loaded(name, wanted.digest)
    }

    /// Whether this bundle is the managed plugin of that name now, and can be used.
    pub(super) fn is_loaded(&self, name: &PluginName, digest: windlass_types::Digest) -> bool {
        self.table.now().managed.get(name).is_some_and(|item| item.digest == digest && item.plugin.is_ok())
    }

    /// An install is at this stage. A new stage, and how much there is to fetch, are told at once; more
    /// bytes are told by [`Inner::tell_progress`].
    pub(super) fn progress(&self, name: &PluginName, stage: Stage, received: u64, total: u64) {
        let new = {
            let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let new = progress
                .as_ref()
                .is_none_or(|before| before.name != *name || before.stage != stage || before.total != total);
            *progress = Some(Progress { name: name.clone(), stage, received, total, told: new });
            new
        };
        if new {
            self.table.bump();
        }
    }

    /// Tell of bytes that came since the last time.
    pub(super) fn tell_progress(&self) {
        let untold = match &mut *self.progress.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(progress) => !std::mem::replace(&mut progress.told, true),
            None => false,
        };
        if untold {
            self.table.bump();
        }
    }

    /// No install is under way.
    pub(super) fn no_progress(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
