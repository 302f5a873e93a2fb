//! What a fresh machine lacks.

use crate::exec::{self, cargo, exists, step};
use anyhow::{Result, bail};
use std::process::Command;
use windlass_tests::lab::{self, needs::PROGRAMS as LAB};

/// Programs the tests need, with the Debian package that brings each.
const PROGRAMS: [(&str, &str); 7] = [
    ("zpool", "zfs-fuse"),
    // Its service is not used: tests start their own registry.
    ("docker-registry", "docker-registry"),
    ("c++", "g++"),
    ("clang", "clang"),
    ("wasm-ld", "lld"),
    ("npm", "npm"),
    ("ip", "iproute2"),
];
/// Debian packages without a program in the search path: what C plugins are compiled with, and the server
/// of databases.
const OTHERS: [&str; 3] = ["wasi-libc", "libclang-rt-dev-wasm32", "postgresql"];

/// The wasm target, without which no plugin builds.
pub fn wasm_target() -> Result<()> {
    const TARGET: &str = "wasm32-wasip2";
    let installed = exec::output("rustc", &["--print", "sysroot"]).is_some_and(|sysroot| {
        std::path::Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).is_dir()
    });
    if installed {
        return Ok(());
    }
    step(
        "install the wasm target",
        Command::new("rustup").current_dir(exec::root()).args(["target", "add", TARGET]),
    )
}

/// What the tests need on top: Debian packages and the test runner.
pub fn for_tests() -> Result<()> {
    let mut missing: Vec<&str> =
        lacking(&PROGRAMS).chain(OTHERS.into_iter().filter(|package| !is_installed(package))).collect();
    // Debian's Python comes without what makes environments; one from elsewhere has it.
    if exec::output("python3", &["-c", "import ensurepip, venv"]).is_none() {
        missing.push("python3-venv");
    }
    missing.extend(lacking(&LAB));
    install("the tests", &missing)?;
    // Here rather than within a test, which has little time; and told before everything is built.
    lab::needs::check()?;
    lab::image::get()?;
    for tool in ["cargo-nextest", "cargo-deny"] {
        if !exists(tool) {
            step(&format!("install {tool}"), &mut cargo(&["install", "--quiet", "--locked", tool]))?;
        }
    }
    Ok(())
}

/// What a lab needs. The rest is in its image.
pub fn for_lab() -> Result<()> {
    install("labs", &lacking(&LAB).collect::<Vec<_>>())
}

/// What packages are made with.
pub fn for_packages() -> Result<()> {
    install("packages", &lacking(&[("dpkg-shlibdeps", "dpkg-dev")]).collect::<Vec<_>>())
}

/// Packages of programs that are not there.
fn lacking<'a>(programs: &'a [(&str, &'a str)]) -> impl Iterator<Item = &'a str> {
    programs.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package)
}

fn install(who: &str, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if !exists("apt-get") || !is_root() {
        bail!("{who} need the packages {}: install them, or run this as root on Debian", packages.join(", "));
    }
    step("update the package lists", Command::new("apt-get").args(["-qq", "update"]))?;
    step(
        &format!("install what {who} need"),
        Command::new("apt-get")
            .args(["-qq", "install", "--yes", "--no-install-recommends"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

/// Whether Debian's package manager has installed a package.
fn is_installed(package: &str) -> bool {
    exec::output("dpkg-query", &["--show", "--showformat", "${db:Status-Status}", package])
        .is_some_and(|status| status.trim() == "installed")
}

fn is_root() -> bool {
    exec::output("id", &["-u"]).is_some_and(|id| id.trim() == "0")
}
