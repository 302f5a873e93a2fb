//! Who may take part: enrolment, trust, revocation, copies.

use rustix::process::Signal;
use std::process::Command;
use windlass_tests::{Binaries, Daemon, Grid, GridOptions, until};

fn start(hosts: &[&str]) -> (tempfile::TempDir, Grid) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        GridOptions { hosts: hosts.iter().map(ToString::to_string).collect(), ..GridOptions::default() };
    let grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    (dir, grid)
}

#[test]
fn a_node_waits_until_it_is_accepted() {
    let (_dir, mut grid) = start(&["n1"]);
    grid.start_host("n2").unwrap();
    let node = until("n2 asks to join", || grid.node("n2"));
    assert_eq!(node["state"], "pending");
    let run = grid.windlass(&["run", "monitor.system.read", "--on", "n2"]);
    assert_ne!(run.code, 0, "a pending node runs nothing");
    // The host says what to do, with the fingerprint to compare.
    let fingerprint = node["fingerprint"].as_str().unwrap();
    until("the host prints its fingerprint", || grid.host("n2").log().contains(fingerprint).then_some(()));
    let other = grid.windlass(&["nodes", "show", "n1", "-o", "json"]).json()["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    let wrong = grid.windlass(&["nodes", "accept", "n2", "--fingerprint", &other]);
    assert_ne!(wrong.code, 0, "another fingerprint is refused");
    grid.accept("n2").unwrap();
    grid.wait_online("n2");

    let key = std::fs::metadata(grid.host_dir("n2").join("state/node.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
}

#[test]
fn a_rejected_node_stays_out_and_is_told() {
    let (_dir, mut grid) = start(&[]);
    grid.start_host("n1").unwrap();
    until("n1 asks to join", || grid.node("n1"));
    grid.windlass(&["nodes", "reject", "n1"]).expect(0);
    until("the host is told", || grid.host("n1").log().contains("rejected").then_some(()));
    assert_eq!(grid.node("n1").unwrap()["online"], false);
}

#[test]
fn a_join_token_accepts_one_node_once() {
    let (dir, mut grid) = start(&[]);
    let made = grid.windlass(&["nodes", "join-token", "--label", "rack=a", "-o", "json"]).expect(0).json();
    let token = made["token"].as_str().unwrap().to_owned();
    for name in ["n1", "n2"] {
        grid.prepare_host(name).unwrap();
        let config = grid.host_config(name);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("join_token = \"{token}\"\n{text}")).unwrap();
        grid.restart_host(name).unwrap();
        if name == "n1" {
            grid.wait_online("n1");
        }
    }
    assert_eq!(grid.node("n1").unwrap()["labels"]["rack"], "a");
    let second = until("n2 asks to join", || {
        let log = grid.host("n2").log();
        (log.contains("token") || grid.node("n2").is_some()).then(|| grid.node("n2"))
    });
    assert!(second.is_none_or(|node| node["state"] != "accepted"), "a used token accepts nobody");
    drop(dir);
}

#[test]
fn a_master_of_another_authority_is_not_believed() {
    let (_dir, mut grid) = start(&[]);
    grid.prepare_host("n1").unwrap();
    let config = grid.host_config("n1");
    let text = std::fs::read_to_string(&config).unwrap();
    let fingerprint = grid.fingerprint().to_owned();
    let other = format!("sha256:{}", "0".repeat(64));
    std::fs::write(&config, text.replace(&fingerprint, &other)).unwrap();
    grid.restart_host("n1").unwrap();
    until("the host says why it does not connect", || {
        let log = grid.host("n1").log().to_lowercase();
        (log.contains("fingerprint") && log.contains("authority")).then_some(())
    });
    assert!(grid.node("n1").is_none(), "it asked nothing of that master");

    let check = Command::new(grid.binaries().program("windlass-host"))
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    let said = String::from_utf8_lossy(&check.stdout).to_lowercase();
    assert!(said.contains("fingerprint") || said.contains("authority"), "{said}");

    let cli = grid
        .windlass_command()
        .env("WINDLASS_CA_FINGERPRINT", &other)
        .args(["nodes", "list"])
        .output()
        .unwrap();
    assert_eq!(cli.status.code(), Some(1));
}

#[test]
fn revoking_ends_the_session_at_once_and_for_good() {
    let (_dir, mut grid) = start(&["n1", "n2"]);
    grid.windlass(&["nodes", "revoke", "n1", "--yes"]).expect(0);
    grid.wait_offline("n1");
    until("the host is told", || grid.host("n1").log().contains("revoked").then_some(()));
    // Also not after a restart.
    let host = grid.take_host("n1");
    drop(host);
    grid.restart_host("n1").unwrap();
    until("it is told again", || (grid.host("n1").log().matches("revoked").count() > 1).then_some(()));
    assert_eq!(grid.node("n1").unwrap()["online"], false);
    grid.windlass(&["run", "monitor.system.read", "--on", "n2"]).expect(0);
}

#[test]
fn a_copied_key_does_not_work_beside_the_original() {
    let (dir, mut grid) = start(&["n1"]);
    let copy = dir.path().join("copy");
    let copied = Command::new("cp").arg("-a").arg(grid.host_dir("n1")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(grid.binaries().program("windlass-host"));
    command.arg("run").arg("--config").arg(copy.join("host.toml"));
    let log = dir.path().join("copy.log");
    let second = Daemon::spawn(command, &log).unwrap();
    until("the copy is refused with a reason", || second.log().contains("copied").then_some(()));
    let node = until("the node is flagged", || {
        grid.node("n1").filter(|node| node["flags"].to_string().contains("duplicate_identity"))
    });
    assert_eq!(node["online"], true, "the original goes on");
    grid.windlass(&["run", "monitor.system.read", "--on", "n1"]).expect(0);
    assert!(grid.host("n1").is_running());
}

#[test]
fn a_host_that_is_told_to_stop_says_goodbye() {
    let (_dir, mut grid) = start(&["n1"]);
    let host = grid.take_host("n1");
    host.signal(Signal::TERM).unwrap();
    assert_eq!(host.wait().unwrap().code(), Some(0));
    grid.wait_offline("n1");
}
