//! What a certificate says.
//!
//! The identity of a master among masters is `spiffe://windlass/master/<id>`; no certificate is
//! both. The identity of a node is one URI in its certificate, `spiffe://windlass/node/<id>/<generation>`.
//! The generation grows with each renewal: an older one seen again means that somebody kept a copy.

use crate::error::IdentityError;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::fmt;
use windlass_types::{Fingerprint, MasterId, NodeId};
use x509_parser::extensions::GeneralName;

/// The serial number of a certificate, in lower-case hexadecimal without leading zeros.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(String);

impl Serial {
    /// From the bytes of a serial number.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let digits = hex::encode(bytes);
        let digits = digits.trim_start_matches('0');
        Serial(if digits.is_empty() { "0".into() } else { digits.to_owned() })
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which node a certificate stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node.
    pub id: NodeId,
    /// How often its certificate has been issued.
    pub generation: u64,
}

const PREFIX: &str = "spiffe://windlass/node/";

impl NodeIdentity {
    /// The URI that stands in the certificate.
    pub fn uri(&self) -> String {
        format!("{PREFIX}{}/{}", self.id, self.generation)
    }

    /// Read the URI of a certificate; none when it is not one of ours.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (id, generation) = uri.strip_prefix(PREFIX)?.split_once('/')?;
        if generation.is_empty() || !generation.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(NodeIdentity { id: id.parse().ok()?, generation: generation.parse().ok()? })
    }
}

const MASTER_PREFIX: &str = "spiffe://windlass/master/";

/// The URI in the certificate that a master shows other masters.
pub fn master_uri(id: MasterId) -> String {
    format!("{MASTER_PREFIX}{id}")
}

/// The name under which other masters know this one. A certificate has it beside the URI, since a
/// client looks for a name: so whoever connects to a master knows that it is that very one.
pub fn master_name(id: MasterId) -> String {
    // `.invalid` is never a name of anybody (RFC 2606).
    format!("{id}.master.windlass.invalid")
}

/// What we look at in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Serial number.
    pub serial: Serial,
    /// Begin of validity, in milliseconds since 1970-01-01 UTC.
    pub not_before_ms: i64,
    /// End of validity.
    pub not_after_ms: i64,
    /// SHA-256 of the public key.
    pub fingerprint: Fingerprint,
    /// The node it stands for; none for the certificates of masters.
    pub node: Option<NodeIdentity>,
    /// The master it stands for, towards other masters.
    pub master: Option<MasterId>,
}

/// Read a certificate. This checks no signature.
///
/// # Errors
/// If the bytes are not one X.509 certificate, or it names more than one node or master.
pub fn read_certificate(der: &[u8]) -> Result<CertificateFacts, IdentityError> {
    let bad = |what: &str| IdentityError::Certificate(what.to_owned());
    let (rest, certificate) = x509_parser::parse_x509_certificate(der)
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad("bytes follow the certificate"));
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let mut nodes = uris.clone().filter_map(NodeIdentity::from_uri);
    let mut masters = uris.filter_map(|uri| uri.strip_prefix(MASTER_PREFIX)?.parse::<MasterId>().ok());
    let (node, master) = (nodes.next(), masters.next());
    if nodes.next().is_some() || masters.next().is_some() || (node.is_some() && master.is_some()) {
        return Err(bad("it names more than one node or master"));
    }
    Ok(CertificateFacts {
        serial: Serial::from_bytes(certificate.raw_serial()),
        not_before_ms: certificate.validity().not_before.timestamp().saturating_mul(1000),
        not_after_ms: certificate.validity().not_after.timestamp().saturating_mul(1000),
        fingerprint: Fingerprint::of(certificate.public_key().raw),
        node,
        master,
    })
}

/// The SHA-256 of the public key in a certificate.
///
/// # Errors
/// If the bytes are not a certificate.
pub fn spki_fingerprint(der: &[u8]) -> Result<Fingerprint, IdentityError> {
    read_certificate(der).map(|facts| facts.fingerprint)
}

/// All certificates in a PEM text, in order.
///
/// # Errors
/// If there is none, or one is broken.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(IdentityError::Certificate("the text holds none".into()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_one_spelling() {
        let identity = NodeIdentity { id: NodeId::new(), generation: 7 };
        assert_eq!(NodeIdentity::from_uri(&identity.uri()), Some(identity));
        for bad in ["spiffe://windlass/node/", "spiffe://other/node/x/1", "spiffe://windlass/node/../1"] {
            assert_eq!(NodeIdentity::from_uri(bad), None);
        }
        assert_eq!(NodeIdentity::from_uri(&format!("{PREFIX}{}/+7", identity.id)), None);
        assert_eq!(NodeIdentity::from_uri(&format!("{PREFIX}{}", identity.id)), None);
    }
}
