//! Salt: a master and minions.

use super::{Answer, Network, Stop, System, process::Group};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};

/// The client that stays open.
const CLIENT: &str = include_str!("../../salt/client.py");
/// How long the client may take beyond a time limit: Salt asks what became of a job once more.
const SLACK: Duration = Duration::from_secs(60);

/// See the module.
pub struct Salt<'n> {
    network: &'n Network,
    programs: PathBuf,
    dir: PathBuf,
    ports: [u16; 2],
    version: String,
    client: Option<Client>,
    // Agents end before the master.
    agents: BTreeMap<String, Group>,
    master: Group,
}

/// The Python process that holds `salt.client.LocalClient`.
struct Client {
    _process: tokio::process::Child,
    requests: tokio::process::ChildStdin,
    replies: Lines<BufReader<tokio::process::ChildStdout>>,
}

#[derive(Debug, Deserialize)]
struct Versions {
    salt: String,
    python: String,
}

impl<'n> Salt<'n> {
    /// Start a master from the virtual environment in `environment`.
    pub async fn start(environment: &Path, dir: &Path, network: &'n Network) -> Result<Self> {
        let address = network.address();
        let listeners = [TcpListener::bind((address, 0))?, TcpListener::bind((address, 0))?];
        let ports = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
        drop(listeners);
        let master_dir = dir.join("master");
        let settings = format!(
            "interface: {address}\npublish_port: {}\nret_port: {}\nauto_accept: True\n",
            ports[0], ports[1]
        );
        configure(&master_dir, "master", &settings)?;
        let programs = environment.join("bin");
        let mut command = Command::new(programs.join("salt-master"));
        command.arg("--config-dir").arg(&master_dir);
        let master = Group::start(command, &master_dir.join("output"))?;
        let mut salt = Salt {
            network,
            programs,
            dir: dir.to_owned(),
            ports,
            version: String::new(),
            client: None,
            agents: BTreeMap::new(),
            master,
        };
        let (client, versions) = salt.open_client().await?;
        salt.version = format!("Salt {} (Python {})", versions.salt, versions.python);
        salt.client = Some(client);
        Ok(salt)
    }

    /// The client finds the master's event bus only once that is there.
    async fn open_client(&self) -> Result<(Client, Versions)> {
        let bus = self.dir.join("master/sock/master_event_pub.ipc");
        let began = Instant::now();
        while !bus.exists() {
            ensure!(self.master.is_running(), "salt-master ended:\n{}", self.master.log_tail());
            ensure!(began.elapsed() < SLACK, "salt-master is not there after {SLACK:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut process = tokio::process::Command::new(self.programs.join("python3"))
            .args(["-c", CLIENT])
            .arg(self.dir.join("master"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.dir.join("client.log"))?)
            .kill_on_drop(true)
            .spawn()?;
        let requests = process.stdin.take().context("the client has an input")?;
        let replies = process.stdout.take().context("the client has an output")?;
        let mut client = Client { _process: process, requests, replies: BufReader::new(replies).lines() };
        let versions = client.reply(SLACK).await?;
        Ok((client, versions))
    }

    async fn call<T: for<'de> Deserialize<'de>>(&mut self, request: Value, limit: Duration) -> Result<T> {
        let client = self.client.as_mut().context("the client is open")?;
        client.requests.write_all(format!("{request}\n").as_bytes()).await?;
        let log = self.dir.join("client.log");
        let what = || std::fs::read_to_string(&log).unwrap_or_default();
        client.reply(limit + SLACK).await.with_context(what)
    }

    fn run(&mut self, node: &str) -> Result<()> {
        let dir = self.dir.join(node);
        let mut command = self.network.command(node, &self.programs.join("salt-minion"))?;
        command.arg("--config-dir").arg(&dir);
        self.agents.insert(node.to_owned(), Group::start(command, &dir.join("output"))?);
        Ok(())
    }

    /// Wait for the events by which minions say that they have started.
    async fn started(&mut self, nodes: &[String], limit: Duration) -> Result<Vec<String>> {
        let request = json!({ "call": "started", "nodes": nodes, "seconds": limit.as_secs() });
        let reply: Value = self.call(request, limit).await?;
        Ok(serde_json::from_value(reply["missing"].clone())?)
    }

    async fn all_started(&mut self, nodes: &[String]) -> Result<()> {
        let missing = self.started(nodes, super::START).await?;
        if let Some(node) = missing.first() {
            let log = self.agents.get(node).map(Group::log_tail).unwrap_or_default();
            bail!("{} minions did not start; {node}:\n{log}", missing.len());
        }
        Ok(())
    }
}

impl Client {
    async fn reply<T: for<'de> Deserialize<'de>>(&mut self, limit: Duration) -> Result<T> {
        let line = tokio::time::timeout(limit, self.replies.next_line())
            .await
            .context("Salt's client does not answer")??
            .context("Salt's client ended")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// A configuration in a folder of its own. What is not said is Salt's default.
fn configure(dir: &Path, name: &str, settings: &str) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut text = settings.to_owned();
    // Where programs of the system would write into folders of the system.
    for (key, place) in [
        ("root_dir", ""),
        ("pki_dir", "pki"),
        ("cachedir", "cache"),
        ("sock_dir", "sock"),
        ("token_dir", "tokens"),
        ("syndic_dir", "syndics"),
        ("sqlite_queue_dir", "queues"),
        ("log_file", "log"),
        ("key_logfile", "keylog"),
        ("pidfile", "pid"),
    ] {
        writeln!(text, "{key}: {}", dir.join(place).display())?;
    }
    // The user that runs the comparison; root where it has namespaces of its own.
    writeln!(text, "user: {}", whoami()?)?;
    std::fs::write(dir.join(name), text)?;
    Ok(())
}

fn whoami() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl System for Salt<'_> {
    fn name(&self) -> String {
        self.version.clone()
    }

    async fn join(&mut self, nodes: &[String]) -> Result<()> {
        let [publish, answers] = self.ports;
        let master = self.network.address();
        for node in nodes {
            let settings =
                format!("id: {node}\nmaster: {master}\npublish_port: {publish}\nmaster_port: {answers}\n");
            configure(&self.dir.join(node), "minion", &settings)?;
            self.run(node)?;
        }
        self.all_started(nodes).await?;
        Ok(())
    }

    async fn ask(&mut self, limit: Duration) -> Result<(Duration, Vec<Answer>)> {
        #[derive(Deserialize)]
        struct Reply {
            seconds: f64,
            answers: BTreeMap<String, Value>,
        }
        let request = json!({ "call": "ping", "target": "*", "seconds": limit.as_secs() });
        let reply: Reply = self.call(request, limit).await?;
        // Of a minion that did not answer it says so in a text.
        let answer = |(node, value): (String, Value)| Answer {
            node,
            ok: value == Value::Bool(true),
            says: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        let answers = reply.answers.into_iter().map(answer).collect();
        Ok((Duration::from_secs_f64(reply.seconds), answers))
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = Command::new(self.programs.join("salt"));
        command.arg("--config-dir").arg(self.dir.join("master"));
        command.args(["--timeout", &limit.as_secs().to_string(), "*", "test.ping"]);
        command
    }

    fn master(&mut self) -> Vec<u32> {
        self.master.pids()
    }

    fn agent(&mut self, node: &str) -> Vec<u32> {
        self.agents.get(node).map(Group::pids).unwrap_or_default()
    }

    fn stop(&mut self, nodes: &[String], how: Stop) -> Result<()> {
        let stopped: Vec<Group> = nodes.iter().filter_map(|node| self.agents.remove(node)).collect();
        for agent in &stopped {
            if how == Stop::InOrder { agent.end()? } else { agent.signal(Signal::KILL)? }
        }
        stopped.into_iter().for_each(Group::wait);
        Ok(())
    }

    async fn start(&mut self, nodes: &[String]) -> Result<Duration> {
        // What was said before does not count.
        self.started(&["nobody".into()], Duration::from_secs(1)).await?;
        let start = Instant::now();
        for node in nodes {
            self.run(node)?;
        }
        self.all_started(nodes).await?;
        Ok(start.elapsed())
    }
}
