//! The agent of a node.
//!
//! * [`config`]: the configuration file, checked before anything runs.
//! * [`credentials`], [`enroll`]: the key made here, and the certificate a master gives for it.
//! * [`service`]: the host as a whole; [`session`]: its talk with one master; [`endpoints`], [`backoff`],
//!   [`explain`]: which address next, how long to wait, and what went wrong.
//! * [`epoch`]: which of several masters counts.
//! * [`jobs`]: running operations: workers, queue, cancel, results. [`journal`]: what was promised, on disk.
//! * [`engine`]: what it needs of whatever runs plugins; [`plugins`]: that on the runtime.
//! * [`bundles`]: plugins that a master wants here: fetched, verified, installed, and taken back.
//! * [`watches`]: what this host repeats by itself, and keeps for the master.
//! * [`facts`]: what this node is. [`check`]: what `windlass-host check` looks at.

pub mod backoff;
pub mod bundles;
pub mod check;
pub mod config;
pub mod credentials;
pub mod endpoints;
pub mod engine;
pub mod enroll;
pub mod epoch;
pub mod explain;
pub mod facts;
pub mod files;
pub mod jobs;
pub mod journal;
pub mod notify;
pub mod plugins;
pub mod service;
pub mod session;
pub mod trusted;
pub mod watches;
