//! Rules about arguments, and argument lists for them.

use std::str::from_utf8;
use windlass_bundle::grammar::{Grammar, MAX_ARGS, MAX_ARGS_BYTES, Placeholders, check_limits};

/// Elements of a rule, one a line; an empty line; arguments, one a line (a tab stands for a new line).
/// No placeholder is declared, so each is of the kind of its name and none takes a leading `-`.
pub(crate) fn grammar(bytes: &[u8]) {
    let Ok(text) = from_utf8(bytes) else { return };
    let (rule, args) = text.split_once("\n\n").unwrap_or((text, ""));
    let rule: Vec<&str> = rule.split('\n').collect();
    let args: Vec<String> = args.split('\n').map(|arg| arg.replace('\t', "\n")).collect();
    let grammar = match Grammar::parse(&rule, &Placeholders::new()) {
        Ok(grammar) => grammar,
        Err(error) => {
            assert!(error.element < rule.len() && !error.message.is_empty());
            return;
        }
    };
    if let Err(mismatch) = grammar.matches(&args) {
        assert!(mismatch.at <= args.len() && !mismatch.expected.is_empty());
        return;
    }
    if check_limits(&args).is_err() {
        assert!(
            args.len() > MAX_ARGS || args.concat().len() > MAX_ARGS_BYTES || args.concat().contains('\0')
        );
        return;
    }
    // No option gets in: an argument that begins with `-` does so because the rule spells it.
    let spelled = literals(&rule);
    for arg in args.iter().filter(|arg| arg.starts_with('-')) {
        let fits = spelled.iter().any(|literal| literal.starts_with('-') && arg.starts_with(literal));
        assert!(fits, "{rule:?} lets {arg:?} in");
    }
    for arg in &args {
        assert!(!arg.contains('\0'), "{rule:?} lets a NUL in");
        let any = rule.iter().any(|element| element.contains("{any"));
        assert!(any || !arg.contains(char::is_control), "{rule:?} lets {arg:?} in");
    }
    // Nothing is left over: what fits whole does not fit with more of what never fits.
    let mut more = args.clone();
    more.push("\0".into());
    assert!(grammar.matches(&more).is_err(), "{rule:?} lets anything follow");
    // An empty argument fits nothing.
    assert!(args.iter().all(|arg| !arg.is_empty()), "{rule:?} lets an empty argument in");
}

/// What each alternative of each token begins with, before any placeholder.
fn literals(rule: &[&str]) -> Vec<String> {
    let mut literals = vec![String::new()];
    for element in rule {
        let mut chars = element.chars();
        let group = element.starts_with('[');
        if group {
            chars.next();
        }
        literals.push(String::new());
        let mut open = true;
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    let escaped = chars.next();
                    if open && let (Some(c), Some(last)) = (escaped, literals.last_mut()) {
                        last.push(c);
                    }
                }
                '|' => {
                    literals.push(String::new());
                    open = true;
                }
                ' ' | ']' if group => {
                    literals.push(String::new());
                    open = true;
                }
                '{' => open = false,
                c if open => {
                    if let Some(last) = literals.last_mut() {
                        last.push(c);
                    }
                }
                _ => {}
            }
        }
    }
    literals.retain(|literal| !literal.is_empty());
    literals
}
