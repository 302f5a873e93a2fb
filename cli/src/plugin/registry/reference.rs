//! Where in a registry: `oci://REGISTRY/REPOSITORY[:TAG][@DIGEST]`.

use std::{fmt, str::FromStr};
use windlass_types::Digest;

/// How such a reference begins.
pub const SCHEME: &str = "oci://";

/// A place in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host name or address, and port.
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<Digest>,
}

impl Reference {
    /// The same place, by digest.
    pub fn by_digest(&self, digest: Digest) -> String {
        format!("{SCHEME}{}/{}@{digest}", self.registry, self.repository)
    }

    /// What a tag of the same repository is for the library.
    pub fn tagged(&self, tag: &str) -> oci_client::Reference {
        oci_client::Reference::with_tag(self.registry.clone(), self.repository.clone(), tag.to_owned())
    }

    /// The same for a digest.
    pub fn exact(&self, digest: Digest) -> oci_client::Reference {
        let digest = digest.to_string();
        oci_client::Reference::with_digest(self.registry.clone(), self.repository.clone(), digest)
    }

    /// True if the registry is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.registry,
        };
        let address = host.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("`{text}` {why}: expected `oci://REGISTRY/REPOSITORY[:TAG][@DIGEST]`");
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("does not begin with `oci://`"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| wrong("has no good digest"))?)),
            None => (rest, None),
        };
        let (registry, path) = rest.split_once('/').ok_or_else(|| wrong("names no repository"))?;
        // The library would take `zfs/pool` to be a repository of a well-known public registry.
        if !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err(wrong("names no registry"));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        // The library knows the rules for each part.
        let whole: oci_client::Reference =
            rest.parse().map_err(|error| wrong(&format!("is no reference ({error})")))?;
        if whole.registry() != registry || whole.repository() != repository {
            return Err(wrong("is no reference"));
        }
        Ok(Reference {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_as_typed() {
        let digest = Digest::of(b"x");
        for text in [
            "oci://registry.example/zfs".to_owned(),
            "oci://registry.example/plugins/zfs:0.2.0".to_owned(),
            "oci://127.0.0.1:5000/zfs:test".to_owned(),
            format!("oci://localhost/zfs@{digest}"),
            format!("oci://localhost:5000/a/b/c:1@{digest}"),
        ] {
            assert_eq!(text.parse::<Reference>().map(|reference| reference.to_string()), Ok(text));
        }
        for bad in [
            "registry.example/zfs",
            "oci://zfs",
            "oci://plugins/zfs:1",
            "oci:///zfs",
            "oci://registry.example/",
            "oci://registry.example/ZFS",
            "oci://registry.example/../zfs",
            "oci://registry.example/zfs:",
            "oci://registry.example/zfs:a b",
            "oci://registry.example/zfs@sha256:12",
            "oci://registry.example/zfs?x=1",
            "oci://user@registry.example/zfs",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_on_this_machine() {
        for (text, yes) in [
            ("oci://localhost/x", true),
            ("oci://localhost:5000/x", true),
            ("oci://127.0.0.1:5000/x", true),
            ("oci://127.0.0.1.example/x", false),
            ("oci://registry.example:5000/x", false),
            ("oci://10.0.0.1/x", false),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().is_loopback(), yes, "{text}");
        }
    }
}
