//! The events of a job, from the first to the last, and those of the whole grid.

use super::{Client, ClientError, feed::Feed};
use std::time::Duration;
use windlass_types::{
    JobId,
    api::{
        JobEvent, JobEventKind, Page,
        events::{Event, EventsQuery},
    },
};

/// How long a master may be away before its job is given up on. The job itself goes on.
const AWAY: Duration = Duration::from_secs(120);

/// The events of one job. Ends after `finished`.
pub struct Events {
    feed: Feed<JobEvent>,
    finished: bool,
}

impl Client {
    /// Follow a job from now on. The first event is a snapshot of it.
    pub fn events(&self, job: JobId) -> Events {
        let path = vec!["jobs".into(), job.to_string(), "events".into()];
        Events { feed: self.feed(path, Vec::new(), Some(AWAY)), finished: false }
    }

    /// Follow what happens on the grid, whatever becomes of the connection.
    pub fn follow_log(&self, query: &EventsQuery) -> Feed<Event> {
        self.feed(vec!["events".into()], pairs(query), None)
    }

    /// What happened on the grid, oldest first, `most` at most.
    pub async fn log(&self, query: &EventsQuery, most: usize) -> Result<Vec<Event>, ClientError> {
        if query.last.is_some() {
            let query = EventsQuery { limit: query.last.map(|last| last.max(1)), ..query.clone() };
            let page: Page<Event> =
                self.fetch(self.request(reqwest::Method::GET, &["events"]).query(&query)).await?;
            return Ok(page.items);
        }
        // The cursor of a page goes where the beginning was.
        let begin = query.after;
        let query = pairs(&EventsQuery { after: None, ..query.clone() });
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.pages_after(&["events"], &query, begin.map(|seq| seq.to_string()), most).await
    }
}

fn pairs(query: &EventsQuery) -> Vec<(&'static str, String)> {
    let EventsQuery { after, last, since_ms, kind, node, limit } = query;
    let number = |number: &Option<u32>| number.map(|number| number.to_string());
    [
        ("after", after.map(|seq| seq.to_string())),
        ("last", number(last)),
        ("since_ms", since_ms.map(|ms| ms.to_string())),
        ("kind", kind.clone()),
        ("node", node.clone()),
        ("limit", number(limit)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

impl Events {
    /// The next event; none after the last. May be dropped and called again at any time.
    ///
    /// # Errors
    /// If the master says no, or stays away for two minutes.
    pub async fn next(&mut self) -> Result<Option<JobEvent>, ClientError> {
        if self.finished {
            return Ok(None);
        }
        let event = self.feed.next().await?;
        self.finished = matches!(event.kind, JobEventKind::Finished { .. });
        Ok(Some(event))
    }
}
