//! Python: componentize-py puts an interpreter, the program and its packages into a component.

use super::{Job, read};
use anyhow::Result;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The version whose components have been tried on the host.
const VERSION: &str = "0.25.1";
const HINT: &str =
    "Python 3.10 or newer with pip is needed: on Debian `apt-get install python3 python3-venv`";
/// Packages that the program uses, of pure Python.
const REQUIREMENTS: &str = "requirements.txt";

pub fn build(job: &Job<'_>) -> Result<Vec<u8>> {
    let bin = componentizer(job)?.join("bin");
    let (wit, types) = (job.wit()?, job.folder("python/types")?);
    let component = job.folder("python")?.join("component.wasm");
    let tool = |arguments: &[&str]| {
        let mut command = Command::new(bin.join("componentize-py"));
        command.current_dir(&job.project.dir).arg("-d").arg(&wit).args(["-w", &job.world]);
        command.args(arguments);
        command
    };
    // For editors: the modules that `wit_world` and `componentize_py_types` are at run time.
    std::fs::remove_dir_all(&types)?;
    job.tools.run(tool(&["bindings"]).arg(&types), HINT)?;
    let mut componentize = tool(&["componentize", "app", "-p", "."]);
    if job.project.dir.join(REQUIREMENTS).is_file() {
        componentize.arg("-p").arg(packages(job, &bin)?);
    }
    job.tools.run(componentize.arg("-o").arg(&component), HINT)?;
    read(&component)
}

fn componentizer(job: &Job<'_>) -> Result<PathBuf> {
    job.tools.installed(&format!("componentize-py-{VERSION}"), |dir| {
        job.tools.run(Command::new("python3").args(["-m", "venv"]).arg(dir), HINT)?;
        pip(job, &dir.join("bin"), &["install", &format!("componentize-py=={VERSION}")])
    })
}

fn pip(job: &Job<'_>, bin: &Path, arguments: &[&str]) -> Result<()> {
    let mut pip = Command::new(bin.join("python"));
    pip.current_dir(&job.project.dir);
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]).args(arguments);
    job.tools.run(&mut pip, HINT).map(drop)
}

/// The packages of `requirements.txt`, in a folder of the project.
fn packages(job: &Job<'_>, bin: &Path) -> Result<PathBuf> {
    let dir = job.folder("python/packages")?;
    let target = dir.display().to_string();
    // Wheels for this machine would not run in the sandbox: only what is of pure Python.
    pip(
        job,
        bin,
        &[
            "install",
            "--upgrade",
            "--only-binary",
            ":all:",
            "--platform",
            "any",
            "--target",
            &target,
            "-r",
            REQUIREMENTS,
        ],
    )?;
    Ok(dir)
}
