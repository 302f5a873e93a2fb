//! Placeholder.
pub mod os;
