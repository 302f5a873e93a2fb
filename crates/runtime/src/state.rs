//! Small durable values of plugins: one file for each plugin, so that none sees another's.

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use windlass_types::PluginName;

const VALUES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("values");

/// Keys of one plugin (`wit/host/state.wit`).
pub(crate) const MAX_KEYS: u64 = 1_024;
/// Longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 256;
/// Longest value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 64 << 10;
/// What is kept in memory of each plugin's file.
const CACHE_BYTES: usize = 256 << 10;

/// Why a value was not read or written.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateError {
    #[error("{0}")]
    Limit(String),
    #[error("{0}")]
    Other(String),
}

fn other(error: impl std::error::Error) -> StateError {
    StateError::Other(format!("the plugin's store on this node: {error}"))
}

/// The stores of all plugins.
#[derive(Debug)]
pub(crate) struct Stores {
    dir: PathBuf,
    open: Mutex<HashMap<PluginName, Arc<Store>>>,
}

impl Stores {
    /// Stores in a directory, made when the first of them is used.
    pub(crate) fn new(dir: PathBuf) -> Stores {
        Stores { dir, open: Mutex::default() }
    }

    /// The store of a plugin: the same for all its versions.
    pub(crate) fn of(&self, plugin: &PluginName) -> Arc<Store> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let store = open.entry(plugin.clone()).or_insert_with(|| {
            Arc::new(Store { path: self.dir.join(format!("{plugin}.redb")), database: Mutex::default() })
        });
        store.clone()
    }
}

/// The store of one plugin. All functions block.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    database: Mutex<Option<Arc<Database>>>,
}

impl Store {
    fn database(&self) -> Result<Arc<Database>, StateError> {
        let mut database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*database {
            return Ok(database.clone());
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        private_dir(dir).map_err(|error| StateError::Other(format!("making {}: {error}", dir.display())))?;
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(&self.path).map_err(other)?;
        Ok(database.insert(Arc::new(opened)).clone())
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        check_key(key)?;
        let read = self.database()?.begin_read().map_err(other)?;
        match read.open_table(VALUES) {
            Ok(table) => Ok(table.get(key).map_err(other)?.map(|value| value.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), StateError> {
        check_set(key, value)?;
        let write = self.database()?.begin_write().map_err(other)?;
        {
            let mut table = write.open_table(VALUES).map_err(other)?;
            let new = table.get(key).map_err(other)?.is_none();
            if new && table.len().map_err(other)? >= MAX_KEYS {
                return Err(StateError::Limit(format!("a plugin has {MAX_KEYS} keys at most")));
            }
            table.insert(key, value).map_err(other)?;
        }
        write.commit().map_err(other)
    }

    pub(crate) fn remove(&self, key: &str) -> Result<(), StateError> {
        check_key(key)?;
        let write = self.database()?.begin_write().map_err(other)?;
        write.open_table(VALUES).map_err(other)?.remove(key).map_err(other)?;
        write.commit().map_err(other)
    }

    pub(crate) fn keys(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let read = self.database()?.begin_read().map_err(other)?;
        let table = match read.open_table(VALUES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(other(error)),
        };
        let mut keys = Vec::new();
        for entry in table.range(prefix..).map_err(other)? {
            let (key, _) = entry.map_err(other)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_owned());
        }
        Ok(keys)
    }
}

fn check_key(key: &str) -> Result<(), StateError> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(()),
        len => Err(StateError::Limit(format!("a key has 1 to {MAX_KEY_BYTES} bytes, not {len}"))),
    }
}

/// Whether a value could be set at all; a dry run asks this too.
pub(crate) fn check_set(key: &str, value: &[u8]) -> Result<(), StateError> {
    check_key(key)?;
    match value.len() {
        0..=MAX_VALUE_BYTES => Ok(()),
        len => Err(StateError::Limit(format!("a value has {MAX_VALUE_BYTES} bytes at most, not {len}"))),
    }
}

/// Make a directory, and its parents, for its owner alone.
pub(crate) fn private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_plugin_and_within_limits() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores::new(dir.path().join("state"));
        let [a, b] = ["a", "b"].map(|name| stores.of(&name.parse().unwrap()));
        assert_eq!(a.get("x").unwrap(), None);
        assert!(a.keys("").unwrap().is_empty());
        a.set("x", b"1").unwrap();
        a.set("xy", b"2").unwrap();
        a.set("z", b"3").unwrap();
        assert_eq!(a.get("x").unwrap().unwrap(), b"1");
        assert_eq!(b.get("x").unwrap(), None);
        assert_eq!(a.keys("x").unwrap(), ["x", "xy"]);
        a.remove("x").unwrap();
        a.remove("x").unwrap();
        assert_eq!(a.keys("").unwrap(), ["xy", "z"]);
        assert!(matches!(a.set("", b""), Err(StateError::Limit(_))));
        assert!(matches!(a.set(&"k".repeat(257), b""), Err(StateError::Limit(_))));
        assert!(matches!(a.set("k", &vec![0; MAX_VALUE_BYTES + 1]), Err(StateError::Limit(_))));
        a.set("k", &vec![0; MAX_VALUE_BYTES]).unwrap();
    }

    #[test]
    fn values_outlast_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let plugin: PluginName = "a".parse().unwrap();
        Stores::new(dir.path().into()).of(&plugin).set("x", b"1").unwrap();
        assert_eq!(Stores::new(dir.path().into()).of(&plugin).get("x").unwrap().unwrap(), b"1");
    }

    #[test]
    fn keys_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Stores::new(dir.path().into()).of(&"a".parse().unwrap());
        // One transaction for all: a thousand commits would take their time.
        let write = store.database().unwrap().begin_write().unwrap();
        {
            let mut table = write.open_table(VALUES).unwrap();
            for number in 0..MAX_KEYS {
                table.insert(format!("{number}").as_str(), [].as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
        assert!(matches!(store.set("one more", b""), Err(StateError::Limit(_))));
        store.set("7", b"changed").unwrap();
    }
}
