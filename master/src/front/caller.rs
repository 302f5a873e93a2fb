//! Who a carried request is from, in one header.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, sync::Arc};
use windlass_identity::{CertificateFacts, CutHandle, NodeIdentity, PeerInfo, Serial};
use windlass_types::Fingerprint;

const HEADER: HeaderName = HeaderName::from_static("windlass-caller");

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    address: SocketAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    /// The identity as it stands in the certificate.
    node: String,
    serial: String,
    not_before_ms: i64,
    not_after_ms: i64,
    fingerprint: Fingerprint,
}

/// Put the caller in, instead of whatever it put there itself.
pub(super) fn set(headers: &mut HeaderMap, peer: &PeerInfo) {
    headers.remove(&HEADER);
    let certificate = peer.certificate.as_deref().and_then(|facts| {
        Some(Certificate {
            node: facts.node?.uri(),
            serial: facts.serial.to_string(),
            not_before_ms: facts.not_before_ms,
            not_after_ms: facts.not_after_ms,
            fingerprint: facts.fingerprint,
        })
    });
    let caller = Caller { address: peer.address, certificate };
    // Numbers and texts of our own making: neither step can fail. Without the header the leader refuses.
    if let Ok(text) = serde_json::to_string(&caller)
        && let Ok(value) = HeaderValue::try_from(text)
    {
        headers.insert(HEADER, value);
    }
}

/// Take the caller out. None if there is none, or one that can't be.
pub(super) fn take(headers: &mut HeaderMap) -> Option<PeerInfo> {
    let value = headers.remove(&HEADER)?;
    let Caller { address, certificate } = serde_json::from_slice(value.as_bytes()).ok()?;
    let certificate = match certificate {
        None => None,
        Some(Certificate { node, serial, not_before_ms, not_after_ms, fingerprint }) => {
            let even = format!("{}{serial}", if serial.len() % 2 == 0 { "" } else { "0" });
            Some(Arc::new(CertificateFacts {
                serial: Serial::from_bytes(&hex::decode(even).ok()?),
                not_before_ms,
                not_after_ms,
                fingerprint,
                node: Some(NodeIdentity::from_uri(&node)?),
                master: None,
            }))
        }
    };
    Some(PeerInfo { certificate, address, cut: CutHandle::elsewhere() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::NodeId;

    #[test]
    fn a_caller_arrives_as_it_was() {
        for serial in ["1", "40ff", "0"] {
            let facts = CertificateFacts {
                serial: Serial::from_bytes(&hex::decode(format!("{serial:0>6}")).unwrap()),
                not_before_ms: -1,
                not_after_ms: i64::MAX,
                fingerprint: Fingerprint::of(b"key"),
                node: Some(NodeIdentity { id: NodeId::new(), generation: u64::MAX }),
                master: None,
            };
            let peer = PeerInfo {
                certificate: Some(Arc::new(facts)),
                address: "[fe80::1]:7".parse().unwrap(),
                cut: CutHandle::elsewhere(),
            };
            let mut headers = HeaderMap::new();
            headers.append(HEADER, HeaderValue::from_static("what the caller says"));
            headers.append(HEADER, HeaderValue::from_static("and says again"));
            set(&mut headers, &peer);
            assert_eq!(headers.get_all(HEADER).iter().count(), 1);
            let taken = take(&mut headers).unwrap();
            assert_eq!((taken.certificate, taken.address), (peer.certificate, peer.address));
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn nonsense_is_nobody() {
        for text in ["", "{}", "{\"address\":\"x\"}", "{\"address\":\"1.2.3.4:5\",\"certificate\":{}}"] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_static(text));
            assert!(take(&mut headers).is_none(), "{text}");
        }
    }
}
