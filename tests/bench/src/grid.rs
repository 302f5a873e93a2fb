//! Real processes on loopback: round trips, and what a host costs at rest.

use crate::{
    api::Api,
    report::{cpu_ticks, heading, line, median, resident_kib, time},
};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use windlass_tests::{Binaries, Grid, GridOptions};
use windlass_types::{OutcomeKind, api::Job};

const WAIT: Duration = Duration::from_secs(30);

/// One host and then `many`, each a process of its own.
pub async fn run(binaries: &Binaries, many: usize, at_rest: Duration) -> Result<()> {
    one(binaries.clone(), at_rest).await?;
    fan_out(binaries.clone(), many).await
}

async fn one(binaries: Binaries, at_rest: Duration) -> Result<()> {
    heading("one real host, one real master");
    let dir = tempfile::tempdir()?;
    let options = GridOptions {
        plugins: vec!["monitor".into(), "zfs".into()],
        heartbeat_ms: 5000,
        ..GridOptions::default()
    };
    let mut grid = Grid::start(binaries, dir.path(), options)?;
    let api = Api::new(&grid.url(), grid.fingerprint().parse()?, grid.token())?;
    let mut times = Vec::new();
    for round in 0..220 {
        let (took, job) = api.run("monitor.system.read", "n1", WAIT).await?;
        all_succeeded(&job, 1)?;
        // The first rounds open connections and warm caches.
        if round >= 20 {
            times.push(took);
        }
    }
    line("API -> master -> host -> plugin -> back", &time(median(&mut times)), "< 2 ms median");

    let pid = grid.host("n1").pid();
    let before = cpu_ticks(pid).unwrap_or_default();
    tokio::time::sleep(at_rest).await;
    let ticks = cpu_ticks(pid).unwrap_or_default() - before;
    #[expect(clippy::cast_precision_loss, reason = "a handful of ticks")]
    let share = ticks as f64 / at_rest.as_secs_f64();
    line("host at rest, all bundles loaded: processor", &format!("{share:.2} %"), "< 0.1 % of a core");
    let resident = resident_kib(pid).unwrap_or_default();
    line("host at rest, all bundles loaded: memory", &format!("{resident} KiB"), "< 12,288 KiB");

    grid.take_host("n1").terminate()?;
    grid.wait_offline("n1");
    let start = Instant::now();
    grid.restart_host("n1")?;
    while api
        .run("monitor.system.read", "n1", Duration::from_secs(5))
        .await
        .is_ok_and(|(_, job)| all_succeeded(&job, 1).is_err())
    {}
    line("start of a host to its first outcome, warm cache", &time(start.elapsed()), "< 100 ms to ready");
    Ok(())
}

async fn fan_out(binaries: Binaries, many: usize) -> Result<()> {
    heading(&format!("{many} real hosts, one real master"));
    let dir = tempfile::tempdir()?;
    let hosts = (1..=many).map(|number| format!("n{number}")).collect();
    let grid = Grid::start(
        binaries,
        dir.path(),
        GridOptions { hosts, heartbeat_ms: 5000, ..GridOptions::default() },
    )?;
    let api = Api::new(&grid.url(), grid.fingerprint().parse()?, grid.token())?;
    let mut times = Vec::new();
    for _ in 0..11 {
        let (took, job) = api.run("monitor.system.read", "n*", WAIT).await?;
        all_succeeded(&job, many)?;
        times.push(took);
    }
    line("one operation on all of them", &time(median(&mut times)), "< 40 ms (50 hosts)");
    Ok(())
}

fn all_succeeded(job: &Job, count: usize) -> Result<()> {
    let succeeded = job.outcomes.get(&OutcomeKind::Succeeded).copied().unwrap_or_default();
    ensure!(succeeded as usize == count, "{succeeded} of {count} succeeded: {:?}", job.outcomes);
    Ok(())
}
