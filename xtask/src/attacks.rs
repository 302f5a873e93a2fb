//! SECURITY.md lists attacks with the tests that prove the defence: those tests exist.

use crate::exec::root;
use std::fs;

/// Rows of the table of attacks: the attack, and its proofs as (file, test).
fn attacks(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    let (_, section) = text.split_once("\n## Attacks").expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let mut file = "";
            let mut proofs = Vec::new();
            for quoted in cells.last().unwrap_or(&"").split('`').skip(1).step_by(2) {
                if quoted.ends_with(".rs") {
                    file = quoted;
                } else {
                    proofs.push((file, quoted));
                }
            }
            (cells[0], proofs)
        })
        .collect()
}

/// Whether a file has a test of this name that is not ignored.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let wanted = [format!("fn {name}("), format!("async fn {name}(")];
    let at = lines.iter().position(|line| wanted.iter().any(|wanted| line.starts_with(wanted.as_str())));
    let Some(at) = at else { return false };
    let attributes =
        || lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
    attributes().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        && !attributes().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn every_attack_has_its_proof() {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let attacks = attacks(&text);
    assert!(attacks.len() > 25, "the table is not found: {} rows", attacks.len());
    let mut missing = Vec::new();
    for (attack, proofs) in attacks {
        if proofs.is_empty() {
            missing.push(format!("nothing proves the defence against {attack}"));
        }
        for (file, name) in proofs {
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !has_test(&source, name) {
                missing.push(format!("{file} has no test {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn tests_are_told_from_other_functions() {
    assert!(has_test("#[test]\nfn a() {}", "a"));
    assert!(has_test("    /// Why.\n    #[tokio::test(flavor = \"x\")]\n    async fn a() {}", "a"));
    assert!(!has_test("fn a() {}", "a"));
    assert!(!has_test("#[test]\n#[ignore]\nfn a() {}", "a"));
    assert!(!has_test("#[test]\nfn ab() {}", "a"));
}
