//! Why something about bundles could not be done.

use super::blobs::BlobError;
use crate::{store::StoreError, targets::TargetError};
use windlass_bundle::oci::PackageError;
use windlass_describe::PackError;
use windlass_types::{
    DeploymentId, Digest, PluginName,
    api::bundles::{CapabilityInfo, DeploymentState},
};

/// Why something about bundles could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BundlesError {
    /// No bundle in the store has this digest, or this name and version.
    #[error("there is no bundle `{bundle}`")]
    UnknownBundle { bundle: String, nearest: Vec<String> },
    /// Neither in the store nor on a node.
    #[error("there is no plugin `{plugin}`")]
    UnknownPlugin { plugin: String, nearest: Vec<String> },
    #[error("there is no deployment {0}")]
    UnknownDeployment(DeploymentId),
    /// Not a bundle, or not a good one.
    #[error("the package can't be used")]
    Package(#[source] PackageError),
    #[error("the bundle can't be used")]
    Bundle(#[source] PackError),
    /// More than [`windlass_bundle::oci::MAX_PACKAGE_BYTES`].
    #[error("the package is larger than {0} MiB")]
    TooLarge(u64),
    /// The client stopped sending, or sent too slowly.
    #[error("the package did not come whole: {0}")]
    Incomplete(String),
    /// A version names one bundle for ever.
    #[error("{plugin}@{version} is another bundle: {stored}, and this is {given}")]
    VersionTaken { plugin: PluginName, version: String, stored: Digest, given: Digest },
    /// More signatures than a bundle may have.
    #[error("bundle {0} has as many signatures as it may have")]
    TooManySignatures(Digest),
    #[error("bundle {bundle} is in use: {why}")]
    InUse { bundle: String, why: String },
    /// The bundle is one of another plugin.
    #[error("bundle {bundle} is one of plugin `{of}`, not of `{plugin}`")]
    OtherPlugin { bundle: Digest, of: PluginName, plugin: PluginName },
    /// It asks for more than was approved.
    #[error("bundle {bundle} asks for more than was approved: {}", brief(missing))]
    NotApproved { bundle: String, missing: Vec<CapabilityInfo> },
    /// No such operation in the bundle.
    #[error("bundle {bundle} has no operation `{operation}`")]
    UnknownOperation { bundle: String, operation: String },
    /// One at a time.
    #[error("deployment {id} of plugin `{plugin}` is under way")]
    Running { id: DeploymentId, plugin: PluginName },
    /// The deployment is not in a state for that.
    #[error("deployment {id} is {}, so it can't be {action}", state_word(*state))]
    WrongState { id: DeploymentId, state: DeploymentState, action: &'static str },
    /// Nothing would be done.
    #[error("{0}")]
    Nothing(String),
    /// A value that can't work.
    #[error("{0}")]
    Bad(String),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A file in the data directory.
    #[error("cannot use the data directory")]
    Disk(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The word for a state, in the store and for people.
pub(crate) fn state_word(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::WaitingApproval => "waiting_approval",
        DeploymentState::Running => "running",
        DeploymentState::Paused => "paused",
        DeploymentState::RollingBack => "rolling_back",
        DeploymentState::Succeeded => "succeeded",
        DeploymentState::Failed => "failed",
        DeploymentState::Aborted => "aborted",
        DeploymentState::RolledBack => "rolled_back",
        DeploymentState::Superseded => "superseded",
    }
}

fn brief(missing: &[CapabilityInfo]) -> String {
    let shown = |info: &CapabilityInfo| format!("{} {}", info.kind, info.text);
    let mut text = missing.iter().take(3).map(shown).collect::<Vec<_>>().join("; ");
    if missing.len() > 3 {
        text.push_str(&format!("; and {} more", missing.len() - 3));
    }
    text
}
