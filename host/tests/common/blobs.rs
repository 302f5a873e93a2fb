//! What a master has for hosts to fetch, and how it may fail to deliver it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use windlass_bundle::{Bundle, Part, oci::LAYERS};
use windlass_proto::v1::{Chunk, FetchRequest};

const CHUNK: usize = 64 << 10;

/// How blobs are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Whole,
    /// The first stream of a blob larger than this ends with an error after so many bytes.
    CutOnce(usize),
    /// Streams of larger blobs stop there and say nothing more, until delivery changes.
    Stop(usize),
    /// A bit of the last byte is another one.
    Altered,
}

pub struct Blobs {
    blobs: Mutex<BTreeMap<String, Vec<u8>>>,
    pub delivery: watch::Sender<Delivery>,
    /// What was asked for: digest and offset.
    pub asked: watch::Sender<Vec<(String, u64)>>,
}

impl Default for Blobs {
    fn default() -> Self {
        Blobs {
            blobs: Mutex::default(),
            delivery: watch::channel(Delivery::Whole).0,
            asked: watch::channel(Vec::new()).0,
        }
    }
}

impl Blobs {
    pub fn put(&self, bytes: &[u8]) -> String {
        let digest = windlass_types::Digest::of(bytes).to_string();
        self.blobs.lock().unwrap().insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// All parts of a bundle.
    pub fn put_bundle(&self, bundle: &Bundle) {
        self.put(bundle.image().manifest());
        for part in LAYERS {
            self.put(bundle.part(part));
        }
    }

    pub fn remove(&self, digest: &str) {
        self.blobs.lock().unwrap().remove(digest);
    }

    /// Offsets that a part of a bundle was asked from.
    pub fn offsets(&self, bundle: &Bundle, part: Part) -> Vec<u64> {
        let digest = bundle.image().layer(part).digest.to_string();
        self.asked.borrow().iter().filter(|(asked, _)| *asked == digest).map(|(_, offset)| *offset).collect()
    }

    pub fn fetch(
        self: &Arc<Self>,
        request: FetchRequest,
    ) -> Result<Response<ReceiverStream<Result<Chunk, Status>>>, Status> {
        self.asked.send_modify(|asked| asked.push((request.digest.clone(), request.offset)));
        let blob = self.blobs.lock().unwrap().get(&request.digest).cloned();
        let mut blob = blob.ok_or_else(|| Status::not_found("this master has no such blob"))?;
        let total_bytes = blob.len() as u64;
        let delivery = *self.delivery.borrow();
        if delivery == Delivery::Altered
            && let Some(last) = blob.last_mut()
        {
            *last ^= 1;
        }
        let offset = usize::try_from(request.offset).unwrap();
        if offset > blob.len() {
            return Err(Status::out_of_range("it ends before"));
        }
        let end = match delivery {
            Delivery::CutOnce(end) | Delivery::Stop(end) if end < blob.len() => Some(end.max(offset)),
            _ => None,
        };
        if matches!(delivery, Delivery::CutOnce(_)) && end.is_some() {
            self.delivery.send_replace(Delivery::Whole);
        }
        let (tx, rx) = mpsc::channel(2);
        let mut changes = self.delivery.subscribe();
        tokio::spawn(async move {
            for data in blob[offset..end.unwrap_or(blob.len())].chunks(CHUNK) {
                let chunk = Chunk { data: data.to_vec().into(), total_bytes };
                if tx.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
            match (delivery, end) {
                (Delivery::CutOnce(_), Some(_)) => {
                    let _ = tx.send(Err(Status::unavailable("cut"))).await;
                }
                (Delivery::Stop(_), Some(end)) => {
                    tokio::select! {
                        _ = changes.wait_for(|now| *now != delivery) => {}
                        () = tx.closed() => return,
                    }
                    for data in blob[end..].chunks(CHUNK) {
                        let chunk = Chunk { data: data.to_vec().into(), total_bytes };
                        if tx.send(Ok(chunk)).await.is_err() {
                            return;
                        }
                    }
                }
                _ => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}
