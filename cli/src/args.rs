//! `key=value` words to the arguments object of an operation, by its type.
//!
//! * a string takes the text as it is; numbers, booleans and names of cases are read by type
//! * a list takes one item a word (`disk=sda disk=sdb`) or a whole JSON array
//! * records and variants take JSON, or dotted keys (`layout.kind=mirror`, `mode.limit=5`)
//! * `key=@file` takes the file: bytes for `bytes`, text for a string, JSON for the rest;
//!   `@-` is standard input and `@@` stands for one `@`
//!
//! Text that does not fit its type stays text: [`windlass_types::json::check`] then tells what was
//! expected and where, in the same words as the master and the host.

use crate::exit::Problem;
use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value};
use std::io::Read as _;
use windlass_types::shape::{Shape, Signature, json_name};

/// Why words make no arguments. None of these is about a type: that is told by `check`.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error("`{0}` is not `key=value`")]
    NotAPair(String),
    #[error("`{0}` is given twice, and is not a list")]
    Twice(String),
    #[error("`{key}` cannot be set within `{parent}`: it is {brief}, not a record")]
    NotARecord { key: String, parent: String, brief: String },
    #[error("cannot read `{from}` for `{key}`")]
    File {
        key: String,
        from: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{from}` for `{key}` is not text in utf-8")]
    NotText { key: String, from: String },
    #[error("`{from}` is not json")]
    NotJson {
        from: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the arguments in `{0}` are not a json object")]
    NotAnObject(String),
}

/// Reads `@name`; the name `-` is standard input.
pub type Loader<'a> = &'a mut dyn FnMut(&str) -> std::io::Result<Vec<u8>>;

/// The arguments object: `base` (from `--args`), with the keys of `words` in place of its own.
///
/// # Errors
/// If a word cannot be read. Whether the object fits the type is not looked at here.
pub fn parse(
    signature: &Signature,
    base: Option<&str>,
    words: &[String],
    load: Loader<'_>,
) -> Result<Value, ArgsError> {
    let mut object = match base {
        Some(base) => base_object(base, load)?,
        None => Map::new(),
    };
    let shape = signature.params_shape();
    let mut given = Value::Object(Map::new());
    for word in words {
        let (key, text) = word.split_once('=').ok_or_else(|| ArgsError::NotAPair(word.clone()))?;
        if key.is_empty() {
            return Err(ArgsError::NotAPair(word.clone()));
        }
        let path: Vec<&str> = key.split('.').collect();
        let mut words = Words { key, load };
        words.insert(Some(&shape), &mut given, "", &path, text)?;
    }
    if let Value::Object(given) = given {
        object.extend(given);
    }
    Ok(Value::Object(object))
}

fn base_object(base: &str, load: Loader<'_>) -> Result<Map<String, Value>, ArgsError> {
    let (from, bytes) = match base.strip_prefix('@') {
        Some(name) => (name, None),
        None if base == "-" => (base, None),
        None => ("--args", Some(base.as_bytes().to_vec())),
    };
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => load(from).map_err(|source| ArgsError::File {
            key: "--args".into(),
            from: from.into(),
            source,
        })?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ArgsError::NotAnObject(from.into())),
        Err(source) => Err(ArgsError::NotJson { from: from.into(), source }),
    }
}

struct Words<'a, 'l> {
    /// The whole key, for messages.
    key: &'a str,
    load: Loader<'l>,
}

impl Words<'_, '_> {
    /// Put `text` at `path` beneath `place`, which has this shape; none where the type knows no
    /// such key (the check will tell).
    fn insert(
        &mut self,
        shape: Option<&Shape>,
        place: &mut Value,
        parent: &str,
        path: &[&str],
        text: &str,
    ) -> Result<(), ArgsError> {
        let Some((first, rest)) = path.split_first() else {
            return self.set(shape, place, text);
        };
        let shape = shape.map(unwrap_option);
        let member = |mut names: &mut dyn Iterator<Item = (&str, Option<&Shape>)>| {
            let wanted = json_name(first);
            Iterator::find(&mut names, |(name, _)| *name == *first || *name == wanted)
                .map(|(name, shape)| (name.to_owned(), shape.cloned()))
        };
        let (name, inner) = match shape {
            Some(Shape::Record { fields, .. }) => {
                member(&mut fields.iter().map(|field| (field.name.as_str(), Some(&field.shape))))
            }
            Some(Shape::Variant { cases, .. }) => {
                member(&mut cases.iter().map(|case| (case.name.as_str(), case.payload.as_ref())))
            }
            Some(Shape::Result { ok, err }) => {
                member(&mut [("ok", ok.as_deref()), ("err", err.as_deref())].into_iter())
            }
            Some(other) => {
                return Err(ArgsError::NotARecord {
                    key: (*first).into(),
                    parent: parent.into(),
                    brief: other.brief(),
                });
            }
            None => None,
        }
        .unwrap_or_else(|| ((*first).to_owned(), None));
        if !place.is_object() {
            if !place.is_null() {
                return Err(ArgsError::Twice(self.key.into()));
            }
            *place = Value::Object(Map::new());
        }
        let Value::Object(object) = place else { unreachable!("made an object above") };
        let slot = object.entry(&name).or_insert(Value::Null);
        self.insert(inner.as_ref(), slot, &name, rest, text)
    }

    fn set(&mut self, shape: Option<&Shape>, slot: &mut Value, text: &str) -> Result<(), ArgsError> {
        let shape = shape.map(unwrap_option);
        let appends = matches!(shape, Some(Shape::List { .. } | Shape::Flags { .. }));
        let may_set = slot.is_null() || appends && slot.is_array();
        if !may_set {
            return Err(ArgsError::Twice(self.key.into()));
        }
        let value = self.value(shape, text)?;
        match (slot, value) {
            (Value::Array(all), Value::Array(more)) if appends => all.extend(more),
            (slot, value) => *slot = value,
        }
        Ok(())
    }

    fn value(&mut self, shape: Option<&Shape>, text: &str) -> Result<Value, ArgsError> {
        match text.strip_prefix('@') {
            None => Ok(of_text(shape, text)),
            Some(literal) if literal.starts_with('@') => Ok(of_text(shape, literal)),
            Some(from) => {
                let bytes = (self.load)(from).map_err(|source| ArgsError::File {
                    key: self.key.into(),
                    from: from.into(),
                    source,
                })?;
                self.of_file(shape, from, bytes)
            }
        }
    }

    fn of_file(&self, shape: Option<&Shape>, from: &str, bytes: Vec<u8>) -> Result<Value, ArgsError> {
        match shape {
            Some(Shape::Bytes) => Ok(Value::String(BASE64.encode(bytes))),
            Some(Shape::List { item }) if matches!(**item, Shape::Bytes) => {
                Ok(Value::Array(vec![Value::String(BASE64.encode(bytes))]))
            }
            Some(Shape::String) | None => String::from_utf8(bytes)
                .map(Value::String)
                .map_err(|_| ArgsError::NotText { key: self.key.into(), from: from.into() }),
            Some(_) => serde_json::from_slice(&bytes)
                .map_err(|source| ArgsError::NotJson { from: from.into(), source }),
        }
    }
}

fn unwrap_option(shape: &Shape) -> &Shape {
    match shape {
        Shape::Option { item } => unwrap_option(item),
        shape => shape,
    }
}

/// What a text means for a type; the text itself where it means nothing.
fn of_text(shape: Option<&Shape>, text: &str) -> Value {
    let plain = || Value::String(text.to_owned());
    let json = || serde_json::from_str(text).ok();
    let Some(shape) = shape.map(unwrap_option) else { return plain() };
    match shape {
        Shape::String | Shape::Char | Shape::Bytes => plain(),
        // Only by its name, and said so: what looks like a value is left to the check, which refuses it.
        Shape::Secret => match text.strip_prefix("secret:") {
            Some(name) => serde_json::json!({ "secret": name }),
            None => json().filter(Value::is_object).unwrap_or_else(plain),
        },
        Shape::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => plain(),
        },
        Shape::S8
        | Shape::S16
        | Shape::S32
        | Shape::S64
        | Shape::U8
        | Shape::U16
        | Shape::U32
        | Shape::U64
        | Shape::F32
        | Shape::F64 => json().filter(Value::is_number).unwrap_or_else(plain),
        Shape::Enum { cases, .. } => {
            label(text, cases.iter().map(|case| case.name.as_str())).unwrap_or_else(plain)
        }
        Shape::Flags { flags, .. } => json().filter(Value::is_array).unwrap_or_else(|| {
            text.split(',')
                .filter(|flag| !flag.is_empty())
                .map(|flag| {
                    label(flag, flags.iter().map(|flag| flag.name.as_str()))
                        .unwrap_or_else(|| Value::String(flag.to_owned()))
                })
                .collect()
        }),
        Shape::Variant { cases, .. } => json()
            .filter(|value| value.is_object() || value.is_string())
            .or_else(|| label(text, cases.iter().map(|case| case.name.as_str())))
            .unwrap_or_else(plain),
        Shape::List { item } => {
            json().filter(Value::is_array).unwrap_or_else(|| Value::Array(vec![of_text(Some(item), text)]))
        }
        Shape::Record { .. } | Shape::Tuple { .. } | Shape::Result { .. } => json().unwrap_or_else(plain),
        Shape::Option { .. } => unreachable!("options are unwrapped above"),
    }
}

/// The name of a case as the type spells it: `lower-layer-down` means `lower_layer_down`.
fn label<'n>(text: &str, mut names: impl Iterator<Item = &'n str>) -> Option<Value> {
    let wanted = json_name(text);
    names.find(|name| *name == wanted).map(Value::from)
}

/// The arguments of an operation from the command line, checked against its type.
///
/// # Errors
/// If they make no sense; `see` is where the person finds what would.
pub fn read(
    name: &str,
    signature: &Signature,
    base: Option<&str>,
    words: &[String],
    see: &str,
) -> Result<Value> {
    let mut load = |name: &str| {
        if name == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(name)
        }
    };
    let args = parse(signature, base, words, &mut load).map_err(|error| {
        let hint = match &error {
            ArgsError::File { .. } => "a text that begins with `@` is written `@@`",
            _ => see,
        };
        Problem::usage("the arguments cannot be read").hint(hint).because(anyhow::Error::from(error))
    })?;
    windlass_types::json::check(&signature.params_shape(), &args).map_err(|error| {
        Problem::usage(format!("the arguments do not fit `{name}`"))
            .hint(see)
            .because(anyhow::Error::from(error))
    })?;
    Ok(args)
}

#[cfg(test)]
mod tests;
