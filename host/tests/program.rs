//! The program as people and systemd use it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

const PIN: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn host(arguments: &[&str], config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass-host"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .output()
        .expect("the program runs")
}
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}
/// A configuration whose master is nowhere.
fn config(dir: &Path, more: &str) -> std::path::PathBuf {
    let path = dir.join("host.toml");
    let text = format!(
        "name = \"n1\"\nca_fingerprint = \"{PIN}\"\nstate_dir = \"state\"\n{more}\n\
         [[masters]]\nnodes = \"127.0.0.1:1\"\nenroll = \"127.0.0.1:1\"\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn a_bad_configuration_is_usage_and_names_line_and_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "worker = 3");
    let ran = host(&["run"], &path);
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stdout.is_empty());
    let error = text(&ran.stderr);
    assert!(
        error.starts_with("error: ") && error.contains("line 4") && error.contains("did you mean `workers`?")
    );
    let missing = host(&["run"], &dir.path().join("nowhere.toml"));
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("nowhere.toml"));
}

#[test]
fn check_prints_findings_and_fails_when_something_is_bad() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "plugins_dir = \"none\"");
    let ran = host(&["check", "--output", "json"], &path);
    assert_eq!(ran.status.code(), Some(1));
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&ran.stdout).expect("json");
    let of = |what: &str| {
        findings.iter().find(|finding| finding["what"].as_str().is_some_and(|text| text.starts_with(what)))
    };
    assert_eq!(of("configuration").expect("looked at")["ok"], true);
    assert_eq!(of("key").expect("looked at")["detail"], "will be made at the first start");
    let master = of("node listener 127.0.0.1:1").expect("looked at");
    assert_eq!(master["ok"], false);
    assert!(master["detail"].as_str().expect("text").contains("connection refused"), "{master}");
    assert_eq!(of("plugins_dir").expect("looked at")["ok"], false);
    assert!(!dir.path().join("state/node.key").exists(), "check makes no key");

    let ran = host(&["check"], &path);
    let out = text(&ran.stdout);
    assert!(out.lines().any(|line| line.starts_with("ok   configuration: ")), "{out}");
    assert!(out.lines().any(|line| line.starts_with("bad  node listener 127.0.0.1:1: ")), "{out}");
    assert!(out.contains("     hint: "), "{out}");
}

#[test]
fn a_key_that_others_can_read_is_found() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "");
    assert!(host(&["fingerprint", "--create"], &path).status.success());
    let key = dir.path().join("state/node.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let ran = host(&["check"], &path);
    assert!(text(&ran.stdout).contains("chmod 600"), "{}", text(&ran.stdout));
}

#[test]
fn check_looks_at_the_trust_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "trust_file = \"trust.toml\"");
    let trust = dir.path().join("trust.toml");
    let look = || {
        let ran = host(&["check"], &path);
        let out = text(&ran.stdout).to_owned();
        let line = out.lines().find(|line| line.contains("trust_file: ")).expect("looked at");
        line.to_owned()
    };
    assert!(look().starts_with("ok ") && look().contains("there is no trust file"), "{}", look());
    std::fs::write(&trust, "[[rules]]\nplugin = \"*\"\n").expect("written");
    assert!(look().starts_with("bad") && look().contains("trust.toml`:1:1: "), "{}", look());
    let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let good = format!("[keys.a]\npublic = \"{key}\"\n[[rules]]\nplugins = \"*\"\nkeys = [\"a\"]\n");
    std::fs::write(&trust, &good).expect("written");
    assert!(look().starts_with("ok "), "{}", look());
    let ended = good.replace("\"\n[[", "\"\nexpires = 2020-01-01T00:00:00Z\n[[");
    std::fs::write(&trust, ended).expect("written");
    assert!(look().starts_with("bad") && look().contains("the key `a` has expired"), "{}", look());
    std::fs::write(&trust, &good).expect("written");
    std::fs::set_permissions(&trust, std::fs::Permissions::from_mode(0o646)).expect("changed");
    assert!(look().starts_with("bad") && look().contains("chmod go-w"), "{}", look());
}

#[test]
fn fingerprint_prints_the_key_and_makes_it_only_when_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "");
    let none = host(&["fingerprint"], &path);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("fingerprint --create"));
    let made = host(&["fingerprint", "--create"], &path);
    assert!(made.status.success());
    assert!(text(&made.stdout).starts_with("sha256:"));
    assert_eq!(host(&["fingerprint"], &path).stdout, made.stdout);
}

#[test]
fn sigterm_ends_it_with_success_even_without_a_master() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = config(dir.path(), "");
    let mut child = Command::new(env!("CARGO_BIN_EXE_windlass-host"))
        .args(["run", "--config"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let log = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready")), "it gets ready without a master");
    let pid = rustix::process::Pid::from_child(&child);
    // A second host must not share the state.
    let second = host(&["run"], &path);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another windlass-host runs"), "{}", text(&second.stderr));
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    assert!(lines.any(|line| line.contains("stopped")), "it says that it stopped");
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}

#[test]
fn help_has_examples() {
    let ran = Command::new(env!("CARGO_BIN_EXE_windlass-host")).arg("--help").output().expect("runs");
    assert!(ran.status.success());
    assert!(text(&ran.stdout).contains("Examples:\n  windlass-host check"));
}
