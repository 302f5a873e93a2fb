//! Users and roles.

use super::{Client, ClientError};
use reqwest::Method;
use windlass_types::{RoleName, UserName, api::access::*};

impl Client {
    pub async fn users(&self) -> Result<Vec<User>, ClientError> {
        self.pages(&["users"], &[], usize::MAX).await
    }

    pub async fn new_user(&self, new: &NewUser) -> Result<User, ClientError> {
        self.post(&["users"], new).await
    }

    pub async fn user(&self, name: &UserName) -> Result<User, ClientError> {
        self.get(&["users", name.as_str()]).await
    }

    pub async fn change_user(&self, name: &UserName, change: &ChangeUser) -> Result<User, ClientError> {
        self.fetch(self.request(Method::PATCH, &["users", name.as_str()]).json(change)).await
    }

    pub async fn delete_user(&self, name: &UserName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["users", name.as_str()])).await.map(drop)
    }

    pub async fn roles(&self) -> Result<Vec<RoleInfo>, ClientError> {
        self.pages(&["roles"], &[], usize::MAX).await
    }

    pub async fn role(&self, name: &RoleName) -> Result<RoleInfo, ClientError> {
        self.get(&["roles", name.as_str()]).await
    }

    /// Make a role, or give one other rules.
    pub async fn set_role(&self, name: &RoleName, rules: &RoleRules) -> Result<RoleInfo, ClientError> {
        self.fetch(self.request(Method::PUT, &["roles", name.as_str()]).json(rules)).await
    }

    pub async fn delete_role(&self, name: &RoleName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["roles", name.as_str()])).await.map(drop)
    }

    /// Whether a role lets an operation run.
    pub async fn check_role(&self, name: &RoleName, asked: &CheckRole) -> Result<RoleVerdict, ClientError> {
        self.post(&["roles", name.as_str(), "check"], asked).await
    }
}
