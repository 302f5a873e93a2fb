use super::value::Values;
use super::*;
use proptest::{collection::vec, prelude::*, sample::subsequence};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use windlass_types::{
    json::read,
    shape::{Case, Field, Label, Shape},
};

fn names(most: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z][a-z0-9]{0,3}(_[a-z0-9]{1,3}){0,2}", 1..=most)
        .prop_map(|names: BTreeSet<String>| names.into_iter().collect())
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    names(5).prop_map(|names| names.into_iter().map(|name| Label { name, docs: String::new() }).collect())
}

fn shapes() -> impl Strategy<Value = Shape> {
    let scalar = prop_oneof![
        Just(Shape::Bool),
        Just(Shape::S8),
        Just(Shape::S16),
        Just(Shape::S32),
        Just(Shape::S64),
        Just(Shape::U8),
        Just(Shape::U16),
        Just(Shape::U32),
        Just(Shape::U64),
        Just(Shape::F32),
        Just(Shape::F64),
        Just(Shape::Char),
        Just(Shape::String),
        Just(Shape::Bytes),
        labels().prop_map(|cases| Shape::Enum { name: None, docs: String::new(), cases }),
        labels().prop_map(|flags| Shape::Flags { name: None, docs: String::new(), flags }),
    ];
    scalar.prop_recursive(4, 24, 5, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            // A list of u8 is always written as bytes, and an option never holds an option.
            inner
                .clone()
                .prop_filter("bytes", |item| *item != Shape::U8)
                .prop_map(|item| Shape::List { item: Box::new(item) }),
            inner
                .clone()
                .prop_filter("nested option", |item| !matches!(item, Shape::Option { .. }))
                .prop_map(|item| Shape::Option { item: Box::new(item) }),
            vec(inner.clone(), 1..4).prop_map(|items| Shape::Tuple { items }),
            (proptest::option::of(boxed.clone()), proptest::option::of(boxed))
                .prop_map(|(ok, err)| Shape::Result { ok, err }),
            (names(4), vec(inner.clone(), 4)).prop_map(|(names, shapes)| Shape::Record {
                name: None,
                docs: String::new(),
                fields: names
                    .into_iter()
                    .zip(shapes)
                    .map(|(name, shape)| Field { name, shape, docs: String::new() })
                    .collect(),
            }),
            (names(4), vec(proptest::option::of(inner), 4)).prop_map(|(names, payloads)| {
                Shape::Variant {
                    name: None,
                    docs: String::new(),
                    cases: names
                        .into_iter()
                        .zip(payloads)
                        .map(|(name, payload)| Case { name, payload, docs: String::new() })
                        .collect(),
                }
            }),
        ]
    })
}

/// JSON in the form that comes back: every field there, flags in order.
fn values(shape: &Shape) -> BoxedStrategy<Value> {
    let case = |name: &str, payload: Option<&Shape>| -> BoxedStrategy<Value> {
        let name = name.to_owned();
        match payload {
            None => Just(Value::String(name)).boxed(),
            Some(shape) => values(shape).prop_map(move |value| json!({ &name: value })).boxed(),
        }
    };
    match shape {
        Shape::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Shape::S8 => any::<i8>().prop_map(Value::from).boxed(),
        Shape::S16 => any::<i16>().prop_map(Value::from).boxed(),
        Shape::S32 => any::<i32>().prop_map(Value::from).boxed(),
        Shape::S64 => prop_oneof![Just(i64::MIN), any::<i64>()].prop_map(Value::from).boxed(),
        Shape::U8 => any::<u8>().prop_map(Value::from).boxed(),
        Shape::U16 => any::<u16>().prop_map(Value::from).boxed(),
        Shape::U32 => any::<u32>().prop_map(Value::from).boxed(),
        Shape::U64 => {
            prop_oneof![Just(u64::MAX), Just((1 << 53) + 1), any::<u64>()].prop_map(Value::from).boxed()
        }
        Shape::F32 => any::<f32>().prop_map(|float| float_json(float.to_string().parse().unwrap())).boxed(),
        Shape::F64 => prop_oneof![
            Just(f64::NAN),
            Just(f64::INFINITY),
            Just(f64::NEG_INFINITY),
            Just(-0.0),
            any::<f64>()
        ]
        .prop_map(float_json)
        .boxed(),
        Shape::Char => any::<char>().prop_map(|char| Value::String(char.to_string())).boxed(),
        Shape::String => any::<String>().prop_map(Value::String).boxed(),
        Shape::Bytes => {
            use base64::Engine as _;
            vec(any::<u8>(), 0..8)
                .prop_map(|bytes| Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)))
                .boxed()
        }
        Shape::Secret => "[a-z]{1,8}".prop_map(|name| serde_json::json!({ "secret": name })).boxed(),
        Shape::List { item } => vec(values(item), 0..4).prop_map(Value::Array).boxed(),
        Shape::Option { item } => prop_oneof![Just(Value::Null), values(item)].boxed(),
        Shape::Tuple { items } => items.iter().map(values).collect::<Vec<_>>().prop_map(Value::Array).boxed(),
        Shape::Result { ok, err } => {
            prop_oneof![case("ok", ok.as_deref()), case("err", err.as_deref())].boxed()
        }
        Shape::Record { fields, .. } => {
            let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
            fields
                .iter()
                .map(|field| values(&field.shape))
                .collect::<Vec<_>>()
                .prop_map(move |values| Value::Object(names.iter().cloned().zip(values).collect()))
                .boxed()
        }
        Shape::Variant { cases, .. } => proptest::strategy::Union::new(
            cases.iter().map(|item| case(&item.name, item.payload.as_ref())).collect::<Vec<_>>(),
        )
        .boxed(),
        Shape::Enum { cases, .. } => {
            proptest::sample::select(cases.clone()).prop_map(|case| Value::String(case.name)).boxed()
        }
        Shape::Flags { flags, .. } => subsequence(flags.clone(), 0..=flags.len())
            .prop_map(|flags| Value::Array(flags.into_iter().map(|flag| Value::String(flag.name)).collect()))
            .boxed(),
    }
}

fn float_json(float: f64) -> Value {
    if float.is_nan() {
        "NaN".into()
    } else if float.is_infinite() {
        if float > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        json!(float)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn json_comes_back_as_it_went_in(
        (shape, value) in shapes().prop_flat_map(|shape| { let value = values(&shape); (Just(shape), value) }),
    ) {
        let val = read(&shape, &value, &mut Values).unwrap();
        let back = to_json(&shape, &val, 1 << 20).unwrap();
        prop_assert_eq!(&back, &value);
        // Also through text, as it travels.
        let text: Value = serde_json::from_str(&back.to_string()).unwrap();
        prop_assert_eq!(text, value);
    }

    #[test]
    fn the_limit_is_about_the_length_of_the_text(
        (shape, value) in shapes().prop_flat_map(|shape| { let value = values(&shape); (Just(shape), value) }),
    ) {
        let val = read(&shape, &value, &mut Values).unwrap();
        let least = (0..u64::MAX).find(|limit| to_json(&shape, &val, *limit).is_ok()).unwrap();
        let text = value.to_string().len() as u64;
        // Numbers count as two bytes and escapes are not counted: the limit is for what costs memory.
        prop_assert!(least <= 2 * text + 8, "{least} for {text} bytes: {value}");
    }
}

#[test]
fn arguments_come_in_the_order_of_the_parameters() {
    let field = |name: &str, shape| Field { name: name.into(), shape, docs: String::new() };
    let params = Shape::Record {
        name: None,
        docs: String::new(),
        fields: vec![
            field("size_bytes", Shape::U64),
            field("name", Shape::Option { item: Box::new(Shape::String) }),
        ],
    };
    let args = arguments(&params, &json!({ "size_bytes": u64::MAX })).unwrap();
    assert_eq!(args, [wasmtime::component::Val::U64(u64::MAX), wasmtime::component::Val::Option(None)]);
    let error = arguments(&params, &json!({ "size_byte": 1 })).unwrap_err();
    assert_eq!(error.pointer, "/size_byte");
    assert!(error.to_string().contains("size_bytes"), "{error}");
    assert!(arguments(&params, &Value::Null).unwrap_err().to_string().contains("size_bytes"));
    assert!(
        arguments(&Shape::Record { name: None, docs: String::new(), fields: vec![] }, &Value::Null)
            .unwrap()
            .is_empty()
    );
}
