//! The lab: real machines that fail as machines do, and of which nothing is left.
//!
//! They run as root, with the programs that `cargo xtask test` installs; without them they fail.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use windlass_tests::{
    Binaries, Lab, LabOptions,
    lab::{cgroups, sweep},
    until,
};

fn up(options: LabOptions) -> Lab {
    Lab::up(&Binaries::find().unwrap(), &options).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Only nodes: no master, no agents.
fn bare(nodes: u8, client: bool) -> Lab {
    up(LabOptions { nodes, client, windlass: false, ..LabOptions::default() })
}

fn property(lab: &Lab, node: &str, unit: &str, name: &str) -> String {
    let show = ["systemctl", "show", "--value", "--property", name, unit];
    lab.succeed(node, &show).trim().to_owned()
}

/// Have the watchdog of a unit bite soon.
fn watch_closely(lab: &Lab, node: &str, unit: &str) {
    let drop_in = format!(
        "mkdir -p /etc/systemd/system/{unit}.service.d && \
         printf '[Service]\\nWatchdogSec=5\\nRestartSec=100ms\\n' > /etc/systemd/system/{unit}.service.d/test.conf && \
         systemctl daemon-reload && systemctl restart {unit}"
    );
    lab.succeed(node, &["sh", "-c", &drop_in]);
}

/// Freeze the main process of a unit. The watchdog must find that out, and start it again.
fn freeze(lab: &Lab, node: &str, unit: &str) {
    assert_eq!(property(lab, node, unit, "NRestarts"), "0");
    let before = property(lab, node, unit, "MainPID");
    lab.succeed(node, &["kill", "-STOP", &before]);
    until(&format!("{unit} was started again"), || {
        let now = property(lab, node, unit, "MainPID");
        let active = property(lab, node, unit, "ActiveState") == "active";
        (active && now != before && now != "0").then_some(())
    });
    assert_eq!(property(lab, node, unit, "NRestarts"), "1");
}

fn mirror(lab: &Lab, node: &str) {
    let create =
        ["zpool", "create", "-o", "failmode=continue", "tank", "mirror", "/disks/disk1", "/disks/disk2"];
    lab.succeed(node, &create);
}

/// What each node answered to an operation, by its name; all must have succeeded.
fn answers(lab: &Lab, operation: &str) -> Vec<(String, Value)> {
    let run = lab.windlass(&["run", operation, "--on", "n*", "-o", "json"]).expect(0).json();
    let results = run["results"].as_array().unwrap().iter();
    results
        .map(|result| (result["name"].as_str().unwrap().to_owned(), result["outcome"]["value"].clone()))
        .collect()
}

#[test]
fn agents_of_real_nodes_do_their_work_and_outlive_faults() {
    let lab = up(LabOptions::default());
    for node in lab.nodes() {
        let name = node.name.as_str();
        assert_eq!(lab.succeed(name, &["systemctl", "is-system-running"]).trim(), "running", "{name}");
        assert_eq!(lab.succeed(name, &["hostname"]).trim(), name);
    }
    for node in lab.storage() {
        let name = node.name.as_str();
        assert_eq!(property(&lab, name, "windlass-host", "Type"), "notify");
        assert_eq!(property(&lab, name, "windlass-host", "ActiveState"), "active");
        assert_eq!(property(&lab, name, "windlass-host", "UnitFileState"), "enabled");
        // What an operation mounts must be seen by everybody, so the agent has no mounts of its own.
        let pid = property(&lab, name, "windlass-host", "MainPID");
        // Told to load its plugins again, it is the same process afterwards.
        lab.succeed(name, &["systemctl", "reload", "windlass-host"]);
        assert_eq!(property(&lab, name, "windlass-host", "MainPID"), pid);
        let mounts = |pid: &str| lab.succeed(name, &["readlink", &format!("/proc/{pid}/ns/mnt")]);
        assert_eq!(mounts(&pid), mounts("1"));
        mirror(&lab, name);
    }
    let pools = answers(&lab, "zfs.pool.list");
    assert_eq!(pools.len(), 3, "{pools:#?}");
    for (node, pools) in &pools {
        assert_eq!(pools[0]["name"], "tank", "{node}: {pools}");
        assert_eq!(pools[0]["state"], "online", "{node}: {pools}");
    }

    // Both daemons are watched, and are not found dead while they live: see the end.
    watch_closely(&lab, "n1", "windlass-host");
    watch_closely(&lab, "master", "windlass-master");
    freeze(&lab, "n1", "windlass-host");
    freeze(&lab, "master", "windlass-master");
    for name in ["n1", "n2", "n3"] {
        lab.wait_online(name);
    }

    // A cable that is pulled: nothing arrives, and it is as before once it is back.
    let id = lab.registered("n2").unwrap()["id"].clone();
    lab.cut("n2").unwrap();
    lab.wait_offline("n2");
    assert_eq!(lab.registered("n1").unwrap()["online"], true);
    let ping = ["ping", "-c", "1", "-W", "1", "n1"];
    assert_ne!(lab.run("n2", &ping).code, 0);
    lab.heal("n2").unwrap();
    assert_eq!(lab.wait_online("n2")["id"], id);
    assert_eq!(lab.run("n2", &ping).code, 0);

    // A loss of power: nothing is running, the disks are the same afterwards.
    let guid = |pools: Vec<(String, Value)>| {
        pools.into_iter().find(|(node, _)| node == "n3").unwrap().1[0]["guid"].clone()
    };
    let before = guid(answers(&lab, "zfs.pool.list"));
    lab.succeed("n3", &["dd", "if=/dev/zero", "of=/tank/kept", "bs=1M", "count=3", "conv=fsync"]);
    let [boot, machine] = ["/proc/sys/kernel/random/boot_id", "/etc/machine-id"];
    let was = [boot, machine].map(|file| lab.succeed("n3", &["cat", file]));
    lab.crash("n3").unwrap();
    let n3 = lab.node("n3").unwrap();
    assert!(!lab.is_on(n3));
    assert_eq!(cgroups::processes(&cgroups::of(lab.id(), Some("n3")).unwrap()), []);
    assert!(lab.command("n3").unwrap_err().to_string().contains("n3 is off"));
    lab.wait_offline("n3");
    lab.boot("n3").unwrap();
    assert!(lab.boot("n3").unwrap_err().to_string().contains("n3 is on"));
    lab.wait_online("n3");
    assert_ne!(lab.succeed("n3", &["cat", boot]), was[0]);
    assert_eq!(lab.succeed("n3", &["cat", machine]), was[1]);
    assert_eq!(guid(answers(&lab, "zfs.pool.list")), before);
    assert_eq!(lab.succeed("n3", &["stat", "--format=%s", "/tank/kept"]).trim(), "3145728");

    for (node, unit) in [("n1", "windlass-host"), ("master", "windlass-master")] {
        assert_eq!(property(&lab, node, unit, "NRestarts"), "1", "{unit} was taken for dead");
    }
    lab.down().unwrap();
}

#[test]
fn a_volume_on_two_nodes_is_written_from_a_third() {
    let lab = bare(2, true);
    for node in ["n1", "n2"] {
        mirror(&lab, node);
        lab.succeed(node, &["sh", "-c", "zfs create tank/media && mkdir /tank/media/brick"]);
    }
    lab.succeed("n1", &["gluster", "--mode=script", "peer", "probe", "n2"]);
    until("the peers know each other", || {
        let peers = lab.succeed("n2", &["gluster", "pool", "list", "--xml"]);
        (peers.matches("<connected>1</connected>").count() == 2
            && peers.matches("<hostname>localhost</hostname>").count() == 1)
            .then_some(())
    });
    let create = ["gluster", "--mode=script", "volume", "create", "media", "replica", "2"];
    // Two replicas may part for good, which gluster asks about: `force` says that it is known.
    let bricks = ["n1:/tank/media/brick", "n2:/tank/media/brick", "force"];
    // Right after the probe the other side may still refuse for a moment.
    until("the volume is made", || {
        let made = lab.run("n1", &[&create[..], &bricks].concat());
        (made.code == 0).then_some(())
    });
    lab.succeed("n1", &["gluster", "volume", "start", "media"]);
    lab.succeed("client", &["sh", "-c", "mkdir /mnt/media && mount -t glusterfs n1:/media /mnt/media"]);
    lab.succeed("client", &["sh", "-c", "echo one > /mnt/media/file && sync /mnt/media/file"]);
    for node in ["n1", "n2"] {
        assert_eq!(lab.succeed(node, &["cat", "/tank/media/brick/file"]), "one\n");
    }
    // The node that was named to mount is gone: the other one serves.
    lab.crash("n1").unwrap();
    assert_eq!(lab.succeed("client", &["cat", "/mnt/media/file"]), "one\n");
    // With a mount in it that has lost a server.
    lab.down().unwrap();
}

/// Everything on this machine that carries the id of a lab.
fn remains(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |dir: &str| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.path().display().to_string());
        found.extend(names.filter(|path| path.contains(id)));
    };
    for dir in
        ["/var/lib/windlass-lab", "/run/netns", "/run/systemd/nspawn/propagate", "/run/systemd/machines"]
    {
        look(dir);
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(id)).map(|line| format!("mount {line}")));
    let groups = cgroups::of(id, None).unwrap();
    found.extend(groups.iter().filter(|group| group.exists()).map(|group| group.display().to_string()));
    found.extend(processes_about(id).iter().map(|(pid, line)| format!("process {pid:?} {line}")));
    found
}

/// Processes with the id in their command line or their control group.
fn processes_about(id: &str) -> Vec<(Pid, String)> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        let group = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        // One without has ended, and waits for whoever started it.
        (!line.is_empty() && (line.contains(id) || group.contains(id))).then_some((pid, line))
    })
    .collect()
}

fn nspawn_locks() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/run/systemd/nspawn/locks").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// A lab of another process, which this one can kill.
struct Other {
    process: Child,
    id: String,
}

impl Other {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "a_lab_of_another_process", "--ignored", "--nocapture"]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let id = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("lab ").map(str::to_owned));
        Other { process, id: id.expect("the other process tells its lab") }
    }

    /// The process that watches over it.
    fn keeper(&self) -> Pid {
        let all = processes_about(&self.id);
        all.iter().find(|(_, line)| line.contains("lab-keeper")).unwrap_or_else(|| panic!("{all:#?}")).0
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "it is the other process of the test below"]
fn a_lab_of_another_process() {
    let lab = bare(1, false);
    println!("\nlab {}", lab.id());
    // Until somebody ends this process.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn nothing_is_left_however_a_lab_ends() {
    let locks = nspawn_locks();
    let lab = bare(1, false);
    let id = lab.id().to_owned();
    // The check below finds what there is to find.
    let there = remains(&id);
    for what in ["/var/lib/windlass-lab/", "/run/netns/", "mount ", "process ", "cgroup/"] {
        assert!(there.iter().any(|line| line.contains(what)), "no {what} in {there:#?}");
    }

    // Another one beside it, with the same names and addresses; its owner is killed.
    let mut other = Other::start();
    lab.succeed("n1", &["touch", "/disks/mine"]);
    let theirs = Lab::open(&other.id).unwrap();
    assert_ne!(theirs.run("n1", &["test", "-e", "/disks/mine"]).code, 0);
    assert_eq!(lab.node("n1").unwrap().address, theirs.node("n1").unwrap().address);
    drop(theirs);
    other.kill();
    until("the keeper took the lab of the killed process down", || {
        remains(&other.id).is_empty().then_some(())
    });

    // Now both, owner and keeper: the next one sweeps it up, and leaves what is in use.
    let mut other = Other::start();
    kill_process(other.keeper(), Signal::KILL).unwrap();
    other.kill();
    assert!(Path::new("/var/lib/windlass-lab").join(&other.id).exists());
    sweep::stale().unwrap();
    assert_eq!(remains(&other.id), Vec::<String>::new());
    assert_eq!(lab.succeed("n1", &["systemctl", "is-system-running"]).trim(), "running");

    // A lab that has lost its folder is found by what else carries its id.
    let mut other = Other::start();
    kill_process(other.keeper(), Signal::KILL).unwrap();
    other.kill();
    let dir = Path::new("/var/lib/windlass-lab").join(&other.id);
    std::fs::rename(&dir, dir.with_extension("lost")).unwrap();
    sweep::stale().unwrap();
    std::fs::rename(dir.with_extension("lost"), &dir).unwrap();
    sweep::down(&other.id).unwrap();
    assert_eq!(remains(&other.id), Vec::<String>::new());

    // In order; and with somebody still working on a node.
    let mut working = lab.command("n1").unwrap().args(["sleep", "1000"]).spawn().unwrap();
    lab.down().unwrap();
    assert!(!working.wait().unwrap().success());
    assert_eq!(remains(&id), Vec::<String>::new());
    assert_eq!(nspawn_locks(), locks);
}
