//! Stored secrets. Nothing gives out a value.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /secrets?after=&limit=` | → [`Page`](super::Page)`<`[`SecretInfo`]`>`, by name |
//! | `GET /secrets/{name}`, `DELETE /secrets/{name}` | → [`SecretInfo`], 204 |
//! | `PUT /secrets/{name}` | [`SetSecret`] → [`SecretInfo`] |

use crate::ids::{RoleName, SecretName};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What is known of a secret but for its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    pub name: SecretName,
    /// Counts how often the value was set.
    pub version: u32,
    pub created_by: String,
    pub created_ms: i64,
    /// Who set the value that it has.
    pub changed_by: String,
    pub changed_ms: i64,
    /// The rules of roles that let operations have it.
    pub given_by: Vec<SecretRule>,
}

/// A rule of a role that lets operations have a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SecretRule {
    pub role: RoleName,
    /// Counted from 1.
    pub rule: u32,
    /// To which operations: globs.
    pub operations: Vec<String>,
}

/// Store a value. A job that was made before and still has nodes to ask is refused there.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// Base64 (RFC 4648, with padding) of 6 to 65,536 bytes.
    pub value: String,
}

impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SetSecret")
    }
}
