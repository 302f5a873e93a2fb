//! Watches: `read` operations that this host repeats by itself, whether a master is there or not.
//!
//! * [`schedule`] says when each runs, and runs it: the same way as a job's operation, within the same
//!   grants and limits, but with no journal, and only while no job wants its place.
//! * [`keep`] holds what was found until the master has acknowledged it.
//!
//! # What is promised
//! A result is told when it differs from the last one of its watch. While no master is there, the latest
//! result of each watch is kept, and beside it a bounded number of changes, the oldest of which are dropped
//! first and counted. All of it is in memory: after a restart every watch runs again, and the master then
//! has the newest anyway. A result that stays the same is confirmed once a minute by its name alone.

pub mod keep;
pub mod schedule;

use keep::{Keep, Say};
use serde_json::{Map, Value};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use windlass_proto::v1;
use windlass_types::{Digest, OperationName, Outcome, PluginName};

/// Which watch of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub plugin: PluginName,
    /// As its manifest names it.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.plugin, self.name)
    }
}

/// A watch of a plugin that can be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    pub key: Key,
    pub operation: OperationName,
    pub args: Map<String, Value>,
    pub every: Duration,
    pub jitter: Duration,
    /// Of its plugin.
    pub version: String,
    /// Of its plugin.
    pub digest: Digest,
}

/// What may be kept for the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchSettings {
    /// Changes that wait.
    pub changes: usize,
    /// Bytes of all of them.
    pub bytes: usize,
    /// Bytes of one result; a larger one becomes a problem of its watch.
    pub result: usize,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings { changes: 1000, bytes: 4 << 20, result: 64 << 10 }
    }
}

/// What a run of a watch came to.
#[derive(Debug)]
pub struct Found {
    pub watch: Arc<Watch>,
    pub outcome: Outcome,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub ms: i64,
    pub at: Instant,
}

/// What the watches of this host have found. Clones share it.
#[derive(Debug, Clone)]
pub struct Watches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keep: Mutex<Keep>,
    /// There may be something to say.
    filled: Notify,
}

impl Watches {
    /// None yet.
    pub fn new(settings: WatchSettings) -> Self {
        Watches(Arc::new(Shared { keep: Mutex::new(Keep::new(settings)), filled: Notify::new() }))
    }

    fn keep(&self) -> MutexGuard<'_, Keep> {
        // Every critical section leaves it whole.
        self.0.keep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the watches now. What is known of others is forgotten.
    pub fn set(&self, watches: &[Arc<Watch>]) {
        self.keep().set(watches);
        self.0.filled.notify_one();
    }

    /// A watch has run.
    pub fn found(&self, found: Found) {
        tracing::debug!(watch = %found.watch.key, outcome = %found.outcome.kind(), "a watch has run");
        self.keep().found(found);
        self.0.filled.notify_one();
    }

    /// A session begins with a master that takes reports, or does not.
    pub fn open(&self, takes_reports: bool) {
        let now = Instant::now();
        let spread = keep::CONFIRM.mul_f64(rand::random::<f64>() / 2.0);
        let mut keep = self.keep();
        if takes_reports {
            keep.open(now, spread);
        } else {
            keep.close();
        }
        drop(keep);
        self.0.filled.notify_one();
    }

    /// The session is over.
    pub fn close(&self) {
        self.keep().close();
    }

    /// The master has a report.
    pub fn acknowledged(&self, message: &v1::WatchReportAcknowledged) {
        let unknown: Vec<Key> = message
            .unknown
            .iter()
            .filter_map(|name| Some(Key { plugin: name.plugin.parse().ok()?, name: name.name.clone() }))
            .collect();
        self.keep().acknowledged(message.sequence, &unknown);
        self.0.filled.notify_one();
    }

    /// The next report; waits until there is one to make.
    pub async fn next(&self) -> v1::WatchReport {
        loop {
            let say = self.keep().say(Instant::now());
            match say {
                Say::Now(report) => return report,
                Say::At(at) => {
                    // Whichever comes first: it is looked at again.
                    let _ = tokio::time::timeout_at(at, self.0.filled.notified()).await;
                }
                Say::Nothing => self.0.filled.notified().await,
            }
        }
    }
}
