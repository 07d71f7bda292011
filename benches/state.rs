//! State: bytes per row of a large aggregate and a large join, the longest epoch while they grow, and how long a new
//! view takes to fill.
//!
//! Run with `cargo bench --bench state`. Environment: `STATE_ROWS` (10,000,000), `STATE_ONLY`
//! (`aggregate`, `join`, `hydrate`; all).

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch};
use freshet::catalog::{Catalog, Column, Object, ObjectBody, ObjectId};
use freshet::coord::ddl::plan_query;
use freshet::dataflow::{DataflowSpec, Engine, EpochInput, Target};
use freshet::expr::eval_error;
use freshet::plan::Plan;
use freshet::sql::bind::{BindContext, NoSystemTables, bind_query_text};
use freshet::sql::statement::Emit;
use freshet::store::relation::Relation;
use freshet::time::{Epoch, EventTime};
use freshet::types::PgType;
use freshet::zset::ZBatch;
use support::{env_number, mb, measure};

const T: ObjectId = ObjectId(16384);
const U: ObjectId = ObjectId(16385);
const VIEW: ObjectId = ObjectId(16400);
const BATCH: u64 = 8192;
/// Batches that the coordinator feeds to a new view at once.
const SLICE: usize = 4;
/// How long it works at the end of that before it looks at other epochs.
const TURN: Duration = Duration::from_millis(10);

fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    for (id, name) in [(T, "t"), (U, "u")] {
        let body = ObjectBody::Table {
            primary_key: vec![],
            append_only: false,
            watermark: None,
            checks: vec![],
            options: Default::default(),
        };
        let object = Object {
            id,
            schema: "public".into(),
            name: name.into(),
            columns: vec![Column::new("k", PgType::INT8), Column::new("v", PgType::INT8)],
            body,
            depends_on: vec![],
            ddl: String::new(),
            search_path: vec![],
            comment: None,
            seen: vec![],
        };
        catalog.insert(object).expect("a new name");
    }
    catalog
}

fn plan(sql: &str) -> Arc<Plan> {
    let catalog = catalog();
    let mut context = BindContext::new(catalog.clone(), EventTime(0), &NoSystemTables);
    context.in_view = true;
    let bound = bind_query_text(sql, &context).expect("a query");
    plan_query(&bound, &catalog, Emit::OnUpdate).expect("a plan")
}

/// Every key below `keys` once, in an order that visits the hash table all over.
fn rows(start: u64, end: u64, keys: u64) -> ZBatch {
    // Odd and prime to every power of ten: a permutation of the keys.
    let key = |i: u64| ((u128::from(i) * 7_368_787_019) % u128::from(keys)) as i64;
    let k = Int64Array::from_iter_values((start..end).map(key));
    let v = Int64Array::from_iter_values((start..end).map(|i| (i % 1000) as i64));
    let schema = catalog().get(T).expect("t").arrow_schema();
    ZBatch::inserts(RecordBatch::try_new(schema, vec![Arc::new(k), Arc::new(v)]).expect("columns"))
}

fn view(plan: &Plan) -> Arc<Relation> {
    let key = plan.facts().best_key().map(<[usize]>::to_vec).unwrap_or_default();
    Arc::new(Relation::new("view", plan.schema.clone(), key, 1))
}

fn target(view: Option<&Arc<Relation>>) -> Target {
    match view {
        Some(view) => {
            Target::View(view.clone(), Arc::new(Relation::new("errors", eval_error::schema(), vec![], 1)))
        }
        None => Target::Blackhole,
    }
}

fn engine(plan: &Arc<Plan>, target: Target) -> Engine {
    let mut engine = Engine::start(1);
    engine
        .create(DataflowSpec { id: VIEW, plan: plan.clone(), target, keep_changelog: false })
        .expect("create");
    engine
}

/// Grows a state epoch by epoch of one batch per input.
fn grow(table: &support::Table, name: &str, sql: &str, inputs: &[ObjectId], total: u64, maintained: bool) {
    let plan = plan(sql);
    support::release_memory();
    let before = support::rss();
    let view = maintained.then(|| view(&plan));
    let mut engine = engine(&plan, target(view.as_ref()));
    engine.finish_hydration(VIEW, EpochInput { epoch: Epoch(1), ..EpochInput::default() }).expect("nothing");
    let keys = total / inputs.len() as u64;
    let mut epochs = Vec::new();
    let (mut start, mut number, mut cpu) = (0, 1, 0.0);
    while start < keys {
        let end = (start + BATCH).min(keys);
        number += 1;
        let changes = inputs.iter().map(|t| (*t, vec![rows(start, end, keys)])).collect();
        let input = EpochInput { epoch: Epoch(number), now: EventTime(0), changes, watermarks: vec![] };
        let (report, spent) = measure(|| {
            let report = engine.step(input).expect("step");
            if let Some(view) = &view {
                view.compact(Epoch(number)).expect("compact");
            }
            report
        });
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        epochs.push(spent.wall);
        cpu += spent.cpu;
        start = end;
    }
    support::release_memory();
    let rss = support::rss().saturating_sub(before);
    epochs.sort_by(f64::total_cmp);
    let ms = |q: f64| format!("{:.2}", epochs[((epochs.len() - 1) as f64 * q) as usize] * 1e3);
    let state = engine.state_bytes() as u64;
    let stored = view.as_ref().map_or(0, |v| v.memory_bytes() as u64);
    table.row(&[
        name.to_string(),
        if maintained { "view" } else { "blackhole" }.to_string(),
        mb(state),
        format!("{:.1}", state as f64 / total as f64),
        mb(stored),
        mb(rss),
        format!("{:.1}", rss as f64 / total as f64),
        format!("{:.2}", total as f64 / cpu / 1e6),
        ms(0.5),
        ms(0.99),
        ms(1.0),
    ]);
}

/// Fills a new view from a relation that holds all rows.
fn hydrate(table: &support::Table, name: &str, sql: &str, total: u64) {
    let plan = plan(sql);
    let source = Relation::new("t", catalog().get(T).expect("t").arrow_schema(), vec![], 1);
    let mut start = 0;
    while start < total {
        let end = (start + 64 * BATCH).min(total);
        source.apply(0, Epoch(1), &rows(start, end, total)).expect("apply");
        start = end;
    }
    let view = view(&plan);
    let mut engine = engine(&plan, target(Some(&view)));
    let (mut longest, mut turn) = (0f64, 0f64);
    let (mut turns, mut end) = (0, 0f64);
    let ((), spent) = measure(|| {
        let mut slice = Vec::new();
        for batch in source.snapshot(Epoch(1)).batches(None).expect("rows") {
            for offset in (0..batch.num_rows()).step_by(BATCH as usize) {
                slice.push(ZBatch::inserts(
                    batch.slice(offset, (batch.num_rows() - offset).min(BATCH as usize)),
                ));
                if slice.len() == SLICE {
                    let started = Instant::now();
                    engine.hydrate_slice(VIEW, vec![(T, std::mem::take(&mut slice))]).expect("a slice");
                    longest = longest.max(started.elapsed().as_secs_f64());
                }
            }
        }
        engine.hydrate_slice(VIEW, vec![(T, slice)]).expect("the last slice");
        let input = EpochInput { epoch: Epoch(2), ..EpochInput::default() };
        let report = loop {
            let started = Instant::now();
            let report = engine.finish_some(VIEW, &input, Some(TURN)).expect("a turn of the end");
            turn = turn.max(started.elapsed().as_secs_f64());
            end += started.elapsed().as_secs_f64();
            turns += 1;
            if let Some(report) = report {
                break report;
            }
        };
        assert!(report.failed.is_empty(), "{:?}", report.failed);
    });
    table.row(&[
        name.to_string(),
        format!("{:.2}", spent.wall),
        format!("{:.2}", total as f64 / spent.wall / 1e6),
        format!("{:.1}", longest * 1e3),
        turns.to_string(),
        format!("{:.0}", end * 1e3),
        format!("{:.1}", turn * 1e3),
        view.row_count().to_string(),
    ]);
}

fn wanted(name: &str) -> bool {
    std::env::var("STATE_ONLY").map_or(true, |only| only.split(',').any(|o| o == name))
}

const COUNT_SUM: &str = "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k";
const JOIN: &str = "SELECT t.k, t.v, u.v AS w FROM t JOIN u ON t.k = u.k";

fn bench() {
    let total = env_number("STATE_ROWS", 10_000_000);
    println!(
        "{total} rows of (bigint, bigint), all keys different, epochs of {BATCH} rows per input, 1 worker\n"
    );
    let head = [
        "state",
        "target",
        "state MB",
        "B/row",
        "view MB",
        "RSS MB",
        "RSS B/row",
        "M/s CPU",
        "p50 ms",
        "p99 ms",
        "longest ms",
    ];
    let table = support::Table::new(&head);
    for maintained in [false, true] {
        if wanted("aggregate") {
            grow(&table, "count, sum", COUNT_SUM, &[T], total, maintained);
        }
        if wanted("join") {
            grow(&table, "join", JOIN, &[T, U], total, maintained);
        }
    }
    if wanted("hydrate") {
        println!("\nFilling a new view over {total} rows\n");
        let head = ["view", "seconds", "M rows/s", "slice ms", "end turns", "end ms", "turn ms", "rows"];
        let table = support::Table::new(&head);
        hydrate(&table, "count, sum of every key", COUNT_SUM, total);
        hydrate(
            &table,
            "count, sum of 1,000 keys",
            "SELECT k % 1000 AS g, count(*) AS n, sum(v) AS s FROM t GROUP BY k % 1000",
            total,
        );
        hydrate(&table, "filter (1 in 10 rows)", "SELECT k, v FROM t WHERE v < 100", total);
    }
}

fn main() {
    let thread = std::thread::Builder::new().stack_size(64 << 20).spawn(bench).expect("a thread");
    if thread.join().is_err() {
        std::process::exit(1);
    }
}
