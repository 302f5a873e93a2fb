//! `dataset.create` and its undo, `dataset.remove`.

use crate::{
    api::dataset::{Error, Storage},
    parse::{self, OWNER_PROPERTIES, Owner},
    tool::{self, Failure},
};
use std::{thread, time::Duration};
use windlass_sdk::{Command, job};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Programs let go of a filesystem up to a second after they were stopped, such as Gluster's bricks.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Make a filesystem, or find that the same run has made it.
pub(crate) fn create(
    name: &str,
    storage: Storage,
    limits: [(&str, Option<u64>); 2],
    run: Option<&str>,
) -> Result<(), Error> {
    check(name, run)?;
    // `on` is lz4 with OpenZFS and lzjb with zfs-fuse, which does not know lz4. Both are always set: a
    // parent could pass on something else.
    let (compression, dedup) = match storage {
        Storage::Normal => ("compression=off", "dedup=off"),
        Storage::Compressed => ("compression=on", "dedup=off"),
        Storage::Deduplicated => ("compression=off", "dedup=on"),
    };
    let mut command = zfs("create").opt("-o", compression).opt("-o", dedup);
    for (property, bytes) in limits {
        if let Some(bytes) = bytes {
            command = command.opt("-o", format!("{property}={bytes}"));
        }
    }
    if let Some(run) = run {
        command = command.opt("-o", format!("windlass:run={run}"));
    }
    match tool::ask(&command.arg(name)) {
        Ok(_) => Ok(()),
        Err(Failure::Exists(_)) => made_before(name, run),
        // The new one is not there, so it is the one above it that is missing.
        Err(failure) => Err(error(failure, parent(name))),
    }
}

/// Whether what is there already is what this run has made.
fn made_before(name: &str, run: Option<&str>) -> Result<(), Error> {
    let found = look(name).map_err(|failure| error(failure, name))?;
    if run.is_none() || !found.filesystem || found.run.as_deref() != run {
        return Err(Error::AlreadyExists(name.to_owned()));
    }
    if found.mounted { Ok(()) } else { ask(&zfs("mount").arg(name), name).map(drop) }
}

/// Destroy what this run has made, if it is empty.
pub(crate) fn remove(name: &str, run: &str) -> Result<(), Error> {
    check(name, Some(run))?;
    let mut found = match look(name) {
        Err(Failure::Missing) => return pool_is_there(name),
        other => other.map_err(|failure| error(failure, name))?,
    };
    if !found.filesystem || found.run.as_deref() != Some(run) {
        return Err(Error::NotOwned(name.to_owned()));
    }
    let listed = ask(&zfs("list").args(["-H", "-r", "-t", "all"]).opt("-o", "name").arg(name), name)?;
    if let Some(other) = listed.lines().find(|line| *line != name) {
        return Err(Error::NotEmpty(other.to_owned()));
    }
    if !found.mounted {
        ask(&zfs("mount").arg(name), name)?;
        found = look(name).map_err(|failure| error(failure, name))?;
    }
    // Unless it is mounted, this would be a look at the directory beneath.
    if !found.mounted {
        return Err(Error::Other(format!("`{name}` can not be mounted, to see whether it is empty")));
    }
    let find = Command::new("find")
        .arg(found.mountpoint)
        .args(["-mindepth", "1", "-maxdepth", "2"])
        .opt("-printf", r"%y %P\0")
        .timeout(TIMEOUT);
    if let Some(entry) = parse::held(&ask(&find, name)?) {
        return Err(Error::NotEmpty(format!("{name}: {entry}")));
    }
    destroy(name)
}

/// Destroy it, again and again while something is about to let go of it.
#[expect(clippy::disallowed_methods, reason = "nothing tells when ZFS would let it go")]
fn destroy(name: &str) -> Result<(), Error> {
    let command = zfs("destroy").arg(name);
    for _ in 1..ATTEMPTS {
        match tool::ask(&command) {
            Ok(_) | Err(Failure::Missing) => return Ok(()),
            Err(Failure::Busy(_)) => thread::sleep(PAUSE),
            Err(failure) => return Err(error(failure, name)),
        }
        if job::is_cancelled() {
            return Err(Error::Cancelled);
        }
    }
    ask(&command, name).map(drop)
}

/// A dataset of a pool that is not imported is not gone.
fn pool_is_there(name: &str) -> Result<(), Error> {
    let pool = name.split('/').next().unwrap_or(name);
    look(pool).map(drop).map_err(|failure| error(failure, pool))
}

fn look(name: &str) -> Result<Owner, Failure> {
    let get = zfs("get").args(["-H", "-p"]).opt("-o", "property,value,source");
    Ok(parse::owner(&tool::ask(&get.arg(OWNER_PROPERTIES).arg(name))?)?)
}

fn zfs(verb: &str) -> Command {
    Command::new("zfs").arg(verb).timeout(TIMEOUT)
}

fn ask(command: &Command, name: &str) -> Result<String, Error> {
    tool::ask(command).map_err(|failure| error(failure, name))
}

fn error(failure: Failure, name: &str) -> Error {
    match failure {
        Failure::Busy(text) => Error::Busy(text),
        other => Error::from_failure(other, name),
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(parent, _)| parent)
}

fn check(name: &str, run: Option<&str>) -> Result<(), Error> {
    if !parse::is_filesystem_name(name) {
        return Err(Error::InvalidName(name.to_owned()));
    }
    match run {
        Some(run) if !parse::is_run_id(run) => Err(Error::InvalidRun(run.to_owned())),
        _ => Ok(()),
    }
}
