//! Reading TOML by hand, so that every message has a place.
//!
//! serde would do the walk, but its errors are sentences: the place of a value that parses as TOML
//! and is wrong as a manifest would be lost, and so would the chance to say `did you mean`.

use crate::{manifest::ManifestError, units::show_size};
use std::ops::Range;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use windlass_types::json::nearest;

/// A value and where it stands: in the text, and by its key.
#[derive(Clone)]
pub(crate) struct Value<'t> {
    value: DeValue<'t>,
    place: Place<'t>,
}

/// Where something stands.
#[derive(Clone)]
pub(crate) struct Place<'t> {
    text: &'t str,
    span: Range<usize>,
    key: String,
}

/// A table whose keys are taken one after another; what is left in the end is unknown.
pub(crate) struct Table<'t> {
    entries: DeTable<'t>,
    known: Vec<&'static str>,
    place: Place<'t>,
}

impl<'t> Place<'t> {
    pub(crate) fn error(&self, message: impl Into<String>) -> ManifestError {
        let before = self.text.get(..self.span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ManifestError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: self.key.clone(),
            message: message.into(),
            hint: None,
        }
    }

    fn child(&self, key: &str, span: Range<usize>) -> Place<'t> {
        let bare =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let shown = if bare { key.to_owned() } else { format!("{key:?}") };
        let key = if self.key.is_empty() { shown } else { format!("{}.{shown}", self.key) };
        Place { text: self.text, span, key }
    }
}

/// Stack for reading a document. The parser bounds tables within tables and the parts of one key (80
/// each), and both together make a document 6,000 levels deep: past the stack of an ordinary thread,
/// whose end would be that of the process. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Read a whole document of at most `max_bytes`.
pub(crate) fn read<'t, T: Send>(
    text: &'t str,
    max_bytes: usize,
    read: impl FnOnce(Table<'t>) -> Result<T, ManifestError> + Send,
) -> Result<T, ManifestError> {
    let place = || Place { text, span: 0..0, key: String::new() };
    if text.len() > max_bytes {
        return Err(place().error(format!("is larger than {}", show_size(max_bytes as u64))));
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("document".into()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, || read(parse(text)?)).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(place().error(format!("can not be read: no thread to read it: {error}"))),
        }
    })
}

fn parse(text: &str) -> Result<Table<'_>, ManifestError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = Place { text, span: 0..0, key: String::new() };
    if let Some(error) = errors.first() {
        let place = Place { span: error.span().unwrap_or(0..0), ..place };
        return Err(place.error(error.message()));
    }
    Ok(Table { entries: table.into_inner(), known: Vec::new(), place })
}

impl<'t> Table<'t> {
    pub(crate) fn place(&self) -> &Place<'t> {
        &self.place
    }

    /// Take the value of a key this table may have.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.known.push(key);
        let (key, value) = self.entries.remove_entry(key)?;
        Some(value_of(&self.place, key.get_ref(), value))
    }

    /// Take the value of a key this table must have.
    pub(crate) fn require(&mut self, key: &'static str) -> Result<Value<'t>, ManifestError> {
        self.take(key).ok_or_else(|| {
            let mut error = self.place.error(format!("the key `{key}` is missing"));
            let mistyped =
                self.entries.keys().find(|found| nearest(found.get_ref(), [key].into_iter()).is_some());
            error.hint = mistyped.map(|found| format!("is it the unknown key `{}`?", found.get_ref()));
            error
        })
    }

    /// All entries, for a table whose keys are names; `max` of them.
    pub(crate) fn into_entries(
        self,
        max: usize,
    ) -> Result<impl Iterator<Item = (String, Value<'t>)>, ManifestError> {
        let place = self.place;
        at_most(max, self.entries.len(), &place)?;
        Ok(self.entries.into_iter().map(move |(key, value)| {
            let value = value_of(&place, key.get_ref(), value);
            (key.into_inner().into_owned(), value)
        }))
    }

    /// Refuse what was not taken.
    pub(crate) fn finish(self) -> Result<(), ManifestError> {
        // Of several unknown keys the first in the text is reported.
        let Some(key) = self.entries.keys().min_by_key(|key| key.span().start) else { return Ok(()) };
        let name = key.get_ref();
        let mut error = self.place.child(name, key.span()).error("unknown key");
        error.hint = nearest(name, self.known.iter().copied())
            .or_else(|| Some(format!("the keys here are {}", quoted(&self.known))));
        Err(error)
    }
}

fn at_most(max: usize, count: usize, place: &Place<'_>) -> Result<(), ManifestError> {
    if count > max {
        return Err(place.error(format!("has {count} entries, where {max} are allowed")));
    }
    Ok(())
}

fn value_of<'t>(place: &Place<'t>, key: &str, value: Spanned<DeValue<'t>>) -> Value<'t> {
    let place = place.child(key, value.span());
    Value { value: value.into_inner(), place }
}

impl<'t> Value<'t> {
    pub(crate) fn place(&self) -> &Place<'t> {
        &self.place
    }

    fn mismatch(&self, expected: &str) -> ManifestError {
        self.place.error(format!("expected {expected}, found {}", describe(&self.value)))
    }

    pub(crate) fn into_table(self) -> Result<Table<'t>, ManifestError> {
        match self.value {
            DeValue::Table(entries) => Ok(Table { entries, known: Vec::new(), place: self.place }),
            _ => Err(self.mismatch("a table")),
        }
    }

    /// The items of an array of at most `max`.
    pub(crate) fn into_items(self, max: usize) -> Result<Vec<Value<'t>>, ManifestError> {
        let DeValue::Array(items) = self.value else { return Err(self.mismatch("an array")) };
        at_most(max, items.len(), &self.place)?;
        Ok(items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let key = format!("{}[{index}]", self.place.key);
                let place = Place { text: self.place.text, span: item.span(), key };
                Value { value: item.into_inner(), place }
            })
            .collect())
    }

    /// The items of an array, or the value itself where it is a single string.
    pub(crate) fn into_items_or_one(self, max: usize) -> Result<Vec<Value<'t>>, ManifestError> {
        match self.value {
            DeValue::String(_) => Ok(vec![self]),
            DeValue::Array(_) => self.into_items(max),
            _ => Err(self.mismatch("a string or an array of strings")),
        }
    }

    pub(crate) fn string(&self) -> Result<&str, ManifestError> {
        self.as_str().ok_or_else(|| self.mismatch("a string"))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, ManifestError> {
        match &self.value {
            DeValue::Boolean(bool) => Ok(*bool),
            _ => Err(self.mismatch("true or false")),
        }
    }

    pub(crate) fn integer(&self, min: u64, max: u64) -> Result<u64, ManifestError> {
        let wanted = || self.mismatch(&format!("an integer from {min} to {max}"));
        match &self.value {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix())
                .ok()
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(wanted),
            _ => Err(wanted()),
        }
    }

    /// The value as JSON, for what is read by a type later.
    pub(crate) fn into_json(self) -> Result<serde_json::Value, ManifestError> {
        json(self.value, &self.place, 0)
    }

    /// A date and time with its offset from UTC, in milliseconds since 1970-01-01 UTC.
    pub(crate) fn time_ms(&self) -> Result<i64, ManifestError> {
        let wanted = || self.mismatch("a date and time such as 2028-01-01T00:00:00Z");
        let DeValue::Datetime(time) = &self.value else { return Err(wanted()) };
        // TOML's form of it is that of RFC 3339.
        let time = OffsetDateTime::parse(&time.to_string(), &Rfc3339).map_err(|_| wanted())?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| wanted())
    }

    /// A string, read by `parse`, whose message becomes the error.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, ManifestError> {
        parse(self.string()?).map_err(|why| self.place.error(why.to_string()))
    }

    /// A string that is one of these words.
    pub(crate) fn one_of<T: Copy>(
        &self,
        what: &str,
        words: &[(&'static str, T)],
    ) -> Result<T, ManifestError> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let mut error =
            self.place.error(format!("`{text}` is not {what}: expected one of {}", quoted(&words)));
        error.hint = nearest(text, words.into_iter());
        Err(error)
    }
}

/// How deep arguments may nest: types nest less deep (`windlass_describe`).
const MAX_JSON_DEPTH: usize = 64;

fn json(value: DeValue<'_>, place: &Place<'_>, depth: usize) -> Result<serde_json::Value, ManifestError> {
    use serde_json::Value as Json;
    if depth > MAX_JSON_DEPTH {
        return Err(place.error(format!("nests deeper than {MAX_JSON_DEPTH}")));
    }
    Ok(match value {
        DeValue::String(text) => Json::from(text.into_owned()),
        DeValue::Boolean(bool) => Json::from(bool),
        DeValue::Integer(integer) => {
            let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
            let json = number.and_then(|number| {
                i64::try_from(number).map(Json::from).or_else(|_| u64::try_from(number).map(Json::from)).ok()
            });
            json.ok_or_else(|| place.error(format!("{integer} is no integer of 64 bits")))?
        }
        // JSON has no numbers for the last three: the walk by type takes these words.
        DeValue::Float(float) => match float.as_str().parse::<f64>() {
            Ok(number) if number.is_nan() => Json::from("NaN"),
            Ok(f64::INFINITY) => Json::from("Infinity"),
            Ok(f64::NEG_INFINITY) => Json::from("-Infinity"),
            Ok(number) => Json::from(number),
            Err(_) => return Err(place.error(format!("{float} is not a number"))),
        },
        DeValue::Datetime(_) => {
            return Err(place.error("a date or time has no form in JSON: write it as text"));
        }
        DeValue::Array(items) => {
            let mut json_items = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let key = format!("{}[{index}]", place.key);
                let place = Place { text: place.text, span: item.span(), key };
                json_items.push(json(item.into_inner(), &place, depth + 1)?);
            }
            Json::from(json_items)
        }
        DeValue::Table(entries) => {
            let mut object = serde_json::Map::new();
            for (key, value) in entries {
                let place = place.child(key.get_ref(), value.span());
                object.insert(key.into_inner().into_owned(), json(value.into_inner(), &place, depth + 1)?);
            }
            Json::from(object)
        }
    })
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() <= 60 => format!("{:?}", &**text),
        DeValue::String(_) => "a long string".into(),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(bool) => bool.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
