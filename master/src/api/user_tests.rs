//! Users and roles over the API: what changes, and from when on.

use super::tests::{Api, job};
use crate::{jobs::testing::OPERATION, store::audit};
use http::{Method, StatusCode};
use serde_json::{Value, json};

async fn token(api: &Api, new: Value) -> String {
    let (status, made) = api.call(&api.admin, Method::POST, "/tokens", new).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

async fn ok(api: &Api, method: Method, path: &str, body: Value) -> Value {
    let (status, reply) = api.call(&api.admin, method.clone(), path, body).await;
    assert!(status.is_success(), "{method} {path}: {status} {reply}");
    reply
}

async fn status(api: &Api, token: &str) -> StatusCode {
    api.call(token, Method::GET, "/whoami", Value::Null).await.0
}

#[tokio::test]
async fn a_user_comes_and_goes_with_all_tokens() {
    let api = Api::new().await;
    ok(&api, Method::POST, "/users", json!({ "name": "jane.doe", "role": "operator" })).await;
    let first = token(&api, json!({ "name": "laptop", "user": "jane.doe" })).await;
    let second = token(&api, json!({ "name": "phone", "user": "jane.doe" })).await;
    let who = api.call(&first, Method::GET, "/whoami", Value::Null).await.1;
    assert_eq!((&who["name"], &who["role"]), (&json!("jane.doe"), &json!("operator")));
    let (made, _) = api.call(&first, Method::POST, "/jobs", job(json!({}))).await;
    assert_eq!(made, StatusCode::CREATED);
    assert!(api.audited().await.contains(&("jane.doe".into(), "job.create".into(), "allowed".into())));

    // Both have been used, so both were remembered.
    assert_eq!(status(&api, &second).await, StatusCode::OK);
    ok(&api, Method::PATCH, "/users/jane.doe", json!({ "disabled": true })).await;
    assert_eq!(status(&api, &first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&api, &second).await, StatusCode::UNAUTHORIZED);
    ok(&api, Method::PATCH, "/users/jane.doe", json!({ "disabled": false })).await;
    assert_eq!(status(&api, &first).await, StatusCode::OK);

    ok(&api, Method::PATCH, "/users/jane.doe", json!({ "role": "viewer" })).await;
    assert_eq!(api.code(&first, Method::POST, "/jobs", job(json!({}))).await, "forbidden");

    let shown = ok(&api, Method::GET, "/users/jane.doe", Value::Null).await;
    assert_eq!((&shown["tokens"], &shown["role"]), (&json!(2), &json!("viewer")));
    ok(&api, Method::DELETE, "/users/jane.doe", Value::Null).await;
    assert_eq!(status(&api, &first).await, StatusCode::UNAUTHORIZED);
    let left = ok(&api, Method::GET, "/tokens", Value::Null).await;
    assert!(!left.to_string().contains("jane"), "{left}");
    assert_eq!(api.code(&api.admin, Method::GET, "/users/jane.doe", Value::Null).await, "unknown_user");
}

#[tokio::test]
async fn names_stay_apart_and_roles_are_there() {
    let api = Api::new().await;
    let code = async |path: &str, body: Value| api.code(&api.admin, Method::POST, path, body).await;
    ok(&api, Method::POST, "/users", json!({ "name": "ann", "role": "viewer" })).await;
    assert_eq!(code("/users", json!({ "name": "ann", "role": "viewer" })).await, "name_taken");
    assert_eq!(code("/users", json!({ "name": "viewer", "role": "viewer" })).await, "name_taken");
    assert_eq!(code("/users", json!({ "name": "system", "role": "viewer" })).await, "bad_request");
    assert_eq!(code("/users", json!({ "name": "bob", "role": "none" })).await, "unknown_role");
    assert_eq!(code("/tokens", json!({ "name": "ann", "role": "viewer" })).await, "name_taken");
    assert_eq!(code("/tokens", json!({ "name": "t", "role": "none" })).await, "unknown_role");
    assert_eq!(code("/tokens", json!({ "name": "t", "user": "none" })).await, "unknown_user");
    assert_eq!(code("/tokens", json!({ "name": "t" })).await, "bad_request");
    assert_eq!(code("/tokens", json!({ "name": "t", "user": "ann", "role": "admin" })).await, "bad_request");
}

#[tokio::test]
async fn a_role_holds_for_its_operations_and_nodes_only() {
    let api = Api::new().await;
    let rules = json!({ "rules": [
        { "permissions": ["nodes.read", "jobs.read"] },
        { "operations": ["monitor.*"], "effect": "read", "target": { "on": ["n1"] } },
    ] });
    ok(&api, Method::PUT, "/roles/night-shift", rules).await;
    let night = token(&api, json!({ "name": "night", "role": "night-shift" })).await;
    let run = async |on: Value| {
        api.call(&night, Method::POST, "/jobs", job(json!({ "target": { "on": on } }))).await
    };
    let (made, one) = run(json!(["n1"])).await;
    assert_eq!(made, StatusCode::CREATED, "{one}");
    let (refused, error) = run(json!(["n1", "n2"])).await;
    assert_eq!(refused, StatusCode::FORBIDDEN);
    let expected = format!("role `night-shift` does not allow `{OPERATION}` (read) on n2");
    assert_eq!(error["message"], expected);
    let jobs = api.get("/jobs").await.1;
    assert_eq!(jobs["items"].as_array().unwrap().len(), 1, "none for the nodes that would be allowed");
    let entry = audit::page(&api.grid.store, None, 1).await.unwrap().remove(0);
    assert_eq!((entry.actor.as_str(), entry.verdict.as_str()), ("night", "denied"));
    assert_eq!(entry.detail["problem"], expected);

    // Of somebody else's job it may end what it might have begun.
    let theirs = async |on: Value| {
        let made =
            api.call(&api.operator, Method::POST, "/jobs", job(json!({ "target": { "on": on } }))).await;
        format!("/jobs/{}/cancel", made.1["id"].as_str().unwrap())
    };
    let both = theirs(json!(["n*"])).await;
    assert_eq!(api.code(&night, Method::POST, &both, Value::Null).await, "forbidden");
    let first = theirs(json!(["n1"])).await;
    assert_eq!(api.call(&night, Method::POST, &first, Value::Null).await.0, StatusCode::OK);

    // A schedule looks its nodes up again, and a deployment takes a permission.
    let schedule = |on: &str| json!({ "name": "s", "job": job(json!({ "target": { "on": [on] } })), "when": { "every_ms": 60_000 } });
    assert_eq!(api.code(&night, Method::POST, "/schedules", schedule("n?")).await, "forbidden");
    ok(&api, Method::POST, "/schedules", schedule("n?")).await;
    for path in ["/schedules/s/run", "/schedules/s/pause"] {
        assert_eq!(api.code(&night, Method::POST, path, Value::Null).await, "forbidden");
    }
    ok(&api, Method::DELETE, "/schedules/s", Value::Null).await;
    assert_eq!(api.call(&night, Method::POST, "/schedules", schedule("n1")).await.0, StatusCode::CREATED);
    assert_eq!(api.code(&night, Method::GET, "/audit", Value::Null).await, "forbidden");
    assert_eq!(api.code(&night, Method::GET, "/schedules", Value::Null).await, "forbidden");
    let deployment = json!({ "plugin": "zfs", "bundle": "1.0.0" });
    assert_eq!(api.code(&night, Method::POST, "/deployments", deployment).await, "forbidden");
}

#[tokio::test]
async fn a_changed_role_counts_from_the_next_request_on() {
    let api = Api::new().await;
    let all = json!({ "rules": [{ "operations": ["*"] }, { "permissions": ["audit.read"] }] });
    ok(&api, Method::PUT, "/roles/reader", all).await;
    let reader = token(&api, json!({ "name": "reader", "role": "reader" })).await;
    let run = async || api.call(&reader, Method::POST, "/jobs", job(json!({}))).await.0;
    assert_eq!(run().await, StatusCode::CREATED);
    assert_eq!(api.call(&reader, Method::GET, "/audit", Value::Null).await.0, StatusCode::OK);
    let less = json!({ "rules": [{ "operations": ["zfs.*"] }] });
    ok(&api, Method::PUT, "/roles/reader", less).await;
    assert_eq!(run().await, StatusCode::FORBIDDEN);
    assert_eq!(api.call(&reader, Method::GET, "/audit", Value::Null).await.0, StatusCode::FORBIDDEN);

    assert_eq!(api.code(&api.admin, Method::DELETE, "/roles/reader", Value::Null).await, "role_in_use");
    for method in [Method::PUT, Method::DELETE] {
        assert_eq!(api.code(&api.admin, method, "/roles/viewer", json!({ "rules": [] })).await, "bad_role");
    }
    let bad = json!({ "rules": [{ "operations": ["["] }] });
    assert_eq!(api.code(&api.admin, Method::PUT, "/roles/reader", bad).await, "bad_role");
    ok(&api, Method::PUT, "/roles/spare", json!({ "rules": [] })).await;
    let names: Vec<Value> = ok(&api, Method::GET, "/roles", Value::Null).await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| role["name"].clone())
        .collect();
    assert_eq!(names, ["admin", "operator", "reader", "spare", "viewer"]);
    ok(&api, Method::DELETE, "/roles/spare", Value::Null).await;
    assert_eq!(api.code(&api.admin, Method::GET, "/roles/spare", Value::Null).await, "unknown_role");
}

#[tokio::test]
async fn a_check_says_why() {
    let api = Api::new().await;
    let rules = json!({ "rules": [
        { "permissions": ["nodes.read"] },
        { "operations": ["monitor.*"], "target": { "where": "node.name == 'n1'" } },
    ] });
    ok(&api, Method::PUT, "/roles/night-shift", rules).await;
    let asked = json!({ "operation": OPERATION, "target": { "on": ["*"] } });
    let said = ok(&api, Method::POST, "/roles/night-shift/check", asked.clone()).await;
    assert_eq!(said["allowed"], false);
    assert_eq!(said["reason"], format!("role `night-shift` does not allow `{OPERATION}` (read) on n2"));
    assert_eq!(said["nodes"], json!([{ "name": "n1", "rule": 2 }, { "name": "n2" }]));
    let said = ok(&api, Method::POST, "/roles/operator/check", asked).await;
    assert_eq!((&said["allowed"], &said["effect"]), (&json!(true), &json!("read")));
    let unknown = json!({ "operation": "zfs.pool.destroy", "target": { "on": ["*"] } });
    assert_eq!(api.code(&api.admin, Method::POST, "/roles/viewer/check", unknown).await, "unknown_operation");
}
