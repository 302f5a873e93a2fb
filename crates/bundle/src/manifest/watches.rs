//! What a plugin looks at by itself, and what of it people should know: `[watches]`, `[alerts]`.
//!
//! Both are kept and checked here; a host that repeats watches and a master that evaluates alerts
//! read them from the manifest. `when` is CEL, and an expression of the language is more than the
//! agent, which links this crate, should have to understand: `windlass_describe` reads it when a
//! bundle is packed or taken in.

use super::{
    ManifestError, OperationPolicy, bounds,
    read::{NOT_AN_OPERATION, is_operation, line, within},
};
use crate::{
    document::{Table, Value},
    grammar::is_placeholder_name,
    units::{self, show_duration},
};
use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};
use windlass_types::{Effect, PluginName, json::nearest};

/// Bounds of `every`: more often, a grid would do little else; more rarely, it is no watch.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// Bounds of `for`.
const FOR: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 3600);
/// Longest `when`, in bytes.
pub(crate) const MAX_WHEN_BYTES: usize = 1024;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 4000;

/// A `read` operation that each host repeats by itself. Its latest result is the node's status.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// The operation, as `interface.function`. In the manifest it has the effect `read`.
    pub operation: String,
    /// Its arguments.
    pub args: serde_json::Map<String, serde_json::Value>,
    /// Time from one start to the next.
    pub every: Duration,
    /// Each start is up to this much later, at random, so that a grid does not act in step. Never
    /// more than `every`; a tenth of it where the manifest does not say.
    pub jitter: Duration,
}

/// What people should know when it is so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The watch whose result it looks at: a key of `watches`.
    pub watch: String,
    /// CEL over `status`, the latest result of the watch; true while there is something to tell.
    pub when: String,
    /// How long `when` must have been true all along; 0 for at once.
    pub hold: Duration,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// What it means and what to do; may be empty.
    pub description: String,
}

/// How bad something is, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Someone should look soon.
    Warning,
    /// Someone must act now.
    Critical,
}

impl Severity {
    const ALL: [(&'static str, Severity); 3] =
        [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

pub(super) fn watches(
    value: Value<'_>,
    plugin: &PluginName,
    operations: &BTreeMap<String, OperationPolicy>,
) -> Result<BTreeMap<String, Watch>, ManifestError> {
    named(value, bounds::WATCHES, |table| watch(table, plugin, operations))
}

pub(super) fn alerts(
    value: Value<'_>,
    watches: &BTreeMap<String, Watch>,
) -> Result<BTreeMap<String, Alert>, ManifestError> {
    named(value, bounds::ALERTS, |table| alert(table, watches))
}

/// A table of tables by name.
fn named<T>(
    value: Value<'_>,
    max: usize,
    read: impl Fn(&mut Table<'_>) -> Result<T, ManifestError>,
) -> Result<BTreeMap<String, T>, ManifestError> {
    let mut all = BTreeMap::new();
    for (name, value) in value.into_table()?.into_entries(max)? {
        if !is_placeholder_name(&name) {
            return Err(value.place().error(
                "is not a name: expected a lower-case letter, then letters, digits, `_` and `-`, at most 64",
            ));
        }
        let mut table = value.into_table()?;
        let read = read(&mut table)?;
        table.finish()?;
        all.insert(name, read);
    }
    Ok(all)
}

fn watch(
    table: &mut Table<'_>,
    plugin: &PluginName,
    operations: &BTreeMap<String, OperationPolicy>,
) -> Result<Watch, ManifestError> {
    let value = table.require("operation")?;
    let operation = value.string()?.to_owned();
    if !is_operation(plugin, &operation) {
        return Err(value.place().error(format!("`{operation}` {NOT_AN_OPERATION}")));
    }
    // One that is not listed counts as `destroy`.
    let effect = operations.get(&operation).map_or(Effect::Destroy, |policy| policy.effect);
    if effect != Effect::Read {
        let listed = operations.contains_key(&operation);
        let mut error = value.place().error(format!(
            "a watch is repeated by itself, so its operation must have the effect `read`: `{operation}` {}",
            if listed { format!("has `{effect}`") } else { "is not in `[operations]`".into() }
        ));
        let read = operations.iter().filter(|(_, policy)| policy.effect == Effect::Read);
        error.hint = nearest(&operation, read.map(|(name, _)| name.as_str())).filter(|_| !listed);
        return Err(error);
    }
    let args = match table.take("args").map(Value::into_json).transpose()? {
        None => serde_json::Map::new(),
        Some(serde_json::Value::Object(args)) => args,
        Some(_) => return Err(table.place().error("`args` must be a table: a value for each parameter")),
    };
    let every = table.require("every")?.parsed(|text| duration(text, &EVERY))?;
    let jitter = match table.take("jitter") {
        Some(value) => value.parsed(|text| duration(text, &(Duration::ZERO..=every)))?,
        None => every / 10,
    };
    Ok(Watch { operation, args, every, jitter })
}

fn alert(table: &mut Table<'_>, watches: &BTreeMap<String, Watch>) -> Result<Alert, ManifestError> {
    let value = table.require("watch")?;
    let watch = value.string()?.to_owned();
    if !watches.contains_key(&watch) {
        let mut error = value.place().error(format!("there is no `[watches.{}]`", watch.escape_debug()));
        error.hint = nearest(&watch, watches.keys().map(String::as_str));
        return Err(error);
    }
    let when = table.require("when")?.parsed(|text| match text.len() {
        _ if text.trim().is_empty() => Err("is empty".to_owned()),
        0..=MAX_WHEN_BYTES => Ok(text.to_owned()),
        _ => Err(format!("is longer than {MAX_WHEN_BYTES} bytes")),
    })?;
    let hold = match table.take("for") {
        Some(value) => value.parsed(|text| duration(text, &FOR))?,
        None => Duration::ZERO,
    };
    let severity = table.require("severity")?.one_of("a severity", &Severity::ALL)?;
    let summary = table.require("summary")?.parsed(|text| match text.trim() {
        "" => Err("is empty".into()),
        _ => line(text, 200),
    })?;
    let description = match table.take("description") {
        Some(value) => value.parsed(|text| match () {
            () if text.contains(|c: char| c.is_control() && c != '\n') => {
                Err("holds a control character other than a new line".to_owned())
            }
            () if text.chars().count() > MAX_DESCRIPTION => {
                Err(format!("is longer than {MAX_DESCRIPTION} characters"))
            }
            () => Ok(text.to_owned()),
        })?,
        None => String::new(),
    };
    Ok(Alert { watch, when, hold, severity, summary, description })
}

fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    within(units::duration(text)?, range, text, show_duration)
}
