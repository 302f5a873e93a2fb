//! From a component's types to shapes.

use wasmtime::component::{
    Type,
    types::{ComponentFunc, Record},
};
use windlass_types::shape::{Case, Field, Label, Shape, Signature, json_name};

/// Nodes of all shapes of one plugin. Types that use each other grow exponentially when they are
/// written out as trees.
const MAX_NODES: usize = 50_000;
/// How deep types may nest; serde_json stops at 128.
const MAX_DEPTH: usize = 48;

/// A type without a form in JSON, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) String);

/// The only field of `windlass:host/secrets.secret`.
pub(super) const SECRET_FIELD: &str = "secret-handle";

/// Whether this is `windlass:host/secrets.secret`. A component tells types apart by structure, not by
/// name; where names are known, no other type may have this one (`crates/describe/src/shapes.rs`).
fn is_secret(record: &Record) -> bool {
    let mut fields = record.fields();
    matches!(
        (fields.next(), fields.next()),
        (Some(field), None) if field.name == SECRET_FIELD && matches!(field.ty, Type::String)
    )
}

/// Writes types out, within a limit for all of them together.
pub(crate) struct Shapes {
    nodes: usize,
}

impl Shapes {
    pub(crate) fn new() -> Shapes {
        Shapes { nodes: 0 }
    }

    /// What a function takes and gives.
    pub(crate) fn signature(&mut self, function: &ComponentFunc) -> Result<Signature, Unsupported> {
        if function.async_() {
            return Err(Unsupported("an async function can not be an operation".into()));
        }
        let mut params = Vec::new();
        for (name, ty) in function.params() {
            let shape = self
                .shape(&ty, 0)
                .map_err(|Unsupported(why)| Unsupported(format!("parameter `{name}`: {why}")))?;
            params.push(Field { name: json_name(name), shape, docs: String::new() });
        }
        let result = function
            .results()
            .next()
            .map(|ty| self.shape(&ty, 0))
            .transpose()
            .map_err(|Unsupported(why)| Unsupported(format!("its result: {why}")))?;
        if result.as_ref().is_some_and(Shape::holds_secret) {
            return Err(Unsupported(
                "its result: a secret is given to an operation, and never returned".into(),
            ));
        }
        Ok(Signature { params, result })
    }

    pub(crate) fn shape(&mut self, ty: &Type, depth: usize) -> Result<Shape, Unsupported> {
        self.node()?;
        if depth > MAX_DEPTH {
            return Err(Unsupported(format!("its types nest deeper than {MAX_DEPTH}")));
        }
        let depth = depth + 1;
        let none = |what: &str| Err(Unsupported(format!("{what} has no form in JSON")));
        Ok(match ty {
            Type::Bool => Shape::Bool,
            Type::S8 => Shape::S8,
            Type::S16 => Shape::S16,
            Type::S32 => Shape::S32,
            Type::S64 => Shape::S64,
            Type::U8 => Shape::U8,
            Type::U16 => Shape::U16,
            Type::U32 => Shape::U32,
            Type::U64 => Shape::U64,
            Type::Float32 => Shape::F32,
            Type::Float64 => Shape::F64,
            Type::Char => Shape::Char,
            Type::String => Shape::String,
            Type::List(list) => match self.shape(&list.ty(), depth)? {
                Shape::U8 => Shape::Bytes,
                item => Shape::List { item: Box::new(item) },
            },
            Type::Option(option) => match self.shape(&option.ty(), depth)? {
                Shape::Option { .. } => {
                    return none("an `option` within an `option`, where both nones would be null,");
                }
                item => Shape::Option { item: Box::new(item) },
            },
            Type::Tuple(tuple) => Shape::Tuple {
                items: tuple.types().map(|ty| self.shape(&ty, depth)).collect::<Result<_, _>>()?,
            },
            Type::Result(result) => {
                let mut side =
                    |ty: Option<Type>| ty.map(|ty| self.shape(&ty, depth).map(Box::new)).transpose();
                Shape::Result { ok: side(result.ok())?, err: side(result.err())? }
            }
            Type::Record(record) if is_secret(record) => Shape::Secret,
            Type::Record(record) => {
                let mut fields = Vec::new();
                for field in record.fields() {
                    fields.push(Field {
                        name: json_name(field.name),
                        shape: self.shape(&field.ty, depth)?,
                        docs: String::new(),
                    });
                }
                Shape::Record { name: None, docs: String::new(), fields }
            }
            Type::Variant(variant) => {
                let mut cases = Vec::new();
                for case in variant.cases() {
                    self.node()?;
                    let payload = case.ty.as_ref().map(|ty| self.shape(ty, depth)).transpose()?;
                    cases.push(Case { name: json_name(case.name), payload, docs: String::new() });
                }
                Shape::Variant { name: None, docs: String::new(), cases }
            }
            Type::Enum(cases) => Shape::Enum {
                name: None,
                docs: String::new(),
                cases: cases.names().map(|name| self.label(name)).collect::<Result<_, _>>()?,
            },
            Type::Flags(flags) => Shape::Flags {
                name: None,
                docs: String::new(),
                flags: flags.names().map(|name| self.label(name)).collect::<Result<_, _>>()?,
            },
            Type::Own(_) | Type::Borrow(_) => return none("a resource"),
            Type::Stream(_) => return none("a stream"),
            Type::Future(_) => return none("a future"),
            Type::Map(_) => return none("a map"),
            Type::FixedLengthList(_) => return none("a list of fixed length"),
            Type::ErrorContext => return none("an error-context"),
        })
    }

    fn label(&mut self, name: &str) -> Result<Label, Unsupported> {
        self.node()?;
        Ok(Label { name: json_name(name), docs: String::new() })
    }

    fn node(&mut self) -> Result<(), Unsupported> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Unsupported(format!(
                "the plugin's types, written out, have more than {MAX_NODES} parts"
            )));
        }
        Ok(())
    }
}
