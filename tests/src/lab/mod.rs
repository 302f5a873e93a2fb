//! A storage grid of real machines on this one, as the end-to-end tests and `cargo xtask lab` use it.
//!
//! Each node is a booted Debian: systemd as process 1, in namespaces of its own (systemd-nspawn), over an
//! overlay on one cached image, with its own address, name, file-backed disks in `/disks`, zfs-fuse and
//! glusterd. Windlass is on it as people have it: from its Debian packages, started by its units. Nothing
//! of it is a mock.
//!
//! * [`needs`]: what the machine must have, told before anything is begun.
//! * [`image`]: the root of every node, built once.
//! * [`network`]: a switch and a cable to each node, which can be pulled.
//! * [`node`]: preparing, booting, and ending a node as a loss of power does.
//! * [`cgroups`]: whose processes are whose.
//! * [`windlass`]: master and agents, from their packages.
//! * [`sweep`]: taking a lab down, whatever is left of it.
//! * [`keeper`]: takes it down when its owner can't.
//!
//! # What is left behind
//!
//! Nothing. All that a lab is made of carries its id: the folder, the network namespaces, the control groups
//! with every process in them, the mounts, which all lie beneath the folder. So [`sweep::down`] needs no
//! record of how far a lab had come; it looks for the id and removes what it finds. It is called when a
//! [`Lab`] is dropped. If the owner is killed instead, its end closes a pipe to the keeper, a process outside
//! of the owner's session and process group, which then does it. Should that be killed as well, the lock of
//! the lab is free, and the next lab that anybody starts, or `cargo xtask lab down`, sweeps it up.

pub mod cgroups;
pub mod image;
pub mod keeper;
pub mod needs;
pub mod network;
pub mod node;
pub mod sweep;
pub mod windlass;

pub use node::{Node, Role};

use crate::{Binaries, Output};
use anyhow::{Context as _, Result, ensure};
use keeper::Keeper;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

/// Each lab has a folder here, named by its id.
const LABS: &str = "/var/lib/windlass-lab";

/// What a lab is made of.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Storage nodes: `n1`, `n2`, …
    pub nodes: u8,
    /// A node `client` that mounts volumes and has no agent.
    pub client: bool,
    /// A node `master`, and an agent on every storage node.
    pub windlass: bool,
    /// Disks of a storage node: `/disks/disk1`, …
    pub disks: u8,
    pub disk_bytes: u64,
    /// Plugins that are rolled out over the agents.
    pub plugins: Vec<String>,
}

impl Default for LabOptions {
    fn default() -> Self {
        LabOptions {
            nodes: 3,
            client: true,
            windlass: true,
            disks: 5,
            disk_bytes: 512 << 20,
            plugins: vec!["monitor".into(), "zfs".into()],
        }
    }
}

/// What others must know to use a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    pub id: String,
    pub nodes: Vec<Node>,
    /// Where the programs lie that the packages were made of.
    programs: PathBuf,
    bundles: PathBuf,
    /// Of the first administrator; none before there is a master.
    token: Option<String>,
    fingerprint: Option<String>,
}

/// A running lab. Dropping it takes it down, unless it was kept or belongs to somebody else.
#[derive(Debug)]
pub struct Lab {
    state: State,
    dir: PathBuf,
    /// Held by the owner as long as it lives.
    owned: Option<(Keeper, File)>,
}

impl Lab {
    /// Start one, and wait until every node is up and every agent is online.
    ///
    /// # Errors
    /// If the machine lacks something, which the message tells, or a step fails. Nothing is left then.
    pub fn up(binaries: &Binaries, options: &LabOptions) -> Result<Self> {
        ensure!((1..=80).contains(&options.nodes), "a lab has 1 to 80 nodes");
        needs::check()?;
        sweep::stale()?;
        let image = image::get()?;
        let mut lab = Self::begin(binaries, options)?;
        network::up(&lab.state)?;
        let packages = lab.dir.join("packages");
        std::fs::create_dir(&packages)?;
        if options.windlass {
            windlass::kept_packages(binaries, &packages)?;
        }
        lab.on_each(|node| {
            node::prepare(&lab, node, options, image.path())?;
            node::boot(&lab, node)
        })?;
        drop(image);
        if options.windlass {
            windlass::install(&mut lab, options)?;
        }
        Ok(lab)
    }

    /// Take an id, a folder and its lock. From here on something can be left behind.
    fn begin(binaries: &Binaries, options: &LabOptions) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut add = |name: String, role, host| {
            nodes.push(Node { name, role, address: Ipv4Addr::new(10, 77, 0, host) });
        };
        for number in 1..=options.nodes {
            add(format!("n{number}"), Role::Storage, 10 + number);
        }
        if options.client {
            add("client".into(), Role::Client, 200);
        }
        if options.windlass {
            add("master".into(), Role::Master, 250);
        }
        let id: String = (0..6).map(|_| char::from(rand::rng().random_range(b'a'..=b'z'))).collect();
        let dir = Path::new(LABS).join(&id);
        // Held while the folder is there and its lock is not: nobody sweeps in between.
        let _all = sweep::lock_all()?;
        std::fs::create_dir(&dir).with_context(|| format!("making `{}`", dir.display()))?;
        let lock = sweep::own(&dir)?.context("another process has a lock that was made just now")?;
        let owned = Some((Keeper::start(binaries, &id)?, lock));
        let state = State {
            id,
            nodes,
            programs: binaries.programs().to_owned(),
            bundles: binaries.bundles().to_owned(),
            token: None,
            fingerprint: None,
        };
        let lab = Lab { state, dir, owned };
        lab.save()?;
        Ok(lab)
    }

    fn save(&self) -> Result<()> {
        let path = self.dir.join("lab.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&self.state)?).context("writing lab.json")
    }

    /// One that was kept, or that another process owns.
    ///
    /// # Errors
    /// If there is none of this id.
    pub fn open(id: &str) -> Result<Self> {
        ensure!(sweep::is_id(id), "`{id}` is not the id of a lab");
        let dir = Path::new(LABS).join(id);
        let text = std::fs::read(dir.join("lab.json")).with_context(|| format!("there is no lab `{id}`"))?;
        Ok(Lab { state: serde_json::from_slice(&text)?, dir, owned: None })
    }

    /// Let it run on after the end of this process, until somebody takes it down.
    ///
    /// # Errors
    /// If the keeper can't be told. It is taken down then.
    pub fn keep(&mut self) -> Result<()> {
        std::fs::write(self.dir.join(sweep::KEPT), "")?;
        if let Some((keeper, _)) = self.owned.as_mut() {
            keeper.dismiss()?;
        }
        self.owned = None;
        Ok(())
    }

    /// Take it down now, and tell what could not be removed.
    ///
    /// # Errors
    /// If anything is left.
    pub fn down(mut self) -> Result<()> {
        let done = sweep::down(&self.state.id);
        self.owned = None;
        done
    }

    pub fn id(&self) -> &str {
        &self.state.id
    }

    /// Its folder: what each node has on its disks and prints on its console is in `nodes/NAME`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn nodes(&self) -> &[Node] {
        &self.state.nodes
    }

    /// The nodes with storage, all of which have an agent.
    pub fn storage(&self) -> impl Iterator<Item = &Node> {
        self.state.nodes.iter().filter(|node| node.role == Role::Storage)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// If there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.state.nodes.iter().find(|node| node.name == name).with_context(|| {
            let names: Vec<&str> = self.state.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("lab {} has no node `{name}`, but {}", self.state.id, names.join(", "))
        })
    }

    /// Do something for all nodes at once.
    fn on_each(&self, what: impl Fn(&Node) -> Result<()> + Sync) -> Result<()> {
        let nodes: Vec<&Node> = self.state.nodes.iter().collect();
        each(&nodes, |node| what(node).with_context(|| node.name.clone()))
    }

    /// A program on a node, as if somebody had logged in there.
    ///
    /// # Errors
    /// If there is no such node, or it is off.
    pub fn command(&self, node: &str) -> Result<Command> {
        node::command(self, self.node(node)?)
    }

    /// Run a program on a node, two minutes at most.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn run(&self, node: &str, program: &[&str]) -> Output {
        let mut command = self.command(node).unwrap_or_else(|error| panic!("{error:#}"));
        command.args(["timeout", "--kill-after=5", "120"]).args(program);
        output(command).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Run a program on a node that must succeed. What it prints.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn succeed(&self, node: &str, program: &[&str]) -> String {
        let output = self.run(node, program);
        let Output { code, stdout, stderr } = &output;
        assert!(*code == 0, "{program:?} on {node} ended with {code}:\n{stdout}{stderr}");
        output.stdout
    }

    /// Pull the cable of a node, at the switch: nothing arrives, and nothing is refused.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn cut(&self, node: &str) -> Result<()> {
        network::cable(&self.state, self.node(node)?, "down")
    }

    /// Plug it in again.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn heal(&self, node: &str) -> Result<()> {
        network::cable(&self.state, self.node(node)?, "up")
    }

    /// Take the power from a node: all of its processes end at once, its disks stay as they are.
    ///
    /// # Errors
    /// If it does not end.
    pub fn crash(&self, node: &str) -> Result<()> {
        node::crash(self, self.node(node)?)
    }

    /// Give a node its power back, and wait until it is up.
    ///
    /// # Errors
    /// If it runs, or does not come up.
    pub fn boot(&self, node: &str) -> Result<()> {
        node::boot(self, self.node(node)?)
    }

    /// Whether a node has power.
    pub fn is_on(&self, node: &Node) -> bool {
        node::leader(self, node).is_some()
    }

    /// A program on the switch, where everything can be reached, with what `windlass` must know in its
    /// environment.
    pub fn outside(&self, program: &str) -> Command {
        network::outside(&self.state, program)
    }

    /// Run the command line, as an operator beside the switch would.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn windlass(&self, args: &[&str]) -> Output {
        let mut command = self.outside("windlass");
        // Nothing of the person who runs the tests may leak in.
        command.env("HOME", &self.dir).env("XDG_CONFIG_HOME", self.dir.join("config")).args(args);
        output(command).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What a terminal needs to reach the master, in the network of the switch.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.state.environment()
    }
}

impl State {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let master = self.nodes.iter().find(|node| node.role == Role::Master);
        let (Some(master), Some(token), Some(fingerprint)) = (master, &self.token, &self.fingerprint) else {
            return Vec::new();
        };
        vec![
            ("WINDLASS_URL", format!("https://{}:7400", master.address)),
            ("WINDLASS_CA_FINGERPRINT", fingerprint.clone()),
            ("WINDLASS_TOKEN", token.clone()),
        ]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned.is_some()
            && let Err(error) = sweep::down(&self.state.id)
        {
            eprintln!("error: taking lab {} down: {error:#}", self.state.id);
        }
    }
}

/// Do something for all of them at once; the first failure of any.
fn each<T: Sync>(items: &[T], what: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| what(item))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Run a program and take what it prints.
fn output(mut command: Command) -> Result<Output> {
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Run a program of this machine that must succeed.
fn tool(program: &str, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    // Where the tools of an administrator are, whoever started us.
    command.args(args).env("PATH", needs::search_path()).env("LC_ALL", "C.UTF-8");
    let Output { code, stdout, stderr } = output(command)?;
    ensure!(code == 0, "`{program} {}` ended with {code}: {}", args.join(" "), stderr.trim());
    Ok(stdout)
}
