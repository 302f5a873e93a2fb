//! Which stored secrets arguments name.
//!
//! Arguments never hold the value of a secret, only `{"secret": "NAME"}` where the type of the operation
//! has one. Jobs, their records and the audit log therefore hold names and nothing else.

use crate::{
    ids::SecretName,
    json::{self, Build, JsonError},
    shape::{Case, Field, Shape},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Secrets of fewer bytes are refused where they are set: their value would be found, and replaced, in
/// much that has nothing to do with it.
pub const MIN_BYTES: usize = 6;
/// Longest value, in bytes: a key file fits, a disk image does not.
pub const MAX_BYTES: usize = 64 << 10;
/// Different secrets in the arguments of one operation at most.
pub const MAX_IN_CALL: usize = 16;

/// The names of the secrets in some arguments.
///
/// # Errors
/// If the arguments are not of this type.
pub fn names(params: &Shape, args: &Value) -> Result<BTreeSet<SecretName>, JsonError> {
    let mut names = Names::default();
    if params.holds_secret() {
        json::read(params, args, &mut names)?;
    }
    Ok(names.0)
}

#[derive(Default)]
struct Names(BTreeSet<SecretName>);

impl Build for Names {
    type Out = ();
    fn secret(&mut self, name: &SecretName) {
        self.0.insert(name.clone());
    }
    fn bool(&mut self, _: bool) {}
    fn integer(&mut self, _: &Shape, _: i128) {}
    fn f32(&mut self, _: f32) {}
    fn f64(&mut self, _: f64) {}
    fn char(&mut self, _: char) {}
    fn string(&mut self, _: &str) {}
    fn bytes(&mut self, _: Vec<u8>) {}
    fn list(&mut self, _: Vec<()>) {}
    fn tuple(&mut self, _: Vec<()>) {}
    fn record(&mut self, _: &[Field], _: Vec<()>) {}
    fn variant(&mut self, _: &Case, _: Option<()>) {}
    fn enumeration(&mut self, _: &str) {}
    fn flags(&mut self, _: Vec<&str>) {}
    fn option(&mut self, _: Option<()>) {}
    fn result(&mut self, _: Result<Option<()>, Option<()>>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params() -> Shape {
        let field = |name: &str, shape| Field { name: name.into(), shape, docs: String::new() };
        let optional = Shape::Option { item: Box::new(Shape::Secret) };
        Shape::Record {
            name: None,
            docs: String::new(),
            fields: vec![
                field("user", Shape::String),
                field("password", Shape::Secret),
                field("more", Shape::List { item: Box::new(Shape::Secret) }),
                field("old", optional),
            ],
        }
    }

    #[test]
    fn names_are_found_wherever_the_type_has_secrets() {
        let args = json!({
            // Of a string's value nothing is taken for a secret.
            "user": "{\"secret\": \"no\"}",
            "password": { "secret": "nas" },
            "more": [{ "secret": "b" }, { "secret": "nas" }],
        });
        let found: Vec<String> = names(&params(), &args).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["b", "nas"]);
    }

    #[test]
    fn a_value_in_the_place_of_a_name_is_refused_and_not_repeated() {
        let canary = "Tr0ub4dor&3";
        for password in [
            json!(canary),
            json!({ "secret": canary }),
            json!({ "value": canary }),
            json!({ "secret": "nas", "value": canary }),
            json!([canary]),
            json!(null),
        ] {
            let args = json!({ "user": "u", "password": password, "more": [] });
            let error = names(&params(), &args).unwrap_err();
            assert_eq!(error.pointer, "/password");
            assert!(!error.to_string().contains(canary), "{error}");
        }
    }
}
