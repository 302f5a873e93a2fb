//! `zfs list -H -p` (OpenZFS) and `zfs get -H -p` (zfs-fuse).

use super::{
    ParseError, given,
    number::{number, ratio},
};
use crate::api::dataset::{DatasetType, Summary};

/// Columns of `zfs list` with OpenZFS. The manifest grants exactly these.
pub const OPENZFS_PROPERTIES: &str = "name,type,creation,used,available,referenced,mountpoint,mounted,compression,\
compressratio,dedup,quota,refquota,reservation,refreservation,recordsize,volsize,readonly,origin";
/// Properties of `zfs get` with zfs-fuse: the same, as both have them, but for the name.
pub const FUSE_PROPERTIES: &str = "type,creation,used,available,referenced,mountpoint,mounted,compression,\
compressratio,dedup,quota,refquota,reservation,refreservation,recordsize,volsize,readonly,origin";

/// Name of a type, as `zfs list -t` takes it and as the property `type` has it.
pub fn type_name(kind: DatasetType) -> &'static str {
    match kind {
        DatasetType::Filesystem => "filesystem",
        DatasetType::Volume => "volume",
        DatasetType::Snapshot => "snapshot",
        DatasetType::Bookmark => "bookmark",
    }
}

/// Read `zfs list -H -p -o` with [`OPENZFS_PROPERTIES`]: one dataset a line.
///
/// # Errors
/// With the line that has other columns, or a property that is not what it should be.
pub fn dataset_list(text: &str) -> Result<Vec<Summary>, ParseError> {
    lines(text)
        .map(|line| {
            let mut values = line.split('\t');
            let mut dataset = Draft::new(values.next().unwrap_or_default());
            let mut properties = FUSE_PROPERTIES.split(',');
            loop {
                match (properties.next(), values.next()) {
                    (Some(property), Some(value)) => dataset.set(property, value, line)?,
                    (None, None) => break,
                    _ => return Err(ParseError::new("another number of columns than was asked for", line)),
                }
            }
            dataset.finish(line)
        })
        .collect()
}

/// Read `zfs get -H -p -o name,property,value`: one property a line, the datasets one after another.
///
/// # Errors
/// With the line that has other columns, or a property that is not what it should be.
pub fn dataset_properties(text: &str) -> Result<Vec<Summary>, ParseError> {
    let mut datasets = Vec::new();
    let mut open: Option<Draft> = None;
    for line in lines(text) {
        let mut columns = line.splitn(3, '\t');
        let (Some(name), Some(property), Some(value)) = (columns.next(), columns.next(), columns.next())
        else {
            return Err(ParseError::new("fewer than three columns", line));
        };
        if let Some(done) = open.take_if(|draft| draft.summary.name != name) {
            datasets.push(done.finish(line)?);
        }
        open.get_or_insert_with(|| Draft::new(name)).set(property, value, line)?;
    }
    if let Some(last) = open {
        datasets.push(last.finish("the last dataset")?);
    }
    Ok(datasets)
}

/// `zfs list` without datasets may say so in place of a table.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && *line != "no datasets available")
}

/// A dataset whose type is not known yet.
struct Draft {
    kind: Option<DatasetType>,
    summary: Summary,
}

impl Draft {
    fn new(name: &str) -> Self {
        let summary = Summary {
            name: name.to_owned(),
            kind: DatasetType::Filesystem,
            used_bytes: None,
            available_bytes: None,
            referenced_bytes: None,
            mountpoint: None,
            mounted: None,
            created_ms: None,
            compression: None,
            compress_ratio: None,
            dedup: None,
            quota_bytes: None,
            refquota_bytes: None,
            reservation_bytes: None,
            refreservation_bytes: None,
            record_size_bytes: None,
            volume_size_bytes: None,
            read_only: None,
            origin: None,
        };
        Draft { kind: None, summary }
    }

    fn set(&mut self, property: &str, value: &str, line: &str) -> Result<(), ParseError> {
        // Every property may be missing for a type that does not have it.
        let Some(value) = given(value) else { return Ok(()) };
        let wrong = || ParseError::new(&format!("a value of `{property}` that it cannot have"), line);
        // -p means whole numbers: a rounded one would be taken for exact.
        let bytes = || number(value).filter(|read| !read.rounded).map(|read| read.value).ok_or_else(wrong);
        // With -p a limit that is not set is 0; `none` is its form without.
        let limit =
            || if value == "none" { Ok(None) } else { bytes().map(|bytes| (bytes > 0).then_some(bytes)) };
        let flag = |on: &str, off: &str| match value {
            _ if value == on => Ok(Some(true)),
            _ if value == off => Ok(Some(false)),
            _ => Err(wrong()),
        };
        let text = || Some(value.to_owned());
        let summary = &mut self.summary;
        match property {
            "type" => {
                self.kind = Some(match value {
                    "filesystem" => DatasetType::Filesystem,
                    "volume" => DatasetType::Volume,
                    "snapshot" => DatasetType::Snapshot,
                    "bookmark" => DatasetType::Bookmark,
                    _ => return Err(wrong()),
                });
            }
            "creation" => {
                let seconds: i64 = value.parse().map_err(|_| wrong())?;
                summary.created_ms = Some(seconds.checked_mul(1000).ok_or_else(wrong)?);
            }
            "used" => summary.used_bytes = Some(bytes()?),
            "available" => summary.available_bytes = Some(bytes()?),
            "referenced" => summary.referenced_bytes = Some(bytes()?),
            "mountpoint" => summary.mountpoint = text(),
            "mounted" => summary.mounted = flag("yes", "no")?,
            "compression" => summary.compression = text(),
            "compressratio" => summary.compress_ratio = Some(ratio(value).ok_or_else(wrong)?),
            "dedup" => summary.dedup = text(),
            "quota" => summary.quota_bytes = limit()?,
            "refquota" => summary.refquota_bytes = limit()?,
            "reservation" => summary.reservation_bytes = limit()?,
            "refreservation" => summary.refreservation_bytes = limit()?,
            "recordsize" => summary.record_size_bytes = Some(bytes()?),
            "volsize" => summary.volume_size_bytes = Some(bytes()?),
            "readonly" => summary.read_only = flag("on", "off")?,
            "origin" => summary.origin = text(),
            _ => return Err(ParseError::new("a property that was not asked for", line)),
        }
        Ok(())
    }

    fn finish(self, line: &str) -> Result<Summary, ParseError> {
        let kind = self.kind.ok_or_else(|| ParseError::new("a dataset without a type", line))?;
        let mut summary = Summary { kind, ..self.summary };
        if matches!(kind, DatasetType::Snapshot | DatasetType::Bookmark) {
            // A snapshot has the values of its filesystem for some of these; they say nothing about it.
            summary.compression = None;
            summary.dedup = None;
            summary.read_only = None;
            summary.volume_size_bytes = None;
            summary.record_size_bytes = None;
            summary.mounted = None;
        }
        Ok(summary)
    }
}
