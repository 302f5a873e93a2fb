//! Write a Windlass plugin in Rust.
//!
//! A plugin is a folder with `wit/` (what it offers), `plugin.toml` (what it may touch) and a crate.
//! One line makes Rust of the WIT, and the operations are functions:
//!
//! ```
//! # /*
//! windlass_sdk::plugin!();
//! # */ windlass_sdk::plugin!("tests/wit");
//!
//! use api::disk::{Guest, UsageError};
//! use windlass_sdk::{Command, Error};
//!
//! impl Guest for Plugin {
//!     fn available(path: String) -> Result<u64, UsageError> {
//!         let output = Command::new("df").args(["-B1", "--output=avail"]).arg(path).run()?.success()?;
//!         let bytes = output.lines()?.last().and_then(|line| line.trim().parse().ok());
//!         bytes.ok_or_else(|| UsageError::Failed("df printed no number".into()))
//!     }
//! }
//!
//! impl From<Error> for UsageError {
//!     fn from(error: Error) -> Self {
//!         match error {
//!             Error::Denied(why) => Self::Denied(why),
//!             other => Self::Failed(other.to_string()),
//!         }
//!     }
//! }
//! # fn main() {
//! # let df = || windlass_sdk::fake::Host::new().command("df", ["-B1", "--output=avail", "/"]);
//! # assert_eq!(df().prints("Avail\n42\n").run(|| Plugin::available("/".into())), Ok(42));
//! # let denied = df().denied("no rule").run(|| Plugin::available("/".into()));
//! # assert_eq!(denied, Err(UsageError::Denied("no rule".into())));
//! # }
//! ```
//!
//! Inside, the host is asked through this crate:
//!
//! | module | for |
//! |---|---|
//! | [`Command`] | running programs of the node, and reading what they print |
//! | [`files`] | files and directories of the node |
//! | [`probes`] | processors, memory, disks, mounts, network and sensors, read by the host itself |
//! | [`state`] | what the plugin keeps on this node from call to call |
//! | [`job`] | who called, the plugin's configuration, progress, cancellation, dry run |
//! | [`output`] | what is printed for whoever watches, of any length |
//! | [`plan`] | operations that make plans of many steps on many nodes, on the master |
//! | [`log`] | lines for the log of the host and the trace of the job |
//!
//! All of it fails with one [`Error`], which keeps apart what an operator must tell apart: denied,
//! not there, out of time, ended with another status. With a `From<windlass_sdk::Error>` for the error
//! of its own WIT, a plugin uses `?` throughout.
//!
//! Compiled for anything but wasm, the same functions ask a [`fake::Host`]: `cargo test` runs the
//! plugin's operations natively, against a script of what the host is asked and what it answers.

#[doc(hidden)]
#[allow(unsafe_code, missing_docs, reason = "generated from WIT")]
pub mod __bindings {
    pub use wit_bindgen;
    windlass_sdk_macros::host!();
}

mod command;
mod error;
#[cfg(not(target_family = "wasm"))]
pub mod fake;
pub mod files;
mod host;
pub mod job;
pub mod log;
pub mod output;
pub mod plan;
pub mod probes;
pub mod state;

pub use command::{Chunk, Command, CommandError, ExitStatus, Output, Piece, Process, Secret, Stream, Value};
pub use error::{Error, Exit};

/// Make Rust of the plugin's WIT, and a component of the crate.
///
/// Reads the folder `wit` beside the plugin's `Cargo.toml`, or another one: `plugin!("other/wit")`. Its
/// package has one world; the interface of the host need not be among its dependencies.
///
/// Where it is written, there are then
///
/// - `api`, with a module for each interface that the world exports: its types, and a trait `Guest`
///   with its functions. All types can be cloned, compared and printed with `{:?}`.
/// - `Plugin`, for which every one of these traits must be implemented. That it is, is checked when
///   compiling for wasm.
///
/// The crate must be of the type `cdylib` (`rlib` beside it for tests in `tests/`), and is compiled
/// for `wasm32-wasip2`. See the example [above](crate).
pub use windlass_sdk_macros::plugin;
