//! Reports of hosts, over the real protocol and by hand.

use super::*;
use crate::{
    store::events::{Filter, page},
    testing::{Connection, FakeHost, Rig, soon},
};
use serde_json::json;
use windlass_proto::v1::{host_message, master_message::Kind};
use windlass_types::{
    Digest, Outcome,
    api::{events::Event, status::WatchState},
};

fn content(text: &str) -> bytes::Bytes {
    Digest::of(text.as_bytes()).as_bytes().to_vec().into()
}

fn listed(names: &[&str]) -> Option<v1::WatchList> {
    let watch = |name: &&str| v1::Watch {
        plugin: "zfs".into(),
        name: (*name).into(),
        operation: "pool.list".into(),
        every_ms: 10_000,
    };
    Some(v1::WatchList { watches: names.iter().map(watch).collect() })
}

fn result(name: &str, outcome: &Outcome, age_ms: u64) -> v1::WatchResult {
    let json = serde_json::to_string(outcome).unwrap();
    v1::WatchResult {
        plugin: "zfs".into(),
        name: name.into(),
        operation: "pool.list".into(),
        plugin_version: "1.0.0".into(),
        plugin_digest: Digest::of(b"bundle").to_string(),
        content: content(&json),
        outcome_json: json.into(),
        collected_ms: 77,
        age_ms,
    }
}

fn same(name: &str, outcome: &Outcome, age_ms: u64) -> v1::WatchSame {
    let v1::WatchResult { plugin, name, content, .. } = result(name, outcome, 0);
    v1::WatchSame { plugin, name, content, collected_ms: 88, age_ms }
}

fn good(value: impl Into<serde_json::Value>) -> Outcome {
    Outcome::Succeeded { value: value.into() }
}

fn bad(error: &str) -> Outcome {
    Outcome::Failed { error: error.into() }
}

/// A host with a session.
struct Bench {
    rig: Rig,
    host: FakeHost,
    connection: Connection,
    sequence: u64,
}

impl Bench {
    async fn new() -> Self {
        let rig = Rig::start().await;
        let host = rig.join("n1").await;
        let connection = host.connect().await.unwrap();
        Bench { rig, host, connection, sequence: 0 }
    }

    /// Send a report and wait for the acknowledgement; gives back what the master lacks.
    async fn report(&mut self, report: v1::WatchReport) -> Vec<String> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.connection.say(host_message::Kind::WatchReport(v1::WatchReport { sequence, ..report })).await;
        loop {
            if let Kind::WatchReportAcknowledged(acknowledged) = self.connection.next().await {
                assert_eq!(acknowledged.sequence, sequence);
                return acknowledged.unknown.into_iter().map(|name| name.name).collect();
            }
        }
    }

    async fn results(&mut self, results: Vec<v1::WatchResult>) {
        let unknown = self.report(v1::WatchReport { results, ..Default::default() }).await;
        assert!(unknown.is_empty());
    }

    fn node(&self) -> Arc<NodeRecord> {
        self.rig.fleet.node(self.host.id()).unwrap()
    }

    fn brief(&self) -> Vec<WatchStatus> {
        self.rig.status.brief(&self.node())
    }

    async fn events(&self) -> Vec<Event> {
        let filter = Filter::new(Some("watch.*"), None).unwrap();
        page(&self.rig.store, &filter, 0, 1000).await.unwrap()
    }

    async fn rows(&self) -> usize {
        store::status::load(&self.rig.store).await.unwrap().values().map(Vec::len).sum()
    }
}

#[tokio::test]
async fn results_are_kept_and_shown_with_their_age() {
    let mut bench = Bench::new().await;
    let list = listed(&["pools", "new"]);
    let results = vec![result("pools", &good(u64::MAX), 4000)];
    bench.report(v1::WatchReport { watches: list, results, ..Default::default() }).await;
    let status = bench.rig.status.of(&bench.node()).await.unwrap();
    let [new, pools] = &status.watches[..] else { panic!("{status:?}") };
    assert_eq!((new.state, new.age_ms, &new.outcome), (WatchState::NotYet, None, &None));
    assert_eq!((pools.state, pools.collected_ms), (WatchState::Ok, Some(77)));
    assert_eq!(pools.outcome, Some(good(u64::MAX)), "every digit");
    assert!(pools.age_ms.unwrap() >= 4000);
    assert_eq!(pools.received_ms.unwrap() - pools.changed_ms.unwrap(), 4000);
    assert!(bench.events().await.is_empty());
}

#[tokio::test]
async fn confirmations_are_heard_and_not_written() {
    let mut bench = Bench::new().await;
    let results = vec![result("a", &good(1), 0), result("b", &good(1), 0)];
    bench.report(v1::WatchReport { watches: listed(&["a", "b"]), results, ..Default::default() }).await;
    let before = store::status::load(&bench.rig.store).await.unwrap();
    // The second is another one than the master has.
    let confirmed = vec![same("a", &good(1), 5), same("b", &good(2), 5)];
    let unknown = bench.report(v1::WatchReport { same: confirmed, ..Default::default() }).await;
    assert_eq!(unknown, ["b"]);
    assert_eq!(store::status::load(&bench.rig.store).await.unwrap(), before);
    assert_eq!(bench.brief()[0].collected_ms, Some(88));
    // A run that is long ago makes it stale though the node is there.
    bench.report(v1::WatchReport { same: vec![same("a", &good(1), 31_000)], ..Default::default() }).await;
    assert_eq!(bench.brief()[0].state, WatchState::Stale);
    assert_eq!(bench.brief()[1].state, WatchState::Ok);
}

#[tokio::test]
async fn a_watch_that_begins_to_fail_and_recovers_is_told_once_each() {
    let mut bench = Bench::new().await;
    bench.report(v1::WatchReport { watches: listed(&["a"]), ..Default::default() }).await;
    // All at once, as after a time without a master.
    let all = [good(1), bad("gone"), bad("still gone"), good(2), good(3)];
    bench.results(all.iter().map(|outcome| result("a", outcome, 9000)).collect()).await;
    // The same report again: its acknowledgement was lost.
    bench.results(vec![result("a", &good(3), 9000)]).await;
    let events = bench.events().await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["watch.failing", "watch.recovered"]);
    assert_eq!((&*events[0].subject, &events[0].data["problem"]), ("zfs.a", &json!("gone")));
    assert_eq!(events[0].data["age_ms"], 9000);
    assert_eq!(bench.rig.status.of(&bench.node()).await.unwrap().watches[0].outcome, Some(good(3)));
    bench.results(vec![result("a", &bad("again"), 0)]).await;
    assert_eq!(
        (bench.brief()[0].state, bench.brief()[0].problem.as_deref()),
        (WatchState::Failing, Some("again"))
    );
}

#[tokio::test]
async fn watches_and_nodes_that_go_are_forgotten() {
    let mut bench = Bench::new().await;
    let results = vec![result("a", &good(1), 0), result("b", &good(1), 0)];
    bench.report(v1::WatchReport { watches: listed(&["a", "b"]), results, ..Default::default() }).await;
    assert_eq!(bench.rows().await, 2);
    bench.report(v1::WatchReport { watches: listed(&["b", "c"]), ..Default::default() }).await;
    let names: Vec<String> = bench.brief().into_iter().map(|watch| watch.watch).collect();
    assert_eq!((names, bench.rows().await), (vec!["b".to_owned(), "c".to_owned()], 1));
    // What is in no list is nobody's.
    bench.results(vec![result("a", &good(1), 0)]).await;
    assert_eq!(bench.rows().await, 1);
    let node = bench.node();
    bench.rig.fleet.delete(node.id).await.unwrap();
    soon("it is forgotten", async {
        while !bench.rig.status.brief(&node).is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(bench.rows().await, 0);
}

#[tokio::test]
async fn a_master_that_starts_anew_knows_the_results_and_waits_for_their_confirmation() {
    let mut bench = Bench::new().await;
    let results = vec![result("a", &good(1), 0), result("b", &bad("x"), 0)];
    bench.report(v1::WatchReport { watches: listed(&["a", "b"]), results, ..Default::default() }).await;
    let Bench { rig, host, connection, .. } = bench;
    drop(connection);
    let rig = rig.restart(Duration::ZERO).await;
    let host = host.at(rig.node);
    let node = rig.fleet.node(host.id()).unwrap();
    let stale = rig.status.of(&node).await.unwrap();
    assert!(stale.watches.iter().all(|watch| watch.state == WatchState::Stale && watch.outcome.is_some()));
    let connection = host.connect().await.unwrap();
    let mut bench = Bench { rig, host, connection, sequence: 0 };
    let confirmed = vec![same("a", &good(1), 5), same("b", &bad("x"), 5)];
    let report = v1::WatchReport { watches: listed(&["a", "b"]), same: confirmed, ..Default::default() };
    assert!(bench.report(report).await.is_empty());
    let states: Vec<WatchState> = bench.brief().iter().map(|watch| watch.state).collect();
    assert_eq!(states, [WatchState::Ok, WatchState::Failing]);
    assert_eq!(bench.events().await.len(), 1, "that it fails is no news");
}

#[tokio::test]
async fn a_host_that_lies_is_bounded() {
    let mut bench = Bench::new().await;
    bench.report(v1::WatchReport { watches: listed(&["a"]), ..Default::default() }).await;
    let a = result("a", &good(1), 0);
    // Each is acknowledged, so that it does not come for ever.
    let large = v1::WatchResult { outcome_json: vec![b' '; (256 << 10) + 1].into(), ..a.clone() };
    bench.results(vec![large]).await;
    assert_eq!(bench.brief()[0].kind.unwrap().as_str(), "trapped");
    let junk = v1::WatchResult { outcome_json: "{".into(), content: content("junk"), ..a.clone() };
    bench.results(vec![junk]).await;
    assert!(bench.brief()[0].problem.as_ref().unwrap().contains("cannot be read"));
    for name in ["../a", "", "A"] {
        bench.results(vec![v1::WatchResult { name: name.into(), ..a.clone() }]).await;
    }
    bench.results(vec![v1::WatchResult { plugin_digest: "md5:1".into(), ..a.clone() }]).await;
    let names: Vec<String> = (0..=report::MAX_WATCHES).map(|number| format!("w{number}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.report(v1::WatchReport { watches: listed(&many), ..Default::default() }).await;
    bench.report(v1::WatchReport { watches: listed(&["x", "x"]), ..Default::default() }).await;
    assert_eq!((bench.brief().len(), bench.rows().await), (1, 1));
    // A watch that flaps without end does not fill the log.
    for round in 0..4 {
        let flaps = (0..500).map(|number| match number % 2 {
            0 => result("a", &bad(&format!("{round} {number}")), 0),
            _ => result("a", &good(number), 0),
        });
        bench.results(flaps.collect()).await;
    }
    let events = bench.events().await;
    assert!(events.len() < 80, "{}", events.len());
    assert_eq!(bench.rows().await, 1);
}

#[tokio::test]
async fn all_results_of_a_node_together_are_bounded() {
    let mut bench = Bench::new().await;
    let names: Vec<String> = (0..70).map(|number| format!("w{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.report(v1::WatchReport { watches: listed(&names), ..Default::default() }).await;
    let large = good("x".repeat(250 << 10));
    for name in &names {
        bench.results(vec![result(name, &large, 0)]).await;
    }
    let kept = bench.brief().iter().filter(|watch| watch.state == WatchState::Ok).count();
    assert!((60..70).contains(&kept), "{kept}");
    assert!(
        bench
            .brief()
            .iter()
            .any(|watch| watch.problem.as_ref().is_some_and(|words| words.contains("all watches")))
    );
}

#[test]
fn a_text_means_a_watch_or_all_of_a_plugin() {
    let zfs = "zfs".parse().unwrap();
    assert!(means("zfs", &zfs, "pools") && means("zfs.pools", &zfs, "pools"));
    assert!(!means("zf", &zfs, "pools") && !means("zfs.pool", &zfs, "pools") && !means("", &zfs, "pools"));
}
