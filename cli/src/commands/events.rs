//! `events`

use super::Context;
use crate::{
    cli::Events,
    duration::millis,
    exit::Exit,
    output::Format,
    render::events::{line, table},
};
use anyhow::{Context as _, Result};
use windlass_types::api::events::{Event, EventsQuery};

/// As many of the newest are shown unless told.
const SHOWN: u32 = 50;

pub async fn run(context: &Context, command: Events) -> Result<Exit> {
    let client = context.client()?;
    let since_ms = command.since.map(|since| {
        context.out.look.now_ms.saturating_sub(i64::try_from(millis(since)).unwrap_or(i64::MAX))
    });
    let mut query = EventsQuery {
        after: command.after,
        since_ms,
        kind: command.kind,
        node: command.node,
        ..EventsQuery::default()
    };
    let from_somewhere = query.after.is_some() || query.since_ms.is_some();
    if command.follow {
        query.last = command.limit;
        return follow(context, &mut client.follow_log(&query)).await;
    }
    let most = match command.limit {
        Some(limit) if from_somewhere => limit as usize,
        None if from_somewhere => usize::MAX,
        limit => {
            query.last = Some(limit.unwrap_or(SHOWN));
            usize::MAX
        }
    };
    let events = client.log(&query, most).await?;
    context.out.data(&events, |look| if events.is_empty() { String::new() } else { table(&events, look) })?;
    if events.is_empty() && context.out.is_table() {
        context.out.note("no such event");
    }
    Ok(Exit::Success)
}

/// Print events as they come, until nobody reads them or somebody presses Ctrl-C.
async fn follow(context: &Context, feed: &mut crate::client::Feed<Event>) -> Result<Exit> {
    loop {
        let event = feed.next().await?;
        let text = match context.out.format {
            Format::Table => line(&event, &context.out.look),
            // A line for each, so that a program can read them as they come.
            Format::Json => serde_json::to_string(&event).context("cannot write json")? + "\n",
            Format::Yaml => format!("---\n{}", serde_norway::to_string(&event).context("cannot write yaml")?),
        };
        if !context.out.try_raw(text.as_bytes())? {
            return Ok(Exit::Success);
        }
    }
}
