//! The file: host calls of one operation with their answers, in order. See
//! `docs/plugin-testing.md` for the format as people meet it.

use super::{
    calls::{self, HostCall, NAMES},
    layout,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::{Error as _, SerializeMap as _},
};
use serde_json::value::RawValue;
use windlass_types::json::nearest;

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Largest cassette, in bytes.
pub const MAX_CASSETTE_BYTES: usize = 64 << 20;

/// Host calls of one operation with their answers, in order.
#[derive(Debug, Clone, Default)]
pub struct Cassette {
    /// What the wall clock showed, in milliseconds since 1970-01-01 UTC. It stands still in a
    /// replay.
    pub clock_ms: i64,
    pub(crate) entries: Vec<Entry>,
}

/// One call. Request and answers fit the types of the call.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) call: String,
    /// The fields of the request, as an object.
    pub(crate) request: Box<RawValue>,
    pub(crate) answer: Answer,
}

/// What came of a call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Returns(Box<RawValue>),
    Fails(Box<RawValue>),
    /// The grants did not allow it; why, for people.
    Denied(String),
}

/// What is wrong with a cassette.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CassetteError {
    /// It is larger than a cassette may be.
    #[error("a cassette has {} MiB at most", MAX_CASSETTE_BYTES >> 20)]
    TooLarge,
    /// It is not JSON, or not of the outer form.
    #[error("not a cassette: {0}")]
    Malformed(String),
    /// It is of another version.
    #[error("the cassette is of version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// One of its calls is wrong.
    #[error("line {line}: call {number}{}: {why}", call.as_ref().map(|call| format!(" (`{call}`)")).unwrap_or_default())]
    Call {
        /// Where it begins, from 1.
        line: usize,
        /// Which, from 1.
        number: usize,
        /// Its name, if it has one.
        call: Option<String>,
        /// What is wrong.
        why: String,
    },
}

/// The outer form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(rename = "cassette")]
    _version: u32,
    #[serde(default)]
    clock_ms: i64,
    #[serde(borrow)]
    calls: Vec<&'a RawValue>,
}

impl Cassette {
    /// Read a cassette, and check each call in it against the types of the host's interface.
    ///
    /// # Errors
    /// With the first thing that is wrong, and where.
    pub fn parse(text: &str) -> Result<Cassette, CassetteError> {
        if text.len() > MAX_CASSETTE_BYTES {
            return Err(CassetteError::TooLarge);
        }
        /// Before anything else: another version may look quite different.
        #[derive(Deserialize)]
        struct Version {
            cassette: u32,
        }
        let malformed = |error: serde_json::Error| CassetteError::Malformed(error.to_string());
        let version: Version = serde_json::from_str(text).map_err(malformed)?;
        if version.cassette != VERSION {
            return Err(CassetteError::Version(version.cassette));
        }
        let File { clock_ms, calls, .. } = serde_json::from_str(text).map_err(malformed)?;
        let mut entries = Vec::with_capacity(calls.len());
        for (index, raw) in calls.into_iter().enumerate() {
            let entry = Entry::parse(raw.get()).map_err(|(call, why)| {
                // `raw` is a piece of `text`.
                let offset = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
                let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
                CassetteError::Call { line, number: index + 1, call, why }
            })?;
            entries.push(entry);
        }
        Ok(Cassette { clock_ms, entries })
    }

    /// The cassette as its file.
    pub fn to_text(&self) -> String {
        // Nothing in it can fail to be JSON.
        layout::pretty(self).unwrap_or_default()
    }

    /// How many calls it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when it holds no call.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Serialize for Cassette {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("cassette", &VERSION)?;
        map.serialize_entry("clock_ms", &self.clock_ms)?;
        map.serialize_entry("calls", &self.entries)?;
        map.end()
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Members(request) = serde_json::from_str(self.request.get()).map_err(S::Error::custom)?;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("call", &self.call)?;
        for (name, value) in &request {
            map.serialize_entry(name, value)?;
        }
        match &self.answer {
            Answer::Returns(value) => map.serialize_entry("returns", value)?,
            Answer::Fails(error) => map.serialize_entry("fails", error)?,
            Answer::Denied(missing) => map.serialize_entry("denied", missing)?,
        }
        map.end()
    }
}

impl Entry {
    /// Read one call. Gives its name, if it has one, with what is wrong.
    fn parse(text: &str) -> Result<Entry, (Option<String>, String)> {
        let Members(members) = serde_json::from_str(text).map_err(|error| (None, bare(&error)))?;
        let (mut call, mut answers, mut request) = (None, Vec::new(), Vec::new());
        for (name, value) in members {
            match name.as_str() {
                "call" => call = serde_json::from_str::<String>(value.get()).ok(),
                "returns" => answers.push(Answer::Returns(value)),
                "fails" => answers.push(Answer::Fails(value)),
                "denied" => match serde_json::from_str(value.get()) {
                    Ok(missing) => answers.push(Answer::Denied(missing)),
                    Err(error) => return Err((call, format!("`denied`: {}", bare(&error)))),
                },
                _ => request.push((name, value)),
            }
        }
        let Some(call) = call else { return Err((None, "`call` names the host call".into())) };
        let fail = |why: String| (Some(call.clone()), why);
        let [answer] = <[Answer; 1]>::try_from(answers)
            .map_err(|_| fail("it has one of `returns`, `fails` and `denied`".into()))?;
        let request =
            serde_json::value::to_raw_value(&Members(request)).map_err(|error| fail(bare(&error)))?;
        match calls::check(&call, &request, &answer) {
            Some(Ok(())) => Ok(Entry { call, request, answer }),
            Some(Err(why)) => Err(fail(why)),
            None => {
                let hint = nearest(&call, NAMES.iter().copied());
                Err(fail(format!(
                    "there is no such call{}",
                    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
                )))
            }
        }
    }
}

/// Whether request and answer have the types of the call.
pub(super) fn check<C: HostCall>(request: &RawValue, answer: &Answer) -> Result<(), String> {
    serde_json::from_str::<C>(request.get()).map_err(|error| bare(&error))?;
    match answer {
        Answer::Returns(value) => serde_json::from_str::<C::Returns>(value.get())
            .map(drop)
            .map_err(|error| format!("`returns`: {}", bare(&error))),
        Answer::Fails(error) => serde_json::from_str::<C::Fails>(error.get())
            .map(drop)
            .map_err(|error| format!("`fails`: {}", bare(&error))),
        Answer::Denied(_) => Ok(()),
    }
}

/// An error without its place: that would be the place within a piece.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

/// The members of an object, in order, each once.
struct Members(Vec<(String, Box<RawValue>)>);

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format!("`{name}` stands there twice")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Object)
    }
}
