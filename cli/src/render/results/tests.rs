use super::*;
use crate::render::fixtures::{self, look, report, report_value, status, status_value, succeeded};
use serde_json::json;

fn show(nodes: &[JobNode], shape: Option<&Shape>, columns: &[&str], width: Option<usize>) -> String {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let results = results(nodes, shape, &columns, &look(width));
    for line in results.text.lines() {
        assert_eq!(line.trim_end(), line, "trailing space");
    }
    match results.note {
        Some(note) => format!("{}note: {note}\n", results.text),
        None => results.text,
    }
}

fn grid() -> Vec<JobNode> {
    ["n10", "n2", "n1"].map(|name| succeeded(name, report_value(name))).into()
}

#[test]
fn records_stand_in_one_table() {
    let shape = report();
    insta::assert_snapshot!("records_wide", show(&grid(), Some(&shape), &[], Some(140)));
    insta::assert_snapshot!("records_turned", show(&grid(), Some(&shape), &[], Some(112)));
    insta::assert_snapshot!("records_narrow", show(&grid(), Some(&shape), &[], Some(60)));
    insta::assert_snapshot!("records_chosen", show(&grid(), Some(&shape), &["memory", "os"], Some(60)));
    insta::assert_snapshot!("record_of_one_node", show(&grid()[..1], Some(&shape), &[], Some(60)));
    // Without a type the fields come in the order of the alphabet, and none is lost.
    insta::assert_snapshot!("records_untyped", show(&grid(), None, &[], None));
}

#[test]
fn lists_stand_in_a_table_each() {
    let shape: Shape = serde_json::from_value(json!({ "type": "list", "item": { "type": "record", "fields": [
        { "name": "name", "shape": { "type": "string" } }, { "name": "size_bytes", "shape": { "type": "u64" } },
        { "name": "model", "shape": { "type": "option", "item": { "type": "string" } } } ] } }))
    .unwrap();
    let disk = |name: &str, size: u64| json!({ "name": name, "size_bytes": size, "model": null });
    let nodes = [
        succeeded("n1", json!([disk("sda", 1_000_204_886_016), disk("sdb", 4_096)])),
        succeeded("n2", json!([])),
    ];
    insta::assert_snapshot!("lists", show(&nodes, Some(&shape), &[], None));
    insta::assert_snapshot!("lists_chosen", show(&nodes, Some(&shape), &["name"], None));
}

#[test]
fn deep_values_are_outlined_and_trees_indented() {
    let shape = status();
    insta::assert_snapshot!("tree", show(&[succeeded("n1", status_value())], Some(&shape), &[], Some(80)));
}

#[test]
fn scalars_and_nothing() {
    let text = Shape::String;
    insta::assert_snapshot!(
        "scalars",
        show(&[succeeded("n1", json!("5.2\u{7}")), succeeded("n2", json!("5.3"))], Some(&text), &[], None)
    );
    insta::assert_snapshot!("nothing", show(&[succeeded("n1", json!(null))], None, &[], None));
}

#[test]
fn every_way_not_to_succeed_is_told() {
    insta::assert_snapshot!("troubles", show(&fixtures::troubles(), None, &[], None));
    let mixed: Vec<JobNode> = grid().into_iter().chain(fixtures::troubles().into_iter().take(1)).collect();
    insta::assert_snapshot!("mixed", show(&mixed, Some(&report()), &["hostname"], None));
    assert_eq!(show(&[], None, &[], None), "");
}

#[test]
fn no_answer_is_told_with_the_time() {
    let nodes = &fixtures::troubles()[6..7];
    insta::assert_snapshot!("no_answer", show(nodes, None, &[], None));
}
