//! Removing blobs and compiled code that nothing refers to.

use super::{Inner, State, blobs::Blobs};
use crate::explain::chain;
use std::collections::BTreeSet;
use windlass_bundle::{
    Image, Part,
    oci::{LAYERS, MAX_DOCUMENT_BYTES},
};
use windlass_types::Digest;

/// What is referred to.
#[derive(Debug, Default)]
struct Kept {
    blobs: BTreeSet<Digest>,
    components: BTreeSet<Digest>,
}

impl Inner {
    /// Remove what neither the ledger nor a wanted bundle nor a plugin of the node's own refers to.
    /// Nothing may be under way.
    pub(super) async fn sweep(&self, state: &State) {
        let records = state.ledger.plugins.values();
        let installed = records.flat_map(|record| record.current.iter().chain(&record.previous));
        let wanted = state.desired.iter().flat_map(|desired| desired.plugins.values().flatten());
        let bundles: BTreeSet<Digest> =
            installed.map(|slot| slot.digest).chain(wanted.map(|wanted| wanted.digest)).collect();
        let tables = self.table.now();
        let loaded: BTreeSet<Digest> =
            tables.local.values().chain(tables.managed.values()).filter_map(|item| item.component).collect();
        let blobs = self.blobs.clone();
        let sweep = move || -> Result<Kept, super::blobs::BlobError> {
            let mut kept = referred(&blobs, &bundles)?;
            let removed = blobs.retain(|digest, _| kept.blobs.contains(&digest))?;
            if removed > 0 {
                tracing::info!(blobs = removed, "removed what nothing refers to any more");
            }
            kept.components.extend(loaded);
            Ok(kept)
        };
        match tokio::task::spawn_blocking(sweep).await {
            Ok(Ok(kept)) => self.loader.prune(&kept.components).await,
            Ok(Err(error)) => tracing::warn!("cannot look for what nothing refers to: {}", chain(&error)),
            Err(error) => {
                tracing::error!("the host failed while it looked for what nothing refers to: {error}");
            }
        }
    }
}

/// All blobs of these bundles. One whose image is not here, or not whole, has no other parts yet.
fn referred(blobs: &Blobs, bundles: &BTreeSet<Digest>) -> Result<Kept, super::blobs::BlobError> {
    use super::blobs::BlobError::{Altered, Missing, TooLarge};
    let mut kept = Kept::default();
    for digest in bundles {
        kept.blobs.insert(*digest);
        let image = match blobs.read(*digest, MAX_DOCUMENT_BYTES as u64) {
            Ok(bytes) => Image::parse(&bytes).ok(),
            Err(Missing(_) | Altered { .. } | TooLarge { .. }) => None,
            // What can't be read may still be needed.
            Err(error) => return Err(error),
        };
        let Some(image) = image else { continue };
        kept.blobs.extend(LAYERS.iter().map(|part| image.layer(*part).digest));
        kept.components.insert(image.layer(Part::Component).digest);
    }
    Ok(kept)
}
