//! INSERT … ON CONFLICT and MERGE: which row becomes what, worked out over whole columns.
//!
//! Keys of the rows to be inserted are looked up all at once, in the table as the transaction sees it; then one pass
//! over row numbers decides, and expressions are evaluated over the rows of each outcome together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{SchemaRef, UInt64Type};
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use crate::catalog::Object;
use crate::catalog::object::UniqueKey;
use crate::coord::dml::{Change, stored};
use crate::coord::rows;
use crate::coord::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::ScalarExpr;
use crate::sql::bind;
use crate::sql::bind::dml::{BoundConflict, BoundMerge, ConflictUpdate, MergeDo};
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;
use crate::zset::key::RowEncoder;

/// What becomes of a row that was to be inserted.
#[derive(Clone, Copy)]
enum Fate {
    Insert,
    /// It meets this row of the table.
    Meets(u32),
    Skip,
}

impl Session {
    /// INSERT … ON CONFLICT.
    pub(super) fn upsert(
        &mut self,
        table: &Arc<Object>,
        conflict: &BoundConflict,
        batches: Vec<RecordBatch>,
    ) -> Result<Change> {
        let schema = table.arrow_schema();
        let mut proposed = Vec::with_capacity(batches.len());
        for batch in batches.iter().filter(|b| b.num_rows() > 0) {
            let rows =
                rows::conform(&batch.columns()[..table.columns.len()], &schema, batch.num_rows(), table)?;
            self.check_rows(table, &rows)?;
            proposed.push(rows);
        }
        let proposed = compute::concat_batches(&schema, &proposed)?;
        if proposed.num_rows() == 0 {
            return Ok(Change::default());
        }
        let mut fates = vec![Fate::Insert; proposed.num_rows()];
        let mut there = RecordBatch::new_empty(schema.clone());
        for key in &conflict.keys {
            // Only DO NOTHING has more than one key, and no use for the rows that are there.
            there = self.rows_of_keys(table, key, &proposed)?;
            meet(key, &proposed, &there, conflict.update.is_some(), &mut fates)?;
        }
        let picked: Vec<u32> =
            (0u32..).zip(&fates).filter_map(|(i, fate)| matches!(fate, Fate::Insert).then_some(i)).collect();
        let inserted = take(&proposed, &picked)?;
        let Some(update) = &conflict.update else {
            return Ok(Change {
                count: inserted.num_rows(),
                shown: vec![inserted.columns().to_vec()],
                writes: vec![ZBatch::inserts(inserted)],
            });
        };
        let (meeting, met): (Vec<u32>, Vec<u32>) = (0u32..)
            .zip(&fates)
            .filter_map(|(i, fate)| match fate {
                Fate::Meets(row) => Some((i, *row)),
                _ => None,
            })
            .unzip();
        let (old, new, kept) =
            self.conflict_update(table, update, &take(&there, &met)?, &take(&proposed, &meeting)?)?;
        let mut once = HashSet::new();
        if kept.iter().any(|k| !once.insert(met[*k as usize])) {
            return Err(second_time("ON CONFLICT DO UPDATE"));
        }
        // RETURNING gives the rows in the order of those that were to be inserted.
        let updated: HashMap<u32, usize> = kept.iter().map(|k| meeting[*k as usize]).zip(0..).collect();
        let mut next = 0;
        let mut order = Vec::with_capacity(fates.len());
        for (i, fate) in (0u32..).zip(&fates) {
            if matches!(fate, Fate::Insert) {
                order.push((0, next));
                next += 1;
            } else if let Some(at) = updated.get(&i) {
                order.push((1, *at));
            }
        }
        let shown = (0..schema.fields().len())
            .map(|c| Ok(compute::interleave(&[inserted.column(c), new.column(c)], &order)?))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let writes = vec![ZBatch::deletes(old), ZBatch::inserts(inserted), ZBatch::inserts(new)];
        Ok(Change {
            count: order.len(),
            shown: vec![shown],
            writes: writes.into_iter().filter(|w| !w.is_empty()).collect(),
        })
    }

    /// The rows of the table, as the transaction sees it, among which are all that have the keys of `proposed`.
    fn rows_of_keys(
        &mut self,
        table: &Arc<Object>,
        key: &UniqueKey,
        proposed: &RecordBatch,
    ) -> Result<RecordBatch> {
        let schema = table.arrow_schema();
        let shared = self.shared().clone();
        let transaction = self.transaction();
        let epoch = transaction.epoch(&shared);
        let relation = transaction.relation(&shared, table.id);
        let usable = relation
            .as_ref()
            .filter(|r| r.has_index(&key.columns) && r.schema().fields().len() == table.columns.len());
        let Some(relation) = usable else {
            let all = transaction.overlay(table.id, relation.as_deref(), epoch)?;
            let all = all.iter().map(|b| under(b, &schema)).collect::<Result<Vec<_>>>()?;
            return Ok(compute::concat_batches(&schema, &all)?);
        };
        let keys: Vec<ArrayRef> = key.columns.iter().map(|c| proposed.column(*c).clone()).collect();
        let there = under(&relation.lookup(&key.columns, &keys, epoch)?, &schema)?;
        let Some(own) = transaction.own_changes(table.id)? else { return Ok(there) };
        let own = own.with_rows(under(own.rows(), &schema)?)?;
        let net = consolidate(&schema, &[ZBatch::inserts(there), own])?;
        let present: Vec<u32> = (0u32..)
            .zip(0..net.num_rows())
            .filter_map(|(row, i)| (net.weight(i) > 0).then_some(row))
            .collect();
        take(net.rows(), &present)
    }

    /// DO UPDATE over pairs of rows: the old rows, the new ones, and which pairs they come from (those that WHERE
    /// lets through).
    fn conflict_update(
        &mut self,
        table: &Object,
        update: &ConflictUpdate,
        there: &RecordBatch,
        proposed: &RecordBatch,
    ) -> Result<(RecordBatch, RecordBatch, Vec<u32>)> {
        let pairs = rows::over(&update.schema, &[there.columns(), proposed.columns()].concat())?;
        let kept: Vec<u32> = match &update.condition {
            None => (0u32..).take(pairs.num_rows()).collect(),
            Some(condition) => selected(condition, &update.schema, &pairs)?,
        };
        let pairs = take(&pairs, &kept)?;
        let old = take(there, &kept)?;
        let new = self.new_rows(table, &update.new_row, &update.schema, &pairs)?;
        Ok((old, new, kept))
    }

    /// Rows computed by expressions, as rows of the table: generated columns computed, constraints checked.
    fn new_rows(
        &mut self,
        table: &Object,
        exprs: &[Expr],
        schema: &DFSchema,
        input: &RecordBatch,
    ) -> Result<RecordBatch> {
        let target = table.arrow_schema();
        let mut columns = Vec::with_capacity(exprs.len());
        for (e, field) in exprs.iter().zip(target.fields()) {
            let value = ScalarExpr::compile(e, schema)?.evaluate(input)?;
            columns.push(if value.data_type() == field.data_type() {
                value
            } else {
                stored(&value, field.data_type())?
            });
        }
        if table.columns.iter().any(|c| c.generated.is_some() && !c.dropped) {
            let context = self.bind_context(Vec::new());
            let own = DFSchema::try_from(target.as_ref().clone())?;
            let row = rows::over(&own, &columns)?;
            for (i, e) in bind::dml::generated_values(table, &context)? {
                columns[i] = ScalarExpr::compile(&e, &own)?.evaluate(&row)?;
            }
        }
        let rows = rows::conform(&columns, &target, input.num_rows(), table)?;
        self.check_rows(table, &rows)?;
        Ok(rows)
    }

    /// MERGE: each row of the source takes the first step that fits it.
    pub(super) fn merge_rows(
        &mut self,
        table: &Arc<Object>,
        merge: &BoundMerge,
        batches: Vec<RecordBatch>,
    ) -> Result<Change> {
        let mut change = Change::default();
        let width = table.columns.len();
        let schema = table.arrow_schema();
        let mut touched: HashSet<u64> = HashSet::new();
        for batch in batches.iter().filter(|b| b.num_rows() > 0) {
            let number = batch.column(width);
            let columns = [&batch.columns()[..width], &batch.columns()[width + 1..]].concat();
            let mut rest = rows::over(&merge.schema, &columns)?;
            let mut numbers = number.clone();
            for step in &merge.steps {
                let fits: BooleanArray =
                    (0..numbers.len()).map(|i| Some(numbers.is_valid(i) == step.matched)).collect();
                let fits = match &step.condition {
                    None => fits,
                    Some(condition) => {
                        // Only for rows of the right kind: for others the condition might fail.
                        let candidates = positions(&fits);
                        let held = selected(condition, &merge.schema, &take(&rest, &candidates)?)?;
                        let held: HashSet<u32> = held.iter().map(|h| candidates[*h as usize]).collect();
                        (0u32..).take(rest.num_rows()).map(|i| Some(held.contains(&i))).collect()
                    }
                };
                let rows = compute::filter_record_batch(&rest, &fits)?;
                let theirs = compute::filter(&numbers, &fits)?;
                let others = compute::not(&fits)?;
                rest = compute::filter_record_batch(&rest, &others)?;
                numbers = compute::filter(&numbers, &others)?;
                if rows.num_rows() == 0 {
                    continue;
                }
                if matches!(step.action, MergeDo::Update(_) | MergeDo::Delete) {
                    let theirs = compute::cast(&theirs, &arrow::datatypes::DataType::UInt64)?;
                    if theirs.as_primitive::<UInt64Type>().values().iter().any(|n| !touched.insert(*n)) {
                        return Err(second_time("MERGE"));
                    }
                }
                let old = || rows::unchecked(&rows.columns()[..width], &schema);
                match &step.action {
                    MergeDo::Nothing => continue,
                    MergeDo::Delete => change.writes.push(ZBatch::deletes(old()?)),
                    MergeDo::Update(exprs) => {
                        let new = self.new_rows(table, exprs, &merge.schema, &rows)?;
                        change.writes.push(ZBatch::deletes(old()?));
                        change.writes.push(ZBatch::inserts(new));
                    }
                    MergeDo::Insert(exprs) => {
                        let new = self.new_rows(table, exprs, &merge.schema, &rows)?;
                        change.writes.push(ZBatch::inserts(new));
                    }
                }
                change.count += rows.num_rows();
            }
        }
        Ok(change)
    }
}

/// Notes which proposed rows meet a row that is there, or an earlier proposed one.
fn meet(
    key: &UniqueKey,
    proposed: &RecordBatch,
    there: &RecordBatch,
    updates: bool,
    fates: &mut [Fate],
) -> Result<()> {
    let columns = |batch: &RecordBatch| -> Vec<ArrayRef> {
        key.columns.iter().map(|c| batch.column(*c).clone()).collect()
    };
    let (new, old) = (columns(proposed), columns(there));
    let encoder = RowEncoder::new(new.iter().map(|c| c.data_type().clone()))?;
    let (new_rows, old_rows) = (encoder.encode(&new)?, encoder.encode(&old)?);
    // Rows that are there, and those of this statement that come first.
    let mut known: HashMap<&[u8], Option<u32>> = HashMap::with_capacity(old_rows.num_rows() + fates.len());
    for i in 0..old_rows.num_rows() {
        let row = u32::try_from(i).map_err(|_| Error::internal("more than 4 G rows"))?;
        known.insert(old_rows.row(i).data(), Some(row));
    }
    for (i, fate) in fates.iter_mut().enumerate() {
        if !matches!(fate, Fate::Insert) || new.iter().any(|c| c.is_null(i)) {
            continue;
        }
        match known.entry(new_rows.row(i).data()) {
            std::collections::hash_map::Entry::Vacant(free) => drop(free.insert(None)),
            std::collections::hash_map::Entry::Occupied(taken) => match taken.get() {
                Some(row) if updates => *fate = Fate::Meets(*row),
                None if updates => return Err(second_time("ON CONFLICT DO UPDATE")),
                _ => *fate = Fate::Skip,
            },
        }
    }
    Ok(())
}

fn second_time(command: &str) -> Error {
    let hint = if command == "MERGE" {
        "Ensure that not more than one source row matches any one target row."
    } else {
        "Ensure that no rows proposed for insertion within the same command have duplicate constrained values."
    };
    Error::new(ErrorKind::Cardinality, format!("{command} command cannot affect row a second time"))
        .with_hint(hint)
}

/// The rows for which a condition holds.
fn selected(condition: &Expr, schema: &DFSchema, rows: &RecordBatch) -> Result<Vec<u32>> {
    let held = ScalarExpr::compile(condition, schema)?.evaluate(rows)?;
    Ok(positions(held.as_boolean()))
}

fn positions(mask: &BooleanArray) -> Vec<u32> {
    (0u32..).zip(mask).filter_map(|(i, held)| (held == Some(true)).then_some(i)).collect()
}

fn take(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch> {
    Ok(compute::take_record_batch(batch, &UInt32Array::from(rows.to_vec()))?)
}

fn under(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?)
}
