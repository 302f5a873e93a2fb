//! Where results go: data to stdout in the chosen form, everything else to stderr.

use anyhow::Context as _;
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

/// Form of the data on stdout: tables for people, JSON and YAML in full for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// How text for people may look. All that rendering knows of the terminal.
#[derive(Debug, Clone)]
pub struct Look {
    /// May use colours.
    pub color: bool,
    /// Columns of the terminal; none when stdout is not one: nothing is cut then.
    pub width: Option<usize>,
    /// The time that `3m ago` is counted from, in milliseconds since 1970-01-01 UTC.
    pub now_ms: i64,
    /// Zone of the times shown.
    pub zone: jiff::tz::TimeZone,
}

/// The two streams of the program.
#[derive(Debug)]
pub struct Output {
    pub format: Format,
    pub look: Look,
}

impl Output {
    pub fn new(format: Format, no_color: bool) -> Self {
        let tty = std::io::stdout().is_terminal();
        let look = Look {
            color: tty && !no_color,
            width: tty.then(|| usize::from(console::Term::stdout().size().1)).filter(|width| *width >= 20),
            now_ms: jiff::Timestamp::now().as_millisecond(),
            zone: jiff::tz::TimeZone::system(),
        };
        Output { format, look }
    }

    /// True when people read tables, false when programs read JSON or YAML.
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Print data: `text` for people, `value` in full for programs.
    pub fn data<T: Serialize>(&self, value: &T, text: impl FnOnce(&Look) -> String) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Table => text(&self.look),
            Format::Json => {
                let mut text = serde_json::to_string_pretty(value).context("cannot write json")?;
                text.push('\n');
                text
            }
            Format::Yaml => serde_norway::to_string(value).context("cannot write yaml")?,
        };
        self.raw(text.as_bytes())
    }

    /// Print bytes to stdout as they are.
    pub fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        // The reader may have seen enough (`| head`): what the command did counts, not this.
        self.try_raw(bytes).map(drop)
    }

    /// Print bytes to stdout as they are. False when nobody reads them any more.
    pub fn try_raw(&self, bytes: &[u8]) -> anyhow::Result<bool> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("cannot write to stdout"),
        }
    }

    /// Say something to the person, on stderr.
    pub fn note(&self, text: &str) {
        // Nobody listens when stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Bytes for people, on stderr, as they are.
    pub fn note_raw(&self, bytes: &[u8]) {
        let _ = std::io::stderr().write_all(bytes);
    }
}

/// True when a person can be asked: both ends are a terminal.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Ask a question that only `y` or `yes` agrees to.
pub fn confirm(question: &str) -> anyhow::Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Get consent before something that cannot be taken back: `--yes`, or an answer on the terminal.
///
/// # Errors
/// Without consent.
pub fn consent(yes: bool, question: &str) -> anyhow::Result<()> {
    use crate::exit::Problem;
    if yes {
        return Ok(());
    }
    if !can_ask() {
        return Err(Problem::usage(format!("this needs consent: {}", question.trim_end_matches('?')))
            .hint("there is no terminal to ask on; give `--yes` if you mean it")
            .into());
    }
    if confirm(question)? { Ok(()) } else { Err(Problem::failed("not confirmed: nothing was done").into()) }
}
