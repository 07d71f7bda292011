//! Patterns: LIKE, SIMILAR TO and PostgreSQL's regular expressions, translated for the `regex` crate.
//!
//! The advanced regular expressions of PostgreSQL are nearly those of the crate; what the crate cannot do
//! (backreferences, lookaround) is refused. Matches are leftmost; where PostgreSQL prefers the longest of several
//! alternatives, the first one wins here.
//!
//! Boundary: patterns and single texts; the functions over columns are in [`super::regexps`].

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use crate::error::{Error, ErrorKind, Result};

/// Compiled patterns that one column keeps.
const CACHE: usize = 256;
/// Greatest size of one compiled pattern.
const SIZE_LIMIT: usize = 16 << 20;

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidRegex, format!("invalid regular expression: {message}"))
}

/// The options of a regular expression function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags {
    /// `i`: case does not matter.
    pub ignore_case: bool,
    /// `g`: all matches.
    pub global: bool,
    /// `n`: `.` and brackets do not match newlines, `^` and `$` match at lines.
    pub lines: bool,
    /// `p`: `.` and brackets do not match newlines.
    pub partial: bool,
    /// `w`: `^` and `$` match at lines.
    pub anchors: bool,
    /// `x`: white space and comments are left out.
    pub expanded: bool,
    /// `q`: the pattern is a literal text.
    pub literal: bool,
}

impl Flags {
    /// No options.
    pub const NONE: Flags = Flags {
        ignore_case: false,
        global: false,
        lines: false,
        partial: false,
        anchors: false,
        expanded: false,
        literal: false,
    };

    /// The options written as letters.
    pub fn parse(text: &str) -> Result<Flags> {
        let mut flags = Flags::NONE;
        for c in text.chars() {
            match c {
                'i' => flags.ignore_case = true,
                'c' => flags.ignore_case = false,
                'g' => flags.global = true,
                'n' | 'm' => flags.lines = true,
                'p' => flags.partial = true,
                'w' => flags.anchors = true,
                's' => (flags.lines, flags.partial, flags.anchors) = (false, false, false),
                'x' => flags.expanded = true,
                't' => flags.expanded = false,
                'q' => flags.literal = true,
                'e' | 'b' => {}
                c => {
                    return Err(Error::new(
                        ErrorKind::InvalidParameter,
                        format!("invalid regular expression option: \"{c}\""),
                    ));
                }
            }
        }
        Ok(flags)
    }
}

/// Compiles a PostgreSQL regular expression.
pub fn compile(pattern: &str, flags: Flags) -> Result<Regex> {
    let mut flags = flags;
    let mut pattern = pattern;
    // A director or embedded options at the beginning.
    if let Some(rest) = pattern.strip_prefix("***=") {
        flags.literal = true;
        pattern = rest;
    } else if let Some(rest) = pattern.strip_prefix("***:") {
        pattern = rest;
    } else if let Some(rest) = pattern.strip_prefix("(?")
        && let Some((letters, rest)) = rest.split_once(')')
        && !letters.is_empty()
        && letters.bytes().all(|b| b.is_ascii_lowercase())
    {
        let own = Flags::parse(letters)?;
        flags = Flags { global: flags.global, ..own };
        pattern = rest;
    }
    let translated = if flags.literal { regex::escape(pattern) } else { translate(pattern, flags)? };
    regex::RegexBuilder::new(&translated)
        .case_insensitive(flags.ignore_case)
        .multi_line(flags.lines || flags.anchors)
        .dot_matches_new_line(!(flags.lines || flags.partial))
        .ignore_whitespace(flags.expanded)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => invalid("regular expression is too complex"),
            e => invalid(reason(&e.to_string())),
        })
}

/// PostgreSQL's words for what is wrong.
fn reason(message: &str) -> &'static str {
    let m = message;
    if m.contains("unclosed group") || m.contains("unopened group") {
        "parentheses () not balanced"
    } else if m.contains("unclosed character class") {
        "brackets [] not balanced"
    } else if m.contains("repetition operator missing") || m.contains("repetition quantifier expects") {
        "quantifier operand invalid"
    } else if m.contains("invalid character class range") {
        "invalid character range"
    } else if m.contains("counted repetition") || m.contains("repetition count") || m.contains("decimal") {
        "invalid repetition count(s)"
    } else if m.contains("escape") || m.contains("incomplete") {
        "invalid escape \\ sequence"
    } else {
        "quantifier operand invalid"
    }
}

/// The crate's spelling of a PostgreSQL pattern.
fn translate(pattern: &str, flags: Flags) -> Result<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let Some((_, e)) = chars.next() else { return Err(invalid("invalid escape \\ sequence")) };
                escape(e, &mut out)?;
            }
            '[' => {
                let rest = &pattern[at..];
                let used = bracket(rest, flags, &mut out)?;
                while chars.peek().is_some_and(|(i, _)| *i < at + used) {
                    chars.next();
                }
            }
            '(' if pattern[at..].starts_with("(?") => {
                let kind = &pattern[at + 2..];
                if kind.starts_with(':') {
                    out.push('(');
                } else if kind.starts_with('=') || kind.starts_with('!') || kind.starts_with("<") {
                    return Err(Error::unsupported("lookaround in regular expressions is not supported"));
                } else {
                    return Err(invalid("quantifier operand invalid"));
                }
            }
            // A brace that begins no repetition is itself.
            '{' if !pattern[at + 1..].starts_with(|c: char| c.is_ascii_digit()) => out.push_str("\\{"),
            '}' if !in_repetition(&pattern[..at]) => out.push_str("\\}"),
            '$' if !(flags.lines || flags.anchors) => out.push_str("\\z"),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn in_repetition(before: &str) -> bool {
    match before.rfind('{') {
        Some(at) => {
            let inside = &before[at + 1..];
            !inside.is_empty() && inside.bytes().all(|b| b.is_ascii_digit() || b == b',')
        }
        None => false,
    }
}

fn escape(e: char, out: &mut String) -> Result<()> {
    match e {
        'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'n' | 't' | 'r' | 'f' | 'v' => {
            out.push('\\');
            out.push(e);
        }
        'a' => out.push_str("\\x07"),
        'e' => out.push_str("\\x1b"),
        'b' => out.push_str("\\x08"),
        'B' => out.push_str("\\\\"),
        'A' => out.push_str("\\A"),
        'Z' => out.push_str("\\z"),
        'y' => out.push_str("\\b"),
        'Y' => out.push_str("\\B"),
        'm' => out.push_str("\\b{start}"),
        'M' => out.push_str("\\b{end}"),
        'x' | 'u' | 'U' => {
            out.push('\\');
            out.push(e);
        }
        '1'..='9' => {
            return Err(Error::unsupported("backreferences in regular expressions are not supported"));
        }
        c if c.is_ascii_alphanumeric() => return Err(invalid("invalid escape \\ sequence")),
        c => {
            out.push('\\');
            if !c.is_ascii() {
                out.pop();
            }
            out.push(c);
        }
    }
    Ok(())
}

/// Copies a bracket expression; gives how many bytes of the pattern it takes.
fn bracket(rest: &str, flags: Flags, out: &mut String) -> Result<usize> {
    // Word boundaries in the old spelling.
    for (old, new) in [("[[:<:]]", "\\b{start}"), ("[[:>:]]", "\\b{end}")] {
        if rest.starts_with(old) {
            out.push_str(new);
            return Ok(old.len());
        }
    }
    let mut at = 1;
    out.push('[');
    if rest[at..].starts_with('^') {
        out.push('^');
        at += 1;
        if flags.lines || flags.partial {
            out.push_str("\\n");
        }
    }
    let mut first = true;
    loop {
        let Some(c) = rest[at..].chars().next() else { return Err(invalid("brackets [] not balanced")) };
        match c {
            ']' if !first => {
                out.push(']');
                return Ok(at + 1);
            }
            '[' if rest[at..].starts_with("[:") => {
                let Some(end) = rest[at..].find(":]") else {
                    return Err(invalid("brackets [] not balanced"));
                };
                let class = &rest[at + 2..at + end];
                let known = [
                    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
                    "upper", "xdigit", "word",
                ];
                if !known.contains(&class) {
                    return Err(invalid("invalid character class"));
                }
                // The crate's classes are ASCII; PostgreSQL's follow the encoding.
                out.push_str(match class {
                    "alpha" => "\\p{Alphabetic}",
                    "alnum" => "\\p{Alphabetic}\\p{Nd}",
                    "digit" => "\\d",
                    "space" => "\\s",
                    "upper" => "\\p{Uppercase}",
                    "lower" => "\\p{Lowercase}",
                    "word" => "\\w",
                    _ => "",
                });
                if !["alpha", "alnum", "digit", "space", "upper", "lower", "word"].contains(&class) {
                    out.push_str(&rest[at..at + end + 2]);
                }
                at += end + 2;
            }
            '[' if rest[at..].starts_with("[.") || rest[at..].starts_with("[=") => {
                let mut inside = rest[at + 2..].chars();
                let Some(c) = inside.next() else { return Err(invalid("brackets [] not balanced")) };
                push_literal(c, out);
                at += 2 + c.len_utf8() + 2;
                if at > rest.len() {
                    return Err(invalid("brackets [] not balanced"));
                }
            }
            '\\' => {
                let Some(e) = rest[at + 1..].chars().next() else {
                    return Err(invalid("invalid escape \\ sequence"));
                };
                match e {
                    'b' => out.push_str("\\x08"),
                    'B' => out.push_str("\\\\"),
                    e => escape(e, out)?,
                }
                at += 1 + e.len_utf8();
            }
            // A range keeps its dash; all else stands for itself.
            '-' => {
                let range = !first && !rest[at + 1..].starts_with(']');
                out.push_str(if range { "-" } else { "\\-" });
                at += 1;
            }
            c => {
                push_literal(c, out);
                at += c.len_utf8();
            }
        }
        first = false;
    }
}

fn push_literal(c: char, out: &mut String) {
    if matches!(c, '[' | ']' | '&' | '~' | '^' | '\\' | '-' | '#' | ' ') {
        out.push('\\');
    }
    out.push(c);
}

/// A SIMILAR TO pattern as a regular expression of the crate; the whole text must match.
pub fn similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut out = String::from("\\A(?:");
    let mut chars = pattern.chars();
    let mut in_bracket = false;
    // `escape"` separates the parts of SUBSTRING … SIMILAR.
    let mut quotes = 0;
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some('"') if !in_bracket => {
                    quotes += 1;
                    match quotes {
                        1 => out = format!("\\A(?:{})(", reluctant(&out["\\A(?:".len()..])),
                        2 => out.push_str(")(?:"),
                        _ => {
                            return Err(Error::new(
                                ErrorKind::InvalidEscapeUse,
                                "SQL regular expression may not contain more than two escape-double-quote separators",
                            ));
                        }
                    }
                }
                Some(c) => {
                    out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                }
                None => {
                    return Err(Error::new(ErrorKind::InvalidEscape, "invalid escape string"));
                }
            }
            continue;
        }
        if in_bracket {
            match c {
                ']' => in_bracket = false,
                '\\' => out.push('\\'),
                _ => {}
            }
            out.push(c);
            continue;
        }
        match c {
            '%' => out.push_str("(?s:.*)"),
            '_' => out.push_str("(?s:.)"),
            '(' => out.push_str("(?:"),
            '[' => {
                in_bracket = true;
                out.push('[');
            }
            '.' | '^' | '$' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push_str(")\\z");
    Ok(out)
}

/// The first part of a three-part pattern matches as little as it can.
fn reluctant(part: &str) -> String {
    part.replace("(?s:.*)", "(?s:.*?)")
}

/// Compiles a SIMILAR TO pattern.
pub fn compile_similar(pattern: &str, escape: Option<char>) -> Result<Regex> {
    regex::RegexBuilder::new(&similar(pattern, escape)?)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|e| invalid(reason(&e.to_string())))
}

/// The escape character of a LIKE or SIMILAR TO: one character or none.
pub fn escape_character(text: &str) -> Result<Option<char>> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Ok(None),
        (Some(c), None) => Ok(Some(c)),
        _ => Err(Error::new(ErrorKind::InvalidEscape, "invalid escape string")
            .with_hint("Escape string must be empty or one character.")),
    }
}

/// Whether a text matches a LIKE pattern.
pub fn like(text: &str, pattern: &str, escape: Option<char>, ignore_case: bool) -> Result<bool> {
    let fold = |c: char| {
        if ignore_case && c.is_uppercase() { c.to_lowercase().next().unwrap_or(c) } else { c }
    };
    // The place to return to when a later part fails: after the last %, one character further.
    let (mut t, mut p) = (text.chars(), pattern.chars());
    let mut back: Option<(std::str::Chars, std::str::Chars)> = None;
    loop {
        let mut rest = p.clone();
        let matched = match rest.next() {
            None if t.as_str().is_empty() => return Ok(true),
            None => false,
            Some(c) if Some(c) == escape => {
                let Some(literal) = rest.next() else {
                    if t.as_str().is_empty() {
                        return Ok(false);
                    }
                    return Err(Error::new(
                        ErrorKind::InvalidEscape,
                        "LIKE pattern must not end with escape character",
                    ));
                };
                t.clone().next().is_some_and(|x| fold(x) == fold(literal))
            }
            Some('%') => {
                if rest.as_str().is_empty() {
                    return Ok(true);
                }
                back = Some((t.clone(), rest.clone()));
                p = rest;
                continue;
            }
            Some('_') => !t.as_str().is_empty(),
            Some(c) => t.clone().next().is_some_and(|x| fold(x) == fold(c)),
        };
        if matched {
            t.next();
            p = rest;
            continue;
        }
        let Some((from, after)) = &mut back else { return Ok(false) };
        if from.next().is_none() {
            return Ok(false);
        }
        t = from.clone();
        p = after.clone();
    }
}

/// Compiled regular expressions of one column; most columns have one pattern.
#[derive(Default)]
pub struct Cache {
    last: Option<(String, String, Arc<Regex>)>,
    all: HashMap<(String, String), Arc<Regex>>,
}

impl Cache {
    /// The compiled pattern with options written as letters.
    pub fn get(&mut self, pattern: &str, flags: &str) -> Result<Arc<Regex>> {
        self.find(pattern, flags, || compile(pattern, Flags::parse(flags)?))
    }

    /// The compiled SIMILAR TO pattern.
    pub fn similar(&mut self, pattern: &str, escape: &str) -> Result<Arc<Regex>> {
        self.find(pattern, escape, || compile_similar(pattern, escape_character(escape)?))
    }

    fn find(
        &mut self,
        pattern: &str,
        flags: &str,
        make: impl FnOnce() -> Result<Regex>,
    ) -> Result<Arc<Regex>> {
        if let Some((p, f, regex)) = &self.last
            && p == pattern
            && f == flags
        {
            return Ok(regex.clone());
        }
        let key = (pattern.to_string(), flags.to_string());
        let regex = match self.all.get(&key) {
            Some(r) => r.clone(),
            None => {
                let r = Arc::new(make()?);
                if self.all.len() >= CACHE {
                    self.all.clear();
                }
                self.all.insert(key.clone(), r.clone());
                r
            }
        };
        self.last = Some((key.0, key.1, regex.clone()));
        Ok(regex)
    }
}

/// A matching operator between two texts.
pub struct Matcher {
    cache: Cache,
    regex: bool,
    ignore_case: bool,
    negated: bool,
}

impl Matcher {
    /// The matcher of `~`, `~~*`, `!~` and their kind.
    pub fn of_operator(op: &str) -> Result<Matcher> {
        let (negated, bare) = op.strip_prefix('!').map_or((false, op), |o| (true, o));
        let (ignore_case, bare) = bare.strip_suffix('*').map_or((false, bare), |o| (true, o));
        let regex = match bare {
            "~" => true,
            "~~" => false,
            _ => return Err(Error::unsupported(format!("operator {op} with ANY or ALL is not supported"))),
        };
        Ok(Matcher { cache: Cache::default(), regex, ignore_case, negated })
    }

    /// Whether the operator holds.
    pub fn matches(&mut self, text: &str, pattern: &str) -> Result<bool> {
        let found = if self.regex {
            self.cache.get(pattern, if self.ignore_case { "i" } else { "" })?.is_match(text)
        } else {
            like(text, pattern, Some('\\'), self.ignore_case)?
        };
        Ok(found != self.negated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_patterns_match_with_backtracking_and_escapes() {
        let m = |t: &str, p: &str| like(t, p, Some('\\'), false).unwrap();
        assert!(m("abc", "a%c") && m("aXbXc", "a%X_") && m("", "%") && m("a%b", "a\\%b"));
        assert!(!m("abc", "a_") && !m("abc", "abcd") && !m("", "_"));
        assert!(like("ÄB", "äb", None, true).unwrap());
        assert!(like("a\\b", "a\\b", None, false).unwrap());
        assert!(
            like("a", "a\\", Some('\\'), false).is_ok_and(|m| !m)
                || like("a", "\\", Some('\\'), false).is_err()
        );
    }

    #[test]
    fn regular_expressions_are_translated() {
        let m = |t: &str, p: &str| compile(p, Flags::NONE).unwrap().is_match(t);
        assert!(m("foo.bar", r"^foo\.bar$") && !m("foo\n", "foo$") && m("a{b", "a{b"));
        assert!(m("x]y", "[]]") && m("a-b", "[a-]-b") && m("the cat", r"\mcat\M") && m("é", "[[:alpha:]]"));
        assert!(m("A", "(?i)a") && m("a.c", "***=a.c") && !m("abc", "***=a.c"));
        assert_eq!(compile(r"(a)\1", Flags::NONE).unwrap_err().kind(), ErrorKind::FeatureNotSupported);
        assert_eq!(compile("a(", Flags::NONE).unwrap_err().kind(), ErrorKind::InvalidRegex);
    }

    #[test]
    fn similar_patterns_match_whole_texts() {
        let m = |t: &str, p: &str| compile_similar(p, Some('\\')).unwrap().is_match(t);
        assert!(
            m("abc", "a%") && m("abc", "(a|b)%") && !m("xabc", "a%") && m("a.c", "a.c") && !m("abc", "a.c")
        );
    }
}
