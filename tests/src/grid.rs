//! A master with its hosts, each a process of its own with a folder of its own.

use crate::{Binaries, Daemon, link::Link, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// How long a host may take for one step. Less than `until` allows, so that its log is shown.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a grid is made of.
#[derive(Debug, Clone)]
pub struct GridOptions {
    /// Names of the hosts.
    pub hosts: Vec<String>,
    /// Plugins that every host trusts.
    pub plugins: Vec<String>,
    /// How often master and hosts tell each other that they live.
    pub heartbeat_ms: u32,
    /// Lines for the end of the master's configuration, which is its table `[listen]`.
    pub master_listen: String,
    /// Lines for the top of each host's configuration.
    pub host_config: String,
    /// Lines for the end of each host's configuration: tables.
    pub host_tables: String,
    /// Trust file of every host: whose bundles it takes from the master.
    pub trust: Option<String>,
    /// Where the master listens.
    pub address: Ipv4Addr,
    /// Ports of the listeners for API, nodes and enrolment; free ones unless given.
    pub ports: Option<[u16; 3]>,
    /// Each host reaches its master over a line that can be cut ([`Grid::line`]).
    pub lines: bool,
    /// Where hosts keep compiled plugins, so that later grids need not compile again.
    pub compile_cache: Option<PathBuf>,
}

impl Default for GridOptions {
    fn default() -> Self {
        GridOptions {
            hosts: vec!["n1".into()],
            plugins: vec!["monitor".into()],
            heartbeat_ms: 500,
            master_listen: String::new(),
            host_config: String::new(),
            host_tables: String::new(),
            trust: None,
            address: Ipv4Addr::LOCALHOST,
            ports: None,
            lines: false,
            compile_cache: None,
        }
    }
}

/// How the command line ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in the output of {self:#?}"))
    }

    /// This, if the exit code is `code`.
    ///
    /// # Panics
    /// If it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A master with its hosts. Dropping it ends them all.
#[derive(Debug)]
pub struct Grid {
    binaries: Binaries,
    dir: PathBuf,
    options: GridOptions,
    ports: [u16; 3],
    token: String,
    fingerprint: String,
    // Hosts end before the master, so that their goodbye finds somebody.
    hosts: BTreeMap<String, Daemon>,
    master: Option<Daemon>,
    lines: BTreeMap<String, Link>,
}

impl Grid {
    /// Start a master and hosts, and accept the hosts, in `dir`.
    ///
    /// # Errors
    /// If anything of it fails.
    pub fn start(binaries: Binaries, dir: &Path, options: GridOptions) -> Result<Self> {
        let names = options.hosts.clone();
        let mut grid = Self::start_master(binaries, dir, options)?;
        for name in &names {
            grid.start_host(name)?;
        }
        for name in &names {
            grid.accept(name)?;
        }
        for name in &names {
            grid.wait_online(name);
        }
        Ok(grid)
    }

    /// Start only the master.
    ///
    /// # Errors
    /// If it fails.
    pub fn start_master(binaries: Binaries, dir: &Path, options: GridOptions) -> Result<Self> {
        let data_dir = dir.join("master");
        let output = Command::new(binaries.program("windlass-master"))
            .arg("init")
            .arg("--data-dir")
            .arg(&data_dir)
            .output()
            .context("starting `windlass-master init`")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success(),
            "`windlass-master init`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let word = |prefix: &str| {
            text.split(|c: char| c.is_whitespace() || c == '`' || c == '"')
                .find(|word| word.starts_with(prefix))
                .map(str::to_owned)
                .with_context(|| format!("`windlass-master init` printed no `{prefix}…`:\n{text}"))
        };
        let ports = match options.ports {
            Some(ports) => ports,
            None => free_ports(options.address)?,
        };
        let mut grid = Grid {
            token: word("wl_")?,
            fingerprint: word("sha256:")?,
            binaries,
            dir: dir.to_owned(),
            options,
            ports,
            hosts: BTreeMap::new(),
            master: None,
            lines: BTreeMap::new(),
        };
        std::fs::write(grid.master_config(), grid.master_config_text())?;
        grid.restart_master()?;
        Ok(grid)
    }

    fn master_config(&self) -> PathBuf {
        self.dir.join("master.toml")
    }

    fn master_config_text(&self) -> String {
        let [api, node, enroll] = self.ports;
        let GridOptions { address, heartbeat_ms, master_listen, .. } = &self.options;
        format!(
            "data_dir = \"master\"\nheartbeat_ms = {heartbeat_ms}\nserver_names = [\"localhost\", \"{address}\"]\n\n[listen]\napi = \"{address}:{api}\"\nnode = \"{address}:{node}\"\nenroll = \"{address}:{enroll}\"\n{master_listen}"
        )
    }

    /// Start the master again after it was ended.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn restart_master(&mut self) -> Result<()> {
        let mut command = Command::new(self.binaries.program("windlass-master"));
        command.arg("run").arg("--config").arg(self.master_config());
        self.master = Some(Daemon::start(command, &self.dir.join("master.log"))?);
        Ok(())
    }

    /// The configuration file of a host.
    pub fn host_config(&self, name: &str) -> PathBuf {
        self.host_dir(name).join("host.toml")
    }

    /// The folder of a host.
    pub fn host_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Write the configuration and plugins of a host.
    ///
    /// # Errors
    /// If a plugin is not built or a file can't be written.
    pub fn prepare_host(&self, name: &str) -> Result<()> {
        let dir = self.host_dir(name);
        let plugins = dir.join("plugins");
        std::fs::create_dir_all(&plugins)?;
        for plugin in &self.options.plugins {
            let from = self.binaries.bundle(plugin)?;
            let to = plugins.join(plugin);
            std::fs::create_dir_all(&to)?;
            for file in ["plugin.toml", "component.wasm", "wit.wasm"] {
                std::fs::copy(from.join(file), to.join(file))?;
            }
        }
        let ([_, node, enroll], address) = (self.ports, self.options.address);
        let node = self.lines.get(name).map_or(SocketAddr::from((address, node)), Link::address);
        let mut text = format!("name = \"{name}\"\nca_fingerprint = \"{}\"\n", self.fingerprint);
        text += "state_dir = \"state\"\nplugins_dir = \"plugins\"\n";
        writeln!(text, "compile_helper = {:?}", self.binaries.program("windlass-compile"))?;
        if let Some(cache) = &self.options.compile_cache {
            writeln!(text, "compiled_dir = {cache:?}")?;
        }
        if let Some(trust) = &self.options.trust {
            std::fs::write(dir.join("trust.toml"), trust)?;
            text += "trust_file = \"trust.toml\"\n";
        }
        text += &self.options.host_config;
        writeln!(text, "\n[[masters]]\nnodes = \"{node}\"\nenroll = \"{address}:{enroll}\"")?;
        text += &self.options.host_tables;
        std::fs::write(self.host_config(name), text)?;
        Ok(())
    }

    /// Start a host that has not been started yet.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn start_host(&mut self, name: &str) -> Result<()> {
        if self.options.lines {
            let line = Link::to(([127, 0, 0, 1], self.ports[1]).into())?;
            self.lines.insert(name.to_owned(), line);
        }
        self.prepare_host(name)?;
        self.restart_host(name)
    }

    /// Start a host again after it was ended.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn restart_host(&mut self, name: &str) -> Result<()> {
        let mut command = Command::new(self.binaries.program("windlass-host"));
        command.arg("run").arg("--config").arg(self.host_config(name));
        // A host is ready once it has a session, which a pending one has not: so it is not waited for.
        let daemon = Daemon::spawn(command, &self.host_dir(name).join("host.log"))?;
        self.hosts.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Accept a pending host as an operator would: by the fingerprint it shows.
    ///
    /// # Errors
    /// If the master refuses.
    pub fn accept(&self, name: &str) -> Result<()> {
        let node = self.until(name, "it asks to join", || self.node(name));
        let fingerprint = node["fingerprint"].as_str().context("a node has a fingerprint")?.to_owned();
        let output = self.windlass(&["nodes", "accept", name, "--fingerprint", &fingerprint]);
        ensure!(output.code == 0, "accepting {name}: {output:#?}");
        Ok(())
    }

    /// Wait for a condition that a host brings about.
    ///
    /// # Panics
    /// If the host ends, or a minute passes; the message holds the end of its log.
    #[track_caller]
    fn until<T>(&self, name: &str, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let host = self.hosts.get(name);
        let log = || host.map(Daemon::log_tail).unwrap_or_default();
        let start = Instant::now();
        until(&format!("{name}: {what}"), || {
            assert!(host.is_none_or(Daemon::is_running), "{name} ended before this: {what}\n{}", log());
            assert!(start.elapsed() < PATIENCE, "{name}: not within {PATIENCE:?}: {what}\n{}", log());
            ask()
        })
    }

    /// What the master knows about a node.
    pub fn node(&self, name: &str) -> Option<Value> {
        let output = self.windlass(&["nodes", "show", name, "-o", "json"]);
        (output.code == 0).then(|| output.json())
    }

    /// Wait until a node has a session and has told its plugins.
    pub fn wait_online(&self, name: &str) {
        self.until(name, "it is online", || self.node(name).filter(|node| node["online"] == true));
        for plugin in &self.options.plugins {
            until(&format!("the master knows the operations of {plugin}"), || {
                let output = self.windlass(&["ops", "list", plugin, "-o", "json"]);
                (output.code == 0 && output.stdout.contains("\"name\"")).then_some(())
            });
        }
    }

    /// Wait until the master sees that a node is gone.
    pub fn wait_offline(&self, name: &str) {
        until(&format!("{name} is offline"), || self.node(name).filter(|node| node["online"] == false));
    }

    /// Run the command line against this grid.
    pub fn windlass(&self, args: &[&str]) -> Output {
        let output = self.windlass_command().args(args).output().expect("starting `windlass`");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command line, set up for this grid.
    pub fn windlass_command(&self) -> Command {
        let mut command = Command::new(self.binaries.program("windlass"));
        // Nothing of the person who runs the tests may leak in.
        command.env_clear().env("HOME", &self.dir).env("XDG_CONFIG_HOME", self.dir.join("config"));
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// What a terminal needs to reach this grid.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("WINDLASS_URL", self.url()),
            ("WINDLASS_CA_FINGERPRINT", self.fingerprint.clone()),
            ("WINDLASS_TOKEN", self.token.clone()),
        ]
    }

    /// Address of the API.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.options.address, self.ports[0])
    }

    /// Ports of the listeners: API, nodes, enrolment.
    pub fn ports(&self) -> [u16; 3] {
        self.ports
    }

    /// The token of the administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The fingerprint of the master's authority.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The programs and bundles in use.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The master's process.
    ///
    /// # Panics
    /// If it was taken.
    pub fn master(&mut self) -> &mut Daemon {
        self.master.as_mut().expect("the master runs")
    }

    /// Take the master out, to end it.
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take_master(&mut self) -> Daemon {
        self.master.take().expect("the master runs")
    }

    /// A host's process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn host(&mut self, name: &str) -> &mut Daemon {
        self.hosts.get_mut(name).expect("the host runs")
    }

    /// The line between a host and its master.
    ///
    /// # Panics
    /// If the grid was made without [`GridOptions::lines`].
    pub fn line(&self, name: &str) -> &Link {
        self.lines.get(name).expect("the grid has lines")
    }

    /// Take a host out, to end it.
    ///
    /// # Panics
    /// If it does not run.
    pub fn take_host(&mut self, name: &str) -> Daemon {
        self.hosts.remove(name).expect("the host runs")
    }
}

/// Three ports nobody listens on. Another process may take one before we do: then the start fails
/// with a clear message.
///
/// # Errors
/// If there are none.
pub fn free_ports(address: Ipv4Addr) -> Result<[u16; 3]> {
    let listeners = [
        TcpListener::bind((address, 0))?,
        TcpListener::bind((address, 0))?,
        TcpListener::bind((address, 0))?,
    ];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
