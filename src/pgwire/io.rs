//! A client's socket: frames in, buffered bytes out, and the watch for a client that has gone.
//!
//! Boundary: knows lengths and types of messages, not their meaning. Memory grows with what arrived, never with
//! what was announced.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::errors::protocol;
use crate::error::Error;

/// What may wait unsent before it is written in the middle of a response.
pub const FLUSH_AT: usize = 64 * 1024;
/// What is read ahead while the client does not take our bytes.
const READ_AHEAD: usize = 16 * 1024 * 1024;
/// Messages that carry no user data are short.
const SMALL_MESSAGE: usize = 10_000;
/// A half-closed socket is given this long to take answers that are just being made.
const HANGUP_GRACE: Duration = Duration::from_millis(400);
const HANGUP_POLL: Duration = Duration::from_millis(200);

/// A message of the client.
pub enum Frame {
    /// Type and body.
    Message(u8, Bytes),
    /// A message beyond the size limit; its bytes were thrown away.
    TooLarge(u8, usize),
}

/// Why no frame came.
pub enum ReadError {
    /// The connection ended.
    Gone,
    /// The client broke the protocol: it is told and the connection ends.
    Fatal(Error),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        ReadError::Gone
    }
}

/// A client's socket with its buffers.
pub struct Io {
    stream: TcpStream,
    input: BytesMut,
    /// Bytes waiting to be sent.
    pub out: Vec<u8>,
    /// How many of them have been written.
    sent: usize,
    max_message: usize,
    /// What of a message beyond the limit is still to be thrown away, and its type and length.
    discard: Option<(usize, u8, usize)>,
}

/// An [`Io`] between two runtimes.
pub struct Detached {
    stream: std::net::TcpStream,
    input: BytesMut,
    out: Vec<u8>,
    sent: usize,
    max_message: usize,
    discard: Option<(usize, u8, usize)>,
}

impl Detached {
    /// The same socket on the runtime that calls this.
    pub fn attach(self) -> io::Result<Io> {
        let Detached { stream, input, out, sent, max_message, discard } = self;
        Ok(Io { stream: TcpStream::from_std(stream)?, input, out, sent, max_message, discard })
    }
}

fn known(kind: u8) -> bool {
    matches!(
        kind,
        b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'F' | b'd' | b'c' | b'f' | b'p'
    )
}

fn may_be_long(kind: u8) -> bool {
    matches!(kind, b'Q' | b'P' | b'B' | b'F' | b'd' | b'f')
}

impl Io {
    /// Takes over an accepted socket.
    pub fn new(stream: TcpStream, max_message: usize) -> Io {
        Io {
            stream,
            input: BytesMut::with_capacity(8 * 1024),
            out: Vec::new(),
            sent: 0,
            max_message,
            discard: None,
        }
    }

    /// Takes the socket off this runtime, to be used on another one.
    pub fn detach(self) -> io::Result<Detached> {
        let Io { stream, input, out, sent, max_message, discard } = self;
        Ok(Detached { stream: stream.into_std()?, input, out, sent, max_message, discard })
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        // Reserving little: the buffer doubles as bytes arrive.
        self.input.reserve(4 * 1024);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(ReadError::Gone),
            _ => Ok(()),
        }
    }

    /// Reads exactly `n` bytes (of a startup packet).
    pub async fn read_exact(&mut self, n: usize) -> Result<Bytes, ReadError> {
        while self.input.len() < n {
            self.fill().await?;
        }
        Ok(self.input.split_to(n).freeze())
    }

    /// Whether a whole message waits in our buffer: what follows now needs no round trip.
    pub fn has_frame(&self) -> bool {
        self.discard.is_none()
            && self.input.first_chunk::<5>().is_some_and(|h| {
                let len = i32::from_be_bytes([h[1], h[2], h[3], h[4]]);
                usize::try_from(len).is_ok_and(|len| self.input.len() > len)
            })
    }

    /// The next message. Safe to drop and call again: bytes stay buffered.
    pub async fn read_frame(&mut self) -> Result<Frame, ReadError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        if let Some((left, kind, len)) = &mut self.discard {
            let n = (*left).min(self.input.len());
            self.input.advance(n);
            *left -= n;
            if *left > 0 {
                return Ok(None);
            }
            let frame = Frame::TooLarge(*kind, *len);
            self.discard = None;
            return Ok(Some(frame));
        }
        let Some(&kind) = self.input.first() else { return Ok(None) };
        if !known(kind) {
            return Err(ReadError::Fatal(protocol(format!("invalid frontend message type {kind}"))));
        }
        let Some(header) = self.input.first_chunk::<5>() else { return Ok(None) };
        let announced = i32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let len = match usize::try_from(announced) {
            Ok(len) if (4..0x4000_0000).contains(&len) && (len <= SMALL_MESSAGE || may_be_long(kind)) => len,
            _ => return Err(ReadError::Fatal(protocol("invalid message length"))),
        };
        if len > self.max_message {
            self.input.advance(5);
            self.discard = Some((len - 4, kind, len));
            return self.take_frame();
        }
        if self.input.len() < len + 1 {
            return Ok(None);
        }
        self.input.advance(5);
        Ok(Some(Frame::Message(kind, self.input.split_to(len - 4).freeze())))
    }

    /// Sends what waits. While the client does not take it, its further messages are read ahead, so that a client
    /// that writes a deep pipeline before it reads anything is not waited for by us as we are by it.
    /// Safe to drop and call again.
    pub async fn flush(&mut self) -> io::Result<()> {
        let Io { stream, input, out, sent, .. } = self;
        let (mut read, mut write) = stream.split();
        let mut ended = false;
        while *sent < out.len() {
            tokio::select! {
                biased;
                n = write.write(&out[*sent..]) => match n? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => *sent += n,
                },
                n = read_more(&mut read, input), if !ended && input.len() < READ_AHEAD => ended = n? == 0,
            }
        }
        out.clear();
        *sent = 0;
        if out.capacity() > 4 * FLUSH_AT {
            out.shrink_to(FLUSH_AT);
        }
        Ok(())
    }

    /// Sends what waits, if it is much.
    pub async fn flush_if_full(&mut self) -> io::Result<()> {
        if self.out.len() >= FLUSH_AT { self.flush().await } else { Ok(()) }
    }

    /// Returns when the client has closed its side; until then what it sends waits in the socket.
    pub async fn hangup(&self) {
        loop {
            match self.stream.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(HANGUP_POLL).await,
                _ => break,
            }
        }
        tokio::time::sleep(HANGUP_GRACE).await;
    }

    /// Ends the connection in good order: sends what waits, then closes our side.
    pub async fn close(&mut self) {
        let farewell = async {
            if self.flush().await.is_ok() {
                let _ = self.stream.shutdown().await;
            }
        };
        // A client that does not read does not hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(2), farewell).await;
    }
}

async fn read_more(read: &mut tokio::net::tcp::ReadHalf<'_>, input: &mut BytesMut) -> io::Result<usize> {
    input.reserve(4 * 1024);
    read.read_buf(input).await
}
