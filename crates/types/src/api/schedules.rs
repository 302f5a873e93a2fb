//! Operations that run by the clock.
//!
//! | method and path | body → reply |
//! |---|---|
//! | `GET /schedules?after=&limit=` | → [`Page`](super::Page)`<`[`Schedule`]`>`, by name |
//! | `POST /schedules` | [`NewSchedule`] → [`Schedule`] (201) |
//! | `GET /schedules/{name}`, `DELETE /schedules/{name}` | → [`Schedule`], 204 |
//! | `POST /schedules/{name}/pause`, `POST /schedules/{name}/resume` | → [`Schedule`] |
//! | `POST /schedules/{name}/run` | → [`ScheduleRun`] (201) |
//! | `GET /schedules/{name}/runs?after=&limit=` | → [`Page`](super::Page)`<`[`ScheduleRun`]`>`, newest first |
//! | `GET /schedules/{name}/next?count=` | → [`ScheduleTimes`] |

use super::NewJob;
use crate::ids::{JobId, ScheduleName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Run an operation by the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    pub name: ScheduleName,
    /// The job that is made each time. Its target is resolved anew for each.
    pub job: NewJob,
    pub when: When,
    /// How many of its jobs may run at once; 1 unless told. A run beyond that is left out, or waits with `missed: all`.
    #[serde(default = "one")]
    pub max_running: u32,
    /// What becomes of times at which no master could run it.
    #[serde(default)]
    pub missed: Missed,
    /// Begin paused.
    #[serde(default)]
    pub paused: bool,
}

fn one() -> u32 {
    1
}

/// When a schedule runs. Exactly one of `cron` and `every_ms` is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Five fields (minute, hour, day of month, month, day of week), or six with seconds in front.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Time zone of `cron`, such as `Europe/Berlin`; UTC unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Every so long, counted from `valid_from_ms` or from when it was made; a second at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// It runs up to so long after its time, always the same while it lives: schedules of the same time do
    /// not begin in the same moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splay_ms: Option<u64>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from_ms: Option<i64>,
    /// Not at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until_ms: Option<i64>,
}

/// What becomes of times at which no master could run a schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are left out.
    #[default]
    Skip,
    /// It runs once for all of them.
    Once,
    /// Each runs, one after the other as `max_running` allows; the newest 100 of them.
    All,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    pub name: ScheduleName,
    pub job: NewJob,
    pub when: When,
    pub max_running: u32,
    pub missed: Missed,
    pub paused: bool,
    /// Name of the token that made it. Its jobs are made by `schedule:NAME`.
    pub created_by: String,
    pub created_ms: i64,
    /// When it runs next; none when it is paused or over.
    pub next_ms: Option<i64>,
}

/// A run of a schedule, or one that was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleRun {
    /// The time it was for, without the splay.
    pub fire_ms: i64,
    pub state: ScheduleRunState,
    /// Its job; none if it was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Why there is no job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// An operator ran it out of turn.
    pub manual: bool,
    /// When this was decided.
    pub time_ms: i64,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleRunState {
    /// Its job is being made.
    Begun,
    /// Its job was made.
    Fired,
    /// It was left out, perhaps with others before it.
    Skipped,
    /// Its job could not be made.
    Failed,
}

/// Times at which a schedule runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleTimes {
    /// In order, with the splay.
    pub times_ms: Vec<i64>,
}
