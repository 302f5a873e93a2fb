//! One attempt to install a bundle: from its digest to a plugin that could be swapped in.
//!
//! It changes nothing that counts. What it leaves on disk are blobs and compiled code, which the next
//! attempt finds, and the mark that new code was about to be used.

use super::{
    Inner,
    blobs::{BlobError, Blobs},
    desired::Wanted,
    fetch::{FetchError, Size, Source, fetch},
    ledger::{Record, Slot, Trying},
    report::Stage,
    verify,
};
use crate::{
    explain::chain,
    journal::now_ms,
    plugins::load::{Loading, Unloaded},
};
use std::sync::Arc;
use tonic::Code;
use windlass_bundle::{
    Approval, Image, Manifest, Part, capabilities,
    oci::{LAYERS, MAX_DOCUMENT_BYTES},
};
use windlass_proto::v1;
use windlass_runtime::{
    CanaryError, LoadError, Plugin,
    aot::{CachedError, CompileError},
};
use windlass_types::{Digest, PluginName};

/// A version during whose first load the process ended so often is not tried again.
const MAX_TRIES: u32 = 3;
/// Capabilities that a message names; the rest is counted.
const NAMED: usize = 5;

/// A version that may be swapped in.
pub(super) struct Ready {
    pub slot: Slot,
    pub plugin: Arc<Plugin>,
    pub component: Digest,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: Kind,
    pub problem: String,
}

/// What can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wait for a master.
    Network,
    /// Wait for the node: room on its disk, its compiler.
    Node,
    /// It should not happen: try a few times.
    Strange,
    /// It stays as it is.
    Final,
}

impl Failure {
    fn new(kind: Kind, problem: impl Into<String>) -> Self {
        Failure { kind, problem: problem.into() }
    }
    fn lost(error: &tokio::task::JoinError) -> Self {
        Failure::new(Kind::Strange, format!("the host failed: {error}"))
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        let kind = match &error {
            BlobError::Io { .. } | BlobError::Full { .. } => Kind::Node,
            // Fetched again the next time.
            BlobError::Missing(_) | BlobError::Altered { .. } => Kind::Strange,
            BlobError::TooLarge { .. } => Kind::Final,
        };
        Failure::new(kind, chain(&error))
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let kind = match &error {
            FetchError::Blob(_) => {
                let FetchError::Blob(error) = error else { return Failure::new(Kind::Strange, "") };
                return error.into();
            }
            // The master has no such blob: it may get it, but not within seconds.
            FetchError::Master { status, .. } if status.code() == Code::NotFound => Kind::Node,
            FetchError::Master { .. } | FetchError::Silent(_) | FetchError::Short { .. } => Kind::Network,
            FetchError::OtherSize { .. } | FetchError::Lost(_) => Kind::Strange,
        };
        Failure::new(kind, chain(&error))
    }
}

impl From<Unloaded> for Failure {
    fn from(error: Unloaded) -> Self {
        let kind = match &error {
            Unloaded::Compile(compile) => match compile {
                CompileError::Helper { .. } | CompileError::Sandbox(_) | CompileError::Cache(_) => Kind::Node,
                CompileError::Broke { .. } | CompileError::TimedOut(_) => Kind::Strange,
                CompileError::Rejected(_) | CompileError::TooLarge(..) => Kind::Final,
            },
            Unloaded::Load(LoadError::Cached(CachedError::Io { .. } | CachedError::Unsafe { .. })) => {
                Kind::Node
            }
            Unloaded::Load(LoadError::Cached(CachedError::Changed { .. })) => Kind::Strange,
            Unloaded::Load(_) => Kind::Final,
            Unloaded::Component(_) | Unloaded::Failed(_) => Kind::Strange,
        };
        Failure::new(kind, chain(&error))
    }
}

impl Inner {
    /// Try to get this version ready. `record` is what is known of the plugin.
    pub(super) async fn attempt(&self, wanted: &Wanted, record: &Record) -> Result<Ready, Failure> {
        let name = &wanted.name;
        self.progress(name, Stage::Fetching, 0, 0);
        // All of this is known before a byte is fetched.
        verify::downgrade(record, wanted).map_err(|problem| Failure::new(Kind::Final, problem))?;
        let approval: Approval = serde_json::from_str(&wanted.approval).map_err(|error| {
            Failure::new(Kind::Final, format!("the operator's approval can't be read: {error}"))
        })?;
        let verified_ms = now_ms();
        let who = self.judge(wanted, verified_ms).await?;

        let image = self.image(wanted).await?;
        self.parts(wanted, &image).await?;
        self.progress(name, Stage::Verifying, image.size_bytes(), image.size_bytes());
        let manifest = self.verified(wanted, &image).await?;
        tracing::info!(plugin = %name, version = %wanted.version, digest = %wanted.digest, "{who}");

        self.progress(name, Stage::Compiling, image.size_bytes(), image.size_bytes());
        self.mark(wanted).await?;
        let (digest, component) = (wanted.digest, image.layer(Part::Component).digest);
        let loading =
            Loading { manifest: Arc::clone(&manifest), digest, component, approval: Some(approval.clone()) };
        let plugin = self.loader.load(loading, self.component(component)).await?;
        covers(&approval, &manifest, &plugin)?;
        self.loader.runtime().canary(&plugin).await.map_err(|error| {
            let kind = match error {
                CanaryError::Trapped { .. } => Kind::Final,
                CanaryError::TimedOut | CanaryError::Busy | CanaryError::Lost(_) => Kind::Strange,
            };
            Failure::new(kind, chain(&error))
        })?;
        let slot = Slot {
            digest,
            version: wanted.version,
            deployment: wanted.deployment.clone(),
            signatures: wanted.signatures.clone(),
            approval: wanted.approval.clone(),
            verified_ms,
        };
        Ok(Ready { slot, plugin, component })
    }

    async fn judge(&self, wanted: &Wanted, at_ms: i64) -> Result<String, Failure> {
        let (settings, wanted) = (self.settings.clone(), wanted.clone());
        let judge = move || {
            let Wanted { name, version, digest, signatures, .. } = &wanted;
            verify::signatures(&settings, name, *version, *digest, signatures, at_ms)
        };
        let judged = tokio::task::spawn_blocking(judge).await.map_err(|error| Failure::lost(&error))?;
        judged.map_err(|problem| {
            Failure::new(Kind::Final, format!("it is not trusted on this node: {problem}"))
        })
    }

    fn master(&self) -> Result<Arc<dyn Source>, Failure> {
        let source = self.source.borrow().clone();
        source.ok_or_else(|| Failure::new(Kind::Network, "waiting for a master to fetch it from"))
    }

    /// The image of the bundle, fetched if need be.
    async fn image(&self, wanted: &Wanted) -> Result<Image, Failure> {
        let limit = MAX_DOCUMENT_BYTES as u64;
        if !self.blobs.has(wanted.digest) {
            let source = self.master()?;
            fetch(&self.blobs, &*source, wanted.digest, Size::AtMost(limit), &|_, _| {}).await?;
        }
        let (blobs, digest) = (self.blobs.clone(), wanted.digest);
        let bytes = tokio::task::spawn_blocking(move || blobs.read(digest, limit))
            .await
            .map_err(|error| Failure::lost(&error))??;
        Image::parse(&bytes).map_err(|error| Failure::new(Kind::Final, chain(&error)))
    }

    /// All parts of the bundle, fetched as far as they are not here.
    async fn parts(&self, wanted: &Wanted, image: &Image) -> Result<(), Failure> {
        let total = image.size_bytes();
        let missing: Vec<Part> =
            LAYERS.into_iter().filter(|part| !self.blobs.has(image.layer(*part).digest)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let source = self.master()?;
        let lacking: u64 = missing
            .iter()
            .map(|part| {
                image.layer(*part).size.saturating_sub(self.blobs.received(image.layer(*part).digest))
            })
            .sum();
        let blobs = self.blobs.clone();
        tokio::task::spawn_blocking(move || blobs.room(lacking))
            .await
            .map_err(|error| Failure::lost(&error))??;
        let mut here: u64 =
            LAYERS.iter().filter(|part| !missing.contains(part)).map(|part| image.layer(*part).size).sum();
        for part in missing {
            let layer = image.layer(part);
            let progress = |received: u64, _: u64| {
                self.progress(&wanted.name, Stage::Fetching, here + received, total);
            };
            fetch(&self.blobs, &*source, layer.digest, Size::Exactly(layer.size), &progress).await?;
            here += layer.size;
        }
        Ok(())
    }

    /// The manifest of a bundle that is whole, and the one that was asked for. Its component stays on
    /// disk: it was hashed when it came, and is hashed again if it is read to be compiled.
    async fn verified(&self, wanted: &Wanted, image: &Image) -> Result<Arc<Manifest>, Failure> {
        let (blobs, image) = (self.blobs.clone(), image.clone());
        let read = move || -> Result<Manifest, Failure> {
            let part = |part: Part| blobs.read(image.layer(part).digest, part.max_bytes() as u64);
            let (text, wit) = (part(Part::Manifest)?, part(Part::Wit)?);
            let bad = |problem: String| Failure::new(Kind::Final, problem);
            let parsed = std::str::from_utf8(&text).map_err(|error| bad(format!("plugin.toml: {error}")))?;
            let manifest = Manifest::parse(parsed).map_err(|error| bad(chain(&error)))?;
            image.check_without_component(&manifest, &text, &wit).map_err(|error| bad(chain(&error)))?;
            let layer = image.layer(Part::Component);
            match blobs.size(layer.digest) {
                Some(size) if size == layer.size => Ok(manifest),
                Some(size) => {
                    // Damaged, most likely, which reading finds; else the image is wrong.
                    blobs.read(layer.digest, Part::Component.max_bytes() as u64)?;
                    Err(bad(format!(
                        "its image says that the component has {} bytes, and it has {size}",
                        layer.size
                    )))
                }
                None => Err(BlobError::Missing(layer.digest).into()),
            }
        };
        let manifest = tokio::task::spawn_blocking(read).await.map_err(|error| Failure::lost(&error))??;
        let Manifest { name, version, .. } = &manifest;
        if *name != wanted.name || *version != wanted.version {
            return Err(Failure::new(
                Kind::Final,
                format!("the master wants {} {}, and this is {name} {version}", wanted.name, wanted.version),
            ));
        }
        Ok(Arc::new(manifest))
    }

    /// How a component is read, if it must be compiled.
    fn component(&self, digest: Digest) -> impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static {
        let blobs = self.blobs.clone();
        move || blobs.read(digest, Part::Component.max_bytes() as u64).map_err(|error| chain(&error))
    }

    /// Note that new code is about to be used, and give up on code that ended the process before.
    async fn mark(&self, wanted: &Wanted) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        let mut next = state.ledger.clone();
        let record = next.record(&wanted.name);
        let request = wanted.request();
        let times = record.trying.as_ref().filter(|trying| trying.request == request).map_or(0, |t| t.times);
        if times >= MAX_TRIES {
            return Err(Failure::new(
                Kind::Final,
                format!("the host ended {times} times while it loaded this version for the first time"),
            ));
        }
        record.trying = Some(Trying { request, times: times + 1 });
        self.commit(&mut state, next).await.map_err(|error| Failure::new(Kind::Node, chain(&error)))
    }

    /// Load a version that was installed before, as it was approved then. No master is needed.
    ///
    /// # Errors
    /// With the reason, in words.
    pub(super) async fn load_slot(
        &self,
        name: &PluginName,
        slot: &Slot,
    ) -> Result<(Arc<Plugin>, Digest), String> {
        let (settings, blobs, name, slot) =
            (self.settings.clone(), self.blobs.clone(), name.clone(), slot.clone());
        let read = {
            let (blobs, slot) = (blobs.clone(), slot.clone());
            move || -> Result<(Arc<Manifest>, Image), String> {
                let Slot { digest, version, signatures, verified_ms, .. } = &slot;
                verify::signatures(&settings, &name, *version, *digest, signatures, *verified_ms)
                    .map_err(|problem| format!("it is not trusted on this node: {problem}"))?;
                let image = blobs.read(*digest, MAX_DOCUMENT_BYTES as u64).map_err(|error| chain(&error))?;
                let image = Image::parse(&image).map_err(|error| chain(&error))?;
                let limit = Part::Manifest.max_bytes() as u64;
                let text =
                    blobs.read(image.layer(Part::Manifest).digest, limit).map_err(|error| chain(&error))?;
                let text = String::from_utf8(text).map_err(|error| error.to_string())?;
                let manifest = Manifest::parse(&text).map_err(|error| chain(&error))?;
                if manifest.name != name || manifest.version != *version {
                    return Err(format!("it is {} {}", manifest.name, manifest.version));
                }
                Ok((Arc::new(manifest), image))
            }
        };
        let (manifest, image) =
            tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??;
        let approval: Approval = serde_json::from_str(&slot.approval).map_err(|error| error.to_string())?;
        let component = image.layer(Part::Component).digest;
        let loading = Loading { manifest, digest: slot.digest, component, approval: Some(approval) };
        let plugin =
            self.loader.load(loading, self.component(component)).await.map_err(|error| chain(&error))?;
        Ok((plugin, component))
    }
}

/// Whether the operator approved all that the plugin asks for.
fn covers(approval: &Approval, manifest: &Manifest, plugin: &Plugin) -> Result<(), Failure> {
    let asked = capabilities(manifest, plugin.operations().keys().map(String::as_str));
    let missing = approval.missing(&asked);
    if missing.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> = missing.iter().take(NAMED).map(ToString::to_string).collect();
    if missing.len() > NAMED {
        named.push(format!("and {} more", missing.len() - NAMED));
    }
    Err(Failure::new(Kind::Final, format!("it asks for more than was approved: {}", named.join("; "))))
}

/// Image, manifest and WIT of a bundle among the blobs. Blocks.
pub(super) fn source(blobs: &Blobs, digest: Digest) -> Option<v1::PluginSource> {
    let image = Image::parse(&blobs.read(digest, MAX_DOCUMENT_BYTES as u64).ok()?).ok()?;
    let part = |part: Part| blobs.read(image.layer(part).digest, part.max_bytes() as u64).ok();
    Some(v1::PluginSource {
        digest: digest.to_string(),
        wit: part(Part::Wit)?.into(),
        manifest: part(Part::Manifest)?.into(),
        image: image.manifest().to_vec().into(),
    })
}
