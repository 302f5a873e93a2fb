//! `roles …`

use super::Context;
use crate::{
    cli::{Roles, access::Check},
    client::Client,
    exit::{Exit, Problem},
    render::access,
};
use anyhow::{Context as _, Result};
use std::{io::Read as _, path::Path};
use windlass_types::api::access::{CheckRole, RoleRules};

pub async fn run(context: &Context, command: Roles) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Roles::List => {
            let roles = client.roles().await?;
            context.out.data(&roles, |look| access::roles(&roles, look))?;
        }
        Roles::Show { role } => {
            let role = client.role(&role.name).await?;
            let rules = RoleRules { rules: role.rules.clone() };
            let text = toml::to_string(&rules).context("cannot write the rules")?;
            context.out.data(&role, |_| text)?;
        }
        Roles::Set { role, file } => {
            let set = client.set_role(&role.name, &read(&file)?).await?;
            context.out.note(&format!("role `{}` has {} rules", set.name, set.rules.len()));
        }
        Roles::Remove { role } => {
            client.delete_role(&role.name).await?;
            context.out.note(&format!("removed role `{}`", role.name));
        }
        Roles::Check(check) => return self::check(context, &client, *check).await,
    }
    Ok(Exit::Success)
}

fn read(file: &Path) -> Result<RoleRules> {
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        text
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?
    };
    toml::from_str(&text).map_err(|error| {
        Problem::usage(format!("`{}` is not understood", file.display()))
            .hint("`windlass roles show operator` prints rules in the form that is expected")
            .because(error)
            .into()
    })
}

async fn check(context: &Context, client: &Client, check: Check) -> Result<Exit> {
    let asked = CheckRole {
        operation: check.operation,
        effect: check.effect.map(Into::into),
        target: check.target.required()?,
    };
    let verdict = client.check_role(&check.role.name, &asked).await?;
    context.out.data(&verdict, |look| access::verdict(&verdict, look))?;
    Ok(if verdict.allowed { Exit::Success } else { Exit::Denied })
}
