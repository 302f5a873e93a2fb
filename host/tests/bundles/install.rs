//! Installing, updating, removing, and what stays on disk.

use crate::common::{
    blobs::Delivery,
    plugin::{Does, approval, plugin, plugin_with, wanted},
    site::{Site, files, install, kinds, listed, until},
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use windlass_bundle::{Approval, Part};
use windlass_host::engine::{Catalogue as _, Engine as _};
use windlass_proto::v1::{self, host_message::Kind, master_message};
use windlass_types::{Effect, Outcome, Refusal};

pub fn value(outcome: &Outcome) -> i64 {
    match outcome {
        Outcome::Succeeded { value } => value.as_i64().unwrap(),
        other => panic!("expected a value: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_installed_updated_and_removed() {
    let site = Site::new().await;
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    assert_eq!(session.hello.inventory.as_ref().unwrap().desired_revision, 0);
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    let inventory = session.active(&one).await;
    assert_eq!(inventory.desired_revision, 1);
    let demo = listed(&inventory, "demo").unwrap();
    assert_eq!((demo.version.as_str(), demo.local, demo.previous_digest.as_str()), ("0.1.0", false, ""));
    assert_eq!(demo.operations.len(), 3);
    let (outcome, digest) = session.call_of("demo.op.answer").await;
    assert_eq!((value(&outcome), digest), (1, one.digest.to_string()));

    let two = plugin("demo", "0.2.0", Does::Answer(2));
    session.want(2, &[site.offer(&two, "d2")]).await;
    let inventory = session.active(&two).await;
    assert_eq!(listed(&inventory, "demo").unwrap().previous_digest, one.digest.to_string());
    assert_eq!(kinds(&inventory), ["installed", "installed"]);
    let change = &inventory.changes[1];
    assert_eq!((change.version.as_str(), change.from_version.as_str(), change.number), ("0.2.0", "0.1.0", 2));
    assert_eq!(value(&session.call("demo.op.answer").await), 2);

    // Its parts are read from the disk when they are asked for, of the version before too.
    for bundle in [&one, &two] {
        let source = plugins.source(bundle.digest).unwrap();
        assert_eq!(source.manifest, bundle.manifest_text);
        assert_eq!(source.wit, bundle.wit);
        assert_eq!(windlass_types::Digest::of(&source.image), bundle.digest);
    }
    let digest = two.digest.to_string();
    session.say(master_message::Kind::WantPlugin(v1::WantPlugin { digest: digest.clone() })).await;
    loop {
        if let Kind::PluginSource(source) = session.said().await {
            assert_eq!(source.digest, digest);
            break;
        }
    }

    let checked = site.check();
    let found = checked.iter().find(|finding| finding.what == "bundle demo").unwrap();
    assert!(found.ok && found.detail.starts_with("0.2.0, sha256:"), "{found:?}");
    for words in ["signed by release", "with 0 of 3 failures", "0.1.0 before it"] {
        assert!(found.detail.contains(words), "{found:?}");
    }

    session.want(3, &[]).await;
    let inventory = session.inventory("demo is gone", |inventory| inventory.plugins.is_empty()).await;
    assert_eq!(kinds(&inventory), ["installed", "installed", "removed"]);
    assert_eq!(inventory.changes[2].from_version, "0.2.0");
    let outcome = session.call("demo.op.answer").await;
    assert!(matches!(outcome, Outcome::Refused { reason: Refusal::UnknownOperation, .. }), "{outcome:?}");
    until("nothing is left of it", || {
        (files(&site.state("bundles/blobs/sha256")).is_empty() && files(&site.state("compiled")).is_empty())
            .then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_run_keep_the_version_they_began_with() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    let id = windlass_types::RequestId::new();
    session.request(id, "demo.op.spin").await;
    session.started(id).await;
    let two = plugin("demo", "0.2.0", Does::Answer(2));
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2, "the new version answers");
    session.say(master_message::Kind::Cancel(v1::Cancel { request_id: id.to_string() })).await;
    let result = loop {
        if let Some(result) = session.results.pop() {
            break result;
        }
        if let Kind::Result(result) = session.said().await {
            break result;
        }
    };
    assert_eq!((result.request_id, result.plugin_digest), (id.to_string(), one.digest.to_string()));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_fetch_goes_on_where_it_ended_and_nothing_is_fetched_twice() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let large = plugin_with("demo", "0.1.0", Does::Answer(1), "", 700_000);
    let wanted = site.offer(&large, "d1");
    site.master.shared.blobs.delivery.send_replace(Delivery::CutOnce(320 << 10));
    session.want(1, std::slice::from_ref(&wanted)).await;
    session.active(&large).await;
    assert_eq!(site.master.shared.blobs.offsets(&large, Part::Component), [0, 320 << 10]);
    // The next version has the same component: only what differs is fetched.
    let component = large.component.clone();
    let text = String::from_utf8(large.manifest_text.clone()).unwrap().replace("0.1.0", "0.1.1");
    let next = windlass_bundle::Bundle::from_parts(text.into(), component, large.wit.clone()).unwrap();
    session.want(2, &[site.offer(&next, "d2")]).await;
    session.active(&next).await;
    assert_eq!(site.master.shared.blobs.offsets(&large, Part::Component).len(), 2);
    assert_eq!(files(&site.state("compiled")).len(), 2, "one component, compiled once, and its sum");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_disturbs_no_heartbeat() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let large = plugin_with("demo", "0.1.0", Does::Answer(1), "", 24 << 20);
    site.master.shared.blobs.delivery.send_replace(Delivery::Stop(16 << 20));
    let wanted = site.offer(&large, "d1");
    let component = large.image().layer(Part::Component).digest.hex();
    let part = site.state("bundles/blobs/sha256").join(format!("{component}.part"));
    session.want(1, std::slice::from_ref(&wanted)).await;
    // While 16 MiB come, and while nothing comes, each heartbeat is answered at once.
    let mut beats = 0;
    let mut slowest = Duration::ZERO;
    while beats < 20 || std::fs::metadata(&part).map_or(0, |part| part.len()) < 16 << 20 {
        beats += 1;
        let beat = v1::Heartbeat { sequence: beats, answers: 0, running_jobs: 0 };
        let asked = Instant::now();
        session.say(master_message::Kind::Heartbeat(beat)).await;
        while !matches!(session.next().await, Kind::Heartbeat(beat) if beat.answers == beats) {}
        slowest = slowest.max(asked.elapsed());
    }
    // Three missing ones would end a session.
    assert!(slowest < Duration::from_millis(600), "a heartbeat took {slowest:?}");
    // Meanwhile it hears what else is wanted; and a set without this one ends the fetch.
    let small = plugin("small", "0.1.0", Does::Answer(1));
    let other = site.offer(&small, "d2");
    session.want(2, &[wanted.clone(), other]).await;
    session.inventory("2 is taken", |inventory| inventory.desired_revision == 2).await;
    session.want(2, &[]).await;
    until("the part is removed", || (!part.exists()).then_some(())).await;
    site.master.shared.blobs.delivery.send_replace(Delivery::Whole);
    session.want(3, std::slice::from_ref(&wanted)).await;
    let inventory = session.active(&large).await;
    assert_eq!(inventory.desired_revision, 3);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let large = plugin_with("demo", "0.1.0", Does::Answer(1), "", 2 << 20);
    site.master.shared.blobs.delivery.send_replace(Delivery::Stop(1 << 20));
    session.want(1, &[site.offer(&large, "d1")]).await;
    let total = large.image().size_bytes();
    session
        .inventory("bytes are told", |inventory| {
            install(inventory, "demo").is_some_and(|i| i.stage == "fetching" && i.total_bytes == total)
        })
        .await;
    host.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_the_nodes_own_comes_first() {
    let mut site = Site::new().await;
    site.keys = "plugins_dir = \"plugins\"\n".into();
    let own = plugin("demo", "9.0.0", Does::Answer(9));
    let folder = site.path("plugins/demo");
    std::fs::create_dir_all(&folder).unwrap();
    for part in windlass_bundle::oci::LAYERS {
        std::fs::write(folder.join(part.file_name()), own.part(part)).unwrap();
    }
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    let inventory = session.problem("demo", "failed", "of its own").await;
    assert!(listed(&inventory, "demo").unwrap().local);
    assert_eq!(value(&session.call("demo.op.answer").await), 9);
    assert_eq!(plugins.source(own.digest).unwrap().wit, own.wit);
    assert!(inventory.changes.is_empty() && files(&site.state("bundles/blobs/sha256")).is_empty());
    // Once it is gone, what the master wants is installed; and the other way round.
    let aside = site.path("aside");
    std::fs::rename(&folder, &aside).unwrap();
    plugins.reload().await;
    session.active(&one).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    std::fs::rename(&aside, &folder).unwrap();
    plugins.reload().await;
    session.problem("demo", "failed", "of its own").await;
    assert_eq!(value(&session.call("demo.op.answer").await), 9);
    std::fs::remove_dir_all(&folder).unwrap();
    plugins.reload().await;
    session.active(&one).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_approval_must_cover_all_and_narrows_what_runs() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    let mut offer = site.offer(&one, "d1");
    let full = approval(&one);
    let json = |approval: &Approval| serde_json::to_vec(approval).unwrap().into();
    offer.approval_json = json(&Approval::all_of(full.capabilities[1..].to_vec()));
    session.want(1, &[offer.clone()]).await;
    let inventory = session.problem("demo", "failed", "asks for more than was approved: ").await;
    assert_eq!(kinds(&inventory), ["failed"]);
    assert_eq!((inventory.changes[0].version.as_str(), inventory.plugins.len()), ("0.1.0", 0));
    for bad in ["", "{}", "null"] {
        offer.approval_json = bad.into();
        session.want(2, &[offer.clone()]).await;
        session.problem("demo", "failed", "approval can't be read").await;
    }
    // All of it, but no operation that changes anything.
    offer.approval_json = json(&Approval { max_effect: Effect::Read, ..full.clone() });
    session.want(3, &[offer.clone()]).await;
    session.active(&one).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    let denied = session.call("demo.op.spin").await;
    assert!(
        matches!(&denied, Outcome::Denied { denial, .. } if denial.missing.contains("approved")),
        "{denied:?}"
    );
    // Another approval for the same bundle takes effect without an update.
    let deny_operations = BTreeSet::from(["op.answer".to_owned()]);
    offer.approval_json = json(&Approval { deny_operations, ..full });
    session.want(4, &[offer.clone()]).await;
    let inventory = session.inventory("revision 4 is active", |inventory| {
        inventory.desired_revision == 4 && install(inventory, "demo").is_some_and(|i| i.stage == "active")
    });
    assert_eq!(kinds(&inventory.await).iter().filter(|kind| **kind == "installed").count(), 1);
    assert!(matches!(session.call("demo.op.answer").await, Outcome::Denied { .. }));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_the_old_version_and_is_tried_again_only_for_another_deployment() {
    let site = Site::new().await;
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    let broken = plugin("demo", "0.2.0", Does::BreakAtOnce);
    let offer = site.offer(&broken, "d2");
    session.want(2, std::slice::from_ref(&offer)).await;
    let inventory = session.problem("demo", "failed", "breaks when it is instantiated").await;
    assert_eq!(listed(&inventory, "demo").unwrap().version, "0.1.0");
    assert_eq!(kinds(&inventory), ["installed", "failed"]);
    assert_eq!(inventory.changes[1].from_version, "0.1.0");
    assert_eq!(value(&session.call("demo.op.answer").await), 1);

    // The same set, another revision: nothing new. The owner's reload and another deployment try again.
    session.want(3, std::slice::from_ref(&offer)).await;
    let inventory =
        session.inventory("revision 3 is taken", |inventory| inventory.desired_revision == 3).await;
    assert_eq!(install(&inventory, "demo").unwrap().stage, "failed");
    plugins.reload().await;
    let again = v1::DesiredPlugin { deployment: "d3".into(), ..offer };
    session.want(4, &[again]).await;
    let inventory = session
        .inventory("it failed again", |inventory| kinds(inventory) == ["installed", "failed", "failed"])
        .await;
    assert_eq!(install(&inventory, "demo").unwrap().deployment, "d3");
    // What makes no sense is told, and what runs goes on.
    let unclear = v1::DesiredPlugin { version: "two".into(), ..site.offer(&one, "d4") };
    session.want(5, &[unclear]).await;
    session.problem("demo", "failed", "version `two`").await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    // Another bundle under this name and version.
    let other = plugin("other", "0.2.0", Does::Answer(3));
    site.master.shared.blobs.put_bundle(&other);
    let mut impostor = wanted(&broken, "d5", &[]);
    impostor.digest = other.digest.to_string();
    session.want(6, &[impostor]).await;
    session.problem("demo", "failed", "not trusted").await;
    host.stop().await;
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installed_bundle_is_not_kept_in_memory() {
    let site = Site::new().await;
    let program = site.spawn();
    let mut session = site.master.session().await;
    let small = plugin("small", "0.1.0", Does::Answer(1));
    let first = site.offer(&small, "d1");
    session.want(1, std::slice::from_ref(&first)).await;
    session.active(&small).await;
    let before = resident(program.id());
    let large = plugin_with("demo", "0.1.0", Does::Answer(1), "", 40 << 20);
    session.want(2, &[first, site.offer(&large, "d2")]).await;
    session.active(&large).await;
    let grown = resident(program.id()) - before;
    assert!(grown < 8 << 10, "{grown} KiB more with a bundle of 40 MiB");
}
