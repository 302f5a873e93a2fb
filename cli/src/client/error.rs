//! What goes wrong between here and the master, with what may help.

use crate::exit::Exit;
use rustls::CertificateError;
use std::error::Error as _;
use windlass_types::api::ApiError;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No reply: no connection, no agreement on TLS, or it broke on the way.
    #[error("cannot reach the master at `{url}`: {why}")]
    Unreachable { url: String, why: String, hint: Option<String>, connected: bool },
    #[error("the master at `{url}` gave no reply within {seconds} seconds")]
    Silent { url: String, seconds: u64 },
    /// The master said no.
    #[error("{}{}", error.message, error.pointer.as_deref().filter(|pointer| !pointer.is_empty()).map(|pointer| format!(" (at `{pointer}`)")).unwrap_or_default())]
    Api { status: u16, error: ApiError },
    #[error("the reply to `{path}` is not understood")]
    Reply {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    /// More than was asked for.
    #[error("the reply to `{path}` is larger than {} MiB", most >> 20)]
    TooLarge { path: String, most: u64 },
    #[error("cannot set up the connection")]
    Tls(#[from] windlass_identity::IdentityError),
    #[error("cannot set up the connection")]
    Setup(#[source] reqwest::Error),
    /// The stream of events broke and did not come back.
    #[error("lost the events")]
    EventsLost(#[source] Box<ClientError>),
}

/// Errors of the API that come from what was typed (`docs/errors.md`).
const USAGE: [&str; 8] = [
    "unknown_operation",
    "planned_operation",
    "bad_arguments",
    "bad_deadline",
    "bad_target",
    "bad_where",
    "bad_change",
    "bad_plan",
];

impl ClientError {
    pub(super) fn unreachable(url: &str, source: reqwest::Error) -> Self {
        let (why, hint) = explain(&source);
        ClientError::Unreachable { url: url.into(), why, hint, connected: !source.is_connect() }
    }

    /// An error from the body of a reply; from its status where the body is none of ours.
    pub(super) fn of_reply(status: u16, body: &[u8]) -> Self {
        let error = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
            code: "no_api_error".into(),
            message: format!("the master answered with http status {status}"),
            hint: (300..500)
                .contains(&status)
                .then(|| "does the url name a windlass master, and its operator API?".into()),
            pointer: None,
        });
        ClientError::Api { status, error }
    }

    /// The exit code it asks for.
    pub fn exit(&self) -> Exit {
        match self {
            ClientError::Api { status: 401 | 403, .. } => Exit::Denied,
            ClientError::Api { error, .. } if USAGE.contains(&error.code.as_str()) => Exit::Usage,
            ClientError::EventsLost(inner) => inner.exit(),
            _ => Exit::Failed,
        }
    }

    /// What may help.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Unreachable { hint, .. } => hint.clone(),
            ClientError::Api { status: 401, error } => Some(
                error.hint.clone().unwrap_or_else(|| "log in with a token that is good: `windlass login`".into()),
            ),
            // The hint of the API speaks of routes; here there is a command for it.
            ClientError::Api { error, .. }
                if error.code == "unknown_operation" && error.hint.as_deref().is_none_or(|hint| hint.contains("/operations")) =>
            {
                Some("`windlass ops list` shows what the nodes offer".into())
            }
            ClientError::Api { error, .. } => error.hint.clone(),
            ClientError::Reply { .. } => {
                Some("master and command line may be of different versions: compare `windlass whoami` and `windlass --version`".into())
            }
            _ => None,
        }
    }

    /// True when the request may have reached the master all the same.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            ClientError::Unreachable { connected, .. } => *connected,
            ClientError::Silent { .. } | ClientError::Reply { .. } => true,
            // A door of several masters that lost the leader on the way.
            ClientError::Api { status, .. } => *status == 502,
            _ => false,
        }
    }

    /// True when asking again may help: the master was away, not wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Unreachable { hint: None, .. } | ClientError::Silent { .. } => true,
            ClientError::Unreachable { why, .. } => why == REFUSED,
            ClientError::Api { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}

const REFUSED: &str = "connection refused";

/// How a connection ends when the other side goes away.
const BROKEN: [std::io::ErrorKind; 4] = [
    std::io::ErrorKind::UnexpectedEof,
    std::io::ErrorKind::ConnectionReset,
    std::io::ErrorKind::ConnectionAborted,
    std::io::ErrorKind::BrokenPipe,
];

/// The root of a failed request in words, and what may help.
pub fn explain(error: &reqwest::Error) -> (String, Option<String>) {
    let mut cause = error.source();
    let mut last = None;
    while let Some(error) = cause {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return explain_tls(tls);
        }
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            return (REFUSED.into(), Some("is it running, and is the address right?".into()));
        }
        if error.downcast_ref::<std::io::Error>().is_some_and(|io| BROKEN.contains(&io.kind())) {
            return ("the connection broke".into(), None);
        }
        last = Some(error.to_string());
        cause = next_cause(error);
    }
    match last {
        _ if error.is_timeout() => ("no connection in time".into(), None),
        Some(last) => (last, None),
        None => (error.to_string(), None),
    }
}

/// The cause of an error. An `io::Error` that carries another one does not name it as its source:
/// it names the source of that one.
fn next_cause<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(carried) => Some(carried),
        None => error.source(),
    }
}

fn explain_tls(error: &rustls::Error) -> (String, Option<String>) {
    let hint = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            return (
                "its certificate is not from the authority that you trust".into(),
                Some("compare the fingerprint that the master prints with yours (`windlass login --ca-fingerprint …`); if they differ, someone may be in between".into()),
            );
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "use a name that the certificate of the master holds (`server_names` in its configuration)",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "compare the clocks of this machine and of the master",
        rustls::Error::InvalidMessage(_) => {
            "does the url name the operator API of a master (port 7400 by default)?"
        }
        _ => return (error.to_string(), None),
    };
    (error.to_string(), Some(hint.into()))
}
