//! Running programs of the node.

use crate::{
    __bindings::windlass::host::{commands as wit, secrets::Variable},
    Error, Exit,
    host::{commands as host, secrets},
};
use std::{borrow::Cow, time::Duration};

pub use crate::__bindings::windlass::host::secrets::{Piece, Secret};
pub use wit::{Chunk, Error as CommandError, ExitStatus, OutputStream as Stream};

/// A program to run: its logical name, a key of `[commands]` in the manifest, and its arguments.
///
/// There is no shell. Arguments that match no rule of the manifest are denied, and nothing happens.
///
/// ```
/// # use windlass_sdk::{Command, Error, fake};
/// # fn main() -> Result<(), Error> {
/// # let pool = Some("tank");
/// # let output =
/// # fake::Host::new().command("zpool", ["list", "-H", "-o", "name,size", "tank"]).prints("tank\t8G\n").run(|| {
/// let output = Command::new("zpool").args(["list", "-H"]).opt("-o", "name,size").args(pool).run()?.success()?;
/// for line in output.lines()? {
///     let (name, size) = line.split_once('\t').unwrap_or((line, ""));
/// #   assert_eq!((name, size), ("tank", "8G"));
/// }
/// # Ok(output)
/// # });
/// # output.map(drop)
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a command does nothing until it is run"]
pub struct Command {
    command: wit::Command,
    /// Standard input in pieces; none where `command` has it.
    pieces: Option<Vec<Piece>>,
    variables: Vec<Variable>,
}

impl Command {
    /// A program without arguments.
    pub fn new(program: impl Into<String>) -> Command {
        let program = program.into();
        let command = wit::Command { program, args: Vec::new(), stdin: None, timeout_ms: None };
        Command { command, pieces: None, variables: Vec::new() }
    }

    /// Add one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Command {
        self.command.args.push(arg.into());
        self
    }

    /// Add arguments: an array, a list, or an `Option`, of which none adds nothing.
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Command {
        self.command.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Add an option and its value as two arguments: `.opt("-o", "name")`. An `Option` that is none adds
    /// neither.
    pub fn opt(mut self, option: impl Into<String>, value: impl Value) -> Command {
        if let Some(value) = value.into_value() {
            self.command.args.extend([option.into(), value]);
        }
        self
    }

    /// Give it this on standard input, which is empty otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Command {
        self.command.stdin = Some(bytes.into());
        self.pieces = None;
        self
    }

    /// Give it this on standard input, one piece after the other: texts, bytes and secrets. The rule of the
    /// manifest has to say `secrets = ["stdin"]`.
    ///
    /// ```
    /// # use windlass_sdk::{Command, Error, Secret, fake};
    /// # fn main() -> Result<(), Error> {
    /// # let password = Secret { secret_handle: "nas".into() };
    /// # let host = fake::Host::new().command("smbpasswd", ["-s", "jane"]);
    /// # host.stdin_with([(&password).into(), "\n".into(), (&password).into(), "\n".into()]).run(|| {
    /// Command::new("smbpasswd")
    ///     .args(["-s", "jane"])
    ///     .stdin_with([(&password).into(), "\n".into(), (&password).into(), "\n".into()])
    ///     .run()?
    ///     .success()?;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn stdin_with(mut self, pieces: impl IntoIterator<Item = Piece>) -> Command {
        self.pieces = Some(pieces.into_iter().collect());
        self.command.stdin = None;
        self
    }

    /// Give it a secret in a variable of its environment, such as `IPMITOOL_PASSWORD`. The rule of the
    /// manifest has to have the name in `secrets`.
    pub fn env_secret(mut self, name: impl Into<String>, value: &Secret) -> Command {
        self.variables.push(Variable { name: name.into(), value: value.clone() });
        self
    }

    /// End it after this time. Without, and at the latest, it is ended with the operation.
    pub fn timeout(mut self, limit: Duration) -> Command {
        self.command.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Run it to its end. A status other than 0 is no error here: see [`Output::success`].
    ///
    /// In a dry run, what matches a `read` rule of the manifest runs; anything else is recorded, and
    /// answered as if it had ended with status 0 and printed nothing.
    ///
    /// # Errors
    /// If it is denied, not on the node, out of time, or the job was cancelled.
    pub fn run(&self) -> Result<Output, Error> {
        let command = self.to_string();
        let ran = match (&self.pieces, &self.command.stdin) {
            (None, _) if self.variables.is_empty() => host::run(&self.command),
            (pieces, plain) => {
                let plain = plain.iter().map(|bytes| Piece::Plain(bytes.clone()));
                let pieces: Vec<Piece> = plain.chain(pieces.iter().flatten().cloned()).collect();
                let bare = wit::Command { stdin: None, ..self.command.clone() };
                secrets::run(&bare, &pieces, &self.variables)
            }
        };
        let output = ran.map_err(|error| Error::of_command(&command, error))?;
        Ok(Output {
            command,
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
            stdout_truncated: output.stdout_truncated,
            stderr_truncated: output.stderr_truncated,
            duration: Duration::from_millis(output.duration_ms),
        })
    }

    /// Start it and go on, to read its output as it comes.
    ///
    /// # Errors
    /// Those of [`Command::run`], and [`Error::DryRun`] for what would change something.
    pub fn spawn(&self) -> Result<Process, Error> {
        let command = self.to_string();
        if self.pieces.is_some() || !self.variables.is_empty() {
            let why = "a program that is given secrets is run to its end".to_owned();
            return Err(Error::of_command(&command, CommandError::Other(why)));
        }
        let process = host::spawn(&self.command).map_err(|error| Error::of_command(&command, error))?;
        Ok(Process { command, process })
    }
}

impl From<&Secret> for Piece {
    fn from(secret: &Secret) -> Piece {
        Piece::Secret(secret.clone())
    }
}

impl From<&str> for Piece {
    fn from(text: &str) -> Piece {
        Piece::Plain(text.into())
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Piece {
        Piece::Plain(bytes)
    }
}

/// The command line, for people: an argument that is empty or holds a space stands in quotes.
impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&line(&self.command.program, &self.command.args))
    }
}

/// A command line for people.
pub(crate) fn line(program: &str, args: &[String]) -> String {
    let mut line = program.to_owned();
    for arg in args {
        line.push(' ');
        if arg.is_empty() || arg.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            line.push_str(&format!("{arg:?}"));
        } else {
            line.push_str(arg);
        }
    }
    line
}

/// What can be the value of an option: texts, whole numbers, and an `Option` of these.
pub trait Value {
    /// As an argument; none for no option at all.
    fn into_value(self) -> Option<String>;
}

impl<V: Value> Value for Option<V> {
    fn into_value(self) -> Option<String> {
        self.and_then(V::into_value)
    }
}

macro_rules! values {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn into_value(self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
values!(&str, String, &String, u8, u16, u32, u64, usize, i8, i16, i32, i64);

/// What a program left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// More came on standard output than the limit of the plugin allows, and is lost.
    pub stdout_truncated: bool,
    /// The same for standard error.
    pub stderr_truncated: bool,
    /// Wall time from start to end.
    pub duration: Duration,
}

impl Output {
    /// The same output, if the program ended with status 0.
    ///
    /// # Errors
    /// [`Error::Exit`] if it did not.
    pub fn success(self) -> Result<Output, Error> {
        match self.status {
            ExitStatus::Code(0) => Ok(self),
            status => {
                let stderr = self.stderr().into_owned();
                Err(Error::Exit(Exit { command: self.command, status, stderr }))
            }
        }
    }

    /// The exit status; none when a signal ended the program.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        }
    }

    /// Standard output as text.
    ///
    /// # Errors
    /// If it was cut at the limit, or is not UTF-8.
    pub fn text(&self) -> Result<&str, Error> {
        std::str::from_utf8(self.whole()?).map_err(|error| self.unexpected("is not UTF-8", error))
    }

    /// Standard output as text, with U+FFFD for what is not UTF-8, as names of files may be.
    ///
    /// # Errors
    /// If it was cut at the limit.
    pub fn text_lossy(&self) -> Result<Cow<'_, str>, Error> {
        Ok(String::from_utf8_lossy(self.whole()?))
    }

    /// The lines of standard output.
    ///
    /// # Errors
    /// Those of [`Output::text`].
    pub fn lines(&self) -> Result<std::str::Lines<'_>, Error> {
        self.text().map(str::lines)
    }

    /// Standard output read as JSON.
    ///
    /// ```
    /// # use windlass_sdk::{Command, Error, fake};
    /// #[derive(serde::Deserialize)]
    /// struct Listing { blockdevices: Vec<Device> }
    /// #[derive(serde::Deserialize)]
    /// struct Device { name: String, size: u64 }
    ///
    /// # let printed = r#"{"blockdevices": [{"name": "sda", "size": 8001563222016}]}"#;
    /// # let asked: Result<(), Error> = fake::Host::new().command("lsblk", ["-b", "-d", "-J"]).prints(printed).run(|| {
    /// let listing: Listing = Command::new("lsblk").args(["-b", "-d", "-J"]).run()?.success()?.json()?;
    /// # assert_eq!((listing.blockdevices[0].name.as_str(), listing.blockdevices[0].size), ("sda", 8001563222016));
    /// # Ok(())
    /// # });
    /// # asked.unwrap();
    /// ```
    ///
    /// # Errors
    /// If it was cut at the limit, or is not JSON of this form.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.whole()?)
            .map_err(|error| self.unexpected("is not the JSON it should be", error))
    }

    /// Standard output read as XML. Elements are fields by name; attributes have `@` before their names,
    /// text is `$text` (see [`quick_xml::de`]).
    ///
    /// # Errors
    /// If it was cut at the limit, or is not XML of this form.
    #[cfg(feature = "xml")]
    pub fn xml<T: serde::de::DeserializeOwned>(&self) -> Result<T, Error> {
        quick_xml::de::from_str(self.text()?)
            .map_err(|error| self.unexpected("is not the XML it should be", error))
    }

    /// Standard error as text, with U+FFFD for what is not UTF-8.
    pub fn stderr(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// What was cut must not be taken for all there is.
    fn whole(&self) -> Result<&[u8], Error> {
        if self.stdout_truncated { Err(Error::Truncated(self.command.clone())) } else { Ok(&self.stdout) }
    }

    fn unexpected(&self, what: &str, why: impl std::fmt::Display) -> Error {
        Error::Unexpected(format!("what `{}` printed {what}: {why}", self.command))
    }
}

/// A program that runs. Dropping it ends the program and its children.
#[derive(Debug)]
pub struct Process {
    command: String,
    process: host::Process,
}

impl Process {
    /// Wait for more output. None when both streams have ended.
    ///
    /// # Errors
    /// If its time is up, or the job was cancelled.
    pub fn read(&mut self) -> Result<Option<Chunk>, Error> {
        self.process.read().map_err(|error| Error::of_command(&self.command, error))
    }

    /// Wait for its end. Output that was not read is dropped.
    ///
    /// # Errors
    /// If its time is up, or the job was cancelled.
    pub fn wait(self) -> Result<ExitStatus, Error> {
        self.process.wait().map_err(|error| Error::of_command(&self.command, error))
    }

    /// End it and its children now: TERM, and KILL after two seconds.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

#[cfg(test)]
mod tests;
