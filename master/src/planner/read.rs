//! From what a planned operation gave to a plan.
//!
//! The JSON form of `windlass:plan/types.plan` is that of [`Plan`], but for arguments: WIT has no type for
//! values of any type, so there they are text.

use serde::de::DeserializeOwned;
use serde_json::Value;
use windlass_types::plans::{Plan, Step};

/// What is wrong with it, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub pointer: String,
    pub problem: String,
}

/// Read a plan. Whether it can be right is not looked at.
pub(super) fn plan(mut value: Value) -> Result<Plan, Problem> {
    let steps = value.get_mut("steps").map(Value::take);
    let mut read = Vec::new();
    for (index, mut step) in
        steps.as_ref().and_then(Value::as_array).into_iter().flatten().cloned().enumerate()
    {
        for action in ["/act", "/undo", "/verify/action"] {
            arguments(&mut step, action)
                .map_err(|problem| Problem { pointer: format!("/steps/{index}{action}/args"), problem })?;
        }
        read.push(
            of_json::<Step>(step)
                .map_err(|problem| Problem { pointer: format!("/steps/{index}"), problem })?,
        );
    }
    if let Some(steps) = value.get_mut("steps") {
        *steps = Value::Array(Vec::new());
    }
    let plan = of_json::<Plan>(value).map_err(|problem| Problem { pointer: String::new(), problem })?;
    Ok(Plan { steps: read, ..plan })
}

fn of_json<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Make arguments of their text, where there is such an action.
fn arguments(step: &mut Value, action: &str) -> Result<(), String> {
    let Some(args) = step.pointer_mut(action).and_then(|action| action.get_mut("args")) else {
        return Ok(());
    };
    let Value::String(text) = &*args else { return Ok(()) };
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    if !value.is_object() {
        return Err("arguments are a JSON object".into());
    }
    *args = value;
    Ok(())
}
