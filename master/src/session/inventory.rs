//! What a host says it has, and how far it is with what it is wanted to have.
//!
//! All of it is a host's word about itself, and bounded here: a list that is too long, a name twice or
//! a digest that is none makes the whole message bad, since half of it would be believed for the whole.
//! Words of a later version (a stage, a kind of change) only cost what they are about.

use super::incoming::{MAX_TEXT_BYTES, cut};
use crate::{
    bundles::NodeChange,
    fleet::{Install, Inventory, InventoryOperation, InventoryPlugin, Progress},
    store::bundles::kind_of,
};
use std::collections::BTreeMap;
use windlass_proto::v1;
use windlass_types::{Digest, Effect, OperationName, PluginName, api::bundles::InstallStage};

/// Plugins of one node.
const MAX_PLUGINS: usize = 64;
/// Operations of one plugin.
const MAX_OPERATIONS: usize = 512;
/// Changes of plugins in one message: a host keeps no more.
const MAX_CHANGES: usize = 64;
const MAX_VERSION_BYTES: usize = 64;
/// Larger than any bundle: what a host says beyond is not worth showing.
const MAX_SHOWN_BYTES: u64 = 1 << 40;

/// An inventory, parsed.
#[derive(Debug)]
pub(super) struct Parsed {
    pub inventory: Inventory,
    pub progress: Progress,
    pub changes: Vec<NodeChange>,
}

/// An inventory from the wire.
pub(super) fn inventory(message: v1::Inventory) -> Result<Parsed, String> {
    if message.plugins.len() > MAX_PLUGINS || message.installs.len() > MAX_PLUGINS {
        return Err(format!("a node has {MAX_PLUGINS} plugins at most"));
    }
    if message.changes.len() > MAX_CHANGES {
        return Err(format!("a node tells of {MAX_CHANGES} changes at most"));
    }
    let mut plugins = message.plugins.into_iter().map(plugin).collect::<Result<Vec<_>, _>>()?;
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(twice) = plugins.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(format!("plugin `{}` is there twice", twice[0].name));
    }
    let installs = message.installs.into_iter().filter_map(|message| install(message).transpose());
    let mut installs = installs.collect::<Result<Vec<_>, _>>()?;
    installs.sort_by(|a, b| a.plugin.cmp(&b.plugin));
    if let Some(twice) = installs.windows(2).find(|pair| pair[0].plugin == pair[1].plugin) {
        return Err(format!("plugin `{}` is installed twice", twice[0].plugin));
    }
    let changes = message.changes.into_iter().filter_map(|message| change(message).transpose());
    Ok(Parsed {
        inventory: Inventory { plugins },
        progress: Progress { revision: message.desired_revision, installs },
        changes: changes.collect::<Result<_, _>>()?,
    })
}

fn name(text: &str) -> Result<PluginName, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn digest(plugin: &PluginName, text: &str) -> Result<Digest, String> {
    text.parse().map_err(|error| format!("plugin `{plugin}`: {error}"))
}

/// A digest, or nothing.
fn maybe(plugin: &PluginName, text: &str) -> Result<Option<Digest>, String> {
    if text.is_empty() { Ok(None) } else { digest(plugin, text).map(Some) }
}

fn text(mut text: String, max_bytes: usize) -> Option<String> {
    cut(&mut text, max_bytes);
    Some(text).filter(|text| !text.is_empty())
}

fn plugin(message: v1::Plugin) -> Result<InventoryPlugin, String> {
    let name = name(&message.name)?;
    if message.operations.len() > MAX_OPERATIONS {
        return Err(format!("plugin `{name}` has more than {MAX_OPERATIONS} operations"));
    }
    let mut operations = BTreeMap::new();
    for operation in message.operations {
        let full: OperationName =
            format!("{name}.{}", operation.name).parse().map_err(|error| format!("{error}"))?;
        let type_digest: Digest =
            operation.type_digest.parse().map_err(|error| format!("{full}: {error}"))?;
        let effect = match operation.effect.as_str() {
            "read" => Effect::Read,
            "change" => Effect::Change,
            // What declares no effect that we know counts as the worst.
            _ => Effect::Destroy,
        };
        let operation = InventoryOperation {
            type_digest,
            effect,
            timeout_ms: operation.timeout_ms,
            idempotent: operation.idempotent,
        };
        operations.insert(full.local().to_owned(), operation);
    }
    Ok(InventoryPlugin {
        version: text(message.version, MAX_VERSION_BYTES).unwrap_or_default(),
        digest: digest(&name, &message.digest)?,
        problem: text(message.problem, MAX_TEXT_BYTES),
        previous: maybe(&name, &message.previous_digest)?,
        local: message.local,
        operations,
        name,
    })
}

fn install(message: v1::Install) -> Result<Option<Install>, String> {
    let plugin = name(&message.name)?;
    let stage = match message.stage.as_str() {
        "fetching" => InstallStage::Fetching,
        "verifying" => InstallStage::Verifying,
        "compiling" => InstallStage::Compiling,
        "active" => InstallStage::Active,
        "failed" => InstallStage::Failed,
        "rolled_back" => InstallStage::RolledBack,
        _ => return Ok(None),
    };
    Ok(Some(Install {
        digest: digest(&plugin, &message.digest)?,
        deployment: message.deployment.parse().ok(),
        stage,
        problem: text(message.problem, MAX_TEXT_BYTES),
        received_bytes: message.received_bytes.min(MAX_SHOWN_BYTES),
        total_bytes: message.total_bytes.min(MAX_SHOWN_BYTES),
        plugin,
    }))
}

fn change(message: v1::PluginChange) -> Result<Option<NodeChange>, String> {
    let plugin = name(&message.name)?;
    let Some(kind) = kind_of(&message.kind) else { return Ok(None) };
    // Numbers count up from 1; one that no table can hold is made up.
    if message.number == 0 || i64::try_from(message.number).is_err() {
        return Err(format!("a change of plugin `{plugin}` has the number {}", message.number));
    }
    Ok(Some(NodeChange {
        number: message.number,
        time_ms: message.time_ms,
        kind,
        version: text(message.version, MAX_VERSION_BYTES).unwrap_or_default(),
        digest: maybe(&plugin, &message.digest)?,
        from_version: text(message.from_version, MAX_VERSION_BYTES),
        message: text(message.message, MAX_TEXT_BYTES).unwrap_or_default(),
        plugin,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, operation: &str, effect: &str) -> v1::Plugin {
        v1::Plugin {
            name: name.into(),
            version: "1.0.0".into(),
            digest: Digest::of(b"bundle").to_string(),
            operations: vec![v1::PluginOperation {
                name: operation.into(),
                type_digest: Digest::of(b"type").to_string(),
                effect: effect.into(),
                timeout_ms: 1000,
                idempotent: true,
            }],
            problem: String::new(),
            ..v1::Plugin::default()
        }
    }

    #[test]
    fn inventories_are_parsed_or_refused() {
        let of = |plugins: Vec<v1::Plugin>| inventory(v1::Inventory { plugins, ..v1::Inventory::default() });
        let good = of(vec![message("zfs", "pool.list", "read"), message("fio", "bench.run", "")]).unwrap();
        assert_eq!(good.inventory.plugins[0].name.as_str(), "fio");
        assert_eq!(good.inventory.plugins[0].operations["bench.run"].effect, Effect::Destroy);
        assert!(good.inventory.operation(&"zfs.pool.list".parse().unwrap()).is_some());
        assert!(of(vec![message("../x", "pool.list", "read")]).is_err());
        assert!(of(vec![message("zfs", "pool", "read")]).is_err());
        assert!(
            of(vec![message("zfs", "a.b", ""), message("zfs", "c.d", "")]).unwrap_err().contains("twice")
        );
        assert!(of(vec![message("zfs", "a.b", ""); MAX_PLUGINS + 1]).is_err());
    }

    fn change(number: u64, kind: &str) -> v1::PluginChange {
        v1::PluginChange {
            number,
            time_ms: 5,
            name: "zfs".into(),
            digest: Digest::of(b"bundle").to_string(),
            kind: kind.into(),
            message: "x".repeat(2 * MAX_TEXT_BYTES),
            ..Default::default()
        }
    }

    fn install(name: &str, stage: &str) -> v1::Install {
        let digest = Digest::of(b"bundle").to_string();
        v1::Install {
            name: name.into(),
            digest,
            stage: stage.into(),
            deployment: "../../etc".into(),
            received_bytes: u64::MAX,
            ..Default::default()
        }
    }

    #[test]
    fn progress_and_changes_are_bounded() {
        let of = |installs: Vec<v1::Install>, changes: Vec<v1::PluginChange>| {
            inventory(v1::Inventory { installs, changes, desired_revision: 7, ..Default::default() })
        };
        let good = of(
            vec![install("zfs", "fetching"), install("fio", "levitating")],
            vec![change(1, "installed"), change(2, "improved")],
        )
        .unwrap();
        assert_eq!(good.progress.revision, 7);
        assert_eq!(good.progress.installs.len(), 1, "a stage of a later version is no stage");
        let zfs = &good.progress.installs[0];
        assert_eq!((zfs.deployment, zfs.received_bytes), (None, MAX_SHOWN_BYTES));
        assert_eq!(good.changes.len(), 1);
        assert_eq!(good.changes[0].message.len(), MAX_TEXT_BYTES);
        assert!(of(vec![install("a", "failed"); 2], vec![]).unwrap_err().contains("twice"));
        assert!(of(vec![], vec![change(1, "removed"); MAX_CHANGES + 1]).is_err());
        assert!(of(vec![], vec![change(0, "removed")]).is_err());
        assert!(of(vec![], vec![change(u64::MAX, "removed")]).is_err());
        assert!(of(vec![install("../zfs", "active")], vec![]).is_err());
        let installs: Vec<_> = (0..=MAX_PLUGINS).map(|n| install(&format!("p{n}"), "active")).collect();
        assert!(of(installs, vec![]).is_err());
        let bad = v1::Install { digest: "sha256:zz".into(), ..install("zfs", "active") };
        assert!(of(vec![bad], vec![]).is_err());
    }
}
