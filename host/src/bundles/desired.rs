//! What a master wants on this node, checked once and kept on disk as it came.
//!
//! The set is written before anything is done about it, so that an install that a crash cut short goes
//! on without the master. An entry that makes no sense is kept apart: it is reported, and what runs
//! under its name is left alone.

use crate::files;
use prost::Message as _;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};
use windlass_bundle::{Version, oci::MAX_SIGNATURES};
use windlass_proto::v1;
use windlass_types::{Digest, PluginName};

/// Plugins in one set at most.
const MAX_PLUGINS: usize = 64;
/// Longest id of a deployment, in bytes.
const MAX_DEPLOYMENT: usize = 128;
/// Largest approval, in bytes.
const MAX_APPROVAL: usize = 1 << 20;

/// A set of wanted plugins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// The master's number for it.
    pub revision: u64,
    /// By plugin; each is good, or says what is wrong with it.
    pub plugins: BTreeMap<PluginName, Result<Wanted, Unclear>>,
}

/// One wanted plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub name: PluginName,
    pub version: Version,
    pub digest: Digest,
    /// Who wants it: what failed is tried again only for another one.
    pub deployment: String,
    /// A version lower than the highest that ran may be installed.
    pub allow_downgrade: bool,
    /// Signatures, each as JSON.
    pub signatures: Vec<String>,
    /// The operator's approval, as JSON.
    pub approval: String,
}

/// An entry that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear {
    /// For the answer; none if what came is no digest.
    pub digest: Option<Digest>,
    pub deployment: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Wanted {
    /// Names the request as a whole.
    pub fn request(&self) -> Digest {
        let Wanted { name, version, digest, deployment, allow_downgrade, signatures, approval } = self;
        // Text in quotes: no two requests read the same.
        Digest::of(
            format!("{name} {version} {digest} {deployment:?} {allow_downgrade} {signatures:?} {approval:?}")
                .as_bytes(),
        )
    }
}

impl Desired {
    /// Check a set as it came.
    pub fn parse(message: &v1::Desired) -> Desired {
        let mut plugins = BTreeMap::new();
        for plugin in message.plugins.iter().take(MAX_PLUGINS) {
            let name = match plugin.name.parse::<PluginName>() {
                Ok(name) => name,
                Err(error) => {
                    tracing::warn!("the master wants a plugin: {error}");
                    continue;
                }
            };
            let entry = if plugins.contains_key(&name) {
                Err(unclear(plugin, "the master wants two bundles of this plugin".into()))
            } else {
                wanted(&name, plugin).map_err(|problem| unclear(plugin, problem))
            };
            plugins.insert(name, entry);
        }
        if message.plugins.len() > MAX_PLUGINS {
            tracing::warn!(
                "the master wants {} plugins: only {MAX_PLUGINS} are taken",
                message.plugins.len()
            );
        }
        Desired { revision: message.revision, plugins }
    }

    /// The good entry of a plugin.
    pub fn wanted(&self, name: &PluginName) -> Option<&Wanted> {
        self.plugins.get(name)?.as_ref().ok()
    }
}

fn unclear(plugin: &v1::DesiredPlugin, problem: String) -> Unclear {
    let deployment = plugin.deployment.chars().take(MAX_DEPLOYMENT).collect();
    Unclear { digest: plugin.digest.parse().ok(), deployment, problem }
}

fn wanted(name: &PluginName, plugin: &v1::DesiredPlugin) -> Result<Wanted, String> {
    let text = |what: &str, bytes: &[u8]| {
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| format!("{what} is no text"))
    };
    if plugin.deployment.len() > MAX_DEPLOYMENT {
        return Err(format!("the id of the deployment is longer than {MAX_DEPLOYMENT} bytes"));
    }
    if plugin.signatures.len() > MAX_SIGNATURES {
        return Err(format!("{} signatures came, and {MAX_SIGNATURES} are allowed", plugin.signatures.len()));
    }
    if plugin.approval_json.len() > MAX_APPROVAL {
        return Err("the approval is larger than 1 MiB".into());
    }
    let signatures = plugin
        .signatures
        .iter()
        .map(|signature| match signature.len() {
            ..=windlass_bundle::signature::MAX_BYTES => text("a signature", signature),
            _ => Err("a signature is too large".into()),
        })
        .collect::<Result<Vec<String>, String>>()?;
    Ok(Wanted {
        name: name.clone(),
        version: plugin.version.parse().map_err(|error| format!("version `{}`: {error}", plugin.version))?,
        digest: plugin.digest.parse().map_err(|error| format!("{error}"))?,
        deployment: plugin.deployment.clone(),
        allow_downgrade: plugin.allow_downgrade,
        signatures,
        approval: text("the approval", &plugin.approval_json)?,
    })
}

/// Where the set is kept.
#[derive(Debug, Clone)]
pub struct DesiredFile(PathBuf);

impl DesiredFile {
    /// In this folder.
    pub fn new(dir: &Path) -> Self {
        DesiredFile(dir.join("desired.pb"))
    }

    /// Read it; none if no master ever said what it wants. Blocks.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn load(&self) -> io::Result<Option<v1::Desired>> {
        match std::fs::read(&self.0) {
            Ok(bytes) => v1::Desired::decode(bytes.as_slice()).map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replace it. Blocks until it is on the disk.
    ///
    /// # Errors
    /// If it can't be written; it is then as it was.
    pub fn save(&self, message: &v1::Desired) -> io::Result<()> {
        files::write_atomically(&self.0, &message.encode_to_vec(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(name: &str) -> v1::DesiredPlugin {
        v1::DesiredPlugin {
            name: name.into(),
            version: "0.1.0".into(),
            digest: Digest::of(b"x").to_string(),
            signatures: vec!["{}".into()],
            approval_json: "{}".into(),
            deployment: "d1".into(),
            allow_downgrade: false,
        }
    }

    #[test]
    fn what_makes_no_sense_is_kept_apart_and_names_stay() {
        let set = v1::Desired {
            revision: 4,
            plugins: vec![
                plugin("good"),
                plugin("../evil"),
                plugin("twice"),
                plugin("twice"),
                v1::DesiredPlugin { version: "1".into(), ..plugin("version") },
                v1::DesiredPlugin { digest: "sha256:../".into(), ..plugin("digest") },
                v1::DesiredPlugin { signatures: vec![vec![0xff].into()], ..plugin("signature") },
                v1::DesiredPlugin { signatures: vec!["{}".into(); 1000], ..plugin("signatures") },
                v1::DesiredPlugin { deployment: "d".repeat(1000), ..plugin("deployment") },
            ],
        };
        let desired = Desired::parse(&set);
        let good: Vec<&str> = desired
            .plugins
            .iter()
            .filter(|(_, entry)| entry.is_ok())
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!((desired.revision, good), (4, vec!["good"]));
        assert_eq!(desired.plugins.len(), 7, "all but the one whose name is none");
        assert!(desired.wanted(&"twice".parse().unwrap()).is_none());
    }

    #[test]
    fn a_request_is_another_one_when_anything_differs() {
        let of = |plugin: v1::DesiredPlugin| wanted(&"a".parse().unwrap(), &plugin).unwrap().request();
        let requests = [
            of(plugin("a")),
            of(v1::DesiredPlugin { deployment: "d2".into(), ..plugin("a") }),
            of(v1::DesiredPlugin { signatures: vec![], ..plugin("a") }),
            of(v1::DesiredPlugin { signatures: vec!["{}".into(), "{}".into()], ..plugin("a") }),
            of(v1::DesiredPlugin { approval_json: "{ }".into(), ..plugin("a") }),
            of(v1::DesiredPlugin { allow_downgrade: true, ..plugin("a") }),
            of(v1::DesiredPlugin { version: "0.1.1".into(), ..plugin("a") }),
        ];
        let distinct: std::collections::BTreeSet<_> = requests.iter().collect();
        assert_eq!(distinct.len(), requests.len());
        assert_eq!(of(plugin("a")), requests[0]);
    }

    #[test]
    fn it_survives_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file = DesiredFile::new(dir.path());
        assert_eq!(file.load().unwrap(), None);
        let set = v1::Desired { revision: 2, plugins: vec![plugin("a")] };
        file.save(&set).unwrap();
        assert_eq!(file.load().unwrap(), Some(set));
    }
}
