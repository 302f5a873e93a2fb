//! One session with a master: from `Hello` until the stream ends.
//!
//! Two tasks share it. The reader takes what the master says and hands it on; it never waits for the
//! disk or for the network, so a heartbeat is answered at once. The writer takes what is to be said,
//! heartbeats first, and waits as long as the network makes it. A session ends when the stream ends,
//! when nothing came for three heartbeats, or when the host shuts down.

use crate::{
    bundles::Master,
    credentials::{Certificate, Credentials},
    endpoints::Endpoint,
    engine::Engine,
    epoch::Epoch,
    explain::{Problem, Remedy, chain, explain},
    facts::Facts,
    jobs::{
        Jobs,
        outbox::{Event, Outbox},
    },
    journal::{Journal, boot_id, now_ms},
    watches::Watches,
};
use prost::Message as _;
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};
use windlass_identity::{ClientIdentity, NodeKey, SealingKey};
use windlass_proto::{
    MAX_MESSAGE_BYTES, PROTOCOL,
    v1::{
        Accepted, Goodbye, Heartbeat, Hello, HostMessage, MasterMessage, PluginSource, RenewRequest, Started,
        host_message::Kind, master_message, node_client::NodeClient,
    },
};
use windlass_types::{Digest, NodeName, RequestId};

/// The master must have welcomed the host by then.
const WELCOME: Duration = Duration::from_secs(15);
/// Heartbeats that may be missing.
const MISSING: u32 = 3;
/// Heartbeat intervals a master may ask for.
const HEARTBEATS: std::ops::RangeInclusive<u32> = 50..=600_000;
/// Messages between writer and transport. Each may be as large as a result.
const TRANSPORT: usize = 2;
/// Small things the writer has to say besides results.
const CONTROL: usize = 64;
/// Time for a renewal, and the pause after one that failed.
const RENEW: Duration = Duration::from_secs(30);
/// Time for the stream to end after `Goodbye`.
const GOODBYE: Duration = Duration::from_secs(3);
/// Clocks that differ by more than this are worth a line in the log.
const SKEW_MS: u64 = 30_000;

/// What all sessions of this process share.
pub struct Link {
    pub journal: Arc<Journal>,
    pub outbox: Arc<Outbox>,
    pub jobs: Jobs,
    pub watches: Watches,
    pub engine: Arc<dyn Engine>,
    pub facts: Arc<Facts>,
    pub credentials: Credentials,
    pub key: NodeKey,
    pub sealing: Arc<SealingKey>,
    pub identity: Arc<ClientIdentity>,
    /// Of the masters so far.
    pub epoch: Arc<Epoch>,
    /// Random, for the life of this process.
    pub instance: String,
    /// Results that were sent so long ago and not acknowledged are sent again.
    pub resend: Duration,
    /// Cancelled once everything is said: say goodbye and end.
    pub goodbye: CancellationToken,
    /// For those who watch this host.
    pub state: watch::Sender<State>,
}

/// What the host is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Looking for a master.
    Connecting,
    /// Has no certificate yet; why.
    Enrolling(String),
    /// Has a session with this master.
    Connected(String),
    /// Has none; why.
    Problem(Problem),
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Connecting => f.write_str("connecting"),
            State::Enrolling(words) => f.write_str(words),
            State::Connected(peer) => write!(f, "connected to {peer}"),
            State::Problem(problem) => write!(f, "not connected: {problem}"),
        }
    }
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended {
    pub problem: Problem,
    /// How long it was up; none if the master did not welcome the host.
    pub up: Option<Duration>,
}

/// A renewal under way.
type Renewal<'a> = Pin<Box<dyn Future<Output = Result<Certificate, Problem>> + Send + 'a>>;

enum Control {
    Beat(Heartbeat),
    Source(Digest),
    Facts,
    Goodbye,
}

impl Link {
    /// Hold one session. Gives back the certificate in use, which may have been renewed.
    pub async fn session(
        &self,
        channel: Channel,
        endpoint: &Endpoint,
        certificate: &mut Certificate,
    ) -> Ended {
        let peer = endpoint.to_string();
        let mut welcomed = None;
        let problem = self.talk(channel, &peer, certificate, &mut welcomed).await;
        self.engine.blobs(None);
        self.state.send_replace(State::Problem(problem.clone()));
        self.outbox.close();
        self.watches.close();
        Ended { problem, up: welcomed.map(|at| at.elapsed()) }
    }

    async fn talk(
        &self,
        channel: Channel,
        peer: &str,
        certificate: &mut Certificate,
        welcomed: &mut Option<Instant>,
    ) -> Problem {
        let mut client = NodeClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        // First the box, then the lists: what happens in between is in the box.
        self.outbox.open();
        // The same for the inventory: it is told again if it changes after Hello was made.
        let inventory = self.engine.changes();
        let (transport, messages) = mpsc::channel(TRANSPORT);
        if transport.send(message(Kind::Hello(self.hello()))).await.is_err() {
            return Problem::new(Remedy::Retry, "the transport is gone", "");
        }
        let opening = async {
            let mut stream = client.connect(ReceiverStream::new(messages)).await?.into_inner();
            let first = stream.message().await?;
            Ok::<_, tonic::Status>((stream, first))
        };
        let (mut stream, welcome) = match tokio::time::timeout(WELCOME, opening).await {
            Err(_) => return Problem::new(Remedy::Retry, format!("{peer} does not answer"), ""),
            Ok(Err(status)) => return explain(&status, peer),
            Ok(Ok((stream, first))) => match first.and_then(|first| first.kind) {
                Some(master_message::Kind::Welcome(welcome)) => (stream, welcome),
                _ => {
                    return Problem::new(Remedy::Retry, format!("{peer} did not begin with a welcome"), "");
                }
            },
        };
        if !HEARTBEATS.contains(&welcome.heartbeat_ms) {
            let message = format!("{peer} wants a heartbeat each {} ms", welcome.heartbeat_ms);
            return Problem::new(Remedy::RetrySlowly, message, "");
        }
        let (epoch, shown) = (Arc::clone(&self.epoch), welcome.epoch);
        let counts = tokio::task::spawn_blocking(move || epoch.welcomed(shown).map_err(|why| chain(&why)));
        if let Err(why) = counts.await.unwrap_or_else(|error| Err(error.to_string())) {
            return Problem::new(Remedy::Retry, format!("{peer} does not count: {why}"), "");
        }
        let skew = welcome.time_ms.abs_diff(now_ms());
        if skew > SKEW_MS {
            tracing::warn!("the clocks of this node and of {peer} differ by {} s", skew / 1000);
        }
        tracing::info!(
            node = welcome.node_id,
            name = welcome.node_name,
            master = welcome.master_version,
            "connected to {peer}"
        );
        *welcomed = Some(Instant::now());
        // The id is the certificate's; of the master's words only the name counts, once it is one.
        match welcome.node_name.parse::<NodeName>() {
            Ok(name) => self.engine.node_is(certificate.node.id, name.as_str()),
            Err(error) => tracing::warn!("{peer} names this node: {error}"),
        }
        self.state.send_replace(State::Connected(peer.to_owned()));
        self.jobs.say_all();
        self.watches.open(welcome.takes_watch_reports);
        self.engine.blobs(Some(Arc::new(Master::new(client.clone()))));

        let (control, orders) = mpsc::channel(CONTROL);
        let beat = Duration::from_millis(welcome.heartbeat_ms.into());
        let writing = self.write(transport, orders, inventory);
        let reading = self.read(&mut stream, client, peer, beat, control, certificate);
        tokio::pin!(writing, reading);
        tokio::select! {
            problem = &mut reading => problem,
            // The writer ends with the transport, or after goodbye; the reader then hears how it went.
            () = &mut writing => reading.await,
        }
    }

    fn hello(&self) -> Hello {
        let (running, finished) = self.journal.lists();
        let text = |ids: Vec<RequestId>| ids.iter().map(ToString::to_string).collect();
        Hello {
            protocol: PROTOCOL,
            host_version: env!("CARGO_PKG_VERSION").into(),
            instance: self.instance.clone(),
            boot_id: boot_id(),
            facts: Some(windlass_proto::v1::Facts { json: self.facts.json().into() }),
            inventory: Some(self.engine.inventory()),
            running_requests: text(running),
            finished_requests: text(finished),
            sealing_key: self.sealing.public_bytes().to_vec().into(),
        }
    }

    async fn read(
        &self,
        stream: &mut Streaming<MasterMessage>,
        client: NodeClient<Channel>,
        peer: &str,
        beat: Duration,
        control: mpsc::Sender<Control>,
        certificate: &mut Certificate,
    ) -> Problem {
        let mut sequence = 0;
        let silence = beat * MISSING;
        let silent = tokio::time::sleep(silence);
        tokio::pin!(silent);
        let mut ticks = tokio::time::interval(beat);
        let mut facts = self.facts.changes();
        facts.mark_unchanged();
        let due = tokio::time::sleep(certificate.renew_in());
        tokio::pin!(due);
        let mut renewing: Option<Renewal<'_>> = None;
        let mut leaving: Option<Pin<Box<tokio::time::Sleep>>> = None;
        loop {
            // In this order: what has arrived is read before its sender is called silent. A flood of
            // messages holds up nothing, since tokio makes a busy stream pause.
            tokio::select! {
                biased;
                received = stream.message() => {
                    silent.as_mut().reset(tokio::time::Instant::now() + silence);
                    match received {
                        Ok(Some(MasterMessage { kind: Some(kind) })) => {
                            if self.hear(kind, &control).await {
                                due.as_mut().reset(tokio::time::Instant::now());
                            }
                        }
                        Ok(Some(MasterMessage { kind: None })) => {
                            tracing::debug!("{peer} said something this host does not know");
                        }
                        Ok(None) if leaving.is_some() => return goodbye_said(),
                        Ok(None) => return Problem::new(Remedy::Retry, format!("{peer} ended the session"), ""),
                        Err(_) if leaving.is_some() => return goodbye_said(),
                        Err(status) => return explain(&status, peer),
                    }
                }
                () = &mut silent => {
                    let words = format!("{peer} has been silent for {} ms", silence.as_millis());
                    return Problem::new(Remedy::Retry, words, "");
                }
                _ = ticks.tick() => {
                    sequence += 1;
                    let running_jobs = self.jobs.running();
                    // When the writer is stuck, the master misses it and knows.
                    let _ = control.try_send(Control::Beat(Heartbeat { sequence, answers: 0, running_jobs }));
                    self.outbox.resend(self.resend);
                }
                Ok(()) = facts.changed() => {
                    let _ = control.try_send(Control::Facts);
                }
                () = &mut due, if renewing.is_none() => {
                    renewing = Some(Box::pin(self.renew(client.clone(), peer)));
                }
                renewed = when_some(&mut renewing) => {
                    renewing = None;
                    let next = match renewed {
                        Ok(renewed) => {
                            *certificate = renewed;
                            certificate.renew_in()
                        }
                        Err(problem) => {
                            tracing::warn!("cannot renew the certificate: {problem}");
                            RENEW
                        }
                    };
                    // A certificate that is due at once must not renew in a tight loop.
                    due.as_mut().reset(tokio::time::Instant::now() + next.max(Duration::from_secs(1)));
                }
                () = self.goodbye.cancelled(), if leaving.is_none() => {
                    let _ = control.send(Control::Goodbye).await;
                    leaving = Some(Box::pin(tokio::time::sleep(GOODBYE)));
                }
                () = when_some(&mut leaving) => return goodbye_said(),
            }
        }
    }

    /// True if the certificate is to be renewed.
    async fn hear(&self, kind: master_message::Kind, control: &mpsc::Sender<Control>) -> bool {
        use master_message::Kind;
        match kind {
            Kind::Heartbeat(Heartbeat { sequence, answers: 0, .. }) => {
                let answer = Heartbeat { sequence: 0, answers: sequence, running_jobs: self.jobs.running() };
                let _ = control.try_send(Control::Beat(answer));
            }
            // The answer to one of ours: that it came is all that counts.
            Kind::Heartbeat(_) => {}
            Kind::Run(run) => {
                self.outbox.room().await;
                self.jobs.submit(run);
            }
            Kind::Cancel(cancel) => match cancel.request_id.parse() {
                Ok(id) => self.jobs.cancel(id),
                Err(error) => tracing::warn!("the master cancels: {error}"),
            },
            Kind::Acknowledge(acknowledge) => match acknowledge.request_id.parse() {
                Ok(id) => self.jobs.acknowledge(id),
                Err(error) => tracing::warn!("the master acknowledges: {error}"),
            },
            Kind::OutputTaken(taken) => match taken.request_id.parse() {
                Ok(id) => self.jobs.output_taken(id, taken.upto),
                Err(error) => tracing::warn!("the master takes output: {error}"),
            },
            Kind::WantPlugin(want) => match want.digest.parse() {
                Ok(digest) => {
                    let _ = control.try_send(Control::Source(digest));
                }
                Err(error) => tracing::warn!("the master wants a plugin: {error}"),
            },
            Kind::RenewSoon(_) => return true,
            Kind::Desired(desired) => self.engine.desired(desired),
            Kind::WatchReportAcknowledged(message) => self.watches.acknowledged(&message),
            Kind::Welcome(_) => tracing::debug!("welcomed twice"),
        }
        false
    }

    async fn write(
        &self,
        transport: mpsc::Sender<HostMessage>,
        mut orders: mpsc::Receiver<Control>,
        mut inventory: watch::Receiver<u64>,
    ) {
        loop {
            let kind = tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Control::Beat(beat)) => Kind::Heartbeat(beat),
                    Some(Control::Facts) => {
                        Kind::Facts(windlass_proto::v1::Facts { json: self.facts.json().into() })
                    }
                    Some(Control::Source(digest)) => match self.source(digest).await {
                        Some(source) => Kind::PluginSource(source),
                        None => continue,
                    },
                    Some(Control::Goodbye) => {
                        let goodbye = Goodbye { reason: "the host is shutting down".into() };
                        let _ = transport.send(message(Kind::Goodbye(goodbye))).await;
                        return;
                    }
                    None => return,
                },
                // Changes that come while the network is slow are told as one.
                Ok(()) = inventory.changed() => Kind::Inventory(self.engine.inventory()),
                event = self.outbox.next() => match self.event(event) {
                    Some(kind) => kind,
                    None => continue,
                },
                // After all that is about jobs.
                report = self.watches.next() => Kind::WatchReport(report),
            };
            if transport.send(message(kind)).await.is_err() {
                return;
            }
        }
    }

    fn event(&self, event: Event) -> Option<Kind> {
        Some(match event {
            Event::Accepted(id) => Kind::Accepted(Accepted { request_id: id.to_string() }),
            Event::Started(id) => Kind::Started(Started { request_id: id.to_string() }),
            Event::Progress { id, message, percent } => Kind::Progress(windlass_proto::v1::Progress {
                request_id: id.to_string(),
                message,
                percent: percent.map(u32::from),
            }),
            Event::Output(id) => {
                // Taken meanwhile.
                let (offset, data) = self.jobs.output(id)?;
                Kind::Output(windlass_proto::v1::Output { request_id: id.to_string(), offset, data })
            }
            Event::Refused(result) => Kind::Result(*result),
            Event::Recorded(id) => match self.journal.result(id) {
                // Acknowledged meanwhile.
                Ok(None) => return None,
                Ok(Some(bytes)) => match windlass_proto::v1::Result::decode(bytes.as_slice()) {
                    Ok(result) => Kind::Result(result),
                    Err(error) => {
                        tracing::error!(request = %id, %error, "the journal holds a result that can't be read");
                        return None;
                    }
                },
                Err(error) => {
                    tracing::error!(request = %id, %error, "cannot read a result; trying again later");
                    return None;
                }
            },
        })
    }

    async fn source(&self, digest: Digest) -> Option<PluginSource> {
        let engine = Arc::clone(&self.engine);
        let source = tokio::task::spawn_blocking(move || engine.source(digest)).await.unwrap_or_default();
        if source.is_none() {
            tracing::warn!(%digest, "the master wants a plugin that is not on this node");
        }
        source
    }

    /// Get a new certificate for the same key. The open session keeps the old one; the next shows
    /// the new one.
    async fn renew(&self, mut client: NodeClient<Channel>, peer: &str) -> Result<Certificate, Problem> {
        let own = |text: String| Problem::new(Remedy::RetrySlowly, text, "");
        let csr_pem = self.key.csr_pem().map_err(|error| own(chain(&error)))?;
        let reply = tokio::time::timeout(RENEW, client.renew(RenewRequest { csr_pem }))
            .await
            .map_err(|_| own(format!("{peer} does not answer")))?
            .map_err(|status| explain(&status, peer))?
            .into_inner();
        let certificate = self
            .credentials
            .store(&reply.certificate_pem, &reply.ca_pem, &self.key)
            .map_err(|error| own(chain(&error)))?;
        self.identity.set(&certificate.chain_pem, &self.key).map_err(|error| own(chain(&error)))?;
        tracing::info!(generation = certificate.node.generation, "renewed the certificate");
        Ok(certificate)
    }
}

fn goodbye_said() -> Problem {
    Problem::new(Remedy::Retry, "said goodbye", "")
}

fn message(kind: Kind) -> HostMessage {
    HostMessage { kind: Some(kind) }
}

/// The output of a future, if there is one; otherwise never.
async fn when_some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
