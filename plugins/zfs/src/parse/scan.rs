//! The `scan:` (zfs-fuse: `scrub:`) section of `zpool status`.
//!
//! Source: print_scan_scrub_resilver_status(), print_rebuild_status_impl() and
//! print_err_scrub_status() of cmd/zpool/zpool_main.c. The lines differ by version:
//!
//! | version | while it runs |
//! |---|---|
//! | 0.7 (fuse) | `resilver in progress for 0h0m, 0.92% done, 0h0m to go` |
//! | 2.1 | `60.7M scanned at 30M/s, 30.4M issued at 15M/s, 60.7M total` |
//! | 2.2 and newer | `60.5M / 60.5M scanned at 30M/s, 31.0M / 60.4M issued at 15M/s` |
//!
//! Sizes are rounded to three digits in all of them.

use super::number::{decimal, number};
use crate::api::pool::{Scan, ScanKind, ScanState};

/// Read a section, given as one line with single spaces. None when there never was a scan, or it
/// is of a kind that is not known.
pub(super) fn scan(text: &str) -> Option<Scan> {
    let kind = if text.starts_with("error scrub") || text.starts_with("scrubbed ") {
        ScanKind::ErrorScrub
    } else if text.starts_with("scrub ") {
        ScanKind::Scrub
    } else if text.starts_with("resilver") {
        ScanKind::Resilver
    } else {
        return None;
    };
    let state = state(text);
    let running = matches!(state, ScanState::Running | ScanState::Paused);
    let words: Vec<&str> = text.split(' ').map(|word| word.trim_end_matches([',', ';'])).collect();
    let size = |text: &str| number(text).map(|number| number.value);
    // `A scanned`, or `A / B scanned`: what stands before the word.
    let amount = |what: &str| {
        let at = words.iter().position(|word| *word == what)?;
        let last = size(words.get(at.checked_sub(1)?)?)?;
        match at.checked_sub(3) {
            Some(first) if words.get(at - 2) == Some(&"/") => Some((size(words[first])?, Some(last))),
            _ => Some((last, None)),
        }
    };
    let after = |what: &str| {
        let at = words.iter().position(|word| *word == what)?;
        // `resilvered (draid1-0) 4.1G in …`
        let next = if words.get(at + 1)?.starts_with('(') { at + 2 } else { at + 1 };
        size(words.get(next)?)
    };
    // `31.0M repaired, 51.2% done` while it runs, `scrub repaired 31.0M in …` in the end.
    let repaired_bytes = if running {
        amount("repaired").or_else(|| amount("resilvered")).map(|(bytes, _)| bytes)
    } else {
        after("repaired").or_else(|| after("resilvered"))
    };
    let scanned = amount("scanned");
    let issued = amount("issued");
    let total_bytes = issued
        .and_then(|(_, total)| total)
        .or(scanned.and_then(|(_, total)| total))
        .or(amount("total").map(|(total, _)| total));
    Some(Scan {
        kind,
        state,
        vdev: vdev(text),
        done_percent: if running {
            before(&words, "done").and_then(|word| decimal(word.strip_suffix('%')?))
        } else {
            None
        },
        repaired_bytes,
        scanned_bytes: scanned.map(|(bytes, _)| bytes),
        issued_bytes: issued.map(|(bytes, _)| bytes),
        total_bytes,
        errors_count: if running { None } else { errors(&words) },
        remaining_seconds: if running { remaining(&words) } else { None },
        text: text.to_owned(),
    })
}

fn state(text: &str) -> ScanState {
    // Dates and sizes follow, so only the beginning decides.
    let head: Vec<&str> = text.split(' ').take(6).collect();
    let head = head.join(" ");
    if head.contains("in progress") {
        ScanState::Running
    } else if head.contains("paused since") {
        ScanState::Paused
    } else if head.contains("canceled on") || head.contains("stopped after") {
        ScanState::Canceled
    } else {
        ScanState::Finished
    }
}

/// `resilver (draid1-0) in progress …` is about one vdev.
fn vdev(text: &str) -> Option<String> {
    let rest = text.strip_prefix("resilvered (").or_else(|| text.strip_prefix("resilver ("))?;
    rest.split_once(") ").map(|(name, _)| name.to_owned())
}

fn before<'t>(words: &[&'t str], what: &str) -> Option<&'t str> {
    let at = words.iter().position(|word| *word == what)?;
    words.get(at.checked_sub(1)?).copied()
}

/// `with 319 errors`.
fn errors(words: &[&str]) -> Option<u64> {
    let at = words.iter().position(|word| *word == "with")?;
    matches!(*words.get(at + 2)?, "errors" | "error").then(|| words[at + 1].parse().ok()).flatten()
}

/// `00:12:22 to go`, `1 days 02:03:04 to go`, `0h12m to go`.
fn remaining(words: &[&str]) -> Option<u64> {
    let at = words.windows(2).position(|pair| pair == ["to", "go"])?;
    let clock = words.get(at.checked_sub(1)?)?;
    if let Some((hours, minutes)) = clock.split_once('h') {
        let hours: u64 = hours.parse().ok()?;
        let minutes: u64 = minutes.strip_suffix('m')?.parse().ok()?;
        return hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?);
    }
    let mut seconds = 0u64;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    if at >= 3 && words[at - 2] == "days" {
        seconds = words[at - 3].parse::<u64>().ok()?.checked_mul(86_400)?.checked_add(seconds)?;
    }
    Some(seconds)
}
