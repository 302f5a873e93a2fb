//! When each watch runs.
//!
//! One task decides. The first run of a watch is at a random time within its period, and each later one a
//! period after the one before and a little more at random: so the nodes of a grid never beat together. A
//! run that takes longer than the period leaves out the times that pass meanwhile; there is never more than
//! one run of a watch. After a failure the next run comes sooner, first after an eighth of the period and
//! then after twice as long each time, but never later than it would have come anyway.
//!
//! At most [`AT_ONCE`] watches run at a time, beside the workers of jobs. None begins while a job waits, and
//! one that holds what a job of the same plugin waits for is cancelled and runs again later.

use super::{Found, Key, Watch, Watches};
use crate::{
    engine::Catalogue,
    jobs::{self, Call, Executor, pool::Pool},
    journal::now_ms,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use windlass_types::{Denial, Digest, Effect, JobId, Outcome, Refusal};

/// Watches that run at once.
pub const AT_ONCE: usize = 2;
/// A run that gave way is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// What waits for a place looks for one so often at least.
const LOOK: Duration = Duration::from_secs(5);
/// The soonest that a watch runs again after a failure.
const SOONEST: Duration = Duration::from_secs(1);

/// When a watch runs.
#[derive(Debug)]
struct Timed {
    watch: Arc<Watch>,
    /// The time without jitter that `due` was made of.
    base: Instant,
    due: Instant,
    /// In a row.
    failures: u32,
    runs: bool,
}

impl Timed {
    fn new(watch: Arc<Watch>, now: Instant) -> Self {
        let due = now + part_of(watch.every);
        Timed { watch, base: due, due, failures: 0, runs: false }
    }

    /// The next time that is not past.
    fn advance(&mut self, now: Instant) {
        let every = self.watch.every.max(Duration::from_millis(1));
        let behind = now.saturating_duration_since(self.base).as_nanos() / every.as_nanos();
        self.base += every.saturating_mul(u32::try_from(behind).unwrap_or(u32::MAX).saturating_add(1));
        self.due = self.base + part_of(self.watch.jitter);
    }

    fn ended(&mut self, failed: bool, now: Instant) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        if failed {
            self.due = self.due.min(now + retry(self.watch.every, self.failures));
        }
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    // Below one: a whole period would be a beat in common again.
    time.mul_f64(rand::random::<f64>())
}

/// How long to wait after so many failures in a row.
fn retry(every: Duration, failures: u32) -> Duration {
    let share = 8_u32 >> failures.saturating_sub(1).min(3);
    (every / share).max(SOONEST).min(every)
}

/// How a run ended.
enum Ended {
    Found(Box<Found>),
    /// It is to run again soon: a job needed its place, or there was no room.
    GaveWay,
}

/// Runs watches.
pub struct Scheduler {
    executor: Arc<dyn Executor>,
    catalogue: Arc<dyn Catalogue>,
    pool: Pool,
    watches: Watches,
    timed: BTreeMap<Key, Timed>,
    runs: JoinSet<Ended>,
    running: HashMap<tokio::task::Id, Key>,
}

impl Scheduler {
    /// One that has not begun.
    pub fn new(
        executor: Arc<dyn Executor>,
        catalogue: Arc<dyn Catalogue>,
        pool: Pool,
        watches: Watches,
    ) -> Self {
        Scheduler {
            executor,
            catalogue,
            pool,
            watches,
            timed: BTreeMap::new(),
            runs: JoinSet::new(),
            running: HashMap::new(),
        }
    }

    /// Run watches until `stop`; what runs then is dropped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.catalogue.changes();
        let pool = self.pool.clone();
        self.take(Instant::now());
        loop {
            let next = self.begin_due(Instant::now());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = self.runs.join_next_with_id() => {
                    let (id, ended) = match ended {
                        Ok((id, ended)) => (id, ended),
                        // Only a panic here does that: those of operations are outcomes.
                        Err(error) => (error.id(), Ended::GaveWay),
                    };
                    self.ended(id, ended);
                }
                Ok(()) = changes.changed() => self.take(Instant::now()),
                () = pool.freed() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Take the watches as they are now.
    fn take(&mut self, now: Instant) {
        let now_there = self.catalogue.watches();
        let mut before = std::mem::take(&mut self.timed);
        for watch in now_there {
            let timed = match before.remove(&watch.key) {
                Some(timed) if *timed.watch == watch => timed,
                // What runs ends, and is told, as it began.
                Some(timed) => Timed { runs: timed.runs, ..Timed::new(Arc::new(watch), now) },
                None => Timed::new(Arc::new(watch), now),
            };
            self.timed.insert(timed.watch.key.clone(), timed);
        }
        let list: Vec<_> = self.timed.values().map(|timed| Arc::clone(&timed.watch)).collect();
        self.watches.set(&list);
    }

    /// Begin what is due, and say when to look again.
    fn begin_due(&mut self, now: Instant) -> Option<Instant> {
        let mut due: Vec<(Instant, Key)> = Vec::new();
        for (key, timed) in &mut self.timed {
            if timed.due > now {
                continue;
            }
            if timed.runs {
                tracing::debug!(watch = %key, "still runs: this time is left out");
                timed.advance(now);
            } else {
                due.push((timed.due, key.clone()));
            }
        }
        due.sort();
        for (_, key) in due {
            if self.runs.len() >= AT_ONCE {
                break;
            }
            self.begin(&key, now);
        }
        // What is due and could not begin waits for a place. That one is free is told, but for a job that
        // gave up waiting.
        let look = |timed: &Timed| if timed.due > now { timed.due } else { now + LOOK };
        self.timed.values().map(look).min()
    }

    fn begin(&mut self, key: &Key, now: Instant) {
        let Some(timed) = self.timed.get_mut(key) else { return };
        let watch = Arc::clone(&timed.watch);
        let admitted = self.executor.admit(&watch.operation, None);
        let admission = match admitted {
            Ok(admission) => admission,
            Err(refused) => {
                timed.advance(now);
                timed.ended(true, now);
                let outcome = Outcome::Refused { reason: refused.reason, message: refused.message };
                return self.watches.found(Found { watch, outcome, ms: now_ms(), at: now });
            }
        };
        if let Some(denial) = not_read(&watch, admission.effect) {
            timed.advance(now);
            let outcome = Outcome::Denied { denial, error: None };
            return self.watches.found(Found { watch, outcome, ms: now_ms(), at: now });
        }
        if admission.plugin_digest.is_some_and(|digest| digest != watch.digest) {
            // Swapped this very moment: the list of watches is about to change.
            timed.due = now + AGAIN;
            return;
        }
        let Some((slot, give_way)) = self.pool.beside(&key.plugin, admission.concurrency) else { return };
        timed.advance(now);
        timed.runs = true;
        let run = async move {
            let (progress, mut reports) = mpsc::channel(1);
            let (output, mut printed) = mpsc::channel(1);
            let call = Call {
                job_id: JobId::new(),
                operation: watch.operation.clone(),
                args: Value::Object(watch.args.clone()),
                // A watch has none: nobody was asked whether it may.
                secrets: Default::default(),
                type_digest: None::<Digest>,
                time_limit: admission.timeout,
                dry_run: false,
                cancel: give_way,
                progress,
                output,
            };
            let nobody_asks = async {
                let reported = async { while reports.recv().await.is_some() {} };
                let written = async { while printed.recv().await.is_some() {} };
                tokio::join!(reported, written);
                std::future::pending().await
            };
            let finished = jobs::execute::within_limits(admission.work, call, nobody_asks).await;
            drop(slot);
            match finished.outcome {
                Outcome::Cancelled { .. } | Outcome::Refused { reason: Refusal::Busy, .. } => Ended::GaveWay,
                outcome => {
                    let (ms, at) = (now_ms(), Instant::now());
                    Ended::Found(Box::new(Found { watch, outcome, ms, at }))
                }
            }
        };
        let id = self.runs.spawn(run).id();
        self.running.insert(id, key.clone());
    }

    fn ended(&mut self, id: tokio::task::Id, ended: Ended) {
        let Some(key) = self.running.remove(&id) else { return };
        let now = Instant::now();
        let timed = self.timed.get_mut(&key);
        match ended {
            Ended::Found(found) => {
                if let Some(timed) = timed {
                    timed.runs = false;
                    // The result of a version before says nothing about when this one should run.
                    if *timed.watch == *found.watch {
                        timed.ended(!found.outcome.is_success(), now);
                    }
                }
                self.watches.found(*found);
            }
            Ended::GaveWay => {
                if let Some(timed) = timed {
                    timed.runs = false;
                    timed.due = timed.due.min(now + AGAIN);
                }
            }
        }
    }
}

/// The manifest was checked for this; the node's own policy may have changed an effect since.
fn not_read(watch: &Watch, effect: Effect) -> Option<Denial> {
    (effect != Effect::Read).then(|| Denial {
        capability: "operation".into(),
        request: watch.operation.to_string(),
        missing: format!("a watch only reads, and this operation has the effect `{effect}`"),
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
