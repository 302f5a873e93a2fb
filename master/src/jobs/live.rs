//! The jobs that run, in memory.
//!
//! One lock over all of them, held for moments and never across a wait. Messages to nodes are sent
//! under it (sending never waits), so a node gets a request and its cancellation in that order.

use super::{
    Pauses,
    events::Events,
    locks::{Holder, Locks},
    part::{Circumstances, Command, Input, Journal, Stage, Verdict, next},
    roll::Roll,
    runs::Unsettled,
    settle::Settle,
};
use crate::{
    fleet::{NodeRecord, Offline},
    secrets::{Pins, Vault},
};
use bytes::Bytes;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use windlass_identity::Letter;
use windlass_proto::v1::{Cancel, Run, SealedSecret, master_message::Kind};
use windlass_types::{
    Digest, JobId, NodeId, NodeName, Outcome, OutcomeKind, Refusal, RequestId,
    api::{Job, JobEventKind, JobNode, JobNodeState, JobState},
};

/// What is overdue is looked at this often, until its outcome is stored.
const AGAIN: Duration = Duration::from_secs(1);

/// The nodes as the jobs see them.
pub trait Nodes: Send + Sync + 'static {
    /// All nodes, by name.
    fn all(&self) -> Arc<Vec<Arc<NodeRecord>>>;
    fn node(&self, id: NodeId) -> Option<Arc<NodeRecord>>;
    /// True while it has a live session.
    fn online(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.online())
    }
    /// Send a message; never waits.
    ///
    /// # Errors
    /// If the node is not there.
    fn send(&self, id: NodeId, message: Kind) -> Result<(), Offline>;
}

impl Nodes for crate::fleet::Fleet {
    fn all(&self) -> Arc<Vec<Arc<NodeRecord>>> {
        self.nodes()
    }
    fn node(&self, id: NodeId) -> Option<Arc<NodeRecord>> {
        crate::fleet::Fleet::node(self, id)
    }
    fn send(&self, id: NodeId, message: Kind) -> Result<(), Offline> {
        crate::fleet::Fleet::send(self, id, message)
    }
}

/// Until when a node has to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub deadline: Instant,
    /// When it gets its outcome from us.
    pub grace: Instant,
}

/// One node of a running job.
#[derive(Debug)]
pub(super) struct Part {
    pub request: RequestId,
    pub node: NodeId,
    pub name: NodeName,
    pub stage: Stage,
    /// Where it was before it began to settle; it goes back there when the store fails.
    pub before: Stage,
    /// It has its outcome.
    pub done: bool,
    pub started_ms: Option<i64>,
    /// None until it has its turn.
    pub times: Option<Times>,
    /// Counts from 1.
    pub attempt: u32,
    /// What came of the attempt before.
    pub last: Option<Outcome>,
    /// How often the node has had no room for it, in a row.
    pub refused: u32,
    /// When it is asked again.
    pub again: Option<Instant>,
    /// The other id, under which it will be asked again, is on its way into the store.
    pub renaming: bool,
    /// The node may still run it after it has its outcome.
    pub astray: bool,
}

impl Part {
    /// One that waits for its turn, or with `times` has it.
    pub fn new(request: RequestId, node: NodeId, name: NodeName, times: Option<Times>) -> Self {
        let stage = if times.is_some() { Stage::Waiting } else { Stage::Held };
        Part {
            request,
            node,
            name,
            stage,
            before: stage,
            done: false,
            started_ms: None,
            times,
            attempt: 1,
            last: None,
            refused: 0,
            again: None,
            renaming: false,
            astray: false,
        }
    }

    /// As the API shows it while it has no outcome.
    pub fn state(&self) -> JobNodeState {
        match if self.stage == Stage::Settling { self.before } else { self.stage } {
            Stage::Held | Stage::Waiting => JobNodeState::Waiting,
            Stage::Sent => JobNodeState::Sent,
            Stage::Accepted => JobNodeState::Accepted,
            Stage::Running | Stage::Settling => JobNodeState::Running,
        }
    }

    pub fn to_api(&self) -> JobNode {
        JobNode {
            node: self.node,
            name: self.name.clone(),
            state: self.state(),
            outcome: None,
            stats: None,
            plugin_digest: None,
            plugin_version: None,
            started_ms: self.started_ms,
            finished_ms: None,
            attempts: Some(self.attempt).filter(|attempt| *attempt > 1),
            output_bytes: None,
        }
    }
}

/// A running job.
#[derive(Debug)]
pub(super) struct LiveJob {
    /// As it was made; what moves stands beside it.
    pub made: Job,
    /// The arguments as they go to the nodes.
    pub args_json: Bytes,
    pub type_digest: Digest,
    /// The stored secrets that the arguments name, as they were when the job was made.
    pub secrets: Pins,
    pub cancel_requested: bool,
    /// How long each node has from its turn on.
    pub node_time: Duration,
    /// And how long after that it may tell what became of it.
    pub grace: Duration,
    /// None when all nodes have their turn at once.
    pub roll: Option<Roll>,
    /// A node's time begins when it is asked, and anew each time; else all have the deadline of the job.
    pub own_times: bool,
    /// When it is to be looked at.
    pub timer: Option<Instant>,
    pub parts: Vec<Part>,
    /// Parts without an outcome.
    pub open: usize,
    pub counts: HashMap<OutcomeKind, u32>,
    pub events: Arc<Events>,
    /// The job, once it is finished.
    pub finished: watch::Sender<Option<Job>>,
}

impl LiveJob {
    pub fn to_api(&self) -> Job {
        Job {
            cancel_requested: self.cancel_requested,
            outcomes: self.counts.iter().map(|(kind, number)| (*kind, *number)).collect(),
            ..self.made.clone()
        }
    }

    /// A dry run changes nothing and waits for nobody.
    fn takes_locks(&self) -> bool {
        !self.made.locks.is_empty() && !self.made.dry_run
    }

    fn circumstances(&self, part: &Part) -> Circumstances {
        Circumstances {
            cancel_requested: self.cancel_requested,
            past_deadline: part.times.is_some_and(|times| Instant::now() >= times.deadline),
        }
    }

    /// For a node whose turn begins now.
    pub fn times(&self) -> Times {
        let deadline = Instant::now() + self.node_time;
        Times { deadline, grace: deadline + self.grace }
    }

    /// When the next of its open parts is due; `again` for those that are overdue.
    fn wake(&self, now: Instant, again: Duration) -> Option<Instant> {
        let due = |times: Times| match now {
            now if now < times.deadline => times.deadline,
            now if now < times.grace => times.grace,
            // Its outcome is on the way. Only a failing store makes it come to that.
            now => now + again,
        };
        let open = || self.parts.iter().filter(|part| !part.done);
        open().filter_map(|part| part.times.map(due)).chain(open().filter_map(|part| part.again)).min()
    }

    /// Why this node can't run it; none if it can.
    fn refusal(&self, node: &NodeRecord) -> Option<(Refusal, String)> {
        let name = &self.made.operation;
        match node.inventory.operation(name) {
            Some((_, operation)) if operation.type_digest == self.type_digest => None,
            Some((plugin, _)) => Some((
                Refusal::TypeChanged,
                format!(
                    "`{name}` has another type in version {} of the plugin, which this node has",
                    plugin.version
                ),
            )),
            None => {
                let plugin = node.inventory.plugin(&name.plugin());
                Some(match plugin.and_then(|plugin| plugin.problem.as_ref()) {
                    Some(problem) => (
                        Refusal::PluginUnusable,
                        format!("plugin `{}` can't be used on this node: {problem}", name.plugin()),
                    ),
                    None if plugin.is_some() => (
                        Refusal::UnknownOperation,
                        format!(
                            "plugin `{}` of this node has no operation `{}`",
                            name.plugin(),
                            name.local()
                        ),
                    ),
                    None => {
                        (Refusal::UnknownOperation, format!("this node has no plugin `{}`", name.plugin()))
                    }
                })
            }
        }
    }

    /// The secrets for a node, sealed to it; or why it can't have them.
    fn sealed(
        &self,
        request: RequestId,
        node: &NodeRecord,
        vault: &Vault,
    ) -> Result<Vec<SealedSecret>, (Refusal, String)> {
        let refused = |message: String| (Refusal::Secret, message);
        if self.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let key = node.sealing_key.as_ref().ok_or_else(|| {
            refused("the host of this node is of a version that takes no secrets: update it".into())
        })?;
        let sealed = self.secrets.iter().map(|(name, pin)| {
            let value = vault.value(name, pin).map_err(|error| refused(error.to_string()))?;
            let letter = Letter { request, job: self.made.id, operation: &self.made.operation, name };
            let sealed =
                key.seal(letter, &value).map_err(|error| refused(format!("secret `{name}`: {error}")))?;
            Ok(SealedSecret { name: name.to_string(), sealed: sealed.into() })
        });
        sealed.collect()
    }

    fn run_message(&self, part: &Part, secrets: Vec<SealedSecret>) -> Kind {
        let remaining = part
            .times
            .map_or(self.node_time, |times| times.deadline.saturating_duration_since(Instant::now()));
        let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = match self.own_times {
            false => self.made.deadline_ms,
            true => crate::now_ms().saturating_add(i64::try_from(remaining_ms).unwrap_or(i64::MAX)),
        };
        Kind::Run(Run {
            request_id: part.request.to_string(),
            job_id: self.made.id.to_string(),
            operation: self.made.operation.to_string(),
            args_json: self.args_json.clone(),
            type_digest: self.type_digest.to_string(),
            deadline_ms,
            remaining_ms,
            dry_run: self.made.dry_run,
            secrets,
        })
    }
}

/// The jobs that run, and how to find their parts.
pub(super) struct Live {
    nodes: Arc<dyn Nodes>,
    settle: mpsc::UnboundedSender<Settle>,
    pub jobs: HashMap<JobId, LiveJob>,
    requests: HashMap<RequestId, (JobId, u32)>,
    by_node: HashMap<NodeId, Vec<RequestId>>,
    /// When to look at which job.
    pub timers: BinaryHeap<Reverse<(Instant, JobId)>>,
    /// Wakes who waits for the first of them, when another one is the first.
    pub timer: Arc<Notify>,
    /// Parts whose stage has yet to be noted in the store.
    pub dirty: Vec<(JobId, u32)>,
    /// Jobs in which somebody may have a turn.
    pub rolling: BTreeSet<JobId>,
    /// Wakes who gives out the turns.
    pub turn: Arc<Notify>,
    pub locks: Locks,
    pub unsettled: Unsettled,
    /// Shortest pauses before a node is asked again.
    pub pauses: Pauses,
    vault: Vault,
}

impl Live {
    pub fn new(
        nodes: Arc<dyn Nodes>,
        settle: mpsc::UnboundedSender<Settle>,
        pauses: Pauses,
        vault: Vault,
    ) -> Self {
        Live {
            nodes,
            settle,
            jobs: HashMap::new(),
            requests: HashMap::new(),
            by_node: HashMap::new(),
            timers: BinaryHeap::new(),
            timer: Arc::default(),
            dirty: Vec::new(),
            rolling: BTreeSet::new(),
            turn: Arc::default(),
            locks: Locks::default(),
            unsettled: Unsettled::new(),
            pauses,
            vault,
        }
    }

    /// Take a job in.
    pub fn insert(&mut self, job: LiveJob) {
        let id = job.made.id;
        for (part, position) in job.parts.iter().zip(0..) {
            if !part.done {
                self.requests.insert(part.request, (id, position));
                self.by_node.entry(part.node).or_default().push(part.request);
            }
        }
        if job.roll.is_some() {
            self.roll(id);
        }
        self.jobs.insert(id, job);
        self.schedule(id);
    }

    /// Somebody in this job may have a turn.
    fn roll(&mut self, id: JobId) {
        self.rolling.insert(id);
        self.turn.notify_one();
    }

    /// Look at a job when the next of its parts is due.
    pub fn schedule(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(at) = job.wake(Instant::now(), AGAIN) else { return };
        if job.timer.is_none_or(|timer| at < timer) {
            job.timer = Some(at);
            if self.timers.peek().is_none_or(|Reverse((first, _))| at < *first) {
                self.timer.notify_one();
            }
            self.timers.push(Reverse((at, id)));
        }
    }

    /// Give the jobs that are due what time brings.
    pub fn tick(&mut self, now: Instant) {
        while self.timers.peek().is_some_and(|Reverse((when, _))| *when <= now) {
            let Some(Reverse((when, id))) = self.timers.pop() else { break };
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.timer == Some(when)) else { continue };
            job.timer = None;
            let due = |part: &Part| {
                let times = part.times.filter(|_| !part.done)?;
                match times {
                    times if times.grace <= now => Some(Input::Grace),
                    times if times.deadline <= now => Some(Input::Deadline),
                    _ => part.again.filter(|again| *again <= now).map(|_| Input::Deliver),
                }
            };
            let inputs: Vec<(u32, Input)> =
                (0..).zip(&job.parts).filter_map(|(position, part)| Some((position, due(part)?))).collect();
            for (position, input) in inputs {
                self.step((id, position), input);
            }
            self.schedule(id);
        }
    }

    /// These have their turn.
    pub fn release(&mut self, id: JobId, positions: &[u32]) {
        for position in positions {
            let Some(job) = self.jobs.get_mut(&id) else { return };
            let times = job.times();
            let Some(part) = job.parts.get_mut(*position as usize) else { continue };
            part.times.get_or_insert(times);
            self.step((id, *position), Input::Release);
            self.step((id, *position), Input::Deliver);
        }
        self.schedule(id);
    }

    /// Parts without an outcome.
    pub fn open(&self) -> usize {
        self.requests.len()
    }
    /// The part a request means, if it is open.
    pub fn find(&self, request: RequestId) -> Option<(JobId, u32)> {
        self.requests.get(&request).copied()
    }
    /// The open requests of a node.
    pub fn requests_of(&self, node: NodeId) -> Vec<RequestId> {
        self.by_node.get(&node).cloned().unwrap_or_default()
    }
    pub fn part(&self, (job, position): (JobId, u32)) -> Option<&Part> {
        self.jobs.get(&job)?.parts.get(position as usize)
    }
    pub fn part_mut(&mut self, (job, position): (JobId, u32)) -> Option<&mut Part> {
        self.jobs.get_mut(&job)?.parts.get_mut(position as usize)
    }

    /// A part is asked under another id.
    pub fn rename(&mut self, old: RequestId, new: RequestId, node: NodeId, place: (JobId, u32)) {
        self.requests.remove(&old);
        self.requests.insert(new, place);
        for known in self.by_node.entry(node).or_default().iter_mut().filter(|known| **known == old) {
            *known = new;
        }
    }

    /// Tell a node to cancel a request that nobody waits for.
    pub fn cancel_stray(&self, node: NodeId, request: RequestId) {
        // Offline: it will ask again with its next session.
        let _ = self.nodes.send(node, Kind::Cancel(Cancel { request_id: request.to_string() }));
    }

    /// Let something happen to all open parts of a job.
    pub fn step_all(&mut self, id: JobId, input: Input) {
        let number = self.jobs.get(&id).map_or(0, |job| job.parts.len());
        for position in (0..).take(number) {
            self.step((id, position), input);
        }
    }

    /// Let something happen to a part.
    pub fn step(&mut self, (id, position): (JobId, u32), input: Input) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(part) = job.parts.get(position as usize).filter(|part| !part.done) else { return };
        let circumstances = job.circumstances(part);
        let (node, request) = (part.node, part.request);
        let (stage, command) = next(part.stage, input, circumstances);
        if input == Input::Deliver
            && let Some(part) = job.parts.get_mut(position as usize)
        {
            part.again = None;
        }
        match command {
            Command::Nothing | Command::Store => self.enter((id, position), stage),
            Command::Cancel => {
                self.enter((id, position), stage);
                self.cancel_stray(node, request);
            }
            Command::Run => {
                let Some(record) = self.nodes.node(node).filter(|_| self.nodes.online(node)) else { return };
                if let Some((reason, message)) = job.refusal(&record) {
                    self.settle((id, position), Outcome::Refused { reason, message });
                    return;
                }
                let sealed = match job.sealed(request, &record, &self.vault) {
                    Ok(sealed) => sealed,
                    Err((reason, message)) => {
                        self.settle((id, position), Outcome::Refused { reason, message });
                        return;
                    }
                };
                if job.takes_locks()
                    && self.locks.take(node, ((id, position), request), &job.made.locks).is_err()
                {
                    // It has its turn when they are free.
                    return self.enter((id, position), Stage::Waiting);
                }
                let times = job.made.wait_offline_ms.map(|_| job.times());
                let Some(part) = job.parts.get_mut(position as usize) else { return };
                // It was waited for: its time begins now.
                part.times = times.or(part.times);
                let Some(part) = job.parts.get(position as usize) else { return };
                let message = job.run_message(part, sealed);
                if self.nodes.send(node, message).is_ok() {
                    self.enter((id, position), stage);
                } else {
                    self.locks.release(node, ((id, position), request));
                }
                if times.is_some() {
                    self.schedule(id);
                }
            }
            Command::Settle(verdict) => {
                let outcome = self.outcome((id, position), verdict, node);
                // It was sent, and the node has not said that it does not have it.
                let astray = input != Input::Connected(Journal::Nothing)
                    && self.part((id, position)).is_some_and(|part| {
                        matches!(part.stage, Stage::Sent | Stage::Accepted | Stage::Running)
                    });
                if let Some(part) = self.part_mut((id, position)) {
                    part.astray = astray;
                }
                self.settle((id, position), outcome);
            }
        }
    }

    /// The node has it: so it has its locks, whatever was known before.
    pub fn hold(&mut self, (id, position): (JobId, u32)) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.takes_locks()) else { return };
        if let Some(part) = job.parts.get(position as usize).filter(|part| !part.done) {
            self.locks.has(part.node, ((id, position), part.request), &job.made.locks);
        }
    }

    /// Give those who wait for locks on a node another try.
    pub fn unlock(&mut self, node: NodeId) {
        for place in self.locks.waiting(node) {
            self.step(place, Input::Deliver);
        }
    }

    fn outcome(&self, place: (JobId, u32), verdict: Verdict, node: NodeId) -> Outcome {
        let part = self.part(place);
        let waits = part.is_some_and(|part| part.stage == Stage::Waiting);
        if verdict == Verdict::NoAnswer
            && waits
            && let Some(part) = part
            && let Some(holder) = self.locks.holder(node, (place, part.request))
        {
            return Outcome::Refused { reason: Refusal::Locked, message: self.locked(holder) };
        }
        // It did answer, and was not asked again.
        if let Verdict::NoAnswer | Verdict::NotStarted = verdict
            && let Some(last) = part.filter(|_| waits).and_then(|part| part.last.clone())
        {
            return last;
        }
        match verdict {
            Verdict::NoAnswer => Outcome::NoAnswer {
                last_seen_ms: self.nodes.node(node).and_then(|record| record.last_seen_ms()),
            },
            Verdict::NotStarted => Outcome::Cancelled { started: false },
            Verdict::Stopped => Outcome::Refused {
                reason: Refusal::Stopped,
                message: "too many nodes of the job had failed before it was this one's turn".into(),
            },
            Verdict::Forgotten => Outcome::Indeterminate {
                message: "the node had accepted the request and does not know it any more".into(),
            },
            Verdict::Silent => Outcome::Indeterminate {
                message: "the node had accepted the request and told no result before the deadline".into(),
            },
        }
    }

    fn locked(&self, holder: Holder) -> String {
        let job = match holder {
            Holder::Request(request) => self.find(request).map(|(job, _)| job),
            Holder::Waiting((job, _)) => Some(job),
            Holder::Astray(_) => None,
        };
        match job {
            Some(job) => format!("job {job} had what it needs for itself until the deadline"),
            None => "the node may still run an operation whose job is over, until the deadline".to_owned(),
        }
    }

    /// A result goes its way into the store.
    pub fn store(&self, settle: Settle) {
        // An error means that the master is going down: the host is not answered and keeps it.
        let _ = self.settle.send(settle);
    }

    /// An outcome of our own goes its way into the store.
    fn settle(&mut self, place: (JobId, u32), outcome: Outcome) {
        self.enter(place, Stage::Settling);
        let started_ms = self.part(place).and_then(|part| part.started_ms);
        // An error means that the master is going down; the next one settles it again.
        let _ = self.settle.send(Settle::own(place, outcome, started_ms));
    }

    fn enter(&mut self, (id, position): (JobId, u32), stage: Stage) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (times, takes_locks) = (job.times(), job.takes_locks());
        let Some(part) = job.parts.get_mut(position as usize) else { return };
        if part.stage == stage {
            return;
        }
        if stage == Stage::Settling {
            part.before = part.stage;
            part.stage = stage;
            return;
        }
        part.stage = stage;
        // A held part that a node turns out to have: its time begins now.
        let unheld = stage != Stage::Held && part.times.is_none();
        if unheld {
            part.times = Some(times);
        }
        if stage == Stage::Running && part.started_ms.is_none() {
            part.started_ms = Some(crate::now_ms());
        }
        if matches!(stage, Stage::Accepted | Stage::Running) {
            self.dirty.push((id, position));
            if takes_locks {
                self.locks.has(part.node, ((id, position), part.request), &job.made.locks);
            }
        }
        job.events.push(|| JobEventKind::Node { node: part.to_api() });
        if unheld {
            self.schedule(id);
        }
    }

    /// The store would not take the outcome: the part is open again.
    pub fn unsettle(&mut self, (id, position): (JobId, u32)) {
        let Some(part) = self.jobs.get_mut(&id).and_then(|job| job.parts.get_mut(position as usize)) else {
            return;
        };
        (part.renaming, part.astray) = (false, false);
        if part.stage == Stage::Settling && !part.done {
            part.stage = part.before;
            if part.stage == Stage::Held {
                self.roll(id);
            }
        }
    }

    /// An outcome is committed. Gives back false if the part was done already.
    pub fn done(&mut self, (id, position): (JobId, u32), node: JobNode, now_ms: i64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let Some(part) = job.parts.get_mut(position as usize).filter(|part| !part.done) else { return false };
        let Some(kind) = node.outcome.as_ref().map(Outcome::kind) else { return false };
        part.done = true;
        let locked = (part.node, part.request, part.astray);
        self.requests.remove(&part.request);
        if let Some(requests) = self.by_node.get_mut(&part.node) {
            requests.retain(|request| *request != part.request);
            if requests.is_empty() {
                self.by_node.remove(&part.node);
            }
        }
        *job.counts.entry(kind).or_default() += 1;
        job.open -= 1;
        job.events.push(|| JobEventKind::Node { node });
        let takes_locks = job.takes_locks();
        if job.open == 0 {
            self.finish(id, now_ms);
        } else if job.roll.is_some() {
            self.roll(id);
        }
        let (node, request, astray) = locked;
        if astray {
            self.unsettled.stray(node, request);
        }
        if takes_locks {
            self.locks.release(node, ((id, position), request));
            if astray {
                self.locks.stray(node, request);
            }
            self.unlock(node);
        }
        true
    }

    fn finish(&mut self, id: JobId, now_ms: i64) {
        let Some(job) = self.jobs.remove(&id) else { return };
        let made = Job { state: JobState::Finished, finished_ms: Some(now_ms), ..job.to_api() };
        job.events.push(|| JobEventKind::Finished { job: made.clone() });
        job.finished.send_replace(Some(made));
    }
}
