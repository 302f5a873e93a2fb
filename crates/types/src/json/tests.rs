use super::*;
use crate::shape::{
    Label,
    arbitrary::{float, shapes, value},
};
use proptest::prelude::*;
use serde_json::{Map, json};

/// Writes what was read: JSON → value → JSON must be the identity.
struct Echo;

impl Build for Echo {
    type Out = Value;
    fn bool(&mut self, value: bool) -> Value {
        value.into()
    }
    fn integer(&mut self, _: &Shape, value: i128) -> Value {
        u64::try_from(value)
            .map(Value::from)
            .or_else(|_| i64::try_from(value).map(Value::from))
            .expect("64 bits")
    }
    fn f32(&mut self, value: f32) -> Value {
        float(f64::from(value))
    }
    fn f64(&mut self, value: f64) -> Value {
        float(value)
    }
    fn char(&mut self, value: char) -> Value {
        value.to_string().into()
    }
    fn string(&mut self, value: &str) -> Value {
        value.into()
    }
    fn secret(&mut self, name: &crate::SecretName) -> Value {
        json!({ "secret": name })
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
        payload.map_or_else(|| case.name.clone().into(), |payload| json!({ &*case.name: payload }))
    }
    fn enumeration(&mut self, name: &str) -> Value {
        name.into()
    }
    fn flags(&mut self, names: Vec<&str>) -> Value {
        names.into()
    }
    fn option(&mut self, value: Option<Value>) -> Value {
        value.unwrap_or(Value::Null)
    }
    fn result(&mut self, value: Result<Option<Value>, Option<Value>>) -> Value {
        let (name, payload) = match value {
            Ok(payload) => ("ok", payload),
            Err(payload) => ("err", payload),
        };
        payload.map_or_else(|| name.into(), |payload| json!({ name: payload }))
    }
}

fn label(name: &str) -> Label {
    Label { name: name.into(), docs: String::new() }
}

fn field(name: &str, shape: Shape) -> Field {
    Field { name: name.into(), shape, docs: String::new() }
}

fn record(fields: Vec<Field>) -> Shape {
    Shape::Record { name: None, docs: String::new(), fields }
}

fn option(item: Shape) -> Shape {
    Shape::Option { item: Box::new(item) }
}

fn variant(cases: &[(&str, Option<Shape>)]) -> Shape {
    let cases = cases
        .iter()
        .map(|(name, payload)| Case { name: (*name).into(), payload: payload.clone(), docs: String::new() })
        .collect();
    Shape::Variant { name: None, docs: String::new(), cases }
}

#[track_caller]
fn reads(shape: &Shape, text: &str, expect: &str) {
    let value: Value = serde_json::from_str(text).expect("JSON");
    match read(shape, &value, &mut Echo) {
        Ok(out) => assert_eq!(out.to_string(), expect),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[track_caller]
fn error(shape: &Shape, text: &str) -> String {
    let value: Value = serde_json::from_str(text).expect("JSON");
    check(shape, &value).expect_err(text).to_string()
}

#[test]
fn integers_keep_every_digit() {
    for (shape, min, max) in [
        (Shape::U64, "0", "18446744073709551615"),
        (Shape::S64, "-9223372036854775808", "9223372036854775807"),
        (Shape::U32, "0", "4294967295"),
        (Shape::S32, "-2147483648", "2147483647"),
        (Shape::U16, "0", "65535"),
        (Shape::S16, "-32768", "32767"),
        (Shape::U8, "0", "255"),
        (Shape::S8, "-128", "127"),
    ] {
        for bound in [min, max] {
            reads(&shape, bound, bound);
            // As text, for clients whose numbers end at 53 bits.
            reads(&shape, &format!("\"{bound}\""), bound);
        }
        let past = |bound: &str, by: i128| (bound.parse::<i128>().expect("a number") + by).to_string();
        for outside in [past(min, -1), past(max, 1)] {
            let brief = shape.brief();
            let message = error(&shape, &outside);
            assert!(
                message.starts_with(&format!("/: expected {brief} (an integer from {min} to {max}), found ")),
                "{message}"
            );
            error(&shape, &format!("\"{outside}\""));
        }
        for not in
            ["1.0", "1e3", "true", "null", "\"\"", "\"-\"", "\"1.0\"", "\"0x1\"", "\" 1\"", "\"+1\"", "[]"]
        {
            error(&shape, not);
        }
    }
    // One past 2^53, which no double holds.
    reads(&Shape::U64, "9007199254740993", "9007199254740993");
    assert_eq!(error(&Shape::U8, "256"), "/: expected u8 (an integer from 0 to 255), found 256");
}

#[test]
fn floats_and_text() {
    reads(&Shape::F64, "0.1", "0.1");
    reads(&Shape::F64, "3", "3.0");
    for special in ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""] {
        reads(&Shape::F64, special, special);
        reads(&Shape::F32, special, special);
    }
    assert_eq!(error(&Shape::F32, "1e39"), "/: expected a number within the range of f32, found 1e+39");
    assert_eq!(error(&Shape::F64, "\"nan\""), "/: expected a number, found \"nan\"");
    reads(&Shape::Char, "\"é\"", "\"é\"");
    assert_eq!(error(&Shape::Char, "\"ab\""), "/: expected a string of one character, found \"ab\"");
    assert_eq!(error(&Shape::Char, "\"\""), "/: expected a string of one character, found \"\"");
    reads(&Shape::Bytes, "\"AP8=\"", "\"AP8=\"");
    for not in ["AP8", "AP8=\n", "A-_=", "AP9="] {
        assert!(error(&Shape::Bytes, &json!(not).to_string()).contains("base64"));
    }
    assert_eq!(error(&Shape::Bool, "0"), "/: expected true or false, found 0");
}

#[test]
fn unknown_and_missing_keys() {
    let disk = record(vec![field("used_bytes", Shape::U64), field("serial", option(Shape::String))]);
    let shape = record(vec![field("disks", Shape::List { item: Box::new(disk.clone()) })]);
    reads(&disk, r#"{"used_bytes": 1}"#, r#"{"serial":null,"used_bytes":1}"#);
    assert_eq!(
        error(&shape, r#"{"disks": [{"used_bytes": 1}, {"used_byte": 1}]}"#),
        "/disks/1/used_byte: expected one of the keys used_bytes, serial, found the unknown key `used_byte` (did you mean `used_bytes`?)"
    );
    assert_eq!(
        error(&shape, r#"{"disks": [{"serial": "x"}]}"#),
        "/disks/0: expected the key `used_bytes` (u64), found nothing"
    );
    assert_eq!(
        error(&shape, r#"{"disks": [{"used_bytes": "1k"}]}"#),
        "/disks/0/used_bytes: expected u64 (an integer from 0 to 18446744073709551615), found \"1k\""
    );
    assert_eq!(
        error(&record(vec![]), r#"{"x": 1}"#),
        "/x: expected no key at all, found the unknown key `x`"
    );
    // RFC 6901: `~` and `/` within a key are written `~0` and `~1`.
    assert!(error(&disk, r#"{"a/b~c": 1}"#).starts_with("/a~1b~0c: "));
    assert_eq!(error(&disk, "[]"), "/: expected an object, found an array");
}

#[test]
fn variants() {
    let shape = variant(&[("none", None), ("slot", Some(Shape::U8)), ("maybe", Some(option(Shape::U8)))]);
    reads(&shape, r#""none""#, r#""none""#);
    reads(&shape, r#"{"none": null}"#, r#""none""#);
    reads(&shape, r#"{"slot": 3}"#, r#"{"slot":3}"#);
    reads(&shape, r#"{"maybe": 3}"#, r#"{"maybe":3}"#);
    reads(&shape, r#"{"maybe": null}"#, r#"{"maybe":null}"#);
    reads(&shape, r#""maybe""#, r#"{"maybe":null}"#);
    assert_eq!(error(&shape, r#""slot""#), r#"/: expected {"slot": u8}, found `slot` without its value"#);
    assert_eq!(error(&shape, r#"{"none": 3}"#), r#"/: expected "none" without a value, found 3"#);
    assert_eq!(error(&shape, r#"{"slot": 300}"#), "/slot: expected u8 (an integer from 0 to 255), found 300");
    assert_eq!(
        error(&shape, r#""slto""#),
        r#"/: expected one of none, slot, maybe, found "slto" (did you mean `slot`?)"#
    );
    for not in ["{}", r#"{"slot": 1, "none": null}"#, "3", "null", "[]"] {
        assert!(error(&shape, not).starts_with(r#"/: expected "case" or {"case": value}, found "#));
    }
}

#[test]
fn enums_flags_results_tuples() {
    let up_down = vec![label("up"), label("down")];
    let shape = Shape::Enum { name: None, docs: String::new(), cases: up_down.clone() };
    reads(&shape, r#""up""#, r#""up""#);
    assert_eq!(
        error(&shape, r#""dwn""#),
        r#"/: expected one of up, down, found "dwn" (did you mean `down`?)"#
    );
    assert_eq!(error(&shape, r#"{"up": null}"#), "/: expected a string, found an object");

    let shape = Shape::Flags { name: None, docs: String::new(), flags: up_down };
    reads(&shape, "[]", "[]");
    reads(&shape, r#"["down", "up"]"#, r#"["down","up"]"#);
    assert_eq!(error(&shape, r#"["up", "up"]"#), "/1: expected each flag once, found `up` twice");
    assert_eq!(error(&shape, r#"["up", "left"]"#), r#"/1: expected one of up, down, found "left""#);
    assert_eq!(error(&shape, r#"[1]"#), "/0: expected the name of a flag, found 1");

    let shape = Shape::Result { ok: None, err: Some(Box::new(Shape::String)) };
    reads(&shape, r#""ok""#, r#""ok""#);
    reads(&shape, r#"{"ok": null}"#, r#""ok""#);
    reads(&shape, r#"{"err": "x"}"#, r#"{"err":"x"}"#);
    assert_eq!(error(&shape, r#"{"ok": 1}"#), r#"/: expected "ok" without a value, found 1"#);
    assert_eq!(error(&shape, r#""err""#), r#"/: expected {"err": string}, found `err` without its value"#);
    assert_eq!(error(&shape, r#""oops""#), r#"/: expected one of ok, err, found "oops""#);

    let shape = Shape::Tuple { items: vec![Shape::U8, Shape::String] };
    reads(&shape, r#"[1, "a"]"#, r#"[1,"a"]"#);
    assert_eq!(error(&shape, "[1]"), "/: expected an array of 2 items, found one of 1");
    assert_eq!(error(&shape, "[1, 2]"), "/1: expected a string, found 2");
    let shape = option(Shape::U8);
    reads(&shape, "null", "null");
    assert_eq!(error(&shape, "\"x\""), "/: expected u8 (an integer from 0 to 255), found \"x\"");
}

/// What comes from outside is quoted in messages, and must not make them, or the search for the
/// nearest name, as large as it likes.
#[test]
fn long_names_stay_out_of_messages() {
    let long = "x".repeat(1_000_000);
    let shape = record(vec![field("used_bytes", Shape::U64)]);
    let begun = std::time::Instant::now();
    for text in [json!({ &*long: 1 }), json!({ "used_bytes": long }), json!(long)] {
        assert!(check(&shape, &text).expect_err("refused").to_string().len() < 500);
    }
    assert!(check(&variant(&[("a", None)]), &json!(long)).expect_err("refused").to_string().len() < 500);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(
        nearest("used_byte", ["used_bytes", "x"].into_iter()).as_deref(),
        Some("did you mean `used_bytes`?")
    );
    assert_eq!(nearest("zzz", ["used_bytes", "x"].into_iter()), None);
}

fn shape_and_value() -> impl Strategy<Value = (Shape, Value)> {
    shapes().prop_flat_map(|shape| {
        let value = value(&shape);
        (Just(shape), value)
    })
}

/// Any JSON of small names: near what shapes ask for, and mostly wrong.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(float),
        "(ok|err|a|name|x1|AA==|.{0,3})".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(ok|err|a|name|x1|used_bytes)", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back((shape, value) in shape_and_value()) {
        prop_assert_eq!(check(&shape, &value), Ok(()));
        // Through text as well: that is how it travels.
        let text: Value = serde_json::from_str(&value.to_string()).expect("JSON");
        prop_assert_eq!(read(&shape, &text, &mut Echo).expect("fits"), value);
    }

    #[test]
    fn absent_options_are_none((shape, mut value) in shape_and_value()) {
        let whole = value.clone();
        if let (Shape::Record { .. }, Some(object)) = (&shape, value.as_object_mut()) {
            object.retain(|_, value| !value.is_null());
        }
        prop_assert_eq!(read(&shape, &value, &mut Echo).expect("fits"), whole);
    }

    #[test]
    fn any_json_is_read_or_refused(shape in shapes(), value in any_json()) {
        match read(&shape, &value, &mut Echo) {
            // What was accepted is stable: written and read again it is the same.
            Ok(out) => prop_assert_eq!(read(&shape, &out, &mut Echo).expect("fits"), out),
            Err(error) => {
                // The pointer leads to something that is there, or is a key that is too much.
                let parent = error.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
                prop_assert!(value.pointer(parent).is_some(), "{}", error);
            }
        }
    }
}

#[test]
fn a_side_whose_value_may_be_absent_needs_none() {
    let side = |item: Shape| Shape::Result { ok: Some(Box::new(item)), err: None };
    check(&side(Shape::Option { item: Box::new(Shape::Bool) }), &json!("ok")).unwrap();
    assert!(check(&side(Shape::Bool), &json!("ok")).is_err());
}
