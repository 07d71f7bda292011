//! What an update costs as the state grows: one thread, keys drawn uniformly, so that most of a large state is far
//! from the processor.
//!
//! Run with `cargo bench --bench growth`. Environment: `GROWTH_KEYS` (10,000,000; the largest state),
//! `GROWTH_OPERATORS` (`reduce,join`; all), `GROWTH_RUNS` (5; the median is shown).
//!
//! A state is loaded with every key once. Then epochs of 16 batches of 8,192 rows are absorbed and closed, one with
//! insertions and one that takes them back, and the nanoseconds per row of both together are shown, with the longest
//! epoch of the loading (of 8,192 rows each).

mod support;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use freshet::expr::aggregate::{AggregateCall, AggregateKind, Shape};
use freshet::operator::distinct::Distinct;
use freshet::operator::join::{Join, JoinSpec};
use freshet::operator::reduce::{Reduce, ReduceSpec};
use freshet::operator::top_k::{TopK, TopKSpec};
use freshet::operator::top_one::TopOne;
use freshet::operator::{Operator, Output, Progress, TimeFacts};
use freshet::time::{Epoch, EventTime, Watermark};
use freshet::zset::ZBatch;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{env_number, mb, measure, median_by};

const ROWS: usize = 8192;
const BATCHES: usize = 16;

fn schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int64, true)).collect::<Vec<_>>()))
}

fn batch(keys: Vec<i64>, values: Vec<i64>) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(values))];
    ZBatch::inserts(RecordBatch::try_new(schema(&["k", "v"]), columns).expect("columns"))
}

fn epoch(op: &mut dyn Operator, port: usize, batches: &[ZBatch]) {
    let mut out = Output::default();
    let work = |progress: Progress, op: &mut dyn Operator, out: &mut Output| {
        let mut progress = progress;
        while progress == Progress::More {
            out.rows.clear();
            progress = op.resume(out).expect("resume");
        }
        assert!(out.errors.is_empty());
        out.rows.clear();
    };
    for batch in batches {
        let progress = op.absorb(port, batch.clone(), &mut out).expect("absorb");
        work(progress, op, &mut out);
    }
    let watermarks = [Watermark::NONE; 2];
    let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
    let progress = op.close_epoch(&facts, &mut out).expect("close");
    work(progress, op, &mut out);
}

fn reduce() -> Box<dyn Operator> {
    let call = |kind, argument, data_type| AggregateCall {
        kind,
        argument,
        more: Vec::new(),
        shape: Shape::default(),
        filter: None,
        distinct: false,
        name: "a".into(),
        data_type,
    };
    let sum = DataType::Decimal128(38, 0);
    let aggregates = vec![
        call(AggregateKind::Count, None, DataType::Int64),
        call(AggregateKind::Sum, Some(1), sum.clone()),
    ];
    let output = Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("s", sum, true),
    ]);
    let spec = ReduceSpec {
        keys: vec![0],
        aggregates,
        window_end: None,
        on_window_close: false,
        append_only: false,
        global_owner: true,
    };
    Box::new(Reduce::new(schema(&["k", "v"]), Arc::new(output), spec).expect("reduce"))
}

fn join() -> Box<dyn Operator> {
    let spec = JoinSpec {
        left_keys: vec![0],
        right_keys: vec![0],
        residual: None,
        output: vec![0, 1, 3],
        left_expiry: None,
        right_expiry: None,
    };
    let (left, right, output) = (schema(&["k", "v"]), schema(&["k", "v"]), schema(&["k", "v", "w"]));
    Box::new(Join::new(left, right, output, spec).expect("join"))
}

fn first_rows(limit: u64, append_only: bool) -> TopKSpec {
    let order = vec![(1, SortOptions { descending: true, nulls_first: true })];
    TopKSpec { partition: vec![0], order, offset: 0, limit, row_number: false, append_only }
}

fn top_k() -> Box<dyn Operator> {
    let (input, output) = (schema(&["k", "v"]), schema(&["k", "v"]));
    Box::new(TopK::new(input, output, first_rows(3, false)).expect("top k"))
}

fn top_one() -> Box<dyn Operator> {
    let (input, output) = (schema(&["k", "v"]), schema(&["k", "v"]));
    Box::new(TopOne::new(input, output, first_rows(1, true)).expect("top one"))
}

fn distinct() -> Box<dyn Operator> {
    Box::new(Distinct::new(schema(&["k", "v"]), None).expect("distinct"))
}

/// An operator, the port of its updates, and whether rows can be taken back.
type Subject = (&'static str, fn() -> Box<dyn Operator>, usize, bool);

const SUBJECTS: &[Subject] = &[
    ("reduce", reduce, 0, true),
    ("join", join, 1, true),
    ("distinct", distinct, 0, true),
    ("top_k", top_k, 0, true),
    ("top_one", top_one, 0, false),
];

/// Loads every key once; the seconds of the longest epoch.
fn load(op: &mut dyn Operator, keys: i64) -> f64 {
    let mut longest = 0_f64;
    for start in (0..keys).step_by(ROWS) {
        let numbers: Vec<i64> = (start..(start + ROWS as i64).min(keys)).collect();
        let drawn = numbers.iter().map(|k| k.wrapping_mul(7_368_787) % keys).collect();
        let rows = [batch(drawn, numbers)];
        let begin = Instant::now();
        epoch(op, 0, &rows);
        longest = longest.max(begin.elapsed().as_secs_f64());
    }
    longest
}

fn updates(keys: i64, seed: u64) -> Vec<ZBatch> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..BATCHES)
        .map(|_| {
            let drawn = (0..ROWS).map(|_| rng.random_range(0..keys)).collect();
            batch(drawn, (0..ROWS).map(|_| rng.random_range(-1_000_000..0)).collect())
        })
        .collect()
}

fn main() {
    let most = env_number("GROWTH_KEYS", 10_000_000) as i64;
    let runs = env_number("GROWTH_RUNS", 5);
    let wanted = std::env::var("GROWTH_OPERATORS").unwrap_or_default();
    let table =
        support::Table::new(&["operator", "keys", "ns per row", "to 10,000", "state MB", "longest ms"]);
    for (name, new, port, takes_back) in
        SUBJECTS.iter().filter(|s| wanted.is_empty() || wanted.split(',').any(|w| w.trim() == s.0))
    {
        let mut least = None;
        for keys in [10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|k| *k <= most) {
            let mut op = new();
            let longest = load(&mut *op, keys);
            let spent: Vec<f64> = (0..runs)
                .map(|run| {
                    let there = updates(keys, run);
                    let back: Vec<ZBatch> =
                        if *takes_back { there.iter().map(ZBatch::negate).collect() } else { vec![] };
                    let ((), spent) = measure(|| {
                        epoch(&mut *op, *port, &there);
                        if *takes_back {
                            epoch(&mut *op, *port, &back);
                        }
                    });
                    let epochs = if *takes_back { 2 } else { 1 };
                    spent.cpu * 1e9 / (epochs * ROWS * BATCHES) as f64
                })
                .collect();
            let ns = median_by(&spent, |s| *s).expect("at least one run");
            let first = *least.get_or_insert(ns);
            table.row(&[
                name.to_string(),
                keys.to_string(),
                format!("{ns:.0}"),
                format!("{:.1}", ns / first),
                mb(op.state_bytes() as u64),
                format!("{:.1}", longest * 1e3),
            ]);
        }
    }
}
