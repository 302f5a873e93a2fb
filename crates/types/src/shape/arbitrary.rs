//! Random shapes, and random values of them, for tests.

use super::{Case, Field, Label, Shape};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const SCALARS: [Shape; 15] = [
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
    Shape::Secret,
];

/// Different names, as many as wanted.
fn name(index: usize) -> String {
    ["used_bytes", "ok", "err", "a", "name", "is_on", "x1", "some"][index % 8].to_owned()
}

/// Shapes as plugins can have them: no option within an option, no list of u8 but bytes.
pub(crate) fn shapes() -> impl Strategy<Value = Shape> {
    prop::sample::select(SCALARS.to_vec()).prop_recursive(4, 40, 5, |inner| {
        let some = |max| prop::collection::vec(inner.clone(), 1..max);
        let maybe = || prop::option::of(inner.clone().prop_map(Box::new));
        let labels = |count: usize| {
            (0..count).map(|at| Label { name: name(at), docs: String::new() }).collect::<Vec<_>>()
        };
        prop_oneof![
            inner.clone().prop_map(|item| match item {
                Shape::U8 => Shape::Bytes,
                item => Shape::List { item: Box::new(item) },
            }),
            inner.clone().prop_map(|item| match item {
                option @ Shape::Option { .. } => option,
                item => Shape::Option { item: Box::new(item) },
            }),
            some(4).prop_map(|items| Shape::Tuple { items }),
            (maybe(), maybe()).prop_map(|(ok, err)| Shape::Result { ok, err }),
            prop::collection::vec(inner.clone(), 0..6).prop_map(|shapes| Shape::Record {
                name: None,
                docs: String::new(),
                fields: shapes
                    .into_iter()
                    .enumerate()
                    .map(|(at, shape)| Field { name: name(at), shape, docs: String::new() })
                    .collect(),
            }),
            prop::collection::vec(prop::option::of(inner.clone()), 1..5).prop_map(|payloads| {
                Shape::Variant {
                    name: None,
                    docs: String::new(),
                    cases: payloads
                        .into_iter()
                        .enumerate()
                        .map(|(at, payload)| Case { name: name(at), payload, docs: String::new() })
                        .collect(),
                }
            }),
            (1..8usize).prop_map(move |count| Shape::Enum {
                name: None,
                docs: String::new(),
                cases: labels(count)
            }),
            (1..8usize).prop_map(move |count| Shape::Flags {
                name: None,
                docs: String::new(),
                flags: labels(count)
            }),
        ]
    })
}

/// A value of a shape, in the form that is written: options spelled out as null.
pub(crate) fn value(shape: &Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Shape::S8 => any::<i8>().prop_map(Value::from).boxed(),
        Shape::S16 => any::<i16>().prop_map(Value::from).boxed(),
        Shape::S32 => any::<i32>().prop_map(Value::from).boxed(),
        Shape::S64 => prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)].prop_map(Value::from).boxed(),
        Shape::U8 => any::<u8>().prop_map(Value::from).boxed(),
        Shape::U16 => any::<u16>().prop_map(Value::from).boxed(),
        Shape::U32 => any::<u32>().prop_map(Value::from).boxed(),
        Shape::U64 => prop_oneof![any::<u64>(), Just(u64::MAX)].prop_map(Value::from).boxed(),
        Shape::F32 => any::<f32>().prop_map(|number| float(f64::from(number))).boxed(),
        Shape::F64 => any::<f64>().prop_map(float).boxed(),
        Shape::Char => any::<char>().prop_map(|c| c.to_string().into()).boxed(),
        Shape::String => "(?s).{0,8}".prop_map(Value::from).boxed(),
        Shape::Bytes => {
            prop::collection::vec(any::<u8>(), 0..8).prop_map(|bytes| BASE64.encode(bytes).into()).boxed()
        }
        Shape::Secret => "[a-z]{1,8}".prop_map(|name| json!({ "secret": name })).boxed(),
        Shape::List { item } => prop::collection::vec(value(item), 0..3).prop_map(Value::from).boxed(),
        Shape::Option { item } => prop_oneof![Just(Value::Null), value(item)].boxed(),
        Shape::Tuple { items } => items.iter().map(value).collect::<Vec<_>>().prop_map(Value::from).boxed(),
        Shape::Result { ok, err } => {
            prop_oneof![side("ok", ok.as_deref()), side("err", err.as_deref())].boxed()
        }
        Shape::Record { fields, .. } => {
            let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
            fields
                .iter()
                .map(|field| value(&field.shape))
                .collect::<Vec<_>>()
                .prop_map(move |values| names.iter().cloned().zip(values).collect::<Map<_, _>>().into())
                .boxed()
        }
        Shape::Variant { cases, .. } => {
            prop::strategy::Union::new(cases.iter().map(|case| side(&case.name, case.payload.as_ref())))
                .boxed()
        }
        Shape::Enum { cases, .. } => {
            let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
            prop::sample::select(names).prop_map(Value::from).boxed()
        }
        Shape::Flags { flags, .. } => {
            let names: Vec<String> = flags.iter().map(|flag| flag.name.clone()).collect();
            let count = names.len();
            prop::sample::subsequence(names, 0..=count).prop_map(Value::from).boxed()
        }
    }
}

fn side(name: &str, payload: Option<&Shape>) -> BoxedStrategy<Value> {
    let name = name.to_owned();
    match payload {
        None => Just(Value::from(name)).boxed(),
        Some(shape) => value(shape).prop_map(move |payload| json!({ name.as_str(): payload })).boxed(),
    }
}

/// How a float is written: JSON has no numbers for the last three.
pub(crate) fn float(number: f64) -> Value {
    match number {
        number if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        number => number.into(),
    }
}
