//! A PostgreSQL server of one's own: in a temporary folder, on a free port of loopback.

use crate::grid::free_ports;
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    net::Ipv4Addr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    server: Option<Child>,
}

/// Where Debian has the newest version, whose programs are in no search path.
fn programs() -> Result<PathBuf> {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").context("Debian's package `postgresql` is missing")?;
    let newest = versions
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("postgres").exists())
        .max();
    newest.map(|(_, programs)| programs).context("no server in /usr/lib/postgresql")
}

/// The user that the server runs as: it refuses to be root.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).context("no user `postgres`")?;
    let fields: Vec<&str> = line.split(':').collect();
    let [_, _, user, group, ..] = fields[..] else { bail!("/etc/passwd: {line}") };
    Ok(Some((user.parse()?, group.parse()?)))
}

impl Postgres {
    /// Make a cluster and start its server. It trusts whoever can reach loopback.
    ///
    /// # Errors
    /// If PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("windlass-postgres").tempdir()?;
        if let Some((user, group)) = unprivileged()? {
            chown(dir.path(), Some(user), Some(group))?;
        }
        let [port, ..] = free_ports(Ipv4Addr::LOCALHOST)?;
        let mut postgres = Postgres { programs: programs()?, port, server: None, dir };
        let output = postgres
            .command("initdb")?
            .args(["--username=windlass", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(postgres.data())
            .output()
            .context("starting initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        postgres.restart()?;
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of it, as its user, that ends with the thread that started it.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new("setpriv");
        if let Some((user, group)) = unprivileged()? {
            command.args([
                format!("--reuid={user}"),
                format!("--regid={group}"),
                "--clear-groups".to_owned(),
            ]);
        }
        command.args(["--pdeathsig", "INT"]).arg(self.programs.join(program)).current_dir(self.dir.path());
        Ok(command)
    }

    /// Start it again after [`Postgres::stop`], with what it had.
    ///
    /// # Errors
    /// If it does not start.
    pub fn restart(&mut self) -> Result<()> {
        let log = self.dir.path().join("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = self.command("postgres")?;
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        let port = self.port.to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-c", "fsync=off", "-c", "max_connections=200"]);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut server = command.spawn().context("starting postgres")?;
        let begun = Instant::now();
        while !self.answers()? {
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = server.try_wait()? {
                bail!("postgres ended: {status}\n{}", log());
            }
            ensure!(begun.elapsed() < PATIENCE, "postgres does not answer\n{}", log());
            pause();
        }
        self.server = Some(server);
        Ok(())
    }

    fn answers(&self) -> Result<bool> {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        Ok(command.status().context("starting pg_isready")?.success())
    }

    /// End it at once, as a loss of power would.
    ///
    /// # Errors
    /// If it can't be ended.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        // QUIT: no goodbye to anybody, and its next start has to recover.
        let id = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(id, rustix::process::Signal::QUIT)?;
        server.wait()?;
        Ok(())
    }

    /// The address of a database of it, `postgres` being there from the begin.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://windlass@127.0.0.1:{}/{database}", self.port)
    }

    /// Make a database. Gives back its address.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn database(&self, name: &str) -> Result<String> {
        self.query("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// Run a statement and give back what it prints.
    ///
    /// # Errors
    /// If it fails.
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", sql])
            .output()
            .context("starting psql")?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends with this thread in any case.
        let _ = self.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two looks at whether the server answers")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
