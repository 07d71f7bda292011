//! JSON text: validation for `json`, PostgreSQL's normal form for `jsonb`.
//!
//! `jsonb` is kept as text in normal form: keys by length and then bytes, the last of equal keys, one blank after
//! `:` and `,`, numbers without exponent and with all their digits. Equal documents are then equal text.
//!
//! Boundary: text to text; the operators of the type are elsewhere.

use crate::error::{Error, ErrorKind, Result};

/// Nesting beyond this is refused: the parser recurses.
const MAX_DEPTH: usize = 512;
/// Exponents beyond this would write absurdly long numbers.
const MAX_EXPONENT: i64 = 1_000;

struct Parser<'a> {
    text: &'a str,
    b: &'a [u8],
    at: usize,
    /// Escapes that denote no character are let through: `json` keeps its text as it is.
    lenient: bool,
}

/// Checks that a text is one JSON value (RFC 8259).
pub(crate) fn validate(text: &str) -> Result<()> {
    normal(text, true).map(drop)
}

/// The normal form of a `jsonb` value.
pub fn normalize(text: &str) -> Result<String> {
    normal(text, false)
}

fn normal(text: &str, lenient: bool) -> Result<String> {
    let mut p = Parser { text, b: text.as_bytes(), at: 0, lenient };
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let done = p.value(&mut out, 0).and_then(|()| {
        p.blanks();
        if p.at == p.b.len() { Ok(()) } else { Err(p.unexpected()) }
    });
    match done {
        Ok(()) => Ok(out),
        Err(Fault::Depth) => Err(Error::new(ErrorKind::StatementTooComplex, "stack depth limit exceeded")
            .with_detail(format!("JSON may be nested {MAX_DEPTH} deep."))),
        Err(Fault::Syntax(detail)) => {
            Err(Error::new(ErrorKind::InvalidText, "invalid input syntax for type json").with_detail(detail))
        }
    }
}

enum Fault {
    Syntax(String),
    Depth,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        while self.b.get(self.at).is_some_and(|c| matches!(c, b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> Fault {
        let rest = &self.text[self.at..];
        let token: String = match rest.chars().next() {
            None => return Fault::Syntax("The input string ended unexpectedly.".into()),
            Some(c) if c.is_alphanumeric() => {
                rest.chars().take_while(|c| c.is_alphanumeric()).take(40).collect()
            }
            Some(c) => c.to_string(),
        };
        Fault::Syntax(format!("Token \"{token}\" is invalid."))
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::Depth);
        }
        self.blanks();
        match self.b.get(self.at) {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => self.string(out),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            _ => {
                for word in ["true", "false", "null"] {
                    if self.text[self.at..].starts_with(word) {
                        self.at += word.len();
                        out.push_str(word);
                        return Ok(());
                    }
                }
                Err(self.unexpected())
            }
        }
    }

    fn eat(&mut self, c: u8) -> bool {
        self.blanks();
        let found = self.b.get(self.at) == Some(&c);
        self.at += usize::from(found);
        found
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        out.push('[');
        if !self.eat(b']') {
            loop {
                self.value(out, depth + 1)?;
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.unexpected());
                }
                out.push_str(", ");
            }
        }
        out.push(']');
        Ok(())
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), Fault> {
        self.at += 1;
        let mut members: Vec<(String, String)> = Vec::new();
        if !self.eat(b'}') {
            loop {
                self.blanks();
                if self.b.get(self.at) != Some(&b'"') {
                    return Err(self.unexpected());
                }
                let mut key = String::new();
                self.string(&mut key)?;
                if !self.eat(b':') {
                    return Err(self.unexpected());
                }
                let mut value = String::new();
                self.value(&mut value, depth + 1)?;
                members.push((key, value));
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.unexpected());
                }
            }
        }
        // Stable: of equal keys the last written stays last, and it is the one that counts.
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        out.push('{');
        let mut first = true;
        for (i, (key, value)) in members.iter().enumerate() {
            if members.get(i + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if !first {
                out.push_str(", ");
            }
            first = false;
            out.push_str(key);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
        Ok(())
    }

    fn string(&mut self, out: &mut String) -> Result<(), Fault> {
        self.at += 1;
        out.push('"');
        loop {
            let start = self.at;
            while self.b.get(self.at).is_some_and(|c| !matches!(c, b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.b.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    out.push('"');
                    return Ok(());
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    write_char(c, out);
                }
                Some(c) => {
                    return Err(Fault::Syntax(format!("Character with value 0x{c:02x} must be escaped.")));
                }
                None => return Err(self.unexpected()),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Fault> {
        let c = self.b.get(self.at + 1).copied();
        self.at += 2;
        Ok(match c {
            Some(c @ (b'"' | b'\\' | b'/')) => c.into(),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex4()?;
                match high {
                    0 | 0xd800..=0xdfff if self.lenient => '\u{fffd}',
                    0 => return Err(Fault::Syntax("\\u0000 cannot be converted to text.".into())),
                    0xd800..=0xdbff => {
                        if self.b.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(Fault::Syntax(
                                "Unicode low surrogate must follow a high surrogate.".into(),
                            ));
                        }
                        self.at += 2;
                        let low = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return Err(Fault::Syntax(
                                "Unicode low surrogate must follow a high surrogate.".into(),
                            ));
                        }
                        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                            .unwrap_or('\u{fffd}')
                    }
                    other => char::from_u32(other).ok_or_else(|| {
                        Fault::Syntax("Unicode low surrogate must follow a high surrogate.".into())
                    })?,
                }
            }
            _ => {
                self.at = self.at.min(self.b.len());
                return Err(Fault::Syntax("Escape sequence is invalid.".into()));
            }
        })
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self.b.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let value =
            digits.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u32::from_str_radix(d, 16).ok());
        self.at += 4;
        value.ok_or_else(|| Fault::Syntax("\"\\u\" must be followed by four hexadecimal digits.".into()))
    }

    fn number(&mut self, out: &mut String) -> Result<(), Fault> {
        let start = self.at;
        let digits = |p: &mut Self| {
            let from = p.at;
            while p.b.get(p.at).is_some_and(u8::is_ascii_digit) {
                p.at += 1;
            }
            from..p.at
        };
        let negative = self.b[self.at] == b'-';
        self.at += usize::from(negative);
        let whole = digits(self);
        let mut fraction = 0..0;
        let mut bad = whole.is_empty() || (whole.len() > 1 && self.b[whole.start] == b'0');
        if self.b.get(self.at) == Some(&b'.') {
            self.at += 1;
            fraction = digits(self);
            bad |= fraction.is_empty();
        }
        let mut exponent = 0i64;
        if let Some(b'e' | b'E') = self.b.get(self.at) {
            self.at += 1;
            let minus = self.b.get(self.at) == Some(&b'-');
            self.at += usize::from(matches!(self.b.get(self.at), Some(b'-' | b'+')));
            let e = digits(self);
            bad |= e.is_empty();
            exponent = self.text[e].parse().unwrap_or(i64::MAX);
            exponent = if minus { -exponent } else { exponent };
        }
        if bad || exponent.abs() > MAX_EXPONENT || self.b.get(self.at).is_some_and(u8::is_ascii_alphabetic) {
            self.at = start;
            return Err(Fault::Syntax(format!(
                "Token \"{}\" is invalid.",
                self.text[start..]
                    .chars()
                    .take_while(|c| !matches!(c, ',' | '}' | ']' | ' '))
                    .take(40)
                    .collect::<String>()
            )));
        }
        write_number(negative, &self.text[whole], &self.text[fraction], exponent, out);
        Ok(())
    }
}

/// A number as `numeric` prints it: the exponent is worked into the digits.
fn write_number(negative: bool, whole: &str, fraction: &str, exponent: i64, out: &mut String) {
    let digits: String = [whole, fraction].concat();
    if negative && digits.bytes().any(|b| b != b'0') {
        out.push('-');
    }
    let point = whole.len() as i64 + exponent;
    let scale = (fraction.len() as i64 - exponent).max(0) as usize;
    let mut text = String::new();
    if point <= 0 {
        text.push('0');
        if scale > 0 {
            text.push('.');
            text.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
            text.push_str(&digits);
        }
    } else {
        for i in 0..point as usize {
            text.push(digits.as_bytes().get(i).map_or('0', |b| char::from(*b)));
        }
        let kept = text.trim_start_matches('0').len().max(1);
        text.drain(..text.len() - kept);
        if scale > 0 {
            text.push('.');
            text.push_str(&digits[(point as usize).min(digits.len())..]);
        }
    }
    out.push_str(&text);
}

fn write_char(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if u32::from(c) < 0x20 => {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonb_is_brought_into_postgresqls_normal_form() {
        for (text, expected) in [
            (r#"{"bb":1,"a":[1,2, 3],"a":{"x":null}}"#, r#"{"a": {"x": null}, "bb": 1}"#),
            ("1e3", "1000"),
            ("1.50", "1.50"),
            ("-0", "0"),
            ("1.5e-3", "0.0015"),
            ("12345678901234567890.123", "12345678901234567890.123"),
            (r#""\u00e9\n\ud83d\ude00""#, "\"é\\n😀\""),
            ("  [ ] ", "[]"),
            ("{}", "{}"),
            ("true", "true"),
        ] {
            assert_eq!(normalize(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_json_is_22p02_with_a_detail() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\" 1}",
            "01",
            "1.",
            "nul",
            "\"\\x\"",
            "\"a",
            "[1] 2",
            "\"\\u00",
            "\"\n\"",
            "1e",
        ] {
            let e = normalize(text).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidText, "{text}");
            assert!(e.detail().is_some(), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(normalize(&"[".repeat(100_000)).is_err());
        let deep = "[".repeat(400) + &"]".repeat(400);
        assert_eq!(normalize(&deep).unwrap(), deep);
    }
}
