//! The route of the event log.

use super::{
    Shared,
    error::{Code, Error},
    extract::{self, Ask, page},
};
use crate::{
    events::{Begin, Watched},
    store::events::Filter,
};
use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event as Sent, KeepAlive, Sse},
    },
};
use futures_util::StreamExt as _;
use http::{HeaderMap, header};
use std::{convert::Infallible, sync::Arc, time::Duration};
use windlass_types::api::{
    Page, PageQuery,
    events::{Event, EventsQuery},
};

/// Watchers get a comment this often, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const MAX_LAST: u32 = 1000;

/// What happened on the grid, oldest first. With `Accept: text/event-stream` a stream of server-sent
/// events without end: from now on, or after `Last-Event-ID`, `after`, `since_ms` or `last`. `id` is the
/// `seq` of the event.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<i64>, Header, description = "The last event that was seen, for a stream.")),
    responses((status = 200, content((Page<Event> = "application/json"), (Event = "text/event-stream"))))
)]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let log = &shared.context.events;
    let filter = Filter::new(query.kind.as_deref(), query.node.as_deref()).ok_or_else(|| {
        Error::new(Code::BadRequest, "`kind` is no kind of event")
            .hint("kinds are lower-case words with dots, and `*` stands for any text: `node.*`")
    })?;
    if query.last.is_some_and(|last| last > MAX_LAST) {
        return Err(Error::new(Code::BadRequest, format!("`last` is more than {MAX_LAST}")));
    }
    let begin = Begin { after: query.after, since_ms: query.since_ms, last: query.last };
    if !wants_stream(&headers) {
        let limit = extract::limit(&PageQuery { after: None, limit: query.limit })?;
        let events = log.page(&filter, begin, limit + 1).await?;
        return Ok(page(events, limit, |event: &Event| event.seq.to_string()).into_response());
    }
    let begin = match last_event_id(&headers)? {
        // Whoever comes again asks as the first time, and has seen more since.
        Some(seen) => Begin { after: Some(seen), ..Begin::default() },
        None => begin,
    };
    let events = log.watch(filter, begin).await?.map(|watched| {
        Ok::<_, Infallible>(match watched {
            // Without data it is no event for the watcher, but the number counts.
            Watched::From(seq) => Sent::default().id(seq.to_string()),
            Watched::Event(event) => Sent::default()
                .id(event.seq.to_string())
                .data(serde_json::to_string(&event).unwrap_or_else(|_| "null".into())),
        })
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}

/// The last event that a watcher has seen.
///
/// # Errors
/// If it is no number.
pub(super) fn last_event_id<T: std::str::FromStr>(headers: &HeaderMap) -> Result<Option<T>, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| Error::new(Code::BadRequest, "`Last-Event-ID` is not a number"))
}
