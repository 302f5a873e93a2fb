//! The journal: what this host has promised, so that a crash neither loses an operation nor runs
//! it twice.
//!
//! # Guarantees
//! 1. A request is in the journal before its `Accepted` leaves the host.
//! 2. A request is marked as started before its operation begins. A `read` operation whose turn it is
//!    at once is the exception: it is written, as started, only if it is not over within a moment.
//! 3. A result is in the journal before it is sent, and stays until the master acknowledged it.
//! 4. The id of an acknowledged request is remembered (100,000 ids, 7 days), so that a repetition that
//!    was long under way is not taken for a new request.
//!
//! From these: a request that was *accepted but not started* when the process ended can safely be
//! started by the next process, if its deadline has not passed: nothing of it has happened. A request
//! that was *started and has no result* gets the outcome `indeterminate`; it is never run again. A read
//! that was cut off in its first moment is in no list: the master, which was not told that it was
//! accepted, sends it again, and running a read again does no harm.
//!
//! # Two files
//! `change` and `destroy` operations are written to `journal.redb` and synced to the disk at every
//! step, so the guarantees hold through a power failure. A sync costs milliseconds, though, and most
//! operations only read. Requests of `read` operations are in `reads.redb`, which is written in the
//! same way but not synced: the pages are in the kernel's cache, so the guarantees hold when this
//! process is killed, in whatever way. They do not hold when the kernel itself stops. Then `reads.redb`
//! may be torn and is thrown away as a whole (a file beside it says which boot wrote it): the master
//! finds the requests in neither list of `Hello` and says so, and running a read again does no harm.
//! One file for both would not do: leaving out syncs makes the order of writes uncertain, and a torn
//! page could take synced records with it.
//!
//! # One thread a file
//! Each file has a thread that owns all writing. It takes what has queued up since the last commit as
//! one transaction (group commit), so ten requests that arrive together cost one sync. Callers await
//! their commit; the network and the heartbeats never wait for the disk.

mod store;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use store::{Change, Store};
use windlass_types::{Effect, RequestId};

/// Why the journal could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file is in use by another process.
    #[error("`{}` is in use: another windlass-host runs with the same state_dir", .0.display())]
    InUse(PathBuf),
    /// The file can't be read or written.
    #[error("journal `{}`: {message}", path.display())]
    Storage { path: PathBuf, message: String },
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

/// How long ids of acknowledged requests are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// So many at most.
    pub count: u64,
    /// No longer than this, in milliseconds.
    pub age_ms: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { count: 100_000, age_ms: 7 * 24 * 3_600_000 }
    }
}

/// A request as it is kept, enough to run it after a restart.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub job_id: String,
    pub operation: String,
    /// As it came, JSON.
    pub args: String,
    /// The secrets that the arguments name, sealed as they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Sealed>,
    pub type_digest: String,
    /// The bundle that runs it; empty if that is not known.
    #[serde(default)]
    pub plugin_digest: String,
    pub effect: Effect,
    pub dry_run: bool,
    /// By this host's clock.
    pub deadline_ms: i64,
    /// When it was accepted, by this host's clock.
    pub accepted_ms: i64,
}

/// A secret as the master sent it. Only the key of this node opens it, and only for its request.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed {
    pub name: String,
    #[serde(with = "hex::serde")]
    pub sealed: Vec<u8>,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Being written.
    Claimed,
    /// Kept, not begun.
    Accepted,
    /// Begun.
    Started,
    /// Has a result that is not acknowledged.
    Finished,
    /// Its result was acknowledged.
    Acknowledged,
}

/// What was found at start.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Accepted and not begun.
    pub accepted: Vec<(RequestId, Entry)>,
    /// Begun, without result: their outcome is not known.
    pub started: Vec<(RequestId, Entry)>,
    /// Written by another version of this program, which knew what they were: they may have begun.
    pub unreadable: Vec<RequestId>,
    /// Have a result that waits for its acknowledgement.
    pub finished: Vec<RequestId>,
    /// True if requests of read operations were lost with a power failure.
    pub reads_lost: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    durable: Store,
    reads: Store,
    live: Mutex<HashMap<RequestId, (Kind, Stage)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Durable,
    Read,
}

impl Kind {
    fn of(effect: Effect) -> Self {
        if effect == Effect::Read { Kind::Read } else { Kind::Durable }
    }
}

impl Journal {
    /// Open the journal in `dir`, which must exist.
    ///
    /// # Errors
    /// If it is in use, or can't be read or written.
    pub fn open(dir: &Path, retention: Retention) -> Result<(Arc<Self>, Recovered), JournalError> {
        Self::open_in_boot(dir, retention, &boot_id())
    }

    fn open_in_boot(
        dir: &Path,
        retention: Retention,
        boot: &str,
    ) -> Result<(Arc<Self>, Recovered), JournalError> {
        let (durable, kept) = Store::open(dir.join("journal.redb"), None, retention)?;
        let (reads, kept_reads) = Store::open(dir.join("reads.redb"), Some(boot), retention)?;
        let mut recovered = Recovered { reads_lost: kept_reads.lost, ..Recovered::default() };
        let mut live = HashMap::new();
        for (kind, kept) in [(Kind::Durable, kept), (Kind::Read, kept_reads)] {
            for (id, entry, started) in kept.requests {
                let stage = if started { Stage::Started } else { Stage::Accepted };
                live.insert(id, (kind, stage));
                if started {
                    recovered.started.push((id, entry));
                } else {
                    recovered.accepted.push((id, entry));
                }
            }
            for id in kept.unreadable {
                live.insert(id, (kind, Stage::Started));
                recovered.unreadable.push(id);
            }
            for id in kept.results {
                live.insert(id, (kind, Stage::Finished));
                recovered.finished.push(id);
            }
        }
        Ok((Arc::new(Journal { durable, reads, live: Mutex::new(live) }), recovered))
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, (Kind, Stage)>> {
        // Every critical section leaves the map whole.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn store(&self, kind: Kind) -> &Store {
        match kind {
            Kind::Durable => &self.durable,
            Kind::Read => &self.reads,
        }
    }

    /// Take a request id, if it is new; otherwise say where the request stands. A claimed id must be
    /// [accepted](Self::accept).
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn claim(&self, id: RequestId, effect: Effect) -> Result<Option<Stage>, JournalError> {
        if let Some((_, stage)) = self.live().get(&id) {
            return Ok(Some(*stage));
        }
        if self.durable.is_acknowledged(id)? || self.reads.is_acknowledged(id)? {
            return Ok(Some(Stage::Acknowledged));
        }
        // Only one task, the session's, claims ids: nobody came in between.
        self.live().insert(id, (Kind::of(effect), Stage::Claimed));
        Ok(None)
    }

    /// Where a request stands; none if the journal does not know it.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn stage(&self, id: RequestId) -> Result<Option<Stage>, JournalError> {
        if let Some((_, stage)) = self.live().get(&id) {
            return Ok(Some(*stage));
        }
        let acknowledged = self.durable.is_acknowledged(id)? || self.reads.is_acknowledged(id)?;
        Ok(acknowledged.then_some(Stage::Acknowledged))
    }

    /// Keep a claimed request; `started` if it begins at once, which saves a second commit.
    ///
    /// # Errors
    /// If it can't be written; the request must then be [finished](Self::finish) as refused.
    pub async fn accept(&self, id: RequestId, entry: &Entry, started: bool) -> Result<(), JournalError> {
        let kind = Kind::of(entry.effect);
        let written = self
            .store(kind)
            .write(Change::Accept { id, entry: serde_json::to_vec(entry).unwrap_or_default(), started })
            .await;
        match written {
            Ok(()) => {
                let stage = if started { Stage::Started } else { Stage::Accepted };
                self.live().insert(id, (kind, stage));
                Ok(())
            }
            // It may be on the disk nevertheless, if only its sync failed: the id stays claimed
            // until a result is written over it.
            Err(error) => Err(error),
        }
    }

    /// Mark an accepted request as started. Only then may its operation begin.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn start(&self, id: RequestId) -> Result<(), JournalError> {
        let Some(kind) = self.kind(id) else { return Ok(()) };
        self.store(kind).write(Change::Start { id }).await?;
        self.live().insert(id, (kind, Stage::Started));
        Ok(())
    }

    /// Keep the result of a request, an encoded `Result` message.
    ///
    /// # Errors
    /// If it can't be written; the request stays as it was.
    pub async fn finish(&self, id: RequestId, result: Vec<u8>) -> Result<(), JournalError> {
        let Some(kind) = self.kind(id) else { return Ok(()) };
        self.store(kind).write(Change::Finish { id, result }).await?;
        self.live().insert(id, (kind, Stage::Finished));
        Ok(())
    }

    /// The master has the result: forget it, but not the id. An unknown id changes nothing.
    ///
    /// # Errors
    /// If it can't be written; the result will be sent again.
    pub async fn acknowledge(&self, id: RequestId) -> Result<(), JournalError> {
        let Some((kind, Stage::Finished)) = self.live().get(&id).copied() else { return Ok(()) };
        self.store(kind).write(Change::Acknowledge { id, now_ms: now_ms() }).await?;
        self.live().remove(&id);
        Ok(())
    }

    /// The result of a finished request.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn result(&self, id: RequestId) -> Result<Option<Vec<u8>>, JournalError> {
        match self.kind(id) {
            Some(kind) => self.store(kind).result(id),
            None => Ok(None),
        }
    }

    /// Requests that are not finished, and those whose result is not acknowledged.
    pub fn lists(&self) -> (Vec<RequestId>, Vec<RequestId>) {
        let live = self.live();
        let mut running = Vec::new();
        let mut finished = Vec::new();
        for (id, (_, stage)) in live.iter() {
            match stage {
                Stage::Claimed | Stage::Accepted | Stage::Started => running.push(*id),
                Stage::Finished => finished.push(*id),
                Stage::Acknowledged => {}
            }
        }
        running.sort_unstable();
        finished.sort_unstable();
        (running, finished)
    }

    fn kind(&self, id: RequestId) -> Option<Kind> {
        self.live().get(&id).map(|(kind, _)| *kind)
    }

    /// Write everything out and close the files.
    pub fn close(&self) {
        self.durable.close();
        self.reads.close();
    }
}

/// Milliseconds since 1970-01-01 UTC by this machine's clock.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The kernel's id of this boot (`random(4)`); empty if there is none.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
