//! Window functions over one partition of a million rows: what a change of one row costs, at the end and in the middle.
//!
//! Run with `cargo bench --bench window`. An iteration inserts one row and takes it back, an epoch each; figures are per
//! iteration, that is for two changes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{Criterion, criterion_group, criterion_main};
use datafusion::common::ScalarValue;
use freshet::expr::window::{
    Frame, FrameBound, FrameExclude, FrameUnits, LimitBy, OverLimit, WindowCall, WindowKind,
};
use freshet::operator::over::{Over, OverSpec};
use freshet::operator::top_k::{TopK, TopKSpec};
use freshet::operator::{Operator, Output, Progress, TimeFacts};
use freshet::time::{Epoch, EventTime, Watermark};
use freshet::zset::ZBatch;

const ROWS: i64 = 1_000_000;

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect::<Vec<_>>()))
}

/// Rows (order, value).
fn rows(orders: impl Iterator<Item = i64>, weight: i64) -> ZBatch {
    let orders: Vec<i64> = orders.collect();
    let values: Vec<i64> = orders.iter().map(|n| n.wrapping_mul(2_654_435_761) % 1000).collect();
    let weights = (weight != 1).then(|| Int64Array::from(vec![weight; orders.len()]));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(orders)), Arc::new(Int64Array::from(values))];
    let batch = RecordBatch::try_new(schema(&["o", "x"]), columns).expect("columns");
    ZBatch::try_new(batch, weights).expect("a batch")
}

fn epoch(op: &mut dyn Operator, batch: ZBatch) -> usize {
    let mut out = Output::default();
    assert_eq!(op.absorb(0, batch, &mut out).expect("absorb"), Progress::Done);
    let watermarks = [Watermark::NONE];
    let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
    assert_eq!(op.close_epoch(&facts, &mut out).expect("close"), Progress::Done);
    assert!(out.errors.is_empty());
    black_box(&out.rows).iter().map(ZBatch::num_rows).sum()
}

fn over(kind: WindowKind, frame: Frame, limit: Option<OverLimit>) -> Over {
    let field = Arc::new(Field::new("r", DataType::Int64, true));
    let args = if matches!(kind, WindowKind::RowNumber | WindowKind::Rank) { vec![] } else { vec![1] };
    let call = WindowCall { kind, args, filter: None, frame, ignore_nulls: false, distance: Some(1), field };
    let spec = OverSpec {
        partition: vec![],
        order: vec![(0, SortOptions::default())],
        ties: vec![],
        calls: vec![call],
        limit,
        closes: None,
    };
    Over::new(schema(&["o", "x"]), schema(&["o", "x", "r"]), spec).expect("an operator")
}

fn measure(c: &mut Criterion, name: &str, op: &mut dyn Operator) {
    for start in (0..ROWS).step_by(8192) {
        epoch(op, rows((start..(start + 8192).min(ROWS)).map(|n| n * 2), 1));
    }
    let mut group = c.benchmark_group("window");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (place, at) in [("end", 2 * ROWS + 1), ("middle", ROWS + 1), ("start", -1)] {
        let (insert, delete) = (rows([at].into_iter(), 1), rows([at].into_iter(), -1));
        let changes = epoch(op, insert.clone());
        epoch(op, delete.clone());
        if changes > 10_000 {
            // A change of half of the output is measured by its length, not by its latency.
            group.measurement_time(Duration::from_secs(10));
        }
        group.bench_function(format!("{name}/{place} ({changes} changes)"), |b| {
            b.iter(|| epoch(op, insert.clone()) + epoch(op, delete.clone()));
        });
    }
    group.finish();
}

fn windows(c: &mut Criterion) {
    let bounded = Frame {
        units: FrameUnits::Rows,
        start: FrameBound::Preceding(ScalarValue::Int64(Some(10))),
        end: FrameBound::CurrentRow,
        exclude: FrameExclude::NoOthers,
    };
    let top = TopKSpec {
        partition: vec![],
        order: vec![(0, SortOptions::default())],
        offset: 0,
        limit: 10,
        row_number: true,
        append_only: false,
    };
    let mut top_k = TopK::new(schema(&["o", "x"]), schema(&["o", "x", "r"]), top).expect("an operator");
    measure(c, "row_number <= 10", &mut top_k);
    let ranked = Some(OverLimit { offset: 0, limit: 10, by: LimitBy::Ties });
    measure(c, "rank <= 10", &mut over(WindowKind::Rank, Frame::default(), ranked));
    measure(c, "lag", &mut over(WindowKind::Lag, Frame::default(), None));
    measure(c, "sum of 11 rows", &mut over(WindowKind::Sum, bounded, None));
    measure(c, "running min", &mut over(WindowKind::Min, Frame::default(), None));
    measure(c, "running sum", &mut over(WindowKind::Sum, Frame::default(), None));
}

criterion_group!(benches, windows);
criterion_main!(benches);
