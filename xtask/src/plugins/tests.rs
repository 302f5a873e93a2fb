use super::*;
use tempfile::TempDir;

const MANIFEST: &str = "name = \"NAME\"\nversion = \"0.1.0\"\n";

/// A repository with two plugins in a workspace and one beside.
fn repository() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("wit/host/world.wit", "package windlass:host@0.1.0;\n");
    write("plugins/Cargo.toml", "[workspace]\nmembers = [\"a\", \"b\"]\n");
    for (dir, name) in [("plugins/a", "a"), ("plugins/b", "b"), ("tests/plugins/c", "c")] {
        write(&format!("{dir}/plugin.toml"), &MANIFEST.replace("NAME", name));
        write(&format!("{dir}/Cargo.toml"), &format!("[package]\nname = \"plugin-{name}\"\n"));
        write(&format!("{dir}/src/lib.rs"), "");
        write(&format!("{dir}/wit/world.wit"), "package windlass:x;\n");
    }
    write("plugins/notes/README.md", "no plugin");
    for shared in SHARED_INPUTS {
        if !root.path().join(shared).exists() {
            if shared.contains('.') {
                write(shared, "");
            } else {
                write(&format!("{shared}/lib.rs"), "");
            }
        }
    }
    root
}

#[test]
fn plugins_are_found_with_their_workspace() {
    let root = repository();
    let found = sources(root.path()).unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|source| {
            (source.name.as_str(), source.workspace.strip_prefix(root.path()).unwrap(), source.for_tests)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("a", Path::new("plugins"), false),
            ("b", Path::new("plugins"), false),
            ("c", Path::new("tests/plugins/c"), true),
        ]
    );
    assert_eq!(found[0].component_file().unwrap(), "plugin_a.wasm");
}

#[test]
fn two_plugins_of_one_name_are_refused() {
    let root = repository();
    fs::write(root.path().join("tests/plugins/c/plugin.toml"), MANIFEST.replace("NAME", "a")).unwrap();
    let error = sources(root.path()).map(drop).unwrap_err().to_string();
    assert!(error.contains("two plugins are called `a`"), "{error}");
}

#[test]
fn a_change_of_any_input_makes_a_bundle_stale() {
    let root = repository();
    let root = root.path();
    let source = &sources(root).unwrap()[0];
    let digest = || inputs(root, &source.workspace).unwrap();
    let before = digest();
    assert!(source.is_stale(root, &before), "never built");
    for part in [Part::Manifest, Part::Component, Part::Wit] {
        create_dir(&source.bundle_dir(root)).unwrap();
        fs::write(source.bundle_dir(root).join(part.file_name()), "").unwrap();
    }
    source.remember(root, &before).unwrap();
    assert!(!source.is_stale(root, &digest()));

    for input in
        ["plugins/a/src/lib.rs", "plugins/b/plugin.toml", "wit/host/world.wit", "rust-toolchain.toml"]
    {
        let path = root.join(input);
        let old = fs::read(&path).unwrap();
        fs::write(&path, "changed").unwrap();
        assert!(source.is_stale(root, &digest()), "{input}");
        fs::write(&path, old).unwrap();
        assert!(!source.is_stale(root, &digest()), "{input}");
    }
    fs::write(root.join("plugins/a/src/new.rs"), "").unwrap();
    assert!(source.is_stale(root, &digest()), "a new file");
    fs::remove_file(root.join("plugins/a/src/new.rs")).unwrap();

    fs::write(root.join("plugins/notes/README.md"), "changed").unwrap();
    create_dir(&root.join("plugins/target")).unwrap();
    fs::write(root.join("plugins/target/x.rs"), "").unwrap();
    assert!(!source.is_stale(root, &digest()), "neither documents nor what cargo makes");

    fs::remove_file(source.bundle_dir(root).join("wit.wasm")).unwrap();
    assert!(source.is_stale(root, &digest()), "a part is gone");
}

#[test]
fn bundles_without_a_plugin_are_removed() {
    let root = repository();
    let bundles = bundles_dir(root.path());
    for name in ["a", "gone"] {
        create_dir(&bundles.join(name)).unwrap();
    }
    remove_others(root.path(), &sources(root.path()).unwrap()).unwrap();
    assert!(bundles.join("a").exists());
    assert!(!bundles.join("gone").exists());
}
