use crate::{
    DescribeError, Disagreement, check_agreement, component_operations,
    fixture::{FULL, component, plugin, wit},
    operations,
};
use proptest::prelude::*;
use std::sync::LazyLock;

/// A package `a:b` with one world that exports one interface of this text.
fn package(interface: &str) -> String {
    format!("package a:b; interface noun {{ {interface} }} world w {{ export noun; }}")
}

fn describe(interface: &str) -> Result<Vec<windlass_types::shape::Operation>, DescribeError> {
    operations(&plugin("b"), &wit(&package(interface)))
}

/// Everything there is: names in JSON form, documentation in its place, what is no operation left out.
#[test]
fn the_operations_of_a_plugin() {
    let operations = operations(&plugin("zfs"), &wit(FULL)).expect("described");
    let names: Vec<&str> = operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "zfs.other-noun.list",
            "zfs.pool.forget",
            "zfs.pool.layout",
            "zfs.pool.replace",
            "zfs.pool.scrub",
            "zfs.pool.status"
        ]
    );
    let planned: Vec<_> = operations.iter().filter(|operation| operation.planned).collect();
    assert_eq!(planned.len(), 1);
    assert_eq!(planned[0].name.local(), "pool.layout");
    insta::assert_json_snapshot!(operations);
}

#[test]
fn the_component_agrees_and_has_no_documentation() {
    let described = operations(&plugin("zfs"), &wit(FULL)).expect("described");
    let exported = component_operations(&plugin("zfs"), &component(FULL)).expect("described");
    check_agreement(&described, &exported).expect("the same");
    assert!(described.iter().any(|operation| !operation.docs.is_empty()));
    assert!(exported.iter().all(|operation| operation.docs.is_empty()));
    assert!(exported.iter().any(|operation| operation.planned));
}

#[test]
fn every_difference_is_found() {
    let base = "f: func(a: u8) -> result<_, string>; g: func();";
    let described = describe(base).expect("described");
    let compare = |interface: &str| {
        let exported =
            component_operations(&plugin("b"), &component(&package(interface))).expect("described");
        check_agreement(&described, &exported)
    };
    assert_eq!(compare(base), Ok(()));
    let not_exported = compare("f: func(a: u8) -> result<_, string>;").expect_err("differs");
    assert_eq!(not_exported, Disagreement::NotExported { operation: "noun.g".into() });
    let not_described = compare(&format!("{base} h: func();")).expect_err("differs");
    assert_eq!(not_described, Disagreement::NotDescribed { operation: "noun.h".into() });
    for other in ["f: func(b: u8) -> result<_, string>; g: func();", "f: func(a: u8) -> result; g: func();"] {
        assert!(matches!(compare(other), Err(Disagreement::OtherType { .. })), "{other}");
    }
    assert_eq!(
        compare("f: func(a: u16) -> result<_, string>; g: func();").expect_err("differs").to_string(),
        "`noun.f` is `func(a: u8) -> result<_, string>` in the WIT and `func(a: u16) -> result<_, string>` in the component"
    );
    // Names of types are not part of what is compared, names of fields are.
    let record = |name: &str, field: &str| format!("record {name} {{ {field}: u8 }} f: func(x: {name});");
    let described = describe(&record("one", "x")).expect("described");
    for (text, same) in [(record("two", "x"), true), (record("one", "y"), false)] {
        let exported = component_operations(&plugin("b"), &component(&package(&text))).expect("described");
        assert_eq!(check_agreement(&described, &exported).is_ok(), same);
    }
}

#[test]
fn what_has_no_form_is_refused_by_name() {
    let mut text = String::new();
    for interface in [
        "f: func(a: option<option<u8>>);",
        "type o = option<u8>; f: func() -> list<option<o>>;",
        "resource r; ",
        "resource r { constructor(); }",
        "resource r; f: func(x: borrow<r>);",
        "f: func(x: stream<u8>);",
        "f: func() -> future<string>;",
        "f: func(x: error-context);",
        "f: async func();",
        "f: func(x: map<string, u8>);",
        "f: func(x: list<u8, 4>);",
        "GET: func();",
    ] {
        let error = describe(interface).expect_err(interface);
        text.push_str(&format!("{interface}\n    {error}\n"));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_not_this_plugin_is_refused() {
    let mut text = String::new();
    let mut show = |what: &str, error: Option<DescribeError>| {
        text.push_str(&format!("{what}\n    {}\n", error.expect(what)));
    };
    let full = wit(FULL);
    show("another name", operations(&plugin("zsf"), &full).err());
    show("a component for a package", operations(&plugin("zfs"), &component(FULL)).err());
    show("a package for a component", component_operations(&plugin("zfs"), &full).err());
    show("nothing", operations(&plugin("zfs"), b"").err());
    show("text", operations(&plugin("zfs"), FULL.as_bytes()).err());
    show("cut", operations(&plugin("zfs"), &full[..full.len() / 2]).err());
    show("too large", operations(&plugin("zfs"), &vec![0; 5 << 20]).err());
    show("no world", operations(&plugin("b"), &wit("package a:b; interface noun { f: func(); }")).err());
    show("two worlds", operations(&plugin("b"), &wit("package a:b; world c {} world d {}")).err());
    insta::assert_snapshot!(text);
    // Of several worlds the one of the plugin's name counts.
    let two = "package a:b; interface noun { f: func(); } world b { export noun; } world d {}";
    assert_eq!(operations(&plugin("b"), &wit(two)).expect("described").len(), 1);
}

/// Interfaces of other packages are not the plugin's operations, whoever exports them.
#[test]
fn foreign_exports_are_not_operations() {
    let text = "package a:b; interface noun { f: func(); } \
                world b { export noun; export windlass:plan/types@0.1.0; export inline: interface { g: func(); } export h: func(); }";
    for operations in [
        operations(&plugin("b"), &wit(text)).expect("described"),
        component_operations(&plugin("b"), &component(text)).expect("described"),
    ] {
        assert_eq!(operations.iter().map(|operation| operation.name.local()).collect::<Vec<_>>(), ["noun.f"]);
    }
}

/// Two fields each that refer to the type before: the tree has 2^n nodes.
#[test]
fn types_that_grow_exponentially_are_refused() {
    let describe = |levels: usize| {
        let mut interface = "record t0 { a: u8 }\n".to_owned();
        for n in 1..levels {
            interface.push_str(&format!("record t{n} {{ a: t{0}, b: t{0} }}\n", n - 1));
        }
        interface.push_str(&format!("f: func(x: t{});", levels - 1));
        describe(&interface)
    };
    assert!(describe(10).is_ok());
    let error = describe(16).expect_err("too large");
    assert!(matches!(error, DescribeError::TooLarge { .. }), "{error}");
    // Past a million the decoder itself refuses.
    assert!(describe(40).is_err());
}

/// The same with little types and much documentation.
#[test]
fn documentation_that_grows_exponentially_is_refused() {
    let long = "x".repeat(60_000);
    let mut interface = format!("/// {long}\nrecord t0 {{ a: u8 }}\n");
    for n in 1..9 {
        interface.push_str(&format!("record t{n} {{ a: t{0}, b: t{0} }}\n", n - 1));
    }
    interface.push_str("f: func(x: t8);");
    let error = describe(&interface).expect_err("too large");
    assert_eq!(
        error.to_string(),
        "function noun.f: too many bytes of names and documentation, where 8388608 are allowed"
    );
}

/// Whatever is let through can also be told to others.
#[test]
fn the_deepest_types_travel_as_json() {
    let describe = |levels: usize| {
        let mut interface = "record t0 { a: u8 }\n".to_owned();
        for n in 1..levels {
            interface.push_str(&format!("record t{n} {{ a: t{} }}\n", n - 1));
        }
        interface.push_str(&format!("f: func(x: t{});", levels - 1));
        describe(&interface)
    };
    let deepest = (1..60).rev().find_map(|levels| describe(levels).ok()).expect("one level fits");
    let text = serde_json::to_string(&serde_json::json!({ "plugins": [{ "operations": deepest }] }))
        .expect("written");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    let text = serde_json::to_string(&deepest).expect("written");
    assert_eq!(serde_json::from_str::<Vec<windlass_types::shape::Operation>>(&text).expect("read"), deepest);
    assert!(matches!(describe(60), Err(DescribeError::Unsupported { .. })));
}

#[test]
fn types_that_nest_too_deep_or_are_too_many_are_refused() {
    let deep = format!("f: func(x: {}u8{});", "list<".repeat(60), ">".repeat(60));
    assert!(matches!(describe(&deep), Err(DescribeError::Unsupported { .. })), "{:?}", describe(&deep));
    let many: String = (0..10_100).map(|n| format!("record t{n} {{ a: u8 }}\n")).collect();
    let error = describe(&format!("{many} f: func();")).expect_err("too many");
    assert!(matches!(error, DescribeError::TooLarge { .. }), "{error}");
}

/// Component types within component types, as deep as the bytes go: no stack may overflow.
#[test]
fn nesting_of_declarations_does_not_overflow() {
    for depth in [10, 1_000, 100_000] {
        let mut ty: Vec<u8> = [0x41, 0x01, 0x01].repeat(depth);
        ty.extend([0x41, 0x00]);
        let mut section = vec![0x01];
        section.append(&mut ty);
        let mut bytes = b"\0asm\x0d\0\x01\0\x07".to_vec();
        let mut len = section.len();
        while len >= 0x80 {
            bytes.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.append(&mut section);
        assert!(operations(&plugin("b"), &bytes).is_err());
    }
}

static WIT: LazyLock<Vec<u8>> = LazyLock::new(|| wit(FULL));
static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| component(FULL));

/// Real bytes with some of them changed, cut out or doubled: what a fuzzer finds first.
fn damaged(bytes: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    prop::collection::vec(change, 1..4).prop_map(move |changes| {
        let mut bytes = bytes.to_vec();
        for (at, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn damaged_wit_never_panics(bytes in damaged(&WIT)) {
        let _ = operations(&plugin("zfs"), &bytes);
    }

    #[test]
    fn damaged_components_never_panic(bytes in damaged(&COMPONENT)) {
        let _ = component_operations(&plugin("zfs"), &bytes);
    }
}
