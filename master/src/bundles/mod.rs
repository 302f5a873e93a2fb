//! Bundles: kept, approved, and given to nodes.
//!
//! * [`blobs`]: the parts of bundles, by digest, outside the database.
//! * `upload`: from a stream of bytes to a bundle in the store. `stored`: what can be done with one then.
//! * `model`: all of it in memory, and the changes it goes through. `commit`: writes them.
//! * `approve`: what operators let a plugin do. `pins`: single nodes that stay where they are.
//! * `desired`: what goes to each node. `events`: what nodes say has happened.
//! * `show`: what the API shows. [`crate::deployments`]: how a bundle gets to many nodes.
//!
//! **Order.** A part of a bundle is in the blob store before the row that names it is committed, and
//! the row is gone before a part is. So a row never names a part that is not there; what a crash
//! between the two leaves is a blob without a row, and such blobs are swept. Uploads and the sweep
//! exclude each other, since a blob that is about to get its row looks like one that has none.
//!
//! **One change at a time.** Every decision is made under one lock, from the memory, committed in one
//! transaction together with its entry in the audit log, and only then applied to the memory and
//! sent. Changes of this kind are rare (operators, and the ticks of deployments), so the lock costs
//! nothing, and no two deployments can interleave. Who changes something runs to its end though its
//! client goes away ([`crate::uncut`]).
//!
//! **What a node is wanted to run** is a row for each node and plugin, and a revision for each node
//! that grows with each change. A node without a revision has never been given anything, and is sent
//! nothing: a master that lost its database must not empty the grid. The revision is at least the
//! time in milliseconds, so that it also grows across a database restored from a copy.

mod approve;
pub mod blobs;
mod commit;
mod desired;
mod error;
mod events;
mod model;
mod pins;
mod show;
mod stored;
mod upload;

pub(crate) use commit::{Draft, Wanted};
pub(crate) use desired::held;
pub use error::BundlesError;
pub(crate) use error::state_word;
pub(crate) use events::NodeChange;
pub(crate) use model::{Approved, Assignment, Change, Fallback, Model, Stored};
pub use upload::Uploaded;

use crate::{
    catalog::Catalog,
    config::Config,
    fleet::Fleet,
    store::{self, Store},
};
use blobs::{BlobError, Blobs};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::Instant,
};
use windlass_types::{Digest, NodeId};

/// Bundles looked into at once: each may take a few hundred megabytes while it is decoded.
const CHECKS: usize = 2;
/// Uploads at once; more wait.
const UPLOADS: usize = 4;
/// Blobs on their way to hosts at once; more wait.
const FETCHES: usize = 64;

/// Times.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// How long after its start a master waits for hosts to come back before their absence means
    /// anything.
    pub reconnect: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { reconnect: Duration::from_secs(30) }
    }
}

/// The bundles. Clones share them.
#[derive(Debug, Clone)]
pub struct Bundles {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub options: Options,
    pub store: Store,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub blobs: Blobs,
    /// Where uploads grow.
    uploads_dir: PathBuf,
    model: RwLock<Model>,
    /// Held by whoever decides and changes.
    pub changing: tokio::sync::Mutex<()>,
    /// Shared by who puts blobs and then names them; held alone by who deletes some.
    keeping: tokio::sync::RwLock<()>,
    /// What was sent last: the session and the revision.
    sent: Mutex<HashMap<NodeId, (u64, u64)>>,
    /// The newest event of each node that is in the store.
    events: Mutex<HashMap<NodeId, events::Newest>>,
    /// Counts changes of deployments.
    pub changed: watch::Sender<u64>,
    /// There may be something to do for deployments.
    pub wake: Notify,
    pub started: Instant,
    /// The wall clock at `started`: later jumps of it do not move deadlines.
    started_ms: i64,
    checks: Semaphore,
    uploads: Semaphore,
    pub fetches: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why the bundles could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("cannot make the folder for uploads")]
    Uploads(#[source] std::io::Error),
}

impl Bundles {
    /// Load what is known.
    ///
    /// # Errors
    /// If the store or the blob store can't be used.
    pub async fn open(
        config: &Config,
        store: Store,
        fleet: Fleet,
        catalog: Catalog,
    ) -> Result<Self, OpenError> {
        Self::open_with(Options::default(), config, store, fleet, catalog).await
    }

    pub(crate) async fn open_with(
        options: Options,
        config: &Config,
        store: Store,
        fleet: Fleet,
        catalog: Catalog,
    ) -> Result<Self, OpenError> {
        let blobs = Blobs::open(&config.blobs, &config.data_dir)?;
        // What is in there belongs to a process that is gone.
        let uploads_dir = config.data_dir.join("uploads");
        let _ = std::fs::remove_dir_all(&uploads_dir);
        std::fs::create_dir_all(&uploads_dir).map_err(OpenError::Uploads)?;
        let model = store::bundles::load(&store).await?;
        catalog.keep(model.bundles.keys().copied());
        let newest = store::bundles::newest_events(&store).await?;
        let inner = Inner {
            options,
            store,
            fleet,
            catalog,
            blobs,
            uploads_dir,
            model: RwLock::new(model),
            changing: tokio::sync::Mutex::new(()),
            keeping: tokio::sync::RwLock::new(()),
            sent: Mutex::default(),
            events: Mutex::new(newest.into_iter().map(|(node, at)| (node, events::Newest::at(at))).collect()),
            changed: watch::Sender::new(0),
            wake: Notify::new(),
            started: Instant::now(),
            started_ms: crate::now_ms(),
            checks: Semaphore::new(CHECKS),
            uploads: Semaphore::new(UPLOADS),
            fetches: Arc::new(Semaphore::new(FETCHES)),
        };
        Ok(Bundles { inner: Arc::new(inner) })
    }

    /// Whether a bundle of the store has this blob: only then a host may have it.
    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        self.inner.model().has_blob(digest)
    }
}

impl Inner {
    pub fn model(&self) -> RwLockReadGuard<'_, Model> {
        self.model.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by a clock that does not jump.
    pub fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_ms.saturating_add(passed)
    }
}
