//! The distinct values of each group, for DISTINCT aggregates.
//!
//! Boundary: counts (group, value) pairs and says which values appear or disappear; what that means is the
//! aggregate's affair.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::DataType;
use hashbrown::HashMap;

use crate::error::Result;
use crate::store::arrangement::KeyIndex;
use crate::store::arrangement::slab::Slab;
use crate::store::arrangement::table::NONE;

use super::state::Rows;

/// The count of an entry that is not in use.
const FRESH: i64 = i64::MIN;

/// Links the entries of a group, so that a group can be dropped without its values being retracted.
#[derive(Debug, Default)]
struct Chain {
    head: Slab<u32>,
    next: Slab<u32>,
    previous: Slab<u32>,
}

impl Chain {
    fn link(&mut self, group: u32, entry: u32) {
        self.head.grow(group as usize + 1, NONE);
        let head = std::mem::replace(self.head.get_mut(group), entry);
        self.next.grow(entry as usize + 1, NONE);
        self.previous.grow(entry as usize + 1, NONE);
        *self.next.get_mut(entry) = head;
        *self.previous.get_mut(entry) = NONE;
        if head != NONE {
            *self.previous.get_mut(head) = entry;
        }
    }

    fn unlink(&mut self, group: u32, entry: u32) {
        let (next, previous) = (*self.next.get(entry), *self.previous.get(entry));
        match previous {
            NONE => *self.head.get_mut(group) = next,
            p => *self.next.get_mut(p) = next,
        }
        if next != NONE {
            *self.previous.get_mut(next) = previous;
        }
    }
}

/// Counts of (group, value).
#[derive(Debug)]
pub struct ValueSet {
    index: KeyIndex,
    counts: Slab<i64>,
    /// How many values with negative counts a group has.
    negative: HashMap<u32, u32>,
    chain: Option<Chain>,
}

impl ValueSet {
    /// No values of this type yet; `droppable`: groups may be dropped with values in them.
    pub fn new(value: DataType, droppable: bool) -> Result<ValueSet> {
        Ok(ValueSet {
            index: KeyIndex::new(vec![DataType::UInt32, value])?,
            counts: Slab::new(),
            negative: HashMap::new(),
            chain: droppable.then(Chain::default),
        })
    }

    /// Counts a batch: returns the rows whose value has appeared (+1) in its group or disappeared (-1).
    pub fn transitions(&mut self, rows: &Rows<'_>) -> Result<(Vec<u32>, Vec<i64>)> {
        let groups: ArrayRef = Arc::new(UInt32Array::from(rows.slots.to_vec()));
        let keys = self.index.prepare(&[groups, Arc::clone(rows.values)], rows.values.len())?;
        let mut entries = Vec::new();
        self.index.find_or_insert(&keys, &mut entries)?;
        self.counts.grow(self.index.slot_bound(), FRESH);
        let (mut picks, mut weights, mut zero) = (vec![], vec![], vec![]);
        for (i, entry) in entries.iter().enumerate() {
            let (group, weight) = (rows.slots[i], rows.weight(i));
            let count = self.counts.get_mut(*entry);
            if *count == FRESH {
                *count = 0;
                if let Some(chain) = &mut self.chain {
                    chain.link(group, *entry);
                }
            }
            let before = *count;
            *count = count.wrapping_add(weight);
            let after = *count;
            if (before > 0) != (after > 0) {
                picks.push(i as u32);
                weights.push(if after > 0 { 1 } else { -1 });
            }
            if (before < 0) != (after < 0) {
                self.count_negative(group, after < 0);
            }
            if after == 0 {
                zero.push((*entry, group));
            }
        }
        zero.sort_unstable();
        zero.dedup();
        zero.retain(|(entry, _)| *self.counts.get(*entry) == 0);
        for (entry, group) in &zero {
            *self.counts.get_mut(*entry) = FRESH;
            if let Some(chain) = &mut self.chain {
                chain.unlink(*group, *entry);
            }
        }
        self.index.remove(&zero.iter().map(|z| z.0).collect::<Vec<_>>())?;
        Ok((picks, weights))
    }

    fn count_negative(&mut self, group: u32, more: bool) {
        let count = self.negative.entry(group).or_default();
        if more {
            *count += 1;
        } else {
            *count -= 1;
            if *count == 0 {
                self.negative.remove(&group);
            }
        }
    }

    /// Whether a group has values that were retracted more often than inserted.
    pub fn is_negative(&self, group: u32) -> bool {
        !self.negative.is_empty() && self.negative.contains_key(&group)
    }

    /// Forgets the values of a group. A group that is not droppable has none left.
    pub fn clear(&mut self, group: u32) -> Result<()> {
        self.negative.remove(&group);
        let Some(chain) = &mut self.chain else { return Ok(()) };
        if group as usize >= chain.head.len() {
            return Ok(());
        }
        let mut at = std::mem::replace(chain.head.get_mut(group), NONE);
        let mut entries = vec![];
        while at != NONE {
            entries.push(at);
            *self.counts.get_mut(at) = FRESH;
            at = *chain.next.get(at);
        }
        self.index.remove(&entries)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let chain = self.chain.as_ref().map_or(0, |c| c.head.bytes() + c.next.bytes() + c.previous.bytes());
        self.index.bytes() + self.counts.bytes() + chain
    }
}
