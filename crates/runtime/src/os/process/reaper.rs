//! Ends programs and all they started, and reaps them.
//!
//! This is a thread and not a task, so that a program also ends when the runtime that started it
//! is gone or its thread is busy. There is one for the whole process. Every program goes through
//! it, also one that ended by itself: it may have left something behind.
//!
//! The way: TERM to all, two seconds of grace, then KILL to all until a look finds nobody. The
//! program itself is reaped last, so that the number of its process group is not given to another
//! in between. Some can't be killed: those in an uninterruptible wait, as on a pool whose devices
//! hang. They are not waited for: the answer says so, and the thread goes on looking for their end.
//!
//! It also watches how many there are while they run: see the module `crowd`.

use super::{
    ProcessError, Status,
    child::Child,
    crowd::{Crowd, Watch, Watched},
    family::{Process, Snapshot},
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::{
    io,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Time between TERM and KILL.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// Time after the first KILL in which all should be gone.
const STUCK_AFTER: Duration = Duration::from_secs(1);
const FIRST_LOOK: Duration = Duration::from_millis(1);
const SLOWEST_LOOK: Duration = Duration::from_millis(50);
const STUCK_LOOK: Duration = Duration::from_secs(1);

/// How the end went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// How the program ended; none when it can't be killed.
    pub status: Option<Status>,
    /// Processes that can't be killed.
    pub stuck: Vec<i32>,
}

enum Order {
    /// End a program.
    End { child: Arc<Child>, answer: oneshot::Sender<Ended> },
    /// Count a program, as long as somebody holds it.
    Watch(Watched),
}

/// Unbounded, because the end of a program may not wait for anything; there are never more orders
/// than two for each program.
type Orders = mpsc::Sender<Order>;

fn orders() -> Result<&'static Orders, &'static str> {
    static ORDERS: OnceLock<Result<Orders, String>> = OnceLock::new();
    ORDERS
        .get_or_init(|| {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|errno| format!("becoming a child subreaper: {errno}"))?;
            let (sender, receiver) = mpsc::channel();
            thread::Builder::new()
                .name("windlass-reaper".into())
                .spawn(move || {
                    // What ends a fork bomb has to run beside one. Without the right to it (the agent
                    // is not root) it takes its turn among all of them.
                    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20);
                    Reaper { orders: receiver, endings: Vec::new(), watch: Watch::new() }.run();
                })
                .map_err(|error| format!("starting the thread that ends programs: {error}"))?;
            Ok(sender)
        })
        .as_ref()
        .map_err(String::as_str)
}

/// Start the thread, if it does not run yet.
pub(super) fn ensure() -> Result<(), ProcessError> {
    orders().map(drop).map_err(|why| ProcessError::Io {
        what: "preparing to run programs".into(),
        source: io::Error::other(why),
    })
}

/// End a program and all it started. The order holds even when the answer is not waited for.
pub(super) fn end(child: Arc<Child>) -> oneshot::Receiver<Ended> {
    let (answer, receiver) = oneshot::channel();
    if let Ok(orders) = orders() {
        // The thread lives as long as the process.
        let _ = orders.send(Order::End { child, answer });
    }
    receiver
}

/// Count a program and its offspring from now on.
pub(super) fn watch(child: &Arc<Child>, crowd: Arc<Crowd>) {
    if let Ok(orders) = orders() {
        let _ = orders.send(Order::Watch(Watched { child: Arc::downgrade(child), crowd }));
    }
}

struct Reaper {
    orders: mpsc::Receiver<Order>,
    endings: Vec<Ending>,
    watch: Watch,
}

impl Reaper {
    fn run(mut self) {
        loop {
            let next = self.endings.iter().map(|ending| ending.look_at).chain(self.watch.next()).min();
            let order = match next {
                None => self.orders.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
                Some(at) => self.orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::End { child, answer }) => self.endings.push(Ending::new(child, answer)),
                Ok(Order::Watch(watched)) => self.watch.add(watched),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let mut due = false;
            for ending in self.endings.iter_mut().filter(|ending| ending.look_at <= now) {
                // Before the look: what it forked last is in the snapshot then.
                ending.program_ended = ending.child.has_ended();
                due = true;
            }
            let count = self.watch.is_due(now);
            if due || count {
                let snapshot = Snapshot::take();
                if count {
                    self.watch.look(&snapshot, now);
                }
                self.endings.retain_mut(|ending| ending.look_at > now || !ending.look(&snapshot, now));
            }
        }
    }
}

struct Ending {
    child: Arc<Child>,
    answer: Option<oneshot::Sender<Ended>>,
    term_at: Option<Instant>,
    kill_at: Option<Instant>,
    /// The program had ended before the current look.
    program_ended: bool,
    /// The last look found nobody although there had been someone. Processes may come and go while
    /// they are being listed, so a second look has to agree.
    nobody: bool,
    pause: Duration,
    look_at: Instant,
}

impl Ending {
    fn new(child: Arc<Child>, answer: oneshot::Sender<Ended>) -> Ending {
        Ending {
            child,
            answer: Some(answer),
            term_at: None,
            kill_at: None,
            program_ended: false,
            nobody: false,
            pause: FIRST_LOOK,
            look_at: Instant::now(),
        }
    }

    /// Do what is due. True when it is over.
    fn look(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let leader = self.child.pid.as_raw_nonzero().get();
        let family = snapshot.family(leader, self.child.mark);
        for process in &family {
            if snapshot.is_ours_to_reap(process) {
                reap(process);
            }
        }
        let living: Vec<&Process> = family.into_iter().filter(|process| !process.zombie).collect();
        if living.is_empty() && self.program_ended {
            if self.term_at.is_none() || self.nobody {
                self.over();
                return true;
            }
            self.nobody = true;
            self.look_at = now;
            return false;
        }
        self.nobody = false;
        match (self.term_at, self.kill_at) {
            (None, _) => {
                self.signal(&living, Signal::TERM);
                // Who is stopped does not see the TERM before it goes on.
                self.signal(&living, Signal::CONT);
                self.term_at = Some(now);
            }
            (Some(term), None) if now.saturating_duration_since(term) >= GRACE => {
                self.signal(&living, Signal::KILL);
                self.kill_at = Some(now);
                self.pause = FIRST_LOOK;
            }
            (Some(_), None) => {}
            (Some(_), Some(kill)) => {
                // Again, for who was forked meanwhile.
                self.signal(&living, Signal::KILL);
                if now.saturating_duration_since(kill) >= STUCK_AFTER {
                    self.give_up(&living);
                }
            }
        }
        self.look_at = now + self.pause;
        self.pause = if self.answer.is_none() { STUCK_LOOK } else { (self.pause * 2).min(SLOWEST_LOOK) };
        false
    }

    fn signal(&self, living: &[&Process], signal: Signal) {
        // The group has its leader's number as long as that is not reaped. It is gone when all
        // of it are, which is no error.
        let _ = rustix::process::kill_process_group(self.child.pid, signal);
        for process in living {
            process.signal(signal);
        }
    }

    fn over(&mut self) {
        let status = self.child.reap().unwrap_or_else(|error| {
            tracing::error!(pid = %self.child.pid, %error, "reaping a program failed");
            None
        });
        self.tell(Ended { status, stuck: Vec::new() });
    }

    fn give_up(&mut self, living: &[&Process]) {
        if self.answer.is_none() {
            return;
        }
        let mut stuck: Vec<i32> = living.iter().map(|process| process.pid).collect();
        if !self.program_ended {
            stuck.push(self.child.pid.as_raw_nonzero().get());
        }
        tracing::warn!(?stuck, "processes do not end on KILL; they may wait for a device");
        self.tell(Ended { status: None, stuck });
    }

    fn tell(&mut self, ended: Ended) {
        if let Some(answer) = self.answer.take() {
            // Who started it may have gone.
            let _ = answer.send(ended);
        }
    }
}

pub(super) fn reap(process: &Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    // An orphan that became ours: it is a zombie of this family, so nobody else waits for it.
    let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}
