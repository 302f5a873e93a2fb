//! Ids as people give them: whole, or the beginning of a recent one.

use crate::{client::ClientError, exit::Problem};
use anyhow::Result;
use std::{fmt::Display, str::FromStr};

/// Among so many of the newest the beginning of an id is looked for.
const RECENT: usize = 1_000;

/// The id that a text means. `noun` is what it names, `list` the command that lists them, `recent`
/// gives the newest.
///
/// # Errors
/// If it is none, or the beginning of none or of several.
pub async fn find<Id: FromStr + Display + Copy>(
    text: &str,
    noun: &str,
    list: &str,
    recent: impl AsyncFnOnce(usize) -> Result<Vec<Id>, ClientError>,
) -> Result<Id> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let wanted = text.to_ascii_lowercase();
    if wanted.is_empty() || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(Problem::usage(format!("`{text}` is not the id of a {noun}"))
            .hint(format!("ids are hexadecimal: see `{list}`"))
            .into());
    }
    let mut found = recent(RECENT).await?;
    found.retain(|id| id.to_string().starts_with(&wanted));
    match found[..] {
        [id] => Ok(id),
        [] => Err(Problem::failed(format!("there is no {noun} `{text}` among the last {RECENT}"))
            .hint(format!("see `{list}`, or give the whole id"))
            .into()),
        [..] => {
            let ids: Vec<String> = found.iter().take(5).map(|id| format!("`{id}`")).collect();
            Err(Problem::failed(format!("`{text}` is the beginning of {} {noun}s", found.len()))
                .hint(format!("give more of it: {}", ids.join(", ")))
                .into())
        }
    }
}
