//! `audit …`

use super::Context;
use crate::{cli::Audit, exit::Exit, render::fleet};
use anyhow::Result;

pub async fn run(context: &Context, command: Audit) -> Result<Exit> {
    let client = context.client()?;
    let Audit::List { limit, after } = command;
    let entries = client.audit(after.as_deref(), limit as usize).await?;
    context.out.data(&entries, |look| fleet::audit(&entries, look))?;
    Ok(Exit::Success)
}
