//! Memory and swap: `/proc/meminfo` (proc_meminfo(5)).

use crate::{
    MemoryInfo, ProbeError,
    source::{Source, malformed},
};
use std::collections::HashMap;

pub(crate) fn read(source: &Source) -> Result<MemoryInfo, ProbeError> {
    parse(&source.text("proc/meminfo")?).map_err(|key| malformed("proc/meminfo", &format!("no `{key}`")))
}

/// The error is the key that is missing.
fn parse(text: &str) -> Result<MemoryInfo, &'static str> {
    let values: HashMap<&str, u64> = text.lines().filter_map(parse_line).collect();
    let need = |key: &'static str| values.get(key).copied().ok_or(key);
    let (free, buffers, cached) = (need("MemFree")?, need("Buffers")?, need("Cached")?);
    Ok(MemoryInfo {
        total_bytes: need("MemTotal")?,
        // Linux before 3.14 gives no estimate; this is the old rule of thumb.
        available_bytes: need("MemAvailable").unwrap_or(free.saturating_add(buffers).saturating_add(cached)),
        free_bytes: free,
        buffers_bytes: buffers,
        cached_bytes: cached,
        dirty_bytes: need("Dirty")?,
        swap_total_bytes: need("SwapTotal")?,
        swap_free_bytes: need("SwapFree")?,
    })
}

/// `MemTotal:       24682416 kB`, where kB means 1,024 bytes.
fn parse_line(line: &str) -> Option<(&str, u64)> {
    let (key, value) = line.split_once(':')?;
    let mut fields = value.split_ascii_whitespace();
    let number: u64 = fields.next()?.parse().ok()?;
    let unit = if fields.next() == Some("kB") { 1024 } else { 1 };
    Some((key, number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 20 kB\nCached: 30 kB\nDirty: 1 kB\n\
                       SwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total: 3\n";

    #[test]
    fn old_kernels_give_no_estimate() {
        let memory = parse(OLD).unwrap();
        assert_eq!((memory.total_bytes, memory.available_bytes), (102_400, 61_440));
    }

    #[test]
    fn a_missing_key_is_named() {
        assert_eq!(parse(&OLD.replace("Dirty", "Dusty")), Err("Dirty"));
        assert_eq!(parse(&OLD.replace("SwapFree: 0", "SwapFree: -1")), Err("SwapFree"));
        assert_eq!(parse_line("X: 18446744073709551615 kB"), Some(("X", u64::MAX)));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in any::<String>(), tail in "[A-Za-z:0-9 \n]{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("{OLD}{tail}"));
        }
    }
}
