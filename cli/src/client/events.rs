//! The events of a job, from the first to the last, over as many connections as it takes.

use super::{Client, ClientError, sse};
use reqwest::{Method, Response, header};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use windlass_types::{
    JobId,
    api::{JobEvent, JobEventKind},
};

/// A stream that says nothing for so long, not even that it is alive, is dead.
const QUIET: Duration = Duration::from_secs(45);
/// How long a master may be away before its job is given up on. The job itself goes on.
const AWAY: Duration = Duration::from_secs(120);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// The events of one job. Ends after `finished`.
pub struct Events {
    client: Client,
    job: JobId,
    last_id: Option<String>,
    stream: Option<(Response, sse::Parser)>,
    ready: VecDeque<JobEvent>,
    /// Since when there has been no event over a new connection.
    away: Option<Instant>,
    finished: bool,
}

impl Client {
    /// Follow a job from now on. The first event is a snapshot of it.
    pub fn events(&self, job: JobId) -> Events {
        Events {
            client: self.clone(),
            job,
            last_id: None,
            stream: None,
            ready: VecDeque::new(),
            away: None,
            finished: false,
        }
    }

    async fn event_stream(&self, job: JobId, last_id: Option<&str>) -> Result<Response, ClientError> {
        let mut request = self
            .request(Method::GET, &["jobs", &job.to_string(), "events"])
            .header(header::ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        self.send(request).await
    }
}

impl Events {
    /// The next event; none after the last. May be dropped and called again at any time.
    ///
    /// # Errors
    /// If the master says no, or stays away for two minutes.
    pub async fn next(&mut self) -> Result<Option<JobEvent>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.finished = matches!(event.kind, JobEventKind::Finished { .. });
                return Ok(Some(event));
            }
            if self.finished {
                return Ok(None);
            }
            match &mut self.stream {
                None => self.connect().await?,
                Some((response, parser)) => match tokio::time::timeout(QUIET, response.chunk()).await {
                    Ok(Ok(Some(bytes))) => match parser.push(&bytes) {
                        Ok(events) => self.take(events)?,
                        Err(sse::TooLong) => self.stream = None,
                    },
                    // It ended, broke or went silent before the last event: go on where it stopped.
                    Ok(Ok(None) | Err(_)) | Err(_) => self.stream = None,
                },
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let again = self.away.is_some() || self.last_id.is_some();
        let since = *self.away.get_or_insert_with(Instant::now);
        if again {
            // A stream that ends as soon as it begins must not become a storm of requests.
            tokio::time::sleep(PAUSE).await;
        }
        match self.client.event_stream(self.job, self.last_id.as_deref()).await {
            Ok(response) => {
                self.stream = Some((response, sse::Parser::default()));
                Ok(())
            }
            Err(error) if error.is_passing() && since.elapsed() < AWAY => Ok(()),
            Err(error) if error.is_passing() => Err(ClientError::EventsLost(Box::new(error))),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, events: Vec<sse::Event>) -> Result<(), ClientError> {
        for event in events {
            let path = || format!("/jobs/{}/events", self.job);
            let parsed = serde_json::from_str(&event.data)
                .map_err(|source| ClientError::Reply { path: path(), source })?;
            self.away = None;
            self.ready.push_back(parsed);
            self.last_id = event.id.or(self.last_id.take());
        }
        Ok(())
    }
}
