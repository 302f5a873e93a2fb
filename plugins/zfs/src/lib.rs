//! `windlass:zfs`: pools and datasets, through zpool(8) and zfs(8).
//!
//! Three dialects are spoken: OpenZFS 2.1 and newer (Linux kernel module) and zfs-fuse 0.7. Which
//! one a node has is found by asking: the OpenZFS form of a command is tried first, and only when
//! the tool refuses its *arguments* (exit status 2 with a usage message) the zfs-fuse form follows.
//! Version strings are never looked at.
//!
//! - [`tool`] runs a program and turns how it failed into a [`tool::Failure`].
//! - [`parse`] holds pure functions from text to values; they are tested natively on output
//!   captured from the real tools, see `captures/`.
//! - `lifecycle` makes and removes filesystems.
//! - [`pool`] and [`dataset`] join the two into the operations.

windlass_sdk::plugin!();

pub mod dataset;
mod lifecycle;
pub mod parse;
pub mod pool;
pub mod tool;
