//! Which events a rule is about.
//!
//! An expression that fails on an event, most often because the event has no such field, does not fit it.
//! What can't be right for any event is an error when the rule is made.

use cel::{Context, ExecutionError, Program};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use windlass_describe::expression::{self, ExpressionError};
use windlass_types::api::events::Event;

/// How long the expression of one rule may take over one step of events.
const TIME: Duration = Duration::from_secs(2);

/// What a rule looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    kind: String,
    when: Option<String>,
}

/// What a look at some events gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Positions of those that fit.
    pub fits: Vec<usize>,
    /// On how many the expression failed, and how first.
    pub failed: u32,
    pub failure: Option<String>,
}

impl Condition {
    /// # Errors
    /// If no event could ever fit.
    pub fn parse(kind: &str, when: Option<&str>) -> Result<Self, String> {
        if crate::store::events::Filter::new(Some(kind), None).is_none() || kind.is_empty() {
            return Err(format!("`{kind}` is no kind of event: see docs/schedules-events.md"));
        }
        if kind.starts_with("rule.") {
            return Err("events about rules fire no rule".into());
        }
        if let Some(text) = when {
            let checked = expression::on_large_stack(|| expression::compile(text).map(drop));
            checked.and_then(|compiled| compiled).map_err(|error| format!("the expression {error}"))?;
        }
        Ok(Condition { kind: kind.to_owned(), when: when.map(str::to_owned) })
    }

    /// Those of some events that fit. Call it where waiting is allowed.
    ///
    /// # Errors
    /// If the expression takes too long, or gives something else than true or false.
    pub fn among(&self, events: &[Event]) -> Result<Found, String> {
        let of_kind = (0..events.len()).filter(|index| {
            let event = &events[*index];
            matches(&self.kind, &event.kind) && !by_a_rule(event)
        });
        let Some(text) = &self.when else {
            return Ok(Found { fits: of_kind.collect(), ..Found::default() });
        };
        let indexes: Vec<usize> = of_kind.collect();
        if indexes.is_empty() {
            return Ok(Found::default());
        }
        let looked = expression::on_large_stack(|| {
            let program = expression::compile(text)?;
            look(&program, events, &indexes)
        });
        looked.and_then(|found| found).map_err(|error: ExpressionError| format!("the expression {error}"))
    }
}

fn look(program: &Program, events: &[Event], indexes: &[usize]) -> Result<Found, ExpressionError> {
    let begun = Instant::now();
    let mut found = Found::default();
    for index in indexes {
        if begun.elapsed() > TIME {
            return Err(ExpressionError::new("takes too long"));
        }
        let mut context = Context::default();
        context.add_variable_from_value("event", value(&events[*index]));
        match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => found.fits.push(*index),
            Ok(cel::Value::Bool(false)) => {}
            Ok(other) => {
                let message = format!("gives a {}, neither true nor false", other.type_of());
                return Err(ExpressionError::new(message));
            }
            Err(ExecutionError::UndeclaredReference(name)) => {
                let message = format!("uses `{name}`, which there is not: there is only `event`");
                return Err(ExpressionError::new(message));
            }
            Err(error) => {
                found.failed += 1;
                if found.failure.is_none() {
                    found.failure = Some(error.to_string().chars().take(300).collect());
                }
            }
        }
    }
    Ok(found)
}

/// What a rule has done fires no rule: two of them could keep each other busy for ever.
fn by_a_rule(event: &Event) -> bool {
    event.kind.starts_with("rule.")
        || event.data["by"].as_str().is_some_and(|by| by.starts_with(super::ACTOR))
}

/// Whether a kind fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, kind: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == kind };
    let Some(mut left) = kind.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

fn value(event: &Event) -> cel::Value {
    let text = |text: String| cel::Value::from(text.as_str());
    HashMap::from([
        ("seq", cel::Value::Int(event.seq)),
        ("time_ms", cel::Value::Int(event.time_ms)),
        ("kind", text(event.kind.clone())),
        ("node", event.node.map_or(cel::Value::Null, |node| text(node.to_string()))),
        ("node_name", event.node_name.as_ref().map_or(cel::Value::Null, |name| text(name.to_string()))),
        ("subject", text(event.subject.clone())),
        ("data", expression::value(&event.data)),
    ])
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(kind: &str, data: serde_json::Value) -> Event {
        Event {
            seq: 1,
            time_ms: 2,
            kind: kind.into(),
            node: None,
            node_name: None,
            subject: "s".into(),
            data,
        }
    }

    fn fits(kind: &str, when: &str, events: &[Event]) -> Result<Vec<usize>, String> {
        Condition::parse(kind, Some(when))?.among(events).map(|found| found.fits)
    }

    #[test]
    fn events_are_chosen_by_kind_and_expression() {
        let events = [
            event("job.finished", json!({ "outcomes": { "failed": 2 }, "by": "ann" })),
            event("job.finished", json!({ "outcomes": { "succeeded": 2 }, "by": "ann" })),
            event("job.finished", json!({ "outcomes": { "failed": 2 }, "by": "rule:mend" })),
            event("node.connected", json!({})),
        ];
        let failed = "event.data.outcomes.failed > 0";
        assert_eq!(fits("job.*", failed, &events), Ok(vec![0]), "what a rule did is no reason for another");
        let found = Condition::parse("job.finished", Some(failed)).unwrap().among(&events).unwrap();
        assert_eq!(found.failed, 1, "an event without such a field does not fit");
        assert!(found.failure.unwrap().contains("failed"));
        let all = Condition::parse("*", None).unwrap().among(&events).unwrap();
        assert_eq!(all.fits, [0, 1, 3]);
        for (when, says) in [("event.kind", "neither true nor false"), ("evnt.kind == 'x'", "only `event`")] {
            assert!(fits("*", when, &events).unwrap_err().contains(says), "{when}");
        }
        assert!(Condition::parse("*", Some("event.kind ==")).unwrap_err().contains("expression"));
        assert!(Condition::parse("Job.*", None).unwrap_err().contains("no kind"));
        assert!(Condition::parse("rule.fired", None).is_err());
    }

    proptest! {
        /// Against the slow way to decide it.
        #[test]
        fn patterns_fit_as_they_should(pattern in "[ab*]{0,6}", kind in "[ab]{0,6}") {
            fn slow(pattern: &[u8], kind: &[u8]) -> bool {
                match (pattern.split_first(), kind.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), None) => slow(rest, kind),
                    (Some((b'*', rest)), Some((_, others))) => slow(rest, kind) || slow(pattern, others),
                    (Some((p, rest)), Some((k, others))) => p == k && slow(rest, others),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &kind), slow(pattern.as_bytes(), kind.as_bytes()));
        }
    }
}
