//! All that a bundle may touch or use, as a list that people read and machines compare.
//!
//! A capability has a key, which says what, and a level, which says how much of it: an effect, a
//! number of bytes; 0 where there is no more or less. One covers another with the same key and at
//! most its level. Anything that could matter is in the key: two rules for the same arguments
//! differ where their placeholders accept different values.

#[cfg(test)]
mod tests;

use crate::{
    grammar::{CharSet, Grammar, Kind, Placeholder},
    manifest::{Manifest, Program, Rule, SecretPlaces},
    path::AbsolutePath,
    units::{show_duration, show_size},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, time::Duration};
use windlass_types::{Effect, api::bundles::CapabilityInfo};

/// One thing a bundle may touch or use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capability {
    /// Its kind, a space, and what it is about.
    pub key: String,
    /// How much of it.
    pub level: u64,
}

impl Capability {
    fn new(kind: &str, what: impl fmt::Display, level: u64) -> Capability {
        Capability { key: format!("{kind} {what}"), level }
    }

    /// Whether who has this has the other as well.
    pub fn covers(&self, other: &Capability) -> bool {
        self.key == other.key && self.level >= other.level
    }

    /// For people.
    pub fn info(&self) -> CapabilityInfo {
        let (kind, what) = self.key.split_once(' ').unwrap_or((&self.key, ""));
        let amount = match (kind, what) {
            ("operation", _) => Some(effect_of(self.level).to_string()),
            ("limit", "cpu" | "timeout") => Some(show_duration(Duration::from_millis(self.level))),
            ("limit", "concurrency" | "processes") => Some(self.level.to_string()),
            ("limit", _) => Some(show_size(self.level)),
            _ => None,
        };
        let text = match amount {
            Some(amount) => format!("{what}: {amount}"),
            None => what.to_owned(),
        };
        CapabilityInfo { kind: kind.to_owned(), text }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapabilityInfo { kind, text } = self.info();
        if text.is_empty() { f.write_str(&kind) } else { write!(f, "{kind} {text}") }
    }
}

fn level_of(effect: Effect) -> u64 {
    match effect {
        Effect::Read => 0,
        Effect::Change => 1,
        Effect::Destroy => 2,
    }
}

fn effect_of(level: u64) -> Effect {
    match level {
        0 => Effect::Read,
        1 => Effect::Change,
        _ => Effect::Destroy,
    }
}

/// All that a bundle with this manifest and these operations (`interface.function`) asks for,
/// sorted, each once.
pub fn capabilities<'a>(
    manifest: &Manifest,
    operations: impl IntoIterator<Item = &'a str>,
) -> Vec<Capability> {
    let mut found = BTreeSet::new();
    for (name, program) in &manifest.commands {
        found.insert(Capability::new("program", program_text(name, program), 0));
        for rule in &program.allow {
            found.insert(Capability::new("command", rule_text(name, rule), 0));
        }
    }
    for rule in &manifest.files {
        let what = format!("{} ({}) {}", rule.access.as_str(), rule.effect, rule.path.as_str());
        found.insert(Capability::new("file", what, 0));
    }
    for probe in &manifest.probes {
        found.insert(Capability::new("probe", probe.as_str(), 0));
    }
    if manifest.state {
        found.insert(Capability { key: "state".into(), level: 0 });
    }
    for operation in operations {
        let policy = manifest.operation(operation);
        found.insert(Capability::new("operation", operation, level_of(policy.effect)));
    }
    for (name, watch) in &manifest.watches {
        let args = serde_json::Value::Object(watch.args.clone());
        let every = show_duration(watch.every);
        found.insert(Capability::new(
            "watch",
            format!("{name}: {} {args} every {every}", watch.operation),
            0,
        ));
    }
    let limits = manifest.limits;
    for (name, level) in [
        ("memory", limits.memory_bytes),
        ("cpu", limits.cpu_ms),
        ("output", limits.output_bytes),
        ("command-output", limits.command_output_bytes),
        ("processes", limits.processes.into()),
        ("concurrency", limits.concurrency.into()),
    ] {
        found.insert(Capability::new("limit", name, level));
    }
    found.into_iter().collect()
}

/// Those of `asked` that none of `had` covers.
pub fn beyond<'a>(asked: &'a [Capability], had: &[Capability]) -> Vec<&'a Capability> {
    asked.iter().filter(|asked| !had.iter().any(|had| had.covers(asked))).collect()
}

fn program_text(name: &str, program: &Program) -> String {
    let paths: Vec<String> = program.paths.iter().map(|path| path_text(&path.to_string_lossy())).collect();
    format!("{name} = {}", paths.join(", "))
}

/// A path as it is; in quotes where it could read like several.
fn path_text(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:*?[]{}".contains(c);
    if path.chars().all(plain) { path.to_owned() } else { format!("{path:?}") }
}

/// A rule in one line: `zpool list {pool?} (read; {pool} is a name)`. Elements of a rule hold spaces
/// only within brackets or after a backslash, so no two rules read the same.
fn rule_text(program: &str, rule: &Rule) -> String {
    let mut text = program.to_owned();
    for element in &rule.args {
        text.push(' ');
        text.push_str(element);
    }
    text.push_str(&format!(" ({}", rule.effect));
    for (name, accepts) in distinct(&rule.grammar) {
        text.push_str(&format!("; {{{name}}} is {accepts}"));
    }
    if !rule.secrets.is_empty() {
        let places: Vec<String> = rule
            .secrets
            .words()
            .map(|place| match place {
                SecretPlaces::STDIN => "on standard input".to_owned(),
                variable => format!("in {variable}"),
            })
            .collect();
        text.push_str(&format!("; takes secrets {}", places.join(", ")));
    }
    text.push(')');
    text
}

fn distinct(grammar: &Grammar) -> BTreeSet<(&str, String)> {
    grammar.accepted().map(|(name, placeholder)| (name, placeholder.to_string())).collect()
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |items: &[String]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        let paths = |paths: &[AbsolutePath]| {
            paths.iter().map(|path| path_text(path.as_str())).collect::<Vec<_>>().join(", ")
        };
        match &self.kind {
            Kind::Word => f.write_str("a word")?,
            Kind::Name => f.write_str("a name")?,
            Kind::Path { under } if under.is_empty() => f.write_str("a path")?,
            Kind::Path { under } => write!(f, "a path beneath {}", paths(under))?,
            Kind::Number { min: 0, max: u64::MAX } => f.write_str("a number")?,
            Kind::Number { min, max } => write!(f, "a number from {min} to {max}")?,
            Kind::Property { keys } if keys.is_empty() => f.write_str("a property")?,
            Kind::Property { keys } => write!(f, "a property of {}", list(keys))?,
            Kind::List { items } if items.is_empty() => f.write_str("a list")?,
            Kind::List { items } => write!(f, "a list of {}", list(items))?,
            Kind::Text => f.write_str("a text")?,
            Kind::Any => f.write_str("anything")?,
            Kind::OneOf(values) => write!(f, "one of {}", list(values))?,
            Kind::Chars(set) => write!(f, "made of {set}")?,
        }
        if self.max_length != crate::grammar::DEFAULT_MAX_LENGTH {
            write!(f, " of at most {} bytes", self.max_length)?;
        }
        if self.leading_dash {
            f.write_str(", also with a leading dash")?;
        }
        Ok(())
    }
}

impl fmt::Display for CharSet {
    /// As ranges in the order of the bytes, so that the same set always reads the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut byte = 0u8;
        while byte < 128 {
            if !self.contains(byte) {
                byte += 1;
                continue;
            }
            let first = byte;
            while byte + 1 < 128 && self.contains(byte + 1) {
                byte += 1;
            }
            match byte - first {
                0 => write!(f, "{}", char::from(first))?,
                1 => write!(f, "{}{}", char::from(first), char::from(byte))?,
                _ => write!(f, "{}-{}", char::from(first), char::from(byte))?,
            }
            byte += 1;
        }
        Ok(())
    }
}
