use super::*;
use crate::{
    config::Retention,
    jobs::testing::{Grid, OPERATION, new_job},
    store::{
        events::{self, Filter, NewEvent},
        rules::Match,
    },
    testing::soon,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    JobId, NodeId, NodeName,
    api::{Job, rules::FiringState as State},
};

/// Rules over jobs in memory.
struct Rig {
    grid: Grid,
    rules: Rules,
    recovered: bool,
    shutdown: CancellationToken,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn open(grid: &Grid, shutdown: &CancellationToken) -> Rules {
    windlass_identity::install_provider();
    let log = EventLog::new(grid.store.clone(), Retention::default(), shutdown.clone());
    Rules::open(grid.store.clone(), log, grid.jobs.clone()).await.unwrap()
}

impl Rig {
    async fn new() -> Self {
        let (grid, shutdown) = (Grid::new(&["n1", "n2"]).await, CancellationToken::new());
        let rules = open(&grid, &shutdown).await;
        Rig { grid, rules, recovered: false, shutdown }
    }

    /// What a master that starts finds.
    async fn restart(&mut self) {
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
        self.grid.restart().await;
        self.rules = open(&self.grid, &self.shutdown).await;
        self.recovered = false;
    }

    /// Look at all that has happened.
    async fn look(&mut self) {
        while self.rules.inner.look(&mut self.recovered, &self.shutdown).await.unwrap() {}
    }

    async fn make(&self, change: impl FnOnce(&mut NewRule)) -> Rule {
        let mut new = NewRule {
            name: "r".parse().unwrap(),
            kind: "test.*".into(),
            when: None,
            then: Then::Run(Box::new(new_job(&["n1"]))),
            most: 10,
            per_ms: 60_000,
            paused: false,
        };
        change(&mut new);
        self.rules.create(new, "ann").await.unwrap()
    }

    async fn happens(&self, event: NewEvent) {
        let write = self
            .grid
            .store
            .write::<(), StoreError, _>(move |c| Box::pin(async move { events::append(c, &[event]).await }));
        write.await.unwrap();
    }

    async fn jobs(&self) -> Vec<Job> {
        let mut jobs = self.grid.jobs.page(None, 1000).await.unwrap().0;
        jobs.reverse();
        jobs
    }

    async fn states(&self) -> Vec<State> {
        let firings = self.rules.firings("r", None, 1000).await.unwrap();
        firings.into_iter().rev().map(|firing| firing.state).collect()
    }
}

fn event(data: Value) -> NewEvent {
    NewEvent::new("test.happened", "x", data)
}

#[tokio::test]
async fn an_event_that_fits_makes_one_job() {
    let mut rig = Rig::new().await;
    rig.happens(event(json!({ "level": 9 }))).await;
    rig.make(|new| new.when = Some("event.data.level > 3".into())).await;
    for level in [1, 5, 2, 7] {
        rig.happens(event(json!({ "level": level }))).await;
    }
    rig.happens(event(json!({}))).await;
    rig.look().await;
    let jobs = rig.jobs().await;
    assert_eq!(jobs.len(), 2, "what was before it, and what does not fit, makes none");
    assert!(jobs.iter().all(|job| job.created_by == "rule:r" && job.operation.as_str() == OPERATION));
    assert_eq!(rig.states().await, [State::Done, State::Done]);
    rig.look().await;
    rig.restart().await;
    rig.look().await;
    assert_eq!(rig.jobs().await.len(), 2, "once each");
}

#[tokio::test]
async fn what_was_begun_is_done_once_by_the_next_master() {
    let mut rig = Rig::new().await;
    rig.make(|_| ()).await;
    rig.happens(event(json!({}))).await;
    let seq = events::last(&rig.grid.store).await.unwrap();
    let live = rig.rules.inner.find("r").unwrap().stored;
    let job = JobId::new();
    let (id, name) = (live.id.clone(), live.made.name.clone());
    let begun = rig.grid.store.write::<Vec<Match>, StoreError, _>(move |c| {
        Box::pin(async move {
            let found = [Match { seq, job: Some(job) }];
            rows::begin(c, (&id, &name), &found, (10, 0), seq, crate::now_ms()).await
        })
    });
    assert_eq!(begun.await.unwrap().len(), 1);
    // The master dies here.
    rig.restart().await;
    rig.look().await;
    assert_eq!(rig.jobs().await.iter().map(|job| job.id).collect::<Vec<_>>(), [job]);
    rig.restart().await;
    rig.look().await;
    assert_eq!(rig.jobs().await.len(), 1);
    assert_eq!(rig.states().await, [State::Done]);
}

#[tokio::test]
async fn rules_do_not_run_wild() {
    let mut rig = Rig::new().await;
    rig.make(|new| {
        new.kind = "*".into();
        new.most = 3;
    })
    .await;
    rig.happens(event(json!({}))).await;
    // Its own job is made, which is an event, and so is that it has fired: again and again.
    for _ in 0..5 {
        rig.look().await;
    }
    assert_eq!(rig.jobs().await.len(), 1, "what a rule does fires no rule");
    for _ in 0..9 {
        rig.happens(event(json!({}))).await;
    }
    rig.look().await;
    assert_eq!(rig.jobs().await.len(), 3, "no more within its time");
    let states = rig.states().await;
    assert_eq!(states.iter().filter(|state| **state == State::LeftOut).count(), 7);
    let only = Filter::new(Some("rule.left_out"), None).unwrap();
    assert_eq!(events::page(&rig.grid.store, &only, 0, 9).await.unwrap().len(), 1, "said once");
}

#[tokio::test]
async fn a_rule_can_act_where_it_happened() {
    let mut rig = Rig::new().await;
    rig.make(|new| new.then = Then::RunThere(Box::new(new_job(&[])))).await;
    let (n2, name): (NodeId, NodeName) = (rig.grid.id("n2"), "n2".parse().unwrap());
    rig.happens(event(json!({}))).await;
    rig.happens(NewEvent { node: Some((n2, name)), ..event(json!({})) }).await;
    rig.look().await;
    let jobs = rig.jobs().await;
    assert_eq!(jobs.len(), 1, "nowhere is no place");
    let nodes = rig.grid.jobs.nodes(jobs[0].id, -1, 9).await.unwrap().0;
    assert_eq!(nodes.iter().map(|(_, node)| node.node).collect::<Vec<_>>(), [n2]);
}

#[tokio::test]
async fn a_paused_rule_does_nothing_and_what_can_not_be_right_is_no_rule() {
    let mut rig = Rig::new().await;
    rig.make(|_| ()).await;
    rig.rules.pause("r", true, "ann").await.unwrap();
    rig.happens(event(json!({}))).await;
    rig.look().await;
    rig.rules.pause("r", false, "ann").await.unwrap();
    rig.look().await;
    assert_eq!(rig.jobs().await, []);
    rig.rules.delete("r", "ann").await.unwrap();
    assert!(matches!(rig.rules.get("r"), Err(RuleError::Unknown(_))));

    let bad = async |change: fn(&mut NewRule)| {
        let mut new = NewRule {
            name: "r".parse().unwrap(),
            kind: "test.*".into(),
            when: None,
            then: Then::Webhook("https://example.org".into()),
            most: 10,
            per_ms: 60_000,
            paused: false,
        };
        change(&mut new);
        rig.rules.create(new, "ann").await.unwrap_err().to_string()
    };
    assert!(bad(|new| new.kind = "rule.*".into()).await.contains("no rule"));
    assert!(bad(|new| new.when = Some("event.".into())).await.contains("expression"));
    assert!(bad(|new| new.then = Then::Webhook("http://example.org".into())).await.contains("https"));
    assert!(bad(|new| new.most = 0).await.contains("most"));
    assert!(bad(|new| new.per_ms = 1).await.contains("per_ms"));
}

/// Takes the first request badly and the others well; gives back their bodies.
async fn receiver() -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, bodies) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answer in ["503 Service Unavailable", "204 No Content"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = String::new();
            let body = loop {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                text += std::str::from_utf8(&bytes[..read]).unwrap();
                let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                if let Ok(body) = serde_json::from_str(body) {
                    break body;
                }
            };
            sender.send(body).unwrap();
            let reply = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    (url, bodies)
}

#[tokio::test]
async fn a_webhook_gets_the_event_and_is_called_again() {
    let mut rig = Rig::new().await;
    let (url, mut bodies) = receiver().await;
    rig.make(|new| new.then = Then::Webhook(url)).await;
    rig.happens(event(json!({ "level": 5 }))).await;
    rig.look().await;
    for _ in 0..2 {
        let body = soon("a call", bodies.recv()).await.unwrap();
        assert_eq!((&body["rule"], &body["event"]["data"]["level"]), (&json!("r"), &json!(5)));
    }
    soon("that it was taken", async {
        while rig.states().await != [State::Done] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
