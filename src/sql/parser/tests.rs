//! Tests of the grammar.

use super::*;

fn one(text: &str) -> Statement {
    let mut all = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

#[test]
fn a_select_is_a_query() {
    assert!(matches!(one("SELECT 1"), Statement::Query(_)));
}

#[test]
fn measure_shapes() {
    let run = |name: &str, text: String| {
        let t = std::time::Instant::now();
        let r = std::thread::Builder::new().stack_size(2<<20).spawn(move || { let r = parse(&text); let s = match &r { Ok(_) => "ok".to_string(), Err(e) => format!("{e:?}").chars().take(60).collect() }; drop(r); s }).unwrap().join().unwrap();
        println!("{name:30} {:?} {r}", t.elapsed());
    };
    for (open, close) in [("POSITION(", " IN 'x')"), ("CAST(", " AS int)"), ("CEIL(", ")"), ("SUBSTRING(", " FROM 1)"), ("NOT (", ")"), ("f(", ")"), ("ARRAY[", "]"), ("STRUCT(", ")"), ("(", ")"), ("(SELECT ", ")"), ("CASE WHEN ", " THEN 1 END"), ("EXTRACT(year FROM ", ")"), ("TRIM(", ")"), ("COALESCE(a,", ")"), ("(1,", ")"), ("x IN (", ")"), ("EXISTS (SELECT ", ")"), ("OVERLAY(", " PLACING 'a' FROM 1)"), ("FLOOR(", ")"), ("INTERVAL (", ")"), ("DATE(", ")"), ("- (", ")"), ("a[", "]"), ("f(a => ", ")"), ("left(", ",1)"), ("ROW(", ")"), ("GROUPING SETS (", ")"), ("convert(",")"), ("ANY(",")")] {
        for n in [10, 20, 60, 99] {
            run(&format!("{open}{n} closed"), format!("SELECT {}1{}", open.repeat(n), close.repeat(n)));
            run(&format!("{open}{n} open"), format!("SELECT {}", open.repeat(n)));
            run(&format!("{open}{n} wrong"), format!("SELECT {}1 1{}", open.repeat(n), close.repeat(n)));
        }
    }
    for s in ["INTERVAL ", "NOT ", "- ", "+ ", "~ ", "DATE ", "ARRAY ", "EXISTS ", "CASE ", "@ ", "|/ ", "!! ", "ARRAY<", "STRUCT<", "PRIOR ", "x.", "1 + ", "a AND ", "a COLLATE ", "x IS NULL ", "1 :: ", "EXPLAIN ", "a IS DISTINCT FROM ", "LATERAL ", "NULL ", "a[1]", "a BETWEEN 1 AND ", "a AT TIME ZONE ", "SELECT ", "WITH a AS ", "a IN ", "a LIKE ", "INTERVAL INTERVAL ", "'a' ", "x ", "DISTINCT ", "1 IN ", "a:", "TABLE ", "(", "a = ANY ", "OPERATOR(a.+) "] {
        for n in [60, 900, 20000] {
            run(&format!("{s} x{n}"), format!("SELECT {}1", s.repeat(n)));
        }
    }
    for s in ["(", "(SELECT * FROM ", "a JOIN (", "LATERAL (", "UNNEST(", "f(", "TABLE("] {
        for n in [20, 60, 99] {
            run(&format!("FROM {s} x{n}"), format!("SELECT * FROM {}a{}", s.repeat(n), ")".repeat(n)));
            run(&format!("FROM {s} x{n} open"), format!("SELECT * FROM {}a", s.repeat(n)));
        }
    }
    for n in [500, 990] {
    for s in [" + 1", " AND a", " || 'a'", " UNION SELECT 1", ", 1"] { run(&format!("chain {s} {n}"), format!("SELECT 1{}", s.repeat(n))); }
    run(&format!("joins {n}"), format!("SELECT * FROM a{}", " JOIN b ON a.x = b.x".repeat(n/3)));
    run(&format!("types {n}"), format!("SELECT a::int{}", "[]".repeat(n)));
    run(&format!("types {n}"), format!("CREATE TABLE t (a {}int)", "ARRAY<".repeat(n)));
    run(&format!("types {n}"), format!("CREATE TABLE t (a {}int)", "STRUCT<a ".repeat(n)));
    run(&format!("types {n}"), format!("CREATE TABLE t (a {}int)", "Nullable(".repeat(n.min(99))));
    run(&format!("types {n}"), format!("CREATE TABLE t (a {}int)", "f(".repeat(n.min(99))));
    }
    run("insert", format!("INSERT INTO t VALUES {}", vec!["(1, 'abc', 2.5, NULL)"; 20000].join(",")));
}
