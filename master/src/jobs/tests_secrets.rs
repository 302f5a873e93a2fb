//! Jobs that name secrets.

use super::testing::*;
use super::*;
use crate::{access::Role, store::audit};
use serde_json::json;
use windlass_identity::{Letter, SealingKey, SealingPublic};
use windlass_types::{
    Refusal, SecretName,
    api::{self, access::RoleRule},
    shape::{Field, Shape, Signature},
};

fn new(args: serde_json::Value) -> NewJob {
    NewJob { operation: OPERATION.parse().unwrap(), args, ..new_job(&["*"]) }
}

fn named(name: &str) -> NewJob {
    new(json!({ "password": { "secret": name } }))
}

fn takes_secrets(grid: &Grid, name: &str, key: &SealingKey) {
    let key = SealingPublic::from_bytes(key.public_bytes()).unwrap();
    grid.change(name, |node| node.sealing_key = Some(Arc::new(key)));
}

/// A grid whose operation takes a secret.
async fn grid(names: &[&str]) -> Grid {
    let grid = Grid::new(names).await;
    let shape = Shape::Option { item: Box::new(Shape::Secret) };
    let params = vec![Field { name: "password".into(), shape, docs: String::new() }];
    grid.operation.0.lock().unwrap().operation.signature = Signature { params, result: None };
    grid
}

fn permit(role: api::Role) -> Permit {
    Permit(Arc::new(Role::built_in(role)))
}

async fn outcome(grid: &Grid, created: Created) -> Outcome {
    let ended = grid.jobs.wait(created, Duration::from_secs(20)).await.unwrap();
    ended.results.unwrap().remove(0).outcome.unwrap()
}

#[tokio::test]
async fn a_secret_goes_out_sealed_to_its_node() {
    let grid = grid(&["n1", "n2"]).await;
    let keys = [SealingKey::generate(), SealingKey::generate()];
    for (name, key) in ["n1", "n2"].into_iter().zip(&keys) {
        takes_secrets(&grid, name, key);
    }
    let nas: SecretName = "nas".parse().unwrap();
    grid.vault.set(&nas, b"hunter2", "jane").await.unwrap();
    let created = grid.jobs.create_permitted(named("nas"), "jane", &permit(api::Role::Admin)).await.unwrap();
    let runs = grid.fleet.secrets_sent();
    assert_eq!(runs.len(), 2);
    for (node, run) in runs {
        let mine = usize::from(node == grid.id("n2"));
        let operation = OPERATION.parse().unwrap();
        let letter = Letter {
            request: run.request_id.parse().unwrap(),
            job: created.job.id,
            operation: &operation,
            name: &nas,
        };
        assert_eq!(&keys[mine].open(letter, &run.secrets[0].sealed).unwrap()[..], b"hunter2");
        assert!(keys[1 - mine].open(letter, &run.secrets[0].sealed).is_err(), "another node's copy");
    }
    let entries = audit::page(&grid.store, None, 100).await.unwrap();
    let made = entries.iter().find(|entry| entry.action == "job.create").unwrap();
    assert_eq!(made.detail["secrets"], json!(["nas"]));
    let all = serde_json::to_string(&entries).unwrap();
    assert!(!all.contains("hunter2"), "{all}");
}

#[tokio::test]
async fn who_may_not_give_it_is_denied_and_learns_nothing() {
    let grid = grid(&["n1"]).await;
    grid.vault.set(&"nas".parse().unwrap(), b"hunter2", "jane").await.unwrap();
    // Whether there is such a secret makes no difference.
    for name in ["nas", "no-such-secret"] {
        let denied = grid.jobs.create_permitted(named(name), "joe", &permit(api::Role::Operator)).await;
        assert!(matches!(denied, Err(JobError::Denied(_))), "{denied:?}");
    }
    let rule =
        RoleRule { operations: vec![OPERATION.into()], secrets: vec!["nas".into()], ..RoleRule::default() };
    let allowed = Permit(Arc::new(Role::parse("shift".parse().unwrap(), &[rule]).unwrap()));
    grid.jobs.create_permitted(named("nas"), "joe", &allowed).await.unwrap();
    let unknown = grid.jobs.create_permitted(named("bmc"), "joe", &permit(api::Role::Admin)).await;
    assert!(matches!(unknown, Err(JobError::Secret(_))), "{unknown:?}");
    let plain = new(json!({ "password": "hunter2" }));
    let plain = grid.jobs.create_permitted(plain, "joe", &permit(api::Role::Admin)).await.unwrap_err();
    assert!(matches!(&plain, JobError::BadArguments(_)) && !plain.to_string().contains("hunter2"), "{plain}");
}

#[tokio::test]
async fn nobody_gives_secrets_unattended() {
    let grid = grid(&["n1"]).await;
    grid.vault.set(&"nas".parse().unwrap(), b"hunter2", "jane").await.unwrap();
    let made = grid.jobs.create(named("nas"), "schedule:nightly").await;
    assert!(matches!(made, Err(JobError::SecretUnattended)), "{made:?}");
    assert!(matches!(grid.jobs.check(&named("nas")).await, Err(JobError::SecretUnattended)));
    grid.jobs.check(&new(json!({}))).await.unwrap();
}

#[tokio::test]
async fn a_host_that_takes_no_secrets_is_refused() {
    let grid = grid(&["n1"]).await;
    grid.vault.set(&"nas".parse().unwrap(), b"hunter2", "jane").await.unwrap();
    let created = grid.jobs.create_permitted(named("nas"), "jane", &permit(api::Role::Admin)).await.unwrap();
    let Outcome::Refused { reason: Refusal::Secret, message } = outcome(&grid, created).await else {
        panic!("expected a refusal");
    };
    assert!(message.contains("update"), "{message}");
}

/// Also by a master that has taken over.
#[tokio::test]
async fn a_value_that_was_changed_meanwhile_is_not_sent() {
    let mut grid = grid(&["n1"]).await;
    takes_secrets(&grid, "n1", &SealingKey::generate());
    grid.vault.set(&"nas".parse().unwrap(), b"hunter2", "jane").await.unwrap();
    grid.offline("n1");
    let waits = NewJob { wait_offline_ms: Some(60_000), ..named("nas") };
    let created = grid.jobs.create_permitted(waits, "jane", &permit(api::Role::Admin)).await.unwrap();
    grid.restart().await;
    grid.vault.set(&"nas".parse().unwrap(), b"hunter3", "jane").await.unwrap();
    grid.connect("n1", &[], &[]).await;
    let job = created.job.id;
    grid.finished(job).await;
    let outcome = grid.outcomes(job).await.remove("n1").unwrap();
    let Outcome::Refused { reason: Refusal::Secret, message } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("`nas` was changed"), "{message}");
    assert!(grid.fleet.secrets_sent().is_empty());
}
