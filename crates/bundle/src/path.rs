//! Absolute paths in one spelling.

use std::path::{Path, PathBuf};

/// Longest path the kernel takes, with its final NUL (PATH_MAX, limits.h).
const MAX_BYTES: usize = 4095;

/// An absolute path in one spelling: no `.`, `..`, `//`, no `/` at the end (but for `/` itself),
/// no control characters. Two such paths name the same place of a tree without links exactly when
/// they are equal, and one is beneath the other exactly when it begins with it and a `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// Read a path.
    ///
    /// # Errors
    /// With the rule it breaks, in words.
    pub fn parse(text: &str) -> Result<AbsolutePath, &'static str> {
        check(text).map(|()| AbsolutePath(text.to_owned()))
    }

    /// Whether [`AbsolutePath::parse`] would take it.
    pub fn is_valid(text: &str) -> bool {
        check(text).is_ok()
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path for the system.
    pub fn to_path_buf(&self) -> PathBuf {
        Path::new(&self.0).to_owned()
    }

    /// Whether `path`, itself in this spelling, is strictly beneath this one.
    pub fn is_above(&self, path: &str) -> bool {
        match self.0.as_str() {
            "/" => path.len() > 1 && path.starts_with('/'),
            root => path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')),
        }
    }

    /// Whether `path`, itself in this spelling, is this one or beneath it.
    pub fn covers(&self, path: &str) -> bool {
        self.0 == path || self.is_above(path)
    }
}

impl std::fmt::Display for AbsolutePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for AbsolutePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        AbsolutePath::parse(&text).map_err(|why| serde::de::Error::custom(format!("path `{text}`: {why}")))
    }
}

fn check(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err("must be absolute, beginning with `/`");
    };
    if text.len() > MAX_BYTES {
        return Err("is longer than 4,095 bytes");
    }
    if text.contains(char::is_control) {
        return Err("holds a control character");
    }
    if rest.is_empty() {
        return Ok(());
    }
    for segment in rest.split('/') {
        match segment {
            "" => return Err("holds `//` or ends with `/`"),
            "." | ".." => return Err("holds `.` or `..` as a part"),
            _ => {}
        }
    }
    Ok(())
}
