//! What the tests of rendering show: a small grid at a fixed time.

mod plugins;

pub use plugins::{bundle, capabilities, deployment, plugin, plugin_events};

use crate::output::Look;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use windlass_types::{
    Digest, NodeId, Outcome, OutcomeKind,
    api::*,
    schema,
    shape::{Operation, Shape, Signature},
};

/// 2026-03-01 12:00:00 UTC.
pub const NOW_MS: i64 = 1_772_366_400_000;

pub fn look(width: Option<usize>) -> Look {
    Look { color: false, width, now_ms: NOW_MS, zone: jiff::tz::TimeZone::UTC }
}

fn shape(value: Value) -> Shape {
    serde_json::from_value(value).unwrap()
}

fn operation(name: &str, effect: &str, docs: &str, params: Value, result: Value) -> OperationInfo {
    let signature: Signature = serde_json::from_value(json!({ "params": params, "result": result })).unwrap();
    OperationInfo {
        name: name.parse().unwrap(),
        effect: serde_json::from_value(json!(effect)).unwrap(),
        timeout_ms: 30_000,
        idempotent: effect == "read",
        locks: Vec::new(),
        plugin_version: "0.1.0".into(),
        plugin_digest: Digest::of(b"plugin"),
        type_digest: signature.digest(),
        args_schema: schema::of_params(&signature),
        operation: Operation { name: name.parse().unwrap(), docs: docs.into(), signature, planned: false },
        nodes: 3,
        other_types: BTreeMap::new(),
    }
}

/// The result of `machine.system.read`: a flat record with one record in it.
pub fn report() -> Shape {
    shape(json!({ "type": "result", "ok": { "type": "record", "name": "report", "fields": [
        { "name": "hostname", "shape": { "type": "string" }, "docs": "Host name." },
        { "name": "os", "shape": { "type": "string" }, "docs": "Name of the system." },
        { "name": "uptime_ms", "shape": { "type": "u64" }, "docs": "Time since boot." },
        { "name": "load_1m", "shape": { "type": "f64" }, "docs": "Tasks running or waiting." },
        { "name": "vendor", "shape": { "type": "option", "item": { "type": "string" } }, "docs": "Vendor." },
        { "name": "memory", "docs": "Memory.", "shape": { "type": "record", "name": "memory", "fields": [
            { "name": "total_bytes", "shape": { "type": "u64" }, "docs": "All of it." },
            { "name": "available_bytes", "shape": { "type": "u64" }, "docs": "What new work could use." }
        ] } }
    ] }, "err": { "type": "variant", "name": "error", "cases": [
        { "name": "denied", "payload": { "type": "string" }, "docs": "Not granted." },
        { "name": "cancelled", "docs": "The job was cancelled." }
    ] } }))
}

pub fn report_value(hostname: &str) -> Value {
    json!({ "os": "Debian GNU/Linux 12 (bookworm)", "hostname": hostname, "uptime_ms": 273_600_000,
        "load_1m": 0.42, "vendor": null,
        "memory": { "available_bytes": 3_221_225_472_u64, "total_bytes": 8_589_934_592_u64 } })
}

/// The result of `store.pool.status`: records with a tree in them.
pub fn status() -> Shape {
    shape(
        json!({ "type": "result", "ok": { "type": "list", "item": { "type": "record", "name": "status-report", "fields": [
        { "name": "name", "shape": { "type": "string" }, "docs": "Name of the pool." },
        { "name": "state", "docs": "State of the pool.", "shape": { "type": "enum", "name": "state", "cases": [
            { "name": "online", "docs": "Works." }, { "name": "degraded", "docs": "Works with less redundancy than it was made with, and wants a new disk before the next one fails." } ] } },
        { "name": "problems", "shape": { "type": "list", "item": { "type": "string" } }, "docs": "What needs attention; empty for a healthy pool." },
        { "name": "vdevs", "docs": "The tree.", "shape": { "type": "list", "item": { "type": "record", "name": "vdev", "fields": [
            { "name": "id", "shape": { "type": "u32" } },
            { "name": "parent_id", "shape": { "type": "option", "item": { "type": "u32" } } },
            { "name": "depth", "shape": { "type": "u32" } },
            { "name": "name", "shape": { "type": "string" } },
            { "name": "state", "shape": { "type": "string" } },
            { "name": "errors", "shape": { "type": "option", "item": { "type": "record", "fields": [
                { "name": "read_errors", "shape": { "type": "u64" } },
                { "name": "write_errors", "shape": { "type": "u64" } } ] } } }
        ] } } }
    ] } }, "err": { "type": "variant", "name": "error", "cases": [
        { "name": "no_such_pool", "payload": { "type": "string" }, "docs": "There is no imported pool of this name." } ] } }),
    )
}

pub fn status_value() -> Value {
    let vdev = |id: u32, parent: Option<u32>, depth: u32, name: &str, state: &str, errors: Value| json!({ "id": id, "parent_id": parent, "depth": depth, "name": name, "state": state, "errors": errors });
    let none = json!({ "read_errors": 0, "write_errors": 0 });
    json!([{ "name": "tank", "state": "degraded", "problems": ["disk b is offline"], "vdevs": [
        vdev(0, None, 0, "tank", "degraded", none.clone()),
        vdev(1, Some(0), 1, "mirror-0", "degraded", none.clone()),
        vdev(2, Some(1), 2, "/dev/a", "online", none),
        vdev(3, Some(1), 2, "/dev/b", "offline", json!({ "read_errors": 3, "write_errors": 0 })),
        vdev(4, Some(0), 1, "/dev/spare", "available", Value::Null),
    ] }])
}

pub fn operations() -> Vec<OperationInfo> {
    let name = json!({ "name": "name", "shape": { "type": "string" }, "docs": "Name of the pool." });
    let mut destroy = operation(
        "store.pool.create",
        "destroy",
        "Make a pool.\n\nWhat was on the disks is lost.",
        json!([
            name,
            { "name": "disks", "shape": { "type": "list", "item": { "type": "string" } }, "docs": "Paths of the disks." },
            { "name": "layout", "docs": "How the disks work together.", "shape": { "type": "variant", "name": "layout", "cases": [
                { "name": "stripe", "docs": "No redundancy." },
                { "name": "raidz", "payload": { "type": "u8" }, "docs": "With so many parity disks." } ] } },
            { "name": "options", "docs": "More.", "shape": { "type": "option", "item": { "type": "record", "name": "options", "fields": [
                { "name": "ashift", "shape": { "type": "option", "item": { "type": "u8" } }, "docs": "Power of two of the block size." },
                { "name": "features", "shape": { "type": "flags", "flags": [{ "name": "encryption", "docs": "" }, { "name": "large_blocks", "docs": "" }] }, "docs": "Features to switch on." } ] } } }
        ]),
        Value::Null,
    );
    destroy.other_types.insert(Digest::of(b"other"), 1);
    vec![
        operation(
            "machine.system.read",
            "read",
            "Read name, system, load and memory of the node.",
            json!([]),
            serde_json::to_value(report()).unwrap(),
        ),
        operation(
            "store.pool.status",
            "read",
            "The tree of disks.\n\nOf one pool or of all.",
            json!([{ "name": "pool", "shape": { "type": "option", "item": { "type": "string" } }, "docs": "One pool; all without it." }]),
            serde_json::to_value(status()).unwrap(),
        ),
        destroy,
    ]
}

fn id(number: u8) -> NodeId {
    format!("00000000-0000-4000-8000-0000000000{number:02}").parse().unwrap()
}

pub fn job_node(name: &str, outcome: Option<Outcome>) -> JobNode {
    JobNode {
        node: id(1),
        name: name.parse().unwrap(),
        state: if outcome.is_some() { JobNodeState::Done } else { JobNodeState::Running },
        outcome,
        stats: None,
        plugin_digest: None,
        plugin_version: None,
        started_ms: Some(NOW_MS - 1_500),
        finished_ms: Some(NOW_MS),
        attempts: None,
        output_bytes: None,
    }
}

pub fn succeeded(name: &str, value: Value) -> JobNode {
    job_node(name, Some(Outcome::Succeeded { value }))
}

/// One node for each way not to succeed.
pub fn troubles() -> Vec<JobNode> {
    [
        json!({ "status": "failed", "error": { "no_such_pool": "tank\u{1b}[2J" } }),
        json!({ "status": "trapped", "reason": "memory", "message": "it wanted more than 64 MiB" }),
        json!({ "status": "timed_out", "after_ms": 30_000 }),
        json!({ "status": "denied", "denial": { "capability": "commands.run", "request": "zpool destroy tank", "missing": "no rule in `commands.zpool.allow`" }, "error": { "denied": "zpool" } }),
        json!({ "status": "refused", "reason": "busy", "message": "8 jobs run and 64 wait" }),
        json!({ "status": "cancelled", "started": false }),
        json!({ "status": "no_answer", "last_seen_ms": NOW_MS - 200_000 }),
        json!({ "status": "no_answer", "last_seen_ms": null }),
        json!({ "status": "indeterminate", "message": "the host was killed while it ran" }),
    ]
    .into_iter()
    .enumerate()
    .map(|(index, outcome)| job_node(&format!("n{}", index + 2), Some(serde_json::from_value(outcome).unwrap())))
    .chain([job_node("n20", None)])
    .collect()
}

pub fn nodes() -> Vec<Node> {
    let node = |number: u8, name: &str, state: NodeState, online: bool| Node {
        id: id(number),
        name: name.parse().unwrap(),
        state,
        fingerprint: Digest::of(&[number]),
        online,
        last_seen_ms: Some(NOW_MS - i64::from(number) * 100_000),
        address: Some(format!("10.0.0.{number}:40000")),
        host_version: Some("0.1.0".into()),
        facts: BTreeMap::new(),
        labels: BTreeMap::new(),
        flags: Default::default(),
        plugins: Vec::new(),
        created_ms: NOW_MS - 86_400_000,
        certificate_expires_ms: Some(NOW_MS + 86_400_000),
    };
    let mut full = node(1, "n1", NodeState::Accepted, true);
    full.labels = [("rack".to_owned(), "a1".to_owned()), ("tier".into(), "hot".into())].into();
    full.flags = ["maintenance".to_owned()].into();
    full.facts = serde_json::from_value(
        json!({ "os": "debian", "memory_total_bytes": 8_589_934_592_u64, "disks": [{ "a": [1] }] }),
    )
    .unwrap();
    full.plugins = serde_json::from_value(json!([
        { "name": "zfs", "version": "0.1.0", "digest": Digest::of(b"zfs") },
        { "name": "monitor", "version": "0.2.0", "digest": Digest::of(b"monitor"), "problem": "wants a newer host" }
    ]))
    .unwrap();
    vec![
        node(4, "n4", NodeState::Pending, false),
        full,
        node(2, "n2", NodeState::Accepted, false),
        node(3, "n3", NodeState::Revoked, false),
    ]
}

pub fn tokens() -> Vec<Token> {
    let token = |name: &str, role: Role, expires_ms| Token {
        id: format!("t-{name}"),
        token: None,
        name: name.into(),
        role: role.into(),
        user: (role == Role::Operator).then(|| "jane.doe".parse().unwrap()),
        created_ms: NOW_MS - 86_400_000,
        expires_ms,
        last_used_ms: None,
    };
    vec![
        token("root", Role::Admin, None),
        token("night-shift", Role::Operator, Some(NOW_MS + 3_600_000)),
        token("old", Role::Viewer, Some(NOW_MS - 3_600_000)),
    ]
}

pub fn join_tokens() -> Vec<JoinToken> {
    let token = |id: &str, expires_ms, used_by| JoinToken {
        id: id.into(),
        token: None,
        labels: [("rack".to_owned(), "a1".to_owned())].into(),
        created_ms: NOW_MS - 60_000,
        expires_ms,
        used_by,
    };
    vec![
        token("j1", NOW_MS + 3_600_000, None),
        token("j2", NOW_MS - 1, None),
        token("j3", NOW_MS, Some(id(1))),
    ]
}

pub fn audit() -> Vec<AuditEntry> {
    let entry = |seq, action: &str, verdict: &str, detail| AuditEntry {
        seq,
        time_ms: NOW_MS,
        actor: "root".into(),
        action: action.into(),
        subject: "n1".into(),
        detail,
        verdict: verdict.into(),
        hash: Digest::of(b""),
    };
    vec![
        entry(1, "node.accept", "allowed", json!({ "fingerprint": "sha256:00" })),
        entry(2, "node.revoke", "denied", Value::Null),
    ]
}

pub fn jobs() -> Vec<Job> {
    let mut running = Job {
        id: "019ca942-5180-7000-8000-000000000001".parse().unwrap(),
        operation: "store.pool.create".parse().unwrap(),
        args: json!({ "name": "tank" }),
        effect: windlass_types::Effect::Destroy,
        dry_run: true,
        target: Target {
            on: vec!["n*".into()],
            r#where: Some("node.online && true".into()),
            ..Target::default()
        },
        state: JobState::Running,
        cancel_requested: false,
        created_by: "root".into(),
        created_ms: NOW_MS - 5_000,
        deadline_ms: NOW_MS + 35_000,
        finished_ms: None,
        nodes: 3,
        batch: None,
        max_failures: None,
        retries: None,
        wait_offline_ms: None,
        locks: Vec::new(),
        outcomes: [(OutcomeKind::Succeeded, 1)].into(),
        results: None,
    };
    let first = running.clone();
    running.id = "019ca942-4180-7000-8000-000000000001".parse().unwrap();
    running.operation = "machine.system.read".parse().unwrap();
    running.effect = windlass_types::Effect::Read;
    running.args = json!({});
    running.dry_run = false;
    running.state = JobState::Finished;
    running.finished_ms = Some(NOW_MS - 3_500);
    running.outcomes = [(OutcomeKind::Succeeded, 2), (OutcomeKind::NoAnswer, 1)].into();
    vec![first, running]
}

pub fn trace() -> JobTrace {
    let entry = |seq: u32, function: &str, mut detail: Value, verdict: Value, error: Option<&str>| {
        let more = json!({ "seq": seq, "at_us": seq * 1_500, "duration_us": 85, "function": function, "verdict": verdict, "error": error });
        detail.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        detail
    };
    let command = |exit: Value, signal: Value| {
        json!({ "kind": "command", "program": "zpool", "path": "/sbin/zpool", "argv": ["create", "tank", "my disk"],
            "exit": exit, "signal": signal, "stdin_bytes": 0, "stdout_bytes": 120, "stderr_bytes": 0 })
    };
    let allowed = json!({ "verdict": "allowed", "rule": "commands.zpool.allow[0]" });
    let would = json!({ "verdict": "would_run", "rule": "files[0]" });
    serde_json::from_value(json!({ "job": jobs()[0].id, "node": id(1), "name": "n1", "entries": [
        entry(0, "commands.run", command(json!(0), Value::Null), allowed.clone(), None),
        entry(1, "commands.run", command(json!(1), Value::Null), allowed.clone(), None),
        entry(2, "commands.run", command(Value::Null, json!(9)), allowed.clone(), None),
        entry(3, "commands.run", json!({ "kind": "command", "program": "rm", "argv": ["-rf"], "stdin_bytes": 0, "stdout_bytes": 0, "stderr_bytes": 0 }),
            json!({ "verdict": "denied", "missing": "no `[commands.rm]`" }), Some("denied")),
        entry(4, "commands.run", command(Value::Null, Value::Null), would.clone(), None),
        entry(5, "files.write", json!({ "kind": "file", "path": "/etc/exports", "bytes": 12 }), would, None),
        entry(6, "probes.system", json!({ "kind": "probe", "probe": "system" }), allowed.clone(), None),
        entry(7, "state.get", json!({ "kind": "state", "key": "last", "bytes": 0 }), allowed.clone(), Some("no such key")),
        entry(8, "log.write", json!({ "kind": "log", "level": "info", "message": "a\nb" }), allowed.clone(), None),
        entry(9, "job.progress", json!({ "kind": "progress", "message": "half", "percent": 50 }), allowed.clone(), None),
        entry(10, "", json!({ "kind": "dropped", "entries": 12 }), allowed, None),
    ] }))
    .unwrap()
}

pub fn users() -> Vec<windlass_types::api::access::User> {
    let user = |name: &str, role: Role, disabled, tokens| windlass_types::api::access::User {
        name: name.parse().unwrap(),
        role: role.into(),
        disabled,
        created_ms: NOW_MS - 86_400_000,
        tokens,
    };
    vec![user("jane.doe", Role::Operator, false, 2), user("old", Role::Viewer, true, 0)]
}
