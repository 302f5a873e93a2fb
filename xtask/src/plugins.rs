//! `cargo xtask plugins`: from the crates of `plugins/` and `tests/plugins/` to bundles.
//!
//! A plugin is a folder with a `plugin.toml`, a `wit/` and a crate. Its crate is built for
//! wasm32-wasip2 in `target/plugins`, and packed into `target/bundles/<name>/`. What went into the
//! bundles of one workspace is remembered as a digest, so that a start without changes costs some
//! file reads and neither cargo nor the packer.
//!
//! Plugins do not copy the WIT of Windlass, which comes with whoever reads theirs. A plugin with other
//! dependencies keeps them in `wit/deps/` as usual.

use crate::setup;
use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};
use windlass_bundle::{Manifest, Part};
use windlass_describe::{Packed, pack};

/// What guests are compiled for.
const TARGET: &str = "wasm32-wasip2";
/// Folders of plugins, and whether those are for tests only.
const FOLDERS: [(&str, bool); 2] = [("plugins", false), ("tests/plugins", true)];
/// What goes into a bundle besides the workspace of its plugin.
const SHARED_INPUTS: [&str; 7] = [
    "wit",
    "rust-toolchain.toml",
    "crates/sdk",
    "crates/types/src",
    "crates/bundle/src",
    "crates/describe/src",
    "xtask/src/plugins.rs",
];

/// A plugin that has been built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Name of the plugin.
    pub name: String,
    /// Version of the plugin.
    pub version: String,
    /// Folder of its bundle.
    pub bundle: PathBuf,
    /// Size of its component, in bytes.
    pub component_bytes: u64,
    /// It comes from `tests/plugins`: nothing to load outside of tests.
    pub for_tests: bool,
    /// It was built by this call; otherwise nothing had changed.
    pub rebuilt: bool,
}

/// Folder of all bundles: one folder in it for each plugin, by name.
pub fn bundles_dir(repository: &Path) -> PathBuf {
    repository.join("target/bundles")
}

/// Build and pack what has changed, and tell each plugin with its size on `output`.
///
/// Two calls at the same time take turns.
///
/// # Errors
/// With the plugin and what is wrong with it.
pub fn build(repository: &Path, output: &mut dyn Write) -> anyhow::Result<Vec<Built>> {
    let work = repository.join("target/plugins");
    create_dir(&work)?;
    let lock = File::create(work.join(".lock")).context("can not create the lock of target/plugins")?;
    lock.lock().context("can not lock target/plugins")?;

    let sources = sources(repository)?;
    let mut workspaces: BTreeMap<&Path, Vec<&Source>> = BTreeMap::new();
    for source in &sources {
        workspaces.entry(&source.workspace).or_default().push(source);
    }
    let mut built = Vec::new();
    for (workspace, sources) in workspaces {
        let inputs = inputs(repository, workspace)?;
        if sources.iter().any(|source| source.is_stale(repository, &inputs)) {
            compile(repository, workspace, &work)?;
            for source in &sources {
                let bundle = source.pack(repository, &work)?;
                source.remember(repository, &inputs)?;
                built.push(source.built(bundle, true)?);
            }
        } else {
            for source in &sources {
                built.push(source.built(source.bundle_dir(repository), false)?);
            }
        }
    }
    remove_others(repository, &sources)?;
    built.sort_by(|a, b| a.name.cmp(&b.name));
    for plugin in &built {
        writeln!(
            output,
            "{:<16} {:<8} {:>6} KiB  {}",
            plugin.name,
            plugin.version,
            plugin.component_bytes.div_ceil(1024),
            if plugin.rebuilt { "built" } else { "unchanged" },
        )?;
    }
    Ok(built)
}

/// A plugin in the repository.
struct Source {
    name: String,
    version: String,
    /// Its folder, with `plugin.toml`.
    dir: PathBuf,
    /// Folder of the workspace it is built in; its own folder where it is in none.
    workspace: PathBuf,
    for_tests: bool,
}

/// All plugins. Two of one name are an error, since they would share a bundle.
fn sources(repository: &Path) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut names = BTreeSet::new();
    for (folder, for_tests) in FOLDERS {
        let folder = repository.join(folder);
        if !folder.is_dir() {
            continue;
        }
        for dir in sorted(&folder)? {
            let manifest = dir.join("plugin.toml");
            if !manifest.is_file() {
                continue;
            }
            let parsed =
                Manifest::parse(&read_text(&manifest)?).with_context(|| manifest.display().to_string())?;
            let name = parsed.name.to_string();
            ensure!(names.insert(name.clone()), "two plugins are called `{name}`; one is {}", dir.display());
            let own = folder.join("Cargo.toml").is_file();
            let workspace = if own { folder.clone() } else { dir.clone() };
            sources.push(Source { name, version: parsed.version.to_string(), dir, workspace, for_tests });
        }
    }
    Ok(sources)
}

impl Source {
    fn bundle_dir(&self, repository: &Path) -> PathBuf {
        bundles_dir(repository).join(&self.name)
    }

    /// File that remembers what the bundle was made from. Not in the bundle: that is for its parts.
    fn stamp(&self, repository: &Path) -> PathBuf {
        repository.join("target/plugins/stamps").join(&self.name)
    }

    fn is_stale(&self, repository: &Path, inputs: &str) -> bool {
        let parts = [Part::Manifest, Part::Component, Part::Wit];
        !fs::read_to_string(self.stamp(repository)).is_ok_and(|stamp| stamp == inputs)
            || !parts.iter().all(|part| self.bundle_dir(repository).join(part.file_name()).is_file())
    }

    fn remember(&self, repository: &Path, inputs: &str) -> anyhow::Result<()> {
        let stamp = self.stamp(repository);
        create_dir(&repository.join("target/plugins/stamps"))?;
        fs::write(&stamp, inputs).with_context(|| format!("can not write {}", stamp.display()))
    }

    /// Pack what cargo has built, and give the folder of the bundle.
    fn pack(&self, repository: &Path, work: &Path) -> anyhow::Result<PathBuf> {
        let component = work.join(TARGET).join("release").join(self.component_file()?);
        let packed = pack(read(&self.dir.join("plugin.toml"))?, read(&component)?, &self.dir.join("wit"));
        let Packed { bundle, unlisted, .. } =
            packed.with_context(|| format!("can not pack {}", self.dir.display()))?;
        for operation in unlisted {
            eprintln!(
                "warning: {}: `{operation}` is not in plugin.toml, so it counts as `destroy`",
                self.dir.display()
            );
        }
        let dir = self.bundle_dir(repository);
        create_dir(&dir)?;
        for (part, bytes) in [
            (Part::Component, &bundle.component),
            (Part::Wit, &bundle.wit),
            (Part::Manifest, &bundle.manifest_text),
        ] {
            replace(&dir.join(part.file_name()), bytes)?;
        }
        Ok(dir)
    }

    /// Name of the file that cargo makes: that of the package, with `_` for `-`.
    fn component_file(&self) -> anyhow::Result<String> {
        let path = self.dir.join("Cargo.toml");
        let table: toml::Table =
            read_text(&path)?.parse().with_context(|| format!("can not parse {}", path.display()))?;
        let name =
            table.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
        let name = name.with_context(|| format!("{} has no package.name", path.display()))?;
        Ok(format!("{}.wasm", name.replace('-', "_")))
    }

    fn built(&self, bundle: PathBuf, rebuilt: bool) -> anyhow::Result<Built> {
        let component = bundle.join(Part::Component.file_name());
        let metadata =
            fs::metadata(&component).with_context(|| format!("can not read {}", component.display()))?;
        Ok(Built {
            name: self.name.clone(),
            version: self.version.clone(),
            bundle,
            component_bytes: metadata.len(),
            for_tests: self.for_tests,
            rebuilt,
        })
    }
}

/// Build all crates of a workspace, after adding the target where the toolchain lacks it.
fn compile(repository: &Path, workspace: &Path, work: &Path) -> anyhow::Result<()> {
    setup::wasm_target()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--target", TARGET, "--manifest-path"])
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(work)
        .current_dir(repository)
        .status()
        .context("can not run cargo")?;
    ensure!(status.success(), "the plugins in {} do not build", workspace.display());
    Ok(())
}

/// Digest of all that decides what the bundles of a workspace are.
fn inputs(repository: &Path, workspace: &Path) -> anyhow::Result<String> {
    let mut files = BTreeSet::new();
    collect(workspace, &mut files)?;
    for shared in SHARED_INPUTS {
        collect(&repository.join(shared), &mut files)?;
    }
    let mut digest = Sha256::new();
    for file in files {
        let content = read(&file)?;
        let name = file.strip_prefix(repository).unwrap_or(&file).as_os_str().as_encoded_bytes();
        for part in [name, &content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    Ok(hex::encode(digest.finalize()))
}

/// Files beneath a path that can change what is built.
fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in sorted(path)? {
            let name = entry.file_name().unwrap_or_default();
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                collect(&entry, files)?;
            }
        }
    } else if path
        .extension()
        .and_then(OsStr::to_str)
        .is_some_and(|kind| matches!(kind, "rs" | "toml" | "lock" | "wit"))
    {
        files.insert(path.to_owned());
    }
    Ok(())
}

/// A bundle whose plugin is gone would go on being loaded.
fn remove_others(repository: &Path, sources: &[Source]) -> anyhow::Result<()> {
    let bundles = bundles_dir(repository);
    create_dir(&bundles)?;
    for dir in sorted(&bundles)? {
        let known = sources.iter().any(|source| dir.file_name() == Some(OsStr::new(&source.name)));
        if !known && dir.is_dir() {
            fs::remove_dir_all(&dir).with_context(|| format!("can not remove {}", dir.display()))?;
        }
    }
    Ok(())
}

/// Replace a file at once: a host that reads it sees the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("can not write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("can not replace {}", path.display()))
}

fn sorted(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut entries = read().with_context(|| format!("can not list {}", dir.display()))?;
    entries.sort();
    Ok(entries)
}

fn create_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("can not create {}", dir.display()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("can not read {}", path.display()))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("can not read {}", path.display()))
}

#[cfg(test)]
mod tests;
