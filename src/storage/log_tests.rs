//! Tests of the log: what is promised after crashes, damage and full disks.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::storage::check::check_log;
use crate::storage::fault::{Fault, FaultFs};
use crate::storage::fs::RealFs;
use crate::time::Watermark;
use crate::zset::ZBatch;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("b", DataType::Utf8, true),
    ]))
}

fn record(epoch: u64, weighted: bool) -> LogRecord {
    let rows = RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int64Array::from(vec![epoch as i64, -1])),
            Arc::new(StringArray::from(vec![None, Some(format!("text {epoch}"))])),
        ],
    )
    .unwrap();
    let weights = weighted.then(|| Int64Array::from(vec![1, -2]));
    LogRecord {
        epoch: Epoch(epoch),
        entries: vec![
            LogEntry::Table { object: 7, change: ZBatch::try_new(rows, weights).unwrap() },
            LogEntry::Binding { object: 8, offsets: b"{}".to_vec(), watermark: Watermark(-5) },
            LogEntry::Ddl(vec![1, 2, 3]),
        ],
    }
}

fn shown(records: &[LogRecord]) -> Vec<String> {
    records.iter().map(|r| format!("{r:?}")).collect()
}

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn epochs(recovery: &Recovery) -> Vec<u64> {
    recovery.records.iter().map(|r| r.epoch.0).collect()
}

#[test]
fn records_come_back_as_they_were_also_from_several_segments() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = (1..50).map(|e| record(e, e % 3 == 0)).collect();
    let (mut log, recovery) = Log::open_with(dir.path(), Arc::new(RealFs), 4096).unwrap();
    assert!(recovery.records.is_empty());
    for r in &records {
        log.append(r).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let (log, recovery) = Log::open_with(dir.path(), Arc::new(RealFs), 4096).unwrap();
    assert_eq!(shown(&recovery.records), shown(&records));
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 2);
    log.close().unwrap();
    let (_, recovery) = Log::open(dir.path(), Arc::new(RealFs)).unwrap();
    assert_eq!(recovery.records.len(), records.len());
}

#[test]
fn whatever_a_crash_does_synced_records_survive_and_nothing_comes_between() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fs = FaultFs::new();
        let mut next = 1;
        let mut promised = 0;
        for round in 0..4 {
            let (mut log, recovery) = Log::open_with(&dir(), Arc::new(fs.clone()), 3000).unwrap();
            let got = epochs(&recovery);
            let base = recovery.base.as_ref().map_or(0, |b| b.epoch.0);
            let last = base + got.len() as u64;
            assert_eq!(got, (base + 1..=last).collect::<Vec<_>>(), "seed {seed} round {round}");
            assert!(last >= promised, "seed {seed} round {round}: {last} < {promised}");
            next = last + 1;
            promised = last;
            for _ in 0..rng.random_range(0..20) {
                log.append(&record(next, rng.random_bool(0.5))).unwrap();
                next += 1;
                if rng.random_bool(0.3) {
                    log.sync().unwrap();
                    promised = next - 1;
                }
                if rng.random_bool(0.05) {
                    let ticket = log.begin_base().unwrap();
                    let rows = (0..3).map(|i| match &record(i, false).entries[0] {
                        LogEntry::Table { change, .. } => Ok((7, change.rows().clone())),
                        _ => unreachable!(),
                    });
                    let base = ticket.write(Epoch(next - 1), b"ddl", &mut rows.into_iter(), &[]);
                    promised = next - 1;
                    if rng.random_bool(0.7) {
                        log.finish_base(base.unwrap()).unwrap();
                    }
                }
            }
            fs.crash(rng.random());
        }
        let _ = next;
    }
}

#[test]
fn a_base_snapshot_replaces_the_log_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), Arc::new(RealFs)).unwrap();
    for e in 1..=5 {
        log.append(&record(e, false)).unwrap();
    }
    let LogEntry::Table { change, .. } = &record(5, false).entries[0] else { unreachable!() };
    let binding = Binding { object: 8, offsets: b"[1]".to_vec(), watermark: Watermark(9) };
    let mut tables = vec![Ok((7, change.rows().clone())), Ok((9, change.rows().slice(1, 1)))].into_iter();
    log.write_base(Epoch(5), b"catalog", &mut tables, std::slice::from_ref(&binding)).unwrap();
    log.append(&record(6, true)).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    let (_, recovery) = Log::open(dir.path(), Arc::new(RealFs)).unwrap();
    let base = recovery.base.as_ref().unwrap();
    assert_eq!((base.epoch, base.ddl.as_slice()), (Epoch(5), b"catalog".as_slice()));
    assert_eq!(base.tables[&7], vec![change.rows().clone()]);
    assert_eq!(base.tables[&9], vec![change.rows().slice(1, 1)]);
    assert_eq!(base.bindings, vec![binding]);
    assert_eq!(epochs(&recovery), vec![6]);
}

#[test]
fn every_flipped_byte_is_refused_with_file_and_offset_or_costs_only_the_unvouched_tail() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open_with(&dir(), Arc::new(fs.clone()), 2500).unwrap();
    for e in 1..=6 {
        log.append(&record(e, false)).unwrap();
        log.sync().unwrap();
    }
    log.close().unwrap();
    for name in fs.list(&dir()).unwrap() {
        let path = dir().join(&name);
        let len = fs.read(&path).unwrap().len();
        for at in 0..len {
            fs.damage(&path, |b| b[at] ^= 0x10);
            match check_log(&dir(), &fs) {
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::DataCorrupted, "{name} {at}");
                    assert!(e.message().contains(&name) && e.message().contains("offset"), "{e:?}");
                }
                // The closing record itself is the only one nobody vouches for.
                Ok(report) => assert_eq!(report.last_epoch, Epoch(6), "{name} {at}"),
            }
            fs.damage(&path, |b| b[at] ^= 0x10);
        }
    }
}

#[test]
fn garbage_at_the_end_is_cut_off_and_appending_goes_on() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    log.append(&record(1, false)).unwrap();
    log.sync().unwrap();
    drop(log);
    let path = dir().join("00000000000000000001.log");
    fs.damage(&path, |b| b.extend_from_slice(&[0xAB; 777]));
    let report = check_log(&dir(), &fs).unwrap();
    assert_eq!(report.torn_bytes, 777);
    let (mut log, recovery) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    assert_eq!((epochs(&recovery), recovery.torn_bytes), (vec![1], 777));
    log.append(&record(2, false)).unwrap();
    log.sync().unwrap();
    let (_, recovery) = Log::open(&dir(), Arc::new(fs)).unwrap();
    assert_eq!(epochs(&recovery), vec![1, 2]);
}

#[test]
fn a_missing_segment_is_refused() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open_with(&dir(), Arc::new(fs.clone()), 100).unwrap();
    for e in 1..=3 {
        log.append(&record(e, false)).unwrap();
    }
    log.sync().unwrap();
    fs.remove(&dir().join("00000000000000000002.log")).unwrap();
    let e = Log::open(&dir(), Arc::new(fs)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DataCorrupted);
    assert!(e.message().contains("00000000000000000002.log"), "{e:?}");
}

#[test]
fn a_full_disk_refuses_the_record_and_works_again_with_space() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    log.append(&record(1, false)).unwrap();
    fs.fail_append(1, Fault::NoSpace);
    assert_eq!(log.append(&record(2, false)).unwrap_err().kind(), ErrorKind::DiskFull);
    fs.set_space(Some(10));
    assert_eq!(log.append(&record(2, false)).unwrap_err().kind(), ErrorKind::DiskFull);
    assert!(log.begin_base().is_err());
    fs.set_space(None);
    fs.fail_append(1, Fault::Eio);
    assert_eq!(log.append(&record(2, false)).unwrap_err().kind(), ErrorKind::Io);
    log.append(&record(2, false)).unwrap();
    log.sync().unwrap();
    let (_, recovery) = Log::open(&dir(), Arc::new(fs)).unwrap();
    assert_eq!((epochs(&recovery), recovery.torn_bytes), (vec![1, 2], 0));
}

#[test]
fn after_a_failed_sync_everything_is_refused() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    log.append(&record(1, false)).unwrap();
    fs.fail_syncs(1);
    assert_eq!(log.sync().unwrap_err().kind(), ErrorKind::Io);
    assert!(log.has_failed());
    assert!(log.sync().is_err());
    assert!(log.append(&record(2, false)).is_err());
    assert!(log.begin_base().is_err());
}

#[test]
fn an_interrupted_base_snapshot_changes_nothing() {
    let fs = FaultFs::new();
    let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    log.append(&record(1, false)).unwrap();
    let ticket = log.begin_base().unwrap();
    fs.fail_append(1, Fault::NoSpace);
    let e = ticket.write(Epoch(1), b"", &mut std::iter::empty(), &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DiskFull);
    log.append(&record(2, false)).unwrap();
    log.sync().unwrap();
    let (_, recovery) = Log::open(&dir(), Arc::new(fs)).unwrap();
    assert!(recovery.base.is_none());
    assert_eq!(epochs(&recovery), vec![1, 2]);
}

#[test]
fn a_segment_left_by_a_failed_roll_is_passed_over() {
    let stray = dir().join("00000000000000000002.log");
    let fs = FaultFs::new();
    let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
    log.append(&record(1, false)).unwrap();
    log.begin_base().unwrap();
    let header = fs.read(&stray).unwrap();
    for torn in [0, 13] {
        let fs = FaultFs::new();
        let (mut log, _) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
        for e in 1..=3 {
            log.append(&record(e, false)).unwrap();
        }
        log.sync().unwrap();
        fs.create(&stray).unwrap().append(&header).unwrap();
        fs.damage(&dir().join("00000000000000000001.log"), |b| b.truncate(b.len() - torn));
        let expected: Vec<u64> = if torn == 0 { vec![1, 2, 3] } else { vec![1, 2] };
        for _ in 0..2 {
            let (log, recovery) = Log::open(&dir(), Arc::new(fs.clone())).unwrap();
            assert_eq!(epochs(&recovery), expected);
            log.close().unwrap();
        }
        assert!(fs.read(&stray).is_err());
    }
}

#[test]
fn whichever_write_fails_nothing_acknowledged_is_lost_and_work_goes_on() {
    for n in 1..40 {
        for fault in [Fault::Eio, Fault::NoSpace] {
            let fs = FaultFs::new();
            let (mut log, _) = Log::open_with(&dir(), Arc::new(fs.clone()), 2500).unwrap();
            fs.fail_append(n, fault);
            for e in 1..=12 {
                if log.append(&record(e, false)).is_err() {
                    log.append(&record(e, false)).unwrap();
                }
                log.sync().unwrap();
                if e % 5 == 0 {
                    // A base that fails is tried again another time.
                    let _ = log.write_base(Epoch(e), b"", &mut std::iter::empty(), &[]);
                }
            }
            fs.crash(n);
            let (_, recovery) = Log::open(&dir(), Arc::new(fs)).unwrap();
            let base = recovery.base.as_ref().map_or(0, |b| b.epoch.0);
            assert_eq!(epochs(&recovery), (base + 1..=12).collect::<Vec<_>>(), "{n} {fault:?}");
        }
    }
}

/// Figures of one core; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), Arc::new(RealFs)).unwrap();
    let LogEntry::Table { change, .. } = record(1, false).entries.remove(0) else { unreachable!() };
    let one = LogRecord {
        epoch: Epoch(1),
        entries: vec![LogEntry::Table { object: 1, change: change.slice(0, 1) }],
    };
    let n = 50_000u32;
    let started = std::time::Instant::now();
    for _ in 0..n {
        log.append(&one).unwrap();
    }
    println!("append of one row: {:?}, {} bytes", started.elapsed() / n, log.sizes().0 / u64::from(n));
    log.sync().unwrap();
    let started = std::time::Instant::now();
    for _ in 0..100 {
        log.append(&one).unwrap();
        log.sync().unwrap();
    }
    println!("append and sync: {:?}", started.elapsed() / 100);
    drop(log);
    let started = std::time::Instant::now();
    let (_, recovery) = Log::open(dir.path(), Arc::new(RealFs)).unwrap();
    println!("recovery of one row: {:?}", started.elapsed() / recovery.records.len() as u32);
}
