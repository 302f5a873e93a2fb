//! Why the host has no answer.

use crate::{
    __bindings::windlass::host::{commands, files, output, probes, state},
    ExitStatus,
};

/// Why there is no answer from the host, or none that can be used.
///
/// A plugin turns it into the error of its own WIT once, and uses `?` from there on:
///
/// ```
/// # enum UsageError { Denied(String), NotFound(String), Failed(String) }
/// impl From<windlass_sdk::Error> for UsageError {
///     fn from(error: windlass_sdk::Error) -> Self {
///         match error {
///             windlass_sdk::Error::Denied(why) => Self::Denied(why),
///             windlass_sdk::Error::NotFound(what) => Self::NotFound(what),
///             other => Self::Failed(other.to_string()),
///         }
///     }
/// }
/// ```
///
/// Where several interfaces have the same kind of error, [`errors!`](crate::errors!) says it once for
/// all of them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither manifest nor policy of the node grants the call. The text says which rule is missing.
    #[error("{0}")]
    Denied(String),
    /// The program, or what should stand at a path, is not on this node. The text says what.
    #[error("{0}")]
    NotFound(String),
    /// This node has no such thing, such as a kernel without pressure information.
    #[error("{0}")]
    Unsupported(String),
    /// The time of a program was up; it and its children were ended.
    #[error("`{command}` had not ended after {limit_ms} ms")]
    TimedOut {
        /// The command line.
        command: String,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The job was cancelled.
    #[error("the job was cancelled")]
    Cancelled,
    /// A program that would change something was not started, because this is a dry run. Only from
    /// [`Command::spawn`](crate::Command::spawn). The text is its command line.
    #[error("`{0}` was not started: this is a dry run")]
    DryRun(String),
    /// A program ended with another status than 0.
    #[error(transparent)]
    Exit(Exit),
    /// A program printed more than the plugin's limit; the rest is lost. The text is its command line.
    #[error("`{0}` printed more than the limits of this plugin allow")]
    Truncated(String),
    /// What was read could not be understood. The text says what it is and what is wrong with it.
    #[error("{0}")]
    Unexpected(String),
    /// A file could not be read, written or removed for a reason of its own.
    #[error("`{path}` {}", problem(error))]
    File {
        /// The path.
        path: String,
        /// The reason. Never a denial, and never that nothing is there.
        error: files::Error,
    },
    /// A limit of the plugin's store would be passed; the text says which.
    #[error("{0}")]
    Limit(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn of_command(command: &str, error: commands::Error) -> Error {
        match error {
            commands::Error::Denied(why) => Error::Denied(why),
            commands::Error::NotFound(what) => Error::NotFound(what),
            commands::Error::TimedOut(limit_ms) => Error::TimedOut { command: command.to_owned(), limit_ms },
            commands::Error::Cancelled => Error::Cancelled,
            commands::Error::DryRun => Error::DryRun(command.to_owned()),
            commands::Error::Other(why) => Error::Other(why),
        }
    }

    pub(crate) fn of_file(path: &str, error: files::Error) -> Error {
        match error {
            files::Error::Denied(why) => Error::Denied(why),
            files::Error::NotFound => Error::NotFound(format!("nothing stands at `{path}`")),
            error => Error::File { path: path.to_owned(), error },
        }
    }
}

impl From<probes::Error> for Error {
    fn from(error: probes::Error) -> Self {
        match error {
            probes::Error::Denied(why) => Error::Denied(why),
            probes::Error::Unsupported(what) => Error::Unsupported(what),
            probes::Error::Other(why) => Error::Other(why),
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        match error {
            state::Error::Denied(why) => Error::Denied(why),
            state::Error::Limit(which) => Error::Limit(which),
            state::Error::Other(why) => Error::Other(why),
        }
    }
}

impl From<output::Error> for Error {
    fn from(error: output::Error) -> Self {
        match error {
            output::Error::Full(limit) => Error::Limit(format!("an operation writes {limit} bytes at most")),
            output::Error::Cancelled => Error::Cancelled,
            output::Error::Other(why) => Error::Other(why),
        }
    }
}

fn problem(error: &files::Error) -> String {
    use files::Error;
    match error {
        Error::Denied(why) => format!("is denied: {why}"),
        Error::NotFound => "is not there".into(),
        Error::Exists => "is there already".into(),
        Error::NotADirectory => "is no directory".into(),
        Error::IsADirectory => "is a directory".into(),
        Error::NotEmpty => "is not empty".into(),
        Error::TooLarge(limit) => format!("is larger than the limit of {limit} bytes"),
        Error::NoSpace => "does not fit: no space is left".into(),
        Error::ReadOnly => "is on a read-only filesystem".into(),
        Error::Other(why) => format!("can not be used: {why}"),
    }
}

/// A program that ended with another status than 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed on standard error. Bytes that are not UTF-8 have become U+FFFD.
    pub stderr: String,
}

impl Exit {
    /// The exit status; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            ExitStatus::Code(code) => write!(f, "`{}` ended with status {code}", self.command)?,
            ExitStatus::Signal(signal) => write!(f, "`{}` was ended by signal {signal}", self.command)?,
        }
        // Usage messages are long; the first lines say what is wrong.
        let mut lines = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(3);
        if let Some(first) = lines.next() {
            write!(f, ": {first}")?;
        }
        lines.try_for_each(|line| write!(f, "; {line}"))
    }
}

impl std::error::Error for Exit {}

/// Say once how an [`Error`] becomes the errors of several interfaces, where these have the cases in
/// common. Makes a `From` for each; `Self` is the error that is made.
///
/// ```
/// # mod disk { #[derive(Debug)] pub enum Error { Denied(String), Other(String) } }
/// # mod network { pub enum Error { Denied(String), Other(String) } }
/// use windlass_sdk::Error;
///
/// windlass_sdk::errors!(disk::Error, network::Error: |error| match error {
///     Error::Denied(why) => Self::Denied(why),
///     other => Self::Other(other.to_string()),
/// });
///
/// let error = disk::Error::from(Error::Cancelled);
/// assert!(matches!(error, disk::Error::Other(text) if text == "the job was cancelled"));
/// ```
#[macro_export]
macro_rules! errors {
    ($($target:ty),+ : |$error:ident| $body:expr) => {$(
        impl ::core::convert::From<$crate::Error> for $target {
            fn from($error: $crate::Error) -> Self {
                $body
            }
        }
    )+};
}
