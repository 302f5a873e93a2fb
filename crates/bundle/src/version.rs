//! Version of a plugin.

use std::{fmt, str::FromStr};

/// Version of a plugin: three numbers, ordered as numbers. Pre-release and build suffixes of
/// semantic versioning are left out on purpose: what a fleet runs is identified by its digest, and
/// two numbers that sort alike but differ would only confuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// A text that is not a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected three numbers without needless zeros, such as `1.4.0`")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = |part: Option<&str>| {
            let part = part.ok_or(VersionError)?;
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !plain || (part.len() > 1 && part.starts_with('0')) {
                return Err(VersionError);
            }
            part.parse().map_err(|_| VersionError)
        };
        let mut parts = text.split('.');
        let version = Version {
            major: number(parts.next())?,
            minor: number(parts.next())?,
            patch: number(parts.next())?,
        };
        if parts.next().is_some() { Err(VersionError) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { major, minor, patch } = self;
        f.pad(&format!("{major}.{minor}.{patch}"))
    }
}
