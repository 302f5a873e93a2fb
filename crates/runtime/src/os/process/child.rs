//! Starting a program: what it gets and what it does not.

use super::{ProcessError, Spec, Status, program, reaper};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    fs::Mode,
    process::{Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions},
};
use std::{
    ffi::OsStr,
    hash::{BuildHasher, RandomState},
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// All a program sees of the environment.
const ENVIRONMENT: [(&str, &str); 2] = [("LC_ALL", "C.UTF-8"), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")];

/// A program that was started and not yet reaped, so that its number (which is also that of its
/// session and process group) stays its own. Only the reaper reaps it.
#[derive(Debug)]
pub(super) struct Child {
    pub pid: Pid,
    /// How to know its offspring: see the module `family`.
    pub mark: u64,
    pidfd: OwnedFd,
}

impl Child {
    /// The status, if it has ended; it can be asked for once, for this reaps it.
    pub fn reap(&self) -> io::Result<Option<Status>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options)?;
        Ok(status.and_then(|status| {
            status.exit_status().map(Status::Code).or_else(|| status.terminating_signal().map(Status::Signal))
        }))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options), Ok(None))
    }
}

/// Becomes readable when the program ends; what [`tokio::io::unix::AsyncFd`] waits for.
#[derive(Debug)]
pub(super) struct ExitFd(pub Arc<Child>);

impl AsRawFd for ExitFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.pidfd.as_raw_fd()
    }
}

/// A program that was started. Dropping it ends the program and its offspring, unless someone
/// [took](Started::take) that duty.
#[derive(Debug)]
pub(super) struct Started {
    pub path: PathBuf,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    child: Option<Arc<Child>>,
}

impl Started {
    /// The program; who takes it has to end it.
    pub fn take(&mut self) -> Option<Arc<Child>> {
        self.child.take()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            drop(reaper::end(child));
        }
    }
}

/// Check and start a program. Blocks for as long as the filesystem takes.
pub(super) fn start(spec: &Spec) -> Result<Started, ProcessError> {
    reaper::ensure()?;
    let program = program::find(&spec.paths)?;
    let failed = |source: io::Error| ProcessError::Io {
        what: format!("starting `{}`", program.resolved.display()),
        source,
    };
    let mark = new_mark();
    let mut command = Command::new(&program.resolved);
    command
        .arg0(&program.asked)
        .args(&spec.args)
        .env_clear()
        .envs(ENVIRONMENT)
        .envs(spec.environment.iter().map(|(name, value)| (name, OsStr::from_bytes(value))))
        .current_dir("/")
        .stdin(if spec.stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[expect(
        unsafe_code,
        reason = "the standard library has no safe way to do something between fork and exec"
    )]
    // SAFETY: the closure makes system calls only: no allocation, no lock, nothing that another
    // thread may hold at the time of the fork.
    unsafe {
        command.pre_exec(move || prepare(mark));
    }
    let mut child = command.spawn().map_err(failed)?;
    // The child is not reaped before its number is known by a descriptor, so this can't be another.
    let pid = Pid::from_child(&child);
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(errno) => {
            // Too many open files, most likely. Nothing of it may stay.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            let _ = child.wait();
            return Err(failed(errno.into()));
        }
    };
    Ok(Started {
        path: program.asked,
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
        child: Some(Arc::new(Child { pid, mark, pidfd })),
    })
}

/// How often [`own`] looks for what is left at most.
const LOOKS: u32 = 100;

/// Which agent of this machine the marks are of: the upper half of each. 0 until [`own`] is called.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Mark all programs from now on as this agent's, and end what an earlier process of the same agent
/// left behind when it was killed. `owner` tells the agents of one machine apart: the same for
/// each process that keeps its state in the same folder, and another for any other.
///
/// Call it before the first program is started.
pub fn own(owner: &std::path::Path) {
    let digest = windlass_types::Digest::of(owner.as_os_str().as_encoded_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    // Neither small nor negative: a limit that somebody set on purpose looks otherwise.
    let owner = u32::from_be_bytes([a, b, c, d]) >> 2 | 1 << 29;
    OWNER.store(owner, Ordering::Relaxed);
    // What forked while we looked is seen by the next look.
    for _ in 0..LOOKS {
        let snapshot = super::family::Snapshot::take();
        let mut left = snapshot.left_by(|mark| mark >> 32 == u64::from(owner)).peekable();
        if left.peek().is_none() {
            return;
        }
        for process in left {
            tracing::warn!(
                pid = process.pid,
                "ending a program that an earlier process of this agent left behind"
            );
            process.signal(rustix::process::Signal::KILL);
        }
    }
    tracing::error!("programs of an earlier process of this agent go on starting others");
}

/// A number that nothing else has as its limit of file locks: not small, and not "unlimited".
/// It need not be secret: who wants to be ended with another program may.
fn new_mark() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one((std::process::id(), number));
    match OWNER.load(Ordering::Relaxed) {
        0 => random >> 2 | 1 << 61,
        owner => u64::from(owner) << 32 | random >> 32,
    }
}

/// What happens in the child before the program: only system calls.
fn prepare(mark: u64) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // No core files: they would hold what the program knew, in directories that nobody looks at.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::setrlimit(Resource::Locks, Rlimit { current: Some(mark), maximum: Some(mark) })?;
    close_on_exec()
}

/// Nothing but the three standard streams survives the exec. All that Rust opens is marked so
/// anyway; this is for what the agent itself inherited.
fn close_on_exec() -> io::Result<()> {
    const FIRST: RawFd = 3;
    #[expect(unsafe_code, reason = "no crate in use wraps close_range(2)")]
    // SAFETY: a system call with numbers only; with this flag it closes nothing in this process.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    // Linux before 5.11: one by one.
    let limit = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(65_536).min(65_536);
    for fd in FIRST..RawFd::try_from(limit).unwrap_or(RawFd::MAX) {
        #[expect(unsafe_code, reason = "the descriptors of this process are known by number only")]
        // SAFETY: the flag of a descriptor is changed in a process that is about to exec; one that is
        // not open gives an error, which is what most do.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC);
    }
    Ok(())
}
