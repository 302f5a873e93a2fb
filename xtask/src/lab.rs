//! `cargo xtask lab`: a storage grid of real machines on this one.

use crate::{build, exec, setup};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use std::{io::Write as _, os::unix::process::CommandExt as _, time::Instant};
use windlass_tests::{
    Binaries, Lab, LabOptions,
    lab::{
        Role,
        sweep::{self, Found, Standing},
    },
};

/// A storage grid of real machines on this one: systemd, ZFS, Gluster, and Windlass from its packages.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which lab, if there is more than one
    #[arg(long, global = true, value_name = "ID")]
    lab: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start one; it runs until `down`
    Up(Up),
    /// Take it down; without --lab all that nobody is using
    Down,
    /// Show labs, their nodes and what the master knows
    Status,
    /// Run a program on a node; on `outside`, beside the switch with all that `windlass` needs
    Exec {
        node: String,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        program: Vec<String>,
    },
    /// Pull the network cable of a node
    Cut { node: String },
    /// Plug it in again
    Heal { node: String },
    /// Take the power from a node
    Crash { node: String },
    /// Give it back
    Boot { node: String },
}

#[derive(Debug, Args)]
struct Up {
    /// Storage nodes: n1, n2, …
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=80))]
    nodes: u8,
    /// Disks of a storage node: /disks/disk1, …
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=64))]
    disks: u8,
    /// Size of a disk; only what is written takes room
    #[arg(long, default_value_t = 512, value_name = "MIB", value_parser = clap::value_parser!(u64).range(64..=1_048_576))]
    disk_mib: u64,
    /// Only nodes: neither master nor agents
    #[arg(long)]
    bare: bool,
}

/// Run it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let lab = || one(arguments.lab.as_deref());
    match &arguments.command {
        Command::Up(up) => self::up(up),
        Command::Down => down(arguments.lab.as_deref()),
        Command::Status => status(),
        Command::Exec { node, program } => {
            let lab = lab()?;
            let mut command = if node == "outside" {
                lab.outside(&program[0])
            } else {
                let mut command = lab.command(node)?;
                command.arg(&program[0]);
                command
            };
            // Its status is ours, and so is the terminal.
            Err(command.args(&program[1..]).exec()).with_context(|| format!("starting `{}`", program[0]))
        }
        Command::Cut { node } => lab()?.cut(node),
        Command::Heal { node } => lab()?.heal(node),
        Command::Crash { node } => lab()?.crash(node),
        Command::Boot { node } => lab()?.boot(node),
    }
}

fn up(up: &Up) -> Result<()> {
    setup::for_lab()?;
    let start = Instant::now();
    build::for_lab()?;
    eprintln!("built in {:.1} s", start.elapsed().as_secs_f32());
    let target = exec::root().join("target");
    let binaries = Binaries::at(&target.join("debug"), &target.join("bundles"))?;
    let start = Instant::now();
    let options = LabOptions {
        nodes: up.nodes,
        disks: up.disks,
        disk_bytes: up.disk_mib << 20,
        windlass: !up.bare,
        ..LabOptions::default()
    };
    // Until it is kept, the end of this process is its end: Ctrl-C leaves nothing behind.
    let mut lab = Lab::up(&binaries, &options)?;
    lab.keep()?;
    eprintln!("lab {} is up after {:.1} s", lab.id(), start.elapsed().as_secs_f32());
    show(&lab);
    print(&explanation(&lab));
    Ok(())
}

fn explanation(lab: &Lab) -> String {
    let exports: String =
        lab.environment().iter().map(|(name, value)| format!("  export {name}={value}\n")).collect();
    let mut text = "\nOn a node:\n
  cargo xtask lab exec n1 zpool create tank mirror /disks/disk1 /disks/disk2
  cargo xtask lab exec n1 gluster peer probe n2
  cargo xtask lab exec n1 bash
  cargo xtask lab cut n2 | heal n2 | crash n2 | boot n2
  cargo xtask lab exec client mount -t glusterfs n1:/media /mnt\n"
        .to_owned();
    if !exports.is_empty() {
        text += &format!(
            "\nAs an operator:\n
  cargo xtask lab exec outside windlass nodes list
  cargo xtask lab exec outside windlass run zfs.pool.list --on 'n*'
  cargo xtask lab exec outside bash

The last is a shell in the network of the lab with this in its environment:\n\n{exports}"
        );
    }
    text + &format!(
        "\nDisks and consoles of the nodes lie in {}/nodes. `cargo xtask lab down` removes all of it.",
        lab.dir().display()
    )
}

fn down(id: Option<&str>) -> Result<()> {
    let labs = sweep::labs()?;
    if let Some(id) = id {
        if !labs.iter().any(|lab| lab.id == id) {
            bail!("there is no lab `{id}`");
        }
        return sweep::down(id);
    }
    for Found { id, standing } in &labs {
        if *standing == Standing::Owned {
            eprintln!("lab {id} is in use by a test and stays: `cargo xtask lab down --lab {id}` ends it");
        } else {
            sweep::down(id)?;
            eprintln!("lab {id} is gone");
        }
    }
    if labs.is_empty() {
        eprintln!("there is no lab");
    }
    Ok(())
}

fn status() -> Result<()> {
    let labs = sweep::labs()?;
    if labs.is_empty() {
        print("there is no lab: `cargo xtask lab up` starts one");
    }
    for Found { id, standing } in labs {
        let words = match standing {
            Standing::Kept => "runs until `cargo xtask lab down`",
            Standing::Owned => "in use by a test",
            Standing::Stale => "left by a process that ended: `cargo xtask lab down` removes it",
        };
        print(&format!("lab {id}: {words}"));
        match Lab::open(&id) {
            Ok(lab) if standing != Standing::Stale => show(&lab),
            Ok(_) => {}
            Err(error) => print(&format!("  {error:#}")),
        }
    }
    Ok(())
}

fn show(lab: &Lab) {
    for node in lab.nodes() {
        let role = match node.role {
            Role::Storage => "storage",
            Role::Client => "client",
            Role::Master => "master",
        };
        let power = if lab.is_on(node) { "on" } else { "off" };
        print(&format!("  {:<8} {:<12} {role:<8} {power}", node.name, node.address));
    }
    if !lab.environment().is_empty() {
        let nodes = lab.windlass(&["nodes", "list"]);
        print(&format!("{}{}", nodes.stdout, nodes.stderr));
    }
}

/// The lab that is meant.
fn one(id: Option<&str>) -> Result<Lab> {
    if let Some(id) = id {
        return Lab::open(id);
    }
    let labs: Vec<Found> = sweep::labs()?.into_iter().filter(|lab| lab.standing == Standing::Kept).collect();
    match labs.as_slice() {
        [] => bail!("there is no lab: `cargo xtask lab up` starts one"),
        [lab] => Lab::open(&lab.id),
        _ => {
            let ids: Vec<&str> = labs.iter().map(|lab| lab.id.as_str()).collect();
            bail!("there are labs {}: say which with --lab", ids.join(", "))
        }
    }
}

fn print(text: &str) {
    // Who reads may have had enough: `status | head`.
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end_matches('\n'));
}
