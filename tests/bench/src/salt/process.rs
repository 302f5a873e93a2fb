//! Processes: started in a group of their own, looked at through /proc, ended with their group.

use crate::report::cpu_ticks;
use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};
use windlass_tests::{Daemon, until};

/// No command takes that long, whatever is broken.
const LIMIT: Duration = Duration::from_secs(120);

/// A program and all that it has started, as far as they stayed in its process group. Dropping it
/// kills them all.
#[derive(Debug)]
pub struct Group {
    leader: Daemon,
}

impl Group {
    /// Start a program with its output in a file.
    pub fn start(command: Command, log: &Path) -> Result<Self> {
        Ok(Group { leader: Daemon::spawn(command, log)? })
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        group(self.leader.pid())
    }

    /// Send a signal to all of them.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.leader.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process_group(pid, signal)?)
    }

    /// Tell it to end, without waiting.
    pub fn end(&self) -> Result<()> {
        self.leader.signal(Signal::TERM)
    }

    /// Wait for the end of all of them, and end what does not.
    pub fn wait(self) {
        let start = Instant::now();
        until("a process ends that was told to", || {
            (!self.leader.is_running() || start.elapsed() > Duration::from_secs(30)).then_some(())
        });
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        self.leader.log_tail()
    }

    /// True while its first process runs.
    pub fn is_running(&self) -> bool {
        self.leader.is_running()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Before its leader is waited for, while the number still means this group.
        let _ = self.signal(Signal::KILL);
    }
}

/// The living processes of a process group.
pub fn group(leader: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
        // proc_pid_stat(5): state is the third field, the process group the fifth.
        fields.is_some_and(|fields| {
            fields.first() != Some(&"Z") && fields.get(2) == Some(&leader.to_string().as_str())
        })
    })
    .collect()
}

/// Processor time of some processes, in ticks.
pub fn ticks(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| cpu_ticks(*pid)).sum()
}

/// Resident memory, shared pages in parts, from /proc/PID/smaps_rollup.
pub fn proportional_kib(pid: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Run a command to its end.
pub async fn output(command: Command) -> Result<(Duration, Output)> {
    let program = command.get_program().to_owned();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let start = Instant::now();
    let output = tokio::time::timeout(LIMIT, command.output())
        .await
        .with_context(|| format!("{program:?} did not end within {LIMIT:?}"))?
        .with_context(|| format!("starting {program:?}"))?;
    Ok((start.elapsed(), output))
}
