//! Routes of bundles.

use super::{
    Shared,
    auth::Caller,
    error::{Code, Error},
    extract::{Ask, Segment, limit, page},
};
use crate::bundles::BundlesError;
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use windlass_bundle::Version;
use windlass_types::{
    PluginName,
    api::{
        Page, PageQuery,
        bundles::{Bundle, BundleDetail, BundleDifference},
    },
};

/// What packages are called in HTTP.
const TAR: &str = "application/x-tar";

/// Which bundles, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BundlesQuery {
    /// Only those of this plugin.
    #[param(value_type = Option<String>)]
    plugin: Option<PluginName>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items at most; 100 unless told, 1,000 at most.
    limit: Option<u32>,
}

/// Which two bundles: digests, or `name@version`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DifferenceQuery {
    /// The older one.
    from: String,
    /// The newer one.
    to: String,
}

/// Put a bundle into the store: the body is its package. 200 if it was there; its new signatures are added.
#[utoipa::path(post, path = "/api/v1/bundles", tag = "bundles", request_body(content = Vec<u8>, content_type = "application/x-tar"), responses((status = 201, body = Bundle), (status = 200, body = Bundle)))]
pub async fn upload(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Bundle>), Error> {
    let uploaded = shared.context.bundles.upload(body.into_data_stream(), &caller.name).await?;
    let status = if uploaded.new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(uploaded.bundle)))
}

/// Bundles, by plugin and version.
#[utoipa::path(get, path = "/api/v1/bundles", tag = "bundles", params(BundlesQuery), responses((status = 200, body = Page<Bundle>)))]
pub async fn list(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<BundlesQuery>,
) -> Result<Json<Page<Bundle>>, Error> {
    let limit = limit(&PageQuery { after: None, limit: query.limit })?;
    let after = match &query.after {
        None => None,
        Some(text) => {
            let parsed = text.split_once('@').and_then(|(name, version)| {
                Some((name.parse::<PluginName>().ok()?, version.parse::<Version>().ok()?))
            });
            let bad = || Error::new(Code::BadRequest, "`after` is not the `next` of a page");
            Some(parsed.ok_or_else(bad)?)
        }
    };
    let items = shared.context.bundles.list(query.plugin.as_ref(), after, limit as usize + 1);
    Ok(page(items, limit, |bundle: &Bundle| format!("{}@{}", bundle.plugin, bundle.version)))
}

/// A bundle and what it may do.
#[utoipa::path(get, path = "/api/v1/bundles/{bundle}", tag = "bundles", params(("bundle" = String, Path, description = "Digest, or `name@version`.")), responses((status = 200, body = BundleDetail)))]
pub async fn show(
    State(shared): State<Arc<Shared>>,
    Segment(bundle): Segment,
) -> Result<Json<BundleDetail>, Error> {
    Ok(Json(shared.context.bundles.show(&bundle)?))
}

/// A bundle as a file, with all its signatures.
#[utoipa::path(get, path = "/api/v1/bundles/{bundle}/package", tag = "bundles", params(("bundle" = String, Path, description = "Digest, or `name@version`.")), responses((status = 200, body = Vec<u8>, content_type = "application/x-tar")))]
pub async fn package(State(shared): State<Arc<Shared>>, Segment(bundle): Segment) -> Result<Response, Error> {
    let (name, bytes) = shared.context.bundles.package(&bundle).await?;
    // Names and versions hold no quotes.
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(header::CONTENT_TYPE, TAR.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, bytes).into_response())
}

/// Forget a bundle that nobody uses.
#[utoipa::path(delete, path = "/api/v1/bundles/{bundle}", tag = "bundles", params(("bundle" = String, Path, description = "Digest, or `name@version`.")), responses((status = 204)))]
pub async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Segment(bundle): Segment,
) -> Result<StatusCode, Error> {
    shared.context.bundles.delete(&bundle, &caller.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How two bundles differ: operations and what they may touch.
#[utoipa::path(get, path = "/api/v1/bundles/difference", tag = "bundles", params(DifferenceQuery), responses((status = 200, body = BundleDifference)))]
pub async fn difference(
    State(shared): State<Arc<Shared>>,
    Ask(query): Ask<DifferenceQuery>,
) -> Result<Json<BundleDifference>, Error> {
    Ok(Json(shared.context.bundles.difference(&query.from, &query.to).await?))
}

/// An error with all that caused it: what is wrong with a package stands at the end of the chain.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

impl From<BundlesError> for Error {
    fn from(error: BundlesError) -> Self {
        use crate::bundles::blobs::BlobError;
        let message = error.to_string();
        match error {
            BundlesError::UnknownBundle { nearest, .. } => {
                Error::new(Code::UnknownBundle, message).nearest(&nearest)
            }
            BundlesError::UnknownPlugin { nearest, .. } => {
                Error::new(Code::UnknownPlugin, message).nearest(&nearest)
            }
            BundlesError::UnknownDeployment(_) => Error::new(Code::UnknownDeployment, message),
            BundlesError::Package(_) | BundlesError::Bundle(_) => {
                Error::new(Code::BadPackage, whole(&error)).hint("`windlass plugin inspect` looks at one")
            }
            BundlesError::TooLarge(_) => Error::new(Code::BodyTooLarge, message),
            BundlesError::Incomplete(_) => Error::new(Code::BadRequest, message),
            BundlesError::VersionTaken { .. } => Error::new(Code::VersionTaken, message)
                .hint("a version is never changed: give the new bundle another one"),
            BundlesError::TooManySignatures(_) => Error::new(Code::TooManySignatures, message),
            BundlesError::InUse { .. } => Error::new(Code::BundleInUse, message),
            BundlesError::OtherPlugin { .. } => Error::new(Code::OtherPlugin, message),
            BundlesError::NotApproved { bundle, .. } => Error::new(Code::NotApproved, message)
                .hint(format!("`windlass plugins approve {bundle}` approves it")),
            BundlesError::UnknownOperation { .. } => Error::new(Code::UnknownOperation, message),
            BundlesError::Running { id, .. } => Error::new(Code::DeploymentRunning, message).hint(format!(
                "wait for it, `windlass plugins rollout abort {id}`, or ask with `replace` to take its place"
            )),
            BundlesError::WrongState { .. } => Error::new(Code::WrongDeploymentState, message),
            BundlesError::Nothing(_) => Error::new(Code::NothingToDo, message),
            BundlesError::Bad(_) => Error::new(Code::BadStrategy, message),
            BundlesError::Target(error) => error.into(),
            BundlesError::Blob(BlobError::Missing(_) | BlobError::Damaged(_)) => {
                tracing::error!(error = whole(&error), "a part of a bundle is lost");
                Error::new(Code::BlobLost, message).hint("upload the bundle again: that repairs it")
            }
            BundlesError::Blob(_) | BundlesError::Disk(_) => {
                tracing::error!(error = whole(&error), "the blob store failed");
                Error::new(Code::BlobsUnavailable, "the master's blob store failed; its log says why")
            }
            BundlesError::Store(error) => error.into(),
        }
    }
}
