use super::*;
use crate::{
    jobs::{
        NodeEvents as _, Options,
        testing::{Grid, LAST_SEEN_MS, OPERATION, success},
    },
    store::{audit, tokens},
    testing::{Rig, soon},
};
use axum::body::Body;
use futures_util::StreamExt as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tower::ServiceExt as _;
use windlass_identity::NodeKey;
use windlass_types::api::{NewToken, Role};

/// The API over a real fleet without nodes of its own, and jobs over nodes in memory.
pub(super) struct Api {
    pub grid: Grid,
    rig: Rig,
    pub router: Router,
    pub viewer: String,
    pub operator: String,
    pub admin: String,
}

impl Api {
    pub async fn new() -> Self {
        let rig = Rig::start().await;
        let grid = Grid::with(
            Options {
                grace: Duration::from_millis(100),
                reconnect: Duration::from_millis(100),
                pauses: crate::jobs::Pauses {
                    busy: Duration::from_millis(1),
                    failed: Duration::from_millis(1),
                },
                retention: crate::config::Retention::default(),
            },
            &["n1", "n2"],
        )
        .await;
        let context = context(&rig, &grid).await;
        let token = async |role: Role| {
            let new =
                NewToken { name: role.as_str().into(), role: Some(role.into()), user: None, ttl_ms: None };
            tokens::create(&grid.store, &new).await.unwrap().token.unwrap()
        };
        let (viewer, operator, admin) =
            (token(Role::Viewer).await, token(Role::Operator).await, token(Role::Admin).await);
        Api { router: router(context), grid, rig, viewer, operator, admin }
    }

    async fn send(&self, token: Option<&str>, method: Method, path: &str, body: Body) -> Response {
        let mut request = http::Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        soon("a reply", self.router.clone().oneshot(request.body(body).unwrap())).await.unwrap()
    }

    pub async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let reply = self.send(Some(token), method, &format!("/api/v1{path}"), body).await;
        (reply.status(), read(reply).await)
    }
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(&self.viewer, Method::GET, path, Value::Null).await
    }
    /// The code of the error that a call gives, after a look at its form.
    pub async fn code(&self, token: &str, method: Method, path: &str, body: Value) -> String {
        let (status, error) = self.call(token, method, path, body).await;
        let code = error["code"].as_str().unwrap_or_else(|| panic!("{path}: {status} {error}"));
        let known = Code::ALL.iter().find(|known| known.as_str() == code).unwrap();
        assert_eq!(known.status(), status);
        assert!(!error["message"].as_str().unwrap().is_empty());
        code.to_owned()
    }
    pub async fn audited(&self) -> Vec<(String, String, String)> {
        let entries = audit::page(&self.grid.store, None, 100).await.unwrap();
        audit::verify(&self.grid.store).await.unwrap();
        entries.into_iter().map(|entry| (entry.actor, entry.action, entry.verdict)).collect()
    }
}

pub(super) fn planner(rig: &Rig, config: &Config) -> Planner {
    Planner::new(config, rig.bundles.clone(), rig.fleet.clone(), rig.status.clone())
}

async fn context(rig: &Rig, grid: &Grid) -> Context {
    let events = EventLog::new(grid.store.clone(), Default::default(), rig.shutdown.clone());
    Context {
        config: rig.config.clone(),
        // One log for all of it.
        store: grid.store.clone(),
        fleet: rig.fleet.clone(),
        catalog: rig.catalog.clone(),
        jobs: grid.jobs.clone(),
        bundles: rig.bundles.clone(),
        rules: Rules::open(grid.store.clone(), events.clone(), grid.jobs.clone()).await.unwrap(),
        events,
        plans: crate::plans::Plans::open(
            Default::default(),
            Default::default(),
            grid.store.clone(),
            grid.jobs.clone(),
            rig.shutdown.clone(),
        )
        .await
        .unwrap(),
        planner: planner(rig, &rig.config),
        schedules: Schedules::open(grid.store.clone(), grid.jobs.clone()).await.unwrap(),
        status: Statuses::open(grid.store.clone(), rig.fleet.clone()).await.unwrap(),
        vault: grid.vault.clone(),
    }
}

async fn read(reply: Response) -> Value {
    let bytes = axum::body::to_bytes(reply.into_body(), 64 << 20).await.unwrap();
    if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() }
}

pub(super) fn job(change: Value) -> Value {
    let mut job = json!({ "operation": OPERATION, "target": { "on": ["n1"] } });
    job.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    job
}

/// The routes that the router really has: those that are described, and those beside them.
fn routes() -> BTreeSet<(String, String)> {
    let (_, openapi) = documented();
    let described = openapi.paths.paths.iter().flat_map(|(path, item)| {
        [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("DELETE", &item.delete),
            ("PATCH", &item.patch),
        ]
        .into_iter()
        .filter(|(_, operation)| operation.is_some())
        .map(|(method, _)| (method.to_owned(), path.clone()))
    });
    let beside = ["/healthz", "/readyz", "/metrics"].map(|path| ("GET".to_owned(), path.to_owned()));
    described.chain(beside).collect()
}

#[test]
fn every_route_has_a_rule_and_every_rule_a_route() {
    let rules: BTreeSet<(String, String)> =
        auth::RULES.iter().map(|(method, path, _)| (method.to_string(), (*path).to_owned())).collect();
    assert_eq!(routes(), rules);
    assert_eq!(rules.len(), auth::RULES.len(), "two rules for one route");
    let open: Vec<&str> = auth::RULES
        .iter()
        .filter(|(_, _, rule)| *rule == auth::Rule::Open)
        .map(|(_, path, _)| *path)
        .collect();
    assert_eq!(open, ["/healthz", "/readyz"]);
}

#[tokio::test]
async fn no_route_answers_without_a_good_token_or_with_too_small_a_role() {
    let api = Api::new().await;
    for (method, path, rule) in auth::RULES {
        if *rule == auth::Rule::Open {
            continue;
        }
        let role = role_tests::least(method.as_str(), path).unwrap();
        let path = path.replace(['{', '}'], "");
        let reply = api.send(None, method.clone(), &path, Body::empty()).await;
        let status = reply.status();
        assert!(
            [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS].contains(&status),
            "{method} {path}: {status}"
        );
        for (token, has) in [(&api.viewer, Role::Viewer), (&api.operator, Role::Operator)] {
            if has < role {
                let status = api.send(Some(token), method.clone(), &path, Body::empty()).await.status();
                assert!(
                    [StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS].contains(&status),
                    "{} {method} {path}: {status}",
                    has.as_str()
                );
            }
        }
    }
    assert_eq!(api.send(None, Method::GET, "/healthz", Body::empty()).await.status(), StatusCode::OK);
    assert_eq!(api.send(None, Method::GET, "/readyz", Body::empty()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn tokens_live_and_die() {
    let api = Api::new().await;
    let (status, who) = api.get("/whoami").await;
    assert_eq!((status, &who["role"]), (StatusCode::OK, &json!("viewer")));
    let never = format!("wl_{}", "A".repeat(43));
    for bad in ["", "wl_", "wl_short", never.as_str(), &api.viewer[3..], &format!("{}x", api.viewer)] {
        let reply = api.send(Some(bad), Method::GET, "/api/v1/whoami", Body::empty()).await;
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED, "{bad}");
    }
    let new = json!({ "name": "ci", "role": "operator" });
    let (status, made) = api.call(&api.admin, Method::POST, "/tokens", new).await;
    assert_eq!(status, StatusCode::CREATED);
    let (secret, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(secret.starts_with("wl_"));
    assert_eq!(api.call(secret, Method::GET, "/whoami", Value::Null).await.1["name"], "ci");
    let listed = api.call(&api.admin, Method::GET, "/tokens", Value::Null).await.1;
    assert_eq!(listed["items"].as_array().unwrap().len(), 4);
    assert!(!listed.to_string().contains(secret));
    let in_database: Vec<String> = crate::store::sql::query("SELECT hash FROM tokens")
        .fetch_all(api.grid.store.readers())
        .await
        .unwrap()
        .iter()
        .map(|row| row.try_get("hash").unwrap())
        .collect();
    assert!(in_database.iter().all(|hash| !hash.contains(&secret[3..])));

    let path = format!("/tokens/{id}");
    assert_eq!(api.call(&api.admin, Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(
        api.call(secret, Method::GET, "/whoami", Value::Null).await.0,
        StatusCode::UNAUTHORIZED,
        "at once"
    );
    assert_eq!(api.code(&api.admin, Method::DELETE, &path, Value::Null).await, "unknown_token");

    let short = json!({ "name": "short", "role": "viewer", "ttl_ms": 1 });
    let short = api.call(&api.admin, Method::POST, "/tokens", short).await.1;
    soon("the end of the token", async {
        let secret = short["token"].as_str().unwrap();
        while api.call(secret, Method::GET, "/whoami", Value::Null).await.0 != StatusCode::UNAUTHORIZED {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for bad in [
        json!({ "name": " ", "role": "viewer" }),
        json!({ "name": "system", "role": "viewer" }),
        json!({ "name": "schedule:nightly", "role": "viewer" }),
        json!({ "name": "x", "role": "viewer", "ttl_ms": 0 }),
    ] {
        assert_eq!(api.code(&api.admin, Method::POST, "/tokens", bad).await, "bad_request");
    }
    let bad = json!({ "name": "x", "role": "root" });
    assert_eq!(api.code(&api.admin, Method::POST, "/tokens", bad).await, "unknown_role");
}

#[tokio::test]
async fn denials_are_noted_up_to_a_rate_and_never_hold_up_a_good_token() {
    let api = Api::new().await;
    assert_eq!(api.code(&api.viewer, Method::POST, "/jobs", job(json!({}))).await, "forbidden");
    assert_eq!(api.audited().await[0], ("viewer".into(), "api.request".into(), "denied".into()));
    let mut last = String::new();
    for _ in 0..40 {
        last = api.code("wl_nobody", Method::GET, "/nodes", Value::Null).await;
    }
    assert_eq!(last, "too_many_attempts");
    let denied = api.audited().await.iter().filter(|(actor, _, _)| actor == "unknown").count();
    assert_eq!(denied, 20);
    assert_eq!(api.get("/nodes").await.0, StatusCode::OK, "from the same place");
    let metrics = api.send(Some(&api.viewer), Method::GET, "/metrics", Body::empty()).await;
    let text = axum::body::to_bytes(metrics.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("windlass_api_denials_total 41"));
}

#[tokio::test]
async fn a_job_over_the_api() {
    let api = Api::new().await;
    let resolved = api.call(&api.viewer, Method::POST, "/targets/resolve", json!({ "on": ["n*"] })).await;
    assert_eq!(resolved.1["nodes"].as_array().unwrap().len(), 2);

    let serving = api.call(&api.operator, Method::POST, "/jobs?wait_ms=20000", job(json!({})));
    let node = async {
        soon("the request", async {
            while api.grid.fleet.sent().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        api.grid.succeed("n1").await.unwrap();
    };
    let ((status, made), ()) = tokio::join!(serving, node);
    assert_eq!((status, &made["state"]), (StatusCode::CREATED, &json!("finished")));
    assert_eq!(made["results"][0]["outcome"]["value"]["big"], json!(u64::MAX));
    assert_eq!(made["created_by"], "operator");
    assert_eq!(made["results"][0]["plugin_version"], "1.0.0");
    let id = made["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/jobs/{id}/nodes")).await.1["items"][0]["plugin_version"], "1.0.0");
    assert_eq!(api.get(&format!("/jobs/{id}")).await.1["outcomes"], json!({ "succeeded": 1 }));
    assert_eq!(api.get("/jobs").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.get(&format!("/jobs/{id}/nodes")).await.1["items"][0]["name"], "n1");
    assert_eq!(api.get(&format!("/jobs/{id}/nodes/n1/trace")).await.1["entries"], json!([]));
    let cancel = format!("/jobs/{id}/cancel");
    assert_eq!(api.code(&api.operator, Method::POST, &cancel, Value::Null).await, "job_finished");
    assert!(api.audited().await.contains(&("operator".into(), "job.create".into(), "allowed".into())));
}

#[tokio::test]
async fn pages_of_nodes_of_a_job() {
    let api = Api::new().await;
    let made =
        api.call(&api.operator, Method::POST, "/jobs", job(json!({ "target": { "on": ["*"] } }))).await.1;
    let id = made["id"].as_str().unwrap();
    let first = api.get(&format!("/jobs/{id}/nodes?limit=1")).await.1;
    let next = first["next"].as_str().unwrap();
    let second = api.get(&format!("/jobs/{id}/nodes?limit=1&after={next}")).await.1;
    assert_eq!((&first["items"][0]["name"], &second["items"][0]["name"]), (&json!("n1"), &json!("n2")));
    assert_eq!(second.get("next"), None);
    let more = api.call(&api.operator, Method::POST, "/jobs", job(json!({}))).await.1;
    let newest = api.get("/jobs?limit=1").await.1;
    assert_eq!(newest["items"][0]["id"], more["id"]);
    let older = api.get(&format!("/jobs?limit=1&after={}", newest["next"].as_str().unwrap())).await.1;
    assert_eq!(older["items"][0]["id"], made["id"]);
    assert_eq!(older.get("next"), None);
}

#[tokio::test]
async fn events_stream_and_resume() {
    let api = Api::new().await;
    let made = api.call(&api.operator, Method::POST, "/jobs", job(json!({}))).await.1;
    let path = format!("/api/v1/jobs/{}/events", made["id"].as_str().unwrap());
    let reply = api.send(Some(&api.viewer), Method::GET, &path, Body::empty()).await;
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let mut body = reply.into_body().into_data_stream();
    let first = soon("the snapshot", body.next()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains(r#""event":"snapshot""#));
    api.grid.succeed("n1").await.unwrap();
    let rest = soon(
        "the end",
        body.map(Result::unwrap)
            .fold(String::new(), async |text, bytes| text + &String::from_utf8_lossy(&bytes)),
    )
    .await;
    let ids: Vec<u64> =
        rest.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect();
    assert_eq!(ids.len(), 2, "{rest}");
    assert!(rest.trim_end().ends_with('}') && rest.contains(r#""event":"finished""#));

    let request = http::Request::builder()
        .uri(&path)
        .header("authorization", format!("Bearer {}", api.viewer))
        .header("last-event-id", "abc");
    let reply = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(read(reply).await["code"], "bad_request");
}

#[tokio::test]
async fn nodes_are_accepted_changed_and_removed() {
    let api = Api::new().await;
    let key = NodeKey::generate().unwrap();
    api.rig.ask(&key, "host1", "", 0).await.unwrap();
    let pending = api.get("/nodes?state=pending").await.1;
    let id = pending["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(pending["items"][0]["fingerprint"], key.fingerprint().to_string());
    assert_eq!(api.get("/nodes?state=accepted").await.1["items"], json!([]));

    let path = |action: &str| format!("/nodes/host1{action}");
    let wrong = json!({ "fingerprint": windlass_types::Digest::of(b"other") });
    assert_eq!(api.code(&api.admin, Method::POST, &path("/accept"), wrong).await, "wrong_fingerprint");
    let right = json!({ "fingerprint": key.fingerprint() });
    let (status, node) = api.call(&api.admin, Method::POST, &path("/accept"), right).await;
    assert_eq!((status, &node["state"]), (StatusCode::OK, &json!("accepted")));
    let change = json!({ "labels": { "rack": "a" }, "flags": { "maintenance": true } });
    let changed = api.call(&api.operator, Method::PATCH, &path(""), change).await.1;
    assert_eq!((&changed["labels"]["rack"], &changed["flags"]), (&json!("a"), &json!(["maintenance"])));
    assert_eq!(api.code(&api.admin, Method::POST, &path("/reject"), Value::Null).await, "wrong_state");
    assert_eq!(api.call(&api.admin, Method::POST, &path("/revoke"), Value::Null).await.1["state"], "revoked");
    assert_eq!(api.get(&format!("/nodes/{id}")).await.1["state"], "revoked");
    assert_eq!(
        api.call(&api.admin, Method::DELETE, &format!("/nodes/{id}"), Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        api.code(&api.viewer, Method::GET, &format!("/nodes/{id}"), Value::Null).await,
        "unknown_node"
    );

    let actions: Vec<String> =
        api.audited().await.into_iter().map(|(_, action, _)| action).rev().skip(3).collect();
    assert_eq!(
        actions,
        [
            "node.accept",
            "node.accept",
            "node.accept",
            "node.change",
            "node.reject",
            "node.reject",
            "node.revoke",
            "node.delete"
        ],
        "what failed has a second entry that says so"
    );
}

#[tokio::test]
async fn pages_of_nodes_hold_when_nodes_go() {
    let api = Api::new().await;
    for name in ["a1", "a2", "a3"] {
        api.rig.join(name).await;
    }
    let first = api.get("/nodes?limit=1").await.1;
    assert_eq!(first["items"][0]["name"], "a1");
    let next = first["next"].as_str().unwrap().to_owned();
    assert_eq!(
        api.call(&api.admin, Method::DELETE, "/nodes/a1", Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    let second = api.get(&format!("/nodes?limit=5&after={next}")).await.1;
    let names: Vec<&str> =
        second["items"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a2", "a3"]);
    assert_eq!(second.get("next"), None);
}

#[tokio::test]
async fn join_tokens_over_the_api() {
    let api = Api::new().await;
    let (status, made) =
        api.call(&api.admin, Method::POST, "/join-tokens", json!({ "labels": { "rack": "a" } })).await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(made["token"].as_str().is_some());
    let second = api.call(&api.admin, Method::POST, "/join-tokens", Value::Null).await.1;
    let first_page = api.call(&api.admin, Method::GET, "/join-tokens?limit=1", Value::Null).await.1;
    let next = first_page["next"].as_str().unwrap();
    let last_page =
        api.call(&api.admin, Method::GET, &format!("/join-tokens?after={next}"), Value::Null).await.1;
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let ids: BTreeSet<String> = [&first_page, &last_page].map(|page| id(&page["items"][0])).into();
    assert_eq!(ids, [&made, &second].map(id).into());
    assert_eq!(last_page["items"][0].get("token"), None);
    let path = format!("/join-tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(api.call(&api.admin, Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(api.code(&api.admin, Method::DELETE, &path, Value::Null).await, "unknown_join_token");
    assert_eq!(
        api.code(&api.admin, Method::POST, "/join-tokens", json!({ "ttl_ms": 0 })).await,
        "bad_change"
    );
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let api = Api::new().await;
    let post = async |change: Value| api.call(&api.operator, Method::POST, "/jobs", job(change)).await.1;
    let unknown = post(json!({ "operation": "monitor.system.reed" })).await;
    assert_eq!(unknown["code"], "unknown_operation");
    assert_eq!(unknown["hint"], "did you mean `monitor.system.read`?");
    let bad = post(json!({ "args": { "limit": [] } })).await;
    assert_eq!((&bad["code"], &bad["pointer"]), (&json!("bad_arguments"), &json!("/limit")));
    assert!(bad["message"].as_str().unwrap().contains("u8"), "{bad}");
    for (change, code) in [
        (json!({ "target": {} }), "bad_target"),
        (json!({ "target": { "on": ["["] } }), "bad_target"),
        (json!({ "target": { "on": ["n7"] } }), "unknown_node"),
        (json!({ "target": { "on": ["x*"] } }), "empty_target"),
        (json!({ "target": { "where": "node." } }), "bad_where"),
        (json!({ "deadline_ms": 0 }), "bad_deadline"),
        (json!({ "dead_line_ms": 5 }), "bad_json"),
        (json!({ "operation": "../etc" }), "bad_json"),
    ] {
        assert_eq!(post(change.clone()).await["code"], code, "{change}");
    }
    let near = post(json!({ "target": { "on": ["n7"] } })).await;
    assert_eq!(near["hint"], "did you mean `n1` or `n2`?");

    for (method, path, code) in [
        (Method::GET, "/nope", "not_found"),
        (Method::PUT, "/jobs", "method_not_allowed"),
        (Method::GET, "/jobs?limit=0", "bad_request"),
        (Method::GET, "/jobs?limit=1001", "bad_request"),
        (Method::GET, "/jobs?limit=x", "bad_request"),
        (Method::GET, "/jobs?after=x", "bad_request"),
        (Method::GET, "/nodes?after=x", "bad_request"),
        (Method::GET, "/nodes?state=lost", "bad_request"),
        (Method::GET, "/jobs/1", "bad_request"),
        (Method::GET, "/jobs/00000000-0000-4000-8000-000000000000", "unknown_job"),
        (Method::GET, "/jobs/00000000-0000-4000-8000-000000000000/nodes", "unknown_job"),
        (Method::GET, "/jobs/00000000-0000-4000-8000-000000000000/events", "unknown_job"),
        (Method::POST, "/jobs/00000000-0000-4000-8000-000000000000/cancel", "unknown_job"),
        (Method::GET, "/jobs/00000000-0000-4000-8000-000000000000/nodes/n1/trace", "unknown_job"),
        (Method::GET, "/operations/zfs.pool.list", "unknown_operation"),
        (Method::GET, "/operations/%00", "unknown_operation"),
        (Method::GET, "/nodes/none", "unknown_node"),
        (Method::DELETE, "/nodes/none", "unknown_node"),
        (Method::GET, "/join-tokens?after=x", "bad_request"),
        (Method::GET, "/audit?after=x", "bad_request"),
    ] {
        assert_eq!(api.code(&api.admin, method.clone(), path, Value::Null).await, code, "{method} {path}");
    }
    let reply = api
        .send(Some(&api.operator), Method::POST, "/api/v1/jobs", Body::from(vec![b' '; (1 << 20) + 1]))
        .await;
    assert_eq!(read(reply).await["code"], "body_too_large");
    let reply = api.send(Some(&api.operator), Method::POST, "/api/v1/jobs", Body::from("{")).await;
    assert_eq!(read(reply).await["code"], "bad_json");
}

#[tokio::test]
async fn a_node_that_is_down_is_no_success() {
    let api = Api::new().await;
    api.grid.offline("n1");
    let made = api
        .call(&api.operator, Method::POST, "/jobs?wait_ms=20000", job(json!({ "deadline_ms": 50 })))
        .await
        .1;
    assert_eq!(made["outcomes"], json!({ "no_answer": 1 }));
    assert_eq!(made["results"][0]["outcome"], json!({ "status": "no_answer", "last_seen_ms": LAST_SEEN_MS }));
    api.grid.jobs.disconnected(api.grid.id("n1")).await;
    assert_eq!(success().outcome.kind().as_str(), "succeeded");
}

#[tokio::test]
async fn the_audit_log_is_for_admins_and_comes_in_pages() {
    let api = Api::new().await;
    let first = api.call(&api.admin, Method::GET, "/audit?limit=2", Value::Null).await.1;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let path = format!("/audit?limit=2&after={}", first["next"].as_str().unwrap());
    let second = api.call(&api.admin, Method::GET, &path, Value::Null).await.1;
    assert_eq!((second["items"].as_array().unwrap().len(), second.get("next")), (1, None));
    assert_eq!(second["items"][0]["action"], "token.create");
}

#[tokio::test]
async fn an_audit_log_that_was_changed_is_told() {
    let api = Api::new().await;
    let verify = async || api.call(&api.admin, Method::GET, "/audit/verify", Value::Null).await;
    let newest = api.call(&api.admin, Method::GET, "/audit?limit=1", Value::Null).await.1["items"][0].clone();
    let (status, head) = verify().await;
    assert_eq!((status, &head["seq"], &head["hash"]), (StatusCode::OK, &newest["seq"], &newest["hash"]));
    let changed = api.grid.store.write::<(), crate::store::StoreError, _>(|c| {
        Box::pin(async move {
            crate::store::sql::query("UPDATE audit SET actor = 'nobody' WHERE seq = 2").execute(c).await?;
            Ok(())
        })
    });
    changed.await.unwrap();
    let (status, error) = verify().await;
    assert_eq!((status, &error["code"]), (StatusCode::CONFLICT, &json!("audit_broken")));
    assert!(error["message"].as_str().unwrap().contains("entry 2"), "{error}");
}

/// Frozen text beside the code: `WINDLASS_UPDATE=1 cargo test -p windlass-master` writes it anew.
fn frozen(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("WINDLASS_UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(known == text, "{} is not up to date: set WINDLASS_UPDATE=1 to write it anew", path.display());
}

#[test]
fn the_description_is_the_one_that_is_published() {
    let (_, openapi) = documented();
    let text = openapi.to_pretty_json().unwrap() + "\n";
    let value: Value = serde_json::from_str(&text).unwrap();
    // Every reference leads somewhere.
    let mut rest = text.as_str();
    while let Some(at) = rest.find("#/components/schemas/") {
        let name = &rest[at + 21..];
        let name = &name[..name.find('"').unwrap()];
        assert!(value["components"]["schemas"].get(name).is_some(), "no schema {name}");
        rest = &rest[at + 21..];
    }
    frozen("docs/openapi.json", &text);
}

#[test]
fn every_code_of_an_error_is_documented() {
    let page = include_str!("../../../docs/errors.md");
    for code in Code::ALL {
        let heading = format!("### `{}` ({})", code.as_str(), code.status().as_u16());
        assert!(page.contains(&heading), "docs/errors.md has no `{heading}`");
    }
    let headings = page.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(headings, Code::ALL.len(), "docs/errors.md has a code that there is not");
}

#[tokio::test]
async fn served_over_tls_in_both_versions_of_http_until_shutdown() {
    let api = Api::new().await;
    let (key, server) = api.rig.authority.server(&api.rig.config.server_names).unwrap();
    let tls =
        windlass_identity::ServerTls::server_only(&server.chain_pem, &key, &["h2", "http/1.1"]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let context = context(&api.rig, &api.grid).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(serve(router(context), listener, tls, shutdown.clone()));

    for (alpn, version) in [("h2", http::Version::HTTP_2), ("http/1.1", http::Version::HTTP_11)] {
        let config = windlass_identity::client_config(&api.rig.trust(), None, &[alpn]).unwrap();
        let client = reqwest::Client::builder().tls_backend_preconfigured(config);
        let client = if alpn == "h2" { client.http2_prior_knowledge() } else { client.http1_only() };
        let client = client.build().unwrap();
        let request = client.get(format!("{url}/api/v1/whoami")).bearer_auth(&api.viewer);
        let reply = soon("a reply", request.send()).await.unwrap();
        assert_eq!((reply.status(), reply.version()), (StatusCode::OK, version));
        let refused = client.get(format!("{url}/api/v1/whoami"));
        assert_eq!(soon("a reply", refused.send()).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    let denied = audit::page(&api.grid.store, None, 1).await.unwrap();
    assert_eq!(denied[0].detail["address"], "127.0.0.1");
    shutdown.cancel();
    soon("the end", serving).await.unwrap().unwrap();
}
