//! An author's loop on one machine: run an operation, test it against recordings, record.
//!
//! * [`source`]: where a plugin is taken from: a project, a bundle, a package.
//! * [`session`]: a runtime in this process, with the compiler beside this program.
//! * [`case`]: cases as folders; [`verdict`]: whether one passed.

mod case;
mod record;
mod run;
mod secrets;
mod session;
mod source;
mod test;
mod verdict;

pub use record::record;
pub use run::run;
pub use test::test;
pub use verdict::{Difference, Failure, Tested, Verdict};

use crate::{args, cli::plugin::local::CallArgs, exit::Problem};
use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use source::Source;
use windlass_types::{json::nearest, shape::Operation};

/// The operation that is meant, named with or without the plugin.
fn operation<'s>(source: &'s Source, name: &str) -> Result<&'s Operation> {
    let found = source
        .operations
        .iter()
        .find(|operation| operation.name.as_str() == name || operation.name.local() == name);
    let Some(operation) = found else {
        let names = || {
            source.operations.iter().flat_map(|operation| [operation.name.local(), operation.name.as_str()])
        };
        let hint = nearest(name, names()).unwrap_or_else(|| {
            let all: Vec<&str> = source.operations.iter().map(|operation| operation.name.local()).collect();
            format!("it has {}", all.join(", "))
        });
        let plugin = &source.bundle.manifest.name;
        return Err(Problem::usage(format!("the plugin `{plugin}` has no operation `{name}`"))
            .hint(hint)
            .into());
    };
    Ok(operation)
}

/// The arguments of a call, checked against the type of the operation.
fn arguments(operation: &Operation, call: &CallArgs, words: &[String]) -> Result<Value> {
    let params: Vec<String> = operation
        .signature
        .params
        .iter()
        .map(|param| format!("`{}: {}`", param.name, param.shape.brief()))
        .collect();
    let see = match &params[..] {
        [] => "it takes no arguments".to_owned(),
        params => format!("it takes {}", params.join(", ")),
    };
    args::read(operation.name.as_str(), &operation.signature, call.args.as_deref(), words, &see)
}

/// The configuration that is given with `--configuration`.
fn configuration(text: Option<&str>) -> Result<Value> {
    let Some(text) = text else { return Ok(Value::Object(Map::new())) };
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read `{file}`"))?,
        None => text.to_owned(),
    };
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Problem::usage("the configuration is not a json object").into()),
        Err(error) => Err(Problem::usage("the configuration is not json").because(error).into()),
    }
}
