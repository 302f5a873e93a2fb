//! `audit …`

use super::Context;
use crate::{cli::Audit, exit::Exit, render::fleet};
use anyhow::Result;

pub async fn run(context: &Context, command: Audit) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Audit::List { limit, after } => {
            let entries = client.audit(after.as_deref(), limit as usize).await?;
            context.out.data(&entries, |look| fleet::audit(&entries, look))?;
        }
        Audit::Verify => {
            let head = client.verify_audit().await?;
            context.out.data(&head, |_| {
                format!("{} entries, none changed or missing\nnewest  {}\n", head.seq, head.hash)
            })?;
        }
    }
    Ok(Exit::Success)
}
