//! What a transaction's rows must satisfy when its epoch is sealed: the rows it replaces are still there, and
//! its keys are unique.
//!
//! A transaction computes its changes from a snapshot; they are checked here, in the one thread that applies them,
//! against the tables as they are by then. A row that has meanwhile been changed is a serialization failure
//! (first committer wins), so no update is ever lost.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch};

use crate::catalog::object::UniqueKey;
use crate::catalog::system::quote_ident;
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::coord::command::TableWrite;
use crate::coord::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;
use crate::zset::key::RowEncoder;

/// One net change per table, in the order in which the tables were first written.
pub fn merge(writes: Vec<TableWrite>) -> Result<Vec<TableWrite>> {
    if writes.len() == 1 && writes[0].change.weights().is_none() {
        return Ok(writes);
    }
    let mut order: Vec<TableWrite> = Vec::new();
    let mut by_table: BTreeMap<ObjectId, Vec<ZBatch>> = BTreeMap::new();
    for write in writes {
        by_table.entry(write.table).or_default().push(write.change.clone());
        match order.iter_mut().find(|w| w.table == write.table) {
            Some(first) => {
                first.upsert |= write.upsert;
                first.object = write.object;
            }
            None => order.push(write),
        }
    }
    for merged in &mut order {
        let batches = by_table.remove(&merged.table).unwrap_or_default();
        let schema = merged.change.schema();
        merged.change = if batches.iter().all(|b| b.weights().is_none()) {
            ZBatch::concat(&schema, &batches)?
        } else {
            consolidate(&schema, &batches)?
        };
    }
    Ok(order)
}

/// Another transaction was faster.
pub fn conflict() -> Error {
    Error::new(ErrorKind::Serialization, "could not serialize access due to concurrent update")
        .with_hint("The transaction might succeed if retried.")
}

/// Checks that rows are there as often as their weights say (which are negative).
pub fn check_present(relation: &Relation, epoch: Epoch, rows: &ZBatch) -> Result<()> {
    let present = relation.live_weight(rows.rows(), epoch)?;
    let lost = present.iter().enumerate().any(|(i, have)| *have < -rows.weight(i));
    if lost { Err(conflict()) } else { Ok(()) }
}

/// Checks a net change against the table as it is in the open epoch.
pub fn check(
    object: &Object,
    keys: &[UniqueKey],
    relation: &Relation,
    epoch: Epoch,
    change: &ZBatch,
) -> Result<()> {
    let (inserted, deleted) = split_by_sign(change)?;
    if let Some(deleted) = &deleted {
        check_present(relation, epoch, deleted)?;
    }
    if !matches!(object.body, ObjectBody::Table { .. }) {
        return Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("cannot change {} \"{}\"", object.kind_name(), object.name),
        ));
    }
    let Some(inserted) = inserted else { return Ok(()) };
    for key in keys {
        // An index of this very transaction is built, and checked, when its definition is carried out.
        if relation.has_index(&key.columns) {
            check_unique(object, key, relation, epoch, &inserted, deleted.as_ref())?;
        }
    }
    Ok(())
}

/// Checks that the rows of a table have different values in the columns of a new unique index.
pub fn check_new_key(object: &Object, key: &UniqueKey, relation: &Relation, epoch: Epoch) -> Result<()> {
    let batches = relation.snapshot(epoch).batches(Some(&key.columns))?;
    let Some(first) = batches.first() else { return Ok(()) };
    let encoder = RowEncoder::new(first.schema().fields().iter().map(|f| f.data_type().clone()))?;
    let mut seen: HashSet<Box<[u8]>> = HashSet::new();
    for batch in &batches {
        let rows = encoder.encode(batch.columns())?;
        for (i, row) in rows.iter().enumerate() {
            let null = batch.columns().iter().any(|c| c.is_null(i));
            if !null && !seen.insert(row.data().into()) {
                let names = key_names(object, &key.columns);
                let values = rows::texts(batch, i).join(", ");
                return Err(Error::new(
                    ErrorKind::UniqueViolation,
                    format!("could not create unique index \"{}\"", key.name),
                )
                .with_detail(format!("Key ({names})=({values}) is duplicated."))
                .with_table(object.schema.clone(), object.name.clone())
                .with_constraint(key.name.clone()));
            }
        }
    }
    Ok(())
}

fn key_names(object: &Object, key: &[usize]) -> String {
    let names: Vec<String> = key.iter().map(|k| quote_ident(&object.columns[*k].name)).collect();
    names.join(", ")
}

/// The inserted rows (weights > 0) and the deleted ones (weights < 0, kept negative).
fn split_by_sign(change: &ZBatch) -> Result<(Option<ZBatch>, Option<ZBatch>)> {
    let Some(weights) = change.weights() else {
        return Ok(((!change.is_empty()).then(|| change.clone()), None));
    };
    let positive = weights.iter().map(|w| w.map(|w| w > 0)).collect();
    let negative = weights.iter().map(|w| w.map(|w| w < 0)).collect();
    let keep = |b: ZBatch| (!b.is_empty()).then_some(b);
    Ok((keep(change.filter(&positive)?), keep(change.filter(&negative)?)))
}

fn check_unique(
    object: &Object,
    key: &UniqueKey,
    relation: &Relation,
    epoch: Epoch,
    inserted: &ZBatch,
    deleted: Option<&ZBatch>,
) -> Result<()> {
    let columns = &key.columns;
    // NULL is no value that another row could have too.
    let complete;
    let inserted = if columns.iter().any(|c| inserted.columns()[*c].logical_null_count() > 0) {
        let full = |i: usize| columns.iter().all(|c| inserted.columns()[*c].is_valid(i));
        let mask: BooleanArray = (0..inserted.num_rows()).map(|i| Some(full(i))).collect();
        complete = inserted.filter(&mask)?;
        &complete
    } else {
        inserted
    };
    if inserted.is_empty() {
        return Ok(());
    }
    // Twice in this change? (Weights other than +1 make `consolidate` merge equal rows.)
    let keys = inserted.project(columns)?;
    let marked = ZBatch::try_new(keys.rows().clone(), Some(Int64Array::from_value(2, keys.num_rows())))?;
    let merged = consolidate(&keys.schema(), &[marked])?;
    let twice = (0..inserted.num_rows()).find(|i| inserted.weight(*i) > 1);
    if let Some(row) = twice {
        return Err(violation(object, key, keys.rows(), row));
    }
    if let Some(row) = (0..merged.num_rows()).find(|i| merged.weight(*i) > 2) {
        return Err(violation(object, key, merged.rows(), row));
    }
    // Already in the table, and not deleted by this change?
    let present = relation.lookup(columns, keys.columns(), epoch)?;
    if present.num_rows() == 0 {
        return Ok(());
    }
    let mut net = vec![ZBatch::inserts(present)];
    net.extend(deleted.cloned());
    let schema = inserted.schema();
    let left = consolidate(&schema, &align(&schema, net)?)?;
    match (0..left.num_rows()).find(|i| left.weight(*i) > 0) {
        Some(row) => Err(violation(object, key, &left.rows().project(columns)?, row)),
        None => Ok(()),
    }
}

fn align(schema: &arrow::datatypes::SchemaRef, batches: Vec<ZBatch>) -> Result<Vec<ZBatch>> {
    batches
        .into_iter()
        .map(|b| {
            let rows = RecordBatch::try_new(schema.clone(), b.columns().to_vec())?;
            b.with_rows(rows)
        })
        .collect()
}

/// PostgreSQL's words for a duplicate key.
pub fn violation(object: &Object, key: &UniqueKey, keys: &RecordBatch, row: usize) -> Error {
    let values = rows::texts(keys, row);
    Error::new(
        ErrorKind::UniqueViolation,
        format!("duplicate key value violates unique constraint \"{}\"", key.name),
    )
    .with_detail(format!("Key ({})=({}) already exists.", key_names(object, &key.columns), values.join(", ")))
    .with_table(object.schema.clone(), object.name.clone())
    .with_constraint(key.name.clone())
}
