//! Many simulated hosts in one process: real TLS, the real protocol, no plugins.
//!
//! Each one enrols with a join token, keeps one stream to the master, answers heartbeats and
//! answers each operation with a fixed value at once. Bundles that the master wants are fetched and
//! hashed as a host does, and then said to run. What is measured is the master.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, stream};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;
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

/// A simulated host with its certificate.
#[derive(Debug)]
pub struct SimulatedHost {
    identity: Arc<ClientIdentity>,
    trust: Trust,
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
            identity: ClientIdentity::new(&reply.certificate_pem, &key)?,
            trust: Trust::Authorities(certificates_from_pem(&reply.ca_pem)?),
        })
    }

    /// Connect and answer until the stream ends. `welcome` fires once the master has said it.
    async fn serve(&self, addresses: &Addresses, offer: &Offer, welcome: mpsc::Sender<()>) -> Result<()> {
        let config = client_config(&self.trust, Some(self.identity.clone()), &["h2"])?;
        let channel = channel(&addresses.nodes, Arc::new(config), &ChannelOptions::default())?;
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        send(&outgoing, v1::host_message::Kind::Hello(hello(offer))).await?;
        let mut client = v1::node_client::NodeClient::new(channel)
            .max_decoding_message_size(windlass_proto::MAX_MESSAGE_BYTES);
        let mut incoming = client.connect(ReceiverStream::new(messages)).await?.into_inner();
        let mut inventory = hello(offer).inventory.unwrap_or_default();
        while let Some(message) = incoming.message().await? {
            use v1::master_message::Kind;
            match message.kind {
                Some(Kind::Welcome(_)) => drop(welcome.send(()).await),
                Some(Kind::Heartbeat(beat)) if beat.answers == 0 => {
                    let answer =
                        v1::Heartbeat { sequence: beat.sequence, answers: beat.sequence, running_jobs: 0 };
                    send(&outgoing, v1::host_message::Kind::Heartbeat(answer)).await?;
                }
                Some(Kind::Run(run)) => {
                    let request_id = run.request_id;
                    send(
                        &outgoing,
                        v1::host_message::Kind::Accepted(v1::Accepted { request_id: request_id.clone() }),
                    )
                    .await?;
                    let outcome = Outcome::Succeeded { value: serde_json::Value::Null };
                    let result = v1::Result {
                        request_id,
                        outcome_json: serde_json::to_vec(&outcome)?.into(),
                        trace_json: b"[]".as_slice().into(),
                        stats_json: serde_json::to_vec(&windlass_types::trace::CallStats::default())?.into(),
                        plugin_digest: offer.plugin.digest.clone(),
                    };
                    send(&outgoing, v1::host_message::Kind::Result(result)).await?;
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
        Ok(())
    }
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
    }
}

async fn send(outgoing: &mpsc::Sender<v1::HostMessage>, kind: v1::host_message::Kind) -> Result<()> {
    outgoing.send(v1::HostMessage { kind: Some(kind) }).await.context("the stream has ended")
}

/// A fleet of simulated hosts. Dropping it disconnects them all.
#[derive(Debug)]
pub struct Fleet {
    hosts: Vec<Arc<SimulatedHost>>,
    sessions: tokio::task::JoinSet<Result<()>>,
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
        Ok(Fleet { hosts, sessions: tokio::task::JoinSet::new() })
    }

    /// Connect them all, and wait until the master has welcomed each.
    pub async fn connect(&mut self, addresses: &Addresses, offer: &Offer, limit: Duration) -> Result<()> {
        let (welcome, mut welcomed) = mpsc::channel(self.hosts.len().max(1));
        let offer = Arc::new(offer.clone());
        for host in &self.hosts {
            let (host, addresses, offer, welcome) =
                (host.clone(), addresses.clone(), offer.clone(), welcome.clone());
            self.sessions.spawn(async move { host.serve(&addresses, &offer, welcome).await });
        }
        drop(welcome);
        let all = async {
            for count in 0..self.hosts.len() {
                if welcomed.recv().await.is_none() {
                    let why = self.sessions.join_next().await;
                    bail!("only {count} of {} hosts were welcomed: {why:?}", self.hosts.len());
                }
            }
            Ok(())
        };
        tokio::time::timeout(limit, all).await.context("connecting the fleet took too long")?
    }

    /// How many sessions are up.
    pub fn connected(&self) -> usize {
        self.sessions.len()
    }
}
