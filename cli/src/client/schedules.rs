//! Schedules.

use super::{Client, ClientError};
use reqwest::Method;
use windlass_types::{ScheduleName, api::schedules::*};

impl Client {
    pub async fn schedules(&self) -> Result<Vec<Schedule>, ClientError> {
        self.pages(&["schedules"], &[], usize::MAX).await
    }

    pub async fn new_schedule(&self, new: &NewSchedule) -> Result<Schedule, ClientError> {
        self.post(&["schedules"], new).await
    }

    pub async fn schedule(&self, name: &ScheduleName) -> Result<Schedule, ClientError> {
        self.get(&["schedules", name.as_str()]).await
    }

    pub async fn delete_schedule(&self, name: &ScheduleName) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["schedules", name.as_str()])).await.map(drop)
    }

    pub async fn pause_schedule(&self, name: &ScheduleName, paused: bool) -> Result<Schedule, ClientError> {
        let action = if paused { "pause" } else { "resume" };
        self.fetch(self.request(Method::POST, &["schedules", name.as_str(), action])).await
    }

    /// Run a schedule out of turn.
    pub async fn run_schedule(&self, name: &ScheduleName) -> Result<ScheduleRun, ClientError> {
        self.fetch(self.request(Method::POST, &["schedules", name.as_str(), "run"])).await
    }

    /// The newest runs.
    pub async fn schedule_runs(
        &self,
        name: &ScheduleName,
        most: usize,
    ) -> Result<Vec<ScheduleRun>, ClientError> {
        self.pages(&["schedules", name.as_str(), "runs"], &[], most).await
    }

    /// The next times.
    pub async fn schedule_times(
        &self,
        name: &ScheduleName,
        count: u32,
    ) -> Result<ScheduleTimes, ClientError> {
        self.fetch(
            self.request(Method::GET, &["schedules", name.as_str(), "next"]).query(&[("count", count)]),
        )
        .await
    }
}
