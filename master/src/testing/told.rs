//! What the event log is told.

use super::{
    Managed, Rig,
    bundles::deployment,
    deployments::{state, store},
    soon,
};
use crate::{
    deployments::Action,
    fleet::ChangeKind,
    store::events::{self, Filter},
};
use serde_json::{Value, json};
use windlass_identity::NodeKey;
use windlass_types::api::{AcceptNode, ChangeNode, bundles::DeploymentState};

async fn told(rig: &Rig) -> Vec<(String, Option<String>, Value)> {
    let events = events::page(&rig.store, &Filter::default(), 0, 100).await.unwrap();
    events
        .into_iter()
        .map(|event| (event.kind, event.node_name.map(|name| name.to_string()), event.data))
        .collect()
}

#[tokio::test]
async fn the_log_tells_what_becomes_of_a_node() {
    let rig = Rig::start().await;
    let key = NodeKey::generate().unwrap();
    rig.ask(&key, "n1", "", 0).await.unwrap();
    rig.ask(&key, "n1", "", 0).await.unwrap();
    let id = rig.named("n1").id;
    rig.fleet.reject(id).await.unwrap();
    let renamed = AcceptNode { fingerprint: None, name: Some("n2".parse().unwrap()) };
    rig.fleet.accept(id, &renamed).await.unwrap();
    let label = |value: Option<&str>| ChangeNode {
        labels: [("rack".to_owned(), value.map(str::to_owned))].into(),
        flags: [("maintenance".to_owned(), value.is_some())].into(),
    };
    rig.fleet.change(id, &label(Some("a"))).await.unwrap();
    rig.fleet.change(id, &label(Some("a"))).await.unwrap();
    rig.fleet.change(id, &label(None)).await.unwrap();
    rig.fleet.revoke(id).await.unwrap();
    rig.fleet.delete(id).await.unwrap();

    let told = told(&rig).await;
    let kinds: Vec<&str> = told.iter().map(|(kind, _, _)| kind.as_str()).collect();
    let all = [
        "node.pending",
        "node.rejected",
        "node.accepted",
        "node.changed",
        "node.changed",
        "node.revoked",
        "node.deleted",
    ];
    assert_eq!(kinds, all, "each once, and nothing of a change that changed nothing");
    let names: Vec<&str> = told.iter().map(|(_, name, _)| name.as_deref().unwrap()).collect();
    assert_eq!(names, ["n1", "n1", "n2", "n2", "n2", "n2", "n2"]);
    assert_eq!(told[2].2["before"], "rejected");
    assert_eq!(told[3].2, json!({ "labels": { "rack": "a" }, "flags": { "maintenance": true } }));
    assert_eq!(told[4].2, json!({ "labels": { "rack": null }, "flags": { "maintenance": false } }));
}

#[tokio::test]
async fn the_log_tells_who_comes_and_goes() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let mut changes = rig.fleet.subscribe();
    let connection = host.connect().await.unwrap();
    drop(connection);
    soon("the end of the session", async {
        while changes.recv().await.unwrap().kind != ChangeKind::Offline {}
    })
    .await;
    rig.fleet.flush().await;
    let kinds: Vec<String> = told(&rig).await.into_iter().map(|(kind, _, _)| kind).collect();
    assert_eq!(kinds, ["node.accepted", "node.connected", "node.disconnected"]);
}

#[tokio::test]
async fn the_log_tells_what_becomes_of_a_plugin_and_its_deployment() {
    let rig = Rig::start().await;
    let mut host = Managed::join(&rig, "n1").await;
    store(&rig, &["0.1.0"]).await;
    let made = rig.bundles.deploy(deployment("0.1.0"), "ann").await.unwrap();
    for action in [Action::Pause, Action::Resume] {
        rig.bundles.control(made.id, action, "ann").await.unwrap();
    }
    host.take_version("demo", Some("0.1.0")).await;
    host.install("demo").await;
    state(&rig, made.id, DeploymentState::Succeeded).await;

    let all = |kind: &str| Filter::new(Some(kind), None).unwrap();
    let deployments = events::page(&rig.store, &all("deployment.*"), 0, 100).await.unwrap();
    let kinds: Vec<&str> = deployments.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["deployment.started", "deployment.paused", "deployment.resumed", "deployment.finished"],
        "each new state once, however often it was written"
    );
    let end = &deployments[3];
    assert_eq!(end.subject, made.id.to_string());
    assert_eq!((&end.data["state"], &end.data["version"]), (&json!("succeeded"), &json!("0.1.0")));
    let plugins = events::page(&rig.store, &all("plugin.*"), 0, 100).await.unwrap();
    let kinds: Vec<&str> = plugins.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["plugin.uploaded", "plugin.approved", "plugin.installed"]);
    let installed = &plugins[2];
    assert_eq!((installed.subject.as_str(), installed.node), ("demo", Some(rig.named("n1").id)));
    // What the node says again in its next session is no news.
    let mut again = host.back(&rig).await;
    again.take().await;
    rig.fleet.flush().await;
    assert_eq!(events::page(&rig.store, &all("plugin.*"), 0, 100).await.unwrap().len(), 3);
}
