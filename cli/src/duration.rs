//! Durations as people type them: `30s`, `1h30m`, `7d`.

use jiff::{Span, SpanRelativeTo, Timestamp, Zoned, civil::Date, tz::TimeZone};
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

/// Read a duration that may be none: `0`.
///
/// # Errors
/// With words for the person who typed it.
pub fn parse_or_none(text: &str) -> Result<Duration, String> {
    if ["0", "0s"].contains(&text) { Ok(Duration::ZERO) } else { parse(text) }
}

/// Read a moment to come: a time from now (`90d`, `1y`) or the beginning of a day (`2028-01-01`, UTC).
///
/// # Errors
/// With words for the person who typed it.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    after(text, &Zoned::now().with_time_zone(TimeZone::UTC))
}

fn after(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let wrong =
        || format!("`{text}` is neither a time such as `90d` or `1y`, nor a day such as `2028-01-01`");
    let moment = match text.parse::<Date>() {
        Ok(day) => day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?,
        Err(_) => now.checked_add(text.parse::<Span>().map_err(|_| wrong())?).map_err(|_| wrong())?,
    };
    if moment <= *now { Err(format!("`{text}` has passed")) } else { Ok(moment.timestamp()) }
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
    #[test]
    fn moments_as_typed() {
        let now: Zoned = "2026-03-01T12:00:00[UTC]".parse().unwrap();
        for (text, moment) in [
            ("1y", "2027-03-01T12:00:00Z"),
            ("90d", "2026-05-30T12:00:00Z"),
            ("36h", "2026-03-03T00:00:00Z"),
            ("2028-01-01", "2028-01-01T00:00:00Z"),
        ] {
            assert_eq!(after(text, &now).map(|moment| moment.to_string()), Ok(moment.into()), "{text}");
        }
        for bad in ["", "1", "soon", "0s", "-1y", "2026-03-01", "2026-02-30", "9999y"] {
            assert!(after(bad, &now).is_err(), "{bad}");
        }
    }
}
