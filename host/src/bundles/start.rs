//! Beginning where an earlier process ended, and looking at everything again.

use super::{
    BundlesError, Inner, Interrupted, State,
    desired::Desired,
    ledger::{Ledger, LedgerError, Slot},
};
use crate::{explain::chain, files, journal::now_ms};
use windlass_types::PluginName;

impl Inner {
    /// See [`super::Bundles::begin`].
    pub(super) async fn begin(&self, interrupted: Vec<Interrupted>) -> Result<(), BundlesError> {
        files::private_dir(&self.dir)
            .map_err(|source| BundlesError::Folder { path: self.dir.clone(), source })?;
        if self.settings.allow_unsigned {
            tracing::warn!("`allow_unsigned` is set: whoever owns the master decides what runs here");
        }
        let mut state = self.state.lock().await;
        state.ledger = self.read_ledger()?;
        match self.desired_file.load() {
            Ok(Some(message)) => {
                let desired = Desired::parse(&message);
                state.desired_on_disk = desired.revision;
                state.desired = Some(desired);
            }
            Ok(None) => {}
            // The master sends it again. Until then what runs goes on.
            Err(error) => tracing::error!("cannot read what the master wants: {error}"),
        }
        state.litter = true;
        let spent = self.count_crash(&mut state, &interrupted).await;
        let names: Vec<PluginName> = state.ledger.plugins.keys().cloned().collect();
        for name in names {
            match spent.iter().find(|(spent, _)| *spent == name) {
                Some((_, message)) => {
                    let next = state.ledger.clone();
                    self.roll_back(&mut state, next, &name, message.clone()).await;
                }
                None => self.load_current(&state, &name).await,
            }
        }
        self.tell(&state);
        Ok(())
    }

    /// The ledger; one that is damaged is set aside, since a node that does not start helps nobody.
    fn read_ledger(&self) -> Result<Ledger, LedgerError> {
        let path = self.dir.join("ledger.json");
        match Ledger::load(&path) {
            Err(error @ LedgerError::Damaged { .. }) => {
                let aside = path.with_extension("damaged");
                tracing::error!(
                    "{}: it is kept as `{}`, and what a master wants is installed anew",
                    chain(&error),
                    aside.display()
                );
                std::fs::rename(&path, &aside)
                    .map_err(|source| LedgerError::Io { path: path.display().to_string(), source })?;
                // Numbers of changes are never used twice: these are above all that were.
                Ok(Ledger { last_change: u64::try_from(now_ms()).unwrap_or(0), ..Ledger::default() })
            }
            read => read,
        }
    }

    /// Count the end of the earlier process against new versions that it ran: once for each, however
    /// many of its operations ran. Gives those whose budget is spent, and what to say.
    async fn count_crash(&self, state: &mut State, interrupted: &[Interrupted]) -> Vec<(PluginName, String)> {
        let now = now_ms();
        let mut next = state.ledger.clone();
        let mut spent = Vec::new();
        for (name, record) in &mut next.plugins {
            let Some(probation) = &mut record.probation else { continue };
            probation.clamp(now, self.settings.probation);
            let digest = record.current.as_ref().map(|slot| slot.digest);
            let ran =
                interrupted.iter().find(|ran| Some(ran.digest) == digest && probation.holds(ran.accepted_ms));
            if let Some(ran) = ran {
                probation.failed(
                    probation.operations.saturating_add(1),
                    &format!("the host process ended while `{}` ran", ran.operation),
                );
                tracing::warn!(plugin = %name, failures = probation.failures, "a new version failed: {}", probation.last);
            }
            if let Some(message) = probation.spent(self.settings.failure_budget) {
                spent.push((name.clone(), message));
            }
        }
        if next != state.ledger {
            self.commit_anyway(state, next).await;
        }
        spent
    }

    async fn load_current(&self, state: &State, name: &PluginName) {
        let Some(record) = state.ledger.plugins.get(name) else { return };
        match &record.current {
            Some(slot) => {
                let loaded = self.load_slot(name, slot).await;
                if loaded.is_ok() {
                    tracing::info!(plugin = %name, version = %slot.version, digest = %slot.digest, "loaded");
                }
                self.show(state, name, loaded);
            }
            None => self.show_rolled_back(state, name),
        }
    }

    /// See [`super::Bundles::reload`].
    pub(super) async fn reload(&self) {
        let mut state = self.state.lock().await;
        state.judged.clear();
        state.tries.clear();
        state.litter = true;
        let names: Vec<PluginName> = state.ledger.plugins.keys().cloned().collect();
        for name in names {
            let Some(slot) = state.ledger.plugins[&name].current.clone() else { continue };
            match self.still_trusted(&name, &slot).await {
                Ok(()) if self.is_loaded(&name, slot.digest) => {}
                Ok(()) => self.load_current(&state, &name).await,
                Err(problem) => self.show(&state, &name, Err(problem)),
            }
        }
        self.tell(&state);
    }

    async fn still_trusted(&self, name: &PluginName, slot: &Slot) -> Result<(), String> {
        let (settings, name, slot) = (self.settings.clone(), name.clone(), slot.clone());
        let judge = move || {
            let Slot { version, digest, signatures, verified_ms, .. } = &slot;
            super::verify::signatures(&settings, &name, *version, *digest, signatures, *verified_ms)
        };
        let judged = tokio::task::spawn_blocking(judge).await.map_err(|error| error.to_string())?;
        judged.map(drop).map_err(|problem| format!("it is not trusted on this node: {problem}"))
    }
}
