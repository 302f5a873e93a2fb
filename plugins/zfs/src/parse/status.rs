//! `zpool status -v`: a block of labelled sections a pool.
//!
//! Source: status_callback() of cmd/zpool/zpool_main.c. A label stands at the beginning of a line
//! after at most a few spaces and ends with a colon; what continues a section begins with a tab,
//! and the paths of damaged files begin with eight spaces.

use super::{ParseError, health, scan, state, vdev};
use crate::api::pool::{DataErrors, StatusReport};

/// Damaged files that are listed by path.
const MAX_PATHS: usize = 1000;

/// Read the status of all pools in the text.
///
/// # Errors
/// When a block lacks its state, or a vdev its columns.
pub fn pool_status(text: &str) -> Result<Vec<StatusReport>, ParseError> {
    let mut pools: Vec<Vec<Section<'_>>> = Vec::new();
    for line in text.lines() {
        if let Some((label, value)) = label(line) {
            if label == "pool" {
                pools.push(Vec::new());
            }
            if let Some(pool) = pools.last_mut() {
                pool.push(Section { label, first: value, rest: Vec::new() });
            }
        } else if let Some(section) = pools.last_mut().and_then(|pool| pool.last_mut()) {
            section.rest.push(line);
        } else if !line.is_empty() && line != "no pools available" {
            return Err(ParseError::new("a line before the first pool", line));
        }
    }
    pools.into_iter().map(|sections| report(&sections)).collect()
}

/// A label, what follows it on its line, and the lines up to the next label.
struct Section<'t> {
    label: &'t str,
    first: &'t str,
    rest: Vec<&'t str>,
}

impl Section<'_> {
    /// All of it as one line, with single spaces.
    fn text(&self) -> String {
        let words =
            std::iter::once(self.first).chain(self.rest.iter().copied()).flat_map(str::split_whitespace);
        words.collect::<Vec<_>>().join(" ")
    }
}

/// `  pool: tank` is `("pool", "tank")`.
fn label(line: &str) -> Option<(&str, &str)> {
    let body = line.trim_start_matches(' ');
    if line.len() - body.len() >= 8 {
        return None;
    }
    let (label, value) = body.split_once(':')?;
    let is_label = !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase() || b == b' ');
    is_label.then(|| (label, value.trim()))
}

fn report(sections: &[Section<'_>]) -> Result<StatusReport, ParseError> {
    let section = |label: &str| sections.iter().find(|section| section.label == label);
    let text = |label: &str| section(label).map(Section::text).filter(|text| !text.is_empty());
    let name = section("pool").map(|section| section.first.to_owned()).unwrap_or_default();
    let Some(pool_state) = section("state") else {
        return Err(ParseError::new("a pool without a state", &name));
    };
    let see_url = text("see");
    let message_id = see_url
        .as_deref()
        .and_then(|url| url.trim_end_matches('/').rsplit('/').next())
        .filter(|id| id.starts_with("ZFS-"))
        .map(str::to_owned);
    let scans = sections
        .iter()
        // OpenZFS calls it `scan`, for a resilver of one vdev repeatedly; zfs-fuse calls it `scrub`.
        .filter(|section| matches!(section.label, "scan" | "scrub"))
        .filter_map(|section| scan::scan(&section.text()))
        .collect();
    let mut report = StatusReport {
        name,
        state: state(pool_state.first),
        healthy: false,
        problems: Vec::new(),
        status_text: text("status"),
        action_text: text("action"),
        see_url,
        message_id,
        scans,
        remove_text: text("remove"),
        checkpoint_text: text("checkpoint"),
        expand_text: text("expand"),
        vdevs: section("config").map(|section| vdev::tree(&section.rest)).transpose()?.unwrap_or_default(),
        data_errors: data_errors(section("errors")),
    };
    report.problems = health::problems(&report);
    report.healthy = report.problems.is_empty();
    Ok(report)
}

fn data_errors(section: Option<&Section<'_>>) -> DataErrors {
    let mut errors =
        DataErrors { known_count: None, paths: Vec::new(), paths_omitted_count: 0, text: String::new() };
    let Some(section) = section else { return errors };
    errors.text = section.first.to_owned();
    if section.first == "No known data errors" {
        errors.known_count = Some(0);
    } else if let Some((count, "errors" | "error")) = section
        .first
        .split_once(" data ")
        .map(|(count, rest)| (count, rest.split([',', ' ']).next().unwrap_or("")))
    {
        // `3 data errors, use '-v' for a list`
        errors.known_count = count.parse().ok();
    } else if section.first.starts_with("Permanent errors") {
        let mut paths = section.rest.iter().filter(|line| !line.trim().is_empty());
        // "%7s %s": eight spaces, and then a path that may begin with spaces itself.
        let path = |line: &&str| line.strip_prefix("        ").unwrap_or(line).to_owned();
        errors.paths = paths.by_ref().take(MAX_PATHS).map(path).collect();
        errors.paths_omitted_count = paths.count() as u64;
        errors.known_count = Some(errors.paths.len() as u64 + errors.paths_omitted_count);
    }
    errors
}
