//! The script that a fake host follows, and what it says when a plugin does not.

use super::Record;
use crate::{
    __bindings::windlass::host::{commands, files, job::Context, probes, secrets::Piece, state},
    command::line,
    log::Level,
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt::{self, Display},
};

/// Something a plugin asks its host.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// Run a program.
    Run(commands::Command),
    /// Run a program with secrets.
    RunWith {
        /// The program.
        command: commands::Command,
        /// What it reads.
        stdin: Vec<Piece>,
        /// Variables of its environment, with the handles of their secrets.
        variables: Vec<(String, String)>,
    },
    /// Start a program.
    Spawn(commands::Command),
    /// Read a file.
    Read(String),
    /// Read a part of a file.
    ReadRange {
        /// The file.
        path: String,
        /// Where to begin.
        offset_bytes: u64,
        /// How much.
        length_bytes: u64,
    },
    /// Write a file.
    Write {
        /// The file.
        path: String,
        /// What is written.
        content: Vec<u8>,
        /// Its permission bits.
        mode: Option<u32>,
    },
    /// List a directory.
    List(String),
    /// Look at a path.
    Stat(String),
    /// Remove what stands at a path.
    Remove(String),
    /// Make a directory.
    MakeDir {
        /// The directory.
        path: String,
        /// Its parents too.
        parents: bool,
    },
    /// Ask a probe, by the name of its function.
    Probe(String),
    /// Get a value of the store.
    Get(String),
    /// Set a value of the store.
    Set {
        /// Its key.
        key: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Remove a value of the store.
    Unset(String),
    /// List the keys that begin so.
    Keys(String),
}

/// What a call is about, and so how it can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    File,
    Probe,
    State,
}

impl Call {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Call::Run(_) | Call::RunWith { .. } | Call::Spawn(_) => Kind::Command,
            Call::Probe(_) => Kind::Probe,
            Call::Get(_) | Call::Set { .. } | Call::Unset(_) | Call::Keys(_) => Kind::State,
            _ => Kind::File,
        }
    }
}

/// The call for people: a command line as it is, and for anything else what it does.
impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Run(command) | Call::Spawn(command) => {
                if matches!(self, Call::Spawn(_)) {
                    f.write_str("start of ")?;
                }
                f.write_str(&line(&command.program, &command.args))?;
                match &command.stdin {
                    Some(bytes) => write!(f, ", given {}", shown(bytes)),
                    None => Ok(()),
                }
            }
            Call::RunWith { command, stdin, variables } => {
                f.write_str(&line(&command.program, &command.args))?;
                for piece in stdin {
                    match piece {
                        Piece::Plain(bytes) => write!(f, ", given {}", shown(bytes))?,
                        Piece::Secret(secret) => write!(f, ", given the secret {}", secret.secret_handle)?,
                    }
                }
                variables.iter().try_for_each(|(name, secret)| write!(f, ", with {secret} in {name}"))
            }
            Call::Read(path) => write!(f, "read of {path}"),
            Call::ReadRange { path, offset_bytes, length_bytes } => {
                write!(f, "read of {length_bytes} bytes of {path} from byte {offset_bytes}")
            }
            Call::Write { path, content, mode } => {
                write!(f, "write of {} to {path}", shown(content))?;
                mode.map_or(Ok(()), |mode| write!(f, " with mode {mode:#o}"))
            }
            Call::List(path) => write!(f, "list of {path}"),
            Call::Stat(path) => write!(f, "look at {path}"),
            Call::Remove(path) => write!(f, "removal of {path}"),
            Call::MakeDir { path, parents: false } => write!(f, "new directory {path}"),
            Call::MakeDir { path, parents: true } => write!(f, "new directory {path} with its parents"),
            Call::Probe(name) => write!(f, "probe {name}"),
            Call::Get(key) => write!(f, "value of the key {key:?}"),
            Call::Set { key, value } => write!(f, "new value {} of the key {key:?}", shown(value)),
            Call::Unset(key) => write!(f, "removal of the key {key:?}"),
            Call::Keys(prefix) => write!(f, "keys that begin with {prefix:?}"),
        }
    }
}

/// Bytes for people.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{bytes:?}"),
    }
}

/// A call that a script waits for.
#[derive(Debug)]
pub(super) enum Expected {
    Is(Call),
    AnyCommand,
}

impl Expected {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Expected::Is(call) => call.kind(),
            Expected::AnyCommand => Kind::Command,
        }
    }

    fn fits(&self, call: &Call) -> bool {
        match (self, call) {
            (Expected::AnyCommand, Call::Run(_)) => true,
            // How long it may take is no part of what is asked.
            (Expected::Is(Call::Run(expected)), Call::Run(asked))
            | (Expected::Is(Call::Spawn(expected)), Call::Spawn(asked)) => {
                (&expected.program, &expected.args, &expected.stdin)
                    == (&asked.program, &asked.args, &asked.stdin)
            }
            (Expected::Is(expected), asked) => expected == asked,
            (Expected::AnyCommand, _) => false,
        }
    }

    /// Where two command lines part. Long ones differ in a word that is hard to see.
    fn difference(&self, call: &Call) -> Option<String> {
        let (
            Expected::Is(Call::Run(expected) | Call::Spawn(expected)),
            Call::Run(asked) | Call::Spawn(asked),
        ) = (self, call)
        else {
            return None;
        };
        if expected.program != asked.program {
            return None;
        }
        let longest = expected.args.len().max(asked.args.len());
        let at = (0..longest).find(|at| expected.args.get(*at) != asked.args.get(*at))?;
        let name = |arg: Option<&String>| arg.map_or("missing".to_owned(), |arg| format!("{arg:?}"));
        Some(format!(
            "argument {} is {}, and should be {}",
            at + 1,
            name(asked.args.get(at)),
            name(expected.args.get(at))
        ))
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Is(call) => call.fmt(f),
            Expected::AnyCommand => f.write_str("any command"),
        }
    }
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Failure {
    /// Of a program.
    Command(commands::Error),
    /// Of a file.
    File(files::Error),
    /// Of a probe.
    Probe(probes::Error),
    /// Of the store.
    State(state::Error),
}

impl Failure {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Failure::Command(_) => Kind::Command,
            Failure::File(_) => Kind::File,
            Failure::Probe(_) => Kind::Probe,
            Failure::State(_) => Kind::State,
        }
    }
}

macro_rules! failures {
    ($($module:ident $variant:ident),+) => {$(
        impl From<$module::Error> for Failure {
            fn from(error: $module::Error) -> Self {
                Failure::$variant(error)
            }
        }
    )+};
}
failures!(commands Command, files File, probes Probe, state State);

/// What a probe tells.
#[derive(Debug)]
pub(super) enum Reading {
    System(probes::SystemInfo),
    Cpu(probes::CpuInfo),
    Memory(probes::MemoryInfo),
    Pressure(probes::PressureInfo),
    BlockDevices(Vec<probes::BlockDevice>),
    Mounts(Vec<probes::Mount>),
    Network(Vec<probes::NetworkInterface>),
    Sensors(Vec<probes::Sensor>),
}

/// What a call is answered.
#[expect(clippy::large_enum_variant, reason = "a test has a few of them")]
#[derive(Debug)]
pub(super) enum Answer {
    Ended { chunks: Vec<commands::Chunk>, status: commands::ExitStatus, truncated: bool },
    Bytes(Vec<u8>),
    Done,
    Entries(Vec<files::Entry>),
    Metadata(files::Metadata),
    Reading(Reading),
    Value(Option<Vec<u8>>),
    Keys(Vec<String>),
    Fails(Failure),
}

impl Answer {
    /// A program that ended well and printed nothing.
    pub(super) fn ended() -> Answer {
        Answer::Ended { chunks: Vec::new(), status: commands::ExitStatus::Code(0), truncated: false }
    }
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) expected: Expected,
    pub(super) answer: Answer,
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) steps: VecDeque<Step>,
    pub(super) context: Context,
    pub(super) cancelled_after: Option<u32>,
    pub(super) asked_if_cancelled: u32,
    pub(super) calls: Vec<Call>,
    pub(super) progress: Vec<(String, Option<u8>)>,
    pub(super) log: Vec<(Level, String)>,
    pub(super) output: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            steps: VecDeque::new(),
            context: Context {
                job_id: "a-job".into(),
                node_id: "a-node".into(),
                node_name: "n1".into(),
                operation: "plugin.interface.function".into(),
                deadline_ms: i64::MAX,
                dry_run: false,
                configuration: "{}".into(),
            },
            cancelled_after: None,
            asked_if_cancelled: 0,
            calls: Vec::new(),
            progress: Vec::new(),
            log: Vec::new(),
            output: Vec::new(),
        }
    }
}

impl Script {
    /// Whether the job is cancelled by now: the plugin was told so, or it was from the beginning.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled_after.is_some_and(|asked| self.asked_if_cancelled.max(1) > asked)
    }

    fn answer(&mut self, call: Call) -> Answer {
        let Some(step) = self.steps.pop_front() else {
            panic!("the plugin asked for more than was expected\n  asked:     {call}{}", self.told_before());
        };
        if !step.expected.fits(&call) {
            let difference =
                step.expected.difference(&call).map(|text| format!("\n  {text}")).unwrap_or_default();
            panic!(
                "the plugin asked for something else than was expected\n  expected:  {}\n  asked:     {call}{difference}{}",
                step.expected,
                self.told_before()
            );
        }
        self.calls.push(call);
        step.answer
    }

    fn told_before(&self) -> String {
        let mut text = String::new();
        for (number, call) in self.calls.iter().enumerate() {
            text.push_str(&format!("\n  call {} was: {call}", number + 1));
        }
        text
    }
}

thread_local! {
    static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
}

/// The script of this thread, as long as this lives.
pub(super) struct Installed;

impl Installed {
    pub(super) fn new(script: Script) -> Installed {
        let before = SCRIPT.replace(Some(script));
        assert!(before.is_none(), "a fake host runs within another one");
        Installed
    }

    /// Take the script away, and see that all of it was asked.
    pub(super) fn finish(self) -> Record {
        let Some(script) = SCRIPT.take() else { panic!("the fake host is gone") };
        if !script.steps.is_empty() {
            let missing: String =
                script.steps.iter().map(|step| format!("\n  expected:  {}", step.expected)).collect();
            panic!("the plugin asked for less than was expected{missing}{}", script.told_before());
        }
        Record { calls: script.calls, progress: script.progress, log: script.log, output: script.output }
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        SCRIPT.take();
    }
}

/// What the script of this thread answers.
pub(super) fn answer(call: Call) -> Answer {
    with(&format!("`{call}`"), |script| script.answer(call))
}

/// Look at the script of this thread.
pub(super) fn with<T>(what: &str, look: impl FnOnce(&mut Script) -> T) -> T {
    SCRIPT.with_borrow_mut(|script| match script {
        Some(script) => look(script),
        None => panic!(
            "{what} needs a host, and there is none outside of wasm: call the plugin within \
             `windlass_sdk::fake::Host::new().run(|| …)`"
        ),
    })
}

/// Whether this thread has a script.
pub(super) fn is_there() -> bool {
    SCRIPT.with_borrow(Option::is_some)
}
