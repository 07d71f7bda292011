//! Hash indexes over row slots: from the hash of some columns to the chain of slots that have it.
//!
//! A slot is a row's number for life; where the row lies (chunk, row) may change when chunks are merged. All slots
//! of one hash form a doubly linked chain with the living rows first and the ended ones behind them in the
//! order of their ends: the living ones are found without passing over the dead, however many there are; any slot
//! leaves or moves in constant time, so ten million equal rows cost no more than one.
//!
//! Boundary: hashes and slots; whether two rows are equal is the caller's business, because a chain may also hold
//! rows of another key whose hash has the same low bits.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as TableEntry;

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

const PAGE_BITS: usize = 14;
const PAGE: usize = 1 << PAGE_BITS;
/// A segment of the table is split when it has as many chains: no insert ever moves more than these. Segments fill
/// unevenly enough for their splits to be spread over many epochs.
const SEGMENT: usize = 896;
/// Entries of the directory per segment at most; hashes that were made to collide would want more.
const DIRECTORY_PER_SEGMENT: usize = 64;

/// A vector in pages: grows without moving what is there.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Box<[T]>>,
    len: usize,
    empty: T,
}

impl<T: Copy> Paged<T> {
    pub(super) fn new(empty: T) -> Self {
        Paged { pages: Vec::new(), len: 0, empty }
    }
    #[inline]
    pub(super) fn get(&self, i: u32) -> T {
        self.pages[i as usize >> PAGE_BITS][i as usize & (PAGE - 1)]
    }
    #[inline]
    pub(super) fn get_mut(&mut self, i: u32) -> &mut T {
        &mut self.pages[i as usize >> PAGE_BITS][i as usize & (PAGE - 1)]
    }
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Makes room for indices below `len`. The first page is small: most relations are.
    pub(super) fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        while self.capacity() < len {
            match self.pages.last_mut() {
                Some(only) if only.len() < PAGE => {
                    let mut larger = std::mem::take(only).into_vec();
                    let size = len.next_power_of_two().clamp(64, PAGE);
                    larger.resize(size, self.empty);
                    *only = larger.into_boxed_slice();
                }
                None => {
                    let size = len.next_power_of_two().clamp(64, PAGE);
                    self.pages.push(vec![self.empty; size].into_boxed_slice());
                }
                Some(_) => self.pages.push(vec![self.empty; PAGE].into_boxed_slice()),
            }
        }
    }
    fn capacity(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }
    pub(super) fn bytes(&self) -> usize {
        self.capacity() * size_of::<T>()
    }
}

/// Neighbours in a chain. The head's `prev` is the tail; the tail's `next` is [`NIL`].
#[derive(Debug, Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Chain {
    tag: u32,
    head: u32,
}

/// A part of the table: the chains whose tags agree in their lowest `depth` bits.
#[derive(Debug)]
struct Segment {
    chains: HashTable<Chain>,
    depth: u32,
}

/// Chains by tag in an extendible hash table, and the links of the chains.
#[derive(Debug)]
pub(super) struct Index {
    /// The indexed columns, ascending.
    pub(super) columns: Vec<usize>,
    /// The segment of each value that the lowest bits of a tag may have; its length is a power of two.
    directory: Vec<u32>,
    segments: Vec<Segment>,
    links: Paged<Link>,
}

#[inline]
fn tag_of(hash: u64) -> u32 {
    // Not the top bits: all rows of a worker share some of those.
    hash as u32
}

/// The hash under which a tag lies in its segment: all bits of the tag reach the low ones, because the tags of a
/// segment have their own low bits in common.
#[inline]
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32)
}

impl Index {
    pub(super) fn new(columns: Vec<usize>) -> Self {
        Index {
            columns,
            directory: vec![0],
            segments: vec![Segment { chains: HashTable::new(), depth: 0 }],
            links: Paged::new(Link { prev: NIL, next: NIL }),
        }
    }

    #[inline]
    fn segment_of(&self, tag: u32) -> usize {
        self.directory[tag as usize & (self.directory.len() - 1)] as usize
    }

    /// The chains among which a tag is, with room for one more.
    fn chains_for(&mut self, tag: u32) -> &mut HashTable<Chain> {
        let mut at = self.segment_of(tag);
        while self.segments[at].chains.len() >= SEGMENT && self.split(at, tag) {
            at = self.segment_of(tag);
        }
        &mut self.segments[at].chains
    }

    /// Splits the segment `at`, in which `tag` belongs, by one more bit; false if the directory would be too large.
    fn split(&mut self, at: usize, tag: u32) -> bool {
        let depth = self.segments[at].depth;
        if self.directory.len() == 1 << depth {
            if depth == 31 || self.directory.len() >= DIRECTORY_PER_SEGMENT * self.segments.len() {
                return false;
            }
            self.directory.extend_from_within(..);
        }
        let bit = 1u32 << depth;
        let new = Segment { chains: HashTable::with_capacity(SEGMENT), depth: depth + 1 };
        let old = Segment { chains: HashTable::with_capacity(SEGMENT), depth: depth + 1 };
        let mut halves = [old, new];
        for chain in std::mem::take(&mut self.segments[at].chains) {
            let half = usize::from(chain.tag & bit != 0);
            halves[half].chains.insert_unique(spread(chain.tag), chain, |c| spread(c.tag));
        }
        let [old, new] = halves;
        self.segments[at] = old;
        let number = u32::try_from(self.segments.len()).expect("as many segments as slots, at most");
        self.segments.push(new);
        let first = (tag & (bit - 1) | bit) as usize;
        for entry in (first..self.directory.len()).step_by(bit as usize * 2) {
            self.directory[entry] = number;
        }
        true
    }

    /// First slot of the chain of `hash`, [`NIL`] if there is none.
    #[inline]
    pub(super) fn head(&self, hash: u64) -> u32 {
        let tag = tag_of(hash);
        let chains = &self.segments[self.segment_of(tag)].chains;
        chains.find(spread(tag), |c| c.tag == tag).map_or(NIL, |c| c.head)
    }

    #[inline]
    pub(super) fn next(&self, slot: u32) -> u32 {
        self.links.get(slot).next
    }

    /// The slot before; of the head: the tail.
    #[inline]
    pub(super) fn prev(&self, slot: u32) -> u32 {
        self.links.get(slot).prev
    }

    /// Makes room for slots below `slots`.
    pub(super) fn grow(&mut self, slots: usize) {
        self.links.grow(slots);
    }

    /// Puts a slot first in its chain.
    pub(super) fn push_front(&mut self, hash: u64, slot: u32) {
        let tag = tag_of(hash);
        match self.chains_for(tag).entry(spread(tag), |c| c.tag == tag, |c| spread(c.tag)) {
            TableEntry::Vacant(v) => {
                v.insert(Chain { tag, head: slot });
                *self.links.get_mut(slot) = Link { prev: slot, next: NIL };
            }
            TableEntry::Occupied(mut o) => {
                let head = std::mem::replace(&mut o.get_mut().head, slot);
                let tail = self.links.get(head).prev;
                self.links.get_mut(head).prev = slot;
                *self.links.get_mut(slot) = Link { prev: tail, next: head };
            }
        }
    }

    /// Puts a slot last in its chain.
    pub(super) fn push_back(&mut self, hash: u64, slot: u32) {
        let head = self.head(hash);
        if head == NIL {
            return self.push_front(hash, slot);
        }
        let tail = self.links.get(head).prev;
        self.links.get_mut(tail).next = slot;
        *self.links.get_mut(slot) = Link { prev: tail, next: NIL };
        self.links.get_mut(head).prev = slot;
    }

    /// Takes a slot out of its chain.
    pub(super) fn unlink(&mut self, hash: u64, slot: u32) {
        let tag = tag_of(hash);
        let at = self.segment_of(tag);
        let Ok(mut entry) = self.segments[at].chains.find_entry(spread(tag), |c| c.tag == tag) else {
            debug_assert!(false, "slot {slot} is in no chain");
            return;
        };
        let Link { prev, next } = self.links.get(slot);
        let head = entry.get().head;
        if slot != head {
            self.links.get_mut(prev).next = next;
            let behind = if next == NIL { head } else { next };
            self.links.get_mut(behind).prev = prev;
        } else if next == NIL {
            entry.remove();
        } else {
            self.links.get_mut(next).prev = prev;
            entry.get_mut().head = next;
        }
    }

    /// Moves a slot to the end of its chain.
    pub(super) fn move_to_back(&mut self, hash: u64, slot: u32) {
        if self.links.get(slot).next != NIL {
            self.unlink(hash, slot);
            self.push_back(hash, slot);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().map(|s| s.chains.allocation_size() + size_of::<Segment>()).sum::<usize>()
            + self.directory.len() * size_of::<u32>()
            + self.links.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(index: &Index, hash: u64) -> Vec<u32> {
        let head = index.head(hash);
        let mut slots = Vec::new();
        let mut at = head;
        while at != NIL {
            slots.push(at);
            at = index.next(at);
        }
        if let Some(last) = slots.last() {
            assert_eq!(index.prev(head), *last);
        }
        slots
    }

    #[test]
    fn slots_leave_and_move_from_every_place_of_a_chain() {
        for slot in 0..4 {
            let mut index = Index::new(vec![0]);
            index.grow(8);
            (0..4).for_each(|s| index.push_front(77, s));
            index.push_front(78, 5);
            assert_eq!(chain(&index, 77), vec![3, 2, 1, 0]);
            index.move_to_back(77, slot);
            let mut expected: Vec<_> = (0..4).rev().filter(|s| *s != slot).collect();
            expected.push(slot);
            assert_eq!(chain(&index, 77), expected);
            index.unlink(77, slot);
            index.unlink(77, expected[0]);
            assert_eq!(chain(&index, 77), expected[1..3]);
            index.unlink(77, expected[1]);
            index.unlink(77, expected[2]);
            assert_eq!(chain(&index, 77), Vec::<u32>::new());
            assert_eq!(chain(&index, 78), vec![5]);
        }
    }

    #[test]
    fn every_slot_is_found_however_often_segments_have_been_split() {
        let mut index = Index::new(vec![0]);
        let count = 200_000u32;
        index.grow(count as usize);
        let hash = |slot: u32| (u64::from(slot) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ 0x1234;
        for slot in 0..count {
            index.push_front(hash(slot), slot);
        }
        assert!(index.segments.len() > 200, "{}", index.segments.len());
        assert!(index.segments.iter().all(|s| s.chains.len() <= SEGMENT));
        assert!((0..count).all(|slot| chain(&index, hash(slot)) == [slot]));
        (0..count).step_by(2).for_each(|slot| index.unlink(hash(slot), slot));
        assert!((0..count).all(|slot| chain(&index, hash(slot)).is_empty() == slot.is_multiple_of(2)));
    }

    #[test]
    fn tags_made_to_share_their_low_bits_do_not_blow_up_the_directory() {
        let mut index = Index::new(vec![0]);
        index.grow(4096);
        let hash = |slot: u32| u64::from(slot) << 20;
        (0..4096).for_each(|slot| index.push_front(hash(slot), slot));
        assert!(index.directory.len() <= 128 * index.segments.len());
        assert!((0..4096).all(|slot| chain(&index, hash(slot)) == [slot]));
    }

    #[test]
    fn pages_grow_and_keep_what_they_hold() {
        let mut p = Paged::new(0u64);
        for n in 1..100_000u32 {
            p.grow(n as usize);
            *p.get_mut(n - 1) = u64::from(n);
        }
        assert!((1..100_000u32).all(|n| p.get(n - 1) == u64::from(n)));
        assert!(p.bytes() < 8 * (100_000 + PAGE));
    }
}
