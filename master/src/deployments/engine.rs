//! The decisions of a deployment, without any input or output.
//!
//! [`next`] looks at a roll-out, at what its nodes say, and at the time, and gives the roll-out as it
//! is now and what has to be given to which node. It is called again whenever anything has changed;
//! called twice with the same world, the second call changes nothing.

use windlass_types::{
    DeploymentId, Digest, NodeId, NodeName, PluginName,
    api::bundles::{
        DeploymentNodeState as At, DeploymentState as State, InstallStage, OnFailure, PluginVersion, Strategy,
    },
};

/// A deployment as the engine sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    pub id: DeploymentId,
    pub plugin: PluginName,
    pub state: State,
    /// Why, in words.
    pub reason: String,
    pub strategy: Strategy,
    /// Steps that have begun.
    pub begun: u32,
    /// Since when all nodes of the last of them have settled.
    pub soak_since_ms: Option<i64>,
    /// Failures that an operator has seen and accepted.
    pub forgiven: u32,
    /// In the order in which they have their turn.
    pub parts: Vec<Part>,
}

/// One node of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub node: NodeId,
    pub name: NodeName,
    pub step: u32,
    pub state: At,
    /// What it shall run; none for nothing.
    pub to: Option<Digest>,
    /// What it ran before.
    pub from: Option<PluginVersion>,
    pub problem: Option<String>,
    /// It was given `to`.
    pub given: bool,
    /// When it was last given something.
    pub sent_ms: i64,
    pub changed_ms: i64,
}

/// A node, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// It is accepted.
    pub member: bool,
    /// It can be changed now.
    pub online: bool,
    /// The flag that keeps it from being changed.
    pub held: Option<&'static str>,
    /// It has the plugin from its own folder.
    pub local: bool,
    pub pinned: bool,
    /// It has what it was last given on its disk.
    pub taken: bool,
    /// What it runs of the plugin.
    pub active: Option<Digest>,
    /// What it says about what it was given by this deployment.
    pub report: Option<Report>,
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub digest: Digest,
    pub stage: InstallStage,
    pub problem: Option<String>,
}

/// When it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub ms: i64,
    /// False just after a start, while nodes that are there have not come back yet: nothing is
    /// concluded from their absence.
    pub presence_known: bool,
}

/// Something a node is wanted to run from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct Give {
    pub node: NodeId,
    pub bundle: Option<Digest>,
    /// It goes back to what it had.
    pub back: bool,
}

/// What [`next`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    pub rollout: Rollout,
    pub give: Vec<Give>,
    /// Ask again by then, even if nothing happens.
    pub wake_ms: Option<i64>,
}

/// Why a deployment waits that has nobody to prove its bundle.
const UNPROVEN: &str = "no node has shown yet that it works: waiting for one to come online";

fn in_flight(part: &Part) -> bool {
    matches!(part.state, At::Sent | At::Installing)
}

fn failed(part: &Part) -> bool {
    matches!(part.state, At::Failed | At::RolledBack)
}

fn later(ms: i64, by: u64) -> i64 {
    ms.saturating_add(i64::try_from(by).unwrap_or(i64::MAX))
}

impl Part {
    fn enter(&mut self, state: At, problem: Option<String>, now: Now) {
        if self.state != state || self.problem != problem {
            self.state = state;
            self.problem = problem;
            self.changed_ms = now.ms;
        }
    }

    fn send(&mut self, now: Now) {
        let problem = self.problem.take();
        self.sent_ms = now.ms;
        self.enter(At::Sent, problem, now);
    }
}

/// The first step is the canary's, numbered 0; without one, numbers begin at 1.
pub fn first_step(strategy: &Strategy) -> u32 {
    u32::from(strategy.canary == 0)
}

/// Number the nodes by the step they will probably be in.
pub fn project(strategy: &Strategy, parts: &mut [Part]) {
    let (mut step, mut room) = (first_step(strategy), size(strategy, false));
    for part in parts.iter_mut().filter(|part| part.state == At::Waiting) {
        if room == 0 {
            step += 1;
            room = size(strategy, true);
        }
        part.step = step;
        room -= 1;
    }
}

/// How many nodes the next step has.
fn size(strategy: &Strategy, proven: bool) -> usize {
    let size = if !proven && strategy.canary > 0 { strategy.canary } else { strategy.batch };
    if size == 0 { usize::MAX } else { size as usize }
}

/// What now.
pub fn next(rollout: &Rollout, view: impl Fn(NodeId) -> View, now: Now) -> Next {
    let mut next = Next { rollout: rollout.clone(), give: Vec::new(), wake_ms: None };
    match rollout.state {
        State::Running => next.forward(&view, now),
        State::Paused => next.watch(&view, now),
        State::RollingBack => next.backward(&view, now),
        State::WaitingApproval
        | State::Succeeded
        | State::Failed
        | State::Aborted
        | State::RolledBack
        | State::Superseded => {}
    }
    next
}

impl Next {
    fn end(&mut self, state: State, reason: String) {
        self.rollout.state = state;
        self.rollout.reason = reason;
        self.wake_ms = None;
    }

    fn wake(&mut self, at_ms: i64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |wake| wake.min(at_ms)));
    }

    /// Look at every node on the way forward.
    fn watch(&mut self, view: &impl Fn(NodeId) -> View, now: Now) {
        let timeout = self.rollout.strategy.node_timeout_ms;
        let mut wake = Vec::new();
        for part in &mut self.rollout.parts {
            let view = view(part.node);
            if matches!(part.state, At::Waiting | At::Offline | At::Sent | At::Installing)
                && let Some(why) = not_ours(&view)
            {
                part.enter(At::Skipped, Some(why.into()), now);
                continue;
            }
            match part.state {
                At::Offline if view.online && part.given => part.send(now),
                At::Offline if view.online => part.enter(At::Waiting, None, now),
                _ => {}
            }
            if !part.given {
                continue;
            }
            let report = view.report.as_ref().filter(|report| Some(report.digest) == part.to);
            let problem = || report.and_then(|report| report.problem.clone());
            match (part.state, report.map(|report| report.stage)) {
                // Too late, but it did.
                (At::Sent | At::Installing | At::Failed, Some(InstallStage::Active)) => {
                    part.enter(At::Active, None, now);
                }
                (At::Sent | At::Installing | At::Active, Some(InstallStage::Failed)) => {
                    part.enter(At::Failed, Some(problem().unwrap_or_else(unsaid)), now);
                }
                (At::Sent | At::Installing | At::Active, Some(InstallStage::RolledBack)) => {
                    part.enter(At::RolledBack, Some(problem().unwrap_or_else(unsaid)), now);
                }
                (At::Sent | At::Installing, Some(_)) => part.enter(At::Installing, problem(), now),
                // It had it already, or it was told to run nothing.
                (At::Sent, None) if view.taken && view.active == part.to => {
                    part.enter(At::Active, None, now);
                }
                _ => {}
            }
            if in_flight(part) && now.presence_known {
                let end = later(part.sent_ms, timeout);
                if now.ms < end {
                    wake.push(end);
                } else if view.online {
                    part.enter(At::Failed, Some(format!("it did not finish within {timeout} ms")), now);
                } else {
                    part.enter(At::Offline, away(&view), now);
                }
            }
        }
        wake.into_iter().for_each(|at| self.wake(at));
    }

    fn forward(&mut self, view: &impl Fn(NodeId) -> View, now: Now) {
        self.watch(view, now);
        let rollout = &self.rollout;
        let failures = rollout.parts.iter().filter(|part| failed(part)).count();
        let allowed = rollout.strategy.max_failures.saturating_add(rollout.forgiven) as usize;
        if failures > allowed {
            let first = rollout.parts.iter().find(|part| failed(part));
            let why = first.map_or_else(String::new, |part| {
                format!(": {}: {}", part.name, part.problem.clone().unwrap_or_else(unsaid))
            });
            let reason = format!("{failures} {} failed{why}", nodes(failures));
            match rollout.strategy.on_failure {
                OnFailure::Pause => self.end(State::Paused, reason),
                OnFailure::Rollback => self.begin_rollback(reason, view, now),
            }
            return;
        }
        if rollout.parts.iter().any(in_flight) {
            self.rollout.soak_since_ms = None;
            return;
        }
        if !self.soaked(view, now) {
            return;
        }
        self.begin_step(view, now);
    }

    /// Whether the last step has been healthy for long enough.
    fn soaked(&mut self, view: &impl Fn(NodeId) -> View, now: Now) -> bool {
        let last = (first_step(&self.rollout.strategy) + self.rollout.begun).checked_sub(1);
        let mut there = self
            .rollout
            .parts
            .iter()
            .filter(|part| Some(part.step) == last && part.state == At::Active)
            .peekable();
        if self.rollout.begun == 0 || there.peek().is_none() {
            return true;
        }
        let all_online = there.all(|part| view(part.node).online);
        let since = *self.rollout.soak_since_ms.get_or_insert(now.ms);
        let end = later(since, self.rollout.strategy.soak_ms);
        // Who has vanished during its soak is no proof of health; but nobody is waited for for ever.
        let end = if all_online { end } else { later(end, self.rollout.strategy.node_timeout_ms) };
        if now.ms < end {
            self.wake(end);
        }
        now.ms >= end && (all_online || now.presence_known)
    }

    /// All that was given has settled: the next nodes, or the end.
    fn begin_step(&mut self, view: &impl Fn(NodeId) -> View, now: Now) {
        let rollout = &mut self.rollout;
        let proven = rollout.parts.iter().any(|part| part.state == At::Active);
        let step = first_step(&rollout.strategy) + rollout.begun;
        let room = size(&rollout.strategy, proven);
        let mut given = 0;
        for part in rollout.parts.iter_mut().filter(|part| part.state == At::Waiting) {
            if given < room && view(part.node).online {
                part.given = true;
                part.step = step;
                part.send(now);
                self.give.push(Give { node: part.node, bundle: part.to, back: false });
                given += 1;
            }
        }
        if given > 0 {
            rollout.begun += 1;
            rollout.soak_since_ms = None;
            if rollout.reason == UNPROVEN {
                rollout.reason.clear();
            }
            let end = later(now.ms, rollout.strategy.node_timeout_ms);
            self.wake(end);
            return;
        }
        if !now.presence_known && rollout.parts.iter().any(|part| part.state == At::Waiting) {
            return;
        }
        for part in rollout.parts.iter_mut().filter(|part| part.state == At::Waiting) {
            part.enter(At::Offline, away(&view(part.node)), now);
        }
        let count = |state: At| rollout.parts.iter().filter(|part| part.state == state).count();
        let failures = rollout.parts.iter().filter(|part| failed(part)).count();
        let (active, offline) = (count(At::Active), count(At::Offline));
        if offline > 0 && !proven && rollout.strategy.canary > 0 {
            // Nothing has proven the bundle, so nobody gets it unwatched.
            UNPROVEN.clone_into(&mut rollout.reason);
            return;
        }
        if active == 0 && offline == 0 && rollout.parts.iter().any(|part| part.state != At::Active) {
            let reason = format!("no node took it: {failures} failed, {} skipped", count(At::Skipped));
            self.end(State::Failed, reason);
            return;
        }
        let mut notes = Vec::new();
        if !rollout.reason.is_empty() {
            notes.push(std::mem::take(&mut rollout.reason));
        }
        if failures > 0 {
            notes.push(format!("{failures} {} failed", nodes(failures)));
        }
        if offline > 0 {
            notes.push(format!(
                "{offline} offline {} it on return",
                if offline == 1 { "node gets" } else { "nodes get" }
            ));
        }
        for part in rollout.parts.iter_mut().filter(|part| part.state == At::Offline && !part.given) {
            part.given = true;
            self.give.push(Give { node: part.node, bundle: part.to, back: false });
        }
        self.end(State::Succeeded, notes.join("; "));
    }

    /// Every node that was given the bundle gets back what it ran before.
    pub fn begin_rollback(&mut self, reason: String, view: &impl Fn(NodeId) -> View, now: Now) {
        self.rollout.state = State::RollingBack;
        self.rollout.reason = reason;
        self.rollout.soak_since_ms = None;
        for part in self.rollout.parts.iter_mut().filter(|part| part.given && part.state != At::Skipped) {
            part.send(now);
            let bundle = part.from.as_ref().map(|from| from.digest);
            self.give.push(Give { node: part.node, bundle, back: true });
        }
        let _ = view;
        let end = later(now.ms, self.rollout.strategy.node_timeout_ms);
        self.wake(end);
        if self.give.is_empty() {
            let reason = std::mem::take(&mut self.rollout.reason);
            self.end(State::RolledBack, reason);
        }
    }

    fn backward(&mut self, view: &impl Fn(NodeId) -> View, now: Now) {
        let timeout = self.rollout.strategy.node_timeout_ms;
        let mut wake = Vec::new();
        for part in self.rollout.parts.iter_mut().filter(|part| part.given) {
            let view = view(part.node);
            if matches!(part.state, At::Offline | At::Sent | At::Installing)
                && let Some(why) = not_ours(&view)
            {
                part.enter(At::Skipped, Some(why.into()), now);
            }
            if part.state == At::Offline && view.online {
                part.send(now);
            }
            if !in_flight(part) {
                continue;
            }
            let goal = part.from.as_ref().map(|from| from.digest);
            let report = view.report.as_ref().filter(|report| Some(report.digest) == goal && view.taken);
            let kept = part.problem.clone();
            match report.map(|report| report.stage) {
                Some(InstallStage::Active) => part.enter(At::RolledBack, kept, now),
                Some(InstallStage::Failed | InstallStage::RolledBack) => {
                    let why = report.and_then(|report| report.problem.clone()).unwrap_or_else(unsaid);
                    part.enter(At::Failed, Some(format!("it could not go back: {why}")), now);
                }
                None if view.taken && view.active == goal => part.enter(At::RolledBack, kept, now),
                Some(_) => part.enter(At::Installing, kept, now),
                None => {}
            }
            if in_flight(part) && now.presence_known {
                let end = later(part.sent_ms, timeout);
                if !view.online {
                    part.enter(At::Offline, kept_or_away(part, &view), now);
                } else if now.ms < end {
                    wake.push(end);
                } else {
                    let why = format!("it did not go back within {timeout} ms");
                    part.enter(At::Failed, Some(why), now);
                }
            }
        }
        wake.into_iter().for_each(|at| self.wake(at));
        if self.rollout.parts.iter().any(in_flight) {
            return;
        }
        let stuck = self.rollout.parts.iter().filter(|part| part.given && part.state == At::Failed).count();
        let reason = std::mem::take(&mut self.rollout.reason);
        match stuck {
            0 => self.end(State::RolledBack, reason),
            _ => self.end(State::Failed, format!("{reason}; {stuck} {} could not go back", nodes(stuck))),
        }
    }
}

fn nodes(count: usize) -> &'static str {
    if count == 1 { "node" } else { "nodes" }
}

fn unsaid() -> String {
    "the node did not say why".into()
}

/// Why no deployment changes this node; none if one may.
pub fn not_ours(view: &View) -> Option<&'static str> {
    if !view.member {
        Some("it is not part of the grid any more")
    } else if view.local {
        Some("it has the plugin from its own folder")
    } else if view.pinned {
        Some("it is pinned")
    } else {
        None
    }
}

fn away(view: &View) -> Option<String> {
    view.held.map(|flag| format!("its flag `{flag}` is set"))
}

fn kept_or_away(part: &Part, view: &View) -> Option<String> {
    part.problem.clone().or_else(|| away(view))
}
