//! Figures for Prometheus, in its text format (version 0.0.4).
//!
//! Written by hand: a few counters and one kind of histogram need no library. Gauges about nodes
//! and jobs are not kept here but counted when somebody asks.

use crate::fleet::NodeRecord;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use windlass_types::{OutcomeKind, api::NodeState};

/// Upper bounds of the buckets of request times, in seconds.
const BUCKETS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What is counted as it happens.
#[derive(Debug, Default)]
pub struct Metrics {
    jobs: AtomicU64,
    outcomes: [AtomicU64; OutcomeKind::ALL.len()],
    late_results: AtomicU64,
    sessions: AtomicU64,
    denials: AtomicU64,
    /// Of the term in which this master leads.
    epoch: AtomicU64,
    /// By method, route and status. Routes are templates, so there are not many.
    requests: Mutex<BTreeMap<(String, String, u16), Histogram>>,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// Of what [`Metrics::render`] and [`follower`] give.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Figures of a master that does not lead.
pub(crate) fn follower(epoch: u64, carried: usize) -> String {
    let mut out = String::with_capacity(1024);
    process(&mut out, false, epoch);
    let name = "windlass_carried";
    family(&mut out, name, "gauge", "Requests and sessions under way to the leading master.");
    sample(&mut out, name, &[], carried);
    out
}

/// What every master tells.
fn process(out: &mut String, leads: bool, epoch: u64) {
    family(out, "windlass_build_info", "gauge", "The version of the master.");
    sample(out, "windlass_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    family(out, "windlass_leader", "gauge", "1 at the master that leads, 0 at the others.");
    sample(out, "windlass_leader", &[], u8::from(leads));
    family(out, "windlass_epoch", "gauge", "Epoch of the leading master as this one knows it; 0 for none.");
    sample(out, "windlass_epoch", &[], epoch);
}

impl Metrics {
    pub(crate) fn lead(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }
    pub(crate) fn job_created(&self) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn outcome(&self, kind: OutcomeKind) {
        if let Some(position) = OutcomeKind::ALL.iter().position(|other| *other == kind) {
            self.outcomes[position].fetch_add(1, Ordering::Relaxed);
        }
    }
    pub(crate) fn late_result(&self) {
        self.late_results.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn denied(&self) {
        self.denials.fetch_add(1, Ordering::Relaxed);
    }
    pub(crate) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = requests.entry((method.to_owned(), route.to_owned(), status)).or_default();
        let seconds = took.as_secs_f64();
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
        histogram.count += 1;
        histogram.seconds += seconds;
    }

    /// Everything as text.
    pub fn render(&self, nodes: &[Arc<NodeRecord>], jobs_running: usize) -> String {
        let mut out = String::with_capacity(8192);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);

        process(&mut out, true, load(&self.epoch));

        family(&mut out, "windlass_nodes", "gauge", "Nodes by state.");
        for state in [NodeState::Pending, NodeState::Accepted, NodeState::Rejected, NodeState::Revoked] {
            let number = nodes.iter().filter(|node| node.state == state).count();
            sample(&mut out, "windlass_nodes", &[("state", crate::fleet::state_word(state))], number);
        }
        family(&mut out, "windlass_nodes_online", "gauge", "Nodes with a live session.");
        sample(&mut out, "windlass_nodes_online", &[], nodes.iter().filter(|node| node.online()).count());
        family(&mut out, "windlass_sessions_total", "counter", "Sessions of nodes that were begun.");
        sample(&mut out, "windlass_sessions_total", &[], load(&self.sessions));

        family(&mut out, "windlass_jobs_running", "gauge", "Jobs that are not finished.");
        sample(&mut out, "windlass_jobs_running", &[], jobs_running);
        family(&mut out, "windlass_jobs_total", "counter", "Jobs that were made.");
        sample(&mut out, "windlass_jobs_total", &[], load(&self.jobs));
        family(&mut out, "windlass_outcomes_total", "counter", "Outcomes of jobs on nodes, by kind.");
        for (kind, counter) in OutcomeKind::ALL.iter().zip(&self.outcomes) {
            sample(&mut out, "windlass_outcomes_total", &[("outcome", kind.as_str())], load(counter));
        }
        family(&mut out, "windlass_late_results_total", "counter", "Results that came late or twice.");
        sample(&mut out, "windlass_late_results_total", &[], load(&self.late_results));
        family(&mut out, "windlass_api_denials_total", "counter", "Requests that were not authorised.");
        sample(&mut out, "windlass_api_denials_total", &[], load(&self.denials));

        let name = "windlass_api_request_seconds";
        family(&mut out, name, "histogram", "Time from a request to its reply.");
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, route, status), histogram) in &*requests {
            let status = status.to_string();
            let labels = [("method", method.as_str()), ("route", route), ("status", &status)];
            for (number, bound) in histogram.buckets.iter().zip(BUCKETS) {
                let bound = bound.to_string();
                let [method, route, status] = labels;
                sample(&mut out, &bucket, &[method, route, status, ("le", &bound)], number);
            }
            let [method, route, status] = labels;
            sample(&mut out, &bucket, &[method, route, status, ("le", "+Inf")], histogram.count);
            sample(&mut out, &sum, &labels, histogram.seconds);
            sample(&mut out, &count, &labels, histogram.count);
        }
        out
    }
}

// Writing to a string never fails.
fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    out.push_str(name);
    for (position, (key, text)) in labels.iter().enumerate() {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{}{key}=\"{escaped}\"", if position == 0 { '{' } else { ',' });
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_prometheus_reads() {
        let metrics = Metrics::default();
        metrics.outcome(OutcomeKind::NoAnswer);
        metrics.request("GET", "/api/v1/jobs/{id}", 200, Duration::from_millis(3));
        let text = metrics.render(&[], 2);
        for line in [
            "windlass_nodes{state=\"accepted\"} 0",
            "windlass_jobs_running 2",
            "windlass_outcomes_total{outcome=\"no_answer\"} 1",
            "windlass_api_request_seconds_bucket{method=\"GET\",route=\"/api/v1/jobs/{id}\",status=\"200\",le=\"0.002\"} 0",
            "windlass_api_request_seconds_bucket{method=\"GET\",route=\"/api/v1/jobs/{id}\",status=\"200\",le=\"0.005\"} 1",
            "windlass_api_request_seconds_count{method=\"GET\",route=\"/api/v1/jobs/{id}\",status=\"200\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "no `{line}` in\n{text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
        }
    }
}
