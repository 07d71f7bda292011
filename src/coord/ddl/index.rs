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
        if stmt.unique {
            return Err(Error::unsupported("unique indexes are not supported")
                .with_hint("Declare a PRIMARY KEY when the table is created."));
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
                [] => (0..table.columns.len()).collect(),
                key => key.to_vec(),
            };
        }
        let name = match &stmt.name {
            Some(name) => name.clone(),
            None => self.free_index_name(&table, &columns),
        };
        if self.exists(&table.schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        let mut object = self.object(
            &table.schema,
            &name,
            Vec::new(),
            ObjectBody::Index { on: table.id, columns, unique: false },
        );
        object.depends_on = vec![table.id];
        self.create(object, None).map(drop)
    }

    pub(super) fn free_index_name(&self, table: &Object, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|c| table.columns[*c].name.as_str()).collect();
        let base = format!("{}_{}_idx", table.name, names.join("_"));
        std::iter::once(base.clone())
            .chain((1..).map(|n| format!("{base}{n}")))
            .find(|name| self.catalog.find(&table.schema, name).is_none())
            .unwrap_or(base)
    }
}
