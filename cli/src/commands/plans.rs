//! `plan …`, `apply` and `runs …`

use super::{Context, Interrupts, ids, run::arguments};
use crate::{
    cli::plans::{Apply, Make, Plan, Runs},
    client::{Client, ClientError},
    exit::{Exit, Problem},
    output::consent,
    render::{runs, text::clean},
};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::HashSet,
    io::{IsTerminal as _, Read as _},
    path::Path,
    time::{Duration, Instant},
};
use windlass_types::{
    Effect, PlanId,
    api::plans::{ApplyPlan, PlanRecord, PlannedCall, Run, RunEventKind, RunState, WaitsFor},
    plans,
};

/// Between two looks at a run while nothing happens: a node may have gone, or be back.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks while much happens.
const PAUSE: Duration = Duration::from_millis(250);

pub async fn plan(context: &Context, command: Plan) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Plan::Check { file } => {
            let plan = read(&file.file)?;
            let review = client.check_plan(&plan.into()).await.map_err(|error| wrong(error, &file.file))?;
            context.out.data(&review, |look| runs::review(&review, look))?;
            if context.out.is_table() {
                context.out.note("the plan can be made");
            }
        }
        Plan::Make(make) => {
            let made = self::make(&client, make).await?;
            context.out.data(&made, |look| runs::plan(&made, look))?;
            if context.out.is_table() {
                context.out.note(&format!("nothing is done yet: `windlass apply {}`", made.info.id));
            }
        }
        Plan::Show { plan } => {
            let record = client.plan(find(&client, &plan.id).await?).await?;
            context.out.data(&record, |look| runs::plan(&record, look))?;
        }
        Plan::List { most } => {
            let all = client.plans(most.limit as usize).await?;
            context
                .out
                .data(&all, |look| if all.is_empty() { String::new() } else { runs::plans(&all, look) })?;
            if all.is_empty() && context.out.is_table() {
                context.out.note("there are no plans: see `windlass plan make --help`");
            }
        }
    }
    Ok(Exit::Success)
}

async fn make(client: &Client, make: Make) -> Result<PlanRecord> {
    if let Some(file) = &make.file {
        let plan = read(file)?;
        return client.new_plan(&plan.into()).await.map_err(|error| wrong(error, file));
    }
    let Some(name) = make.operation else {
        return Err(Problem::usage("name an operation that makes plans, or a file: `--file`").into());
    };
    let info = client.operation(name.as_str()).await?;
    let args = arguments(&info, make.args.as_deref(), &make.words)?;
    Ok(client.new_plan(&PlannedCall { name, args }.into()).await?)
}

/// A plan from a file.
fn read(file: &Path) -> Result<plans::Plan> {
    let named = if file == Path::new("-") { "stdin".to_owned() } else { format!("`{}`", file.display()) };
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Problem::usage(format!("cannot read {named}")).because(error))?;
    // JSON is YAML as well.
    let plan: plans::Plan = serde_norway::from_str(&text).map_err(|error| {
        Problem::usage(format!("{named} is not a plan"))
            .hint("docs/plans.md says what a plan looks like")
            .because(error)
    })?;
    plan.check().map_err(|error| {
        Problem::usage(format!("{named} can't be right: {error}")).hint(format!("see {}", error.pointer))
    })?;
    Ok(plan)
}

/// What the master says is wrong with a plan, with the file that it is in.
fn wrong(error: ClientError, file: &Path) -> anyhow::Error {
    let bad = matches!(&error, ClientError::Api { error, .. } if error.code == "bad_plan");
    if !bad {
        return error.into();
    }
    Problem::usage(format!("the plan in `{}` can't be made", file.display())).because(error).into()
}

async fn find(client: &Client, text: &str) -> Result<PlanId> {
    let recent = async |most| {
        let plans = client.plans(most).await?;
        Ok(plans.into_iter().map(|plan| plan.id).collect())
    };
    ids::find(text, "plan", "windlass plan list", recent).await
}

async fn find_run(client: &Client, text: &str) -> Result<PlanId> {
    let recent = async |most| {
        let runs = client.runs(most).await?;
        Ok(runs.into_iter().map(|run| run.id).collect())
    };
    ids::find(text, "run", "windlass runs list", recent).await
}

pub async fn apply(context: &Context, apply: Apply) -> Result<Exit> {
    let client = context.client()?;
    let record = client.plan(find(&client, &apply.plan.id).await?).await?;
    let id = record.info.id;
    if record.review.effect == Effect::Destroy {
        let question = format!(
            "apply `{}`, {} steps on {} nodes, which may destroy data?",
            clean(&record.info.title),
            record.info.steps,
            record.review.nodes.len()
        );
        consent(apply.consent.yes, &question)?;
    }
    let mut interrupts = Interrupts::new()?;
    // As it was looked at just now, by this command at least.
    let asked = ApplyPlan { fleet_version: Some(record.review.fleet_version) };
    let run = client.apply(id, &asked).await?;
    if apply.detach {
        if context.out.is_table() {
            context.out.note(&format!("run {id} has begun: `windlass runs watch {id}`"));
        } else {
            context.out.data(&run, |_| String::new())?;
        }
        return Ok(Exit::Success);
    }
    to_its_end(context, &client, run, &mut interrupts).await
}

pub async fn runs(context: &Context, command: Runs) -> Result<Exit> {
    let client = context.client()?;
    let control = async |run: &str, step: Option<&str>, verb: &str, done: &str| {
        let run = client.control_run(find_run(&client, run).await?, step, verb).await?;
        changed(context, &run, done)
    };
    match command {
        Runs::List { most } => {
            let all = client.runs(most.limit as usize).await?;
            context
                .out
                .data(&all, |look| if all.is_empty() { String::new() } else { runs::runs(&all, look) })?;
            if all.is_empty() && context.out.is_table() {
                context.out.note("there are no runs: see `windlass apply --help`");
            }
        }
        Runs::Show { run } => {
            let run = client.run(find_run(&client, &run.id).await?).await?;
            context.out.data(&run, |look| runs::run(&run, look))?;
        }
        Runs::Events { run } => {
            let run = client.run(find_run(&client, &run.id).await?).await?;
            let events = client.run_events(run.info.id).await?;
            context.out.data(&events, |look| runs::events(&run, &events, look))?;
        }
        Runs::Watch { run } => {
            let mut interrupts = Interrupts::new()?;
            let run = client.run(find_run(&client, &run.id).await?).await?;
            return to_its_end(context, &client, run, &mut interrupts).await;
        }
        Runs::Pause { run } => control(&run.id, None, "pause", "paused").await?,
        Runs::Resume { run } => control(&run.id, None, "resume", "resumed").await?,
        Runs::Cancel { run } => control(&run.id, None, "cancel", "it rolls back").await?,
        Runs::Abandon { run, consent: agreed } => {
            consent(agreed.yes, &format!("end run {} as it is, with nothing undone?", run.id))?;
            control(&run.id, None, "abandon", "abandoned").await?;
        }
        Runs::Approve { run, step } => control(&run.id, Some(&step.step), "approve", "approved").await?,
        Runs::RetryStep { run, step } => {
            control(&run.id, Some(&step.step), "retry", "it is tried again").await?;
        }
        Runs::SkipStep { run, step, consent: agreed } => {
            consent(agreed.yes, &format!("take step {} for done, or leave what it did?", step.step))?;
            control(&run.id, Some(&step.step), "skip", "skipped").await?;
        }
    }
    Ok(Exit::Success)
}

/// Tell that a run was changed: in full for programs, a line for people.
fn changed(context: &Context, run: &Run, what: &str) -> Result<()> {
    if !context.out.is_table() {
        return context.out.data(run, |_| String::new());
    }
    context.out.note(&format!("run {}: {what}", run.info.id));
    Ok(())
}

/// The exit code of a run that is over.
fn exit(state: RunState) -> Exit {
    if state == RunState::Done { Exit::Success } else { Exit::NotAll }
}

/// Follow a run to its end, and show how it went.
async fn to_its_end(
    context: &Context,
    client: &Client,
    run: Run,
    interrupts: &mut Interrupts,
) -> Result<Exit> {
    let id = run.info.id;
    let Some(run) = follow(context, client, run, interrupts).await? else {
        context.out.note(&format!("left run {id}; it goes on: `windlass runs watch {id}`"));
        return Ok(Exit::Left);
    };
    context.out.data(&run, |look| runs::steps(&run, look))?;
    if context.out.is_table() {
        context.out.note(&runs::summary(&run, &context.stderr_look()));
        for line in runs::told(&run) {
            context.out.note(&clean(&line));
        }
    }
    Ok(exit(run.info.state))
}

/// None if the person left.
async fn follow(
    context: &Context,
    client: &Client,
    mut run: Run,
    interrupts: &mut Interrupts,
) -> Result<Option<Run>> {
    let id = run.info.id;
    let lost = |error: ClientError| {
        Problem::failed(format!("cannot follow run {id}"))
            .hint(format!("the run goes on: `windlass runs watch {id}`"))
            .because(error)
    };
    let mut view = View::new(context);
    let mut events = client.follow_run(id, run.seq);
    let mut pause = PAUSE;
    view.show(&run);
    while !run.info.state.is_over() {
        let mut over = false;
        let mut wait = LOOK;
        let begun = Instant::now();
        // Until something has happened, and then a little longer: mostly more comes with it.
        while begun.elapsed() < wait && !over {
            tokio::select! {
                event = events.next() => {
                    let event = event.map_err(lost)?;
                    over = matches!(event.kind, RunEventKind::Finished { .. });
                    view.say(&runs::event(&run.plan, &event));
                    wait = begun.elapsed() + pause;
                    if pause < begun.elapsed() {
                        wait = begun.elapsed();
                    }
                }
                () = tokio::time::sleep(wait.saturating_sub(begun.elapsed())) => {}
                () = interrupts.next() => {
                    view.clear();
                    return Ok(None);
                }
            }
        }
        let asked = Instant::now();
        match client.run(id).await {
            Ok(now) => run = now,
            // The stream of events says when a master stays away for too long.
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(lost(error).into()),
        }
        // A long plan takes a while to be told: most of the time should not go into that.
        pause = PAUSE.max(asked.elapsed() * 10);
        view.show(&run);
    }
    view.clear();
    Ok(Some(run))
}

/// The run as it goes: on a terminal a drawing that moves, else a line for each thing that happens.
struct View<'a> {
    context: &'a Context,
    bar: ProgressBar,
    told: HashSet<String>,
}

impl<'a> View<'a> {
    fn new(context: &'a Context) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg}\n{spinner} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        View { context, bar, told: HashSet::new() }
    }

    fn show(&mut self, run: &Run) {
        let look = self.context.stderr_look();
        if !self.bar.is_hidden() {
            let (height, width) = console::Term::stderr().size();
            let drawn = runs::steps(run, &crate::output::Look { width: Some(width.into()), ..look.clone() });
            let fits = drawn.lines().count() + 3 < usize::from(height);
            let text = if fits { drawn } else { runs::summary(run, &look) };
            self.bar.set_message(text.trim_end().to_owned());
        }
        for wait in &run.waits {
            let line = clean(&runs::waiting(run, wait));
            // That a node is gone for a moment is not worth a line; that an undo is owed is.
            let matters = wait.r#for != WaitsFor::Node || run.info.state == RunState::RollingBack;
            if matters && self.told.insert(line.clone()) {
                self.line(&line);
            }
        }
    }

    fn say(&self, line: &str) {
        if self.bar.is_hidden() || self.context.global.verbose {
            self.line(line);
        }
    }

    fn line(&self, line: &str) {
        self.bar.suspend(|| self.context.out.note(line));
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
