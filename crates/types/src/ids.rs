//! Validated names and identifiers.
//!
//! A value of one of these types is well formed wherever it appears: text from the wire, a
//! configuration file or a command line is parsed here and nowhere else looked at again.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct IdError {
    /// What was wanted, such as `node name`.
    pub kind: &'static str,
    /// The text, cut at 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl IdError {
    fn new(kind: &'static str, text: &str, rule: &'static str) -> Self {
        IdError { kind, text: text.chars().take(80).collect(), rule }
    }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                String::schema()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $new:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one.
            #[expect(clippy::new_without_default, reason = "each call gives another value")]
            pub fn new() -> Self {
                $name($new)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                // One spelling only: lower-case with hyphens. Uuid's own parser takes more.
                match Uuid::parse_str(text) {
                    Ok(id) if id.as_hyphenated().to_string() == text => Ok($name(id)),
                    _ => Err(IdError::new($kind, text, "expected 36 lower-case hexadecimal digits and hyphens")),
                }
            }
        }
        text_serde!($name);
    };
}

uuid_id! {
    /// A node, for ever: random, never used again.
    NodeId, "node id", Uuid::new_v4()
}
uuid_id! {
    /// A master, from its start to its end: the next start is another one.
    MasterId, "master id", Uuid::new_v4()
}
uuid_id! {
    /// A job. Ids sort by time of creation.
    JobId, "job id", Uuid::now_v7()
}
uuid_id! {
    /// A roll-out of a bundle. Ids sort by time of creation.
    DeploymentId, "deployment id", Uuid::now_v7()
}
uuid_id! {
    /// A plan that is stored, and its run: a plan is applied once at most. Ids sort by time of creation.
    PlanId, "plan id", Uuid::now_v7()
}
uuid_id! {
    /// One delivery of a job to one node. A host that sees the same request twice answers with the
    /// recorded outcome instead of running it again.
    RequestId, "request id", Uuid::now_v7()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok($name(text.to_owned())) } else { Err(IdError::new($kind, text, $rule)) }
            }
        }
        text_serde!($name);
    };
}

name! {
    /// The name of a node as operators see it: a lower-case host name (RFC 1123).
    NodeName, "node name",
    "expected labels of a-z, 0-9 and `-`, joined by `.`, 253 characters at most",
    |text| {
        !text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    }
}

name! {
    /// The name of a schedule, such as `nightly-scrub`.
    ScheduleName, "name of a schedule",
    "expected a-z, 0-9 and single `-`, beginning with a letter, 63 characters at most",
    is_kebab
}

name! {
    /// The name of a rule, such as `page-on-failure`.
    RuleName, "name of a rule",
    "expected a-z, 0-9 and single `-`, beginning with a letter, 63 characters at most",
    is_kebab
}

name! {
    /// The name of a plugin: one kebab-case word of WIT, such as `zfs`.
    PluginName, "plugin name",
    "expected a-z, 0-9 and single `-`, beginning with a letter, 63 characters at most",
    is_kebab
}

name! {
    /// The name of a role, such as `operator` or `night-shift`.
    RoleName, "name of a role",
    "expected a-z, 0-9 and single `-`, beginning with a letter, 63 characters at most",
    is_kebab
}

name! {
    /// The name of a step within its plan, such as `dataset-n1`.
    StepId, "name of a step",
    "expected a-z, 0-9 and `-`, 63 characters at most",
    |text| {
        !text.is_empty()
            && text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
}

name! {
    /// The name of a user, such as `jane.doe`.
    UserName, "name of a user",
    "expected letters, digits, `.`, `_`, `-` and `@`, beginning with a letter or digit, 63 characters at most",
    is_user
}

name! {
    /// The name of a stored secret, such as `nas-password`. A lower-case letter first, so that what
    /// people use as passwords is rarely one by mistake.
    SecretName, "name of a secret",
    "expected a-z, 0-9 and single `-`, beginning with a letter, 63 characters at most",
    is_kebab
}

/// No colon: `schedule:NAME` in the audit log is no user.
fn is_user(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
}

/// One word of WIT in lower case: `pool`, `list-all`.
fn is_kebab(text: &str) -> bool {
    text.len() <= 63
        && text.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
        && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The full name of an operation: `plugin.interface.function`, such as `zfs.pool.list`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationName {
    text: String,
    first_dot: usize,
    second_dot: usize,
}

impl OperationName {
    /// Put a name together from its parts.
    ///
    /// # Errors
    /// If `interface` or `function` is not one kebab-case word.
    pub fn new(plugin: &PluginName, interface: &str, function: &str) -> Result<Self, IdError> {
        format!("{plugin}.{interface}.{function}").parse()
    }
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The plugin that exports it.
    pub fn plugin(&self) -> PluginName {
        PluginName(self.text[..self.first_dot].to_owned())
    }
    /// The interface, a noun.
    pub fn interface(&self) -> &str {
        &self.text[self.first_dot + 1..self.second_dot]
    }
    /// The function, a verb.
    pub fn function(&self) -> &str {
        &self.text[self.second_dot + 1..]
    }
    /// The name within its plugin: `interface.function`.
    pub fn local(&self) -> &str {
        &self.text[self.first_dot + 1..]
    }
}

impl FromStr for OperationName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts: Vec<&str> = text.split('.').collect();
        match parts[..] {
            [plugin, interface, function] if parts.iter().all(|part| is_kebab(part)) => Ok(OperationName {
                text: text.to_owned(),
                first_dot: plugin.len(),
                second_dot: text.len() - function.len() - 1,
            })
            .inspect(|name| debug_assert_eq!(name.interface(), interface)),
            _ => Err(IdError::new(
                "operation name",
                text,
                "expected `plugin.interface.function`, such as `zfs.pool.list`",
            )),
        }
    }
}
impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}
text_serde!(OperationName);

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Digest(sha2::Sha256::digest(bytes).into())
    }
    /// The digest itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
    /// The digest as 64 hexadecimal digits, fit for a file name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}
impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Digest(bytes)
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = || IdError::new("digest", text, "expected `sha256:` and 64 lower-case hexadecimal digits");
        let digits = text.strip_prefix("sha256:").ok_or_else(fail)?;
        let mut bytes = [0; 32];
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail());
        }
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| fail())?;
        Ok(Digest(bytes))
    }
}
text_serde!(Digest);

/// The SHA-256 of a public key (its DER SubjectPublicKeyInfo): how people compare keys.
pub type Fingerprint = Digest;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operation_names_split() {
        let name: OperationName = "zfs.pool-set.list-all".parse().unwrap();
        assert_eq!(name.plugin().as_str(), "zfs");
        assert_eq!(name.interface(), "pool-set");
        assert_eq!(name.function(), "list-all");
        assert_eq!(name.local(), "pool-set.list-all");
        for bad in [
            "",
            "zfs",
            "zfs.pool",
            "zfs.pool.list.x",
            "Zfs.pool.list",
            "zfs..list",
            "zfs.pool.li_st",
            "zfs.pool.-x",
            "../a.b.c",
        ] {
            assert!(bad.parse::<OperationName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_have_one_spelling() {
        let id = NodeId::new();
        assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<NodeId>().is_err());
        assert!(format!("{{{id}}}").parse::<NodeId>().is_err());
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
    }

    proptest! {
        #[test]
        fn names_never_hold_a_path_or_control_character(text in ".{0,80}") {
            if let Ok(name) = text.parse::<NodeName>() {
                prop_assert!(!name.as_str().contains(['/', '\\', '\0', ' ', '\n']));
                prop_assert!(!name.as_str().contains(".."));
            }
            if let Ok(name) = text.parse::<PluginName>() {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }
    }
}
