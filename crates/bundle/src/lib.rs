//! A plugin's manifest, the argument grammars and grants in it, and how it is read from disk.
//!
//! * [`grammar`]: which argument lists a rule allows. Pure, and the heart of what protects a node.
//! * [`manifest`]: `plugin.toml`, parsed.
//! * [`policy`], [`grants`]: what the node forbids, and the answer to "may it?".
//! * [`read`]: a bundle from its parts or from a directory.

mod document;
pub mod grammar;
pub mod grants;
pub mod manifest;
pub mod path;
pub mod pattern;
pub mod policy;
pub mod read;
mod units;
pub mod version;

pub use grants::{CommandGrant, FileGrant, Grants};
pub use manifest::{
    Access, Alert, FileRule, Limits, Manifest, ManifestError, OperationPolicy, ProbeName, Program, Rule,
    Severity, Watch,
};
pub use path::AbsolutePath;
pub use pattern::PathPattern;
pub use policy::NodePolicy;
pub use read::{Bundle, BundleError, Part};
pub use version::Version;
