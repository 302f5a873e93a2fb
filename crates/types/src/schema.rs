//! JSON Schema 2020-12 of a [`Shape`].

use crate::shape::{Field, Label, Shape, Signature};
use serde_json::{Map, Value, json};

/// The dialect that the schemas are written in.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Schema of the arguments object of an operation.
pub fn of_params(signature: &Signature) -> Value {
    let mut schema = of_shape(&signature.params_shape());
    schema["$schema"] = DIALECT.into();
    schema
}

/// Schema of one type.
pub fn of_shape(shape: &Shape) -> Value {
    let integer = |min: i128, max: i128| {
        let bound = |bound: i128| {
            u64::try_from(bound)
                .map(Value::from)
                .unwrap_or_else(|_| i64::try_from(bound).map_or(Value::Null, Value::from))
        };
        json!({ "type": "integer", "minimum": bound(min), "maximum": bound(max) })
    };
    match shape {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::S8 => integer(i8::MIN.into(), i8::MAX.into()),
        Shape::S16 => integer(i16::MIN.into(), i16::MAX.into()),
        Shape::S32 => integer(i32::MIN.into(), i32::MAX.into()),
        Shape::S64 => integer(i64::MIN.into(), i64::MAX.into()),
        Shape::U8 => integer(0, u8::MAX.into()),
        Shape::U16 => integer(0, u16::MAX.into()),
        Shape::U32 => integer(0, u32::MAX.into()),
        Shape::U64 => integer(0, u64::MAX.into()),
        Shape::F32 | Shape::F64 => {
            json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
        }
        Shape::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
        Shape::String => json!({ "type": "string" }),
        Shape::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Shape::Secret => json!({
            "type": "object",
            "description": "The name of a stored secret.",
            "properties": { "secret": { "type": "string", "minLength": 1, "maxLength": 63 } },
            "required": ["secret"],
            "additionalProperties": false,
        }),
        Shape::List { item } => json!({ "type": "array", "items": of_shape(item) }),
        // `prefixItems` may not be empty (2020-12, core, 10.3.1.1).
        Shape::Tuple { items } if items.is_empty() => json!({ "type": "array", "maxItems": 0 }),
        Shape::Tuple { items } => json!({
            "type": "array",
            "prefixItems": items.iter().map(of_shape).collect::<Vec<_>>(),
            "items": false,
            "minItems": items.len(),
        }),
        Shape::Option { item } => json!({ "anyOf": [of_shape(item), { "type": "null" }] }),
        Shape::Result { ok, err } => {
            json!({ "oneOf": [case("ok", ok.as_deref(), ""), case("err", err.as_deref(), "")] })
        }
        Shape::Record { fields, docs, .. } => described(record(fields), docs),
        Shape::Variant { cases, docs, .. } => described(
            json!({ "oneOf": cases.iter().map(|c| case(&c.name, c.payload.as_ref(), &c.docs)).collect::<Vec<_>>() }),
            docs,
        ),
        Shape::Enum { cases, docs, .. } => described(labels(cases), docs),
        Shape::Flags { flags, docs, .. } => {
            described(json!({ "type": "array", "uniqueItems": true, "items": labels(flags) }), docs)
        }
    }
}

fn described(mut schema: Value, docs: &str) -> Value {
    if !docs.is_empty() {
        schema["description"] = docs.into();
    }
    schema
}

fn labels(labels: &[Label]) -> Value {
    json!({ "type": "string", "enum": labels.iter().map(|label| label.name.as_str()).collect::<Vec<_>>() })
}

fn record(fields: &[Field]) -> Value {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| (field.name.clone(), described(of_shape(&field.shape), &field.docs)))
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| !matches!(field.shape, Shape::Option { .. }))
        .map(|field| field.name.as_str())
        .collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn case(name: &str, payload: Option<&Shape>, docs: &str) -> Value {
    let with = |shape: &Shape| {
        json!({
            "type": "object",
            "properties": { name: of_shape(shape) },
            "required": [name],
            "additionalProperties": false,
        })
    };
    let schema = match payload {
        None => json!({ "const": name }),
        // A payload that may be absent need not be spelled out.
        Some(shape @ Shape::Option { .. }) => json!({ "anyOf": [with(shape), { "const": name }] }),
        Some(shape) => with(shape),
    };
    described(schema, docs)
}

#[cfg(test)]
mod tests;
