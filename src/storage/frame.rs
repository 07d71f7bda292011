//! Files of checksummed, chained frames: the format of log segments and base snapshots.
//!
//! Boundary: headers, frames and the judgement over damaged bytes; payloads are opaque. Byte layout: [`super`].

use crate::error::{Error, ErrorKind, Result};

/// Length of a file header.
pub const FILE_HEADER: usize = 40;
/// Length of a frame's header.
pub const FRAME_HEADER: usize = 28;
/// Magic of a log segment.
pub const SEGMENT_MAGIC: &[u8; 8] = b"FRSHLOG1";
/// Magic of a base snapshot.
pub const BASE_MAGIC: &[u8; 8] = b"FRSHBAS1";

/// The header of a segment or base file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Sequence number of the first record (segment), or of the first one not contained (base).
    pub seq: u64,
    /// Epoch of the snapshot; 0 for segments.
    pub epoch: u64,
    /// Checksum of the record before `seq`.
    pub prev: u32,
}

impl FileHeader {
    /// The header's bytes.
    pub fn encode(&self, magic: &[u8; 8]) -> [u8; FILE_HEADER] {
        let mut out = [0; FILE_HEADER];
        out[..8].copy_from_slice(magic);
        out[8..16].copy_from_slice(&self.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..28].copy_from_slice(&self.prev.to_le_bytes());
        let crc = crc32c::crc32c(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header of a file with this magic; `None` when it is damaged or of another kind.
    pub fn decode(bytes: &[u8], magic: &[u8; 8]) -> Option<FileHeader> {
        let head = bytes.get(..FILE_HEADER)?;
        if &head[..8] != magic || crc32c::crc32c(&head[..36]) != u32_at(head, 36) {
            return None;
        }
        Some(FileHeader { seq: u64_at(head, 8), epoch: u64_at(head, 16), prev: u32_at(head, 24) })
    }
}

/// Appends a frame to `out`; `payload` writes the payload. Returns the frame's checksum.
pub fn write_frame(
    out: &mut Vec<u8>,
    seq: u64,
    durable: u64,
    prev: u32,
    payload: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<u32> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(&prev.to_le_bytes());
    payload(out)?;
    let len = u32::try_from(out.len() - start - FRAME_HEADER).map_err(|_| {
        Error::new(ErrorKind::ProgramLimit, "a transaction may not write more than 4 GB to the log")
    })?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start + 8..]), &len.to_le_bytes());
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    Ok(crc)
}

/// A frame that was read.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its sequence number.
    pub seq: u64,
    /// The highest sequence number durable when it was written.
    pub durable: u64,
    /// Checksum of the frame before.
    pub prev: u32,
    /// Its own checksum.
    pub crc: u32,
    /// Its content.
    pub payload: &'a [u8],
    /// Offset in the file at which it starts.
    pub offset: usize,
}

impl Frame<'_> {
    /// Offset of the first byte behind it.
    pub fn end(&self) -> usize {
        self.offset + FRAME_HEADER + self.payload.len()
    }
}

/// The frame at `offset`, if there is a whole one whose checksum is right.
pub fn frame_at(bytes: &[u8], offset: usize) -> Option<Frame<'_>> {
    let rest = bytes.get(offset..)?;
    if rest.len() < FRAME_HEADER {
        return None;
    }
    let len = u32_at(rest, 0);
    let body = rest.get(8..FRAME_HEADER.checked_add(len as usize)?)?;
    let crc = u32_at(rest, 4);
    if crc32c::crc32c_append(crc32c::crc32c(body), &len.to_le_bytes()) != crc {
        return None;
    }
    Some(Frame {
        seq: u64_at(rest, 8),
        durable: u64_at(rest, 16),
        prev: u32_at(rest, 24),
        crc,
        payload: &body[FRAME_HEADER - 8..],
        offset,
    })
}

/// Walks the frames of a file from its header on, checking numbers and chain.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    /// Where the next frame starts.
    pub offset: usize,
    /// The sequence number it must have.
    pub seq: u64,
    /// The checksum it must refer to.
    pub prev: u32,
}

impl<'a> Frames<'a> {
    /// Frames behind the file header.
    pub fn new(bytes: &'a [u8], seq: u64, prev: u32) -> Self {
        Frames { bytes, offset: FILE_HEADER, seq, prev }
    }

    /// The next frame; `None` at the end of the file and at the first byte that is not part of the chain
    /// (then [`Frames::offset`] is before the end of the file).
    pub fn next_frame(&mut self) -> Option<Frame<'a>> {
        let frame = frame_at(self.bytes, self.offset)?;
        if frame.seq != self.seq || frame.prev != self.prev {
            return None;
        }
        self.offset = frame.end();
        self.seq += 1;
        self.prev = frame.crc;
        Some(frame)
    }

    /// Whether all bytes were read.
    pub fn at_end(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// Whether a frame behind the bad place knows that the bad frame was durable: then it was not torn by a
    /// crash but damaged later.
    pub fn damaged(&self) -> bool {
        let mut at = self.offset + 1;
        while at + FRAME_HEADER <= self.bytes.len() {
            let (seq, durable) = (u64_at(self.bytes, at + 8), u64_at(self.bytes, at + 16));
            // The numbers rule out nearly every place before the checksum is computed.
            let plausible = seq > self.seq && seq - self.seq <= self.bytes.len() as u64 && durable < seq;
            if plausible && durable >= self.seq && frame_at(self.bytes, at).is_some() {
                return true;
            }
            at += 1;
        }
        false
    }
}

/// The error for damaged bytes.
pub fn corrupted(file: &std::path::Path, offset: usize, what: &str) -> Error {
    Error::new(
        ErrorKind::DataCorrupted,
        format!("file \"{}\" is corrupted at offset {offset}: {what}", file.display()),
    )
    .with_hint("Restore the data directory from a copy, or check the disk it lies on.")
}

/// Little-endian u32 at `at`; the caller has checked the length.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Little-endian u64 at `at`; the caller has checked the length.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
