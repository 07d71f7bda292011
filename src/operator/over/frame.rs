//! The frame of each row of a section, as ranges of positions.
//!
//! Boundary: frames are asked for in the order of rows; what is computed over them is not known here.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::compute::SortOptions;
use datafusion::common::ScalarValue;

use super::range::{Key, RangeEdge, key};
use crate::error::{Error, Result};
use crate::expr::window::{Frame, FrameBound, FrameExclude, FrameUnits};

/// Rows of a partition: its first `head`, the `body` rows from position `first` on, its last `tail`.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// Rows of the partition.
    pub total: usize,
    /// Position of the first body row.
    pub first: usize,
    /// First rows of the partition held before the body.
    pub head: usize,
    /// Body rows.
    pub body: usize,
    /// Last rows of the partition held behind the body.
    pub tail: usize,
    /// Columns of head, body and tail.
    pub columns: &'a [ArrayRef],
    /// Where each group of peers of the body begins, and the length of the body.
    pub groups: Vec<usize>,
    /// Groups before the body.
    pub first_group: usize,
    /// The ORDER BY columns.
    pub order: &'a [(usize, SortOptions)],
}

impl Section<'_> {
    pub fn end(&self) -> usize {
        self.first + self.body
    }

    /// The row of the columns that holds a position.
    pub fn row(&self, position: usize) -> Result<u32> {
        let row = if (self.first..self.end()).contains(&position) {
            self.head + position - self.first
        } else if position < self.head {
            position
        } else if position < self.total && self.total - position <= self.tail {
            self.head + self.body + self.tail - (self.total - position)
        } else {
            return Err(Error::internal("a window function looks at a row that is not at hand"));
        };
        Ok(row as u32)
    }

    fn key(&self, body: usize) -> Result<Key> {
        let (column, _) =
            self.order.first().ok_or_else(|| Error::internal("a RANGE frame without ORDER BY"))?;
        key(&self.columns[*column], self.head + body)
    }
}

#[derive(Debug)]
pub(super) enum Edge {
    First,
    Last,
    Current,
    Rows(i64),
    Groups(i64),
    Value(RangeEdge),
}

/// A number of rows or groups.
fn count(value: &ScalarValue) -> Result<i64> {
    match value {
        ScalarValue::Int64(Some(v)) => Ok(*v),
        _ => Err(Error::internal("a frame offset that is not a number")),
    }
}

fn edge(frame: &Frame, section: &Section<'_>, end: bool) -> Result<Edge> {
    let bound = if end { &frame.end } else { &frame.start };
    let (value, preceding) = match bound {
        FrameBound::UnboundedPreceding => return Ok(Edge::First),
        FrameBound::UnboundedFollowing => return Ok(Edge::Last),
        FrameBound::CurrentRow => return Ok(Edge::Current),
        FrameBound::Preceding(v) => (v, true),
        FrameBound::Following(v) => (v, false),
    };
    let signed = |n: i64| if preceding { -n } else { n };
    Ok(match frame.units {
        FrameUnits::Rows => Edge::Rows(signed(count(value)?)),
        FrameUnits::Groups => Edge::Groups(signed(count(value)?)),
        FrameUnits::Range => {
            let (column, options) =
                section.order.first().ok_or_else(|| Error::internal("a RANGE frame without ORDER BY"))?;
            let data_type = section.columns[*column].data_type();
            Edge::Value(RangeEdge::new(data_type, options.descending, value, preceding, end)?)
        }
    })
}

/// The frames of rows, asked for in order.
pub(super) struct Frames<'a> {
    section: &'a Section<'a>,
    units: FrameUnits,
    exclude: FrameExclude,
    pub start: Edge,
    end: Edge,
    /// The current group.
    pub group: usize,
    /// How far the start and the end of RANGE frames have come, in the body.
    low: usize,
    high: usize,
    /// Body rows whose key is not NULL.
    known: Range<usize>,
}

/// A frame: up to three ranges of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pieces {
    ranges: [(usize, usize); 3],
    pub count: usize,
}

impl Pieces {
    fn add(&mut self, start: usize, end: usize) {
        if start < end {
            self.ranges[self.count] = (start, end);
            self.count += 1;
        }
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + '_ {
        self.ranges[..self.count].iter().copied()
    }
}

impl<'a> Frames<'a> {
    pub fn new(section: &'a Section<'a>, frame: &Frame) -> Result<Frames<'a>> {
        let (start, end) = (edge(frame, section, false)?, edge(frame, section, true)?);
        let mut known = 0..section.body;
        if matches!(start, Edge::Value(_)) || matches!(end, Edge::Value(_)) {
            let (column, _) = section.order[0];
            let keys = section.columns[column].slice(section.head, section.body);
            let nulls = keys.null_count();
            if nulls > 0 {
                known = if keys.is_null(0) { nulls..section.body } else { 0..section.body - nulls };
            }
        }
        Ok(Frames {
            section,
            units: frame.units,
            exclude: frame.exclude,
            start,
            end,
            group: 0,
            low: known.start,
            high: known.start,
            known,
        })
    }

    /// The group of a position, as body rows.
    pub fn peers(&mut self, position: usize) -> (usize, usize) {
        let row = position - self.section.first;
        while self.section.groups[self.group + 1] <= row {
            self.group += 1;
        }
        (self.section.groups[self.group], self.section.groups[self.group + 1])
    }

    fn group_edge(&self, by: i64, end: bool) -> usize {
        let groups = self.section.groups.len() - 1;
        let at = (self.group as i64).saturating_add(by).saturating_add(i64::from(end));
        match usize::try_from(at) {
            Err(_) => 0,
            Ok(at) if at > groups => self.section.total,
            Ok(at) => self.section.first + self.section.groups[at],
        }
    }

    /// The frame of a position before exclusion.
    fn bounds(&mut self, position: usize) -> Result<(usize, usize)> {
        let section = self.section;
        let (from, to) = self.peers(position);
        let by_rows = self.units == FrameUnits::Rows;
        let moved = |by: i64| (position as i64).saturating_add(by).clamp(0, section.total as i64) as usize;
        let start = match &self.start {
            Edge::First => 0,
            Edge::Last => section.total,
            Edge::Current if by_rows => position,
            Edge::Current => section.first + from,
            Edge::Rows(by) => moved(*by),
            Edge::Groups(by) => self.group_edge(*by, false),
            Edge::Value(edge) => match section.key(position - section.first)? {
                Key::Null => section.first + from,
                base => {
                    while self.low < self.known.end && !edge.contains(section.key(self.low)?, base) {
                        self.low += 1;
                    }
                    section.first + self.low
                }
            },
        };
        let end = match &self.end {
            Edge::First => 0,
            Edge::Last => section.total,
            Edge::Current if by_rows => position + 1,
            Edge::Current => section.first + to,
            Edge::Rows(by) => moved(by.saturating_add(1)),
            Edge::Groups(by) => self.group_edge(*by, true),
            Edge::Value(edge) => match section.key(position - section.first)? {
                Key::Null => section.first + to,
                base => {
                    while self.high < self.known.end && edge.contains(section.key(self.high)?, base) {
                        self.high += 1;
                    }
                    section.first + self.high
                }
            },
        };
        Ok((start, end.max(start)))
    }

    pub fn pieces(&mut self, position: usize) -> Result<Pieces> {
        let (start, end) = self.bounds(position)?;
        let (from, to) = self.peers(position);
        let (from, to) = (self.section.first + from, self.section.first + to);
        let mut pieces = Pieces::default();
        match self.exclude {
            FrameExclude::NoOthers => pieces.add(start, end),
            FrameExclude::CurrentRow => {
                pieces.add(start, end.min(position));
                pieces.add(start.max(position + 1), end);
            }
            FrameExclude::Group => {
                pieces.add(start, end.min(from));
                pieces.add(start.max(to), end);
            }
            FrameExclude::Ties => {
                pieces.add(start, end.min(from));
                if (start..end).contains(&position) {
                    pieces.add(position, position + 1);
                }
                pieces.add(start.max(to), end);
            }
        }
        Ok(pieces)
    }
}
