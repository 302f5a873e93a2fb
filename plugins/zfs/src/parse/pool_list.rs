//! `zpool list -H`: one pool a line, columns between tabs.

use super::{
    Dialect, ParseError, given,
    number::{number, percent, ratio},
    state,
};
use crate::api::pool::Summary;

/// Read the columns that `pool.list` asks for.
///
/// # Errors
/// With the line that has other columns, or a column that is not what it should be.
pub fn pool_list(text: &str, dialect: Dialect) -> Result<Vec<Summary>, ParseError> {
    // Without pools zfs-fuse says so on standard output, even with -H; OpenZFS says nothing.
    text.lines()
        .filter(|line| !line.is_empty() && *line != "no pools available")
        .map(|line| pool(line, dialect))
        .collect()
}

fn pool(line: &str, dialect: Dialect) -> Result<Summary, ParseError> {
    let mut columns: Vec<&str> = line.split('\t').collect();
    if dialect == Dialect::Fuse {
        // The only column it lacks.
        columns.insert(columns.len().min(6), "-");
    }
    let [name, size, allocated, free, capacity, dedup, fragmentation, health, guid, altroot] = columns[..]
    else {
        return Err(ParseError::new("another number of columns than was asked for", line));
    };
    let mut approximate = false;
    let mut bytes = |what: &str, text: &str| {
        given(text)
            .map(|text| {
                let read = number(text).ok_or_else(|| ParseError::new(what, line))?;
                approximate |= read.rounded;
                Ok(read.value)
            })
            .transpose()
    };
    let size_bytes = bytes("a size that is no number", size)?;
    let allocated_bytes = bytes("an allocated size that is no number", allocated)?;
    let free_bytes = bytes("a free size that is no number", free)?;
    Ok(Summary {
        name: name.to_owned(),
        guid: guid.parse().map_err(|_| ParseError::new("a guid that is no number", line))?,
        state: state(health),
        size_bytes,
        allocated_bytes,
        free_bytes,
        capacity_percent: optional(capacity, percent, "a capacity that is no percentage", line)?,
        dedup_ratio: optional(dedup, ratio, "a ratio that is no number", line)?,
        fragmentation_percent: optional(
            fragmentation,
            percent,
            "a fragmentation that is no percentage",
            line,
        )?,
        altroot: given(altroot).map(str::to_owned),
        approximate,
    })
}

fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Option<T>,
    what: &str,
    line: &str,
) -> Result<Option<T>, ParseError> {
    given(text).map(|text| read(text).ok_or_else(|| ParseError::new(what, line))).transpose()
}
