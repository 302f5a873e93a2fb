//! Plans and runs.

mod tree;

use super::{
    operation::effect_tone,
    table::{Grid, Text, Tone},
    text::{clean, count},
    time, value,
};
use crate::{output::Look, render::job::short_ids};
use windlass_types::{
    StepId,
    api::plans::{
        How, Phase, PlanInfo, PlanRecord, PlanReview, PlanSource, Run, RunEvent, RunEventKind, RunInfo,
        RunState, RunStep, RunWait, StepState, WaitsFor,
    },
    plans::{Action, OnFailure, Plan, Step},
};

fn source(source: &PlanSource) -> String {
    match source {
        PlanSource::Written => "written".into(),
        PlanSource::Operation { operation, .. } => operation.to_string(),
    }
}

/// A state of a run as people read it.
pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::RollingBack => "rolling back",
        RunState::Done => "done",
        RunState::RolledBack => "rolled back",
        RunState::Abandoned => "abandoned",
    }
}

fn state_tone(state: RunState) -> Tone {
    match state {
        RunState::Running => Tone::Plain,
        RunState::Done => Tone::Good,
        RunState::RollingBack => Tone::Unsure,
        RunState::RolledBack | RunState::Abandoned => Tone::Bad,
    }
}

fn state(info: &RunInfo) -> Text {
    let paused = if info.paused { ", paused" } else { "" };
    state_tone(info.state).text(format!("{}{paused}", state_word(info.state)))
}

fn mark(state: StepState) -> (&'static str, Tone) {
    match state {
        StepState::Waiting => ("·", Tone::Faint),
        StepState::Running | StepState::Verifying => ("▶", Tone::Strong),
        StepState::Unanswered => ("?", Tone::Unsure),
        StepState::Retrying => ("↻", Tone::Unsure),
        StepState::Done => ("✓", Tone::Good),
        StepState::Failed => ("✗", Tone::Bad),
        StepState::Skipped => ("»", Tone::Unsure),
        StepState::Undoing => ("◀", Tone::Strong),
        StepState::Owed => ("!", Tone::Unsure),
        StepState::Stuck => ("!", Tone::Bad),
        StepState::Undone => ("↺", Tone::Plain),
        StepState::Left => ("–", Tone::Bad),
    }
}

/// The list of plans.
pub fn plans(plans: &[PlanInfo], look: &Look) -> String {
    let ids: Vec<_> = plans.iter().map(|plan| plan.id).collect();
    let mut grid = Grid::new(["plan", "title", "from", "steps", "who", "made", "run"]);
    for (plan, id) in plans.iter().zip(short_ids(&ids)) {
        let run = match plan.run {
            Some(state) => state_tone(state).text(state_word(state)),
            None if plan.expires_ms <= look.now_ms => Tone::Faint.text("expired"),
            None => "".into(),
        };
        grid.row([
            Tone::Strong.text(id),
            clean(&plan.title).into(),
            source(&plan.source).into(),
            plan.steps.to_string().into(),
            clean(&plan.created_by).into(),
            time::ago(plan.created_ms, look).into(),
            run,
        ]);
    }
    grid.render(look)
}

/// The list of runs.
pub fn runs(runs: &[RunInfo], look: &Look) -> String {
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let mut grid = Grid::new(["run", "title", "state", "steps", "who", "began"]);
    for (run, id) in runs.iter().zip(short_ids(&ids)) {
        grid.row([
            Tone::Strong.text(id),
            clean(&run.title).into(),
            state(run),
            tally(run).into(),
            clean(&run.started_by).into(),
            time::ago(run.started_ms, look).into(),
        ]);
    }
    grid.render(look)
}

/// `3 done, 1 failed`.
pub fn tally(run: &RunInfo) -> String {
    let counts = run.steps.iter().filter(|(_, number)| **number > 0);
    counts.map(|(state, number)| format!("{number} {}", state.as_str())).collect::<Vec<_>>().join(", ")
}

/// What a look at a plan shows of it as a whole.
pub fn review(review: &PlanReview, look: &Look) -> String {
    let effect = effect_tone(review.effect).text(review.effect.as_str());
    let nodes = review.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let operations = review
        .operations
        .iter()
        .map(|operation| format!("{} ({}, {}×)", operation.name, operation.effect, operation.uses))
        .collect::<Vec<_>>()
        .join("\n");
    let mut out = value::facts(
        [("effect", Some(effect)), ("nodes", Some(nodes.into())), ("operations", Some(operations.into()))],
        look,
    );
    for warning in &review.warnings {
        out += &format!("{} {}\n", Tone::Unsure.paint("warning:", look), clean(warning));
    }
    out
}

/// A plan with its steps and reasons.
pub fn plan(record: &PlanRecord, look: &Look) -> String {
    let (info, plan) = (&record.info, &record.plan);
    let on_failure = match plan.on_failure {
        OnFailure::RollBack => "roll back",
        OnFailure::Hold => "hold, and wait for somebody",
    };
    let at_once = plan.at_once.map(|most| most.to_string());
    let good = match info.run {
        Some(state) => state_tone(state).text(format!("applied: {}", state_word(state))),
        None => format!("until {}", time::full(info.expires_ms, look)).into(),
    };
    let mut out = value::facts(
        [
            ("plan", Some(Tone::Strong.text(info.id.to_string()))),
            ("title", Some(clean(&info.title).into())),
            ("from", Some(source(&info.source).into())),
            ("by", Some(clean(&info.created_by).into())),
            ("good", Some(good)),
            ("on failure", Some(on_failure.into())),
            ("at once", at_once.map(Text::from)),
        ],
        look,
    );
    out += &review(&record.review, look);
    for note in &plan.notes {
        out += &format!("\n{}", clean(note));
    }
    if !plan.notes.is_empty() {
        out.push('\n');
    }
    out.push('\n');
    for line in tree::lines(plan) {
        out += &step(plan, &line, look);
    }
    out
}

/// A step of a plan with what it does, in a few lines.
fn step(plan: &Plan, line: &tree::Line, look: &Look) -> String {
    let step = &plan.steps[line.step];
    let under: String = line.lead.replace("├─ ", "│  ").replace("└─ ", "   ");
    let mut out =
        format!("{}{}  {}\n", line.lead, Tone::Strong.paint(step.id.as_str(), look), clean(&step.title),);
    let mut say = |label: &str, text: String| {
        out += &format!("{under}    {} {text}\n", Tone::Faint.paint(label, look));
    };
    if let Some(reason) = &step.reason {
        say("why", clean(reason));
    }
    if !line.also.is_empty() {
        say("after", format!("{}, too", names(plan, &line.also)));
    }
    if let Some(question) = &step.approval {
        say("asks", clean(question));
    }
    say("does", action(&step.act));
    if let Some(verify) = &step.verify {
        let expect = verify.expect.as_deref().map(|it| format!(": {}", clean(it))).unwrap_or_default();
        say("looks", format!("{}{expect}", action(&verify.action)));
    }
    match &step.undo {
        Some(undo) => say("undo", action(undo)),
        None => say("undo", "none".into()),
    }
    out
}

fn names(plan: &Plan, steps: &[usize]) -> String {
    steps.iter().map(|step| plan.steps[*step].id.to_string()).collect::<Vec<_>>().join(", ")
}

/// `zfs.dataset.create on n1: name=tank/x`.
fn action(action: &Action) -> String {
    let args = match &action.args {
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                serde_json::Value::String(text) => format!("{}={}", clean(name), clean(text)),
                other => format!("{}={}", clean(name), clean(&other.to_string())),
            })
            .collect::<Vec<_>>()
            .join(" "),
        other => clean(&other.to_string()),
    };
    let args = if args.is_empty() { String::new() } else { format!(": {args}") };
    format!("{} on {}{args}", action.operation, action.node)
}

/// A run: its steps in their order with where each stands, and what that means.
pub fn run(run: &Run, look: &Look) -> String {
    let info = &run.info;
    let mut out = value::facts(
        [
            ("run", Some(Tone::Strong.text(info.id.to_string()))),
            ("title", Some(clean(&info.title).into())),
            ("state", Some(state(info))),
            ("by", Some(clean(&info.started_by).into())),
            ("began", Some(time::full(info.started_ms, look).into())),
            ("ended", info.finished_ms.map(|ms| time::full(ms, look).into())),
        ],
        look,
    );
    out.push('\n');
    out += &steps(run, look);
    let told = told(run);
    if !told.is_empty() {
        out.push('\n');
        for line in told {
            out += &format!("{}\n", clean(&line));
        }
    }
    out
}

/// The steps of a run, as a drawing of their order.
pub fn steps(run: &Run, look: &Look) -> String {
    let mut grid = Grid::new(["step", "state", "node", "operation", "took", ""]);
    for line in tree::lines(&run.plan) {
        let (Some(step), Some(told)) = (run.plan.steps.get(line.step), run.progress.get(line.step)) else {
            continue;
        };
        let (sign, tone) = mark(told.state);
        let also = match line.also.is_empty() {
            true => String::new(),
            false => format!("also after {}", names(&run.plan, &line.also)),
        };
        let shown = match (told.state, &step.undo) {
            (StepState::Undoing | StepState::Undone | StepState::Owed | StepState::Stuck, Some(undo)) => undo,
            _ => &step.act,
        };
        let attempts =
            if told.attempts > 1 { format!(" ({} attempts)", told.attempts) } else { String::new() };
        grid.row([
            Text::from(format!("{}{sign} {}", line.lead, step.id)),
            tone.text(format!("{}{attempts}", told.state.as_str())),
            shown.node.to_string().into(),
            shown.operation.to_string().into(),
            took(told).into(),
            Tone::Faint.text(also),
        ]);
    }
    grid.render(look)
}

fn took(step: &RunStep) -> String {
    match (step.started_ms, step.finished_ms) {
        (Some(began), Some(ended)) => time::duration_ms(ended.saturating_sub(began).unsigned_abs()),
        _ => String::new(),
    }
}

/// In words what failed, what was undone, what is owed and what is left.
pub fn told(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    let both = || run.plan.steps.iter().zip(&run.progress);
    for (step, told) in both() {
        if let Some(problem) = &told.problem
            && told.state != StepState::Done
        {
            lines.push(format!("step {} did not succeed on {}: {problem}", step.id, step.act.node));
        }
        if let Some(problem) = told.undo_problem.as_ref().filter(|_| told.state != StepState::Undone) {
            lines.push(format!("its undo did not: {}: {problem}", step.id));
        }
    }
    let of = |wanted: StepState| {
        let found = both().filter(move |(_, told)| told.state == wanted).map(|(step, _)| step.id.to_string());
        found.collect::<Vec<_>>()
    };
    let mut say = |state: StepState, words: &str| {
        let steps = of(state);
        if !steps.is_empty() {
            lines.push(format!("{words}: {}", few(&steps)));
        }
    };
    say(StepState::Undone, "undone");
    say(StepState::Skipped, "taken for done although it failed");
    say(StepState::Left, "left as it is, and not undone");
    let remains: Vec<String> = both()
        .filter(|(step, told)| remains(run.info.state, step, told))
        .map(|(step, _)| step.id.to_string())
        .collect();
    if !remains.is_empty() {
        let why = match run.info.state {
            RunState::Abandoned => "the run was ended as it was, so this may remain",
            _ => "this remains, having no undo",
        };
        lines.push(format!("{why}: {}", few(&remains)));
    }
    lines.extend(run.waits.iter().map(|wait| waiting(run, wait)));
    lines
}

/// Something of the step is there which nobody undoes.
fn remains(state: RunState, step: &Step, told: &RunStep) -> bool {
    match state {
        RunState::RolledBack => told.touched && step.undo.is_none(),
        RunState::Abandoned => told.touched,
        _ => false,
    }
}

fn few(steps: &[String]) -> String {
    const FEW: usize = 20;
    let shown = steps.iter().take(FEW).cloned().collect::<Vec<_>>().join(", ");
    match steps.len().saturating_sub(FEW) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// What a run waits for, and what to do about it.
pub fn waiting(run: &Run, wait: &RunWait) -> String {
    let (id, step) = (run.info.id, &wait.step);
    let back = run.info.state == RunState::RollingBack;
    match wait.r#for {
        WaitsFor::Approval => {
            format!(
                "step {step} on {} asks: {} `windlass runs approve {id} {step}`, or `windlass runs cancel {id}`",
                wait.node, wait.why
            )
        }
        WaitsFor::Person if back => format!(
            "step {step} on {}: {}. `windlass runs retry-step {id} {step}`, or `skip-step` to leave it",
            wait.node, wait.why
        ),
        WaitsFor::Person => format!(
            "step {step} on {}: {}. `windlass runs retry-step|skip-step {id} {step}`, or `windlass runs cancel {id}`",
            wait.node, wait.why
        ),
        WaitsFor::Node if back => {
            format!(
                "step {step} waits: {}. If it never comes back: `windlass runs skip-step {id} {step}`",
                wait.why
            )
        }
        WaitsFor::Node => format!("step {step} waits: {}", wait.why),
    }
}

/// How a run ended, in a line.
pub fn summary(run: &Run, look: &Look) -> String {
    let info = &run.info;
    let state = state_tone(info.state).paint(state_word(info.state), look);
    let took = info.finished_ms.map(|ended| ended.saturating_sub(info.started_ms).unsigned_abs());
    let took = took.map(|ms| format!(" after {}", time::duration_ms(ms))).unwrap_or_default();
    format!("{state}{took}: {} of {}", tally(info), count(run.plan.steps.len(), "step"))
}

/// An event of a run, in a line; none for what says nothing by itself.
pub fn event(plan: &Plan, event: &RunEvent) -> String {
    let by = event.actor.as_deref().map(|actor| format!(" by {}", clean(actor))).unwrap_or_default();
    let place = |id: &StepId, phase: Phase| {
        let step = plan.steps.iter().find(|step| step.id == *id);
        let action = step.and_then(|step| match phase {
            Phase::Act => Some(&step.act),
            Phase::Verify => step.verify.as_ref().map(|verify| &verify.action),
            Phase::Undo => step.undo.as_ref(),
        });
        action.map(|action| format!(" ({} on {})", action.operation, action.node)).unwrap_or_default()
    };
    let verb = |phase: Phase| match phase {
        Phase::Act => "",
        Phase::Verify => "look at ",
        Phase::Undo => "undo of ",
    };
    match &event.kind {
        RunEventKind::Began { step, phase, attempt, .. } => {
            let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
            format!("{}{step} begins{}{again}", verb(*phase), place(step, *phase))
        }
        RunEventKind::Ended { step, phase, how, problem, .. } => {
            let how = match how {
                How::Done => "done",
                How::Failed => "failed",
                How::NotRun => "did not run",
                How::Unanswered => "not answered",
            };
            let problem = problem.as_deref().map(|it| format!(": {}", clean(it))).unwrap_or_default();
            format!("{}{step} {how}{problem}", verb(*phase))
        }
        RunEventKind::Settled { step } => format!("nothing of {step} runs any more"),
        RunEventKind::Owed { step } => format!("undo of {step} is owed until its node is back"),
        RunEventKind::Approved { step } => format!("{step} approved{by}"),
        RunEventKind::Paused => format!("paused{by}"),
        RunEventKind::Resumed => format!("resumed{by}"),
        RunEventKind::Cancelled => format!("cancelled{by}: it rolls back"),
        RunEventKind::Retried { step } => format!("{step} is to be tried again{by}"),
        RunEventKind::Skipped { step } => format!("{step} is skipped{by}"),
        RunEventKind::Abandoned => format!("abandoned{by}"),
        RunEventKind::Finished { state } => state_word(*state).to_owned(),
    }
}

/// All that happened to a run.
pub fn events(run: &Run, events: &[RunEvent], look: &Look) -> String {
    let mut grid = Grid::new(["#", "time", "what"]);
    for it in events {
        grid.row([
            Text::from(it.seq.to_string()),
            time::clock(it.time_ms, look).into(),
            event(&run.plan, it).into(),
        ]);
    }
    grid.render(look)
}

#[cfg(test)]
mod tests;
