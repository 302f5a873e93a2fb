//! From a bundle's parts to a plugin that can be called: compiled by the helper, or taken from the cache.

use crate::config::{Config, PluginSettings};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::RwLock;
use windlass_bundle::{Approval, Bundle, Manifest};
use windlass_runtime::{
    LoadError, Plugin, Runtime, RuntimeError, RuntimeOptions,
    aot::{CachedError, CompileError, Compiler},
};
use windlass_types::{Digest, PluginName};

/// In a cache that several hosts share, what none has loaded for so long is removed.
const SHARED_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A cached file that is loaded is marked as used, if its mark is older than this.
const MARK_AGE: Duration = Duration::from_secs(24 * 3600);

/// Why a bundle is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Unloaded {
    #[error("cannot compile it")]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("its component can't be read: {0}")]
    Component(String),
    #[error("the host failed while it loaded it")]
    Failed(#[from] tokio::task::JoinError),
}

/// What is to be loaded.
#[derive(Debug, Clone)]
pub struct Loading {
    pub manifest: Arc<Manifest>,
    /// Of the bundle.
    pub digest: Digest,
    /// Of its component.
    pub component: Digest,
    /// The operator's part of the grant; none for a plugin of the node's own.
    pub approval: Option<Approval>,
}

/// See the module.
pub struct Loader {
    runtime: Arc<Runtime>,
    settings: BTreeMap<PluginName, PluginSettings>,
    compiler: Compiler,
    compiled_dir: PathBuf,
    /// Nobody else keeps compiled plugins there.
    own_dir: bool,
    /// Held while compiled files that nothing refers to yet may be there.
    in_use: RwLock<()>,
}

impl Loader {
    /// One with a runtime of its own.
    ///
    /// # Errors
    /// If the runtime can't start.
    pub fn new(config: &Config) -> Result<Loader, RuntimeError> {
        let runtime = Runtime::new(RuntimeOptions {
            state_dir: config.state_dir.join("plugin-state"),
            // Until there is a certificate there is no id.
            node_id: String::new(),
            node_name: config.name.to_string(),
            guest_threads: std::thread::available_parallelism().map_or(1, usize::from).min(config.workers),
        })?;
        Ok(Loader {
            runtime,
            settings: config.plugins.clone(),
            compiler: Compiler::new(config.compile_helper.clone(), config.compiled_dir.clone()),
            compiled_dir: config.compiled_dir.clone(),
            own_dir: config.compiled_dir == config.default_compiled_dir(),
            in_use: RwLock::new(()),
        })
    }

    /// The runtime.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Until this is dropped, no compiled file is removed.
    pub async fn using(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.in_use.read().await
    }

    /// Load a plugin. `component` is asked for the component only if it must be compiled; it may block.
    ///
    /// # Errors
    /// If it can't be compiled or does not fit this host.
    pub async fn load(
        &self,
        what: Loading,
        component: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
    ) -> Result<Arc<Plugin>, Unloaded> {
        let settings = self.settings.get(&what.manifest.name).cloned().unwrap_or_default();
        for warning in settings.policy.without_effect(&what.manifest) {
            tracing::warn!("plugins.{}.policy: {warning}", what.manifest.name);
        }
        let cached = self.compiler.path(what.component);
        match self.try_load(what.clone(), &settings, &cached).await {
            Err(Unloaded::Load(LoadError::Incompatible(why))) => {
                // Compiled by a helper of another version, most likely: once more.
                tracing::info!(plugin = %what.manifest.name, why, "compiling again");
                // If it can't be removed, the next attempt says why.
                let _ = std::fs::remove_file(&cached);
            }
            Err(Unloaded::Load(LoadError::Cached(CachedError::Changed { .. }))) => {}
            Err(Unloaded::Load(LoadError::Cached(CachedError::Io { source, .. })))
                if source.kind() == io::ErrorKind::NotFound => {}
            ended => return ended,
        }
        let component = tokio::task::spawn_blocking(component).await?.map_err(Unloaded::Component)?;
        let compiled = self.compiler.compiled(&component).await?;
        drop(component);
        self.try_load(what, &settings, &compiled).await
    }

    async fn try_load(
        &self,
        what: Loading,
        settings: &PluginSettings,
        compiled: &Path,
    ) -> Result<Arc<Plugin>, Unloaded> {
        let runtime = Arc::clone(&self.runtime);
        let PluginSettings { policy, configuration } = settings.clone();
        let compiled = compiled.to_owned();
        let load = move || {
            let Loading { manifest, digest, approval, .. } = what;
            // Of the bundle the runtime needs no more than these two.
            let bundle = Bundle {
                manifest,
                digest,
                manifest_text: Vec::new(),
                component: Vec::new(),
                wit: Vec::new(),
            };
            let plugin = runtime.load(&bundle, &compiled, &policy, approval, configuration.into())?;
            mark_used(&compiled);
            Ok::<_, LoadError>(plugin)
        };
        Ok(tokio::task::spawn_blocking(load).await??)
    }

    /// Remove compiled files of components that `keep` does not hold. Where several hosts share the
    /// folder, only those that none has used for a month.
    pub async fn prune(&self, keep: &BTreeSet<Digest>) {
        // What is being compiled now is not in `keep` yet: another time, then.
        let Ok(_alone) = self.in_use.try_write() else { return };
        let keep: BTreeSet<PathBuf> = keep
            .iter()
            .map(|component| self.compiler.path(*component))
            .flat_map(|path| [path.with_extension("sha256"), path])
            .collect();
        let (dir, age) = (self.compiled_dir.clone(), if self.own_dir { Duration::ZERO } else { SHARED_AGE });
        // A panic in there would say nothing about the next time.
        let _ = tokio::task::spawn_blocking(move || prune(&dir, &keep, age)).await;
    }
}

fn mark_used(compiled: &Path) {
    let mark = || -> io::Result<()> {
        let old = std::fs::metadata(compiled)?.modified()?.elapsed().is_ok_and(|age| age > MARK_AGE);
        if old {
            std::fs::File::open(compiled)?.set_modified(SystemTime::now())?;
        }
        Ok(())
    };
    // Without the mark it may be compiled again one day.
    if let Err(error) = mark() {
        tracing::debug!("cannot mark `{}` as used: {error}", compiled.display());
    }
}

fn prune(dir: &Path, keep: &BTreeSet<PathBuf>, age: Duration) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if keep.contains(&path) || !removable(&path) {
            continue;
        }
        let aged = |found: std::fs::Metadata| found.modified().ok()?.elapsed().ok();
        if age > Duration::ZERO && entry.metadata().ok().and_then(aged).is_none_or(|old| old < age) {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::debug!("removed `{}`, which nothing uses", path.display()),
            // It costs space, no more.
            Err(error) => tracing::warn!("cannot remove `{}`: {error}", path.display()),
        }
    }
}

/// Whether it is a file of the cache, and not one that a compiler is writing.
fn removable(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.strip_prefix(".new-").and_then(|rest| rest.split_once('-')) {
        Some((process, _)) => {
            process.parse::<u32>().is_ok_and(|process| !Path::new(&format!("/proc/{process}")).exists())
        }
        None => name.ends_with(".cwasm") || name.ends_with(".sha256"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_uses_is_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, b"x").unwrap();
            path
        };
        let kept = file("a-r1.cwasm");
        let (gone, sum) = (file("b-r1.cwasm"), file("b-r1.sha256"));
        let (writing, dead) = (file(&format!(".new-{}-1", std::process::id())), file(".new-4194305-1"));
        let other = file("README");
        prune(dir.path(), &BTreeSet::from([kept.clone()]), Duration::from_secs(60));
        assert!(gone.exists() && sum.exists(), "too young for a shared folder");
        prune(dir.path(), &BTreeSet::from([kept.clone()]), Duration::ZERO);
        assert!(kept.exists() && writing.exists() && other.exists());
        assert!(!gone.exists() && !sum.exists() && !dead.exists());
    }

    #[test]
    fn a_used_file_is_young_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cwasm");
        std::fs::write(&path, b"x").unwrap();
        let old = SystemTime::now() - 2 * MARK_AGE;
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
        mark_used(&path);
        assert!(std::fs::metadata(&path).unwrap().modified().unwrap() > old + MARK_AGE);
    }
}
