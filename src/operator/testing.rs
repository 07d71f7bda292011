//! What the tests of operators share: random changes, relations as multisets of text, epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rand::Rng;
use rand::rngs::StdRng;

use crate::operator::{Operator, Output, Progress, TimeFacts};
use crate::time::{Epoch, EventTime, Watermark};
use crate::zset::{ZBatch, pretty};

/// A row of the test relation: (p, a, b).
pub(super) type Row = (Option<i64>, Option<i64>, Option<String>);

/// Columns p int8, a int8, b text.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("p", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Utf8, true),
    ]))
}

/// A row out of few, so that rows repeat.
pub(super) fn random_row(rng: &mut StdRng) -> Row {
    let p = rng.random_bool(0.9).then(|| rng.random_range(0..3));
    let a = rng.random_bool(0.9).then(|| rng.random_range(0..6));
    let b = rng.random_bool(0.8).then(|| format!("t{}", rng.random_range(0..3)));
    (p, a, b)
}

/// A batch of rows with weights.
pub(super) fn batch(rows: &[(Row, i64)]) -> ZBatch {
    let p: Int64Array = rows.iter().map(|((p, _, _), _)| *p).collect();
    let a: Int64Array = rows.iter().map(|((_, a, _), _)| *a).collect();
    let b: StringArray = rows.iter().map(|((_, _, b), _)| b.clone()).collect();
    let weights = crate::zset::builder::compact_weights(rows.iter().map(|(_, w)| *w).collect());
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(p), Arc::new(a), Arc::new(b)]).unwrap();
    ZBatch::try_new(rows, weights).unwrap()
}

/// A row as [`pretty::format`] writes it, without weight.
pub(super) fn text(row: &Row) -> String {
    let number = |n: Option<i64>| n.map_or("NULL".to_string(), |n| n.to_string());
    format!("{} {} {}", number(row.0), number(row.1), row.2.clone().unwrap_or("NULL".into()))
}

/// A relation as its rows in text with their multiplicities.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Relation(pub(super) BTreeMap<String, i64>);

impl Relation {
    pub(super) fn add(&mut self, row: String, weight: i64) {
        *self.0.entry(row.clone()).or_default() += weight;
        if self.0[&row] == 0 {
            self.0.remove(&row);
        }
    }

    pub(super) fn add_batches(&mut self, batches: &[ZBatch]) {
        for batch in batches {
            for i in 0..batch.num_rows() {
                let line = pretty::format(&batch.slice(i, 1));
                let (weight, row) = line.split_once(' ').unwrap_or((&line, ""));
                self.add(row.to_string(), weight.parse().unwrap());
            }
        }
    }
}

/// Cuts changes into batches at random.
pub(super) fn cut(rng: &mut StdRng, changes: &[(Row, i64)]) -> Vec<ZBatch> {
    let mut batches = vec![];
    let mut rest = changes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rng.random_range(1..=rest.len()));
        batches.push(batch(head));
        rest = tail;
    }
    batches
}

/// Runs one epoch of an operator with one input.
pub(super) fn epoch(op: &mut dyn Operator, batches: Vec<ZBatch>, now: i64, watermark: i64) -> Output {
    let mut out = Output::default();
    for batch in batches {
        let mut progress = op.absorb(0, batch, &mut out).unwrap();
        while progress == Progress::More {
            progress = op.resume(&mut out).unwrap();
        }
    }
    let watermarks = [Watermark(watermark)];
    let facts = TimeFacts { epoch: Epoch(now.unsigned_abs()), now: EventTime(now), watermarks: &watermarks };
    assert_eq!(op.close_epoch(&facts, &mut out).unwrap(), Progress::Done);
    out
}
