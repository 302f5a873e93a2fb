//! What is installed, and what became of each version: the host's word on its bundles.
//!
//! One file, `bundles/ledger.json`, always replaced as a whole: after a crash it holds either the state
//! before a step or the one after it. It is small, since parts of bundles lie beside it as blobs.

use super::{desired::Wanted, probation::Probation};
use crate::files;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
};
use windlass_bundle::Version;
use windlass_proto::v1;
use windlass_types::{Digest, PluginName};

/// Changes that are kept and told.
pub const CHANGES: usize = 64;
/// Bundles of one plugin that were sent back: so many are remembered.
const SENT_BACK: usize = 8;
/// Longest message of a change, in bytes.
const MESSAGE_BYTES: usize = 2048;

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file can't be read or written.
    #[error("`{path}`")]
    Io {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("`{path}` is damaged, or another version of the host wrote it")]
    Damaged {
        path: String,
        #[source]
        source: serde_json::Error,
    },
}

impl LedgerError {
    /// True if there is no room for it.
    pub fn is_full(&self) -> bool {
        matches!(self, LedgerError::Io { source, .. } if super::blobs::is_full(source))
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// By plugin. What was removed stays here for its `highest`.
    #[serde(default)]
    pub plugins: BTreeMap<PluginName, Record>,
    /// The newest changes, oldest first.
    #[serde(default)]
    pub changes: VecDeque<Change>,
    /// Number of the newest change.
    #[serde(default)]
    pub last_change: u64,
}

/// One plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version that runs.
    #[serde(default)]
    pub current: Option<Slot>,
    /// The one before, kept for a rollback.
    #[serde(default)]
    pub previous: Option<Slot>,
    /// The highest version that ran here; one that was rolled back for its failures does not count.
    #[serde(default, with = "optional_version")]
    pub highest: Option<Version>,
    /// While `current` is new.
    #[serde(default)]
    pub probation: Option<Probation>,
    /// The newest bundle that could not be installed.
    #[serde(default)]
    pub failed: Option<Rejected>,
    /// The newest ones that ran and were sent back, oldest first.
    #[serde(default)]
    pub rolled_back: VecDeque<Rejected>,
    /// A version that is being loaded for the first time.
    #[serde(default)]
    pub trying: Option<Trying>,
}

/// An installed version, with all it takes to judge it again without a master.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    pub digest: Digest,
    #[serde(with = "version")]
    pub version: Version,
    /// Who wanted it.
    pub deployment: String,
    /// Signatures, each as JSON.
    pub signatures: Vec<String>,
    /// The operator's approval, as JSON.
    pub approval: String,
    /// When its signatures were found good. What expired later does not end what runs; what is revoked does.
    pub verified_ms: i64,
}

/// A bundle that is not wanted here, whatever the master says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub digest: Digest,
    #[serde(with = "version")]
    pub version: Version,
    pub deployment: String,
    /// Digest of the whole request.
    pub request: Digest,
    pub problem: String,
}

/// A version that is being loaded: written before its code is used for the first time, so that one
/// that ends the whole process is not tried for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trying {
    /// Of the request.
    pub request: Digest,
    pub times: u32,
}

/// What happened to a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub number: u64,
    pub time_ms: i64,
    pub name: PluginName,
    pub kind: Kind,
    /// The bundle it is about, or what runs after a rollback; none where nothing does.
    pub to: Option<Named>,
    /// What ran before; none for nothing.
    pub from: Option<Named>,
    pub message: String,
}

/// A version by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub digest: Digest,
    #[serde(with = "version")]
    pub version: Version,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Installed,
    Failed,
    RolledBack,
    Removed,
}

impl Kind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Installed => "installed",
            Kind::Failed => "failed",
            Kind::RolledBack => "rolled_back",
            Kind::Removed => "removed",
        }
    }
}

impl Record {
    /// Whether this request could not be met. One that differs in anything is another one.
    pub fn failed(&self, wanted: &Wanted) -> Option<&Rejected> {
        self.failed.as_ref().filter(|failed| failed.request == wanted.request())
    }

    /// Whether this bundle was sent back here, when the same deployment asked for it.
    pub fn sent_back(&self, wanted: &Wanted) -> Option<&Rejected> {
        self.rolled_back
            .iter()
            .rfind(|back| back.digest == wanted.digest && back.deployment == wanted.deployment)
    }

    /// Remember a bundle that was sent back.
    pub fn send_back(&mut self, bad: &Slot, problem: String) {
        self.rolled_back.push_back(Rejected {
            digest: bad.digest,
            version: bad.version,
            deployment: bad.deployment.clone(),
            // Another deployment asks for it again, and nothing less: this is not compared.
            request: Digest::of(b""),
            problem,
        });
        if self.rolled_back.len() > SENT_BACK {
            self.rolled_back.pop_front();
        }
    }
}

impl Slot {
    /// Its name in a change.
    pub fn named(&self) -> Named {
        Named { digest: self.digest, version: self.version }
    }
}

impl Ledger {
    /// Read it; an empty one if there is none.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn load(path: &Path) -> Result<Ledger, LedgerError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ledger::default()),
            Err(source) => return Err(LedgerError::Io { path: path.display().to_string(), source }),
        };
        serde_json::from_slice(&text)
            .map_err(|source| LedgerError::Damaged { path: path.display().to_string(), source })
    }

    /// Replace the file. Blocks until it is on the disk.
    ///
    /// # Errors
    /// If it can't be written; the file is then as it was.
    pub fn save(&self, path: &Path) -> Result<(), LedgerError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| LedgerError::Damaged { path: path.display().to_string(), source })?;
        files::write_atomically(path, &text, 0o600)
            .map_err(|source| LedgerError::Io { path: path.display().to_string(), source })
    }

    /// Note what happened.
    pub fn note(
        &mut self,
        now_ms: i64,
        name: &PluginName,
        kind: Kind,
        (from, to): (Option<Named>, Option<Named>),
        message: &str,
    ) {
        self.last_change += 1;
        let end = (0..=message.len().min(MESSAGE_BYTES))
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .unwrap_or_default();
        self.changes.push_back(Change {
            number: self.last_change,
            time_ms: now_ms,
            name: name.clone(),
            kind,
            to,
            from,
            message: message[..end].to_owned(),
        });
        while self.changes.len() > CHANGES {
            self.changes.pop_front();
        }
    }

    /// The record of a plugin, made if there is none.
    pub fn record(&mut self, name: &PluginName) -> &mut Record {
        self.plugins.entry(name.clone()).or_default()
    }
}

impl Change {
    /// As it is told.
    pub fn message(&self) -> v1::PluginChange {
        let digest = |named: &Option<Named>| named.as_ref().map(|n| n.digest.to_string()).unwrap_or_default();
        let version =
            |named: &Option<Named>| named.as_ref().map(|n| n.version.to_string()).unwrap_or_default();
        v1::PluginChange {
            number: self.number,
            time_ms: self.time_ms,
            name: self.name.to_string(),
            digest: digest(&self.to),
            version: version(&self.to),
            from_digest: digest(&self.from),
            from_version: version(&self.from),
            kind: self.kind.as_str().into(),
            message: self.message.clone(),
        }
    }
}

mod version {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use windlass_bundle::Version;

    pub fn serialize<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(version)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

pub(super) mod optional_version {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
    use windlass_bundle::Version;

    pub fn serialize<S: Serializer>(version: &Option<Version>, to: S) -> Result<S::Ok, S::Error> {
        version.map(|version| version.to_string()).serialize(to)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Version>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(version: &str) -> Named {
        Named { digest: Digest::of(version.as_bytes()), version: version.parse().unwrap() }
    }

    #[test]
    fn it_reads_back_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        assert_eq!(Ledger::load(&path).unwrap(), Ledger::default());
        let mut ledger = Ledger::default();
        let name: PluginName = "zfs".parse().unwrap();
        let slot = Slot {
            digest: Digest::of(b"1"),
            version: "0.2.0".parse().unwrap(),
            deployment: "d1".into(),
            signatures: vec!["{}".into()],
            approval: "{}".into(),
            verified_ms: 7,
        };
        *ledger.record(&name) = Record {
            current: Some(slot.clone()),
            previous: Some(Slot { version: "0.1.0".parse().unwrap(), ..slot }),
            highest: Some("0.2.0".parse().unwrap()),
            probation: Some(Probation::begin(0, std::time::Duration::from_secs(1), None)),
            failed: Some(Rejected {
                digest: Digest::of(b"2"),
                version: "0.3.0".parse().unwrap(),
                deployment: "d2".into(),
                request: Digest::of(b"r"),
                problem: "traps".into(),
            }),
            rolled_back: VecDeque::new(),
            trying: Some(Trying { request: Digest::of(b"r"), times: 2 }),
        };
        for deployment in 0..20 {
            let bad =
                Slot { deployment: deployment.to_string(), ..ledger.plugins[&name].current.clone().unwrap() };
            ledger.record(&name).send_back(&bad, "traps".into());
        }
        assert_eq!(ledger.plugins[&name].rolled_back.len(), SENT_BACK);
        assert_eq!(ledger.plugins[&name].rolled_back[0].deployment, "12");
        ledger.note(5, &name, Kind::Installed, (None, Some(named("0.2.0"))), "");
        ledger.save(&path).unwrap();
        assert_eq!(Ledger::load(&path).unwrap(), ledger);
        std::fs::write(&path, b"{").unwrap();
        assert!(matches!(Ledger::load(&path), Err(LedgerError::Damaged { .. })));
    }

    #[test]
    fn numbers_of_changes_are_never_used_twice_and_old_ones_go() {
        let mut ledger = Ledger::default();
        let name: PluginName = "zfs".parse().unwrap();
        for _ in 0..100 {
            ledger.note(
                0,
                &name,
                Kind::Failed,
                (Some(named("0.1.0")), Some(named("0.2.0"))),
                &"ä".repeat(3000),
            );
        }
        assert_eq!(ledger.changes.len(), CHANGES);
        assert_eq!(ledger.changes.front().unwrap().number, 37);
        assert_eq!(ledger.changes.back().unwrap().number, 100);
        assert!(ledger.changes[0].message.len() <= MESSAGE_BYTES);
        let told = ledger.changes[0].message();
        assert_eq!(
            (told.version.as_str(), told.from_version.as_str(), told.kind.as_str()),
            ("0.2.0", "0.1.0", "failed")
        );
    }
}
