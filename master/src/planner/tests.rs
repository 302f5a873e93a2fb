use super::read::{Problem, plan};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_types::plans::OnFailure;

fn given() -> Value {
    json!({
        "title": "one dataset",
        "notes": [],
        "steps": [{
            "id": "make",
            "title": "make it",
            "reason": null,
            "after": [],
            "act": {"node": "n1", "operation": "zfs.dataset.create", "args": "{\"name\": \"tank/a\"}"},
            "undo": {"node": "n1", "operation": "zfs.dataset.destroy", "args": "{}"},
            "verify": {
                "action": {"node": "n1", "operation": "zfs.dataset.list", "args": "{\"under\": \"tank/a\"}"},
                "expect": "size(output) == 1",
            },
            "approval": null,
            "retries": 2,
            "timeout_ms": 18_446_744_073_709_551_615_u64,
        }],
        "at_once": null,
        "on_failure": "hold",
    })
}

#[test]
fn what_a_plugin_gives_is_read() {
    let plan = plan(given()).unwrap();
    let step = &plan.steps[0];
    assert_eq!(step.act.args, json!({"name": "tank/a"}));
    assert_eq!(step.undo.as_ref().unwrap().args, json!({}));
    assert_eq!(step.verify.as_ref().unwrap().action.args, json!({"under": "tank/a"}));
    assert_eq!((step.retries, step.timeout_ms), (2, Some(u64::MAX)));
    assert_eq!((plan.on_failure, plan.at_once), (OnFailure::Hold, None));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let wrong = |place: &str, value: Value| {
        let mut given = given();
        *given.pointer_mut(place).unwrap() = value;
        plan(given).unwrap_err()
    };
    let Problem { pointer, problem } = wrong("/steps/0/act/args", json!("{"));
    assert_eq!(pointer, "/steps/0/act/args");
    assert!(problem.starts_with("not JSON"), "{problem}");
    let problem = wrong("/steps/0/verify/action/args", json!("[]"));
    let expected = ("/steps/0/verify/action/args", "arguments are a JSON object");
    assert_eq!((problem.pointer.as_str(), problem.problem.as_str()), expected);
    assert_eq!(wrong("/steps/0/act/node", json!("../x")).pointer, "/steps/0");
}

proptest! {
    #[test]
    fn whatever_a_plugin_gives_is_read_or_refused(place in 0..6_usize, text in ".{0,40}") {
        let places = ["/steps/0/act/args", "/steps/0/undo/args", "/steps/0/act/node", "/steps/0/id", "/title", "/on_failure"];
        let mut given = given();
        *given.pointer_mut(places[place]).unwrap() = text.into();
        let _ = plan(given);
    }
}
