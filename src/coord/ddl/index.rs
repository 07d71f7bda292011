//! CREATE INDEX.

use super::{Definer, no_options, position, undefined};
use crate::catalog::{Object, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::CreateIndex;

impl Definer<'_> {
    /// CREATE INDEX.
    pub fn create_index(&mut self, stmt: &CreateIndex) -> Result<()> {
        let table = self.find(&stmt.table).ok_or_else(|| undefined(&stmt.table))?;
        if !table.is_stored() {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("cannot create index on relation \"{}\"", table.name),
            )
            .with_detail("This operation is not supported for views."));
        }
        if stmt.unique && !matches!(table.body, ObjectBody::Table { .. }) {
            return Err(Error::unsupported(format!(
                "a unique index on {} \"{}\" is not supported",
                table.kind_name(),
                table.name
            ))
            .with_hint("What its rows are follows from its query or its source."));
        }
        if stmt.predicate.is_some() || !stmt.include.is_empty() {
            return Err(Error::unsupported("partial indexes and INCLUDE are not supported"));
        }
        no_options(&stmt.options)?;
        if let Some(method) = stmt.method.as_deref().filter(|m| !["hash", "btree"].contains(m)) {
            return Err(Error::new(
                ErrorKind::UndefinedObject,
                format!("access method \"{method}\" does not exist"),
            ));
        }
        let mut columns = Vec::new();
        for column in &stmt.columns {
            let Some(name) = &column.column else {
                return Err(Error::unsupported("indexes on expressions are not supported")
                    .with_hint("Add the expression as a column of a materialized view and index that."));
            };
            columns.push(position(&table.columns, name).ok_or_else(|| {
                Error::new(ErrorKind::UndefinedColumn, format!("column \"{name}\" does not exist"))
            })?);
        }
        if columns.is_empty() {
            // CREATE DEFAULT INDEX: the key, or every column.
            columns = match table.unique_key() {
                [] => table.live_columns().map(|(i, _)| i).collect(),
                key => key.to_vec(),
            };
        }
        let name = match &stmt.name {
            Some(name) => name.clone(),
            None => {
                let names: Vec<&str> = columns.iter().map(|c| table.columns[*c].name.as_str()).collect();
                self.free_name(&table, &names, "idx")
            }
        };
        if self.exists(&table.schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        self.add_index(&table, name, columns, stmt.unique, false)
    }

    /// An index on a relation.
    pub(super) fn add_index(
        &mut self,
        table: &Object,
        name: String,
        columns: Vec<usize>,
        unique: bool,
        constraint: bool,
    ) -> Result<()> {
        let body = ObjectBody::Index { on: table.id, columns, unique, constraint };
        let mut object = self.object(&table.schema, &name, Vec::new(), body);
        object.depends_on = vec![table.id];
        self.create(object, None).map(drop)
    }

    /// PostgreSQL's name for an index or a constraint on columns.
    pub(super) fn free_name(&self, table: &Object, columns: &[&str], suffix: &str) -> String {
        let base = format!("{}_{}_{suffix}", table.name, columns.join("_"));
        std::iter::once(base.clone())
            .chain((1..).map(|n| format!("{base}{n}")))
            .find(|name| self.catalog.find(&table.schema, name).is_none())
            .unwrap_or(base)
    }
}
