//! Takes a lab down when its owner was killed.
//!
//! The keeper is a process of its own session, so that neither Ctrl-C nor a test runner that kills a process
//! group reaches it. It waits at a pipe whose other end only the owner has.

use super::sweep;
use crate::Binaries;
use anyhow::{Context as _, Result};
use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

/// What the owner says when the lab shall go on without it.
const DISMISSED: u8 = b'k';

/// The owner's end.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Child,
}

impl Keeper {
    pub(super) fn start(binaries: &Binaries, id: &str) -> Result<Self> {
        let program = binaries.program("lab-keeper");
        let child = Command::new("setsid")
            .arg(&program)
            .arg(id)
            // It must not keep anything of the owner's busy.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting `{}`", program.display()))?;
        Ok(Keeper { child })
    }

    /// The lab is nobody's from now on.
    pub(super) fn dismiss(&mut self) -> Result<()> {
        let pipe = self.child.stdin.as_mut().context("the keeper has a pipe")?;
        pipe.write_all(&[DISMISSED]).context("telling the keeper")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Closes the pipe. The lab has been taken down or kept: the keeper finds nothing to do and ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What the keeper does: wait for the end of the owner, and take the lab down.
///
/// # Errors
/// If anything is left of it.
pub fn keep(id: &str) -> Result<()> {
    let mut said = Vec::new();
    // An error is the end of the owner as well.
    let _ = std::io::stdin().lock().read_to_end(&mut said);
    if said.first() == Some(&DISMISSED) { Ok(()) } else { sweep::abandoned(id) }
}
