//! Hosts that run an id once, keep what came of it until the master has it, and tell so when they connect.

use crate::jobs::{
    NodeEvents as _, ResultRecord,
    testing::{Grid, Sent, success},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};
use tokio::task::JoinHandle;
use windlass_types::{JobId, NodeId, Outcome, RequestId};

/// What a host does when it is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    /// It does nothing of it, and says that it failed.
    Fail,
    /// It does it, and says that it failed.
    Half,
    /// It does it and says nothing, until it is told to.
    Silent,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Done {
    pub node: NodeId,
    pub job: JobId,
    pub mark: u8,
    /// 0 for an action, 1 for an undo, 2 for a look.
    pub what: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    node: NodeId,
    result: Option<ResultRecord>,
    acknowledged: bool,
}

#[derive(Default)]
struct World {
    journal: HashMap<RequestId, Entry>,
    done: Vec<Done>,
    marks: BTreeSet<(NodeId, u8)>,
    /// For the next times that this is asked, in turn; then it is done.
    script: BTreeMap<(u8, u64), Vec<Reply>>,
}

#[derive(Default)]
pub(crate) struct Hosts {
    world: Arc<Mutex<World>>,
    serving: Option<JoinHandle<()>>,
}

impl World {
    fn run(&mut self, node: NodeId, request: RequestId, job: JobId, args: &Value) -> Option<ResultRecord> {
        if let Some(entry) = self.journal.get(&request) {
            return entry.result.clone();
        }
        let mark = u8::try_from(args["limit"].as_u64().unwrap()).unwrap();
        let what = args["big"].as_u64().unwrap_or(0);
        self.done.push(Done { node, job, mark, what });
        let script = self.script.entry((mark, what)).or_default();
        let reply = if script.is_empty() { Reply::Done } else { script.remove(0) };
        let mut value = Value::Null;
        match what {
            _ if reply == Reply::Fail => {}
            0 => drop(self.marks.insert((node, mark))),
            1 => drop(self.marks.remove(&(node, mark))),
            _ => value = json!({ "there": self.marks.contains(&(node, mark)) }),
        }
        let outcome = match reply {
            Reply::Done => Outcome::Succeeded { value },
            Reply::Fail | Reply::Half => Outcome::Failed { error: json!({ "other": "no luck" }) },
            Reply::Silent => Outcome::Indeterminate { message: "never told".into() },
        };
        let result = (reply != Reply::Silent).then(|| ResultRecord { outcome, ..success() });
        self.journal.insert(request, Entry { node, result: result.clone(), acknowledged: false });
        result
    }
}

impl Hosts {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What a mark comes to the next times; `what` as in [`Done`].
    pub fn script(&self, mark: u8, what: u64, replies: &[Reply]) {
        self.world().script.insert((mark, what), replies.to_vec());
    }

    pub fn done(&self) -> Vec<Done> {
        self.world().done.clone()
    }

    /// Marks that are there, with what made them undone in which order.
    pub fn marks(&self) -> BTreeSet<u8> {
        self.world().marks.iter().map(|(_, mark)| *mark).collect()
    }

    /// Marks in the order in which they were unmade.
    pub fn undone(&self) -> Vec<u8> {
        self.done().iter().filter(|done| done.what == 1).map(|done| done.mark).collect()
    }

    /// No job has run twice, whoever asked.
    pub fn assert_once(&self) {
        let done = self.done();
        let jobs: BTreeSet<JobId> = done.iter().map(|done| done.job).collect();
        assert_eq!(jobs.len(), done.len(), "a job ran twice: {done:#?}");
    }

    /// Answer what a master sends, until it ends.
    pub fn serve(&mut self, grid: &Grid) {
        let (world, jobs, mut sending) = (self.world.clone(), grid.jobs.clone(), grid.fleet.sending());
        let mut seen = sending.borrow_and_update().len();
        self.serving = Some(tokio::spawn(async move {
            loop {
                let new: Vec<Sent> = sending.borrow_and_update()[seen..].to_vec();
                seen += new.len();
                for sent in new {
                    match sent {
                        Sent::Run(node, request) => {
                            let Some((job, args)) = jobs.asked(request) else { continue };
                            jobs.accepted(node, request).await;
                            let result = world.lock().unwrap().run(node, request, job, &args);
                            if let Some(result) = result
                                && jobs.result(node, request, result).await.is_ok()
                                && let Some(entry) = world.lock().unwrap().journal.get_mut(&request)
                            {
                                entry.acknowledged = true;
                            }
                        }
                        Sent::Cancel(..) => {}
                    }
                }
                if sending.changed().await.is_err() {
                    return;
                }
            }
        }));
    }

    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    /// All nodes begin a session.
    pub async fn connect_all(&mut self, grid: &Grid) {
        for name in ["n1", "n2", "n3"] {
            self.connect(grid, name).await;
        }
    }

    /// A node begins a session: it tells its journal, and what the master does not have.
    pub async fn connect(&self, grid: &Grid, name: &str) {
        let node = grid.id(name);
        let entries: Vec<(RequestId, Option<ResultRecord>)> = {
            let world = self.world();
            let its = world.journal.iter().filter(|(_, entry)| entry.node == node && !entry.acknowledged);
            its.map(|(request, entry)| (*request, entry.result.clone())).collect()
        };
        let of = |finished: bool| {
            let its = entries.iter().filter(move |(_, result)| result.is_some() == finished);
            its.map(|(request, _)| *request).collect::<Vec<_>>()
        };
        grid.connect(name, &of(false), &of(true)).await;
        for (request, result) in entries {
            if let Some(result) = result
                && grid.jobs.result(node, request, result).await.is_ok()
                && let Some(entry) = self.world().journal.get_mut(&request)
            {
                entry.acknowledged = true;
            }
        }
    }

    /// What was silent is done with, as after a crash of the host: it is told with the next session.
    pub async fn forget_silent(&self, grid: &Grid, name: &str) {
        let node = self.silent(grid, name).await;
        for entry in self.world().journal.values_mut().filter(|entry| entry.node == node) {
            let outcome = Outcome::Indeterminate { message: "the host was restarted while it ran".into() };
            entry.result.get_or_insert_with(|| ResultRecord { outcome, ..success() });
        }
    }

    /// Wait until something is silent on a node.
    pub async fn silent(&self, grid: &Grid, name: &str) -> NodeId {
        let node = grid.id(name);
        let runs = |entry: &Entry| entry.node == node && entry.result.is_none();
        crate::testing::soon("something to run", async {
            while !self.world().journal.values().any(runs) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
        node
    }

    /// What was silent on a node is done, and told.
    pub async fn tell(&self, grid: &Grid, name: &str) {
        let node = self.silent(grid, name).await;
        for entry in self.world().journal.values_mut().filter(|entry| entry.node == node) {
            entry.result.get_or_insert_with(success);
        }
        self.connect(grid, name).await;
    }
}
