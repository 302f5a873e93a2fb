//! Debian's `docker-registry` on loopback, with its own configuration and storage.

use crate::{Daemon, until};
use anyhow::{Context as _, Result};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use windlass_types::Digest;

/// Program of the package `docker-registry`.
const PROGRAM: &str = "docker-registry";
/// Name and password of who may log in, and the password as htpasswd(1) stores it.
pub const USER: (&str, &str) = ("ci", "secret");
const STORED: &str = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a";

/// A running registry. Dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    port: u16,
    // Ends with this.
    _daemon: Daemon,
}

/// How a registry is set up.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Only [`USER`] may do anything.
    pub login: bool,
    /// Certificate and key (PEM files) for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Registry {
    /// Start a registry that keeps everything in `dir`.
    ///
    /// # Errors
    /// If it is not installed or does not start.
    pub fn start(dir: &Path, options: &RegistryOptions) -> Result<Self> {
        let storage = dir.join("storage");
        std::fs::create_dir_all(&storage)?;
        // No cache of descriptors: what lies on the disk is what is served.
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: tests\n",
            storage.display()
        );
        if let Some((certificate, key)) = &options.tls {
            writeln!(
                config,
                "  tls:\n    certificate: {}\n    key: {}",
                certificate.display(),
                key.display()
            )?;
        }
        if options.login {
            let passwords = dir.join("htpasswd");
            std::fs::write(&passwords, format!("{}:{STORED}\n", USER.0))?;
            writeln!(config, "auth:\n  htpasswd:\n    realm: tests\n    path: {}", passwords.display())?;
        }
        let path = dir.join("registry.yml");
        std::fs::write(&path, config)?;
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(&path).env_clear().env("OTEL_TRACES_EXPORTER", "none");
        let log = dir.join("registry.log");
        let daemon = Daemon::spawn(command, &log)
            .with_context(|| format!("`{PROGRAM}` is not installed: run `cargo xtask test`"))?;
        let port = until("the port of the registry", || {
            assert!(daemon.is_running(), "the registry ended:\n{}", daemon.log_tail());
            let log = daemon.log();
            let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            port.parse().ok()
        });
        Ok(Registry { dir: storage.join("docker/registry/v2"), port, _daemon: daemon })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A place in it, such as `zfs:0.1.0`.
    pub fn place(&self, place: &str) -> String {
        format!("oci://{}/{place}", self.address())
    }

    /// The file in which it keeps some bytes.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.dir.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// What a tag names, as it is on the disk.
    pub fn tag(&self, repository: &str, tag: &str) -> Option<Digest> {
        let link = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        std::fs::read_to_string(self.dir.join(link)).ok()?.trim().parse().ok()
    }
}
