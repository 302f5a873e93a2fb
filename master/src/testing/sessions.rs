//! The stream between host and master.

use super::{Event, Rig, soon};
use crate::fleet::{ChangeKind, Offline};
use std::{sync::atomic::Ordering, time::Duration};
use tonic::Code;
use windlass_proto::v1::{
    Accepted, Facts, Goodbye, Hello, Progress, Result as JobResult, Run, Started, host_message,
    master_message::Kind,
};
use windlass_types::{Outcome, RequestId};

fn run(request: RequestId, bytes: usize) -> Kind {
    Kind::Run(Run {
        request_id: request.to_string(),
        args_json: vec![b' '; bytes].into(),
        ..Default::default()
    })
}

#[tokio::test]
async fn messages_arrive_in_order_and_results_are_acknowledged() {
    let rig = Rig::start().await;
    let mut host = rig.join("n1").await;
    let (request, journal) = (RequestId::new(), [RequestId::new(), RequestId::new()]);
    host.hello.running_requests = vec![journal[0].to_string(), "nonsense".into()];
    host.hello.finished_requests = vec![journal[1].to_string()];
    let mut connection = host.connect().await.unwrap();
    let connected = rig.events.next().await;
    assert_eq!(connected, Event::Connected(host.id(), vec![journal[0]], vec![journal[1]]));

    rig.fleet.send(host.id(), run(request, 3)).unwrap();
    let Kind::Run(sent) = connection.next().await else { panic!("not a run") };
    assert_eq!(sent.request_id, request.to_string());
    let request_id = sent.request_id;
    let percent = Some(250);
    let outcome_json = br#"{"status":"succeeded","value":18446744073709551615}"#.to_vec().into();
    for kind in [
        host_message::Kind::Accepted(Accepted { request_id: request_id.clone() }),
        host_message::Kind::Started(Started { request_id: "nonsense".into() }),
        host_message::Kind::Started(Started { request_id: request_id.clone() }),
        host_message::Kind::Progress(Progress {
            request_id: request_id.clone(),
            message: "half".into(),
            percent,
        }),
        host_message::Kind::Result(JobResult {
            request_id: request_id.clone(),
            outcome_json,
            ..Default::default()
        }),
    ] {
        connection.say(kind).await;
    }
    assert_eq!(rig.events.next().await, Event::Accepted(request));
    assert_eq!(rig.events.next().await, Event::Started(request));
    assert_eq!(rig.events.next().await, Event::Progress(request, "half".into(), Some(100)));
    assert_eq!(
        rig.events.next().await,
        Event::Result(request, Outcome::Succeeded { value: u64::MAX.into() })
    );
    assert!(matches!(connection.next().await, Kind::Acknowledge(ack) if ack.request_id == request_id));
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_is_not_acknowledged() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    rig.events.broken.store(true, Ordering::SeqCst);
    let result = JobResult {
        request_id: RequestId::new().to_string(),
        outcome_json: br#"{"status":"cancelled","started":true}"#.to_vec().into(),
        ..Default::default()
    };
    connection.say(host_message::Kind::Result(result.clone())).await;
    let why = connection.ended().await;
    assert_eq!(why.code(), Code::Unavailable, "{why:?}");
    assert!(connection.rest().is_empty(), "it was acknowledged");
    // The next session brings it again.
    rig.events.broken.store(false, Ordering::SeqCst);
    let mut connection = host.again().connect().await.unwrap();
    connection.say(host_message::Kind::Result(result)).await;
    assert!(matches!(connection.next().await, Kind::Acknowledge(_)));
}

#[tokio::test]
async fn a_silent_host_goes_offline() {
    let rig = Rig::start_with(|config| config.heartbeat_ms = 50).await;
    let host = rig.join("n1").await;
    let mut changes = rig.fleet.subscribe();
    let mut connection = host.connect().await.unwrap();
    rig.events.next().await;
    assert!(rig.named("n1").online());
    connection.mute();
    let silent = std::time::Instant::now();
    assert_eq!(rig.events.next().await, Event::Disconnected(host.id()));
    assert!(silent.elapsed() >= Duration::from_millis(100), "sooner than three heartbeats");
    assert!(!rig.named("n1").online());
    assert!(rig.named("n1").last_seen_ms().is_some());
    assert!(connection.ended().await.message().contains("three heartbeats"));
    assert_eq!(rig.fleet.send(host.id(), run(RequestId::new(), 0)), Err(Offline));
    let kinds: Vec<ChangeKind> =
        std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.kind).collect();
    let ends: Vec<_> =
        kinds.into_iter().filter(|k| matches!(k, ChangeKind::Online | ChangeKind::Offline)).collect();
    assert_eq!(ends, [ChangeKind::Online, ChangeKind::Offline]);
}

#[tokio::test]
async fn a_host_that_answers_stays_online_for_many_heartbeats() {
    let rig = Rig::start_with(|config| config.heartbeat_ms = 100).await;
    let host = rig.join("n1").await;
    let connection = host.connect().await.unwrap();
    rig.events.next().await;
    let first = rig.named("n1").last_seen_ms().unwrap();
    soon("ten heartbeats", async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while rig.named("n1").last_seen_ms().unwrap() < first + 1000 {
            tick.tick().await;
        }
    })
    .await;
    assert!(!connection.is_over());
    assert!(rig.events.rest().await.is_empty());
}

#[tokio::test]
async fn a_host_that_reads_nothing_is_ended_and_holds_up_nobody() {
    let rig = Rig::start().await;
    let (deaf, fine) = (rig.join("deaf").await, rig.join("fine").await);
    let slow = deaf.connect().await.unwrap();
    let mut quick = fine.connect().await.unwrap();
    rig.events.next().await;
    rig.events.next().await;
    slow.deaf.store(true, Ordering::SeqCst);
    let mut sent = 0;
    while rig.fleet.send(deaf.id(), run(RequestId::new(), 64 << 10)).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the queue has no end");
        tokio::task::yield_now().await;
    }
    assert!(sent >= crate::fleet::OUTGOING);
    assert_eq!(rig.events.next().await, Event::Disconnected(deaf.id()));
    rig.fleet.send(fine.id(), run(RequestId::new(), 1)).unwrap();
    assert!(matches!(quick.next().await, Kind::Run(_)));
}

#[tokio::test]
async fn hosts_are_told_when_the_master_stops() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    rig.shutdown.cancel();
    let why = connection.ended().await;
    assert_eq!(why.code(), Code::Unavailable);
    assert!(why.message().contains("shutting down"), "{}", why.message());
}

#[tokio::test]
async fn a_goodbye_ends_the_session_in_order() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    connection.say(host_message::Kind::Goodbye(Goodbye { reason: "stopping".into() })).await;
    assert_eq!(connection.ended().await.code(), Code::Ok);
    rig.events.next().await;
    assert_eq!(rig.events.next().await, Event::Disconnected(host.id()));
}

#[tokio::test]
async fn facts_may_change_during_a_session() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let connection = host.connect().await.unwrap();
    let mut changes = rig.fleet.subscribe();
    for json in [&b"[]"[..], br#"{"os":"trixie"}"#] {
        connection.say(host_message::Kind::Facts(Facts { json: json.to_vec().into() })).await;
    }
    soon("the change", async { while changes.recv().await.unwrap().kind != ChangeKind::Data {} }).await;
    assert_eq!(rig.named("n1").facts["os"], "trixie");
}

#[tokio::test]
async fn a_bad_hello_is_refused_with_words() {
    let rig = Rig::start().await;
    let mut host = rig.join("n1").await;
    let refused = host.begin(host_message::Kind::Goodbye(Goodbye::default())).await.err().unwrap();
    assert!(refused.message().contains("has to be its hello"), "{}", refused.message());
    host.hello = Hello { protocol: 99, ..host.hello };
    let refused = host.refused().await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("protocol 1, the host 99"), "{}", refused.message());
    assert!(!rig.named("n1").online());
}
