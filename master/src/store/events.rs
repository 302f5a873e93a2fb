//! Rows of events.
//!
//! An event is appended in the transaction of what it tells of, so the two are there together or not
//! at all. There is one writer, so numbers are committed in their order: whoever has read up to a
//! number has missed nothing below it. After the commit the store tells the newest number to whoever
//! waits ([`Store::newest_event`]).

use super::{
    Connection, Row, Store, StoreError,
    jobs::chunks,
    nodes::{from_json, parse},
    sql::{self, Insert},
};
use serde_json::Value;
use std::cell::Cell;
use windlass_types::{NodeId, NodeName, api::events::Event};

type Result<T> = std::result::Result<T, StoreError>;

/// An event to append.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    pub time_ms: i64,
    /// Dotted, such as `node.connected`.
    pub kind: &'static str,
    pub node: Option<(NodeId, NodeName)>,
    pub subject: String,
    /// An object.
    pub data: Value,
}

impl NewEvent {
    /// Of this moment.
    pub fn new(kind: &'static str, subject: impl ToString, data: Value) -> Self {
        NewEvent { time_ms: crate::now_ms(), kind, node: None, subject: subject.to_string(), data }
    }

    /// Of this moment, of a node.
    pub fn of_node(kind: &'static str, id: NodeId, name: &NodeName, data: Value) -> Self {
        NewEvent { node: Some((id, name.clone())), ..NewEvent::new(kind, "", data) }
    }
}

tokio::task_local! {
    /// The highest number that the write of this task has given out; 0 for none.
    static APPENDED: Cell<i64>;
}

/// Carry out a write, and tell the newest event that it appended; 0 for none.
pub(super) async fn noting<T>(work: impl Future<Output = T>) -> (T, i64) {
    let noted = async {
        let done = work.await;
        (done, APPENDED.with(Cell::get))
    };
    APPENDED.scope(Cell::new(0), noted).await
}

/// Append events, in the transaction of what they are about.
///
/// # Errors
/// If the database fails.
pub async fn append(c: &mut Connection, events: &[NewEvent]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    // One writer: nobody can append between these statements.
    let mut seq = newest(&mut *c).await?;
    for chunk in chunks(events) {
        let mut query =
            Insert::new("INSERT INTO events (seq, time_ms, kind, node_id, node_name, subject, data) ");
        query.push_values(chunk, |row, event| {
            seq += 1;
            let node = event.node.as_ref();
            row.push_bind(seq)
                .push_bind(event.time_ms)
                .push_bind(event.kind)
                .push_bind(node.map(|(id, _)| id.to_string()))
                .push_bind(node.map(|(_, name)| name.to_string()))
                .push_bind(event.subject.clone())
                .push_bind(event.data.to_string());
        });
        query.build().execute(&mut *c).await?;
    }
    // Outside of a write of the store, as in some tests, nobody waits to hear of it.
    let _ = APPENDED.try_with(|appended| appended.set(seq));
    Ok(())
}

/// The number of the newest event, within a write; 0 if there is none.
pub(super) async fn newest(c: &mut Connection) -> Result<i64> {
    let newest: Option<i64> = sql::query("SELECT MAX(seq) FROM events").fetch_scalar(c).await?.flatten();
    Ok(newest.unwrap_or(0))
}

/// Which events: all that fit both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// As a pattern of `LIKE` whose escape character is `!`; empty for any.
    kind: String,
    /// Id or name; empty for any.
    node: String,
}

impl Filter {
    /// `kind` may hold `*` for any text. None if no kind of event can look so.
    pub fn new(kind: Option<&str>, node: Option<&str>) -> Option<Self> {
        const LONGEST: usize = 100;
        let kind = kind.unwrap_or_default();
        let valid = kind.len() <= LONGEST
            && kind
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'*'));
        let kind = kind.replace('_', "!_").replace('*', "%");
        valid.then(|| Filter { kind, node: node.unwrap_or_default().to_owned() })
    }
}

/// What holds of an event that fits a filter, whose parts are bound as `$1` and `$2`.
macro_rules! fits {
    () => {
        "($1 = '' OR kind LIKE $1 ESCAPE '!') AND ($2 = '' OR node_id = $2 OR node_name = $2)"
    };
}

/// Events that fit after a number, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn page(store: &Store, filter: &Filter, after: i64, limit: u32) -> Result<Vec<Event>> {
    let sql = concat!("SELECT * FROM events WHERE ", fits!(), " AND seq > $3 ORDER BY seq LIMIT $4");
    let rows = sql::query(sql)
        .bind(&filter.kind)
        .bind(&filter.node)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(event).collect()
}

fn event(row: &Row) -> Result<Event> {
    let text = |column: &str| row.try_get::<Option<&str>>(column);
    Ok(Event {
        seq: row.try_get("seq")?,
        time_ms: row.try_get("time_ms")?,
        kind: row.try_get("kind")?,
        node: text("node_id")?.map(|id| parse("node id", id)).transpose()?,
        node_name: text("node_name")?.map(|name| parse("node name", name)).transpose()?,
        subject: row.try_get("subject")?,
        data: from_json("data of an event", row.try_get("data")?)?,
    })
}

/// The number before the newest `last` events that fit.
///
/// # Errors
/// If the database fails.
pub async fn before_last(store: &Store, filter: &Filter, last: u32) -> Result<i64> {
    let sql = concat!("SELECT seq FROM events WHERE ", fits!(), " ORDER BY seq DESC LIMIT 1 OFFSET $3");
    let seq: Option<i64> = sql::query(sql)
        .bind(&filter.kind)
        .bind(&filter.node)
        .bind(i64::from(last))
        .fetch_scalar(store.readers())
        .await?;
    Ok(seq.unwrap_or(0))
}

/// The number before the first event that happened at this time or later.
///
/// # Errors
/// If the database fails.
pub async fn before_time(store: &Store, time_ms: i64) -> Result<i64> {
    let first: Option<i64> = sql::query("SELECT MIN(seq) FROM events WHERE time_ms >= $1")
        .bind(time_ms)
        .fetch_scalar(store.readers())
        .await?
        .flatten();
    match first {
        Some(first) => Ok(first - 1),
        None => last(store).await,
    }
}

/// The number of the newest event; 0 for none.
///
/// # Errors
/// If the database fails.
pub async fn last(store: &Store) -> Result<i64> {
    let newest: Option<i64> =
        sql::query("SELECT MAX(seq) FROM events").fetch_scalar(store.readers()).await?.flatten();
    Ok(newest.unwrap_or(0))
}

/// Events forgotten in one transaction, so that no write waits long for it.
const SWEEP: i64 = 5000;

/// Forget some of the events that happened before a time, or else of those beyond a number. The
/// newest one always stays. Gives back how many; call again until it is none.
///
/// # Errors
/// If the database fails.
pub async fn sweep(c: &mut Connection, before_ms: i64, keep: u64) -> Result<u64> {
    let newest = newest(&mut *c).await?;
    let old = sql::query(
        "DELETE FROM events WHERE seq IN \
         (SELECT seq FROM events WHERE time_ms < $1 AND seq < $2 ORDER BY time_ms LIMIT $3)",
    )
    .bind(before_ms)
    .bind(newest)
    .bind(SWEEP)
    .execute(&mut *c)
    .await?;
    if old > 0 {
        return Ok(old);
    }
    let keep = i64::try_from(keep.max(1)).unwrap_or(i64::MAX);
    let many = sql::query(
        "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq <= $1 ORDER BY seq LIMIT $2)",
    )
    .bind(newest.saturating_sub(keep))
    .bind(SWEEP)
    .execute(c)
    .await?;
    Ok(many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&folder.path().join("db")).await;
        (folder, store)
    }

    async fn put(store: &Store, events: Vec<NewEvent>, fail: bool) -> Result<()> {
        store
            .write(move |c| {
                Box::pin(async move {
                    append(c, &events).await?;
                    if fail { Err(StoreError::corrupt("test", "on purpose")) } else { Ok(()) }
                })
            })
            .await
    }

    fn at(time_ms: i64, kind: &'static str) -> NewEvent {
        NewEvent { time_ms, ..NewEvent::new(kind, "", json!({})) }
    }

    async fn seqs(store: &Store, filter: &Filter, after: i64, limit: u32) -> Vec<i64> {
        page(store, filter, after, limit).await.unwrap().iter().map(|event| event.seq).collect()
    }

    #[tokio::test]
    async fn events_are_found_by_number_kind_node_and_time() {
        let (_folder, store) = store().await;
        let (id, name): (NodeId, NodeName) = (NodeId::new(), "n1".parse().unwrap());
        let node = NewEvent { time_ms: 20, ..NewEvent::of_node("node.connected", id, &name, json!({})) };
        put(&store, vec![at(10, "job.created"), node, at(30, "nodexconnected")], false).await.unwrap();
        put(&store, vec![at(40, "node.rolled_back"), at(50, "node.rolledxback")], false).await.unwrap();

        let all = Filter::default();
        assert_eq!(seqs(&store, &all, 0, 9).await, [1, 2, 3, 4, 5]);
        assert_eq!(seqs(&store, &all, 2, 2).await, [3, 4]);
        let kinds = |kind| Filter::new(Some(kind), None).unwrap();
        assert_eq!(seqs(&store, &kinds("node.*"), 0, 9).await, [2, 4, 5]);
        assert_eq!(seqs(&store, &kinds("*.rolled_back"), 0, 9).await, [4], "`_` stands for itself");
        for node in [name.to_string(), id.to_string()] {
            let filter = Filter::new(Some("*"), Some(&node)).unwrap();
            assert_eq!(seqs(&store, &filter, 0, 9).await, [2]);
        }
        for bad in ["Node.*", "a%", "a!b", "a'b"] {
            assert_eq!(Filter::new(Some(bad), None), None, "{bad}");
        }
        assert_eq!(before_last(&store, &kinds("node.*"), 2).await.unwrap(), 2);
        assert_eq!(before_last(&store, &all, 99).await.unwrap(), 0);
        assert_eq!(before_time(&store, 30).await.unwrap(), 2);
        assert_eq!(before_time(&store, 99).await.unwrap(), 5);
        assert_eq!(last(&store).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_write_that_fails_appends_nothing_and_tells_nobody() {
        let (_folder, store) = store().await;
        let newest = store.newest_event();
        put(&store, vec![at(1, "a.b")], true).await.unwrap_err();
        assert_eq!((*newest.borrow(), last(&store).await.unwrap()), (0, 0));
        put(&store, vec![at(1, "a.b"), at(1, "a.b")], false).await.unwrap();
        assert_eq!((*newest.borrow(), last(&store).await.unwrap()), (2, 2));
        put(&store, Vec::new(), false).await.unwrap();
        assert_eq!(*newest.borrow(), 2);
    }

    #[tokio::test]
    async fn old_events_go_and_no_number_comes_twice() {
        let (_folder, store) = store().await;
        put(&store, (1..=200).map(|time_ms| at(time_ms, "a.b")).collect(), false).await.unwrap();
        let swept = async |before_ms, keep| {
            let sweep = store.write(move |c| Box::pin(async move { sweep(c, before_ms, keep).await }));
            sweep.await.unwrap()
        };
        let all = Filter::default();
        assert_eq!(swept(101, 1000).await, 100);
        assert_eq!(seqs(&store, &all, 0, 1).await, [101]);
        assert_eq!(swept(101, 10).await, 90);
        assert_eq!(seqs(&store, &all, 0, 1).await, [191]);
        assert_eq!(swept(i64::MAX, 0).await, 9);
        assert_eq!(swept(i64::MAX, 0).await, 0, "the newest stays");
        put(&store, vec![at(1, "a.b")], false).await.unwrap();
        assert_eq!(seqs(&store, &all, 0, 9).await, [200, 201]);
    }
}
