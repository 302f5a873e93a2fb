//! From something that has begun to how it ended.

use super::{ACTOR, Core, Inner, append::action, state::Doing};
use crate::{jobs::JobError, store::StoreError};
use serde_json::Value;
use std::sync::Arc;
use windlass_describe::expression;
use windlass_types::{
    Outcome, OutcomeKind,
    api::{
        Job, JobState, NewJob, Target,
        plans::{How, Phase},
    },
};

/// Bytes of a problem that are kept.
const PROBLEM: usize = 2000;

/// What is known of something after a look.
enum Look {
    Ended(Ended),
    /// The job has just ended: look again.
    Again,
    /// It can't be told yet, or there is no room for the job: look later.
    Later,
}

/// How something ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub doing: Doing,
    pub how: How,
    pub outcome: Option<OutcomeKind>,
    pub problem: Option<String>,
}

impl Inner {
    /// Find or make the job, and wait for its end. Comes to no end only when the master does.
    pub(super) async fn follow(self: Arc<Self>, run: Arc<super::LiveRun>, doing: Doing) -> Ended {
        loop {
            match self.try_follow(&run.core, doing).await {
                Ok(Look::Ended(ended)) => return ended,
                Ok(Look::Again) => continue,
                Ok(Look::Later) => {}
                Err(error) if self.shutdown.is_cancelled() => {
                    tracing::debug!(%error, "the master ends");
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, run = %run.core.id, "cannot follow a step");
                }
            }
            tokio::time::sleep(self.options.again).await;
        }
    }

    async fn try_follow(&self, core: &Core, doing: Doing) -> Result<Look, StoreError> {
        if let Some(mut finishing) = self.jobs.finishing(doing.job) {
            // The sender is dropped only after the job is in the channel.
            let _ = finishing.wait_for(Option::is_some).await;
        }
        match self.jobs.get(doing.job).await? {
            Some(Job { state: JobState::Finished, .. }) => {}
            // It has just been made, or its end is just being written.
            Some(_) => return Ok(Look::Later),
            None => return self.make(core, doing).await,
        }
        let Some(outcome) = self.jobs.outcome(doing.job).await? else { return Ok(Look::Later) };
        let (mut how, mut problem) = judged(&outcome);
        if how == How::Done
            && doing.phase == Phase::Verify
            && let Outcome::Succeeded { value } = &outcome
            && let Some(wrong) = expected(core, doing, value).await
        {
            (how, problem) = (How::Failed, Some(wrong));
        }
        let problem = problem.map(|problem| cut(&problem));
        Ok(Look::Ended(Ended { doing, how, outcome: Some(outcome.kind()), problem }))
    }

    /// Make the job that there is not yet, and wait for its end.
    async fn make(&self, core: &Core, doing: Doing) -> Result<Look, StoreError> {
        let step = &core.plan.steps[doing.step as usize];
        let not_run = |problem: String| {
            Look::Ended(Ended { doing, how: How::NotRun, outcome: None, problem: Some(cut(&problem)) })
        };
        let Some(action) = action(core, &step.id, doing.phase) else {
            return Ok(not_run("the plan does not say how".into()));
        };
        let Some(node) = core.nodes.get(&action.node) else {
            return Ok(not_run(format!("there is no node {}", action.node)));
        };
        let new = NewJob {
            operation: action.operation.clone(),
            args: action.args.clone(),
            // By id: names can be given to other nodes.
            target: Target { on: vec![node.to_string()], ..Target::default() },
            dry_run: false,
            deadline_ms: step.timeout_ms,
            pick: None,
            batch: None,
            max_failures: None,
            retries: None,
            wait_offline_ms: None,
        };
        let made = self.jobs.create_as(doing.job, new, &format!("{ACTOR}{}", core.id)).await;
        match made {
            Ok(mut created) => {
                let ended = created.finished.wait_for(Option::is_some).await;
                Ok(if ended.is_ok() { Look::Again } else { Look::Later })
            }
            Err(JobError::TooManyJobs { .. }) => Ok(Look::Later),
            // Whether it was written is not known: it is looked for again.
            Err(JobError::Store(error)) => Err(error),
            Err(problem) => Ok(not_run(problem.to_string())),
        }
    }
}

/// What an outcome means for a step.
pub(crate) fn judged(outcome: &Outcome) -> (How, Option<String>) {
    match outcome {
        Outcome::Succeeded { .. } => (How::Done, None),
        Outcome::Failed { error } => (How::Failed, Some(words(error))),
        Outcome::Trapped { message, .. } => (How::Failed, Some(format!("the plugin broke: {message}"))),
        // Of a whole operation it is said before that begins.
        Outcome::Denied { denial, error: None } if denial.capability == "operation" => {
            (How::NotRun, Some(format!("denied: {denial}")))
        }
        Outcome::Denied { denial, error } => {
            let error = error.as_ref().map(|error| format!(": {}", words(error))).unwrap_or_default();
            (How::Failed, Some(format!("denied: {denial}{error}")))
        }
        Outcome::Refused { message, .. } => (How::NotRun, Some(format!("refused: {message}"))),
        Outcome::Cancelled { started: false } => (How::NotRun, Some("cancelled before it began".into())),
        Outcome::Cancelled { started: true } => (How::Failed, Some("cancelled while it ran".into())),
        Outcome::TimedOut { after_ms } => {
            (How::Unanswered, Some(format!("it was not done after {} s", after_ms.div_ceil(1000))))
        }
        Outcome::NoAnswer { .. } => (How::Unanswered, Some("the node did not answer".into())),
        Outcome::Indeterminate { message } => (How::Unanswered, Some(message.clone())),
    }
}

/// An error of an operation as people read it.
fn words(error: &Value) -> String {
    match error {
        Value::String(text) => text.clone(),
        Value::Object(fields) if fields.len() == 1 => {
            let text = |(case, value): (&String, &Value)| match value {
                Value::String(text) => format!("{case}: {text}"),
                other => format!("{case}: {other}"),
            };
            fields.iter().next().map(text).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    let text = crate::store::sql::clean(text);
    match text.char_indices().nth(PROBLEM) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What is wrong with what a look has found; none if nothing is.
async fn expected(core: &Core, doing: Doing, value: &Value) -> Option<String> {
    let expect = core.plan.steps[doing.step as usize].verify.as_ref()?.expect.clone()?;
    let value = value.clone();
    let look = move || {
        expression::on_large_stack(|| {
            let program = expression::compile(&expect)?;
            let mut context = cel::Context::default();
            context.add_variable_from_value("output", expression::value(&value));
            Ok(match program.execute(&context) {
                Ok(cel::Value::Bool(true)) => None,
                Ok(cel::Value::Bool(false)) => Some(format!("not so: `{expect}`; it was {value}")),
                Ok(_) => Some(format!("`{expect}` is neither true nor false; the output was {value}")),
                Err(error) => Some(format!("`{expect}`: {error}; the output was {value}")),
            })
        })
    };
    match tokio::task::spawn_blocking(look).await {
        Ok(Ok(Ok(found))) => found,
        Ok(Ok(Err(error)) | Err(error)) => Some(format!("the expression {error}")),
        Err(_) => Some("the expression can't be read".into()),
    }
}
