//! One file: an OCI image layout in a tar.
//!
//! Written always the same: the same bundle and signatures give the same bytes. Reading trusts
//! nothing: names, sizes, kinds of entries and digests are checked as they come, nothing is
//! written to a disk, nothing is decompressed, and whatever has no place in a package is an error.

use super::{
    BUNDLE_TYPE, Descriptor, EMPTY, EMPTY_TYPE, IMAGE_TYPE, Image, ImageError, LAYERS, MAX_DOCUMENT_BYTES,
    SIGNATURE_TYPE, SignatureImage, clip, json,
};
use crate::{
    read::{Bundle, BundleError, Part},
    signature::{self, Signature, SignatureError},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tar::EntryType;
use windlass_types::Digest;

/// Largest package, in bytes.
pub const MAX_PACKAGE_BYTES: u64 = 80 << 20;
/// Signatures of one package.
pub const MAX_SIGNATURES: usize = 16;
/// Entries of one package: layout, index, image, configuration and layers, two for each signature, and
/// some folders.
const MAX_ENTRIES: usize = 64;
const LAYOUT_NAME: &str = "oci-layout";
const INDEX_NAME: &str = "index.json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const BLOBS: &str = "blobs/sha256/";

/// A bundle with its signatures.
#[derive(Debug, Clone)]
pub struct Package {
    pub bundle: Bundle,
    /// In the order of their keys, one for each.
    signatures: Vec<Signature>,
}

/// Why a file is no package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It could not be read.
    #[error("can not read the package")]
    Io(#[source] io::Error),
    /// A file could not be opened.
    #[error("can not read {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is larger than any package.
    #[error("the package is larger than {} MiB", MAX_PACKAGE_BYTES >> 20)]
    TooLarge,
    /// It is compressed.
    #[error("the package is compressed; a package is a plain tar")]
    Compressed,
    /// An entry has no place in a package.
    #[error("entry `{name}` of the package: {why}")]
    Entry { name: String, why: String },
    /// An entry that must be there is not.
    #[error("the package has no `{0}`")]
    Missing(String),
    /// One of the documents is wrong.
    #[error("`{name}` of the package: {why}")]
    Document { name: &'static str, why: String },
    /// Something that nothing refers to.
    #[error("nothing in the package refers to `{0}`")]
    Unreferenced(String),
    /// Its image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Its bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A signature.
    #[error("a signature in the package can not be used")]
    Signature(#[from] SignatureError),
    /// More signatures than anyone needs.
    #[error("the package has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Layout {
    image_layout_version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Package {
    /// A bundle and its signatures. Of several by one key the newest stays.
    ///
    /// # Errors
    /// If a signature is not valid, or over something else.
    pub fn new(bundle: Bundle, signatures: Vec<Signature>) -> Result<Package, PackageError> {
        let mut package = Package { bundle, signatures: Vec::new() };
        for signature in signatures {
            package.add(signature)?;
        }
        Ok(package)
    }

    /// The signatures: each is valid and over this bundle. Whether its key counts for anything is
    /// up to who trusts it.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Add a signature. One by the same key that is not newer is replaced; true if anything changed.
    ///
    /// # Errors
    /// If it is not valid, or over something else.
    pub fn add(&mut self, signature: Signature) -> Result<bool, PackageError> {
        let manifest = &self.bundle.manifest;
        signature.verify_over(&manifest.name, manifest.version, self.bundle.digest)?;
        match self.signatures.binary_search_by_key(&signature.key(), Signature::key) {
            Ok(at) if self.signatures[at].statement.signed_ms >= signature.statement.signed_ms => Ok(false),
            Ok(at) => {
                self.signatures[at] = signature;
                Ok(true)
            }
            Err(_) if self.signatures.len() >= MAX_SIGNATURES => Err(PackageError::TooManySignatures),
            Err(at) => {
                self.signatures.insert(at, signature);
                Ok(true)
            }
        }
    }

    /// Read a package from a file.
    ///
    /// # Errors
    /// If it can't be read, or is none.
    pub fn open(path: &Path) -> Result<Package, PackageError> {
        let open = |source| PackageError::Open { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(open)?;
        if !file.metadata().map_err(open)?.is_file() {
            return Err(open(io::Error::other("it is not a regular file")));
        }
        Package::read(io::BufReader::with_capacity(64 << 10, file))
    }

    /// Read a package.
    ///
    /// # Errors
    /// If it can't be read, or is none.
    pub fn read(from: impl Read) -> Result<Package, PackageError> {
        let mut entries = entries(from)?;
        let layout: Layout = document(&mut entries, LAYOUT_NAME)?;
        if layout.image_layout_version != "1.0.0" {
            let why = format!("version `{}` is not known", clip(&layout.image_layout_version));
            return Err(PackageError::Document { name: LAYOUT_NAME, why });
        }
        let index: Index = document(&mut entries, INDEX_NAME)?;
        if index.schema_version != 2 || index.media_type != INDEX_TYPE {
            return Err(PackageError::Document { name: INDEX_NAME, why: "it is not an image index".into() });
        }
        let bad = |why: String| PackageError::Document { name: INDEX_NAME, why };
        let (mut bundles, mut signatures) = (Vec::new(), Vec::new());
        for manifest in index.manifests {
            match manifest.artifact_type.as_deref() {
                Some(BUNDLE_TYPE) if manifest.media_type == IMAGE_TYPE => bundles.push(manifest),
                Some(SIGNATURE_TYPE) if manifest.media_type == IMAGE_TYPE => signatures.push(manifest),
                _ => return Err(bad(format!("`{}` is neither a bundle nor a signature", manifest.digest))),
            }
        }
        let [bundle] = &bundles[..] else {
            return Err(bad(format!("it lists {} bundles, and a package has one", bundles.len())));
        };
        if signatures.len() > MAX_SIGNATURES {
            return Err(PackageError::TooManySignatures);
        }

        let image = Image::parse(&take(&mut entries, bundle)?)?;
        let config = take(&mut entries, image.config_layer())?;
        if config != image.config() {
            return Err(ImageError::Differs.into());
        }
        let [component, manifest, wit] = LAYERS.map(|part| take(&mut entries, image.layer(part)));
        let mut package = Package::new(Bundle::from_image(&image, manifest?, component?, wit?)?, Vec::new())?;
        if !signatures.is_empty() {
            take(&mut entries, &Descriptor::of(EMPTY_TYPE, EMPTY))?;
        }
        for descriptor in &signatures {
            let layer = SignatureImage::parse(&take(&mut entries, descriptor)?, &image)?;
            if !package.add(Signature::from_json(&take(&mut entries, &layer)?)?)? {
                return Err(bad("it lists two signatures by one key".into()));
            }
        }
        match entries.into_keys().next() {
            Some(name) => Err(PackageError::Unreferenced(name)),
            None => Ok(package),
        }
    }

    /// Write the package. The same bundle and signatures give the same bytes.
    ///
    /// # Errors
    /// With those of `to`.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let image = self.bundle.image();
        let signatures: Vec<SignatureImage> =
            self.signatures.iter().map(|signature| SignatureImage::of(signature, &image)).collect();
        let index = Index {
            schema_version: 2,
            media_type: INDEX_TYPE.to_owned(),
            manifests: std::iter::once(image.descriptor())
                .chain(signatures.iter().map(SignatureImage::descriptor))
                .collect(),
        };
        let layout = json(&Layout { image_layout_version: "1.0.0".into() });
        let mut tar = tar::Builder::new(to);
        append(&mut tar, LAYOUT_NAME, &layout)?;
        append(&mut tar, INDEX_NAME, &json(&index))?;
        // Small things first, so that a reader knows what comes.
        let mut blob = |bytes: &[u8]| append(&mut tar, &blob_name(Digest::of(bytes)), bytes);
        blob(image.manifest())?;
        blob(&image.config())?;
        if !signatures.is_empty() {
            blob(EMPTY)?;
        }
        for signature in &signatures {
            blob(signature.manifest())?;
            blob(signature.layer())?;
        }
        for part in [Part::Manifest, Part::Wit, Part::Component] {
            blob(self.bundle.part(part))?;
        }
        tar.into_inner()?.flush()
    }

    /// The package as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = self.write(&mut bytes);
        bytes
    }
}

fn blob_name(digest: Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    tar.append(&header, bytes)
}

/// All entries of a package by name, each checked as far as it can be on its own.
fn entries(from: impl Read) -> Result<BTreeMap<String, Vec<u8>>, PackageError> {
    // One byte more than allowed tells a package that is too large.
    let mut from = from.take(MAX_PACKAGE_BYTES + 1);
    let mut first = [0; 512];
    let mut filled = 0;
    while filled < first.len() {
        match from.read(&mut first[filled..]).map_err(PackageError::Io)? {
            0 => break,
            read => filled += read,
        }
    }
    // gzip, zstd, xz, bzip2
    let magics: [&[u8]; 4] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, b'7', b'z'], b"BZh"];
    if magics.iter().any(|magic| first[..filled].starts_with(magic)) {
        return Err(PackageError::Compressed);
    }
    let mut archive = tar::Archive::new(first[..filled].chain(&mut from));
    let mut found = BTreeMap::new();
    let mut count = 0;
    // Raw: extensions that give the next entry another name or size come as entries, and are refused.
    for entry in archive.entries().map_err(PackageError::Io)?.raw(true) {
        let mut entry = entry.map_err(PackageError::Io)?;
        count += 1;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let fail = |why: String| PackageError::Entry { name: clip(&name), why };
        let kind = entry.header().entry_type();
        let plain = name.strip_prefix("./").unwrap_or(&name);
        if count > MAX_ENTRIES {
            return Err(fail(format!("a package has at most {MAX_ENTRIES} entries")));
        }
        if kind == EntryType::Directory && ["", "blobs/", BLOBS].contains(&plain) && entry.size() == 0 {
            continue;
        }
        if kind != EntryType::Regular {
            return Err(fail("is not a regular file".into()));
        }
        let digest = plain.strip_prefix(BLOBS).map(|hex| format!("sha256:{hex}").parse::<Digest>());
        let limit = match &digest {
            None if plain == LAYOUT_NAME || plain == INDEX_NAME => MAX_DOCUMENT_BYTES,
            Some(Ok(_)) => Part::Component.max_bytes(),
            _ => return Err(fail("has no place in a bundle".into())),
        };
        if entry.size() > limit as u64 {
            return Err(fail(format!("has {} bytes, and {limit} are allowed", entry.size())));
        }
        if found.contains_key(plain) {
            return Err(fail("is there twice".into()));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(PackageError::Io)?;
        if bytes.len() as u64 != entry.size() {
            return Err(PackageError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(Ok(digest)) = digest
            && digest != Digest::of(&bytes)
        {
            return Err(fail("does not have the digest it is named by".into()));
        }
        found.insert(plain.to_owned(), bytes);
    }
    // After the end of the tar there is padding, and nothing else.
    let mut rest = [0; 4096];
    loop {
        let read = from.read(&mut rest).map_err(PackageError::Io)?;
        if read == 0 {
            break;
        }
        if rest[..read].iter().any(|byte| *byte != 0) {
            return Err(PackageError::Entry { name: "end".into(), why: "is followed by more data".into() });
        }
    }
    if from.limit() == 0 { Err(PackageError::TooLarge) } else { Ok(found) }
}

fn document<T: for<'de> Deserialize<'de>>(
    entries: &mut BTreeMap<String, Vec<u8>>,
    name: &'static str,
) -> Result<T, PackageError> {
    let bytes = entries.remove(name).ok_or_else(|| PackageError::Missing(name.into()))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| PackageError::Document { name, why: clip(&error.to_string()) })
}

/// The blob that a descriptor is about. Its digest was checked when it was read.
fn take(entries: &mut BTreeMap<String, Vec<u8>>, descriptor: &Descriptor) -> Result<Vec<u8>, PackageError> {
    let name = blob_name(descriptor.digest);
    let bytes = entries.remove(&name).ok_or_else(|| PackageError::Missing(name.clone()))?;
    if bytes.len() as u64 != descriptor.size {
        let why = format!("has {} bytes, and {} were announced", bytes.len(), descriptor.size);
        return Err(PackageError::Entry { name, why });
    }
    Ok(bytes)
}

// The most a signature may take is far below what fits a document.
const _: () = assert!(signature::MAX_BYTES <= MAX_DOCUMENT_BYTES);
