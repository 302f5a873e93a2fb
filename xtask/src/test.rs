//! `cargo xtask test`: sets up, builds and runs every check and every test.

use crate::{
    build,
    exec::{cargo, output, step},
    fuzz, setup,
};
use anyhow::{Context as _, Result, ensure};
use windlass_tests::Postgres;

/// The two groups that are built apart (see [`build`]).
const AGENT: [&str; 2] = ["--package", "windlass-host"];
const REST: [&str; 3] = ["--workspace", "--exclude", "windlass-host"];

/// How long each fuzz target is tried: two at a time, so all of them take half as many minutes as
/// there are.
const FUZZ_SECONDS: u32 = 60;

/// Everything.
pub fn run() -> Result<()> {
    setup::wasm_target()?;
    setup::for_tests()?;
    step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    step(
        "format of the plugins",
        &mut cargo(&["fmt", "--all", "--check", "--manifest-path", "plugins/Cargo.toml"]),
    )?;
    eprintln!("==> build");
    build::for_tests()?;
    lint()?;
    no_compiler()?;
    step(
        "licences and sources of dependencies",
        &mut cargo(&[
            "deny",
            "--log-level",
            "error",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]),
    )?;
    tests()?;
    fuzz::for_tests(FUZZ_SECONDS)
}

fn lint() -> Result<()> {
    for (what, packages) in [("lint the agent", AGENT.as_slice()), ("lint the rest", &REST)] {
        let mut command = cargo(&["clippy", "--quiet", "--all-targets"]);
        command.args(packages).args(["--", "--deny", "warnings"]);
        step(what, &mut command)?;
    }
    step(
        "lint the plugins",
        &mut cargo(&[
            "clippy",
            "--quiet",
            "--all-targets",
            "--manifest-path",
            "plugins/Cargo.toml",
            "--target-dir",
            "target/plugins",
            "--",
            "--deny",
            "warnings",
        ]),
    )
}

fn tests() -> Result<()> {
    for (what, packages) in [("test the agent", AGENT.as_slice()), ("test the rest", &REST)] {
        let mut command = cargo(&["nextest", "run"]);
        command.args(packages);
        step(what, &mut command)?;
    }
    on_postgres()?;
    // With all its features, which nothing in the workspace asks for, and with the examples of its
    // documentation, which nextest does not run.
    step("test the SDK", &mut cargo(&["test", "--quiet", "--package", "windlass-sdk", "--all-features"]))?;
    step(
        "test the plugins",
        &mut cargo(&[
            "nextest",
            "run",
            "--manifest-path",
            "plugins/Cargo.toml",
            "--target-dir",
            "target/plugins",
        ]),
    )
}

/// The tests of the master, on the other database that it knows.
fn on_postgres() -> Result<()> {
    let postgres = Postgres::start()?;
    let mut command = cargo(&["nextest", "run", "--package", "windlass-master"]);
    command.env("WINDLASS_TEST_POSTGRES", postgres.url("postgres"));
    step("test the master on PostgreSQL", &mut command)
}

/// A compiler in the agent would cost memory and be one more thing to attack as root, in the master one more
/// that reads what others wrote; in the command line it would be as large as the rest together.
fn no_compiler() -> Result<()> {
    for package in ["windlass-host", "windlass-master", "windlass"] {
        let tree = output("cargo", &["tree", "--package", package, "--edges", "normal", "--prefix", "none"])
            .with_context(|| format!("listing the dependencies of {package}"))?;
        ensure!(tree.contains("wasmtime v"), "the check looks at the wrong tree:\n{tree}");
        ensure!(
            !tree.contains("cranelift-codegen"),
            "{package} was built with a compiler (cranelift-codegen)"
        );
    }
    Ok(())
}
