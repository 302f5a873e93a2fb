use super::*;

/// What becomes of a package of WIT, given as files.
fn source(files: &[(&str, &str)]) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    plugin_source(dir.path()).map_err(|error| format!("{error:#}"))
}

const DISK: &str = "package local:my-disk@0.1.0;
interface type-names { record size { bytes: u64 } }
interface disk-list { use type-names.{size}; all: func() -> list<size>; }
world plugin { include windlass:host/imports@0.1.0; export type-names; export disk-list; }";

#[test]
fn the_host_is_that_of_the_sdk_and_the_exports_have_short_names() {
    let source = source(&[("world.wit", DISK)]).unwrap();
    assert!(
        source.contains(
            "pub mod api { pub use super::bindings::exports::local::my_disk::{type_names, disk_list}; }"
        ),
        "{source}"
    );
    assert!(source.contains("T: api::disk_list::Guest>"));
    assert!(!source.contains("T: api::type_names::Guest>"), "types alone have no functions to be written");
    // The functions of the host are not made a second time.
    assert!(!source.contains("fn get_context"));
    assert!(source.contains("world.wit\");"), "the compiler builds anew when the WIT changes");
}

#[test]
fn an_own_copy_of_the_host_is_used() {
    let mut files = vec![("world.wit".to_owned(), DISK)];
    let (_, host) = PROVIDED[0];
    files.extend(host.iter().map(|(file, text)| (format!("deps/host/{file}"), *text)));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert!(source(&files).unwrap().contains("disk_list"));
}

#[test]
fn what_is_wrong_with_the_wit_is_told() {
    let missing = plugin_source(Path::new("/nonexistent/wit")).unwrap_err().to_string();
    assert_eq!(missing, "there is no folder /nonexistent/wit");
    let syntax = source(&[("world.wit", "package a:b;\ninterface x { stream: func(); }")]).unwrap_err();
    assert!(syntax.contains("found keyword `stream`") && syntax.contains("world.wit:2"), "{syntax}");
    let none = source(&[("world.wit", "package a:b;")]).unwrap_err();
    assert_eq!(none, "the package a:b has no world");
    let two = source(&[("world.wit", "package a:b; world one {} world two {}")]).unwrap_err();
    assert_eq!(two, "the package a:b has more than one world: one, two");
}

#[test]
fn the_host_has_bindings_of_its_own() {
    let source = host_source().unwrap();
    for function in ["fn get_context", "fn run", "fn block_devices", "fn read_range"] {
        assert!(source.contains(function), "{function}");
    }
}
