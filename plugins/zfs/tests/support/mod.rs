//! Output captured from the real tools.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{fs, path::PathBuf};

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
