//! Recording the host calls of an operation, and answering them from a recording.
//!
//! Every host function passes here after its grants were asked and before it acts. Off, that is one
//! comparison. A [`Recording`] notes each call with its answer; a [`Playback`] answers from a
//! [`Cassette`] in strict order, and the node is not touched. What the host decides by itself, a
//! denial or the answer of a dry run, is decided by the real grants in a playback too: it is
//! compared with the cassette, never taken from it.

pub(crate) mod calls;
mod cassette;
mod layout;
#[cfg(test)]
mod tests;
pub(crate) mod text;

pub use cassette::{Cassette, CassetteError, MAX_CASSETTE_BYTES};
pub use layout::pretty;

use calls::HostCall;
use cassette::{Answer, Entry};
use serde::Serialize;
use serde_json::value::to_raw_value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens to the host calls of an operation besides being done.
#[derive(Debug, Clone, Default)]
pub enum Tape {
    /// Nothing.
    #[default]
    Off,
    /// They are noted.
    Record(Arc<Recording>),
    /// They are answered from a cassette, and nothing is done.
    Replay(Arc<Playback>),
}

/// Why a call can not be recorded, or is not the recorded one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapeError {
    /// The recording would be larger than a cassette may be.
    #[error("the recording is larger than {} MiB", MAX_CASSETTE_BYTES >> 20)]
    TooLong,
    /// An answer has no form in JSON.
    #[error("an answer can not be written down: {0}")]
    Unwritable(String),
    /// Another call was made than the recorded one.
    #[error("call {number} is not the one in the cassette\n  cassette: {recorded}\n  made:     {made}")]
    Different {
        /// Which, from 1.
        number: usize,
        /// The call in the cassette.
        recorded: String,
        /// The call that was made.
        made: String,
    },
    /// The cassette had ended.
    #[error("call {number} is one more than the cassette holds\n  made:     {made}")]
    Over {
        /// Which, from 1.
        number: usize,
        /// The call that was made.
        made: String,
    },
    /// The grants deny what the cassette has an answer for.
    #[error(
        "call {number} is denied, and the cassette has an answer for it\n  made:     {made}\n  denied:   {missing}"
    )]
    Denied {
        /// Which, from 1.
        number: usize,
        /// The call that was made.
        made: String,
        /// The rule that was missing.
        missing: String,
    },
    /// The grants allow what was denied.
    #[error(
        "call {number} is allowed, and the cassette says that it was denied\n  made:     {made}\n  denied:   {missing}"
    )]
    Allowed {
        /// Which, from 1.
        number: usize,
        /// The call that was made.
        made: String,
        /// The rule that was missing when it was recorded.
        missing: String,
    },
    /// The host decides the answer by itself, and it is another one.
    #[error(
        "call {number} only notes what it would do, and is answered otherwise in the cassette\n  made:     {made}\n  cassette: {recorded}\n  answer:   {given}"
    )]
    DryRun {
        /// Which, from 1.
        number: usize,
        /// The call that was made.
        made: String,
        /// The answer in the cassette.
        recorded: String,
        /// The host's answer.
        given: String,
    },
    /// Calls are left.
    #[error("{} of the cassette's {total} calls {} not made; the next is\n  cassette: {next}", total - played, if total - played == 1 { "was" } else { "were" })]
    Left {
        /// How many were made.
        played: usize,
        /// How many there are.
        total: usize,
        /// The first that was not made.
        next: String,
    },
}

/// What a call returned, or how it failed.
type Answered<C> = Result<<C as HostCall>::Returns, <C as HostCall>::Fails>;

impl Tape {
    /// Whether there is one.
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self, Tape::Off)
    }

    /// The call as a tape has it, where there is one: making it may copy.
    pub(crate) fn call<C: HostCall>(&self, call: impl FnOnce() -> C) -> Option<C> {
        match self {
            Tape::Off => None,
            Tape::Record(_) | Tape::Replay(_) => Some(call()),
        }
    }

    /// An allowed call: do it and note it, or answer it.
    pub(crate) async fn pass<C: HostCall>(
        &self,
        call: Option<C>,
        live: impl Future<Output = wasmtime::Result<Answered<C>>>,
    ) -> wasmtime::Result<Answered<C>> {
        match self.replayed(call.as_ref())? {
            Some(answer) => Ok(answer),
            None => {
                let answer = live.await?;
                self.note(call.as_ref(), &answer)?;
                Ok(answer)
            }
        }
    }

    /// The answer of an allowed call, in a replay.
    pub(crate) fn replayed<C: HostCall>(&self, call: Option<&C>) -> wasmtime::Result<Option<Answered<C>>> {
        match (self, call) {
            (Tape::Replay(playback), Some(call)) => Ok(Some(playback.answer(call)?)),
            _ => Ok(None),
        }
    }

    /// Note an allowed call that was done.
    pub(crate) fn note<C: HostCall>(&self, call: Option<&C>, answer: &Answered<C>) -> wasmtime::Result<()> {
        match (self, call) {
            (Tape::Record(recording), Some(call)) => Ok(recording.push(call, || written(answer))?),
            _ => Ok(()),
        }
    }

    /// A call that the grants do not allow.
    pub(crate) fn denied<C: HostCall>(
        &self,
        call: impl FnOnce() -> C,
        missing: &str,
    ) -> wasmtime::Result<()> {
        match self {
            Tape::Off => Ok(()),
            Tape::Record(recording) => {
                Ok(recording.push(&call(), || Ok(Answer::Denied(missing.to_owned())))?)
            }
            Tape::Replay(playback) => Ok(playback.denied(&call(), missing)?),
        }
    }

    /// A call of a dry run that is not done: the host gives the answer by itself.
    pub(crate) fn would<C: HostCall>(&self, call: Option<&C>, answer: &Answered<C>) -> wasmtime::Result<()> {
        match (self, call) {
            (Tape::Replay(playback), Some(call)) => Ok(playback.would(call, answer)?),
            (_, call) => self.note(call, answer),
        }
    }
}

fn unwritable(error: serde_json::Error) -> TapeError {
    TapeError::Unwritable(error.to_string())
}

fn written<T: Serialize, E: Serialize>(answer: &Result<T, E>) -> Result<Answer, TapeError> {
    match answer {
        Ok(value) => to_raw_value(value).map(Answer::Returns),
        Err(error) => to_raw_value(error).map(Answer::Fails),
    }
    .map_err(unwritable)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with the lock held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the host calls of one operation.
#[derive(Debug)]
pub struct Recording {
    clock_ms: i64,
    inner: Mutex<Recorded>,
}

#[derive(Debug, Default)]
struct Recorded {
    entries: Vec<Entry>,
    bytes: usize,
    error: Option<TapeError>,
}

impl Recording {
    /// A recording that begins now.
    pub fn new() -> Arc<Recording> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let clock_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Arc::new(Recording { clock_ms, inner: Mutex::default() })
    }

    fn push<C: HostCall>(
        &self,
        call: &C,
        answer: impl FnOnce() -> Result<Answer, TapeError>,
    ) -> Result<(), TapeError> {
        let entry = || {
            let request = to_raw_value(call).map_err(unwritable)?;
            Ok(Entry { call: C::NAME.to_owned(), request, answer: answer()? })
        };
        let mut inner = lock(&self.inner);
        let noted = entry().and_then(|entry| {
            inner.bytes += entry.bytes();
            // Half, since line breaks and spaces come on top.
            if inner.bytes <= MAX_CASSETTE_BYTES / 2 { Ok(entry) } else { Err(TapeError::TooLong) }
        });
        match noted {
            Ok(entry) => {
                inner.entries.push(entry);
                Ok(())
            }
            Err(error) => {
                inner.error.get_or_insert_with(|| error.clone());
                Err(error)
            }
        }
    }

    /// What was recorded.
    ///
    /// # Errors
    /// If a call could not be written down.
    pub fn cassette(&self) -> Result<Cassette, TapeError> {
        let inner = lock(&self.inner);
        match &inner.error {
            Some(error) => Err(error.clone()),
            None => Ok(Cassette { clock_ms: self.clock_ms, entries: inner.entries.clone() }),
        }
    }
}

/// Answers the host calls of one operation from a cassette.
#[derive(Debug)]
pub struct Playback {
    pub(crate) clock_ms: i64,
    entries: Vec<Entry>,
    inner: Mutex<Played>,
}

#[derive(Debug, Default)]
struct Played {
    next: usize,
    error: Option<TapeError>,
}

impl Playback {
    /// Play a cassette from its beginning.
    pub fn new(cassette: Cassette) -> Arc<Playback> {
        Arc::new(Playback { clock_ms: cassette.clock_ms, entries: cassette.entries, inner: Mutex::default() })
    }

    /// Whether the operation made every call of the cassette and no other. To be asked after it
    /// has ended.
    ///
    /// # Errors
    /// With the first difference.
    pub fn finish(&self) -> Result<(), TapeError> {
        let inner = lock(&self.inner);
        if let Some(error) = &inner.error {
            return Err(error.clone());
        }
        match self.entries.get(inner.next) {
            Some(next) => {
                let (played, total) = (inner.next, self.entries.len());
                Err(TapeError::Left { played, total, next: clip(&next.shown()) })
            }
            None => Ok(()),
        }
    }

    /// Take the next entry, if it is this call and `judge` agrees with its answer.
    fn take<C: HostCall, T>(
        &self,
        call: &C,
        judge: impl FnOnce(usize, &Answer) -> Result<T, TapeError>,
    ) -> Result<T, TapeError> {
        let mut inner = lock(&self.inner);
        let number = inner.next + 1;
        let judged = match self.entries.get(inner.next) {
            None => Err(TapeError::Over { number, made: clip(&shown(call)) }),
            Some(entry) if !entry.is(call) => {
                let (recorded, made) = from_first_difference(&entry.shown(), &shown(call));
                Err(TapeError::Different { number, recorded, made })
            }
            Some(entry) => judge(number, &entry.answer),
        };
        match &judged {
            Ok(_) => inner.next += 1,
            Err(error) => _ = inner.error.get_or_insert_with(|| error.clone()),
        }
        judged
    }

    fn answer<C: HostCall>(&self, call: &C) -> Result<Answered<C>, TapeError> {
        self.take(call, |number, answer| match answer {
            Answer::Returns(value) => serde_json::from_str(value.get()).map(Ok).map_err(unwritable),
            Answer::Fails(error) => serde_json::from_str(error.get()).map(Err).map_err(unwritable),
            Answer::Denied(missing) => {
                Err(TapeError::Allowed { number, made: clip(&shown(call)), missing: missing.clone() })
            }
        })
    }

    fn denied<C: HostCall>(&self, call: &C, missing: &str) -> Result<(), TapeError> {
        self.take(call, |number, answer| match answer {
            Answer::Denied(_) => Ok(()),
            Answer::Returns(_) | Answer::Fails(_) => {
                Err(TapeError::Denied { number, made: clip(&shown(call)), missing: missing.to_owned() })
            }
        })
    }

    fn would<C: HostCall>(&self, call: &C, answer: &Answered<C>) -> Result<(), TapeError> {
        self.take(call, |number, recorded| {
            let same = match (recorded, answer) {
                (Answer::Returns(text), Ok(own)) => {
                    serde_json::from_str::<C::Returns>(text.get()).is_ok_and(|value| value == *own)
                }
                (Answer::Fails(text), Err(own)) => {
                    serde_json::from_str::<C::Fails>(text.get()).is_ok_and(|error| error == *own)
                }
                _ => false,
            };
            if same {
                return Ok(());
            }
            let (recorded, given) = from_first_difference(&recorded.shown(), &written(answer)?.shown());
            Err(TapeError::DryRun { number, made: clip(&shown(call)), recorded, given })
        })
    }
}

impl Entry {
    fn is<C: HostCall>(&self, call: &C) -> bool {
        self.call == C::NAME && serde_json::from_str::<C>(self.request.get()).is_ok_and(|own| own == *call)
    }

    fn bytes(&self) -> usize {
        let answer = match &self.answer {
            Answer::Returns(text) | Answer::Fails(text) => text.get().len(),
            Answer::Denied(text) => text.len(),
        };
        self.call.len() + self.request.get().len() + answer
    }

    fn shown(&self) -> String {
        format!("{} {}", self.call, layout::line(self.request.get()))
    }
}

impl Answer {
    fn shown(&self) -> String {
        match self {
            Answer::Returns(text) => format!("returns {}", layout::line(text.get())),
            Answer::Fails(text) => format!("fails {}", layout::line(text.get())),
            Answer::Denied(missing) => format!("denied: {missing}"),
        }
    }
}

fn shown<C: HostCall>(call: &C) -> String {
    let request = serde_json::to_string(call).unwrap_or_default();
    format!("{} {}", C::NAME, layout::line(&request))
}

/// Characters of a call that are shown.
const SHOWN: usize = 400;

fn clip(text: &str) -> String {
    from(text, 0)
}

/// Two long texts, cut so that where they begin to differ is seen.
fn from_first_difference(one: &str, other: &str) -> (String, String) {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    let begin = if same > SHOWN / 2 { same - SHOWN / 4 } else { 0 };
    (from(one, begin), from(other, begin))
}

fn from(text: &str, begin: usize) -> String {
    let piece: String = text.chars().skip(begin).take(SHOWN).collect();
    let before = if begin > 0 { "…" } else { "" };
    let after = if text.chars().nth(begin + SHOWN).is_some() { "…" } else { "" };
    format!("{before}{piece}{after}")
}
