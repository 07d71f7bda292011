//! The one meaning of window calls: results of some rows of a partition, from a section of its rows in order.
//!
//! A section holds the rows around the ones that are evaluated, some of the partition's first and last rows, and for
//! calls whose frames reach farther, summaries of what lies before and behind.
//!
//! Boundary: rows are in order and complete where the calls look; errors are given per row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, Int64Array, UInt32Array,
    new_empty_array,
};
use arrow::compute::{interleave, take};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Int32Type, i256};

use super::frame::{Edge, Frames, Pieces, Section};
use super::generic;
use super::summary::{Integers, Summary, Summed, float_at, merge_extreme, takes_part};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::window::{Frame, FrameExclude, WindowCall, WindowKind};
use crate::operator::reduce::float::ExactSum;
use crate::zset::key::RowEncoder;

/// What lies before and behind the body, for one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    pub before: Summary,
    pub behind: Summary,
}

/// Errors of some of the evaluated rows.
pub(super) type RowErrors = Vec<(u32, Error)>;

/// The results of a call for the rows at these positions, all in the body.
pub(super) fn evaluate(
    call: &WindowCall,
    summed: &Summed,
    section: &Section<'_>,
    around: &Around,
    rows: Range<usize>,
) -> Result<(ArrayRef, RowErrors)> {
    use WindowKind::{
        Avg, Count, CumeDist, DenseRank, FirstValue, Lag, LastValue, Lead, Max, Min, NthValue, Ntile, Other,
        PercentRank, Rank, RowNumber, Sum,
    };
    if rows.is_empty() {
        return Ok((new_empty_array(call.field.data_type()), vec![]));
    }
    match &call.kind {
        RowNumber | Rank | DenseRank | PercentRank | CumeDist => Ok((ranks(call, section, rows)?, vec![])),
        Ntile => ntile(call, section, rows),
        Lag | Lead => Ok((shifted(call, section, rows)?, vec![])),
        FirstValue | LastValue | NthValue => picked(call, section, rows),
        Count | Sum | Avg => sums(call, summed, section, around, rows),
        Min | Max => match summed {
            Summed::Extreme(encoder, greatest) => {
                Ok((extremes(call, (encoder, *greatest), section, around, rows)?, vec![]))
            }
            _ => Err(Error::internal("an extreme without an order")),
        },
        Other(function) => {
            let mut frames = Frames::new(section, &call.frame)?;
            let part = takes_part_by_filter(call, section);
            let mut wanted = Vec::with_capacity(rows.len());
            for position in rows {
                let mut picks: Vec<(u32, u32)> = Vec::with_capacity(3);
                for (start, end) in frames.pieces(position)?.iter() {
                    picks.push((section.row(start)?, section.row(end - 1)? + 1));
                }
                wanted.push(picks);
            }
            let running = matches!(frames.start, Edge::First) && call.frame.exclude == FrameExclude::NoOthers;
            let args: Vec<ArrayRef> = call.args.iter().map(|a| Arc::clone(&section.columns[*a])).collect();
            generic::aggregate(function, call, &args, part.as_deref(), &wanted, running)
        }
    }
}

fn takes_part_by_filter(call: &WindowCall, section: &Section<'_>) -> Option<Vec<bool>> {
    let only_filter = WindowCall { args: vec![], ..call.clone() };
    let rows = section.head + section.body + section.tail;
    call.filter.map(|_| takes_part(&only_filter, section.columns, rows))
}

fn ranks(call: &WindowCall, section: &Section<'_>, rows: Range<usize>) -> Result<ArrayRef> {
    if call.kind == WindowKind::RowNumber {
        return Ok(Arc::new(Int64Array::from_iter_values(rows.map(|p| p as i64 + 1))));
    }
    let mut frames = Frames::new(section, &Frame::default())?;
    let total = section.total as f64;
    let mut whole: Vec<i64> = vec![];
    let mut parts: Vec<f64> = vec![];
    for position in rows {
        let (from, to) = frames.peers(position);
        let rank = section.first + from;
        match call.kind {
            WindowKind::Rank => whole.push(rank as i64 + 1),
            WindowKind::DenseRank => whole.push((section.first_group + frames.group) as i64 + 1),
            WindowKind::PercentRank => {
                parts.push(if section.total <= 1 { 0.0 } else { rank as f64 / (total - 1.0) });
            }
            _ => parts.push((section.first + to) as f64 / total),
        }
    }
    Ok(match call.kind {
        WindowKind::Rank | WindowKind::DenseRank => Arc::new(Int64Array::from(whole)),
        _ => Arc::new(Float64Array::from(parts)),
    })
}

fn ntile(call: &WindowCall, section: &Section<'_>, rows: Range<usize>) -> Result<(ArrayRef, RowErrors)> {
    let argument = section.columns[call.args[0]].as_primitive::<Int32Type>();
    // As in PostgreSQL the first row of the partition says how many there are.
    let first = section.row(0)? as usize;
    if argument.is_null(first) {
        return Ok((Arc::new(Int32Array::new_null(rows.len())), vec![]));
    }
    let Some(n) = usize::try_from(argument.value(first)).ok().filter(|n| *n > 0) else {
        let refusal = || Error::new(ErrorKind::InvalidNtile, "argument of ntile must be greater than zero");
        let errors = (0..rows.len() as u32).map(|i| (i, refusal())).collect();
        return Ok((Arc::new(Int32Array::new_null(rows.len())), errors));
    };
    let (small, larger) = (section.total / n, section.total % n);
    let edge = larger * (small + 1);
    let bucket = |p: usize| if p < edge { p / (small + 1) } else { larger + (p - edge) / small.max(1) };
    Ok((Arc::new(Int32Array::from_iter_values(rows.map(|p| bucket(p) as i32 + 1))), vec![]))
}

/// lag and lead.
fn shifted(call: &WindowCall, section: &Section<'_>, rows: Range<usize>) -> Result<ArrayRef> {
    let values = &section.columns[call.args[0]];
    let offsets = call.args.get(1).map(|a| section.columns[*a].as_primitive::<Int32Type>());
    let default = call.args.get(2).map(|a| Arc::clone(&section.columns[*a]));
    let known = call.ignore_nulls.then(|| Known::of(section, values));
    let none = arrow::array::new_null_array(values.data_type(), 1);
    let mut picks: Vec<(usize, usize)> = Vec::with_capacity(rows.len());
    for position in rows {
        let row = section.row(position)? as usize;
        let offset = match offsets {
            None => 1,
            Some(offsets) if offsets.is_null(row) => {
                picks.push((1, 0));
                continue;
            }
            Some(offsets) => i64::from(offsets.value(row)),
        };
        let offset = if call.kind == WindowKind::Lag { -offset } else { offset };
        let target = match &known {
            Some(known) if offset != 0 => {
                known.beside(position - section.first, offset).map(|b| b + section.first)
            }
            _ => usize::try_from(position as i64 + offset).ok().filter(|t| *t < section.total),
        };
        picks.push(match (target, &default) {
            (Some(target), _) => (0, section.row(target)? as usize),
            (None, Some(_)) => (2, row),
            (None, None) => (1, 0),
        });
    }
    let default = default.unwrap_or_else(|| Arc::clone(&none));
    Ok(interleave(&[values.as_ref(), none.as_ref(), default.as_ref()], &picks)?)
}

/// The body rows whose value is not NULL.
struct Known {
    rows: Vec<usize>,
    /// How many of them come before each body row.
    before: Vec<usize>,
}

impl Known {
    fn of(section: &Section<'_>, values: &ArrayRef) -> Known {
        let nulls = values.logical_nulls();
        let mut known = Known { rows: vec![], before: Vec::with_capacity(section.body + 1) };
        for i in 0..section.body {
            known.before.push(known.rows.len());
            if nulls.as_ref().is_none_or(|n| n.is_valid(section.head + i)) {
                known.rows.push(i);
            }
        }
        known.before.push(known.rows.len());
        known
    }

    /// The one that is `offset` of them before or behind a row.
    fn beside(&self, row: usize, offset: i64) -> Option<usize> {
        let at = if offset < 0 {
            (self.before[row] as i64).checked_add(offset)?
        } else {
            (self.before[row + 1] as i64).checked_add(offset - 1)?
        };
        self.rows.get(usize::try_from(at).ok()?).copied()
    }

    /// Number `n` of them within pieces of body rows.
    fn nth(&self, pieces: &[(usize, usize)], mut n: usize) -> Option<usize> {
        for (start, end) in pieces {
            let here = self.before[*end] - self.before[*start];
            if n < here {
                return Some(self.rows[self.before[*start] + n]);
            }
            n -= here;
        }
        None
    }

    fn last(&self, pieces: &[(usize, usize)]) -> Option<usize> {
        let piece = pieces.iter().rev().find(|(s, e)| self.before[*e] > self.before[*s])?;
        Some(self.rows[self.before[piece.1] - 1])
    }
}

/// first_value, last_value and nth_value.
fn picked(call: &WindowCall, section: &Section<'_>, rows: Range<usize>) -> Result<(ArrayRef, RowErrors)> {
    let values = &section.columns[call.args[0]];
    let numbers = call.args.get(1).map(|a| section.columns[*a].as_primitive::<Int32Type>());
    let known = call.ignore_nulls.then(|| Known::of(section, values));
    let mut frames = Frames::new(section, &call.frame)?;
    let mut errors = vec![];
    let mut picks: Vec<Option<u32>> = Vec::with_capacity(rows.len());
    for (i, position) in rows.enumerate() {
        let pieces = frames.pieces(position)?;
        let n = match numbers {
            None => Some(0),
            Some(numbers) => {
                let row = section.row(position)? as usize;
                match numbers.is_valid(row).then(|| numbers.value(row)) {
                    Some(n) if n <= 0 => {
                        let refusal = "argument of nth_value must be greater than zero";
                        errors.push((i as u32, Error::new(ErrorKind::InvalidNthValue, refusal)));
                        None
                    }
                    n => n.map(|n| n as usize - 1),
                }
            }
        };
        let last = call.kind == WindowKind::LastValue;
        let found = match (&known, n) {
            (_, None) => None,
            (Some(known), Some(n)) => {
                let body: Vec<(usize, usize)> =
                    pieces.iter().map(|(s, e)| (s - section.first, e - section.first)).collect();
                if last { known.last(&body) } else { known.nth(&body, n) }.map(|b| b + section.first)
            }
            (None, Some(_)) if last => pieces.iter().next_back().map(|(_, e)| e - 1),
            (None, Some(mut n)) => {
                let mut found = None;
                for (start, end) in pieces.iter() {
                    if n < end - start {
                        found = Some(start + n);
                        break;
                    }
                    n -= end - start;
                }
                found
            }
        };
        picks.push(found.map(|p| section.row(p)).transpose()?);
    }
    Ok((take(values, &UInt32Array::from(picks), None)?, errors))
}

/// A frame's part of the body, and whether it reaches before and behind it.
fn clip(section: &Section<'_>, (start, end): (usize, usize)) -> ((usize, usize), bool, bool) {
    let from = start.clamp(section.first, section.end()) - section.first;
    let to = end.clamp(section.first, section.end()) - section.first;
    let before = start < section.first && end > start;
    let behind = end > section.end() && end > start;
    ((from, to.max(from)), before, behind)
}

/// count, sum and avg.
fn sums(
    call: &WindowCall,
    summed: &Summed,
    section: &Section<'_>,
    around: &Around,
    rows: Range<usize>,
) -> Result<(ArrayRef, RowErrors)> {
    let held = section.head + section.body + section.tail;
    let part = takes_part(call, section.columns, held);
    let part = &part[section.head..section.head + section.body];
    let mut counted = Vec::with_capacity(section.body + 1);
    counted.push(0_usize);
    for p in part {
        counted.push(counted[counted.len() - 1] + usize::from(*p));
    }
    let mut frames = Frames::new(section, &call.frame)?;
    let mut counts = Vec::with_capacity(rows.len());
    let mut pieces = Vec::with_capacity(rows.len());
    for position in rows {
        let all = frames.pieces(position)?;
        let mut n = 0;
        for piece in all.iter() {
            let ((from, to), before, behind) = clip(section, piece);
            n += counted[to] - counted[from];
            n += if before { around.before.count } else { 0 } + if behind { around.behind.count } else { 0 };
        }
        counts.push(n);
        pieces.push(all);
    }
    match summed {
        Summed::Integers => integer_sums(call, section, around, part, &counts, &pieces),
        Summed::Floats => float_sums(call, section, around, part, &counts, &pieces),
        _ => Ok((Arc::new(Int64Array::from_iter_values(counts.iter().map(|n| *n as i64))), vec![])),
    }
}

fn integer_sums(
    call: &WindowCall,
    section: &Section<'_>,
    around: &Around,
    part: &[bool],
    counts: &[usize],
    pieces: &[Pieces],
) -> Result<(ArrayRef, RowErrors)> {
    let values = Integers::of(&section.columns[call.args[0]]);
    // Sums up to each row: a frame's sum is a difference, wherever it begins and ends.
    let mut sums = Vec::with_capacity(section.body + 1);
    sums.push(i256::ZERO);
    for (i, p) in part.iter().enumerate() {
        let last = sums[i];
        sums.push(if *p { last.wrapping_add(values.value(section.head + i)) } else { last });
    }
    let results = pieces.iter().map(|pieces| {
        pieces.iter().fold(i256::ZERO, |sum, piece| {
            let ((from, to), before, behind) = clip(section, piece);
            let mut sum = sum.wrapping_add(sums[to].wrapping_sub(sums[from]));
            if before {
                sum = sum.wrapping_add(around.before.sum);
            }
            if behind {
                sum = sum.wrapping_add(around.behind.sum);
            }
            sum
        })
    });
    let mut errors = vec![];
    let array: ArrayRef = match call.field.data_type() {
        DataType::Int64 => {
            let refusal = || Error::new(ErrorKind::NumericOutOfRange, "bigint out of range");
            let values = results.zip(counts).enumerate().map(|(i, (sum, n))| {
                if *n == 0 {
                    return None;
                }
                let fits = sum.to_i128().and_then(|s| i64::try_from(s).ok());
                if fits.is_none() {
                    errors.push((i as u32, refusal()));
                }
                fits
            });
            Arc::new(values.collect::<Int64Array>())
        }
        DataType::Decimal128(precision, scale) => {
            let refusal = || Error::new(ErrorKind::NumericOutOfRange, "value overflows numeric format");
            let limit = 10_u128.pow(u32::from(*precision));
            let values = results.zip(counts).enumerate().map(|(i, (sum, n))| {
                if *n == 0 {
                    return None;
                }
                let fits = sum.to_i128().filter(|s| s.unsigned_abs() < limit);
                if fits.is_none() {
                    errors.push((i as u32, refusal()));
                }
                fits
            });
            let array = values.collect::<arrow::array::PrimitiveArray<Decimal128Type>>();
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Decimal256(precision, scale) => {
            let refusal = || Error::new(ErrorKind::NumericOutOfRange, "value overflows numeric format");
            let half = i256::from_i128(10_i128.pow(u32::from(*precision / 2)));
            let limit = half.wrapping_mul(half);
            let values = results.zip(counts).enumerate().map(|(i, (sum, n))| {
                let fits = (sum < limit && sum > limit.wrapping_neg()).then_some(sum);
                if *n == 0 {
                    return None;
                }
                if fits.is_none() {
                    errors.push((i as u32, refusal()));
                }
                fits
            });
            let array = values.collect::<arrow::array::PrimitiveArray<Decimal256Type>>();
            Arc::new(array.with_precision_and_scale(*precision, *scale)?)
        }
        other => return Err(Error::internal(format!("a sum of type {other}"))),
    };
    Ok((array, errors))
}

fn float_sums(
    call: &WindowCall,
    section: &Section<'_>,
    around: &Around,
    part: &[bool],
    counts: &[usize],
    pieces: &[Pieces],
) -> Result<(ArrayRef, RowErrors)> {
    let values = &section.columns[call.args[0]];
    let average = call.kind == WindowKind::Avg;
    let narrow = *call.field.data_type() == DataType::Float32;
    let mut errors = vec![];
    let mut results = Vec::with_capacity(pieces.len());
    // What the running sum holds now.
    let mut sum = ExactSum::default();
    let mut held: Option<((usize, usize), bool, bool)> = None;
    let add = |sum: &mut ExactSum, range: Range<usize>, weight: i64| {
        for i in range.filter(|i| part[*i]) {
            sum.add(float_at(values, section.head + i), weight);
        }
    };
    let whole = |pieces: &Pieces| {
        let mut all = (usize::MAX, 0);
        for (start, end) in pieces.iter() {
            all = (all.0.min(start), all.1.max(end));
        }
        (all.0.min(all.1), all.1)
    };
    let mut last: Option<(Pieces, f64, bool)> = None;
    for (i, (pieces, n)) in pieces.iter().zip(counts).enumerate() {
        let repeated = last.as_ref().is_some_and(|(p, ..)| p == pieces);
        if !repeated {
            let hull = whole(pieces);
            let ((from, to), before, behind) = clip(section, hull);
            match held {
                // Frames move forward, so what enters and what leaves is little.
                Some(((old_from, old_to), b, e)) if b == before && e == behind && from < old_to => {
                    add(&mut sum, old_to..to.max(old_to), 1);
                    add(&mut sum, to..old_to.max(to), -1);
                    add(&mut sum, old_from..from.max(old_from), -1);
                    add(&mut sum, from..old_from.max(from), 1);
                }
                _ => {
                    sum = ExactSum::default();
                    if before && let Some(s) = &around.before.float {
                        sum.merge(s);
                    }
                    if behind && let Some(s) = &around.behind.float {
                        sum.merge(s);
                    }
                    add(&mut sum, from..to, 1);
                }
            }
            held = Some(((from, to), before, behind));
            // The rows between the pieces are left out.
            let mut own = std::borrow::Cow::Borrowed(&sum);
            let mut at = hull.0;
            for (start, end) in pieces.iter() {
                if start > at {
                    let ((from, to), ..) = clip(section, (at, start));
                    add(own.to_mut(), from..to, -1);
                }
                at = end;
            }
            last = Some((*pieces, own.value(), own.is_special()));
        }
        let (value, special) = last.as_ref().map_or((0.0, false), |(_, v, s)| (*v, *s));
        let infinite = if narrow { !(value as f32).is_finite() } else { !value.is_finite() };
        if *n == 0 {
            results.push(None);
        } else if infinite && !special {
            let refusal = Error::new(ErrorKind::NumericOutOfRange, "value out of range: overflow");
            errors.push((i as u32, refusal));
            results.push(None);
        } else {
            results.push(Some(if average { value / *n as f64 } else { value }));
        }
    }
    let array: ArrayRef = if narrow {
        Arc::new(results.into_iter().map(|v| v.map(|v| v as f32)).collect::<Float32Array>())
    } else {
        Arc::new(results.into_iter().collect::<Float64Array>())
    };
    Ok((array, errors))
}

/// min and max.
fn extremes(
    call: &WindowCall,
    (encoder, greatest): (&RowEncoder, bool),
    section: &Section<'_>,
    around: &Around,
    rows: Range<usize>,
) -> Result<ArrayRef> {
    let values = section.columns[call.args[0]].slice(section.head, section.body);
    let encoded = encoder.encode(&[Arc::clone(&values)])?;
    let part = takes_part(call, section.columns, section.head + section.body + section.tail);
    let part = &part[section.head..section.head + section.body];
    let better = |a: u32, b: u32| {
        if a == u32::MAX || b == u32::MAX {
            return a.min(b);
        }
        let (x, y) = (encoded.row(a as usize), encoded.row(b as usize));
        if (x < y) ^ greatest || x == y { a } else { b }
    };
    // A tree of the best rows: leaf `i` is node `body + i`.
    let body = section.body.max(1);
    let mut tree = vec![u32::MAX; 2 * body];
    for (i, p) in part.iter().enumerate() {
        if *p {
            tree[body + i] = i as u32;
        }
    }
    for i in (1..body).rev() {
        tree[i] = better(tree[2 * i], tree[2 * i + 1]);
    }
    let best = |from: usize, to: usize| {
        let (mut low, mut high, mut found) = (from + body, to + body, u32::MAX);
        while low < high {
            if low & 1 == 1 {
                found = better(found, tree[low]);
                low += 1;
            }
            if high & 1 == 1 {
                high -= 1;
                found = better(found, tree[high]);
            }
            low /= 2;
            high /= 2;
        }
        found
    };
    let nothing = encoder.encode(&[arrow::array::new_null_array(values.data_type(), 1)])?;
    let mut frames = Frames::new(section, &call.frame)?;
    let mut results: Vec<Arc<[u8]>> = Vec::new();
    let mut picks: Vec<u32> = Vec::with_capacity(rows.len());
    // (whether the last result reached around, its clipped range): running extremes only look at what is new.
    let mut running: Option<(usize, u32)> = None;
    for position in rows {
        let pieces = frames.pieces(position)?;
        let mut found = u32::MAX;
        let mut outside: Option<Arc<[u8]>> = None;
        for piece in pieces.iter() {
            let ((from, to), before, behind) = clip(section, piece);
            found = match running {
                Some((end, old)) if from == 0 && pieces.count == 1 && end <= to => better(old, best(end, to)),
                _ => better(found, best(from, to)),
            };
            running = (from == 0 && pieces.count == 1).then_some((to, found));
            for (reaches, summary) in [(before, &around.before), (behind, &around.behind)] {
                if reaches && let Some(bytes) = &summary.extreme {
                    merge_extreme(&mut outside, bytes, greatest);
                }
            }
        }
        let inside = (found != u32::MAX).then(|| encoded.row(found as usize).data());
        let outside = match (outside, inside) {
            (Some(o), Some(i)) => Some(o).filter(|o| if greatest { **o > *i } else { **o < *i }),
            (o, _) => o,
        };
        picks.push(match outside {
            None => found,
            Some(bytes) => {
                results.push(bytes);
                u32::MAX - results.len() as u32
            }
        });
    }
    let bytes = picks.iter().map(|pick| match *pick {
        u32::MAX => nothing.row(0).data(),
        inside if (inside as usize) < section.body => encoded.row(inside as usize).data(),
        outside => &results[(u32::MAX - outside) as usize - 1],
    });
    encoder.decode_bytes(bytes)?.pop().ok_or_else(|| Error::internal("an extreme without a value"))
}
