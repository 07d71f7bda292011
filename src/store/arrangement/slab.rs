//! A column of state indexed by slot that grows without ever moving what it holds.
//!
//! Boundary: a container, nothing else.

const BITS: u32 = 16;
const CHUNK: usize = 1 << BITS;

/// A growing column in chunks of 65,536 values: growing copies at most one chunk, so that no batch waits
/// for a hundred megabytes to move. Only the first chunk grows by doubling, which keeps small states small.
#[derive(Debug, Clone)]
pub struct Slab<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    /// An empty column; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a slot below `len`.
    #[inline]
    pub fn get(&self, slot: u32) -> &T {
        &self.chunks[(slot >> BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    /// The value of a slot below `len`, to change it.
    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[(slot >> BITS) as usize][slot as usize & (CHUNK - 1)]
    }

    /// The last chunk, which has room for a value.
    fn last_chunk(&mut self) -> &mut Vec<T> {
        if self.chunks.last().is_none_or(|c| c.len() == CHUNK) {
            let chunk = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK) };
            self.chunks.push(chunk);
        }
        self.chunks.last_mut().expect("a chunk was just made sure of")
    }

    /// Grows by one value.
    pub fn push(&mut self, value: T) {
        self.last_chunk().push(value);
        self.len += 1;
    }

    /// Bytes allocated, without what values own elsewhere.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.capacity() * size_of::<T>()).sum::<usize>()
            + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T: Clone> Slab<T> {
    /// Grows to at least `len` values.
    pub fn grow(&mut self, len: usize, value: T) {
        while self.len < len {
            let missing = len - self.len;
            let last = self.last_chunk();
            let n = (CHUNK - last.len()).min(missing);
            last.resize(last.len() + n, value.clone());
            self.len += n;
        }
    }

    /// Sets a slot, growing by one when it is the first unused one.
    #[inline]
    pub fn put(&mut self, slot: u32, value: T) {
        if (slot as usize) < self.len {
            *self.get_mut(slot) = value;
        } else {
            self.grow(slot as usize + 1, value);
        }
    }

    /// The values of several slots.
    pub fn gather(&self, slots: &[u32]) -> Vec<T> {
        slots.iter().map(|s| self.get(*s).clone()).collect()
    }
}

impl<T> std::ops::Index<usize> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, slot: usize) -> &T {
        &self.chunks[slot >> BITS][slot & (CHUNK - 1)]
    }
}

impl<T> std::ops::IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, slot: usize) -> &mut T {
        &mut self.chunks[slot >> BITS][slot & (CHUNK - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_across_chunks() {
        let mut s = Slab::new();
        for i in 0..200_000_u32 {
            s.put(i, u64::from(i) * 3);
        }
        s.grow(200_010, 7);
        assert_eq!(s.len(), 200_010);
        assert!((0..200_000_u32).all(|i| *s.get(i) == u64::from(i) * 3));
        assert_eq!(s.gather(&[200_009, 65_536]), vec![7, 65_536 * 3]);
    }
}
