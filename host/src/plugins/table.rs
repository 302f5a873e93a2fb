//! Which plugins there are now. Readers take the whole table as it is; writers put another in its place.

use crate::{
    bundles::Trial,
    watches::{Key, Watch},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use tokio::sync::watch;
use windlass_bundle::{Image, Part};
use windlass_proto::v1;
use windlass_runtime::Plugin;
use windlass_types::{Digest, Effect, PluginName};

/// Plugins by name.
pub type Items = BTreeMap<PluginName, Arc<Item>>;

/// See the module.
#[derive(Debug)]
pub struct Table {
    tables: RwLock<Arc<Tables>>,
    changed: watch::Sender<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Table { tables: RwLock::default(), changed: watch::channel(0).0 }
    }
}

/// Plugins of the node's own, and those that a master wanted. The former hide the latter.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    pub local: Items,
    pub managed: Items,
}

/// One plugin.
#[derive(Debug)]
pub struct Item {
    pub version: String,
    pub digest: Digest,
    /// Where its parts are.
    pub origin: Origin,
    /// Digest of its component, if it is known.
    pub component: Option<Digest>,
    /// The version before, kept for a rollback.
    pub previous: Option<Digest>,
    /// Counts its operations while it is new.
    pub trial: Option<Arc<Trial>>,
    /// The plugin, or why it can't be used.
    pub plugin: Result<Arc<Plugin>, String>,
}

/// Where the parts of a bundle are.
#[derive(Debug)]
pub enum Origin {
    /// In a folder of the node's own; with the OCI image of what was found there, if it could be read.
    Folder { folder: PathBuf, image: Option<Box<Image>> },
    /// Among the blobs.
    Blobs,
}

impl Tables {
    /// The plugin of that name.
    pub fn get(&self, name: &PluginName) -> Option<&Arc<Item>> {
        self.local.get(name).or_else(|| self.managed.get(name))
    }

    /// All of them, each name once.
    pub fn all(&self) -> BTreeMap<&PluginName, &Arc<Item>> {
        self.managed.iter().chain(&self.local).collect()
    }
}

impl Table {
    /// As it is now.
    pub fn now(&self) -> Arc<Tables> {
        Arc::clone(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Tables)) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut tables));
    }

    /// Put these in the place of all local plugins.
    pub fn set_local(&self, items: Items) {
        self.change(|tables| tables.local = items);
        self.bump();
    }

    /// Put a managed plugin in the place of the one of its name, or take it away. What runs goes on
    /// with the one it began with. Nothing is told yet: what else there is to say belongs to it.
    pub fn set_managed(&self, name: &PluginName, item: Option<Item>) {
        self.change(|tables| match item {
            Some(item) => drop(tables.managed.insert(name.clone(), Arc::new(item))),
            None => drop(tables.managed.remove(name)),
        });
    }

    /// There is something new to tell.
    pub fn bump(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// Changes whenever there is something new to tell.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Item {
    /// One that can't be used.
    pub fn unusable(digest: Digest, version: String, origin: Origin, problem: String) -> Item {
        Item { version, digest, origin, component: None, previous: None, trial: None, plugin: Err(problem) }
    }

    /// How often it may run at once.
    pub fn concurrency(&self) -> usize {
        let limit = self.plugin.as_ref().map_or(1, |plugin| plugin.manifest().limits.concurrency);
        usize::try_from(limit).unwrap_or(usize::MAX).max(1)
    }

    /// What it wants repeated; nothing of one that can't be used.
    pub fn watches(&self, name: &PluginName) -> Vec<Watch> {
        let Ok(plugin) = &self.plugin else { return Vec::new() };
        let watches = plugin.manifest().watches.iter();
        let watch = |(watch, declared): (&String, &windlass_bundle::Watch)| {
            Some(Watch {
                key: Key { plugin: name.clone(), name: watch.clone() },
                operation: plugin.operations().get(&declared.operation)?.name.clone(),
                args: declared.args.clone(),
                every: declared.every,
                jitter: declared.jitter,
                version: self.version.clone(),
                digest: self.digest,
            })
        };
        watches.filter_map(watch).collect()
    }

    /// As a master is told of it.
    pub fn message(&self, name: &PluginName) -> v1::Plugin {
        let operations = self.plugin.as_ref().map(|plugin| plugin.operations());
        v1::Plugin {
            name: name.to_string(),
            version: self.version.clone(),
            digest: self.digest.to_string(),
            operations: operations
                .into_iter()
                .flatten()
                .map(|(local, operation)| v1::PluginOperation {
                    name: local.clone(),
                    type_digest: operation.type_digest.to_string(),
                    effect: Effect::as_str(operation.policy.effect).into(),
                    timeout_ms: u64::try_from(operation.policy.timeout.as_millis()).unwrap_or(u64::MAX),
                    idempotent: operation.policy.idempotent,
                })
                .collect(),
            problem: self.plugin.as_ref().err().cloned().unwrap_or_default(),
            previous_digest: self.previous.map(|digest| digest.to_string()).unwrap_or_default(),
            local: matches!(self.origin, Origin::Folder { .. }),
        }
    }

    /// Manifest and WIT of a plugin of the node's own, read again. Blocks.
    pub fn source_from_folder(&self) -> Option<v1::PluginSource> {
        let Origin::Folder { folder, image: Some(image) } = &self.origin else { return None };
        let part = |part: Part| {
            let bytes = std::fs::read(folder.join(part.file_name())).ok()?;
            let same = Digest::of(&bytes) == image.layer(part).digest;
            if !same {
                tracing::warn!(
                    "`{}` has changed since it was loaded: load the plugins again (SIGHUP)",
                    folder.display()
                );
            }
            same.then_some(bytes)
        };
        Some(v1::PluginSource {
            digest: self.digest.to_string(),
            wit: part(Part::Wit)?.into(),
            manifest: part(Part::Manifest)?.into(),
            image: image.manifest().to_vec().into(),
        })
    }
}
