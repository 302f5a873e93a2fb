//! Bundles, plugins and deployments of the fake.

use super::*;
use axum::body::Bytes;
use windlass_bundle::Package;
use windlass_types::api::bundles::*;

pub const DEPLOYMENT: &str = "0199a1b2-c3d4-7000-8000-00000000000d";

/// A state of the deployment: its own, and that of each node.
pub type Frame = (&'static str, &'static [&'static str]);

pub fn router() -> Router<Arc<Fake>> {
    Router::new()
        .route("/bundles", get(list).post(upload))
        .route("/bundles/difference", get(difference))
        .route("/bundles/{bundle}", get(bundle).delete(async || StatusCode::NO_CONTENT))
        .route("/bundles/{bundle}/package", get(package))
        .route("/plugins", get(async || Json(Page { items: vec![detail().summary], next: None })))
        .route("/plugins/{name}", get(plugin).delete(async || StatusCode::NO_CONTENT))
        .route("/plugins/{name}/events", get(plugin_events))
        .route("/plugins/{name}/approve", post(approve))
        .route("/plugins/{name}/pin", post(pin))
        .route("/plugins/{name}/unpin", post(pin))
        .route("/plugins/{name}/rollback", post(rollback))
        .route("/deployments", get(deployments).post(deploy))
        .route("/deployments/{id}", get(deployment))
        .route("/deployments/{id}/{what}", post(control))
}

fn version(version: &str) -> Value {
    json!({ "version": version, "digest": Digest::of(version.as_bytes()) })
}

fn stored(version: &str) -> Value {
    json!({ "plugin": "demo", "version": version, "digest": Digest::of(version.as_bytes()), "description": "Items.",
        "size_bytes": 1_000, "signatures": [], "created_ms": TIME_MS, "created_by": "ci" })
}

fn info(kind: &str, text: &str) -> Value {
    json!({ "kind": kind, "text": text })
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn detail() -> PluginDetail {
    let node = |index: usize, name: &str| {
        json!({ "node": node_id(index), "name": name, "online": true, "active": version("0.1.0"), "previous": null,
            "desired": version("0.1.0"), "pinned": false, "local": false, "stage": "active", "problem": null,
            "received_bytes": 0, "total_bytes": 0 })
    };
    of(
        json!({ "name": "demo", "versions": ["0.2.0", "0.1.0"], "default": version("0.1.0"), "running": { "0.1.0": 2 },
        "behind": 0, "deployment": null, "bundles": [stored("0.2.0"), stored("0.1.0")],
        "approval": { "plugin": "demo", "capabilities": [info("probe", "cpu")], "max_effect": "destroy",
            "deny_operations": [], "approved_ms": TIME_MS, "approved_by": "root" },
        "nodes": [node(0, "n1"), node(1, "n2")] }),
    )
}

async fn list() -> Json<Page<Bundle>> {
    Json(Page { items: vec![of(stored("0.1.0")), of(stored("0.2.0"))], next: None })
}

async fn upload(State(fake): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-tar");
    let package = Package::read(&body[..]).unwrap();
    let mut bundle = stored(&package.bundle.manifest.version.to_string());
    bundle["digest"] = json!(package.bundle.digest);
    bundle["plugin"] = json!(package.bundle.manifest.name);
    let mut packages = fake.packages.lock().unwrap();
    let known = packages.contains(&body.to_vec());
    packages.push(body.to_vec());
    let status = if known { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(bundle)).into_response())
}

async fn bundle(State(fake): Shared, Path(name): Path<String>) -> Result<Json<BundleDetail>, Refusal> {
    let version = ["0.1.0", "0.2.0"]
        .into_iter()
        .find(|version| {
            name == format!("demo@{version}") || name == Digest::of(version.as_bytes()).to_string()
        })
        .ok_or_else(|| not_found(&format!("bundle `{name}`")))?;
    let mut value = stored(version);
    let more = info("command", "zpool replace {pool} (change; {pool} is a word)");
    let unapproved = if fake.script.asks_for_more { json!([more]) } else { json!([]) };
    value.as_object_mut().unwrap().extend(
        json!({ "operations": [{ "name": "item.list", "effect": "read", "timeout_ms": 60_000,
            "signature": "func() -> list<string>", "type_digest": Digest::of(b"t"), "summary": "All items." }],
            "capabilities": [info("operation", "item.list: read"), more], "unapproved": unapproved })
        .as_object()
        .unwrap()
        .clone(),
    );
    Ok(Json(of(value)))
}

/// The newest that was uploaded, whatever is asked for.
async fn package(State(fake): Shared) -> Result<Vec<u8>, Refusal> {
    fake.packages.lock().unwrap().last().cloned().ok_or_else(|| not_found("bundle"))
}

async fn difference(Query(params): Params) -> Json<BundleDifference> {
    assert_eq!((params["from"].as_str(), params["to"].as_str()), ("demo@0.1.0", "demo@0.2.0"));
    Json(of(
        json!({ "added": [{ "name": "item.add", "effect": "change", "signature": "func()" }], "removed": [],
        "retyped": [{ "name": "item.list", "from": "func() -> u8", "to": "func() -> u16" }],
        "gained": [info("limit", "memory: 128MiB"), info("operation", "item.add: change")], "lost": [info("probe", "cpu")] }),
    ))
}

async fn plugin(Path(name): Path<String>) -> Result<Json<PluginDetail>, Refusal> {
    if name == "demo" { Ok(Json(detail())) } else { Err(not_found(&format!("plugin `{name}`"))) }
}

async fn plugin_events() -> Json<Page<PluginEvent>> {
    Json(of(
        json!({ "items": [{ "seq": 1, "time_ms": TIME_MS, "node": node_id(0), "name": "n1", "plugin": "demo",
        "kind": "rolled_back", "version": "0.3.0", "digest": null, "from_version": "0.2.0", "message": "it trapped" }],
        "next": null }),
    ))
}

impl Fake {
    fn changed(&self, what: &str, body: Value) {
        self.seen.lock().unwrap().changes.push((what.to_owned(), body));
    }

    fn frame(&self, revision: usize) -> Value {
        let (state, nodes) = self.script.frames[revision.min(self.script.frames.len() - 1)];
        let mut by_state: BTreeMap<&str, u32> = BTreeMap::new();
        nodes.iter().for_each(|state| *by_state.entry(state).or_default() += 1);
        let progress: Vec<Value> = nodes
            .iter()
            .enumerate()
            .map(|(index, state)| {
                let problem = (*state == "failed").then_some("the key is unknown");
                json!({ "node": node_id(index), "name": format!("n{}", index + 1), "step": index.min(1), "state": state,
                    "from": version("0.1.0"), "problem": problem, "received_bytes": 0, "total_bytes": 0, "changed_ms": TIME_MS })
            })
            .collect();
        json!({ "id": DEPLOYMENT, "plugin": "demo", "to": version("0.2.0"), "state": state, "reason": "",
            "target": { "on": ["*"] }, "strategy": {}, "revision": revision, "nodes": nodes.len(), "by_state": by_state,
            "created_by": "tester", "created_ms": TIME_MS, "finished_ms": null, "progress": progress, "unapproved": [] })
    }
}

async fn approve(State(fake): Shared, Json(body): Json<Value>) -> Json<PluginApproval> {
    fake.changed("approve", body);
    Json(detail().approval.unwrap())
}

async fn pin(State(fake): Shared, Json(body): Json<Value>) -> Json<PluginDetail> {
    fake.changed("pin", body);
    Json(detail())
}

async fn rollback(State(fake): Shared, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    fake.changed("rollback", body);
    (StatusCode::CREATED, Json(fake.frame(0)))
}

async fn deploy(
    State(fake): Shared,
    Json(new): Json<NewDeployment>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    if fake.script.busy && !new.replace {
        return Err(Refusal(
            StatusCode::CONFLICT,
            "deployment_running",
            format!("deployment {DEPLOYMENT} of plugin `demo` is under way"),
            None,
        ));
    }
    fake.changed("deploy", serde_json::to_value(new).unwrap());
    Ok((StatusCode::CREATED, Json(fake.frame(0))))
}

async fn deployments(State(fake): Shared) -> Json<Page<Value>> {
    Json(Page { items: vec![fake.frame(0)], next: None })
}

/// Each look shows the next frame. The last one stays; who waits for more waits for ever.
async fn deployment(
    State(fake): Shared,
    Path(id): Path<String>,
    Query(params): Params,
) -> Result<Json<Value>, Refusal> {
    if id != DEPLOYMENT {
        return Err(not_found(&format!("deployment `{id}`")));
    }
    let last = fake.script.frames.len() - 1;
    let next = match params.get("revision") {
        None => 0,
        Some(seen) => seen.parse::<usize>().unwrap() + 1,
    };
    fake.steps.send_modify(|steps| steps.0 += 1);
    if next > last {
        return std::future::pending().await;
    }
    Ok(Json(fake.frame(next)))
}

async fn control(State(fake): Shared, Path((id, what)): Path<(String, String)>) -> Json<Value> {
    assert_eq!(id, DEPLOYMENT);
    fake.changed(&what, Value::Null);
    Json(fake.frame(0))
}
