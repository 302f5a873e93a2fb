//! The surface of registries.

use super::PackageArg;
use crate::plugin::registry::Reference;
use clap::{Args, ValueHint};
use std::path::PathBuf;

const ENVIRONMENT: &str = "\
Environment:
  WINDLASS_REGISTRY_USER      Name to log in with
  WINDLASS_REGISTRY_PASSWORD  Password or token to log in with";

/// Push a package to an OCI registry, with its signatures.
///
/// What is stored there has the digest of the bundle. A tag that names another bundle is not moved.
///
/// Without a name and a password, those are used that `docker login` or `podman login` stored.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  windlass plugin push zfs-0.2.0.tar oci://registry.example/plugins/zfs
  windlass plugin push zfs-0.2.0.tar oci://127.0.0.1:5000/zfs:test --plain-http

{ENVIRONMENT}"))]
pub struct Push {
    #[command(flatten)]
    pub package: PackageArg,
    /// Where to: `oci://REGISTRY/REPOSITORY[:TAG]`; the tag is the version unless told.
    #[arg(value_name = "oci://…")]
    pub to: Reference,
    /// Move the tag even if it names another bundle.
    #[arg(long)]
    pub move_tag: bool,
    #[command(flatten)]
    pub registry: Registry,
}

/// Pull a package from an OCI registry, with its signatures.
///
/// Every byte is checked. The file is the same as the one that was pushed. Whether its signatures
/// count is another question: see `windlass plugin verify`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  windlass plugin pull oci://registry.example/plugins/zfs:0.2.0
  windlass plugin pull oci://registry.example/plugins/zfs:0.2.0@sha256:… zfs.tar

{ENVIRONMENT}"))]
pub struct Pull {
    /// Where from: `oci://REGISTRY/REPOSITORY:TAG`, `…@DIGEST`, or both: then the tag must name it.
    #[arg(value_name = "oci://…")]
    pub from: Reference,
    /// The file; `NAME-VERSION.tar` unless told.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub registry: Registry,
}

/// How to speak with a registry.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Registry")]
pub struct Registry {
    /// Name to log in with.
    #[arg(long, env = "WINDLASS_REGISTRY_USER", hide_env = true, value_name = "NAME")]
    pub registry_user: Option<String>,
    /// File with the password or token; `-` for stdin.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub registry_password_file: Option<PathBuf>,
    /// Certificate of an authority to trust besides those of the system (PEM).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub registry_ca: Option<PathBuf>,
    /// No TLS. Only for a registry on this machine.
    #[arg(long)]
    pub plain_http: bool,
}
