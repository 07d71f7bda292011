//! Byte strings of varying length, each at a fixed 64-bit place.
//!
//! Boundary: bytes only. Space is given back by whole chunks; [`Arena::wants_rewrite`] says when copying the
//! living strings into a new arena pays.

const BITS: u32 = 20;
const CHUNK: usize = 1 << BITS;

/// The place of no string.
pub const NOWHERE: u64 = u64::MAX;

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    live: usize,
}

/// Append-only chunks of about 1 MiB; a string is its length in 4 bytes and its bytes, never across chunks.
#[derive(Debug, Default)]
pub struct Arena {
    chunks: Vec<Chunk>,
    live: usize,
    held: usize,
}

impl Arena {
    /// Keeps a copy of `value` and returns its place.
    pub fn add(&mut self, value: &[u8]) -> u64 {
        let need = value.len() + 4;
        if self.chunks.last().is_none_or(|c| c.bytes.len() + need > CHUNK) {
            let bytes = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK.max(need)) };
            self.chunks.push(Chunk { bytes, live: 0 });
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let at = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        chunk.bytes.extend_from_slice(value);
        chunk.live += need;
        self.live += need;
        self.held += need;
        (number as u64) << BITS | at as u64
    }

    /// The string at a place that `add` returned and `remove` has not freed.
    #[inline]
    pub fn get(&self, place: u64) -> &[u8] {
        let rest = &self.chunks[(place >> BITS) as usize].bytes[place as usize & (CHUNK - 1)..];
        let len = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        &rest[4..4 + len]
    }

    /// Forgets the string at a place.
    pub fn remove(&mut self, place: u64) {
        let need = self.get(place).len() + 4;
        let number = (place >> BITS) as usize;
        let last = number + 1 == self.chunks.len();
        let chunk = &mut self.chunks[number];
        chunk.live -= need;
        self.live -= need;
        if chunk.live == 0 && !last {
            self.held -= chunk.bytes.len();
            chunk.bytes = Vec::new();
        }
    }

    /// Whether more than half of a noticeable amount is dead.
    pub fn wants_rewrite(&self) -> bool {
        self.held > 4 * CHUNK && self.live * 2 < self.held
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes.capacity()).sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_any_length_come_back_and_dead_chunks_are_freed() {
        let mut arena = Arena::default();
        let long = vec![7_u8; 3 << 20];
        let places: Vec<u64> = (0..100_000_u32).map(|i| arena.add(&i.to_le_bytes().repeat(8))).collect();
        let at = arena.add(&long);
        let empty = arena.add(b"");
        assert_eq!(arena.get(at), &long[..]);
        assert_eq!(arena.get(empty), b"");
        assert_eq!(arena.get(places[77_777]), &77_777_u32.to_le_bytes().repeat(8)[..]);
        let before = arena.bytes();
        places.iter().for_each(|p| arena.remove(*p));
        assert!(arena.bytes() + 3_000_000 < before);
        assert_eq!(arena.get(at), &long[..]);
    }
}
