//! `plugin.toml`: what a plugin is, how much it may use, and what it asks of a node.
//!
//! Everything here is parsed once, into types that hold only what is possible; past this module
//! nobody looks at the text again. `docs/plugin-manifest.md` is the reference for authors.

mod fit;
mod read;
#[cfg(test)]
mod tests;
mod watches;

pub use fit::{Exported, Unfit};
pub use watches::{Alert, Severity, Watch};

use crate::{
    document, grammar::Grammar, path::AbsolutePath, pattern::PathPattern, units::show_duration,
    version::Version,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};
use windlass_types::{Effect, PluginName};

/// Largest manifest, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// How much of each thing a manifest may have. Ten times what a large plugin needs, and little enough
/// that reading a manifest, and asking its rules at each call, stay cheap whoever wrote it.
pub(crate) mod bounds {
    pub(crate) const PROGRAMS: usize = 64;
    pub(crate) const PATHS: usize = 16;
    /// Rules of all programs together.
    pub(crate) const RULES: usize = 512;
    /// Tokens and alternatives of all rules together: with the bytes of an argument list
    /// ([`crate::grammar::MAX_ARGS_BYTES`]) they bound the time of one question.
    pub(crate) const TOKENS: usize = 4096;
    pub(crate) const PLACEHOLDERS: usize = 256;
    /// Values, keys, items or folders that one placeholder lists.
    pub(crate) const CHOICES: usize = 512;
    /// Places of secrets in one rule.
    pub(crate) const SECRET_PLACES: usize = 16;
    pub(crate) const FILES: usize = 256;
    pub(crate) const OPERATIONS: usize = 512;
    pub(crate) const LOCKS: usize = 16;
    pub(crate) const WATCHES: usize = 64;
    pub(crate) const ALERTS: usize = 128;
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin.toml:{line}:{column}: {}{message}{}", if key.is_empty() { String::new() } else { format!("`{key}`: ") }, hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct ManifestError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Key, such as `commands.zpool.allow[0].effect`; empty for the document as a whole.
    pub key: String,
    /// What is wrong there.
    pub message: String,
    /// What may help, such as the nearest name.
    pub hint: Option<String>,
}

/// A manifest, parsed.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: PluginName,
    /// Its version.
    pub version: Version,
    /// One line for people; may be empty.
    pub description: String,
    /// What one operation may use.
    pub limits: Limits,
    /// Programs by logical name.
    pub commands: BTreeMap<String, Program>,
    /// Files, in the order of the manifest.
    pub files: Vec<FileRule>,
    /// Probes.
    pub probes: BTreeSet<ProbeName>,
    /// It keeps state on the node.
    pub state: bool,
    /// Policies of operations by `interface.function`.
    pub operations: BTreeMap<String, OperationPolicy>,
    /// What each host repeats by itself, by name.
    pub watches: BTreeMap<String, Watch>,
    /// What people should know of, by name.
    pub alerts: BTreeMap<String, Alert>,
}

/// What one operation of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory and tables, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in milliseconds. Waiting for a program costs nothing.
    pub cpu_ms: u64,
    /// Size of the result, and of what passes to the host in one call, in bytes.
    pub output_bytes: u64,
    /// What is kept of each output stream of a program, in bytes.
    pub command_output_bytes: u64,
    /// Processes and threads of the programs of one operation, at a time.
    pub processes: u32,
    /// Operations of this plugin at the same time on one node.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 64 << 20,
            cpu_ms: 10_000,
            output_bytes: 16 << 20,
            command_output_bytes: 16 << 20,
            processes: 512,
            concurrency: 8,
        }
    }
}

/// A program a plugin may run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Absolute paths; the first that exists on the node is run.
    pub paths: Vec<PathBuf>,
    /// Argument lists it may be run with. Never empty.
    pub allow: Vec<Rule>,
}

/// Argument lists, and what a program does to the node with them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the program may do with these arguments.
    pub effect: Effect,
    /// The elements as written.
    pub args: Vec<String>,
    /// The same, parsed.
    pub grammar: Grammar,
    /// Where the program may be given secrets.
    pub secrets: SecretPlaces,
}

/// Where a program may be given secrets. Arguments are no such place: everybody on a node reads them in
/// `/proc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretPlaces {
    /// On standard input.
    pub stdin: bool,
    /// In these variables of its environment.
    pub variables: BTreeSet<String>,
}

impl SecretPlaces {
    /// No place at all.
    pub fn is_empty(&self) -> bool {
        !self.stdin && self.variables.is_empty()
    }

    /// Whether all of these places are among them.
    pub fn covers(&self, asked: &SecretPlaces) -> bool {
        (self.stdin || !asked.stdin) && asked.variables.is_subset(&self.variables)
    }

    /// Each as it stands in a manifest.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.stdin.then_some(SecretPlaces::STDIN).into_iter().chain(self.variables.iter().map(String::as_str))
    }

    /// The word for standard input.
    pub const STDIN: &str = "stdin";
}

/// Files a plugin may touch.
#[derive(Debug, Clone)]
pub struct FileRule {
    /// Which.
    pub path: PathPattern,
    /// How.
    pub access: Access,
    /// `read` for reading; `change` or `destroy` for writing.
    pub effect: Effect,
}

/// How a file is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Reading, listing, looking at.
    Read,
    /// Writing, removing, making directories. Does not include reading.
    Write,
}

impl Access {
    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::Read => "read",
            Access::Write => "write",
        }
    }
}

/// A probe of `windlass:host/probes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeName {
    System,
    Cpu,
    Memory,
    Pressure,
    BlockDevices,
    Mounts,
    Network,
    Sensors,
}

impl ProbeName {
    /// All probes with their names: those of the functions of `windlass:host/probes`.
    pub const ALL: [(&'static str, ProbeName); 8] = [
        ("system", ProbeName::System),
        ("cpu", ProbeName::Cpu),
        ("memory", ProbeName::Memory),
        ("pressure", ProbeName::Pressure),
        ("block-devices", ProbeName::BlockDevices),
        ("mounts", ProbeName::Mounts),
        ("network", ProbeName::Network),
        ("sensors", ProbeName::Sensors),
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        ProbeName::ALL.iter().find(|(_, probe)| *probe == self).map_or("", |(name, _)| name)
    }
}

/// How an operation is treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationPolicy {
    /// The most it may do to a node: rules with a stronger effect do not apply while it runs.
    pub effect: Effect,
    /// Wall time.
    pub timeout: Duration,
    /// Running it twice is as good as once.
    pub idempotent: bool,
    /// Names of what it needs for itself, with `{param}` for the value of a parameter.
    pub locks: Vec<String>,
    /// The operation of the same plugin (`interface.function`) that takes it back.
    pub undo: Option<String>,
}

impl Default for OperationPolicy {
    /// What holds for an operation the manifest does not mention.
    fn default() -> Self {
        OperationPolicy {
            effect: Effect::Destroy,
            timeout: Duration::from_secs(60),
            idempotent: false,
            locks: Vec::new(),
            undo: None,
        }
    }
}

impl std::fmt::Display for OperationPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, at most {}", self.effect, show_duration(self.timeout))
    }
}

impl Manifest {
    /// Read a manifest.
    ///
    /// # Errors
    /// With the place of the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        document::read(text, MAX_BYTES, read::manifest)
    }

    /// Policy of an operation, by `interface.function`. One that the manifest does not mention
    /// counts as `destroy`.
    pub fn operation(&self, local: &str) -> OperationPolicy {
        self.operations.get(local).cloned().unwrap_or_default()
    }
}

/// Names of the parameters in a lock, such as `pool` in `pool:{pool}`.
///
/// # Errors
/// With what is wrong with the text, in words.
pub fn lock_params(lock: &str) -> Result<Vec<&str>, String> {
    let mut params = Vec::new();
    let mut rest = lock;
    while let Some(at) = rest.find(['{', '}']) {
        let inner = rest[at..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
        match inner {
            Some((name, after)) if crate::grammar::is_placeholder_name(name) => {
                params.push(name);
                rest = after;
            }
            _ => {
                return Err(format!("`{lock}` is not a lock: expected text with `{{param}}` for parameters"));
            }
        }
    }
    if lock.is_empty() || lock.len() > 256 || lock.contains(char::is_control) {
        return Err("a lock is 1 to 256 bytes without control characters".into());
    }
    Ok(params)
}

impl Program {
    fn new(paths: Vec<AbsolutePath>, allow: Vec<Rule>) -> Program {
        Program { paths: paths.iter().map(AbsolutePath::to_path_buf).collect(), allow }
    }
}
