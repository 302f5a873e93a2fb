//! Opening what stands beneath a root, and nothing else.
//!
//! The kernel walks the path (openat2(2)) and refuses to leave the root at any step, so there is no
//! time between a check and its use. A link that stays beneath the root is a second matter: a grant
//! for `/etc/app/*.conf` must not let a link there open `/etc/app/secret`. So links are refused, or
//! where the caller gave a check, the path where they led is asked from the kernel and checked,
//! on the descriptor that is used afterwards.

use super::{FilesError, Place};
use rustix::{
    fd::{AsFd, AsRawFd, OwnedFd},
    fs::{FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

/// What to do with a link at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As with links on the way.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// How often the kernel may answer that something was renamed while it looked.
const TRIES: usize = 100;

/// Open the root itself. Links on the way to it are followed: it comes from a manifest.
pub(super) fn root(place: &Place) -> Result<OwnedFd, FilesError> {
    if !place.root.is_absolute() {
        return Err(FilesError::Denied("the root is not absolute".into()));
    }
    rustix::fs::open(&place.root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(FilesError::from)
}

/// Find what stands at a place. The descriptor is good for looking and for opening it again.
pub(super) fn find(place: &Place, end: End) -> Result<OwnedFd, FilesError> {
    let relative = clean(&place.relative)?;
    let root = root(place)?;
    let flags = OFlags::PATH | if end == End::Keep { OFlags::NOFOLLOW } else { OFlags::empty() };
    let found = walk(root.as_fd(), &relative, flags, place.links.is_some())?;
    check_way(place, root.as_fd(), found.as_fd(), &relative)?;
    Ok(found)
}

/// Find the directory that holds the last name of a place, and that name.
pub(super) fn parent(place: &Place) -> Result<(OwnedFd, OsString), FilesError> {
    let relative = clean(&place.relative)?;
    let Some(name) = relative.file_name() else {
        return Err(FilesError::Denied("it is the granted directory itself".into()));
    };
    let above = relative.parent().unwrap_or(Path::new(""));
    let root = root(place)?;
    let found = walk(root.as_fd(), above, OFlags::PATH | OFlags::DIRECTORY, place.links.is_some())?;
    if let Some(check) = &place.links {
        let way = way_below(root.as_fd(), found.as_fd())?;
        if way != above && !check(&way.join(name)) {
            return Err(leads_elsewhere(&way.join(name)));
        }
    }
    Ok((found, name.to_owned()))
}

/// Open anew what was found, for reading.
pub(super) fn reopen(found: &OwnedFd, flags: OFlags) -> Result<OwnedFd, FilesError> {
    // The very file that was found, whatever stands at its path by now.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())?)
}

/// Open an entry of a directory, never through a link.
pub(super) fn entry(directory: &OwnedFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, FilesError> {
    walk(directory.as_fd(), Path::new(name), flags | OFlags::NOFOLLOW, false)
}

fn walk<F: AsFd>(directory: F, path: &Path, flags: OFlags, links: bool) -> Result<OwnedFd, FilesError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // With NOFOLLOW and PATH a link at the end is opened itself, and is no error here.
    if !links {
        resolve |= ResolveFlags::NO_SYMLINKS;
    }
    for _ in 0..TRIES {
        match rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::XDEV) => {
                return Err(FilesError::Denied("a link leads out of the granted directory".into()));
            }
            Err(Errno::LOOP) => {
                return Err(FilesError::Denied(if links {
                    "too many links".into()
                } else {
                    "a link stands on the way".into()
                }));
            }
            other => return Ok(other?),
        }
    }
    Err(FilesError::Other("the path keeps changing".into()))
}

/// If links were followed, is the path they led to allowed?
fn check_way<R: AsFd, F: AsFd>(place: &Place, root: R, found: F, relative: &Path) -> Result<(), FilesError> {
    let Some(check) = &place.links else { return Ok(()) };
    let way = way_below(root, found)?;
    if way == relative || check(&way) { Ok(()) } else { Err(leads_elsewhere(&way)) }
}

fn leads_elsewhere(way: &Path) -> FilesError {
    FilesError::Denied(format!("a link leads to `{}` there, which is not granted", way.display()))
}

/// The path from one descriptor to another, as the kernel knows it.
fn way_below<R: AsFd, F: AsFd>(root: R, found: F) -> Result<PathBuf, FilesError> {
    let (root, found) = (kernel_path(root)?, kernel_path(found)?);
    found
        .strip_prefix(&root)
        .map(Path::to_owned)
        .map_err(|_| FilesError::Denied("it was moved out of the granted directory".into()))
}

fn kernel_path<F: AsFd>(fd: F) -> Result<PathBuf, FilesError> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(OsString::from_vec(rustix::fs::readlink(link, Vec::new())?.into_bytes()).into())
}

/// Only names: no root, no `..`. (`.` and doubled slashes vanish.)
pub(super) fn clean(relative: &Path) -> Result<PathBuf, FilesError> {
    relative
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(FilesError::Denied("the path is not beneath the granted directory".into())),
        })
        .collect()
}

/// What kind of thing a mode tells of.
pub(super) fn kind(mode: u32) -> super::Kind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => super::Kind::File,
        FileType::Directory => super::Kind::Directory,
        FileType::Symlink => super::Kind::Symlink,
        _ => super::Kind::Other,
    }
}
