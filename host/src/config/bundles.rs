//! What the owner of a node says about bundles that a master wants there.

use serde::Deserialize;
use std::{path::PathBuf, time::Duration};
use windlass_bundle::units;

/// Where the trust file is unless told.
pub const DEFAULT_TRUST_FILE: &str = "/etc/windlass/trust.toml";
/// Longest probation.
const LONGEST_PROBATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Largest failure budget.
const LARGEST_BUDGET: u32 = 1000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSettings {
    /// Whose signatures count.
    pub trust_file: PathBuf,
    /// Bundles need no signature.
    pub allow_unsigned: bool,
    /// So many operations of a new version may fail before it is sent back.
    pub failure_budget: u32,
    /// How long a version counts as new.
    pub probation: Duration,
    /// Bytes of the file system that bundles leave free.
    pub keep_free: u64,
}

impl Default for BundleSettings {
    fn default() -> Self {
        BundleSettings {
            trust_file: DEFAULT_TRUST_FILE.into(),
            allow_unsigned: false,
            failure_budget: 3,
            probation: Duration::from_secs(600),
            keep_free: 64 << 20,
        }
    }
}

/// The table `[bundles]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    failure_budget: Option<u32>,
    probation: Option<String>,
    keep_free: Option<String>,
}

/// Check what the file says; with an error, the key it is about.
pub(super) fn settings(
    trust_file: Option<PathBuf>,
    allow_unsigned: Option<bool>,
    table: Table,
) -> Result<BundleSettings, (&'static str, String)> {
    let mut settings = BundleSettings::default();
    if let Some(path) = trust_file {
        settings.trust_file = path;
    }
    settings.allow_unsigned = allow_unsigned.unwrap_or_default();
    if let Some(budget) = table.failure_budget {
        if !(1..=LARGEST_BUDGET).contains(&budget) {
            return Err(("bundles.failure_budget", format!("{budget} is not within 1 and {LARGEST_BUDGET}")));
        }
        settings.failure_budget = budget;
    }
    if let Some(text) = table.probation {
        let probation = units::duration(&text).map_err(|message| ("bundles.probation", message))?;
        if probation > LONGEST_PROBATION {
            return Err(("bundles.probation", format!("`{text}` is more than 30 days")));
        }
        settings.probation = probation;
    }
    if let Some(text) = table.keep_free {
        settings.keep_free = units::size(&text).map_err(|message| ("bundles.keep_free", message))?;
    }
    Ok(settings)
}
