//! Making a new data directory, and looking at one without starting a master.

use crate::{
    ca::{Authority, CaError},
    config::{Config, ConfigError, Listen, Secret},
    store::{Store, StoreError, lease, tokens},
};
use serde::Serialize;
use std::{
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use windlass_types::{
    Fingerprint,
    api::{NewToken, Role},
};

/// Why a data directory could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file or directory.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Others may look into it.
    #[error("`{}` has mode {mode:03o}: the data directory must not be open to group or others (chmod 700)", path.display())]
    OpenDirectory { path: PathBuf, mode: u32 },
    /// A master has run on this database.
    #[error(
        "the database belongs to a grid already: for one more master of it, copy the folder `ca` and the file \
         `master.toml` of the first one instead"
    )]
    Taken,
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    SecretsKey(#[from] windlass_identity::IdentityError),
    #[error(transparent)]
    Token(#[from] crate::access::AccessError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new master.
#[derive(Debug, Serialize)]
pub struct Initialised {
    pub config: PathBuf,
    /// What hosts and operators pin.
    pub ca_fingerprint: Fingerprint,
    /// Shown once; only its hash is kept.
    pub admin_token: String,
}

/// Make a new data directory with an authority, a database, a first token and a configuration.
///
/// # Errors
/// If there is an authority in it already, or something cannot be written.
pub async fn init(
    dir: &Path,
    listen: &Listen,
    names: &[String],
    store: Option<Secret>,
) -> Result<Initialised, SetupError> {
    let file = |action, path: &Path| {
        let path = path.to_owned();
        move |source| SetupError::File { action, path, source }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(file("create", dir))?;
    check_mode(dir)?;
    let mut config = Config::new(dir);
    config.listen = listen.clone();
    config.store.url = store;
    for name in names {
        if !config.server_names.contains(name) {
            config.server_names.push(name.clone());
        }
    }
    config.validate()?;
    if config.authority().exists() {
        return Err(CaError::Exists(config.authority()).into());
    }
    let path = dir.join("master.toml");
    if !path.exists() {
        std::fs::write(&path, render(&config)).map_err(file("write", &path))?;
    }
    let store = Store::of(&config).await?;
    if lease::read(&mut store.connect().await?).await?.is_some() {
        return Err(SetupError::Taken);
    }
    let new = NewToken { name: "admin".into(), role: Some(Role::Admin.into()), user: None, ttl_ms: None };
    let token = tokens::create(&store, &new).await?;
    // Last, since it marks the directory as initialised.
    let authority = Authority::create(&config.authority())?;
    authority.server(&config.server_names)?;
    crate::secrets::Key::create(&config.secrets_key())?;
    Ok(Initialised {
        config: path,
        ca_fingerprint: authority.fingerprint(),
        admin_token: token.token.unwrap_or_default(),
    })
}

/// Look for what would keep a master from starting. The result is the fingerprint of its authority.
///
/// # Errors
/// With the first thing that is wrong.
pub fn check(config: &Config) -> Result<Fingerprint, SetupError> {
    check_mode(&config.data_dir)?;
    let authority = Authority::load(&config.authority())?;
    authority.server(&config.server_names)?;
    if config.store.url.is_some() {
        return Ok(authority.fingerprint());
    }
    let database = config.database();
    std::fs::metadata(&database).map_err(|source| SetupError::File {
        action: "open",
        path: database,
        source,
    })?;
    Ok(authority.fingerprint())
}

/// Whether others may look into the data directory, which nobody but the master may.
pub(crate) fn check_mode(dir: &Path) -> Result<(), SetupError> {
    let metadata = std::fs::metadata(dir).map_err(|source| SetupError::File {
        action: "open",
        path: dir.to_owned(),
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SetupError::OpenDirectory { path: dir.to_owned(), mode });
    }
    Ok(())
}

fn render(config: &Config) -> String {
    let Listen { api, node, enroll, .. } = config.listen;
    let names: Vec<String> = config.server_names.iter().map(|name| format!("{name:?}")).collect();
    format!(
        r#"# Configuration of windlass-master. Unknown keys are errors; what is left out has its default.

# Database and authority. A relative path is taken from the folder of this file.
data_dir = "."

# Names and addresses by which hosts and operators reach this master.
server_names = [{names}]

# How often master and host tell each other that they live; three missing ones make a node offline.
# heartbeat_ms = 5000

# Hosts renew their certificates after two thirds of this.
# certificate_ttl = "30d"

[listen]
# Operators: HTTPS.
api = "{api}"
# Accepted hosts: gRPC over mutual TLS.
node = "{node}"
# New hosts: gRPC over TLS.
enroll = "{enroll}"
# Other masters on the same database, if there are to be some: docs/several-masters.md.
# peer = "127.0.0.1:7403"

[store]
# Without this a file in the data directory is used. A server allows several masters: docs/several-masters.md.
{url}
# Of the file. "power": a commit survives a loss of power. "process": only the end of the process, and is faster on slow disks.
# durability = "power"

[retention]
# jobs = "90d"
# max_jobs = 100000
# events = "30d"
# max_events = 1000000
# max_output_mib = 16384

# Bundles are kept in the folder `blobs` of the data directory. To keep them in an object store:
# [blobs]
# url = "s3://bucket/prefix"
# endpoint = "https://minio.example.org:9000"
# region = "us-east-1"
# Keys come from here or from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.
# access_key_id = ""
# secret_access_key = ""
"#,
        names = names.join(", "),
        url = match &config.store.url {
            Some(url) => format!("url = {:?}", url.0),
            None => r#"# url = "postgres://windlass:password@db.example.org/windlass""#.to_owned(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_init_writes_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.server_names.push("master.example".into());
        config.listen.api = "0.0.0.0:1".parse().unwrap();
        let path = dir.path().join("master.toml");
        std::fs::write(&path, render(&config)).unwrap();
        let read = Config::load(&path).unwrap();
        assert_eq!(format!("{read:?}").replace("/.\"", "\""), format!("{config:?}"));
    }

    #[tokio::test]
    async fn init_makes_a_private_directory_once() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("new/grid");
        let made = init(&dir, &Listen::default(), &["master.example".into(), "localhost".into()], None)
            .await
            .unwrap();
        assert!(made.admin_token.len() > 40, "{}", made.admin_token);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("ca/ca.key"))), (0o700, 0o600));
        let config = Config::load(&made.config).unwrap();
        assert_eq!(config.server_names, ["localhost", "127.0.0.1", "::1", "master.example"]);
        assert_eq!(check(&config).unwrap(), made.ca_fingerprint);
        let again = init(&dir, &Listen::default(), &[], None).await.unwrap_err();
        assert!(again.to_string().contains("initialised before"), "{again}");
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path());
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Authority::create(&config.authority()).unwrap();
        std::fs::write(config.database(), "").unwrap();
        check(&config).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(check(&config), Err(SetupError::OpenDirectory { mode: 0o755, .. })));
    }
}
