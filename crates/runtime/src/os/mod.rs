//! What the runtime does to the node: programs and files. Nothing here knows of plugins.

pub mod files;
pub mod process;
