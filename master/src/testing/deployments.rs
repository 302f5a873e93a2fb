//! Deployments over real sessions.

use super::{
    Managed, Rig, Spec,
    bundles::{deployment, upload},
    managed::versions,
    soon,
};
use crate::bundles::BundlesError;
use std::time::Duration;
use windlass_types::{
    DeploymentId, PluginName,
    api::{
        Target,
        bundles::{
            ApprovePlugin, Deployment, DeploymentDetail, DeploymentNodeState as At, DeploymentState as State,
            InstallStage, NewDeployment, OnFailure, PinPlugin, PluginEventKind, PluginNode, RollbackPlugin,
        },
    },
};

pub(super) fn demo() -> PluginName {
    "demo".parse().unwrap()
}

pub(super) fn on(names: &[&str]) -> Target {
    Target { on: names.iter().map(|name| (*name).to_owned()).collect(), ..Target::default() }
}

pub(super) async fn store(rig: &Rig, versions: &[&'static str]) {
    for version in versions {
        upload(rig, &Spec::demo(version).package()).await.unwrap();
    }
}

async fn detail(rig: &Rig, id: DeploymentId) -> DeploymentDetail {
    rig.bundles.deployment(id, None, Duration::ZERO).await.unwrap()
}

/// Wait until a deployment is as a test wants it.
async fn until(
    rig: &Rig,
    id: DeploymentId,
    what: &str,
    done: impl Fn(&DeploymentDetail) -> bool,
) -> DeploymentDetail {
    let wait = async {
        let mut known = None;
        loop {
            let now = rig.bundles.deployment(id, known, Duration::from_secs(60)).await.unwrap();
            if done(&now) {
                return now;
            }
            assert!(!now.deployment.state.ended(), "it ended before: {now:#?}");
            known = Some(now.deployment.revision);
        }
    };
    soon(what, wait).await
}

pub(super) async fn state(rig: &Rig, id: DeploymentId, state: State) -> DeploymentDetail {
    until(rig, id, &format!("{state:?}"), |now| now.deployment.state == state).await
}

/// Wait for the end of the newest deployment.
pub(crate) async fn ended(rig: &Rig) -> Deployment {
    let newest = rig.bundles.deployments(None, None, 1).await.unwrap()[0].id;
    until(rig, newest, "its end", |now| now.deployment.state.ended()).await.deployment
}

pub(super) fn at(detail: &DeploymentDetail) -> Vec<(&str, At)> {
    detail.progress.iter().map(|node| (node.name.as_str(), node.state)).collect()
}

pub(super) fn on_node(rig: &Rig, name: &str) -> PluginNode {
    let plugin = rig.bundles.plugin(&demo()).unwrap();
    plugin.nodes.into_iter().find(|node| node.name.as_str() == name).unwrap()
}

/// Deploy a version to these hosts, and see it through.
pub(super) async fn settle(rig: &Rig, hosts: &mut [&mut Managed], version: &str) {
    let mut new = deployment(version);
    new.strategy.canary = 0;
    let made = rig.bundles.deploy(new, "ann").await.unwrap();
    for host in hosts {
        host.take_version("demo", Some(version)).await;
        host.install("demo").await;
    }
    state(rig, made.id, State::Succeeded).await;
}

#[tokio::test]
async fn canary_first_then_all_the_others() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let mut hosts = Vec::new();
    for name in ["n1", "n2", "n3"] {
        hosts.push(Managed::join(&rig, name).await);
    }
    let made = rig.bundles.deploy(deployment("0.1.0"), "ann").await.unwrap();
    assert_eq!((made.state, made.nodes, made.by_state[&At::Sent]), (State::Running, 3, 1));
    hosts[0].take_version("demo", Some("0.1.0")).await;
    hosts[0].inventory.installs.clear();
    hosts[0].at("demo", "fetching").await;
    let now = until(&rig, made.id, "its start", |now| now.progress[0].state == At::Installing).await;
    assert_eq!(at(&now), [("n1", At::Installing), ("n2", At::Waiting), ("n3", At::Waiting)]);
    assert!(hosts[1].untaken().is_empty() && hosts[2].untaken().is_empty(), "before the canary has shown it");
    hosts[0].install("demo").await;
    for host in &mut hosts[1..] {
        host.take_version("demo", Some("0.1.0")).await;
        host.install("demo").await;
    }
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Active), ("n2", At::Active), ("n3", At::Active)]);
    assert!(done.deployment.finished_ms.is_some());
    let plugin = rig.bundles.plugin(&demo()).unwrap();
    assert_eq!(plugin.summary.running, [("0.1.0".to_owned(), 3)].into());
    assert_eq!((plugin.summary.behind, plugin.summary.default.unwrap().version.as_str()), (0, "0.1.0"));
    assert_eq!(plugin.nodes[0].stage, Some(InstallStage::Active));
    // A session later a host is told the same again, and nothing else.
    let before = hosts[0].desired.clone();
    let mut again = hosts.remove(0).back(&rig).await;
    assert_eq!(again.take().await, &before);
    let events = rig.bundles.plugin_events(&demo(), None, 10).await.unwrap();
    assert_eq!(events.len(), 3, "told twice by the one that came back, and kept once: {events:?}");
    assert!(events.iter().all(|event| event.kind == PluginEventKind::Installed));
}

#[tokio::test]
async fn a_canary_that_falls_back_takes_the_deployment_back() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let (mut one, mut two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    settle(&rig, &mut [&mut one, &mut two], "0.1.0").await;
    let mut new = deployment("0.2.0");
    new.strategy.soak_ms = 600_000;
    let made = rig.bundles.deploy(new, "ann").await.unwrap();
    one.take_version("demo", Some("0.2.0")).await;
    one.install("demo").await;
    until(&rig, made.id, "the soak", |now| now.progress[0].state == At::Active).await;
    // It traps, so the host itself goes back.
    let old = Spec::demo("0.1.0").bundle().digest.to_string();
    one.inventory.plugins[0].digest = old;
    one.inventory.plugins[0].version = "0.1.0".into();
    one.fall_back("demo", "4 of 5 operations trapped").await;
    let wanted = one.take_version("demo", Some("0.1.0")).await;
    assert!(wanted.allow_downgrade, "what it ran before has a lower number");
    assert_eq!(wanted.deployment, made.id.to_string(), "so that it is tried again");
    one.run("demo").await;
    let done = state(&rig, made.id, State::RolledBack).await;
    assert_eq!(at(&done), [("n1", At::RolledBack), ("n2", At::Waiting)]);
    assert!(done.deployment.reason.contains("n1: 4 of 5 operations trapped"), "{}", done.deployment.reason);
    assert!(two.untaken().is_empty(), "the other one was left alone");
    let plugin = rig.bundles.plugin(&demo()).unwrap().summary;
    assert_eq!((plugin.running["0.1.0"], plugin.default.unwrap().version.as_str()), (2, "0.1.0"));
    let events = rig.bundles.plugin_events(&demo(), None, 10).await.unwrap();
    let fell = events.iter().find(|event| event.kind == PluginEventKind::RolledBack).unwrap();
    assert_eq!((fell.name.as_str(), fell.message.as_str()), ("n1", "4 of 5 operations trapped"));
}

#[tokio::test]
async fn too_many_failures_pause_and_an_operator_goes_on() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let (mut one, mut two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    let mut new = deployment("0.1.0");
    new.strategy.on_failure = OnFailure::Pause;
    let made = rig.bundles.deploy(new, "ann").await.unwrap();
    one.take_version("demo", Some("0.1.0")).await;
    one.fail("demo", "no room on the disk").await;
    let paused = state(&rig, made.id, State::Paused).await;
    assert!(paused.deployment.reason.contains("no room"), "{}", paused.deployment.reason);
    assert!(two.untaken().is_empty());
    use crate::deployments::Action;
    let wrong = rig.bundles.control(made.id, Action::Pause, "ann").await.unwrap_err();
    assert!(matches!(wrong, BundlesError::WrongState { .. }), "{wrong}");
    rig.bundles.control(made.id, Action::Resume, "ann").await.unwrap();
    two.take_version("demo", Some("0.1.0")).await;
    two.install("demo").await;
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Failed), ("n2", At::Active)]);
    assert!(done.deployment.reason.contains("1 node failed"), "{}", done.deployment.reason);
    let node = on_node(&rig, "n1");
    assert_eq!((node.active, node.stage), (None, Some(InstallStage::Failed)));
    assert_eq!(node.problem.as_deref(), Some("no room on the disk"));
    assert_eq!(rig.bundles.plugin(&demo()).unwrap().summary.behind, 1);
    let over = rig.bundles.control(made.id, Action::Abort, "ann").await.unwrap_err();
    assert!(matches!(over, BundlesError::WrongState { state: State::Succeeded, .. }), "{over}");
}

#[tokio::test]
async fn nodes_that_are_away_get_it_when_they_return_if_it_was_good() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let (mut one, mut two, mut three) =
        (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await, Managed::join(&rig, "n3").await);
    settle(&rig, &mut [&mut one, &mut two, &mut three], "0.1.0").await;
    // The first by name is away: another one is the canary.
    let away = one.away(&rig).await;
    let made = rig.bundles.deploy(deployment("0.2.0"), "ann").await.unwrap();
    two.take_version("demo", Some("0.2.0")).await;
    // Back in the middle of a deployment that has proven nothing: it still runs the old one.
    let mut one = away.back(&rig).await;
    one.take_version("demo", Some("0.1.0")).await;
    assert_eq!(versions(&one.desired), [("demo", "0.1.0")].into());
    let away = one.away(&rig).await;
    two.install("demo").await;
    three.take_version("demo", Some("0.2.0")).await;
    three.install("demo").await;
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Offline), ("n2", At::Active), ("n3", At::Active)]);
    let mut one = away.back(&rig).await;
    one.take_version("demo", Some("0.2.0")).await;
    one.install("demo").await;
    soon("the truth", async {
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while rig.bundles.plugin(&demo()).unwrap().summary.behind > 0 {
            tick.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_version_that_asks_for_more_waits_and_the_old_one_goes_on() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let more = Spec { more: "probes = [\"cpu\"]\n", ..Spec::demo("0.2.0") };
    upload(&rig, &more.package()).await.unwrap();
    let mut host = Managed::join(&rig, "n1").await;
    // The first version of a plugin waits as well.
    let made =
        rig.bundles.deploy(NewDeployment { approve: false, ..deployment("0.1.0") }, "ann").await.unwrap();
    assert_eq!(made.state, State::WaitingApproval);
    assert!(!detail(&rig, made.id).await.unapproved.is_empty());
    let approve = |version: &str| ApprovePlugin {
        bundle: version.into(),
        max_effect: None,
        deny_operations: Default::default(),
    };
    rig.bundles.approve(&demo(), approve("0.1.0"), "ann").await.unwrap();
    host.take_version("demo", Some("0.1.0")).await;
    host.install("demo").await;
    state(&rig, made.id, State::Succeeded).await;

    let made =
        rig.bundles.deploy(NewDeployment { approve: false, ..deployment("0.2.0") }, "ann").await.unwrap();
    assert_eq!(made.state, State::WaitingApproval);
    let missing = detail(&rig, made.id).await.unapproved;
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!((missing[0].kind.as_str(), missing[0].text.as_str()), ("probe", "cpu"));
    assert!(host.untaken().is_empty());
    let pin = PinPlugin { target: on(&["n1"]), bundle: Some("0.2.0".into()) };
    let refused = rig.bundles.pin(&demo(), pin, "ann").await.unwrap_err();
    assert!(matches!(refused, BundlesError::NotApproved { .. }), "no way past the approval: {refused}");
    // It is still waiting after a restart.
    let rig = rig.restart(Duration::ZERO).await;
    let mut host = host.back(&rig).await;
    assert_eq!(host.take().await.plugins[0].version, "0.1.0");
    let unknown = ApprovePlugin { deny_operations: ["thing.cuont".into()].into(), ..approve("0.2.0") };
    let refused = rig.bundles.approve(&demo(), unknown, "ann").await.unwrap_err();
    assert!(matches!(refused, BundlesError::UnknownOperation { .. }), "{refused}");
    let less = ApprovePlugin { deny_operations: ["thing.count".into()].into(), ..approve("0.2.0") };
    let approval = rig.bundles.approve(&demo(), less, "ann").await.unwrap();
    assert!(approval.capabilities.iter().any(|capability| capability.text == "cpu"));
    let wanted = host.take_version("demo", Some("0.2.0")).await;
    let sent: windlass_bundle::Approval = serde_json::from_slice(&wanted.approval_json).unwrap();
    assert!(sent.deny_operations.contains("thing.count"), "the narrowing goes to the host");
    host.install("demo").await;
    state(&rig, made.id, State::Succeeded).await;
}

#[tokio::test]
async fn one_deployment_of_a_plugin_at_a_time() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let mut host = Managed::join(&rig, "n1").await;
    // Two at the same moment: one of them wins.
    let (a, b) = tokio::join!(
        rig.bundles.deploy(deployment("0.1.0"), "ann"),
        rig.bundles.deploy(deployment("0.2.0"), "bob")
    );
    let (won, lost) = match (a, b) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("not one of them: {both:?}"),
    };
    assert!(matches!(lost, BundlesError::Running { id, .. } if id == won.id), "{lost}");
    let replace = NewDeployment { replace: true, ..deployment("0.2.0") };
    let second = rig.bundles.deploy(replace, "bob").await.unwrap();
    let first = detail(&rig, won.id).await.deployment;
    assert_eq!(first.state, State::Superseded);
    assert!(first.reason.contains(&second.id.to_string()));
    loop {
        host.take_version("demo", Some("0.2.0")).await;
        if host.wanted("demo").deployment == second.id.to_string() {
            break;
        }
    }
    host.install("demo").await;
    state(&rig, second.id, State::Succeeded).await;
    let listed = rig.bundles.deployments(Some(&demo()), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|d| d.state).collect::<Vec<_>>(), [State::Succeeded, State::Superseded]);
}

#[tokio::test]
async fn a_restart_in_every_state_loses_nothing() {
    let mut rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let (mut one, mut two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    settle(&rig, &mut [&mut one, &mut two], "0.1.0").await;
    let long = Duration::from_secs(600);
    let mut new = deployment("0.2.0");
    new.strategy.soak_ms = 300;
    let id = rig.bundles.deploy(new, "ann").await.unwrap().id;
    // Sent, not yet told.
    rig = rig.restart(long).await;
    let now = detail(&rig, id).await;
    assert_eq!(
        (now.deployment.state, at(&now)),
        (State::Running, vec![("n1", At::Sent), ("n2", At::Waiting)])
    );
    one = one.back(&rig).await;
    one.take_version("demo", Some("0.2.0")).await;
    one.at("demo", "compiling").await;
    until(&rig, id, "installing", |now| now.progress[0].state == At::Installing).await;
    // On its way; the other one is not back yet, which means nothing so soon.
    rig = rig.restart(Duration::from_secs(1)).await;
    one = one.back(&rig).await;
    one.take_version("demo", Some("0.2.0")).await;
    two = two.back(&rig).await;
    two.take_version("demo", Some("0.1.0")).await;
    one.install("demo").await;
    // It soaks; then the other one has its turn.
    until(&rig, id, "the soak", |now| now.progress[0].state == At::Active).await;
    two.take_version("demo", Some("0.2.0")).await;
    // The second fails, so both go back; the master ends in the middle of that.
    two.fail("demo", "it traps").await;
    until(&rig, id, "the way back", |now| now.deployment.state == State::RollingBack).await;
    rig = rig.restart(long).await;
    assert_eq!(detail(&rig, id).await.deployment.state, State::RollingBack);
    one = one.back(&rig).await;
    two = two.back(&rig).await;
    for host in [&mut one, &mut two] {
        host.take_version("demo", Some("0.1.0")).await;
        host.run("demo").await;
    }
    let done = state(&rig, id, State::RolledBack).await;
    assert_eq!(at(&done), [("n1", At::RolledBack), ("n2", At::RolledBack)]);
    rig = rig.restart(long).await;
    assert_eq!(detail(&rig, id).await.deployment.state, State::RolledBack);
    assert_eq!(rig.bundles.plugin(&demo()).unwrap().summary.default.unwrap().version, "0.1.0");
}

#[tokio::test]
async fn back_to_the_version_before_by_an_operator() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0", "0.2.0"]).await;
    let mut host = Managed::join(&rig, "n1").await;
    settle(&rig, &mut [&mut host], "0.1.0").await;
    let nothing = rig.bundles.rollback(&demo(), RollbackPlugin::default(), "ann").await.unwrap_err();
    assert!(matches!(nothing, BundlesError::Nothing(_)), "{nothing}");
    settle(&rig, &mut [&mut host], "0.2.0").await;
    assert_eq!(on_node(&rig, "n1").previous.unwrap().version, "0.1.0");
    let how = RollbackPlugin { target: None, reason: Some("slow".into()) };
    let made = rig.bundles.rollback(&demo(), how, "ann").await.unwrap();
    assert_eq!((made.to, made.reason.as_str()), (None, "slow"));
    assert!(host.take_version("demo", Some("0.1.0")).await.allow_downgrade);
    host.run("demo").await;
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(done.progress[0].from.as_ref().unwrap().version, "0.2.0");
    let plugin = rig.bundles.plugin(&demo()).unwrap().summary;
    assert_eq!(
        plugin.default.map(|default| default.version).as_deref(),
        None,
        "no new node gets what was bad"
    );
    // In the middle of a deployment it means that one.
    let made = rig.bundles.deploy(deployment("0.2.0"), "ann").await.unwrap();
    host.take_version("demo", Some("0.2.0")).await;
    let back = rig.bundles.rollback(&demo(), RollbackPlugin::default(), "ann").await.unwrap();
    assert_eq!((back.id, back.state), (made.id, State::RollingBack));
    host.take_version("demo", Some("0.1.0")).await;
    host.run("demo").await;
    state(&rig, made.id, State::RolledBack).await;
}

#[tokio::test]
async fn a_node_that_leaves_in_the_middle_holds_nothing_up() {
    let rig = Rig::start().await;
    store(&rig, &["0.1.0"]).await;
    let (mut one, two) = (Managed::join(&rig, "n1").await, Managed::join(&rig, "n2").await);
    let made = rig.bundles.deploy(deployment("0.1.0"), "ann").await.unwrap();
    one.take_version("demo", Some("0.1.0")).await;
    let two = two.obey();
    rig.fleet.revoke(one.host.id()).await.unwrap();
    let done = state(&rig, made.id, State::Succeeded).await;
    assert_eq!(at(&done), [("n1", At::Skipped), ("n2", At::Active)]);
    two.abort();
}
