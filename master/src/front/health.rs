//! What this process says about itself, whoever leads: before everything else of the API.

use super::{Door, Gate, Role, Roles};
use crate::{
    api::{
        auth,
        error::{Code, Error},
    },
    metrics,
    store::Store,
};
use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::header;
use tower::ServiceExt as _;

#[derive(Clone)]
struct Local {
    roles: Roles,
    store: Store,
}

/// The API as operators see it at this master: health and figures of this process, and the rest from
/// whoever leads.
pub(crate) fn api(roles: Roles, store: Store) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(figures))
        .with_state(Local { roles: roles.clone(), store })
        .fallback_service(Gate::new(roles, Door::Api))
}

/// The process answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Requests that come here are answered: this master leads and its database answers, or it
/// reaches the one that leads.
async fn readyz(State(local): State<Local>) -> Result<String, Error> {
    let role = local.roles.borrow().clone();
    match role {
        Role::Leading(services) => {
            local.store.ping().await?;
            Ok(format!("ready\nleader, epoch {}\n", services.epoch))
        }
        Role::Following(link) => {
            let leader = &link.leader;
            if link.reaches().await {
                Ok(format!("ready\nfollower of {}, epoch {}\n", leader.master, leader.epoch))
            } else {
                let message =
                    format!("master {} leads and does not answer at {}", leader.master, leader.address);
                Err(Error::new(Code::NoLeader, message)
                    .hint("check `listen.peer` and `peer_address` of that master"))
            }
        }
        Role::Waiting(why) => {
            Err(Error::new(Code::NoLeader, format!("no master leads at the moment: {why}")))
        }
    }
}

/// Figures for Prometheus. Those of fleet and jobs are the leader's.
async fn figures(State(local): State<Local>, request: Request) -> Result<Response, Error> {
    let role = local.roles.borrow().clone();
    let (epoch, carried) = match role {
        Role::Leading(services) => {
            // It cannot fail.
            let Ok(reply) = services.of(Door::Api).oneshot(request).await;
            return Ok(reply);
        }
        Role::Following(link) => (link.leader.epoch, link.carried()),
        Role::Waiting(_) => (0, 0),
    };
    auth::has_token(&local.store, request.headers()).await?;
    let text = metrics::follower(epoch, carried);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
