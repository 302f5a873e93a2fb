//! `windlass:host/commands`.

use super::{State, Stop, api::windlass::host::commands as wit, show_path};
use crate::{
    os::process::{self, OutputStream, Running, Spec},
    secrets::Stream,
    tape::{
        calls::{
            Chunk, CommandError, CommandsRun, CommandsSpawn, Ended, HostCall, Output, ProcessKill,
            ProcessRead, ProcessWait, Started,
        },
        text::Bytes,
    },
    trace::Entry,
};
use std::{sync::Arc, time::Duration};
use wasmtime::component::Resource;
use windlass_bundle::SecretPlaces;
use windlass_types::{Denial, trace::TraceDetail};
use zeroize::Zeroizing;

/// A program that a plugin started with `spawn`.
pub struct Process {
    /// None in a replay: nothing was started.
    running: Option<Running>,
    /// Counts the programs of a call from 1.
    number: u32,
    entry: Entry,
    trace: Arc<crate::trace::Recorder>,
    /// Standard output and standard error, without secrets.
    hidden: [Stream; 2],
    ended: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.trace.finish(self.entry, Some("it was dropped before its end".into()), |_| {});
        }
    }
}

/// What a program is given beyond its arguments.
#[derive(Default)]
pub(super) struct Given {
    pub(super) stdin: Option<Zeroizing<Vec<u8>>>,
    pub(super) environment: Vec<(String, Zeroizing<Vec<u8>>)>,
    /// Where there are secrets among it.
    pub(super) places: SecretPlaces,
    /// The same for people: `nas on standard input`.
    pub(super) words: Vec<String>,
}

impl Given {
    /// The input of a command without secrets.
    fn of(command: &mut wit::Command) -> Given {
        Given { stdin: command.stdin.take().map(Zeroizing::new), ..Given::default() }
    }
}

/// A call that is allowed.
pub(super) struct Allowed<C> {
    spec: Spec,
    /// For the tape, where there is one.
    call: Option<C>,
    entry: Entry,
    /// False in a dry run, for what changes something.
    real: bool,
}

fn detail(command: &wit::Command, secrets: &[String], stdin_bytes: usize) -> TraceDetail {
    TraceDetail::Command {
        program: command.program.clone(),
        path: None,
        argv: command.args.clone(),
        exit: None,
        signal: None,
        secrets: secrets.to_vec(),
        // How long a secret is, is told to nobody.
        stdin_bytes: if secrets.is_empty() { stdin_bytes as u64 } else { 0 },
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

fn set_status(detail: &mut TraceDetail, status: Ended) {
    if let TraceDetail::Command { exit, signal, .. } = detail {
        match status {
            Ended::Code(code) => *exit = Some(code),
            Ended::Signal(number) => *signal = Some(number),
        }
    }
}

fn wit_status(status: Ended) -> wit::ExitStatus {
    match status {
        Ended::Code(code) => wit::ExitStatus::Code(code),
        Ended::Signal(signal) => wit::ExitStatus::Signal(signal),
    }
}

fn wit_output(output: Output) -> wit::Output {
    wit::Output {
        status: wit_status(output.status),
        stdout: output.stdout.0,
        stderr: output.stderr.0,
        stdout_truncated: output.stdout_truncated,
        stderr_truncated: output.stderr_truncated,
        duration_ms: output.duration_ms,
    }
}

fn wit_error(error: CommandError) -> wit::Error {
    match error {
        CommandError::NotFound(tried) => wit::Error::NotFound(tried),
        CommandError::TimedOut(limit_ms) => wit::Error::TimedOut(limit_ms),
        CommandError::Cancelled => wit::Error::Cancelled,
        CommandError::DryRun => wit::Error::DryRun,
        CommandError::Other(why) => wit::Error::Other(why),
    }
}

/// What a program gives that was not run.
fn nothing() -> Output {
    Output {
        status: Ended::Code(0),
        stdout: Bytes::default(),
        stderr: Bytes::default(),
        stdout_truncated: false,
        stderr_truncated: false,
        duration_ms: 0,
    }
}

impl State {
    /// Everything that comes before a program is started.
    pub(super) fn admit<C: HostCall>(
        &self,
        command: wit::Command,
        given: Given,
        call: impl Fn(&wit::Command) -> C,
    ) -> wasmtime::Result<Result<Allowed<C>, wit::Error>> {
        let (serving, function) = (&self.serving, C::NAME);
        let Given { stdin, environment, places, words } = given;
        let stdin = stdin.unwrap_or_default();
        serving.check_size("input of a program", stdin.len())?;
        let (program, args) = (&command.program, &command.args);
        let grant = match serving.grants.command_with(program, args, serving.effect, &places) {
            Ok(grant) => grant,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                return Ok(Err(self.deny(&command, &words, denial, call)?));
            }
        };
        let (verdict, real) = serving.verdict(grant.rule, grant.effect);
        let entry = serving.trace.begin(function, detail(&command, &words, stdin.len()), verdict);
        let error = match serving.stop() {
            Some(Stop::Cancelled) => Some(wit::Error::Cancelled),
            Some(Stop::Deadline) => Some(wit::Error::TimedOut(0)),
            None => None,
        };
        if let Some(error) = error {
            serving.trace.finish(entry, Some("the operation was to end".into()), |_| {});
            return Ok(Err(error));
        }
        let left = serving.left();
        let timeout = command.timeout_ms.map_or(left, |ms| Duration::from_millis(ms).min(left));
        let output_cap = serving.plugin.manifest().limits.command_output_bytes;
        let call = serving.tape.call(|| call(&command));
        let spec = Spec {
            paths: grant.paths,
            args: command.args,
            stdin,
            environment,
            timeout,
            output_cap: usize::try_from(output_cap).unwrap_or(usize::MAX),
            crowd: self.crowd.clone(),
        };
        Ok(Ok(Allowed { spec, call, entry, real }))
    }

    /// Note that a program may not run so; what the plugin gets.
    pub(super) fn deny<C: HostCall>(
        &self,
        command: &wit::Command,
        secrets: &[String],
        denial: Denial,
        call: impl Fn(&wit::Command) -> C,
    ) -> wasmtime::Result<wit::Error> {
        let serving = &self.serving;
        serving.trace.denied(C::NAME, detail(command, secrets, 0), &denial);
        serving.tape.denied(|| call(command), &denial.missing)?;
        Ok(wit::Error::Denied(denial.missing))
    }

    /// Run it to its end.
    pub(super) async fn run_allowed<C>(
        &mut self,
        allowed: Allowed<C>,
    ) -> wasmtime::Result<Result<wit::Output, wit::Error>>
    where
        C: HostCall<Returns = Output, Fails = CommandError>,
    {
        let Allowed { spec, call, entry, real } = allowed;
        let (trace, tape) = (&self.serving.trace, &self.serving.tape);
        if !real {
            trace.finish(entry, None, |_| {});
            let done = Ok(nothing());
            tape.would(call.as_ref(), &done)?;
            return Ok(done.map(wit_output).map_err(wit_error));
        }
        // What the trace tells and the plugin does not see.
        let mut ran = None;
        let live = async {
            let finished = process::run(spec, &self.serving.cancel).await;
            Ok(finished.map_err(CommandError::from).map(|mut finished| {
                ran = Some((show_path(&finished.path), finished.stdout_total, finished.stderr_total));
                let stdout = std::mem::take(&mut finished.stdout);
                let stderr = std::mem::take(&mut finished.stderr);
                finished.stdout = trace.redactor.output(stdout, finished.stdout_truncated);
                finished.stderr = trace.redactor.output(stderr, finished.stderr_truncated);
                Output::from(finished)
            }))
        };
        let done = tape.pass(call, live).await?;
        match &done {
            Ok(output) => trace.finish(entry, None, |detail| {
                set_status(detail, output.status);
                if let TraceDetail::Command { path, stdout_bytes, stderr_bytes, .. } = detail {
                    (*stdout_bytes, *stderr_bytes) =
                        (output.stdout.0.len() as u64, output.stderr.0.len() as u64);
                    if let Some((ran, stdout, stderr)) = ran {
                        (*path, *stdout_bytes, *stderr_bytes) = (Some(ran), stdout, stderr);
                    }
                }
            }),
            Err(error) => trace.finish(entry, Some(error.to_string()), |_| {}),
        }
        Ok(done.map(wit_output).map_err(wit_error))
    }
}

impl wit::Host for State {
    async fn run(&mut self, mut command: wit::Command) -> wasmtime::Result<Result<wit::Output, wit::Error>> {
        // The tape keeps it as it came.
        let stdin = self.serving.tape.is_on().then(|| command.stdin.clone()).flatten().map(Bytes);
        let given = Given::of(&mut command);
        let admitted = self.admit(command, given, |command| CommandsRun {
            program: command.program.clone(),
            args: command.args.clone(),
            stdin: stdin.clone(),
        })?;
        match admitted {
            Ok(allowed) => self.run_allowed(allowed).await,
            Err(error) => Ok(Err(error)),
        }
    }

    async fn spawn(
        &mut self,
        mut command: wit::Command,
    ) -> wasmtime::Result<Result<Resource<Process>, wit::Error>> {
        let stdin = self.serving.tape.is_on().then(|| command.stdin.clone()).flatten().map(Bytes);
        let given = Given::of(&mut command);
        let admitted = self.admit(command, given, |command| CommandsSpawn {
            program: command.program.clone(),
            args: command.args.clone(),
            stdin: stdin.clone(),
        })?;
        let Allowed { spec, call, entry, real } = match admitted {
            Ok(allowed) => allowed,
            Err(error) => return Ok(Err(error)),
        };
        let (trace, tape) = (self.serving.trace.clone(), &self.serving.tape);
        if !real {
            trace.finish(entry, None, |_| {});
            tape.would(call.as_ref(), &Err(CommandError::DryRun))?;
            return Ok(Err(wit::Error::DryRun));
        }
        let number = self.spawned + 1;
        let mut running = None;
        let live = async {
            let started = process::spawn(spec, &self.serving.cancel).await;
            Ok(started.map_err(CommandError::from).map(|started| {
                running = Some(started);
                Started { process: number }
            }))
        };
        match tape.pass(call, live).await? {
            Ok(Started { process: number }) => {
                self.spawned = number;
                let hidden = [(); 2].map(|()| Stream::new(trace.redactor.clone()));
                let process = Process { running, number, entry, trace, hidden, ended: false };
                Ok(Ok(self.table.push(process)?))
            }
            Err(error) => {
                trace.finish(entry, Some(error.to_string()), |_| {});
                Ok(Err(wit_error(error)))
            }
        }
    }
}

/// Where a tape answers, nothing runs, and this is not asked for.
fn live(running: &mut Option<Running>) -> wasmtime::Result<&mut Running> {
    running.as_mut().ok_or_else(|| wasmtime::Error::msg("this program is only played back"))
}

impl wit::HostProcess for State {
    async fn read(
        &mut self,
        process: Resource<Process>,
    ) -> wasmtime::Result<Result<Option<wit::Chunk>, wit::Error>> {
        let (process, tape) = (self.table.get_mut(&process)?, &self.serving.tape);
        let call = tape.call(|| ProcessRead { process: process.number });
        let (running, hidden) = (&mut process.running, &mut process.hidden);
        let live = async {
            loop {
                let read = live(running)?.read().await;
                let [stdout, stderr] = &mut *hidden;
                let chunk = match read {
                    Err(error) => return Ok(Err(CommandError::from(error))),
                    Ok(Some(chunk)) if chunk.stream == OutputStream::Stdout => {
                        Chunk::Stdout(Bytes(stdout.push(chunk.data)))
                    }
                    Ok(Some(chunk)) => Chunk::Stderr(Bytes(stderr.push(chunk.data))),
                    // What was held back.
                    Ok(None) => match (stdout.finish(), stderr.finish()) {
                        (rest, more) if rest.is_empty() && more.is_empty() => return Ok(Ok(None)),
                        (rest, more) if rest.is_empty() => Chunk::Stderr(Bytes(more)),
                        (rest, more) => {
                            stderr.put_back(more);
                            Chunk::Stdout(Bytes(rest))
                        }
                    },
                };
                // What may begin a secret waits for what follows.
                if let Chunk::Stdout(bytes) | Chunk::Stderr(bytes) = &chunk
                    && !bytes.0.is_empty()
                {
                    return Ok(Ok(Some(chunk)));
                }
            }
        };
        let chunk = match tape.pass(call, live).await? {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(process.failed(error))),
        };
        process.trace.update(process.entry, |detail| {
            if let TraceDetail::Command { stdout_bytes, stderr_bytes, .. } = detail {
                match &chunk {
                    Chunk::Stdout(bytes) => *stdout_bytes += bytes.0.len() as u64,
                    Chunk::Stderr(bytes) => *stderr_bytes += bytes.0.len() as u64,
                }
            }
        });
        Ok(Ok(Some(match chunk {
            Chunk::Stdout(data) => wit::Chunk { stream: wit::OutputStream::Stdout, data: data.0 },
            Chunk::Stderr(data) => wit::Chunk { stream: wit::OutputStream::Stderr, data: data.0 },
        })))
    }

    async fn wait(
        &mut self,
        process: Resource<Process>,
    ) -> wasmtime::Result<Result<wit::ExitStatus, wit::Error>> {
        let (process, tape) = (self.table.get_mut(&process)?, &self.serving.tape);
        let call = tape.call(|| ProcessWait { process: process.number });
        let running = &mut process.running;
        let live = async { Ok(live(running)?.wait().await.map(Ended::from).map_err(CommandError::from)) };
        Ok(match tape.pass(call, live).await? {
            Ok(status) => {
                process.ended = true;
                process.trace.finish(process.entry, None, |detail| set_status(detail, status));
                Ok(wit_status(status))
            }
            Err(error) => Err(process.failed(error)),
        })
    }

    async fn kill(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        let (process, tape) = (self.table.get_mut(&process)?, &self.serving.tape);
        let call = tape.call(|| ProcessKill { process: process.number });
        let running = &mut process.running;
        let live = async {
            live(running)?.kill();
            Ok(Ok(()))
        };
        tape.pass(call, live).await.map(|done| done.unwrap_or_else(|never| match never {}))
    }

    async fn drop(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        self.table.delete(process)?;
        Ok(())
    }
}

impl Process {
    fn failed(&mut self, error: CommandError) -> wit::Error {
        self.ended = true;
        self.trace.finish(self.entry, Some(error.to_string()), |_| {});
        wit_error(error)
    }
}
