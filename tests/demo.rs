//! `freshet demo`: the figures it prints are those of the data, and it runs from anywhere.

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

/// What the data say of a carrier.
#[derive(Debug, Default)]
struct Carrier {
    departed: u64,
    cancelled: u64,
    delays: i64,
}

/// The figures of every carrier, counted here from the file.
fn carriers() -> BTreeMap<String, Carrier> {
    let path = common::repository().join("sql/pipelines/flights/data/flights-2013-01.csv.gz");
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("the data");
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let at = |name: &str| header.iter().position(|h| *h == name).expect("a column");
    let (carrier, dep_time, dep_delay) = (at("carrier"), at("dep_time"), at("dep_delay"));
    let mut carriers: BTreeMap<String, Carrier> = BTreeMap::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        let c = carriers.entry(fields[carrier].to_string()).or_default();
        if fields[dep_time] == "NA" {
            c.cancelled += 1;
        } else {
            c.departed += 1;
            c.delays += fields[dep_delay].parse::<i64>().expect("a delay");
        }
    }
    carriers
}

fn demo(cwd: &Path, more: &[&str]) -> Output {
    Command::new(common::BINARY)
        .args(["demo", "--speed", "0", "--exit", "--workers", "2"])
        .args(["--pg-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"])
        .args(more)
        .current_dir(cwd)
        .output()
        .expect("freshet runs")
}

fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// The rows of the last table of carriers: code, departed, cancelled, mean delay.
fn printed(out: &str) -> Vec<(String, u64, u64, f64)> {
    let lines: Vec<&str> = out.lines().collect();
    let header =
        lines.iter().rposition(|l| l.starts_with("carrier ")).unwrap_or_else(|| panic!("a table in {out}"));
    lines[header + 1..]
        .iter()
        .take_while(|l| !l.is_empty())
        .map(|l| {
            let code = l.split_whitespace().next().expect("a code").to_string();
            let right: String = l.chars().skip(32).collect();
            let figures: Vec<&str> = right.split_whitespace().collect();
            let number = |i: usize| figures[i].parse::<u64>().unwrap_or_else(|e| panic!("{l}: {e}"));
            (code, number(0), number(1), figures[2].parse().unwrap_or_else(|e| panic!("{l}: {e}")))
        })
        .collect()
}

#[test]
fn the_figures_are_those_of_the_data_and_a_restart_keeps_them() {
    let top = tempfile::tempdir().expect("dir");
    let out = said(&demo(top.path(), &[]));
    assert!(out.starts_with("freshet is ready: postgresql://127.0.0.1:"), "{out}");
    assert!(out.contains("27004 of 27004 flights"), "{out}");
    assert!(out.contains("the view has every flight sent"), "{out}");
    assert!(out.contains("checked 8 views: each equals its query computed from scratch"), "{out}");
    assert!(out.contains("connect with:  psql postgresql://127.0.0.1:"), "{out}");
    let (expected, table) = (carriers(), printed(&out));
    assert_eq!(table.len(), expected.len(), "{out}");
    for (code, departed, cancelled, mean) in &table {
        let c = &expected[code];
        assert_eq!((*departed, *cancelled), (c.departed, c.cancelled), "{code}");
        let exact = c.delays as f64 / c.departed as f64;
        assert!((mean - exact).abs() <= 0.051, "{code}: {mean} and not {exact}");
    }
    assert!(table.windows(2).all(|w| w[0].3 >= w[1].3), "the worst carrier first: {out}");

    // Again on the same directory: everything is there, nothing is sent twice.
    let out = said(&demo(top.path(), &["--keep"]));
    assert!(
        out.contains("going on after 27004 flights") && out.contains("the month was complete already"),
        "{out}"
    );
    assert_eq!(printed(&out).len(), table.len());
    assert!(printed(&out).iter().zip(&table).all(|(a, b)| a == b), "{out}");
}

#[test]
fn somebody_s_directory_is_not_emptied() {
    let top = tempfile::tempdir().expect("dir");
    std::fs::write(top.path().join("precious"), "").expect("a file");
    let output = demo(top.path(), &["--data-dir", "."]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("is not empty and was not made by the demo"), "{err}");
    assert!(top.path().join("precious").exists());
}
