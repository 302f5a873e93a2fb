//! Starts a grid of real processes on loopback: one master, some hosts, and the command line
//! against them; or one of real machines, with ZFS and Gluster ([`lab`]). The end-to-end tests use both, and
//! so do `cargo xtask dev` and `cargo xtask lab`.
//!
//! * [`binaries`]: where the programs and bundles under test lie.
//! * [`bundles`]: signed packages of the test plugins.
//! * [`chaos`]: kills, freezes and cuts off parts of a grid while jobs run, and checks the outcome.
//! * [`daemon`]: one process that tells when it is ready, and ends with its owner.
//! * [`grid`]: a master with its hosts.
//! * [`lab`]: a grid of real machines, with the packages installed.
//! * [`link`]: a line between host and master that can be cut.
//! * [`postgres`]: a PostgreSQL server.
//! * [`registry`]: an OCI registry.
//! * [`until`]: waiting for conditions.

pub mod binaries;
pub mod bundles;
pub mod chaos;
pub mod daemon;
pub mod grid;
pub mod lab;
pub mod link;
pub mod postgres;
pub mod registry;
pub mod until;

pub use binaries::Binaries;
pub use daemon::Daemon;
pub use grid::{Grid, GridOptions, Output};
pub use lab::{Lab, LabOptions};
pub use postgres::Postgres;
pub use until::until;
