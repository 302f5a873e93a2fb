//! The wire between master and host: `windlass.v1`, generated from `proto/`.

/// Messages and services of `windlass.v1`.
pub mod v1 {
    #![allow(clippy::all, clippy::allow_attributes_without_reason, missing_docs, reason = "generated code")]
    tonic::include_proto!("windlass.v1");
}

/// The version of the protocol in [`v1::Hello`].
pub const PROTOCOL: u32 = 1;

/// The largest message either side takes, in bytes. A host cuts results that would not fit.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
