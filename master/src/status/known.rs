//! What is known of the watches of one node, and what a report changes of it.
//!
//! A function of what was known, the report and the clock: what is to be written, which events there are,
//! and what is known then.

use super::report::{self, Key, Report, Same, Spec, too_much};
use crate::{
    fleet::NodeRecord,
    store::{events::NewEvent, status::StatusRow},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};
use windlass_proto::v1;
use windlass_types::{
    NodeId, NodeName, Outcome, OutcomeKind, PluginName,
    api::status::{WatchState, WatchStatus},
};

/// Bytes of all results of a node. What goes beyond becomes a problem of its watch.
const MAX_NODE_BYTES: usize = 16 << 20;
/// Periods without a word after which a result is stale.
const MISSED: u64 = 3;
/// Nodes confirm once a minute: what is not heard of for less than this may be as fresh as can be.
const LEAST_STALE_MS: u64 = 180_000;
/// Events of one node that may come at once, and the time after which there is room for one more.
const MAX_EVENTS: u32 = 64;
const EVENT_EVERY_MS: i64 = 10_000;
/// Longest text that says why a watch fails, in characters.
const PROBLEM: usize = 300;

/// Lists of watches. Nodes with the same plugins share one.
#[derive(Debug, Default)]
pub struct Lists(HashMap<Vec<Spec>, Weak<Vec<Spec>>>);

impl Lists {
    fn share(&mut self, list: Vec<Spec>) -> Arc<Vec<Spec>> {
        if let Some(same) = self.0.get(&list).and_then(Weak::upgrade) {
            return same;
        }
        if self.0.len() >= 256 {
            self.sweep();
        }
        let shared = Arc::new(list.clone());
        self.0.insert(list, Arc::downgrade(&shared));
        shared
    }

    /// Forget those that no node has.
    pub fn sweep(&mut self) {
        self.0.retain(|_, list| list.strong_count() > 0);
    }
}

/// What is known of a node.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// By plugin and name.
    list: Arc<Vec<Spec>>,
    /// One for each of the list.
    watches: Vec<Watched>,
    /// Events that were not written since there were too many.
    muted: u64,
    /// Events that may come now, at `counted_ms`.
    room: Option<(u32, i64)>,
}

#[derive(Debug, Clone, Default)]
struct Watched {
    result: Option<Arc<StatusRow>>,
    seen: Option<Seen>,
}

/// When a result was last found to be so.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// By the clock of the node.
    collected_ms: i64,
    /// How old that was as it was told.
    age_ms: u64,
    /// When it was told.
    heard_ms: i64,
}

/// What a report changes.
#[derive(Debug, Default)]
pub struct Change {
    /// What is known once it is written.
    pub known: Known,
    /// Watches whose results the node has to send.
    pub unknown: Vec<v1::WatchName>,
    /// Results, with their outcomes as JSON.
    pub rows: Vec<(StatusRow, String)>,
    /// Watches that have a result and other properties.
    pub altered: Vec<Spec>,
    pub gone: Vec<Key>,
    pub events: Vec<NewEvent>,
}

impl Known {
    /// What the store has of a node.
    pub fn stored(rows: Vec<StatusRow>, lists: &mut Lists) -> Self {
        let spec = |row: &StatusRow| Spec {
            plugin: row.plugin.clone(),
            watch: row.watch.clone(),
            operation: row.operation.clone(),
            every_ms: row.every_ms,
        };
        let list = lists.share(rows.iter().map(spec).collect());
        let watches = rows.into_iter().map(|row| Watched { result: Some(Arc::new(row)), seen: None });
        Known { list, watches: watches.collect(), ..Known::default() }
    }

    fn find(&self, (plugin, watch): &Key) -> Option<usize> {
        self.list.binary_search_by(|spec| (&spec.plugin, &spec.watch).cmp(&(plugin, watch))).ok()
    }

    /// Take a report in.
    pub fn take(
        mut self,
        report: Report,
        node: (NodeId, &NodeName),
        lists: &mut Lists,
        now_ms: i64,
    ) -> Change {
        let mut change = Change::default();
        if let Some(list) = report.list
            && list != *self.list
        {
            self.relist(lists.share(list), &mut change);
        }
        let mut rows = HashMap::new();
        let mut told = Vec::new();
        for result in report.results {
            let Some(at) = self.find(&result.key) else { continue };
            told.extend(self.result(at, result, node, now_ms, &mut rows));
        }
        change.rows = rows.into_values().collect();
        for same in report.same {
            let Some(at) = self.find(&same.key) else { continue };
            self.same(at, same, now_ms, &mut change.unknown);
        }
        if report.dropped > 0 {
            let data = json!({ "changes": report.dropped });
            told.push(NewEvent::of_node("watch.dropped", node.0, node.1, data));
        }
        change.events = self.allowed(told, now_ms);
        change.known = self;
        change
    }

    fn relist(&mut self, list: Arc<Vec<Spec>>, change: &mut Change) {
        let mut before: HashMap<Key, (Spec, Watched)> = HashMap::new();
        for (spec, watched) in self.list.iter().zip(std::mem::take(&mut self.watches)) {
            before.insert((spec.plugin.clone(), spec.watch.clone()), (spec.clone(), watched));
        }
        for spec in list.iter() {
            let was = before.remove(&(spec.plugin.clone(), spec.watch.clone()));
            let (old, mut watched) = was.unwrap_or_else(|| (spec.clone(), Watched::default()));
            if old != *spec
                && let Some(result) = &mut watched.result
            {
                let result = Arc::make_mut(result);
                (result.operation, result.every_ms) = (spec.operation.clone(), spec.every_ms);
                change.altered.push(spec.clone());
            }
            self.watches.push(watched);
        }
        change
            .gone
            .extend(before.into_iter().filter(|(_, (_, old))| old.result.is_some()).map(|(key, _)| key));
        self.list = list;
    }

    fn result(
        &mut self,
        at: usize,
        result: report::Result,
        node: (NodeId, &NodeName),
        now_ms: i64,
        rows: &mut HashMap<usize, (StatusRow, String)>,
    ) -> Option<NewEvent> {
        let spec = &self.list[at];
        let others: usize =
            (0..self.watches.len()).filter(|other| *other != at).map(|at| self.bytes(at)).sum();
        let (mut outcome, mut outcome_json) = (result.outcome, result.outcome_json);
        if others + outcome_json.len() > MAX_NODE_BYTES {
            (outcome, outcome_json) =
                too_much(format!("the results of all watches of a node have {MAX_NODE_BYTES} bytes at most"));
        }
        let seen = Seen { collected_ms: result.collected_ms, age_ms: result.age_ms, heard_ms: now_ms };
        let row = StatusRow {
            plugin: spec.plugin.clone(),
            watch: spec.watch.clone(),
            operation: spec.operation.clone(),
            every_ms: spec.every_ms,
            plugin_version: result.plugin_version,
            plugin_digest: result.plugin_digest,
            content: result.content,
            kind: outcome.kind(),
            outcome_bytes: outcome_json.len(),
            problem: problem(&outcome),
            collected_ms: result.collected_ms,
            changed_ms: seen.at_ms(),
            received_ms: now_ms,
        };
        let watched = &mut self.watches[at];
        watched.seen = Some(seen);
        let before = watched.result.as_deref();
        // A report that came twice.
        if before.is_some_and(|before| before.content == row.content && before.kind == row.kind) {
            return None;
        }
        let event = turned(before.map(|before| before.kind), &row, node, result.age_ms);
        watched.result = Some(Arc::new(row.clone()));
        rows.insert(at, (row, outcome_json));
        event
    }

    fn bytes(&self, at: usize) -> usize {
        self.watches[at].result.as_ref().map_or(0, |result| result.outcome_bytes)
    }

    fn same(&mut self, at: usize, same: Same, now_ms: i64, unknown: &mut Vec<v1::WatchName>) {
        let watched = &mut self.watches[at];
        if watched.result.as_ref().is_some_and(|result| result.content == same.content) {
            watched.seen =
                Some(Seen { collected_ms: same.collected_ms, age_ms: same.age_ms, heard_ms: now_ms });
        } else {
            unknown.push(v1::WatchName { plugin: same.key.0.to_string(), name: same.key.1 });
        }
    }

    /// Those of the events for which there is room: a node that flaps, or lies, must not fill the log.
    fn allowed(&mut self, mut events: Vec<NewEvent>, now_ms: i64) -> Vec<NewEvent> {
        if events.is_empty() {
            return events;
        }
        let (mut room, mut counted_ms) = self.room.unwrap_or((MAX_EVENTS, now_ms));
        let more = (now_ms - counted_ms).max(0) / EVENT_EVERY_MS;
        room = room.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(MAX_EVENTS);
        counted_ms = if room == MAX_EVENTS { now_ms } else { counted_ms + more * EVENT_EVERY_MS };
        let most = events.len().min(room as usize);
        // The newest tell how things are.
        let muted = events.len() - most;
        events.drain(..muted);
        self.muted += muted as u64;
        self.room = Some((room - u32::try_from(most).unwrap_or(room), counted_ms));
        if let (Some(Value::Object(data)), true) =
            (events.first_mut().map(|event| &mut event.data), self.muted > 0)
        {
            data.insert("left_out".into(), std::mem::take(&mut self.muted).into());
        }
        events
    }

    /// As the API shows it, without results.
    pub fn show(&self, node: &NodeRecord, now_ms: i64) -> Vec<WatchStatus> {
        let shown = |(spec, watched): (&Spec, &Watched)| {
            let (state, problem) = watched.state(spec, node.online(), now_ms);
            let result = watched.result.as_deref();
            let at_ms = watched
                .seen
                .map_or_else(|| result.map(|result| result.changed_ms), |seen| Some(seen.at_ms()));
            WatchStatus {
                node: node.id,
                node_name: node.name.clone(),
                plugin: spec.plugin.clone(),
                watch: spec.watch.clone(),
                operation: spec.operation.clone(),
                every_ms: spec.every_ms,
                state,
                problem,
                kind: result.map(|result| result.kind),
                collected_ms: watched
                    .seen
                    .map(|seen| seen.collected_ms)
                    .or_else(|| result.map(|result| result.collected_ms)),
                age_ms: result.and(at_ms).map(|at_ms| u64::try_from(now_ms - at_ms).unwrap_or(0)),
                changed_ms: result.map(|result| result.changed_ms),
                received_ms: result.map(|result| result.received_ms),
                plugin_version: result.map(|result| result.plugin_version.clone()),
                plugin_digest: result.map(|result| result.plugin_digest),
                outcome: None,
            }
        };
        self.list.iter().zip(&self.watches).map(shown).collect()
    }
}

impl Seen {
    /// When it was found so, by the clock of the master.
    fn at_ms(self) -> i64 {
        self.heard_ms.saturating_sub(i64::try_from(self.age_ms).unwrap_or(i64::MAX))
    }
}

impl Watched {
    fn state(&self, spec: &Spec, online: bool, now_ms: i64) -> (WatchState, Option<String>) {
        let offline = || Some("the node is offline".to_owned());
        let Some(result) = &self.result else {
            return (WatchState::NotYet, if online { None } else { offline() });
        };
        if !online {
            return (WatchState::Stale, offline());
        }
        let Some(seen) = self.seen else {
            let words = "the node has not confirmed it since this master leads";
            return (WatchState::Stale, Some(words.into()));
        };
        let may_miss = spec.every_ms.saturating_mul(MISSED);
        let silent_ms = u64::try_from(now_ms - seen.heard_ms).unwrap_or(0);
        if seen.age_ms > may_miss || silent_ms > may_miss.max(LEAST_STALE_MS) {
            return (WatchState::Stale, Some("it has not run for more than three of its periods".into()));
        }
        match result.kind {
            OutcomeKind::Succeeded => (WatchState::Ok, None),
            _ => (WatchState::Failing, result.problem.clone()),
        }
    }
}

/// An event, if a watch begins to fail or succeeds again.
fn turned(
    before: Option<OutcomeKind>,
    row: &StatusRow,
    (id, name): (NodeId, &NodeName),
    age_ms: u64,
) -> Option<NewEvent> {
    let was_good = before.is_none_or(|kind| kind == OutcomeKind::Succeeded);
    let is_good = row.kind == OutcomeKind::Succeeded;
    if was_good == is_good {
        return None;
    }
    let watch = format!("{}.{}", row.plugin, row.watch);
    let mut data = json!({
        "watch": watch,
        "operation": row.operation,
        "collected_ms": row.collected_ms,
        "age_ms": age_ms,
    });
    if !is_good {
        data["outcome"] = row.kind.as_str().into();
        data["problem"] = row.problem.clone().into();
    }
    let kind = if is_good { "watch.recovered" } else { "watch.failing" };
    let mut event = NewEvent::of_node(kind, id, name, data);
    event.subject = watch;
    Some(event)
}

/// Why an outcome is no success, in a line.
fn problem(outcome: &Outcome) -> Option<String> {
    let text = match outcome {
        Outcome::Succeeded { .. } => return None,
        Outcome::Failed { error: Value::String(text) } => text.clone(),
        Outcome::Failed { error } => error.to_string(),
        Outcome::Trapped { message, .. }
        | Outcome::Refused { message, .. }
        | Outcome::Indeterminate { message } => message.clone(),
        Outcome::TimedOut { after_ms } => format!("ended after {after_ms} ms"),
        Outcome::Denied { denial, .. } => denial.to_string(),
        Outcome::Cancelled { .. } => "cancelled".into(),
        Outcome::NoAnswer { .. } => "no answer".into(),
    };
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(PROBLEM).collect())
}

/// Which watch a text means: `plugin.watch`, or a plugin for all of its watches.
pub fn means(text: &str, plugin: &PluginName, watch: &str) -> bool {
    match text.split_once('.') {
        Some((named, rest)) => named == plugin.as_str() && rest == watch,
        None => text == plugin.as_str(),
    }
}
