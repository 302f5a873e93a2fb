//! A stream of server-sent events over as many connections as it takes.

use super::{Client, ClientError, sse};
use reqwest::{Method, Response, header};
use serde::de::DeserializeOwned;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A stream that says nothing for so long, not even that it is alive, is dead.
const QUIET: Duration = Duration::from_secs(45);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a stream is, and how far it has been read.
pub struct Feed<T> {
    client: Client,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    /// How long the master may stay away once the stream has begun; for ever unless told.
    patience: Option<Duration>,
    last_id: Option<String>,
    stream: Option<(Response, sse::Parser)>,
    ready: VecDeque<T>,
    /// Since when there has been no event over a new connection.
    away: Option<Instant>,
}

impl Client {
    /// A stream of events at a path of the API.
    pub(super) fn feed<T>(
        &self,
        path: Vec<String>,
        query: Vec<(&'static str, String)>,
        patience: Option<Duration>,
    ) -> Feed<T> {
        Feed {
            client: self.clone(),
            path,
            query,
            patience,
            last_id: None,
            stream: None,
            ready: VecDeque::new(),
            away: None,
        }
    }
}

impl<T: DeserializeOwned> Feed<T> {
    /// The next event. May be dropped and called again at any time.
    ///
    /// # Errors
    /// If the master says no, can't be reached at all, or stays away for too long.
    pub async fn next(&mut self) -> Result<T, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            match &mut self.stream {
                None => self.connect().await?,
                Some((response, parser)) => match tokio::time::timeout(QUIET, response.chunk()).await {
                    Ok(Ok(Some(bytes))) => match parser.push(&bytes) {
                        Ok(events) => self.take(events)?,
                        Err(sse::TooLong) => self.stream = None,
                    },
                    // It ended, broke or went silent: go on where it stopped.
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
        match self.open().await {
            Ok(response) => {
                self.stream = Some((response, sse::Parser::default()));
                Ok(())
            }
            Err(error) if !error.is_passing() => Err(error),
            Err(error) => match self.patience {
                Some(patience) if since.elapsed() >= patience => {
                    Err(ClientError::EventsLost(Box::new(error)))
                }
                Some(_) => Ok(()),
                // Who waits for ever has seen at least that there is a stream.
                None if self.last_id.is_none() => Err(error),
                None => Ok(()),
            },
        }
    }

    async fn open(&self) -> Result<Response, ClientError> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let mut request = self
            .client
            .request(Method::GET, &path)
            .query(&self.query)
            .header(header::ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        self.client.send(request).await
    }

    fn take(&mut self, events: Vec<sse::Event>) -> Result<(), ClientError> {
        for event in events {
            let path = || format!("/{}", self.path.join("/"));
            let parsed = serde_json::from_str(&event.data)
                .map_err(|source| ClientError::Reply { path: path(), source })?;
            self.away = None;
            self.ready.push_back(parsed);
        }
        // Also of what had no data: the master tells so where a stream begins.
        if let Some(id) = self.stream.as_ref().and_then(|(_, parser)| parser.last_id()) {
            self.last_id = Some(id.to_owned());
        }
        Ok(())
    }
}
