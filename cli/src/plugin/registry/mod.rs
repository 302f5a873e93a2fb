//! Bundles in OCI registries.
//!
//! A bundle is stored as it is: its image manifest byte for byte, so that what the registry calls
//! it is its own digest. Each signature is an artifact of its own whose subject is the bundle. They
//! are found by the referrers API, and where a registry has none (such as Debian's), by an index
//! under the tag `sha256-<digest>`, as the OCI distribution specification 1.1 has it.
//!
//! Nothing a registry says is believed: sizes are bounded before anything is read, digests compared,
//! and a bundle is put together from its parts as from any other source. Only what a tag names is up
//! to the registry; who wants to be sure of that gives the digest, or trusts by signatures.
//!
//! A tag is looked at once. Everything after goes by digest, so a tag that is moved meanwhile never
//! gives a mixture of two bundles.

mod credentials;
mod error;
mod pull;
mod push;
mod reference;
mod session;

pub use error::RegistryError;
pub use reference::{Reference, SCHEME};

use super::file;
use crate::{
    cli::plugin::registry::{Pull, Push, Registry},
    commands::Context,
    exit::Exit,
};
use anyhow::Result;
use serde::Serialize;
use session::Session;
use std::path::Path;
use windlass_bundle::Package;
use windlass_types::{Digest, PluginName};

/// What came or went.
#[derive(Serialize)]
struct Moved<'a> {
    plugin: PluginName,
    version: String,
    digest: Digest,
    signatures: usize,
    reference: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a Path>,
}

impl<'a> Moved<'a> {
    fn of(package: &Package, reference: String, file: Option<&'a Path>) -> Self {
        let manifest = &package.bundle.manifest;
        Moved {
            plugin: manifest.name.clone(),
            version: manifest.version.to_string(),
            digest: package.bundle.digest,
            signatures: package.signatures().len(),
            reference,
            package: file,
        }
    }
}

/// `plugin push`.
pub async fn push(context: &Context, command: Push) -> Result<Exit> {
    let package = file::open(&command.package.package)?;
    let session = Session::new(&command.to, &command.registry)?;
    let to = push::push(&session, &package, command.move_tag).await.map_err(RegistryError::told)?;
    let moved = Moved::of(&package, to, None);
    context.out.data(&moved, |_| format!("{}\n", moved.reference))?;
    if context.out.is_table() {
        let signatures = crate::render::text::count(moved.signatures, "signature");
        context.out.note(&format!("pushed {} {} with {signatures}", moved.plugin, moved.version));
    }
    Ok(Exit::Success)
}

/// A package from a registry, with its signatures, every byte checked.
pub async fn pull(context: &Context, from: &Reference, options: &Registry) -> Result<Package> {
    let session = Session::new(from, options)?;
    let pulled = pull::pull(&session).await.map_err(RegistryError::told)?;
    for problem in pulled.left_out {
        context.out.note(&format!("left out: {}", crate::render::text::clean(&problem)));
    }
    Ok(pulled.package)
}

/// `plugin pull`.
pub async fn pull_to_file(context: &Context, command: Pull) -> Result<Exit> {
    let package = pull(context, &command.from, &command.registry).await?;
    let path = command.file.unwrap_or_else(|| file::name(&package));
    file::save(&package, &path)?;
    let moved = Moved::of(&package, command.from.by_digest(package.bundle.digest), Some(&path));
    context.out.data(&moved, |_| format!("{}\n", path.display()))?;
    if context.out.is_table() {
        let signatures = crate::render::text::count(moved.signatures, "signature");
        context.out.note(&format!(
            "pulled {} {} with {signatures}; whose they are tells `windlass plugin verify`",
            moved.plugin, moved.version
        ));
    }
    Ok(Exit::Success)
}
