//! Who made a filesystem, and whether it holds anything.

use super::ParseError;

/// What is asked to know whether a filesystem may be removed. The manifest grants exactly these.
pub const OWNER_PROPERTIES: &str = "type,mounted,mountpoint,windlass:run";

/// What the properties of [`OWNER_PROPERTIES`] say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// It is a filesystem, and not a volume.
    pub filesystem: bool,
    /// It is mounted now.
    pub mounted: bool,
    /// Where it is or would be mounted.
    pub mountpoint: String,
    /// The run id set on this dataset itself. One that it inherits says nothing about it.
    pub run: Option<String>,
}

/// Read `zfs get -H -p -o property,value,source` with [`OWNER_PROPERTIES`].
///
/// # Errors
/// With the line that has other columns, or if there is no type.
pub fn owner(text: &str) -> Result<Owner, ParseError> {
    let mut owner = Owner::default();
    let mut typed = false;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [property, value, source] = columns[..] else {
            return Err(ParseError::new("another number of columns than was asked for", line));
        };
        match property {
            "type" => (typed, owner.filesystem) = (true, value == "filesystem"),
            "mounted" => owner.mounted = value == "yes",
            "mountpoint" => value.clone_into(&mut owner.mountpoint),
            "windlass:run" => owner.run = (source == "local").then(|| value.to_owned()),
            _ => return Err(ParseError::new("a property that was not asked for", line)),
        }
    }
    if typed { Ok(owner) } else { Err(ParseError::new("no type", text)) }
}

/// The first thing that makes a filesystem not empty, from `find -printf '%y %P\0'` two levels deep. A
/// Gluster brick leaves `brick/.glusterfs` behind, which does not count.
pub fn held(text: &str) -> Option<&str> {
    text.split_terminator('\0')
        .find(|entry| !matches!(*entry, "d brick" | "d brick/.glusterfs"))
        .map(|entry| entry.split_once(' ').map_or(entry, |(_, path)| path))
}
