//! Bundles that a master wants on a node: real TLS, the real compiler, small plugins.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod install;
mod probation;
mod trust;
