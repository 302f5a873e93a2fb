//! Many simulated hosts in one process: real TLS, the real protocol, no plugins.
//!
//! Each one enrols with a join token, keeps one stream to the master, answers heartbeats and
//! answers each operation with a fixed value, at once, late or never ([`Manner`]). When its stream ends it
//! calls again, after a random pause that grows, as a host does. Bundles that the master wants are fetched and
//! hashed as a host does, and then said to run. What is measured is the master.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use windlass_bundle::{Image, Part};
use windlass_describe::operations;
use windlass_identity::{
    ChannelOptions, ClientIdentity, NodeKey, Trust, certificates_from_pem, channel, client_config,
};
use windlass_proto::{PROTOCOL, v1};
use windlass_types::{Digest, Fingerprint, Outcome};

/// Messages to the master that wait for the network; the simulator blocks when it is full.
const OUTGOING: usize = 64;
/// Enrolments and first connections under way at once.
const CONNECTING: usize = 64;

/// Where the master listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub nodes: String,
    pub enroll: String,
    pub authority: Fingerprint,
}

/// What every simulated host says it offers: the operations of a real bundle.
#[derive(Debug, Clone)]
pub struct Offer {
    plugin: v1::Plugin,
    source: v1::PluginSource,
}

impl Offer {
    /// Read a bundle.
    pub fn of_bundle(dir: &Path) -> Result<Self> {
        let bundle = windlass_bundle::Bundle::read_dir(dir)?;
        let name = &bundle.manifest.name;
        let operations = operations(name, &bundle.wit)?
            .into_iter()
            .map(|operation| {
                let policy = bundle.manifest.operation(operation.name.local());
                Ok(v1::PluginOperation {
                    name: operation.name.local().to_owned(),
                    type_digest: operation.signature.digest().to_string(),
                    effect: policy.effect.to_string(),
                    timeout_ms: policy.timeout.as_millis().try_into()?,
                    idempotent: policy.idempotent,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Offer {
            plugin: v1::Plugin {
                name: name.to_string(),
                version: bundle.manifest.version.to_string(),
                digest: bundle.digest.to_string(),
                operations,
                ..v1::Plugin::default()
            },
            source: v1::PluginSource {
                digest: bundle.digest.to_string(),
                image: bundle.image().manifest().to_vec().into(),
                wit: bundle.wit.into(),
                manifest: bundle.manifest_text.into(),
            },
        })
    }
}

/// How a host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    /// Answers at once.
    Prompt,
    /// Takes [`SLOW`] for each operation.
    Slow,
    /// Its connection is open, and nothing comes through it in either direction.
    Silent,
}

/// What a slow host takes for an operation.
pub const SLOW: Duration = Duration::from_secs(1);
/// Pauses before a host calls again: random, up to this, which doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A simulated host with its certificate.
#[derive(Debug)]
pub struct SimulatedHost {
    key: NodeKey,
    identity: Mutex<Arc<ClientIdentity>>,
    trust: Trust,
    manner: watch::Sender<Manner>,
}

impl SimulatedHost {
    /// Ask for a certificate with a join token.
    async fn enrol(addresses: &Addresses, name: &str, join_token: &str) -> Result<Self> {
        let key = NodeKey::generate()?;
        let config = client_config(&Trust::Pin(addresses.authority), None, &["h2"])?;
        let channel = channel(&addresses.enroll, Arc::new(config), &ChannelOptions::default())?;
        let reply = v1::enroll_client::EnrollClient::new(channel)
            .request(v1::EnrollRequest {
                csr_pem: key.csr_pem()?,
                name: name.to_owned(),
                join_token: join_token.to_owned(),
                facts_json: b"{\"os\":\"simulated\"}".as_slice().into(),
                wait_ms: 0,
                host_version: env!("CARGO_PKG_VERSION").to_owned(),
                nonce: uuid::Uuid::new_v4().as_bytes().repeat(2).into(),
            })
            .await
            .context("enrolling")?
            .into_inner();
        if reply.state != i32::from(v1::enroll_reply::State::Accepted) {
            bail!("{name} was not accepted: {}", reply.message);
        }
        Ok(SimulatedHost {
            identity: Mutex::new(ClientIdentity::new(&reply.certificate_pem, &key)?),
            trust: Trust::Authorities(certificates_from_pem(&reply.ca_pem)?),
            key,
            manner: watch::Sender::new(Manner::Prompt),
        })
    }

    fn channel(&self, addresses: &Addresses) -> Result<Channel> {
        let identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let config = client_config(&self.trust, Some(identity), &["h2"])?;
        Ok(channel(&addresses.nodes, Arc::new(config), &ChannelOptions::default())?)
    }

    /// Get a new certificate.
    async fn renew(&self, addresses: &Addresses) -> Result<()> {
        let mut client = v1::node_client::NodeClient::new(self.channel(addresses)?);
        let request = v1::RenewRequest { csr_pem: self.key.csr_pem()? };
        let reply = client.renew(request).await.context("renewing")?.into_inner();
        let identity = ClientIdentity::new(&reply.certificate_pem, &self.key)?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    /// Call the master again and again, and answer.
    async fn stay(&self, addresses: &Addresses, offer: &Offer, up: &AtomicUsize) {
        let mut pause = PAUSE;
        loop {
            let mut welcomed = Welcomed { up, is: false };
            // However it ended: it calls again.
            let _ = self.serve(addresses, offer, &mut welcomed).await;
            if welcomed.is {
                pause = PAUSE;
            }
            drop(welcomed);
            tokio::time::sleep(pause.mul_f64(rand::random())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connect and answer until the stream ends.
    async fn serve(&self, addresses: &Addresses, offer: &Offer, welcomed: &mut Welcomed<'_>) -> Result<()> {
        let channel = self.channel(addresses)?;
        let mut manner = self.manner.subscribe();
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        send(&outgoing, v1::host_message::Kind::Hello(hello(offer))).await?;
        let mut client = v1::node_client::NodeClient::new(channel)
            .max_decoding_message_size(windlass_proto::MAX_MESSAGE_BYTES);
        let mut incoming = client.connect(ReceiverStream::new(messages)).await?.into_inner();
        let mut inventory = hello(offer).inventory.unwrap_or_default();
        loop {
            use v1::master_message::Kind;
            // A cut line: nothing is read, so nothing is answered either.
            manner.wait_for(|manner| *manner != Manner::Silent).await?;
            let Some(message) = incoming.message().await? else { return Ok(()) };
            if *manner.borrow() == Manner::Silent {
                continue;
            }
            match message.kind {
                Some(Kind::Welcome(_)) => welcomed.now(),
                Some(Kind::Heartbeat(beat)) if beat.answers == 0 => {
                    let answer =
                        v1::Heartbeat { sequence: beat.sequence, answers: beat.sequence, running_jobs: 0 };
                    send(&outgoing, v1::host_message::Kind::Heartbeat(answer)).await?;
                }
                Some(Kind::Run(run)) if *manner.borrow() == Manner::Slow => {
                    let (outgoing, digest) = (outgoing.clone(), offer.plugin.digest.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(SLOW).await;
                        // Its stream may have ended meanwhile.
                        let _ = answer(&outgoing, run.request_id, digest).await;
                    });
                }
                Some(Kind::Run(run)) => {
                    let request_id = run.request_id;
                    send(
                        &outgoing,
                        v1::host_message::Kind::Accepted(v1::Accepted { request_id: request_id.clone() }),
                    )
                    .await?;
                    answer(&outgoing, request_id, offer.plugin.digest.clone()).await?;
                }
                Some(Kind::WantPlugin(want)) => {
                    ensure!(want.digest == offer.plugin.digest, "the master asks for an unknown plugin");
                    send(&outgoing, v1::host_message::Kind::PluginSource(offer.source.clone())).await?;
                }
                Some(Kind::Desired(desired)) => {
                    install(&mut client, &mut inventory, desired).await?;
                    send(&outgoing, v1::host_message::Kind::Inventory(inventory.clone())).await?;
                }
                _ => {}
            }
        }
    }
}

/// Counts a session for as long as it lasts.
struct Welcomed<'a> {
    up: &'a AtomicUsize,
    is: bool,
}

impl Welcomed<'_> {
    fn now(&mut self) {
        if !std::mem::replace(&mut self.is, true) {
            self.up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Welcomed<'_> {
    fn drop(&mut self) {
        if self.is {
            self.up.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

async fn answer(
    outgoing: &mpsc::Sender<v1::HostMessage>,
    request_id: String,
    plugin_digest: String,
) -> Result<()> {
    let outcome = Outcome::Succeeded { value: serde_json::Value::Null };
    let result = v1::Result {
        request_id,
        outcome_json: serde_json::to_vec(&outcome)?.into(),
        trace_json: b"[]".as_slice().into(),
        stats_json: serde_json::to_vec(&windlass_types::trace::CallStats::default())?.into(),
        plugin_digest,
        output_bytes: 0,
    };
    send(outgoing, v1::host_message::Kind::Result(result)).await
}

/// Fetch what is wanted and not there, and say that it runs.
async fn install(
    client: &mut v1::node_client::NodeClient<Channel>,
    inventory: &mut v1::Inventory,
    desired: v1::Desired,
) -> Result<()> {
    inventory.desired_revision = desired.revision;
    inventory.installs.clear();
    for wanted in desired.plugins {
        if !inventory.plugins.iter().any(|plugin| plugin.digest == wanted.digest) {
            let image = Image::parse(&fetch(client, wanted.digest.parse()?).await?)?;
            for part in [Part::Manifest, Part::Wit, Part::Component] {
                fetch(client, image.layer(part).digest).await?;
            }
            inventory.plugins.retain(|plugin| plugin.name != wanted.name);
            inventory.plugins.push(v1::Plugin {
                name: wanted.name.clone(),
                version: wanted.version,
                digest: wanted.digest.clone(),
                ..v1::Plugin::default()
            });
        }
        inventory.installs.push(v1::Install {
            name: wanted.name,
            digest: wanted.digest,
            deployment: wanted.deployment,
            stage: "active".into(),
            ..v1::Install::default()
        });
    }
    Ok(())
}

/// A whole blob, checked.
async fn fetch(client: &mut v1::node_client::NodeClient<Channel>, digest: Digest) -> Result<Vec<u8>> {
    let request = v1::FetchRequest { digest: digest.to_string(), offset: 0 };
    let mut chunks = client.fetch(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    ensure!(Digest::of(&bytes) == digest, "the master sent something else than {digest}");
    Ok(bytes)
}

fn hello(offer: &Offer) -> v1::Hello {
    v1::Hello {
        protocol: PROTOCOL,
        host_version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: uuid::Uuid::new_v4().to_string(),
        boot_id: uuid::Uuid::new_v4().to_string(),
        facts: Some(v1::Facts { json: b"{\"os\":\"simulated\"}".as_slice().into() }),
        inventory: Some(v1::Inventory { plugins: vec![offer.plugin.clone()], ..v1::Inventory::default() }),
        running_requests: Vec::new(),
        finished_requests: Vec::new(),
        sealing_key: Vec::new().into(),
    }
}

async fn send(outgoing: &mpsc::Sender<v1::HostMessage>, kind: v1::host_message::Kind) -> Result<()> {
    outgoing.send(v1::HostMessage { kind: Some(kind) }).await.context("the stream has ended")
}

/// A fleet of simulated hosts. Dropping it disconnects them all.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Arc<SimulatedHost>>,
    sessions: tokio::task::JoinSet<()>,
    up: Arc<AtomicUsize>,
}

impl Fleet {
    /// Enrol one host for each join token.
    pub async fn enrol(addresses: &Addresses, join_tokens: Vec<String>) -> Result<Self> {
        let hosts = stream::iter(join_tokens.into_iter().enumerate())
            .map(|(index, token)| async move {
                SimulatedHost::enrol(addresses, &format!("sim{index}"), &token).await.map(Arc::new)
            })
            .buffered(CONNECTING);
        let hosts: Vec<_> = hosts.collect::<Vec<_>>().await.into_iter().collect::<Result<_>>()?;
        Ok(Fleet { hosts, sessions: tokio::task::JoinSet::new(), up: Arc::default() })
    }

    /// Connect them all, and wait until the master has welcomed each. From then on they stay.
    pub async fn connect(&mut self, addresses: &Addresses, offer: &Offer, limit: Duration) -> Result<()> {
        let shared = Arc::new((addresses.clone(), offer.clone()));
        for host in &self.hosts {
            let (host, shared, up) = (host.clone(), shared.clone(), self.up.clone());
            self.sessions.spawn(async move { host.stay(&shared.0, &shared.1, &up).await });
        }
        self.wait_for(self.hosts.len(), limit).await
    }

    /// Wait until so many sessions are up.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.connected() != count {
            ensure!(
                begun.elapsed() < limit,
                "{} of {count} hosts were welcomed in {limit:?}",
                self.connected()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// How many sessions are up, as the hosts see it.
    pub fn connected(&self) -> usize {
        self.up.load(Ordering::SeqCst)
    }

    /// Let the first hosts, so many, behave like this.
    pub fn behave(&self, count: usize, manner: Manner) {
        for host in self.hosts.iter().take(count) {
            host.manner.send_replace(manner);
        }
    }

    /// New certificates for all.
    pub async fn renew(&self, addresses: &Addresses) -> Result<()> {
        let renewals =
            stream::iter(&self.hosts).map(|host| host.renew(addresses)).buffer_unordered(CONNECTING);
        renewals.try_collect().await
    }
}
