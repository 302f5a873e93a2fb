//! From a stream of bytes to a bundle in the store.
//!
//! The bytes grow in a file, never in memory, up to the size of the largest package. Reading and
//! checking it is work for a blocking thread, and few of those at once, since it is memory and
//! processor that an uploader decides about. The parts are put as blobs first; the row, the
//! signatures, the source for the catalog and the audit entry are one transaction.

use super::{Bundles, BundlesError, Change, Stored, commit::Draft};
use crate::{catalog::Source, store::nodes::SourceRow};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt as _;
use windlass_bundle::{
    Bundle, Package, capabilities,
    oci::{MAX_PACKAGE_BYTES, MAX_SIGNATURES},
    signature::Signature,
};
use windlass_types::{
    api::bundles::{self as api, BundleOperation},
    shape::Operation,
};

/// A client that sends nothing for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(30);

/// What an upload came to.
#[derive(Debug)]
pub struct Uploaded {
    pub bundle: api::Bundle,
    /// It was not there before.
    pub new: bool,
}

impl Bundles {
    /// Take a package in.
    ///
    /// # Errors
    /// If it does not come whole, is none, holds a bad bundle, or its version is taken.
    pub async fn upload<E: std::fmt::Display>(
        &self,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send,
        actor: &str,
    ) -> Result<Uploaded, BundlesError> {
        let inner = &self.inner;
        let _turn =
            inner.uploads.acquire().await.map_err(|error| BundlesError::Incomplete(error.to_string()))?;
        let file = tempfile::NamedTempFile::new_in(&inner.uploads_dir).map_err(BundlesError::Disk)?;
        receive(bytes, file.path()).await?;
        let checked = {
            let _turn =
                inner.checks.acquire().await.map_err(|error| BundlesError::Incomplete(error.to_string()))?;
            let actor = actor.to_owned();
            tokio::task::spawn_blocking(move || check(&file, &actor))
                .await
                .unwrap_or_else(|error| Err(BundlesError::Incomplete(error.to_string())))?
        };
        let (this, actor) = (self.clone(), actor.to_owned());
        crate::uncut::uncut(async move { this.keep(checked, &actor).await }).await
    }

    async fn keep(&self, checked: Checked, actor: &str) -> Result<Uploaded, BundlesError> {
        let inner = &self.inner;
        let Checked { stored, bundle, source, row } = checked;
        let _keeping = inner.keeping.read().await;
        // A look before the blobs, so that a name that is taken costs no space.
        inner.known(&stored)?;
        for part in [stored.image.manifest().to_vec(), bundle.component, bundle.manifest_text, bundle.wit] {
            inner.blobs.put(part).await?;
        }
        let _changing = inner.changing.lock().await;
        let digest = stored.digest;
        let changes = {
            let model = inner.model();
            let mut draft = Draft::new(&model);
            let detail = json!({
                "plugin": stored.plugin, "version": stored.version.to_string(),
                "signatures": stored.signatures.iter().map(Signature::key).collect::<Vec<_>>(),
            });
            match inner.known(&stored)? {
                None => {
                    draft.audit(actor, "bundle.upload", digest, detail);
                    draft.changes.push(Change::Bundle(Arc::new(stored), Arc::new(row)));
                }
                Some(known) => {
                    let added = newer(&known, &stored.signatures)?;
                    if !added.is_empty() {
                        draft.audit(actor, "bundle.sign", digest, detail);
                        // Hosts get to know them with the next set.
                        let plugin = &stored.plugin;
                        let running = model.sets.iter().filter(|(_, set)| {
                            set.plugins.get(plugin).is_some_and(|wanted| wanted.digest == Some(digest))
                        });
                        for node in running.map(|(node, _)| *node).collect::<Vec<_>>() {
                            draft.bump(node);
                        }
                    }
                    let added =
                        added.into_iter().map(|signature| Change::Signature(digest, Arc::new(signature)));
                    draft.changes.extend(added);
                }
            }
            draft.changes
        };
        let new = changes.iter().any(|change| matches!(change, Change::Bundle(..)));
        // Before the row, so that no sweep takes the source away that comes with it.
        inner.catalog.keep([digest]);
        inner.commit(changes).await?;
        inner.catalog.add(digest, source);
        let bundle = self.bundle(digest)?;
        tracing::info!(plugin = %bundle.plugin, version = bundle.version, %digest, new, "bundle uploaded");
        Ok(Uploaded { bundle, new })
    }
}

impl super::Inner {
    /// The bundle of the same name and version, if it is the same.
    fn known(&self, stored: &Stored) -> Result<Option<Arc<Stored>>, BundlesError> {
        let model = self.model();
        let found = model.versions.get(&stored.plugin).and_then(|versions| versions.get(&stored.version));
        match found {
            Some(digest) if *digest == stored.digest => Ok(model.bundles.get(digest).cloned()),
            Some(digest) => Err(BundlesError::VersionTaken {
                plugin: stored.plugin.clone(),
                version: stored.version.to_string(),
                stored: *digest,
                given: stored.digest,
            }),
            None => Ok(None),
        }
    }
}

/// Signatures that a bundle does not have yet, or has older ones of.
fn newer(known: &Stored, given: &[Signature]) -> Result<Vec<Signature>, BundlesError> {
    let mut count = known.signatures.len();
    let mut added = Vec::new();
    for signature in given {
        let older = known.signatures.iter().find(|other| other.key() == signature.key());
        match older {
            Some(older) if older.statement.signed_ms >= signature.statement.signed_ms => continue,
            Some(_) => {}
            None if count >= MAX_SIGNATURES => return Err(BundlesError::TooManySignatures(known.digest)),
            None => count += 1,
        }
        added.push(signature.clone());
    }
    Ok(added)
}

async fn receive<E: std::fmt::Display>(
    bytes: impl Stream<Item = Result<Bytes, E>> + Send,
    path: &std::path::Path,
) -> Result<(), BundlesError> {
    let mut file = tokio::fs::OpenOptions::new().write(true).open(path).await.map_err(BundlesError::Disk)?;
    let mut bytes = std::pin::pin!(bytes);
    let mut size = 0_u64;
    loop {
        let next = tokio::time::timeout(SILENCE, bytes.next()).await;
        let chunk = match next {
            Err(_) => return Err(BundlesError::Incomplete("nothing came for 30 seconds".into())),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(BundlesError::Incomplete(error.to_string())),
            Ok(Some(Ok(chunk))) => chunk,
        };
        size += chunk.len() as u64;
        if size > MAX_PACKAGE_BYTES {
            return Err(BundlesError::TooLarge(MAX_PACKAGE_BYTES >> 20));
        }
        file.write_all(&chunk).await.map_err(BundlesError::Disk)?;
    }
    file.flush().await.map_err(BundlesError::Disk)
}

/// A bundle that may be kept.
struct Checked {
    stored: Stored,
    bundle: Bundle,
    source: Source,
    row: SourceRow,
}

fn check(file: &tempfile::NamedTempFile, actor: &str) -> Result<Checked, BundlesError> {
    let package = Package::open(file.path()).map_err(BundlesError::Package)?;
    let signatures = package.signatures().to_vec();
    let bundle = package.bundle;
    let (operations, _) = windlass_describe::pack::check(&bundle).map_err(BundlesError::Bundle)?;
    let manifest = bundle.manifest.clone();
    let image = bundle.image();
    let names = operations.iter().map(|operation| operation.name.local());
    let stored = Stored {
        digest: bundle.digest,
        plugin: manifest.name.clone(),
        version: manifest.version,
        description: manifest.description.clone(),
        size_bytes: image.size_bytes(),
        operations: operations.iter().map(|operation| describe(&manifest, operation)).collect(),
        capabilities: capabilities(&manifest, names),
        signatures,
        created_by: actor.to_owned(),
        created_ms: crate::now_ms(),
        image: image.clone(),
    };
    let row = SourceRow {
        digest: bundle.digest,
        manifest: bundle.manifest_text.clone(),
        wit: bundle.wit.clone(),
        image: image.manifest().to_vec(),
    };
    Ok(Checked { stored, source: Source::new(manifest, operations), bundle, row })
}

fn describe(manifest: &windlass_bundle::Manifest, operation: &Operation) -> BundleOperation {
    let name = operation.name.local().to_owned();
    let policy = manifest.operation(&name);
    BundleOperation {
        effect: policy.effect,
        timeout_ms: u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX),
        signature: operation.signature.brief(),
        type_digest: operation.signature.digest(),
        summary: operation.docs.lines().next().unwrap_or_default().to_owned(),
        name,
    }
}
