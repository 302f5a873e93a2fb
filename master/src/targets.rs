//! Which nodes a target means.
//!
//! A target is resolved once, to explicit nodes, and the job keeps those: what joins later is not
//! part of it. Only accepted nodes count. Whoever names a node that is not there gets an error and
//! not a smaller job, and a target that means nobody is an error as well.
//!
//! `where` is CEL over `node`. A node on which it fails, most often because the node has no such
//! fact, does not match; so `!(node.facts.os == "debian")` leaves out nodes of unknown `os`, and
//! `!has(node.facts.os)` finds them. When it fails on all nodes, the failure is the hint of the
//! error. What can't be right on any node (syntax, unknown variables, a result that is neither true
//! nor false) is an error at once.

use crate::fleet::NodeRecord;
use cel::{Context, ExecutionError, Program};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use windlass_describe::expression::{self, ExpressionError};
use windlass_types::{
    NodeId,
    api::{NodeState, Target},
};

/// Ids, names and globs in one target at most.
const MAX_ON: usize = 20_000;
/// Globs among them at most: each is tried on each name.
const MAX_GLOBS: usize = 100;
/// How long the expression may take over all nodes.
const WHERE_TIME: Duration = Duration::from_secs(2);

/// Why a target means no nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing was given.
    #[error("the target names no nodes")]
    Blank,
    /// A part of it can't be right.
    #[error("{0}")]
    Bad(String),
    /// An id or name that no accepted node has.
    #[error("{}", unknown_message(text, *state))]
    Unknown {
        text: String,
        /// It is there, but not accepted.
        state: Option<NodeState>,
        nearest: Vec<String>,
    },
    /// The expression can't be right.
    #[error("the expression {}{message}", place.map(|(line, column)| format!("at line {line}, column {column}: ")).unwrap_or_default())]
    Where { place: Option<(u32, u32)>, message: String },
    /// Nobody fits.
    #[error("no accepted node fits the target")]
    Empty { hint: Option<String> },
}

impl From<ExpressionError> for TargetError {
    fn from(error: ExpressionError) -> Self {
        let ExpressionError { place, message } = error;
        TargetError::Where { place, message }
    }
}

fn unknown_message(text: &str, state: Option<NodeState>) -> String {
    match state {
        Some(state) => format!("node `{text}` is {}, not accepted", crate::fleet::state_word(state)),
        None => format!("there is no node `{text}`"),
    }
}

/// The accepted nodes that a target means, in the order of `nodes`.
///
/// # Errors
/// If something in the target can't be right, names a node that is not there, or nobody fits.
pub fn resolve(target: &Target, nodes: &[Arc<NodeRecord>]) -> Result<Vec<Arc<NodeRecord>>, TargetError> {
    let blank = target.on.is_empty()
        && target.labels.is_empty()
        && target.flags.is_empty()
        && target.facts.is_empty()
        && target.r#where.is_none();
    if blank {
        return Err(TargetError::Blank);
    }
    if target.r#where.is_none() {
        return choose(target, nodes);
    }
    expression::on_large_stack(|| choose(target, nodes))?
}

/// Whether a target means this node. One that can't be right means nobody.
pub fn fits(target: &Target, node: &Arc<NodeRecord>) -> bool {
    let mut target = target.clone();
    if !target.on.is_empty() {
        // Whether the other nodes it names are there does not matter here.
        let id = node.id.to_string();
        target.on.retain(|text| is_glob(text) || *text == id || text == node.name.as_str());
        if target.on.is_empty() {
            return false;
        }
    }
    resolve(&target, std::slice::from_ref(node)).is_ok()
}

/// Which of these nodes a limit means. One that can't be right means nobody, and that it names nodes that
/// are not among these does not matter.
pub fn among(limit: &Target, nodes: &[Arc<NodeRecord>]) -> HashSet<NodeId> {
    let mut limit = limit.clone();
    if !limit.on.is_empty() {
        let names: HashSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let ids: HashSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        let accepted = |text: &str| {
            let named = |node: &&Arc<NodeRecord>| node.name.as_str() == text || node.id.to_string() == text;
            nodes.iter().filter(named).any(|node| node.state == NodeState::Accepted)
        };
        limit.on.retain(|text| {
            let there = names.contains(text.as_str()) || text.parse().is_ok_and(|id| ids.contains(&id));
            is_glob(text) || (there && accepted(text))
        });
        if limit.on.is_empty() {
            return HashSet::new();
        }
    }
    resolve(&limit, nodes).map_or_else(|_| HashSet::new(), |fit| fit.iter().map(|node| node.id).collect())
}

fn choose(target: &Target, nodes: &[Arc<NodeRecord>]) -> Result<Vec<Arc<NodeRecord>>, TargetError> {
    let names = Names::new(&target.on, nodes)?;
    let filter = target.r#where.as_deref().map(Filter::compile).transpose()?;
    let started = Instant::now();
    let mut chosen = Vec::new();
    let mut failures = Failures::default();
    for node in nodes.iter().filter(|node| node.state == NodeState::Accepted) {
        if !names.fits(node) || !plain_conditions_fit(target, node) {
            continue;
        }
        let fits = match &filter {
            None => true,
            Some(filter) => {
                if started.elapsed() > WHERE_TIME {
                    return Err(TargetError::Where { place: None, message: "takes too long".into() });
                }
                filter.fits(node, &mut failures)?
            }
        };
        if fits {
            chosen.push(node.clone());
        }
    }
    if chosen.is_empty() { Err(TargetError::Empty { hint: failures.hint() }) } else { Ok(chosen) }
}

fn plain_conditions_fit(target: &Target, node: &NodeRecord) -> bool {
    target.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && target.flags.iter().all(|flag| node.flags.contains(flag))
        && target.facts.iter().all(|(key, value)| {
            node.facts.get(key).is_some_and(|fact| match fact {
                Value::String(text) => text == value,
                other => {
                    let text = other.to_string();
                    text == *value
                }
            })
        })
}

/// What `on` says.
struct Names {
    all: bool,
    literal: HashSet<NodeId>,
    globs: GlobSet,
}

impl Names {
    fn new(on: &[String], nodes: &[Arc<NodeRecord>]) -> Result<Self, TargetError> {
        if on.len() > MAX_ON {
            return Err(TargetError::Bad(format!("more than {MAX_ON} entries in `on`")));
        }
        let mut globs = GlobSetBuilder::new();
        let mut number_of_globs = 0;
        let (mut by_name, mut by_id) = (HashMap::new(), HashMap::new());
        for text in on.iter().map(String::as_str) {
            if is_glob(text) {
                number_of_globs += 1;
                let glob = GlobBuilder::new(text).build();
                globs.add(glob.map_err(|error| TargetError::Bad(format!("`{text}`: {}", error.kind())))?);
            } else if let Ok(id) = text.parse::<NodeId>() {
                by_id.insert(id, (text, Found::Nobody));
            } else {
                by_name.insert(text, (text, Found::Nobody));
            }
        }
        let mut literal = HashSet::new();
        if !by_name.is_empty() || !by_id.is_empty() {
            for node in nodes {
                let wanted = [by_name.get_mut(node.name.as_str()), by_id.get_mut(&node.id)];
                for (_, found) in wanted.into_iter().flatten() {
                    if node.state == NodeState::Accepted {
                        literal.insert(node.id);
                        *found = Found::Accepted;
                    } else if *found == Found::Nobody {
                        *found = Found::In(node.state);
                    }
                }
            }
        }
        let missing = |text: &str| {
            let found = by_name.get(text).or_else(|| by_id.get(&text.parse().ok()?))?;
            match found.1 {
                Found::Accepted => None,
                Found::In(state) => Some(Some(state)),
                Found::Nobody => Some(None),
            }
        };
        for text in on {
            if let Some(state) = missing(text) {
                return Err(TargetError::Unknown {
                    text: text.chars().take(253).collect(),
                    state,
                    nearest: nearest(text, nodes),
                });
            }
        }
        if number_of_globs > MAX_GLOBS {
            return Err(TargetError::Bad(format!("more than {MAX_GLOBS} globs in `on`")));
        }
        let globs = globs.build().map_err(|error| TargetError::Bad(error.to_string()))?;
        Ok(Names { all: on.is_empty(), literal, globs })
    }

    fn fits(&self, node: &NodeRecord) -> bool {
        self.all || self.literal.contains(&node.id) || self.globs.is_match(node.name.as_str())
    }
}

/// What there is of a name or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nobody,
    In(NodeState),
    Accepted,
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn nearest(text: &str, nodes: &[Arc<NodeRecord>]) -> Vec<String> {
    let accepted = nodes.iter().filter(|node| node.state == NodeState::Accepted);
    nearest_names(text, accepted.map(|node| node.name.as_str()))
}

/// The three names most like a text, if they are at all like it.
pub fn nearest_names<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Vec<String> {
    // The measure costs the product of both lengths, and the text is from outside.
    let text: String = text.chars().take(253).collect();
    let mut near: Vec<(usize, &str)> = names
        .map(|name| (strsim::damerau_levenshtein(&text, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(text.len()) / 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// A compiled `where`.
struct Filter(Program);

/// On how many nodes the expression failed, and how.
#[derive(Default)]
struct Failures {
    number: usize,
    first: Option<String>,
}

impl Failures {
    fn hint(self) -> Option<String> {
        let first = self.first?;
        Some(format!("the expression failed on {} nodes, so they do not match: {first}", self.number))
    }
}

impl Filter {
    fn compile(text: &str) -> Result<Self, TargetError> {
        Ok(Filter(expression::compile(text)?))
    }

    fn fits(&self, node: &NodeRecord, failures: &mut Failures) -> Result<bool, TargetError> {
        let bad = |message: String| TargetError::Where { place: None, message };
        let mut context = Context::default();
        context.add_variable_from_value("node", node_value(node));
        match self.0.execute(&context) {
            Ok(cel::Value::Bool(fits)) => Ok(fits),
            Ok(other) => Err(bad(format!("gives a {}, neither true nor false", other.type_of()))),
            Err(ExecutionError::UndeclaredReference(name)) => {
                Err(bad(format!("uses `{name}`, which there is not: there is only `node`")))
            }
            Err(error) => {
                failures.number += 1;
                if failures.first.is_none() {
                    failures.first = Some(error.to_string().chars().take(300).collect());
                }
                Ok(false)
            }
        }
    }
}

fn node_value(node: &NodeRecord) -> cel::Value {
    let text = |text: &str| cel::Value::from(text);
    HashMap::from([
        ("id", text(&node.id.to_string())),
        ("name", text(node.name.as_str())),
        ("online", cel::Value::Bool(node.online())),
        (
            "facts",
            node.facts
                .iter()
                .map(|(key, fact)| (key.as_str(), expression::value(fact)))
                .collect::<HashMap<_, _>>()
                .into(),
        ),
        (
            "labels",
            node.labels
                .iter()
                .map(|(key, label)| (key.as_str(), text(label)))
                .collect::<HashMap<_, _>>()
                .into(),
        ),
        ("flags", node.flags.iter().map(|flag| text(flag)).collect::<Vec<_>>().into()),
    ])
    .into()
}

#[cfg(test)]
mod tests;
