//! A copy of all that a master is: database, authority, blobs, configuration.
//!
//! The master may run meanwhile. The copy of the database is one moment of it (`VACUUM INTO` reads in
//! one transaction and holds up no writer). Blobs are copied after it, and those that the copied
//! database names are checked to be there: a bundle that was deleted meanwhile makes the backup
//! fail rather than lack something.
//!
//! A backup is a data directory: a master can be started on it. A database on a server is not in it, and
//! is saved with the tools of the server.

use crate::{
    ca::{Authority, CaError},
    config::{Config, Durability},
    store::{
        Store, StoreError,
        audit::{self, VerifyError},
        bundles,
    },
};
use serde::Serialize;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is in the way.
    #[error("`{}` exists already: a backup is never written over anything", .0.display())]
    Exists(PathBuf),
    /// A file or directory.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The database could not be copied.
    #[error("cannot copy the database")]
    Database(#[source] sqlx::Error),
    /// The copy is no good.
    #[error("the copy of the database is damaged: {0}")]
    Damaged(String),
    /// A part of a bundle is missing.
    #[error("`{}` is missing, and the database names it", .0.display())]
    Blob(PathBuf),
    #[error(transparent)]
    Audit(#[from] VerifyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] CaError),
}

/// What was saved.
#[derive(Debug, Serialize)]
pub struct Saved {
    pub dir: PathBuf,
    /// None where a server has it: it is not in the backup.
    pub database_bytes: Option<u64>,
    /// None where an object store has them: they are not in the backup.
    pub blobs: Option<u64>,
    /// Entries of the audit log; its chain was walked.
    pub audit_entries: i64,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { action, path, source }
}

/// Save the master of `config`, whose file is `config_file`, into `dir`, which must not exist.
///
/// # Errors
/// With the first thing that can't be saved; then there is no `dir`.
pub async fn save(config: &Config, config_file: &Path, dir: &Path) -> Result<Saved, BackupError> {
    if dir.exists() {
        return Err(BackupError::Exists(dir.to_owned()));
    }
    // Built beside and moved into place, so that half a backup is never taken for one.
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let building = dir.with_file_name(name);
    if building.exists() {
        fs::remove_dir_all(&building).map_err(failed("remove", &building))?;
    }
    fs::DirBuilder::new().mode(0o700).create(&building).map_err(failed("create", &building))?;
    let saved = fill(config, config_file, &building, dir).await;
    if saved.is_err() {
        // The first error says what is wrong.
        let _ = fs::remove_dir_all(&building);
    }
    saved
}

async fn fill(config: &Config, config_file: &Path, to: &Path, dir: &Path) -> Result<Saved, BackupError> {
    let there = Config::new(to);
    let database = there.database();
    let on_server = config.store.url.is_some();
    if !on_server {
        copy_database(&config.database(), &database).await?;
    }
    copy_dir(&config.authority(), &there.authority())?;
    Authority::load(&there.authority())?;
    copy_file(config_file, &to.join("master.toml"))?;
    let blobs = match config.blobs.url {
        Some(_) => None,
        None => Some(copy_dir(&config.data_dir.join("blobs"), &to.join("blobs"))?),
    };
    // The copy is opened as a master would open it, which proves that one can. What is on a server is only
    // looked at: it may be in use by masters of another version.
    let store = match on_server {
        true => Store::beside(config).await?,
        false => Store::open(&database, Durability::Process).await?,
    };
    let head = audit::verify(&store).await?;
    if blobs.is_some() {
        for digest in bundles::load(&store).await?.bundles.values().flat_map(|bundle| bundle.blobs()) {
            let hex = digest.hex();
            let path = to.join("blobs/sha256").join(&hex[..2]).join(&hex);
            if !path.is_file() {
                return Err(BackupError::Blob(path));
            }
        }
    }
    drop(store);
    let database_bytes = match on_server {
        true => None,
        false => Some(fs::metadata(&database).map_err(failed("open", &database))?.len()),
    };
    fs::rename(to, dir).map_err(failed("create", dir))?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("write", parent))?;
    }
    Ok(Saved { dir: dir.to_owned(), database_bytes, blobs, audit_entries: head.seq })
}

async fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let options = SqliteConnectOptions::new().filename(from).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(BackupError::Database)?;
    // SQLite writes what it creates with the usual mode; here nobody else may read it.
    create(to)?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.to_string_lossy().into_owned())
        .execute(&mut connection)
        .await
        .map_err(BackupError::Database)?;
    connection.close().await.map_err(BackupError::Database)?;
    fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed("write", to))?;
    let options = SqliteConnectOptions::new().filename(to).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(BackupError::Database)?;
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(BackupError::Database)?;
    connection.close().await.map_err(BackupError::Database)?;
    if verdict == "ok" { Ok(()) } else { Err(BackupError::Damaged(verdict)) }
}

fn create(path: &Path) -> Result<fs::File, BackupError> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed("create", path))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = fs::File::open(from).map_err(failed("open", from))?;
    let mut file = create(to)?;
    io::copy(&mut source, &mut file).and_then(|_| file.sync_all()).map_err(failed("write", to))
}

/// Copy a folder with all in it. Gives the number of files. One that is not there is empty.
fn copy_dir(from: &Path, to: &Path) -> Result<u64, BackupError> {
    fs::DirBuilder::new().mode(0o700).create(to).map_err(failed("create", to))?;
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed("open", from)(error)),
    };
    let mut files = 0;
    for entry in entries {
        let entry = entry.map_err(failed("read", from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed("read", &path))?;
        if kind.is_dir() {
            files += copy_dir(&path, &to)?;
            continue;
        }
        match copy_file(&path, &to) {
            Ok(()) => files += 1,
            // An upload that ended meanwhile.
            Err(BackupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}
