//! What the watches have found and the master does not have yet.
//!
//! A queue of changes, oldest first, beside the latest result of each watch. A report takes from the front
//! of the queue; what it took stays until it is acknowledged, so a session that ends loses nothing. When too
//! much waits, the oldest change goes that is neither the latest of its watch nor under way, and is counted.
//! So what is held is at most the limits, plus one result for each watch, plus one report.
//!
//! Nothing here waits or looks at a clock: [`Keep::say`] is told the time.

use super::{Found, Key, Watch, WatchSettings};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use windlass_proto::v1;
use windlass_types::{Digest, Outcome, TrapReason};

/// Results that stay the same are confirmed so often.
pub const CONFIRM: Duration = Duration::from_secs(60);
/// What is found within this time goes in one report.
pub const SPACING: Duration = Duration::from_secs(2);
/// A report that is not acknowledged by then is sent again.
const RESEND: Duration = Duration::from_secs(15);
/// Results in one report: no more begin once it holds so many bytes.
const REPORT_BYTES: usize = 128 << 10;
/// What a change takes besides its outcome, about.
const OVERHEAD: usize = 256;

/// What to do next.
#[derive(Debug, PartialEq)]
pub enum Say {
    Now(v1::WatchReport),
    /// Nothing before this time, unless something happens.
    At(Instant),
    Nothing,
}

/// A result that differed from the one before.
#[derive(Debug)]
struct Change {
    /// Counts up.
    number: u64,
    watch: Arc<Watch>,
    /// Names the result among those of its watch.
    content: Digest,
    outcome_json: Vec<u8>,
    ms: i64,
    at: Instant,
}

impl Change {
    fn bytes(&self) -> usize {
        self.outcome_json.len() + OVERHEAD
    }
}

#[derive(Debug, Default)]
struct Known {
    watch: Option<Arc<Watch>>,
    latest: Option<Latest>,
    /// What the master has.
    acknowledged: Option<Digest>,
}

#[derive(Debug)]
struct Latest {
    change: Arc<Change>,
    /// When it was last found so.
    ms: i64,
    at: Instant,
}

#[derive(Debug)]
struct Session {
    sequence: u64,
    under_way: Option<UnderWay>,
    /// The list that the master has.
    listed: Option<u64>,
    confirm_at: Instant,
    quiet_until: Instant,
    /// Between two confirmations.
    pause: Duration,
}

/// A report without acknowledgement.
#[derive(Debug)]
struct UnderWay {
    sequence: u64,
    /// The newest change in it; 0 for none.
    last: u64,
    listed: Option<u64>,
    dropped: u64,
    until: Instant,
}

/// See the module.
#[derive(Debug)]
pub struct Keep {
    settings: WatchSettings,
    watches: BTreeMap<Key, Known>,
    changes: VecDeque<Arc<Change>>,
    /// Of `changes`.
    bytes: usize,
    /// Changes that were dropped and not told.
    dropped: u64,
    /// Of the newest change.
    number: u64,
    /// Counts the lists of watches.
    list: u64,
    session: Option<Session>,
}

impl Keep {
    /// Nothing is known yet.
    pub fn new(settings: WatchSettings) -> Self {
        Keep {
            settings,
            watches: BTreeMap::new(),
            changes: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            number: 0,
            list: 0,
            session: None,
        }
    }

    /// These are the watches now.
    pub fn set(&mut self, watches: &[Arc<Watch>]) {
        let mut before = std::mem::take(&mut self.watches);
        for watch in watches {
            let mut known = before.remove(&watch.key).unwrap_or_default();
            known.watch = Some(Arc::clone(watch));
            self.watches.insert(watch.key.clone(), known);
        }
        let there = &self.watches;
        self.changes.retain(|change| there.contains_key(&change.watch.key));
        self.bytes = self.changes.iter().map(|change| change.bytes()).sum();
        self.list += 1;
        self.bound();
    }

    /// A watch has run.
    pub fn found(&mut self, found: Found) {
        let Found { watch, mut outcome, ms, at } = found;
        // It was taken away while it ran.
        let Some(known) = self.watches.get_mut(&watch.key) else { return };
        let most = self.settings.result;
        let mut outcome_json = to_json(&outcome);
        if outcome_json.len() > most {
            outcome = Outcome::Trapped {
                reason: TrapReason::Output,
                message: format!(
                    "its result has {} bytes of JSON, and a watch may have {most} (`watches.max_result` in \
                     the host's configuration)",
                    outcome_json.len()
                ),
            };
            outcome_json = to_json(&outcome);
        }
        let content = content(&watch, &outcome, &outcome_json);
        if let Some(latest) = known.latest.as_mut().filter(|latest| latest.change.content == content) {
            (latest.ms, latest.at) = (ms, at);
            return;
        }
        self.number += 1;
        let change = Arc::new(Change { number: self.number, watch, content, outcome_json, ms, at });
        known.latest = Some(Latest { change: Arc::clone(&change), ms, at });
        self.push(change);
        self.bound();
    }

    fn push(&mut self, change: Arc<Change>) {
        self.bytes += change.bytes();
        self.changes.push_back(change);
    }

    /// Drop what is too much.
    fn bound(&mut self) {
        let under_way = self.session.as_ref().and_then(|session| session.under_way.as_ref());
        let sent = under_way.map_or(0, |report| report.last);
        let mut from = 0;
        while self.changes.len() > self.settings.changes || self.bytes > self.settings.bytes {
            let may_go = |change: &Change| {
                let latest = self.watches.get(&change.watch.key).and_then(|known| known.latest.as_ref());
                change.number > sent && latest.is_some_and(|latest| latest.change.number != change.number)
            };
            // What had to stay does not go in the next turn either.
            let Some(at) = (from..self.changes.len()).find(|at| may_go(&self.changes[*at])) else { break };
            if let Some(gone) = self.changes.remove(at) {
                self.bytes -= gone.bytes();
                self.dropped += 1;
            }
            from = at;
        }
    }

    /// A session begins. The first confirmation goes at once, the next ones each [`CONFIRM`] less `spread`.
    pub fn open(&mut self, now: Instant, spread: Duration) {
        self.session = Some(Session {
            sequence: 0,
            under_way: None,
            listed: None,
            confirm_at: now,
            quiet_until: now,
            pause: CONFIRM.saturating_sub(spread),
        });
        // What was under way before is not any more.
        self.bound();
    }

    /// The session is over.
    pub fn close(&mut self) {
        self.session = None;
        self.bound();
    }

    /// The master has a report.
    pub fn acknowledged(&mut self, sequence: u64, unknown: &[Key]) {
        let Some(session) = &mut self.session else { return };
        let Some(report) = session.under_way.take_if(|report| report.sequence == sequence) else { return };
        session.listed = report.listed.or(session.listed);
        self.dropped = self.dropped.saturating_sub(report.dropped);
        while let Some(change) = self.changes.pop_front_if(|change| change.number <= report.last) {
            self.bytes -= change.bytes();
            if let Some(known) = self.watches.get_mut(&change.watch.key) {
                known.acknowledged = Some(change.content);
            }
        }
        for key in unknown {
            let Some(known) = self.watches.get_mut(key) else { continue };
            // If it waits already, it comes anyway.
            let Some(latest) = known.latest.as_mut() else { continue };
            if known.acknowledged.take() != Some(latest.change.content) {
                continue;
            }
            self.number += 1;
            let change = Arc::new(Change {
                number: self.number,
                watch: Arc::clone(&latest.change.watch),
                outcome_json: latest.change.outcome_json.clone(),
                ..*latest.change
            });
            latest.change = Arc::clone(&change);
            self.push(change);
        }
        self.bound();
    }

    /// What to say now.
    pub fn say(&mut self, now: Instant) -> Say {
        let Some(session) = &mut self.session else { return Say::Nothing };
        if let Some(report) = &session.under_way {
            if now < report.until {
                return Say::At(report.until);
            }
            session.under_way = None;
        }
        let list = (session.listed != Some(self.list)).then_some(self.list);
        let confirms = !self.watches.is_empty() && now >= session.confirm_at;
        if list.is_none() {
            if self.changes.is_empty() && !confirms {
                return if self.watches.is_empty() { Say::Nothing } else { Say::At(session.confirm_at) };
            }
            if now < session.quiet_until {
                return Say::At(session.quiet_until);
            }
        }
        let (mut results, mut bytes, mut last) = (Vec::new(), 0, 0);
        for change in &self.changes {
            if bytes >= REPORT_BYTES {
                break;
            }
            bytes += change.bytes();
            last = change.number;
            results.push(result(change, now));
        }
        // What is under way in results may be confirmed with them.
        let mut same = Vec::new();
        if confirms && results.len() == self.changes.len() {
            same = self.watches.iter().filter_map(|(key, known)| confirmed(key, known, now)).collect();
            session.confirm_at = now + session.pause;
        }
        session.sequence += 1;
        session.quiet_until = now + SPACING;
        session.under_way = Some(UnderWay {
            sequence: session.sequence,
            last,
            listed: list,
            dropped: self.dropped,
            until: now + RESEND,
        });
        let listed =
            || self.watches.iter().filter_map(|(key, known)| Some(listed(key, known.watch.as_ref()?)));
        Say::Now(v1::WatchReport {
            sequence: session.sequence,
            watches: list.map(|_| v1::WatchList { watches: listed().collect() }),
            results,
            same,
            dropped: self.dropped,
        })
    }
}

fn to_json(outcome: &Outcome) -> Vec<u8> {
    // A type of ours with string keys: serialising it can't fail.
    serde_json::to_vec(outcome).unwrap_or_default()
}

/// What two results must have in common to be the same: the version that gave them, and what they say. How
/// long one took until it was ended is no news.
fn content(watch: &Watch, outcome: &Outcome, json: &[u8]) -> Digest {
    let mut text = watch.digest.to_string().into_bytes();
    match outcome {
        Outcome::TimedOut { .. } => text.extend_from_slice(b"timed out"),
        _ => text.extend_from_slice(json),
    }
    Digest::of(&text)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn listed(key: &Key, watch: &Watch) -> v1::Watch {
    v1::Watch {
        plugin: key.plugin.to_string(),
        name: key.name.clone(),
        operation: watch.operation.local().to_owned(),
        every_ms: millis(watch.every),
    }
}

fn result(change: &Change, now: Instant) -> v1::WatchResult {
    let Watch { key, operation, version, digest, .. } = &*change.watch;
    v1::WatchResult {
        plugin: key.plugin.to_string(),
        name: key.name.clone(),
        operation: operation.local().to_owned(),
        plugin_version: version.clone(),
        plugin_digest: digest.to_string(),
        content: change.content.as_bytes().to_vec().into(),
        outcome_json: change.outcome_json.clone().into(),
        collected_ms: change.ms,
        age_ms: millis(now.saturating_duration_since(change.at)),
    }
}

fn confirmed(key: &Key, known: &Known, now: Instant) -> Option<v1::WatchSame> {
    let latest = known.latest.as_ref()?;
    Some(v1::WatchSame {
        plugin: key.plugin.to_string(),
        name: key.name.clone(),
        content: latest.change.content.as_bytes().to_vec().into(),
        collected_ms: latest.ms,
        age_ms: millis(now.saturating_duration_since(latest.at)),
    })
}

#[cfg(test)]
mod tests;
