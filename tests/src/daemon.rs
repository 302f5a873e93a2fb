//! One process that tells when it is ready, and ends with its owner.

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    os::unix::{net::UnixDatagram, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a program may take to become ready or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills the program.
#[derive(Debug)]
pub struct Daemon {
    child: Mutex<Child>,
    log: PathBuf,
}

impl Daemon {
    /// Start a program that speaks sd_notify(3), with its output in `log`, and wait until it says
    /// that it is ready.
    ///
    /// # Errors
    /// If it can't be started, or ends before it is ready; the message holds the end of its log.
    pub fn start(command: Command, log: &Path) -> Result<Self> {
        let socket_path = log.with_extension("notify");
        let _ = std::fs::remove_file(&socket_path);
        let socket = UnixDatagram::bind(&socket_path)
            .with_context(|| format!("binding the notify socket `{}`", socket_path.display()))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut command = command;
        command.env("NOTIFY_SOCKET", &socket_path);
        let daemon = Self::spawn(command, log)?;
        let start = Instant::now();
        let mut message = [0; 4096];
        loop {
            if let Ok(len) = socket.recv(&mut message)
                && message[..len].split(|b| *b == b'\n').any(|line| line == b"READY=1")
            {
                break;
            }
            if let Some(status) = daemon.child().try_wait()? {
                bail!("the program ended ({status}) before it was ready:\n{}", daemon.log_tail());
            }
            if start.elapsed() > PATIENCE {
                bail!("the program was not ready after {PATIENCE:?}:\n{}", daemon.log_tail());
            }
        }
        let _ = std::fs::remove_file(&socket_path);
        Ok(daemon)
    }

    /// Start a program and go on.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        // SAFETY: prctl(2) is async-signal-safe and touches nothing of the parent.
        #[expect(unsafe_code, reason = "the only way to have the kernel end a child with its parent")]
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into)
            });
        }
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Daemon { child: Mutex::new(child), log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines it has printed.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Send a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child().id()).ok().and_then(Pid::from_raw).context("a process id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// End it as a power cut would: it gets no say.
    ///
    /// # Errors
    /// If it can't be waited for.
    pub fn kill(self) -> Result<()> {
        self.child().kill()?;
        self.child().wait()?;
        Ok(())
    }

    /// End it in order (TERM) and wait.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn terminate(self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Wait for its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&self) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child().try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                bail!("the program did not end within {PATIENCE:?}:\n{}", self.log_tail());
            }
            #[expect(clippy::disallowed_methods, reason = "the pause between two looks at the process")]
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// True while it runs.
    pub fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already; either way it is reaped here.
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}
