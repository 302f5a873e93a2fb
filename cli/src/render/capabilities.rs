//! What a plugin may touch, and how two bundles differ.

use super::{
    table::{Tone, indent},
    text::clean,
};
use crate::output::Look;
use windlass_types::api::bundles::{BundleDifference, CapabilityInfo, OperationLine};

/// Kinds in the order in which a reader wants them, with what they are called, and whether each
/// stands on a line of its own.
const KINDS: [(&str, &str, bool); 8] = [
    ("program", "programs", true),
    ("command", "commands", true),
    ("file", "files", true),
    ("probe", "probes", false),
    ("state", "state", false),
    ("operation", "operations", true),
    ("watch", "watches", true),
    ("limit", "limits", false),
];

/// Capabilities by their kind.
pub fn grouped(capabilities: &[CapabilityInfo], look: &Look) -> String {
    marked(capabilities, "", Tone::Plain, look)
}

/// The same, each with a mark before it.
pub fn marked(capabilities: &[CapabilityInfo], mark: &str, tone: Tone, look: &Look) -> String {
    let mut out = String::new();
    let mut group = |kind: &str, name: &str, lines: bool| {
        let texts: Vec<String> = capabilities
            .iter()
            .filter(|capability| capability.kind == kind)
            .map(
                |capability| {
                    if capability.text.is_empty() { "its own".into() } else { clean(&capability.text) }
                },
            )
            .collect();
        if texts.is_empty() {
            return;
        }
        // Those of one line stand beneath each other.
        let name = Tone::Faint.paint(&format!("{:6}", clean(name)), look);
        let paint = |text: &str| tone.paint(&format!("{mark}{text}"), look);
        if lines {
            out.push_str(&format!("{}\n", name.trim_end()));
            out.extend(texts.iter().map(|text| format!("  {}\n", paint(text))));
        } else {
            out.push_str(&format!("{name}  {}\n", paint(&texts.join(", "))));
        }
    };
    for (kind, name, lines) in KINDS {
        group(kind, name, lines);
    }
    // A master may know kinds that this program does not.
    let mut unknown: Vec<&str> = capabilities
        .iter()
        .map(|capability| capability.kind.as_str())
        .filter(|kind| !KINDS.iter().any(|(known, ..)| known == kind))
        .collect();
    unknown.sort_unstable();
    unknown.dedup();
    for kind in unknown {
        group(kind, kind, true);
    }
    out
}

/// How two bundles differ: `+` is new, `-` is gone, `~` is another than before.
pub fn difference(from: &str, to: &str, difference: &BundleDifference, look: &Look) -> String {
    let BundleDifference { added, removed, retyped, gained, lost } = difference;
    let mut out = format!("{} → {}\n", Tone::Strong.paint(from, look), Tone::Strong.paint(to, look));
    if *difference == BundleDifference::default() {
        out.push_str("same operations, capabilities and limits\n");
        return out;
    }
    let mut section = |name: &str, text: String| {
        if !text.is_empty() {
            out.push_str(&format!("\n{}\n{}", Tone::Strong.paint(name, look), indent(&text, 2)));
        }
    };

    let line = |mark: &str, tone: Tone, line: &OperationLine| {
        let head = tone.paint(&format!("{mark} {}", clean(&line.name)), look);
        format!("{head} ({})  {}\n", line.effect, Tone::Faint.paint(&clean(&line.signature), look))
    };
    let mut operations: String = added.iter().map(|added| line("+", Tone::Good, added)).collect();
    operations.extend(removed.iter().map(|removed| line("-", Tone::Bad, removed)));
    for change in retyped {
        operations
            .push_str(&format!("{}\n", Tone::Unsure.paint(&format!("~ {}", clean(&change.name)), look)));
        if change.from == change.to {
            operations.push_str(&format!("    {}, with other types in it\n", clean(&change.to)));
        } else {
            operations.push_str(&format!("    was {}\n", clean(&change.from)));
            operations.push_str(&format!("    is  {}\n", clean(&change.to)));
        }
    }
    section("operations", operations);

    // Operations that came or went are told above, with their effect.
    let told = |capability: &&CapabilityInfo| {
        capability.kind != "operation"
            || !added
                .iter()
                .chain(removed)
                .any(|line| capability.text == format!("{}: {}", line.name, line.effect))
    };
    let (limits, rest): (Vec<_>, Vec<_>) =
        gained.iter().filter(told).cloned().partition(|capability| capability.kind == "limit");
    let (lower, gone): (Vec<_>, Vec<_>) =
        lost.iter().filter(told).cloned().partition(|capability| capability.kind == "limit");
    section("may also", marked(&rest, "+ ", Tone::Good, look));
    section("may no longer", marked(&gone, "- ", Tone::Bad, look));
    let limit = |tone: Tone, mark: &str, word: &str, limit: &CapabilityInfo| {
        let (name, amount) = limit.text.split_once(": ").unwrap_or((&limit.text, ""));
        format!("{}\n", tone.paint(&format!("{mark} {} {word} {}", clean(name), clean(amount)), look))
    };
    let mut changed: String = limits.iter().map(|new| limit(Tone::Unsure, "~", "raised to", new)).collect();
    changed.extend(lower.iter().map(|old| limit(Tone::Unsure, "~", "lowered from", old)));
    section("limits", changed);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};
    use windlass_types::{Effect, api::bundles::RetypedOperation};

    fn infos(all: &[(&str, &str)]) -> Vec<CapabilityInfo> {
        all.iter().map(|(kind, text)| CapabilityInfo { kind: (*kind).into(), text: (*text).into() }).collect()
    }

    #[test]
    fn what_a_plugin_may_touch() {
        insta::assert_snapshot!(grouped(&fixtures::capabilities(), &look(None)));
        assert_eq!(
            grouped(&infos(&[("quantum", "leap\x1b[2J")]), &look(None)),
            "quantum\n  leap\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_difference() {
        let line = |name: &str, effect, signature: &str| OperationLine {
            name: name.into(),
            effect,
            signature: signature.into(),
        };
        let retyped = |name: &str, from: &str, to: &str| RetypedOperation {
            name: name.into(),
            from: from.into(),
            to: to.into(),
        };
        let found = BundleDifference {
            added: vec![line("pool.replace", Effect::Change, "func(pool: string, device: string)")],
            removed: vec![line("pool.drop", Effect::Destroy, "func(pool: string)")],
            retyped: vec![
                retyped("pool.list", "func() -> list<string>", "func(all: bool) -> list<string>"),
                retyped("pool.status", "func() -> status-report", "func() -> status-report"),
            ],
            gained: infos(&[
                ("command", "zpool replace {pool} {device} {device} (change)"),
                ("limit", "memory: 128MiB"),
                ("operation", "pool.replace: change"),
                ("operation", "pool.scrub: change"),
            ]),
            lost: infos(&[
                ("file", "read (read) /etc/zfs/**"),
                ("limit", "cpu: 10s"),
                ("operation", "pool.drop: destroy"),
            ]),
        };
        insta::assert_snapshot!(difference("zfs 0.1.0", "zfs 0.2.0", &found, &look(None)));
        assert_eq!(
            difference("a", "b", &BundleDifference::default(), &look(None)),
            "a → b\nsame operations, capabilities and limits\n"
        );
    }
}
