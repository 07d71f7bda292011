//! INSERT, UPDATE, DELETE, TRUNCATE: the rows they write, computed at the transaction's snapshot.
//!
//! A statement's changes go into the transaction's buffer; NOT NULL, CHECK and duplicate keys are looked at here so
//! that the error belongs to its statement, and keys once more when the epoch is sealed.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::TryStreamExt;

use crate::catalog::{Object, ObjectBody};
use crate::coord::backend::{Outcome, RowsTag};
use crate::coord::command::TableWrite;
use crate::coord::ddl;
use crate::coord::select::Bound;
use crate::coord::session::{Parsed, Session, command};
use crate::coord::{constraint, rows};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ScalarExpr;
use crate::sql::bind;
use crate::sql::bind::dml::{BoundDml, DmlKind};
use crate::sql::statement::Truncate;
use crate::zset::ZBatch;

/// Own changes of a table up to this many rows are looked at for duplicate keys with every statement.
const EAGER_CHECK_ROWS: usize = 10_000;

impl Session {
    /// INSERT, UPDATE and DELETE.
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
        let (batches, returning) = match quick {
            Some(batch) => (vec![batch], dml.returning_with_params(&params)?),
            None => {
                let (plan, returning) = dml.with_params(&params)?;
                (self.source_rows(plan).await?, returning)
            }
        };
        let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let change = self.change_of(&table, dml, batches)?;
        let answer = match (&returning, &dml.returning) {
            (Some(exprs), Some(r)) => {
                Some((evaluate_returning(exprs, dml, &change.shown)?, r.columns.clone()))
            }
            _ => None,
        };
        self.write(&table, change.writes)?;
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
    async fn source_rows(&mut self, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
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
            let part = |from: usize| -> Result<RecordBatch> {
                rows::conform(&batch.columns()[from..from + width], &schema, batch.num_rows(), table)
            };
            match dml.kind {
                DmlKind::Insert => {
                    let new = part(0)?;
                    self.check_rows(table, &new)?;
                    change.writes.push(ZBatch::inserts(new.clone()));
                    change.shown.push(new);
                }
                DmlKind::Delete => {
                    let old = rows::unchecked(&batch.columns()[..width], &schema)?;
                    change.writes.push(ZBatch::deletes(old.clone()));
                    change.shown.push(old);
                }
                DmlKind::Update => {
                    let old = rows::unchecked(&batch.columns()[..width], &schema)?;
                    let new = part(width)?;
                    self.check_rows(table, &new)?;
                    change.writes.push(ZBatch::deletes(old));
                    change.writes.push(ZBatch::inserts(new.clone()));
                    change.shown.push(new);
                }
            }
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
    pub(super) fn write(&mut self, table: &Object, changes: Vec<ZBatch>) -> Result<()> {
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
        let writes = changes.into_iter().map(|change| TableWrite { table: table.id, change });
        let mark = transaction.mark();
        transaction.write(writes);
        if table.unique_key().is_empty() || before > EAGER_CHECK_ROWS {
            return Ok(());
        }
        let epoch = transaction.epoch(&shared);
        let Some(relation) = transaction.relation(&shared, table.id) else { return Ok(()) };
        let Some(own) = transaction.own_changes(table.id)? else { return Ok(()) };
        if let Err(e) = constraint::check(table, &relation, epoch, &own) {
            transaction.back_to(mark);
            return Err(e);
        }
        Ok(())
    }

    /// TRUNCATE: all rows that the transaction sees go.
    pub(super) fn truncate(&mut self, truncate: &Truncate) -> Result<Outcome> {
        self.check_writable("TRUNCATE TABLE")?;
        let shared = self.shared().clone();
        for name in &truncate.tables {
            let catalog = self.transaction().catalog(&shared);
            let table = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
            if !matches!(table.body, ObjectBody::Table { .. }) {
                return Err(Error::new(
                    ErrorKind::WrongObjectType,
                    format!("\"{}\" is not a table", table.name),
                ));
            }
            let transaction = self.transaction();
            let epoch = transaction.epoch(&shared);
            let relation = transaction.relation(&shared, table.id);
            let rows = transaction.overlay(table.id, relation.as_deref(), epoch)?;
            self.write(&table, rows.into_iter().filter(|b| b.num_rows() > 0).map(ZBatch::deletes).collect())?;
        }
        Ok(command("TRUNCATE TABLE"))
    }
}

#[derive(Default)]
struct Change {
    writes: Vec<ZBatch>,
    /// The rows that RETURNING is about.
    shown: Vec<RecordBatch>,
}

fn evaluate_returning(exprs: &[Expr], dml: &BoundDml, shown: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(returning) = &dml.returning else { return Ok(Vec::new()) };
    let compiled =
        exprs.iter().map(|e| ScalarExpr::compile(e, &returning.schema)).collect::<Result<Vec<_>>>()?;
    let fields: Vec<_> = compiled
        .iter()
        .zip(&returning.columns)
        .map(|(e, c)| e.field().as_ref().clone().with_name(&c.name).with_nullable(true))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    shown
        .iter()
        .map(|batch| {
            let columns = compiled.iter().map(|e| e.evaluate(batch)).collect::<Result<Vec<_>>>()?;
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
