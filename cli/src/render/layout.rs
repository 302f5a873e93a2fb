//! Which of three tables shows one record a node best.

use super::table::{Grid, Text, Tone};
use crate::output::Look;

/// A row of a results table: a node, how it ended, the cells of its value.
#[derive(Debug)]
pub struct NodeRow {
    pub name: String,
    pub outcome: Text,
    pub cells: Vec<(String, String)>,
}

/// What is aimed at where stdout is no terminal: a table, not a mile-long line.
const UNBOUNDED: usize = 160;
/// Where a column is a node its cells may be folded, but not narrower than this.
const FOLD: usize = 24;

/// A table of records, and how many columns were left out of it.
///
/// A row a node where that fits; else a column a node; else a row a node with as many fields as fit.
/// Where nothing bounds the width nothing is left out. `columns` names the fields wanted.
pub fn records(rows: &[NodeRow], columns: &[String], look: &Look) -> (String, usize) {
    let mut names: Vec<&str> = Vec::new();
    for (name, cell) in rows.iter().flat_map(|row| &row.cells) {
        // What no node has says nothing.
        let wanted = if columns.is_empty() { cell != "-" } else { is_chosen(name, columns) };
        if wanted && !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if !columns.is_empty() {
        names.sort_by_key(|name| columns.iter().position(|column| within(name, column)));
    }
    let width = look.width.unwrap_or(UNBOUNDED);
    let all = by_row(rows, &names);
    if all.width() <= width || !columns.is_empty() {
        return (all.render(look), 0);
    }
    let turned = by_column(rows, &names);
    if look.width.is_none() || turned.width_folded(FOLD) <= width || rows.len() == 1 {
        return (turned.render(look), 0);
    }
    let mut shown = names.len();
    while shown > 1 && by_row(rows, &names[..shown]).width() > width {
        shown -= 1;
    }
    (by_row(rows, &names[..shown]).render(look), names.len() - shown)
}

fn within(name: &str, column: &str) -> bool {
    name == column || name.strip_prefix(column).is_some_and(|rest| rest.starts_with('.'))
}

fn is_chosen(name: &str, columns: &[String]) -> bool {
    columns.iter().any(|column| within(name, column))
}

fn value<'r>(row: &'r NodeRow, name: &str) -> &'r str {
    row.cells.iter().find(|(cell, _)| cell == name).map_or("-", |(_, text)| text)
}

fn by_row(rows: &[NodeRow], names: &[&str]) -> Grid {
    let mut grid = Grid::new(["node", "outcome"].iter().chain(names));
    for row in rows {
        let head = [Text::from(row.name.clone()), row.outcome.clone()];
        grid.row(head.into_iter().chain(names.iter().map(|name| value(row, name).into())));
    }
    grid
}

fn by_column(rows: &[NodeRow], names: &[&str]) -> Grid {
    let mut grid = Grid::named(["NODE"].into_iter().chain(rows.iter().map(|row| row.name.as_str())));
    grid.row([Tone::Faint.text("outcome")].into_iter().chain(rows.iter().map(|row| row.outcome.clone())));
    for name in names {
        let cells = rows.iter().map(|row| Text::from(value(row, name)));
        grid.row([Tone::Faint.text(*name)].into_iter().chain(cells));
    }
    grid
}
