//! What in a status needs attention.
//!
//! The state of a pool alone does not tell: it stays `ONLINE` with damaged files, with checksum
//! errors and while a disk is being replaced.

use crate::api::pool::{ErrorCounters, ScanKind, ScanState, State, StatusReport, Vdev, VdevKind};

/// How the texts begin by which ZFS says that a pool could use newer features. `zpool status -x`
/// calls such pools healthy as well.
const HARMLESS: [&str; 5] = [
    "The pool is formatted using a legacy on-disk format",
    "The pool is formatted using an older on-disk format",
    "Some supported features are not enabled",
    "Some supported and requested features are not enabled",
    "One or more features are enabled on the pool despite not being requested",
];

/// What needs attention, in words; empty for a healthy pool.
pub(super) fn problems(report: &StatusReport) -> Vec<String> {
    let mut problems = Vec::new();
    if report.state != State::Online {
        problems.push(format!("the pool is {}", word(&report.state)));
    }
    if let Some(text) = &report.status_text
        && !HARMLESS.iter().any(|harmless| text.starts_with(harmless))
    {
        problems.push(text.clone());
    }
    states(&report.vdevs, &mut problems);
    counters(&report.vdevs, &mut problems);
    for scan in &report.scans {
        let what = match scan.kind {
            ScanKind::Scrub => "scrub",
            ScanKind::ErrorScrub => "error scrub",
            ScanKind::Resilver => "resilver",
        };
        if let (ScanState::Finished, Some(count @ 1..)) = (scan.state, scan.errors_count) {
            problems.push(format!("the last {what} left {count} errors"));
        }
    }
    let errors = &report.data_errors;
    match errors.known_count {
        Some(0) => {}
        Some(count) => problems.push(format!("{count} damaged files or objects")),
        None if errors.text.is_empty() => {}
        None => problems.push(format!("damaged files are not known: {}", errors.text)),
    }
    problems
}

/// Disks that are not in order; groups only where no disk explains them.
fn states(vdevs: &[Vdev], problems: &mut Vec<String>) {
    let known = problems.len();
    for vdev in vdevs.iter().filter(|vdev| vdev.kind == VdevKind::Leaf) {
        if !matches!(vdev.state, State::Online | State::SpareAvailable) {
            problems.push(describe(vdev));
        }
    }
    if problems.len() == known {
        let groups = vdevs.iter().filter(|vdev| !matches!(vdev.kind, VdevKind::Leaf | VdevKind::Root));
        problems.extend(groups.filter(|vdev| vdev.state != State::Online).map(describe));
    }
    let replacing = vdevs.iter().filter(|vdev| vdev.kind == VdevKind::Replacing);
    problems.extend(replacing.map(|vdev| format!("{}: a disk is being replaced", vdev.name)));
}

fn describe(vdev: &Vdev) -> String {
    let mut text = format!("{} is {}", vdev.name, word(&vdev.state));
    if let Some(path) = &vdev.was_path {
        text.push_str(&format!(", was {path}"));
    }
    for note in &vdev.notes {
        text.push_str(", ");
        text.push_str(note);
    }
    text
}

/// Counters of disks; those of groups and of the pool only where no disk has any, since they are
/// sums or follow from them.
fn counters(vdevs: &[Vdev], problems: &mut Vec<String>) {
    let counted = |vdev: &&Vdev| {
        vdev.errors
            .as_ref()
            .is_some_and(|errors| errors.read_errors | errors.write_errors | errors.checksum_errors > 0)
    };
    let mut bad: Vec<&Vdev> =
        vdevs.iter().filter(|vdev| vdev.kind == VdevKind::Leaf).filter(counted).collect();
    if bad.is_empty() {
        bad = vdevs.iter().filter(counted).collect();
    }
    for vdev in bad {
        if let Some(ErrorCounters { read_errors, write_errors, checksum_errors, approximate }) = &vdev.errors
        {
            let about = if *approximate { "about " } else { "" };
            problems.push(format!(
                "{}: {about}{read_errors} read, {write_errors} write and {checksum_errors} checksum errors",
                vdev.name
            ));
        }
    }
}

fn word(state: &State) -> &str {
    match state {
        State::Online => "online",
        State::Degraded => "degraded",
        State::Faulted => "faulted",
        State::Offline => "offline",
        State::Unavailable => "unavailable",
        State::Removed => "removed",
        State::Suspended => "suspended",
        State::SpareAvailable => "an unused spare",
        State::SpareInUse => "a spare in use",
        State::Split => "split off",
        State::Other(word) => word,
    }
}
