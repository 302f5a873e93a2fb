//! The control plane: `windlass-master`.

mod watchdog;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio_util::sync::CancellationToken;
use windlass_master::{
    Config, Listeners, backup,
    config::{Listen, Secret, Span},
    recovery::{self, AdminToken, RecoveryError},
    run_with, setup,
    store::{StoreError, moving},
};
use windlass_types::UserName;

/// Control plane of a Windlass grid.
#[derive(Debug, Parser)]
#[command(name = "windlass-master", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  windlass-master init --data-dir /var/lib/windlass --server-name master.example.org
  windlass-master check --config /var/lib/windlass/master.toml
  windlass-master run --config /var/lib/windlass/master.toml
  windlass-master backup --config /var/lib/windlass/master.toml /backup/windlass-2026-11-23";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new data directory: certificate authority, database, configuration and first token.
    ///
    /// Prints the fingerprint of the authority, which hosts and operators pin, and the token of the
    /// first administrator. The token is shown this once; only its hash is kept.
    #[command(after_help = "Examples:
  windlass-master init --data-dir ./grid
  windlass-master init --data-dir /var/lib/windlass --server-name 10.0.0.5 \\
      --api 0.0.0.0:7400 --node 0.0.0.0:7401 --enroll 0.0.0.0:7402")]
    Init(Init),
    /// Run the master until SIGTERM or SIGINT.
    #[command(after_help = "Example:
  windlass-master run --config /var/lib/windlass/master.toml

WINDLASS_LOG sets what is logged, such as `info` (the default) or `windlass_master=debug`.")]
    Run(Run),
    /// Look for what would keep the master from starting, without starting it.
    #[command(after_help = "Example:
  windlass-master check --config /var/lib/windlass/master.toml")]
    Check(ConfigFile),
    /// Copy all that this master is into a new directory; the master may run meanwhile.
    ///
    /// Database, authority with its key, configuration, and the parts of bundles unless an object store
    /// has them. The copy is checked before it gets its name. It is a data directory of its own: put it
    /// in the place of a lost one and start the master.
    #[command(after_help = "Examples:
  windlass-master backup --config /var/lib/windlass/master.toml /backup/windlass-2026-11-23

Whoever reads the copy has the authority: keep it as safe as the data directory.")]
    Backup(Backup),
    /// Make a token for an administrator who has lost every other one.
    ///
    /// Needs no token: whoever may read the configuration and write the database is the master. The master
    /// may run meanwhile, and knows the token at once. The audit log names the user of this machine. The
    /// token is shown this once; only its hash is kept.
    #[command(after_help = "Examples:
  windlass-master admin-token --config /var/lib/windlass/master.toml
  windlass-master admin-token --config /var/lib/windlass/master.toml --user jane.doe --ttl 8h

Run it as root or as the user that the master runs as.")]
    AdminToken(NewAdminToken),
    /// Move what the master keeps in its database file to a PostgreSQL server.
    ///
    /// All or nothing: the server gets every row in one transaction, and the hash chain of the audit log is
    /// walked there. A master that still runs on the file stops. The file stays as it is.
    #[command(after_help = "Example:
  systemctl stop windlass-master
  windlass-master migrate --config /var/lib/windlass/master.toml --to postgres://windlass:secret@db/windlass

Then set `url` under `[store]` in the configuration and start the master.")]
    Migrate(Migrate),
}

#[derive(Debug, Args)]
struct Migrate {
    #[command(flatten)]
    file: ConfigFile,
    /// The server's database, which must be empty: `postgres://user:password@host:port/database`
    #[arg(long, value_name = "URL")]
    to: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct Backup {
    #[command(flatten)]
    file: ConfigFile,
    /// The directory to make
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct NewAdminToken {
    #[command(flatten)]
    file: ConfigFile,
    /// User to give it to, who has to be an administrator; made if there is none of that name. Without
    /// it the token belongs to nobody.
    #[arg(long, value_name = "NAME")]
    user: Option<UserName>,
    /// What the token is called; `admin` unless told.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long it is good for, such as `8h` or `30d`; for ever unless told.
    #[arg(long, value_name = "TIME")]
    ttl: Option<Span>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct Init {
    /// Directory to make; it gets mode 0700.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Name or address by which hosts and operators reach this master; loopback is always in. May be repeated.
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<String>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDRESS", default_value_t = Listen::default().api)]
    api: SocketAddr,
    /// Where accepted hosts connect.
    #[arg(long, value_name = "ADDRESS", default_value_t = Listen::default().node)]
    node: SocketAddr,
    /// Where new hosts ask to join.
    #[arg(long, value_name = "ADDRESS", default_value_t = Listen::default().enroll)]
    enroll: SocketAddr,
    /// Database of a PostgreSQL server, `postgres://user:password@host/database`; a file of the data
    /// directory unless told.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "WINDLASS_MASTER_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    log_format: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    windlass_identity::install_provider();
    let done = match Cli::parse().command {
        Command::Init(init) => runtime().and_then(|runtime| runtime.block_on(self::init(&init))),
        Command::Run(run) => runtime().and_then(|runtime| runtime.block_on(self::run(&run))),
        Command::Backup(backup) => runtime().and_then(|runtime| runtime.block_on(self::backup(&backup))),
        Command::AdminToken(new) => runtime().and_then(|runtime| runtime.block_on(admin_token(new))),
        Command::Migrate(migrate) => runtime().and_then(|runtime| runtime.block_on(self::migrate(&migrate))),
        Command::Check(file) => runtime().and_then(|runtime| runtime.block_on(check(&file.config))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = format!("error: {error}");
            for cause in error.chain().skip(1) {
                text.push_str(&format!(": {cause}"));
            }
            let mut text = text.trim_end().to_owned();
            if let Some(hint) = hint(&error) {
                text.push_str(&format!("\nhint: {hint}"));
            }
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

/// What to do about it, where that can be said.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<RecoveryError>() {
        return error.hint();
    }
    match error.downcast_ref::<backup::BackupError>() {
        Some(backup::BackupError::Store(error)) => error.hint(),
        _ => error.downcast_ref::<StoreError>().and_then(StoreError::hint),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

async fn init(init: &Init) -> anyhow::Result<()> {
    let listen = Listen { api: init.api, node: init.node, enroll: init.enroll, peer: None };
    let made =
        setup::init(&init.data_dir, &listen, &init.server_names, init.store.clone().map(Secret)).await?;
    let mut out = std::io::stdout();
    match init.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&made)?)?,
        Output::Text => writeln!(
            out,
            "ca fingerprint: {}\nadmin token:    {}\nconfiguration:  {}\n\nThe token is not shown again. Start with:\n  \
             windlass-master run --config {2}",
            made.ca_fingerprint,
            made.admin_token,
            made.config.display(),
        )?,
    }
    Ok(())
}

async fn backup(backup: &Backup) -> anyhow::Result<()> {
    let config = Config::load(&backup.file.config)?;
    let saved = backup::save(&config, &backup.file.config, &backup.dir).await?;
    let mut out = std::io::stdout();
    match backup.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&saved)?)?,
        Output::Text => {
            let blobs = match saved.blobs {
                Some(blobs) => format!("{blobs} blobs"),
                None => "no blobs: the object store has them".to_owned(),
            };
            let database = match saved.database_bytes {
                Some(bytes) => format!("{} KiB of database", bytes.div_ceil(1024)),
                None => "no database: save that of the server with pg_dump".to_owned(),
            };
            writeln!(
                out,
                "saved into {}: {database}, {blobs}, {} entries of the audit log",
                saved.dir.display(),
                saved.audit_entries,
            )?;
        }
    }
    Ok(())
}

async fn admin_token(new: NewAdminToken) -> anyhow::Result<()> {
    let config = Config::load(&new.file.config)?;
    let NewAdminToken { user, name, ttl, .. } = new;
    let new_token = AdminToken { user, name, ttl: ttl.map(|ttl| ttl.0) };
    let made = recovery::admin_token(&config, &new_token, &recovery::local_actor()).await?;
    let mut out = std::io::stdout();
    match new.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&made)?)?,
        Output::Text => {
            let whose = match &made.user {
                Some(user) => format!("of user `{user}`"),
                None => format!("of nobody, called `{}`", made.name),
            };
            let token = made.token.as_deref().unwrap_or_default();
            writeln!(
                out,
                "admin token: {token}\n\nIt is {whose}, and is not shown again. Go on with:\n  windlass login\n\
                 To take it back: windlass tokens delete {}",
                made.id,
            )?;
        }
    }
    Ok(())
}

async fn migrate(migrate: &Migrate) -> anyhow::Result<()> {
    let config = Config::load(&migrate.file.config)?;
    let moved = moving::to_server(&config, &Secret(migrate.to.clone())).await?;
    let mut out = std::io::stdout();
    match migrate.output {
        Output::Json => writeln!(out, "{}", serde_json::to_string(&moved)?)?,
        Output::Text => {
            for (table, rows) in moved.rows.iter().filter(|(_, rows)| **rows > 0) {
                writeln!(out, "{rows:>10} {table}")?;
            }
            writeln!(
                out,
                "moved; the audit log is whole ({} entries). Now set `url` under `[store]` in {} and start the master",
                moved.audit_entries,
                migrate.file.config.display(),
            )?;
        }
    }
    Ok(())
}

async fn check(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let fingerprint = setup::check(&config)?;
    // Binding tells whether the addresses are ours and free.
    drop(Listeners::bind(&config.listen).await?);
    writeln!(std::io::stdout(), "{} is good\nca fingerprint: {fingerprint}", path.display())?;
    Ok(())
}

async fn run(run: &Run) -> anyhow::Result<()> {
    let config = Config::load(&run.file.config)?;
    log(run.log_format)?;
    let fingerprint = setup::check(&config)?;
    let listeners = Listeners::bind(&config.listen).await?;
    let shutdown = CancellationToken::new();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]);
            shutdown.cancel();
        }
    });
    watchdog::start();
    let listen = config.listen.clone();
    run_with(config, listeners, shutdown, move || {
        tracing::info!(api = %listen.api, node = %listen.node, enroll = %listen.enroll, ca = %fingerprint, "ready");
        // Fails only where no service manager asked for it.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    })
    .await?;
    tracing::info!("stopped");
    Ok(())
}

fn log(format: Output) -> anyhow::Result<()> {
    let filter = match std::env::var("WINDLASS_LOG") {
        Ok(text) => tracing_subscriber::EnvFilter::try_new(&text)
            .with_context(|| format!("WINDLASS_LOG: `{text}` is not a filter"))?,
        Err(_) => tracing_subscriber::EnvFilter::new("info,sqlx=warn"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        // The journal of systemd has its own time stamps, and no colours.
        Output::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            builder.without_time().with_ansi(false).init();
        }
        Output::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        Output::Json => builder.json().init(),
    }
    Ok(())
}
