//! What the owner of a node forbids a plugin, whatever its manifest asks.

use crate::{manifest::Manifest, path::AbsolutePath};
use serde::Deserialize;
use windlass_types::{Effect, json::nearest};

/// Policy of one node for one plugin, from the host's own configuration. The default forbids
/// nothing: the plugin may do what its manifest asks for.
///
/// A policy only ever takes away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodePolicy {
    /// Strongest effect: operations and rules past it are denied.
    pub max_effect: Effect,
    /// Logical programs that may not run, as the manifest names them.
    pub deny_commands: Vec<String>,
    /// Files and directories that may not be touched, with all that is beneath.
    pub deny_paths: Vec<AbsolutePath>,
    /// Probes that may not be read.
    pub deny_probes: Vec<String>,
    /// Operations that may not be called, as `interface.function`.
    pub deny_operations: Vec<String>,
    /// The plugin may not keep state on the node.
    pub deny_state: bool,
}

impl Default for NodePolicy {
    fn default() -> Self {
        NodePolicy {
            max_effect: Effect::Destroy,
            deny_commands: Vec::new(),
            deny_paths: Vec::new(),
            deny_probes: Vec::new(),
            deny_operations: Vec::new(),
            deny_state: false,
        }
    }
}

impl NodePolicy {
    /// Entries that forbid nothing because the manifest has no such thing, each as a sentence. A
    /// mistyped name here would quietly allow what the owner meant to forbid, so a host warns.
    ///
    /// Operations are not among them: a manifest need not list all that its component exports.
    pub fn without_effect(&self, manifest: &Manifest) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut look = |key: &str, denied: &[String], known: Vec<&str>| {
            for name in denied.iter().filter(|name| !known.contains(&name.as_str())) {
                let hint = nearest(name, known.iter().copied());
                warnings.push(format!(
                    "`{key}` names `{name}`, which plugin `{}` does not ask for{}",
                    manifest.name,
                    hint.map(|hint| format!("; {hint}")).unwrap_or_default()
                ));
            }
        };
        look("deny_commands", &self.deny_commands, manifest.commands.keys().map(String::as_str).collect());
        look("deny_probes", &self.deny_probes, manifest.probes.iter().map(|probe| probe.as_str()).collect());
        warnings
    }
}
