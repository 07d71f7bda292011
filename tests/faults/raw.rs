//! Bytes to and from the server without any regard for the protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection.
pub struct Raw(pub TcpStream);

/// A message of the protocol.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((body.len() as u32 + 4).to_be_bytes());
    out.extend(body);
    out
}

/// A startup packet.
pub fn startup() -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(b"user\0freshet\0database\0freshet\0\0");
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend(body);
    out
}

impl Raw {
    /// Opens a connection and says nothing.
    pub fn open(address: &str) -> Raw {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        Raw(stream)
    }

    /// Opens a session.
    pub fn session(address: &str) -> Raw {
        let mut raw = Raw::open(address);
        raw.send(&startup());
        raw.read_until(b'Z').expect("a session");
        raw
    }

    /// Sends bytes; the server may have closed the connection already.
    pub fn send(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes));
    }

    /// The next message; `None` at the end of the connection or after the time-out.
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.checked_sub(4)?];
        self.0.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// Reads until a message of this kind.
    pub fn read_until(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (got, body) = self.next()?;
            if got == kind {
                return Some(body);
            }
        }
    }

    /// Reads to the end of the connection; false when it stays open until the time-out.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a time-out");
        let mut sink = [0; 8192];
        loop {
            match self.0.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => {
                    return !matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

/// The SQLSTATE of an ErrorResponse.
pub fn sqlstate(body: &[u8]) -> String {
    let field = body.split(|b| *b == 0).find(|f| f.first() == Some(&b'C')).unwrap_or_default();
    String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned()
}
