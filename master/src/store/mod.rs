//! The database.
//!
//! SQLite in WAL mode: many readers beside one writer. All writes go through one task, which puts
//! what has queued up into one transaction and answers after its commit. So a thousand results
//! that arrive together cost one wait for the disk instead of a thousand, a write never meets
//! "database is locked", and the caller may tell the world as soon as [`Store::write`] returns.
//! Each write has its own savepoint: one that fails takes none of its neighbours with it.
//!
//! A write belongs to a term ([`Store::for_term`]). Each transaction begins with a look at who leads, and
//! a write of a term that is over is refused unseen: a master that was paused in the middle of something
//! can't write when it wakes up, whatever it believes.

pub mod audit;
pub(crate) mod bundles;
pub(crate) mod deployments;
pub mod events;
pub mod jobs;
pub mod lease;
pub mod nodes;
pub mod tokens;

use crate::config::Durability;
use futures_util::future::BoxFuture;
use sqlx::{
    Connection as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds something that this version cannot read.
    #[error("the database holds a bad {what}: {problem}")]
    Corrupt { what: &'static str, problem: String },
    /// Another write of the same group could not be committed, or the store is closing.
    #[error("the database is closed or cannot commit")]
    Closed,
    /// The write belongs to a term that is over.
    #[error("this master does not lead any more")]
    NotLeading,
}

impl StoreError {
    /// A row that cannot be read.
    pub fn corrupt(what: &'static str, problem: impl std::fmt::Display) -> Self {
        StoreError::Corrupt { what, problem: problem.to_string() }
    }
    /// True when a uniqueness rule of the schema was broken.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, StoreError::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

/// Writes that wait for the writer; whoever comes when it is full waits.
const QUEUE: usize = 1024;
/// Writes in one transaction at most, so that the first of them does not wait for too many others.
const GROUP: usize = 256;
const READERS: u32 = 4;

/// Without a connection it is refused.
type Work = Box<dyn for<'c> FnOnce(Option<&'c mut SqliteConnection>) -> BoxFuture<'c, Done> + Send>;
/// Whether to keep what was written, and how to answer after the commit (true) or its failure.
type Done = (bool, Box<dyn FnOnce(bool) + Send>);

/// The database. Clones share it.
#[derive(Clone)]
pub struct Store {
    readers: SqlitePool,
    writer: mpsc::Sender<(Option<u64>, Work)>,
    options: SqliteConnectOptions,
    /// Whose writes these are; none is asked where no master runs.
    term: Option<u64>,
    /// The number of the newest event that was written since the start.
    newest_event: watch::Sender<i64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Open the database, making it when there is none, and bring its schema up to date.
    ///
    /// # Errors
    /// If it can't be opened or was written by a newer version.
    pub async fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match durability {
                Durability::Power => SqliteSynchronous::Full,
                Durability::Process => SqliteSynchronous::Normal,
            })
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
            .statement_cache_capacity(256);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::migrate!().run(&mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.clone().create_if_missing(false).read_only(true))
            .await?;
        let (writer, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write_loop(connection, queue));
        Ok(Store { readers, writer, options, term: None, newest_event: watch::Sender::new(0) })
    }

    /// The same database for the term of this epoch: once that is over, every write is refused.
    #[must_use]
    pub fn for_term(&self, epoch: u64) -> Self {
        Store { term: Some(epoch), ..self.clone() }
    }

    /// One more connection, for what must not wait behind the writes.
    ///
    /// # Errors
    /// If there can't be one.
    pub async fn connect(&self) -> Result<SqliteConnection, StoreError> {
        Ok(SqliteConnection::connect_with(&self.options).await?)
    }

    /// Connections for reading. They see everything that a finished [`Store::write`] wrote.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The number of the newest event, from the next one on; 0 until then. It is told after the commit.
    pub fn newest_event(&self) -> watch::Receiver<i64> {
        self.newest_event.subscribe()
    }

    /// Write. Returns after the commit. If `work` fails, nothing of it is kept.
    ///
    /// # Errors
    /// The error of `work`, or [`StoreError::Closed`] when the commit failed.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let newest_event = self.newest_event.clone();
        let work: Work = Box::new(move |connection| {
            let running = connection.map(work);
            Box::pin(async move {
                let (result, appended) = match running {
                    Some(running) => events::noting(running).await,
                    None => (Err(StoreError::NotLeading.into()), 0),
                };
                let keep = result.is_ok();
                let reply: Box<dyn FnOnce(bool) + Send> = Box::new(move |committed| {
                    if keep && committed && appended > 0 {
                        newest_event.send_replace(appended);
                    }
                    let result = if keep && !committed { Err(StoreError::Closed.into()) } else { result };
                    // Nobody waits any more: the write stays, as if the answer had been lost.
                    let _ = answer.send(result);
                });
                (keep, reply)
            })
        });
        self.writer.send((self.term, work)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

/// Ends when the last [`Store`] is dropped.
async fn write_loop(mut connection: SqliteConnection, mut queue: mpsc::Receiver<(Option<u64>, Work)>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        let mut replies = Vec::with_capacity(group.len());
        let committed = write_group(&mut connection, group.drain(..), &mut replies).await;
        if let Err(error) = &committed {
            tracing::error!(%error, writes = replies.len(), "cannot write to the database");
            let _ = sqlx::query("ROLLBACK").execute(&mut connection).await;
        }
        for reply in replies {
            reply(committed.is_ok());
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "cannot close the database");
    }
}

async fn write_group(
    connection: &mut SqliteConnection,
    group: impl Iterator<Item = (Option<u64>, Work)>,
    replies: &mut Vec<Box<dyn FnOnce(bool) + Send>>,
) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let epoch = lease::leads(&mut *connection).await?;
    for (term, work) in group {
        if term.is_some_and(|term| term != epoch) {
            let (_, reply) = work(None).await;
            replies.push(reply);
            continue;
        }
        sqlx::query("SAVEPOINT one").execute(&mut *connection).await?;
        let (keep, reply) = work(Some(&mut *connection)).await;
        replies.push(reply);
        if !keep {
            sqlx::query("ROLLBACK TO one").execute(&mut *connection).await?;
        }
        sqlx::query("RELEASE one").execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}
