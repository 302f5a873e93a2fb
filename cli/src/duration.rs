//! Durations as people type them: `30s`, `1h30m`, `7d`.

use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// Read a duration. A day has 24 hours; months and years, whose length varies, are refused.
///
/// # Errors
/// With words for the person who typed it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}` is not a duration: give a number with a unit, such as `30s`, `5m` or `1h30m`");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    match Duration::try_from(duration) {
        Ok(Duration::ZERO) => Err(format!("`{text}` is no time at all")),
        Ok(duration) => Ok(duration),
        Err(_) => Err(format!("`{text}` is negative")),
    }
}

/// Milliseconds for the API.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_typed() {
        for (text, ms) in
            [("30s", 30_000), ("500ms", 500), ("1h30m", 5_400_000), ("7d", 604_800_000), ("2 min", 120_000)]
        {
            assert_eq!(parse(text).map(millis), Ok(ms), "{text}");
        }
        for bad in ["", "30", "s", "-5s", "0s", "1 fortnight", "2 months"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
