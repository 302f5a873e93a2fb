//! A host behind a real network, in a namespace of its own, that stops carrying packets.
//!
//! Nothing is refused and no connection ends: each side sends to an address of the link layer that nobody
//! has, which is what a broken switch looks like. Takes root, and `ip` (iproute2).

use std::{
    process::Command,
    time::{Duration, Instant},
};
use windlass_tests::{Binaries, Daemon, Grid, GridOptions, until};

const HEARTBEAT: Duration = Duration::from_millis(500);

/// A namespace with a cable to this one. Removed on drop.
struct Network {
    /// Names of the namespace, of the cable's end here, and of its end there.
    space: String,
    here: String,
    there: String,
    /// Addresses here and there.
    master: String,
    host: String,
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().expect("`ip` is installed");
    assert!(output.status.success(), "`ip {args}`: {}", String::from_utf8_lossy(&output.stderr));
}

impl Network {
    fn new() -> Self {
        // Names of devices have 15 characters at most.
        let number = std::process::id();
        let net = format!("10.213.{}", number % 250);
        let network = Network {
            space: format!("windlass-{number}"),
            here: format!("wlm{number}"),
            there: format!("wlh{number}"),
            master: format!("{net}.1"),
            host: format!("{net}.2"),
        };
        let Network { space, here, there, master, host } = &network;
        ip(&format!("netns add {space}"));
        ip(&format!("link add {here} type veth peer name {there} netns {space}"));
        ip(&format!("addr add {master}/30 dev {here}"));
        ip(&format!("link set {here} up"));
        ip(&format!("-n {space} addr add {host}/30 dev {there}"));
        ip(&format!("-n {space} link set {there} up"));
        ip(&format!("-n {space} link set lo up"));
        network
    }

    fn cut(&self) {
        let Network { space, here, there, master, host } = self;
        ip(&format!("neigh replace {host} lladdr 02:00:00:00:00:01 dev {here} nud permanent"));
        ip(&format!("-n {space} neigh replace {master} lladdr 02:00:00:00:00:02 dev {there} nud permanent"));
    }

    fn mend(&self) {
        let Network { space, here, there, master, host } = self;
        ip(&format!("neigh del {host} dev {here}"));
        ip(&format!("-n {space} neigh del {master} dev {there}"));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Takes the cable along.
        let _ = Command::new("ip").args(["netns", "del", &self.space]).status();
        let _ = Command::new("ip").args(["link", "del", &self.here]).output();
    }
}

#[test]
fn a_cut_network_is_seen_within_three_heartbeats_on_both_sides() {
    let (dir, network) = (tempfile::tempdir().unwrap(), Network::new());
    let options = GridOptions {
        hosts: Vec::new(),
        plugins: vec!["monitor".into()],
        heartbeat_ms: u32::try_from(HEARTBEAT.as_millis()).unwrap(),
        ..GridOptions::default()
    };
    let mut grid = Grid::start_master(Binaries::find().unwrap(), dir.path(), options).unwrap();
    assert!(grid.take_master().terminate().unwrap().success());
    let path = dir.path().join("master.toml");
    let [_, node, enroll] = grid.ports();
    let mut text = std::fs::read_to_string(&path).unwrap();
    for port in [node, enroll] {
        text = text.replace(&format!("127.0.0.1:{port}"), &format!("0.0.0.0:{port}"));
    }
    text = text.replacen("server_names = [", &format!("server_names = [\"{}\", ", network.master), 1);
    std::fs::write(&path, text).unwrap();
    grid.restart_master().unwrap();

    grid.prepare_host("n1").unwrap();
    let config = grid.host_config("n1");
    let text = std::fs::read_to_string(&config).unwrap().replace("127.0.0.1", &network.master);
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &network.space]);
    command.arg(grid.binaries().program("windlass-host")).arg("run").arg("--config").arg(&config);
    let host = Daemon::spawn(command, &grid.host_dir("n1").join("host.log")).unwrap();
    grid.accept("n1").unwrap();
    grid.wait_online("n1");
    assert_eq!(grid.node("n1").unwrap()["address"], network.host.as_str());

    network.cut();
    let cut = Instant::now();
    grid.wait_offline("n1");
    let for_master = cut.elapsed();
    until("the host notices", || host.log().contains("has been silent for 1500 ms").then_some(()));
    // Three, and room for a busy machine; TCP itself would take a quarter of an hour.
    for heartbeats in [for_master, cut.elapsed()].map(|passed| passed.as_millis() / HEARTBEAT.as_millis()) {
        assert!((2..30).contains(&heartbeats), "after {heartbeats} heartbeats");
    }
    let seen = grid.node("n1").unwrap()["last_seen_ms"].as_i64().unwrap();
    let run = grid.windlass(&["run", "monitor.system.read", "--on", "n1", "--timeout", "2s"]);
    assert_ne!(run.code, 0, "no answer is no success: {run:#?}");

    network.mend();
    grid.wait_online("n1");
    assert!(grid.node("n1").unwrap()["last_seen_ms"].as_i64().unwrap() > seen);
    grid.windlass(&["run", "monitor.system.read", "--on", "n1"]).expect(0);
    host.terminate().unwrap();
}
