//! Cases: a folder each in `cases/`, with what is called, what the host said and what must come.

use crate::exit::Problem;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use windlass_runtime::{Cassette, tape::pretty};
use windlass_types::{Denial, Outcome, json::nearest};

const CALL: &str = "call.json";
const CASSETTE: &str = "cassette.json";
const EXPECTED: &str = "expected.json";
const EXPECTED_ERROR: &str = "expected-error.json";
const EXPECTED_DENIAL: &str = "expected-denial.json";
const NOTES: &str = "README.md";
/// All that a folder of a case may hold.
const FILES: [&str; 6] = [CALL, CASSETTE, EXPECTED, EXPECTED_ERROR, EXPECTED_DENIAL, NOTES];

/// What is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallFile {
    /// One line for who reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// `interface.function`.
    pub operation: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub args: Map<String, Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Of the plugin on the node.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub configuration: Map<String, Value>,
}

/// What must come of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// It succeeds with this value.
    Value(Value),
    /// It returns this error.
    Error(Value),
    /// It ends because it was denied this.
    Denial(ExpectedDenial),
}

/// A denial, as far as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedDenial {
    /// Such as `commands.run`.
    pub capability: String,
    /// What was asked, such as `zpool destroy tank`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Text that is found in the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A case, read.
#[derive(Debug)]
pub struct Case {
    pub call: CallFile,
    pub cassette: Cassette,
    /// None where it is still to be written.
    pub expected: Option<Expected>,
}

/// The folders of cases in a project, by name, sorted.
///
/// # Errors
/// If they cannot be listed, or something else lies among them.
pub fn list(project: &Path) -> Result<Vec<(String, PathBuf)>> {
    let dir = project.join("cases");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let mut cases = Vec::new();
    for entry in entries.with_context(|| format!("cannot list `{}`", dir.display()))? {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            cases.push((name, path));
        } else if name != NOTES && !name.starts_with('.') {
            return Err(Problem::failed(format!("`{}` is not a case", path.display()))
                .hint("a case is a folder; notes go to `README.md`")
                .into());
        }
    }
    cases.sort();
    Ok(cases)
}

/// The folder of a case that is to be written.
///
/// # Errors
/// If the name can be none.
pub fn folder(project: &Path, name: &str) -> Result<PathBuf> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with(['.', '-']) || !name.bytes().all(good) {
        return Err(Problem::usage(format!("`{name}` is no name for a case"))
            .hint("letters, digits, `-`, `_` and `.`, such as `pool-without-spares`")
            .into());
    }
    Ok(project.join("cases").join(name))
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is not understood", path.display()))
}

fn parse_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if path.exists() { parse(path).map(Some) } else { Ok(None) }
}

impl Case {
    /// Read a case.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn read(dir: &Path) -> Result<Case> {
        only_known_files(dir)?;
        let at = |name: &str| dir.join(name);
        if !at(CALL).exists() {
            return Err(Problem::failed(format!("there is no `{CALL}`"))
                .hint("it says what is called: {\"operation\": \"pool.list\", \"args\": {}}")
                .into());
        }
        let call: CallFile = parse(&at(CALL))?;
        let cassette = match at(CASSETTE) {
            path if path.exists() => {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                Cassette::parse(&text).with_context(|| format!("`{}` is not understood", path.display()))?
            }
            // An operation that asks nothing of its host.
            _ => Cassette::default(),
        };
        let expected: Vec<Expected> = [
            // Not an `Option`: a value may be null.
            at(EXPECTED).exists().then(|| parse(&at(EXPECTED))).transpose()?.map(Expected::Value),
            at(EXPECTED_ERROR).exists().then(|| parse(&at(EXPECTED_ERROR))).transpose()?.map(Expected::Error),
            parse_if_there(&at(EXPECTED_DENIAL))?.map(Expected::Denial),
        ]
        .into_iter()
        .flatten()
        .collect();
        if expected.len() > 1 {
            return Err(Problem::failed("several things are expected of it")
                .hint(format!("keep one of `{EXPECTED}`, `{EXPECTED_ERROR}` and `{EXPECTED_DENIAL}`"))
                .into());
        }
        Ok(Case { call, cassette, expected: expected.into_iter().next() })
    }

    /// Write a case into its folder.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        write(&dir.join(CALL), &pretty(&self.call).context("cannot write json")?)?;
        let cassette = dir.join(CASSETTE);
        if self.cassette.is_empty() {
            remove(&cassette)?;
        } else {
            write(&cassette, &self.cassette.to_text())?;
        }
        match &self.expected {
            Some(expected) => expected.write(dir),
            None => Ok(()),
        }
    }
}

fn only_known_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list `{}`", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list `{}`", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if FILES.contains(&name.as_str()) || name.starts_with('.') {
            continue;
        }
        let hint = nearest(&name, FILES.into_iter())
            .unwrap_or_else(|| format!("a case holds {}", FILES.map(|file| format!("`{file}`")).join(", ")));
        return Err(Problem::failed(format!("`{name}` belongs to no case")).hint(hint).into());
    }
    Ok(())
}

impl Expected {
    /// What an outcome would be expected as; none for those that nobody should expect.
    pub fn of(outcome: &Outcome) -> Option<Expected> {
        match outcome {
            Outcome::Succeeded { value } => Some(Expected::Value(value.clone())),
            Outcome::Failed { error } => Some(Expected::Error(error.clone())),
            Outcome::Denied { denial: Denial { capability, request, missing }, .. } => {
                Some(Expected::Denial(ExpectedDenial {
                    capability: capability.clone(),
                    request: Some(request.clone()),
                    missing: Some(missing.clone()),
                }))
            }
            _ => None,
        }
    }

    /// Write it in place of what was expected before.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let (name, text) = match self {
            Expected::Value(value) => (EXPECTED, pretty(value)),
            Expected::Error(error) => (EXPECTED_ERROR, pretty(error)),
            Expected::Denial(denial) => (EXPECTED_DENIAL, pretty(denial)),
        };
        write(&dir.join(name), &text.context("cannot write json")?)?;
        for other in [EXPECTED, EXPECTED_ERROR, EXPECTED_DENIAL] {
            if other != name {
                remove(&dir.join(other))?;
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
