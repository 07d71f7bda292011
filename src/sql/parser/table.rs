//! The inside of CREATE TABLE and CREATE SOURCE: columns, constraints, watermarks.

use sqlparser::tokenizer::Token;

use super::Grammar;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    ColumnDef, Constraint, IdentityClause, IncludeColumn, Including, LateRowsClause, LikeClause, SqlExpr,
    WatermarkClause,
};

/// PostgreSQL's limit.
const MAX_COLUMNS: usize = 1600;

/// What stands between the parentheses of CREATE TABLE.
#[derive(Default)]
pub(super) struct TableElements {
    pub columns: Vec<ColumnDef>,
    pub constraints: Vec<Constraint>,
    pub watermark: Option<WatermarkClause>,
    pub likes: Vec<LikeClause>,
}

impl Grammar<'_> {
    /// `( element, … )`, possibly `()`.
    pub(super) fn table_elements(&mut self) -> Result<TableElements> {
        let mut elements = TableElements::default();
        self.expect_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(elements);
        }
        loop {
            self.table_element(&mut elements)?;
            if !self.eat_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(elements)
    }

    fn table_element(&mut self, elements: &mut TableElements) -> Result<()> {
        let position = self.error_position();
        if self.at(&["watermark", "for"]) {
            let watermark = self.watermark()?;
            if elements.watermark.replace(watermark).is_some() {
                return Err(Error::new(
                    ErrorKind::InvalidTableDefinition,
                    "a relation can have only one WATERMARK",
                )
                .with_position(position));
            }
            return Ok(());
        }
        if self.at(&["deduplicate", "by"]) {
            return self.unsupported("DEDUPLICATE BY", "Deduplicate in a view with DISTINCT ON.");
        }
        if *self.peek() == Token::Mul {
            return self.unsupported("* in place of columns", "Name the columns.");
        }
        if self.eat(&["like"]) {
            let table = self.name()?;
            let including = self.including()?;
            elements.likes.push(LikeClause { at: elements.columns.len(), table, including });
            return Ok(());
        }
        if let Some(constraint) = self.table_constraint()? {
            elements.constraints.push(constraint);
            return Ok(());
        }
        let column = self.column(&mut elements.constraints)?;
        if elements.columns.iter().any(|c| c.name == column.name) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{}\" specified more than once", column.name),
            )
            .with_position(position));
        }
        if elements.columns.len() >= MAX_COLUMNS {
            let message = format!("tables can have at most {MAX_COLUMNS} columns");
            return Err(Error::new(ErrorKind::TooManyColumns, message));
        }
        elements.columns.push(column);
        Ok(())
    }

    /// `INCLUDING … EXCLUDING …`.
    fn including(&mut self) -> Result<Including> {
        let mut all = Including::default();
        loop {
            let value = if self.eat(&["including"]) {
                true
            } else if self.eat(&["excluding"]) {
                false
            } else {
                return Ok(all);
            };
            if !self.at_any(&[
                "all",
                "comments",
                "compression",
                "constraints",
                "defaults",
                "generated",
                "identity",
                "indexes",
                "statistics",
                "storage",
            ]) {
                return Err(self.unexpected());
            }
            let Token::Word(word) = self.peek() else { return Err(self.unexpected()) };
            let word = word.value.to_ascii_lowercase();
            self.skip(1);
            let everything = word == "all";
            for (name, field) in [
                ("comments", &mut all.comments),
                ("constraints", &mut all.constraints),
                ("defaults", &mut all.defaults),
                ("generated", &mut all.generated),
                ("identity", &mut all.identity),
                ("indexes", &mut all.indexes),
            ] {
                if everything || word == name {
                    *field = value;
                }
            }
        }
    }

    /// A table constraint, if one is next.
    pub(super) fn table_constraint(&mut self) -> Result<Option<Constraint>> {
        let name = if self.eat(&["constraint"]) { Some(self.identifier()?) } else { None };
        let constraint = if self.eat(&["primary", "key"]) {
            Constraint::PrimaryKey { name, columns: self.identifiers_in_parentheses()? }
        } else if self.eat(&["unique"]) {
            self.nulls_distinct()?;
            Constraint::Unique { name, columns: self.identifiers_in_parentheses()? }
        } else if self.eat(&["check"]) {
            Constraint::Check { name, expr: self.parenthesized_expr()? }
        } else if self.eat(&["foreign", "key"]) {
            let columns = self.identifiers_in_parentheses()?;
            self.expect(&["references"])?;
            return self.references(columns).map(Some);
        } else if self.at_any(&["exclude"]) && name.is_some() {
            return self.unsupported("EXCLUDE", "");
        } else if name.is_some() {
            return Err(self.unexpected());
        } else {
            return Ok(None);
        };
        self.constraint_tail()?;
        Ok(Some(constraint))
    }

    /// What follows REFERENCES. A foreign key that is not enforced is taken as a remark; one that is would have to be
    /// checked.
    fn references(&mut self, columns: Vec<String>) -> Result<Constraint> {
        let table = self.name()?;
        let referenced =
            if *self.peek() == Token::LParen { self.identifiers_in_parentheses()? } else { Vec::new() };
        loop {
            if self.eat(&["match"]) {
                if !(self.eat(&["full"]) || self.eat(&["simple"])) {
                    return Err(self.unexpected());
                }
            } else if self.eat(&["on", "delete"]) || self.eat(&["on", "update"]) {
                let actions: [&[&str]; 5] =
                    [&["no", "action"], &["restrict"], &["cascade"], &["set", "null"], &["set", "default"]];
                if !actions.iter().any(|words| self.eat(words)) {
                    return Err(self.unexpected());
                }
            } else if self.eat(&["not", "deferrable"])
                || self.eat(&["deferrable"])
                || self.eat(&["initially", "deferred"])
                || self.eat(&["initially", "immediate"])
                || self.eat(&["not", "valid"])
            {
            } else if self.eat(&["not", "enforced"]) {
                return Ok(Constraint::ForeignKey { columns, table, referenced });
            } else {
                return self.unsupported(
                    "an enforced foreign key",
                    "Write REFERENCES … NOT ENFORCED to declare it without a check, or leave it out.",
                );
            }
        }
    }

    fn nulls_distinct(&mut self) -> Result<()> {
        if self.at(&["nulls", "not", "distinct"]) {
            return self.unsupported("NULLS NOT DISTINCT", "");
        }
        self.eat(&["nulls", "distinct"]);
        Ok(())
    }

    /// What may follow any constraint.
    fn constraint_tail(&mut self) -> Result<()> {
        if self.at(&["on", "violation"]) {
            return self.unsupported("ON VIOLATION", "A row that breaks a constraint is an error.");
        }
        if self.at_any(&["deferrable", "initially"]) {
            return self.unsupported("a deferrable constraint", "");
        }
        if self.at(&["not", "deferrable"]) {
            self.skip(2);
        }
        if self.at(&["no", "inherit"]) || self.at(&["not", "valid"]) || self.at(&["not", "enforced"]) {
            return self.unsupported("this constraint attribute", "");
        }
        Ok(())
    }

    fn parenthesized_expr(&mut self) -> Result<SqlExpr> {
        self.expect_token(&Token::LParen)?;
        let expr = self.sql_expr()?;
        self.expect_token(&Token::RParen)?;
        Ok(expr)
    }

    /// `name type option…`; constraints beside the column go to the table's list.
    pub(super) fn column(&mut self, constraints: &mut Vec<Constraint>) -> Result<ColumnDef> {
        let name = self.identifier()?;
        let mut column = ColumnDef {
            name,
            data_type: self.data_type()?,
            not_null: false,
            default: None,
            generated: None,
            identity: None,
        };
        let mut explicit_null = false;
        loop {
            let position = self.error_position();
            let name = if self.eat(&["constraint"]) { Some(self.identifier()?) } else { None };
            let own = vec![column.name.clone()];
            if self.eat(&["not", "null"]) {
                column.not_null = true;
            } else if self.eat(&["null"]) {
                explicit_null = true;
            } else if self.eat(&["primary", "key"]) {
                column.not_null = true;
                constraints.push(Constraint::PrimaryKey { name, columns: own });
            } else if self.eat(&["unique"]) {
                self.nulls_distinct()?;
                constraints.push(Constraint::Unique { name, columns: own });
            } else if self.eat(&["references"]) {
                constraints.push(self.references(own)?);
                continue;
            } else if self.eat(&["check"]) {
                let expr = self.parenthesized_expr()?;
                constraints.push(Constraint::Check { name, expr });
            } else if name.is_some() && !self.at_any(&["default", "references", "generated"]) {
                return Err(self.unexpected());
            } else if !self.column_value(&mut column, position)? {
                break;
            }
            self.constraint_tail()?;
            if explicit_null && column.not_null {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name),
                )
                .with_position(position));
            }
        }
        Ok(column)
    }

    /// DEFAULT, GENERATED and AS: where a column's value comes from. False if none is next.
    fn column_value(&mut self, column: &mut ColumnDef, position: usize) -> Result<bool> {
        let twice = |what: &str, name: &str| {
            Error::new(ErrorKind::Syntax, format!("multiple {what} specified for column \"{name}\""))
                .with_position(position)
        };
        if self.eat(&["default"]) {
            let expr = self.sql_expr()?;
            if column.default.replace(expr).is_some() {
                return Err(twice("default values", &column.name));
            }
        } else if self.eat(&["generated", "always", "as"]) {
            if self.eat(&["identity"]) {
                return self.identity(column, true, position);
            }
            let expr = self.parenthesized_expr()?;
            if self.at_any(&["virtual"]) {
                return self.unsupported("a virtual generated column", "Write STORED.");
            }
            self.expect(&["stored"])?;
            if column.generated.replace(expr).is_some() {
                return Err(twice("generation clauses", &column.name));
            }
        } else if self.eat(&["as"]) {
            let expr = self.sql_expr()?;
            if column.generated.replace(expr).is_some() {
                return Err(twice("generation clauses", &column.name));
            }
        } else if self.eat(&["generated", "by", "default", "as", "identity"]) {
            return self.identity(column, false, position);
        } else if self.eat(&["collate"]) {
            let collation = self.name()?;
            if !matches!(collation.name.as_str(), "C" | "POSIX" | "default" | "ucs_basic") {
                return self.unsupported("a collation other than \"C\"", "Text compares by bytes.");
            }
        } else if self.at_any(&["compression", "storage", "metadata"]) {
            return self.unsupported("this column option", "");
        } else {
            return Ok(false);
        }
        if column.default.is_some() && column.generated.is_some() {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("both default and generation expression specified for column \"{}\"", column.name),
            )
            .with_position(position));
        }
        Ok(true)
    }

    fn identity(&mut self, column: &mut ColumnDef, always: bool, position: usize) -> Result<bool> {
        let clause = IdentityClause { always, options: self.identity_options()? };
        if column.identity.replace(clause).is_some() {
            let message = format!("multiple identity specifications for column \"{}\"", column.name);
            return Err(Error::new(ErrorKind::Syntax, message).with_position(position));
        }
        column.not_null = true;
        Ok(true)
    }

    fn watermark(&mut self) -> Result<WatermarkClause> {
        self.expect(&["watermark", "for"])?;
        let column = self.identifier()?;
        let expr = if self.eat(&["as"]) { Some(self.sql_expr()?) } else { None };
        let mut clause = WatermarkClause { column, expr, lateness: None, idle: None, late_rows: None };
        loop {
            let position = self.error_position();
            let repeated = if self.at(&["with", "ttl"]) {
                return self
                    .unsupported("WITH TTL", "State is dropped by the watermark where the plan allows it.");
            } else if self.eat(&["allowed", "lateness"]) {
                let interval = self.expr()?;
                clause.lateness.replace(interval).is_some()
            } else if self.eat(&["idle", "timeout"]) {
                let interval = self.expr()?;
                clause.idle.replace(interval).is_some()
            } else if self.eat(&["late", "rows", "drop"]) {
                clause.late_rows.replace(LateRowsClause::Drop).is_some()
            } else if self.eat(&["late", "rows", "to"]) {
                let name = self.name()?;
                clause.late_rows.replace(LateRowsClause::To(name)).is_some()
            } else {
                return Ok(clause);
            };
            if repeated {
                return Err(
                    Error::new(ErrorKind::Syntax, "conflicting or redundant options").with_position(position)
                );
            }
        }
    }

    /// `INCLUDE what [AS name]` …
    pub(super) fn include_columns(&mut self) -> Result<Vec<IncludeColumn>> {
        let mut columns = Vec::new();
        while self.eat(&["include"]) {
            if self.at_any(&["header"]) {
                return self.unsupported("INCLUDE HEADER", "");
            }
            if !self.at_any(&["key", "partition", "offset", "timestamp", "headers"]) {
                return Err(self.unexpected());
            }
            let Token::Word(word) = self.peek() else { return Err(self.unexpected()) };
            let what = word.value.to_ascii_lowercase();
            self.skip(1);
            let alias = if self.eat(&["as"]) { Some(self.identifier()?) } else { None };
            columns.push(IncludeColumn { what, alias });
        }
        Ok(columns)
    }
}
