//! Outcomes in words.

use super::{
    scalar,
    table::{Text, Tone},
    text::clean,
    time,
};
use crate::output::Look;
use windlass_types::{Outcome, OutcomeKind, Refusal, TrapReason};

/// How an outcome is called.
pub fn word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Succeeded => "succeeded",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Trapped => "trapped",
        OutcomeKind::TimedOut => "timed out",
        OutcomeKind::Denied => "denied",
        OutcomeKind::Refused => "refused",
        OutcomeKind::Cancelled => "cancelled",
        OutcomeKind::NoAnswer => "no answer",
        OutcomeKind::Indeterminate => "indeterminate",
    }
}

/// The tone of an outcome: bad is what broke, unsure is what may have happened or not.
pub fn tone(kind: OutcomeKind) -> Tone {
    match kind {
        OutcomeKind::Succeeded => Tone::Good,
        OutcomeKind::Failed | OutcomeKind::Trapped | OutcomeKind::Denied | OutcomeKind::TimedOut => Tone::Bad,
        OutcomeKind::Refused
        | OutcomeKind::Cancelled
        | OutcomeKind::NoAnswer
        | OutcomeKind::Indeterminate => Tone::Unsure,
    }
}

/// The cell that says how it ended.
pub fn cell(outcome: &Outcome, look: &Look) -> Text {
    let text = match outcome {
        Outcome::NoAnswer { last_seen_ms: Some(at) } => {
            format!("no answer, last seen {}", time::ago(*at, look))
        }
        Outcome::NoAnswer { last_seen_ms: None } => "no answer, never seen".into(),
        other => word(other.kind()).into(),
    };
    tone(outcome.kind()).text(text)
}

/// Why it did not succeed; empty where there is nothing to add.
pub fn detail(outcome: &Outcome, look: &Look) -> String {
    match outcome {
        Outcome::Succeeded { .. } | Outcome::NoAnswer { .. } => String::new(),
        Outcome::Failed { error } => scalar::brief(error, look),
        Outcome::Trapped { reason, message } => format!("{}: {}", trap(*reason), clean(message)),
        Outcome::TimedOut { after_ms } => format!("after {}", time::duration_ms(*after_ms)),
        Outcome::Denied { denial, error } => {
            let mut text = clean(&denial.to_string());
            if let Some(error) = error {
                text.push_str(&format!(" (then failed: {})", scalar::brief(error, look)));
            }
            text
        }
        Outcome::Refused { reason, message } => format!("{}: {}", refusal(*reason), clean(message)),
        Outcome::Cancelled { started: true } => "while it ran".into(),
        Outcome::Cancelled { started: false } => "before it began".into(),
        Outcome::Indeterminate { message } => clean(message),
    }
}

fn trap(reason: TrapReason) -> &'static str {
    match reason {
        TrapReason::Cpu => "processor time",
        TrapReason::Memory => "memory",
        TrapReason::Stack => "stack",
        TrapReason::Output => "output",
        TrapReason::Crash => "crash",
        TrapReason::Contract => "contract",
    }
}

fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Busy => "busy",
        Refusal::UnknownOperation => "unknown operation",
        Refusal::TypeChanged => "type changed",
        Refusal::BadArguments => "bad arguments",
        Refusal::TooLate => "too late",
        Refusal::Draining => "draining",
        Refusal::PluginUnusable => "plugin unusable",
        Refusal::Stopped => "stopped",
        Refusal::Locked => "locked",
        Refusal::Secret => "secret",
    }
}

/// `2 succeeded, 1 no answer`, in the order of the kinds.
pub fn tally(counts: impl IntoIterator<Item = (OutcomeKind, u32)>, look: &Look) -> String {
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| tone(kind).paint(&format!("{count} {}", word(kind)), look))
        .collect();
    parts.join(", ")
}
