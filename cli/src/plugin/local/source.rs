//! Where a plugin is taken from: the folder of a project or of a bundle, a package, a component.

use crate::{config, exit::Problem};
use anyhow::{Context as _, Result};
use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};
use windlass_bundle::{Bundle, Package, Part};
use windlass_types::shape::Operation;

/// Folders of a project that hold nothing a component is made of.
const NOT_SOURCES: [&str; 4] = ["target", "cases", "node_modules", "__pycache__"];
/// Files that are looked at to find one newer than the component, at most.
const MANY: usize = 10_000;

/// A plugin, read.
#[derive(Debug)]
pub struct Source {
    pub bundle: Bundle,
    /// Its operations, documented.
    pub operations: Vec<Operation>,
    /// Folder for what is made of it here: compiled code, state.
    pub work: PathBuf,
    /// A source that is newer than the build.
    pub newer: Option<Newer>,
}

/// A build that does not show the sources as they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Newer {
    pub component: PathBuf,
    pub source: PathBuf,
}

/// Whether a word on the command line names a plugin, and not an operation or a case.
pub fn is_plugin(word: &str) -> bool {
    let path = Path::new(word);
    let ending = path.extension().is_some_and(|ending| ending == "tar" || ending == "wasm");
    word.contains('/')
        || word == "."
        || word == ".."
        || ending
        || path.join(Part::Manifest.file_name()).is_file()
}

/// The folder of a project that a word names, or the working directory.
pub fn project(word: Option<&str>) -> Result<PathBuf> {
    let dir = PathBuf::from(word.unwrap_or("."));
    if !dir.is_dir() {
        return Err(Problem::usage(format!("`{}` is not a folder", dir.display())).into());
    }
    has_manifest(&dir)?;
    Ok(dir)
}

fn has_manifest(dir: &Path) -> Result<()> {
    if dir.join(Part::Manifest.file_name()).is_file() {
        return Ok(());
    }
    Err(Problem::usage(format!("`{}` holds no plugin: there is no `plugin.toml`", dir.display()))
        .hint("name its folder, or make a new one with `windlass plugin new`")
        .into())
}

impl Source {
    /// Read a plugin from a folder, a package or a component.
    ///
    /// # Errors
    /// If there is none, or it is no good.
    pub fn open(path: &Path) -> Result<Source> {
        if path.is_dir() {
            has_manifest(path)?;
            return if path.join(Part::Component.file_name()).is_file() {
                let bundle = Bundle::read_dir(path).map_err(|error| {
                    Problem::failed(format!("`{}` is no good bundle", path.display())).because(error)
                })?;
                Source::of_bundle(bundle)
            } else {
                Source::of_project(path, &newest_component(path)?)
            };
        }
        if !path.exists() {
            return Err(Problem::usage(format!("there is no `{}`", path.display())).into());
        }
        if path.extension().is_some_and(|ending| ending == "wasm") {
            // Its manifest and WIT are those of the project it lies in.
            let absolute =
                std::path::absolute(path).with_context(|| format!("cannot find `{}`", path.display()))?;
            let project =
                absolute.ancestors().skip(1).find(|dir| dir.join(Part::Manifest.file_name()).is_file());
            let Some(project) = project else {
                return Err(Problem::usage(format!("`{}` lies in no project", path.display()))
                    .hint(
                        "a component alone says nothing about its grants: there is no `plugin.toml` above it",
                    )
                    .into());
            };
            return Source::of_project(project, path);
        }
        let package = Package::open(path).map_err(|error| {
            Problem::failed(format!("`{}` is no good package", path.display())).because(error)
        })?;
        Source::of_bundle(package.bundle)
    }

    /// The plugin of a project: its own build, or what is given in place of it.
    ///
    /// # Errors
    /// If there is none, or it is no good.
    pub fn of(project: &Path, bundle: Option<&Path>) -> Result<Source> {
        Source::open(bundle.unwrap_or(project))
    }

    fn of_bundle(bundle: Bundle) -> Result<Source> {
        let operations = windlass_describe::operations(&bundle.manifest.name, &bundle.wit)
            .context("cannot read the operations of the plugin")?;
        Ok(Source { bundle, operations, work: cache()?, newer: None })
    }

    fn of_project(project: &Path, component: &Path) -> Result<Source> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
        let manifest = read(&project.join(Part::Manifest.file_name()))?;
        let packed =
            windlass_describe::pack(manifest, read(component)?, &project.join("wit")).map_err(|error| {
                Problem::failed(format!("`{}` is no good plugin", project.display()))
                    .hint("`windlass plugin check` looks at all of it")
                    .because(error)
            })?;
        let newer = newer(project, component).map(|source| Newer { component: component.to_owned(), source });
        Ok(Source { bundle: packed.bundle, operations: packed.operations, work: work(project), newer })
    }
}

/// Where a project keeps what is made of it.
fn work(project: &Path) -> PathBuf {
    project.join("target/plugin")
}

/// The same for a plugin that lies in no project.
fn cache() -> Result<PathBuf> {
    match (config::environment("XDG_CACHE_HOME"), config::environment("HOME")) {
        (Some(base), _) if Path::new(&base).is_absolute() => Ok(Path::new(&base).join("windlass/plugin")),
        (_, Some(home)) => Ok(Path::new(&home).join(".cache/windlass/plugin")),
        _ => {
            Err(Problem::failed("no place for compiled plugins: neither `XDG_CACHE_HOME` nor `HOME` is set")
                .into())
        }
    }
}

/// The component that was built last.
fn newest_component(project: &Path) -> Result<PathBuf> {
    let built = work(project);
    let components = match fs::read_dir(&built) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let components = components.with_context(|| format!("cannot list `{}`", built.display()))?;
    let newest = components
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some(OsStr::new("wasm")))
        .max_by_key(|path| changed(path));
    newest.ok_or_else(|| {
        Problem::failed(format!("the plugin in `{}` is not built", project.display()))
            .hint("`windlass plugin build` makes its component")
            .into()
    })
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// A file of the project that was changed after its component was built.
fn newer(project: &Path, component: &Path) -> Option<PathBuf> {
    let built = changed(component)?;
    let mut dirs = vec![project.to_owned()];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).ok()?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            seen += 1;
            if seen > MANY {
                return None;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if name.starts_with('.') || is_dir && NOT_SOURCES.contains(&&*name) {
                continue;
            }
            if is_dir {
                dirs.push(path);
            } else if !name.ends_with(".tar")
                && !name.ends_with(".md")
                && changed(&path).is_some_and(|at| at > built)
            {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn write(path: &Path, seconds: u64) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn words_that_name_a_plugin() {
        for word in [".", "..", "./usage", "/a/b", "usage-0.1.0.tar", "component.wasm"] {
            assert!(is_plugin(word), "{word}");
        }
        for word in ["disk.usage", "zfs.pool.list", "full-disk"] {
            assert!(!is_plugin(word), "{word}");
        }
    }

    #[test]
    fn the_newest_build_is_taken_and_newer_sources_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        newest_component(dir.path()).unwrap_err();
        write(&at("target/plugin/a-0.1.0.wasm"), 1_000);
        write(&at("target/plugin/a-0.2.0.wasm"), 2_000);
        write(&at("target/plugin/compiled/x.cwasm"), 9_000);
        let newest = newest_component(dir.path()).unwrap();
        assert_eq!(newest, at("target/plugin/a-0.2.0.wasm"));
        write(&at("src/lib.rs"), 1_500);
        for path in ["cases/a/call.json", ".git/index", "a-0.2.0.tar", "README.md"] {
            write(&at(path), 9_000);
        }
        assert_eq!(newer(dir.path(), &newest), None);
        write(&at("src/deep/mod.rs"), 2_500);
        assert_eq!(newer(dir.path(), &newest), Some(at("src/deep/mod.rs")));
    }
}
