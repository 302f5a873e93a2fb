//! What the host needs of whatever runs its plugins.

use crate::{
    bundles::{BundlesError, Interrupted, Source},
    jobs::Executor,
    watches::Watch,
};
use std::{pin::Pin, sync::Arc};
use tokio::sync::watch;
use windlass_proto::v1::{Desired, Inventory, PluginSource};
use windlass_types::{Digest, NodeId};

/// Says which plugins there are.
pub trait Catalogue: Send + Sync + 'static {
    /// All plugins of this node, those that can't be used too.
    fn inventory(&self) -> Inventory;
    /// Manifest and WIT of a bundle of this node. Read from disk: blocks.
    fn source(&self, digest: Digest) -> Option<PluginSource>;
    /// Changes when the inventory does.
    fn changes(&self) -> watch::Receiver<u64>;
    /// What the plugins that can be called want repeated.
    fn watches(&self) -> Vec<Watch> {
        Vec::new()
    }
}

/// Runs plugins and knows which there are.
pub trait Engine: Executor + Catalogue {
    /// Which node this is: known once it has a certificate, and its name once a master said it.
    fn node_is(&self, id: NodeId, name: &str);
    /// The state folder is this process's alone. `interrupted` ran when an earlier process ended. Called
    /// once, before any operation.
    fn begin(
        &self,
        interrupted: Vec<Interrupted>,
    ) -> Pin<Box<dyn Future<Output = Result<(), BundlesError>> + Send + '_>>;
    /// A master says which plugins it wants here.
    fn desired(&self, desired: Desired);
    /// Where their parts are to be had; none while there is no session.
    fn blobs(&self, source: Option<Arc<dyn Source>>);
    /// Look at the plugins again, as at the start.
    fn reload(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
