//! Figures beside their targets.

use std::time::Duration;

/// One line: what was measured, what came out, what the design asks for.
pub fn line(what: &str, figure: &str, target: &str) {
    #[expect(clippy::print_stdout, reason = "figures are this program's data")]
    {
        println!("{what:<58} {figure:>16}   {target}");
    }
}

/// A heading.
pub fn heading(text: &str) {
    line(&format!("-- {text}"), "", "target");
}

/// The middle of some times.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A time with a fitting unit.
pub fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Resident memory of a process in KiB, from /proc/PID/status.
pub fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time a process has used, in clock ticks (100 a second on Linux), from /proc/PID/stat.
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
