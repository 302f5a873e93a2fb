//! `pool.list` and `pool.status`.

use crate::{
    Plugin,
    api::pool::{Error, Guest, StatusReport, Summary},
    parse::{self, Dialect},
    tool::{self, Failure, from_failure},
};
use std::time::Duration;
use windlass_sdk::Command;

/// Columns of `zpool list` with OpenZFS. The manifest grants exactly these.
const OPENZFS_COLUMNS: &str =
    "name,size,allocated,free,capacity,dedupratio,fragmentation,health,guid,altroot";
/// Columns of `zpool list` with zfs-fuse, which has no fragmentation.
const FUSE_COLUMNS: &str = "name,size,allocated,free,capacity,dedupratio,health,guid,altroot";

/// `zpool list` reads what the kernel has in memory: even with a suspended pool it answers.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);
/// `zpool status -v` looks up the path of every damaged file, on disk.
const STATUS_TIMEOUT: Duration = Duration::from_secs(45);

from_failure!(Error, |name| Self::NoSuchPool(name.to_owned()));

impl Guest for Plugin {
    fn list() -> Result<Vec<Summary>, Error> {
        let openzfs = Command::new("zpool").args(["list", "-H", "-p"]).opt("-o", OPENZFS_COLUMNS);
        let fuse = Command::new("zpool").args(["list", "-H"]).opt("-o", FUSE_COLUMNS);
        ask(openzfs.timeout(LIST_TIMEOUT), fuse.timeout(LIST_TIMEOUT))
            .and_then(|(text, dialect)| parse::pool_list(&text, dialect).map_err(Failure::from))
            .map_err(|failure| Error::from_failure(failure, ""))
    }

    fn status(pool: Option<String>) -> Result<Vec<StatusReport>, Error> {
        if let Some(name) = &pool
            && !parse::is_pool_name(name)
        {
            return Err(Error::InvalidName(name.clone()));
        }
        // -P prints whole paths, so that a device can be told from its name; -p prints whole numbers.
        let openzfs = Command::new("zpool").args(["status", "-v", "-P", "-p"]).args(&pool);
        let fuse = Command::new("zpool").args(["status", "-v"]).args(&pool);
        ask(openzfs.timeout(STATUS_TIMEOUT), fuse.timeout(STATUS_TIMEOUT))
            .and_then(|(text, _)| parse::pool_status(&text).map_err(Failure::from))
            .map_err(|failure| Error::from_failure(failure, pool.as_deref().unwrap_or_default()))
    }
}

/// Ask in the one dialect, and in the other if the tool does not know the arguments.
fn ask(openzfs: Command, fuse: Command) -> Result<(String, Dialect), Failure> {
    match tool::ask(&openzfs) {
        Err(Failure::Usage(_)) => tool::ask(&fuse).map(|text| (text, Dialect::Fuse)),
        other => other.map(|text| (text, Dialect::OpenZfs)),
    }
}
