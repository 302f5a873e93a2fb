//! What the comparison with Salt needs: Salt itself, and namespaces of its own to run in.

use crate::exec::{exists, output, root, run, step};
use anyhow::{Context as _, Result, ensure};
use std::{path::PathBuf, process::Command};

/// The release that is compared with.
const VERSION: &str = "3008.3";
/// Nothing here takes that long on a machine where it works.
const LIMIT: &str = "40m";

/// The virtual environment with Salt in it, made when there is none.
fn environment() -> Result<PathBuf> {
    let dir = root().join("target/salt").join(VERSION);
    // Written last: what a broken-off installation left is made anew.
    let whole = dir.join("whole");
    if whole.is_file() {
        return Ok(dir);
    }
    ensure!(exists("python3"), "Salt needs `python3` with venv and pip");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("removing `{}`", dir.display()))?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let mut install = Command::new("timeout");
    install.arg(LIMIT).arg(dir.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]).arg(format!("salt=={VERSION}"));
    step(&format!("install Salt {VERSION}"), &mut install)?;
    std::fs::write(whole, "")?;
    Ok(dir)
}

/// `program` with the arguments that the comparison takes, wrapped so that it has network and
/// processes of its own: its ports are free, its packets can be dropped, and whatever ends it ends
/// all it has started. Where the system does not allow that, it runs as it is.
pub fn wrapped(program: &Command) -> Result<Command> {
    let environment = environment()?;
    let mut namespaces = vec!["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if output("id", &["-u"]).is_none_or(|id| id.trim() != "0") {
        namespaces.splice(0..0, ["--user", "--map-root-user"]);
    }
    let possible = exists("ip") && exists("nsenter") && {
        let mut attempt = namespaces.clone();
        attempt.push("true");
        output("unshare", &attempt).is_some()
    };
    let mut command = Command::new("timeout");
    command.args(["--kill-after", "10", LIMIT]);
    if possible {
        // The first process of a namespace inherits all orphans, and has to wait for them as a shell does:
        // Salt takes a dead minion that nobody waited for for one that runs.
        command.arg("unshare").args(namespaces).args(["--", "sh", "-c", "\"$@\"; exit $?", "sh"]);
    }
    command.arg(program.get_program()).args(program.get_args()).arg("--salt").arg(environment);
    if possible {
        command.arg("--isolated");
    }
    command.current_dir(root());
    Ok(command)
}
