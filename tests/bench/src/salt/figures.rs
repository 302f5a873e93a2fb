//! What was measured.

use super::{faults::Seen, process};
use serde::Serialize;
use std::time::Duration;

/// Both, side by side.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub nodes: usize,
    /// In a network of its own.
    pub isolated: bool,
    pub machine: Machine,
    pub windlass: Figures,
    pub salt: Figures,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    pub date: String,
}

/// One of the two.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub name: String,
    pub round_trips: Vec<RoundTrip>,
    /// The mean of all.
    pub agent: Usage,
    pub master: Usage,
    pub start_one_ms: f64,
    pub start_all_ms: f64,
    pub faults: Vec<Seen>,
}

/// All nodes of a grid, asked to do nothing.
#[derive(Debug, Serialize)]
pub struct RoundTrip {
    pub nodes: usize,
    pub api: Times,
    pub command: Times,
}

/// Some times of the same thing.
#[derive(Debug, Serialize)]
pub struct Times {
    pub rounds: usize,
    pub median_ms: f64,
    pub slowest_ms: f64,
}

/// What processes use while nothing is asked of them.
#[derive(Debug, Serialize)]
pub struct Usage {
    pub processes: f64,
    pub rss_kib: f64,
    /// Pages that several processes share are counted in parts.
    pub pss_kib: f64,
    /// Of one core.
    pub cpu_percent: f64,
}

impl Machine {
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
        };
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib: u64 =
            value(&meminfo, "MemTotal").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Machine {
            processor: value(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            date: time::OffsetDateTime::now_utc().date().to_string(),
        }
    }
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Times {
    /// Of these; there must be some.
    pub fn of(times: &mut [Duration]) -> Self {
        let median_ms = ms(crate::report::median(times));
        Times { rounds: times.len(), median_ms, slowest_ms: times.last().copied().map_or(0.0, ms) }
    }
}

impl Usage {
    /// Of these processes, which have used so much processor time within so many seconds.
    #[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
    pub fn of(pids: &[u32], ticks: u64, seconds: u64) -> Self {
        let sum = |of: fn(u32) -> Option<u64>| pids.iter().filter_map(|pid| of(*pid)).sum::<u64>() as f64;
        Usage {
            processes: pids.len() as f64,
            rss_kib: sum(crate::report::resident_kib),
            pss_kib: sum(process::proportional_kib),
            // 100 ticks a second: one tick a second is one percent.
            cpu_percent: ticks as f64 / seconds as f64,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far from 2^52")]
    pub fn divided_by(self, count: u64) -> Self {
        let count = count as f64;
        Usage {
            processes: self.processes / count,
            rss_kib: self.rss_kib / count,
            pss_kib: self.pss_kib / count,
            cpu_percent: self.cpu_percent / count,
        }
    }
}
