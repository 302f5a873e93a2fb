//! Plans: steps on several nodes, the order they take, and what undoes each.
//!
//! A plan is data. It comes from a planned operation or is written by hand, is checked and stored by the
//! master, shown to people, and applied once at most: its run has its id. What holds while it runs is
//! said in `master/src/plans`.

use crate::ids::{NodeName, OperationName, PlanId, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use utoipa::ToSchema;

/// Steps of a plan at most.
pub const MAX_STEPS: usize = 10_000;
/// Pairs of steps where one comes after the other, at most.
pub const MAX_EDGES: usize = 100_000;
/// Notes at most.
pub const MAX_NOTES: usize = 1000;
/// Bytes of a title and of the question of an approval at most.
pub const MAX_TITLE: usize = 500;
/// Bytes of an expression at most.
pub const MAX_EXPECT: usize = 1024;
/// Steps under way at once at most, and unless told.
pub const MAX_AT_ONCE: u32 = 100;
/// Bytes of a note or a reason at most.
pub const MAX_TEXT: usize = 4000;
/// Retries of a step at most.
pub const MAX_RETRIES: u32 = 100;
/// The longest time of a step: 30 days.
pub const MAX_TIMEOUT_MS: u64 = 30 * 86_400_000;
/// In the text of an argument it stands for the id of the run.
pub const RUN: &str = "${run}";

/// Steps on several nodes, and the order they take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Plan {
    /// What it is for, in a line.
    pub title: String,
    /// Why it is as it is, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// At least one. Those that do not come after each other may run at once.
    pub steps: Vec<Step>,
    /// Steps under way at once; 100 unless told, and at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_once: Option<u32>,
    /// What happens when a step fails.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PlanOnFailure)]
pub enum OnFailure {
    /// What was done is undone, the last first.
    #[default]
    RollBack,
    /// No other step begins, and somebody has to say how to go on.
    Hold,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PlanStep)]
pub struct Step {
    /// Its name within the plan.
    pub id: StepId,
    /// What it does, in a line.
    pub title: String,
    /// Why it is there, or why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The steps that have to be done before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepId>,
    /// What it does.
    pub act: Action,
    /// What undoes it. It may be asked for more than once, and after an action that did only some of its
    /// work: it has to succeed where nothing is left to undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Action>,
    /// A look that decides whether it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Check>,
    /// The question that somebody has to say yes to before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// How often its action is tried again that ends without success.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// How long each of its operations may take, in milliseconds; the operation's own time unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// One operation on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PlanAction)]
pub struct Action {
    pub node: NodeName,
    pub operation: OperationName,
    /// Arguments object; `{}` unless told. In its texts `${run}` stands for the id of the run.
    #[serde(default = "empty_object")]
    pub args: Value,
}

/// A look at a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PlanCheck)]
pub struct Check {
    /// An operation that only reads. It has to succeed.
    pub action: Action,
    /// CEL over `output`, what the operation gave, that has to be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Why a plan can't be right, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .step.as_ref().map(|step| format!("step `{step}`: ")).unwrap_or_default())]
pub struct PlanError {
    /// The step, where it is about one.
    pub step: Option<StepId>,
    /// JSON pointer into the plan.
    pub pointer: String,
    pub problem: String,
}

impl PlanError {
    /// About a place of the plan.
    pub fn new(step: Option<&StepId>, pointer: impl Into<String>, problem: impl Into<String>) -> Self {
        PlanError { step: step.cloned(), pointer: pointer.into(), problem: problem.into() }
    }
}

impl Plan {
    /// Whether it can be right, as far as it says itself: sizes, names and order. What nodes and operations
    /// there are is not looked at.
    ///
    /// # Errors
    /// The first thing that can't be right.
    pub fn check(&self) -> Result<(), PlanError> {
        let plan = |pointer: &str, problem: String| Err(PlanError::new(None, pointer, problem));
        line(&self.title, MAX_TITLE).or_else(|problem| plan("/title", format!("`title`: {problem}")))?;
        if self.notes.len() > MAX_NOTES {
            return plan("/notes", format!("more than {MAX_NOTES} notes"));
        }
        for (index, note) in self.notes.iter().enumerate() {
            line(note, MAX_TEXT)
                .or_else(|problem| plan(&format!("/notes/{index}"), format!("a note: {problem}")))?;
        }
        if self.at_once.is_some_and(|most| most == 0 || most > MAX_AT_ONCE) {
            return plan("/at_once", format!("`at_once` is from 1 to {MAX_AT_ONCE}"));
        }
        match self.steps.len() {
            0 => return plan("/steps", "a plan needs a step".into()),
            1..=MAX_STEPS => {}
            more => return plan("/steps", format!("{more} steps are more than {MAX_STEPS}")),
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.check(index)?;
        }
        self.order().map(drop)
    }

    /// For each step the positions of those that have to be done before, each once.
    ///
    /// # Errors
    /// If a name is there twice, or a step comes after one that is not there, or after itself.
    pub fn order(&self) -> Result<Vec<Vec<u32>>, PlanError> {
        let mut positions = HashMap::with_capacity(self.steps.len());
        for (index, (step, number)) in self.steps.iter().zip(0_u32..).enumerate() {
            if let Some(first) = positions.insert(&step.id, number) {
                let problem = format!("there is a step of this name already, number {}", first + 1);
                return Err(PlanError::new(Some(&step.id), format!("/steps/{index}/id"), problem));
            }
        }
        let edges: usize = self.steps.iter().map(|step| step.after.len()).sum();
        if edges > MAX_EDGES {
            let problem = format!("{edges} times `after` is more than {MAX_EDGES}");
            return Err(PlanError::new(None, "/steps", problem));
        }
        let mut order = Vec::with_capacity(self.steps.len());
        for (index, step) in self.steps.iter().enumerate() {
            let mut before = Vec::with_capacity(step.after.len());
            for (place, after) in step.after.iter().enumerate() {
                let Some(number) = positions.get(after) else {
                    let pointer = format!("/steps/{index}/after/{place}");
                    let problem = format!("it comes after `{after}`, and there is no such step");
                    return Err(PlanError::new(Some(&step.id), pointer, problem));
                };
                before.push(*number);
            }
            before.sort_unstable();
            before.dedup();
            order.push(before);
        }
        match circle(&order) {
            None => Ok(order),
            Some(index) => {
                let step = &self.steps[index].id;
                let problem = "it would have to wait for itself, by way of `after`";
                Err(PlanError::new(Some(step), format!("/steps/{index}/after"), problem))
            }
        }
    }

    /// Put the id of the run where arguments say `${run}`.
    pub fn name_run(&mut self, id: PlanId) {
        let id = id.to_string();
        for action in self.steps.iter_mut().flat_map(Step::actions_mut) {
            replace(&mut action.args, &id);
        }
    }
}

impl Step {
    /// What it does, looks at and undoes, each with its place in the step.
    pub fn actions(&self) -> impl Iterator<Item = (&'static str, &Action)> {
        let verify = self.verify.as_ref().map(|verify| ("verify/action", &verify.action));
        [("act", &self.act)].into_iter().chain(verify).chain(self.undo.as_ref().map(|undo| ("undo", undo)))
    }

    fn actions_mut(&mut self) -> impl Iterator<Item = &mut Action> {
        let verify = self.verify.as_mut().map(|verify| &mut verify.action);
        [&mut self.act].into_iter().chain(verify).chain(self.undo.as_mut())
    }

    fn check(&self, index: usize) -> Result<(), PlanError> {
        let fail = |place: &str, problem: String| {
            Err(PlanError::new(Some(&self.id), format!("/steps/{index}/{place}"), problem))
        };
        line(&self.title, MAX_TITLE).or_else(|problem| fail("title", format!("`title`: {problem}")))?;
        if let Some(reason) = &self.reason {
            line(reason, MAX_TEXT).or_else(|problem| fail("reason", format!("`reason`: {problem}")))?;
        }
        if let Some(question) = &self.approval {
            line(question, MAX_TITLE)
                .or_else(|problem| fail("approval", format!("`approval`: {problem}")))?;
        }
        if let Some(expect) = self.verify.as_ref().and_then(|verify| verify.expect.as_ref())
            && (expect.is_empty() || expect.len() > MAX_EXPECT)
        {
            return fail("verify/expect", format!("`expect` has to have from 1 to {MAX_EXPECT} bytes"));
        }
        if self.retries > MAX_RETRIES {
            return fail("retries", format!("{} retries are more than {MAX_RETRIES}", self.retries));
        }
        match self.timeout_ms {
            Some(time) if time == 0 || time > MAX_TIMEOUT_MS => {
                fail("timeout_ms", "`timeout_ms` is from 1 millisecond to 30 days".into())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a text is one that can be shown in a line.
fn line(text: &str, most: usize) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("it is empty".into())
    } else if text.len() > most {
        Err(format!("{} bytes are more than {most}", text.len()))
    } else if text.chars().any(char::is_control) {
        Err("it has a control character, or more than one line".into())
    } else {
        Ok(())
    }
}

/// A step that would have to wait for itself.
fn circle(order: &[Vec<u32>]) -> Option<usize> {
    let mut open: Vec<usize> = order.iter().map(Vec::len).collect();
    let mut behind = vec![Vec::new(); order.len()];
    for (index, before) in order.iter().enumerate() {
        for number in before {
            behind[*number as usize].push(index);
        }
    }
    let mut ready: Vec<usize> = (0..order.len()).filter(|index| open[*index] == 0).collect();
    while let Some(done) = ready.pop() {
        for index in &behind[done] {
            open[*index] -= 1;
            if open[*index] == 0 {
                ready.push(*index);
            }
        }
    }
    // What stays open waits for the circle, or is part of it: walk back until a step comes again.
    let mut at = open.iter().position(|open| *open > 0)?;
    let mut seen = vec![false; order.len()];
    while !std::mem::replace(&mut seen[at], true) {
        at = order[at].iter().map(|number| *number as usize).find(|before| open[*before] > 0)?;
    }
    Some(at)
}

fn replace(value: &mut Value, id: &str) {
    match value {
        Value::String(text) if text.contains(RUN) => *text = text.replace(RUN, id),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, id)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, id)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
