//! Plugins of the node's own: each folder in `plugins_dir` is a bundle.
//!
//! All of them are loaded at the start and again on SIGHUP. A bundle that can't be used is listed with
//! the reason, and the others go on.

use super::{
    load::{Loader, Loading},
    table::{Item, Items, Origin},
};
use crate::{explain::chain, trusted};
use futures_util::StreamExt as _;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use windlass_bundle::{Bundle, Part};
use windlass_types::{Digest, PluginName};

/// Bundles that are read and compiled at once. A component may be 64 MiB.
const AT_ONCE: usize = 2;

/// A folder that is no plugin, and why.
pub struct Broken {
    pub folder: String,
    pub problem: String,
}

/// Load every folder of the directory, in the order of their names.
pub async fn load_all(loader: &Loader, dir: Option<&Path>) -> (Items, Vec<Broken>) {
    let mut loaded = Items::new();
    let mut broken = Vec::new();
    let folders = match folders(dir) {
        Ok(folders) => folders,
        Err(problem) => {
            tracing::error!("{problem}");
            return (loaded, broken);
        }
    };
    let mut bundles = futures_util::stream::iter(folders)
        .map(|folder| async move {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let found = match read(folder.clone()).await {
                Ok(bundle) => Ok((bundle.manifest.name.clone(), load(loader, bundle, folder).await)),
                Err((problem, digest)) => match name.parse::<PluginName>() {
                    // The folder stands for the plugin that is missing.
                    Ok(plugin) => {
                        let origin = Origin::Folder { folder, image: None };
                        Ok((plugin, Item::unusable(digest, String::new(), origin, problem)))
                    }
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
        loaded.insert(plugin, Arc::new(item));
    }
    (loaded, broken)
}

fn folders(dir: Option<&Path>) -> Result<Vec<PathBuf>, String> {
    let Some(dir) = dir else { return Ok(Vec::new()) };
    trusted::check(dir).map_err(|error| format!("no plugin is loaded: {}", chain(&error)))?;
    let entries = std::fs::read_dir(dir)
        .map_err(|error| format!("cannot read the plugins in `{}`: {error}", dir.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
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

async fn load(loader: &Loader, bundle: Bundle, folder: PathBuf) -> Item {
    let image = bundle.image();
    let component = image.layer(Part::Component).digest;
    let Bundle { manifest, component: bytes, digest, .. } = bundle;
    let version = manifest.version.to_string();
    let loading = Loading { manifest, digest, component, approval: None };
    let plugin = loader.load(loading, move || Ok(bytes)).await.map_err(|error| chain(&error));
    Item {
        version,
        digest,
        origin: Origin::Folder { folder, image: Some(Box::new(image)) },
        component: Some(component),
        previous: None,
        trial: None,
        plugin,
    }
}
