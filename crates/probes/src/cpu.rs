//! Load and use of the processors: `/proc/stat`, `/proc/loadavg`, `/proc/cpuinfo` (proc(5)) and
//! `/sys/devices/system/cpu/online`.

use crate::{
    CpuInfo, ProbeError,
    source::{Source, finite, malformed},
};

/// Length of a clock tick in `/proc/stat`. USER_HZ is 100 on every architecture that still is.
const TICK_MS: u64 = 10;

pub(crate) fn read(source: &Source) -> Result<CpuInfo, ProbeError> {
    let times = Times::parse(&source.text("proc/stat")?)
        .ok_or_else(|| malformed("proc/stat", "no line of all processors"))?;
    let [load_1m, load_5m, load_15m] = parse_load(&source.text("proc/loadavg")?)
        .ok_or_else(|| malformed("proc/loadavg", "no three averages"))?;
    Ok(CpuInfo {
        model: source.text("proc/cpuinfo").ok().and_then(|text| parse_model(&text)).unwrap_or_default(),
        online_count: online(source)?,
        load_1m,
        load_5m,
        load_15m,
        user_ms: times.user,
        system_ms: times.system,
        idle_ms: times.idle,
        iowait_ms: times.iowait,
        steal_ms: times.steal,
    })
}

/// Processors that are online.
pub(crate) fn online(source: &Source) -> Result<u32, ProbeError> {
    let path = "sys/devices/system/cpu/online";
    match source.line(path) {
        Some(list) => count_list(&list).ok_or_else(|| malformed(path, "no list of numbers")),
        None => Ok(count_lines(&source.text("proc/stat")?)),
    }
}

/// Sums over all processors, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Times {
    user: u64,
    system: u64,
    idle: u64,
    iowait: u64,
    steal: u64,
}

impl Times {
    /// From the line `cpu  user nice system idle iowait irq softirq steal guest guest_nice`. The time
    /// of guests is part of user and nice. Fields from iowait on came over the years.
    fn parse(stat: &str) -> Option<Times> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        let mut required = || fields.next()?;
        let (user, nice, system, idle) = (required()?, required()?, required()?, required()?);
        let mut optional = || fields.next().unwrap_or(Some(0));
        let (iowait, irq, softirq, steal) = (optional()?, optional()?, optional()?, optional()?);
        let ms = |parts: &[u64]| {
            parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)).saturating_mul(TICK_MS)
        };
        Some(Times {
            user: ms(&[user, nice]),
            system: ms(&[system, irq, softirq]),
            idle: ms(&[idle]),
            iowait: ms(&[iowait]),
            steal: ms(&[steal]),
        })
    }
}

fn parse_load(text: &str) -> Option<[f64; 3]> {
    let mut fields = text.split_ascii_whitespace().map(finite);
    Some([fields.next()??, fields.next()??, fields.next()??])
}

/// The keys differ by architecture: x86, MIPS, boards with a device tree, POWER.
fn parse_model(cpuinfo: &str) -> Option<String> {
    let pairs = || {
        cpuinfo.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()))
    };
    ["model name", "cpu model", "Model", "Hardware", "cpu"]
        .iter()
        .find_map(|wanted| pairs().find(|(key, value)| key == wanted && !value.is_empty()))
        .map(|(_, value)| value.to_owned())
}

/// How many numbers a list such as `0-3,8` holds.
fn count_list(list: &str) -> Option<u32> {
    list.trim().split(',').try_fold(0_u32, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(count.saturating_add(last.checked_sub(first)?.saturating_add(1)))
    })
}

/// `cpu0`, `cpu1`, … of `/proc/stat`.
fn count_lines(stat: &str) -> u32 {
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(numbered).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_summed_in_milliseconds() {
        let text = "cpu  160365 34479 28782 456207 1472 0 258 386 0 0\ncpu0 1 2 3 4\n";
        let expected =
            Times { user: 1_948_440, system: 290_400, idle: 4_562_070, iowait: 14_720, steal: 3_860 };
        assert_eq!(Times::parse(text), Some(expected));
        let old = Times::parse("cpu  1 2 3 4\n").unwrap();
        assert_eq!((old.user, old.iowait), (30, 0));
        assert_eq!(Times::parse("cpu  1 2 3\n"), None);
        assert_eq!(Times::parse("cpu  1 2 3 4 x\n"), None);
        assert_eq!(Times::parse("cpu0 1 2 3 4\n"), None);
    }

    #[test]
    fn lists_are_counted() {
        assert_eq!(count_list("0-3,8,10-11\n"), Some(7));
        assert_eq!(count_list("0"), Some(1));
        assert_eq!(count_list("0-4294967295,0-4294967295"), Some(u32::MAX));
        for bad in ["", "3-1", "a", "1-", "-1"] {
            assert_eq!(count_list(bad), None);
        }
        assert_eq!(count_lines("cpu  1\ncpu0 1\ncpu1 1\ncpux\nintr 1\n"), 2);
    }

    #[test]
    fn the_model_is_found_under_any_name() {
        assert_eq!(
            parse_model("processor : 0\nmodel : 1\nmodel name\t: AMD EPYC\n").as_deref(),
            Some("AMD EPYC")
        );
        assert_eq!(
            parse_model("processor\t: 0\nModel\t\t: Raspberry Pi 4\n").as_deref(),
            Some("Raspberry Pi 4")
        );
        assert_eq!(parse_model("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(text in any::<String>(), digits in "[0-9 ,.\\-\n]{0,60}") {
            for text in [text, format!("cpu {digits}"), digits] {
                let _ = Times::parse(&text);
                let _ = parse_load(&text);
                let _ = parse_model(&text);
                let _ = count_list(&text);
                let _ = count_lines(&text);
            }
        }
    }
}
