//! How far the rows of a partition see: what has to be at hand to evaluate a row, and which rows a change reaches.
//!
//! The two are one: a row that looks back over others is reached by changes of those. Frames that begin or end with
//! the partition see everything on that side; what they take from there is a summary, and rows behind a change are
//! reached only as long as the summary differs.
//!
//! Boundary: positions in sequences; nothing is evaluated here.

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;

use super::range::{Key, RangeEdge, key};
use super::sequence::{RowRef, Sequence};
use super::summary::{Summarizer, Summed};
use crate::error::{Error, Result};
use crate::expr::window::{Frame, FrameBound, FrameExclude, FrameUnits, WindowCall, WindowKind};
use crate::operator::rows::RowCodec;
use crate::zset::key::RowEncoder;

/// Rows between two changes that are sooner evaluated than told apart.
const NEAR: usize = if cfg!(test) { 1 } else { 64 };

/// How far a row sees to one side.
#[derive(Debug, Clone)]
enum Extent {
    /// This many rows.
    Rows(usize),
    /// Its peers and this many groups.
    Groups(usize),
    /// Rows inside of this edge.
    Within(RangeEdge),
    /// As far as this edge, beyond which its frame goes on.
    Until(RangeEdge),
    /// This many rows whose column is not NULL.
    Known(usize, usize),
}

/// What the result takes from a whole side of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    /// The number of rows.
    Count,
    /// The number of groups of peers.
    Groups,
    /// The summary of the call.
    Summary,
    /// This many rows at the partition's edge.
    Edge(usize),
    /// Anything.
    All,
}

/// How far one call sees.
#[derive(Debug, Clone, Default)]
struct Sight {
    before: Vec<Extent>,
    after: Vec<Extent>,
    start: Vec<Far>,
    end: Vec<Far>,
}

/// How far the calls of an operator see.
#[derive(Debug)]
pub(super) struct Sights {
    calls: Vec<Sight>,
    order: Option<(RowEncoder, SortOptions)>,
}

/// The rows to hold for evaluating some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    pub first: usize,
    pub end: usize,
    pub head: usize,
    pub tail: usize,
}

/// The same place between rows in two versions of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cut {
    pub old: usize,
    pub new: usize,
}

impl Cut {
    fn min(self, other: Cut) -> Cut {
        Cut { old: self.old.min(other.old), new: self.new.min(other.new) }
    }
    fn max(self, other: Cut) -> Cut {
        Cut { old: self.old.max(other.old), new: self.new.max(other.new) }
    }
}

fn number(value: &ScalarValue) -> Result<usize> {
    match value {
        ScalarValue::Int64(Some(v)) => Ok(usize::try_from(*v).unwrap_or(0)),
        _ => Err(Error::internal("a frame offset that is not a number")),
    }
}

impl Sight {
    fn of(call: &WindowCall, summed: &Summed, order: Option<(&DataType, SortOptions)>) -> Result<Sight> {
        use WindowKind::{CumeDist, DenseRank, Lag, Lead, Ntile, PercentRank, Rank, RowNumber};
        let mut sight = Sight::default();
        let peers = |sight: &mut Sight| {
            sight.before.push(Extent::Groups(0));
            sight.after.push(Extent::Groups(0));
        };
        match &call.kind {
            RowNumber => sight.start.push(Far::Count),
            Rank | DenseRank | PercentRank | CumeDist => {
                peers(&mut sight);
                sight.start.push(if call.kind == DenseRank { Far::Groups } else { Far::Count });
                if matches!(call.kind, PercentRank | CumeDist) {
                    sight.end.push(Far::Count);
                }
            }
            Ntile => {
                sight.start = vec![Far::Count, Far::Edge(1)];
                sight.end.push(Far::Count);
            }
            Lag | Lead => sight.shifted(call),
            _ => {
                if matches!(call.frame.exclude, FrameExclude::Group | FrameExclude::Ties) {
                    peers(&mut sight);
                }
                sight.local(&call.frame, order)?;
                sight.far(call, summed);
            }
        }
        Ok(sight)
    }

    fn shifted(&mut self, call: &WindowCall) {
        let Some(distance) = call.distance else {
            (self.start, self.end) = (vec![Far::All], vec![Far::All]);
            return;
        };
        let back = (call.kind == WindowKind::Lag) == (distance >= 0);
        let n = usize::try_from(distance.unsigned_abs()).unwrap_or(usize::MAX);
        let extent = match call.args.first() {
            Some(column) if call.ignore_nulls => Extent::Known(n, *column),
            _ => Extent::Rows(n),
        };
        if back { self.before.push(extent) } else { self.after.push(extent) }
    }

    /// What the ends of a frame see near the row.
    fn local(&mut self, frame: &Frame, order: Option<(&DataType, SortOptions)>) -> Result<()> {
        for (bound, end) in [(&frame.start, false), (&frame.end, true)] {
            let (value, preceding) = match bound {
                FrameBound::CurrentRow => {
                    if frame.units != FrameUnits::Rows {
                        let side = if end { &mut self.after } else { &mut self.before };
                        side.push(Extent::Groups(0));
                    }
                    continue;
                }
                FrameBound::Preceding(v) => (v, true),
                FrameBound::Following(v) => (v, false),
                _ => continue,
            };
            let extent = match frame.units {
                FrameUnits::Rows => Extent::Rows(number(value)?),
                FrameUnits::Groups => {
                    self.before.push(Extent::Groups(0));
                    self.after.push(Extent::Groups(0));
                    Extent::Groups(number(value)?)
                }
                FrameUnits::Range => {
                    let (data_type, options) =
                        order.ok_or_else(|| Error::internal("a RANGE frame without ORDER BY"))?;
                    let edge = RangeEdge::new(data_type, options.descending, value, preceding, end)?;
                    // NULLs see their peers.
                    self.before.push(Extent::Groups(0));
                    self.after.push(Extent::Groups(0));
                    if preceding == end { Extent::Until(edge) } else { Extent::Within(edge) }
                }
            };
            if preceding { self.before.push(extent) } else { self.after.push(extent) }
        }
        Ok(())
    }

    /// What frames without bounds see of the whole side.
    fn far(&mut self, call: &WindowCall, summed: &Summed) {
        let from_start = call.frame.start == FrameBound::UnboundedPreceding;
        let to_end = call.frame.end == FrameBound::UnboundedFollowing;
        let anywhere = call.ignore_nulls || call.frame.exclude != FrameExclude::NoOthers;
        let distance = call.distance.and_then(|d| usize::try_from(d).ok());
        let (start, end) = match &call.kind {
            WindowKind::FirstValue | WindowKind::LastValue | WindowKind::NthValue if anywhere => {
                (Some(Far::All), Some(Far::All))
            }
            WindowKind::FirstValue => (Some(Far::Edge(1)), None),
            WindowKind::LastValue => (None, Some(Far::Edge(1))),
            WindowKind::NthValue => {
                let start = distance.map_or(Far::All, Far::Edge);
                (Some(start), if from_start && start != Far::All { None } else { Some(Far::All) })
            }
            _ if matches!(summed, Summed::Not) => (Some(Far::All), Some(Far::All)),
            _ => (Some(Far::Summary), Some(Far::Summary)),
        };
        self.start.extend(start.filter(|_| from_start));
        self.end.extend(end.filter(|_| to_end));
    }

    /// Whether the result takes the summary of the whole partition.
    fn whole(&self) -> bool {
        self.start.contains(&Far::Summary) && self.end.contains(&Far::Summary)
    }
}

impl Sights {
    /// Of calls over rows of a schema.
    pub fn new(
        calls: &[(WindowCall, Summed)],
        schema: &SchemaRef,
        order: &[(usize, SortOptions)],
    ) -> Result<Sights> {
        let single = match order {
            [(column, options)] => Some((schema.field(*column).data_type(), *options)),
            _ => None,
        };
        let calls = calls.iter().map(|(c, s)| Sight::of(c, s, single)).collect::<Result<_>>()?;
        let order = match single {
            Some((t, o)) => Some((RowEncoder::with_options([(t.clone(), o)])?, o)),
            None => None,
        };
        Ok(Sights { calls, order })
    }

    /// The ORDER BY value of a row, and whether NULLs come first.
    fn key(&self, row: RowRef<'_>) -> Result<(Key, bool)> {
        let (encoder, options) =
            self.order.as_ref().ok_or_else(|| Error::internal("a RANGE frame without ORDER BY"))?;
        let column = encoder.decode_bytes([row.peers()])?;
        Ok((key(&column[0], 0)?, options.nulls_first))
    }

    /// The position of the first row for which `before` does not hold; NULLs lie where the order puts them.
    fn edge(&self, rows: &Sequence, before: impl Fn(Key) -> bool) -> usize {
        rows.partition_point(|row| match self.key(row) {
            Ok((Key::Null, nulls_first)) => nulls_first,
            Ok((key, _)) => before(key),
            Err(_) => false,
        })
    }

    /// What has to be at hand to evaluate these rows.
    pub fn hold(
        &self,
        rows: &Sequence,
        range: std::ops::Range<usize>,
        known: &KnownScan<'_>,
    ) -> Result<Hold> {
        let mut hold = Hold { first: range.start, end: range.end, head: 0, tail: 0 };
        if range.is_empty() {
            return Ok(hold);
        }
        let (Some(low), Some(high)) = (rows.at(range.start), rows.at(range.end.saturating_sub(1))) else {
            return Ok(hold);
        };
        for sight in &self.calls {
            for extent in &sight.before {
                let first = match extent {
                    Extent::Rows(n) => range.start.saturating_sub(*n),
                    Extent::Groups(n) => {
                        let start = rows.peers_start(low.peers());
                        if *n == 0 {
                            start
                        } else {
                            rows.group_start(rows.groups_before(start).saturating_sub(*n))
                        }
                    }
                    Extent::Known(n, column) => known.back(rows, range.start, *n, *column)?,
                    Extent::Within(edge) | Extent::Until(edge) => match self.key(low)?.0 {
                        Key::Null => range.start,
                        base => {
                            // A frame that goes on beyond its end has its last row before it.
                            let within = matches!(extent, Extent::Within(_));
                            let first = self.edge(rows, |k| edge.contains(k, base) != within);
                            first.saturating_sub(usize::from(!within)).min(range.start)
                        }
                    },
                };
                hold.first = hold.first.min(first);
            }
            for extent in &sight.after {
                let end = match extent {
                    Extent::Rows(n) => range.end.saturating_add(*n),
                    Extent::Groups(n) => {
                        let end = rows.peers_end(high.peers());
                        if *n == 0 { end } else { rows.group_start(rows.groups_before(end) + n) }
                    }
                    Extent::Known(n, column) => known.forth(rows, range.end, *n, *column)?,
                    Extent::Within(edge) | Extent::Until(edge) => match self.key(high)?.0 {
                        Key::Null => range.end,
                        base => {
                            let within = matches!(extent, Extent::Within(_));
                            self.edge(rows, |k| edge.contains(k, base) == within) + usize::from(!within)
                        }
                    },
                };
                hold.end = hold.end.max(end);
            }
            for far in &sight.start {
                match far {
                    Far::Edge(n) => hold.head = hold.head.max(*n),
                    Far::All => hold.first = 0,
                    _ => {}
                }
            }
            for far in &sight.end {
                match far {
                    Far::Edge(n) => hold.tail = hold.tail.max(*n),
                    Far::All => hold.end = rows.len(),
                    _ => {}
                }
            }
        }
        hold.end = hold.end.min(rows.len());
        hold.head = hold.head.min(hold.first);
        hold.tail = hold.tail.min(rows.len() - hold.end);
        Ok(hold)
    }

    /// The rows whose results a change of row `changed` may reach, in one of the versions, as far as rows see.
    fn reached(&self, rows: &Sequence, changed: RowRef<'_>, known: &KnownScan<'_>) -> Result<(usize, usize)> {
        let (own_start, own_end) = (rows.lower_bound(changed.bytes), rows.upper_bound(changed.bytes));
        let (mut low, mut high) = (own_start, own_end);
        for sight in &self.calls {
            // Rows behind that look back.
            for extent in &sight.before {
                let end = match extent {
                    Extent::Rows(n) => own_end.saturating_add(*n),
                    Extent::Groups(n) => {
                        let end = rows.peers_end(changed.peers());
                        if *n == 0 { end } else { rows.group_start(rows.groups_before(end) + n) }
                    }
                    Extent::Known(n, column) => known.forth(rows, own_end, *n, *column)?,
                    Extent::Within(edge) => match self.key(changed)?.0 {
                        Key::Null => own_end,
                        value => self.edge_from(rows, own_end, |k| edge.contains(value, k)),
                    },
                    // As far as frames end before the next row.
                    Extent::Until(edge) => match rows.at(own_end) {
                        None => rows.len(),
                        Some(next) => {
                            let next = self.key(next)?.0;
                            self.edge_from(rows, own_end, |k| !edge.contains(next, k))
                        }
                    },
                };
                high = high.max(end);
            }
            for extent in &sight.after {
                let start = match extent {
                    Extent::Rows(n) => own_start.saturating_sub(*n),
                    Extent::Groups(n) => {
                        let start = rows.peers_start(changed.peers());
                        if *n == 0 {
                            start
                        } else {
                            rows.group_start(rows.groups_before(start).saturating_sub(*n))
                        }
                    }
                    Extent::Known(n, column) => known.back(rows, own_start, *n, *column)?,
                    Extent::Within(edge) => match self.key(changed)?.0 {
                        Key::Null => own_start,
                        value => self.edge(rows, |k| !edge.contains(value, k)).min(own_start),
                    },
                    // As far as frames begin behind the last row.
                    Extent::Until(edge) => match own_start.checked_sub(1).and_then(|last| rows.at(last)) {
                        None => 0,
                        Some(last) => {
                            let last = self.key(last)?.0;
                            self.edge(rows, |k| edge.contains(last, k)).min(own_start)
                        }
                    },
                };
                low = low.min(start);
            }
        }
        Ok((low, high.min(rows.len())))
    }

    /// Like `edge`, where rows before `from` are before it.
    fn edge_from(&self, rows: &Sequence, from: usize, before: impl Fn(Key) -> bool) -> usize {
        let Some(first) = rows.at(from) else { return from };
        let start = first.bytes;
        rows.partition_point(|row| {
            row.bytes < start
                || match self.key(row) {
                    Ok((Key::Null, nulls_first)) => nulls_first,
                    Ok((key, _)) => before(key),
                    Err(_) => false,
                }
        })
    }

    /// Pairs of ranges of rows whose results may differ between two versions; elsewhere rows and results are the same.
    /// `changed` are the rows whose counts differ, in order.
    pub fn regions(
        &self,
        old: &Sequence,
        new: &Sequence,
        changed: &[(Box<[u8]>, usize)],
        summarizer: &Summarizer,
        known: &KnownScan<'_>,
    ) -> Result<Vec<(Cut, Cut)>> {
        let (start, end) = (Cut { old: 0, new: 0 }, Cut { old: old.len(), new: new.len() });
        if self.all_differ(old, new, summarizer)? {
            return Ok(vec![(start, end)]);
        }
        let mut regions: Vec<(Cut, Cut)> = vec![];
        for (bytes, order) in changed {
            let row = RowRef { bytes, order: *order, count: 1 };
            let mut low = end;
            let mut high = start;
            for version in [old, new] {
                let (from, to) = self.reached(version, row, known)?;
                low = low.min(match version.at(from) {
                    Some(first) if from < version.len() => {
                        Cut { old: old.lower_bound(first.bytes), new: new.lower_bound(first.bytes) }
                    }
                    _ => end,
                });
                high = high.max(match to.checked_sub(1).and_then(|last| version.at(last)) {
                    Some(last) => Cut { old: old.upper_bound(last.bytes), new: new.upper_bound(last.bytes) },
                    None => start,
                });
            }
            let own = Cut { old: old.lower_bound(bytes), new: new.lower_bound(bytes) };
            low = low.min(own);
            high = high.max(Cut { old: old.upper_bound(bytes), new: new.upper_bound(bytes) });
            let joined = match regions.last() {
                Some((_, last)) => {
                    low.old < last.old + NEAR
                        || low.new < last.new + NEAR
                        || !self.same_before(old, new, *last, summarizer)?
                        || !self.same_behind(old, new, low, summarizer)?
                }
                None => false,
            };
            match regions.last_mut() {
                Some(last) if joined => *last = (last.0.min(low), last.1.max(high)),
                _ => regions.push((low, high)),
            }
        }
        if let Some(first) = regions.first_mut()
            && !self.same_behind(old, new, first.0, summarizer)?
        {
            first.0 = start;
        }
        if let Some(last) = regions.last_mut()
            && !self.same_before(old, new, last.1, summarizer)?
        {
            last.1 = self.settled(old, new, last.1, summarizer)?;
        }
        // Reaching back may have run into the region before.
        let mut merged: Vec<(Cut, Cut)> = vec![];
        for (low, high) in regions {
            match merged.last_mut() {
                Some(last) if low.old < last.1.old || low.new < last.1.new => {
                    *last = (last.0.min(low), last.1.max(high));
                }
                _ => merged.push((low, high)),
            }
        }
        Ok(merged)
    }

    /// Whether something that every row takes from the whole partition has changed.
    fn all_differ(&self, old: &Sequence, new: &Sequence, summarizer: &Summarizer) -> Result<bool> {
        if old.len() == 0 || new.len() == 0 {
            return Ok(true);
        }
        for (i, sight) in self.calls.iter().enumerate() {
            if sight.whole()
                && old.summary(0..old.len(), summarizer)?[i] != new.summary(0..new.len(), summarizer)?[i]
            {
                return Ok(true);
            }
            let edge = |fars: &[Far]| {
                fars.iter().find_map(|f| if let Far::Edge(n) = f { Some(*n) } else { None }).unwrap_or(0)
            };
            let (head, tail) = (edge(&sight.start), edge(&sight.end));
            let differ = old.len() != new.len() && sight.end.contains(&Far::Count)
                || sight.start.contains(&Far::All) && sight.end.contains(&Far::All)
                || rows_of(old, 0..head) != rows_of(new, 0..head)
                || rows_of(old, old.len().saturating_sub(tail)..old.len())
                    != rows_of(new, new.len().saturating_sub(tail)..new.len());
            if differ {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether rows behind a cut take the same from what is before it in both versions.
    fn same_before(&self, old: &Sequence, new: &Sequence, cut: Cut, summarizer: &Summarizer) -> Result<bool> {
        for (i, sight) in self.calls.iter().enumerate() {
            for far in sight.start.iter().filter(|_| !sight.whole()) {
                let same = match far {
                    Far::Count => cut.old == cut.new,
                    Far::Groups => old.groups_before(cut.old) == new.groups_before(cut.new),
                    Far::Summary => {
                        old.summary(0..cut.old, summarizer)?[i] == new.summary(0..cut.new, summarizer)?[i]
                    }
                    Far::Edge(_) => true,
                    Far::All => false,
                };
                if !same {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether rows before a cut take the same from what is behind it in both versions.
    fn same_behind(&self, old: &Sequence, new: &Sequence, cut: Cut, summarizer: &Summarizer) -> Result<bool> {
        for (i, sight) in self.calls.iter().enumerate() {
            for far in sight.end.iter().filter(|_| !sight.whole()) {
                let same = match far {
                    Far::Summary => {
                        old.summary(cut.old..old.len(), summarizer)?[i]
                            == new.summary(cut.new..new.len(), summarizer)?[i]
                    }
                    Far::All => false,
                    _ => true,
                };
                if !same {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The first place from `cut` on, behind the last change, where both versions are the same again: sums that differ
    /// go on differing, but a running minimum is the same from the first less value on.
    fn settled(&self, old: &Sequence, new: &Sequence, cut: Cut, summarizer: &Summarizer) -> Result<Cut> {
        let end = Cut { old: old.len(), new: new.len() };
        let near = |e: &Extent| matches!(e, Extent::Rows(0) | Extent::Groups(0));
        let extremes_only = self.calls.iter().enumerate().all(|(i, sight)| {
            sight.start.is_empty()
                || sight.start.iter().all(|f| *f == Far::Summary)
                    && sight.before.iter().all(near)
                    && matches!(summarizer.summed(i), Summed::Extreme(..))
        });
        if !extremes_only {
            return Ok(end);
        }
        let rest = end.new - cut.new;
        let (mut low, mut high) = (0, rest);
        while low < high {
            let middle = (low + high) / 2;
            let at = Cut { old: cut.old + middle, new: cut.new + middle };
            if self.same_extremes(old, new, at, summarizer)? { high = middle } else { low = middle + 1 }
        }
        // Not between copies of a row, and with the peers that share a frame.
        let Some(row) = new.at(cut.new + low) else { return Ok(end) };
        let (o, n) = (old.peers_end(row.peers()), new.peers_end(row.peers()));
        Ok(Cut { old: o.max(cut.old), new: n.max(cut.new) })
    }

    fn same_extremes(
        &self,
        old: &Sequence,
        new: &Sequence,
        cut: Cut,
        summarizer: &Summarizer,
    ) -> Result<bool> {
        let (a, b) = (old.summary(0..cut.old, summarizer)?, new.summary(0..cut.new, summarizer)?);
        let same = |(i, sight): (usize, &Sight)| sight.start.is_empty() || a[i].extreme == b[i].extreme;
        Ok(self.calls.iter().enumerate().all(same))
    }
}

fn rows_of(rows: &Sequence, range: std::ops::Range<usize>) -> Vec<(&[u8], usize)> {
    let mut found = vec![];
    rows.visit(range, |row| found.push((row.bytes, row.count)));
    found
}

/// Looks for rows whose column is not NULL.
pub(super) struct KnownScan<'a> {
    /// Decodes rows.
    pub codec: &'a RowCodec,
}

impl KnownScan<'_> {
    /// The position of the `n`th such row before a position; 0 for none.
    fn back(&self, rows: &Sequence, position: usize, n: usize, column: usize) -> Result<usize> {
        let (mut left, mut end, mut step) = (n, position.min(rows.len()), 64);
        while left > 0 && end > 0 {
            let start = end.saturating_sub(step);
            let known = self.known(rows, start..end, column)?;
            for (i, known) in known.iter().enumerate().rev() {
                left -= usize::from(*known);
                if left == 0 {
                    return Ok(start + i);
                }
            }
            (end, step) = (start, (step * 2).min(8192));
        }
        Ok(end)
    }

    /// The position behind the `n`th such row from a position on.
    fn forth(&self, rows: &Sequence, position: usize, n: usize, column: usize) -> Result<usize> {
        let (mut left, mut start, mut step) = (n, position, 64);
        while left > 0 && start < rows.len() {
            let end = (start + step).min(rows.len());
            let known = self.known(rows, start..end, column)?;
            for (i, known) in known.iter().enumerate() {
                left -= usize::from(*known);
                if left == 0 {
                    return Ok(start + i + 1);
                }
            }
            (start, step) = (end, (step * 2).min(8192));
        }
        Ok(start)
    }

    fn known(&self, rows: &Sequence, range: std::ops::Range<usize>, column: usize) -> Result<Vec<bool>> {
        let mut bytes: Vec<&[u8]> = vec![];
        rows.visit(range, |row| bytes.extend(std::iter::repeat_n(row.bytes, row.count)));
        let batch = self.codec.decode(bytes.into_iter())?;
        let nulls = batch.column(column).logical_nulls();
        Ok((0..batch.num_rows()).map(|i| nulls.as_ref().is_none_or(|n| n.is_valid(i))).collect())
    }
}
