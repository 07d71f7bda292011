//! Limits on statements: nothing a client sends may hang the server or overflow a stack.
//!
//! Boundary: looks at text and tokens only, in one pass each, before anything recursive does. Three dangers, three
//! answers. Trees deeper than any stack: [`check_tokens`] computes an upper bound of the tree's depth from the
//! tokens and refuses what exceeds it, which bounds every later walk (clone, display, planning, drop) as well.
//! The parser's own recursion: [`on_sufficient_stack`] gives it a stack in proportion. The parser's backtracking,
//! exponential in the nesting of calls: [`fuel`] limits its steps, which the dialect counts.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, ErrorKind, Result};

/// The longest query string, in bytes.
pub const MAX_TEXT: usize = 16 * 1024 * 1024;
/// The most tokens in a statement: a tree takes some hundred bytes for each.
pub const MAX_TOKENS: usize = 4_000_000;
/// The deepest tree: terms in a chain of operators plus levels of nesting. DataFusion's optimizer takes time cubic in
/// the depth of an expression: 200 terms cost an unoptimised build 0.3 s, 400 terms 2.4 s.
pub const MAX_DEPTH: usize = 250;
/// The deepest nesting of parentheses, brackets and CASE. A level costs the parser much more stack than a term.
pub const MAX_NESTING: usize = 100;
/// The longest dotted name; sqlparser takes time quadratic in its length.
pub const MAX_NAME_PARTS: usize = 64;
/// Queries within expressions within queries; planning takes time that doubles with each two of them.
const MAX_SUBQUERIES: usize = 12;
/// sqlparser's own recursion limit, beyond what [`MAX_NESTING`] can need.
pub const PARSER_RECURSION: usize = 4 * MAX_NESTING;

const STACK_BASE: usize = 512 * 1024;
const STACK_PER_NESTING: usize = 64 * 1024;
const STACK_PER_DEPTH: usize = 4 * 1024;

/// Refuses a query string that is too long.
pub fn check_text(text: &str) -> Result<()> {
    if text.len() > MAX_TEXT {
        return Err(Error::new(ErrorKind::ProgramLimit, "statement is too long").with_detail(format!(
            "The query string has {} bytes; at most {MAX_TEXT} are taken.",
            text.len()
        )));
    }
    // Tokens take far more memory than text, so a long text of many is refused before there are any.
    if text.len() > MAX_TOKENS && symbols(text) > MAX_TOKENS {
        return Err(Error::new(ErrorKind::ProgramLimit, "statement is too long")
            .with_detail(format!("It has more than {MAX_TOKENS} tokens.")));
    }
    Ok(())
}

/// The symbols and spaces outside quotes, about as many as there are tokens.
fn symbols(text: &str) -> usize {
    let mut quote = None;
    let mut symbols = 0;
    for byte in text.bytes() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'\'' || byte == b'"' => quote = Some(byte),
            None => symbols += usize::from(!byte.is_ascii_alphanumeric() && byte.is_ascii()),
        }
    }
    symbols
}

/// The refusal of a statement that is nested too deeply or costs the parser too much.
pub fn too_complex() -> Error {
    Error::new(ErrorKind::StatementTooComplex, "statement is too complex").with_hint(format!(
        "Use at most {MAX_NESTING} levels of nesting, {MAX_SUBQUERIES} of them queries within expressions, and about \
         {MAX_DEPTH} operators in one chain; \
         IN (…) and VALUES lists may be as long as you like."
    ))
}

/// How deep the tree of a statement can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Levels of parentheses, brackets and CASE.
    pub nesting: usize,
    /// An upper bound of the tree's depth.
    pub total: usize,
}

/// One open parenthesis, bracket or CASE (or the statement itself).
#[derive(Default)]
struct Level {
    case: bool,
    /// Queries within expressions that this is in.
    subqueries: usize,
    /// Operators since the last AND, OR or border.
    run: usize,
    /// The deepest of the runs and of what they enclose, since the last border.
    deepest_run: usize,
    /// ANDs and ORs since the last border: their chain stands above the runs.
    connectives: usize,
    /// The deepest thing enclosed in the current run.
    inside: usize,
    /// The deepest segment between borders.
    deepest: usize,
    /// Joins (and commas in FROM) and set operations: they chain across borders.
    chain: usize,
    from: bool,
}

impl Level {
    fn end_run(&mut self) {
        self.deepest_run = self.deepest_run.max(self.run + self.inside);
        (self.run, self.inside) = (0, 0);
    }

    fn end_segment(&mut self) {
        self.end_run();
        self.deepest = self.deepest.max(self.connectives + self.deepest_run);
        (self.connectives, self.deepest_run) = (0, 0);
    }

    fn depth(&mut self) -> usize {
        self.end_segment();
        self.deepest + self.chain
    }
}

/// Words that stand for an operator, or make the tree deeper as one does.
const OPERATORS: [&str; 22] = [
    "NOT", "IS", "IN", "LIKE", "ILIKE", "SIMILAR", "BETWEEN", "COLLATE", "AT", "OPERATOR", "ISNULL",
    "NOTNULL", "INTERVAL", "ESCAPE", "OVERLAPS", "PRIOR", "ARRAY", "STRUCT", "MAP", "DIV", "RLIKE", "REGEXP",
];
/// Words that separate expressions of one level.
const BORDERS: [&str; 17] = [
    "SELECT",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "VALUES",
    "SET",
    "WHEN",
    "THEN",
    "ELSE",
    "ON",
    "USING",
    "RETURNING",
    "WINDOW",
    "AS",
];
const SET_OPERATIONS: [&str; 3] = ["UNION", "INTERSECT", "EXCEPT"];

/// Refuses a statement whose tree would be too deep.
pub fn check_tokens(tokens: &[TokenWithSpan]) -> Result<Depth> {
    if tokens.len() > MAX_TOKENS {
        return Err(Error::new(ErrorKind::ProgramLimit, "statement is too long")
            .with_detail(format!("It has {} tokens; at most {MAX_TOKENS} are taken.", tokens.len())));
    }
    let mut levels = vec![Level::default()];
    let mut nesting = 0;
    let (mut dots, mut after_dot) = (0, false);
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Period => dots += 1,
            Token::Word(_) if after_dot => {}
            _ => dots = 0,
        }
        after_dot = token.token == Token::Period;
        if dots >= MAX_NAME_PARTS {
            return Err(too_complex());
        }
        let open = match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => Some(false),
            Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("case") => Some(true),
            _ => None,
        };
        if let Some(case) = open {
            if token.token == Token::LBracket
                && let Some(level) = levels.last_mut()
            {
                level.run += 1;
            }
            let around = levels.last().map_or(0, |level| level.subqueries);
            let subqueries = around + usize::from(is_subquery(tokens, at));
            if subqueries > MAX_SUBQUERIES {
                return Err(too_complex());
            }
            levels.push(Level { case, subqueries, ..Level::default() });
            nesting = nesting.max(levels.len() - 1);
            if nesting > MAX_NESTING {
                return Err(too_complex());
            }
            continue;
        }
        let top = levels.last().is_some_and(|level| level.case);
        let close = match &token.token {
            Token::RParen | Token::RBracket | Token::RBrace => !top,
            Token::Word(w) => top && w.quote_style.is_none() && w.value.eq_ignore_ascii_case("end"),
            _ => false,
        };
        if close && levels.len() > 1 {
            let depth = levels.pop().map_or(0, |mut level| level.depth());
            if let Some(parent) = levels.last_mut() {
                parent.inside = parent.inside.max(depth + 1);
            }
        } else if let Some(level) = levels.last_mut() {
            count(level, &token.token);
        }
    }
    // What was never closed counts as well: the parser goes down before it notices.
    let mut total = 0;
    while let Some(mut level) = levels.pop() {
        level.inside = level.inside.max(total + 1);
        total = level.depth();
    }
    if total > MAX_DEPTH { Err(too_complex()) } else { Ok(Depth { nesting, total }) }
}

/// Whether the parenthesis at `at` holds a query that is part of an expression, and not of FROM or of a set operation.
fn is_subquery(tokens: &[TokenWithSpan], at: usize) -> bool {
    let is_space = |t: &&TokenWithSpan| matches!(t.token, Token::Whitespace(_));
    let word = |t: Option<&TokenWithSpan>| match t.map(|t| &t.token) {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let next = tokens.get(at + 1..).unwrap_or_default().iter().find(|t| !is_space(t));
    if !matches!(word(next).as_str(), "SELECT" | "WITH") || tokens[at].token != Token::LParen {
        return false;
    }
    let before = tokens[..at].iter().rev().find(|t| !is_space(t));
    let elsewhere =
        ["FROM", "JOIN", "LATERAL", "AS", "MATERIALIZED", "UNION", "EXCEPT", "INTERSECT", "DISTINCT"];
    let opens = before.is_none_or(|t| matches!(t.token, Token::LParen | Token::SemiColon));
    !opens && !elsewhere.contains(&word(before).as_str())
}

/// Accounts for a token inside a level.
fn count(level: &mut Level, token: &Token) {
    let word = match token {
        Token::Comma if level.from => {
            level.chain += 1;
            return level.end_segment();
        }
        Token::Comma | Token::SemiColon => return level.end_segment(),
        Token::Word(w) if w.quote_style.is_none() => w.value.as_str(),
        Token::Word(_) | Token::Number(..) | Token::Period | Token::Placeholder(_) => return,
        Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_) | Token::DollarQuotedString(_) => {
            return;
        }
        _ => {
            level.run += 1;
            return;
        }
    };
    // All words below are short; names mostly are not.
    if word.len() > 9 {
        return;
    }
    let one_of = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w));
    if one_of(&["AND", "OR"]) {
        level.end_run();
        level.connectives += 1;
    } else if one_of(&OPERATORS) {
        level.run += 1;
    } else if one_of(&["FROM"]) {
        level.end_segment();
        level.from = true;
    } else if one_of(&["JOIN"]) {
        level.chain += 1;
        level.end_segment();
    } else if one_of(&SET_OPERATIONS) {
        level.chain += 1;
        level.end_segment();
        level.from = false;
    } else if one_of(&BORDERS) {
        level.end_segment();
        level.from &= one_of(&["ON", "USING", "AS"]);
    }
}

/// The parser's fuel for a statement of so many tokens. A statement without mistakes takes a few steps for each
/// token; a mistake inside nested calls doubles them at each level.
pub fn fuel(tokens: usize) -> u64 {
    60_000 + 32 * tokens as u64
}

/// Runs `f` with enough stack to parse a statement of the depth, on this thread's stack if that has enough left.
pub fn on_sufficient_stack<T>(depth: Depth, f: impl FnOnce() -> T) -> T {
    let needed = STACK_BASE + depth.nesting * STACK_PER_NESTING + depth.total * STACK_PER_DEPTH;
    stacker::maybe_grow(needed, 2 * needed, f)
}

#[cfg(test)]
mod tests {
    use sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn depth(text: &str) -> Result<Depth> {
        let dialect = sqlparser::dialect::PostgreSqlDialect {};
        let tokens = Tokenizer::new(&dialect, text).tokenize_with_location().unwrap();
        let tokens: Vec<_> =
            tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect();
        check_tokens(&tokens)
    }

    #[test]
    fn chains_add_up_and_lists_do_not() {
        assert_eq!(depth("SELECT 1+1+1").unwrap().total, 3);
        assert_eq!(depth("SELECT 1, 1, 1").unwrap().total, 1);
        let list = vec!["(1, 'a', -2)"; 50_000].join(",");
        assert!(depth(&format!("INSERT INTO t VALUES {list}")).unwrap().total < 5);
        let list = vec!["7"; 50_000].join(",");
        assert!(depth(&format!("SELECT * FROM t WHERE a IN ({list})")).unwrap().total < 5);
    }

    #[test]
    fn a_conjunction_counts_its_connectives_not_its_comparisons() {
        let conjunction = vec!["a.b = 1"; 200].join(" AND ");
        assert_eq!(depth(&format!("SELECT 1 WHERE {conjunction}")).unwrap().total, 199 + 2);
    }

    #[test]
    fn depth_of_a_chain_inside_a_chain_adds_up() {
        let inner = vec!["1"; 150].join("+");
        let outer = vec!["1"; 150].join("+");
        assert!(depth(&format!("SELECT {inner}")).is_ok());
        assert!(depth(&format!("SELECT ({inner})+{outer}")).is_err());
    }

    #[test]
    fn joins_and_unions_chain_across_clauses() {
        let joins = "JOIN b ON b.x = a.x ".repeat(1_200);
        assert!(depth(&format!("SELECT * FROM a {joins}")).is_err());
        assert!(depth(&vec!["SELECT 1"; 1_200].join(" UNION ALL ")).is_err());
        assert!(depth(&format!("SELECT * FROM {}", vec!["a"; 1_200].join(", "))).is_err());
        assert!(depth(&vec!["SELECT 1"; 200].join(" UNION ALL ")).is_ok());
    }

    #[test]
    fn a_long_text_of_symbols_is_refused_before_it_is_read() {
        assert!(check_text(&"+".repeat(MAX_TOKENS + 1)).is_err());
        assert!(check_text(&format!("'{}'", "+".repeat(MAX_TOKENS + 1))).is_ok());
    }

    #[test]
    fn nesting_is_limited_for_all_kinds_of_brackets() {
        for open in ["(", "[", "ARRAY[", "f(", "CASE WHEN ", "CAST("] {
            assert!(depth(&format!("SELECT {}", open.repeat(101))).is_err(), "{open}");
            assert!(depth(&format!("SELECT {}", open.repeat(80))).is_ok(), "{open}");
        }
    }
}
