//! A host that takes what it is wanted to run, and does with it what a test says.

use super::{Connection, FakeHost, Rig, soon};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use tonic::Status;
use windlass_bundle::{Approval, Bundle, Image, Part};
use windlass_proto::v1::{
    Desired, DesiredPlugin, FetchRequest, Install, Inventory, Plugin, PluginChange, host_message,
    master_message::Kind, node_client::NodeClient,
};
use windlass_types::Digest;

/// A host with its session.
pub(crate) struct Managed {
    pub host: FakeHost,
    pub connection: Connection,
    /// What it says it has, and how far it is.
    pub inventory: Inventory,
    /// The newest set it was sent.
    pub desired: Desired,
}

impl Managed {
    /// A host that has joined and is there.
    pub async fn join(rig: &Rig, name: &str) -> Self {
        let host = rig.join(name).await;
        let connection = host.connect().await.unwrap();
        Managed { host, connection, inventory: Inventory::default(), desired: Desired::default() }
    }

    /// The same host, which is there again after it was away.
    pub async fn back(self, rig: &Rig) -> Self {
        let Managed { host, connection, inventory, desired } = self;
        drop(connection);
        let host = host.at(rig.node).having(inventory.clone());
        let connection = host.connect().await.unwrap();
        Managed { host, connection, inventory, desired }
    }

    /// Go away, and come back later.
    pub async fn away(self, rig: &Rig) -> Away {
        let Managed { host, connection, inventory, desired } = self;
        let id = host.id();
        drop(connection);
        soon("the end of the session", async {
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(2));
            while rig.fleet.node(id).is_some_and(|node| node.online()) {
                tick.tick().await;
            }
        })
        .await;
        Away { host, inventory, desired }
    }

    /// Wait for the next set, and have it on disk.
    pub async fn take(&mut self) -> &Desired {
        self.desired = loop {
            match self.connection.next().await {
                Kind::Desired(desired) => break desired,
                Kind::WantPlugin(_) => {}
                other => panic!("not a set: {other:?}"),
            }
        };
        self.inventory.desired_revision = self.desired.revision;
        &self.desired
    }

    /// Wait for a set in which the plugin is wanted in this version (none: not at all).
    pub async fn take_version(&mut self, name: &str, version: Option<&str>) -> DesiredPlugin {
        loop {
            let plugin = self.take().await.plugins.iter().find(|plugin| plugin.name == name).cloned();
            if plugin.as_ref().map(|plugin| plugin.version.as_str()) == version {
                return plugin.unwrap_or_default();
            }
        }
    }

    /// The sets that have come and were not taken.
    pub fn untaken(&mut self) -> Vec<Desired> {
        let rest = self.connection.rest().into_iter();
        rest.filter_map(|kind| if let Kind::Desired(desired) = kind { Some(desired) } else { None }).collect()
    }

    pub fn wanted(&self, name: &str) -> &DesiredPlugin {
        self.desired.plugins.iter().find(|plugin| plugin.name == name).unwrap()
    }

    /// Say how it stands.
    pub async fn report(&self) {
        self.connection.say(host_message::Kind::Inventory(self.inventory.clone())).await;
    }

    fn stage(&mut self, name: &str, stage: &str, problem: &str) {
        let wanted = self.wanted(name).clone();
        self.inventory.installs.retain(|install| install.name != name);
        self.inventory.installs.push(Install {
            name: name.into(),
            digest: wanted.digest,
            deployment: wanted.deployment,
            stage: stage.into(),
            problem: problem.into(),
            ..Install::default()
        });
    }

    fn note(&mut self, name: &str, kind: &str, message: &str) {
        let wanted =
            self.desired.plugins.iter().find(|plugin| plugin.name == name).cloned().unwrap_or_default();
        let number = self.inventory.changes.last().map_or(1, |change| change.number + 1);
        self.inventory.changes.push(PluginChange {
            number,
            time_ms: crate::now_ms(),
            name: name.into(),
            digest: wanted.digest,
            version: wanted.version,
            kind: kind.into(),
            message: message.into(),
            ..PluginChange::default()
        });
    }

    /// Fetch, check and run what is wanted, and say so.
    pub async fn install(&mut self, name: &str) {
        let wanted = self.wanted(name).clone();
        let bundle = self.fetch_bundle(&wanted).await;
        let approval: Approval = serde_json::from_slice(&wanted.approval_json).unwrap();
        let operations = windlass_describe::operations(&bundle.manifest.name, &bundle.wit).unwrap();
        let asked = windlass_bundle::capabilities(
            &bundle.manifest,
            operations.iter().map(|operation| operation.name.local()),
        );
        assert!(approval.missing(&asked).is_empty(), "given before it was approved");
        self.run(name).await;
    }

    /// Run what is wanted without looking at it, and say so.
    pub async fn run(&mut self, name: &str) {
        let wanted = self.wanted(name).clone();
        let before = self.inventory.plugins.iter().position(|plugin| plugin.name == name);
        let before = before.map(|at| self.inventory.plugins.remove(at).digest);
        self.inventory.plugins.push(Plugin {
            name: name.into(),
            version: wanted.version,
            digest: wanted.digest.clone(),
            previous_digest: before.filter(|before| *before != wanted.digest).unwrap_or_default(),
            ..Plugin::default()
        });
        self.stage(name, "active", "");
        self.note(name, "installed", "");
        self.report().await;
    }

    /// Say how far it is.
    pub async fn at(&mut self, name: &str, stage: &str) {
        self.stage(name, stage, "");
        self.report().await;
    }

    /// Say that it does not work.
    pub async fn fail(&mut self, name: &str, why: &str) {
        self.stage(name, "failed", why);
        self.note(name, "failed", why);
        self.report().await;
    }

    /// Say that it was taken back.
    pub async fn fall_back(&mut self, name: &str, why: &str) {
        self.stage(name, "rolled_back", why);
        self.note(name, "rolled_back", why);
        self.report().await;
    }

    /// Be without it, and say so.
    pub async fn drop_plugin(&mut self, name: &str) {
        self.inventory.plugins.retain(|plugin| plugin.name != name);
        self.inventory.installs.retain(|install| install.name != name);
        self.note(name, "removed", "");
        self.report().await;
    }

    /// Do what is wanted from now on, in a task of its own.
    pub fn obey(mut self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                self.take().await;
                let wanted: Vec<String> =
                    self.desired.plugins.iter().map(|plugin| plugin.name.clone()).collect();
                let gone = self.inventory.plugins.iter().map(|plugin| plugin.name.clone());
                let gone: Vec<String> = gone.filter(|name| !wanted.contains(name)).collect();
                for name in gone {
                    self.drop_plugin(&name).await;
                }
                for name in wanted {
                    self.install(&name).await;
                }
                self.report().await;
            }
        })
    }

    async fn fetch_bundle(&self, wanted: &DesiredPlugin) -> Bundle {
        let image = self.fetch(&wanted.digest, 0).await.unwrap();
        assert_eq!(Digest::of(&image).to_string(), wanted.digest);
        let image = Image::parse(&image).unwrap();
        let part = async |part| self.fetch(&image.layer(part).digest.to_string(), 0).await.unwrap();
        let (manifest, component, wit) =
            (part(Part::Manifest).await, part(Part::Component).await, part(Part::Wit).await);
        Bundle::from_image(&image, manifest, component, wit).unwrap()
    }

    /// A blob from an offset, over the connection of the session.
    pub async fn fetch(&self, digest: &str, offset: u64) -> Result<Vec<u8>, Status> {
        fetch(&self.host, digest, offset).await
    }
}

/// A blob from an offset.
pub(crate) async fn fetch(host: &FakeHost, digest: &str, offset: u64) -> Result<Vec<u8>, Status> {
    let request = FetchRequest { digest: digest.to_owned(), offset };
    let mut client = NodeClient::new(host.channel.clone());
    let mut chunks = soon("a reply", client.fetch(request)).await?.into_inner();
    let (mut bytes, mut total) = (Vec::new(), 0);
    while let Some(chunk) = soon("a chunk", chunks.next()).await {
        let chunk = chunk?;
        assert!(chunk.data.len() <= crate::bundles::blobs::CHUNK);
        total = chunk.total_bytes;
        bytes.extend_from_slice(&chunk.data);
    }
    assert_eq!(offset + bytes.len() as u64, total, "an end that is none");
    Ok(bytes)
}

/// A host that is away.
pub(crate) struct Away {
    host: FakeHost,
    pub inventory: Inventory,
    desired: Desired,
}

impl Away {
    /// It is there again.
    pub async fn back(self, rig: &Rig) -> Managed {
        let host = self.host.at(rig.node).having(self.inventory.clone());
        let connection = host.connect().await.unwrap();
        Managed { host, connection, inventory: self.inventory, desired: self.desired }
    }
}

/// What a node is wanted to run, for tests that look at it from the side.
pub(crate) fn versions(desired: &Desired) -> BTreeMap<&str, &str> {
    desired.plugins.iter().map(|plugin| (plugin.name.as_str(), plugin.version.as_str())).collect()
}
