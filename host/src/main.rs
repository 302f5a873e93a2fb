//! `windlass-host`: the program.

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use windlass_host::{
    check::{self, Finding},
    config::{self, Config, LogFormat},
    credentials::Credentials,
    engine::Engine,
    explain::chain,
    plugins::Plugins,
    service::Host,
};

/// The agent of a node: runs sandboxed plugins for a Windlass master.
#[derive(Debug, Parser)]
#[command(name = "windlass-host", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  windlass-host check                      is everything ready on this node?
  windlass-host run                        run in the foreground (systemd starts it so)
  windlass-host run --config ./host.toml   with another configuration
  windlass-host fingerprint                what `windlass nodes accept` on the master compares

Signals: TERM or INT drains and ends, a second one ends at once; HUP reads the trust file and loads the plugins again.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the host.
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Say what would keep the host from working. Neither enrols nor runs anything; exit status 1 if anything is bad.
    Check {
        #[command(flatten)]
        file: File,
        /// Form of the output.
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print the fingerprint of this node's key.
    Fingerprint {
        #[command(flatten)]
        file: File,
        /// Make the key if there is none.
        #[arg(long)]
        create: bool,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    /// The configuration file.
    #[arg(long, short, value_name = "FILE", default_value = config::DEFAULT_PATH, env = "WINDLASS_HOST_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { file } => run(&file.config),
        Command::Check { file, output } => run_check(&file.config, output),
        Command::Fingerprint { file, create } => fingerprint(&file.config, create),
    }
}

/// Print an error and its causes; the exit status for it.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(err, "error: {error:#}");
    // As clap does: bad usage is 2.
    if error.is::<config::ConfigError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return fail(&error.into()),
    };
    start_log(&config);
    windlass_identity::install_provider();
    let ended = tokio_runtime().and_then(|runtime| {
        let ended = runtime.block_on(serve(config));
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn tokio_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Network, journal and timers only; plugins run on threads of their own.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("windlass-host")
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn start_log(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::new(&config.log.level);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Json => log.json().init(),
        // The journal of systemd has its own time stamps, and no colours.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            log.without_time().with_ansi(false).init();
        }
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let name = config.name.clone();
    let plugins: Arc<dyn Engine> = Plugins::start(&config).await?;
    let host = Host::open(config, Arc::clone(&plugins)).await?;
    let stop = CancellationToken::new();
    let mut state = host.state();
    let running = host.run(stop.clone());
    tokio::pin!(running);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut watchdog = windlass_host::notify::watchdog();
    tracing::info!(%name, version = env!("CARGO_PKG_VERSION"), "ready");
    windlass_host::notify::ready();
    loop {
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {
                tracing::info!("reading the trust file and loading the plugins again");
                windlass_host::notify::reloading();
                plugins.reload().await;
                windlass_host::notify::ready();
                continue;
            }
            () = windlass_host::notify::due(&mut watchdog) => {
                windlass_host::notify::alive();
                continue;
            }
            Ok(()) = state.changed() => {
                let words = state.borrow_and_update().to_string();
                windlass_host::notify::status(&words);
                continue;
            }
        }
        if stop.is_cancelled() {
            tracing::warn!("told to stop a second time: ending at once");
            return Ok(());
        }
        windlass_host::notify::stopping();
        stop.cancel();
    }
}

fn run_check(path: &Path, output: Output) -> ExitCode {
    let findings = match Config::load(path) {
        Err(error) => {
            vec![Finding::bad("configuration", chain(&error), "docs/host-configuration.md lists all keys")]
        }
        Ok(config) => {
            windlass_identity::install_provider();
            let mut findings = vec![Finding::good("configuration", format!("`{}`", path.display()))];
            match tokio_runtime() {
                Err(error) => return fail(&error),
                Ok(runtime) => runtime.block_on(async {
                    findings.extend(check::check(&config).await);
                    findings.extend(Plugins::check(&config).await);
                }),
            }
            findings
        }
    };
    let bad = findings.iter().any(|finding| !finding.ok);
    let mut out = std::io::stdout().lock();
    let written = match output {
        Output::Json => serde_json::to_writer_pretty(&mut out, &findings)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out)),
        Output::Text => findings.iter().try_for_each(|finding| {
            let Finding { what, ok, detail, hint } = finding;
            writeln!(out, "{}  {what}: {detail}", if *ok { "ok " } else { "bad" })?;
            if hint.is_empty() { Ok(()) } else { writeln!(out, "     hint: {hint}") }
        }),
    };
    if bad || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn fingerprint(path: &Path, create: bool) -> ExitCode {
    let print = || -> anyhow::Result<()> {
        let config = Config::load(path)?;
        let credentials = Credentials::new(&config)?;
        let key = if create {
            credentials.key()?
        } else {
            credentials.load_key()?.with_context(|| {
                format!(
                    "`{}` does not exist: the key is made at the first `run`, or by `fingerprint --create`",
                    credentials.key_path().display()
                )
            })?
        };
        writeln!(std::io::stdout().lock(), "{}", key.fingerprint())?;
        Ok(())
    };
    match print() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}
