//! What goes wrong with a registry.

use crate::{
    client::explain,
    exit::Problem,
    render::text::{clean, short},
};
use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};
use windlass_bundle::{
    BundleError,
    oci::{ImageError, PackageError},
};
use windlass_types::Digest;

/// Why a bundle could not be pushed or pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No reply: no connection, no agreement on TLS, or it broke on the way.
    #[error("cannot reach the registry `{registry}`: {why}")]
    Unreachable { registry: String, why: String, hint: Option<String> },
    /// The registry does not allow it.
    #[error("the registry `{registry}` does not allow it")]
    Denied { registry: String },
    /// The registry does not have it.
    #[error("the registry has no {what}")]
    NotFound { what: String },
    /// The registry said no, in its own words.
    #[error("the registry refused {what}: {message}")]
    Refused { what: String, message: String },
    /// Bytes that are not what they are called.
    #[error("the registry served {what} with the digest {found}, and it should be {wanted}")]
    WrongDigest { what: String, wanted: String, found: String },
    /// Fewer bytes than announced, or more.
    #[error("the registry served {found} bytes of {what}, and it has {wanted}")]
    WrongSize { what: String, wanted: u64, found: u64 },
    /// The tag names something else than the digest that was asked for.
    #[error("the tag `{tag}` names {found} now, and not {wanted}")]
    TagMoved { tag: String, wanted: Digest, found: Digest },
    /// The tag is taken by another bundle.
    #[error("the tag `{tag}` names another bundle, {found}; this is {ours}")]
    TagTaken { tag: String, found: Digest, ours: Digest },
    /// What is stored is none of ours.
    #[error("{what} is no bundle")]
    NotABundle {
        what: String,
        #[source]
        source: ImageError,
    },
    #[error("the bundle in the registry can not be used")]
    Bundle(#[from] BundleError),
    #[error("the bundle in the registry can not be used")]
    Package(#[from] PackageError),
    /// The index of signatures is something else.
    #[error("the tag `{tag}` should be an index of signatures, and is not: {why}")]
    BadIndex { tag: String, why: String },
}

impl RegistryError {
    /// An error of the library about `what`, asked of `registry`.
    pub fn of(registry: &str, what: &str, error: OciDistributionError) -> Self {
        use OciDistributionError as Oci;
        let denied = || RegistryError::Denied { registry: registry.to_owned() };
        let not_found = || RegistryError::NotFound { what: what.to_owned() };
        let refused = |message: &str| RegistryError::Refused {
            what: what.to_owned(),
            message: short(clean(message).trim(), 300),
        };
        match error {
            Oci::RequestError(source) => {
                let (why, hint) = explain(&source);
                RegistryError::Unreachable { registry: registry.to_owned(), why, hint }
            }
            Oci::UnauthorizedError { .. }
            | Oci::AuthenticationFailure(_)
            | Oci::ServerError { code: 401 | 403, .. } => denied(),
            Oci::ImageManifestNotFoundError(_) | Oci::ServerError { code: 404, .. } => not_found(),
            Oci::ServerError { code, message, .. } => refused(&format!("http status {code} {message}")),
            Oci::RegistryError { envelope, .. } => {
                let has =
                    |codes: &[OciErrorCode]| envelope.errors.iter().any(|one| codes.contains(&one.code));
                if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    denied()
                } else if has(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    not_found()
                } else {
                    let messages: Vec<&str> =
                        envelope.errors.iter().map(|one| one.message.as_str()).collect();
                    refused(&messages.join("; "))
                }
            }
            Oci::DigestError(DigestError::VerificationError { expected, actual }) => {
                RegistryError::WrongDigest { what: what.to_owned(), wanted: expected, found: actual }
            }
            other => refused(&other.to_string()),
        }
    }

    /// The error for a person: with an exit code, and what may help.
    pub fn told(self) -> anyhow::Error {
        let hint = match &self {
            RegistryError::Unreachable { hint, .. } => hint.clone(),
            RegistryError::Denied { .. } => Some(
                "log in with `docker login` or `podman login`, or give `--registry-user` and `--registry-password-file`"
                    .into(),
            ),
            RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. } => {
                Some("nothing was kept of it; the registry, or something on the way to it, is broken".into())
            }
            RegistryError::TagMoved { .. } => {
                Some("leave the digest out to take what the tag names, or the tag to take what has the digest".into())
            }
            RegistryError::TagTaken { .. } => {
                Some("a version is one bundle for ever: give this one another version, or `--move-tag`".into())
            }
            _ => None,
        };
        let message = self.to_string();
        let problem = match &self {
            RegistryError::Denied { .. } => Problem::denied(message),
            _ => Problem::failed(message),
        };
        let problem = match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        };
        // What is said here is not said again by `report`; what caused it is.
        problem.because(self).into()
    }
}
