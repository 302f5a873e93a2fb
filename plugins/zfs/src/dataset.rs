//! `dataset.list`.

use crate::{
    api::dataset::{DatasetType, Error, Summary},
    parse::{self, FUSE_PROPERTIES, OPENZFS_PROPERTIES},
    tool::{self, Failure, Runner, from_failure},
};

/// With tens of thousands of snapshots the tool reads a block of metadata for each.
const TIMEOUT_MS: u64 = 100_000;

from_failure!(Error, |name| Self::NoSuchDataset(name.to_owned()));

/// Datasets beneath one, or all.
///
/// # Errors
/// See [`Error`].
pub fn list(
    runner: &impl Runner,
    under: Option<&str>,
    types: Option<&[DatasetType]>,
) -> Result<Vec<Summary>, Error> {
    if let Some(name) = under
        && !parse::is_dataset_name(name)
    {
        return Err(Error::InvalidName(name.to_owned()));
    }
    let wanted = wanted_types(under, types);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    ask(runner, under, &wanted).map_err(|failure| Error::from_failure(failure, under.unwrap_or_default()))
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

fn ask(runner: &impl Runner, under: Option<&str>, wanted: &[DatasetType]) -> Result<Vec<Summary>, Failure> {
    let names: Vec<&str> = wanted.iter().copied().map(parse::type_name).collect();
    let types = names.join(",");
    let mut openzfs = vec!["list", "-H", "-p", "-t", &types, "-o", OPENZFS_PROPERTIES];
    // zfs-fuse has no exact `list`, but its `get` has -p. It knows no types: they are chosen here.
    let mut fuse = vec!["get", "-H", "-p", "-o", "name,property,value"];
    // Nothing is beneath a snapshot or a bookmark, and -r is refused for them.
    if under.is_some_and(|name| !name.contains(['@', '#'])) {
        openzfs.insert(1, "-r");
        fuse.insert(1, "-r");
    }
    fuse.push(FUSE_PROPERTIES);
    openzfs.extend(under);
    fuse.extend(under);
    match tool::ask(runner, "zfs", &openzfs, TIMEOUT_MS) {
        Ok(text) => Ok(parse::dataset_list(&text)?),
        // zfs-fuse has no bookmarks, and would call the name of one invalid.
        Err(Failure::Usage(_)) if under.is_some_and(|name| name.contains('#')) => Err(Failure::Missing),
        Err(Failure::Usage(_)) => {
            let text = tool::ask(runner, "zfs", &fuse, TIMEOUT_MS)?;
            let mut all = parse::dataset_properties(&text)?;
            all.retain(|dataset| wanted.contains(&dataset.kind));
            Ok(all)
        }
        Err(failure) => Err(failure),
    }
}
