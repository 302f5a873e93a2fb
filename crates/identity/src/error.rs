use std::path::PathBuf;

/// Why a key, a certificate or a TLS configuration is no good.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A private key that others can read.
    #[error("`{}` has mode {mode:03o}: a private key must not be open to group or others (chmod 600)", path.display())]
    OpenKey { path: PathBuf, mode: u32 },
    /// Text that holds no usable key.
    #[error("not a usable private key: {0}")]
    Key(String),
    /// Bytes that are no certificate, or one without what is needed.
    #[error("not a usable certificate: {0}")]
    Certificate(String),
    /// rustls refused a configuration.
    #[error("tls configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// An address that is not `host:port`.
    #[error("`{0}` is not `host:port`")]
    Address(String),
}
