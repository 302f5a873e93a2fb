//! `rules …`

use super::{Context, standing};
use crate::{
    cli::rules::{Add, Rules},
    client::Client,
    duration::millis,
    exit::{Exit, Problem},
    render::{events, rules},
};
use anyhow::Result;
use serde::Serialize;
use windlass_types::{
    OperationName,
    api::{
        NewJob, Target,
        rules::{Firing, NewRule, Rule, Then, TryRule},
    },
};

/// A rule with the events that fitted it last, as programs get it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    rule: &'a Rule,
    firings: &'a [Firing],
}

pub async fn run(context: &Context, command: Rules) -> Result<Exit> {
    let client = context.client()?;
    match command {
        Rules::Add(add) => self::add(context, &client, *add).await?,
        Rules::List => {
            let all = client.rules().await?;
            context
                .out
                .data(&all, |look| if all.is_empty() { String::new() } else { rules::list(&all, look) })?;
            if all.is_empty() && context.out.is_table() {
                context.out.note("there are no rules: see `windlass rules add --help`");
            }
        }
        Rules::Show { rule: named, limit } => {
            let shown = client.rule(&named.name).await?;
            let firings = client.firings(&named.name, limit as usize).await?;
            context.out.data(&Shown { rule: &shown, firings: &firings }, |look| {
                rules::one(&shown, &firings, look)
            })?;
        }
        Rules::Try { condition, last } => {
            let tried = TryRule { kind: condition.kind, when: condition.when, last: Some(last) };
            let tried = client.try_rule(&tried).await?;
            context.out.data(&tried, |look| {
                if tried.fits.is_empty() { String::new() } else { events::table(&tried.fits, look) }
            })?;
            if context.out.is_table() {
                let (fits, looked_at) = (tried.fits.len(), tried.looked_at);
                context.out.note(&format!("{fits} of {looked_at} events fit"));
                if let Some(failure) = &tried.failure {
                    context.out.note(&format!("it failed on {} of them: {failure}", tried.failed));
                }
            }
        }
        Rules::Pause { rule: named } => {
            let paused = client.pause_rule(&named.name, true).await?;
            changed(context, &paused, "paused")?;
        }
        Rules::Resume { rule: named } => {
            let resumed = client.pause_rule(&named.name, false).await?;
            changed(context, &resumed, "resumed")?;
        }
        Rules::Remove { rule: named } => {
            client.delete_rule(&named.name).await?;
            context.out.note(&format!("removed rule `{}`", named.name));
        }
    }
    Ok(Exit::Success)
}

async fn add(context: &Context, client: &Client, add: Add) -> Result<()> {
    let then = match (&add.run, &add.run_there, &add.webhook) {
        (_, _, Some(url)) => Then::Webhook(url.clone()),
        (Some(operation), _, _) => {
            Then::Run(Box::new(job(client, &add, operation, add.target.required()?).await?))
        }
        (None, Some(operation), _) => {
            if add.target.to_api() != Target::default() {
                return Err(Problem::usage("`--run-there` runs on the node of the event")
                    .hint("for nodes of your own choice use `--run`")
                    .into());
            }
            Then::RunThere(Box::new(job(client, &add, operation, Target::default()).await?))
        }
        // The arguments were checked: one of them is there.
        (None, None, None) => return Err(Problem::usage("what is to be done?").into()),
    };
    let new = NewRule {
        name: add.name,
        kind: add.condition.kind,
        when: add.condition.when,
        then,
        most: add.most,
        per_ms: millis(add.per),
        paused: add.paused,
    };
    let made = client.new_rule(&new).await?;
    changed(context, &made, "added")
}

async fn job(client: &Client, add: &Add, operation: &OperationName, target: Target) -> Result<NewJob> {
    let (base, agreed) = (add.args.as_deref(), add.consent.yes);
    let args = standing::arguments(client, operation, base, &add.words, add.dry_run, agreed).await?;
    Ok(NewJob {
        operation: operation.clone(),
        args,
        target,
        dry_run: add.dry_run,
        deadline_ms: add.timeout.map(millis),
        pick: None,
        batch: None,
        max_failures: None,
        retries: None,
        wait_offline_ms: None,
    })
}

/// Tell that a rule was changed: in full for programs, a line for people.
fn changed(context: &Context, rule: &Rule, what: &str) -> Result<()> {
    if !context.out.is_table() {
        return context.out.data(rule, |_| String::new());
    }
    context.out.note(&format!("{what} `{}`", rule.name));
    Ok(())
}
