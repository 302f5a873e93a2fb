//! The decision.

use super::{Role, Rule};
use crate::{fleet::NodeRecord, targets};
use globset::Glob;
use std::{fmt, sync::Arc};
use windlass_types::{
    Effect, NodeId, NodeName, OperationName, RoleName, SecretName,
    api::{Target, access::Permission},
};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub enum Need<'a> {
    Permission(Permission),
    Operation {
        name: &'a OperationName,
        effect: Effect,
    },
    /// To give a stored secret to an operation.
    Secret {
        name: &'a SecretName,
        operation: &'a OperationName,
        effect: Effect,
    },
    /// To run something, which is not known yet.
    AnyOperation,
}

/// To what.
#[derive(Debug, Clone, Copy)]
pub enum On<'a> {
    /// To the grid as a whole.
    Everywhere,
    /// To something that is asked about again once it is known.
    Somewhere,
    /// To each of these.
    Nodes(&'a [Arc<NodeRecord>]),
    /// To the nodes that this means now, and to those that it will mean later.
    Lasting(&'a Target),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No rule gives it on any node.
    NoRule { role: RoleName, what: String },
    /// Rules give it, but not on these nodes.
    Nodes { role: RoleName, what: String, nodes: Vec<NodeName> },
    /// Rules give it on some nodes only.
    Everywhere { role: RoleName, what: String },
    /// Rules give it on some nodes only, and the target may mean others later.
    Lasting { role: RoleName, what: String },
    /// The question could not be put.
    Unasked { role: RoleName },
}

/// Nodes that are named.
const NAMED: usize = 3;

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::NoRule { role, what } => write!(f, "role `{role}` does not allow {what}"),
            Denied::Nodes { role, what, nodes } => {
                let named: Vec<&str> = nodes.iter().take(NAMED).map(NodeName::as_str).collect();
                write!(f, "role `{role}` does not allow {what} on {}", named.join(", "))?;
                match nodes.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
            Denied::Everywhere { role, what } => {
                write!(f, "role `{role}` allows {what} on some nodes only, and this concerns all")
            }
            Denied::Lasting { role, what } => {
                write!(
                    f,
                    "role `{role}` allows {what} on some nodes only, and the target may mean others later"
                )
            }
            Denied::Unasked { role } => write!(f, "what role `{role}` allows could not be found out"),
        }
    }
}

impl std::error::Error for Denied {}

fn words(need: Need<'_>) -> String {
    match need {
        Need::Permission(permission) => format!("`{}`", permission.as_str()),
        Need::Operation { name, effect } => format!("`{name}` ({effect})"),
        Need::Secret { name, operation, .. } => format!("secret `{name}` for `{operation}`"),
        Need::AnyOperation => "any operation".into(),
    }
}

/// Whether a role allows something.
///
/// # Errors
/// If not, with what is missing.
pub fn decide(role: &Role, need: Need<'_>, on: On<'_>) -> Result<(), Denied> {
    let what = || words(need);
    let mut giving = role.rules.iter().filter(|rule| rule.gives(need)).peekable();
    if giving.peek().is_none() {
        return Err(Denied::NoRule { role: role.name.clone(), what: what() });
    }
    let giving: Vec<&Rule> = giving.collect();
    if giving.iter().any(|rule| rule.target.is_none()) {
        return Ok(());
    }
    match on {
        On::Somewhere => Ok(()),
        On::Everywhere => Err(Denied::Everywhere { role: role.name.clone(), what: what() }),
        On::Lasting(target) => {
            let covered = |rule: &&Rule| rule.target.as_ref().is_some_and(|limit| covers(limit, target));
            if giving.iter().any(covered) {
                Ok(())
            } else {
                Err(Denied::Lasting { role: role.name.clone(), what: what() })
            }
        }
        On::Nodes(nodes) => {
            let rules = rules_of_nodes(role, need, nodes);
            let missing = nodes.iter().zip(rules).filter(|(_, rule)| rule.is_none());
            let missing: Vec<NodeName> = missing.map(|(node, _)| node.name.clone()).collect();
            if missing.is_empty() && !nodes.is_empty() {
                Ok(())
            } else {
                Err(Denied::Nodes { role: role.name.clone(), what: what(), nodes: missing })
            }
        }
    }
}

/// For each node the first rule that allows it there, from 0.
pub fn rules_of_nodes(role: &Role, need: Need<'_>, nodes: &[Arc<NodeRecord>]) -> Vec<Option<usize>> {
    let mut found = vec![None; nodes.len()];
    for (index, rule) in role.rules.iter().enumerate().filter(|(_, rule)| rule.gives(need)) {
        let among = rule.target.as_ref().map(|target| targets::among(target, nodes));
        for (node, found) in nodes.iter().zip(&mut found) {
            if found.is_none() && among.as_ref().is_none_or(|among| among.contains(&node.id)) {
                *found = Some(index);
            }
        }
    }
    found
}

/// Whether a target can mean no node, now or later, that a limit does not: it has every condition of
/// the limit. It may well say no where the answer would be yes.
fn covers(limit: &Target, asked: &Target) -> bool {
    let names = limit.on.is_empty()
        || (!asked.on.is_empty()
            && asked.on.iter().all(|text| limit.on.contains(text) || named(limit, text)));
    names
        && limit.labels.iter().all(|(key, value)| asked.labels.get(key) == Some(value))
        && limit.flags.iter().all(|flag| asked.flags.contains(flag))
        && limit.facts.iter().all(|(key, value)| asked.facts.get(key) == Some(value))
        && (limit.r#where.is_none() || limit.r#where == asked.r#where)
}

/// Whether this is one name, and the limit has it. An id says nothing about the name of its node.
fn named(limit: &Target, text: &str) -> bool {
    text.parse::<NodeName>().is_ok()
        && text.parse::<NodeId>().is_err()
        && limit.on.iter().any(|glob| Glob::new(glob).is_ok_and(|glob| glob.compile_matcher().is_match(text)))
}
