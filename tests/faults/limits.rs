//! Statements that would take all memory: refused with 53200 or 53400, and the server goes on.

use crate::Fresh;

/// Memory for queries in these tests.
const FLAGS: &[&str] = &["--query-memory-limit", "16MB"];

#[test]
fn a_query_that_needs_too_much_memory_is_refused() {
    let fresh = Fresh::start(FLAGS);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i bigint, x text)");
    session.exec("INSERT INTO t SELECT i, 'row ' || i || repeat('x', 100) FROM generate_series(1, 200000) i");
    for query in [
        "SELECT x FROM t ORDER BY x DESC, i OFFSET 199999",
        "SELECT x, count(*) FROM t GROUP BY x ORDER BY 2 LIMIT 1",
        "SELECT DISTINCT x, i FROM t ORDER BY 1 LIMIT 1",
        "SELECT count(*) FROM t a JOIN t b ON a.x = b.x",
        "SELECT array_agg(x) FROM t",
        "SELECT string_agg(x, ',') FROM t",
        "COPY (SELECT x FROM t ORDER BY x DESC, i) TO STDOUT",
        "CREATE TABLE u AS SELECT x FROM t ORDER BY x DESC, i",
    ] {
        match session.run(query) {
            Err(e) => assert!(["53200", "53400", "54000", "0A000"].contains(&e.code()), "{query}: {e}"),
            Ok(_) => panic!("{query}: runs within 16 MB"),
        }
        assert_eq!(session.value("SELECT 1").expect("an answer"), "1");
    }
    fresh.is_well();
}

#[test]
fn a_question_about_the_catalog_that_needs_too_much_memory_is_refused() {
    let fresh = Fresh::start(FLAGS);
    let mut session = fresh.server.connect();
    for query in [
        "SELECT count(*) FROM pg_class a, pg_class b, pg_class c, pg_class d",
        "SELECT count(*) FROM pg_attribute a, pg_attribute b",
        "WITH RECURSIVE r AS (SELECT relname, 1 AS n FROM pg_class UNION ALL SELECT relname, n + 1 FROM r) SELECT count(*) FROM r",
    ] {
        let e = session.run(query).expect_err("a refusal");
        assert!(["53200", "53400"].contains(&e.code()), "{query}: {e}");
    }
    fresh.is_well();
}

#[test]
fn a_scrollable_cursor_that_keeps_too_much_is_refused() {
    let fresh = Fresh::start(FLAGS);
    let mut session = fresh.server.connect();
    session.exec("BEGIN");
    session
        .exec("DECLARE c SCROLL CURSOR FOR SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i");
    let e = session.run("MOVE FORWARD ALL IN c").expect_err("a refusal");
    assert!(["53200", "53400", "54000"].contains(&e.code()), "{e}");
    session.exec("ROLLBACK");
    // What is given is given: FETCH of everything is refused, too, when it cannot be held.
    session.exec("BEGIN");
    session.exec("DECLARE c CURSOR FOR SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000) i");
    let e = session.run("FETCH ALL c").expect_err("a refusal");
    assert!(["53200", "53400", "54000"].contains(&e.code()), "{e}");
    session.exec("ROLLBACK");
    fresh.is_well();
}
