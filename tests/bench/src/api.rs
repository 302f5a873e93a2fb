//! The operator API as a program uses it.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use windlass_identity::{Trust, client_config};
use windlass_types::{
    Fingerprint,
    api::{
        Job,
        bundles::{Deployment, DeploymentDetail},
    },
};

/// A connection to the API that stays open.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    /// Talk to the master at `url`.
    pub fn new(url: &str, authority: Fingerprint, token: &str) -> Result<Self> {
        let tls = client_config(&Trust::Pin(authority), None, &["h2", "http/1.1"])?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(Duration::from_secs(120))
            .build()?;
        Ok(Api { client, url: url.to_owned(), token: token.to_owned() })
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let response = request.bearer_auth(&self.token).send().await.context("calling the api")?;
        if !response.status().is_success() {
            bail!("the api answered {}: {}", response.status(), response.text().await?);
        }
        Ok(response)
    }

    /// Make join tokens.
    pub async fn join_tokens(&self, count: usize) -> Result<Vec<String>> {
        let mut tokens = Vec::with_capacity(count);
        for _ in 0..count {
            let request = self.client.post(format!("{}/api/v1/join-tokens", self.url)).json(&json!({}));
            let made: Value = self.send(request).await?.json().await?;
            tokens.push(made["token"].as_str().context("a join token")?.to_owned());
        }
        Ok(tokens)
    }

    /// Run an operation without arguments on every node that fits and wait for the end.
    pub async fn run(&self, operation: &str, on: &str, wait: Duration) -> Result<(Duration, Job)> {
        self.run_within(operation, on, None, wait).await
    }

    /// The same with a deadline.
    pub async fn run_within(
        &self,
        operation: &str,
        on: &str,
        limit: Option<Duration>,
        wait: Duration,
    ) -> Result<(Duration, Job)> {
        let deadline_ms = limit.map(|limit| limit.as_millis());
        let body = json!({ "operation": operation, "target": { "on": [on] }, "deadline_ms": deadline_ms });
        let url = format!("{}/api/v1/jobs?wait_ms={}", self.url, wait.as_millis());
        let start = Instant::now();
        let job = self.send(self.client.post(url).json(&body)).await?.json().await?;
        Ok((start.elapsed(), job))
    }

    /// Upload a package, approve what it asks for and roll it out to all nodes at once.
    pub async fn push_and_deploy(
        &self,
        package: Vec<u8>,
        plugin: &str,
        version: &str,
        wait: Duration,
    ) -> Result<(Duration, DeploymentDetail)> {
        let start = Instant::now();
        let upload = self.client.post(format!("{}/api/v1/bundles", self.url)).body(package);
        self.send(upload.header("content-type", "application/x-tar")).await?;
        let body = json!({
            "plugin": plugin, "bundle": version, "approve": true,
            "strategy": { "canary": 0, "batch": 0, "soak_ms": 0 },
        });
        let request = self.client.post(format!("{}/api/v1/deployments", self.url)).json(&body);
        let made: Deployment = self.send(request).await?.json().await?;
        let (mut revision, id) = (made.revision, made.id);
        loop {
            let query = format!("revision={revision}&wait_ms={}", wait.as_millis());
            let url = format!("{}/api/v1/deployments/{id}?{query}", self.url);
            let detail: DeploymentDetail = self.send(self.client.get(url)).await?.json().await?;
            if detail.deployment.state.ended() {
                return Ok((start.elapsed(), detail));
            }
            ensure!(start.elapsed() < wait, "the deployment did not end: {:?}", detail.deployment);
            revision = detail.deployment.revision;
        }
    }

    /// True once the master knows an operation.
    pub async fn knows(&self, operation: &str) -> bool {
        let request = self.client.get(format!("{}/api/v1/operations/{operation}", self.url));
        self.send(request).await.is_ok()
    }
}
