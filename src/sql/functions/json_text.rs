//! Walking over JSON text without building a tree: values are slices of the text they stand in.
//!
//! All texts have been validated when they became `json` or `jsonb`; of a broken one only nonsense is read, never
//! beyond its end.
//!
//! Boundary: one text; the functions over columns are in [`super::json`].

use std::borrow::Cow;
use std::cmp::Ordering;

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Bool,
    /// `[…]`
    Array,
    /// `{…}`
    Object,
}

impl Kind {
    /// What `jsonb_typeof` says.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::String => "string",
            Kind::Number => "number",
            Kind::Bool => "boolean",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }

    /// Whether it has members or elements.
    pub fn is_container(self) -> bool {
        matches!(self, Kind::Array | Kind::Object)
    }
}

/// The kind of a value, by its first character.
pub fn kind(value: &str) -> Kind {
    match value.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') | None => Kind::Null,
        _ => Kind::Number,
    }
}

fn blanks(b: &[u8], mut at: usize) -> usize {
    while b.get(at).is_some_and(|c| matches!(c, b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The end of the string whose opening quote is at `at`.
fn string_end(b: &[u8], mut at: usize) -> usize {
    at += 1;
    while let Some(c) = b.get(at) {
        match c {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    b.len()
}

/// The end of the value that begins at `at`.
fn value_end(b: &[u8], at: usize) -> usize {
    match b.get(at) {
        Some(b'"') => string_end(b, at),
        Some(b'{' | b'[') => {
            let (mut at, mut depth) = (at, 0usize);
            while let Some(c) = b.get(at) {
                match c {
                    b'"' => {
                        at = string_end(b, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return at + 1;
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
            b.len()
        }
        _ => {
            let mut at = at;
            while b.get(at).is_some_and(|c| !matches!(c, b',' | b'}' | b']' | b' ' | b'\n' | b'\t' | b'\r')) {
                at += 1;
            }
            at
        }
    }
}

/// The elements of an array; nothing for other values.
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
}

/// The elements of an array.
pub fn elements(array: &str) -> Elements<'_> {
    let b = array.as_bytes();
    let start = blanks(b, 0);
    Elements { text: array, at: if b.get(start) == Some(&b'[') { start + 1 } else { b.len() } }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        let b = self.text.as_bytes();
        let start = blanks(b, self.at);
        if matches!(b.get(start), None | Some(b']')) {
            return None;
        }
        let end = value_end(b, start);
        self.at = blanks(b, end) + 1;
        self.text.get(start..end)
    }
}

/// The members of an object; nothing for other values.
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

/// The members of an object: keys as they are written between their quotes, and values.
pub fn members(object: &str) -> Members<'_> {
    let b = object.as_bytes();
    let start = blanks(b, 0);
    Members { text: object, at: if b.get(start) == Some(&b'{') { start + 1 } else { b.len() } }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let b = self.text.as_bytes();
        let key = blanks(b, self.at);
        if b.get(key) != Some(&b'"') {
            return None;
        }
        let key_end = string_end(b, key);
        let value = blanks(b, blanks(b, key_end) + 1);
        let end = value_end(b, value);
        self.at = blanks(b, end) + 1;
        Some((self.text.get(key + 1..key_end - 1)?, self.text.get(value..end)?))
    }
}

/// The text that stands for what is written between the quotes of a JSON string.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    let hex = |chars: &mut std::str::Chars| {
        let digits: String = chars.take(4).collect();
        u32::from_str_radix(&digits, 16).unwrap_or(0xfffd)
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let mut code = hex(&mut chars);
                if (0xd800..0xdc00).contains(&code) {
                    let mut ahead = chars.clone();
                    if ahead.next() == Some('\\') && ahead.next() == Some('u') {
                        let low = hex(&mut ahead);
                        code = 0x10000 + ((code - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
                        chars = ahead;
                    }
                }
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Cow::Owned(out)
}

/// The text of a string value, without quotes.
pub fn string_value(value: &str) -> Cow<'_, str> {
    let v = value.trim_ascii();
    unescape(v.get(1..v.len().saturating_sub(1)).unwrap_or_default())
}

/// A text as a JSON string.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    write_escaped(text, out);
    out.push('"');
}

/// A text as it is written between the quotes of a JSON string.
pub fn write_escaped(text: &str, out: &mut String) {
    use std::fmt::Write;
    let mut plain = 0;
    for (at, c) in text.bytes().enumerate() {
        if c >= 0x20 && c != b'"' && c != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match c {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            8 => out.push_str("\\b"),
            12 => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // Writing into a String never fails.
            c => {
                let _ = write!(out, "\\u{c:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}

/// The value of a member; of members with one name the last counts.
pub fn member<'a>(object: &'a str, key: &str) -> Option<&'a str> {
    let mut found = None;
    for (name, value) in members(object) {
        if name == key || (name.contains('\\') && unescape(name) == key) {
            found = Some(value);
        }
    }
    found
}

/// The element of an array at a place counted from 0, or from the end when negative.
pub fn element(array: &str, index: i64) -> Option<&str> {
    if index >= 0 {
        return elements(array).nth(usize::try_from(index).ok()?);
    }
    let from = i64::try_from(elements(array).count()).ok()? + index;
    elements(array).nth(usize::try_from(from).ok()?)
}

/// One step into a value, as in a path of texts.
pub fn step<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    match kind(value) {
        Kind::Object => member(value, key),
        Kind::Array => element(value, path_index(key)?),
        _ => None,
    }
}

/// The number a path step stands for.
pub fn path_index(key: &str) -> Option<i64> {
    let t = key.trim_ascii();
    let digits = t.strip_prefix(['-', '+']).unwrap_or(t);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { t.strip_prefix('+').unwrap_or(t).parse::<i32>().ok().map(i64::from) } else { None }
}

/// The order of two numbers as they are written: without exponents.
pub fn compare_numbers(a: &str, b: &str) -> Ordering {
    if !a.bytes().chain(b.bytes()).any(|c| matches!(c, b'e' | b'E')) {
        let (na, a) = a.strip_prefix('-').map_or((false, a), |t| (true, t));
        let (nb, b) = b.strip_prefix('-').map_or((false, b), |t| (true, t));
        let magnitude = || {
            let (wa, fa) = a.split_once('.').unwrap_or((a, ""));
            let (wb, fb) = b.split_once('.').unwrap_or((b, ""));
            let (wa, wb) = (wa.trim_start_matches('0'), wb.trim_start_matches('0'));
            let (fa, fb) = (fa.trim_end_matches('0'), fb.trim_end_matches('0'));
            wa.len().cmp(&wb.len()).then_with(|| wa.cmp(wb)).then_with(|| fa.cmp(fb))
        };
        return match (na, nb) {
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        };
    }
    let float = |t: &str| t.parse::<f64>().unwrap_or(0.0);
    float(a).total_cmp(&float(b))
}

/// Whether two values are equal as `jsonb`: numbers by value.
pub fn equal(a: &str, b: &str) -> bool {
    a == b || compare(a, b) == Ordering::Equal
}

/// PostgreSQL's order of `jsonb`: Object > Array > Boolean > Number > String > Null, then size, then contents.
pub fn compare(a: &str, b: &str) -> Ordering {
    let rank = |v: &str| match kind(v) {
        Kind::Null => 0,
        Kind::String => 1,
        Kind::Number => 2,
        Kind::Bool => 3,
        // An empty array at the top comes before null, for historical reasons.
        Kind::Array => 4,
        Kind::Object => 5,
    };
    rank(a).cmp(&rank(b)).then_with(|| match kind(a) {
        Kind::Null => Ordering::Equal,
        Kind::String => string_value(a).as_bytes().cmp(string_value(b).as_bytes()),
        Kind::Number => compare_numbers(a, b),
        Kind::Bool => a.starts_with('t').cmp(&b.starts_with('t')),
        Kind::Array => elements(a).count().cmp(&elements(b).count()).then_with(|| {
            elements(a)
                .zip(elements(b))
                .map(|(x, y)| compare(x, y))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
        Kind::Object => members(a).count().cmp(&members(b).count()).then_with(|| {
            members(a)
                .zip(members(b))
                .map(|((k, v), (l, w))| {
                    let (k, l) = (unescape(k), unescape(l));
                    k.len().cmp(&l.len()).then_with(|| k.cmp(&l)).then_with(|| compare(v, w))
                })
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        }),
    })
}

/// `a @> b`.
pub fn contains(a: &str, b: &str) -> bool {
    match (kind(a), kind(b)) {
        (Kind::Array, k) if !k.is_container() => elements(a).any(|e| equal(e, b)),
        _ => contains_nested(a, b),
    }
}

fn contains_nested(a: &str, b: &str) -> bool {
    match (kind(a), kind(b)) {
        (Kind::Object, Kind::Object) => members(b)
            .all(|(key, value)| member(a, &unescape(key)).is_some_and(|own| contains_nested(own, value))),
        (Kind::Array, Kind::Array) => elements(b).all(|wanted| {
            if kind(wanted).is_container() {
                elements(a).any(|e| kind(e) == kind(wanted) && contains_nested(e, wanted))
            } else {
                elements(a).any(|e| equal(e, wanted))
            }
        }),
        (x, y) if x == y && !x.is_container() => equal(a, b),
        _ => false,
    }
}

/// `value ? key`: a member, a string among the elements, or the string itself.
pub fn has_key(value: &str, key: &str) -> bool {
    match kind(value) {
        Kind::Object => member(value, key).is_some(),
        Kind::Array => elements(value).any(|e| kind(e) == Kind::String && string_value(e) == key),
        Kind::String => string_value(value) == key,
        _ => false,
    }
}

/// The members of a `jsonb` object being built: written in PostgreSQL's order, the last of equal keys counts.
#[derive(Default)]
pub struct ObjectBuilder<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> ObjectBuilder<'a> {
    /// The members of an object, to be changed.
    pub fn of(object: &'a str) -> Self {
        ObjectBuilder { members: members(object).map(|(k, v)| (unescape(k), Cow::Borrowed(v))).collect() }
    }

    /// Sets a member; the key is not escaped.
    pub fn set(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        self.members.push((key.into(), value.into()));
    }

    /// Writes the object as `json`: members in the order in which they were set.
    pub fn write_as_given(self, out: &mut String) {
        out.push('{');
        for (i, (key, value)) in self.members.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_string(key, out);
            out.push_str(" : ");
            out.push_str(value);
        }
        out.push('}');
    }

    /// Writes the object.
    pub fn write(mut self, out: &mut String) {
        self.members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        out.push('{');
        let mut first = true;
        for (i, (key, value)) in self.members.iter().enumerate() {
            if self.members.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if !first {
                out.push_str(", ");
            }
            first = false;
            write_string(key, out);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
    }
}

/// Writes values as an array.
pub fn write_array<'a>(values: impl Iterator<Item = &'a str>, out: &mut String) {
    out.push('[');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        out.push_str(value);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_slices_of_their_text() {
        let doc = r#"{"a": [1, {"b": "x,]}"}], "c\"d": null}"#;
        assert_eq!(member(doc, "a"), Some(r#"[1, {"b": "x,]}"}]"#));
        assert_eq!(member(doc, "c\"d"), Some("null"));
        assert_eq!(element(member(doc, "a").unwrap(), -1), Some(r#"{"b": "x,]}"}"#));
        assert_eq!(elements("[]").count() + members("{}").count() + elements("1").count(), 0);
        assert_eq!(string_value(r#""a\u00e9\ud83d\ude00\n""#), "aé😀\n");
    }

    #[test]
    fn numbers_compare_by_value_and_kinds_by_rank() {
        assert!(equal("1.0", "1") && equal("-0.50", "-0.5") && !equal("1", "10"));
        assert_eq!(compare_numbers("-2", "-10"), Ordering::Greater);
        let ordered = ["null", "\"a\"", "\"b\"", "-1", "2", "false", "true", "[1]", "[1, 2]", "{}"];
        for pair in ordered.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    #[test]
    fn broken_text_is_never_read_beyond_its_end() {
        for text in ["{", "{\"a", "{\"a\":", "[1,", "[\"\\", "\"", "{\"a\\", "[[", ""] {
            let _ = (members(text).count(), elements(text).count(), string_value(text), kind(text));
            let _ = compare(text, text);
        }
    }
}
