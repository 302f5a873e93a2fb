//! What machines look at: health, figures, the description of the API.

use super::{Shared, error::Error};
use axum::{Json, extract::State};
use http::header;
use std::sync::Arc;

/// The process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// The master can do its work: its database answers.
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Result<&'static str, Error> {
    shared.context.store.ping().await?;
    Ok("ready\n")
}

/// Figures for Prometheus.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> ([(header::HeaderName, &'static str); 1], String) {
    let jobs = &shared.context.jobs;
    let text = jobs.metrics().render(&shared.context.fleet.nodes(), jobs.running());
    ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text)
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "access", responses((status = 200, body = serde_json::Value)))]
pub async fn openapi(State(shared): State<Arc<Shared>>) -> Json<Arc<utoipa::openapi::OpenApi>> {
    Json(shared.openapi.clone())
}
