//! A value of any depth as an outline: scalars as `name  value`, lists of flat records as tables,
//! the rest indented.
//!
//! A type, where known, gives the order of fields; JSON objects have none. WIT has no recursive
//! types, so trees come as lists whose records have `id`, `parent_id`, `depth` and `name`: those are
//! shown as a tree, by indenting `name`.

use super::{
    scalar,
    table::{Grid, Text, Tone, indent},
    text::clean,
};
use crate::output::Look;
use serde_json::{Map, Value};
use windlass_types::shape::{Field, Shape};

/// The fields of an object in the order of its type, then those that the type does not know.
pub fn ordered<'v>(object: &'v Map<String, Value>, shape: Option<&Shape>) -> Vec<&'v str> {
    let fields = fields(shape);
    let known = fields.iter().filter_map(|field| object.get_key_value(&field.name));
    let unknown = object.iter().filter(|(key, _)| !fields.iter().any(|field| field.name == **key));
    known.chain(unknown).map(|(key, _)| key.as_str()).collect()
}

fn fields(shape: Option<&Shape>) -> &[Field] {
    match shape.map(strip) {
        Some(Shape::Record { fields, .. }) => fields,
        _ => &[],
    }
}

/// The type of a field.
pub fn member<'s>(shape: Option<&'s Shape>, name: &str) -> Option<&'s Shape> {
    fields(shape).iter().find(|field| field.name == name).map(|field| &field.shape)
}

/// The type of the items of a list.
pub fn item(shape: Option<&Shape>) -> Option<&Shape> {
    match shape.map(strip) {
        Some(Shape::List { item }) => Some(item),
        _ => None,
    }
}

fn strip(shape: &Shape) -> &Shape {
    match shape {
        Shape::Option { item } => strip(item),
        shape => shape,
    }
}

/// An object as cells: one a field that fits one line, nested records as `outer.inner`; none if
/// something in it needs more room.
pub fn flat(
    object: &Map<String, Value>,
    shape: Option<&Shape>,
    look: &Look,
) -> Option<Vec<(String, String)>> {
    let mut cells = Vec::new();
    for key in ordered(object, shape) {
        let value = &object[key];
        let inner = member(shape, key);
        match cell(key, value, inner, look) {
            Some(line) => cells.push((clean(key), line)),
            None => {
                let nested = flat(value.as_object()?, inner, look)?;
                cells.extend(nested.into_iter().map(|(name, cell)| (format!("{}.{name}", clean(key)), cell)));
            }
        }
    }
    Some(cells)
}

/// A value on one line, or none for what needs more room. A record with one field looks like a case
/// of a variant: the type tells, where there is one.
fn cell(field: &str, value: &Value, shape: Option<&Shape>, look: &Look) -> Option<String> {
    let record = |shape: Option<&Shape>| matches!(shape.map(strip), Some(Shape::Record { .. }));
    let roomy = match value {
        Value::Object(_) => record(shape),
        Value::Array(items) => !items.is_empty() && record(item(shape)),
        _ => false,
    };
    if roomy { None } else { scalar::line(field, value, look) }
}

/// The records of a list as a table; none if they are no flat records.
pub fn table(items: &[Value], shape: Option<&Shape>, look: &Look) -> Option<Grid> {
    let rows = items.iter().map(|value| flat(value.as_object()?, shape, look)).collect::<Option<Vec<_>>>()?;
    let tree = is_tree(items);
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        let skip = columns.contains(name) || tree && TREE.contains(&name.as_str());
        if !skip {
            columns.push(name.clone());
        }
    }
    // What no row has says nothing.
    columns.retain(|column| rows.iter().flatten().any(|(name, cell)| name == column && cell != "-"));
    // Options that are records come apart on some rows and are one `-` on others.
    let mut grid = Grid::new(&columns);
    for (row, value) in rows.iter().zip(items) {
        let depth = if tree { value["depth"].as_u64().unwrap_or(0).min(32) } else { 0 };
        grid.row(columns.iter().map(|column| {
            let cell = row.iter().find(|(name, _)| name == column).map_or("-", |(_, cell)| cell);
            if tree && column == "name" {
                format!("{:indent$}{cell}", "", indent = 2 * usize::try_from(depth).unwrap_or(0))
            } else {
                cell.to_owned()
            }
        }));
    }
    Some(grid)
}

const TREE: [&str; 3] = ["id", "parent_id", "depth"];

fn is_tree(items: &[Value]) -> bool {
    !items.is_empty()
        && items.iter().all(|item| {
            item["id"].is_u64()
                && item["depth"].is_u64()
                && item["name"].is_string()
                && item.get("parent_id").is_some()
        })
}

/// A value of any depth, each line ended.
pub fn outline(value: &Value, shape: Option<&Shape>, look: &Look) -> String {
    match (cell("", value, shape, look), value) {
        (Some(line), _) => format!("{line}\n"),
        (None, Value::Object(object)) => self::object(object, shape, look),
        (None, Value::Array(items)) => self::list(items, item(shape), look),
        (None, other) => format!("{}\n", scalar::brief(other, look)),
    }
}

fn object(object: &Map<String, Value>, shape: Option<&Shape>, look: &Look) -> String {
    let keys = ordered(object, shape);
    let width = keys.iter().map(|key| key.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for key in keys {
        let (value, inner) = (&object[key], member(shape, key));
        let name = clean(key);
        match cell(key, value, inner, look) {
            Some(line) => {
                let label = Tone::Faint.paint(&format!("{name:width$}"), look);
                out.push_str(format!("{label}  {line}").trim_end());
                out.push('\n');
            }
            None => {
                out.push_str(&format!("{}\n", Tone::Faint.paint(&name, look)));
                out.push_str(&indent(&outline(value, inner, &narrower(look)), 2));
            }
        }
    }
    out
}

fn list(items: &[Value], shape: Option<&Shape>, look: &Look) -> String {
    if let Some(grid) = table(items, shape, look) {
        return grid.render(look);
    }
    let parts: Vec<String> = items.iter().map(|item| outline(item, shape, look)).collect();
    // Records of several lines want a gap between them.
    parts.join(if parts.iter().any(|part| part.lines().count() > 1) { "\n" } else { "" })
}

fn narrower(look: &Look) -> Look {
    Look { width: look.width.map(|width| width.saturating_sub(2).max(20)), ..look.clone() }
}

/// `name  value` lines for replies of the API: labels given, empty values left out.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, Option<Text>)>, look: &Look) -> String {
    let rows: Vec<_> = rows.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, text)| {
            let label = Tone::Faint.paint(&format!("{name:width$}"), look);
            format!("{label}  {}\n", text.tone.paint(&text.text, look))
        })
        .collect()
}
