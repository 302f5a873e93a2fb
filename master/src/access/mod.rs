//! What roles are, and what they allow.
//!
//! A role is a list of rules, and allows what any of them allows: there is no rule that takes away, so
//! their order does not matter and adding one never takes a right. What no rule gives is denied.
//! [`decide`] is the whole of it, a pure function; `api/auth.rs` is where it is asked.
//!
//! The roles that are always there are rules as any others ([`Role::built_in`]).

mod decide;
#[cfg(test)]
mod tests;

pub use decide::{Denied, Need, On, decide, rules_of_nodes};

use crate::store::StoreError;
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::collections::BTreeSet;
use windlass_describe::expression;
use windlass_types::{
    Effect, OperationName, RoleName, SecretName, UserName,
    api::{
        self, Target,
        access::{Permission, RoleRule},
    },
};

/// Rules of one role at most: each may be tried on each node.
const MAX_RULES: usize = 100;
/// Globs over operations in one rule at most.
const MAX_GLOBS: usize = 100;

/// Why users, roles or their tokens can't be changed so.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("there is no user `{0}`")]
    UnknownUser(String),
    #[error("there is no role `{0}`")]
    UnknownRole(RoleName),
    #[error("there is a user `{0}` already")]
    UserTaken(UserName),
    /// The audit log could not tell them apart.
    #[error("a token of nobody has the name `{0}`")]
    TokenOfThatName(String),
    /// The audit log could not tell them apart.
    #[error("`{0}` is the name of a user")]
    UserOfThatName(String),
    #[error("user `{name}` has the role `{role}`, which is not that of an administrator")]
    NoAdministrator { name: UserName, role: RoleName },
    #[error("user `{0}` is disabled")]
    Disabled(UserName),
    #[error("`{0}` stands for somebody else in the audit log")]
    Reserved(String),
    #[error("role `{0}` is always there, and stays as it is")]
    BuiltIn(RoleName),
    #[error("role `{name}` is in use: {users} users and {tokens} tokens of nobody have it")]
    RoleInUse { name: RoleName, users: i64, tokens: i64 },
    /// The rules can't be right.
    #[error(transparent)]
    BadRole(#[from] BadRole),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AccessError {
    fn from(error: sqlx::Error) -> Self {
        AccessError::Store(error.into())
    }
}

/// Why rules can't be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRole {
    #[error("more than {MAX_RULES} rules")]
    TooMany,
    /// Says which rule, from 1.
    #[error("rule {rule}: {problem}")]
    Rule { rule: usize, problem: String },
}

/// A role, ready to be asked.
#[derive(Debug, Clone)]
pub struct Role {
    pub name: RoleName,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    operations: GlobSet,
    /// What these may be given.
    secrets: GlobSet,
    effect: Effect,
    permissions: BTreeSet<Permission>,
    /// None: all nodes.
    target: Option<Target>,
}

impl Rule {
    fn gives(&self, need: Need<'_>) -> bool {
        match need {
            Need::Permission(permission) => self.permissions.contains(&permission),
            Need::Operation { name, effect } => {
                effect <= self.effect && self.operations.is_match(name.as_str())
            }
            Need::Secret { name, operation, effect } => {
                self.gives(Need::Operation { name: operation, effect })
                    && self.secrets.is_match(name.as_str())
            }
            Need::AnyOperation => !self.operations.is_empty(),
        }
    }

    fn parse(rule: &RoleRule) -> Result<Self, String> {
        if rule.operations.is_empty() && rule.permissions.is_empty() {
            return Err("it gives neither operations nor permissions".into());
        }
        if rule.operations.is_empty() && rule.effect.is_some() {
            return Err("`effect` is about `operations`, and there are none".into());
        }
        if rule.operations.is_empty() && !rule.secrets.is_empty() {
            return Err("`secrets` are given to `operations`, and there are none".into());
        }
        let (operations, secrets) =
            (globs("operations", &rule.operations)?, globs("secrets", &rule.secrets)?);
        if let Some(target) = &rule.target {
            if let Some(permission) = rule.permissions.iter().find(|permission| !permission.on_nodes()) {
                return Err(format!("`{}` can't be given on some nodes only", permission.as_str()));
            }
            check_target(target)?;
        }
        Ok(Rule {
            operations,
            secrets,
            effect: rule.effect.unwrap_or(Effect::Read),
            permissions: rule.permissions.clone(),
            target: rule.target.clone(),
        })
    }
}

fn globs(what: &str, texts: &[String]) -> Result<GlobSet, String> {
    if texts.len() > MAX_GLOBS {
        return Err(format!("more than {MAX_GLOBS} globs in `{what}`"));
    }
    let mut globs = GlobSetBuilder::new();
    for text in texts {
        globs.add(Glob::new(text).map_err(|error| format!("`{text}`: {}", error.kind()))?);
    }
    globs.build().map_err(|error| error.to_string())
}

/// A limit that could never be right is an error now, not a role that silently allows nothing.
fn check_target(target: &Target) -> Result<(), String> {
    match crate::targets::resolve(&Target { on: Vec::new(), ..target.clone() }, &[]) {
        // Only `on`, or nothing at all.
        Err(crate::targets::TargetError::Blank) if target.on.is_empty() => {
            return Err("`target` is empty: leave it out for all nodes".into());
        }
        Ok(_) | Err(crate::targets::TargetError::Blank | crate::targets::TargetError::Empty { .. }) => {}
        Err(error) => return Err(format!("`target`: {error}")),
    }
    if let Some(text) = &target.r#where {
        expression::compile(text).map_err(|error| format!("`target.where`: {error}"))?;
    }
    for glob in &target.on {
        Glob::new(glob).map_err(|error| format!("`target.on`: `{glob}`: {}", error.kind()))?;
    }
    Ok(())
}

impl Role {
    /// A role of these rules.
    ///
    /// # Errors
    /// With the first rule that can't be right.
    pub fn parse(name: RoleName, rules: &[RoleRule]) -> Result<Self, BadRole> {
        if rules.len() > MAX_RULES {
            return Err(BadRole::TooMany);
        }
        let parsed = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| {
                Rule::parse(rule).map_err(|problem| BadRole::Rule { rule: index + 1, problem })
            })
            .collect::<Result<_, _>>()?;
        Ok(Role { name, rules: parsed })
    }

    /// A role that allows nothing.
    pub fn nothing(name: RoleName) -> Self {
        Role { name, rules: Vec::new() }
    }

    /// One of those that are always there.
    pub fn built_in(role: api::Role) -> Self {
        Role::parse(role.into(), &built_in_rules(role)).expect("the roles that are always there are right")
    }

    /// Whether asking it may take long.
    fn has_expression(&self) -> bool {
        self.rules.iter().any(|rule| rule.target.as_ref().is_some_and(|target| target.r#where.is_some()))
    }
}

/// The rules of a role that is always there.
pub fn built_in_rules(role: api::Role) -> Vec<RoleRule> {
    use Permission::{
        AuditRead, EventsRead, JobsRead, JoinTokensManage, MetricsRead, NodesAdmit, NodesRead, NodesWrite,
        OperationsRead, PluginsApprove, PluginsDeploy, PluginsRead, PluginsWrite, RolesManage, RulesManage,
        SchedulesRead, SecretsManage, TokensManage, UsersManage,
    };
    let of = |permissions: &[Permission]| RoleRule {
        permissions: permissions.iter().copied().collect(),
        ..RoleRule::default()
    };
    let mut rules =
        vec![of(&[NodesRead, OperationsRead, JobsRead, PluginsRead, EventsRead, SchedulesRead, MetricsRead])];
    if role >= api::Role::Operator {
        rules.push(RoleRule {
            operations: vec!["*".into()],
            effect: Some(Effect::Destroy),
            ..of(&[NodesWrite])
        });
    }
    if role >= api::Role::Admin {
        rules.push(of(&[
            NodesAdmit,
            JoinTokensManage,
            PluginsWrite,
            PluginsApprove,
            PluginsDeploy,
            TokensManage,
            UsersManage,
            RolesManage,
            RulesManage,
            SecretsManage,
            AuditRead,
        ]));
        rules.push(RoleRule {
            operations: vec!["*".into()],
            effect: Some(Effect::Destroy),
            secrets: vec!["*".into()],
            ..RoleRule::default()
        });
    }
    rules
}

/// Asks a role about nodes, without holding up whoever else is served.
#[derive(Debug, Clone)]
pub struct Permit(pub std::sync::Arc<Role>);

impl Permit {
    /// Whether an operation may run on all of these nodes.
    ///
    /// # Errors
    /// If not, with what is missing.
    pub async fn operation(
        &self,
        name: &OperationName,
        effect: Effect,
        nodes: &[std::sync::Arc<crate::fleet::NodeRecord>],
    ) -> Result<(), Denied> {
        self.operation_with(name, effect, &BTreeSet::new(), nodes).await
    }

    /// Whether an operation may run on all of these nodes and be given these secrets.
    ///
    /// # Errors
    /// If not, with what is missing.
    pub async fn operation_with(
        &self,
        name: &OperationName,
        effect: Effect,
        secrets: &BTreeSet<SecretName>,
        nodes: &[std::sync::Arc<crate::fleet::NodeRecord>],
    ) -> Result<(), Denied> {
        let (role, operation) = (self.0.clone(), name.clone());
        let (secrets, nodes) = (secrets.clone(), nodes.to_vec());
        let asked = move || {
            decide(&role, Need::Operation { name: &operation, effect }, On::Nodes(&nodes))?;
            secrets.iter().try_for_each(|name| {
                decide(&role, Need::Secret { name, operation: &operation, effect }, On::Nodes(&nodes))
            })
        };
        if !self.0.has_expression() {
            return asked();
        }
        let broken = Denied::Unasked { role: self.0.name.clone() };
        tokio::task::spawn_blocking(asked).await.unwrap_or(Err(broken))
    }
}
