//! The real program against a master that plays its part: real TLS, real HTTP, real exit codes.

mod author;
mod exit_codes;
mod fake;
mod interrupts;
mod output;
mod plugins;
mod signing;
mod surface;
