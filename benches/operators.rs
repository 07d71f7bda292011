//! Throughput of single operators: rows per second of one thread, from Arrow batches in memory.
//!
//! Run with `cargo bench --bench operators`. An iteration is one epoch of 16 batches of 8,192 rows (unless said
//! otherwise), absorbed and closed, on state that has been loaded before.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, col, lit};
use freshet::expr::ScalarExpr;
use freshet::expr::aggregate::{AggregateCall, AggregateKind, Shape};
use freshet::operator::join::{Join, JoinSpec};
use freshet::operator::map::Map;
use freshet::operator::reduce::{Reduce, ReduceSpec};
use freshet::operator::{Operator, Output, Progress, TimeFacts};
use freshet::time::{Epoch, EventTime, Watermark};
use freshet::zset::ZBatch;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 8192;
const BATCHES: usize = 16;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn epoch(op: &mut dyn Operator, batches: &[(usize, ZBatch)]) -> usize {
    let mut rows = 0;
    let mut pass_on = |out: &mut Output| {
        assert!(out.errors.is_empty());
        rows += black_box(&out.rows).iter().map(ZBatch::num_rows).sum::<usize>();
        out.rows.clear();
    };
    let mut out = Output::default();
    for (port, batch) in batches {
        let mut progress = op.absorb(*port, batch.clone(), &mut out).expect("absorb");
        pass_on(&mut out);
        while progress == Progress::More {
            progress = op.resume(&mut out).expect("resume");
            pass_on(&mut out);
        }
    }
    let watermarks = [Watermark::NONE; 2];
    let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
    let mut progress = op.close_epoch(&facts, &mut out).expect("close");
    pass_on(&mut out);
    while progress == Progress::More {
        progress = op.resume(&mut out).expect("resume");
        pass_on(&mut out);
    }
    rows
}

/// Batches of (key, value) with uniformly drawn keys below `keys`.
fn key_value(schema: &SchemaRef, keys: i64, batches: usize, seed: u64) -> Vec<ZBatch> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let key = |k: i64| format!("customer-{:011}", k.wrapping_mul(2_654_435_761) % 10_000_000_000);
    (0..batches)
        .map(|_| {
            let drawn: Vec<i64> = (0..ROWS).map(|_| rng.random_range(0..keys)).collect();
            let first: ArrayRef = match schema.field(0).data_type() {
                DataType::Utf8 => Arc::new(StringArray::from_iter_values(drawn.iter().map(|k| key(*k)))),
                _ => Arc::new(Int64Array::from(drawn)),
            };
            let second = Int64Array::from_iter_values((0..ROWS).map(|_| rng.random_range(0..1_000_000)));
            ZBatch::inserts(
                RecordBatch::try_new(schema.clone(), vec![first, Arc::new(second)]).expect("columns"),
            )
        })
        .collect()
}

/// Every key once.
fn all_keys(schema: &SchemaRef, keys: i64) -> Vec<(usize, ZBatch)> {
    (0..keys as usize)
        .step_by(ROWS)
        .map(|start| {
            let range = start as i64..(start + ROWS).min(keys as usize) as i64;
            let first = Int64Array::from_iter_values(range.clone().map(|k| k.wrapping_mul(7_368_787) % keys));
            let second = Int64Array::from_iter_values(range);
            let columns: Vec<ArrayRef> = vec![Arc::new(first), Arc::new(second)];
            (0, ZBatch::inserts(RecordBatch::try_new(schema.clone(), columns).expect("columns")))
        })
        .collect()
}

fn on_port(port: usize, batches: Vec<ZBatch>) -> Vec<(usize, ZBatch)> {
    batches.into_iter().map(|b| (port, b)).collect()
}

fn call(kind: AggregateKind, argument: Option<usize>, data_type: DataType) -> AggregateCall {
    AggregateCall {
        kind,
        argument,
        more: Vec::new(),
        shape: Shape::default(),
        filter: None,
        distinct: false,
        name: "a".into(),
        data_type,
    }
}

fn reduce(input: &SchemaRef, aggregates: Vec<AggregateCall>, append_only: bool) -> Reduce {
    let values = aggregates.iter().map(|a| Field::new("a", a.data_type.clone(), true));
    let output = Schema::new(std::iter::once(input.field(0).clone()).chain(values).collect::<Vec<_>>());
    let spec = ReduceSpec {
        keys: vec![0],
        aggregates,
        window_end: None,
        on_window_close: false,
        append_only,
        global_owner: true,
    };
    Reduce::new(input.clone(), Arc::new(output), spec).expect("reduce")
}

fn count_sum() -> Vec<AggregateCall> {
    vec![
        call(AggregateKind::Count, None, DataType::Int64),
        call(AggregateKind::Sum, Some(1), DataType::Decimal128(38, 0)),
    ]
}

fn reduces(c: &mut Criterion) {
    let ints = schema(&[("k", DataType::Int64), ("v", DataType::Int64)]);
    let texts = schema(&[("k", DataType::Utf8), ("v", DataType::Int64)]);
    let mut group = c.benchmark_group("reduce");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    for (name, schema, keys) in [
        ("count_sum/i64/10k", &ints, 10_000),
        ("count_sum/i64/1M", &ints, 1_000_000),
        ("count_sum/text/10k", &texts, 10_000),
        ("count_sum/text/1M", &texts, 1_000_000),
    ] {
        let mut op = reduce(schema, count_sum(), true);
        epoch(&mut op, &on_port(0, key_value(schema, keys, 4 * keys as usize / ROWS + 1, 1)));
        println!(
            "{name}: {} keys, {:.1} bytes per key",
            op.state_rows(),
            op.state_bytes() as f64 / op.state_rows() as f64
        );
        let changes = on_port(0, key_value(schema, keys, BATCHES, 2));
        group.bench_function(name, |b| b.iter(|| epoch(&mut op, &changes)));
    }
    let mut op = reduce(&ints, count_sum(), true);
    epoch(&mut op, &on_port(0, key_value(&ints, 10_000, 8, 1)));
    let changes = on_port(0, key_value(&ints, 10_000, BATCHES, 2));
    group.bench_function("count_sum/i64/10k/epoch per batch", |b| {
        b.iter(|| changes.chunks(1).map(|one| epoch(&mut op, one)).sum::<usize>());
    });
    let load = all_keys(&ints, 1_000_000);
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("count_sum/i64/load 1M keys", |b| {
        b.iter(|| epoch(&mut reduce(&ints, count_sum(), true), &load));
    });
    let extremes = || {
        vec![
            call(AggregateKind::Min, Some(1), DataType::Int64),
            call(AggregateKind::Max, Some(1), DataType::Int64),
        ]
    };
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    for (name, append_only) in [("min_max/append-only/10k", true), ("min_max/retractable/10k", false)] {
        let mut op = reduce(&ints, extremes(), append_only);
        epoch(&mut op, &on_port(0, key_value(&ints, 10_000, 8, 1)));
        let inserts = on_port(0, key_value(&ints, 10_000, BATCHES / 2, 2));
        // Insert and take back, so that state stays as it is.
        let back: Vec<_> =
            inserts.iter().map(|(p, b)| (*p, if append_only { b.clone() } else { b.negate() })).collect();
        group.bench_function(name, |b| b.iter(|| epoch(&mut op, &inserts) + epoch(&mut op, &back)));
    }
    group.finish();
}

fn joins(c: &mut Criterion) {
    let left = schema(&[("k", DataType::Int64), ("v", DataType::Int64)]);
    let right = schema(&[("rk", DataType::Int64), ("rv", DataType::Int64)]);
    let output = schema(&[("k", DataType::Int64), ("v", DataType::Int64), ("rv", DataType::Int64)]);
    let new = || {
        let spec = JoinSpec {
            left_keys: vec![0],
            right_keys: vec![0],
            residual: None,
            output: vec![0, 1, 3],
            left_expiry: None,
            right_expiry: None,
        };
        Join::new(left.clone(), right.clone(), output.clone(), spec).expect("join")
    };
    let table = |keys| all_keys(&right, keys).into_iter().map(|(_, b)| (1, b)).collect::<Vec<_>>();
    let mut group = c.benchmark_group("join");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    for (name, keys) in [("stream with table/10k", 10_000), ("stream with table/1M", 1_000_000)] {
        let mut op = new();
        epoch(&mut op, &table(keys));
        println!("{name}: {:.1} bytes per row", op.state_bytes() as f64 / op.state_rows() as f64);
        let stream = on_port(0, key_value(&left, keys, BATCHES / 2, 2));
        let back: Vec<_> = stream.iter().map(|(p, b)| (*p, b.negate())).collect();
        // The stream side is kept as well; taking it back keeps its size (and measures deletions).
        group.bench_function(format!("{name}/insert and retract"), |b| {
            b.iter(|| epoch(&mut op, &stream) + epoch(&mut op, &back));
        });
        let stream = on_port(0, key_value(&left, keys, BATCHES, 3));
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut op = new();
                    epoch(&mut op, &table(keys));
                    op
                },
                |mut op| {
                    epoch(&mut op, &stream);
                    op
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    let both: Vec<_> = key_value(&left, 200_000, BATCHES / 2, 4)
        .into_iter()
        .zip(key_value(&right, 200_000, BATCHES / 2, 5))
        .flat_map(|(l, r)| [(0, l), (1, r)])
        .collect();
    group.bench_function("symmetric/200k", |b| {
        b.iter_batched(
            new,
            |mut op| {
                epoch(&mut op, &both);
                op
            },
            criterion::BatchSize::PerIteration,
        )
    });
    group.finish();
}

fn maps(c: &mut Criterion) {
    let input = schema(&[("k", DataType::Int64), ("v", DataType::Int64)]);
    let df = DFSchema::try_from(input.as_ref().clone()).expect("schema");
    let compile = |e: Expr| ScalarExpr::compile(&e, &df).expect("expression");
    let output = schema(&[("k", DataType::Int64), ("w", DataType::Int64)]);
    let predicate = compile(col("v").gt(lit(100_000_i64)));
    let exprs = vec![compile(col("k")), compile(col("v") * lit(908_i64) / lit(1000_i64))];
    let mut op = Map::new(input.clone(), output, Some(predicate), Some(exprs)).expect("map");
    let changes = on_port(0, key_value(&input, 1_000_000, BATCHES, 2));
    let mut group = c.benchmark_group("map");
    group.throughput(Throughput::Elements((ROWS * BATCHES) as u64));
    group.bench_function("filter and project", |b| b.iter(|| epoch(&mut op, &changes)));
    group.finish();
}

criterion_group! {
    name = operators;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = reduces, joins, maps
}
criterion_main!(operators);
