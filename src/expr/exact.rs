//! Aggregate calls whose result must be the same in a view and in an ad hoc query, as DataFusion's plans carry them.
//!
//! Boundary: what a call is; how it is computed is given by whoever makes it (`sql::functions::aggregates`), so that
//! plans can look at it without knowing operators.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::AggregateFunctionParams;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::aggregate::{AggregateCall, AggregateKind, Pairs, Shape};

/// How the ad hoc engine computes a call.
#[derive(Clone, Copy)]
pub struct Computed {
    /// Over groups.
    pub grouped: fn(&ExactCall, &[FieldRef]) -> Box<dyn GroupsAccumulator>,
    /// Over one group, or a window frame.
    pub single: fn(&ExactCall, &[FieldRef]) -> Box<dyn Accumulator>,
}

/// A call whose types are settled, computed as views compute it. Its arguments are the aggregate's, then what it is
/// ordered by.
pub struct ExactCall {
    name: String,
    kind: AggregateKind,
    shape: Shape,
    distinct: bool,
    result: FieldRef,
    signature: Signature,
    computed: Computed,
}

impl fmt::Debug for ExactCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExactCall({} -> {})", self.name, self.result.data_type())
    }
}

// The kind decides how it is computed.
impl PartialEq for ExactCall {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.kind == other.kind
            && self.shape == other.shape
            && self.distinct == other.distinct
            && self.result == other.result
    }
}
impl Eq for ExactCall {}
impl Hash for ExactCall {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.kind.hash(state);
        self.shape.hash(state);
        self.distinct.hash(state);
        self.result.hash(state);
    }
}

impl ExactCall {
    /// The call `name` with a result like `result`.
    pub fn new(
        name: &str,
        kind: AggregateKind,
        shape: Shape,
        distinct: bool,
        result: Field,
        computed: Computed,
    ) -> ExactCall {
        ExactCall {
            name: name.to_string(),
            kind,
            shape,
            distinct,
            result: Arc::new(result.with_name(name).with_nullable(true)),
            signature: Signature::user_defined(Volatility::Immutable),
            computed,
        }
    }

    /// What it computes, over arguments in these columns.
    pub fn over(&self, arguments: &[usize], filter: Option<usize>, name: &str) -> AggregateCall {
        AggregateCall {
            kind: self.kind,
            argument: arguments.first().copied(),
            more: arguments.iter().skip(1).copied().collect(),
            shape: self.shape.clone(),
            filter,
            distinct: self.distinct,
            name: name.to_string(),
            data_type: self.result.data_type().clone(),
        }
    }

    /// The fields of rows of arguments.
    pub fn row_fields(arguments: &[FieldRef]) -> Fields {
        let named =
            |(i, f): (usize, &FieldRef)| f.as_ref().clone().with_name(format!("c{i}")).with_nullable(true);
        arguments.iter().enumerate().map(named).collect()
    }
}

impl AggregateUDFImpl for ExactCall {
    fn name(&self) -> &str {
        &self.name
    }
    fn schema_name(&self, params: &AggregateFunctionParams) -> DfResult<String> {
        let args: Vec<String> = params.args.iter().map(|a| a.schema_name().to_string()).collect();
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let mut name = format!("{}({distinct}{})", self.name, args.join(","));
        for (column, order) in &self.shape.order {
            let direction = if order.descending { "desc" } else { "asc" };
            let nulls = if order.nulls_first { "first" } else { "last" };
            name.push_str(&format!(" by {column} {direction} nulls {nulls}"));
        }
        for fraction in self.shape.fractions.iter().flatten() {
            name.push_str(&format!(" at {}", f64::from_bits(*fraction)));
        }
        if let Some(f) = &params.filter {
            name.push_str(&format!(" FILTER (WHERE {})", f.schema_name()));
        }
        Ok(name)
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.result.data_type().clone())
    }
    fn return_field(&self, _: &[FieldRef]) -> DfResult<FieldRef> {
        Ok(self.result.clone())
    }
    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(arg_types.to_vec())
    }
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let fields = ExactCall::row_fields(args.input_fields);
        let item = Field::new("item", DataType::Struct(fields), true);
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", args.name), DataType::List(Arc::new(item)), true))])
    }
    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok((self.computed.single)(self, args.expr_fields))
    }
    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok((self.computed.single)(self, args.expr_fields))
    }
    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }
    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok((self.computed.grouped)(self, args.expr_fields))
    }
    fn default_value(&self, data_type: &DataType) -> DfResult<ScalarValue> {
        if self.kind == AggregateKind::Pairs(Pairs::Count) {
            return Ok(ScalarValue::Int64(Some(0)));
        }
        ScalarValue::try_from(data_type)
    }
}
