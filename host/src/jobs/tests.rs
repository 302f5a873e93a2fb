//! Jobs against the real journal and an executor whose operations end when the test says so.

use super::*;
use crate::journal::Retention;
use outbox::Event;
use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::{Semaphore, watch};

/// Operations: `demo.op.read`, `demo.op.change` end with a permit of `go`; `demo.op.stuck` ends when it
/// is cancelled; `demo.op.deaf` does not even then; `demo.op.panic` panics; `solo.op.read` has
/// concurrency 1.
struct Fake {
    go: Arc<Semaphore>,
    runs: AtomicUsize,
    inside: watch::Sender<usize>,
}

struct FakeWork(Arc<Fake>);

impl Executor for Arc<Fake> {
    fn admit(&self, operation: &OperationName, _: Option<Digest>) -> Result<Admission, Refused> {
        let effect = match operation.function() {
            "missing" => return Err(Refused::new(Refusal::UnknownOperation, "no such operation")),
            "read" => Effect::Read,
            _ => Effect::Change,
        };
        Ok(Admission {
            effect,
            timeout: Duration::from_secs(60),
            concurrency: if operation.plugin().as_str() == "solo" { 1 } else { 8 },
            plugin_digest: None,
            work: Box::new(FakeWork(Arc::clone(self))),
        })
    }
}

/// Counts those that are inside, also when the future is dropped.
struct Inside(Arc<Fake>);
impl Inside {
    fn enter(fake: &Arc<Fake>) -> Self {
        fake.inside.send_modify(|count| *count += 1);
        Inside(Arc::clone(fake))
    }
}
impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.send_modify(|count| *count -= 1);
    }
}

impl Work for FakeWork {
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>> {
        Box::pin(async move {
            let fake = self.0;
            fake.runs.fetch_add(1, Ordering::SeqCst);
            let _inside = Inside::enter(&fake);
            let _ = call.progress.send(Progress { message: "begun".into(), percent: Some(1) }).await;
            match call.operation.function() {
                "panic" => panic!("on purpose"),
                "deaf" => std::future::pending().await,
                _ => tokio::select! {
                    permit = fake.go.acquire() => {
                        permit.unwrap().forget();
                        Outcome::Succeeded { value: call.args }.into()
                    }
                    () = call.cancel.cancelled() => Outcome::Cancelled { started: true }.into(),
                    () = tokio::time::sleep(call.time_limit) => {
                        Outcome::TimedOut { after_ms: millis(call.time_limit) }.into()
                    }
                },
            }
        })
    }
}

struct Bench {
    jobs: Jobs,
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
    fake: Arc<Fake>,
}

async fn bench(dir: &Path, workers: usize, queue: usize) -> Bench {
    let (journal, recovered) = Journal::open(dir, Retention::default()).unwrap();
    let outbox = Arc::new(Outbox::default());
    outbox.open();
    let fake = Arc::new(Fake {
        go: Arc::new(Semaphore::new(0)),
        runs: AtomicUsize::new(0),
        inside: watch::channel(0).0,
    });
    let jobs = Jobs::new(
        Arc::clone(&journal),
        Arc::clone(&outbox),
        Pool::new(workers, queue),
        Arc::new(Arc::clone(&fake)),
        Arc::new(windlass_identity::SealingKey::generate()),
    );
    jobs.recover(recovered).await;
    Bench { jobs, journal, outbox, fake }
}

fn run(id: RequestId, operation: &str) -> v1::Run {
    v1::Run {
        request_id: id.to_string(),
        job_id: JobId::new().to_string(),
        operation: operation.into(),
        args_json: "{\"n\":18446744073709551615}".into(),
        type_digest: String::new(),
        deadline_ms: 0,
        remaining_ms: 60_000,
        dry_run: false,
        secrets: Vec::new(),
    }
}

impl Bench {
    async fn next(&self) -> Event {
        tokio::time::timeout(Duration::from_secs(20), self.outbox.next()).await.expect("nothing was said")
    }
    /// Until `wanted` is said; gives back all that was said before it.
    async fn until(&self, wanted: &Event) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                event if event == *wanted => return before,
                other => before.push(other),
            }
        }
    }
    fn outcome(&self, id: RequestId) -> Outcome {
        let message = self.journal.result(id).unwrap().expect("a result in the journal");
        let message = v1::Result::decode(message.as_slice()).unwrap();
        assert_eq!(message.request_id, id.to_string());
        serde_json::from_slice(&message.outcome_json).unwrap()
    }
    async fn refusal(&self) -> Refusal {
        loop {
            if let Event::Refused(message) = self.next().await {
                match serde_json::from_slice(&message.outcome_json).unwrap() {
                    Outcome::Refused { reason, .. } => return reason,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    async fn inside(&self, count: usize) {
        let mut inside = self.fake.inside.subscribe();
        tokio::time::timeout(Duration::from_secs(20), inside.wait_for(|now| *now == count))
            .await
            .unwrap()
            .unwrap();
    }
    fn runs(&self) -> usize {
        self.fake.runs.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_request_is_accepted_started_and_finished_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 2, 2).await;
    let id = RequestId::new();
    bench.jobs.submit(run(id, "demo.op.change"));
    assert_eq!(bench.next().await, Event::Accepted(id));
    assert_eq!(bench.next().await, Event::Started(id));
    assert_eq!(bench.next().await, Event::Progress { id, message: "begun".into(), percent: Some(1) });
    bench.fake.go.add_permits(1);
    assert_eq!(bench.next().await, Event::Recorded(id));
    assert_eq!(
        bench.outcome(id),
        Outcome::Succeeded { value: serde_json::from_str("{\"n\":18446744073709551615}").unwrap() }
    );
    bench.jobs.acknowledge(id);
    bench.jobs.settled().await;
    assert_eq!(bench.journal.stage(id).unwrap(), Some(Stage::Acknowledged));
}

#[tokio::test]
async fn a_read_is_told_in_full_only_if_it_takes_longer_than_a_moment() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 2, 2).await;
    let slow = RequestId::new();
    bench.jobs.submit(run(slow, "demo.op.read"));
    let before = bench.until(&Event::Started(slow)).await;
    assert!(before.contains(&Event::Accepted(slow)), "{before:?}");
    assert_eq!(bench.journal.stage(slow).unwrap(), Some(Stage::Started));
    bench.fake.go.add_permits(1);
    bench.until(&Event::Recorded(slow)).await;

    // It waits for nothing, so it is over before this thread looks at its timers.
    let quick = RequestId::new();
    bench.fake.go.add_permits(1);
    bench.jobs.submit(run(quick, "demo.op.read"));
    let said = bench.until(&Event::Recorded(quick)).await;
    let told = |event: &Event| matches!(event, Event::Accepted(_) | Event::Started(_));
    assert!(!said.iter().any(told), "{said:?}");
    assert_eq!(bench.outcome(quick).kind(), windlass_types::OutcomeKind::Succeeded);
    bench.jobs.submit(run(quick, "demo.op.read"));
    bench.until(&Event::Recorded(quick)).await;
    assert_eq!(bench.runs(), 2, "what is finished is answered from the journal");
}

#[tokio::test]
async fn a_repeated_request_never_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 2, 2).await;
    let id = RequestId::new();
    bench.jobs.submit(run(id, "demo.op.change"));
    bench.jobs.submit(run(id, "demo.op.change"));
    bench.inside(1).await;
    bench.until(&Event::Started(id)).await;
    bench.jobs.submit(run(id, "demo.op.change"));
    bench.until(&Event::Accepted(id)).await;
    bench.until(&Event::Started(id)).await;
    bench.fake.go.add_permits(5);
    bench.until(&Event::Recorded(id)).await;
    bench.jobs.submit(run(id, "demo.op.change"));
    bench.until(&Event::Recorded(id)).await;
    bench.jobs.acknowledge(id);
    bench.jobs.settled().await;
    bench.jobs.submit(run(id, "demo.op.change"));
    bench.jobs.drain(Duration::from_secs(20)).await;
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn beyond_workers_and_queue_it_is_busy_and_nothing_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 1).await;
    let (first, second, third) = (RequestId::new(), RequestId::new(), RequestId::new());
    bench.jobs.submit(run(first, "demo.op.read"));
    bench.jobs.submit(run(second, "demo.op.read"));
    bench.jobs.submit(run(third, "demo.op.read"));
    assert_eq!(bench.refusal().await, Refusal::Busy);
    assert_eq!(bench.journal.stage(third).unwrap(), None);
    bench.fake.go.add_permits(2);
    let mut finished = 0;
    while finished < 2 {
        finished += usize::from(matches!(bench.next().await, Event::Recorded(_)));
    }
    // The master may repeat it. It was told that it did not run, so it must not run now.
    bench.jobs.submit(run(third, "demo.op.read"));
    assert_eq!(bench.refusal().await, Refusal::Busy);
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn bad_requests_are_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 1).await;
    for (run, reason) in [
        (run(RequestId::new(), "demo.op.missing"), Refusal::UnknownOperation),
        (run(RequestId::new(), "../../etc"), Refusal::UnknownOperation),
        (v1::Run { args_json: "{".into(), ..run(RequestId::new(), "demo.op.read") }, Refusal::BadArguments),
        (v1::Run { remaining_ms: 0, ..run(RequestId::new(), "demo.op.read") }, Refusal::TooLate),
    ] {
        bench.jobs.submit(run);
        assert_eq!(bench.refusal().await, reason);
    }
    bench.jobs.submit(run(RequestId::new(), "demo.op.read"));
    bench.jobs.submit(v1::Run { request_id: "not-an-id".into(), ..run(RequestId::new(), "demo.op.read") });
    bench.inside(1).await;
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn cancel_ends_what_runs_and_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 1).await;
    let (running, waiting) = (RequestId::new(), RequestId::new());
    bench.jobs.submit(run(running, "demo.op.stuck"));
    bench.jobs.submit(run(waiting, "demo.op.stuck"));
    bench.inside(1).await;
    bench.jobs.cancel(waiting);
    bench.until(&Event::Recorded(waiting)).await;
    assert_eq!(bench.outcome(waiting), Outcome::Cancelled { started: false });
    bench.jobs.cancel(running);
    bench.until(&Event::Recorded(running)).await;
    assert_eq!(bench.outcome(running), Outcome::Cancelled { started: true });
    bench.inside(0).await;
    assert_eq!(bench.runs(), 1);
}

#[tokio::test]
async fn what_does_not_listen_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 1).await;
    let id = RequestId::new();
    bench.jobs.submit(run(id, "demo.op.deaf"));
    bench.inside(1).await;
    bench.jobs.cancel(id);
    bench.until(&Event::Recorded(id)).await;
    assert_eq!(bench.outcome(id), Outcome::Cancelled { started: true });
    bench.inside(0).await;
}

#[tokio::test]
async fn a_panic_ends_one_job_and_not_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 1).await;
    let (bad, good) = (RequestId::new(), RequestId::new());
    bench.jobs.submit(run(bad, "demo.op.panic"));
    bench.until(&Event::Recorded(bad)).await;
    assert!(matches!(bench.outcome(bad), Outcome::Indeterminate { .. }));
    bench.fake.go.add_permits(1);
    bench.jobs.submit(run(good, "demo.op.read"));
    bench.until(&Event::Recorded(good)).await;
}

#[tokio::test]
async fn after_a_crash_the_started_are_indeterminate_and_the_waiting_run_once() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let ids: Vec<RequestId> = (0..4).map(|_| RequestId::new()).collect();
    {
        let bench = bench(dir.path(), 1, 8).await;
        bench.jobs.submit(run(ids[0], "demo.op.change"));
        bench.jobs.submit(run(ids[1], "demo.op.change"));
        bench.jobs.submit(v1::Run { remaining_ms: 1, ..run(ids[2], "demo.op.read") });
        bench.jobs.submit(run(ids[3], "demo.op.read"));
        bench.inside(1).await;
        while bench
            .journal
            .lists()
            .0
            .iter()
            .any(|id| bench.journal.stage(*id).unwrap() == Some(Stage::Claimed))
        {
            tokio::task::yield_now().await;
        }
        // As a kill leaves the files.
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let bench = bench(copy.path(), 2, 0).await;
    bench.jobs.say_all();
    assert!(matches!(bench.outcome(ids[0]), Outcome::Indeterminate { .. }));
    bench.fake.go.add_permits(10);
    bench.jobs.submit(run(ids[0], "demo.op.change"));
    bench.jobs.submit(run(ids[1], "demo.op.change"));
    let mut seen = Vec::new();
    while !(ids.iter().all(|id| seen.contains(id))) {
        if let Event::Recorded(id) = bench.next().await {
            seen.push(id);
        }
    }
    assert!(matches!(bench.outcome(ids[1]), Outcome::Succeeded { .. }));
    assert!(matches!(bench.outcome(ids[2]), Outcome::Refused { reason: Refusal::TooLate, .. }));
    assert!(matches!(bench.outcome(ids[3]), Outcome::Succeeded { .. }));
    assert_eq!(bench.runs(), 2);
}

#[tokio::test]
async fn drain_refuses_the_new_and_the_waiting_and_lets_the_running_end() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 2).await;
    let (running, waiting, late) = (RequestId::new(), RequestId::new(), RequestId::new());
    bench.jobs.submit(run(running, "demo.op.change"));
    bench.jobs.submit(run(waiting, "demo.op.change"));
    bench.inside(1).await;
    let jobs = bench.jobs.clone();
    let drain = tokio::spawn(async move { jobs.drain(Duration::from_secs(30)).await });
    bench.until(&Event::Recorded(waiting)).await;
    assert!(matches!(bench.outcome(waiting), Outcome::Refused { reason: Refusal::Draining, .. }));
    bench.jobs.submit(run(late, "demo.op.change"));
    assert_eq!(bench.refusal().await, Refusal::Draining);
    assert!(!drain.is_finished());
    bench.fake.go.add_permits(1);
    drain.await.unwrap();
    assert!(matches!(bench.outcome(running), Outcome::Succeeded { .. }));
}

#[tokio::test]
async fn drain_cancels_what_takes_too_long() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 2).await;
    let running = RequestId::new();
    bench.jobs.submit(run(running, "demo.op.stuck"));
    bench.inside(1).await;
    bench.jobs.drain(Duration::from_millis(1)).await;
    assert_eq!(bench.outcome(running), Outcome::Cancelled { started: true });
}

#[tokio::test]
async fn the_shorter_of_timeout_and_deadline_counts() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 1, 2).await;
    let id = RequestId::new();
    bench.jobs.submit(v1::Run { remaining_ms: 30, ..run(id, "demo.op.stuck") });
    bench.until(&Event::Recorded(id)).await;
    assert!(matches!(bench.outcome(id), Outcome::TimedOut { after_ms: 0..=30 }), "{:?}", bench.outcome(id));
}

#[tokio::test]
async fn a_plugin_runs_no_more_often_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench(dir.path(), 4, 4).await;
    let (first, second, other) = (RequestId::new(), RequestId::new(), RequestId::new());
    bench.jobs.submit(run(first, "solo.op.read"));
    bench.jobs.submit(run(second, "solo.op.read"));
    bench.jobs.submit(run(other, "demo.op.read"));
    bench.inside(2).await;
    assert_eq!(bench.jobs.running(), 2);
    bench.fake.go.add_permits(3);
    let mut finished = Vec::new();
    while finished.len() < 3 {
        if let Event::Recorded(id) = bench.next().await {
            finished.push(id);
        }
    }
}
