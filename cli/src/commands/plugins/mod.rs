//! `plugins …`: what an operator does with bundles.

mod deploy;
mod diff;
mod follow;
mod rollouts;

use super::Context;
use crate::{
    cli::{
        Plugins,
        plugins::{Approve, BundleRef, PluginOrBundle},
    },
    client::Client,
    exit::{Exit, Problem},
    output::consent,
    plugin::{file, registry},
    render::{
        capabilities, plugins as views,
        table::{Tone, indent},
        text::count,
    },
};
use anyhow::Result;
use std::path::{Path, PathBuf};
use windlass_bundle::{Package, oci::MAX_PACKAGE_BYTES};
use windlass_types::{
    Effect, PluginName,
    api::{
        Target,
        bundles::{ApprovePlugin, Bundle, PinPlugin, PluginDetail},
    },
};

pub async fn run(context: &Context, command: Plugins) -> Result<Exit> {
    // Files can be compared without a master.
    if let Plugins::Diff { from, to } = &command {
        return diff::diff(context, from, to).await;
    }
    let client = context.client()?;
    match command {
        Plugins::List => list(context, &client).await,
        Plugins::Show { plugin: PluginOrBundle::Plugin(name) } => show(context, &client, &name).await,
        Plugins::Show { plugin: PluginOrBundle::Bundle(bundle) } => {
            let detail = client.bundle(&bundle.to_api()).await?;
            context.out.data(&detail, |look| views::bundle(&detail, look))?;
            Ok(Exit::Success)
        }
        Plugins::Push { source, registry } => push(context, &client, &source, &registry).await,
        Plugins::Deploy(deploy) => deploy::deploy(context, &client, *deploy).await,
        Plugins::Rollouts(rollouts) => rollouts::run(context, &client, rollouts).await,
        Plugins::Rollback(rollback) => deploy::rollback(context, &client, *rollback).await,
        Plugins::Approve(approve) => self::approve(context, &client, approve).await,
        Plugins::Diff { .. } => unreachable!("done without a master"),
        Plugins::Pin { plugin, target } => pin(context, &client, plugin, target.required()?).await,
        Plugins::Unpin { plugin, target } => {
            let detail = client.unpin_plugin(&plugin.plugin, target.required()?).await?;
            changed(context, &detail, &format!("`{}` follows deployments again there", plugin.plugin))
        }
        Plugins::Remove { plugin, node, consent: given } => {
            let from = node.as_ref().map_or_else(|| "all nodes".to_owned(), |node| format!("`{node}`"));
            consent(given.yes, &format!("remove `{}` from {from}?", plugin.plugin))?;
            client.remove_plugin(&plugin.plugin, node.as_deref()).await?;
            context.out.note(&format!("removed `{}` from {from}", plugin.plugin));
            Ok(Exit::Success)
        }
        Plugins::Events { plugin, limit } => {
            let events = client.plugin_events(&plugin.plugin, limit as usize).await?;
            let empty = events.is_empty();
            context
                .out
                .data(&events, |look| if empty { String::new() } else { views::events(&events, look) })?;
            if empty && context.out.is_table() {
                context.out.note(&format!("nothing has happened to `{}` on any node yet", plugin.plugin));
            }
            Ok(Exit::Success)
        }
        Plugins::Export { bundle, file } => export(context, &client, &bundle.bundle, file).await,
        Plugins::Delete { bundle, consent: given } => {
            let name = bundle.bundle.to_api();
            consent(given.yes, &format!("delete bundle `{name}` from the store?"))?;
            client.delete_bundle(&name).await?;
            context.out.note(&format!("deleted bundle `{name}`"));
            Ok(Exit::Success)
        }
    }
}

async fn list(context: &Context, client: &Client) -> Result<Exit> {
    let plugins = client.plugins().await?;
    let empty = plugins.is_empty();
    context.out.data(&plugins, |look| if empty { String::new() } else { views::list(&plugins, look) })?;
    if empty && context.out.is_table() {
        context.out.note("there are no plugins yet: `windlass plugins push` brings one");
    }
    Ok(Exit::Success)
}

async fn show(context: &Context, client: &Client, name: &PluginName) -> Result<Exit> {
    let detail = client.plugin(name).await?;
    let newest =
        detail.bundles.iter().find(|bundle| detail.summary.versions.first() == Some(&bundle.version));
    let asks = match (&detail.approval, newest) {
        (None, Some(bundle)) if context.out.is_table() => {
            Some(client.bundle(&bundle.digest.to_string()).await?.capabilities)
        }
        _ => None,
    };
    context.out.data(&detail, |look| views::plugin(&detail, asks.as_deref(), look))?;
    Ok(Exit::Success)
}

/// Tell that a plugin was changed: in full for programs, a line for people.
fn changed(context: &Context, plugin: &PluginDetail, line: &str) -> Result<Exit> {
    if context.out.is_table() {
        context.out.note(line);
    } else {
        context.out.data(plugin, |_| String::new())?;
    }
    Ok(Exit::Success)
}

async fn push(
    context: &Context,
    client: &Client,
    source: &str,
    options: &crate::cli::plugin::registry::Registry,
) -> Result<Exit> {
    let package = if source.starts_with(registry::SCHEME) {
        let from: registry::Reference = source.parse().map_err(Problem::usage)?;
        registry::pull(context, &from, options).await?
    } else {
        file::open(Path::new(source))?
    };
    let (bundle, new) = client.upload(package.to_bytes()).await?;
    context.out.data(&bundle, |_| format!("{}\n", bundle.digest))?;
    if context.out.is_table() {
        context.out.note(&pushed(&package, &bundle, new));
    }
    Ok(Exit::Success)
}

fn pushed(package: &Package, bundle: &Bundle, new: bool) -> String {
    let had = if new { "pushed" } else { "the master has" };
    let signed = match bundle.signatures.len() {
        0 => "no signature".to_owned(),
        all => count(all, "signature"),
    };
    let name = &package.bundle.manifest.name;
    let next = format!("roll it out with `windlass plugins deploy {name}@{}`", bundle.version);
    format!("{had} {name} {}, with {signed}; {next}", bundle.version)
}

async fn approve(context: &Context, client: &Client, command: Approve) -> Result<Exit> {
    let wanted = &command.bundle.bundle;
    let detail = client.bundle(&BundleRef::Named(wanted.clone()).to_api()).await?;
    of_plugin(&detail.bundle, &wanted.plugin)?;
    let body = ApprovePlugin {
        bundle: detail.bundle.digest.to_string(),
        max_effect: command.max_effect.map(Into::into),
        deny_operations: command.deny.iter().cloned().collect(),
    };
    for operation in &body.deny_operations {
        if !detail.operations.iter().any(|known| known.name == *operation) {
            let known: Vec<&str> = detail.operations.iter().map(|known| known.name.as_str()).collect();
            return Err(Problem::usage(format!("`{wanted}` has no operation `{operation}`"))
                .hint(format!("it has {}", known.join(", ")))
                .into());
        }
    }
    if !command.consent.yes {
        let look = context.stderr_look();
        match detail.unapproved.len() {
            0 => context.out.note("it asks for nothing beyond what was approved"),
            more => context.out.note(&format!(
                "{wanted} asks for {} beyond what was approved\n{}",
                count(more, "thing"),
                indent(&capabilities::marked(&detail.unapproved, "+ ", Tone::Unsure, &look), 2).trim_end()
            )),
        }
    }
    consent(command.consent.yes, &format!("approve {wanted}{}?", narrowed(&body)))?;
    let approval = client.approve_plugin(&wanted.plugin, &body).await?;
    if !context.out.is_table() {
        context.out.data(&approval, |_| String::new())?;
        return Ok(Exit::Success);
    }
    context.out.note(&format!("approved {wanted}{}", narrowed(&body)));
    Ok(Exit::Success)
}

/// What an approval leaves out: `, up to \`read\`, without pool.destroy`.
fn narrowed(body: &ApprovePlugin) -> String {
    let mut text = match body.max_effect {
        None | Some(Effect::Destroy) => String::new(),
        Some(effect) => format!(", up to `{effect}` only"),
    };
    if !body.deny_operations.is_empty() {
        let denied: Vec<&str> = body.deny_operations.iter().map(String::as_str).collect();
        text.push_str(&format!(", without {}", denied.join(", ")));
    }
    text
}

/// A digest may be that of another plugin's bundle.
fn of_plugin(bundle: &Bundle, plugin: &PluginName) -> Result<()> {
    if bundle.plugin == *plugin {
        return Ok(());
    }
    let which = format!("{} is {} {}, not `{plugin}`", bundle.digest, bundle.plugin, bundle.version);
    Err(Problem::usage(which).into())
}

async fn pin(context: &Context, client: &Client, plugin: PluginOrBundle, target: Target) -> Result<Exit> {
    let (name, bundle) = match plugin {
        PluginOrBundle::Plugin(name) => (name, None),
        PluginOrBundle::Bundle(BundleRef::Named(named)) => (named.plugin, Some(named.bundle)),
        PluginOrBundle::Bundle(BundleRef::Digest(digest)) => {
            (client.bundle(&digest.to_string()).await?.bundle.plugin, Some(digest.to_string()))
        }
    };
    let body = PinPlugin { target, bundle };
    let detail = client.pin_plugin(&name, &body).await?;
    let at =
        body.bundle.map_or_else(|| "what is wanted there now".to_owned(), |bundle| format!("`{bundle}`"));
    changed(context, &detail, &format!("pinned `{name}` at {at}"))
}

async fn export(context: &Context, client: &Client, bundle: &BundleRef, to: Option<PathBuf>) -> Result<Exit> {
    let package = download(client, bundle).await?;
    let manifest = &package.bundle.manifest;
    if to.as_deref() == Some(Path::new("-")) {
        context.out.raw(&package.to_bytes())?;
        return Ok(Exit::Success);
    }
    let to = to.unwrap_or_else(|| file::name(&package));
    file::save(&package, &to)?;
    context.out.note(&format!("wrote {} {} to `{}`", manifest.name, manifest.version, to.display()));
    Ok(Exit::Success)
}

/// A bundle from the master's store, with its signatures, checked: it is the one that was asked for.
async fn download(client: &Client, bundle: &BundleRef) -> Result<Package> {
    let name = bundle.to_api();
    let bytes = client.download(&name, MAX_PACKAGE_BYTES).await?;
    let broken = |what: &str| Problem::failed(format!("the master sent {what} for `{name}`"));
    let package = Package::read(&bytes[..]).map_err(|error| broken("no good package").because(error))?;
    let manifest = &package.bundle.manifest;
    let fits = match name.parse() {
        Ok(digest) => package.bundle.digest == digest,
        Err(_) => format!("{}@{}", manifest.name, manifest.version) == name,
    };
    if fits { Ok(package) } else { Err(broken("another bundle").into()) }
}
