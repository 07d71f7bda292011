//! Tokens of a query string, their places in it, and its division into statements.
//!
//! Boundary: wraps sqlparser's tokenizer. It drops white space and comments (optimizer hints are comments, as in
//! PostgreSQL), joins string constants split over lines, and rewrites four spellings that sqlparser cannot
//! read: `TABLE t` as a query, `TABLE t` as the argument of a window function, `ONLY t`, and EXCLUDE of a frame.

use std::ops::Range;

use sqlparser::keywords::Keyword;
use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace, Word};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::dialect::FreshetDialect;

/// A query string with its tokens.
pub(super) struct Source<'a> {
    /// The text.
    pub text: &'a str,
    /// Its tokens without white space, with `;`, without an end marker.
    pub tokens: Vec<TokenWithSpan>,
    places: Places<'a>,
}

/// From the tokenizer's lines and columns to characters and bytes.
struct Places<'a> {
    text: &'a str,
    /// The character each line begins at.
    lines: Vec<usize>,
    /// The byte each character begins at; none for ASCII, where they are the same.
    bytes: Option<Vec<u32>>,
    characters: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        let mut lines = vec![0];
        let mut characters = 0;
        let mut bytes = (!text.is_ascii()).then(Vec::new);
        for (byte, c) in text.char_indices() {
            if let Some(bytes) = &mut bytes {
                bytes.push(byte as u32);
            }
            characters += 1;
            if c == '\n' {
                lines.push(characters);
            }
        }
        Places { text, lines, bytes, characters }
    }

    fn character(&self, at: Location) -> usize {
        match self.lines.get((at.line as usize).wrapping_sub(1)) {
            Some(start) => (start + (at.column as usize).saturating_sub(1)).min(self.characters),
            None => self.characters,
        }
    }

    fn byte(&self, character: usize) -> usize {
        match &self.bytes {
            None => character.min(self.text.len()),
            Some(bytes) => bytes.get(character).map_or(self.text.len(), |b| *b as usize),
        }
    }
}

impl<'a> Source<'a> {
    /// Reads the whole text.
    pub fn new(text: &'a str) -> Result<Self> {
        let places = Places::new(text);
        let dialect = FreshetDialect::with_fuel(0);
        let mut raw = Vec::new();
        let outcome = Tokenizer::new(&dialect, text).tokenize_with_location_into_buf(&mut raw);
        let mut source = Source { text, tokens: Vec::new(), places };
        if outcome.is_err() {
            let start = raw.last().map_or(0, |t| source.places.character(t.span.end));
            return Err(source.unterminated(start));
        }
        source.tokens = significant(raw, &source)?;
        source.tokens = rewrite(std::mem::take(&mut source.tokens));
        for token in &mut source.tokens {
            // `SELECT top` reads a column: only other systems have a TOP clause, which sqlparser takes from everybody.
            if let Token::Word(word) = &mut token.token
                && word.keyword == Keyword::TOP
            {
                word.keyword = Keyword::NoKeyword;
            }
        }
        Ok(source)
    }

    /// The character (from 0) at a place of the tokenizer; the end of the text for none.
    pub fn character(&self, at: Location) -> usize {
        self.places.character(at)
    }

    /// The text of a token or of several.
    pub fn slice(&self, from: Location, to: Location) -> &'a str {
        let start = self.places.byte(self.character(from));
        let end = self.places.byte(self.character(to));
        &self.text[start..end.max(start)]
    }

    /// The text from the first to the last token of a range.
    pub fn slice_tokens(&self, range: Range<usize>) -> &'a str {
        match (self.tokens.get(range.start), range.end.checked_sub(1).and_then(|i| self.tokens.get(i))) {
            (Some(first), Some(last)) if range.start < range.end => {
                self.slice(first.span.start, last.span.end)
            }
            _ => "",
        }
    }

    /// `syntax error at or near "token"` at the token (by index) or at the end of the text.
    pub fn syntax_error(&self, token: usize) -> Error {
        match self.tokens.get(token) {
            Some(t) => self.syntax_error_at(t.span),
            None => Error::new(ErrorKind::Syntax, "syntax error at end of input")
                .with_position(self.places.characters + 1),
        }
    }

    fn syntax_error_at(&self, span: Span) -> Error {
        let text = self.slice(span.start, span.end);
        Error::new(ErrorKind::Syntax, format!("syntax error at or near \"{text}\""))
            .with_position(self.character(span.start) + 1)
    }

    /// Translates the error of sqlparser's parser. It gives the place in its text; where there is none, the
    /// place is the token that was next, or the statement's end.
    pub fn parser_error(&self, error: &ParserError, next: usize, end: usize) -> Error {
        let ParserError::ParserError(message) = error else {
            return self.syntax_error(next);
        };
        let located = message.rsplit_once(" at Line: ").and_then(|(_, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
        });
        let at = match located {
            Some(location) => self.tokens.partition_point(|t| t.span.start < location),
            None if message.contains("found: EOF") => end,
            None => next,
        };
        self.syntax_error(at)
    }

    /// The error for a constant, name or comment without its end, which begins at (or after) a character.
    fn unterminated(&self, from: usize) -> Error {
        let rest = &self.text[self.places.byte(from)..];
        let skipped = rest.chars().take_while(|c| c.is_whitespace()).count();
        let rest = rest.trim_start();
        let what = match rest.chars().next() {
            Some('/') => "unterminated /* comment",
            Some('"') => "unterminated quoted identifier",
            Some('$') => "unterminated dollar-quoted string",
            Some('u' | 'U') if rest[1..].starts_with("&\"") => "unterminated quoted identifier",
            Some('x' | 'X') => "unterminated hexadecimal string literal",
            Some('b' | 'B') => "unterminated bit string literal",
            Some('\'' | 'e' | 'E' | 'n' | 'N' | 'u' | 'U') => "unterminated quoted string",
            _ => "syntax error",
        };
        Error::new(ErrorKind::Syntax, format!("{what} at or near \"{rest}\""))
            .with_position(from + skipped + 1)
    }

    /// The statements: ranges of tokens between top-level semicolons, empty ones left out.
    pub fn statements(&self) -> Vec<Range<usize>> {
        let mut statements = Vec::new();
        let mut start = 0;
        for (i, token) in self.tokens.iter().enumerate() {
            if token.token == Token::SemiColon {
                if i > start {
                    statements.push(start..i);
                }
                start = i + 1;
            }
        }
        if start < self.tokens.len() {
            statements.push(start..self.tokens.len());
        }
        statements
    }
}

/// Drops white space, joins `'a' <newline> 'b'`, and refuses what PostgreSQL's scanner refuses.
fn significant(raw: Vec<TokenWithSpan>, source: &Source<'_>) -> Result<Vec<TokenWithSpan>> {
    let mut tokens: Vec<TokenWithSpan> = Vec::with_capacity(raw.len() / 2 + 1);
    let (mut space, mut newline) = (true, false);
    for token in raw {
        if let Token::Whitespace(kind) = &token.token {
            space = true;
            newline |= matches!(kind, Whitespace::Newline | Whitespace::SingleLineComment { .. });
            continue;
        }
        if let Some(last) = tokens.last_mut() {
            match (&mut last.token, &token.token) {
                (Token::SingleQuotedString(a), Token::SingleQuotedString(b)) if newline => {
                    a.push_str(b);
                    last.span.end = token.span.end;
                    (space, newline) = (false, false);
                    continue;
                }
                (Token::Number(..), Token::Word(w)) if !space && w.quote_style.is_none() => {
                    let text = source.slice(last.span.start, token.span.end);
                    return Err(Error::new(
                        ErrorKind::Syntax,
                        format!("trailing junk after numeric literal at or near \"{text}\""),
                    )
                    .with_position(source.character(last.span.start) + 1));
                }
                _ => {}
            }
        }
        match &token.token {
            Token::EOF => continue,
            Token::Char(_) => return Err(source.syntax_error_at(token.span)),
            Token::Word(w) if w.quote_style.is_some() && w.value.is_empty() => {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    "zero-length delimited identifier at or near \"\"\"\"",
                )
                .with_position(source.character(token.span.start) + 1));
            }
            _ => {}
        }
        tokens.push(token);
        (space, newline) = (false, false);
    }
    Ok(tokens)
}

/// Whether a token is one of these words, unquoted.
pub(super) fn is_word(token: Option<&TokenWithSpan>, words: &[&str]) -> bool {
    matches!(token.map(|t| &t.token), Some(Token::Word(w))
        if w.quote_style.is_none() && words.iter().any(|x| w.value.eq_ignore_ascii_case(x)))
}

fn is(token: Option<&TokenWithSpan>, expected: &Token) -> bool {
    token.is_some_and(|t| t.token == *expected)
}

const WINDOW_FUNCTIONS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// Rewrites the spellings sqlparser cannot read. New tokens keep the place of the old one.
fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let tokens = mark_excludes(tokens);
    if !tokens.iter().any(|t| is_word(Some(t), &["table", "only"])) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    for (i, token) in tokens.iter().enumerate() {
        let next = tokens.get(i + 1);
        let next_is_name = matches!(next.map(|t| &t.token), Some(Token::Word(_)));
        if is_word(Some(token), &["table"]) && next_is_name {
            let before = out.len().checked_sub(2).and_then(|j| out.get(j));
            let previous = out.last();
            let opens = is(previous, &Token::LParen);
            if opens && is_word(before, &WINDOW_FUNCTIONS) || is(previous, &Token::RArrow) {
                continue;
            }
            let begins_query = opens
                || previous.is_none()
                || is(previous, &Token::SemiColon)
                || is_word(previous, &["union", "all", "except", "intersect"])
                || is_word(previous, &["as"]) && !is_word(next, &["from"]);
            if begins_query {
                out.push(word("SELECT", Keyword::SELECT, token.span));
                out.push(TokenWithSpan { token: Token::Mul, span: token.span });
                out.push(word("FROM", Keyword::FROM, token.span));
                continue;
            }
        }
        // There is no inheritance, so ONLY says nothing.
        if is_word(Some(token), &["only"])
            && next_is_name
            && is_word(out.last(), &["from", "join", "update", "table"])
        {
            continue;
        }
        out.push(token.clone());
    }
    out
}

/// `… ROWS … EXCLUDE TIES)` as `…, freshet_exclude('ties') ROWS …)`: an item of the window's ORDER BY or PARTITION BY,
/// which the binder takes out again.
fn mark_excludes(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|t| is_word(Some(t), &["exclude"])) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 8);
    let mut i = 0;
    while i < tokens.len() {
        let next = |n: usize| tokens.get(i + n);
        let (what, length) = if !is_word(next(0), &["exclude"]) {
            ("", 1)
        } else if is_word(next(1), &["no"]) && is_word(next(2), &["others"]) {
            ("no others", 3)
        } else if is_word(next(1), &["current"]) && is_word(next(2), &["row"]) {
            ("current row", 3)
        } else if is_word(next(1), &["group"]) {
            ("group", 2)
        } else if is_word(next(1), &["ties"]) {
            ("ties", 2)
        } else {
            ("", 1)
        };
        let place = if length > 1 && is(next(length), &Token::RParen) { frame_of(&out) } else { None };
        match place {
            None => out.push(tokens[i].clone()),
            Some((at, in_list)) => {
                let span = tokens[i].span;
                let plain = |token: Token| TokenWithSpan { token, span };
                let mut marker = if in_list {
                    vec![plain(Token::Comma)]
                } else {
                    vec![word("PARTITION", Keyword::PARTITION, span), word("BY", Keyword::BY, span)]
                };
                marker.push(word("freshet_exclude", Keyword::NoKeyword, span));
                marker.push(plain(Token::LParen));
                marker.push(plain(Token::SingleQuotedString(what.to_string())));
                marker.push(plain(Token::RParen));
                out.splice(at..at, marker);
                i += length;
                continue;
            }
        }
        i += 1;
    }
    out
}

/// Where the frame of the window at the end of these tokens begins, and whether a list goes before it.
fn frame_of(tokens: &[TokenWithSpan]) -> Option<(usize, bool)> {
    let (mut depth, mut frame, mut in_list) = (0, None, false);
    for (i, token) in tokens.iter().enumerate().rev() {
        match &token.token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return frame.map(|at| (at, in_list)),
            Token::LParen => depth -= 1,
            _ if depth > 0 => {}
            _ if is_word(Some(token), &["rows", "range", "groups"]) && !in_list => frame = Some(i),
            _ => in_list |= frame.is_some() && is_word(Some(token), &["by"]),
        }
    }
    None
}

fn word(value: &str, keyword: Keyword, span: Span) -> TokenWithSpan {
    TokenWithSpan { token: Token::Word(Word { value: value.into(), quote_style: None, keyword }), span }
}
