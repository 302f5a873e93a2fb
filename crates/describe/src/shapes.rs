//! From wit-parser's types to [`Shape`]s.

use crate::docs::plain;
use windlass_types::shape::{Case, Field, Label, Shape, json_name};
use wit_parser::{Resolve, Type, TypeDefKind, TypeId, TypeOwner};

/// Nodes of all shapes of a plugin. Types that use each other grow exponentially when they are
/// written out as trees: twenty records of two fields each are a million nodes.
pub(crate) const MAX_NODES: usize = 50_000;
/// Bytes of all names and documentation of a plugin's shapes, written out likewise.
pub(crate) const MAX_TEXT_BYTES: usize = 8 << 20;
/// How deep a type may nest. Shapes travel as JSON, where a record in a record is three levels, and
/// serde_json reads 128 levels.
pub(crate) const MAX_DEPTH: usize = 32;

/// Why a type has no shape.
pub(crate) enum ShapeError {
    /// There is no JSON form for it.
    Unsupported(String),
    /// All types together are too large.
    TooLarge { what: &'static str, limit: usize },
}

/// Writes types out, within limits that hold for all of them together.
pub(crate) struct Shapes<'r> {
    resolve: &'r Resolve,
    nodes: usize,
    text: usize,
}

impl<'r> Shapes<'r> {
    pub(crate) fn new(resolve: &'r Resolve) -> Shapes<'r> {
        Shapes { resolve, nodes: 0, text: 0 }
    }

    pub(crate) fn shape(&mut self, ty: &Type) -> Result<Shape, ShapeError> {
        self.at(ty, 0)
    }

    /// Count text that will be part of the result.
    pub(crate) fn text(&mut self, text: String) -> Result<String, ShapeError> {
        self.text += text.len();
        if self.text > MAX_TEXT_BYTES {
            return Err(ShapeError::TooLarge {
                what: "bytes of names and documentation",
                limit: MAX_TEXT_BYTES,
            });
        }
        Ok(text)
    }

    fn at(&mut self, ty: &Type, depth: usize) -> Result<Shape, ShapeError> {
        self.node()?;
        if depth > MAX_DEPTH {
            return Err(unsupported(format!("its types nest deeper than {MAX_DEPTH}")));
        }
        Ok(match ty {
            Type::Bool => Shape::Bool,
            Type::U8 => Shape::U8,
            Type::U16 => Shape::U16,
            Type::U32 => Shape::U32,
            Type::U64 => Shape::U64,
            Type::S8 => Shape::S8,
            Type::S16 => Shape::S16,
            Type::S32 => Shape::S32,
            Type::S64 => Shape::S64,
            Type::F32 => Shape::F32,
            Type::F64 => Shape::F64,
            Type::Char => Shape::Char,
            Type::String => Shape::String,
            Type::ErrorContext => return Err(unsupported("`error-context` has no form in JSON".into())),
            Type::Id(id) => self.defined(*id, depth)?,
        })
    }

    fn defined(&mut self, id: TypeId, depth: usize) -> Result<Shape, ShapeError> {
        let resolve = self.resolve;
        let id = through_aliases(resolve, id).map_err(unsupported)?;
        let def = &resolve.types[id];
        let depth = depth + 1;
        Ok(match &def.kind {
            TypeDefKind::Record(record) if has_form_of_secret(record) => {
                // A loaded component tells types apart by structure only, so that nothing else may have this one.
                if !is_of_host(resolve, def, "secrets", "secret") {
                    return Err(unsupported(format!(
                        "a record of one field `{SECRET_FIELD}` is `windlass:host/secrets.secret`, and no other"
                    )));
                }
                Shape::Secret
            }
            TypeDefKind::Record(record) => {
                let (name, docs) = self.head(def)?;
                let mut fields = Vec::new();
                for field in &record.fields {
                    let docs = self.text(plain(&field.docs))?;
                    fields.push(Field {
                        name: self.text(json_name(&field.name))?,
                        shape: self.at(&field.ty, depth)?,
                        docs,
                    });
                }
                Shape::Record { name, docs, fields }
            }
            TypeDefKind::Variant(variant) => {
                let (name, docs) = self.head(def)?;
                let mut cases = Vec::new();
                for case in &variant.cases {
                    self.node()?;
                    let docs = self.text(plain(&case.docs))?;
                    let payload = case.ty.as_ref().map(|ty| self.at(ty, depth)).transpose()?;
                    cases.push(Case { name: self.text(json_name(&case.name))?, payload, docs });
                }
                Shape::Variant { name, docs, cases }
            }
            TypeDefKind::Enum(enumeration) => {
                let (name, docs) = self.head(def)?;
                let cases = enumeration
                    .cases
                    .iter()
                    .map(|case| self.label(&case.name, &case.docs))
                    .collect::<Result<_, _>>()?;
                Shape::Enum { name, docs, cases }
            }
            TypeDefKind::Flags(flags) => {
                let (name, docs) = self.head(def)?;
                let flags = flags
                    .flags
                    .iter()
                    .map(|flag| self.label(&flag.name, &flag.docs))
                    .collect::<Result<_, _>>()?;
                Shape::Flags { name, docs, flags }
            }
            TypeDefKind::Option(inner) => {
                let item = Box::new(self.at(inner, depth)?);
                if matches!(*item, Shape::Option { .. }) {
                    return Err(unsupported(
                        "an `option` within an `option` has no form in JSON: both nones are null".into(),
                    ));
                }
                Shape::Option { item }
            }
            TypeDefKind::List(inner) => match self.at(inner, depth)? {
                Shape::U8 => Shape::Bytes,
                item => Shape::List { item: Box::new(item) },
            },
            TypeDefKind::Tuple(tuple) => Shape::Tuple {
                items: tuple.types.iter().map(|ty| self.at(ty, depth)).collect::<Result<_, _>>()?,
            },
            TypeDefKind::Result(result) => {
                let mut side =
                    |ty: &Option<Type>| ty.as_ref().map(|ty| self.at(ty, depth).map(Box::new)).transpose();
                Shape::Result { ok: side(&result.ok)?, err: side(&result.err)? }
            }
            kind => {
                let name = def.name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
                return Err(unsupported(format!("the {}{name} has no form in JSON", kind.as_str())));
            }
        })
    }

    fn head(&mut self, def: &wit_parser::TypeDef) -> Result<(Option<String>, String), ShapeError> {
        let name = def.name.clone().map(|name| self.text(name)).transpose()?;
        Ok((name, self.text(plain(&def.docs))?))
    }

    fn label(&mut self, name: &str, docs: &wit_parser::Docs) -> Result<Label, ShapeError> {
        self.node()?;
        let docs = self.text(plain(docs))?;
        Ok(Label { name: self.text(json_name(name))?, docs })
    }

    fn node(&mut self) -> Result<(), ShapeError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(ShapeError::TooLarge { what: "types, written out", limit: MAX_NODES });
        }
        Ok(())
    }
}

/// What a name stands for in the end.
fn through_aliases(resolve: &Resolve, mut id: TypeId) -> Result<TypeId, String> {
    // An alias always refers to an earlier type, so this ends; the bound makes it not matter.
    for _ in 0..=resolve.types.len() {
        match resolve.types.get(id).map(|def| &def.kind) {
            Some(TypeDefKind::Type(Type::Id(next))) => id = *next,
            Some(_) => return Ok(id),
            None => break,
        }
    }
    Err("a type that refers to nothing".into())
}

/// Whether a function's result is `result<windlass:plan/types.plan, _>`: a planned operation.
pub(crate) fn is_planned(resolve: &Resolve, result: Option<&Type>) -> bool {
    let Some(Type::Id(id)) = result else { return false };
    let Ok(id) = through_aliases(resolve, *id) else { return false };
    let TypeDefKind::Result(result) = &resolve.types[id].kind else { return false };
    result.ok.is_some_and(|ok| is_of_plans(resolve, &ok, "plan"))
}

/// Whether a type is the one of this name in `windlass:plan/types`.
pub(crate) fn is_of_plans(resolve: &Resolve, ty: &Type, name: &str) -> bool {
    let Type::Id(id) = ty else { return false };
    let Ok(id) = through_aliases(resolve, *id) else { return false };
    let def = &resolve.types[id];
    let TypeOwner::Interface(owner) = def.owner else { return false };
    let interface = &resolve.interfaces[owner];
    let package = interface.package.map(|id| &resolve.packages[id].name);
    def.name.as_deref() == Some(name)
        && interface.name.as_deref() == Some("types")
        && package.is_some_and(|package| package.namespace == "windlass" && package.name == "plan")
}

/// The only field of `windlass:host/secrets.secret`; `crates/runtime/src/convert/shape.rs` knows it too.
const SECRET_FIELD: &str = "secret-handle";

fn has_form_of_secret(record: &wit_parser::Record) -> bool {
    matches!(&record.fields[..], [field] if field.name == SECRET_FIELD && field.ty == Type::String)
}

/// Whether a type is of this interface of `windlass:host`.
fn is_of_host(resolve: &Resolve, def: &wit_parser::TypeDef, interface: &str, name: &str) -> bool {
    let TypeOwner::Interface(owner) = def.owner else { return false };
    let owner = &resolve.interfaces[owner];
    let package = owner.package.map(|id| &resolve.packages[id].name);
    def.name.as_deref() == Some(name)
        && owner.name.as_deref() == Some(interface)
        && package.is_some_and(|package| package.namespace == "windlass" && package.name == "host")
}

fn unsupported(why: String) -> ShapeError {
    ShapeError::Unsupported(why)
}
