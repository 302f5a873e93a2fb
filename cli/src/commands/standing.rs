//! Operations that will run by themselves, by the clock or by a rule.

use crate::{args, client::Client, output::consent};
use anyhow::Result;
use serde_json::Value;
use windlass_types::{Effect, OperationName};

/// The arguments of one from the command line, checked against its type. What may lose data needs consent now:
/// later nobody is asked.
pub async fn arguments(
    client: &Client,
    operation: &OperationName,
    base: Option<&str>,
    words: &[String],
    dry_run: bool,
    agreed: bool,
) -> Result<Value> {
    let info = client.operation(operation.as_str()).await?;
    let see = format!("see `windlass ops show {}`", info.name);
    let args = args::read(info.name.as_str(), &info.operation.signature, base, words, &see)?;
    if info.effect == Effect::Destroy && !dry_run {
        let question = format!("run `{operation}`, which may lose data, again and again without asking?");
        consent(agreed, &question)?;
    }
    Ok(args)
}
