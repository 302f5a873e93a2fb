//! Documentation of functions: text, and lines about parameters.
//!
//! WIT keeps no documentation of parameters, so a function's own comment has it in a fixed form:
//!
//! ```text
//! /// Replace a device of a pool.
//! ///
//! /// pool: name of the pool
//! /// old-device: what is taken out,
//! ///   as `zpool status` names it
//! ```
//!
//! A line `name: text` that names a parameter documents it; lines after it that are indented go on
//! with it. Everything else is the documentation of the function.

use std::collections::BTreeMap;

/// Documentation of a function, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FunctionDocs {
    pub(crate) text: String,
    /// By the parameter's name in WIT. The first line about a parameter counts.
    pub(crate) params: BTreeMap<String, String>,
}

pub(crate) fn split(docs: &str, params: &[&str]) -> FunctionDocs {
    let mut text: Vec<&str> = Vec::new();
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in docs.lines() {
        let line = line.trim_end();
        if let Some((name, about)) = parameter(line, params)
            && !found.contains_key(name)
        {
            found.insert(name.to_owned(), about.to_owned());
            current = Some(name.to_owned());
            continue;
        }
        match current.as_ref().and_then(|name| found.get_mut(name)) {
            Some(about) if line.starts_with([' ', '\t']) => {
                about.push(' ');
                about.push_str(line.trim());
            }
            _ => {
                current = None;
                text.push(line);
            }
        }
    }
    FunctionDocs { text: tidy(&text), params: found }
}

/// `name: text`, where `name` is a parameter as WIT or as JSON spells it.
fn parameter<'d, 'p>(line: &'d str, params: &[&'p str]) -> Option<(&'p str, &'d str)> {
    let (name, about) = line.split_once(':')?;
    // The space tells `pool: name` from a path or a URL.
    let about = if about.is_empty() { about } else { about.strip_prefix([' ', '\t'])? };
    let param =
        params.iter().find(|param| **param == name || windlass_types::shape::json_name(param) == name)?;
    Some((param, about.trim()))
}

/// Without empty lines at either end, and never two in a row: taking lines out leaves some.
fn tidy(lines: &[&str]) -> String {
    let mut out = String::new();
    let mut gap = false;
    for line in lines {
        if line.is_empty() {
            gap = !out.is_empty();
            continue;
        }
        if !out.is_empty() {
            out.push_str(if gap { "\n\n" } else { "\n" });
        }
        gap = false;
        out.push_str(line);
    }
    out
}

/// Documentation of anything else: as it is, trimmed.
pub(crate) fn plain(docs: &wit_parser::Docs) -> String {
    docs.contents.as_deref().map(str::trim).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_out_of_the_text() {
        let docs = "Replace a device.\n\nThe pool: stays online.\n\npool: name of the pool\nold-device: what is taken out,\n  as `zpool status` names it\nnew_device: its successor\n\nTakes hours.";
        let split = split(docs, &["pool", "old-device", "new-device"]);
        assert_eq!(split.text, "Replace a device.\n\nThe pool: stays online.\n\nTakes hours.");
        assert_eq!(
            split.params.into_iter().collect::<Vec<_>>(),
            [
                ("new-device".to_owned(), "its successor".to_owned()),
                ("old-device".to_owned(), "what is taken out, as `zpool status` names it".to_owned()),
                ("pool".to_owned(), "name of the pool".to_owned()),
            ]
        );
    }

    #[test]
    fn what_names_no_parameter_is_text() {
        let docs = "see: zpool(8)\nhttps://example.org\npool:tank is a lock\n  indented";
        let split = split(docs, &["pool", "https"]);
        assert_eq!(split.text, docs);
        assert!(split.params.is_empty());
        assert_eq!(super::split("pool: a\npool: b", &["pool"]).text, "pool: b");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(docs in "(?s).{0,200}", lines in "(pool: ?|  |\n|x|:){0,40}") {
            split(&docs, &["pool", ""]);
            split(&lines, &["pool", ""]);
        }
    }
}
