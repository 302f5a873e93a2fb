//! The task that makes what runs here what is wanted here.

use super::{
    Inner, State, Try,
    desired::{Desired, Wanted},
    install::{Failure, Kind, Ready},
    ledger::Record,
    report::PAUSE,
};
use crate::{backoff::Backoff, explain::chain};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;
use windlass_types::PluginName;

/// Failures that should not happen are endured so often.
const STRANGE: u32 = 5;
/// Pause before the ledger, or the set of wanted plugins, is written again.
const SAVE: Duration = Duration::from_secs(5);

/// What to do next.
enum Step {
    /// Try to install this.
    Install(Box<(Wanted, Record)>),
    /// Nothing, until then or until something happens.
    Wait(Option<Instant>),
}

/// What a plugin needs.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// It runs after all: it is no longer rejected.
    Forget,
    /// What runs is wanted by another deployment now.
    Rename,
    Install,
}

impl Inner {
    /// Go on for ever.
    pub(super) async fn converge(self: Arc<Self>) {
        loop {
            match self.step().await {
                Step::Install(install) => {
                    let (wanted, record) = *install;
                    let telling = async {
                        let mut ticks = tokio::time::interval(PAUSE);
                        loop {
                            ticks.tick().await;
                            self.tell_progress();
                        }
                    };
                    let ended = tokio::select! {
                        ended = self.attempt(&wanted, &record) => Some(ended),
                        () = self.superseded(&wanted) => None,
                        () = telling => None,
                    };
                    self.no_progress();
                    if let Some(ended) = ended {
                        self.conclude(&wanted, ended).await;
                    }
                }
                Step::Wait(until) => {
                    let sleep = async {
                        match until {
                            Some(until) => tokio::time::sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = sleep => {}
                    }
                }
            }
        }
    }

    /// Take what a master says while an install is under way, until it wants something else of this
    /// plugin.
    async fn superseded(&self, wanted: &Wanted) {
        let mut incoming = self.incoming.subscribe();
        incoming.mark_changed();
        // The sender lives as long as this.
        while incoming.changed().await.is_ok() {
            let mut state = self.state.lock().await;
            self.take(&mut state).await;
            self.save_again(&mut state).await;
            self.tell(&state);
            if state.desired.as_ref().and_then(|desired| desired.wanted(&wanted.name)) != Some(wanted) {
                return;
            }
        }
    }

    async fn step(&self) -> Step {
        let mut state = self.state.lock().await;
        self.take(&mut state).await;
        let mut until = self.save_again(&mut state).await;
        self.remove_unwanted(&mut state).await;
        let connected = self.source.borrow().is_some();
        let session = self.sessions.load(Ordering::SeqCst);
        let wanted: Vec<Wanted> = state
            .desired
            .iter()
            .flat_map(|desired| desired.plugins.values())
            .filter_map(|entry| entry.as_ref().ok().cloned())
            .collect();
        let mut next = None;
        for wanted in wanted {
            match self.need(&state, &wanted) {
                Need::Nothing => {}
                Need::Forget => self.forget(&mut state, &wanted).await,
                Need::Rename => self.rename(&mut state, &wanted).await,
                Need::Install => match due(&state, &wanted, connected.then_some(session)) {
                    Due::Now if next.is_none() => next = Some(wanted),
                    Due::At(at) => until = Some(until.map_or(at, |until| until.min(at))),
                    Due::Now | Due::WhenConnected => {}
                },
            }
        }
        if state.litter && next.is_none() {
            self.sweep(&state).await;
            state.litter = false;
        }
        self.tell(&state);
        match next {
            Some(wanted) => {
                let record = state.ledger.plugins.get(&wanted.name).cloned().unwrap_or_default();
                Step::Install(Box::new((wanted, record)))
            }
            None => Step::Wait(until),
        }
    }

    /// Take the newest set that came, and write it down.
    async fn take(&self, state: &mut State) {
        let message = self.incoming.borrow().clone();
        let Some(message) = message else { return };
        let desired = Desired::parse(&message);
        if state.desired.as_ref() == Some(&desired) {
            return;
        }
        tracing::info!(
            revision = desired.revision,
            plugins = desired.plugins.len(),
            "the master says what it wants here"
        );
        for (name, entry) in &desired.plugins {
            if let Err(unclear) = entry {
                tracing::error!(plugin = %name, "the master wants something unclear: {}", unclear.problem);
            }
        }
        state.desired = Some(desired);
        state.desired_unsaved = Some(message);
        state.litter = true;
    }

    /// Write what could not be written. Until when to wait if it still can't.
    async fn save_again(&self, state: &mut State) -> Option<Instant> {
        let later = Some(Instant::now() + SAVE);
        let mut until = None;
        if let Some(message) = state.desired_unsaved.clone() {
            let (file, revision) = (self.desired_file.clone(), message.revision);
            let saved = tokio::task::spawn_blocking(move || file.save(&message)).await;
            match saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
                Ok(()) => {
                    state.desired_unsaved = None;
                    state.desired_on_disk = revision;
                }
                Err(error) => {
                    tracing::error!("cannot keep what the master wants: {error}");
                    until = later;
                }
            }
        }
        if state.unsaved {
            let ledger = state.ledger.clone();
            if let Err(error) = self.commit(state, ledger).await {
                tracing::error!("{}", chain(&error));
                until = later;
            }
        }
        until
    }

    /// Take away what is managed and not wanted, if a master ever said what it wants.
    async fn remove_unwanted(&self, state: &mut State) {
        let Some(desired) = &state.desired else { return };
        let unwanted: Vec<PluginName> = state
            .ledger
            .plugins
            .iter()
            .filter(|(name, record)| {
                let empty = Record { highest: record.highest, ..Record::default() };
                **record != empty && !desired.plugins.contains_key(*name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in unwanted {
            self.remove(state, &name).await;
        }
    }

    fn need(&self, state: &State, wanted: &Wanted) -> Need {
        // One of the node's own comes first.
        if self.table.now().local.contains_key(&wanted.name) {
            return Need::Nothing;
        }
        let record = state.ledger.plugins.get(&wanted.name).cloned().unwrap_or_default();
        if self.runs(&wanted.name, &record, wanted) {
            return if record.failed(wanted).is_some() { Need::Forget } else { Need::Nothing };
        }
        let failed = record.failed(wanted).is_some() && state.judged.contains(&wanted.name);
        if failed || record.sent_back(wanted).is_some() {
            return Need::Nothing;
        }
        match &record.current {
            Some(slot)
                if slot.digest == wanted.digest
                    && slot.signatures == wanted.signatures
                    && slot.approval == wanted.approval
                    && self.is_loaded(&wanted.name, wanted.digest) =>
            {
                Need::Rename
            }
            _ => Need::Install,
        }
    }

    async fn forget(&self, state: &mut State, wanted: &Wanted) {
        let mut next = state.ledger.clone();
        next.record(&wanted.name).failed = None;
        self.commit_anyway(state, next).await;
    }

    async fn rename(&self, state: &mut State, wanted: &Wanted) {
        let mut next = state.ledger.clone();
        if let Some(slot) = &mut next.record(&wanted.name).current {
            slot.deployment.clone_from(&wanted.deployment);
        }
        self.commit_anyway(state, next).await;
    }

    /// An attempt has ended: swap, remember, or try again later.
    async fn conclude(&self, wanted: &Wanted, ended: Result<Ready, Failure>) {
        let mut state = self.state.lock().await;
        if state.desired.as_ref().and_then(|desired| desired.wanted(&wanted.name)) != Some(wanted) {
            return;
        }
        let failure = match ended {
            Ok(ready) => match self.swap(&mut state, wanted, ready).await {
                Ok(()) => return self.tell(&state),
                Err(error) => Failure { kind: Kind::Node, problem: chain(&error) },
            },
            Err(failure) => failure,
        };
        let request = wanted.request();
        let before = state.tries.get(&wanted.name).filter(|tried| tried.request == request);
        let failures = before.map_or(0, |tried| tried.failures) + 1;
        let strange = before.map_or(0, |tried| tried.strange) + u32::from(failure.kind == Kind::Strange);
        if failure.kind == Kind::Final || strange >= STRANGE {
            self.reject(&mut state, wanted, &failure.problem).await;
            return self.tell(&state);
        }
        let told = before.is_some_and(|tried| tried.problem == failure.problem);
        if !told {
            tracing::warn!(plugin = %wanted.name, version = %wanted.version, "{}", failure.problem);
        }
        let wait = Backoff::after(failures - 1).failed(1);
        state.tries.insert(
            wanted.name.clone(),
            Try {
                request,
                failures,
                strange,
                next: Instant::now() + wait,
                network: (failure.kind == Kind::Network).then(|| self.sessions.load(Ordering::SeqCst)),
                problem: failure.problem,
            },
        );
        // It did not end the process, whatever it did.
        let trying = state.ledger.plugins.get(&wanted.name).is_some_and(|record| record.trying.is_some());
        if trying {
            let mut next = state.ledger.clone();
            next.record(&wanted.name).trying = None;
            self.commit_anyway(&mut state, next).await;
        }
        self.tell(&state);
    }
}

/// When an install may be tried.
enum Due {
    Now,
    At(Instant),
    /// Only a master can help.
    WhenConnected,
}

/// `session` is the number of the session that there is.
fn due(state: &State, wanted: &Wanted, session: Option<u64>) -> Due {
    match state.tries.get(&wanted.name).filter(|tried| tried.request == wanted.request()) {
        Some(Try { network: Some(_), .. }) if session.is_none() => Due::WhenConnected,
        // A new session is a new chance.
        Some(Try { network: Some(before), .. }) if session != Some(*before) => Due::Now,
        Some(tried) if tried.next > Instant::now() => Due::At(tried.next),
        _ => Due::Now,
    }
}
