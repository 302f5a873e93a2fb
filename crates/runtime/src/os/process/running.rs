//! A program that runs: its output, its time limit, its end.

use super::{
    Chunk, OutputStream, ProcessError, Spec, Status,
    child::{self, Child, ExitFd, Started},
    crowd::Entered,
    reaper::{self, Ended},
};
use rustix::fd::OwnedFd;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// A pipe holds as much.
const CHUNK: usize = 64 * 1024;

/// How long the streams may stay open after the program ended, before what holds them is ended.
/// It lets the last part of a pipeline print; a daemon that keeps its streams does not hold the
/// operation up.
const LINGER: Duration = Duration::from_millis(500);

/// How long to read on once all is ended. A stream can still be open only when it was handed to
/// a process outside of the family, over a socket.
const DRAIN: Duration = Duration::from_millis(200);

/// A running program. Dropping it ends the program and everything it started.
#[derive(Debug)]
pub struct Running {
    path: PathBuf,
    started: Instant,
    ended: Option<Instant>,
    timeout: Duration,
    cancel: CancellationToken,
    exit: AsyncFd<ExitFd>,
    /// Writes the input; ends with this.
    _stdin: Option<AbortOnDropHandle<()>>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    state: State,
    broken_off: Option<BrokenOff>,
    entered: Entered,
}

/// How far it is.
#[derive(Debug)]
enum State {
    Runs,
    /// The program has ended, and at this time the rest will be.
    Lingers(Instant),
    /// The reaper is at it.
    Ending(oneshot::Receiver<Ended>),
    /// All have ended. Until this time their streams are read.
    Over(Ended, Instant),
}

/// Why it did not end by itself.
#[derive(Debug, Clone, Copy)]
enum BrokenOff {
    TimedOut,
    Cancelled,
    Killed,
}

/// What comes next.
enum Event {
    Data(OutputStream, io::Result<Vec<u8>>),
    Exited,
    LingeredEnough,
    Ended(Ended),
    DrainedEnough,
    BreakOff(BrokenOff),
}

impl Running {
    pub(super) async fn start(spec: Spec, cancel: CancellationToken) -> Result<Running, ProcessError> {
        let begun = Instant::now();
        let entered = spec.crowd.enter()?;
        // Looking at files and forking may block. Should this future be dropped meanwhile, the
        // program is ended where its `Started` is.
        let (spec, started) = tokio::task::spawn_blocking(move || {
            let started = child::start(&spec);
            (spec, started)
        })
        .await
        .map_err(|error| failed("starting a program", io::Error::other(error)))?;
        Running::attach(spec, started?, entered, cancel, begun)
    }

    fn attach(
        spec: Spec,
        mut started: Started,
        entered: Entered,
        cancel: CancellationToken,
        begun: Instant,
    ) -> Result<Running, ProcessError> {
        let receiver = |end: Option<OwnedFd>| end.map(pipe::Receiver::from_owned_fd).transpose();
        let piping = |error| failed("setting up the pipes of a program", error);
        let stdout = receiver(started.stdout.take()).map_err(piping)?;
        let stderr = receiver(started.stderr.take()).map_err(piping)?;
        let stdin = started.stdin.take().map(pipe::Sender::from_owned_fd).transpose().map_err(piping)?;
        let path = std::mem::take(&mut started.path);
        let Some(child) = started.take() else {
            return Err(failed("starting a program", io::Error::other("it was taken already")));
        };
        reaper::watch(&child, entered.crowd().clone());
        #[expect(unsafe_code, reason = "tokio can't know that the descriptor stays open")]
        // SAFETY: the descriptor is owned by the child, is never replaced in it, and the `AsyncFd`
        // holds a reference to the child.
        let exit = unsafe { AsyncFd::register_with_interest(ExitFd(child.clone()), Interest::READABLE) };
        let exit = exit.map_err(|error| {
            drop(reaper::end(child));
            failed("waiting for a program", error.into())
        })?;
        let stdin = stdin.map(|mut pipe| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                // A program need not read its input: a broken pipe is no error.
                let _ = pipe.write_all(&spec.stdin).await;
            }))
        });
        Ok(Running {
            path,
            started: begun,
            ended: None,
            timeout: spec.timeout,
            cancel,
            exit,
            _stdin: stdin,
            stdout,
            stderr,
            state: State::Runs,
            broken_off: None,
            entered,
        })
    }

    /// The path that runs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Process id, which is also the id of its session and process group.
    pub fn pid(&self) -> i32 {
        self.child().pid.as_raw_nonzero().get()
    }

    /// Time since the start, or how long it ran.
    pub fn age(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.started)
    }

    /// Wait for more output. None when both streams have ended.
    ///
    /// May be cancelled (dropped) without losing output.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`] or [`ProcessError::Cancelled`] once all of it has ended, and if
    /// reading fails.
    pub async fn read(&mut self) -> Result<Option<Chunk>, ProcessError> {
        loop {
            self.check()?;
            let open = self.stdout.is_some() || self.stderr.is_some();
            if !open && matches!(self.broken_off, None | Some(BrokenOff::Killed)) {
                return Ok(None);
            }
            if let Some(chunk) = self.advance().await? {
                return Ok(Some(chunk));
            }
        }
    }

    /// Wait for the end. Output that was not read is dropped.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`] or [`ProcessError::Cancelled`] once all of it has ended; if the
    /// program does not even end on KILL.
    pub async fn wait(&mut self) -> Result<Status, ProcessError> {
        loop {
            self.check()?;
            if let State::Over(ended, _) = &self.state {
                return match ended {
                    Ended { status: Some(status), .. } => Ok(*status),
                    Ended { stuck, .. } => Err(failed(
                        "ending a program",
                        io::Error::other(format!("processes do not end on KILL: {stuck:?}")),
                    )),
                };
            }
            let _dropped = self.advance().await?;
        }
    }

    /// Begin to end it and everything it started: TERM, and KILL after a grace of two seconds.
    /// Does not wait; [`Running::wait`] does.
    pub fn kill(&mut self) {
        if self.broken_off.is_none() {
            self.break_off(BrokenOff::Killed);
        }
    }

    /// What tells its offspring: see the module `family`.
    #[cfg(test)]
    pub(super) fn identity(&self) -> (i32, u64) {
        (self.pid(), self.child().mark)
    }

    fn child(&self) -> &Arc<Child> {
        &self.exit.get_ref().0
    }

    /// The error of a program that was broken off and has ended.
    fn check(&self) -> Result<(), ProcessError> {
        if let State::Over(..) = &self.state {
            self.entered.crowd().check()?;
        }
        match (&self.state, self.broken_off) {
            (State::Over(..), Some(BrokenOff::TimedOut)) => Err(ProcessError::TimedOut(self.timeout)),
            (State::Over(..), Some(BrokenOff::Cancelled)) => Err(ProcessError::Cancelled),
            _ => Ok(()),
        }
    }

    fn break_off(&mut self, why: BrokenOff) {
        self.broken_off = Some(why);
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.state, State::Runs | State::Lingers(_)) {
            self.state = State::Ending(reaper::end(self.child().clone()));
        }
    }

    /// Wait for whatever comes next, and take it in.
    async fn advance(&mut self) -> Result<Option<Chunk>, ProcessError> {
        match self.next().await? {
            Event::Data(stream, Ok(data)) if !data.is_empty() => return Ok(Some(Chunk { stream, data })),
            Event::Data(stream, end) => {
                match stream {
                    OutputStream::Stdout => self.stdout = None,
                    OutputStream::Stderr => self.stderr = None,
                }
                end.map_err(|error| failed("reading the output of a program", error))?;
            }
            Event::Exited => {
                self.ended = Some(Instant::now());
                let open = self.stdout.is_some() || self.stderr.is_some();
                self.state = State::Lingers(Instant::now() + if open { LINGER } else { Duration::ZERO });
            }
            Event::LingeredEnough => self.end(),
            Event::Ended(ended) => {
                self.ended.get_or_insert_with(Instant::now);
                self.state = State::Over(ended, Instant::now() + DRAIN);
            }
            Event::DrainedEnough => {
                self.stdout = None;
                self.stderr = None;
            }
            Event::BreakOff(why) => self.break_off(why),
        }
        Ok(None)
    }

    async fn next(&mut self) -> Result<Event, ProcessError> {
        let open = self.stdout.is_some() || self.stderr.is_some();
        let over = matches!(self.state, State::Over(..));
        let progress = async {
            match &mut self.state {
                State::Runs => match self.exit.readable().await {
                    Ok(_) => Ok(Event::Exited),
                    Err(error) => Err(failed("waiting for a program", error)),
                },
                State::Lingers(until) => {
                    if open {
                        sleep_until(*until).await;
                    }
                    Ok(Event::LingeredEnough)
                }
                State::Ending(answer) => match answer.await {
                    Ok(ended) => Ok(Event::Ended(ended)),
                    Err(error) => Err(failed("ending a program", io::Error::other(error))),
                },
                State::Over(_, until) => {
                    sleep_until(*until).await;
                    Ok(Event::DrainedEnough)
                }
            }
        };
        let break_off = async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Event::BreakOff(BrokenOff::Cancelled),
                () = after(self.started, self.timeout) => Event::BreakOff(BrokenOff::TimedOut),
            }
        };
        // Once the program has ended by itself, its time can no longer run out.
        let may_break_off = self.broken_off.is_none() && self.ended.is_none();
        let data = async {
            let (stdout, stderr) = (&mut self.stdout, &mut self.stderr);
            tokio::select! {
                data = chunk(stdout), if stdout.is_some() => Event::Data(OutputStream::Stdout, data),
                data = chunk(stderr), if stderr.is_some() => Event::Data(OutputStream::Stderr, data),
            }
        };
        // A stream that never ends may not hide the end of the program. Once all have ended it is
        // the other way round: nothing they printed may be lost, however slow this is.
        if over {
            tokio::select! {
                biased;
                event = data, if open => Ok(event),
                event = progress => event,
            }
        } else {
            tokio::select! {
                biased;
                event = break_off, if may_break_off => Ok(event),
                event = progress => event,
                event = data, if open => Ok(event),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The next bytes; none at the end of the stream.
async fn chunk(pipe: &mut Option<pipe::Receiver>) -> io::Result<Vec<u8>> {
    let Some(pipe) = pipe else { return Ok(Vec::new()) };
    pipe.readable().await?;
    let mut data = Vec::with_capacity(CHUNK);
    pipe.read_buf(&mut data).await?;
    data.shrink_to_fit();
    Ok(data)
}

/// A limit past the end of time is none.
async fn after(start: Instant, limit: Duration) {
    match start.checked_add(limit) {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn failed(what: &str, source: io::Error) -> ProcessError {
    ProcessError::Io { what: what.into(), source }
}
