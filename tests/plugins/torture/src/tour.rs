//! Every function of the host, each once.

use crate::{
    command,
    windlass::host::{commands, files, job, log, probes, state},
};
use std::fmt::Debug;

/// What was said so far.
struct Tour(Vec<String>);

impl Tour {
    fn say(&mut self, what: &str, said: impl Debug) {
        self.0.push(format!("{what}: {said:?}"));
    }

    fn stop<T: Debug + Clone, E: Debug>(&mut self, what: &str, said: Result<T, E>) -> Result<T, String> {
        self.say(what, &said);
        said.map_err(|error| format!("{what}: {error:?}"))
    }
}

pub fn run(dir: &str) -> Result<Vec<String>, String> {
    let mut tour = Tour(Vec::new());
    let context = job::get_context();
    tour.say("context", (context.job_id, context.node_id, context.node_name, context.dry_run));
    tour.say("cancelled", job::is_cancelled());
    log::write(log::Level::Info, "on the way");
    job::progress(&job::ProgressReport { message: "on the way".into(), percent: Some(50) });
    programs(&mut tour)?;
    in_folder(&mut tour, dir)?;
    tour.stop("system", probes::system().map(|system| system.hostname))?;
    tour.stop("set", state::set("tour", &[0xff, 0]))?;
    tour.stop("get", state::get("tour"))?;
    tour.stop("keys", state::keys("to"))?;
    tour.stop("forget", state::remove("tour"))?;
    Ok(tour.0)
}

fn programs(tour: &mut Tour) -> Result<(), String> {
    let printed = commands::run(&command("printf".into(), vec!["hello".into()]));
    tour.stop("run", printed.map(|output| (output.status, output.stdout, output.stderr)))?;

    let counts =
        commands::spawn(&command("seq".into(), vec!["3".into()])).map_err(|error| format!("{error:?}"))?;
    let mut printed = Vec::new();
    // As it came: how it was cut into pieces is up to the pipe.
    while let Some(chunk) = counts.read().map_err(|error| format!("{error:?}"))? {
        printed.extend(chunk.data);
    }
    tour.say("read", printed);
    tour.stop("wait", counts.wait())?;

    let sleeps = commands::spawn(&command("sleep".into(), vec!["1000".into()]))
        .map_err(|error| format!("{error:?}"))?;
    sleeps.kill();
    tour.stop("killed", sleeps.wait())?;
    Ok(())
}

fn in_folder(tour: &mut Tour, dir: &str) -> Result<(), String> {
    let file = format!("{dir}/file");
    tour.stop("make-dir", files::make_dir(dir, true))?;
    tour.stop("write", files::write(&file, b"hello", Some(0o640)))?;
    tour.stop("stat", files::stat(&file).map(|found| (found.kind, found.size_bytes, found.mode)))?;
    tour.stop(
        "list",
        files::list(dir).map(|entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>()),
    )?;
    tour.stop("read-range", files::read_range(&file, 1, 3))?;
    tour.stop("read", files::read(&file))?;
    tour.stop("remove", files::remove(&file))?;
    tour.say("gone", files::stat(&file).map(|found| found.size_bytes));
    tour.stop("remove", files::remove(dir))?;
    Ok(())
}
