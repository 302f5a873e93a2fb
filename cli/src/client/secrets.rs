//! Stored secrets.

use super::{Client, ClientError};
use reqwest::Method;
use windlass_types::{
    SecretName,
    api::secrets::{SecretInfo, SetSecret},
};

impl Client {
    pub async fn secrets(&self) -> Result<Vec<SecretInfo>, ClientError> {
        self.pages(&["secrets"], &[], usize::MAX).await
    }

    pub async fn secret(&self, name: &SecretName) -> Result<SecretInfo, ClientError> {
        self.get(&["secrets", name.as_str()]).await
    }

    /// Store a secret, or give one another value.
    pub async fn set_secret(&self, name: &SecretName, secret: &SetSecret) -> Result<SecretInfo, ClientError> {
        self.fetch(self.request(Method::PUT, &["secrets", name.as_str()]).json(secret)).await
    }

    pub async fn delete_secret(&self, name: &SecretName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["secrets", name.as_str()])).await.map(drop)
    }
}
