//! The front doors: what hosts and operators connect to, at every master.
//!
//! Of several masters on one database one leads. It alone runs the engines and writes; the others are
//! doors to it. A door does not care who leads: each request is looked at when it comes, and is
//! answered here if this master leads, carried to the leader if another one does, and refused with
//! words if nobody does at the moment.
//!
//! # How a request is carried
//!
//! Masters speak HTTP/2 with each other over mutual TLS, on a listener of their own (`listen.peer`).
//! What hosts and operators say is HTTP as well, so a door carries it as it is, head and body: a
//! session is one stream that lasts, a job one short request, an upload a long body. Nothing is parsed
//! on the way, no status or trailer gets another meaning, and flow control goes from end to end: a host
//! that does not read slows down its own stream and no other.
//!
//! What the leader can't see by itself goes along in one header: the facts of the caller's certificate,
//! which the door has verified in its handshake, and the caller's address. The header counts only on
//! the listener for masters, which lets in only certificates that name a master; everywhere else it is
//! thrown away. The caller's token goes along untouched and is judged by the leader: so there is one
//! place that authorises, whichever door somebody took.
//!
//! # What ends
//!
//! * Nobody carries twice: the listener for masters answers only while this master leads. Two masters
//!   that each believe in the other can't send a request round in circles.
//! * Heartbeats of hosts pass through, so host and leader see each other's silence over any cut on
//!   the way. The connection between masters has pings of its own, at the pace of the heartbeat: three
//!   missing ones end it, and with it every stream that it carries.
//! * When the leader changes, all that was carried to the old one ends with `UNAVAILABLE`; hosts come
//!   back after a random wait and find the new one through the same door.
//! * A session that ends at the leader ends here too, and the host's connection is cut a moment later,
//!   as the leader does it with its own.
//!
//! Parts: [`Gate`] decides request by request; [`Link`] carries to one leader; [`peers`] takes what
//! other masters carry here; [`health`] answers for this process alone.

mod caller;
mod gate;
pub(crate) mod health;
mod link;
pub(crate) mod peers;
#[cfg(test)]
mod tests;

pub(crate) use gate::Gate;
pub(crate) use link::Link;

use axum::Router;
use std::sync::Arc;
use tokio::sync::watch;
use windlass_types::MasterId;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub master: MasterId,
    pub epoch: u64,
    /// `host:port` of its listener for masters.
    pub address: String,
}

/// What this master is, at the moment.
#[derive(Clone)]
pub(crate) enum Role {
    /// It leads.
    Leading(Arc<Services>),
    /// Another one does.
    Following(Arc<Link>),
    /// Nobody does, as far as this one knows; why.
    Waiting(Arc<str>),
}

impl Role {
    pub fn waiting(why: &str) -> Self {
        Role::Waiting(why.into())
    }
}

/// The role as it changes.
pub(crate) type Roles = watch::Receiver<Role>;

/// What the leading part answers.
#[derive(Debug)]
pub(crate) struct Services {
    pub epoch: u64,
    pub api: Router,
    pub node: Router,
    pub enroll: Router,
}

/// Which door somebody took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Api,
    Node,
    Enroll,
}

impl Door {
    /// The door of a path that was carried here.
    fn of(path: &str) -> Self {
        match path.split('/').nth(1) {
            Some("windlass.v1.Node") => Door::Node,
            Some("windlass.v1.Enroll") => Door::Enroll,
            _ => Door::Api,
        }
    }
}

impl Services {
    fn of(&self, door: Door) -> Router {
        match door {
            Door::Api => self.api.clone(),
            Door::Node => self.node.clone(),
            Door::Enroll => self.enroll.clone(),
        }
    }
}
