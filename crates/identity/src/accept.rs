//! The accept loop.
//!
//! Handshakes run side by side, each with a limit of time, so a slow or hostile client holds up
//! nobody. Only finished handshakes come out. A connection can be cut from outside at once, which
//! is how revoking a node ends its live session.

use crate::{
    certificate::{CertificateFacts, read_certificate},
    server::ServerTls,
};
use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use tonic::transport::server::Connected;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once. Each costs two signatures; when all are taken, clients wait in
/// the listen queue of the kernel.
const HANDSHAKES: usize = 1024;
/// Finished connections that wait for the server to take them.
const READY: usize = 256;

/// Accepts TLS connections.
#[derive(Debug)]
pub struct TlsListener {
    ready: mpsc::Receiver<Conn>,
    address: SocketAddr,
}

impl TlsListener {
    /// Take over a bound listener. The accept task ends when this value is dropped.
    ///
    /// # Errors
    /// If the listener has no local address.
    pub fn new(listener: TcpListener, tls: &ServerTls) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY);
        tokio::spawn(accept_loop(listener, tls.acceptor(), sender));
        Ok(TlsListener { ready, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. Waits for ever once the accept task has ended, which it does not do by itself.
    pub async fn accept(&mut self) -> Conn {
        match self.ready.recv().await {
            Some(conn) => conn,
            None => std::future::pending().await,
        }
    }

    /// The connections as a stream, as tonic wants them.
    pub fn incoming(self) -> impl tokio_stream::Stream<Item = std::io::Result<Conn>> + Send + 'static {
        tokio_stream::StreamExt::map(tokio_stream::wrappers::ReceiverStream::new(self.ready), Ok)
    }
}

async fn accept_loop(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor, sender: mpsc::Sender<Conn>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let (tcp, address) = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give what is open a moment to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(&acceptor, tcp, address)).await {
                // An error means the server is gone.
                Ok(Ok(conn)) => drop(sender.send(conn).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "handshake failed"),
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
            drop(permit);
        });
    }
}

async fn handshake(
    acceptor: &tokio_rustls::TlsAcceptor,
    tcp: TcpStream,
    address: SocketAddr,
) -> std::io::Result<Conn> {
    tcp.set_nodelay(true)?;
    let io = acceptor.accept(tcp).await?;
    let certificate = match io.get_ref().1.peer_certificates().and_then(|chain| chain.first()) {
        Some(der) => Some(Arc::new(read_certificate(der).map_err(std::io::Error::other)?)),
        None => None,
    };
    let (cut, is_cut) = watch::channel(false);
    let is_cut = Box::pin(async move {
        let mut is_cut = is_cut;
        // The sender lives in `peer`, beside this future: an error means that the connection is going away.
        if is_cut.wait_for(|cut| *cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Ok(Conn { io, peer: PeerInfo { certificate, address, cut: CutHandle(Arc::new(cut)) }, is_cut })
}

/// Cuts one connection.
#[derive(Debug, Clone)]
pub struct CutHandle(Arc<watch::Sender<bool>>);

impl CutHandle {
    /// One that cuts nothing here: the connection ends at another process, which watches its streams.
    pub fn elsewhere() -> Self {
        CutHandle(Arc::new(watch::Sender::new(false)))
    }

    /// End the connection now: reads fail, whatever is under way ends.
    pub fn cut(&self) {
        self.0.send_replace(true);
    }
}

/// Who is at the other end of a connection. tonic puts it in the extensions of each request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The client's certificate, verified; none on listeners that ask for none.
    pub certificate: Option<Arc<CertificateFacts>>,
    /// Its address.
    pub address: SocketAddr,
    /// Ends the connection.
    pub cut: CutHandle,
}

/// A TLS connection that knows its peer.
pub struct Conn {
    io: tokio_rustls::server::TlsStream<TcpStream>,
    peer: PeerInfo,
    is_cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Conn {
    /// Who is at the other end.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }
}

impl Connected for Conn {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if *self.peer.cut.0.borrow() || self.is_cut.as_mut().poll(context).is_ready() {
            // The future must not be polled again once it is ready.
            self.is_cut = Box::pin(std::future::pending());
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
