//! The events of a run, for those who look on.

use super::{Plans, RunError};
use crate::store::{StoreError, plans as rows};
use async_stream::stream;
use futures_util::Stream;
use windlass_types::{
    PlanId,
    api::plans::{RunEvent, RunEventKind},
};

/// Events read at once.
const STEP: u32 = 500;

impl Plans {
    /// What happened to a run after a number, oldest first.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn run_events(&self, id: &str, after: u64, limit: u32) -> Result<Vec<RunEvent>, RunError> {
        let id = self.known(id).await?;
        Ok(rows::events(&self.inner.store, id, after, limit).await?)
    }

    async fn known(&self, id: &str) -> Result<PlanId, RunError> {
        let unknown = || RunError::UnknownRun(id.chars().take(80).collect());
        let id: PlanId = id.parse().map_err(|_| unknown())?;
        rows::run_info(&self.inner.store, id).await?.map(|_| id).ok_or_else(unknown)
    }

    /// The same as they come. Ends after `finished`, or when the master does.
    ///
    /// # Errors
    /// If there is no such run, or the store fails.
    pub async fn watch(
        &self,
        id: &str,
        after: u64,
    ) -> Result<impl Stream<Item = RunEvent> + Send + use<>, RunError> {
        let id = self.known(id).await?;
        let inner = self.inner.clone();
        Ok(stream! {
            let mut seen = after;
            // Before the store is looked at: what comes after that wakes.
            let mut newest = inner.find(id).map(|run| run.newest.subscribe());
            loop {
                if let Some(newest) = &mut newest {
                    newest.mark_unchanged();
                }
                let page: Result<_, StoreError> = rows::events(&inner.store, id, seen, STEP).await;
                // The watcher comes again, and goes on after the last one it has.
                let Ok(page) = page else { return };
                let more = page.len() >= STEP as usize;
                for event in page {
                    seen = event.seq;
                    let last = matches!(event.kind, RunEventKind::Finished { .. });
                    yield event;
                    if last {
                        return;
                    }
                }
                if more {
                    continue;
                }
                let Some(newest) = &mut newest else { return };
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = inner.shutdown.cancelled() => return,
                }
            }
        })
    }
}
