//! Signed bundles, made of what was built: as they are, or as other versions with other manifests.

use crate::{Binaries, Output};
use anyhow::{Context as _, Result};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};
use windlass_bundle::{
    Bundle, Package, Statement,
    signature::{SecretKey, Signature},
};

/// Makes packages and signs them.
#[derive(Debug)]
pub struct Signer {
    key: SecretKey,
}

impl Signer {
    /// With a new key.
    #[expect(clippy::new_without_default, reason = "each call gives another key")]
    pub fn new() -> Self {
        Signer { key: SecretKey::generate() }
    }

    /// A trust file that lets this key sign every plugin.
    pub fn trust(&self) -> String {
        format!(
            "[keys.tests]\npublic = \"{}\"\n\n[[rules]]\nplugins = \"*\"\nkeys = [\"tests\"]\n",
            self.key.public()
        )
    }

    /// Its signature over a bundle.
    ///
    /// # Errors
    /// If the clock is off.
    pub fn sign(&self, bundle: &Bundle) -> Result<Signature> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(self.key.sign(Statement {
            plugin: bundle.manifest.name.clone(),
            version: bundle.manifest.version,
            digest: bundle.digest,
            signed_ms: since.as_millis().try_into()?,
            expires_ms: None,
        }))
    }

    /// Write the signed package of a bundle into `dir`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn package(&self, bundle: Bundle, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(format!("{}-{}.tar", bundle.manifest.name, bundle.manifest.version));
        let signature = self.sign(&bundle)?;
        let package = Package::new(bundle, vec![signature])?;
        std::fs::write(&path, package.to_bytes()).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// What an operator does with a plugin that has been built: sign it, push it, approve what it asks for, deploy
/// it. `windlass` runs the command line.
///
/// # Errors
/// If it is not built, or a step fails.
pub fn roll_out(
    plugin: &str,
    binaries: &Binaries,
    signer: &Signer,
    dir: &Path,
    windlass: impl Fn(&[&str]) -> Output,
) -> Result<()> {
    let bundle = Bundle::read_dir(&binaries.bundle(plugin)?)?;
    let name = format!("{plugin}@{}", bundle.manifest.version);
    let package = signer.package(bundle, dir)?;
    let package = package.to_str().context("the path of a package is text")?;
    for arguments in [
        ["plugins", "push", package].as_slice(),
        &["plugins", "deploy", &name, "--approve", "--yes", "--canary", "0", "--soak", "0s"],
    ] {
        let Output { code, stdout, stderr } = windlass(arguments);
        anyhow::ensure!(code == 0, "`windlass {}`:\n{stdout}{stderr}", arguments.join(" "));
    }
    Ok(())
}

/// A plugin that has been built, under another version and with changes to its manifest: each a text
/// and what takes its place.
///
/// # Errors
/// If it is not built, a text is not there, or the manifest is wrong then.
pub fn variant(binaries: &Binaries, plugin: &str, version: &str, changes: &[(&str, &str)]) -> Result<Bundle> {
    let built = Bundle::read_dir(&binaries.bundle(plugin)?)?;
    let mut manifest = String::from_utf8(built.manifest_text.clone())?;
    let own = format!("version = \"{}\"", built.manifest.version);
    let own = (own.as_str(), format!("version = \"{version}\""));
    for (from, to) in std::iter::once((own.0, own.1.as_str())).chain(changes.iter().copied()) {
        anyhow::ensure!(manifest.contains(from), "the manifest of {plugin} does not hold {from:?}");
        manifest = manifest.replacen(from, to, 1);
    }
    Ok(Bundle::from_parts(manifest.into_bytes(), built.component, built.wit)?)
}
