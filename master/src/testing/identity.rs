//! Who may act for a node.

use super::{Event, FakeHost, Rig};
use crate::fleet::{FLAG_CLONED, FLAG_DUPLICATE};
use std::{collections::BTreeMap, time::Duration};
use tonic::Code;
use windlass_identity::{NodeIdentity, NodeKey, Trust, spki_fingerprint};
use windlass_proto::v1::{Accepted, host_message};
use windlass_types::{NodeId, RequestId, api::ChangeNode};

/// Whether a client was turned away below gRPC: it sees a TLS alert or a closed connection.
fn no_handshake(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown) && status.message().contains("transport error")
}

fn flags(flag: &str, set: bool) -> ChangeNode {
    ChangeNode { flags: BTreeMap::from([(flag.to_owned(), set)]), ..Default::default() }
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_at_once() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    assert!(matches!(rig.events.next().await, Event::Connected(..)));
    rig.fleet.revoke(host.id()).await.unwrap();
    // Said after the revocation: nobody listens any more.
    let late = Accepted { request_id: RequestId::new().to_string() };
    connection.say(host_message::Kind::Accepted(late)).await;
    let why = connection.ended().await;
    assert_eq!(why.code(), Code::PermissionDenied, "{why:?}");
    assert!(why.message().contains("revoked by an operator"), "{}", why.message());
    assert_eq!(rig.events.next().await, Event::Disconnected(host.id()));
    assert!(rig.events.rest().await.is_empty());
    assert!(!rig.named("n1").online());
    for refused in [host.again().refused().await, host.copy().refused().await] {
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("node `n1` is revoked"), "{}", refused.message());
    }
    let renewed = host.again().renew(&host.key()).await.err().unwrap();
    assert_eq!(renewed.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_deleted_node_is_cut_off_at_once() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    rig.fleet.delete(host.id()).await.unwrap();
    assert_eq!(connection.ended().await.code(), Code::Unauthenticated);
    let refused = host.again().refused().await;
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("was deleted"), "{}", refused.message());
}

#[tokio::test]
async fn the_connection_itself_is_cut_when_a_session_ends() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    // A second stream over the same connection, as a stubborn host might keep one.
    let (_keep, outgoing) = tokio::sync::mpsc::channel(1);
    let mut client = windlass_proto::v1::node_client::NodeClient::new(host.channel.clone());
    let pending = tokio::spawn(async move {
        client.connect(tokio_stream::wrappers::ReceiverStream::new(outgoing)).await.map(|_| ())
    });
    rig.fleet.revoke(host.id()).await.unwrap();
    connection.ended().await;
    let ended = super::soon("the end of the connection", pending).await.unwrap().unwrap_err();
    assert_ne!(ended.code(), Code::DeadlineExceeded, "it was left open until its hello was overdue");
}

#[tokio::test]
async fn a_copied_key_is_refused_while_the_real_host_lives() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    rig.events.next().await;
    let refused = host.copy().refused().await;
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("key may have been copied"), "{}", refused.message());
    assert!(rig.named("n1").flags.contains(FLAG_DUPLICATE));
    // The real one goes on.
    let request = RequestId::new();
    connection.say(host_message::Kind::Accepted(Accepted { request_id: request.to_string() })).await;
    assert_eq!(rig.events.next().await, Event::Accepted(request));
    assert!(!connection.is_over());
    assert!(connection.rest().is_empty());
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_replaced() {
    let rig = Rig::start_with(|config| config.heartbeat_ms = 200).await;
    let host = rig.join("n1").await;
    let mut silent = host.connect().await.unwrap();
    rig.events.next().await;
    silent.mute();
    // It goes on sending, so that only its answer is missing.
    let sending = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            silent.say(host_message::Kind::Heartbeat(Default::default())).await;
        }
    };
    let copy = host.copy();
    let connected = tokio::select! {
        connected = copy.connect() => connected.unwrap(),
        () = sending => unreachable!(),
    };
    let why = silent.ended().await;
    assert_eq!(why.code(), Code::Aborted, "{why:?}");
    assert!(matches!(rig.events.next().await, Event::Connected(..)), "no disconnection between");
    assert!(!connected.is_over() && rig.named("n1").online());
    assert!(!rig.named("n1").flags.contains(FLAG_DUPLICATE));
}

#[tokio::test]
async fn the_same_process_replaces_its_session() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut first = host.connect().await.unwrap();
    let second = host.again().connect().await.unwrap();
    assert_eq!(first.ended().await.code(), Code::Aborted);
    assert!(matches!(rig.events.next().await, Event::Connected(..)));
    assert!(matches!(rig.events.next().await, Event::Connected(..)));
    assert!(rig.named("n1").online());
    drop(second);
    assert_eq!(rig.events.next().await, Event::Disconnected(host.id()));
    assert!(!rig.named("n1").online());
}

#[tokio::test]
async fn an_older_certificate_locks_the_node() {
    let rig = Rig::start().await;
    let old = rig.join("n1").await;
    drop(old.connect().await.unwrap());
    // Renewed with another key, and not used yet: the old one is still good.
    let new = old.renew(&NodeKey::generate().unwrap()).await.unwrap();
    assert_eq!((old.generation(), new.generation()), (1, 2));
    drop(old.again().connect().await.unwrap());
    let mut connection = new.connect().await.unwrap();
    assert_eq!(rig.named("n1").fingerprint, new.key().fingerprint());
    assert_eq!(rig.named("n1").seen_generation, 2);

    let refused = old.again().refused().await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("generation 1, but generation 2 has been seen"),
        "{}",
        refused.message()
    );
    assert!(rig.named("n1").flags.contains(FLAG_CLONED));
    let why = connection.ended().await;
    assert!(why.message().contains("locked"), "{}", why.message());
    let locked = new.again().refused().await;
    assert_eq!(locked.code(), Code::PermissionDenied);
    assert!(locked.message().contains("remove its flag `cloned_key`"), "{}", locked.message());
    // The key gets no new certificate either.
    let refused = rig.ask(&new.key(), "n1", "", 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    rig.fleet.change(old.id(), &flags(FLAG_CLONED, false)).await.unwrap();
    new.again().connect().await.unwrap();
}

#[tokio::test]
async fn a_renewal_for_the_key_of_another_node_is_refused() {
    let rig = Rig::start().await;
    let (one, two) = (rig.join("n1").await, rig.join("n2").await);
    let refused = one.renew(&two.key()).await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn certificates_of_others_do_not_get_through_the_handshake() {
    let rig = Rig::start().await;
    let other = Rig::start().await;
    let foreign = other.join("n1").await;
    let wrong = FakeHost::new(rig.node, rig.trust(), &foreign.key(), &foreign.chain);
    let refused = wrong.refused().await;
    assert!(no_handshake(&refused), "{refused:?}");
    // The master's own certificate names no node.
    let (key, server) = rig.authority.server(&["localhost".into()]).unwrap();
    let master =
        windlass_identity::client_config(&rig.trust(), Some(Rig::identity(&server.chain_pem, &key)), &["h2"]);
    let channel =
        windlass_identity::channel(&rig.node.to_string(), master.unwrap().into(), &Default::default())
            .unwrap();
    let request = windlass_proto::v1::RenewRequest { csr_pem: key.csr_pem().unwrap() };
    let refused = windlass_proto::v1::node_client::NodeClient::new(channel).renew(request).await;
    assert!(no_handshake(&refused.unwrap_err()));
    // A host that pins another authority does not talk to this master.
    let host = rig.join("n1").await;
    let pin = Trust::Pin(spki_fingerprint(other.authority.der()).unwrap());
    let wrong = FakeHost::new(rig.node, pin, &host.key(), &host.chain);
    let refused = wrong.refused().await;
    assert!(refused.message().contains("UnknownIssuer"), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_for_a_node_that_never_was_is_refused() {
    let rig = Rig::start().await;
    let key = NodeKey::generate().unwrap();
    let request = crate::ca::Request::from_pem(&key.csr_pem().unwrap()).unwrap();
    let node = NodeIdentity { id: NodeId::new(), generation: 1 };
    let ttl = Duration::from_secs(3600);
    let issued = rig.authority.sign_node(request, node, &"ghost".parse().unwrap(), ttl).unwrap();
    let ghost = FakeHost::new(rig.node, rig.trust(), &key, &issued.chain_pem);
    assert_eq!(ghost.refused().await.code(), Code::Unauthenticated);
}
