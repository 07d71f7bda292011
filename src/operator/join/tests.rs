//! Tests of Join against its naive definition, and of its corner cases.

use super::*;
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::pretty::{format, parse};
use arrow::array::{Int64Array, StringArray};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{col, lit};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;

type Rng8 = rand_chacha::ChaCha8Rng;
/// Key columns (two), a number and a text.
type Row = (Option<i64>, Option<String>, Option<i64>, String);

fn schema(prefix: &str) -> SchemaRef {
    let field = |name: &str, t: DataType| Field::new(format!("{prefix}{name}"), t, true);
    Arc::new(Schema::new(vec![
        field("a", DataType::Int64),
        field("b", DataType::Utf8),
        field("n", DataType::Int64),
        field("t", DataType::Utf8),
    ]))
}

fn batch(prefix: &str, rows: &[(Row, i64)]) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.0.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.0.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.0.3.clone())).collect::<StringArray>()),
    ];
    let weights = compact_weights(rows.iter().map(|r| r.1).collect());
    ZBatch::try_new(RecordBatch::try_new(schema(prefix), columns).unwrap(), weights).unwrap()
}

fn both() -> SchemaRef {
    let (l, r) = (schema("l"), schema("r"));
    Arc::new(Schema::new(l.fields().iter().chain(r.fields()).cloned().collect::<Vec<_>>()))
}

fn join(keys: &[usize], residual: bool, output: &[usize]) -> Join {
    let joined = both();
    let residual = residual.then(|| {
        let input = DFSchema::try_from(joined.as_ref().clone()).unwrap();
        ScalarExpr::compile(&(col("ln") + col("rn")).gt(lit(3_i64)), &input).unwrap()
    });
    let spec = JoinSpec {
        left_keys: keys.to_vec(),
        right_keys: keys.to_vec(),
        residual,
        output: output.to_vec(),
        left_expiry: None,
        right_expiry: None,
    };
    Join::new(schema("l"), schema("r"), Arc::new(joined.project(output).unwrap()), spec).unwrap()
}

fn absorb(op: &mut Join, port: usize, changes: ZBatch) -> Vec<ZBatch> {
    let mut out = Output::default();
    let mut progress = op.absorb(port, changes, &mut out).unwrap();
    while progress == Progress::More {
        progress = op.resume(&mut out).unwrap();
    }
    assert!(out.errors.is_empty());
    out.rows
}

fn accumulate(view: &mut HashMap<String, i64>, batches: &[ZBatch]) {
    for batch in batches {
        for line in format(batch).split(['|', '\n']).map(str::trim).filter(|l| !l.is_empty()) {
            let (weight, row) = line.split_once(' ').unwrap();
            *view.entry(row.to_string()).or_default() += weight.parse::<i64>().unwrap();
        }
    }
    view.retain(|_, w| *w != 0);
}

fn random_row(rng: &mut Rng8, keys: i64) -> Row {
    (
        rng.random_bool(0.9).then(|| rng.random_range(0..keys)),
        rng.random_bool(0.9).then(|| ["p", "q"][rng.random_range(0..2)].to_string()),
        rng.random_bool(0.9).then(|| rng.random_range(0..6)),
        format!("t{}", rng.random_range(0..3)),
    )
}

fn naive(
    left: &[Row],
    right: &[Row],
    keys: &[usize],
    residual: bool,
    output: &[usize],
) -> HashMap<String, i64> {
    let texts = |r: &Row| -> [Option<String>; 4] {
        [r.0.map(|x| x.to_string()), r.1.clone(), r.2.map(|x| x.to_string()), Some(r.3.clone())]
    };
    let mut result = HashMap::new();
    for l in left {
        let lt = texts(l);
        for r in right {
            let rt = texts(r);
            let equal = keys.iter().all(|k| lt[*k].is_some() && lt[*k] == rt[*k]);
            let passes = !residual || matches!((l.2, r.2), (Some(a), Some(b)) if a + b > 3);
            if equal && passes {
                let all: Vec<String> =
                    lt.iter().chain(&rt).map(|v| v.clone().unwrap_or("NULL".into())).collect();
                let row: Vec<String> = output.iter().map(|c| all[*c].clone()).collect();
                *result.entry(row.join(" ")).or_default() += 1;
            }
        }
    }
    result
}

fn check_against_naive(seed: u64, keys: &[usize], residual: bool, output: &[usize]) {
    println!("seed {seed} keys {keys:?} residual {residual}");
    let mut rng = Rng8::seed_from_u64(seed);
    let mut op = join(keys, residual, output);
    let range = if keys.is_empty() { 3 } else { rng.random_range(1..40) };
    let size = if keys.is_empty() { 8 } else { 60 };
    let mut live: [Vec<Row>; 2] = [vec![], vec![]];
    let mut view = HashMap::new();
    for _ in 0..20 {
        let mut changes: Vec<(usize, Row, i64)> = vec![];
        for (port, live) in live.iter_mut().enumerate() {
            for _ in 0..rng.random_range(0..size) {
                let row = random_row(&mut rng, range);
                let times = if rng.random_bool(0.1) { 2 } else { 1 };
                live.extend(std::iter::repeat_n(row.clone(), times));
                changes.push((port, row, times as i64));
            }
            let share = if rng.random_bool(0.2) { 0.95 } else { 0.3 };
            let (gone, mut kept): (Vec<Row>, Vec<Row>) =
                std::mem::take(live).into_iter().partition(|_| rng.random_bool(share));
            for row in gone {
                changes.push((port, row.clone(), -1));
                // Some deletions are updates of the join key.
                if rng.random_bool(0.3) {
                    let new = (rng.random_bool(0.9).then(|| rng.random_range(0..range)), row.1, row.2, row.3);
                    changes.push((port, new.clone(), 1));
                    kept.push(new);
                }
            }
            *live = kept;
        }
        // Any order at all: a row may be retracted before it is inserted.
        changes.shuffle(&mut rng);
        while !changes.is_empty() {
            let port = changes[0].0;
            let n = changes.iter().take_while(|c| c.0 == port).count();
            let n = rng.random_range(1..=n);
            let rows: Vec<(Row, i64)> = changes.drain(..n).map(|c| (c.1, c.2)).collect();
            accumulate(&mut view, &absorb(&mut op, port, batch(["l", "r"][port], &rows)));
        }
        assert_eq!(view, naive(&live[0], &live[1], keys, residual, output), "seed {seed}");
        let kept = |side: &[Row]| -> usize {
            let keyed = |r: &&Row| keys.iter().all(|k| [r.0.is_some(), r.1.is_some(), r.2.is_some()][*k]);
            side.iter().filter(keyed).count()
        };
        // A weight of two is one entry, so entries are at most the rows.
        assert!(op.state_rows() <= kept(&live[0]) + kept(&live[1]));
        assert!(!op.sides.iter().any(|s| s.rows.has_negative()));
    }
}

#[test]
fn the_join_equals_its_naive_definition_after_random_epochs() {
    let all: Vec<usize> = (0..8).collect();
    for seed in 0..15 {
        check_against_naive(seed, &[0], false, &all);
        check_against_naive(seed, &[1], true, &[6, 2, 2]);
        check_against_naive(seed, &[0, 1], true, &all);
        check_against_naive(seed, &[0, 2], false, &[3]);
        check_against_naive(seed, &[], true, &all);
        check_against_naive(seed, &[0], false, &[0, 7]);
    }
}

#[test]
fn a_match_appears_and_leaves_again() {
    let mut op = join(&[0], false, &[2, 6]);
    assert!(absorb(&mut op, 0, parse(&schema("l"), "+1 1 x 10 a | +1 2 x 20 a | +1 NULL x 30 a")).is_empty());
    assert_eq!(
        format(&absorb(&mut op, 1, parse(&schema("r"), "+1 1 y 7 b | +1 NULL y 8 b"))[0]).trim(),
        "+1 10 7"
    );
    assert_eq!(format(&absorb(&mut op, 1, parse(&schema("r"), "-1 1 y 7 b"))[0]).trim(), "-1 10 7");
    assert!(absorb(&mut op, 0, parse(&schema("l"), "+1 1 x 10 a")).is_empty());
    assert_eq!(op.state_rows(), 3);
}

#[test]
fn a_large_fan_out_comes_in_steps() {
    let mut op = join(&[0], false, &[2, 6]);
    let rows = |n: i64| (0..n).map(|i| ((Some(1), None, Some(i), "t".to_string()), 1)).collect::<Vec<_>>();
    absorb(&mut op, 0, batch("l", &rows(1000)));
    let mut out = Output::default();
    let mut progress = op.absorb(1, batch("r", &rows(300)), &mut out).unwrap();
    assert_eq!(progress, Progress::More);
    let mut steps = 1;
    while progress == Progress::More {
        assert!(out.rows.iter().all(|b| b.num_rows() <= TARGET_ROWS));
        progress = op.resume(&mut out).unwrap();
        steps += 1;
    }
    assert!(steps > 5);
    assert_eq!(out.rows.iter().map(ZBatch::num_rows).sum::<usize>(), 300_000);
}

#[test]
fn rows_of_many_tiny_batches_and_mostly_dead_blocks_are_brought_together() {
    let mut op = join(&[0], false, &[2, 6]);
    for i in 0..3000 {
        absorb(&mut op, 0, batch("l", &[((Some(i % 700), None, Some(i), "t".into()), 1)]));
    }
    let small = op.state_bytes();
    assert!(small < 3000 * 200, "{small}");
    for i in 0..2900 {
        absorb(&mut op, 0, batch("l", &[((Some(i % 700), None, Some(i), "t".into()), -1)]));
    }
    assert_eq!(op.state_rows(), 100);
    assert!(op.state_bytes() < small);
    let probe: Vec<(Row, i64)> = (0..700).map(|i| ((Some(i), None, Some(0), "t".into()), 1)).collect();
    let found = absorb(&mut op, 1, batch("r", &probe));
    assert_eq!(found.iter().map(ZBatch::num_rows).sum::<usize>(), 100);
}

#[test]
fn rows_expire_when_the_other_sides_watermark_has_passed_them() {
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None);
    let schema =
        Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("t", time, true)]));
    let spec = JoinSpec {
        left_keys: vec![0],
        right_keys: vec![0],
        residual: None,
        output: vec![0, 1],
        left_expiry: Some((1, 10)),
        right_expiry: None,
    };
    let mut op = Join::new(schema.clone(), schema.clone(), schema.clone(), spec).unwrap();
    let rows = |from: i64, to: i64| {
        let times = arrow::array::TimestampMicrosecondArray::from_iter_values(from..to);
        let keys = Int64Array::from_iter_values((from..to).map(|i| i % 7));
        ZBatch::inserts(RecordBatch::try_new(schema.clone(), vec![Arc::new(keys), Arc::new(times)]).unwrap())
    };
    assert!(op.waits_for_watermark());
    absorb(&mut op, 0, rows(100, 200));
    absorb(&mut op, 0, rows(50, 150));
    let close = |op: &mut Join, left: i64, right: i64| {
        let watermarks = [Watermark(left), Watermark(right)];
        let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
        op.close_epoch(&facts, &mut Output::default()).unwrap();
    };
    close(&mut op, 1_000_000, 60);
    assert_eq!(op.state_rows(), 200);
    close(&mut op, 1_000_000, 131);
    // Kept: times with time + 10 >= 131.
    assert_eq!(op.state_rows(), (200 - 121) + (150 - 121));
    let found = absorb(&mut op, 1, rows(0, 7));
    assert_eq!(found.iter().map(ZBatch::num_rows).sum::<usize>(), 79 + 29);
    close(&mut op, 1_000_000, i64::MAX);
    assert_eq!(op.state_rows(), 7);
}
