//! `cargo xtask dev`: a grid on loopback, from nothing to a typed job.

use crate::{build, exec};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::Instant,
};
use windlass_tests::{
    Binaries, Grid, GridOptions,
    bundles::{Signer, roll_out},
};

/// Ports that are used when they are free, since people remember them.
const USUAL_PORTS: [u16; 3] = [7400, 7401, 7402];

/// What is rolled out over the grid.
const PLUGINS: [&str; 2] = ["monitor", "zfs"];

/// Start a master and hosts on loopback and run an operation on all of them.
#[derive(Debug, Args)]
pub struct Dev {
    /// End after the table; the status tells whether everything worked
    #[arg(long)]
    once: bool,
    /// How many hosts to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    hosts: u16,
}

/// Run it.
pub fn run(dev: &Dev) -> Result<()> {
    let (stop, stopped) = mpsc::channel();
    ctrlc::set_handler(move || {
        // Nobody listens any more once the grid is being ended.
        let _ = stop.send(());
    })
    .context("listening for Ctrl-C")?;

    let start = Instant::now();
    build::all(false)?;
    eprintln!("built in {:.1} s", start.elapsed().as_secs_f32());
    let target = exec::root().join("target");
    let binaries = Binaries::at(&target.join("debug"), &target.join("bundles"))?;

    let start = Instant::now();
    let dir = tempfile::Builder::new().prefix("windlass-dev-").tempdir()?;
    let names: Vec<String> = (1..=dev.hosts).map(|number| format!("n{number}")).collect();
    let signer = Signer::new();
    let options = GridOptions {
        hosts: names.clone(),
        plugins: Vec::new(),
        trust: Some(signer.trust()),
        ports: free(USUAL_PORTS).then_some(USUAL_PORTS),
        compile_cache: Some(compile_cache(&target)?),
        ..GridOptions::default()
    };
    let grid = Grid::start(binaries, dir.path(), options)?;
    eprintln!("a master and {} hosts started in {:.1} s", names.len(), start.elapsed().as_secs_f32());

    let start = Instant::now();
    for plugin in PLUGINS {
        roll_out(plugin, grid.binaries(), &signer, dir.path(), |args| grid.windlass(args))?;
    }
    eprintln!("{} signed and rolled out in {:.1} s\n", PLUGINS.join(" and "), start.elapsed().as_secs_f32());

    let table = grid.windlass(&["run", "monitor.system.read", "--on", "n*"]);
    print(&table.stdout);
    eprint!("{}", table.stderr);
    if table.code != 0 {
        bail!("the operation did not succeed on every node (exit code {})", table.code);
    }
    if dev.once || stopped.try_recv().is_ok() {
        return Ok(());
    }
    print(&explanation(&grid, dir.path()));
    stopped.recv().context("waiting for Ctrl-C")?;
    eprintln!("\nending the grid");
    Ok(())
}

fn explanation(grid: &Grid, dir: &Path) -> String {
    let program = grid.binaries().program("windlass");
    let folder = program.parent().unwrap_or(Path::new("."));
    let exports: String =
        grid.environment().iter().map(|(name, value)| format!("  export {name}={value}\n")).collect();
    format!(
        "\nIn another terminal:\n
  export PATH={}:$PATH
{exports}  windlass nodes list
  windlass ops list
  windlass ops show zfs.pool.status
  windlass run monitor.disk.list --on n1
  windlass run zfs.pool.list --on 'n*' -o json
  windlass jobs list
  windlass status
  windlass plugins show zfs

Logs and configuration lie in {}. Ctrl-C ends everything and removes it.",
        folder.display(),
        dir.display()
    )
}

/// Compiled plugins of earlier runs: a folder that only we can write, as the host demands.
fn compile_cache(target: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let dir = target.join("dev-compiled");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    Ok(dir)
}

fn free(ports: [u16; 3]) -> bool {
    ports.iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
}

#[expect(clippy::print_stdout, reason = "the table and what to do next are this command's data")]
fn print(text: &str) {
    println!("{}", text.trim_end_matches('\n'));
}
