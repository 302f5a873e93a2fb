//! What comes in with a request: bodies, queries and path segments, each with errors of ours.

use super::error::{Code, Error};
use axum::{
    Json, RequestPartsExt as _,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::BytesRejection},
};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde::{Serialize, de::DeserializeOwned};
use std::time::Duration;
use windlass_types::api::{Page, PageQuery};

/// Bytes of a body at most.
pub const MAX_BODY: usize = 1 << 20;
/// A body that is not there by then is not waited for.
const BODY_TIME: Duration = Duration::from_secs(30);

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;
    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state))
            .await
            .map_err(|_| Error::new(Code::Timeout, "the body did not come in time"))?
            .map_err(|error| bad_body(&error))?;
        let value =
            serde_json::from_slice(if bytes.is_empty() { b"{}" } else { &bytes }).map_err(|error| {
                Error::new(Code::BadJson, format!("the body is not what is asked for: {error}"))
            })?;
        Ok(Body(value))
    }
}

fn bad_body(error: &BytesRejection) -> Error {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Error::new(Code::BodyTooLarge, "the body is larger than this route takes")
    } else {
        Error::new(Code::BadRequest, error.body_text())
    }
}

/// A query.
pub struct Ask<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequestParts<S> for Ask<T> {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        match parts.extract::<Query<T>>().await {
            Ok(Query(value)) => Ok(Ask(value)),
            Err(error) => Err(Error::new(Code::BadRequest, error.body_text())),
        }
    }
}

/// A path segment, not yet parsed.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        match parts.extract::<axum::extract::Path<String>>().await {
            Ok(axum::extract::Path(text)) => Ok(Segment(text)),
            Err(error) => Err(Error::new(Code::BadRequest, error.body_text())),
        }
    }
}

/// Items of a page unless told.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// How many items a page may have.
///
/// # Errors
/// If it is out of bounds.
pub fn limit(query: &PageQuery) -> Result<u32, Error> {
    match query.limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        Some(limit) => {
            Err(Error::new(Code::BadRequest, format!("`limit` is {limit}: expected 1 to {MAX_LIMIT}")))
        }
    }
}

/// Parse the `after` of a query.
///
/// # Errors
/// If it is none that a page gave.
pub fn after<T: std::str::FromStr>(query: &PageQuery) -> Result<Option<T>, Error> {
    let parse = |text: &String| {
        text.parse().map_err(|_| Error::new(Code::BadRequest, "`after` is not the `next` of a page"))
    };
    query.after.as_ref().map(parse).transpose()
}

/// A page out of up to one item more than its limit.
pub fn page<T: Serialize>(mut items: Vec<T>, limit: u32, cursor: impl FnOnce(&T) -> String) -> Json<Page<T>> {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Json(Page { items, next })
}
