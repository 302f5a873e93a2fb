//! The functions of `windlass:host`, answered by the script of the test.

use super::script::{Answer, Call, Failure, Reading, answer, is_there, with};

/// The builder gives each call an answer of its kind. What it can not know is a probe that was never
/// said to fail.
macro_rules! answered {
    ($call:expr, $failure:ident, $($answer:pat => $value:expr),+ $(,)?) => {{
        let call = $call;
        let name = call.to_string();
        match answer(call) {
            $($answer => Ok($value),)+
            Answer::Fails(Failure::$failure(error)) => Err(error),
            other => panic!("`{name}` has no answer, but {other:?}"),
        }
    }};
}

pub(crate) mod commands {
    use super::*;
    use crate::__bindings::windlass::host::commands as wit;
    use std::{cell::RefCell, collections::VecDeque};

    pub(crate) fn run(command: &wit::Command) -> Result<wit::Output, wit::Error> {
        ended(Call::Run(command.clone()))
    }

    pub(super) fn ended(call: Call) -> Result<wit::Output, wit::Error> {
        answered!(call, Command, Answer::Ended { chunks, status, truncated } => {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            for chunk in chunks {
                match chunk.stream {
                    wit::OutputStream::Stdout => stdout.extend(chunk.data),
                    wit::OutputStream::Stderr => stderr.extend(chunk.data),
                }
            }
            wit::Output {
                status,
                stdout,
                stderr,
                stdout_truncated: truncated,
                stderr_truncated: false,
                duration_ms: 0,
            }
        })
    }

    pub(crate) fn spawn(command: &wit::Command) -> Result<Process, wit::Error> {
        answered!(Call::Spawn(command.clone()), Command, Answer::Ended { chunks, status, .. } => {
            Process { chunks: RefCell::new(chunks.into()), status }
        })
    }

    #[derive(Debug)]
    pub(crate) struct Process {
        chunks: RefCell<VecDeque<wit::Chunk>>,
        status: wit::ExitStatus,
    }

    impl Process {
        #[expect(clippy::unnecessary_wraps, reason = "as the host has it")]
        pub(crate) fn read(&self) -> Result<Option<wit::Chunk>, wit::Error> {
            Ok(self.chunks.borrow_mut().pop_front())
        }

        #[expect(clippy::unnecessary_wraps, reason = "as the host has it")]
        pub(crate) fn wait(&self) -> Result<wit::ExitStatus, wit::Error> {
            Ok(self.status)
        }

        pub(crate) fn kill(&self) {
            self.chunks.borrow_mut().clear();
        }
    }
}

pub(crate) mod secrets {
    use super::*;
    use crate::__bindings::windlass::host::{
        commands::{Command, Error, Output},
        secrets::{Piece, Variable},
    };

    pub(crate) fn run(command: &Command, stdin: &[Piece], variables: &[Variable]) -> Result<Output, Error> {
        let variables = variables
            .iter()
            .map(|variable| (variable.name.clone(), variable.value.secret_handle.clone()))
            .collect();
        commands::ended(Call::RunWith { command: command.clone(), stdin: stdin.to_vec(), variables })
    }
}

pub(crate) mod files {
    use super::*;
    use crate::__bindings::windlass::host::files::{Entry, Error, Metadata};

    pub(crate) fn read(path: &str) -> Result<Vec<u8>, Error> {
        answered!(Call::Read(path.into()), File, Answer::Bytes(bytes) => bytes)
    }

    pub(crate) fn read_range(path: &str, offset_bytes: u64, length_bytes: u64) -> Result<Vec<u8>, Error> {
        let call = Call::ReadRange { path: path.into(), offset_bytes, length_bytes };
        answered!(call, File, Answer::Bytes(bytes) => bytes)
    }

    pub(crate) fn write(path: &str, content: &[u8], mode: Option<u32>) -> Result<(), Error> {
        let call = Call::Write { path: path.into(), content: content.to_vec(), mode };
        answered!(call, File, Answer::Done => ())
    }

    pub(crate) fn list(path: &str) -> Result<Vec<Entry>, Error> {
        answered!(Call::List(path.into()), File, Answer::Entries(entries) => entries)
    }

    pub(crate) fn stat(path: &str) -> Result<Metadata, Error> {
        answered!(Call::Stat(path.into()), File, Answer::Metadata(metadata) => metadata)
    }

    pub(crate) fn remove(path: &str) -> Result<(), Error> {
        answered!(Call::Remove(path.into()), File, Answer::Done => ())
    }

    pub(crate) fn make_dir(path: &str, parents: bool) -> Result<(), Error> {
        answered!(Call::MakeDir { path: path.into(), parents }, File, Answer::Done => ())
    }
}

pub(crate) mod probes {
    use super::*;
    use crate::__bindings::windlass::host::probes::{
        BlockDevice, CpuInfo, Error, MemoryInfo, Mount, NetworkInterface, PressureInfo, Sensor, SystemInfo,
    };

    macro_rules! probes {
        ($($name:ident $variant:ident $answer:ty;)+) => {$(
            pub(crate) fn $name() -> Result<$answer, Error> {
                let call = Call::Probe(stringify!($name).into());
                answered!(call, Probe, Answer::Reading(Reading::$variant(reading)) => reading)
            }
        )+};
    }
    probes! {
        system System SystemInfo;
        cpu Cpu CpuInfo;
        memory Memory MemoryInfo;
        pressure Pressure PressureInfo;
        block_devices BlockDevices Vec<BlockDevice>;
        mounts Mounts Vec<Mount>;
        network Network Vec<NetworkInterface>;
        sensors Sensors Vec<Sensor>;
    }
}

pub(crate) mod state {
    use super::*;
    use crate::__bindings::windlass::host::state::Error;

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        answered!(Call::Get(key.into()), State, Answer::Value(value) => value)
    }

    pub(crate) fn set(key: &str, value: &[u8]) -> Result<(), Error> {
        answered!(Call::Set { key: key.into(), value: value.to_vec() }, State, Answer::Done => ())
    }

    pub(crate) fn remove(key: &str) -> Result<(), Error> {
        answered!(Call::Unset(key.into()), State, Answer::Done => ())
    }

    pub(crate) fn keys(prefix: &str) -> Result<Vec<String>, Error> {
        answered!(Call::Keys(prefix.into()), State, Answer::Keys(keys) => keys)
    }
}

pub(crate) mod job {
    use super::*;
    use crate::__bindings::windlass::host::job::Context;
    pub(crate) use crate::__bindings::windlass::host::job::ProgressReport;

    pub(crate) fn get_context() -> Context {
        with("the context of the job", |script| script.context.clone())
    }

    /// The host ends the operation when it is told of progress in a cancelled job.
    pub(crate) fn progress(report: &ProgressReport) {
        with("progress", |script| {
            assert!(
                !script.is_cancelled(),
                "progress in a job that was cancelled: here the host ends the operation"
            );
            script.progress.push((report.message.clone(), report.percent));
        });
    }

    pub(crate) fn is_cancelled() -> bool {
        with("whether the job is cancelled", |script| {
            script.asked_if_cancelled += 1;
            script.is_cancelled()
        })
    }
}

pub(crate) mod output {
    use super::*;
    use crate::__bindings::windlass::host::output::Error;

    pub(crate) fn write(data: &[u8]) -> Result<(), Error> {
        with("output", |script| {
            if script.is_cancelled() {
                return Err(Error::Cancelled);
            }
            script.output.extend_from_slice(data);
            Ok(())
        })
    }
}

pub(crate) mod log {
    use super::*;
    use crate::log::Level;

    /// Pure functions may log, and are tested without a host: their lines go where those of tests go.
    pub(crate) fn write(level: Level, message: &str) {
        if is_there() {
            with("a line for the log", |script| script.log.push((level, message.to_owned())));
        } else {
            eprintln!("{level:?}: {message}");
        }
    }
}
