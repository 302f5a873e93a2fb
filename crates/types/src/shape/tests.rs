use super::{arbitrary::shapes, *};
use proptest::prelude::*;

fn record(fields: &[(&str, Shape)]) -> Shape {
    let fields = fields
        .iter()
        .map(|(name, shape)| Field { name: (*name).into(), shape: shape.clone(), docs: String::new() })
        .collect();
    Shape::Record { name: None, docs: String::new(), fields }
}

fn signature(param: Shape) -> Signature {
    let param = Field { name: "x".into(), shape: param, docs: String::new() };
    Signature { params: vec![param], result: None }
}

/// Master and host of different versions compare digests, so the text that is hashed may not change.
#[test]
fn digests_stay_the_same() {
    let everything = Shape::Tuple {
        items: vec![
            record(&[("used_bytes", Shape::U64), ("data", Shape::Bytes)]),
            Shape::Option { item: Box::new(Shape::List { item: Box::new(Shape::String) }) },
            Shape::Result { ok: None, err: Some(Box::new(Shape::Char)) },
            Shape::Variant {
                name: None,
                docs: String::new(),
                cases: vec![
                    Case { name: "a".into(), payload: None, docs: String::new() },
                    Case { name: "b".into(), payload: Some(Shape::F32), docs: String::new() },
                ],
            },
            Shape::Enum {
                name: None,
                docs: String::new(),
                cases: vec![Label { name: "up".into(), docs: String::new() }],
            },
            Shape::Flags {
                name: None,
                docs: String::new(),
                flags: vec![Label { name: "on".into(), docs: String::new() }],
            },
        ],
    };
    let mut text = String::new();
    everything.canonical(&mut text);
    assert_eq!(
        text,
        r#"tuple{"":record{"used_bytes":u64,"data":bytes (base64),},"":option{"":list{"":string,},},"":result{"ok","err":char,},"":variant{"a","b":f32,},"":enum{"up",},"":flags{"on",},}"#
    );
    let signature = signature(everything);
    let whole = format!("windlass-signature-1(\"x\":{text},)->");
    assert_eq!(signature.digest(), Digest::of(whole.as_bytes()));
}

#[test]
fn a_name_can_not_pass_for_structure() {
    let two = record(&[("a", Shape::U8), ("b", Shape::U8)]);
    for one in ["a:u8,b", "a\":u8,\"b", "a\\\":u8,\\\"b"] {
        assert_ne!(signature(two.clone()).digest(), signature(record(&[(one, Shape::U8)])).digest());
    }
}

#[test]
fn names_and_documentation_of_types_are_not_part_of_the_digest() {
    let plain = record(&[("a", Shape::U8)]);
    let Shape::Record { fields, .. } = plain.clone() else { unreachable!("a record") };
    let fields = fields.into_iter().map(|field| Field { docs: "What it is.".into(), ..field }).collect();
    let documented = Shape::Record { name: Some("thing".into()), docs: "A thing.".into(), fields };
    assert_eq!(signature(plain).digest(), signature(documented).digest());
}

proptest! {
    #[test]
    fn different_types_have_different_digests(a in shapes(), b in shapes()) {
        prop_assert_eq!(signature(a.clone()).digest() == signature(b.clone()).digest(), a == b);
    }

    #[test]
    fn shapes_travel_as_json(shape in shapes()) {
        let text = serde_json::to_string(&shape).expect("written");
        prop_assert_eq!(serde_json::from_str::<Shape>(&text).expect("read"), shape);
    }
}
