//! How the program ends: its exit code, and the words on stderr when it ends badly.

use crate::client::ClientError;
use std::{fmt::Write as _, process::ExitCode};
use windlass_types::OutcomeKind;

/// Exit codes, documented in the help of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it was asked, and every node succeeded.
    Success = 0,
    /// The command itself failed: no connection, an error of the master, an unknown job.
    Failed = 1,
    /// The command line does not make sense: flags, arguments, names of operations.
    Usage = 2,
    /// The job ran, and not every node succeeded.
    NotAll = 3,
    /// The master or the nodes did not allow it.
    Denied = 4,
    /// Left with Ctrl-C while the job goes on: what shells call 128 + SIGINT.
    Left = 130,
}

impl Exit {
    /// The exit code of a job that ended with these outcomes.
    pub fn of_outcomes(kinds: impl IntoIterator<Item = OutcomeKind>) -> Exit {
        let mut exit = Exit::Success;
        for kind in kinds {
            match kind {
                OutcomeKind::Succeeded => {}
                OutcomeKind::Denied if exit != Exit::NotAll => exit = Exit::Denied,
                _ => exit = Exit::NotAll,
            }
        }
        exit
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// An error that knows its exit code and what may help.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    exit: Exit,
    message: String,
    hint: Option<String>,
    source: Option<anyhow::Error>,
}

impl Problem {
    /// The command line does not make sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Usage, message: message.into(), hint: None, source: None }
    }
    /// The command failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Failed, ..Problem::usage(message) }
    }
    /// It is not allowed.
    pub fn denied(message: impl Into<String>) -> Self {
        Problem { exit: Exit::Denied, ..Problem::usage(message) }
    }
    /// What the person may do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Problem { hint: Some(hint.into()), ..self }
    }
    /// What it follows from; its exit code and hint count where this one says nothing.
    pub fn because(self, source: impl Into<anyhow::Error>) -> Self {
        Problem { source: Some(source.into()), ..self }
    }
}

/// What may help against an error, where anything in its chain knows.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| match cause.downcast_ref::<Problem>() {
        Some(problem) => problem.hint.clone(),
        None => cause.downcast_ref::<ClientError>().and_then(ClientError::hint),
    })
}

/// Print an error with its causes and hint on stderr.
pub fn report(error: &anyhow::Error, color: bool) -> Exit {
    let (exit, text) = describe(error, color);
    // Nobody is left to tell when stderr is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    exit
}

fn describe(error: &anyhow::Error, color: bool) -> (Exit, String) {
    let paint = |code: &str, word: &str| {
        if color { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
    };
    let (mut exit, mut hint) = (Exit::Failed, None);
    let mut text = String::new();
    let mut said = String::new();
    let mut decided = false;
    for (depth, cause) in error.chain().enumerate() {
        if let Some(problem) = cause.downcast_ref::<Problem>() {
            if !decided {
                (exit, decided) = (problem.exit, true);
            }
            hint = hint.or_else(|| problem.hint.clone());
        } else if let Some(client) = cause.downcast_ref::<ClientError>() {
            if !decided {
                (exit, decided) = (client.exit(), true);
            }
            hint = hint.or_else(|| client.hint());
        }
        let message = crate::render::text::clean(&cause.to_string());
        // Some libraries repeat their cause in their own message.
        if depth > 0 && said.contains(&message) {
            continue;
        }
        match depth {
            0 => _ = writeln!(text, "{} {message}", paint("1;31", "error:")),
            _ => _ = writeln!(text, "  {} {message}", paint("2", "caused by:")),
        }
        said.push_str(&message);
    }
    if let Some(hint) = hint {
        _ = writeln!(text, "{} {}", paint("1;36", "hint:"), crate::render::text::clean(&hint));
    }
    (exit, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutcomeKind::*;

    #[test]
    fn outcomes_decide_the_exit_code() {
        for (kinds, exit) in [
            (&[][..], Exit::Success),
            (&[Succeeded, Succeeded], Exit::Success),
            (&[Succeeded, NoAnswer], Exit::NotAll),
            (&[Succeeded, Denied], Exit::Denied),
            (&[Denied, Failed], Exit::NotAll),
            (&[Failed, Denied], Exit::NotAll),
            (&[Indeterminate], Exit::NotAll),
        ] {
            assert_eq!(Exit::of_outcomes(kinds.iter().copied()), exit, "{kinds:?}");
        }
        for kind in OutcomeKind::ALL {
            assert_eq!(Exit::of_outcomes([kind]) == Exit::Success, kind == Succeeded);
        }
    }

    #[test]
    fn an_error_is_told_with_causes_and_hint() {
        let inner = std::io::Error::other("disk on fire \x1b[2J");
        let error = anyhow::Error::from(
            Problem::usage("cannot read `x`").hint("put it out").because(anyhow::Error::from(inner)),
        );
        let (exit, text) = describe(&error, false);
        assert_eq!(exit, Exit::Usage);
        assert_eq!(text, "error: cannot read `x`\n  caused by: disk on fire \\u{1b}[2J\nhint: put it out\n");
    }
}
