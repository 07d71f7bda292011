//! The grammar: query strings to statements.
//!
//! Boundary: PostgreSQL's syntax errors and our own statements. sqlparser reads queries, DML, expressions and
//! data types; everything else is read here, so that nothing unknown slips through. After each statement the
//! next token must be `;` or the end.

mod alter;
mod commands;
mod cursors;
mod ddl;
mod dml;
mod lexer;
mod normalize;
mod options;
mod table;
#[cfg(test)]
mod tests;
pub mod window;

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use self::lexer::Source;
use super::dialect::FreshetDialect;
use super::statement::{Name, ParsedStatement, SqlExpr, SqlQuery, Statement};
use super::{audit, guard};
use crate::error::{Error, ErrorKind, Result};

/// Statements that contain statements (EXPLAIN, PREPARE) do so at most this deep.
const MAX_STATEMENT_NESTING: usize = 8;

/// Parses a query string into its statements; none for an empty one.
pub fn parse(text: &str) -> Result<Vec<ParsedStatement>> {
    guard::check_text(text)?;
    let source = Source::new(text)?;
    let mut statements = Vec::new();
    for range in source.statements() {
        let tokens = &source.tokens[range.clone()];
        let depth = guard::check_tokens(tokens)?;
        let statement = guard::on_sufficient_stack(depth, || {
            let dialect = FreshetDialect::with_fuel(guard::fuel(tokens.len()));
            let mut grammar = Grammar::new(&source, &dialect, range.clone());
            grammar.whole_statement().map_err(|e| match e.kind() {
                _ if dialect.exhausted() => guard::too_complex(),
                ErrorKind::Syntax if names_a_version(tokens) => audit::table_version(),
                _ => e,
            })
        })?;
        statements.push(ParsedStatement {
            statement,
            text: source.slice_tokens(range.clone()).to_string(),
            offset: source.character(source.tokens[range.start].span.start),
        });
    }
    Ok(statements)
}

/// Whether `FOR SYSTEM_TIME` occurs: sqlparser does not read it in all the places where it may stand.
fn names_a_version(tokens: &[TokenWithSpan]) -> bool {
    tokens
        .windows(2)
        .any(|pair| lexer::is_word(pair.first(), &["for"]) && lexer::is_word(pair.last(), &["system_time"]))
}

/// Parses the text of one expression (a stored default, check or generated column).
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    guard::check_text(text)?;
    let source = Source::new(text)?;
    let depth = guard::check_tokens(&source.tokens)?;
    guard::on_sufficient_stack(depth, || {
        let dialect = FreshetDialect::with_fuel(guard::fuel(source.tokens.len()));
        let mut grammar = Grammar::new(&source, &dialect, 0..source.tokens.len());
        let expr = grammar.expr();
        let expr = expr.map_err(|e| if dialect.exhausted() { guard::too_complex() } else { e })?;
        if grammar.at_end() { Ok(expr) } else { Err(grammar.unexpected()) }
    })
}

/// The text of an expression with a column under another name.
pub fn rename_column(text: &str, from: &str, to: &str) -> Result<String> {
    let source = Source::new(text)?;
    let mut renamed = String::with_capacity(text.len());
    let tokens = &source.tokens;
    let mut last = None;
    for (i, token) in tokens.iter().enumerate() {
        let Token::Word(word) = &token.token else { continue };
        let name = match word.quote_style {
            Some(_) => word.value.clone(),
            None => word.value.to_lowercase(),
        };
        let next = tokens[i + 1..].iter().find(|t| !matches!(t.token, Token::Whitespace(_)));
        let other = next.is_some_and(|t| matches!(t.token, Token::LParen | Token::Period));
        if name != from || other {
            continue;
        }
        let before = match last {
            Some(end) => source.slice(end, token.span.start),
            None => source.slice(tokens[0].span.start, token.span.start),
        };
        renamed.push_str(before);
        renamed.push_str(&super::statement::quote_identifier(to));
        last = Some(token.span.end);
    }
    match (last, tokens.last()) {
        (Some(end), Some(token)) => renamed.push_str(source.slice(end, token.span.end)),
        _ => return Ok(text.to_string()),
    }
    Ok(renamed)
}

/// A parser standing somewhere in one statement.
pub(super) struct Grammar<'a> {
    parser: Parser<'a>,
    dialect: &'a FreshetDialect,
    source: &'a Source<'a>,
    /// The statement's first token in the source.
    start: usize,
    /// One past its last token.
    end: usize,
    nesting: usize,
}

impl<'a> Grammar<'a> {
    fn new(source: &'a Source<'a>, dialect: &'a FreshetDialect, range: std::ops::Range<usize>) -> Self {
        let parser = Parser::new(dialect)
            .with_recursion_limit(guard::PARSER_RECURSION)
            .with_tokens_with_locations(source.tokens[range.clone()].to_vec());
        Grammar { parser, dialect, source, start: range.start, end: range.end, nesting: 0 }
    }

    // ---- where we are ----

    /// The next token's index in the source.
    fn position(&self) -> usize {
        (self.start + self.parser.index()).min(self.end)
    }

    fn peek(&self) -> &Token {
        &self.parser.peek_token_ref().token
    }

    fn peek_nth(&self, n: usize) -> &TokenWithSpan {
        self.parser.peek_nth_token_ref(n)
    }

    fn at_end(&self) -> bool {
        matches!(self.peek(), Token::EOF)
    }

    /// The error for a next token that does not belong here.
    fn unexpected(&self) -> Error {
        self.source.syntax_error(self.position())
    }

    /// The error position of the next token, 1-based.
    fn error_position(&self) -> usize {
        match self.source.tokens.get(self.position()) {
            Some(token) => self.source.character(token.span.start) + 1,
            None => self.source.text.chars().count() + 1,
        }
    }

    /// A refusal of something read and understood.
    fn unsupported<T>(&self, what: &str, hint: &str) -> Result<T> {
        let error = Error::unsupported(format!("{what} is not supported"));
        Err(if hint.is_empty() { error } else { error.with_hint(hint) })
    }

    /// Runs a piece of sqlparser's grammar.
    fn native<T>(&mut self, parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>) -> Result<T> {
        parse(&mut self.parser).map_err(|e| match &e {
            ParserError::RecursionLimitExceeded => guard::too_complex(),
            _ => self.source.parser_error(&e, self.position(), self.end),
        })
    }

    // ---- words and symbols ----

    /// Whether the next tokens are these words, unquoted.
    fn at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| lexer::is_word(Some(self.peek_nth(i)), &[word]))
    }

    /// Whether the next token is one of these words.
    fn at_any(&self, words: &[&str]) -> bool {
        lexer::is_word(Some(self.peek_nth(0)), words)
    }

    /// Reads these words, if they are next.
    fn eat(&mut self, words: &[&str]) -> bool {
        let found = self.at(words);
        if found {
            self.skip(words.len());
        }
        found
    }

    /// Reads these words, or fails at the first that is missing.
    fn expect(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.eat(&[word]) {
                return Err(self.unexpected());
            }
        }
        Ok(())
    }

    fn skip(&mut self, n: usize) {
        for _ in 0..n {
            self.parser.advance_token();
        }
    }

    fn eat_token(&mut self, token: &Token) -> bool {
        self.parser.consume_token(token)
    }

    fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.eat_token(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// `item [, item]…`.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.eat_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item [, item]…)`.
    fn parenthesized<T>(&mut self, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    // ---- names and values ----

    /// An identifier, folded unless quoted.
    fn identifier(&mut self) -> Result<String> {
        let name = match self.peek() {
            Token::Word(w) if w.quote_style.is_some() => w.value.clone(),
            Token::Word(w) if !is_reserved(&w.keyword) => w.value.to_ascii_lowercase(),
            _ => return Err(self.unexpected()),
        };
        self.skip(1);
        Ok(name)
    }

    fn identifiers_in_parentheses(&mut self) -> Result<Vec<String>> {
        self.parenthesized(Self::identifier)
    }

    /// `[[database.]schema.]name`.
    fn name(&mut self) -> Result<Name> {
        let position = self.error_position();
        let mut parts = vec![self.identifier()?];
        while self.eat_token(&Token::Period) {
            // After a dot any word will do.
            match self.peek() {
                Token::Word(w) if w.quote_style.is_none() => {
                    parts.push(w.value.to_ascii_lowercase());
                    self.skip(1);
                }
                _ => parts.push(self.identifier()?),
            }
        }
        let written = parts.join(".");
        let mut parts = parts.into_iter().rev();
        let name =
            Name { name: parts.next().unwrap_or_default(), schema: parts.next(), database: parts.next() };
        if parts.next().is_some() {
            let message = format!("improper qualified name (too many dotted names): {written}");
            return Err(Error::new(ErrorKind::Syntax, message).with_position(position));
        }
        Ok(name)
    }

    fn names(&mut self) -> Result<Vec<Name>> {
        self.list(Self::name)
    }

    /// The next token if it is a string constant.
    fn eat_string(&mut self) -> Option<String> {
        let value = match self.peek() {
            Token::SingleQuotedString(s)
            | Token::EscapedStringLiteral(s)
            | Token::UnicodeStringLiteral(s)
            | Token::NationalStringLiteral(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            _ => return None,
        };
        self.skip(1);
        Some(value)
    }

    fn string(&mut self) -> Result<String> {
        self.eat_string().ok_or_else(|| self.unexpected())
    }

    /// A number with its sign, as written.
    fn eat_number(&mut self) -> Option<String> {
        let sign = match self.peek() {
            Token::Minus => "-",
            Token::Plus => "+",
            _ => "",
        };
        let at = usize::from(!sign.is_empty());
        let Token::Number(digits, _) = &self.peek_nth(at).token else { return None };
        let number = if sign == "-" { format!("-{digits}") } else { digits.clone() };
        self.skip(at + 1);
        Some(number)
    }

    // ---- sqlparser's part ----

    fn expr(&mut self) -> Result<ast::Expr> {
        let expr = self.native(|p| p.parse_expr())?;
        audit::expr(&expr).map_err(|refusal| self.refused(refusal))?;
        Ok(expr)
    }

    /// The audit's error with its place in the text.
    fn refused(&self, refusal: audit::Refusal) -> Error {
        let tokens = &self.source.tokens[self.start..self.end];
        let at = match (refusal.span, &refusal.near) {
            (Some(span), _) if span.start.line > 0 => Some(span.start),
            // sqlparser does not keep the places of all names.
            (_, Some(near)) => tokens
                .iter()
                .find(|t| self.source.slice(t.span.start, t.span.end) == near)
                .map(|t| t.span.start),
            _ => None,
        };
        match at {
            Some(at) => refusal.error.with_position(self.source.character(at) + 1),
            None => refusal.error,
        }
    }

    fn data_type(&mut self) -> Result<ast::DataType> {
        self.native(|p| p.parse_data_type())
    }

    fn text_since(&self, from: usize) -> String {
        self.source.slice_tokens(from..self.position()).to_string()
    }

    /// An expression and its text.
    fn sql_expr(&mut self) -> Result<SqlExpr> {
        let from = self.position();
        let ast = self.expr()?;
        Ok(SqlExpr { ast, text: self.text_since(from) })
    }

    /// A query and its text.
    fn query(&mut self) -> Result<SqlQuery> {
        let query = self.query_with_locks()?;
        match query.ast.locks.first() {
            Some(lock) => {
                let what = format!("FOR {} here", lock.lock_type);
                self.unsupported(&what, "Lock rows with a SELECT of its own.")
            }
            None => Ok(query),
        }
    }

    /// A query that may end in FOR UPDATE.
    fn query_with_locks(&mut self) -> Result<SqlQuery> {
        let from = self.position();
        if !self.begins_query() {
            return Err(self.unexpected());
        }
        let mut ast = self.native(|p| p.parse_query())?;
        normalize::query(&mut ast);
        audit::query(&ast).map_err(|refusal| self.refused(refusal))?;
        Ok(SqlQuery { ast, text: self.text_since(from) })
    }

    fn begins_query(&self) -> bool {
        self.at_any(&["select", "with", "values"]) || *self.peek() == Token::LParen
    }

    // ---- statements ----

    /// One statement and nothing after it.
    fn whole_statement(&mut self) -> Result<Statement> {
        let statement = self.statement()?;
        if self.at_end() { Ok(statement) } else { Err(self.unexpected()) }
    }

    /// One statement.
    fn statement(&mut self) -> Result<Statement> {
        if self.nesting >= MAX_STATEMENT_NESTING {
            return Err(guard::too_complex());
        }
        self.nesting += 1;
        let statement = self.dispatch();
        self.nesting -= 1;
        statement
    }

    fn dispatch(&mut self) -> Result<Statement> {
        let word = match self.peek() {
            Token::LParen => return Ok(Statement::Query(self.query_with_locks()?.ast)),
            Token::Word(w) if w.quote_style.is_none() => w.value.to_ascii_lowercase(),
            _ => return Err(self.unexpected()),
        };
        match word.as_str() {
            "select" | "values" => self.select(),
            "with" => self.with_statement(),
            "insert" | "update" | "delete" => self.dml(None),
            "merge" => self.merge(None),
            "create" => self.create(),
            "drop" => self.drop(),
            "alter" => self.alter(),
            "comment" => self.comment(),
            "truncate" => self.truncate(),
            "copy" => self.copy(),
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
                self.transaction(&word)
            }
            "set" | "show" | "reset" | "discard" => self.session(&word),
            "explain" | "describe" | "desc" => self.explain(),
            "subscribe" => Ok(Statement::Subscribe(Box::new(self.subscribe()?))),
            "declare" => self.declare(),
            "fetch" | "move" | "close" => self.cursor(&word),
            "prepare" | "execute" | "deallocate" => self.prepared(&word),
            _ => self.other(&word),
        }
    }
}

/// Words that PostgreSQL takes as names only in quotes.
fn is_reserved(keyword: &Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::ALL
            | K::ANALYZE
            | K::AND
            | K::ANY
            | K::ARRAY
            | K::AS
            | K::ASC
            | K::BOTH
            | K::CASE
            | K::CAST
            | K::CHECK
            | K::COLLATE
            | K::COLUMN
            | K::CONSTRAINT
            | K::CREATE
            | K::CURRENT_DATE
            | K::CURRENT_TIME
            | K::CURRENT_TIMESTAMP
            | K::CURRENT_USER
            | K::DEFAULT
            | K::DESC
            | K::DISTINCT
            | K::DO
            | K::ELSE
            | K::END
            | K::EXCEPT
            | K::FALSE
            | K::FETCH
            | K::FOR
            | K::FOREIGN
            | K::FROM
            | K::GRANT
            | K::GROUP
            | K::HAVING
            | K::IN
            | K::INTERSECT
            | K::INTO
            | K::LATERAL
            | K::LEADING
            | K::LIMIT
            | K::LOCALTIME
            | K::LOCALTIMESTAMP
            | K::NOT
            | K::NULL
            | K::OFFSET
            | K::ON
            | K::ONLY
            | K::OR
            | K::ORDER
            | K::PRIMARY
            | K::REFERENCES
            | K::RETURNING
            | K::SELECT
            | K::SESSION_USER
            | K::SOME
            | K::SYMMETRIC
            | K::TABLE
            | K::THEN
            | K::TO
            | K::TRAILING
            | K::TRUE
            | K::UNION
            | K::UNIQUE
            | K::USER
            | K::USING
            | K::WHEN
            | K::WHERE
            | K::WINDOW
            | K::WITH
    )
}

/// An identifier's name as PostgreSQL folds it.
pub(super) fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}
