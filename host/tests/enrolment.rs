//! Getting and keeping a certificate.

mod common;

use common::{Authority, FakeEngine, FakeMaster, Running};
use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, atomic::Ordering},
};
use tonic::Status;
use windlass_identity::{NodeKey, PeerRefused};
use windlass_proto::v1::{RenewSoon, enroll_reply::State, master_message};

#[tokio::test]
async fn a_pending_node_waits_and_joins_once_accepted() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    master.behave(|behaviour| behaviour.enroll = State::Pending);
    let mut host = Running::start(master.config(dir.path(), "join_token = \"secret\""), &engine).await;
    let key = host.says("windlass nodes accept n1 --fingerprint sha256:").await.to_string();
    let asked = master.asked(1).await;
    assert_eq!((asked.name.as_str(), asked.join_token.as_str(), asked.nonce.len()), ("n1", "secret", 32));
    assert_eq!(asked.wait_ms, 0, "the first answer comes at once");
    assert!(!asked.csr_pem.contains("PRIVATE"));
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&asked.facts_json).unwrap();
    let fingerprint = NodeKey::load(&dir.path().join("node.key")).unwrap().fingerprint();
    assert!(key.contains(&fingerprint.to_string()), "{key}");
    let again = master.asked(2).await;
    assert_ne!(asked.nonce, again.nonce);
    assert!(again.wait_ms > 0);
    master.behave(|behaviour| behaviour.enroll = State::Accepted);
    let session = master.session().await;
    assert_eq!(session.generation, 1);
    let key = dir.path().join("node.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(dir.path().join("node.crt")).unwrap().permissions().mode() & 0o077, 0);
    host.stop().await;

    // The certificate is kept: no second enrolment.
    let before = master.shared.asked.borrow().len();
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let session = master.session().await;
    assert_eq!((session.generation, master.shared.asked.borrow().len()), (1, before));
    host.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_and_the_next_session_shows_the_new_one() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let session = master.session().await;
    let key = NodeKey::load(&dir.path().join("node.key")).unwrap().fingerprint();
    session.say(master_message::Kind::RenewSoon(RenewSoon {})).await;
    let path = dir.path().join("node.crt");
    let first = std::fs::read(&path).unwrap();
    common::within("the new certificate", async {
        while std::fs::read(&path).unwrap() == first {
            tokio::task::yield_now().await;
        }
    })
    .await;
    session.cut.cut();
    let session = master.session().await;
    assert_eq!(session.generation, 2);
    assert_eq!(NodeKey::load(&dir.path().join("node.key")).unwrap().fingerprint(), key, "the key stays");
    host.stop().await;
}

#[tokio::test]
async fn renewal_comes_at_two_thirds_of_the_time() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    // Valid from 10 s ago until 5 s from now: two thirds are just now.
    master.behave(|behaviour| behaviour.seconds = 5);
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let _session = master.session().await;
    master.behave(|behaviour| behaviour.seconds = 3600);
    common::within("a renewal", async {
        while master.shared.generation.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_replaced_with_the_same_key() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let key = NodeKey::generate().unwrap();
    key.save(&dir.path().join("node.key")).unwrap();
    let node = windlass_identity::NodeIdentity { id: master.shared.node, generation: 1 };
    let expired = master.shared.authority.node(&key.csr_pem().unwrap(), node, -5);
    std::fs::write(dir.path().join("node.crt"), expired).unwrap();
    let host = Running::start(master.config(dir.path(), ""), &engine).await;
    let asked = master.asked(1).await;
    assert!(!asked.csr_pem.is_empty());
    let _ = master.session().await;
    assert_eq!(NodeKey::load(&dir.path().join("node.key")).unwrap().fingerprint(), key.fingerprint());
    host.stop().await;
}

#[tokio::test]
async fn a_node_the_master_forgot_asks_again() {
    for by_alert in [false, true] {
        let (dir, master, engine) =
            (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
        let host = Running::start(master.config(dir.path(), ""), &engine).await;
        let session = master.session().await;
        master.behave(|behaviour| {
            behaviour.enroll = State::Pending;
            if by_alert {
                behaviour.peer = Some(PeerRefused::Unknown);
            } else {
                behaviour.refuse = Some(Status::unauthenticated("no such node"));
            }
        });
        session.cut.cut();
        master.asked(2).await;
        assert!(!dir.path().join("node.crt").exists(), "the useless certificate is gone");
        master.behave(|behaviour| {
            behaviour.enroll = State::Accepted;
            behaviour.refuse = None;
            behaviour.peer = None;
        });
        let _ = master.session().await;
        host.stop().await;
    }
}

#[tokio::test]
async fn a_revoked_node_keeps_its_certificate_and_asks_seldom() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
    let session = master.session().await;
    master.behave(|behaviour| behaviour.peer = Some(PeerRefused::Revoked));
    session.cut.cut();
    host.says("has revoked this node").await;
    assert_eq!(master.shared.asked.borrow().len(), 1, "a revoked node does not enrol again by itself");
    assert!(dir.path().join("node.crt").exists());
    host.stop().await;
}

#[tokio::test]
async fn a_master_of_another_authority_gets_no_request() {
    let (dir, master, engine) = (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
    let mut config = master.config(dir.path(), "");
    config.authority = windlass_host::config::Authority::Fingerprint(Authority::new().fingerprint());
    let mut host = Running::start(config, &engine).await;
    host.says("is not a master of the authority that this host trusts").await;
    assert!(master.shared.asked.borrow().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_a_replayed_answer_is_not_stored() {
    for replay in [false, true] {
        let (dir, master, engine) =
            (tempfile::tempdir().unwrap(), FakeMaster::start().await, FakeEngine::new());
        master.behave(|behaviour| {
            behaviour.wrong_nonce = replay;
            behaviour.signer = (!replay).then(|| Arc::new(Authority::new()));
        });
        let mut host = Running::start(master.config(dir.path(), ""), &engine).await;
        host.says(if replay { "answered another request" } else { "does not come with the authority" }).await;
        assert!(!dir.path().join("node.crt").exists());
        host.stop().await;
    }
}
