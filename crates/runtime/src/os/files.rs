//! Files beneath a root directory.
//!
//! All functions block: call them in `spawn_blocking`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Decides about a path, relative to the root, that a link leads to.
pub type LinkCheck = Arc<dyn Fn(&Path) -> bool + Send + Sync>;

/// A place beneath a root.
#[derive(Clone)]
pub struct Place {
    root: PathBuf,
    relative: PathBuf,
    links: Option<LinkCheck>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("root", &self.root)
            .field("relative", &self.relative)
            .finish_non_exhaustive()
    }
}

impl Place {
    /// The place `relative` beneath `root`. Links on the way are refused.
    pub fn new(root: impl Into<PathBuf>, relative: impl Into<PathBuf>) -> Place {
        Place { root: root.into(), relative: relative.into(), links: None }
    }

    /// Links that stay beneath the root are followed, if `check` agrees with the path (relative
    /// to the root) where they lead. Links out of the root are refused anyway.
    pub fn follow_links(mut self, check: LinkCheck) -> Place {
        self.links = Some(check);
        self
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe.
    Other,
}

/// Facts about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes; 0 for anything but a regular file.
    pub size_bytes: u64,
    /// Permission bits, such as 0o644.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// Last change of the content, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name within the directory.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// Why a call had no effect. The cases are those of `wit/host/files.wit`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// The path leads out of the root, or over a link that is not allowed.
    #[error("{0}")]
    Denied(String),
    /// Nothing stands there.
    #[error("nothing stands there")]
    NotFound,
    /// Something stands there already.
    #[error("something stands there already")]
    Exists,
    /// A directory was expected and something else found.
    #[error("not a directory")]
    NotADirectory,
    /// A directory was found where a file was expected.
    #[error("is a directory")]
    IsADirectory,
    /// The directory is not empty.
    #[error("the directory is not empty")]
    NotEmpty,
    /// The content is larger than the limit, in bytes.
    #[error("larger than the limit of {0} bytes")]
    TooLarge(u64),
    /// No space is left on the device, or a quota is reached.
    #[error("no space left")]
    NoSpace,
    /// The filesystem is read-only.
    #[error("the filesystem is read-only")]
    ReadOnly,
    /// Anything else, such as a failing system call.
    #[error("{0}")]
    Other(String),
}

/// Read a whole file of at most `cap` bytes.
pub fn read(place: &Place, cap: u64) -> Result<Vec<u8>, FilesError> {
    let _ = (place, cap);
    Err(FilesError::NotFound)
}

/// Read a part of a file. `length` above `cap` is [`FilesError::TooLarge`].
pub fn read_range(place: &Place, offset: u64, length: u64, cap: u64) -> Result<Vec<u8>, FilesError> {
    let _ = (place, offset, length, cap);
    Err(FilesError::NotFound)
}

/// Write a whole file, atomically.
pub fn write(place: &Place, content: &[u8], mode: Option<u32>) -> Result<(), FilesError> {
    let _ = (place, content, mode);
    Err(FilesError::NotFound)
}

/// List a directory, sorted by name.
pub fn list(place: &Place, cap: u64) -> Result<Vec<Entry>, FilesError> {
    let _ = (place, cap);
    Err(FilesError::NotFound)
}

/// Look at a path without following a link at its end.
pub fn stat(place: &Place) -> Result<Metadata, FilesError> {
    let _ = place;
    Err(FilesError::NotFound)
}

/// Remove a file, a link or an empty directory.
pub fn remove(place: &Place) -> Result<(), FilesError> {
    let _ = place;
    Err(FilesError::NotFound)
}

/// Make a directory.
pub fn make_dir(place: &Place, parents: bool) -> Result<(), FilesError> {
    let _ = (place, parents);
    Err(FilesError::NotFound)
}
