//! Decides, request by request, who answers.

use super::{Door, Role, Roles};
use crate::api::error::{Code, Error};
use axum::{
    Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use http::Request;
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tonic::Status;
use tower::{Service, ServiceExt as _};

/// One door.
#[derive(Clone)]
pub(crate) struct Gate {
    roles: Roles,
    door: Door,
}

impl Gate {
    pub fn new(roles: Roles, door: Door) -> Self {
        Gate { roles, door }
    }

    /// Everything goes through it.
    pub fn router(self) -> Router {
        Router::new().fallback_service(self)
    }
}

impl Service<Request<Body>> for Gate {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (role, door) = (self.roles.borrow().clone(), self.door);
        Box::pin(async move {
            match role {
                Role::Leading(services) => services.of(door).oneshot(request).await,
                Role::Following(link) => Ok(link.carry(door, request).await),
                Role::Waiting(why) => Ok(door.nobody(&why)),
            }
        })
    }
}

impl Door {
    /// The answer when the leader was lost after it was asked: it may have done it.
    pub(super) fn lost(self, safe: bool, why: &str) -> Response {
        match self {
            // Hosts ask for nothing that must not happen twice.
            _ if safe => self.nobody(why),
            Door::Node | Door::Enroll => self.nobody(why),
            Door::Api => Error::new(
                Code::LeaderLost,
                format!(
                    "the leading master was lost before it answered ({why}): it may have done what was asked"
                ),
            )
            .hint("look whether it has, such as with `windlass jobs list`, before you ask again")
            .into_response(),
        }
    }

    /// The answer while nobody leads. Whoever asked may try again, and nothing has happened.
    pub(super) fn nobody(self, why: &str) -> Response {
        let message = format!("no master leads at the moment: {why}");
        match self {
            Door::Api => Error::new(Code::NoLeader, message)
                .hint("another master takes over within seconds: try again; `/readyz` of each master says what it sees")
                .into_response(),
            Door::Node | Door::Enroll => Status::unavailable(format!("{message}; try again")).into_http(),
        }
    }
}
