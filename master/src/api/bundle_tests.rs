//! Bundles, plugins and deployments over the API.

use super::*;
use crate::{
    jobs::testing::Grid,
    store::{audit, tokens},
    testing::{Key, Managed, Rig, Spec, soon},
};
use axum::body::Body;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use windlass_bundle::Package;
use windlass_types::api::{NewToken, Role};

/// The API over a real fleet.
struct Api {
    rig: Rig,
    router: Router,
    viewer: String,
    operator: String,
    admin: String,
    _grid: Grid,
}

impl Api {
    async fn new() -> Self {
        let rig = Rig::start().await;
        let grid = Grid::new(&[]).await;
        let events = EventLog::new(rig.store.clone(), Default::default(), rig.shutdown.clone());
        let context = Context {
            config: rig.config.clone(),
            store: rig.store.clone(),
            fleet: rig.fleet.clone(),
            catalog: rig.catalog.clone(),
            jobs: grid.jobs.clone(),
            bundles: rig.bundles.clone(),
            rules: Rules::open(rig.store.clone(), events.clone(), grid.jobs.clone()).await.unwrap(),
            events,
            plans: crate::plans::Plans::open(
                Default::default(),
                Default::default(),
                rig.store.clone(),
                grid.jobs.clone(),
                rig.shutdown.clone(),
            )
            .await
            .unwrap(),
            planner: super::tests::planner(&rig, &rig.config),
            schedules: Schedules::open(rig.store.clone(), grid.jobs.clone()).await.unwrap(),
            status: rig.status.clone(),
            vault: grid.vault.clone(),
        };
        let token = async |role: Role| {
            let new =
                NewToken { name: role.as_str().into(), role: Some(role.into()), user: None, ttl_ms: None };
            tokens::create(&rig.store, &new).await.unwrap().token.unwrap()
        };
        let (viewer, operator, admin) =
            (token(Role::Viewer).await, token(Role::Operator).await, token(Role::Admin).await);
        Api { router: router(context), rig, viewer, operator, admin, _grid: grid }
    }

    async fn send(&self, token: &str, method: Method, path: &str, body: Body) -> Response {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        soon("a reply", self.router.clone().oneshot(request.body(body).unwrap())).await.unwrap()
    }

    async fn call(&self, token: &str, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let reply = self.send(token, method, path, body).await;
        (reply.status(), json_of(reply).await)
    }
    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call(&self.viewer, Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }
    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(&self.admin, Method::POST, path, body).await
    }
    async fn upload(&self, package: &Package) -> (StatusCode, Value) {
        let reply = self.send(&self.admin, Method::POST, "/bundles", Body::from(package.to_bytes())).await;
        (reply.status(), json_of(reply).await)
    }
    async fn code(&self, method: Method, path: &str, body: Value) -> String {
        let (status, error) = self.call(&self.admin, method, path, body).await;
        let code = error["code"].as_str().unwrap_or_else(|| panic!("{path}: {status} {error}"));
        let known = Code::ALL.iter().find(|known| known.as_str() == code).unwrap();
        assert_eq!(known.status(), status);
        code.to_owned()
    }
}

async fn json_of(reply: Response) -> Value {
    let bytes = axum::body::to_bytes(reply.into_body(), 64 << 20).await.unwrap();
    if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() }
}

#[tokio::test]
async fn a_bundle_goes_in_and_comes_out() {
    let api = Api::new().await;
    let bundle = Spec::demo("0.1.0").bundle();
    let package = Package::new(bundle.clone(), vec![Key::new().sign(&bundle, 7)]).unwrap();
    let (status, made) = api.upload(&package).await;
    assert_eq!((status, &made["created_by"]), (StatusCode::CREATED, &json!("admin")));
    assert_eq!(made["digest"], bundle.digest.to_string());
    assert_eq!(api.upload(&package).await.0, StatusCode::OK);
    let more = Spec { more: "probes = [\"cpu\"]\n", returns: "u32", ..Spec::demo("0.10.0") };
    api.upload(&more.package()).await;
    api.upload(&Spec::demo("0.2.0").package()).await;

    let first = api.get("/bundles?limit=2").await;
    let versions = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|b| b["version"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(versions(&first), ["0.1.0", "0.2.0"]);
    let next = first["next"].as_str().unwrap();
    let second = api.get(&format!("/bundles?plugin=demo&after={next}")).await;
    assert_eq!((versions(&second), second.get("next")), (vec!["0.10.0".to_owned()], None));
    assert_eq!(api.get("/bundles?plugin=zfs").await["items"], json!([]));

    let shown = api.get("/bundles/demo@0.1.0").await;
    assert_eq!(shown["signatures"][0]["signed_ms"], 7);
    assert_eq!(shown["operations"][0]["name"], "thing.count");
    assert_eq!(api.get(&format!("/bundles/{}", bundle.digest)).await, shown);
    let difference = api.get("/bundles/difference?from=demo@0.1.0&to=demo@0.10.0").await;
    assert_eq!(difference["retyped"][0]["name"], "thing.count");
    assert_eq!(difference["gained"][0]["text"], "cpu");

    let reply = api.send(&api.viewer, Method::GET, "/bundles/demo@0.1.0/package", Body::empty()).await;
    assert_eq!(reply.headers()[header::CONTENT_TYPE], "application/x-tar");
    assert_eq!(reply.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"demo-0.1.0.tar\"");
    let bytes = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
    let back = Package::read(&bytes[..]).unwrap();
    assert_eq!((back.bundle.digest, back.signatures().len()), (bundle.digest, 1));

    let (status, _) = api.call(&api.admin, Method::DELETE, "/bundles/demo@0.10.0", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(api.code(Method::GET, "/bundles/demo@0.10.0", Value::Null).await, "unknown_bundle");
}

#[tokio::test]
async fn a_deployment_over_the_api() {
    let api = Api::new().await;
    let mut host = Managed::join(&api.rig, "n1").await;
    api.upload(&Spec::demo("0.1.0").package()).await;
    let new = json!({ "plugin": "demo", "bundle": "0.1.0", "strategy": { "soak_ms": 0 } });
    let (status, made) = api.post("/deployments", new.clone()).await;
    assert_eq!((status, &made["state"]), (StatusCode::CREATED, &json!("waiting_approval")));
    assert_eq!(made["target"], json!({ "on": ["*"] }));
    let path = format!("/deployments/{}", made["id"].as_str().unwrap());
    assert!(!api.get(&path).await["unapproved"].as_array().unwrap().is_empty());
    assert_eq!(api.code(Method::POST, "/deployments", new.clone()).await, "deployment_running");
    assert_eq!(api.code(Method::DELETE, "/bundles/demo@0.1.0", Value::Null).await, "bundle_in_use");

    // Whoever waits hears of it when it happens.
    let waiting = format!("{path}?revision={}&wait_ms=20000", made["revision"]);
    let waiting = api.get(&waiting);
    let approving = async {
        let (status, approval) = api.post("/plugins/demo/approve", json!({ "bundle": "0.1.0" })).await;
        assert_eq!((status, &approval["approved_by"]), (StatusCode::OK, &json!("admin")));
    };
    let (news, ()) = tokio::join!(waiting, approving);
    assert_eq!(news["state"], "running");
    host.take_version("demo", Some("0.1.0")).await;
    let plugin = api.get("/plugins/demo").await;
    let id = &made["id"];
    assert_eq!((&plugin["deployment"]["id"], &plugin["behind"]), (id, &json!(1)));
    let node = &plugin["nodes"][0];
    assert_eq!((&node["desired"]["version"], &node["active"]), (&json!("0.1.0"), &Value::Null));
    host.install("demo").await;
    let done = soon("its end", async {
        let mut known = 0;
        loop {
            let now = api.get(&format!("{path}?revision={known}&wait_ms=20000")).await;
            if now["state"] != "running" {
                return now;
            }
            known = now["revision"].as_u64().unwrap();
        }
    })
    .await;
    assert_eq!((&done["state"], &done["progress"][0]["state"]), (&json!("succeeded"), &json!("active")));
    // Nothing can change any more, so nobody waits.
    let again = api.get(&format!("{path}?revision={}&wait_ms=600000", done["revision"])).await;
    assert_eq!(again, done);
    assert_eq!(api.get("/deployments?plugin=demo").await["items"][0]["id"], *id);
    assert_eq!(api.get("/plugins").await["items"][0]["running"], json!({ "0.1.0": 1 }));
    let events = api.get("/plugins/demo/events?limit=1").await;
    assert_eq!(
        (&events["items"][0]["kind"], &events["items"][0]["name"]),
        (&json!("installed"), &json!("n1"))
    );

    let pinned = api.post("/plugins/demo/pin", json!({ "target": { "on": ["n1"] } })).await.1;
    assert_eq!(pinned["nodes"][0]["pinned"], true);
    let free = api.post("/plugins/demo/unpin", json!({ "target": { "on": ["n1"] } })).await.1;
    assert_eq!(free["nodes"][0]["pinned"], false);
    assert_eq!(api.code(Method::POST, "/plugins/demo/rollback", json!({})).await, "nothing_to_do");
    assert_eq!(
        api.code(Method::POST, &format!("{path}/resume"), Value::Null).await,
        "wrong_deployment_state"
    );
    let (status, _) = api.call(&api.admin, Method::DELETE, "/plugins/demo", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    host.take_version("demo", None).await;

    let entries = audit::page(&api.rig.store, None, 100).await.unwrap();
    audit::verify(&api.rig.store).await.unwrap();
    let actions: Vec<&str> = entries.iter().rev().map(|entry| entry.action.as_str()).skip(4).collect();
    assert_eq!(
        actions,
        [
            "bundle.upload",
            "deployment.create",
            "plugin.approve",
            "plugin.pin",
            "plugin.unpin",
            "plugin.remove"
        ]
    );
    assert!(entries.iter().rev().skip(4).all(|entry| entry.actor == "admin"));
}

#[tokio::test]
async fn a_deployment_is_paused_resumed_and_aborted() {
    let api = Api::new().await;
    let _host = Managed::join(&api.rig, "n1").await;
    api.upload(&Spec::demo("0.1.0").package()).await;
    let made =
        api.post("/deployments", json!({ "plugin": "demo", "bundle": "0.1.0", "approve": true })).await.1;
    let path = |action: &str| format!("/deployments/{}/{action}", made["id"].as_str().unwrap());
    for (action, state) in [("pause", "paused"), ("resume", "running"), ("abort", "aborted")] {
        let (status, now) = api.post(&path(action), Value::Null).await;
        assert_eq!((status, &now["state"]), (StatusCode::OK, &json!(state)));
    }
    assert_eq!(api.code(Method::POST, &path("rollback"), Value::Null).await, "wrong_deployment_state");
    let again = json!({ "plugin": "demo", "bundle": "0.1.0" });
    let again = api.post("/deployments", again).await.1;
    let back = format!("/deployments/{}/rollback", again["id"].as_str().unwrap());
    assert_eq!(api.post(&back, Value::Null).await.1["state"], "rolling_back");
}

#[tokio::test]
async fn errors_of_bundles_say_what_is_wrong() {
    let api = Api::new().await;
    let _host = Managed::join(&api.rig, "n1").await;
    api.upload(&Spec::demo("0.1.0").package()).await;
    api.upload(&Spec { plugin: "other", ..Spec::demo("0.1.0") }.package()).await;
    let deploy = |change: Value| {
        let mut body = json!({ "plugin": "demo", "bundle": "0.1.0" });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let other = api.get("/bundles/other@0.1.0").await["digest"].clone();
    let none = "00000000-0000-4000-8000-000000000000";
    for (method, path, body, code) in [
        (Method::POST, "/bundles", json!("x"), "bad_package"),
        (Method::GET, "/bundles/demo@0.1", Value::Null, "unknown_bundle"),
        (Method::GET, "/bundles/nonsense", Value::Null, "unknown_bundle"),
        (Method::GET, "/bundles/demo@9.9.9/package", Value::Null, "unknown_bundle"),
        (Method::DELETE, "/bundles/demo@9.9.9", Value::Null, "unknown_bundle"),
        (Method::GET, "/bundles/difference?from=demo@0.1.0&to=demo@9.9.9", Value::Null, "unknown_bundle"),
        (Method::GET, "/bundles/difference?from=demo@0.1.0", Value::Null, "bad_request"),
        (Method::GET, "/bundles?after=x", Value::Null, "bad_request"),
        (Method::GET, "/bundles?plugin=../x", Value::Null, "bad_request"),
        (Method::GET, "/plugins/zfs", Value::Null, "unknown_plugin"),
        (Method::GET, "/plugins/..%2Fx", Value::Null, "bad_request"),
        (Method::GET, "/plugins/zfs/events", Value::Null, "unknown_plugin"),
        (Method::DELETE, "/plugins/zfs", Value::Null, "unknown_plugin"),
        (Method::DELETE, "/plugins/demo?node=n7", Value::Null, "unknown_node"),
        (Method::POST, "/plugins/demo/approve", json!({ "bundle": "9.9.9" }), "unknown_bundle"),
        (Method::POST, "/plugins/demo/approve", json!({ "bundle": other }), "other_plugin"),
        (
            Method::POST,
            "/plugins/demo/approve",
            json!({ "bundle": "0.1.0", "deny_operations": ["thing.cuont"] }),
            "unknown_operation",
        ),
        (
            Method::POST,
            "/plugins/demo/pin",
            json!({ "target": { "on": ["n1"] }, "bundle": "0.1.0" }),
            "not_approved",
        ),
        (Method::POST, "/plugins/demo/pin", json!({ "target": { "on": ["n1"] } }), "nothing_to_do"),
        (Method::POST, "/plugins/demo/pin", json!({ "target": { "on": ["n7"] } }), "unknown_node"),
        (Method::POST, "/plugins/demo/unpin", json!({ "target": {} }), "bad_target"),
        (Method::POST, "/plugins/demo/rollback", json!({ "why": "x" }), "bad_json"),
        (Method::POST, "/deployments", deploy(json!({ "bundle": "9.9.9" })), "unknown_bundle"),
        (Method::POST, "/deployments", deploy(json!({ "target": { "on": ["x*"] } })), "empty_target"),
        (
            Method::POST,
            "/deployments",
            deploy(json!({ "strategy": { "node_timeout_ms": 0 } })),
            "bad_strategy",
        ),
        (
            Method::POST,
            "/deployments",
            deploy(json!({ "strategy": { "soak_ms": u64::MAX } })),
            "bad_strategy",
        ),
        (Method::POST, "/deployments", deploy(json!({ "strategy": { "canaries": 1 } })), "bad_json"),
        (Method::GET, "/deployments?after=x", Value::Null, "bad_request"),
        (Method::GET, "/deployments/x", Value::Null, "bad_request"),
    ] {
        assert_eq!(api.code(method.clone(), path, body.clone()).await, code, "{method} {path} {body}");
    }
    for (method, action) in [(Method::GET, ""), (Method::POST, "/pause"), (Method::POST, "/rollback")] {
        let path = format!("/deployments/{none}{action}");
        assert_eq!(api.code(method, &path, Value::Null).await, "unknown_deployment");
    }
    let path = format!("/deployments/{none}?wait_ms=600001");
    assert_eq!(api.code(Method::GET, &path, Value::Null).await, "bad_request");
    let near = api.call(&api.viewer, Method::GET, "/bundles/demo@0.1.1", Value::Null).await.1;
    assert_eq!(near["hint"], "did you mean `demo@0.1.0`?");
    let (status, taken) = api.upload(&Spec { returns: "u32", ..Spec::demo("0.1.0") }.package()).await;
    assert_eq!((status, &taken["code"]), (StatusCode::CONFLICT, &json!("version_taken")));
    // A package may be larger than any other body, and has an end.
    let large = api.send(&api.admin, Method::POST, "/bundles", Body::from(vec![0; (80 << 20) + 1])).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let small = api.send(&api.operator, Method::POST, "/bundles", Body::from("x")).await;
    assert_eq!(small.status(), StatusCode::FORBIDDEN);
}
