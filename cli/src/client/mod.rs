//! The operator API of a master, over TLS that trusts one authority.
//!
//! Nothing is sent again by itself except what only reads: a job must not run twice because a reply
//! got lost.

mod access;
pub mod bundles;
mod error;
pub mod events;
mod feed;
mod plans;
mod rules;
mod schedules;
mod secrets;
mod sse;
mod status;
pub mod tls;

pub use error::{ClientError, explain};
pub use feed::Feed;

use crate::config::Connection;
use reqwest::{Method, RequestBuilder, Response, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use std::time::{Duration, Instant};
use windlass_types::{JobId, api::*};

/// Limit for connecting. Replies have none of their own: `POST /jobs?wait_ms=` may take its time.
const CONNECT: Duration = Duration::from_secs(5);
/// A reply that does not begin within this long is not coming.
const REPLY: Duration = Duration::from_secs(60);
/// The same for packages, which take their time on slow lines.
const PACKAGE: Duration = Duration::from_secs(600);
/// Items a page: as many as the API gives.
const PAGE: u32 = 1_000;

/// A client of one master.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
    verbose: bool,
}

impl Client {
    /// A client for a master; connects at the first call.
    ///
    /// # Errors
    /// If the authority to trust is no certificate.
    pub fn new(connection: &Connection, verbose: bool) -> Result<Self, ClientError> {
        let config = tls::config(&connection.trust)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .connect_timeout(CONNECT)
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
            // The token goes to the master and nowhere it may point to.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&connection.url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(ClientError::Setup)?;
        Ok(Client { http, base: connection.url.clone(), token: connection.token.clone(), verbose })
    }

    /// The address of the master, for messages.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Names come from the command line: pushed as segments they can't climb out of the path.
        url.path_segments_mut()
            .expect("an https url has a path")
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Send a request; a reply that is an error becomes one.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.send_within(request, REPLY).await
    }

    async fn send_within(&self, request: RequestBuilder, limit: Duration) -> Result<Response, ClientError> {
        let request = request.build().map_err(ClientError::Setup)?;
        let line = self.verbose.then(|| format!("{} {}", request.method(), request.url().path()));
        let began = Instant::now();
        let reply = tokio::time::timeout(limit, self.http.execute(request)).await;
        let reply = match reply {
            Ok(reply) => reply.map_err(|source| ClientError::unreachable(self.address(), source)),
            Err(_) => Err(ClientError::Silent { url: self.address().into(), seconds: limit.as_secs() }),
        };
        if let Some(line) = line {
            let end = match &reply {
                Ok(reply) => reply.status().as_u16().to_string(),
                Err(_) => "no reply".into(),
            };
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "{line}: {end} in {:.1?}", began.elapsed());
        }
        let reply = reply?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        let status = reply.status().as_u16();
        let body = reply.bytes().await.unwrap_or_default();
        Err(ClientError::of_reply(status, &body))
    }

    async fn fetch<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let reply = self.send(request.header(header::ACCEPT, "application/json")).await?;
        self.parse(reply).await
    }

    async fn parse<T: DeserializeOwned>(&self, reply: Response) -> Result<T, ClientError> {
        let path = reply.url().path().to_owned();
        let body = reply.bytes().await.map_err(|source| ClientError::unreachable(self.address(), source))?;
        serde_json::from_slice(&body).map_err(|source| ClientError::Reply { path, source })
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.fetch(self.request(Method::GET, path)).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, ClientError> {
        self.fetch(self.request(Method::POST, path).json(body)).await
    }

    /// Items of a list, page after page, until there are no more or `most` of them.
    async fn pages<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        most: usize,
    ) -> Result<Vec<T>, ClientError> {
        self.pages_after(path, query, None, most).await
    }

    /// The same, beginning after a cursor.
    async fn pages_after<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        mut after: Option<String>,
        most: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut all: Vec<T> = Vec::new();
        loop {
            let limit = most.saturating_sub(all.len()).min(PAGE as usize).to_string();
            let mut request = self.request(Method::GET, path).query(query).query(&[("limit", &limit)]);
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let page: Page<T> = self.fetch(request).await?;
            all.extend(page.items);
            // A `next` that does not move would never end.
            if page.next.is_none() || page.next == after || all.len() >= most {
                all.truncate(most);
                return Ok(all);
            }
            after = page.next;
        }
    }

    pub async fn whoami(&self) -> Result<WhoAmI, ClientError> {
        self.get(&["whoami"]).await
    }

    pub async fn nodes(&self, state: Option<NodeState>) -> Result<Vec<Node>, ClientError> {
        let state = state.map(|state| serde_json::to_value(state).unwrap_or_default());
        let query: Vec<(&str, &str)> =
            state.iter().filter_map(|state| Some(("state", state.as_str()?))).collect();
        self.pages(&["nodes"], &query, usize::MAX).await
    }

    pub async fn node(&self, node: &str) -> Result<Node, ClientError> {
        self.get(&["nodes", node]).await
    }

    pub async fn accept(&self, node: &str, body: &AcceptNode) -> Result<Node, ClientError> {
        self.post(&["nodes", node, "accept"], body).await
    }

    pub async fn reject(&self, node: &str) -> Result<Node, ClientError> {
        self.fetch(self.request(Method::POST, &["nodes", node, "reject"])).await
    }

    pub async fn revoke(&self, node: &str) -> Result<Node, ClientError> {
        self.fetch(self.request(Method::POST, &["nodes", node, "revoke"])).await
    }

    pub async fn delete_node(&self, node: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["nodes", node])).await.map(drop)
    }

    pub async fn change_node(&self, node: &str, change: &ChangeNode) -> Result<Node, ClientError> {
        self.fetch(self.request(Method::PATCH, &["nodes", node]).json(change)).await
    }

    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, ClientError> {
        self.pages(&["join-tokens"], &[], usize::MAX).await
    }

    pub async fn new_join_token(&self, new: &NewJoinToken) -> Result<JoinToken, ClientError> {
        self.post(&["join-tokens"], new).await
    }

    pub async fn delete_join_token(&self, id: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["join-tokens", id])).await.map(drop)
    }

    pub async fn operations(&self) -> Result<Vec<OperationInfo>, ClientError> {
        self.pages(&["operations"], &[], usize::MAX).await
    }

    pub async fn operation(&self, name: &str) -> Result<OperationInfo, ClientError> {
        self.get(&["operations", name]).await
    }

    pub async fn resolve(&self, target: &Target) -> Result<Resolved, ClientError> {
        self.post(&["targets", "resolve"], target).await
    }

    /// Begin a job and wait up to `wait` for its end.
    pub async fn new_job(&self, job: &NewJob, wait: Duration) -> Result<Job, ClientError> {
        let wait = crate::duration::millis(wait).to_string();
        self.fetch(self.request(Method::POST, &["jobs"]).query(&[("wait_ms", wait)]).json(job)).await
    }

    /// The newest jobs.
    pub async fn jobs(&self, most: usize) -> Result<Vec<Job>, ClientError> {
        self.pages(&["jobs"], &[], most).await
    }

    pub async fn job(&self, id: JobId) -> Result<Job, ClientError> {
        self.get(&["jobs", &id.to_string()]).await
    }

    pub async fn job_nodes(&self, id: JobId) -> Result<Vec<JobNode>, ClientError> {
        self.pages(&["jobs", &id.to_string(), "nodes"], &[], usize::MAX).await
    }

    pub async fn cancel(&self, id: JobId) -> Result<Job, ClientError> {
        self.fetch(self.request(Method::POST, &["jobs", &id.to_string(), "cancel"])).await
    }

    pub async fn trace(&self, id: JobId, node: &str) -> Result<JobTrace, ClientError> {
        self.get(&["jobs", &id.to_string(), "nodes", node, "trace"]).await
    }

    /// What a node has written from a byte on; the master waits so long for more than nothing.
    pub async fn output(
        &self,
        id: JobId,
        node: &str,
        after: u64,
        wait_ms: u64,
    ) -> Result<JobOutput, ClientError> {
        let request = self.request(Method::GET, &["jobs", &id.to_string(), "nodes", node, "output"]);
        self.fetch(request.query(&[("after", after), ("wait_ms", wait_ms)])).await
    }

    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.pages(&["tokens"], &[], usize::MAX).await
    }

    pub async fn new_token(&self, new: &NewToken) -> Result<Token, ClientError> {
        self.post(&["tokens"], new).await
    }

    pub async fn delete_token(&self, id: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["tokens", id])).await.map(drop)
    }

    pub async fn audit(&self, after: Option<&str>, most: usize) -> Result<Vec<AuditEntry>, ClientError> {
        let query: Vec<(&str, &str)> = after.map(|after| ("after", after)).into_iter().collect();
        self.pages(&["audit"], &query, most).await
    }

    /// Walk the whole audit log on the master.
    pub async fn verify_audit(&self) -> Result<AuditHead, ClientError> {
        self.get(&["audit", "verify"]).await
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}
