//! What happened on the grid.

use super::{
    scalar,
    table::{Grid, Text, Tone},
    text::{clean, short},
    time,
};
use crate::output::Look;
use windlass_types::api::events::Event;

/// Events in a table.
pub fn table(events: &[Event], look: &Look) -> String {
    let mut grid = Grid::new(["seq", "time", "event", "about", "detail"]);
    for event in events {
        grid.row([
            Text::from(event.seq.to_string()),
            time::clock(event.time_ms, look).into(),
            tone(event).text(clean(&event.kind)),
            about(event).into(),
            detail(event, look).into(),
        ]);
    }
    grid.render(look)
}

/// One event as it comes: columns of a fixed width, since nobody knows the next one.
pub fn line(event: &Event, look: &Look) -> String {
    let kind = tone(event).paint(&format!("{:<22}", clean(&event.kind)), look);
    let when = time::clock(event.time_ms, look);
    let text = format!("{:>6}  {when}  {kind}  {}  {}", event.seq, about(event), detail(event, look));
    format!("{}\n", text.trim_end())
}

fn about(event: &Event) -> String {
    let node = event.node_name.as_ref().map(|name| name.as_str().to_owned());
    let subject = Some(clean(&event.subject)).filter(|subject| !subject.is_empty());
    let both: Vec<String> = node.into_iter().chain(subject).collect();
    if both.is_empty() { "-".into() } else { both.join(" ") }
}

fn detail(event: &Event, look: &Look) -> String {
    let Some(data) = event.data.as_object() else { return scalar::brief(&event.data, look) };
    let told = data.iter().filter(|(_, value)| !value.is_null() && value.as_str() != Some(""));
    let words: Vec<String> = told
        .map(|(name, value)| {
            let text = scalar::line(name, value, look).unwrap_or_else(|| scalar::brief(value, look));
            format!("{}={text}", clean(name))
        })
        .collect();
    if words.is_empty() { "-".into() } else { short(&words.join(" "), 160) }
}

fn tone(event: &Event) -> Tone {
    match event.kind.rsplit('.').next().unwrap_or_default() {
        "failed" | "disconnected" | "revoked" | "rejected" | "deleted" => Tone::Bad,
        "rolled_back" | "rolling_back" | "pending" | "waiting" | "paused" | "skipped" => Tone::Unsure,
        "connected" | "accepted" | "installed" => Tone::Good,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{NOW_MS, look};
    use serde_json::json;

    #[test]
    fn views() {
        let event = |seq, kind: &str, node: Option<&str>, subject: &str, data| Event {
            seq,
            time_ms: NOW_MS + seq * 1000,
            kind: kind.into(),
            node: node.map(|_| "5b1f0a3e-0000-4000-8000-000000000001".parse().unwrap()),
            node_name: node.map(|name| name.parse().unwrap()),
            subject: subject.into(),
            data,
        };
        let events = [
            event(
                9,
                "node.connected",
                Some("n1"),
                "",
                json!({ "address": "10.0.0.1:4000", "host_version": null }),
            ),
            event(
                10,
                "job.finished",
                None,
                "0199a1b2-c3d4-7000-8000-000000000001",
                json!({ "operation": "zfs.pool.scrub", "outcomes": { "succeeded": 2 } }),
            ),
            event(11, "plugin.failed", Some("n2"), "zfs\x1b[2J", json!({ "message": "no\nroom" })),
            event(12, "node.disconnected", Some("n1"), "", json!({})),
        ];
        insta::assert_snapshot!("events", table(&events, &look(None)));
        let lines: String = events.iter().map(|event| line(event, &look(None))).collect();
        insta::assert_snapshot!("events_followed", lines);
    }
}
