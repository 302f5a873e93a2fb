//! Whether a case passed, and where it did not.

use super::case::{Expected, ExpectedDenial};
use serde::Serialize;
use serde_json::Value;
use windlass_runtime::TapeError;
use windlass_types::{Outcome, trace::CallStats};

/// A case that was run.
#[derive(Debug, Serialize)]
pub struct Tested {
    pub case: String,
    /// None where the case itself could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// None where it was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<CallStats>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// What came out is expected from now on.
    Updated,
    Failed(Failure),
}

/// Why a case failed.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Failure {
    pub problem: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A place where two values differ.
#[derive(Debug, PartialEq, Serialize)]
pub struct Difference {
    /// JSON pointer; empty for the whole.
    pub at: String,
    /// None where nothing is expected.
    pub expected: Option<Value>,
    /// None where nothing is found.
    pub found: Option<Value>,
}

impl Failure {
    pub fn new(problem: impl Into<String>) -> Failure {
        Failure { problem: problem.into(), ..Failure::default() }
    }
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }
    fn differing(self, differences: Vec<Difference>) -> Failure {
        Failure { differences, ..self }
    }
}

/// Judge what came of a case. An operation that made other calls than the recorded ones has failed
/// whatever it returned.
pub fn judge(
    expected: Option<&Expected>,
    outcome: &Outcome,
    tape: Result<(), TapeError>,
) -> Result<(), Failure> {
    if let Err(error) = tape {
        let left = matches!(error, TapeError::Left { .. });
        let ended = Expected::of(outcome).is_none() && left;
        // It ended early for another reason, and so left calls: that reason is worth more.
        if !ended {
            return Err(Failure::new(error.to_string()).hint(
                "where the plugin is right, record the case anew with `windlass plugin record --replace`, or edit its cassette",
            ));
        }
    }
    let Some(found) = Expected::of(outcome) else {
        return Err(Failure::new(format!("it {}", ended(outcome))));
    };
    let Some(expected) = expected else {
        return Err(Failure::new("nothing is expected of it")
            .hint("`windlass plugin test --update` writes down what comes out"));
    };
    match (expected, &found) {
        (Expected::Value(expected), Expected::Value(found)) => same("the result differs", expected, found),
        (Expected::Error(expected), Expected::Error(found)) => same("the error differs", expected, found),
        (Expected::Denial(expected), Expected::Denial(found)) => denied(expected, found),
        (expected, _) => {
            let problem = format!("expected {}, and it {}", expected_words(expected), ended(outcome));
            Err(Failure::new(problem))
        }
    }
}

fn expected_words(expected: &Expected) -> String {
    match expected {
        Expected::Value(_) => "success".into(),
        Expected::Error(error) => format!("the error {error}"),
        Expected::Denial(denial) => format!("a denial of {}", denial.capability),
    }
}

/// How an operation ended, after `it`.
fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded".into(),
        Outcome::Failed { error } => format!("failed with {error}"),
        Outcome::Denied { denial, .. } => format!("was denied {denial}"),
        Outcome::Trapped { message, .. } => format!("trapped: {message}"),
        Outcome::TimedOut { after_ms } => format!("timed out after {after_ms} ms"),
        Outcome::Refused { message, .. } => format!("was refused: {message}"),
        Outcome::Indeterminate { message } => format!("got lost: {message}"),
        Outcome::Cancelled { .. } | Outcome::NoAnswer { .. } => "was cancelled".into(),
    }
}

fn same(problem: &str, expected: &Value, found: &Value) -> Result<(), Failure> {
    let mut differences = Vec::new();
    compare(String::new(), Some(expected), Some(found), &mut differences);
    match differences.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(problem)
            .differing(differences)
            .hint("`windlass plugin test --update` takes what was found as what is expected")),
    }
}

fn denied(expected: &ExpectedDenial, found: &ExpectedDenial) -> Result<(), Failure> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let fits = expected.capability == found.capability
        && expected.request.as_ref().is_none_or(|request| *request == text(&found.request))
        && expected.missing.as_ref().is_none_or(|missing| text(&found.missing).contains(missing));
    if fits {
        return Ok(());
    }
    let value = |denial: &ExpectedDenial| serde_json::to_value(denial).unwrap_or_default();
    // What is not said is not compared, and not shown.
    let mut found = found.clone();
    if expected.request.is_none() {
        found.request = None;
    }
    if expected.missing.as_ref().is_none_or(|missing| text(&found.missing).contains(missing)) {
        found.missing.clone_from(&expected.missing);
    }
    same("the denial differs", &value(expected), &value(&found))
}

fn compare(at: String, expected: Option<&Value>, found: Option<&Value>, out: &mut Vec<Difference>) {
    match (expected, found) {
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            let new = found.keys().filter(|key| !expected.contains_key(*key));
            for key in expected.keys().chain(new) {
                // RFC 6901.
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                compare(at, expected.get(key), found.get(key), out);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(found))) => {
            for index in 0..expected.len().max(found.len()) {
                compare(format!("{at}/{index}"), expected.get(index), found.get(index), out);
            }
        }
        (Some(Value::Number(expected)), Some(Value::Number(found))) if same_number(expected, found) => {}
        (expected, found) if expected == found => {}
        (expected, found) => {
            out.push(Difference { at, expected: expected.cloned(), found: found.cloned() });
        }
    }
}

/// `1` and `1.0` are the same number where a fraction is meant; whole numbers are compared digit by
/// digit.
fn same_number(expected: &serde_json::Number, found: &serde_json::Number) -> bool {
    expected == found || (expected.is_f64() || found.is_f64()) && expected.as_f64() == found.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use windlass_types::{Denial, TrapReason};

    fn succeeded(value: Value) -> Outcome {
        Outcome::Succeeded { value }
    }

    fn differences(expected: Value, found: Value) -> Vec<(String, Option<Value>, Option<Value>)> {
        match judge(Some(&Expected::Value(expected)), &succeeded(found), Ok(())) {
            Ok(()) => Vec::new(),
            Err(failure) => {
                failure.differences.into_iter().map(|it| (it.at, it.expected, it.found)).collect()
            }
        }
    }

    #[test]
    fn places_of_differences() {
        let expected = json!({ "pools": [{ "name": "a" }, { "name": "b", "size": u64::MAX }], "x/y": 1 });
        let found =
            json!({ "pools": [{ "name": "a" }, { "name": "c", "size": u64::MAX - 1 }, 3], "x/y": 1.0 });
        assert_eq!(
            differences(expected, found),
            [
                ("/pools/1/name".into(), Some(json!("b")), Some(json!("c"))),
                ("/pools/1/size".into(), Some(json!(u64::MAX)), Some(json!(u64::MAX - 1))),
                ("/pools/2".into(), None, Some(json!(3))),
            ]
        );
        assert_eq!(
            differences(json!({ "a~/": null }), json!({})),
            [("/a~0~1".to_owned(), Some(Value::Null), None)]
        );
        assert_eq!(differences(json!(7), json!("7")), [(String::new(), Some(json!(7)), Some(json!("7")))]);
    }

    #[test]
    fn an_outcome_of_another_kind_is_told() {
        let problem = |expected: Expected, outcome: &Outcome| {
            judge(Some(&expected), outcome, Ok(())).unwrap_err().problem
        };
        let error = Outcome::Failed { error: json!("gone") };
        assert_eq!(
            problem(Expected::Value(json!(1)), &error),
            "expected success, and it failed with \"gone\""
        );
        assert_eq!(
            problem(Expected::Error(json!("gone")), &succeeded(json!(1))),
            "expected the error \"gone\", and it succeeded"
        );
        let trapped = Outcome::Trapped { reason: TrapReason::Memory, message: "too much".into() };
        assert_eq!(problem(Expected::Value(json!(1)), &trapped), "it trapped: too much");
        let left = TapeError::Left { played: 1, total: 2, next: "x".into() };
        let failure = judge(Some(&Expected::Value(json!(1))), &trapped, Err(left.clone())).unwrap_err();
        assert_eq!(failure.problem, "it trapped: too much", "that is why calls are left");
        let failure = judge(Some(&Expected::Value(json!(1))), &succeeded(json!(1)), Err(left)).unwrap_err();
        assert!(failure.problem.contains("was not made"), "{failure:?}");
        assert!(judge(None, &succeeded(json!(1)), Ok(())).unwrap_err().hint.is_some());
    }

    #[test]
    fn denials_are_compared_as_far_as_they_are_said() {
        let denial = Denial {
            capability: "commands.run".into(),
            request: "rm -r /".into(),
            missing: "the manifest has no `[commands.rm]`".into(),
        };
        let outcome = Outcome::Denied { denial, error: None };
        let judge = |capability: &str, request: Option<&str>, missing: Option<&str>| {
            let expected = ExpectedDenial {
                capability: capability.into(),
                request: request.map(Into::into),
                missing: missing.map(Into::into),
            };
            judge(Some(&Expected::Denial(expected)), &outcome, Ok(()))
                .map_err(|failure| failure.differences.into_iter().map(|it| it.at).collect::<Vec<_>>())
        };
        judge("commands.run", None, None).unwrap();
        judge("commands.run", Some("rm -r /"), Some("commands.rm")).unwrap();
        assert_eq!(judge("commands.spawn", None, Some("commands.rm")).unwrap_err(), ["/capability"]);
        assert_eq!(judge("commands.run", Some("rm"), Some("other")).unwrap_err(), ["/missing", "/request"]);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c]?".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Each difference is found where its pointer leads, and equal values have none.
        #[test]
        fn pointers_lead_to_what_differs(one in json(), other in json()) {
            let differences = differences(one.clone(), other.clone());
            prop_assert_eq!(differences.is_empty(), one == other);
            for (at, expected, found) in differences {
                prop_assert_eq!(one.pointer(&at), expected.as_ref());
                prop_assert_eq!(other.pointer(&at), found.as_ref());
            }
        }
    }
}
