//! The folder of a plugin: what an author edits.

use crate::exit::Problem;
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};
use windlass_bundle::Manifest;

/// The manifest in the folder.
pub const MANIFEST: &str = "plugin.toml";

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Rust,
    Python,
    Js,
    C,
}

impl Language {
    /// The file that tells the language of a folder.
    pub fn marker(self) -> &'static str {
        match self {
            Language::Rust => "Cargo.toml",
            Language::Python => "app.py",
            Language::Js => "plugin.js",
            Language::C => "plugin.c",
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::Js => "JavaScript",
            Language::C => "C",
        }
    }
}

/// The folder of a plugin with its manifest.
#[derive(Debug)]
pub struct Project {
    pub dir: PathBuf,
    pub manifest_text: Vec<u8>,
    pub manifest: Manifest,
}

impl Project {
    /// Read the folder of a plugin.
    ///
    /// # Errors
    /// If it is none, or its manifest is wrong.
    pub fn open(dir: &Path) -> Result<Project> {
        let path = dir.join(MANIFEST);
        let manifest_text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Problem::usage(format!("`{}` is not the folder of a plugin", dir.display()))
                    .hint(format!("it has no `{MANIFEST}`; `windlass plugin new` makes such a folder"))
                    .into());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        let text = std::str::from_utf8(&manifest_text)
            .map_err(|_| Problem::failed(format!("`{}` is not UTF-8 text", path.display())))?;
        let manifest = Manifest::parse(text)
            .map_err(|error| Problem::failed(format!("`{}` is wrong", dir.display())).because(error))?;
        Ok(Project { dir: dir.to_owned(), manifest_text, manifest })
    }

    /// What it is written in.
    ///
    /// # Errors
    /// If no file tells, or several do.
    pub fn language(&self) -> Result<Language> {
        use clap::ValueEnum as _;
        let languages = Language::value_variants();
        let found: Vec<Language> =
            languages.iter().copied().filter(|language| self.dir.join(language.marker()).is_file()).collect();
        let markers = |of: &[Language]| {
            of.iter().map(|of| format!("`{}` ({})", of.marker(), of.name())).collect::<Vec<_>>().join(", ")
        };
        match found[..] {
            [language] => Ok(language),
            [] => Err(Problem::failed(format!("cannot tell what `{}` is written in", self.dir.display()))
                .hint(format!("expected one of {}", markers(languages)))
                .into()),
            _ => Err(Problem::failed(format!("`{}` is written in several languages", self.dir.display()))
                .hint(format!("it has {}: a plugin has one of these", markers(&found)))
                .into()),
        }
    }

    /// Where its WIT lies.
    pub fn wit(&self) -> PathBuf {
        self.dir.join("wit")
    }

    /// Folder of all that is made from it.
    pub fn output(&self) -> PathBuf {
        self.dir.join("target/plugin")
    }

    /// `NAME-VERSION`.
    pub fn stem(&self) -> String {
        format!("{}-{}", self.manifest.name, self.manifest.version)
    }

    /// Where its component is built to.
    pub fn component(&self) -> PathBuf {
        self.output().join(format!("{}.wasm", self.stem()))
    }
}

/// Write a file as a whole: who reads it sees the old or the new one.
///
/// # Errors
/// If it can't be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    fs::write(&new, bytes).with_context(|| format!("cannot write `{}`", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot write `{}`", path.display()))
}
