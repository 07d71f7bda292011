//! Cancel, `statement_timeout` and SIGTERM stop every kind of statement, at any moment.

use std::time::{Duration, Instant};

use crate::common::wire::{Wire, WireError};
use crate::common::{Random, eventually};
use crate::raw::{Raw, message};
use crate::{Fresh, no_panic};

/// How long stopping may take: the machine may be busy, and the server is not optimised here.
const SOON: Duration = Duration::from_secs(8);

/// Tables over which the statements below take minutes.
fn tables(session: &mut Wire) {
    session.exec("CREATE TABLE t (i int, k int, x text)");
    session.exec("INSERT INTO t SELECT i, i % 3, 'x' || i FROM generate_series(1, 20000) i");
    session.exec("CREATE MATERIALIZED VIEW small AS SELECT k, count(*) AS n FROM t GROUP BY k");
}

/// Every kind of statement that can take long.
const LONG: &[&str] = &[
    "SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1",
    "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b",
    "SELECT max(a.x || b.x) FROM t a JOIN t b ON a.k = b.k",
    "SELECT pg_sleep(600)",
    "SELECT count(*) FROM pg_attribute a, pg_attribute b WHERE a.attnum + b.attnum = -1",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n > 0) SELECT max(n) FROM r",
    "COPY (SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1) TO STDOUT",
    "EXPLAIN ANALYZE SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1",
    "INSERT INTO t SELECT a.i, b.i, c.x FROM t a, t b, t c WHERE a.i + b.i + c.i = -1",
    "UPDATE t SET k = k + 1 WHERE i = (SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1)",
    "DELETE FROM t WHERE i = (SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1)",
    "CREATE TABLE other AS SELECT count(*) AS n FROM t a, t b, t c WHERE a.i + b.i + c.i = -1",
    "CREATE MATERIALIZED VIEW large AS SELECT a.k, count(*) AS n, max(a.x || b.x) AS m FROM t a JOIN t b ON a.k = b.k GROUP BY a.k",
    "SUBSCRIBE (SELECT a.k, count(*) AS n FROM t a JOIN t b ON a.k = b.k GROUP BY a.k) UP TO '2999-01-01'",
    "BEGIN; DECLARE c CURSOR FOR SELECT count(*) FROM t a, t b, t c WHERE a.i + b.i + c.i = -1; FETCH ALL c",
    "BEGIN; DECLARE c SCROLL CURSOR FOR SELECT a.i FROM t a, t b, t c WHERE a.i + b.i + c.i = -1; MOVE ALL c",
];

fn is_stopped(outcome: Result<Vec<crate::common::wire::Answer>, WireError>, statement: &str, reason: &str) {
    match outcome {
        Ok(_) => panic!("{statement} ends by itself"),
        Err(e) if e.code() == "57014" => {
            assert_eq!(e.message(), format!("canceling statement due to {reason}"), "{statement}");
        }
        // Some are refused before their time is up.
        Err(e) => assert!(["53200", "53400", "0A000"].contains(&e.code()), "{statement}: {e}"),
    }
}

#[test]
fn a_time_out_stops_every_kind_of_statement() {
    let fresh = Fresh::start(&[]);
    tables(&mut fresh.server.connect());
    for statement in LONG {
        let mut session = fresh.server.connect();
        if statement.starts_with("SUBSCRIBE") {
            continue; // endless on purpose
        }
        session.exec("SET statement_timeout = '300ms'");
        let started = Instant::now();
        is_stopped(session.run(statement), statement, "statement timeout");
        assert!(started.elapsed() < SOON, "{statement}: {:?}", started.elapsed());
        session.exec("ROLLBACK; SET statement_timeout = 0");
        assert_eq!(session.value("SELECT sum(n) FROM small").expect("an answer"), "20000", "{statement}");
    }
    fresh.is_well();
}

#[test]
fn a_cancel_request_stops_every_kind_of_statement_and_others_do_not_wait() {
    let fresh = Fresh::start(&[]);
    let mut other = fresh.server.connect();
    tables(&mut other);
    other.exec("CREATE TABLE quick (i int)");
    for statement in LONG {
        let mut session = fresh.server.connect();
        let pid = session.value("SELECT pg_backend_pid()").expect("a number");
        session.start(statement).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        other.exec("INSERT INTO quick VALUES (1)");
        assert!(started.elapsed() < SOON, "INSERT during {statement}: {:?}", started.elapsed());
        let started = Instant::now();
        other.exec(&format!("SELECT pg_cancel_backend({pid})"));
        let outcome = loop {
            match session.next_row() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(Vec::new()),
                Err(e) => break Err(e),
            }
        };
        is_stopped(outcome, statement, "user request");
        assert!(started.elapsed() < SOON, "{statement}: {:?}", started.elapsed());
        session.exec("ROLLBACK");
        assert_eq!(session.value("SELECT count(*) FROM t").expect("an answer"), "20000", "{statement}");
    }
    fresh.is_well();
}

#[test]
fn a_cancel_at_any_moment_ends_one_statement_or_none() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int PRIMARY KEY, k int); CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k");
    let pid = session.value("SELECT pg_backend_pid()").expect("a number");
    let address = fresh.server.address.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let canceler = std::thread::spawn(move || {
        let mut other = Wire::connect(&address, "freshet", "freshet").expect("a session");
        let mut random = Random::new(7);
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(random.below(4000)));
            other.exec(&format!("SELECT pg_cancel_backend({pid})"));
        }
    });
    let mut there = 0;
    let mut canceled = 0;
    for i in 0..400 {
        let statement = match i % 4 {
            0 => format!("INSERT INTO t VALUES ({i}, {})", i % 7),
            1 => "SELECT k, n FROM v ORDER BY k".to_string(),
            2 => "SELECT relname FROM pg_class ORDER BY 1".to_string(),
            _ => format!("COPY t FROM STDIN;\n{i}\t1\n"),
        };
        match session.run(&statement) {
            Ok(_) if i % 4 == 0 || i % 4 == 3 => there += 1,
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.code(), "57014", "{statement}: {e}");
                canceled += 1;
            }
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    canceler.join().expect("the canceler ends");
    let rows: usize = session.value("SELECT count(*) FROM t").expect("rows").parse().expect("a number");
    // What was cancelled has not happened, what was acknowledged has.
    assert_eq!(rows, there, "{canceled} were cancelled");
    crate::common::check_views(&mut session).expect("views equal their queries");
    fresh.is_well();
}

#[test]
fn sigterm_ends_sessions_with_57p01() {
    let mut fresh = Fresh::start(&[]);
    let mut idle = fresh.server.connect();
    idle.exec("CREATE TABLE t (i int); INSERT INTO t VALUES (1)");
    let mut block = fresh.server.connect();
    block.exec("BEGIN; INSERT INTO t VALUES (2)");
    let mut busy = fresh.server.connect();
    busy.start("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")
        .expect("sent");
    let mut catalog = fresh.server.connect();
    catalog
        .start("SELECT count(*) FROM pg_attribute a, pg_attribute b WHERE a.attnum + b.attnum = -1")
        .expect("sent");
    let mut subscriber = fresh.server.connect();
    subscriber.start("SUBSCRIBE t").expect("sent");
    subscriber.next_row().expect("a row");
    let mut stuck = Raw::session(&fresh.server.address);
    stuck.send(&message(b'Q', b"SELECT i, repeat('x', 1000) FROM generate_series(1, 10000000) i\0"));
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    let status = fresh.server.terminate();
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let code = |session: &mut Wire| loop {
        match session.next_row() {
            Ok(Some(_)) => {}
            Ok(None) => return "no error".to_string(),
            Err(WireError::Lost(text)) => return text,
            Err(e) => return e.code().to_string(),
        }
    };
    for (name, session) in [("busy", &mut busy), ("catalog", &mut catalog), ("subscriber", &mut subscriber)] {
        assert_eq!(code(session), "57P01", "{name}");
    }
    for session in [&mut idle, &mut block] {
        assert_eq!(session.next_row().expect_err("closed").code(), "57P01");
    }
    no_panic(&fresh.server);
}

#[test]
fn a_terminated_session_is_told_even_in_the_middle_of_a_statement() {
    let fresh = Fresh::start(&[]);
    let mut busy = fresh.server.connect();
    let pid = busy.value("SELECT pg_backend_pid()").expect("a number");
    busy.start("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")
        .expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let mut other = fresh.server.connect();
    assert_eq!(other.value(&format!("SELECT pg_terminate_backend({pid})")).expect("an answer"), "t");
    assert_eq!(busy.next_row().expect_err("the end").code(), "57P01");
    eventually(Duration::from_secs(5), || {
        let open = other.value("SELECT count(*) FROM freshet.sessions").map_err(|e| e.to_string())?;
        if open == "1" { Ok(()) } else { Err(format!("{open} sessions")) }
    });
}
