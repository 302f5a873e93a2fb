//! What a plan has to be, and when it may be applied.

use super::{super::RunError, Rig, RunState, StepState, hosts::Reply, permit, plan, step};
use crate::{
    access::{Permit, Role},
    jobs::testing::OPERATION,
    store::{StoreError, plans as rows},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use windlass_types::{
    Digest, Effect, PlanId,
    api::{
        NodeState, Target,
        access::RoleRule,
        plans::{ApplyPlan, PlanSource},
    },
};

#[tokio::test]
async fn what_can_not_be_right_is_told_with_its_step_and_place() {
    let rig = Rig::new().await;
    rig.grid.change("n3", |node| node.flags = Arc::new(["maintenance".to_owned()].into()));
    rig.grid.operation.0.lock().unwrap().effect = Effect::Change;
    rig.grid.operation.0.lock().unwrap().idempotent = false;
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut wrong = step("a", "n1", 1, &[]);
        change(&mut wrong);
        plan(&[wrong])
    };
    let look = json!({ "node": "n1", "operation": OPERATION });
    type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);
    let cases: [Case<'_>; 8] = [
        (
            &|step| step["act"]["operation"] = json!("monitor.system.raed"),
            "step `a`: no node offers an operation `monitor.system.raed`: did you mean `monitor.system.read`? (/steps/0/act/operation)",
        ),
        (
            &|step| step["undo"]["args"]["limit"] = json!(300),
            "step `a`: the arguments of `monitor.system.read` do not fit at /limit: expected u8 (an integer from 0 to 255), found 300 (/steps/0/undo/args/limit)",
        ),
        (
            &|step| step["act"]["node"] = json!("n4"),
            "step `a`: there is no accepted node `n4`: did you mean `n1`? (/steps/0/act/node)",
        ),
        (
            &|step| step["undo"]["node"] = json!("n3"),
            "step `a`: node n3 has the flag `maintenance` (/steps/0/undo/node)",
        ),
        (
            &|step| step["verify"] = json!({ "action": look }),
            "step `a`: `verify` only looks, and `monitor.system.read` may change something (/steps/0/verify/action/operation)",
        ),
        (
            &|step| step["retries"] = json!(1),
            "step `a`: `monitor.system.read` is not idempotent: it is not tried again by itself (/steps/0/retries)",
        ),
        (
            &|step| step["after"] = json!(["a"]),
            "step `a`: it would have to wait for itself, by way of `after` (/steps/0/after)",
        ),
        (&|step| step["title"] = json!(""), "step `a`: `title`: it is empty (/steps/0/title)"),
    ];
    for (change, expected) in cases {
        assert_eq!(rig.refused(&wrong(change)).await, expected);
    }
    rig.grid.operation.0.lock().unwrap().effect = Effect::Read;
    let expression = wrong(&|step| step["verify"] = json!({ "action": look, "expect": "output ==" }));
    let told = rig.refused(&expression).await;
    assert!(
        told.starts_with("step `a`: `expect`: the expression at line 1")
            && told.ends_with("(/steps/0/verify/expect)"),
        "{told}"
    );
    let many = rig.refused(&plan(&[step("a", "x", 1, &[]), step("b", "y", 1, &[])])).await;
    assert_eq!(many.lines().count(), 4, "{many}");
}

#[tokio::test]
async fn a_plan_says_what_it_may_do_and_what_to_look_at() {
    let rig = Rig::new().await;
    {
        let mut operation = rig.grid.operation.0.lock().unwrap();
        (operation.effect, operation.idempotent) = (Effect::Destroy, false);
    }
    let mut bare = step("b", "n2", 2, &["a"]);
    bare.as_object_mut().unwrap().remove("undo");
    let made = rig.make(&plan(&[step("a", "n1", 1, &[]), bare])).await;
    assert_eq!(made.review.effect, Effect::Destroy);
    assert_eq!(made.review.operations[0].uses, 3);
    assert_eq!(made.review.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["n1", "n2"]);
    let warnings = made.review.warnings.join("\n");
    assert!(
        warnings.contains("step `b` may destroy data, and has no undo: a rollback leaves it"),
        "{warnings}"
    );
    assert!(warnings.contains("not declared idempotent"), "{warnings}");
}

#[tokio::test]
async fn a_plan_is_applied_once_and_only_while_the_fleet_is_as_it_was() {
    let rig = Rig::new().await;
    let of = plan(&[step("a", "n1", 1, &[])]);
    let made = rig.make(&of).await;
    let id = made.info.id;
    let other = ApplyPlan { fleet_version: Some(Digest::of(b"x")) };
    let error = rig.plans.apply(&id.to_string(), &other, "ann", &permit()).await.unwrap_err();
    assert!(matches!(error, RunError::OtherVersion(_)), "{error}");

    // Nodes that it does not name don't matter.
    rig.grid.change("n2", |node| node.state = NodeState::Revoked);
    type Change<'a> = &'a dyn Fn(&mut crate::fleet::NodeRecord);
    let flag: Change<'_> = &|node| node.flags = Arc::new(["draining".to_owned()].into());
    let label: Change<'_> =
        &|node| node.labels = Arc::new(BTreeMap::from([("zone".to_owned(), "b".to_owned())]));
    let revoked: Change<'_> = &|node| node.state = NodeState::Revoked;
    let before = rig.grid.jobs.node(rig.grid.id("n1")).unwrap();
    for (change, words) in [
        (flag, "node n1 has the flag `draining`"),
        (label, "node n1 has the label zone=b"),
        (revoked, "node n1 is not accepted any more"),
    ] {
        rig.grid.change("n1", change);
        let error = rig.try_apply(id).await.unwrap_err().to_string();
        assert_eq!(error, format!("the fleet moved since plan {id} was made: {words}"));
        rig.grid.change("n1", |node| *node = crate::fleet::NodeRecord::clone(&before));
    }
    assert_eq!(made.review.fleet_version, rig.make(&of).await.review.fleet_version);
    rig.try_apply(id).await.unwrap();
    rig.over(id).await;
    assert!(matches!(rig.try_apply(id).await.unwrap_err(), RunError::Applied(_)));
}

#[tokio::test]
async fn two_runs_do_not_change_the_same_at_once() {
    let rig = Rig::new().await;
    rig.grid.operation.0.lock().unwrap().locks = vec!["pool:{limit}".into()];
    rig.hosts.script(1, 0, &[Reply::Silent]);
    let first = rig.apply(&plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])])).await;
    rig.step_is(first, "a", StepState::Running).await;
    let waits = rig.make(&plan(&[step("x", "n2", 2, &[])])).await.info.id;
    let error = rig.try_apply(waits).await.unwrap_err();
    assert_eq!(error.to_string(), format!("`pool:2` on node n2 is needed by run {first} until it is over"));
    let other = rig.apply(&plan(&[step("x", "n2", 3, &[]), step("y", "n3", 2, &[])])).await;
    assert_eq!(rig.over(other).await.info.state, RunState::Done);
    rig.hosts.tell(&rig.grid, "n1").await;
    rig.over(first).await;
    rig.try_apply(waits).await.unwrap();
    rig.over(waits).await;
}

#[tokio::test]
async fn all_operations_of_a_plan_have_to_be_allowed_on_all_its_nodes() {
    let rig = Rig::new().await;
    let on = |names: &[&str]| {
        let target = Target { on: names.iter().map(ToString::to_string).collect(), ..Target::default() };
        let rule = RoleRule {
            operations: vec!["monitor.*".into()],
            effect: Some(Effect::Destroy),
            permissions: [].into(),
            secrets: Vec::new(),
            target: Some(target),
        };
        Permit(Arc::new(Role::parse("night".parse().unwrap(), &[rule]).unwrap()))
    };
    let of: windlass_types::plans::Plan =
        serde_json::from_value(plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])])).unwrap();
    let denied = rig
        .plans
        .make(PlanId::new(), of.clone(), PlanSource::Written, "ann", &on(&["n1"]))
        .await
        .unwrap_err();
    assert_eq!(denied.to_string(), "role `night` does not allow `monitor.system.read` (read) on n2");
    let made =
        rig.plans.make(PlanId::new(), of, PlanSource::Written, "ann", &on(&["n1", "n2"])).await.unwrap();
    let id = made.info.id.to_string();
    let denied = rig.plans.apply(&id, &ApplyPlan::default(), "ann", &on(&["n2"])).await.unwrap_err();
    assert!(matches!(denied, RunError::Denied(_)), "{denied}");
    rig.hosts.script(2, 0, &[Reply::Silent]);
    rig.plans.apply(&id, &ApplyPlan::default(), "ann", &on(&["n1", "n2"])).await.unwrap();
    let cancel = super::super::Verb::Cancel;
    let denied = rig.plans.do_to(&id, &cancel, "ann", &on(&["n2"])).await.unwrap_err();
    assert!(matches!(denied, RunError::Denied(_)), "{denied}");
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_jobs_of_open_runs_are_not() {
    let rig = Rig::new().await;
    rig.hosts.script(2, 0, &[Reply::Silent]);
    let of = plan(&[step("a", "n1", 1, &[]), step("b", "n2", 2, &["a"])]);
    let unapplied = rig.make(&of).await.info;
    let id = rig.apply(&of).await;
    rig.step_is(id, "b", StepState::Running).await;
    let sweep = async |now_ms, before_ms, keep| {
        let sweep = rig.grid.store.write::<u64, StoreError, _>(move |c| {
            Box::pin(async move { rows::sweep(c, now_ms, before_ms, keep).await })
        });
        sweep.await.unwrap()
    };
    assert_eq!(sweep(unapplied.expires_ms, 0, 100).await, 0);
    assert_eq!(sweep(unapplied.expires_ms + 1, 0, 100).await, 1, "the one that was not applied");
    assert!(rig.plans.get(&unapplied.id.to_string()).await.is_err());
    let sweep_jobs = || {
        rig.grid.store.write::<u64, StoreError, _>(|c| {
            Box::pin(async move { crate::store::jobs::sweep(c, i64::MAX, 0).await })
        })
    };
    // Of a run that is under way, it is known how the first ended.
    assert_eq!(sweep_jobs().await.unwrap(), 1);
    rig.grid.offline("n2");
    rig.step_is(id, "b", StepState::Owed).await;
    assert_eq!(sweep_jobs().await.unwrap(), 0, "it has to be found out what became of it");
    rig.plans.do_to(&id.to_string(), &super::super::Verb::Abandon, "ann", &permit()).await.unwrap();
    assert_eq!(sweep_jobs().await.unwrap(), 1);
    assert_eq!(sweep(0, i64::MAX, 100).await, 1);
    assert!(rig.plans.run(&id.to_string()).await.is_err());
    let gone: PlanId = id;
    let left: Option<i64> = crate::store::sql::query("SELECT COUNT(*) FROM run_events WHERE run_id = $1")
        .bind(gone.to_string())
        .fetch_scalar(rig.grid.store.readers())
        .await
        .unwrap();
    assert_eq!(left, Some(0));
}
