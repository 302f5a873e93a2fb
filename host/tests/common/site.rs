//! A host with real plugins, in this process or as a program, and a master that wants bundles on it.

use super::{
    FakeMaster, Running, Session,
    plugin::{Signer, wanted},
    within,
};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use windlass_bundle::Bundle;
use windlass_host::{config::Config, plugins::Plugins};
use windlass_proto::v1::{self, host_message::Kind, master_message};
use windlass_types::{Outcome, RequestId};

/// The compiler, which is built apart from the agent.
pub fn helper() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let built = exe.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release")).unwrap();
    let helper = built.join("windlass-compile");
    assert!(
        helper.is_file(),
        "`{}` is not built: run `cargo build -p windlass-compile` (or `cargo xtask test`)",
        helper.display()
    );
    helper
}

pub struct Site {
    pub dir: tempfile::TempDir,
    pub master: FakeMaster,
    pub signer: Signer,
    /// More lines of the configuration: keys of the top level, then tables.
    pub keys: String,
    pub tables: String,
    pub helper: PathBuf,
}

impl Site {
    pub async fn new() -> Site {
        let site = Site {
            dir: tempfile::tempdir().unwrap(),
            master: FakeMaster::start().await,
            signer: Signer::new(),
            keys: String::new(),
            tables: String::new(),
            helper: helper(),
        };
        site.trust(&format!(
            "{}[[rules]]\nplugins = \"*\"\nkeys = [\"release\"]\n",
            site.signer.key("release")
        ));
        site
    }

    pub fn trust(&self, text: &str) {
        std::fs::write(self.path("trust.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    fn text(&self) -> String {
        let keys = format!(
            "trust_file = \"trust.toml\"\ncompile_helper = \"{}\"\n{}",
            self.helper.display(),
            self.keys
        );
        self.master.config_text(&self.path("state"), &keys) + &self.tables
    }

    pub fn config(&self) -> Config {
        Config::parse(&self.text(), &self.path("host.toml")).unwrap()
    }

    /// A host in this process.
    pub async fn start(&self) -> (Running, Arc<Plugins>) {
        let config = self.config();
        let plugins = Plugins::start(&config).await.unwrap();
        (Running::with(config, plugins.clone()).await, plugins)
    }

    /// What `windlass-host check` says about bundles.
    pub fn check(&self) -> Vec<windlass_host::check::Finding> {
        windlass_host::bundles::check::check(&self.config())
    }

    /// A host as a program of its own, which can be killed.
    pub fn spawn(&self) -> Program {
        let config = self.path("host.toml");
        std::fs::write(&config, self.text()).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_windlass-host"))
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Program { child, log: self.path("log") }
    }

    /// Make a bundle known to the master, signed by the site's key, and say how to ask for it.
    pub fn offer(&self, bundle: &Bundle, deployment: &str) -> v1::DesiredPlugin {
        self.master.shared.blobs.put_bundle(bundle);
        wanted(bundle, deployment, &[self.signer.sign(bundle)])
    }
}

/// A host as a program. Dropping it kills it.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// As a power cut would: it gets no say.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it, from any thread.
    pub fn killer(&self) -> impl Fn() + Send + 'static {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It is reaped by its owner only, so the id stays its own until then.
        move || {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Wait until it ends by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

impl Session {
    /// Say what is wanted.
    pub async fn want(&self, revision: u64, plugins: &[v1::DesiredPlugin]) {
        let desired = v1::Desired { revision, plugins: plugins.to_vec() };
        self.say(master_message::Kind::Desired(desired)).await;
    }

    /// The first inventory that the condition likes, from Hello on.
    pub async fn inventory(
        &mut self,
        what: &str,
        mut good: impl FnMut(&v1::Inventory) -> bool,
    ) -> v1::Inventory {
        let mut last = self.hello.inventory.clone().unwrap_or_default();
        let found = tokio::time::timeout(super::LIMIT, async {
            while !good(&last) {
                match self.rx.recv().await.expect("the session ended").kind.unwrap() {
                    Kind::Inventory(inventory) => {
                        last = inventory.clone();
                        self.hello.inventory = Some(inventory);
                    }
                    Kind::Result(result) => self.results.push(result),
                    _ => {}
                }
            }
        });
        if found.await.is_err() {
            panic!("in vain: {what}; the last inventory was {last:#?}");
        }
        last
    }

    /// Until this bundle is active.
    pub async fn active(&mut self, bundle: &Bundle) -> v1::Inventory {
        let digest = bundle.digest.to_string();
        let name = bundle.manifest.name.to_string();
        self.inventory(&format!("{name} {} is active", bundle.manifest.version), |inventory| {
            install(inventory, &name).is_some_and(|i| i.stage == "active" && i.digest == digest)
        })
        .await
    }

    /// Until an install of this plugin is at a stage with a problem that contains these words.
    pub async fn problem(&mut self, name: &str, stage: &str, words: &str) -> v1::Inventory {
        self.inventory(&format!("{name}: {stage}: {words}"), |inventory| {
            install(inventory, name).is_some_and(|i| i.stage == stage && i.problem.contains(words))
        })
        .await
    }

    /// Run an operation and wait for its outcome.
    pub async fn call(&mut self, operation: &str) -> Outcome {
        self.call_of(operation).await.0
    }

    /// The same, with the digest of the bundle that ran.
    pub async fn call_of(&mut self, operation: &str) -> (Outcome, String) {
        let id = RequestId::new();
        self.request(id, operation).await;
        let result = self.result_of(id).await;
        self.acknowledge(id).await;
        (serde_json::from_slice(&result.outcome_json).unwrap(), result.plugin_digest)
    }

    /// Ask for an operation without arguments.
    pub async fn request(&self, id: RequestId, operation: &str) {
        self.say(master_message::Kind::Run(v1::Run {
            request_id: id.to_string(),
            job_id: windlass_types::JobId::new().to_string(),
            operation: operation.into(),
            args_json: "{}".into(),
            remaining_ms: 60_000,
            ..v1::Run::default()
        }))
        .await;
    }

    async fn result_of(&mut self, id: RequestId) -> v1::Result {
        let id = id.to_string();
        loop {
            if let Some(at) = self.results.iter().position(|result| result.request_id == id) {
                return self.results.remove(at);
            }
            match self.next().await {
                Kind::Result(result) => self.results.push(result),
                Kind::Inventory(inventory) => self.hello.inventory = Some(inventory),
                _ => {}
            }
        }
    }
}

/// What an inventory says about the install of a plugin.
pub fn install<'a>(inventory: &'a v1::Inventory, name: &str) -> Option<&'a v1::Install> {
    inventory.installs.iter().find(|install| install.name == name)
}

/// A plugin of an inventory.
pub fn listed<'a>(inventory: &'a v1::Inventory, name: &str) -> Option<&'a v1::Plugin> {
    inventory.plugins.iter().find(|plugin| plugin.name == name)
}

/// Kinds of all changes, oldest first.
pub fn kinds(inventory: &v1::Inventory) -> Vec<&str> {
    inventory.changes.iter().map(|change| change.kind.as_str()).collect()
}

/// Wait until a condition on the file system holds.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            match condition() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await
}

/// Names of the files in a folder, sorted; none if there is no folder.
pub fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
