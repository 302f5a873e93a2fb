//! Stored secrets: passwords and keys that operations are given by name.
//!
//! At rest they are encrypted with a key that is not in the database ([`key`]). Jobs, the audit log and
//! the API hold names. A value is decrypted in two moments only: when it is set, and when a request that
//! names it is sent, sealed to the one node it goes to (`jobs::live`).
//!
//! # What changes between a job and its requests
//! A job refers to the value a secret had when the job was made, by an id that each setting of a value
//! makes anew. Old values are not kept: a removed secret is to be gone. So a node whose request goes out
//! after the secret was changed or removed is refused with words (`secret`), and the job can be made
//! again. A request that has gone out is not called back.
//!
//! # Several masters
//! The leading one has all encrypted values in memory, so that requests can be sent without a wait. Only
//! it writes them, so what it has is what the database has.

mod key;

pub use key::Key;
use key::Place;

use crate::{
    config::Config,
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        secrets as rows,
    },
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};
use windlass_identity::IdentityError;
use windlass_types::{
    SecretName,
    secret::{MAX_BYTES, MAX_IN_CALL, MIN_BYTES},
};
use zeroize::Zeroizing;

/// The values that a job refers to: ids by name.
pub type Pins = BTreeMap<SecretName, String>;

/// Why a secret can't be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("there is no secret `{0}`")]
    Unknown(SecretName),
    #[error("secret `{0}` was changed or removed after the job was made: make the job again")]
    Changed(SecretName),
    #[error("a secret has from {MIN_BYTES} to {MAX_BYTES} bytes, and this one has {bytes}")]
    Size { bytes: usize },
    /// Its own redaction would show it.
    #[error("this value is a part of the words that stand in its place in traces and logs")]
    InLabel,
    #[error("more than {MAX_IN_CALL} different secrets in one operation")]
    TooMany,
    /// The key of this master is another than the one the values were encrypted with.
    #[error("`{}` is missing, or is not the key that the stored secrets are encrypted with", path.display())]
    OtherKey { path: PathBuf },
    #[error(transparent)]
    Key(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A secret as it is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub name: SecretName,
    /// Of this value.
    pub id: String,
    pub version: u32,
    pub key_id: String,
    pub sealed: Vec<u8>,
    pub created_by: String,
    pub created_ms: i64,
    pub changed_by: String,
    pub changed_ms: i64,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    store: Store,
    path: PathBuf,
    kept: RwLock<Kept>,
    /// One change at a time: what is written follows from what is there.
    changing: tokio::sync::Mutex<()>,
}

struct Kept {
    key: Option<Arc<Key>>,
    by_name: BTreeMap<SecretName, Arc<Stored>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Read what is stored. A key that is missing or another one keeps nobody from starting: what needs
    /// it is refused.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(config: &Config, store: Store) -> Result<Vault, StoreError> {
        Vault::open_at(config.secrets_key(), store).await
    }

    /// The same, with the key in this file.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn open_at(path: PathBuf, store: Store) -> Result<Vault, StoreError> {
        let key = Key::load(&path).unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "the key of the secrets can't be used");
            None
        });
        // A transaction: as of one moment, in which this master leads.
        let stored = store.write::<_, StoreError, _>(|c| Box::pin(rows::all(c))).await?;
        let others = stored.iter().filter(|row| key.as_ref().is_none_or(|key| key.id() != row.key_id));
        let others = others.count();
        if others > 0 {
            tracing::error!(secrets = others, key = %path.display(), "stored secrets are encrypted with another key");
        }
        let by_name = stored.into_iter().map(|row| (row.name.clone(), Arc::new(row))).collect();
        let kept = RwLock::new(Kept { key: key.map(Arc::new), by_name });
        Ok(Vault(Arc::new(Inner { store, path, kept, changing: tokio::sync::Mutex::default() })))
    }

    fn read<T>(&self, look: impl FnOnce(&Kept) -> T) -> T {
        look(&self.0.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Kept)) {
        change(&mut self.0.kept.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn other_key(&self) -> VaultError {
        VaultError::OtherKey { path: self.0.path.clone() }
    }

    /// All secrets, by name.
    pub fn all(&self) -> Vec<Arc<Stored>> {
        self.read(|kept| kept.by_name.values().cloned().collect())
    }

    /// One secret.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn get(&self, name: &SecretName) -> Result<Arc<Stored>, VaultError> {
        self.read(|kept| kept.by_name.get(name).cloned()).ok_or_else(|| VaultError::Unknown(name.clone()))
    }

    /// The values that these names mean now.
    ///
    /// # Errors
    /// If one of them is not there, or can't be decrypted here.
    pub fn pins(&self, names: &BTreeSet<SecretName>) -> Result<Pins, VaultError> {
        let pin = |name: &SecretName| {
            let stored = self.get(name)?;
            self.decrypted(&stored)?;
            Ok((name.clone(), stored.id.clone()))
        };
        names.iter().map(pin).collect()
    }

    /// The value that a job refers to. Its memory is wiped when it is dropped.
    ///
    /// # Errors
    /// If the secret has another value by now, is gone, or can't be decrypted here.
    pub fn value(&self, name: &SecretName, pin: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let stored = self.get(name).map_err(|_| VaultError::Changed(name.clone()))?;
        if stored.id != pin {
            return Err(VaultError::Changed(name.clone()));
        }
        self.decrypted(&stored)
    }

    fn decrypted(&self, stored: &Stored) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let Stored { name, id, version, .. } = stored;
        let key = self.read(|kept| kept.key.clone());
        key.and_then(|key| key.open(Place { name, id, version: *version }, &stored.sealed))
            .ok_or_else(|| self.other_key())
    }

    /// The key to encrypt with. It is made at the first need, unless there are secrets already, which
    /// have another.
    fn key(&self) -> Result<Arc<Key>, VaultError> {
        let (key, other) = self.read(|kept| {
            let key = kept.key.clone();
            let id = key.as_ref().map(|key| key.id().to_owned());
            (key, kept.by_name.values().any(|stored| id.as_deref() != Some(&stored.key_id)))
        });
        match key {
            _ if other => Err(self.other_key()),
            Some(key) => Ok(key),
            None => {
                let key = Arc::new(Key::create(&self.0.path)?);
                self.change(|kept| kept.key = Some(key.clone()));
                Ok(key)
            }
        }
    }

    /// Store a value under a name, in the name of somebody.
    ///
    /// # Errors
    /// If the value is none that can be kept, there is no key for it, or the store fails.
    pub async fn set(&self, name: &SecretName, value: &[u8], actor: &str) -> Result<Arc<Stored>, VaultError> {
        let meant = value.trim_ascii();
        if meant.len() < MIN_BYTES || value.len() > MAX_BYTES {
            return Err(VaultError::Size {
                bytes: if value.len() > MAX_BYTES { value.len() } else { meant.len() },
            });
        }
        let label = format!("[secret {name}]");
        if label.as_bytes().windows(meant.len()).any(|part| part == meant) {
            return Err(VaultError::InLabel);
        }
        let _changing = self.0.changing.lock().await;
        let key = self.key()?;
        let before = self.get(name).ok();
        let now_ms = crate::now_ms();
        let mut row = Stored {
            name: name.clone(),
            id: uuid::Uuid::new_v4().to_string(),
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            key_id: key.id().to_owned(),
            sealed: Vec::new(),
            created_by: before.as_ref().map_or_else(|| actor.to_owned(), |before| before.created_by.clone()),
            created_ms: before.as_ref().map_or(now_ms, |before| before.created_ms),
            changed_by: actor.to_owned(),
            changed_ms: now_ms,
        };
        let place = Place { name, id: &row.id, version: row.version };
        row.sealed = key.seal(place, value).ok_or_else(|| self.other_key())?;
        let row = Arc::new(row);
        let (written, entry) =
            (row.clone(), entry(actor, "secret.set", name, json!({ "version": row.version })));
        self.0
            .store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    rows::set(c, &written).await?;
                    audit::append(c, &entry).await
                })
            })
            .await?;
        self.change(|kept| drop(kept.by_name.insert(row.name.clone(), row.clone())));
        Ok(row)
    }

    /// Forget a secret, in the name of somebody.
    ///
    /// # Errors
    /// If there is none of this name, or the store fails.
    pub async fn remove(&self, name: &SecretName, actor: &str) -> Result<(), VaultError> {
        let _changing = self.0.changing.lock().await;
        let stored = self.get(name)?;
        let entry = entry(actor, "secret.remove", name, json!({ "version": stored.version }));
        self.0
            .store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    rows::remove(c, &stored.name).await?;
                    audit::append(c, &entry).await
                })
            })
            .await?;
        self.change(|kept| drop(kept.by_name.remove(name)));
        Ok(())
    }
}

fn entry(actor: &str, action: &'static str, name: &SecretName, detail: serde_json::Value) -> NewEntry {
    NewEntry::allowed(actor, action, name, detail)
}

#[cfg(test)]
mod tests;
