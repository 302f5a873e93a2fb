//! Times and durations for people.

use crate::output::Look;
use jiff::Timestamp;

/// `3m ago`, `just now`, `in 2h`.
pub fn ago(at_ms: i64, look: &Look) -> String {
    let past = look.now_ms.saturating_sub(at_ms);
    match past {
        // Clocks of two machines differ a little.
        -1_000..=999 => "just now".into(),
        1_000.. => format!("{} ago", rough(past.unsigned_abs())),
        _ => format!("in {}", rough(past.unsigned_abs())),
    }
}

/// A time with its distance from now: `2026-03-01 12:00:05 (3m ago)`.
pub fn full(at_ms: i64, look: &Look) -> String {
    format!("{} ({})", clock(at_ms, look), ago(at_ms, look))
}

/// A time of the wall clock, to the second.
pub fn clock(at_ms: i64, look: &Look) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(time) => time.to_zoned(look.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{at_ms} ms"),
    }
}

/// A duration in its largest unit: `45s`, `3m`, `5h`, `12d`.
pub fn rough(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration in its two largest units: `350ms`, `1.5s`, `2m 5s`, `3d 4h`.
pub fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1_000;
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit} {small}{small_unit}") }
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{seconds}s"),
        1_000..60_000 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60_000..3_600_000 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600_000..86_400_000 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// A duration of microseconds: `85µs`, `1.2ms`, `350ms`.
pub fn duration_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..100_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        _ => duration_ms(us / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{NOW_MS, look};

    #[test]
    fn distances_from_now() {
        let look = look(None);
        for (past, text) in [
            (0, "just now"),
            (-500, "just now"),
            (45_000, "45s ago"),
            (200_000, "3m ago"),
            (7_300_000, "2h ago"),
            (900_000_000, "10d ago"),
            (-7_300_000, "in 2h"),
        ] {
            assert_eq!(ago(NOW_MS - past, &look), text);
        }
        assert_eq!(full(NOW_MS - 61_000, &look), "2026-03-01 11:58:59 (1m ago)");
        assert_eq!(clock(i64::MAX, &look), "9223372036854775807 ms");
    }

    #[test]
    fn durations() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_550, "1.5s"),
            (60_000, "1m"),
            (125_000, "2m 5s"),
            (3_600_000, "1h"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(duration_ms(ms), text);
        }
        assert_eq!(
            (duration_us(85), duration_us(1_250), duration_us(350_000)),
            ("85µs".into(), "1.2ms".into(), "350ms".into())
        );
    }
}
