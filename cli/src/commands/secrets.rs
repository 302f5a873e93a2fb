//! `secrets …`

use super::Context;
use crate::{
    cli::Secrets,
    exit::{Exit, Problem},
    output::can_ask,
    render::secrets as render,
};
use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use std::{io::Read as _, path::Path};
use windlass_types::{SecretName, api::secrets::SetSecret, secret::MAX_BYTES};

pub async fn run(context: &Context, command: Secrets) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Secrets::Set { secret, file } => {
            let value = value(&secret.name, file.as_deref())?;
            let set = client.set_secret(&secret.name, &SetSecret { value: BASE64.encode(value) }).await?;
            context.out.data(&set, |look| render::secret(&set, look))?;
            if context.out.is_table() && set.version > 1 {
                context.out.note(
                    "jobs that were made with the value before are refused where they have yet to begin",
                );
            }
        }
        Secrets::List => {
            let secrets = client.secrets().await?;
            context.out.data(&secrets, |look| {
                if secrets.is_empty() { String::new() } else { render::secrets(&secrets, look) }
            })?;
            if secrets.is_empty() && context.out.is_table() {
                context.out.note("there are no secrets: see `windlass secrets set --help`");
            }
        }
        Secrets::Show { secret } => {
            let secret = client.secret(&secret.name).await?;
            context.out.data(&secret, |look| render::secret(&secret, look))?;
        }
        Secrets::Remove { secret } => {
            client.delete_secret(&secret.name).await?;
            context.out.note(&format!("removed secret `{}`", secret.name));
        }
    }
    Ok(Exit::Success)
}

/// The value; never from the command line, which others can read.
fn value(name: &SecretName, file: Option<&Path>) -> Result<Vec<u8>> {
    if let Some(path) = file {
        let mut value = Vec::new();
        // One more than may be, so that what is larger is seen and not read to its end.
        let most = MAX_BYTES as u64 + 1;
        std::fs::File::open(path)
            .and_then(|file| file.take(most).read_to_end(&mut value))
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        return Ok(value);
    }
    if can_ask() {
        let value = ask(&format!("value of `{name}`: "))?;
        if ask("again: ")? != value {
            return Err(Problem::failed("the two are not the same: nothing was stored").into());
        }
        return Ok(value.into_bytes());
    }
    let mut value = Vec::new();
    let stdin = std::io::stdin().lock();
    stdin.take(MAX_BYTES as u64 + 3).read_to_end(&mut value).context("cannot read stdin")?;
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    Ok(value)
}

fn ask(question: &str) -> Result<String> {
    let term = console::Term::stderr();
    term.write_str(question).context("cannot ask")?;
    term.read_secure_line().context("cannot read the value")
}
