//! How many processes the programs of one operation may have, and what ends those that fork without end.
//!
//! The kernel has no limit for this that holds for root: `RLIMIT_NPROC` is not asked of user 0
//! (copy_process in kernel/fork.c), and a control group with a `pids` controller is there only where
//! one is delegated. So the [reaper](super::reaper) counts, and kills the lot without any grace when
//! there are too many.
//!
//! Counting means to look at all of `/proc`, which is too dear to do often. What is cheap is the number
//! of threads of the whole system in `/proc/loadavg`: only when it has grown by so much that a crowd
//! could be too large is there a look, and now and then without a reason. Looks take a tenth of the time
//! at most, unless the system has grown by a whole crowd since the last one: that is not waited for. A fork
//! takes about 50 µs, so a bomb gets a few hundred processes past the limit before it is seen.
//!
//! What this can not do is to catch one that outruns it: a program that goes on forking, each time into
//! a new session, while the processes are listed. It is killed as long as it lasts; the bound that holds
//! whatever it does is that of the agent's own service (`TasksMax=` of systemd).

use super::{
    ProcessError,
    child::Child,
    family::{Process, Snapshot},
};
use rustix::process::Signal;
use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Programs of one operation at a time: each takes four descriptors of the agent.
pub const MAX_PROGRAMS: usize = 32;

/// How often the number of threads of the system is read while a program runs.
const GLANCE: Duration = Duration::from_millis(20);
/// How often all processes are looked at without a reason.
const LOOK: Duration = Duration::from_secs(2);
/// The same while a crowd that is too large is being ended.
const CHASE: Duration = Duration::from_millis(1);
/// A look may take this share of the time: one in so many.
const SHARE: u32 = 10;

/// The programs of one operation, with all they start.
#[derive(Debug)]
pub struct Crowd {
    max: usize,
    programs: AtomicUsize,
    exceeded: AtomicBool,
}

impl Crowd {
    /// At most `max` processes and threads at a time.
    pub fn new(max: usize) -> Arc<Crowd> {
        Arc::new(Crowd { max, programs: AtomicUsize::new(0), exceeded: AtomicBool::new(false) })
    }

    /// One program more.
    pub(super) fn enter(self: &Arc<Crowd>) -> Result<Entered, ProcessError> {
        self.check()?;
        let entered = Entered(self.clone());
        if self.programs.fetch_add(1, Ordering::Relaxed) < MAX_PROGRAMS {
            Ok(entered)
        } else {
            Err(ProcessError::TooManyPrograms)
        }
    }

    /// The error, once there were too many.
    pub(super) fn check(&self) -> Result<(), ProcessError> {
        if self.exceeded.load(Ordering::Relaxed) {
            return Err(ProcessError::TooManyProcesses { max: self.max });
        }
        Ok(())
    }
}

/// A program of a crowd.
#[derive(Debug)]
pub(super) struct Entered(Arc<Crowd>);

impl Entered {
    pub(super) fn crowd(&self) -> &Arc<Crowd> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.programs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A program that is being watched, until nobody holds it any more.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) child: Weak<Child>,
    pub(super) crowd: Arc<Crowd>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Watch {
    watched: Vec<Watched>,
    glance_at: Instant,
    look_at: Instant,
    /// Not before, so that looking does not become the load.
    rest_until: Instant,
    /// Threads of the system from which on a crowd could be too large.
    alarm: usize,
    /// The same from which on that is not left for later: more by as many as a crowd may have.
    urgent: usize,
}

impl Watch {
    pub fn new() -> Watch {
        let now = Instant::now();
        Watch { watched: Vec::new(), glance_at: now, look_at: now, rest_until: now, alarm: 0, urgent: 0 }
    }

    pub fn add(&mut self, watched: Watched) {
        let threads = threads_of_the_system().unwrap_or(0);
        let alarm = threads.saturating_add(watched.crowd.max / 2);
        let urgent = threads.saturating_add(watched.crowd.max);
        if self.watched.is_empty() {
            let now = Instant::now();
            (self.glance_at, self.look_at) = (now + GLANCE, now + LOOK);
            (self.alarm, self.urgent) = (alarm, urgent);
        }
        self.alarm = self.alarm.min(alarm);
        self.urgent = self.urgent.min(urgent);
        self.watched.push(watched);
    }

    /// When to ask again whether to look; none while nothing runs.
    pub fn next(&self) -> Option<Instant> {
        (!self.watched.is_empty()).then_some(self.glance_at)
    }

    /// Whether all processes should be looked at.
    pub fn is_due(&mut self, now: Instant) -> bool {
        self.watched.retain(|watched| watched.child.strong_count() > 0);
        if self.watched.is_empty() || now < self.glance_at {
            return false;
        }
        self.glance_at = now + GLANCE;
        let rested = now >= self.rest_until;
        let limit = if rested { self.alarm.min(self.urgent) } else { self.urgent };
        now >= self.look_at || threads_of_the_system().map_or(rested, |threads| threads >= limit)
    }

    /// Count each crowd, and kill those that are too large.
    pub fn look(&mut self, snapshot: &Snapshot, began: Instant) {
        let programs: Vec<(Arc<Child>, &Arc<Crowd>)> = self
            .watched
            .iter()
            .filter_map(|watched| Some((watched.child.upgrade()?, &watched.crowd)))
            .collect();
        let mut counts: HashMap<*const Crowd, usize> = HashMap::new();
        let mut families = Vec::with_capacity(programs.len());
        for (child, crowd) in programs {
            let leader = child.pid.as_raw_nonzero().get();
            let family = snapshot.family(leader, child.mark);
            // Also those that ended and were not waited for: they take a number each.
            let count = family.iter().copied().chain(snapshot.get(leader)).map(|process| process.threads);
            *counts.entry(Arc::as_ptr(crowd)).or_default() += count.sum::<usize>();
            families.push((child, crowd, family));
        }
        let (mut room, mut smallest) = (usize::MAX, usize::MAX);
        let mut chasing = false;
        for (child, crowd, family) in families {
            for orphan in family.iter().filter(|process| snapshot.is_ours_to_reap(process)) {
                super::reaper::reap(orphan);
            }
            let count = counts.get(&Arc::as_ptr(crowd)).copied().unwrap_or_default();
            if count > crowd.max && !crowd.exceeded.swap(true, Ordering::Relaxed) {
                tracing::warn!(count, max = crowd.max, pid = %child.pid, "ending programs that start too many");
            }
            if crowd.check().is_err() {
                chasing |= kill(&child, &family);
            } else {
                room = room.min(crowd.max - count);
                smallest = smallest.min(crowd.max);
            }
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(began);
        (self.look_at, self.rest_until) = (now + LOOK, now + took * SHARE);
        let threads = threads_of_the_system().unwrap_or(0);
        self.alarm = threads.saturating_add(room / 2 + 1);
        self.urgent = threads.saturating_add(smallest);
        if chasing {
            (self.glance_at, self.look_at) = (now + CHASE, now + CHASE);
        }
    }
}

/// Kill a program and its family. False if nobody is left.
fn kill(child: &Child, family: &[&Process]) -> bool {
    let living = || family.iter().filter(|process| !process.zombie);
    let ended = child.has_ended();
    // All of one process group at once: the kernel lets none of them fork meanwhile.
    if !ended || living().next().is_some() {
        let _ = rustix::process::kill_process_group(child.pid, Signal::KILL);
    }
    living().for_each(|process| process.signal(Signal::KILL));
    !ended || living().next().is_some()
}

/// The number of threads of the whole system (`/proc/loadavg`, fourth field: `running/all`).
fn threads_of_the_system() -> Option<usize> {
    parse_threads(&fs::read_to_string("/proc/loadavg").ok()?)
}

fn parse_threads(loadavg: &str) -> Option<usize> {
    loadavg.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_counted() {
        assert_eq!(parse_threads("0.93 1.51 1.04 3/110 10642\n"), Some(110));
        assert_eq!(parse_threads("0.93 1.51"), None);
        assert!(threads_of_the_system().is_some_and(|threads| threads > 1));
    }
}
