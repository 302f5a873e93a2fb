//! Nodes, tokens and the audit log.

use super::{
    scalar,
    table::{Grid, Text, Tone},
    text::{clean, short},
    time, value,
};
use crate::output::Look;
use windlass_types::{
    UserName,
    api::{AuditEntry, JoinToken, Node, NodeState, Token},
};

/// How a node stands, in one word or two.
pub fn state(node: &Node, look: &Look) -> Text {
    match (node.state, node.online, node.last_seen_ms) {
        (NodeState::Pending, ..) => Tone::Unsure.text("pending"),
        (NodeState::Rejected, ..) => Tone::Bad.text("rejected"),
        (NodeState::Revoked, ..) => Tone::Bad.text("revoked"),
        (NodeState::Accepted, true, _) => Tone::Good.text("online"),
        (NodeState::Accepted, false, Some(at)) => {
            Tone::Bad.text(format!("offline, last seen {}", time::ago(at, look)))
        }
        (NodeState::Accepted, false, None) => Tone::Bad.text("offline, never seen"),
    }
}

fn labels(labels: &std::collections::BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| clean(&format!("{key}={value}"))).collect();
    or_dash(&pairs.join(" "))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// The list of nodes; `wide` adds id, fingerprint, address and plugins.
pub fn nodes(nodes: &[Node], wide: bool, look: &Look) -> String {
    // While one waits for acceptance its fingerprint is what matters.
    let pending = nodes.iter().any(|node| node.state == NodeState::Pending);
    let mut header = vec!["node", "state", "labels", "flags", "host"];
    if pending || wide {
        header.push("fingerprint");
    }
    if wide {
        header.extend(["address", "plugins", "id"]);
    }
    let mut grid = Grid::new(header);
    for node in nodes {
        let flags: Vec<&str> = node.flags.iter().map(String::as_str).collect();
        let mut row = vec![
            Text::from(node.name.as_str()),
            state(node, look),
            labels(&node.labels).into(),
            clean(&or_dash(&flags.join(" "))).into(),
            clean(node.host_version.as_deref().unwrap_or("-")).into(),
        ];
        if pending || wide {
            row.push(node.fingerprint.to_string().into());
        }
        if wide {
            let plugins: Vec<String> = node.plugins.iter().map(plugin).collect();
            row.push(clean(node.address.as_deref().unwrap_or("-")).into());
            row.push(or_dash(&plugins.join(" ")).into());
            row.push(node.id.to_string().into());
        }
        grid.row(row);
    }
    grid.render(look)
}

fn plugin(plugin: &windlass_types::api::NodePlugin) -> String {
    let mark = if plugin.problem.is_some() { " (unusable)" } else { "" };
    format!("{} {}{mark}", plugin.name, clean(&plugin.version))
}

/// All about one node.
pub fn node(node: &Node, look: &Look) -> String {
    let time = |at: Option<i64>| at.map(|at| Text::from(time::full(at, look)));
    let flags: Vec<&str> = node.flags.iter().map(String::as_str).collect();
    let mut out = value::facts(
        [
            ("name", Some(Tone::Strong.text(node.name.as_str()))),
            ("id", Some(node.id.to_string().into())),
            ("state", Some(state(node, look))),
            ("fingerprint", Some(node.fingerprint.to_string().into())),
            ("address", node.address.as_deref().map(|address| clean(address).into())),
            ("host", node.host_version.as_deref().map(|version| clean(version).into())),
            ("last seen", time(node.last_seen_ms)),
            ("first seen", time(Some(node.created_ms))),
            ("certificate ends", time(node.certificate_expires_ms)),
            ("labels", Some(labels(&node.labels).into())),
            ("flags", Some(clean(&or_dash(&flags.join(" "))).into())),
        ],
        look,
    );
    if !node.plugins.is_empty() {
        let mut grid = Grid::new(["plugin", "version", "digest", "problem"]);
        for plugin in &node.plugins {
            grid.row([
                Text::from(plugin.name.as_str()),
                clean(&plugin.version).into(),
                short(&plugin.digest.to_string(), 20).into(),
                match &plugin.problem {
                    Some(problem) => Tone::Bad.text(clean(problem)),
                    None => "-".into(),
                },
            ]);
        }
        out.push('\n');
        out.push_str(&grid.render(look));
    }
    if !node.facts.is_empty() {
        let mut grid = Grid::new(["fact", "value"]);
        for (name, fact) in &node.facts {
            let text = scalar::line(name, fact, look).unwrap_or_else(|| scalar::brief(fact, look));
            grid.row([clean(name), text]);
        }
        out.push('\n');
        out.push_str(&grid.render(look));
    }
    out
}

/// Join tokens, without their secrets.
pub fn join_tokens(tokens: &[JoinToken], look: &Look) -> String {
    let mut grid = Grid::new(["id", "state", "labels", "made"]);
    for token in tokens {
        let state = match token.used_by {
            Some(node) => Tone::Faint.text(format!("used by {node}")),
            None if token.expires_ms <= look.now_ms => Tone::Bad.text("expired"),
            None => Tone::Good.text(format!("good, ends {}", time::ago(token.expires_ms, look))),
        };
        grid.row([
            Text::from(clean(&token.id)),
            state,
            labels(&token.labels).into(),
            time::ago(token.created_ms, look).into(),
        ]);
    }
    grid.render(look)
}

/// Tokens of operators, without their secrets.
pub fn tokens(tokens: &[Token], look: &Look) -> String {
    let mut grid = Grid::new(["id", "name", "user", "role", "made", "last used", "ends"]);
    for token in tokens {
        let ends = match token.expires_ms {
            Some(at) if at <= look.now_ms => Tone::Bad.text(format!("ended {}", time::ago(at, look))),
            Some(at) => time::ago(at, look).into(),
            None => "never".into(),
        };
        grid.row([
            Text::from(clean(&token.id)),
            clean(&token.name).into(),
            token.user.as_ref().map_or("-", UserName::as_str).into(),
            token.role.as_str().into(),
            time::ago(token.created_ms, look).into(),
            token.last_used_ms.map_or_else(|| "never".into(), |at| time::ago(at, look)).into(),
            ends,
        ]);
    }
    grid.render(look)
}

/// Entries of the audit log.
pub fn audit(entries: &[AuditEntry], look: &Look) -> String {
    let mut grid = Grid::new(["seq", "time", "who", "action", "subject", "verdict", "detail"]);
    for entry in entries {
        let tone = if entry.verdict == "allowed" { Tone::Plain } else { Tone::Bad };
        let detail = if entry.detail.is_null() { "-".into() } else { scalar::brief(&entry.detail, look) };
        grid.row([
            Text::from(entry.seq.to_string()),
            time::clock(entry.time_ms, look).into(),
            clean(&entry.actor).into(),
            clean(&entry.action).into(),
            clean(&entry.subject).into(),
            tone.text(clean(&entry.verdict)),
            short(&detail, 120).into(),
        ]);
    }
    grid.render(look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};

    #[test]
    fn views() {
        let all = fixtures::nodes();
        insta::assert_snapshot!("nodes", nodes(&all[1..], false, &look(None)));
        insta::assert_snapshot!("nodes_with_pending", nodes(&all, false, &look(None)));
        insta::assert_snapshot!("nodes_wide", nodes(&all, true, &look(None)));
        insta::assert_snapshot!("node", node(&all[1], &look(Some(100))));
        insta::assert_snapshot!("tokens", tokens(&fixtures::tokens(), &look(None)));
        insta::assert_snapshot!("join_tokens", join_tokens(&fixtures::join_tokens(), &look(None)));
        insta::assert_snapshot!("audit", audit(&fixtures::audit(), &look(None)));
    }
}
