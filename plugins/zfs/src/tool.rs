//! Running the tools, and what their failures mean.

/// Runs a program by its logical name.
pub trait Runner {
    /// Run it to its end.
    ///
    /// # Errors
    /// When it did not run to its end. An exit status other than 0 is no error here.
    fn run(&self, program: &str, args: &[&str], timeout_ms: u64) -> Result<Finished, Failure>;
}

/// A program that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Standard output was longer than the host keeps.
    pub truncated: bool,
}

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
    /// The output could not be understood.
    Unexpected(String),
    /// Anything else.
    Other(String),
}

/// Run a tool and give its output, or say what its failure means.
///
/// # Errors
/// With what its exit status and its words on standard error mean.
pub fn ask(runner: &impl Runner, program: &str, args: &[&str], timeout_ms: u64) -> Result<String, Failure> {
    let finished = runner.run(program, args, timeout_ms)?;
    if finished.code != Some(0) {
        return Err(meaning(program, &finished));
    }
    if finished.truncated {
        return Err(Failure::Other(format!("`{program}` printed more than the limit of this plugin allows")));
    }
    Ok(finished.stdout)
}

/// What a failed run means. Sources: libzfs_error_init() and zfs_standard_error() of libzfs, and
/// the captures of both families of tools.
fn meaning(program: &str, finished: &Finished) -> Failure {
    let stderr = finished.stderr.trim();
    let has = |needle: &str| contains_ignoring_case(stderr, needle);
    let text = || {
        // Usage messages list every property there is; the first lines say what is wrong.
        let head: Vec<&str> = stderr.lines().take(3).map(str::trim).collect();
        head.join("; ")
    };
    // zpool(8) and zfs(8): 0 success, 1 an error, 2 invalid command line options.
    if finished.code == Some(2)
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
    Failure::Other(match (finished.code, stderr) {
        (Some(code), "") => format!("`{program}` ended with status {code} and said nothing"),
        (Some(_), _) => text(),
        (None, "") => format!("`{program}` was ended by a signal"),
        (None, _) => format!("`{program}` was ended by a signal: {}", text()),
    })
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
                    Failure::Usage(text) | Failure::Other(text) => Self::Other(text),
                }
            }
        }
    };
}
pub(crate) use from_failure;
