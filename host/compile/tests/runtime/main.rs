//! Helper and runtime together: real components, compiled by the real helper in its sandbox.
//!
//! The plugin is `tests/plugins/torture`, built by `cargo xtask plugins`.

mod calls;
mod canary;
mod cancel;
mod compiler;
mod grants;
mod limits;
mod loading;
mod tape;
mod world;
