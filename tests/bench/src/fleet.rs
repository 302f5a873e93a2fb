//! The master under many simulated hosts.

use crate::{
    api::Api,
    report::{heading, line, median, resident_kib, time},
    simulator::{Addresses, Fleet, Manner, Offer},
};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};
use windlass_tests::{Binaries, Grid, GridOptions};
use windlass_types::OutcomeKind;

/// Bounds the whole of one phase; past it the benchmark fails.
const LIMIT: Duration = Duration::from_secs(120);

/// What a process holds.
struct Holds {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
}

impl Holds {
    fn of(pid: u32) -> Self {
        let entries =
            |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Holds {
            resident_kib: resident_kib(pid).unwrap_or_default(),
            descriptors: entries("fd"),
            threads: entries("task"),
        }
    }
}

/// Connect `count` simulated hosts to a real master, run operations on all of them, and let them be slow,
/// fall silent, renew their certificates and lose their master.
pub async fn run(binaries: Binaries, count: usize, soak: Duration) -> Result<()> {
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
        times.push(all_succeed(&api, count).await?);
    }
    let target = if count >= 10_000 { "< 3 s" } else { "< 300 ms (1,000 hosts)" };
    line("one operation on all, all outcomes stored", &time(median(&mut times)), target);

    faults(&api, &fleet, count).await?;
    let start = Instant::now();
    fleet.renew(&addresses).await?;
    line("renew the certificates of all", &time(start.elapsed()), "");
    soaked(&api, count, pid, soak).await?;

    // The hosts notice by themselves, and come back after pauses of their own.
    tokio::task::block_in_place(|| grid.take_master().kill())?;
    while fleet.connected() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    tokio::task::block_in_place(|| grid.restart_master())?;
    fleet.wait_for(count, LIMIT).await?;
    line("all back after a kill -9 and start of the master", &time(start.elapsed()), "< 30 s (10,000 hosts)");
    all_succeed(&api, count).await?;
    Ok(())
}

/// One operation on all of them.
async fn all_succeed(api: &Api, count: usize) -> Result<Duration> {
    let (took, job) = api.run("monitor.system.read", "sim*", LIMIT).await?;
    let succeeded = job.outcomes.get(&OutcomeKind::Succeeded).copied().unwrap_or_default();
    ensure!(succeeded as usize == count, "{succeeded} of {count} succeeded: {:?}", job.outcomes);
    Ok(took)
}

/// Hosts that are slow, and hosts that are half-open.
async fn faults(api: &Api, fleet: &Fleet, count: usize) -> Result<()> {
    fleet.behave(count / 10, Manner::Slow);
    let took = all_succeed(api, count).await?;
    fleet.behave(count / 10, Manner::Prompt);
    line("the same, a tenth of the hosts taking a second", &time(took), "");

    let silent = (count / 100).max(1);
    fleet.behave(silent, Manner::Silent);
    let deadline = Some(Duration::from_secs(3));
    let (took, job) = api.run_within("monitor.system.read", "sim*", deadline, LIMIT).await?;
    let of = |kind| job.outcomes.get(&kind).copied().unwrap_or_default() as usize;
    ensure!(
        (of(OutcomeKind::NoAnswer), of(OutcomeKind::Succeeded)) == (silent, count - silent),
        "{silent} of {count} are half-open: {:?}",
        job.outcomes
    );
    line("the same, a hundredth half-open, deadline 3 s", &time(took), "3 s and 5 s of grace");
    // They read on. What they answer now comes too late; where the master has ended the session they call again.
    fleet.behave(silent, Manner::Prompt);
    fleet.wait_for(count, LIMIT).await?;
    all_succeed(api, count).await?;
    Ok(())
}

/// Operations on all of them for a while; what the master holds must not grow with it.
async fn soaked(api: &Api, count: usize, pid: u32, soak: Duration) -> Result<()> {
    let (before, begun) = (Holds::of(pid), Instant::now());
    let mut jobs = 0;
    while begun.elapsed() < soak {
        all_succeed(api, count).await?;
        jobs += 1;
    }
    let after = Holds::of(pid);
    let change = |before: usize, after: usize| format!("{before} -> {after}");
    line(
        &format!("{jobs} such jobs in {}: memory of the master", time(begun.elapsed())),
        &format!("{} -> {} KiB", before.resident_kib, after.resident_kib),
        "flat",
    );
    line("its descriptors", &change(before.descriptors, after.descriptors), "flat");
    line("its threads", &change(before.threads, after.threads), "flat");
    Ok(())
}
