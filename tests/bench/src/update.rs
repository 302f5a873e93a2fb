//! Bundles over the grid: from the upload to the swap.

use crate::{
    api::Api,
    report::{heading, line, median, resident_kib, time},
    simulator::{Addresses, Fleet, Offer},
};
use anyhow::{Result, ensure};
use std::time::Duration;
use windlass_bundle::{Bundle, Package};
use windlass_tests::{
    Binaries, Grid, GridOptions,
    bundles::{Signer, variant},
};
use windlass_types::api::bundles::DeploymentState;

/// Bounds the whole of one phase; past it the benchmark fails.
const LIMIT: Duration = Duration::from_secs(60);

/// Roll updates out to `count` simulated hosts, then to a real one, and weigh that.
pub async fn run(binaries: &Binaries, count: usize) -> Result<()> {
    simulated(binaries.clone(), count).await?;
    real(binaries.clone()).await
}

async fn simulated(binaries: Binaries, count: usize) -> Result<()> {
    heading(&format!("updates of {count} simulated hosts, one real master"));
    let dir = tempfile::tempdir()?;
    let options = GridOptions { hosts: Vec::new(), heartbeat_ms: 5000, ..GridOptions::default() };
    let mut grid = Grid::start_master(binaries, dir.path(), options)?;
    let [_, node, enroll] = grid.ports();
    let authority = grid.fingerprint().parse()?;
    let addresses =
        Addresses { nodes: format!("127.0.0.1:{node}"), enroll: format!("127.0.0.1:{enroll}"), authority };
    let api = Api::new(&grid.url(), authority, grid.token())?;
    let offer = Offer::of_bundle(&grid.binaries().bundle("monitor")?)?;
    let mut fleet = Fleet::enrol(&addresses, api.join_tokens(count).await?).await?;
    fleet.connect(&addresses, &offer, LIMIT).await?;
    let mut times = Vec::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"] {
        let package = Package::new(variant(grid.binaries(), "zfs", version, &[])?, Vec::new())?;
        let (took, detail) = api.push_and_deploy(package.to_bytes(), "zfs", version, LIMIT).await?;
        let deployment = &detail.deployment;
        ensure!(deployment.state == DeploymentState::Succeeded, "{deployment:?}");
        let active = detail.progress.iter().filter(|node| node.problem.is_none()).count();
        ensure!(active == count, "{active} of {count} nodes run it");
        times.push(took);
    }
    line("from upload to swapped everywhere", &time(median(&mut times)), "< 3 s (100 hosts)");
    let master = resident_kib(grid.master().pid()).unwrap_or_default();
    line("memory of the master after that", &format!("{master} KiB"), "");
    Ok(())
}

async fn real(binaries: Binaries) -> Result<()> {
    heading("updates of one real host: fetch, verify, compile, try, swap");
    let dir = tempfile::tempdir()?;
    let signer = Signer::new();
    let options = GridOptions {
        plugins: Vec::new(),
        trust: Some(signer.trust()),
        heartbeat_ms: 5000,
        ..GridOptions::default()
    };
    let mut grid = Grid::start(binaries, dir.path(), options)?;
    let api = Api::new(&grid.url(), grid.fingerprint().parse()?, grid.token())?;
    let pid = grid.host("n1").pid();
    let kib = || format!("{} KiB", resident_kib(pid).unwrap_or_default());
    line("memory of the host before any bundle", &kib(), "");
    let signed = |bundle: Bundle| -> Result<Vec<u8>> {
        let signature = signer.sign(&bundle)?;
        Ok(Package::new(bundle, vec![signature])?.to_bytes())
    };
    for plugin in ["monitor", "zfs"] {
        let bundle = Bundle::read_dir(&grid.binaries().bundle(plugin)?)?;
        let version = bundle.manifest.version.to_string();
        let (took, detail) = api.push_and_deploy(signed(bundle)?, plugin, &version, LIMIT).await?;
        ensure!(detail.deployment.state == DeploymentState::Succeeded, "{:?}", detail.deployment);
        line(&format!("{plugin}: new, compiled on the node"), &time(took), "");
    }
    line("memory of the host with all bundles", &kib(), "< 12,288 KiB");
    let mut times = Vec::new();
    for version in ["0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0"] {
        let bundle = variant(grid.binaries(), "zfs", version, &[])?;
        let (took, detail) = api.push_and_deploy(signed(bundle)?, "zfs", version, LIMIT).await?;
        ensure!(detail.deployment.state == DeploymentState::Succeeded, "{:?}", detail.deployment);
        times.push(took);
    }
    line("zfs: another version of the same component", &time(median(&mut times)), "");
    line("memory of the host after the updates", &kib(), "");
    ensure!(grid.host("n1").is_running(), "the host ended");
    Ok(())
}
