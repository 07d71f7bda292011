//! What a transaction's rows must satisfy when its epoch is sealed: the rows it replaces are still there, and
//! its keys are unique.
//!
//! A transaction computes its changes from a snapshot; they are checked here, in the one thread that applies them,
//! against the tables as they are by then. A row that has meanwhile been changed is a serialization failure
//! (first committer wins), so no update is ever lost.

use std::collections::BTreeMap;

use arrow::array::{Int64Array, RecordBatch};

use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::coord::command::TableWrite;
use crate::coord::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::store::relation::Relation;
use crate::time::Epoch;
use crate::zset::ZBatch;
use crate::zset::consolidate::consolidate;

/// One net change per table, in the order in which the tables were first written.
pub fn merge(writes: Vec<TableWrite>) -> Result<Vec<TableWrite>> {
    if writes.len() == 1 && writes[0].change.weights().is_none() {
        return Ok(writes);
    }
    let mut order = Vec::new();
    let mut by_table: BTreeMap<ObjectId, Vec<ZBatch>> = BTreeMap::new();
    for write in writes {
        if !by_table.contains_key(&write.table) {
            order.push(write.table);
        }
        by_table.entry(write.table).or_default().push(write.change);
    }
    let mut merged = Vec::with_capacity(order.len());
    for table in order {
        let batches = by_table.remove(&table).unwrap_or_default();
        let Some(schema) = batches.first().map(ZBatch::schema) else { continue };
        let change = if batches.iter().all(|b| b.weights().is_none()) {
            ZBatch::concat(&schema, &batches)?
        } else {
            consolidate(&schema, &batches)?
        };
        merged.push(TableWrite { table, change });
    }
    Ok(merged)
}

/// Checks a net change against the table as it is in the open epoch.
pub fn check(object: &Object, relation: &Relation, epoch: Epoch, change: &ZBatch) -> Result<()> {
    let (inserted, deleted) = split_by_sign(change)?;
    if let Some(deleted) = &deleted {
        let present = relation.live_weight(deleted.rows(), epoch)?;
        let lost = present.iter().enumerate().any(|(i, have)| *have < -deleted.weight(i));
        if lost {
            return Err(Error::new(
                ErrorKind::Serialization,
                "could not serialize access due to concurrent update",
            )
            .with_hint("The transaction might succeed if retried."));
        }
    }
    let ObjectBody::Table { primary_key, .. } = &object.body else {
        return Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("cannot change {} \"{}\"", object.kind_name(), object.name),
        ));
    };
    match inserted {
        Some(inserted) if !primary_key.is_empty() => {
            check_unique(object, relation, epoch, primary_key, &inserted, deleted.as_ref())
        }
        _ => Ok(()),
    }
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
    relation: &Relation,
    epoch: Epoch,
    key: &[usize],
    inserted: &ZBatch,
    deleted: Option<&ZBatch>,
) -> Result<()> {
    // Twice in this change? (Weights other than +1 make `consolidate` merge equal rows.)
    let keys = inserted.project(key)?;
    let marked = ZBatch::try_new(keys.rows().clone(), Some(Int64Array::from_value(2, keys.num_rows())))?;
    let merged = consolidate(&keys.schema(), &[marked])?;
    if let Some(row) = (0..merged.num_rows()).find(|i| merged.weight(*i) > 2) {
        return Err(violation(object, key, merged.rows(), row));
    }
    // Already in the table, and not deleted by this change?
    let present = relation.lookup(key, keys.columns(), epoch)?;
    if present.num_rows() == 0 {
        return Ok(());
    }
    let mut net = vec![ZBatch::inserts(present)];
    net.extend(deleted.cloned());
    let schema = inserted.schema();
    let left = consolidate(&schema, &align(&schema, net)?)?;
    match (0..left.num_rows()).find(|i| left.weight(*i) > 0) {
        Some(row) => Err(violation(object, key, &left.rows().project(key)?, row)),
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
pub fn violation(object: &Object, key: &[usize], keys: &RecordBatch, row: usize) -> Error {
    let names: Vec<&str> = key.iter().map(|k| object.columns[*k].name.as_str()).collect();
    let constraint = format!("{}_pkey", object.name);
    let values = rows::texts(keys, row);
    Error::new(
        ErrorKind::UniqueViolation,
        format!("duplicate key value violates unique constraint \"{constraint}\""),
    )
    .with_detail(format!("Key ({})=({}) already exists.", names.join(", "), values.join(", ")))
    .with_table(object.schema.clone(), object.name.clone())
    .with_constraint(constraint)
}
