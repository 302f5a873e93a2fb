//! A line between a host and its master that can be cut.
//!
//! A cut line is what a broken switch looks like from both ends: nothing arrives and nothing is
//! refused. Connections stay open, new ones are taken and never answered. What was under way is
//! delivered once the line is mended, to whoever still listens.

use anyhow::{Context as _, Result};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How soon a cut is felt by a connection on which nothing is said.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    /// The line is gone for good.
    Gone,
}

#[derive(Debug)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
        self.changed.notify_all();
    }

    /// Wait while the line is cut. False when it is gone.
    fn pass(&self) -> bool {
        let state = self.changed.wait_while(self.state(), |state| *state == State::Cut);
        *state.unwrap_or_else(PoisonError::into_inner) == State::Whole
    }
}

/// A line to one address. Dropping it ends all connections over it.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    line: Arc<Line>,
}

impl Link {
    /// A line to `target`, which need not listen yet.
    ///
    /// # Errors
    /// If no port is to be had.
    pub fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening for a line")?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line { state: Mutex::new(State::Whole), changed: Condvar::new() });
        let accepting = line.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if *accepting.state() == State::Gone {
                    return;
                }
                let (Ok(stream), line) = (stream, accepting.clone()) else { continue };
                thread::spawn(move || {
                    // Who can't be reached is hung up on, as a machine without that listener does.
                    if line.pass()
                        && let Ok(target) = TcpStream::connect(target)
                    {
                        carry(&line, &stream, &target);
                    }
                });
            }
        });
        Ok(Link { address, line })
    }

    /// Where to connect instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing gets through.
    pub fn cut(&self) {
        self.line.set(State::Cut);
    }

    /// Mend it.
    pub fn mend(&self) {
        self.line.set(State::Whole);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.line.set(State::Gone);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Carry both ways until both have ended.
fn carry(line: &Line, one: &TcpStream, other: &TcpStream) {
    for stream in [one, other] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(TICK));
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(line, one, other));
        copy(line, other, one);
    });
}

fn copy(line: &Line, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = [0; 16 << 10];
    loop {
        let read = from.read(&mut buffer);
        if !line.pass() {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        let whole = match read {
            Ok(0) => false,
            Ok(read) => to.write_all(&buffer[..read]).is_ok(),
            Err(error) => {
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
            }
        };
        if !whole {
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_cut_line_is_silent_and_loses_nothing() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::to(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(link.address()).unwrap();
        let (mut served, _) = server.accept().unwrap();
        let (heard, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut byte = [0];
            while matches!(served.read(&mut byte), Ok(1)) {
                let _ = heard.send(byte[0]);
            }
        });
        client.write_all(b"a").unwrap();
        assert_eq!(hears.recv_timeout(Duration::from_secs(10)), Ok(b'a'));
        link.cut();
        client.write_all(b"b").unwrap();
        assert_eq!(hears.recv_timeout(Duration::from_millis(200)), Err(mpsc::RecvTimeoutError::Timeout));
        link.mend();
        assert_eq!(hears.recv_timeout(Duration::from_secs(10)), Ok(b'b'));
        drop(link);
        assert_eq!(
            hears.recv_timeout(Duration::from_secs(10)),
            Err(mpsc::RecvTimeoutError::Disconnected),
            "the end of the line ends what went over it"
        );
    }
}
