//! What can be done with a bundle in the store: found, compared, given back as a file, deleted.

use super::{Bundles, BundlesError, Change, Draft, Inner, Model, Stored, blobs::BlobError};
use crate::{
    catalog::Source,
    store::{self, StoreError},
    targets::nearest_names,
};
use serde_json::json;
use std::{collections::HashSet, sync::Arc};
use windlass_bundle::{Bundle, Package, Part, Version};
use windlass_types::{
    Digest, PluginName,
    api::bundles::{self as api, BundleDetail, BundleDifference},
    shape::Operation,
};

/// A blob without a row is left alone for so long: it may belong to an upload of another master.
const ORPHAN_MS: i64 = 3_600_000;

impl Bundles {
    /// One bundle.
    ///
    /// # Errors
    /// If there is none.
    pub fn bundle(&self, digest: Digest) -> Result<api::Bundle, BundlesError> {
        let model = self.inner.model();
        model
            .bundles
            .get(&digest)
            .map(|stored| stored.to_api())
            .ok_or_else(|| unknown(&digest.to_string(), &model))
    }

    /// Bundles by plugin and version, after a name, and those of one plugin if told.
    pub fn list(
        &self,
        plugin: Option<&PluginName>,
        after: Option<(PluginName, Version)>,
        limit: usize,
    ) -> Vec<api::Bundle> {
        let model = self.inner.model();
        model
            .versions
            .iter()
            .filter(|(name, _)| plugin.is_none_or(|plugin| plugin == *name))
            .flat_map(|(name, versions)| {
                versions.iter().map(move |(version, digest)| (name, *version, digest))
            })
            .filter(|(name, version, _)| after.as_ref().is_none_or(|(n, v)| (*name, *version) > (n, *v)))
            .filter_map(|(_, _, digest)| model.bundles.get(digest))
            .take(limit)
            .map(|stored| stored.to_api())
            .collect()
    }

    /// A bundle (digest or `name@version`) and what it may do.
    ///
    /// # Errors
    /// If there is none.
    pub fn show(&self, reference: &str) -> Result<BundleDetail, BundlesError> {
        let model = self.inner.model();
        let stored = find(&model, reference)?;
        Ok(BundleDetail {
            bundle: stored.to_api(),
            operations: stored.operations.clone(),
            capabilities: stored.capabilities.iter().map(windlass_bundle::Capability::info).collect(),
            unapproved: model.unapproved(&stored),
        })
    }

    /// A bundle as a file, with all its signatures; and how to name the file.
    ///
    /// # Errors
    /// If there is none, or a part of it is lost or damaged.
    pub async fn package(&self, reference: &str) -> Result<(String, Vec<u8>), BundlesError> {
        let stored = find(&self.inner.model(), reference)?;
        let digest = stored.digest;
        let name = format!("{}-{}.tar", stored.plugin, stored.version);
        let bundle = self.parts(&stored).await?;
        let made = tokio::task::spawn_blocking(move || {
            Some(Package::new(bundle, stored.signatures.clone()).ok()?.to_bytes())
        });
        Ok((name, made.await.ok().flatten().ok_or(BlobError::Damaged(digest))?))
    }

    /// A bundle with all of its parts; none if it is not in the store.
    ///
    /// # Errors
    /// If a part of it is lost or damaged.
    pub async fn whole(&self, digest: Digest) -> Result<Option<Bundle>, BundlesError> {
        let stored = self.inner.model().bundles.get(&digest).cloned();
        match stored {
            Some(stored) => self.parts(&stored).await.map(Some),
            None => Ok(None),
        }
    }

    async fn parts(&self, stored: &Arc<Stored>) -> Result<Bundle, BundlesError> {
        let part = async |part| {
            let digest = stored.image.layer(part).digest;
            Ok::<_, BundlesError>(self.inner.blobs.read(digest).await?.to_vec())
        };
        let _turn = self.inner.checks.acquire().await;
        let manifest = part(Part::Manifest).await?;
        let component = part(Part::Component).await?;
        let wit = part(Part::Wit).await?;
        let image = stored.clone();
        let made = tokio::task::spawn_blocking(move || {
            Bundle::from_image(&image.image, manifest, component, wit).ok()
        });
        Ok(made.await.ok().flatten().ok_or(BlobError::Damaged(stored.digest))?)
    }

    /// How two bundles differ.
    ///
    /// # Errors
    /// If there is no such bundle, or a part of it is lost.
    pub async fn difference(&self, from: &str, to: &str) -> Result<BundleDifference, BundlesError> {
        let (old, new) = {
            let model = self.inner.model();
            (find(&model, from)?, find(&model, to)?)
        };
        let (old, new) = (self.inner.source(&old).await?, self.inner.source(&new).await?);
        let operations = |source: &Source| -> Vec<Operation> {
            source.operations.values().map(|operation| operation.operation.clone()).collect()
        };
        let (had, has) = (operations(&old), operations(&new));
        Ok(windlass_describe::difference((&old.manifest, &had), (&new.manifest, &has)))
    }

    /// Forget a bundle.
    ///
    /// # Errors
    /// If there is none, or it is in use.
    pub async fn delete(&self, reference: &str, actor: &str) -> Result<(), BundlesError> {
        let (this, reference, actor) = (self.clone(), reference.to_owned(), actor.to_owned());
        crate::uncut::uncut(async move {
            let inner = &this.inner;
            let _keeping = inner.keeping.write().await;
            let _changing = inner.changing.lock().await;
            let (stored, changes) = {
                let model = inner.model();
                let stored = find(&model, &reference)?;
                let running = inner.fleet.nodes().iter().filter(|node| inner.runs(node, &stored)).count();
                let why = model.in_use(stored.digest);
                let why = why.or_else(|| (running > 0).then(|| format!("{running} nodes run it")));
                if let Some(why) = why {
                    let bundle = format!("{}@{}", stored.plugin, stored.version);
                    return Err(BundlesError::InUse { bundle, why });
                }
                let mut draft = Draft::new(&model);
                let detail = json!({ "plugin": stored.plugin, "version": stored.version.to_string() });
                draft.audit(&actor, "bundle.delete", stored.digest, detail);
                draft.changes.push(Change::DropBundle(stored.digest));
                (stored, draft.changes)
            };
            inner.commit(changes).await?;
            inner.catalog.release_kept(stored.digest);
            for blob in stored.blobs() {
                if !inner.model().has_blob(blob)
                    && let Err(error) = inner.blobs.delete(blob).await
                {
                    // It has no row any more, so it is swept.
                    tracing::warn!(%blob, error = &error as &dyn std::error::Error, "cannot delete a blob");
                }
            }
            Ok(())
        })
        .await
    }

    /// Forget what nobody needs any more: blobs without a row, old events, old deployments.
    pub(crate) async fn tidy(&self) {
        if let Err(error) = self.sweep_blobs(ORPHAN_MS).await {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot tidy up the blob store");
        }
        const KEPT_MS: i64 = 90 * 86_400_000;
        const EVENTS: u64 = 100_000;
        let before_ms = crate::now_ms() - KEPT_MS;
        loop {
            let swept: Result<u64, StoreError> = self
                .inner
                .store
                .write(move |c| {
                    Box::pin(async move {
                        Ok(store::bundles::sweep_events(c, before_ms, EVENTS).await?
                            + store::deployments::sweep(c, before_ms).await?)
                    })
                })
                .await;
            match swept {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot tidy up events and deployments");
                    return;
                }
            }
        }
    }

    /// Forget blobs that no bundle has, if they are at least so old. Gives back how many.
    pub(crate) async fn sweep_blobs(&self, older_ms: i64) -> Result<usize, super::blobs::BlobError> {
        let inner = &self.inner;
        let before_ms = crate::now_ms() - older_ms;
        // Listed first, so that an upload waits only for the deletes.
        let orphan = |digest: &Digest| !inner.model().has_blob(*digest);
        let found: HashSet<Digest> = inner
            .blobs
            .list()
            .await?
            .into_iter()
            .filter(|(digest, since_ms)| *since_ms <= before_ms && orphan(digest))
            .map(|(digest, _)| digest)
            .collect();
        if found.is_empty() {
            return Ok(0);
        }
        let _keeping = inner.keeping.write().await;
        let mut swept = 0;
        for digest in found.into_iter().filter(orphan) {
            inner.blobs.delete(digest).await?;
            swept += 1;
        }
        tracing::info!(swept, "blobs without a bundle are gone");
        Ok(swept)
    }
}

impl Inner {
    /// A bundle of a plugin, by digest or version.
    pub fn of_plugin(
        &self,
        model: &Model,
        plugin: &PluginName,
        text: &str,
    ) -> Result<Arc<Stored>, BundlesError> {
        let stored = if text.parse::<Version>().is_ok() {
            find(model, &format!("{plugin}@{text}"))?
        } else {
            find(model, text)?
        };
        if stored.plugin == *plugin {
            return Ok(stored);
        }
        let (bundle, of) = (stored.digest, stored.plugin.clone());
        Err(BundlesError::OtherPlugin { bundle, of, plugin: plugin.clone() })
    }

    /// Whether an accepted node runs this bundle.
    fn runs(&self, node: &crate::fleet::NodeRecord, stored: &Stored) -> bool {
        node.state == windlass_types::api::NodeState::Accepted
            && node
                .inventory
                .plugin(&stored.plugin)
                .is_some_and(|plugin| plugin.digest == stored.digest && !plugin.local)
    }

    async fn source(&self, stored: &Stored) -> Result<Arc<Source>, BundlesError> {
        if let Some(source) = self.catalog.source(stored.digest) {
            return Ok(source);
        }
        let [manifest, wit] = [Part::Manifest, Part::Wit].map(|part| stored.image.layer(part).digest);
        let (manifest, wit) = (self.blobs.read(manifest).await?, self.blobs.read(wit).await?);
        let source = Source::check(stored.digest, stored.image.manifest(), &manifest, &wit);
        Ok(Arc::new(source.map_err(|problem| StoreError::corrupt("bundle", problem))?))
    }
}

fn unknown(reference: &str, model: &Model) -> BundlesError {
    let bundle: String = reference.chars().take(200).collect();
    let names: Vec<String> =
        model.bundles.values().map(|stored| format!("{}@{}", stored.plugin, stored.version)).collect();
    let nearest = nearest_names(&bundle, names.iter().map(String::as_str));
    BundlesError::UnknownBundle { bundle, nearest }
}

/// A bundle by digest or `name@version`.
fn find(model: &Model, reference: &str) -> Result<Arc<Stored>, BundlesError> {
    let digest = match reference.split_once('@') {
        Some((name, version)) => {
            let name = name.parse::<PluginName>().ok();
            let version = version.parse::<Version>().ok();
            name.zip(version).and_then(|(name, version)| model.versions.get(&name)?.get(&version)).copied()
        }
        None => reference.parse().ok(),
    };
    digest.and_then(|digest| model.bundles.get(&digest)).cloned().ok_or_else(|| unknown(reference, model))
}
