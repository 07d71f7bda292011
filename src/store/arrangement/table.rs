//! Open-addressing tables from a 32-bit hash tag to a 32-bit slot.
//!
//! Boundary: knows tags and slots, not keys. The tag is kept in the entry, so growing never looks at keys,
//! and one cache line answers a probe.

/// No slot.
pub const NONE: u32 = u32::MAX;

const EMPTY: u64 = u64::MAX;
const SHARDS: usize = 256;
/// Up to this many entries one table serves; then it splits into 256.
const SPLIT: usize = 4096;

/// The entries of one shard: `tag << 32 | slot`, linear probing from the low bits of the tag.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<u64>,
    len: usize,
}

impl Table {
    /// The slot of the first entry with this tag, and where it stands.
    #[inline]
    fn first(&self, tag: u32) -> u32 {
        if self.entries.is_empty() {
            return NONE;
        }
        let mask = self.entries.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let e = self.entries[at];
            if e as u32 == NONE || (e >> 32) as u32 == tag {
                return e as u32;
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, tag: u32, mut is: impl FnMut(u32) -> bool) -> u32 {
        if self.entries.is_empty() {
            return NONE;
        }
        let mask = self.entries.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let e = self.entries[at];
            if e as u32 == NONE || ((e >> 32) as u32 == tag && is(e as u32)) {
                return e as u32;
            }
            at = (at + 1) & mask;
        }
    }

    /// `load` in 256ths says how full the table may become.
    fn insert(&mut self, tag: u32, slot: u32, load: usize) {
        if self.entries.is_empty() || self.len >= self.entries.len() * load / 256 {
            self.resize((self.entries.len() * 2).max(8));
        }
        self.place(u64::from(tag) << 32 | u64::from(slot));
        self.len += 1;
    }

    #[inline]
    fn place(&mut self, entry: u64) {
        let mask = self.entries.len() - 1;
        let mut at = (entry >> 32) as usize & mask;
        while self.entries[at] as u32 != NONE {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    fn resize(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; capacity]);
        for e in old {
            if e as u32 != NONE {
                self.place(e);
            }
        }
    }

    /// Removes the entry of `slot` and closes the gap, so that no tombstones pile up.
    fn remove(&mut self, tag: u32, slot: u32) -> bool {
        if self.entries.is_empty() {
            return false;
        }
        let mask = self.entries.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let e = self.entries[at];
            if e as u32 == NONE {
                return false;
            }
            if e as u32 == slot {
                break;
            }
            at = (at + 1) & mask;
        }
        let mut next = at;
        loop {
            next = (next + 1) & mask;
            let e = self.entries[next];
            if e as u32 == NONE {
                break;
            }
            let home = (e >> 32) as usize & mask;
            // The entry may move back only if its home does not lie between the gap and itself.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(at) & mask) {
                self.entries[at] = e;
                at = next;
            }
        }
        self.entries[at] = EMPTY;
        self.len -= 1;
        if self.entries.len() > 64 && self.len * 8 < self.entries.len() {
            self.resize(self.entries.len() / 2);
        }
        true
    }
}

/// A hash index over 256 virtual shards (top 8 bits of the hash), one table while it is small.
#[derive(Debug)]
pub struct ShardedTable {
    tables: Vec<Table>,
    len: usize,
}

impl Default for ShardedTable {
    fn default() -> Self {
        ShardedTable { tables: vec![Table::default()], len: 0 }
    }
}

/// The part of a hash that entries keep: its upper half, whose top bits are the shard.
#[inline]
pub fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl ShardedTable {
    #[inline]
    fn shard(&self, tag: u32) -> usize {
        if self.tables.len() == 1 { 0 } else { (tag >> 24) as usize }
    }

    /// Shards fill up differently far, so that they do not all grow in the same batch.
    fn load(shard: usize) -> usize {
        160 + shard / 4
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// First guess for every hash: the slot of the first entry with an equal tag, or [`NONE`]. The loads are
    /// independent of each other, so the processor overlaps their cache misses.
    pub fn guess(&self, hashes: &[u64], slots: &mut Vec<u32>) {
        slots.clear();
        if let [one] = self.tables.as_slice() {
            slots.extend(hashes.iter().map(|h| one.first(tag_of(*h))));
        } else {
            slots.extend(hashes.iter().map(|h| {
                let tag = tag_of(*h);
                self.tables[(tag >> 24) as usize].first(tag)
            }));
        }
    }

    /// The slot with this tag that `is` accepts, or [`NONE`].
    pub fn find(&self, tag: u32, is: impl FnMut(u32) -> bool) -> u32 {
        self.tables[self.shard(tag)].find(tag, is)
    }

    /// Adds an entry; the caller knows that the key is not there.
    pub fn insert(&mut self, tag: u32, slot: u32) {
        if self.tables.len() == 1 && self.len >= SPLIT {
            self.split();
        }
        let shard = self.shard(tag);
        self.tables[shard].insert(tag, slot, Self::load(shard));
        self.len += 1;
    }

    fn split(&mut self) {
        let one = self.tables.pop().expect("an unsplit index has its one table");
        self.tables.resize_with(SHARDS, Table::default);
        for e in one.entries {
            if e as u32 != NONE {
                let shard = (e >> 56) as usize;
                self.tables[shard].insert((e >> 32) as u32, e as u32, Self::load(shard));
            }
        }
    }

    /// Removes the entry of a slot; says whether it was there.
    pub fn remove(&mut self, tag: u32, slot: u32) -> bool {
        let shard = self.shard(tag);
        let found = self.tables[shard].remove(tag, slot);
        self.len -= usize::from(found);
        found
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|t| t.entries.capacity() * 8).sum::<usize>()
            + self.tables.capacity() * size_of::<Table>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use std::collections::HashMap;

    #[test]
    fn random_inserts_and_removals_agree_with_a_map_even_with_colliding_tags() {
        for (seed, spread) in [(1, u64::MAX), (2, 0xff00_0000_0000_000f), (3, 0x0000_0007_0000_0000)] {
            println!("seed {seed}");
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut table = ShardedTable::default();
            let mut model: HashMap<u32, u64> = HashMap::new();
            for slot in 0..12_000_u32 {
                let hash = rng.random::<u64>() & spread;
                if spread != 0x0000_0007_0000_0000 || slot < 600 {
                    table.insert(tag_of(hash), slot);
                    model.insert(slot, hash);
                }
                if rng.random_bool(0.4)
                    && let Some((&s, &h)) = model.iter().next()
                {
                    assert!(table.remove(tag_of(h), s));
                    assert!(!table.remove(tag_of(h), s));
                    model.remove(&s);
                }
            }
            assert_eq!(table.len(), model.len());
            for (s, h) in &model {
                assert_eq!(table.find(tag_of(*h), |x| x == *s), *s);
                assert_eq!(table.find(tag_of(*h), |_| false), NONE);
            }
        }
    }
}
