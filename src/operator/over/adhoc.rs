//! A window call over a whole partition at once: what ad hoc queries run.
//!
//! Boundary: the partition's rows in any order; the results are in the same order.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortOptions, take};
use datafusion::common::ScalarValue;

use super::evaluate::{Around, evaluate};
use super::frame::Section;
use super::summary::Summed;
use crate::error::Result;
use crate::expr::window::{OverFunction, WindowCall, check_offset};
use crate::zset::key::RowEncoder;

/// The results of a bound call for the rows of a partition, whose arguments these are.
pub fn evaluate_partition(function: &OverFunction, values: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let offset = |at: Option<usize>| -> Result<Option<ScalarValue>> {
        match at {
            Some(at) if rows > 0 => Ok(Some(ScalarValue::try_from_array(&values[at], 0)?)),
            _ => Ok(None),
        }
    };
    let frame = function.frame_with(offset(function.start)?, offset(function.end)?);
    if rows > 0 {
        check_offset(&frame)?;
    }
    let call = WindowCall { frame, ..function.call.clone() };
    let keys = function.first_key..function.first_key + function.orders.len();
    let sorted = order(function, values, rows)?;
    // Ties have done their work once the rows are in order.
    let mut columns: Vec<ArrayRef> = values[..keys.end.min(values.len())].to_vec();
    if let Some(order) = &sorted.order {
        columns = columns.iter().map(|c| take(c, order, None)).collect::<Result<_, _>>()?;
    }
    let order: Vec<(usize, SortOptions)> = keys.zip(function.orders.iter().copied()).collect();
    let summed = Summed::of(&call, call.args.first().map(|a| columns[*a].data_type()))?;
    let section = Section {
        total: rows,
        first: 0,
        head: 0,
        body: rows,
        tail: 0,
        columns: &columns,
        groups: sorted.groups,
        first_group: 0,
        order: &order,
    };
    let (result, errors) = evaluate(&call, &summed, &section, &Around::default(), 0..rows)?;
    if let Some((_, error)) = errors.into_iter().next() {
        return Err(error);
    }
    Ok(match sorted.order {
        None => result,
        Some(order) => {
            let mut back = vec![0_u32; rows];
            for (to, from) in order.values().iter().enumerate() {
                back[*from as usize] = to as u32;
            }
            take(&result, &UInt32Array::from(back), None)?
        }
    })
}

struct Sorted {
    /// The row at each position; `None`: they are in order.
    order: Option<UInt32Array>,
    groups: Vec<usize>,
}

fn order(function: &OverFunction, values: &[ArrayRef], rows: usize) -> Result<Sorted> {
    let keys = &function.orders;
    let encoded = function.first_key..function.first_key + keys.len() + function.ties;
    if encoded.is_empty() {
        return Ok(Sorted { order: None, groups: if rows == 0 { vec![0] } else { vec![0, rows] } });
    }
    let columns: Vec<ArrayRef> = values[encoded].iter().map(Arc::clone).collect();
    let options = keys.iter().copied().chain(std::iter::repeat_n(SortOptions::default(), function.ties));
    let types = columns.iter().map(|c| c.data_type().clone()).zip(options);
    let all = RowEncoder::with_options(types)?.encode(&columns)?;
    let peers = if function.ties == 0 || keys.is_empty() {
        None
    } else {
        let types = columns.iter().map(|c| c.data_type().clone()).zip(keys.iter().copied());
        Some(RowEncoder::with_options(types)?.encode(&columns[..keys.len()])?)
    };
    let in_order = (1..rows).all(|i| all.row(i - 1) <= all.row(i));
    let mut order: Vec<u32> = (0..rows as u32).collect();
    if !in_order {
        order.sort_by(|a, b| all.row(*a as usize).cmp(&all.row(*b as usize)));
    }
    let compared = peers.as_ref().unwrap_or(&all);
    let begins = |i: &usize| {
        *i == 0
            || !keys.is_empty() && compared.row(order[*i - 1] as usize) != compared.row(order[*i] as usize)
    };
    let mut groups: Vec<usize> = (0..rows).filter(begins).collect();
    groups.push(rows);
    Ok(Sorted { order: (!in_order).then(|| UInt32Array::from(order)), groups })
}
