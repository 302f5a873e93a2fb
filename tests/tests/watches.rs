//! Watches through a grid of real processes: what nodes find by themselves, and what the master knows of it.

use serde_json::Value;
use std::path::{Path, PathBuf};
use windlass_tests::{
    Binaries, Grid, GridOptions,
    bundles::{Signer, variant},
    until,
};

/// Hosts that take the torture plugin from the master, with watches over a file of this test.
struct World {
    dir: tempfile::TempDir,
    grid: Grid,
    signer: Signer,
    file: Watched,
}

/// A file that the torture plugin may read.
struct Watched(PathBuf);

impl Watched {
    fn new() -> Self {
        let dir = Path::new("/tmp/windlass-torture").join(format!("watches-{}", uuid()));
        std::fs::create_dir_all(&dir).unwrap();
        Watched(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("value")
    }

    /// As a whole, so that nobody reads half of it.
    fn set(&self, text: &str) {
        let new = self.0.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

/// The table of a watch.
fn watch(name: &str, operation: &str, args: &str) -> String {
    format!("[watches.{name}]\noperation = \"{operation}\"\nargs = {args}\nevery = \"1s\"\n\n")
}

impl World {
    fn start(masters: usize) -> Self {
        let (dir, signer, file) = (tempfile::tempdir().unwrap(), Signer::new(), Watched::new());
        let options = GridOptions {
            plugins: Vec::new(),
            masters,
            trust: Some(signer.trust()),
            host_tables: "\n[log]\nlevel = \"info,windlass_host::watches=debug\"\n".into(),
            ..GridOptions::default()
        };
        let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
        file.set("one");
        World { dir, grid, signer, file }
    }

    /// The watch `value` over the file.
    fn value_watch(&self) -> String {
        watch("value", "act.read-file", &format!("{{ path = {:?} }}", self.file.path()))
    }

    fn deploy(&self, version: &str, watches: &str) {
        self.deploy_with(version, watches, &[]);
    }

    fn deploy_with(&self, version: &str, watches: &str, changes: &[(&str, &str)]) {
        let with = format!("{watches}[operations]\n");
        let changes = [&[("[operations]\n", with.as_str())], changes].concat();
        let bundle = variant(self.grid.binaries(), "torture", version, &changes).unwrap();
        let package = self.signer.package(bundle, self.dir.path()).unwrap();
        self.grid.windlass(&["plugins", "push", package.to_str().unwrap()]).expect(0);
        let bundle = format!("torture@{version}");
        self.grid.windlass(&["plugins", "deploy", &bundle, "--approve", "--yes", "--soak", "0s"]).expect(0);
    }

    /// What the master knows of a watch.
    fn shown(&self, name: &str) -> Option<Value> {
        let output = self.grid.windlass(&["status", "n1", "-o", "json"]);
        if output.code != 0 {
            return None;
        }
        let status = output.json();
        status["watches"].as_array()?.iter().find(|watch| watch["watch"] == name).cloned()
    }

    fn shows(&self, what: &str, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        let start = std::time::Instant::now();
        until(what, || {
            last = self.shown(name);
            assert!(start.elapsed().as_secs() < 50, "not {what}: {last:?}");
            last.clone().filter(|watch| is(watch))
        })
    }

    fn shows_value(&self, value: &str) -> Value {
        self.shows(&format!("value {value}"), "value", |watch| {
            watch["state"] == "ok" && watch["outcome"]["value"] == value
        })
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let events = self.grid.windlass(&["events", "--kind", kind, "-o", "json"]).expect(0).json();
        events.as_array().cloned().unwrap()
    }

    /// How often watches have ended so, as the host's log tells.
    fn runs(&mut self, outcome: &str) -> usize {
        let log = self.grid.host("n1").log();
        let ran = |line: &&str| line.contains("a watch has run") && line.contains(outcome);
        log.lines().filter(ran).count()
    }

    /// Wait until `value` has run again, twice: so once from its begin.
    fn runs_again(&mut self, outcome: &str) {
        let before = self.runs(outcome);
        until("the watch runs", || (self.runs(outcome) >= before + 2).then_some(()));
    }
}

#[test]
fn what_a_node_finds_reaches_the_master_and_is_shown() {
    let world = World::start(1);
    world.deploy("0.1.0", &world.value_watch());
    let first = world.shows_value("one");
    assert_eq!(first["plugin_version"], "0.1.0");
    assert!(first["age_ms"].as_u64().unwrap() < 60_000, "{first}");
    world.file.set("two");
    let second = world.shows_value("two");
    assert!(second["changed_ms"].as_i64() > first["changed_ms"].as_i64(), "{first} {second}");

    let list = world.grid.windlass(&["status", "--all", "--watch", "torture.value"]).expect(0).stdout;
    assert!(list.contains("n1") && list.contains("torture.value") && list.contains("ok"), "{list}");
    let one = world.grid.windlass(&["status", "n1"]).expect(0).stdout;
    assert!(one.contains("torture.value") && one.contains("two"), "{one}");
    assert_eq!(world.grid.windlass(&["status", "--state", "failing", "-o", "json"]).expect(0).stdout, "[]\n");

    // It is no job.
    assert_eq!(world.grid.windlass(&["jobs", "list", "-o", "json"]).expect(0).json(), serde_json::json!([]));
}

#[test]
fn watches_run_while_the_master_is_away_and_their_changes_arrive() {
    let mut world = World::start(1);
    world.deploy("0.1.0", &world.value_watch());
    world.shows_value("one");
    world.grid.take_master().kill().unwrap();
    // It fails and succeeds again, which nobody sees.
    world.file.remove();
    world.runs_again("failed");
    world.file.set("two");
    world.runs_again("succeeded");
    world.grid.restart_master().unwrap();
    world.grid.wait_online("n1");
    world.shows_value("two");
    let (failed, recovered) = (world.events("watch.failing"), world.events("watch.recovered"));
    assert_eq!((failed.len(), recovered.len()), (1, 1), "{failed:?} {recovered:?}");
    assert!(failed[0]["seq"].as_i64() < recovered[0]["seq"].as_i64());
    assert!(failed[0]["data"]["age_ms"].as_u64() >= recovered[0]["data"]["age_ms"].as_u64());
    assert!(world.events("watch.dropped").is_empty());

    // A master that comes back and finds nothing new has still heard of it.
    world.grid.take_master().kill().unwrap();
    world.grid.restart_master().unwrap();
    world.grid.wait_online("n1");
    world.shows_value("two");
    assert_eq!(world.events("watch.*").len(), 2);

    // Without its node it is old, and says so.
    world.grid.take_host("n1").kill().unwrap();
    world.grid.wait_offline("n1");
    let stale = world.shown("value").unwrap();
    assert_eq!((&stale["state"], &stale["outcome"]["value"]), (&"stale".into(), &"two".into()));
    assert!(stale["problem"].as_str().unwrap().contains("offline"), "{stale}");
    // The node goes, and all that is known of it.
    world.grid.windlass(&["nodes", "delete", "n1", "--yes"]).expect(0);
    assert_eq!(world.grid.windlass(&["status", "-o", "json"]).expect(0).stdout, "[]\n");
}

#[test]
fn watches_that_fail_break_or_say_too_much_are_shown_with_their_reason() {
    let world = World::start(1);
    // A result of half a MiB is within the limits of the plugin, and more than a watch may have.
    let large = world.file.0.join("large");
    std::fs::write(&large, "x".repeat(512 << 10)).unwrap();
    let watches = [
        world.value_watch(),
        watch("fails", "echo.fail", "{ message = \"the pool is gone\" }"),
        watch("large", "act.read-file", &format!("{{ path = {large:?} }}")),
        watch("slow", "act.sleep", "{ seconds = 60 }"),
    ];
    let sooner = (
        "\"act.sleep\" = { effect = \"read\", timeout = \"2m\"",
        "\"act.sleep\" = { effect = \"read\", timeout = \"1s\"",
    );
    world.deploy_with("0.1.0", &watches.concat(), &[sooner]);

    let slow = world.shows("it takes too long", "slow", |watch| watch["state"] == "failing");
    assert_eq!(slow["kind"], "timed_out", "{slow}");
    let fails = world.shows("it fails", "fails", |watch| watch["state"] == "failing");
    assert_eq!(fails["kind"], "failed");
    assert!(fails["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{fails}");
    let large = world.shows("it says too much", "large", |watch| watch["state"] == "failing");
    assert_eq!((&large["kind"], &large["outcome"]["reason"]), (&"trapped".into(), &"output".into()));
    assert!(large["problem"].as_str().unwrap().contains("max_result"), "{large}");
    // The others go on.
    world.file.set("two");
    world.shows_value("two");
    let events = world.events("watch.failing");
    let of = |name: &str| events.iter().find(|event| event["subject"] == name).cloned();
    let event = of("torture.fails").expect("an event");
    assert_eq!((&event["node_name"], &event["data"]["outcome"]), (&"n1".into(), &"failed".into()));
    assert!(of("torture.large").is_some(), "{events:?}");
    let list = world.grid.windlass(&["status", "--state", "failing"]).expect(0).stdout;
    assert!(list.contains("torture.fails") && !list.contains("torture.value"), "{list}");
}

#[test]
fn a_new_version_brings_its_own_watches() {
    let world = World::start(1);
    let other = watch("other", "echo.unsigned", "{ value = 7 }");
    world.deploy("0.1.0", &(world.value_watch() + &other));
    world.shows_value("one");
    world.shows("the other runs", "other", |watch| watch["outcome"]["value"] == 7);
    let changed = watch("other", "echo.unsigned", "{ value = 8 }");
    world.deploy("0.2.0", &changed);
    let shown = world.shows("the other has changed", "other", |watch| watch["outcome"]["value"] == 8);
    assert_eq!(shown["plugin_version"], "0.2.0");
    until("the first is gone", || world.shown("value").is_none().then_some(()));
    world.deploy("0.3.0", "");
    until("no watch is left", || {
        (world.grid.windlass(&["status", "-o", "json"]).expect(0).stdout == "[]\n").then_some(())
    });
}
