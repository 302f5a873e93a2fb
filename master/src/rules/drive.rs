//! The one task that reads the log for the rules.

use super::{Inner, Live, Rules};
use crate::store::{
    StoreError,
    events::{self as log, Filter},
    rules::{self as rows, Match},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    JobId,
    api::{events::Event, rules::Then},
};

/// Events read at once.
const STEP: u32 = 500;
/// After a failure of the store, and between two looks at webhooks that were not taken.
const AGAIN: Duration = Duration::from_secs(1);

impl Rules {
    /// Do what the rules say, until `shutdown`.
    pub async fn drive(self, shutdown: CancellationToken) {
        let inner = self.inner;
        let mut newest = inner.store.newest_event();
        let mut recovered = false;
        loop {
            newest.mark_unchanged();
            let looked = inner.look(&mut recovered, &shutdown).await;
            let more = match looked {
                Ok(more) => more,
                Err(error) => {
                    if !shutdown.is_cancelled() {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot go on with rules");
                    }
                    recovered = false;
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => continue,
                    }
                }
            };
            if more {
                if shutdown.is_cancelled() {
                    return;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = inner.wake.notified() => {}
                changed = newest.changed() => if changed.is_err() { return },
            }
        }
    }
}

impl Inner {
    /// Look at the next events for all rules. True if there are more.
    pub(super) async fn look(
        self: &Arc<Self>,
        recovered: &mut bool,
        shutdown: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        if !*recovered {
            self.recover(shutdown).await?;
            *recovered = true;
        }
        let rules: Vec<Live> =
            self.live().values().filter(|live| !live.stored.made.paused).cloned().collect();
        let Some(done) = rules.iter().map(|live| live.stored.done_seq).min() else { return Ok(false) };
        let events = log::page(&self.store, &Filter::default(), done, STEP).await?;
        let Some(last) = events.last().map(|event| event.seq) else { return Ok(false) };
        let events = Arc::new(events);
        for live in rules {
            if live.stored.done_seq < last {
                self.look_for(&live, &events, last, shutdown).await?;
            }
        }
        Ok(events.len() >= STEP as usize)
    }

    async fn look_for(
        self: &Arc<Self>,
        live: &Live,
        events: &Arc<Vec<Event>>,
        last: i64,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        let (condition, shared) = (live.condition.clone(), events.clone());
        let looked = tokio::task::spawn_blocking(move || condition.among(&shared));
        let fits = match looked.await.unwrap_or_else(|_| Err("the expression can't be read".into())) {
            Ok(found) => found.fits,
            Err(problem) => {
                tracing::warn!(rule = %live.stored.made.name, problem, "a rule can't be looked at");
                Vec::new()
            }
        };
        let there = matches!(live.stored.made.then, Then::RunThere(_));
        let job = !matches!(live.stored.made.then, Then::Webhook(_));
        let matches: Vec<Match> = fits
            .into_iter()
            .map(|index| &events[index])
            .filter(|event| event.seq > live.stored.done_seq && (!there || event.node.is_some()))
            .map(|event| Match { seq: event.seq, job: job.then(JobId::new) })
            .collect();
        if matches.is_empty() && last - live.stored.done_seq < i64::from(STEP) {
            // Nothing is lost if it is read once more: the next firing, or the next step, notes it.
            self.done(live, last);
            return Ok(());
        }
        let (id, name) = (live.stored.id.clone(), live.stored.made.name.clone());
        let now_ms = crate::now_ms();
        let per_ms = i64::try_from(live.stored.made.per_ms).unwrap_or(i64::MAX);
        let limit = (live.stored.made.most, now_ms.saturating_sub(per_ms));
        let fire = self
            .store
            .write::<Vec<Match>, StoreError, _>(move |c| {
                Box::pin(async move { rows::begin(c, (&id, &name), &matches, limit, last, now_ms).await })
            })
            .await?;
        self.done(live, last);
        for found in fire {
            let event = events.iter().find(|event| event.seq == found.seq);
            if let Some(event) = event {
                self.act(live, event.clone(), found.job, now_ms, shutdown).await?;
            }
        }
        Ok(())
    }

    fn done(&self, live: &Live, seq: i64) {
        if let Some(live) = self.live().get_mut(&live.stored.made.name) {
            live.stored.done_seq = live.stored.done_seq.max(seq);
        }
    }

    /// Do what an earlier master has begun. The caller holds `changing`.
    async fn recover(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), StoreError> {
        for begun in rows::begun(&self.store).await? {
            let live = self.live().values().find(|live| live.stored.id == begun.rule).cloned();
            // Its rows go with a rule that is deleted.
            let Some(live) = live else { continue };
            let mut found = log::page(&self.store, &Filter::default(), begun.seq - 1, 1).await?;
            match found.pop().filter(|event| event.seq == begun.seq) {
                Some(event) => self.act(&live, event, begun.job, begun.time_ms, shutdown).await?,
                None => self.ended(&live, begun.seq, None, Some("the event was forgotten".into())).await?,
            }
        }
        Ok(())
    }
}
