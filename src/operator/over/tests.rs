//! The operator against its definition: every call of every row by looking at all rows of the partition.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::expr::window::{Frame, FrameBound, FrameExclude, FrameUnits, WindowKind};
use crate::operator::testing::{Relation, Row, epoch, random_row};

const TWO: usize = 3;
const HALF: usize = 4;
const FLAG: usize = 5;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("p", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("two", DataType::Int32, true),
        Field::new("half", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
    ]))
}

fn flag(row: &Row) -> Option<bool> {
    row.1.map(|a| a % 3 != 1)
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.2.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|_| Some(2)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.1.map(|a| a as f64 / 2.0)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(flag).collect::<BooleanArray>()),
    ]
}

fn batch(rows: &[(Row, i64)]) -> ZBatch {
    let all: Vec<Row> = rows.iter().map(|(r, _)| r.clone()).collect();
    let weights = compact_weights(rows.iter().map(|(_, w)| *w).collect());
    ZBatch::try_new(RecordBatch::try_new(schema(), columns(&all)).unwrap(), weights).unwrap()
}

fn random_bound(rng: &mut StdRng, rank: u8) -> FrameBound {
    let n = ScalarValue::Int64(Some(rng.random_range(0..4)));
    match rank {
        0 => FrameBound::UnboundedPreceding,
        1 => FrameBound::Preceding(n),
        2 => FrameBound::CurrentRow,
        3 => FrameBound::Following(n),
        _ => FrameBound::UnboundedFollowing,
    }
}

fn random_frame(rng: &mut StdRng) -> Frame {
    let (start, end) = loop {
        let (start, end) = (rng.random_range(0..4), rng.random_range(1..5));
        if !matches!((start, end), (2, 1) | (3, 1 | 2)) {
            break (start, end);
        }
    };
    Frame {
        units: [FrameUnits::Rows, FrameUnits::Range, FrameUnits::Groups][rng.random_range(0..3)],
        start: random_bound(rng, start),
        end: random_bound(rng, end),
        exclude: match rng.random_range(0..8) {
            0 => FrameExclude::CurrentRow,
            1 => FrameExclude::Group,
            2 => FrameExclude::Ties,
            _ => FrameExclude::NoOthers,
        },
    }
}

fn random_call(rng: &mut StdRng) -> WindowCall {
    use WindowKind::{
        Avg, Count, CumeDist, DenseRank, FirstValue, Lag, LastValue, Lead, Max, Min, NthValue, Ntile, Other,
        PercentRank, Rank, RowNumber, Sum,
    };
    let xor = Other(datafusion::functions_aggregate::bit_and_or_xor::bit_xor_udaf());
    let (kind, args, data_type) = match rng.random_range(0..22) {
        0 => (RowNumber, vec![], DataType::Int64),
        1 => (Rank, vec![], DataType::Int64),
        2 => (DenseRank, vec![], DataType::Int64),
        3 => (PercentRank, vec![], DataType::Float64),
        4 => (CumeDist, vec![], DataType::Float64),
        5 => (Ntile, vec![TWO], DataType::Int32),
        6 => (Lag, vec![1], DataType::Int64),
        7 => (Lead, vec![2, TWO], DataType::Utf8),
        8 => (Lag, vec![2, TWO, 2], DataType::Utf8),
        9 | 10 => (FirstValue, vec![2], DataType::Utf8),
        11 => (LastValue, vec![1], DataType::Int64),
        12 => (NthValue, vec![2, TWO], DataType::Utf8),
        13 => (Count, vec![], DataType::Int64),
        14 => (Count, vec![2], DataType::Int64),
        15 | 16 => (Sum, vec![1], DataType::Int64),
        17 => (Sum, vec![HALF], DataType::Float64),
        18 => (Avg, vec![HALF], DataType::Float64),
        19 => (Min, vec![2], DataType::Utf8),
        20 => (Max, vec![1], DataType::Int64),
        _ => (xor, vec![1], DataType::Int64),
    };
    let distance = match (&kind, args.len()) {
        (Lag | Lead, 1) => Some(1),
        (Lag | Lead | NthValue, _) if rng.random_bool(0.7) => Some(2),
        _ => None,
    };
    let offsets = matches!(kind, Lag | Lead | FirstValue | LastValue | NthValue);
    WindowCall {
        filter: (kind.is_aggregate() && rng.random_bool(0.2)).then_some(FLAG),
        frame: if kind.uses_frame() { random_frame(rng) } else { Frame::default() },
        ignore_nulls: offsets && rng.random_bool(0.3),
        distance,
        field: Arc::new(Field::new("r", data_type, true)),
        kind,
        args,
    }
}

fn random_spec(rng: &mut StdRng) -> OverSpec {
    let options = SortOptions { descending: rng.random_bool(0.4), nulls_first: rng.random_bool(0.5) };
    let by = [LimitBy::Rows, LimitBy::Ties, LimitBy::Groups][rng.random_range(0..3)];
    OverSpec {
        partition: if rng.random_bool(0.7) { vec![0] } else { vec![] },
        order: vec![(1, options)],
        ties: if rng.random_bool(0.5) { vec![2] } else { vec![] },
        calls: (0..rng.random_range(1..3)).map(|_| random_call(rng)).collect(),
        limit: rng.random_bool(0.15).then(|| OverLimit {
            offset: if by == LimitBy::Groups { 0 } else { rng.random_range(0..2) },
            limit: rng.random_range(0..4),
            by,
        }),
        closes: None,
    }
}

/// A value of any of the types in use.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Whole(i64),
    Float(f64),
    Text(String),
}

fn value(row: &Row, column: usize) -> Value {
    match column {
        1 => row.1.map_or(Value::Null, Value::Whole),
        HALF => row.1.map_or(Value::Null, |a| Value::Float(a as f64 / 2.0)),
        _ => row.2.clone().map_or(Value::Null, Value::Text),
    }
}

struct Naive<'a> {
    rows: &'a [Row],
    groups: Vec<i64>,
    options: SortOptions,
}

impl Naive<'_> {
    /// Whether row `j` is not before (`end` false) or not behind (`end` true) the bound of row `i`.
    fn inside(&self, frame: &Frame, i: usize, j: usize, end: bool) -> bool {
        let bound = if end { &frame.end } else { &frame.start };
        let number = |v: &ScalarValue| match v {
            ScalarValue::Int64(Some(n)) => *n,
            other => panic!("{other:?}"),
        };
        let by = match bound {
            FrameBound::UnboundedPreceding => return !end,
            FrameBound::UnboundedFollowing => return end,
            FrameBound::Preceding(v) => -number(v),
            FrameBound::Following(v) => number(v),
            FrameBound::CurrentRow => 0,
        };
        let compare = |x: i64, limit: i64| if end { x <= limit } else { x >= limit };
        match frame.units {
            FrameUnits::Rows => compare(j as i64, i as i64 + by),
            FrameUnits::Groups => compare(self.groups[j], self.groups[i] + by),
            FrameUnits::Range if *bound == FrameBound::CurrentRow => compare(self.groups[j], self.groups[i]),
            FrameUnits::Range => match (self.rows[i].1, self.rows[j].1) {
                (None, _) => compare(self.groups[j], self.groups[i]),
                (Some(_), None) => self.options.nulls_first == end,
                (Some(base), Some(x)) if self.options.descending => compare(-x, -base + by),
                (Some(base), Some(x)) => compare(x, base + by),
            },
        }
    }

    fn frame(&self, frame: &Frame, i: usize) -> Vec<usize> {
        let excluded = |j: usize| match frame.exclude {
            FrameExclude::NoOthers => false,
            FrameExclude::CurrentRow => i == j,
            FrameExclude::Group => self.groups[i] == self.groups[j],
            FrameExclude::Ties => i != j && self.groups[i] == self.groups[j],
        };
        let inside = |j: &usize| self.inside(frame, i, *j, false) && self.inside(frame, i, *j, true);
        (0..self.rows.len()).filter(inside).filter(|j| !excluded(*j)).collect()
    }

    fn result(&self, call: &WindowCall, i: usize) -> Value {
        let total = self.rows.len();
        let peers_before = self.groups.iter().filter(|g| **g < self.groups[i]).count();
        let peers_to = self.groups.iter().filter(|g| **g <= self.groups[i]).count();
        let of = |j: usize| value(&self.rows[j], call.args[0]);
        let two = if call.args.len() > 1 { 2 } else { 1 };
        match call.kind {
            WindowKind::RowNumber => Value::Whole(i as i64 + 1),
            WindowKind::Rank => Value::Whole(peers_before as i64 + 1),
            WindowKind::DenseRank => Value::Whole(self.groups[i] + 1),
            WindowKind::PercentRank => {
                Value::Float(if total == 1 { 0.0 } else { peers_before as f64 / (total as f64 - 1.0) })
            }
            WindowKind::CumeDist => Value::Float(peers_to as f64 / total as f64),
            WindowKind::Ntile => Value::Whole(if i < total.div_ceil(2) { 1 } else { 2 }),
            WindowKind::Lag | WindowKind::Lead => {
                let mut others: Vec<usize> = if call.kind == WindowKind::Lag {
                    (0..i).rev().collect()
                } else {
                    (i + 1..total).collect()
                };
                others.retain(|j| !call.ignore_nulls || of(*j) != Value::Null);
                match others.get(two - 1) {
                    Some(j) => of(*j),
                    None if call.args.len() == 3 => value(&self.rows[i], call.args[2]),
                    None => Value::Null,
                }
            }
            _ => self.over_frame(call, self.frame(&call.frame, i), two),
        }
    }

    fn over_frame(&self, call: &WindowCall, mut rows: Vec<usize>, two: usize) -> Value {
        let of = |j: usize| call.args.first().map_or(Value::Whole(1), |a| value(&self.rows[j], *a));
        if call.kind.is_aggregate() {
            rows.retain(|j| call.filter.is_none() || flag(&self.rows[*j]) == Some(true));
            rows.retain(|j| of(*j) != Value::Null);
        } else {
            rows.retain(|j| !call.ignore_nulls || of(*j) != Value::Null);
        }
        let values: Vec<Value> = rows.into_iter().map(of).collect();
        if call.kind == WindowKind::Count {
            return Value::Whole(values.len() as i64);
        }
        let whole = || values.iter().map(|v| if let Value::Whole(n) = v { *n } else { 0 });
        let float = || values.iter().map(|v| if let Value::Float(n) = v { *n } else { 0.0 }).sum::<f64>();
        let text = |v: &Value| if let Value::Text(t) = v { t.clone() } else { String::new() };
        let Some(first) = values.first() else { return Value::Null };
        match call.kind {
            WindowKind::FirstValue => first.clone(),
            WindowKind::LastValue => values[values.len() - 1].clone(),
            WindowKind::NthValue => values.get(two - 1).cloned().unwrap_or(Value::Null),
            WindowKind::Sum if matches!(first, Value::Float(_)) => Value::Float(float()),
            WindowKind::Sum => Value::Whole(whole().sum()),
            WindowKind::Avg => Value::Float(float() / values.len() as f64),
            WindowKind::Min => Value::Text(values.iter().map(text).min().unwrap()),
            WindowKind::Max => Value::Whole(whole().max().unwrap()),
            _ => Value::Whole(whole().fold(0, |a, b| a ^ b)),
        }
    }

    fn shown(&self, limit: Option<OverLimit>, i: usize) -> bool {
        let Some(limit) = limit else { return true };
        let before = self.groups.iter().filter(|g| **g < self.groups[i]).count() as u64;
        let last = limit.offset + limit.limit;
        match limit.by {
            LimitBy::Rows => i as u64 >= limit.offset && (i as u64) < last,
            LimitBy::Ties => limit.limit > 0 && i as u64 >= limit.offset && before < last,
            LimitBy::Groups => (self.groups[i] as u64) < last,
        }
    }
}

fn column(values: &[Value], data_type: &DataType) -> ArrayRef {
    let whole = |v: &Value| if let Value::Whole(n) = v { Some(*n) } else { None };
    match data_type {
        DataType::Int64 => Arc::new(values.iter().map(whole).collect::<Int64Array>()),
        DataType::Int32 => {
            Arc::new(values.iter().map(|v| whole(v).map(|n| n as i32)).collect::<Int32Array>())
        }
        DataType::Float64 => {
            let float = |v: &Value| if let Value::Float(n) = v { Some(*n) } else { None };
            Arc::new(values.iter().map(float).collect::<Float64Array>())
        }
        _ => {
            let text = |v: &Value| if let Value::Text(n) = v { Some(n.clone()) } else { None };
            Arc::new(values.iter().map(text).collect::<StringArray>())
        }
    }
}

fn output_schema(spec: &OverSpec) -> SchemaRef {
    let mut fields = schema().fields().to_vec();
    fields.extend(spec.calls.iter().map(|c| Arc::clone(&c.field)));
    Arc::new(Schema::new(fields))
}

/// The result by its definition.
fn expected(input: &BTreeMap<Row, i64>, spec: &OverSpec) -> Relation {
    let options = spec.order[0].1;
    let mut partitions: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
    for (row, n) in input {
        let partition = if spec.partition.is_empty() { None } else { row.0 };
        let copies = std::iter::repeat_n(row.clone(), usize::try_from(*n).unwrap_or(0));
        partitions.entry(partition).or_default().extend(copies);
    }
    let mut relation = Relation::default();
    for mut rows in partitions.into_values() {
        let key = |r: &Row| (r.2.clone().filter(|_| !spec.ties.is_empty()), r.0, r.2.clone());
        rows.sort_by(|x, y| {
            let order = match (x.1, y.1) {
                (None, Some(_)) | (Some(_), None) => {
                    let none_first = x.1.is_none() == options.nulls_first;
                    if none_first { Ordering::Less } else { Ordering::Greater }
                }
                (a, b) if options.descending => b.cmp(&a),
                (a, b) => a.cmp(&b),
            };
            order.then_with(|| key(x).cmp(&key(y)))
        });
        let mut groups = vec![];
        for (i, row) in rows.iter().enumerate() {
            let last = groups.last().copied().unwrap_or(-1);
            groups.push(if i > 0 && rows[i - 1].1 == row.1 { last } else { last + 1 });
        }
        let naive = Naive { rows: &rows, groups, options };
        let shown: Vec<usize> = (0..rows.len()).filter(|i| naive.shown(spec.limit, *i)).collect();
        let kept: Vec<Row> = shown.iter().map(|i| rows[*i].clone()).collect();
        let mut all = columns(&kept);
        for call in &spec.calls {
            let values: Vec<Value> = shown.iter().map(|i| naive.result(call, *i)).collect();
            all.push(column(&values, call.field.data_type()));
        }
        let batch = RecordBatch::try_new(output_schema(spec), all).unwrap();
        relation.add_batches(&[ZBatch::inserts(batch)]);
    }
    relation
}

fn check(seed: u64, rows: usize, epochs: i64, weights: Range<i64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let spec = random_spec(&mut rng);
    let mut op = Over::new(schema(), output_schema(&spec), spec.clone()).unwrap();
    let mut input: BTreeMap<Row, i64> = BTreeMap::new();
    let (mut output, mut errors) = (Relation::default(), Relation::default());
    for now in 0..epochs {
        let count = if now == 0 { rows } else { rng.random_range(0..=rows.min(5)) };
        let changes: Vec<(Row, i64)> = (0..count)
            .map(|_| {
                let row = random_row(&mut rng);
                // Mostly rows that are there are taken back.
                let there = input.get(&row).is_some_and(|n| *n > 0);
                let weight = rng.random_range(weights.clone());
                (row, if weight < 0 && !there && rng.random_bool(0.9) { 1 } else { weight })
            })
            .collect();
        for (row, weight) in &changes {
            *input.entry(row.clone()).or_default() += weight;
        }
        let cut = rng.random_range(0..=changes.len());
        let batches = vec![batch(&changes[..cut]), batch(&changes[cut..])];
        let out = epoch(&mut op, batches, now, i64::MIN);
        output.add_batches(&out.rows);
        errors.add_batches(&out.errors);
        let wanted = expected(&input, &spec);
        assert_eq!(output, wanted, "seed {seed}, epoch {now}, {spec:?}, {changes:?}");
        assert_eq!(errors.0.len(), input.values().filter(|n| **n < 0).count(), "seed {seed}");
        assert_eq!(op.state_rows(), input.values().filter(|n| **n > 0).count(), "seed {seed}");
    }
}

#[test]
fn random_changes_give_every_row_the_results_of_its_definition() {
    (0..1200).for_each(|seed| check(seed, 12, 8, -1..3));
}

#[test]
fn large_partitions_behave_like_small_ones() {
    (5000..5080).for_each(|seed| check(seed, 60, 6, -1..2));
}

#[test]
fn rows_taken_back_too_often_are_reported_until_they_are_given() {
    (9000..9200).for_each(|seed| check(seed, 6, 6, -2..2));
}

/// A partition of ascending numbers with one call.
fn numbered(kind: WindowKind, frame: Frame, rows: i64) -> (Over, SchemaRef) {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let field = Arc::new(Field::new("r", DataType::Int64, true));
    let args = if kind == WindowKind::RowNumber { vec![] } else { vec![0] };
    let call = WindowCall { kind, args, filter: None, frame, ignore_nulls: false, distance: Some(1), field };
    let output = Arc::new(Schema::new(vec![schema.field(0).clone(), call.field.as_ref().clone()]));
    let spec = OverSpec {
        partition: vec![],
        order: vec![(0, SortOptions::default())],
        ties: vec![],
        calls: vec![call],
        limit: None,
        closes: None,
    };
    let mut op = Over::new(schema.clone(), output, spec).unwrap();
    let batch = numbers(&schema, (0..rows).map(|n| n * 2), 1);
    epoch(&mut op, vec![batch], 0, i64::MIN);
    (op, schema)
}

fn numbers(schema: &SchemaRef, values: impl Iterator<Item = i64>, weight: i64) -> ZBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    let rows = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    let weights = compact_weights(vec![weight; rows.num_rows()]);
    ZBatch::try_new(rows, weights).unwrap()
}

#[test]
fn a_change_emits_no_more_than_what_differs() {
    let rows_frame =
        |start, end| Frame { units: FrameUnits::Rows, start, end, exclude: FrameExclude::NoOthers };
    let two = || ScalarValue::Int64(Some(2));
    let bounded = || rows_frame(FrameBound::Preceding(two()), FrameBound::Following(two()));
    for (kind, frame, value, changes) in [
        (WindowKind::RowNumber, Frame::default(), 20_001, 1),
        (WindowKind::RowNumber, Frame::default(), 19_995, 5),
        (WindowKind::Lag, Frame::default(), 10_001, 3),
        (WindowKind::Sum, Frame::default(), 20_001, 1),
        (WindowKind::Sum, Frame::default(), 19_995, 5),
        (WindowKind::Sum, bounded(), 10_001, 9),
        (WindowKind::Min, Frame::default(), 10_001, 1),
    ] {
        let (mut op, schema) = numbered(kind.clone(), frame, 10_000);
        let rows = |out: &Output| out.rows.iter().map(ZBatch::num_rows).sum::<usize>();
        let out = epoch(&mut op, vec![numbers(&schema, [value].into_iter(), 1)], 1, i64::MIN);
        assert_eq!(rows(&out), changes, "{kind:?} {value}");
        let out = epoch(&mut op, vec![numbers(&schema, [value].into_iter(), -1)], 2, i64::MIN);
        assert_eq!(rows(&out), changes, "{kind:?} {value}");
    }
}

#[test]
fn sequences_know_their_positions_and_groups() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut sequence = Sequence::default();
    let mut model: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for step in 0..6000 {
        let row = vec![rng.random_range(0..60_u8), rng.random_range(0..200_u8)];
        let up = rng.random_bool(if step < 4000 { 0.8 } else { 0.2 });
        let missing = sequence.add(&row, 1, if up { 2 } else { -1 });
        let count = model.entry(row.clone()).or_default();
        assert_eq!(missing, if up || *count > 0 { 0 } else { -1 });
        *count = if up { *count + 2 } else { count.saturating_sub(1) };
        if *count == 0 {
            model.remove(&row);
        }
        if step % 97 == 0 {
            let copies: Vec<&Vec<u8>> = model.iter().flat_map(|(r, n)| std::iter::repeat_n(r, *n)).collect();
            assert_eq!((sequence.len(), sequence.rows()), (copies.len(), model.len()));
            let probe = rng.random_range(0..=copies.len());
            let groups = copies[..probe].chunk_by(|a, b| a[0] == b[0]).count();
            assert_eq!(sequence.groups_before(probe), groups);
            let all: Vec<usize> =
                (0..copies.len()).filter(|i| *i == 0 || copies[i - 1][0] != copies[*i][0]).collect();
            let group = rng.random_range(0..=all.len());
            assert_eq!(sequence.group_start(group), all.get(group).copied().unwrap_or(copies.len()));
            assert_eq!(sequence.lower_bound(&row), copies.iter().filter(|r| ***r < row).count());
            assert_eq!(sequence.at(probe).map(|r| r.bytes.to_vec()), copies.get(probe).map(|r| r.to_vec()));
        }
    }
}
