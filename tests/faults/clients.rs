//! Clients that never read, read slowly, or vanish in the middle of something.

use std::time::{Duration, Instant};

use crate::Fresh;
use crate::common::eventually;
use crate::raw::{Raw, message, sqlstate};

/// Resident memory of a process in MB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a size");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
}

#[test]
fn a_client_that_never_reads_a_large_result_takes_little_memory() {
    let fresh = Fresh::start(&[]);
    let before = memory(fresh.server.pid());
    let mut silent: Vec<Raw> = (0..5).map(|_| Raw::session(&fresh.server.address)).collect();
    for raw in &mut silent {
        // 10 GB of rows.
        raw.send(&message(b'Q', b"SELECT i, repeat('x', 1000) FROM generate_series(1, 10000000) i\0"));
    }
    std::thread::sleep(Duration::from_secs(3));
    let after = memory(fresh.server.pid());
    assert!(after < before + 300, "{before} MB before, {after} MB after");
    fresh.is_well();
    drop(silent);
    eventually(Duration::from_secs(20), || {
        let open = fresh.server.connect().value("SELECT count(*) FROM freshet.sessions");
        let open = open.map_err(|e| e.to_string())?;
        if open == "1" { Ok(()) } else { Err(format!("{open} sessions")) }
    });
}

#[test]
fn a_subscriber_that_reads_too_slowly_is_told_once_and_others_are_not_held_up() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int, x text)");
    let mut slow = Raw::session(&fresh.server.address);
    slow.send(&message(b'Q', b"SET subscribe_buffer = '1MB'\0"));
    slow.read_until(b'Z').expect("a setting");
    slow.send(&message(b'Q', b"SUBSCRIBE t\0"));
    slow.read_until(b'T').expect("a subscription");
    let mut never = Raw::session(&fresh.server.address);
    never.send(&message(b'Q', b"SET subscribe_buffer = '1MB'\0"));
    never.read_until(b'Z').expect("a setting");
    never.send(&message(b'Q', b"COPY (SUBSCRIBE t) TO STDOUT\0"));
    for i in 0..60 {
        let started = Instant::now();
        session.exec(&format!("INSERT INTO t SELECT {i}, repeat('x', 1000) FROM generate_series(1, 500)"));
        assert!(started.elapsed() < Duration::from_secs(10), "an INSERT waits for a subscriber");
    }
    // One that reads in the end gets every row up to its end, and then the end, once.
    let mut errors = Vec::new();
    while let Some((kind, body)) = slow.next() {
        match kind {
            b'E' => errors.push(sqlstate(&body)),
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(errors, ["53400"]);
    slow.send(&message(b'Q', b"SELECT 1\0"));
    assert!(slow.read_until(b'D').is_some(), "the session goes on");
    // One that does not read at all loses its connection.
    eventually(Duration::from_secs(30), || {
        let open = session.value("SELECT count(*) FROM freshet.sessions").map_err(|e| e.to_string())?;
        if open == "2" { Ok(()) } else { Err(format!("{open} sessions")) }
    });
    drop(never);
    fresh.is_well();
}

#[test]
fn a_client_that_vanishes_within_copy_leaves_nothing() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int PRIMARY KEY, x text)");
    for abrupt in [false, true] {
        let mut raw = Raw::session(&fresh.server.address);
        raw.send(&message(b'Q', b"COPY t FROM STDIN\0"));
        raw.read_until(b'G').expect("copy in");
        for i in 0..1000 {
            raw.send(&message(b'd', format!("{i}\trow\n").as_bytes()));
        }
        if abrupt {
            // Half a message.
            raw.send(&[b'd', 0, 0, 1, 0, b'9']);
        }
        drop(raw);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(session.value("SELECT count(*) FROM t").expect("an answer"), "0");
    session.exec("COPY t FROM STDIN;\n1\tone\n");
    assert_eq!(session.value("SELECT count(*) FROM t").expect("an answer"), "1");
    fresh.is_well();
}

#[test]
fn huge_rows_and_parameters_pass_or_are_refused() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec(
        "CREATE TABLE t (i int, x text); CREATE MATERIALIZED VIEW v AS SELECT i, length(x) AS n, x FROM t",
    );
    let large = "ä".repeat(4 << 20);
    session.exec(&format!("INSERT INTO t VALUES (1, '{large}')"));
    assert_eq!(session.value("SELECT n FROM v").expect("an answer"), (4 << 20).to_string());
    assert_eq!(session.value("SELECT x FROM v").expect("an answer").len(), large.len());
    // A parameter of the extended protocol.
    let mut raw = Raw::session(&fresh.server.address);
    raw.send(&message(b'P', b"\0SELECT length($1::text)\0\0\0"));
    let mut bind = b"\0\0\0\0\0\x01".to_vec();
    bind.extend((large.len() as u32).to_be_bytes());
    bind.extend(large.as_bytes());
    bind.extend(b"\0\0");
    raw.send(&message(b'B', &bind));
    raw.send(&message(b'E', b"\0\0\0\0\0"));
    raw.send(&message(b'S', b""));
    let row = raw.read_until(b'D').expect("a row");
    assert_eq!(&row[6..], (4 << 20).to_string().as_bytes());
    let e = session.run("SELECT repeat('x', 2000000000)").expect_err("a refusal");
    assert_eq!(e.code(), "54000", "{e}");
    fresh.is_well();
}
