//! An operation as its reader needs it: what it does, what it takes, what it gives, how to type it.

use super::{
    table::{Grid, Tone, indent},
    text::{self, clean, clean_lines},
    time,
};
use crate::output::Look;
use windlass_types::{
    Effect,
    api::OperationInfo,
    shape::{Field, Shape},
};

/// The list of operations.
pub fn list(operations: &[OperationInfo], look: &Look) -> String {
    let mut grid = Grid::new(["operation", "effect", "nodes", "what it does"]);
    for info in operations {
        let first = info.operation.docs.lines().next().unwrap_or_default();
        grid.row([
            info.name.as_str().into(),
            if info.operation.planned {
                "plan".into()
            } else {
                effect_tone(info.effect).text(info.effect.as_str())
            },
            nodes(info).into(),
            clean(first).into(),
        ]);
    }
    grid.render(look)
}

pub fn effect_tone(effect: Effect) -> Tone {
    match effect {
        Effect::Read => Tone::Plain,
        Effect::Change => Tone::Unsure,
        Effect::Destroy => Tone::Bad,
    }
}

fn nodes(info: &OperationInfo) -> String {
    match info.other_types.values().sum::<u32>() {
        0 => info.nodes.to_string(),
        other => format!("{} (+{other} of another type)", info.nodes),
    }
}

/// The page of one operation.
pub fn page(info: &OperationInfo, look: &Look) -> String {
    let signature = &info.operation.signature;
    let mut out = format!("{}\n", Tone::Strong.paint(info.name.as_str(), look));
    if !info.operation.docs.is_empty() {
        out.push_str(&indent(&clean_lines(&info.operation.docs), 2));
    }
    out.push('\n');
    let effect = match info.effect {
        _ if info.operation.planned => "plan: makes a plan, on the master; `windlass plan make`",
        Effect::Read => "read: only looks",
        Effect::Change => "change: changes what can be changed back",
        Effect::Destroy => "destroy: may lose data, asks for confirmation",
    };
    let again = if info.idempotent {
        "may be repeated: the second time changes nothing"
    } else {
        "not declared safe to repeat"
    };
    let rows = [
        ("effect", Some(effect_tone(info.effect).text(effect))),
        ("repeat", (info.effect != Effect::Read).then(|| again.into())),
        ("timeout", Some(time::duration_ms(info.timeout_ms).into())),
        ("plugin", Some(format!("{} {}", info.name.plugin(), clean(&info.plugin_version)).into())),
        ("nodes", Some(nodes(info).into())),
    ];
    out.push_str(&super::value::facts(rows, look));

    let heading =
        |out: &mut String, name: &str| out.push_str(&format!("\n{}\n", Tone::Strong.paint(name, look)));
    if !signature.params.is_empty() {
        heading(&mut out, "parameters");
        out.push_str(&indent(&fields(&signature.params, look), 2));
    }
    let (result, error) = match &signature.result {
        Some(Shape::Result { ok, err }) => (ok.as_deref(), err.as_deref()),
        other => (other.as_ref(), None),
    };
    heading(&mut out, "result");
    out.push_str(&indent(&result.map_or_else(|| "nothing\n".into(), |shape| describe(shape, look)), 2));
    if let Some(error) = error {
        heading(&mut out, "errors");
        out.push_str(&indent(&describe(error, look), 2));
    }
    heading(&mut out, "example");
    out.push_str(&format!("  {}\n", example(info)));
    out
}

/// A type with all that is within it.
fn describe(shape: &Shape, look: &Look) -> String {
    match inner(shape) {
        // A type without inner types has its brief form only.
        Some(_) => {
            let mut out = format!("{}\n", clean(&shape.brief()));
            out.push_str(&indent(&within(shape, look), 2));
            out
        }
        None => format!("{}\n", clean(&shape.brief())),
    }
}

/// The type whose parts are worth a table: through options and lists.
fn inner(shape: &Shape) -> Option<&Shape> {
    match shape {
        Shape::List { item } | Shape::Option { item } => inner(item),
        Shape::Record { fields, .. } if !fields.is_empty() => Some(shape),
        Shape::Variant { .. } => Some(shape),
        Shape::Enum { cases, .. } if cases.iter().any(|case| !case.docs.is_empty()) => Some(shape),
        Shape::Flags { .. } => Some(shape),
        Shape::Tuple { items } => items.iter().find_map(inner),
        _ => None,
    }
}

fn within(shape: &Shape, look: &Look) -> String {
    match inner(shape) {
        Some(Shape::Record { fields, .. }) => self::fields(fields, look),
        Some(Shape::Variant { cases, .. }) => {
            let rows =
                cases.iter().map(|case| (case.name.as_str(), case.payload.as_ref(), case.docs.as_str()));
            lines(rows, look)
        }
        Some(Shape::Enum { cases: labels, .. } | Shape::Flags { flags: labels, .. }) => {
            lines(labels.iter().map(|label| (label.name.as_str(), None, label.docs.as_str())), look)
        }
        _ => String::new(),
    }
}

fn fields(fields: &[Field], look: &Look) -> String {
    lines(fields.iter().map(|field| (field.name.as_str(), Some(&field.shape), field.docs.as_str())), look)
}

/// `name  type  docs`, with the parts of records beneath.
fn lines<'a>(rows: impl Iterator<Item = (&'a str, Option<&'a Shape>, &'a str)>, look: &Look) -> String {
    let rows: Vec<_> = rows.collect();
    let brief = |shape: Option<&Shape>| shape.map_or_else(String::new, |shape| clean(&shape.brief()));
    let longest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0).min(32);
    let name_width = longest(&mut rows.iter().map(|row| row.0.chars().count()));
    let type_width = longest(&mut rows.iter().map(|row| brief(row.1).chars().count()));
    let mut out = String::new();
    for (name, shape, docs) in rows {
        let kind = brief(shape);
        let name = format!("{:name_width$}", clean(name));
        let docs = clean(docs);
        let mut line = Tone::Strong.paint(&name, look);
        if type_width > 0 {
            line.push_str(&format!("  {}", Tone::Faint.paint(&format!("{kind:type_width$}"), look)));
        }
        line.push_str("  ");
        let used = name_width.max(name.chars().count()) + type_width.max(kind.chars().count()) + 4;
        out.push_str(&fold(&line, &docs, used, look));
        // The cases of an enum stand in its brief form already, or beneath when they say more.
        if let Some(shape) = shape {
            out.push_str(&indent(&within(shape, look), 4));
        }
    }
    out
}

/// Text after a head, folded at words under itself.
fn fold(head: &str, text: &str, used: usize, look: &Look) -> String {
    let room = look.width.unwrap_or(110).saturating_sub(used + 8).max(24);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("never empty");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let text = if index == 0 { format!("{head}{line}") } else { format!("{:used$}{line}", "") };
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// A command line that runs it, with a value of the right type for each parameter.
pub fn example(info: &OperationInfo) -> String {
    let mut words =
        vec!["windlass".to_owned(), "run".into(), info.name.to_string(), "--on".into(), "n1".into()];
    for param in &info.operation.signature.params {
        let value = match sample(&param.name, &param.shape) {
            serde_json::Value::String(text) => text,
            serde_json::Value::Object(object) if param.shape == windlass_types::shape::Shape::Secret => {
                format!("secret:{}", object["secret"].as_str().unwrap_or_default())
            }
            // A list of one word is written as the word.
            serde_json::Value::Array(items) if matches!(&items[..], [serde_json::Value::String(_)]) => {
                items[0].as_str().unwrap_or_default().to_owned()
            }
            other => other.to_string(),
        };
        words.push(format!("{}={value}", param.name));
    }
    text::command_line(words.iter().map(String::as_str))
}

/// A value of a type, for examples: it passes the check of that type.
pub fn sample(name: &str, shape: &Shape) -> serde_json::Value {
    use serde_json::{Value, json};
    match shape {
        Shape::Bool => json!(true),
        Shape::S8 | Shape::S16 | Shape::S32 | Shape::S64 => json!(1),
        Shape::U8 | Shape::U16 | Shape::U32 | Shape::U64 => json!(1),
        Shape::F32 | Shape::F64 => json!(0.5),
        Shape::Char => json!("x"),
        Shape::String => json!(name.to_uppercase()),
        Shape::Bytes => json!("AAEC"),
        Shape::Secret => json!({ "secret": name.replace('_', "-") }),
        Shape::List { item } => json!([sample(name.strip_suffix('s').unwrap_or(name), item)]),
        Shape::Option { item } => sample(name, item),
        Shape::Tuple { items } => items.iter().map(|item| sample(name, item)).collect(),
        Shape::Result { ok, .. } => {
            json!({ "ok": ok.as_ref().map_or(Value::Null, |shape| sample("ok", shape)) })
        }
        Shape::Record { fields, .. } => fields
            .iter()
            .filter(|field| !matches!(field.shape, Shape::Option { .. }))
            .map(|field| (field.name.clone(), sample(&field.name, &field.shape)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Shape::Variant { cases, .. } => match cases.first() {
            Some(case) => match &case.payload {
                Some(payload) => json!({ &case.name: sample(&case.name, payload) }),
                None => json!(case.name),
            },
            None => Value::Null,
        },
        Shape::Enum { cases, .. } => cases.first().map_or(Value::Null, |case| json!(case.name)),
        Shape::Flags { flags, .. } => flags.iter().take(1).map(|flag| flag.name.as_str()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{look, operations};

    #[test]
    fn the_list() {
        insta::assert_snapshot!(list(&operations(), &look(Some(100))));
    }

    #[test]
    fn the_pages() {
        for info in operations() {
            insta::assert_snapshot!(format!("page_{}", info.name), page(&info, &look(Some(100))));
        }
    }

    #[test]
    fn examples_fit_their_type() {
        for info in operations() {
            let shape = info.operation.signature.params_shape();
            windlass_types::json::check(&shape, &sample("x", &shape)).unwrap();
        }
    }
}
