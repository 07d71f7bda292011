//! Tests of the binder: types, values, errors and names as PostgreSQL has them.
//!
//! Boundary: binding, and running what was bound with DataFusion; no server.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::prelude::SessionContext;
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::*;
use crate::catalog::{Column, Object, ObjectBody};
use crate::types::oid;

const NOW: EventTime = EventTime(1_600_000_000_000_000);

fn object(catalog: &mut Catalog, name: &str, columns: Vec<Column>, body: ObjectBody) -> ObjectId {
    let id = catalog.allocate_id();
    let object = Object {
        id,
        schema: "public".into(),
        name: name.into(),
        columns,
        body,
        depends_on: vec![],
        ddl: String::new(),
        search_path: Vec::new(),
        comment: None,
        seen: Vec::new(),
    };
    catalog.insert(object).unwrap();
    id
}

fn catalog() -> Catalog {
    let mut c = Catalog::new();
    let table = || ObjectBody::Table {
        primary_key: vec![0],
        append_only: false,
        watermark: None,
        checks: vec![],
        options: Default::default(),
    };
    let mut qty = Column::new("qty", PgType::INT4);
    qty.default = Some("1 + 1".into());
    let mut total = Column::new("total", PgType::numeric(12, 2));
    total.generated = Some("price * qty".into());
    object(
        &mut c,
        "t",
        vec![
            Column::new("id", PgType::INT4),
            Column::new("big", PgType::INT8),
            Column::new("price", PgType::numeric(10, 2)),
            Column::new("name", PgType { oid: oid::VARCHAR, typmod: 9 }),
            Column::new("d", PgType::DATE),
            Column::new("ts", PgType::TIMESTAMP),
            Column::new("f", PgType::FLOAT8),
            Column::new("b", PgType::BOOL),
        ],
        table(),
    );
    object(
        &mut c,
        "items",
        vec![Column::new("id", PgType::INT8), qty, Column::new("price", PgType::numeric(10, 2)), total],
        table(),
    );
    object(&mut c, "s", vec![Column::new("id", PgType::INT4), Column::new("x", PgType::TEXT)], table());
    object(
        &mut c,
        "v",
        vec![Column::new("id", PgType::INT4), Column::new("twice", PgType::INT8)],
        ObjectBody::View { query: "SELECT id, big * 2 FROM t".into() },
    );
    c
}

fn statement(sql: &str) -> Statement {
    Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0)
}

fn context() -> BindContext<'static> {
    BindContext::new(catalog(), NOW, &NoSystemTables)
}

fn try_bind_in(sql: &str, mut context: BindContext) -> Result<BoundQuery> {
    context.text = Some(sql.to_string());
    let Statement::Query(q) = statement(sql) else { panic!("not a query") };
    bind_query(&q, &context)
}

fn try_bind(sql: &str) -> Result<BoundQuery> {
    try_bind_in(sql, context())
}

fn bind(sql: &str) -> BoundQuery {
    try_bind(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"))
}

fn error(sql: &str) -> (String, String) {
    let e = match try_bind(sql) {
        Err(e) => e,
        Ok(q) => match run(q.plan) {
            Err(e) => e,
            Ok(_) => panic!("{sql}: no error"),
        },
    };
    (e.kind().sqlstate().to_string(), e.message().to_string())
}

fn types(sql: &str) -> Vec<String> {
    bind(sql).columns.iter().map(|c| c.pg_type.sql_name()).collect()
}

fn run(plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let session = SessionContext::new();
    runtime.block_on(async {
        let plan = session.state().optimize(&plan)?;
        let physical = session.state().query_planner().create_physical_plan(&plan, &session.state()).await?;
        Ok(datafusion::physical_plan::collect(physical, session.task_ctx()).await?)
    })
}

/// The values of the first row, as Arrow prints them.
fn row(sql: &str) -> String {
    values(bind(sql).plan, sql)
}

fn values(plan: LogicalPlan, sql: &str) -> String {
    let batches = run(plan).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let batch = batches.iter().find(|b| b.num_rows() > 0).unwrap_or_else(|| panic!("{sql}: no rows"));
    let options = FormatOptions::default().with_null("NULL");
    batch
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap().value(0).to_string())
        .collect::<Vec<_>>()
        .join("|")
}

#[test]
fn result_types_are_postgresqls() {
    for (sql, expected) in [
        ("SELECT 1, 3000000000, 1.5, 'a', NULL, true", "integer bigint numeric text text boolean"),
        (
            "SELECT count(*), sum(id), sum(big), sum(price), avg(id), avg(f), min(name) FROM t",
            "bigint bigint numeric numeric numeric double precision text",
        ),
        (
            "SELECT id + 1, id + big, id / 2, price * 2, id * 1.5, f * 2, id + f FROM t",
            "integer bigint integer numeric numeric double precision double precision",
        ),
        (
            "SELECT d - d, d + 1, ts - ts, ts + interval '1 day', d + interval '1 h' FROM t",
            "integer date interval timestamp without time zone timestamp without time zone",
        ),
        ("SELECT name, price FROM t", "character varying(5) numeric(10,2)"),
        ("SELECT CASE WHEN b THEN 1 ELSE 1.5 END, coalesce(id, big) FROM t", "numeric bigint"),
        (
            "SELECT length(name), upper(name), substr(name, 2), round(price, 1), extract(year from d), now() FROM t",
            "integer text text numeric numeric timestamp with time zone",
        ),
        (
            "SELECT row_number() OVER (ORDER BY id), rank() OVER (ORDER BY id), avg(price) OVER (PARTITION BY id) FROM t",
            "bigint bigint numeric",
        ),
        ("SELECT 1 UNION ALL SELECT 2.5", "numeric"),
        ("SELECT 'x' UNION SELECT name::text FROM t", "text"),
        ("VALUES (1, 'a'), (2.5, NULL)", "numeric text"),
    ] {
        assert_eq!(types(sql).join(" "), expected, "{sql}");
    }
}

#[test]
fn values_are_postgresqls() {
    for (sql, expected) in [
        ("SELECT 7 / 2, -7 / 2, 7 % 3, -7 % 3", "3|-3|1|-1"),
        ("SELECT 0.1 + 0.2, 1.10 * 2, 1e3, 10 - 2.50", "0.3|2.20|1000|7.50"),
        ("SELECT 5.0 / 2, 1 / 3.0", "2.50000000000000000000|0.33333333333333333333"),
        ("SELECT 'a' || 1 || true", "a1true"),
        ("SELECT 2.5::int, 3.5::float8::int, 2.5::float8::int, '12'::int, ' 7 '::int8", "3|4|2|12|7"),
        ("SELECT DATE '2020-03-01' - DATE '2020-02-01', DATE '2020-01-31' + 1", "29|2020-02-01"),
        ("SELECT TIMESTAMP '2020-01-01 00:00:00' + INTERVAL '90 minutes'", "2020-01-01T01:30:00"),
        (
            "SELECT round(2.345, 2), round(-2.5), trunc(2.789, 1), ceil(1.2), floor(-1.2), abs(-3), round(2.5::float8)",
            "2.35|-3|2.7|2|-2|3|2.0",
        ),
        (
            "SELECT extract(year from DATE '2020-05-06'), extract(dow from TIMESTAMP '2020-05-06'), date_part('month', DATE '2020-05-06')",
            "2020|3|5.0",
        ),
        (
            "SELECT lower('ABC'), length('äb'), substring('hello' from 2 for 3), position('l' in 'hello'), trim('  x '), left('abc', 2), lpad('x', 3, 'ab'), split_part('a,b', ',', 2)",
            "abc|2|ell|3|x|ab|abx|b",
        ),
        (
            "SELECT CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END, coalesce(NULL, 3), nullif(1, 1), greatest(1, 2.5)",
            "b|3|NULL|2.5",
        ),
        ("SELECT true::text, 1.50::text, (1::float8 / 3)::text", "true|1.50|0.3333333333333333"),
        (
            "SELECT 3 BETWEEN 1 AND 5, 2 IN (1, 2), 'abc' LIKE 'a%', NOT true, 1 = ANY(ARRAY[1, 2])",
            "true|true|true|false|true",
        ),
        ("SELECT date_trunc('hour', TIMESTAMP '2020-01-01 10:20:30')", "2020-01-01T10:00:00"),
        ("SELECT to_char(TIMESTAMP '2020-01-02 03:04:05', 'YYYY-MM-DD HH24:MI:SS')", "2020-01-02 03:04:05"),
        ("SELECT now()", "2020-09-13T12:26:40Z"),
        ("SELECT avg(x), sum(x), count(*) FROM (VALUES (1), (2), (2)) AS q(x)", "1.66666666666666670000|5|3"),
        ("SELECT x.a FROM (SELECT 1 AS a, 2 AS b) x WHERE x.b = 2", "1"),
        ("WITH c AS (SELECT 1 AS a) SELECT a + 1 FROM c", "2"),
        ("SELECT (SELECT max(x) FROM (VALUES (1), (5)) AS q(x))", "5"),
        ("SELECT sum(g) FROM generate_series(1, 10) g", "55"),
        ("SELECT 'abc'::varchar(2), 1::bool, 9999999999::text", "ab|true|9999999999"),
        ("SELECT interval '1 day' * 2", "2 days"),
        ("SELECT -(2), - 2.5", "-2|-2.5"),
        ("SELECT '2013-01-01' < DATE '2014-01-01'", "true"),
    ] {
        assert_eq!(row(sql), expected, "{sql}");
    }
}

#[test]
fn errors_are_postgresqls() {
    for (sql, code, message) in [
        ("SELECT * FROM nosuch", "42P01", "relation \"nosuch\" does not exist"),
        ("SELECT nosuch FROM t", "42703", "column \"nosuch\" does not exist"),
        ("SELECT t.nosuch FROM t", "42703", "column t.nosuch does not exist"),
        ("SELECT z.id FROM t", "42P01", "missing FROM-clause entry for table \"z\""),
        ("SELECT id FROM t, s", "42702", "column reference \"id\" is ambiguous"),
        ("SELECT foo(1, 'a')", "42883", "function foo(integer, unknown) does not exist"),
        ("SELECT lower(1)", "42883", "function lower(integer) does not exist"),
        ("SELECT 1 + true", "42883", "operator does not exist: integer + boolean"),
        (
            "SELECT * FROM t WHERE id = name",
            "42883",
            "operator does not exist: integer = character varying(5)",
        ),
        (
            "SELECT name, count(*) FROM t",
            "42803",
            "column \"t.name\" must appear in the GROUP BY clause or be used in an aggregate function",
        ),
        ("SELECT 'x'::int", "22P02", "invalid input syntax for type integer: \"x\""),
        ("SELECT 1 / 0", "22012", "division by zero"),
        ("SELECT 1.0 / 0", "22012", "division by zero"),
        ("SELECT 2147483647 + 1", "22003", "integer out of range"),
        ("SELECT 3000000000::int", "22003", "integer out of range"),
        ("SELECT 1e200::float8 * 1e200::float8", "22003", "value out of range: overflow"),
        ("SELECT 12345::numeric(4,1)", "22003", "numeric field overflow"),
        ("SELECT * FROM t WHERE id", "42804", "argument of WHERE must be type boolean, not type integer"),
        (
            "SELECT CASE WHEN true THEN 1 ELSE true END",
            "42804",
            "CASE types integer and boolean cannot be matched",
        ),
        ("SELECT true::date", "42846", "cannot cast type boolean to date"),
        ("SELECT repeat('x', 100000000)", "54000", "requested length too large"),
        ("SELECT 1::nosuch", "42704", "type \"nosuch\" does not exist"),
    ] {
        assert_eq!(error(sql), (code.to_string(), message.to_string()), "{sql}");
    }
}

#[test]
fn a_missing_column_has_its_position_and_a_hint() {
    let e = try_bind("SELECT prise FROM t").unwrap_err();
    assert_eq!(e.position(), Some(8));
    assert_eq!(e.hint(), Some("Perhaps you meant to reference the column \"t.price\"."));
}

#[test]
fn output_names_may_repeat_and_columns_know_their_table() {
    let q = bind("SELECT id, id, count(*) OVER (), big + 1, t.* FROM t");
    let names: Vec<&str> = q.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names[..4], ["id", "id", "count", "?column?"]);
    assert_eq!(names[4..6], ["id", "big"]);
    assert_eq!((q.columns[1].table_oid, q.columns[1].attnum), (q.depends_on[0].0, 1));
    assert_eq!((q.columns[5].attnum, q.columns[3].attnum), (2, 0));
}

#[test]
fn views_are_expanded_and_depended_on() {
    let q = bind("SELECT v.twice FROM v WHERE id = 3");
    assert_eq!(q.depends_on.len(), 2);
    assert_eq!(q.columns[0].pg_type, PgType::INT8);
    bind("SELECT * FROM public.v, freshet.public.s WHERE v.id = s.id");
}

#[test]
fn parameters_take_their_type_from_the_first_use() {
    let of = |sql: &str| bind(sql).param_types;
    assert_eq!(of("SELECT $1"), [PgType::TEXT]);
    assert_eq!(of("SELECT * FROM t WHERE id = $1 AND $2 < ts"), [PgType::INT4, PgType::TIMESTAMP]);
    assert_eq!(of("SELECT * FROM t WHERE big BETWEEN $1 AND $2"), [PgType::INT8, PgType::INT8]);
    assert_eq!(of("SELECT * FROM t WHERE id IN ($1, $2)"), [PgType::INT4, PgType::INT4]);
    assert_eq!(of("SELECT * FROM t WHERE id = ANY($1)"), [PgType::of(1007)]);
    assert_eq!(
        of("SELECT * FROM t WHERE name LIKE $1 LIMIT $2 OFFSET $3"),
        [PgType::TEXT, PgType::INT8, PgType::INT8]
    );
    assert_eq!(
        of("SELECT coalesce($1, id), $2::date, lower($3), $4 + 1 FROM t"),
        [PgType::INT4, PgType::DATE, PgType::TEXT, PgType::INT4]
    );
    assert_eq!(of("SELECT CASE WHEN $1 THEN 1 ELSE $2 END"), [PgType::BOOL, PgType::INT4]);
    let mut given = context();
    given.param_types = vec![Some(PgType::INT2)];
    assert_eq!(try_bind_in("SELECT * FROM t WHERE id = $1", given).unwrap().param_types, [PgType::INT2]);
    assert_eq!(try_bind("SELECT $2::int").unwrap_err().kind(), ErrorKind::IndeterminateDatatype);
    let q = bind("SELECT $1::int + 1");
    assert_eq!(values(q.with_params(&[ScalarValue::Int32(Some(4))]).unwrap(), "params"), "5");
}

#[test]
fn tumble_adds_window_columns_and_keeps_the_name() {
    let q = bind("SELECT t.id, window_start, window_end FROM TUMBLE(t, ts, INTERVAL '10 s') WHERE t.big > 1");
    assert_eq!(q.columns[1].pg_type, PgType::TIMESTAMP);
    let q = bind(
        "SELECT w.window_end, count(*) FROM HOP(t, ts, INTERVAL '5 s', INTERVAL '10 s') AS w GROUP BY w.window_end",
    );
    assert_eq!(q.columns[0].name, "window_end");
    assert_eq!(
        try_bind("SELECT * FROM SESSION(t, ts, INTERVAL '1 s')").unwrap_err().kind(),
        ErrorKind::FeatureNotSupported
    );
}

#[test]
fn views_keep_now_and_refuse_volatile_functions() {
    let mut c = context();
    c.in_view = true;
    let q = try_bind_in("SELECT id FROM t WHERE ts > now() - INTERVAL '1 hour'", c.clone()).unwrap();
    assert!(q.dependent_on_now);
    let plan = optimize::optimize_for_view(q.plan).unwrap();
    assert!(plan.display_indent().to_string().contains("now()"), "{}", plan.display_indent());
    assert_eq!(try_bind_in("SELECT random() FROM t", c).unwrap_err().kind(), ErrorKind::FeatureNotSupported);
}

#[test]
fn view_plans_have_joins_instead_of_cross_products() {
    let q = bind("SELECT t.id, s.x FROM t, s WHERE t.id = s.id AND t.big > 5 AND s.x = 'a'");
    let plan = optimize::optimize_for_view(q.plan).unwrap().display_indent().to_string();
    assert!(plan.contains("Inner Join: t.id = s.id"), "{plan}");
    assert!(plan.contains("TableScan: s"), "{plan}");
    let q = bind("SELECT id, avg(price), avg(f), count(*) FROM t GROUP BY id HAVING count(*) > 1");
    let plan = optimize::optimize_for_view(q.plan).unwrap().display_indent().to_string();
    assert!(plan.contains("sum(") && !plan.contains("avg(t.price)]"), "{plan}");
}

fn dml(sql: &str) -> Result<dml::BoundDml> {
    dml::bind_dml(&crate::sql::parse(sql).unwrap().remove(0).statement, &context())
}

#[test]
fn insert_completes_rows_with_defaults_and_generated_columns() {
    let b = dml("INSERT INTO items (id, price) VALUES (1, 2.5), ($1, '3')").unwrap();
    assert_eq!(b.param_types, [PgType::INT8]);
    let plan = b.with_params(&[ScalarValue::Int64(Some(7))]).unwrap().source;
    assert_eq!(values(plan, "insert"), "1|2|2.50|5.00");
    let b = dml("INSERT INTO items SELECT 5, 6, 7.125 RETURNING id, total AS x").unwrap();
    assert_eq!(b.returning.as_ref().unwrap().columns[1].name, "x");
    assert_eq!(values(b.source, "insert"), "5|6|7.13|42.78");
    let b = dml("INSERT INTO items (id, qty) VALUES (1, DEFAULT)").unwrap();
    assert_eq!(values(b.source, "insert"), "1|2|NULL|NULL");
}

#[test]
fn insert_errors_are_postgresqls() {
    let e = dml("INSERT INTO t (id, nope) VALUES (1, 2)").unwrap_err();
    assert_eq!(e.message(), "column \"nope\" of relation \"t\" does not exist");
    let e = dml("INSERT INTO t (id) VALUES (true)").unwrap_err();
    assert_eq!(e.message(), "column \"id\" is of type integer but expression is of type boolean");
    assert_eq!(dml("INSERT INTO t (id) VALUES (1, 2)").unwrap_err().kind(), ErrorKind::Syntax);
    let b = dml("INSERT INTO t (id, name) VALUES (1, 'abcdefgh')");
    let e = match b {
        Err(e) => e,
        Ok(b) => run(b.source).unwrap_err(),
    };
    assert_eq!(
        (e.kind(), e.message()),
        (ErrorKind::StringTooLong, "value too long for type character varying(5)")
    );
}

#[test]
fn update_gives_old_and_new_rows() {
    let b = dml("UPDATE items SET qty = qty + $1 WHERE id = $2 RETURNING *").unwrap();
    assert_eq!(b.source.schema().fields().len(), 8);
    assert_eq!(b.param_types, [PgType::INT4, PgType::INT8]);
    assert_eq!(b.returning.unwrap().columns.len(), 4);
    let b = dml("DELETE FROM t WHERE name = 'x' AND d = '2013-01-01'").unwrap();
    assert_eq!((b.kind, b.source.schema().fields().len()), (dml::DmlKind::Delete, 8));
    assert_eq!(dml("UPDATE items SET total = 1").unwrap_err().kind(), ErrorKind::GeneratedAlways);
}

#[test]
fn watermarks_are_a_column_less_an_interval() {
    let delay = |sql: &str| scalar::bind_watermark(&scalar::parse_expr(sql).unwrap(), "ts");
    assert_eq!(delay("ts").unwrap(), 0);
    assert_eq!(delay("ts - INTERVAL '5 seconds'").unwrap(), 5_000_000);
    assert_eq!(delay("ts - INTERVAL '1' MINUTE").unwrap(), 60_000_000);
    assert_eq!(delay("other - INTERVAL '5 s'").unwrap_err().kind(), ErrorKind::FeatureNotSupported);
}

#[test]
fn deep_expressions_do_not_overflow_the_stack() {
    let sql = format!("SELECT {}", vec!["1"; 100].join(" + "));
    with_stack(|| assert_eq!(types(&sql), ["integer"]));
}

#[test]
fn equality_on_a_key_is_a_point_lookup() {
    use crate::sql::point::{KeyValue, point_lookup};
    let c = context();
    let lookup = |sql: &str| point_lookup(&bind(sql), &c.catalog);
    let p = lookup("SELECT name, id FROM t WHERE id = $1").unwrap();
    assert_eq!((p.columns, p.keys, p.projection), (vec![0], vec![vec![KeyValue::Param(0)]], vec![3, 0]));
    assert_eq!(lookup("SELECT * FROM t WHERE id IN (1, 2, 2)").unwrap().keys.len(), 2);
    assert!(lookup("SELECT * FROM t WHERE big = 1").is_none());
    assert!(lookup("SELECT id + 1 FROM t WHERE id = 1").is_none());
    assert!(lookup("SELECT id FROM t WHERE id > 1").is_none());
}

#[test]
fn what_postgresql_refuses_is_refused_in_its_words() {
    for (sql, code, message) in [
        ("SELECT sum(name) FROM t", "42883", "function sum(character varying(5)) does not exist"),
        ("SELECT max(id, 1) FROM t", "42883", "function max(integer, integer) does not exist"),
        ("SELECT 1 FROM t WHERE count(*) > 1", "42803", "aggregate functions are not allowed in WHERE"),
        (
            "SELECT 1 FROM t WHERE row_number() OVER () = 1",
            "42P20",
            "window functions are not allowed in WHERE",
        ),
        (
            "SELECT id FROM t HAVING big > 1",
            "42803",
            "column \"t.id\" must appear in the GROUP BY clause or be used in an aggregate function",
        ),
        ("SELECT 1 FROM t WHERE nosuch(id)", "42883", "function nosuch(integer) does not exist"),
        ("SELECT id FROM t LIMIT -1", "2201W", "LIMIT must not be negative"),
        ("SELECT id FROM t ORDER BY 3", "42P10", "ORDER BY position 3 is not in select list"),
        ("SELECT id FROM t GROUP BY 3", "42P10", "GROUP BY position 3 is not in select list"),
        (
            "SELECT DISTINCT big FROM t ORDER BY id",
            "42P10",
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
        ),
        (
            "WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a",
            "42712",
            "WITH query name \"a\" specified more than once",
        ),
        (
            "WITH a (x, y) AS (SELECT 1) SELECT * FROM a",
            "42P10",
            "WITH query \"a\" has 1 columns available but 2 columns specified",
        ),
        ("SELECT sqrt(-1)", "2201F", "cannot take square root of a negative number"),
        ("SELECT ln(0)", "2201E", "cannot take logarithm of zero"),
        ("VALUES (1, 2), (3)", "42601", "VALUES lists must all be the same length"),
        ("VALUES (1), ('x')", "22P02", "invalid input syntax for type integer: \"x\""),
        ("VALUES (1), (true)", "42804", "VALUES types integer and boolean cannot be matched"),
        ("SELECT ~1.5", "42883", "operator does not exist: ~ numeric"),
        (
            "SELECT (SELECT x FROM (VALUES (1), (2)) AS q(x))",
            "21000",
            "more than one row returned by a subquery used as an expression",
        ),
    ] {
        assert_eq!(error(sql), (code.to_string(), message.to_string()), "{sql}");
    }
    let e = bind("SELECT $1").with_params(&[]).unwrap_err();
    assert_eq!((e.kind(), e.message()), (ErrorKind::UndefinedParameter, "there is no parameter $1"));
}

#[test]
fn operators_and_rows_are_read_as_postgresql_reads_them() {
    for (sql, expected) in [
        ("SELECT -2 ^ 2, 2 ^ -1", "4.0|0.5"),
        ("SELECT ~6, ~(-1)", "-7|0"),
        (
            "SELECT (1, 2) = (1, 2), (1, 2) < (1, 3), (2, 1) <= (1, 9), (1, NULL) < (2, 1)",
            "true|true|false|true",
        ),
        ("SELECT (1, 2) IN ((3, 4), (1, 2)), (1, 2) NOT IN ((1, 2))", "true|false"),
        ("SELECT 1e300::float8, -1e300::float8 < 0", "1e300|true"),
        ("SELECT upper('ß'), lower('ÀΣ'), initcap('hello wORLD')", "ß|àσ|Hello World"),
        ("WITH a (x) AS (SELECT 1, 2 AS y) SELECT x + y FROM a", "3"),
        (
            "SELECT count(*), sum(x) FROM (VALUES (1.5::numeric(20,6)), (3), (NULL)) v(x) WHERE x > 1",
            "2|4.500000",
        ),
        ("SELECT 1 WHERE NOT (SELECT false) AND 1 IN (SELECT 1)", "1"),
    ] {
        assert_eq!(row(sql), expected, "{sql}");
    }
    assert_eq!(types("SELECT 1 UNION ALL SELECT NULL UNION ALL SELECT 2.5 UNION SELECT NULL"), ["numeric"]);
}

#[test]
fn conditions_name_the_columns_of_a_using_or_natural_join() {
    let joined = |join: &str| {
        format!("SELECT x, y FROM (VALUES (1, 10), (2, 20)) a(k, x) {join} WHERE k > 1 AND k IN (SELECT 2)")
    };
    let right = "(VALUES (1, 3), (2, 4)) b(k, y)";
    assert_eq!(row(&joined(&format!("NATURAL JOIN {right}"))), "20|4");
    assert_eq!(row(&joined(&format!("RIGHT JOIN {right} USING (k)"))), "20|4");
    assert_eq!(row(&joined(&format!("FULL JOIN {right} USING (k)"))), "20|4");
    assert_eq!(error("SELECT 1 FROM t JOIN s ON t.id = s.id WHERE id > 1").0, "42702");
    bind("SELECT * FROM t NATURAL JOIN s WHERE id > 1");
}

#[test]
fn both_spellings_of_a_window_function_mean_the_same() {
    let plain = bind("SELECT id, window_start FROM TUMBLE(t, ts, INTERVAL '10' MINUTE)").plan;
    let parsed = crate::sql::parse(
        "SELECT id, window_start FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTES))",
    );
    let crate::sql::Statement::Query(query) = parsed.unwrap().remove(0).statement else {
        panic!("not a query")
    };
    let table = bind_query(&query, &context()).unwrap().plan;
    assert_eq!(plain.display_indent().to_string(), table.display_indent().to_string());
}

#[test]
fn insert_takes_default_and_nothing_else_for_generated_columns() {
    let b = dml("INSERT INTO items VALUES (1, 2, 1.5, DEFAULT), (2, DEFAULT, 3, DEFAULT)").unwrap();
    assert_eq!(values(b.source, "insert"), "1|2|1.50|3.00");
    for sql in ["INSERT INTO items VALUES (1, 2, 1.5, 3)", "INSERT INTO items (total) SELECT 1"] {
        let e = dml(sql).unwrap_err();
        assert_eq!(
            (e.kind(), e.message()),
            (ErrorKind::GeneratedAlways, "cannot insert a non-DEFAULT value into column \"total\"")
        );
    }
}

#[test]
fn a_check_knows_its_columns() {
    let columns = [Column::new("a", PgType::INT4), Column::new("b", PgType::INT4)];
    assert_eq!(check_columns("a > 0 AND a < 9", &columns), ["a"]);
    assert_eq!(check_columns("A > lower(b)", &columns), ["a", "b"]);
}

/// What takes time cubic in the depth somewhere would take minutes here.
#[test]
fn chains_as_long_as_the_guard_allows_are_planned() {
    let chain = |term: &str, link: &str| vec![term; crate::sql::guard::MAX_DEPTH - 10].join(link);
    for (sql, expected) in [
        (format!("SELECT {} FROM t", chain("id", " + ")), "integer"),
        (format!("SELECT {} FROM t", chain("name", " || ")), "text"),
        (format!("SELECT 1 FROM t WHERE {}", chain("id = 1", " AND ")), "integer"),
        (format!("SELECT 1 FROM t WHERE {}", chain("id = 1", " OR ")), "integer"),
        (chain("SELECT 1.5", " UNION ALL "), "numeric"),
        (chain("SELECT 1.5", " UNION "), "numeric"),
    ] {
        with_stack(|| {
            let q = bind(&sql);
            assert_eq!(q.columns[0].pg_type.sql_name(), expected);
            optimize::optimize_for_view(q.plan).unwrap();
        });
    }
    assert_eq!(
        row(&format!("SELECT {}", chain("1", " + "))),
        (crate::sql::guard::MAX_DEPTH - 10).to_string()
    );
}
