//! Where the SDK meets the host: the functions of `windlass:host` in wasm, and a script of a test
//! anywhere else. All that is above this module is the same in both.

#[cfg(target_family = "wasm")]
pub(crate) use crate::__bindings::windlass::host::{
    commands, files, job, log, output, probes, secrets, state,
};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::fake::{commands, files, job, log, output, probes, secrets, state};
