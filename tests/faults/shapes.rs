//! SQL of deep, long and explosive shapes: answered, or refused with 54001 (or another word), soon.

use std::time::{Duration, Instant};

use crate::Fresh;

/// A second when optimised; this is not.
const SOON: Duration = Duration::from_secs(15);

fn nested(before: &str, inner: &str, after: &str, times: usize) -> String {
    format!("{}{inner}{}", before.repeat(times), after.repeat(times))
}

fn chain(item: &str, between: &str, times: usize) -> String {
    vec![item; times].join(between)
}

fn shapes() -> Vec<(&'static str, String)> {
    let select = |e: String| format!("SELECT {e}");
    vec![
        ("nested POSITION", select(nested("POSITION(", "'a' IN 'b'", " IN 'c')", 40))),
        ("nested CAST", select(nested("CAST(", "1", " AS int)", 200))),
        ("nested CEIL", select(nested("CEIL(", "1", ")", 200))),
        ("nested SUBSTRING", select(nested("SUBSTRING(", "'a'", " FROM 1)", 200))),
        ("nested NOT (", select(nested("NOT (", "true", ")", 200))),
        ("nested calls", select(nested("abs(", "1", ")", 400))),
        ("open calls", select("f(".repeat(24))),
        ("open arrays", select("ARRAY[".repeat(24))),
        ("open structs", select("STRUCT(".repeat(24))),
        ("parentheses", select(nested("(", "1", ")", 20_000))),
        ("open parentheses", select("(".repeat(100_000))),
        ("intervals", select("INTERVAL ".repeat(1_000))),
        ("minuses", select(format!("{}1", "- ".repeat(20_000)))),
        ("nots", select(format!("{}true", "NOT ".repeat(20_000)))),
        ("additions", select(chain("1", " + ", 50_000))),
        ("200 additions", select(chain("1", " + ", 200))),
        ("ANDs", format!("SELECT 1 WHERE {}", chain("1 = 1", " AND ", 20_000))),
        (
            "ORs of columns",
            format!("SELECT relname FROM pg_class WHERE {}", chain("relname = 'a'", " OR ", 5_000)),
        ),
        ("ORs over a table", format!("SELECT i FROM t WHERE {}", chain("i = 1", " OR ", 2_000))),
        ("concatenations", select(chain("'a'", " || ", 20_000))),
        ("UNIONs", chain("SELECT 1", " UNION ALL ", 1_000)),
        ("a long IN list", format!("SELECT count(*) FROM t WHERE i IN ({})", chain("1", ", ", 20_000))),
        ("a long VALUES list", format!("INSERT INTO t VALUES {}", chain("(1, 'a')", ", ", 20_000))),
        ("many columns", select(chain("1", ", ", 5_000))),
        ("nested subqueries", format!("SELECT * FROM {}", nested("(SELECT * FROM ", "t", ") s", 200))),
        ("nested EXISTS", format!("SELECT 1 WHERE {}", nested("EXISTS (SELECT 1 WHERE ", "true", ")", 100))),
        ("nested CASE", select(nested("CASE WHEN true THEN ", "1", " ELSE 0 END", 150))),
        ("nested WITH", nested("WITH a AS (", "SELECT 1", ") SELECT * FROM a", 60)),
        (
            "joins",
            format!(
                "SELECT count(*) FROM t t0{}",
                (1..30).map(|i| format!(" JOIN t t{i} ON t{i}.i = t0.i")).collect::<String>()
            ),
        ),
        ("a name of many parts", select(chain("a", ".", 5_000))),
        ("a long name", select(format!("1 AS {}", "x".repeat(100_000)))),
        ("nested comments", select(format!("1 {}", nested("/*", "", "*/", 50_000)))),
        ("open comments", select(format!("1 {}", "/*".repeat(50_000)))),
        ("open quote", select(format!("'{}", "''".repeat(100_000)))),
        ("open dollar quotes", select("$a$".repeat(30_001))),
        ("many statements", "SELECT 1;".repeat(2_000)),
        ("semicolons", ";".repeat(100_000)),
        (
            "a view of a deep query",
            format!("CREATE MATERIALIZED VIEW deep AS SELECT {} AS x FROM t", chain("i", " + ", 240)),
        ),
        (
            "a view of nested subqueries",
            format!(
                "CREATE MATERIALIZED VIEW nest AS SELECT * FROM {}",
                nested("(SELECT * FROM ", "t", ") s", 60)
            ),
        ),
        ("a deep regular expression", select(format!("'a' ~ '{}'", nested("(", "a", ")*", 2_000)))),
        ("a regular expression that explodes", select("repeat('a', 30) ~ '^(a+)+$b'".into())),
        ("a large repetition", select("'a' ~ '(a{1000}){1000}'".into())),
        ("a huge string", select("length(repeat('x', 1000000000) || repeat('y', 1000000000))".into())),
        ("a huge pad", select("length(lpad('x', 2000000000, 'y'))".into())),
        ("a huge number", select(format!("{}::numeric", "9".repeat(100_000)))),
        ("a huge power", select("10::numeric ^ 100000".into())),
        ("deep JSON", select(format!("'{}'::jsonb", nested("[", "", "]", 100_000)))),
        ("EXPLAIN of EXPLAIN", format!("{}SELECT 1", "EXPLAIN ".repeat(1_000))),
        ("PREPARE of PREPARE", format!("{}SELECT 1", "PREPARE p AS ".repeat(1_000))),
        ("COPY of COPY", format!("{}SELECT 1{}", "COPY (".repeat(500), ") TO STDOUT".repeat(500))),
    ]
}

#[test]
fn every_shape_is_answered_or_refused_soon() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int, x text); INSERT INTO t VALUES (1, 'a')");
    let mut slow = Vec::new();
    for (name, sql) in shapes() {
        let started = Instant::now();
        let outcome = session.run(&sql);
        let took = started.elapsed();
        if took > SOON {
            slow.push((name, took));
        }
        if let Err(e) = outcome {
            let known = ["54", "42", "22", "0A", "53"].iter().any(|class| e.code().starts_with(class));
            assert!(known, "{name}: {e}");
        }
        session.exec("ROLLBACK");
        crate::no_panic(&fresh.server);
    }
    assert!(slow.is_empty(), "{slow:?}");
    fresh.is_well();
}
