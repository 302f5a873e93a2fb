//! What a host says: parsed here, and from here on well formed.
//!
//! A message that makes no sense ends the session only where going on would hide a loss, which is
//! with results. Everything else that is malformed is logged and dropped.

use super::{
    Sessions,
    inventory::{Parsed, inventory},
};
use crate::{
    fleet::{Announced, Inventory, Progress, Session},
    jobs::ResultRecord,
};
use std::{collections::BTreeMap, net::IpAddr};
use tonic::Status;
use windlass_proto::v1::{self, Acknowledge, HostMessage, OutputTaken, host_message, master_message::Kind};
use windlass_types::{NodeId, Outcome, RequestId, TrapReason};

/// Requests in one hello: a journal does not hold more.
const MAX_REQUESTS: usize = 65_536;
pub(super) const MAX_TEXT_BYTES: usize = 1024;
const MAX_PROGRESS_BYTES: usize = 4096;
const MAX_OUTPUT_BYTES: usize = 256 << 10;

pub(super) struct Incoming<'s> {
    pub sessions: &'s Sessions,
    pub session: &'s Session,
    pub address: IpAddr,
}

impl Incoming<'_> {
    /// Handle one message. An error ends the session with it.
    pub async fn handle(&self, message: HostMessage) -> Result<(), Status> {
        let node = self.session.node.id;
        let events = &self.sessions.events;
        let Some(kind) = message.kind else {
            // A kind of a later version.
            return Ok(());
        };
        match kind {
            host_message::Kind::Hello(_) => {
                return Err(Status::invalid_argument("a session has one hello"));
            }
            host_message::Kind::Heartbeat(heartbeat) => self.session.live.answer(heartbeat.answers),
            host_message::Kind::Accepted(message) => {
                if let Some(request) = self.request(&message.request_id) {
                    events.accepted(node, request).await;
                }
            }
            host_message::Kind::Started(message) => {
                if let Some(request) = self.request(&message.request_id) {
                    events.started(node, request).await;
                }
            }
            host_message::Kind::Progress(mut message) => {
                if let Some(request) = self.request(&message.request_id) {
                    cut(&mut message.message, MAX_PROGRESS_BYTES);
                    let percent =
                        message.percent.map(|percent| u8::try_from(percent.min(100)).unwrap_or(100));
                    events.progress(node, request, message.message, percent).await;
                }
            }
            host_message::Kind::Output(message) => self.output(node, message).await?,
            host_message::Kind::Result(message) => self.result(node, message).await?,
            host_message::Kind::WatchReport(message) => self.watch_report(message).await?,
            host_message::Kind::PluginSource(source) => self.sessions.catalog.offer(node, source).await,
            host_message::Kind::Facts(facts) => match crate::enroll::facts(&facts.json) {
                Ok(facts) => self.announce(Some(facts), None, None),
                Err(error) => tracing::warn!(%node, error, "bad facts"),
            },
            host_message::Kind::Inventory(message) => match inventory(message) {
                Ok(Parsed { inventory, progress, changes }) => {
                    self.announce(None, Some(inventory), Some(progress));
                    self.sessions.catalog.look_for(node).await;
                    self.sessions.bundles.changes(node, &self.session.node.name, changes).await;
                }
                Err(error) => tracing::warn!(%node, error, "bad inventory"),
            },
            host_message::Kind::Goodbye(mut message) => {
                cut(&mut message.reason, MAX_TEXT_BYTES);
                return Err(Status::ok(format!("the host says goodbye: {}", message.reason)));
            }
        }
        Ok(())
    }

    fn announce(
        &self,
        facts: Option<BTreeMap<String, serde_json::Value>>,
        inventory: Option<Inventory>,
        progress: Option<Progress>,
    ) {
        let announced = Announced {
            instance: String::new(),
            host_version: None,
            address: self.address.to_canonical().to_string(),
            facts,
            inventory,
            progress,
            sealing_key: None,
        };
        self.session.fleet.observe(self.session.node.id, announced);
    }

    async fn output(&self, node: NodeId, message: v1::Output) -> Result<(), Status> {
        let Some(request) = self.request(&message.request_id) else { return Ok(()) };
        if message.data.len() > MAX_OUTPUT_BYTES {
            return Err(Status::invalid_argument("output has to come in pieces of 256 KiB at most"));
        }
        let kept = self.sessions.events.output(node, request, message.offset, message.data).await;
        let upto = kept.map_err(|error| {
            tracing::error!(%node, %request, %error, "cannot store output");
            Status::unavailable("the master cannot store output now: send it again later")
        })?;
        self.say(Kind::OutputTaken(OutputTaken { request_id: request.to_string(), upto }))
    }

    async fn result(&self, node: NodeId, message: v1::Result) -> Result<(), Status> {
        let Some(request) = self.request(&message.request_id) else { return Ok(()) };
        let record = match result(&message) {
            Ok(record) => record,
            Err(problem) => {
                tracing::warn!(%node, %request, problem, "a result that cannot be read");
                // The host would send it again for ever, so the job gets to know of it instead.
                ResultRecord {
                    outcome: Outcome::Trapped {
                        reason: TrapReason::Contract,
                        message: format!("the host sent a result that cannot be read: {problem}"),
                    },
                    trace: Vec::new(),
                    stats: Default::default(),
                    plugin_digest: None,
                    output_bytes: 0,
                }
            }
        };
        if let Err(error) = self.sessions.events.result(node, request, record).await {
            tracing::error!(%node, %request, %error, "cannot store a result");
            return Err(Status::unavailable("the master cannot store results now: send them again later"));
        }
        // With the queue full the host sends the result again in its next session, to be acknowledged then.
        self.say(Kind::Acknowledge(Acknowledge { request_id: request.to_string() }))
    }

    fn say(&self, kind: Kind) -> Result<(), Status> {
        let sent = self.session.live.outgoing.try_send(Box::new(kind));
        sent.map_err(|_| Status::resource_exhausted("the host does not read its messages"))
    }

    async fn watch_report(&self, message: v1::WatchReport) -> Result<(), Status> {
        let (node, sequence) = (self.session.node.id, message.sequence);
        // The name may have changed since the session began, and a node that is gone has no status.
        let Some(record) = self.session.fleet.node(node) else { return Ok(()) };
        let unknown = match crate::status::parse(message) {
            Ok(report) => self.sessions.status.report(&record, report).await.map_err(|error| {
                tracing::error!(%node, %error, "cannot store what watches found");
                Status::unavailable("the master cannot store results now: send them again later")
            })?,
            Err(problem) => {
                tracing::warn!(%node, problem, "a report of watches that cannot be read");
                // The host would send it again for ever.
                Vec::new()
            }
        };
        let acknowledge = Kind::WatchReportAcknowledged(v1::WatchReportAcknowledged { sequence, unknown });
        // With the queue full the host sends it again in its next session.
        self.session
            .live
            .outgoing
            .try_send(Box::new(acknowledge))
            .map_err(|_| Status::resource_exhausted("the host does not read its messages"))
    }

    fn request(&self, id: &str) -> Option<RequestId> {
        id.parse()
            .inspect_err(|error| tracing::warn!(node = %self.session.node.id, %error, "bad request id"))
            .ok()
    }
}

fn result(message: &v1::Result) -> Result<ResultRecord, String> {
    let bad = |what: &str, error: serde_json::Error| format!("{what}: {error}");
    let json =
        |bytes: &[u8], empty: &'static [u8]| if bytes.is_empty() { empty.to_vec() } else { bytes.to_vec() };
    Ok(ResultRecord {
        output_bytes: message.output_bytes,
        outcome: serde_json::from_slice(&message.outcome_json).map_err(|error| bad("outcome", error))?,
        trace: serde_json::from_slice(&json(&message.trace_json, b"[]"))
            .map_err(|error| bad("trace", error))?,
        stats: match message.stats_json.is_empty() {
            true => Default::default(),
            false => serde_json::from_slice(&message.stats_json).map_err(|error| bad("stats", error))?,
        },
        plugin_digest: match message.plugin_digest.as_str() {
            "" => None,
            digest => Some(digest.parse().map_err(|error| format!("plugin digest: {error}"))?),
        },
    })
}

/// Request ids of a hello. Those that are none cannot be ours.
pub(super) fn request_ids(texts: &[String]) -> Vec<RequestId> {
    texts.iter().take(MAX_REQUESTS).filter_map(|text| text.parse().ok()).collect()
}

/// Cut a text at a character boundary.
pub(crate) fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        let end = (0..=max_bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_parsed_or_refused() {
        let message = v1::Result {
            outcome_json: br#"{"status":"succeeded","value":18446744073709551615}"#.to_vec().into(),
            ..Default::default()
        };
        let record = result(&message).unwrap();
        assert_eq!(record.outcome, Outcome::Succeeded { value: u64::MAX.into() });
        assert!(record.trace.is_empty() && record.plugin_digest.is_none());
        let bad = v1::Result { plugin_digest: "md5:1".into(), ..message };
        assert!(result(&bad).unwrap_err().contains("plugin digest"));
        assert!(result(&v1::Result::default()).unwrap_err().contains("outcome"));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let mut text = "aä".repeat(10);
        cut(&mut text, 5);
        assert_eq!(text, "aäa");
    }
}
