//! One operation on the runtime.

use super::table::Item;
use crate::{
    bundles::Bundles,
    jobs::{Call, Finished, Progress, Work},
};
use std::{pin::Pin, sync::Arc};
use tokio::sync::mpsc;
use windlass_runtime::{Plugin, ProgressReport, Runtime};

/// One run. It keeps the version it was made for, whatever is installed meanwhile.
pub struct Run {
    pub runtime: Arc<Runtime>,
    pub plugin: Arc<Plugin>,
    pub item: Arc<Item>,
    pub bundles: Bundles,
}

impl Work for Run {
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>> {
        Box::pin(async move {
            let (reports, mut received) = mpsc::channel::<ProgressReport>(16);
            let progress = call.progress;
            let operation = call.operation.clone();
            let running = self.runtime.call(
                &self.plugin,
                windlass_runtime::Call {
                    job_id: call.job_id.to_string(),
                    operation: call.operation,
                    args: call.args,
                    secrets: call.secrets,
                    type_digest: call.type_digest,
                    time_limit: call.time_limit,
                    dry_run: call.dry_run,
                    cancel: call.cancel,
                    progress: Some(reports),
                    output: Some(call.output),
                    tape: windlass_runtime::Tape::Off,
                },
            );
            let forward = async {
                while let Some(ProgressReport { message, percent }) = received.recv().await {
                    // An error means that nobody listens any more.
                    let _ = progress.send(Progress { message, percent }).await;
                }
                std::future::pending().await
            };
            let report = tokio::select! {
                report = running => report,
                never = forward => never,
            };
            if let Some(trial) = &self.item.trial {
                self.bundles.ended(trial, &operation, &report.outcome).await;
            }
            Finished {
                outcome: report.outcome,
                trace: report.trace,
                stats: report.stats,
                plugin_digest: Some(self.plugin.digest()),
                output_bytes: 0,
            }
        })
    }
}
