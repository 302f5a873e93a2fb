//! A switch, and a cable from it to each node.
//!
//! The switch is a bridge in a network namespace of its own, and so is each node: nothing of it touches the
//! network of this machine, and every lab may use the same addresses. There is no way out of it.

use super::{Node, State, needs, tool};
use anyhow::Result;
use std::process::Command;

/// The switch has this address; so has whoever works beside it.
pub const OUTSIDE: &str = "10.77.0.254";
const BITS: u8 = 24;

/// Network namespace of the switch or of a node.
pub fn namespace(lab: &str, node: &str) -> String {
    format!("wl-{lab}-{node}")
}

/// Path of a namespace, as `nsenter --net` takes it.
pub fn path(lab: &str, node: &str) -> String {
    format!("/run/netns/{}", namespace(lab, node))
}

/// The lab that a namespace belongs to.
pub(super) fn lab_of(namespace: &str) -> Option<&str> {
    namespace.strip_prefix("wl-")?.split('-').next()
}

/// A node's end of the cable at the switch. `master` alone would be a word of ip(8).
fn port(node: &Node) -> String {
    format!("to-{}", node.name)
}

/// Make the switch and all cables.
pub(super) fn up(state: &State) -> Result<()> {
    let switch = namespace(&state.id, "switch");
    ip(&["netns", "add", &switch])?;
    ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"])?;
    ip(&["-n", &switch, "addr", "add", &format!("{OUTSIDE}/{BITS}"), "dev", "br0"])?;
    ip(&["-n", &switch, "link", "set", "br0", "up"])?;
    ip(&["-n", &switch, "link", "set", "lo", "up"])?;
    for node in &state.nodes {
        let (name, own) = (&port(node), namespace(&state.id, &node.name));
        ip(&["netns", "add", &own])?;
        ip(&["-n", &switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &own])?;
        ip(&["-n", &switch, "link", "set", name, "master", "br0", "up"])?;
        ip(&["-n", &own, "addr", "add", &format!("{}/{BITS}", node.address), "dev", "eth0"])?;
        ip(&["-n", &own, "link", "set", "eth0", "up"])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
    }
    Ok(())
}

/// Put the end of a node's cable at the switch `up` or `down`.
pub(super) fn cable(state: &State, node: &Node, how: &str) -> Result<()> {
    ip(&["-n", &namespace(&state.id, "switch"), "link", "set", &port(node), how])
}

/// Names of all network namespaces of labs.
pub(super) fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|n| lab_of(n).is_some()).collect()
}

/// Remove a namespace; the interfaces in it go with it.
pub(super) fn remove(namespace: &str) -> Result<()> {
    ip(&["netns", "delete", namespace])
}

/// A program in the network of the switch.
pub(super) fn outside(state: &State, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    let mut dirs = vec![state.programs.clone()];
    dirs.extend(std::env::split_paths(&needs::search_path()));
    command.env("PATH", std::env::join_paths(dirs).unwrap_or_default());
    command.envs(state.environment());
    command.arg(format!("--net={}", path(&state.id, "switch"))).args(["--", program]);
    command
}

fn ip(args: &[&str]) -> Result<()> {
    tool("ip", args).map(drop)
}
