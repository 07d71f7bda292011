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
        },
    );
    let mut commented = (**c.get(orders).unwrap()).clone();
    commented.comment = Some("All orders".into());
    c.replace(commented).unwrap();
    object(&mut c, "orders_u", vec![], ObjectBody::Index { on: orders, columns: vec![1, 3], unique: true });
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
    object(&mut c, "big", vec![id], ObjectBody::View { query: "SELECT id FROM orders WHERE amount > 100".into() });
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

#[test]
fn dev_file() {
    let Ok(path) = std::env::var("DEV_SQL") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut bad = 0;
    for sql in text.split("\n;\n").filter(|s| !s.trim().is_empty()) {
        match std::panic::catch_unwind(|| try_ask(sql, &[])) {
            Ok(Ok((columns, rows))) => {
                let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
                println!("OK {} {} | {:?}", rows.len(), names.join(","), rows.iter().take(4).collect::<Vec<_>>());
            }
            Ok(Err(e)) => {
                bad += 1;
                println!("BAD {e:?}\n{sql}\n")
            }
            Err(_) => {
                bad += 1;
                println!("PANIC {sql}\n")
            }
        }
    }
    println!("bad: {bad}");
}
