//! Rules and the events that fitted them.

use super::{
    job::target,
    table::{Grid, Text, Tone},
    text::clean,
    time, value,
};
use crate::output::Look;
use windlass_types::api::{
    NewJob,
    rules::{Firing, FiringState, Rule, Then},
};

/// What a rule does, in a line.
fn then(then: &Then) -> String {
    let run = |job: &NewJob| {
        let dry = if job.dry_run { " (dry run)" } else { "" };
        format!("{}{dry}", job.operation)
    };
    match then {
        Then::Run(job) => format!("run {} on {}", run(job), target(&job.target)),
        Then::RunThere(job) => format!("run {} there", run(job)),
        Then::Webhook(url) => format!("send to {}", clean(url)),
    }
}

fn limit(rule: &Rule) -> String {
    format!("{} in {}", rule.most, time::duration_ms(rule.per_ms))
}

/// The list of rules.
pub fn list(rules: &[Rule], look: &Look) -> String {
    let mut grid = Grid::new(["rule", "events", "then", "at most", "state", "who"]);
    for rule in rules {
        grid.row([
            Text::from(rule.name.as_str()),
            clean(&rule.kind).into(),
            then(&rule.then).into(),
            limit(rule).into(),
            state(rule),
            clean(&rule.created_by).into(),
        ]);
    }
    grid.render(look)
}

fn state(rule: &Rule) -> Text {
    if rule.paused { Tone::Unsure.text("paused") } else { Tone::Good.text("on") }
}

/// A rule with the events that fitted it last.
pub fn one(rule: &Rule, firings: &[Firing], look: &Look) -> String {
    let args = match &rule.then {
        Then::Run(job) | Then::RunThere(job) => match &job.args {
            serde_json::Value::Object(object) if object.is_empty() => None,
            args => Some(clean(&args.to_string())),
        },
        Then::Webhook(_) => None,
    };
    let mut out = value::facts(
        [
            ("rule", Some(Tone::Strong.text(rule.name.as_str()))),
            ("events", Some(clean(&rule.kind).into())),
            ("when", rule.when.as_deref().map(|when| clean(when).into())),
            ("then", Some(then(&rule.then).into())),
            ("arguments", args.map(Text::from)),
            ("at most", Some(limit(rule).into())),
            ("state", Some(state(rule))),
            ("by", Some(clean(&rule.created_by).into())),
            ("made", Some(time::full(rule.created_ms, look).into())),
        ],
        look,
    );
    if !firings.is_empty() {
        let mut grid = Grid::new(["time", "event", "state", "job", "problem"]);
        for firing in firings {
            let state = match firing.state {
                FiringState::Begun => Tone::Unsure.text("under way"),
                FiringState::Done => Tone::Good.text("done"),
                FiringState::LeftOut => Tone::Unsure.text("left out"),
                FiringState::Failed => Tone::Bad.text("failed"),
            };
            let job = firing.job.filter(|_| firing.state == FiringState::Done);
            grid.row([
                Text::from(time::clock(firing.time_ms, look)),
                firing.seq.to_string().into(),
                state,
                job.map_or_else(|| "-".into(), |job| job.to_string()).into(),
                clean(firing.problem.as_deref().unwrap_or("-")).into(),
            ]);
        }
        out.push('\n');
        out.push_str(&grid.render(look));
    }
    out
}
