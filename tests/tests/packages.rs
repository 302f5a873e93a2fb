//! The Debian packages: installed, upgraded, removed and purged on real nodes.
//!
//! How they work in everyday life is shown by every test of the lab: its nodes run nothing else.

use std::{collections::BTreeSet, path::Path, process::Command};
use windlass_tests::{
    Binaries, Lab, LabOptions,
    lab::windlass::{VERSION, package, packages},
    until,
};

const NEWER: &str = "0.1.0~lab2";

/// All that a package could have left somewhere.
fn files_of_windlass(lab: &Lab, node: &str) -> BTreeSet<String> {
    let find = "find / -xdev -name '*windlass*' -not -path '/packages*' -not -path '/proc/*' -not -path '/var/log/*'";
    lab.succeed(node, &["sh", "-c", find]).lines().map(str::to_owned).collect()
}

fn property(lab: &Lab, node: &str, unit: &str, name: &str) -> String {
    lab.succeed(node, &["systemctl", "show", "--value", "--property", name, unit]).trim().to_owned()
}

fn install(lab: &Lab, node: &str, name: &str, version: &str) -> String {
    lab.succeed(node, &["dpkg", "--install", &package(lab, name, version).unwrap()])
}

fn version(lab: &Lab, node: &str, name: &str) -> String {
    lab.succeed(node, &["dpkg-query", "--show", "--showformat=${Version}", name])
}

#[test]
fn packages_are_the_same_each_time_and_complete() {
    let binaries = Binaries::find().unwrap();
    let [one, other] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let made = packages(&binaries, VERSION, one.path()).unwrap();
    let again = packages(&binaries, VERSION, other.path()).unwrap();
    for (package, again) in made.iter().zip(&again) {
        assert!(std::fs::read(package).unwrap() == std::fs::read(again).unwrap(), "{}", package.display());
    }
    let list = |package: &Path| {
        let output = Command::new("dpkg-deb").arg("--contents").arg(package).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (package, files) in made.iter().zip([
        &[
            "-rwxr-xr-x root/root ./usr/bin/windlass-host",
            "-rwxr-xr-x root/root ./usr/bin/windlass-compile",
            "drwxr-xr-x root/root ./etc/windlass/",
            "-rw-r--r-- root/root ./lib/systemd/system/windlass-host.service",
            "-rw-r--r-- root/root ./usr/share/doc/windlass-host/examples/host.toml",
            "-rw-r--r-- root/root ./usr/share/man/man1/windlass-host.1.gz",
        ][..],
        &[
            "-rwxr-xr-x root/root ./usr/bin/windlass-master",
            "-rwxr-xr-x root/root ./usr/lib/windlass-master/windlass-compile",
            "-rw-r----- root/root ./etc/windlass/master.env",
            "-rw-r--r-- root/root ./lib/systemd/system/windlass-master.service",
            "-rw-r--r-- root/root ./usr/share/man/man1/windlass-master.1.gz",
        ],
        &[
            "-rwxr-xr-x root/root ./usr/bin/windlass",
            "-rw-r--r-- root/root ./usr/share/bash-completion/completions/windlass",
            "-rw-r--r-- root/root ./usr/share/man/man1/windlass-nodes-list.1.gz",
        ],
    ]) {
        // Mode, owner, size, date, time, name: without what differs.
        let list: Vec<String> = list(package)
            .lines()
            .map(|line| {
                let parts: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {}", parts[0], parts[1], parts[5])
            })
            .collect();
        for file in files {
            assert!(list.iter().any(|line| line == file), "no {file} in {list:#?}");
        }
    }
}

#[test]
fn packages_come_and_go() {
    let binaries = Binaries::find().unwrap();
    let options = LabOptions { nodes: 1, plugins: vec!["kit".into()], ..LabOptions::default() };
    let lab = Lab::up(&binaries, &options).unwrap_or_else(|error| panic!("{error:#}"));
    makes_plans(&lab);
    packages(&binaries, NEWER, &lab.dir().join("packages")).unwrap();
    on_a_node_that_is_in_no_grid(&lab);
    upgrades(&lab);
    removal_of_an_agent(&lab);
    removal_of_a_master(&lab);
    lab.down().unwrap();
}

/// Neither daemon starts before it is configured, and that is no failure.
fn on_a_node_that_is_in_no_grid(lab: &Lab) {
    let before = files_of_windlass(lab, "client");
    for (name, hint) in
        [("windlass-host", "/etc/windlass/host.toml"), ("windlass-master", "windlass-master init")]
    {
        let said = install(lab, "client", name, VERSION);
        assert!(said.contains(hint), "{said}");
        assert_eq!(property(lab, "client", name, "UnitFileState"), "enabled");
        assert_eq!(property(lab, "client", name, "ActiveState"), "inactive");
    }
    assert_eq!(lab.succeed("client", &["systemctl", "is-system-running"]).trim(), "running");
    let owner = lab.succeed("client", &["stat", "--format=%U:%G %a", "/var/lib/windlass-master"]);
    assert_eq!(owner.trim(), "windlass-master:windlass-master 700");

    // What an administrator has decided holds at an upgrade: masked, and a changed file.
    lab.succeed("client", &["systemctl", "disable", "--quiet", "windlass-host"]);
    lab.succeed("client", &["sh", "-c", "echo WINDLASS_LOG=debug > /etc/windlass/master.env"]);
    for name in ["windlass-host", "windlass-master"] {
        install(lab, "client", name, NEWER);
    }
    assert_eq!(property(lab, "client", "windlass-host", "UnitFileState"), "disabled");
    assert_eq!(lab.succeed("client", &["cat", "/etc/windlass/master.env"]), "WINDLASS_LOG=debug\n");

    lab.succeed("client", &["dpkg", "--purge", "windlass-host", "windlass-master"]);
    assert_eq!(files_of_windlass(lab, "client"), before);
    assert_eq!(lab.succeed("client", &["systemctl", "is-system-running"]).trim(), "running");
}

/// The unit of the master takes much away, and leaves what compiling and running a plugin needs.
fn makes_plans(lab: &Lab) {
    let made = lab.windlass(&["plan", "make", "kit.grid.count", "key=x"]);
    assert_eq!(
        made.code,
        0,
        "{made:?}\n{}",
        lab.run("master", &["journalctl", "-u", "windlass-master", "-n", "50"]).stdout
    );
}

/// What runs is restarted with the new programs and is who it was; what was stopped stays so.
fn upgrades(lab: &Lab) {
    let id = lab.registered("n1").unwrap()["id"].clone();
    for (node, name) in [("master", "windlass-master"), ("n1", "windlass-host")] {
        assert_eq!(version(lab, node, name), VERSION);
        let before = property(lab, node, name, "MainPID");
        install(lab, node, name, NEWER);
        assert_eq!(version(lab, node, name), NEWER);
        assert_eq!(property(lab, node, name, "ActiveState"), "active");
        assert_ne!(property(lab, node, name, "MainPID"), before, "{name} runs on as it was");
    }
    assert_eq!(lab.wait_online("n1")["id"], id);
    lab.succeed("n1", &["systemctl", "stop", "windlass-host"]);
    install(lab, "n1", "windlass-host", NEWER);
    assert_eq!(property(lab, "n1", "windlass-host", "ActiveState"), "inactive");
    lab.succeed("n1", &["systemctl", "start", "windlass-host"]);
    assert_eq!(lab.wait_online("n1")["id"], id);
}

fn removal_of_an_agent(lab: &Lab) {
    let id = lab.registered("n1").unwrap()["id"].clone();
    lab.succeed("n1", &["dpkg", "--remove", "windlass-host"]);
    lab.wait_offline("n1");
    assert_eq!(property(lab, "n1", "windlass-host", "ActiveState"), "inactive");
    lab.succeed("n1", &["test", "-d", "/var/lib/windlass-host"]);
    install(lab, "n1", "windlass-host", NEWER);
    assert_eq!(lab.wait_online("n1")["id"], id, "what was removed and comes back is the same node");

    lab.succeed("n1", &["dpkg", "--purge", "windlass-host"]);
    assert_ne!(lab.run("n1", &["test", "-e", "/var/lib/windlass-host"]).code, 0);
    assert_ne!(lab.run("n1", &["pgrep", "windlass"]).code, 0);
    // What an administrator wrote is the administrator's.
    lab.succeed("n1", &["test", "-f", "/etc/windlass/host.toml"]);
    lab.wait_offline("n1");
}

fn removal_of_a_master(lab: &Lab) {
    let said = lab.succeed("master", &["dpkg", "--purge", "windlass-master"]);
    assert!(said.contains("has the authority of a grid, and stays"), "{said}");
    assert_eq!(lab.windlass(&["nodes", "list"]).code, 1);
    // Nothing was lost: the grid goes on.
    install(lab, "master", "windlass-master", NEWER);
    until("the master answers", || (lab.windlass(&["nodes", "list"]).code == 0).then_some(()));
    lab.succeed("master", &["dpkg", "--purge", "windlass-master"]);
    lab.succeed("master", &["rm", "-r", "/var/lib/windlass-master/ca"]);
    install(lab, "master", "windlass-master", NEWER);
    lab.succeed("master", &["dpkg", "--purge", "windlass-master"]);
    assert_ne!(lab.run("master", &["test", "-e", "/var/lib/windlass-master"]).code, 0);
}
