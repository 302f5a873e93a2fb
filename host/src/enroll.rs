//! Getting a certificate.
//!
//! The host sends a request signed with its key and then waits, in calls of half a minute, until an
//! operator decides. The connection proves the master (its chain must end in the trusted authority),
//! not the host: the operator does that by comparing the fingerprint, or a join token does.

use crate::{
    backoff::Backoff,
    config::{Config, JoinToken},
    credentials::{Certificate, CredentialError, Credentials},
    endpoints::{Endpoint, Rotation},
    explain::{Problem, Remedy, explain},
    facts::Facts,
    session::State,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use windlass_identity::{ChannelOptions, NodeKey, channel, client_config};
use windlass_proto::{
    MAX_MESSAGE_BYTES,
    v1::{EnrollRequest, enroll_client::EnrollClient, enroll_reply::State as Decision},
};

/// How long one call may wait for a decision.
const WAIT: Duration = Duration::from_secs(30);
/// The master answers by then, or the call has failed.
const CALL: Duration = Duration::from_secs(45);
/// A master that does not wait is not asked more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// While nothing changes, say so this often.
const REMIND: Duration = Duration::from_secs(600);
/// Facts that go with a request, in bytes at most.
const FACTS_BYTES: usize = 64 << 10;

/// What enrolment needs.
pub struct Enrolment<'a> {
    pub config: &'a Config,
    pub credentials: &'a Credentials,
    pub facts: &'a Facts,
    pub key: &'a NodeKey,
    /// For those who watch this host.
    pub state: &'a watch::Sender<State>,
}

enum Reply {
    Accepted(Box<Certificate>),
    Pending(String),
    Rejected(String),
    Revoked(String),
}

impl Enrolment<'_> {
    /// Ask until there is a certificate. Dropping the future stops.
    pub async fn run(&self) -> Certificate {
        let mut rotation = Rotation::new(self.config.masters.iter().map(|m| m.enroll.clone()).collect());
        let mut backoff = Backoff::default();
        let mut last_said: Option<(String, Instant)> = None;
        let mut say = |text: String, warn: bool| {
            self.state.send_replace(State::Enrolling(text.clone()));
            let news = last_said.as_ref().is_none_or(|(last, at)| *last != text || at.elapsed() >= REMIND);
            if news {
                if warn {
                    tracing::warn!("{text}");
                } else {
                    tracing::info!("{text}");
                }
                last_said = Some((text, Instant::now()));
            }
        };
        let mut stay: Option<Endpoint> = None;
        let mut asked: Option<Endpoint> = None;
        loop {
            let endpoint = match stay.take() {
                Some(endpoint) => Ok(endpoint),
                None => rotation.next().await,
            };
            let endpoint = match endpoint {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    say(format!("cannot enrol: {error}"), true);
                    tokio::time::sleep(backoff.failed(1)).await;
                    continue;
                }
            };
            let began = Instant::now();
            // The first answer at once, so that whoever watches learns what to do; then wait for news.
            let wait = if asked.replace(endpoint.clone()).as_ref() == Some(&endpoint) {
                WAIT
            } else {
                Duration::ZERO
            };
            match self.ask(&endpoint, wait).await {
                Ok(Reply::Accepted(certificate)) => {
                    tracing::info!(node = %certificate.node.id, "accepted by {endpoint}");
                    return *certificate;
                }
                Ok(Reply::Pending(words)) => {
                    backoff.reset();
                    say(self.pending(&endpoint, &words), false);
                    // Ask the same master again: it holds the request.
                    stay = Some(endpoint);
                    tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
                }
                Ok(Reply::Rejected(words)) => {
                    say(
                        format!(
                            "{endpoint} has rejected this node ({}): {words}; asking again now and then",
                            self.key.fingerprint()
                        ),
                        true,
                    );
                    tokio::time::sleep(backoff.refused()).await;
                }
                Ok(Reply::Revoked(words)) => {
                    say(
                        format!(
                            "{endpoint} has revoked this node ({}): {words}; to let it join again, delete it \
                             on the master (`windlass nodes delete {}`)",
                            self.key.fingerprint(),
                            self.config.name
                        ),
                        true,
                    );
                    tokio::time::sleep(backoff.refused()).await;
                }
                Err(problem) => {
                    say(format!("cannot enrol: {problem}"), true);
                    let wait = match problem.remedy {
                        Remedy::Retry => backoff.failed(rotation.alternatives()),
                        Remedy::RetrySlowly | Remedy::Enroll => backoff.refused(),
                    };
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn pending(&self, endpoint: &Endpoint, words: &str) -> String {
        let fingerprint = self.key.fingerprint();
        // What to do is said below; the master's words count where they say something else.
        let own = words.is_empty() || words.contains(&fingerprint.to_string());
        let more = if own { String::new() } else { format!(" ({words})") };
        format!(
            "waiting for an operator of {endpoint}{more}; this node's key is {fingerprint}; accept it with: \
             windlass nodes accept {} --fingerprint {fingerprint}",
            self.config.name
        )
    }

    async fn ask(&self, endpoint: &Endpoint, wait: Duration) -> Result<Reply, Problem> {
        let own = |error: String| Problem::new(Remedy::RetrySlowly, error, "");
        let tls = client_config(self.credentials.trust(), None, &["h2"]).map_err(|e| own(e.to_string()))?;
        let options = ChannelOptions { dial: Some(endpoint.address), ..ChannelOptions::default() };
        let channel =
            channel(&endpoint.name, Arc::new(tls), &options).map_err(|error| own(error.to_string()))?;
        let nonce: [u8; 32] = rand::random();
        let facts = self.facts.json();
        let request = EnrollRequest {
            csr_pem: self.key.csr_pem().map_err(|error| own(error.to_string()))?,
            name: self.config.name.to_string(),
            join_token: self.token()?,
            facts_json: if facts.len() <= FACTS_BYTES { facts.into() } else { "{}".into() },
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            host_version: env!("CARGO_PKG_VERSION").into(),
            nonce: nonce.to_vec().into(),
        };
        let mut client = EnrollClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let peer = endpoint.to_string();
        let reply = tokio::time::timeout(CALL, client.request(request))
            .await
            .map_err(|_| Problem::new(Remedy::Retry, format!("{peer} does not answer"), ""))?
            .map_err(|status| refusal(&status, &peer))?
            .into_inner();
        if reply.nonce[..] != nonce {
            return Err(own(format!("{peer} answered another request than this one")));
        }
        match reply.state() {
            Decision::Accepted => {
                let stored = self.credentials.store(&reply.certificate_pem, &reply.ca_pem, self.key);
                match stored {
                    Ok(certificate) => Ok(Reply::Accepted(Box::new(certificate))),
                    Err(error @ CredentialError::File { .. }) => Err(own(crate::explain::chain(&error))),
                    Err(error) => Err(own(format!("{peer}: {}", crate::explain::chain(&error)))),
                }
            }
            Decision::Pending => Ok(Reply::Pending(reply.message)),
            Decision::Rejected => Ok(Reply::Rejected(reply.message)),
            Decision::Revoked => Ok(Reply::Revoked(reply.message)),
            Decision::Unspecified => {
                Err(own(format!("{peer} answered with a state this host does not know")))
            }
        }
    }

    fn token(&self) -> Result<String, Problem> {
        match &self.config.join_token {
            None => Ok(String::new()),
            Some(token) => match (token.read(), token) {
                (Ok(token), _) => Ok(token),
                // It may have been removed after it was used; the node can still be accepted by hand.
                (Err(error), JoinToken::File(path)) if error.kind() == std::io::ErrorKind::NotFound => {
                    tracing::debug!("no join token in `{}`", path.display());
                    Ok(String::new())
                }
                (Err(error), _) => {
                    Err(Problem::new(Remedy::RetrySlowly, format!("cannot read the join token: {error}"), ""))
                }
            },
        }
    }
}

/// In enrolment a refusal is about the token or the request, never about a certificate.
fn refusal(status: &tonic::Status, peer: &str) -> Problem {
    use tonic::Code;
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument | Code::FailedPrecondition => {
            Problem::new(Remedy::RetrySlowly, format!("{peer} refuses the request: {}", status.message()), "")
        }
        _ => explain(status, peer),
    }
}
