//! What is to be written to a socket, in order. Knows no protocol.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::session::stream::Stream;

/// Bytes accepted for writing that the socket has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) bytes: Vec<u8>,
    sent: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Writes at once what the socket takes, and keeps the rest. Order is kept: nothing overtakes what is queued.
    pub(super) fn write(&mut self, stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> std::io::Result<()> {
        let mut rest = bytes;
        while self.is_empty() && !rest.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => rest = rest.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.bytes.extend_from_slice(rest);
        Ok(())
    }

    /// Writes what is queued. Ready when nothing is left.
    pub(super) fn flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, self.rest()))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(count);
            if self.sent >= self.bytes.len() {
                *self = Self::default();
            }
        }
        if stream.is_tls() {
            // TLS may hold encrypted bytes back.
            return Pin::new(stream).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }
}
