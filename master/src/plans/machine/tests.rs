use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// What a list of events tells.
fn view(shape: &Shape, events: &[Event]) -> View {
    let mut view = View::new(shape);
    for event in events {
        view.apply(shape, *event);
    }
    view
}

fn next(shape: &Shape, events: &[Event]) -> Vec<Command> {
    let mut commands = decide(shape, &shape.order().unwrap(), &view(shape, events));
    commands.sort_unstable();
    commands
}

fn step(after: &[u32]) -> Step {
    Step { after: after.to_vec(), undo: true, ..Step::default() }
}

fn chain(length: u32) -> Shape {
    let steps = (0..length).map(|number| step(&number.checked_sub(1).into_iter().collect::<Vec<_>>()));
    Shape { steps: steps.collect(), at_once: 4, hold: false }
}

fn begin(step: u32, phase: Phase, attempt: u32) -> Command {
    Command::Begin { step, phase, attempt }
}

/// Events by hand.
struct Log(Vec<Event>);

impl Log {
    fn ran(&mut self, step: u32, phase: Phase, attempt: u32, how: How) -> &mut Self {
        self.0.push(Event::Began { step, phase, attempt });
        self.0.push(Event::Ended { step, phase, attempt, how });
        self
    }
}

#[test]
fn shapes_are_checked() {
    assert_eq!(chain(3).order().map(|order| order.forward), Ok(vec![0, 1, 2]));
    let missing = Shape { steps: vec![step(&[7])], ..Shape::default() };
    assert_eq!(missing.order(), Err(ShapeError::NoSuchStep { step: 0, after: 7 }));
    let circle = Shape { steps: vec![step(&[]), step(&[2]), step(&[1])], ..Shape::default() };
    assert_eq!(circle.order(), Err(ShapeError::Circle(1)));
    assert_eq!(next(&Shape::default(), &[]), [Command::Finish(End::Done)]);
}

#[test]
fn what_failed_is_undone_with_all_before_it_in_reverse() {
    let (shape, mut log) = (chain(3), Log(Vec::new()));
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Act, 1)]);
    log.ran(0, Phase::Act, 1, How::Done);
    assert_eq!(next(&shape, &log.0), [begin(1, Phase::Act, 1)]);
    log.ran(1, Phase::Act, 1, How::Failed);
    // It may have done some of it.
    assert_eq!(next(&shape, &log.0), [begin(1, Phase::Undo, 1)]);
    log.ran(1, Phase::Undo, 1, How::Done);
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Undo, 1)]);
    log.ran(0, Phase::Undo, 1, How::Done);
    assert_eq!(next(&shape, &log.0), [Command::Finish(End::RolledBack)]);
}

#[test]
fn what_nobody_answered_is_undone_only_once_it_is_settled() {
    let (shape, mut log) = (chain(2), Log(Vec::new()));
    log.ran(0, Phase::Act, 1, How::Done).ran(1, Phase::Act, 1, How::Unanswered);
    assert_eq!(next(&shape, &log.0), [Command::Settle { step: 1 }], "and what is before it waits");
    log.0.push(Event::Settled { step: 1 });
    assert_eq!(next(&shape, &log.0), [begin(1, Phase::Undo, 1)]);
    log.ran(1, Phase::Undo, 1, How::Unanswered);
    assert_eq!(next(&shape, &log.0), [Command::Settle { step: 1 }]);
    log.0.push(Event::Settled { step: 1 });
    assert_eq!(next(&shape, &log.0), [begin(1, Phase::Undo, 2)], "it is owed until it is done");
}

#[test]
fn what_can_not_be_undone_waits_for_a_person() {
    let (shape, mut log) = (chain(2), Log(Vec::new()));
    log.ran(0, Phase::Act, 1, How::Done).ran(1, Phase::Act, 1, How::Failed);
    for attempt in 1..=UNDO_TRIES {
        assert_eq!(next(&shape, &log.0), [begin(1, Phase::Undo, attempt)]);
        log.ran(1, Phase::Undo, attempt, How::Failed);
    }
    assert_eq!(next(&shape, &log.0), [Command::Stuck { step: 1 }]);
    let mut retried = Log(log.0.clone());
    retried.0.push(Event::Retried { step: 1 });
    assert_eq!(next(&shape, &retried.0), [begin(1, Phase::Undo, UNDO_TRIES + 1)]);
    log.0.push(Event::Skipped { step: 1 });
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Undo, 1)]);
    log.0.push(Event::Abandoned);
    assert_eq!(next(&shape, &log.0), [Command::Finish(End::Abandoned)]);
}

#[test]
fn retries_approval_verification_pause_and_hold() {
    let careful = Step { verify: true, approval: true, retries: 1, ..step(&[]) };
    let (shape, mut log) = (Shape { steps: vec![careful], at_once: 1, hold: true }, Log(Vec::new()));
    assert_eq!(next(&shape, &log.0), [Command::Ask { step: 0 }]);
    log.0.push(Event::Approved { step: 0 });
    log.0.push(Event::Paused);
    assert_eq!(next(&shape, &log.0), []);
    log.0.push(Event::Resumed);
    log.ran(0, Phase::Act, 1, How::Failed);
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Act, 2)]);
    log.ran(0, Phase::Act, 2, How::Done);
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Verify, 1)]);
    log.ran(0, Phase::Verify, 1, How::Failed);
    assert_eq!(next(&shape, &log.0), [Command::Stuck { step: 0 }], "it holds instead of rolling back");
    log.0.push(Event::Retried { step: 0 });
    assert_eq!(next(&shape, &log.0), [begin(0, Phase::Act, 3)]);
    log.ran(0, Phase::Act, 3, How::Done).ran(0, Phase::Verify, 2, How::Done);
    assert_eq!(next(&shape, &log.0), [Command::Finish(End::Done)]);
}

/// What the world is like; the machine sees only what is written down.
#[derive(Debug, Default)]
struct World {
    /// Steps of which something is there.
    effects: BTreeSet<u32>,
    /// Under way, with what will be told.
    running: HashMap<u32, (Phase, u32, How)>,
    /// Not answered, and what may still happen to their effects.
    unsettled: HashMap<u32, Phase>,
    begun: BTreeSet<(u32, Phase, u32)>,
}

/// The steps that come after one in any way, told apart from how the machine does it.
fn after(shape: &Shape, step: u32) -> Vec<u32> {
    let comes_after = |other: u32| {
        fn looks(shape: &Shape, from: u32, to: u32) -> bool {
            shape.steps[from as usize].after.iter().any(|before| *before == to || looks(shape, *before, to))
        }
        looks(shape, other, step)
    };
    (0..shape.steps.len() as u32).filter(|other| comes_after(*other)).collect()
}

/// How something goes, as dice say.
#[derive(Debug, Clone, Copy)]
struct Luck {
    how: How,
    /// Whether something is left of an action that failed, or an undo that failed did its work after all.
    half: bool,
}

fn luck() -> impl Strategy<Value = Luck> {
    let how = prop_oneof![
        6 => Just(How::Done),
        2 => Just(How::Failed),
        1 => Just(How::NotRun),
        2 => Just(How::Unanswered),
    ];
    (how, any::<bool>()).prop_map(|(how, half)| Luck { how, half })
}

fn shape() -> impl Strategy<Value = Shape> {
    let steps = (1_usize..7).prop_flat_map(|length| {
        let one = (any::<u32>(), any::<bool>(), any::<bool>(), 0_u32..2, proptest::bool::weighted(0.2));
        proptest::collection::vec(one, length)
    });
    (steps, 1_u32..4, proptest::bool::weighted(0.3)).prop_map(|(steps, at_once, hold)| {
        let steps = (0_u32..).zip(steps).map(|(number, (mask, undo, verify, retries, approval))| Step {
            after: (0..number).filter(|before| mask & (1 << before) != 0).collect(),
            undo,
            verify,
            approval,
            retries,
        });
        Shape { steps: steps.collect(), at_once, hold }
    })
}

/// What a person or the driver does, besides what the machine asks for.
#[derive(Debug, Clone, Copy)]
enum Push {
    /// The n-th of what is to be done or under way goes on.
    Go(u8, Luck),
    Pause,
    Resume,
    Cancel,
    Retry(u32),
    Skip(u32),
}

fn pushes() -> impl Strategy<Value = Vec<Push>> {
    let push = prop_oneof![
        30 => (any::<u8>(), luck()).prop_map(|(number, luck)| Push::Go(number, luck)),
        1 => Just(Push::Pause),
        2 => Just(Push::Resume),
        1 => Just(Push::Cancel),
        1 => (0_u32..6).prop_map(Push::Retry),
        1 => (0_u32..6).prop_map(Push::Skip),
    ];
    proptest::collection::vec(push, 0..60)
}

impl World {
    fn go(&mut self, shape: &Shape, log: &mut Vec<Event>, number: u8, luck: Luck) {
        // What is under way may end, or something that is to be done begins.
        let mut running: Vec<u32> = self.running.keys().copied().collect();
        running.sort_unstable();
        let commands = next(shape, log);
        let all = running.len() + commands.len();
        let Some(chosen) = (number as usize).checked_rem(all) else { return };
        if let Some(step) = running.get(chosen) {
            return self.end(*step, log);
        }
        match commands[chosen - running.len()] {
            Command::Begin { step, phase, attempt } => self.begin(shape, log, (step, phase, attempt), luck),
            Command::Settle { step } => {
                let phase = self.unsettled.remove(&step).expect("only what is not answered is settled");
                self.maybe(step, phase, luck.half);
                log.push(Event::Settled { step });
            }
            Command::Ask { step } => log.push(Event::Approved { step }),
            Command::Stuck { .. } | Command::Finish(_) => {}
        }
    }

    fn maybe(&mut self, step: u32, phase: Phase, happens: bool) {
        match phase {
            Phase::Act if happens => drop(self.effects.insert(step)),
            Phase::Undo if happens => drop(self.effects.remove(&step)),
            _ => {}
        }
    }

    fn begin(&mut self, shape: &Shape, log: &mut Vec<Event>, what: (u32, Phase, u32), luck: Luck) {
        let (step, phase, attempt) = what;
        assert!(self.begun.insert(what), "{what:?} began twice");
        assert!(!self.running.contains_key(&step), "{what:?} began while something of it was under way");
        assert!(!self.unsettled.contains_key(&step), "{what:?} began before it was settled");
        let view = view(shape, log);
        assert!(!view.paused);
        match phase {
            Phase::Act | Phase::Verify => {
                assert!(!view.rolls_back(shape), "forward while it rolls back");
                let failed = view.steps.iter().any(|step| step.stage == Stage::Failed);
                assert!(!failed, "forward while a failed step waits for a person");
                for before in &shape.steps[step as usize].after {
                    let skipped = view.steps[*before as usize].stage == Stage::Skipped;
                    assert!(skipped || self.effects.contains(before), "{before} is not done yet");
                }
            }
            Phase::Undo => {
                for behind in after(shape, step) {
                    assert!(!self.running.contains_key(&behind) && !self.unsettled.contains_key(&behind));
                    let left = self.effects.contains(&behind) && shape.steps[behind as usize].undo;
                    let given_up = view.steps[behind as usize].stage == Stage::Left;
                    assert!(!left || given_up, "{step} is undone before {behind}");
                }
            }
        }
        log.push(Event::Began { step, phase, attempt });
        // Every prefix is one at which the master may have died: it asks for nothing that has begun.
        let again = next(shape, log).into_iter().filter(|command| *command == begin_of(what)).count();
        assert_eq!(again, 0);
        match (luck.how, phase) {
            (How::Done, _) => self.maybe(step, phase, true),
            (How::Failed, Phase::Act | Phase::Undo) => self.maybe(step, phase, luck.half),
            _ => {}
        }
        self.running.insert(step, (phase, attempt, luck.how));
    }

    fn end(&mut self, step: u32, log: &mut Vec<Event>) {
        let Some((phase, attempt, how)) = self.running.remove(&step) else { return };
        if how == How::Unanswered {
            self.unsettled.insert(step, phase);
        }
        log.push(Event::Ended { step, phase, attempt, how });
    }

    fn check_end(&self, shape: &Shape, log: &[Event], end: End) {
        assert!(self.running.is_empty() && self.unsettled.is_empty());
        let view = view(shape, log);
        for (step, number) in view.steps.iter().zip(0..) {
            let there = self.effects.contains(&number);
            match end {
                End::Done => assert!(there || step.stage == Stage::Skipped, "{number} is missing"),
                End::RolledBack => {
                    let kept = step.stage == Stage::Left || !shape.steps[number as usize].undo;
                    assert!(!there || kept, "{number} is left");
                }
                End::Abandoned => {}
            }
        }
    }
}

fn begin_of((step, phase, attempt): (u32, Phase, u32)) -> Command {
    Command::Begin { step, phase, attempt }
}

/// Ten thousand steps take no longer each than ten do: the whole of it is well below what a debug build
/// could do if each event looked at all others.
#[test]
fn long_lists_of_events_are_read_once() {
    let shape = chain(10_000);
    let order = shape.order().unwrap();
    let mut view = View::new(&shape);
    for step in 0..10_000 {
        view.apply(&shape, Event::Began { step, phase: Phase::Act, attempt: 1 });
        view.apply(&shape, Event::Ended { step, phase: Phase::Act, attempt: 1, how: How::Done });
    }
    assert_eq!(decide(&shape, &order, &view), [Command::Finish(End::Done)]);
    view.apply(&shape, Event::Cancelled);
    assert_eq!(decide(&shape, &order, &view), [begin(9_999, Phase::Undo, 1)]);
}

fn finish(commands: &[Command]) -> Option<End> {
    commands.iter().find_map(|command| match command {
        Command::Finish(end) => Some(*end),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_it_ends_as_it_says(shape in shape(), pushes in pushes()) {
        prop_assert!(shape.order().is_ok());
        let (mut world, mut log) = (World::default(), Vec::new());
        for push in pushes {
            if let Some(end) = finish(&next(&shape, &log)) {
                world.check_end(&shape, &log, end);
                return Ok(());
            }
            match push {
                Push::Go(number, luck) => world.go(&shape, &mut log, number, luck),
                Push::Pause => log.push(Event::Paused),
                Push::Resume => log.push(Event::Resumed),
                Push::Cancel => log.push(Event::Cancelled),
                Push::Retry(step) => log.push(Event::Retried { step }),
                Push::Skip(step) => {
                    log.push(Event::Skipped { step });
                    if view(&shape, &log).steps.get(step as usize).is_some_and(|step| step.stage == Stage::Left) {
                        // Whoever leaves it takes what may still come of it.
                        world.unsettled.remove(&step);
                    }
                }
            }
        }
        // From here on all goes well, and a person tries again what is stuck: it comes to an end.
        log.push(Event::Resumed);
        let good = Luck { how: How::Done, half: true };
        for round in 0..400_u32 {
            let commands = next(&shape, &log);
            if let Some(end) = finish(&commands) {
                world.check_end(&shape, &log, end);
                return Ok(());
            }
            prop_assert!(!commands.is_empty() || !world.running.is_empty(), "it stands still: {:?}", log);
            for command in commands {
                if let Command::Stuck { step } = command {
                    log.push(Event::Retried { step });
                }
            }
            world.go(&shape, &mut log, (round % 251) as u8, good);
        }
        prop_assert!(false, "it comes to no end");
    }
}
