//! The control plane.
//!
//! * [`store`]: the database, with one writer that commits in groups.
//! * [`ca`]: the built-in certificate authority.
//! * [`enroll`]: how hosts ask for a certificate. [`session`]: the stream of each accepted host.
//! * [`fleet`]: the nodes, in memory and in the store. [`catalog`]: the operations they offer.
//! * [`bundles`]: plugins as they ship, kept and given to nodes. [`deployments`]: to many nodes, in steps.
//! * [`targets`], [`jobs`]: from an operation and a target to one outcome per node.
//! * [`planner`]: from a planned operation to a plan.
//! * [`plans`]: steps on several nodes that are done or undone as a whole.
//! * [`rules`]: what is done when something happens.
//! * [`schedules`]: operations that run by the clock.
//! * [`secrets`]: passwords and keys that operations are given by name.
//! * [`events`]: the log of what happens on the grid.
//! * `front`: the doors of a master, whoever leads. `leading`: what runs where one leads. `election`: who does.
//! * [`access`]: what roles allow.
//! * [`api`]: HTTP/JSON and SSE for operators, and the one place that authorises. [`metrics`]: figures.
//!
//! [`setup`] makes a new data directory, [`backup`] a copy of one; [`recovery`] makes a token for who has none. [`run`] takes bound listeners, so tests and benchmarks start a whole master on port 0.

pub mod access;
pub mod api;
pub mod backup;
pub mod bundles;
pub mod ca;
pub mod catalog;
pub mod config;
pub mod deployments;
pub mod enroll;
pub mod events;
pub mod fleet;
pub mod jobs;
pub mod metrics;
pub mod planner;
pub mod plans;
pub mod recovery;
pub mod rules;
pub mod schedules;
pub mod secrets;
pub mod session;
pub mod setup;
pub mod status;
pub mod store;
pub mod targets;

mod connections;
mod election;
mod front;
mod leading;
mod run;
#[cfg(test)]
mod testing;
mod uncut;

pub use config::Config;
pub use run::{Listeners, RunError, run, run_with};

/// Milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
