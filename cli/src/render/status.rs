//! What watches found.

use super::{
    outcome,
    results::value_shape,
    table::{Grid, Text, Tone, indent},
    text::clean,
    time, value,
};
use crate::output::Look;
use serde_json::Value;
use std::collections::BTreeMap;
use windlass_types::{
    OperationName, Outcome,
    api::status::{NodeStatus, WatchState, WatchStatus},
    shape::Shape,
};

fn state(watch: &WatchStatus) -> Text {
    match watch.state {
        WatchState::Ok => Tone::Good.text("ok"),
        WatchState::Failing => Tone::Bad.text("failing"),
        WatchState::Stale => Tone::Unsure.text("stale"),
        WatchState::NotYet => Tone::Faint.text("not yet"),
    }
}

fn age(watch: &WatchStatus) -> String {
    watch.age_ms.map_or_else(|| "-".into(), time::rough)
}

fn name(watch: &WatchStatus) -> String {
    format!("{}.{}", watch.plugin, clean(&watch.watch))
}

/// Watches of many nodes.
pub fn list(all: &[WatchStatus], look: &Look) -> String {
    let troubled = all.iter().any(|watch| watch.problem.is_some());
    let mut grid = Grid::new(&["node", "watch", "state", "age", "reason"][..if troubled { 5 } else { 4 }]);
    for watch in all {
        let mut row: Vec<Text> =
            vec![watch.node_name.as_str().into(), name(watch).into(), state(watch), age(watch).into()];
        if troubled {
            row.push(watch.problem.as_deref().map_or_else(|| "-".into(), clean).into());
        }
        grid.row(row);
    }
    grid.render(look)
}

/// Watches of one node, with what they found. `shapes` are the result types of operations that are known.
pub fn node(node: &NodeStatus, shapes: &BTreeMap<OperationName, Option<Shape>>, look: &Look) -> String {
    let inner = Look { width: look.width.map(|width| width.saturating_sub(2).max(20)), ..look.clone() };
    let mut out = String::new();
    for watch in &node.watches {
        if !out.is_empty() {
            out.push('\n');
        }
        let state = state(watch);
        let state = state.tone.paint(&state.text, look);
        out.push_str(&format!("{}  {state}", Tone::Strong.paint(&name(watch), look)));
        if watch.age_ms.is_some() {
            out.push_str(&format!(", {} old", age(watch)));
        }
        if let Some(at) = watch.changed_ms {
            out.push_str(&format!(", so since {}", time::full(at, look)));
        }
        out.push('\n');
        if let Some(problem) = &watch.problem {
            out.push_str(&indent(&format!("{}\n", clean(problem)), 2));
        }
        match &watch.outcome {
            None => {}
            Some(Outcome::Succeeded { value: Value::Null }) => {}
            Some(Outcome::Succeeded { value }) => {
                let shape = shapes.get(&watch.operation).and_then(Option::as_ref);
                out.push_str(&indent(&value::outline(value, value_shape(shape), &inner), 2));
            }
            Some(other) => {
                let word = outcome::cell(other, look);
                let text =
                    format!("{}: {}\n", word.tone.paint(&word.text, look), outcome::detail(other, look));
                out.push_str(&indent(&text, 2));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::look;
    use serde_json::json;

    fn watch(name: &str, state: &str, more: Value) -> WatchStatus {
        let mut all = json!({
            "node": "0199a1b2-0000-4000-8000-000000000001", "node_name": "n1", "plugin": "zfs",
            "watch": name, "operation": "zfs.pool.list", "every_ms": 30_000, "state": state,
        });
        let more = more.as_object().cloned().unwrap_or_default();
        all.as_object_mut().unwrap().extend(more);
        serde_json::from_value(all).unwrap()
    }

    fn watches() -> Vec<WatchStatus> {
        vec![
            watch(
                "pools",
                "ok",
                json!({ "age_ms": 12_400, "changed_ms": 1_760_000_000_000_i64, "outcome":
                    { "status": "succeeded", "value": [{ "name": "tank", "health": "online" }] } }),
            ),
            watch(
                "scrub",
                "failing",
                json!({ "age_ms": 61_000, "problem": "no such\u{1b}[31m pool", "kind": "failed", "outcome":
                    { "status": "failed", "error": "no such pool" } }),
            ),
            watch("late", "stale", json!({ "age_ms": 7_200_000, "problem": "the node is offline" })),
            watch("new", "not_yet", json!({})),
        ]
    }

    #[test]
    fn views() {
        insta::assert_snapshot!("status", list(&watches(), &look(None)));
        let node = NodeStatus {
            node: "0199a1b2-0000-4000-8000-000000000001".parse().unwrap(),
            node_name: "n1".parse().unwrap(),
            online: true,
            watches: watches(),
        };
        insta::assert_snapshot!("node_status", self::node(&node, &BTreeMap::new(), &look(None)));
    }
}
