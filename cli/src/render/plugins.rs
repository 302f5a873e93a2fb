//! Plugins and their bundles.

use super::{
    capabilities, deployment,
    operation::effect_tone,
    table::{Grid, Text, Tone, indent},
    text::{clean, natural, short},
    time, value,
};
use crate::output::Look;
use std::collections::BTreeMap;
use windlass_types::{
    Effect,
    api::bundles::{
        Bundle, BundleDetail, BundleSignature, CapabilityInfo, DeploymentState, InstallStage, PluginApproval,
        PluginDetail, PluginEvent, PluginEventKind, PluginNode, PluginSummary,
    },
};

/// `0.2.0 ×10, 0.1.0 ×2`; the highest first, as the API gives versions.
fn running(running: &BTreeMap<String, u32>) -> String {
    let parts: Vec<String> =
        running.iter().rev().map(|(version, nodes)| format!("{} ×{nodes}", clean(version))).collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// The deployment under way, and whether it is up to an operator.
fn under_way(plugin: &PluginSummary, look: &Look) -> Text {
    let plain = Look { color: false, ..look.clone() };
    match &plugin.deployment {
        None => "-".into(),
        Some(on) if on.state == DeploymentState::WaitingApproval => {
            Tone::Unsure.text(format!("{} waits for approval", deployment::version(on.to.as_ref())))
        }
        Some(on) => Tone::Unsure.text(format!(
            "{} {}",
            on.to.as_ref().map_or_else(|| "back".into(), |to| clean(&to.version)),
            deployment::state(on, &plain)
        )),
    }
}

/// The list of plugins.
pub fn list(plugins: &[PluginSummary], look: &Look) -> String {
    let mut grid = Grid::new(["plugin", "running", "new nodes get", "behind", "deployment"]);
    for plugin in plugins {
        grid.row([
            Text::from(plugin.name.as_str()),
            running(&plugin.running).into(),
            deployment::version(plugin.default.as_ref()).into(),
            match plugin.behind {
                0 => "-".into(),
                behind => Tone::Unsure.text(behind.to_string()),
            },
            under_way(plugin, look),
        ]);
    }
    grid.render(look)
}

/// A plugin: versions, what it may touch, who runs what. `asks` is what its newest version asks for,
/// where nothing has been approved yet.
pub fn plugin(plugin: &PluginDetail, asks: Option<&[CapabilityInfo]>, look: &Look) -> String {
    let summary = &plugin.summary;
    let behind = match summary.behind {
        0 => None,
        behind => Some(Tone::Unsure.text(format!("{behind} not where they should be"))),
    };
    let mut out = value::facts(
        [
            ("plugin", Some(Tone::Strong.text(summary.name.as_str()))),
            ("running", Some(running(&summary.running).into())),
            ("behind", behind),
            ("new nodes get", Some(deployment::version(summary.default.as_ref()).into())),
            (
                "deployment",
                summary.deployment.as_ref().map(|on| {
                    let Text { text, tone } = under_way(summary, look);
                    tone.text(format!("{text} ({})", on.id))
                }),
            ),
        ],
        look,
    );
    let heading =
        |out: &mut String, name: &str| out.push_str(&format!("\n{}\n", Tone::Strong.paint(name, look)));
    if !plugin.bundles.is_empty() {
        heading(&mut out, "versions");
        out.push_str(&indent(&bundles(&plugin.bundles, look), 2));
    }
    match (&plugin.approval, asks) {
        (Some(approval), _) => {
            heading(&mut out, "may touch");
            out.push_str(&indent(&self::approval(approval, look), 2));
        }
        (None, Some(asks)) => {
            heading(&mut out, "asks for (nothing is approved yet)");
            out.push_str(&indent(&capabilities::grouped(asks, look), 2));
        }
        (None, None) => {}
    }
    if !plugin.nodes.is_empty() {
        heading(&mut out, "nodes");
        out.push_str(&indent(&nodes(&plugin.nodes, look), 2));
    }
    out
}

/// Bundles in the store.
pub fn bundles(bundles: &[Bundle], look: &Look) -> String {
    let mut grid = Grid::new(["version", "digest", "signed by", "pushed", "by"]);
    for bundle in bundles {
        let keys: Vec<String> = bundle.signatures.iter().map(|signature| key(signature, look)).collect();
        grid.row([
            Text::from(clean(&bundle.version)),
            short(&bundle.digest.to_string(), 20).into(),
            if keys.is_empty() { Tone::Unsure.text("nobody") } else { keys.join(", ").into() },
            time::ago(bundle.created_ms, look).into(),
            clean(&bundle.created_by).into(),
        ]);
    }
    grid.render(look)
}

fn key(signature: &BundleSignature, look: &Look) -> String {
    let ended = signature.expires_ms.is_some_and(|at| at <= look.now_ms);
    let mark = if ended { " (expired)" } else { "" };
    format!("{}{mark}", short(&signature.key.to_string(), 20))
}

/// What an operator let a plugin do.
pub fn approval(approval: &PluginApproval, look: &Look) -> String {
    let denied: Vec<String> = approval.deny_operations.iter().map(|name| clean(name)).collect();
    let limit = match approval.max_effect {
        Effect::Destroy => None,
        effect => Some(Tone::Unsure.text(format!("operations and rules up to `{effect}` only"))),
    };
    let mut out = value::facts(
        [
            ("approved", Some(time::full(approval.approved_ms, look).into())),
            ("by", Some(clean(&approval.approved_by).into())),
            ("limited to", limit),
            ("denied", (!denied.is_empty()).then(|| Tone::Unsure.text(denied.join(", ")))),
        ],
        look,
    );
    out.push_str(&capabilities::grouped(&approval.capabilities, look));
    out
}

/// A plugin on its nodes.
fn nodes(all: &[PluginNode], look: &Look) -> String {
    let mut all: Vec<&PluginNode> = all.iter().collect();
    all.sort_by(|a, b| natural(a.name.as_str(), b.name.as_str()));
    let mut grid = Grid::new(["node", "runs", "wanted", "before", "stage", "problem"]);
    for node in all {
        let problem = node.problem.as_deref().map(clean);
        grid.row([
            Text::from(node.name.as_str()),
            deployment::version(node.active.as_ref()).into(),
            deployment::version(node.desired.as_ref()).into(),
            deployment::version(node.previous.as_ref()).into(),
            stage(node),
            problem.map_or_else(|| "-".into(), |problem| Tone::Bad.text(problem)),
        ]);
    }
    grid.render(look)
}

/// How far a node is, and what keeps it where it is.
fn stage(node: &PluginNode) -> Text {
    let (tone, word) = match node.stage {
        None => (Tone::Plain, String::new()),
        Some(InstallStage::Fetching) if node.total_bytes > 0 => {
            let percent = node.received_bytes.saturating_mul(100) / node.total_bytes;
            (Tone::Unsure, format!("fetching {percent}%"))
        }
        Some(InstallStage::Fetching) => (Tone::Unsure, "fetching".into()),
        Some(InstallStage::Verifying) => (Tone::Unsure, "verifying".into()),
        Some(InstallStage::Compiling) => (Tone::Unsure, "compiling".into()),
        Some(InstallStage::Active) => (Tone::Good, "active".into()),
        Some(InstallStage::Failed) => (Tone::Bad, "failed".into()),
        Some(InstallStage::RolledBack) => (Tone::Bad, "rolled back".into()),
    };
    let mut words = vec![word];
    let pinned = if node.desired.is_some() { "pinned" } else { "kept without it" };
    words.extend(node.pinned.then(|| pinned.to_owned()));
    words.extend(node.local.then(|| "its own folder".to_owned()));
    words.extend((!node.online).then(|| "offline".to_owned()));
    words.retain(|word| !word.is_empty());
    if words.is_empty() { "-".into() } else { tone.text(words.join(", ")) }
}

/// All about one bundle.
pub fn bundle(detail: &BundleDetail, look: &Look) -> String {
    let bundle = &detail.bundle;
    let mut out = value::facts(
        [
            ("bundle", Some(Tone::Strong.text(format!("{} {}", bundle.plugin, clean(&bundle.version))))),
            ("digest", Some(bundle.digest.to_string().into())),
            ("what it is", Some(clean(&bundle.description)).filter(|text| !text.is_empty()).map(Text::from)),
            ("size", Some(super::scalar::size(bundle.size_bytes).into())),
            ("pushed", Some(time::full(bundle.created_ms, look).into())),
            ("by", Some(clean(&bundle.created_by).into())),
        ],
        look,
    );
    let heading =
        |out: &mut String, name: &str| out.push_str(&format!("\n{}\n", Tone::Strong.paint(name, look)));
    heading(&mut out, "signatures");
    out.push_str(&indent(&signatures(&bundle.signatures, look), 2));
    heading(&mut out, "operations");
    let mut grid = Grid::new(["operation", "effect", "type", "what it does"]);
    for operation in &detail.operations {
        grid.row([
            Text::from(clean(&operation.name)),
            effect_tone(operation.effect).text(operation.effect.as_str()),
            clean(&operation.signature).into(),
            clean(&operation.summary).into(),
        ]);
    }
    out.push_str(&indent(&grid.render(look), 2));
    let rest: Vec<CapabilityInfo> =
        detail.capabilities.iter().filter(|capability| capability.kind != "operation").cloned().collect();
    heading(&mut out, "asks for");
    out.push_str(&indent(&capabilities::grouped(&rest, look), 2));
    if !detail.unapproved.is_empty() {
        heading(&mut out, "not approved");
        out.push_str(&indent(&capabilities::marked(&detail.unapproved, "+ ", Tone::Unsure, look), 2));
    }
    out
}

/// Signatures as they stand.
pub fn signatures(signatures: &[BundleSignature], look: &Look) -> String {
    if signatures.is_empty() {
        return format!(
            "{}\n",
            Tone::Unsure.paint("none: only nodes that allow unsigned bundles take it", look)
        );
    }
    let mut grid = Grid::new(["key", "signed", "ends"]);
    for signature in signatures {
        grid.row([
            Text::from(signature.key.to_string()),
            time::clock(signature.signed_ms, look).into(),
            match signature.expires_ms {
                Some(at) if at <= look.now_ms => Tone::Bad.text(format!("ended {}", time::ago(at, look))),
                Some(at) => time::ago(at, look).into(),
                None => "never".into(),
            },
        ]);
    }
    grid.render(look)
}

/// What happened to a plugin on the nodes.
pub fn events(events: &[PluginEvent], look: &Look) -> String {
    let mut grid = Grid::new(["time", "node", "what", "version", "before", "why"]);
    for event in events {
        let (tone, word) = match event.kind {
            PluginEventKind::Installed => (Tone::Good, "installed"),
            PluginEventKind::Failed => (Tone::Bad, "failed"),
            PluginEventKind::RolledBack => (Tone::Bad, "rolled back"),
            PluginEventKind::Removed => (Tone::Plain, "removed"),
        };
        let message = clean(&event.message);
        grid.row([
            Text::from(time::clock(event.time_ms, look)),
            event.name.as_str().into(),
            tone.text(word),
            clean(&event.version).into(),
            event.from_version.as_deref().map_or_else(|| "-".into(), clean).into(),
            if message.is_empty() { "-".into() } else { message.into() },
        ]);
    }
    grid.render(look)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};

    #[test]
    fn views() {
        let detail = fixtures::plugin();
        insta::assert_snapshot!("list", list(std::slice::from_ref(&detail.summary), &look(None)));
        insta::assert_snapshot!("plugin", plugin(&detail, None, &look(None)));
        let new = PluginDetail { approval: None, ..detail };
        let asks = fixtures::capabilities();
        assert!(plugin(&new, Some(&asks), &look(None)).contains("nothing is approved yet"));
        insta::assert_snapshot!("bundle", bundle(&fixtures::bundle(), &look(None)));
        insta::assert_snapshot!("events", events(&fixtures::plugin_events(), &look(None)));
    }
}
