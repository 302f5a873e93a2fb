//! Files beneath a root directory.
//!
//! Nothing here ever leaves the root: the kernel walks each path (see `beneath`). What stands at a
//! place can be a file, a directory, a link or something else; only regular files are read and
//! written, so that a pipe never blocks and a device never acts.
//!
//! A [`Place`] refuses links by default. With [`Place::follow_links`] those are followed that stay
//! beneath the root, if the caller agrees with where they lead. A link with an absolute target
//! counts as leading out, wherever it leads.
//!
//! Hard links can't be told from the file itself; who may make one in a granted directory may
//! show the file to the plugin (`fs.protected_hardlinks` keeps users from that).
//!
//! All functions block: call them in `spawn_blocking`. Needs Linux 5.6 (openat2(2)) and `/proc`.

mod beneath;
#[cfg(test)]
mod tests;

use beneath::End;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Gid, Mode, OFlags, Uid},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes; 0 for anything but a regular file.
    pub size_bytes: u64,
    /// Permission bits, such as 0o644.
    #[serde(with = "crate::tape::text::octal")]
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// Last change of the content, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name within the directory.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// Why a call had no effect. The cases are those of `wit/host/files.wit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
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

impl From<Errno> for FilesError {
    fn from(errno: Errno) -> FilesError {
        match errno {
            Errno::NOENT => FilesError::NotFound,
            Errno::EXIST => FilesError::Exists,
            Errno::NOTDIR => FilesError::NotADirectory,
            Errno::ISDIR => FilesError::IsADirectory,
            Errno::NOTEMPTY => FilesError::NotEmpty,
            Errno::NOSPC | Errno::DQUOT => FilesError::NoSpace,
            Errno::ROFS => FilesError::ReadOnly,
            other => FilesError::Other(io::Error::from(other).to_string()),
        }
    }
}

impl From<io::Error> for FilesError {
    fn from(error: io::Error) -> FilesError {
        match error.raw_os_error() {
            Some(code) => Errno::from_raw_os_error(code).into(),
            None => FilesError::Other(error.to_string()),
        }
    }
}

/// Read a whole file of at most `cap` bytes.
///
/// # Errors
/// [`FilesError::TooLarge`] if there are more, also when the file grows meanwhile.
pub fn read(place: &Place, cap: u64) -> Result<Vec<u8>, FilesError> {
    let (file, size) = open_file(place)?;
    if size > cap {
        return Err(FilesError::TooLarge(cap));
    }
    // Files of /proc and /sys tell a size of 0 or of a page.
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(cap.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > cap {
        return Err(FilesError::TooLarge(cap));
    }
    Ok(content)
}

/// Read a part of a file. Fewer bytes than asked come back at the end of the file.
///
/// # Errors
/// [`FilesError::TooLarge`] if more than `cap` bytes are asked for.
pub fn read_range(place: &Place, offset: u64, length: u64, cap: u64) -> Result<Vec<u8>, FilesError> {
    if length > cap {
        return Err(FilesError::TooLarge(cap));
    }
    let (file, size) = open_file(place)?;
    // No more memory than there is content, where the size is known.
    let likely = if size == 0 { length } else { length.min(size.saturating_sub(offset)) };
    let mut content = Vec::with_capacity(usize::try_from(likely).unwrap_or(0).min(1 << 20));
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(64 * 1024)];
    while (content.len() as u64) < length {
        let rest = usize::try_from(length - content.len() as u64).unwrap_or(usize::MAX).min(buffer.len());
        // An offset past what the system can tell is past the end of every file.
        let Some(at) = offset.checked_add(content.len() as u64).filter(|at| i64::try_from(*at).is_ok())
        else {
            break;
        };
        let Some(part) = buffer.get_mut(..rest) else { break };
        match file.read_at(part, at) {
            Ok(0) => break,
            Ok(count) => content.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(content)
}

/// Write a whole file, atomically: a reader sees the old content or the new, also after a crash.
///
/// The new content gets a file of its own in the same directory (`.windlass-…`), is synced, and
/// takes the name; then the directory is synced. An existing file keeps its owner and, when `mode`
/// is none, its permission bits; a new one gets 0o644. Extended attributes are not kept.
///
/// # Errors
/// [`FilesError::Denied`] if a link stands at the place: writing would replace it.
pub fn write(place: &Place, content: &[u8], mode: Option<u32>) -> Result<(), FilesError> {
    let (parent, name) = beneath::parent(place)?;
    let existing = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(stat),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno.into()),
    };
    match existing.as_ref().map(|stat| beneath::kind(stat.st_mode)) {
        None | Some(Kind::File) => {}
        Some(Kind::Directory) => return Err(FilesError::IsADirectory),
        Some(Kind::Symlink) => return Err(FilesError::Denied("a link stands there".into())),
        Some(Kind::Other) => return Err(FilesError::Other("not a regular file".into())),
    }
    // Before anything is written: a directory that can't be read can't be synced.
    let directory = beneath::reopen(&parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let temporary = Temporary::create(&directory)?;
    (&temporary.file).write_all(content)?;
    if let Some(stat) = &existing {
        let now = rustix::fs::fstat(&temporary.file)?;
        if (stat.st_uid, stat.st_gid) != (now.st_uid, now.st_gid) {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&temporary.file, Some(uid), Some(gid))?;
        }
    }
    // After the owner, for a change of owner takes setuid bits away.
    // Never set-user-id and its like: a grant to write is not one to make programs that run as root.
    let mode = mode.or(existing.map(|stat| stat.st_mode)).unwrap_or(0o644) & 0o777;
    rustix::fs::fchmod(&temporary.file, Mode::from_raw_mode(mode))?;
    temporary.file.sync_all()?;
    temporary.take_name(&name)?;
    rustix::fs::fsync(&directory)?;
    Ok(())
}

/// List a directory, sorted by name, without `.` and `..`.
///
/// Names that are no UTF-8 come with replacement characters: they can be seen and not opened.
///
/// # Errors
/// [`FilesError::TooLarge`] if the names alone are larger than `cap` bytes.
pub fn list(place: &Place, cap: u64) -> Result<Vec<Entry>, FilesError> {
    let found = beneath::find(place, End::Follow)?;
    if beneath::kind(rustix::fs::fstat(&found)?.st_mode) != Kind::Directory {
        return Err(FilesError::NotADirectory);
    }
    let directory = beneath::reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut entries = Vec::new();
    let mut size = 0_u64;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        size = size.saturating_add(name.to_bytes().len() as u64);
        if size > cap {
            return Err(FilesError::TooLarge(cap));
        }
        let kind = match entry.file_type() {
            rustix::fs::FileType::Unknown => {
                match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => beneath::kind(stat.st_mode),
                    // It is gone by now.
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno.into()),
                }
            }
            known => beneath::kind(known.as_raw_mode()),
        };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), kind });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Look at a path without following a link at its end.
///
/// # Errors
/// If nothing stands there, or it is not reached.
pub fn stat(place: &Place) -> Result<Metadata, FilesError> {
    let stat = rustix::fs::fstat(&beneath::find(place, End::Keep)?)?;
    let kind = beneath::kind(stat.st_mode);
    Ok(Metadata {
        kind,
        size_bytes: if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_ms: milliseconds(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
    })
}

/// Remove a file, a link or an empty directory.
///
/// # Errors
/// [`FilesError::NotEmpty`] for a directory that holds something.
pub fn remove(place: &Place) -> Result<(), FilesError> {
    let (parent, name) = beneath::parent(place)?;
    match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?,
        other => other?,
    }
    sync(&parent)
}

/// Make a directory, with mode 0o755.
///
/// With `parents` missing ones are made too, also the root and those above it, and a directory
/// that exists is fine.
///
/// # Errors
/// [`FilesError::Exists`] if something stands there (with `parents`: something else).
pub fn make_dir(place: &Place, parents: bool) -> Result<(), FilesError> {
    let relative = beneath::clean(&place.relative)?;
    if parents {
        match beneath::root(place) {
            Err(FilesError::NotFound) => make_way(&place.root)?,
            other => drop(other?),
        }
    } else if relative.as_os_str().is_empty() {
        // The root itself: its name is as good as any beneath it, for it is granted.
        return make_root(&place.root);
    }
    if !parents {
        let (parent, name) = beneath::parent(place)?;
        make_entry(&parent, &name)?;
        return sync(&parent);
    }
    let mut made = PathBuf::new();
    for name in relative.iter() {
        made.push(name);
        let step = Place { relative: made.clone(), ..place.clone() };
        let (parent, name) = beneath::parent(&step)?;
        match make_entry(&parent, &name) {
            Ok(()) => sync(&parent)?,
            Err(FilesError::Exists) => {
                // A directory, or a link that may be followed to one.
                let found = beneath::find(&step, End::Follow)?;
                if beneath::kind(rustix::fs::fstat(&found)?.st_mode) != Kind::Directory {
                    return Err(if made == relative {
                        FilesError::Exists
                    } else {
                        FilesError::NotADirectory
                    });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_entry(parent: &OwnedFd, name: &OsStr) -> Result<(), FilesError> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    // Whatever the agent's own mask is.
    let made = beneath::entry(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?)
}

/// Make the directories down to a root. Its path comes from a manifest, so links in it are fine.
fn make_way(root: &Path) -> Result<(), FilesError> {
    let mut above: Vec<&Path> = root.ancestors().collect();
    above.reverse();
    for path in above {
        match make_root(path) {
            Ok(()) | Err(FilesError::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_root(path: &Path) -> Result<(), FilesError> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(FilesError::Exists) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::open(above, flags, Mode::empty())?;
    make_entry(&above, name)?;
    sync(&above)
}

/// Make the names in a directory durable.
fn sync(directory: &OwnedFd) -> Result<(), FilesError> {
    Ok(rustix::fs::fsync(&beneath::reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?)?)
}

/// A regular file and its size.
fn open_file(place: &Place) -> Result<(File, u64), FilesError> {
    let found = beneath::find(place, End::Follow)?;
    let stat = rustix::fs::fstat(&found)?;
    match beneath::kind(stat.st_mode) {
        Kind::File => {}
        Kind::Directory => return Err(FilesError::IsADirectory),
        Kind::Symlink | Kind::Other => return Err(FilesError::Other("not a regular file".into())),
    }
    let file = File::from(beneath::reopen(&found, OFlags::RDONLY)?);
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

fn milliseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}

/// A new file in a directory that vanishes unless it takes another's name.
struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: String,
    file: File,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    fn create(directory: &'a OwnedFd) -> Result<Temporary<'a>, FilesError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name =
                format!(".windlass-{:016x}", RandomState::new().hash_one((std::process::id(), number)));
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => return Ok(Temporary { directory, name, file: file.into(), renamed: false }),
                Err(Errno::EXIST | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn take_name(mut self, name: &OsStr) -> Result<(), FilesError> {
        rustix::fs::renameat(self.directory, &self.name, self.directory, name)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // The error that led here is the one worth telling.
            let _ = rustix::fs::unlinkat(self.directory, &self.name, AtFlags::empty());
        }
    }
}
