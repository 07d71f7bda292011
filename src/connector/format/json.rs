//! JSON lines: one object per line, its members are the columns of the same names.
//!
//! A member that is absent or null is NULL; members without a column are ignored; of several members of one name the
//! last counts. Strings, numbers and Booleans are read by PostgreSQL's input syntax of the column's type, json and
//! jsonb columns take any value as it stands.
//!
//! Boundary: records to cells; types are read by the parent module.

use std::collections::HashMap;
use std::ops::Range;

use arrow::datatypes::SchemaRef;
use serde::de::IgnoredAny;

use super::{Cell, Cells, Decoded, utf8};
use crate::error::{Error, ErrorKind, Result};
use crate::types::{PgType, oid};

/// How a column takes the values of its member.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taking {
    /// The text of a scalar, the JSON of anything else.
    Text,
    /// The JSON of everything.
    Json,
    /// A JSON array as a PostgreSQL array.
    Array,
}

/// Decodes JSON objects.
#[derive(Debug)]
pub struct JsonDecoder {
    schema: SchemaRef,
    taking: Vec<Taking>,
    /// Columns by the names of members met so far.
    names: HashMap<String, Option<usize>>,
}

/// Names remembered; a stream of ever new names must not fill the memory.
const NAMES_KEPT: usize = 4096;

impl JsonDecoder {
    /// A decoder for these columns.
    pub fn new(schema: SchemaRef) -> Self {
        let taking = schema
            .fields()
            .iter()
            .map(|f| {
                let pg = PgType::of_field(f);
                match pg.oid {
                    oid::JSON | oid::JSONB => Taking::Json,
                    _ if pg.element().is_some() => Taking::Array,
                    _ => Taking::Text,
                }
            })
            .collect();
        JsonDecoder { schema, taking, names: HashMap::new() }
    }

    /// Reads the records.
    pub fn decode(&mut self, bytes: &[u8], records: &[Range<usize>]) -> Result<Decoded> {
        let mut cells = Cells::new(self.schema.fields().len(), records.len());
        for (i, record) in records.iter().enumerate() {
            let outcome = utf8(&bytes[record.clone()]).and_then(|text| self.decode_record(text, &mut cells));
            match outcome {
                Ok(()) => cells.end_record(i),
                Err(e) => cells.refuse(i, e),
            }
        }
        cells.finish(&self.schema)
    }

    fn decode_record<'a>(&mut self, text: &'a str, cells: &mut Cells<'a>) -> Result<()> {
        let row = cells.records.len();
        let mut scan = Scan { text, at: 0 };
        scan.expect(b'{')?;
        if scan.peek() == Some(b'}') {
            scan.at += 1;
            return scan.end();
        }
        loop {
            let name = scan.string()?;
            scan.expect(b':')?;
            let value = scan.value()?;
            if let Some(column) = self.column(name)? {
                let cell = cell(value, self.taking[column], &mut cells.scratch).ok_or_else(|| scan.bad())?;
                let column = &mut cells.columns[column];
                column.truncate(row);
                column.push(cell);
            }
            match scan.next() {
                Some(b',') => {}
                Some(b'}') => return scan.end(),
                _ => return Err(scan.bad()),
            }
        }
    }

    /// The column of a member, whose name is given in quotes.
    fn column(&mut self, quoted: &str) -> Result<Option<usize>> {
        let inner = &quoted[1..quoted.len() - 1];
        if let Some(found) = self.names.get(inner) {
            return Ok(*found);
        }
        let name = if inner.contains('\\') {
            serde_json::from_str::<String>(quoted).map_err(|_| malformed(quoted, 0))?
        } else {
            inner.to_string()
        };
        let fields = self.schema.fields();
        let found = fields
            .iter()
            .position(|f| *f.name() == name)
            .or_else(|| fields.iter().position(|f| f.name().eq_ignore_ascii_case(&name)));
        if self.names.len() < NAMES_KEPT {
            self.names.insert(inner.to_string(), found);
        }
        Ok(found)
    }
}

/// The cell of a value; `None` if the value is malformed.
fn cell<'a>(value: &'a str, taking: Taking, scratch: &mut String) -> Option<Cell<'a>> {
    let first = value.as_bytes()[0];
    if value == "null" {
        return Some(Cell::Null);
    }
    if taking == Taking::Json {
        return Some(Cell::Text(value));
    }
    if first == b'"' {
        let inner = &value[1..value.len() - 1];
        if !inner.contains('\\') && !inner.bytes().any(|b| b < 0x20) {
            return Some(Cell::Text(inner));
        }
        let begin = scratch.len();
        scratch.push_str(&serde_json::from_str::<String>(value).ok()?);
        return Some(Cell::Scratch(begin, scratch.len()));
    }
    if taking == Taking::Array && first == b'[' {
        let begin = scratch.len();
        array_text(&serde_json::from_str(value).ok()?, scratch);
        return Some(Cell::Scratch(begin, scratch.len()));
    }
    serde_json::from_str::<IgnoredAny>(value).ok()?;
    Some(Cell::Text(value))
}

/// A JSON array as PostgreSQL writes arrays.
fn array_text(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Array(items) => {
            out.push('{');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                array_text(item, out);
            }
            out.push('}');
        }
        Value::Null => out.push_str("NULL"),
        Value::Bool(b) => out.push_str(if *b { "t" } else { "f" }),
        Value::Number(n) => out.push_str(&n.to_string()),
        Value::String(_) | Value::Object(_) => {
            let text = match value {
                Value::String(s) => s.clone(),
                other => other.to_string(),
            };
            out.push('"');
            for c in text.chars() {
                if c == '"' || c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push('"');
        }
    }
}

/// Walks over the members of an object.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() && bytes[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let b = self.peek();
        self.at += usize::from(b.is_some());
        b
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.next() == Some(wanted) { Ok(()) } else { Err(self.bad()) }
    }

    /// Nothing but white space may follow.
    fn end(&mut self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.bad()) }
    }

    fn bad(&self) -> Error {
        malformed(self.text, self.at)
    }

    /// A string with its quotes.
    fn string(&mut self) -> Result<&'a str> {
        if self.peek() != Some(b'"') {
            return Err(self.bad());
        }
        let begin = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while self.at < bytes.len() {
            match bytes[self.at] {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Ok(&self.text[begin..self.at]);
                }
                _ => self.at += 1,
            }
        }
        self.at = bytes.len();
        Err(self.bad())
    }

    /// Any value, as it stands. What is inside of nested ones is checked when it is used.
    fn value(&mut self) -> Result<&'a str> {
        let bytes = self.text.as_bytes();
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => {
                let begin = self.at;
                let mut depth = 0usize;
                while let Some(b) = self.peek() {
                    match b {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        return Ok(&self.text[begin..self.at]);
                    }
                }
                Err(self.bad())
            }
            Some(_) => {
                let begin = self.at;
                while self.at < bytes.len()
                    && !matches!(bytes[self.at], b',' | b'}' | b']' | b' ' | b'\t' | b'\r')
                {
                    self.at += 1;
                }
                // A multi-byte character cannot stand here, but it must not cut the text in two either.
                let value = self.text.get(begin..self.at).filter(|v| !v.is_empty());
                value.ok_or_else(|| self.bad())
            }
            None => Err(self.bad()),
        }
    }
}

fn malformed(text: &str, at: usize) -> Error {
    let shown: String = text.chars().take(200).collect();
    Error::new(ErrorKind::InvalidText, "invalid input syntax for type json")
        .with_detail(format!("The record is malformed at byte {at}: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::super::frame_lines;
    use super::*;
    use crate::connector::source::testing::lines;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn decode(columns: &[(&str, PgType)], text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let fields = columns.iter().map(|(n, t)| t.field(*n, true)).collect::<Vec<_>>();
        let mut d = JsonDecoder::new(Arc::new(Schema::new(fields)));
        let mut records = Vec::new();
        frame_lines(text.as_bytes(), true, 1000, &mut records);
        let out = d.decode(text.as_bytes(), &records).expect("decoded");
        (lines(&out.rows), out.errors.into_iter().map(|(i, e)| (i, e.message().to_string())).collect())
    }

    #[test]
    fn members_become_columns_by_name() {
        let columns = [("id", PgType::INT8), ("userName", PgType::TEXT), ("n", PgType::numeric(30, 4))];
        let text = r#"{"id": 1, "username": "Zoë \"Z\" \u00e9", "n": 12345678901234567890.1234, "x": {"id": [2, "}"]}}
{ "n" : 2.5 , "id" : "7", "userName": "b", "id": 8 }
{}
"#;
        let (rows, errors) = decode(&columns, text);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(rows[..2], ["1 Zoë \"Z\" é 12345678901234567890.1234", "8 b 2.5000"]);
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn nested_values_go_into_json_text_and_arrays() {
        let columns =
            [("j", PgType::JSONB), ("t", PgType::TEXT), ("a", PgType::of(1007)), ("b", PgType::of(1009))];
        let text = r#"{"j": {"b": 1, "a": [true]}, "t": [1, 2], "a": [1, null, 3], "b": ["x", "a \"q\""]}
{"j": "s", "t": true, "a": null, "b": []}
"#;
        let (rows, errors) = decode(&columns, text);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(rows[0], r#"{"a": [true], "b": 1} [1, 2] [1, , 3] [x, a "q"]"#);
        assert_eq!(rows[1], r#""s" true []"#);
    }

    #[test]
    fn malformed_records_are_reported_and_the_others_kept() {
        let text = "{\"id\": 1}\n{\"id\": 2\n[3]\n{\"id\": 4} x\n{\"id\": 1.5}\n{\"id\": tru}\n{\"id\":}\n\"a\n{\"id\": 8}\n{\"id\": {]}\n";
        let (rows, errors) = decode(&[("id", PgType::INT4)], text);
        assert_eq!(rows, ["1", "8"]);
        assert_eq!(errors.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 9]);
        assert_eq!(errors[0].1, "invalid input syntax for type json");
        assert_eq!(errors[3].1, "invalid input syntax for type integer: \"1.5\"");
    }
}
