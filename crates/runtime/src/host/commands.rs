//! `windlass:host/commands`.

use super::{State, Stop, api::windlass::host::commands as wit, show_path};
use crate::{
    os::process::{self, OutputStream, ProcessError, Running, Spec, Status},
    trace::Entry,
};
use std::{sync::Arc, time::Duration};
use wasmtime::component::Resource;
use windlass_types::{Denial, trace::TraceDetail};

/// A program that a plugin started with `spawn`.
pub struct Process {
    running: Running,
    entry: Entry,
    trace: Arc<crate::trace::Recorder>,
    ended: bool,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.trace.finish(self.entry, Some("it was dropped before its end".into()), |_| {});
        }
    }
}

/// A call that is allowed.
struct Allowed {
    spec: Spec,
    entry: Entry,
    /// False in a dry run, for what changes something.
    real: bool,
}

fn detail(command: &wit::Command) -> TraceDetail {
    TraceDetail::Command {
        program: command.program.clone(),
        path: None,
        argv: command.args.clone(),
        exit: None,
        signal: None,
        stdin_bytes: command.stdin.as_ref().map_or(0, |stdin| stdin.len() as u64),
        stdout_bytes: 0,
        stderr_bytes: 0,
    }
}

fn set_status(detail: &mut TraceDetail, status: Status) {
    if let TraceDetail::Command { exit, signal, .. } = detail {
        match status {
            Status::Code(code) => *exit = Some(code),
            Status::Signal(number) => *signal = Some(number),
        }
    }
}

fn wit_status(status: Status) -> wit::ExitStatus {
    match status {
        Status::Code(code) => wit::ExitStatus::Code(code),
        Status::Signal(signal) => wit::ExitStatus::Signal(signal),
    }
}

fn wit_error(error: &ProcessError) -> wit::Error {
    match error {
        ProcessError::NotFound { tried } => {
            wit::Error::NotFound(tried.iter().map(|path| show_path(path)).collect::<Vec<_>>().join(", "))
        }
        ProcessError::TimedOut(limit) => {
            wit::Error::TimedOut(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        }
        ProcessError::Cancelled => wit::Error::Cancelled,
        ProcessError::Unsafe { .. } => wit::Error::Other(error.to_string()),
        ProcessError::Io { source, .. } => wit::Error::Other(format!("{error}: {source}")),
    }
}

impl State {
    /// Everything that comes before a program is started.
    fn admit(
        &self,
        function: &'static str,
        command: wit::Command,
    ) -> wasmtime::Result<Result<Allowed, wit::Error>> {
        let serving = &self.serving;
        serving.check_size("input of a program", command.stdin.as_ref().map_or(0, Vec::len))?;
        let grant = match serving.grants.command(&command.program, &command.args, serving.effect) {
            Ok(grant) => grant,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                serving.trace.denied(function, detail(&command), &denial);
                return Ok(Err(wit::Error::Denied(denial.missing)));
            }
        };
        let (verdict, real) = serving.verdict(grant.rule, grant.effect);
        let entry = serving.trace.begin(function, detail(&command), verdict);
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
        let spec = Spec {
            paths: grant.paths,
            args: command.args,
            stdin: command.stdin.unwrap_or_default(),
            timeout,
            output_cap: usize::try_from(output_cap).unwrap_or(usize::MAX),
        };
        Ok(Ok(Allowed { spec, entry, real }))
    }
}

impl wit::Host for State {
    async fn run(&mut self, command: wit::Command) -> wasmtime::Result<Result<wit::Output, wit::Error>> {
        let Allowed { spec, entry, real } = match self.admit("commands.run", command)? {
            Ok(allowed) => allowed,
            Err(error) => return Ok(Err(error)),
        };
        let trace = &self.serving.trace;
        if !real {
            trace.finish(entry, None, |_| {});
            return Ok(Ok(wit::Output {
                status: wit::ExitStatus::Code(0),
                stdout: Vec::new(),
                stderr: Vec::new(),
                stdout_truncated: false,
                stderr_truncated: false,
                duration_ms: 0,
            }));
        }
        match process::run(spec, &self.serving.cancel).await {
            Ok(finished) => {
                trace.finish(entry, None, |detail| {
                    set_status(detail, finished.status);
                    if let TraceDetail::Command { path, stdout_bytes, stderr_bytes, .. } = detail {
                        *path = Some(show_path(&finished.path));
                        *stdout_bytes = finished.stdout_total;
                        *stderr_bytes = finished.stderr_total;
                    }
                });
                Ok(Ok(wit::Output {
                    status: wit_status(finished.status),
                    stdout: finished.stdout,
                    stderr: finished.stderr,
                    stdout_truncated: finished.stdout_truncated,
                    stderr_truncated: finished.stderr_truncated,
                    duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
                }))
            }
            Err(error) => {
                let text = format!("{error}");
                trace.finish(entry, Some(text), |_| {});
                Ok(Err(wit_error(&error)))
            }
        }
    }

    async fn spawn(
        &mut self,
        command: wit::Command,
    ) -> wasmtime::Result<Result<Resource<Process>, wit::Error>> {
        let Allowed { spec, entry, real } = match self.admit("commands.spawn", command)? {
            Ok(allowed) => allowed,
            Err(error) => return Ok(Err(error)),
        };
        let trace = self.serving.trace.clone();
        if !real {
            trace.finish(entry, None, |_| {});
            return Ok(Err(wit::Error::DryRun));
        }
        match process::spawn(spec, &self.serving.cancel).await {
            Ok(running) => {
                let process = Process { running, entry, trace, ended: false };
                Ok(Ok(self.table.push(process)?))
            }
            Err(error) => {
                trace.finish(entry, Some(error.to_string()), |_| {});
                Ok(Err(wit_error(&error)))
            }
        }
    }
}

impl wit::HostProcess for State {
    async fn read(
        &mut self,
        process: Resource<Process>,
    ) -> wasmtime::Result<Result<Option<wit::Chunk>, wit::Error>> {
        let process = self.table.get_mut(&process)?;
        Ok(match process.running.read().await {
            Ok(Some(chunk)) => {
                let bytes = chunk.data.len() as u64;
                process.trace.update(process.entry, |detail| {
                    if let TraceDetail::Command { stdout_bytes, stderr_bytes, .. } = detail {
                        match chunk.stream {
                            OutputStream::Stdout => *stdout_bytes += bytes,
                            OutputStream::Stderr => *stderr_bytes += bytes,
                        }
                    }
                });
                let stream = match chunk.stream {
                    OutputStream::Stdout => wit::OutputStream::Stdout,
                    OutputStream::Stderr => wit::OutputStream::Stderr,
                };
                Ok(Some(wit::Chunk { stream, data: chunk.data }))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(process.failed(&error)),
        })
    }

    async fn wait(
        &mut self,
        process: Resource<Process>,
    ) -> wasmtime::Result<Result<wit::ExitStatus, wit::Error>> {
        let process = self.table.get_mut(&process)?;
        Ok(match process.running.wait().await {
            Ok(status) => {
                process.ended = true;
                process.trace.finish(process.entry, None, |detail| set_status(detail, status));
                Ok(wit_status(status))
            }
            Err(error) => Err(process.failed(&error)),
        })
    }

    async fn kill(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        self.table.get_mut(&process)?.running.kill();
        Ok(())
    }

    async fn drop(&mut self, process: Resource<Process>) -> wasmtime::Result<()> {
        self.table.delete(process)?;
        Ok(())
    }
}

impl Process {
    fn failed(&mut self, error: &ProcessError) -> wit::Error {
        self.ended = true;
        self.trace.finish(self.entry, Some(error.to_string()), |_| {});
        wit_error(error)
    }
}
