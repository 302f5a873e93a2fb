//! Windlass on a lab, as people get it: packages, units, and agents that join with a token each.

use super::{Lab, LabOptions, Role, each, node, output};
use crate::{
    Binaries, Output,
    bundles::{Signer, roll_out},
    until,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use windlass_deploy::{Compression, Pack};

/// Version of the packages that nodes begin with.
pub const VERSION: &str = "0.1.0~lab1";

const MASTER_DIR: &str = "/var/lib/windlass-master";

/// Make packages of the programs under test. Their paths: host, master, command line.
///
/// # Errors
/// If it fails.
pub fn packages(binaries: &Binaries, version: &str, dir: &Path) -> Result<Vec<PathBuf>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let pack = Pack {
        programs: binaries.programs(),
        docs: &docs,
        version,
        // Any will do: nobody compares these with those of another machine.
        time_s: 1_750_000_000,
        compression: Compression::None,
    };
    pack.all(dir).context("making the packages")
}

/// The same packages in `dir`, made only if those that are kept were made of something else: most labs begin
/// with what the one before began with.
pub(super) fn kept_packages(binaries: &Binaries, dir: &Path) -> Result<()> {
    let kept = binaries.programs().join("lab-packages");
    let lock = File::create(kept.with_extension("lock"))?;
    lock.lock().context("waiting for whoever makes the packages")?;
    let of = kept.join(made_of(binaries)?);
    if !of.is_dir() {
        let made = tempfile::tempdir_in(binaries.programs())?;
        packages(binaries, VERSION, made.path())?;
        // Those of an earlier build.
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept)?;
        std::fs::rename(made.path(), &of).context("keeping the packages")?;
    }
    for package in std::fs::read_dir(&of)? {
        let package = package?;
        std::fs::copy(package.path(), dir.join(package.file_name()))?;
    }
    Ok(())
}

/// Another text whenever packages would be others.
fn made_of(binaries: &Binaries) -> Result<String> {
    let mut hash = Sha256::new();
    for name in ["windlass-host", "windlass-compile", "windlass-master", "windlass"] {
        let program = binaries.program(name);
        let found = std::fs::metadata(&program)?;
        hash.update(format!("{}\0{}\0{:?}\0", program.display(), found.len(), found.modified()?));
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = vec![here.join("deploy"), here.join("docs")];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let mut entries: Vec<PathBuf> =
                std::fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
            entries.sort();
            paths.extend(entries);
        } else {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(std::fs::read(&path)?);
        }
    }
    Ok(hex::encode(&hash.finalize()[..8]))
}

/// Path of a package, as nodes see it.
pub fn package(lab: &Lab, name: &str, version: &str) -> Result<String> {
    let prefix = format!("{name}_{version}_");
    let entries = std::fs::read_dir(lab.dir().join("packages"))?.flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|file| file.starts_with(&prefix))
        .map(|file| format!("/packages/{file}"))
        .with_context(|| format!("there is no package {name} {version}"))
}

/// A master on its node, then an agent on each with storage; plugins over all of them.
pub(super) fn install(lab: &mut Lab, options: &LabOptions) -> Result<()> {
    let signer = Signer::new();
    let begun = begin_master(lab).context("starting the master")?;
    let text =
        |key: &str| begun[key].as_str().map(str::to_owned).with_context(|| format!("`init`: no {key}"));
    lab.state.token = Some(text("admin_token")?);
    lab.state.fingerprint = Some(text("ca_fingerprint")?);
    lab.save()?;
    let names: Vec<String> = lab.storage().map(|node| node.name.clone()).collect();
    let trust = signer.trust();
    each(&names, |name| join(lab, name, &trust).with_context(|| format!("starting the agent of {name}")))?;
    for name in &names {
        lab.wait_online(name);
    }
    let binaries = Binaries::at(&lab.state.programs, &lab.state.bundles)?;
    for plugin in &options.plugins {
        roll_out(plugin, &binaries, &signer, lab.dir(), |args| lab.windlass(args))
            .with_context(|| format!("rolling out {plugin}"))?;
    }
    Ok(())
}

/// What `windlass-master init` said.
fn begin_master(lab: &Lab) -> Result<Value> {
    let master = lab.nodes().iter().find(|node| node.role == Role::Master).context("a lab has a master")?;
    let packages = [package(lab, "windlass-master", VERSION)?, package(lab, "windlass", VERSION)?];
    checked(lab, "master", &["dpkg", "--install", &packages[0], &packages[1]])?;
    let address = master.address.to_string();
    let init = [
        &["runuser", "--user=windlass-master", "--", "windlass-master", "init", "--data-dir", MASTER_DIR][..],
        &["--server-name", "master", "--server-name", &address, "--output", "json"],
        &["--api", "0.0.0.0:7400", "--node", "0.0.0.0:7401", "--enroll", "0.0.0.0:7402"],
    ]
    .concat();
    let begun = checked(lab, "master", &init)?;
    // A node that is cut off is to be missed after three seconds, not fifteen.
    let config = node::root(lab, master).join(MASTER_DIR.trim_start_matches('/')).join("master.toml");
    let text = std::fs::read_to_string(&config)?;
    ensure!(text.contains("# heartbeat_ms = 5000"), "master.toml has no heartbeat any more:\n{text}");
    std::fs::write(&config, text.replace("# heartbeat_ms = 5000", "heartbeat_ms = 1000"))?;
    checked(lab, "master", &["systemctl", "start", "windlass-master"])?;
    serde_json::from_str(&begun).with_context(|| format!("`init` printed {begun:?}"))
}

/// Configure an agent, and install it: its package starts it.
fn join(lab: &Lab, name: &str, trust: &str) -> Result<()> {
    let node = lab.node(name)?;
    let token = lab.windlass(&["nodes", "join-token"]);
    ensure!(token.code == 0, "making a join token: {token:#?}");
    let config = node::root(lab, node).join("etc/windlass");
    std::fs::create_dir_all(&config)?;
    let token_file = config.join("join-token");
    std::fs::write(&token_file, token.stdout.trim())?;
    std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600))?;
    std::fs::write(config.join("trust.toml"), trust)?;
    let fingerprint = lab.state.fingerprint.as_deref().unwrap_or_default();
    let text = format!(
        "ca_fingerprint = \"{fingerprint}\"\njoin_token_file = \"/etc/windlass/join-token\"\n\n[[masters]]\nhost = \"master\"\n"
    );
    std::fs::write(config.join("host.toml"), text)?;
    checked(lab, name, &["dpkg", "--install", &package(lab, "windlass-host", VERSION)?]).map(drop)
}

/// Run a program on a node that must succeed.
fn checked(lab: &Lab, node: &str, program: &[&str]) -> Result<String> {
    let mut command = lab.command(node)?;
    command.args(program);
    let Output { code, stdout, stderr } = output(command)?;
    ensure!(code == 0, "`{}` ended with {code}:\n{stdout}{stderr}", program.join(" "));
    Ok(stdout)
}

impl Lab {
    /// What the master knows about a node.
    pub fn registered(&self, name: &str) -> Option<Value> {
        let output = self.windlass(&["nodes", "show", name, "-o", "json"]);
        (output.code == 0).then(|| output.json())
    }

    /// Wait until a node has a session. What the master knows about it then.
    ///
    /// # Panics
    /// If it has none within a minute.
    #[track_caller]
    pub fn wait_online(&self, name: &str) -> Value {
        until(&format!("{name} is online"), || self.registered(name).filter(|node| node["online"] == true))
    }

    /// Wait until the master sees that a node is gone.
    ///
    /// # Panics
    /// If it does not within a minute.
    #[track_caller]
    pub fn wait_offline(&self, name: &str) {
        until(&format!("{name} is offline"), || self.registered(name).filter(|node| node["online"] == false));
    }
}
