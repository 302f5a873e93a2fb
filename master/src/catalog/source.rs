//! A bundle as far as the master knows it: its manifest and its WIT, proven to belong to it.

use std::{collections::BTreeMap, sync::Arc};
use windlass_bundle::{Image, Manifest, OperationPolicy, Part, Version};
use windlass_types::{Digest, PluginName, shape::Operation};

/// The operations of a bundle.
#[derive(Debug)]
pub(crate) struct Source {
    pub manifest: Arc<Manifest>,
    pub plugin: PluginName,
    pub version: Version,
    /// By name within the plugin.
    pub operations: BTreeMap<String, SourceOperation>,
}

/// An operation of a bundle.
#[derive(Debug)]
pub(crate) struct SourceOperation {
    pub type_digest: Digest,
    pub policy: OperationPolicy,
    pub operation: Operation,
}

impl Source {
    /// Read foreign bytes that claim to be parts of the bundle `digest`.
    ///
    /// # Errors
    /// If they are not, are too large, or cannot be read.
    pub fn check(digest: Digest, image: &[u8], manifest: &[u8], wit: &[u8]) -> Result<Self, String> {
        for (part, bytes) in [(Part::Manifest, manifest), (Part::Wit, wit)] {
            if bytes.len() > part.max_bytes() {
                return Err(format!("{part} is too large"));
            }
        }
        if Digest::of(image) != digest {
            return Err("it is not part of the bundle with this digest".into());
        }
        let image = Image::parse(image).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(manifest).map_err(|_| "plugin.toml is not UTF-8".to_owned())?;
        let parsed = Manifest::parse(text).map_err(|error| error.to_string())?;
        image.check_without_component(&parsed, manifest, wit).map_err(|error| error.to_string())?;
        let operations =
            windlass_describe::operations(&parsed.name, wit).map_err(|error| error.to_string())?;
        Ok(Source::new(Arc::new(parsed), operations))
    }

    /// The operations of a bundle that has been read and checked.
    pub fn new(manifest: Arc<Manifest>, operations: Vec<Operation>) -> Self {
        let operations = operations
            .into_iter()
            .map(|operation| {
                let local = operation.name.local().to_owned();
                let policy = manifest.operation(&local);
                let type_digest = operation.signature.digest();
                (local, SourceOperation { type_digest, policy, operation })
            })
            .collect();
        Source { plugin: manifest.name.clone(), version: manifest.version, operations, manifest }
    }
}
