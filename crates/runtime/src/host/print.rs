//! What a plugin prints, as lines of the log.
//!
//! The streams are ours instead of a pipe to the host's log: they never block, keep at most one
//! line, and a plugin that prints without end costs nothing but its own processor time.

use super::Serving;
use crate::{
    secrets::Redactor,
    trace::{MAX_LINE_BYTES, Recorder},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    io::BufRead as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// Bytes a guest may write at once.
const PERMIT: usize = 64 << 10;
/// Lines kept as last words.
const TAIL_LINES: usize = 8;

/// Write a line to the trace of the job and the log of the host.
pub(super) fn log(serving: &Serving, function: &str, level: &str, message: &str) {
    line(&serving.trace, &About::of(serving), function, level, message);
}

/// What a line of the host's log is about.
#[derive(Clone)]
struct About {
    operation: Arc<str>,
    job: Arc<str>,
}

impl About {
    fn of(serving: &Serving) -> About {
        About { operation: serving.operation.as_str().into(), job: serving.job_id.as_str().into() }
    }
}

fn line(trace: &Recorder, about: &About, function: &str, level: &str, message: &str) {
    let message = &*trace.redactor.text(message);
    if !trace.log(function, level, message) {
        return;
    }
    let About { operation, job } = about;
    // Escaped: a plugin must not forge lines of the host's log or send codes to a terminal.
    let message = crate::trace::clip(&message.escape_debug().to_string(), MAX_LINE_BYTES);
    match level {
        "debug" => tracing::debug!(target: "windlass::plugin", %operation, %job, "{message}"),
        "info" => tracing::info!(target: "windlass::plugin", %operation, %job, "{message}"),
        "warn" => tracing::warn!(target: "windlass::plugin", %operation, %job, "{message}"),
        _ => tracing::error!(target: "windlass::plugin", %operation, %job, "{message}"),
    }
}

/// Standard output and standard error of a call.
pub(super) fn streams(serving: &Serving) -> [Printer; 2] {
    let about = About::of(serving);
    [("stdout", "info"), ("stderr", "warn")].map(|(function, level)| Printer {
        trace: serving.trace.clone(),
        about: about.clone(),
        function,
        level,
        lines: Arc::default(),
    })
}

/// One of the two streams.
#[derive(Clone)]
pub(super) struct Printer {
    trace: Arc<Recorder>,
    about: About,
    function: &'static str,
    level: &'static str,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    /// The line under way, up to its limit.
    partial: Vec<u8>,
    /// More came than is kept of it.
    cut: bool,
    tail: VecDeque<String>,
}

impl Lines {
    fn end(&mut self, redactor: &Redactor) -> String {
        let bytes = redactor.bytes(&self.partial);
        // The end of a line that was cut may be the beginning of a secret.
        let whole = if self.cut { redactor.without_begun(&bytes) } else { &bytes };
        let mut line = String::from_utf8_lossy(whole).into_owned();
        if self.cut {
            line.push('…');
        }
        self.partial.clear();
        self.cut = false;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        line
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = MAX_LINE_BYTES - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }
}

impl Printer {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, bytes: &[u8]) {
        let mut lines = self.lock();
        let mut rest = bytes;
        while !rest.is_empty() {
            let all = rest;
            // The search of the standard library is a fast one. Reading from memory can't fail.
            let read = rest.skip_until(b'\n').unwrap_or(all.len());
            match all[..read].strip_suffix(b"\n") {
                Some(part) => {
                    lines.extend(part);
                    let text = lines.end(&self.trace.redactor);
                    line(&self.trace, &self.about, self.function, self.level, &text);
                }
                None => lines.extend(&all[..read]),
            }
        }
    }

    pub(super) fn flush(&self) {
        let mut lines = self.lock();
        if !lines.partial.is_empty() {
            let text = lines.end(&self.trace.redactor);
            line(&self.trace, &self.about, self.function, self.level, &text);
        }
    }

    /// The last lines.
    pub(super) fn tail(&self) -> String {
        self.lock()
            .tail
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for Printer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::trace::TraceDetail;

    fn printer() -> Printer {
        let about = About { operation: "a.b.c".into(), job: "j".into() };
        Printer {
            trace: Arc::new(Recorder::new(Arc::default())),
            about,
            function: "stderr",
            level: "warn",
            lines: Arc::default(),
        }
    }

    fn lines(printer: &Printer) -> Vec<String> {
        let (entries, _) = printer.trace.take();
        entries
            .into_iter()
            .map(|entry| match entry.detail {
                TraceDetail::Log { message, .. } => message,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn text_becomes_lines_however_it_comes() {
        let printer = printer();
        for part in ["a", "b\nc\n", "\nd", "", "e"] {
            printer.print(part.as_bytes());
        }
        printer.flush();
        printer.flush();
        assert_eq!(printer.tail(), "ab\nc\nde");
        assert_eq!(lines(&printer), ["ab", "c", "", "de"]);
    }

    #[test]
    fn a_line_without_end_is_cut_and_keeps_no_memory() {
        let printer = printer();
        for _ in 0..1000 {
            printer.print(&[b'x'; 4096]);
        }
        assert!(printer.lock().partial.len() <= MAX_LINE_BYTES);
        printer.print(b"\nnext\n");
        let lines = lines(&printer);
        assert!(lines[0].ends_with('…') && lines[0].len() <= MAX_LINE_BYTES + 3);
        assert_eq!(lines[1], "next");
    }
}
