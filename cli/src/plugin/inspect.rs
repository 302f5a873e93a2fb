//! What a package holds.

use super::file;
use crate::{
    commands::Context,
    exit::Exit,
    output::Look,
    render::{
        capabilities,
        operation::effect_tone,
        plugins, scalar,
        table::{Text, Tone, indent},
        text::{clean, clean_lines},
        time, value,
    },
};
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::Path;
use windlass_bundle::{Package, capabilities as asks};
use windlass_describe::{operations, pack};
use windlass_types::{
    Digest, Effect, PluginName,
    api::bundles::{BundleSignature, CapabilityInfo},
    shape::Operation,
};

#[derive(Serialize)]
struct Contents {
    plugin: PluginName,
    version: String,
    digest: Digest,
    description: String,
    size_bytes: u64,
    operations: Vec<Described>,
    capabilities: Vec<CapabilityInfo>,
    signatures: Vec<BundleSignature>,
    /// Why no host would take it.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Described {
    effect: Effect,
    timeout_ms: u64,
    idempotent: bool,
    locks: Vec<String>,
    #[serde(flatten)]
    operation: Operation,
}

pub fn inspect(context: &Context, path: &Path) -> Result<Exit> {
    let contents = contents(&file::open(path)?)?;
    context.out.data(&contents, |look| page(&contents, look))?;
    if context.out.is_table()
        && let Some(problem) = &contents.problem
    {
        let word = Tone::Bad.paint("no host would take it", &context.stderr_look());
        context.out.note(&format!("{word}: {}", clean(problem)));
    }
    Ok(Exit::Success)
}

fn contents(package: &Package) -> Result<Contents> {
    let bundle = &package.bundle;
    let manifest = &bundle.manifest;
    let all = operations(&manifest.name, &bundle.wit).context("cannot read the operations of the plugin")?;
    let capabilities = asks(manifest, all.iter().map(|operation| operation.name.local()));
    let operations = all.into_iter().map(|operation| {
        let policy = manifest.operation(operation.name.local());
        Described {
            effect: policy.effect,
            timeout_ms: u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX),
            idempotent: policy.idempotent,
            locks: policy.locks.clone(),
            operation,
        }
    });
    Ok(Contents {
        plugin: manifest.name.clone(),
        version: manifest.version.to_string(),
        digest: bundle.digest,
        description: manifest.description.clone(),
        size_bytes: bundle.image().size_bytes(),
        operations: operations.collect(),
        capabilities: capabilities.iter().map(windlass_bundle::Capability::info).collect(),
        signatures: package
            .signatures()
            .iter()
            .map(|signature| BundleSignature {
                key: signature.key(),
                public_key: signature.public_key.to_string(),
                signed_ms: signature.statement.signed_ms,
                expires_ms: signature.statement.expires_ms,
            })
            .collect(),
        problem: pack::check(bundle).err().map(|error| format!("{:#}", anyhow::Error::from(error))),
    })
}

fn page(contents: &Contents, look: &Look) -> String {
    let description = Some(clean(&contents.description)).filter(|text| !text.is_empty());
    let mut out = value::facts(
        [
            ("bundle", Some(Tone::Strong.text(format!("{} {}", contents.plugin, contents.version)))),
            ("digest", Some(contents.digest.to_string().into())),
            ("what it is", description.map(Text::from)),
            ("size", Some(scalar::size(contents.size_bytes).into())),
        ],
        look,
    );
    let heading =
        |out: &mut String, name: &str| out.push_str(&format!("\n{}\n", Tone::Strong.paint(name, look)));
    heading(&mut out, "signatures");
    out.push_str(&indent(&plugins::signatures(&contents.signatures, look), 2));
    heading(&mut out, "operations");
    for described in &contents.operations {
        let operation = &described.operation;
        let effect = effect_tone(described.effect).paint(described.effect.as_str(), look);
        let time = time::duration_ms(described.timeout_ms);
        out.push_str(&format!("  {} ({effect}, up to {time})\n", clean(operation.name.local())));
        out.push_str(&format!("    {}\n", Tone::Faint.paint(&clean(&operation.signature.brief()), look)));
        out.push_str(&indent(&clean_lines(&operation.docs), 4));
    }
    let rest: Vec<CapabilityInfo> =
        contents.capabilities.iter().filter(|capability| capability.kind != "operation").cloned().collect();
    heading(&mut out, "asks for");
    out.push_str(&indent(&capabilities::grouped(&rest, look), 2));
    out
}
