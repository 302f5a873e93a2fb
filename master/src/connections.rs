//! A limit on open connections.

use futures_util::Stream;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::transport::server::Connected;
use windlass_identity::{Conn, PeerInfo};

/// Connections while there is room: the next one is taken when an earlier one has ended.
pub(crate) fn limited(
    connections: impl Stream<Item = std::io::Result<Conn>> + Send + 'static,
    slots: Arc<tokio::sync::Semaphore>,
) -> impl Stream<Item = std::io::Result<Slotted>> + Send + 'static {
    futures_util::StreamExt::filter_map(connections, move |conn| {
        let slots = slots.clone();
        async move {
            let slot = slots.acquire_owned().await.ok()?;
            Some(conn.map(|conn| Slotted { conn, _slot: slot }))
        }
    })
}

/// A connection that counts.
#[derive(Debug)]
pub(crate) struct Slotted {
    conn: Conn,
    _slot: tokio::sync::OwnedSemaphorePermit,
}

impl Connected for Slotted {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.conn.connect_info()
    }
}

impl tokio::io::AsyncRead for Slotted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.conn).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Slotted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.conn).poll_write(context, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.conn).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(context)
    }
}
