//! Engine tests: the same changes through 1, 2 and 4 workers, against recomputation from scratch by DataFusion.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::catalog::Catalog;
use crate::error::ErrorKind;
use crate::plan::testing::{catalog, id_of, logical, schema_of};
use crate::plan::{Emit, lower};
use crate::types::UTC;

/// Rows as text with their multiplicities, per partition.
#[derive(Default)]
struct Store {
    rows: Mutex<BTreeMap<(usize, String), i64>>,
    last: Mutex<Epoch>,
    revealed: Mutex<bool>,
}

impl ViewStore for Store {
    fn apply(&self, partition: usize, epoch: Epoch, delta: &ZBatch) -> Result<()> {
        let mut rows = self.rows.lock();
        for (i, text) in texts(delta.rows()).into_iter().enumerate() {
            let entry = (partition, text);
            let count = rows.entry(entry.clone()).or_default();
            *count += delta.weight(i);
            if *count == 0 {
                rows.remove(&entry);
            }
        }
        *self.last.lock() = epoch;
        match rows.iter().find(|(_, n)| **n < 0) {
            Some((row, _)) => Err(Error::internal(format!("retraction of a row that is not there: {row:?}"))),
            None => Ok(()),
        }
    }
    fn fill(&self, partition: usize, delta: &ZBatch) -> Result<()> {
        assert!(!*self.revealed.lock(), "filled after it was revealed");
        self.apply(partition, Epoch::ZERO, delta)
    }
    fn reveal(&self, epoch: Epoch) {
        assert!(!std::mem::replace(&mut *self.revealed.lock(), true), "revealed twice");
        *self.last.lock() = epoch;
    }
    fn expect_deletes(&self) -> Result<()> {
        Ok(())
    }
}

impl Store {
    fn contents(&self) -> BTreeMap<String, i64> {
        let mut all = BTreeMap::new();
        for ((_, row), n) in self.rows.lock().iter() {
            *all.entry(row.clone()).or_default() += n;
        }
        all
    }
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
    let row = |i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

type Row = (Option<i64>, Option<&'static str>, Option<i64>, Option<i64>);

/// Rows of `t` or `s`.
fn rows(schema: &arrow::datatypes::SchemaRef, rows: &[(Row, i64)]) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(r, _)| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(r, _)| r.1).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(r, _)| r.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(r, _)| r.3).collect::<TimestampMicrosecondArray>().with_timezone(UTC)),
    ];
    let columns = columns[..schema.fields().len().min(4)].to_vec();
    let weights = Int64Array::from(rows.iter().map(|(_, w)| *w).collect::<Vec<_>>());
    ZBatch::try_new(RecordBatch::try_new(schema.clone(), columns).unwrap(), Some(weights)).unwrap()
}

/// Rows of `u`.
fn u_rows(
    schema: &arrow::datatypes::SchemaRef,
    rows: &[((Option<i64>, Option<&'static str>), i64)],
) -> ZBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(r, _)| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|(r, _)| r.1).collect::<StringArray>()),
    ];
    let weights = Int64Array::from(rows.iter().map(|(_, w)| *w).collect::<Vec<_>>());
    ZBatch::try_new(RecordBatch::try_new(schema.clone(), columns).unwrap(), Some(weights)).unwrap()
}

struct Server {
    catalog: Catalog,
    engine: Engine,
    epoch: u64,
}

impl Server {
    fn new(workers: usize) -> Server {
        Server::with(workers, Delivery::Shuffled(workers as u64))
    }

    fn with(workers: usize, delivery: Delivery) -> Server {
        Server { catalog: catalog(), engine: Engine::start_with(workers, delivery), epoch: 0 }
    }

    fn plan(&self, sql: &str, emit: Emit) -> Arc<Plan> {
        Arc::new(
            lower::lower(&logical(sql, &self.catalog, true), &self.catalog, emit)
                .unwrap_or_else(|e| panic!("{sql}: {e:?}")),
        )
    }

    /// Creates a view and leaves it hydrating.
    fn begin(&mut self, sql: &str, emit: Emit) -> (ObjectId, Arc<Store>, Arc<Store>) {
        let plan = self.plan(sql, emit);
        let id = self.catalog.allocate_id();
        let (view, errors) = (Arc::new(Store::default()), Arc::new(Store::default()));
        let target = Target::View(view.clone(), errors.clone());
        self.engine.create(DataflowSpec { id, plan, target, keep_changelog: true }).unwrap();
        (id, view, errors)
    }

    fn finish(&mut self, id: ObjectId) -> StepReport {
        let input = EpochInput {
            epoch: Epoch(self.epoch),
            now: EventTime(self.epoch as i64),
            ..EpochInput::default()
        };
        self.engine.finish_hydration(id, input).unwrap()
    }

    fn view(&mut self, sql: &str) -> (ObjectId, Arc<Store>, Arc<Store>) {
        let made = self.begin(sql, Emit::OnUpdate);
        let report = self.finish(made.0);
        assert!(report.failed.is_empty(), "{sql}: {:?}", report.failed);
        made
    }

    fn step(&mut self, changes: Vec<(&str, Vec<ZBatch>)>, watermarks: &[(&str, i64)]) -> StepReport {
        self.epoch += 1;
        let id = |name: &str| id_of(&self.catalog, name);
        let input = EpochInput {
            epoch: Epoch(self.epoch),
            now: EventTime(self.epoch as i64),
            changes: changes.into_iter().map(|(n, b)| (id(n), b)).collect(),
            watermarks: watermarks.iter().map(|(n, w)| (id(n), Watermark(*w))).collect(),
        };
        self.engine.step(input).unwrap()
    }
}

/// The tables' contents, and the answers that DataFusion computes from them.
#[derive(Default)]
struct Reference {
    t: Vec<Row>,
    u: Vec<(Option<i64>, Option<&'static str>)>,
}

impl Reference {
    fn answer(&self, catalog: &Catalog, sql: &str) -> BTreeMap<String, i64> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
            let t = schema_of(catalog, "t");
            let all: Vec<_> = self.t.iter().map(|r| (*r, 1)).collect();
            let table = MemTable::try_new(t.clone(), vec![vec![rows(&t, &all).into_parts().0]]).unwrap();
            context.register_table("t", Arc::new(table)).unwrap();
            let u = schema_of(catalog, "u");
            let all: Vec<_> = self.u.iter().map(|r| (*r, 1)).collect();
            let table = MemTable::try_new(u.clone(), vec![vec![u_rows(&u, &all).into_parts().0]]).unwrap();
            context.register_table("u", Arc::new(table)).unwrap();
            let mut found = BTreeMap::new();
            for batch in context.sql(sql).await.unwrap().collect().await.unwrap() {
                for row in texts(&batch) {
                    *found.entry(row).or_default() += 1;
                }
            }
            found
        })
    }
}

const NAMES: [Option<&str>; 5] = [Some("a"), Some("b"), Some("c"), Some("d"), None];

/// Random inserts and deletes of both tables, as batches, also applied to the reference.
fn random_changes(
    rng: &mut ChaCha8Rng,
    catalog: &Catalog,
    reference: &mut Reference,
    next_id: &mut i64,
) -> Vec<(&'static str, Vec<ZBatch>)> {
    let (t, u) = (schema_of(catalog, "t"), schema_of(catalog, "u"));
    let (mut tc, mut uc) = (vec![], vec![]);
    for _ in 0..rng.random_range(0..12) {
        if rng.random_bool(0.4) && !reference.t.is_empty() {
            let row = reference.t.swap_remove(rng.random_range(0..reference.t.len()));
            tc.push((row, -1));
        } else {
            *next_id += 1;
            let v = (!rng.random_bool(0.1)).then(|| rng.random_range(0..6));
            let row = (Some(*next_id), NAMES[rng.random_range(0..5)], v, Some(rng.random_range(0..100)));
            reference.t.push(row);
            tc.push((row, 1));
        }
    }
    for _ in 0..rng.random_range(0..4) {
        if rng.random_bool(0.4) && !reference.u.is_empty() {
            let row = reference.u.swap_remove(rng.random_range(0..reference.u.len()));
            uc.push((row, -1));
        } else {
            let row = (Some(rng.random_range(0..6)), NAMES[rng.random_range(0..5)]);
            reference.u.push(row);
            uc.push((row, 1));
        }
    }
    let cut = |rng: &mut ChaCha8Rng, batch: ZBatch| {
        let at = rng.random_range(0..=batch.num_rows());
        vec![batch.slice(0, at), batch.slice(at, batch.num_rows() - at)]
    };
    vec![("t", cut(rng, rows(&t, &tc))), ("u", cut(rng, u_rows(&u, &uc)))]
}

/// Every view equals its query from scratch after every epoch, for 1, 2 and 4 workers; a second copy of each
/// view is created and hydrated on the way.
fn check_queries(queries: &[&str]) {
    for (workers, apart) in [(1, false), (2, false), (2, true), (4, true)] {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut server = Server::new(workers);
        if apart {
            // The order of arrivals is the threads' own.
            server = Server::with(workers, Delivery::AsArrived);
            server.engine.keep_apart();
        }
        let mut reference = Reference::default();
        let mut next_id = 0;
        let mut views: Vec<(&str, Arc<Store>)> = queries.iter().map(|q| (*q, server.view(q).1)).collect();
        for round in 0..25 {
            let before = (reference.t.clone(), reference.u.clone());
            let changes = random_changes(&mut rng, &server.catalog.clone(), &mut reference, &mut next_id);
            let late: Vec<_> = if round == 10 {
                // The snapshot is of the epoch before, the epoch's changes are kept back.
                queries.iter().map(|q| (*q, server.begin(q, Emit::OnUpdate))).collect()
            } else {
                vec![]
            };
            let report = server.step(changes, &[]);
            assert!(report.failed.is_empty(), "{:?}", report.failed);
            for (q, (id, view, _)) in late {
                let t: Vec<_> = before.0.iter().map(|r| (*r, 1)).collect();
                let u: Vec<_> = before.1.iter().map(|r| (*r, 1)).collect();
                let t = rows(&schema_of(&server.catalog, "t"), &t);
                let u = u_rows(&schema_of(&server.catalog, "u"), &u);
                let ids = (id_of(&server.catalog, "t"), id_of(&server.catalog, "u"));
                let half = t.num_rows() / 2;
                let rest = t.slice(half, t.num_rows() - half);
                server.engine.hydrate_slice(id, vec![(ids.0, vec![t.slice(0, half)])]).unwrap();
                server.engine.hydrate_slice(id, vec![(ids.1, vec![u]), (ids.0, vec![rest])]).unwrap();
                assert!(server.finish(id).failed.is_empty());
                views.push((q, view));
            }
            for (sql, view) in &views {
                let expected = reference.answer(&server.catalog, sql);
                assert_eq!(view.contents(), expected, "{sql} with {workers} workers in round {round}");
            }
        }
    }
}

/// Hydrations are ended in turns of one batch each while epochs go on; the view must be right when it is revealed
/// and from then on, and nobody may see it before.
fn check_slow_hydrations(queries: &[&str]) {
    for workers in [1, 2, 4] {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut server = Server::new(workers);
        let mut reference = Reference::default();
        let mut next_id = 0;
        let mut waiting = Vec::new();
        let mut views: Vec<(&str, Arc<Store>)> = Vec::new();
        for round in 0..60 {
            let before = (reference.t.clone(), reference.u.clone());
            if round == 8 {
                for q in queries {
                    let (id, view, _) = server.begin(q, Emit::OnUpdate);
                    let t: Vec<_> = before.0.iter().map(|r| (*r, 1)).collect();
                    let u: Vec<_> = before.1.iter().map(|r| (*r, 1)).collect();
                    let t = rows(&schema_of(&server.catalog, "t"), &t);
                    let u = u_rows(&schema_of(&server.catalog, "u"), &u);
                    let ids = (id_of(&server.catalog, "t"), id_of(&server.catalog, "u"));
                    server.engine.hydrate_slice(id, vec![(ids.0, vec![t])]).unwrap();
                    server.engine.hydrate_slice(id, vec![(ids.1, vec![u])]).unwrap();
                    waiting.push((*q, id, view));
                }
            }
            let changes = random_changes(&mut rng, &server.catalog.clone(), &mut reference, &mut next_id);
            let changes = if round < 20 || round % 4 == 0 { changes } else { vec![] };
            if changes.is_empty() {
                (reference.t, reference.u) = before;
            }
            let report = server.step(changes, &[]);
            assert!(report.failed.is_empty(), "{:?}", report.failed);
            let input = EpochInput {
                epoch: Epoch(server.epoch),
                now: EventTime(server.epoch as i64),
                ..EpochInput::default()
            };
            waiting.retain(|(q, id, view)| {
                assert!(!*view.revealed.lock());
                // A turn is one batch through one operator on each worker.
                let mut turns = (0..200).map(|_| {
                    server.engine.finish_some(*id, &input, Some(std::time::Duration::ZERO)).unwrap()
                });
                let turn = turns.find_map(|turn| turn);
                if let Some(report) = &turn {
                    assert!(report.failed.is_empty(), "{q}: {:?}", report.failed);
                    views.push((q, view.clone()));
                }
                turn.is_none()
            });
            for (sql, view) in &views {
                let expected = reference.answer(&server.catalog, sql);
                assert_eq!(view.contents(), expected, "{sql} with {workers} workers in round {round}");
            }
        }
        let left: Vec<&str> = waiting.iter().map(|(q, ..)| *q).collect();
        assert!(left.is_empty(), "every hydration comes to its end with {workers} workers: {left:?}");
    }
}

#[test]
fn views_filled_in_turns_of_one_batch_are_right_when_they_are_revealed() {
    check_slow_hydrations(&[
        "SELECT id, v FROM t WHERE v > 1",
        "SELECT g, count(*), sum(v) FROM t GROUP BY g",
        "SELECT t.id, u.w FROM t LEFT JOIN u ON t.v = u.k",
        "SELECT v FROM t EXCEPT SELECT k FROM u",
    ]);
}

#[test]
fn a_hydration_given_up_half_way_leaves_nothing_behind() {
    for workers in [1, 4] {
        let mut server = Server::new(workers);
        let t = schema_of(&server.catalog, "t");
        let (id, view, _) = server.begin("SELECT g, count(*) FROM t GROUP BY g", Emit::OnUpdate);
        let all: Vec<_> = (0..50).map(|i| ((Some(i), NAMES[i as usize % 5], Some(1), Some(1)), 1)).collect();
        let relation = id_of(&server.catalog, "t");
        server.engine.hydrate_slice(id, vec![(relation, vec![rows(&t, &all)])]).unwrap();
        let input = EpochInput { epoch: Epoch(1), ..EpochInput::default() };
        let turn = server.engine.finish_some(id, &input, Some(std::time::Duration::ZERO)).unwrap();
        assert!(turn.is_none());
        server.engine.drop(id);
        assert!(!*view.revealed.lock());
        let (_, again, _) = server.view("SELECT g, count(*) FROM t GROUP BY g");
        server.step(vec![("t", vec![rows(&t, &all)])], &[]);
        assert_eq!(again.contents().len(), 5);
    }
}

#[test]
fn filters_unions_distinct_and_top_k_equal_recomputation_for_any_number_of_workers() {
    check_queries(&[
        "SELECT v, g FROM t WHERE v > 2",
        "SELECT g FROM t UNION ALL SELECT w FROM u",
        "SELECT DISTINCT g, v FROM t",
        "SELECT g FROM t UNION SELECT w FROM u",
        "SELECT id, v FROM t ORDER BY v DESC NULLS LAST, id LIMIT 5",
        "SELECT 1 AS one, 'x' AS x",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(a, b) WHERE a > 1",
    ]);
}

#[test]
fn joins_and_groups_equal_recomputation_for_any_number_of_workers() {
    check_queries(&[
        "SELECT g, count(*), sum(v), min(v), max(id), count(DISTINCT v) FROM t GROUP BY g",
        "SELECT count(*), sum(v) FILTER (WHERE g = 'a') FROM t",
        "SELECT g, count(*) FROM t GROUP BY g HAVING count(*) > 2",
        "SELECT t.id, u.w FROM t JOIN u ON t.v = u.k",
        "SELECT t.id, u.w FROM t JOIN u ON t.v = u.k AND t.g < u.w WHERE t.id > 3",
        "SELECT t.id, u.k FROM t, u WHERE t.v < u.k AND t.g = 'a'",
        "SELECT a.id, b.id, u.w FROM t a, t b, u WHERE a.v = b.v AND a.g = 'a' AND b.g = 'b' AND u.k = a.v",
        "SELECT u.w, count(*) AS n, sum(t.v) FROM t JOIN u ON t.v = u.k GROUP BY u.w",
        "SELECT id FROM t WHERE v IN (SELECT k FROM u WHERE w = 'a')",
        "SELECT max(n) FROM (SELECT g, count(*) AS n FROM t GROUP BY g) q",
        "SELECT t.id FROM t JOIN (SELECT g, max(v) AS m FROM t GROUP BY g) q ON t.g = q.g AND t.v = q.m",
        "SELECT g, g AS h, v + 1 AS x, count(*) FROM t GROUP BY g, v + 1",
        "SELECT count(*) FROM u, t",
    ]);
}

#[test]
fn outer_and_anti_joins_equal_recomputation_for_any_number_of_workers() {
    check_queries(&[
        "SELECT t.id, u.w FROM t LEFT JOIN u ON t.v = u.k",
        "SELECT t.id, u.w FROM t LEFT JOIN u ON t.v = u.k AND u.w <> 'a'",
        "SELECT t.g, u.k FROM t RIGHT JOIN u ON t.v = u.k",
        "SELECT t.id, u.k, u.w FROM t FULL JOIN u ON t.v = u.k",
        "SELECT u.w, count(t.id) FROM u LEFT JOIN t ON t.v = u.k GROUP BY u.w",
        "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.v)",
        "SELECT a.id, b.g FROM t a LEFT JOIN t b ON a.v = b.id",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.k = t.v AND t.id > 5 AND u.w > 'a')",
        "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.k = t.v AND u.w > 'a')",
        "SELECT g FROM t EXCEPT SELECT w FROM u",
        "SELECT g FROM t INTERSECT SELECT w FROM u",
        "SELECT id FROM t WHERE v > (SELECT min(k) FROM u)",
        "SELECT id FROM t WHERE v = (SELECT max(v) FROM t)",
    ]);
}

#[test]
fn windows_are_shown_once_when_the_watermark_passes_their_end() {
    for workers in [1, 2, 4] {
        let mut server = Server::new(workers);
        let sql = "SELECT date_bin(INTERVAL '10 microseconds', ts) AS b, count(*) AS n FROM s GROUP BY 1";
        let (id, view, _) = server.begin(sql, Emit::OnWindowClose);
        server.finish(id);
        let s = schema_of(&server.catalog, "s");
        let at = |t: i64| ((Some(t), Some("a"), Some(1), Some(t)), 1);
        server.step(vec![("s", vec![rows(&s, &[at(1), at(9), at(10), at(25)])])], &[("s", 9)]);
        assert!(view.contents().is_empty());
        server.step(vec![], &[("s", 10)]);
        assert_eq!(view.contents().values().sum::<i64>(), 1);
        server.step(vec![("s", vec![rows(&s, &[at(11)])])], &[("s", 30)]);
        let shown: Vec<String> = view.contents().into_keys().collect();
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown.iter().filter(|r| r.ends_with("|2")).count() == 2, "{shown:?}");
    }
}

#[test]
fn a_panic_on_one_worker_stops_the_dataflow_on_all_and_nobody_waits() {
    for workers in [1, 2, 4] {
        let mut server = Server::new(workers);
        let (_, good_view, _) = server.view("SELECT g, count(*) FROM t GROUP BY g");
        let mut plan = (*server.plan("SELECT g, count(*) FROM t GROUP BY g", Emit::OnUpdate)).clone();
        for node in &mut plan.nodes {
            if let crate::plan::Op::Input { columns, .. } = &mut node.op {
                *columns = vec![99];
            }
        }
        let id = server.catalog.allocate_id();
        let view = Arc::new(Store::default());
        let target = Target::View(view.clone(), Arc::new(Store::default()));
        server
            .engine
            .create(DataflowSpec { id, plan: Arc::new(plan), target, keep_changelog: false })
            .unwrap();
        assert!(server.finish(id).failed.is_empty());
        let t = schema_of(&server.catalog, "t");
        // One small batch: a single worker reads it.
        let report = server.step(vec![("t", vec![rows(&t, &[((Some(1), Some("a"), None, None), 1)])])], &[]);
        assert_eq!(report.failed.iter().map(|(i, _)| *i).collect::<Vec<_>>(), vec![id]);
        assert_eq!(good_view.contents(), BTreeMap::from([("a|1".to_string(), 1)]));
        let more = server.step(vec![("t", vec![rows(&t, &[((Some(2), Some("a"), None, None), 1)])])], &[]);
        assert!(more.failed.is_empty());
        assert_eq!(good_view.contents(), BTreeMap::from([("a|2".to_string(), 1)]));
    }
}

#[test]
fn views_on_views_see_each_others_changes_in_the_same_epoch() {
    for workers in [1, 2, 3] {
        let mut server = Server::new(workers);
        let (first, ..) = server.view("SELECT id, g, v, at FROM t WHERE v > 1");
        // A view under the name of `s2`'s shape: read the first view through its id.
        let sql = "SELECT DISTINCT g FROM t";
        let mut plan = (*server.plan(sql, Emit::OnUpdate)).clone();
        for node in &mut plan.nodes {
            if let crate::plan::Op::Input { relation, .. } = &mut node.op {
                *relation = first;
            }
        }
        let id = server.catalog.allocate_id();
        let view = Arc::new(Store::default());
        let target = Target::View(view.clone(), Arc::new(Store::default()));
        server
            .engine
            .create(DataflowSpec { id, plan: Arc::new(plan), target, keep_changelog: true })
            .unwrap();
        server.finish(id);
        let t = schema_of(&server.catalog, "t");
        let batch =
            rows(&t, &[((Some(1), Some("a"), Some(2), None), 1), ((Some(2), Some("b"), Some(0), None), 1)]);
        let report = server.step(vec![("t", vec![batch])], &[]);
        assert_eq!(view.contents(), BTreeMap::from([("a".to_string(), 1)]));
        assert_eq!(report.changelogs.iter().map(|(i, _)| *i).collect::<Vec<_>>(), vec![first, id]);
    }
}

#[test]
fn temporal_filters_act_when_their_timer_is_due() {
    for workers in [1, 3] {
        let mut server = Server::new(workers);
        let (_, view, _) = server.view("SELECT id FROM t WHERE at > now() - INTERVAL '0.00001 seconds'");
        let t = schema_of(&server.catalog, "t");
        let some = rows(&t, &[((Some(1), None, None, Some(5)), 1), ((Some(2), None, None, Some(20)), 1)]);
        // now = 1: both are younger than 10 µs.
        let report = server.step(vec![("t", vec![some])], &[]);
        assert_eq!(view.contents().len(), 2);
        assert_eq!(report.next_timer, Some(EventTime(15)));
        server.epoch = 14;
        let report = server.step(vec![], &[]);
        assert_eq!(view.contents().keys().collect::<Vec<_>>(), ["2"]);
        assert_eq!(report.next_timer, Some(EventTime(30)));
    }
}

#[test]
fn a_failing_dataflow_stops_alone_and_its_view_keeps_the_last_state() {
    for workers in [1, 3] {
        let mut server = Server::new(workers);
        let (good, good_view, _) = server.view("SELECT id FROM t");
        let (bad, bad_view, _) = server.view("SELECT DISTINCT g FROM t");
        let t = schema_of(&server.catalog, "t");
        let one = rows(&t, &[((Some(1), Some("a"), None, None), 1)]);
        assert!(server.step(vec![("t", vec![one])], &[]).failed.is_empty());
        // The store of the second view refuses what was never there.
        let gone = rows(&t, &[((Some(2), Some("b"), None, None), 1), ((Some(3), Some("b"), None, None), 1)]);
        bad_view.rows.lock().insert((0, "poison".into()), -1);
        let report = server.step(vec![("t", vec![gone])], &[]);
        assert_eq!(report.failed.iter().map(|(i, _)| *i).collect::<Vec<_>>(), vec![bad]);
        assert_eq!(good_view.contents().len(), 3);
        assert!(server.engine.contains(good) && !server.engine.contains(bad));
        let more = rows(&t, &[((Some(4), Some("c"), None, None), 1)]);
        assert!(server.step(vec![("t", vec![more])], &[]).failed.is_empty());
        assert!(!bad_view.contents().contains_key("c"));
    }
}

#[test]
fn errors_of_rows_are_data_and_are_retracted_with_their_rows() {
    for workers in [1, 4] {
        let mut server = Server::new(workers);
        let (_, view, errors) = server.view("SELECT id, 10 / v AS x FROM t");
        let t = schema_of(&server.catalog, "t");
        let bad = ((Some(1), Some("a"), Some(0), None), 1);
        let good = ((Some(2), Some("a"), Some(5), None), 1);
        let report = server.step(vec![("t", vec![rows(&t, &[bad]), rows(&t, &[good])])], &[]);
        assert!(report.failed.is_empty());
        assert_eq!(errors.contents().len(), 1);
        assert_eq!(view.contents(), BTreeMap::from([("2|2".to_string(), 1)]));
        // The retraction comes in the second batch, which another worker reads.
        server.step(
            vec![("t", vec![rows(&t, &[((Some(9), None, Some(1), None), 1)]), rows(&t, &[(bad.0, -1)])])],
            &[],
        );
        assert!(errors.contents().is_empty());
    }
}

#[test]
fn the_largest_dataflow_is_stopped_when_memory_is_short() {
    let mut server = Server::new(2);
    let (small, ..) = server.view("SELECT DISTINCT g FROM t");
    let (large, ..) = server.view("SELECT DISTINCT id, g FROM t");
    let t = schema_of(&server.catalog, "t");
    let many: Vec<_> = (0..5000).map(|i| ((Some(i), Some("a"), None, None), 1)).collect();
    server.step(vec![("t", vec![rows(&t, &many)])], &[]);
    let held = server.engine.state_bytes();
    assert!(held > 0);
    server.engine.set_memory_limit(Some(held / 2));
    let report = server.step(vec![("t", vec![rows(&t, &[((Some(-1), Some("b"), None, None), 1)])])], &[]);
    assert_eq!(report.failed.len(), 1);
    assert_eq!((report.failed[0].0, report.failed[0].1.kind()), (large, ErrorKind::OutOfMemory));
    assert!(server.engine.contains(small));
}

#[test]
fn idle_dataflows_cost_nothing_and_figures_count_rows() {
    let mut server = Server::new(1);
    let (used, ..) = server.view("SELECT id FROM t WHERE v > 1");
    let (idle, ..) = server.view("SELECT k FROM u");
    let t = schema_of(&server.catalog, "t");
    server.step(vec![("t", vec![rows(&t, &[((Some(1), None, Some(5), None), 1)])])], &[]);
    let stats = server.engine.stats();
    let of = |id| stats.iter().find(|s| s.id == id).unwrap();
    assert_eq!((of(used).epochs, of(idle).epochs), (2, 1));
    assert_eq!(of(used).nodes[0].rows_out, 1);
    server.engine.drop(used);
    assert_eq!(server.engine.stats().len(), 1);
}

#[test]
#[ignore = "a measurement"]
fn an_epoch_among_a_thousand_idle_views() {
    for workers in [1, 2] {
        let mut server = Server::new(workers);
        for _ in 0..1000 {
            server.view("SELECT w, count(*) FROM u GROUP BY w");
        }
        server.view("SELECT g, count(*) FROM t GROUP BY g");
        let t = schema_of(&server.catalog, "t");
        let batch = rows(&t, &[((Some(1), Some("a"), Some(5), None), 1)]);
        let rounds = 2000;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            server.step(vec![("t", vec![batch.clone()])], &[]);
        }
        println!("{workers} workers: {:?} per epoch", start.elapsed() / rounds);
    }
}
