//! A plugin as it ships: its parts, and where they are read from.
//!
//! A [`Bundle`] is put together from three parts, wherever those come from; [`Bundle::read_dir`] is
//! one source, and others (an OCI layout, see [`crate::oci`]) end in [`Bundle::from_parts`] too. What a part may look
//! like and how large it may be is said here once, in [`Part`].

#[cfg(test)]
mod tests;

use crate::manifest::{Manifest, ManifestError};
use rustix::fs::{FileType, Mode, OFlags};
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use windlass_types::Digest;

/// A plugin, read.
#[derive(Clone)]
pub struct Bundle {
    /// What it is and what it asks for.
    pub manifest: Arc<Manifest>,
    /// The manifest as it was written.
    pub manifest_text: Vec<u8>,
    /// The component.
    pub component: Vec<u8>,
    /// Its WIT with documentation, in binary form.
    pub wit: Vec<u8>,
    /// Names all of this: the digest of its [image](crate::oci::Image).
    pub digest: Digest,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Manifest { name, version, .. } = &*self.manifest;
        write!(f, "Bundle({name} {version}, {})", self.digest)
    }
}

/// One of the parts of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Manifest,
    Component,
    Wit,
}

impl Part {
    /// Name of its file in a directory.
    pub fn file_name(self) -> &'static str {
        match self {
            Part::Manifest => "plugin.toml",
            Part::Component => "component.wasm",
            Part::Wit => "wit.wasm",
        }
    }

    /// Largest size, in bytes. A component with an interpreter inside (Python) is about 20 MiB.
    pub fn max_bytes(self) -> usize {
        match self {
            Part::Manifest => crate::manifest::MAX_BYTES,
            Part::Component => 64 << 20,
            Part::Wit => 4 << 20,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.file_name())
    }
}

/// Why a bundle can not be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file could not be opened or read.
    #[error("can not read {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A part is something else than a regular file, such as a link.
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// A part is larger than it may be.
    #[error("{part} is larger than {} MiB", part.max_bytes() >> 20)]
    TooLarge { part: Part },
    /// A part is not what it should be.
    #[error("{part} is not {expected}")]
    Malformed { part: Part, expected: &'static str },
    /// The parts are not those of the image.
    #[error(transparent)]
    Image(#[from] crate::oci::ImageError),
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Bundle {
    /// Read a bundle from a directory that holds `plugin.toml`, `component.wasm` and `wit.wasm`.
    /// Other files there are ignored.
    ///
    /// # Errors
    /// If a part is missing, too large, not a regular file (links are not followed), or not valid.
    pub fn read_dir(dir: &Path) -> Result<Bundle, BundleError> {
        let part = |part| read_file(dir, part);
        Bundle::from_parts(part(Part::Manifest)?, part(Part::Component)?, part(Part::Wit)?)
    }

    /// Put a bundle together.
    ///
    /// # Errors
    /// If a part is too large or not valid.
    pub fn from_parts(
        manifest_text: Vec<u8>,
        component: Vec<u8>,
        wit: Vec<u8>,
    ) -> Result<Bundle, BundleError> {
        for (part, bytes) in
            [(Part::Manifest, &manifest_text), (Part::Component, &component), (Part::Wit, &wit)]
        {
            if bytes.len() > part.max_bytes() {
                return Err(BundleError::TooLarge { part });
            }
        }
        // Both are components in their outer form (component model binary format: layer 1).
        for (part, bytes) in [(Part::Component, &component), (Part::Wit, &wit)] {
            if !bytes.starts_with(b"\0asm\x0d\0\x01\0") {
                return Err(BundleError::Malformed { part, expected: "a WebAssembly component" });
            }
        }
        let text = std::str::from_utf8(&manifest_text)
            .map_err(|_| BundleError::Malformed { part: Part::Manifest, expected: "UTF-8 text" })?;
        let manifest = Arc::new(Manifest::parse(text)?);
        let digest = Bundle::image_of(&manifest, &manifest_text, &component, &wit).digest();
        Ok(Bundle { manifest, manifest_text, component, wit, digest })
    }

    /// One of its parts.
    pub fn part(&self, part: Part) -> &[u8] {
        match part {
            Part::Manifest => &self.manifest_text,
            Part::Component => &self.component,
            Part::Wit => &self.wit,
        }
    }
}

fn read_file(dir: &Path, part: Part) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(part.file_name());
    let io = |source: io::Error| BundleError::Io { path: path.clone(), source };
    // Non-blocking, so that a pipe put in place of the file can't hold up the host.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => file,
        // How open(2) says that the last part of the path is a link.
        Err(rustix::io::Errno::LOOP) => return Err(BundleError::NotAFile { path }),
        Err(errno) => return Err(io(errno.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| io(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(BundleError::NotAFile { path });
    }
    let limit = part.max_bytes();
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, also one that grows meanwhile.
    File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > limit {
        return Err(BundleError::TooLarge { part });
    }
    Ok(bytes)
}
