//! `nodes …`

use super::Context;
use crate::{
    cli::{self, Nodes},
    client::Client,
    exit::{Exit, Problem},
    output::{can_ask, confirm, consent},
    render::{fleet, text},
};
use anyhow::Result;
use windlass_types::api::{AcceptNode, ChangeNode, NewJoinToken, Node, NodeState};

pub async fn run(context: &Context, command: Nodes) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Nodes::List { state, wide } => list(context, &client, state.map(Into::into), wide).await,
        Nodes::Show { node } => show(context, &client.node(&node.node).await?),
        Nodes::Accept(accept) if accept.all_pending => accept_all(context, &client, accept.consent.yes).await,
        Nodes::Accept(accept) => self::accept(context, &client, accept).await,
        Nodes::Reject { node } => {
            let node = client.reject(&node.node).await?;
            changed(context, &node, "rejected")
        }
        Nodes::Revoke { node, consent: given } => {
            consent(given.yes, &format!("revoke `{}`? its session ends at once", node.node))?;
            let node = client.revoke(&node.node).await?;
            changed(context, &node, "revoked")
        }
        Nodes::Delete { node, consent: given } => {
            consent(given.yes, &format!("delete `{}`? the master forgets all about it", node.node))?;
            client.delete_node(&node.node).await?;
            context.out.note(&format!("deleted `{}`", node.node));
            Ok(Exit::Success)
        }
        Nodes::Label { node, changes } => {
            let labels = changes.iter().map(|change| label(change)).collect::<Result<_, _>>()?;
            let change = ChangeNode { labels, ..ChangeNode::default() };
            let node = client.change_node(&node.node, &change).await?;
            changed(context, &node, "labelled")
        }
        Nodes::Flag { node, changes } => {
            let flags = changes.iter().map(|change| flag(change)).collect::<Result<_, _>>()?;
            let change = ChangeNode { flags, ..ChangeNode::default() };
            let node = client.change_node(&node.node, &change).await?;
            changed(context, &node, "flagged")
        }
        Nodes::JoinToken(token) => join_token(context, &client, token).await,
    }
}

async fn list(context: &Context, client: &Client, state: Option<NodeState>, wide: bool) -> Result<Exit> {
    let mut nodes = client.nodes(state).await?;
    nodes.sort_by(|a, b| text::natural(a.name.as_str(), b.name.as_str()));
    context.out.data(&nodes, |look| {
        if nodes.is_empty() { String::new() } else { fleet::nodes(&nodes, wide, look) }
    })?;
    if nodes.is_empty() && context.out.is_table() {
        context.out.note(match state {
            Some(_) => "no node is in this state",
            None => "there are no nodes yet: start `windlass-host` on one",
        });
    }
    Ok(Exit::Success)
}

fn show(context: &Context, node: &Node) -> Result<Exit> {
    context.out.data(node, |look| fleet::node(node, look))?;
    Ok(Exit::Success)
}

/// Tell that a node was changed: in full for programs, a line for people.
fn changed(context: &Context, node: &Node, what: &str) -> Result<Exit> {
    if !context.out.is_table() {
        return show(context, node);
    }
    context.out.note(&format!("{what} `{}`", node.name));
    Ok(Exit::Success)
}

async fn accept(context: &Context, client: &Client, accept: cli::Accept) -> Result<Exit> {
    let name = accept.node.unwrap_or_default();
    let mut body = AcceptNode { fingerprint: accept.fingerprint, name: accept.name };
    if body.fingerprint.is_none() {
        let node = client.node(&name).await?;
        if !accept.consent.yes {
            if !can_ask() {
                return Err(Problem::usage(format!("`{}` is accepted by its fingerprint", node.name))
                    .hint("give `--fingerprint` as the node itself prints it, or `--yes` to accept any")
                    .into());
            }
            context.out.note(&format!(
                "`{}` at {} has the fingerprint\n  {}",
                node.name,
                text::clean(node.address.as_deref().unwrap_or("an unknown address")),
                node.fingerprint
            ));
            if !confirm("does the node itself print the same?")? {
                return Err(Problem::failed("not accepted: nothing was done").into());
            }
        }
        // What was seen is what is accepted, even if another one takes the name in between.
        body.fingerprint = Some(node.fingerprint);
    }
    let node = client.accept(&name, &body).await?;
    changed(context, &node, "accepted")
}

async fn accept_all(context: &Context, client: &Client, yes: bool) -> Result<Exit> {
    let pending = client.nodes(Some(NodeState::Pending)).await?;
    if pending.is_empty() {
        context.out.data(&pending, |_| String::new())?;
        context.out.note("no node waits for acceptance");
        return Ok(Exit::Success);
    }
    for node in &pending {
        context.out.note(&format!("{}  {}", node.name, node.fingerprint));
    }
    consent(yes, &format!("accept {}?", text::count(pending.len(), "node")))?;
    let mut accepted = Vec::new();
    for node in &pending {
        let body = AcceptNode { fingerprint: Some(node.fingerprint), name: None };
        accepted.push(client.accept(&node.id.to_string(), &body).await?);
        if context.out.is_table() {
            context.out.note(&format!("accepted `{}`", node.name));
        }
    }
    context.out.data(&accepted, |_| String::new())?;
    Ok(Exit::Success)
}

fn label(change: &str) -> Result<(String, Option<String>), Problem> {
    match (change.split_once('='), change.strip_suffix('-')) {
        (Some((key, value)), _) if !key.is_empty() => Ok((key.into(), Some(value.into()))),
        (None, Some(key)) if !key.is_empty() => Ok((key.into(), None)),
        _ => Err(Problem::usage(format!("`{change}` is neither `key=value` nor `key-`"))),
    }
}

fn flag(change: &str) -> Result<(String, bool), Problem> {
    match change.split_at_checked(1) {
        Some(("+", flag)) if !flag.is_empty() => Ok((flag.into(), true)),
        Some(("-", flag)) if !flag.is_empty() && !flag.starts_with('-') => Ok((flag.into(), false)),
        _ => Err(Problem::usage(format!("`{change}` is neither `+flag` nor `-flag`"))
            .hint("options go before the name of the node")),
    }
}

async fn join_token(context: &Context, client: &Client, options: cli::JoinToken) -> Result<Exit> {
    if let Some(id) = options.delete {
        client.delete_join_token(&id).await?;
        context.out.note(&format!("deleted join token `{id}`"));
        return Ok(Exit::Success);
    }
    if options.list {
        let tokens = client.join_tokens().await?;
        context.out.data(&tokens, |look| fleet::join_tokens(&tokens, look))?;
        return Ok(Exit::Success);
    }
    let new = NewJoinToken {
        ttl_ms: Some(crate::duration::millis(options.ttl)),
        labels: options.label.into_iter().collect(),
    };
    let token = client.new_join_token(&new).await?;
    let secret = token.token.clone().unwrap_or_default();
    context.out.data(&token, |_| format!("{secret}\n"))?;
    if context.out.is_table() {
        let look = context.stderr_look();
        let ends = crate::render::time::full(token.expires_ms, &look);
        context.out.note(&format!("lets one node in, until {ends}; it is not shown again"));
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_as_typed() {
        assert_eq!(label("rack=a1").unwrap(), ("rack".into(), Some("a1".into())));
        assert_eq!(label("rack=").unwrap(), ("rack".into(), Some(String::new())));
        assert_eq!(label("rack=a-").unwrap(), ("rack".into(), Some("a-".into())));
        assert_eq!(label("rack-").unwrap(), ("rack".into(), None));
        assert_eq!(flag("+maintenance").unwrap(), ("maintenance".into(), true));
        assert_eq!(flag("-maintenance").unwrap(), ("maintenance".into(), false));
        for bad in ["", "-", "=x", "rack"] {
            assert!(label(bad).is_err(), "{bad}");
        }
        for bad in ["", "+", "-", "x", "--yes", "é"] {
            assert!(flag(bad).is_err(), "{bad}");
        }
    }
}
