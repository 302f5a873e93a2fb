//! `windlass:host/job`.

use super::{ProgressReport, State, Stop, api::windlass::host::job as wit};
use crate::{
    tape::calls::{Context, JobGetContext, JobIsCancelled},
    trace::{MAX_LINE_BYTES, clip},
};
use windlass_types::trace::{TraceDetail, Verdict};

/// The guest asked after it was told to end.
#[derive(Debug, thiserror::Error)]
#[error("the operation was to end: {}", match self.0 { Stop::Cancelled => "it was cancelled", Stop::Deadline => "its time is up" })]
pub(crate) struct Stopped(Stop);

impl wit::Host for State {
    async fn get_context(&mut self) -> wasmtime::Result<wit::Context> {
        let serving = &self.serving;
        let live = async {
            let (node_id, node_name) = (*serving.node).clone();
            Ok(Ok(Context { job_id: serving.job_id.clone(), node_id, node_name }))
        };
        let call = serving.tape.call(|| JobGetContext {});
        let Context { job_id, node_id, node_name } =
            serving.tape.pass(call, live).await?.unwrap_or_else(|never| match never {});
        Ok(wit::Context {
            job_id,
            node_id,
            node_name,
            operation: serving.operation.to_string(),
            deadline_ms: serving.deadline_ms,
            dry_run: serving.dry_run,
            configuration: serving.plugin.configuration.clone(),
        })
    }

    async fn progress(&mut self, report: wit::ProgressReport) -> wasmtime::Result<()> {
        let serving = &self.serving;
        let report = ProgressReport {
            message: clip(&serving.trace.redactor.text(&report.message), MAX_LINE_BYTES),
            percent: report.percent.map(|percent| percent.min(100)),
        };
        let detail = TraceDetail::Progress { message: report.message.clone(), percent: report.percent };
        let entry = serving.trace.begin("job.progress", detail, Verdict::Allowed { rule: "job".into() });
        if let Some(stop) = serving.stop() {
            serving.trace.finish(entry, Some("the operation was to end".into()), |_| {});
            return Err(wasmtime::Error::new(Stopped(stop)));
        }
        // Nobody may be listening.
        serving.progress.send_replace(Some(report));
        serving.trace.finish(entry, None, |_| {});
        Ok(())
    }

    async fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        let serving = &self.serving;
        let call = serving.tape.call(|| JobIsCancelled {});
        let answer = serving.tape.pass(call, async { Ok(Ok(serving.stop().is_some())) }).await?;
        Ok(answer.unwrap_or_else(|never| match never {}))
    }
}
