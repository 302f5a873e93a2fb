//! Deployments: what will happen, how far it is, how it ended.

use super::{
    capabilities, job,
    table::{Grid, Text, Tone, indent},
    text::{clean, count, natural, short},
    time, value,
};
use crate::output::Look;
use std::collections::BTreeMap;
use windlass_types::{
    NodeId,
    api::{
        ResolvedNode, Target,
        bundles::{
            BundleDetail, Deployment, DeploymentDetail, DeploymentNode, DeploymentNodeState, DeploymentState,
            OnFailure, PluginNode, PluginVersion, Strategy,
        },
    },
};

/// What a deployment rolls out: `zfs 0.2.0`, or `zfs back to before`.
pub fn what(deployment: &Deployment) -> String {
    match &deployment.to {
        Some(to) => format!("{} {}", deployment.plugin, clean(&to.version)),
        None => format!("{} back to before", deployment.plugin),
    }
}

/// Where a deployment stands, in words.
pub fn state_word(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::WaitingApproval => "waiting for approval",
        DeploymentState::Running => "running",
        DeploymentState::Paused => "paused",
        DeploymentState::RollingBack => "rolling back",
        DeploymentState::Succeeded => "succeeded",
        DeploymentState::Failed => "failed",
        DeploymentState::Aborted => "aborted",
        DeploymentState::RolledBack => "rolled back",
        DeploymentState::Superseded => "superseded",
    }
}

fn state_tone(state: DeploymentState) -> Tone {
    use DeploymentState::*;
    match state {
        Succeeded => Tone::Good,
        WaitingApproval | Running | Paused | RollingBack => Tone::Unsure,
        Failed | Aborted | RolledBack => Tone::Bad,
        Superseded => Tone::Faint,
    }
}

/// Where a node stands, in words.
pub fn node_word(state: DeploymentNodeState) -> &'static str {
    match state {
        DeploymentNodeState::Waiting => "waiting",
        DeploymentNodeState::Sent => "sent",
        DeploymentNodeState::Installing => "installing",
        DeploymentNodeState::Active => "active",
        DeploymentNodeState::Failed => "failed",
        DeploymentNodeState::RolledBack => "rolled back",
        DeploymentNodeState::Offline => "offline",
        DeploymentNodeState::Skipped => "skipped",
    }
}

fn node_tone(state: DeploymentNodeState) -> Tone {
    use DeploymentNodeState::*;
    match state {
        Active => Tone::Good,
        Failed | RolledBack => Tone::Bad,
        Sent | Installing | Offline => Tone::Unsure,
        Waiting | Skipped => Tone::Faint,
    }
}

/// How far a node is, on one line: `fetching 45%`.
pub fn progress(node: &DeploymentNode) -> String {
    match (node.state, node.received_bytes, node.total_bytes) {
        (DeploymentNodeState::Installing, received, total) if received < total => {
            format!("fetching {}%", received.saturating_mul(100) / total)
        }
        (DeploymentNodeState::Installing, _, total) if total > 0 => "verifying and compiling".into(),
        (state, ..) => node_word(state).into(),
    }
}

/// How many nodes stand where: `11 active, 1 offline`.
pub fn tally(by_state: &BTreeMap<DeploymentNodeState, u32>, look: &Look) -> String {
    let parts: Vec<String> = by_state
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(state, count)| node_tone(*state).paint(&format!("{count} {}", node_word(*state)), look))
        .collect();
    parts.join(", ")
}

/// State and tally: `running: 3 active, 9 waiting`.
pub fn state(deployment: &Deployment, look: &Look) -> String {
    let word = state_tone(deployment.state).paint(state_word(deployment.state), look);
    let tally = tally(&deployment.by_state, look);
    if tally.is_empty() { word } else { format!("{word}: {tally}") }
}

/// The list of deployments.
pub fn list(deployments: &[Deployment], look: &Look) -> String {
    let mut grid = Grid::new(["deployment", "plugin", "to", "nodes", "state", "who", "when"]);
    let plain = Look { color: false, ..look.clone() };
    let ids = deployments.iter().map(|deployment| deployment.id).collect::<Vec<_>>();
    for (deployment, id) in deployments.iter().zip(job::short_ids(&ids)) {
        grid.row([
            Text::from(id),
            deployment.plugin.as_str().into(),
            deployment.to.as_ref().map_or_else(|| "before".into(), |to| clean(&to.version)).into(),
            deployment.nodes.to_string().into(),
            state_tone(deployment.state).text(state(deployment, &plain)),
            clean(&deployment.created_by).into(),
            time::ago(deployment.created_ms, look).into(),
        ]);
    }
    grid.render(look)
}

/// The steps of a strategy: `1 first, then 3 at a time, 5s healthy after each`.
pub fn steps(strategy: &Strategy) -> String {
    let rest = match strategy.batch {
        0 => "all at once".to_owned(),
        batch => format!("{batch} at a time"),
    };
    let steps = match strategy.canary {
        0 => rest,
        canary => format!("{canary} first, then {rest}"),
    };
    match strategy.soak_ms {
        0 => steps,
        soak => format!("{steps}, {} healthy after each step", time::duration_ms(soak)),
    }
}

fn on_failure(strategy: &Strategy) -> String {
    let when = match strategy.max_failures {
        0 => "any node fails".to_owned(),
        most => format!("more than {most} fail"),
    };
    match strategy.on_failure {
        OnFailure::Rollback => format!("when {when}, every node goes back to what it ran"),
        OnFailure::Pause => format!("when {when}, it pauses until you decide"),
    }
}

fn target(target: &Target) -> String {
    let all = Target { on: vec!["*".into()], ..Target::default() };
    if *target == all || *target == Target::default() { "all nodes".into() } else { job::target(target) }
}

/// The head of one deployment.
pub fn head(deployment: &Deployment, look: &Look) -> String {
    let took = deployment
        .finished_ms
        .and_then(|at| u64::try_from(at.saturating_sub(deployment.created_ms)).ok())
        .map(|ms| Text::from(time::duration_ms(ms)));
    let reason = Some(clean(&deployment.reason)).filter(|reason| !reason.is_empty());
    value::facts(
        [
            ("deployment", Some(Tone::Strong.text(deployment.id.to_string()))),
            ("plugin", Some(what(deployment).into())),
            ("digest", deployment.to.as_ref().map(|to| to.digest.to_string().into())),
            ("state", Some(state(deployment, look).into())),
            ("reason", reason.map(Text::from)),
            ("target", Some(target(&deployment.target).into())),
            ("steps", Some(steps(&deployment.strategy).into())),
            ("on failure", Some(on_failure(&deployment.strategy).into())),
            ("by", Some(clean(&deployment.created_by).into())),
            ("begun", Some(time::full(deployment.created_ms, look).into())),
            ("took", took),
        ],
        look,
    )
}

/// Where each node of a deployment stands.
pub fn nodes(detail: &DeploymentDetail, look: &Look) -> String {
    let mut grid = Grid::new(["node", "step", "state", "ran before", "problem"]);
    for node in &detail.progress {
        let step = match node.step {
            0 if detail.deployment.strategy.canary > 0 => "canary".into(),
            step => step.to_string(),
        };
        let problem = node.problem.as_deref().map_or_else(|| "-".into(), clean);
        grid.row([
            Text::from(node.name.as_str()),
            step.into(),
            node_tone(node.state).text(progress(node)),
            version(node.from.as_ref()).into(),
            if node.problem.is_some() { Tone::Bad.text(problem) } else { problem.into() },
        ]);
    }
    grid.render(look)
}

/// A version, or a dash.
pub fn version(version: Option<&PluginVersion>) -> String {
    version.map_or_else(|| "-".into(), |version| clean(&version.version))
}

/// The line that ends it, for stderr.
pub fn summary(deployment: &Deployment, look: &Look) -> String {
    let took = deployment
        .finished_ms
        .and_then(|at| u64::try_from(at.saturating_sub(deployment.created_ms)).ok())
        .map(|ms| format!(" in {}", time::duration_ms(ms)))
        .unwrap_or_default();
    let reason = clean(&deployment.reason);
    let reason = if reason.is_empty() { String::new() } else { format!("\n{reason}") };
    let state = state(deployment, look);
    format!("deployment {}: {}, {state}{took}{reason}", deployment.id, what(deployment))
}

/// All that a person wants to know before a bundle is rolled out.
pub struct Plan<'a> {
    pub bundle: &'a BundleDetail,
    pub nodes: &'a [ResolvedNode],
    /// What the nodes run now.
    pub now: &'a [PluginNode],
    pub strategy: &'a Strategy,
    /// What it asks for is approved with it.
    pub approve: bool,
}

/// A plan, to agree to.
pub fn plan(plan: &Plan<'_>, look: &Look) -> String {
    let bundle = &plan.bundle.bundle;
    let signed = match &bundle.signatures[..] {
        [] => Tone::Unsure.text("nobody: only nodes that allow unsigned bundles take it"),
        signatures => {
            let keys: Vec<String> =
                signatures.iter().map(|signature| short(&signature.key.to_string(), 20)).collect();
            keys.join(", ").into()
        }
    };
    let beyond = &plan.bundle.unapproved;
    let nodes = Nodes::of(plan);
    let asks = match (beyond.len(), plan.approve) {
        (0, _) => Text::from("nothing beyond what was approved"),
        (more, true) => Tone::Unsure
            .text(format!("{} beyond what was approved, and approved with this:", count(more, "thing"))),
        (more, false) => Tone::Unsure
            .text(format!("{} beyond what was approved, so it waits for approval:", count(more, "thing"))),
    };
    let mut out = value::facts(
        [
            ("deploy", Some(Tone::Strong.text(format!("{} {}", bundle.plugin, clean(&bundle.version))))),
            ("digest", Some(bundle.digest.to_string().into())),
            ("nodes", Some(nodes.summary(plan.nodes.len()).into())),
            ("left alone", nodes.left_alone()),
            ("offline", nodes.offline()),
            ("steps", Some(steps(plan.strategy).into())),
            ("on failure", Some(on_failure(plan.strategy).into())),
            ("signed by", Some(signed)),
            ("asks for", Some(asks)),
        ],
        look,
    );
    out.push_str(&indent(&capabilities::marked(beyond, "+ ", Tone::Unsure, look), 2));
    out
}

/// The nodes of a plan, by what they run now.
struct Nodes<'a> {
    from: BTreeMap<&'a str, u32>,
    same: u32,
    without: u32,
    /// With why.
    left_alone: Vec<String>,
    offline: u32,
}

impl<'a> Nodes<'a> {
    fn of(plan: &Plan<'a>) -> Self {
        let wanted = plan.bundle.bundle.digest;
        let now: BTreeMap<NodeId, &PluginNode> = plan.now.iter().map(|node| (node.node, node)).collect();
        let mut nodes =
            Nodes { from: BTreeMap::new(), same: 0, without: 0, left_alone: Vec::new(), offline: 0 };
        for node in plan.nodes {
            match now.get(&node.id) {
                Some(known) if known.local => {
                    nodes.left_alone.push(format!("{} (its own folder)", node.name));
                }
                Some(known) if known.pinned => nodes.left_alone.push(format!("{} (pinned)", node.name)),
                Some(PluginNode { active: Some(active), .. }) if active.digest == wanted => nodes.same += 1,
                Some(PluginNode { active: Some(active), .. }) => {
                    *nodes.from.entry(&active.version).or_default() += 1;
                }
                _ => nodes.without += 1,
            }
            nodes.offline += u32::from(!node.online);
        }
        nodes.left_alone.sort_by(|a, b| natural(a, b));
        nodes
    }

    /// `12: 10 from 0.1.0, 2 have it already`.
    fn summary(&self, all: usize) -> String {
        let from = self.from.iter().map(|(version, count)| format!("{count} from {}", clean(version)));
        let rest = [(self.without, "without it so far"), (self.same, "with it already")];
        let rest = rest.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let parts: Vec<String> = from.chain(rest).collect();
        if parts.is_empty() { all.to_string() } else { format!("{all}: {}", parts.join(", ")) }
    }

    fn left_alone(&self) -> Option<Text> {
        const NAMED: usize = 6;
        let more = if self.left_alone.len() > NAMED { ", …" } else { "" };
        let names = &self.left_alone[..self.left_alone.len().min(NAMED)];
        (!names.is_empty()).then(|| Tone::Unsure.text(format!("{}{more}", names.join(", "))))
    }

    fn offline(&self) -> Option<Text> {
        (self.offline > 0).then(|| Tone::Unsure.text(format!("{}, to get it on return", self.offline)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures::{self, look};

    #[test]
    fn views() {
        let detail = fixtures::deployment();
        insta::assert_snapshot!(
            "deployment",
            format!(
                "{}\n{}\n{}",
                head(&detail.deployment, &look(None)),
                nodes(&detail, &look(None)),
                summary(&detail.deployment, &look(None))
            )
        );
        insta::assert_snapshot!("deployments", list(&[detail.deployment], &look(None)));
    }

    #[test]
    fn a_plan_says_what_will_happen() {
        let bundle = fixtures::bundle();
        let now = fixtures::plugin().nodes;
        let nodes: Vec<ResolvedNode> = now
            .iter()
            .map(|node| ResolvedNode { id: node.node, name: node.name.clone(), online: node.online })
            .collect();
        let strategy = Strategy { batch: 2, max_failures: 1, ..Strategy::default() };
        let shown = |approve, bundle: &BundleDetail| {
            plan(&Plan { bundle, nodes: &nodes, now: &now, strategy: &strategy, approve }, &look(None))
        };
        insta::assert_snapshot!("plan", shown(false, &bundle));
        let plain = BundleDetail { unapproved: Vec::new(), ..bundle };
        assert!(shown(true, &plain).contains("nothing beyond what was approved"));
    }

    #[test]
    fn progress_of_a_node() {
        let mut node = fixtures::deployment().progress.remove(0);
        node.state = DeploymentNodeState::Installing;
        for (received, total, text) in
            [(0, 0, "installing"), (450, 1000, "fetching 45%"), (1000, 1000, "verifying and compiling")]
        {
            (node.received_bytes, node.total_bytes) = (received, total);
            assert_eq!(progress(&node), text);
        }
    }
}
