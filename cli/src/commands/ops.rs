//! `ops …`

use super::Context;
use crate::{cli::Ops, exit::Exit, output::Format, render::operation};
use anyhow::Result;

pub async fn run(context: &Context, command: Ops) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Ops::List { plugin } => {
            let mut operations = client.operations().await?;
            operations.retain(|info| plugin.as_ref().is_none_or(|plugin| info.name.plugin() == *plugin));
            operations.sort_by(|a, b| a.name.cmp(&b.name));
            let empty = operations.is_empty();
            context.out.data(&operations, |look| {
                if empty { String::new() } else { operation::list(&operations, look) }
            })?;
            if empty && context.out.is_table() {
                context.out.note(&match plugin {
                    Some(plugin) => format!("no node offers operations of a plugin `{plugin}`"),
                    None => "no node offers any operation: accept nodes first (`windlass nodes list`)".into(),
                });
            }
        }
        Ops::Show { name, schema } => {
            let info = client.operation(name.as_str()).await?;
            match (schema, context.out.format) {
                // A schema is JSON to begin with: the table form of it is JSON, too.
                (true, Format::Table) => {
                    let text = serde_json::to_string_pretty(&info.args_schema)?;
                    context.out.raw(format!("{text}\n").as_bytes())?;
                }
                (true, _) => context.out.data(&info.args_schema, |_| String::new())?,
                (false, _) => context.out.data(&info, |look| operation::page(&info, look))?,
            }
        }
    }
    Ok(Exit::Success)
}
