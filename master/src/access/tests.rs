use super::*;
use crate::{fleet::NodeRecord, jobs::testing::node};
use proptest::{collection, prelude::*, sample};
use std::{collections::BTreeMap, sync::Arc};
use windlass_types::api;

const NODES: [&str; 4] = ["a1", "a2", "b1", "b2"];
const OPERATIONS: [&str; 3] = ["zfs.pool.list", "zfs.pool.destroy", "monitor.system.read"];

fn grid() -> Vec<Arc<NodeRecord>> {
    let labelled = |name: &&str| {
        let mut record = node(name);
        record.labels = Arc::new([("rack".to_owned(), name[..1].to_owned())].into());
        Arc::new(record)
    };
    NODES.iter().map(labelled).collect()
}

fn role(rules: &[RoleRule]) -> Role {
    Role::parse("test".parse().unwrap(), rules).unwrap()
}

fn labels(rack: &str) -> Target {
    Target { labels: [("rack".to_owned(), rack.to_owned())].into(), ..Target::default() }
}

fn on(names: &[&str]) -> Target {
    Target { on: names.iter().map(ToString::to_string).collect(), ..Target::default() }
}

fn reads(operations: &str, target: Option<Target>) -> RoleRule {
    RoleRule { operations: vec![operations.into()], target, ..RoleRule::default() }
}

fn targets() -> impl Strategy<Value = Target> {
    let names = sample::subsequence(vec!["a*", "b*", "a1", "b2", "*", "gone"], 1..4);
    prop_oneof![
        names.prop_map(|names| on(&names)),
        sample::select(vec!["a", "b", "c"]).prop_map(labels),
        sample::select(vec!["node.name == 'a1'", "node.labels.rack == 'b'", "node.facts.none == 1"])
            .prop_map(|text| Target { r#where: Some(text.into()), ..Target::default() }),
    ]
}

fn rules() -> impl Strategy<Value = RoleRule> {
    let effect = sample::select(vec![Effect::Read, Effect::Change, Effect::Destroy]);
    let globs = sample::subsequence(vec!["*", "zfs.*", "*.read", "zfs.pool.list", "other.*"], 1..3);
    let secrets = sample::subsequence(vec!["*", "nas-*", "bmc"], 0..3);
    let permissions = sample::subsequence(Permission::ALL.to_vec(), 0..4);
    (globs, secrets, effect, permissions, proptest::option::of(targets())).prop_map(
        |(globs, secrets, effect, permissions, target)| RoleRule {
            operations: globs.into_iter().map(str::to_owned).collect(),
            secrets: secrets.into_iter().map(str::to_owned).collect(),
            effect: Some(effect),
            permissions: permissions
                .into_iter()
                .filter(|permission| target.is_none() || permission.on_nodes())
                .collect(),
            target,
        },
    )
}

/// Everything that can be asked on this grid.
fn questions(nodes: &[Arc<NodeRecord>], lasting: &[Target], mut ask: impl FnMut(Need<'_>, On<'_>)) {
    let names: Vec<OperationName> = OPERATIONS.iter().map(|name| name.parse().unwrap()).collect();
    let secret = "nas-1".parse().unwrap();
    let mut needs: Vec<Need<'_>> = Permission::ALL.iter().copied().map(Need::Permission).collect();
    needs.push(Need::AnyOperation);
    for name in &names {
        for effect in [Effect::Read, Effect::Change, Effect::Destroy] {
            needs.push(Need::Operation { name, effect });
            needs.push(Need::Secret { name: &secret, operation: name, effect });
        }
    }
    for need in needs {
        ask(need, On::Everywhere);
        ask(need, On::Somewhere);
        ask(need, On::Nodes(nodes));
        for node in nodes {
            ask(need, On::Nodes(std::slice::from_ref(node)));
        }
        for target in lasting {
            ask(need, On::Lasting(target));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn one_more_rule_never_takes_a_right(
        before in collection::vec(rules(), 0..4), more in rules(), at in 0_usize..4, asked in targets(),
    ) {
        let (small, mut after) = (role(&before), before.clone());
        after.insert(at.min(before.len()), more);
        let large = role(&after);
        questions(&grid(), std::slice::from_ref(&asked), |need, on| {
            if decide(&small, need, on).is_ok() {
                assert!(decide(&large, need, on).is_ok(), "{need:?} {on:?}");
            }
        });
    }

    #[test]
    fn nothing_is_allowed_that_no_rule_gives(all in collection::vec(rules(), 0..4), asked in targets()) {
        let whole = role(&all);
        questions(&grid(), std::slice::from_ref(&asked), |need, on| {
            let giving: Vec<&RoleRule> = all.iter().filter(|rule| match need {
                Need::Permission(permission) => rule.permissions.contains(&permission),
                Need::AnyOperation => true,
                Need::Secret { name, operation, effect } => {
                    let matches = |globs: &[String], text: &str| {
                        globs.iter().any(|glob| Glob::new(glob).unwrap().compile_matcher().is_match(text))
                    };
                    effect <= rule.effect.unwrap()
                        && matches(&rule.operations, operation.as_str())
                        && matches(&rule.secrets, name.as_str())
                }
                Need::Operation { name, effect } => {
                    effect <= rule.effect.unwrap()
                        && rule.operations.iter().any(|glob| Glob::new(glob).unwrap().compile_matcher().is_match(name.as_str()))
                }
            }).collect();
            if giving.is_empty() {
                assert!(decide(&whole, need, on).is_err(), "{need:?} {on:?}");
            }
        });
    }

    /// What is allowed for a target that lasts is allowed on every node that it ever means.
    #[test]
    fn a_target_that_lasts_means_no_node_beyond_the_rules(
        all in collection::vec(rules(), 1..4), asked in targets(),
    ) {
        let (whole, nodes) = (role(&all), grid());
        let name = OPERATIONS[0].parse().unwrap();
        let need = Need::Operation { name: &name, effect: Effect::Read };
        let meant: Vec<Arc<NodeRecord>> =
            nodes.iter().filter(|node| crate::targets::fits(&asked, node)).cloned().collect();
        if decide(&whole, need, On::Lasting(&asked)).is_ok() && !meant.is_empty() {
            prop_assert_eq!(decide(&whole, need, On::Nodes(&meant)), Ok(()));
        }
    }

    /// A set of nodes is allowed when each of them is.
    #[test]
    fn nodes_are_judged_one_by_one(all in collection::vec(rules(), 0..4)) {
        let (whole, nodes) = (role(&all), grid());
        let mut each: BTreeMap<String, bool> = BTreeMap::new();
        questions(&nodes, &[], |need, on| match on {
            On::Nodes(some) if some.len() == 1 => {
                *each.entry(format!("{need:?}")).or_insert(true) &= decide(&whole, need, on).is_ok();
            }
            _ => {}
        });
        questions(&nodes, &[], |need, on| if let On::Nodes(some) = on && some.len() > 1 {
            assert_eq!(decide(&whole, need, on).is_ok(), each[&format!("{need:?}")], "{need:?}");
        });
    }
}

#[test]
fn a_role_without_rules_allows_nothing() {
    let nothing = Role::nothing("nothing".parse().unwrap());
    questions(&grid(), &[on(&["*"])], |need, on| {
        assert!(matches!(decide(&nothing, need, on), Err(Denied::NoRule { .. })));
    });
}

#[test]
fn a_denial_names_operation_effect_and_nodes() {
    let name: OperationName = "zfs.pool.list".parse().unwrap();
    let need = |effect| Need::Operation { name: &name, effect };
    let limited = role(&[reads("zfs.*", Some(on(&["a1"])))]);
    let words = |need, on| decide(&limited, need, on).unwrap_err().to_string();
    let nodes = grid();
    assert_eq!(
        words(need(Effect::Read), On::Nodes(&nodes)),
        "role `test` does not allow `zfs.pool.list` (read) on a2, b1, b2"
    );
    assert_eq!(
        words(need(Effect::Change), On::Nodes(&nodes)),
        "role `test` does not allow `zfs.pool.list` (change)"
    );
    let other = role(&[reads("zfs.*", Some(on(&["gone"])))]);
    assert_eq!(
        decide(&other, need(Effect::Read), On::Nodes(&nodes)).unwrap_err().to_string(),
        "role `test` does not allow `zfs.pool.list` (read) on a1, a2, b1 and 1 more"
    );
}

#[test]
fn two_rules_together_allow_what_neither_does() {
    let name: OperationName = "zfs.pool.list".parse().unwrap();
    let need = Need::Operation { name: &name, effect: Effect::Read };
    let both = role(&[reads("zfs.*", Some(labels("a"))), reads("*", Some(on(&["b*"])))]);
    assert_eq!(decide(&both, need, On::Nodes(&grid())), Ok(()));
    assert_eq!(rules_of_nodes(&both, need, &grid()), [Some(0), Some(0), Some(1), Some(1)]);
    assert!(matches!(decide(&both, need, On::Everywhere), Err(Denied::Everywhere { .. })));
}

#[test]
fn a_target_that_lasts_has_to_hold_the_limits_of_a_rule() {
    let name: OperationName = "zfs.pool.list".parse().unwrap();
    let need = Need::Operation { name: &name, effect: Effect::Read };
    let allowed = |limit: Target, asked: Target| {
        decide(&role(&[reads("*", Some(limit))]), need, On::Lasting(&asked)).is_ok()
    };
    let both = Target { on: vec!["a1".into()], ..labels("a") };
    assert!(allowed(labels("a"), labels("a")));
    assert!(allowed(labels("a"), both.clone()));
    assert!(!allowed(both, labels("a")));
    // Today they mean the same nodes.
    assert!(!allowed(labels("a"), on(&["a*"])));
    assert!(!allowed(labels("a"), labels("b")));
    assert!(allowed(on(&["a*"]), on(&["a1", "a2"])));
    assert!(allowed(on(&["a*"]), on(&["a*"])));
    assert!(!allowed(on(&["a*"]), on(&["*"])));
    assert!(!allowed(on(&["a*"]), on(&["a1", "b1"])));
    // A glob is no name, whatever it looks like.
    assert!(!allowed(on(&["a?"]), on(&["a*"])));
    // An id that begins with `a` is not a node whose name does.
    assert!(!allowed(on(&["a*"]), on(&["a0000000-0000-4000-8000-000000000000"])));
}

#[test]
fn rules_that_cannot_be_right_are_refused() {
    let problem = |rule: RoleRule| match Role::parse("test".parse().unwrap(), &[rule]) {
        Err(BadRole::Rule { rule: 1, problem }) => problem,
        other => panic!("{other:?}"),
    };
    let empty = RoleRule::default();
    assert!(problem(empty.clone()).contains("neither"));
    assert!(
        problem(RoleRule {
            effect: Some(Effect::Read),
            permissions: [Permission::NodesRead].into(),
            ..empty.clone()
        })
        .contains("`effect`")
    );
    assert!(problem(reads("zfs.[", None)).contains("zfs.["));
    assert!(problem(reads("*", Some(Target::default()))).contains("empty"));
    assert!(problem(reads("*", Some(on(&["n["])))).contains("n["));
    let broken = Target { r#where: Some("node.".into()), ..Target::default() };
    assert!(problem(reads("*", Some(broken))).contains("target"));
    let whole =
        RoleRule { permissions: [Permission::TokensManage].into(), target: Some(labels("a")), ..empty };
    assert!(problem(whole).contains("`tokens.manage` can't be given on some nodes only"));
    let many = vec![reads("*", None); MAX_RULES + 1];
    assert_eq!(Role::parse("test".parse().unwrap(), &many).unwrap_err(), BadRole::TooMany);
}

#[test]
fn a_secret_is_given_to_the_operations_and_nodes_of_its_rule_only() {
    let rule = RoleRule { secrets: vec!["nas-*".into()], ..reads("zfs.*", Some(on(&["a*"]))) };
    let all = role(&[rule.clone(), reads("*", None)]);
    let (nas, bmc) = ("nas-1".parse().unwrap(), "bmc".parse().unwrap());
    let (zfs, other) = (OPERATIONS[0].parse().unwrap(), "other.thing.read".parse().unwrap());
    let nodes = grid();
    let on_a: Vec<Arc<NodeRecord>> =
        nodes.iter().filter(|node| node.name.as_str().starts_with('a')).cloned().collect();
    assert!(!on_a.is_empty() && on_a.len() < nodes.len());
    let given = |name, operation, effect, nodes: &[Arc<NodeRecord>]| {
        decide(&all, Need::Secret { name, operation, effect }, On::Nodes(nodes)).is_ok()
    };
    assert!(given(&nas, &zfs, Effect::Read, &on_a));
    assert!(!given(&nas, &zfs, Effect::Read, &nodes), "the other rule gives the operation, not the secret");
    assert!(!given(&nas, &zfs, Effect::Change, &on_a));
    assert!(!given(&nas, &other, Effect::Read, &on_a));
    assert!(!given(&bmc, &zfs, Effect::Read, &on_a));
    let bare = RoleRule {
        operations: vec![],
        permissions: [Permission::NodesRead].into(),
        target: None,
        effect: None,
        ..rule
    };
    let refused = Role::parse("test".parse().unwrap(), &[bare]).unwrap_err().to_string();
    assert!(refused.contains("`secrets`"), "{refused}");
    for level in [api::Role::Viewer, api::Role::Operator] {
        let need = Need::Secret { name: &nas, operation: &zfs, effect: Effect::Read };
        assert!(decide(&Role::built_in(level), need, On::Nodes(&nodes)).is_err());
    }
}

#[test]
fn the_admin_has_every_permission() {
    let admin = Role::built_in(api::Role::Admin);
    questions(&grid(), &[on(&["*"])], |need, on| assert_eq!(decide(&admin, need, on), Ok(())));
}
