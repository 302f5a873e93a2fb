//! The configuration file of a host.
//!
//! Everything is checked here, before any runtime, thread or connection exists: past this module
//! nobody looks twice. Unknown keys are errors, since a misspelt limit that is silently ignored is
//! worse than a host that does not start.

mod bundles;
mod watches;

pub use bundles::{BundleSettings, DEFAULT_TRUST_FILE};

use crate::watches::WatchSettings;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use windlass_bundle::NodePolicy;
use windlass_types::{Fingerprint, NodeName, PluginName};

/// Where the file is unless told.
pub const DEFAULT_PATH: &str = "/etc/windlass/host.toml";
/// Port of the node listener of a master.
pub const NODE_PORT: u16 = 7401;
/// Port of the enrolment listener of a master.
pub const ENROLL_PORT: u16 = 7402;
/// Operations that the runtime runs at once at most.
pub const MAX_WORKERS: usize = windlass_runtime::engine::MAX_INSTANCES as usize;
/// The name that is looked up when no master is configured.
pub const DEFAULT_MASTER: &str = "windlass-master";

/// Folder of compiled plugins in `state_dir`.
const COMPILED: &str = "compiled";

/// Why a configuration is no good.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong type.
    #[error("`{}`{}: {message}{}", path.display(), at(*line), hint(suggestion.as_deref()))]
    Syntax { path: PathBuf, line: Option<usize>, message: String, suggestion: Option<String> },
    /// A key has a value that makes no sense.
    #[error("`{}`: key `{key}`: {message}", path.display())]
    Value { path: PathBuf, key: String, message: String },
}

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(" line {line}")).unwrap_or_default()
}
fn hint(suggestion: Option<&str>) -> String {
    suggestion.map(|hint| format!("; {hint}")).unwrap_or_default()
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name the node would like to have.
    pub name: NodeName,
    /// Masters, in the order they are tried.
    pub masters: Vec<Master>,
    /// What a master must prove.
    pub authority: Authority,
    /// Key, certificate, journal, compiled plugins, state of plugins.
    pub state_dir: PathBuf,
    /// Each folder in it is a bundle that this node trusts.
    pub plugins_dir: Option<PathBuf>,
    /// `windlass-compile`.
    pub compile_helper: PathBuf,
    /// Compiled plugins, a folder that only the host's user can open.
    pub compiled_dir: PathBuf,
    /// What is accepted of the bundles that a master wants here.
    pub bundles: BundleSettings,
    /// What is kept of watches while no master is there.
    pub watches: WatchSettings,
    /// Operations that run at once.
    pub workers: usize,
    /// Accepted operations that may wait for a worker.
    pub queue: usize,
    /// How long running operations may go on after SIGTERM.
    pub drain: Duration,
    /// Policy and configuration for each plugin.
    pub plugins: BTreeMap<PluginName, PluginSettings>,
    /// What is logged.
    pub log: Log,
    /// Single-use token that accepts the node without an operator.
    pub join_token: Option<JoinToken>,
}

/// One master, or several behind one DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// `host:port` of its node listener.
    pub nodes: String,
    /// `host:port` of its enrolment listener.
    pub enroll: String,
}

/// How masters are recognised. There is no trust on first use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// By the SHA-256 of their authority's public key.
    Fingerprint(Fingerprint),
    /// By the authority's certificates in a PEM file.
    File(PathBuf),
}

/// Settings of one plugin on this node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginSettings {
    /// What this node lets the plugin do, at most.
    pub policy: NodePolicy,
    /// Handed to the plugin as its configuration.
    pub configuration: Map<String, Value>,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,windlass_host=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".into(), format: LogFormat::Text }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// A join token; never printed.
#[derive(Clone)]
pub enum JoinToken {
    /// The token itself.
    Text(String),
    /// A file that holds it. Read when it is used, so that it may be removed afterwards.
    File(PathBuf),
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JoinToken::Text(_) => f.write_str("JoinToken(…)"),
            JoinToken::File(path) => write!(f, "JoinToken(in `{}`)", path.display()),
        }
    }
}

impl JoinToken {
    /// The token.
    ///
    /// # Errors
    /// If its file can't be read.
    pub fn read(&self) -> std::io::Result<String> {
        match self {
            JoinToken::Text(token) => Ok(token.clone()),
            JoinToken::File(path) => Ok(std::fs::read_to_string(path)?.trim().to_owned()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    #[serde(default)]
    masters: Vec<FileMaster>,
    ca_fingerprint: Option<String>,
    ca_file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    plugins_dir: Option<PathBuf>,
    compile_helper: Option<PathBuf>,
    compiled_dir: Option<PathBuf>,
    trust_file: Option<PathBuf>,
    allow_unsigned: Option<bool>,
    #[serde(default)]
    bundles: bundles::Table,
    #[serde(default)]
    watches: watches::Table,
    workers: Option<usize>,
    queue: Option<usize>,
    drain_seconds: Option<u64>,
    join_token: Option<String>,
    join_token_file: Option<PathBuf>,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    plugins: BTreeMap<String, PluginSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileMaster {
    host: Option<String>,
    node_port: Option<u16>,
    enroll_port: Option<u16>,
    nodes: Option<String>,
    enroll: Option<String>,
}

impl Config {
    /// Read and check a file.
    ///
    /// # Errors
    /// If it can't be read or something in it is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Check a configuration; `path` is for messages, and relative paths in the text count from its folder.
    ///
    /// # Errors
    /// If something in it is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| syntax(text, path, &error))?;
        let wrong = |key: &str, message: String| ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            message,
        };
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let absolute = |given: PathBuf| match base {
            Some(base) if given.is_relative() => base.join(given),
            _ => given,
        };

        let name = file.name.map_or_else(hostname, Ok).map_err(|message| wrong("name", message))?;
        let name = name.parse::<NodeName>().map_err(|error| wrong("name", error.to_string()))?;

        let authority = match (file.ca_fingerprint, file.ca_file) {
            (Some(text), None) => Authority::Fingerprint(
                text.parse().map_err(|error| wrong("ca_fingerprint", format!("{error}")))?,
            ),
            (None, Some(path)) => Authority::File(absolute(path)),
            (Some(_), Some(_)) => {
                return Err(wrong("ca_file", "give `ca_fingerprint` or `ca_file`, not both".into()));
            }
            (None, None) => {
                return Err(wrong(
                    "ca_fingerprint",
                    "missing: give the fingerprint that `windlass-master init` printed, \
                     or the authority's certificate as `ca_file`; a host never trusts on first use"
                        .into(),
                ));
            }
        };

        let mut masters = Vec::new();
        for (index, master) in file.masters.into_iter().enumerate() {
            masters.push(
                master
                    .check()
                    .map_err(|(key, message)| wrong(&format!("masters[{index}].{key}"), message))?,
            );
        }
        if masters.is_empty() {
            masters.push(Master {
                nodes: format!("{DEFAULT_MASTER}:{NODE_PORT}"),
                enroll: format!("{DEFAULT_MASTER}:{ENROLL_PORT}"),
            });
        }

        let in_range = |key: &str, value: Option<usize>, default: usize, from: usize, to: usize| {
            let value = value.unwrap_or(default);
            if (from..=to).contains(&value) {
                Ok(value)
            } else {
                Err(wrong(key, format!("{value} is not within {from} and {to}")))
            }
        };
        let workers = in_range("workers", file.workers, 4, 1, MAX_WORKERS)?;
        let queue = in_range("queue", file.queue, 16, 0, 65_536)?;
        let drain = file.drain_seconds.unwrap_or(30);
        if drain > 86_400 {
            return Err(wrong("drain_seconds", format!("{drain} is more than a day")));
        }

        let join_token = match (file.join_token, file.join_token_file) {
            (Some(_), Some(_)) => {
                return Err(wrong(
                    "join_token_file",
                    "give `join_token` or `join_token_file`, not both".into(),
                ));
            }
            (Some(token), None) => Some(JoinToken::Text(token)),
            (None, Some(path)) => Some(JoinToken::File(absolute(path))),
            (None, None) => None,
        };

        let bundles = bundles::settings(file.trust_file.map(absolute), file.allow_unsigned, file.bundles)
            .map_err(|(key, message)| wrong(key, message))?;
        let watches = file.watches.settings().map_err(|(key, message)| wrong(key, message))?;

        let mut plugins = BTreeMap::new();
        for (name, settings) in file.plugins {
            let parsed = name
                .parse::<PluginName>()
                .map_err(|error| wrong(&format!("plugins.{name}"), error.to_string()))?;
            if let Some(at) = datetime(&settings.configuration) {
                return Err(wrong(
                    &format!("plugins.{name}.configuration.{at}"),
                    "dates have no form in a plugin's configuration: write a string".into(),
                ));
            }
            plugins.insert(parsed, settings);
        }

        tracing_subscriber::EnvFilter::builder()
            .parse(&file.log.level)
            .map_err(|error| wrong("log.level", error.to_string()))?;

        let state_dir = absolute(file.state_dir.unwrap_or_else(|| "/var/lib/windlass-host".into()));
        Ok(Config {
            name,
            masters,
            authority,
            compiled_dir: file.compiled_dir.map_or_else(|| state_dir.join(COMPILED), absolute),
            state_dir,
            plugins_dir: file.plugins_dir.map(absolute),
            compile_helper: match file.compile_helper {
                Some(path) => absolute(path),
                None => beside_executable("windlass-compile"),
            },
            bundles,
            watches,
            workers,
            queue,
            drain: Duration::from_secs(drain),
            plugins,
            log: file.log,
            join_token,
        })
    }

    /// Where compiled plugins are unless told: no other host keeps any there.
    pub fn default_compiled_dir(&self) -> PathBuf {
        self.state_dir.join(COMPILED)
    }

    /// Settings of a plugin; the defaults where the file says nothing.
    pub fn plugin(&self, name: &PluginName) -> PluginSettings {
        self.plugins.get(name).cloned().unwrap_or_default()
    }
}

impl FileMaster {
    fn check(self) -> Result<Master, (&'static str, String)> {
        match (self.host, self.nodes, self.enroll) {
            (Some(host), None, None) => {
                let host = host.trim();
                if host.is_empty() || host.contains([' ', '/', '[', ']']) {
                    return Err(("host", format!("`{host}` is not a host name or address")));
                }
                // An IPv6 address needs brackets beside a port.
                let bare = if host.contains(':') {
                    host.parse::<std::net::Ipv6Addr>().map_err(|_| {
                        ("host", format!("`{host}` has a port: use `nodes` and `enroll` instead"))
                    })?;
                    format!("[{host}]")
                } else {
                    host.to_owned()
                };
                Ok(Master {
                    nodes: format!("{bare}:{}", self.node_port.unwrap_or(NODE_PORT)),
                    enroll: format!("{bare}:{}", self.enroll_port.unwrap_or(ENROLL_PORT)),
                })
            }
            (None, Some(nodes), Some(enroll)) => {
                if self.node_port.is_some() || self.enroll_port.is_some() {
                    return Err(("nodes", "the ports belong to `host`; `nodes` has its own".into()));
                }
                host_and_port(&nodes).map_err(|message| ("nodes", message))?;
                host_and_port(&enroll).map_err(|message| ("enroll", message))?;
                Ok(Master { nodes, enroll })
            }
            _ => Err(("host", "give either `host`, or both `nodes` and `enroll` as `host:port`".into())),
        }
    }
}

/// Split `host:port`; an IPv6 address stands in brackets.
pub fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    let bad = || format!("`{text}` is not `host:port`");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(bad)?,
        None if host.contains(':') => return Err(format!("`{text}`: put the IPv6 address in brackets")),
        None => host,
    };
    if host.is_empty() || host.contains([' ', '/']) { Err(bad()) } else { Ok((host, port)) }
}

fn hostname() -> Result<String, String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    if name.is_empty() || name == "localhost" {
        return Err(format!("this machine's own name is `{name}`: set `name`"));
    }
    Ok(name)
}

/// A program that is installed beside this one.
pub fn beside_executable(program: &str) -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|folder| folder.join(program)))
        .unwrap_or_else(|| Path::new("/usr/bin").join(program))
}

/// The marker by which the `toml` crate passes dates through serde.
const DATETIME: &str = "$__toml_private_datetime";

fn datetime(table: &Map<String, Value>) -> Option<String> {
    fn within(value: &Value) -> Option<String> {
        match value {
            Value::Object(table) if table.contains_key(DATETIME) => Some(String::new()),
            Value::Object(table) => datetime(table),
            Value::Array(items) => items.iter().find_map(within),
            _ => None,
        }
    }
    table.iter().find_map(|(key, value)| {
        within(value).map(|rest| if rest.is_empty() { key.clone() } else { format!("{key}.{rest}") })
    })
}

fn syntax(text: &str, path: &Path, error: &toml::de::Error) -> ConfigError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| before.bytes().filter(|byte| *byte == b'\n').count() + 1);
    let message = error.message().trim().replace('\n', " ");
    ConfigError::Syntax { path: path.to_owned(), line, suggestion: nearest(&message), message }
}

/// From "unknown field `x`, expected one of `a`, `b`": a hint at the expected name nearest to `x`.
fn nearest(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, expected) = rest.split_once('`')?;
    windlass_types::json::nearest(unknown, expected.split('`').skip(1).step_by(2))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
