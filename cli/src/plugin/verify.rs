//! Whether a host with some trust file would take a package.

use super::file;
use crate::{
    cli::plugin::signing::Verify,
    commands::Context,
    exit::{Exit, Problem},
    output::Look,
    render::{
        table::{Grid, Text, Tone},
        time, value,
    },
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use windlass_bundle::{Trust, trust};
use windlass_describe::pack;
use windlass_types::{Digest, PluginName};

#[derive(Serialize)]
struct Verdict {
    plugin: PluginName,
    version: String,
    digest: Digest,
    trusted: bool,
    /// Why it is not.
    problem: Option<String>,
    signatures: Vec<Judged>,
}

/// A signature, and what holds of it.
#[derive(Serialize)]
struct Judged {
    key: Digest,
    signed_ms: i64,
    expires_ms: Option<i64>,
    /// Name of the key in the trust file, if the signature counts.
    counts_as: Option<String>,
    /// Why it does not count.
    problem: Option<String>,
}

pub fn verify(context: &Context, command: &Verify) -> Result<Exit> {
    let path = &command.package.package;
    let package = file::open(path)?;
    let name = command.trust.display();
    let text = std::fs::metadata(&command.trust)
        .and_then(|meta| match usize::try_from(meta.len()) {
            Ok(size) if size <= trust::MAX_BYTES => std::fs::read_to_string(&command.trust),
            _ => Err(std::io::Error::other("it is larger than 1 MiB")),
        })
        .with_context(|| format!("cannot read `{name}`"))?;
    let trust = Trust::parse(&text).with_context(|| format!("`{name}` is no good trust file"))?;
    let now_ms = context.out.look.now_ms;
    for warning in trust.warnings(now_ms) {
        context.out.note(&format!("`{name}`: {warning}"));
    }

    let manifest = &package.bundle.manifest;
    let verdict =
        trust.verify(&manifest.name, manifest.version, package.bundle.digest, package.signatures(), now_ms);
    let judged = trust.judge_each(&manifest.name, package.signatures(), now_ms);
    let signatures = package.signatures().iter().zip(judged).map(|(signature, judged)| Judged {
        key: signature.key(),
        signed_ms: signature.statement.signed_ms,
        expires_ms: signature.statement.expires_ms,
        counts_as: judged.as_ref().ok().map(|name| (*name).to_owned()),
        problem: judged.err(),
    });
    let shown = Verdict {
        plugin: manifest.name.clone(),
        version: manifest.version.to_string(),
        digest: package.bundle.digest,
        trusted: verdict.is_ok(),
        problem: verdict.as_ref().err().map(ToString::to_string),
        signatures: signatures.collect(),
    };
    context.out.data(&shown, |look| table(&shown, look))?;
    pack::check(&package.bundle).map_err(|error| Problem::failed("no host would take it").because(error))?;
    let keys = verdict.map_err(|error| Problem::failed(format!("not trusted by `{name}`")).because(error))?;
    if context.out.is_table() {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        context.out.note(&format!("trusted by `{name}`: signed by {}", keys.join(", ")));
    }
    Ok(Exit::Success)
}

fn table(verdict: &Verdict, look: &Look) -> String {
    let mut out = value::facts(
        [
            ("bundle", Some(Tone::Strong.text(format!("{} {}", verdict.plugin, verdict.version)))),
            ("digest", Some(verdict.digest.to_string().into())),
        ],
        look,
    );
    if verdict.signatures.is_empty() {
        return out;
    }
    let mut grid = Grid::new(["key", "signed", "ends", "counts"]);
    for signature in &verdict.signatures {
        grid.row([
            Text::from(signature.key.to_string()),
            time::clock(signature.signed_ms, look).into(),
            signature.expires_ms.map_or_else(|| "never".into(), |at| time::ago(at, look)).into(),
            match (&signature.counts_as, &signature.problem) {
                (Some(name), _) => Tone::Good.text(format!("yes, as `{name}`")),
                (None, problem) => Tone::Bad.text(format!("no: {}", problem.as_deref().unwrap_or_default())),
            },
        ]);
    }
    out.push('\n');
    out.push_str(&grid.render(look));
    out
}
