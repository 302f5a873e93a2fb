//! Why a job can't be made or changed.

use crate::{access::Denied, secrets::VaultError, store::StoreError, targets::TargetError};
use windlass_types::{JobId, OperationName, json::JsonError};

/// Why a job can't be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("no node offers an operation `{name}`")]
    UnknownOperation { name: OperationName, nearest: Vec<String> },
    /// The arguments do not fit the type of the operation.
    #[error("the arguments do not fit: {0}")]
    BadArguments(JsonError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("a deadline of {given_ms} ms is out of bounds: expected 1 to {max_ms}")]
    BadDeadline { given_ms: u64, max_ms: u64 },
    /// The nodes can't be gone over like that; says why.
    #[error("{0}")]
    BadBatch(&'static str),
    /// To run it twice might do harm.
    #[error("`{name}` is not idempotent: it is run once on each node, whatever comes of it")]
    NotIdempotent { name: OperationName },
    /// A planned operation touches nothing itself and runs on no host.
    #[error("`{name}` makes a plan, which this version cannot run")]
    Planned { name: OperationName },
    /// Whoever made the schedule or rule is not asked for what their role allows when it runs.
    #[error("secrets are given to operations that somebody runs, not by schedules or rules")]
    SecretUnattended,
    #[error(transparent)]
    Secret(#[from] VaultError),
    #[error("{running} jobs are running: wait for one of them to finish, or cancel it")]
    TooManyJobs { running: usize },
    #[error("there is no job `{0}`")]
    UnknownJob(JobId),
    #[error("job {0} is finished")]
    Finished(JobId),
    /// The role of whoever asks does not allow it; nothing was made.
    #[error(transparent)]
    Denied(Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}
