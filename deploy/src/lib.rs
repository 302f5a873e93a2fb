//! Debian packages of the programs of one build: `windlass-host`, `windlass-master` and `windlass`.
//!
//! What is in them and how they behave lies in this folder: units in `systemd/`, control files and the
//! scripts of maintainers in `debian/`. This lays them out as trees ([`tree`]) and has dpkg-deb(1) pack those
//! ([`pack`]). The same programs, version and time give the same bytes.
//!
//! * [`manual`]: man pages of the daemons, made of their help.

mod manual;
mod pack;
mod tree;

pub use pack::{Compression, Pack};

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A program to be packed.
    #[error("`{}` is not built", path.display())]
    NotBuilt { path: PathBuf },
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A program of Debian that packs, or one of ours that tells of itself.
    #[error("cannot start `{program}`")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{program}` ended with {status}: {stderr}")]
    Failed { program: String, status: std::process::ExitStatus, stderr: String },
    /// A tool printed something else than it is documented to.
    #[error("`{program}` printed {output:?}")]
    Output { program: &'static str, output: String },
}

type Result<T> = std::result::Result<T, DeployError>;

/// For a file that something could not be done with.
fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> DeployError + use<> {
    let path = path.to_owned();
    move |source| DeployError::File { action, path, source }
}

/// Run a program, and take what it prints.
fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .map_err(|source| DeployError::Start { program: program.clone(), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DeployError::Failed { program, status: output.status, stderr });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
