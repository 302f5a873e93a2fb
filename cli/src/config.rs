//! Which master, which token, whom to trust: from the environment, else from a stored profile.
//!
//! Profiles live in `$XDG_CONFIG_HOME/windlass/config.toml` (`~/.config` without the variable),
//! mode 0600, because they hold tokens.

use crate::exit::Problem;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use windlass_identity::{Trust, certificates_from_pem};
use windlass_types::Fingerprint;

/// The profile that is used unless another is named.
pub const DEFAULT_PROFILE: &str = "default";

/// All that is needed to speak with a master.
#[derive(Debug, Clone)]
pub struct Connection {
    pub url: reqwest::Url,
    pub token: String,
    pub trust: Trust,
}

/// The stored file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// A master as `windlass login` stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub url: String,
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_fingerprint: Option<Fingerprint>,
    /// Certificates of authorities, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Variables of the environment, so that tests can give their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of this process; empty ones count as not set.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where profiles are stored.
///
/// # Errors
/// If neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn path(env: Environment<'_>) -> Result<PathBuf> {
    let base = match (env("XDG_CONFIG_HOME"), env("HOME")) {
        (Some(base), _) if Path::new(&base).is_absolute() => PathBuf::from(base),
        (_, Some(home)) => Path::new(&home).join(".config"),
        _ => {
            return Err(Problem::failed(
                "no place for the configuration: neither `XDG_CONFIG_HOME` nor `HOME` is set",
            )
            .into());
        }
    };
    Ok(base.join("windlass/config.toml"))
}

impl File {
    /// Read the file; an empty one where there is none.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load(path: &Path) -> Result<File> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("`{}` is not understood", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Replace the file at once: readers see the old or the new one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("cannot write the configuration")?;
        let write = || -> std::io::Result<()> {
            let parent = path.parent().unwrap_or(Path::new("."));
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            let temporary = path.with_extension(format!("new-{}", std::process::id()));
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            let done = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
            done.and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
                // The error counts; a file left behind is only untidy.
                let _ = std::fs::remove_file(&temporary);
            })
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// The connection to use: `WINDLASS_URL` decides alone (a stored token never goes to another
/// master); otherwise the profile, of which `WINDLASS_TOKEN` and `WINDLASS_CA_…` replace parts.
///
/// # Errors
/// If nothing says where the master is, or what is said makes no sense.
pub fn connection(profile: Option<&str>, env: Environment<'_>) -> Result<Connection> {
    let token = env("WINDLASS_TOKEN");
    let trust = trust_of_environment(env)?;
    if let (Some(text), None) = (env("WINDLASS_URL"), profile) {
        let missing = |what: &str, name: &str| {
            Problem::usage(format!("`WINDLASS_URL` is set, but no {what}")).hint(format!("set `{name}` too"))
        };
        return Ok(Connection {
            url: url(&text)?,
            token: token.ok_or_else(|| missing("token", "WINDLASS_TOKEN"))?,
            trust: trust.ok_or_else(|| {
                missing("authority to trust", "WINDLASS_CA_FINGERPRINT` or `WINDLASS_CA_FILE")
            })?,
        });
    }
    let path = path(env)?;
    let file = File::load(&path)?;
    let name = profile.unwrap_or(DEFAULT_PROFILE);
    let Some(stored) = file.profiles.get(name) else {
        let problem = match profile {
            None => Problem::failed("not logged in"),
            Some(name) => Problem::usage(format!("there is no profile `{name}`")),
        };
        let hint = match file.profiles.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>() {
            names if names.is_empty() => {
                "log in first: `windlass login URL --ca-fingerprint sha256:…`".into()
            }
            names => format!(
                "there is {}: choose with `--profile`, or log in with `windlass login`",
                names.join(", ")
            ),
        };
        return Err(problem.hint(hint).into());
    };
    if is_open(&path) {
        return Err(Problem::failed(format!("`{}` can be read by others, and holds tokens", path.display()))
            .hint(format!("chmod 600 {}", path.display()))
            .into());
    }
    Ok(Connection {
        url: url(&stored.url)?,
        token: token.unwrap_or_else(|| stored.token.clone()),
        trust: match trust {
            Some(trust) => trust,
            None => stored.trust().with_context(|| format!("profile `{name}` in `{}`", path.display()))?,
        },
    })
}

impl Profile {
    /// Whom this profile trusts.
    ///
    /// # Errors
    /// If it names nobody, or what it holds is no certificate.
    pub fn trust(&self) -> Result<Trust> {
        match (&self.ca_fingerprint, &self.ca) {
            (Some(pin), _) => Ok(Trust::Pin(*pin)),
            (None, Some(pem)) => Ok(Trust::Authorities(certificates_from_pem(pem)?)),
            (None, None) => Err(Problem::failed("names no authority to trust").hint("log in again").into()),
        }
    }
}

fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0)
}

fn trust_of_environment(env: Environment<'_>) -> Result<Option<Trust>> {
    if let Some(text) = env("WINDLASS_CA_FINGERPRINT") {
        return Ok(Some(Trust::Pin(fingerprint(&text).map_err(Problem::usage)?)));
    }
    let Some(path) = env("WINDLASS_CA_FILE") else { return Ok(None) };
    let pem = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read `{path}` (`WINDLASS_CA_FILE`)"))?;
    let authorities =
        certificates_from_pem(&pem).with_context(|| format!("`{path}` (`WINDLASS_CA_FILE`)"))?;
    Ok(Some(Trust::Authorities(authorities)))
}

/// The address of a master: https, a host, and no path of its own.
///
/// # Errors
/// In words for the person who typed it.
pub fn url(text: &str) -> Result<reqwest::Url, Problem> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let wrong = || {
        Problem::usage(format!("`{text}` is not the address of a master"))
            .hint("give it like `https://master.example:7400`")
    };
    let url: reqwest::Url = with_scheme.parse().map_err(|_| wrong())?;
    match url.scheme() {
        "https" => {}
        "http" => {
            return Err(Problem::usage(format!("`{text}` is not encrypted: the token would be open to all"))
                .hint("masters speak https only"));
        }
        _ => return Err(wrong()),
    }
    if url.host_str().is_none()
        || !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
    {
        return Err(wrong());
    }
    Ok(url)
}

/// A fingerprint as people paste it: with or without `sha256:`, in either case, with colons.
///
/// # Errors
/// In words for the person who typed it.
pub fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.strip_prefix("sha256:").unwrap_or(&lower).replace(':', "");
    format!("sha256:{digits}").parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn stored() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("windlass/config.toml");
        let profile = |url: &str, token: &str| Profile {
            url: url.into(),
            token: token.into(),
            ca_fingerprint: Some(PIN.parse().unwrap()),
            ca: None,
        };
        let profiles = [
            ("default".to_owned(), profile("https://a:1", "t-a")),
            ("b".into(), profile("https://b:1", "t-b")),
        ];
        File { profiles: profiles.into() }.save(&path).unwrap();
        (dir, path)
    }

    fn connect(dir: &Path, profile: Option<&str>, vars: &[(&str, &str)]) -> Result<Connection> {
        let home = dir.to_str().unwrap().to_owned();
        connection(profile, &|name| {
            let own = vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            own.or_else(|| (name == "XDG_CONFIG_HOME").then(|| home.clone()))
        })
    }

    #[test]
    fn profiles_are_private_and_read_back() {
        let (dir, path) = stored();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let connection = connect(dir.path(), None, &[]).unwrap();
        assert_eq!((connection.url.as_str(), connection.token.as_str()), ("https://a:1/", "t-a"));
        assert_eq!(connect(dir.path(), Some("b"), &[]).unwrap().token, "t-b");
        assert!(connect(dir.path(), Some("c"), &[]).unwrap_err().to_string().contains("no profile `c`"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(connect(dir.path(), None, &[]).unwrap_err().to_string().contains("can be read by others"));
    }

    #[test]
    fn a_stored_token_goes_to_its_own_master_only() {
        let (dir, _) = stored();
        let error = connect(
            dir.path(),
            None,
            &[("WINDLASS_URL", "https://evil:1"), ("WINDLASS_CA_FINGERPRINT", PIN)],
        );
        assert!(error.unwrap_err().to_string().contains("no token"));
        let error = connect(dir.path(), None, &[("WINDLASS_URL", "https://x:1"), ("WINDLASS_TOKEN", "t")]);
        assert!(error.unwrap_err().to_string().contains("no authority"));
    }

    #[test]
    fn the_environment_replaces_parts() {
        let (dir, _) = stored();
        let vars = [("WINDLASS_TOKEN", "t-env"), ("WINDLASS_CA_FINGERPRINT", OTHER)];
        let connection = connect(dir.path(), None, &vars).unwrap();
        assert_eq!((connection.url.as_str(), connection.token.as_str()), ("https://a:1/", "t-env"));
        assert!(matches!(connection.trust, Trust::Pin(pin) if pin.to_string() == OTHER));
    }

    #[test]
    fn nobody_is_logged_in_at_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(connect(dir.path(), None, &[]).unwrap_err().to_string(), "not logged in");
    }

    #[test]
    fn addresses() {
        for (text, url_text) in [
            ("https://m:7400", "https://m:7400/"),
            ("m:7400", "https://m:7400/"),
            ("https://m/prefix", "https://m/prefix"),
        ] {
            assert_eq!(url(text).unwrap().as_str(), url_text);
        }
        for bad in ["http://m:7400", "ftp://m", "https://", "https://u:p@m", "https://m?x=1", "file:///etc"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fingerprints_as_pasted() {
        let digits = "AA:".repeat(31) + "AA";
        for text in [PIN, &PIN[7..], &digits, &format!("SHA256:{digits}")] {
            assert_eq!(fingerprint(text).unwrap().to_string(), PIN, "{text}");
        }
        assert!(fingerprint("sha256:aa").is_err());
    }
}
