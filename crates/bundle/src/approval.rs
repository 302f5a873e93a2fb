//! What an operator lets a plugin do: the third part of a grant, beside what the manifest asks for
//! and what the node's owner forbids.

use crate::capability::{Capability, beyond};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use windlass_types::Effect;

/// An operator's approval.
///
/// A host does not install a bundle that asks for more than the capabilities listed here; beyond
/// that, operations are denied by effect or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// What a bundle may ask for.
    pub capabilities: Vec<Capability>,
    /// Operations and rules with a stronger effect are denied.
    pub max_effect: Effect,
    /// Operations that are denied, by `interface.function`.
    #[serde(default)]
    pub deny_operations: BTreeSet<String>,
}

impl Approval {
    /// Approve all of this.
    pub fn all_of(capabilities: Vec<Capability>) -> Approval {
        Approval { capabilities, max_effect: Effect::Destroy, deny_operations: BTreeSet::new() }
    }

    /// What of this is not approved. Operations that are denied anyway need no approval.
    pub fn missing<'a>(&self, asked: &'a [Capability]) -> Vec<&'a Capability> {
        beyond(asked, &self.capabilities)
    }
}
