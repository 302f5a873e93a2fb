//! The operator API.
//!
//! * [`auth`]: the one place that decides whether a request goes on.
//! * `nodes`, `jobs`, `bundles`, `plugins`, `deployments`, `events`, `schedules`, `plans`, `secrets`, `status`, `access`, `users`, `roles`, `health`: the routes. What they say is fixed in `windlass_types::api`.
//! * [`error`]: stable codes, listed in `docs/errors.md`.
//! * `server`: TLS, HTTP/1.1 and HTTP/2, limits.

mod access;
pub mod auth;
#[cfg(test)]
mod bundle_tests;
mod bundles;
mod deployments;
pub mod error;
#[cfg(test)]
mod event_tests;
mod events;
mod extract;
mod health;
mod jobs;
mod nodes;
mod plans;
mod plugins;
#[cfg(test)]
mod role_tests;
mod roles;
mod rules;
#[cfg(test)]
mod schedule_tests;
mod schedules;
mod secrets;
mod server;
mod status;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod user_tests;
mod users;

pub(crate) use access::stands_for_others;
pub use server::serve;

use crate::{
    bundles::Bundles, catalog::Catalog, config::Config, events::EventLog, fleet::Fleet, jobs::Jobs,
    planner::Planner, plans::Plans, rules::Rules, schedules::Schedules, secrets::Vault, status::Statuses,
    store::Store,
};
use auth::Authenticator;
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use error::{Code, Error};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use utoipa::openapi::{
    Content, Info, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use windlass_types::api::ApiError;

/// What the API needs.
#[derive(Debug, Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub store: Store,
    pub fleet: Fleet,
    pub catalog: Catalog,
    pub jobs: Jobs,
    pub bundles: Bundles,
    pub events: EventLog,
    pub schedules: Schedules,
    pub rules: Rules,
    pub plans: Plans,
    pub planner: Planner,
    pub status: Statuses,
    pub vault: Vault,
}

/// What the routes share.
struct Shared {
    context: Context,
    authenticator: Arc<Authenticator>,
    openapi: Arc<OpenApi>,
}

/// A reply that is not there by then is an error; waiting for a job comes on top.
const REPLY_TIME: Duration = Duration::from_secs(60);

/// What an upload gets beyond that.
const UPLOAD_TIME: Duration = Duration::from_secs(900);

/// All routes, authorised.
pub fn router(context: Context) -> Router {
    let (routes, openapi) = documented();
    let authenticator = Arc::new(Authenticator::new(context.store.clone(), context.jobs.metrics().clone()));
    let shared =
        Arc::new(Shared { context, authenticator: authenticator.clone(), openapi: Arc::new(openapi) });
    let routes: Router<Arc<Shared>> = routes
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    routes
        .fallback(async || Error::new(Code::NotFound, "there is no such route"))
        .layer(DefaultBodyLimit::max(extract::MAX_BODY))
        .layer(middleware::from_fn_with_state(authenticator, auth::authorize))
        .layer(middleware::from_fn_with_state(shared.clone(), measure))
        .with_state(shared)
}

/// The routes that the description tells of.
fn documented() -> (Router<Arc<Shared>>, OpenApi) {
    let info =
        Info::builder().title("Windlass operator API").version(env!("CARGO_PKG_VERSION")).description(Some(
            "Times are milliseconds since 1970-01-01 UTC and end in `_ms`; so do durations. Lists come in \
             pages. Calls carry `Authorization: Bearer TOKEN`. Every error is an `ApiError`, its codes are \
             listed in `docs/errors.md`.",
        ));
    let openapi = OpenApiBuilder::new().info(info.build()).build();
    let (routes, mut openapi) = OpenApiRouter::with_openapi(openapi)
        .routes(routes!(access::whoami))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::show, nodes::delete, nodes::change))
        .routes(routes!(nodes::accept))
        .routes(routes!(nodes::reject))
        .routes(routes!(nodes::revoke))
        .routes(routes!(nodes::join_tokens, nodes::new_join_token))
        .routes(routes!(nodes::delete_join_token))
        .routes(routes!(jobs::operations))
        .routes(routes!(jobs::operation))
        .routes(routes!(jobs::resolve))
        .routes(routes!(jobs::list, jobs::create))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::nodes))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::trace))
        .routes(routes!(jobs::output))
        .routes(routes!(bundles::list, bundles::upload))
        .routes(routes!(bundles::difference))
        .routes(routes!(bundles::show, bundles::delete))
        .routes(routes!(bundles::package))
        .routes(routes!(plugins::list))
        .routes(routes!(plugins::show, plugins::remove))
        .routes(routes!(plugins::events))
        .routes(routes!(plugins::approve))
        .routes(routes!(plugins::pin))
        .routes(routes!(plugins::unpin))
        .routes(routes!(plugins::rollback))
        .routes(routes!(deployments::list, deployments::create))
        .routes(routes!(deployments::show))
        .routes(routes!(deployments::pause))
        .routes(routes!(deployments::resume))
        .routes(routes!(deployments::abort))
        .routes(routes!(deployments::rollback))
        .routes(routes!(events::list))
        .routes(routes!(status::list))
        .routes(routes!(status::show))
        .routes(routes!(schedules::list, schedules::create))
        .routes(routes!(schedules::show, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::runs))
        .routes(routes!(schedules::next))
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::try_on))
        .routes(routes!(rules::show, rules::delete))
        .routes(routes!(rules::pause))
        .routes(routes!(rules::resume))
        .routes(routes!(rules::firings))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::show, secrets::set, secrets::delete))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(plans::list, plans::create))
                .routes(routes!(plans::check))
                .layer(DefaultBodyLimit::max(plans::MAX_PLAN)),
        )
        .routes(routes!(plans::show))
        .routes(routes!(plans::apply))
        .routes(routes!(plans::runs))
        .routes(routes!(plans::run))
        .routes(routes!(plans::events))
        .routes(routes!(plans::pause))
        .routes(routes!(plans::resume))
        .routes(routes!(plans::cancel))
        .routes(routes!(plans::abandon))
        .routes(routes!(plans::approve))
        .routes(routes!(plans::retry))
        .routes(routes!(plans::skip))
        .routes(routes!(access::tokens, access::new_token))
        .routes(routes!(access::delete_token))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change, users::delete))
        .routes(routes!(roles::list))
        .routes(routes!(roles::show, roles::set, roles::delete))
        .routes(routes!(roles::check))
        .routes(routes!(access::audit))
        .routes(routes!(access::verify_audit))
        .routes(routes!(health::openapi))
        .split_for_parts();
    complete(&mut openapi);
    (routes, openapi)
}

/// Add what holds for every route: the token it takes, and how errors look.
fn complete(openapi: &mut OpenApi) {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = openapi.components.get_or_insert_default();
    components.security_schemes.insert("token".into(), bearer);
    let (name, schema) =
        (<ApiError as utoipa::ToSchema>::name(), <ApiError as utoipa::PartialSchema>::schema());
    components.schemas.insert(name.to_string(), schema);
    openapi.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    let error = ResponseBuilder::new()
        .description("An error.")
        .content("application/json", Content::new(Some(Ref::from_schema_name(name))))
        .build();
    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete, &mut item.patch]
            .into_iter()
            .flatten();
        for operation in operations {
            operation.responses.responses.insert("default".into(), error.clone().into());
        }
    }
}

/// The outermost layer: limits how long a reply may take, and counts.
async fn measure(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let wait = match route.as_ref().map(MatchedPath::as_str) {
        Some("/api/v1/jobs") => Duration::from_millis(jobs::MAX_WAIT_MS),
        Some("/api/v1/deployments/{id}") => Duration::from_millis(deployments::MAX_WAIT_MS),
        // A whole package may come over a slow line.
        Some("/api/v1/bundles") => UPLOAD_TIME,
        _ => Duration::ZERO,
    };
    // A stream of events is a reply as soon as it begins.
    let reply = match tokio::time::timeout(REPLY_TIME + wait, next.run(request)).await {
        Ok(reply) => reply,
        Err(_) => Error::new(Code::Timeout, "the reply took too long").into_response(),
    };
    // Both come from outside, and each new pair is kept: take known ones only.
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let method =
        if auth::RULES.iter().any(|(known, _, _)| *known == method) { method.as_str() } else { "other" };
    shared.context.jobs.metrics().request(method, route, reply.status().as_u16(), begun.elapsed());
    reply
}
