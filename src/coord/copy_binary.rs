//! COPY's binary format on the way in: PGCOPY bytes, cut anywhere, into tuples of values.
//!
//! Boundary: bytes only; which types the values have and where they go is [`super::copy`]'s.

use crate::error::{Error, ErrorKind, Result};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the header's extension.
const HEADER: usize = SIGNATURE.len() + 8;
/// Flags that a reader must understand; none is known.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Cuts the bytes into tuples.
#[derive(Default)]
pub(super) struct Tuples {
    buffer: Vec<u8>,
    /// Where the next tuple begins.
    at: usize,
    header_read: bool,
    ended: bool,
}

/// A tuple: for each value where it lies in [`Tuples::bytes`], `None` for NULL.
pub(super) type Tuple = Vec<Option<std::ops::Range<usize>>>;

impl Tuples {
    /// More bytes. Ranges given before do not hold any more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes that ranges refer to.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The next tuple, if it is there whole.
    pub fn next(&mut self, columns: usize, end: bool) -> Result<Option<Tuple>> {
        if !self.header_read && !self.read_header()? {
            return if end { Err(bad("COPY file signature not recognized")) } else { Ok(None) };
        }
        if self.ended {
            return if self.at < self.buffer.len() {
                Err(bad("received copy data after EOF marker"))
            } else {
                Ok(None)
            };
        }
        match self.tuple(columns)? {
            None if end && self.at < self.buffer.len() => Err(bad("unexpected EOF in COPY data")),
            tuple => Ok(tuple),
        }
    }

    fn read_header(&mut self) -> Result<bool> {
        let known = self.buffer.len().min(SIGNATURE.len());
        if self.buffer[..known] != SIGNATURE[..known] {
            return Err(bad("COPY file signature not recognized"));
        }
        let (Some(flags), Some(extension)) = (self.i32_at(HEADER - 8), self.i32_at(HEADER - 4)) else {
            return Ok(false);
        };
        if flags as u32 & CRITICAL_FLAGS != 0 {
            return Err(bad("unrecognized critical flags in COPY file header"));
        }
        let extension =
            usize::try_from(extension).map_err(|_| bad("invalid COPY file header (wrong length)"))?;
        if self.buffer.len() < HEADER + extension {
            return Ok(false);
        }
        self.at = HEADER + extension;
        self.header_read = true;
        Ok(true)
    }

    fn tuple(&mut self, columns: usize) -> Result<Option<Tuple>> {
        let Some(count) = self.buffer.get(self.at..self.at + 2) else { return Ok(None) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        let mut at = self.at + 2;
        if count == -1 {
            self.ended = true;
            self.at = at;
            return self.next(columns, false);
        }
        if usize::try_from(count) != Ok(columns) {
            return Err(bad(format!("row field count is {count}, expected {columns}")));
        }
        let mut tuple = Vec::with_capacity(columns);
        for _ in 0..columns {
            let Some(len) = self.i32_at(at) else { return Ok(None) };
            at += 4;
            if len == -1 {
                tuple.push(None);
                continue;
            }
            let len = usize::try_from(len).map_err(|_| bad("invalid field size"))?;
            if self.buffer.len() < at + len {
                return Ok(None);
            }
            tuple.push(Some(at..at + len));
            at += len;
        }
        self.at = at;
        Ok(Some(tuple))
    }

    fn i32_at(&self, at: usize) -> Option<i32> {
        let bytes = self.buffer.get(at..)?.first_chunk::<4>()?;
        Some(i32::from_be_bytes(*bytes))
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadCopyFormat, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] =
        b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\x02\0\0\0\0\0\0\0\x02bc\xff\xff";

    fn read(chunk: usize, file: &[u8]) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let mut tuples = Tuples::default();
        let mut all = Vec::new();
        let mut take = |tuples: &mut Tuples, end| -> Result<()> {
            while let Some(tuple) = tuples.next(2, end)? {
                all.push(tuple.into_iter().map(|r| r.map(|r| tuples.bytes()[r].to_vec())).collect());
            }
            Ok(())
        };
        for part in file.chunks(chunk) {
            tuples.push(part);
            take(&mut tuples, false)?;
        }
        take(&mut tuples, true)?;
        Ok(all)
    }

    #[test]
    fn tuples_are_the_same_however_the_bytes_are_cut() {
        let whole = read(FILE.len(), FILE).unwrap();
        assert_eq!(whole, [vec![Some(b"a".to_vec()), None], vec![Some(Vec::new()), Some(b"bc".to_vec())]]);
        for chunk in 1..FILE.len() {
            assert_eq!(read(chunk, FILE).unwrap(), whole);
        }
    }

    #[test]
    fn other_files_and_cut_ones_are_refused() {
        assert!(read(7, b"id,name\n1,x\n").is_err());
        assert!(read(7, &FILE[..FILE.len() - 4]).is_err());
        assert!(read(7, &[FILE, b"more"].concat()).is_err());
        assert!(read(7, b"").is_err());
    }
}
