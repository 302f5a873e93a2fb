//! Commands on the folder of a plugin.

use crate::plugin::project::Language;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use windlass_types::PluginName;

/// Make the folder of a new plugin, with an operation that works.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin new --lang python disk-usage
  windlass plugin new --lang rust disk-usage --sdk ~/src/windlass/crates/sdk")]
pub struct New {
    /// What to write it in.
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    pub lang: Language,
    /// Name of the plugin: lower-case letters, digits and `-`.
    #[arg(value_name = "NAME")]
    pub name: PluginName,
    /// The folder to make; one of its name here, unless given.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Use the SDK in this folder instead of the released one (Rust only).
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub sdk: Option<PathBuf>,
}

/// Check manifest and WIT, and the component if it is built.
///
/// Warns of operations that the manifest does not name, since they count as `destroy`, and of what
/// is not documented.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin check
  windlass plugin check plugins/zfs -o json")]
pub struct Check {
    /// Folder of the plugin.
    #[arg(default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// Build the component of a plugin, with the tools of its language.
///
/// Rust needs the target `wasm32-wasip2`, C needs clang and wasi-libc, Python and JavaScript their
/// interpreter: componentize-py and componentize-js are got once, into `~/.cache/windlass/tools`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin build
  windlass plugin build plugins/zfs --verbose-tools")]
pub struct Build {
    /// Folder of the plugin.
    #[arg(default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// Show the commands that are run, and what they say.
    #[arg(long)]
    pub verbose_tools: bool,
}

/// Put a built plugin into one file, to be signed and pushed.
///
/// The same manifest, WIT and component give the same bytes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass plugin pack
  windlass plugin pack plugins/zfs --file zfs.tar")]
pub struct Pack {
    /// Folder of the plugin.
    #[arg(default_value = ".", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
    /// The file to write; `NAME-VERSION.tar` here, unless given.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
}
