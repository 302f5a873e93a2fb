//! `cargo xtask package`: Debian packages.

use crate::{build, exec, setup};
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use windlass_deploy::{Compression, Pack};

/// Make Debian packages of host, master and command line.
#[derive(Debug, Args)]
pub struct Arguments {
    /// How the programs are built
    #[arg(long, value_enum, default_value_t = Profile::Release)]
    profile: Profile,
    /// Version of the packages; that of the programs unless told
    #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// Where to put them
    #[arg(long, value_name = "DIR", default_value = "target/debian")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// With optimisation, for people.
    Release,
    /// As tests build them: made in a moment, slow and large.
    Dev,
}

/// Run it.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::for_packages()?;
    let (folder, compression) = match arguments.profile {
        Profile::Release => ("release", Compression::Xz),
        Profile::Dev => ("debug", Compression::None),
    };
    build::programs(arguments.profile == Profile::Release)?;
    let root = exec::root();
    let (programs, docs) = (root.join("target").join(folder), root.join("docs"));
    let pack = Pack {
        programs: &programs,
        docs: &docs,
        version: &arguments.version,
        time_s: time_of_source()?,
        compression,
    };
    for package in pack.all(&root.join(&arguments.dir))? {
        print(&package.display().to_string());
    }
    Ok(())
}

/// When what is packed was last changed: two builds of one commit give the same packages.
fn time_of_source() -> Result<u64> {
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => time,
        Err(_) => exec::output("git", &["log", "--max-count=1", "--format=%ct"])
            .context("this is no checkout: set SOURCE_DATE_EPOCH to the time of the source")?,
    };
    time.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH: `{}` is not a time", time.trim()))
}

#[expect(clippy::print_stdout, reason = "the packages are this command's data")]
fn print(text: &str) {
    println!("{text}");
}
