//! SQL: from the user's text to [`Statement`]s, and from queries to bound plans.
//!
//! Boundary: the only module that names sqlparser. Text goes through [`parse`] (limits, tokens, grammar) and
//! gives statements of our own whose queries are sqlparser trees; [`audit`] refuses every clause of such a tree
//! that planning would drop silently; [`bind`] settles names and types and gives logical plans.

pub mod audit;
pub mod bind;
mod dialect;
pub mod functions;
mod guard;
mod parser;
pub mod point;
pub mod statement;
pub mod system;
pub mod types;

pub use parser::parse;
pub use parser::parse_expression;
pub use parser::rename_column;
pub use parser::window::{WindowInput, WindowKind, WindowTvf, window_tvf};
pub use sqlparser::ast::{Expr, Query};
pub use statement::{ParsedStatement, Statement};
