//! The stream of events that a watcher of a job gets.

use super::{
    JobError, Jobs,
    events::{After, Events, Kept, to_json},
    live::LiveJob,
};
use async_stream::stream;
use futures_util::Stream;
use std::sync::Arc;
use windlass_types::{
    JobId,
    api::{JobEventKind, JobState},
};

impl Jobs {
    /// The events of a job from now on, or after the event numbered `last`, if it is not too old. A
    /// stream that can't go on where the watcher was begins with a snapshot. It ends after
    /// `finished`, or when the master goes down.
    ///
    /// # Errors
    /// If there is no such job, or the store fails.
    pub async fn watch(
        &self,
        id: JobId,
        last: Option<u64>,
    ) -> Result<impl Stream<Item = Kept> + Send + use<>, JobError> {
        if self.get(id).await?.is_none() {
            return Err(JobError::UnknownJob(id));
        }
        let jobs = self.clone();
        // Now, and not when somebody first looks at the stream: the job may end in between.
        let mut events = jobs.events(id);
        Ok(stream! {
            let mut cursor = last;
            loop {
                let after = match (&events, cursor) {
                    (Some(events), Some(cursor)) => events.after(cursor),
                    _ => After::Gone,
                };
                match after {
                    After::Events(next) => {
                        for event in next {
                            cursor = Some(event.seq);
                            let last = event.last;
                            yield event;
                            if last {
                                return;
                            }
                        }
                    }
                    After::Gone => match jobs.snapshot(id) {
                        Some((snapshot, its_events)) => {
                            cursor = Some(snapshot.seq);
                            events = Some(its_events);
                            yield snapshot;
                        }
                        None => {
                            for event in jobs.ended(id, cursor).await {
                                yield event;
                            }
                            return;
                        }
                    },
                }
                let (Some(events), Some(cursor)) = (&events, cursor) else { return };
                tokio::select! {
                    () = events.changed(cursor) => {}
                    () = jobs.shutdown.cancelled() => return,
                }
            }
        })
    }

    pub(super) fn events(&self, id: JobId) -> Option<Arc<Events>> {
        self.engine.live().jobs.get(&id).map(|job| job.events.clone())
    }

    /// The job as it is, with the number of the event it is up to date with.
    fn snapshot(&self, id: JobId) -> Option<(Kept, Arc<Events>)> {
        let live = self.engine.live();
        let job: &LiveJob = live.jobs.get(&id)?;
        let seq = job.events.watch();
        let json = to_json(seq, JobEventKind::Snapshot { job: job.to_api() });
        Some((Kept { seq, json, last: false }, job.events.clone()))
    }

    /// What a watcher gets who comes when all is over.
    async fn ended(&self, id: JobId, cursor: Option<u64>) -> Vec<Kept> {
        // Swept in this moment, or the store fails: the stream just ends, and the next try will tell.
        let Ok(Some(job)) = self.get(id).await else { return Vec::new() };
        if job.state != JobState::Finished {
            return Vec::new();
        }
        let seq = cursor.unwrap_or(0).saturating_add(1);
        let snapshot = to_json(seq, JobEventKind::Snapshot { job: job.clone() });
        let finished = to_json(seq.saturating_add(1), JobEventKind::Finished { job });
        vec![
            Kept { seq, json: snapshot, last: false },
            Kept { seq: seq.saturating_add(1), json: finished, last: true },
        ]
    }
}
