//! How bundles and numbers of nodes are typed.

use std::{path::PathBuf, str::FromStr};
use windlass_types::{Digest, PluginName, api::Batch};

/// Nodes at a time: a number, or a share such as `25%`.
pub fn batch(text: &str) -> Result<Batch, String> {
    let wrong = || "expected a number of nodes, or a share from `1%` to `100%`".to_owned();
    match text.strip_suffix('%') {
        Some(percent) => match percent.parse() {
            Ok(percent @ 1..=100) => Ok(Batch::Percent(percent)),
            _ => Err(wrong()),
        },
        None => text.parse().map(Batch::Count).map_err(|_| wrong()),
    }
}

/// A bundle in the store: `name@version`, `name@sha256:…` or `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleRef {
    Named(PluginBundle),
    Digest(Digest),
}

/// A bundle of a plugin: by version or by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginBundle {
    pub plugin: PluginName,
    /// A version or a digest, as the API takes it.
    pub bundle: String,
}

/// A plugin, or one of its bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PluginOrBundle {
    Plugin(PluginName),
    Bundle(BundleRef),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Stored(BundleRef),
    File(PathBuf),
}

impl BundleRef {
    /// As the API takes it.
    pub fn to_api(&self) -> String {
        match self {
            BundleRef::Digest(digest) => digest.to_string(),
            // A digest says all.
            BundleRef::Named(named) if named.bundle.parse::<Digest>().is_ok() => named.bundle.clone(),
            BundleRef::Named(named) => named.to_string(),
        }
    }
}

impl std::fmt::Display for PluginBundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.plugin, self.bundle)
    }
}

impl FromStr for PluginBundle {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (plugin, bundle) = text
            .split_once('@')
            .ok_or("expected `NAME@VERSION`, such as `zfs@0.2.0` (see `windlass plugins list`)")?;
        let plugin = plugin.parse::<PluginName>().map_err(|error| error.to_string())?;
        if bundle.parse::<Digest>().is_err() && bundle.parse::<windlass_bundle::Version>().is_err() {
            return Err(format!("`{bundle}` is neither a version such as `0.2.0` nor a digest"));
        }
        Ok(PluginBundle { plugin, bundle: bundle.to_owned() })
    }
}

impl FromStr for BundleRef {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(digest) => Ok(BundleRef::Digest(digest)),
            Err(_) => text.parse().map(BundleRef::Named),
        }
    }
}

impl FromStr for PluginOrBundle {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['@', ':']) {
            return text.parse().map(PluginOrBundle::Bundle);
        }
        text.parse()
            .map(PluginOrBundle::Plugin)
            .map_err(|error: windlass_types::ids::IdError| error.to_string())
    }
}

impl FromStr for Side {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // No plugin's name holds a slash, and none with a version ends so.
        let file = text.contains('/') || text.ends_with(".tar");
        if file { Ok(Side::File(text.into())) } else { text.parse().map(Side::Stored) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_as_typed() {
        let digest = Digest::of(b"x").to_string();
        assert_eq!("zfs@0.2.0".parse::<BundleRef>().unwrap().to_api(), "zfs@0.2.0");
        assert_eq!(digest.parse::<BundleRef>().unwrap().to_api(), digest);
        assert_eq!(format!("zfs@{digest}").parse::<BundleRef>().unwrap().to_api(), digest);
        for bad in ["zfs", "zfs@", "@0.1.0", "zfs@new", "sha256:12", "ZFS@0.1.0"] {
            assert!(bad.parse::<BundleRef>().is_err(), "{bad}");
        }
        assert_eq!("zfs".parse(), Ok(PluginOrBundle::Plugin("zfs".parse().unwrap())));
        assert_eq!("./zfs".parse(), Ok(Side::File("./zfs".into())));
        assert_eq!("zfs-0.1.0.tar".parse(), Ok(Side::File("zfs-0.1.0.tar".into())));
        assert!(matches!("zfs@0.1.0".parse(), Ok(Side::Stored(_))));
    }

    #[test]
    fn shares_of_nodes() {
        let of = |text: &str, nodes| batch(text).map(|batch| batch.of(nodes));
        assert_eq!(of("0", 10), Ok(0));
        assert_eq!(of("4", 10), Ok(4));
        assert_eq!(of("25%", 10), Ok(3));
        assert_eq!(of("1%", 10), Ok(1));
        assert_eq!(of("100%", 0), Ok(1));
        for bad in ["", "x", "0%", "101%", "-1", "5.5%"] {
            assert!(of(bad, 1).is_err(), "{bad}");
        }
    }
}
