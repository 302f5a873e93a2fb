//! The record of what a plugin asked of its host during one call.
//!
//! It is shared between the host functions and the streams a plugin prints to, lives outside the
//! instance so that it outlasts a trap, and is bounded: a plugin must not fill the memory of its
//! host by asking often.

use crate::secrets::Redactor;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};
use windlass_types::{
    Denial,
    trace::{TraceDetail, TraceEntry, Verdict},
};

/// Entries kept of one call.
pub(crate) const MAX_ENTRIES: usize = 2_000;
/// Bytes of text in all entries of one call.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Lines for the log that one call may write (`wit/host/log.wit`).
pub(crate) const MAX_LOG_LINES: u32 = 1_000;
/// Longest line of the log, and longest text of an entry, in bytes (`wit/host/log.wit`).
pub(crate) const MAX_LINE_BYTES: usize = 8 << 10;

pub(crate) struct Recorder {
    began: Instant,
    /// Hides the secrets of the call in all that is noted.
    pub(crate) redactor: Arc<Redactor>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: Vec<TraceEntry>,
    /// Entries of calls that have not returned.
    open: BTreeSet<usize>,
    text: usize,
    dropped: u64,
    log_lines: u32,
    denial: Option<Denial>,
}

/// An entry that may still change; nothing when it found no room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    index: Option<usize>,
}

impl Recorder {
    pub(crate) fn new(redactor: Arc<Redactor>) -> Recorder {
        Recorder { began: Instant::now(), redactor, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A host call begins.
    pub(crate) fn begin(&self, function: &str, detail: TraceDetail, verdict: Verdict) -> Entry {
        let at_us = self.elapsed_us();
        let detail = self.hidden(detail);
        let mut inner = self.lock();
        let index = inner.push(at_us, function, detail, verdict);
        inner.open.extend(index);
        Entry { index }
    }

    /// Change an entry whose call goes on.
    pub(crate) fn update(&self, entry: Entry, change: impl FnOnce(&mut TraceDetail)) {
        let Some(index) = entry.index else { return };
        if let Some(entry) = self.lock().entries.get_mut(index) {
            change(&mut entry.detail);
        }
    }

    /// A host call has returned.
    pub(crate) fn finish(&self, entry: Entry, error: Option<String>, change: impl FnOnce(&mut TraceDetail)) {
        let now = self.elapsed_us();
        let Some(index) = entry.index else { return };
        let mut inner = self.lock();
        if !inner.open.remove(&index) {
            return;
        }
        if let Some(entry) = inner.entries.get_mut(index) {
            entry.duration_us = now.saturating_sub(entry.at_us);
            entry.error = error.map(|error| clip(&self.redactor.text(&error), MAX_LINE_BYTES));
            change(&mut entry.detail);
        }
    }

    /// A host call was refused.
    pub(crate) fn denied(&self, function: &str, detail: TraceDetail, denial: &Denial) {
        let at_us = self.elapsed_us();
        let (detail, denial) = (self.hidden(detail), &self.redactor.denial(denial));
        let mut inner = self.lock();
        let verdict = Verdict::Denied { missing: denial.missing.clone() };
        inner.push(at_us, function, detail, verdict);
        inner.denial.get_or_insert_with(|| denial.clone());
    }

    /// A host call that was allowed turned out to reach for more than that.
    pub(crate) fn denied_late(&self, entry: Entry, denial: &Denial) {
        self.finish(entry, None, |_| {});
        let denial = &self.redactor.denial(denial);
        let mut inner = self.lock();
        if let Some(entry) = entry.index.and_then(|index| inner.entries.get_mut(index)) {
            entry.verdict = Verdict::Denied { missing: denial.missing.clone() };
        }
        inner.denial.get_or_insert_with(|| denial.clone());
    }

    /// A line for the log. False when it found no room.
    pub(crate) fn log(&self, function: &str, level: &str, message: &str) -> bool {
        let at_us = self.elapsed_us();
        let mut inner = self.lock();
        if inner.log_lines >= MAX_LOG_LINES {
            inner.dropped += 1;
            return false;
        }
        inner.log_lines += 1;
        let message = clip(&self.redactor.text(message), MAX_LINE_BYTES);
        let detail = TraceDetail::Log { level: level.to_owned(), message };
        inner.push(at_us, function, detail, Verdict::Allowed { rule: "log".into() }).is_some()
    }

    /// Before anything is cut: half a secret is not recognised.
    fn hidden(&self, mut detail: TraceDetail) -> TraceDetail {
        if !self.redactor.is_empty() {
            texts(&mut detail, |text| *text = self.redactor.text(text).into_owned());
        }
        detail
    }

    /// The trace so far, and the first denial. Calls that did not return are marked so.
    pub(crate) fn take(&self) -> (Vec<TraceEntry>, Option<Denial>) {
        let now = self.elapsed_us();
        let inner = std::mem::take(&mut *self.lock());
        let mut entries = inner.entries;
        for index in inner.open {
            entries[index].duration_us = now.saturating_sub(entries[index].at_us);
            entries[index].error = Some("it was ended with the operation".into());
        }
        if inner.dropped > 0 {
            entries.push(TraceEntry {
                seq: u32::try_from(entries.len()).unwrap_or(u32::MAX),
                at_us: now,
                duration_us: 0,
                function: "trace".into(),
                detail: TraceDetail::Dropped { entries: inner.dropped },
                verdict: Verdict::Allowed { rule: "trace".into() },
                error: None,
            });
        }
        (entries, inner.denial)
    }
}

impl Inner {
    fn push(&mut self, at_us: u64, function: &str, detail: TraceDetail, verdict: Verdict) -> Option<usize> {
        let detail = clip_detail(detail);
        let text = text_bytes(&detail);
        if self.entries.len() >= MAX_ENTRIES || self.text + text > MAX_TEXT_BYTES {
            self.dropped += 1;
            return None;
        }
        self.text += text;
        let index = self.entries.len();
        self.entries.push(TraceEntry {
            seq: u32::try_from(index).unwrap_or(u32::MAX),
            at_us,
            duration_us: 0,
            function: function.to_owned(),
            detail,
            verdict,
            error: None,
        });
        Some(index)
    }
}

/// Text of at most this many bytes, cut at a character.
pub(crate) fn clip(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mut end = bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn clip_detail(mut detail: TraceDetail) -> TraceDetail {
    texts(&mut detail, shorten);
    detail
}

/// All texts that come from the plugin but lines of the log, which are treated before.
fn texts(detail: &mut TraceDetail, mut change: impl FnMut(&mut String)) {
    match detail {
        TraceDetail::Command { program, argv, .. } => {
            change(program);
            argv.iter_mut().for_each(change);
        }
        TraceDetail::File { path: text, .. }
        | TraceDetail::State { key: text, .. }
        | TraceDetail::Probe { probe: text }
        | TraceDetail::Progress { message: text, .. } => change(text),
        TraceDetail::Log { .. } | TraceDetail::Dropped { .. } => {}
    }
}

fn shorten(text: &mut String) {
    if text.len() > MAX_LINE_BYTES {
        *text = clip(text, MAX_LINE_BYTES);
    }
}

fn text_bytes(detail: &TraceDetail) -> usize {
    match detail {
        TraceDetail::Command { program, argv, .. } => {
            program.len() + argv.iter().map(|arg| arg.len() + 24).sum::<usize>()
        }
        TraceDetail::File { path: text, .. }
        | TraceDetail::State { key: text, .. }
        | TraceDetail::Probe { probe: text }
        | TraceDetail::Progress { message: text, .. }
        | TraceDetail::Log { message: text, .. } => text.len(),
        TraceDetail::Dropped { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Verdict {
        Verdict::Allowed { rule: "files[0]".into() }
    }

    fn file(path: &str) -> TraceDetail {
        TraceDetail::File { path: path.into(), bytes: 0 }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let recorder = Recorder::new(Arc::default());
        for _ in 0..MAX_ENTRIES + 7 {
            let entry = recorder.begin("files.read", file("/x"), allowed());
            recorder.finish(entry, None, |_| {});
        }
        let (entries, _) = recorder.take();
        assert_eq!(entries.len(), MAX_ENTRIES + 1);
        assert_eq!(entries.last().unwrap().detail, TraceDetail::Dropped { entries: 7 });
    }

    #[test]
    fn text_is_bounded_too() {
        let recorder = Recorder::new(Arc::default());
        let long = "x".repeat(MAX_LINE_BYTES * 3);
        for _ in 0..500 {
            recorder.begin("files.read", file(&long), allowed());
        }
        let (entries, _) = recorder.take();
        let bytes: usize = entries.iter().map(|entry| text_bytes(&entry.detail)).sum();
        assert!(bytes <= MAX_TEXT_BYTES && bytes > MAX_TEXT_BYTES / 2, "{bytes}");
        assert!(matches!(entries.last().unwrap().detail, TraceDetail::Dropped { entries: 300.. }));
    }

    #[test]
    fn log_lines_leave_room_for_calls() {
        let recorder = Recorder::new(Arc::default());
        for _ in 0..MAX_LOG_LINES + 5 {
            recorder.log("log.write", "info", "again");
        }
        recorder.begin("files.read", file("/x"), allowed());
        let (entries, _) = recorder.take();
        assert!(entries.iter().any(|entry| entry.detail == file("/x")));
        assert_eq!(entries.last().unwrap().detail, TraceDetail::Dropped { entries: 5 });
    }

    #[test]
    fn a_call_that_did_not_return_says_so() {
        let recorder = Recorder::new(Arc::default());
        let first = recorder.begin("files.read", file("/x"), allowed());
        recorder.begin("files.read", file("/y"), allowed());
        recorder.finish(first, Some("gone".into()), |detail| *detail = file("/z"));
        let (entries, _) = recorder.take();
        assert_eq!(entries[0].error.as_deref(), Some("gone"));
        assert_eq!(entries[0].detail, file("/z"));
        assert!(entries[1].error.as_deref().unwrap().contains("ended"));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(clip("äöü", 3), "ä…");
        assert_eq!(clip("äöü", 6), "äöü");
    }
}
