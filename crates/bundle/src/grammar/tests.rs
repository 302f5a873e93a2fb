use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn grammar(args: &[&str]) -> Grammar {
    Grammar::parse(args, &declared()).unwrap_or_else(|error| panic!("{args:?}: {error}"))
}

/// One placeholder of each kind, under names that say it.
fn declared() -> Placeholders {
    let path = |root: &str| Kind::Path { under: vec![AbsolutePath::parse(root).expect("a path")] };
    [
        ("pool", Kind::Name.into()),
        ("device", path("/dev").into()),
        ("count", Kind::Number { min: 1, max: 64 }.into()),
        ("setting", Kind::Property { keys: vec!["quota".into()] }.into()),
        ("columns", Kind::List { items: vec!["name".into(), "size".into()] }.into()),
        ("switch", Kind::OneOf(vec!["on".into(), "off".into()]).into()),
        ("dataset", Kind::Chars(CharSet::parse("a-zA-Z0-9_./@-").expect("a set")).into()),
        ("short", Placeholder { max_length: 3, ..Kind::Text.into() }),
        ("free", Placeholder { leading_dash: true, ..Kind::Any.into() }),
    ]
    .map(|(name, placeholder): (&str, Placeholder)| (name.to_owned(), Arc::new(placeholder)))
    .into()
}

use crate::path::AbsolutePath;

#[track_caller]
fn allows(rule: &[&str], args: &[&str]) {
    if let Err(mismatch) = grammar(rule).matches(args) {
        panic!("{rule:?} should allow {args:?}: {mismatch:?}");
    }
}

#[track_caller]
fn refuses(rule: &[&str], args: &[&str]) {
    assert!(grammar(rule).matches(args).is_err(), "{rule:?} should refuse {args:?}");
}

#[test]
fn the_example_of_the_reference() {
    let rule = ["list", "-H", "-p", "[-o {columns}]", "{pool?}"];
    allows(&rule, &["list", "-H", "-p"]);
    allows(&rule, &["list", "-H", "-p", "tank"]);
    allows(&rule, &["list", "-H", "-p", "-o", "name,size", "tank"]);
    allows(&rule, &["list", "-H", "-p", "-o", "name"]);
    refuses(&rule, &[]);
    refuses(&rule, &["list", "-H"]);
    refuses(&rule, &["list", "-p", "-H"]);
    refuses(&rule, &["list", "-H", "-p", "-o"]);
    refuses(&rule, &["list", "-H", "-p", "-o", "name,secret"]);
    refuses(&rule, &["list", "-H", "-p", "tank", "other"]);
    refuses(&rule, &["list", "-H", "-p", "-v"]);
}

#[test]
fn repetition_and_groups() {
    allows(&["{pool*}"], &[]);
    allows(&["{pool*}", "end"], &["a", "b", "end", "end"]);
    refuses(&["{pool+}", "end"], &["end"]);
    allows(&["{pool+}", "end"], &["end", "end"]);
    let rule = ["create", "[-o {setting}]*", "{pool}", "[mirror|raidz {device+}]*"];
    allows(&rule, &["create", "tank"]);
    allows(
        &rule,
        &[
            "create", "-o", "quota=5", "-o", "quota=6", "tank", "mirror", "/dev/a", "/dev/b", "raidz",
            "/dev/c",
        ],
    );
    refuses(&rule, &["create", "-o", "tank"]);
    refuses(&rule, &["create", "tank", "mirror"]);
    refuses(&rule, &["create", "tank", "mirror", "/etc/passwd"]);
    // A repeated group that can match nothing still ends.
    allows(&["[{pool*} {count?}]*"], &["a", "1", "b"]);
    allows(&["[{pool*} {count?}]*"], &[]);
}

#[test]
fn arguments_made_of_parts() {
    allows(&["quota={count}"], &["quota=7"]);
    refuses(&["quota={count}"], &["quota="]);
    refuses(&["quota={count}"], &["quota=-7"]);
    refuses(&["quota={count}"], &["xquota=7"]);
    allows(&["{pool}:{path}"], &["n1:/bricks/b1"]);
    refuses(&["{pool}:{path}"], &["n1:bricks"]);
    refuses(&["{pool}:{path}"], &[":/bricks"]);
    allows(&["{word}.conf"], &["a.conf.conf"]);
    refuses(&["{word}.conf"], &[".conf"]);
    allows(&["-o{columns}|--all"], &["-oname"]);
    allows(&["-o{columns}|--all"], &["--all"]);
    refuses(&["-o{columns}|--all"], &["-o"]);
    // The first `=` ends the key; nothing tries the second one.
    allows(&["{pool}=={pool}"], &["a==b"]);
    refuses(&["{pool}={pool}"], &["a==b"]);
    allows(&[r"a\ \{b\}\|\[c\]\\"], &[r"a {b}|[c]\"]);
    allows(&["über|größe"], &["größe"]);
}

#[test]
fn kinds_of_placeholders() {
    let cases: [(&str, &[&str], &[&str]); 14] = [
        ("{word}", &["a", "a=b", "%#'"], &["a b", "é", "a\tb"]),
        ("{name}", &["tank", "_x", "0a.b-c:d"], &["a/b", ".x", ":x", "a b", "a\n"]),
        ("{path}", &["/", "/a", "/a/b c/é"], &["a", "/a/", "//a", "/a/../b", "/./a", "/a\n"]),
        (
            "{number}",
            &["0", "18446744073709551615"],
            &["00", "07", "+1", "1.0", "18446744073709551616", "0x1"],
        ),
        ("{property}", &["a=b", "a=b=c", "org.x:y=1 2"], &["a", "=b", "a=", "a b=c", "a=b\n"]),
        ("{list}", &["a", "a,b", "a,=,c"], &[",", "a,", ",a", "a,,b", "a,-b", "a, b"]),
        ("{text}", &["a b", "é"], &["a\nb", "\u{7f}", "\u{85}"]),
        ("{any}", &["a\nb", "\u{1}"], &["\0", "a\0b"]),
        ("{device}", &["/dev/sda", "/dev/disk/by-id/x"], &["/dev", "/device/x", "/etc/x", "/dev/../etc/x"]),
        ("{count}", &["1", "64"], &["0", "65", ""]),
        ("{setting}", &["quota=1"], &["quotas=1", "quot=1"]),
        ("{switch}", &["on", "off"], &["ON", "on ", "o"]),
        ("{dataset}", &["tank/a@b-c"], &["tank a", "tank#1", "é"]),
        ("{short}", &["abc", "é"], &["abcd", "éé"]),
    ];
    for (rule, good, bad) in cases {
        for arg in good {
            allows(&[rule], &[arg]);
        }
        for arg in bad.iter().chain(&["", "-", "-x", "--x", "-1", "-/dev/sda"]) {
            refuses(&[rule], &[arg]);
        }
    }
    allows(&["{free}"], &["-rf"]);
    refuses(&["{free}"], &[""]);
    refuses(&["{free}"], &["\0"]);
}

#[test]
fn a_mismatch_names_what_was_expected() {
    let at = |args: &[&str]| {
        let mismatch = grammar(&["set", "[-v]", "{switch}", "{pool?}"]).matches(args).expect_err("no match");
        format!("{} {}", mismatch.at, mismatch.expected.join(" "))
    };
    assert_eq!(at(&[]), "0 set");
    assert_eq!(at(&["get"]), "0 set");
    assert_eq!(at(&["set", "x"]), "1 -v {switch}");
    assert_eq!(at(&["set", "on", "tank", "x"]), "3 end");
    assert_eq!(at(&["set", "on", "-x"]), "2 {pool?} end");
}

#[test]
fn errors_say_what_to_write() {
    let mut text = String::new();
    for bad in [
        "",
        "-o {columns}",
        "[-o {columns}",
        "[-o {columns}]+",
        "[]",
        "[[a] b]",
        "{pool",
        "pool}",
        "a]b",
        "{Pool}",
        "{}",
        "{a b}",
        "{pool??}",
        "-o{pool?}",
        "{pool}{device}",
        "a|",
        "|",
        "a\\",
        "a\nb",
    ] {
        let error = Grammar::parse(&["ok", bad], &declared()).expect_err(bad);
        assert_eq!(error.element, 1, "{bad}");
        text.push_str(&format!("{bad:?}\n    {error}\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn rules_and_arguments_are_bounded() {
    let many = vec!["a"; MAX_ELEMENTS + 1];
    assert_eq!(Grammar::parse(&many, &declared()).expect_err("too long").element, MAX_ELEMENTS);
    let alternatives = vec!["a"; MAX_ELEMENTS + 1].join("|");
    assert!(Grammar::parse(&[alternatives], &declared()).is_err());
    let group = format!("[{}]", many.join(" "));
    assert!(Grammar::parse(&[group], &declared()).is_err());

    assert!(check_limits(&vec!["a"; MAX_ARGS]).is_ok());
    assert!(check_limits(&vec!["a"; MAX_ARGS + 1]).is_err());
    assert!(check_limits(&["a".repeat(MAX_ARGS_BYTES + 1)]).is_err());
    assert!(check_limits(&["a\0"]).is_err());
}

/// The rule that makes a backtracking matcher take exponential time: every argument can go to any
/// of the repetitions, and the last element fits none. With a set of positions it is one pass.
#[test]
fn the_worst_rule_takes_one_pass() {
    let mut rule = vec!["[{word*} {word?}]*"; 40];
    rule.push("end");
    let rule = grammar(&rule);
    let args = vec!["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; MAX_ARGS];
    let begun = std::time::Instant::now();
    assert_eq!(rule.matches(&args).expect_err("no match").at, MAX_ARGS);
    // About 100 ms without optimisation; the exponential one would outlive us all.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// The obvious matcher, with backtracking over elements: what the fast one must agree with.
mod reference {
    use super::*;

    pub fn matches(elements: &[Element], args: &[String]) -> bool {
        let Some((element, rest)) = elements.split_first() else { return args.is_empty() };
        match element {
            Element::Token(token) => repeat(std::slice::from_ref(token), rest, args),
            Element::Group { tokens, repeated } => {
                matches(rest, args)
                    || sequence(tokens, args).iter().any(|used| match used {
                        0 => matches(rest, args),
                        used if *repeated => matches(elements, &args[*used..]),
                        used => matches(rest, &args[*used..]),
                    })
            }
        }
    }

    fn repeat(token: &[Token], rest: &[Element], args: &[String]) -> bool {
        sequence(token, args).iter().any(|used| matches(rest, &args[*used..]))
    }

    /// How many arguments these tokens may use up from the front: all possibilities.
    fn sequence(tokens: &[Token], args: &[String]) -> BTreeSet<usize> {
        let Some((token, rest)) = tokens.split_first() else { return [0].into() };
        let fitting = args.iter().take_while(|arg| fits(token, arg)).count();
        let counts = match token.times {
            Times::Once => 1..=fitting.min(1),
            Times::Optional => 0..=fitting.min(1),
            Times::Any => 0..=fitting,
            Times::AtLeastOnce => 1..=fitting,
        };
        counts
            .flat_map(|used| sequence(rest, &args[used..]).into_iter().map(move |more| used + more))
            .collect()
    }

    fn fits(token: &Token, arg: &str) -> bool {
        token.alternatives.iter().any(|parts| match parts.as_slice() {
            [Part::Literal(literal)] => literal == arg,
            [Part::Placeholder { accepts, .. }] => accepts.accepts(arg),
            [Part::Literal(before), Part::Placeholder { accepts, .. }] => {
                arg.strip_prefix(before.as_str()).is_some_and(|value| accepts.accepts(value))
            }
            [
                Part::Placeholder { accepts: a, .. },
                Part::Literal(middle),
                Part::Placeholder { accepts: b, .. },
            ] => arg.split_once(middle.as_str()).is_some_and(|(x, y)| a.accepts(x) && b.accepts(y)),
            parts => panic!("the generator makes no {parts:?}"),
        })
    }
}

/// Elements over a small alphabet, so that rules and arguments meet often.
fn small_element() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        4 => "[ab]",
        1 => Just("a|b".to_owned()),
        4 => "\\{[xyz]\\}",
        3 => "\\{[xyz][?*+]\\}",
        1 => Just("a={x}".to_owned()),
        1 => Just("{x}={y}".to_owned()),
    ];
    let group = (prop::collection::vec(token.clone(), 1..4), any::<bool>())
        .prop_map(|(tokens, repeated)| format!("[{}]{}", tokens.join(" "), if repeated { "*" } else { "" }));
    prop_oneof![3 => token, 1 => group]
}

fn small_placeholders() -> Placeholders {
    [("x", vec!["a", "b"]), ("y", vec!["b", "c"]), ("z", vec!["c"])]
        .map(|(name, values)| {
            let kind = Kind::OneOf(values.into_iter().map(str::to_owned).collect());
            (name.to_owned(), Arc::new(Placeholder::from(kind)))
        })
        .into()
}

/// Argument lists a rule allows, made by walking the rule.
fn walk(elements: Vec<Element>, choices: &[u8]) -> Vec<String> {
    let mut choices = choices.iter().copied().cycle();
    let mut args = Vec::new();
    let token = |token: &Token, args: &mut Vec<String>, choices: &mut dyn Iterator<Item = u8>| {
        let mut choose = |limit: usize| usize::from(choices.next().unwrap_or(0)) % limit.max(1);
        let times = match token.times {
            Times::Once => 1,
            Times::Optional => choose(2),
            Times::Any => choose(4),
            Times::AtLeastOnce => 1 + choose(3),
        };
        for _ in 0..times {
            let parts = &token.alternatives[choose(token.alternatives.len())];
            let mut arg = String::new();
            for part in parts {
                match part {
                    Part::Literal(literal) => arg.push_str(literal),
                    Part::Placeholder { accepts, .. } => arg.push_str(&sample(accepts, choose(4))),
                }
            }
            args.push(arg);
        }
    };
    for element in elements {
        match element {
            Element::Token(one) => token(&one, &mut args, &mut choices),
            Element::Group { tokens, repeated } => {
                let times = choices.next().unwrap_or(0) % if repeated { 4 } else { 2 };
                for _ in 0..times {
                    for one in &tokens {
                        token(one, &mut args, &mut choices);
                    }
                }
            }
        }
    }
    args
}

/// A value that a placeholder accepts, without the characters that separate parts.
fn sample(placeholder: &Placeholder, choice: usize) -> String {
    match &placeholder.kind {
        Kind::Path { under } => format!("{}/{choice}", under.first().map_or("/x", |root| root.as_str())),
        Kind::Number { min, .. } => (min + choice as u64).to_string(),
        Kind::Property { keys } => format!("{}=v{choice}", keys.first().map_or("k", String::as_str)),
        Kind::List { items } if !items.is_empty() => {
            vec![items[choice % items.len()].as_str(); choice + 1].join(",")
        }
        Kind::OneOf(values) => values[choice % values.len()].clone(),
        _ => format!("v{choice}"),
    }
}

/// Elements as a manifest could have them, of every kind of placeholder.
fn real_element(literals: &'static str) -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "pool", "device", "count", "setting", "columns", "switch", "dataset", "short", "word", "name",
        "path", "number", "property", "list", "text", "any",
    ]);
    let token = prop_oneof![
        literals.prop_map(|text| text.to_owned()),
        (literals, literals).prop_map(|(a, b)| format!("{a}|{b}")),
        (names.clone(), prop::sample::select(vec!["", "?", "*", "+"]))
            .prop_map(|(name, times)| format!("{{{name}{times}}}")),
        (literals, names.clone()).prop_map(|(before, name)| format!("{before}%{{{name}}}")),
        names.prop_map(|name| format!("{{pool}}%{{{name}}}%")),
    ];
    let group = (prop::collection::vec(token.clone(), 1..4), any::<bool>())
        .prop_map(|(tokens, repeated)| format!("[{}]{}", tokens.join(" "), if repeated { "*" } else { "" }));
    prop_oneof![3 => token, 1 => group]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_obvious_matcher(
        rule in prop::collection::vec(small_element(), 0..5),
        args in prop::collection::vec("[abc]|[abc]=[abc]", 0..6),
    ) {
        let grammar = Grammar::parse(&rule, &small_placeholders()).expect("generated rules parse");
        prop_assert_eq!(grammar.matches(&args).is_ok(), reference::matches(&grammar.elements, &args));
    }

    #[test]
    fn what_a_rule_makes_it_allows(
        rule in prop::collection::vec(real_element("-{0,2}[a-z]{1,4}"), 0..6),
        choices in prop::collection::vec(any::<u8>(), 1..24),
    ) {
        let grammar = Grammar::parse(&rule, &declared()).expect("generated rules parse");
        let args = walk(grammar.elements.clone(), &choices);
        prop_assert_eq!(grammar.matches(&args), Ok(()), "{:?}", args);
    }

    /// The heart of it: where the rule itself writes no option, none gets through.
    #[test]
    fn no_option_gets_in(
        rule in prop::collection::vec(real_element("[a-z]{1,4}"), 0..6),
        choices in prop::collection::vec(any::<u8>(), 1..24),
        option in "-.{0,6}",
        at in any::<prop::sample::Index>(),
        replace in any::<bool>(),
    ) {
        let grammar = Grammar::parse(&rule, &declared()).expect("generated rules parse");
        let mut args = walk(grammar.elements.clone(), &choices);
        let at = at.index(args.len() + 1);
        if replace && at < args.len() {
            args[at] = option;
        } else {
            args.insert(at, option);
        }
        prop_assert!(grammar.matches(&args).is_err(), "{:?}", args);
    }

    #[test]
    fn neither_parser_nor_matcher_panics(
        rule in prop::collection::vec("[\\[\\]{}?*+|\\\\ab=é \n-]{0,12}", 0..6),
        args in prop::collection::vec("[a=é\\PC\0-]{0,6}", 0..6),
    ) {
        if let Ok(grammar) = Grammar::parse(&rule, &declared()) {
            let _ = grammar.matches(&args);
        }
    }

    #[test]
    fn no_value_has_a_control_character_unless_any(value in "(?s).{0,8}") {
        for name in ["word", "name", "path", "number", "property", "list", "text"] {
            if Placeholder::undeclared(name).accepts(&value) {
                prop_assert!(!value.contains(char::is_control), "{} {:?}", name, value);
                prop_assert!(!value.is_empty() && !value.starts_with('-'));
            }
        }
    }
}
