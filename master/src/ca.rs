//! The built-in certificate authority.
//!
//! One key, made by `init`, signs the certificates of nodes and of this master. Of a request only
//! the public key is taken: every name, usage and date in a certificate is ours.
//!
//! There is no list of revoked certificates. A certificate names a node and a generation, and each
//! session asks the fleet about both: a revoked or deleted node, and every generation older than
//! the newest one seen, is refused whatever its certificate says.
//!
//! Operators and new hosts pin the public key of the authority, so every chain that the master
//! shows ends with the authority's certificate.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData as _, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use std::{
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use time::OffsetDateTime;
use windlass_identity::{
    IdentityError, NodeIdentity, NodeKey, Serial, certificates_from_pem, master_name, master_uri,
    spki_fingerprint,
};
use windlass_types::{Fingerprint, MasterId, NodeName};

/// Why the authority could not do something.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// There is one already.
    #[error("`{}` exists already: this data directory was initialised before", .0.display())]
    Exists(PathBuf),
    /// `init` has not run.
    #[error("`{}` does not exist: run `windlass-master init` first", .0.display())]
    Missing(PathBuf),
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The key or certificate on disk is no good.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Key and certificate on disk are not a pair.
    #[error("`{}` does not belong to the certificate beside it", .0.display())]
    NotAPair(PathBuf),
    /// A name that cannot stand in a certificate.
    #[error("`{0}` is neither a host name nor an address")]
    ServerName(String),
    /// A certificate request that is no good.
    #[error("not a usable certificate request: {0}")]
    Request(String),
    /// Signing failed.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
}

/// Largest certificate request, in bytes of PEM. Ours have about 400.
pub const MAX_REQUEST_BYTES: usize = 8 << 10;
const AUTHORITY_TTL: Duration = Duration::from_secs(20 * 365 * 86_400);
const SERVER_TTL: Duration = Duration::from_secs(90 * 86_400);
/// The same in milliseconds.
pub(crate) const SERVER_TTL_MS: i64 = 90 * 86_400_000;
/// Clocks of nodes may be this much behind ours.
const BACKDATE: Duration = Duration::from_secs(300);

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
    fingerprint: Fingerprint,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.fingerprint)
    }
}

/// A certificate request whose signature has been checked: the sender has the key.
pub struct Request {
    params: CertificateSigningRequestParams,
    fingerprint: Fingerprint,
}

impl Request {
    /// Check a request from the wire.
    ///
    /// # Errors
    /// If it is too large, malformed, wrongly signed, or for a key of a kind that nobody here makes.
    pub fn from_pem(pem: &str) -> Result<Self, CaError> {
        let bad = |why: &str| CaError::Request(why.to_owned());
        if pem.len() > MAX_REQUEST_BYTES {
            return Err(bad("it is larger than 8 KiB"));
        }
        let params = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| CaError::Request(error.to_string()))?;
        let algorithm = params.public_key.algorithm();
        if ![&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519].contains(&algorithm) {
            return Err(bad("the key must be ECDSA P-256, P-384 or Ed25519"));
        }
        let fingerprint = Fingerprint::of(&params.public_key.subject_public_key_info());
        Ok(Request { params, fingerprint })
    }

    /// The SHA-256 of the public key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// A certificate as issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, and the authority's after it.
    pub chain_pem: String,
    pub serial: Serial,
    pub expires_ms: i64,
}

impl Authority {
    /// Make a new authority in `dir`, which must not exist.
    ///
    /// # Errors
    /// If it exists or cannot be written.
    pub fn create(dir: &Path) -> Result<Self, CaError> {
        if dir.exists() {
            return Err(CaError::Exists(dir.to_owned()));
        }
        let key = NodeKey::generate()?;
        let pair = KeyPair::from_pem(&key.key_pem())?;
        let mut params = params(AUTHORITY_TTL, &format!("windlass {}", &key.fingerprint().hex()[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&pair)?.pem();

        let file = |action, path: &Path| {
            let path = path.to_owned();
            move |source| CaError::File { action, path, source }
        };
        // Built beside and moved into place, so that half an authority is never taken for one.
        let building = dir.with_extension("new");
        if building.exists() {
            std::fs::remove_dir_all(&building).map_err(file("remove", &building))?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(&building).map_err(file("create", &building))?;
        key.save(&building.join("ca.key"))?;
        let certificate = building.join("ca.pem");
        std::fs::write(&certificate, &pem)
            .and_then(|()| std::fs::File::open(&certificate)?.sync_all())
            .map_err(file("write", &certificate))?;
        std::fs::rename(&building, dir).map_err(file("create", dir))?;
        Self::load(dir)
    }

    /// Load the authority in `dir`.
    ///
    /// # Errors
    /// If there is none, it can't be read, or the key is open to others.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        if !dir.exists() {
            return Err(CaError::Missing(dir.to_owned()));
        }
        let (key_path, path) = (dir.join("ca.key"), dir.join("ca.pem"));
        let key = NodeKey::load(&key_path)?;
        let pem = std::fs::read_to_string(&path).map_err(|source| CaError::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let der = certificates_from_pem(&pem)?.remove(0);
        let fingerprint = spki_fingerprint(&der)?;
        if fingerprint != key.fingerprint() {
            return Err(CaError::NotAPair(key_path));
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&key.key_pem())?)?;
        Ok(Authority { issuer, pem, der, fingerprint })
    }

    /// The SHA-256 of its public key: what hosts and operators pin.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }
    /// Its certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Sign the certificate of a node.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign_node(
        &self,
        request: Request,
        node: NodeIdentity,
        name: &NodeName,
        ttl: Duration,
    ) -> Result<Issued, CaError> {
        let san = SanType::URI(node.uri().try_into()?);
        self.sign(request, vec![san], name.as_str(), &[ExtendedKeyUsagePurpose::ClientAuth], ttl)
    }

    /// A new key and certificate for this master. They live in memory only: the next start makes
    /// others, and nobody pins them.
    ///
    /// # Errors
    /// If a name can't stand in a certificate.
    pub fn server(&self, names: &[String]) -> Result<(NodeKey, Issued), CaError> {
        let san = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => match rustls_pki_types::DnsName::try_from(name.as_str()) {
                Ok(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
                Err(_) => Err(CaError::ServerName(name.clone())),
            },
        };
        let sans = names.iter().map(san).collect::<Result<Vec<_>, _>>()?;
        let key = NodeKey::generate()?;
        let request = Request::from_pem(&key.csr_pem()?)?;
        let usages = [ExtendedKeyUsagePurpose::ServerAuth];
        let issued = self.sign(request, sans, "windlass-master", &usages, SERVER_TTL)?;
        Ok((key, issued))
    }

    /// A new key and certificate for what this master and other masters say to each other.
    ///
    /// # Errors
    /// If signing fails.
    pub fn peer(&self, id: MasterId) -> Result<(NodeKey, Issued), CaError> {
        let names =
            vec![SanType::URI(master_uri(id).try_into()?), SanType::DnsName(master_name(id).try_into()?)];
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = NodeKey::generate()?;
        let request = Request::from_pem(&key.csr_pem()?)?;
        let issued = self.sign(request, names, "windlass-master", &usages, SERVER_TTL)?;
        Ok((key, issued))
    }

    fn sign(
        &self,
        request: Request,
        names: Vec<SanType>,
        common_name: &str,
        usages: &[ExtendedKeyUsagePurpose],
        ttl: Duration,
    ) -> Result<Issued, CaError> {
        let mut csr = request.params;
        let mut params = params(ttl, common_name);
        let mut serial: [u8; 16] = rand::random();
        // Positive and of one length.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        let expires_ms = params.not_after.unix_timestamp() * 1000;
        // Whatever the request asked for goes.
        csr.params = params;
        let certificate = csr.signed_by(&self.issuer)?;
        Ok(Issued {
            chain_pem: certificate.pem() + &self.pem,
            serial: Serial::from_bytes(&serial),
            expires_ms,
        })
    }
}

fn params(ttl: Duration, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // X.520 ends common names at 64 characters; names of nodes are ASCII.
    params.distinguished_name.push(DnType::CommonName, &common_name[..common_name.len().min(64)]);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE;
    params.not_after = now + ttl;
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_identity::read_certificate;
    use windlass_types::NodeId;

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca")).unwrap();
        (dir, authority)
    }

    #[test]
    fn an_authority_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, authority) = authority();
        let ca = dir.path().join("ca");
        let mode = |name: &str| std::fs::metadata(ca.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("ca.key")), (0o700, 0o600));
        assert_eq!(Authority::load(&ca).unwrap().fingerprint(), authority.fingerprint());
        assert!(matches!(Authority::create(&ca), Err(CaError::Exists(_))));
        assert!(matches!(Authority::load(&dir.path().join("x")), Err(CaError::Missing(_))));
        NodeKey::generate().unwrap().save(&ca.join("ca.key")).unwrap();
        assert!(matches!(Authority::load(&ca), Err(CaError::NotAPair(_))));
    }

    #[test]
    fn only_the_key_of_a_request_counts() {
        let (_dir, authority) = authority();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(vec!["master.example".into()]).unwrap();
        asked.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        asked.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = asked.serialize_request(&key).unwrap().pem().unwrap();
        let node = NodeIdentity { id: NodeId::new(), generation: 4 };
        let issued = authority
            .sign_node(
                Request::from_pem(&pem).unwrap(),
                node,
                &"n1".parse().unwrap(),
                Duration::from_secs(3600),
            )
            .unwrap();
        let chain = certificates_from_pem(&issued.chain_pem).unwrap();
        assert_eq!(chain.len(), 2);
        let facts = read_certificate(&chain[0]).unwrap();
        assert_eq!(facts.node, Some(node));
        assert_eq!(facts.serial, issued.serial);
        assert_eq!(facts.not_after_ms, issued.expires_ms);
        assert!((facts.not_after_ms - crate::now_ms() - 3_600_000).abs() < 5000);
        assert_eq!(facts.fingerprint, Fingerprint::of(&key.subject_public_key_info()));
        let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1, "the name it asked for is gone");
        assert_eq!(issued.serial.as_str().len(), 32);
    }

    #[test]
    fn bad_requests_are_refused() {
        let pem = NodeKey::generate().unwrap().csr_pem().unwrap();
        // One changed byte in the signature, at the end of the base64 text.
        let position = pem.rfind("\n-----END").unwrap() - 12;
        let mut tampered = pem.clone().into_bytes();
        tampered[position] = if tampered[position] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(tampered).unwrap();
        assert!(matches!(Request::from_pem(&tampered), Err(CaError::Request(_))));
        assert!(matches!(Request::from_pem(""), Err(CaError::Request(_))));
        assert!(matches!(Request::from_pem(&"x".repeat(9000)), Err(CaError::Request(_))));
    }

    #[test]
    fn masters_and_nodes_are_never_taken_for_each_other() {
        let (_dir, authority) = authority();
        let id = MasterId::new();
        let (key, issued) = authority.peer(id).unwrap();
        let facts = read_certificate(&certificates_from_pem(&issued.chain_pem).unwrap()[0]).unwrap();
        assert_eq!((facts.master, facts.node), (Some(id), None));
        assert_eq!(facts.fingerprint, key.fingerprint());
        let (_, server) = authority.server(&["localhost".into()]).unwrap();
        let facts = read_certificate(&certificates_from_pem(&server.chain_pem).unwrap()[0]).unwrap();
        assert_eq!((facts.master, facts.node), (None, None));
    }

    #[test]
    fn server_names_are_checked() {
        let (_dir, authority) = authority();
        assert!(authority.server(&["localhost".into(), "::1".into(), "10.0.0.1".into()]).is_ok());
        let bad = authority.server(&["not a name".into()]);
        assert!(matches!(bad, Err(CaError::ServerName(name)) if name == "not a name"));
    }
}
