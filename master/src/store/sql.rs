//! One set of statements for both databases.
//!
//! A statement is written once, in the SQL that SQLite and PostgreSQL share, and run by the driver of the
//! database at hand. Only what differs is here: connections, rows, and how values are bound.
//!
//! PostgreSQL has no text with a NUL in it. So that both hold the same, and a hash over what was written
//! fits what is read, it is replaced for both ([`clean`]).

use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use sqlx::{
    Arguments as _, AssertSqlSafe, Connection as _, Decode, PgConnection, PgPool, Postgres, Row as _,
    SqlSafeStr as _, SqlStr, Sqlite, SqliteConnection, SqlitePool, Type,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use std::{borrow::Cow, fmt::Write as _};

/// A connection to the database.
#[derive(Debug)]
pub enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    /// # Errors
    /// If it does not end in order.
    pub async fn close(self) -> sqlx::Result<()> {
        match self {
            Connection::Sqlite(connection) => connection.close().await,
            Connection::Postgres(connection) => connection.close().await,
        }
    }
}

/// Connections that are shared.
#[derive(Debug, Clone)]
pub enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A row of a result.
#[derive(Debug)]
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What a column can be read as.
pub trait Column<'r>: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres> {}
impl<'r, T> Column<'r> for T where T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>
{}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// If there is no such column, or it is of another type.
    pub fn try_get<'r, T: Column<'r>>(&'r self, column: &str) -> sqlx::Result<T> {
        match self {
            Row::Sqlite(row) => row.try_get(column),
            Row::Postgres(row) => row.try_get(column),
        }
    }
}

impl Row {
    fn first<T: for<'r> Column<'r>>(&self) -> sqlx::Result<T> {
        match self {
            Row::Sqlite(row) => row.try_get(0),
            Row::Postgres(row) => row.try_get(0),
        }
    }
}

/// Where a statement is run.
#[derive(Debug)]
pub enum On<'c> {
    Connection(&'c mut Connection),
    Pool(&'c Pool),
}

impl<'c> From<&'c mut Connection> for On<'c> {
    fn from(connection: &'c mut Connection) -> Self {
        On::Connection(connection)
    }
}

impl<'c> From<&'c Pool> for On<'c> {
    fn from(pool: &'c Pool) -> Self {
        On::Pool(pool)
    }
}

/// A value that is bound. One that is missing still has a type: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Truth(Option<bool>),
    Bytes(Option<Vec<u8>>),
}

/// Text as both databases can hold it.
pub fn clean(text: impl Into<String>) -> String {
    let text = text.into();
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// What can be bound.
pub trait Bind {
    fn value(self) -> Value;
    /// The type when there is none.
    fn none() -> Value;
}

macro_rules! bind {
    ($($type:ty => $kind:ident, $this:ident => $value:expr;)*) => {$(
        impl Bind for $type {
            fn value(self) -> Value {
                let $this = self;
                Value::$kind(Some($value))
            }
            fn none() -> Value {
                Value::$kind(None)
            }
        }
    )*};
}

bind! {
    String => Text, it => clean(it);
    &String => Text, it => clean(it.as_str());
    &str => Text, it => clean(it);
    i64 => Number, it => it;
    bool => Truth, it => it;
    Vec<u8> => Bytes, it => it;
    &Vec<u8> => Bytes, it => it.clone();
    &[u8] => Bytes, it => it.to_vec();
}

impl Bind for Value {
    fn value(self) -> Value {
        self
    }
    fn none() -> Value {
        Value::Text(None)
    }
}

impl<T: Bind> Bind for Option<T> {
    fn value(self) -> Value {
        self.map_or_else(T::none, T::value)
    }
    fn none() -> Value {
        T::none()
    }
}

impl<'a, T> Bind for &'a Option<T>
where
    &'a T: Bind,
{
    fn value(self) -> Value {
        self.as_ref().map_or_else(<&T>::none, <&T>::value)
    }
    fn none() -> Value {
        <&T>::none()
    }
}

/// A statement with its values.
#[derive(Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Query {
    sql: Cow<'static, str>,
    values: Vec<Value>,
}

/// A statement; its values are `$1`, `$2` and so on.
pub fn query(sql: &'static str) -> Query {
    Query { sql: Cow::Borrowed(sql), values: Vec::new() }
}

/// Run on whichever database it is, and wrap what comes.
macro_rules! run {
    ($query:expr, $on:expr, $method:ident) => {
        match $on.into() {
            On::Connection(Connection::Sqlite(it)) => $query.sqlite()?.$method(it).await.map(Into::into),
            On::Connection(Connection::Postgres(it)) => $query.postgres()?.$method(it).await.map(Into::into),
            On::Pool(Pool::Sqlite(it)) => $query.sqlite()?.$method(it).await.map(Into::into),
            On::Pool(Pool::Postgres(it)) => $query.postgres()?.$method(it).await.map(Into::into),
        }
    };
}

/// Values as a driver takes them.
macro_rules! arguments {
    ($type:ty, $values:expr) => {{
        let mut arguments = <$type>::default();
        for value in $values {
            match value {
                Value::Text(value) => arguments.add(value),
                Value::Number(value) => arguments.add(value),
                Value::Truth(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        arguments
    }};
}

impl Query {
    /// The value of the next placeholder.
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.value());
        self
    }

    /// Run it. Gives back how many rows it has changed.
    ///
    /// # Errors
    /// If the database fails or refuses.
    pub async fn execute<'c>(self, on: impl Into<On<'c>>) -> sqlx::Result<u64> {
        let done: Done = run!(self, on, execute)?;
        Ok(done.0)
    }

    /// All its rows.
    ///
    /// # Errors
    /// If the database fails or refuses.
    pub async fn fetch_all<'c>(self, on: impl Into<On<'c>>) -> sqlx::Result<Vec<Row>> {
        let rows: Rows = run!(self, on, fetch_all)?;
        Ok(rows.0)
    }

    /// Its row; none if it has none.
    ///
    /// # Errors
    /// If the database fails or refuses.
    pub async fn fetch_optional<'c>(self, on: impl Into<On<'c>>) -> sqlx::Result<Option<Row>> {
        let row: Maybe = run!(self, on, fetch_optional)?;
        Ok(row.0)
    }

    /// Its row.
    ///
    /// # Errors
    /// If the database fails or refuses, or there is none.
    pub async fn fetch_one<'c>(self, on: impl Into<On<'c>>) -> sqlx::Result<Row> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// The first column of its row; none if it has no row.
    ///
    /// # Errors
    /// If the database fails or refuses, or the column is of another type.
    pub async fn fetch_scalar<'c, T>(self, on: impl Into<On<'c>>) -> sqlx::Result<Option<T>>
    where
        T: for<'r> Column<'r>,
    {
        self.fetch_optional(on).await?.as_ref().map(Row::first).transpose()
    }

    /// Its rows one after the other.
    pub fn fetch(self, pool: &Pool) -> BoxStream<'_, sqlx::Result<Row>> {
        let failed = |error| futures_util::stream::once(async { Err(error) }).boxed();
        match pool {
            Pool::Sqlite(pool) => match self.sqlite() {
                Ok(query) => query.fetch(pool).map_ok(Row::Sqlite).boxed(),
                Err(error) => failed(error),
            },
            Pool::Postgres(pool) => match self.postgres() {
                Ok(query) => query.fetch(pool).map_ok(Row::Postgres).boxed(),
                Err(error) => failed(error),
            },
        }
    }

    fn sqlite(self) -> sqlx::Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>> {
        let arguments = arguments!(SqliteArguments, self.values);
        Ok(sqlx::query_with(text(self.sql), arguments))
    }

    fn postgres(self) -> sqlx::Result<sqlx::query::Query<'static, Postgres, PgArguments>> {
        let arguments = arguments!(PgArguments, self.values);
        let sql = match self.sql {
            Cow::Owned(sql) => Cow::Owned(numbered(&sql)),
            borrowed @ Cow::Borrowed(_) => borrowed,
        };
        Ok(sqlx::query_with(text(sql), arguments))
    }
}

/// No statement holds a value: values are bound.
fn text(sql: Cow<'static, str>) -> SqlStr {
    match sql {
        Cow::Borrowed(sql) => sql.into_sql_str(),
        Cow::Owned(sql) => AssertSqlSafe(sql).into_sql_str(),
    }
}

/// With `$1`, `$2` … for each `?`. SQLite gets the latter: `$n` is the name of a parameter there, and is
/// looked for in a list for each value.
fn numbered(sql: &str) -> String {
    let mut numbered = String::with_capacity(sql.len() + sql.len() / 8);
    for (number, part) in sql.split('?').enumerate() {
        if number > 0 {
            // Writing to a string can't fail.
            let _ = write!(numbered, "${number}");
        }
        numbered.push_str(part);
    }
    numbered
}

struct Done(u64);
struct Rows(Vec<Row>);
struct Maybe(Option<Row>);

macro_rules! wrap {
    ($($result:ty, $row:ty, $kind:ident;)*) => {$(
        impl From<$result> for Done {
            fn from(done: $result) -> Self {
                Done(done.rows_affected())
            }
        }
        impl From<Vec<$row>> for Rows {
            fn from(rows: Vec<$row>) -> Self {
                Rows(rows.into_iter().map(Row::$kind).collect())
            }
        }
        impl From<Option<$row>> for Maybe {
            fn from(row: Option<$row>) -> Self {
                Maybe(row.map(Row::$kind))
            }
        }
    )*};
}

wrap! {
    sqlx::sqlite::SqliteQueryResult, SqliteRow, Sqlite;
    sqlx::postgres::PgQueryResult, PgRow, Postgres;
}

/// A statement with as many rows of values as there are.
#[derive(Debug)]
pub struct Insert {
    query: Query,
}

/// The values of one row.
#[derive(Debug)]
pub struct Values<'a> {
    query: &'a mut Query,
    first: bool,
}

impl Insert {
    /// Begins with `INSERT INTO table (columns) `.
    #[must_use]
    pub fn new(sql: &'static str) -> Self {
        Insert { query: Query { sql: Cow::Owned(sql.to_owned()), values: Vec::new() } }
    }

    /// A row for each of `items`.
    pub fn push_values<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Values<'_>, T),
    ) {
        for (number, item) in items.into_iter().enumerate() {
            self.push(if number == 0 { "VALUES (" } else { ", (" });
            each(&mut Values { query: &mut self.query, first: true }, item);
            self.push(")");
        }
    }

    /// A value by itself.
    pub fn push_value(&mut self, value: impl Bind) {
        self.query.sql.to_mut().push('?');
        self.query.values.push(value.value());
    }

    /// More of the statement, without values.
    pub fn push(&mut self, sql: &str) {
        self.query.sql.to_mut().push_str(sql);
    }

    /// The statement.
    pub fn build(self) -> Query {
        self.query
    }
}

impl Values<'_> {
    /// The next value of the row.
    pub fn push_bind(&mut self, value: impl Bind) -> &mut Self {
        let mark = if std::mem::take(&mut self.first) { "?" } else { ", ?" };
        self.query.sql.to_mut().push_str(mark);
        self.query.values.push(value.value());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_for_postgresql() {
        let mut insert = Insert::new("INSERT INTO t (a, b) ");
        insert.push_values([1_i64, 2], |row, number| {
            row.push_bind(number).push_bind("x");
        });
        insert.push(" ON CONFLICT DO NOTHING");
        let query = insert.build();
        assert_eq!(query.sql, "INSERT INTO t (a, b) VALUES (?, ?), (?, ?) ON CONFLICT DO NOTHING");
        assert_eq!(
            numbered(&query.sql),
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING"
        );
        assert_eq!(query.values.len(), 4);
    }

    #[test]
    fn text_has_no_nul() {
        assert_eq!(clean("a\0b"), "a\u{fffd}b");
        assert!(matches!(Bind::value("\0"), Value::Text(Some(text)) if text == "\u{fffd}"));
        assert!(matches!(Bind::value(None::<&str>), Value::Text(None)));
    }
}
