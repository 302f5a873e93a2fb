use super::*;
use proptest::prelude::*;
use serde_json::json;

fn plan(steps: &Value) -> Plan {
    serde_json::from_value(json!({ "title": "try it", "steps": steps })).unwrap()
}

fn step(id: &str, after: &[&str]) -> Value {
    json!({
        "id": id, "title": "write", "after": after,
        "act": { "node": "n1", "operation": "kit.box.put", "args": { "path": "/x/${run}" } },
    })
}

fn problem(steps: &[Value]) -> String {
    let error = plan(&json!(steps)).check().unwrap_err();
    format!("{error} ({})", error.pointer)
}

#[test]
fn what_can_not_be_right_says_where() {
    assert_eq!(problem(&[]), "a plan needs a step (/steps)");
    assert_eq!(
        problem(&[step("a", &[]), step("a", &[])]),
        "step `a`: there is a step of this name already, number 1 (/steps/1/id)"
    );
    assert_eq!(
        problem(&[step("a", &[]), step("b", &["a", "c"])]),
        "step `b`: it comes after `c`, and there is no such step (/steps/1/after/1)"
    );
    let circle = problem(&[step("a", &["d"]), step("b", &["c"]), step("c", &["b"]), step("d", &["c"])]);
    assert!(circle.contains("it would have to wait for itself"), "{circle}");
    assert!(circle.starts_with("step `b`") || circle.starts_with("step `c`"), "{circle}");
    let mut long = step("a", &[]);
    long["title"] = json!("two\nlines");
    assert_eq!(
        problem(&[long]),
        "step `a`: `title`: it has a control character, or more than one line (/steps/0/title)"
    );
    let mut never = step("a", &[]);
    never["timeout_ms"] = json!(0);
    assert!(problem(&[never]).ends_with("(/steps/0/timeout_ms)"));
}

#[test]
fn what_is_not_known_is_an_error() {
    for (field, place) in [("untitled", ""), ("undoo", "/steps/0"), ("argz", "/steps/0/act")] {
        let mut value = json!({ "title": "x", "steps": [step("a", &[])] });
        value.pointer_mut(place).unwrap()[field] = json!(1);
        let error = serde_json::from_value::<Plan>(value).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
    }
    assert!(serde_json::from_value::<Plan>(json!({ "title": "x", "steps": [step("A", &[])] })).is_err());
}

#[test]
fn the_run_is_named_in_texts_only() {
    let mut made = plan(&json!([step("a", &[])]));
    made.steps[0].act.args = json!({ "${run}": ["x-${run}-${run}", 7, { "y": "${run}" }] });
    let id = PlanId::new();
    made.name_run(id);
    assert_eq!(
        made.steps[0].act.args,
        json!({ "${run}": [format!("x-{id}-{id}"), 7, { "y": id.to_string() }] })
    );
}

proptest! {
    #[test]
    fn an_order_is_one_or_has_a_circle(edges in prop::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
        let mut steps: Vec<Value> = (0..12).map(|number| step(&format!("s{number}"), &[])).collect();
        for (from, to) in &edges {
            steps[*from]["after"].as_array_mut().unwrap().push(json!(format!("s{to}")));
        }
        let mut reach = [[false; 12]; 12];
        for (from, to) in &edges {
            reach[*from][*to] = true;
        }
        for by in 0..12 {
            for from in 0..12 {
                for to in 0..12 {
                    reach[from][to] |= reach[from][by] && reach[by][to];
                }
            }
        }
        match plan(&json!(steps)).order() {
            Ok(order) => {
                prop_assert!((0..12).all(|step| !reach[step][step]));
                prop_assert_eq!(order.len(), 12);
            }
            // The step that is named is in the circle, not only behind it.
            Err(error) => {
                let named: usize = error.step.unwrap().as_str()[1..].parse().unwrap();
                prop_assert!(reach[named][named]);
            }
        }
    }
}
