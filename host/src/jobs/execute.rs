//! Running an operation within its limits, whoever asked for it.

use super::{Call, Finished, GRACE, Work, millis};
use std::convert::Infallible;
use tokio::time::Instant;
use windlass_types::Outcome;

struct AbortOnDrop(tokio::task::JoinHandle<Finished>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Run it, and `beside` with it. It is told to end by its cancel token and by its time limit, and dropped
/// when it does not, which kills what it started. Dropping the future does the same.
pub async fn within_limits(
    work: Box<dyn Work>,
    call: Call,
    beside: impl Future<Output = Infallible>,
) -> Finished {
    let began = Instant::now();
    let (time_limit, cancel) = (call.time_limit, call.cancel.clone());
    let (job, operation) = (call.job_id, call.operation.to_string());
    // A task of its own: a panic in there ends this operation, not the host.
    let mut run = AbortOnDrop(tokio::spawn(work.run(call)));
    let ended = tokio::select! {
        ended = &mut run.0 => ended.ok(),
        () = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        } => Some(Outcome::Cancelled { started: true }.into()),
        () = tokio::time::sleep(time_limit + GRACE) => {
            Some(Outcome::TimedOut { after_ms: millis(began.elapsed()) }.into())
        }
        never = beside => match never {},
    };
    ended.unwrap_or_else(|| {
        tracing::error!(%job, operation, "the host failed while it ran the operation");
        Outcome::Indeterminate { message: "the host failed while it ran; its log says more".into() }.into()
    })
}
