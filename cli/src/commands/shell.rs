//! What the shell and the manual need: completion scripts and man pages.

use super::Context;
use crate::{
    cli,
    exit::{Exit, Problem},
};
use anyhow::{Context as _, Result};
use clap_complete::{Shell, env::Shells};
use std::path::Path;

/// Print the script that lets a shell ask this program for candidates.
pub fn completion(context: &Context, shell: Shell) -> Result<Exit> {
    let shells = Shells::builtins();
    let name = shell.to_string();
    let Some(completer) = shells.completer(&name) else {
        return Err(Problem::usage(format!("there is no completion for `{name}`")).into());
    };
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "windlass", "windlass", "windlass", &mut script)
        .context("cannot write the completion script")?;
    context.out.raw(&script)?;
    Ok(Exit::Success)
}

/// Write one man page a command.
pub fn man(context: &Context, dir: &Path) -> Result<Exit> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    clap_mangen::generate_to(cli::command(), dir)
        .with_context(|| format!("cannot write man pages into `{}`", dir.display()))?;
    context.out.note(&format!("wrote man pages into `{}`", dir.display()));
    Ok(Exit::Success)
}
