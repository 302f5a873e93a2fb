//! Bundles that a master wants on this node: fetched, verified, compiled, tried, swapped in, and taken
//! back when they fail.
//!
//! # What is promised
//! 1. What runs is complete and verified: every part has the digest that the bundle's own digest names,
//!    and signatures and rules of *this node's* trust file were met. A master chooses among what the
//!    owner's keys have signed; it can add nothing to it.
//! 2. At any moment, also after a kill or a power cut at any point, a node runs the old version or the
//!    new one, never a mixture and never neither, unless there is none it may run.
//! 3. A version that keeps failing is sent back by the node itself, with or without a master.
//! 4. Nothing here holds up operations: those that run keep the version they began with.
//!
//! # On disk
//! All of it is in `state_dir/bundles`, which only the host's user can enter:
//!
//! | file | what |
//! |---|---|
//! | `desired.pb` | the newest set a master sent ([`desired`]) |
//! | `ledger.json` | what runs, what ran before, what was rejected, what happened ([`ledger`]) |
//! | `blobs/sha256/HEX` | a complete part of a bundle ([`blobs`]) |
//! | `blobs/sha256/HEX.part` | the beginning of one |
//!
//! and beside it `compiled/`, which the compiler fills. The two single files are replaced as a whole:
//! written under another name, synced, renamed, and the folder synced.
//!
//! # The states of an install, and what a kill leaves
//! | state | on disk by then | after a kill |
//! |---|---|---|
//! | wanted | `desired.pb` | The next process reads it and begins, without a master as far as it can. |
//! | judged | – | Signatures cover name, version and digest, so they are checked before a byte is fetched: what nobody trusts takes no room. Nothing was done, so nothing is left. |
//! | fetching | `.part` files, and complete ones | A part is continued from its length and hashed from its beginning; a torn tail makes the hash wrong, and then it is fetched anew. A blob gets its name only after it was hashed and synced. |
//! | verified | all blobs | The parts are checked against each other again: cheap, and nothing is believed across a restart. |
//! | compiling | `compiled/.new-*` | The file has no name yet: it is made again, and the rest is removed. |
//! | trying | `trying` in the ledger | Written *before* new code is used for the first time. If the process ends three times in this state, the version is rejected: it must not take the host with it for ever. |
//! | active | the ledger: `current` is the new one, `previous` the old, probation begins, change noted | This one rename is the swap. Before it the old version is loaded at the next start, after it the new one; both are complete and compiled. Memory follows the disk, never the other way round. |
//! | drained | – | Operations hold on to their version; when the last has ended its memory goes. After a kill none runs. |
//! | swept | blobs and compiled files that nothing refers to are gone | Removing happens after the ledger says that nothing needs them. A file that a kill saves is removed next time. |
//!
//! A rollback is the same rename the other way. There memory goes first, if the disk is full: running a
//! version that is known to fail, because that could not be written down, would be worse. It is written
//! as soon as there is room.
//!
//! # Who decides what
//! [`converge`] is one task: it compares what is wanted with the ledger, does the first thing that is
//! due, and begins anew. One install at a time, in the order of the names: a node has two plugins to
//! update, not two hundred, and a compiler takes a whole core. What fails for reasons that go away by
//! themselves (no master, a full disk) is tried again after a pause, and the others have their turn.
//! What fails for good is written down with a digest of the request, and not tried again until something
//! about the request differs, the owner reloads (SIGHUP: the trust file may have changed), or the host
//! starts anew. A version that was *rolled back* stays back until another deployment asks for it.
//!
//! Everything that changes the ledger holds one lock, `state`, and writes the file before it lets go.
//! The counting of failures ([`Bundles::ended`]) comes from the operations themselves, so it works
//! without the task and without a master.

pub mod blobs;
mod change;
pub mod check;
mod converge;
pub mod desired;
pub mod fetch;
mod install;
pub mod ledger;
pub mod probation;
mod report;
mod start;
mod sweep;
mod trial;
pub mod verify;

pub use fetch::{Master, Source};
pub use ledger::LedgerError;
pub use trial::Trial;

use crate::{
    config::{BundleSettings, Config},
    plugins::{load::Loader, table::Table},
};
use blobs::Blobs;
use desired::{Desired, DesiredFile};
use ledger::Ledger;
use report::{Progress, Told};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use windlass_proto::v1;
use windlass_types::{Digest, OperationName, Outcome, PluginName};

/// Why bundles can't be managed on this node.
#[derive(Debug, thiserror::Error)]
pub enum BundlesError {
    #[error("cannot make the folder `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read what is installed")]
    Ledger(#[from] LedgerError),
}

/// An operation that ran when an earlier process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// The bundle it was of.
    pub digest: Digest,
    pub operation: String,
    /// When it was accepted, in milliseconds since 1970-01-01 UTC.
    pub accepted_ms: i64,
}

/// See the module. Clones share everything; with the last one the task ends.
#[derive(Clone)]
pub struct Bundles(Arc<Handle>);

struct Handle {
    inner: Arc<Inner>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Inner {
    settings: BundleSettings,
    dir: PathBuf,
    blobs: Blobs,
    desired_file: DesiredFile,
    loader: Arc<Loader>,
    table: Arc<Table>,
    state: tokio::sync::Mutex<State>,
    /// The newest set that came; the task takes it from here.
    incoming: watch::Sender<Option<Arc<v1::Desired>>>,
    source: watch::Sender<Option<Arc<dyn Source>>>,
    /// Sessions so far.
    sessions: AtomicU64,
    wake: Notify,
    /// What the inventory says, for who can't wait for `state`.
    told: Mutex<Told>,
    progress: Mutex<Option<Progress>>,
}

/// What the lock protects.
#[derive(Default)]
struct State {
    ledger: Ledger,
    /// The file is older than `ledger`.
    unsaved: bool,
    /// The newest set; none if no master ever said what it wants.
    desired: Option<Desired>,
    /// That set, if it is not on disk.
    desired_unsaved: Option<Arc<v1::Desired>>,
    desired_on_disk: u64,
    /// Installs that are to be tried again.
    tries: BTreeMap<PluginName, Try>,
    /// Plugins whose rejection this process has seen for itself, since the last reload.
    judged: BTreeSet<PluginName>,
    /// Something may be there that nothing refers to.
    litter: bool,
}

/// An install that failed for a reason that may go away.
#[derive(Debug, Clone)]
struct Try {
    request: Digest,
    failures: u32,
    /// Of the kind that is not endured for ever.
    strange: u32,
    next: Instant,
    /// It fails for want of a master: in which session that was.
    network: Option<u64>,
    problem: String,
}

impl Bundles {
    /// Bundles of this node. Nothing is read or written yet: see [`Bundles::begin`].
    pub fn new(config: &Config, loader: Arc<Loader>, table: Arc<Table>) -> Bundles {
        let dir = config.state_dir.join("bundles");
        let inner = Inner {
            settings: config.bundles.clone(),
            blobs: Blobs::new(&dir.join("blobs"), config.bundles.keep_free),
            desired_file: DesiredFile::new(&dir),
            dir,
            loader,
            table,
            state: tokio::sync::Mutex::default(),
            incoming: watch::channel(None).0,
            source: watch::channel(None).0,
            sessions: AtomicU64::new(0),
            wake: Notify::new(),
            told: Mutex::default(),
            progress: Mutex::default(),
        };
        Bundles(Arc::new(Handle { inner: Arc::new(inner), task: Mutex::default() }))
    }

    /// The state folder is this process's alone: load what is installed, count the crash of an earlier
    /// process against the versions it ran, and go on with what is wanted.
    ///
    /// # Errors
    /// If the state of this node can't be read.
    pub async fn begin(&self, interrupted: Vec<Interrupted>) -> Result<(), BundlesError> {
        let inner = &self.0.inner;
        inner.begin(interrupted).await?;
        let task = AbortOnDropHandle::new(tokio::spawn(Arc::clone(inner).converge()));
        *self.0.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }

    /// A master says what it wants here. Newer sets replace older ones that were not looked at yet.
    pub fn desired(&self, desired: v1::Desired) {
        self.0.inner.incoming.send_replace(Some(Arc::new(desired)));
        self.0.inner.wake.notify_one();
    }

    /// Where blobs are to be had; none while there is no session.
    pub fn blobs(&self, source: Option<Arc<dyn Source>>) {
        if source.is_some() {
            self.0.inner.sessions.fetch_add(1, Ordering::SeqCst);
        }
        self.0.inner.source.send_replace(source);
        self.0.inner.wake.notify_one();
    }

    /// Judge what is installed again, by the trust file as it is now, and try again what had failed.
    pub async fn reload(&self) {
        self.0.inner.reload().await;
        self.0.inner.wake.notify_one();
    }

    /// An operation of a new version has ended. Comes back when a failure is counted, on disk, and
    /// acted upon.
    pub async fn ended(&self, trial: &Trial, operation: &OperationName, outcome: &Outcome) {
        let Some(operations) = trial.count(Instant::now()) else { return };
        let Outcome::Trapped { message, .. } = outcome else { return };
        let inner = Arc::clone(&self.0.inner);
        let (name, digest) = (operation.plugin(), trial.digest());
        let what = format!("`{}` trapped: {message}", operation.local());
        // A task of its own: the caller may be cancelled, and a rollback must not stop halfway.
        let counted = tokio::spawn(async move { inner.failed(&name, digest, operations, &what).await });
        if let Err(error) = counted.await {
            tracing::error!("the host failed while it counted a failure: {error}");
        }
        self.0.inner.wake.notify_one();
    }

    /// The part of the inventory that is about managed plugins; without the plugins themselves.
    pub fn report(&self) -> v1::Inventory {
        self.0.inner.report()
    }

    /// Image, manifest and WIT of a bundle that is installed here. Blocks.
    pub fn source(&self, digest: Digest) -> Option<v1::PluginSource> {
        install::source(&self.0.inner.blobs, digest)
    }
}
