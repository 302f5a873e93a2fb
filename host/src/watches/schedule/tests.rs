//! When watches run, under a clock that stands still but for waiting.

use super::*;
use crate::{
    jobs::{Admission, Finished, Refused, Work},
    watches::WatchSettings,
};
use std::{
    pin::Pin,
    sync::Mutex,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::sync::watch;
use windlass_proto::v1;
use windlass_types::OperationName;

/// What operations do: `quick` succeeds, `bad` fails, `slow` takes 25 s, `stuck` ends when it is told to,
/// `change` is no read; any other is unknown.
struct Fake {
    watches: Mutex<Vec<Watch>>,
    changed: watch::Sender<u64>,
    runs: Mutex<Vec<(String, Instant)>>,
    inside: AtomicUsize,
    most: AtomicUsize,
}

struct FakeWork(Arc<Fake>);

struct Shared(Arc<Fake>);

impl Executor for Shared {
    fn admit(&self, operation: &OperationName, _: Option<Digest>) -> Result<Admission, Refused> {
        let effect = match operation.function() {
            "gone" => return Err(Refused::new(Refusal::UnknownOperation, "no such operation")),
            "change" => Effect::Change,
            _ => Effect::Read,
        };
        Ok(Admission {
            effect,
            timeout: Duration::from_secs(100),
            concurrency: if operation.plugin().as_str() == "solo" { 1 } else { 8 },
            plugin_digest: None,
            work: Box::new(FakeWork(Arc::clone(&self.0))),
        })
    }
}

impl Catalogue for Shared {
    fn inventory(&self) -> v1::Inventory {
        v1::Inventory::default()
    }
    fn source(&self, _: Digest) -> Option<v1::PluginSource> {
        None
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
    fn watches(&self) -> Vec<Watch> {
        self.0.watches.lock().unwrap().clone()
    }
}

struct Inside(Arc<Fake>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Work for FakeWork {
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>> {
        Box::pin(async move {
            let fake = self.0;
            let name = call.args["name"].as_str().unwrap().to_owned();
            fake.runs.lock().unwrap().push((name, Instant::now()));
            let inside = fake.inside.fetch_add(1, Ordering::SeqCst) + 1;
            fake.most.fetch_max(inside, Ordering::SeqCst);
            let _inside = Inside(Arc::clone(&fake));
            match call.operation.function() {
                "bad" => Outcome::Failed { error: "bad".into() }.into(),
                "slow" => {
                    tokio::time::sleep(Duration::from_secs(25)).await;
                    Outcome::Succeeded { value: 1.into() }.into()
                }
                "stuck" => {
                    call.cancel.cancelled().await;
                    Outcome::Cancelled { started: true }.into()
                }
                _ => Outcome::Succeeded { value: 1.into() }.into(),
            }
        })
    }
}

fn watch_of(name: &str, operation: &str, every: u64) -> Watch {
    let operation: OperationName = operation.parse().unwrap();
    let args = serde_json::json!({ "name": name });
    Watch {
        key: Key { plugin: operation.plugin(), name: name.into() },
        operation,
        args: args.as_object().unwrap().clone(),
        every: Duration::from_secs(every),
        jitter: Duration::ZERO,
        version: "1".into(),
        digest: Digest::of(b"1"),
    }
}

struct Bench {
    fake: Arc<Fake>,
    pool: Pool,
    watches: Watches,
    began: Instant,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new(list: Vec<Watch>) -> Self {
        let fake = Arc::new(Fake {
            watches: Mutex::new(list),
            changed: watch::channel(0).0,
            runs: Mutex::default(),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let (pool, watches) = (Pool::new(1, 4), Watches::new(WatchSettings::default()));
        let shared = Arc::new(Shared(Arc::clone(&fake)));
        let scheduler = Scheduler::new(shared.clone(), shared, pool.clone(), watches.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(scheduler.run(stop.clone()));
        Bench { fake, pool, watches, began: Instant::now(), stop, task }
    }

    /// Seconds from the begin at which a watch ran.
    fn runs(&self, name: &str) -> Vec<f64> {
        let runs = self.fake.runs.lock().unwrap();
        let of = runs.iter().filter(|(ran, _)| ran == name);
        of.map(|(_, at)| at.duration_since(self.began).as_secs_f64()).collect()
    }

    async fn wait(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn change(&self, list: Vec<Watch>) {
        *self.fake.watches.lock().unwrap() = list;
        self.fake.changed.send_modify(|number| *number += 1);
    }

    /// Outcomes that would be told.
    async fn told(&self) -> Vec<(String, Outcome)> {
        self.watches.open(true);
        let report = self.watches.next().await;
        let read =
            |result: v1::WatchResult| (result.name, serde_json::from_slice(&result.outcome_json).unwrap());
        report.results.into_iter().map(read).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn each_watch_keeps_its_period_from_a_random_begin() {
    let mut first = Vec::new();
    for _ in 0..8 {
        let bench = Bench::new(vec![watch_of("a", "zfs.op.quick", 60)]);
        bench.wait(60 * 10).await;
        let runs = bench.runs("a");
        assert!((9..=10).contains(&runs.len()), "{runs:?}");
        assert!(runs.windows(2).all(|pair| (pair[1] - pair[0] - 60.0).abs() < 0.01), "{runs:?}");
        first.push(runs[0]);
        bench.stop.cancel();
        bench.task.await.unwrap();
    }
    assert!(first.iter().all(|at| (0.0..60.01).contains(at)));
    assert!(first.iter().any(|at| (at - first[0]).abs() > 1.0), "all begin at once: {first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_long_leaves_times_out() {
    let bench = Bench::new(vec![watch_of("a", "zfs.op.slow", 10)]);
    bench.wait(300).await;
    let runs = bench.runs("a");
    // 25 s each: the times after 10 and 20 s are left out.
    assert!(runs.windows(2).all(|pair| (pair[1] - pair[0] - 30.0).abs() < 0.01), "{runs:?}");
    assert!(runs.len() >= 9);
    assert_eq!(bench.fake.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn few_run_at_once_and_all_have_their_turn() {
    let names = ["a", "b", "c", "d", "e"];
    let bench = Bench::new(names.iter().map(|name| watch_of(name, "zfs.op.slow", 30)).collect());
    bench.wait(600).await;
    assert_eq!(bench.fake.most.load(Ordering::SeqCst), AT_ONCE);
    for name in names {
        // Two at a time, 25 s each, of five: each has its turn about once in 63 s.
        assert!(bench.runs(name).len() >= 7, "{name}: {:?}", bench.runs(name));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_it_runs_sooner_but_never_more_often_than_it_should_for_long() {
    let bench = Bench::new(vec![watch_of("a", "zfs.op.bad", 80)]);
    bench.wait(80 * 12).await;
    let runs = bench.runs("a");
    let pauses: Vec<f64> = runs.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((pauses[0] - 10.0).abs() < 0.01 && (pauses[1] - 20.0).abs() < 0.01, "{pauses:?}");
    assert!(pauses.iter().skip(4).all(|pause| (pause - 80.0).abs() < 0.01), "{pauses:?}");
    let told = bench.told().await;
    assert!(matches!(&told[..], [(_, Outcome::Failed { .. })]), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_run_is_a_result_too() {
    let list = vec![watch_of("gone", "zfs.op.gone", 10), watch_of("writes", "zfs.op.change", 10)];
    let bench = Bench::new(list);
    bench.wait(30).await;
    let told = bench.told().await;
    let of = |name: &str| told.iter().find(|(told, _)| told == name).map(|(_, outcome)| outcome);
    assert!(matches!(of("gone"), Some(Outcome::Refused { .. })), "{told:?}");
    assert!(matches!(of("writes"), Some(Outcome::Denied { .. })), "{told:?}");
    assert!(bench.runs("writes").is_empty(), "what changes never runs");
}

#[tokio::test(start_paused = true)]
async fn jobs_go_first() {
    let bench = Bench::new(vec![watch_of("a", "solo.op.stuck", 10)]);
    bench.wait(20).await;
    assert_eq!(bench.fake.inside.load(Ordering::SeqCst), 1);
    // The plugin may run once, and the watch holds that.
    let Some(jobs::pool::Place::Later(turn)) = bench.pool.enter(&"solo".parse().unwrap(), 1) else {
        panic!("the watch does not count")
    };
    let slot = tokio::time::timeout(Duration::from_secs(1), turn).await.expect("it gives way").unwrap();
    bench.wait(60).await;
    assert_eq!(bench.fake.inside.load(Ordering::SeqCst), 0, "and waits for the end of the job");
    drop(slot);
    bench.wait(1).await;
    assert_eq!(bench.fake.inside.load(Ordering::SeqCst), 1);
    assert!(bench.told().await.is_empty(), "to give way is no result");
}

#[tokio::test(start_paused = true)]
async fn other_watches_take_the_place_of_those_before() {
    let (a, b) = (watch_of("a", "zfs.op.quick", 10), watch_of("b", "zfs.op.quick", 10));
    let bench = Bench::new(vec![a.clone(), b.clone()]);
    bench.wait(100).await;
    let changed = Watch { version: "2".into(), digest: Digest::of(b"2"), ..b };
    bench.change(vec![changed]);
    bench.wait(1).await;
    let before = bench.runs("a").len();
    bench.wait(100).await;
    assert_eq!(bench.runs("a").len(), before);
    let told = bench.told().await;
    assert!(told.iter().all(|(name, _)| name == "b"), "{told:?}");
    bench.stop.cancel();
    bench.task.await.unwrap();
}
