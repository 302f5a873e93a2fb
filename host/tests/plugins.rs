//! Bundles that can't be used: listed with the reason, and the others go on.

use std::path::Path;
use windlass_host::{
    config::Config,
    engine::{Catalogue as _, Engine as _},
    jobs::Executor as _,
    plugins::Plugins,
};
use windlass_types::{Digest, Refusal};

const PIN: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Begins like a component (layer 1), and is none.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn config(dir: &Path, more: &str) -> Config {
    let text = format!(
        "name = \"n1\"\nca_fingerprint = \"{PIN}\"\nstate_dir = \"state\"\nplugins_dir = \"plugins\"\n\
         compile_helper = \"no-such-helper\"\n{more}"
    );
    Config::parse(&text, &dir.join("host.toml")).expect("a good configuration")
}

fn bundle(dir: &Path, folder: &str, manifest: &str) {
    let folder = dir.join("plugins").join(folder);
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("plugin.toml"), manifest).expect("written");
    std::fs::write(folder.join("component.wasm"), COMPONENT).expect("written");
    std::fs::write(folder.join("wit.wasm"), COMPONENT).expect("written");
}

fn manifest(name: &str) -> String {
    format!("name = \"{name}\"\nversion = \"1.2.3\"\ndescription = \"x\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_bundles_are_listed_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    bundle(dir.path(), "zfs", &manifest("zfs"));
    bundle(dir.path(), "zfs-again", &manifest("zfs"));
    bundle(dir.path(), "fio", "nam = \"fio\"");
    bundle(dir.path(), "Not A Name", "nam = \"x\"");
    let plugins = Plugins::start(&config(dir.path(), "")).await.expect("the runtime starts");
    let listed = plugins.inventory().plugins;
    let names: Vec<&str> = listed.iter().map(|plugin| plugin.name.as_str()).collect();
    assert_eq!(names, ["fio", "zfs"]);
    assert!(listed[0].problem.contains("nam"), "{}", listed[0].problem);
    assert!(listed[1].problem.contains("no-such-helper"), "{}", listed[1].problem);
    for plugin in &listed {
        plugin.digest.parse::<Digest>().expect("every plugin has a digest");
    }
    let digest = listed[1].digest.parse().expect("a digest");
    assert_eq!(&plugins.source(digest).expect("the parts are there").wit[..], COMPONENT);

    let refused = |name: &str| plugins.admit(&name.parse().expect("a name"), None).err().expect("refused");
    assert_eq!(refused("zfs.pool.list").reason, Refusal::PluginUnusable);
    let unknown = refused("zsf.pool.list");
    assert_eq!(unknown.reason, Refusal::UnknownOperation);
    assert!(unknown.message.contains("did you mean `zfs`?"), "{}", unknown.message);

    let mut changes = plugins.changes();
    std::fs::remove_dir_all(dir.path().join("plugins/fio")).expect("removed");
    plugins.reload().await;
    changes.changed().await.expect("the list changed");
    assert_eq!(plugins.inventory().plugins.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_broken_bundles_and_settings_for_plugins_that_are_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    bundle(dir.path(), "zfs", &manifest("zfs"));
    bundle(dir.path(), "Not A Name", "nam = \"x\"");
    let findings = Plugins::check(&config(dir.path(), "[plugins.zsf.policy]\nmax_effect = \"read\"")).await;
    let bad: Vec<String> =
        findings.iter().filter(|finding| !finding.ok).map(|finding| finding.what.clone()).collect();
    assert_eq!(bad, ["plugin zfs", "plugin folder Not A Name", "configuration plugins.zsf"]);
    let setting = findings.iter().find(|finding| finding.what == "configuration plugins.zsf").expect("found");
    assert!(setting.hint.contains("`zfs`"));
}
