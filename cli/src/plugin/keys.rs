//! Keys, and signatures made with them.

use super::file;
use crate::{
    cli::plugin::signing::{Keygen, Sign},
    commands::Context,
    config,
    exit::{Exit, Problem},
    output::can_ask,
    render::{text::clean, time},
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::{
    fs::OpenOptions,
    io::{Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use windlass_bundle::{
    PublicKey, Statement,
    signature::{KeyError, SecretKey},
};
use windlass_describe::pack;
use windlass_types::{Digest, PluginName};

const PASSPHRASE: &str = "WINDLASS_KEY_PASSPHRASE";
/// Largest secret key file that is read.
const MAX_KEY_BYTES: u64 = 64 << 10;

#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    key: Digest,
    public_key: String,
    file: &'a Path,
    encrypted: bool,
}

pub fn keygen(context: &Context, command: &Keygen) -> Result<Exit> {
    let name = key_name(command)?;
    if command.file.exists() {
        return Err(there(&command.file).into());
    }
    let passphrase = if command.no_passphrase { None } else { Some(new_passphrase(command)?) };
    let key = SecretKey::generate();
    let pem = key.to_pem(passphrase.as_deref())?;
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&command.file)?;
        file.write_all(pem.as_ref().as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => there(&command.file),
        _ => Problem::failed(format!("cannot write `{}`", command.file.display())).because(error),
    })?;
    let public = key.public();
    let made = Made {
        name: &name,
        key: public.id(),
        public_key: public.to_string(),
        file: &command.file,
        encrypted: passphrase.is_some(),
    };
    context.out.data(&made, |_| snippet(&name, &public))?;
    let file = command.file.display();
    if !made.encrypted {
        context
            .out
            .note(&format!("the secret key is not encrypted: whoever reads `{file}` can sign in your name"));
    }
    if context.out.is_table() {
        context.out.note(&format!(
            "wrote the secret key to `{file}`; the text above is for the trust file of each node"
        ));
    }
    Ok(Exit::Success)
}

fn there(path: &Path) -> Problem {
    Problem::failed(format!("`{}` is there already", path.display()))
        .hint("a key that is overwritten is lost: choose another file")
}

fn key_name(command: &Keygen) -> Result<String> {
    let name = match &command.name {
        Some(name) => name.clone(),
        None => command.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned(),
    };
    // What TOML takes as a key without quotes.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(fits) {
        return Ok(name);
    }
    Err(Problem::usage(format!("`{}` is no name for a key", clean(&name)))
        .hint("give `--name` with letters, digits, `_` and `-`")
        .into())
}

fn snippet(name: &str, public: &PublicKey) -> String {
    format!(
        "# key id {}\n[keys.{name}]\npublic = \"{public}\"\n\n[[rules]]\nplugins = \"*\"\nkeys = [\"{name}\"]\n",
        public.id()
    )
}

/// The passphrase from a file or the environment.
fn given_passphrase(file: Option<&Path>) -> Result<Option<String>> {
    let Some(path) = file else { return Ok(config::environment(PASSPHRASE)) };
    let text = read_secret(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Problem::usage(format!("there is no passphrase in `{}`", path.display())).into());
    }
    Ok(Some(line.to_owned()))
}

/// The text of a small file, `-` for stdin.
pub fn read_secret(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_KEY_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text)
}

fn new_passphrase(command: &Keygen) -> Result<String> {
    if let Some(given) = given_passphrase(command.passphrase_file.as_deref())? {
        return Ok(given);
    }
    if !can_ask() {
        return Err(Problem::usage("a passphrase is needed to encrypt the secret key")
            .hint(format!(
                "there is no terminal to ask on; give `--passphrase-file`, set `{PASSPHRASE}`, or say `--no-passphrase`"
            ))
            .into());
    }
    let passphrase = ask("passphrase: ")?;
    if passphrase.is_empty() {
        return Err(Problem::usage("the passphrase is empty")
            .hint("`--no-passphrase` writes a secret key that is not encrypted")
            .into());
    }
    if ask("again: ")? != passphrase {
        return Err(Problem::failed("the two are not the same: nothing was done").into());
    }
    Ok(passphrase)
}

fn ask(question: &str) -> Result<String> {
    let term = console::Term::stderr();
    term.write_str(question).context("cannot ask")?;
    term.read_secure_line().context("cannot read the passphrase")
}

/// Read a secret key; its passphrase is asked for where it is needed and not given.
fn load(context: &Context, path: &Path, passphrase_file: Option<&Path>) -> Result<SecretKey> {
    let text = read_secret(path)?;
    let file = path.display();
    let bad = |error: KeyError| Problem::failed(format!("cannot use the key in `{file}`")).because(error);
    let key = match SecretKey::from_pem(&text, None) {
        Err(KeyError::Encrypted) => {
            let passphrase = match given_passphrase(passphrase_file)? {
                Some(given) => given,
                None if can_ask() => ask(&format!("passphrase of `{file}`: "))?,
                None => {
                    return Err(bad(KeyError::Encrypted)
                        .hint(format!(
                            "there is no terminal to ask on; give `--passphrase-file`, or set `{PASSPHRASE}`"
                        ))
                        .into());
                }
            };
            SecretKey::from_pem(&text, Some(&passphrase)).map_err(bad)?
        }
        other => {
            let key = other.map_err(bad)?;
            if let Ok(meta) = path.metadata()
                && meta.is_file()
                && meta.permissions().mode() & 0o077 != 0
            {
                context.out.note(&format!(
                    "the secret key in `{file}` is not encrypted, and others than you may read it"
                ));
            }
            key
        }
    };
    Ok(key)
}

#[derive(Serialize)]
struct Signed {
    plugin: PluginName,
    version: String,
    digest: Digest,
    key: Digest,
    public_key: String,
    signed_ms: i64,
    expires_ms: Option<i64>,
    package: PathBuf,
}

pub fn sign(context: &Context, command: &Sign) -> Result<Exit> {
    let path = &command.package.package;
    let mut package = file::open(path)?;
    let (_, unlisted) = pack::check(&package.bundle).map_err(|error| {
        Problem::failed(format!("`{}` is not signed: no host would take it", path.display())).because(error)
    })?;
    for operation in unlisted {
        context.out.note(&format!("`{operation}` is not in the manifest, so it counts as `destroy`"));
    }
    let key = load(context, &command.key, command.passphrase_file.as_deref())?;
    let manifest = package.bundle.manifest.clone();
    let statement = Statement {
        plugin: manifest.name.clone(),
        version: manifest.version,
        digest: package.bundle.digest,
        signed_ms: context.out.look.now_ms,
        expires_ms: command.expires.map(|at| at.as_millisecond()),
    };
    let signed = Signed {
        plugin: manifest.name.clone(),
        version: manifest.version.to_string(),
        digest: statement.digest,
        key: key.public().id(),
        public_key: key.public().to_string(),
        signed_ms: statement.signed_ms,
        expires_ms: statement.expires_ms,
        package: path.clone(),
    };
    if !package.add(key.sign(statement))? {
        return Err(Problem::failed("it has a newer signature by this key")
            .hint("compare the clocks of this machine and of the one that signed before")
            .into());
    }
    file::save(&package, path)?;
    if !context.out.is_table() {
        context.out.data(&signed, |_| String::new())?;
        return Ok(Exit::Success);
    }
    let look = context.stderr_look();
    let ends = signed.expires_ms.map(|at| format!(", good until {}", time::clock(at, &look)));
    context.out.note(&format!(
        "signed {} {}{}\n  digest {}\n  key id {}",
        signed.plugin,
        signed.version,
        ends.unwrap_or_default(),
        signed.digest,
        signed.key
    ));
    Ok(Exit::Success)
}
