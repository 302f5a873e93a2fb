//! The one walk over JSON by type.
//!
//! Whoever takes JSON from outside (master, command line, host) goes through [`read`]; what comes
//! out depends on the [`Build`]er: nothing for a mere check, wasmtime values on the host. So the
//! rules of the JSON form stand here once:
//!
//! * record: object; an unknown key is an error; an absent `option` field is none
//! * enum, char, string: string; variant: `"case"` or `{"case": payload}`; flags: array of names
//! * option: null or the value; tuple and list: array; `list<u8>`: base64
//! * result: `{"ok": …}` or `{"err": …}`
//! * secret: `{"secret": "NAME"}`, the name of a stored one; a value in its place is an error that does
//!   not repeat it
//! * integers keep every digit; floats also take `"NaN"`, `"Infinity"`, `"-Infinity"`

use crate::{
    ids::SecretName,
    shape::{Case, Field, Shape},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

/// JSON that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}{}", if pointer.is_empty() { "/" } else { pointer.as_str() }, hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct JsonError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What the type asks for.
    pub expected: String,
    /// What was there.
    pub found: String,
    /// What may help, such as the nearest name.
    pub hint: Option<String>,
}

/// What a walk makes of the values it meets. Names arrive in JSON form, with the position of the
/// field, case or flag in its type.
pub trait Build {
    /// What each value becomes.
    type Out;
    fn bool(&mut self, value: bool) -> Self::Out;
    /// An integer that fits `shape`, which is one of the eight integer shapes.
    fn integer(&mut self, shape: &Shape, value: i128) -> Self::Out;
    fn f32(&mut self, value: f32) -> Self::Out;
    fn f64(&mut self, value: f64) -> Self::Out;
    fn char(&mut self, value: char) -> Self::Out;
    fn string(&mut self, value: &str) -> Self::Out;
    fn bytes(&mut self, value: Vec<u8>) -> Self::Out;
    /// A stored secret, by its name.
    fn secret(&mut self, name: &SecretName) -> Self::Out;
    fn list(&mut self, items: Vec<Self::Out>) -> Self::Out;
    fn tuple(&mut self, items: Vec<Self::Out>) -> Self::Out;
    /// All fields, in the order of the type.
    fn record(&mut self, fields: &[Field], values: Vec<Self::Out>) -> Self::Out;
    fn variant(&mut self, case: &Case, payload: Option<Self::Out>) -> Self::Out;
    fn enumeration(&mut self, name: &str) -> Self::Out;
    fn flags(&mut self, names: Vec<&str>) -> Self::Out;
    fn option(&mut self, value: Option<Self::Out>) -> Self::Out;
    fn result(&mut self, value: Result<Option<Self::Out>, Option<Self::Out>>) -> Self::Out;
}

/// Check JSON against a type and make nothing of it.
///
/// # Errors
/// With the place of the first value that does not fit.
pub fn check(shape: &Shape, value: &Value) -> Result<(), JsonError> {
    read(shape, value, &mut Check)
}

/// Walk JSON by its type.
///
/// # Errors
/// With the place of the first value that does not fit.
pub fn read<B: Build>(shape: &Shape, value: &Value, build: &mut B) -> Result<B::Out, JsonError> {
    Walk { build, path: Vec::new() }.value(shape, value)
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

struct Walk<'a, B> {
    build: &'a mut B,
    path: Vec<Step<'a>>,
}

impl<'a, B: Build> Walk<'a, B> {
    fn error(&self, expected: impl Into<String>, found: impl Into<String>) -> JsonError {
        let mut pointer = String::new();
        for step in &self.path {
            pointer.push('/');
            match step {
                Step::Key(key) => pointer.push_str(&short(key).replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        JsonError { pointer, expected: expected.into(), found: found.into(), hint: None }
    }

    fn at(&mut self, step: Step<'a>, shape: &Shape, value: &'a Value) -> Result<B::Out, JsonError> {
        self.path.push(step);
        let out = self.value(shape, value)?;
        self.path.pop();
        Ok(out)
    }

    fn value(&mut self, shape: &Shape, value: &'a Value) -> Result<B::Out, JsonError> {
        let mismatch = |walk: &Self, expected: &str| Err(walk.error(expected, describe(value)));
        Ok(match shape {
            Shape::Bool => match value {
                Value::Bool(bool) => self.build.bool(*bool),
                _ => return mismatch(self, "true or false"),
            },
            Shape::S8 => self.integer(shape, value, i8::MIN.into(), i8::MAX.into())?,
            Shape::S16 => self.integer(shape, value, i16::MIN.into(), i16::MAX.into())?,
            Shape::S32 => self.integer(shape, value, i32::MIN.into(), i32::MAX.into())?,
            Shape::S64 => self.integer(shape, value, i64::MIN.into(), i64::MAX.into())?,
            Shape::U8 => self.integer(shape, value, 0, u8::MAX.into())?,
            Shape::U16 => self.integer(shape, value, 0, u16::MAX.into())?,
            Shape::U32 => self.integer(shape, value, 0, u32::MAX.into())?,
            Shape::U64 => self.integer(shape, value, 0, u64::MAX.into())?,
            Shape::F32 => {
                let wide = self.float(value)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "f32 takes the nearest value; overflow is refused below"
                )]
                let narrow = wide as f32;
                if wide.is_finite() && !narrow.is_finite() {
                    return mismatch(self, "a number within the range of f32");
                }
                self.build.f32(narrow)
            }
            Shape::F64 => {
                let number = self.float(value)?;
                self.build.f64(number)
            }
            Shape::Char => {
                let text = self.text(value, "a string of one character")?;
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(char), None) => self.build.char(char),
                    _ => return mismatch(self, "a string of one character"),
                }
            }
            Shape::String => {
                let text = self.text(value, "a string")?;
                self.build.string(text)
            }
            Shape::Bytes => {
                let text = self.text(value, "a base64 string")?;
                let Ok(bytes) = BASE64.decode(text) else {
                    return mismatch(self, "a base64 string (RFC 4648, with padding)");
                };
                self.build.bytes(bytes)
            }
            Shape::Secret => {
                let name = self.secret(value)?;
                self.build.secret(&name)
            }
            Shape::List { item } => {
                let items = self.array(value, None)?;
                let items = items
                    .iter()
                    .enumerate()
                    .map(|(index, value)| self.at(Step::Index(index), item, value))
                    .collect::<Result<_, _>>()?;
                self.build.list(items)
            }
            Shape::Tuple { items } => {
                let values = self.array(value, Some(items.len()))?;
                let items = items
                    .iter()
                    .zip(values)
                    .enumerate()
                    .map(|(index, (shape, value))| self.at(Step::Index(index), shape, value))
                    .collect::<Result<_, _>>()?;
                self.build.tuple(items)
            }
            Shape::Option { item } => {
                let inner = match value {
                    Value::Null => None,
                    value => Some(self.value(item, value)?),
                };
                self.build.option(inner)
            }
            Shape::Record { fields, .. } => self.record(fields, value)?,
            Shape::Variant { cases, .. } => {
                let (name, payload) = self.case(value)?;
                let Some(case) = cases.iter().find(|case| case.name == name) else {
                    return Err(self.unknown(name, cases.iter().map(|case| case.name.as_str())));
                };
                let payload = match (&case.payload, payload) {
                    (Some(shape), Some(payload)) => Some(self.at(Step::Key(name), shape, payload)?),
                    (None, None) => None,
                    // `{"case": null}` is how other writers spell a case without payload.
                    (None, Some(Value::Null)) => None,
                    // A payload that may be absent need not be spelled out.
                    (Some(Shape::Option { .. }), None) => {
                        let none = self.build.option(None);
                        Some(none)
                    }
                    (Some(shape), None) => {
                        return Err(self.error(
                            format!("{{\"{name}\": {}}}", shape.brief()),
                            format!("`{name}` without its value"),
                        ));
                    }
                    (None, Some(payload)) => {
                        return Err(self.error(format!("\"{name}\" without a value"), describe(payload)));
                    }
                };
                self.build.variant(case, payload)
            }
            Shape::Enum { cases, .. } => {
                let name = self.text(value, "a string")?;
                if !cases.iter().any(|case| case.name == name) {
                    return Err(self.unknown(name, cases.iter().map(|case| case.name.as_str())));
                }
                self.build.enumeration(name)
            }
            Shape::Flags { flags, .. } => {
                let mut names = Vec::new();
                for (index, value) in self.array(value, None)?.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    let name = self.text(value, "the name of a flag")?;
                    if !flags.iter().any(|flag| flag.name == name) {
                        return Err(self.unknown(name, flags.iter().map(|flag| flag.name.as_str())));
                    }
                    if names.contains(&name) {
                        return Err(self.error("each flag once", format!("`{name}` twice")));
                    }
                    names.push(name);
                    self.path.pop();
                }
                self.build.flags(names)
            }
            Shape::Result { ok, err } => {
                let (name, payload) = self.case(value)?;
                let side = match name {
                    "ok" => ok,
                    "err" => err,
                    _ => return Err(self.unknown(name, ["ok", "err"].into_iter())),
                };
                let payload = match (side, payload) {
                    (Some(shape), Some(payload)) => Some(self.at(Step::Key(name), shape, payload)?),
                    (None, None | Some(Value::Null)) => None,
                    (Some(shape), None) if matches!(**shape, Shape::Option { .. }) => {
                        let none = self.build.option(None);
                        Some(none)
                    }
                    (Some(shape), None) => {
                        return Err(self.error(
                            format!("{{\"{name}\": {}}}", shape.brief()),
                            format!("`{name}` without its value"),
                        ));
                    }
                    (None, Some(payload)) => {
                        return Err(self.error(format!("\"{name}\" without a value"), describe(payload)));
                    }
                };
                self.build.result(if name == "ok" { Ok(payload) } else { Err(payload) })
            }
        })
    }

    fn record(&mut self, fields: &[Field], value: &'a Value) -> Result<B::Out, JsonError> {
        let Value::Object(object) = value else {
            return Err(self.error("an object", describe(value)));
        };
        if let Some(key) = object.keys().find(|key| !fields.iter().any(|field| field.name == **key)) {
            self.path.push(Step::Key(key));
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            let mut error = self.error(
                if names.is_empty() {
                    "no key at all".to_owned()
                } else {
                    format!("one of the keys {}", names.join(", "))
                },
                format!("the unknown key `{}`", short(key)),
            );
            error.hint = nearest(key, names.into_iter());
            return Err(error);
        }
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            values.push(match (object.get_key_value(&field.name), &field.shape) {
                (Some((key, value)), shape) => self.at(Step::Key(key), shape, value)?,
                (None, Shape::Option { .. }) => self.build.option(None),
                (None, shape) => {
                    return Err(
                        self.error(format!("the key `{}` ({})", field.name, shape.brief()), "nothing")
                    );
                }
            });
        }
        Ok(self.build.record(fields, values))
    }

    fn integer(&mut self, shape: &Shape, value: &Value, min: i128, max: i128) -> Result<B::Out, JsonError> {
        let number = match value {
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Some(i128::from(number)),
                (None, Some(number)) => Some(i128::from(number)),
                (None, None) => None,
            },
            // For clients whose numbers end at 53 bits.
            Value::String(text) if is_decimal(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (min..=max).contains(&number) => Ok(self.build.integer(shape, number)),
            _ => {
                Err(self
                    .error(format!("{} (an integer from {min} to {max})", shape.brief()), describe(value)))
            }
        }
    }

    fn float(&self, value: &Value) -> Result<f64, JsonError> {
        match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(|| self.error("a number", describe(value)))
    }

    fn text(&self, value: &'a Value, expected: &str) -> Result<&'a str, JsonError> {
        value.as_str().ok_or_else(|| self.error(expected, describe(value)))
    }

    /// Whatever stands here may be a password that somebody took for an argument: no message repeats it.
    fn secret(&self, value: &Value) -> Result<SecretName, JsonError> {
        let fail = |found: &str| {
            let mut error = self.error("{\"secret\": NAME} with the name of a stored secret", found);
            error.hint =
                Some("store the value with `windlass secrets set NAME`, and give `KEY=secret:NAME`".into());
            error
        };
        match value {
            Value::Object(object) if object.len() == 1 => match object.get("secret") {
                Some(Value::String(name)) => name.parse().map_err(|_| fail("a text that is no such name")),
                _ => Err(fail("another object")),
            },
            Value::Object(_) => Err(fail("another object")),
            Value::String(_) => Err(fail("a string")),
            Value::Null => Err(fail("null")),
            _ => Err(fail("something else")),
        }
    }

    fn array(&self, value: &'a Value, len: Option<usize>) -> Result<&'a Vec<Value>, JsonError> {
        match (value, len) {
            (Value::Array(items), Some(len)) if items.len() != len => {
                Err(self.error(format!("an array of {len} items"), format!("one of {}", items.len())))
            }
            (Value::Array(items), _) => Ok(items),
            _ => Err(self.error("an array", describe(value))),
        }
    }

    fn case(&self, value: &'a Value) -> Result<(&'a str, Option<&'a Value>), JsonError> {
        match value {
            Value::String(name) => Ok((name, None)),
            Value::Object(object) if object.len() == 1 => Ok(object
                .iter()
                .next()
                .map(|(name, payload)| (name.as_str(), Some(payload)))
                .expect("one entry")),
            _ => Err(self.error("\"case\" or {\"case\": value}", describe(value))),
        }
    }

    fn unknown<'n>(&self, found: &str, names: impl Iterator<Item = &'n str> + Clone) -> JsonError {
        let mut error = self.error(
            format!("one of {}", names.clone().collect::<Vec<_>>().join(", ")),
            format!("\"{}\"", short(found)),
        );
        error.hint = nearest(found, names);
        error
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.len() <= 20 && digits.bytes().all(|b| b.is_ascii_digit())
}

/// What came from outside, short enough for a message. Names of fields are shorter in practice.
fn short(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", short(text)),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// `did you mean …` for a name that is close to one of `names`.
///
/// What was found may come from anyone, and the comparison takes memory in proportion to the
/// product of both lengths: so what can not be close by its length alone is not compared.
pub fn nearest<'n>(found: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    const LONGEST: usize = 128;
    let near = |name: &str| 1 + name.len().min(found.len()) / 3;
    names
        .filter(|name| found.len() <= LONGEST && name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= near(name))
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

/// Makes nothing.
struct Check;

impl Build for Check {
    type Out = ();
    fn bool(&mut self, _: bool) {}
    fn integer(&mut self, _: &Shape, _: i128) {}
    fn f32(&mut self, _: f32) {}
    fn f64(&mut self, _: f64) {}
    fn char(&mut self, _: char) {}
    fn string(&mut self, _: &str) {}
    fn bytes(&mut self, _: Vec<u8>) {}
    fn secret(&mut self, _: &SecretName) {}
    fn list(&mut self, _: Vec<()>) {}
    fn tuple(&mut self, _: Vec<()>) {}
    fn record(&mut self, _: &[Field], _: Vec<()>) {}
    fn variant(&mut self, _: &Case, _: Option<()>) {}
    fn enumeration(&mut self, _: &str) {}
    fn flags(&mut self, _: Vec<&str>) {}
    fn option(&mut self, _: Option<()>) {}
    fn result(&mut self, _: Result<Option<()>, Option<()>>) {}
}

#[cfg(test)]
mod tests;
