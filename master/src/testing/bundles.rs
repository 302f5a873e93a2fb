//! Bundles on their way into the store, and out of it.

use super::{Key, Managed, Rig, Spec, soon};
use crate::{
    bundles::{BundlesError, Uploaded, blobs::BlobError},
    store::audit,
};
use bytes::Bytes;
use futures_util::stream;
use std::{convert::Infallible, time::Duration};
use windlass_bundle::{Package, Part};
use windlass_types::{Digest, OperationName, api::bundles::NewDeployment};

pub(crate) async fn upload(rig: &Rig, package: &Package) -> Result<Uploaded, BundlesError> {
    upload_bytes(rig, package.to_bytes()).await
}

async fn upload_bytes(rig: &Rig, bytes: Vec<u8>) -> Result<Uploaded, BundlesError> {
    let chunks: Vec<Result<Bytes, Infallible>> =
        bytes.chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    soon("the upload", rig.bundles.upload(stream::iter(chunks), "ann")).await
}

pub(crate) fn deployment(version: &str) -> NewDeployment {
    NewDeployment {
        plugin: "demo".parse().unwrap(),
        bundle: version.into(),
        target: None,
        strategy: windlass_types::api::bundles::Strategy { soak_ms: 0, ..Default::default() },
        approve: true,
        allow_downgrade: false,
        replace: false,
    }
}

#[tokio::test]
async fn a_bundle_comes_back_as_it_was_with_all_its_signatures() {
    let rig = Rig::start().await;
    let (one, two) = (Key::new(), Key::new());
    let bundle = Spec::demo("0.1.0").bundle();
    let signed = Package::new(bundle.clone(), vec![one.sign(&bundle, 5)]).unwrap();
    let first = upload(&rig, &signed).await.unwrap();
    assert!(first.new);
    assert_eq!((first.bundle.digest, first.bundle.signatures.len()), (bundle.digest, 1));
    let again = upload(&rig, &signed).await.unwrap();
    assert!(!again.new && again.bundle == first.bundle);
    // Another signature comes to the first, a newer one takes the place of its older one.
    let more = Package::new(bundle.clone(), vec![two.sign(&bundle, 5), one.sign(&bundle, 9)]).unwrap();
    let both = upload(&rig, &more).await.unwrap();
    assert!(!both.new);
    assert_eq!(both.bundle.signatures.len(), 2);
    // An older one again changes nothing.
    assert_eq!(upload(&rig, &signed).await.unwrap().bundle.signatures, both.bundle.signatures);
    let (name, bytes) = rig.bundles.package("demo@0.1.0").await.unwrap();
    assert_eq!(name, "demo-0.1.0.tar");
    let back = Package::read(&bytes[..]).unwrap();
    assert_eq!(back.bundle.digest, bundle.digest);
    let mut signed_ms: Vec<i64> = back.signatures().iter().map(|s| s.statement.signed_ms).collect();
    signed_ms.sort_unstable();
    assert_eq!(signed_ms, [5, 9]);
    // All of it is still there after a restart, and can be shown without any host.
    let rig = rig.restart(Duration::ZERO).await;
    assert_eq!(rig.bundles.package(&bundle.digest.to_string()).await.unwrap().1, bytes);
    let shown = rig.bundles.show("demo@0.1.0").unwrap();
    assert_eq!(shown.operations[0].name, "thing.count");
    assert_eq!(shown.operations[0].summary, "Count them.");
    assert_eq!(shown.capabilities, shown.unapproved, "nothing is approved by itself");
    let entries = audit::page(&rig.store, None, 10).await.unwrap();
    let actions: Vec<&str> = entries.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["bundle.sign", "bundle.upload"]);
    audit::verify(&rig.store).await.unwrap();
}

#[tokio::test]
async fn a_version_is_never_changed() {
    let rig = Rig::start().await;
    upload(&rig, &Spec::demo("0.1.0").package()).await.unwrap();
    let other = Spec { returns: "u32", ..Spec::demo("0.1.0") };
    let taken = upload(&rig, &other.package()).await.unwrap_err();
    assert!(matches!(taken, BundlesError::VersionTaken { .. }), "{taken}");
    let blobs = rig.bundles.inner.blobs.list().await.unwrap();
    assert_eq!(blobs.len(), 4, "what was refused left nothing");
    assert_eq!(rig.bundles.list(None, None, 10).len(), 1);
}

#[tokio::test]
async fn what_is_no_package_is_refused_and_leaves_nothing() {
    let rig = Rig::start().await;
    let good = Spec::demo("0.1.0").package().to_bytes();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (bytes, what) in [
        (Vec::new(), "nothing"),
        (b"hello".to_vec(), "a text"),
        (good[..good.len() / 2].to_vec(), "half of one"),
        (flipped, "a flipped bit"),
        (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "something compressed"),
    ] {
        let refused = upload_bytes(&rig, bytes).await.unwrap_err();
        assert!(matches!(refused, BundlesError::Package(_)), "{what}: {refused:?}");
    }
    // A component that is not what its WIT says.
    let odd = {
        let (wide, narrow) =
            (Spec::demo("0.1.0").bundle(), Spec { returns: "u32", ..Spec::demo("0.1.0") }.bundle());
        windlass_bundle::Bundle::from_parts(wide.manifest_text.clone(), narrow.component, wide.wit.clone())
            .unwrap()
    };
    let refused = upload(&rig, &Package::new(odd, Vec::new()).unwrap()).await.unwrap_err();
    assert!(matches!(refused, BundlesError::Bundle(_)), "{refused:?}");
    let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 20])));
    let large = soon("a refusal", rig.bundles.upload(endless, "ann")).await.unwrap_err();
    assert!(matches!(large, BundlesError::TooLarge(80)), "{large}");
    let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err("the line is cut")]);
    let cut = soon("a refusal", rig.bundles.upload(broken, "ann")).await.unwrap_err();
    assert!(cut.to_string().contains("the line is cut"), "{cut}");
    assert!(rig.bundles.inner.blobs.list().await.unwrap().is_empty());
    let uploads = std::fs::read_dir(rig.dir.path().join("uploads")).unwrap().count();
    assert_eq!(uploads, 0, "files of uploads were left");
    assert!(rig.bundles.list(None, None, 10).is_empty());
}

#[tokio::test]
async fn what_a_crash_between_blob_and_row_leaves_is_swept() {
    let rig = Rig::start().await;
    let kept = Spec::demo("0.1.0").bundle();
    upload(&rig, &Package::new(kept.clone(), Vec::new()).unwrap()).await.unwrap();
    // As far as an upload gets that is killed before its row.
    let lost = rig.bundles.inner.blobs.put(Spec::demo("0.2.0").bundle().component.clone()).await.unwrap();
    let orphan = rig.bundles.inner.blobs.put(&b"orphan"[..]).await.unwrap();
    let rig = rig.restart(Duration::ZERO).await;
    let blobs = &rig.bundles.inner.blobs;
    assert_eq!(rig.bundles.sweep_blobs(3_600_000).await.unwrap(), 0, "it may be an upload of this moment");
    assert_eq!(rig.bundles.sweep_blobs(0).await.unwrap(), 1);
    assert!(matches!(blobs.read(orphan).await, Err(BlobError::Missing(_))));
    // Both versions have the same component, so that one has a row.
    assert_eq!(lost, Digest::of(&kept.component));
    rig.bundles.package("demo@0.1.0").await.unwrap();
}

#[tokio::test]
async fn a_damaged_part_is_told_and_repaired_by_uploading_again() {
    let rig = Rig::start().await;
    let package = Spec::demo("0.1.0").package();
    upload(&rig, &package).await.unwrap();
    let digest = package.bundle.image().layer(Part::Component).digest;
    let hex = digest.hex();
    let path = rig.dir.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(&path, b"\0asm rotten").unwrap();
    let damaged = rig.bundles.package("demo@0.1.0").await.unwrap_err();
    assert!(matches!(damaged, BundlesError::Blob(BlobError::Damaged(_))), "{damaged}");
    assert!(!upload(&rig, &package).await.unwrap().new);
    rig.bundles.package("demo@0.1.0").await.unwrap();
}

#[tokio::test]
async fn bundles_in_use_are_not_deleted() {
    let rig = Rig::start().await;
    for version in ["0.1.0", "0.2.0", "0.3.0"] {
        upload(&rig, &Spec::demo(version).package()).await.unwrap();
    }
    let mut host = Managed::join(&rig, "n1").await;
    rig.bundles.deploy(deployment("0.1.0"), "ann").await.unwrap();
    host.take_version("demo", Some("0.1.0")).await;
    let used = rig.bundles.delete("demo@0.1.0", "ann").await.unwrap_err();
    assert!(matches!(used, BundlesError::InUse { .. }), "{used}");
    host.install("demo").await;
    super::deployments::ended(&rig).await;
    let used = rig.bundles.delete("demo@0.1.0", "ann").await.unwrap_err();
    assert!(used.to_string().contains("new nodes get it"), "{used}");
    rig.bundles.delete("demo@0.2.0", "ann").await.unwrap();
    assert!(matches!(rig.bundles.show("demo@0.2.0"), Err(BundlesError::UnknownBundle { .. })));
    // The component is the same in all of them; manifest and image went with the row.
    assert_eq!(rig.bundles.inner.blobs.list().await.unwrap().len(), 6);
    let rig = rig.restart(Duration::ZERO).await;
    assert_eq!(rig.bundles.list(None, None, 10).len(), 2);
    // What was deleted may come again, as something else.
    upload(&rig, &Spec { returns: "u32", ..Spec::demo("0.2.0") }.package()).await.unwrap();
    let difference = rig.bundles.difference("demo@0.1.0", "demo@0.2.0").await.unwrap();
    assert_eq!(difference.retyped[0].name, "thing.count");
}

#[tokio::test]
async fn no_host_is_asked_about_a_bundle_of_the_store() {
    let rig = Rig::start().await;
    upload(&rig, &Spec::demo("0.1.0").package()).await.unwrap();
    let mut host = Managed::join(&rig, "n1").await;
    let new = deployment("0.1.0");
    rig.bundles.deploy(new, "ann").await.unwrap();
    host.take_version("demo", Some("0.1.0")).await;
    let operation =
        windlass_describe::operations(&"demo".parse().unwrap(), &Spec::demo("0.1.0").bundle().wit);
    let type_digest = operation.unwrap()[0].signature.digest().to_string();
    host.inventory.plugins.push(windlass_proto::v1::Plugin {
        name: "demo".into(),
        version: "0.1.0".into(),
        digest: Spec::demo("0.1.0").bundle().digest.to_string(),
        operations: vec![windlass_proto::v1::PluginOperation {
            name: "thing.count".into(),
            type_digest,
            effect: "read".into(),
            timeout_ms: 1,
            idempotent: false,
        }],
        ..Default::default()
    });
    host.report().await;
    let name: OperationName = "demo.thing.count".parse().unwrap();
    soon("the operation", async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while rig.catalog.operation(&name).is_none() {
            tick.tick().await;
        }
    })
    .await;
    assert!(host.connection.rest().is_empty(), "the host was asked");
    let digest = Spec::demo("0.1.0").bundle().digest;
    assert_eq!(rig.catalog.version(digest).as_deref(), Some("0.1.0"), "for the records of jobs");
}
