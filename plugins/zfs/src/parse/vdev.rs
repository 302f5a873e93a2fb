//! The vdev table of `zpool status`.
//!
//! Source: print_status_config() of cmd/zpool/zpool_main.c. Depth is two spaces a level after one
//! tab; names are padded to one width, so that the header tells where states begin (a name may hold
//! spaces); counters follow, and then notes behind two spaces each.

use super::{ParseError, number::number, state};
use crate::api::pool::{ErrorCounters, State, Vdev, VdevClass, VdevKind};

/// Read the lines after `config:`.
///
/// # Errors
/// With the row that has no state.
pub(super) fn tree(lines: &[&str]) -> Result<Vec<Vdev>, ParseError> {
    let mut rows = lines
        .iter()
        .map(|line| line.strip_prefix('\t').unwrap_or(line).trim_end())
        .skip_while(|row| !is_header(row));
    let Some(column) = rows.next().and_then(|header| header.find("STATE")) else { return Ok(Vec::new()) };
    let mut vdevs: Vec<Vdev> = Vec::new();
    // The vdevs that the next row may be a part of, with their indents.
    let mut open: Vec<(usize, u32)> = Vec::new();
    let mut class = VdevClass::Normal;
    for row in rows.filter(|row| !row.is_empty()) {
        let indent = row.len() - row.trim_start_matches(' ').len();
        if let Some(next) = class_heading(row) {
            class = next;
            // All classes hang on the pool.
            open.truncate(1);
            continue;
        }
        while open.last().is_some_and(|(above, _)| *above >= indent) {
            open.pop();
        }
        let id = u32::try_from(vdevs.len()).map_err(|_| ParseError::new("too many vdevs", row))?;
        let parent_id = open.last().map(|(_, id)| *id);
        let depth = u32::try_from(open.len()).unwrap_or(u32::MAX);
        open.push((indent, id));
        vdevs.push(vdev(
            row,
            column,
            Vdev {
                id,
                parent_id,
                depth,
                name: String::new(),
                kind: if id == 0 { VdevKind::Root } else { VdevKind::Leaf },
                class,
                state: State::Online,
                errors: None,
                was_path: None,
                notes: Vec::new(),
            },
        )?);
    }
    for parent in vdevs.iter().filter_map(|vdev| vdev.parent_id).collect::<Vec<_>>() {
        if let Some(vdev) = vdevs.get_mut(parent as usize)
            && vdev.kind == VdevKind::Leaf
        {
            vdev.kind = group_kind(&vdev.name);
        }
    }
    Ok(vdevs)
}

fn is_header(row: &str) -> bool {
    let mut words = row.split_whitespace();
    words.next() == Some("NAME") && words.next() == Some("STATE")
}

/// Headings are words alone; the pool, which may be called like one, has a state.
fn class_heading(row: &str) -> Option<VdevClass> {
    Some(match row {
        "logs" => VdevClass::Log,
        "cache" => VdevClass::Cache,
        "spares" => VdevClass::Spare,
        "special" => VdevClass::Special,
        "dedup" => VdevClass::Dedup,
        _ => return None,
    })
}

/// Kind of a vdev that has parts, from names such as `mirror-0` and `draid2:4d:8c:1s-0`.
fn group_kind(name: &str) -> VdevKind {
    let head = name.split(['-', ':']).next().unwrap_or(name);
    match head {
        "mirror" => VdevKind::Mirror,
        "raidz" | "raidz1" => VdevKind::Raidz1,
        "raidz2" => VdevKind::Raidz2,
        "raidz3" => VdevKind::Raidz3,
        "replacing" => VdevKind::Replacing,
        "spare" => VdevKind::Spare,
        _ if head.starts_with("draid") => VdevKind::Draid,
        _ => VdevKind::Other,
    }
}

fn vdev(row: &str, column: usize, mut vdev: Vdev) -> Result<Vdev, ParseError> {
    let (name, rest) =
        split_name(row, column).ok_or_else(|| ParseError::new("a vdev without a state", row))?;
    let (word, mut rest) = next_word(rest);
    name.clone_into(&mut vdev.name);
    vdev.state = state(word);
    if vdev.class != VdevClass::Spare {
        let (read, after) = next_word(rest);
        let (write, after) = next_word(after);
        let (checksum, after) = next_word(after);
        if let (Some(read), Some(write), Some(checksum)) = (number(read), number(write), number(checksum)) {
            vdev.errors = Some(ErrorCounters {
                read_errors: read.value,
                write_errors: write.value,
                checksum_errors: checksum.value,
                approximate: read.rounded || write.rounded || checksum.rounded,
            });
            rest = after;
        }
    }
    notes(rest.trim(), &mut vdev);
    Ok(vdev)
}

/// Name and what follows it. States begin where the header says; a row that has something else
/// there is split at the first two spaces.
fn split_name(row: &str, column: usize) -> Option<(&str, &str)> {
    if let (Some(name), Some(rest)) = (row.get(..column), row.get(column..))
        && name.ends_with(' ')
        && rest.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.trim().is_empty()
    {
        return Some((name.trim(), rest));
    }
    let body = row.trim_start();
    let (name, rest) = body.split_once("  ").or_else(|| body.split_once(' '))?;
    let rest = rest.trim_start();
    (!name.is_empty() && !rest.is_empty()).then_some((name, rest))
}

fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(' ').unwrap_or(text.len()))
}

/// `was /dev/sdb1`, `too many errors`, `(resilvering)`, `48.2M repaired`: each behind two spaces.
fn notes(text: &str, vdev: &mut Vdev) {
    let mut text = text;
    if let Some(path) = text.strip_prefix("was ") {
        // A path may hold spaces, so only a note in parentheses ends it.
        let end = path.find("  (").unwrap_or(path.len());
        vdev.was_path = Some(path[..end].trim_end().to_owned());
        text = &path[end..];
    }
    for note in text.split("  ").map(str::trim).filter(|note| !note.is_empty()) {
        let bare = note.strip_prefix('(').and_then(|note| note.strip_suffix(')')).unwrap_or(note);
        vdev.notes.push(bare.to_owned());
    }
}
