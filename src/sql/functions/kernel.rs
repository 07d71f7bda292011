//! Typed reading of argument columns and the loop that strict functions share.
//!
//! A strict function gives NULL when an argument is NULL. [`rows!`] reads the arguments of each other row by type and
//! runs a body that appends to a builder; constants are read once and never spread over the column.
//!
//! Boundary: how kernels see their arguments; what they compute is in the sibling modules.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, ListArray, PrimitiveArray,
    StringArray, new_null_array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::{DfResult, df_error};
use crate::error::Error;
use crate::types::PgType;

/// The arguments of one call.
pub struct Columns {
    arrays: Vec<ArrayRef>,
    /// Whether the argument is a constant, whose array has one row.
    once: Vec<bool>,
    /// Rows of the result.
    pub rows: usize,
    scalar: bool,
}

impl Columns {
    /// The arguments of a call.
    pub fn new(args: &ScalarFunctionArgs) -> DfResult<Columns> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let mut arrays = Vec::with_capacity(args.args.len());
        let mut once = Vec::with_capacity(args.args.len());
        for arg in &args.args {
            let (array, constant) = match arg {
                ColumnarValue::Scalar(v) => (v.to_array_of_size(1)?, true),
                ColumnarValue::Array(a) => (a.clone(), false),
            };
            arrays.push(match array.data_type() {
                DataType::Utf8View | DataType::LargeUtf8 => arrow::compute::cast(&array, &DataType::Utf8)?,
                _ => array,
            });
            once.push(constant);
        }
        Ok(Columns { arrays, once, rows, scalar })
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// The array of an argument; of a constant it has one row.
    pub fn array(&self, i: usize) -> &ArrayRef {
        &self.arrays[i]
    }

    /// Where row `row` of argument `i` is in its array.
    #[inline]
    pub fn index(&self, i: usize, row: usize) -> usize {
        if self.once[i] { 0 } else { row }
    }

    /// Whether an argument is NULL in this row.
    #[inline]
    pub fn is_null_at(&self, i: usize, row: usize) -> bool {
        self.arrays[i].is_null(self.index(i, row))
    }

    /// Whether any argument is NULL in this row.
    #[inline]
    pub fn any_null(&self, row: usize) -> bool {
        (0..self.arrays.len()).any(|i| self.is_null_at(i, row))
    }

    /// The result of a strict function when a constant NULL decides it for all rows.
    pub fn all_null(&self, result: &DataType) -> DfResult<Option<ColumnarValue>> {
        let null = |i: usize| {
            *self.arrays[i].data_type() == DataType::Null || (self.once[i] && self.arrays[i].is_null(0))
        };
        if !(0..self.arrays.len()).any(null) {
            return Ok(None);
        }
        Ok(Some(if self.scalar {
            ColumnarValue::Scalar(ScalarValue::try_from(result)?)
        } else {
            ColumnarValue::Array(new_null_array(result, self.rows))
        }))
    }

    /// The result of a kernel; the array may still lack the zone or the scale of its type.
    pub fn finish(&self, array: ArrayRef, result: &DataType) -> DfResult<ColumnarValue> {
        let array = relabel(array, result);
        Ok(if self.scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }

    fn mismatch(&self, i: usize, wanted: &str) -> datafusion::error::DataFusionError {
        df_error(Error::internal(format!(
            "argument {} of a function is {} instead of {wanted}",
            i + 1,
            self.arrays[i].data_type()
        )))
    }
}

fn relabel(array: ArrayRef, result: &DataType) -> ArrayRef {
    if array.data_type() == result {
        return array;
    }
    match (array.data_type(), result) {
        (DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Timestamp(TimeUnit::Microsecond, _)) => {
            Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_data_type(result.clone()))
        }
        (DataType::Decimal128(..), DataType::Decimal128(..)) => {
            Arc::new(array.as_primitive::<Decimal128Type>().clone().with_data_type(result.clone()))
        }
        _ => array,
    }
}

/// The PostgreSQL type of an argument as the plan knows it.
pub fn pg_type_of(args: &ScalarFunctionArgs, i: usize) -> PgType {
    let field: &Field = &args.arg_fields[i];
    PgType::of_field(field)
}

macro_rules! readers {
    ($($(#[$doc:meta])* $name:ident: $array:ty, $value:ty, $cast:expr;)*) => {
        $(
            $(#[$doc])*
            pub struct $name<'a> { array: &'a $array, once: bool }
            impl<'a> $name<'a> {
                /// Argument `i` of the call.
                pub fn of(columns: &'a Columns, i: usize) -> DfResult<Self> {
                    let cast: fn(&'a dyn Array) -> Option<&'a $array> = $cast;
                    let array = cast(columns.array(i).as_ref())
                        .ok_or_else(|| columns.mismatch(i, stringify!($name)))?;
                    Ok($name { array, once: columns.once[i] })
                }
                /// The value of a row.
                #[inline]
                pub fn at(&self, row: usize) -> $value {
                    self.array.value(if self.once { 0 } else { row })
                }
            }
        )*
    };
}

readers! {
    /// text and what is stored like it.
    Text: StringArray, &'a str, |a| a.as_string_opt::<i32>();
    /// bytea.
    Bytes: BinaryArray, &'a [u8], |a| a.as_binary_opt::<i32>();
    /// boolean.
    Bool: BooleanArray, bool, |a| a.as_boolean_opt();
    /// smallint.
    Int2: PrimitiveArray<Int16Type>, i16, |a| a.as_primitive_opt();
    /// integer.
    Int4: PrimitiveArray<Int32Type>, i32, |a| a.as_primitive_opt();
    /// bigint.
    Int8: PrimitiveArray<Int64Type>, i64, |a| a.as_primitive_opt();
    /// real.
    Float4: PrimitiveArray<Float32Type>, f32, |a| a.as_primitive_opt();
    /// double precision.
    Float8: PrimitiveArray<Float64Type>, f64, |a| a.as_primitive_opt();
    /// date: days since 1970.
    Date: PrimitiveArray<Date32Type>, i32, |a| a.as_primitive_opt();
    /// time: microseconds.
    Time: PrimitiveArray<Time64MicrosecondType>, i64, |a| a.as_primitive_opt();
    /// timestamp and timestamptz: microseconds since 1970.
    Moment: PrimitiveArray<TimestampMicrosecondType>, i64, |a| a.as_primitive_opt();
    /// interval.
    Span: PrimitiveArray<IntervalMonthDayNanoType>, IntervalMonthDayNano, |a| a.as_primitive_opt();
    /// numeric, without its scale.
    Number: Decimal128Array, i128, |a| a.as_primitive_opt();
    /// Arrays of any type.
    List: ListArray, ArrayRef, |a| a.as_list_opt::<i32>();
}

impl Number<'_> {
    /// The digits after the point of all values.
    pub fn scale(&self) -> i8 {
        self.array.scale()
    }
}

/// Runs a body for every row that has all its arguments: `rows!(args, result, out = builder, (a: Text, b: Int4) body)`.
/// The body appends one value to `out` and may use `?` on our errors.
macro_rules! rows {
    ($args:expr, $result:expr, $out:ident = $builder:expr, ($($a:ident : $t:ident),* $(,)?) $body:expr) => {{
        let columns = $crate::sql::functions::kernel::Columns::new($args)?;
        match columns.all_null($result)? {
            Some(null) => Ok(null),
            None => {
                let mut $out = $builder;
                let mut _next = 0usize;
                $(
                    let $a = $crate::sql::functions::kernel::$t::of(&columns, _next)?;
                    _next += 1;
                )*
                for row in 0..columns.rows {
                    if columns.any_null(row) {
                        $out.append_null();
                        continue;
                    }
                    $(let $a = $a.at(row);)*
                    #[allow(unused_mut)]
                    let mut step = || -> $crate::error::Result<()> { $body; Ok(()) };
                    step().map_err($crate::sql::functions::df_error)?;
                }
                columns.finish(std::sync::Arc::new($out.finish()), $result)
            }
        }
    }};
}
pub(crate) use rows;
