//! The database of a test: a file, or with `WINDLASS_TEST_POSTGRES` one of its own on that server, so that
//! every test of the master can be run on both.

use crate::{config::Durability, store::Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::path::Path;
use windlass_types::Digest;

/// The server, `postgres://user@host:port/postgres`.
fn server() -> Option<String> {
    std::env::var("WINDLASS_TEST_POSTGRES").ok()
}

/// The database that belongs to a path. Opening the same path again opens the same database.
pub(crate) async fn open(path: &Path) -> Store {
    let Some(server) = server() else { return Store::open(path, Durability::Process).await.unwrap() };
    Store::server(&database(&server, path).await).await.unwrap()
}

/// An address of a database for a path, made if there is none.
pub(crate) async fn database(server: &str, path: &Path) -> String {
    let digest = Digest::of(path.to_string_lossy().as_bytes()).hex();
    let name = format!("test_{}", &digest[..24]);
    let mut admin = PgConnection::connect(server).await.unwrap();
    let made = sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await;
    // There already, or somebody makes it at this moment.
    if let Err(error) = made {
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert!(matches!(code.as_deref(), Some("42P04" | "23505")), "{error}");
    }
    admin.close().await.unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}
