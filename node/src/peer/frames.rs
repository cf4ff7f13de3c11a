//! Frames on a socket: bytes in and out of buffers that are empty while nothing happens and grow
//! with what is under way. Both halves may be dropped between two polls and lose nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::noise::{Opener, Sealer, HEADER, MAC};
use super::session::CloseReason;

/// How many bytes are asked of the socket at least.
const READ_CHUNK: usize = 4096;
/// A buffer that has grown beyond this gives its memory back once it is empty.
const KEEP: usize = 4 * READ_CHUNK;

/// What went over a connection, as its peer's entry shows it.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes written to the socket, handshake aside.
    pub sent: AtomicU64,
    /// Bytes read from the socket, handshake aside.
    pub received: AtomicU64,
    /// How long the last answered ping took, in microseconds; 0 before the first.
    pub ping_micros: AtomicU64,
    /// What the peer's last ping carried.
    last_ping: Mutex<Vec<u8>>,
}

impl Traffic {
    /// A ping came with this payload.
    pub fn pinged(&self, payload: &[u8]) {
        *self.last_ping.lock().unwrap_or_else(PoisonError::into_inner) = payload.to_vec();
    }

    /// The payload of the last ping; empty before the first.
    pub fn last_ping(&self) -> Vec<u8> {
        self.last_ping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The receiving half.
pub struct FrameReader<R> {
    io: R,
    opener: Opener,
    traffic: Arc<Traffic>,
    buffer: Vec<u8>,
    used: usize,
    /// The length of the message whose header has been opened.
    body: Option<usize>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from `io`.
    pub fn new(io: R, opener: Opener, traffic: Arc<Traffic>) -> Self {
        Self { io, opener, traffic, buffer: Vec::new(), used: 0, body: None }
    }

    /// The next message, decrypted.
    ///
    /// # Errors
    /// [`CloseReason`] if the connection is closed or lost, or a frame is not genuine.
    pub async fn next(&mut self) -> Result<Vec<u8>, CloseReason> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.make_room();
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(CloseReason::Closed),
                Ok(read) => self.traffic.received.fetch_add(read as u64, Ordering::Relaxed),
                Err(e) => return Err(CloseReason::Lost(e.to_string())),
            };
        }
    }

    /// Reads and drops whatever still comes, until the peer hangs up.
    pub async fn drain(&mut self) {
        let mut scratch = [0; READ_CHUNK];
        while self.io.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
    }

    /// A message out of what is buffered, if it is all there.
    fn take(&mut self) -> Result<Option<Vec<u8>>, CloseReason> {
        let unread = self.buffer.get(self.used..).unwrap_or_default();
        let Some(len) = self.body else {
            let Some(header) = unread.first_chunk::<HEADER>() else { return Ok(None) };
            self.body = Some(self.opener.length(header)?);
            self.used = self.used.saturating_add(HEADER);
            return self.take();
        };
        let len = len.saturating_add(MAC);
        let Some(body) = unread.get(..len) else { return Ok(None) };
        let message = self.opener.message(body)?;
        self.used = self.used.saturating_add(len);
        self.body = None;
        Ok(Some(message))
    }

    /// Drops what is used up and makes room for what is missing.
    fn make_room(&mut self) {
        self.buffer.drain(..self.used.min(self.buffer.len()));
        self.used = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(KEEP);
        }
        let frame = self.body.map_or(HEADER, |len| len.saturating_add(MAC));
        self.buffer.reserve(frame.saturating_sub(self.buffer.len()).max(READ_CHUNK));
    }
}

/// The sending half. What waits is sealed into one buffer and leaves in one write.
pub struct FrameWriter<W> {
    io: W,
    sealer: Sealer,
    traffic: Arc<Traffic>,
    buffer: Vec<u8>,
    sent: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames to `io`.
    pub fn new(io: W, sealer: Sealer, traffic: Arc<Traffic>) -> Self {
        Self { io, sealer, traffic, buffer: Vec::new(), sent: 0 }
    }

    /// Puts a message into the buffer; [`FrameWriter::flush`] sends it.
    ///
    /// # Errors
    /// [`CloseReason::Frame`] if it is longer than a frame can be.
    pub fn push(&mut self, message: &[u8]) -> Result<(), CloseReason> {
        Ok(self.sealer.seal(message, &mut self.buffer)?)
    }

    /// Sends what is in the buffer.
    ///
    /// # Errors
    /// [`CloseReason`] if the connection is lost, or the peer takes nothing for `patience`.
    pub async fn flush(&mut self, patience: Duration) -> Result<(), CloseReason> {
        while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match timeout(patience, self.io.write(rest)).await {
                Err(_) => return Err(CloseReason::NotReading),
                Ok(Err(e)) => return Err(CloseReason::Lost(e.to_string())),
                Ok(Ok(0)) => return Err(CloseReason::Closed),
                Ok(Ok(sent)) => {
                    self.sent = self.sent.saturating_add(sent);
                    self.traffic.sent.fetch_add(sent as u64, Ordering::Relaxed);
                }
            }
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEEP);
        self.sent = 0;
        Ok(())
    }

    /// Tells the peer that nothing more will come.
    pub async fn shutdown(&mut self) {
        // A connection that is lost already needs no farewell.
        let _ = self.io.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bitcoin::secp256k1::{Secp256k1, SecretKey};

    use super::super::noise::{Initiator, Responder};
    use super::*;

    /// Takes what is written, noting how much each time, never more than so much.
    struct Writes(Vec<usize>, usize);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.push(taken);
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A sealer and its opener at the other end.
    fn keys() -> (Sealer, Opener) {
        let key = |n| SecretKey::from_slice(&[n; 32]).unwrap();
        let them = key(2).public_key(&Secp256k1::signing_only());
        let (initiator, act_one) = Initiator::start(&key(1), &them, key(3)).unwrap();
        let (responder, act_two) = Responder::start(&key(2), key(4), &act_one).unwrap();
        let (ours, act_three) = initiator.finish(&act_two).unwrap();
        (ours.sealer, responder.finish(&act_three).unwrap().0.opener)
    }

    #[tokio::test]
    async fn what_waits_leaves_in_one_write() {
        let mut writer = FrameWriter::new(Writes(vec![], usize::MAX), keys().0, Arc::default());
        for _ in 0..5 {
            writer.push(b"hello").unwrap();
        }
        writer.flush(Duration::MAX).await.unwrap();
        writer.flush(Duration::MAX).await.unwrap();
        assert_eq!(writer.io.0, [5 * (18 + 5 + 16)]);
        writer.io = Writes(vec![], 30);
        writer.push(b"hello").unwrap();
        writer.flush(Duration::MAX).await.unwrap();
        assert_eq!(writer.io.0, [30, 9]);
        assert_eq!(writer.traffic.sent.load(Ordering::Relaxed), 6 * 39);
    }

    #[tokio::test]
    async fn buffers_grow_for_a_large_message_and_shrink_after_it() {
        let (mut sealer, opener) = keys();
        let mut sent = Vec::new();
        sealer.seal(&[1; 65_535], &mut sent).unwrap();
        sealer.seal(b"small", &mut sent).unwrap();
        let mut reader = FrameReader::new(&sent[..], opener, Arc::default());
        assert_eq!(reader.buffer.capacity(), 0);
        assert_eq!(reader.next().await.unwrap(), [1; 65_535]);
        assert!(reader.buffer.capacity() >= 65_535);
        assert_eq!(reader.next().await.unwrap(), b"small");
        assert_eq!(reader.next().await, Err(CloseReason::Closed));
        assert!(reader.buffer.capacity() <= KEEP + READ_CHUNK);
        let mut writer = FrameWriter::new(Writes(vec![], 9999), keys().0, Arc::default());
        writer.push(&[1; 65_535]).unwrap();
        writer.flush(Duration::MAX).await.unwrap();
        assert!(writer.buffer.capacity() <= KEEP);
    }
}
