//! A new version that fails is sent back by the node itself.

use crate::{
    common::{
        plugin::{Does, plugin},
        site::{Site, install, kinds, listed},
    },
    install::value,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use windlass_host::{
    engine::Catalogue as _,
    jobs::{Call, Executor as _},
    plugins::Plugins,
};
use windlass_proto::v1;
use windlass_types::{JobId, Outcome, Refusal, RequestId};

/// Run an operation with no master in between.
async fn call(plugins: &Arc<Plugins>, operation: &str) -> Outcome {
    let operation = operation.parse().unwrap();
    let admission = plugins.admit(&operation, None).unwrap_or_else(|refused| panic!("{refused:?}"));
    let call = Call {
        job_id: JobId::new(),
        operation,
        args: serde_json::json!({}),
        secrets: Default::default(),
        type_digest: None,
        time_limit: Duration::from_secs(30),
        dry_run: false,
        cancel: CancellationToken::new(),
        progress: tokio::sync::mpsc::channel(16).0,
        output: tokio::sync::mpsc::channel(1).0,
    };
    admission.work.run(call).await.outcome
}

fn trapped(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Trapped { .. }), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_traps_is_rolled_back_and_stays_back() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Answer(1)), plugin("demo", "0.2.0", Does::Trap));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    let offer = site.offer(&two, "d2");
    session.want(2, std::slice::from_ref(&offer)).await;
    session.active(&two).await;
    trapped(&session.call("demo.op.answer").await);
    value(&session.call("demo.op.good").await);
    trapped(&session.call("demo.op.answer").await);
    value(&session.call("demo.op.good").await);
    trapped(&session.call("demo.op.answer").await);
    // With the result of the third the old version is back already.
    let (outcome, digest) = session.call_of("demo.op.answer").await;
    assert_eq!((value(&outcome), digest), (1, one.digest.to_string()));
    let inventory = session.problem("demo", "rolled_back", "3 of its first 5 operations failed").await;
    assert_eq!(kinds(&inventory), ["installed", "installed", "rolled_back"]);
    let change = &inventory.changes[2];
    assert_eq!((change.version.as_str(), change.from_version.as_str()), ("0.1.0", "0.2.0"));
    assert!(change.message.contains("the last: `op.answer` trapped: "), "{}", change.message);
    let demo = listed(&inventory, "demo").unwrap();
    assert_eq!((demo.version.as_str(), demo.previous_digest.as_str()), ("0.1.0", ""));

    // Another set with the same deployment changes nothing; another deployment tries again.
    session.want(3, std::slice::from_ref(&offer)).await;
    let inventory = session.inventory("3 is taken", |inventory| inventory.desired_revision == 3).await;
    assert_eq!(install(&inventory, "demo").unwrap().stage, "rolled_back");
    // The version that was sent back is no floor for the next.
    let fixed = plugin("demo", "0.1.5", Does::Answer(15));
    session.want(4, &[site.offer(&fixed, "d3")]).await;
    session.active(&fixed).await;
    // After another version too, the same deployment is over.
    session.want(5, std::slice::from_ref(&offer)).await;
    let inventory = session.problem("demo", "rolled_back", "3 of its first 5").await;
    assert_eq!(listed(&inventory, "demo").unwrap().version, "0.1.5");
    session.want(6, &[v1::DesiredPlugin { deployment: "d4".into(), ..offer }]).await;
    session.active(&two).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_back_without_a_master_and_tells_it_later() {
    let mut site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Answer(1)), plugin("demo", "0.2.0", Does::Trap));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    host.kill().await;
    let refuse = |on: bool| {
        site.master.behave(|behaviour| {
            behaviour.refuse = on.then(|| tonic::Status::unavailable("away"));
        });
    };
    refuse(true);
    // What it has counted lasts.
    let (host, plugins) = site.start().await;
    trapped(&call(&plugins, "demo.op.answer").await);
    trapped(&call(&plugins, "demo.op.answer").await);
    host.kill().await;
    drop(plugins);
    let (host, plugins) = site.start().await;
    trapped(&call(&plugins, "demo.op.answer").await);
    assert_eq!(value(&call(&plugins, "demo.op.answer").await), 1);
    assert_eq!(install(&plugins.inventory(), "demo").unwrap().stage, "rolled_back");
    host.kill().await;
    drop(plugins);
    refuse(false);
    site.keys.push_str("workers = 2\n");
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let hello = session.hello.inventory.clone().unwrap();
    assert_eq!(kinds(&hello), ["installed", "installed", "rolled_back"]);
    assert_eq!(install(&hello, "demo").unwrap().stage, "rolled_back");
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_version_that_fails_is_offered_no_more() {
    let mut site = Site::new().await;
    site.tables = "[bundles]\nfailure_budget = 1\n".into();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Trap);
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    trapped(&session.call("demo.op.answer").await);
    let gone = |outcome: Outcome| {
        assert!(
            matches!(&outcome, Outcome::Refused { reason: Refusal::PluginUnusable, message } if message.contains("rolled back")),
            "{outcome:?}"
        );
    };
    gone(session.call("demo.op.good").await);
    let inventory = session.problem("demo", "rolled_back", "there is no version before it").await;
    assert!(listed(&inventory, "demo").unwrap().operations.is_empty());
    host.stop().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    gone(session.call("demo.op.good").await);
    // A version that works takes its place.
    let two = plugin("demo", "0.0.9", Does::Answer(9));
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 9);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_probation_and_after_a_return_nothing_is_counted() {
    let mut site = Site::new().await;
    site.tables = "[bundles]\nfailure_budget = 1\nprobation = \"0s\"\n".into();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Trap), plugin("demo", "0.2.0", Does::Answer(2)));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    trapped(&session.call("demo.op.answer").await);
    trapped(&session.call("demo.op.answer").await);
    host.stop().await;
    site.tables = "[bundles]\nfailure_budget = 1\n".into();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    // An operator goes back: that must not end where the operator came from.
    session.want(3, &[site.offer(&one, "d3")]).await;
    session.active(&one).await;
    trapped(&session.call("demo.op.answer").await);
    let inventory = session.active(&one).await;
    assert_eq!(listed(&inventory, "demo").unwrap().version, "0.1.0");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_ends_the_host_is_sent_back_too() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Answer(1)), plugin("demo", "0.2.0", Does::Answer(2)));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    host.stop().await;
    for crash in 1..=3 {
        let host = site.spawn();
        let mut session = site.master.session().await;
        assert_eq!(
            listed(session.hello.inventory.as_ref().unwrap(), "demo").unwrap().version,
            "0.2.0",
            "{crash}"
        );
        // Two at once: a crash counts once.
        for _ in 0..2 {
            let id = RequestId::new();
            session.request(id, "demo.op.spin").await;
            session.started(id).await;
        }
        host.kill();
    }
    let _host = site.spawn();
    let mut session = site.master.session().await;
    let hello = session.hello.inventory.clone().unwrap();
    assert_eq!(listed(&hello, "demo").unwrap().version, "0.1.0");
    let problem = &install(&hello, "demo").unwrap().problem;
    assert!(problem.contains("the host process ended while `demo.op.spin` ran"), "{problem}");
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
}
