//! A plugin as it ships: its manifest, what that lets it do, and how a bundle is packed, signed and
//! trusted.
//!
//! * [`grammar`]: which argument lists a rule allows. Pure, and the heart of what protects a node.
//! * [`manifest`]: `plugin.toml`, parsed.
//! * [`policy`], [`grants`]: what the node forbids, and the answer to "may it?".
//! * [`capability`], [`approval`]: all that a bundle asks for, as a list, and the operator's word on it.
//! * [`read`]: a bundle from its parts or from a directory; [`oci`]: as an OCI artifact and as a file.
//! * [`signature`], [`trust`]: who says that a bundle is what it claims, and whose word counts on a node.

pub mod approval;
pub mod capability;
mod document;
pub mod grammar;
pub mod grants;
pub mod manifest;
pub mod oci;
pub mod path;
pub mod pattern;
pub mod policy;
pub mod read;
pub mod signature;
pub mod trust;
pub mod units;
pub mod version;

pub use approval::Approval;
pub use capability::{Capability, capabilities};
pub use grants::{CommandGrant, FileGrant, Grants};
pub use manifest::{
    Access, Alert, FileRule, Limits, Manifest, ManifestError, OperationPolicy, ProbeName, Program, Rule,
    SecretPlaces, Severity, Watch,
};
pub use oci::{Image, Package, PackageError};
pub use path::AbsolutePath;
pub use pattern::PathPattern;
pub use policy::NodePolicy;
pub use read::{Bundle, BundleError, Part};
pub use signature::{PublicKey, Signature, Statement};
pub use trust::{Trust, Untrusted};
pub use version::Version;
