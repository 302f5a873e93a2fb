//! Rules: when something happens, do something.
//!
//! What holds, whatever ends a master and whenever: **an event fires a rule once at most, and none is
//! missed as long as the log has it.** The task reads the log from where the rules are done with it. For
//! each rule one transaction notes which events fit and that all up to there are done with; then what was
//! noted is done, and that it was. Cut in between, the next start finds what was begun: a job is made with
//! the id that was chosen for it, so never twice; a webhook may be called a second time, and says which
//! event it is about.
//!
//! Rules can't run wild:
//! * events about rules, and about jobs that rules made, fire no rule;
//! * a rule fires no more than `most` times within `per_ms`; what fits beyond that is left out, and said;
//! * a webhook that does not take an event is tried again for an hour, and then given up.
//!
//! Modules: `condition` decides which events fit, a pure function; `drive` is the one task; `act` does it.

mod act;
mod condition;
mod drive;
#[cfg(test)]
mod tests;

pub(crate) use condition::Condition;

use crate::{
    events::EventLog,
    jobs::{JobError, Jobs},
    store::{
        Store, StoreError,
        audit::{self, NewEntry},
        rules as rows,
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, Semaphore};
use windlass_types::{
    RuleName,
    api::rules::{Firing, NewRule, Rule, Then, Tried, TryRule},
};

/// What the names of those begin with who make the jobs of rules.
pub(crate) const ACTOR: &str = "rule:";
/// Rules at most: each is looked at for each event.
const MOST: usize = 200;
/// Firings within its time at most.
const MOST_FIRINGS: u32 = 1000;
/// The longest time of a rule: a day.
const LONGEST_MS: u64 = 86_400_000;
/// Webhooks called at once.
const CALLS: usize = 8;
/// Events looked at when a condition is tried.
const TRIED: u32 = 1000;

/// Why a rule can't be made, or do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    #[error("there is no rule `{0}`")]
    Unknown(String),
    #[error("there is a rule `{0}` already")]
    Taken(RuleName),
    /// It can't be right; says why.
    #[error("{0}")]
    Bad(String),
    /// Its job would be no good.
    #[error(transparent)]
    Job(#[from] JobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A rule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub id: String,
    pub made: NewRule,
    pub created_by: String,
    pub created_ms: i64,
    /// Events up to here are done with.
    pub done_seq: i64,
}

/// A rule in memory.
#[derive(Debug, Clone)]
struct Live {
    stored: Stored,
    condition: Condition,
}

impl Live {
    fn new(stored: Stored) -> Result<Self, String> {
        let condition = Condition::parse(&stored.made.kind, stored.made.when.as_deref())?;
        Ok(Live { stored, condition })
    }

    fn to_api(&self) -> Rule {
        let Stored { made, created_by, created_ms, .. } = self.stored.clone();
        Rule {
            name: made.name,
            kind: made.kind,
            when: made.when,
            then: made.then,
            most: made.most,
            per_ms: made.per_ms,
            paused: made.paused,
            created_by,
            created_ms,
        }
    }
}

/// The rules. Clones share them.
#[derive(Clone)]
pub struct Rules {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

struct Inner {
    store: Store,
    log: EventLog,
    jobs: Jobs,
    client: reqwest::Client,
    calls: Semaphore,
    /// Held by whoever decides about rules, so that memory and store say the same.
    changing: tokio::sync::Mutex<()>,
    live: Mutex<BTreeMap<RuleName, Live>>,
    wake: Notify,
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, BTreeMap<RuleName, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Live, RuleError> {
        let unknown = || RuleError::Unknown(name.chars().take(80).collect());
        let name: RuleName = name.parse().map_err(|_| unknown())?;
        self.live().get(&name).cloned().ok_or_else(unknown)
    }
}

impl Rules {
    /// Load the rules.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(store: Store, log: EventLog, jobs: Jobs) -> Result<Self, StoreError> {
        let mut live = BTreeMap::new();
        for stored in rows::load(&store).await? {
            let name = stored.made.name.clone();
            let rule = Live::new(stored).map_err(|problem| StoreError::corrupt("rule", problem))?;
            live.insert(name, rule);
        }
        let inner = Inner {
            store,
            log,
            jobs,
            client: act::client().map_err(|error| StoreError::corrupt("client of webhooks", error))?,
            calls: Semaphore::new(CALLS),
            changing: tokio::sync::Mutex::default(),
            live: Mutex::new(live),
            wake: Notify::new(),
        };
        Ok(Rules { inner: Arc::new(inner) })
    }

    /// All rules after a name, by name.
    pub fn list(&self, after: Option<&RuleName>, limit: usize) -> Vec<Rule> {
        use std::ops::Bound;
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let live = self.inner.live();
        live.range::<RuleName, _>((begin, Bound::Unbounded))
            .take(limit)
            .map(|(_, live)| live.to_api())
            .collect()
    }

    /// One rule.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Rule, RuleError> {
        Ok(self.inner.find(name)?.to_api())
    }

    /// Firings of a rule before the event of a number, newest first.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn firings(
        &self,
        name: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Firing>, RuleError> {
        let id = self.inner.find(name)?.stored.id;
        Ok(rows::firings(&self.inner.store, &id, before.unwrap_or(i64::MAX), limit).await?)
    }

    /// Make a rule, for what happens from now on.
    ///
    /// # Errors
    /// If its name is taken, or its condition or action are no good.
    pub async fn create(&self, new: NewRule, actor: &str) -> Result<Rule, RuleError> {
        let inner = &self.inner;
        if new.most == 0 || new.most > MOST_FIRINGS {
            return Err(RuleError::Bad(format!("`most` is not within 1 to {MOST_FIRINGS}")));
        }
        if new.per_ms < 1000 || new.per_ms > LONGEST_MS {
            return Err(RuleError::Bad("`per_ms` is not within a second and a day".into()));
        }
        let mut stored = Stored {
            id: uuid::Uuid::now_v7().to_string(),
            made: new,
            created_by: actor.to_owned(),
            created_ms: crate::now_ms(),
            done_seq: 0,
        };
        let parsed = {
            let stored = stored.clone();
            // The expression is compiled: not on a thread that serves everybody.
            tokio::task::spawn_blocking(move || Live::new(stored))
                .await
                .unwrap_or_else(|_| Err("the expression can't be read".into()))
        };
        let mut live = parsed.map_err(RuleError::Bad)?;
        match &stored.made.then {
            Then::Run(job) => inner.jobs.check(job).await?,
            Then::RunThere(job) => inner.jobs.check_but_target(job)?,
            Then::Webhook(url) => act::check_url(url).map_err(RuleError::Bad)?,
        }
        let _changing = inner.changing.lock().await;
        let name = stored.made.name.clone();
        {
            let known = inner.live();
            if known.contains_key(&name) {
                return Err(RuleError::Taken(name));
            }
            if known.len() >= MOST {
                return Err(RuleError::Bad(format!("there are {MOST} rules already")));
            }
        }
        let made = &stored.made;
        let detail = json!({
            "kind": made.kind, "when": made.when, "then": made.then, "most": made.most, "per_ms": made.per_ms,
        });
        let entry = NewEntry::allowed(actor, "rule.create", &name, detail);
        let row = stored.clone();
        let write = inner.store.write::<i64, StoreError, _>(move |c| {
            Box::pin(async move {
                let done_seq = rows::insert(c, &row).await?;
                audit::append(c, &entry).await?;
                Ok(done_seq)
            })
        });
        stored.done_seq = write.await?;
        live.stored = stored;
        let shown = live.to_api();
        inner.live().insert(name, live);
        inner.wake.notify_one();
        Ok(shown)
    }

    /// Forget a rule. Its jobs go on.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn delete(&self, name: &str, actor: &str) -> Result<(), RuleError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock().await;
        let Stored { id, made, .. } = inner.find(name)?.stored;
        let entry = NewEntry::allowed(actor, "rule.delete", &made.name, Value::Null);
        let write = inner.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move {
                rows::delete(c, &id).await?;
                audit::append(c, &entry).await
            })
        });
        write.await?;
        inner.live().remove(&made.name);
        Ok(())
    }

    /// Do nothing until it is resumed, or go on with what happens from now on.
    ///
    /// # Errors
    /// If there is none, or the store fails.
    pub async fn pause(&self, name: &str, paused: bool, actor: &str) -> Result<Rule, RuleError> {
        let inner = &self.inner;
        let _changing = inner.changing.lock().await;
        let mut live = inner.find(name)?;
        if live.stored.made.paused == paused {
            return Ok(live.to_api());
        }
        live.stored.made.paused = paused;
        let id = live.stored.id.clone();
        let action = if paused { "rule.pause" } else { "rule.resume" };
        let entry = NewEntry::allowed(actor, action, &live.stored.made.name, Value::Null);
        let write = inner.store.write::<i64, StoreError, _>(move |c| {
            Box::pin(async move {
                let done_seq = rows::set_paused(c, &id, paused).await?;
                audit::append(c, &entry).await?;
                Ok(done_seq)
            })
        });
        live.stored.done_seq = write.await?;
        let shown = live.to_api();
        inner.live().insert(live.stored.made.name.clone(), live);
        inner.wake.notify_one();
        Ok(shown)
    }

    /// Which events of the past would have fired a rule. Nothing is done.
    ///
    /// # Errors
    /// If the condition is no good, or the store fails.
    pub async fn try_on(&self, tried: TryRule) -> Result<Tried, RuleError> {
        use crate::{events::Begin, store::events::Filter};
        let last = tried.last.unwrap_or(TRIED).min(TRIED);
        let filter = Filter::new(Some(&tried.kind), None)
            .ok_or_else(|| RuleError::Bad(format!("`{}` is no kind of event", tried.kind)))?;
        let begin = Begin { last: Some(last), ..Begin::default() };
        let events = self.inner.log.page(&filter, begin, last).await?;
        let looked_at = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let looked = tokio::task::spawn_blocking(move || {
            let found = Condition::parse(&tried.kind, tried.when.as_deref())?.among(&events)?;
            let mut fits: Vec<_> = events.into_iter().map(Some).collect();
            let fits = found.fits.iter().filter_map(|index| fits[*index].take()).collect();
            Ok(Tried { looked_at, fits, failed: found.failed, failure: found.failure })
        });
        looked.await.unwrap_or_else(|_| Err("the expression can't be read".into())).map_err(RuleError::Bad)
    }
}
