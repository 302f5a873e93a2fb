//! What is kept, told and dropped.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn watch(name: &str, version: &str) -> Arc<Watch> {
    Arc::new(Watch {
        key: Key { plugin: "zfs".parse().unwrap(), name: name.into() },
        operation: "zfs.pool.list".parse().unwrap(),
        args: serde_json::Map::new(),
        every: Duration::from_secs(10),
        jitter: Duration::ZERO,
        version: version.into(),
        digest: Digest::of(version.as_bytes()),
    })
}

fn good(value: impl Into<serde_json::Value>) -> Outcome {
    Outcome::Succeeded { value: value.into() }
}

/// A keep under a clock of its own.
struct Bench {
    keep: Keep,
    now: Instant,
}

impl Bench {
    fn new(settings: WatchSettings, watches: &[Arc<Watch>]) -> Self {
        let mut keep = Keep::new(settings);
        keep.set(watches);
        Bench { keep, now: Instant::now() }
    }

    fn found(&mut self, watch: &Arc<Watch>, outcome: Outcome) {
        self.keep.found(Found { watch: Arc::clone(watch), outcome, ms: 7, at: self.now });
    }

    fn open(&mut self) {
        self.keep.open(self.now, Duration::ZERO);
    }

    fn report(&mut self) -> v1::WatchReport {
        self.now += SPACING;
        match self.keep.say(self.now) {
            Say::Now(report) => report,
            other => panic!("nothing to say: {other:?}"),
        }
    }

    /// The next report, acknowledged.
    fn told(&mut self) -> v1::WatchReport {
        let report = self.report();
        self.keep.acknowledged(report.sequence, &[]);
        report
    }

    fn values(report: &v1::WatchReport) -> Vec<serde_json::Value> {
        let value = |result: &v1::WatchResult| {
            let mut outcome: serde_json::Value = serde_json::from_slice(&result.outcome_json).unwrap();
            outcome["value"].take()
        };
        report.results.iter().map(value).collect()
    }
}

#[test]
fn only_what_differs_is_told_and_the_rest_confirmed() {
    let (a, b) = (watch("a", "1"), watch("b", "1"));
    let mut bench = Bench::new(WatchSettings::default(), &[a.clone(), b.clone()]);
    bench.found(&a, good(1));
    assert_eq!(bench.keep.say(bench.now), Say::Nothing, "nobody is there");
    bench.open();
    let first = bench.told();
    assert_eq!(first.watches.as_ref().unwrap().watches.len(), 2);
    assert_eq!(Bench::values(&first), [json!(1)]);
    assert_eq!(first.same.len(), 1, "the other has not run yet");

    bench.found(&a, good(1));
    bench.found(&b, good(2));
    let second = bench.told();
    assert!(second.watches.is_none() && second.same.is_empty());
    assert_eq!(Bench::values(&second), [json!(2)]);
    let Say::At(at) = bench.keep.say(bench.now) else { panic!("nothing is new") };
    bench.now = at;
    bench.found(&a, good(1));
    bench.now += Duration::from_secs(3);
    let confirmed = bench.told();
    assert!(confirmed.results.is_empty());
    let ages: Vec<u64> = confirmed.same.iter().map(|same| same.age_ms).collect();
    assert_eq!(ages[0], 3000 + 2000, "since it was found to be so again");
    assert!(ages[1] > 50_000, "since it was found");
}

#[test]
fn a_time_limit_is_no_news_each_time_and_another_version_is() {
    let (old, new) = (watch("a", "1"), watch("a", "2"));
    let mut bench = Bench::new(WatchSettings::default(), std::slice::from_ref(&old));
    bench.open();
    bench.found(&old, Outcome::TimedOut { after_ms: 1001 });
    bench.told();
    bench.found(&old, Outcome::TimedOut { after_ms: 1002 });
    assert!(matches!(bench.keep.say(bench.now + SPACING), Say::At(_)));
    bench.keep.set(std::slice::from_ref(&new));
    bench.found(&new, Outcome::TimedOut { after_ms: 1002 });
    assert_eq!(bench.told().results[0].plugin_version, "2");
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let a = watch("a", "1");
    let mut bench = Bench::new(WatchSettings::default(), std::slice::from_ref(&a));
    bench.found(&a, good(1));
    bench.open();
    let first = bench.report();
    bench.found(&a, good(2));
    assert!(matches!(bench.keep.say(bench.now), Say::At(_)), "one report at a time");
    bench.keep.acknowledged(first.sequence + 7, &[]);
    bench.now += RESEND;
    let again = bench.report();
    assert_eq!(Bench::values(&again), [json!(1), json!(2)]);
    assert!(again.watches.is_some());
    // A session that ends takes nothing along.
    bench.keep.close();
    bench.open();
    assert_eq!(Bench::values(&bench.told()), [json!(1), json!(2)]);
    bench.keep.close();
    bench.open();
    let confirmed = bench.told();
    assert!(confirmed.results.is_empty() && confirmed.same.len() == 1, "{confirmed:?}");
}

#[test]
fn a_master_that_lost_a_result_gets_it_again() {
    let a = watch("a", "1");
    let mut bench = Bench::new(WatchSettings::default(), std::slice::from_ref(&a));
    bench.found(&a, good(1));
    bench.open();
    bench.told();
    bench.keep.close();
    bench.open();
    let confirmed = bench.report();
    assert!(confirmed.results.is_empty());
    bench.keep.acknowledged(confirmed.sequence, std::slice::from_ref(&a.key));
    assert_eq!(Bench::values(&bench.told()), [json!(1)]);
    assert_eq!(bench.keep.dropped, 0);
}

#[test]
fn a_result_that_is_too_large_is_a_problem_of_its_watch() {
    let a = watch("a", "1");
    let settings = WatchSettings { result: 1024, ..WatchSettings::default() };
    let mut bench = Bench::new(settings, std::slice::from_ref(&a));
    bench.open();
    bench.found(&a, good("x".repeat(5000)));
    let report = bench.told();
    let outcome: Outcome = serde_json::from_slice(&report.results[0].outcome_json).unwrap();
    assert!(matches!(outcome, Outcome::Trapped { reason: TrapReason::Output, .. }), "{outcome:?}");
}

#[test]
fn watches_that_go_take_their_changes_along() {
    let (a, b) = (watch("a", "1"), watch("b", "1"));
    let mut bench = Bench::new(WatchSettings::default(), &[a.clone(), b.clone()]);
    bench.found(&a, good(1));
    bench.found(&b, good(2));
    bench.keep.set(std::slice::from_ref(&b));
    // One that ran meanwhile says nothing any more.
    bench.found(&a, good(3));
    bench.open();
    let report = bench.told();
    assert_eq!(Bench::values(&report), [json!(2)]);
    assert_eq!((report.watches.unwrap().watches.len(), report.dropped), (1, 0));
    assert_eq!(bench.keep.bytes, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Found(usize, u8, usize),
    Open,
    Close,
    Say,
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..4_u8, 0..600_usize).prop_map(|(at, value, pad)| Step::Found(at, value, pad)),
        1 => Just(Step::Open),
        1 => Just(Step::Close),
        3 => Just(Step::Say),
        3 => Just(Step::Acknowledge),
    ]
}

proptest! {
    /// Whatever happens: it stays within its bounds, the master gets the latest of each watch, the changes
    /// it gets are in their order, and those it does not get are counted.
    #[test]
    fn the_oldest_go_first_and_the_latest_never(steps in proptest::collection::vec(step(), 1..120)) {
        let watches = [watch("a", "1"), watch("b", "1"), watch("c", "1")];
        let settings = WatchSettings { changes: 6, bytes: 4000, result: 64 << 10 };
        let mut bench = Bench::new(settings, &watches);
        let mut latest: [Option<String>; 3] = Default::default();
        let mut at_master: [Option<String>; 3] = Default::default();
        let (mut made, mut got, mut dropped) = (0_u64, 0_u64, 0_u64);
        let mut sent: Option<v1::WatchReport> = None;
        let number = |name: &str| usize::from(name.as_bytes()[0] - b'a');
        let finish = [Step::Close, Step::Open].into_iter()
            .chain((0..40).flat_map(|_| [Step::Say, Step::Acknowledge]));
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Found(at, value, pad) => {
                    let text = format!("{value}{}", "x".repeat(pad));
                    if latest[at].as_deref() != Some(&text) {
                        made += 1;
                    }
                    bench.found(&watches[at], good(text.clone()));
                    latest[at] = Some(text);
                }
                Step::Open => { bench.open(); sent = None; }
                Step::Close => { bench.keep.close(); sent = None; }
                Step::Say => {
                    bench.now += SPACING;
                    if let Say::Now(report) = bench.keep.say(bench.now) {
                        sent = Some(report);
                    }
                }
                Step::Acknowledge => if let Some(report) = sent.take() {
                    for (result, value) in report.results.iter().zip(Bench::values(&report)) {
                        at_master[number(&result.name)] = Some(value.as_str().unwrap().to_owned());
                    }
                    got += report.results.len() as u64;
                    dropped += report.dropped;
                    bench.keep.acknowledged(report.sequence, &[]);
                },
            }
            let keep = &bench.keep;
            // One report may be under way: it is held beside the bounds, as is the latest of each watch.
            let under_way = sent.as_ref().map_or(0, |report| report.results.len());
            prop_assert!(keep.changes.len() <= settings.changes.max(3) + under_way);
            prop_assert_eq!(keep.bytes, keep.changes.iter().map(|change| change.bytes()).sum::<usize>());
            prop_assert!(keep.changes.iter().zip(keep.changes.iter().skip(1)).all(|(a, b)| a.number < b.number));
            let loose = keep.changes.iter().filter(|change| {
                keep.watches[&change.watch.key].latest.as_ref().unwrap().change.number != change.number
            });
            let loose: usize = loose.map(|change| change.bytes()).sum();
            prop_assert!(sent.is_some() || keep.bytes <= settings.bytes || loose == 0);
        }
        prop_assert_eq!(&at_master, &latest);
        prop_assert_eq!(made, got + dropped + bench.keep.dropped);
    }
}
