//! Operations from what hosts send.

use super::{Connection, Event, FakeHost, Rig, soon};
use windlass_bundle::{Bundle, Image};
use windlass_proto::v1::{
    Accepted, Inventory, Plugin, PluginOperation, PluginSource, host_message, master_message::Kind,
};
use windlass_types::{Digest, Effect, OperationName, PluginName, RequestId};

/// A bundle as a host would have it.
struct Made {
    manifest: String,
    wit: Vec<u8>,
    image: Vec<u8>,
    digest: Digest,
    type_digest: Digest,
}

fn make(version: &str, effect: &str, returns: &str) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let wit = format!(
        "package windlass:demo@0.1.0;\n/// Things.\ninterface thing {{\n  /// Count them.\n  count: func() -> {returns};\n}}\n\
         world demo {{ export thing; }}\n"
    );
    std::fs::write(dir.path().join("demo.wit"), wit).unwrap();
    let wit = windlass_describe::encode_wit(dir.path()).unwrap();
    let manifest = format!(
        "name = \"demo\"\nversion = \"{version}\"\n[operations.\"thing.count\"]\neffect = \"{effect}\"\ntimeout = \"7s\"\n"
    );
    let image = image(&manifest, &wit);
    let digest = image.digest();
    let plugin: PluginName = "demo".parse().unwrap();
    let operations = windlass_describe::operations(&plugin, &wit).unwrap();
    Made {
        type_digest: operations[0].signature.digest(),
        manifest,
        wit,
        image: image.manifest().into(),
        digest,
    }
}

/// The image of a bundle with these parts, and some component.
fn image(manifest: &str, wit: &[u8]) -> Image {
    let component = [b"\0asm\x0d\0\x01\0", manifest.as_bytes()].concat();
    Bundle::from_parts(manifest.into(), component, wit.into()).unwrap().image()
}

impl Made {
    /// The inventory of a host that calls everything harmless.
    fn inventory(&self) -> Inventory {
        let operation = PluginOperation {
            name: "thing.count".into(),
            type_digest: self.type_digest.to_string(),
            effect: "read".into(),
            timeout_ms: 1,
            idempotent: true,
        };
        let plugin = Plugin {
            name: "demo".into(),
            version: "9.9.9".into(),
            digest: self.digest.to_string(),
            operations: vec![operation],
            ..Plugin::default()
        };
        Inventory { plugins: vec![plugin], ..Inventory::default() }
    }

    fn source(&self) -> PluginSource {
        PluginSource {
            digest: self.digest.to_string(),
            wit: self.wit.clone().into(),
            manifest: self.manifest.clone().into_bytes().into(),
            image: self.image.clone().into(),
        }
    }
}

async fn wanted(connection: &mut Connection) -> String {
    match connection.next().await {
        Kind::WantPlugin(want) => want.digest,
        other => panic!("not a question for a plugin: {other:?}"),
    }
}

async fn listed(rig: &Rig) -> std::sync::Arc<windlass_types::api::OperationInfo> {
    let name: OperationName = "demo.thing.count".parse().unwrap();
    soon("the operation", async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            tick.tick().await;
            if let Some(info) = rig.catalog.operation(&name) {
                return info;
            }
        }
    })
    .await
}

async fn host(rig: &Rig, name: &str, made: &Made) -> (FakeHost, Connection) {
    let host = rig.join(name).await.having(made.inventory());
    let connection = host.connect().await.unwrap();
    (host, connection)
}

#[tokio::test]
async fn one_host_is_asked_and_only_proof_is_believed() {
    let rig = Rig::start().await;
    let made = make("1.0.0", "destroy", "u64");
    let (_one, mut liar) = host(&rig, "n1", &made).await;
    assert_eq!(wanted(&mut liar).await, made.digest.to_string());
    let (_two, mut honest) = host(&rig, "n2", &made).await;
    assert!(rig.catalog.operations().is_empty(), "nothing is listed without its source");
    // Not asked yet, so not looked at.
    honest.say(host_message::Kind::PluginSource(made.source())).await;
    let request_id = RequestId::new().to_string();
    honest.say(host_message::Kind::Accepted(Accepted { request_id })).await;
    while !matches!(rig.events.next().await, Event::Accepted(_)) {}
    assert!(rig.catalog.operations().is_empty());
    // A milder manifest under the digest of the real one.
    let mut forged = made.source();
    forged.manifest = made.manifest.replace("destroy", "read").into_bytes().into();
    liar.say(host_message::Kind::PluginSource(forged)).await;
    assert_eq!(wanted(&mut honest).await, made.digest.to_string(), "the next host is asked");
    honest.say(host_message::Kind::PluginSource(made.source())).await;
    let info = listed(&rig).await;
    assert_eq!((info.effect, info.timeout_ms, info.idempotent), (Effect::Destroy, 7000, false));
    assert_eq!((info.plugin_version.as_str(), info.plugin_digest, info.nodes), ("1.0.0", made.digest, 2));
    assert_eq!(info.operation.docs, "Count them.");
    assert_eq!(info.type_digest, made.type_digest);
    assert!(info.args_schema["properties"].as_object().unwrap().is_empty());
    // Known now: a third host is not asked, and the source outlives the process.
    let (_three, mut third) = host(&rig, "n3", &made).await;
    assert_eq!(listed(&rig).await.nodes, 3);
    assert!(third.rest().is_empty());
    let again = crate::catalog::Catalog::open(rig.store.clone(), rig.fleet.clone()).await.unwrap();
    assert_eq!(again.operations().len(), 1);
    // Nodes that are no longer accepted do not count.
    rig.fleet.revoke(rig.named("n3").id).await.unwrap();
    assert_eq!(listed(&rig).await.nodes, 2);
}

#[tokio::test]
async fn the_type_of_most_nodes_is_shown_with_the_strongest_effect() {
    let rig = Rig::start().await;
    let (old, mild, other) =
        (make("1.0.0", "change", "u64"), make("1.1.0", "read", "u64"), make("2.0.0", "read", "string"));
    let mut open = Vec::new();
    for (name, made) in [("n1", &old), ("n2", &mild), ("n3", &other)] {
        let (_, mut connection) = host(&rig, name, made).await;
        wanted(&mut connection).await;
        connection.say(host_message::Kind::PluginSource(made.source())).await;
        open.push(connection);
    }
    soon("all sources", async {
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
        while crate::store::nodes::load_sources(&rig.store).await.unwrap().len() < 3 {
            tick.tick().await;
        }
    })
    .await;
    let info = listed(&rig).await;
    assert_eq!((info.type_digest, info.nodes, info.effect), (old.type_digest, 2, Effect::Change));
    assert_eq!(info.plugin_version, "1.1.0", "described by the newest");
    assert_eq!(info.other_types.get(&other.type_digest), Some(&1));
}

#[tokio::test]
async fn when_the_host_that_was_asked_goes_away_another_is_asked() {
    let rig = Rig::start().await;
    let made = make("1.0.0", "read", "u64");
    let (_one, mut first) = host(&rig, "n1", &made).await;
    wanted(&mut first).await;
    let (_two, mut second) = host(&rig, "n2", &made).await;
    drop(first);
    assert_eq!(wanted(&mut second).await, made.digest.to_string());
}

#[test]
fn foreign_bytes_are_refused_with_a_reason() {
    use crate::catalog::Source;
    let made = make("1.0.0", "read", "u64");
    let check =
        |manifest: &[u8], wit: &[u8]| Source::check(made.digest, &made.image, manifest, wit).unwrap_err();
    assert!(check(b"\xff", &made.wit).contains("UTF-8"));
    assert!(check(b"name = 1", &made.wit).contains("plugin.toml"));
    let milder = made.manifest.replace("\"read\"", "\"change\"");
    assert!(check(milder.as_bytes(), &made.wit).contains("plugin.toml has the digest"));
    assert!(check(made.manifest.as_bytes(), b"\0asm").contains("wit.wasm has the digest"));
    // Parts that belong together, and make no sense.
    let together = |manifest: &str, wit: &[u8]| {
        let image = image(manifest, wit);
        Source::check(image.digest(), image.manifest(), manifest.as_bytes(), wit).unwrap_err()
    };
    let no_wit = b"\0asm\x0d\0\x01\0junk";
    assert!(together(&made.manifest, no_wit).starts_with("not a binary WIT package"));
    let other = made.manifest.replace("\"demo\"", "\"zfs\"");
    assert!(together(&other, &made.wit).contains("zfs"), "a plugin cannot describe another one");
    let wrong = Source::check(Digest::of(b"x"), &made.image, made.manifest.as_bytes(), &made.wit);
    assert!(wrong.unwrap_err().contains("not part of the bundle"));
}
