//! `pool.list` and `pool.status`.

use crate::{
    api::pool::{Error, StatusReport, Summary},
    parse::{self, Dialect},
    tool::{self, Failure, Runner, from_failure},
};

/// Columns of `zpool list` with OpenZFS. The manifest grants exactly these.
const OPENZFS_COLUMNS: &str =
    "name,size,allocated,free,capacity,dedupratio,fragmentation,health,guid,altroot";
/// Columns of `zpool list` with zfs-fuse, which has no fragmentation.
const FUSE_COLUMNS: &str = "name,size,allocated,free,capacity,dedupratio,health,guid,altroot";

/// `zpool list` reads what the kernel has in memory: even with a suspended pool it answers.
const LIST_TIMEOUT_MS: u64 = 20_000;
/// `zpool status -v` looks up the path of every damaged file, on disk.
const STATUS_TIMEOUT_MS: u64 = 45_000;

from_failure!(Error, |name| Self::NoSuchPool(name.to_owned()));

/// All imported pools.
///
/// # Errors
/// See [`Error`].
pub fn list(runner: &impl Runner) -> Result<Vec<Summary>, Error> {
    let openzfs = ["list", "-H", "-p", "-o", OPENZFS_COLUMNS];
    let fuse = ["list", "-H", "-o", FUSE_COLUMNS];
    ask(runner, &openzfs, &fuse, LIST_TIMEOUT_MS)
        .and_then(|(text, dialect)| parse::pool_list(&text, dialect).map_err(Failure::from))
        .map_err(|failure| Error::from_failure(failure, ""))
}

/// Status of one pool or of all.
///
/// # Errors
/// See [`Error`].
pub fn status(runner: &impl Runner, pool: Option<&str>) -> Result<Vec<StatusReport>, Error> {
    if let Some(name) = pool
        && !parse::is_pool_name(name)
    {
        return Err(Error::InvalidName(name.to_owned()));
    }
    // -P prints whole paths, so that a device can be told from its name; -p prints whole numbers.
    let mut openzfs = vec!["status", "-v", "-P", "-p"];
    let mut fuse = vec!["status", "-v"];
    openzfs.extend(pool);
    fuse.extend(pool);
    ask(runner, &openzfs, &fuse, STATUS_TIMEOUT_MS)
        .and_then(|(text, _)| parse::pool_status(&text).map_err(Failure::from))
        .map_err(|failure| Error::from_failure(failure, pool.unwrap_or_default()))
}

fn ask(
    runner: &impl Runner,
    openzfs: &[&str],
    fuse: &[&str],
    timeout_ms: u64,
) -> Result<(String, Dialect), Failure> {
    match tool::ask(runner, "zpool", openzfs, timeout_ms) {
        Err(Failure::Usage(_)) => {
            tool::ask(runner, "zpool", fuse, timeout_ms).map(|text| (text, Dialect::Fuse))
        }
        other => other.map(|text| (text, Dialect::OpenZfs)),
    }
}
