//! A network of our own, in which the packets of one node can be dropped.
//!
//! That node lives in a network namespace of its own, at the other end of a pair of virtual
//! interfaces. It is cut off by giving both ends a wrong hardware address for the other: packets
//! are sent as before and nobody takes them. Nothing is told to either side, no connection is
//! reset: both see what a pulled cable behind a switch looks like. The addresses are those that RFC
//! 2544 sets aside for benchmarks.

use anyhow::{Context as _, Result, ensure};
use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};
use windlass_tests::Daemon;

const HERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Nobody's.
const WRONG: &str = "02:00:00:00:00:99";

/// Where both systems run.
#[derive(Debug)]
pub struct Network {
    /// Holds the namespace of the node apart, if there is one.
    apart: Option<Daemon>,
}

impl Network {
    /// Set it up, within a network namespace that is ours (`own`), or use the loopback interface.
    pub fn new(own: bool) -> Result<Self> {
        if !own {
            return Ok(Network { apart: None });
        }
        ip(&["link", "set", "lo", "up"])?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "infinity"]);
        let apart = Daemon::spawn(command, Path::new("/dev/null"))?;
        let network = Network { apart: Some(apart) };
        let pid = network.pid()?;
        // Until it has a namespace, the interface would be moved to where it comes from.
        windlass_tests::until("there is a network namespace", || {
            let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
            (of(&pid)? != of("self")?).then_some(())
        });
        ip(&["link", "add", "here", "type", "veth", "peer", "name", "there", "netns", &pid])?;
        ip(&["address", "add", &format!("{HERE}/30"), "dev", "here"])?;
        ip(&["link", "set", "here", "up"])?;
        network.ip_there(&["link", "set", "lo", "up"])?;
        network.ip_there(&["address", "add", &format!("{THERE}/30"), "dev", "there"])?;
        network.ip_there(&["link", "set", "there", "up"])?;
        Ok(network)
    }

    fn pid(&self) -> Result<String> {
        Ok(self.apart.as_ref().context("there is no namespace")?.pid().to_string())
    }

    /// True if one node can be cut off.
    pub fn is_own(&self) -> bool {
        self.apart.is_some()
    }

    /// Where the masters listen.
    pub fn address(&self) -> Ipv4Addr {
        if self.is_own() { HERE } else { Ipv4Addr::LOCALHOST }
    }

    /// True if this node can be cut off.
    pub fn is_apart(&self, node: &str) -> bool {
        self.is_own() && node == super::APART
    }

    /// A program on a node.
    pub fn command(&self, node: &str, program: &Path) -> Result<Command> {
        if !self.is_apart(node) {
            return Ok(Command::new(program));
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()?)).arg("--").arg(program);
        Ok(command)
    }

    /// Drop all packets from and to the node apart.
    pub fn cut(&self) -> Result<()> {
        let wrong = |address: Ipv4Addr, device: &'static str| {
            let address = address.to_string();
            ["neighbour", "replace", &address, "lladdr", WRONG, "nud", "permanent", "dev", device]
                .map(str::to_owned)
        };
        ip(&wrong(THERE, "here"))?;
        self.ip_there(&wrong(HERE, "there"))
    }

    /// Let them through again.
    pub fn mend(&self) -> Result<()> {
        ip(&["neighbour", "delete", &THERE.to_string(), "dev", "here"])?;
        self.ip_there(&["neighbour", "delete", &HERE.to_string(), "dev", "there"])
    }

    fn ip_there(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid()?)).args(["--", "ip"]).args(args);
        run(command)
    }
}

fn ip(args: &[impl AsRef<std::ffi::OsStr>]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(args);
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
