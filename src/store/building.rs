//! An index that is being built while its partition goes on being written: what happened to the rows meanwhile.
//!
//! Boundary: writers note changes here as they would make them in the index; the builder makes them afterwards, in
//! the same order. What is looked up never comes here.

use super::index::Index;

/// What has happened to a slot.
#[derive(Debug, Clone, Copy)]
enum Change {
    Inserted,
    Ended,
    Dropped,
}

/// The changes since the rows to be indexed were listed.
#[derive(Debug)]
pub(super) struct Building {
    /// The columns, ascending.
    pub(super) columns: Vec<usize>,
    changes: Vec<(Change, u64, u32)>,
}

impl Building {
    pub(super) fn new(columns: Vec<usize>) -> Self {
        Building { columns, changes: Vec::new() }
    }
    /// As [`Index::push_front`].
    pub(super) fn inserted(&mut self, hash: u64, slot: u32) {
        self.changes.push((Change::Inserted, hash, slot));
    }
    /// As [`Index::move_to_back`].
    pub(super) fn ended(&mut self, hash: u64, slot: u32) {
        self.changes.push((Change::Ended, hash, slot));
    }
    /// As [`Index::unlink`].
    pub(super) fn dropped(&mut self, hash: u64, slot: u32) {
        self.changes.push((Change::Dropped, hash, slot));
    }
    /// The changes so far; noting begins anew.
    pub(super) fn take(&mut self) -> Changes {
        Changes(std::mem::take(&mut self.changes))
    }
    pub(super) fn bytes(&self) -> usize {
        self.changes.capacity() * size_of::<(Change, u64, u32)>()
    }
}

/// Changes in their order.
pub(super) struct Changes(Vec<(Change, u64, u32)>);

impl Changes {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
    /// Makes them in the index, which has room for the slots.
    pub(super) fn make_in(self, index: &mut Index) {
        for (change, hash, slot) in self.0 {
            match change {
                Change::Inserted => index.push_front(hash, slot),
                Change::Ended => index.move_to_back(hash, slot),
                Change::Dropped => index.unlink(hash, slot),
            }
        }
    }
}
