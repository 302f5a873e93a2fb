//! Both ends over real TLS on loopback.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::ServerName;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use windlass_identity::*;
use windlass_types::NodeId;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap();
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A chain for this key: valid from `days.0` to `days.1` days from now.
    fn sign(&self, key: &NodeKey, name: SanType, usage: ExtendedKeyUsagePurpose, days: (i64, i64)) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(&key.csr_pem().unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        params.not_before = OffsetDateTime::now_utc() + time::Duration::days(days.0);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days.1);
        request.params = params;
        request.signed_by(&self.issuer).unwrap().pem() + &self.pem
    }

    fn server(&self) -> (NodeKey, String) {
        let key = NodeKey::generate().unwrap();
        let name = SanType::DnsName("localhost".try_into().unwrap());
        let chain = self.sign(&key, name, ExtendedKeyUsagePurpose::ServerAuth, (-1, 1));
        (key, chain)
    }

    fn client(&self, node: NodeIdentity, days: (i64, i64)) -> Arc<ClientIdentity> {
        let key = NodeKey::generate().unwrap();
        let name = SanType::URI(node.uri().try_into().unwrap());
        let chain = self.sign(&key, name, ExtendedKeyUsagePurpose::ClientAuth, days);
        ClientIdentity::new(&chain, &key).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::Pin(spki_fingerprint(&certificates_from_pem(&self.pem).unwrap()[0]).unwrap())
    }
}

fn node() -> NodeIdentity {
    NodeIdentity { id: NodeId::new(), generation: 3 }
}

#[derive(Debug, Default)]
struct DenyList(Mutex<Vec<NodeId>>);
impl PeerCheck for DenyList {
    fn check(&self, peer: &CertificateFacts) -> Result<(), PeerRefused> {
        match peer.node {
            None => Err(PeerRefused::Unknown),
            Some(node) if self.0.lock().unwrap().contains(&node.id) => Err(PeerRefused::Revoked),
            Some(_) => Ok(()),
        }
    }
}

/// Echoes one byte at a time on each connection, and hands out who connected.
async fn serve(tls: &ServerTls) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<PeerInfo>) {
    let mut listener =
        TlsListener::new(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), tls).unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let address = listener.local_addr();
    tokio::spawn(async move {
        loop {
            let mut conn = listener.accept().await;
            let _ = sender.send(conn.peer().clone());
            tokio::spawn(async move {
                while let Ok(byte) = conn.read_u8().await {
                    if conn.write_u8(byte).await.is_err() || conn.flush().await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, receiver)
}

type Tls = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

/// Connect and send one byte there and back: with TLS 1.3 a refused client sees it only then.
async fn call(
    address: SocketAddr,
    trust: &Trust,
    id: Option<Arc<ClientIdentity>>,
    name: &str,
) -> std::io::Result<Tls> {
    let config = Arc::new(client_config(trust, id, &["h2"]).unwrap());
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
    echo(&mut tls).await.map(|()| tls)
}

async fn echo(tls: &mut Tls) -> std::io::Result<()> {
    tls.write_u8(7).await?;
    tls.flush().await?;
    assert_eq!(tls.read_u8().await?, 7);
    Ok(())
}

fn alert(result: std::io::Result<Tls>) -> String {
    result.expect_err("must be refused").to_string()
}

#[tokio::test]
async fn a_pinned_authority_is_believed_and_no_other() {
    let authority = Authority::new();
    let (key, chain) = authority.server();
    let (address, _) = serve(&ServerTls::server_only(&chain, &key, &["h2"]).unwrap()).await;
    call(address, &authority.trust(), None, "localhost").await.unwrap();
    let other = Authority::new();
    assert!(alert(call(address, &other.trust(), None, "localhost").await).contains("UnknownIssuer"));
    assert!(alert(call(address, &authority.trust(), None, "elsewhere").await).contains("not valid for name"));
    // The chain of another authority with ours appended does not help an impostor.
    let (impostor_key, impostor_chain) = other.server();
    let mixed = format!("{impostor_chain}{}", authority.pem);
    let (address, _) = serve(&ServerTls::server_only(&mixed, &impostor_key, &["h2"]).unwrap()).await;
    call(address, &authority.trust(), None, "localhost").await.expect_err("must be refused");
}

#[tokio::test]
async fn only_nodes_of_our_authority_get_in() {
    let authority = Authority::new();
    let (key, chain) = authority.server();
    let deny = Arc::new(DenyList::default());
    let roots = certificates_from_pem(&authority.pem).unwrap();
    let tls = ServerTls::mutual(&chain, &key, &roots, deny.clone(), &["h2"]).unwrap();
    let (address, mut peers) = serve(&tls).await;
    let trust = Trust::Authorities(roots);

    let us = node();
    call(address, &trust, Some(authority.client(us, (-1, 1))), "localhost").await.unwrap();
    assert_eq!(peers.recv().await.unwrap().certificate.unwrap().node, Some(us));

    assert!(alert(call(address, &trust, None, "localhost").await).contains("CertificateRequired"));
    let foreign = Authority::new().client(us, (-1, 1));
    assert!(alert(call(address, &trust, Some(foreign), "localhost").await).contains("DecryptError"));
    let expired = authority.client(us, (-2, -1));
    assert!(alert(call(address, &trust, Some(expired), "localhost").await).contains("CertificateExpired"));
    deny.0.lock().unwrap().push(us.id);
    let denied = authority.client(us, (-1, 1));
    assert!(alert(call(address, &trust, Some(denied), "localhost").await).contains("CertificateRevoked"));
}

#[tokio::test]
async fn a_connection_can_be_cut() {
    let authority = Authority::new();
    let (key, chain) = authority.server();
    let (address, mut peers) = serve(&ServerTls::server_only(&chain, &key, &[]).unwrap()).await;
    let mut tls = call(address, &authority.trust(), None, "localhost").await.unwrap();
    let peer = peers.recv().await.unwrap();
    echo(&mut tls).await.unwrap();
    peer.cut.cut();
    let end = tokio::time::timeout(Duration::from_secs(10), tls.read_u8()).await;
    assert!(end.expect("the connection ends").is_err());
}

#[tokio::test]
async fn certificates_are_swapped_while_running() {
    let authority = Authority::new();
    let (key, chain) = authority.server();
    let tls = ServerTls::server_only(&chain, &key, &[]).unwrap();
    let (address, _) = serve(&tls).await;
    let serial =
        |tls: &Tls| read_certificate(&tls.get_ref().1.peer_certificates().unwrap()[0]).unwrap().serial;
    let mut first = call(address, &authority.trust(), None, "localhost").await.unwrap();
    let (key, chain) = authority.server();
    tls.set_certificate(&chain, &key).unwrap();
    let second = call(address, &authority.trust(), None, "localhost").await.unwrap();
    assert_ne!(serial(&first), serial(&second));
    echo(&mut first).await.unwrap();
    assert!(
        tls.set_certificate(&chain, &NodeKey::generate().unwrap()).is_err(),
        "a key of another certificate"
    );
}
