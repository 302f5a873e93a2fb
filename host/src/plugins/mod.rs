//! The plugins of this node, on the runtime: those of its own ([`local`]) and those that a master wants
//! ([`crate::bundles`]). What is compiled already comes from the cache, what is not goes through
//! `windlass-compile`. Operations that run keep the version they began with.

pub mod load;
pub mod local;
mod run;
pub mod table;

use crate::{
    bundles::{self, Bundles, BundlesError, Interrupted, Source},
    check::Finding,
    config::Config,
    engine::{Catalogue, Engine},
    explain::chain,
    jobs::{Admission, Executor, Refused},
    trusted,
    watches::Watch,
};
use load::Loader;
use local::Broken;
use run::Run;
use std::{path::PathBuf, pin::Pin, sync::Arc};
use table::Table;
use tokio::sync::watch;
use windlass_proto::v1;
use windlass_types::{Digest, NodeId, OperationName, PluginName, Refusal, json::nearest};

/// Why no plugin can run.
#[derive(Debug, thiserror::Error)]
pub enum PluginsError {
    #[error("cannot start the plugin runtime")]
    Runtime(#[from] windlass_runtime::RuntimeError),
}

/// See the module.
pub struct Plugins {
    dir: Option<PathBuf>,
    loader: Arc<Loader>,
    table: Arc<Table>,
    bundles: Bundles,
}

impl Plugins {
    /// Start the runtime and load the node's own plugins.
    ///
    /// # Errors
    /// If the runtime can't start. A plugin that can't be loaded is no error.
    pub async fn start(config: &Config) -> Result<Arc<Self>, PluginsError> {
        let loader = Arc::new(Loader::new(config)?);
        let table = Arc::new(Table::default());
        let bundles = Bundles::new(config, Arc::clone(&loader), Arc::clone(&table));
        let plugins = Plugins { dir: config.plugins_dir.clone(), loader, table, bundles };
        plugins.load_local().await;
        Ok(Arc::new(plugins))
    }

    async fn load_local(&self) {
        let _using = self.loader.using().await;
        let (loaded, _) = local::load_all(&self.loader, self.dir.as_deref()).await;
        self.table.set_local(loaded);
    }

    /// What is wrong with the plugins, for `windlass-host check`.
    pub async fn check(config: &Config) -> Vec<Finding> {
        let mut findings = bundles::check::check(config);
        let what = "plugins";
        let Some(dir) = &config.plugins_dir else {
            findings.push(Finding::good(
                what,
                "no `plugins_dir`: this node has what a master installs, and no plugins of its own",
            ));
            return findings;
        };
        let loader = match Loader::new(config) {
            Ok(loader) => loader,
            Err(error) => {
                findings.push(Finding::bad(what, chain(&error), ""));
                return findings;
            }
        };
        if let Err(error) = std::fs::read_dir(dir) {
            let problem = format!("`{}`: {error}", dir.display());
            findings.push(Finding::bad("plugins_dir", problem, "make it, or correct `plugins_dir`"));
            return findings;
        }
        if let Err(error) = trusted::check(dir) {
            let hint = "whoever can write there decides what runs";
            findings.push(Finding::bad("plugins_dir", chain(&error), hint));
            return findings;
        }
        let (loaded, broken) = local::load_all(&loader, Some(dir)).await;
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
        let installed = bundles::check::names(config);
        for name in config.plugins.keys() {
            if loaded.contains_key(name) || installed.contains(name) {
                continue;
            }
            let known = loaded.keys().chain(&installed).map(PluginName::as_str);
            let hint = nearest(name.as_str(), known).unwrap_or_default();
            findings.push(Finding::bad(
                format!("configuration plugins.{name}"),
                format!("there is no plugin `{name}` in `{}`, and no master installed one", dir.display()),
                hint,
            ));
        }
        findings
    }
}

impl Executor for Plugins {
    fn admit(&self, operation: &OperationName, type_digest: Option<Digest>) -> Result<Admission, Refused> {
        let tables = self.table.now();
        let name = operation.plugin();
        let unknown = |message: String| Refused::new(Refusal::UnknownOperation, message);
        let Some(item) = tables.get(&name) else {
            let all = tables.all();
            let hint = nearest(name.as_str(), all.keys().map(|name| name.as_str()));
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
            concurrency: item.concurrency(),
            plugin_digest: Some(item.digest),
            work: Box::new(Run {
                runtime: Arc::clone(self.loader.runtime()),
                plugin: Arc::clone(plugin),
                item: Arc::clone(item),
                bundles: self.bundles.clone(),
            }),
        })
    }
}

impl Catalogue for Plugins {
    fn inventory(&self) -> v1::Inventory {
        let tables = self.table.now();
        let plugins = tables.all().into_iter().map(|(name, item)| item.message(name)).collect();
        let mut inventory = self.bundles.report();
        inventory.plugins = plugins;
        inventory
    }

    fn source(&self, digest: Digest) -> Option<v1::PluginSource> {
        let tables = self.table.now();
        match tables.local.values().find(|item| item.digest == digest) {
            Some(item) => item.source_from_folder(),
            None => self.bundles.source(digest),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes()
    }

    fn watches(&self) -> Vec<Watch> {
        let tables = self.table.now();
        tables.all().into_iter().flat_map(|(name, item)| item.watches(name)).collect()
    }
}

impl Engine for Plugins {
    fn node_is(&self, id: NodeId, name: &str) {
        self.loader.runtime().set_node(id.to_string(), name.to_owned());
    }

    fn begin(
        &self,
        interrupted: Vec<Interrupted>,
    ) -> Pin<Box<dyn Future<Output = Result<(), BundlesError>> + Send + '_>> {
        Box::pin(self.bundles.begin(interrupted))
    }

    fn desired(&self, desired: v1::Desired) {
        self.bundles.desired(desired);
    }

    fn blobs(&self, source: Option<Arc<dyn Source>>) {
        self.bundles.blobs(source);
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.load_local().await;
            self.bundles.reload().await;
        })
    }
}
