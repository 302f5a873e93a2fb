//! Programs of the node, started without a shell and never left behind.
//!
//! - `program`: is it safe to run? First path that exists, owned by root, writable by nobody else.
//! - `child`: what it gets: two variables, `/`, three streams, a session of its own, no core files.
//! - `family`: who belongs to it, also what became a daemon.
//! - `crowd`: how many that may be, and the end of those that fork without end.
//! - `reaper`: the thread that ends it and all of these, and reaps them.
//! - `running`: the program as the caller sees it, with time limit and cancellation.
//!
//! However a program ends (by itself, by timeout, by cancellation, because its future or handle is
//! dropped, because the runtime is shut down), the reaper ends what it left. What is running when the
//! agent itself is killed goes on; the next process of the same agent ends it at its start ([`own`]),
//! unless the service manager has done so already.
//!
//! Needs Linux 5.4 (pidfd_open(2), waitid(2) by descriptor) and `/proc`. The first program makes
//! this process a child subreaper, for good.

mod child;
mod crowd;
mod family;
mod program;
mod reaper;
mod running;
#[cfg(test)]
mod tests;

pub use child::own;
pub use crowd::{Crowd, MAX_PROGRAMS};
pub use running::Running;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// A program to run.
///
/// It may hold secrets: what is in `stdin` and `environment` is wiped from memory with it, and never shown.
#[derive(Clone)]
pub struct Spec {
    /// Absolute paths; the first that exists is run.
    pub paths: Vec<PathBuf>,
    /// Arguments without the program itself.
    pub args: Vec<String>,
    /// What it reads from standard input; empty is `/dev/null`.
    pub stdin: Zeroizing<Vec<u8>>,
    /// Variables beyond those that every program has.
    pub environment: Vec<(String, Zeroizing<Vec<u8>>)>,
    /// Wall time after which it is ended.
    pub timeout: Duration,
    /// Bytes of each output stream that [`run`] keeps.
    pub output_cap: usize,
    /// The operation it is run for.
    pub crowd: Arc<Crowd>,
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("paths", &self.paths).field("args", &self.args).finish_non_exhaustive()
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It exited by itself, with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The path that ran.
    pub path: PathBuf,
    /// How it ended.
    pub status: Status,
    /// Standard output, up to the cap.
    pub stdout: Vec<u8>,
    /// Standard error, up to the cap.
    pub stderr: Vec<u8>,
    /// Bytes that came on standard output in all.
    pub stdout_total: u64,
    /// Bytes that came on standard error in all.
    pub stderr_total: u64,
    /// True when more came on standard output than was kept.
    pub stdout_truncated: bool,
    /// The same for standard error.
    pub stderr_truncated: bool,
    /// Wall time from start to end.
    pub duration: Duration,
}

/// Which stream a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Some bytes that a running program printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where they were printed.
    pub stream: OutputStream,
    /// The bytes, as they came; never empty.
    pub data: Vec<u8>,
}

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// None of the paths exists.
    #[error("none of these exists: {}", tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The paths that were tried.
        tried: Vec<PathBuf>,
    },
    /// The program, or a directory on the way to it, could be changed by someone else.
    #[error("{} is not safe to run: {why}", path.display())]
    Unsafe {
        /// The path of the program.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Its time was up; it and its children were ended.
    #[error("timed out after {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It was cancelled; it and its children were ended.
    #[error("cancelled")]
    Cancelled,
    /// The programs of its operation had more processes and threads than they may; all of them were
    /// ended.
    #[error("more than {max} processes and threads at a time; all of them were ended")]
    TooManyProcesses {
        /// How many they may have.
        max: usize,
    },
    /// Its operation runs as many programs as it may.
    #[error("an operation runs {MAX_PROGRAMS} programs at a time at most")]
    TooManyPrograms,
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Run a program to its end and keep what it prints.
///
/// What it prints past the cap is read, counted and dropped, so that it never waits for a full
/// pipe. What it started and left behind is ended before this returns. Dropping the future ends
/// the program and everything it started.
///
/// # Errors
/// If it can't be started, or does not run to its end by itself.
pub async fn run(spec: Spec, cancel: &CancellationToken) -> Result<Finished, ProcessError> {
    let cap = spec.output_cap;
    let mut running = spawn(spec, cancel).await?;
    let mut stdout = Kept::new(cap);
    let mut stderr = Kept::new(cap);
    while let Some(chunk) = running.read().await? {
        match chunk.stream {
            OutputStream::Stdout => stdout.add(&chunk.data),
            OutputStream::Stderr => stderr.add(&chunk.data),
        }
    }
    let status = running.wait().await?;
    Ok(Finished {
        path: running.path().to_owned(),
        status,
        stdout_truncated: stdout.is_truncated(),
        stderr_truncated: stderr.is_truncated(),
        stdout: stdout.data,
        stderr: stderr.data,
        stdout_total: stdout.total,
        stderr_total: stderr.total,
        duration: running.age(),
    })
}

/// Start a program and go on. [`Spec::output_cap`] has no meaning here: what is not read holds
/// the program up. The time limit and `cancel` apply whenever one of the functions of [`Running`]
/// is awaited.
///
/// # Errors
/// If it can't be started.
pub async fn spawn(spec: Spec, cancel: &CancellationToken) -> Result<Running, ProcessError> {
    if cancel.is_cancelled() {
        return Err(ProcessError::Cancelled);
    }
    Running::start(spec, cancel.clone()).await
}

/// The first bytes of a stream, and how many there were.
struct Kept {
    data: Vec<u8>,
    cap: usize,
    total: u64,
}

impl Kept {
    fn new(cap: usize) -> Kept {
        Kept { data: Vec::new(), cap, total: 0 }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.cap.saturating_sub(self.data.len()).min(bytes.len());
        self.data.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.total = self.total.saturating_add(bytes.len() as u64);
    }

    fn is_truncated(&self) -> bool {
        self.total > self.data.len() as u64
    }
}
