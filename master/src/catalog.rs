//! The operations that nodes offer.
//!
//! A node says which bundles it has by digest. The documentation and types of a bundle are fetched
//! once, from one of the nodes that have it. Nothing a host sends about a bundle is believed
//! without proof: the digest of a bundle is that of its OCI image manifest, which holds the digests
//! of its parts, so manifest and WIT are taken only if they lead to the digest that was asked for,
//! and no host can put other words or a milder effect beside a bundle that other nodes run. Of a
//! bundle in the master's own store no host is asked: its source came with the upload.
//!
//! An operation is listed with the type that most nodes have. Its effect, which decides who may run
//! it, is the strongest that any bundle in use with that type declares.

mod listing;
mod source;

use crate::{
    fleet::Fleet,
    store::{self, Store, StoreError, nodes::SourceRow},
};
pub(crate) use source::Source;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use windlass_proto::v1::{PluginSource, WantPlugin, master_message::Kind};
use windlass_types::{Digest, NodeId, OperationName, api::OperationInfo};

/// Another node is asked when the first has not answered by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sources checked at once: each may take tens of megabytes while it is decoded.
const CHECKS: usize = 2;

type Operations = Arc<BTreeMap<OperationName, Arc<OperationInfo>>>;

/// The operations. Clones share them.
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    fleet: Fleet,
    sources: RwLock<HashMap<Digest, Arc<Source>>>,
    wanted: Mutex<HashMap<Digest, Want>>,
    /// Bundles of the store: their sources stay, whoever has them.
    kept: Mutex<HashSet<Digest>>,
    /// The list, and the fleet's number it was made at.
    listed: Mutex<Option<(u64, Operations)>>,
    checks: tokio::sync::Semaphore,
}

/// A source we do not have.
#[derive(Debug, Default)]
struct Want {
    asked: Option<(NodeId, Instant)>,
    /// Nodes that sent something else.
    failed: HashSet<NodeId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    /// Load the known plugin sources.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(store: Store, fleet: Fleet) -> Result<Self, StoreError> {
        let mut sources = HashMap::new();
        for row in store::nodes::load_sources(&store).await? {
            let digest = row.digest;
            match Source::check(digest, &row.image, &row.manifest, &row.wit) {
                Ok(source) => drop(sources.insert(digest, Arc::new(source))),
                // A version of ours that reads less than the one before: some node will be asked again.
                Err(problem) => tracing::warn!(%digest, problem, "cannot read a plugin source"),
            }
        }
        let inner = Inner {
            store,
            fleet,
            sources: RwLock::new(sources),
            wanted: Mutex::default(),
            kept: Mutex::default(),
            listed: Mutex::default(),
            checks: tokio::sync::Semaphore::new(CHECKS),
        };
        Ok(Catalog { inner: Arc::new(inner) })
    }

    /// All operations that at least one accepted node offers, by name. Cheap while nothing changes.
    pub fn operations(&self) -> Operations {
        let offers = self.inner.fleet.offers();
        let mut listed = lock(&self.inner.listed);
        if let Some((at, operations)) = &*listed
            && *at == offers
        {
            return operations.clone();
        }
        let sources = self.inner.sources.read().unwrap_or_else(PoisonError::into_inner);
        let operations = Arc::new(listing::list(&self.inner.fleet.nodes(), &sources));
        *listed = Some((offers, operations.clone()));
        operations
    }

    /// One operation.
    pub fn operation(&self, name: &OperationName) -> Option<Arc<OperationInfo>> {
        self.operations().get(name).cloned()
    }

    /// What is known of a bundle.
    pub(crate) fn source(&self, digest: Digest) -> Option<Arc<Source>> {
        self.inner.sources.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    /// The version of a bundle, if it is known.
    pub fn version(&self, digest: Digest) -> Option<String> {
        self.source(digest).map(|source| source.version.to_string())
    }

    /// Bundles of the store: no host has to be asked for them.
    pub(crate) fn keep(&self, digests: impl IntoIterator<Item = Digest>) {
        lock(&self.inner.kept).extend(digests);
    }

    /// A bundle came into the store, and its source with it.
    pub(crate) fn add(&self, digest: Digest, source: Source) {
        self.keep([digest]);
        lock(&self.inner.wanted).remove(&digest);
        self.inner
            .sources
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(digest)
            .or_insert_with(|| Arc::new(source));
        *lock(&self.inner.listed) = None;
    }

    /// A bundle left the store. Its source stays for as long as a node has it.
    pub(crate) fn release_kept(&self, digest: Digest) {
        lock(&self.inner.kept).remove(&digest);
    }

    fn knows(&self, digest: Digest) -> bool {
        self.inner.sources.read().unwrap_or_else(PoisonError::into_inner).contains_key(&digest)
    }

    /// Ask a node for the sources it has and we have not.
    pub(crate) async fn look_for(&self, node: NodeId) {
        let Some(record) = self.inner.fleet.node(node) else { return };
        for plugin in &record.inventory.plugins {
            if !self.knows(plugin.digest) {
                self.ask(plugin.digest, node);
            }
        }
    }

    /// Ask this node for a source, unless another one has just been asked. True if it was.
    fn ask(&self, digest: Digest, node: NodeId) -> bool {
        let mut wanted = lock(&self.inner.wanted);
        let want = wanted.entry(digest).or_default();
        if want.asked.is_some_and(|(_, at)| at.elapsed() < PATIENCE) || want.failed.contains(&node) {
            return false;
        }
        let message = Kind::WantPlugin(WantPlugin { digest: digest.to_string() });
        let sent = self.inner.fleet.send(node, message).is_ok();
        want.asked = sent.then(|| (node, Instant::now()));
        sent
    }

    /// Ask any node that has it.
    fn ask_around(&self, digest: Digest) {
        let has = |node: &&Arc<crate::fleet::NodeRecord>| {
            node.online() && node.inventory.plugins.iter().any(|plugin| plugin.digest == digest)
        };
        let nodes = self.inner.fleet.nodes();
        if !nodes.iter().filter(has).any(|node| self.ask(digest, node.id)) && !nodes.iter().any(|n| has(&n)) {
            lock(&self.inner.wanted).remove(&digest);
        }
    }

    /// A node has gone: what it was asked for is asked of others.
    pub(crate) fn gone(&self, node: NodeId) {
        self.release(|asked, _| asked == node);
    }

    fn release(&self, which: impl Fn(NodeId, Instant) -> bool) {
        let mut released = Vec::new();
        for (digest, want) in lock(&self.inner.wanted).iter_mut() {
            if want.asked.is_some_and(|(node, at)| which(node, at)) {
                want.asked = None;
                released.push(*digest);
            }
        }
        for digest in released {
            self.ask_around(digest);
        }
    }

    /// A node sent a source. Only what it was asked for is looked at.
    pub(crate) async fn offer(&self, node: NodeId, message: PluginSource) {
        let Ok(digest) = message.digest.parse::<Digest>() else { return };
        let asked = |want: &Want| want.asked.is_some_and(|(asked, _)| asked == node);
        if !lock(&self.inner.wanted).get(&digest).is_some_and(asked) {
            tracing::debug!(%node, %digest, "a plugin source that was not asked for");
            return;
        }
        match self.check(digest, message).await {
            Ok((source, row)) => {
                let stored: Result<(), StoreError> = self
                    .inner
                    .store
                    .write(move |c| Box::pin(async move { store::nodes::insert_source(c, &row).await }))
                    .await;
                if let Err(error) = stored {
                    // It works without until the next start.
                    tracing::error!(%digest, %error, "cannot store a plugin source");
                }
                tracing::info!(%digest, plugin = %source.plugin, version = %source.version, "new plugin");
                lock(&self.inner.wanted).remove(&digest);
                {
                    let mut sources = self.inner.sources.write().unwrap_or_else(PoisonError::into_inner);
                    sources.entry(digest).or_insert_with(|| Arc::new(source));
                }
                *lock(&self.inner.listed) = None;
            }
            Err(problem) => {
                tracing::warn!(%node, %digest, problem, "a node sent a bad plugin source");
                if let Some(want) = lock(&self.inner.wanted).get_mut(&digest) {
                    want.failed.insert(node);
                    want.asked = None;
                }
                self.ask_around(digest);
            }
        }
    }

    async fn check(&self, digest: Digest, message: PluginSource) -> Result<(Source, SourceRow), String> {
        let _permit = self.inner.checks.acquire().await.map_err(|error| error.to_string())?;
        let PluginSource { image, manifest, wit, .. } = message;
        tokio::task::spawn_blocking(move || {
            let source = Source::check(digest, &image, &manifest, &wit)?;
            let row = SourceRow { digest, image: image.into(), manifest: manifest.into(), wit: wit.into() };
            Ok((source, row))
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Ask others where a node does not answer, and forget what no node has any more.
    pub(crate) async fn tend(self, shutdown: CancellationToken) {
        const TICK: Duration = Duration::from_secs(10);
        const TICKS_BETWEEN_SWEEPS: u32 = 360;
        let mut tick = tokio::time::interval(TICK);
        let mut ticks = 0;
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.release(|_, at| at.elapsed() >= PATIENCE);
            ticks += 1;
            if ticks % TICKS_BETWEEN_SWEEPS == 0 {
                self.sweep().await;
            }
        }
    }

    async fn sweep(&self) {
        let nodes = self.inner.fleet.nodes();
        let mut used: HashSet<Digest> =
            nodes.iter().flat_map(|node| &node.inventory.plugins).map(|plugin| plugin.digest).collect();
        used.extend(lock(&self.inner.kept).iter());
        let mut unused = Vec::new();
        self.inner.sources.write().unwrap_or_else(PoisonError::into_inner).retain(|digest, _| {
            let keep = used.contains(digest);
            if !keep {
                unused.push(*digest);
            }
            keep
        });
        lock(&self.inner.wanted).retain(|digest, _| used.contains(digest));
        let deleted: Result<(), StoreError> = self
            .inner
            .store
            .write(move |c| {
                Box::pin(async move {
                    for digest in unused {
                        store::nodes::delete_source(c, digest).await?;
                    }
                    Ok(())
                })
            })
            .await;
        if let Err(error) = deleted {
            tracing::error!(%error, "cannot tidy up plugin sources");
        }
    }
}
