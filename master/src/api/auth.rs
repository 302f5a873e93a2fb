//! The one place that decides whether a request goes on.
//!
//! Each route stands in [`RULES`] with the permission it takes, and what a role gives is decided by
//! [`decide`]. Where it depends on nodes, the handler asks again through [`Caller::may`] or the
//! [`Permit`](crate::access::Permit) that it hands to the jobs. A route that does not stand there is for
//! nobody, so a route that is added and forgotten here stays shut. Handlers get a [`Caller`], which
//! exists only past this point. Every denial is counted and goes into the audit log, up to a rate,
//! beyond which the answer is `too_many_attempts`: nobody may fill the disk without a token.

use super::error::{Code, Error};
use crate::{
    access::{Denied, Need, On, Role, decide},
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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq as _;
use windlass_identity::PeerInfo;
use windlass_types::{Digest, api::access::Permission};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody, without a token.
    Open,
    /// Any good token.
    Token,
    /// Whose role gives this, on all nodes.
    Needs(Permission),
    /// Whose role gives this on some nodes. The handler asks again, with the nodes.
    OnNodes(Permission),
    /// Whose role allows an operation somewhere. The handler asks again, with the operation and the nodes.
    Runs,
}

/// Every route, with who may use it.
pub const RULES: &[(Method, &str, Rule)] = {
    use Permission::{
        AuditRead, EventsRead, JobsRead, JoinTokensManage, MetricsRead, NodesAdmit, NodesRead, NodesWrite,
        OperationsRead, PluginsApprove, PluginsDeploy, PluginsRead, PluginsWrite, RolesManage, RulesManage,
        SchedulesRead, SecretsManage, TokensManage, UsersManage,
    };
    use Rule::{Needs, OnNodes, Open, Runs, Token};
    &[
        (Method::GET, "/healthz", Open),
        (Method::GET, "/readyz", Open),
        (Method::GET, "/metrics", Needs(MetricsRead)),
        (Method::GET, "/api/v1/openapi.json", Token),
        (Method::GET, "/api/v1/whoami", Token),
        (Method::GET, "/api/v1/nodes", Needs(NodesRead)),
        (Method::GET, "/api/v1/nodes/{node}", Needs(NodesRead)),
        (Method::POST, "/api/v1/nodes/{node}/accept", Needs(NodesAdmit)),
        (Method::POST, "/api/v1/nodes/{node}/reject", Needs(NodesAdmit)),
        (Method::POST, "/api/v1/nodes/{node}/revoke", Needs(NodesAdmit)),
        (Method::DELETE, "/api/v1/nodes/{node}", Needs(NodesAdmit)),
        (Method::PATCH, "/api/v1/nodes/{node}", OnNodes(NodesWrite)),
        (Method::GET, "/api/v1/join-tokens", Needs(JoinTokensManage)),
        (Method::POST, "/api/v1/join-tokens", Needs(JoinTokensManage)),
        (Method::DELETE, "/api/v1/join-tokens/{id}", Needs(JoinTokensManage)),
        (Method::GET, "/api/v1/operations", Needs(OperationsRead)),
        (Method::GET, "/api/v1/operations/{name}", Needs(OperationsRead)),
        (Method::POST, "/api/v1/targets/resolve", Needs(OperationsRead)),
        (Method::POST, "/api/v1/jobs", Runs),
        (Method::GET, "/api/v1/jobs", Needs(JobsRead)),
        (Method::GET, "/api/v1/jobs/{id}", Needs(JobsRead)),
        (Method::GET, "/api/v1/jobs/{id}/nodes", Needs(JobsRead)),
        (Method::GET, "/api/v1/jobs/{id}/events", Needs(JobsRead)),
        (Method::POST, "/api/v1/jobs/{id}/cancel", Runs),
        (Method::GET, "/api/v1/jobs/{id}/nodes/{node}/trace", Needs(JobsRead)),
        (Method::GET, "/api/v1/jobs/{id}/nodes/{node}/output", Needs(JobsRead)),
        (Method::GET, "/api/v1/bundles", Needs(PluginsRead)),
        (Method::POST, "/api/v1/bundles", Needs(PluginsWrite)),
        (Method::GET, "/api/v1/bundles/difference", Needs(PluginsRead)),
        (Method::GET, "/api/v1/bundles/{bundle}", Needs(PluginsRead)),
        (Method::DELETE, "/api/v1/bundles/{bundle}", Needs(PluginsWrite)),
        (Method::GET, "/api/v1/bundles/{bundle}/package", Needs(PluginsRead)),
        (Method::GET, "/api/v1/plugins", Needs(PluginsRead)),
        (Method::GET, "/api/v1/plugins/{name}", Needs(PluginsRead)),
        (Method::DELETE, "/api/v1/plugins/{name}", Needs(PluginsDeploy)),
        (Method::GET, "/api/v1/plugins/{name}/events", Needs(PluginsRead)),
        (Method::POST, "/api/v1/plugins/{name}/approve", Needs(PluginsApprove)),
        (Method::POST, "/api/v1/plugins/{name}/pin", Needs(PluginsDeploy)),
        (Method::POST, "/api/v1/plugins/{name}/unpin", Needs(PluginsDeploy)),
        (Method::POST, "/api/v1/plugins/{name}/rollback", Needs(PluginsDeploy)),
        (Method::GET, "/api/v1/deployments", Needs(PluginsRead)),
        (Method::POST, "/api/v1/deployments", OnNodes(PluginsDeploy)),
        (Method::GET, "/api/v1/deployments/{id}", Needs(PluginsRead)),
        (Method::POST, "/api/v1/deployments/{id}/pause", OnNodes(PluginsDeploy)),
        (Method::POST, "/api/v1/deployments/{id}/resume", OnNodes(PluginsDeploy)),
        (Method::POST, "/api/v1/deployments/{id}/abort", OnNodes(PluginsDeploy)),
        (Method::POST, "/api/v1/deployments/{id}/rollback", OnNodes(PluginsDeploy)),
        (Method::GET, "/api/v1/events", Needs(EventsRead)),
        (Method::GET, "/api/v1/status", Needs(NodesRead)),
        (Method::GET, "/api/v1/nodes/{node}/status", Needs(NodesRead)),
        (Method::GET, "/api/v1/schedules", Needs(SchedulesRead)),
        // As for jobs: a schedule makes them later.
        (Method::POST, "/api/v1/schedules", Runs),
        (Method::GET, "/api/v1/schedules/{name}", Needs(SchedulesRead)),
        (Method::DELETE, "/api/v1/schedules/{name}", Runs),
        (Method::POST, "/api/v1/schedules/{name}/pause", Runs),
        (Method::POST, "/api/v1/schedules/{name}/resume", Runs),
        (Method::POST, "/api/v1/schedules/{name}/run", Runs),
        (Method::GET, "/api/v1/schedules/{name}/runs", Needs(SchedulesRead)),
        (Method::GET, "/api/v1/schedules/{name}/next", Needs(SchedulesRead)),
        (Method::GET, "/api/v1/plans", Needs(JobsRead)),
        // Judged on all its operations and nodes.
        (Method::POST, "/api/v1/plans", Runs),
        (Method::POST, "/api/v1/plans/check", Runs),
        (Method::GET, "/api/v1/plans/{id}", Needs(JobsRead)),
        (Method::POST, "/api/v1/plans/{id}/apply", Runs),
        (Method::GET, "/api/v1/runs", Needs(JobsRead)),
        (Method::GET, "/api/v1/runs/{id}", Needs(JobsRead)),
        (Method::GET, "/api/v1/runs/{id}/events", Needs(JobsRead)),
        (Method::POST, "/api/v1/runs/{id}/pause", Runs),
        (Method::POST, "/api/v1/runs/{id}/resume", Runs),
        (Method::POST, "/api/v1/runs/{id}/cancel", Runs),
        (Method::POST, "/api/v1/runs/{id}/abandon", Runs),
        (Method::POST, "/api/v1/runs/{id}/steps/{step}/approve", Runs),
        (Method::POST, "/api/v1/runs/{id}/steps/{step}/retry", Runs),
        (Method::POST, "/api/v1/runs/{id}/steps/{step}/skip", Runs),
        (Method::GET, "/api/v1/tokens", Needs(TokensManage)),
        (Method::POST, "/api/v1/tokens", Needs(TokensManage)),
        (Method::DELETE, "/api/v1/tokens/{id}", Needs(TokensManage)),
        (Method::GET, "/api/v1/users", Needs(UsersManage)),
        (Method::POST, "/api/v1/users", Needs(UsersManage)),
        (Method::GET, "/api/v1/users/{name}", Needs(UsersManage)),
        (Method::PATCH, "/api/v1/users/{name}", Needs(UsersManage)),
        (Method::DELETE, "/api/v1/users/{name}", Needs(UsersManage)),
        (Method::GET, "/api/v1/roles", Needs(RolesManage)),
        (Method::GET, "/api/v1/roles/{name}", Needs(RolesManage)),
        (Method::PUT, "/api/v1/roles/{name}", Needs(RolesManage)),
        (Method::DELETE, "/api/v1/roles/{name}", Needs(RolesManage)),
        (Method::POST, "/api/v1/roles/{name}/check", Needs(RolesManage)),
        (Method::GET, "/api/v1/rules", Needs(RulesManage)),
        (Method::POST, "/api/v1/rules", Needs(RulesManage)),
        (Method::POST, "/api/v1/rules/try", Needs(RulesManage)),
        (Method::GET, "/api/v1/rules/{name}", Needs(RulesManage)),
        (Method::DELETE, "/api/v1/rules/{name}", Needs(RulesManage)),
        (Method::POST, "/api/v1/rules/{name}/pause", Needs(RulesManage)),
        (Method::POST, "/api/v1/rules/{name}/resume", Needs(RulesManage)),
        (Method::GET, "/api/v1/rules/{name}/firings", Needs(RulesManage)),
        (Method::GET, "/api/v1/secrets", Needs(SecretsManage)),
        (Method::GET, "/api/v1/secrets/{name}", Needs(SecretsManage)),
        (Method::PUT, "/api/v1/secrets/{name}", Needs(SecretsManage)),
        (Method::DELETE, "/api/v1/secrets/{name}", Needs(SecretsManage)),
        (Method::GET, "/api/v1/audit", Needs(AuditRead)),
        (Method::GET, "/api/v1/audit/verify", Needs(AuditRead)),
    ]
};

/// Whether a role may use a route of this rule.
///
/// # Errors
/// If not, with what it lacks.
pub fn admits(rule: Rule, role: &Role) -> Result<(), Denied> {
    match rule {
        Rule::Open | Rule::Token => Ok(()),
        Rule::Needs(permission) => decide(role, Need::Permission(permission), On::Everywhere),
        Rule::OnNodes(permission) => decide(role, Need::Permission(permission), On::Somewhere),
        Rule::Runs => decide(role, Need::AnyOperation, On::Somewhere),
    }
}

/// The rule of a route; none for a method that the route does not have.
pub fn rule(method: &Method, route: &str) -> Option<Rule> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    RULES.iter().find(|(known, path, _)| known == method && *path == route).map(|(_, _, rule)| *rule)
}

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Name of the user, or of a token of nobody.
    pub name: String,
    pub role: Arc<Role>,
    token_id: String,
    authenticator: Arc<Authenticator>,
}

impl Caller {
    /// An error unless the role allows this. A denial is counted and audited.
    ///
    /// # Errors
    /// If not.
    pub async fn may(&self, need: Need<'_>, on: On<'_>, subject: &str) -> Result<(), Error> {
        match decide(&self.role, need, on) {
            Ok(()) => Ok(()),
            Err(denied) => Err(self.refused(denied, subject).await),
        }
    }

    /// Audit what the role does not allow; what to answer.
    pub async fn refused(&self, denied: Denied, subject: &str) -> Error {
        let detail = json!({ "role": self.role.name, "problem": denied.to_string() });
        let subject = subject.chars().take(300).collect();
        self.authenticator.deny(forbidden(&denied), self.token_id.clone(), &self.name, subject, detail).await
    }
}

fn forbidden(denied: &Denied) -> Error {
    let error = Error::new(Code::Forbidden, denied.to_string());
    match denied {
        Denied::Lasting { .. } => {
            error.hint("give the target all labels or names that the rule of the role has")
        }
        _ => error,
    }
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

/// A token that was looked up is believed so long, or until this master changes any token, user or role.
const CACHED: Duration = Duration::from_secs(5);
const CACHE: usize = 1024;
/// The last use of a token is noted this often.
const USED_EVERY_MS: i64 = 60_000;

/// Tokens that were looked up.
#[derive(Debug, Default)]
struct Cache {
    /// Counts the changes. What was looked up before a change and comes in after it is not kept, so
    /// nothing outlives a change, however the two run into each other.
    changes: u64,
    known: HashMap<Digest, (Known, Instant)>,
}

/// Knows tokens.
#[derive(Debug)]
pub struct Authenticator {
    store: Store,
    metrics: Arc<Metrics>,
    cache: Mutex<Cache>,
    denials: Mutex<Limiter>,
}

impl Authenticator {
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Authenticator { store, metrics, cache: Mutex::default(), denials: Mutex::default() }
    }

    /// Tokens, users or roles have changed: what was looked up counts no more. After the commit, and
    /// before whoever asked for the change has the answer.
    pub fn changed(&self) {
        let mut cache = self.cache();
        cache.changes += 1;
        cache.known.clear();
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of this hash.
    async fn known(&self, hash: Digest) -> Result<Option<Known>, StoreError> {
        let changes = {
            let cache = self.cache();
            if let Some((known, _)) = cache.known.get(&hash).filter(|(_, at)| at.elapsed() < CACHED) {
                return Ok(Some(known.clone()));
            }
            cache.changes
        };
        let Some(known) = tokens::find(&self.store, hash).await? else { return Ok(None) };
        let mut cache = self.cache();
        if cache.changes == changes {
            if cache.known.len() >= CACHE {
                cache.known.clear();
            }
            cache.known.insert(hash, (known.clone(), Instant::now()));
        }
        Ok(Some(known))
    }

    /// Whose token this is.
    async fn caller(self: &Arc<Self>, secret: &str) -> Result<Option<Caller>, StoreError> {
        let Some(hash) = tokens::hash(secret) else { return Ok(None) };
        let Some(known) = self.known(hash).await? else { return Ok(None) };
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
        Ok(Some(Caller {
            name: known.name,
            role: known.role,
            token_id: known.id,
            authenticator: self.clone(),
        }))
    }

    fn note_use(&self, known: &Known, now: i64) {
        if let Some((cached, _)) = self.cache().known.get_mut(&known.hash) {
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

    async fn check(self: &Arc<Self>, request: &Parts) -> Result<Option<Caller>, Error> {
        // A request without a route is answered by the fallback, which tells nothing.
        let Some(route) = request.extensions.get::<MatchedPath>() else { return Ok(None) };
        let route = route.as_str();
        let rule = match rule(&request.method, route) {
            Some(Rule::Open) => return Ok(None),
            Some(rule) => rule,
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
        if let Err(denied) = admits(rule, &caller.role) {
            let detail = json!({
                "address": address, "role": caller.role.name, "problem": denied.to_string(),
            });
            let key = caller.token_id.clone();
            return Err(self.deny(forbidden(&denied), key, &caller.name, subject, detail).await);
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
