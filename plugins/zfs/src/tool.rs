//! Running the tools, and what their failures mean.

use windlass_sdk::{Command, Error, Exit, ExitStatus};

/// Why there is no answer from a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The host does not grant the command.
    Denied(String),
    /// The program is not on this node.
    NotInstalled(String),
    /// The program is there and ZFS is not: no kernel module, no daemon.
    NotRunning(String),
    /// The system refused.
    PermissionDenied(String),
    /// No answer within this many milliseconds.
    TimedOut(u64),
    /// The job was cancelled.
    Cancelled,
    /// The tool does not know these arguments: it is another dialect.
    Usage(String),
    /// What was asked for does not exist.
    Missing,
    /// What was to be made is there already.
    Exists(String),
    /// Something uses it.
    Busy(String),
    /// The output could not be understood.
    Unexpected(String),
    /// Anything else.
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) => Failure::Denied(text),
            Error::NotFound(text) => Failure::NotInstalled(text),
            Error::TimedOut { limit_ms, .. } => Failure::TimedOut(limit_ms),
            Error::Cancelled => Failure::Cancelled,
            Error::Exit(exit) => meaning(&exit),
            other => Failure::Other(other.to_string()),
        }
    }
}

/// Run a tool and give its output, or say what its failure means. Names of damaged files can hold any
/// bytes; what is not UTF-8 becomes U+FFFD.
///
/// # Errors
/// With what its exit status and its words on standard error mean.
pub fn ask(command: &Command) -> Result<String, Failure> {
    Ok(command.run()?.success()?.text_lossy()?.into_owned())
}

/// What a failed run means. Sources: libzfs_error_init() and zfs_standard_error() of libzfs, and
/// the captures of both families of tools.
fn meaning(exit: &Exit) -> Failure {
    let stderr = exit.stderr.trim();
    let has = |needle: &str| contains_ignoring_case(stderr, needle);
    let text = || {
        // Usage messages list every property there is; the first lines say what is wrong.
        let head: Vec<&str> = stderr.lines().take(3).map(str::trim).collect();
        head.join("; ")
    };
    // zpool(8) and zfs(8): 0 success, 1 an error, 2 invalid command line options.
    if exit.code() == Some(2)
        && (has("invalid option") || has("invalid property") || has("invalid type") || has("usage:"))
    {
        return Failure::Usage(text());
    }
    // Before the daemon's own words: a refused connection says both.
    if has("permission denied") || has("insufficient privileges") {
        return Failure::PermissionDenied(text());
    }
    if has("zfs-fuse daemon is running")
        || has("modules are not loaded")
        || has("modules cannot be auto-loaded")
        || has("/dev/zfs and /proc/self/mounts are required")
        || has("initialize the libzfs library")
        || has("failed to initialize zfs library")
    {
        return Failure::NotRunning(text());
    }
    if has("no such pool") || has("dataset does not exist") {
        return Failure::Missing;
    }
    if has("dataset already exists") {
        return Failure::Exists(text());
    }
    if has("is busy") || has("device busy") {
        return Failure::Busy(text());
    }
    match exit.status {
        ExitStatus::Code(_) if !stderr.is_empty() => Failure::Other(text()),
        _ => Failure::Other(exit.to_string()),
    }
}

fn contains_ignoring_case(text: &str, needle: &str) -> bool {
    text.as_bytes().windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// Both families take the same words for an error of an operation.
macro_rules! from_failure {
    ($error:ty, |$name:ident| $missing:expr) => {
        impl $error {
            pub(crate) fn from_failure(failure: $crate::tool::Failure, $name: &str) -> Self {
                use $crate::tool::Failure;
                match failure {
                    Failure::Denied(text) => Self::Denied(text),
                    Failure::NotInstalled(text) => Self::NotInstalled(text),
                    Failure::NotRunning(text) => Self::NotRunning(text),
                    Failure::PermissionDenied(text) => Self::PermissionDenied(text),
                    Failure::TimedOut(limit_ms) => Self::TimedOut(limit_ms),
                    Failure::Cancelled => Self::Cancelled,
                    Failure::Missing => $missing,
                    Failure::Unexpected(text) => Self::UnexpectedOutput(text),
                    Failure::Usage(text)
                    | Failure::Exists(text)
                    | Failure::Busy(text)
                    | Failure::Other(text) => Self::Other(text),
                }
            }
        }
    };
}
pub(crate) use from_failure;
