//! Errors say where they happened; prepared statements survive definitions or say that they cannot; locks wait.

use std::time::{Duration, Instant};

use crate::Fresh;
use crate::raw::{Raw, message, sqlstate};

#[test]
fn errors_of_copy_name_line_and_column_as_context() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int NOT NULL, b text, c float8)");
    for (copy, code, context) in [
        ("COPY t FROM STDIN;\n1\ta\t2\nx\tb\t3\n", "22P02", "COPY t, line 2, column i: \"x\""),
        ("COPY t FROM STDIN;\n1\ta\t2\n2\tb\n", "22P04", "COPY t, line 2: \"2\tb\""),
        ("COPY t FROM STDIN;\n1\ta\t2\t3\n", "22P04", "COPY t, line 1: \"1\ta\t2\t3\""),
        ("COPY t (i, c) FROM STDIN CSV;\n1,2\n2,much\n", "22P02", "COPY t, line 2, column c: \"much\""),
        (
            "COPY t (i, c) FROM STDIN CSV HEADER;\ni,c\n1,2\n99999999999,2\n",
            "22003",
            "COPY t, line 3, column i: \"99999999999\"",
        ),
    ] {
        let e = session.run(copy).expect_err(copy);
        assert_eq!((e.code(), e.context(), e.detail()), (code, Some(context), None), "{copy}: {e}");
    }
    assert_eq!(session.value("SELECT count(*) FROM t").expect("an answer"), "0");
    // The whole value is not repeated when it is long.
    let e = session.run(&format!("COPY t FROM STDIN;\n{}\ta\t1\n", "y".repeat(500))).expect_err("no number");
    assert!(e.context().is_some_and(|c| c.ends_with("yyy...\"") && c.len() < 200), "{:?}", e.context());
}

#[test]
fn errors_in_queries_within_statements_have_a_position() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int)");
    for before in [
        "DECLARE c CURSOR FOR SELECT ",
        "COPY (SELECT ",
        "CREATE MATERIALIZED VIEW v AS SELECT ",
        "CREATE VIEW v AS SELECT ",
        "INSERT INTO t SELECT ",
    ] {
        let after = if before.starts_with("COPY") { ") TO STDOUT" } else { "" };
        session.exec("BEGIN");
        let e = session.run(&format!("{before}nosuch FROM t{after}")).expect_err(before);
        assert_eq!((e.code(), e.position()), ("42703", Some(before.len() + 1)), "{before}: {e}");
        session.exec("ROLLBACK");
    }
}

#[test]
fn a_prepared_statement_survives_definitions_or_says_that_its_type_has_changed() {
    let fresh = Fresh::start(&[]);
    let mut other = fresh.server.connect();
    other.exec("CREATE TABLE t (i int, x text); INSERT INTO t VALUES (1, 'a')");
    let mut raw = Raw::session(&fresh.server.address);
    raw.send(&message(b'P', b"s\0SELECT * FROM t WHERE i = 1\0\0\0"));
    raw.send(&message(b'S', b""));
    raw.read_until(b'Z').expect("parsed");
    let mut run = || {
        raw.send(&message(b'B', b"\0s\0\0\0\0\0\0\0"));
        raw.send(&message(b'E', b"\0\0\0\0\0"));
        raw.send(&message(b'S', b""));
        let mut outcome = String::new();
        loop {
            let (kind, body) = raw.next().expect("an answer");
            match kind {
                b'D' => outcome = "row".into(),
                b'E' => outcome = sqlstate(&body),
                b'Z' => return outcome,
                _ => {}
            }
        }
    };
    assert_eq!(run(), "row");
    other.exec("CREATE INDEX ON t (i)");
    assert_eq!(run(), "row");
    other.exec("DROP TABLE t; CREATE TABLE t (i int, x text); INSERT INTO t VALUES (1, 'b')");
    assert_eq!(run(), "row");
    other.exec("DROP TABLE t; CREATE TABLE t (i int, x text, more int); INSERT INTO t VALUES (1, 'b', 2)");
    assert_eq!(run(), "0A000");
    other.exec("DROP TABLE t");
    assert_eq!(run(), "42P01");
    // The same with SQL's PREPARE.
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE u (i int)");
    session.exec("PREPARE p AS SELECT * FROM u");
    session.exec("DROP TABLE u; CREATE TABLE u (i text)");
    let e = session.run("EXECUTE p").expect_err("another type");
    assert_eq!((e.code(), e.message()), ("0A000", "cached plan must not change result type"));
}

#[test]
fn advisory_locks_exclude_others_until_they_are_given_back() {
    let fresh = Fresh::start(&[]);
    let (mut one, mut two) = (fresh.server.connect(), fresh.server.connect());
    one.exec("SELECT pg_advisory_lock(7)");
    assert_eq!(two.value("SELECT pg_try_advisory_lock(7)").expect("an answer"), "f");
    assert_eq!(two.value("SELECT pg_try_advisory_lock(0, 7)").expect("an answer"), "t");
    two.exec("SET lock_timeout = '200ms'");
    assert_eq!(two.run("SELECT pg_advisory_lock(7)").expect_err("a time-out").code(), "55P03");
    two.exec("SET lock_timeout = 0; SET statement_timeout = '200ms'");
    assert_eq!(two.run("SELECT pg_advisory_lock(7)").expect_err("a time-out").code(), "57014");
    two.exec("SET statement_timeout = 0");
    two.start("SELECT pg_advisory_lock(7)").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    assert_eq!(one.value("SELECT pg_advisory_unlock(7)").expect("an answer"), "t");
    while two.next_row().expect("the lock").is_some() {}
    assert!(started.elapsed() < Duration::from_secs(5));
    // Locks of a transaction end with it, those of a session with the session.
    one.exec("BEGIN; SELECT pg_advisory_xact_lock(8)");
    assert_eq!(two.value("SELECT pg_try_advisory_lock(8)").expect("an answer"), "f");
    one.exec("ROLLBACK");
    assert_eq!(two.value("SELECT pg_try_advisory_lock(8)").expect("an answer"), "t");
    drop(two);
    crate::common::eventually(Duration::from_secs(5), || {
        let free = one.value("SELECT pg_try_advisory_lock(7)").map_err(|e| e.to_string())?;
        if free == "t" { Ok(()) } else { Err("still held".to_string()) }
    });
}

#[test]
fn creating_an_index_does_not_hold_up_the_inserts_of_others() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int PRIMARY KEY, k int, x text)");
    for part in 0..4 {
        session.exec(&format!(
            "INSERT INTO t SELECT {part} * 50000 + i, i % 1000, 'x' || i FROM generate_series(1, 50000) i"
        ));
    }
    let address = fresh.server.address.clone();
    let builder = std::thread::spawn(move || {
        let mut session =
            crate::common::wire::Wire::connect(&address, "freshet", "freshet").expect("a session");
        let started = Instant::now();
        session.exec("CREATE INDEX t_k ON t (k, x)");
        started.elapsed()
    });
    let mut longest = Duration::ZERO;
    let mut written = 0;
    while !builder.is_finished() || written < 20 {
        let started = Instant::now();
        session.exec(&format!(
            "INSERT INTO t VALUES ({0}, 7, 'late'); DELETE FROM t WHERE i = {written} + 1; UPDATE t SET k = 8 WHERE i = {0}",
            1_000_000 + written
        ));
        longest = longest.max(started.elapsed());
        written += 1;
    }
    let built = builder.join().expect("the index");
    println!("built in {built:?}, longest write {longest:?}");
    assert!(
        longest < built.max(Duration::from_secs(2)),
        "a write took {longest:?} while the index was built in {built:?}"
    );
    // What was written meanwhile is in the index, once.
    assert_eq!(
        session.value("SELECT count(*) FROM t WHERE k = 8 AND x = 'late'").expect("rows"),
        written.to_string()
    );
    assert_eq!(session.rows("SELECT i FROM t WHERE k = 8 AND x = 'late'").expect("rows").len(), written);
    assert_eq!(session.rows("SELECT i FROM t WHERE k = 7 AND x = 'late'").expect("rows").len(), 0);
    assert_eq!(session.rows("SELECT i FROM t WHERE k = 1 AND x = 'x1'").expect("rows").len(), 3);
}

#[test]
fn the_first_columns_of_a_key_find_rows_while_others_write() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (a int, b int, c int, PRIMARY KEY (a, b))");
    session.exec("INSERT INTO t SELECT i % 100, i / 100, 0 FROM generate_series(0, 9999) i");
    let address = fresh.server.address.clone();
    let writer = std::thread::spawn(move || {
        let mut session =
            crate::common::wire::Wire::connect(&address, "freshet", "freshet").expect("a session");
        for i in 0..150 {
            // Each transaction leaves every a with as many rows and the same sum.
            session.exec(&format!(
                "BEGIN; DELETE FROM t WHERE a = {0} AND b = {1}; INSERT INTO t VALUES ({0}, {1} + 1000, 1); \
                 UPDATE t SET c = c - 1 WHERE a = {0} AND b = {2}; COMMIT",
                i % 10,
                i / 10,
                50 + i / 10
            ));
        }
    });
    let mut asked = 0;
    while !writer.is_finished() || asked < 50 {
        let a = asked % 10;
        let rows = session.rows(&format!("SELECT c FROM t WHERE a = {a}")).expect("rows");
        let sum: i64 = rows.iter().filter_map(|r| r[0].as_deref()?.parse::<i64>().ok()).sum();
        assert_eq!((rows.len(), sum), (100, 0), "a = {a}");
        asked += 1;
    }
    writer.join().expect("the writer");
    fresh.is_well();
}

#[test]
fn a_subscription_from_the_past_tells_every_epoch_by_itself() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int, x text); CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM t GROUP BY x");
    session.exec("INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    let then = session.value("SELECT epoch FROM freshet.epochs").expect("an epoch");
    session.exec("INSERT INTO t VALUES (3, 'a')");
    session.exec("UPDATE t SET x = 'c' WHERE i = 3");
    session.exec("UPDATE t SET x = 'c' WHERE i = 3");
    session.exec("DELETE FROM t WHERE x = 'c'");
    let now = session.value("SELECT epoch FROM freshet.epochs").expect("an epoch");
    let told = |session: &mut crate::common::wire::Wire, sql: &str| {
        let rows = session.rows(sql).expect("changes");
        let mut epochs: Vec<String> = Vec::new();
        let mut changes = Vec::new();
        for row in rows {
            let cells: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
            if epochs.last() != Some(&cells[0]) {
                epochs.push(cells[0].clone());
                changes.push(Vec::new());
            }
            changes.last_mut().expect("pushed").push(cells[1..].join(" "));
        }
        changes.iter_mut().for_each(|c| c.sort());
        changes
    };
    let up_to = now.parse::<u64>().expect("a number") + 1;
    let all = told(&mut session, &format!("SUBSCRIBE v AS OF {then} UP TO {up_to}"));
    let wanted: [&[&str]; 4] =
        [&["1 a 1", "1 b 1"], &["-1 a 1", "1 a 2"], &["-1 a 2", "1 a 1", "1 c 1"], &["-1 c 1"]];
    assert_eq!(all, wanted);
    let table =
        told(&mut session, &format!("SUBSCRIBE t WITH (SNAPSHOT = false) AS OF {then} UP TO {up_to}"));
    assert_eq!(table, [vec!["1 3 a"], vec!["-1 3 a", "1 3 c"], vec!["-1 3 c"]]);
    assert!(told(&mut session, &format!("SUBSCRIBE t AS OF {then} UP TO {then}")).is_empty());
}
