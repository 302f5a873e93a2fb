//! `users …`

use super::Context;
use crate::{cli::Users, exit::Exit, render::access};
use anyhow::Result;
use windlass_types::api::access::{ChangeUser, NewUser};

pub async fn run(context: &Context, command: Users) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Users::Add { name, role } => {
            let user = client.new_user(&NewUser { name, role }).await?;
            context.out.data(&user, |look| access::user(&user, look))?;
            if context.out.is_table() {
                context
                    .out
                    .note(&format!("give out a token: `windlass tokens create NAME --user {}`", user.name));
            }
        }
        Users::List => {
            let users = client.users().await?;
            context.out.data(&users, |look| {
                if users.is_empty() { String::new() } else { access::users(&users, look) }
            })?;
            if users.is_empty() && context.out.is_table() {
                context.out.note("there are no users: see `windlass users add --help`");
            }
        }
        Users::Show { user } => {
            let user = client.user(&user.name).await?;
            context.out.data(&user, |look| access::user(&user, look))?;
        }
        Users::SetRole { user, role } => {
            let change = ChangeUser { role: Some(role), ..ChangeUser::default() };
            let user = client.change_user(&user.name, &change).await?;
            context.out.data(&user, |look| access::user(&user, look))?;
        }
        Users::Disable { user } => {
            let change = ChangeUser { disabled: Some(true), ..ChangeUser::default() };
            client.change_user(&user.name, &change).await?;
            context.out.note(&format!("disabled `{}`: no token of that user counts", user.name));
        }
        Users::Enable { user } => {
            let change = ChangeUser { disabled: Some(false), ..ChangeUser::default() };
            client.change_user(&user.name, &change).await?;
            context.out.note(&format!("enabled `{}`", user.name));
        }
        Users::Remove { user } => {
            client.delete_user(&user.name).await?;
            context.out.note(&format!("removed `{}` and all tokens of that user", user.name));
        }
    }
    Ok(Exit::Success)
}
