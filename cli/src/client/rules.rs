//! Rules.

use super::{Client, ClientError};
use reqwest::Method;
use windlass_types::{RuleName, api::rules::*};

impl Client {
    pub async fn rules(&self) -> Result<Vec<Rule>, ClientError> {
        self.pages(&["rules"], &[], usize::MAX).await
    }

    pub async fn new_rule(&self, new: &NewRule) -> Result<Rule, ClientError> {
        self.post(&["rules"], new).await
    }

    pub async fn try_rule(&self, tried: &TryRule) -> Result<Tried, ClientError> {
        self.post(&["rules", "try"], tried).await
    }

    pub async fn rule(&self, name: &RuleName) -> Result<Rule, ClientError> {
        self.get(&["rules", name.as_str()]).await
    }

    pub async fn delete_rule(&self, name: &RuleName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["rules", name.as_str()])).await.map(drop)
    }

    pub async fn pause_rule(&self, name: &RuleName, paused: bool) -> Result<Rule, ClientError> {
        let action = if paused { "pause" } else { "resume" };
        self.fetch(self.request(Method::POST, &["rules", name.as_str(), action])).await
    }

    /// The events that fitted last.
    pub async fn firings(&self, name: &RuleName, most: usize) -> Result<Vec<Firing>, ClientError> {
        self.pages(&["rules", name.as_str(), "firings"], &[], most).await
    }
}
