//! One file of the journal, and the thread that writes it.

use super::{Entry, JournalError, Retention, now_ms};
use redb::{
    BackendError, Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, StorageBackend, TableDefinition, WriteTransaction, backends::FileBackend,
};
use std::{
    ops::Bound,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::sync::{mpsc, oneshot};
use windlass_types::RequestId;

/// Accepted requests without result: id → entry as JSON.
const REQUESTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("requests");
/// Those of them that have begun.
const STARTED: TableDefinition<'_, &str, ()> = TableDefinition::new("started");
/// Results that are not acknowledged: id → encoded message.
const RESULTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("results");
/// Acknowledged ids and when.
const ACKNOWLEDGED: TableDefinition<'_, &str, u64> = TableDefinition::new("acknowledged");
/// The same by time, to forget the oldest.
const BY_TIME: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("acknowledged_by_time");

/// Cache of one file. redb's own default is 1 GiB; the journal is small and mostly written.
const CACHE_BYTES: usize = 1 << 20;
/// Changes in one transaction at most.
const BATCH: usize = 256;
/// Changes that wait for the thread at most; callers beyond wait in turn.
const QUEUE: usize = 1024;

#[derive(Debug)]
pub(super) enum Change {
    Accept { id: RequestId, entry: Vec<u8>, started: bool },
    Start { id: RequestId },
    Finish { id: RequestId, result: Vec<u8> },
    Acknowledge { id: RequestId, now_ms: i64 },
}

type Reply = oneshot::Sender<Result<(), JournalError>>;

/// What was in the file.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub requests: Vec<(RequestId, Entry, bool)>,
    /// Requests whose entry this version can't read.
    pub unreadable: Vec<RequestId>,
    pub results: Vec<RequestId>,
    pub lost: bool,
}

#[derive(Debug)]
pub(super) struct Store {
    file: Arc<StoreFile>,
    /// None once closed.
    queue: Mutex<Option<mpsc::Sender<(Change, Reply)>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// The open file. It is opened anew after an error: redb refuses everything after a failed write,
/// and a full disk may have room again.
struct StoreFile {
    path: PathBuf,
    synced: bool,
    database: RwLock<Option<Database>>,
}

impl std::fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreFile").field("path", &self.path).field("synced", &self.synced).finish()
    }
}

impl Store {
    /// Open a file. With `boot`, changes are not synced, and what another boot wrote without
    /// closing the file is thrown away.
    pub(super) fn open(
        path: PathBuf,
        boot: Option<&str>,
        retention: Retention,
    ) -> Result<(Self, Kept), JournalError> {
        let error = |source: std::io::Error| JournalError::Storage {
            path: path.clone(),
            message: source.to_string(),
        };
        let mut kept = Kept::default();
        let marker = path.with_extension("boot");
        if let Some(boot) = boot {
            match std::fs::read_to_string(&marker) {
                Ok(writer) if writer == boot && !boot.is_empty() => {}
                Ok(_) => match std::fs::remove_file(&path) {
                    Ok(()) => kept.lost = true,
                    Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
                    Err(other) => return Err(error(other)),
                },
                Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
                Err(other) => return Err(error(other)),
            }
        }
        let file =
            Arc::new(StoreFile { synced: boot.is_none(), path: path.clone(), database: RwLock::default() });
        file.reopen()?;
        if let Some(boot) = boot {
            // On the disk before the first change that is not synced.
            crate::files::write_atomically(&marker, boot.as_bytes(), 0o600).map_err(error)?;
        }
        file.read(|database| file.load(database, retention, &mut kept))?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let thread_file = Arc::clone(&file);
        let marker = boot.is_some().then_some(marker);
        let thread = std::thread::Builder::new()
            .name(if boot.is_some() { "journal-reads" } else { "journal" }.into())
            .spawn(move || write_loop(&thread_file, receiver, retention, marker.as_deref()))
            .map_err(error)?;
        Ok((Store { file, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) }, kept))
    }

    pub(super) async fn write(&self, change: Change) -> Result<(), JournalError> {
        let (reply, done) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(JournalError::Closed)?;
        queue.send((change, reply)).await.map_err(|_| JournalError::Closed)?;
        done.await.unwrap_or(Err(JournalError::Closed))
    }

    pub(super) fn is_acknowledged(&self, id: RequestId) -> Result<bool, JournalError> {
        self.file.read(|database| {
            let table = database.begin_read()?.open_table(ACKNOWLEDGED)?;
            Ok(table.get(id.to_string().as_str())?.is_some())
        })
    }

    pub(super) fn result(&self, id: RequestId) -> Result<Option<Vec<u8>>, JournalError> {
        self.file.read(|database| {
            let table = database.begin_read()?.open_table(RESULTS)?;
            Ok(table.get(id.to_string().as_str())?.map(|found| found.value().to_vec()))
        })
    }

    /// Let the thread write what is queued, and wait for it. Blocks.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If it panicked, its callers have been told `Closed`.
            let _ = thread.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl StoreFile {
    fn error(&self, error: impl std::fmt::Display) -> JournalError {
        JournalError::Storage { path: self.path.clone(), message: error.to_string() }
    }

    fn reopen(&self) -> Result<(), JournalError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Close it first: the file is locked while it is open.
        *slot = None;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| self.error(error))?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let opened = FileBackend::new(file).and_then(|backend| match self.synced {
            true => builder.create_with_backend(backend),
            false => builder.create_with_backend(NotSynced(backend)),
        });
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => JournalError::InUse(self.path.clone()),
            other => self.error(other),
        })?;
        *slot = Some(database);
        Ok(())
    }

    fn read<T>(&self, what: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, JournalError> {
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref() {
            Some(database) => what(database).map_err(|error| self.error(error)),
            None => Err(JournalError::Closed),
        }
    }

    /// Make the tables, forget what is too old, and read what is there.
    fn load(&self, database: &Database, retention: Retention, kept: &mut Kept) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            transaction.open_table(STARTED)?;
            transaction.open_table(RESULTS)?;
            transaction.open_table(REQUESTS)?;
            forget(&transaction, retention, now_ms())?;
        }
        transaction.commit()?;
        let transaction = database.begin_read()?;
        let started = transaction.open_table(STARTED)?;
        for row in transaction.open_table(REQUESTS)?.iter()? {
            let (id, entry) = row?;
            let begun = started.get(id.value())?.is_some();
            // Only we write these; what does not parse comes from a newer version of this program.
            match (id.value().parse(), serde_json::from_slice(entry.value())) {
                (Ok(id), Ok(entry)) => kept.requests.push((id, entry, begun)),
                (Ok(id), Err(_)) => kept.unreadable.push(id),
                _ => tracing::error!(
                    id = id.value(),
                    "the journal holds a request that this version can't read"
                ),
            }
        }
        for row in transaction.open_table(RESULTS)?.iter()? {
            if let Ok(id) = row?.0.value().parse() {
                kept.results.push(id);
            }
        }
        Ok(())
    }
}

fn write_loop(
    file: &StoreFile,
    mut queue: mpsc::Receiver<(Change, Reply)>,
    retention: Retention,
    marker: Option<&Path>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH {
            match queue.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        let written = write_batch(file, &batch, retention);
        if let Err(error) = &written {
            tracing::error!(%error, "cannot write the journal");
            if let Err(error) = file.reopen() {
                tracing::error!(%error, "cannot open the journal again");
            }
        }
        for (_, reply) in batch.drain(..) {
            // A caller that is gone does not wait for the answer.
            let _ = reply.send(written.clone());
        }
    }
    let closed = file.database.write().unwrap_or_else(PoisonError::into_inner).take().is_some();
    if let Some(marker) = marker
        && closed
    {
        // Closed in an orderly way: with a sync, the next boot can read it.
        let synced = std::fs::File::open(&file.path).and_then(|file| file.sync_all());
        if synced.is_ok() {
            let _ = std::fs::remove_file(marker);
        }
    }
}

fn write_batch(
    file: &StoreFile,
    batch: &[(Change, Reply)],
    retention: Retention,
) -> Result<(), JournalError> {
    file.read(|database| {
        let transaction = database.begin_write()?;
        for (change, _) in batch {
            apply(&transaction, change, retention)?;
        }
        transaction.commit()?;
        Ok(())
    })
}

fn apply(transaction: &WriteTransaction, change: &Change, retention: Retention) -> Result<(), redb::Error> {
    match change {
        Change::Accept { id, entry, started } => {
            let id = id.to_string();
            transaction.open_table(REQUESTS)?.insert(id.as_str(), entry.as_slice())?;
            if *started {
                transaction.open_table(STARTED)?.insert(id.as_str(), ())?;
            }
        }
        Change::Start { id } => {
            let id = id.to_string();
            if transaction.open_table(REQUESTS)?.get(id.as_str())?.is_some() {
                transaction.open_table(STARTED)?.insert(id.as_str(), ())?;
            }
        }
        Change::Finish { id, result } => {
            let id = id.to_string();
            transaction.open_table(REQUESTS)?.remove(id.as_str())?;
            transaction.open_table(STARTED)?.remove(id.as_str())?;
            transaction.open_table(RESULTS)?.insert(id.as_str(), result.as_slice())?;
        }
        Change::Acknowledge { id, now_ms } => {
            let id = id.to_string();
            transaction.open_table(RESULTS)?.remove(id.as_str())?;
            let now = u64::try_from(*now_ms).unwrap_or(0);
            transaction.open_table(ACKNOWLEDGED)?.insert(id.as_str(), now)?;
            transaction.open_table(BY_TIME)?.insert((now, id.as_str()), ())?;
            forget(transaction, retention, *now_ms)?;
        }
    }
    Ok(())
}

/// Forget acknowledged ids that are too old or too many.
fn forget(transaction: &WriteTransaction, retention: Retention, now_ms: i64) -> Result<(), redb::Error> {
    let mut by_time = transaction.open_table(BY_TIME)?;
    let mut acknowledged = transaction.open_table(ACKNOWLEDGED)?;
    let oldest = u64::try_from(now_ms).unwrap_or(0).saturating_sub(retention.age_ms);
    loop {
        let too_many = by_time.len()? > retention.count;
        let Some(first) = by_time.first()? else { break };
        let (time, id) = first.0.value();
        if !too_many && time >= oldest {
            break;
        }
        let (time, id) = (time, id.to_owned());
        drop(first);
        by_time.remove((time, id.as_str()))?;
        acknowledged.remove(id.as_str())?;
    }
    Ok(())
}

/// A file whose changes reach the kernel, but are not forced to the disk.
#[derive(Debug)]
struct NotSynced(FileBackend);

impl StorageBackend for NotSynced {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.0.close()
    }
    // Only the lock of the whole file: it keeps a second process away.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }
}
