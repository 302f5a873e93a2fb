//! `windlass:host/output`.
//!
//! No line in the trace: what is written is kept itself.

use super::{State, api::windlass::host::output as wit};
use crate::call::GRACE;
use bytes::Bytes;

/// What one operation may write.
pub const MAX_STREAM_BYTES: u64 = 64 << 20;
/// What is passed on at once.
const PIECE_BYTES: usize = 64 << 10;

impl State {
    /// Pass on what was held back because a secret might have begun there.
    pub(crate) async fn end_output(&mut self) {
        let rest = self.hidden.finish();
        let Some(to) = self.serving.output.as_ref().filter(|_| !rest.is_empty()) else { return };
        // Some bytes: who takes none for so long has gone.
        if tokio::time::timeout(GRACE, to.send(rest.into())).await.is_err() {
            tracing::warn!(operation = %self.serving.operation, "the end of its output was not taken");
        }
    }
}

impl wit::Host for State {
    async fn write(&mut self, data: Vec<u8>) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.check_size("output", data.len())?;
        if self.serving.stop().is_some() {
            return Ok(Err(wit::Error::Cancelled));
        }
        let written = self.written.saturating_add(data.len() as u64);
        if written > MAX_STREAM_BYTES {
            return Ok(Err(wit::Error::Full(MAX_STREAM_BYTES)));
        }
        self.written = written;
        let data = self.hidden.push(data);
        // A test of a plugin does not look at it.
        let Some(to) = &self.serving.output else { return Ok(Ok(())) };
        let mut data = Bytes::from(data);
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(PIECE_BYTES));
            tokio::select! {
                biased;
                () = self.serving.cancel.cancelled() => return Ok(Err(wit::Error::Cancelled)),
                () = tokio::time::sleep_until(self.serving.deadline.into()) => {
                    return Ok(Err(wit::Error::Cancelled));
                }
                sent = to.send(piece) => if sent.is_err() {
                    return Ok(Err(wit::Error::Other("nobody takes it any more".into())));
                }
            }
        }
        Ok(Ok(()))
    }
}
