//! Lines for the log of the host and the trace of the job.
//!
//! What a plugin prints arrives there too, as `info` from standard output and as `warn` from standard
//! error. Lines past 8 KiB are cut; past 1,000 lines a job the rest is counted and dropped.
//!
//! ```
//! # windlass_sdk::fake::Host::new().run(|| {
//! let pool = "tank";
//! windlass_sdk::log::warn(format_args!("`{pool}` is degraded"));
//! # });
//! ```

use crate::host::log as host;
use std::fmt::Display;

pub use crate::__bindings::windlass::host::log::Level;

/// Write a line.
pub fn write(level: Level, message: impl Display) {
    host::write(level, &message.to_string());
}

/// For authors.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Something is off, the operation goes on.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// The operation suffers.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
