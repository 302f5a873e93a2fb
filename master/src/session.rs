//! The stream of each accepted host.
