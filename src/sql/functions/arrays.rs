//! Arrays: subscripts, membership, comparison and the array functions.
//!
//! Arrays are one-dimensional with the lower bound 1, NULLs among their elements. Results are gathered from the element
//! columns of the arguments, whatever the element type is.
//!
//! Boundary: kernels and their signatures.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int32Builder, ListArray, ListBuilder, StringBuilder,
    UInt32Array, make_comparator, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::kernel::{Columns, rows};
use super::registry::Build::{Native, Zoned};
use super::registry::Spec;
use super::{DfResult, df_error, pattern};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{TextFormatter, TextOptions};

/// NULLs are equal and greater than all values, as PostgreSQL compares elements.
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

/// An argument column: of a constant every row is row 0.
struct Side {
    array: ArrayRef,
    once: bool,
}

impl Side {
    fn of(columns: &Columns, i: usize) -> Side {
        Side { array: columns.array(i).clone(), once: columns.rows != 1 && columns.index(i, 1) == 0 }
    }

    fn at(&self, row: usize) -> usize {
        if self.once { 0 } else { row }
    }

    fn null(&self, row: usize) -> bool {
        self.array.data_type().is_null() || self.array.is_null(self.at(row))
    }

    fn list(&self) -> DfResult<&ListArray> {
        self.array.as_list_opt::<i32>().ok_or_else(|| df_error(Error::internal("argument is no array")))
    }
}

/// The elements of a row: their places in the list's values.
fn range(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    offsets[row] as usize..offsets[row + 1] as usize
}

type Compare = Box<dyn Fn(usize, usize) -> Ordering + Send + Sync>;

fn comparator(left: &ArrayRef, right: &ArrayRef) -> DfResult<Compare> {
    Ok(make_comparator(left.as_ref(), right.as_ref(), ORDER)?)
}

/// Builds lists of elements gathered from several element columns.
struct Gather {
    sources: Vec<ArrayRef>,
    places: Vec<(usize, usize)>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl Gather {
    fn new(sources: Vec<ArrayRef>, rows: usize) -> Gather {
        Gather { sources, places: Vec::new(), offsets: vec![0], valid: Vec::with_capacity(rows) }
    }

    fn push(&mut self, source: usize, place: usize) {
        self.places.push((source, place));
    }

    fn end_row(&mut self, valid: bool) {
        self.offsets.push(self.places.len() as i32);
        self.valid.push(valid);
    }

    fn finish(self, result: &DataType) -> DfResult<ArrayRef> {
        let DataType::List(field) = result else {
            return Err(df_error(Error::internal("the result is no array")));
        };
        let values = if self.places.is_empty() {
            new_empty_array(field.data_type())
        } else {
            let sources = self
                .sources
                .iter()
                .map(|s| arrow::compute::cast(s, field.data_type()))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let sources: Vec<&dyn Array> = sources.iter().map(AsRef::as_ref).collect();
            interleave(&sources, &self.places)?
        };
        let nulls = NullBuffer::from(self.valid);
        Ok(Arc::new(ListArray::try_new(
            field.clone(),
            OffsetBuffer::new(self.offsets.into()),
            values,
            Some(nulls),
        )?))
    }
}

/// `a[i]`.
pub fn subscript(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let (lists, places) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let (list, numbers) = (lists.list()?, places.array.as_primitive::<Int32Type>());
    let indices: UInt32Array = (0..columns.rows)
        .map(|row| {
            if lists.null(row) || places.null(row) {
                return None;
            }
            let range = range(list, lists.at(row));
            let i = usize::try_from(numbers.value(places.at(row))).ok()?.checked_sub(1)?;
            (i < range.len()).then(|| (range.start + i) as u32)
        })
        .collect();
    let taken = take(list.values(), &indices, None)?;
    columns.finish(arrow::compute::cast(&taken, result)?, result)
}

/// `a[from:to]`; NULL bounds make NULL.
pub fn slice(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let sides: Vec<Side> = (0..3).map(|i| Side::of(&columns, i)).collect();
    let list = sides[0].list()?;
    let bound = |i: usize, row: usize| sides[i].array.as_primitive::<Int32Type>().value(sides[i].at(row));
    let mut out = Gather::new(vec![list.values().clone()], columns.rows);
    for row in 0..columns.rows {
        let valid = !sides.iter().any(|s| s.null(row));
        if valid {
            let range = range(list, sides[0].at(row));
            let from = (i64::from(bound(1, row)) - 1).clamp(0, range.len() as i64) as usize;
            let to = i64::from(bound(2, row)).clamp(0, range.len() as i64) as usize;
            (from..to).for_each(|i| out.push(0, range.start + i));
        }
        out.end_row(valid);
    }
    columns.finish(out.finish(result)?, result)
}

/// What compares a value with an element.
enum Test {
    Order(fn(Ordering) -> bool),
    Text(pattern::Matcher),
}

/// `value op ANY (array)` and `value op ALL (array)`; the operator is the third argument.
pub fn quantified(args: &ScalarFunctionArgs, result: &DataType, any: bool) -> DfResult<ColumnarValue> {
    let op = match &args.args[2] {
        ColumnarValue::Scalar(v) => v.try_as_str().flatten().unwrap_or_default().to_string(),
        ColumnarValue::Array(_) => String::new(),
    };
    let mut test = match op.as_str() {
        "=" => Test::Order(Ordering::is_eq),
        "<>" => Test::Order(Ordering::is_ne),
        "<" => Test::Order(Ordering::is_lt),
        "<=" => Test::Order(Ordering::is_le),
        ">" => Test::Order(Ordering::is_gt),
        ">=" => Test::Order(Ordering::is_ge),
        op => Test::Text(pattern::Matcher::of_operator(op).map_err(df_error)?),
    };
    let columns = Columns::new(args)?;
    let (values, lists) = (Side::of(&columns, 0), Side::of(&columns, 1));
    if lists.array.data_type().is_null() {
        return columns.finish(arrow::array::new_null_array(&DataType::Boolean, columns.rows), result);
    }
    let list = lists.list()?;
    let elements = list.values();
    let typed = arrow::compute::cast(&values.array, elements.data_type())?;
    let compare = comparator(&typed, elements)?;
    let mut out = BooleanBuilder::with_capacity(columns.rows);
    for row in 0..columns.rows {
        if lists.null(row) {
            out.append_null();
            continue;
        }
        let range = range(list, lists.at(row));
        if values.null(row) {
            // Over an empty array the answer needs no value.
            out.append_option(range.is_empty().then_some(!any));
            continue;
        }
        let (mut decided, mut unknown) = (false, false);
        for i in range {
            if elements.is_null(i) {
                unknown = true;
                continue;
            }
            let holds = match &mut test {
                Test::Order(f) => f(compare(values.at(row), i)),
                Test::Text(m) => {
                    let value = typed.as_string::<i32>().value(values.at(row));
                    m.matches(value, elements.as_string::<i32>().value(i)).map_err(df_error)?
                }
            };
            if holds == any {
                decided = true;
                break;
            }
        }
        out.append_option(if decided {
            Some(any)
        } else if unknown {
            None
        } else {
            Some(!any)
        });
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// Comparisons of whole arrays: element by element, then by length.
pub fn compare(
    args: &ScalarFunctionArgs,
    result: &DataType,
    test: fn(Ordering) -> bool,
) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let (left, right) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let (l, r) = (left.list()?, right.list()?);
    let elements = comparator(l.values(), r.values())?;
    let mut out = BooleanBuilder::with_capacity(columns.rows);
    for row in 0..columns.rows {
        if left.null(row) || right.null(row) {
            out.append_null();
            continue;
        }
        let (a, b) = (range(l, left.at(row)), range(r, right.at(row)));
        let by_length = a.len().cmp(&b.len());
        let order = a.zip(b).map(|(i, j)| elements(i, j)).find(|o| o.is_ne()).unwrap_or(by_length);
        out.append_value(test(order));
    }
    columns.finish(Arc::new(out.finish()), result)
}

fn sets(
    args: &ScalarFunctionArgs,
    result: &DataType,
    holds: fn(&[usize], &[usize], &dyn Fn(usize, usize) -> bool) -> bool,
) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let (left, right) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let (l, r) = (left.list()?, right.list()?);
    let elements = comparator(l.values(), r.values())?;
    // NULL elements are equal to nothing.
    let same =
        |i: usize, j: usize| l.values().is_valid(i) && r.values().is_valid(j) && elements(i, j).is_eq();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let mut out = BooleanBuilder::with_capacity(columns.rows);
    for row in 0..columns.rows {
        if left.null(row) || right.null(row) {
            out.append_null();
            continue;
        }
        a.clear();
        a.extend(range(l, left.at(row)));
        b.clear();
        b.extend(range(r, right.at(row)));
        out.append_value(holds(&a, &b, &same));
    }
    columns.finish(Arc::new(out.finish()), result)
}

fn overlap(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    sets(args, result, |a, b, same| a.iter().any(|i| b.iter().any(|j| same(*i, *j))))
}

fn contains(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    sets(args, result, |a, b, same| b.iter().all(|j| a.iter().any(|i| same(*i, *j))))
}

fn contained(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    sets(args, result, |a, b, same| a.iter().all(|i| b.iter().any(|j| same(*i, *j))))
}

/// array_cat and `||` of two arrays: NULL arrays count as nothing unless both are NULL.
fn array_cat(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    joined(args, result, true, true)
}

/// array_append: the second argument is an element.
fn array_append(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    joined(args, result, true, false)
}

/// array_prepend: the first argument is an element.
fn array_prepend(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    joined(args, result, false, true)
}

fn joined(
    args: &ScalarFunctionArgs,
    result: &DataType,
    left_list: bool,
    right_list: bool,
) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let typed = |i: usize, list: bool| -> DfResult<Side> {
        let mut side = Side::of(&columns, i);
        let wanted = match result {
            DataType::List(f) if !list => f.data_type(),
            t => t,
        };
        side.array = arrow::compute::cast(&side.array, wanted)?;
        Ok(side)
    };
    let sides = [(typed(0, left_list)?, left_list), (typed(1, right_list)?, right_list)];
    let source = |(s, list): &(Side, bool)| -> DfResult<ArrayRef> {
        Ok(if *list { s.list()?.values().clone() } else { s.array.clone() })
    };
    let mut out = Gather::new(vec![source(&sides[0])?, source(&sides[1])?], columns.rows);
    for row in 0..columns.rows {
        let mut valid = false;
        for (source, (side, list)) in sides.iter().enumerate() {
            if *list {
                if !side.null(row) {
                    valid = true;
                    range(side.list()?, side.at(row)).for_each(|i| out.push(source, i));
                }
            } else {
                valid = true;
                out.push(source, side.at(row));
            }
        }
        out.end_row(valid);
    }
    columns.finish(out.finish(result)?, result)
}

/// Whether an element and a searched value are the same; NULL is the same as NULL.
fn same_or_null(list: &ArrayRef, value: &ArrayRef) -> DfResult<Compare> {
    comparator(list, value)
}

/// array_remove(array, element).
fn array_remove(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let (lists, wanted) = (Side::of(&columns, 0), Side::of(&columns, 1));
    if lists.array.data_type().is_null() {
        return columns.finish(arrow::array::new_null_array(result, columns.rows), result);
    }
    let list = lists.list()?;
    let value = arrow::compute::cast(&wanted.array, list.values().data_type())?;
    let same = same_or_null(list.values(), &value)?;
    let mut out = Gather::new(vec![list.values().clone()], columns.rows);
    for row in 0..columns.rows {
        let valid = !lists.null(row);
        if valid {
            for i in range(list, lists.at(row)) {
                if same(i, wanted.at(row)).is_ne() {
                    out.push(0, i);
                }
            }
        }
        out.end_row(valid);
    }
    columns.finish(out.finish(result)?, result)
}

/// array_replace(array, from, to).
fn array_replace(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let sides: Vec<Side> = (0..3).map(|i| Side::of(&columns, i)).collect();
    if sides[0].array.data_type().is_null() {
        return columns.finish(arrow::array::new_null_array(result, columns.rows), result);
    }
    let list = sides[0].list()?;
    let element = list.values().data_type();
    let (from, to) =
        (arrow::compute::cast(&sides[1].array, element)?, arrow::compute::cast(&sides[2].array, element)?);
    let same = same_or_null(list.values(), &from)?;
    let mut out = Gather::new(vec![list.values().clone(), to], columns.rows);
    for row in 0..columns.rows {
        let valid = !sides[0].null(row);
        if valid {
            for i in range(list, sides[0].at(row)) {
                if same(i, sides[1].at(row)).is_eq() {
                    out.push(1, sides[2].at(row));
                } else {
                    out.push(0, i);
                }
            }
        }
        out.end_row(valid);
    }
    columns.finish(out.finish(result)?, result)
}

/// array_position(array, element [, start]) and array_positions(array, element).
fn positions(args: &ScalarFunctionArgs, result: &DataType, all: bool) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let (lists, wanted) = (Side::of(&columns, 0), Side::of(&columns, 1));
    if lists.array.data_type().is_null() {
        return columns.finish(arrow::array::new_null_array(result, columns.rows), result);
    }
    let list = lists.list()?;
    let value = arrow::compute::cast(&wanted.array, list.values().data_type())?;
    let same = same_or_null(list.values(), &value)?;
    let start = |row: usize| -> DfResult<usize> {
        if columns.len() < 3 {
            return Ok(0);
        }
        let side = Side::of(&columns, 2);
        if side.null(row) {
            return Err(df_error(Error::new(ErrorKind::NullNotAllowed, "initial position must not be null")));
        }
        let n = side.array.as_primitive::<Int32Type>().value(side.at(row));
        Ok(usize::try_from(n.saturating_sub(1)).unwrap_or(0))
    };
    let (mut first, mut every) = (Int32Builder::new(), ListBuilder::new(Int32Builder::new()));
    for row in 0..columns.rows {
        if lists.null(row) {
            first.append_null();
            every.append_null();
            continue;
        }
        let range = range(list, lists.at(row));
        let begin = range.start;
        let skip = start(row)?;
        let mut found =
            range.skip(skip).filter(|i| same(*i, wanted.at(row)).is_eq()).map(|i| (i - begin + 1) as i32);
        if all {
            found.for_each(|i| every.values().append_value(i));
            every.append(true);
        } else {
            first.append_option(found.next());
        }
    }
    let array: ArrayRef = if all { Arc::new(every.finish()) } else { Arc::new(first.finish()) };
    columns.finish(array, result)
}

fn array_position(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    positions(args, result, false)
}

fn array_positions(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    positions(args, result, true)
}

fn cardinality(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: List) out.append_value(a.len() as i32))
}

/// array_length and array_upper: NULL of an empty array and of dimensions it does not have.
fn array_length(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: List, dimension: Int4)
        out.append_option((dimension == 1 && !a.is_empty()).then_some(a.len() as i32)))
}

fn array_lower(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: List, dimension: Int4)
        out.append_option((dimension == 1 && !a.is_empty()).then_some(1)))
}

fn array_ndims(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (a: List) out.append_option((!a.is_empty()).then_some(1)))
}

fn array_dims(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (a: List)
        out.append_option((!a.is_empty()).then(|| format!("[1:{}]", a.len()))))
}

fn trim_array(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let (lists, counts) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let list = lists.list()?;
    let mut out = Gather::new(vec![list.values().clone()], columns.rows);
    for row in 0..columns.rows {
        let valid = !lists.null(row) && !counts.null(row);
        if valid {
            let range = range(list, lists.at(row));
            let n = counts.array.as_primitive::<Int32Type>().value(counts.at(row));
            let n = usize::try_from(n).ok().filter(|n| *n <= range.len()).ok_or_else(|| {
                df_error(Error::new(
                    ErrorKind::ArraySubscript,
                    format!("number of elements to trim must be between 0 and {}", range.len()),
                ))
            })?;
            (range.start..range.end - n).for_each(|i| out.push(0, i));
        }
        out.end_row(valid);
    }
    columns.finish(out.finish(result)?, result)
}

/// array_fill(value, dimensions) with one dimension.
fn array_fill(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    const MAX: i32 = 1 << 24;
    let columns = Columns::new(args)?;
    let (values, lengths) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let refused = |message: &str| df_error(Error::new(ErrorKind::NullNotAllowed, message));
    if lengths.array.data_type().is_null() {
        return Err(refused("dimension array or low bound array cannot be null"));
    }
    let dimensions = lengths.list()?;
    let mut out = Gather::new(vec![values.array.clone()], columns.rows);
    for row in 0..columns.rows {
        if lengths.null(row) {
            return Err(refused("dimension array or low bound array cannot be null"));
        }
        let sizes = dimensions.value(lengths.at(row));
        let sizes = sizes.as_primitive::<Int32Type>();
        match sizes.len() {
            0 => {}
            1 if sizes.is_null(0) => return Err(refused("dimension values cannot be null")),
            1 => {
                let n = sizes.value(0);
                if n > MAX {
                    return Err(df_error(Error::new(
                        ErrorKind::ProgramLimit,
                        format!("array size exceeds the maximum allowed ({MAX})"),
                    )));
                }
                (0..n).for_each(|_| out.push(0, values.at(row)));
            }
            _ => return Err(df_error(Error::unsupported("multidimensional arrays are not supported"))),
        }
        out.end_row(true);
    }
    columns.finish(out.finish(result)?, result)
}

/// array_to_string(array, delimiter [, null text], zone).
fn array_to_string(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let zone = match args.args.last() {
        Some(ColumnarValue::Scalar(v)) => v.try_as_str().flatten().unwrap_or("UTC"),
        _ => "UTC",
    };
    let options = TextOptions::default().with_time_zone(zone).map_err(df_error)?;
    let columns = Columns::new(args)?;
    let given = columns.len() - 1;
    let (lists, delimiters) = (Side::of(&columns, 0), Side::of(&columns, 1));
    let null_text = (given > 2).then(|| Side::of(&columns, 2));
    if lists.array.data_type().is_null() || delimiters.array.data_type().is_null() {
        return columns.finish(arrow::array::new_null_array(result, columns.rows), result);
    }
    let list = lists.list()?;
    let element = match args.arg_fields[0].data_type() {
        DataType::List(f) => match crate::types::PgType::of_field(&args.arg_fields[0]).element() {
            Some(pg) if pg.arrow() == *list.values().data_type() => pg.field("item", true),
            _ => f.as_ref().clone(),
        },
        _ => Field::new("item", list.values().data_type().clone(), true),
    };
    let element = element.with_data_type(list.values().data_type().clone());
    let formatter = TextFormatter::new(&element, &options);
    let mut out = StringBuilder::new();
    let mut buffer = Vec::new();
    for row in 0..columns.rows {
        if lists.null(row) || delimiters.null(row) {
            out.append_null();
            continue;
        }
        let delimiter = delimiters.array.as_string::<i32>().value(delimiters.at(row));
        let instead =
            null_text.as_ref().filter(|s| !s.null(row)).map(|s| s.array.as_string::<i32>().value(s.at(row)));
        buffer.clear();
        let mut first = true;
        for i in range(list, lists.at(row)) {
            let null = list.values().is_null(i);
            if null && instead.is_none() {
                continue;
            }
            if !first {
                buffer.extend_from_slice(delimiter.as_bytes());
            }
            first = false;
            match instead {
                Some(text) if null => buffer.extend_from_slice(text.as_bytes()),
                _ => formatter.write(list.values().as_ref(), i, &mut buffer),
            }
        }
        out.append_value(String::from_utf8_lossy(&buffer));
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// string_to_array(text, delimiter [, null text]): a NULL delimiter separates characters.
fn string_to_array(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let sides: Vec<Side> = (0..columns.len()).map(|i| Side::of(&columns, i)).collect();
    let text = |i: usize, row: usize| -> Option<&str> {
        let side = sides.get(i)?;
        (!side.null(row)).then(|| side.array.as_string::<i32>().value(side.at(row)))
    };
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..columns.rows {
        let Some(value) = text(0, row) else {
            out.append_null();
            continue;
        };
        let null = text(2, row);
        let push = |part: &str, out: &mut ListBuilder<StringBuilder>| {
            if null == Some(part) { out.values().append_null() } else { out.values().append_value(part) }
        };
        match text(1, row) {
            _ if value.is_empty() => {}
            None => {
                for c in value.chars() {
                    push(c.encode_utf8(&mut [0; 4]), &mut out);
                }
            }
            Some("") => push(value, &mut out),
            Some(delimiter) => value.split(delimiter).for_each(|part| push(part, &mut out)),
        }
        out.append(true);
    }
    columns.finish(Arc::new(out.finish()), result)
}

/// ARRAY[…] of values of one type.
pub fn make_array(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let columns = Columns::new(args)?;
    let sides: Vec<Side> = (0..columns.len()).map(|i| Side::of(&columns, i)).collect();
    let mut out = Gather::new(sides.iter().map(|s| s.array.clone()).collect(), columns.rows);
    for row in 0..columns.rows {
        for (source, side) in sides.iter().enumerate() {
            out.push(source, side.at(row));
        }
        out.end_row(true);
    }
    columns.finish(out.finish(result)?, result)
}

/// Refuses lists of lists.
pub fn one_dimension(elements: &[DataType]) -> Result<()> {
    if elements.iter().any(|t| matches!(t, DataType::List(_))) {
        return Err(Error::unsupported("multidimensional arrays are not supported"));
    }
    Ok(())
}

/// The functions and operators with their signatures.
pub const SPECS: &[Spec] = &[
    ("&&(anyarray,anyarray)->bool", Native(overlap), "have elements in common"),
    ("@>(anyarray,anyarray)->bool", Native(contains), "contains"),
    ("<@(anyarray,anyarray)->bool", Native(contained), "is contained in"),
    ("||(anyarray,anyarray)->anyarray", Native(array_cat), "concatenates"),
    ("||(anyarray,anyelement)->anyarray", Native(array_append), "appends an element"),
    ("||(anyelement,anyarray)->anyarray", Native(array_prepend), "prepends an element"),
    ("array_cat(anyarray,anyarray)->anyarray", Native(array_cat), "concatenates"),
    ("array_append(anyarray,anyelement)->anyarray", Native(array_append), "appends an element"),
    ("array_prepend(anyelement,anyarray)->anyarray", Native(array_prepend), "prepends an element"),
    ("array_remove(anyarray,anyelement)->anyarray", Native(array_remove), "without the elements equal to it"),
    (
        "array_replace(anyarray,anyelement,anyelement)->anyarray",
        Native(array_replace),
        "with elements equal to the second replaced by the third",
    ),
    ("array_position(anyarray,anyelement)->int4", Native(array_position), "place of the first such element"),
    (
        "array_position(anyarray,anyelement,int4)->int4",
        Native(array_position),
        "place of the first such element from a place on",
    ),
    ("array_positions(anyarray,anyelement)->_int4", Native(array_positions), "places of all such elements"),
    ("cardinality(anyarray)->int4", Native(cardinality), "number of elements"),
    ("array_length(anyarray,int4)->int4", Native(array_length), "length of a dimension"),
    ("array_upper(anyarray,int4)->int4", Native(array_length), "upper bound of a dimension"),
    ("array_lower(anyarray,int4)->int4", Native(array_lower), "lower bound of a dimension"),
    ("array_ndims(anyarray)->int4", Native(array_ndims), "number of dimensions"),
    ("array_dims(anyarray)->text", Native(array_dims), "bounds as text"),
    ("trim_array(anyarray,int4)->anyarray", Native(trim_array), "without so many elements at the end"),
    ("array_fill(anyelement,_int4)->anyarray", Native(array_fill), "so many copies of a value"),
    ("array_to_string(anyarray,text)->text", Zoned(array_to_string), "elements joined, NULLs left out"),
    (
        "array_to_string(anyarray,text,text)->text",
        Zoned(array_to_string),
        "elements joined, NULLs as the third",
    ),
    ("string_to_array(text,text)->_text", Native(string_to_array), "parts between delimiters"),
    (
        "string_to_array(text,text,text)->_text",
        Native(string_to_array),
        "the same, parts equal to the third NULL",
    ),
];
