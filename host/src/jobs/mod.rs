//! Running what the master asks for.
//!
//! A request goes through here once: [`Jobs::submit`] refuses it or takes it (synchronously, so that
//! "busy" is said before anything is promised), then a task of its own carries it: journal → `Accepted`
//! → its turn → journal → `Started` → the operation → journal → result. A read whose turn it is at once
//! begins first, and is written and told only if it is not over in a moment. The module [`crate::journal`] says
//! what each of these steps is worth after a crash.
//!
//! The operation itself is behind [`Executor`], so that all of this is tested without a plugin.

pub mod encode;
pub mod execute;
pub mod outbox;
pub mod output;
pub mod pool;

use crate::journal::{Entry, Journal, JournalError, Recovered, Sealed, Stage, now_ms};
use bytes::Bytes;
use outbox::Outbox;
use output::Streams;
use pool::{Place, Pool};
use prost::Message as _;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use windlass_identity::{Letter, SealingKey};
use windlass_proto::v1;
use windlass_runtime::Secrets;
use windlass_types::{
    Digest, Effect, JobId, OperationName, Outcome, Refusal, RequestId, SecretName,
    secret::{MAX_BYTES, MAX_IN_CALL},
    trace::{CallStats, TraceEntry},
};

/// An operation that does not end by itself this long after it was told to is dropped, which kills
/// what it started.
const GRACE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };
/// A read that is over within this is told by its result alone.
const MOMENT: Duration = Duration::from_millis(20);
/// Pause between attempts to write a result while the journal can't be written.
const RETRY: Duration = Duration::from_secs(1);
/// Progress of one operation is sent no more often than this.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// A progress message is cut here, in bytes.
const PROGRESS_BYTES: usize = 4096;
/// Refusals that are remembered. More than a session brings within the moment that counts.
const REFUSALS: usize = 1024;
/// Longest sealed secret: a key and a tag of 16 bytes come with the value.
const SEALED_BYTES: usize = MAX_BYTES + 64;
/// Longest time limit. Above, sums with the clock could overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Knows the operations of this node.
pub trait Executor: Send + Sync + 'static {
    /// Look an operation up; `type_digest` is the type its arguments were checked against.
    ///
    /// # Errors
    /// If it can't run here, and why.
    fn admit(&self, operation: &OperationName, type_digest: Option<Digest>) -> Result<Admission, Refused>;
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub reason: Refusal,
    /// Words for the operator.
    pub message: String,
}

impl Refused {
    /// Put one together.
    pub fn new(reason: Refusal, message: impl Into<String>) -> Self {
        Refused { reason, message: message.into() }
    }
}

/// An operation that can run. It holds on to the version of the plugin it was made from.
pub struct Admission {
    /// After the node's policy.
    pub effect: Effect,
    /// Its own limit of wall time.
    pub timeout: Duration,
    /// How often its plugin may run at once.
    pub concurrency: usize,
    /// The bundle it is of.
    pub plugin_digest: Option<Digest>,
    pub work: Box<dyn Work>,
}

/// Runs once.
pub trait Work: Send {
    /// Run it. Dropping the future ends it and all it started.
    fn run(self: Box<Self>, call: Call) -> Pin<Box<dyn Future<Output = Finished> + Send>>;
}

/// One run of an operation.
#[derive(Debug)]
pub struct Call {
    pub job_id: JobId,
    pub operation: OperationName,
    pub args: Value,
    pub secrets: Secrets,
    pub type_digest: Option<Digest>,
    pub time_limit: Duration,
    pub dry_run: bool,
    pub cancel: CancellationToken,
    pub progress: mpsc::Sender<Progress>,
    /// Waits while the master does not keep up.
    pub output: mpsc::Sender<Bytes>,
}

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub message: String,
    pub percent: Option<u8>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Finished {
    pub outcome: Outcome,
    pub trace: Vec<TraceEntry>,
    pub stats: CallStats,
    /// The bundle that ran.
    pub plugin_digest: Option<Digest>,
    /// What it wrote on its way.
    pub output_bytes: u64,
}

impl From<Outcome> for Finished {
    fn from(outcome: Outcome) -> Self {
        Finished {
            outcome,
            trace: Vec::new(),
            stats: CallStats::default(),
            plugin_digest: None,
            output_bytes: 0,
        }
    }
}

/// A request whose every part was parsed.
#[derive(Debug)]
struct Request {
    id: RequestId,
    job_id: JobId,
    operation: OperationName,
    args: Value,
    secrets: Vec<Sealed>,
    type_digest: Option<Digest>,
    dry_run: bool,
    deadline: Instant,
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    journal: Arc<Journal>,
    outbox: Arc<Outbox>,
    streams: Streams,
    pool: Pool,
    executor: Arc<dyn Executor>,
    sealing: Arc<SealingKey>,
    active: Mutex<HashMap<RequestId, CancellationToken>>,
    draining: CancellationToken,
    tasks: TaskTracker,
    acknowledged: tokio::sync::Notify,
    /// The newest refusals. The same id may come again within a session (the master repeats what
    /// our Hello did not list yet), and what was refused must not run after all.
    refusals: Mutex<VecDeque<(RequestId, Refused)>>,
}

impl Jobs {
    /// Jobs that run in `pool`.
    pub fn new(
        journal: Arc<Journal>,
        outbox: Arc<Outbox>,
        pool: Pool,
        executor: Arc<dyn Executor>,
        sealing: Arc<SealingKey>,
    ) -> Self {
        Jobs(Arc::new(Inner {
            journal,
            outbox,
            streams: Streams::default(),
            pool,
            executor,
            sealing,
            active: Mutex::default(),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
            acknowledged: tokio::sync::Notify::new(),
            refusals: Mutex::default(),
        }))
    }

    /// Take a request of the master, or refuse it. Must run within a tokio runtime, and from one task
    /// at a time: the session's.
    pub fn submit(&self, run: v1::Run) {
        let Ok(id) = run.request_id.parse::<RequestId>() else {
            tracing::warn!("the master sent a request without a valid id");
            return;
        };
        match self.0.journal.stage(id) {
            Ok(None) => {}
            Ok(Some(stage)) => return self.0.say_again(id, stage),
            Err(error) => return self.0.refuse(id, journal_refusal(&error)),
        }
        if let Some(refused) = self.0.refused_before(id) {
            return self.0.refuse(id, refused);
        }
        if self.0.draining.is_cancelled() {
            return self.0.refuse(id, draining());
        }
        let request = match parse(id, run) {
            Ok(request) => request,
            Err(refused) => return self.0.refuse(id, refused),
        };
        let admission = match self.0.executor.admit(&request.operation, request.type_digest) {
            Ok(admission) => admission,
            Err(refused) => return self.0.refuse(id, refused),
        };
        let Some(place) = self.0.pool.enter(&request.operation.plugin(), admission.concurrency) else {
            let (workers, queue) = self.0.pool.limits();
            let message = format!("all {workers} workers and all {queue} places in the queue are taken");
            return self.0.refuse(id, Refused::new(Refusal::Busy, message));
        };
        // A dry run touches nothing, so repeating it after a power failure does no harm.
        let effect = if request.dry_run { Effect::Read } else { admission.effect };
        match self.0.journal.claim(id, effect) {
            Ok(None) => {}
            Ok(Some(stage)) => return self.0.say_again(id, stage),
            Err(error) => return self.0.refuse(id, journal_refusal(&error)),
        }
        let entry = Entry {
            job_id: request.job_id.to_string(),
            operation: request.operation.to_string(),
            args: request.args.to_string(),
            secrets: request.secrets.clone(),
            type_digest: request.type_digest.map(|digest| digest.to_string()).unwrap_or_default(),
            plugin_digest: admission.plugin_digest.map(|digest| digest.to_string()).unwrap_or_default(),
            effect,
            dry_run: request.dry_run,
            deadline_ms: now_ms().saturating_add(
                i64::try_from(request.deadline.saturating_duration_since(Instant::now()).as_millis())
                    .unwrap_or(i64::MAX),
            ),
            accepted_ms: now_ms(),
        };
        self.0.spawn(request, admission, place, Some(entry));
    }

    /// End a request, whether it waits or runs.
    pub fn cancel(&self, id: RequestId) {
        match self.0.active().get(&id) {
            Some(token) => token.cancel(),
            None => tracing::debug!(request = %id, "cancel of a request that does not run"),
        }
    }

    /// Deal with what an earlier process left.
    pub async fn recover(&self, recovered: Recovered) {
        for (id, entry) in recovered.started {
            tracing::warn!(request = %id, operation = entry.operation, "the host ended while it ran: indeterminate");
            self.0
                .record(
                    id,
                    Outcome::Indeterminate { message: "the host process ended while it ran".into() }.into(),
                )
                .await;
        }
        for id in recovered.unreadable {
            let message =
                "another version of the host had taken it, and this one can't read its journal entry";
            self.0.record(id, Outcome::Indeterminate { message: message.into() }.into()).await;
        }
        for (id, entry) in recovered.accepted {
            if let Err(refused) = self.resume(id, &entry) {
                self.0
                    .record(id, Outcome::Refused { reason: refused.reason, message: refused.message }.into())
                    .await;
            }
        }
    }

    /// Run a request that an earlier process accepted and did not start.
    fn resume(&self, id: RequestId, entry: &Entry) -> Result<(), Refused> {
        let left = u64::try_from(entry.deadline_ms.saturating_sub(now_ms())).unwrap_or(0);
        let request = parse(
            id,
            v1::Run {
                request_id: id.to_string(),
                job_id: entry.job_id.clone(),
                operation: entry.operation.clone(),
                args_json: entry.args.clone().into_bytes().into(),
                type_digest: entry.type_digest.clone(),
                deadline_ms: entry.deadline_ms,
                remaining_ms: left,
                dry_run: entry.dry_run,
                secrets: entry
                    .secrets
                    .iter()
                    .map(|secret| v1::SealedSecret {
                        name: secret.name.clone(),
                        sealed: secret.sealed.clone().into(),
                    })
                    .collect(),
            },
        )?;
        let admission = self.0.executor.admit(&request.operation, request.type_digest)?;
        tracing::info!(request = %id, operation = entry.operation, "resuming a request that had not started");
        let place = self.0.pool.enter_promised(&request.operation.plugin(), admission.concurrency);
        self.0.spawn(request, admission, place, None);
        Ok(())
    }

    /// The master has the result: forget it. The journal is written by a task of its own, so that
    /// acknowledgements that come together cost one commit.
    pub fn acknowledge(&self, id: RequestId) {
        if !matches!(self.0.journal.stage(id), Ok(Some(Stage::Finished))) {
            return;
        }
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            match inner.journal.acknowledge(id).await {
                Ok(()) => {
                    inner.outbox.acknowledged(id);
                    inner.streams.forget(id);
                }
                // It stays, and is sent again later.
                Err(error) => tracing::error!(request = %id, %error, "cannot forget an acknowledged result"),
            }
            inner.acknowledged.notify_waiters();
        });
    }

    /// Wait until the master has acknowledged every result.
    pub async fn settled(&self) {
        loop {
            let acknowledged = self.0.acknowledged.notified();
            if self.0.journal.lists().1.is_empty() {
                return;
            }
            acknowledged.await;
        }
    }

    /// Say where all requests stand, at the begin of a session.
    pub fn say_all(&self) {
        // What the master has not taken is sent once more, each before its result.
        for id in self.0.streams.again() {
            self.0.outbox.output(id);
        }
        let (running, finished) = self.0.journal.lists();
        for id in running {
            if let Ok(Some(stage)) = self.0.journal.stage(id) {
                self.0.say_again(id, stage);
            }
        }
        for id in finished {
            self.0.outbox.recorded(id);
        }
    }

    /// The next bytes of a request's output, and where they begin.
    pub fn output(&self, id: RequestId) -> Option<(u64, Bytes)> {
        let (offset, data, more) = self.0.streams.next(id)?;
        if more {
            self.0.outbox.output(id);
        }
        Some((offset, data))
    }

    /// The master has the output of a request up to here.
    pub fn output_taken(&self, id: RequestId, upto: u64) {
        self.0.streams.taken(id, upto);
    }

    /// How many operations run.
    pub fn running(&self) -> u32 {
        u32::try_from(self.0.pool.load().0).unwrap_or(u32::MAX)
    }

    /// Stop: refuse what is new and what has not begun, give what runs `patience`, then cancel it.
    /// When this returns, nothing runs and every result is in the journal.
    pub async fn drain(&self, patience: Duration) {
        self.0.draining.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(patience, self.0.tasks.wait()).await.is_ok() {
            return;
        }
        let running: Vec<CancellationToken> = self.0.active().values().cloned().collect();
        tracing::warn!(operations = running.len(), "still running after the drain time: cancelling");
        for token in running {
            token.cancel();
        }
        if tokio::time::timeout(GRACE * 2, self.0.tasks.wait()).await.is_err() {
            tracing::error!("results could not be written to the journal");
        }
    }
}

fn draining() -> Refused {
    Refused::new(Refusal::Draining, "the host is shutting down")
}

fn journal_refusal(error: &JournalError) -> Refused {
    Refused::new(Refusal::Busy, format!("the host can't take work now: {error}"))
}

fn parse(id: RequestId, run: v1::Run) -> Result<Request, Refused> {
    let bad = |message: String| Refused::new(Refusal::BadArguments, message);
    let deadline = Duration::from_millis(run.remaining_ms).min(LONGEST);
    if deadline.is_zero() {
        return Err(Refused::new(Refusal::TooLate, "the deadline had passed when the job arrived"));
    }
    if run.secrets.len() > MAX_IN_CALL || run.secrets.iter().any(|secret| secret.sealed.len() > SEALED_BYTES)
    {
        return Err(Refused::new(Refusal::Secret, "more or larger secrets than a request may have"));
    }
    let args = if run.args_json.is_empty() { b"{}".as_slice() } else { &run.args_json[..] };
    Ok(Request {
        id,
        job_id: run.job_id.parse().map_err(|error| bad(format!("{error}")))?,
        operation: run
            .operation
            .parse()
            .map_err(|error| Refused::new(Refusal::UnknownOperation, format!("{error}")))?,
        args: serde_json::from_slice(args)
            .map_err(|error| bad(format!("the arguments are not JSON: {error}")))?,
        secrets: run
            .secrets
            .into_iter()
            .map(|secret| Sealed { name: secret.name, sealed: secret.sealed.to_vec() })
            .collect(),
        type_digest: if run.type_digest.is_empty() {
            None
        } else {
            Some(run.type_digest.parse().map_err(|error| bad(format!("{error}")))?)
        },
        dry_run: run.dry_run,
        deadline: Instant::now() + deadline,
    })
}

/// Open the secrets of a request. Their memory is wiped when the operation has ended.
fn open(request: &Request, key: &SealingKey) -> Result<Secrets, Refused> {
    let opened = request.secrets.iter().map(|sealed| {
        let name: SecretName = sealed.name.parse().map_err(|error| format!("{error}"))?;
        let letter =
            Letter { request: request.id, job: request.job_id, operation: &request.operation, name: &name };
        let value = key.open(letter, &sealed.sealed).map_err(|error| format!("secret `{name}`: {error}"))?;
        Ok((name, value))
    });
    opened.collect::<Result<_, _>>().map_err(|problem: String| Refused::new(Refusal::Secret, problem))
}

impl Inner {
    fn active(&self) -> std::sync::MutexGuard<'_, HashMap<RequestId, CancellationToken>> {
        // Every critical section leaves the map whole.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, id: RequestId, refused: Refused) {
        tracing::info!(request = %id, reason = ?refused.reason, message = refused.message, "refused");
        if self.refused_before(id).is_none() {
            let mut refusals = self.refusals();
            refusals.push_back((id, refused.clone()));
            if refusals.len() > REFUSALS {
                refusals.pop_front();
            }
        }
        let outcome = Outcome::Refused { reason: refused.reason, message: refused.message };
        self.outbox.refused(encode::unstarted(id, outcome));
    }

    fn refusals(&self) -> std::sync::MutexGuard<'_, VecDeque<(RequestId, Refused)>> {
        // Every critical section leaves the list whole.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused_before(&self, id: RequestId) -> Option<Refused> {
        self.refusals().iter().find(|(refused, _)| *refused == id).map(|(_, why)| why.clone())
    }

    /// Repeat what has been said about a request, without running it again.
    fn say_again(&self, id: RequestId, stage: Stage) {
        match stage {
            // It will be said when it is written.
            Stage::Claimed => {}
            Stage::Accepted => self.outbox.accepted(id),
            Stage::Started => {
                self.outbox.accepted(id);
                self.outbox.started(id);
            }
            Stage::Finished => self.outbox.recorded(id),
            Stage::Acknowledged => {
                tracing::warn!(request = %id, "the master repeats a request whose result it acknowledged");
            }
        }
    }

    /// Carry a request to its end. With `entry` it is not in the journal yet.
    fn spawn(self: &Arc<Self>, request: Request, admission: Admission, place: Place, entry: Option<Entry>) {
        let cancel = CancellationToken::new();
        let id = request.id;
        self.active().insert(id, cancel.clone());
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            inner.carry(request, admission, place, entry, cancel).await;
            inner.active().remove(&id);
        });
    }

    async fn carry(
        &self,
        request: Request,
        admission: Admission,
        place: Place,
        entry: Option<Entry>,
        cancel: CancellationToken,
    ) {
        let id = request.id;
        let place = match (place, &entry) {
            (Place::Now(slot), Some(entry)) if entry.effect == Effect::Read => {
                return self.read(request, admission, slot, entry, cancel).await;
            }
            (place, _) => place,
        };
        let mut marked = false;
        if let Some(entry) = entry {
            // What begins at once is written as begun: one commit instead of two.
            marked = matches!(place, Place::Now(_));
            if let Err(error) = self.journal.accept(id, &entry, marked).await {
                // The entry may have reached the disk: only a result written over it keeps the next
                // process from running it after the master was told of a refusal.
                let Refused { reason, message } = journal_refusal(&error);
                drop(place);
                return self.record(id, Outcome::Refused { reason, message }.into()).await;
            }
        }
        self.outbox.accepted(id);
        let not_begun =
            |refused: Refused| Outcome::Refused { reason: refused.reason, message: refused.message };
        let slot = match place {
            Place::Now(slot) => slot,
            Place::Later(turn) => {
                let ended = tokio::select! {
                    biased;
                    () = cancel.cancelled() => Outcome::Cancelled { started: false },
                    () = self.draining.cancelled() => not_begun(draining()),
                    () = tokio::time::sleep_until(request.deadline) => not_begun(Refused::new(
                        Refusal::TooLate, "the deadline passed while it waited for a worker")),
                    slot = turn => match slot {
                        Ok(slot) => {
                            return self.begin(request, admission, slot, marked, cancel).await;
                        }
                        Err(_) => not_begun(draining()),
                    },
                };
                return self.record(id, ended.into()).await;
            }
        };
        self.begin(request, admission, slot, marked, cancel).await;
    }

    /// A read that may begin at once. Most are over in a moment: their result says all there is to
    /// say. Only of one that is not, the request is kept and told.
    async fn read(
        &self,
        request: Request,
        admission: Admission,
        slot: pool::Slot,
        entry: &Entry,
        cancel: CancellationToken,
    ) {
        let id = request.id;
        if cancel.is_cancelled() {
            return self.record(id, Outcome::Cancelled { started: false }.into()).await;
        }
        let told = async {
            tokio::time::sleep(MOMENT).await;
            match self.journal.accept(id, entry, true).await {
                Ok(()) => {
                    self.outbox.accepted(id);
                    self.outbox.started(id);
                }
                // Nothing was promised: if we end now, the master sends it again.
                Err(error) => tracing::error!(request = %id, %error, "cannot keep a request"),
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let finished = tokio::select! {
            biased;
            finished = self.execute(request, admission, cancel) => finished,
            never = told => match never {},
        };
        drop(slot);
        self.record(id, finished).await;
    }

    async fn begin(
        &self,
        request: Request,
        admission: Admission,
        slot: pool::Slot,
        marked: bool,
        cancel: CancellationToken,
    ) {
        let id = request.id;
        if cancel.is_cancelled() {
            return self.record(id, Outcome::Cancelled { started: false }.into()).await;
        }
        if !marked && let Err(error) = self.journal.start(id).await {
            let Refused { reason, message } = journal_refusal(&error);
            return self.record(id, Outcome::Refused { reason, message }.into()).await;
        }
        self.outbox.started(id);
        let finished = self.execute(request, admission, cancel).await;
        drop(slot);
        self.record(id, finished).await;
    }

    async fn execute(&self, request: Request, admission: Admission, cancel: CancellationToken) -> Finished {
        let secrets = match open(&request, &self.sealing) {
            Ok(secrets) => secrets,
            Err(Refused { reason, message }) => return Outcome::Refused { reason, message }.into(),
        };
        let left = request.deadline.saturating_duration_since(Instant::now());
        let (progress, reports) = mpsc::channel(16);
        let (output, mut printed) = mpsc::channel(1);
        let id = request.id;
        let call = Call {
            job_id: request.job_id,
            operation: request.operation,
            args: request.args,
            secrets,
            type_digest: request.type_digest,
            time_limit: admission.timeout.min(left),
            dry_run: request.dry_run,
            cancel,
            progress,
            output,
        };
        let progress = forward_progress(&self.outbox, id, reports);
        let pump = async {
            self.pump(id, &mut printed).await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let beside = async {
            tokio::select! {
                never = progress => never,
                never = pump => never,
            }
        };
        let finished = execute::within_limits(admission.work, call, beside).await;
        while let Ok(data) = printed.try_recv() {
            self.print(id, data);
        }
        Finished { output_bytes: self.streams.ended(id), ..finished }
    }

    /// Pass output on as the master takes it, until there will be no more.
    async fn pump(&self, id: RequestId, printed: &mut mpsc::Receiver<Bytes>) {
        while let Some(data) = printed.recv().await {
            self.print(id, data);
            self.streams.room(id).await;
        }
    }

    fn print(&self, id: RequestId, data: Bytes) {
        self.streams.push(id, data);
        self.outbox.output(id);
    }

    /// Keep a result and let it be sent. Goes on trying: a promise was made.
    async fn record(&self, id: RequestId, finished: Finished) {
        let message = encode::result_message(id, &finished).encode_to_vec();
        loop {
            match self.journal.finish(id, message.clone()).await {
                Ok(()) => break,
                Err(JournalError::Closed) => return,
                Err(error) => tracing::error!(request = %id, %error, "cannot keep a result; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.outbox.recorded(id);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Send the latest progress, at intervals. Runs until it is dropped.
async fn forward_progress(
    outbox: &Outbox,
    id: RequestId,
    mut reports: mpsc::Receiver<Progress>,
) -> std::convert::Infallible {
    let mut latest: Option<Progress> = None;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            report = reports.recv() => match report {
                Some(report) => latest = Some(report),
                // The operation is about to end.
                None => std::future::pending::<()>().await,
            },
            () = tokio::time::sleep_until(next), if latest.is_some() => {
                if let Some(Progress { message, percent }) = latest.take() {
                    outbox.progress(id, cut(message), percent);
                }
                next = Instant::now() + PROGRESS_PAUSE;
            }
        }
    }
}

fn cut(mut message: String) -> String {
    if message.len() > PROGRESS_BYTES {
        let end = (0..=PROGRESS_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests;
