//! How hosts ask for a certificate.
