//! The plugins of this node, on the runtime.
//!
//! Each folder in `plugins_dir` is a bundle. All of them are loaded at the start and again on SIGHUP: what
//! is compiled already comes from the cache, what is not goes through `windlass-compile`. A bundle that
//! can't be used is listed with the reason, and the others go on. Operations that run keep the version
//! they began with.

use crate::{
    check::Finding,
    config::{Config, PluginSettings},
    engine::{Catalogue, Engine},
    explain::chain,
    jobs::{Admission, Call, Executor, Finished, Progress, Refused, Work},
    trusted,
};
use futures_util::StreamExt as _;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::{mpsc, watch};
use windlass_bundle::Bundle;
use windlass_proto::v1;
use windlass_runtime::{
    LoadError, Plugin, ProgressReport, Runtime, RuntimeOptions,
    aot::{CompileError, Compiler},
};
use windlass_types::{Digest, Effect, NodeId, OperationName, PluginName, Refusal, json::nearest};

/// Bundles that are read and compiled at once. A component may be 64 MiB.
const AT_ONCE: usize = 2;

/// Why no plugin can run.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    #[error("cannot start the plugin runtime")]
    Runtime(#[from] windlass_runtime::RuntimeError),
}

/// See the module.
pub struct Plugins {
    runtime: Arc<Runtime>,
    loader: Loader,
    loaded: RwLock<Arc<Loaded>>,
    changed: watch::Sender<u64>,
}

/// What it takes to load a bundle.
struct Loader {
    dir: Option<PathBuf>,
    settings: BTreeMap<PluginName, PluginSettings>,
    compiler: Compiler,
}

type Loaded = BTreeMap<PluginName, Item>;

/// One bundle.
struct Item {
    version: String,
    digest: Digest,
    source: Option<v1::PluginSource>,
    concurrency: usize,
    plugin: Result<Arc<Plugin>, String>,
}

/// A folder that is no plugin, and why.
struct Broken {
    folder: String,
    problem: String,
}

impl Plugins {
    /// Start the runtime and load all plugins.
    ///
    /// # Errors
    /// If the runtime can't start. A plugin that can't be loaded is no error.
    pub async fn start(config: &Config) -> Result<Arc<Self>, PluginsError> {
        let runtime = runtime(config)?;
        let plugins = Arc::new(Plugins {
            loader: loader(config),
            runtime,
            loaded: RwLock::default(),
            changed: watch::channel(0).0,
        });
        plugins.reload().await;
        Ok(plugins)
    }

    /// What is wrong with the plugins, for `windlass-host check`.
    pub async fn check(config: &Config) -> Vec<Finding> {
        let what = "plugins";
        let Some(dir) = &config.plugins_dir else {
            return vec![Finding::good(what, "no `plugins_dir`: this node offers no operations")];
        };
        let runtime = match runtime(config) {
            Ok(runtime) => runtime,
            Err(error) => return vec![Finding::bad(what, chain(&error), "")],
        };
        let mut findings = Vec::new();
        if let Err(error) = std::fs::read_dir(dir) {
            let problem = format!("`{}`: {error}", dir.display());
            return vec![Finding::bad("plugins_dir", problem, "make it, or correct `plugins_dir`")];
        }
        if let Err(error) = trusted::check(dir) {
            return vec![Finding::bad(
                "plugins_dir",
                chain(&error),
                "whoever can write there decides what runs",
            )];
        }
        let (loaded, broken) = loader(config).load_all(&runtime).await;
        for (name, item) in &loaded {
            let what = format!("plugin {name}");
            findings.push(match &item.plugin {
                Ok(plugin) => Finding::good(
                    what,
                    format!("{}, {} operations, {}", item.version, plugin.operations().len(), item.digest),
                ),
                Err(problem) => Finding::bad(what, problem.clone(), ""),
            });
        }
        for Broken { folder, problem } in broken {
            findings.push(Finding::bad(format!("plugin folder {folder}"), problem, ""));
        }
        for name in config.plugins.keys().filter(|name| !loaded.contains_key(name)) {
            let hint = nearest(name.as_str(), loaded.keys().map(PluginName::as_str)).unwrap_or_default();
            findings.push(Finding::bad(
                format!("configuration plugins.{name}"),
                format!("there is no plugin `{name}` in `{}`", dir.display()),
                hint,
            ));
        }
        findings
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn runtime(config: &Config) -> Result<Arc<Runtime>, windlass_runtime::RuntimeError> {
    Runtime::new(RuntimeOptions {
        state_dir: config.state_dir.join("plugin-state"),
        // Until there is a certificate there is no id.
        node_id: String::new(),
        node_name: config.name.to_string(),
        guest_threads: std::thread::available_parallelism().map_or(1, usize::from).min(config.workers),
    })
}

fn loader(config: &Config) -> Loader {
    Loader {
        dir: config.plugins_dir.clone(),
        settings: config.plugins.clone(),
        compiler: Compiler::new(config.compile_helper.clone(), config.compiled_dir.clone()),
    }
}

impl Loader {
    /// Load every folder of the directory, in the order of their names.
    async fn load_all(&self, runtime: &Arc<Runtime>) -> (Loaded, Vec<Broken>) {
        let mut loaded = Loaded::new();
        let mut broken = Vec::new();
        let folders = match self.folders() {
            Ok(folders) => folders,
            Err(problem) => {
                tracing::error!("{problem}");
                return (loaded, broken);
            }
        };
        let mut bundles = futures_util::stream::iter(folders)
            .map(|folder| async move {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let found = match read(folder).await {
                    Ok(bundle) => {
                        let bundle = Arc::new(bundle);
                        Ok((bundle.manifest.name.clone(), self.load(runtime, &bundle).await))
                    }
                    Err((problem, digest)) => match name.parse::<PluginName>() {
                        // The folder stands for the plugin that is missing.
                        Ok(plugin) => Ok((plugin, Item::unusable(problem, digest))),
                        Err(_) => Err(problem),
                    },
                };
                (name, found)
            })
            .buffered(AT_ONCE);
        while let Some((name, found)) = bundles.next().await {
            let (plugin, item) = match found {
                Ok(found) => found,
                Err(problem) => {
                    tracing::error!(folder = name, "{problem}");
                    broken.push(Broken { folder: name, problem });
                    continue;
                }
            };
            if loaded.contains_key(&plugin) {
                let problem = format!("plugin `{plugin}` is there already, in another folder: ignored");
                tracing::error!(folder = name, "{problem}");
                broken.push(Broken { folder: name, problem });
                continue;
            }
            match &item.plugin {
                Ok(loaded) => tracing::info!(
                    %plugin, version = item.version, operations = loaded.operations().len(), "loaded"),
                Err(problem) => tracing::error!(%plugin, "cannot be used: {problem}"),
            }
            loaded.insert(plugin, item);
        }
        (loaded, broken)
    }

    fn folders(&self) -> Result<Vec<PathBuf>, String> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        trusted::check(dir).map_err(|error| format!("no plugin is loaded: {}", chain(&error)))?;
        let entries = std::fs::read_dir(dir)
            .map_err(|error| format!("cannot read the plugins in `{}`: {error}", dir.display()))?;
        let mut folders: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        Ok(folders)
    }

    async fn load(&self, runtime: &Arc<Runtime>, bundle: &Arc<Bundle>) -> Item {
        let settings = self.settings.get(&bundle.manifest.name).cloned().unwrap_or_default();
        for warning in settings.policy.without_effect(&bundle.manifest) {
            tracing::warn!("plugins.{}.policy: {warning}", bundle.manifest.name);
        }
        let mut plugin = self.try_load(runtime, bundle, &settings).await;
        if let Err(Unloaded::Load(LoadError::Incompatible(why))) = &plugin {
            // Compiled by a helper of another version, most likely: once more.
            tracing::info!(plugin = %bundle.manifest.name, why, "compiling again");
            let stale = self.compiler.path(Digest::of(&bundle.component));
            // If it can't be removed, the next attempt says why.
            let _ = std::fs::remove_file(stale);
            plugin = self.try_load(runtime, bundle, &settings).await;
        }
        let plugin = plugin.map_err(|error| chain(&error));
        Item {
            version: bundle.manifest.version.to_string(),
            digest: bundle.digest,
            source: Some(v1::PluginSource {
                digest: bundle.digest.to_string(),
                wit: bundle.wit.clone().into(),
                manifest: bundle.manifest_text.clone().into(),
                image: bundle.image().manifest().to_vec().into(),
            }),
            concurrency: usize::try_from(bundle.manifest.limits.concurrency).unwrap_or(usize::MAX).max(1),
            plugin,
        }
    }
}

impl Loader {
    async fn try_load(
        &self,
        runtime: &Arc<Runtime>,
        bundle: &Arc<Bundle>,
        settings: &PluginSettings,
    ) -> Result<Arc<Plugin>, Unloaded> {
        let compiled = self.compiler.compiled(&bundle.component).await?;
        let (runtime, bundle) = (Arc::clone(runtime), Arc::clone(bundle));
        let PluginSettings { policy, configuration } = settings.clone();
        let load = move || runtime.load(&bundle, &compiled, &policy, None, configuration.into());
        Ok(tokio::task::spawn_blocking(load).await??)
    }
}

/// Why a bundle is not loaded.
#[derive(Debug, thiserror::Error)]
enum Unloaded {
    #[error("cannot compile it")]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the host failed while it loaded it")]
    Failed(#[from] tokio::task::JoinError),
}

/// Read a bundle; with an error, a digest of what could be read of it.
async fn read(folder: PathBuf) -> Result<Bundle, (String, Digest)> {
    let read = move || {
        trusted::check_folder(&folder).map_err(|error| (chain(&error), stand_in(&folder)))?;
        Bundle::read_dir(&folder).map_err(|error| (chain(&error), stand_in(&folder)))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) => Err((error.to_string(), Digest::of(b""))),
    }
}

/// A bundle that can't be read has no digest; its manifest's tells at least when it changes.
fn stand_in(folder: &Path) -> Digest {
    Digest::of(&std::fs::read(folder.join("plugin.toml")).unwrap_or_default())
}

impl Item {
    fn unusable(problem: String, digest: Digest) -> Self {
        Item { version: String::new(), digest, source: None, concurrency: 1, plugin: Err(problem) }
    }
}

impl Executor for Plugins {
    fn admit(&self, operation: &OperationName, type_digest: Option<Digest>) -> Result<Admission, Refused> {
        let loaded = self.loaded();
        let name = operation.plugin();
        let unknown = |message: String| Refused::new(Refusal::UnknownOperation, message);
        let Some(item) = loaded.get(&name) else {
            let hint = nearest(name.as_str(), loaded.keys().map(PluginName::as_str));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Err(unknown(format!("this node has no plugin `{name}`{hint}")));
        };
        let plugin = item.plugin.as_ref().map_err(|problem| {
            Refused::new(Refusal::PluginUnusable, format!("plugin `{name}` can't be used: {problem}"))
        })?;
        let Some(found) = plugin.operations().get(operation.local()) else {
            let hint = nearest(operation.local(), plugin.operations().keys().map(String::as_str));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Err(unknown(format!(
                "plugin `{name}` {} has no operation `{}`{hint}",
                item.version,
                operation.local()
            )));
        };
        if let Some(wanted) = type_digest
            && wanted != found.type_digest
        {
            return Err(Refused::new(
                Refusal::TypeChanged,
                format!(
                    "`{operation}` has another type in `{name}` {} on this node than the job was made for",
                    item.version
                ),
            ));
        }
        Ok(Admission {
            effect: found.policy.effect,
            timeout: found.policy.timeout,
            concurrency: item.concurrency,
            work: Box::new(Run { runtime: Arc::clone(&self.runtime), plugin: Arc::clone(plugin) }),
        })
    }
}

/// One run on the runtime.
struct Run {
    runtime: Arc<Runtime>,
    plugin: Arc<Plugin>,
}

impl Work for Run {
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>> {
        Box::pin(async move {
            let (reports, mut received) = mpsc::channel::<ProgressReport>(16);
            let progress = call.progress;
            let running = self.runtime.call(
                &self.plugin,
                windlass_runtime::Call {
                    job_id: call.job_id.to_string(),
                    operation: call.operation,
                    args: call.args,
                    type_digest: call.type_digest,
                    time_limit: call.time_limit,
                    dry_run: call.dry_run,
                    cancel: call.cancel,
                    progress: Some(reports),
                    tape: windlass_runtime::Tape::Off,
                },
            );
            let forward = async {
                while let Some(ProgressReport { message, percent }) = received.recv().await {
                    // An error means that nobody listens any more.
                    let _ = progress.send(Progress { message, percent }).await;
                }
                std::future::pending().await
            };
            let report = tokio::select! {
                report = running => report,
                never = forward => never,
            };
            Finished {
                outcome: report.outcome,
                trace: report.trace,
                stats: report.stats,
                plugin_digest: Some(self.plugin.digest()),
            }
        })
    }
}

impl Catalogue for Plugins {
    fn inventory(&self) -> v1::Inventory {
        let plugins = self
            .loaded()
            .iter()
            .map(|(name, item)| v1::Plugin {
                name: name.to_string(),
                version: item.version.clone(),
                digest: item.digest.to_string(),
                operations: match &item.plugin {
                    Ok(plugin) => plugin
                        .operations()
                        .iter()
                        .map(|(local, operation)| v1::PluginOperation {
                            name: local.clone(),
                            type_digest: operation.type_digest.to_string(),
                            effect: Effect::as_str(operation.policy.effect).into(),
                            timeout_ms: u64::try_from(operation.policy.timeout.as_millis())
                                .unwrap_or(u64::MAX),
                            idempotent: operation.policy.idempotent,
                        })
                        .collect(),
                    Err(_) => Vec::new(),
                },
                problem: item.plugin.as_ref().err().cloned().unwrap_or_default(),
                previous_digest: String::new(),
                local: true,
            })
            .collect();
        v1::Inventory { plugins, ..v1::Inventory::default() }
    }

    fn source(&self, digest: Digest) -> Option<v1::PluginSource> {
        self.loaded().values().find(|item| item.digest == digest)?.source.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Engine for Plugins {
    fn node_is(&self, id: NodeId, name: &str) {
        self.runtime.set_node(id.to_string(), name.to_owned());
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let (loaded, _) = self.loader.load_all(&self.runtime).await;
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            self.changed.send_modify(|version| *version += 1);
        })
    }
}
