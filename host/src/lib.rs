//! The agent of a node.
//!
//! * [`config`]: the configuration file, checked before anything runs.
//! * [`journal`]: what was promised to the master, on disk.
//! * [`jobs`]: running operations: workers, queue, cancel, results.
//! * [`backoff`]: how long to wait before trying again.

pub mod backoff;
pub mod config;
pub mod files;
pub mod jobs;
pub mod journal;
