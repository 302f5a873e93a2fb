//! `windlass-host check`: what would keep this host from working, said before it is started.
//!
//! It changes nothing: no key is made, no request is sent, the journal stays closed. The handshakes
//! with the masters are real ones.

use crate::{
    config::{Authority, Config},
    credentials::Credentials,
    endpoints::{Endpoint, lookup},
    explain::{Problem, chain, explain},
    journal::now_ms,
};
use serde::Serialize;
use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::io::AsyncReadExt as _;
use windlass_identity::{ClientIdentity, client_config};

/// Limit of connecting and of the handshake, each.
const LIMIT: Duration = Duration::from_secs(5);
/// A master that refuses a certificate says so at once.
const ALERT: Duration = Duration::from_millis(500);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `state_dir`.
    pub what: String,
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What may help, when it is bad.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

impl Finding {
    /// All is well.
    pub fn good(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Finding { what: what.into(), ok: true, detail: detail.into(), hint: String::new() }
    }
    /// It is not.
    pub fn bad(what: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Finding { what: what.into(), ok: false, detail: detail.into(), hint: hint.into() }
    }
    fn problem(what: impl Into<String>, problem: Problem) -> Self {
        Finding::bad(what, problem.message, problem.hint)
    }
}

/// Look at everything but the plugins, which [`crate::plugins`] looks at.
pub async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        Finding::good("name", config.name.to_string()),
        state_dir(&config.state_dir),
        helper(&config.compile_helper),
    ];
    let credentials = match Credentials::new(config) {
        Ok(credentials) => {
            let detail = match &config.authority {
                Authority::Fingerprint(fingerprint) => format!("pinned by {fingerprint}"),
                Authority::File(path) => format!("certificates in `{}`", path.display()),
            };
            findings.push(Finding::good("authority", detail));
            credentials
        }
        Err(error) => {
            findings.push(Finding::bad(
                "authority",
                chain(&error),
                "`ca_file` must hold the authority's certificate as PEM",
            ));
            return findings;
        }
    };
    let identity = certificate(&credentials, &mut findings);
    for master in &config.masters {
        reach("node listener", &master.nodes, &credentials, identity.clone(), &mut findings).await;
        reach("enrolment listener", &master.enroll, &credentials, None, &mut findings).await;
    }
    findings
}

fn state_dir(path: &Path) -> Finding {
    let what = "state_dir";
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::good(what, format!("`{}` will be made at the first start", path.display()))
        }
        Err(error) => Finding::bad(what, format!("`{}`: {error}", path.display()), "run this as root"),
        Ok(found) if !found.is_dir() => {
            Finding::bad(what, format!("`{}` is not a folder", path.display()), "")
        }
        Ok(found) if found.mode() & 0o077 != 0 => Finding::bad(
            what,
            format!("`{}` has mode {:03o}", path.display(), found.mode() & 0o777),
            format!("others must not see it: chmod 700 {}", path.display()),
        ),
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => Finding::bad(
            what,
            format!("`{}` belongs to user {}", path.display(), found.uid()),
            "it must belong to the user that runs the host",
        ),
        Ok(_) => Finding::good(what, format!("`{}`", path.display())),
    }
}

fn helper(path: &Path) -> Finding {
    let what = "compile_helper";
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => {
            Finding::good(what, format!("`{}`", path.display()))
        }
        Ok(_) => {
            Finding::bad(what, format!("`{}` is not a program", path.display()), "install windlass-compile")
        }
        Err(error) => Finding::bad(
            what,
            format!("`{}`: {error}", path.display()),
            "install windlass-compile beside windlass-host, or set `compile_helper`",
        ),
    }
}

/// What is known about key and certificate; the identity to show, if there is a good one.
fn certificate(credentials: &Credentials, findings: &mut Vec<Finding>) -> Option<Arc<ClientIdentity>> {
    let key = match credentials.load_key() {
        Ok(Some(key)) => key,
        Ok(None) => {
            findings.push(Finding::good("key", "will be made at the first start"));
            findings.push(Finding::good("certificate", "none yet: the host asks for one when it starts"));
            return None;
        }
        Err(error) => {
            findings.push(Finding::bad(
                "key",
                chain(&error),
                "a host without its key must be enrolled anew: remove the file to have a new one made",
            ));
            return None;
        }
    };
    findings.push(Finding::good("key", key.fingerprint().to_string()));
    match credentials.certificate(&key) {
        Ok(None) => {
            findings.push(Finding::good("certificate", "none yet: the host asks for one when it runs"));
            None
        }
        Ok(Some(found)) if found.is_expired() => {
            findings.push(Finding::bad(
                "certificate",
                format!("expired {} ago", span(now_ms() - found.facts.not_after_ms)),
                "the host asks for a new one when it runs; see that it runs and reaches a master",
            ));
            None
        }
        Ok(Some(found)) => {
            let left = span(found.facts.not_after_ms - now_ms());
            let detail = format!(
                "node {}, generation {}, {left} left, renewal in {}",
                found.node.id,
                found.node.generation,
                span(i64::try_from(found.renew_in().as_millis()).unwrap_or(i64::MAX))
            );
            if found.facts.not_before_ms > now_ms() {
                findings.push(Finding::bad(
                    "certificate",
                    "it is not valid yet",
                    "this machine's clock is behind",
                ));
                return None;
            }
            match ClientIdentity::new(&found.chain_pem, &key) {
                Ok(identity) => {
                    findings.push(Finding::good("certificate", detail));
                    Some(identity)
                }
                Err(error) => {
                    findings.push(Finding::bad("certificate", chain(&error), ""));
                    None
                }
            }
        }
        Err(error) => {
            findings.push(Finding::bad(
                "certificate",
                chain(&error),
                "the host asks for a new one when it runs",
            ));
            None
        }
    }
}

/// A duration for people.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

async fn reach(
    listener: &str,
    name: &str,
    credentials: &Credentials,
    identity: Option<Arc<ClientIdentity>>,
    findings: &mut Vec<Finding>,
) {
    let what = format!("{listener} {name}");
    let endpoints = match lookup(name).await {
        Ok(endpoints) => endpoints,
        Err(error) => {
            findings.push(Finding::bad(
                what,
                format!("cannot look up the name: {error}"),
                "see /etc/hosts and the name servers, or give an address in `masters`",
            ));
            return;
        }
    };
    for endpoint in endpoints {
        let what = format!("{listener} {endpoint}");
        findings.push(match handshake(&endpoint, credentials, identity.clone(), listener).await {
            Ok(detail) => Finding::good(what, detail),
            Err(problem) => Finding::problem(what, problem),
        });
    }
}

async fn handshake(
    endpoint: &Endpoint,
    credentials: &Credentials,
    identity: Option<Arc<ClientIdentity>>,
    listener: &str,
) -> Result<String, Problem> {
    let failed = |error: &dyn std::error::Error| {
        explain(&tonic::Status::unavailable(chain(error)), &endpoint.to_string())
    };
    let late = || explain(&tonic::Status::unavailable("connecting took too long"), &endpoint.to_string());
    let shows = identity.is_some();
    let config = client_config(credentials.trust(), identity, &["h2"]).map_err(|error| failed(&error))?;
    let (host, _) = crate::config::host_and_port(&endpoint.name)
        .map_err(|error| explain(&tonic::Status::internal(error), &endpoint.to_string()))?;
    let server = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    let tcp = tokio::time::timeout(LIMIT, tokio::net::TcpStream::connect(endpoint.address))
        .await
        .map_err(|_| late())?
        .map_err(|error| failed(&error))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = tokio::time::timeout(LIMIT, connector.connect(server, tcp))
        .await
        .map_err(|_| late())?
        .map_err(|error| failed(&error))?;
    let is_node_listener = listener.starts_with("node");
    if is_node_listener && !shows {
        return Ok("reached, and it proves itself; this host has no certificate to show yet".into());
    }
    // The server refuses a certificate after the client's side of the handshake is done.
    let mut byte = [0];
    match tokio::time::timeout(ALERT, tls.read(&mut byte)).await {
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(_)) | Err(_) if is_node_listener => Ok("reached; both sides prove themselves".into()),
        Ok(Ok(_)) | Err(_) => Ok("reached, and it proves itself".into()),
    }
}
