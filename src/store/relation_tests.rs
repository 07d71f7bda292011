//! Tests of relations against a plain model: what each reader sees while others write.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

type Row = (i64, Option<String>);
type Model = BTreeMap<Row, i64>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Utf8, true),
    ]))
}

fn rows(rows: &[Row]) -> RecordBatch {
    let k = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let v = StringArray::from_iter(rows.iter().map(|r| r.1.clone()));
    RecordBatch::try_new(schema(), vec![Arc::new(k), Arc::new(v)]).unwrap()
}

fn delta(changes: &[(Row, i64)]) -> ZBatch {
    let weights = Int64Array::from_iter_values(changes.iter().map(|c| c.1));
    ZBatch::try_new(rows(&changes.iter().map(|c| c.0.clone()).collect::<Vec<_>>()), Some(weights)).unwrap()
}

fn counted(batches: &[RecordBatch]) -> Model {
    let mut model = Model::new();
    for b in batches {
        let (k, v) = (b.column(0).as_primitive::<Int64Type>(), b.column(1).as_string::<i32>());
        for i in 0..b.num_rows() {
            let v = (!v.is_null(i)).then(|| v.value(i).to_string());
            *model.entry((k.value(i), v)).or_default() += 1;
        }
    }
    model
}

fn row(k: i64, v: &str) -> Row {
    (k, (!v.is_empty()).then(|| v.to_string()))
}

fn key(k: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(k.to_vec()))]
}

/// A random change that the model can take: inserts anywhere, deletes of what is there (or was just inserted).
fn random_delta(rng: &mut ChaCha8Rng, model: &mut Model, keyed: bool) -> ZBatch {
    let mut changes: Vec<(Row, i64)> = Vec::new();
    for _ in 0..rng.random_range(1..40) {
        let k = rng.random_range(0..if keyed { 60 } else { 12 });
        let v = ["", "a", "b", "c"][rng.random_range(0..4)];
        if keyed {
            // An upsert or a delete of the key, in any order of the two changes.
            let old = model.keys().find(|r| r.0 == k).cloned();
            if let Some(old) = old.clone() {
                model.remove(&old);
                changes.push((old, -1));
            }
            if old.is_none() || rng.random_bool(0.7) {
                *model.entry(row(k, v)).or_default() += 1;
                changes.push((row(k, v), 1));
            }
        } else if rng.random_bool(0.5) {
            let n = rng.random_range(1..4);
            *model.entry(row(k, v)).or_default() += n;
            changes.push((row(k, v), n));
        } else if let Some(n) = model.get(&row(k, v)).copied() {
            let n = rng.random_range(1..=n);
            changes.push((row(k, v), -n));
            match model.get_mut(&row(k, v)) {
                Some(left) if *left > n => *left -= n,
                _ => drop(model.remove(&row(k, v))),
            }
        }
    }
    // Within one delta the order does not matter.
    for i in (1..changes.len()).rev() {
        changes.swap(i, rng.random_range(0..=i));
    }
    delta(&changes)
}

fn check_at(r: &Relation, epoch: Epoch, model: &Model, seed: u64) {
    let snapshot = r.snapshot(epoch);
    assert_eq!(&counted(&snapshot.batches(None).unwrap()), model, "seed {seed} epoch {epoch}");
    assert_eq!(snapshot.num_rows() as i64, model.values().sum::<i64>());
    let split: Vec<_> = snapshot.split(3).iter().flat_map(|s| s.batches(None).unwrap()).collect();
    assert_eq!(&counted(&split), model);
    for k in [0, 3, 59] {
        let wanted: Model = model.iter().filter(|(r, _)| r.0 == k).map(|(r, n)| (r.clone(), *n)).collect();
        if r.has_index(&[0]) {
            let got = r.lookup(&[0], &key(&[k, k]), epoch).unwrap();
            assert_eq!(counted(&[got]), wanted, "seed {seed} epoch {epoch} key {k}");
        }
        let probes = rows(&[row(k, ""), row(k, "a"), row(k, "zz")]);
        let counts = r.live_weight(&probes, epoch).unwrap();
        let expected: Vec<_> =
            ["", "a", "zz"].iter().map(|v| model.get(&row(k, v)).copied().unwrap_or(0)).collect();
        assert_eq!(counts, expected, "seed {seed} epoch {epoch} key {k}");
    }
}

#[test]
fn every_reader_sees_its_epoch_whatever_is_written_and_compacted_later() {
    for seed in 0..60 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let keyed = seed % 2 == 0;
        let r = Relation::new("t", schema(), if keyed { vec![0] } else { vec![] }, 2);
        // Rows of a key stay in their partition.
        let mut models = [Model::new(), Model::new()];
        let mut kept: Vec<(Epoch, Model)> = Vec::new();
        let mut snapshots: Vec<(RelationSnapshot, Model)> = Vec::new();
        for e in 1..120 {
            let epoch = Epoch(e * 10);
            let p = rng.random_range(0..2);
            let mut own = models[p].clone();
            own.retain(|r, _| r.0 % 2 == p as i64);
            let d = random_delta(&mut rng, &mut own, keyed);
            let mask: BooleanArray = d
                .column(0)
                .as_primitive::<Int64Type>()
                .iter()
                .map(|k| k.map(|k| k % 2 == p as i64))
                .collect();
            own.retain(|r, _| r.0 % 2 == p as i64);
            models[p] = own;
            r.apply(p, epoch, &d.filter(&mask).unwrap()).unwrap();
            if e == 30 && !keyed {
                r.create_index(vec![0]).unwrap();
            }
            if e == 40 {
                r.create_index(vec![1, 0]).unwrap();
            }
            if e == 90 {
                r.drop_index(&[0, 1]);
            }
            let all: Model = models.iter().flatten().map(|(r, n)| (r.clone(), *n)).collect();
            kept.push((epoch, all.clone()));
            if rng.random_bool(0.1) {
                snapshots.push((r.snapshot(epoch), all));
            }
            if rng.random_bool(0.3) {
                let oldest = rng.random_range(0..kept.len());
                kept.drain(..oldest);
                r.compact(kept[0].0).unwrap();
            }
            let at = rng.random_range(0..kept.len());
            check_at(&r, kept[at].0, &kept[at].1, seed);
            check_at(&r, epoch, &kept.last().unwrap().1, seed);
        }
        for (snapshot, model) in &snapshots {
            assert_eq!(&counted(&snapshot.batches(None).unwrap()), model);
        }
        assert_eq!(r.row_count() as i64, models.iter().flat_map(|m| m.values()).sum::<i64>());
    }
}

#[test]
fn a_retraction_of_a_missing_row_is_reported_after_the_rest() {
    let r = Relation::new("t", schema(), vec![], 1);
    let e =
        r.apply(0, Epoch(1), &delta(&[(row(1, "a"), -2), (row(1, "a"), 1), (row(2, "b"), 1)])).unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::Internal, "retraction of a row that is not there"));
    assert!(e.detail().unwrap().starts_with("1 rows"), "{e:?}");
    assert_eq!(counted(&r.snapshot(Epoch(1)).batches(None).unwrap()), Model::from([(row(2, "b"), 1)]));
    assert!(r.apply(0, Epoch(0), &delta(&[(row(1, "a"), 1)])).is_err());
    assert!(r.apply(1, Epoch(1), &delta(&[(row(1, "a"), 1)])).is_err());
}

#[test]
fn many_small_epochs_make_few_chunks_and_old_versions_go() {
    let r = Relation::new("t", schema(), vec![0], 1);
    for e in 1..=20_000u64 {
        r.apply(0, Epoch(e), &ZBatch::inserts(rows(&[row(e as i64, "x")]))).unwrap();
    }
    assert!(r.chunk_count() < 60, "{}", r.chunk_count());
    // One row updated for ever stays one row.
    for e in 20_001..=40_000u64 {
        let d = if e == 20_001 {
            delta(&[(row(1, "x"), -1), (row(1, "20001"), 1)])
        } else {
            delta(&[(row(1, &e.to_string()), 1), (row(1, &(e - 1).to_string()), -1)])
        };
        r.apply(0, Epoch(e), &d).unwrap();
        r.compact(Epoch(e)).unwrap();
    }
    assert_eq!(r.row_count(), 20_000);
    assert!(r.snapshot(Epoch(40_000)).rows_to_scan() < 20_100);
    let got = r.lookup_one(&[0], &key(&[1]), Epoch(40_000), Some(&[1])).unwrap();
    assert_eq!(
        (got.num_rows(), got.num_columns(), got.column(0).as_string::<i32>().value(0)),
        (1, 1, "40000")
    );
    // Deleting everything leaves nothing behind.
    let all = r.snapshot(Epoch(40_000)).batches(None).unwrap();
    for b in all {
        r.apply(0, Epoch(40_001), &ZBatch::deletes(b)).unwrap();
    }
    r.compact(Epoch(40_001)).unwrap();
    assert_eq!((r.row_count(), r.chunk_count()), (0, 0));
}

#[test]
fn equal_rows_by_the_hundred_thousand_cost_no_more_than_others() {
    let n = 200_000;
    let r = Relation::new("t", schema(), vec![], 1);
    r.create_index(vec![1]).unwrap();
    let started = std::time::Instant::now();
    let same = rows(&vec![row(1, "same"); n]);
    r.apply(0, Epoch(1), &ZBatch::inserts(same.clone())).unwrap();
    r.apply(0, Epoch(2), &ZBatch::deletes(same.slice(0, n - 1))).unwrap();
    assert_eq!(r.row_count(), 1);
    assert_eq!(r.lookup(&[1], &[Arc::new(StringArray::from(vec!["same"]))], Epoch(2)).unwrap().num_rows(), 1);
    assert_eq!(r.live_weight(&same.slice(0, 1), Epoch(1)).unwrap(), vec![n as i64]);
    r.compact(Epoch(2)).unwrap();
    r.compact(Epoch(2)).unwrap();
    assert!(r.snapshot(Epoch(2)).rows_to_scan() < n / 2);
    assert!(started.elapsed().as_secs() < 20, "quadratic: {:?}", started.elapsed());
}

#[test]
fn null_keys_are_found_by_whole_rows_and_never_by_lookup() {
    let r = Relation::new("t", schema(), vec![], 1);
    r.create_index(vec![1]).unwrap();
    r.apply(0, Epoch(1), &ZBatch::inserts(rows(&[row(1, ""), row(2, "a")]))).unwrap();
    let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    assert_eq!(r.lookup(&[1], &[null], Epoch(1)).unwrap().num_rows(), 0);
    assert_eq!(r.live_weight(&rows(&[row(1, "")]), Epoch(1)).unwrap(), vec![1]);
    assert!(r.lookup(&[0], &key(&[1]), Epoch(1)).is_err());
    assert!(r.lookup(&[1], &key(&[1]), Epoch(1)).is_err());
}

#[test]
fn readers_see_whole_epochs_while_a_writer_moves_sums_around() {
    let r = Arc::new(Relation::new("t", schema(), vec![0], 1));
    let epochs = crate::store::Epochs::new(Epoch(1), 0);
    let accounts: Vec<Row> = (0..100).map(|k| row(k, "100")).collect();
    r.apply(0, Epoch(1), &ZBatch::inserts(rows(&accounts))).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (r, epochs, stop) = (r.clone(), epochs.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) {
                    let pin = epochs.pin();
                    let mut total = 0;
                    let batches = r.snapshot(pin.epoch()).batches(None).unwrap();
                    for b in &batches {
                        total += b
                            .column(1)
                            .as_string::<i32>()
                            .iter()
                            .map(|v| v.unwrap().parse::<i64>().unwrap())
                            .sum::<i64>();
                    }
                    assert_eq!(total, 10_000);
                    let k = reads % 100;
                    assert_eq!(r.lookup(&[0], &key(&[k]), pin.epoch()).unwrap().num_rows(), 1);
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut balances = vec![100i64; 100];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for e in 2..3000u64 {
        let (a, b) = (rng.random_range(0..50usize), rng.random_range(50..100usize));
        let n = rng.random_range(1..10);
        let mut changes = Vec::new();
        for (k, by) in [(a, -n), (b, n)] {
            changes.push((row(k as i64, &balances[k].to_string()), -1));
            balances[k] += by;
            changes.push((row(k as i64, &balances[k].to_string()), 1));
        }
        r.apply(0, Epoch(e), &delta(&changes)).unwrap();
        epochs.publish(Epoch(e));
        if e % 7 == 0 {
            r.compact(epochs.oldest_pinned()).unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn rows_without_columns_are_counted_like_others() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let rows = |n| crate::zset::builder::rows_without_columns(&schema, n).unwrap();
    let r = Relation::new("t", schema.clone(), vec![], 1);
    for e in 1..=20 {
        r.apply(0, Epoch(e), &ZBatch::inserts(rows(10))).unwrap();
    }
    r.apply(0, Epoch(21), &ZBatch::deletes(rows(150))).unwrap();
    assert_eq!(r.live_weight(&rows(1), Epoch(20)).unwrap(), vec![200]);
    r.compact(Epoch(21)).unwrap();
    assert_eq!((r.row_count(), r.snapshot(Epoch(21)).num_rows()), (50, 50));
    assert!(r.apply(0, Epoch(22), &ZBatch::deletes(rows(51))).is_err());
    assert_eq!(r.row_count(), 0);
}

#[test]
fn a_weight_that_no_memory_could_hold_is_refused() {
    let r = Relation::new("t", schema(), vec![], 1);
    let e = r.apply(0, Epoch(1), &delta(&[(row(1, "a"), i64::MAX), (row(1, "a"), i64::MAX)])).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ProgramLimit);
    assert!(r.apply(0, Epoch(1), &delta(&[(row(1, "a"), i64::MIN)])).is_err());
    assert_eq!(r.row_count(), 0);
}

/// Figures of one core; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let time = |what: &str, n: usize, f: &mut dyn FnMut()| {
        let started = std::time::Instant::now();
        f();
        let ns = started.elapsed().as_nanos() as f64 / n as f64;
        println!("{what}: {ns:.0} ns each");
    };
    let n = 1_000_000usize;
    let r = Relation::new("t", schema(), vec![0], 1);
    time("bulk insert", n, &mut || {
        for start in (0..n).step_by(8192) {
            let batch: Vec<Row> = (start..(start + 8192).min(n)).map(|k| row(k as i64, "value")).collect();
            r.apply(0, Epoch(1), &ZBatch::inserts(rows(&batch))).unwrap();
        }
    });
    println!("bytes per row: {} of which Arrow 17", r.memory_bytes() / n);
    let mut e = 2;
    let one = rows(&[row(n as i64 + 1, "value")]);
    time("one-row epoch", 100_000, &mut || {
        for k in 0..100_000 {
            let b = RecordBatch::try_new(
                one.schema(),
                vec![Arc::new(Int64Array::from(vec![n as i64 + k])), one.column(1).clone()],
            );
            r.apply(0, Epoch(e), &ZBatch::inserts(b.unwrap())).unwrap();
            e += 1;
        }
    });
    time("lookup_one", 100_000, &mut || {
        for k in 0..100_000 {
            assert_eq!(r.lookup_one(&[0], &key(&[k * 7]), Epoch(e), None).unwrap().num_rows(), 1);
        }
    });
}

#[test]
fn hidden_rows_are_seen_from_the_epoch_on_at_which_they_are_revealed() {
    for key_columns in [vec![0], vec![]] {
        let r = Relation::new("r", schema(), key_columns.clone(), 2);
        if key_columns.is_empty() {
            r.build_primary_index().unwrap();
        }
        for i in 0..40i64 {
            r.apply((i % 2) as usize, Relation::HIDDEN, &delta(&[(row(i, "a"), 1)])).unwrap();
        }
        r.apply(0, Relation::HIDDEN, &delta(&[(row(4, "a"), -1), (row(4, "b"), 1)])).unwrap();
        assert!(counted(&r.snapshot(Epoch(7)).batches(None).unwrap()).is_empty());
        assert_eq!(r.live_weight(&rows(&[row(4, "b")]), Epoch(7)).unwrap(), vec![0]);
        r.reveal(Epoch(7));
        let mut model: Model = (0..40).map(|i| (row(i, if i == 4 { "b" } else { "a" }), 1)).collect();
        assert_eq!(counted(&r.snapshot(Epoch(7)).batches(None).unwrap()), model);
        assert!(counted(&r.snapshot(Epoch(6)).batches(None).unwrap()).is_empty());
        assert_eq!(r.live_weight(&rows(&[row(4, "a"), row(4, "b")]), Epoch(7)).unwrap(), vec![0, 1]);
        r.apply(1, Epoch(8), &delta(&[(row(5, "a"), -1)])).unwrap();
        model.remove(&row(5, "a"));
        assert_eq!(counted(&r.snapshot(Epoch(8)).batches(None).unwrap()), model);
        r.compact(Epoch(8)).unwrap();
        assert_eq!(counted(&r.snapshot(Epoch(9)).batches(None).unwrap()), model);
        assert_eq!(r.row_count(), 39);
    }
}

#[test]
fn hidden_rows_that_are_never_revealed_can_be_thrown_away() {
    let r = Relation::new("r", schema(), vec![0], 1);
    r.apply(0, Relation::HIDDEN, &delta(&[(row(1, "a"), 1)])).unwrap();
    r.discard_hidden();
    assert_eq!((r.row_count(), r.chunk_count()), (0, 0));
    r.apply(0, Epoch(3), &delta(&[(row(1, "b"), 1)])).unwrap();
    r.discard_hidden();
    assert_eq!(r.lookup(&[0], &key(&[1]), Epoch(3)).unwrap().num_rows(), 1);
}

#[test]
fn chunks_of_some_thousand_rows_are_not_merged_again() {
    let r = Relation::new("r", schema(), vec![], 1);
    for e in 0..20 {
        let batch = rows(&(0..4096).map(|i| row(i, "a")).collect::<Vec<_>>());
        r.apply(0, Epoch(e + 1), &ZBatch::inserts(batch)).unwrap();
    }
    assert_eq!(r.chunk_count(), 20);
    for e in 0..512 {
        r.apply(0, Epoch(e + 30), &ZBatch::inserts(rows(&[row(e as i64, "b")]))).unwrap();
    }
    assert!(r.chunk_count() < 20 + 30, "{}", r.chunk_count());
}

#[test]
fn an_index_built_while_others_write_and_compact_finds_what_every_reader_sees() {
    for seed in 0..30 {
        let r = Arc::new(Relation::new("t", schema(), if seed % 2 == 0 { vec![0] } else { vec![] }, 1));
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut model = Model::new();
        let mut epoch = Epoch(1);
        for _ in 0..rng.random_range(1..60) {
            r.apply(0, epoch, &random_delta(&mut rng, &mut model, seed % 2 == 0)).unwrap();
            epoch = Epoch(epoch.0 + 1);
        }
        let builder = {
            let r = r.clone();
            std::thread::spawn(move || r.create_index(vec![1]).unwrap())
        };
        let mut kept = Vec::new();
        for n in 0..rng.random_range(20..120) {
            r.apply(0, epoch, &random_delta(&mut rng, &mut model, seed % 2 == 0)).unwrap();
            kept.push((epoch, model.clone()));
            if n % 5 == 4 {
                // Readers look back three epochs.
                r.compact(Epoch(epoch.0 - 3)).unwrap();
                kept.drain(..kept.len() - 3);
            }
            epoch = Epoch(epoch.0 + 1);
        }
        builder.join().unwrap();
        for (epoch, model) in kept.iter().rev().take(3) {
            for v in ["a", "b", "c"] {
                let wanted: Model = model
                    .iter()
                    .filter(|(r, _)| r.1.as_deref() == Some(v))
                    .map(|(r, n)| (r.clone(), *n))
                    .collect();
                let keys: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![v]))];
                let got = r.lookup(&[1], &keys, *epoch).unwrap();
                assert_eq!(counted(&[got]), wanted, "seed {seed} epoch {epoch} value {v}");
                let few = r.lookup_few(&[1], &keys, *epoch, None, 1).unwrap();
                assert_eq!(few.is_none(), wanted.values().sum::<i64>() > 1);
            }
        }
        // What is written afterwards goes to the index, too.
        r.apply(0, epoch, &delta(&[(row(1000, "new"), 1)])).unwrap();
        let keys: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["new"]))];
        assert_eq!(r.lookup(&[1], &keys, epoch).unwrap().num_rows(), 1);
        r.drop_index(&[1]);
        assert!(r.lookup(&[1], &keys, epoch).is_err());
    }
}

#[test]
fn the_changes_between_two_epochs_lead_from_one_state_to_the_other() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let r = Relation::new("t", schema(), vec![], 2);
        let mut model = Model::new();
        let mut states = vec![(Epoch(1), model.clone())];
        for epoch in 2..40 {
            r.apply(0, Epoch(epoch), &random_delta(&mut rng, &mut model, false)).unwrap();
            states.push((Epoch(epoch), model.clone()));
            if epoch % 10 == 0 {
                r.compact(Epoch(5)).unwrap();
            }
        }
        let (from, mut state) = states[6].clone();
        let mut changes = r.changes(from, Epoch(39)).unwrap().into_iter().peekable();
        for (epoch, wanted) in &states[7..] {
            if let Some((_, change)) = changes.next_if(|(e, _)| e == epoch) {
                let weights = change.weights_or_ones();
                let (k, v) = (
                    change.columns()[0].as_primitive::<Int64Type>().clone(),
                    change.columns()[1].as_string::<i32>().clone(),
                );
                for i in 0..change.num_rows() {
                    let row = (k.value(i), (!v.is_null(i)).then(|| v.value(i).to_string()));
                    let n = state.entry(row.clone()).or_default();
                    *n += weights.value(i);
                    if *n == 0 {
                        state.remove(&row);
                    }
                }
            }
            assert_eq!(&state, wanted, "seed {seed} epoch {epoch}");
        }
        assert!(changes.next().is_none());
    }
}
