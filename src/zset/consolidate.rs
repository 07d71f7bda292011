//! The normal form of a change: every row once, with the sum of its weights, and no zeros.
//!
//! Boundary: equality of rows is PostgreSQL's (see [`crate::zset::key`]); the first appearance of a row stands for
//! all that are equal to it.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use crate::error::Result;
use crate::zset::ZBatch;
use crate::zset::builder::{compact_weights, gather, rows_without_columns};
use crate::zset::key::{RowEncoder, append_hashes, table_hash};

/// [`consolidate`], unless all weights are +1: nothing can cancel then, and copies of a row may stay apart.
pub fn consolidate_if_needed(schema: &SchemaRef, batches: &[ZBatch]) -> Result<ZBatch> {
    if batches.iter().all(|b| b.weights().is_none()) {
        return ZBatch::concat(schema, batches);
    }
    consolidate(schema, batches)
}

/// Sums the weights of equal rows and drops what comes to zero; rows stay in the order of first appearance.
/// The result has no weights if and only if all of them are +1.
pub fn consolidate(schema: &SchemaRef, batches: &[ZBatch]) -> Result<ZBatch> {
    let total: usize = batches.iter().map(ZBatch::num_rows).sum();
    if total == 0 {
        return Ok(ZBatch::empty(schema.clone()));
    }
    if schema.fields().is_empty() {
        return consolidate_without_columns(schema, batches);
    }
    let mut weights = Vec::with_capacity(total);
    let mut picks = Vec::with_capacity(total);
    let mut hashes = Vec::with_capacity(total);
    for (b, batch) in batches.iter().enumerate() {
        append_hashes(batch.columns(), &mut hashes);
        picks.extend((0..batch.num_rows()).map(|row| (b, row)));
        match batch.weights() {
            None => weights.resize(weights.len() + batch.num_rows(), 1),
            Some(w) => weights.extend_from_slice(w.values()),
        }
    }
    let rows: Vec<&RecordBatch> = batches.iter().map(ZBatch::rows).collect();
    let repeated = rows_with_repeated_hash(&hashes);
    if !repeated.is_empty() {
        merge_equal(schema, &rows, &picks, &hashes, &repeated, &mut weights)?;
    }
    if let [one] = batches
        && weights.iter().all(|w| *w != 0)
    {
        return ZBatch::try_new(one.rows().clone(), compact_weights(weights));
    }
    let mut i = 0;
    picks.retain(|_| {
        i += 1;
        weights[i - 1] != 0
    });
    weights.retain(|w| *w != 0);
    ZBatch::try_new(gather(schema, &rows, &picks)?, compact_weights(weights))
}

/// Rows whose hash another row has as well, ascending. Where nothing repeats (the common case of a change that
/// is consolidated already) no row has to be looked at further.
fn rows_with_repeated_hash(hashes: &[u64]) -> Vec<usize> {
    let mut first: HashTable<(u64, u32)> = HashTable::with_capacity(hashes.len());
    let mut repeated = vec![];
    let mut seen = vec![];
    for (row, &hash) in hashes.iter().enumerate() {
        match first.find_mut(table_hash(hash), |(h, _)| *h == hash) {
            None => {
                first.insert_unique(table_hash(hash), (hash, row as u32), |(h, _)| table_hash(*h));
            }
            Some((_, other)) => {
                if *other != u32::MAX {
                    seen.push(*other as usize);
                    *other = u32::MAX;
                }
                repeated.push(row);
            }
        }
    }
    if !seen.is_empty() {
        repeated.append(&mut seen);
        repeated.sort_unstable();
    }
    repeated
}

/// Moves the weights of equal rows among `candidates` to the first of them.
fn merge_equal(
    schema: &SchemaRef,
    batches: &[&RecordBatch],
    picks: &[(usize, usize)],
    hashes: &[u64],
    candidates: &[usize],
    weights: &mut [i64],
) -> Result<()> {
    let encoder = RowEncoder::new(schema.fields().iter().map(|f| f.data_type().clone()))?;
    let chosen: Vec<(usize, usize)> = candidates.iter().map(|&row| picks[row]).collect();
    let encoded = encoder.encode(gather(schema, batches, &chosen)?.columns())?;
    // Entries are positions among the candidates.
    let mut table: HashTable<u32> = HashTable::with_capacity(candidates.len() / 2);
    for (position, &row) in candidates.iter().enumerate() {
        let hash = hashes[row];
        let same = |other: &u32| {
            let other = *other as usize;
            hashes[candidates[other]] == hash && encoded.row(other).data() == encoded.row(position).data()
        };
        match table.find(table_hash(hash), same) {
            Some(&other) => {
                weights[candidates[other as usize]] += weights[row];
                weights[row] = 0;
            }
            None => {
                table.insert_unique(table_hash(hash), position as u32, |p| {
                    table_hash(hashes[candidates[*p as usize]])
                });
            }
        }
    }
    Ok(())
}

/// Without columns all rows are equal.
fn consolidate_without_columns(schema: &SchemaRef, batches: &[ZBatch]) -> Result<ZBatch> {
    let sum: i64 =
        batches.iter().map(|b| b.weights().map_or(b.num_rows() as i64, |w| w.values().iter().sum())).sum();
    if sum == 0 {
        return Ok(ZBatch::empty(schema.clone()));
    }
    ZBatch::try_new(rows_without_columns(schema, 1)?, compact_weights(vec![sum]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::zset::pretty;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Int64, true),
        ]))
    }

    #[test]
    fn equal_rows_are_summed_zeros_dropped_and_the_order_of_appearance_kept() {
        let s = schema();
        let batches = [
            pretty::parse(&s, "+1 z 1 | +1 a NULL | +1 a 2"),
            pretty::parse(&s, "-1 a 2 | +2 a NULL | -1 b 7"),
        ];
        let z = consolidate(&s, &batches).unwrap();
        assert_eq!(pretty::format(&z), "+1 z 1 | +3 a NULL | -1 b 7");
        assert_eq!(pretty::format(&z.slice(0, 1)), "+1 z 1");
        assert!(consolidate(&s, &[z.clone(), z.negate()]).unwrap().is_empty());
    }

    #[test]
    fn a_consolidated_batch_is_not_copied_and_all_ones_lose_their_weights() {
        let s = schema();
        let batch = ZBatch::try_new(
            pretty::parse(&s, "+1 x 1 | +1 y 2").into_parts().0,
            Some(Int64Array::from(vec![1, 1])),
        )
        .unwrap();
        let z = consolidate(&s, std::slice::from_ref(&batch)).unwrap();
        assert!(z.weights().is_none());
        assert!(Arc::ptr_eq(z.column(0), batch.column(0)));
    }

    #[test]
    fn zeros_of_both_signs_are_one_row() {
        let s: SchemaRef = Arc::new(Schema::new(vec![Field::new("f", DataType::Float64, true)]));
        let rows = RecordBatch::try_new(s.clone(), vec![Arc::new(Float64Array::from(vec![-0.0, 0.0, 1.0]))])
            .unwrap();
        let z = consolidate(&s, &[ZBatch::inserts(rows)]).unwrap();
        assert_eq!((z.num_rows(), z.weight(0), z.weight(1)), (2, 2, 1));
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let s: SchemaRef = Arc::new(Schema::empty());
        let three = ZBatch::inserts(rows_without_columns(&s, 3).unwrap());
        let z = consolidate(&s, &[three.clone(), three.slice(0, 2).negate()]).unwrap();
        assert_eq!((z.num_rows(), z.weight(0)), (1, 1));
        assert!(consolidate(&s, &[three.clone(), three.negate()]).unwrap().is_empty());
    }

    #[test]
    fn random_changes_consolidate_to_their_sums() {
        let s = schema();
        for seed in 0..300 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let mut sums: BTreeMap<String, i64> = BTreeMap::new();
            let batches: Vec<ZBatch> = (0..rng.random_range(0..4))
                .map(|_| {
                    let rows: Vec<String> = (0..rng.random_range(0..20))
                        .map(|_| {
                            let row = match rng.random_range(0..6) {
                                0 => "NULL NULL".to_string(),
                                1 => format!("NULL {}", rng.random_range(0..3)),
                                _ => format!("t{} {}", rng.random_range(0..3), rng.random_range(0..3)),
                            };
                            let weight: i64 = rng.random_range(-2..3);
                            *sums.entry(row.clone()).or_default() += weight;
                            format!("{weight:+} {row}")
                        })
                        .collect();
                    pretty::parse(&s, &rows.join(" | "))
                })
                .collect();
            sums.retain(|_, w| *w != 0);
            let z = consolidate(&s, &batches).unwrap();
            let expected = pretty::parse(
                &s,
                &sums.iter().map(|(row, w)| format!("{w:+} {row}")).collect::<Vec<_>>().join(" | "),
            );
            assert_eq!(pretty::format(&z), pretty::format(&expected), "seed {seed}");
        }
    }
}
