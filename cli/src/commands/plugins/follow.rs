//! Following a deployment: who runs what, live.

use crate::{
    client::{Client, ClientError},
    commands::{Context, follow::Interrupts},
    exit::{Exit, Problem},
    render::{
        deployment,
        table::Tone,
        text::{clean, short},
    },
};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};
use windlass_types::{
    DeploymentId, NodeId,
    api::bundles::{Deployment, DeploymentDetail, DeploymentNode, DeploymentNodeState, DeploymentState},
};

/// How long the master may wait for a change before it answers.
const WAIT: Duration = Duration::from_secs(20);
/// The same while someone looks at how many bytes have arrived.
const LOOK: Duration = Duration::from_secs(1);
/// How long a master may be away before following is given up. The deployment goes on.
const AWAY: Duration = Duration::from_secs(120);
/// Between two tries, and between two answers that say the same.
const PAUSE: Duration = Duration::from_millis(500);
/// So many nodes in motion are named.
const NAMED: usize = 8;

/// What was asked for: that nodes get something, or that they go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Forward,
    Back,
}

/// The exit code of a deployment as it stands.
pub fn exit(deployment: &Deployment, asked: Asked) -> Exit {
    use DeploymentNodeState as Node;
    let fine: &[Node] = match (deployment.state, asked) {
        (DeploymentState::WaitingApproval, _) => return Exit::Denied,
        (DeploymentState::Succeeded, _) => &[Node::Active, Node::Skipped],
        // Nodes that never had their turn have nothing to go back from.
        (DeploymentState::RolledBack, Asked::Back) => &[Node::RolledBack, Node::Waiting, Node::Skipped],
        _ => return Exit::NotAll,
    };
    let all = deployment.by_state.iter().all(|(state, nodes)| *nodes == 0 || fine.contains(state));
    if all { Exit::Success } else { Exit::NotAll }
}

/// Follow a deployment to where nothing more happens by itself, and show how it went.
pub async fn to_its_end(context: &Context, client: &Client, id: DeploymentId, asked: Asked) -> Result<Exit> {
    let mut interrupts = Interrupts::new()?;
    let Some(detail) = follow(context, client, id, asked, &mut interrupts).await? else {
        context
            .out
            .note(&format!("left deployment {id}; it goes on: `windlass plugins rollouts watch {id}`"));
        return Ok(Exit::Left);
    };
    context.out.data(&detail, |look| deployment::nodes(&detail, look))?;
    let deployment = &detail.deployment;
    if context.out.is_table() {
        context.out.note(&deployment::summary(deployment, &context.stderr_look()));
        if let Some(next) = next(deployment) {
            context.out.note(&next);
        }
    }
    Ok(exit(deployment, asked))
}

/// What is up to the operator now.
pub fn next(deployment: &Deployment) -> Option<String> {
    let id = deployment.id;
    match deployment.state {
        DeploymentState::WaitingApproval => {
            let version = deployment.to.as_ref().map(|to| clean(&to.version)).unwrap_or_default();
            Some(format!(
                "it goes on once approved: `windlass plugins approve {}@{version}`, then `windlass plugins rollouts watch {id}`",
                deployment.plugin
            ))
        }
        DeploymentState::Paused => Some(format!("`windlass plugins rollouts resume|rollback|abort {id}`")),
        _ => None,
    }
}

/// None if the person left.
async fn follow(
    context: &Context,
    client: &Client,
    id: DeploymentId,
    asked_for: Asked,
    interrupts: &mut Interrupts,
) -> Result<Option<DeploymentDetail>> {
    let mut view = View::new(context, asked_for);
    let mut seen: Option<u64> = None;
    let mut away: Option<Instant> = None;
    loop {
        let wait = if view.moving && view.watched { LOOK } else { WAIT };
        let asked = Instant::now();
        let ask = async {
            match seen {
                None => client.deployment(id).await,
                Some(revision) => client.deployment_after(id, revision, wait).await,
            }
        };
        let reply = tokio::select! {
            reply = ask => reply,
            () = interrupts.next() => {
                view.clear();
                return Ok(None);
            }
        };
        let same = match reply {
            Ok(detail) => {
                away = None;
                view.show(&detail);
                if detail.deployment.state.ended()
                    || matches!(
                        detail.deployment.state,
                        DeploymentState::Paused | DeploymentState::WaitingApproval
                    )
                {
                    view.clear();
                    return Ok(Some(detail));
                }
                seen.replace(detail.deployment.revision) == Some(detail.deployment.revision)
            }
            Err(error) if error.is_passing() && away.get_or_insert(asked).elapsed() < AWAY => true,
            Err(error) => {
                view.clear();
                return Err(lost(error, id));
            }
        };
        // A master that answers at once without news must not become a storm of requests.
        if same && asked.elapsed() < PAUSE {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = interrupts.next() => {
                    view.clear();
                    return Ok(None);
                }
            }
        }
    }
}

fn lost(error: ClientError, id: DeploymentId) -> anyhow::Error {
    Problem::failed(format!("cannot follow deployment {id}"))
        .hint(format!("the deployment goes on: `windlass plugins rollouts watch {id}`"))
        .because(error)
        .into()
}

/// A bar with the nodes in motion beneath it, and a line for each node that is in trouble.
struct View<'a> {
    context: &'a Context,
    asked: Asked,
    bar: ProgressBar,
    states: BTreeMap<NodeId, DeploymentNodeState>,
    state: Option<DeploymentState>,
    /// A person looks.
    watched: bool,
    /// A node fetches or compiles.
    moving: bool,
}

impl<'a> View<'a> {
    fn new(context: &'a Context, asked: Asked) -> Self {
        let watched = std::io::stderr().is_terminal();
        // Not shown before there is something to show.
        let bar = ProgressBar::hidden();
        if watched {
            let style = ProgressStyle::with_template(
                "{spinner} {bar:24} {pos}/{len} nodes  {elapsed}  {prefix}{msg}",
            );
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("━╸─"));
            }
        }
        View { context, asked, bar, states: BTreeMap::new(), state: None, watched, moving: false }
    }

    fn show(&mut self, detail: &DeploymentDetail) {
        use DeploymentNodeState::*;
        let look = self.context.stderr_look();
        let deployment = &detail.deployment;
        if self.state.replace(deployment.state).is_some_and(|before| before != deployment.state)
            && !deployment.state.ended()
        {
            let reason = clean(&deployment.reason);
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            self.say(&format!("{}{why}", deployment::state_word(deployment.state)));
        }
        for node in &detail.progress {
            let before = self.states.insert(node.node, node.state);
            if before == Some(node.state) {
                continue;
            }
            // Who asked nodes to go back is not troubled when they do.
            let back = node.state == RolledBack && self.asked == Asked::Forward;
            let trouble = node.state == Failed || back;
            if trouble || self.context.global.verbose && node.state != Waiting {
                self.say(&line(node, trouble, &look));
            }
        }
        let moving: Vec<&DeploymentNode> =
            detail.progress.iter().filter(|node| matches!(node.state, Sent | Installing)).collect();
        self.moving = !moving.is_empty();
        let settled =
            detail.progress.iter().filter(|node| !matches!(node.state, Waiting | Sent | Installing));
        self.bar.set_length(detail.progress.len() as u64);
        self.bar.set_position(settled.count() as u64);
        self.bar.set_prefix(deployment::tally(&deployment.by_state, &look));
        let mut lines: String = moving
            .iter()
            .take(NAMED)
            .map(|node| format!("\n  {}  {}", node.name, deployment::progress(node)))
            .collect();
        if moving.len() > NAMED {
            lines.push_str(&format!("\n  and {} more", moving.len() - NAMED));
        }
        self.bar.set_message(lines);
        if self.watched && self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(120));
        }
    }

    /// A line above the bar.
    fn say(&self, line: &str) {
        self.bar.suspend(|| self.context.out.note(line));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(node: &DeploymentNode, trouble: bool, look: &crate::output::Look) -> String {
    let word = deployment::progress(node);
    let word = if trouble { Tone::Bad.paint(&word, look) } else { word };
    let why = node.problem.as_deref().map(|problem| format!(": {}", short(&clean(problem), 300)));
    format!("{}: {word}{}", node.name, why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;
    use windlass_types::api::bundles::DeploymentNodeState as Node;

    #[test]
    fn the_exit_code_tells_whether_it_is_everywhere() {
        let of = |state, asked, nodes: &[(Node, u32)]| {
            let mut deployment = fixtures::deployment().deployment;
            deployment.state = state;
            deployment.by_state = nodes.iter().copied().collect();
            exit(&deployment, asked)
        };
        use DeploymentState::*;
        let all = [(Node::Active, 3), (Node::Failed, 0)];
        assert_eq!(of(Succeeded, Asked::Forward, &all), Exit::Success);
        assert_eq!(of(Succeeded, Asked::Forward, &[(Node::Active, 2), (Node::Skipped, 1)]), Exit::Success);
        for missing in [Node::Offline, Node::Failed, Node::RolledBack] {
            assert_eq!(of(Succeeded, Asked::Forward, &[(Node::Active, 2), (missing, 1)]), Exit::NotAll);
        }
        assert_eq!(of(WaitingApproval, Asked::Forward, &[(Node::Waiting, 3)]), Exit::Denied);
        for state in [Failed, Aborted, RolledBack, Superseded, Paused, Running] {
            assert_eq!(of(state, Asked::Forward, &all), Exit::NotAll, "{state:?}");
        }
        let back = [(Node::RolledBack, 2), (Node::Waiting, 1)];
        assert_eq!(of(RolledBack, Asked::Back, &back), Exit::Success);
        assert_eq!(of(RolledBack, Asked::Back, &[(Node::RolledBack, 2), (Node::Offline, 1)]), Exit::NotAll);
        assert_eq!(of(Succeeded, Asked::Back, &all), Exit::Success);
    }
}
