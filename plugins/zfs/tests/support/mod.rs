//! Captures, and a runner that plays them back.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{cell::RefCell, fs, path::PathBuf};
use windlass_plugin_zfs::tool::{Failure, Finished, Runner};

pub fn captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures")
}

pub fn capture(name: &str) -> String {
    let path = captures().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All captures whose file name begins so, from every version.
pub fn all(beginning: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for version in fs::read_dir(captures()).unwrap().map(|entry| entry.unwrap().path()) {
        if !version.is_dir() {
            continue;
        }
        for file in fs::read_dir(&version).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if name.starts_with(beginning) && name.ends_with(".txt") {
                found.push((file.display().to_string(), fs::read_to_string(&file).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no capture begins with {beginning}");
    found
}

pub fn printed(stdout: &str) -> Result<Finished, Failure> {
    Ok(Finished { code: Some(0), stdout: stdout.to_owned(), stderr: String::new(), truncated: false })
}

pub fn failed(code: i32, stderr: &str) -> Result<Finished, Failure> {
    Ok(Finished { code: Some(code), stdout: String::new(), stderr: stderr.to_owned(), truncated: false })
}

/// Answers calls in order, and keeps the command lines.
#[derive(Default)]
pub struct Playback {
    answers: RefCell<Vec<Result<Finished, Failure>>>,
    pub calls: RefCell<Vec<Vec<String>>>,
}

impl Playback {
    pub fn new(answers: impl IntoIterator<Item = Result<Finished, Failure>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Playback { answers: RefCell::new(answers), calls: RefCell::default() }
    }

    pub fn lines(&self) -> Vec<String> {
        self.calls.borrow().iter().map(|call| call.join(" ")).collect()
    }
}

impl Runner for Playback {
    fn run(&self, program: &str, args: &[&str], timeout_ms: u64) -> Result<Finished, Failure> {
        assert!(timeout_ms > 0, "every call needs a limit");
        let call = std::iter::once(program).chain(args.iter().copied()).map(str::to_owned).collect();
        self.calls.borrow_mut().push(call);
        self.answers.borrow_mut().pop().expect("one more call than expected")
    }
}
