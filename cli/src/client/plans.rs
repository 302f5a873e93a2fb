//! Plans and their runs.

use super::{Client, ClientError, Feed};
use reqwest::Method;
use std::time::Duration;
use windlass_types::{
    PlanId,
    api::plans::{ApplyPlan, NewPlan, PlanInfo, PlanRecord, PlanReview, Run, RunEvent, RunInfo},
};

/// How long a master may be away before its run is given up on. The run itself goes on.
const AWAY: Duration = Duration::from_secs(120);

impl Client {
    pub async fn check_plan(&self, new: &NewPlan) -> Result<PlanReview, ClientError> {
        self.post(&["plans", "check"], new).await
    }

    pub async fn new_plan(&self, new: &NewPlan) -> Result<PlanRecord, ClientError> {
        self.post(&["plans"], new).await
    }

    /// Plans, the newest first.
    pub async fn plans(&self, most: usize) -> Result<Vec<PlanInfo>, ClientError> {
        self.pages(&["plans"], &[], most).await
    }

    pub async fn plan(&self, id: PlanId) -> Result<PlanRecord, ClientError> {
        self.get(&["plans", &id.to_string()]).await
    }

    pub async fn apply(&self, id: PlanId, asked: &ApplyPlan) -> Result<Run, ClientError> {
        self.post(&["plans", &id.to_string(), "apply"], asked).await
    }

    /// Runs, the newest first.
    pub async fn runs(&self, most: usize) -> Result<Vec<RunInfo>, ClientError> {
        self.pages(&["runs"], &[], most).await
    }

    pub async fn run(&self, id: PlanId) -> Result<Run, ClientError> {
        self.get(&["runs", &id.to_string()]).await
    }

    /// Do something to a run, or to one of its steps.
    pub async fn control_run(&self, id: PlanId, step: Option<&str>, verb: &str) -> Result<Run, ClientError> {
        let id = id.to_string();
        let path = match step {
            Some(step) => vec!["runs", &id, "steps", step, verb],
            None => vec!["runs", &id, verb],
        };
        self.fetch(self.request(Method::POST, &path)).await
    }

    /// What happened to a run, the oldest first.
    pub async fn run_events(&self, id: PlanId) -> Result<Vec<RunEvent>, ClientError> {
        self.pages(&["runs", &id.to_string(), "events"], &[], usize::MAX).await
    }

    /// The same after a number, as it comes.
    pub fn follow_run(&self, id: PlanId, after: u64) -> Feed<RunEvent> {
        let path = vec!["runs".into(), id.to_string(), "events".into()];
        self.feed(path, vec![("after", after.to_string())], Some(AWAY))
    }
}
