//! The steps that change what runs here. Each holds the lock, writes the ledger, and then does in
//! memory what the ledger says.

use super::{
    Inner, State, Trial,
    desired::Wanted,
    install::Ready,
    ledger::{Kind, Ledger, LedgerError, Rejected, Slot},
    probation::Probation,
};
use crate::{
    explain::chain,
    journal::now_ms,
    plugins::table::{Item, Origin},
};
use std::sync::Arc;
use tokio::time::Instant;
use windlass_runtime::Plugin;
use windlass_types::{Digest, PluginName};

impl Inner {
    /// Replace the ledger, on disk and then in memory. With an error nothing has changed.
    pub(super) async fn commit(&self, state: &mut State, next: Ledger) -> Result<(), LedgerError> {
        let path = self.dir.join("ledger.json");
        let written = next.clone();
        let saved = tokio::task::spawn_blocking(move || written.save(&path)).await;
        saved.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(LedgerError::Io { path: "ledger.json".into(), source })
        })?;
        state.ledger = next;
        state.unsaved = false;
        Ok(())
    }

    /// The same for what must happen whether the disk can take it or not: it is written later, then.
    pub(super) async fn commit_anyway(&self, state: &mut State, next: Ledger) {
        if let Err(error) = self.commit(state, next.clone()).await {
            tracing::error!("{}: it is written as soon as that works", chain(&error));
            state.ledger = next;
            state.unsaved = true;
            self.wake.notify_one();
        }
    }

    /// Put a version that is ready in the place of the one that runs.
    pub(super) async fn swap(
        &self,
        state: &mut State,
        wanted: &Wanted,
        ready: Ready,
    ) -> Result<(), LedgerError> {
        let now = now_ms();
        let Ready { slot, plugin, component } = ready;
        let name = &wanted.name;
        let mut next = state.ledger.clone();
        let record = next.record(name);
        record.trying = None;
        record.failed = None;
        let same = record.current.as_ref().is_some_and(|current| current.digest == slot.digest);
        let mut note = None;
        if same {
            // Other signatures, another approval, or what was damaged is whole again.
            record.current = Some(slot.clone());
        } else {
            let before = record.current.take();
            let returns = record.previous.as_ref().is_some_and(|previous| previous.digest == slot.digest);
            let highest = record.highest.max(before.as_ref().map(|before| before.version));
            // The version right before is known to work: its return must not end in going back again.
            let on_probation = !returns && !self.settings.probation.is_zero();
            record.probation = on_probation.then(|| Probation::begin(now, self.settings.probation, highest));
            record.highest = highest.max(Some(slot.version));
            note = Some((before.as_ref().map(Slot::named), Some(slot.named())));
            record.previous = before;
            record.current = Some(slot.clone());
        }
        if let Some(named) = note.clone() {
            next.note(now, name, Kind::Installed, named, "");
        }
        self.commit(state, next).await?;
        state.litter = true;
        state.tries.remove(name);
        self.show(state, name, Ok((plugin, component)));
        match note {
            Some((Some(from), _)) => {
                tracing::info!(plugin = %name, from = %from.version, to = %slot.version, digest = %slot.digest, "installed");
            }
            Some((None, _)) => {
                tracing::info!(plugin = %name, version = %slot.version, digest = %slot.digest, "installed");
            }
            None => {
                tracing::info!(plugin = %name, version = %slot.version, "taken over what the master sent anew");
            }
        }
        Ok(())
    }

    /// Offer the current version of a plugin as it was loaded, or say why it can't be used.
    pub(super) fn show(
        &self,
        state: &State,
        name: &PluginName,
        loaded: Result<(Arc<Plugin>, Digest), String>,
    ) {
        let Some(record) = state.ledger.plugins.get(name) else { return };
        let Some(current) = &record.current else { return };
        let (version, digest) = (current.version.to_string(), current.digest);
        let item = match loaded {
            Ok((plugin, component)) => {
                let trial = record.probation.as_ref().map(|probation| {
                    let until = Instant::now() + probation.left(now_ms());
                    Arc::new(Trial::new(digest, until, probation.operations))
                });
                Item {
                    version,
                    digest,
                    origin: Origin::Blobs,
                    component: Some(component),
                    previous: record.previous.as_ref().map(|previous| previous.digest),
                    trial,
                    plugin: Ok(plugin),
                }
            }
            Err(problem) => {
                tracing::error!(plugin = %name, version, %digest, "cannot be used: {problem}");
                Item::unusable(digest, version, Origin::Blobs, problem)
            }
        };
        self.table.set_managed(name, Some(item));
    }

    /// A bundle can't be installed, and nothing will change that by itself.
    pub(super) async fn reject(&self, state: &mut State, wanted: &Wanted, problem: &str) {
        let now = now_ms();
        let mut next = state.ledger.clone();
        let record = next.record(&wanted.name);
        let rejected = Rejected {
            digest: wanted.digest,
            version: wanted.version,
            deployment: wanted.deployment.clone(),
            request: wanted.request(),
            problem: problem.to_owned(),
        };
        record.trying = None;
        let known = record.failed.as_ref() == Some(&rejected);
        let to = super::ledger::Named { digest: wanted.digest, version: wanted.version };
        let from = record.current.as_ref().map(Slot::named);
        record.failed = Some(rejected);
        tracing::error!(plugin = %wanted.name, version = %wanted.version, digest = %wanted.digest,
            "cannot be installed: {problem}");
        if !known {
            next.note(now, &wanted.name, Kind::Failed, (from, Some(to)), problem);
        }
        state.tries.remove(&wanted.name);
        state.judged.insert(wanted.name.clone());
        self.commit_anyway(state, next).await;
    }

    /// No master wants this plugin any more.
    pub(super) async fn remove(&self, state: &mut State, name: &PluginName) {
        let mut next = state.ledger.clone();
        let record = next.record(name);
        let current = record.current.take();
        // Only the highest version stays: going away and coming back is no way around it.
        *record = super::ledger::Record { highest: record.highest, ..Default::default() };
        if record.highest.is_none() {
            next.plugins.remove(name);
        }
        if let Some(current) = &current {
            next.note(now_ms(), name, Kind::Removed, (Some(current.named()), None), "");
            tracing::info!(plugin = %name, version = %current.version, "removed");
        }
        self.table.set_managed(name, None);
        state.tries.remove(name);
        state.litter = true;
        self.commit_anyway(state, next).await;
    }

    /// An operation of a new version failed. `operations` had ended by then.
    pub(super) async fn failed(&self, name: &PluginName, digest: Digest, operations: u32, what: &str) {
        let mut state = self.state.lock().await;
        let mut next = state.ledger.clone();
        let Some(record) = next.plugins.get_mut(name) else { return };
        // An operation that began before a swap says nothing about what runs now.
        if record.current.as_ref().is_none_or(|current| current.digest != digest) {
            return;
        }
        let Some(probation) = record.probation.as_mut().filter(|probation| probation.holds(now_ms())) else {
            return;
        };
        probation.failed(operations, what);
        let spent = probation.spent(self.settings.failure_budget);
        tracing::warn!(plugin = %name, %digest, failures = probation.failures, "a new version failed: {what}");
        match spent {
            None => self.commit_anyway(&mut state, next).await,
            Some(message) => self.roll_back(&mut state, next, name, message).await,
        }
        self.tell(&state);
    }

    /// Go back to the version before, or offer none if there is none that can be used.
    pub(super) async fn roll_back(
        &self,
        state: &mut State,
        mut next: Ledger,
        name: &PluginName,
        mut message: String,
    ) {
        let record = next.record(name);
        let Some(bad) = record.current.take() else { return };
        let mut before = record.previous.take();
        let mut loaded = None;
        match &before {
            None => message.push_str("; there is no version before it"),
            Some(slot) => match self.load_slot(name, slot).await {
                Ok(found) => loaded = Some(found),
                Err(problem) => {
                    message.push_str(&format!(
                        "; the version before, {}, can't be used: {problem}",
                        slot.version
                    ));
                    before = None;
                }
            },
        }
        if let Some(probation) = record.probation.take() {
            record.highest = probation.highest_before;
        }
        record.trying = None;
        record.send_back(&bad, message.clone());
        record.current = before.clone();
        let named = (Some(bad.named()), before.as_ref().map(Slot::named));
        next.note(now_ms(), name, Kind::RolledBack, named, &message);
        tracing::error!(plugin = %name, from = %bad.version, to = before.as_ref().map(|slot| slot.version.to_string()),
            "rolled back: {message}");
        self.commit_anyway(state, next).await;
        state.litter = true;
        match loaded {
            Some(loaded) => self.show(state, name, Ok(loaded)),
            None => self.show_rolled_back(state, name),
        }
    }

    /// Say of a plugin that has no usable version what became of it.
    pub(super) fn show_rolled_back(&self, state: &State, name: &PluginName) {
        let Some(rejected) = state.ledger.plugins.get(name).and_then(|record| record.rolled_back.back())
        else {
            return;
        };
        let Rejected { digest, version, problem, .. } = rejected;
        let problem = format!("version {version} was rolled back: {problem}");
        let item = Item::unusable(*digest, version.to_string(), Origin::Blobs, problem);
        self.table.set_managed(name, Some(item));
    }
}
