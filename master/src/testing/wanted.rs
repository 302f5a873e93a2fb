//! What single nodes are wanted to run, in and outside of deployments.

use super::{
    Managed, Rig,
    bundles::deployment,
    deployments::{at, demo, on, on_node, settle, state, store},
    soon,
};
use std::time::Duration;
use windlass_types::api::{
    AcceptNode, ChangeNode,
    bundles::{DeploymentNodeState as At, DeploymentState as State, NewDeployment, PinPlugin, UnpinPlugin},
};

async fn flag(rig: &Rig, name: &str, flag: &str, set: bool) {
    let change = ChangeNode { flags: [(flag.to_owned(), set)].into(), ..ChangeNode::default() };
    rig.fleet.change(rig.named(name).id, &change).await.unwrap();
}

#[tokio::test]
async fn pins_win_and_unpinned_nodes_follow() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let (mut one, mut two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    settle(&rig, &mut [&mut one, &mut two], "0.1.0").await;
    rig.bundles.pin(&demo(), PinPlugin { target: on(&["n1"]), bundle: None }, "ann").await.unwrap();
    one.take_version("demo", Some("0.1.0")).await;
    one.report().await;
    let made = rig.bundles.deploy(deployment("0.2.0"), "ann").await.unwrap();
    two.take_version("demo", Some("0.2.0")).await;
    two.install("demo").await;
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Skipped), ("n2", At::Active)]);
    assert!(one.untaken().is_empty());
    assert!(on_node(&rig, "n1").pinned);
    rig.bundles.unpin(&demo(), UnpinPlugin { target: on(&["n1"]) }, "ann").await.unwrap();
    one.take_version("demo", Some("0.2.0")).await;
    one.install("demo").await;
    // To one version, lower than what it ran.
    let pin = PinPlugin { target: on(&["n2"]), bundle: Some("0.1.0".into()) };
    rig.bundles.pin(&demo(), pin, "ann").await.unwrap();
    assert!(two.take_version("demo", Some("0.1.0")).await.allow_downgrade);
    // Off one node, which is kept without it, also by the next deployment.
    rig.bundles.remove(&demo(), Some("n2"), "ann").await.unwrap();
    two.take_version("demo", None).await;
    two.drop_plugin("demo").await;
    soon("its end", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while on_node(&rig, "n2").active.is_some() {
            tick.tick().await;
        }
    })
    .await;
    assert!(on_node(&rig, "n2").pinned);
    // Off everybody.
    rig.bundles.remove(&demo(), None, "ann").await.unwrap();
    one.take_version("demo", None).await;
    assert!(one.desired.plugins.is_empty());
    let three = Managed::join(&rig, "n3").await;
    soon("n3", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while !rig.named("n3").online() {
            tick.tick().await;
        }
    })
    .await;
    assert_eq!(three.desired.revision, 0, "nothing is left for new nodes");
}

#[tokio::test]
async fn new_nodes_get_what_the_last_deployment_for_them_brought() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let mut one = Managed::join(&rig, "a1").await;
    settle(&rig, &mut [&mut one], "0.1.0").await;
    let new = NewDeployment { target: Some(on(&["a*"])), ..deployment("0.2.0") };
    let made = rig.bundles.deploy(new, "ann").await.unwrap();
    one.take_version("demo", Some("0.2.0")).await;
    // Joins while it runs: it gets what holds now, and the new one after a success.
    let mut early = Managed::join(&rig, "a2").await;
    early.take_version("demo", Some("0.1.0")).await;
    one.install("demo").await;
    state(&rig, made.id, State::Succeeded).await;
    early.take_version("demo", Some("0.2.0")).await;
    early.install("demo").await;
    let mut late = Managed::join(&rig, "a3").await;
    late.take_version("demo", Some("0.2.0")).await;
    let mut other = Managed::join(&rig, "b1").await;
    other.take_version("demo", Some("0.1.0")).await;
    // One that waits for an operator gets nothing before it is accepted.
    let key = windlass_identity::NodeKey::generate().unwrap();
    rig.ask(&key, "a4", "", 0).await.unwrap();
    let id = rig.named("a4").id;
    assert!(!rig.bundles.inner.model().sets.contains_key(&id));
    rig.fleet.accept(id, &AcceptNode::default()).await.unwrap();
    soon("its set", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while !rig.bundles.inner.model().sets.contains_key(&id) {
            tick.tick().await;
        }
    })
    .await;
    // What was wanted of a node goes with the node.
    rig.fleet.revoke(id).await.unwrap();
    soon("its end", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while rig.bundles.inner.model().sets.contains_key(&id) {
            tick.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_in_maintenance_is_left_alone_until_it_is_over() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let (mut one, mut two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    flag(&rig, "n1", "maintenance", true).await;
    let made = rig.bundles.deploy(deployment("0.1.0"), "ann").await.unwrap();
    two.take_version("demo", Some("0.1.0")).await;
    two.install("demo").await;
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Offline), ("n2", At::Active)]);
    assert!(done.progress[0].problem.as_ref().unwrap().contains("maintenance"));
    assert!(one.untaken().is_empty());
    let mut one = one.back(&rig).await;
    assert!(one.untaken().is_empty(), "nor with a new session");
    flag(&rig, "n1", "maintenance", false).await;
    one.take_version("demo", Some("0.1.0")).await;
}

#[tokio::test]
async fn nobody_is_sent_an_empty_set_by_a_master_that_knows_nothing() {
    let rig = Rig::start().await;
    let host = rig.join("n1").await;
    let inventory = windlass_proto::v1::Inventory { desired_revision: 77, ..Default::default() };
    let mut connection = host.having(inventory).connect().await.unwrap();
    soon("its record", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while rig.named("n1").progress.revision != 77 {
            tick.tick().await;
        }
    })
    .await;
    assert!(connection.rest().is_empty());
}

#[tokio::test]
async fn a_host_that_makes_changes_up_fills_its_own_share_only() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let mut host = Managed::join(&rig, "n1").await;
    for round in 0..20_u64 {
        host.inventory.changes = (1..=64)
            .map(|n| windlass_proto::v1::PluginChange {
                number: round * 64 + n,
                time_ms: 5,
                name: "demo".into(),
                kind: "installed".into(),
                ..Default::default()
            })
            .collect();
        host.report().await;
    }
    host.inventory.changes.clear();
    host.inventory.desired_revision = 9;
    host.report().await;
    soon("the last word", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while rig.named("n1").progress.revision != 9 {
            tick.tick().await;
        }
    })
    .await;
    let events = rig.bundles.plugin_events(&demo(), None, 1000).await.unwrap();
    assert_eq!(events.len(), 256);
}
