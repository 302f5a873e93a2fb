//! What an operation asked of its host, one line a call.

use super::{
    table::{Grid, Text, Tone},
    text::{clean, command_line},
    time,
};
use crate::output::Look;
use windlass_types::{
    api::JobTrace,
    trace::{TraceDetail, TraceEntry, Verdict},
};

/// The trace of one node as a table.
pub fn table(trace: &JobTrace, look: &Look) -> String {
    if trace.entries.is_empty() {
        return "the operation asked nothing of its host\n".into();
    }
    let mut grid = Grid::new(["at", "took", "call", "what", "result", "rule"]);
    for entry in &trace.entries {
        if let TraceDetail::Dropped { .. } = entry.detail {
            grid.row(["", "", "", &what(entry), "", ""]);
            continue;
        }
        let (verdict, tone) = verdict(&entry.verdict);
        let plain = |text: String| Text::from(text);
        grid.row([
            plain(format!("+{}", time::duration_us(entry.at_us))),
            plain(time::duration_us(entry.duration_us)),
            plain(clean(&entry.function)),
            plain(what(entry)),
            result(entry),
            tone.text(verdict),
        ]);
    }
    grid.render(look)
}

/// What a dry run would have done, one line a call; empty where it would change nothing.
pub fn would_run(trace: &JobTrace) -> Vec<String> {
    let would = |entry: &&TraceEntry| matches!(entry.verdict, Verdict::WouldRun { .. });
    trace
        .entries
        .iter()
        .filter(would)
        .map(|entry| match entry.detail {
            TraceDetail::Command { .. } => what(entry),
            _ => format!("{} {}", clean(&entry.function), what(entry)),
        })
        .collect()
}

fn what(entry: &TraceEntry) -> String {
    let bytes = |bytes: u64| super::scalar::size(bytes);
    match &entry.detail {
        TraceDetail::Command { program, path, argv, secrets, .. } => {
            let program = path.as_deref().unwrap_or(program);
            let line = command_line(std::iter::once(program).chain(argv.iter().map(String::as_str)));
            match &secrets[..] {
                [] => line,
                secrets => format!("{line} with secret {}", clean(&secrets.join(", "))),
            }
        }
        TraceDetail::File { path, bytes: count } => format!("{} ({})", clean(path), bytes(*count)),
        TraceDetail::Probe { probe } => clean(probe),
        TraceDetail::State { key, bytes: count } => format!("{} ({})", clean(key), bytes(*count)),
        TraceDetail::Log { level, message } => format!("{}: {}", clean(level), clean(message)),
        TraceDetail::Progress { message, percent: Some(percent) } => {
            format!("{} ({percent} %)", clean(message))
        }
        TraceDetail::Progress { message, percent: None } => clean(message),
        TraceDetail::Dropped { entries } => format!("{entries} more calls, not kept"),
    }
}

fn result(entry: &TraceEntry) -> Text {
    if let Some(error) = &entry.error {
        return Tone::Bad.text(clean(error));
    }
    match &entry.detail {
        TraceDetail::Command { exit: Some(0), .. } => Tone::Good.text("exit 0"),
        TraceDetail::Command { exit: Some(code), .. } => Tone::Bad.text(format!("exit {code}")),
        TraceDetail::Command { signal: Some(signal), .. } => Tone::Bad.text(format!("signal {signal}")),
        _ => match entry.verdict {
            Verdict::Allowed { .. } => Tone::Good.text("ok"),
            _ => Text::from("-"),
        },
    }
}

fn verdict(verdict: &Verdict) -> (String, Tone) {
    match verdict {
        Verdict::Allowed { rule } => (clean(rule), Tone::Faint),
        Verdict::Denied { missing } => (format!("denied: {}", clean(missing)), Tone::Bad),
        Verdict::WouldRun { rule } => (format!("would run: {}", clean(rule)), Tone::Unsure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{look, trace};

    #[test]
    fn every_kind_of_call() {
        insta::assert_snapshot!(table(&trace(), &look(None)));
        assert_eq!(
            would_run(&trace()),
            ["/sbin/zpool create tank 'my disk'", "files.write /etc/exports (12 B)"]
        );
    }
}
