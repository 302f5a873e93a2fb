//! The one place that decides whether a request goes on.
//!
//! Each route stands in [`RULES`] with the role it takes; one that does not stand there is for
//! nobody, so a route that is added and forgotten here stays shut. Handlers get a [`Caller`], which
//! exists only past this point. Every denial is counted and goes into the audit log, up to a rate,
//! beyond which the answer is `too_many_attempts`: nobody may fill the disk without a token.

use super::error::{Code, Error};
use crate::{
    metrics::Metrics,
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        tokens::{self, Known},
    },
    uncut::uncut,
};
use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{Method, header, request::Parts};
use serde_json::json;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use windlass_identity::PeerInfo;
use windlass_types::{Digest, api::Role};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody, without a token.
    Open,
    /// A token of this role, or one that includes it.
    AtLeast(Role),
}

/// Every route, with who may use it.
pub const RULES: &[(Method, &str, Rule)] = {
    use Role::{Admin, Operator, Viewer};
    use Rule::{AtLeast, Open};
    &[
        (Method::GET, "/healthz", Open),
        (Method::GET, "/readyz", Open),
        (Method::GET, "/metrics", AtLeast(Viewer)),
        (Method::GET, "/api/v1/openapi.json", AtLeast(Viewer)),
        (Method::GET, "/api/v1/whoami", AtLeast(Viewer)),
        (Method::GET, "/api/v1/nodes", AtLeast(Viewer)),
        (Method::GET, "/api/v1/nodes/{node}", AtLeast(Viewer)),
        (Method::POST, "/api/v1/nodes/{node}/accept", AtLeast(Admin)),
        (Method::POST, "/api/v1/nodes/{node}/reject", AtLeast(Admin)),
        (Method::POST, "/api/v1/nodes/{node}/revoke", AtLeast(Admin)),
        (Method::DELETE, "/api/v1/nodes/{node}", AtLeast(Admin)),
        (Method::PATCH, "/api/v1/nodes/{node}", AtLeast(Operator)),
        (Method::GET, "/api/v1/join-tokens", AtLeast(Admin)),
        (Method::POST, "/api/v1/join-tokens", AtLeast(Admin)),
        (Method::DELETE, "/api/v1/join-tokens/{id}", AtLeast(Admin)),
        (Method::GET, "/api/v1/operations", AtLeast(Viewer)),
        (Method::GET, "/api/v1/operations/{name}", AtLeast(Viewer)),
        (Method::POST, "/api/v1/targets/resolve", AtLeast(Viewer)),
        (Method::POST, "/api/v1/jobs", AtLeast(Operator)),
        (Method::GET, "/api/v1/jobs", AtLeast(Viewer)),
        (Method::GET, "/api/v1/jobs/{id}", AtLeast(Viewer)),
        (Method::GET, "/api/v1/jobs/{id}/nodes", AtLeast(Viewer)),
        (Method::GET, "/api/v1/jobs/{id}/events", AtLeast(Viewer)),
        (Method::POST, "/api/v1/jobs/{id}/cancel", AtLeast(Operator)),
        (Method::GET, "/api/v1/jobs/{id}/nodes/{node}/trace", AtLeast(Viewer)),
        (Method::GET, "/api/v1/bundles", AtLeast(Viewer)),
        (Method::POST, "/api/v1/bundles", AtLeast(Admin)),
        (Method::GET, "/api/v1/bundles/difference", AtLeast(Viewer)),
        (Method::GET, "/api/v1/bundles/{bundle}", AtLeast(Viewer)),
        (Method::DELETE, "/api/v1/bundles/{bundle}", AtLeast(Admin)),
        (Method::GET, "/api/v1/bundles/{bundle}/package", AtLeast(Viewer)),
        (Method::GET, "/api/v1/plugins", AtLeast(Viewer)),
        (Method::GET, "/api/v1/plugins/{name}", AtLeast(Viewer)),
        (Method::DELETE, "/api/v1/plugins/{name}", AtLeast(Admin)),
        (Method::GET, "/api/v1/plugins/{name}/events", AtLeast(Viewer)),
        (Method::POST, "/api/v1/plugins/{name}/approve", AtLeast(Admin)),
        (Method::POST, "/api/v1/plugins/{name}/pin", AtLeast(Admin)),
        (Method::POST, "/api/v1/plugins/{name}/unpin", AtLeast(Admin)),
        (Method::POST, "/api/v1/plugins/{name}/rollback", AtLeast(Admin)),
        (Method::GET, "/api/v1/deployments", AtLeast(Viewer)),
        (Method::POST, "/api/v1/deployments", AtLeast(Admin)),
        (Method::GET, "/api/v1/deployments/{id}", AtLeast(Viewer)),
        (Method::POST, "/api/v1/deployments/{id}/pause", AtLeast(Admin)),
        (Method::POST, "/api/v1/deployments/{id}/resume", AtLeast(Admin)),
        (Method::POST, "/api/v1/deployments/{id}/abort", AtLeast(Admin)),
        (Method::POST, "/api/v1/deployments/{id}/rollback", AtLeast(Admin)),
        (Method::GET, "/api/v1/events", AtLeast(Viewer)),
        (Method::GET, "/api/v1/schedules", AtLeast(Viewer)),
        // As for jobs: a schedule makes them later.
        (Method::POST, "/api/v1/schedules", AtLeast(Operator)),
        (Method::GET, "/api/v1/schedules/{name}", AtLeast(Viewer)),
        (Method::DELETE, "/api/v1/schedules/{name}", AtLeast(Operator)),
        (Method::POST, "/api/v1/schedules/{name}/pause", AtLeast(Operator)),
        (Method::POST, "/api/v1/schedules/{name}/resume", AtLeast(Operator)),
        (Method::POST, "/api/v1/schedules/{name}/run", AtLeast(Operator)),
        (Method::GET, "/api/v1/schedules/{name}/runs", AtLeast(Viewer)),
        (Method::GET, "/api/v1/schedules/{name}/next", AtLeast(Viewer)),
        (Method::GET, "/api/v1/tokens", AtLeast(Admin)),
        (Method::POST, "/api/v1/tokens", AtLeast(Admin)),
        (Method::DELETE, "/api/v1/tokens/{id}", AtLeast(Admin)),
        (Method::GET, "/api/v1/audit", AtLeast(Admin)),
        (Method::GET, "/api/v1/audit/verify", AtLeast(Admin)),
    ]
};

/// The rule of a route; none for a method that the route does not have.
pub fn rule(method: &Method, route: &str) -> Option<Rule> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    RULES.iter().find(|(known, path, _)| known == method && *path == route).map(|(_, _, rule)| *rule)
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Name of the token.
    pub name: String,
    pub role: Role,
    token_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(unauthenticated)
    }
}

fn unauthenticated() -> Error {
    Error::new(Code::Unauthenticated, "a token is needed that is known and has not expired")
        .hint("send it as `Authorization: Bearer wl_…`")
}

/// A token that was looked up is believed so long; one that is deleted through this master, not at all.
const CACHED: Duration = Duration::from_secs(5);
const CACHE: usize = 1024;
/// The last use of a token is noted this often.
const USED_EVERY_MS: i64 = 60_000;

/// Knows tokens.
#[derive(Debug)]
pub struct Authenticator {
    store: Store,
    metrics: Arc<Metrics>,
    cache: Mutex<HashMap<Digest, (Known, Instant)>>,
    denials: Mutex<Limiter>,
}

impl Authenticator {
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Authenticator { store, metrics, cache: Mutex::default(), denials: Mutex::default() }
    }

    /// A token is gone.
    pub fn forget(&self, id: &str) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (known, _)| known.id != id);
    }

    /// Whose token this is.
    async fn caller(&self, secret: &str) -> Result<Option<Caller>, StoreError> {
        let Some(hash) = tokens::hash(secret) else { return Ok(None) };
        let cached = {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&hash).filter(|(_, at)| at.elapsed() < CACHED).map(|(known, _)| known.clone())
        };
        let known = match cached {
            Some(known) => known,
            None => match tokens::find(&self.store, hash).await? {
                Some(known) => {
                    let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    if cache.len() >= CACHE {
                        cache.clear();
                    }
                    cache.insert(hash, (known.clone(), Instant::now()));
                    known
                }
                None => return Ok(None),
            },
        };
        // The index found it by its hash, so all that its timing tells is about a hash. This
        // comparison does not even tell that.
        if !bool::from(known.hash.as_bytes().ct_eq(hash.as_bytes())) {
            return Ok(None);
        }
        let now = crate::now_ms();
        if known.expires_ms.is_some_and(|expires| expires <= now) {
            return Ok(None);
        }
        if known.last_used_ms.is_none_or(|used| now - used >= USED_EVERY_MS) {
            self.note_use(&known, now);
        }
        Ok(Some(Caller { name: known.name, role: known.role, token_id: known.id }))
    }

    fn note_use(&self, known: &Known, now: i64) {
        if let Some((cached, _)) =
            self.cache.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&known.hash)
        {
            cached.last_used_ms = Some(now);
        }
        let (store, id) = (self.store.clone(), known.id.clone());
        tokio::spawn(async move {
            let noted = store.write(move |c| Box::pin(async move { tokens::used(c, &id, now).await }));
            if let Err(error) = noted.await {
                tracing::warn!(%error, "cannot note the use of a token");
            }
        });
    }

    /// Say no, and keep a note of it.
    async fn deny(
        &self,
        error: Error,
        key: String,
        actor: &str,
        subject: String,
        detail: serde_json::Value,
    ) -> Error {
        self.metrics.denied();
        if !self.denials.lock().unwrap_or_else(PoisonError::into_inner).admit(key) {
            return Error::new(
                Code::TooManyAttempts,
                "too many requests that were not authorised: wait a minute",
            );
        }
        let entry =
            NewEntry { actor: actor.to_owned(), action: "api.request", subject, detail, allowed: false };
        let noted = self
            .store
            .write::<(), StoreError, _>(move |c| Box::pin(async move { audit::append(c, &entry).await }));
        match noted.await {
            Ok(()) => error,
            Err(problem) => problem.into(),
        }
    }

    async fn check(&self, request: &Parts) -> Result<Option<Caller>, Error> {
        // A request without a route is answered by the fallback, which tells nothing.
        let Some(route) = request.extensions.get::<MatchedPath>() else { return Ok(None) };
        let route = route.as_str();
        let role = match rule(&request.method, route) {
            Some(Rule::Open) => return Ok(None),
            Some(Rule::AtLeast(role)) => role,
            None => {
                return Err(Error::new(
                    Code::MethodNotAllowed,
                    format!("`{route}` is not for `{}`", request.method),
                ));
            }
        };
        let address = request.extensions.get::<PeerInfo>().map(|peer| peer.address.ip());
        let subject: String =
            format!("{} {}", request.method, request.uri.path()).chars().take(300).collect();
        let secret = bearer(&request.headers);
        let caller = match secret {
            Some(secret) => self.caller(secret).await?,
            None => None,
        };
        let Some(caller) = caller else {
            let detail = json!({
                "address": address, "problem": if secret.is_some() { "bad token" } else { "no token" },
            });
            let key = network(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())).to_string();
            return Err(self.deny(unauthenticated(), key, "unknown", subject, detail).await);
        };
        if caller.role < role {
            let error = Error::new(
                Code::Forbidden,
                format!(
                    "this takes the role `{}`, and token `{}` has `{}`",
                    role.as_str(),
                    caller.name,
                    caller.role.as_str()
                ),
            );
            let detail = json!({ "address": address, "role": caller.role, "needs": role });
            let key = caller.token_id.clone();
            return Err(self.deny(error, key, &caller.name, subject, detail).await);
        }
        Ok(Some(caller))
    }
}

/// Whether there is a token in these headers that is known and has not expired, of whatever role.
/// For what a master tells about itself alone; it writes nothing.
///
/// # Errors
/// If there is none, or the store fails.
pub(crate) async fn has_token(store: &Store, headers: &http::HeaderMap) -> Result<(), Error> {
    let Some(hash) = bearer(headers).and_then(tokens::hash) else { return Err(unauthenticated()) };
    let known = tokens::find(store, hash).await?;
    let alive =
        known.is_some_and(|known| known.expires_ms.is_none_or(|expires_ms| expires_ms > crate::now_ms()));
    if alive { Ok(()) } else { Err(unauthenticated()) }
}

fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let (scheme, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
}

/// The choke point, around every route.
pub async fn authorize(
    State(authenticator): State<Arc<Authenticator>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut head, body) = request.into_parts();
    match authenticator.check(&head).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                head.extensions.insert(caller);
            }
            let safe = head.method.is_safe();
            let answer = next.run(Request::from_parts(head, body));
            if safe { answer.await } else { uncut(answer).await }
        }
        Err(error) => error.into_response(),
    }
}

/// Whoever has one address of IPv6 has the 64 bits behind it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// Denials in one window from one place, and from everywhere.
const PER_KEY: u32 = 20;
const IN_ALL: u32 = 200;

/// How many denials are answered with words and noted.
#[derive(Debug, Default)]
struct Limiter {
    since: Option<Instant>,
    in_all: u32,
    by_key: HashMap<String, u32>,
}

impl Limiter {
    fn admit(&mut self, key: String) -> bool {
        if self.since.is_none_or(|since| since.elapsed() >= WINDOW) {
            *self = Limiter { since: Some(Instant::now()), ..Limiter::default() };
        }
        if self.in_all >= IN_ALL {
            return false;
        }
        // So there are never more keys than `IN_ALL`.
        let number = self.by_key.entry(key).or_default();
        if *number >= PER_KEY {
            return false;
        }
        *number += 1;
        self.in_all += 1;
        true
    }
}
