//! `tokens …`

use super::Context;
use crate::{cli::Tokens, duration::millis, exit::Exit, render::fleet};
use anyhow::Result;
use windlass_types::api::NewToken;

pub async fn run(context: &Context, command: Tokens) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Tokens::List => {
            let tokens = client.tokens().await?;
            context.out.data(&tokens, |look| fleet::tokens(&tokens, look))?;
        }
        Tokens::Create { name, role, user, ttl } => {
            let new = NewToken { name, role, user, ttl_ms: ttl.map(millis) };
            let token = client.new_token(&new).await?;
            let secret = token.token.clone().unwrap_or_default();
            context.out.data(&token, |_| format!("{secret}\n"))?;
            if context.out.is_table() {
                context.out.note("keep it: it is not shown again");
            }
        }
        Tokens::Delete { id } => {
            client.delete_token(&id).await?;
            context.out.note(&format!("deleted token `{id}`"));
        }
    }
    Ok(Exit::Success)
}
