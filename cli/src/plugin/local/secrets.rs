//! Secrets on an author's machine: there is no master to ask for them.

use crate::exit::Problem;
use anyhow::Result;
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};
use windlass_runtime::Secrets;
use windlass_types::{
    SecretName,
    secret::{self, MIN_BYTES},
    shape::Operation,
};
use zeroize::Zeroizing;

/// The secrets that the arguments name, from a file.
///
/// # Errors
/// If the file can't be read, or has not all of them.
pub fn of_file(operation: &Operation, args: &Value, file: Option<&Path>) -> Result<Secrets> {
    let names = secret::names(&operation.signature.params_shape(), args)?;
    let mut values: BTreeMap<SecretName, String> = BTreeMap::new();
    if let Some(path) = file {
        let bad = |error: anyhow::Error| {
            Problem::usage(format!("cannot read the secrets in `{}`", path.display()))
                .hint("it is TOML with a line `name = \"value\"` for each secret")
                .because(error)
        };
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.into()))?;
        // Errors of TOML show the line they are about.
        values = toml::from_str(&text)
            .map_err(|_| bad(anyhow::anyhow!("it is no TOML, or holds more than names and texts")))?;
    }
    names
        .into_iter()
        .map(|name| match values.remove(&name) {
            Some(value) if value.trim().len() < MIN_BYTES => {
                Err(Problem::usage(format!("secret `{name}` has fewer than {MIN_BYTES} bytes")).into())
            }
            Some(value) => Ok((name, Zeroizing::new(value.into_bytes()))),
            None => Err(Problem::usage(format!("there is no value for secret `{name}`"))
                .hint("give a file with `--secrets`: TOML with a line `name = \"value\"` for each secret")
                .into()),
        })
        .collect()
}

/// For a call whose host calls are answered from a cassette: nothing gets the values.
pub fn made_up(operation: &Operation, args: &Value) -> Secrets {
    let names = secret::names(&operation.signature.params_shape(), args).unwrap_or_default();
    names
        .into_iter()
        .map(|name| {
            let value = format!("value of {name}");
            (name, Zeroizing::new(value.into_bytes()))
        })
        .collect()
}
