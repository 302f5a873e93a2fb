//! Whose signatures count on a node.
//!
//! The file belongs to the owner of the node and is read by the host alone. Nothing that comes
//! from a master adds to it: a master that has been taken over can choose among what these keys
//! have signed, above the versions the file allows, and no more.
//!
//! ```toml
//! [keys.release]
//! public = "ed25519:…"
//! expires = 2028-01-01T00:00:00Z
//!
//! [[rules]]
//! plugins = "*"
//! keys = ["release"]
//! threshold = 1
//! minimum_version = "0.2.0"
//!
//! [revoked]
//! digests = ["sha256:…"]
//! ```

#[cfg(test)]
mod tests;

use crate::{
    document::{self, Table, Value},
    grammar::is_name,
    manifest::ManifestError,
    signature::{PublicKey, Signature},
    version::Version,
};
use std::collections::{BTreeMap, BTreeSet};
use windlass_types::{Digest, PluginName, json::nearest};

/// Largest trust file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_KEYS: usize = 256;
const MAX_RULES: usize = 1024;
const MAX_REVOKED: usize = 8192;

/// What is wrong with a trust file, and where: `line:column: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {}{message}{}", if key.is_empty() { String::new() } else { format!("`{key}`: ") }, hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct TrustError {
    pub line: usize,
    pub column: usize,
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

impl From<ManifestError> for TrustError {
    fn from(ManifestError { line, column, key, message, hint }: ManifestError) -> Self {
        TrustError { line, column, key, message, hint }
    }
}

/// A trust file, read. The default trusts nothing.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: BTreeMap<String, Key>,
    rules: Vec<Rule>,
    revoked: BTreeSet<Digest>,
}

#[derive(Debug, Clone)]
struct Key {
    public: PublicKey,
    expires_ms: Option<i64>,
    revoked: bool,
}

/// Whose signatures count for some plugins.
#[derive(Debug, Clone)]
struct Rule {
    /// A name, or what names begin with.
    plugins: String,
    prefix: bool,
    keys: Vec<String>,
    threshold: usize,
    minimum: Option<Version>,
}

/// Why a bundle is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The file has no rule for it.
    #[error("no rule of the trust file is about plugin `{0}`")]
    NoRule(PluginName),
    /// It has been revoked.
    #[error("the trust file revokes the bundle {0}")]
    Revoked(Digest),
    /// Older than the owner of the node allows.
    #[error("version {version} is below the `minimum_version` {minimum} of the trust file")]
    BelowMinimum { version: Version, minimum: Version },
    /// Nobody signed it.
    #[error("it has no signature, and {} needed", by(*.threshold, .keys))]
    Unsigned { threshold: usize, keys: Vec<String> },
    /// Too few signatures count.
    #[error("{counted} of {} signatures needed by {} counts: {}", threshold, list(.keys), .problems.join("; "))]
    TooFew { counted: usize, threshold: usize, keys: Vec<String>, problems: Vec<String> },
}

fn by(count: usize, keys: &[String]) -> String {
    let keys = list(keys);
    if count == 1 { format!("one by {keys} is") } else { format!("{count} by {keys} are") }
}

fn list(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

impl Trust {
    /// Read a trust file.
    ///
    /// # Errors
    /// With the place of the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Trust, TrustError> {
        Ok(document::read(text, MAX_BYTES, trust)?)
    }

    /// Whether a bundle may be used at `now_ms` (milliseconds since 1970-01-01 UTC): gives the names
    /// of the keys whose signatures count.
    ///
    /// # Errors
    /// If it may not, and why.
    pub fn verify(
        &self,
        plugin: &PluginName,
        version: Version,
        digest: Digest,
        signatures: &[Signature],
        now_ms: i64,
    ) -> Result<Vec<String>, Untrusted> {
        if self.revoked.contains(&digest) {
            return Err(Untrusted::Revoked(digest));
        }
        let rule = self.rule(plugin).ok_or_else(|| Untrusted::NoRule(plugin.clone()))?;
        if let Some(minimum) = rule.minimum
            && version < minimum
        {
            return Err(Untrusted::BelowMinimum { version, minimum });
        }
        if signatures.is_empty() {
            return Err(Untrusted::Unsigned { threshold: rule.threshold, keys: rule.keys.clone() });
        }
        let mut counted = BTreeSet::new();
        let mut problems = Vec::new();
        for signature in signatures {
            match self.judge(rule, signature, now_ms) {
                Ok(name) => match signature.verify_over(plugin, version, digest) {
                    Ok(()) => drop(counted.insert(name)),
                    Err(error) => problems.push(error.to_string()),
                },
                Err(problem) => problems.push(problem),
            }
        }
        if counted.len() >= rule.threshold {
            return Ok(counted.into_iter().map(str::to_owned).collect());
        }
        if problems.is_empty() {
            problems.push("there are no more".into());
        }
        Err(Untrusted::TooFew {
            counted: counted.len(),
            threshold: rule.threshold,
            keys: rule.keys.clone(),
            problems,
        })
    }

    /// What holds of each signature over a bundle of this plugin: the name of the key it counts for,
    /// or why it does not count. Whether the key made it is not looked at: see [`Trust::verify`].
    pub fn judge_each<'a>(
        &'a self,
        plugin: &PluginName,
        signatures: &[Signature],
        now_ms: i64,
    ) -> Vec<Result<&'a str, String>> {
        let judge = |signature: &Signature| match self.rule(plugin) {
            Some(rule) => self.judge(rule, signature, now_ms),
            None => Err(Untrusted::NoRule(plugin.clone()).to_string()),
        };
        signatures.iter().map(judge).collect()
    }

    /// Name of the key, if its signatures count under this rule now.
    fn judge(&self, rule: &Rule, signature: &Signature, now_ms: i64) -> Result<&str, String> {
        let id = signature.key();
        let Some((name, key)) = self.keys.iter().find(|(_, key)| key.public == signature.public_key) else {
            return Err(format!("the key {id} is unknown"));
        };
        if key.revoked {
            return Err(format!("the key `{name}` has been revoked"));
        }
        if key.expires_ms.is_some_and(|expires| expires <= now_ms) {
            return Err(format!("the key `{name}` has expired"));
        }
        if !rule.keys.contains(name) {
            return Err(format!("the key `{name}` does not count for this plugin"));
        }
        if signature.statement.expires_ms.is_some_and(|expires| expires <= now_ms) {
            return Err(format!("the signature by `{name}` has expired"));
        }
        Ok(name)
    }

    /// The rule for a plugin: the one with the longest match, a whole name before any prefix.
    fn rule(&self, plugin: &PluginName) -> Option<&Rule> {
        let fits = |rule: &&Rule| {
            if rule.prefix {
                plugin.as_str().starts_with(&rule.plugins)
            } else {
                plugin.as_str() == rule.plugins
            }
        };
        self.rules.iter().filter(fits).max_by_key(|rule| (!rule.prefix, rule.plugins.len()))
    }

    /// What an owner may want to know: keys that have ended or that no rule uses.
    pub fn warnings(&self, now_ms: i64) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.rules.is_empty() {
            warnings.push("it has no rule, so no bundle is trusted".to_owned());
        }
        for (name, key) in &self.keys {
            if key.expires_ms.is_some_and(|expires| expires <= now_ms) {
                warnings.push(format!("the key `{name}` has expired"));
            }
            if !key.revoked && !self.rules.iter().any(|rule| rule.keys.contains(name)) {
                warnings.push(format!("no rule uses the key `{name}`"));
            }
        }
        for rule in &self.rules {
            let good = |name: &&String| {
                self.keys
                    .get(*name)
                    .is_some_and(|key| !key.revoked && key.expires_ms.is_none_or(|expires| expires > now_ms))
            };
            if rule.keys.iter().filter(good).count() < rule.threshold {
                let star = if rule.prefix { "*" } else { "" };
                warnings.push(format!(
                    "the rule for `{}{star}` can not be met: too few of its keys are good",
                    rule.plugins
                ));
            }
        }
        warnings
    }
}

fn trust(mut top: Table<'_>) -> Result<Trust, ManifestError> {
    let mut keys = BTreeMap::new();
    if let Some(value) = top.take("keys") {
        for (name, value) in value.into_table()?.into_entries(MAX_KEYS)? {
            let place = value.place().clone();
            if !is_name(&name) || name.len() > 64 {
                return Err(place.error("is not a name for a key: expected letters, digits and `_ . : -`"));
            }
            let key = key(value)?;
            // One key under two names would count twice towards a threshold.
            if let Some((other, _)) =
                keys.iter().find(|(_, known): &(&String, &Key)| known.public == key.public)
            {
                return Err(place.error(format!("is the same key as `{other}`")));
            }
            keys.insert(name, key);
        }
    }
    let mut rules: Vec<Rule> = Vec::new();
    if let Some(value) = top.take("rules") {
        for value in value.into_items(MAX_RULES)? {
            let place = value.place().clone();
            let rule = rule(value, &keys)?;
            if rules.iter().any(|other| other.plugins == rule.plugins && other.prefix == rule.prefix) {
                return Err(place.error("there is another rule for the same plugins"));
            }
            rules.push(rule);
        }
    }
    let mut revoked = BTreeSet::new();
    if let Some(value) = top.take("revoked") {
        let mut table = value.into_table()?;
        if let Some(value) = table.take("digests") {
            for value in value.into_items(MAX_REVOKED)? {
                revoked.insert(value.parsed(str::parse)?);
            }
        }
        table.finish()?;
    }
    top.finish()?;
    Ok(Trust { keys, rules, revoked })
}

fn key(value: Value<'_>) -> Result<Key, ManifestError> {
    let mut table = value.into_table()?;
    let public = table.require("public")?.parsed(str::parse)?;
    let expires_ms = table.take("expires").map(|value| value.time_ms()).transpose()?;
    let revoked = flag(&mut table, "revoked")?;
    table.finish()?;
    Ok(Key { public, expires_ms, revoked })
}

fn flag(table: &mut Table<'_>, key: &'static str) -> Result<bool, ManifestError> {
    table.take(key).map(|value| value.bool()).transpose().map(Option::unwrap_or_default)
}

fn rule(value: Value<'_>, known: &BTreeMap<String, Key>) -> Result<Rule, ManifestError> {
    let mut table = value.into_table()?;
    let (plugins, prefix) = table.require("plugins")?.parsed(|text| match text.strip_suffix('*') {
        Some("") => Ok((String::new(), true)),
        Some(prefix) if is_prefix(prefix) => Ok((prefix.to_owned(), true)),
        None if text.parse::<PluginName>().is_ok() => Ok((text.to_owned(), false)),
        _ => Err("expected the name of a plugin, or how names begin and `*`"),
    })?;
    let mut keys: Vec<String> = Vec::new();
    let value = table.require("keys")?;
    let place = value.place().clone();
    for value in value.into_items(MAX_KEYS)? {
        let name = value.string()?.to_owned();
        if !known.contains_key(&name) {
            let mut error = value.place().error(format!("there is no key `{name}`"));
            error.hint = nearest(&name, known.keys().map(String::as_str));
            return Err(error);
        }
        if keys.contains(&name) {
            return Err(value.place().error(format!("`{name}` is there twice")));
        }
        keys.push(name);
    }
    if keys.is_empty() {
        return Err(place.error("is empty, so the rule could never be met"));
    }
    let threshold = match table.take("threshold") {
        Some(value) => usize::try_from(value.integer(1, keys.len() as u64)?).unwrap_or(keys.len()),
        None => 1,
    };
    let minimum = table.take("minimum_version").map(|value| value.parsed(str::parse)).transpose()?;
    table.finish()?;
    Ok(Rule { plugins, prefix, keys, threshold, minimum })
}

/// How names of plugins can begin.
fn is_prefix(text: &str) -> bool {
    format!("{text}x").parse::<PluginName>().is_ok()
}
