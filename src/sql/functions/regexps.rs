//! Regular expression functions and matching operators over columns.
//!
//! Boundary: kernels and their signatures; patterns are translated in [`super::pattern`].

use arrow::array::{BooleanBuilder, Int32Builder, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use regex::Regex;

use super::DfResult;
use super::kernel::rows;
use super::pattern::{Cache, Flags, escape_character, like};
use super::registry::Build::Native;
use super::registry::Spec;
use crate::error::{Error, ErrorKind, Result};

/// A call with constants added for arguments left out.
fn with(args: &ScalarFunctionArgs, more: &[ScalarValue]) -> ScalarFunctionArgs {
    let mut args = args.clone();
    args.args.extend(more.iter().cloned().map(ColumnarValue::Scalar));
    args
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_string()))
}

fn int(value: i32) -> ScalarValue {
    ScalarValue::Int32(Some(value))
}

/// `text ~ pattern`; the options are those of the operator.
fn matches(
    args: &ScalarFunctionArgs,
    result: &DataType,
    flags: &str,
    wanted: bool,
) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = BooleanBuilder::new(), (t: Text, p: Text)
        out.append_value(cache.get(p, flags)?.is_match(t) == wanted))
}

/// LIKE with its escape character as third argument.
fn like_escape(args: &ScalarFunctionArgs, result: &DataType, ignore_case: bool) -> DfResult<ColumnarValue> {
    rows!(args, result, out = BooleanBuilder::new(), (t: Text, p: Text, e: Text)
        out.append_value(like(t, p, escape_character(e)?, ignore_case)?))
}

/// SIMILAR TO with its escape character as third argument.
fn similar(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = BooleanBuilder::new(), (t: Text, p: Text, e: Text)
        out.append_value(cache.similar(p, e)?.is_match(t)))
}

/// SUBSTRING (text SIMILAR pattern ESCAPE escape).
fn substring_similar(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = StringBuilder::new(), (t: Text, p: Text, e: Text) {
        let found = cache.similar(p, e)?;
        out.append_option(found.captures(t).and_then(|c| c.get(1).or(c.get(0))).map(|m| m.as_str()));
    })
}

/// substring(text from pattern): the first parenthesised part of the match, or the whole match.
fn substring(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = StringBuilder::new(), (t: Text, p: Text) {
        let found = cache.get(p, "")?;
        let group = usize::from(found.captures_len() > 1);
        out.append_option(found.captures(t).and_then(|c| c.get(group)).map(|m| m.as_str()));
    })
}

fn no_global(flags: &str, function: &str) -> Result<()> {
    if Flags::parse(flags)?.global {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!("{function} does not support the \"global\" option"),
        ));
    }
    Ok(())
}

/// regexp_match(text, pattern, flags): the parts of the first match.
fn regexp_match(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = ListBuilder::new(StringBuilder::new()), (t: Text, p: Text, f: Text) {
        no_global(f, "regexp_match()").map_err(|e| e.with_hint("Use the regexp_matches function instead."))?;
        match cache.get(p, f)?.captures(t) {
            None => out.append_null(),
            Some(groups) if groups.len() == 1 => {
                out.values().append_option(groups.get(0).map(|m| m.as_str()));
                out.append(true);
            }
            Some(groups) => {
                for i in 1..groups.len() {
                    out.values().append_option(groups.get(i).map(|m| m.as_str()));
                }
                out.append(true);
            }
        }
    })
}

/// The replacement's `\1` to `\9`, `\&` and `\\`.
fn expand(replacement: &str, groups: &regex::Captures, out: &mut String) {
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some(d @ '1'..='9') => {
                let group = d.to_digit(10).unwrap_or(0) as usize;
                out.push_str(groups.get(group).map_or("", |m| m.as_str()));
            }
            Some('&') => out.push_str(groups.get(0).map_or("", |m| m.as_str())),
            Some('\\') => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
}

/// Replaces the matches from a character on: the n-th, or all when n is 0.
fn replace(found: &Regex, t: &str, with: &str, start: i32, nth: i32, out: &mut String) {
    let from = byte_of(t, start);
    let mut copied = 0;
    for (i, groups) in found.captures_iter(&t[from..]).enumerate() {
        let Some(whole) = groups.get(0) else { break };
        if nth > 0 && i + 1 < nth as usize {
            continue;
        }
        out.push_str(&t[copied..from + whole.start()]);
        expand(with, &groups, out);
        copied = from + whole.end();
        if nth > 0 {
            break;
        }
    }
    out.push_str(&t[copied..]);
}

/// The byte at which character `start` (from 1) begins.
fn byte_of(t: &str, start: i32) -> usize {
    let skip = usize::try_from(start.saturating_sub(1)).unwrap_or(0);
    t.char_indices().nth(skip).map_or(t.len(), |(i, _)| i)
}

fn positive(value: i32, name: &str, least: i32) -> Result<()> {
    if value < least {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!("invalid value for parameter \"{name}\": {value}"),
        ));
    }
    Ok(())
}

/// regexp_replace(text, pattern, replacement, flags).
fn regexp_replace(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(), (t: Text, p: Text, r: Text, f: Text) {
        if f.starts_with(|c: char| c.is_ascii_digit()) {
            Err(Error::new(ErrorKind::InvalidParameter, format!(
                "invalid regular expression option: \"{}\"", &f[..1]
            )).with_hint(
                "If you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer explicitly.",
            ))?;
        }
        let found = cache.get(p, f)?;
        buffer.clear();
        replace(&found, t, r, 1, i32::from(!f.contains('g')), &mut buffer);
        out.append_value(&buffer);
    })
}

/// regexp_replace(text, pattern, replacement, start, n, flags).
fn regexp_replace_n(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    let mut buffer = String::new();
    rows!(args, result, out = StringBuilder::new(),
        (t: Text, p: Text, r: Text, start: Int4, n: Int4, f: Text) {
        positive(start, "start", 1)?;
        positive(n, "n", 0)?;
        let found = cache.get(p, f)?;
        buffer.clear();
        replace(&found, t, r, start, n, &mut buffer);
        out.append_value(&buffer);
    })
}

/// regexp_like(text, pattern, flags).
fn regexp_like(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = BooleanBuilder::new(), (t: Text, p: Text, f: Text) {
        no_global(f, "regexp_like()")?;
        out.append_value(cache.get(p, f)?.is_match(t));
    })
}

/// regexp_count(text, pattern, start, flags).
fn regexp_count(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = Int32Builder::new(), (t: Text, p: Text, start: Int4, f: Text) {
        positive(start, "start", 1)?;
        no_global(f, "regexp_count()")?;
        out.append_value(cache.get(p, f)?.find_iter(&t[byte_of(t, start)..]).count() as i32);
    })
}

/// The span of the n-th match, or of one of its parts.
fn nth_match(found: &Regex, t: &str, start: i32, n: i32, part: i32) -> Option<std::ops::Range<usize>> {
    let from = byte_of(t, start);
    let groups = found.captures_iter(&t[from..]).nth(usize::try_from(n).ok()?.checked_sub(1)?)?;
    let m = groups.get(usize::try_from(part).ok()?)?;
    Some(from + m.start()..from + m.end())
}

/// regexp_substr(text, pattern, start, n, flags, part).
fn regexp_substr(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = StringBuilder::new(),
        (t: Text, p: Text, start: Int4, n: Int4, f: Text, part: Int4) {
        positive(start, "start", 1)?;
        positive(n, "n", 1)?;
        positive(part, "subexpr", 0)?;
        no_global(f, "regexp_substr()")?;
        let found = cache.get(p, f)?;
        out.append_option(nth_match(&found, t, start, n, part).map(|r| &t[r]));
    })
}

/// regexp_instr(text, pattern, start, n, end, flags, part).
fn regexp_instr(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = Int32Builder::new(),
        (t: Text, p: Text, start: Int4, n: Int4, end: Int4, f: Text, part: Int4) {
        positive(start, "start", 1)?;
        positive(n, "n", 1)?;
        if !(0..=1).contains(&end) {
            positive(-1, "endoption", 0).map_err(|_| Error::new(
                ErrorKind::InvalidParameter, format!("invalid value for parameter \"endoption\": {end}")))?;
        }
        positive(part, "subexpr", 0)?;
        no_global(f, "regexp_instr()")?;
        let found = cache.get(p, f)?;
        out.append_value(nth_match(&found, t, start, n, part).map_or(0, |r| {
            let byte = if end == 1 { r.end } else { r.start };
            t[..byte].chars().count() as i32 + 1
        }));
    })
}

/// regexp_split_to_array(text, pattern, flags).
fn regexp_split(args: &ScalarFunctionArgs, result: &DataType) -> DfResult<ColumnarValue> {
    let mut cache = Cache::default();
    rows!(args, result, out = ListBuilder::new(StringBuilder::new()), (t: Text, p: Text, f: Text) {
        no_global(f, "regexp_split_to_array()")?;
        let found = cache.get(p, f)?;
        split(&found, t, |part| out.values().append_value(part));
        out.append(true);
    })
}

/// The parts between matches; empty matches at the ends and right after another match separate nothing.
pub fn split(found: &Regex, t: &str, mut push: impl FnMut(&str)) {
    let mut from = 0;
    for m in found.find_iter(t) {
        if m.is_empty() && (m.start() == from && m.start() == 0 || m.start() == t.len() || m.start() == from)
        {
            continue;
        }
        push(&t[from..m.start()]);
        from = m.end();
    }
    push(&t[from..]);
}

/// The functions and operators with their signatures.
pub const SPECS: &[Spec] = &[
    ("~(text,text)->bool", Native(|a, t| matches(a, t, "", true)), "matches the regular expression"),
    ("~*(text,text)->bool", Native(|a, t| matches(a, t, "i", true)), "matches, case does not matter"),
    ("!~(text,text)->bool", Native(|a, t| matches(a, t, "", false)), "does not match"),
    (
        "!~*(text,text)->bool",
        Native(|a, t| matches(a, t, "i", false)),
        "does not match, case does not matter",
    ),
    ("like_escape(text,text,text)->bool", Native(|a, t| like_escape(a, t, false)), "LIKE … ESCAPE"),
    ("ilike_escape(text,text,text)->bool", Native(|a, t| like_escape(a, t, true)), "ILIKE … ESCAPE"),
    ("similar_to(text,text,text)->bool", Native(similar), "SIMILAR TO … ESCAPE"),
    ("substring(text,text)->text", Native(substring), "what matches the regular expression"),
    ("substring(text,text,text)->text", Native(substring_similar), "what matches the SQL regular expression"),
    (
        "regexp_match(text,text)->_text",
        Native(|a, t| regexp_match(&with(a, &[text("")]), t)),
        "parts of the first match",
    ),
    ("regexp_match(text,text,text)->_text", Native(regexp_match), "parts of the first match, with options"),
    (
        "regexp_replace(text,text,text)->text",
        Native(|a, t| regexp_replace(&with(a, &[text("")]), t)),
        "with the first match replaced",
    ),
    ("regexp_replace(text,text,text,text)->text", Native(regexp_replace), "the same, with options (g: all)"),
    (
        "regexp_replace(text,text,text,int4)->text",
        Native(|a, t| regexp_replace_n(&with(a, &[int(1), text("")]), t)),
        "the same, from a character on",
    ),
    (
        "regexp_replace(text,text,text,int4,int4)->text",
        Native(|a, t| regexp_replace_n(&with(a, &[text("")]), t)),
        "the n-th match from a character on, 0: all",
    ),
    (
        "regexp_replace(text,text,text,int4,int4,text)->text",
        Native(regexp_replace_n),
        "the same, with options",
    ),
    (
        "regexp_like(text,text)->bool",
        Native(|a, t| regexp_like(&with(a, &[text("")]), t)),
        "whether there is a match",
    ),
    ("regexp_like(text,text,text)->bool", Native(regexp_like), "whether there is a match, with options"),
    (
        "regexp_count(text,text)->int4",
        Native(|a, t| regexp_count(&with(a, &[int(1), text("")]), t)),
        "number of matches",
    ),
    (
        "regexp_count(text,text,int4)->int4",
        Native(|a, t| regexp_count(&with(a, &[text("")]), t)),
        "number of matches from a character on",
    ),
    ("regexp_count(text,text,int4,text)->int4", Native(regexp_count), "the same, with options"),
    (
        "regexp_substr(text,text)->text",
        Native(|a, t| regexp_substr(&with(a, &[int(1), int(1), text(""), int(0)]), t)),
        "the first match",
    ),
    (
        "regexp_substr(text,text,int4)->text",
        Native(|a, t| regexp_substr(&with(a, &[int(1), text(""), int(0)]), t)),
        "the first match from a character on",
    ),
    (
        "regexp_substr(text,text,int4,int4)->text",
        Native(|a, t| regexp_substr(&with(a, &[text(""), int(0)]), t)),
        "the n-th match from a character on",
    ),
    (
        "regexp_substr(text,text,int4,int4,text)->text",
        Native(|a, t| regexp_substr(&with(a, &[int(0)]), t)),
        "the same, with options",
    ),
    ("regexp_substr(text,text,int4,int4,text,int4)->text", Native(regexp_substr), "a part of it"),
    (
        "regexp_instr(text,text)->int4",
        Native(|a, t| regexp_instr(&with(a, &[int(1), int(1), int(0), text(""), int(0)]), t)),
        "place of the first match",
    ),
    (
        "regexp_instr(text,text,int4)->int4",
        Native(|a, t| regexp_instr(&with(a, &[int(1), int(0), text(""), int(0)]), t)),
        "place of the first match from a character on",
    ),
    (
        "regexp_instr(text,text,int4,int4)->int4",
        Native(|a, t| regexp_instr(&with(a, &[int(0), text(""), int(0)]), t)),
        "place of the n-th match",
    ),
    (
        "regexp_instr(text,text,int4,int4,int4)->int4",
        Native(|a, t| regexp_instr(&with(a, &[text(""), int(0)]), t)),
        "place of the n-th match, 1: after it",
    ),
    (
        "regexp_instr(text,text,int4,int4,int4,text)->int4",
        Native(|a, t| regexp_instr(&with(a, &[int(0)]), t)),
        "the same, with options",
    ),
    ("regexp_instr(text,text,int4,int4,int4,text,int4)->int4", Native(regexp_instr), "a part of it"),
    (
        "regexp_split_to_array(text,text)->_text",
        Native(|a, t| regexp_split(&with(a, &[text("")]), t)),
        "parts between matches",
    ),
    ("regexp_split_to_array(text,text,text)->_text", Native(regexp_split), "the same, with options"),
];
