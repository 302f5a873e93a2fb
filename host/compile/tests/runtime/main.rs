//! Helper and runtime together: real components, compiled by the real helper in its sandbox.
//!
//! The plugins are `tests/plugins/torture` and `kit`, built by `cargo xtask plugins`.

mod calls;
mod canary;
mod cancel;
mod compiler;
mod grants;
mod limits;
mod loading;
mod sdk;
mod tape;
mod world;
