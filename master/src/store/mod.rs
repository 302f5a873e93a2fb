//! The database: SQLite in WAL mode, or PostgreSQL, with one set of statements ([`sql`]).
//!
//! Many readers beside one writer ([`writer`]), on both: who writes is the one master that leads. Readers
//! see everything that a finished [`Store::write`] wrote.

pub mod audit;
pub(crate) mod bundles;
pub(crate) mod deployments;
pub mod events;
pub mod jobs;
pub mod lease;
pub mod moving;
pub mod nodes;
pub mod outputs;
pub(crate) mod plans;
pub mod roles;
pub(crate) mod rules;
pub(crate) mod schedules;
mod schema;
pub mod secrets;
pub mod sql;
pub(crate) mod status;
pub mod tokens;
pub mod users;
mod writer;

pub use sql::{Connection, Pool, Row};

use crate::config::{Config, Durability};
use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions as _, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, str::FromStr as _, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Queued, Work, Writer};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// The server could not be reached.
    #[error("cannot connect to the database at {server}")]
    Connect {
        server: String,
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the database up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// There is nothing in it.
    #[error("there is no grid in the database")]
    Blank,
    /// Its schema is not the one of this version, and was left as it is.
    #[error("the database was last used by an older version of `windlass-master`")]
    Older,
    /// Its schema is not the one of this version, and was left as it is.
    #[error("the database was last used by a newer version of `windlass-master`")]
    Newer,
    /// A row holds something that this version cannot read.
    #[error("the database holds a bad {what}: {problem}")]
    Corrupt { what: &'static str, problem: String },
    /// Another write of the same group could not be committed, the database does not answer, or the
    /// store is closing.
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
    /// What to do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            StoreError::Blank => "make a grid with `windlass-master init`",
            StoreError::Older => {
                "a master of this version brings it up to date when it starts; until then use the \
                 `windlass-master` that ran last"
            }
            StoreError::Newer => "use the `windlass-master` that ran last",
            StoreError::Connect { .. } => {
                "`windlass-master` has to reach the server that `[store] url` names"
            }
            _ => return None,
        })
    }
    /// True when somebody else held what the statement waited for.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        // PostgreSQL: lock_not_available. SQLite: SQLITE_BUSY.
        matches!(self, StoreError::Database(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| code == "55P03" || code == "5"))
    }
    /// True when a uniqueness rule of the schema was broken.
    pub fn is_unique_violation(&self) -> bool {
        matches!(self, StoreError::Database(sqlx::Error::Database(error)) if error.is_unique_violation())
    }
}

/// Writes that wait for the writer; whoever comes when it is full waits.
const QUEUE: usize = 1024;
const READERS: u32 = 4;
/// How long a reader waits for a connection to a server.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long it may take to reach a server.
const CONNECT: Duration = Duration::from_secs(5);

/// How to get a connection.
#[derive(Debug, Clone)]
enum Access {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
}

impl Access {
    fn file(path: &Path, durability: Durability) -> Self {
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
        Access::Sqlite(options)
    }

    fn server(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|source| StoreError::Connect { server: "`store.url`".into(), source })?
            .application_name("windlass-master")
            .statement_cache_capacity(256)
            .options([
                // A master that is paused in the middle of a transaction holds the lead's row: the next
                // one must not wait for it for ever.
                ("idle_in_transaction_session_timeout", "5s"),
                ("lock_timeout", "3s"),
                ("statement_timeout", "60s"),
            ]);
        Ok(Access::Postgres(options))
    }

    async fn connect(&self) -> Result<Connection, StoreError> {
        match self {
            Access::Sqlite(options) => Ok(Connection::Sqlite(options.connect().await?)),
            Access::Postgres(options) => {
                let server = || format!("{}:{}", options.get_host(), options.get_port());
                match tokio::time::timeout(CONNECT, options.connect()).await {
                    Ok(Ok(connection)) => Ok(Connection::Postgres(connection)),
                    Ok(Err(source)) => Err(StoreError::Connect { server: server(), source }),
                    Err(_) => {
                        Err(StoreError::Connect { server: server(), source: sqlx::Error::PoolTimedOut })
                    }
                }
            }
        }
    }

    async fn readers(&self) -> Result<Pool, StoreError> {
        match self {
            Access::Sqlite(options) => {
                let options = options.clone().create_if_missing(false).read_only(true);
                let pool: SqlitePool =
                    SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await?;
                Ok(Pool::Sqlite(pool))
            }
            // The first connection is made when it is needed: the server has just answered.
            Access::Postgres(options) => Ok(Pool::Postgres(
                PgPoolOptions::new()
                    .max_connections(READERS)
                    .acquire_timeout(ACQUIRE)
                    .connect_lazy_with(options.clone()),
            )),
        }
    }
}

/// The database. Clones share it.
#[derive(Clone)]
pub struct Store {
    readers: Pool,
    writer: mpsc::Sender<Queued>,
    access: Access,
    /// Counts the commits of which nobody knows whether they happened.
    doubts: watch::Receiver<u64>,
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
    /// Open the database of a configuration and bring its schema up to date. A file is made when there is
    /// none; a server has to have the database.
    ///
    /// # Errors
    /// If it can't be opened or was written by a newer version.
    pub async fn of(config: &Config) -> Result<Self, StoreError> {
        match &config.store.url {
            Some(url) => Self::server(&url.0).await,
            None => Self::open(&config.database(), config.store.durability).await,
        }
    }

    /// Open a database file.
    ///
    /// # Errors
    /// As [`Store::of`].
    pub async fn open(path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::with(Access::file(path, durability)).await
    }

    /// Open a database of a PostgreSQL server, `postgres://user@host/database`.
    ///
    /// # Errors
    /// As [`Store::of`].
    pub async fn server(url: &str) -> Result<Self, StoreError> {
        Self::with(Access::server(url)?).await
    }

    /// Open the database of a configuration as it is, for a command beside a master that may run: nothing
    /// is made, and the schema stays.
    ///
    /// # Errors
    /// If it can't be opened, or its schema is not the one of this version.
    pub async fn beside(config: &Config) -> Result<Self, StoreError> {
        let access = match &config.store.url {
            Some(url) => Access::server(&url.0)?,
            None if !config.database().exists() => return Err(StoreError::Blank),
            None => Access::file(&config.database(), config.store.durability),
        };
        let mut connection = access.connect().await?;
        schema::check(&mut connection).await?;
        Self::over(access, connection).await
    }

    async fn with(access: Access) -> Result<Self, StoreError> {
        let mut connection = access.connect().await?;
        schema::update(&mut connection).await?;
        Self::over(access, connection).await
    }

    async fn over(access: Access, connection: Connection) -> Result<Self, StoreError> {
        let readers = access.readers().await?;
        let (writer, queue) = mpsc::channel(QUEUE);
        let (doubt, doubts) = watch::channel(0);
        tokio::spawn(Writer::new(access.clone(), connection, doubt).run(queue));
        Ok(Store { readers, writer, access, doubts, term: None, newest_event: watch::Sender::new(0) })
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
    pub async fn connect(&self) -> Result<Connection, StoreError> {
        self.access.connect().await
    }

    /// Connections for reading. They see everything that a finished [`Store::write`] wrote.
    pub fn readers(&self) -> &Pool {
        &self.readers
    }

    /// The number of the newest event, from the next one on; 0 until then. It is told after the commit.
    pub fn newest_event(&self) -> watch::Receiver<i64> {
        self.newest_event.subscribe()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sql::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Counts the commits of which nobody knows whether they happened: the server was lost meanwhile.
    /// What is in memory may then differ from what is in the database, and has to be read again.
    pub fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.clone()
    }

    /// Write. Returns after the commit. If `work` fails, nothing of it is kept.
    ///
    /// # Errors
    /// The error of `work`, or [`StoreError::Closed`] when the commit failed.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
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
        self.writer.send(Queued { term: self.term, work }).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}
