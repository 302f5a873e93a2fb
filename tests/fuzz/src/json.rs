//! JSON by type: the walk that checks arguments on the master and makes values on the host.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value};
use windlass_types::{
    json::{self, Build},
    shape::{Case, Field, Label, Shape},
};

/// A type, written as bytes up to a NUL ([`Types`]), and JSON after it. What fits the type can be
/// written in the form that is the only one, which fits again and stays as it is. An error names a
/// place that is there.
pub(crate) fn json(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
    let shape = Types { bytes: bytes[..end].iter(), nodes: 0 }.shape(0);
    let Ok(value) = serde_json::from_slice::<Value>(&bytes[end + 1..]) else { return };
    let checked = json::check(&shape, &value);
    match json::read(&shape, &value, &mut Written) {
        Ok(written) => {
            assert_eq!(checked, Ok(()), "the check and the conversion disagree");
            json::check(&shape, &written).unwrap_or_else(|error| panic!("{shape:?}: {written}: {error}"));
            assert_eq!(json::read(&shape, &written, &mut Written), Ok(written), "{shape:?}");
        }
        Err(error) => {
            assert_eq!(checked, Err(error.clone()), "the check and the conversion disagree");
            // Long keys are cut in a message, so that place need not be there.
            let whole = !error.pointer.contains('…');
            assert!(!whole || value.pointer(&error.pointer).is_some(), "{error} in {value}");
        }
    }
    // A type travels as JSON, and comes back as it was.
    let text = serde_json::to_vec(&shape).expect("written");
    assert_eq!(serde_json::from_slice::<Shape>(&text).expect("read"), shape);
}

/// A type from bytes: one for its kind, then its parts.
struct Types<'a> {
    bytes: std::slice::Iter<'a, u8>,
    nodes: usize,
}

impl Types<'_> {
    fn next(&mut self) -> usize {
        self.bytes.next().copied().unwrap_or(b'a').into()
    }

    fn name(at: usize) -> String {
        ["a", "ok", "err", "some", "used_bytes", "x1", "~/", "é"][at % 8].to_owned()
    }

    fn labels(&mut self) -> Vec<Label> {
        (0..1 + self.next() % 5).map(|at| Label { name: Self::name(at), docs: String::new() }).collect()
    }

    fn maybe(&mut self, depth: usize) -> Option<Shape> {
        (self.next() % 2 == 1).then(|| self.shape(depth))
    }

    fn shape(&mut self, depth: usize) -> Shape {
        const PLAIN: [Shape; 14] = [
            Shape::Bool,
            Shape::S8,
            Shape::S16,
            Shape::S32,
            Shape::S64,
            Shape::U8,
            Shape::U16,
            Shape::U32,
            Shape::U64,
            Shape::F32,
            Shape::F64,
            Shape::Char,
            Shape::String,
            Shape::Bytes,
        ];
        self.nodes += 1;
        let kind = self.next().wrapping_sub(usize::from(b'a'));
        if depth > 8 || self.nodes > 100 {
            return PLAIN[kind % PLAIN.len()].clone();
        }
        let (depth, name, docs) = (depth + 1, None, String::new());
        match kind % 23 {
            14 => match self.shape(depth) {
                Shape::U8 => Shape::Bytes,
                item => Shape::List { item: Box::new(item) },
            },
            15 => match self.shape(depth) {
                option @ Shape::Option { .. } => option,
                item => Shape::Option { item: Box::new(item) },
            },
            16 => Shape::Tuple { items: (0..1 + self.next() % 4).map(|_| self.shape(depth)).collect() },
            17 => Shape::Result { ok: self.maybe(depth).map(Box::new), err: self.maybe(depth).map(Box::new) },
            18 => {
                let fields = (0..self.next() % 6).map(|at| Field {
                    name: Self::name(at),
                    shape: self.shape(depth),
                    docs: String::new(),
                });
                let fields = fields.collect();
                Shape::Record { name, docs, fields }
            }
            19 => {
                let cases = (0..1 + self.next() % 5).map(|at| Case {
                    name: Self::name(at),
                    payload: self.maybe(depth),
                    docs: String::new(),
                });
                let cases = cases.collect();
                Shape::Variant { name, docs, cases }
            }
            20 => Shape::Enum { name, docs, cases: self.labels() },
            21 => Shape::Flags { name, docs, flags: self.labels() },
            22 => Shape::Secret,
            plain => PLAIN[plain].clone(),
        }
    }
}

/// Writes values in the one form that is written: options spelled out, integers as numbers.
struct Written;

impl Written {
    fn case(name: &str, payload: Option<Value>) -> Value {
        match payload {
            None => name.into(),
            Some(payload) => Map::from_iter([(name.to_owned(), payload)]).into(),
        }
    }
}

impl Build for Written {
    type Out = Value;

    fn bool(&mut self, value: bool) -> Value {
        value.into()
    }
    fn integer(&mut self, _: &Shape, value: i128) -> Value {
        match i64::try_from(value) {
            Ok(value) => value.into(),
            Err(_) => u64::try_from(value).expect("it fits the type").into(),
        }
    }
    fn f32(&mut self, value: f32) -> Value {
        self.f64(value.into())
    }
    fn f64(&mut self, value: f64) -> Value {
        match value {
            value if value.is_nan() => "NaN".into(),
            f64::INFINITY => "Infinity".into(),
            f64::NEG_INFINITY => "-Infinity".into(),
            value => value.into(),
        }
    }
    fn char(&mut self, value: char) -> Value {
        value.to_string().into()
    }
    fn string(&mut self, value: &str) -> Value {
        value.into()
    }
    fn secret(&mut self, name: &windlass_types::SecretName) -> Value {
        serde_json::json!({ "secret": name })
    }
    fn bytes(&mut self, value: Vec<u8>) -> Value {
        BASE64.encode(value).into()
    }
    fn list(&mut self, items: Vec<Value>) -> Value {
        items.into()
    }
    fn tuple(&mut self, items: Vec<Value>) -> Value {
        items.into()
    }
    fn record(&mut self, fields: &[Field], values: Vec<Value>) -> Value {
        assert_eq!(fields.len(), values.len());
        fields.iter().map(|field| field.name.clone()).zip(values).collect::<Map<_, _>>().into()
    }
    fn variant(&mut self, case: &Case, payload: Option<Value>) -> Value {
        assert_eq!(case.payload.is_some(), payload.is_some(), "a payload where there is one");
        Written::case(&case.name, payload)
    }
    fn enumeration(&mut self, name: &str) -> Value {
        name.into()
    }
    fn flags(&mut self, names: Vec<&str>) -> Value {
        names.into()
    }
    fn option(&mut self, value: Option<Value>) -> Value {
        value.unwrap_or_default()
    }
    fn result(&mut self, value: Result<Option<Value>, Option<Value>>) -> Value {
        match value {
            Ok(payload) => Written::case("ok", payload),
            Err(payload) => Written::case("err", payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzer begins with fits its type.
    #[test]
    fn seeds_fit() {
        for seed in [
            &include_bytes!("../corpus/json/record")[..],
            include_bytes!("../corpus/json/variant"),
            include_bytes!("../corpus/json/result"),
            include_bytes!("../corpus/json/enum"),
        ] {
            let (ty, text) = seed.split_at(seed.iter().position(|byte| *byte == 0).expect("an end"));
            let shape = Types { bytes: ty.iter(), nodes: 0 }.shape(0);
            let value = serde_json::from_slice(&text[1..]).expect("JSON");
            json::check(&shape, &value).unwrap_or_else(|error| panic!("{shape:?}: {error}"));
        }
    }
}
