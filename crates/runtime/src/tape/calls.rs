//! Every host call that brings information in or has an effect, as it stands in a cassette.
//!
//! Names and fields are those of `wit/host/`, in JSON's snake_case. Time limits of programs are
//! left out: they bring nothing in, and changing one should spoil no cassette.

use super::text::{Bytes, maybe_octal};
use crate::{
    os::{
        files::{Entry, FilesError, Metadata},
        process::{Finished, ProcessError, Status},
    },
    state::StateError,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use windlass_probes as probes;

/// A host call: what is asked, and the types of what comes back.
pub(crate) trait HostCall: Serialize + DeserializeOwned + PartialEq + Send {
    /// Its name, such as `commands.run`.
    const NAME: &'static str;
    type Returns: Serialize + DeserializeOwned + PartialEq + Send;
    type Fails: Serialize + DeserializeOwned + PartialEq + Send;
}

macro_rules! calls {
    ($($name:literal $call:ident { $($(#[$attr:meta])* $field:ident: $type:ty),* } -> $returns:ty, $fails:ty;)*) => {
        $(
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub(crate) struct $call { $($(#[$attr])* pub(crate) $field: $type),* }

            impl HostCall for $call {
                const NAME: &'static str = $name;
                type Returns = $returns;
                type Fails = $fails;
            }
        )*

        /// Names of all calls.
        pub(crate) const NAMES: &[&str] = &[$($name),*];

        /// What is wrong with an entry of this name; `None` where there is no such call.
        pub(super) fn check(name: &str, request: &RawValue, answer: &super::Answer) -> Option<Result<(), String>> {
            match name {
                $($name => Some(super::cassette::check::<$call>(request, answer)),)*
                _ => None,
            }
        }
    };
}

calls! {
    "commands.run" CommandsRun {
        program: String,
        args: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")] stdin: Option<Bytes>
    } -> Output, CommandError;
    "commands.spawn" CommandsSpawn {
        program: String,
        args: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")] stdin: Option<Bytes>
    } -> Started, CommandError;
    "secrets.run" SecretsRun {
        program: String,
        args: Vec<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")] stdin: Vec<Piece>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")] variables: Vec<Variable>
    } -> Output, CommandError;
    "process.read" ProcessRead { process: u32 } -> Option<Chunk>, CommandError;
    "process.wait" ProcessWait { process: u32 } -> Ended, CommandError;
    "process.kill" ProcessKill { process: u32 } -> (), Never;
    "files.read" FilesRead { path: String } -> Bytes, FilesError;
    "files.read-range" FilesReadRange { path: String, offset_bytes: u64, length_bytes: u64 } -> Bytes, FilesError;
    "files.write" FilesWrite {
        path: String,
        content: Bytes,
        #[serde(default, skip_serializing_if = "Option::is_none", with = "maybe_octal")] mode: Option<u32>
    } -> (), FilesError;
    "files.list" FilesList { path: String } -> Vec<Entry>, FilesError;
    "files.stat" FilesStat { path: String } -> Metadata, FilesError;
    "files.remove" FilesRemove { path: String } -> (), FilesError;
    "files.make-dir" FilesMakeDir { path: String, parents: bool } -> (), FilesError;
    "probes.system" ProbesSystem {} -> probes::SystemInfo, probes::ProbeError;
    "probes.cpu" ProbesCpu {} -> probes::CpuInfo, probes::ProbeError;
    "probes.memory" ProbesMemory {} -> probes::MemoryInfo, probes::ProbeError;
    "probes.pressure" ProbesPressure {} -> probes::PressureInfo, probes::ProbeError;
    "probes.block-devices" ProbesBlockDevices {} -> Vec<probes::BlockDevice>, probes::ProbeError;
    "probes.mounts" ProbesMounts {} -> Vec<probes::Mount>, probes::ProbeError;
    "probes.network" ProbesNetwork {} -> Vec<probes::NetworkInterface>, probes::ProbeError;
    "probes.sensors" ProbesSensors {} -> Vec<probes::Sensor>, probes::ProbeError;
    "state.get" StateGet { key: String } -> Option<Bytes>, StateError;
    "state.set" StateSet { key: String, value: Bytes } -> (), StateError;
    "state.remove" StateRemove { key: String } -> (), StateError;
    "state.keys" StateKeys { prefix: String } -> Vec<String>, StateError;
    "job.get-context" JobGetContext {} -> Context, Never;
    "job.is-cancelled" JobIsCancelled {} -> bool, Never;
}

/// A part of what a program reads. Of a secret a cassette has the handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Piece {
    Plain(Bytes),
    Secret(String),
}

/// A variable of a program's environment that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) secret: String,
}

/// For calls that do not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Never {}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Ended {
        match status {
            Status::Code(code) => Ended::Code(code),
            Status::Signal(signal) => Ended::Signal(signal),
        }
    }
}

/// What a program left behind. Of `code` and `signal` there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OutputText", into = "OutputText")]
pub(crate) struct Output {
    pub(crate) status: Ended,
    pub(crate) stdout: Bytes,
    pub(crate) stderr: Bytes,
    pub(crate) stdout_truncated: bool,
    pub(crate) stderr_truncated: bool,
    /// Not in the cassette.
    pub(crate) duration_ms: u64,
}

/// An [`Output`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(default)]
    stdout: Bytes,
    #[serde(default)]
    stderr: Bytes,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stdout_truncated: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stderr_truncated: bool,
}

impl From<Output> for OutputText {
    fn from(output: Output) -> OutputText {
        let (code, signal) = match output.status {
            Ended::Code(code) => (Some(code), None),
            Ended::Signal(signal) => (None, Some(signal)),
        };
        OutputText {
            code,
            signal,
            stdout: output.stdout,
            stderr: output.stderr,
            stdout_truncated: output.stdout_truncated,
            stderr_truncated: output.stderr_truncated,
        }
    }
}

impl TryFrom<OutputText> for Output {
    type Error = &'static str;

    fn try_from(text: OutputText) -> Result<Output, &'static str> {
        let status = match (text.code, text.signal) {
            (Some(code), None) => Ended::Code(code),
            (None, Some(signal)) => Ended::Signal(signal),
            _ => return Err("a program ends with a `code` or with a `signal`"),
        };
        Ok(Output {
            status,
            stdout: text.stdout,
            stderr: text.stderr,
            stdout_truncated: text.stdout_truncated,
            stderr_truncated: text.stderr_truncated,
            duration_ms: 0,
        })
    }
}

impl From<Finished> for Output {
    fn from(finished: Finished) -> Output {
        Output {
            status: finished.status.into(),
            stdout: Bytes(finished.stdout),
            stderr: Bytes(finished.stderr),
            stdout_truncated: finished.stdout_truncated,
            stderr_truncated: finished.stderr_truncated,
            duration_ms: u64::try_from(finished.duration.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A program that runs, by its number: the first that a call starts is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Started {
    pub(crate) process: u32,
}

/// Some bytes that a running program printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// Why a program did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandError {
    #[error("none of these exists: {0}")]
    NotFound(String),
    #[error("timed out after {0} ms")]
    TimedOut(u64),
    #[error("cancelled")]
    Cancelled,
    #[error("not started: this is a dry run")]
    DryRun,
    #[error("{0}")]
    Other(String),
}

impl From<ProcessError> for CommandError {
    fn from(error: ProcessError) -> CommandError {
        match error {
            ProcessError::NotFound { tried } => {
                let tried: Vec<String> = tried.iter().map(|path| path.display().to_string()).collect();
                CommandError::NotFound(tried.join(", "))
            }
            ProcessError::TimedOut(limit) => {
                CommandError::TimedOut(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
            }
            ProcessError::Cancelled => CommandError::Cancelled,
            ProcessError::TooManyProcesses { .. } => {
                CommandError::Other(format!("{error} (`limits.processes` in the manifest)"))
            }
            ProcessError::Unsafe { .. } | ProcessError::TooManyPrograms => {
                CommandError::Other(error.to_string())
            }
            ProcessError::Io { ref source, .. } => CommandError::Other(format!("{error}: {source}")),
        }
    }
}

/// What a cassette keeps of the context of a job: who called. The rest belongs to the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) job_id: String,
    pub(crate) node_id: String,
    pub(crate) node_name: String,
}
