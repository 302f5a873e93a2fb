//! What a plan has to be before it is kept, and again before it is applied.

use super::fleet::{self, Facts};
use crate::{
    access::{Denied, Permit},
    fleet::NodeRecord,
    jobs::Jobs,
    targets::nearest_names,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use windlass_describe::expression;
use windlass_types::{
    Effect, NodeName, OperationName,
    api::{
        OperationInfo,
        plans::{PlanOperation, PlanReview},
    },
    json,
    plans::{Action, OnFailure, Plan, PlanError, Step},
    secret,
};

/// Flags of nodes that somebody has set aside: no plan is made for them.
pub(super) const ASIDE: [&str; 3] = ["maintenance", "cordoned", crate::fleet::FLAG_CLONED];
/// Things that are wrong which are told at once, and warnings.
const TOLD: usize = 20;

/// A plan that may be kept.
#[derive(Debug)]
pub(super) struct Checked {
    pub plan: Arc<Plan>,
    pub review: PlanReview,
    pub facts: Facts,
    uses: Vec<Use>,
}

/// An operation with all the nodes that the plan has it on.
#[derive(Debug)]
struct Use {
    name: OperationName,
    effect: Effect,
    nodes: Vec<Arc<NodeRecord>>,
}

impl Checked {
    /// # Errors
    /// Unless each operation may run on each of its nodes.
    pub async fn permitted(&self, permit: &Permit) -> Result<(), Denied> {
        for used in &self.uses {
            permit.operation(&used.name, used.effect, &used.nodes).await?;
        }
        Ok(())
    }
}

struct Looking<'a> {
    jobs: &'a Jobs,
    nodes: HashMap<NodeName, Arc<NodeRecord>>,
    operations: BTreeMap<OperationName, Option<Arc<OperationInfo>>>,
    /// By operation how often, and on which nodes.
    uses: BTreeMap<OperationName, (u32, BTreeSet<NodeName>)>,
    problems: Vec<PlanError>,
    warnings: Vec<String>,
}

/// Check a plan, in which the run has its name.
///
/// # Errors
/// What can't be right.
pub(super) async fn check(jobs: &Jobs, plan: Plan) -> Result<Checked, Vec<PlanError>> {
    plan.check().map_err(|error| vec![error])?;
    let plan = Arc::new(plan);
    let mut problems = expressions(plan.clone()).await;
    let mut looking = Looking {
        jobs,
        nodes: fleet::accepted(jobs),
        operations: BTreeMap::new(),
        uses: BTreeMap::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (index, step) in plan.steps.iter().enumerate() {
        looking.step(&plan, index, step);
    }
    problems.append(&mut looking.problems);
    if !problems.is_empty() {
        problems.truncate(TOLD);
        return Err(problems);
    }
    Ok(looking.checked(plan))
}

/// What is wrong with the expressions.
async fn expressions(plan: Arc<Plan>) -> Vec<PlanError> {
    if plan.steps.iter().all(|step| step.verify.as_ref().is_none_or(|verify| verify.expect.is_none())) {
        return Vec::new();
    }
    let all = move || {
        let wrong = |(index, step): (usize, &Step)| {
            let expect = step.verify.as_ref()?.expect.as_ref()?;
            let error = expression::compile(expect).err()?;
            let pointer = format!("/steps/{index}/verify/expect");
            Some(PlanError::new(Some(&step.id), pointer, format!("`expect`: the expression {error}")))
        };
        plan.steps.iter().enumerate().filter_map(wrong).take(TOLD).collect::<Vec<_>>()
    };
    let broken = |problem: String| vec![PlanError::new(None, "/steps", problem)];
    match tokio::task::spawn_blocking(move || expression::on_large_stack(all)).await {
        Ok(Ok(problems)) => problems,
        Ok(Err(error)) => broken(format!("an expression {error}")),
        Err(_) => broken("an expression can't be read".into()),
    }
}

impl Looking<'_> {
    fn step(&mut self, plan: &Plan, index: usize, step: &Step) {
        for (place, action) in step.actions() {
            let pointer = format!("/steps/{index}/{place}");
            let Some(info) = self.action(step, &pointer, action) else { continue };
            let name = &action.operation;
            match place {
                "verify/action" if info.effect != Effect::Read => self.wrong(
                    step,
                    format!("{pointer}/operation"),
                    format!("`verify` only looks, and `{name}` may {}", does(info.effect)),
                ),
                "act" if step.retries > 0 && !info.idempotent && info.effect != Effect::Read => self.wrong(
                    step,
                    format!("/steps/{index}/retries"),
                    format!("`{name}` is not idempotent: it is not tried again by itself"),
                ),
                "act"
                    if info.effect != Effect::Read
                        && step.undo.is_none()
                        && plan.on_failure == OnFailure::RollBack =>
                {
                    let does = does(info.effect);
                    self.warn(format!("step `{}` may {does}, and has no undo: a rollback leaves it", step.id));
                }
                "undo" if !info.idempotent && info.effect != Effect::Read => self.warn(format!(
                    "step `{}`: its undo, `{name}`, is not declared idempotent, and may be asked for more than once",
                    step.id
                )),
                _ => {}
            }
            if place == "undo" && info.effect == Effect::Destroy {
                self.warn(format!("step `{}`: its undo, `{name}`, may destroy data", step.id));
            }
        }
    }

    /// One operation on one node.
    fn action(&mut self, step: &Step, pointer: &str, action: &Action) -> Option<Arc<OperationInfo>> {
        let name = &action.operation;
        let jobs = self.jobs;
        let info = self.operations.entry(name.clone()).or_insert_with(|| jobs.info(name)).clone();
        let Some(info) = info else {
            let all = self.jobs.operation_names();
            let nearest = nearest_names(name.as_str(), all.iter().map(OperationName::as_str));
            let meant = nearest.first().map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
            let problem = format!("no node offers an operation `{name}`{meant}");
            self.wrong(step, format!("{pointer}/operation"), problem);
            return None;
        };
        if info.operation.planned {
            let problem = format!("`{name}` makes a plan itself: it has no place in one");
            self.wrong(step, format!("{pointer}/operation"), problem);
            return None;
        }
        if let Err(error) = json::check(&info.operation.signature.params_shape(), &action.args) {
            let problem = format!(
                "the arguments of `{name}` do not fit{}: expected {}, found {}",
                if error.pointer.is_empty() { String::new() } else { format!(" at {}", error.pointer) },
                error.expected,
                error.found
            );
            self.wrong(step, format!("{pointer}/args{}", error.pointer), problem);
        }
        let secrets = secret::names(&info.operation.signature.params_shape(), &action.args);
        if secrets.is_ok_and(|names| !names.is_empty()) {
            // Nobody's role could be asked when its turn has come.
            let problem = "plans give no secrets: run it by hand".to_owned();
            self.wrong(step, format!("{pointer}/args"), problem);
        }
        self.node(step, pointer, action, &info);
        let (times, nodes) = self.uses.entry(name.clone()).or_default();
        *times = times.saturating_add(1);
        nodes.insert(action.node.clone());
        Some(info)
    }

    fn node(&mut self, step: &Step, pointer: &str, action: &Action, info: &OperationInfo) {
        let (name, operation) = (&action.node, &action.operation);
        let pointer = format!("{pointer}/node");
        let Some(node) = self.nodes.get(name).cloned() else {
            let nearest = nearest_names(name.as_str(), self.nodes.keys().map(NodeName::as_str));
            let meant = nearest.first().map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
            return self.wrong(step, pointer, format!("there is no accepted node `{name}`{meant}"));
        };
        if let Some(flag) = ASIDE.into_iter().find(|flag| node.flags.contains(*flag)) {
            return self.wrong(step, pointer, format!("node {name} has the flag `{flag}`"));
        }
        match node.inventory.operation(operation) {
            Some((_, offered)) if offered.type_digest == info.type_digest => {}
            Some(_) => {
                self.wrong(
                    step,
                    pointer,
                    format!("node {name} has `{operation}` in a version of another type"),
                );
            }
            None => self.wrong(step, pointer, format!("node {name} does not offer `{operation}`")),
        }
    }

    fn wrong(&mut self, step: &Step, pointer: String, problem: String) {
        if self.problems.len() < TOLD {
            self.problems.push(PlanError::new(Some(&step.id), pointer, problem));
        }
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < TOLD {
            self.warnings.push(warning);
        } else if self.warnings.len() == TOLD {
            self.warnings.push("there is more of that kind".into());
        }
    }

    fn checked(mut self, plan: Arc<Plan>) -> Checked {
        let names: BTreeSet<NodeName> = self.uses.values().flat_map(|(_, nodes)| nodes).cloned().collect();
        for name in &names {
            if self.nodes.get(name).is_some_and(|node| !self.jobs.online(node.id)) {
                self.warn(format!("node {name} is not connected: the plan can't be applied before it is"));
            }
        }
        let facts = Facts::of(names.iter().filter_map(|name| self.nodes.get(name)));
        let mut uses = Vec::new();
        let mut operations = Vec::new();
        for (name, (times, on)) in &self.uses {
            let Some(info) = self.operations.get(name).cloned().flatten() else { continue };
            operations.push(PlanOperation { name: name.clone(), effect: info.effect, uses: *times });
            let nodes = on.iter().filter_map(|name| self.nodes.get(name).cloned()).collect();
            uses.push(Use { name: name.clone(), effect: info.effect, nodes });
        }
        let review = PlanReview {
            effect: operations.iter().map(|operation| operation.effect).max().unwrap_or(Effect::Read),
            nodes: names.into_iter().collect(),
            operations,
            warnings: self.warnings,
            fleet_version: facts.version(),
        };
        Checked { plan, review, facts, uses }
    }
}

fn does(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "only look",
        Effect::Change => "change something",
        Effect::Destroy => "destroy data",
    }
}
