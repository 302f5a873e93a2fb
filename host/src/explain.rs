//! What a failed call means, in words that help the person at the node.
//!
//! With TLS 1.3 a client that the server refuses learns of it only at its first read, as an alert
//! inside an HTTP/2 error inside a gRPC status. The alert is found by its name in the chain of errors:
//! the libraries between keep the text and not the type.

use tonic::{Code, Status};

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// It may go away by itself.
    Retry,
    /// Only a person can help: ask seldom.
    RetrySlowly,
    /// The master does not take this certificate: ask for one.
    Enroll,
}

/// A failure, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// What may help; empty if nothing is known.
    pub hint: String,
    pub remedy: Remedy,
}

impl Problem {
    /// Put one together.
    pub fn new(remedy: Remedy, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Problem { message: message.into(), hint: hint.into(), remedy }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

/// All texts of an error and its sources.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}

/// Explain a status that `peer` gave, or that the transport to it made.
pub fn explain(status: &Status, peer: &str) -> Problem {
    let text = chain(status);
    if let Some(problem) = tls(&text, peer) {
        return problem;
    }
    let said = status.message();
    match status.code() {
        Code::Unauthenticated => Problem::new(
            Remedy::Enroll,
            format!("{peer} does not know this node's certificate: {said}"),
            "the host asks for a new one; `windlass nodes` on the master shows it",
        ),
        Code::PermissionDenied => Problem::new(
            Remedy::RetrySlowly,
            format!("{peer} refuses this node: {said}"),
            "`windlass nodes` on the master shows its state and flags",
        ),
        Code::AlreadyExists => Problem::new(
            Remedy::RetrySlowly,
            format!("{peer} has a live session of another process with this node's identity: {said}"),
            "a copy of a state_dir, on this machine or another, needs an empty one instead",
        ),
        Code::Unimplemented | Code::FailedPrecondition => Problem::new(
            Remedy::RetrySlowly,
            format!("{peer} does not speak this host's protocol: {said}"),
            "host and master must be of versions that fit",
        ),
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded | Code::Internal => {
            Problem::new(Remedy::Retry, format!("{peer}: {}", transport(&text)), "")
        }
        code => Problem::new(Remedy::Retry, format!("{peer}: {code:?}: {said}"), ""),
    }
}

/// Leave out what the layers say about each other.
fn transport(text: &str) -> String {
    for (part, plain) in [
        ("Connection refused", "connection refused"),
        ("connecting took too long", "no answer to the attempt to connect"),
        ("handshake took too long", "the TLS handshake took too long"),
        ("No route to host", "no route to host"),
        ("Network is unreachable", "network is unreachable"),
        ("Connection reset", "connection reset"),
        ("tls handshake eof", "the connection was closed during the TLS handshake"),
    ] {
        if text.contains(part) {
            return plain.into();
        }
    }
    text.to_owned()
}

fn tls(text: &str, peer: &str) -> Option<Problem> {
    let has = |part: &str| text.contains(part);
    // What this side found wrong with the master.
    if has("invalid peer certificate") {
        let problem = if has("UnknownIssuer") || has("BadSignature") {
            Problem::new(
                Remedy::RetrySlowly,
                format!("{peer} is not a master of the authority that this host trusts"),
                "compare `ca_fingerprint` or `ca_file` with what `windlass-master check` prints; \
                 if they are the same, somebody else answers at that address",
            )
        } else if has("NotValidForName") {
            Problem::new(
                Remedy::RetrySlowly,
                format!("the certificate of {peer} does not name that address"),
                "add the name to `server_names` of the master, or use a name it has",
            )
        } else if has("Expired") || has("NotValidYet") {
            Problem::new(
                Remedy::RetrySlowly,
                format!("the certificate of {peer} is not valid now"),
                "compare the clocks of both machines",
            )
        } else {
            Problem::new(Remedy::RetrySlowly, format!("the certificate of {peer} is no good: {text}"), "")
        };
        return Some(problem);
    }
    // What the master found wrong with this side.
    if !(has("fatal alert") || has("AlertReceived")) {
        return None;
    }
    Some(if has("CertificateRevoked") {
        Problem::new(
            Remedy::RetrySlowly,
            format!("{peer} has revoked this node"),
            "to let it join again, delete it on the master (`windlass nodes delete NAME`)",
        )
    } else if has("CertificateExpired") {
        Problem::new(
            Remedy::Enroll,
            format!("{peer}: this node's certificate has expired"),
            "the host asks for a new one",
        )
    } else if has("UnknownCA") || has("UnknownCa") || has("DecryptError") {
        Problem::new(
            Remedy::Enroll,
            format!("{peer} does not recognise the authority of this node's certificate"),
            "was the master set up anew? the host asks for a new certificate",
        )
    } else if has("CertificateUnknown") || has("AccessDenied") || has("BadCertificate") {
        Problem::new(
            Remedy::Enroll,
            format!("{peer} does not know this node's certificate"),
            "the node may have been deleted on the master; the host asks to join again",
        )
    } else if has("CertificateRequired") {
        Problem::new(Remedy::Enroll, format!("{peer} wants a certificate and this node showed none"), "")
    } else {
        Problem::new(Remedy::Retry, format!("{peer} ended the TLS handshake: {text}"), "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_remedy() {
        for (code, remedy) in [
            (Code::Unauthenticated, Remedy::Enroll),
            (Code::PermissionDenied, Remedy::RetrySlowly),
            (Code::AlreadyExists, Remedy::RetrySlowly),
            (Code::Unavailable, Remedy::Retry),
            (Code::ResourceExhausted, Remedy::Retry),
        ] {
            let problem = explain(&Status::new(code, "because"), "m:7401");
            assert_eq!(problem.remedy, remedy, "{code:?}");
            assert!(problem.message.contains("m:7401") && problem.message.contains("because"), "{problem}");
        }
    }

    #[test]
    fn alerts_are_found_in_the_text() {
        for (text, remedy) in [
            ("transport error: received fatal alert: CertificateRevoked", Remedy::RetrySlowly),
            ("transport error: received fatal alert: CertificateExpired", Remedy::Enroll),
            ("transport error: received fatal alert: UnknownCA", Remedy::Enroll),
            ("transport error: received fatal alert: CertificateUnknown", Remedy::Enroll),
            ("invalid peer certificate: UnknownIssuer", Remedy::RetrySlowly),
            (
                "invalid peer certificate: certificate not valid for name; NotValidForName",
                Remedy::RetrySlowly,
            ),
        ] {
            assert_eq!(explain(&Status::unknown(text), "m").remedy, remedy, "{text}");
        }
    }
}
