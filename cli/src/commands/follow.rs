//! Following a job to its end, and what Ctrl-C means meanwhile.

use super::Context;
use crate::{
    client::{Client, ClientError},
    render::{outcome, results::progress_line, scalar::size, text::short},
};
use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{collections::BTreeMap, io::IsTerminal as _, time::Duration};
use tokio::sync::mpsc;
use windlass_types::{
    OutcomeKind,
    api::{Job, JobEventKind, JobNodeState},
};

/// Every Ctrl-C since this was made, also those that nobody has asked about yet.
pub struct Interrupts(mpsc::UnboundedReceiver<()>);

impl Interrupts {
    /// From now on Ctrl-C does not end the process.
    pub fn new() -> Result<Self> {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .context("cannot watch for ctrl-c")?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move { while signal.recv().await.is_some() && sender.send(()).is_ok() {} });
        Ok(Interrupts(receiver))
    }

    /// Wait for one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// What the first Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// Cancel the job and wait for its end; the second leaves.
    Cancel,
    /// Leave the job to itself.
    Leave,
}

/// How following ended.
pub enum End {
    Finished(Box<Job>),
    /// The person left; the job goes on.
    Left,
}

/// Follow a running job, with a progress bar on stderr where that is a terminal.
///
/// # Errors
/// If the events of the job cannot be had.
pub async fn follow(
    context: &Context,
    client: &Client,
    job: Job,
    interrupts: &mut Interrupts,
    on_interrupt: OnInterrupt,
) -> Result<End> {
    let mut view = Progress::new(context, &job);
    let mut events = client.events(job.id);
    let mut cancelled = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = interrupts.next() => {
                if cancelled || on_interrupt == OnInterrupt::Leave {
                    view.clear();
                    context.out.note(&format!("left job {}; it goes on: `windlass jobs watch {}`", job.id, job.id));
                    return Ok(End::Left);
                }
                cancelled = true;
                view.say("cancelling; press ctrl-c again to leave");
                match client.cancel(job.id).await {
                    Ok(_) => {}
                    Err(error) => view.say(&format!("cannot cancel: {error}")),
                }
                continue;
            }
        };
        let event = match event {
            Ok(Some(event)) => event,
            // The stream is over without its last event only if that came with the job itself.
            Ok(None) => return Ok(End::Finished(Box::new(client.job(job.id).await?))),
            Err(error) => {
                view.clear();
                return Err(lost(error, &job));
            }
        };
        if let JobEventKind::Finished { job } = event.kind {
            view.clear();
            return Ok(End::Finished(Box::new(job)));
        }
        view.event(&event.kind);
    }
}

fn lost(error: ClientError, job: &Job) -> anyhow::Error {
    let problem = crate::exit::Problem::failed(format!("cannot follow job {}", job.id))
        .hint(format!("the job goes on: `windlass jobs watch {}`", job.id));
    problem.because(error).into()
}

/// Counts of outcomes, on a bar or, where asked for, line by line.
struct Progress<'a> {
    context: &'a Context,
    bar: ProgressBar,
    outcomes: BTreeMap<OutcomeKind, u32>,
}

impl<'a> Progress<'a> {
    fn new(context: &'a Context, job: &Job) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(job.nodes.into()), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{spinner} {bar:24} {pos}/{len} nodes  {elapsed}  {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            ProgressBar::hidden()
        };
        Progress { context, bar, outcomes: job.outcomes.clone() }
    }

    fn event(&mut self, event: &JobEventKind) {
        match event {
            JobEventKind::Snapshot { job } => self.outcomes = job.outcomes.clone(),
            JobEventKind::Node { node } if node.state == JobNodeState::Done => {
                if let Some(outcome) = &node.outcome {
                    *self.outcomes.entry(outcome.kind()).or_default() += 1;
                    self.detail(|| format!("{}: {}", node.name, outcome::word(outcome.kind())));
                }
            }
            JobEventKind::Node { node } => {
                self.detail(|| format!("{}: {}", node.name, crate::render::results::state(node.state)));
            }
            JobEventKind::Progress { name, message, percent, .. } => {
                let line = progress_line(name.as_str(), message, *percent);
                self.bar.set_message(short(&line, 100));
                self.detail(|| line);
                return;
            }
            JobEventKind::Output { name, bytes, .. } => {
                self.detail(|| format!("{name}: has written {}", size(*bytes)));
                return;
            }
            JobEventKind::Finished { .. } => {}
        }
        let done: u32 = self.outcomes.values().sum();
        self.bar.set_position(done.into());
        let bad = self.outcomes.iter().filter(|(kind, _)| **kind != OutcomeKind::Succeeded);
        let tally = outcome::tally(bad.map(|(kind, count)| (*kind, *count)), &self.context.stderr_look());
        if !tally.is_empty() {
            self.bar.set_message(tally);
        }
    }

    fn detail(&self, line: impl FnOnce() -> String) {
        if self.context.global.verbose {
            self.say(&line());
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
