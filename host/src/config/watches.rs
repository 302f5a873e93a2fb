//! What a host keeps of its watches.

use crate::watches::WatchSettings;
use serde::Deserialize;
use std::ops::RangeInclusive;
use windlass_bundle::units;

const CHANGES: RangeInclusive<usize> = 1..=100_000;
const BYTES: RangeInclusive<u64> = 64 << 10..=256 << 20;
/// A master takes none that is larger.
const RESULT: RangeInclusive<u64> = 1 << 10..=256 << 10;

/// The table `[watches]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    max_changes: Option<usize>,
    max_bytes: Option<String>,
    max_result: Option<String>,
}

impl Table {
    /// Check it; with an error, the key it is about.
    pub fn settings(self) -> Result<WatchSettings, (&'static str, String)> {
        let mut settings = WatchSettings::default();
        if let Some(changes) = self.max_changes {
            if !CHANGES.contains(&changes) {
                let (from, to) = (CHANGES.start(), CHANGES.end());
                return Err(("watches.max_changes", format!("{changes} is not within {from} and {to}")));
            }
            settings.changes = changes;
        }
        let size = |key, text: Option<String>, range: RangeInclusive<u64>, default| {
            let Some(text) = text else { return Ok(default) };
            let bytes = units::size(&text).map_err(|message| (key, message))?;
            if !range.contains(&bytes) {
                let [from, to] = [range.start(), range.end()].map(|bytes| units::show_size(*bytes));
                return Err((key, format!("`{text}` is not within {from} and {to}")));
            }
            Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
        };
        settings.bytes = size("watches.max_bytes", self.max_bytes, BYTES, settings.bytes)?;
        settings.result = size("watches.max_result", self.max_result, RESULT, settings.result)?;
        Ok(settings)
    }
}
