//! The engine against worlds that behave in every way worlds do.

use super::engine::{Give, Next, Now, Part, Report, Rollout, View, next, project};
use proptest::prelude::*;
use std::collections::HashMap;
use windlass_types::{
    DeploymentId, Digest, NodeId,
    api::bundles::{
        DeploymentNodeState as At, DeploymentState as State, InstallStage, OnFailure, PluginVersion,
        Strategy as HowTo,
    },
};

const TIMEOUT: u64 = 1000;
const SOAK: u64 = 100;

/// Nodes that do what a test says.
#[derive(Debug, Clone)]
struct World {
    rollout: Rollout,
    views: HashMap<NodeId, View>,
    ms: i64,
    presence_known: bool,
    /// How often each node was given something.
    gives: Vec<Give>,
}

fn old() -> Digest {
    Digest::of(b"old")
}
fn new() -> Digest {
    Digest::of(b"new")
}

impl World {
    fn new(nodes: usize, strategy: HowTo) -> Self {
        let mut parts: Vec<Part> = (0..nodes)
            .map(|n| Part {
                node: NodeId::new(),
                name: format!("n{n}").parse().unwrap(),
                step: 0,
                state: At::Waiting,
                to: Some(new()),
                from: Some(PluginVersion { version: "0.1.0".into(), digest: old() }),
                problem: None,
                given: false,
                sent_ms: 0,
                changed_ms: 0,
            })
            .collect();
        project(&strategy, &mut parts);
        let view = View { member: true, online: true, taken: true, active: Some(old()), ..View::default() };
        World {
            views: parts.iter().map(|part| (part.node, view.clone())).collect(),
            rollout: Rollout {
                id: DeploymentId::new(),
                plugin: "demo".parse().unwrap(),
                state: State::Running,
                reason: String::new(),
                strategy,
                begun: 0,
                soak_since_ms: None,
                forgiven: 0,
                parts,
            },
            ms: 0,
            presence_known: true,
            gives: Vec::new(),
        }
    }

    /// As the driver does, until nothing changes; checks each decision.
    fn look(&mut self) -> Option<i64> {
        for _ in 0..10_000 {
            let before = self.rollout.clone();
            let now = Now { ms: self.ms, presence_known: self.presence_known };
            let Next { rollout, give, wake_ms } = next(&before, |node| self.views[&node].clone(), now);
            if rollout == before && give.is_empty() {
                return wake_ms;
            }
            self.check(&before, &rollout, &give);
            for give in &give {
                // What the node says about before is not about this.
                let view = self.views.get_mut(&give.node).unwrap();
                view.taken = false;
                view.report = None;
            }
            self.rollout = rollout;
            self.gives.extend(give);
        }
        panic!("it never comes to rest: {:#?}", self.rollout);
    }

    /// What holds for every decision.
    fn check(&self, before: &Rollout, after: &Rollout, give: &[Give]) {
        let strategy = &before.strategy;
        let forward = give.iter().filter(|give| !give.back).count();
        let flying = |rollout: &Rollout| {
            rollout.parts.iter().filter(|part| matches!(part.state, At::Sent | At::Installing)).count()
        };
        if forward > 0 && after.state == State::Running {
            assert_eq!(flying(after), forward, "a step begins beside another one");
            // Who was active and is not any more proves nothing.
            let proven = after.parts.iter().any(|part| part.state == At::Active);
            let room = if strategy.canary > 0 && !proven { strategy.canary } else { strategy.batch };
            assert!(
                room == 0 || forward <= room as usize,
                "{forward} nodes at once, and {room} were asked for"
            );
            let failures =
                after.parts.iter().filter(|part| matches!(part.state, At::Failed | At::RolledBack));
            assert!(failures.count() <= (strategy.max_failures + before.forgiven) as usize);
            for give in give {
                assert!(self.views[&give.node].online, "given to a node that is away");
            }
        }
        if before.state == State::Paused {
            assert!(give.is_empty(), "given while paused");
        }
        for (was, is) in before.parts.iter().zip(&after.parts) {
            if is.state == At::Active && was.state != At::Active {
                let view = &self.views[&is.node];
                let said = view.report.as_ref().is_some_and(|report| {
                    report.stage == InstallStage::Active && Some(report.digest) == is.to
                });
                assert!(said || (view.taken && view.active == is.to), "nobody said that it runs");
                assert!(is.given);
            }
        }
    }

    /// What holds at an end.
    fn check_end(&self) {
        let rollout = &self.rollout;
        let all = |state: At| rollout.parts.iter().filter(move |part| part.state == state);
        match rollout.state {
            State::Succeeded => {
                assert!(
                    rollout
                        .parts
                        .iter()
                        .all(|part| !matches!(part.state, At::Waiting | At::Sent | At::Installing))
                );
                assert!(
                    all(At::Active).count() > 0 || rollout.strategy.canary == 0 || rollout.parts.is_empty()
                );
                for part in all(At::Offline) {
                    let last = self.gives.iter().rev().find(|give| give.node == part.node);
                    assert!(last.is_some_and(|give| !give.back), "who is away gets it when it returns");
                }
                let failures = all(At::Failed).count() + all(At::RolledBack).count();
                assert!(failures <= (rollout.strategy.max_failures + rollout.forgiven) as usize);
            }
            State::RolledBack | State::Failed => {
                for part in rollout.parts.iter().filter(|part| part.given && part.state != At::Skipped) {
                    if rollout.state == State::RolledBack {
                        let last = self.gives.iter().rev().find(|give| give.node == part.node).unwrap();
                        assert!(last.back, "{} was left with the bundle that failed", part.name);
                    }
                }
                // Whoever was not given it is not given it later.
                for part in rollout.parts.iter().filter(|part| !part.given) {
                    assert!(self.gives.iter().all(|give| give.node != part.node));
                }
            }
            state => panic!("not an end: {state:?} ({})", rollout.reason),
        }
    }

    fn sent(&self) -> Vec<usize> {
        let parts = self.rollout.parts.iter().enumerate();
        parts.filter(|(_, part)| matches!(part.state, At::Sent | At::Installing)).map(|(at, _)| at).collect()
    }

    fn view(&mut self, at: usize) -> &mut View {
        let node = self.rollout.parts[at].node;
        self.views.get_mut(&node).unwrap()
    }

    /// The node does what it was last given.
    fn obey(&mut self, at: usize) {
        let back = self.rollout.state == State::RollingBack;
        let digest = if back { old() } else { new() };
        let view = self.view(at);
        view.taken = true;
        view.active = Some(digest);
        view.report = Some(Report { digest, stage: InstallStage::Active, problem: None });
    }

    fn refuse(&mut self, at: usize, stage: InstallStage) {
        let digest = if self.rollout.state == State::RollingBack { old() } else { new() };
        let view = self.view(at);
        view.taken = true;
        view.report = Some(Report { digest, stage, problem: Some("it traps".into()) });
    }
}

fn strategy(canary: u32, batch: u32, max_failures: u32, on_failure: OnFailure) -> HowTo {
    HowTo { canary, batch, soak_ms: SOAK, node_timeout_ms: TIMEOUT, max_failures, on_failure }
}

#[test]
fn a_canary_then_batches_each_with_its_soak() {
    let mut world = World::new(6, strategy(1, 2, 0, OnFailure::Rollback));
    let steps: Vec<u32> = world.rollout.parts.iter().map(|part| part.step).collect();
    assert_eq!(steps, [0, 1, 1, 2, 2, 3]);
    let mut sizes = Vec::new();
    while world.rollout.state == State::Running {
        world.look();
        let sent = world.sent();
        sizes.push(sent.len());
        for at in sent {
            world.obey(at);
        }
        assert_eq!(world.look(), Some(world.ms + SOAK as i64), "it soaks");
        world.ms += SOAK as i64 - 1;
        world.look();
        assert!(world.sent().is_empty(), "it did not soak for long enough");
        world.ms += 1;
        world.look();
    }
    assert_eq!(sizes, [1, 2, 2, 1]);
    world.check_end();
}

#[test]
fn a_canary_that_fails_takes_nobody_along() {
    for stage in [InstallStage::Failed, InstallStage::RolledBack] {
        let mut world = World::new(5, strategy(1, 0, 0, OnFailure::Rollback));
        world.look();
        world.refuse(0, stage);
        world.look();
        assert_eq!(world.rollout.state, State::RollingBack);
        assert!(world.rollout.reason.contains("n0: it traps"), "{}", world.rollout.reason);
        world.obey(0);
        world.look();
        assert_eq!(world.rollout.state, State::RolledBack);
        assert_eq!(world.rollout.parts[0].state, At::RolledBack);
        assert_eq!(world.rollout.parts[0].problem.as_deref(), Some("it traps"), "why is kept");
        assert!(world.rollout.parts[1..].iter().all(|part| part.state == At::Waiting));
        world.check_end();
    }
}

#[test]
fn a_node_that_falls_back_while_its_step_soaks_counts() {
    let mut world = World::new(3, strategy(1, 0, 0, OnFailure::Pause));
    world.look();
    world.obey(0);
    world.look();
    world.ms += SOAK as i64 / 2;
    world.refuse(0, InstallStage::RolledBack);
    world.look();
    assert_eq!((world.rollout.state, world.sent().len()), (State::Paused, 0));
    // An operator has seen it and goes on: the next one is a canary again, since nothing is proven.
    world.rollout.state = State::Running;
    world.rollout.forgiven = 1;
    world.look();
    assert_eq!(world.sent(), [1]);
}

#[test]
fn nobody_gets_an_unproven_bundle_because_the_canary_vanished() {
    let mut world = World::new(4, strategy(1, 0, 0, OnFailure::Rollback));
    world.look();
    world.view(0).online = false;
    world.look();
    assert_eq!(world.sent(), [0], "its place is kept, since it may be the bundle");
    world.ms += TIMEOUT as i64;
    world.look();
    assert_eq!(world.rollout.parts[0].state, At::Offline);
    assert_eq!(world.sent(), [1], "one canary again");
    for at in 1..4 {
        world.view(at).online = false;
    }
    world.ms += TIMEOUT as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Running);
    assert!(world.rollout.reason.contains("waiting for one"), "{}", world.rollout.reason);
    world.view(3).online = true;
    world.look();
    assert_eq!(world.sent(), [3]);
    world.obey(3);
    world.look();
    world.ms += SOAK as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Succeeded);
    world.check_end();
    assert!(world.rollout.reason.contains("3 offline"), "{}", world.rollout.reason);
}

#[test]
fn a_node_that_vanishes_while_its_step_soaks_holds_the_next_one_up() {
    let mut world = World::new(2, strategy(1, 0, 0, OnFailure::Rollback));
    world.look();
    world.obey(0);
    world.look();
    world.view(0).online = false;
    world.ms += SOAK as i64;
    assert_eq!(world.look(), Some(SOAK as i64 + TIMEOUT as i64));
    assert!(world.sent().is_empty());
    world.view(0).online = true;
    world.look();
    assert_eq!(world.sent(), [1]);
}

#[test]
fn nothing_is_concluded_from_absence_just_after_a_start() {
    let mut world = World::new(3, strategy(0, 0, 0, OnFailure::Rollback));
    world.presence_known = false;
    for at in 0..3 {
        world.view(at).online = false;
    }
    world.ms += 10 * TIMEOUT as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Running);
    assert!(world.rollout.parts.iter().all(|part| part.state == At::Waiting));
    world.view(1).online = true;
    world.look();
    assert_eq!(world.sent(), [1], "who is there may go on");
    world.ms += 10 * TIMEOUT as i64;
    world.look();
    assert_eq!(world.sent(), [1], "and is not held to a time that nobody watched");
}

#[test]
fn with_everybody_there_nothing_waits_for_absence_to_be_known() {
    let mut world = World::new(2, strategy(1, 0, 0, OnFailure::Rollback));
    world.presence_known = false;
    world.look();
    world.obey(0);
    world.look();
    world.ms += SOAK as i64;
    world.look();
    assert_eq!(world.sent(), [1]);
    world.obey(1);
    world.look();
    world.ms += SOAK as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Succeeded);
}

#[test]
fn a_late_report_wins() {
    let mut world = World::new(3, strategy(1, 0, 1, OnFailure::Rollback));
    world.look();
    world.ms += TIMEOUT as i64;
    world.look();
    assert_eq!(world.rollout.parts[0].state, At::Failed);
    world.obey(0);
    world.look();
    assert_eq!(world.rollout.parts[0].state, At::Active);
}

#[test]
fn nodes_that_are_not_ours_are_left_alone() {
    let mut world = World::new(4, strategy(0, 0, 0, OnFailure::Rollback));
    world.view(0).pinned = true;
    world.view(1).local = true;
    world.view(2).member = false;
    world.look();
    assert_eq!(world.sent(), [3]);
    assert_eq!(world.gives.len(), 1);
    world.obey(3);
    world.ms += SOAK as i64;
    world.look();
    world.ms += SOAK as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Succeeded);
    let mut nobody = World::new(1, strategy(1, 0, 0, OnFailure::Rollback));
    nobody.view(0).pinned = true;
    nobody.look();
    assert_eq!(nobody.rollout.state, State::Failed, "{}", nobody.rollout.reason);
}

#[test]
fn a_node_that_cannot_go_back_is_told_of() {
    let mut world = World::new(2, strategy(0, 0, 0, OnFailure::Rollback));
    world.look();
    world.obey(0);
    world.refuse(1, InstallStage::Failed);
    world.look();
    assert_eq!(world.rollout.state, State::RollingBack);
    world.obey(1);
    world.look();
    world.ms += TIMEOUT as i64;
    world.look();
    assert_eq!(world.rollout.state, State::Failed);
    let stuck = &world.rollout.parts[0];
    assert!(stuck.problem.as_ref().unwrap().contains("did not go back"), "{stuck:?}");
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Obey(usize),
    Refuse(usize, bool),
    Progress(usize),
    Online(usize, bool),
    Pin(usize),
    Leave(usize),
    Taken(usize),
    Time(u16),
    Restart,
    Pause,
    Resume,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0..12_usize;
    prop_oneof![
        8 => node.clone().prop_map(Event::Obey),
        2 => (node.clone(), any::<bool>()).prop_map(|(at, back)| Event::Refuse(at, back)),
        2 => node.clone().prop_map(Event::Progress),
        3 => (node.clone(), any::<bool>()).prop_map(|(at, on)| Event::Online(at, on)),
        1 => node.clone().prop_map(Event::Pin),
        1 => node.clone().prop_map(Event::Leave),
        2 => node.prop_map(Event::Taken),
        4 => (0..400_u16).prop_map(Event::Time),
        1 => Just(Event::Restart),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: no decision breaks a promise, and once the world calms down
    /// the deployment ends in the truth.
    #[test]
    fn any_history_ends_in_the_truth(
        nodes in 1..12_usize,
        canary in 0..3_u32,
        batch in 0..4_u32,
        max_failures in 0..3_u32,
        pause in any::<bool>(),
        events in prop::collection::vec(event(), 0..80),
    ) {
        let on_failure = if pause { OnFailure::Pause } else { OnFailure::Rollback };
        let mut world = World::new(nodes, strategy(canary, batch, max_failures, on_failure));
        world.look();
        for event in events {
            let at = |at: usize| at % nodes;
            match event {
                Event::Obey(n) if world.rollout.parts[at(n)].given && world.view(at(n)).online => world.obey(at(n)),
                Event::Refuse(n, back) if world.rollout.parts[at(n)].given && world.view(at(n)).online => {
                    world.refuse(at(n), if back { InstallStage::RolledBack } else { InstallStage::Failed });
                }
                Event::Progress(n) if world.rollout.parts[at(n)].given => {
                    let digest = new();
                    let report = Report { digest, stage: InstallStage::Compiling, problem: None };
                    world.view(at(n)).report = Some(report);
                }
                Event::Online(n, online) => world.view(at(n)).online = online,
                Event::Pin(n) => world.view(at(n)).pinned = true,
                Event::Leave(n) => { world.view(at(n)).member = false; world.view(at(n)).online = false; }
                Event::Taken(n) => world.view(at(n)).taken = true,
                Event::Time(by) => world.ms += i64::from(by),
                Event::Restart => world.presence_known = false,
                Event::Pause if world.rollout.state == State::Running => world.rollout.state = State::Paused,
                Event::Resume if world.rollout.state == State::Paused => {
                    world.rollout.state = State::Running;
                    let failed = |part: &&Part| matches!(part.state, At::Failed | At::RolledBack);
                    world.rollout.forgiven = world.rollout.parts.iter().filter(failed).count() as u32;
                }
                _ => {}
            }
            world.look();
            if matches!(event, Event::Time(_)) {
                world.presence_known = true;
            }
        }
        // The world calms down: everybody who is left comes back and does what it is told.
        world.presence_known = true;
        for _ in 0..200 {
            if world.rollout.state.ended() {
                break;
            }
            for at in 0..nodes {
                if world.view(at).member {
                    world.view(at).online = true;
                }
            }
            if world.rollout.state == State::Paused {
                world.rollout.state = State::Running;
                world.rollout.forgiven = nodes as u32;
            }
            world.look();
            for at in world.sent() {
                world.obey(at);
            }
            world.look();
            world.ms += SOAK as i64;
            world.look();
        }
        let ended = world.rollout.state.ended();
        prop_assert!(ended, "{:?} {}", world.rollout.state, world.rollout.reason);
        if world.rollout.state == State::Failed && !world.gives.iter().any(|give| give.back) {
            // Nobody took it.
            prop_assert!(world.rollout.parts.iter().all(|part| part.state != At::Active));
        } else {
            world.check_end();
        }
        // At an end nothing more is decided.
        let last = world.rollout.clone();
        world.ms += 10 * TIMEOUT as i64;
        world.look();
        prop_assert_eq!(world.rollout, last);
    }
}
