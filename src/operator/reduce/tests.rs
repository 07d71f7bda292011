//! Tests of Reduce against its naive definition, and of its corner cases.

mod rare;

use super::*;
use crate::expr::aggregate::AggregateKind;
use crate::time::{Epoch, EventTime};
use crate::zset::pretty::{format, parse};
use arrow::array::{BooleanArray, Float64Array, Int32Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};

type Rng8 = rand_chacha::ChaCha8Rng;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn call(kind: AggregateKind, argument: Option<usize>, data_type: DataType) -> AggregateCall {
    AggregateCall {
        kind,
        argument,
        more: vec![],
        shape: Default::default(),
        filter: None,
        distinct: false,
        name: "a".into(),
        data_type,
    }
}

fn spec(keys: Vec<usize>, aggregates: Vec<AggregateCall>) -> ReduceSpec {
    ReduceSpec {
        keys,
        aggregates,
        window_end: None,
        on_window_close: false,
        append_only: false,
        global_owner: true,
    }
}

fn reduce(input: &SchemaRef, spec: ReduceSpec) -> Reduce {
    let keys = spec.keys.iter().map(|k| input.field(*k).clone());
    let values = spec.aggregates.iter().map(|a| Field::new("a", a.data_type.clone(), true));
    let output = Arc::new(Schema::new(keys.chain(values).collect::<Vec<_>>()));
    Reduce::new(Arc::clone(input), output, spec).unwrap()
}

fn close_at(op: &mut Reduce, watermark: i64) -> Output {
    let watermarks = [Watermark(watermark)];
    let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
    let mut out = Output::default();
    let mut progress = op.close_epoch(&facts, &mut out).unwrap();
    while progress == Progress::More {
        progress = op.resume(&mut out).unwrap();
    }
    out
}

fn close(op: &mut Reduce) -> Output {
    close_at(op, i64::MIN)
}

fn shown(out: &Output) -> String {
    let all: Vec<String> = out.rows.iter().map(format).collect();
    all.join(" | ").trim().to_string()
}

/// Runs one epoch and returns its output in text.
fn epoch(op: &mut Reduce, input: &SchemaRef, text: &str) -> String {
    op.absorb(0, parse(input, text), &mut Output::default()).unwrap();
    shown(&close(op))
}

fn lines(text: &str) -> BTreeSet<String> {
    text.split(['|', '\n']).map(|l| l.trim().to_string()).filter(|l| !l.is_empty()).collect()
}

fn accumulate(view: &mut HashMap<String, i64>, batches: &[ZBatch]) {
    let options = FormatOptions::default().with_null("NULL");
    for batch in batches {
        let formatters: Vec<_> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for i in 0..batch.num_rows() {
            let row: Vec<String> = formatters.iter().map(|f| f.value(i).to_string()).collect();
            *view.entry(row.join(" ")).or_default() += batch.weight(i);
        }
    }
    view.retain(|_, w| *w != 0);
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    k: Option<i32>,
    s: Option<String>,
    v: Option<i32>,
    b: Option<i64>,
    f: Option<f64>,
    t: Option<String>,
    m: Option<bool>,
}

fn input() -> SchemaRef {
    schema(&[
        ("k", DataType::Int32),
        ("s", DataType::Utf8),
        ("v", DataType::Int32),
        ("b", DataType::Int64),
        ("f", DataType::Float64),
        ("t", DataType::Utf8),
        ("m", DataType::Boolean),
    ])
}

fn batch(rows: &[(Row, i64)]) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0.k).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.0.s.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.0.v).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.0.b).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.0.f).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.0.t.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.0.m).collect::<BooleanArray>()),
    ];
    let weights = rows.iter().any(|r| r.1 != 1).then(|| rows.iter().map(|r| r.1).collect::<Int64Array>());
    ZBatch::try_new(RecordBatch::try_new(input(), columns).unwrap(), weights).unwrap()
}

fn random_row(rng: &mut Rng8, keys: i32) -> Row {
    let some = |rng: &mut Rng8| rng.random_bool(0.85);
    Row {
        k: some(rng).then(|| rng.random_range(0..keys)),
        s: some(rng).then(|| "x".repeat(rng.random_range(0..3))),
        v: some(rng).then(|| rng.random_range(-30..30)),
        b: some(rng).then(|| rng.random_range(-5..5) * 1_800_000_000_000_000_000),
        f: some(rng).then(|| f64::from(rng.random_range(-20..20)) * 0.25),
        t: some(rng).then(|| format!("t{}", rng.random_range(0..40))),
        m: some(rng).then(|| rng.random_bool(0.5)),
    }
}

fn all_calls() -> Vec<AggregateCall> {
    use AggregateKind::*;
    let big = DataType::Decimal128(38, 0);
    let filtered = |c: AggregateCall| AggregateCall { filter: Some(6), ..c };
    let distinct = |c: AggregateCall| AggregateCall { distinct: true, ..c };
    vec![
        call(Count, None, DataType::Int64),
        call(Count, Some(2), DataType::Int64),
        call(Sum, Some(2), DataType::Int64),
        call(Sum, Some(3), big.clone()),
        call(Sum, Some(4), DataType::Float64),
        call(Avg, Some(4), DataType::Float64),
        call(Min, Some(2), DataType::Int32),
        call(Max, Some(4), DataType::Float64),
        call(Max, Some(5), DataType::Utf8),
        call(Min, Some(5), DataType::Utf8),
        filtered(call(Sum, Some(2), DataType::Int64)),
        filtered(call(Count, None, DataType::Int64)),
        distinct(call(Count, Some(5), DataType::Int64)),
        distinct(call(Sum, Some(3), big)),
        filtered(distinct(call(Sum, Some(2), DataType::Int64))),
        filtered(call(Max, Some(2), DataType::Int32)),
    ]
}

fn show<T: std::fmt::Display>(v: Option<T>) -> String {
    v.map_or("NULL".into(), |v| v.to_string())
}

fn sum<T: std::iter::Sum<T>>(values: Vec<T>) -> Option<T> {
    (!values.is_empty()).then(|| values.into_iter().sum())
}

/// The row of a group, from all its rows (repeated by weight).
fn naive(rows: &[&Row]) -> String {
    let filtered: Vec<&&Row> = rows.iter().filter(|r| r.m == Some(true)).collect();
    let v: Vec<i64> = rows.iter().filter_map(|r| r.v.map(i64::from)).collect();
    let f: Vec<f64> = rows.iter().filter_map(|r| r.f).collect();
    let t: BTreeSet<&String> = rows.iter().filter_map(|r| r.t.as_ref()).collect();
    let bs: BTreeSet<i64> = rows.iter().filter_map(|r| r.b).collect();
    let fv: Vec<i64> = filtered.iter().filter_map(|r| r.v.map(i64::from)).collect();
    let fmax = f.iter().copied().fold(None, |m: Option<f64>, x| Some(m.map_or(x, |m| m.max(x))));
    let float = |x: Option<f64>| x.map_or("NULL".into(), |x| format!("{:?}", x + 0.0));
    let mean = sum(f.clone()).map(|s| s / f.len() as f64);
    [
        rows.len().to_string(),
        v.len().to_string(),
        show(sum(v.clone())),
        show(sum(rows.iter().filter_map(|r| r.b.map(i128::from)).collect())),
        float(sum(f.clone())),
        float(mean),
        show(v.iter().min()),
        float(fmax),
        show(t.last()),
        show(t.first()),
        show(sum(fv.clone())),
        filtered.len().to_string(),
        t.len().to_string(),
        show(sum(bs.iter().map(|b| i128::from(*b)).collect())),
        show(sum(fv.iter().collect::<BTreeSet<_>>().into_iter().copied().collect::<Vec<i64>>())),
        show(fv.iter().max()),
    ]
    .join(" ")
}

fn check_against_naive(seed: u64, keys: Vec<usize>, append_only: bool) {
    println!("seed {seed} keys {keys:?} append_only {append_only}");
    let mut rng = Rng8::seed_from_u64(seed);
    let mut op = reduce(&input(), ReduceSpec { append_only, ..spec(keys.clone(), all_calls()) });
    let mut live: Vec<Row> = vec![];
    let mut view = HashMap::new();
    let key_range = rng.random_range(1..60);
    for _ in 0..25 {
        let mut changes: Vec<(Row, i64)> = vec![];
        for _ in 0..rng.random_range(0..120) {
            let row = random_row(&mut rng, key_range);
            let weight = if !append_only && rng.random_bool(0.1) { 3 } else { 1 };
            live.extend(std::iter::repeat_n(row.clone(), weight));
            changes.push((row, weight as i64));
        }
        if !append_only {
            // Now and then (nearly) everything goes, so that groups die and slots are used again.
            let share = if rng.random_bool(0.15) { 1.0 } else { 0.3 };
            let (gone, kept): (Vec<Row>, Vec<Row>) =
                std::mem::take(&mut live).into_iter().partition(|_| rng.random_bool(share));
            live = kept;
            changes.extend(gone.into_iter().map(|r| (r, -1)));
            // A change that takes itself back within the epoch, the retraction first or last.
            let ghost = random_row(&mut rng, key_range);
            changes.extend([(ghost.clone(), 1), (ghost, -1)]);
        }
        changes.shuffle(&mut rng);
        let mut rest = changes.as_slice();
        let mut out = Output::default();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rng.random_range(1..=rest.len()));
            op.absorb(0, batch(now), &mut out).unwrap();
            rest = later;
        }
        assert!(out.rows.is_empty());
        let out = close(&mut op);
        assert!(out.errors.is_empty());
        accumulate(&mut view, &out.rows);
        let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
        if keys.is_empty() {
            groups.insert(String::new(), vec![]);
        }
        for row in &live {
            let parts: Vec<String> =
                keys.iter().map(|k| if *k == 0 { show(row.k) } else { show(row.s.as_ref()) } + " ").collect();
            groups.entry(parts.concat()).or_default().push(row);
        }
        let wanted: HashMap<String, i64> =
            groups.iter().map(|(k, rows)| (format!("{k}{}", naive(rows)), 1)).collect();
        assert_eq!(view, wanted, "seed {seed}");
        assert_eq!(op.state_rows(), groups.len());
    }
}

#[test]
fn every_aggregate_equals_its_naive_definition_after_random_epochs() {
    for seed in 0..12 {
        for keys in [vec![0], vec![1], vec![0, 1], vec![]] {
            check_against_naive(seed, keys.clone(), false);
            check_against_naive(seed + 1000, keys, true);
        }
    }
}

fn kv() -> SchemaRef {
    schema(&[("k", DataType::Int64), ("v", DataType::Int32)])
}

#[test]
fn only_net_differences_are_emitted_and_empty_groups_disappear() {
    let mut op = reduce(&kv(), spec(vec![0], vec![call(AggregateKind::Max, Some(1), DataType::Int32)]));
    assert_eq!(lines(&epoch(&mut op, &kv(), "+1 1 5 | +1 1 9 | +1 2 3")), lines("+1 1 9 | +1 2 3"));
    assert_eq!(epoch(&mut op, &kv(), "+1 1 4"), "");
    assert_eq!(lines(&epoch(&mut op, &kv(), "-1 1 9")), lines("-1 1 9 | +1 1 5"));
    assert_eq!(epoch(&mut op, &kv(), "-1 2 3 | +1 2 3"), "");
    assert_eq!(epoch(&mut op, &kv(), "-1 2 3"), "-1 2 3");
    assert_eq!(op.state_rows(), 1);
    assert_eq!(lines(&epoch(&mut op, &kv(), "-1 1 5 | -1 1 4 | +1 3 NULL")), lines("-1 1 5 | +1 3 NULL"));
}

#[test]
fn without_keys_there_is_always_one_row_and_only_the_owner_shows_it() {
    let calls = vec![
        call(AggregateKind::Count, None, DataType::Int64),
        call(AggregateKind::Sum, Some(1), DataType::Int64),
    ];
    let mut op = reduce(&kv(), spec(vec![], calls.clone()));
    assert_eq!(shown(&close(&mut op)), "+1 0 NULL");
    assert_eq!(shown(&close(&mut op)), "");
    assert_eq!(lines(&epoch(&mut op, &kv(), "+1 1 5")), lines("-1 0 NULL | +1 1 5"));
    assert_eq!(lines(&epoch(&mut op, &kv(), "-1 1 5")), lines("-1 1 5 | +1 0 NULL"));
    let mut other = reduce(&kv(), ReduceSpec { global_owner: false, ..spec(vec![], calls) });
    assert_eq!(shown(&close(&mut other)), "");
}

#[test]
fn a_sum_out_of_range_is_an_error_row_until_it_heals() {
    let mut op = reduce(&kv(), spec(vec![0], vec![call(AggregateKind::Sum, Some(1), DataType::Int64)]));
    assert_eq!(epoch(&mut op, &kv(), "+1 1 5"), "+1 1 5");
    op.absorb(0, parse(&kv(), "+9000000000 1 2000000000"), &mut Output::default()).unwrap();
    let out = close(&mut op);
    assert_eq!(shown(&out), "-1 1 5");
    assert_eq!(out.errors.len(), 1);
    assert!(format(&out.errors[0]).contains("22003"), "{}", format(&out.errors[0]));
    op.absorb(0, parse(&kv(), "-9000000000 1 2000000000"), &mut Output::default()).unwrap();
    let out = close(&mut op);
    assert_eq!(shown(&out), "+1 1 5");
    assert_eq!((out.errors[0].num_rows(), out.errors[0].weight(0)), (1, -1));
}

#[test]
fn retracting_what_was_never_there_is_reported_and_can_heal() {
    for kind in [AggregateKind::Sum, AggregateKind::Min] {
        let result = if kind == AggregateKind::Sum { DataType::Int64 } else { DataType::Int32 };
        let mut op = reduce(&kv(), spec(vec![0], vec![call(kind, Some(1), result)]));
        // One row in, another one out: no rows are left, yet something is.
        op.absorb(0, parse(&kv(), "+1 1 5 | -1 1 6"), &mut Output::default()).unwrap();
        let out = close(&mut op);
        assert_eq!(shown(&out), "");
        assert!(format(&out.errors[0]).contains("XX000"));
        op.absorb(0, parse(&kv(), "+1 1 6"), &mut Output::default()).unwrap();
        let out = close(&mut op);
        assert_eq!(shown(&out), "+1 1 5");
        assert_eq!(out.errors[0].weight(0), -1);
        op.absorb(0, parse(&kv(), "-1 1 5"), &mut Output::default()).unwrap();
        assert_eq!(shown(&close(&mut op)), "-1 1 5");
        assert_eq!(op.state_rows(), 0);
    }
}

fn windowed(rows: &[(i64, i32)]) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(rows.iter().map(|r| r.0).collect::<Vec<_>>())),
        Arc::new(Int32Array::from(rows.iter().map(|r| r.1).collect::<Vec<_>>())),
    ];
    ZBatch::inserts(RecordBatch::try_new(windows(), columns).unwrap())
}

fn windows() -> SchemaRef {
    schema(&[("e", DataType::Timestamp(TimeUnit::Microsecond, None)), ("v", DataType::Int32)])
}

fn window_spec(on_window_close: bool) -> ReduceSpec {
    let distinct = AggregateCall { distinct: true, ..call(AggregateKind::Count, Some(1), DataType::Int64) };
    let calls = vec![call(AggregateKind::Max, Some(1), DataType::Int32), distinct];
    ReduceSpec { window_end: Some(0), on_window_close, ..spec(vec![0], calls) }
}

#[test]
fn an_operator_hears_of_the_watermark_only_while_windows_are_open() {
    for on_window_close in [false, true] {
        let mut op = reduce(&windows(), window_spec(on_window_close));
        close_at(&mut op, 5);
        assert!(!op.waits_for_watermark());
        op.absorb(0, windowed(&[(10, 1), (20, 7)]), &mut Output::default()).unwrap();
        close_at(&mut op, 9);
        assert!(op.waits_for_watermark());
        close_at(&mut op, 10);
        assert!(op.waits_for_watermark());
        close_at(&mut op, 25);
        assert!(!op.waits_for_watermark());
        op.absorb(0, windowed(&[(30, 1)]), &mut Output::default()).unwrap();
        assert!(op.waits_for_watermark());
    }
}

#[test]
fn windows_are_shown_once_when_they_close_and_their_state_goes() {
    let mut op = reduce(&windows(), window_spec(true));
    op.absorb(0, windowed(&[(10, 1), (10, 2), (10, 2), (20, 7)]), &mut Output::default()).unwrap();
    assert!(close_at(&mut op, 9).rows.is_empty());
    let out = close_at(&mut op, 10);
    assert_eq!((out.rows.len(), out.rows[0].num_rows()), (1, 1));
    assert!(out.rows[0].weights().is_none());
    assert!(format(&out.rows[0]).ends_with("2 2"), "{}", format(&out.rows[0]));
    assert_eq!(op.state_rows(), 1);
    op.absorb(0, windowed(&[(10, 5), (30, 3)]), &mut Output::default()).unwrap();
    assert_eq!(op.late_rows(), 1);
    let out = close_at(&mut op, i64::MAX);
    assert_eq!(out.rows.iter().map(ZBatch::num_rows).sum::<usize>(), 2);
    assert_eq!(op.state_rows(), 0);
}

#[test]
fn windows_shown_on_update_stay_in_the_output_when_their_state_goes() {
    let mut op = reduce(&windows(), window_spec(false));
    op.absorb(0, windowed(&[(10, 1), (20, 7)]), &mut Output::default()).unwrap();
    let out = close_at(&mut op, 15);
    assert_eq!(out.rows.iter().map(ZBatch::num_rows).sum::<usize>(), 2);
    assert_eq!(op.state_rows(), 1);
    op.absorb(0, windowed(&[(10, 9), (20, 8), (30, 7)]), &mut Output::default()).unwrap();
    let out = close_at(&mut op, 20);
    // The slot of window 10 now holds window 30 and starts afresh.
    assert_eq!(out.rows.iter().map(ZBatch::num_rows).sum::<usize>(), 3);
    assert!(out.rows.iter().any(|b| format(b).lines().any(|l| l.contains("000030") && l.ends_with("7 1"))));
    assert_eq!(op.state_rows(), 1);
}

#[test]
fn many_changed_groups_come_in_several_batches() {
    let mut op = reduce(&kv(), spec(vec![0], vec![call(AggregateKind::Count, None, DataType::Int64)]));
    let n = 150_000_i64;
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(0..n)), Arc::new(Int32Array::from(vec![1; n as usize]))];
    let rows = ZBatch::inserts(RecordBatch::try_new(kv(), columns).unwrap());
    op.absorb(0, rows.clone(), &mut Output::default()).unwrap();
    let watermarks = [Watermark::NONE];
    let facts = TimeFacts { epoch: Epoch(1), now: EventTime(0), watermarks: &watermarks };
    let mut first = Output::default();
    assert_eq!(op.close_epoch(&facts, &mut first).unwrap(), Progress::More);
    assert!(first.rows.len() <= BATCHES_AT_ONCE);
    let mut rest = Output::default();
    while op.resume(&mut rest).unwrap() == Progress::More {}
    let total: usize = first.rows.iter().chain(&rest.rows).map(ZBatch::num_rows).sum();
    assert_eq!(total, n as usize);
    op.absorb(0, rows.negate(), &mut Output::default()).unwrap();
    let out = close(&mut op);
    assert_eq!(out.rows.iter().map(ZBatch::num_rows).sum::<usize>(), n as usize);
    assert_eq!(op.state_rows(), 0);
}

#[test]
fn an_idle_reduce_is_small() {
    let op = reduce(&kv(), spec(vec![0], vec![call(AggregateKind::Count, None, DataType::Int64)]));
    assert!(op.state_bytes() < 2000, "{}", op.state_bytes());
}
