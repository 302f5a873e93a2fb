//! `cargo xtask fuzz`: libFuzzer on the targets of `tests/fuzz`.
//!
//! The stable compiler knows how to count coverage for libFuzzer; only the address sanitizer would need
//! another, and there is hardly any unsafe code here to look at. Our own crates are built for it
//! (`tests/fuzz/instrument`), with optimisation, overflow checks and assertions; libraries are those
//! that the tests were built with, so that a minute of fuzzing does not begin with minutes of compiling.
//!
//! What is found on the way is kept in `target/fuzz/corpus`, so that each run goes on where the last one
//! ended; the seeds in `tests/fuzz/corpus` are only read.

use crate::exec::{cargo, root, step};
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// An input that takes longer, or needs more memory, is a finding.
const LIMITS: [&str; 3] = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"];

/// Fuzz.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Only this target; without it, all of them
    target: Option<String>,
    /// How long each is tried
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Try this input only, such as one that a run has saved
    #[arg(long, requires = "target", conflicts_with = "seconds")]
    input: Option<PathBuf>,
}

/// Run it.
pub fn run(fuzz: &Fuzz) -> Result<()> {
    let targets = targets()?;
    let chosen: Vec<&String> = match &fuzz.target {
        None => targets.iter().collect(),
        Some(target) => {
            ensure!(
                targets.contains(target),
                "there is no target `{target}`: choose of {}",
                targets.join(", ")
            );
            vec![target]
        }
    };
    let program = build()?;
    if let (Some(input), Some(target)) = (&fuzz.input, &fuzz.target) {
        let input = std::path::absolute(input).context("finding the input")?;
        let mut command = command(&program, target);
        return step(&format!("{target} on {}", input.display()), command.args(LIMITS).arg(input));
    }
    all(&program, &chosen, fuzz.seconds, fuzz.jobs.max(1))
}

/// All targets, as continuous integration tries them.
pub fn for_tests(seconds: u32) -> Result<()> {
    run(&Fuzz { target: None, seconds, jobs: 2, input: None })
}

/// The targets: each has a folder of seeds, which a test of `windlass-fuzz` makes sure of.
fn targets() -> Result<Vec<String>> {
    let corpus = seeds();
    let entries = fs::read_dir(&corpus).with_context(|| format!("listing {}", corpus.display()))?;
    let mut targets = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()?;
    targets.sort();
    Ok(targets)
}

fn seeds() -> PathBuf {
    root().join("tests/fuzz/corpus")
}

fn work() -> PathBuf {
    root().join("target/fuzz")
}

fn build() -> Result<PathBuf> {
    let mut command = cargo(&["build", "--quiet", "--package", "windlass-fuzz", "--features", "libfuzzer"]);
    // With a wrapper cargo keeps what it builds apart from what it built without; only the program
    // itself would be in the way.
    command.env("RUSTC_WORKSPACE_WRAPPER", root().join("tests/fuzz/instrument"));
    step("build the fuzzer", &mut command)?;
    Ok(root().join("target/debug/windlass-fuzz"))
}

fn command(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env("WINDLASS_FUZZ_TARGET", target);
    command
}

/// A target that is being tried.
struct Running<'t> {
    target: &'t str,
    child: Child,
    log: PathBuf,
    artifacts: PathBuf,
}

fn all(program: &Path, targets: &[&String], seconds: u32, jobs: usize) -> Result<()> {
    eprintln!("==> fuzz {} targets, {seconds} s each, {jobs} at a time", targets.len());
    let begun = Instant::now();
    let mut findings = Vec::new();
    for group in targets.chunks(jobs) {
        let running =
            group.iter().map(|target| start(program, target, seconds)).collect::<Result<Vec<_>>>()?;
        for running in running {
            findings.extend(finish(running)?);
        }
    }
    eprintln!("    fuzz: {:.1} s", begun.elapsed().as_secs_f32());
    if findings.is_empty() {
        return Ok(());
    }
    bail!("the fuzzer found something:\n{}", findings.join("\n"));
}

fn start<'t>(program: &Path, target: &'t str, seconds: u32) -> Result<Running<'t>> {
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| work().join(kind).join(target));
    for dir in [&corpus, &artifacts] {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let log = work().join(format!("{target}.log"));
    let to = fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
    let child = command(program, target)
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .arg(&corpus)
        .arg(seeds().join(target))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(to)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    Ok(Running { target, child, log, artifacts })
}

/// Wait for the end of one; gives what it found, in words.
fn finish(running: Running<'_>) -> Result<Option<String>> {
    let Running { target, mut child, log, artifacts } = running;
    let status = child.wait().with_context(|| format!("waiting for the fuzzer of {target}"))?;
    let bytes = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    if status.success() {
        let tried = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let tried = tried.map(str::trim).with_context(|| format!("{} says nothing", log.display()))?;
        let coverage = text.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
        eprintln!("    {target}: {tried} inputs, {} places reached", coverage.unwrap_or("?"));
        return Ok(None);
    }
    let saved = text.lines().rev().find_map(|line| line.split_once("Test unit written to ")?.1.into());
    let saved: String = saved.map_or_else(|| format!("nothing; see {}", artifacts.display()), str::to_owned);
    // A panic has its message in the line after its place.
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let error = lines.iter().position(|line| line.contains("ERROR: libFuzzer"));
    let told: Vec<&str> = match (panic, error) {
        (Some(at), _) => lines.iter().skip(at).take(2).copied().collect(),
        (None, Some(at)) => vec![lines[at]],
        (None, None) => vec!["it ended without a word"],
    };
    Ok(Some(format!(
        "  {target}: {}\n    input:  {saved}\n    again:  cargo xtask fuzz {target} --input {saved}\n    \
         log:    {}\n    once it is fixed, keep the input in tests/fuzz/corpus/{target}/",
        told.join("\n    "),
        log.display(),
    )))
}
