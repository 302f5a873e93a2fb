//! The part of a master that leads: fleet, catalog, bundles, jobs, and what they drive.
//!
//! It is built when this master takes the lead, from the store alone, exactly as after a crash: what an
//! earlier leader knew and did not write is gone. It is torn down when the lead is lost, and the process
//! goes on as a door to the next leader. Losing it cancels everything at once: nothing that is still
//! under way can write any more (the store sees to that), so all that is left to do is to tell hosts
//! and callers, and to end the tasks.

use crate::{
    api,
    bundles::Bundles,
    ca::Authority,
    catalog::Catalog,
    config::Config,
    enroll::{Enrollment, RateLimit},
    events::EventLog,
    fleet::Fleet,
    front::Services,
    jobs::Jobs,
    planner::Planner,
    plans::{self, Plans},
    rules::Rules,
    run::RunError,
    schedules::Schedules,
    secrets::Vault,
    session::Sessions,
    status::Statuses,
    store::Store,
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Sessions get so long to end.
const DRAIN: Duration = Duration::from_secs(10);

/// The leading part, from its begin to its end.
pub(crate) struct Leading {
    pub services: Arc<Services>,
    #[cfg(test)]
    fleet: Fleet,
    shutdown: CancellationToken,
    sessions: TaskTracker,
    driving: Vec<JoinHandle<()>>,
    /// Ends last, after the sessions, and writes what they left.
    writing: JoinHandle<()>,
    written: CancellationToken,
}

impl Leading {
    /// Build it, for a term of `epoch` that is over when `over` is cancelled.
    ///
    /// # Errors
    /// If the store can't be read, or a part cannot begin.
    pub async fn begin(
        config: Arc<Config>,
        store: Store,
        authority: Arc<Authority>,
        epoch: u64,
        over: &CancellationToken,
    ) -> Result<Self, RunError> {
        let shutdown = over.child_token();
        // Whatever fails below ends the rest.
        let guard = shutdown.clone().drop_guard();
        let fleet = Fleet::open(store.clone()).await?;
        let catalog = Catalog::open(store.clone(), fleet.clone()).await?;
        let bundles = Bundles::open(&config, store.clone(), fleet.clone(), catalog.clone()).await?;
        let vault = Vault::open(&config, store.clone()).await?;
        let (term, over) = (store.clone(), shutdown.clone());
        let jobs =
            Jobs::start(config.clone(), term, fleet.clone(), catalog.clone(), vault.clone(), over).await?;
        jobs.metrics().lead(epoch);
        let enrollment = Enrollment {
            config: config.clone(),
            fleet: fleet.clone(),
            authority: authority.clone(),
            rate: RateLimit::new(config.enroll.requests_per_second, config.enroll.burst),
            shutdown: shutdown.clone(),
        };
        let events = EventLog::new(store.clone(), config.retention.clone(), shutdown.clone());
        let schedules = Schedules::open(store.clone(), jobs.clone()).await?;
        let rules = Rules::open(store.clone(), events.clone(), jobs.clone()).await?;
        let plans = Plans::open(
            plans::Options::default(),
            config.retention.clone(),
            store.clone(),
            jobs.clone(),
            shutdown.clone(),
        )
        .await?;
        let status = Statuses::open(store.clone(), fleet.clone()).await?;
        let planner = Planner::new(&config, bundles.clone(), fleet.clone(), status.clone());
        let tasks = TaskTracker::new();
        let sessions = Sessions {
            config: config.clone(),
            fleet: fleet.clone(),
            catalog: catalog.clone(),
            bundles: bundles.clone(),
            status: status.clone(),
            authority,
            events: Arc::new(jobs.clone()),
            epoch,
            shutdown: shutdown.clone(),
            tasks: tasks.clone(),
        };
        let context = api::Context {
            config,
            store,
            fleet: fleet.clone(),
            catalog: catalog.clone(),
            jobs,
            bundles: bundles.clone(),
            events: events.clone(),
            schedules: schedules.clone(),
            rules: rules.clone(),
            plans: plans.clone(),
            planner,
            status: status.clone(),
            vault,
        };
        let services = Services {
            epoch,
            api: api::router(context),
            node: sessions.routes(),
            enroll: enrollment.routes(),
        };
        #[cfg(test)]
        let kept = fleet.clone();
        let written = CancellationToken::new();
        let writing = tokio::spawn(fleet.write_behind(written.clone()));
        let driving = vec![
            tokio::spawn(catalog.tend(shutdown.clone())),
            tokio::spawn(bundles.drive(shutdown.clone())),
            tokio::spawn(events.tend()),
            tokio::spawn(schedules.drive(shutdown.clone())),
            tokio::spawn(rules.drive(shutdown.clone())),
            tokio::spawn(plans.tend()),
            tokio::spawn(status.tend(shutdown.clone())),
        ];
        guard.disarm();
        Ok(Leading {
            services: Arc::new(services),
            #[cfg(test)]
            fleet: kept,
            shutdown,
            sessions: tasks,
            driving,
            writing,
            written,
        })
    }

    #[cfg(test)]
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// End it. Whoever is connected is told.
    pub async fn end(self) {
        self.shutdown.cancel();
        self.sessions.close();
        if tokio::time::timeout(DRAIN, self.sessions.wait()).await.is_err() {
            tracing::warn!("some sessions did not end in time and are dropped");
        }
        for task in self.driving {
            let _ = task.await;
        }
        self.written.cancel();
        let _ = self.writing.await;
    }
}
