//! Conversions of values: to and from text, between numbers, names of catalog objects to oids and back.
//!
//! Boundary: values; which conversions there are was settled when the query was bound.

use std::sync::Arc;

use arrow::array::Array;
use datafusion::common::ScalarValue;

use super::SystemContext;
use super::coerce::{is_integer, is_reg, is_text};
use super::output;
use crate::catalog::ObjectId;
use crate::catalog::system::{
    OWNER, Value, find, oids, procedure_name, procedures_named, quote_ident, relations, types,
};
use crate::error::{Error, ErrorKind, Result};
use crate::types::text::{TextFormatter, TextOptions, parse_text};
use crate::types::{PgType, oid};

/// Converts a value of one type to another.
pub(super) fn cast(
    context: &SystemContext<'_>,
    value: &Value,
    from: PgType,
    to: PgType,
    explicit: bool,
) -> Result<Value> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let (Some(e), Some(f)) = (types::element(from.oid), types::element(to.oid))
        && let Value::Array(array) = value
    {
        let items = array
            .items
            .iter()
            .map(|v| cast(context, v, PgType::of(e), PgType::of(f), explicit))
            .collect::<Result<_>>()?;
        return Ok(Value::Array(Arc::new(crate::catalog::system::ArrayValue { lower: array.lower, items })));
    }
    if is_text(to.oid) {
        let text = if is_text(from.oid) { value.as_str().map(str::to_string) } else { None };
        let text = match text {
            Some(t) => t,
            None => to_text(context, value, from)?,
        };
        return Ok(fit_text(&text, to));
    }
    match (value, to.oid) {
        (Value::Text(text), _) => from_text(context, text, to),
        (Value::Bool(b), oid) if is_integer(oid) => Ok(Value::Int(i64::from(*b))),
        (Value::Int(i), oid::BOOL) => Ok(Value::Bool(*i != 0)),
        (Value::Int(i), oid::FLOAT4 | oid::FLOAT8) => Ok(Value::Float(*i as f64)),
        (Value::Int(i), oid) => in_range(*i, oid),
        (Value::Float(f), oid) if is_integer(oid) => {
            if f.is_finite() && f.abs() < 9.3e18 {
                in_range(f.round_ties_even() as i64, oid)
            } else {
                Err(out_of_range(oid))
            }
        }
        (Value::Timestamp(t), oid::DATE) => Ok(Value::Timestamp(t.div_euclid(DAY) * DAY)),
        _ => Ok(value.clone()),
    }
}

const DAY: i64 = 86_400_000_000;

fn out_of_range(oid: u32) -> Error {
    let name = match oid {
        oid::INT2 => "smallint",
        oid::INT4 => "integer",
        oid::INT8 => "bigint",
        _ => "OID",
    };
    Error::new(ErrorKind::NumericOutOfRange, format!("{name} out of range"))
}

fn in_range(i: i64, oid: u32) -> Result<Value> {
    let fits = match oid {
        oid::INT2 => i16::try_from(i).is_ok(),
        oid::INT4 => i32::try_from(i).is_ok(),
        o if is_reg(o) || o == oid::OID => i32::try_from(i).is_ok() || u32::try_from(i).is_ok(),
        _ => true,
    };
    if fits { Ok(Value::Int(i)) } else { Err(out_of_range(oid)) }
}

fn fit_text(text: &str, to: PgType) -> Value {
    let limit = match to.oid {
        oid::CHAR => 1,
        oid::NAME => 63,
        oid::VARCHAR | oid::BPCHAR => to.max_chars().unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    match text.char_indices().nth(limit) {
        Some((end, _)) => Value::from(&text[..end]),
        None => Value::from(text),
    }
}

/// The settings that texts of values depend on.
pub(super) fn text_options(context: &SystemContext<'_>) -> TextOptions {
    let options = TextOptions { now: Some(context.now), ..TextOptions::default() };
    match context.settings.get("TimeZone") {
        Ok(zone) => options.clone().with_time_zone(&zone).unwrap_or(options),
        Err(_) => options,
    }
}

/// The text of a value as `::text` gives it.
pub(super) fn to_text(context: &SystemContext<'_>, value: &Value, ty: PgType) -> Result<String> {
    Ok(match value {
        Value::Null => String::new(),
        Value::Bool(b) => b.to_string(),
        Value::Text(t) => t.to_string(),
        Value::Int(i) if is_reg(ty.oid) => reg_name(context, *i, ty.oid),
        Value::Int(i) => i.to_string(),
        Value::Float(f) if !matches!(ty.oid, oid::FLOAT4 | oid::FLOAT8) => {
            if f.is_nan() {
                "NaN".into()
            } else {
                f.to_string()
            }
        }
        Value::Array(array) if matches!(ty.oid, types::INT2VECTOR | types::OIDVECTOR) => {
            let items = array.items.iter().filter_map(Value::as_int).map(|i| i.to_string());
            items.collect::<Vec<_>>().join(" ")
        }
        Value::Array(array) => {
            let element = PgType::of(types::element(ty.oid).unwrap_or(oid::TEXT));
            let mut items = vec![];
            for item in &array.items {
                items.push(match item {
                    Value::Null => "NULL".to_string(),
                    item => quote_element(&output_text(context, item, element)?),
                });
            }
            format!("{{{}}}", items.join(","))
        }
        Value::Record(fields) => {
            let mut items = vec![];
            for item in fields.iter() {
                let text = output_text(context, item, guess_type(item))?;
                let special = |c: char| matches!(c, ',' | '(' | ')' | '"' | '\\') || c.is_whitespace();
                items.push(if text.is_empty() && !item.is_null() || text.contains(special) {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
                } else {
                    text
                });
            }
            format!("({})", items.join(","))
        }
        Value::Float(_) | Value::Timestamp(_) | Value::Interval { .. } | Value::Bytes(_) => {
            let array = output::array(context, std::slice::from_ref(value), ty)?;
            let mut out = vec![];
            TextFormatter::new(&ty.field("", true), &text_options(context)).write(&array, 0, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    })
}

fn output_text(context: &SystemContext<'_>, value: &Value, ty: PgType) -> Result<String> {
    match value {
        Value::Bool(b) => Ok(if *b { "t" } else { "f" }.into()),
        value => to_text(context, value, ty),
    }
}

/// A type whose text form suits the value.
fn guess_type(value: &Value) -> PgType {
    match value {
        Value::Bool(_) => PgType::BOOL,
        Value::Int(_) => PgType::INT8,
        Value::Float(_) => PgType::NUMERIC,
        Value::Timestamp(_) => PgType::TIMESTAMPTZ,
        Value::Interval { .. } => PgType::INTERVAL,
        Value::Bytes(_) => PgType::BYTEA,
        Value::Array(_) => PgType::of(1009),
        _ => PgType::TEXT,
    }
}

fn quote_element(text: &str) -> String {
    let special = |c: char| matches!(c, ',' | '{' | '}' | '"' | '\\') || c.is_whitespace();
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text.to_string()
    }
}

/// Reads a value from its text.
fn from_text(context: &SystemContext<'_>, text: &str, to: PgType) -> Result<Value> {
    let trimmed = text.trim();
    if matches!(to.oid, types::INT2VECTOR | types::OIDVECTOR) {
        let items = trimmed.split_whitespace().map(|t| number(t, oid::INT8)).collect::<Result<_>>()?;
        return Ok(Value::vector(items));
    }
    if let Some(element) = types::element(to.oid) {
        let items = array_items(trimmed)?
            .into_iter()
            .map(|item| {
                item.map_or(Ok(Value::Null), |t| {
                    cast(context, &t.into(), PgType::TEXT, PgType::of(element), true)
                })
            })
            .collect::<Result<_>>()?;
        return Ok(Value::array(items));
    }
    if is_reg(to.oid) {
        return reg_oid(context, trimmed, to.oid);
    }
    if is_integer(to.oid) {
        return number(trimmed, to.oid);
    }
    if to.oid == types::RECORD {
        return Err(Error::unsupported("input of anonymous composite types is not implemented"));
    }
    Ok(from_scalar(&parse_text(to, text, &text_options(context))?))
}

fn number(text: &str, oid: u32) -> Result<Value> {
    let name = match oid {
        oid::INT2 => "smallint",
        oid::INT4 => "integer",
        oid::INT8 => "bigint",
        _ => "oid",
    };
    match text.parse::<i128>() {
        Ok(i) => i64::try_from(i).ok().and_then(|i| in_range(i, oid).ok()).ok_or_else(|| {
            Error::new(
                ErrorKind::NumericOutOfRange,
                format!("value \"{text}\" is out of range for type {name}"),
            )
        }),
        Err(_) => Err(Error::new(
            ErrorKind::InvalidText,
            format!("invalid input syntax for type {name}: \"{text}\""),
        )),
    }
}

/// The elements of an array's text, `None` for NULL.
fn array_items(text: &str) -> Result<Vec<Option<String>>> {
    let malformed = || Error::new(ErrorKind::InvalidText, format!("malformed array literal: \"{text}\""));
    let inside = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or_else(malformed)?;
    let mut items = vec![];
    if inside.trim().is_empty() {
        return Ok(items);
    }
    let (mut item, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut chars = inside.chars();
    let mut finish = |item: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(item);
        let plain = !std::mem::take(was_quoted);
        let text = if plain { text.trim().to_string() } else { text };
        items.push(if plain && text.eq_ignore_ascii_case("null") { None } else { Some(text) });
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => item.extend(chars.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => finish(&mut item, &mut was_quoted),
            '{' | '}' if !quoted => return Err(malformed()),
            c => item.push(c),
        }
    }
    if quoted {
        return Err(malformed());
    }
    finish(&mut item, &mut was_quoted);
    Ok(items)
}

/// The parts of a possibly quoted, dotted name.
pub(super) fn split_identifier(text: &str) -> Vec<String> {
    let mut parts = vec![];
    let (mut part, mut quoted) = (String::new(), false);
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts.push(part);
    parts
}

/// Schema and name of anything in pg_class.
pub(super) fn relation_name(context: &SystemContext<'_>, oid: u32) -> Option<(String, String)> {
    if let Some(object) = context.catalog.get(ObjectId(oid)) {
        return Some((object.schema.clone(), object.name.clone()));
    }
    if let Some(table) = oids::object_of_key_index(oid).and_then(|id| context.catalog.get(ObjectId(id))) {
        return Some((table.schema.clone(), table.key_name()));
    }
    relations().iter().find(|r| r.oid == oid).map(|r| (r.schema.to_string(), r.name.to_string()))
}

/// The oid of a relation; without a schema the first in the search path.
pub(super) fn relation_oid(context: &SystemContext<'_>, schema: Option<&str>, name: &str) -> Option<u32> {
    let within = |schema: &str| {
        if let Some(object) = context.catalog.find(schema, name) {
            return Some(object.id.0);
        }
        if let Some(relation) = find(Some(schema), name) {
            return Some(relation.oid);
        }
        let key_of = |o: &&std::sync::Arc<crate::catalog::Object>| {
            let has_key = matches!(&o.body, crate::catalog::ObjectBody::Table { primary_key, .. } if !primary_key.is_empty());
            has_key && o.schema == schema && o.key_name() == name
        };
        context.catalog.objects().find(key_of).map(|table| oids::key_index(table.id.0))
    };
    match schema {
        Some(schema) => within(schema),
        None => within("pg_catalog").or_else(|| context.search_path.iter().find_map(|s| within(s))),
    }
}

/// Whether the relation is the one that its name alone means.
pub(super) fn is_visible(context: &SystemContext<'_>, oid: u32) -> Option<bool> {
    let (_, name) = relation_name(context, oid)?;
    Some(relation_oid(context, None, &name) == Some(oid))
}

fn reg_name(context: &SystemContext<'_>, value: i64, ty: u32) -> String {
    let number = u32::try_from(value).unwrap_or_default();
    if number == 0 {
        return "-".into();
    }
    let name = match ty {
        oid::REGCLASS => relation_name(context, number).map(|(schema, name)| {
            if is_visible(context, number) == Some(true) {
                quote_ident(&name)
            } else {
                format!("{}.{}", quote_ident(&schema), quote_ident(&name))
            }
        }),
        oid::REGTYPE => types::format_type(context.catalog, number, -1),
        oid::REGPROC | types::REGPROCEDURE => procedure_name(number).map(str::to_string),
        types::REGNAMESPACE => schema_name(context, number).map(|n| quote_ident(&n)),
        types::REGROLE => (number == OWNER).then(|| quote_ident(&context.user)),
        _ => None,
    };
    name.unwrap_or_else(|| value.to_string())
}

/// The name of a schema.
pub(super) fn schema_name(context: &SystemContext<'_>, oid: u32) -> Option<String> {
    match oid {
        crate::catalog::system::PG_CATALOG => Some("pg_catalog".into()),
        crate::catalog::system::INFORMATION_SCHEMA => Some("information_schema".into()),
        _ => context.catalog.schemas().find(|(_, o)| *o == oid).map(|(n, _)| n.to_string()),
    }
}

/// The oid of a schema.
pub(super) fn schema_oid(context: &SystemContext<'_>, name: &str) -> Option<u32> {
    match name {
        "pg_catalog" => Some(crate::catalog::system::PG_CATALOG),
        "information_schema" => Some(crate::catalog::system::INFORMATION_SCHEMA),
        _ => context.catalog.schemas().find(|(n, _)| *n == name).map(|(_, o)| o),
    }
}

/// The oid that a name means.
pub(super) fn reg_oid(context: &SystemContext<'_>, text: &str, ty: u32) -> Result<Value> {
    if text == "-" {
        return Ok(Value::Int(0));
    }
    if let Ok(number) = text.parse::<u32>() {
        return Ok(Value::Int(i64::from(number)));
    }
    let mut parts = split_identifier(text);
    let name = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let (found, kind, what) = match ty {
        oid::REGCLASS => {
            (relation_oid(context, schema.as_deref(), &name), ErrorKind::UndefinedTable, "relation")
        }
        oid::REGTYPE => {
            let found = types::parse_name(text).or_else(|| {
                let relation = relation_oid(context, schema.as_deref(), &name)?;
                context.catalog.get(ObjectId(relation)).map(|_| oids::row_type(relation))
            });
            (found, ErrorKind::UndefinedObject, "type")
        }
        oid::REGPROC | types::REGPROCEDURE => {
            let name = name.split('(').next().unwrap_or_default();
            (procedures_named(name).next().map(|p| p.oid), ErrorKind::UndefinedFunction, "function")
        }
        types::REGNAMESPACE => (schema_oid(context, &name), ErrorKind::UndefinedSchema, "schema"),
        types::REGROLE => ((name == context.user).then_some(OWNER), ErrorKind::UndefinedObject, "role"),
        _ => (None, ErrorKind::UndefinedObject, "object"),
    };
    found.map(Value::from).ok_or_else(|| Error::new(kind, format!("{what} \"{text}\" does not exist")))
}

/// A parameter or parsed value as ours.
pub(super) fn from_scalar(scalar: &ScalarValue) -> Value {
    use ScalarValue as S;
    match scalar {
        S::Boolean(Some(b)) => Value::Bool(*b),
        S::Int8(Some(i)) => Value::Int(i64::from(*i)),
        S::Int16(Some(i)) => Value::Int(i64::from(*i)),
        S::Int32(Some(i)) => Value::Int(i64::from(*i)),
        S::Int64(Some(i)) => Value::Int(*i),
        S::UInt32(Some(i)) => Value::Int(i64::from(*i)),
        S::Float32(Some(f)) => Value::Float(f64::from(*f)),
        S::Float64(Some(f)) => Value::Float(*f),
        S::Decimal128(Some(d), _, scale) => {
            let unit = 10i128.checked_pow(u32::try_from(*scale).unwrap_or_default()).unwrap_or(1);
            match i64::try_from(d / unit) {
                Ok(whole) if d % unit == 0 => Value::Int(whole),
                _ => Value::Float(*d as f64 / unit as f64),
            }
        }
        S::Utf8(Some(t)) | S::LargeUtf8(Some(t)) | S::Utf8View(Some(t)) => Value::from(t),
        S::Binary(Some(b)) => Value::Bytes(b.as_slice().into()),
        S::Date32(Some(d)) => Value::Timestamp(i64::from(*d) * DAY),
        S::TimestampMicrosecond(Some(t), _) => Value::Timestamp(*t),
        S::IntervalMonthDayNano(Some(i)) => {
            Value::Interval { months: i.months, days: i.days, micros: i.nanoseconds / 1000 }
        }
        S::List(list) if !list.is_empty() && !list.is_null(0) => {
            let items = list.value(0);
            let items = (0..items.len())
                .map(|i| ScalarValue::try_from_array(&items, i).map_or(Value::Null, |s| from_scalar(&s)))
                .collect();
            Value::array(items)
        }
        _ => Value::Null,
    }
}
