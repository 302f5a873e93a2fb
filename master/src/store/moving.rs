//! Moving what a master keeps in a file to a server.
//!
//! All tables are copied as they are, in one transaction of the server: it has everything or nothing. The
//! file is left as it was but for its lead, which is taken first: a master that still runs on it writes
//! nothing from then on, so nothing can be lost between the copy and the next start.

use super::{
    Connection, Row, Store, StoreError,
    audit::{self, VerifyError},
    lease::{self, Candidate},
    sql::{Bind as _, Insert, Value, query},
};
use crate::{
    ca::{Authority, CaError},
    config::{Config, Secret},
};
use serde::Serialize;
use std::{collections::BTreeMap, path::PathBuf};
use windlass_types::MasterId;

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The server's database is in use.
    #[error("the database on the server is not empty: it has rows in `{0}`")]
    NotEmpty(String),
    /// The file has a table that the server's schema does not know.
    #[error("the file has a table `{0}` that this version does not know")]
    UnknownTable(String),
    /// Somebody took the lead of the file meanwhile.
    #[error("another master was started on the file: stop it first")]
    InUse,
    /// There is nothing to move.
    #[error("the configuration names no database file, or there is no `{}`", .0.display())]
    NoFile(PathBuf),
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("after the move")]
    Audit(#[from] VerifyError),
}

impl From<sqlx::Error> for MoveError {
    fn from(error: sqlx::Error) -> Self {
        MoveError::Store(error.into())
    }
}

/// What was moved.
#[derive(Debug, Serialize)]
pub struct Moved {
    /// Rows by table.
    pub rows: BTreeMap<String, u64>,
    /// Entries of the audit log; its chain was walked on the server.
    pub audit_entries: i64,
}

/// In an order in which what is referred to is there first.
const TABLES: &[&str] = &[
    "inventories",
    "nodes",
    "join_tokens",
    "plugin_sources",
    "jobs",
    "job_nodes",
    "job_outcomes",
    "job_outputs",
    "job_output_pieces",
    "roles",
    "users",
    "tokens",
    "audit",
    "bundles",
    "bundle_signatures",
    "approvals",
    "node_plugins",
    "node_sets",
    "plugin_defaults",
    "deployments",
    "deployment_nodes",
    "plugin_events",
    "events",
    "schedules",
    "schedule_runs",
    "rules",
    "rule_firings",
    "plans",
    "runs",
    "run_events",
    "run_jobs",
    "node_status",
    "secrets",
    "leader",
];
/// Values bound in one statement at most; PostgreSQL takes 65,535.
const VALUES: usize = 8192;
/// Rows read at once.
const PAGE: i64 = 256;

/// Copy all from a file to a server.
///
/// # Errors
/// With the first thing in the way; then the server has nothing.
pub async fn to_server(config: &Config, url: &Secret) -> Result<Moved, MoveError> {
    let path = config.database();
    if config.store.url.is_some() || !path.is_file() {
        return Err(MoveError::NoFile(path));
    }
    let authority = Authority::load(&config.authority())?.fingerprint();
    let file = Store::open(&path, config.store.durability).await?;
    let server = Store::server(&url.0).await?;
    let me = Candidate { master: MasterId::new(), address: String::new(), authority };
    copy_all(&file, &server, &me).await
}

async fn copy_all(file: &Store, server: &Store, me: &Candidate) -> Result<Moved, MoveError> {
    let mut from = file.connect().await?;
    let mut to = server.connect().await?;
    let tables = query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'");
    for row in tables.fetch_all(&mut from).await? {
        let table: String = row.try_get("name")?;
        if table != "_sqlx_migrations" && !TABLES.contains(&table.as_str()) {
            return Err(MoveError::UnknownTable(table));
        }
    }
    query("BEGIN").execute(&mut to).await?;
    for table in TABLES {
        let any = dynamic(format!("SELECT 1 AS one FROM {table} LIMIT 1"));
        if any.fetch_optional(&mut to).await?.is_some() {
            return Err(MoveError::NotEmpty((*table).to_owned()));
        }
    }
    let seen = lease::read(&mut from).await?;
    let epoch = lease::take(&mut from, seen.as_ref(), me).await?.ok_or(MoveError::InUse)?;
    // Nobody leads: the first master on the server takes it.
    lease::give_up(&mut from, epoch).await?;

    let mut rows = BTreeMap::new();
    for table in TABLES {
        rows.insert((*table).to_owned(), copy(&mut from, &mut to, table).await?);
    }
    query("COMMIT").execute(&mut to).await?;
    let head = audit::verify(server).await?;
    Ok(Moved { rows, audit_entries: head.seq })
}

fn dynamic(sql: String) -> super::sql::Query {
    let mut insert = Insert::new("");
    insert.push(&sql);
    insert.build()
}

async fn copy(from: &mut Connection, to: &mut Connection, table: &str) -> Result<u64, MoveError> {
    let mut columns: Vec<(String, String)> = Vec::new();
    for row in
        dynamic(format!("SELECT name, type FROM pragma_table_info('{table}')")).fetch_all(&mut *from).await?
    {
        columns.push((row.try_get("name")?, row.try_get("type")?));
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let (mut last, mut copied) = (0_i64, 0_u64);
    loop {
        // By the file's own numbers of rows, which stand still: nobody writes.
        let mut page = Insert::new("");
        page.push(&format!("SELECT rowid AS row_number, {names} FROM {table} WHERE rowid > "));
        page.push_value(last);
        page.push(" ORDER BY rowid LIMIT ");
        page.push_value(PAGE);
        let rows = page.build().fetch_all(&mut *from).await?;
        let Some(end) = rows.last() else { return Ok(copied) };
        last = end.try_get("row_number")?;
        for chunk in rows.chunks((VALUES / columns.len()).max(1)) {
            let mut insert = Insert::new("");
            insert.push(&format!("INSERT INTO {table} ({names}) "));
            let mut values = Vec::with_capacity(chunk.len());
            for row in chunk {
                values.push(columns.iter().map(|column| value(row, column)).collect::<Result<Vec<_>, _>>()?);
            }
            insert.push_values(values, |into, row| {
                for value in row {
                    into.push_bind(value);
                }
            });
            copied += insert.build().execute(&mut *to).await?;
        }
    }
}

/// A value by the type that its column was declared with.
fn value(row: &Row, (name, of_type): &(String, String)) -> Result<Value, sqlx::Error> {
    Ok(match of_type.as_str() {
        "BIGINT" => row.try_get::<Option<i64>>(name)?.value(),
        "BOOLEAN" => row.try_get::<Option<bool>>(name)?.value(),
        "BLOB" => row.try_get::<Option<Vec<u8>>>(name)?.value(),
        _ => row.try_get::<Option<String>>(name)?.value(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;

    /// A table that is forgotten here would be lost on the way.
    #[tokio::test]
    async fn every_table_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Durability::Process).await.unwrap();
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut found: Vec<String> = query(tables)
            .fetch_all(store.readers())
            .await
            .unwrap()
            .iter()
            .map(|row| row.try_get("name").unwrap())
            .filter(|name| name != "_sqlx_migrations")
            .collect();
        let mut known: Vec<String> = TABLES.iter().map(|table| (*table).to_owned()).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
    }
}
