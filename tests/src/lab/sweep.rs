//! Taking labs down: by what carries their id, not by what anybody remembers of them.

use super::{LABS, cgroups, network, tool};
use anyhow::{Context as _, Result, bail};
use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::ErrorKind,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// A lab with this file goes on without an owner.
pub(super) const KEPT: &str = "kept";
/// Locked by the owner of a lab as long as it lives.
const LOCK: &str = "lock";
/// Where systemd-nspawn keeps a folder for each machine, which stays when it is killed.
const NSPAWN: [&str; 2] = ["/run/systemd/nspawn/propagate", "/run/systemd/nspawn/unix-export"];
/// Where it keeps a lock for each root, named by device and inode.
const NSPAWN_LOCKS: &str = "/run/systemd/nspawn/locks";

/// A lab on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: String,
    pub standing: Standing,
}

/// Whose a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A living process has it, and takes it down when it ends.
    Owned,
    /// It goes on until somebody takes it down.
    Kept,
    /// Its owner is gone: a remainder.
    Stale,
}

/// Whether a text can be the id of a lab. Everything that becomes a path or a name is asked this.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// Nobody makes a lab, or looks for stale ones, while this is held.
pub(super) fn lock_all() -> Result<File> {
    std::fs::create_dir_all(LABS).with_context(|| format!("making `{LABS}`"))?;
    let file = File::create(Path::new(LABS).join(LOCK))?;
    file.lock().context("waiting for other labs")?;
    Ok(file)
}

/// Become the owner of a lab; none if it has one.
pub(super) fn own(dir: &Path) -> Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("locking a lab"),
    }
}

/// All labs, and what is left of any.
///
/// # Errors
/// If they can't be looked for.
pub fn labs() -> Result<Vec<Found>> {
    let _all = lock_all()?;
    let dirs = std::fs::read_dir(LABS)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: BTreeSet<String> = dirs.collect();
    // What has lost its folder is a lab all the same.
    ids.extend(cgroups::labs()?);
    ids.extend(network::namespaces().iter().filter_map(|name| network::lab_of(name)).map(str::to_owned));
    ids.retain(|id| is_id(id));
    let standing = |id: &str| -> Result<Standing> {
        let dir = Path::new(LABS).join(id);
        Ok(match dir.is_dir() {
            true if dir.join(KEPT).exists() => Standing::Kept,
            true if own(&dir)?.is_none() => Standing::Owned,
            _ => Standing::Stale,
        })
    };
    ids.into_iter().map(|id| Ok(Found { standing: standing(&id)?, id })).collect()
}

/// Take down every lab whose owner is gone.
///
/// # Errors
/// If anything is left of one.
pub fn stale() -> Result<()> {
    for Found { id, standing } in labs()? {
        if standing == Standing::Stale {
            abandoned(&id)?;
        }
    }
    Ok(())
}

/// Take a lab down that has no owner any more. Another process may be at it as well: it is waited for.
pub(super) fn abandoned(id: &str) -> Result<()> {
    let dir = Path::new(LABS).join(id);
    let lock = match File::options().write(true).open(dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return down(id),
        Err(error) => return Err(error).context("opening the lock of a lab"),
    };
    lock.lock().context("waiting for whoever has the lab")?;
    down(id)
}

/// Take a lab down, whatever is there of it and whoever has it: processes first, then what they used.
///
/// # Errors
/// With everything that could not be removed. The rest is removed all the same.
pub fn down(id: &str) -> Result<()> {
    anyhow::ensure!(is_id(id), "`{id}` is not the id of a lab");
    let dir = Path::new(LABS).join(id);
    let mut problems = Vec::new();
    let mut note = |done: Result<()>| {
        if let Err(error) = done {
            problems.push(format!("{error:#}"));
        }
    };
    let groups = cgroups::of(id, None)?;
    note(cgroups::kill(&groups));
    for node in std::fs::read_dir(dir.join("nodes")).into_iter().flatten().flatten() {
        if let Ok(root) = std::fs::metadata(node.path().join("root")) {
            let _ = std::fs::remove_file(format!("{NSPAWN_LOCKS}/inode-{}:{}", root.dev(), root.ino()));
        }
    }
    note(unmount_below(&dir));
    for namespace in network::namespaces() {
        if network::lab_of(&namespace) == Some(id) {
            note(network::remove(&namespace));
        }
    }
    note(cgroups::remove(&groups));
    cgroups::remove_top();
    for folder in NSPAWN {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().and_then(network::lab_of) == Some(id) {
                note(unmount_below(&entry.path()));
                note(std::fs::remove_dir_all(entry.path()).context("what systemd-nspawn keeps"));
            }
        }
    }
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            problems.push(format!("removing `{}`: {error}", dir.display()));
        }
        _ => {}
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!("of lab {id} this is left:\n  - {}", problems.join("\n  - "))
}

/// Mount points at and below a folder, the innermost first.
pub(super) fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read("/proc/self/mountinfo").context("reading the mounts")?;
    let mut found: Vec<PathBuf> = mounts
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        // Names of ours need no escapes, and what has some is not ours.
        .map(|point| PathBuf::from(std::ffi::OsStr::from_bytes(point)))
        .filter(|point| point.starts_with(dir))
        .collect();
    // Later mounts are on top of earlier ones.
    found.reverse();
    Ok(found)
}

/// Unmount all of it.
///
/// # Errors
/// If something stays mounted.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    for point in mounts_below(dir)? {
        let point = point.to_str().context("mount points of ours are text")?;
        if tool("umount", &[point]).is_err() {
            // Busy for somebody who looks into it: out of the tree now, and gone when they leave.
            tool("umount", &["--lazy", point])?;
        }
    }
    Ok(())
}
