//! Compiled code: made by the helper `windlass-compile`, kept in a cache that only the owner of
//! this process may touch, and hashed again before each use.
//!
//! Compiled code is machine code: whoever can write it owns the process that loads it. It is
//! never taken from the network, only from the helper, and the helper is a child with nothing but
//! three pipes. It is trusted to turn WebAssembly into code that stays in its sandbox, not with
//! anything of this machine.

use crate::{
    engine::{CONFIG_REVISION, WASMTIME_VERSION},
    state::private_dir,
    trace::clip,
};
use sha2::Digest as _;
use std::{
    collections::HashMap,
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::{Mutex as AsyncMutex, Semaphore},
};
use windlass_types::Digest;

/// Exit code of the helper for a component that it can not compile (EX_DATAERR).
pub const EXIT_REJECTED: u8 = 65;
/// Exit code of the helper where its sandbox can not be had (EX_OSERR).
pub const EXIT_SANDBOX: u8 = 71;
/// Largest component, in bytes.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;
/// Processor time of the helper, in seconds. A Python plugin takes about ten.
pub const HELPER_CPU_SECONDS: u64 = 120;
/// Address space of the helper, in bytes. A Python plugin takes about 400 MiB.
pub const HELPER_MEMORY_BYTES: u64 = 4 << 30;

/// Wall time of the helper: twice its processor time, for a busy machine.
const HELPER_TIMEOUT: Duration = Duration::from_secs(2 * HELPER_CPU_SECONDS);
/// Largest compiled component, in bytes: some three times a large one.
const MAX_COMPILED_BYTES: u64 = 512 << 20;
/// Helpers at the same time.
const MAX_HELPERS: usize = 2;
/// What is kept of the helper's messages.
const MAX_MESSAGE_BYTES: u64 = 8 << 10;

/// Why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The helper could not be started or spoken to.
    #[error("can not run the compiler {}", helper.display())]
    Helper {
        helper: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The component is not valid, or uses what this host does not offer.
    #[error("the component can not be compiled: {0}")]
    Rejected(String),
    /// The helper could not lock itself in, and so did nothing.
    #[error("the compiler has no sandbox on this machine: {0}")]
    Sandbox(String),
    /// The helper panicked or was killed.
    #[error("the compiler broke ({status}){}{message}", if message.is_empty() { "" } else { ": " })]
    Broke { status: ExitStatus, message: String },
    /// The helper took too long.
    #[error("the compiler took longer than {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The component, or what became of it, is too large.
    #[error("{0} is larger than {1} MiB")]
    TooLarge(&'static str, u64),
    /// The cache can not be used.
    #[error("the cache of compiled plugins")]
    Cache(#[from] CachedError),
}

/// Why compiled code in the cache can not be used.
#[derive(Debug, thiserror::Error)]
pub enum CachedError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Someone else may write it.
    #[error("{} could be changed by someone else: {why}", path.display())]
    Unsafe { path: PathBuf, why: String },
    /// Its content is not what was compiled.
    #[error("{} is not what was compiled: it is damaged or was changed", path.display())]
    Changed { path: PathBuf },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CachedError + use<> {
    let path = path.to_owned();
    move |source| CachedError::Io { path, source }
}

/// Compiles components, and keeps what it made.
#[derive(Debug)]
pub struct Compiler {
    helper: PathBuf,
    dir: PathBuf,
    busy: Mutex<HashMap<Digest, Arc<AsyncMutex<()>>>>,
    helpers: Semaphore,
}

impl Compiler {
    /// A compiler that runs `helper` and keeps its results in `cache_dir`.
    pub fn new(helper: PathBuf, cache_dir: PathBuf) -> Compiler {
        Compiler { helper, dir: cache_dir, busy: Mutex::default(), helpers: Semaphore::new(MAX_HELPERS) }
    }

    /// Where the compiled form of a component is or will be.
    pub fn path(&self, component: Digest) -> PathBuf {
        self.dir.join(format!(
            "{}-wasmtime{WASMTIME_VERSION}-{}-r{CONFIG_REVISION}.cwasm",
            component.hex(),
            std::env::consts::ARCH
        ))
    }

    /// The compiled form of a component, from the cache if it is there and intact. Of several
    /// callers with the same component one compiles and the others wait.
    ///
    /// # Errors
    /// If it is not there and can not be made.
    pub async fn compiled(&self, component: &[u8]) -> Result<PathBuf, CompileError> {
        if component.len() as u64 > MAX_COMPONENT_BYTES {
            return Err(CompileError::TooLarge("the component", MAX_COMPONENT_BYTES >> 20));
        }
        let digest = Digest::of(component);
        let path = self.path(digest);
        let lock = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(digest).or_default().clone()
        };
        let _held = lock.lock().await;
        match self.intact(&path).await {
            Ok(()) => return Ok(path),
            Err(CachedError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error @ CachedError::Unsafe { .. }) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "compiling a plugin again"),
        }
        let _one_of_few = self.helpers.acquire().await;
        self.compile(component, &path).await?;
        Ok(path)
    }

    async fn intact(&self, path: &Path) -> Result<(), CachedError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || verify(&path)).await.unwrap_or_else(|error| {
            Err(CachedError::Io { path: PathBuf::new(), source: io::Error::other(error) })
        })
    }

    async fn compile(&self, component: &[u8], path: &Path) -> Result<(), CompileError> {
        private_dir(&self.dir).map_err(io_error(&self.dir))?;
        only_ours(&self.dir)?;
        let mut temporary = Temporary::new(&self.dir)?;
        let digest = tokio::time::timeout(HELPER_TIMEOUT, self.run(component, &mut temporary))
            .await
            .map_err(|_| CompileError::TimedOut(HELPER_TIMEOUT))??;
        let (sum, sum_path) = (Temporary::new(&self.dir)?, sum_path(path));
        io::Write::write_all(&mut &sum.file, digest.to_string().as_bytes())
            .and_then(|()| sum.file.sync_all())
            .map_err(io_error(&sum.path))?;
        temporary.file.sync_all().map_err(io_error(&temporary.path))?;
        // A file without its sum, or the other way round, counts as none at all.
        sum.rename(&sum_path)?;
        temporary.rename(path)?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error(&self.dir))?;
        Ok(())
    }

    /// Run the helper: component in, code out.
    async fn run(&self, component: &[u8], to: &mut Temporary) -> Result<Digest, CompileError> {
        let failed = |source: io::Error| CompileError::Helper { helper: self.helper.clone(), source };
        let mut child = Command::new(&self.helper)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let give = async {
            // A helper that gives up closes its end: its status tells why.
            let _ = stdin.write_all(component).await;
            drop(stdin);
        };
        let ((), received, message) = tokio::join!(give, receive(stdout, to), message(stderr));
        let status = child.wait().await.map_err(failed)?;
        match status.code() {
            Some(0) => received,
            Some(code) if code == i32::from(EXIT_REJECTED) => Err(CompileError::Rejected(message)),
            Some(code) if code == i32::from(EXIT_SANDBOX) => Err(CompileError::Sandbox(message)),
            // What it had written by then has no meaning; that it was cut short has.
            _ if matches!(received, Err(CompileError::TooLarge(..))) => received,
            _ => Err(CompileError::Broke { status, message }),
        }
    }
}

async fn receive(mut stdout: impl AsyncRead + Unpin, to: &mut Temporary) -> Result<Digest, CompileError> {
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        let read = stdout.read(&mut buffer).await.map_err(io_error(&to.path))?;
        if read == 0 {
            return Ok(Digest::from(<[u8; 32]>::from(hash.finalize())));
        }
        total += read as u64;
        if total > MAX_COMPILED_BYTES {
            // Returning closes the pipe, which ends the helper.
            return Err(CompileError::TooLarge("the compiled plugin", MAX_COMPILED_BYTES >> 20));
        }
        hash.update(&buffer[..read]);
        io::Write::write_all(&mut &to.file, &buffer[..read]).map_err(io_error(&to.path))?;
    }
}

async fn message(stderr: impl AsyncRead + Unpin) -> String {
    let mut stderr = stderr;
    let mut text = Vec::new();
    // What can not be read is not told; the status is.
    let _ = (&mut stderr).take(MAX_MESSAGE_BYTES).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&text);
    let text =
        text.trim().chars().map(|c| if c == '\n' || !c.is_control() { c } else { ' ' }).collect::<String>();
    clip(&text, 2_000)
}

/// A file under a name of its own, gone unless it is renamed.
#[derive(Debug)]
struct Temporary {
    file: fs::File,
    path: PathBuf,
    kept: bool,
}

impl Temporary {
    fn new(dir: &Path) -> Result<Temporary, CachedError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = dir.join(format!(".new-{}-{number}", std::process::id()));
            match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Temporary { file, path, kept: false }),
                // Left behind by a process of the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error(&path)(error)),
            }
        }
    }

    fn rename(mut self, to: &Path) -> Result<(), CachedError> {
        fs::rename(&self.path, to).map_err(io_error(to))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // A file that stays behind costs space, no more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sum_path(compiled: &Path) -> PathBuf {
    compiled.with_extension("sha256")
}

/// Check that compiled code is what was compiled, and that nobody else could have written it.
///
/// # Errors
/// If it is not so, or the file can not be read.
pub fn verify(compiled: &Path) -> Result<(), CachedError> {
    let sum_path = sum_path(compiled);
    if let Some(dir) = compiled.parent() {
        only_ours(dir)?;
    }
    only_ours(compiled)?;
    let sum = match fs::read_to_string(&sum_path) {
        Ok(sum) => sum,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_error(&sum_path)(error)),
    };
    let mut file = fs::File::open(compiled).map_err(io_error(compiled))?;
    let mut hash = sha2::Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).map_err(io_error(compiled))? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let found = Digest::from(<[u8; 32]>::from(hash.finalize()));
    if sum.trim() == found.to_string() {
        Ok(())
    } else {
        Err(CachedError::Changed { path: compiled.to_owned() })
    }
}

fn only_ours(path: &Path) -> Result<(), CachedError> {
    let found = fs::symlink_metadata(path).map_err(io_error(path))?;
    let us = rustix::process::geteuid().as_raw();
    let why = if found.file_type().is_symlink() {
        "it is a link".to_owned()
    } else if found.uid() != us {
        format!("it belongs to user {}, and this process is user {us}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("its mode is {:o}", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(CachedError::Unsafe { path: path.to_owned(), why })
}
