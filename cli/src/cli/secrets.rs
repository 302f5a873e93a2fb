//! The surface of `windlass secrets`.

use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use windlass_types::SecretName;

#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Store a secret, or give one another value.
    ///
    /// The value comes from stdin, without the line break at its end, or is asked for; with `--file` it is
    /// the whole file. It has 6 to 65,536 bytes. Operations are given it by name, as `KEY=secret:NAME`, if
    /// a rule of the caller's role has the name in `secrets`.
    #[command(after_help = "\
Examples:
  windlass secrets set nas-password
  pass show nas | windlass secrets set nas-password
  windlass secrets set ceph-key --file ceph.keyring
  windlass run smb.user.set-password user=jane password=secret:nas-password --on n1")]
    Set {
        #[command(flatten)]
        secret: SecretArg,
        /// Take the value from this file, exactly as it is.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
    },
    /// List secrets. Their values are shown to nobody.
    #[command(visible_alias = "ls", after_help = "Examples:\n  windlass secrets list")]
    List,
    /// Show who set a secret, when, and which roles may give it to operations.
    #[command(after_help = "Examples:\n  windlass secrets show nas-password")]
    Show {
        #[command(flatten)]
        secret: SecretArg,
    },
    /// Remove a secret. Nodes that have not been asked yet by a job that names it are refused.
    #[command(visible_alias = "rm", after_help = "Examples:\n  windlass secrets remove nas-password")]
    Remove {
        #[command(flatten)]
        secret: SecretArg,
    },
}

/// A secret.
#[derive(Debug, Args)]
pub struct SecretArg {
    /// Name of the secret: a-z, 0-9 and single `-`.
    #[arg(value_name = "NAME")]
    pub name: SecretName,
}
