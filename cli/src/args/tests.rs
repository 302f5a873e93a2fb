use super::*;
use proptest::prelude::*;
use serde_json::json;
use windlass_types::{json::check, shape::Field};

fn signature(params: Value) -> Signature {
    serde_json::from_value(json!({ "params": params })).unwrap()
}

fn all() -> Signature {
    signature(json!([
        { "name": "text", "shape": { "type": "option", "item": { "type": "string" } } },
        { "name": "count", "shape": { "type": "option", "item": { "type": "u64" } } },
        { "name": "low", "shape": { "type": "option", "item": { "type": "s64" } } },
        { "name": "ratio", "shape": { "type": "option", "item": { "type": "f64" } } },
        { "name": "force", "shape": { "type": "option", "item": { "type": "bool" } } },
        { "name": "blob", "shape": { "type": "option", "item": { "type": "bytes" } } },
        { "name": "disks", "shape": { "type": "option", "item": { "type": "list", "item": { "type": "string" } } } },
        { "name": "sizes", "shape": { "type": "option", "item": { "type": "list", "item": { "type": "u8" } } } },
        { "name": "state", "shape": { "type": "option", "item": { "type": "enum", "cases": [{ "name": "up" }, { "name": "lower_layer_down" }] } } },
        { "name": "features", "shape": { "type": "option", "item": { "type": "flags", "flags": [{ "name": "a" }, { "name": "b_c" }] } } },
        { "name": "mode", "shape": { "type": "option", "item": { "type": "variant", "cases": [
            { "name": "auto" }, { "name": "limit", "payload": { "type": "u32" } } ] } } },
        { "name": "pair", "shape": { "type": "option", "item": { "type": "tuple", "items": [{ "type": "u8" }, { "type": "string" }] } } },
        { "name": "layout", "shape": { "type": "option", "item": { "type": "record", "fields": [
            { "name": "kind", "shape": { "type": "string" } },
            { "name": "parity", "shape": { "type": "option", "item": { "type": "u8" } } },
            { "name": "disks", "shape": { "type": "option", "item": { "type": "list", "item": { "type": "string" } } } } ] } } },
    ]))
}

fn files(name: &str) -> std::io::Result<Vec<u8>> {
    match name {
        "-" => Ok(b"from stdin".to_vec()),
        "blob" => Ok(vec![0, 1, 255]),
        "base.json" => Ok(br#"{"text": "base", "count": 1}"#.to_vec()),
        "sizes.json" => Ok(b"[1, 2]".to_vec()),
        "list.json" => Ok(b"[]".to_vec()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    }
}

fn parse_with(base: Option<&str>, words: &[&str]) -> Result<Value, ArgsError> {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    parse(&all(), base, &words, &mut files)
}

/// Words that fit: the object, and that it passes the check.
fn good(words: &[&str]) -> Value {
    let value = parse_with(None, words).unwrap();
    check(&all().params_shape(), &value).unwrap();
    value
}

/// Words that can be read but do not fit the type: what the check says.
fn misfit(words: &[&str]) -> String {
    let value = parse_with(None, words).unwrap();
    check(&all().params_shape(), &value).unwrap_err().to_string()
}

#[test]
fn words_are_read_by_type() {
    assert_eq!(good(&[]), json!({}));
    assert_eq!(good(&["text=12", "count=12"]), json!({ "text": "12", "count": 12 }));
    assert_eq!(good(&["text={\"a\": 1} = x"]), json!({ "text": "{\"a\": 1} = x" }));
    assert_eq!(good(&["text="]), json!({ "text": "" }));
    assert_eq!(good(&["count=18446744073709551615"]), json!({ "count": u64::MAX }));
    assert_eq!(good(&["low=-9223372036854775808"]), json!({ "low": i64::MIN }));
    assert_eq!(good(&["ratio=1e3"]), json!({ "ratio": 1000.0 }));
    assert_eq!(good(&["ratio=NaN"]), json!({ "ratio": "NaN" }));
    assert_eq!(good(&["force=true"]), json!({ "force": true }));
    assert_eq!(good(&["state=lower-layer-down"]), json!({ "state": "lower_layer_down" }));
    assert_eq!(good(&["pair=[1, \"x\"]"]), json!({ "pair": [1, "x"] }));
}

#[test]
fn lists_and_flags_take_one_word_an_item_or_json() {
    assert_eq!(good(&["disks=sda", "disks=sdb"]), json!({ "disks": ["sda", "sdb"] }));
    assert_eq!(good(&["disks=[\"sda\",\"sdb\"]", "disks=sdc"]), json!({ "disks": ["sda", "sdb", "sdc"] }));
    assert_eq!(good(&["disks=[]"]), json!({ "disks": [] }));
    assert_eq!(good(&["disks=[odd"]), json!({ "disks": ["[odd"] }));
    assert_eq!(good(&["sizes=1", "sizes=2"]), json!({ "sizes": [1, 2] }));
    assert_eq!(good(&["features=a,b-c"]), json!({ "features": ["a", "b_c"] }));
    assert_eq!(good(&["features=a", "features=b_c"]), json!({ "features": ["a", "b_c"] }));
    assert_eq!(good(&["features="]), json!({ "features": [] }));
}

#[test]
fn nested_values_take_json_or_dotted_keys() {
    let whole = json!({ "layout": { "kind": "raidz", "parity": 2, "disks": ["a", "b"] } });
    assert_eq!(good(&["layout.kind=raidz", "layout.parity=2", "layout.disks=a", "layout.disks=b"]), whole);
    assert_eq!(
        good(&["layout={\"kind\":\"raidz\",\"disks\":[\"a\"]}", "layout.parity=2", "layout.disks=b"]),
        whole
    );
    assert_eq!(good(&["mode=auto"]), json!({ "mode": "auto" }));
    assert_eq!(good(&["mode.limit=5"]), json!({ "mode": { "limit": 5 } }));
    assert_eq!(good(&["mode={\"limit\":5}"]), json!({ "mode": { "limit": 5 } }));
}

#[test]
fn files_are_read_by_type() {
    assert_eq!(good(&["blob=@blob"]), json!({ "blob": "AAH/" }));
    assert_eq!(good(&["text=@-"]), json!({ "text": "from stdin" }));
    assert_eq!(good(&["sizes=@sizes.json"]), json!({ "sizes": [1, 2] }));
    assert_eq!(good(&["text=@@home"]), json!({ "text": "@home" }));
    let error = |words: &[&str]| parse_with(None, words).unwrap_err().to_string();
    assert_eq!(error(&["text=@gone"]), "cannot read `gone` for `text`");
    assert_eq!(error(&["text=@blob"]), "`blob` for `text` is not text in utf-8");
    assert_eq!(error(&["count=@-"]), "`-` is not json");
}

#[test]
fn a_base_object_is_replaced_key_by_key() {
    assert_eq!(parse_with(Some("@base.json"), &["count=2"]).unwrap(), json!({ "text": "base", "count": 2 }));
    assert_eq!(parse_with(Some(r#"{"count": 3}"#), &[]).unwrap(), json!({ "count": 3 }));
    let error = |base: &str| parse_with(Some(base), &[]).unwrap_err().to_string();
    assert_eq!(error("[1]"), "the arguments in `--args` are not a json object");
    assert_eq!(error("@list.json"), "the arguments in `list.json` are not a json object");
    assert_eq!(error("{"), "`--args` is not json");
    assert_eq!(error("-"), "`-` is not json");
    assert_eq!(error("@gone"), "cannot read `gone` for `--args`");
}

#[test]
fn what_cannot_be_read_is_told() {
    let error = |words: &[&str]| parse_with(None, words).unwrap_err().to_string();
    assert_eq!(error(&["text"]), "`text` is not `key=value`");
    assert_eq!(error(&["=x"]), "`=x` is not `key=value`");
    assert_eq!(error(&["text=a", "text=b"]), "`text` is given twice, and is not a list");
    assert_eq!(error(&["layout.kind=a", "layout={}"]), "`layout` is given twice, and is not a list");
    assert_eq!(error(&["text.x=a"]), "`x` cannot be set within `text`: it is string, not a record");
    assert_eq!(error(&["disks.0=a"]), "`0` cannot be set within `disks`: it is list<string>, not a record");
}

#[test]
fn what_does_not_fit_is_told_with_place_and_type() {
    for (words, message) in [
        (
            &["count=many"][..],
            "/count: expected u64 (an integer from 0 to 18446744073709551615), found \"many\"",
        ),
        (
            &["count=18446744073709551616"],
            "/count: expected u64 (an integer from 0 to 18446744073709551615), found",
        ),
        (&["sizes=1", "sizes=256"], "/sizes/1: expected u8 (an integer from 0 to 255), found 256"),
        (&["force=yes"], "/force: expected true or false, found \"yes\""),
        (&["state=upp"], "/state: expected one of up, lower_layer_down, found \"upp\" (did you mean `up`?)"),
        (&["cuont=1"], "/cuont: expected one of the keys"),
        (&["layout.parity=2"], "/layout: expected the key `kind` (string), found nothing"),
        (&["layout.kidn=a"], "/layout/kidn: expected one of the keys kind, parity, disks"),
        (&["mode=limit"], "/mode: expected {\"limit\": u32}"),
        (&["blob=%%"], "/blob: expected a base64 string"),
    ] {
        let told = misfit(words);
        assert!(told.starts_with(message), "{words:?}: {told}");
    }
}

/// Any type with a JSON form, and a value of it.
fn typed() -> impl Strategy<Value = (Shape, Value)> {
    let text = "[^\u{0}]{0,12}";
    let leaf = prop_oneof![
        any::<bool>().prop_map(|value| (Shape::Bool, json!(value))),
        any::<u64>().prop_map(|value| (Shape::U64, json!(value))),
        any::<i64>().prop_map(|value| (Shape::S64, json!(value))),
        any::<u8>().prop_map(|value| (Shape::U8, json!(value))),
        prop::num::f64::NORMAL.prop_map(|value| (Shape::F64, json!(value))),
        any::<char>().prop_map(|value| (Shape::Char, json!(value))),
        text.prop_map(|value| (Shape::String, json!(value))),
        "[a-z]{1,9}".prop_map(|name| (Shape::Secret, json!({ "secret": name }))),
        any::<Vec<u8>>().prop_map(|value| (Shape::Bytes, json!(BASE64.encode(value)))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0..3_usize).prop_map(|((shape, value), count)| {
                (Shape::List { item: Box::new(shape) }, Value::Array(vec![value; count]))
            }),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| {
                let (items, values) = parts.into_iter().unzip();
                (Shape::Tuple { items }, Value::Array(values))
            }),
            prop::collection::vec(inner.clone(), 1..3).prop_map(|parts| {
                let (fields, values): (Vec<_>, serde_json::Map<_, _>) = parts
                    .into_iter()
                    .enumerate()
                    .map(|(index, (shape, value))| {
                        let name = format!("field_{index}");
                        (Field { name: name.clone(), shape, docs: String::new() }, (name, value))
                    })
                    .unzip();
                (Shape::Record { name: None, docs: String::new(), fields }, Value::Object(values))
            }),
            inner.prop_map(|(shape, value)| {
                let case = |name: &str, payload| windlass_types::shape::Case {
                    name: name.into(),
                    payload,
                    docs: String::new(),
                };
                let cases = vec![case("none", None), case("some", Some(shape))];
                (Shape::Variant { name: None, docs: String::new(), cases }, json!({ "some": value }))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_written_as_a_word_reads_back((shape, value) in typed()) {
        let signature = Signature {
            params: vec![Field { name: "key".into(), shape, docs: String::new() }],
            result: None,
        };
        // The JSON of a list of one byte string starts with `[`, of a string with anything.
        let text = match &value {
            Value::String(text) if text.starts_with('@') => format!("@{text}"),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let read = parse(&signature, None, &[format!("key={text}")], &mut files).unwrap();
        prop_assert_eq!(&read["key"], &value);
        prop_assert!(check(&signature.params_shape(), &read).is_ok());
    }

    #[test]
    fn no_word_brings_it_down(words in prop::collection::vec("(text|count|disks|layout|mode|features)?[.a-z]{0,6}=?.{0,12}", 0..5)) {
        let _ = parse(&all(), None, &words, &mut files);
    }

    #[test]
    fn a_string_takes_any_text(text in "[^@].{0,40}") {
        prop_assert_eq!(good(&[&format!("text={text}")]), json!({ "text": text }));
    }
}
