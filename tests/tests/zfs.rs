//! Operations on real pools, of zfs-fuse over files.
//!
//! One daemon serves the whole machine, so these tests run one after another (nextest's group `zfs`).

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use windlass_tests::{Binaries, Daemon, Grid, GridOptions, until};

/// The daemon of zfs-fuse, unless one runs already.
struct Zfs {
    _daemon: Option<Daemon>,
}

impl Zfs {
    fn start(dir: &Path) -> Self {
        if zpool_answers() {
            return Zfs { _daemon: None };
        }
        let mut command = Command::new("zfs-fuse");
        command.args(["--no-daemon", "--no-kstat-mount", "--pidfile"]).arg(dir.join("zfs-fuse.pid"));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let daemon = Daemon::spawn(command, &dir.join("zfs-fuse.log"))
            .expect("zfs-fuse is missing: `cargo xtask test` installs it (as root, on Debian)");
        until("zfs-fuse answers", || zpool_answers().then_some(()));
        Zfs { _daemon: Some(daemon) }
    }
}

fn zpool_answers() -> bool {
    Command::new("/sbin/zpool").arg("list").output().is_ok_and(|output| output.status.success())
}

fn zpool(args: &[&str]) {
    tool("/sbin/zpool", args);
}

fn zfs(args: &[&str]) {
    tool("/sbin/zfs", args);
}

fn tool(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A mirror of two files. Destroyed on drop.
struct Pool {
    name: String,
    disks: [PathBuf; 2],
}

impl Pool {
    fn mirror(dir: &Path) -> Self {
        let disks = ["disk1", "disk2"].map(|name| dir.join(name));
        for disk in &disks {
            std::fs::File::create(disk).unwrap().set_len(128 << 20).unwrap();
        }
        let name = format!("windlass{}", std::process::id());
        let [a, b] = [0, 1].map(|index: usize| disks[index].to_str().unwrap());
        let mount_point = dir.join("mnt");
        zpool(&["create", "-f", "-m", mount_point.to_str().unwrap(), &name, "mirror", a, b]);
        Pool { name, disks }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = Command::new("/sbin/zpool").args(["destroy", "-f", &self.name]).status();
    }
}

fn start(dir: &Path) -> Grid {
    let options = GridOptions { plugins: vec!["zfs".into()], ..GridOptions::default() };
    Grid::start(Binaries::find().unwrap(), dir, options).unwrap()
}

/// The value that one operation on `n1` returned.
fn value(grid: &Grid, operation: &str, arguments: &[&str]) -> Value {
    let args = [&["run", operation, "--on", "n1", "--yes", "-o", "json"], arguments].concat();
    let run = grid.windlass(&args).expect(0).json();
    assert_eq!(run["results"][0]["outcome"]["status"], "succeeded", "{run}");
    run["results"][0]["outcome"]["value"].clone()
}

#[test]
fn a_pool_is_shown_with_its_disks_and_their_state() {
    let dir = tempfile::tempdir().unwrap();
    let _zfs = Zfs::start(dir.path());
    let pool = Pool::mirror(dir.path());
    let grid = start(dir.path());
    let argument = format!("pool={}", pool.name);

    let listed = value(&grid, "zfs.pool.list", &[]);
    let row = listed.as_array().unwrap().iter().find(|row| row["name"] == pool.name.as_str());
    let row = row.unwrap_or_else(|| panic!("no {} in {listed}", pool.name));
    assert_eq!(row["state"], "online");
    assert!(row["size_bytes"].as_u64().unwrap() > 100 << 20, "{row}");

    let datasets = value(&grid, "zfs.dataset.list", &[]);
    assert!(datasets.as_array().unwrap().iter().any(|row| row["name"] == pool.name.as_str()), "{datasets}");

    let status = value(&grid, "zfs.pool.status", &[&argument]);
    let vdevs = vdevs(&status, &pool);
    let find = |vdevs: &[Value], disk: &Path| {
        vdevs
            .iter()
            .find(|vdev| vdev["name"] == disk.to_str().unwrap())
            .cloned()
            .unwrap_or_else(|| panic!("{vdevs:#?}"))
    };
    assert!(vdevs.iter().any(|vdev| vdev["kind"] == "mirror"), "{vdevs:#?}");
    for disk in &pool.disks {
        let vdev = find(&vdevs, disk);
        assert_eq!(vdev["state"], "online");
        assert_eq!(vdev["errors"]["checksum_errors"], json!(0));
    }

    zpool(&["offline", &pool.name, pool.disks[1].to_str().unwrap()]);
    let status = value(&grid, "zfs.pool.status", &[&argument]);
    let degraded = self::vdevs(&status, &pool);
    assert_eq!(degraded[0]["state"], "degraded", "{degraded:#?}");
    assert_eq!(find(&degraded, &pool.disks[1])["state"], "offline");
    assert_eq!(find(&degraded, &pool.disks[0])["state"], "online");

    // What was run, with its arguments and how it ended, is kept.
    let jobs = grid.windlass(&["jobs", "list", "-o", "json"]).expect(0).json();
    let job = jobs[0]["id"].as_str().unwrap();
    let trace = grid.windlass(&["jobs", "trace", job, "n1"]).expect(0).stdout;
    for part in ["zpool", "status", &pool.name, "commands.run"] {
        assert!(trace.contains(part), "no `{part}` in:\n{trace}");
    }

    // Reading is what a dry run does as well.
    let dry =
        grid.windlass(&["run", "zfs.pool.list", "--on", "n1", "--dry-run", "-o", "json"]).expect(0).stdout;
    assert!(dry.contains(&pool.name), "{dry}");
}

/// The vdevs of one pool in the value of `zfs.pool.status`, the pool itself first.
fn vdevs(status: &Value, pool: &Pool) -> Vec<Value> {
    let pools = status.as_array().cloned().unwrap_or_else(|| vec![status.clone()]);
    let found = pools.iter().find(|row| row["name"] == pool.name.as_str());
    found.unwrap_or_else(|| panic!("no {} in {status}", pool.name))["vdevs"].as_array().unwrap().clone()
}

#[test]
fn a_pool_that_is_not_there_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let _zfs = Zfs::start(dir.path());
    let grid = start(dir.path());
    let run = grid
        .windlass(&["run", "zfs.pool.status", "pool=nosuch", "--on", "n1", "-o", "json"])
        .expect(3)
        .json();
    let outcome = &run["results"][0]["outcome"];
    assert_eq!(outcome["status"], "failed", "{outcome}");
    assert_eq!(outcome["error"], json!({ "no_such_pool": "nosuch" }));
    // What looks like an option never reaches the tool.
    let run =
        grid.windlass(&["run", "zfs.pool.status", "pool=-v", "--on", "n1", "-o", "json"]).expect(3).json();
    assert_eq!(run["results"][0]["outcome"]["error"], json!({ "invalid_name": "-v" }));
}

/// What `operation` ended with on `n1`, which is an error.
fn error(grid: &Grid, operation: &str, arguments: &[&str]) -> Value {
    let args = [&["run", operation, "--on", "n1", "--yes", "-o", "json"], arguments].concat();
    let run = grid.windlass(&args).expect(3).json();
    run["results"][0]["outcome"]["error"].clone()
}

#[test]
fn a_run_removes_the_filesystem_it_made_once_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let _zfs = Zfs::start(dir.path());
    let pool = Pool::mirror(dir.path());
    let grid = start(dir.path());
    let dataset = format!("{}/data", pool.name);
    let name = format!("name={dataset}");
    let create = |run| ["storage=compressed", "quota_bytes=33554432", run].map(str::to_owned);
    let made = |run| create(run).into_iter().chain([name.clone()]).collect::<Vec<_>>();
    let listed = || {
        let all = value(&grid, "zfs.dataset.list", &[]);
        all.as_array().unwrap().iter().find(|row| row["name"] == dataset.as_str()).cloned()
    };
    fn strs(arguments: &[String]) -> Vec<&str> {
        arguments.iter().map(String::as_str).collect()
    }

    value(&grid, "zfs.dataset.create", &strs(&made("run=r1")));
    let row = listed().expect("the dataset that was made");
    assert_eq!((&row["quota_bytes"], &row["compression"]), (&json!(33_554_432), &json!("on")), "{row}");
    assert_eq!(row["mounted"], json!(true));
    value(&grid, "zfs.dataset.create", &strs(&made("run=r1")));
    let taken = error(&grid, "zfs.dataset.create", &strs(&made("run=r2")));
    assert_eq!(taken, json!({ "already_exists": dataset }));

    let other = error(&grid, "zfs.dataset.remove", &[&name, "run=r2"]);
    assert_eq!(other, json!({ "not_owned": dataset }));
    // A child inherits the run id, which does not make it the run's own.
    let child = format!("{dataset}/child");
    zfs(&["create", &child]);
    let inherited = error(&grid, "zfs.dataset.remove", &[&format!("name={child}"), "run=r1"]);
    assert_eq!(inherited, json!({ "not_owned": child }));
    let parent = error(&grid, "zfs.dataset.remove", &[&name, "run=r1"]);
    assert_eq!(parent, json!({ "not_empty": child }));
    // It was mounted a moment ago, and zfs-fuse lets go of it a little later.
    until("the child can be destroyed", || {
        let destroyed = Command::new("/sbin/zfs").args(["destroy", &child]).output().unwrap();
        destroyed.status.success().then_some(())
    });

    let brick = dir.path().join("mnt/data/brick");
    std::fs::create_dir_all(brick.join(".glusterfs/00")).unwrap();
    std::fs::write(brick.join("file"), "data").unwrap();
    let held = error(&grid, "zfs.dataset.remove", &[&name, "run=r1"]);
    assert_eq!(held, json!({ "not_empty": format!("{dataset}: brick/file") }));
    // What is not mounted could hold anything.
    zfs(&["unmount", &dataset]);
    let held = error(&grid, "zfs.dataset.remove", &[&name, "run=r1"]);
    assert_eq!(held, json!({ "not_empty": format!("{dataset}: brick/file") }));

    std::fs::remove_file(brick.join("file")).unwrap();
    value(&grid, "zfs.dataset.remove", &[&name, "run=r1"]);
    assert_eq!(listed(), None);
    value(&grid, "zfs.dataset.remove", &[&name, "run=r1"]);
    let gone = error(&grid, "zfs.dataset.remove", &["name=nosuchpool/data", "run=r1"]);
    assert_eq!(gone, json!({ "no_such_dataset": "nosuchpool" }));
}
