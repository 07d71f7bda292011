//! INSERT, UPDATE, DELETE, MERGE, TRUNCATE: the rows they write, computed at the transaction's snapshot.
//!
//! A statement's changes go into the transaction's buffer; NOT NULL, CHECK and duplicate keys are looked at here so
//! that the error belongs to its statement, and keys once more when the epoch is sealed.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute;
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;

use crate::catalog::{Object, ObjectBody};
use crate::coord::backend::{Outcome, RowsTag};
use crate::coord::command::{DdlOp, TableWrite};
use crate::coord::ddl;
use crate::coord::select::Bound;
use crate::coord::session::{Parsed, Session, command};
use crate::coord::{constraint, rows, sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ScalarExpr;
use crate::sql::bind;
use crate::sql::bind::dml::{BoundDml, DmlKind, Identity, Returning};
use crate::sql::statement::Truncate;
use crate::zset::ZBatch;
use crate::zset::key::RowEncoder;

/// Own changes of a table up to this many rows are looked at for duplicate keys with every statement.
const EAGER_CHECK_ROWS: usize = 10_000;

impl Session {
    /// INSERT, UPDATE, DELETE and MERGE.
    pub(super) async fn dml(&mut self, parsed: &Arc<Parsed>, params: Vec<ScalarValue>) -> Result<Outcome> {
        let tag = parsed.statement().tag();
        self.check_writable(tag)?;
        let prepared = self.bound(parsed, &[])?;
        let Bound::Dml(dml) = &prepared.bound else {
            return Err(Error::internal("a query bound as DML"));
        };
        let shared = self.shared().clone();
        let table = self
            .transaction()
            .catalog(&shared)
            .get(dml.table)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::UndefinedTable, "the table has been dropped"))?;
        let quick = if params.len() == dml.param_types.len() {
            rows::of_constant_plan(&dml.source, None, &params)?
        } else {
            None
        };
        let (dml, batches) = match quick {
            Some(batch) => (dml.with_values(&params)?, vec![batch]),
            None => {
                let bound = dml.with_params(&params)?;
                let batches = self.source_rows(bound.source.clone()).await?;
                (bound, batches)
            }
        };
        let batches = match &dml.identity {
            Identity::Distinct => batches,
            Identity::Columns(columns) => first_of_each(&batches, columns)?,
        };
        let change = match (&dml.conflict, &dml.merge) {
            (Some(conflict), _) => self.upsert(&table, conflict, batches)?,
            (_, Some(merge)) => self.merge_rows(&table, merge, batches)?,
            _ => self.change_of(&table, &dml, batches)?,
        };
        let count = change.count;
        let answer = match &dml.returning {
            Some(r) => Some((evaluate_returning(r, &change.shown)?, r.columns.clone())),
            None => None,
        };
        self.write_change(&table, change.writes, dml.conflict.is_some())?;
        let word = if dml.kind == DmlKind::Insert { "INSERT 0" } else { tag };
        match answer {
            None => Ok(command(format!("{word} {count}"))),
            Some((batches, columns)) => Ok(Outcome::Rows {
                columns: columns.into(),
                stream: Box::pin(futures::stream::iter(batches.into_iter().map(Ok))),
                tag: RowsTag::counted(word),
            }),
        }
    }

    /// The rows that a DML statement's plan gives.
    pub(super) async fn source_rows(&mut self, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
        let shared = self.shared().clone();
        let snapshot = self.transaction().snapshot(&shared);
        self.run_plan(plan, &snapshot)?.try_collect().await
    }

    /// The change that the source rows amount to, checked for NOT NULL and CHECK.
    fn change_of(&mut self, table: &Object, dml: &BoundDml, batches: Vec<RecordBatch>) -> Result<Change> {
        let width = table.columns.len();
        let schema = table.arrow_schema();
        let mut change = Change::default();
        for batch in batches.into_iter().filter(|b| b.num_rows() > 0) {
            change.count += batch.num_rows();
            let part = |from: usize| -> Result<RecordBatch> {
                rows::conform(&batch.columns()[from..from + width], &schema, batch.num_rows(), table)
            };
            let shown = match dml.kind {
                DmlKind::Insert => {
                    let new = part(0)?;
                    self.check_rows(table, &new)?;
                    change.writes.push(ZBatch::inserts(new.clone()));
                    new
                }
                DmlKind::Delete => {
                    let old = rows::unchecked(&batch.columns()[..width], &schema)?;
                    change.writes.push(ZBatch::deletes(old.clone()));
                    old
                }
                DmlKind::Update => {
                    let old = rows::unchecked(&batch.columns()[..width], &schema)?;
                    let new = part(width)?;
                    self.check_rows(table, &new)?;
                    change.writes.push(ZBatch::deletes(old));
                    change.writes.push(ZBatch::inserts(new.clone()));
                    new
                }
                DmlKind::Merge => return Err(Error::internal("MERGE without its steps")),
            };
            let extras = &batch.columns()[dml.extras.clone()];
            change.shown.push([shown.columns(), extras].concat());
        }
        Ok(change)
    }

    /// CHECK constraints. (NOT NULL is checked where rows are brought into the table's types.)
    pub(super) fn check_rows(&mut self, table: &Object, batch: &RecordBatch) -> Result<()> {
        let ObjectBody::Table { checks, .. } = &table.body else { return Ok(()) };
        if checks.is_empty() {
            return Ok(());
        }
        let context = self.bind_context(Vec::new());
        for (name, text) in checks {
            let held = bind::bind_check(text, &table.columns, &context)?.evaluate(batch)?;
            let held = held.as_boolean();
            if let Some(row) = (0..held.len()).find(|i| held.is_valid(*i) && !held.value(*i)) {
                return Err(Error::new(
                    ErrorKind::CheckViolation,
                    format!("new row for relation \"{}\" violates check constraint \"{name}\"", table.name),
                )
                .with_detail(format!("Failing row contains ({}).", rows::describe(batch, row)))
                .with_table(table.schema.clone(), table.name.clone())
                .with_constraint(name.clone()));
            }
        }
        Ok(())
    }

    /// Puts changes of a table into the transaction.
    pub(super) fn write(&mut self, table: &Arc<Object>, changes: Vec<ZBatch>) -> Result<()> {
        self.write_change(table, changes, false)
    }

    fn write_change(&mut self, table: &Arc<Object>, changes: Vec<ZBatch>, upsert: bool) -> Result<()> {
        if let ObjectBody::Table { append_only: true, .. } = table.body
            && changes.iter().any(|c| c.weights().is_some())
        {
            return Err(Error::new(
                ErrorKind::ObjectNotInState,
                format!("cannot change rows of append-only table \"{}\"", table.name),
            )
            .with_hint("A table with a watermark or APPEND ONLY takes INSERT only."));
        }
        let shared = self.shared().clone();
        let transaction = self.transaction();
        let before: usize = transaction.own_rows(table.id);
        let object = table.clone();
        let writes = changes.into_iter().map(|change| TableWrite {
            table: object.id,
            change,
            object: object.clone(),
            upsert,
            locked: false,
        });
        let mark = transaction.mark();
        transaction.write(writes);
        let keys = transaction.catalog(&shared).unique_keys(table);
        if keys.is_empty() || before > EAGER_CHECK_ROWS {
            return Ok(());
        }
        let epoch = transaction.epoch(&shared);
        let Some(relation) = transaction.relation(&shared, table.id) else { return Ok(()) };
        if relation.schema().fields().len() < table.columns.len() {
            // Altered in this transaction: checked when it commits.
            return Ok(());
        }
        let Some(own) = transaction.own_changes(table.id)? else { return Ok(()) };
        if let Err(e) = constraint::check(table, &keys, &relation, epoch, &own) {
            transaction.back_to(mark);
            return Err(e);
        }
        Ok(())
    }

    /// All rows of a table that the transaction sees go.
    pub(super) fn empty(&mut self, table: &Arc<Object>) -> Result<()> {
        let shared = self.shared().clone();
        let transaction = self.transaction();
        let epoch = transaction.epoch(&shared);
        let relation = transaction.relation(&shared, table.id);
        let rows = transaction.overlay(table.id, relation.as_deref(), epoch)?;
        self.write(table, rows.into_iter().filter(|b| b.num_rows() > 0).map(ZBatch::deletes).collect())
    }

    /// TRUNCATE: all rows that the transaction sees go.
    pub(super) fn truncate(&mut self, truncate: &Truncate) -> Result<Outcome> {
        self.check_writable("TRUNCATE TABLE")?;
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let mut tables = Vec::with_capacity(truncate.tables.len());
        for name in &truncate.tables {
            let table = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
            if !matches!(table.body, ObjectBody::Table { .. }) {
                return Err(Error::new(
                    ErrorKind::WrongObjectType,
                    format!("\"{}\" is not a table", table.name),
                ));
            }
            tables.push(table);
        }
        for table in tables {
            self.empty(&table)?;
            if !truncate.restart_identity {
                continue;
            }
            for owned in catalog.dependents(table.id) {
                if let ObjectBody::Sequence(spec) = &owned.body {
                    self.transaction().add(DdlOp::Sequence(owned.id, sequence::first(spec)));
                }
            }
        }
        Ok(command("TRUNCATE TABLE"))
    }
}

/// What a statement does to its table.
#[derive(Default)]
pub(super) struct Change {
    pub(super) writes: Vec<ZBatch>,
    /// The rows that RETURNING is about, column by column.
    pub(super) shown: Vec<Vec<ArrayRef>>,
    /// How many rows it is about.
    pub(super) count: usize,
}

/// The first row for each combination of values in some columns.
fn first_of_each(batches: &[RecordBatch], columns: &[usize]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let encoder = RowEncoder::new(columns.iter().map(|c| first.column(*c).data_type().clone()))?;
    let mut seen: HashSet<Box<[u8]>> = HashSet::new();
    batches
        .iter()
        .map(|batch| {
            let key: Vec<ArrayRef> = columns.iter().map(|c| batch.column(*c).clone()).collect();
            let rows = encoder.encode(&key)?;
            let mask: BooleanArray = rows.iter().map(|row| Some(seen.insert(row.data().into()))).collect();
            Ok(compute::filter_record_batch(batch, &mask)?)
        })
        .collect()
}

fn evaluate_returning(returning: &Returning, shown: &[Vec<ArrayRef>]) -> Result<Vec<RecordBatch>> {
    let compiled = returning
        .exprs
        .iter()
        .map(|e| ScalarExpr::compile(e, &returning.schema))
        .collect::<Result<Vec<_>>>()?;
    let fields: Vec<_> = compiled
        .iter()
        .zip(&returning.columns)
        .map(|(e, c)| e.field().as_ref().clone().with_name(&c.name).with_nullable(true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    shown
        .iter()
        .map(|columns| {
            let batch = rows::over(&returning.schema, columns)?;
            let columns = compiled.iter().map(|e| e.evaluate(&batch)).collect::<Result<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
        })
        .collect()
}

/// Casts a column to the type it is stored in, if it is not of it already.
pub(super) fn stored(
    array: &dyn Array,
    wanted: &arrow::datatypes::DataType,
) -> Result<arrow::array::ArrayRef> {
    let options = compute::CastOptions { safe: false, ..Default::default() };
    Ok(compute::cast_with_options(array, wanted, &options)?)
}
