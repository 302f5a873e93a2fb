//! The log of what happens on the grid, as its readers see it.
//!
//! Events are rows of the store, written with what they tell of ([`crate::store::events`]). A watcher
//! has a cursor and reads at its own pace: a slow one costs no memory, and one that comes back goes on
//! where it was, at this master or at the next that leads. What was forgotten meanwhile it misses, and
//! the numbers tell.

use crate::{
    config::Retention,
    store::{
        Store, StoreError,
        events::{self as rows, Filter},
    },
};
use async_stream::stream;
use futures_util::Stream;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use windlass_types::api::events::Event;

/// Events read at once for a watcher.
const STEP: u32 = 500;
/// How often to look for what need not be kept any more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Where a reader begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begin {
    /// After this number.
    pub after: Option<i64>,
    /// Not before this time.
    pub since_ms: Option<i64>,
    /// With the newest so many that fit.
    pub last: Option<u32>,
}

/// What a watcher gets.
#[derive(Debug)]
pub enum Watched {
    /// The number after which the stream begins, so that whoever is cut off before the first event
    /// knows where to go on.
    From(i64),
    Event(Box<Event>),
}

/// The log. Clones share it.
#[derive(Debug, Clone)]
pub struct EventLog {
    store: Store,
    retention: Retention,
    shutdown: CancellationToken,
}

impl EventLog {
    /// The log in a store, until `shutdown`.
    pub fn new(store: Store, retention: Retention, shutdown: CancellationToken) -> Self {
        EventLog { store, retention, shutdown }
    }

    /// A page, oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn page(&self, filter: &Filter, begin: Begin, limit: u32) -> Result<Vec<Event>, StoreError> {
        let after = self.begin(filter, begin).await?.unwrap_or(0);
        rows::page(&self.store, filter, after, limit).await
    }

    /// Events that fit, from now on unless told where to begin. Ends when the master goes down or
    /// the store fails; the watcher comes again then.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn watch(
        &self,
        filter: Filter,
        begin: Begin,
    ) -> Result<impl Stream<Item = Watched> + Send + use<>, StoreError> {
        // A number that is not there yet comes from a log that was lost: then this one's end.
        let last = rows::last(&self.store).await?;
        let mut cursor = self.begin(&filter, begin).await?.map_or(last, |begin| begin.min(last));
        let EventLog { store, shutdown, .. } = self.clone();
        Ok(stream! {
            yield Watched::From(cursor);
            let mut newest = store.newest_event();
            loop {
                // Looked at before the rows: what is committed after it wakes us again.
                let seen = *newest.borrow_and_update();
                match rows::page(&store, &filter, cursor, STEP).await {
                    Ok(events) => {
                        let more = events.len() >= STEP as usize;
                        for event in events {
                            cursor = event.seq;
                            yield Watched::Event(Box::new(event));
                        }
                        if more {
                            continue;
                        }
                        // What does not fit need not be looked at twice.
                        cursor = cursor.max(seen);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read events for a watcher");
                        return;
                    }
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = shutdown.cancelled() => return,
                }
            }
        })
    }

    /// The number after which to begin, where one is told.
    async fn begin(&self, filter: &Filter, begin: Begin) -> Result<Option<i64>, StoreError> {
        let mut after = begin.after;
        if let Some(since_ms) = begin.since_ms {
            after = after.max(Some(rows::before_time(&self.store, since_ms).await?));
        }
        if let Some(last) = begin.last {
            after = after.max(Some(rows::before_last(&self.store, filter, last).await?));
        }
        Ok(after)
    }

    /// Forget old events, now and then, until the master goes down.
    pub async fn tend(self) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(every.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "cannot forget old events");
            }
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let age = i64::try_from(self.retention.events.0.as_millis()).unwrap_or(i64::MAX);
        let (before_ms, keep) = (crate::now_ms().saturating_sub(age), self.retention.max_events);
        while !self.shutdown.is_cancelled() {
            let sweep = self.store.write::<u64, StoreError, _>(move |c| {
                Box::pin(async move { rows::sweep(c, before_ms, keep).await })
            });
            if sweep.await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Durability, store::events::NewEvent, testing::soon};
    use futures_util::StreamExt as _;
    use serde_json::json;

    async fn log() -> (tempfile::TempDir, EventLog) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("db"), Durability::Process).await.unwrap();
        (folder, EventLog::new(store, Retention::default(), CancellationToken::new()))
    }

    async fn put(log: &EventLog, kinds: &[&'static str]) {
        let events: Vec<NewEvent> = kinds.iter().map(|kind| NewEvent::new(kind, "", json!({}))).collect();
        let put = log
            .store
            .write::<(), StoreError, _>(move |c| Box::pin(async move { rows::append(c, &events).await }));
        put.await.unwrap();
    }

    async fn numbers(stream: &mut (impl Stream<Item = Watched> + Unpin), many: usize) -> Vec<i64> {
        let mut seen = Vec::new();
        while seen.len() < many {
            match soon("an event", stream.next()).await.unwrap() {
                Watched::From(_) => {}
                Watched::Event(event) => seen.push(event.seq),
            }
        }
        seen
    }

    #[tokio::test]
    async fn a_watcher_sees_each_event_that_fits_once_and_goes_on_where_it_was() {
        let (_folder, log) = log().await;
        put(&log, &["a.x", "b.x"]).await;
        let only = Filter::new(Some("a.*"), None).unwrap();
        let mut now = Box::pin(log.watch(only.clone(), Begin::default()).await.unwrap());
        let first = soon("the beginning", now.next()).await;
        assert!(matches!(first, Some(Watched::From(2))), "{first:?}");
        for _ in 0..3 {
            put(&log, &["a.x", "b.x"]).await;
        }
        assert_eq!(numbers(&mut now, 3).await, [3, 5, 7]);
        let begin = Begin { after: Some(3), ..Begin::default() };
        let mut again = Box::pin(log.watch(only.clone(), begin).await.unwrap());
        assert_eq!(numbers(&mut again, 2).await, [5, 7]);
        // A number from a log that was lost does not make a watcher deaf.
        let begin = Begin { after: Some(900), ..Begin::default() };
        let mut lost = Box::pin(log.watch(only, begin).await.unwrap());
        assert!(matches!(soon("the beginning", lost.next()).await, Some(Watched::From(8))));
        put(&log, &["a.x"]).await;
        assert_eq!(numbers(&mut lost, 1).await, [9]);
        log.shutdown.cancel();
        assert!(soon("the end", lost.next()).await.is_none());
    }

    #[tokio::test]
    async fn many_events_come_in_steps_without_a_gap() {
        let (_folder, log) = log().await;
        put(&log, &vec!["a.x"; STEP as usize * 2 + 7]).await;
        let begin = Begin { after: Some(0), ..Begin::default() };
        let mut all = Box::pin(log.watch(Filter::default(), begin).await.unwrap());
        let seen = numbers(&mut all, STEP as usize * 2 + 7).await;
        assert!(seen.into_iter().eq(1..=i64::from(STEP) * 2 + 7));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let (_folder, mut log) = log().await;
        put(&log, &["a.x"; 9]).await;
        log.retention.max_events = 4;
        log.sweep().await.unwrap();
        let kept = log.page(&Filter::default(), Begin::default(), 100).await.unwrap();
        assert_eq!(kept.iter().map(|event| event.seq).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }
}
