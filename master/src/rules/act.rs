//! Doing what a rule says.

use super::{ACTOR, Inner, Live};
use crate::{
    jobs::JobError,
    store::{StoreError, rules as rows},
};
use serde_json::json;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use windlass_types::{
    JobId,
    api::{NewJob, Target, events::Event, rules::Then},
};

/// What a webhook may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two attempts: it doubles, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// For how long a webhook is tried, from when its event fitted.
const GIVE_UP_MS: i64 = 3_600_000;

/// For all webhooks. Redirections are not followed: where a webhook goes was decided by who made the rule.
pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// # Errors
/// If events may not be sent there.
pub(super) fn check_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|error| format!("`{text}` is no URL: {error}"))?;
    let loopback = url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err("a webhook outside this machine needs `https://`".into()),
        other => Err(format!("`{other}://` is no way to send an event: expected `https://`")),
    }
}

impl Inner {
    /// Do what was begun, and note that it was done. A webhook is called by a task of its own.
    pub(super) async fn act(
        self: &Arc<Self>,
        live: &Live,
        event: Event,
        job: Option<JobId>,
        begun_ms: i64,
        shutdown: &CancellationToken,
    ) -> Result<(), StoreError> {
        match &live.stored.made.then {
            Then::Webhook(url) => {
                let (inner, live, url) = (self.clone(), live.clone(), url.clone());
                let calling = shutdown.clone().run_until_cancelled_owned(async move {
                    inner.call(&live, &url, &event, begun_ms).await;
                });
                tokio::spawn(calling);
                Ok(())
            }
            Then::Run(new) => self.run(live, &event, job, (**new).clone()).await,
            Then::RunThere(new) => {
                let on = event.node.map(|node| node.to_string()).into_iter().collect();
                let target = Target { on, ..Target::default() };
                self.run(live, &event, job, NewJob { target, ..(**new).clone() }).await
            }
        }
    }

    async fn run(
        &self,
        live: &Live,
        event: &Event,
        job: Option<JobId>,
        new: NewJob,
    ) -> Result<(), StoreError> {
        let Some(id) = job else { return Ok(()) };
        let name = &live.stored.made.name;
        let made = match self.jobs.get(id).await? {
            Some(_) => Ok(()),
            None => self.jobs.create_as(id, new, &format!("{ACTOR}{name}")).await.map(drop),
        };
        let problem = match made {
            Ok(()) => None,
            // Whether it was written is not known: the row stays, and is looked at again.
            Err(JobError::Store(error)) => return Err(error),
            Err(problem) => {
                tracing::warn!(rule = %name, %problem, "a rule can't run");
                Some(problem.to_string())
            }
        };
        self.ended(live, event.seq, job, problem).await
    }

    pub(super) async fn ended(
        &self,
        live: &Live,
        seq: i64,
        job: Option<JobId>,
        problem: Option<String>,
    ) -> Result<(), StoreError> {
        let (id, name) = (live.stored.id.clone(), live.stored.made.name.clone());
        let write = self.store.write::<(), StoreError, _>(move |c| {
            Box::pin(async move { rows::end(c, (&id, &name), seq, job, problem.as_deref()).await })
        });
        write.await
    }

    /// Call a webhook until it takes the event, or for an hour.
    async fn call(&self, live: &Live, url: &str, event: &Event, begun_ms: i64) {
        let body = json!({ "rule": live.stored.made.name, "event": event });
        let mut pause = PAUSE;
        let problem = loop {
            let problem = match self.post(url, &body).await {
                Ok(()) => break None,
                Err(problem) => problem,
            };
            tracing::info!(rule = %live.stored.made.name, problem, "a webhook did not take an event");
            if crate::now_ms().saturating_sub(begun_ms) > GIVE_UP_MS {
                break Some(problem);
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        if let Err(error) = self.ended(live, event.seq, None, problem).await {
            // It stays begun: the next master calls once more.
            tracing::warn!(%error, "cannot note what became of a webhook");
        }
    }

    async fn post(&self, url: &str, body: &serde_json::Value) -> Result<(), String> {
        let _turn = self.calls.acquire().await.map_err(|_| "the master goes down".to_owned())?;
        // Without the URL: it may hold a secret, and the log of events is for everybody.
        let reply =
            self.client.post(url).json(body).send().await.map_err(|error| error.without_url().to_string())?;
        match reply.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn events_leave_the_machine_only_encrypted() {
        for good in
            ["https://example.org/hook", "http://127.0.0.1:8080/x", "http://[::1]/", "http://localhost"]
        {
            check_url(good).unwrap();
        }
        for bad in ["http://example.org", "file:///etc/passwd", "hook", "http://127.0.0.1.example.org/"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
