//! Queries that psql, drivers and tools send, over a sample catalog.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;
use crate::catalog::{Column, Object, ObjectBody};
use crate::config::SessionSettings;
use crate::sql::Statement;
use crate::types::text::{TextFormatter, TextOptions};

struct Settings(RefCell<SessionSettings>);

impl SettingsView for Settings {
    fn get(&self, name: &str) -> Result<String> {
        self.0.borrow().get(name)
    }
    fn set(&self, name: &str, value: &str, local: bool) -> Result<()> {
        self.0.borrow_mut().set(name, value, local).map(|_| ())
    }
    fn rows(&self) -> Vec<SettingRow> {
        self.0.borrow().rows()
    }
    fn relation_bytes(&self, _: ObjectId) -> u64 {
        12345
    }
}

fn object(c: &mut Catalog, name: &str, columns: Vec<Column>, body: ObjectBody) -> ObjectId {
    let id = c.allocate_id();
    c.insert(Object {
        id,
        schema: "public".into(),
        name: name.into(),
        columns,
        body,
        depends_on: vec![],
        ddl: String::new(),
        search_path: vec![],
        comment: None,
        seen: Vec::new(),
    })
    .unwrap();
    id
}

/// orders (16384), its indexes, a source, a view, a materialized view.
fn catalog() -> Catalog {
    let mut c = Catalog::new();
    let mut id = Column::new("id", PgType::INT4);
    id.nullable = false;
    let mut customer = Column::new("customer", PgType::TEXT);
    customer.nullable = false;
    let mut amount = Column::new("amount", PgType::numeric(12, 2));
    amount.default = Some("0".into());
    let mut note = Column::new("note", PgType { oid: oid::VARCHAR, typmod: 24 });
    note.comment = Some("Free text".into());
    let at = Column::new("at", PgType::TIMESTAMPTZ);
    let tags = Column::new("tags", PgType::of(1009));
    let total = Column::new("total", PgType::NUMERIC);
    let orders = object(
        &mut c,
        "orders",
        vec![id.clone(), customer.clone(), amount, at.clone(), note, tags],
        ObjectBody::Table {
            primary_key: vec![0],
            append_only: false,
            watermark: None,
            checks: vec![("orders_amount_check".into(), "amount >= 0".into())],
            options: Default::default(),
        },
    );
    let mut commented = (**c.get(orders).unwrap()).clone();
    commented.comment = Some("All orders".into());
    c.replace(commented).unwrap();
    object(
        &mut c,
        "orders_u",
        vec![],
        ObjectBody::Index { on: orders, columns: vec![1, 3], unique: true, constraint: false },
    );
    object(
        &mut c,
        "clicks",
        vec![at],
        ObjectBody::Source {
            connector: "datagen".into(),
            options: BTreeMap::from([("rows".to_string(), "10".to_string())]),
            format: None,
            watermark: None,
            keeps_history: true,
        },
    );
    object(
        &mut c,
        "big",
        vec![id],
        ObjectBody::View { query: "SELECT id FROM orders WHERE amount > 100".into() },
    );
    object(
        &mut c,
        "totals",
        vec![customer, total],
        ObjectBody::MaterializedView {
            query: "SELECT customer, sum(amount) AS total FROM orders GROUP BY customer".into(),
            emit_on_window_close: false,
            unique_key: vec![0],
            append_only: false,
            watermark_columns: vec![],
        },
    );
    c
}

fn parse(sql: &str) -> Box<ast::Query> {
    let mut all = crate::sql::parse(sql).unwrap_or_else(|e| panic!("{e:?}: {sql}"));
    match all.pop().map(|p| p.statement) {
        Some(Statement::Query(q)) => q,
        other => panic!("{other:?}"),
    }
}

fn with_context<T>(f: impl FnOnce(&SystemContext<'_>) -> T) -> T {
    let catalog = catalog();
    let settings = Settings(RefCell::new(SessionSettings::default()));
    f(&SystemContext {
        catalog: &catalog,
        search_path: vec!["me".into(), "public".into()],
        user: "me".into(),
        database: "freshet".into(),
        pid: 42,
        settings: &settings,
        sessions: vec![SessionRow { pid: 42, state: "active".into(), ..SessionRow::default() }],
        server_relations: vec![],
        now: EventTime(1_700_000_000_000_000),
        started: EventTime(1_600_000_000_000_000),
    })
}

fn try_ask(sql: &str, params: &[ScalarValue]) -> Result<(Vec<SystemColumn>, Vec<String>)> {
    with_context(|context| {
        let query = parse(sql);
        assert!(is_catalog_query(&query, context.catalog, &context.search_path), "{sql}");
        let described = describe(&query, context, &[])?;
        let (columns, batch) = answer(&query, context, params)?;
        assert_eq!(described.columns.len(), columns.len());
        let schema = batch.schema();
        let rows = (0..batch.num_rows())
            .map(|row| {
                let cells = batch.columns().iter().zip(schema.fields()).map(|(array, field)| {
                    if array.is_null(row) {
                        return "-".to_string();
                    }
                    let mut out = vec![];
                    TextFormatter::new(field, &TextOptions::default()).write(array, row, &mut out);
                    String::from_utf8(out).unwrap()
                });
                cells.collect::<Vec<_>>().join("|")
            })
            .collect();
        Ok((columns, rows))
    })
}

/// The rows of a query, cells joined by `|`, NULL as `-`.
fn ask(sql: &str) -> Vec<String> {
    try_ask(sql, &[]).unwrap_or_else(|e| panic!("{e:?}: {sql}")).1
}

fn run_all(text: &str) -> Vec<(Vec<SystemColumn>, Vec<String>)> {
    let queries = text.split("\n;\n").map(str::trim).filter(|s| !s.is_empty());
    queries.map(|sql| try_ask(sql, &[]).unwrap_or_else(|e| panic!("{e:?}: {sql}"))).collect()
}

#[test]
fn every_query_of_psql_s_describe_commands_is_answered() {
    let answers = run_all(include_str!("testdata/psql.sql"));
    assert_eq!(answers.len(), 101);
    assert_eq!(
        answers[0].1,
        [
            "public|big|view|me",
            "public|clicks|foreign table|me",
            "public|orders|table|me",
            "public|totals|materialized view|me"
        ]
    );
}

#[test]
fn catalog_queries_of_drivers_and_tools_are_answered() {
    let answers = run_all(include_str!("testdata/clients.sql"));
    // pgjdbc: getColumns, getTables, getPrimaryKeys, getIndexInfo.
    assert_eq!(answers[0].1[2], "public|orders|amount|1700|f|786438|-1|-1|3|-|-|0|-|0|b");
    assert_eq!(answers[1].1[0], "-|public|clicks|FOREIGN TABLE|-|");
    assert_eq!(answers[2].1, ["-|public|orders|id|1|orders_pkey"]);
    assert_eq!(answers[3].1[2], "-|public|orders|f|-|orders_u|3|2|at|A|-1|0|-");
    // Npgsql finds arrays through array_recv.
    assert!(answers[4].1.contains(&"pg_catalog|1007|_int4|a|f|23".to_string()));
    // sqlx: nullability by table and column number.
    assert_eq!(answers[6].1, ["f|id", "t|amount", "-|-"]);
}

#[test]
fn plain_columns_say_which_column_they_are() {
    let (columns, _) =
        try_ask("SELECT c.relname, c.relname || 'x', c.oid::text FROM pg_class c", &[]).unwrap();
    let origins: Vec<_> = columns.iter().map(|c| (c.table_oid, c.attnum)).collect();
    assert_eq!(origins, [(1259, 2), (0, 0), (0, 0)]);
    assert_eq!(columns[0].pg_type.oid, oid::NAME);
}

#[test]
fn parameters_take_the_types_of_what_they_are_compared_with() {
    with_context(|context| {
        let query = parse(
            "SELECT relname FROM pg_class WHERE oid = $1 AND relname = ANY($2) AND oid <> $3::regclass",
        );
        let types: Vec<u32> = describe(&query, context, &[]).unwrap().params.iter().map(|t| t.oid).collect();
        assert_eq!(types, [oid::OID, 1003, oid::TEXT]);
        let query = parse("SELECT relname FROM pg_class WHERE oid = $1");
        let (_, batch) = answer(&query, context, &[ScalarValue::Int64(Some(16384))]).unwrap();
        assert_eq!(batch.num_rows(), 1);
    });
}

#[test]
fn queries_of_user_relations_are_not_taken() {
    with_context(|context| {
        let ours = |sql: &str| is_catalog_query(&parse(sql), context.catalog, &context.search_path);
        assert!(ours("SELECT * FROM pg_class"));
        assert!(ours("SELECT version()"));
        assert!(ours("SELECT current_schema"));
        assert!(ours("SELECT 'orders'::regclass"));
        assert!(ours("WITH x AS (SELECT oid FROM pg_type) SELECT * FROM x"));
        assert!(!ours("SELECT 1"));
        assert!(!ours("SELECT now(), lower('A')"));
        assert!(!ours("SELECT * FROM orders"));
        assert!(!ours("SELECT * FROM orders, pg_class"));
        assert!(!ours("SELECT * FROM freshet.views"));
    });
}

#[test]
fn nulls_grouping_and_outer_joins_follow_sql() {
    assert_eq!(ask("SELECT NULL::oid IN (1, 2), 3::oid IN (1, NULL), 1::oid NOT IN (2, 3)"), ["-|-|t"]);
    assert_eq!(
        ask(
            "SELECT relkind, count(*) FROM pg_class WHERE relnamespace = 2200 GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
        ),
        ["i|2"]
    );
    assert_eq!(
        ask(
            "SELECT a.x, b.x FROM (VALUES (1::oid), (2)) a(x) FULL JOIN (VALUES (2::oid), (3)) b(x) USING (x) ORDER BY 1, 2"
        ),
        ["1|-", "2|2", "-|3"]
    );
    let e = try_ask("SELECT (SELECT oid FROM pg_class)", &[]).unwrap_err();
    assert_eq!(e.kind().sqlstate(), "21000");
    let e = try_ask("SELECT 'nothing'::regclass", &[]).unwrap_err();
    assert_eq!((e.kind().sqlstate(), e.message()), ("42P01", "relation \"nothing\" does not exist"));
}
