//! What may be believed on this node's disk.
//!
//! A host trusts the plugins in its own folder without a signature, and bundles from a master by its own
//! trust file. Whoever can write either decides what runs as root, so both must be root's (or the user's
//! that the host runs as) and nobody else's to write.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Why something is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It belongs to another user.
    #[error("`{}` belongs to user {uid}, who is neither root nor the user of the host: chown it", path.display())]
    Owner { path: PathBuf, uid: u32 },
    /// Others may write it.
    #[error("`{}` has mode {mode:03o}: group or others may write it (chmod go-w)", path.display())]
    Writable { path: PathBuf, mode: u32 },
    /// It can't be looked at.
    #[error("`{}`", path.display())]
    Unseen {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Check one file or folder; of a link, what it leads to.
///
/// # Errors
/// With what is wrong and how to mend it.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    let unseen = |source| Untrusted::Unseen { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unseen)?;
    let ours = rustix::process::geteuid().as_raw();
    if metadata.uid() != 0 && metadata.uid() != ours {
        return Err(Untrusted::Owner { path: path.to_owned(), uid: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(Untrusted::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Check a folder and every file in it.
///
/// # Errors
/// With the first that is not to be believed.
pub fn check_folder(folder: &Path) -> Result<(), Untrusted> {
    check(folder)?;
    let unseen = |source| Untrusted::Unseen { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unseen)? {
        check(&entry.map_err(unseen)?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    #[test]
    fn what_others_may_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("component.wasm");
        std::fs::write(&file, b"x").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        check_folder(dir.path()).unwrap();
        for mode in [0o664, 0o646, 0o777] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(check_folder(dir.path()), Err(Untrusted::Writable { .. })), "{mode:o}");
        }
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o775)).unwrap();
        assert!(matches!(check_folder(dir.path()), Err(Untrusted::Writable { .. })));
        assert!(matches!(check(&dir.path().join("none")), Err(Untrusted::Unseen { .. })));
    }
}
