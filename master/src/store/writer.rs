//! The one writer.
//!
//! All writes go through one task, which puts what has queued up into one transaction and answers after
//! its commit. So a thousand results that arrive together cost one wait for the disk instead of a
//! thousand, a write never meets "database is locked", and the caller may tell the world as soon as
//! [`Store::write`](super::Store::write) returns. Each write has its own savepoint: one that fails takes
//! none of its neighbours with it.
//!
//! A write belongs to a term ([`Store::for_term`](super::Store::for_term)). Each transaction begins with a
//! look at who leads, and a write of a term that is over is refused unseen: a master that was paused in
//! the middle of something can't write when it wakes up, whatever it believes.
//!
//! A server may go away. What it had not committed is answered as failed, and the next group connects
//! anew. A commit that was under way is in doubt: the callers are told that it failed, and whoever keeps
//! a picture of the database in memory is told to read it again ([`Store::doubts`](super::Store::doubts)).

use super::{Access, Connection, lease, sql::query};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Writes in one transaction at most, so that the first of them does not wait for too many others.
const GROUP: usize = 256;
/// What a group may take on a server; then the connection counts as dead. Well above the
/// server's own limit for a statement.
const STALLED: Duration = Duration::from_secs(90);

/// Without a connection it is refused.
pub(super) type Work = Box<dyn for<'c> FnOnce(Option<&'c mut Connection>) -> BoxFuture<'c, Done> + Send>;
/// Whether to keep what was written, and how to answer after the commit (true) or its failure.
type Done = (bool, Reply);
type Reply = Box<dyn FnOnce(bool) + Send>;

/// A write that waits.
pub(super) struct Queued {
    pub term: Option<u64>,
    pub work: Work,
}

/// Why a group was not committed.
struct Failed {
    error: sqlx::Error,
    /// It may have been.
    doubt: bool,
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Failed { error, doubt: false }
    }
}

/// The task.
pub(super) struct Writer {
    access: Access,
    connection: Option<Connection>,
    doubt: watch::Sender<u64>,
}

impl Writer {
    pub fn new(access: Access, connection: Connection, doubt: watch::Sender<u64>) -> Self {
        Writer { access, connection: Some(connection), doubt }
    }

    /// Ends when the last store is dropped.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut group = Vec::with_capacity(GROUP);
        while queue.recv_many(&mut group, GROUP).await > 0 {
            let mut replies = Vec::with_capacity(group.len());
            let committed = self.write(&mut group, &mut replies).await;
            // Those that did not have their turn are answered by being dropped.
            group.clear();
            for reply in replies {
                reply(committed);
            }
        }
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "cannot close the database");
        }
    }

    /// Whether the group is committed.
    async fn write(&mut self, group: &mut Vec<Queued>, replies: &mut Vec<Reply>) -> bool {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => match self.access.connect().await {
                Ok(connection) => none.insert(connection),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, writes = group.len(), "cannot write to the database");
                    return false;
                }
            },
        };
        let writes = group.len();
        let mut committing = false;
        let work = write_group(connection, group, replies, &mut committing);
        let done = match &self.access {
            Access::Sqlite(_) => work.await,
            Access::Postgres(_) => match tokio::time::timeout(STALLED, work).await {
                Ok(done) => done,
                Err(_) => Err(Failed { error: sqlx::Error::PoolTimedOut, doubt: committing }),
            },
        };
        let Err(Failed { error, doubt }) = done else { return true };
        tracing::error!(%error, writes, doubt, "cannot write to the database");
        match connection {
            Connection::Sqlite(_) => {
                // It fails when the transaction is over already.
                let _ = query("ROLLBACK").execute(&mut *connection).await;
            }
            // In whatever state it is: the server rolls back what was not committed.
            Connection::Postgres(_) => self.connection = None,
        }
        if doubt {
            self.doubt.send_modify(|doubts| *doubts += 1);
        }
        false
    }
}

async fn write_group(
    connection: &mut Connection,
    group: &mut Vec<Queued>,
    replies: &mut Vec<Reply>,
    committing: &mut bool,
) -> Result<(), Failed> {
    let begin = match connection {
        Connection::Sqlite(_) => "BEGIN IMMEDIATE",
        Connection::Postgres(_) => "BEGIN",
    };
    query(begin).execute(&mut *connection).await?;
    let epoch = lease::leads(&mut *connection).await?;
    // A write by itself needs no savepoint: it is the transaction.
    let alone = group.len() == 1;
    let mut keep_any = !alone;
    for Queued { term, work } in group.drain(..) {
        if term.is_some_and(|term| term != epoch) {
            let (_, reply) = work(None).await;
            replies.push(reply);
            continue;
        }
        if alone {
            let (keep, reply) = work(Some(&mut *connection)).await;
            replies.push(reply);
            keep_any = keep;
            continue;
        }
        query("SAVEPOINT one").execute(&mut *connection).await?;
        let (keep, reply) = work(Some(&mut *connection)).await;
        replies.push(reply);
        if !keep {
            query("ROLLBACK TO SAVEPOINT one").execute(&mut *connection).await?;
        }
        query("RELEASE SAVEPOINT one").execute(&mut *connection).await?;
    }
    if !keep_any {
        query("ROLLBACK").execute(&mut *connection).await?;
        return Ok(());
    }
    *committing = true;
    match query("COMMIT").execute(&mut *connection).await {
        Ok(_) => Ok(()),
        // The database itself says that it has not.
        Err(error @ sqlx::Error::Database(_)) => Err(error.into()),
        Err(error) => Err(Failed { error, doubt: matches!(connection, Connection::Postgres(_)) }),
    }
}
