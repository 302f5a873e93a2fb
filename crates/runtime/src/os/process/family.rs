//! Who belongs to a program that was started: its whole offspring, also what left its session.
//!
//! A process group or a session is not enough: a daemon leaves both (`setsid`, double fork). A
//! variable in the environment is not enough: `env -i` drops it. So three things are combined:
//!
//! - The agent is a *child subreaper* (`PR_SET_CHILD_SUBREAPER`): whoever loses its parent in the
//!   offspring of the agent becomes a child of the agent and never of init. So all of it stays in
//!   the tree below the agent, and the agent can reap it.
//! - The program leads a session, and most of its offspring stays in it.
//! - What left the session and lost its parent is known by a *mark*: a random number as the limit
//!   `RLIMIT_LOCKS`. The kernel has not looked at this limit since 2.4.25 (getrlimit(2)), hands it
//!   on over fork, exec, setsid and setuid, and shows it in `/proc/PID/limits`, also of a zombie.
//!
//! So who belongs to it is: who is in the session, or is a child of the agent with that mark, or
//! descends from one of these. Control groups would do as well, but only where one is delegated.

use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal},
};
use std::{collections::HashSet, fs};

/// A process as `/proc/PID/stat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    pub zombie: bool,
    /// At least 1.
    pub threads: usize,
    /// Start in clock ticks since boot: with the pid it tells processes apart.
    pub started: u64,
}

impl Process {
    /// Parse `/proc/PID/stat` (proc_pid_stat(5)).
    pub fn parse(stat: &str) -> Option<Process> {
        // The name stands in parentheses and may hold anything, also parentheses.
        let (pid, _) = stat.split_once(' ')?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        // State is the third field, session the sixth, the number of threads the 20th, and the start
        // the 22nd.
        let threads = fields.nth(13)?.parse::<usize>().ok()?.max(1);
        let started = fields.nth(1)?.parse().ok()?;
        let zombie = matches!(state, "Z" | "X");
        Some(Process { pid: pid.parse().ok()?, parent, session, zombie, threads, started })
    }

    fn read(pid: i32) -> Option<Process> {
        Process::parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// Send a signal to this very process, never to another that got its number since.
    pub fn signal(&self, signal: Signal) {
        let Some(pidfd) = self.open() else { return };
        // It may be gone or (when the agent is not root) someone else's by now: the next look tells.
        let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
    }

    fn open(&self) -> Option<OwnedFd> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (Process::read(self.pid)?.started == self.started).then_some(pidfd)
    }
}

/// The mark of a process: see the module.
pub(super) fn mark_of(pid: i32) -> Option<u64> {
    parse_mark(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/limits")).ok()?))
}

/// The soft limit in the line `Max file locks  SOFT  HARD  locks`.
fn parse_mark(limits: &str) -> Option<u64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix("Max file locks"))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// All processes at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    processes: Vec<Process>,
    agent: i32,
}

impl Snapshot {
    pub fn take() -> Snapshot {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Snapshot {
            processes: pids.filter_map(Process::read).collect(),
            agent: rustix::process::getpid().as_raw_nonzero().get(),
        }
    }

    /// The offspring of a program that leads the session `leader`, without the program itself.
    pub fn family(&self, leader: i32, mark: u64) -> Vec<&Process> {
        self.family_by(leader, |process| mark_of(process.pid) == Some(mark))
    }

    fn family_by(&self, leader: i32, marked: impl Fn(&Process) -> bool) -> Vec<&Process> {
        let mut members = HashSet::from([leader]);
        let mut rest: Vec<&Process> = self
            .processes
            .iter()
            .filter(|process| process.pid != leader && process.pid != self.agent)
            .collect();
        let mut family = Vec::new();
        loop {
            let before = family.len();
            rest.retain(|process| {
                let belongs = process.session == leader
                    || members.contains(&process.parent)
                    || (before == 0 && process.parent == self.agent && marked(process));
                if belongs {
                    members.insert(process.pid);
                    family.push(*process);
                }
                !belongs
            });
            if family.len() == before {
                return family;
            }
        }
    }

    /// All processes with such a mark, whoever their parent is.
    pub fn left_by(&self, whose: impl Fn(u64) -> bool) -> impl Iterator<Item = &Process> {
        self.processes
            .iter()
            .filter(move |process| !process.zombie && mark_of(process.pid).is_some_and(&whose))
    }

    /// The process of this number.
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// True for a process that only the agent can reap.
    pub fn is_ours_to_reap(&self, process: &Process) -> bool {
        process.zombie && process.parent == self.agent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process { pid, parent, session, zombie: false, threads: 1, started: 0 }
    }

    #[test]
    fn the_family_is_session_marked_orphans_and_their_offspring() {
        let snapshot = Snapshot {
            agent: 10,
            processes: vec![
                process(1, 0, 1),
                process(10, 1, 10),
                process(35, 34, 33), // below an orphan, before it in the list
                process(20, 10, 20), // the program
                process(21, 20, 20), // its child
                process(22, 20, 22), // a child in a session of its own
                process(33, 10, 33), // an orphan with the mark
                process(34, 33, 33),
                process(40, 10, 10), // another child of the agent
                process(50, 10, 50), // another program
            ],
        };
        let mut family: Vec<i32> = snapshot.family_by(20, |p| p.pid == 33).iter().map(|p| p.pid).collect();
        family.sort_unstable();
        assert_eq!(family, [21, 22, 33, 34, 35]);
        assert_eq!(snapshot.family_by(50, |_| false), Vec::<&Process>::new());
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_confuse() {
        let line = "4711 (a ) Z 1 (b) S 17 4711 4700 0 -1 4194560 91 0 0 0 1 2 3 4 20 0 7 0 98765 1 2 3";
        assert_eq!(
            Process::parse(line),
            Some(Process { pid: 4711, parent: 17, session: 4700, zombie: false, threads: 7, started: 98765 })
        );
    }

    #[test]
    fn this_process_is_read() {
        let own = std::process::id().cast_signed();
        let read = Process::read(own).unwrap();
        assert_eq!((read.pid, read.zombie), (own, false));
        assert_eq!(read.parent, rustix::process::getppid().unwrap().as_raw_nonzero().get());
        assert!(read.started > 0);
    }

    #[test]
    fn marks_are_numbers_only() {
        assert_eq!(
            parse_mark("Max file locks            77                   77                   locks     \n"),
            Some(77)
        );
        assert_eq!(
            parse_mark("Max file locks            unlimited            unlimited            locks     \n"),
            None
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(text in any::<String>(), tail in "[ ()0-9A-Z-]{0,80}") {
            let _ = Process::parse(&text);
            let _ = Process::parse(&format!("1 (x) S {tail}"));
            let _ = parse_mark(&format!("Max file locks{text}"));
        }
    }
}
