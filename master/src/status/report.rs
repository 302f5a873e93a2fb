//! What a host says that its watches found: parsed and bounded, like everything that a host says.

use crate::session::cut;
use windlass_proto::v1;
use windlass_types::{Digest, OperationName, Outcome, PluginName, TrapReason};

/// Watches of one node.
pub const MAX_WATCHES: usize = 1024;
/// Results in one report. A host sends no more than fit its size, and each has a few hundred bytes.
const MAX_RESULTS: usize = 4096;
/// Bytes of one result.
pub const MAX_RESULT_BYTES: usize = 256 << 10;
const MAX_VERSION_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 64;
/// Longest period: a watch that is rarer would be refused by its manifest.
const MAX_EVERY_MS: u64 = 7 * 24 * 3600 * 1000;

/// A watch, as a node has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spec {
    pub plugin: PluginName,
    pub watch: String,
    /// Full name.
    pub operation: OperationName,
    pub every_ms: u64,
}

/// Which watch.
pub type Key = (PluginName, String);

/// Something new.
#[derive(Debug, Clone)]
pub struct Result {
    pub key: Key,
    pub plugin_version: String,
    pub plugin_digest: Digest,
    pub content: Digest,
    pub outcome: Outcome,
    /// As it came, or of what was made of it.
    pub outcome_json: String,
    pub collected_ms: i64,
    pub age_ms: u64,
}

/// Something that stayed.
#[derive(Debug, Clone)]
pub struct Same {
    pub key: Key,
    pub content: Digest,
    pub collected_ms: i64,
    pub age_ms: u64,
}

/// A report.
#[derive(Debug, Default)]
pub struct Report {
    /// By plugin and name, each once.
    pub list: Option<Vec<Spec>>,
    pub results: Vec<Result>,
    pub same: Vec<Same>,
    pub dropped: u64,
}

/// Parse a report.
///
/// # Errors
/// If half of it would be believed for the whole.
pub fn parse(message: v1::WatchReport) -> std::result::Result<Report, String> {
    if message.results.len() > MAX_RESULTS || message.same.len() > MAX_WATCHES {
        return Err("it has too many results".into());
    }
    let list = message.watches.map(|list| self::list(list.watches)).transpose()?;
    let results = message.results.into_iter().map(result).collect::<std::result::Result<_, _>>()?;
    let same = message.same.into_iter().map(same).collect::<std::result::Result<_, _>>()?;
    Ok(Report { list, results, same, dropped: message.dropped })
}

fn list(watches: Vec<v1::Watch>) -> std::result::Result<Vec<Spec>, String> {
    if watches.len() > MAX_WATCHES {
        return Err(format!("a node has {MAX_WATCHES} watches at most"));
    }
    let spec = |watch: v1::Watch| {
        let (plugin, name) = key(&watch.plugin, watch.name)?;
        let operation = format!("{plugin}.{}", watch.operation);
        Ok(Spec {
            operation: operation.parse().map_err(|error| format!("{error}"))?,
            every_ms: watch.every_ms.clamp(1, MAX_EVERY_MS),
            plugin,
            watch: name,
        })
    };
    let mut list = watches.into_iter().map(spec).collect::<std::result::Result<Vec<_>, String>>()?;
    list.sort();
    let twice = |pair: &&[Spec]| (&pair[0].plugin, &pair[0].watch) == (&pair[1].plugin, &pair[1].watch);
    match list.windows(2).find(twice) {
        Some(pair) => Err(format!("watch `{}` of `{}` is there twice", pair[0].watch, pair[0].plugin)),
        None => Ok(list),
    }
}

fn key(plugin: &str, name: String) -> std::result::Result<Key, String> {
    let plugin: PluginName = plugin.parse().map_err(|error| format!("{error}"))?;
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !is_name {
        return Err(format!("a watch of `{plugin}` has a bad name"));
    }
    Ok((plugin, name))
}

fn content(bytes: &[u8]) -> std::result::Result<Digest, String> {
    <[u8; 32]>::try_from(bytes).map(Digest::from).map_err(|_| "a result has a bad `content`".to_owned())
}

fn result(message: v1::WatchResult) -> std::result::Result<Result, String> {
    let key = key(&message.plugin, message.name)?;
    let mut plugin_version = message.plugin_version;
    cut(&mut plugin_version, MAX_VERSION_BYTES);
    let (outcome, outcome_json) = outcome(&message.outcome_json);
    Ok(Result {
        plugin_version,
        plugin_digest: message.plugin_digest.parse().map_err(|error| format!("{error}"))?,
        content: content(&message.content)?,
        outcome,
        outcome_json,
        collected_ms: message.collected_ms,
        age_ms: message.age_ms,
        key,
    })
}

/// An outcome that can't be taken becomes a problem of its watch: the host would send it again for ever.
fn outcome(json: &[u8]) -> (Outcome, String) {
    if json.len() > MAX_RESULT_BYTES {
        return too_much(format!("its result has {} bytes, and {MAX_RESULT_BYTES} are taken", json.len()));
    }
    let read = std::str::from_utf8(json)
        .map_err(|error| error.to_string())
        .and_then(|text| Ok((serde_json::from_str(text).map_err(|error| error.to_string())?, text)));
    match read {
        Ok((outcome, text)) => (outcome, text.to_owned()),
        Err(problem) => made(
            TrapReason::Contract,
            format!(
                "the host sent a result that cannot be read: {}",
                problem.chars().take(200).collect::<String>()
            ),
        ),
    }
}

/// What stands in the place of a result that is too large.
pub fn too_much(message: String) -> (Outcome, String) {
    made(TrapReason::Output, message)
}

fn made(reason: TrapReason, message: String) -> (Outcome, String) {
    let outcome = Outcome::Trapped { reason, message };
    let json = serde_json::to_string(&outcome).unwrap_or_default();
    (outcome, json)
}

fn same(message: v1::WatchSame) -> std::result::Result<Same, String> {
    Ok(Same {
        key: key(&message.plugin, message.name)?,
        content: content(&message.content)?,
        collected_ms: message.collected_ms,
        age_ms: message.age_ms,
    })
}
