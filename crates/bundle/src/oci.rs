//! A bundle as an OCI artifact, and as one file.
//!
//! The *image* of a bundle is its OCI image manifest: a small document with the digests of the
//! parts. It follows from the parts alone, byte for byte, so a bundle has exactly one digest, that
//! of its image, wherever it is: in a registry, in a master's store, on a host, under a signature.
//! What is read from elsewhere is accepted only if it is the image these parts give.
//!
//! A *package* is an OCI image layout in one tar with the signatures beside the bundle
//! ([`Package`]). Signatures are artifacts of their own that name the bundle as their subject, so
//! that more of them can be added without touching it.
//!
//! Sources: OCI image specification 1.1 (manifest, descriptor, image layout), the CNCF's `Wasm OCI
//! Artifact` (config and its media type).

#[cfg(test)]
mod hostile;
mod package;
#[cfg(test)]
mod tests;

pub use package::{MAX_PACKAGE_BYTES, MAX_SIGNATURES, Package, PackageError};

use crate::{
    manifest::Manifest,
    read::{Bundle, BundleError, Part},
    signature::Signature,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use windlass_types::Digest;

/// Media type of an image manifest.
pub const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of the configuration of a WebAssembly artifact.
pub const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
/// Artifact type of a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.windlass.bundle.v1";
/// Artifact type of a signature, and media type of its only layer.
pub const SIGNATURE_TYPE: &str = "application/vnd.windlass.signature.v1+json";
/// Media type of a configuration that says nothing.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The configuration that says nothing.
pub const EMPTY: &[u8] = b"{}";
/// Largest document of the OCI kind, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 10;

impl Part {
    /// Media type of its layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Part::Component => "application/wasm",
            Part::Manifest => "application/vnd.windlass.manifest.v1+toml",
            Part::Wit => "application/vnd.windlass.wit.v1+wasm",
        }
    }
}

/// The parts in the order of their layers.
pub const LAYERS: [Part; 3] = [Part::Component, Part::Manifest, Part::Wit];

/// Some bytes by what they are, their digest and their size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describe some bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// An image manifest, as far as bundles and signatures need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// Why an image is none of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Larger than any such document.
    #[error("the OCI image manifest is larger than {} KiB", MAX_DOCUMENT_BYTES >> 10)]
    TooLarge,
    /// Not a document of that kind.
    #[error("the OCI image manifest can not be read: {0}")]
    Malformed(String),
    /// An image of something else.
    #[error("the OCI image manifest is not that of a bundle: {0}")]
    NotABundle(String),
    /// Its parts give another one.
    #[error("the OCI image manifest does not follow from the parts of the bundle")]
    Differs,
    /// A part is not the one it names.
    #[error("{part} has the digest {found}, and the OCI image manifest says {wanted}")]
    OtherPart { part: Part, wanted: Digest, found: Digest },
}

/// The image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    manifest: Vec<u8>,
    document: Document,
}

impl Image {
    /// The image of a bundle with these parts. The descriptors need only digest and size.
    fn of(manifest: &Manifest, layers: [(Digest, u64); 3]) -> Image {
        let layers: Vec<Descriptor> = LAYERS
            .iter()
            .zip(layers)
            .map(|(part, (digest, size))| Descriptor {
                media_type: part.media_type().to_owned(),
                digest,
                size,
                artifact_type: None,
                annotations: BTreeMap::new(),
            })
            .collect();
        let config = config(&layers);
        let annotations = [
            ("org.opencontainers.image.title", manifest.name.to_string()),
            ("org.opencontainers.image.version", manifest.version.to_string()),
        ];
        let document = Document {
            schema_version: 2,
            media_type: IMAGE_TYPE.to_owned(),
            artifact_type: BUNDLE_TYPE.to_owned(),
            config: Descriptor::of(CONFIG_TYPE, &config),
            layers,
            subject: None,
            annotations: annotations.map(|(key, value)| (key.to_owned(), value)).into(),
        };
        Image { manifest: json(&document), document }
    }

    /// Read an image that claims to be that of a bundle. What it says of its parts is checked
    /// where the parts are: see [`Bundle::from_image`] and [`Image::check_without_component`].
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Image, ImageError> {
        let document = parse(bytes)?;
        let fail = |why: String| Err(ImageError::NotABundle(why));
        if document.artifact_type != BUNDLE_TYPE {
            return fail(format!("its artifact type is `{}`", clip(&document.artifact_type)));
        }
        if document.config.media_type != CONFIG_TYPE {
            return fail(format!("its configuration is `{}`", clip(&document.config.media_type)));
        }
        if document.subject.is_some() {
            return fail("it has a subject".into());
        }
        if document.layers.len() != LAYERS.len() {
            return fail(format!("it has {} layers, not {}", document.layers.len(), LAYERS.len()));
        }
        for (part, layer) in LAYERS.iter().zip(&document.layers) {
            if layer.media_type != part.media_type() {
                return fail(format!(
                    "where `{}` should be is a layer `{}`",
                    part.media_type(),
                    clip(&layer.media_type)
                ));
            }
            if layer.size > part.max_bytes() as u64 {
                return fail(format!(
                    "{part} would have {} bytes, and {} are allowed",
                    layer.size,
                    part.max_bytes()
                ));
            }
        }
        if document.config.size > MAX_DOCUMENT_BYTES as u64 {
            return fail("its configuration is too large".into());
        }
        Ok(Image { manifest: bytes.to_owned(), document })
    }

    /// The document, as it is hashed, stored and signed.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// The configuration it names.
    pub fn config(&self) -> Vec<u8> {
        config(&self.document.layers)
    }

    /// Its digest, which is that of the bundle.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            artifact_type: Some(BUNDLE_TYPE.to_owned()),
            ..Descriptor::of(IMAGE_TYPE, &self.manifest)
        }
    }

    /// The layer of a part.
    pub fn layer(&self, part: Part) -> &Descriptor {
        let index = LAYERS.iter().position(|layer| *layer == part).unwrap_or_default();
        &self.document.layers[index]
    }

    /// The configuration's descriptor.
    pub fn config_layer(&self) -> &Descriptor {
        &self.document.config
    }

    /// Size of all parts together, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.document.layers.iter().map(|layer| layer.size).sum()
    }

    /// Check the image against all parts but the component, for who does not have that: the image
    /// holds its digest, so digest and image still name one bundle.
    ///
    /// # Errors
    /// If a part is another one, or the image does not follow from them.
    pub fn check_without_component(
        &self,
        manifest: &Manifest,
        manifest_text: &[u8],
        wit: &[u8],
    ) -> Result<(), ImageError> {
        for (part, bytes) in [(Part::Manifest, manifest_text), (Part::Wit, wit)] {
            let (wanted, found) = (self.layer(part).digest, Digest::of(bytes));
            if wanted != found {
                return Err(ImageError::OtherPart { part, wanted, found });
            }
        }
        let of = |part: Part| (self.layer(part).digest, self.layer(part).size);
        let mut layers = LAYERS.map(of);
        for (layer, part) in layers.iter_mut().zip(LAYERS) {
            match part {
                Part::Manifest => layer.1 = manifest_text.len() as u64,
                Part::Wit => layer.1 = wit.len() as u64,
                Part::Component => {}
            }
        }
        if Image::of(manifest, layers).manifest == self.manifest { Ok(()) } else { Err(ImageError::Differs) }
    }
}

impl Bundle {
    /// Its image.
    pub fn image(&self) -> Image {
        Bundle::image_of(&self.manifest, &self.manifest_text, &self.component, &self.wit)
    }

    pub(crate) fn image_of(manifest: &Manifest, text: &[u8], component: &[u8], wit: &[u8]) -> Image {
        let layers = LAYERS.map(|part| {
            let bytes = match part {
                Part::Component => component,
                Part::Manifest => text,
                Part::Wit => wit,
            };
            (Digest::of(bytes), bytes.len() as u64)
        });
        Image::of(manifest, layers)
    }

    /// Put a bundle together from its image and its parts.
    ///
    /// # Errors
    /// If a part is too large or not valid, or the image is not the one of these parts.
    pub fn from_image(
        image: &Image,
        manifest_text: Vec<u8>,
        component: Vec<u8>,
        wit: Vec<u8>,
    ) -> Result<Bundle, BundleError> {
        for (part, bytes) in
            [(Part::Manifest, &manifest_text), (Part::Component, &component), (Part::Wit, &wit)]
        {
            let (wanted, found) = (image.layer(part).digest, Digest::of(bytes));
            if wanted != found {
                return Err(ImageError::OtherPart { part, wanted, found }.into());
            }
        }
        let bundle = Bundle::from_parts(manifest_text, component, wit)?;
        if bundle.image().manifest != image.manifest {
            return Err(ImageError::Differs.into());
        }
        Ok(bundle)
    }
}

/// A signature as an artifact of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureImage {
    manifest: Vec<u8>,
    layer: Vec<u8>,
}

impl SignatureImage {
    /// The artifact for a signature over a bundle.
    pub fn of(signature: &Signature, bundle: &Image) -> SignatureImage {
        let layer = signature.to_json();
        let document = Document {
            schema_version: 2,
            media_type: IMAGE_TYPE.to_owned(),
            artifact_type: SIGNATURE_TYPE.to_owned(),
            config: Descriptor::of(EMPTY_TYPE, EMPTY),
            layers: vec![Descriptor::of(SIGNATURE_TYPE, &layer)],
            subject: Some(Descriptor { artifact_type: None, ..bundle.descriptor() }),
            annotations: BTreeMap::new(),
        };
        SignatureImage { manifest: json(&document), layer }
    }

    /// Read the manifest of such an artifact: gives the descriptor of the signature's document.
    ///
    /// # Errors
    /// If it is none, or one over another bundle.
    pub fn parse(bytes: &[u8], bundle: &Image) -> Result<Descriptor, ImageError> {
        let document = parse(bytes)?;
        let fail = |why: &str| Err(ImageError::NotABundle(why.into()));
        if document.artifact_type != SIGNATURE_TYPE {
            return fail("it is not a signature's");
        }
        let ours = bundle.descriptor();
        if !document.subject.is_some_and(|subject| subject.digest == ours.digest && subject.size == ours.size)
        {
            return fail("it is that of a signature over something else");
        }
        if document.config.digest != Digest::of(EMPTY) || document.layers.len() != 1 {
            return fail("a signature has one layer and an empty configuration");
        }
        match document.layers.into_iter().next() {
            Some(layer)
                if layer.media_type == SIGNATURE_TYPE && layer.size <= crate::signature::MAX_BYTES as u64 =>
            {
                Ok(layer)
            }
            _ => fail("its layer is no signature"),
        }
    }

    /// The image manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Its layer: the signature's document.
    pub fn layer(&self) -> &[u8] {
        &self.layer
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            artifact_type: Some(SIGNATURE_TYPE.to_owned()),
            ..Descriptor::of(IMAGE_TYPE, &self.manifest)
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Document, ImageError> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(ImageError::TooLarge);
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed(clip(&error.to_string())))?;
    if document.schema_version != 2 || document.media_type != IMAGE_TYPE {
        return Err(ImageError::NotABundle(format!(
            "it is version {} of `{}`",
            document.schema_version,
            clip(&document.media_type)
        )));
    }
    Ok(document)
}

/// Configuration of a WebAssembly artifact with these layers.
fn config(layers: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Config<'a> {
        architecture: &'a str,
        os: &'a str,
        layer_digests: Vec<Digest>,
    }
    let layer_digests = layers.iter().map(|layer| layer.digest).collect();
    json(&Config { architecture: "wasm", os: "wasip2", layer_digests })
}

/// As JSON. The documents here hold text, numbers and maps by text, for which this can't fail.
fn json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

pub(crate) fn clip(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
