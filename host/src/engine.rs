//! What the host needs of whatever runs its plugins.

use crate::jobs::Executor;
use tokio::sync::watch;
use windlass_proto::v1::{Inventory, PluginSource};
use windlass_types::{Digest, NodeId};

/// Says which plugins there are.
pub trait Catalogue: Send + Sync + 'static {
    /// All plugins of this node, those that can't be used too.
    fn inventory(&self) -> Inventory;
    /// Manifest and WIT of a bundle of this node.
    fn source(&self, digest: Digest) -> Option<PluginSource>;
    /// Changes when the inventory does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// Runs plugins and knows which there are.
pub trait Engine: Executor + Catalogue {
    /// Which node this is: known once it has a certificate, and its name once a master said it.
    fn node_is(&self, id: NodeId, name: &str);
    /// Look at the plugins again, as at the start.
    fn reload(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
