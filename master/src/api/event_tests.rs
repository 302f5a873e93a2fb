//! The event log over HTTP.

use super::tests::{Api, job};
use crate::testing::soon;
use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// A job that has run on a node: two events.
async fn run(api: &Api, node: &str) -> String {
    let (status, made) =
        api.call(&api.operator, Method::POST, "/jobs", job(json!({ "target": { "on": [node] } }))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    api.grid.succeed(node).await.unwrap();
    made["id"].as_str().unwrap().to_owned()
}

async fn stream(api: &Api, query: &str, last_id: Option<&str>) -> BodyDataStream {
    let mut request = http::Request::builder()
        .uri(format!("/api/v1/events{query}"))
        .header("authorization", format!("Bearer {}", api.viewer))
        .header("accept", "text/html;q=0.1, text/event-stream");
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let reply = soon("a reply", api.router.clone().oneshot(request.body(Body::empty()).unwrap())).await;
    let reply = reply.unwrap();
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    reply.into_body().into_data_stream()
}

/// The id that a stream begins with.
async fn beginning(stream: &mut BodyDataStream) -> String {
    let text = soon("the beginning", stream.next()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.strip_prefix("id: ").and_then(|text| text.strip_suffix("\n\n")).expect(&text).to_owned()
}

/// The next event of a stream; each comes in a piece of its own.
async fn next(stream: &mut BodyDataStream) -> Value {
    loop {
        let text = soon("an event", stream.next()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Some(json) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str(json).unwrap();
        }
    }
}

#[tokio::test]
async fn what_happens_can_be_listed_in_pages() {
    let api = Api::new().await;
    let id = run(&api, "n1").await;
    let (_, all) = api.get("/events").await;
    let kinds: Vec<&str> =
        all["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["job.created", "job.finished"]);
    let finished = &all["items"][1];
    assert_eq!((&finished["subject"], &finished["seq"]), (&json!(id), &json!(2)));
    assert_eq!(finished["data"]["outcomes"], json!({ "succeeded": 1 }));
    assert_eq!(finished["data"]["by"], "operator");

    let (_, first) = api.get("/events?limit=1").await;
    assert_eq!((&first["items"][0]["seq"], &first["next"]), (&json!(1), &json!("1")));
    let (_, second) = api.get("/events?limit=1&after=1").await;
    assert_eq!((&second["items"][0]["seq"], second.get("next")), (&json!(2), None));
    assert_eq!(api.get("/events?last=1").await.1["items"][0]["seq"], 2);
    assert_eq!(api.get("/events?kind=*.created").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/events?node=n1").await.1["items"], json!([]));
    assert_eq!(api.get("/events?since_ms=9999999999999").await.1["items"], json!([]));
    for bad in ["kind=A", "limit=0", "last=1001", "after=x"] {
        let code = api.code(&api.viewer, Method::GET, &format!("/events?{bad}"), Value::Null).await;
        assert_eq!(code, "bad_request", "{bad}");
    }
}

#[tokio::test]
async fn a_stream_begins_now_and_goes_on_where_it_was() {
    let api = Api::new().await;
    run(&api, "n1").await;
    let mut now = stream(&api, "?kind=job.finished", None).await;
    assert_eq!(
        beginning(&mut now).await,
        "2",
        "whoever loses it before the first event knows where to go on"
    );
    run(&api, "n2").await;
    let mut again = stream(&api, "?kind=job.finished", Some("2")).await;
    for stream in [&mut now, &mut again] {
        let event = next(stream).await;
        assert_eq!((&event["seq"], &event["kind"]), (&json!(4), &json!("job.finished")));
    }
    let mut last = stream(&api, "?last=3", None).await;
    assert_eq!(beginning(&mut last).await, "1");
    assert_eq!(next(&mut last).await["seq"], 2);
}
