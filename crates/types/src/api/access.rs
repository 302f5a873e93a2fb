//! Users and roles.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /users?after=&limit=` | → [`Page`](super::Page)`<`[`User`]`>`, by name |
//! | `POST /users` | [`NewUser`] → [`User`] (201) |
//! | `GET /users/{name}`, `DELETE /users/{name}` | → [`User`], 204 |
//! | `PATCH /users/{name}` | [`ChangeUser`] → [`User`] |
//! | `GET /roles` | → [`Page`](super::Page)`<`[`RoleInfo`]`>`, by name, those that are always there included |
//! | `GET /roles/{name}`, `DELETE /roles/{name}` | → [`RoleInfo`], 204 |
//! | `PUT /roles/{name}` | [`RoleRules`] → [`RoleInfo`] |
//! | `POST /roles/{name}/check` | [`CheckRole`] → [`RoleVerdict`] |

use super::Target;
use crate::{
    ids::{NodeName, OperationName, RoleName, UserName},
    outcome::Effect,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Somebody. Tokens of a user may do what the user's role allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct User {
    pub name: UserName,
    pub role: RoleName,
    /// The tokens count for nothing while this is true.
    pub disabled: bool,
    pub created_ms: i64,
    /// How many tokens there are.
    pub tokens: u32,
}

/// Make a user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    pub name: UserName,
    pub role: RoleName,
}

/// Change a user. It holds from the next request on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

macro_rules! permissions {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $on_nodes:literal;)*) => {
        /// A right that is not about one operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Permission { $($(#[doc = $doc])* #[serde(rename = $text)] $name,)* }

        impl Permission {
            /// All of them.
            pub const ALL: &[Permission] = &[$(Permission::$name),*];
            /// As it stands in roles.
            pub fn as_str(self) -> &'static str {
                match self { $(Permission::$name => $text,)* }
            }
            /// Whether it can be given on some nodes only.
            pub fn on_nodes(self) -> bool {
                match self { $(Permission::$name => $on_nodes,)* }
            }
        }
    };
}

permissions! {
    /// See nodes.
    NodesRead = "nodes.read", false;
    /// See which operations there are, and which nodes a target means.
    OperationsRead = "operations.read", false;
    /// See jobs, their results and traces.
    JobsRead = "jobs.read", false;
    /// See bundles, plugins and deployments; fetch packages.
    PluginsRead = "plugins.read", false;
    /// See what happens on the grid.
    EventsRead = "events.read", false;
    /// See schedules and their runs.
    SchedulesRead = "schedules.read", false;
    /// Read the figures of the master.
    MetricsRead = "metrics.read", false;
    /// Set labels and flags of nodes.
    NodesWrite = "nodes.write", true;
    /// Accept, reject, revoke and delete nodes.
    NodesAdmit = "nodes.admit", false;
    /// Make and delete join tokens.
    JoinTokensManage = "join-tokens.manage", false;
    /// Upload and delete bundles.
    PluginsWrite = "plugins.write", false;
    /// Approve what plugins ask for.
    PluginsApprove = "plugins.approve", false;
    /// Roll plugins out and back. Pinning and removing them takes it on all nodes.
    PluginsDeploy = "plugins.deploy", true;
    /// Make and delete tokens. Whoever has it can become anybody.
    TokensManage = "tokens.manage", false;
    /// Make, change and remove users. Whoever has it can become anybody.
    UsersManage = "users.manage", false;
    /// Set and remove roles. Whoever has it can become anybody.
    RolesManage = "roles.manage", false;
    /// Make, pause and remove rules that act on events, and see them.
    RulesManage = "rules.manage", false;
    /// See which secrets there are, set and remove them. No right shows a value.
    SecretsManage = "secrets.manage", false;
    /// Read and verify the audit log.
    AuditRead = "audit.read", false;
}

/// What a role allows: what any of its rules allows, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRules {
    pub rules: Vec<RoleRule>,
}

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// Globs over names of operations (`zfs.*`, `*.system.read`); a `*` also stands for dots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
    /// The highest effect that these operations may have; `read` unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Globs over names of stored secrets that these operations may be given there; none unless told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub permissions: BTreeSet<Permission>,
    /// On which nodes; on all unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoleInfo {
    pub name: RoleName,
    /// One of those that are always there.
    pub built_in: bool,
    pub rules: Vec<RoleRule>,
    /// Absent for those that are always there.
    pub created_ms: Option<i64>,
    /// How many users, and tokens of nobody, have it.
    pub used_by: u32,
}

/// Ask what a role allows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRole {
    pub operation: OperationName,
    /// The operation's own unless told; it has to be given for one that no node offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    pub target: Target,
}

/// What a role says to an operation on some nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RoleVerdict {
    /// Whether a job on all these nodes would be made.
    pub allowed: bool,
    /// Why, in words.
    pub reason: String,
    pub effect: Effect,
    pub nodes: Vec<CheckedNode>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckedNode {
    pub name: NodeName,
    /// The first rule that allows it, counted from 1; absent if none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u32>,
}
