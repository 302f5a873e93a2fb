//! The agent ships without a compiler: it stays small, and a bug in the compiler is not the agent's.
//!
//! Asked of cargo itself, for the agent built alone as it ships: a build of the whole workspace would
//! mix in the features of the helper.

use std::process::Command;

fn tree(package: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p} {f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints text")
}

/// Crates of the tree that compile, or that would let wasmtime do so.
fn compilers(tree: &str) -> Vec<&str> {
    tree.lines()
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            // Data structures of Cranelift (`cranelift-entity` and others) are in the runtime too.
            ["cranelift-codegen", "cranelift-frontend", "regalloc2", "winch-codegen"].contains(&name)
                || ["wasmtime-internal-cranelift", "wasmtime-internal-winch"].contains(&name)
                || (name == "wasmtime" && line.split([' ', ',']).any(|word| word == "cranelift"))
        })
        .collect()
}

#[test]
fn the_agent_has_no_compiler() {
    let agent = tree("windlass-host");
    assert!(agent.lines().any(|line| line.starts_with("windlass-runtime ")), "this is not the agent's tree");
    assert_eq!(compilers(&agent), [] as [&str; 0]);
    // The same question has another answer where there is a compiler.
    assert!(!compilers(&tree("windlass-compile")).is_empty());
}
