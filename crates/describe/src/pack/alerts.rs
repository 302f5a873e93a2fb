//! Whether the condition of an alert can be right: told before the plugin ships, not by a silent
//! alert on the day it was for.

use super::PackError;
use crate::expression::{self, ExpressionError, Uses};
use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use std::collections::BTreeSet;
use windlass_bundle::Manifest;
use windlass_types::{
    json::nearest,
    shape::{Operation, Shape},
};

/// Functions a condition may use, besides operators and the loops `all`, `exists`, `exists_one`,
/// `map` and `filter`. Clock and time zones are not among them: the same status gives the same answer.
const FUNCTIONS: [&str; 10] =
    ["bool", "contains", "double", "endsWith", "int", "matches", "size", "startsWith", "string", "uint"];

/// Check the conditions of all alerts against what their watches return.
pub(super) fn check(manifest: &Manifest, operations: &[Operation]) -> Result<(), PackError> {
    let all = || {
        manifest.alerts.iter().try_for_each(|(name, alert)| {
            let watched = manifest.watches.get(&alert.watch);
            let operation = watched.and_then(|watch| {
                operations.iter().find(|operation| operation.name.local() == watch.operation)
            });
            let status = operation.and_then(|operation| status(operation.signature.result.as_ref()));
            condition(&alert.when, status)
                .map_err(|problem| PackError::Alert { alert: name.clone(), problem })
        })
    };
    if manifest.alerts.is_empty() {
        return Ok(());
    }
    expression::on_large_stack(all).unwrap_or_else(|problem| {
        let alert = manifest.alerts.keys().next().cloned().unwrap_or_default();
        Err(PackError::Alert { alert, problem })
    })
}

/// What a watch keeps of a result: a returned error is no status.
fn status(result: Option<&Shape>) -> Option<&Shape> {
    match result? {
        Shape::Result { ok, .. } => ok.as_deref(),
        shape => Some(shape),
    }
}

fn condition(text: &str, status: Option<&Shape>) -> Result<(), ExpressionError> {
    let fail = |message: String| Err(ExpressionError::new(message));
    let program = expression::compile(text)?;
    let Some(status) = status else {
        return fail("has nothing to look at: the operation of its watch returns no value".into());
    };
    let uses = Uses::of(program.expression());
    if let Some(unknown) = uses.variables.iter().find(|name| **name != "status") {
        return fail(format!("uses `{unknown}`, which there is not: there is only `status`"));
    }
    if !uses.variables.contains("status") {
        return fail("does not look at `status`".into());
    }
    if let Some(unknown) = uses.functions.iter().find(|name| !FUNCTIONS.contains(name)) {
        let hint = nearest(unknown, FUNCTIONS.into_iter());
        return fail(format!("uses the function `{unknown}`, which there is not{}", hinted(hint)));
    }
    // What the expression makes itself may have any field.
    if uses.objects == 0 {
        let mut names = BTreeSet::new();
        keys(status, &mut names);
        if let Some(unknown) = uses.fields.iter().find(|field| !names.contains(*field)) {
            let hint = nearest(unknown, names.iter().copied());
            return fail(format!(
                "looks at `{unknown}`, and nothing in the status is called so{}",
                hinted(hint)
            ));
        }
    }
    if never_bool(program.expression()) {
        return fail("is neither true nor false".into());
    }
    Ok(())
}

fn hinted(hint: Option<String>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// Every key that an object in a value of this type can have.
fn keys<'s>(shape: &'s Shape, names: &mut BTreeSet<&'s str>) {
    match shape {
        Shape::List { item } | Shape::Option { item } => keys(item, names),
        Shape::Tuple { items } => items.iter().for_each(|item| keys(item, names)),
        Shape::Record { fields, .. } => {
            for field in fields {
                names.insert(&field.name);
                keys(&field.shape, names);
            }
        }
        Shape::Variant { cases, .. } => {
            for case in cases {
                names.insert(&case.name);
                case.payload.iter().for_each(|payload| keys(payload, names));
            }
        }
        Shape::Result { ok, err } => {
            names.extend(["ok", "err"]);
            ok.iter().chain(err).for_each(|side| keys(side, names));
        }
        _ => {}
    }
}

/// Whether an expression is something else than true or false whatever the status is.
fn never_bool(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        Expr::Comprehension(inner) => never_bool(&inner.accu_init) && !counts(&inner.result),
        Expr::Call(call) => match call.func_name.as_str() {
            operators::CONDITIONAL => call.args.iter().skip(1).all(never_bool),
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "size"
            | "int"
            | "uint"
            | "double"
            | "string" => true,
            _ => false,
        },
        _ => false,
    }
}

/// `exists_one` counts, and its result compares the number.
fn counts(result: &IdedExpr) -> bool {
    matches!(&result.expr, Expr::Call(call) if call.func_name == operators::EQUALS)
}
