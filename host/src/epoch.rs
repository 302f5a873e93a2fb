//! The highest epoch that a master has welcomed this host with.
//!
//! Of several masters one leads, and each time another one takes the lead the epoch grows. A master
//! that was paused or cut off may wake up and not know yet that it has a successor: its epoch is lower
//! than one this host has seen, so the host ends the session and asks the next master. The number is on
//! the disk before the session goes on, so that a restart of the host forgets nothing.

use crate::files;
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Why an epoch does not count.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// A later master has been seen.
    #[error(
        "it has epoch {shown}, and this host has been welcomed by a master of epoch {seen}: another one leads"
    )]
    Past { shown: u64, seen: u64 },
    /// The file can't be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Nothing of ours.
    #[error("`{}` holds no number: was it edited? The epoch of the leading master belongs there", .0.display())]
    NoNumber(PathBuf),
}

/// The highest epoch so far.
#[derive(Debug)]
pub struct Epoch {
    path: PathBuf,
    seen: Mutex<u64>,
}

impl Epoch {
    /// As an earlier process of this node left it.
    ///
    /// # Errors
    /// If the file is there and can't be read.
    pub fn open(state_dir: &Path) -> Result<Self, EpochError> {
        let path = state_dir.join("epoch");
        let seen = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| EpochError::NoNumber(path.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(source) => return Err(EpochError::File { action: "read", path, source }),
        };
        Ok(Epoch { path, seen: Mutex::new(seen) })
    }

    /// A master welcomes this host with `epoch`. Blocks while a higher one is written.
    ///
    /// # Errors
    /// If a higher one has been seen, or this one can't be written.
    pub fn welcomed(&self, epoch: u64) -> Result<(), EpochError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match epoch.cmp(&seen) {
            std::cmp::Ordering::Less => Err(EpochError::Past { shown: epoch, seen: *seen }),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                let path = self.path.clone();
                files::write_atomically(&path, format!("{epoch}\n").as_bytes(), 0o600)
                    .map_err(|source| EpochError::File { action: "write", path, source })?;
                *seen = epoch;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_epoch_is_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::open(dir.path()).unwrap();
        for good in [0, 3, 3, 7] {
            epoch.welcomed(good).unwrap();
        }
        assert!(matches!(epoch.welcomed(6), Err(EpochError::Past { shown: 6, seen: 7 })));
        let epoch = Epoch::open(dir.path()).unwrap();
        assert!(matches!(epoch.welcomed(0), Err(EpochError::Past { shown: 0, seen: 7 })));
        epoch.welcomed(7).unwrap();
        std::fs::write(dir.path().join("epoch"), "seven").unwrap();
        assert!(matches!(Epoch::open(dir.path()), Err(EpochError::NoNumber(_))));
    }

    #[test]
    fn what_cannot_be_written_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = Epoch::open(&dir.path().join("gone")).unwrap();
        assert!(matches!(epoch.welcomed(2), Err(EpochError::File { action: "write", .. })));
        epoch.welcomed(0).unwrap();
    }
}
