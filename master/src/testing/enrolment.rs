//! How nodes join.

use super::{FakeHost, Rig, soon};
use crate::fleet::{ChangeKind, FleetError};
use std::collections::BTreeMap;
use tonic::Code;
use windlass_identity::NodeKey;
use windlass_proto::v1::{EnrollRequest, enroll_reply::State};
use windlass_types::{
    Fingerprint,
    api::{AcceptNode, NewJoinToken, NodeState},
};

#[tokio::test]
async fn a_new_host_waits_until_an_operator_accepts_its_key() {
    let rig = Rig::start().await;
    let key = NodeKey::generate().unwrap();
    let reply = rig.ask(&key, "n1", "", 0).await.unwrap();
    assert_eq!(reply.state(), State::Pending);
    assert!(reply.message.contains("windlass nodes accept n1"), "{}", reply.message);
    assert!(reply.message.contains(&key.fingerprint().to_string()));
    assert!(reply.certificate_pem.is_empty());
    assert_eq!(&reply.nonce[..], b"nonce");
    // Asking again is the same request.
    let again = rig.ask(&key, "n1", "", 0).await.unwrap();
    assert_eq!(again.node_id, reply.node_id);
    assert_eq!(rig.fleet.nodes().len(), 1);
    let node = rig.named("n1");
    assert_eq!((node.state, node.facts["os"].as_str()), (NodeState::Pending, Some("debian")));

    let other = NodeKey::generate().unwrap().fingerprint();
    let wrong = AcceptNode { fingerprint: Some(other), name: None };
    let refused = rig.fleet.accept(node.id, &wrong).await.unwrap_err();
    assert!(matches!(refused, FleetError::WrongFingerprint { .. }), "{refused}");

    rig.fleet.delete(node.id).await.unwrap();

    // The waiting host learns of it at once. When the news of its request is out it waits already:
    // between the two there is nothing that could hold it up.
    let mut changes = rig.fleet.subscribe();
    let asking = rig.ask(&key, "n1", "", 20_000);
    let accepting = async {
        let change = soon("the request", changes.recv()).await.unwrap();
        assert_eq!(change.kind, ChangeKind::Pending);
        let accepted = AcceptNode { fingerprint: Some(key.fingerprint()), name: None };
        rig.fleet.accept(change.node, &accepted).await.unwrap();
    };
    let started = std::time::Instant::now();
    let (reply, ()) = tokio::join!(asking, accepting);
    let reply = reply.unwrap();
    assert_eq!(reply.state(), State::Accepted);
    assert!(started.elapsed().as_secs() < 10, "the decision woke nobody");
    let host = FakeHost::new(rig.node, rig.trust(), &key, &reply.certificate_pem);
    host.connect().await.unwrap();
    assert_eq!(reply.ca_pem, rig.authority.pem());
}

#[tokio::test]
async fn a_join_token_lets_one_node_in_once() {
    let rig = Rig::start().await;
    let new = NewJoinToken { ttl_ms: None, labels: BTreeMap::from([("rack".into(), "r1".into())]) };
    let made = rig.fleet.create_join_token(&new).await.unwrap();
    let token = made.token.unwrap();
    let (one, two) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
    // One changed character of the secret.
    let mut wrong = token.clone();
    let last = if wrong.ends_with('A') { "E" } else { "A" };
    wrong.replace_range(wrong.len() - 1.., last);
    for bad in [wrong.as_str(), "wlj_x_y", "nonsense"] {
        let refused = rig.ask(&one, "n1", bad, 0).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{bad}");
    }
    assert!(rig.fleet.nodes().is_empty(), "a bad token leaves no pending node");

    let reply = rig.ask(&one, "n1", &token, 0).await.unwrap();
    assert_eq!(reply.state(), State::Accepted);
    assert_eq!(rig.named("n1").labels["rack"], "r1");
    let refused = rig.ask(&two, "n2", &token, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("used up"), "{}", refused.message());
    let listed = rig.fleet.join_tokens().await.unwrap();
    assert_eq!((listed.len(), listed[0].used_by, &listed[0].token), (1, Some(rig.named("n1").id), &None));
    // A lost reply: the same host asks again with the same, now used token.
    let again = rig.ask(&one, "n1", &token, 0).await.unwrap();
    assert_eq!((again.state(), again.node_id), (State::Accepted, reply.node_id));

    rig.fleet.delete_join_token(&made.id).await.unwrap();
    assert!(rig.fleet.join_tokens().await.unwrap().is_empty());
    assert!(matches!(rig.fleet.delete_join_token(&made.id).await, Err(FleetError::UnknownJoinToken { .. })));
}

#[tokio::test]
async fn two_hosts_with_one_token_race_and_one_wins() {
    let rig = Rig::start().await;
    let token = rig.token().await;
    let asking = (0..8).map(|n| {
        let (rig, token) = (&rig, &token);
        async move { rig.ask(&NodeKey::generate().unwrap(), &format!("n{n}"), token, 0).await }
    });
    let replies = futures_util::future::join_all(asking).await;
    assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1);
    assert_eq!(rig.fleet.nodes().len(), 1);
}

#[tokio::test]
async fn an_expired_token_is_worth_nothing() {
    let rig = Rig::start().await;
    let made = rig.fleet.create_join_token(&NewJoinToken::default()).await.unwrap();
    let id = made.id.clone();
    let expire: Result<(), crate::store::StoreError> = rig
        .store
        .write(move |c| {
            Box::pin(async move {
                crate::store::sql::query("UPDATE join_tokens SET expires_ms = 1 WHERE id = $1")
                    .bind(id)
                    .execute(c)
                    .await?;
                Ok(())
            })
        })
        .await;
    expire.unwrap();
    let refused = rig.ask(&NodeKey::generate().unwrap(), "n1", &made.token.unwrap(), 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let forever = NewJoinToken { ttl_ms: Some(u64::MAX), ..Default::default() };
    assert!(matches!(rig.fleet.create_join_token(&forever).await, Err(FleetError::BadChange(_))));
}

#[tokio::test]
async fn a_host_with_another_pin_sends_nothing() {
    let rig = Rig::start().await;
    let request =
        EnrollRequest { csr_pem: NodeKey::generate().unwrap().csr_pem().unwrap(), ..Default::default() };
    let refused = rig.request(Fingerprint::of(b"another authority"), request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(rig.fleet.nodes().is_empty());
}

#[tokio::test]
async fn rejected_and_revoked_keys_are_told_so() {
    let rig = Rig::start().await;
    let key = NodeKey::generate().unwrap();
    rig.ask(&key, "n1", "", 0).await.unwrap();
    let node = rig.named("n1").id;
    rig.fleet.reject(node).await.unwrap();
    let reply = rig.ask(&key, "n1", "", 0).await.unwrap();
    assert_eq!(reply.state(), State::Rejected);
    assert!(reply.message.contains("rejected by an operator"), "{}", reply.message);
    // An operator may think again.
    rig.fleet.accept(node, &AcceptNode::default()).await.unwrap();
    assert_eq!(rig.ask(&key, "n1", "", 0).await.unwrap().state(), State::Accepted);
    rig.fleet.revoke(node).await.unwrap();
    let reply = rig.ask(&key, "n1", "", 0).await.unwrap();
    assert_eq!(reply.state(), State::Revoked);
    assert!(reply.message.contains("windlass nodes delete"), "{}", reply.message);
    assert!(reply.certificate_pem.is_empty());
    // Not even with a token.
    let token = rig.token().await;
    assert_eq!(rig.ask(&key, "n1", &token, 0).await.unwrap().state(), State::Revoked);
    assert!(rig.fleet.join_tokens().await.unwrap()[0].used_by.is_none(), "the token is still good");
    for wrong in [rig.fleet.reject(node).await, rig.fleet.accept(node, &AcceptNode::default()).await] {
        assert!(matches!(wrong, Err(FleetError::WrongState { .. })));
    }
}

#[tokio::test]
async fn a_deleted_key_is_forgotten_and_may_ask_anew() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let old = host.id();
    rig.fleet.delete(old).await.unwrap();
    assert!(matches!(rig.fleet.delete(old).await, Err(FleetError::UnknownNode { .. })));
    let reply = rig.ask(&host.key(), "n1", "", 0).await.unwrap();
    assert_eq!(reply.state(), State::Pending);
    assert_ne!(reply.node_id, old.to_string(), "ids are never used again");
}

#[tokio::test]
async fn nobody_can_take_the_name_of_an_accepted_node() {
    let rig = Rig::start().await;
    let first = rig.join("n1").await;
    let key = NodeKey::generate().unwrap();
    let token = rig.token().await;
    let reply = rig.ask(&key, "n1", &token, 0).await.unwrap();
    assert_eq!(reply.state(), State::Pending);
    assert!(reply.message.contains("belongs to another node"), "{}", reply.message);
    assert!(rig.fleet.join_tokens().await.unwrap().iter().any(|token| token.used_by.is_none()));
    assert_eq!(rig.named("n1").id, first.id(), "the name still means the accepted node");
    let id = reply.node_id.parse().unwrap();
    let refused = rig.fleet.accept(id, &AcceptNode::default()).await.unwrap_err();
    assert!(matches!(refused, FleetError::NameTaken { by, .. } if by == first.id()), "{refused}");
    let named = AcceptNode { name: Some("n2".parse().unwrap()), fingerprint: None };
    assert_eq!(rig.fleet.accept(id, &named).await.unwrap().name.as_str(), "n2");
    assert_eq!(rig.ask(&key, "n1", "", 0).await.unwrap().node_name, "n2");
}

#[tokio::test]
async fn two_pending_nodes_with_one_name_are_told_apart_by_id() {
    let rig = Rig::start().await;
    assert!(rig.fleet.nodes().is_empty(), "and the list is not kept for ever");
    for _ in 0..2 {
        rig.ask(&NodeKey::generate().unwrap(), "n1", "", 0).await.unwrap();
    }
    let ambiguous = rig.fleet.find("n1").unwrap_err();
    assert!(matches!(&ambiguous, FleetError::AmbiguousName { ids, .. } if ids.len() == 2), "{ambiguous}");
    let id = rig.fleet.nodes()[0].id;
    assert_eq!(rig.fleet.find(&id.to_string()).unwrap().id, id);
    rig.fleet.accept(id, &AcceptNode::default()).await.unwrap();
    assert_eq!(rig.named("n1").id, id);
}

#[tokio::test]
async fn strangers_have_limits() {
    let rig = Rig::start_with(|config| {
        config.enroll.max_pending = 2;
        config.enroll.burst = 7;
        config.enroll.requests_per_second = 1;
    })
    .await;
    let ask = async |name: &str| rig.ask(&NodeKey::generate().unwrap(), name, "", 0).await;
    ask("n1").await.unwrap();
    ask("n2").await.unwrap();
    let full = ask("n3").await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("wait for a decision"), "{}", full.message());
    let pin = rig.authority.fingerprint();
    let csr_pem = NodeKey::generate().unwrap().csr_pem().unwrap();
    let large = EnrollRequest { csr_pem: "x".repeat(9000), name: "n4".into(), ..Default::default() };
    let large = rig.request(pin, large).await.unwrap_err();
    assert!(large.message().contains("larger than 8 KiB"), "{}", large.message());
    let facts = EnrollRequest {
        csr_pem: csr_pem.clone(),
        name: "n4".into(),
        facts_json: vec![b' '; 65 << 10].into(),
        ..Default::default()
    };
    let facts = rig.request(pin, facts).await.unwrap_err();
    assert!(facts.message().contains("larger than 64 KiB"), "{}", facts.message());
    let name = EnrollRequest { csr_pem, name: "../n4".into(), ..Default::default() };
    assert_eq!(rig.request(pin, name).await.unwrap_err().code(), Code::InvalidArgument);
    // Seven requests so far, one more a second.
    let many = [ask("n1").await, ask("n1").await, ask("n1").await];
    assert!(
        many.iter().flat_map(|reply| reply.as_ref().err()).any(|e| e.message().contains("too many requests"))
    );
}

#[tokio::test]
async fn hosts_with_tokens_are_not_slowed_down() {
    let rig = Rig::start_with(|config| {
        config.enroll.burst = 2;
        config.enroll.requests_per_second = 1;
    })
    .await;
    for n in 0..10 {
        rig.join(&format!("n{n}")).await;
    }
}

#[tokio::test]
async fn an_accepted_key_gets_its_certificate_again_but_not_while_it_is_connected() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    assert_eq!(host.generation(), 1);
    let connection = host.connect().await.unwrap();
    rig.events.next().await;
    let refused = rig.ask(&host.key(), "n1", "", 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("connected at this moment"), "{}", refused.message());
    drop(connection);
    rig.events.next().await;
    let reply = rig.ask(&host.key(), "n1", "", 0).await.unwrap();
    assert_eq!(host.with(&reply.certificate_pem, &host.key()).generation(), 2);
}

#[tokio::test]
async fn everything_that_matters_outlives_the_process() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    rig.ask(&NodeKey::generate().unwrap(), "n2", "", 0).await.unwrap();
    drop(host.connect().await.unwrap());
    rig.events.next().await;
    rig.events.next().await;
    rig.fleet.flush().await;
    // A second process would look at the same file.
    let store = super::open(&rig.config.database()).await;
    let fleet = crate::fleet::Fleet::open(store).await.unwrap();
    let (one, two) = (fleet.find("n1").unwrap(), fleet.find("n2").unwrap());
    assert_eq!((one.state, two.state), (NodeState::Accepted, NodeState::Pending));
    assert_eq!((one.id, one.fingerprint), (host.id(), host.key().fingerprint()));
    assert_eq!((one.issued_generation, one.seen_generation), (1, 1));
    assert_eq!(one.last_seen_ms(), rig.named("n1").last_seen_ms());
    assert!(one.certificate_expires_ms.is_some() && !one.online());
}
