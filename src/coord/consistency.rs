//! CHECK MATERIALIZED VIEW: the view against its query, run from scratch at the same epoch.
//!
//! The answer is the rows that differ: `difference` 1 for a row the view lacks, -1 for one it should not have. No
//! rows: the view is right. Sums of floating-point numbers depend on the order of addition in the last digits, so
//! rows that agree in everything else may differ there by one part in 10⁹.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit};
use futures::TryStreamExt;

use crate::catalog::{Object, ObjectBody};
use crate::coord::backend::{Outcome, OutputColumn, RowsTag};
use crate::coord::command::Command;
use crate::coord::ddl;
use crate::coord::introspect::Stats;
use crate::coord::session::Session;
use crate::coord::transaction::Snapshot;
use crate::dataflow::{DataflowSpec, Engine, EpochInput, Target as EngineTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::sql::bind::{self, BindContext};
use crate::sql::statement::{Emit, Name};
use crate::store::relation::Relation;
use crate::time::Watermark;
use crate::types::PgType;
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;
use crate::zset::key::RowEncoder;

/// Relative difference that two sums of the same floating-point numbers may have.
const TOLERANCE: f64 = 1e-9;

impl Session {
    /// The materialized view of this name.
    pub(super) fn named_view(&mut self, name: &Name) -> Result<Arc<Object>> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let object = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
        if !matches!(object.body, ObjectBody::MaterializedView { .. }) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("\"{}\" is not a materialized view", object.name),
            ));
        }
        Ok(object)
    }

    /// The columns that CHECK MATERIALIZED VIEW gives.
    pub(super) fn check_columns(&mut self, name: &Name) -> Result<Vec<OutputColumn>> {
        let view = self.named_view(name)?;
        let mut columns = vec![OutputColumn::computed("difference", PgType::INT8)];
        columns.extend(view.columns.iter().map(|c| OutputColumn::computed(&c.name, c.pg_type())));
        Ok(columns)
    }

    pub(super) async fn check_view(&mut self, name: &Name) -> Result<Outcome> {
        let view = self.named_view(name)?;
        let columns = self.check_columns(name)?;
        let ObjectBody::MaterializedView { query, emit_on_window_close, watermark_columns, .. } = &view.body
        else {
            return Err(Error::internal("not a materialized view"));
        };
        let shared = self.shared().clone();
        // Figures of time move with epochs: read them between two looks at the same published epoch.
        let (snapshot, stats) = self.snapshot_with_stats().await?;
        let epoch = snapshot.pin.epoch();
        let relation = snapshot.world.relations.get(&view.id).cloned().ok_or_else(|| {
            Error::unsupported(format!("\"{}\" was created in this transaction", view.name))
        })?;
        if let Some((code, text)) = shared.figures.view(view.id).failure {
            return Err(Error::new(ErrorKind::ObjectNotInState, format!("\"{}\" has stopped", view.name))
                .with_detail(format!("{code}: {text}")));
        }
        let context = BindContext {
            now: epoch.as_time(),
            search_path: view.search_path.clone(),
            written_in: Some(view.clone()),
            ..self.context_over(&snapshot.world.catalog, false)
        };
        let bound = bind::bind_query_text(query, &context)?;
        for id in &bound.depends_on {
            if let Some(o) = snapshot.world.catalog.get(*id)
                && matches!(o.body, ObjectBody::Source { keeps_history: false, .. })
            {
                return Err(Error::unsupported(format!(
                    "source \"{}\" keeps no history to check against",
                    o.name
                )));
            }
        }
        let schema = relation.schema().clone();
        let from_scratch = match self.run_plan(bound.plan.clone(), &snapshot) {
            Ok(stream) => stream.try_collect::<Vec<RecordBatch>>().await,
            Err(e) => Err(e),
        };
        let expected = match from_scratch {
            Ok(rows) if *emit_on_window_close => {
                let watermark = self.watermark_of(&view, &snapshot.world.catalog, &stats);
                rows.iter()
                    .map(|b| only_closed(b, watermark_columns, watermark))
                    .collect::<Result<Vec<_>>>()?
            }
            Ok(rows) => rows,
            // A row of the query fails, which the ad hoc engine answers with an error and the view with a row
            // of its `$errors`: a dataflow made for this one check leaves it out as well.
            Err(e) if is_data_error(&e) => self.by_fresh_dataflow(&view, query, &snapshot, &stats)?,
            Err(e) => return Err(e),
        };
        let mut all = Vec::with_capacity(expected.len() + 8);
        for batch in expected {
            all.push(ZBatch::inserts(conform(&batch, &schema)?));
        }
        all.extend(relation.snapshot(epoch).batches(None)?.into_iter().map(ZBatch::deletes));
        let difference = tolerate(consolidate(&schema, &all)?)?;
        let rows = difference_rows(&difference)?;
        Ok(Outcome::Rows {
            columns: columns.into(),
            stream: Box::pin(futures::stream::iter([Ok(rows)])),
            tag: RowsTag::counted("CHECK"),
        })
    }

    /// The view's rows as a new dataflow computes them from the snapshot in one epoch.
    fn by_fresh_dataflow(
        &mut self,
        view: &Object,
        query: &str,
        snapshot: &Snapshot,
        stats: &Stats,
    ) -> Result<Vec<RecordBatch>> {
        let ObjectBody::MaterializedView { emit_on_window_close, .. } = &view.body else {
            return Err(Error::internal("not a materialized view"));
        };
        let catalog = &snapshot.world.catalog;
        let mut context = self.context_over(catalog, true);
        context.search_path.clone_from(&view.search_path);
        context.written_in = catalog.get(view.id).cloned();
        let bound = bind::bind_query_text(query, &context)?;
        let emit = if *emit_on_window_close { Emit::OnWindowClose } else { Emit::OnUpdate };
        let plan = ddl::plan_query(&bound, catalog, emit)?;
        let epoch = snapshot.pin.epoch();
        let rows = Arc::new(Relation::new("check", plan.schema.clone(), Vec::new(), 1));
        let errors = Arc::new(Relation::new("check", eval_error::schema(), Vec::new(), 1));
        let mut engine = Engine::start(1);
        engine.create(DataflowSpec {
            id: view.id,
            plan: plan.clone(),
            target: EngineTarget::View(rows.clone(), errors),
            keep_changelog: false,
        })?;
        for id in plan.relations() {
            let Some(input) = snapshot.world.relations.get(&id) else { continue };
            let batches = input.snapshot(epoch).batches(None)?.into_iter().map(ZBatch::inserts).collect();
            engine.hydrate_slice(view.id, vec![(id, batches)])?;
        }
        let watermarks = stats
            .watermarks
            .iter()
            .map(|(id, w)| {
                let lateness = catalog.get(*id).and_then(|o| o.watermark()).map_or(0, |s| s.allowed_lateness);
                (*id, Watermark(w.saturating_sub(lateness)))
            })
            .collect();
        let input = EpochInput { epoch, now: epoch.as_time(), changes: Vec::new(), watermarks };
        let report = engine.finish_hydration(view.id, input)?;
        match report.failed.into_iter().next() {
            Some((_, e)) => Err(e),
            None => rows.snapshot(epoch).batches(None),
        }
    }

    async fn snapshot_with_stats(&mut self) -> Result<(Arc<Snapshot>, Stats)> {
        let shared = self.shared().clone();
        for _ in 0..50 {
            let before = shared.epochs.published();
            let stats = self.stats().await?;
            let snapshot = self.transaction().snapshot(&shared);
            if snapshot.pin.epoch() == before {
                return Ok((snapshot, stats));
            }
            self.transaction().refresh();
        }
        // A very busy server: event time may be a moment ahead of the rows.
        let stats = self.stats().await?;
        Ok((self.transaction().snapshot(&shared), stats))
    }

    /// Figures that only the coordinator has.
    pub(super) async fn stats(&mut self) -> Result<Stats> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.shared().send(Command::Stats { reply })?;
        answer.await.map_err(|_| Error::new(ErrorKind::AdminShutdown, "the server is shutting down"))
    }

    /// The least watermark of what a view is built on.
    fn watermark_of(&self, view: &Object, catalog: &crate::catalog::Catalog, stats: &Stats) -> i64 {
        let mut least = i64::MAX;
        let mut todo = view.depends_on.clone();
        while let Some(id) = todo.pop() {
            let Some(o) = catalog.get(id) else { continue };
            match stats.watermarks.iter().find(|(w, _)| *w == id) {
                Some((_, w)) => {
                    let lateness = o.watermark().map_or(0, |s| s.allowed_lateness);
                    least = least.min(w.saturating_sub(lateness));
                }
                None if o.is_stored() && o.depends_on.is_empty() => least = i64::MIN,
                None => todo.extend(o.depends_on.iter().copied()),
            }
        }
        least
    }
}

/// Whether an error is a row's fault (class 22, data exceptions).
fn is_data_error(e: &Error) -> bool {
    e.kind().sqlstate().starts_with("22")
}

/// The rows whose windows are closed.
fn only_closed(batch: &RecordBatch, columns: &[(usize, i64)], watermark: i64) -> Result<RecordBatch> {
    let Some((column, delay)) = columns.first() else {
        return Err(Error::unsupported("the view shows no column that tells when its windows close"));
    };
    let micros = compute::cast(batch.column(*column), &DataType::Timestamp(TimeUnit::Microsecond, None))?;
    let micros = compute::cast(&micros, &DataType::Int64)?;
    let micros = micros.as_primitive::<Int64Type>();
    let closed: BooleanArray =
        micros.iter().map(|v| Some(v.is_some_and(|v| watermark > v.saturating_add(*delay)))).collect();
    Ok(compute::filter_record_batch(batch, &closed)?)
}

/// The same rows in exactly the types of `schema`.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(a, f)| {
            if a.data_type() == f.data_type() { Ok(a.clone()) } else { Ok(compute::cast(a, f.data_type())?) }
        })
        .collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Schema::new(
        schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Takes out pairs of rows that differ only in the last digits of floating-point numbers.
fn tolerate(difference: ZBatch) -> Result<ZBatch> {
    let schema = difference.schema();
    let is_float = |f: &Field| matches!(f.data_type(), DataType::Float32 | DataType::Float64);
    if difference.is_empty() || !schema.fields().iter().any(|f| is_float(f)) {
        return Ok(difference);
    }
    let (mut floats, mut others): (Vec<ArrayRef>, Vec<usize>) = (Vec::new(), Vec::new());
    for (i, f) in schema.fields().iter().enumerate() {
        if is_float(f) {
            floats.push(compute::cast(difference.column(i), &DataType::Float64)?);
        } else {
            others.push(i);
        }
    }
    let floats: Vec<_> = floats.iter().map(|a| a.as_primitive::<Float64Type>()).collect();
    let close = |a: usize, b: usize| {
        floats.iter().all(|f| match (f.is_null(a), f.is_null(b)) {
            (true, true) => true,
            (false, false) => {
                let (x, y) = (f.value(a), f.value(b));
                x == y || (x - y).abs() <= TOLERANCE * x.abs().max(y.abs()) || (x.is_nan() && y.is_nan())
            }
            _ => false,
        })
    };
    let keys: Vec<Vec<u8>> = if others.is_empty() {
        vec![Vec::new(); difference.num_rows()]
    } else {
        let part = difference.project(&others)?;
        let encoder = RowEncoder::new(part.schema().fields().iter().map(|f| f.data_type().clone()))?;
        let rows = encoder.encode(part.columns())?;
        (0..part.num_rows()).map(|i| rows.row(i).as_ref().to_vec()).collect()
    };
    let mut weights: Vec<i64> = (0..difference.num_rows()).map(|i| difference.weight(i)).collect();
    let mut by_key: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        let same = by_key.entry(key).or_default();
        for &j in same.iter() {
            if weights[i] != 0 && weights[j].signum() == -weights[i].signum() && close(i, j) {
                let n = weights[i].abs().min(weights[j].abs());
                weights[j] += n * weights[i].signum();
                weights[i] -= n * weights[i].signum();
            }
        }
        same.push(i);
    }
    let left: BooleanArray = weights.iter().map(|w| Some(*w != 0)).collect();
    ZBatch::try_new(difference.rows().clone(), Some(Int64Array::from(weights)))?.filter(&left)
}

fn difference_rows(difference: &ZBatch) -> Result<RecordBatch> {
    let mut fields = vec![Field::new("difference", DataType::Int64, false)];
    fields.extend(difference.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(difference.weights_or_ones())];
    columns.extend(difference.columns().iter().cloned());
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
