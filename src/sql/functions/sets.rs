//! Functions that return sets, as functions that return lists: the binder unnests what they give.
//!
//! A call is bound as a marker around its list ([`marker`]); the projection it stands in takes the list out again.
//!
//! Boundary: kernels over columns; which overload is meant is settled by the binder.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, ListArray, StringBuilder,
    TimestampMicrosecondArray, make_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use chrono::{DateTime, Days, Months, TimeDelta};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, Volatility};

use super::{DfResult, Kernel, Native, as_arrays, df_error, from_array, native, native_with};
use crate::error::{Error, ErrorKind};
use crate::types::PgType;

/// Name of the marker around the list of a call.
const MARKER: &str = "set of";
/// Items one call may give.
const MAX_ITEMS: usize = 1 << 27;

/// How a call is written after the syntax tree was prepared: no other function has such a name.
pub const PREFIX: &str = "srf_";

/// What the columns of a function in FROM are called; one column under the function's own name where it says `None`.
pub fn columns(name: &str) -> Option<Option<&'static [&'static str]>> {
    Some(match name {
        "generate_series" | "unnest" | "regexp_split_to_table" | "string_to_table" => None,
        "jsonb_object_keys" | "json_object_keys" => None,
        "jsonb_array_elements"
        | "jsonb_array_elements_text"
        | "json_array_elements"
        | "json_array_elements_text" => Some(&["value"]),
        "jsonb_each" | "jsonb_each_text" | "json_each" | "json_each_text" => Some(&["key", "value"]),
        _ => return None,
    })
}

/// A call that gives the items of `list` one by one, each a value of this field.
pub fn marker(list: Expr, item: &Field) -> Expr {
    native_with(MARKER, item.clone().with_nullable(true), misplaced, Volatility::Immutable, vec![list])
}

/// The list of a marker.
pub fn marked(expr: &Expr) -> Option<(&Expr, FieldRef)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let native = func.inner().downcast_ref::<Native>()?;
    (func.name() == MARKER).then_some(())?;
    Some((args.first()?, native.result().clone()))
}

fn misplaced(_: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    Err(df_error(Error::unsupported("set-returning functions are not allowed here")))
}

/// The value as one of this field, whatever the plan between has forgotten of it.
pub fn item(value: Expr, field: &Field) -> Expr {
    native_with("item", field.clone(), same, Volatility::Immutable, vec![value])
}

fn same(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    Ok(args.args[0].clone())
}

/// The value of a subquery that must not have had more than one row.
pub fn single_row(value: Expr, count: Expr, field: &Field) -> Expr {
    let field = field.clone().with_nullable(true);
    native_with("single_row", field, single_row_kernel, Volatility::Immutable, vec![value, count])
}

fn single_row_kernel(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    if arrays[1].as_primitive::<Int64Type>().iter().flatten().any(|n| n > 1) {
        return Err(df_error(Error::new(
            ErrorKind::Cardinality,
            "more than one row returned by a subquery used as an expression",
        )));
    }
    from_array(Arc::clone(&arrays[0]), scalar)
}

/// The type of a list of these.
pub fn list_of(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item.clone(), true)))
}

/// A list function over settled arguments.
pub fn list(name: &str, kernel: Kernel, item: &DataType, args: Vec<Expr>) -> Expr {
    native(name, list_of(item), kernel, args)
}

/// Lists under construction.
struct Lists {
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl Lists {
    fn new(rows: usize) -> Lists {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Lists { offsets, valid: Vec::with_capacity(rows) }
    }

    /// Ends a list whose last item is the `len`-th of all.
    fn end(&mut self, len: usize, valid: bool) -> DfResult<()> {
        let end = i32::try_from(len).ok().filter(|_| len <= MAX_ITEMS);
        self.offsets.push(end.ok_or_else(too_many)?);
        self.valid.push(valid);
        Ok(())
    }

    fn finish(self, items: ArrayRef, scalar: bool) -> DfResult<ColumnarValue> {
        let field = Arc::new(Field::new("item", items.data_type().clone(), true));
        let nulls = NullBuffer::from(self.valid);
        from_array(
            Arc::new(ListArray::try_new(field, OffsetBuffer::new(self.offsets.into()), items, Some(nulls))?),
            scalar,
        )
    }
}

fn too_many() -> datafusion::error::DataFusionError {
    df_error(Error::new(ErrorKind::ProgramLimit, "a function returned too many rows"))
}

fn no_step() -> datafusion::error::DataFusionError {
    df_error(Error::new(ErrorKind::InvalidParameter, "step size cannot equal zero"))
}

/// generate_series over integers.
pub fn integer_series(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let small = *result == list_of(&DataType::Int32);
    let wide = |a: &ArrayRef| -> Int64Array {
        match a.data_type() {
            DataType::Int32 => a.as_primitive::<Int32Type>().unary(i64::from),
            _ => a.as_primitive::<Int64Type>().clone(),
        }
    };
    let (from, to) = (wide(&arrays[0]), wide(&arrays[1]));
    let step = arrays.get(2).map(wide);
    let mut lists = Lists::new(from.len());
    let mut items: Vec<i64> = Vec::new();
    for i in 0..from.len() {
        let by = step.as_ref().map_or(1, |s| s.value(i));
        if from.is_null(i) || to.is_null(i) || step.as_ref().is_some_and(|s| s.is_null(i)) {
            lists.end(items.len(), false)?;
            continue;
        }
        if by == 0 {
            return Err(no_step());
        }
        let (mut at, end) = (from.value(i), to.value(i));
        while (by > 0 && at <= end) || (by < 0 && at >= end) {
            items.push(at);
            if items.len() > MAX_ITEMS {
                return Err(too_many());
            }
            match at.checked_add(by) {
                Some(next) => at = next,
                None => break,
            }
        }
        lists.end(items.len(), true)?;
    }
    let items: ArrayRef = if small {
        // Between two int4 values all are.
        Arc::new(Int32Array::from_iter_values(items.into_iter().map(|v| v as i32)))
    } else {
        Arc::new(Int64Array::from(items))
    };
    lists.finish(items, scalar)
}

/// generate_series over numerics of one scale.
pub fn numeric_series(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let DataType::List(field) = result else { return Err(df_error(Error::internal("a series is a list"))) };
    let DataType::Decimal128(precision, scale) = *field.data_type() else {
        return Err(df_error(Error::internal("a series of numerics")));
    };
    let of = |i: usize| arrays[i].as_primitive::<Decimal128Type>();
    let (from, to) = (of(0), of(1));
    let step = arrays.get(2).map(|_| of(2));
    let one = 10i128.pow(u32::from(scale.unsigned_abs()));
    let mut lists = Lists::new(from.len());
    let mut items: Vec<i128> = Vec::new();
    for i in 0..from.len() {
        if from.is_null(i) || to.is_null(i) || step.is_some_and(|s| s.is_null(i)) {
            lists.end(items.len(), false)?;
            continue;
        }
        let by = step.map_or(one, |s| s.value(i));
        if by == 0 {
            return Err(no_step());
        }
        let (mut at, end) = (from.value(i), to.value(i));
        while (by > 0 && at <= end) || (by < 0 && at >= end) {
            items.push(at);
            if items.len() > MAX_ITEMS {
                return Err(too_many());
            }
            at = match at.checked_add(by) {
                Some(next) => next,
                None => break,
            };
        }
        lists.end(items.len(), true)?;
    }
    let items = Decimal128Array::from(items).with_precision_and_scale(precision, scale)?;
    lists.finish(Arc::new(items), scalar)
}

/// A moment moved by an interval, as PostgreSQL adds them: months, then days, then time.
fn moved(micros: i64, by: IntervalMonthDayNano) -> Option<i64> {
    let at = DateTime::from_timestamp_micros(micros)?;
    let months = Months::new(by.months.unsigned_abs());
    let at = if by.months >= 0 { at.checked_add_months(months) } else { at.checked_sub_months(months) }?;
    let days = Days::new(by.days.unsigned_abs().into());
    let at = if by.days >= 0 { at.checked_add_days(days) } else { at.checked_sub_days(days) }?;
    let at = at.checked_add_signed(TimeDelta::nanoseconds(by.nanoseconds))?;
    Some(at.timestamp_micros())
}

/// generate_series over timestamps.
pub fn timestamp_series(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let DataType::List(field) = result else { return Err(df_error(Error::internal("a series is a list"))) };
    let (from, to) = (
        arrays[0].as_primitive::<TimestampMicrosecondType>(),
        arrays[1].as_primitive::<TimestampMicrosecondType>(),
    );
    let step = arrays[2].as_primitive::<IntervalMonthDayNanoType>();
    let mut lists = Lists::new(from.len());
    let mut items: Vec<i64> = Vec::new();
    for i in 0..from.len() {
        if from.is_null(i) || to.is_null(i) || step.is_null(i) {
            lists.end(items.len(), false)?;
            continue;
        }
        let by = step.value(i);
        // PostgreSQL compares the step with zero as intervals compare: a month has 30 days.
        let length = (i128::from(by.months) * 30 + i128::from(by.days)) * 86_400_000_000_000
            + i128::from(by.nanoseconds);
        if length == 0 {
            return Err(no_step());
        }
        let (mut at, end) = (from.value(i), to.value(i));
        while (length > 0 && at <= end) || (length < 0 && at >= end) {
            items.push(at);
            if items.len() > MAX_ITEMS {
                return Err(too_many());
            }
            match moved(at, by) {
                Some(next) if next != at => at = next,
                _ => break,
            }
        }
        lists.end(items.len(), true)?;
    }
    let items = TimestampMicrosecondArray::from(items);
    let items: ArrayRef = Arc::new(items);
    let items = make_array(items.to_data().into_builder().data_type(field.data_type().clone()).build()?);
    lists.finish(items, scalar)
}

/// The numbers 1, 2, … as far as the longest of the lists goes.
pub fn ordinals(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let rows = arrays.first().map_or(0, |a| a.len());
    let mut lists = Lists::new(rows);
    let mut items: Vec<i64> = Vec::new();
    for i in 0..rows {
        let longest =
            arrays.iter().filter(|a| a.is_valid(i)).map(|a| a.as_list::<i32>().value_length(i)).max();
        items.extend(1..=i64::from(longest.unwrap_or(0)));
        lists.end(items.len(), true)?;
    }
    lists.finish(Arc::new(Int64Array::from(items)), scalar)
}

/// Lists of text, each made by a function of the row that hands over its items; it says whether there is a list.
fn texts(
    rows: usize,
    scalar: bool,
    mut each: impl FnMut(usize, &mut dyn FnMut(Option<&str>)) -> DfResult<bool>,
) -> DfResult<ColumnarValue> {
    let mut lists = Lists::new(rows);
    let mut items = StringBuilder::new();
    let mut len = 0;
    for i in 0..rows {
        let valid = each(i, &mut |item| {
            len += 1;
            items.append_option(item);
        })?;
        if items.values_slice().len() > i32::MAX as usize / 2 {
            return Err(too_many());
        }
        lists.end(len, valid)?;
    }
    lists.finish(Arc::new(items.finish()), scalar)
}

/// regexp_split_to_table(text, pattern [, flags]).
pub fn regexp_split(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (text, pattern) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
    let flags = arrays.get(2).map(|a| a.as_string::<i32>());
    let mut known: Option<(String, regex::Regex)> = None;
    texts(text.len(), scalar, |i, push| {
        if text.is_null(i) || pattern.is_null(i) || flags.is_some_and(|f| f.is_null(i)) {
            return Ok(false);
        }
        let mut source = String::new();
        if let Some(flags) = flags {
            for flag in flags.value(i).chars() {
                match flag {
                    'i' => source.push_str("(?i)"),
                    's' => source.push_str("(?s)"),
                    'x' => source.push_str("(?x)"),
                    'n' | 'm' => source.push_str("(?m)"),
                    'c' | 't' => {}
                    other => {
                        return Err(df_error(Error::new(
                            ErrorKind::InvalidParameter,
                            format!("invalid regular expression option: \"{other}\""),
                        )));
                    }
                }
            }
        }
        source.push_str(pattern.value(i));
        if known.as_ref().is_none_or(|(s, _)| *s != source) {
            let compiled = regex::Regex::new(&source).map_err(|e| {
                df_error(
                    Error::new(ErrorKind::InvalidRegex, "invalid regular expression")
                        .with_detail(e.to_string()),
                )
            })?;
            known = Some((source, compiled));
        }
        let Some((_, regex)) = &known else { return Ok(false) };
        let text = text.value(i);
        let mut from = 0;
        for found in regex.find_iter(text) {
            // An empty match at an end splits nothing.
            if found.is_empty() && (found.start() == 0 || found.start() == text.len()) {
                continue;
            }
            push(Some(&text[from..found.start()]));
            from = found.end();
        }
        push(Some(&text[from..]));
        Ok(true)
    })
}

/// string_to_table(text, delimiter [, null text]).
pub fn string_split(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let (text, delimiter) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
    let nulls = arrays.get(2).map(|a| a.as_string::<i32>());
    texts(text.len(), scalar, |i, push| {
        if text.is_null(i) {
            return Ok(false);
        }
        let text = text.value(i);
        if text.is_empty() {
            return Ok(true);
        }
        let null = nulls.filter(|n| n.is_valid(i)).map(|n| n.value(i));
        let mut give = |part: &str| push(Some(part).filter(|p| Some(*p) != null));
        if delimiter.is_null(i) {
            let mut buffer = [0; 4];
            text.chars().for_each(|c| give(c.encode_utf8(&mut buffer)));
        } else if delimiter.value(i).is_empty() {
            give(text);
        } else {
            text.split(delimiter.value(i)).for_each(give);
        }
        Ok(true)
    })
}

/// Which part of a JSON value is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Elements,
    Keys,
    Values,
}

fn parts(args: &ScalarFunctionArgs, part: Part, as_text: bool) -> DfResult<ColumnarValue> {
    let (arrays, scalar) = as_arrays(args)?;
    let json = arrays[0].as_string::<i32>();
    let unescaped = |quoted: &str| -> DfResult<String> {
        serde_json::from_str::<String>(quoted)
            .map_err(|e| df_error(Error::internal(format!("a JSON string: {e}"))))
    };
    texts(json.len(), scalar, |i, push| {
        if json.is_null(i) {
            return Ok(false);
        }
        let text = json.value(i).trim();
        let open = if part == Part::Elements { '[' } else { '{' };
        if !text.starts_with(open) {
            let name = match (part, text.starts_with('[') || text.starts_with('{')) {
                (Part::Elements, true) => "cannot extract elements from an object",
                (Part::Elements, false) => "cannot extract elements from a scalar",
                (Part::Keys, true) => "cannot call jsonb_object_keys on an array",
                (Part::Keys, false) => "cannot call jsonb_object_keys on a scalar",
                (Part::Values, _) => "cannot call jsonb_each on a non-object",
            };
            return Err(df_error(Error::new(ErrorKind::InvalidParameter, name)));
        }
        let mut result = Ok(());
        split_json(text, |piece, is_key| {
            let wanted = match part {
                Part::Elements => true,
                Part::Keys => is_key,
                Part::Values => !is_key,
            };
            if !wanted || result.is_err() {
                return;
            }
            let plain = is_key || as_text;
            if plain && piece.starts_with('"') {
                match unescaped(piece) {
                    Ok(s) => push(Some(&s)),
                    Err(e) => result = Err(e),
                }
            } else if plain && piece == "null" {
                push(None);
            } else {
                push(Some(piece));
            }
        });
        result.map(|()| true)
    })
}

/// Hands over the members of an array, or the keys and values of an object in turn.
fn split_json(text: &str, mut member: impl FnMut(&str, bool)) {
    let object = text.starts_with('{');
    let bytes = text.as_bytes();
    let (mut depth, mut start, mut key, mut at) = (0usize, 1usize, object, 0usize);
    let mut give = |from: usize, to: usize, key: bool| {
        let piece = text[from..to].trim();
        if !piece.is_empty() {
            member(piece, key);
        }
    };
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    give(start, at, key);
                    return;
                }
            }
            b',' if depth == 1 => {
                give(start, at, key);
                (start, key) = (at + 1, object);
            }
            b':' if depth == 1 && key => {
                give(start, at, true);
                (start, key) = (at + 1, false);
            }
            _ => {}
        }
        at += 1;
    }
}

/// json(b)_array_elements.
pub fn elements(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    parts(args, Part::Elements, false)
}

/// json(b)_array_elements_text.
pub fn elements_text(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    parts(args, Part::Elements, true)
}

/// json(b)_object_keys, and the keys of json(b)_each.
pub fn keys(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    parts(args, Part::Keys, true)
}

/// The values of json(b)_each.
pub fn values(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    parts(args, Part::Values, false)
}

/// The values of json(b)_each_text.
pub fn values_text(args: &ScalarFunctionArgs, _: &DataType) -> DfResult<ColumnarValue> {
    parts(args, Part::Values, true)
}

/// The provisional type of a call, while names are resolved.
pub fn provisional_type(name: &str, args: &[DataType]) -> DataType {
    match name {
        "unnest" => match args.first() {
            Some(DataType::List(f)) => f.data_type().clone(),
            _ => DataType::Utf8,
        },
        "generate_series" => args.first().cloned().unwrap_or(DataType::Int64),
        "ordinality" => DataType::Int64,
        _ => PgType::TEXT.arrow(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Vec<(String, bool)> {
        let mut all = vec![];
        split_json(text, |m, key| all.push((m.to_string(), key)));
        all
    }

    #[test]
    fn json_is_split_at_its_own_commas_only() {
        let of = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
            list.iter().map(|(s, k)| (s.to_string(), *k)).collect()
        };
        assert_eq!(members("[]"), of(&[]));
        assert_eq!(
            members("[1, \"a,]\\\"\", [2, {\"x\": 3}]]"),
            of(&[("1", false), ("\"a,]\\\"\"", false), ("[2, {\"x\": 3}]", false)])
        );
        assert_eq!(
            members("{\"a:b\": [1, 2], \"c\": null}"),
            of(&[("\"a:b\"", true), ("[1, 2]", false), ("\"c\"", true), ("null", false)])
        );
    }

    #[test]
    fn a_month_after_the_last_of_january_is_the_last_of_february() {
        let day = |s: &str| chrono::DateTime::parse_from_rfc3339(s).unwrap().timestamp_micros();
        let month = IntervalMonthDayNano::new(1, 0, 0);
        assert_eq!(moved(day("2024-01-31T00:00:00Z"), month), Some(day("2024-02-29T00:00:00Z")));
    }
}
