//! A leader and a door to it, over real TLS.

use super::*;
use crate::{
    ca::Authority,
    config::Config,
    leading::Leading,
    session::{self, NodesOnly},
    store::{Store, tokens},
    testing::{FakeHost, LIMIT, soon},
};
use axum::{Extension, body::Body, response::Response};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::ServiceExt as _;
use windlass_identity::{
    ChannelOptions, ClientIdentity, CutHandle, NodeKey, PeerInfo, ServerTls, TlsListener, Trust, channel,
    client_config, master_name,
};
use windlass_proto::v1::{
    EnrollRequest, HostMessage, enroll_client::EnrollClient, enroll_reply::State, host_message,
    master_message::Kind, node_client::NodeClient,
};
use windlass_types::api::{NewToken, Role as Level};

const EPOCH: u64 = 41;

struct Pair {
    _dir: tempfile::TempDir,
    authority: Arc<Authority>,
    store: Store,
    leading: Leading,
    leader: Leader,
    /// The leader's role and its listener for masters.
    leads: watch::Sender<Role>,
    /// True while nothing passes between the masters.
    cut: watch::Sender<bool>,
    /// The door's role and its listeners.
    follows: watch::Sender<Role>,
    link: Arc<Link>,
    node: SocketAddr,
    enroll: SocketAddr,
    token: String,
    shutdown: CancellationToken,
}

/// The network between the masters: while it is cut, bytes are swallowed and no connection ends.
async fn forward(listener: TcpListener, to: SocketAddr, is_cut: watch::Receiver<bool>) {
    loop {
        let (from, _) = listener.accept().await.unwrap();
        let to = TcpStream::connect(to).await.unwrap();
        let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
        for (mut read, mut write) in [(from_read, to_write), (to_read, from_write)] {
            let is_cut = is_cut.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = read.read(&mut bytes).await {
                    if *is_cut.borrow() {
                        // A part is lost: nothing after it makes sense.
                        std::future::pending::<()>().await;
                    }
                    if write.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Pair {
    async fn start(heartbeat_ms: u32) -> Self {
        windlass_identity::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(Config { heartbeat_ms, ..Config::new(dir.path()) });
        let authority = Arc::new(Authority::create(&config.authority()).unwrap());
        let store = crate::testing::open(&config.database()).await;
        let new =
            NewToken { name: "admin".into(), role: Some(Level::Admin.into()), user: None, ttl_ms: None };
        let token = tokens::create(&store, &new).await.unwrap().token.unwrap();
        let shutdown = CancellationToken::new();
        let leading =
            Leading::begin(config.clone(), store.clone(), authority.clone(), EPOCH, &shutdown).await.unwrap();
        let (leads, roles) = watch::channel(Role::Leading(leading.services.clone()));
        let bind = || TcpListener::bind("127.0.0.1:0");
        let authorities = [authority.der().clone()];

        let (leader_id, beat) = (MasterId::new(), config.heartbeat());
        let (key, issued) = authority.peer(leader_id).unwrap();
        let check = Arc::new(peers::MastersOnly);
        let tls = ServerTls::mutual(&issued.chain_pem, &key, &authorities, check, &["h2"]).unwrap();
        let peer = TlsListener::new(bind().await.unwrap(), &tls).unwrap();
        let (cut, is_cut) = watch::channel(false);
        let between = bind().await.unwrap();
        let address = between.local_addr().unwrap().to_string();
        let leader = Leader { master: leader_id, epoch: EPOCH, address };
        tokio::spawn(forward(between, peer.local_addr(), is_cut));
        tokio::spawn(peers::serve(roles, peer, beat, shutdown.clone()));

        let (key, issued) = authority.peer(MasterId::new()).unwrap();
        let identity = ClientIdentity::new(&issued.chain_pem, &key).unwrap();
        let trust = Trust::Authorities(authorities.to_vec());
        let link = Link::new(leader.clone(), &trust, identity, beat).await.unwrap();
        let (follows, roles) = watch::channel(Role::Following(link.clone()));
        let (key, server) = authority.server(&config.server_names).unwrap();
        let node_tls =
            ServerTls::mutual(&server.chain_pem, &key, &authorities, Arc::new(NodesOnly), &["h2"]).unwrap();
        let enroll_tls = ServerTls::server_only(&server.chain_pem, &key, &["h2"]).unwrap();
        let node = TlsListener::new(bind().await.unwrap(), &node_tls).unwrap();
        let enroll = TlsListener::new(bind().await.unwrap(), &enroll_tls).unwrap();
        let (node_address, enroll_address) = (node.local_addr(), enroll.local_addr());
        let gate = |door| Gate::new(roles.clone(), door).router();
        tokio::spawn(session::serve(gate(Door::Node), node, shutdown.clone()));
        tokio::spawn(crate::enroll::serve(gate(Door::Enroll), enroll, shutdown.clone()));
        Pair {
            _dir: dir,
            authority,
            store,
            leading,
            leader,
            leads,
            cut,
            follows,
            link,
            node: node_address,
            enroll: enroll_address,
            token,
            shutdown,
        }
    }

    fn trust(&self) -> Trust {
        Trust::Pin(self.authority.fingerprint())
    }

    /// The API of the follower.
    async fn send(&self, request: Request<Body>) -> Response {
        let address = "192.0.2.7:1234".parse().unwrap();
        let peer = PeerInfo { certificate: None, address, cut: CutHandle::elsewhere() };
        let api = health::api(self.follows.subscribe(), self.store.clone()).layer(Extension(peer));
        soon("a reply", api.oneshot(request)).await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("host", "the-door.example")
            .header("connection", "close");
        let reply = self.send(request.body(Body::from(body.to_string())).unwrap()).await;
        let status = reply.status();
        let bytes = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()))
    }

    /// A host that joins through the follower.
    async fn join(&self, name: &str) -> FakeHost {
        let (status, made) = self.call(Method::POST, "/api/v1/join-tokens", json!({})).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let key = NodeKey::generate().unwrap();
        let tls = client_config(&self.trust(), None, &["h2"]).unwrap();
        let options = ChannelOptions::default();
        let channel = channel(&self.enroll.to_string(), Arc::new(tls), &options).unwrap();
        let request = EnrollRequest {
            csr_pem: key.csr_pem().unwrap(),
            name: name.into(),
            join_token: made["token"].as_str().unwrap().into(),
            ..Default::default()
        };
        let reply = soon("a reply", EnrollClient::new(channel).request(request)).await.unwrap().into_inner();
        assert_eq!(reply.state(), State::Accepted);
        FakeHost::new(self.node, self.trust(), &key, &reply.certificate_pem)
    }

    async fn shown(&self, name: &str) -> Value {
        self.call(Method::GET, &format!("/api/v1/nodes/{name}"), Value::Null).await.1
    }

    async fn until_online(&self, name: &str, online: bool) {
        soon("the presence", async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            while self.shown(name).await["online"] != online {
                tick.tick().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_host_at_a_follower_is_a_host_of_the_leader() {
    let pair = Pair::start(2000).await;
    let host = pair.join("n1").await;
    let mut connection = host.begin(host_message::Kind::Hello(host.hello.clone())).await.unwrap();
    let Kind::Welcome(welcome) = connection.next().await else { panic!("no welcome") };
    assert_eq!((welcome.epoch, welcome.node_id), (EPOCH, host.id().to_string()));
    let shown = pair.shown("n1").await;
    assert_eq!((&shown["online"], &shown["address"]), (&json!(true), &json!("127.0.0.1")), "{shown}");
    assert!(pair.link.carried() >= 1);
    let key = host.key();
    let renewed = host.renew(&key).await.unwrap();
    assert_eq!(renewed.generation(), host.generation() + 1);
    let (status, _) = pair.call(Method::POST, "/api/v1/nodes/n1/revoke", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(connection.ended().await.code(), Code::PermissionDenied, "the leader's own words");
    assert_eq!(host.again().refused().await.code(), Code::PermissionDenied);
    let entries = pair.call(Method::GET, "/api/v1/audit", Value::Null).await.1;
    assert!(entries.to_string().contains("node.revoke"), "{entries}");
    soon("nothing is under way", async {
        while pair.link.carried() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_caller_is_who_the_door_says_and_nobody_else() {
    let pair = Pair::start(2000).await;
    let host = pair.join("n1").await;
    // A caller that claims to be a host, at the API of a follower.
    let claim = json!({ "address": "203.0.113.9:1", "certificate": {
        "node": format!("spiffe://windlass/node/{}/1", host.id()), "serial": "1", "not_before_ms": 0,
        "not_after_ms": i64::MAX, "fingerprint": host.key().fingerprint(),
    }});
    let request = Request::get("/api/v1/nodes").header("windlass-caller", claim.to_string());
    let reply = pair.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED, "no token, and the leader says so");
    let entries = pair.call(Method::GET, "/api/v1/audit", Value::Null).await.1.to_string();
    assert!(entries.contains("192.0.2.7") && !entries.contains("203.0.113.9"), "{entries}");

    // Hosts do not get in where masters speak, nor masters where hosts do.
    let (master, issued) = pair.authority.peer(MasterId::new()).unwrap();
    let name = format!("{}:{}", master_name(pair.leader.master), 1);
    for (key, chain, address, name) in [
        (host.key(), host.chain.clone(), pair.leader.address.clone(), name.clone()),
        (master, issued.chain_pem.clone(), pair.node.to_string(), "localhost:1".into()),
    ] {
        let identity = ClientIdentity::new(&chain, &key).unwrap();
        let tls = client_config(&pair.trust(), Some(identity), &["h2"]).unwrap();
        let options = ChannelOptions { dial: Some(address.parse().unwrap()), ..ChannelOptions::default() };
        let mut client = NodeClient::new(channel(&name, Arc::new(tls), &options).unwrap());
        let hello = host_message::Kind::Hello(host.hello.clone());
        let messages = tokio_stream::iter([HostMessage { kind: Some(hello) }]);
        let refused = soon("an end", client.connect(messages)).await.err().unwrap();
        assert!(
            format!("{refused:?}").contains("ecrypt") || format!("{refused:?}").contains("lert"),
            "{refused:?}"
        );
    }
    // A master that is not the one that leads is not taken for it.
    let other = Leader { master: MasterId::new(), ..pair.leader.clone() };
    let (key, issued) = pair.authority.peer(MasterId::new()).unwrap();
    let identity = ClientIdentity::new(&issued.chain_pem, &key).unwrap();
    let link = Link::new(other, &pair.trust(), identity, Duration::from_secs(1)).await.unwrap();
    assert!(pair.link.reaches().await && !link.reaches().await);
}

#[tokio::test]
async fn what_was_carried_ends_with_the_lead() {
    let pair = Pair::start(2000).await;
    let host = pair.join("n1").await;
    let mut connection = host.connect().await.unwrap();
    // The leader loses the lease: its door for masters answers no more.
    pair.leads.send_replace(Role::waiting("a test"));
    let (status, error) = pair.call(Method::GET, "/api/v1/nodes", Value::Null).await;
    assert_eq!((status, &error["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("no_leader")));
    assert!(error["hint"].as_str().unwrap().contains("try again"), "{error}");
    assert_eq!(pair.call(Method::GET, "/readyz", Value::Null).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(pair.call(Method::GET, "/healthz", Value::Null).await.0, StatusCode::OK);
    // The follower learns of another one.
    pair.follows.send_replace(Role::waiting("an election"));
    pair.link.end();
    let ended = connection.ended().await;
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("has changed"), "{ended:?}");
    assert_eq!(host.again().refused().await.code(), Code::Unavailable);
    // The leader leads again: everything is as before, through the same door.
    pair.leads.send_replace(Role::Leading(pair.leading.services.clone()));
    let (key, issued) = pair.authority.peer(MasterId::new()).unwrap();
    let identity = ClientIdentity::new(&issued.chain_pem, &key).unwrap();
    let beat = Duration::from_secs(2);
    let link = Link::new(pair.leader.clone(), &pair.trust(), identity, beat).await.unwrap();
    pair.follows.send_replace(Role::Following(link));
    let _connection = host.again().connect().await.unwrap();
    let (status, text) = pair.call(Method::GET, "/readyz", Value::Null).await;
    assert!(status == StatusCode::OK && text.as_str().unwrap().contains("follower of"), "{text}");
    let (status, text) = pair.call(Method::GET, "/metrics", Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    let text = text.as_str().unwrap().to_owned();
    assert!(text.contains("windlass_leader 0") && text.contains("windlass_carried 1"), "{text}");
    let reply = pair.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_leader_that_is_gone_is_noticed_and_a_silent_host_too() {
    let pair = Pair::start(200).await;
    let (silent, host) = (pair.join("silent").await, pair.join("n1").await);
    let mut mute = silent.connect().await.unwrap();
    let mut connection = host.connect().await.unwrap();
    mute.mute();
    assert!(mute.ended().await.message().contains("three heartbeats"));
    pair.until_online("silent", false).await;
    assert!(!connection.is_over());
    // Nothing goes through any more between the masters, and nobody says so.
    pair.cut.send_replace(true);
    let ended = connection.ended().await;
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("master is gone"), "the follower has noticed: {ended:?}");
    // So has the leader: the node is offline for it.
    let fleet = pair.leading.fleet();
    soon("the node is offline", async {
        while fleet.node(host.id()).unwrap().online() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!pair.link.reaches().await);
    // And all is well again with the network.
    pair.cut.send_replace(false);
    let _connection = soon("a session", async {
        loop {
            if let Ok(connection) = host.again().connect().await {
                break connection;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_host_that_reads_nothing_holds_up_no_other() {
    let pair = Pair::start(2000).await;
    let (deaf, fine) = (pair.join("deaf").await, pair.join("fine").await);
    let slow = deaf.connect().await.unwrap();
    let mut quick = fine.connect().await.unwrap();
    slow.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    let fleet = pair.leading.fleet();
    let run = |bytes: usize| {
        Kind::Run(windlass_proto::v1::Run { args_json: vec![b' '; bytes].into(), ..Default::default() })
    };
    let mut sent = 0;
    let full = async {
        while fleet.send(deaf.id(), run(64 << 10)).is_ok() {
            sent += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, full).await.expect("what waits for one host has an end");
    assert!(sent > 0);
    fleet.send(fine.id(), run(1)).unwrap();
    assert!(matches!(quick.next().await, Kind::Run(_)));
    pair.until_online("deaf", false).await;
}

#[tokio::test]
async fn many_hosts_come_and_go_at_once_over_one_connection() {
    const HOSTS: usize = 120;
    let pair = Pair::start(2000).await;
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        hosts.push(pair.join(&format!("n{number}")).await);
    }
    let online = || pair.leading.fleet().nodes().iter().filter(|node| node.online()).count();
    let until = async |number: usize| {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        soon("all hosts", async {
            while online() != number {
                tick.tick().await;
            }
        })
        .await;
    };
    for _ in 0..3 {
        let connecting = hosts.iter().map(|host| host.again());
        let connecting = connecting.map(|host| tokio::spawn(async move { host.connect().await.unwrap() }));
        let connections = futures_util::future::join_all(connecting.collect::<Vec<_>>()).await;
        until(HOSTS).await;
        drop(connections);
        until(0).await;
    }
    assert!(pair.link.reaches().await);
}

#[tokio::test]
async fn long_bodies_and_streams_go_through() {
    let pair = Pair::start(2000).await;
    let request = |method: Method, path: &str| {
        Request::builder().method(method).uri(path).header("authorization", format!("Bearer {}", pair.token))
    };
    // The leader has read all of it, since it says what is wrong with it.
    let chunks = (0..64).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]));
    let body = Body::from_stream(tokio_stream::iter(chunks));
    let reply = pair.send(request(Method::POST, "/api/v1/bundles").body(body).unwrap()).await;
    let bytes = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    let error: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(error["code"], "bad_package", "{error}");
    // Its limits hold at the door as well.
    let body = Body::from(vec![b' '; 2 << 20]);
    let reply = pair.send(request(Method::POST, "/api/v1/targets/resolve").body(body).unwrap()).await;
    assert_eq!(reply.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // A body that is cut on the way is no whole one.
    let broken = tokio_stream::iter([Ok(vec![b'{']), Err(std::io::Error::other("gone"))]);
    let body = Body::from_stream(broken);
    let reply = pair.send(request(Method::POST, "/api/v1/join-tokens").body(body).unwrap()).await;
    assert!(!reply.status().is_success(), "{}", reply.status());
}

#[tokio::test]
async fn what_the_leader_may_have_done_is_not_called_undone() {
    let pair = Arc::new(Pair::start(2000).await);
    let token = format!("Bearer {}", pair.token);
    let post = Request::post("/api/v1/join-tokens").header("authorization", token);
    let asked = tokio::spawn({
        let pair = pair.clone();
        let body = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>());
        async move { pair.send(post.body(body).unwrap()).await }
    });
    soon("it is under way", async {
        while pair.link.carried() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    pair.link.end();
    let reply = asked.await.unwrap();
    assert_eq!(reply.status(), StatusCode::BAD_GATEWAY);
    let bytes = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    let error: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(error["code"], "leader_lost", "{error}");
    // Nor is what never got there called uncertain.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let (key, issued) = pair.authority.peer(MasterId::new()).unwrap();
    let identity = ClientIdentity::new(&issued.chain_pem, &key).unwrap();
    let leader = Leader { address: nobody, ..pair.leader.clone() };
    let link = Link::new(leader, &pair.trust(), identity, Duration::from_secs(1)).await.unwrap();
    pair.follows.send_replace(Role::Following(link));
    let (_, error) = pair.call(Method::POST, "/api/v1/join-tokens", json!({})).await;
    assert_eq!(error["code"], "no_leader", "{error}");
    // What changes nothing may be asked again.
    pair.follows.send_replace(Role::Following(pair.link.clone()));
    let (status, error) = pair.call(Method::GET, "/api/v1/nodes", Value::Null).await;
    assert_eq!((status, &error["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("no_leader")));
}
