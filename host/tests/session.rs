//! The host against a master, over real TLS.

mod common;

use common::{FakeEngine, FakeMaster, Running, within};
use std::sync::{Arc, atomic::Ordering};
use tonic::Status;
use windlass_host::{explain::Remedy, session::State as HostState};
use windlass_proto::v1::{self, host_message::Kind, master_message};
use windlass_types::{Digest, Outcome, Refusal, RequestId};

#[tokio::test]
async fn a_job_goes_through_all_steps_and_is_forgotten_after_acknowledgement() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let mut session = master.session().await;
    assert_eq!(session.hello.protocol, 1);
    assert_eq!(session.hello.inventory.as_ref().unwrap().plugins[0].name, "demo");
    let id = RequestId::new();
    session.run(id, "demo.op.change").await;
    assert!(
        matches!(session.said().await, Kind::Accepted(accepted) if accepted.request_id == id.to_string())
    );
    assert!(matches!(session.said().await, Kind::Started(started) if started.request_id == id.to_string()));
    let Kind::Progress(progress) = session.said().await else { panic!("expected progress") };
    assert_eq!((progress.message.as_str(), progress.percent), ("half", Some(50)));
    engine.go.add_permits(1);
    let (result, outcome) = session.result().await;
    assert_eq!(result, id);
    let value = serde_json::from_str("{\"n\":18446744073709551615}").unwrap();
    assert_eq!(outcome, Outcome::Succeeded { value });
    // Without acknowledgement it comes again.
    assert_eq!(session.result().await.0, id);
    session.acknowledge(id).await;
    session.run(id, "demo.op.change").await;
    let other = RequestId::new();
    session.run(other, "demo.op.missing-plugin").await;
    engine.go.add_permits(1);
    loop {
        let (result, _) = session.result().await;
        if result == other {
            break;
        }
    }
    assert_eq!(engine.runs.load(Ordering::SeqCst), 2, "the repeated request did not run");
    host.kill().await;
}

#[tokio::test]
async fn unacknowledged_results_survive_a_restart_and_what_ran_is_indeterminate() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let (done, running) = (RequestId::new(), RequestId::new());
    // The first host gets another folder; the second begins with what a kill would leave of it.
    let first = tempfile::tempdir().unwrap();
    let host = Running::start(master.config(first.path(), ""), &engine).await;
    let mut session = master.session().await;
    session.run(done, "demo.op.change").await;
    engine.go.add_permits(1);
    assert_eq!(session.result().await.0, done);
    session.run(running, "demo.op.change").await;
    session.started(running).await;
    engine.running(1).await;
    for file in std::fs::read_dir(first.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    host.kill().await;

    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let mut session = master.session().await;
    let mut finished = session.hello.finished_requests.clone();
    finished.sort_unstable();
    let mut expected = [done.to_string(), running.to_string()];
    expected.sort_unstable();
    assert_eq!(finished, expected);
    assert!(session.hello.running_requests.is_empty());
    let mut outcomes = std::collections::BTreeMap::new();
    while outcomes.len() < 2 {
        let (id, outcome) = session.result().await;
        outcomes.insert(id, outcome);
    }
    assert!(matches!(outcomes[&done], Outcome::Succeeded { .. }));
    assert!(matches!(outcomes[&running], Outcome::Indeterminate { .. }));
    assert_eq!(engine.runs.load(Ordering::SeqCst), 2);
    host.kill().await;
}

#[tokio::test]
async fn a_master_of_a_past_epoch_is_left_and_gets_no_say() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    master.behave(|master| master.epoch = 7);
    let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
    let session = master.session().await;
    // A master that was paused wakes up.
    master.behave(|master| master.epoch = 6);
    session.cut.cut();
    let mut past = master.session().await;
    past.run(RequestId::new(), "demo.op.change").await;
    past.ended().await;
    host.says("it has epoch 6, and this host has been welcomed by a master of epoch 7").await;
    host.kill().await;
    // The next process remembers.
    let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
    host.says("a master of epoch 7").await;
    master.behave(|master| master.epoch = 8);
    loop {
        // Those that began before the change end by themselves.
        let mut session = master.session().await;
        if session.epoch == 8 {
            let id = RequestId::new();
            session.run(id, "demo.op.read").await;
            session.started(id).await;
            break;
        }
    }
    assert_eq!(engine.runs.load(Ordering::SeqCst), 1, "the past master's request did not run");
    host.kill().await;
}

#[tokio::test]
async fn a_lost_session_loses_no_job() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let mut session = master.session().await;
    let instance = session.hello.instance.clone();
    let id = RequestId::new();
    session.run(id, "demo.op.read").await;
    session.started(id).await;
    session.cut.cut();
    session.ended().await;
    let mut session = master.session().await;
    assert_eq!(session.hello.instance, instance, "the same process");
    assert_eq!(session.hello.running_requests, [id.to_string()]);
    session.run(id, "demo.op.read").await;
    engine.go.add_permits(2);
    let (result, outcome) = session.result().await;
    assert_eq!(result, id);
    assert!(outcome.is_success());
    assert_eq!(engine.runs.load(Ordering::SeqCst), 1);
    host.kill().await;
}

#[tokio::test]
async fn busy_cancel_and_plugin_sources() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), "workers = 1\nqueue = 0"), &engine).await;
    let mut session = master.session().await;
    let (first, second) = (RequestId::new(), RequestId::new());
    session.run(first, "demo.op.read").await;
    session.run(second, "demo.op.read").await;
    let (id, outcome) = session.result().await;
    assert_eq!(id, second);
    assert!(matches!(outcome, Outcome::Refused { reason: Refusal::Busy, .. }), "{outcome:?}");
    engine.running(1).await;
    session.say(master_message::Kind::Cancel(v1::Cancel { request_id: first.to_string() })).await;
    assert_eq!(session.result().await, (first, Outcome::Cancelled { started: true }));
    session.acknowledge(first).await;
    engine.running(0).await;

    let digest = Digest::of(b"demo").to_string();
    session.say(master_message::Kind::WantPlugin(v1::WantPlugin { digest: digest.clone() })).await;
    loop {
        if let Kind::PluginSource(source) = session.said().await {
            assert_eq!((source.digest, &source.wit[..]), (digest, b"wit".as_slice()));
            break;
        }
    }
    engine.changes.send_modify(|version| *version = 7);
    loop {
        if let Kind::Inventory(inventory) = session.said().await {
            assert_eq!(inventory.plugins[0].version, "1.0.7");
            break;
        }
    }
    host.stop().await;
}

#[tokio::test]
async fn heartbeats_are_answered_and_a_silent_master_is_left() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let mut session = master.session().await;
    let beat = v1::Heartbeat { sequence: 42, answers: 0, running_jobs: 0 };
    session.say(master_message::Kind::Heartbeat(beat)).await;
    let mut own = false;
    loop {
        match session.next().await {
            Kind::Heartbeat(beat) if beat.answers == 42 => break,
            Kind::Heartbeat(beat) => own |= beat.sequence > 0,
            _ => {}
        }
    }
    while !own {
        own = matches!(session.next().await, Kind::Heartbeat(beat) if beat.sequence > 0);
    }
    master.behave(|behaviour| {
        behaviour.beats = false;
        behaviour.heartbeat_ms = 50;
    });
    session.cut.cut();
    let mut silent = master.session().await;
    silent.ended().await;
    master.behave(|behaviour| behaviour.beats = true);
    // It comes back by itself.
    let _ = master.session().await;
    host.stop().await;
}

#[tokio::test]
async fn draining_finishes_what_runs_says_goodbye_and_ends() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let mut session = master.session().await;
    let running = RequestId::new();
    session.run(running, "demo.op.change").await;
    session.started(running).await;
    host.stop.cancel();
    // It takes a moment until the host has seen the token: what comes before is still taken.
    let mut id = RequestId::new();
    session.run(id, "demo.op.change").await;
    let refused = loop {
        match session.said().await {
            Kind::Accepted(accepted) if accepted.request_id == id.to_string() => {
                id = RequestId::new();
                session.run(id, "demo.op.change").await;
            }
            Kind::Result(result) if result.request_id == id.to_string() => {
                break serde_json::from_slice(&result.outcome_json).unwrap();
            }
            _ => {}
        }
    };
    assert!(matches!(refused, Outcome::Refused { reason: Refusal::Draining, .. }), "{refused:?}");
    engine.go.add_permits(10);
    let mut goodbye = false;
    while let Some(message) = within("goodbye", session.rx.recv()).await {
        match message.kind {
            Some(Kind::Result(result)) => {
                session.acknowledge(result.request_id.parse().unwrap()).await;
            }
            Some(Kind::Goodbye(_)) => goodbye = true,
            _ => {}
        }
    }
    assert!(goodbye);
    within("the host to stop", host.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_session_is_tried_again_seldom() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    master.behave(|behaviour| behaviour.refuse = Some(Status::permission_denied("revoked")));
    let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
    let HostState::Problem(problem) = host.says("refuses this node: revoked").await else { panic!() };
    // At least five seconds pass until the next attempt: see `backoff`.
    assert_eq!(problem.remedy, Remedy::RetrySlowly);
    assert_eq!(master.shared.count.load(Ordering::SeqCst), 1);
    assert_eq!(master.shared.asked.borrow().len(), 1, "a refusal is no reason to enrol again");
    host.stop().await;
}

#[tokio::test]
async fn a_copied_identity_is_told_what_it_is() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    master.behave(|behaviour| behaviour.refuse = Some(Status::already_exists("a copied key may be in use")));
    let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
    let state = host.says("a copied key may be in use").await.to_string();
    assert!(state.contains("needs an empty one instead"), "{state}");
    host.stop().await;
}

#[tokio::test]
async fn the_second_master_is_used_when_the_first_is_gone() {
    let authority = Arc::new(common::Authority::new());
    let (one, two) =
        (FakeMaster::start_with(Arc::clone(&authority)).await, FakeMaster::start_with(authority).await);
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeEngine::new());
    let mut config = one.config(dir.path(), "");
    config.masters.extend(two.config(dir.path(), "").masters);
    let host = Running::start(config, &engine).await;
    let session = one.session().await;
    drop(one);
    session.cut.cut();
    let _ = two.session().await;
    host.stop().await;
}
