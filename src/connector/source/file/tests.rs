//! Tests of the file source on real files.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, Int32Array, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{drain, lines, spec};
use super::super::{SourceSpec, Status, open, validate};
use crate::error::ErrorKind;
use crate::time::EventTime;
use crate::types::PgType;

const COLUMNS: &[(&str, PgType)] = &[("id", PgType::INT4), ("name", PgType::TEXT)];

fn file_spec(path: &Path, options: &[(&str, &str)]) -> SourceSpec {
    let path = path.to_string_lossy().to_string();
    let mut all = vec![("path", path.as_str())];
    all.extend(options);
    spec("file", &all, COLUMNS)
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("written");
}

fn append(path: &Path, text: &str) {
    let mut f = OpenOptions::new().append(true).open(path).expect("opened");
    f.write_all(text.as_bytes()).expect("appended");
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut e = GzEncoder::new(Vec::new(), Compression::fast());
    e.write_all(bytes).expect("compressed");
    e.finish().expect("compressed")
}

/// Reads batch by batch, opening a new reader at the last offsets each time.
fn read_with_restarts(spec: &SourceSpec, max_rows: usize) -> (Vec<String>, usize) {
    let (mut rows, mut dead, mut offsets) = (Vec::new(), 0, serde_json::Map::new());
    loop {
        let mut reader = open(spec, Some(&Value::Object(offsets.clone()))).expect("open");
        let f = reader.next(max_rows, 64, EventTime(0)).expect("next");
        assert!(f.problems.is_empty(), "{:?}", f.problems);
        if f.batches.is_empty() {
            return (rows, dead);
        }
        for b in f.batches {
            rows.extend(lines(&b.rows));
            offsets.insert(b.partition, b.offset_after);
        }
        dead += f.dead_letters.len();
    }
}

#[test]
fn every_format_resumes_from_every_offset_exactly_once() {
    let dir = TempDir::new().expect("dir");
    let mut csv = String::from("name,id\n");
    let mut json = String::new();
    for i in 0..2000 {
        let bad = if i % 97 == 5 { "x" } else { "" };
        csv.push_str(&format!("\"n,{i}\",{i}{bad}\r\n"));
        json.push_str(&format!("{{\"id\": \"{i}{bad}\", \"name\": \"n,{i}\"}}\n"));
    }
    let expected: Vec<String> = (0..2000).filter(|i| i % 97 != 5).map(|i| format!("{i} n,{i}")).collect();
    for (name, bytes, options) in [
        ("a.csv", csv.clone().into_bytes(), &[("header", "true")][..]),
        ("b.csv.gz", gz(csv.as_bytes()), &[("header", "true")]),
        ("c.jsonl", json.clone().into_bytes(), &[]),
        ("d.json.gz", gz(json.as_bytes()), &[]),
    ] {
        let path = dir.path().join(name);
        write(&path, &bytes);
        let spec = file_spec(&path, options);
        validate(&spec).expect("valid");
        let (rows, dead, _) = drain(&mut *open(&spec, None).expect("open"), 300);
        assert_eq!((rows, dead.len()), (expected.clone(), 21), "{name}");
        for max_rows in [113, 1999] {
            assert_eq!(read_with_restarts(&spec, max_rows), (expected.clone(), 21), "{name} by {max_rows}");
        }
    }
}

#[test]
fn parquet_resumes_by_row() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("a.parquet");
    let batch = RecordBatch::try_from_iter([
        ("name", Arc::new(StringArray::from_iter_values((0..20_000).map(|i| format!("n{i}")))) as _),
        ("other", Arc::new(Int32Array::from_iter_values(0..20_000)) as _),
        (
            "id",
            Arc::new(StringArray::from_iter_values(
                (0..20_000).map(|i| if i == 12_345 { "bad".to_string() } else { i.to_string() }),
            )) as _,
        ),
    ])
    .expect("batch");
    let mut w = ArrowWriter::try_new(std::fs::File::create(&path).expect("file"), batch.schema(), None)
        .expect("writer");
    w.write(&batch).expect("written");
    w.close().expect("closed");
    let spec = file_spec(&path, &[]);
    let (rows, dead, offsets) = drain(&mut *open(&spec, None).expect("open"), 5000);
    assert_eq!(rows.len(), 19_999);
    assert_eq!((dead[0].offset, dead[0].raw.as_slice()), (12_345, &br#"{"id":"bad","name":"n12345"}"#[..]));
    assert_eq!(offsets, json!({ path.to_string_lossy(): { "row": 20_000 } }));
    assert_eq!(read_with_restarts(&spec, 7001), (rows, 1));
}

#[test]
fn a_followed_directory_gives_new_files_and_lines_once_they_are_complete() {
    let dir = TempDir::new().expect("dir");
    let (a, b) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
    write(&a, b"1,one\n2,tw");
    write(&dir.path().join(".hidden"), b"9,no\n");
    let spec = file_spec(dir.path(), &[("format", "csv"), ("poll.interval", "50ms")]);
    let mut r = open(&spec, None).expect("open");
    assert_eq!(drain(&mut *r, 10).0, ["1 one"]);
    assert_eq!(
        r.next(10, 1000, EventTime(0)).expect("next").status,
        Status::Idle(std::time::Duration::from_millis(50))
    );
    append(&a, "o\n3,three\n");
    write(&b, b"4,four\n");
    assert_eq!(drain(&mut *r, 10).0, ["2 two", "3 three", "4 four"]);
    append(&b, "5,five\n");
    let (rows, _, offsets) = drain(&mut *r, 10);
    assert_eq!(rows, ["5 five"]);
    assert_eq!(offsets, json!({ b.to_string_lossy(): { "byte": 14 } }));
}

#[test]
fn without_following_the_last_line_needs_no_end() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("a.csv");
    write(&path, b"1,one\n2,two");
    let mut r = open(&file_spec(&path, &[]), None).expect("open");
    assert_eq!(drain(&mut *r, 10).0, ["1 one", "2 two"]);
    assert_eq!(r.next(10, 1000, EventTime(0)).expect("next").status, Status::Finished);
}

#[test]
fn undecodable_records_become_dead_letters_with_their_bytes() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("a.csv");
    write(&path, b"1,one\nx,\xfe\n3,three\nfour,4\n");
    let (rows, dead, _) = drain(&mut *open(&file_spec(&path, &[]), None).expect("open"), 10);
    assert_eq!(rows, ["1 one", "3 three"]);
    let seen: Vec<_> = dead.iter().map(|d| (d.offset, d.raw.as_slice(), d.error.kind())).collect();
    assert_eq!(
        seen,
        [(6, &b"x,\xfe"[..], ErrorKind::InvalidEncoding), (18, &b"four,4"[..], ErrorKind::InvalidText)]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_tried_again() {
    let dir = TempDir::new().expect("dir");
    let (a, b) = (dir.path().join("a.csv.gz"), dir.path().join("b.csv.gz"));
    let whole = gz(b"1,one\n2,two\n");
    write(&a, &whole[..whole.len() - 12]);
    write(&b, &gz(b"3,three\n"));
    let pattern = dir.path().join("*.csv.gz");
    let mut r = open(&file_spec(&pattern, &[("follow", "false")]), None).expect("open");
    let (mut rows, mut problems) = (Vec::new(), 0);
    let status = loop {
        let f = r.next(10, 1000, EventTime(0)).expect("next");
        f.batches.iter().for_each(|b| rows.extend(lines(&b.rows)));
        problems += f.problems.len();
        if f.status != Status::More {
            break f.status;
        }
    };
    assert!(problems > 0 && matches!(status, Status::Idle(_)));
    write(&a, &whole);
    rows.extend(drain(&mut *r, 10).0);
    rows.sort();
    assert_eq!(rows, ["1 one", "2 two", "3 three"]);
    assert_eq!(r.next(10, 1000, EventTime(0)).expect("next").status, Status::Finished);
}

#[test]
fn a_record_that_is_too_long_does_not_stop_the_file() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("a.csv");
    let long = "x".repeat(20_000);
    write(&path, format!("1,one\n2,{long}\n3,\"never closed\n4,{}\n5,five\n", "y".repeat(500)).as_bytes());
    let spec = file_spec(&path, &[("max.record.size", "1kB")]);
    for chunk in [1, 1 << 20] {
        let (mut rows, mut dead) = (Vec::new(), Vec::new());
        let mut r = open(&spec, None).expect("open");
        loop {
            let f = r.next(100, chunk, EventTime(0)).expect("next");
            f.batches.iter().for_each(|b| rows.extend(lines(&b.rows)));
            dead.extend(f.dead_letters);
            if f.status != Status::More {
                break;
            }
        }
        assert_eq!(rows.len(), 3, "the line after the quote is good again");
        assert_eq!((rows[0].as_str(), rows[2].as_str()), ("1 one", "5 five"));
        assert_eq!(dead.len(), 2);
        assert!(
            dead[0].error.kind() == ErrorKind::ProgramLimit
                && dead[0].raw.len() == 1024
                && dead[0].offset == 6
        );
        assert_eq!(dead[1].raw, b"3,\"never closed");
        assert_eq!(read_with_restarts(&spec, 1), (rows, 2));
    }
}

#[test]
fn a_shortened_file_is_a_problem_and_not_read_again_from_its_beginning() {
    let dir = TempDir::new().expect("dir");
    let path = dir.path().join("a.csv");
    write(&path, b"1,one\n");
    let offsets = json!({ path.to_string_lossy(): { "byte": 100 } });
    let mut r = open(&file_spec(&path, &[]), Some(&offsets)).expect("open");
    let f = r.next(10, 1000, EventTime(0)).expect("next");
    assert!(f.batches.is_empty() && f.problems[0].1.message().contains("has become shorter"));
    assert!(open(&file_spec(&path, &[]), Some(&json!({ "x": { "row": 1 } }))).is_err());
}

#[test]
fn wrong_options_are_refused_at_creation() {
    let dir = TempDir::new().expect("dir");
    let refused = |options: &[(&str, &str)]| {
        validate(&file_spec(&dir.path().join("none.csv"), options)).map(drop).expect_err("refused")
    };
    assert_eq!(refused(&[]).kind(), ErrorKind::Io);
    assert!(refused(&[]).message().ends_with("No such file or directory"), "{}", refused(&[]));
    assert_eq!(refused(&[("folow", "true")]).hint(), Some("Perhaps you meant \"follow\"."));
    assert_eq!(refused(&[("delimiter", ";;")]).kind(), ErrorKind::InvalidParameter);
    assert_eq!(refused(&[("poll.interval", "1us")]).kind(), ErrorKind::InvalidParameter);
    assert!(validate(&spec("file", &[], COLUMNS)).is_err());
    assert!(validate(&file_spec(dir.path(), &[])).expect_err("no format").hint().is_some());
}

#[test]
fn the_demo_s_data_are_read_without_loss() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/pipelines/flights/data");
    let (text, int) = (PgType::TEXT, PgType::INT4);
    let read = |file: &str, columns: &[(&str, PgType)]| {
        let path = data.join(file).to_string_lossy().to_string();
        let s = spec("file", &[("path", &path), ("header", "true"), ("null", "NA")], columns);
        let mut reader = validate(&s).expect("valid").open(None).expect("open");
        let mut rows = Vec::new();
        loop {
            let f = reader.next(8192, 1 << 20, EventTime(0)).expect("next");
            assert!(f.dead_letters.is_empty() && f.problems.is_empty(), "{file}: {:?}", f.dead_letters);
            rows.extend(f.batches.into_iter().map(|b| b.rows));
            if f.status != Status::More {
                return rows;
            }
        }
    };
    let count = |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    let flights = read(
        "flights-2013-01.csv.gz",
        &[("time_hour", PgType::TIMESTAMPTZ), ("origin", text), ("dep_time", int), ("dep_delay", int)],
    );
    assert_eq!(count(&flights), 27_004);
    assert_eq!(flights.iter().map(|b| b.column(2).null_count()).sum::<usize>(), 521);
    assert_eq!(count(&read("airlines.csv.gz", &[("carrier", text), ("name", text)])), 16);
    let airports = &[("faa", text), ("name", text), ("lat", PgType::FLOAT8), ("alt", int), ("tzone", text)];
    assert_eq!(count(&read("airports.csv.gz", airports)), 1458);
    let planes = &[("tailnum", text), ("year", int), ("model", text), ("seats", int)];
    assert_eq!(count(&read("planes.csv.gz", planes)), 3322);
}
