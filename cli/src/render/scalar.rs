//! One value in one cell. The unit is told by the name of its field, as the contract of plugins
//! has it: `_bytes`, `_ms`, `_us`, `_percent`.

use super::{text::clean, time};
use crate::output::Look;
use serde_json::Value;

/// From here on a count of milliseconds is a time and not a duration: 1989 and 19 years.
const FIRST_TIME_MS: i64 = 600_000_000_000;

/// A value on one line, or none for what needs more room: records, and lists of lists or records.
pub fn line(field: &str, value: &Value, look: &Look) -> Option<String> {
    Some(match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::Number(number) => self::number(field, number, look),
        Value::String(text) => clean(text),
        Value::Array(items) => {
            let items = items
                .iter()
                .map(|item| if item.is_array() { None } else { line(field, item, look) })
                .collect::<Option<Vec<_>>>()?;
            if items.is_empty() { "-".into() } else { items.join(", ") }
        }
        // A case of a variant with a payload that itself is one line.
        Value::Object(object) if object.len() == 1 => {
            let (name, payload) = object.iter().next()?;
            if payload.is_object() || payload.is_array() {
                return None;
            }
            format!("{}: {}", clean(name), line(name, payload, look)?)
        }
        Value::Object(_) => return None,
    })
}

/// A value on one line at any cost: what has no line of its own becomes JSON.
pub fn brief(value: &Value, look: &Look) -> String {
    line("", value, look).unwrap_or_else(|| clean(&value.to_string()))
}

fn number(field: &str, number: &serde_json::Number, look: &Look) -> String {
    let ends =
        |unit: &str| field.strip_suffix(unit).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'));
    match (number.as_u64(), number.as_i64()) {
        (Some(bytes), _) if ends("bytes") => size(bytes),
        (_, Some(at)) if ends("ms") && at >= FIRST_TIME_MS => time::clock(at, look),
        (Some(ms), _) if ends("ms") => time::duration_ms(ms),
        (Some(us), _) if ends("us") => time::duration_us(us),
        (Some(s), _) if ends("seconds") => time::duration_ms(s.saturating_mul(1_000)),
        (None, None) if ends("percent") => format!("{} %", float(number.as_f64().unwrap_or(f64::NAN))),
        (Some(percent), _) if ends("percent") => format!("{percent} %"),
        (None, None) => float(number.as_f64().unwrap_or(f64::NAN)),
        _ => number.to_string(),
    }
}

/// Two digits after the point, less where they are zero.
fn float(number: f64) -> String {
    if number != 0.0 && (number.abs() < 0.01 || number.abs() >= 1e15) {
        return format!("{number:e}");
    }
    let text = format!("{number:.2}");
    match text.strip_suffix(".00") {
        Some(whole) => whole.to_owned(),
        None => text.strip_suffix('0').unwrap_or(&text).to_owned(),
    }
}

/// Bytes in binary units, three digits: `512 B`, `1.95 KiB`, `3.8 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut number = bytes as f64 / 1_024.0;
    let mut unit = 0;
    // What would be rounded to 1024 belongs to the next unit.
    while number >= 1_023.5 && unit + 1 < UNITS.len() {
        number /= 1_024.0;
        unit += 1;
    }
    let digits = if number < 9.995 {
        2
    } else if number < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{number:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::look;
    use serde_json::json;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (2_000, "1.95 KiB"),
            (10_240, "10 KiB"),
            (1_048_575, "1 MiB"),
            (4_080_218_931, "3.8 GiB"),
            (1_000_204_886_016, "932 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn units_come_from_names() {
        let look = look(None);
        for (field, value, text) in [
            ("size_bytes", json!(2048), Some("2 KiB")),
            ("bytes", json!(2048), Some("2 KiB")),
            ("kilobytes", json!(2048), Some("2048")),
            ("uptime_ms", json!(200_000), Some("3m 20s")),
            ("created_ms", json!(1_772_366_400_000_i64), Some("2026-03-01 12:00:00")),
            ("capacity_percent", json!(12), Some("12 %")),
            ("cpu_percent", json!(12.345), Some("12.35 %")),
            ("load_1m", json!(0.5), Some("0.5")),
            ("ratio", json!(1.0), Some("1")),
            ("guid", json!(u64::MAX), Some("18446744073709551615")),
            ("low", json!(i64::MIN), Some("-9223372036854775808")),
            ("online", json!(true), Some("yes")),
            ("vendor", json!(null), Some("-")),
            ("names", json!(["a", "b"]), Some("a, b")),
            ("state", json!({ "other": "odd" }), Some("other: odd")),
            ("nested", json!({ "a": 1, "b": 2 }), None),
            ("rows", json!([{ "a": 1, "b": 2 }]), None),
            ("matrix", json!([[1], [2]]), None),
        ] {
            assert_eq!(line(field, &value, &look).as_deref(), text, "{field}");
        }
        assert_eq!(brief(&json!({ "a": [1], "b": "\u{1b}" }), &look), r#"{"a":[1],"b":"\u001b"}"#);
    }
}
