//! Tests of the grammar: what passes, what is refused and how, where errors point, what cannot do harm.

use std::time::{Duration, Instant};

use super::window::{WindowInput, WindowKind, window_tvf};
use super::*;
use crate::sql::statement::*;

fn one(text: &str) -> Statement {
    let mut all = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

fn failure(text: &str) -> Error {
    match parse(text) {
        Ok(statements) => panic!("{text} was accepted: {statements:?}"),
        Err(e) => e,
    }
}

fn query(text: &str) -> Box<ast::Query> {
    match one(text) {
        Statement::Query(query) => query,
        other => panic!("{text}: {other:?}"),
    }
}

/// The first table factor of a SELECT.
fn first_factor(query: &ast::Query) -> &ast::TableFactor {
    match &*query.body {
        ast::SetExpr::Select(select) => &select.from[0].relation,
        other => panic!("{other:?}"),
    }
}

const ACCEPTED: &[&str] = &[
    "SELECT 1",
    "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST LIMIT 5 OFFSET 2",
    "SELECT a FROM t FETCH FIRST 5 ROWS ONLY",
    "SELECT * FROM t WHERE a = $1 AND b = ANY ($2) AND c IN (SELECT 1)",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a",
    "SELECT a, count(*) FILTER (WHERE b) FROM t GROUP BY GROUPING SETS ((a), ()) HAVING count(*) > 1",
    "SELECT sum(x) OVER (PARTITION BY u ORDER BY ts RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW) FROM t",
    "SELECT rank() OVER w FROM t WINDOW w AS (ORDER BY a)",
    "SELECT sum(x) OVER (w ORDER BY a) FROM t WINDOW w AS (PARTITION BY b)",
    "SELECT sum(x) OVER (ORDER BY a ROWS 1 PRECEDING EXCLUDE TIES), sum(x) OVER (ROWS 1 PRECEDING EXCLUDE NO OTHERS) FROM t",
    "SELECT * FROM t ORDER BY a FETCH FIRST 5 ROWS WITH TIES",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) AS n FROM t QUALIFY n = 1",
    "SELECT array_agg(a ORDER BY b), string_agg(DISTINCT c, ',') FROM t",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM t",
    "SELECT a::int, CAST(b AS numeric(12, 2)), c::text[], 'x'::regclass, x COLLATE \"C\" FROM t",
    "SELECT j -> 'a' ->> 'b', j #>> '{a}', j @> '{}', j ? 'k', j ?| ARRAY['a'] FROM t",
    "SELECT extract(epoch FROM ts), ts AT TIME ZONE 'UTC', INTERVAL '1' DAY, date '2024-01-01' FROM t",
    "SELECT substring(a FROM 1 FOR 2), position('a' IN b), trim(both ' ' FROM c), overlay(a PLACING 'x' FROM 1) FROM t",
    "SELECT CASE WHEN a THEN 1 ELSE 2 END, a IS NOT DISTINCT FROM b, a BETWEEN 1 AND 2, a NOT LIKE 'x' FROM t",
    "SELECT * FROM a JOIN b USING (x) LEFT JOIN c ON a.y = c.y NATURAL JOIN d CROSS JOIN e, f",
    "SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.x = a.x) l",
    "SELECT * FROM (SELECT 1)",
    "SELECT * FROM generate_series(1, 5) AS g(n)",
    "SELECT * FROM unnest(ARRAY[1, 2]) AS u(x)",
    "SELECT c.oid FROM pg_class c WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
    "SELECT ARRAY(SELECT 1)",
    "SELECT a FROM t UNION ALL SELECT b FROM u EXCEPT SELECT c FROM v",
    "VALUES (1, 'a'), (2, 'b')",
    "TABLE t",
    "(SELECT 1) UNION (TABLE public.t)",
    "SELECT * FROM ONLY t",
    "SELECT current_date, current_timestamp, localtimestamp, current_user",
    "SELECT 'a'\n'b', E'x\\n', U&'\\0041', $tag$it's$tag$",
    "INSERT INTO t VALUES (1, DEFAULT)",
    "INSERT INTO s.t (a, b) SELECT a, b FROM u RETURNING a, b AS c",
    "INSERT INTO t DEFAULT VALUES",
    "UPDATE t SET a = 1, b = b + 1 WHERE c = $1 RETURNING *",
    "UPDATE t AS x SET a = DEFAULT WHERE x.b IN (SELECT b FROM u)",
    "DELETE FROM t WHERE a = 1 RETURNING a",
    "DELETE FROM t",
    "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL DEFAULT 'x', n numeric(12, 2) NULL CHECK (n > 0), UNIQUE (v), CONSTRAINT c CHECK (id > 0))",
    "CREATE TABLE IF NOT EXISTS s.t (a timestamp with time zone DEFAULT now() NOT NULL, b double precision, c character varying(10)[], d jsonb)",
    "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c int AS a + 1, PRIMARY KEY (a, b))",
    "CREATE TABLE t (ts timestamptz, WATERMARK FOR ts AS ts - INTERVAL '5 seconds') APPEND ONLY",
    "CREATE TABLE t (a int) WITH (a.b = 'x', k = INTERVAL '1' DAY, f)",
    "CREATE TABLE t AS SELECT 1 AS a",
    "CREATE TABLE t (a, b) AS SELECT 1, 2 WITH NO DATA",
    "CREATE TABLE t ()",
    "CREATE TEMP TABLE t (a int)",
    "CREATE SOURCE s (a int) WITH (connector = 'file', path = '/tmp/x') FORMAT PLAIN ENCODE CSV (header = true, delimiter = ',')",
    "CREATE SOURCE s (ts timestamp, WATERMARK FOR ts) INCLUDE PARTITION AS p INCLUDE OFFSET WITH (connector = 'datagen')",
    "CREATE MATERIALIZED VIEW v AS SELECT a, count(*) FROM t GROUP BY a",
    "CREATE MATERIALIZED VIEW IF NOT EXISTS \"db\".\"s\".\"v\" (a, b) IN CLUSTER c WITH (freshness = '2 seconds') AS SELECT 1, 2 EMIT ON WINDOW CLOSE",
    "CREATE OR REPLACE VIEW v AS SELECT * FROM t",
    "CREATE INDEX ON t (a)",
    "CREATE UNIQUE INDEX IF NOT EXISTS i ON s.t USING btree (a DESC NULLS LAST, lower(b)) INCLUDE (c) WITH (x = 1)",
    "CREATE DEFAULT INDEX ON v",
    "CREATE SINK k FROM v WITH (connector = 'file', path = 'x') FORMAT PLAIN ENCODE JSON",
    "CREATE SINK k AS SELECT a FROM v EMIT CHANGES WITH (connector = 'blackhole')",
    "CREATE SCHEMA IF NOT EXISTS s",
    "DROP TABLE IF EXISTS a, s.b CASCADE",
    "DROP MATERIALIZED VIEW v",
    "DROP SOURCE s",
    "DROP SINK s",
    "DROP INDEX i RESTRICT",
    "DROP SCHEMA s CASCADE",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE t RENAME COLUMN a TO b",
    "ALTER TABLE t ADD COLUMN c int DEFAULT 0",
    "ALTER MATERIALIZED VIEW v RENAME TO w",
    "ALTER VIEW s.v SET SCHEMA x",
    "ALTER MATERIALIZED VIEW v SET (refresh_interval = '1s')",
    "COMMENT ON TABLE t IS 'it'",
    "COMMENT ON COLUMN s.t.a IS NULL",
    "TRUNCATE TABLE a, b",
    "COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER, NULL '')",
    "COPY t TO STDOUT CSV HEADER",
    "COPY (SELECT 1) TO '/tmp/x.parquet' WITH (FORMAT = 'parquet')",
    "COPY (SUBSCRIBE v WITH (PROGRESS)) TO STDOUT",
    "COPY t FROM STDIN BINARY",
    "BEGIN",
    "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
    "START TRANSACTION READ WRITE NOT DEFERRABLE",
    "COMMIT AND NO CHAIN",
    "END",
    "ABORT",
    "ROLLBACK WORK",
    "SAVEPOINT \"_pg3_1\"",
    "RELEASE SAVEPOINT a",
    "ROLLBACK TO a",
    "SET search_path TO a, b",
    "SET SESSION x.y = 'z'",
    "SET LOCAL statement_timeout = 500",
    "SET TIME ZONE 'UTC'",
    "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE",
    "SET NAMES 'utf8'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET extra_float_digits = DEFAULT",
    "SET x = -1.5",
    "SET x = on",
    "SHOW transaction isolation level",
    "SHOW ALL",
    "SHOW server_version",
    "SHOW TABLES FROM s LIKE 'a%'",
    "SHOW MATERIALIZED VIEWS",
    "SHOW INDEXES ON t",
    "SHOW COLUMNS FROM t",
    "SHOW CREATE MATERIALIZED VIEW v",
    "RESET ALL",
    "RESET TIME ZONE",
    "DISCARD ALL",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE VERBOSE SELECT 1",
    "EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE s(NULL, 1)",
    "EXPLAIN (TYPE logical) CREATE MATERIALIZED VIEW v AS SELECT 1",
    "EXPLAIN (ANALYZE, COSTS off) (SELECT 1)",
    "EXPLAIN OPTIMIZED PLAN AS JSON FOR SELECT 1",
    "EXPLAIN MATERIALIZED VIEW v",
    "EXPLAIN ANALYZE MATERIALIZED VIEW v",
    "DESCRIBE t",
    "SUBSCRIBE v",
    "SUBSCRIBE TO s.v WITH (SNAPSHOT = false, PROGRESS) AS OF 5 UP TO 10",
    "SUBSCRIBE (SELECT * FROM v) AS OF AT LEAST 1 ENVELOPE UPSERT (KEY (a, b))",
    "DECLARE c CURSOR FOR SELECT 1",
    "DECLARE c BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SUBSCRIBE v",
    "FETCH c",
    "FETCH ALL c",
    "FETCH 100 FROM c",
    "FETCH 10 c WITH (timeout = '1s')",
    "FETCH FORWARD ALL IN c",
    "FETCH next",
    "MOVE BACKWARD 5 FROM c",
    "CLOSE ALL",
    "CLOSE c",
    "PREPARE p (int, text) AS SELECT $1, $2",
    "EXECUTE p (1, 'a')",
    "DEALLOCATE PREPARE p",
    "DEALLOCATE ALL",
    "CHECK MATERIALIZED VIEW v",
    "FLUSH",
    "WAIT",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    "LISTEN c",
    "UNLISTEN *",
    "NOTIFY c, 'x'",
    "VACUUM (ANALYZE) t",
    "ANALYZE",
];

#[test]
fn the_promised_statements_are_read() {
    for text in ACCEPTED {
        if let Err(e) = parse(text) {
            panic!("{text}: {e:?}");
        }
    }
}

const REFUSED: &[&str] = &[
    "SELECT * FROM t FOR UPDATE",
    "SELECT * FROM t FOR SHARE NOWAIT",
    "SELECT * FROM (SELECT * FROM t FOR UPDATE) x",
    "SELECT * FROM t TABLESAMPLE BERNOULLI (10)",
    "SELECT * FROM t FOR SYSTEM_TIME AS OF 5",
    "SELECT * FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts ON a.x = b.x",
    "SELECT * FROM a JOIN b AS c FOR SYSTEM_TIME AS OF a.ts ON a.x = c.x",
    "SELECT * FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts AS c ON a.x = c.x",
    "SELECT * FROM t VERSION AS OF 7",
    "SELECT * FROM t UNION SELECT * FROM u ORDER BY a FETCH FIRST 5 ROWS WITH TIES",
    "SELECT * FROM a SEMI JOIN b ON a.x = b.x",
    "SELECT * FROM a ASOF JOIN b MATCH_CONDITION (a.t >= b.t) ON a.x = b.x",
    "SELECT * FROM t MATCH_RECOGNIZE (ORDER BY ts MEASURES a.x AS x PATTERN (a b+) DEFINE b AS b.x > 1)",
    "SELECT * FROM f(1) AS g(a int, b text)",
    "SELECT * INTO u FROM t",
    "SELECT b'101'",
    "SELECT x'ff'",
    "SELECT ceil(a TO day) FROM t",
    "WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d",
    "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
    "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
    "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2",
    "UPDATE t SET a = 1 FROM u WHERE t.x = u.x",
    "DELETE FROM t USING u WHERE t.x = u.x",
    "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
    "CREATE TABLE t (a int REFERENCES u (a))",
    "CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES u (a))",
    "CREATE TABLE t (a int GENERATED BY DEFAULT AS IDENTITY)",
    "CREATE TABLE t (a text COLLATE \"de_DE\")",
    "CREATE TABLE t (a int) PARTITION BY RANGE (a)",
    "CREATE TABLE t (a int) ON CONFLICT OVERWRITE",
    "CREATE TABLE t (LIKE u)",
    "CREATE TABLE t (a int, DEDUPLICATE BY (a) WITHIN INTERVAL '1 hour')",
    "CREATE SOURCE s FROM KAFKA CONNECTION k (TOPIC 't')",
    "CREATE SOURCE s (a int) WITH (password = SECRET p)",
    "CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT ON UPDATE WITH BATCH INTERVAL '1 s'",
    "CREATE CONNECTION c TO KAFKA (BROKER 'x')",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
    "CREATE ROLE r",
    "CREATE EXTENSION x",
    "CREATE DATABASE d",
    "CREATE SUBSCRIPTION s FROM v",
    "ALTER TABLE t ALTER COLUMN a TYPE text",
    "ALTER SYSTEM SET x = 1",
    "DROP FUNCTION f",
    "GRANT SELECT ON t TO u",
    "REVOKE ALL ON t FROM u",
    "LOCK TABLE t",
    "DO $$ BEGIN END $$",
    "CALL p()",
    "PREPARE TRANSACTION 'x'",
    "COMMIT PREPARED 'x'",
    "SUBSCRIBE TO SUBSCRIPTION s",
    "DECLARE c SUBSCRIPTION CURSOR FOR s FULL",
    "COPY t FROM PROGRAM 'x'",
    "COPY t FROM STDIN WHERE a > 1",
    "EXPLAIN TIMESTAMP FOR SELECT 1",
    "SHOW FRESHNESS",
];

#[test]
fn what_is_not_built_is_refused_as_not_supported() {
    let wrong: Vec<String> = REFUSED
        .iter()
        .filter_map(|text| match parse(text) {
            Ok(_) => Some(format!("accepted: {text}")),
            Err(e) if e.kind() != ErrorKind::FeatureNotSupported => Some(format!("{text}: {e:?}")),
            Err(_) => None,
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Text, the token the error names (none: end of input), its position.
const SYNTAX_ERRORS: &[(&str, Option<&str>, usize)] = &[
    ("SELEC 1", Some("SELEC"), 1),
    ("SELECT 1 FROM", None, 14),
    ("SELECT 1 FROM;", Some(";"), 14),
    ("SELECT * FRM t", Some("FRM"), 10),
    ("SELECT 1 1", Some("1"), 10),
    ("SELECT (1", None, 10),
    ("SELECT 1)", Some(")"), 9),
    ("SELECT 'ä', 'ö' 1", Some("1"), 17),
    ("SELECT 1; SELEC 2", Some("SELEC"), 11),
    ("SELECT 'ü';\nSELECT 'ü';\n  FOO", Some("FOO"), 27),
    ("CREATE TABLE t (a int,)", Some(")"), 23),
    ("CREATE TABLE t (a)", None, 19),
    ("CREATE TABEL t (a int)", Some("TABEL"), 8),
    ("CREATE VIEW v AS", None, 17),
    ("DROP TABLE", None, 11),
    ("INSERT INTO t VALUES (1", None, 24),
    ("SELECT 'a' 'b'", Some("'b'"), 12),
    ("SELECT ?", Some("?"), 8),
    ("SELECT 1 AS 'x'", Some("'x'"), 13),
    ("BEGIN SELECT 1", Some("SELECT"), 7),
    ("FLUSH x", Some("x"), 7),
    ("SUBSCRIBE v AS OF 1 x", Some("x"), 21),
    ("EXPLAIN FLUSH", Some("FLUSH"), 9),
    ("foo", Some("foo"), 1),
    ("1", Some("1"), 1),
];

#[test]
fn syntax_errors_are_worded_and_placed_as_in_postgresql() {
    let mut wrong = Vec::new();
    for (text, near, position) in SYNTAX_ERRORS {
        let error = failure(text);
        let expected = match near {
            Some(token) => format!("syntax error at or near \"{token}\""),
            None => "syntax error at end of input".to_string(),
        };
        if error.kind() != ErrorKind::Syntax
            || error.message() != expected
            || error.position() != Some(*position)
        {
            wrong.push(format!("{text}: {error:?} at {:?}", error.position()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unfinished_constants_and_comments_are_named() {
    for (text, message, position) in [
        ("SELECT 'abc", "unterminated quoted string at or near \"'abc\"", 8),
        ("SELECT 'ä', \"x", "unterminated quoted identifier at or near \"\"x\"", 13),
        ("SELECT $$x", "unterminated dollar-quoted string at or near \"$$x\"", 8),
        ("SELECT 1 /* x", "unterminated /* comment at or near \"/* x\"", 10),
        ("SELECT 5s", "trailing junk after numeric literal at or near \"5s\"", 8),
        ("SELECT \"\"", "zero-length delimited identifier at or near \"\"\"\"", 8),
    ] {
        let error = failure(text);
        assert_eq!((error.message(), error.position()), (message, Some(position)), "{text}");
    }
}

#[test]
fn statements_are_split_at_top_level_semicolons_only() {
    let text = "; SELECT ';' ;; -- a;b\n SELECT $a$;$a$, 'ä' /* ; /* ; */ */;\nSELECT \"x;y\" FROM t ;;";
    let statements = parse(text).unwrap();
    let texts: Vec<&str> = statements.iter().map(|s| s.text.as_str()).collect();
    assert_eq!(texts, ["SELECT ';'", "SELECT $a$;$a$, 'ä'", "SELECT \"x;y\" FROM t"]);
    for statement in &statements {
        let rest: String = text.chars().skip(statement.offset).collect();
        assert!(rest.starts_with(&statement.text));
    }
    assert!(parse("").unwrap().is_empty());
    assert!(parse(" ; -- nothing\n;").unwrap().is_empty());
}

#[test]
fn a_view_keeps_the_exact_text_of_its_query() {
    let text = "CREATE MATERIALIZED VIEW v AS\n  SELECT 'ü'  AS a, /* x */ B\nFROM t EMIT ON WINDOW CLOSE WITH NO DATA;";
    let Statement::CreateView(view) = one(text) else { panic!() };
    assert_eq!(view.query.text, "SELECT 'ü'  AS a, /* x */ B\nFROM t");
    assert_eq!(view.emit, Some(Emit::OnWindowClose));
    assert!(view.materialized && view.with_no_data);
}

#[test]
fn emit_is_no_alias_but_a_column_may_be_called_so() {
    let Statement::CreateView(view) = one("CREATE MATERIALIZED VIEW v AS SELECT a FROM t EMIT CHANGES")
    else {
        panic!()
    };
    assert_eq!(view.emit, Some(Emit::OnUpdate));
    query("SELECT emit FROM t AS emit");
    query("SELECT a emit FROM t emit");
}

#[test]
fn a_source_has_all_its_clauses() {
    let text = "CREATE SOURCE clicks (user_id BIGINT NOT NULL, \"Url\" TEXT, ts TIMESTAMPTZ, \
        WATERMARK FOR ts AS ts - INTERVAL '5 seconds' ALLOWED LATENESS INTERVAL '1 hour' \
        IDLE TIMEOUT INTERVAL '30 seconds' LATE ROWS TO clicks$late) \
        WITH (connector = 'kafka', properties.bootstrap.server = 'h:9', 'Quoted.Key' = 5, list = (a, 'b'), flag) \
        FORMAT PLAIN ENCODE JSON (x = INTERVAL '1' MINUTE)";
    let Statement::CreateSource(source) = one(text) else { panic!() };
    assert_eq!(source.columns.len(), 3);
    assert_eq!(source.columns[1].name, "Url");
    assert!(source.columns[0].not_null);
    let watermark = source.watermark.unwrap();
    assert_eq!(watermark.column, "ts");
    assert_eq!(watermark.expr.unwrap().text, "ts - INTERVAL '5 seconds'");
    assert!(watermark.lateness.is_some() && watermark.idle.is_some());
    assert_eq!(watermark.late_rows, Some(LateRowsClause::To(Name::bare("clicks$late"))));
    assert_eq!(source.options.get("properties.bootstrap.server"), Some(&OptionValue::String("h:9".into())));
    assert_eq!(source.options.get("quoted.key"), Some(&OptionValue::Number("5".into())));
    assert_eq!(source.options.get("flag"), Some(&OptionValue::Bool(true)));
    let list = vec![OptionValue::Ident("a".into()), OptionValue::String("b".into())];
    assert_eq!(source.options.get("list"), Some(&OptionValue::List(list)));
    let format = source.format.unwrap();
    assert_eq!((format.format.as_str(), format.encode.as_str()), ("plain", "json"));
    assert_eq!(format.options.get("x"), Some(&OptionValue::Interval("1 minute".into())));
}

#[test]
fn repeated_options_and_columns_are_errors() {
    assert_eq!(
        failure("CREATE SOURCE s WITH (a = 1, A = 2)").message(),
        "option \"a\" provided more than once"
    );
    assert_eq!(failure("CREATE TABLE t (a int, A text)").kind(), ErrorKind::DuplicateColumn);
}

#[test]
fn defaults_and_constraints_do_not_eat_each_other() {
    let text =
        "CREATE TABLE t (a int DEFAULT 1 + 2 NOT NULL PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> ''))";
    let Statement::CreateTable(table) = one(text) else { panic!() };
    assert_eq!(table.columns[0].default.as_ref().unwrap().text, "1 + 2");
    assert!(table.columns[0].not_null);
    assert!(matches!(&table.constraints[..],
        [Constraint::PrimaryKey { columns, .. }, Constraint::Check { expr, .. }]
        if columns == &["a"] && expr.text == "b <> ''"));
}

#[test]
fn both_spellings_of_a_window_function_give_the_same() {
    for text in [
        "SELECT * FROM TUMBLE(s.bid, ts, INTERVAL '10 minutes') AS w",
        "SELECT * FROM TABLE(TUMBLE(TABLE s.bid, DESCRIPTOR(ts), INTERVAL '10' MINUTES)) AS w",
        "SELECT * FROM tumble(DATA => TABLE s.bid, TIMECOL => DESCRIPTOR(ts), size => INTERVAL '10' MINUTE) w",
    ] {
        let query = query(text);
        let window = window_tvf(first_factor(&query)).unwrap().unwrap();
        assert_eq!(window.kind, WindowKind::Tumble);
        assert!(matches!(window.input, WindowInput::Relation([s, b]) if s.value == "s" && b.value == "bid"));
        assert_eq!(window.time_column[0].value, "ts");
        assert_eq!(window.intervals.len() + window.named.len(), 1, "{text}");
        assert_eq!(window.alias.unwrap().name.value, "w");
    }
    let query = query("SELECT * FROM HOP((SELECT * FROM bid WHERE x), ts, INTERVAL '1 m', INTERVAL '5 m')");
    let window = window_tvf(first_factor(&query)).unwrap().unwrap();
    assert!(matches!(window.input, WindowInput::Subquery(_)));
    assert_eq!(window.intervals.len(), 2);
}

#[test]
fn a_table_in_place_of_a_query_is_all_its_rows() {
    assert_eq!(query("TABLE s.\"T\"").to_string(), "SELECT * FROM s.\"T\"");
    assert_eq!(query("SELECT 1 UNION ALL TABLE t").to_string(), "SELECT 1 UNION ALL SELECT * FROM t");
}

#[test]
fn comments_that_look_like_hints_are_comments() {
    query("SELECT /*+ SeqScan(t) */ 1");
    one("INSERT /*+ x */ INTO t VALUES (1)");
}

#[test]
fn settings_are_read_in_all_their_forms() {
    let set = |text: &str| match one(text) {
        Statement::Set(set) => set,
        other => panic!("{other:?}"),
    };
    let values = |v: &[&str]| SetValue::Values(v.iter().map(|s| s.to_string()).collect());
    assert_eq!(set("SET search_path = a, \"B\"").value, values(&["a", "B"]));
    assert_eq!(set("SET TIME ZONE LOCAL").value, SetValue::Default);
    assert_eq!(set("SET timezone TO 'UTC'").name, "timezone");
    assert_eq!(set("SET RW_IMPLICIT_FLUSH TO true").name, "rw_implicit_flush");
    assert_eq!(set("SET SESSION AUTHORIZATION DEFAULT").name, "session_authorization");
    assert_eq!(set("SET role = 'x'").name, "role");
    assert!(set("SET LOCAL a.b = 1").local);
    assert!(matches!(one("SHOW TIME ZONE"), Statement::Show(name) if name == "timezone"));
}

#[test]
fn fetch_directions_are_read() {
    let fetch = |text: &str| match one(text) {
        Statement::Fetch(fetch) => (fetch.direction, fetch.cursor),
        other => panic!("{other:?}"),
    };
    assert_eq!(fetch("FETCH c"), (FetchDirection::Forward(1), "c".into()));
    assert_eq!(fetch("FETCH ALL FROM c"), (FetchDirection::ForwardAll, "c".into()));
    assert_eq!(fetch("FETCH BACKWARD 3 c"), (FetchDirection::Forward(-3), "c".into()));
    assert_eq!(fetch("FETCH next"), (FetchDirection::Forward(1), "next".into()));
    assert_eq!(fetch("FETCH LAST IN c"), (FetchDirection::Absolute(-1), "c".into()));
}

/// First words of real clients: psql, pgjdbc, asyncpg, Npgsql, dbt, SQLAlchemy.
const CLIENT_QUERIES: &[&str] = &[
    "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' END as \"Type\", \
     pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" FROM pg_catalog.pg_class c \
     LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
     WHERE c.relkind IN ('r','p','') AND n.nspname !~ '^pg_toast' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;",
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
     (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d \
      WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, \
     (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t \
      WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation, \
     a.attidentity, a.attgenerated FROM pg_catalog.pg_attribute a \
     WHERE a.attrelid = '16384' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;",
    "SELECT c.relchecks, c.relkind, '' , CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, \
     pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ') \
     FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) WHERE c.oid = '16384'",
    "SELECT t.oid, t.typname FROM pg_type t WHERE t.typname = 'lo' AND t.typtype::\"char\" = 'b'::\"char\"",
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE t.typtype END \
     FROM (SELECT typ.oid, typ.typname FROM pg_type AS typ) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) \
     LEFT OUTER JOIN (pg_range AS r JOIN pg_proc p ON p.oid = r.rngsubtype) ON r.rngtypid = t.oid",
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
    "SET DateStyle = 'ISO';SET extra_float_digits = 2;show transaction_isolation",
    "select current_schema(), pg_catalog.version(), current_setting('server_version_num')::int / 100",
    "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM FROM pg_catalog.pg_namespace n WHERE n.nspname LIKE E'a\\\\_b' ESCAPE '\\'",
    "create materialized view if not exists \"db\".\"s\".\"x\" as (select 1 as id)",
    "alter table \"db\".\"s\".\"x__dbt_tmp\" rename to \"x\"",
    "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = $1::VARCHAR AND relkind = ANY (ARRAY['r', 'p']))",
    "SELECT i.indexrelid, (i.indkey::int2[])[0], i.indkey[0:2] FROM pg_index i",
    "SELECT set_config('bytea_output', 'hex', false) FROM pg_show_all_settings() WHERE name = 'bytea_output'",
    "SELECT a.x, b.y FROM a FULL OUTER JOIN b ON (a.x, a.y) = (b.x, b.y) WHERE (a.x, 1) IN (SELECT 1, 2) AND a.z IS TRUE",
    "SELECT date_trunc('hour', ts) AS hour, avg(x)::numeric(10,2) FROM t WHERE ts > now() - interval '1 day' GROUP BY 1",
];

#[test]
fn the_first_words_of_real_clients_are_read() {
    for text in CLIENT_QUERIES {
        if let Err(e) = parse(text) {
            panic!("{text}: {e:?} at {:?}", e.position());
        }
    }
}

#[test]
fn a_deep_tree_can_be_cloned_printed_and_dropped_on_a_small_thread() {
    let text = format!("SELECT 1{} WHERE {}1 = 1{}", " + 1".repeat(150), "f(".repeat(80), ")".repeat(80));
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let statements = parse(&text).unwrap();
        let copy = statements[0].clone();
        drop(statements);
        let Statement::Query(query) = &copy.statement else { panic!() };
        query.to_string().len()
    });
    assert!(worker.expect("a thread for the test").join().unwrap() > 300);
}

/// Parses (and drops) on a thread as small as any of the server's; it must answer, and soon.
fn answers_quickly(text: String) -> Result<()> {
    let began = Instant::now();
    let shown: String = text.chars().take(60).collect();
    let worker = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || parse(&text).map(drop))
        .expect("a thread for the test");
    let outcome = worker.join().expect("parsing does not panic");
    assert!(began.elapsed() < Duration::from_secs(1), "{shown}: {:?}", began.elapsed());
    outcome
}

#[test]
fn deep_calls_are_answered_or_refused_within_a_second() {
    let shapes = [
        ("POSITION(", " IN 'x')"),
        ("CAST(", " AS int)"),
        ("CEIL(", ")"),
        ("SUBSTRING(", " FROM 1)"),
        ("NOT (", ")"),
        ("f(", ")"),
        ("ARRAY[", "]"),
        ("STRUCT(", ")"),
        ("(", ")"),
        ("(SELECT ", ")"),
        ("CASE WHEN ", " THEN 1 END"),
        ("EXTRACT(year FROM ", ")"),
        ("TRIM(", ")"),
        ("COALESCE(a,", ")"),
        ("x IN (", ")"),
        ("EXISTS (SELECT ", ")"),
        ("OVERLAY(", " PLACING 'a' FROM 1)"),
        ("FLOOR(", ")"),
        ("INTERVAL (", ")"),
        ("- (", ")"),
        ("a[", "]"),
        ("f(a => ", ")"),
        ("left(", ",1)"),
        ("ROW(", ")"),
        ("CONVERT(", ")"),
        ("INTERVAL CAST(", " AS int)"),
        ("NOT CEIL(", ")"),
        ("MAP {", "}"),
        ("f(x ORDER BY ", ")"),
    ];
    for (open, close) in shapes {
        for n in [12, 24, 60, 99, 5_000] {
            let (opened, closed) = (open.repeat(n), close.repeat(n));
            for text in [
                format!("SELECT {opened}1{closed}"),
                format!("SELECT {opened}"),
                format!("SELECT {opened}1 1{closed}"),
                format!("SELECT * FROM {opened}a{closed}"),
                format!("SELECT * FROM {opened}a"),
                format!("CREATE TABLE t (a int DEFAULT {opened}1 1{closed})"),
            ] {
                let _ = answers_quickly(text);
            }
        }
    }
    // Ordinary nesting is no shape to refuse.
    for (open, close) in &shapes[..7] {
        let text = format!("SELECT {}1{}", open.repeat(40), close.repeat(40));
        if !open.starts_with("STRUCT") {
            answers_quickly(text).unwrap_or_else(|e| panic!("{open}: {e:?}"));
        }
    }
}

#[test]
fn repeated_words_and_operators_are_answered_or_refused_within_a_second() {
    for piece in [
        "INTERVAL ",
        "NOT ",
        "- ",
        "+ ",
        "~ ",
        "DATE ",
        "ARRAY ",
        "EXISTS ",
        "CASE ",
        "@ ",
        "|/ ",
        "!! ",
        "ARRAY<",
        "STRUCT<",
        "PRIOR ",
        "x.",
        "1 + ",
        "a AND ",
        "a COLLATE ",
        "x IS NULL ",
        "1 :: ",
        "a IS DISTINCT FROM ",
        "NULL ",
        "a[1]",
        "a BETWEEN 1 AND ",
        "a AT TIME ZONE ",
        "SELECT ",
        "WITH a AS ",
        "a IN ",
        "a LIKE ",
        "'a' ",
        "a = ANY ",
        "OPERATOR(a.+) ",
        "1 UNION SELECT ",
        "a::int",
        "()",
        "x!",
        "{",
        "f(a, ",
    ] {
        for n in [60, 900, 20_000] {
            let _ = answers_quickly(format!("SELECT {}1", piece.repeat(n)));
        }
    }
    for n in [900, 20_000] {
        let _ = answers_quickly(format!("SELECT a::int{}", "[]".repeat(n)));
        let _ = answers_quickly(format!("CREATE TABLE t (a {}int)", "ARRAY<".repeat(n)));
        let _ = answers_quickly(format!("CREATE TABLE t (a {}int)", "STRUCT<a ".repeat(n)));
        let _ = answers_quickly("EXPLAIN ".repeat(n));
        let _ = answers_quickly("PREPARE a AS ".repeat(n));
        let _ = answers_quickly(format!("SELECT * FROM a{}", " JOIN b".repeat(n)));
        let _ = answers_quickly(format!("SELECT * FROM a{}", " LEFT JOIN b ON x".repeat(n)));
    }
}

#[test]
fn chains_pass_up_to_the_limit_and_are_refused_above() {
    for link in [" + 1", " AND a", " || 'a'", " UNION SELECT 1"] {
        answers_quickly(format!("SELECT 1{}", link.repeat(guard::MAX_DEPTH - 2))).unwrap();
        let error = answers_quickly(format!("SELECT 1{}", link.repeat(50_000))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StatementTooComplex, "{link}");
    }
    answers_quickly(format!("SELECT 1{}", ", 1".repeat(10_000))).unwrap();
    answers_quickly(format!("SELECT a IN (1{})", ", 1".repeat(10_000))).unwrap();
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let error = failure(&format!("SELECT '{}'", "x".repeat(guard::MAX_TEXT)));
    assert_eq!(error.kind(), ErrorKind::ProgramLimit);
}

#[test]
fn stored_expressions_are_read_back() {
    assert_eq!(parse_expression("a + 1").unwrap().to_string(), "a + 1");
    assert!(parse_expression("a +").is_err());
    assert!(parse_expression("1 1").is_err());
}

#[test]
fn no_prefix_of_a_statement_panics() {
    for text in ACCEPTED.iter().chain(REFUSED) {
        for (end, _) in text.char_indices() {
            let _ = parse(&text[..end]);
        }
    }
}

#[test]
fn long_lists_take_time_in_proportion() {
    let n = 20_000;
    for text in [
        format!("SELECT a IN (1{})", ", 1".repeat(n)),
        format!("SELECT f(1{})", ", 1".repeat(n)),
        format!("SELECT ARRAY[1{}]", ", 1".repeat(n)),
        format!("SELECT 1{}", ", a.b AS c".repeat(n)),
        format!("SELECT CASE{} END", " WHEN a THEN b".repeat(n)),
        format!("INSERT INTO t VALUES (1){}", ", (1)".repeat(n)),
        "SELECT 1;".repeat(n / 4),
        format!("WITH a AS (SELECT 1){} SELECT 1", ", a AS (SELECT 1)".repeat(n / 8)),
        format!("SELECT 1 ORDER BY 1{}", ", 1".repeat(n)),
        format!("DROP TABLE a{}", ", a".repeat(n)),
        format!("SELECT {}", "'a'\n".repeat(n)),
    ] {
        answers_quickly(text.clone()).unwrap_or_else(|e| panic!("{}: {e:?}", &text[..40]));
    }
    for text in [
        format!("CREATE TABLE t (a int{})", ", a int".repeat(n)),
        format!("CREATE SOURCE s WITH (a = 1{})", (0..n).map(|i| format!(", k{i} = 1")).collect::<String>()),
        format!("SELECT a{}", ".a".repeat(n)),
    ] {
        assert!(answers_quickly(text).is_err());
    }
}
