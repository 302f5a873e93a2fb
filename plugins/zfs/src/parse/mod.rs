//! From the text of the tools to values.
//!
//! Text and not JSON, for all versions: `zpool status -P -p` and `zfs list -p` are exact, JSON came
//! only with OpenZFS 2.3, changes with its minor versions, and lacks what text says about a vdev in
//! passing (`too many errors`, `resilvering`). The one thing JSON alone has exactly, the sizes of
//! a scan, is marked as rounded in the result.
//!
//! What is unknown is kept as text where there is a place for it, and is an error where a value
//! would be wrong without it. Nothing here panics, whatever the text.

mod dataset;
mod health;
mod number;
mod owner;
mod pool_list;
mod scan;
mod status;
mod vdev;

pub use dataset::{FUSE_PROPERTIES, OPENZFS_PROPERTIES, dataset_list, dataset_properties, type_name};
pub use number::{Number, number};
pub use owner::{OWNER_PROPERTIES, Owner, held, owner};
pub use pool_list::pool_list;
pub use status::pool_status;

use crate::{api::pool::State, tool::Failure};
use std::fmt;

/// The family of tools that a text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenZFS 2.1 and newer.
    OpenZfs,
    /// zfs-fuse 0.7.
    Fuse,
}

/// A text that is not what the tool prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What was expected, and what was found.
    message: String,
}

impl ParseError {
    fn new(what: &str, line: &str) -> Self {
        // The line is foreign text of any length.
        let line: String = line.chars().take(200).collect();
        ParseError { message: format!("{what} in `{}`", line.escape_debug()) }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Failure::Unexpected(error.message)
    }
}

/// Whether this can be the name of a pool: a letter, then letters, digits and `_ - : .` or space
/// (zpoolconcepts(7), pool_namecheck() in zfs_namecheck.c).
pub fn is_pool_name(name: &str) -> bool {
    name.len() < 256 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && is_component(name)
}

/// Whether this can be the name of a filesystem, volume, snapshot or bookmark: a pool, components
/// after slashes, and at most one part after `@` or `#` (entity_namecheck() in zfs_namecheck.c).
pub fn is_dataset_name(name: &str) -> bool {
    let (path, mark) = match name.split_once(['@', '#']) {
        Some((path, mark)) => (path, Some(mark)),
        None => (name, None),
    };
    let mut components = path.split('/');
    name.len() < 256
        && components.next().is_some_and(is_pool_name)
        && components.all(is_component)
        && mark.is_none_or(is_component)
}

/// Whether this can be the name of a filesystem beneath a pool: none of its snapshots, nor the pool.
pub fn is_filesystem_name(name: &str) -> bool {
    is_dataset_name(name) && name.contains('/') && !name.contains(['@', '#', '%'])
}

/// Whether this can be the id of a run.
pub fn is_run_id(run: &str) -> bool {
    run.len() <= 64
        && run.starts_with(|c: char| c.is_ascii_alphanumeric())
        && run.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn is_component(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:. %".contains(&b))
}

/// States as zpool_state_to_name() and `zpool status` spell them.
fn state(word: &str) -> State {
    match word {
        "ONLINE" => State::Online,
        "DEGRADED" => State::Degraded,
        "FAULTED" => State::Faulted,
        "OFFLINE" => State::Offline,
        "UNAVAIL" => State::Unavailable,
        "REMOVED" => State::Removed,
        "SUSPENDED" => State::Suspended,
        "AVAIL" => State::SpareAvailable,
        "INUSE" => State::SpareInUse,
        "SPLIT" => State::Split,
        other => State::Other(other.to_owned()),
    }
}

/// A value, or none for `-`, by which the tools say that there is none.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty() && text != "-").then_some(text)
}
