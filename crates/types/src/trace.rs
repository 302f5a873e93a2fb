//! What a plugin asked of its host during one call, in order.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One call of a host function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TraceEntry {
    /// Position in the trace, from 0.
    pub seq: u32,
    /// When it began, in microseconds since the operation began.
    pub at_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The host function, such as `commands.run`.
    pub function: String,
    /// What it was about.
    #[serde(flatten)]
    pub detail: TraceDetail,
    /// Whether it was allowed.
    pub verdict: Verdict,
    /// The error that the plugin got back, if it got one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a host call was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TraceDetail {
    /// A program.
    Command {
        /// Logical name.
        program: String,
        /// Absolute path, once resolved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Arguments.
        argv: Vec<String>,
        /// Exit code, if it exited by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
        /// Signal, if one ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// The secrets it was given, such as `nas-password on standard input`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<String>,
        /// Bytes on standard input.
        stdin_bytes: u64,
        /// Bytes read from standard output.
        stdout_bytes: u64,
        /// Bytes read from standard error.
        stderr_bytes: u64,
    },
    /// A file or directory.
    File {
        /// Absolute path.
        path: String,
        /// Bytes read or written.
        bytes: u64,
    },
    /// A probe.
    Probe {
        /// Its name.
        probe: String,
    },
    /// A value of the plugin's store.
    State {
        /// Its key, or the prefix asked for.
        key: String,
        /// Bytes read or written.
        bytes: u64,
    },
    /// A log line, or text the plugin printed.
    Log {
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
    },
    /// Progress the plugin reported.
    Progress {
        /// What is being done.
        message: String,
        /// From 0 to 100.
        percent: Option<u8>,
    },
    /// Entries that did not fit; the last one of a cut trace.
    Dropped {
        /// How many.
        entries: u64,
    },
}

/// Whether a host call was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Allowed by this rule of the manifest.
    Allowed {
        /// The rule, such as `commands.zpool.allow[0]`.
        rule: String,
    },
    /// Not allowed.
    Denied {
        /// The rule that was missing.
        missing: String,
    },
    /// Allowed, but recorded only: the operation was a dry run.
    WouldRun {
        /// The rule that allows it.
        rule: String,
    },
}

/// Figures of one call, beside its trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallStats {
    /// Wall time from instantiation to the result, in microseconds.
    pub wall_us: u64,
    /// Processor time charged to the plugin, in milliseconds (in steps of the engine's tick).
    pub cpu_ms: u64,
    /// Most memory it held, in bytes.
    pub memory_peak_bytes: u64,
}
