//! The master under many simulated hosts.

use crate::{
    api::Api,
    report::{heading, line, median, resident_kib, time},
    simulator::{Addresses, Fleet, Offer},
};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use windlass_tests::{Binaries, Grid, GridOptions};
use windlass_types::OutcomeKind;

/// Bounds the whole of one phase; past it the benchmark fails.
const LIMIT: Duration = Duration::from_secs(120);

/// Connect `count` simulated hosts to a real master and run operations on all of them.
pub async fn run(binaries: Binaries, count: usize) -> Result<()> {
    heading(&format!("{count} simulated hosts, one real master"));
    let dir = tempfile::tempdir()?;
    let options = GridOptions { hosts: Vec::new(), heartbeat_ms: 5000, ..GridOptions::default() };
    let bundle = binaries.bundle("monitor")?;
    let mut grid = Grid::start_master(binaries, dir.path(), options)?;
    let [_, node, enroll] = grid.ports();
    let authority = grid.fingerprint().parse()?;
    let addresses =
        Addresses { nodes: format!("127.0.0.1:{node}"), enroll: format!("127.0.0.1:{enroll}"), authority };
    let api = Api::new(&grid.url(), authority, grid.token())?;
    let offer = Offer::of_bundle(&bundle)?;
    let pid = grid.master().pid();

    let start = Instant::now();
    let mut fleet = Fleet::enrol(&addresses, api.join_tokens(count).await?).await?;
    line("enrol all with join tokens", &time(start.elapsed()), "");
    let before = resident_kib(pid).unwrap_or_default();
    let start = Instant::now();
    fleet.connect(&addresses, &offer, LIMIT).await?;
    line("connect all", &time(start.elapsed()), "");
    ensure!(fleet.connected() == count, "{} of {count} sessions are up", fleet.connected());
    while !api.knows("monitor.system.read").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let after = resident_kib(pid).unwrap_or_default();
    let each = after.saturating_sub(before) / count as u64;
    line("memory of the master for each host", &format!("{each} KiB"), "< 64 KiB");

    let mut times = Vec::new();
    for _ in 0..5 {
        let (took, job) = api.run("monitor.system.read", "sim*", LIMIT).await?;
        let succeeded = job.outcomes.get(&OutcomeKind::Succeeded).copied().unwrap_or_default();
        ensure!(succeeded as usize == count, "{succeeded} of {count} succeeded: {:?}", job.outcomes);
        times.push(took);
    }
    let target = if count >= 10_000 { "< 3 s" } else { "< 300 ms (1,000 hosts)" };
    line("one operation on all, all outcomes stored", &time(median(&mut times)), target);
    Ok(())
}
