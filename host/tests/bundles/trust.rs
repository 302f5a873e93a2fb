//! The host believes its own trust file, whatever the master says.

use crate::{
    common::{
        blobs::Delivery,
        plugin::{Does, Signer, plugin, wanted},
        site::{Site, files, install, kinds, listed},
    },
    install::value,
};
use windlass_host::engine::Engine as _;
use windlass_host::journal::now_ms;
use windlass_proto::v1;
use windlass_types::{Outcome, Refusal};

const RULE: &str = "[[rules]]\nplugins = \"*\"\nkeys = [\"release\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_or_an_unknown_key_did_is_refused_before_a_byte_is_fetched() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    let stranger = Signer::new();
    let other = plugin("demo", "0.2.0", Does::Answer(2));
    site.master.shared.blobs.put_bundle(&one);
    for (revision, signatures, words) in [
        (1, vec![], "has no signature"),
        (2, vec![stranger.sign(&one)], "is unknown"),
        // A good signature, over another bundle.
        (3, vec![site.signer.sign(&other)], "is about demo 0.2.0"),
        (4, vec![site.signer.sign_until(&one, Some(now_ms() - 1000))], "has expired"),
    ] {
        session.want(revision, &[wanted(&one, "d1", &signatures)]).await;
        session.problem("demo", "failed", words).await;
    }
    // A digest that was not signed under that version.
    let lie = v1::DesiredPlugin { version: "0.3.0".into(), ..site.offer(&one, "d1") };
    session.want(5, &[lie]).await;
    let inventory = session.problem("demo", "failed", "is about demo 0.1.0").await;
    assert!(inventory.plugins.is_empty() && kinds(&inventory).iter().all(|kind| *kind == "failed"));
    assert!(site.master.shared.blobs.asked.borrow().is_empty(), "nothing was fetched");
    assert!(files(&site.state("bundles/blobs/sha256")).is_empty());
    // With one more signature the same deployment goes on.
    let both = [stranger.sign(&one), site.signer.sign(&one)];
    session.want(6, &[wanted(&one, "d1", &both)]).await;
    session.active(&one).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_altered_bit_is_enough_to_refuse() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    let offer = site.offer(&one, "d1");
    site.master.shared.blobs.delivery.send_replace(Delivery::Altered);
    session.want(1, std::slice::from_ref(&offer)).await;
    let inventory = session.problem("demo", "failed", "has the digest").await;
    assert!(inventory.plugins.is_empty());
    assert!(files(&site.state("bundles/blobs/sha256")).is_empty(), "nothing of it is kept");
    site.master.shared.blobs.delivery.send_replace(Delivery::Whole);
    session.want(2, &[v1::DesiredPlugin { deployment: "d2".into(), ..offer }]).await;
    session.active(&one).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_keys_must_sign_as_the_rule_says() {
    let site = Site::new().await;
    let second = Signer::new();
    site.trust(&format!(
        "{}{}[[rules]]\nplugins = \"*\"\nkeys = [\"release\", \"second\"]\nthreshold = 2\n",
        site.signer.key("release"),
        second.key("second")
    ));
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    site.master.shared.blobs.put_bundle(&one);
    let twice = [site.signer.sign(&one), site.signer.sign_until(&one, Some(i64::MAX))];
    session.want(1, &[wanted(&one, "d1", &twice)]).await;
    session.problem("demo", "failed", "1 of 2").await;
    session.want(2, &[wanted(&one, "d1", &[site.signer.sign(&one), second.sign(&one)])]).await;
    session.active(&one).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_signed_version_is_refused_unless_it_is_the_one_before() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let versions = ["0.1.0", "0.2.0", "0.3.0"].map(|version| plugin("demo", version, Does::Answer(1)));
    let [one, two, three] = &versions;
    session.want(1, &[site.offer(two, "d1")]).await;
    session.active(two).await;
    session.want(2, &[site.offer(three, "d2")]).await;
    session.active(three).await;
    // A replay of what was good once.
    session.want(3, &[site.offer(one, "d3")]).await;
    let inventory = session.problem("demo", "failed", "0.1.0 is older than 0.3.0").await;
    assert_eq!(listed(&inventory, "demo").unwrap().version, "0.3.0");
    // Back to the one before is a rollback; and from there forward again.
    session.want(4, &[site.offer(two, "d4")]).await;
    let inventory = session.active(two).await;
    assert_eq!(listed(&inventory, "demo").unwrap().previous_digest, three.digest.to_string());
    session.want(5, &[site.offer(one, "d5")]).await;
    session.problem("demo", "failed", "0.1.0 is older than 0.3.0").await;
    // To remove it first is no way around.
    session.want(6, &[]).await;
    session.inventory("it is gone", |inventory| inventory.plugins.is_empty()).await;
    session.want(7, &[site.offer(one, "d6")]).await;
    session.problem("demo", "failed", "0.1.0 is older than 0.3.0").await;
    let told = v1::DesiredPlugin { allow_downgrade: true, ..site.offer(one, "d6") };
    session.want(8, &[told]).await;
    session.active(one).await;
    // But never below what the node's own file says.
    site.trust(&format!("{}{RULE}minimum_version = \"0.2.0\"\n", site.signer.key("release")));
    let told = v1::DesiredPlugin { allow_downgrade: true, ..site.offer(one, "d7") };
    session.want(9, &[]).await;
    session.inventory("it is gone", |inventory| inventory.plugins.is_empty()).await;
    session.want(10, &[told]).await;
    session.problem("demo", "failed", "`minimum_version` 0.2.0").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_stops_at_the_next_reload_and_at_the_next_start() {
    let site = Site::new().await;
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    let (one, two) = (plugin("demo", "0.1.0", Does::Answer(1)), plugin("demo", "0.2.0", Does::Answer(2)));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    let trusted = format!("{}{RULE}", site.signer.key("release"));
    let revoked =
        |bundle: &windlass_bundle::Bundle| format!("{trusted}[revoked]\ndigests = [\"{}\"]\n", bundle.digest);
    let stopped = async |session: &mut crate::common::Session| {
        session.problem("demo", "failed", "revokes the bundle").await;
        let outcome = session.call("demo.op.answer").await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason: Refusal::PluginUnusable, message } if message.contains("revokes")),
            "{outcome:?}"
        );
    };
    site.trust(&revoked(&two));
    assert_eq!(value(&session.call("demo.op.answer").await), 2, "the file is not looked at all the time");
    plugins.reload().await;
    stopped(&mut session).await;
    // Neither is a revoked one gone back to.
    site.trust(&revoked(&one));
    plugins.reload().await;
    session.active(&two).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2);
    session.want(3, &[site.offer(&one, "d3")]).await;
    session.problem("demo", "failed", "revokes the bundle").await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2);
    session.want(4, &[site.offer(&two, "d2")]).await;
    session.active(&two).await;
    host.stop().await;

    site.trust(&revoked(&two));
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let listed = listed(session.hello.inventory.as_ref().unwrap(), "demo").unwrap().clone();
    assert!(listed.problem.contains("revokes") && listed.operations.is_empty(), "{listed:?}");
    stopped(&mut session).await;
    host.stop().await;

    // A file that can't be read trusts nobody, and one that is whole again everybody as before.
    site.trust("[[rules]]\nplugin = \"*\"\n");
    let (host, plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.problem("demo", "failed", "trust.toml").await;
    site.trust(&trusted);
    plugins.reload().await;
    session.active(&two).await;
    assert_eq!(value(&session.call("demo.op.answer").await), 2);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_ends_no_plugin_that_runs() {
    let site = Site::new().await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    session.want(1, &[site.offer(&one, "d1")]).await;
    session.active(&one).await;
    host.stop().await;
    // The key's end, a moment before the bundle was verified: it could not have been installed.
    let ledger = std::fs::read_to_string(site.state("bundles/ledger.json")).unwrap();
    let ledger: serde_json::Value = serde_json::from_str(&ledger).unwrap();
    let verified = ledger["plugins"]["demo"]["current"]["verified_ms"].as_i64().unwrap();
    let expires = |at_ms: i64| {
        let at = time::OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000)).unwrap();
        let at = at.format(&time::format_description::well_known::Rfc3339).unwrap();
        format!("{}expires = {at}\n{RULE}", site.signer.key("release"))
    };
    site.trust(&expires(verified - 1000));
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.problem("demo", "failed", "has expired").await;
    host.stop().await;
    // The key's end after that, and past by now.
    site.trust(&expires(verified + 1000));
    crate::common::site::until("the key has expired", || (now_ms() > verified + 1000).then_some(())).await;
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    let two = plugin("demo", "0.2.0", Does::Answer(2));
    session.want(2, &[site.offer(&two, "d2")]).await;
    session.problem("demo", "failed", "has expired").await;
    assert_eq!(value(&session.call("demo.op.answer").await), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_bundles_run_only_where_the_owner_says_so() {
    let mut site = Site::new().await;
    site.keys = "allow_unsigned = true\n".into();
    std::fs::remove_file(site.path("trust.toml")).unwrap();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    let one = plugin("demo", "0.1.0", Does::Answer(1));
    site.master.shared.blobs.put_bundle(&one);
    session.want(1, &[wanted(&one, "d1", &[])]).await;
    let inventory = session.active(&one).await;
    assert_eq!(install(&inventory, "demo").unwrap().problem, "");
    host.stop().await;
    site.keys.clear();
    let (host, _plugins) = site.start().await;
    let mut session = site.master.session().await;
    session.problem("demo", "failed", "there is no trust file").await;
    host.stop().await;
}
