//! The rows of a partition in order: a counted B-tree whose versions share their nodes.
//!
//! Rows are bytes that compare as the partition is ordered; their first bytes (`order`) are those of the ORDER BY,
//! which peers share. Positions count copies. A clone is the sequence as it was: changing one of the two copies only
//! the path to the change, so that the state before an epoch is there while the state after it is built.
//!
//! Boundary: knows order, counts and summaries; not what rows mean.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::summary::{Summarizer, Summary};
use crate::error::Result;

/// Rows of a leaf, children of an inner node.
const LEAF_ROWS: usize = 128;
const LEAF_BYTES: usize = 64 * 1024;
const CHILDREN: usize = 32;

/// A row of a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRef<'a> {
    /// All of its bytes.
    pub bytes: &'a [u8],
    /// How many of them belong to ORDER BY.
    pub order: usize,
    /// Its copies.
    pub count: usize,
}

impl<'a> RowRef<'a> {
    /// What peers share.
    pub fn peers(&self) -> &'a [u8] {
        &self.bytes[..self.order]
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    end: u32,
    order: u32,
    count: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Leaf {
    data: Vec<u8>,
    slots: Vec<Slot>,
}

impl Leaf {
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.slots[i - 1].end as usize }
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> RowRef<'_> {
        let slot = self.slots[i];
        RowRef {
            bytes: &self.data[self.start(i)..slot.end as usize],
            order: slot.order as usize,
            count: slot.count as usize,
        }
    }

    /// Number of distinct rows.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn partition_point(&self, before: impl Fn(RowRef<'_>) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            if before(self.row(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn insert(&mut self, at: usize, bytes: &[u8], order: usize, count: u64) {
        let start = self.start(at);
        self.data.splice(start..start, bytes.iter().copied());
        for slot in &mut self.slots[at..] {
            slot.end += bytes.len() as u32;
        }
        self.slots.insert(at, Slot { end: (start + bytes.len()) as u32, order: order as u32, count });
    }

    fn remove(&mut self, at: usize) {
        let range = self.start(at)..self.slots[at].end as usize;
        let len = range.len() as u32;
        self.data.drain(range);
        self.slots.remove(at);
        for slot in &mut self.slots[at..] {
            slot.end -= len;
        }
    }

    /// The second half as a leaf of its own.
    fn split(&mut self) -> Leaf {
        let half = self.len() / 2;
        let cut = self.start(half);
        let mut slots = self.slots.split_off(half);
        slots.iter_mut().for_each(|s| s.end -= cut as u32);
        Leaf { data: self.data.split_off(cut), slots }
    }

    fn too_large(&self) -> bool {
        self.len() > LEAF_ROWS || self.data.len() > LEAF_BYTES && self.len() > 1
    }
}

#[derive(Debug, Clone)]
enum Body {
    Leaf(Leaf),
    Inner(Vec<Arc<Node>>),
}

#[derive(Debug)]
struct Node {
    body: Body,
    copies: usize,
    rows: usize,
    groups: usize,
    bytes: usize,
    summary: OnceLock<Arc<[Summary]>>,
}

impl Clone for Node {
    fn clone(&self) -> Node {
        Node { body: self.body.clone(), summary: OnceLock::new(), ..*self }
    }
}

impl Node {
    fn new(body: Body) -> Node {
        let mut node = Node { body, copies: 0, rows: 0, groups: 0, bytes: 0, summary: OnceLock::new() };
        node.recount();
        node
    }

    fn first(&self) -> RowRef<'_> {
        match &self.body {
            Body::Leaf(leaf) => leaf.row(0),
            Body::Inner(children) => children[0].first(),
        }
    }

    fn last(&self) -> RowRef<'_> {
        match &self.body {
            Body::Leaf(leaf) => leaf.row(leaf.len() - 1),
            Body::Inner(children) => children[children.len() - 1].last(),
        }
    }

    fn recount(&mut self) {
        self.summary = OnceLock::new();
        match &self.body {
            Body::Leaf(leaf) => {
                self.rows = leaf.len();
                self.copies = leaf.slots.iter().map(|s| s.count as usize).sum();
                self.bytes = leaf.data.capacity() + leaf.slots.capacity() * size_of::<Slot>();
                self.groups = (0..leaf.len())
                    .filter(|i| *i == 0 || leaf.row(*i).peers() != leaf.row(*i - 1).peers())
                    .count();
            }
            Body::Inner(children) => {
                self.rows = children.iter().map(|c| c.rows).sum();
                self.copies = children.iter().map(|c| c.copies).sum();
                self.bytes = children.iter().map(|c| c.bytes + size_of::<Node>()).sum();
                let shared = children.windows(2).filter(|w| w[0].last().peers() == w[1].first().peers());
                self.groups = children.iter().map(|c| c.groups).sum::<usize>() - shared.count();
            }
        }
    }

    /// Adds to the count of a row; gives a node that has to stand behind this one. What would be less than no copies
    /// is left in `weight`.
    fn add(&mut self, bytes: &[u8], order: usize, weight: &mut i64) -> Option<Arc<Node>> {
        let split = match &mut self.body {
            Body::Leaf(leaf) => {
                let at = leaf.partition_point(|r| r.bytes < bytes);
                if at < leaf.len() && leaf.row(at).bytes == bytes {
                    let count = (leaf.slots[at].count as i64).saturating_add(*weight);
                    *weight = count.min(0);
                    match u64::try_from(count) {
                        Ok(count @ 1..) => leaf.slots[at].count = count,
                        _ => leaf.remove(at),
                    }
                } else if let Ok(count @ 1..) = u64::try_from(*weight) {
                    *weight = 0;
                    leaf.insert(at, bytes, order, count);
                }
                leaf.too_large().then(|| {
                    // Rows mostly come in order: then leaves stay full.
                    let half = if at + 1 == leaf.len() { split_last(leaf) } else { leaf.split() };
                    Node::new(Body::Leaf(half))
                })
            }
            Body::Inner(children) => {
                let at = children.partition_point(|c| c.first().bytes <= bytes).saturating_sub(1);
                let child = Arc::make_mut(&mut children[at]);
                let new = child.add(bytes, order, weight);
                if child.rows == 0 {
                    children.remove(at);
                } else if let Some(new) = new {
                    children.insert(at + 1, new);
                }
                (children.len() > CHILDREN).then(|| {
                    let keep = if at + 2 == children.len() { children.len() - 1 } else { children.len() / 2 };
                    Node::new(Body::Inner(children.split_off(keep)))
                })
            }
        };
        self.recount();
        split.map(Arc::new)
    }

    /// Whether the rows of the node are all before the place that is sought.
    fn find(&self, before: &impl Fn(RowRef<'_>) -> bool) -> usize {
        match &self.body {
            Body::Leaf(leaf) => {
                let at = leaf.partition_point(before);
                leaf.slots[..at].iter().map(|s| s.count as usize).sum()
            }
            Body::Inner(children) => {
                let at = children.partition_point(|c| before(c.first())).saturating_sub(1);
                let skipped: usize = children[..at].iter().map(|c| c.copies).sum();
                skipped + children[at].find(before)
            }
        }
    }

    fn visit<'a>(&'a self, from: usize, to: usize, see: &mut impl FnMut(RowRef<'a>)) {
        match &self.body {
            Body::Leaf(leaf) => {
                let mut position = 0;
                for i in 0..leaf.len() {
                    if position >= to {
                        break;
                    }
                    let row = leaf.row(i);
                    let (start, end) = (position.max(from), (position + row.count).min(to));
                    if start < end {
                        see(RowRef { count: end - start, ..row });
                    }
                    position += row.count;
                }
            }
            Body::Inner(children) => {
                let mut position = 0;
                for child in children {
                    if position >= to {
                        break;
                    }
                    if position + child.copies > from {
                        child.visit(from.saturating_sub(position), to - position, see);
                    }
                    position += child.copies;
                }
            }
        }
    }

    fn summary(&self, summarizer: &Summarizer) -> Result<Arc<[Summary]>> {
        if let Some(known) = self.summary.get() {
            return Ok(Arc::clone(known));
        }
        let made: Arc<[Summary]> = match &self.body {
            Body::Leaf(leaf) => summarizer.rows((0..leaf.len()).map(|i| leaf.row(i)))?.into(),
            Body::Inner(children) => {
                let mut all = summarizer.nothing();
                for child in children {
                    summarizer.merge(&mut all, &child.summary(summarizer)?);
                }
                all.into()
            }
        };
        Ok(Arc::clone(self.summary.get_or_init(|| made)))
    }

    fn summarize(
        &self,
        from: usize,
        to: usize,
        summarizer: &Summarizer,
        into: &mut Vec<Summary>,
    ) -> Result<()> {
        if from == 0 && to >= self.copies {
            let all = self.summary(summarizer)?;
            summarizer.merge(into, &all);
            return Ok(());
        }
        match &self.body {
            Body::Leaf(_) => {
                let mut rows = vec![];
                self.visit(from, to, &mut |row| rows.push(row));
                let part = summarizer.rows(rows.into_iter())?;
                summarizer.merge(into, &part);
            }
            Body::Inner(children) => {
                let mut position = 0;
                for child in children {
                    if position >= to {
                        break;
                    }
                    if position + child.copies > from {
                        child.summarize(from.saturating_sub(position), to - position, summarizer, into)?;
                    }
                    position += child.copies;
                }
            }
        }
        Ok(())
    }
}

/// The last row as a leaf of its own.
fn split_last(leaf: &mut Leaf) -> Leaf {
    let last = leaf.len() - 1;
    let cut = leaf.start(last);
    let mut slots = leaf.slots.split_off(last);
    slots.iter_mut().for_each(|s| s.end -= cut as u32);
    Leaf { data: leaf.data.split_off(cut), slots }
}

/// The ordered multiset of a partition's rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    root: Option<Arc<Node>>,
}

impl Sequence {
    /// Rows, copies counted.
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |r| r.copies)
    }

    /// Distinct rows.
    pub fn rows(&self) -> usize {
        self.root.as_ref().map_or(0, |r| r.rows)
    }

    /// About what the rows take.
    pub fn bytes(&self) -> usize {
        self.root.as_ref().map_or(0, |r| r.bytes)
    }

    /// Adds to the count of a row and gives what is below zero then, which is the caller's.
    pub fn add(&mut self, bytes: &[u8], order: usize, mut weight: i64) -> i64 {
        let root = self.root.get_or_insert_with(|| Arc::new(Node::new(Body::Leaf(Leaf::default()))));
        let node = Arc::make_mut(root);
        if let Some(sibling) = node.add(bytes, order, &mut weight) {
            let first = std::mem::replace(root, Arc::clone(&sibling));
            *root = Arc::new(Node::new(Body::Inner(vec![first, sibling])));
        }
        if root.rows == 0 {
            self.root = None;
        }
        weight
    }

    /// The position of the first row that is not `before`; rows before it come first.
    pub fn partition_point(&self, before: impl Fn(RowRef<'_>) -> bool) -> usize {
        self.root.as_ref().map_or(0, |r| r.find(&before))
    }

    /// The position of the first row from these bytes on.
    pub fn lower_bound(&self, bytes: &[u8]) -> usize {
        self.partition_point(|r| r.bytes < bytes)
    }

    /// The position behind the rows of these bytes.
    pub fn upper_bound(&self, bytes: &[u8]) -> usize {
        self.partition_point(|r| r.bytes <= bytes)
    }

    /// The position of the first row of these peers.
    pub fn peers_start(&self, peers: &[u8]) -> usize {
        self.partition_point(|r| r.peers() < peers)
    }

    /// The position behind the last row of these peers.
    pub fn peers_end(&self, peers: &[u8]) -> usize {
        self.partition_point(|r| r.peers() <= peers)
    }

    /// Calls `see` with the rows of these positions in order, counts cut to them.
    pub fn visit<'a>(&'a self, range: Range<usize>, mut see: impl FnMut(RowRef<'a>)) {
        if let Some(root) = &self.root
            && range.start < range.end
        {
            root.visit(range.start, range.end, &mut see);
        }
    }

    /// The row at a position.
    pub fn at(&self, position: usize) -> Option<RowRef<'_>> {
        let mut found = None;
        self.visit(position..position + 1, |row| found = Some(row));
        found
    }

    /// How many groups of peers begin before a position.
    pub fn groups_before(&self, position: usize) -> usize {
        let Some(mut node) = self.root.as_deref() else { return 0 };
        let (mut left, mut groups) = (position, 0);
        let mut last: Option<&[u8]> = None;
        loop {
            match &node.body {
                Body::Leaf(leaf) => {
                    for i in 0..leaf.len() {
                        if left == 0 {
                            break;
                        }
                        let row = leaf.row(i);
                        groups += usize::from(last != Some(row.peers()));
                        last = Some(row.peers());
                        left = left.saturating_sub(row.count);
                    }
                    return groups;
                }
                Body::Inner(children) => {
                    let mut next = None;
                    for child in children {
                        if left < child.copies {
                            next = Some(child);
                            break;
                        }
                        groups += child.groups - usize::from(last == Some(child.first().peers()));
                        last = Some(child.last().peers());
                        left -= child.copies;
                    }
                    match next {
                        Some(child) if left > 0 => node = child,
                        _ => return groups,
                    }
                }
            }
        }
    }

    /// The position at which group number `group` (from 0) begins; the length for none.
    pub fn group_start(&self, group: usize) -> usize {
        let Some(mut node) = self.root.as_deref() else { return 0 };
        let (mut left, mut position) = (group, 0);
        // Groups are counted by their first rows; the last row passed tells whether one goes on.
        let mut last: Option<&[u8]> = None;
        loop {
            match &node.body {
                Body::Leaf(leaf) => {
                    for i in 0..leaf.len() {
                        let row = leaf.row(i);
                        if last != Some(row.peers()) {
                            if left == 0 {
                                return position;
                            }
                            left -= 1;
                        }
                        last = Some(row.peers());
                        position += row.count;
                    }
                    return position;
                }
                Body::Inner(children) => {
                    let mut next = None;
                    for child in children {
                        let own = child.groups - usize::from(last == Some(child.first().peers()));
                        if left < own {
                            next = Some(child);
                            break;
                        }
                        left -= own;
                        last = Some(child.last().peers());
                        position += child.copies;
                    }
                    match next {
                        Some(child) => node = child,
                        None => return position,
                    }
                }
            }
        }
    }

    /// The summaries of the rows of these positions.
    pub fn summary(&self, range: Range<usize>, summarizer: &Summarizer) -> Result<Vec<Summary>> {
        let mut all = summarizer.nothing();
        if let Some(root) = &self.root
            && range.start < range.end
        {
            root.summarize(range.start, range.end, summarizer, &mut all)?;
        }
        Ok(all)
    }
}
