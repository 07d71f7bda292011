//! Statements that write rows.

use std::ops::Deref;

use sqlparser::ast;

/// OVERRIDING of INSERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overriding {
    /// SYSTEM VALUE: values given for identity columns are taken.
    System,
    /// USER VALUE: they are not.
    User,
}

/// INSERT, UPDATE or DELETE with what stands around it.
#[derive(Debug, Clone)]
pub struct Dml<T> {
    /// The statement as sqlparser has it.
    pub ast: T,
    /// WITH before it.
    pub with: Option<ast::With>,
    /// OVERRIDING.
    pub overriding: Option<Overriding>,
}

impl<T> Deref for Dml<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.ast
    }
}

/// MERGE.
#[derive(Debug, Clone)]
pub struct Merge {
    /// WITH before it.
    pub with: Option<ast::With>,
    /// The table that is changed.
    pub target: ast::TableFactor,
    /// What it is compared with.
    pub source: ast::TableFactor,
    /// ON.
    pub on: ast::Expr,
    /// WHEN …, in order.
    pub clauses: Vec<MergeClause>,
}

/// `WHEN [NOT] MATCHED [AND condition] THEN action`.
#[derive(Debug, Clone)]
pub struct MergeClause {
    /// MATCHED.
    pub matched: bool,
    /// AND condition.
    pub condition: Option<ast::Expr>,
    /// THEN.
    pub action: MergeAction,
}

/// What a clause of MERGE does.
#[derive(Debug, Clone)]
pub enum MergeAction {
    /// DO NOTHING.
    Nothing,
    /// DELETE.
    Delete,
    /// UPDATE SET ….
    Update(Vec<ast::Assignment>),
    /// INSERT.
    Insert {
        /// The columns, if listed.
        columns: Vec<String>,
        /// OVERRIDING.
        overriding: Option<Overriding>,
        /// VALUES; none for DEFAULT VALUES.
        values: Option<Vec<ast::Expr>>,
    },
}
