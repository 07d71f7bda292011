//! Tests of reading: SELECT and lookups at an epoch, limits, cancellation.

use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::TableType;
use datafusion::prelude::SessionContext;

use super::*;
use crate::catalog::{Column, Object, ObjectBody};
use crate::read::lookup::lookup;
use crate::store::Epochs;
use crate::time::Epoch;
use crate::types::PgType;
use crate::zset::ZBatch;

struct World {
    relation: Arc<Relation>,
    object: Arc<Object>,
    epochs: Arc<Epochs>,
    state: Arc<SessionState>,
    runtime: tokio::runtime::Runtime,
}

struct SystemTable(SchemaRef);
impl TableSource for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::Base
    }
}

impl Resolver for World {
    fn relation(&self, id: ObjectId) -> Result<Arc<Relation>> {
        if id == self.object.id { Ok(self.relation.clone()) } else { Err(unknown_relation(id)) }
    }
    fn rows(&self, name: &TableReference, source: &dyn TableSource) -> Result<Option<Vec<RecordBatch>>> {
        if !(source as &dyn Any).is::<SystemTable>() {
            return Ok(None);
        }
        let names: ArrayRef = Arc::new(StringArray::from(vec![name.table().to_string()]));
        Ok(Some(vec![RecordBatch::try_new(source.schema(), vec![names])?]))
    }
}

fn world(rows: i64, partitions: usize) -> World {
    let object = Arc::new(Object {
        id: ObjectId(20000),
        schema: "public".into(),
        name: "t".into(),
        columns: vec![Column::new("k", PgType::INT8), Column::new("v", PgType::TEXT)],
        body: ObjectBody::Table {
            primary_key: vec![0],
            append_only: false,
            watermark: None,
            checks: vec![],
            options: Default::default(),
        },
        depends_on: vec![],
        ddl: String::new(),
        search_path: Vec::new(),
        comment: None,
        seen: Vec::new(),
    });
    let schema = object.arrow_schema();
    let relation = Arc::new(Relation::new("t", schema.clone(), vec![0], 2));
    for p in 0..2 {
        let keys: Vec<i64> = (0..rows).filter(|k| k % 2 == p).collect();
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(Int64Array::from(keys.clone())),
                Arc::new(StringArray::from_iter_values(keys.iter().map(|k| format!("v{}", k % 10)))),
            ],
        );
        relation.apply(p as usize, Epoch(10), &ZBatch::inserts(batch.unwrap())).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    World {
        relation,
        object,
        epochs: Epochs::new(Epoch(10), 0),
        state: Arc::new(session_state(partitions).unwrap()),
        runtime,
    }
}

impl World {
    /// The logical plan of a query, bound as the SQL layer does it: sources that cannot be read themselves.
    fn plan(&self, sql: &str) -> LogicalPlan {
        let context = SessionContext::new_with_state(session_state(1).unwrap());
        let empty = |schema: SchemaRef| Arc::new(MemTable::try_new(schema, vec![vec![]]).unwrap());
        let system = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, true)]));
        context.register_table("t", empty(self.object.arrow_schema())).unwrap();
        context.register_table("settings", empty(system.clone())).unwrap();
        let plan = futures::executor::block_on(context.state().create_logical_plan(sql)).unwrap();
        let bound = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::TableScan(mut scan) = node else { return Ok(Transformed::no(node)) };
            scan.source = match scan.table_name.table() {
                "t" => Arc::new(CatalogTable::new(self.object.clone())),
                "settings" => Arc::new(SystemTable(system.clone())),
                _ => scan.source,
            };
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        });
        bound.unwrap().data
    }

    fn start(&self, sql: &str, memory_bytes: usize, cancel: CancellationToken) -> Result<QueryStream> {
        let limits = Limits { memory: memory_pool(memory_bytes), spill: None };
        let (pin, state) = (self.epochs.pin(), self.state.clone());
        start(self.plan(sql), self, pin, state, &limits, self.runtime.handle(), cancel)
    }

    fn run(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        futures::executor::block_on(self.start(sql, 64 << 20, CancellationToken::new())?.collect_all())
    }

    fn number(&self, sql: &str) -> i64 {
        let batches = self.run(sql).unwrap();
        batches[0].column(0).as_primitive::<Int64Type>().value(0)
    }
}

#[test]
fn queries_read_the_pinned_epoch_with_one_and_with_several_partitions() {
    for partitions in [1, 3] {
        let w = world(1000, partitions);
        let plan = w.plan("SELECT count(*) FROM t");
        let pin = w.epochs.pin();
        let gone = w.relation.snapshot(Epoch(10)).batches(None).unwrap()[0].slice(0, 100);
        w.relation.apply(0, Epoch(20), &ZBatch::deletes(gone)).unwrap();
        w.epochs.publish(Epoch(20));
        assert_eq!(w.number("SELECT count(*) FROM t"), 900);
        let limits = Limits { memory: memory_pool(1 << 20), spill: None };
        let cancel = CancellationToken::new();
        let old = start(plan, &w, pin, w.state.clone(), &limits, w.runtime.handle(), cancel).unwrap();
        let old = futures::executor::block_on(old.collect_all()).unwrap();
        assert_eq!(old[0].column(0).as_primitive::<Int64Type>().value(0), 1000);
        assert_eq!(
            w.number("SELECT sum(k) FROM t WHERE v = 'v1' AND k < 100"),
            (0..10).map(|i| i * 10 + 1).sum::<i64>()
        );
        assert_eq!(w.number("SELECT count(*) FROM t a JOIN t b ON a.k = b.k + 1"), 800);
        assert_eq!(w.number("SELECT count(*) FROM (SELECT k FROM t LIMIT 7)"), 7);
        let recursive = "WITH RECURSIVE r(n) AS (SELECT 1::bigint UNION ALL SELECT n + 1 FROM r WHERE n < 9)";
        assert_eq!(w.number(&format!("{recursive} SELECT sum(r.n) FROM r JOIN t ON r.n = t.k - 300")), 45);
        assert_eq!(w.number("SELECT count(*) FROM t WHERE k IN (SELECT max(k) FROM t)"), 1);
    }
}

#[test]
fn equality_on_the_key_is_answered_by_the_index() {
    let w = world(1000, 1);
    assert_eq!(w.number("SELECT k FROM t WHERE k = 77 AND v = 'v7'"), 77);
    assert_eq!(w.number("SELECT count(*) FROM t WHERE k IN (1, 2, 2, 5000)"), 2);
    assert_eq!(w.number("SELECT count(*) FROM t WHERE k = 77 AND v = 'v8'"), 0);
    let plan = resolve(w.plan("SELECT v FROM t WHERE k = 77"), &w, &w.epochs.pin()).unwrap();
    let physical = futures::executor::block_on(w.state.create_physical_plan(&plan)).unwrap();
    let shown = datafusion::physical_plan::displayable(physical.as_ref()).indent(false).to_string();
    assert!(shown.contains("RelationScan: rows<=1\n"), "{shown}");
}

#[test]
fn system_tables_are_answered_by_the_resolver() {
    let w = world(10, 1);
    let batches = w.run("SELECT s.name, t.k FROM settings s, t WHERE t.k < 2 ORDER BY k").unwrap();
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("| settings | 0 |\n| settings | 1 |"), "{shown}");
}

#[test]
fn a_query_beyond_its_memory_fails_and_the_next_one_works() {
    let w = world(200_000, 1);
    let stream =
        w.start("SELECT v || k, count(*) FROM t GROUP BY 1 ORDER BY 2", 1 << 20, CancellationToken::new());
    let e = futures::executor::block_on(stream.unwrap().collect_all()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e:?}");
    assert_eq!(w.number("SELECT count(*) FROM t"), 200_000);
}

#[test]
fn joins_of_all_pairs_end_when_they_are_canceled_or_dropped() {
    let w = world(20_000, 1);
    for sql in [
        "SELECT count(*) FROM t a, t b, t c",
        "SELECT count(*) FROM t a JOIN t b ON a.k + b.k < 0 JOIN t c ON b.k + c.k < -1",
        "SELECT count(*) FROM t a JOIN t b ON a.v = b.v JOIN t c ON b.v = c.v",
        "WITH RECURSIVE r(n) AS (SELECT 1::bigint UNION ALL SELECT n FROM r) SELECT count(*) FROM r",
        "SELECT count(*) FROM t WHERE NOT EXISTS (SELECT FROM t b JOIN t c ON b.k <> c.k WHERE b.k > t.k + c.k + 50000)",
    ] {
        let cancel = CancellationToken::new();
        let mut stream = w.start(sql, 1 << 30, cancel.clone()).unwrap();
        let canceler = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
            Instant::now()
        });
        let outcome = futures::executor::block_on(stream.next()).unwrap();
        let asked = canceler.join().unwrap();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::QueryCanceled);
        assert!(asked.elapsed() < Duration::from_secs(1));
        drop(stream);
        // The one thread of the runtime is free again, so the query itself has ended too.
        assert_eq!(w.number("SELECT count(*) FROM t"), 20_000);
        assert!(asked.elapsed() < Duration::from_secs(20), "{sql}: {:?}", asked.elapsed());
    }
    drop(w.start("SELECT count(*) FROM t a, t b, t c", 1 << 30, CancellationToken::new()).unwrap());
    assert_eq!(w.number("SELECT count(*) FROM t"), 20_000);
    assert_eq!(w.epochs.oldest_pinned(), Epoch(10));
}

#[test]
fn a_query_whose_runtime_ends_is_an_error_and_not_a_short_result() {
    let mut w = world(1000, 1);
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let doomed = std::mem::replace(&mut w.runtime, other);
    let limits = Limits { memory: memory_pool(1 << 20), spill: None };
    let handle = doomed.handle().clone();
    doomed.shutdown_background();
    let plan = w.plan("SELECT k FROM t");
    let cancel = CancellationToken::new();
    let stream = start(plan, &w, w.epochs.pin(), w.state.clone(), &limits, &handle, cancel).unwrap();
    let e = futures::executor::block_on(stream.collect_all()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::AdminShutdown);
}

/// Figures; run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn figures() {
    let w = world(1000, 1);
    for sql in [
        "SELECT v FROM t WHERE k = 77",
        "SELECT count(*) FROM t",
        "SELECT a.k FROM t a JOIN t b ON a.k = b.k",
    ] {
        let plan = w.plan(sql);
        let n = 300;
        let started = Instant::now();
        for _ in 0..n {
            let limits = Limits { memory: memory_pool(1 << 24), spill: None };
            let (pin, state, cancel) = (w.epochs.pin(), w.state.clone(), CancellationToken::new());
            let stream = start(plan.clone(), &w, pin, state, &limits, w.runtime.handle(), cancel).unwrap();
            futures::executor::block_on(stream.collect_all()).unwrap();
        }
        println!("{sql}: {:?}", started.elapsed() / n);
    }
}

#[test]
fn failing_expressions_are_errors_of_the_query() {
    let w = world(10, 1);
    assert_eq!(w.run("SELECT 1 / (k - 3) FROM t").unwrap_err().kind(), ErrorKind::DivisionByZero);
}

#[test]
fn lookups_find_keys_of_other_types_only_when_the_value_is_the_same() {
    let w = world(100, 1);
    let find = |keys: Vec<ScalarValue>| {
        let keys: Vec<_> = keys.into_iter().map(|k| vec![k]).collect();
        let got = lookup(&w.relation, &[0], &keys, &[1, 0], Epoch(10)).unwrap().expect("few rows");
        assert_eq!(got.num_columns(), 2);
        let mut found = got.column(1).as_primitive::<Int64Type>().values().to_vec();
        found.sort_unstable();
        found
    };
    assert_eq!(find(vec![ScalarValue::Int64(Some(42))]), vec![42]);
    assert_eq!(find(vec![ScalarValue::Int32(Some(42))]), vec![42]);
    assert_eq!(find(vec![ScalarValue::Float64(Some(42.5))]), Vec::<i64>::new());
    assert_eq!(find(vec![ScalarValue::Int64(None)]), Vec::<i64>::new());
    let many = vec![ScalarValue::Int64(Some(7)), ScalarValue::Int32(Some(8)), ScalarValue::Int64(None)];
    assert_eq!(find(many), vec![7, 8]);
    assert_eq!(find(vec![]), Vec::<i64>::new());
    assert!(lookup(&w.relation, &[1], &[vec![ScalarValue::from("v1")]], &[0], Epoch(10)).is_err());
}
