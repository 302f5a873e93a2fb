//! Blobs on their way to hosts.

use super::{Rig, Spec, bundles::upload, managed::fetch, soon};
use crate::bundles::blobs::CHUNK;
use futures_util::StreamExt as _;
use tonic::Code;
use windlass_bundle::Part;
use windlass_proto::v1::{FetchRequest, node_client::NodeClient};
use windlass_types::Digest;

/// More than the network holds for a host that does not read: 2 MiB, and what is on its way there.
const MANY: usize = 14;

/// A bundle with a component of so many chunks.
fn large(chunks: usize) -> windlass_bundle::Package {
    let small = Spec::demo("0.1.0").bundle();
    let mut component = small.component.clone();
    // A custom section of zeros at the end: id, size, name, rest.
    let payload = chunks * CHUNK;
    let mut size = payload + 2;
    component.push(0);
    while size >= 0x80 {
        component.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    component.push(size as u8);
    component.extend([1, b'x']);
    component.resize(component.len() + payload, 0);
    let bundle = windlass_bundle::Bundle::from_parts(small.manifest_text, component, small.wit).unwrap();
    windlass_bundle::Package::new(bundle, Vec::new()).unwrap()
}

#[tokio::test]
async fn accepted_hosts_get_parts_of_stored_bundles_and_nothing_else() {
    let rig = Rig::start().await;
    let package = large(4);
    upload(&rig, &package).await.unwrap();
    let host = rig.join("n1").await;
    let image = package.bundle.image();
    let component = image.layer(Part::Component).digest.to_string();
    assert_eq!(fetch(&host, &image.digest().to_string(), 0).await.unwrap(), image.manifest());
    assert_eq!(fetch(&host, &component, 0).await.unwrap(), package.bundle.component);
    let size = package.bundle.component.len() as u64;
    // As a host that was interrupted goes on.
    for offset in [1, CHUNK as u64, size - 1, size] {
        let rest = fetch(&host, &component, offset).await.unwrap();
        assert_eq!(rest, package.bundle.component[offset as usize..], "from {offset}");
    }
    let code = async |digest: &str, offset| fetch(&host, digest, offset).await.unwrap_err().code();
    assert_eq!(code(&component, size + 1).await, Code::OutOfRange);
    assert_eq!(code(&Digest::of(b"x").to_string(), 0).await, Code::NotFound);
    assert_eq!(code("../../etc/passwd", 0).await, Code::InvalidArgument);
    // In the blob store, and part of no bundle.
    let stray = rig.bundles.inner.blobs.put(&b"stray"[..]).await.unwrap();
    assert_eq!(code(&stray.to_string(), 0).await, Code::NotFound);
    rig.bundles.delete("demo@0.1.0", "ann").await.unwrap();
    assert_eq!(code(&component, 0).await, Code::NotFound);
}

#[tokio::test]
async fn a_lost_or_damaged_part_is_never_sent_whole() {
    let rig = Rig::start().await;
    let package = large(4);
    upload(&rig, &package).await.unwrap();
    let host = rig.join("n1").await;
    let digest = package.bundle.image().layer(Part::Component).digest;
    let hex = digest.hex();
    let path = rig.dir.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    let mut bytes = package.bundle.component.clone();
    bytes[CHUNK] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(fetch(&host, &digest.to_string(), 0).await.unwrap_err().code(), Code::DataLoss);
    let last = bytes.len() as u64 - 1;
    assert_eq!(fetch(&host, &digest.to_string(), last).await.unwrap_err().code(), Code::DataLoss);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fetch(&host, &digest.to_string(), 0).await.unwrap_err().code(), Code::DataLoss);
}

#[tokio::test]
async fn a_node_that_is_revoked_gets_no_further_chunk() {
    let rig = Rig::start().await;
    let package = large(MANY);
    upload(&rig, &package).await.unwrap();
    let digest = package.bundle.image().layer(Part::Component).digest.to_string();
    // No session: the connection is not one that a revocation would cut.
    let host = rig.join("n1").await;
    let mut client = NodeClient::new(host.channel.clone());
    let mut chunks =
        client.fetch(FetchRequest { digest: digest.clone(), offset: 0 }).await.unwrap().into_inner();
    soon("a chunk", chunks.next()).await.unwrap().unwrap();
    rig.fleet.revoke(host.id()).await.unwrap();
    let mut got = 1;
    let why = loop {
        match soon("a chunk or the end", chunks.next()).await {
            Some(Ok(_)) => got += 1,
            Some(Err(status)) => break status,
            None => panic!("all of it was sent"),
        }
    };
    assert_eq!(why.code(), Code::PermissionDenied, "{why}");
    assert!(got < MANY, "{got} chunks");
    assert_eq!(fetch(&host, &digest, 0).await.unwrap_err().code(), Code::PermissionDenied);
    let key = windlass_identity::NodeKey::generate().unwrap();
    rig.ask(&key, "n2", "", 0).await.unwrap();
    rig.fleet.delete(host.id()).await.unwrap();
    assert_eq!(fetch(&host, &digest, 0).await.unwrap_err().code(), Code::Unauthenticated);
}
