use super::{
    testing::{Grid, LAST_SEEN_MS, Sent, new_job, success},
    *,
};
use crate::testing::soon;
use futures_util::StreamExt as _;
use proptest::prelude::*;
use serde_json::json;
use windlass_types::{
    OutcomeKind, Refusal,
    api::{Batch, JobEvent, JobEventKind, JobState},
    trace::{TraceDetail, TraceEntry, Verdict},
};

fn kinds(outcomes: &std::collections::BTreeMap<String, Outcome>) -> Vec<(&str, OutcomeKind)> {
    outcomes.iter().map(|(name, outcome)| (name.as_str(), outcome.kind())).collect()
}

async fn count(grid: &Grid, sql: &'static str) -> i64 {
    let row = crate::store::sql::query(sql).fetch_one(grid.store.readers()).await.unwrap();
    row.try_get("number").unwrap()
}

#[tokio::test]
async fn a_job_from_begin_to_end() {
    let grid = Grid::new(&["n1", "n2"]).await;
    let new = NewJob { args: json!({ "limit": 3, "big": u64::MAX }), ..new_job(&["n*"]) };
    let created = grid.jobs.create(new, "ann").await.unwrap();
    let id = created.job.id;
    assert_eq!(
        (created.job.nodes, created.job.state, &*created.job.created_by),
        (2, JobState::Running, "ann")
    );
    assert_eq!(grid.jobs.nodes(id, -1, 9).await.unwrap().0[0].1.state, JobNodeState::Sent);

    grid.accept("n1").await;
    grid.jobs.started(grid.id("n1"), grid.request("n1")).await;
    let (nodes, _) = grid.jobs.nodes(id, -1, 9).await.unwrap();
    assert_eq!(nodes[0].1.state, JobNodeState::Running);
    assert!(nodes[0].1.started_ms.is_some());

    let traced = TraceEntry {
        seq: 0,
        at_us: 1,
        duration_us: 2,
        function: "probes.cpu".into(),
        detail: TraceDetail::Probe { probe: "cpu".into() },
        verdict: Verdict::Allowed { rule: "probes".into() },
        error: None,
    };
    let result = ResultRecord { trace: vec![traced.clone()], ..success() };
    grid.jobs.result(grid.id("n1"), grid.request("n1"), result).await.unwrap();
    assert_eq!(grid.jobs.get(id).await.unwrap().unwrap().outcomes, [(OutcomeKind::Succeeded, 1)].into());
    grid.succeed("n2").await.unwrap();
    let job = grid.finished(id).await;
    assert_eq!(job.outcomes, [(OutcomeKind::Succeeded, 2)].into());
    assert!(job.finished_ms.is_some());
    assert_eq!(job.args["big"], json!(u64::MAX));
    assert_eq!(grid.jobs.running(), 0);

    let (nodes, more) = grid.jobs.nodes(id, -1, 1).await.unwrap();
    assert!(more && nodes[0].1.name.as_str() == "n1");
    assert_eq!(nodes[0].1.outcome, Some(success().outcome));
    assert_eq!(nodes[0].1.stats, Some(success().stats));
    let (rest, more) = grid.jobs.nodes(id, i64::from(nodes[0].0), 1).await.unwrap();
    assert!(!more && rest[0].1.name.as_str() == "n2");
    assert_eq!(grid.jobs.trace(id, "n1").await.unwrap().unwrap().entries, [traced]);
    assert_eq!(grid.jobs.trace(id, "n3").await.unwrap(), None);
    assert!(matches!(grid.jobs.trace(JobId::new(), "n1").await, Err(JobError::UnknownJob(_))));
    assert_eq!(grid.jobs.page(None, 10).await.unwrap().0, [job]);
}

#[tokio::test]
async fn what_cannot_be_right_makes_no_job() {
    let grid = Grid::new(&["n1"]).await;
    let create = async |change: fn(&mut NewJob)| {
        let mut new = new_job(&["n1"]);
        change(&mut new);
        grid.jobs.create(new, "ann").await.unwrap_err()
    };
    let unknown = create(|new| new.operation = "monitor.system.reed".parse().unwrap()).await;
    assert!(
        matches!(unknown, JobError::UnknownOperation { nearest, .. } if nearest == ["monitor.system.read"])
    );
    let bad = create(|new| new.args = json!({ "limit": 256 })).await;
    assert!(matches!(bad, JobError::BadArguments(error) if error.pointer == "/limit"));
    let extra = create(|new| new.args = json!({ "limti": 1 })).await;
    assert!(matches!(extra, JobError::BadArguments(error) if error.hint.is_some()));
    assert!(matches!(create(|new| new.args = json!([])).await, JobError::BadArguments(_)));
    let nobody = create(|new| new.target.on = vec!["x*".into()]).await;
    assert!(matches!(nobody, JobError::Target(TargetError::Empty { .. })));
    for deadline in [0, u64::MAX] {
        let new = NewJob { deadline_ms: Some(deadline), ..new_job(&["n1"]) };
        assert!(matches!(grid.jobs.create(new, "ann").await, Err(JobError::BadDeadline { .. })));
    }
    assert_eq!((grid.fleet.sent(), grid.jobs.page(None, 1).await.unwrap().0), (vec![], vec![]));
}

#[tokio::test]
async fn who_waits_gets_the_results() {
    let grid = Arc::new(Grid::new(&["n1"]).await);
    let waiting = tokio::spawn({
        let jobs = grid.jobs.clone();
        async move { jobs.create_and_wait(new_job(&["n1"]), "ann", Duration::from_secs(20)).await.unwrap() }
    });
    soon("the request", async {
        while grid.fleet.sent().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    grid.succeed("n1").await.unwrap();
    let job = soon("the reply", waiting).await.unwrap();
    assert_eq!(job.state, JobState::Finished);
    assert_eq!(job.results.unwrap()[0].outcome, Some(success().outcome));

    let slow = grid.jobs.create_and_wait(new_job(&["n1"]), "ann", Duration::from_millis(5)).await.unwrap();
    assert_eq!((slow.state, slow.results), (JobState::Running, None));
}

#[tokio::test]
async fn a_node_that_comes_in_time_gets_it_and_one_that_does_not_gave_no_answer() {
    let grid = Grid::new(&["early", "late", "never", "silent", "unsure"]).await;
    for name in ["early", "late", "never"] {
        grid.offline(name);
    }
    let new = NewJob { deadline_ms: Some(300), ..new_job(&["*"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    grid.connect("early", &[], &[]).await;
    grid.succeed("early").await.unwrap();
    grid.accept("silent").await;
    // `unsure` was sent the request and never says a word.
    let job = grid.finished(id).await;
    let outcomes = grid.outcomes(id).await;
    assert_eq!(
        kinds(&outcomes),
        [
            ("early", OutcomeKind::Succeeded),
            ("late", OutcomeKind::NoAnswer),
            ("never", OutcomeKind::NoAnswer),
            ("silent", OutcomeKind::Indeterminate),
            ("unsure", OutcomeKind::NoAnswer),
        ]
    );
    assert_eq!(outcomes["never"], Outcome::NoAnswer { last_seen_ms: Some(LAST_SEEN_MS) });
    assert_eq!(job.outcomes.values().sum::<u32>(), 5);
    grid.connect("late", &[], &[]).await;
    assert_eq!(grid.fleet.runs(grid.id("late")), []);

    // What comes after the end changes nothing, and the node is told to stop.
    grid.succeed("silent").await.unwrap();
    grid.accept("unsure").await;
    assert_eq!(grid.fleet.cancel_of(grid.id("unsure")).await, grid.request("unsure"));
    assert_eq!(grid.outcomes(id).await, outcomes);
}

#[tokio::test]
async fn cancelling() {
    let grid = Grid::new(&["runs", "waits", "away"]).await;
    grid.offline("waits");
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    grid.accept("runs").await;
    grid.accept("away").await;
    grid.offline("away");
    let job = grid.jobs.cancel(id, "bob").await.unwrap();
    assert!(job.cancel_requested);
    assert_eq!(grid.fleet.cancel_of(grid.id("runs")).await, grid.request("runs"));
    // It has the request, and hears of the end of it when it comes back.
    grid.connect("away", &[grid.request("away")], &[]).await;
    grid.fleet.cancel_of(grid.id("away")).await;
    let cancelled = ResultRecord { outcome: Outcome::Cancelled { started: true }, ..success() };
    for name in ["runs", "away"] {
        grid.jobs.result(grid.id(name), grid.request(name), cancelled.clone()).await.unwrap();
    }
    let job = grid.finished(id).await;
    assert_eq!(job.outcomes, [(OutcomeKind::Cancelled, 3)].into());
    assert_eq!(grid.outcomes(id).await["waits"], Outcome::Cancelled { started: false });
    assert_eq!(grid.fleet.runs(grid.id("waits")), []);
    assert!(matches!(grid.jobs.cancel(id, "bob").await, Err(JobError::Finished(_))));
    assert!(matches!(grid.jobs.cancel(JobId::new(), "bob").await, Err(JobError::UnknownJob(_))));
    let log = audit::page(&grid.store, None, 9).await.unwrap();
    let log: Vec<_> = log.iter().map(|entry| (entry.action.as_str(), entry.actor.as_str())).collect();
    assert_eq!(log, [("job.cancel", "bob"), ("job.create", "ann")]);
}

#[tokio::test]
async fn a_node_that_cannot_run_it_refuses_without_being_asked() {
    let grid = Grid::new(&["bare", "broken", "good", "other"]).await;
    grid.change("bare", |node| node.inventory = Arc::default());
    let plugins = |change: fn(&mut crate::fleet::InventoryPlugin)| {
        move |node: &mut crate::fleet::NodeRecord| {
            let mut inventory = (*node.inventory).clone();
            change(&mut inventory.plugins[0]);
            node.inventory = Arc::new(inventory);
        }
    };
    grid.change("broken", plugins(|plugin| plugin.problem = Some("no compiler".into())));
    grid.change(
        "other",
        plugins(|plugin| {
            plugin.operations.get_mut("system.read").unwrap().type_digest = Digest::of(b"other");
        }),
    );
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    grid.succeed("good").await.unwrap();
    grid.finished(id).await;
    let outcomes = grid.outcomes(id).await;
    let reason = |name: &str| match &outcomes[name] {
        Outcome::Refused { reason, message } => (*reason, message.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("bare").0, Refusal::UnknownOperation);
    assert_eq!(reason("broken").0, Refusal::PluginUnusable);
    assert!(reason("broken").1.contains("no compiler"));
    assert_eq!(reason("other").0, Refusal::TypeChanged);
    assert_eq!(grid.fleet.sent().len(), 1);
}

#[tokio::test]
async fn a_node_answers_only_for_itself_and_only_once() {
    let grid = Grid::new(&["evil", "good"]).await;
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    let (evil, request) = (grid.id("evil"), grid.request("good"));
    let forged = ResultRecord { outcome: Outcome::Failed { error: json!("forged") }, ..success() };
    grid.jobs.result(evil, request, forged.clone()).await.unwrap();
    grid.jobs.started(evil, request).await;
    grid.jobs.progress(evil, request, "x".into(), None).await;
    assert_eq!(grid.outcomes(id).await, [].into());
    assert!(!grid.fleet.sent().iter().any(|sent| matches!(sent, Sent::Cancel(..))));

    // The same result three times at once: each is acknowledged, one counts.
    let results = (0..3).map(|_| grid.succeed("good"));
    for result in futures_util::future::join_all(results).await {
        result.unwrap();
    }
    grid.jobs.result(grid.id("good"), request, forged).await.unwrap();
    assert_eq!(grid.outcomes(id).await, [("good".into(), success().outcome)].into());
    assert_eq!(grid.jobs.get(id).await.unwrap().unwrap().outcomes, [(OutcomeKind::Succeeded, 1)].into());
}

#[tokio::test]
async fn a_master_that_was_killed_goes_on() {
    let mut grid = Grid::new(&["done", "forgot", "later", "lost", "runs", "tells"]).await;
    grid.options.reconnect = Duration::from_secs(60);
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    grid.succeed("done").await.unwrap();
    for name in ["forgot", "runs", "tells"] {
        grid.accept(name).await;
    }
    // Stages are noted a moment later.
    soon("the stages in the store", async {
        loop {
            let accepted = grid.store.write(|c| Box::pin(rows::unfinished(c))).await.unwrap()[0]
                .parts
                .iter()
                .filter(|part| part.stage == JobNodeState::Accepted)
                .count();
            if accepted == 3 {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    grid.restart().await;
    assert_eq!(grid.jobs.get(id).await.unwrap().unwrap().outcomes, [(OutcomeKind::Succeeded, 1)].into());

    let request = |name: &str| grid.request(name);
    grid.connect("runs", &[request("runs")], &[]).await;
    grid.succeed("runs").await.unwrap();
    grid.connect("tells", &[], &[request("tells")]).await;
    grid.succeed("tells").await.unwrap();
    // It had the request and does not know it any more: not again.
    grid.connect("forgot", &[], &[]).await;
    assert_eq!(grid.fleet.runs(grid.id("forgot")).len(), 1);
    // It never said that it has it: again, under the same id.
    grid.connect("lost", &[], &[]).await;
    assert_eq!(grid.fleet.runs(grid.id("lost")), [request("lost"); 2]);
    grid.succeed("lost").await.unwrap();
    // Done long ago, but it never got our acknowledgement.
    grid.connect("done", &[], &[request("done")]).await;
    grid.succeed("done").await.unwrap();
    assert_eq!(grid.jobs.running(), 1);
    grid.connect("later", &[], &[]).await;
    grid.succeed("later").await.unwrap();

    grid.finished(id).await;
    assert_eq!(
        kinds(&grid.outcomes(id).await),
        [
            ("done", OutcomeKind::Succeeded),
            ("forgot", OutcomeKind::Indeterminate),
            ("later", OutcomeKind::Succeeded),
            ("lost", OutcomeKind::Succeeded),
            ("runs", OutcomeKind::Succeeded),
            ("tells", OutcomeKind::Succeeded),
        ]
    );
}

#[tokio::test]
async fn a_deadline_that_passed_while_the_master_was_away_waits_for_hosts_to_come_back() {
    let mut grid = Grid::new(&["back", "gone"]).await;
    grid.options.reconnect = Duration::from_millis(500);
    let new = NewJob { deadline_ms: Some(50), ..new_job(&["*"]) };
    let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
    grid.restart().await;
    grid.connect("back", &[], &[grid.request("back")]).await;
    grid.succeed("back").await.unwrap();
    grid.finished(id).await;
    assert_eq!(
        kinds(&grid.outcomes(id).await),
        [("back", OutcomeKind::Succeeded), ("gone", OutcomeKind::NoAnswer)]
    );
}

/// Wait until just these nodes were sent a request.
async fn asked(grid: &Grid, names: &[&str]) {
    let all = ["n1", "n2", "n3", "n4"];
    soon(&format!("requests to {names:?}"), async {
        while !names.iter().all(|name| !grid.fleet.runs(grid.id(name)).is_empty()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    for name in all.iter().filter(|name| !names.contains(name)) {
        assert_eq!(grid.fleet.runs(grid.id(name)), [], "{name} had no turn yet");
    }
}

fn in_batches(batch: u32, max_failures: Option<u32>) -> NewJob {
    NewJob { batch: Some(Batch::Count(batch)), max_failures, ..new_job(&["*"]) }
}

#[tokio::test]
async fn the_next_node_has_its_turn_when_one_has_ended() {
    let grid = Grid::new(&["n1", "n2", "n3", "n4"]).await;
    let job = grid.jobs.create(in_batches(2, None), "ann").await.unwrap().job;
    assert_eq!((job.batch, job.max_failures), (Some(2), Some(0)));
    asked(&grid, &["n1", "n2"]).await;
    grid.accept("n1").await;
    asked(&grid, &["n1", "n2"]).await;
    grid.succeed("n2").await.unwrap();
    asked(&grid, &["n1", "n2", "n3"]).await;
    grid.succeed("n1").await.unwrap();
    asked(&grid, &["n1", "n2", "n3", "n4"]).await;
    grid.succeed("n3").await.unwrap();
    grid.succeed("n4").await.unwrap();
    assert_eq!(grid.finished(job.id).await.outcomes, [(OutcomeKind::Succeeded, 4)].into());
}

#[tokio::test]
async fn too_many_failures_leave_the_rest_alone() {
    let failed = || ResultRecord { outcome: Outcome::Failed { error: json!("no") }, ..success() };
    let grid = Grid::new(&["n1", "n2", "n3", "n4"]).await;
    let id = grid.jobs.create(in_batches(1, Some(1)), "ann").await.unwrap().job.id;
    asked(&grid, &["n1"]).await;
    grid.jobs.result(grid.id("n1"), grid.request("n1"), failed()).await.unwrap();
    // One may fail.
    asked(&grid, &["n1", "n2"]).await;
    grid.jobs.result(grid.id("n2"), grid.request("n2"), failed()).await.unwrap();
    let job = grid.finished(id).await;
    assert_eq!(job.outcomes, [(OutcomeKind::Failed, 2), (OutcomeKind::Refused, 2)].into());
    asked(&grid, &["n1", "n2"]).await;
    let Outcome::Refused { reason, message } = &grid.outcomes(id).await["n4"] else { panic!() };
    assert_eq!(*reason, Refusal::Stopped, "{message}");
}

#[tokio::test]
async fn a_new_master_goes_on_with_the_batch_where_the_last_one_was() {
    let mut grid = Grid::new(&["n1", "n2", "n3"]).await;
    let id = grid.jobs.create(in_batches(1, None), "ann").await.unwrap().job.id;
    soon("the first turn", async {
        while grid.fleet.runs(grid.id("n1")).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    grid.restart().await;
    for name in ["n2", "n3"] {
        grid.connect(name, &[], &[]).await;
        assert_eq!(grid.fleet.runs(grid.id(name)), [], "{name} has no turn");
    }
    // It had its turn, so it is with the node, or is sent again under the same id.
    grid.connect("n1", &[], &[]).await;
    grid.succeed("n1").await.unwrap();
    for name in ["n2", "n3"] {
        soon("the next turn", async {
            while grid.fleet.runs(grid.id(name)).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        grid.succeed(name).await.unwrap();
    }
    assert_eq!(grid.finished(id).await.outcomes, [(OutcomeKind::Succeeded, 3)].into());
}

#[tokio::test]
async fn a_cancelled_batch_of_which_some_is_stored_ends_after_a_restart() {
    let mut grid = Grid::new(&["n1", "n2", "n3"]).await;
    grid.offline("n1");
    let id = grid.jobs.create(in_batches(1, Some(2)), "ann").await.unwrap().job.id;
    // The master dies between the two transactions that end n2 and n3.
    let row = outcome_row(id, 1, &Outcome::Cancelled { started: false });
    grid.store
        .write::<_, StoreError, _>(move |c| {
            Box::pin(async move {
                rows::request_cancel(c, id).await?;
                rows::insert_outcomes(c, &[row], 1).await
            })
        })
        .await
        .unwrap();
    grid.restart().await;
    let outcomes = grid.finished(id).await.outcomes;
    assert_eq!(outcomes.values().sum::<u32>(), 3, "{outcomes:?}");
}

/// As it is committed.
fn outcome_row(job: JobId, position: u32, outcome: &Outcome) -> rows::OutcomeRow {
    rows::OutcomeRow {
        job,
        position,
        kind: outcome.kind(),
        started_ms: None,
        plugin_digest: None,
        stats_json: None,
        outcome_json: serde_json::to_string(outcome).unwrap(),
        trace_json: "[]".into(),
        output_bytes: 0,
    }
}

#[tokio::test]
async fn a_batch_goes_on_from_an_outcome_that_only_the_store_knew() {
    let grid = Grid::new(&["n1", "n2"]).await;
    let id = grid.jobs.create(in_batches(1, None), "ann").await.unwrap().job.id;
    let turn = async |name: &'static str| {
        let runs = || grid.fleet.runs(grid.id(name));
        soon("its turn", async {
            while runs().is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    turn("n1").await;
    // Committed, and reported as failed: the node sends its result once more.
    let row = outcome_row(id, 0, &success().outcome);
    grid.store
        .write::<_, StoreError, _>(move |c| {
            Box::pin(async move { rows::insert_outcomes(c, &[row], 1).await })
        })
        .await
        .unwrap();
    grid.succeed("n1").await.unwrap();
    turn("n2").await;
    grid.succeed("n2").await.unwrap();
    grid.finished(id).await;
}

#[tokio::test]
async fn each_node_of_a_batch_has_its_whole_time() {
    let grid = Grid::new(&["n1", "n2", "n3"]).await;
    grid.offline("n1");
    let new = NewJob { deadline_ms: Some(50), ..in_batches(1, Some(3)) };
    let job = grid.jobs.create(new, "ann").await.unwrap().job;
    let outcomes = {
        grid.finished(job.id).await;
        grid.outcomes(job.id).await
    };
    // Each was waited for in its turn, and none was cut short by those before it.
    assert_eq!(
        kinds(&outcomes),
        [("n1", OutcomeKind::NoAnswer), ("n2", OutcomeKind::NoAnswer), ("n3", OutcomeKind::NoAnswer)]
    );
    assert!(job.deadline_ms - job.created_ms >= 150);
    asked_in_turn(&grid);
}

fn asked_in_turn(grid: &Grid) {
    let order: Vec<NodeId> = grid
        .fleet
        .sent()
        .into_iter()
        .filter_map(|sent| match sent {
            Sent::Run(node, _) => Some(node),
            Sent::Cancel(..) => None,
        })
        .collect();
    assert_eq!(order, [grid.id("n2"), grid.id("n3")]);
}

#[tokio::test]
async fn a_cancelled_batch_lets_nobody_go() {
    let grid = Grid::new(&["n1", "n2"]).await;
    let id = grid.jobs.create(in_batches(1, None), "ann").await.unwrap().job.id;
    soon("the first turn", async {
        while grid.fleet.runs(grid.id("n1")).is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    grid.jobs.cancel(id, "ann").await.unwrap();
    grid.jobs.result(grid.id("n1"), grid.request("n1"), success()).await.unwrap();
    grid.finished(id).await;
    assert_eq!(
        kinds(&grid.outcomes(id).await),
        [("n1", OutcomeKind::Succeeded), ("n2", OutcomeKind::Cancelled)]
    );
    assert_eq!(grid.fleet.runs(grid.id("n2")), []);
}

#[tokio::test]
async fn some_of_the_nodes_are_picked_those_that_are_there_first() {
    let grid = Grid::new(&["n1", "n2", "n3"]).await;
    grid.offline("n1");
    grid.offline("n3");
    let pick = |pick| NewJob { pick: Some(pick), ..new_job(&["*"]) };
    let names = async |id| -> Vec<String> {
        let (nodes, _) = grid.jobs.nodes(id, -1, 9).await.unwrap();
        nodes.into_iter().map(|(_, node)| node.name.to_string()).collect()
    };
    let one = grid.jobs.create(pick(1), "ann").await.unwrap().job;
    assert_eq!((one.nodes, names(one.id).await), (1, vec!["n2".to_owned()]));
    let two = grid.jobs.create(pick(2), "ann").await.unwrap().job;
    assert!(two.nodes == 2 && names(two.id).await.contains(&"n2".to_owned()));
    let all = grid.jobs.create(pick(9), "ann").await.unwrap().job;
    assert_eq!(all.nodes, 3, "no more than there are");
    for bad in [
        NewJob { pick: Some(0), ..new_job(&["*"]) },
        NewJob { batch: Some(Batch::Percent(101)), ..new_job(&["*"]) },
        NewJob { batch: Some(Batch::Count(0)), ..new_job(&["*"]) },
        NewJob { max_failures: Some(1), ..new_job(&["*"]) },
    ] {
        assert!(matches!(grid.jobs.create(bad, "ann").await, Err(JobError::BadBatch(_))));
    }
}

async fn collect(events: impl futures_util::Stream<Item = events::Kept>) -> Vec<JobEvent> {
    let parsed = events.map(|event| serde_json::from_str(&event.json).unwrap());
    soon("the end of the stream", parsed.collect::<Vec<JobEvent>>()).await
}

#[tokio::test]
async fn watchers_see_all_from_their_snapshot_on() {
    let grid = Grid::new(&["n1"]).await;
    let id = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    let first = grid.jobs.watch(id, None).await.unwrap();
    let mut first = std::pin::pin!(first);
    let snapshot = first.next().await.unwrap();
    grid.accept("n1").await;
    grid.jobs.started(grid.id("n1"), grid.request("n1")).await;
    grid.jobs.progress(grid.id("n1"), grid.request("n1"), "half".into(), Some(50)).await;
    let second = grid.jobs.watch(id, Some(snapshot.seq + 1)).await.unwrap();
    grid.succeed("n1").await.unwrap();

    let seen = collect(first).await;
    let seqs: Vec<u64> = seen.iter().map(|event| event.seq - snapshot.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5], "no gaps");
    let [
        JobEventKind::Node { node: accepted },
        JobEventKind::Node { node: running },
        JobEventKind::Progress { percent: Some(50), .. },
        JobEventKind::Node { node: done },
        JobEventKind::Finished { job },
    ] = <[JobEventKind; 5]>::try_from(seen.iter().map(|event| event.kind.clone()).collect::<Vec<_>>())
        .unwrap()
    else {
        panic!("{seen:#?}")
    };
    assert_eq!(
        (accepted.state, running.state, done.state),
        (JobNodeState::Accepted, JobNodeState::Running, JobNodeState::Done)
    );
    assert_eq!(done.outcome, Some(success().outcome));
    assert_eq!(job.state, JobState::Finished);

    // It goes on after the event it had seen, without a snapshot.
    let resumed = collect(second).await;
    assert_eq!(resumed, seen[1..]);
    // Too late for anything but the end.
    let after = collect(grid.jobs.watch(id, Some(7)).await.unwrap()).await;
    assert!(matches!(
        &after[..],
        [
            JobEvent { kind: JobEventKind::Snapshot { .. }, .. },
            JobEvent { kind: JobEventKind::Finished { .. }, .. }
        ]
    ));
    assert!(matches!(grid.jobs.watch(JobId::new(), None).await.err(), Some(JobError::UnknownJob(_))));
}

#[tokio::test]
async fn old_jobs_are_forgotten_running_ones_are_not() {
    let mut grid = Grid::new(&["n1"]).await;
    for _ in 0..3 {
        let id = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
        let request = *grid.fleet.runs(grid.id("n1")).last().unwrap();
        grid.jobs.result(grid.id("n1"), request, success()).await.unwrap();
        grid.finished(id).await;
    }
    let open = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    assert_eq!(grid.jobs.sweep().await.unwrap(), 0);
    grid.options.retention.max_jobs = 1;
    grid.restart().await;
    soon("two jobs forgotten", async {
        while grid.jobs.page(None, 9).await.unwrap().0.len() > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(grid.jobs.page(None, 1).await.unwrap().0[0].id, open);
    let rest: i64 = count(&grid, "SELECT COUNT(*) AS number FROM job_nodes").await;
    assert_eq!(rest, 2, "their nodes are forgotten with them");
}

#[tokio::test]
async fn a_store_that_fails_leaves_the_result_with_its_host() {
    let grid = Grid::new(&["n1"]).await;
    let id = grid.jobs.create(new_job(&["n1"]), "ann").await.unwrap().job.id;
    let run = async |sql: &'static str| {
        grid.store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    crate::store::sql::query(sql).execute(c).await?;
                    Ok(())
                })
            })
            .await
            .unwrap();
    };
    run("ALTER TABLE job_outcomes RENAME TO elsewhere").await;
    assert!(grid.succeed("n1").await.is_err(), "not acknowledged, so the host keeps it");
    assert_eq!(grid.jobs.running(), 1);
    run("ALTER TABLE elsewhere RENAME TO job_outcomes").await;
    grid.succeed("n1").await.unwrap();
    assert_eq!(grid.finished(id).await.outcomes, [(OutcomeKind::Succeeded, 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_at_once() {
    let names: Vec<String> = (0..300).map(|number| format!("n{number:03}")).collect();
    let grid = Arc::new(Grid::new(&names.iter().map(String::as_str).collect::<Vec<_>>()).await);
    let id = grid.jobs.create(new_job(&["*"]), "ann").await.unwrap().job.id;
    let tasks = grid.fleet.sent().into_iter().map(|sent| {
        let Sent::Run(node, request) = sent else { panic!("{sent:?}") };
        let grid = grid.clone();
        tokio::spawn(async move {
            grid.jobs.accepted(node, request).await;
            grid.jobs.started(node, request).await;
            grid.jobs.result(node, request, success()).await
        })
    });
    for task in futures_util::future::join_all(tasks).await {
        task.unwrap().unwrap();
    }
    let job = grid.finished(id).await;
    assert_eq!(job.outcomes, [(OutcomeKind::Succeeded, 300)].into());
    assert_eq!(grid.outcomes(id).await.len(), 300);
}

/// What a node, or somebody else, does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Accepted,
    Started,
    Result,
    Offline,
    ConnectRunning,
    ConnectFinished,
    ConnectEmpty,
    Cancel,
    Pause,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Step::*;
    let step = prop_oneof![
        4 => Just(Accepted),
        3 => Just(Started),
        3 => Just(Result),
        2 => Just(Offline),
        2 => Just(ConnectRunning),
        1 => Just(ConnectFinished),
        2 => Just(ConnectEmpty),
        1 => Just(Cancel),
        2 => Just(Pause),
    ];
    proptest::collection::vec(step, 0..8)
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

async fn act(grid: &Grid, id: JobId, name: &'static str, steps: Vec<Step>) {
    let node = grid.id(name);
    for step in steps {
        let request = grid.fleet.runs(node).first().copied();
        let known: Vec<RequestId> = request.into_iter().collect();
        match (step, request) {
            (Step::Accepted, Some(request)) => grid.jobs.accepted(node, request).await,
            (Step::Started, Some(request)) => grid.jobs.started(node, request).await,
            (Step::Result, Some(request)) => grid.jobs.result(node, request, success()).await.unwrap(),
            (Step::Offline, _) => grid.offline(name),
            (Step::ConnectRunning, _) => grid.connect(name, &known, &[]).await,
            (Step::ConnectFinished, _) => grid.connect(name, &[], &known).await,
            (Step::ConnectEmpty, _) => grid.connect(name, &[], &[]).await,
            // Finished already: that is an answer as well.
            (Step::Cancel, _) => drop(grid.jobs.cancel(id, "ann").await),
            (Step::Pause, _) => tokio::time::sleep(Duration::from_millis(10)).await,
            (_, None) => {}
        }
    }
}

#[test]
fn whatever_happens_each_node_gets_one_outcome() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let batch = proptest::option::of((1_u32..3).prop_map(Batch::Count));
    let strategy = (
        proptest::array::uniform3(steps()),
        proptest::option::of(0_usize..3),
        any::<bool>(),
        (batch, 0_u32..3),
    );
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((all, first_offline, restart, (batch, max_failures)) in strategy)| {
        runtime.block_on(async {
            let options = Options {
                grace: Duration::from_millis(30),
                reconnect: Duration::from_millis(30),
                pauses: Pauses { busy: Duration::from_millis(1), failed: Duration::from_millis(1) },
                retention: Retention::default(),
            };
            let mut grid = Grid::with(options, &NAMES).await;
            if let Some(position) = first_offline {
                grid.offline(NAMES[position]);
            }
            let max_failures = batch.map(|_| max_failures);
            let new = NewJob { deadline_ms: Some(40), batch, max_failures, ..new_job(&["*"]) };
            let id = grid.jobs.create(new, "ann").await.unwrap().job.id;
            let events = grid.jobs.watch(id, None).await.unwrap();
            let [a, b, c] = all;
            tokio::join!(act(&grid, id, "n1", a), act(&grid, id, "n2", b), act(&grid, id, "n3", c));
            if restart {
                drop(events);
                grid.restart().await;
            } else {
                let done = collect(events).await.into_iter().filter_map(|event| match event.kind {
                    JobEventKind::Node { node } if node.outcome.is_some() => Some(node.name.to_string()),
                    _ => None,
                });
                let mut done: Vec<String> = done.collect();
                done.sort();
                assert!(done.windows(2).all(|pair| pair[0] != pair[1]), "twice: {done:?}");
            }
            let job = grid.finished(id).await;
            assert_eq!(grid.outcomes(id).await.len(), 3);
            assert_eq!(job.outcomes.values().sum::<u32>(), 3);
            assert_eq!(grid.jobs.running(), 0);
            let stored: i64 = count(&grid, "SELECT COUNT(*) AS number FROM job_outcomes").await;
            assert_eq!(stored, 3);
        });
    });
}
