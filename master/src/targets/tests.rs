use super::*;
use crate::jobs::testing::node;
use serde_json::json;
use windlass_types::api::Target;

fn fleet() -> Vec<Arc<NodeRecord>> {
    let mut n1 = node("n1");
    n1.labels = Arc::new([("rack".into(), "a".into())].into());
    n1.facts = Arc::new([("os".into(), json!("debian")), ("cpu_count".into(), json!(8))].into());
    let mut n2 = node("n2");
    n2.labels = Arc::new([("rack".into(), "b".into())].into());
    n2.flags = Arc::new(["maintenance".into()].into());
    n2.facts = Arc::new([("os".into(), json!("alpine")), ("disks".into(), json!([1, 2, 3]))].into());
    let mut n3 = node("rack1-n3");
    n3.facts = Arc::new([("memory_bytes".into(), json!(u64::MAX))].into());
    let mut stranger = node("n9");
    stranger.state = NodeState::Pending;
    stranger.labels = Arc::new([("rack".into(), "a".into())].into());
    [n1, n2, n3, stranger].map(Arc::new).to_vec()
}

fn names(target: &Target) -> Result<Vec<String>, TargetError> {
    Ok(resolve(target, &fleet())?.iter().map(|node| node.name.to_string()).collect())
}

fn on(on: &[&str]) -> Target {
    Target { on: on.iter().map(|text| (*text).to_owned()).collect(), ..Target::default() }
}

fn by(text: &str) -> Target {
    Target { r#where: Some(text.to_owned()), ..Target::default() }
}

#[test]
fn names_ids_and_globs() {
    assert_eq!(names(&on(&["n1", "n1"])).unwrap(), ["n1"]);
    assert_eq!(names(&on(&["n*"])).unwrap(), ["n1", "n2"], "pending nodes never count");
    assert_eq!(names(&on(&["*"])).unwrap().len(), 3);
    assert_eq!(names(&on(&["rack[12]-*", "n2"])).unwrap(), ["n2", "rack1-n3"]);
    let nodes = fleet();
    let by_id = resolve(&on(&[&nodes[1].id.to_string()]), &nodes).unwrap();
    assert_eq!(by_id[0].name.as_str(), "n2");
}

#[test]
fn a_name_that_is_not_there_is_an_error_even_beside_a_glob_that_fits() {
    let error = names(&on(&["n*", "rack1-n4"])).unwrap_err();
    assert_eq!(error.to_string(), "there is no node `rack1-n4`");
    assert!(matches!(error, TargetError::Unknown { nearest, .. } if nearest == ["rack1-n3"]));
    assert_eq!(names(&on(&["n9"])).unwrap_err().to_string(), "node `n9` is pending, not accepted");
    assert!(matches!(names(&on(&["x*"])), Err(TargetError::Empty { hint: None })));
    assert!(matches!(names(&on(&["a[", "n1"])), Err(TargetError::Bad(_))));
    assert!(matches!(names(&Target::default()), Err(TargetError::Blank)));
    assert!(names(&on(&["x".repeat(100_000).as_str()])).unwrap_err().to_string().len() < 400);
}

#[test]
fn all_conditions_must_hold() {
    let mut target = on(&["n*"]);
    target.labels.insert("rack".into(), "a".into());
    assert_eq!(names(&target).unwrap(), ["n1"]);
    target.facts.insert("cpu_count".into(), "8".into());
    assert_eq!(names(&target).unwrap(), ["n1"]);
    target.flags.push("maintenance".into());
    assert!(matches!(names(&target), Err(TargetError::Empty { .. })));
}

#[test]
fn cel_over_the_node() {
    for (text, expected) in [
        (r#"node.facts.os == "debian""#, &["n1"][..]),
        (r#"!("maintenance" in node.flags)"#, &["n1", "rack1-n3"]),
        ("node.facts.cpu_count > 4", &["n1"]),
        ("node.facts.memory_bytes == 18446744073709551615u", &["rack1-n3"]),
        ("node.facts.disks.exists(d, d == 3)", &["n2"]),
        ("!has(node.facts.os)", &["rack1-n3"]),
        (r#"node.name.startsWith("rack") || node.labels.rack == "b""#, &["n2", "rack1-n3"]),
        ("!node.online", &["n1", "n2", "rack1-n3"]),
        // A node without the fact fits neither this nor its opposite.
        (r#"!(node.facts.os == "debian")"#, &["n2"]),
    ] {
        assert_eq!(names(&by(text)).unwrap(), expected, "{text}");
    }
}

#[test]
fn an_expression_that_cannot_be_right_is_an_error() {
    let message = |text: &str| names(&by(text)).unwrap_err();
    assert!(matches!(message("node.name == "), TargetError::Where { place: Some((1, _)), .. }));
    assert!(message("nodes.name == 'n1'").to_string().contains("`nodes`"));
    assert!(message("node.name").to_string().contains("neither true nor false"));
    let hint = message("node.facts.nope == 1");
    assert!(
        matches!(&hint, TargetError::Empty { hint: Some(hint) } if hint.contains("nope") && hint.contains("3 nodes")),
        "{hint:?}"
    );
    let deep = "[1].exists(a, [1].exists(b, [1].exists(c, a == b && b == c)))";
    assert!(message(deep).to_string().contains("loops"));
    assert!(message(&" ".repeat(3000)).to_string().contains("longer"));
}
