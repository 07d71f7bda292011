//! One aggregate of a Reduce: selects its rows, counts them, and feeds its state.
//!
//! Boundary: one aggregate over all groups.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StructArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, filter, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

use crate::error::{Error, ErrorKind, Result};
use crate::expr::aggregate::{AggregateCall, AggregateKind, Ordered};
use crate::store::arrangement::slab::Slab;

use super::bits::{bit_state, boolean_state};
use super::extreme::extreme_state;
use super::moments::{interval_sum_state, pairs_state, spread_state};
use super::ordered::{argument_struct, ordered_state};
use super::state::{NEGATIVE, Rows, State};
use super::sum::sum_state;
use super::value_set::ValueSet;

/// Where the number of argument values of a group is known from.
#[derive(Debug)]
enum Counts {
    /// Not needed.
    Unneeded,
    /// It is the number of the group's rows, because no argument has been NULL so far.
    Rows,
    /// Counted.
    Own(Slab<i64>),
}

/// An aggregate and its state for all groups.
#[derive(Debug)]
pub struct Aggregate {
    call: AggregateCall,
    counts: Counts,
    set: Option<ValueSet>,
    state: Option<Box<dyn State>>,
    /// Columns that let a row be left out when they are NULL.
    required: Vec<usize>,
    /// The type that holds several arguments together.
    together: Option<DataType>,
}

/// Which arguments let a row be left out when they are NULL.
fn required(call: &AggregateCall) -> Vec<usize> {
    let by_position = |p: &usize| call.arguments().nth(*p);
    match call.kind {
        AggregateKind::Ordered(Ordered::Text | Ordered::Continuous | Ordered::Discrete | Ordered::Mode) => {
            call.argument.into_iter().collect()
        }
        AggregateKind::Ordered(_) => call.shape.skips_null.iter().filter_map(by_position).collect(),
        AggregateKind::Count if !call.more.is_empty() => vec![],
        _ => call.arguments().collect(),
    }
}

impl Aggregate {
    /// The aggregate `call` over rows of `input`.
    pub fn new(
        call: AggregateCall,
        input: &SchemaRef,
        append_only: bool,
        droppable: bool,
    ) -> Result<Aggregate> {
        let field_of = |column: usize| -> Result<FieldRef> {
            let field = input.fields().get(column).cloned();
            field.ok_or_else(|| Error::internal("aggregate of a column that is not there"))
        };
        let fields = call.arguments().map(field_of).collect::<Result<Vec<_>>>()?;
        let together = (fields.len() > 1).then(|| argument_struct(&fields));
        let argument = together.clone().or(fields.first().map(|f| f.data_type().clone()));
        let needed =
            || argument.clone().ok_or_else(|| Error::internal(format!("{} without an argument", call.name)));
        // Whether a value is there once or often makes no difference to the least one.
        let distinct = call.distinct && !matches!(call.kind, AggregateKind::Min | AggregateKind::Max);
        let state = match call.kind {
            AggregateKind::Count => None,
            AggregateKind::Sum if matches!(needed()?, DataType::Interval(_)) => Some(interval_sum_state()),
            AggregateKind::Sum => Some(sum_state(&needed()?, &call.data_type, false)?),
            AggregateKind::Avg => Some(sum_state(&needed()?, &call.data_type, true)?),
            AggregateKind::Min => Some(extreme_state(&needed()?, &call.data_type, false, append_only)?),
            AggregateKind::Max => Some(extreme_state(&needed()?, &call.data_type, true, append_only)?),
            AggregateKind::BoolAnd => Some(boolean_state(&needed()?, true)?),
            AggregateKind::BoolOr => Some(boolean_state(&needed()?, false)?),
            AggregateKind::BitAnd | AggregateKind::BitOr | AggregateKind::BitXor => {
                Some(bit_state(&needed()?, call.kind)?)
            }
            AggregateKind::Spread(spread) => Some(spread_state(&needed()?, &call.data_type, spread)?),
            AggregateKind::Pairs(kind) => Some(pairs_state(kind)),
            AggregateKind::Ordered(kind) => Some(ordered_state(kind, &call.shape, fields, &call.data_type)?),
        };
        let set = if distinct { Some(ValueSet::new(needed()?, droppable)?) } else { None };
        let counts = match (&state, distinct || call.filter.is_some()) {
            (Some(s), _) if !s.needs_counts() => Counts::Unneeded,
            (_, true) => Counts::Own(Slab::new()),
            _ => Counts::Rows,
        };
        let required = required(&call);
        Ok(Aggregate { call, counts, set, state, required, together })
    }

    /// Makes room for slots below `len`.
    pub fn grow(&mut self, len: usize) {
        if let Counts::Own(counts) = &mut self.counts {
            counts.grow(len, 0);
        }
        if let Some(state) = &mut self.state {
            state.grow(len);
        }
    }

    /// Which rows take part; `None`: all.
    fn selection(&self, columns: &[ArrayRef]) -> Option<BooleanBuffer> {
        let filter = self.call.filter.map(|f| {
            let mask = columns[f].as_boolean();
            match mask.nulls() {
                Some(nulls) => mask.values() & nulls.inner(),
                None => mask.values().clone(),
            }
        });
        let nulls = self.required.iter().fold(None, |all: Option<NullBuffer>, column| {
            let own = columns[*column].logical_nulls().filter(|n| n.null_count() > 0);
            if own.is_none() { all } else { NullBuffer::union(all.as_ref(), own.as_ref()) }
        });
        match (filter, nulls) {
            (None, None) => None,
            (Some(f), None) => Some(f),
            (None, Some(n)) => Some(n.inner().clone()),
            (Some(f), Some(n)) => Some(&f & n.inner()),
        }
    }

    /// Takes in a batch: the group and weight of each row, and the columns. `rows` are the row counts of the groups
    /// before this batch.
    pub fn update(
        &mut self,
        slots: &[u32],
        weights: Option<&[i64]>,
        columns: &[ArrayRef],
        rows: &Slab<i64>,
    ) -> Result<()> {
        let selection = self.selection(columns);
        if let (Counts::Rows, Some(_)) = (&self.counts, &selection) {
            self.counts = Counts::Own(rows.clone());
        }
        if self.state.is_none() && matches!(self.counts, Counts::Rows) {
            return Ok(());
        }
        if let (None, None, Counts::Own(counts), Some(mask)) =
            (&self.set, &self.state, &mut self.counts, &selection)
        {
            count_selected(counts, slots, weights, mask);
            return Ok(());
        }
        // count(*) with a filter has no argument: any column of the right length will do.
        let mut values: ArrayRef = match (&self.together, self.call.argument.or(self.call.filter)) {
            (Some(DataType::Struct(fields)), _) => {
                let arguments = self.call.arguments().map(|c| Arc::clone(&columns[c])).collect();
                Arc::new(StructArray::try_new(fields.clone(), arguments, None)?)
            }
            (_, Some(column)) => Arc::clone(&columns[column]),
            (_, None) => Arc::new(UInt32Array::new_null(slots.len())),
        };
        let (mut slots, mut weights) = (Cow::Borrowed(slots), weights.map(Cow::Borrowed));
        if let Some(mask) = selection {
            slots = Cow::Owned(mask.set_indices().map(|i| slots[i]).collect());
            weights = weights.map(|w| Cow::Owned(mask.set_indices().map(|i| w[i]).collect()));
            values = filter(&values, &BooleanArray::new(mask, None))?;
        }
        if slots.is_empty() {
            return Ok(());
        }
        if let Some(set) = &mut self.set {
            let rows = Rows { slots: &slots, weights: weights.as_deref(), values: &values };
            let (picks, signs) = set.transitions(&rows)?;
            slots = Cow::Owned(picks.iter().map(|i| slots[*i as usize]).collect());
            weights = Some(Cow::Owned(signs));
            values = take(&values, &UInt32Array::from(picks), None)?;
        }
        let rows = Rows { slots: &slots, weights: weights.as_deref(), values: &values };
        if let Counts::Own(counts) = &mut self.counts {
            add_weights(counts, rows.slots, rows.weights);
        }
        match &mut self.state {
            Some(state) => state.update(&rows),
            None => Ok(()),
        }
    }

    /// The results of some groups; `rows` are the row counts of all groups.
    pub fn output(&self, slots: &[u32], rows: &Slab<i64>) -> Result<ArrayRef> {
        let counts = self.counts(slots, rows);
        match &self.state {
            Some(state) => state.output(slots, &counts),
            None if self.call.data_type == DataType::Int64 => Ok(Arc::new(Int64Array::from(counts))),
            None => Ok(cast(&Int64Array::from(counts), &self.call.data_type)?),
        }
    }

    fn counts(&self, slots: &[u32], rows: &Slab<i64>) -> Vec<i64> {
        match &self.counts {
            Counts::Unneeded => vec![],
            Counts::Rows => rows.gather(slots),
            Counts::Own(counts) => counts.gather(slots),
        }
    }

    /// Marks groups whose result cannot be shown.
    pub fn check(&self, slots: &[u32], rows: &Slab<i64>, overflow: u16, status: &mut [u16]) {
        if let Counts::Own(counts) = &self.counts {
            for (slot, status) in slots.iter().zip(&mut *status) {
                if *counts.get(*slot) < 0 {
                    *status = NEGATIVE;
                }
            }
        }
        if let Some(set) = &self.set {
            for (slot, status) in slots.iter().zip(&mut *status) {
                if set.is_negative(*slot) {
                    *status = NEGATIVE;
                }
            }
        }
        if let Some(state) = &self.state {
            state.check(slots, overflow, status);
            if matches!(self.call.kind, AggregateKind::Spread(_)) {
                state.check_results(slots, &self.counts(slots, rows), overflow, status);
            }
        }
    }

    /// Whether nothing is left of a group.
    pub fn is_zero(&self, slot: u32) -> bool {
        !matches!(&self.counts, Counts::Own(counts) if *counts.get(slot) != 0)
            && self.set.as_ref().is_none_or(|s| !s.is_negative(slot))
            && self.state.as_ref().is_none_or(|s| s.is_zero(slot))
    }

    /// Forgets a group.
    pub fn clear(&mut self, slot: u32) -> Result<()> {
        if let Counts::Own(counts) = &mut self.counts {
            *counts.get_mut(slot) = 0;
        }
        if let Some(state) = &mut self.state {
            state.clear(slot);
        }
        match &mut self.set {
            Some(set) => set.clear(slot),
            None => Ok(()),
        }
    }

    /// The error of a group whose result is out of range.
    pub fn overflow(&self) -> Error {
        if let Some(error) = self.state.as_ref().and_then(|s| s.error()) {
            return error;
        }
        let message = match self.call.data_type {
            DataType::Int64 => "bigint out of range",
            DataType::Interval(_) => "interval out of range",
            DataType::Float32 | DataType::Float64 => "value out of range: overflow",
            _ => "value overflows numeric format",
        };
        Error::new(ErrorKind::NumericOutOfRange, message)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let counts = if let Counts::Own(counts) = &self.counts { counts.bytes() } else { 0 };
        counts + self.set.as_ref().map_or(0, ValueSet::bytes) + self.state.as_ref().map_or(0, |s| s.bytes())
    }
}

/// Adds the weight of each selected row to the count of its group, without a branch for what is selected.
fn count_selected(counts: &mut Slab<i64>, slots: &[u32], weights: Option<&[i64]>, mask: &BooleanBuffer) {
    match weights {
        None => {
            for (slot, selected) in slots.iter().zip(mask.iter()) {
                *counts.get_mut(*slot) += i64::from(selected);
            }
        }
        Some(weights) => {
            for ((slot, weight), selected) in slots.iter().zip(weights).zip(mask.iter()) {
                let count = counts.get_mut(*slot);
                *count = count.saturating_add(*weight * i64::from(selected));
            }
        }
    }
}

/// Adds the weight of each row to the count of its group.
pub fn add_weights(counts: &mut Slab<i64>, slots: &[u32], weights: Option<&[i64]>) {
    match weights {
        None => slots.iter().for_each(|s| *counts.get_mut(*s) += 1),
        Some(weights) => {
            for (slot, weight) in slots.iter().zip(weights) {
                let count = counts.get_mut(*slot);
                *count = count.saturating_add(*weight);
            }
        }
    }
}
