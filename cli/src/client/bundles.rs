//! Bundles, plugins and deployments.

use super::{Client, ClientError, PACKAGE};
use reqwest::{Method, header};
use std::time::Duration;
use windlass_types::{
    DeploymentId, PluginName,
    api::{Target, bundles::*},
};

/// What packages are sent as.
const TAR: &str = "application/x-tar";

/// What an operator may do to a deployment under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    Pause,
    Resume,
    Abort,
    Rollback,
}

impl Control {
    fn as_str(self) -> &'static str {
        match self {
            Control::Pause => "pause",
            Control::Resume => "resume",
            Control::Abort => "abort",
            Control::Rollback => "rollback",
        }
    }
}

impl Client {
    /// Upload a package. True if the master did not have the bundle.
    pub async fn upload(&self, package: Vec<u8>) -> Result<(Bundle, bool), ClientError> {
        let request =
            self.request(Method::POST, &["bundles"]).header(header::CONTENT_TYPE, TAR).body(package);
        let reply = self.send_within(request.header(header::ACCEPT, "application/json"), PACKAGE).await?;
        let new = reply.status() == reqwest::StatusCode::CREATED;
        Ok((self.parse(reply).await?, new))
    }

    /// Download a package, whatever its size up to `most` bytes.
    pub async fn download(&self, bundle: &str, most: u64) -> Result<Vec<u8>, ClientError> {
        let request = self.request(Method::GET, &["bundles", bundle, "package"]).header(header::ACCEPT, TAR);
        let mut reply = self.send_within(request, PACKAGE).await?;
        let mut bytes = Vec::new();
        let broke = |source| ClientError::unreachable(self.address(), source);
        while let Some(chunk) = reply.chunk().await.map_err(broke)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > most {
                return Err(ClientError::TooLarge { path: reply.url().path().to_owned(), most });
            }
        }
        Ok(bytes)
    }

    /// Bundles in the store, of one plugin or of all.
    pub async fn bundles(&self, plugin: Option<&PluginName>) -> Result<Vec<Bundle>, ClientError> {
        let query: Vec<(&str, &str)> = plugin.iter().map(|plugin| ("plugin", plugin.as_str())).collect();
        self.pages(&["bundles"], &query, usize::MAX).await
    }

    /// A bundle by digest or `name@version`.
    pub async fn bundle(&self, bundle: &str) -> Result<BundleDetail, ClientError> {
        self.get(&["bundles", bundle]).await
    }

    pub async fn delete_bundle(&self, bundle: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["bundles", bundle])).await.map(drop)
    }

    pub async fn bundle_difference(&self, from: &str, to: &str) -> Result<BundleDifference, ClientError> {
        let request = self.request(Method::GET, &["bundles", "difference"]);
        self.fetch(request.query(&[("from", from), ("to", to)])).await
    }

    pub async fn plugins(&self) -> Result<Vec<PluginSummary>, ClientError> {
        self.pages(&["plugins"], &[], usize::MAX).await
    }

    pub async fn plugin(&self, name: &PluginName) -> Result<PluginDetail, ClientError> {
        self.get(&["plugins", name.as_str()]).await
    }

    /// What happened to a plugin on the nodes, the newest first.
    pub async fn plugin_events(
        &self,
        name: &PluginName,
        most: usize,
    ) -> Result<Vec<PluginEvent>, ClientError> {
        self.pages(&["plugins", name.as_str(), "events"], &[], most).await
    }

    pub async fn approve_plugin(
        &self,
        name: &PluginName,
        body: &ApprovePlugin,
    ) -> Result<PluginApproval, ClientError> {
        self.post(&["plugins", name.as_str(), "approve"], body).await
    }

    pub async fn pin_plugin(&self, name: &PluginName, body: &PinPlugin) -> Result<PluginDetail, ClientError> {
        self.post(&["plugins", name.as_str(), "pin"], body).await
    }

    pub async fn unpin_plugin(&self, name: &PluginName, target: Target) -> Result<PluginDetail, ClientError> {
        self.post(&["plugins", name.as_str(), "unpin"], &UnpinPlugin { target }).await
    }

    pub async fn rollback_plugin(
        &self,
        name: &PluginName,
        body: &RollbackPlugin,
    ) -> Result<Deployment, ClientError> {
        self.post(&["plugins", name.as_str(), "rollback"], body).await
    }

    /// Take a plugin off all nodes, or off one.
    pub async fn remove_plugin(&self, name: &PluginName, node: Option<&str>) -> Result<(), ClientError> {
        let query: Vec<(&str, &str)> = node.map(|node| ("node", node)).into_iter().collect();
        let request = self.request(Method::DELETE, &["plugins", name.as_str()]);
        self.send(request.query(&query)).await.map(drop)
    }

    pub async fn new_deployment(&self, new: &NewDeployment) -> Result<Deployment, ClientError> {
        self.post(&["deployments"], new).await
    }

    /// Deployments, the newest first.
    pub async fn deployments(
        &self,
        plugin: Option<&PluginName>,
        most: usize,
    ) -> Result<Vec<Deployment>, ClientError> {
        let query: Vec<(&str, &str)> = plugin.iter().map(|plugin| ("plugin", plugin.as_str())).collect();
        self.pages(&["deployments"], &query, most).await
    }

    pub async fn deployment(&self, id: DeploymentId) -> Result<DeploymentDetail, ClientError> {
        self.get(&["deployments", &id.to_string()]).await
    }

    /// A deployment once it has changed since `revision`, or as it is after `wait`.
    pub async fn deployment_after(
        &self,
        id: DeploymentId,
        revision: u64,
        wait: Duration,
    ) -> Result<DeploymentDetail, ClientError> {
        let request = self.request(Method::GET, &["deployments", &id.to_string()]);
        self.fetch(request.query(&[("revision", revision), ("wait_ms", crate::duration::millis(wait))])).await
    }

    pub async fn control_deployment(
        &self,
        id: DeploymentId,
        control: Control,
    ) -> Result<Deployment, ClientError> {
        self.fetch(self.request(Method::POST, &["deployments", &id.to_string(), control.as_str()])).await
    }
}
