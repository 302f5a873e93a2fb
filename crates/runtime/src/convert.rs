//! Between wasmtime's types and values, and shapes and JSON.
//!
//! JSON comes in through [`windlass_types::json::read`], which knows the rules; here is only what
//! it builds: wasmtime values. JSON goes out by walking a value beside its shape, since a value
//! alone does not tell an empty `list<u8>` from an empty list.
//!
//! A name of WIT is words of letters and digits joined by `-`; JSON has `_` instead. Neither holds
//! the other's character, so names go back as they came.

mod shape;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use shape::{Shapes, Unsupported};
pub(crate) use value::{arguments, to_json};
