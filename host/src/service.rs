//! The host as a whole: opens the journal, keeps a session with a master, drains at the end.

use crate::{
    backoff::Backoff,
    bundles::{BundlesError, Interrupted},
    config::Config,
    credentials::{Certificate, CredentialError, Credentials},
    endpoints::Rotation,
    engine::Engine,
    enroll::Enrolment,
    epoch::{Epoch, EpochError},
    explain::{Remedy, chain},
    facts::{Facts, REFRESH},
    files,
    jobs::{Jobs, outbox::Outbox, pool::Pool},
    journal::{Entry, Journal, JournalError, Recovered, Retention},
    session::{Link, State},
    watches::{Watches, schedule::Scheduler},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_identity::{ChannelOptions, ClientIdentity, NodeKey, SealingKey, channel, client_config};

/// A session that was up this long was a healthy one.
const HEALTHY: Duration = Duration::from_secs(5);
/// How long the last results may wait for their acknowledgement when the host ends.
const SETTLE: Duration = Duration::from_secs(5);
/// Results without acknowledgement are sent again after this.
const RESEND: Duration = Duration::from_secs(15);

/// Why the host could not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("cannot make the folder `{}`", path.display())]
    StateDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Bundles(#[from] BundlesError),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Epoch(#[from] EpochError),
}

/// What ran when an earlier process ended.
fn interrupted(recovered: &Recovered) -> Vec<Interrupted> {
    let ran = |entry: &Entry| {
        Some(Interrupted {
            digest: entry.plugin_digest.parse().ok()?,
            operation: entry.operation.clone(),
            accepted_ms: entry.accepted_ms,
        })
    };
    recovered.started.iter().filter_map(|(_, entry)| ran(entry)).collect()
}

/// A host that is ready to run.
pub struct Host {
    config: Config,
    credentials: Credentials,
    key: NodeKey,
    sealing: Arc<SealingKey>,
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
    jobs: Jobs,
    pool: Pool,
    watches: Watches,
    engine: Arc<dyn Engine>,
    facts: Arc<Facts>,
    epoch: Arc<Epoch>,
    state: watch::Sender<State>,
    resend: Duration,
}

impl Host {
    /// Open the state of this node and deal with what an earlier process left.
    ///
    /// # Errors
    /// If the state can't be opened.
    pub async fn open(config: Config, engine: Arc<dyn Engine>) -> Result<Self, HostError> {
        files::private_dir(&config.state_dir)
            .map_err(|source| HostError::StateDir { path: config.state_dir.clone(), source })?;
        let epoch = Arc::new(Epoch::open(&config.state_dir)?);
        let (journal, recovered) = Journal::open(&config.state_dir, Retention::default())?;
        // The journal is ours alone from here on, so what has our mark is a dead process's.
        let state_dir = config.state_dir.canonicalize().unwrap_or_else(|_| config.state_dir.clone());
        windlass_runtime::os::process::own(&state_dir);
        if recovered.reads_lost {
            tracing::warn!("read operations that were under way when the machine stopped are lost");
        }
        let credentials = Credentials::new(&config)?;
        let key = credentials.key()?;
        if let Ok(Some(certificate)) = credentials.certificate(&key) {
            engine.node_is(certificate.node.id, config.name.as_str());
        }
        let sealing = Arc::new(credentials.sealing_key()?);
        let outbox = Arc::new(Outbox::default());
        let pool = Pool::new(config.workers, config.queue);
        let jobs = Jobs::new(
            Arc::clone(&journal),
            Arc::clone(&outbox),
            pool.clone(),
            engine.clone(),
            Arc::clone(&sealing),
        );
        engine.begin(interrupted(&recovered)).await?;
        jobs.recover(recovered).await;
        let watches = Watches::new(config.watches);
        Ok(Host {
            config,
            credentials,
            key,
            sealing,
            journal,
            outbox,
            jobs,
            pool,
            watches,
            engine,
            facts: Arc::default(),
            epoch,
            state: watch::channel(State::Connecting).0,
            resend: RESEND,
        })
    }

    /// Send results again after this time without acknowledgement.
    #[must_use]
    pub fn with_resend(mut self, resend: Duration) -> Self {
        self.resend = resend;
        self
    }

    /// What the host is about, as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Run until `stop` is cancelled, then drain.
    ///
    /// # Errors
    /// If the stored certificate can't be used at all.
    pub async fn run(self, stop: CancellationToken) -> Result<(), HostError> {
        let goodbye = CancellationToken::new();
        let facts = Arc::clone(&self.facts);
        let refresh = async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                let facts = Arc::clone(&facts);
                // It can only end by panicking, which says nothing about the next time.
                let _ = tokio::task::spawn_blocking(move || facts.refresh()).await;
            }
        };
        let scheduler =
            Scheduler::new(self.engine.clone(), self.engine.clone(), self.pool.clone(), self.watches.clone());
        let stopping = stop.clone();
        let watching = async move {
            scheduler.run(stopping).await;
            // The rest ends with the drain.
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = self.keep_connected(goodbye.clone()) => ended,
            () = refresh => Ok(()),
            () = watching => Ok(()),
            () = self.drain(stop, goodbye) => Ok(()),
        };
        let journal = Arc::clone(&self.journal);
        // Nothing writes any more; the threads end at once.
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
        ended
    }

    /// After `stop`: let jobs end, let the master have the results, say goodbye.
    async fn drain(&self, stop: CancellationToken, goodbye: CancellationToken) {
        stop.cancelled().await;
        tracing::info!("stopping: no new work, up to {} s for what runs", self.config.drain.as_secs());
        self.jobs.drain(self.config.drain).await;
        let mut state = self.state();
        let is_connected = |state: &State| matches!(state, State::Connected(_));
        if is_connected(&state.borrow()) && tokio::time::timeout(SETTLE, self.jobs.settled()).await.is_err() {
            tracing::warn!("the master has not acknowledged all results: they stay in the journal");
        }
        goodbye.cancel();
        // The session limits its own goodbye. An error would mean that the host is gone.
        let _ = state.wait_for(|state| !is_connected(state)).await;
        tracing::info!("stopped");
    }

    /// A certificate for `key`: the stored one if it is good, else a new one.
    async fn certificate(&self, key: &NodeKey) -> Result<Certificate, HostError> {
        match self.credentials.certificate(key) {
            Ok(Some(certificate)) if !certificate.is_expired() => return Ok(certificate),
            Ok(Some(_)) => tracing::warn!("the certificate of this node has expired: asking for a new one"),
            Ok(None) => {}
            Err(error @ CredentialError::File { .. }) => return Err(error.into()),
            Err(error) => tracing::warn!("{}: asking for a new one", chain(&error)),
        }
        let enrolment = Enrolment {
            config: &self.config,
            credentials: &self.credentials,
            facts: &self.facts,
            key,
            state: &self.state,
        };
        Ok(enrolment.run().await)
    }

    async fn keep_connected(&self, goodbye: CancellationToken) -> Result<(), HostError> {
        let mut certificate = self.certificate(&self.key).await?;
        let identity =
            ClientIdentity::new(&certificate.chain_pem, &self.key).map_err(CredentialError::from)?;
        let tls = client_config(self.credentials.trust(), Some(Arc::clone(&identity)), &["h2"])
            .map_err(CredentialError::from)?;
        let tls = Arc::new(tls);
        let link = Link {
            journal: Arc::clone(&self.journal),
            outbox: Arc::clone(&self.outbox),
            jobs: self.jobs.clone(),
            watches: self.watches.clone(),
            engine: Arc::clone(&self.engine),
            facts: Arc::clone(&self.facts),
            credentials: self.credentials.clone(),
            key: self.credentials.key()?,
            sealing: Arc::clone(&self.sealing),
            identity: Arc::clone(&identity),
            epoch: Arc::clone(&self.epoch),
            instance: uuid::Uuid::new_v4().to_string(),
            resend: self.resend,
            goodbye: goodbye.clone(),
            state: self.state.clone(),
        };
        let mut rotation = Rotation::new(self.config.masters.iter().map(|m| m.nodes.clone()).collect());
        let mut backoff = Backoff::default();
        loop {
            if goodbye.is_cancelled() {
                return Ok(());
            }
            if certificate.is_expired() {
                certificate = self.certificate(&self.key).await?;
                identity.set(&certificate.chain_pem, &self.key).map_err(CredentialError::from)?;
            }
            let endpoint = match rotation.next().await {
                Ok(endpoint) => endpoint,
                Err(error) => {
                    let wait = backoff.failed(1);
                    tracing::warn!("{error}; trying again in {:.1} s", wait.as_secs_f64());
                    tokio::time::sleep(wait).await;
                    continue;
                }
            };
            self.facts.refresh();
            let options = ChannelOptions { dial: Some(endpoint.address), ..ChannelOptions::default() };
            let ended = match channel(&endpoint.name, Arc::clone(&tls), &options) {
                Ok(channel) => link.session(channel, &endpoint, &mut certificate).await,
                Err(error) => return Err(CredentialError::from(error).into()),
            };
            if goodbye.is_cancelled() {
                return Ok(());
            }
            if ended.up.is_some_and(|up| up >= HEALTHY) {
                backoff.reset();
                rotation.restart();
            }
            let wait = match ended.problem.remedy {
                Remedy::Retry => backoff.failed(rotation.alternatives()),
                Remedy::RetrySlowly => backoff.refused(),
                Remedy::Enroll => {
                    tracing::warn!("{}", ended.problem);
                    // First a pause: a master that gives certificates and refuses them must not be asked
                    // in a tight loop.
                    tokio::time::sleep(backoff.failed(1)).await;
                    self.credentials.forget()?;
                    certificate = self.certificate(&self.key).await?;
                    identity.set(&certificate.chain_pem, &self.key).map_err(CredentialError::from)?;
                    continue;
                }
            };
            tracing::warn!("{}; trying again in {:.1} s", ended.problem, wait.as_secs_f64());
            tokio::time::sleep(wait).await;
        }
    }
}
