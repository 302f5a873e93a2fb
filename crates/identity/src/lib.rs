//! Keys, certificates and TLS, the same on both ends of the wire.
//!
//! * [`key`]: the private key of a node, which never leaves it.
//! * [`certificate`]: what a certificate says: serial, validity, which node and which generation.
//! * [`client`]: TLS towards a master, trusting a pinned authority and nothing else.
//! * [`server`]: TLS of a listener, with a certificate that can be swapped and peers that can be refused.
//! * [`sealing`]: secrets on their way to one node, for one request.
//! * [`accept`]: the accept loop: handshakes side by side with a limit, connections that can be cut.
//!
//! TLS 1.3 only, on ring. Sessions are never resumed: a resumed session would skip the check of
//! the client's certificate (rustls copies the chain out of the ticket). Signing certificates is
//! the master's business and not here.

pub mod accept;
pub mod certificate;
pub mod client;
mod error;
pub mod key;
pub mod sealing;
pub mod server;

pub use accept::{Conn, CutHandle, PeerInfo, TlsListener};
pub use certificate::{
    CertificateFacts, NodeIdentity, Serial, certificates_from_pem, master_name, master_uri, read_certificate,
    spki_fingerprint,
};
pub use client::{ChannelOptions, ClientIdentity, Trust, channel, client_config};
pub use error::IdentityError;
pub use key::{NodeKey, read_private, write_private};
pub use sealing::{Letter, SealError, SealingKey, SealingPublic};
pub use server::{PeerCheck, PeerRefused, ServerTls};

use rustls::crypto::CryptoProvider;
use std::sync::Arc;

/// Make ring the provider of this process. Calling it again changes nothing.
pub fn install_provider() {
    // An error means that one is installed already, by us: nothing else in the tree brings one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
