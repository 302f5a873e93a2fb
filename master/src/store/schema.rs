//! The schema, in the words of either database.
//!
//! Migrations are written once, with the types TEXT, BIGINT, BOOLEAN and BLOB. For PostgreSQL two of
//! them get its names: `BYTEA`, and text that is compared byte by byte as SQLite does, so that lists come
//! in one order whatever the server's language is. Whoever runs them holds a lock of the server, so of two
//! masters that start together one does it.

use super::{Connection, StoreError, sql};
use sqlx::{
    AssertSqlSafe, SqlSafeStr as _,
    migrate::{Migration, Migrator},
};
use std::collections::BTreeSet;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Bring it up to date.
///
/// # Errors
/// If it was written by a newer version, or a statement fails.
pub(super) async fn update(connection: &mut Connection) -> Result<(), StoreError> {
    match connection {
        Connection::Sqlite(connection) => MIGRATIONS.run(connection).await?,
        Connection::Postgres(connection) => for_postgres().run(connection).await?,
    }
    Ok(())
}

/// Whether it is the one of this version, which a command beside a running master must not change.
///
/// # Errors
/// If it is not.
pub(super) async fn check(connection: &mut Connection) -> Result<(), StoreError> {
    let tables = match connection {
        Connection::Sqlite(_) => "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'",
        Connection::Postgres(_) => {
            "SELECT COUNT(*) FROM pg_class WHERE oid = to_regclass('_sqlx_migrations')"
        }
    };
    let tables: Option<i64> = sql::query(tables).fetch_scalar(&mut *connection).await?;
    if tables.unwrap_or(0) == 0 {
        return Err(StoreError::Blank);
    }
    let run = sql::query("SELECT version FROM _sqlx_migrations WHERE success = TRUE ORDER BY version");
    let rows = run.fetch_all(connection).await?;
    let run = rows.iter().map(|row| row.try_get("version")).collect::<Result<BTreeSet<i64>, _>>()?;
    let known: BTreeSet<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    match () {
        () if run.is_empty() => Err(StoreError::Blank),
        () if !run.is_subset(&known) => Err(StoreError::Newer),
        () if run != known => Err(StoreError::Older),
        () => Ok(()),
    }
}

fn for_postgres() -> Migrator {
    let translated = MIGRATIONS.iter().map(|migration| Migration {
        // With the checksum of the file: it says which file was run.
        sql: AssertSqlSafe(translate(migration.sql.as_str())).into_sql_str(),
        ..migration.clone()
    });
    Migrator { migrations: translated.collect::<Vec<_>>().into(), ..Migrator::DEFAULT }
}

/// Other names for types; what is quoted or in a comment stays.
fn translate(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() + sql.len() / 4);
    for line in sql.lines() {
        let (code, comment) = match line.find("--") {
            Some(at) => line.split_at(at),
            None => (line, ""),
        };
        for (number, part) in code.split('\'').enumerate() {
            if number > 0 {
                out.push('\'');
            }
            // Every other part is between quotes.
            if number % 2 == 1 {
                out.push_str(part);
                continue;
            }
            for word in part.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                match bare {
                    "TEXT" => out.push_str("TEXT COLLATE \"C\""),
                    "BLOB" => out.push_str("BYTEA"),
                    other => out.push_str(other),
                }
                out.push_str(&word[bare.len()..]);
            }
        }
        out.push_str(comment);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_get_the_names_of_postgresql() {
        let sql =
            "-- TEXT stays\nCREATE TABLE t (a TEXT PRIMARY KEY, b BLOB, c TEXT CHECK (c IN ('TEXT', 'x')));";
        assert_eq!(
            translate(sql),
            "-- TEXT stays\nCREATE TABLE t (a TEXT COLLATE \"C\" PRIMARY KEY, b BYTEA, \
             c TEXT COLLATE \"C\" CHECK (c IN ('TEXT', 'x')));\n"
        );
    }

    /// A type that only SQLite takes would be found only where a server is.
    #[test]
    fn migrations_use_types_that_both_have() {
        for migration in MIGRATIONS.iter() {
            for word in ["INTEGER", "REAL", "AUTOINCREMENT", "WITHOUT ROWID", "DATETIME", "INSERT OR"] {
                let sql = migration.sql.as_str().to_uppercase();
                assert!(!sql.contains(word), "migration {} says {word}", migration.version);
            }
        }
    }

    /// Else an update would lock everybody out.
    #[tokio::test]
    async fn tokens_outlive_the_table_that_took_three_roles() {
        use sqlx::{Connection as _, Row as _};
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let older = MIGRATIONS.iter().filter(|migration| migration.version < 7).cloned();
        let older = Migrator { migrations: older.collect::<Vec<_>>().into(), ..Migrator::DEFAULT };
        older.run(&mut connection).await.unwrap();
        let token = "INSERT INTO tokens (id, hash, name, role, created_ms, expires_ms, last_used_ms) \
                     VALUES ('t', 'h', 'root', 'admin', 1, NULL, 2)";
        sqlx::query(token).execute(&mut connection).await.unwrap();
        MIGRATIONS.run(&mut connection).await.unwrap();
        let row = sqlx::query("SELECT * FROM tokens").fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<&str, _>("hash"), "h");
        assert_eq!(row.get::<Option<&str>, _>("role"), Some("admin"));
        assert_eq!(row.get::<Option<&str>, _>("user_id"), None);
        assert_eq!(row.get::<Option<i64>, _>("last_used_ms"), Some(2));
    }
}
