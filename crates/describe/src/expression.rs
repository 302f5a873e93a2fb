//! Expressions in CEL, from whoever may write one: read within bounds, and looked at before use.
//!
//! Two places have them: targets (`--where`, over `node`) and alerts of a manifest (`when`, over
//! `status`). The agent reads none, and does not link this crate.
//!
//! Parser and interpreter recurse once for each bracket, operator or field, and an end of the stack
//! ends the process. So both run [on a large stack](on_large_stack), which fits what [`MAX_BYTES`]
//! can nest.

use cel::{
    Program,
    common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr},
};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// Bytes of an expression at most.
pub const MAX_BYTES: usize = 1024;
/// An expression is as deep as it is long at worst: this is 256 KiB of stack for each of its bytes.
/// Only what is used takes memory.
const STACK: usize = MAX_BYTES << 18;
/// Loops (`all`, `exists`, `map`, `filter`) in an expression at most: one inside the other multiplies.
pub const MAX_LOOPS: usize = 2;

/// What is wrong with an expression. Reads on after "the expression".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place.map(|(line, column)| format!("at line {line}, column {column}: ")).unwrap_or_default())]
pub struct ExpressionError {
    /// Line and column, from 1.
    pub place: Option<(u32, u32)>,
    /// What is wrong.
    pub message: String,
}

impl ExpressionError {
    /// Something that has no place.
    pub fn new(message: impl Into<String>) -> ExpressionError {
        ExpressionError { place: None, message: message.into() }
    }
}

/// Run something that reads or evaluates expressions where there is stack enough for any.
///
/// # Errors
/// If there is no thread for it, or it panics, which would be a bug of the interpreter.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ExpressionError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("expression".into()).stack_size(STACK);
        match thread.spawn_scoped(scope, work).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_panic)) => Err(ExpressionError::new("broke the interpreter")),
            Err(error) => Err(ExpressionError::new(format!("could not be evaluated: {error}"))),
        }
    })
}

/// Read an expression. Call it [on a large stack](on_large_stack).
///
/// # Errors
/// If it is too long, is not CEL, or has too many loops.
pub fn compile(text: &str) -> Result<Program, ExpressionError> {
    if text.len() > MAX_BYTES {
        return Err(ExpressionError::new(format!("is longer than {MAX_BYTES} bytes")));
    }
    let program = Program::compile(text).map_err(|errors| match errors.errors.first() {
        Some(error) => ExpressionError {
            place: u32::try_from(error.pos.0).ok().zip(u32::try_from(error.pos.1).ok()),
            message: error.msg.clone(),
        },
        None => ExpressionError::new("is not CEL"),
    })?;
    if Uses::of(program.expression()).loops > MAX_LOOPS {
        return Err(ExpressionError::new(format!("has more than {MAX_LOOPS} loops")));
    }
    Ok(program)
}

/// JSON as CEL has it. Whole numbers become `int` where they fit, so that `cpu_count > 4` compares ints.
pub fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => cel::Value::Int(int),
            (_, Some(uint)) => cel::Value::UInt(uint),
            _ => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            map.iter().map(|(key, json)| (key.as_str(), value(json))).collect::<HashMap<_, _>>().into()
        }
    }
}

/// What an expression refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses<'e> {
    /// Variables that nothing in the expression declares.
    pub(crate) variables: BTreeSet<&'e str>,
    /// Functions, without operators.
    pub(crate) functions: BTreeSet<&'e str>,
    /// Fields of anything, also those in `has(…)`.
    pub(crate) fields: BTreeSet<&'e str>,
    /// Objects it makes itself, which have fields of their own.
    pub(crate) objects: usize,
    /// Loops, wherever they are.
    pub(crate) loops: usize,
}

impl<'e> Uses<'e> {
    pub(crate) fn of(expression: &'e IdedExpr) -> Uses<'e> {
        let mut uses = Uses::default();
        uses.add(expression, &mut Vec::new());
        uses
    }

    fn add(&mut self, expression: &'e IdedExpr, declared: &mut Vec<&'e str>) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                if !name.starts_with('@') && !declared.contains(&name.as_str()) {
                    self.variables.insert(name);
                }
            }
            Expr::Call(call) => {
                if call.func_name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    self.functions.insert(&call.func_name);
                }
                call.target.iter().for_each(|target| self.add(target, declared));
                call.args.iter().for_each(|argument| self.add(argument, declared));
            }
            Expr::Comprehension(inner) => {
                self.loops += 1;
                self.add(&inner.iter_range, declared);
                self.add(&inner.accu_init, declared);
                let outside = declared.len();
                declared.extend([inner.iter_var.as_str(), inner.accu_var.as_str()]);
                declared.extend(inner.iter_var2.as_deref());
                for part in [&inner.loop_cond, &inner.loop_step, &inner.result] {
                    self.add(part, declared);
                }
                declared.truncate(outside);
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.add(element, declared)),
            Expr::Select(select) => {
                self.fields.insert(&select.field);
                self.add(&select.operand, declared);
            }
            Expr::Map(map) => self.entries(&map.entries, declared),
            Expr::Struct(record) => self.entries(&record.entries, declared),
        }
    }

    fn entries(&mut self, entries: &'e [IdedEntryExpr], declared: &mut Vec<&'e str>) {
        self.objects += 1;
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => self.add(&field.value, declared),
                EntryExpr::MapEntry(entry) => {
                    self.add(&entry.key, declared);
                    self.add(&entry.value, declared);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_expression_refers_to() {
        let program = compile(
            "status.pools.exists(p, p.state == wanted && size(p.vdevs) > 0) || has(status.error) || p.x",
        )
        .expect("CEL");
        let uses = Uses::of(program.expression());
        // `p` is declared within the loop only.
        assert_eq!(uses.variables, BTreeSet::from(["p", "status", "wanted"]));
        assert_eq!(uses.functions, BTreeSet::from(["size"]));
        assert_eq!(uses.fields, BTreeSet::from(["error", "pools", "state", "vdevs", "x"]));
        assert_eq!((uses.loops, uses.objects), (1, 0));
    }

    /// As deep as an expression can be, in each way: an answer of some kind, and no end of the stack.
    #[test]
    fn no_expression_ends_the_stack() {
        let repeated = |open: &str, middle: &str, close: &str| {
            let times = (MAX_BYTES - middle.len()) / (open.len() + close.len());
            format!("{}{middle}{}", open.repeat(times), close.repeat(times))
        };
        for text in [
            repeated("(", "true", ")"),
            repeated("[", "true", "]"),
            repeated("!", "true", ""),
            repeated("-", "1", ""),
            repeated("true?", "true", ":1"),
            repeated("true&&", "true", ""),
            repeated("", "node", ".a"),
            repeated("", "node", "[0]"),
            repeated("size(", "1", ")"),
            repeated("{1:", "1", "}"),
            repeated("1+", "1", ""),
            repeated("", "node", ".f()"),
        ] {
            on_large_stack(|| {
                if let Ok(program) = compile(&text) {
                    let _ = program.execute(&cel::Context::default());
                }
            })
            .expect("an answer");
        }
    }
}
