//! The surface of keys and signatures.

use super::PackageArg;
use crate::duration;
use clap::{Args, ValueHint};
use std::path::PathBuf;

/// Make a key for signing bundles.
///
/// Writes the secret key to FILE, readable by you alone and encrypted with a passphrase, which is
/// asked for unless given. Prints the public key as the text that the owner of a node puts into the
/// node's trust file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin keygen release.key
  windlass plugin keygen ci.key --passphrase-file /run/secrets/ci > trust.toml

Environment:
  WINDLASS_KEY_PASSPHRASE  The passphrase")]
pub struct Keygen {
    /// File for the secret key; must not be there yet.
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// What trust files call the key; the name of the file unless told.
    #[arg(long)]
    pub name: Option<String>,
    /// File with the passphrase on its first line; `-` for stdin.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
    /// Do not encrypt the secret key: whoever reads the file can sign in your name.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub no_passphrase: bool,
}

/// Add a signature to a package.
///
/// The package is checked first, as a master and a host would: what they would refuse is not signed.
/// A signature by the same key is replaced, those by others stay.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin sign zfs-0.2.0.tar --key release.key
  windlass plugin sign zfs-0.2.0.tar --key release.key --expires 1y

Environment:
  WINDLASS_KEY_PASSPHRASE  The passphrase of the key")]
pub struct Sign {
    #[command(flatten)]
    pub package: PackageArg,
    /// File with the secret key.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub key: PathBuf,
    /// When the signature stops to count: after a time (`90d`, `1y`) or on a day (`2028-01-01`); never
    /// unless told.
    #[arg(long, value_parser = duration::moment, value_name = "WHEN")]
    pub expires: Option<jiff::Timestamp>,
    /// File with the passphrase on its first line; `-` for stdin.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub passphrase_file: Option<PathBuf>,
}

/// Check a package against a trust file, as a host with that file would.
///
/// Tells of each signature whether it counts. The exit code is 0 only if the host would take the
/// bundle.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin verify zfs-0.2.0.tar --trust /etc/windlass/trust.toml")]
pub struct Verify {
    #[command(flatten)]
    pub package: PackageArg,
    /// The trust file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub trust: PathBuf,
}
