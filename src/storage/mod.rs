//! Bytes that survive: the data directory, the write-ahead log with its base snapshot, the metadata store.
//!
//! Boundary: knows epochs, Z-sets and files. It knows neither the catalog (DDL is opaque bytes) nor what the
//! log's entries mean; when to sync is decided by the caller (group commit: append many, sync once).
//!
//! # The data directory, byte by byte
//! ```text
//! <data dir>/
//!   format                     "freshet 1\n": the version of everything below
//!   lock                       "<pid>\n<host>\n", held with flock(2) while a server runs
//!   log/
//!     00000000000000000001.log  segment: records from this sequence number on
//!     00000000000000000420.base base snapshot: everything before sequence number 420
//!     *.tmp                     base snapshot being written; removed when the log is opened
//!   catalog/                   sled ([`meta`]); can be rebuilt from log/ and may be deleted while stopped
//! ```
//! All integers are little endian. A segment or base file begins with a header of 40 bytes:
//! ```text
//!  0  8  magic: "FRSHLOG1" or "FRSHBAS1"
//!  8  8  sequence number: of the first record (segment), of the first record not contained (base)
//! 16  8  epoch: 0 (segment), of the snapshot (base)
//! 24  4  checksum of the record before that sequence number (0 before the first)
//! 28  8  reserved, 0
//! 36  4  CRC-32C of bytes 0..36
//! ```
//! and goes on with frames until its end:
//! ```text
//!  0  4  length of the payload
//!  4  4  CRC-32C of bytes 8.. of the frame and of the length: the record's checksum
//!  8  8  sequence number: one more than that of the frame before
//! 16  8  the highest sequence number known to be durable when this frame was written
//! 24  4  checksum of the frame before (in a base file: 0 for its first frame)
//! 28  …  payload: epoch u64, number of entries u32, entries
//! ```
//! An entry is its kind (u8), then
//! ```text
//! 1  DDL            length u32, bytes
//! 2  table change   object u32, flags u8 (1: the last column is the weight), length u32, Arrow IPC stream
//! 3  binding        object u32, watermark i64, length u32, JSON bytes
//! 4  end of base    (only as the last frame of a base file)
//! ```
//!
//! # What is synced when
//! - A segment's header and the directory are synced before its first record is written; a segment is synced
//!   before the next one is created. So only the last segment can have an unsynced tail.
//! - [`log::Log::sync`] syncs the last segment (fdatasync). A record is durable when the sync after it returned.
//! - A base snapshot is written to `*.tmp`, synced, renamed, and the directory synced; only then are older
//!   segments and bases deleted.
//! - sled's `flush` does not sync on Linux, so [`meta`] syncs the files of its directory itself.
//!
//! # What is assumed of the disk
//! A crash may lose, tear or reorder any bytes that were not synced, and directory entries that were not
//! synced; synced bytes stay. After a failed sync nothing is known about the unsynced bytes, and a second sync
//! may report success without them: so the first failure is final until restart. The frame's "durable" number
//! tells a torn tail from damage: bytes that some later frame knew to be durable cannot have been torn by a
//! crash, so a bad frame before it is corruption and is refused by file and offset; a bad frame that no later
//! frame vouches for is the unsynced tail of a crash and is cut off.

pub mod base;
pub mod check;
pub mod dir;
pub mod fault;
pub mod frame;
pub mod fs;
pub mod log;
pub mod meta;
pub mod record;
