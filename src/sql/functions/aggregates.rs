//! Aggregates: while DataFusion's planner runs, names that take any arguments, so that the binder can refuse wrong ones
//! in PostgreSQL's words; afterwards [`ExactCall`], which computes what DataFusion does not have or has otherwise.
//!
//! Such calls run on the states that views run on (`operator::reduce`), so that an ad hoc query and a view give the
//! same result to the last digit, whatever the order of rows.
//!
//! Boundary: one call; its argument types have been settled by the binder.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

use super::{DfResult, df_error};
use crate::error::Error;
use crate::expr::aggregate::{AggregateCall, AggregateKind, Shape};
use crate::expr::exact::{Computed, ExactCall};
use crate::operator::reduce::groups::Groups;

/// Aggregates that are called with WITHIN GROUP.
pub const ORDERED_SET: &[&str] = &["percentile_cont", "percentile_disc", "mode", "approx_percentile"];

/// The aggregates beside count, sum, avg, min and max.
pub const NAMES: &[&str] = &[
    "any_value",
    "approx_count_distinct",
    "approx_percentile",
    "arg_max",
    "arg_min",
    "array_agg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "covar_pop",
    "covar_samp",
    "every",
    "first_value",
    "grouping",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "last_value",
    "max_by",
    "median",
    "min_by",
    "mode",
    "percentile_cont",
    "percentile_disc",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "var_pop",
    "var_samp",
    "variance",
];

/// An aggregate whose arguments have no final types yet.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AggregateSymbol {
    name: String,
    signature: Signature,
}

/// The aggregate symbol of this name.
pub fn symbol(name: &str) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(AggregateSymbol {
        name: name.to_string(),
        signature: Signature::user_defined(Volatility::Immutable),
    }))
}

impl AggregateUDFImpl for AggregateSymbol {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let first = || arg_types.first().cloned().unwrap_or(DataType::Null);
        Ok(match self.name.as_str() {
            "count" | "approx_count_distinct" | "regr_count" => DataType::Int64,
            "sum" | "min" | "max" | "bit_and" | "bit_or" | "bit_xor" | "mode" | "percentile_disc"
            | "first_value" | "last_value" | "any_value" | "arg_min" | "arg_max" | "min_by" | "max_by" => {
                first()
            }
            "bool_and" | "bool_or" | "every" => DataType::Boolean,
            "string_agg" | "json_agg" | "jsonb_agg" | "json_object_agg" | "jsonb_object_agg" => {
                DataType::Utf8
            }
            "array_agg" => DataType::List(Arc::new(Field::new("item", first(), true))),
            "grouping" => DataType::Int32,
            _ => DataType::Float64,
        })
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }
    fn supports_within_group_clause(&self) -> bool {
        ORDERED_SET.contains(&self.name.as_str())
    }
    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Err(df_error(Error::internal(format!("aggregate {} was not resolved", self.name))))
    }
}

/// The function of a call whose types are settled. `distinct` is said here and not in the call's parameters, because
/// DataFusion's rules would take such calls apart.
pub fn exact(
    name: &str,
    kind: AggregateKind,
    shape: Shape,
    distinct: bool,
    result: Field,
) -> Arc<AggregateUDF> {
    fn grouped(call: &ExactCall, arguments: &[FieldRef]) -> Box<dyn GroupsAccumulator> {
        Box::new(buffer(call, arguments))
    }
    fn single(call: &ExactCall, arguments: &[FieldRef]) -> Box<dyn Accumulator> {
        Box::new(Single(buffer(call, arguments)))
    }
    let computed = Computed { grouped, single };
    Arc::new(AggregateUDF::from(ExactCall::new(name, kind, shape, distinct, result, computed)))
}

fn buffer(call: &ExactCall, arguments: &[FieldRef]) -> Buffered {
    let columns: Vec<usize> = (0..arguments.len()).collect();
    let fields = ExactCall::row_fields(arguments);
    Buffered {
        call: call.over(&columns, None, "aggregate"),
        input: Arc::new(Schema::new(fields.clone())),
        fields,
        pending: Vec::new(),
        live: None,
        total: 0,
        base: 0,
    }
}

/// Rows that wait until a result is asked for: until then they can be handed to another phase as they are.
#[derive(Debug)]
struct Buffered {
    call: AggregateCall,
    input: SchemaRef,
    fields: Fields,
    pending: Vec<(Vec<ArrayRef>, Vec<u32>)>,
    live: Option<Groups>,
    /// Number of groups.
    total: usize,
    /// Groups emitted before; theirs are the numbers below.
    base: usize,
}

impl Buffered {
    fn push(&mut self, columns: Vec<ArrayRef>, slots: Vec<u32>, weights: Option<&[i64]>) -> DfResult<()> {
        if weights.is_some() {
            self.settle()?;
        }
        match &mut self.live {
            Some(live) => {
                live.grow(self.base + self.total);
                live.update(&slots, weights, &columns).map_err(df_error)
            }
            None => {
                self.pending.push((columns, slots));
                Ok(())
            }
        }
    }

    /// Feeds what has waited.
    fn settle(&mut self) -> DfResult<&mut Groups> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => Groups::new(self.call.clone(), &self.input).map_err(df_error)?,
        };
        live.grow(self.base + self.total);
        for (columns, slots) in self.pending.drain(..) {
            live.update(&slots, None, &columns).map_err(df_error)?;
        }
        Ok(self.live.insert(live))
    }

    fn results(&mut self, count: usize) -> DfResult<ArrayRef> {
        let slots: Vec<u32> = (self.base..self.base + count).map(|s| s as u32).collect();
        self.settle()?.output(&slots).map_err(df_error)
    }

    fn count(&self, emit: EmitTo) -> usize {
        match emit {
            EmitTo::All => self.total,
            EmitTo::First(n) => n.min(self.total),
        }
    }

    fn emitted(&mut self, emit: EmitTo, count: usize) {
        match emit {
            EmitTo::All => {
                (self.pending, self.live, self.total, self.base) = (Vec::new(), None, 0, 0);
            }
            EmitTo::First(_) => {
                self.base += count;
                self.total -= count;
            }
        }
    }

    /// The waiting rows of the first groups as one list of rows per group; those of the others stay.
    fn take_rows(&mut self, count: usize) -> DfResult<ListArray> {
        if self.live.is_some() {
            return Err(df_error(Error::internal("rows of an aggregate that has given results")));
        }
        let (mut slots, mut parts) = (Vec::new(), vec![Vec::new(); self.fields.len()]);
        for (columns, own) in self.pending.drain(..) {
            slots.extend(own);
            parts.iter_mut().zip(columns).for_each(|(p, c)| p.push(c));
        }
        let mut columns = Vec::with_capacity(parts.len());
        for (part, field) in parts.iter().zip(&self.fields) {
            let part: Vec<&dyn Array> = part.iter().map(AsRef::as_ref).collect();
            columns.push(if part.is_empty() {
                arrow::array::new_empty_array(field.data_type())
            } else {
                concat(&part)?
            });
        }
        let end = (self.base + count) as u32;
        let mut order: Vec<u32> = (0..slots.len() as u32).collect();
        order.sort_by_key(|i| slots[*i as usize]);
        let split = order.partition_point(|i| slots[*i as usize] < end);
        let pick = |picks: &[u32]| -> DfResult<Vec<ArrayRef>> {
            let picks = UInt32Array::from(picks.to_vec());
            Ok(columns.iter().map(|c| take(c, &picks, None)).collect::<Result<_, _>>()?)
        };
        let mut lengths = vec![0_usize; count];
        order[..split].iter().for_each(|i| lengths[slots[*i as usize] as usize - self.base] += 1);
        let rows = StructArray::try_new(self.fields.clone(), pick(&order[..split])?, None)?;
        if split < order.len() {
            let rest = order[split..].iter().map(|i| slots[*i as usize]).collect();
            self.pending.push((pick(&order[split..])?, rest));
        }
        let item = Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), true));
        Ok(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(rows), None)?)
    }

    /// Takes in lists of rows.
    fn merge(&mut self, lists: &ArrayRef, slots: impl Iterator<Item = u32>) -> DfResult<()> {
        let lists = lists.as_list::<i32>();
        let offsets = lists.offsets();
        let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let rows = lists.values().slice(first, last - first);
        let mut all = Vec::with_capacity(last - first);
        for (i, slot) in slots.enumerate() {
            all.extend(std::iter::repeat_n(slot, (offsets[i + 1] - offsets[i]) as usize));
        }
        self.push(rows.as_struct().columns().to_vec(), all, None)
    }

    fn bytes(&self) -> usize {
        let arrays = self
            .pending
            .iter()
            .flat_map(|(c, s)| c.iter().map(|c| c.get_array_memory_size()).chain([s.capacity() * 4]));
        arrays.sum::<usize>() + self.live.as_ref().map_or(0, Groups::bytes)
    }
}

impl GroupsAccumulator for Buffered {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.total = total_num_groups;
        let base = self.base;
        let slots = group_indices.iter().map(|g| (base + g) as u32);
        let Some(mask) = opt_filter else {
            return self.push(values.to_vec(), slots.collect(), None);
        };
        let kept = |i: &usize| mask.is_valid(*i) && mask.value(*i);
        let slots = slots.enumerate().filter(|(i, _)| kept(i)).map(|(_, s)| s).collect();
        let values = values.iter().map(|v| filter(v, mask)).collect::<Result<_, _>>()?;
        self.push(values, slots, None)
    }
    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let count = self.count(emit_to);
        let out = self.results(count)?;
        self.emitted(emit_to, count);
        Ok(out)
    }
    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let count = self.count(emit_to);
        let rows = self.take_rows(count)?;
        self.emitted(emit_to, count);
        Ok(vec![Arc::new(rows)])
    }
    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.total = total_num_groups;
        let base = self.base;
        self.merge(&values[0], group_indices.iter().map(|g| (base + g) as u32))
    }
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let len = values.first().map_or(0, |v| v.len());
        let kept = |i: usize| opt_filter.is_none_or(|m| m.is_valid(i) && m.value(i));
        let rows = StructArray::try_new(self.fields.clone(), values.to_vec(), None)?;
        let (rows, lengths): (ArrayRef, Vec<usize>) = match opt_filter {
            None => (Arc::new(rows), vec![1; len]),
            Some(mask) => (filter(&rows, mask)?, (0..len).map(|i| usize::from(kept(i))).collect()),
        };
        let item = Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), true));
        Ok(vec![Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), rows, None)?)])
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.bytes()
    }
}

/// One group: a query without GROUP BY, or a window frame.
#[derive(Debug)]
struct Single(Buffered);

impl Single {
    fn rows(&mut self, values: &[ArrayRef], weights: Option<&[i64]>) -> DfResult<()> {
        self.0.total = 1;
        let len = values.first().map_or(0, |v| v.len());
        self.0.push(values.to_vec(), vec![0; len], weights)
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.rows(values, None)
    }
    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let weights = vec![-1; values.first().map_or(0, |v| v.len())];
        self.rows(values, Some(&weights))
    }
    fn supports_retract_batch(&self) -> bool {
        true
    }
    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.0.total = 1;
        ScalarValue::try_from_array(&self.0.results(1)?, 0)
    }
    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.0.total = 1;
        Ok(vec![ScalarValue::List(Arc::new(self.0.take_rows(1)?))])
    }
    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.0.total = 1;
        self.0.merge(&states[0], std::iter::repeat_n(0, states[0].len()))
    }
    fn size(&self) -> usize {
        size_of::<Self>() + self.0.bytes()
    }
}
