//! Schedules over HTTP.

use super::{
    auth,
    tests::{Api, job},
};
use http::{Method, StatusCode};
use serde_json::{Value, json};

fn schedule(change: Value) -> Value {
    let mut all = json!({ "name": "nightly", "job": job(json!({})), "when": { "cron": "0 3 * * *" } });
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    all
}

#[test]
fn who_may_run_an_operation_may_schedule_it_and_nobody_else() {
    let jobs = auth::rule(&Method::POST, "/api/v1/jobs");
    assert!(jobs.is_some());
    for (method, path) in [
        (Method::POST, "/api/v1/schedules"),
        (Method::POST, "/api/v1/schedules/{name}/run"),
        (Method::POST, "/api/v1/schedules/{name}/resume"),
    ] {
        assert_eq!(auth::rule(&method, path), jobs, "{path}");
    }
}

#[tokio::test]
async fn a_schedule_over_the_api() {
    let api = Api::new().await;
    let (status, made) = api.call(&api.operator, Method::POST, "/schedules", schedule(json!({}))).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!((&made["created_by"], &made["missed"]), (&json!("operator"), &json!("skip")));
    assert_eq!(made["max_running"], 1);
    assert_eq!(api.get("/schedules").await.1["items"][0]["name"], "nightly");
    let times = api.get("/schedules/nightly/next?count=3").await.1["times_ms"].clone();
    let times: Vec<i64> = serde_json::from_value(times).unwrap();
    assert_eq!(
        (times.len(), times[1] - times[0], times[0]),
        (3, 86_400_000, made["next_ms"].as_i64().unwrap())
    );

    let (status, run) = api.call(&api.operator, Method::POST, "/schedules/nightly/run", Value::Null).await;
    assert_eq!((status, &run["state"], &run["manual"]), (StatusCode::CREATED, &json!("fired"), &json!(true)));
    let made = api.get(&format!("/jobs/{}", run["job"].as_str().unwrap())).await.1;
    assert_eq!(made["created_by"], "schedule:nightly");
    assert_eq!(api.get("/schedules/nightly/runs").await.1["items"], json!([run]));
    let code = api.code(&api.operator, Method::POST, "/schedules/nightly/run", Value::Null).await;
    assert_eq!(code, "schedule_running");

    for (action, paused) in [("pause", true), ("resume", false)] {
        let path = format!("/schedules/nightly/{action}");
        let (_, changed) = api.call(&api.operator, Method::POST, &path, Value::Null).await;
        assert_eq!(changed["paused"], paused);
    }
    for (change, code) in [
        (json!({}), "name_taken"),
        (json!({ "name": "x", "when": { "cron": "x" } }), "bad_schedule"),
        (json!({ "name": "x", "when": { "every_ms": 5000, "evry_ms": 1 } }), "bad_json"),
        (json!({ "name": "No" }), "bad_json"),
        (json!({ "name": "x", "job": job(json!({ "operation": "a.b.c" })) }), "unknown_operation"),
    ] {
        let given = api.code(&api.operator, Method::POST, "/schedules", schedule(change)).await;
        assert_eq!(given, code);
    }
    assert_eq!(api.code(&api.viewer, Method::POST, "/schedules", schedule(json!({}))).await, "forbidden");
    let (status, _) = api.call(&api.operator, Method::DELETE, "/schedules/nightly", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let code = api.code(&api.viewer, Method::GET, "/schedules/nightly", Value::Null).await;
    assert_eq!(code, "unknown_schedule");
}
