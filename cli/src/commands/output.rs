//! `jobs output`: what an operation has written on its way.

use super::Context;
use crate::{
    client::Client,
    exit::{Exit, Problem},
    render::{scalar::size, text},
};
use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::io::IsTerminal as _;
use windlass_types::{JobId, api::JobOutput};

/// How long a request waits for more, where it is followed.
const WAIT_MS: u64 = 10_000;

/// Print the output of a node, or, to follow it, until its operation ends.
pub async fn show(
    context: &Context,
    client: &Client,
    id: JobId,
    node: Option<&str>,
    follow: bool,
) -> Result<Exit> {
    let node = match node {
        Some(node) => node.to_owned(),
        None => only(client, id).await?,
    };
    let wait_ms = if follow { WAIT_MS } else { 0 };
    let mut screen = Screen::new(context);
    let mut after = 0;
    loop {
        let page = client.output(id, &node, after, wait_ms).await?;
        if page.start > after && !page.forgotten {
            context.out.note(&format!("{} are lost here", size(page.start - after)));
        }
        after = page.next;
        let wanted = if context.out.is_table() {
            screen.print(&BASE64_STANDARD.decode(&page.data)?)?
        } else {
            if !page.data.is_empty() {
                context.out.data(&page, |_| String::new())?;
            }
            true
        };
        // All there is; what came since the answer was made comes with the next one.
        let end = page.data.is_empty() && (page.ended || !follow);
        if end || !wanted {
            screen.finish()?;
            explain(context, &page, follow);
            return Ok(Exit::Success);
        }
    }
}

/// The one node of a job that has any.
async fn only(client: &Client, id: JobId) -> Result<String> {
    let nodes = client.job_nodes(id).await?;
    let mut with = nodes.iter().filter(|node| nodes.len() == 1 || node.output_bytes.is_some());
    match (with.next(), with.next()) {
        (Some(node), None) => Ok(node.node.to_string()),
        (None, _) => Err(Problem::failed(format!("no node of job {id} has written anything")).into()),
        (Some(one), Some(other)) => Err(Problem::usage(format!(
            "`{}`, `{}` and maybe others have written something",
            one.name, other.name
        ))
        .hint(format!("name one: `windlass jobs output {id} {}`", one.name))
        .into()),
    }
}

fn explain(context: &Context, page: &JobOutput, follow: bool) {
    let lost = page.written.unwrap_or(0).saturating_sub(page.bytes);
    if page.forgotten {
        context.out.note("it was forgotten to make room: see `max_output_mib` of the master");
    } else if lost > 0 {
        context.out.note(&format!("{} more were written, and did not reach the master", size(lost)));
    } else if !page.ended && !follow {
        context.out.note("the operation goes on: `--follow` waits for the rest");
    }
}

/// Bytes of a node on a terminal: nothing that it would obey. Elsewhere they are printed as they are.
struct Screen<'a> {
    context: &'a Context,
    terminal: bool,
    /// Of a character that is not whole yet.
    rest: Vec<u8>,
}

impl<'a> Screen<'a> {
    fn new(context: &'a Context) -> Self {
        Screen { context, terminal: std::io::stdout().is_terminal(), rest: Vec::new() }
    }

    /// False when nobody reads it any more.
    fn print(&mut self, bytes: &[u8]) -> Result<bool> {
        if !self.terminal {
            return self.context.out.try_raw(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let text = whole(&mut self.rest);
        self.context.out.try_raw(text::clean_text(&text).as_bytes())
    }

    fn finish(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.rest);
        self.context.out.raw(text::clean_text(&String::from_utf8_lossy(&rest)).as_bytes())
    }
}

/// Take the characters that are whole; what is no character at all is replaced.
fn whole(bytes: &mut Vec<u8>) -> String {
    let cut = bytes.utf8_chunks().last().map_or(0, |last| {
        let broken = last.invalid();
        // Up to three bytes at the very end may be the beginning of a character.
        let beginning = std::str::from_utf8(broken).err().is_some_and(|error| error.error_len().is_none());
        if beginning { bytes.len() - broken.len() } else { bytes.len() }
    });
    let rest = bytes.split_off(cut);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_put_together_across_pieces() {
        let text = "aä€😀\n";
        let mut out = String::new();
        let mut rest = Vec::new();
        for byte in text.as_bytes() {
            rest.push(*byte);
            out.push_str(&whole(&mut rest));
        }
        assert_eq!((out.as_str(), rest.len()), (text, 0));
        let mut broken = b"a\xffb\xc3".to_vec();
        assert_eq!(whole(&mut broken), "a\u{fffd}b");
        assert_eq!(broken, b"\xc3");
    }
}
