//! Bundles through a grid of real processes: pushed, rolled out, refused, rolled back.

use serde_json::Value;
use std::path::PathBuf;
use windlass_tests::{
    Binaries, Grid, GridOptions,
    bundles::{Signer, variant},
    until,
};

/// A grid whose hosts have no plugin of their own and trust one key.
struct World {
    dir: tempfile::TempDir,
    grid: Grid,
    signer: Signer,
}

impl World {
    fn start(hosts: &[&str]) -> Self {
        Self::start_with(hosts, "", "")
    }

    fn start_with(hosts: &[&str], host_config: &str, host_tables: &str) -> Self {
        let (dir, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let options = GridOptions {
            hosts: hosts.iter().map(ToString::to_string).collect(),
            plugins: Vec::new(),
            trust: Some(signer.trust()),
            host_config: host_config.into(),
            host_tables: host_tables.into(),
            ..GridOptions::default()
        };
        let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
        World { dir, grid, signer }
    }

    /// The signed package of a version of the torture plugin.
    fn package(&self, version: &str, changes: &[(&str, &str)]) -> PathBuf {
        let bundle = variant(self.grid.binaries(), "torture", version, changes).unwrap();
        self.signer.package(bundle, self.dir.path()).unwrap()
    }

    fn push(&self, package: &std::path::Path) -> Value {
        self.grid.windlass(&["plugins", "push", package.to_str().unwrap(), "-o", "json"]).expect(0).json()
    }

    /// Push a version and roll it out to all nodes, to the end.
    fn deploy(&self, version: &str, changes: &[(&str, &str)]) {
        self.push(&self.package(version, changes));
        let bundle = format!("torture@{version}");
        self.grid
            .windlass(&["plugins", "deploy", &bundle, "--approve", "--yes", "--canary", "1", "--soak", "0s"])
            .expect(0);
    }

    fn plugin(&self) -> Value {
        self.grid.windlass(&["plugins", "show", "torture", "-o", "json"]).expect(0).json()
    }

    /// What each node runs, by name, as the master knows it.
    fn running(&self) -> Vec<(String, String)> {
        let nodes = self.plugin()["nodes"].as_array().cloned().unwrap_or_default();
        let version = |node: &Value| node["active"]["version"].as_str().unwrap_or("none").to_owned();
        nodes.iter().map(|node| (node["name"].as_str().unwrap().to_owned(), version(node))).collect()
    }

    fn runs_everywhere(&self, version: &str) {
        until(&format!("every node runs {version}"), || {
            self.running().iter().all(|(_, running)| running == version).then_some(())
        });
    }

    fn events(&self) -> Vec<Value> {
        let page = self.grid.windlass(&["plugins", "events", "torture", "-o", "json"]).expect(0).json();
        page.as_array().cloned().or_else(|| page["items"].as_array().cloned()).unwrap()
    }
}

#[test]
fn an_update_fails_no_job_and_restarts_no_agent() {
    let mut world = World::start(&["n1", "n2", "n3"]);
    world.deploy("0.1.0", &[]);
    assert_eq!(world.running().len(), 3);
    let pids = ["n1", "n2", "n3"].map(|name| world.grid.host(name).pid());

    // Jobs without pause on all nodes, from another thread, until the new version runs everywhere.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let versions = std::thread::scope(|scope| {
        let jobs = scope.spawn(|| {
            let mut versions = std::collections::BTreeMap::<String, u32>::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let run = world
                    .grid
                    .windlass(&["run", "torture.echo.unsigned", "value=7", "--on", "n*", "-o", "json"])
                    .expect(0)
                    .json();
                for node in run["results"].as_array().unwrap() {
                    assert_eq!(node["outcome"]["status"], "succeeded", "{node}");
                    let version = node["plugin_version"].as_str().expect("the version that ran");
                    *versions.entry(version.to_owned()).or_default() += 1;
                }
            }
            versions
        });
        world.deploy("0.2.0", &[]);
        world.runs_everywhere("0.2.0");
        // A job after the swap as well.
        world.grid.windlass(&["run", "torture.echo.unsigned", "value=7", "--on", "n*"]).expect(0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        jobs.join().unwrap()
    });
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["0.1.0", "0.2.0"], "{versions:?}");
    for (name, pid) in ["n1", "n2", "n3"].into_iter().zip(pids) {
        assert_eq!(world.grid.host(name).pid(), pid);
        assert!(world.grid.host(name).is_running());
    }
    // And back, by hand.
    world.grid.windlass(&["plugins", "rollback", "torture", "--yes"]).expect(0);
    world.runs_everywhere("0.1.0");
}

/// With this memory the operation `limits.eat` can not take eight MiB.
const BROKEN: [(&str, &str); 1] = [("memory = \"32MiB\"", "memory = \"6MiB\"")];

#[test]
fn a_broken_version_goes_back_by_itself_also_with_the_master_away() {
    let mut world = World::start_with(&["n1"], "", "\n[bundles]\nfailure_budget = 3\n");
    world.deploy("0.2.0", &[]);
    world.deploy("0.3.0", &BROKEN);
    world.runs_everywhere("0.3.0");
    for _ in 0..2 {
        world.grid.windlass(&["run", "torture.limits.eat", "mebibytes=8", "--on", "n1"]).expect(3);
    }
    assert_eq!(world.running(), [("n1".to_owned(), "0.3.0".to_owned())], "two of three");
    // The third is sent, and the master dies before it can hear how it went.
    world.grid.windlass(&["run", "torture.limits.eat", "mebibytes=8", "--on", "n1", "--detach"]).expect(0);
    world.grid.take_master().kill().unwrap();
    until("the host goes back", || {
        let log = world.grid.host("n1").log();
        (log.contains("0.2.0") && log.contains("rolled back")).then_some(())
    });
    world.grid.restart_master().unwrap();
    world.grid.wait_online("n1");
    world.runs_everywhere("0.2.0");
    world.grid.windlass(&["run", "torture.limits.eat", "mebibytes=8", "--on", "n1"]).expect(0);
    let events = world.events();
    let event = events.iter().find(|event| event["kind"] == "rolled_back").expect("an event");
    let message = event["message"].as_str().unwrap();
    assert!(message.contains("trapped") && message.contains("limits.eat"), "{event}");
    // It stays so over a restart, though 0.3.0 is still what was asked for.
    world.grid.take_host("n1").kill().unwrap();
    world.grid.wait_offline("n1");
    world.grid.restart_host("n1").unwrap();
    world.grid.wait_online("n1");
    world.runs_everywhere("0.2.0");
}

#[test]
fn a_host_refuses_what_its_own_trust_file_does_not_allow() {
    let world = World::start(&["n1"]);
    world.deploy("0.1.0", &[]);
    let stranger = Signer::new();
    let bundle = variant(world.grid.binaries(), "torture", "0.2.0", &[]).unwrap();
    let unknown = stranger.package(bundle.clone(), world.dir.path()).unwrap();
    // The master takes it, approves it and wants it: the host does not care.
    world.push(&unknown);
    let deployed = world
        .grid
        .windlass(&["plugins", "deploy", "torture@0.2.0", "--approve", "--yes", "--soak", "0s"])
        .expect(3);
    assert!(
        deployed.stdout.contains("is unknown") || deployed.stderr.contains("is unknown"),
        "{deployed:#?}"
    );
    assert_eq!(world.running(), [("n1".to_owned(), "0.1.0".to_owned())]);
    assert!(world.events().iter().any(|event| event["kind"] == "failed"));
    // With the right signature added to the same bundle, the same deployment again.
    let signed = world.signer.package(bundle, world.dir.path()).unwrap();
    world.push(&signed);
    world.grid.windlass(&["plugins", "deploy", "torture@0.2.0", "--yes", "--soak", "0s"]).expect(0);
    world.runs_everywhere("0.2.0");

    // One byte of the component altered after signing: the package no longer holds together …
    let good = world.package("0.4.0", &[]);
    let mut bytes = std::fs::read(&good).unwrap();
    let at = bytes.len() - 4096;
    bytes[at] ^= 1;
    let altered = world.dir.path().join("altered.tar");
    std::fs::write(&altered, &bytes).unwrap();
    let refused = world.grid.windlass(&["plugins", "push", altered.to_str().unwrap()]);
    assert_ne!(refused.code, 0, "{refused:#?}");
}

#[test]
fn a_blob_altered_in_the_masters_store_is_refused_by_the_host() {
    let world = World::start(&["n1"]);
    world.deploy("0.1.0", &[]);
    world.push(&world.package("0.2.0", &BROKEN));
    // A master that has been taken over: it serves other bytes under the digest that was signed.
    let blobs = world.dir.path().join("master/blobs");
    let component =
        std::fs::read(world.grid.binaries().bundle("torture").unwrap().join("plugin.toml")).unwrap();
    let changed = String::from_utf8(component).unwrap().replace("version = \"0.1.0\"", "version = \"0.2.0\"");
    let changed = changed.replace(BROKEN[0].0, BROKEN[0].1);
    let wanted = windlass_types::Digest::of(changed.as_bytes()).hex();
    let mut altered = 0;
    let mut folders = vec![blobs];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(&wanted) {
                std::fs::write(entry.path(), changed.replace("6MiB", "9MiB")).unwrap();
                altered += 1;
            }
        }
    }
    assert_eq!(altered, 1, "the manifest of 0.2.0 lies in the store of blobs");
    world
        .grid
        .windlass(&["plugins", "deploy", "torture@0.2.0", "--approve", "--yes", "--node-timeout", "3s"])
        .expect(3);
    assert_eq!(world.running(), [("n1".to_owned(), "0.1.0".to_owned())]);
    world.grid.windlass(&["run", "torture.limits.eat", "mebibytes=8", "--on", "n1"]).expect(0);
}

#[test]
fn a_version_that_asks_for_more_waits_while_the_old_one_runs() {
    let world = World::start(&["n1"]);
    world.deploy("0.1.0", &[]);
    world.push(&world.package("0.2.0", &[("probes = [\"system\"]", "probes = [\"system\", \"cpu\"]")]));
    let waiting =
        world.grid.windlass(&["plugins", "deploy", "torture@0.2.0", "--yes", "--soak", "0s"]).expect(4);
    assert!(format!("{}{}", waiting.stdout, waiting.stderr).contains("+ cpu"), "{waiting:#?}");
    assert_eq!(world.running(), [("n1".to_owned(), "0.1.0".to_owned())]);
    world.grid.windlass(&["run", "torture.echo.unsigned", "value=7", "--on", "n1"]).expect(0);
    let difference = world.grid.windlass(&["plugins", "diff", "torture@0.1.0", "torture@0.2.0"]).expect(0);
    assert!(difference.stdout.contains("probe") && difference.stdout.contains("cpu"), "{difference:#?}");
    world.grid.windlass(&["plugins", "approve", "torture@0.2.0", "--yes"]).expect(0);
    world.runs_everywhere("0.2.0");
}

#[test]
fn a_node_that_was_away_gets_what_it_missed() {
    let mut world = World::start(&["n1", "n2"]);
    world.deploy("0.1.0", &[]);
    world.grid.take_host("n2").kill().unwrap();
    world.grid.wait_offline("n2");
    world.push(&world.package("0.2.0", &[]));
    // It is done with who is there, and not called a success of all.
    let deployed =
        world.grid.windlass(&["plugins", "deploy", "torture@0.2.0", "--yes", "--soak", "0s"]).expect(3);
    assert!(deployed.stderr.contains("1 offline node gets it on return"), "{deployed:#?}");
    assert_eq!(world.running(), [("n1".into(), "0.2.0".into()), ("n2".into(), "0.1.0".to_owned())]);
    world.grid.restart_host("n2").unwrap();
    world.grid.wait_online("n2");
    world.runs_everywhere("0.2.0");
}

#[test]
fn two_deployments_at_once_leave_one() {
    let world = World::start(&["n1", "n2"]);
    world.deploy("0.1.0", &[]);
    world.push(&world.package("0.2.0", &[]));
    world.push(&world.package("0.3.0", &[]));
    // It soaks for longer than the test runs.
    let deploy = |version: &str, more: &[&str]| {
        let bundle = format!("torture@{version}");
        world.grid.windlass(&[&["plugins", "deploy", &bundle, "--yes"], more].concat())
    };
    deploy("0.2.0", &["--canary", "1", "--soak", "10m", "--detach"]).expect(0);
    let second = deploy("0.3.0", &["--soak", "0s"]);
    assert_eq!(second.code, 1, "{second:#?}");
    assert!(second.stderr.contains("--replace"), "{}", second.stderr);
    deploy("0.3.0", &["--soak", "0s", "--replace"]).expect(0);
    world.runs_everywhere("0.3.0");
}
