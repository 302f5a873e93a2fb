//! How hosts ask for a certificate.
//!
//! Everything here comes from strangers, so everything has a limit: requests by address, sizes,
//! nodes that wait, connections. A request proves possession of its key and nothing else; what it
//! says about itself is shown to operators and believed by nobody.

use crate::{
    ca::{Authority, Request},
    config::Config,
    fleet::{Admission, Ask, EnrollRefused, Fleet, FleetError},
    uncut::uncut,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use windlass_identity::PeerInfo;
use windlass_proto::v1::{EnrollReply, EnrollRequest, enroll_reply::State, enroll_server};
use windlass_types::{NodeName, api::NodeState};

/// Largest facts, in bytes of JSON.
pub(crate) const MAX_FACTS_BYTES: usize = 64 << 10;
const MAX_WAIT: Duration = Duration::from_secs(30);
const MAX_NONCE_BYTES: usize = 64;
const MAX_TEXT_BYTES: usize = 256;
/// Largest message: request, facts and some room.
const MAX_MESSAGE_BYTES: usize = 128 << 10;
/// Open connections of strangers.
const MAX_CONNECTIONS: usize = 4096;
/// A stranger's connection ends after this; a host that waits for its operator simply connects again.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(90);

/// The enrolment service.
#[derive(Debug)]
pub struct Enrollment {
    pub(crate) config: Arc<Config>,
    pub(crate) fleet: Fleet,
    pub(crate) authority: Arc<Authority>,
    pub(crate) rate: RateLimit,
    pub(crate) shutdown: CancellationToken,
}

/// Serve new hosts until `shutdown`.
///
/// # Errors
/// If the server fails.
pub(crate) async fn serve(
    routes: axum::Router,
    listener: windlass_identity::TlsListener,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    tonic::transport::Server::builder()
        .timeout(MAX_WAIT + Duration::from_secs(30))
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_WAIT + Duration::from_secs(5))
        .max_concurrent_streams(4)
        .http2_max_header_list_size(8 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(128 << 10)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(
            crate::connections::limited(listener.incoming(), slots),
            shutdown.cancelled_owned(),
        )
        .await
}

impl Enrollment {
    /// The service as routes.
    pub(crate) fn routes(self) -> axum::Router {
        let service = enroll_server::EnrollServer::new(self).max_decoding_message_size(MAX_MESSAGE_BYTES);
        tonic::service::Routes::new(service).into_axum_router()
    }

    async fn answer(&self, request: EnrollRequest, peer: &PeerInfo) -> Result<EnrollReply, Status> {
        let wait = Duration::from_millis(u64::from(request.wait_ms)).min(MAX_WAIT);
        let until = tokio::time::Instant::now() + wait;
        loop {
            let csr = Request::from_pem(&request.csr_pem)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            let ask = self.ask(&request, &csr, peer)?;
            let max_pending = usize::try_from(self.config.enroll.max_pending).unwrap_or(usize::MAX);
            let fleet = self.fleet.clone();
            let Admission { node, name_taken, joined } =
                uncut(async move { fleet.admit(ask, max_pending).await }).await.map_err(status)?;
            if joined {
                // An operator has vouched for this one: a whole rack may join at once.
                self.rate.give_back(peer.address.ip());
            }
            let mut reply = EnrollReply {
                node_id: node.id.to_string(),
                node_name: node.name.to_string(),
                nonce: request.nonce.clone(),
                ..Default::default()
            };
            // Listening begins before the look at the state, so that no decision falls between.
            let decided = node.presence.decided.notified();
            tokio::pin!(decided);
            decided.as_mut().enable();
            match self.fleet.node(node.id).map_or(NodeState::Pending, |node| node.state) {
                NodeState::Accepted => {
                    let ttl = self.config.certificate_ttl.0;
                    let (fleet, authority) = (self.fleet.clone(), self.authority.clone());
                    let id = node.id;
                    let issue = async move { fleet.issue_first(&authority, id, csr, ttl).await };
                    let (node, issued) = uncut(issue).await.map_err(status)?;
                    tracing::info!(node = %node.id, name = %node.name, generation = node.issued_generation,
                        "issued a certificate");
                    reply.set_state(State::Accepted);
                    reply.node_name = node.name.to_string();
                    reply.certificate_pem = issued.chain_pem;
                    self.authority.pem().clone_into(&mut reply.ca_pem);
                    return Ok(reply);
                }
                NodeState::Rejected => {
                    reply.set_state(State::Rejected);
                    reply.message = format!(
                        "node `{}` was rejected by an operator: `windlass nodes accept {}` lets it in after all, \
                         `windlass nodes delete {}` lets it ask anew",
                        node.name, node.id, node.id
                    );
                    return Ok(reply);
                }
                NodeState::Revoked => {
                    reply.set_state(State::Revoked);
                    reply.message = format!(
                        "node `{}` was revoked by an operator: to let this host ask anew, `windlass nodes delete {}`",
                        node.name, node.id
                    );
                    return Ok(reply);
                }
                NodeState::Pending => {}
            }
            let woken = tokio::select! {
                () = decided => true,
                () = tokio::time::sleep_until(until) => false,
                () = self.shutdown.cancelled() => return Err(Status::unavailable("the master is shutting down")),
            };
            if woken && self.fleet.node(node.id).is_some() {
                continue;
            }
            reply.set_state(State::Pending);
            reply.message = if woken {
                "the request was deleted by an operator".to_owned()
            } else if name_taken {
                format!(
                    "the name `{0}` belongs to another node: accept this one under another name with \
                     `windlass nodes accept {1} --name NAME --fingerprint {2}`, or change `name` on the host",
                    node.name, node.id, node.fingerprint
                )
            } else {
                format!(
                    "waiting for an operator: `windlass nodes accept {} --fingerprint {}`",
                    node.name, node.fingerprint
                )
            };
            return Ok(reply);
        }
    }

    fn ask(&self, request: &EnrollRequest, csr: &Request, peer: &PeerInfo) -> Result<Ask, Status> {
        let bad = |what: &str| Status::invalid_argument(what.to_owned());
        if request.nonce.len() > MAX_NONCE_BYTES {
            return Err(bad("the nonce is larger than 64 bytes"));
        }
        if request.host_version.len() > MAX_TEXT_BYTES || request.join_token.len() > MAX_TEXT_BYTES {
            return Err(bad("version or join token is longer than 256 bytes"));
        }
        let name: NodeName =
            request.name.parse().map_err(|error| Status::invalid_argument(format!("{error}")))?;
        Ok(Ask {
            fingerprint: csr.fingerprint(),
            name,
            join_token: Some(request.join_token.clone()).filter(|token| !token.is_empty()),
            facts: facts(&request.facts_json).map_err(|error| bad(&error))?,
            host_version: Some(request.host_version.clone()).filter(|version| !version.is_empty()),
            address: peer.address.ip().to_canonical().to_string(),
        })
    }
}

/// Facts from the wire: a JSON object, or nothing.
pub(crate) fn facts(json: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    if json.is_empty() {
        return Ok(BTreeMap::new());
    }
    if json.len() > MAX_FACTS_BYTES {
        return Err("the facts are larger than 64 KiB".into());
    }
    serde_json::from_slice(json).map_err(|error| format!("the facts are not a JSON object: {error}"))
}

fn status(refused: EnrollRefused) -> Status {
    let message = refused.to_string();
    match refused {
        EnrollRefused::BadToken | EnrollRefused::Locked(_) => Status::permission_denied(message),
        EnrollRefused::TooManyPending => Status::resource_exhausted(message),
        EnrollRefused::Connected(_) => Status::already_exists(message),
        EnrollRefused::Fleet(FleetError::Store(error)) => {
            tracing::error!(%error, "cannot enrol a node");
            Status::unavailable("the master cannot reach its database: try again")
        }
        EnrollRefused::Fleet(_) => Status::failed_precondition(message),
        EnrollRefused::Authority(error) => {
            tracing::error!(%error, "cannot issue a certificate");
            Status::internal("the master cannot issue a certificate")
        }
    }
}

#[tonic::async_trait]
impl enroll_server::Enroll for Enrollment {
    async fn request(&self, request: tonic::Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let Some(peer) = request.extensions().get::<PeerInfo>().cloned() else {
            return Err(Status::internal("the connection has no peer"));
        };
        if !self.rate.take(peer.address.ip(), Instant::now()) {
            return Err(Status::resource_exhausted("too many requests from this address: try again later"));
        }
        self.answer(request.into_inner(), &peer).await.map(Response::new)
    }
}

/// Requests by address: a bucket that fills at a steady rate.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl RateLimit {
    /// Addresses remembered at once. A full table means an attack from many addresses; forgetting
    /// all then costs the attacker's own limits too, but never memory.
    const ADDRESSES: usize = 65_536;

    pub fn new(per_second: u32, burst: u32) -> Self {
        RateLimit { per_second: per_second.into(), burst: burst.into(), buckets: Mutex::default() }
    }

    /// Take one request of this address. False when it has none left.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |(tokens, at): (f64, Instant)| {
            (tokens + now.saturating_duration_since(at).as_secs_f64() * self.per_second).min(self.burst)
        };
        if buckets.len() >= Self::ADDRESSES {
            buckets.retain(|_, bucket| filled(*bucket) < self.burst);
            if buckets.len() >= Self::ADDRESSES {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(network(address)).or_insert((self.burst, now));
        let tokens = filled(*bucket);
        let enough = tokens >= 1.0;
        *bucket = (if enough { tokens - 1.0 } else { tokens }, now);
        enough
    }

    /// A request that should not have counted.
    pub fn give_back(&self, address: IpAddr) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((tokens, _)) = buckets.get_mut(&network(address)) {
            *tokens = (*tokens + 1.0).min(self.burst);
        }
    }
}

/// A whole /64 of IPv6 belongs to one subscriber.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_burst_and_its_rate() {
        let limit = RateLimit::new(2, 3);
        let now = Instant::now();
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!([(); 4].map(|()| limit.take(one, now)), [true, true, true, false]);
        assert!(limit.take(two, now), "others are not affected");
        let later = now + Duration::from_millis(1100);
        assert_eq!([(); 3].map(|()| limit.take(one, later)), [true, true, false]);
        limit.give_back(one);
        assert_eq!([(); 2].map(|()| limit.take(one, later)), [true, false]);
        let [near, far] = ["2001:db8::1", "2001:db8::ffff"].map(|text| text.parse().unwrap());
        assert_eq!(network(near), network(far));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), one);
    }

    #[test]
    fn facts_are_an_object_of_a_limited_size() {
        assert!(facts(b"").unwrap().is_empty());
        assert!(facts(br#"{"os":"debian"}"#).is_ok());
        assert!(facts(b"[1]").is_err());
        assert!(facts("[".repeat(10_000).as_bytes()).is_err());
        assert!(facts(format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_FACTS_BYTES)).as_bytes()).is_err());
    }
}
