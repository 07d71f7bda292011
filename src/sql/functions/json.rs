//! The operators and functions of `json` and `jsonb`.
//!
//! Values are texts ([`super::json_text`]); parts of a value are slices of it, so nothing is parsed into a tree and
//! nothing is written anew that only moves.
//!
//! Boundary: kernels and their signatures; values of other types become JSON in [`super::json_build`].

use arrow::array::{Array, AsArray, BinaryBuilder, BooleanBuilder, Int32Builder, ListArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::json_text::{
    self as text, Kind, ObjectBuilder, elements, kind, members, path_index, string_value, unescape,
};
use super::kernel::{Columns, rows};
use super::registry::Build::Native;
use super::registry::Spec;
use super::{DfResult, df_error};
use crate::error::{Error, ErrorKind, Result};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidParameter, message)
}

/// What `->>` gives for a value: text without quotes, NULL for null.
fn as_text<'a>(value: &'a str) -> Option<std::borrow::Cow<'a, str>> {
    match kind(value) {
        Kind::Null => None,
        Kind::String => Some(string_value(value)),
        _ => Some(value.into()),
    }
}

/// A path given as an array of texts; NULL among them ends the search.
struct Path {
    array: arrow::array::ArrayRef,
}

impl Path {
    fn steps(&self) -> impl Iterator<Item = Option<&str>> {
        let texts = self.array.as_string::<i32>();
        (0..texts.len()).map(move |i| texts.is_valid(i).then(|| texts.value(i)))
    }

    fn find<'v>(&self, value: &'v str) -> Option<&'v str> {
        self.steps().try_fold(value, |v, step| text::step(v, step?))
    }

    fn owned(&self) -> Result<Vec<&str>> {
        self.steps()
            .enumerate()
            .map(|(i, s)| {
                s.ok_or_else(|| {
                    Error::new(
                        ErrorKind::NullNotAllowed,
                        format!("path element at position {} is null", i + 1),
                    )
                })
            })
            .collect()
    }
}

fn get_key(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, k: Text) out.append_option(match kind(v) {
        Kind::Object => text::member(v, k),
        _ => None,
    }))
}

fn get_key_text(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, k: Text) out.append_option(match kind(v) {
        Kind::Object => text::member(v, k).and_then(as_text),
        _ => None,
    }))
}

fn get_index(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, i: Int4) out.append_option(text::element(v, i.into())))
}

fn get_index_text(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, i: Int4)
        out.append_option(text::element(v, i.into()).and_then(as_text)))
}

/// A scalar counts as an array of itself.
fn scalar_element(v: &str, i: i32) -> Option<&str> {
    if kind(v).is_container() { text::element(v, i.into()) } else { matches!(i, 0 | -1).then_some(v) }
}

fn get_index_binary(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, i: Int4) out.append_option(scalar_element(v, i)))
}

fn get_index_text_binary(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, i: Int4)
        out.append_option(scalar_element(v, i).and_then(as_text)))
}

fn get_path(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, p: List) {
        out.append_option(Path { array: p }.find(v));
    })
}

fn get_path_text(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, p: List) {
        out.append_option(Path { array: p }.find(v).and_then(as_text));
    })
}

/// jsonb_extract_path: the steps are arguments of their own.
fn extract_path(args: &ScalarFunctionArgs, result: &DataType, as_is: bool) -> DfResult<ColumnarValue> {
    use super::kernel::Text;
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let texts = (0..columns.len()).map(|i| Text::of(&columns, i)).collect::<DfResult<Vec<_>>>()?;
    let mut out = StringBuilder::new();
    for row in 0..columns.rows {
        if columns.any_null(row) {
            out.append_null();
            continue;
        }
        let found = texts[1..].iter().try_fold(texts[0].at(row), |v, step| text::step(v, step.at(row)));
        if as_is {
            out.append_option(found);
        } else {
            out.append_option(found.and_then(as_text));
        }
    }
    columns.finish(std::sync::Arc::new(out.finish()), result)
}

fn contains(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (a: Text, b: Text) out.append_value(text::contains(a, b)))
}

fn contained(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (a: Text, b: Text) out.append_value(text::contains(b, a)))
}

fn exists(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (v: Text, k: Text) out.append_value(text::has_key(v, k)))
}

fn exists_any(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (v: Text, keys: List) {
        let keys = Path { array: keys };
        out.append_value(keys.steps().flatten().any(|k| text::has_key(v, k)));
    })
}

fn exists_all(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (v: Text, keys: List) {
        let keys = Path { array: keys };
        out.append_value(keys.steps().flatten().all(|k| text::has_key(v, k)));
    })
}

/// `a || b`.
fn concatenate(a: &str, b: &str, out: &mut String) -> Result<()> {
    match (kind(a), kind(b)) {
        (Kind::Object, Kind::Object) => {
            let mut object = ObjectBuilder::of(a);
            members(b).for_each(|(k, v)| object.set(unescape(k), v));
            object.write(out);
        }
        _ => {
            let parts = |v| -> Box<dyn Iterator<Item = &str>> {
                if kind(v) == Kind::Array { Box::new(elements(v)) } else { Box::new(std::iter::once(v)) }
            };
            text::write_array(parts(a).chain(parts(b)), out);
        }
    }
    Ok(())
}

fn concat(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (a: Text, b: Text) {
        buffer.clear();
        concatenate(a, b, &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn cannot_delete(value: &str) -> Result<()> {
    if kind(value).is_container() { Ok(()) } else { Err(invalid("cannot delete from scalar")) }
}

fn delete_key(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, k: Text) {
        cannot_delete(v)?;
        buffer.clear();
        without(v, |name| name == k, &mut buffer);
        out.append_value(&buffer);
    })
}

fn delete_keys(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, keys: List) {
        cannot_delete(v)?;
        buffer.clear();
        let keys = Path { array: keys };
        without(v, |name| keys.steps().flatten().any(|k| k == name), &mut buffer);
        out.append_value(&buffer);
    })
}

/// A container without the members, or strings among the elements, of these names.
fn without(value: &str, gone: impl Fn(&str) -> bool, out: &mut String) {
    if kind(value) == Kind::Array {
        let kept = elements(value).filter(|e| kind(e) != Kind::String || !gone(&string_value(e)));
        return text::write_array(kept, out);
    }
    out.push('{');
    let start = out.len();
    for (key, member) in members(value).filter(|(k, _)| !gone(&unescape(k))) {
        if out.len() > start {
            out.push_str(", ");
        }
        push_member(key, member, out);
    }
    out.push('}');
}

/// Writes a member whose key is escaped already.
fn push_member(key: &str, value: &str, out: &mut String) {
    out.push('"');
    out.push_str(key);
    out.push_str("\": ");
    out.push_str(value);
}

fn delete_index(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, i: Int4) {
        cannot_delete(v)?;
        if kind(v) == Kind::Object {
            Err(invalid("cannot delete from object using integer index"))?;
        }
        let count = elements(v).count() as i64;
        let at = if i < 0 { count + i64::from(i) } else { i.into() };
        buffer.clear();
        text::write_array(elements(v).enumerate().filter(|(n, _)| *n as i64 != at).map(|(_, e)| e), &mut buffer);
        out.append_value(&buffer);
    })
}

/// What is done at the end of a path.
#[derive(Clone, Copy, PartialEq)]
enum Change<'a> {
    Delete,
    /// Replace, or create what is missing if the flag says so.
    Set(&'a str, bool),
    /// Insert before, or after if the flag says so.
    Insert(&'a str, bool),
}

/// Writes `value` with a change at a path.
fn change(value: &str, path: &[&str], level: usize, what: Change, out: &mut String) -> Result<()> {
    let Some(step) = path.get(level) else {
        out.push_str(value);
        return Ok(());
    };
    let last = level + 1 == path.len();
    match kind(value) {
        Kind::Object => change_object(value, path, level, last, step, what, out),
        Kind::Array => change_array(value, path, level, last, step, what, out),
        _ => {
            out.push_str(value);
            Ok(())
        }
    }
}

fn change_object(
    value: &str,
    path: &[&str],
    level: usize,
    last: bool,
    step: &str,
    what: Change,
    out: &mut String,
) -> Result<()> {
    let found = text::member(value, step);
    match (found, what) {
        (None, Change::Set(new, true) | Change::Insert(new, _)) if last => {
            let mut object = ObjectBuilder::of(value);
            object.set(step, new);
            object.write(out);
            return Ok(());
        }
        (None, _) => {
            out.push_str(value);
            return Ok(());
        }
        (Some(_), Change::Insert(..)) if last => {
            return Err(invalid("cannot replace existing key")
                .with_hint("Try using the function jsonb_set to replace key value."));
        }
        _ => {}
    }
    out.push('{');
    let start = out.len();
    for (key, member) in members(value) {
        let here = unescape(key) == step;
        if here && last && what == Change::Delete {
            continue;
        }
        if out.len() > start {
            out.push_str(", ");
        }
        push_member(key, "", out);
        match what {
            Change::Set(new, _) if here && last => out.push_str(new),
            _ if here => change(member, path, level + 1, what, out)?,
            _ => out.push_str(member),
        }
    }
    out.push('}');
    Ok(())
}

fn change_array(
    value: &str,
    path: &[&str],
    level: usize,
    last: bool,
    step: &str,
    what: Change,
    out: &mut String,
) -> Result<()> {
    let Some(index) = path_index(step) else {
        return Err(Error::new(
            ErrorKind::InvalidText,
            format!("path element at position {} is not an integer: \"{step}\"", level + 1),
        ));
    };
    let count = elements(value).count() as i64;
    let at = if index < 0 { index + count } else { index };
    out.push('[');
    let start = out.len();
    let push = |v: &str, out: &mut String| {
        if out.len() > start {
            out.push_str(", ");
        }
        out.push_str(v);
    };
    let outside = at < 0 || at >= count;
    let added = match what {
        Change::Set(new, true) | Change::Insert(new, _) if last && outside => Some(new),
        _ => None,
    };
    if let Some(new) = added.filter(|_| at < 0) {
        push(new, out);
    }
    for (n, e) in elements(value).enumerate() {
        if n as i64 != at {
            push(e, out);
            continue;
        }
        match what {
            Change::Delete if last => {}
            Change::Set(new, _) if last => push(new, out),
            Change::Insert(new, after) if last => {
                push(if after { e } else { new }, out);
                push(if after { new } else { e }, out);
            }
            _ => {
                push("", out);
                change(e, path, level + 1, what, out)?;
            }
        }
    }
    if let Some(new) = added.filter(|_| at >= 0) {
        push(new, out);
    }
    out.push(']');
    Ok(())
}

fn delete_path(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, p: List) {
        if !kind(v).is_container() {
            Err(invalid("cannot delete path in scalar"))?;
        }
        buffer.clear();
        let path = Path { array: p };
        change(v, &path.owned()?, 0, Change::Delete, &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn set_path(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, p: List, new: Text, create: Bool) {
        if !kind(v).is_container() {
            Err(invalid("cannot set path in scalar"))?;
        }
        buffer.clear();
        let path = Path { array: p };
        change(v, &path.owned()?, 0, Change::Set(new, create), &mut buffer)?;
        out.append_value(&buffer);
    })
}

fn insert_path(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text, p: List, new: Text, after: Bool) {
        if !kind(v).is_container() {
            Err(invalid("cannot set path in scalar"))?;
        }
        buffer.clear();
        let path = Path { array: p };
        change(v, &path.owned()?, 0, Change::Insert(new, after), &mut buffer)?;
        out.append_value(&buffer);
    })
}

/// A constant that stands for an argument left out.
fn with_default(args: &ScalarFunctionArgs, value: bool) -> ScalarFunctionArgs {
    let mut args = args.clone();
    args.args.push(ColumnarValue::Scalar(datafusion::common::ScalarValue::Boolean(Some(value))));
    args
}

fn typeof_(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text) out.append_value(kind(v).name()))
}

fn array_length(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = Int32Builder::new(), (v: Text) match kind(v) {
        Kind::Array => out.append_value(elements(v).count() as i32),
        Kind::Object => Err(invalid("cannot get array length of a non-array"))?,
        _ => Err(invalid("cannot get array length of a scalar"))?,
    })
}

/// Without members whose value is null, at all depths.
fn strip_nulls(value: &str, blank: &str, out: &mut String) {
    match kind(value) {
        Kind::Object => {
            out.push('{');
            let start = out.len();
            for (key, member) in members(value).filter(|(_, v)| kind(v) != Kind::Null) {
                if out.len() > start {
                    out.push(',');
                    out.push_str(blank);
                }
                out.push('"');
                out.push_str(key);
                out.push_str("\":");
                out.push_str(blank);
                strip_nulls(member, blank, out);
            }
            out.push('}');
        }
        Kind::Array => {
            out.push('[');
            let start = out.len();
            for e in elements(value) {
                if out.len() > start {
                    out.push(',');
                    out.push_str(blank);
                }
                strip_nulls(e, blank, out);
            }
            out.push(']');
        }
        _ => out.push_str(value),
    }
}

fn strip(args: &ScalarFunctionArgs, result: &DataType, blank: &str) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text) {
        buffer.clear();
        strip_nulls(v, blank, &mut buffer);
        out.append_value(&buffer);
    })
}

fn pretty_value(value: &str, level: usize, out: &mut String) {
    let line = |level: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', level * 4));
    };
    let (open, close) = if kind(value) == Kind::Object { ('{', '}') } else { ('[', ']') };
    match kind(value) {
        Kind::Object | Kind::Array => {
            out.push(open);
            let start = out.len();
            for (key, member) in members(value) {
                if out.len() > start {
                    out.push(',');
                }
                line(level + 1, out);
                push_member(key, "", out);
                pretty_value(member, level + 1, out);
            }
            for e in elements(value) {
                if out.len() > start {
                    out.push(',');
                }
                line(level + 1, out);
                pretty_value(e, level + 1, out);
            }
            line(level, out);
            out.push(close);
        }
        _ => out.push_str(value),
    }
}

fn pretty(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (v: Text) {
        buffer.clear();
        pretty_value(v, 0, &mut buffer);
        out.append_value(&buffer);
    })
}

/// jsonb_object(text[]), jsonb_object(keys, values) and the same of json.
fn object_of_texts(args: &ScalarFunctionArgs, result: &DataType, binary: bool) -> DfResult<ColumnarValue> {
    let two = args.args.len() == 2;
    let columns = Columns::new(args)?;
    if let Some(null) = columns.all_null(result)? {
        return Ok(null);
    }
    let lists: Vec<&ListArray> = (0..columns.len()).map(|i| columns.array(i).as_list::<i32>()).collect();
    let mut out = StringBuilder::new();
    let mut buffer = String::new();
    for row in 0..columns.rows {
        if columns.any_null(row) {
            out.append_null();
            continue;
        }
        let list = |i: usize| lists[i].value(columns.index(i, row));
        let keys = Path { array: list(0) };
        let mut object = ObjectBuilder::default();
        let null_key = || Error::new(ErrorKind::NullNotAllowed, "null value not allowed for object key");
        let quoted = |v: Option<&str>| {
            v.map_or_else(
                || "null".to_string(),
                |v| {
                    let mut s = String::new();
                    text::write_string(v, &mut s);
                    s
                },
            )
        };
        if two {
            let values = Path { array: list(1) };
            if keys.array.len() != values.array.len() {
                let kind = ErrorKind::ArraySubscript;
                return Err(df_error(Error::new(kind, "mismatched array dimensions")));
            }
            for (k, v) in keys.steps().zip(values.steps()) {
                object.set(k.ok_or_else(null_key).map_err(df_error)?.to_string(), quoted(v));
            }
        } else {
            let all: Vec<Option<&str>> = keys.steps().collect();
            if !all.len().is_multiple_of(2) {
                let kind = ErrorKind::ArraySubscript;
                return Err(df_error(Error::new(kind, "array must have even number of elements")));
            }
            for pair in all.chunks(2) {
                object.set(pair[0].ok_or_else(null_key).map_err(df_error)?.to_string(), quoted(pair[1]));
            }
        }
        buffer.clear();
        if binary {
            object.write(&mut buffer);
        } else {
            object.write_as_given(&mut buffer);
        }
        out.append_value(&buffer);
    }
    columns.finish(std::sync::Arc::new(out.finish()), result)
}

/// A key whose byte order is PostgreSQL's order of `jsonb`; equal values have equal keys.
pub fn order_key(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut buffer = Vec::new();
    rows!(args, result, out = BinaryBuilder::new(), (v: Text) {
        buffer.clear();
        // For historical reasons an empty array comes before everything else, but only at the top.
        if v == "[]" {
            buffer.push(0);
        } else {
            write_order_key(v, &mut buffer);
        }
        out.append_value(&buffer);
    })
}

fn write_order_key(value: &str, out: &mut Vec<u8>) {
    let text = |t: &str, out: &mut Vec<u8>| {
        for b in t.bytes() {
            out.push(b);
            if b == 0 {
                out.push(0xff);
            }
        }
        out.extend([0, 0]);
    };
    let size = |n: usize, out: &mut Vec<u8>| out.extend((n as u32).to_be_bytes());
    match kind(value) {
        Kind::Null => out.push(1),
        Kind::String => {
            out.push(2);
            text(&string_value(value), out);
        }
        Kind::Number => {
            out.push(3);
            write_number_key(value, out);
        }
        Kind::Bool => out.extend([4, u8::from(value.starts_with('t'))]),
        Kind::Array => {
            out.push(5);
            size(elements(value).count(), out);
            elements(value).for_each(|e| write_order_key(e, out));
        }
        Kind::Object => {
            out.push(6);
            size(members(value).count(), out);
            for (key, member) in members(value) {
                let key = unescape(key);
                size(key.len(), out);
                text(&key, out);
                write_order_key(member, out);
            }
        }
    }
}

/// Sign, digits before the point, and the digits; of negative numbers the complement.
fn write_number_key(number: &str, out: &mut Vec<u8>) {
    let (negative, digits) = number.strip_prefix('-').map_or((false, number), |d| (true, d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.is_empty() && fraction.is_empty() {
        out.push(1);
        return;
    }
    out.push(if negative { 0 } else { 2 });
    let flip = if negative { 0xff } else { 0 };
    out.extend((whole.len() as u32).to_be_bytes().map(|b| b ^ flip));
    out.extend(whole.bytes().chain(fraction.bytes()).map(|b| b ^ flip));
    out.push(flip);
}

/// `jsonb::number`, `jsonb::boolean` and the like: the text of the scalar, for the cast of text that follows.
pub fn scalar_text(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    rows!(args, result, out = StringBuilder::new(), (v: Text, wanted: Text) {
        let found = match kind(v) {
            Kind::Number if wanted != "boolean" => v,
            Kind::Bool if wanted == "boolean" => v,
            other => {
                let noun = if other == Kind::Number { "numeric" } else { other.name() };
                Err(invalid(format!("cannot cast jsonb {noun} to type {wanted}")))?;
                v
            }
        };
        out.append_value(found);
    })
}

/// The functions and operators with their signatures.
pub const SPECS: &[Spec] = &[
    ("->(json,text)->json", Native(get_key), "member of an object"),
    ("->(jsonb,text)->jsonb", Native(get_key), "member of an object"),
    ("->(json,int4)->json", Native(get_index), "element of an array, from 0, negative from the end"),
    ("->(jsonb,int4)->jsonb", Native(get_index_binary), "element of an array, from 0, negative from the end"),
    ("->>(json,text)->text", Native(get_key_text), "member of an object as text"),
    ("->>(jsonb,text)->text", Native(get_key_text), "member of an object as text"),
    ("->>(json,int4)->text", Native(get_index_text), "element of an array as text"),
    ("->>(jsonb,int4)->text", Native(get_index_text_binary), "element of an array as text"),
    ("#>(json,_text)->json", Native(get_path), "value at a path"),
    ("#>(jsonb,_text)->jsonb", Native(get_path), "value at a path"),
    ("#>>(json,_text)->text", Native(get_path_text), "value at a path as text"),
    ("#>>(jsonb,_text)->text", Native(get_path_text), "value at a path as text"),
    ("@>(jsonb,jsonb)->bool", Native(contains), "contains"),
    ("<@(jsonb,jsonb)->bool", Native(contained), "is contained in"),
    ("?(jsonb,text)->bool", Native(exists), "has the key, or the string as element"),
    ("?|(jsonb,_text)->bool", Native(exists_any), "has any of the keys"),
    ("?&(jsonb,_text)->bool", Native(exists_all), "has all of the keys"),
    ("||(jsonb,jsonb)->jsonb", Native(concat), "concatenates arrays, merges objects"),
    ("-(jsonb,text)->jsonb", Native(delete_key), "without the key"),
    ("-(jsonb,_text)->jsonb", Native(delete_keys), "without the keys"),
    ("-(jsonb,int4)->jsonb", Native(delete_index), "without the element"),
    ("#-(jsonb,_text)->jsonb", Native(delete_path), "without what is at the path"),
    ("jsonb_exists(jsonb,text)->bool", Native(exists), "the operator ?"),
    ("jsonb_exists_any(jsonb,_text)->bool", Native(exists_any), "the operator ?|"),
    ("jsonb_exists_all(jsonb,_text)->bool", Native(exists_all), "the operator ?&"),
    ("jsonb_typeof(jsonb)->text", Native(typeof_), "object, array, string, number, boolean or null"),
    ("json_typeof(json)->text", Native(typeof_), "object, array, string, number, boolean or null"),
    ("jsonb_array_length(jsonb)->int4", Native(array_length), "number of elements"),
    ("json_array_length(json)->int4", Native(array_length), "number of elements"),
    ("jsonb_extract_path(jsonb,text...)->jsonb", Native(|a, t| extract_path(a, t, true)), "value at a path"),
    ("json_extract_path(json,text...)->json", Native(|a, t| extract_path(a, t, true)), "value at a path"),
    (
        "jsonb_extract_path_text(jsonb,text...)->text",
        Native(|a, t| extract_path(a, t, false)),
        "value at a path as text",
    ),
    (
        "json_extract_path_text(json,text...)->text",
        Native(|a, t| extract_path(a, t, false)),
        "value at a path as text",
    ),
    (
        "jsonb_set(jsonb,_text,jsonb)->jsonb",
        Native(|a, t| set_path(&with_default(a, true), t)),
        "with a new value at the path",
    ),
    ("jsonb_set(jsonb,_text,jsonb,bool)->jsonb", Native(set_path), "the same; false: only if it is there"),
    (
        "jsonb_insert(jsonb,_text,jsonb)->jsonb",
        Native(|a, t| insert_path(&with_default(a, false), t)),
        "with a new value inserted before the path",
    ),
    ("jsonb_insert(jsonb,_text,jsonb,bool)->jsonb", Native(insert_path), "the same; true: after the path"),
    ("jsonb_strip_nulls(jsonb)->jsonb", Native(|a, t| strip(a, t, " ")), "without members that are null"),
    ("json_strip_nulls(json)->json", Native(|a, t| strip(a, t, "")), "without members that are null"),
    ("jsonb_pretty(jsonb)->text", Native(pretty), "indented text"),
    (
        "jsonb_object(_text)->jsonb",
        Native(|a, t| object_of_texts(a, t, true)),
        "object of keys and values in turn",
    ),
    (
        "jsonb_object(_text,_text)->jsonb",
        Native(|a, t| object_of_texts(a, t, true)),
        "object of keys and values",
    ),
    (
        "json_object(_text)->json",
        Native(|a, t| object_of_texts(a, t, false)),
        "object of keys and values in turn",
    ),
    (
        "json_object(_text,_text)->json",
        Native(|a, t| object_of_texts(a, t, false)),
        "object of keys and values",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(value: &str, path: &[&str], what: Change) -> String {
        let mut out = String::new();
        change(value, path, 0, what, &mut out).unwrap();
        out
    }

    #[test]
    fn changes_reach_into_objects_and_arrays() {
        let doc = r#"{"a": [1, 2, {"b": 3}], "c": 4}"#;
        assert_eq!(changed(doc, &["a", "2", "b"], Change::Delete), r#"{"a": [1, 2, {}], "c": 4}"#);
        assert_eq!(changed(doc, &["a", "-1"], Change::Set("9", true)), r#"{"a": [1, 2, 9], "c": 4}"#);
        assert_eq!(changed(doc, &["a", "9"], Change::Set("9", false)), doc);
        assert_eq!(
            changed(doc, &["a", "0"], Change::Insert("0", false)),
            r#"{"a": [0, 1, 2, {"b": 3}], "c": 4}"#
        );
    }

    #[test]
    fn the_bytes_of_order_keys_are_ordered_like_the_values() {
        let key = |v: &str| {
            let mut out = Vec::new();
            write_order_key(v, &mut out);
            out
        };
        let ordered = [
            "null",
            "\"a\"",
            "\"ab\"",
            "\"b\"",
            "-10",
            "-2.5",
            "-2.25",
            "-0.1",
            "0",
            "0.05",
            "0.5",
            "1",
            "1.5",
            "2",
            "10",
            "false",
            "true",
            "[]",
            "[1]",
            "[2]",
            "[1, 2]",
            "{}",
            "{\"a\": 1}",
            "{\"b\": 0}",
            "{\"aa\": 0}",
        ];
        for pair in ordered.windows(2) {
            assert!(key(pair[0]) < key(pair[1]), "{pair:?}");
            assert_eq!(text::compare(pair[0], pair[1]), std::cmp::Ordering::Less, "{pair:?}");
        }
        assert_eq!(key("1.0"), key("1"));
    }
}
