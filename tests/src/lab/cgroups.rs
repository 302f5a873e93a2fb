//! Control groups: whose processes are whose.
//!
//! Each node starts in a group of its own, in every hierarchy that systemd uses (`name=systemd` of version 1
//! and version 2, which may both be there). Without that all nodes would share one group, and three systemds
//! would take each other's services for their own. It is also how everything that a lab ever started is found
//! at its end, whatever it has become since.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// All groups of all labs are in this one.
const TOP: &str = "windlass-lab";
/// How long processes may take to be gone after they were killed, and a group to be free.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hierarchies that systemd uses.
///
/// # Errors
/// If there are none.
pub fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    // proc_pid_mountinfo(5): fields, a dash, then type, source and options of the file system.
    let found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            let mut system = system.split(' ');
            let kind = system.next()?;
            let options = system.nth(1).unwrap_or_default();
            let ours =
                kind == "cgroup2" || kind == "cgroup" && options.split(',').any(|o| o == "name=systemd");
            (ours && point.starts_with("/sys/fs/cgroup")).then(|| point.into())
        })
        .collect();
    ensure!(
        !found.is_empty(),
        "no control groups that systemd could use are mounted: cgroup2, or name=systemd of version 1"
    );
    Ok(found)
}

/// The groups of a lab, or of a node of it, whether they are there or not.
///
/// # Errors
/// If there are no hierarchies.
pub fn of(lab: &str, node: Option<&str>) -> Result<Vec<PathBuf>> {
    let below = |top: PathBuf| {
        let lab = top.join(TOP).join(lab);
        node.map_or(lab.clone(), |node| lab.join(node))
    };
    Ok(hierarchies()?.into_iter().map(below).collect())
}

/// Ids of the labs that have groups.
///
/// # Errors
/// If there are no hierarchies.
pub fn labs() -> Result<Vec<String>> {
    let tops = hierarchies()?.into_iter().map(|top| top.join(TOP));
    Ok(tops
        .filter_map(|top| std::fs::read_dir(top).ok())
        .flatten()
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir())?.file_name().into_string().ok())
        .collect())
}

/// All processes in these groups and those within.
pub fn processes(groups: &[PathBuf]) -> Vec<Pid> {
    let mut found = Vec::new();
    for group in groups {
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        found.extend(processes(&within(group)));
    }
    found.sort_unstable_by_key(|pid| pid.as_raw_pid());
    found.dedup();
    found
}

fn within(group: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Kill everything in these groups, and wait until it is gone.
///
/// # Errors
/// If something does not end.
pub fn kill(groups: &[PathBuf]) -> Result<()> {
    let start = Instant::now();
    loop {
        let processes = processes(groups);
        if processes.is_empty() {
            return Ok(());
        }
        for pid in &processes {
            // Gone meanwhile, or on its way: looked at again below.
            let _ = kill_process(*pid, Signal::KILL);
        }
        if start.elapsed() > PATIENCE {
            bail!("processes {processes:?} in {groups:?} did not end within {PATIENCE:?}");
        }
        pause();
    }
}

/// Remove these groups and those within; all must be empty.
///
/// # Errors
/// If one is not.
pub fn remove(groups: &[PathBuf]) -> Result<()> {
    let start = Instant::now();
    for group in groups {
        remove(&within(group))?;
        loop {
            match std::fs::remove_dir(group) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                // A process that has ended counts until it is reaped.
                Err(error) if start.elapsed() > PATIENCE => {
                    return Err(error).with_context(|| format!("removing `{}`", group.display()));
                }
                Err(_) => pause(),
            }
        }
    }
    Ok(())
}

/// The group of all labs, once there is none.
pub fn remove_top() {
    for top in hierarchies().unwrap_or_default() {
        // Refused as long as there is another lab.
        let _ = std::fs::remove_dir(top.join(TOP));
    }
}

/// Between two looks at a condition.
pub(super) fn pause() {
    #[expect(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
    std::thread::sleep(Duration::from_millis(20));
}
