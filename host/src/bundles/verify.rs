//! Whether a bundle may run on this node: the node's trust file, and the versions that ran before.
//!
//! The file is read each time anew, so a key or digest that its owner revoked counts from the next
//! verification on. Who could write it decides what runs as root, so it is believed under the same
//! conditions as a folder of plugins.

use super::{desired::Wanted, ledger::Record};
use crate::{config::BundleSettings, explain::chain, trusted};
use std::{io, path::PathBuf};
use windlass_bundle::{
    Signature, Trust, Version,
    trust::{MAX_BYTES, TrustError, Untrusted},
};
use windlass_types::{Digest, PluginName};

/// Why there is no trust file to go by.
#[derive(Debug, thiserror::Error)]
pub enum TrustFileError {
    /// There is none.
    #[error("there is no trust file `{}`, so no bundle from a master is trusted", .0.display())]
    Missing(PathBuf),
    /// Others could have written it.
    #[error("the trust file is not to be believed")]
    Unsafe(#[from] trusted::Untrusted),
    /// It can't be read.
    #[error("cannot read the trust file `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is wrong.
    #[error("trust file `{}`:{source}", path.display())]
    Bad { path: PathBuf, source: TrustError },
}

/// Read the trust file. Blocks.
///
/// # Errors
/// If there is none that can be believed.
pub fn trust(settings: &BundleSettings) -> Result<Trust, TrustFileError> {
    let path = &settings.trust_file;
    let read = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => TrustFileError::Missing(path.clone()),
        _ => TrustFileError::Read { path: path.clone(), source },
    };
    let size = std::fs::metadata(path).map_err(read)?.len();
    trusted::check(path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        trusted::check(folder)?;
    }
    if size > MAX_BYTES as u64 {
        return Err(read(io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    Trust::parse(&text).map_err(|source| TrustFileError::Bad { path: path.clone(), source })
}

/// Whether signatures and rules let this bundle run, as of `at_ms`; who signed it, in words. Blocks.
///
/// # Errors
/// If it is not trusted, and why.
pub fn signatures(
    settings: &BundleSettings,
    name: &PluginName,
    version: Version,
    digest: Digest,
    signatures: &[String],
    at_ms: i64,
) -> Result<String, String> {
    let mut problems = Vec::new();
    let mut readable = Vec::new();
    for signature in signatures {
        match Signature::from_json(signature.as_bytes()) {
            Ok(signature) => readable.push(signature),
            Err(error) => problems.push(chain(&error)),
        }
    }
    let judged = match trust(settings) {
        Ok(trust) => trust.verify(name, version, digest, &readable, at_ms).map_err(|untrusted| {
            // What the owner ruled out stays out, whatever else is allowed.
            let ruled_out = matches!(untrusted, Untrusted::Revoked(_) | Untrusted::BelowMinimum { .. });
            (chain(&untrusted), ruled_out)
        }),
        // A file that is there and can't be used may rule something out.
        Err(error) => Err((chain(&error), !matches!(error, TrustFileError::Missing(_)))),
    };
    match judged {
        Ok(keys) => Ok(format!("signed by {}", keys.join(", "))),
        Err((_, false)) if settings.allow_unsigned => Ok("not verified: `allow_unsigned` is set".into()),
        Err((problem, _)) => {
            problems.insert(0, problem);
            Err(problems.join("; "))
        }
    }
}

/// Whether a version may follow what ran before.
///
/// # Errors
/// If it is older, and neither wanted nevertheless nor the one right before.
pub fn downgrade(record: &Record, wanted: &Wanted) -> Result<(), String> {
    let is = |slot: &Option<super::ledger::Slot>| slot.as_ref().is_some_and(|s| s.digest == wanted.digest);
    let highest = record.current.as_ref().map(|slot| slot.version).max(record.highest);
    match highest {
        Some(highest)
            if wanted.version < highest
                && !wanted.allow_downgrade
                && !is(&record.current)
                && !is(&record.previous) =>
        {
            Err(format!(
                "version {} is older than {highest}, which ran on this node, and the deployment does not allow that",
                wanted.version
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundles::ledger::Slot;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }
    fn slot(text: &str) -> Slot {
        Slot {
            digest: Digest::of(text.as_bytes()),
            version: version(text),
            deployment: String::new(),
            signatures: Vec::new(),
            approval: String::new(),
            verified_ms: 0,
        }
    }
    fn wanted(text: &str) -> Wanted {
        Wanted {
            name: "zfs".parse().unwrap(),
            version: version(text),
            digest: Digest::of(text.as_bytes()),
            deployment: String::new(),
            allow_downgrade: false,
            signatures: Vec::new(),
            approval: String::new(),
        }
    }

    #[test]
    fn only_the_version_right_before_may_come_back() {
        let record = Record {
            current: Some(slot("0.3.0")),
            previous: Some(slot("0.2.0")),
            highest: Some(version("0.3.0")),
            ..Record::default()
        };
        downgrade(&record, &wanted("0.3.0")).unwrap();
        downgrade(&record, &wanted("0.3.1")).unwrap();
        downgrade(&record, &wanted("0.2.0")).unwrap();
        // The same number with other content is not the version that ran.
        let impostor = Wanted { digest: Digest::of(b"other"), ..wanted("0.2.0") };
        assert!(downgrade(&record, &impostor).unwrap_err().contains("older than 0.3.0"));
        downgrade(&record, &wanted("0.1.0")).unwrap_err();
        downgrade(&record, &Wanted { allow_downgrade: true, ..wanted("0.1.0") }).unwrap();
        // After a rollback, and after a removal, the highest still counts.
        let rolled_back = Record { current: Some(slot("0.1.0")), previous: None, ..record.clone() };
        downgrade(&rolled_back, &wanted("0.2.0")).unwrap_err();
        let removed = Record { current: None, previous: None, ..record };
        downgrade(&removed, &wanted("0.2.0")).unwrap_err();
        downgrade(&Record::default(), &wanted("0.0.1")).unwrap();
    }

    #[test]
    fn a_trust_file_that_others_could_write_counts_as_bad_even_when_unsigned_is_allowed() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.toml");
        let strict = BundleSettings { trust_file: path.clone(), ..BundleSettings::default() };
        let lax = BundleSettings { allow_unsigned: true, ..strict.clone() };
        let judge = |settings: &BundleSettings| {
            signatures(settings, &"zfs".parse().unwrap(), version("0.1.0"), Digest::of(b"x"), &[], 0)
        };
        assert!(judge(&strict).unwrap_err().contains("there is no trust file"));
        assert!(judge(&lax).unwrap().contains("not verified"));
        std::fs::write(&path, "").unwrap();
        assert!(judge(&strict).unwrap_err().contains("no rule"));
        judge(&lax).unwrap();
        let digest = Digest::of(b"x");
        std::fs::write(&path, format!("[revoked]\ndigests = [\"{digest}\"]\n")).unwrap();
        assert!(judge(&lax).unwrap_err().contains("revokes"));
        std::fs::write(&path, "[revoked]\ndigest = []\n").unwrap();
        assert!(judge(&lax).unwrap_err().contains("trust.toml"));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(judge(&lax).unwrap_err().contains("chmod go-w"));
    }
}
