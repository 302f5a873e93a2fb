//! Two minutes of chaos: two masters on a database server, and their hosts.
//!
//! `WINDLASS_CHAOS_SEED`, `WINDLASS_CHAOS_SECONDS` and `WINDLASS_CHAOS_HOSTS` change what is done, for how
//! long and to how many hosts.

use std::{path::PathBuf, time::Duration};
use windlass_tests::{Binaries, Grid, GridOptions, Postgres, chaos::Chaos};

#[test]
fn every_job_ends_once_whatever_dies() {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
    };
    let seed = number("WINDLASS_CHAOS_SEED").unwrap_or_else(rand::random);
    println!("WINDLASS_CHAOS_SEED={seed}");
    let duration = Duration::from_secs(number("WINDLASS_CHAOS_SECONDS").unwrap_or(120));
    let hosts = number("WINDLASS_CHAOS_HOSTS").unwrap_or(6);
    let chaos = Chaos { seed, duration, submitters: 2 };
    let postgres = Postgres::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hosts: Vec<String> = (1..=hosts).map(|number| format!("n{number}")).collect();
    let options = GridOptions {
        hosts: hosts.clone(),
        plugins: vec!["torture".into()],
        lines: true,
        masters: 2,
        store: Some(postgres.database("windlass").unwrap()),
        compile_cache: Some(dir.path().join("compiled")),
        ..GridOptions::default()
    };
    let mut grid = Grid::start(Binaries::find().unwrap(), dir.path(), options).unwrap();
    let marks = PathBuf::from(format!("/tmp/windlass-torture/chaos-{}", std::process::id()));
    std::fs::create_dir_all(&marks).unwrap();
    let report = chaos.run(&mut grid, &hosts, &marks);
    let _ = std::fs::remove_dir_all(&marks);
    match report {
        Ok(report) => println!("{report:#?}"),
        Err(error) => panic!("{error:?}\nwhat the grid says lies in {}", dir.keep().display()),
    }
}
