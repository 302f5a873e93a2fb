//! What this node is, for targets and for the operator who accepts it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Facts are looked at again this often.
pub const REFRESH: Duration = Duration::from_secs(600);

/// The latest facts.
#[derive(Debug)]
pub struct Facts {
    json: Mutex<Vec<u8>>,
    changed: watch::Sender<u64>,
}

impl Default for Facts {
    fn default() -> Self {
        Facts { json: Mutex::new(collect()), changed: watch::channel(0).0 }
    }
}

impl Facts {
    /// As a JSON object.
    pub fn json(&self) -> Vec<u8> {
        self.json.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes when a fact does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Look again. Reads a few small files of /proc and /sys.
    pub fn refresh(&self) {
        let now = collect();
        let mut json = self.json.lock().unwrap_or_else(PoisonError::into_inner);
        if *json != now {
            *json = now;
            self.changed.send_modify(|version| *version += 1);
        }
    }
}

fn collect() -> Vec<u8> {
    match windlass_probes::Probes::system().facts() {
        Ok(facts) => serde_json::to_vec(&facts).unwrap_or_else(|_| b"{}".to_vec()),
        Err(error) => {
            tracing::warn!(%error, "cannot read the facts of this node");
            b"{}".to_vec()
        }
    }
}
