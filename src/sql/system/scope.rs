//! Names in reach of an expression: tables of FROM, those of the queries around, common table expressions.
//!
//! Boundary: name resolution only.

use std::cell::RefCell;
use std::rc::Rc;

use super::tree::{Aggregate, Expr, SetCall, Window};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;

/// The columns of a row value.
pub(super) type Fields = Option<Rc<Vec<(String, PgType)>>>;

/// A column of a table in FROM or of a query's result.
#[derive(Debug, Clone)]
pub(super) struct ScopeColumn {
    pub name: String,
    pub ty: PgType,
    pub fields: Fields,
    /// The relation and number of the column it is, or zeros.
    pub origin: (u32, i16),
    /// It is the second of two columns joined with USING.
    pub hidden: bool,
}

/// A table in FROM.
#[derive(Debug, Clone)]
pub(super) struct ScopeTable {
    pub alias: String,
    pub schema: Option<&'static str>,
    pub columns: Vec<ScopeColumn>,
    /// Where its columns begin in the row.
    pub start: usize,
    /// The relation, or 0.
    pub oid: u32,
}

/// The tables of one FROM, in reach together with those of the query around.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope<'p> {
    pub tables: Vec<ScopeTable>,
    pub parent: Option<&'p Scope<'p>>,
}

/// An expression with its type.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub expr: Expr,
    pub ty: PgType,
    pub fields: Fields,
    pub origin: (u32, i16),
}

impl Typed {
    pub fn new(expr: Expr, ty: PgType) -> Typed {
        Typed { expr, ty, fields: None, origin: (0, 0) }
    }
}

/// What the expressions of one SELECT have in common: the names, and the calls that plan nodes work out for them.
pub(super) struct Level<'s> {
    pub scope: &'s Scope<'s>,
    /// Whether aggregates and functions that give rows are allowed here, or the word for where they are not.
    pub forbidden_in: Option<&'static str>,
    pub aggregates: RefCell<Vec<Aggregate>>,
    pub windows: RefCell<Vec<Window>>,
    pub sets: RefCell<Vec<SetCall>>,
}

impl<'s> Level<'s> {
    pub fn new(scope: &'s Scope<'s>, forbidden_in: Option<&'static str>) -> Level<'s> {
        Level {
            scope,
            forbidden_in,
            aggregates: RefCell::default(),
            windows: RefCell::default(),
            sets: RefCell::default(),
        }
    }
}

impl<'p> Scope<'p> {
    pub fn inside(parent: Option<&'p Scope<'p>>) -> Scope<'p> {
        Scope { tables: vec![], parent }
    }

    pub fn width(&self) -> usize {
        self.tables.iter().map(|t| t.columns.len()).sum()
    }

    /// Adds the tables of another scope behind these.
    pub fn append(&mut self, tables: Vec<ScopeTable>) {
        let width = self.width();
        self.tables.extend(tables.into_iter().map(|mut t| {
            t.start += width;
            t
        }));
    }

    /// The column of this name, here or further out.
    pub fn column(&self, name: &str) -> Result<Option<Typed>> {
        let mut scope = Some(self);
        let mut level = 0;
        while let Some(s) = scope {
            let mut found: Option<Typed> = None;
            for table in &s.tables {
                for (i, column) in table.columns.iter().enumerate() {
                    if column.name == name && !column.hidden {
                        if found.is_some() {
                            return Err(Error::new(
                                ErrorKind::AmbiguousColumn,
                                format!("column reference \"{name}\" is ambiguous"),
                            ));
                        }
                        found = Some(column.typed(level, table.start + i));
                    }
                }
            }
            if found.is_some() {
                return Ok(found);
            }
            scope = s.parent;
            level += 1;
        }
        Ok(None)
    }

    /// The table of this name, with its level.
    pub fn table(&self, schema: Option<&str>, name: &str) -> Option<(usize, &ScopeTable)> {
        let mut scope = Some(self);
        let mut level = 0;
        while let Some(s) = scope {
            let found = s
                .tables
                .iter()
                .find(|t| t.alias == name && schema.is_none_or(|wanted| t.schema == Some(wanted)));
            if let Some(table) = found {
                return Some((level, table));
            }
            scope = s.parent;
            level += 1;
        }
        None
    }

    /// The column of a table.
    pub fn qualified(&self, schema: Option<&str>, table: &str, name: &str) -> Result<Option<Typed>> {
        let Some((level, found)) = self.table(schema, table) else {
            return Err(Error::new(
                ErrorKind::UndefinedTable,
                format!("missing FROM-clause entry for table \"{table}\""),
            ));
        };
        Ok(found
            .columns
            .iter()
            .position(|c| c.name == name)
            .map(|i| found.columns[i].typed(level, found.start + i)))
    }

    /// A table as one value.
    pub fn whole_row(&self, name: &str) -> Option<Typed> {
        let (level, table) = self.table(None, name)?;
        let columns: Vec<Typed> =
            table.columns.iter().enumerate().map(|(i, c)| c.typed(level, table.start + i)).collect();
        let fields = table.columns.iter().map(|c| (c.name.clone(), c.ty)).collect();
        Some(Typed {
            expr: Expr::Row(columns.into_iter().map(|c| c.expr).collect()),
            ty: PgType::of(crate::catalog::system::types::RECORD),
            fields: Some(Rc::new(fields)),
            origin: (0, 0),
        })
    }
}

impl ScopeColumn {
    pub fn new(name: impl Into<String>, ty: PgType) -> ScopeColumn {
        ScopeColumn { name: name.into(), ty, fields: None, origin: (0, 0), hidden: false }
    }

    pub fn typed(&self, level: usize, index: usize) -> Typed {
        Typed {
            expr: Expr::Column { level, index },
            ty: self.ty,
            fields: self.fields.clone(),
            origin: if level == 0 { self.origin } else { (0, 0) },
        }
    }
}
