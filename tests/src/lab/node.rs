//! One node: preparing its disks, booting it, and taking its power.

use super::{Lab, LabOptions, State, cgroups, network};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write as _,
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long a node may take to boot, or to end.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Disks, pools and bricks, and an agent.
    Storage,
    /// Mounts volumes.
    Client,
    /// Runs the master.
    Master,
}

/// A node. Its name is its host name as well.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub role: Role,
    pub address: Ipv4Addr,
}

/// Puts itself into the control groups that come first, says its process id, and becomes systemd-nspawn.
const START: &str = r#"
pid=$1; shift
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit; shift; done
shift
echo $$ > "$pid.new" && mv "$pid.new" "$pid" && exec "$@"
"#;

fn dir(lab: &Lab, node: &Node) -> PathBuf {
    lab.dir().join("nodes").join(&node.name)
}

/// The root of a node, as this machine sees it.
pub(super) fn root(lab: &Lab, node: &Node) -> PathBuf {
    dir(lab, node).join("root")
}

/// Make its disks, and its root over the image.
pub(super) fn prepare(lab: &Lab, node: &Node, options: &LabOptions, image: &Path) -> Result<()> {
    let dir = dir(lab, node);
    for folder in ["upper", "work", "root", "disks"] {
        std::fs::create_dir_all(dir.join(folder))?;
    }
    if node.role == Role::Storage {
        for number in 1..=options.disks {
            let disk = File::create(dir.join("disks").join(format!("disk{number}")))?;
            disk.set_len(options.disk_bytes)?;
        }
    }
    let root = root(lab, node);
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        image.display(),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    let target = root.to_str().context("the folder of a lab is text")?;
    super::tool("mount", &["-t", "overlay", "overlay", "-o", &layers, target])?;
    std::fs::write(root.join("etc/hostname"), format!("{}\n", node.name))?;
    std::fs::write(root.join("etc/hosts"), hosts(&lab.state))?;
    if node.role != Role::Storage {
        for unit in ["zfs-fuse.service", "glusterd.service"] {
            std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(unit))?;
        }
    }
    Ok(())
}

fn hosts(state: &State) -> String {
    let mut text = format!("127.0.0.1 localhost\n{} outside\n", network::OUTSIDE);
    for Node { name, address, .. } in &state.nodes {
        let _ = writeln!(text, "{address} {name}");
    }
    text
}

/// Boot a node that is off, and wait until systemd says that all of it runs.
///
/// # Errors
/// If it is on, ends, or a unit fails.
pub(super) fn boot(lab: &Lab, node: &Node) -> Result<()> {
    let groups = cgroups::of(lab.id(), Some(&node.name))?;
    ensure!(cgroups::processes(&groups).is_empty(), "{} is on", node.name);
    for group in &groups {
        std::fs::create_dir_all(group).with_context(|| format!("making `{}`", group.display()))?;
    }
    let dir = dir(lab, node);
    let pid = dir.join("nspawn.pid");
    let _ = std::fs::remove_file(&pid);
    let console = File::options().create(true).append(true).open(dir.join("console.log"))?;
    let bind = |kind: &str, from: PathBuf, to: &str| format!("--{kind}={}:{to}", from.display());
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", START, "boot"]).arg(&pid).args(&groups).args([
        "--",
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--keep-unit",
        "--register=no",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        "--capability=all",
        // FUSE for zfs-fuse and Gluster.
        "--bind=/dev/fuse",
    ]);
    command
        .arg(format!("--machine={}", network::namespace(lab.id(), &node.name)))
        .arg(format!("--network-namespace-path={}", network::path(lab.id(), &node.name)))
        .arg(format!("--directory={}", root(lab, node).display()))
        .arg(bind("bind", dir.join("disks"), "/disks"))
        .arg(bind("bind-ro", lab.dir().join("packages"), "/packages"))
        .env("PATH", super::needs::search_path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console);
    let mut child = command.spawn().context("starting systemd-nspawn")?;
    // Nobody else waits for it: what ends here would stay as a zombie as long as we live.
    std::thread::spawn(move || child.wait());
    wait_running(lab, node)
}

fn wait_running(lab: &Lab, node: &Node) -> Result<()> {
    let start = Instant::now();
    let log = || std::fs::read_to_string(dir(lab, node).join("console.log")).unwrap_or_default();
    let nspawn = dir(lab, node).join("nspawn.pid");
    loop {
        if leader(lab, node).is_some() {
            let mut command = command(lab, node)?;
            let state = super::output({
                command.args(["systemctl", "is-system-running"]);
                command
            })?;
            match state.stdout.trim() {
                "running" => return Ok(()),
                "degraded" => {
                    let mut command = self::command(lab, node)?;
                    command.args(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]);
                    bail!("units of {} failed:\n{}", node.name, super::output(command)?.stdout);
                }
                _ => {}
            }
        } else if nspawn.exists() && !is_alive(read_pid(&nspawn)) {
            bail!("{} ended while it booted:\n{}", node.name, log());
        }
        ensure!(start.elapsed() < PATIENCE, "{} was not up within {PATIENCE:?}:\n{}", node.name, log());
        cgroups::pause();
    }
}

/// Process 1 of a node, as this machine numbers it; none if it is off.
pub(super) fn leader(lab: &Lab, node: &Node) -> Option<Pid> {
    let nspawn = read_pid(&dir(lab, node).join("nspawn.pid"))?;
    // The number may be another's by now: only what is in the groups of the node is the node's.
    let ours = cgroups::processes(&cgroups::of(lab.id(), Some(&node.name)).ok()?);
    if !ours.contains(&nspawn) {
        return None;
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", nspawn.as_raw_nonzero())).ok()?;
    let children =
        tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<Pid> = children
        .flat_map(|text| {
            text.split(' ').filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
        })
        .collect();
    children.into_iter().find(|pid| ours.contains(pid) && is_alive(Some(*pid)))
}

fn read_pid(path: &Path) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

fn is_alive(pid: Option<Pid>) -> bool {
    let stat =
        pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok());
    // proc_pid_stat(5): the state follows the name, which is in parentheses and may hold anything.
    stat.is_some_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

/// A program in all namespaces of a node.
pub(super) fn command(lab: &Lab, node: &Node) -> Result<Command> {
    let leader = leader(lab, node).with_context(|| format!("{} is off", node.name))?;
    let mut command = Command::new("nsenter");
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()));
    command
        .arg(format!("--target={}", leader.as_raw_nonzero()))
        .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
    Ok(command)
}

/// End all of its processes at once.
pub(super) fn crash(lab: &Lab, node: &Node) -> Result<()> {
    // First process 1, with which the kernel ends all others; then systemd-nspawn sees to its own things.
    if let Some(leader) = leader(lab, node) {
        let _ = kill_process(leader, Signal::KILL);
    }
    let nspawn = read_pid(&dir(lab, node).join("nspawn.pid"));
    let start = Instant::now();
    while is_alive(nspawn) && start.elapsed() < Duration::from_secs(5) {
        cgroups::pause();
    }
    cgroups::kill(&cgroups::of(lab.id(), Some(&node.name))?)
}
