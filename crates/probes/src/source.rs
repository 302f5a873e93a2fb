//! Reading small files of `/proc` and `/sys` below a root.

use crate::ProbeError;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

/// More than any of these files has; `mountinfo` of a node with ten thousand datasets has 2 MB.
const CAP: u64 = 16 << 20;

/// Files below a root.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    root: PathBuf,
}

impl Source {
    pub fn new(root: &Path) -> Source {
        Source { root: root.to_owned() }
    }

    /// Where a file of the node lies. `path` is given without the leading slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path(path))?.take(CAP).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The text of a file that every node has.
    pub fn text(&self, path: &str) -> Result<String, ProbeError> {
        match self.bytes(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(failed(path, &error)),
        }
    }

    /// The first line of a file that some nodes have, without blanks around it; none when it is
    /// empty or can't be read (sysfs answers with errors for what a driver does not know).
    pub fn line(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        // Device trees end their texts with a zero byte.
        let line = text.lines().next()?.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!line.is_empty()).then(|| line.to_owned())
    }

    /// A file that holds one number; none as with [`Source::line`].
    pub fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.line(path)?.parse().ok()
    }

    /// A file that holds 0 or 1.
    pub fn flag(&self, path: &str) -> bool {
        self.line(path).is_some_and(|line| line != "0")
    }

    /// The names in a directory, sorted; empty when there is no such directory.
    pub fn names(&self, path: &str) -> Result<Vec<String>, ProbeError> {
        let entries = match fs::read_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| failed(path, &error))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| failed(path, &error))?.file_name();
            // The kernel has no other names; one that is not UTF-8 could not be opened by name.
            names.extend(name.into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// True if anything stands there.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of where a link leads.
    pub fn link_name(&self, path: &str) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.file_name()?.to_str().map(str::to_owned)
    }
}

fn failed(path: &str, error: &io::Error) -> ProbeError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::Unsupported => ProbeError::Unsupported(format!("`/{path}`")),
        _ => ProbeError::Other(format!("reading `/{path}`: {error}")),
    }
}

/// The error of a parser.
pub(crate) fn malformed(path: &str, what: &str) -> ProbeError {
    ProbeError::Other(format!("`/{path}` is not as expected: {what}"))
}

/// A number that is one: Rust reads `inf` and `nan` too.
pub(crate) fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
