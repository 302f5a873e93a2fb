//! The operations of `dataset`.

use crate::{
    Plugin,
    api::dataset::{DatasetType, Error, Guest, Storage, Summary},
    lifecycle,
    parse::{self, FUSE_PROPERTIES, OPENZFS_PROPERTIES},
    tool::{self, Failure, from_failure},
};
use std::time::Duration;
use windlass_sdk::Command;

/// With tens of thousands of snapshots the tool reads a block of metadata for each.
const TIMEOUT: Duration = Duration::from_secs(100);

from_failure!(Error, |name| Self::NoSuchDataset(name.to_owned()));

impl Guest for Plugin {
    fn list(under: Option<String>, types: Option<Vec<DatasetType>>) -> Result<Vec<Summary>, Error> {
        let under = under.as_deref();
        if let Some(name) = under
            && !parse::is_dataset_name(name)
        {
            return Err(Error::InvalidName(name.to_owned()));
        }
        let wanted = wanted_types(under, types.as_deref());
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        ask(under, &wanted).map_err(|failure| Error::from_failure(failure, under.unwrap_or_default()))
    }

    fn create(
        name: String,
        storage: Storage,
        quota_bytes: Option<u64>,
        reservation_bytes: Option<u64>,
        run: Option<String>,
    ) -> Result<(), Error> {
        let limits = [("quota", quota_bytes), ("reservation", reservation_bytes)];
        lifecycle::create(&name, storage, limits, run.as_deref())
    }

    fn remove(name: String, run: String) -> Result<(), Error> {
        lifecycle::remove(&name, &run)
    }
}

/// What to list where the caller does not say: what `zfs list` itself would show.
fn wanted_types(under: Option<&str>, types: Option<&[DatasetType]>) -> Vec<DatasetType> {
    use DatasetType::{Bookmark, Filesystem, Snapshot, Volume};
    let Some(types) = types else {
        return match under {
            Some(name) if name.contains('@') => vec![Snapshot],
            Some(name) if name.contains('#') => vec![Bookmark],
            _ => vec![Filesystem, Volume],
        };
    };
    // In a fixed order and each once, so that the grammar of the manifest can list all there are.
    [Filesystem, Volume, Snapshot, Bookmark].into_iter().filter(|kind| types.contains(kind)).collect()
}

fn ask(under: Option<&str>, wanted: &[DatasetType]) -> Result<Vec<Summary>, Failure> {
    let names: Vec<&str> = wanted.iter().copied().map(parse::type_name).collect();
    // Nothing is beneath a snapshot or a bookmark, and -r is refused for them.
    let beneath = under.filter(|name| !name.contains(['@', '#'])).map(|_| "-r");
    let openzfs = Command::new("zfs")
        .arg("list")
        .args(beneath)
        .args(["-H", "-p"])
        .opt("-t", names.join(","))
        .opt("-o", OPENZFS_PROPERTIES)
        .args(under);
    // zfs-fuse has no exact `list`, but its `get` has -p. It knows no types: they are chosen here.
    let fuse = Command::new("zfs")
        .arg("get")
        .args(beneath)
        .args(["-H", "-p"])
        .opt("-o", "name,property,value")
        .arg(FUSE_PROPERTIES)
        .args(under);
    match tool::ask(&openzfs.timeout(TIMEOUT)) {
        Ok(text) => Ok(parse::dataset_list(&text)?),
        // zfs-fuse has no bookmarks, and would call the name of one invalid.
        Err(Failure::Usage(_)) if under.is_some_and(|name| name.contains('#')) => Err(Failure::Missing),
        Err(Failure::Usage(_)) => {
            let text = tool::ask(&fuse.timeout(TIMEOUT))?;
            let mut all = parse::dataset_properties(&text)?;
            all.retain(|dataset| wanted.contains(&dataset.kind));
            Ok(all)
        }
        Err(failure) => Err(failure),
    }
}
