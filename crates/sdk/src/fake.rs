//! A host for tests: a script of what the plugin asks, and what it is answered.
//!
//! The order is strict, and so is every argument. A plugin that asks for something else, for more or
//! for less fails the test, with both calls side by side.
//!
//! ```
//! use windlass_sdk::{Command, Error, fake};
//!
//! fn pools() -> Result<Vec<String>, Error> {
//!     let output = Command::new("zpool").args(["list", "-H", "-o", "name"]).run()?.success()?;
//!     Ok(output.lines()?.map(str::to_owned).collect())
//! }
//!
//! let found = fake::Host::new()
//!     .command("zpool", ["list", "-H", "-o", "name"])
//!     .prints("rpool\ntank\n")
//!     .run(pools);
//! assert_eq!(found, Ok(vec!["rpool".to_owned(), "tank".to_owned()]));
//!
//! let denied = fake::Host::new()
//!     .command("zpool", ["list", "-H", "-o", "name"])
//!     .denied("no rule for `zpool list`")
//!     .run(pools);
//! assert_eq!(denied, Err(Error::Denied("no rule for `zpool list`".into())));
//! ```
//!
//! A host is for one thread, so tests can run side by side. What a job is, and where it logs, is no
//! part of the order: see [`Host::configuration`], [`Host::record`].

mod host;
mod script;
#[cfg(test)]
mod tests;

pub(crate) use host::{commands, files, job, log, output, probes, secrets, state};
pub use script::{Call, Failure};

use crate::{
    __bindings::windlass::host::{
        commands::{Chunk, Command, Error as CommandError, ExitStatus, OutputStream},
        files::{Entry, Error as FileError, Kind, Metadata},
        job::Context,
        probes::Error as ProbeError,
        secrets::{Piece, Secret},
        state::Error as StateError,
    },
    log::Level,
    probes::{BlockDevice, CpuInfo, MemoryInfo, Mount, NetworkInterface, PressureInfo, Sensor, SystemInfo},
};
use script::{Answer, Expected, Installed, Reading, Script, Step};

/// A script of what a plugin asks its host.
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct Host(Script);

/// What a plugin did besides what it returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// What it asked, in order.
    pub calls: Vec<Call>,
    /// The progress it told: what it did, and how much of it, in percent.
    pub progress: Vec<(String, Option<u8>)>,
    /// The lines it logged.
    pub log: Vec<(Level, String)>,
    /// What it printed for whoever watches.
    pub output: Vec<u8>,
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

/// How the script is run.
impl Host {
    /// A host that is asked nothing.
    pub fn new() -> Host {
        Host(Script::default())
    }

    /// Run this with the host in place.
    ///
    /// # Panics
    /// If something else is asked than the script says, or if not all of it is asked.
    pub fn run<T>(self, plugin: impl FnOnce() -> T) -> T {
        self.record(plugin).0
    }

    /// [`Host::run`], and what was asked, told and logged.
    ///
    /// # Panics
    /// As [`Host::run`].
    pub fn record<T>(self, plugin: impl FnOnce() -> T) -> (T, Record) {
        let installed = Installed::new(self.0);
        let result = plugin();
        (result, installed.finish())
    }
}

/// Programs.
impl Host {
    /// The plugin runs a program with these arguments. Unless more is said, it prints nothing and exits
    /// with status 0. The time limit may be any; [`Host::record`] tells it.
    pub fn command<A: Into<String>>(
        self,
        program: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Host {
        self.expect(Call::Run(command(program, args)), Answer::ended())
    }

    /// The plugin starts a program and goes on. Each [`Host::prints`] is one piece of what it prints.
    pub fn spawn<A: Into<String>>(
        self,
        program: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Host {
        self.expect(Call::Spawn(command(program, args)), Answer::ended())
    }

    /// The plugin runs a program, whatever it is. For tests that look at [`Record::calls`].
    pub fn any_command(mut self) -> Host {
        self.0.steps.push_back(Step { expected: Expected::AnyCommand, answer: Answer::ended() });
        self
    }

    /// The program is given this on standard input. Where it is not said, it must be given nothing.
    pub fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Host {
        match self.last("stdin") {
            Step { expected: Expected::Is(Call::Run(command) | Call::Spawn(command)), .. } => {
                command.stdin = Some(bytes.as_ref().to_vec());
            }
            step => panic!("`stdin` is for programs, not for {}", step.expected),
        }
        self
    }

    /// The program is given these pieces, secrets among them, on standard input.
    pub fn stdin_with(mut self, pieces: impl IntoIterator<Item = Piece>) -> Host {
        let (stdin, _) = self.secrets("stdin_with");
        *stdin = pieces.into_iter().collect();
        self
    }

    /// The program is given a secret in a variable of its environment.
    pub fn env_secret(mut self, name: impl Into<String>, value: &Secret) -> Host {
        let (_, variables) = self.secrets("env_secret");
        variables.push((name.into(), value.secret_handle.clone()));
        self
    }

    fn secrets(&mut self, method: &str) -> (&mut Vec<Piece>, &mut Vec<(String, String)>) {
        let step = self.last(method);
        if let Expected::Is(Call::Run(command)) = &step.expected {
            let command = command.clone();
            step.expected = Expected::Is(Call::RunWith { command, stdin: Vec::new(), variables: Vec::new() });
        }
        match step {
            Step { expected: Expected::Is(Call::RunWith { stdin, variables, .. }), .. } => (stdin, variables),
            step => panic!("`{method}` is for programs that are run, not for {}", step.expected),
        }
    }

    /// The program prints this on standard output.
    pub fn prints(self, stdout: impl AsRef<[u8]>) -> Host {
        self.printed(OutputStream::Stdout, stdout.as_ref())
    }

    /// The program prints this on standard error.
    pub fn complains(self, stderr: impl AsRef<[u8]>) -> Host {
        self.printed(OutputStream::Stderr, stderr.as_ref())
    }

    /// The program exits with this status.
    pub fn exits(self, code: i32) -> Host {
        self.ended("exits", ExitStatus::Code(code))
    }

    /// The program is ended by this signal.
    pub fn killed(self, signal: i32) -> Host {
        self.ended("killed", ExitStatus::Signal(signal))
    }

    /// The program prints more on standard output than the limit of the plugin allows: what
    /// [`Host::prints`] says is only its beginning.
    pub fn truncated(mut self) -> Host {
        match self.last("truncated") {
            Step { answer: Answer::Ended { truncated, .. }, .. } => *truncated = true,
            step => panic!("`truncated` is for programs, not for {}", step.expected),
        }
        self
    }

    fn printed(mut self, stream: OutputStream, bytes: &[u8]) -> Host {
        match self.last("prints") {
            Step { answer: Answer::Ended { chunks, .. }, .. } => {
                chunks.push(Chunk { stream, data: bytes.to_vec() });
            }
            step => panic!("only programs print, not {}", step.expected),
        }
        self
    }

    fn ended(mut self, method: &str, with: ExitStatus) -> Host {
        match self.last(method) {
            Step { answer: Answer::Ended { status, .. }, .. } => *status = with,
            step => panic!("`{method}` is for programs, not for {}", step.expected),
        }
        self
    }
}

/// Calls that fail, of whatever kind.
impl Host {
    /// The call before is denied, for this reason.
    pub fn denied(mut self, why: impl Into<String>) -> Host {
        let why = why.into();
        let step = self.last("denied");
        step.answer = Answer::Fails(match step.expected.kind() {
            script::Kind::Command => CommandError::Denied(why).into(),
            script::Kind::File => FileError::Denied(why).into(),
            script::Kind::Probe => ProbeError::Denied(why).into(),
            script::Kind::State => StateError::Denied(why).into(),
        });
        self
    }

    /// The program or path of the call before is not on this node.
    pub fn not_found(mut self) -> Host {
        let step = self.last("not_found");
        step.answer = Answer::Fails(match step.expected.kind() {
            script::Kind::Command => CommandError::NotFound("the program is not on this node".into()).into(),
            script::Kind::File => FileError::NotFound.into(),
            script::Kind::Probe | script::Kind::State => {
                panic!("`not_found` is for programs and files, not for {}", step.expected)
            }
        });
        self
    }

    /// The call before fails so: a [`CommandError`], a
    /// [`FileError`], a [`ProbeError`] or a
    /// [`StateError`].
    pub fn fails(mut self, error: impl Into<Failure>) -> Host {
        let step = self.last("fails");
        let error = error.into();
        assert_eq!(step.expected.kind(), error.kind(), "{} can not fail with {error:?}", step.expected);
        step.answer = Answer::Fails(error);
        self
    }
}

/// Files.
impl Host {
    /// The plugin reads a file, and finds this in it.
    pub fn read_file(self, path: impl Into<String>, content: impl AsRef<[u8]>) -> Host {
        self.expect(Call::Read(path.into()), Answer::Bytes(content.as_ref().to_vec()))
    }

    /// The plugin reads a part of a file, and finds this in it.
    pub fn read_range(
        self,
        path: impl Into<String>,
        offset_bytes: u64,
        length_bytes: u64,
        content: impl AsRef<[u8]>,
    ) -> Host {
        let call = Call::ReadRange { path: path.into(), offset_bytes, length_bytes };
        self.expect(call, Answer::Bytes(content.as_ref().to_vec()))
    }

    /// The plugin writes a file, without a word on its mode.
    pub fn write_file(self, path: impl Into<String>, content: impl AsRef<[u8]>) -> Host {
        let call = Call::Write { path: path.into(), content: content.as_ref().to_vec(), mode: None };
        self.expect(call, Answer::Done)
    }

    /// The plugin writes a file with these permission bits.
    pub fn write_file_with_mode(self, path: impl Into<String>, content: impl AsRef<[u8]>, mode: u32) -> Host {
        let call = Call::Write { path: path.into(), content: content.as_ref().to_vec(), mode: Some(mode) };
        self.expect(call, Answer::Done)
    }

    /// The plugin lists a directory, and finds this in it.
    pub fn list_dir<N: Into<String>>(
        self,
        path: impl Into<String>,
        entries: impl IntoIterator<Item = (N, Kind)>,
    ) -> Host {
        let entries = entries.into_iter().map(|(name, kind)| Entry { name: name.into(), kind }).collect();
        self.expect(Call::List(path.into()), Answer::Entries(entries))
    }

    /// The plugin looks at a path, and finds this there.
    pub fn stat(self, path: impl Into<String>, metadata: Metadata) -> Host {
        self.expect(Call::Stat(path.into()), Answer::Metadata(metadata))
    }

    /// The plugin removes what stands at a path.
    pub fn remove(self, path: impl Into<String>) -> Host {
        self.expect(Call::Remove(path.into()), Answer::Done)
    }

    /// The plugin makes a directory.
    pub fn make_dir(self, path: impl Into<String>) -> Host {
        self.expect(Call::MakeDir { path: path.into(), parents: false }, Answer::Done)
    }

    /// The plugin makes a directory with its parents.
    pub fn make_dir_all(self, path: impl Into<String>) -> Host {
        self.expect(Call::MakeDir { path: path.into(), parents: true }, Answer::Done)
    }
}

/// Probes.
impl Host {
    /// The plugin asks a probe by the name of its function, which must be said to fail next:
    /// `.probe("pressure").fails(ProbeError::Unsupported(…))`.
    pub fn probe(self, name: impl Into<String>) -> Host {
        self.expect(Call::Probe(name.into()), Answer::Done)
    }
}

macro_rules! probes {
    ($($name:ident $variant:ident $answer:ty;)+) => {
        /// Probes that answer.
        impl Host {$(
            #[doc = concat!("The plugin asks the probe `", stringify!($name), "`, and is told this.")]
            pub fn $name(self, answer: $answer) -> Host {
                self.expect(Call::Probe(stringify!($name).into()), Answer::Reading(Reading::$variant(answer)))
            }
        )+}
    };
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

/// State.
impl Host {
    /// The plugin gets a value of its store.
    pub fn get_state<V: AsRef<[u8]>>(self, key: impl Into<String>, value: Option<V>) -> Host {
        let value = value.map(|value| value.as_ref().to_vec());
        self.expect(Call::Get(key.into()), Answer::Value(value))
    }

    /// The plugin sets a value of its store.
    pub fn set_state(self, key: impl Into<String>, value: impl AsRef<[u8]>) -> Host {
        self.expect(Call::Set { key: key.into(), value: value.as_ref().to_vec() }, Answer::Done)
    }

    /// The plugin removes a value of its store.
    pub fn remove_state(self, key: impl Into<String>) -> Host {
        self.expect(Call::Unset(key.into()), Answer::Done)
    }

    /// The plugin lists the keys of its store that begin so.
    pub fn state_keys<K: Into<String>>(
        self,
        prefix: impl Into<String>,
        keys: impl IntoIterator<Item = K>,
    ) -> Host {
        let keys = keys.into_iter().map(Into::into).collect();
        self.expect(Call::Keys(prefix.into()), Answer::Keys(keys))
    }
}

/// The job. These are no calls: they have no place in the order.
impl Host {
    /// The plugin's configuration on this node, as JSON text. `{}` unless it is said.
    pub fn configuration(mut self, json: impl Into<String>) -> Host {
        self.0.context.configuration = json.into();
        self
    }

    /// The job is a dry run. What the host answers then is up to the script.
    pub fn dry_run(mut self) -> Host {
        self.0.context.dry_run = true;
        self
    }

    /// All that the plugin is told of its job.
    pub fn context(mut self, context: Context) -> Host {
        self.0.context = context;
        self
    }

    /// The job is cancelled when the plugin has asked so many times whether it is.
    pub fn cancelled_after(mut self, asked: u32) -> Host {
        self.0.cancelled_after = Some(asked);
        self
    }
}

impl Host {
    fn expect(mut self, call: Call, answer: Answer) -> Host {
        self.0.steps.push_back(Step { expected: Expected::Is(call), answer });
        self
    }

    fn last(&mut self, method: &str) -> &mut Step {
        let Some(step) = self.0.steps.back_mut() else {
            panic!("`{method}` speaks of the call before it, and there is none")
        };
        step
    }
}

fn command<A: Into<String>>(program: impl Into<String>, args: impl IntoIterator<Item = A>) -> Command {
    Command {
        program: program.into(),
        args: args.into_iter().map(Into::into).collect(),
        stdin: None,
        timeout_ms: None,
    }
}
