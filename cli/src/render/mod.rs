//! JSON and API replies to text for people. Nothing here prints, asks the time or looks at the
//! terminal: all of that comes in as a [`Look`](crate::output::Look), so every view is a snapshot test.
//!
//! What a node says is foreign text: it passes [`text::clean`] before it reaches a terminal.

pub mod access;
pub mod capabilities;
pub mod cases;
pub mod deployment;
pub mod events;
pub mod fleet;
pub mod job;
pub mod layout;
pub mod operation;
pub mod outcome;
pub mod plugins;
pub mod results;
pub mod rules;
pub mod runs;
pub mod scalar;
pub mod schedule;
pub mod secrets;
pub mod status;
pub mod table;
pub mod text;
pub mod time;
pub mod trace;
pub mod value;

#[cfg(test)]
pub mod fixtures;
