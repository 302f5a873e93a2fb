//! The type model of operations.
//!
//! A [`Shape`] is a WIT type reduced to what has a JSON form. It comes from two places: from the
//! loaded component (on the host, without names of types and without documentation) and from the
//! binary WIT of a bundle (with both). [`Signature::digest`] looks only at what both know, so the
//! two can be compared, and master and host can tell whether they mean the same operation.

use crate::ids::{Digest, OperationName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A type with a JSON form. WIT types cannot recurse, so a shape is a finite tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Shape {
    Bool,
    S8,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`: base64 text in JSON.
    Bytes,
    /// `windlass:host/secrets.secret`: the name of a stored secret, `{"secret": "NAME"}` in JSON. Only
    /// in parameters.
    Secret,
    List {
        item: Box<Shape>,
    },
    Option {
        item: Box<Shape>,
    },
    Tuple {
        items: Vec<Shape>,
    },
    /// `result<ok, err>`; as the whole result of an operation it becomes the outcome.
    Result {
        ok: Option<Box<Shape>>,
        err: Option<Box<Shape>>,
    },
    Record {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        docs: String,
        fields: Vec<Field>,
    },
    Variant {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        docs: String,
        cases: Vec<Case>,
    },
    Enum {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        docs: String,
        cases: Vec<Label>,
    },
    Flags {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        docs: String,
        flags: Vec<Label>,
    },
}

// The tree is recursive, which the derived OpenAPI schema cannot express inline.
impl utoipa::PartialSchema for Shape {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .description(Some("A WIT type as a tree: `type` names its kind."))
            .into()
    }
}
impl ToSchema for Shape {}

/// A field of a record, or a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Field {
    /// Name in JSON: snake_case.
    pub name: String,
    /// Its type.
    pub shape: Shape,
    /// Documentation; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
}

/// A case of a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Name in JSON: snake_case.
    pub name: String,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Shape>,
    /// Documentation; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
}

/// A case of an enum, or a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Name in JSON: snake_case.
    pub name: String,
    /// Documentation; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
}

/// Parameters and result of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signature {
    /// Parameters in order.
    pub params: Vec<Field>,
    /// What it returns; none for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Shape>,
}

/// An operation as people read about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Full name.
    pub name: OperationName,
    /// Documentation without the lines about parameters; empty where there is none.
    #[serde(default)]
    pub docs: String,
    /// Parameters and result, documented.
    pub signature: Signature,
    /// True when it returns a plan and touches nothing itself.
    #[serde(default)]
    pub planned: bool,
}

/// The parameter of a planned operation that the master fills in, and its type in `windlass:plan/types`. It
/// is not part of the operation's signature.
pub const FLEET: &str = "fleet";

/// WIT's kebab-case as JSON's snake_case.
pub fn json_name(kebab: &str) -> String {
    kebab.replace('-', "_")
}

impl Shape {
    /// One line for people: `list<record disk>`, `option<u64>`, `enum(up | down)`.
    pub fn brief(&self) -> String {
        let named = |kind: &str, name: &Option<String>| name.clone().unwrap_or_else(|| kind.to_owned());
        match self {
            Shape::Bool => "bool".into(),
            Shape::S8 => "s8".into(),
            Shape::S16 => "s16".into(),
            Shape::S32 => "s32".into(),
            Shape::S64 => "s64".into(),
            Shape::U8 => "u8".into(),
            Shape::U16 => "u16".into(),
            Shape::U32 => "u32".into(),
            Shape::U64 => "u64".into(),
            Shape::F32 => "f32".into(),
            Shape::F64 => "f64".into(),
            Shape::Char => "char".into(),
            Shape::String => "string".into(),
            Shape::Bytes => "bytes (base64)".into(),
            Shape::Secret => "secret".into(),
            Shape::List { item } => format!("list<{}>", item.brief()),
            Shape::Option { item } => format!("option<{}>", item.brief()),
            Shape::Tuple { items } => {
                format!("tuple<{}>", items.iter().map(Shape::brief).collect::<Vec<_>>().join(", "))
            }
            Shape::Result { ok, err } => {
                let side =
                    |side: &Option<Box<Shape>>| side.as_ref().map_or("_".into(), |shape| shape.brief());
                format!("result<{}, {}>", side(ok), side(err))
            }
            Shape::Record { name, .. } => named("record", name),
            Shape::Variant { name, .. } => named("variant", name),
            Shape::Enum { cases, .. } => {
                cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(" | ")
            }
            Shape::Flags { flags, .. } => format!(
                "flags({})",
                flags.iter().map(|flag| flag.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        }
    }

    /// Whether a secret is part of it.
    pub fn holds_secret(&self) -> bool {
        let boxed = |shape: &Option<Box<Shape>>| shape.as_ref().is_some_and(|shape| shape.holds_secret());
        match self {
            Shape::Secret => true,
            Shape::List { item } | Shape::Option { item } => item.holds_secret(),
            Shape::Tuple { items } => items.iter().any(Shape::holds_secret),
            Shape::Result { ok, err } => boxed(ok) || boxed(err),
            Shape::Record { fields, .. } => fields.iter().any(|field| field.shape.holds_secret()),
            Shape::Variant { cases, .. } => {
                cases.iter().any(|case| case.payload.as_ref().is_some_and(Shape::holds_secret))
            }
            _ => false,
        }
    }

    /// The canonical text of the type: structure and names of fields and cases, neither names of
    /// types nor documentation. Names are quoted, so that none can pass for structure.
    fn canonical(&self, out: &mut String) {
        let list = |out: &mut String, word: &str, items: &mut dyn Iterator<Item = (&str, Option<&Shape>)>| {
            out.push_str(word);
            out.push('{');
            for (name, shape) in items {
                out.push_str(&format!("{name:?}"));
                if let Some(shape) = shape {
                    out.push(':');
                    shape.canonical(out);
                }
                out.push(',');
            }
            out.push('}');
        };
        match self {
            Shape::List { item } => list(out, "list", &mut [("", Some(&**item))].into_iter()),
            Shape::Option { item } => list(out, "option", &mut [("", Some(&**item))].into_iter()),
            Shape::Tuple { items } => list(out, "tuple", &mut items.iter().map(|item| ("", Some(item)))),
            Shape::Result { ok, err } => {
                list(out, "result", &mut [("ok", ok.as_deref()), ("err", err.as_deref())].into_iter());
            }
            Shape::Record { fields, .. } => {
                list(
                    out,
                    "record",
                    &mut fields.iter().map(|field| (field.name.as_str(), Some(&field.shape))),
                );
            }
            Shape::Variant { cases, .. } => {
                list(
                    out,
                    "variant",
                    &mut cases.iter().map(|case| (case.name.as_str(), case.payload.as_ref())),
                );
            }
            Shape::Enum { cases, .. } => {
                list(out, "enum", &mut cases.iter().map(|case| (case.name.as_str(), None)));
            }
            Shape::Flags { flags, .. } => {
                list(out, "flags", &mut flags.iter().map(|flag| (flag.name.as_str(), None)));
            }
            // The scalars: their brief form is one fixed word.
            scalar => out.push_str(&scalar.brief()),
        }
    }
}

impl Signature {
    /// In one line, as WIT would have it.
    pub fn brief(&self) -> String {
        let params: Vec<String> =
            self.params.iter().map(|param| format!("{}: {}", param.name, param.shape.brief())).collect();
        let result = self.result.as_ref().map(|shape| format!(" -> {}", shape.brief())).unwrap_or_default();
        format!("func({}){result}", params.join(", "))
    }

    /// Digest of the type of an operation: what a job carries, and what its host compares.
    pub fn digest(&self) -> Digest {
        let mut text = String::from("windlass-signature-1(");
        for param in &self.params {
            text.push_str(&format!("{:?}:", param.name));
            param.shape.canonical(&mut text);
            text.push(',');
        }
        text.push_str(")->");
        if let Some(result) = &self.result {
            result.canonical(&mut text);
        }
        Digest::of(text.as_bytes())
    }

    /// The parameters as one record, for checking and converting arguments.
    pub fn params_shape(&self) -> Shape {
        Shape::Record { name: None, docs: String::new(), fields: self.params.clone() }
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
