//! Numbers as the tools print them.

/// A number, and whether it is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// The value.
    pub value: u64,
    /// It was rounded to three digits before it was printed.
    pub rounded: bool,
}

/// Read `828`, `1.54K`, `48.2M` or `0B`, as zfs_nicenum() and zfs_nicebytes() print:
/// powers of 1024, at most three digits, and a `B` only where there is no other unit.
pub fn number(text: &str) -> Option<Number> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'0'..=b'9' => (text, 0),
        unit => {
            let shift = match unit {
                b'B' => 0,
                b'K' => 10,
                b'M' => 20,
                b'G' => 30,
                b'T' => 40,
                b'P' => 50,
                b'E' => 60,
                _ => return None,
            };
            // The unit is one ASCII byte, so this cuts at a character.
            (&text[..text.len() - 1], shift)
        }
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    // 20 digits are those of the largest u64; more fraction than that was never printed.
    if whole.is_empty()
        || whole.len() > 20
        || fraction.len() > 9
        || !all_digits(whole)
        || !all_digits(fraction)
    {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let scaled = whole.parse::<u64>().ok().map(u128::from)?.checked_mul(scale)?.checked_add(fraction)?;
    let value = (scaled.checked_mul(1 << shift)?.checked_add(scale / 2)?) / scale;
    Some(Number { value: u64::try_from(value).ok()?, rounded: shift > 0 || scale > 1 })
}

/// Read `19` or `19%`.
pub(super) fn percent(text: &str) -> Option<u32> {
    text.strip_suffix('%').unwrap_or(text).parse().ok()
}

/// Read `1.00` or `1.00x`.
pub(super) fn ratio(text: &str) -> Option<f64> {
    decimal(text.strip_suffix('x').unwrap_or(text))
}

/// Read `38.93`: nothing but digits and a point, so neither `inf` nor `nan`.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let plain = text.len() <= 32 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(value: u64) -> Option<Number> {
        Some(Number { value, rounded: false })
    }
    fn rounded(value: u64) -> Option<Number> {
        Some(Number { value, rounded: true })
    }

    #[test]
    fn whole_numbers_are_exact() {
        assert_eq!(number("0"), exact(0));
        assert_eq!(number("0B"), exact(0));
        assert_eq!(number("828"), exact(828));
        assert_eq!(number("18446744073709551615"), exact(u64::MAX));
    }

    #[test]
    fn units_are_powers_of_1024_and_rounded() {
        assert_eq!(number("1.54K"), rounded(1577));
        assert_eq!(number("48.2M"), rounded(50_541_363));
        assert_eq!(number("15E"), rounded(15 << 60));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            "-",
            "K",
            "B",
            ".5K",
            "1.2.3K",
            "1,5K",
            "16E",
            "18446744073709551616",
            "1é",
            "é",
            "-1",
            "+1",
            "1 K",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(decimal("inf"), None);
        assert_eq!(decimal("NaN"), None);
        assert_eq!(ratio("2.20x"), Some(2.2));
        assert_eq!(percent("19%"), Some(19));
        assert_eq!(percent("-"), None);
    }
}
