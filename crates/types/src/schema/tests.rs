use super::*;
use crate::{
    json::check,
    shape::{
        Case,
        arbitrary::{shapes, value},
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;

/// A validator for the part of JSON Schema that [`of_shape`] uses. Strict: a keyword it does not
/// know fails the test. `contentEncoding` counts as an assertion.
fn valid(schema: &Value, value: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
    let one = |name: &str| keywords.get(name);
    keywords.iter().all(|(keyword, argument)| match keyword.as_str() {
        "$schema" | "description" => argument.is_string(),
        "type" => match argument.as_str().expect("a string") {
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            other => panic!("type {other}"),
        },
        "minimum" => integer(value) >= integer(argument),
        "maximum" => integer(value) <= integer(argument),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= count(argument)),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= count(argument)),
        "contentEncoding" => value.as_str().is_none_or(|text| BASE64.decode(text).is_ok()),
        "enum" => argument.as_array().expect("an array").contains(value),
        "const" => argument == value,
        "anyOf" => argument.as_array().expect("an array").iter().any(|schema| valid(schema, value)),
        "oneOf" => {
            argument.as_array().expect("an array").iter().filter(|schema| valid(schema, value)).count() == 1
        }
        "items" => {
            let skip = one("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            value.as_array().is_none_or(|items| items.iter().skip(skip).all(|item| valid(argument, item)))
        }
        "prefixItems" => {
            let schemas = argument.as_array().expect("an array");
            assert!(!schemas.is_empty(), "prefixItems must not be empty");
            value
                .as_array()
                .is_none_or(|items| schemas.iter().zip(items).all(|(schema, item)| valid(schema, item)))
        }
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= count(argument)),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= count(argument)),
        "uniqueItems" => value
            .as_array()
            .is_none_or(|items| items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))),
        "properties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(key, value)| argument.get(key).is_none_or(|schema| valid(schema, value)))
        }),
        "required" => value.as_object().is_none_or(|object| {
            argument
                .as_array()
                .expect("an array")
                .iter()
                .all(|key| object.contains_key(key.as_str().expect("a key")))
        }),
        "additionalProperties" => {
            assert_eq!(argument, false);
            let known = &keywords["properties"];
            value.as_object().is_none_or(|object| object.keys().all(|key| known.get(key).is_some()))
        }
        other => panic!("keyword {other}"),
    })
}

fn integer(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
}

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

#[test]
fn the_arguments_of_an_operation() {
    let signature = Signature {
        params: vec![
            Field { name: "pool".into(), shape: Shape::String, docs: "Name of the pool.".into() },
            Field {
                name: "limit".into(),
                shape: Shape::Option { item: Box::new(Shape::U64) },
                docs: String::new(),
            },
        ],
        result: None,
    };
    assert_eq!(
        of_params(&signature),
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "pool": { "type": "string", "description": "Name of the pool." },
                "limit": {
                    "anyOf": [{ "type": "integer", "minimum": 0, "maximum": u64::MAX }, { "type": "null" }]
                },
            },
            "required": ["pool"],
            "additionalProperties": false,
        })
    );
}

#[test]
fn bounds_are_exact() {
    assert_eq!(
        of_shape(&Shape::U64).to_string(),
        r#"{"maximum":18446744073709551615,"minimum":0,"type":"integer"}"#
    );
    assert_eq!(
        of_shape(&Shape::S64).to_string(),
        r#"{"maximum":9223372036854775807,"minimum":-9223372036854775808,"type":"integer"}"#
    );
}

#[test]
fn documentation_is_kept() {
    let shape = Shape::Variant {
        name: Some("place".into()),
        docs: "Where it stands.".into(),
        cases: vec![
            Case { name: "slot".into(), payload: Some(Shape::U8), docs: "A slot.".into() },
            Case { name: "none".into(), payload: None, docs: "Nowhere.".into() },
        ],
    };
    let schema = of_shape(&shape);
    assert_eq!(schema["description"], "Where it stands.");
    assert_eq!(schema["oneOf"][0]["description"], "A slot.");
    assert_eq!(schema["oneOf"][1], json!({ "const": "none", "description": "Nowhere." }));
}

/// A value of another shape: near enough to be accepted now and then.
fn shape_and_foreign_value() -> impl Strategy<Value = (Shape, Value)> {
    (shapes(), shapes()).prop_flat_map(|(shape, other)| {
        let value = value(&other);
        (Just(shape), value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_schema_takes_what_is_written(
        (shape, value) in shapes().prop_flat_map(|shape| { let value = value(&shape); (Just(shape), value) }),
    ) {
        let schema = of_shape(&shape);
        prop_assert!(valid(&schema, &value), "{schema}\n{value}");
    }

    /// What the schema takes is read; the other way round the reader is more generous, with numbers
    /// as text and `{"case": null}`.
    #[test]
    fn what_the_schema_takes_is_read((shape, value) in shape_and_foreign_value()) {
        if valid(&of_shape(&shape), &value) {
            // A float that only an f64 holds is the one thing a schema can not say.
            let told = check(&shape, &value).err().is_none_or(|error| error.expected.contains("range of f32"));
            prop_assert!(told, "{}", value);
        }
    }
}
