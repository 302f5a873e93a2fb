//! 0 to 4, each by what causes it.

use crate::fake::*;
use serde_json::json;

const RUN: [&str; 4] = ["run", "demo.item.list", "--on", "n*"];

fn script(outcomes: Vec<(&'static str, serde_json::Value)>) -> Script {
    Script { outcomes, ..Script::default() }
}

fn denied() -> serde_json::Value {
    json!({ "status": "denied", "denial": { "capability": "commands.run", "request": "rm -rf", "missing": "no `[commands.rm]`" } })
}

#[tokio::test]
async fn all_succeeded_is_0() {
    let master =
        Master::start(script(vec![("n1", succeeded(json!("a"))), ("n2", succeeded(json!("b")))])).await;
    let run = master
        .run(&[&RUN[..], &["filter=x", "count=3"]].concat())
        .await
        .expect(0)
        .says("2 nodes, 2 succeeded");
    assert_eq!(run.stdout, "NODE  OUTCOME    VALUE\nn1    succeeded  a\nn2    succeeded  b\n");
    let seen = master.fake.seen.lock().unwrap();
    assert_eq!(seen.jobs.len(), 1, "a job is made once");
    assert_eq!(seen.jobs[0].args, json!({ "filter": "x", "count": 3 }));
    assert_eq!(seen.jobs[0].target.on, ["n*"]);
}

#[tokio::test]
async fn what_the_master_cannot_do_is_1() {
    let master = Master::start(Script::default()).await;
    master
        .run(&["run", "demo.item.list", "--on", "nothing*"])
        .await
        .expect(1)
        .says("error: no node fits the target");
    master.run(&["nodes", "show", "n9"]).await.expect(1).says("error: there is no node `n9`");
    master.run(&["jobs", "show", "ffff"]).await.expect(1).says("error: there is no job `ffff`");
    master.run(&["jobs", "show", "0199a1b2-c3d4"]).await.expect(1).says("is the beginning of 2 jobs");
}

#[tokio::test]
async fn no_connection_is_1_with_a_reason() {
    let master = Master::start(Script::default()).await;
    let mut away = master.command(&["whoami"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    away.env("WINDLASS_URL", format!("https://127.0.0.1:{port}"));
    Run::of(&mut away).await.expect(1).says("connection refused").says("hint: is it running");

    let mut stranger = master.command(&["whoami"]);
    stranger.env("WINDLASS_CA_FINGERPRINT", format!("sha256:{}", "0".repeat(64)));
    Run::of(&mut stranger)
        .await
        .expect(1)
        .says("not from the authority that you trust")
        .says("hint: compare the fingerprint");

    let mut wrong_name = master.command(&["whoami"]);
    wrong_name.env("WINDLASS_URL", format!("https://127.0.0.2:{}", master.address.port()));
    let run = Run::of(&mut wrong_name).await.expect(1);
    assert!(run.stderr.contains("error: cannot reach the master"), "{run:#?}");

    Run::of(&mut master.bare(&["whoami"]))
        .await
        .expect(1)
        .says("error: not logged in")
        .says("hint: log in first");
}

#[tokio::test]
async fn a_senseless_command_line_is_2_and_makes_no_job() {
    let master = Master::start(Script::default()).await;
    let run = async |more: &[&str]| master.run(more).await.expect(2);
    run(&["run", "demo.item.list"]).await.says("error: on which nodes?").says("--all");
    run(&["run", "demo.item.lits", "--on", "n1"]).await.says("hint: did you mean `demo.item.list`?");
    run(&["run", "other.item.list", "--on", "n1"]).await.says("hint: `windlass ops list` shows");
    run(&["run", "demo", "--on", "n1"]).await.says("plugin.interface.function");
    run(&[&RUN[..], &["count=many"]].concat())
        .await
        .says("caused by: /count: expected u32 (an integer from 0 to 4294967295), found \"many\"")
        .says("hint: see `windlass ops show demo.item.list`");
    run(&[&RUN[..], &["cuont=1"]].concat()).await.says("unknown key `cuont`").says("did you mean `count`?");
    run(&[&RUN[..], &["count"]].concat()).await.says("`count` is not `key=value`");
    run(&[&RUN[..], &["--args", "[1]"]].concat()).await.says("not a json object");
    run(&[&RUN[..], &["--timeout", "soon"]].concat()).await.says("`soon` is not a duration");
    run(&["run", "demo.item.list", "--all", "--on", "n1"]).await;
    run(&["nodes", "lits"]).await;
    run(&["nodes", "label", "n1", "rack"]).await.says("neither `key=value` nor `key-`");
    assert!(master.fake.seen.lock().unwrap().jobs.is_empty());
}

#[tokio::test]
async fn what_may_lose_data_wants_consent() {
    let master = Master::start(Script::default()).await;
    let wipe = ["run", "demo.item.wipe", "--on", "n*"];
    master
        .run(&wipe)
        .await
        .expect(2)
        .says("run `demo.item.wipe`, which may lose data, on 2 nodes: n1, n2")
        .says("hint: there is no terminal to ask on; give `--yes`");
    assert!(master.fake.seen.lock().unwrap().jobs.is_empty());
    master.run(&[&wipe[..], &["--yes"]].concat()).await.expect(0);
    master.run(&[&wipe[..], &["--dry-run"]].concat()).await.expect(0);
    assert_eq!(master.fake.seen.lock().unwrap().jobs.len(), 2);
}

#[tokio::test]
async fn a_node_without_success_is_3() {
    let no_answer = json!({ "status": "no_answer", "last_seen_ms": 1_000 });
    for outcome in [
        no_answer.clone(),
        json!({ "status": "failed", "error": "no" }),
        json!({ "status": "indeterminate", "message": "killed" }),
        json!({ "status": "cancelled", "started": false }),
    ] {
        let master = Master::start(script(vec![("n1", succeeded(json!("a"))), ("n2", outcome)])).await;
        master.run(&RUN).await.expect(3).says("1 succeeded");
    }
    let master = Master::start(script(vec![("n1", no_answer), ("n2", denied())])).await;
    let run = master.run(&RUN).await.expect(3);
    assert!(run.stdout.contains("no answer, last seen "), "{run:#?}");
    master.run(&["jobs", "watch", JOB]).await.expect(3);
    master.run(&["jobs", "show", JOB]).await.expect(0);
}

#[tokio::test]
async fn denied_is_4() {
    let master = Master::start(script(vec![("n1", succeeded(json!("a"))), ("n2", denied())])).await;
    let run = master.run(&RUN).await.expect(4);
    assert!(run.stdout.contains("commands.run `rm -rf`: no `[commands.rm]`"), "{run:#?}");
    master.run(&["tokens", "delete", "t1"]).await.expect(4).says("error: role admin is needed");
    let mut wrong = master.command(&["nodes", "list"]);
    wrong.env("WINDLASS_TOKEN", "bad");
    Run::of(&mut wrong).await.expect(4).says("error: the token is not good").says("hint: log in");
}

#[tokio::test]
async fn a_job_without_a_reply_is_not_made_again() {
    let master = Master::start(Script { drops_new_jobs: true, ..Script::default() }).await;
    master
        .run(&RUN)
        .await
        .expect(1)
        .says("error: it is not known whether the job was made")
        .says("the connection broke")
        .says("hint: look for it with `windlass jobs list`");
    assert_eq!(master.fake.seen.lock().unwrap().jobs.len(), 1);
}
