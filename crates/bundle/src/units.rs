//! Durations and sizes as manifests write them: a whole number and a unit.

use std::time::Duration;

/// Read `500ms`, `10s`, `2m` or `1h`.
///
/// # Errors
/// With what is wrong with the text, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is not a duration: expected a whole number and `ms`, `s`, `m` or `h`, such as `90s`"
            ));
        }
    };
    scaled(text, number, unit_ms).map(Duration::from_millis)
}

/// Read `4096B`, `64KiB`, `64MiB` or `1GiB`.
///
/// # Errors
/// With what is wrong with the text, in words.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit_bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is not a size: expected a whole number and `B`, `KiB`, `MiB` or `GiB`, such as `64MiB`"
            ));
        }
    };
    scaled(text, number, unit_bytes)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn scaled(text: &str, number: &str, unit: u64) -> Result<u64, String> {
    if number.is_empty() {
        return Err(format!("`{text}` has no whole number in front of its unit"));
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("`{text}` is too large"))
}

/// A duration as a manifest would write it.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match () {
        () if ms == 0 => "0s".into(),
        () if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        () if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        () if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        () => format!("{ms}ms"),
    }
}

/// A size as a manifest would write it.
pub fn show_size(bytes: u64) -> String {
    match () {
        () if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        () if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        () if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        () => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_back_as_they_are_shown() {
        for text in ["0s", "1ms", "1500ms", "90s", "1m", "2h"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
        for text in ["1B", "1500B", "3KiB", "64MiB", "2GiB"] {
            assert_eq!(show_size(size(text).expect(text)), text);
        }
        for bad in ["", "1", "s", "-1s", "1.5s", "1 s", "1S", "1d", "+1s", "1sec"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "1", "MiB", "1MB", "1mib", "1 MiB", "18446744073709551615KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
