//! Bytes of messages: the `pgwire` crate's structs written into our buffer, data messages written in place, and
//! message bodies read field by field.
//!
//! Boundary: bytes only. Text is checked to be UTF-8 here and never repaired. [`Body`] reads what clients send, because
//! the crate's decoders panic on bodies that end early, take a missing terminator for an empty string and
//! replace what is not UTF-8; [`Message`] writes rows and COPY data, which the crate would copy twice.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::Message as Encode;
use pgwire::messages::response::CommandComplete;

use super::errors::protocol;
use crate::error::Result;
use crate::types::binary::utf8;

/// Writes a message of the crate. One that the crate refuses (a value longer than clients take) is left out.
pub fn put(message: &impl Encode, out: &mut Vec<u8>) {
    let mut bytes = BytesMut::with_capacity(message.message_length() + 1);
    match message.encode(&mut bytes) {
        Ok(()) => out.extend_from_slice(&bytes),
        Err(e) => tracing::error!("a message cannot be sent: {e}"),
    }
}

/// A string as the crate's messages take it: a NUL inside would end it early and is left out.
pub fn text(s: &str) -> String {
    if s.contains('\0') { s.replace('\0', "") } else { s.to_string() }
}

/// A data message being written; its length is filled in by [`Message::end`].
pub struct Message<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Message<'a> {
    /// Starts a message of a type.
    pub fn new(kind: u8, out: &'a mut Vec<u8>) -> Message<'a> {
        out.push(kind);
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        Message { out, start }
    }
    /// Appends a byte.
    pub fn u8(&mut self, v: u8) {
        self.out.push(v);
    }
    /// Appends a 16-bit integer.
    pub fn i16(&mut self, v: i16) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }
    /// Appends a 32-bit integer.
    pub fn i32(&mut self, v: i32) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }
    /// Appends a terminated string; a NUL inside would end it early and is left out.
    pub fn cstr(&mut self, s: &str) {
        if s.contains('\0') {
            self.out.extend(s.bytes().filter(|b| *b != 0));
        } else {
            self.out.extend_from_slice(s.as_bytes());
        }
        self.out.push(0);
    }
    /// The buffer, to append a body by other means.
    pub fn body(&mut self) -> &mut Vec<u8> {
        self.out
    }
    /// Ends the message.
    pub fn end(self) {
        let len = (self.out.len() - self.start) as i32;
        self.out[self.start..self.start + 4].copy_from_slice(&len.to_be_bytes());
    }
}

/// Writes a message without a body.
pub fn write_bare(kind: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind, 0, 0, 0, 4]);
}

/// Writes CommandComplete.
pub fn write_tag(tag: &str, out: &mut Vec<u8>) {
    // The usual ones in place; what is odd is the crate's to judge.
    if tag.len() < 256 && !tag.contains('\0') {
        let mut message = Message::new(b'C', out);
        message.cstr(tag);
        message.end();
    } else {
        put(&CommandComplete::new(text(tag)), out);
    }
}

/// Reads the fields of a message body; whatever does not fit is 08P01.
pub struct Body(pub Bytes);

impl Body {
    fn need(&self, n: usize) -> Result<()> {
        if self.0.remaining() < n { Err(protocol("insufficient data left in message")) } else { Ok(()) }
    }
    /// A byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }
    /// A 16-bit integer.
    pub fn i16(&mut self) -> Result<i16> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }
    /// A 32-bit integer.
    pub fn i32(&mut self) -> Result<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }
    /// A count of things that take at least `least` bytes each.
    pub fn count(&mut self, least: usize) -> Result<usize> {
        let n = self.i16()? as u16 as usize;
        self.need(n * least)?;
        Ok(n)
    }
    /// `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<Bytes> {
        self.need(n)?;
        Ok(self.0.split_to(n))
    }
    /// A terminated string, as bytes.
    pub fn raw_cstr(&mut self) -> Result<Bytes> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(|| protocol("invalid string in message"))?;
        let s = self.0.split_to(end);
        self.0.advance(1);
        Ok(s)
    }
    /// A terminated string.
    pub fn cstr(&mut self) -> Result<String> {
        Ok(utf8(&self.raw_cstr()?)?.to_string())
    }
    /// Nothing may be left.
    pub fn end(&self) -> Result<()> {
        if self.0.has_remaining() { Err(protocol("invalid message format")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_message_carries_its_own_length() {
        let mut out = Vec::new();
        let mut m = Message::new(b'd', &mut out);
        m.u8(b'a');
        m.i16(-1);
        m.end();
        write_tag("a\0b", &mut out);
        assert_eq!(out, b"d\0\0\0\x07a\xff\xffC\0\0\0\x07ab\0");
    }

    #[test]
    fn a_message_that_the_crate_refuses_leaves_no_bytes() {
        let mut out = Vec::new();
        write_tag(&"x".repeat(40_000), &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn bodies_that_end_early_or_late_are_protocol_violations() {
        let mut b = Body(Bytes::from_static(b"abc"));
        assert_eq!(b.raw_cstr().unwrap_err().kind(), ErrorKind::ProtocolViolation);
        assert!(b.i32().is_err());
        assert!(b.end().is_err());
        assert!(Body(Bytes::from_static(&[0xff, 0xff, 0])).count(1).is_err());
        let mut b = Body(Bytes::from_static(b"\xff\0"));
        assert_eq!(b.cstr().unwrap_err().kind(), ErrorKind::InvalidEncoding);
    }
}
