//! Results of the cases of a plugin.

use super::{
    scalar,
    table::{Tone, indent},
    text::{clean, clean_lines, count, short},
    time,
};
use crate::{
    output::Look,
    plugin::local::{Difference, Failure, Tested, Verdict},
};
use serde_json::Value;

/// Differences that are shown of one case.
const SHOWN: usize = 20;
/// Characters of a value that are shown.
const VALUE: usize = 300;

/// One line a case, with what is wrong beneath those that failed.
pub fn list(tested: &[Tested], look: &Look) -> String {
    let names = tested.iter().map(|case| clean(&case.case).chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for case in tested {
        let (word, tone) = match case.verdict {
            Verdict::Ok => ("ok     ", Tone::Good),
            Verdict::Updated => ("updated", Tone::Unsure),
            Verdict::Failed(_) => ("FAILED ", Tone::Bad),
        };
        let mut line = format!("{}  {:names$}", tone.paint(word, look), clean(&case.case));
        if let Some(stats) = case.stats {
            let memory = scalar::size(stats.memory_peak_bytes);
            line.push_str(&format!("  {memory:>9}  {:>7}", time::duration_us(stats.wall_us)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
        if let Verdict::Failed(failure) = &case.verdict {
            out.push_str(&indent(&self::failure(failure, look), 9));
        }
    }
    out
}

fn failure(failure: &Failure, look: &Look) -> String {
    let mut out = clean_lines(&failure.problem);
    out.push('\n');
    let width = failure.differences.iter().take(SHOWN).map(|it| at(it).chars().count()).max().unwrap_or(0);
    for difference in failure.differences.iter().take(SHOWN) {
        let value = |value: &Option<Value>| match value {
            Some(value) => short(&clean(&value.to_string()), VALUE),
            None => "nothing".into(),
        };
        let (expected, found) = (value(&difference.expected), value(&difference.found));
        out.push_str(&format!("  {:width$}  expected {expected}\n", at(difference)));
        out.push_str(&format!("  {:width$}  found    {found}\n", ""));
    }
    if failure.differences.len() > SHOWN {
        out.push_str(&format!("  and {} more\n", failure.differences.len() - SHOWN));
    }
    if let Some(hint) = &failure.hint {
        out.push_str(&format!("{} {}\n", Tone::Faint.paint("hint:", look), clean(hint)));
    }
    out
}

fn at(difference: &Difference) -> String {
    if difference.at.is_empty() { "(all of it)".into() } else { clean(&difference.at) }
}

/// `3 cases: 2 ok, 1 failed`.
pub fn summary(tested: &[Tested], look: &Look) -> String {
    let of = |wanted: fn(&Verdict) -> bool| tested.iter().filter(|case| wanted(&case.verdict)).count();
    let parts: Vec<String> = [
        (of(|verdict| *verdict == Verdict::Ok), "ok", Tone::Good),
        (of(|verdict| *verdict == Verdict::Updated), "updated", Tone::Unsure),
        (of(|verdict| matches!(verdict, Verdict::Failed(_))), "failed", Tone::Bad),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, word, tone)| tone.paint(&format!("{count} {word}"), look))
    .collect();
    format!("{}: {}", count(tested.len(), "case"), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::look;
    use serde_json::json;
    use windlass_types::trace::CallStats;

    #[test]
    fn results_of_cases() {
        let tested = |case: &str, verdict| Tested {
            case: case.into(),
            operation: Some("disk.usage".into()),
            verdict,
            outcome: None,
            stats: Some(CallStats { wall_us: 3_250, cpu_ms: 2, memory_peak_bytes: 1_200_000 }),
        };
        let difference = |at: &str, expected, found| Difference { at: at.into(), expected, found };
        let differs = Failure {
            problem: "the result differs".into(),
            differences: vec![
                difference("/used_bytes", Some(json!(1)), Some(json!(2))),
                difference("/mounted_on", Some(json!("/")), None),
            ],
            hint: Some("`windlass plugin test --update` takes what was found as what is expected".into()),
        };
        let other =
            Failure::new("call 1 is not the one in the cassette\n  cassette: a\n  made:     b\u{1b}[2J");
        let broken = Tested {
            stats: None,
            ..tested("broken", Verdict::Failed(Failure::new("there is no `call.json`")))
        };
        let all = [
            tested("root", Verdict::Ok),
            tested("no-such-path", Verdict::Failed(differs)),
            tested("other", Verdict::Failed(other)),
            broken,
            tested("new", Verdict::Updated),
        ];
        insta::assert_snapshot!(format!("{}{}\n", list(&all, &look(Some(100))), summary(&all, &look(None))));
    }
}
