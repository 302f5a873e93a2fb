//! What a job brought: values of the nodes that succeeded, reasons of those that did not.

use super::{
    layout::{self, NodeRow},
    outcome,
    table::{Grid, Text, Tone, indent},
    text::{self, clean},
    value,
};
use crate::output::Look;
use serde_json::Value;
use windlass_types::{
    Outcome,
    api::{JobNode, JobNodeState},
    shape::Shape,
};

/// The results of a job, and a note about what is not shown, if anything.
pub struct Results {
    pub text: String,
    pub note: Option<String>,
}

/// The value of a successful node. `result<T, E>` has become the outcome: its `T` remains.
pub fn value_shape(result: Option<&Shape>) -> Option<&Shape> {
    match result {
        Some(Shape::Result { ok, .. }) => ok.as_deref(),
        other => other,
    }
}

/// Show all nodes of a job. `result` is the result type of the operation, where it is known.
pub fn results(nodes: &[JobNode], result: Option<&Shape>, columns: &[String], look: &Look) -> Results {
    let mut nodes: Vec<&JobNode> = nodes.iter().collect();
    nodes.sort_by(|a, b| text::natural(a.name.as_str(), b.name.as_str()));
    let shape = value_shape(result);
    let good: Vec<(&JobNode, &Value)> = nodes
        .iter()
        .filter_map(|node| match &node.outcome {
            Some(Outcome::Succeeded { value }) => Some((*node, value)),
            _ => None,
        })
        .collect();
    let (mut text, left_out) = values(&good, shape, columns, look);
    let bad: Vec<&JobNode> =
        nodes.into_iter().filter(|node| !node.outcome.as_ref().is_some_and(Outcome::is_success)).collect();
    if !bad.is_empty() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&troubles(&bad, look));
    }
    let note = (left_out > 0).then(|| {
        format!(
            "{} not shown: widen the terminal, choose with `--columns`, or see all with `-o json`",
            text::count(left_out, "field")
        )
    });
    Results { text, note }
}

fn values(
    good: &[(&JobNode, &Value)],
    shape: Option<&Shape>,
    columns: &[String],
    look: &Look,
) -> (String, usize) {
    let Some(form) = Form::of(good, shape, look) else { return (String::new(), 0) };
    let done = || Tone::Good.text("succeeded");
    match form {
        Form::Nothing => {
            let mut grid = Grid::new(["node", "outcome"]);
            good.iter().for_each(|(node, _)| grid.row([node.name.as_str().into(), done()]));
            (grid.render(look), 0)
        }
        Form::Lines(lines) => {
            let mut grid = Grid::new(["node", "outcome", "value"]);
            for ((node, _), line) in good.iter().zip(lines) {
                grid.row([node.name.as_str().into(), done(), Text::from(line)]);
            }
            (grid.render(look), 0)
        }
        Form::Records(cells) => {
            let rows: Vec<NodeRow> = good
                .iter()
                .zip(cells)
                .map(|((node, _), cells)| NodeRow { name: node.name.to_string(), outcome: done(), cells })
                .collect();
            layout::records(&rows, columns, look)
        }
        Form::Outlines => (outlines(good, shape, columns, look), 0),
    }
}

/// The simplest form that all values fit.
enum Form {
    Nothing,
    Lines(Vec<String>),
    Records(Vec<Vec<(String, String)>>),
    Outlines,
}

impl Form {
    fn of(good: &[(&JobNode, &Value)], shape: Option<&Shape>, look: &Look) -> Option<Form> {
        if good.is_empty() {
            return None;
        }
        if good.iter().all(|(_, value)| value.is_null()) {
            return Some(Form::Nothing);
        }
        let is_record = matches!(shape, Some(Shape::Record { .. }));
        let is_list = good.iter().any(|(_, value)| value.is_array());
        let lines =
            || good.iter().map(|(_, value)| super::scalar::line("", value, look)).collect::<Option<_>>();
        let records = || {
            good.iter().map(|(_, value)| value::flat(value.as_object()?, shape, look)).collect::<Option<_>>()
        };
        Some(if is_list {
            Form::Outlines
        } else if let (false, Some(lines)) = (is_record, lines()) {
            Form::Lines(lines)
        } else {
            records().map_or(Form::Outlines, Form::Records)
        })
    }
}

fn outlines(good: &[(&JobNode, &Value)], shape: Option<&Shape>, columns: &[String], look: &Look) -> String {
    let inner = Look { width: look.width.map(|width| width.saturating_sub(2).max(20)), ..look.clone() };
    let mut out = String::new();
    for (node, value) in good {
        if !out.is_empty() {
            out.push('\n');
        }
        let head = Tone::Strong.paint(node.name.as_str(), look);
        let state = Tone::Good.paint("succeeded", look);
        match value {
            Value::Array(items) if items.is_empty() => out.push_str(&format!("{head}  {state}, nothing\n")),
            Value::Array(items) => {
                out.push_str(&format!("{head}  {state}, {}\n", text::count(items.len(), "item")));
                let chosen = choose(items, columns);
                let items = Value::Array(chosen.unwrap_or_else(|| items.clone()));
                out.push_str(&indent(&value::outline(&items, shape, &inner), 2));
            }
            value => {
                out.push_str(&format!("{head}  {state}\n"));
                out.push_str(&indent(&value::outline(value, shape, &inner), 2));
            }
        }
    }
    out
}

/// Only the wanted fields of the records of a list.
fn choose(items: &[Value], columns: &[String]) -> Option<Vec<Value>> {
    if columns.is_empty() {
        return None;
    }
    let keep = |object: &serde_json::Map<String, Value>| {
        let wanted = |key: &str| columns.iter().any(|column| column.split('.').next() == Some(key));
        Value::Object(
            object.iter().filter(|(key, _)| wanted(key)).map(|(k, v)| (k.clone(), v.clone())).collect(),
        )
    };
    items.iter().map(|item| item.as_object().map(keep)).collect()
}

/// The nodes without success: how each ended and why.
fn troubles(bad: &[&JobNode], look: &Look) -> String {
    let rows: Vec<[Text; 3]> = bad
        .iter()
        .map(|node| match &node.outcome {
            Some(outcome) => [
                node.name.as_str().into(),
                outcome::cell(outcome, look),
                outcome::detail(outcome, look).into(),
            ],
            None => [node.name.as_str().into(), Tone::Unsure.text(state(node.state)), "".into()],
        })
        .collect();
    let has_detail = rows.iter().any(|[.., detail]| !detail.text.is_empty());
    let mut grid = Grid::new(&["node", "outcome", "reason"][..if has_detail { 3 } else { 2 }]);
    for row in rows {
        grid.row(row.into_iter().take(if has_detail { 3 } else { 2 }));
    }
    grid.render(look)
}

/// Where a node without outcome is.
pub fn state(state: JobNodeState) -> &'static str {
    match state {
        JobNodeState::Waiting => "waiting",
        JobNodeState::Sent => "sent",
        JobNodeState::Accepted => "accepted",
        JobNodeState::Running => "running",
        JobNodeState::Done => "done",
    }
}

/// One line of progress for people.
pub fn progress_line(name: &str, message: &str, percent: Option<u8>) -> String {
    let message = clean(message);
    match percent {
        Some(percent) => format!("{name}: {message} ({percent} %)"),
        None => format!("{name}: {message}"),
    }
}

#[cfg(test)]
mod tests;
