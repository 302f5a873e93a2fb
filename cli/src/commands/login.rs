//! `login`, `logout`, `whoami`.

use super::Context;
use crate::{
    cli::Login,
    client::{Client, tls},
    config::{self, Connection, DEFAULT_PROFILE, File, Profile},
    exit::{Exit, Problem},
    output::{can_ask, confirm},
    render::{table::Tone, text::clean, value},
};
use anyhow::{Context as _, Result};
use std::{io::Read as _, path::Path};

/// Try address, trust and token, then store them.
pub async fn login(context: &Context, login: Login) -> Result<Exit> {
    let url = config::url(&login.url)?;
    let (ca_fingerprint, ca) = match (login.ca_fingerprint, &login.ca_file) {
        (Some(pin), _) => (Some(pin), None),
        (None, Some(path)) => {
            let pem =
                std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            (None, Some(pem))
        }
        (None, None) => (Some(ask_trust(context, &url).await?), None),
    };
    let token = match (login.token, &login.token_file) {
        (Some(token), _) => token,
        (None, Some(path)) => read_token(path)?,
        (None, None) => match config::environment("WINDLASS_TOKEN") {
            Some(token) => token,
            None => ask_token()?,
        },
    };
    let token = token.trim().to_owned();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            Problem::usage("this is no token: it is empty, or has spaces or odd characters in it").into()
        );
    }
    let profile = Profile {
        url: url.as_str().trim_end_matches('/').to_owned(),
        token: token.clone(),
        ca_fingerprint,
        ca,
    };
    let connection = Connection { url, token, trust: profile.trust()? };
    let me = Client::new(&connection, context.global.verbose)?.whoami().await?;

    let path = config::path(&config::environment)?;
    let mut file = File::load(&path)?;
    let name = context.global.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
    file.profiles.insert(name.to_owned(), profile);
    file.save(&path)?;
    context.out.note(&format!(
        "logged in as `{}` ({}), stored as profile `{name}` in `{}`",
        clean(&me.name),
        me.role.as_str(),
        path.display()
    ));
    Ok(Exit::Success)
}

async fn ask_trust(context: &Context, url: &reqwest::Url) -> Result<windlass_types::Fingerprint> {
    if !can_ask() {
        return Err(Problem::usage("nothing says which authority to trust")
            .hint("give `--ca-fingerprint sha256:…`: the master prints it when it is set up")
            .into());
    }
    let shown = tls::shown_authority(url).await?;
    context.out.note(&format!(
        "the master at `{}` shows an authority with the fingerprint\n  {shown}",
        url.as_str().trim_end_matches('/')
    ));
    if confirm("is it the one that the master printed when it was set up?")? {
        Ok(shown)
    } else {
        Err(Problem::failed("not trusted: nothing was stored").into())
    }
}

fn read_token(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the token from stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

fn ask_token() -> Result<String> {
    if !can_ask() {
        return Err(Problem::usage("no token").hint("give `--token-file FILE`, or `-` for stdin").into());
    }
    let term = console::Term::stderr();
    term.write_str("token: ").context("cannot ask")?;
    term.read_secure_line().context("cannot read the token")
}

/// Forget a profile.
pub fn logout(context: &Context) -> Result<Exit> {
    let path = config::path(&config::environment)?;
    let mut file = File::load(&path)?;
    let name = context.global.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
    if file.profiles.remove(name).is_none() {
        return Err(Problem::failed(format!("there is no profile `{name}`")).into());
    }
    file.save(&path)?;
    context.out.note(&format!("forgot profile `{name}`"));
    Ok(Exit::Success)
}

/// Show who the token stands for.
pub async fn whoami(context: &Context) -> Result<Exit> {
    let client = context.client()?;
    let me = client.whoami().await?;
    context.out.data(&me, |look| {
        value::facts(
            [
                ("name", Some(Tone::Strong.text(clean(&me.name)))),
                ("role", Some(me.role.as_str().into())),
                ("master", Some(client.address().into())),
                ("version", Some(clean(&me.master_version).into())),
            ],
            look,
        )
    })?;
    Ok(Exit::Success)
}
