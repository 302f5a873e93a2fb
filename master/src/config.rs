//! The configuration file.
//!
//! Everything has a default that is safe on a machine of its own: loopback listeners, one data
//! directory. Unknown keys are errors, so a typing error never silently means the default.

use serde::Deserialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Why a configuration is no good.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML, or not of our form. The source names line and key.
    #[error("`{}` is not a valid configuration", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that cannot work.
    #[error("`{key}`: {problem}")]
    Value { key: &'static str, problem: String },
}

/// The configuration of a master.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept: database, authority. Mode 0700.
    pub data_dir: PathBuf,
    /// Where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// Names and addresses that hosts and operators use for this master; they go into its certificate.
    #[serde(default = "default_server_names")]
    pub server_names: Vec<String>,
    /// `host:port` by which other masters reach `listen.peer`; that address itself unless told.
    #[serde(default)]
    pub peer_address: Option<String>,
    /// How often master and host tell each other that they live, in milliseconds. Three missing
    /// ones make a node offline.
    #[serde(default = "default_heartbeat_ms")]
    pub heartbeat_ms: u32,
    /// How long the certificate of a node is good for.
    #[serde(default = "default_certificate_ttl")]
    pub certificate_ttl: Span,
    /// Limits of enrolment.
    #[serde(default)]
    pub enroll: EnrollLimits,
    /// The database.
    #[serde(default)]
    pub store: StoreConfig,
    /// What is kept for how long.
    #[serde(default)]
    pub retention: Retention,
    /// Where the parts of bundles are kept.
    #[serde(default)]
    pub blobs: BlobsConfig,
    /// `windlass-compile`, which compiles the plugins that make plans. The one beside `windlass-master`, or of
    /// its package, unless told.
    #[serde(default)]
    pub compile_helper: Option<PathBuf>,
}

/// Where the parts of bundles are kept: the folder `blobs` of the data directory, unless told.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlobsConfig {
    /// `s3://bucket/prefix`: an object store that speaks S3. `file:///folder`: a folder that all masters
    /// see.
    pub url: Option<String>,
    /// Its address, where it is not Amazon's: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Its keys; those in the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`) unless told.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
}

/// A text that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where to listen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Operators: HTTPS.
    pub api: SocketAddr,
    /// Accepted hosts: gRPC over mutual TLS.
    pub node: SocketAddr,
    /// New hosts: gRPC over TLS.
    pub enroll: SocketAddr,
    /// Other masters on the same database: HTTP/2 over mutual TLS.
    pub peer: Option<SocketAddr>,
}

impl Default for Listen {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Listen { api: local(7400), node: local(7401), enroll: local(7402), peer: None }
    }
}

/// Limits of enrolment: everything there comes from strangers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnrollLimits {
    /// Nodes that wait for a decision at once; more are turned away.
    pub max_pending: u32,
    /// Requests a second from one address (one /64 of IPv6) in the long run.
    pub requests_per_second: u32,
    /// Requests from one address at once.
    pub burst: u32,
}

impl Default for EnrollLimits {
    fn default() -> Self {
        EnrollLimits { max_pending: 1000, requests_per_second: 20, burst: 200 }
    }
}

/// The database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// `postgres://user:password@host:port/database`; without it a file in the data directory is used.
    pub url: Option<Secret>,
    /// What a commit to the file survives. A server has settings of its own for this.
    pub durability: Durability,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A loss of power: each group of commits waits for the disk (SQLite `synchronous=FULL`). A
    /// result is acknowledged to its host only then, so nothing acknowledged can be lost.
    #[default]
    Power,
    /// The end of the process, but not of the machine (`synchronous=NORMAL`).
    Process,
}

/// What is kept for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Finished jobs.
    pub jobs: Span,
    /// Finished jobs at most.
    pub max_jobs: u64,
    /// Events.
    pub events: Span,
    /// Events at most.
    pub max_events: u64,
    /// What operations have written on their way, in MiB: of the oldest jobs it is forgotten first.
    pub max_output_mib: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention {
            jobs: Span(Duration::from_secs(90 * DAY)),
            max_jobs: 100_000,
            events: Span(Duration::from_secs(30 * DAY)),
            max_events: 1_000_000,
            max_output_mib: 16_384,
        }
    }
}

const DAY: u64 = 86_400;

fn default_server_names() -> Vec<String> {
    ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec()
}
fn default_heartbeat_ms() -> u32 {
    5000
}
fn default_certificate_ttl() -> Span {
    Span(Duration::from_secs(30 * DAY))
}

/// A length of time, written as a number and a unit: `500ms`, `90s`, `10m`, `12h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => DAY * 1000,
            _ => 0,
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)) {
            // Ten thousand days: far from where adding it to a time could overflow.
            Some(ms) if ms > 0 && ms <= 10_000 * DAY * 1000 => Ok(Span(Duration::from_millis(ms))),
            _ => Err(format!("`{text}` is not a length of time such as `90s`, `10m`, `12h` or `30d`")),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Config {
    /// Read a file. Relative paths in it are taken from its own folder.
    ///
    /// # Errors
    /// If it can't be read, holds an unknown key, or a value that cannot work.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Config = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        if let Some(folder) = path.parent() {
            config.data_dir = folder.join(&config.data_dir);
            config.compile_helper = config.compile_helper.map(|helper| folder.join(helper));
        }
        config.validate()?;
        Ok(config)
    }

    /// The defaults, with everything kept in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Config {
            data_dir: data_dir.into(),
            listen: Listen::default(),
            server_names: default_server_names(),
            peer_address: None,
            heartbeat_ms: default_heartbeat_ms(),
            certificate_ttl: default_certificate_ttl(),
            enroll: EnrollLimits::default(),
            store: StoreConfig::default(),
            retention: Retention::default(),
            blobs: BlobsConfig::default(),
            compile_helper: None,
        }
    }

    /// The program that compiles plugins.
    pub fn compile_helper(&self) -> PathBuf {
        const NAME: &str = "windlass-compile";
        let own = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
        // As installed, the one in `/usr/bin` is the host's, and may be of another version.
        let folder = own().filter(|folder| folder != Path::new("/usr/bin"));
        let beside = || folder.unwrap_or_else(|| "/usr/lib/windlass-master".into()).join(NAME);
        self.compile_helper.clone().unwrap_or_else(beside)
    }

    /// Look for values that cannot work.
    ///
    /// # Errors
    /// With the first such key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        if !(20..=600_000).contains(&self.heartbeat_ms) {
            return bad("heartbeat_ms", "expected 20 to 600000");
        }
        if self.server_names.is_empty() {
            return bad("server_names", "at least one name or address is needed for the certificate");
        }
        if self.certificate_ttl.0 < Duration::from_secs(60) {
            return bad("certificate_ttl", "hosts renew at two thirds of it: expected one minute at least");
        }
        if self.enroll.requests_per_second == 0 || self.enroll.burst == 0 {
            return bad("enroll", "a rate of zero would keep every host out");
        }
        if let Some(address) = &self.peer_address {
            if self.listen.peer.is_none() {
                return bad("peer_address", "it says where `listen.peer` is reached, and there is none");
            }
            let port = address.rsplit_once(':').and_then(|(host, port)| {
                port.parse::<u16>().ok().filter(|port| *port != 0 && !host.is_empty())
            });
            if port.is_none() {
                return bad("peer_address", "expected `host:port`, such as `master-1.example:7403`");
            }
        } else if self.listen.peer.is_some_and(|address| address.ip().is_unspecified()) {
            return bad(
                "peer_address",
                "needed, since `listen.peer` is every address of this machine and not one",
            );
        }
        let blobs = &self.blobs;
        let is = |scheme| blobs.url.as_deref().is_some_and(|url| url.starts_with(scheme));
        if blobs.url.is_some() && !is("s3://") && !is("file:///") {
            return bad(
                "blobs.url",
                "expected `s3://bucket/prefix` or `file:///folder`; without it a local folder is used",
            );
        }
        if let Some(Secret(url)) = &self.store.url
            && !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return bad("store.url", "expected `postgres://user:password@host/database`");
        }
        if self.store.url.is_some() && self.several() && blobs.url.is_none() {
            return bad(
                "blobs.url",
                "needed with `store.url` and `listen.peer`: whichever master leads has to find the parts of \
                 bundles, in an object store (`s3://…`) or a shared folder (`file:///…`)",
            );
        }
        if !is("s3://")
            && (blobs.endpoint.is_some() || blobs.region.is_some() || blobs.access_key_id.is_some())
        {
            return bad("blobs", "it says how to reach an object store, and has no `url` of one");
        }
        if blobs.access_key_id.is_some() != blobs.secret_access_key.is_some() {
            return bad("blobs", "`access_key_id` and `secret_access_key` belong together");
        }
        Ok(())
    }

    /// How often master and host tell each other that they live.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    /// Whether other masters may share the database.
    pub fn several(&self) -> bool {
        self.listen.peer.is_some()
    }

    /// `host:port` where other masters reach this one, if there may be some.
    pub fn peer_address(&self) -> Option<String> {
        self.peer_address.clone().or_else(|| self.listen.peer.map(|address| address.to_string()))
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("master.db")
    }

    /// The key that stored secrets are encrypted with.
    pub fn secrets_key(&self) -> PathBuf {
        self.authority().join("secrets.key")
    }

    /// The folder of the certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.data_dir.join("ca")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_an_error() {
        let parse = |text: &str| toml::from_str::<Config>(text).map_err(|error| error.to_string());
        let config = parse("data_dir = '/x'").unwrap();
        assert!(config.listen.api.ip().is_loopback() && config.listen.enroll.ip().is_loopback());
        assert!(parse("data_dir = '/x'\nheartbeat = 3").unwrap_err().contains("heartbeat"));
        assert!(parse("data_dir = '/x'\n[listen]\napi = '1.2.3.4'").unwrap_err().contains("api"));
        assert!(parse("data_dir = '/x'\ncertificate_ttl = '3 weeks'").unwrap_err().contains("30d"));
        for bad in ["url = 'http://x'", "endpoint = 'https://x'", "url = 's3://x'\naccess_key_id = 'a'"] {
            let config = parse(&format!("data_dir = '/x'\n[blobs]\n{bad}")).unwrap();
            assert!(config.validate().unwrap_err().to_string().contains("blobs"), "{bad}");
        }
        let keys = "[blobs]\nurl = 's3://x/y'\naccess_key_id = 'a'\nsecret_access_key = 'hush'";
        let keys = parse(&format!("data_dir = '/x'\n{keys}")).unwrap();
        keys.validate().unwrap();
        assert!(!format!("{keys:?}").contains("hush"));
        assert!(matches!(
            Config { heartbeat_ms: 0, ..config }.validate(),
            Err(ConfigError::Value { key: "heartbeat_ms", .. })
        ));
    }

    #[test]
    fn spans_have_units_and_bounds() {
        assert_eq!("12h".parse(), Ok(Span(Duration::from_secs(43_200))));
        for bad in ["", "0s", "5", "s", "-1s", "1.5h", "99999999999999999999d", "999999999999d", "１s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
