//! Runs plugins: WebAssembly components against `windlass:host/imports`.
//!
//! * [`aot`]: compiled code, made by the sandboxed helper `windlass-compile` and kept in a cache.
//! * [`Runtime`]: the engine and the threads of guests; [`Runtime::load`] gives a [`Plugin`],
//!   [`Runtime::canary`] tries whether it can be instantiated at all, and [`Runtime::call`] calls
//!   one of its operations in a fresh instance.
//! * [`secrets`]: the secrets of a call, and hiding their values in all that leaves it.
//! * [`tape`]: host calls recorded to a cassette, and answered from one.
//! * [`engine`]: the configuration that this crate and the helper share.
//! * [`os`]: what a plugin's calls do to the node; nothing there knows of plugins.
//!
//! There is no compiler in here: the agent that links this crate can only run what the helper
//! made.

pub mod aot;
mod call;
mod canary;
mod convert;
pub mod engine;
mod host;
mod limits;
pub mod os;
mod plugin;
mod runtime;
pub mod secrets;
mod state;
pub mod tape;
mod trace;

pub use call::{Call, GRACE, Report};
pub use canary::{CANARY_TIME, CanaryError};
pub use host::{ProgressReport, output::MAX_STREAM_BYTES};
pub use plugin::{LoadError, Plugin, PluginOperation};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub use secrets::Secrets;
pub use tape::{Cassette, CassetteError, Playback, Recording, Tape, TapeError};
