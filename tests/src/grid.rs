//! Masters with their hosts, each a process of its own with a folder of its own.

use crate::{Binaries, Daemon, link::Link, until};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
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
    /// How many masters, all on one database.
    pub masters: usize,
    /// `[store] url`: a database of a server. Without it the masters share a file.
    pub store: Option<String>,
    /// Lines for the top of each host's configuration.
    pub host_config: String,
    /// Lines for the end of each host's configuration: tables.
    pub host_tables: String,
    /// Trust file of every host: whose bundles it takes from the master.
    pub trust: Option<String>,
    /// Where masters listen.
    pub address: Ipv4Addr,
    /// Ports of the listeners of the first master: API, nodes, enrolment; free ones unless given.
    pub ports: Option<[u16; 3]>,
    /// Each host reaches its masters over lines that can be cut ([`Grid::cut_off`]).
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
            masters: 1,
            store: None,
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

/// One master.
#[derive(Debug)]
struct Master {
    ports: [u16; 3],
    /// For other masters.
    peer: u16,
    daemon: Option<Daemon>,
}

/// Masters with their hosts. Dropping it ends them all.
#[derive(Debug)]
pub struct Grid {
    binaries: Binaries,
    dir: PathBuf,
    options: GridOptions,
    token: String,
    fingerprint: String,
    // Hosts end before the master, so that their goodbye finds somebody.
    hosts: BTreeMap<String, Daemon>,
    masters: Vec<Master>,
    /// From each host to each master.
    lines: BTreeMap<String, Vec<Link>>,
}

/// The folder of a master among those of its grid.
fn folder(number: usize) -> String {
    if number == 0 { "master".to_owned() } else { format!("master-{}", number + 1) }
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

    /// Start only the masters, the first of which leads.
    ///
    /// # Errors
    /// If it fails.
    pub fn start_master(binaries: Binaries, dir: &Path, options: GridOptions) -> Result<Self> {
        let data_dir = dir.join("master");
        let output = Command::new(binaries.program("windlass-master"))
            .arg("init")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(options.store.iter().flat_map(|url| ["--store", url]))
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
            hosts: BTreeMap::new(),
            masters: Vec::new(),
            lines: BTreeMap::new(),
        };
        for number in 0..grid.options.masters {
            let [peer, ..] = free_ports(grid.options.address)?;
            let ports = if number == 0 { ports } else { free_ports(grid.options.address)? };
            grid.masters.push(Master { ports, peer, daemon: None });
            grid.prepare_master(number)?;
            grid.restart_master_at(number)?;
        }
        Ok(grid)
    }

    fn master_config(&self, number: usize) -> PathBuf {
        self.dir.join(folder(number)).with_extension("toml")
    }

    /// Write the configuration of a master. With a server for the database each has a folder of its own,
    /// and all it shares with the first is the authority.
    fn prepare_master(&self, number: usize) -> Result<()> {
        let data_dir = folder(if self.options.store.is_some() { number } else { 0 });
        if self.options.store.is_some() && number > 0 {
            let (from, to) = (self.dir.join(folder(0)).join("ca"), self.dir.join(&data_dir).join("ca"));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&to)?;
            for entry in std::fs::read_dir(from)? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            std::fs::set_permissions(self.dir.join(&data_dir), std::fs::Permissions::from_mode(0o700))?;
        }
        let Master { ports: [api, node, enroll], peer, .. } = self.masters[number];
        let GridOptions { address, heartbeat_ms, masters, store, .. } = &self.options;
        let mut text = format!(
            "data_dir = \"{data_dir}\"\nheartbeat_ms = {heartbeat_ms}\nserver_names = [\"localhost\", \"{address}\"]\n\n\
             [listen]\napi = \"{address}:{api}\"\nnode = \"{address}:{node}\"\nenroll = \"{address}:{enroll}\"\n"
        );
        if *masters > 1 {
            writeln!(text, "peer = \"{address}:{peer}\"")?;
        }
        if let Some(url) = store {
            let blobs = self.dir.join("blobs");
            write!(text, "\n[store]\nurl = \"{url}\"\n\n[blobs]\nurl = \"file://{}\"\n", blobs.display())?;
        }
        std::fs::write(self.master_config(number), text)?;
        Ok(())
    }

    /// Start the first master again after it was ended.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn restart_master(&mut self) -> Result<()> {
        self.restart_master_at(0)
    }

    /// Start a master again after it was ended.
    ///
    /// # Errors
    /// If it does not become ready.
    pub fn restart_master_at(&mut self, number: usize) -> Result<()> {
        let mut command = Command::new(self.binaries.program("windlass-master"));
        command.arg("run").arg("--config").arg(self.master_config(number));
        let log = self.dir.join(folder(number)).with_extension("log");
        self.masters[number].daemon = Some(Daemon::start(command, &log)?);
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
        let (address, lines) = (self.options.address, self.lines.get(name));
        let mut masters: Vec<(SocketAddr, u16)> = self
            .masters
            .iter()
            .enumerate()
            .map(|(number, Master { ports: [_, node, enroll], .. })| {
                let line = lines.and_then(|lines| lines.get(number)).map(Link::address);
                (line.unwrap_or_else(|| (address, *node).into()), *enroll)
            })
            .collect();
        // `n1` asks the first master first, `n2` the second.
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let first = digits.parse::<usize>().unwrap_or(1).saturating_sub(1) % masters.len();
        masters.rotate_left(first);
        for (node, enroll) in masters {
            writeln!(text, "\n[[masters]]\nnodes = \"{node}\"\nenroll = \"{address}:{enroll}\"")?;
        }
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
            let lines = self.masters.iter().map(|master| Link::to(([127, 0, 0, 1], master.ports[1]).into()));
            self.lines.insert(name.to_owned(), lines.collect::<Result<_>>()?);
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

    /// Run the command line against the first master.
    pub fn windlass(&self, args: &[&str]) -> Output {
        self.windlass_at(0, args)
    }

    /// Run the command line against a master.
    pub fn windlass_at(&self, number: usize, args: &[&str]) -> Output {
        let output = self.windlass_command_at(number).args(args).output().expect("starting `windlass`");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Run the command line against the first master with another token.
    pub fn windlass_as(&self, token: &str, args: &[&str]) -> Output {
        let output = self.windlass_command().env("WINDLASS_TOKEN", token).args(args).output();
        let output = output.expect("starting `windlass`");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command line, set up for the first master.
    pub fn windlass_command(&self) -> Command {
        self.windlass_command_at(0)
    }

    /// The command line, set up for a master.
    pub fn windlass_command_at(&self, number: usize) -> Command {
        let mut command = Command::new(self.binaries.program("windlass"));
        // Nothing of the person who runs the tests may leak in.
        command.env_clear().env("HOME", &self.dir).env("XDG_CONFIG_HOME", self.dir.join("config"));
        for (name, value) in self.environment_at(number) {
            command.env(name, value);
        }
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// What a terminal needs to reach the first master.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        self.environment_at(0)
    }

    /// What a terminal needs to reach a master.
    pub fn environment_at(&self, number: usize) -> [(&'static str, String); 3] {
        [
            ("WINDLASS_URL", self.url_at(number)),
            ("WINDLASS_CA_FINGERPRINT", self.fingerprint.clone()),
            ("WINDLASS_TOKEN", self.token.clone()),
        ]
    }

    /// Address of the API of the first master.
    pub fn url(&self) -> String {
        self.url_at(0)
    }

    fn url_at(&self, number: usize) -> String {
        format!("https://{}:{}", self.options.address, self.masters[number].ports[0])
    }

    /// Ports of the listeners of the first master: API, nodes, enrolment.
    pub fn ports(&self) -> [u16; 3] {
        self.ports_at(0)
    }

    /// Ports of the listeners of a master: API, nodes, enrolment.
    pub fn ports_at(&self, number: usize) -> [u16; 3] {
        self.masters[number].ports
    }

    /// How many masters there are.
    pub fn masters(&self) -> usize {
        self.masters.len()
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

    /// The process of the first master.
    ///
    /// # Panics
    /// If it was taken.
    pub fn master(&mut self) -> &mut Daemon {
        self.master_at(0)
    }

    /// The process of a master.
    ///
    /// # Panics
    /// If it was taken.
    pub fn master_at(&mut self, number: usize) -> &mut Daemon {
        self.masters[number].daemon.as_mut().expect("the master runs")
    }

    /// Take the first master out, to end it.
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take_master(&mut self) -> Daemon {
        self.take_master_at(0)
    }

    /// Take a master out, to end it.
    ///
    /// # Panics
    /// If it was taken before.
    pub fn take_master_at(&mut self, number: usize) -> Daemon {
        self.masters[number].daemon.take().expect("the master runs")
    }

    /// A host's process.
    ///
    /// # Panics
    /// If it does not run.
    pub fn host(&mut self, name: &str) -> &mut Daemon {
        self.hosts.get_mut(name).expect("the host runs")
    }

    /// Cut a host off from all masters.
    ///
    /// # Panics
    /// If the grid was made without [`GridOptions::lines`].
    pub fn cut_off(&self, name: &str) {
        self.lines.get(name).expect("the grid has lines").iter().for_each(Link::cut);
    }

    /// Let a host reach the masters again.
    ///
    /// # Panics
    /// If the grid was made without [`GridOptions::lines`].
    pub fn mend(&self, name: &str) {
        self.lines.get(name).expect("the grid has lines").iter().for_each(Link::mend);
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
