//! DROP: objects with what hangs on them, and what depends on them with CASCADE.

use std::sync::Arc;

use super::Definer;
use crate::catalog::object::SequenceUse;
use crate::catalog::{Column, Object, ObjectBody};
use crate::coord::command::DdlOp;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{Drop, Name, ObjectKind};

impl Definer<'_> {
    /// DROP.
    pub fn drop_objects(&mut self, stmt: &Drop) -> Result<()> {
        for name in &stmt.names {
            if stmt.kind == ObjectKind::Schema {
                self.drop_schema(stmt, &name.name)?;
                continue;
            }
            let found = match stmt.kind {
                ObjectKind::Function => self.find_function(name),
                _ => self.find(name),
            };
            match found {
                Some(object) => {
                    self.check_kind(stmt.kind, &object)?;
                    self.check_droppable(&object, stmt.cascade)?;
                    if let ObjectBody::Companion { of, .. } = object.body {
                        let owner = self.catalog.get(of).map_or_else(String::new, |o| o.name.clone());
                        return Err(Error::new(
                            ErrorKind::DependentObjects,
                            format!("cannot drop \"{}\" because \"{owner}\" requires it", object.name),
                        )
                        .with_hint(format!("You can drop \"{owner}\" instead.")));
                    }
                    self.drop_tree(&object, stmt.cascade)?;
                }
                None if stmt.if_exists => {
                    let what = stmt.kind.keyword().to_lowercase();
                    self.notices.push(Error::new(
                        ErrorKind::UndefinedTable,
                        format!("{what} \"{}\" does not exist, skipping", name.name),
                    ));
                }
                None => {
                    let what = stmt.kind.keyword().to_lowercase();
                    if stmt.kind == ObjectKind::Function {
                        let message = format!("function {}() does not exist", name.name);
                        return Err(Error::new(ErrorKind::UndefinedFunction, message));
                    }
                    return Err(Error::new(
                        if stmt.kind == ObjectKind::Index {
                            ErrorKind::UndefinedObject
                        } else {
                            ErrorKind::UndefinedTable
                        },
                        format!("{what} \"{}\" does not exist", name.name),
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_kind(&self, kind: ObjectKind, object: &Object) -> Result<()> {
        let fits = match kind {
            ObjectKind::Table => {
                matches!(object.body, ObjectBody::Table { .. } | ObjectBody::Companion { .. })
            }
            ObjectKind::Source => matches!(object.body, ObjectBody::Source { .. }),
            ObjectKind::View => matches!(object.body, ObjectBody::View { .. }),
            ObjectKind::MaterializedView => matches!(object.body, ObjectBody::MaterializedView { .. }),
            ObjectKind::Index => matches!(object.body, ObjectBody::Index { .. }),
            ObjectKind::Sink => matches!(object.body, ObjectBody::Sink { .. }),
            ObjectKind::Sequence => matches!(object.body, ObjectBody::Sequence(_)),
            ObjectKind::Function => matches!(object.body, ObjectBody::Function(_)),
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let article = if kind == ObjectKind::Index { "an" } else { "a" };
        Err(Error::new(
            ErrorKind::WrongObjectType,
            format!("\"{}\" is not {article} {}", object.name, kind.keyword().to_lowercase()),
        )
        .with_hint(format!("Use DROP {} to remove it.", object.kind_name().to_uppercase())))
    }

    pub(super) fn drop_schema(&mut self, stmt: &Drop, name: &str) -> Result<()> {
        if !self.catalog.has_schema(name) {
            let message = format!("schema \"{name}\" does not exist");
            if stmt.if_exists {
                self.notices.push(Error::new(ErrorKind::UndefinedSchema, format!("{message}, skipping")));
                return Ok(());
            }
            return Err(Error::new(ErrorKind::UndefinedSchema, message));
        }
        loop {
            let inside = self
                .catalog
                .objects()
                .rev()
                .find(|o| o.schema == name && !matches!(o.body, ObjectBody::Companion { .. }));
            match inside.cloned() {
                Some(object) if stmt.cascade => self.drop_tree(&object, true)?,
                Some(object) => {
                    return Err(Error::new(
                        ErrorKind::DependentObjects,
                        format!("cannot drop schema {name} because other objects depend on it"),
                    )
                    .with_detail(format!("{} {} depends on schema {name}", object.kind_name(), object.name))
                    .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                None => break,
            }
        }
        self.catalog.remove_schema(name);
        self.ops.push(DdlOp::DropSchema(name.to_string()));
        Ok(())
    }

    /// What belongs to a constraint or a column cannot be dropped by itself.
    fn check_droppable(&mut self, object: &Object, cascade: bool) -> Result<()> {
        match &object.body {
            ObjectBody::Index { on, constraint: true, .. } => {
                let table = self.catalog.get(*on).map_or_else(String::new, |o| o.name.clone());
                Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!(
                        "cannot drop index {0} because constraint {0} on table {table} requires it",
                        object.name
                    ),
                )
                .with_hint(format!("You can drop constraint {} on table {table} instead.", object.name)))
            }
            ObjectBody::Sequence(_) => self.leave_sequence(object, cascade),
            _ => Ok(()),
        }
    }

    /// Columns stop taking values from a sequence that is dropped with CASCADE.
    fn leave_sequence(&mut self, sequence: &Object, cascade: bool) -> Result<()> {
        for table in self.catalog.dependents(sequence.id) {
            let uses = |c: &Column| c.sequence.is_some_and(|s| s.id == sequence.id) && !c.dropped;
            let Some(column) = table.columns.iter().find(|c| uses(c)) else { continue };
            let identity = column.sequence.is_some_and(|s| s.usage != SequenceUse::Default);
            if identity {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!(
                        "cannot drop sequence {} because column {} of table {} requires it",
                        sequence.name, column.name, table.name
                    ),
                )
                .with_hint(format!("You can drop column {} of table {} instead.", column.name, table.name)));
            }
            if !cascade {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!("cannot drop sequence {} because other objects depend on it", sequence.name),
                )
                .with_detail(format!(
                    "default value for column {} of table {} depends on sequence {}",
                    column.name, table.name, sequence.name
                ))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            self.notices.push(Error::new(
                ErrorKind::DependentObjects,
                format!("drop cascades to default value for column {} of table {}", column.name, table.name),
            ));
            let mut altered = (*table).clone();
            for column in altered.columns.iter_mut().filter(|c| uses(c)) {
                column.sequence = None;
                column.default = None;
            }
            altered.depends_on.retain(|id| *id != sequence.id);
            self.replace(altered)?;
        }
        Ok(())
    }

    /// The function a name means along the search path.
    pub(super) fn find_function(&self, name: &Name) -> Option<Arc<Object>> {
        match &name.schema {
            Some(schema) => self.catalog.find_function(schema, &name.name).cloned(),
            None => self.search_path.iter().find_map(|s| self.catalog.find_function(s, &name.name)).cloned(),
        }
    }

    /// Drops an object with its companions and indexes, and with CASCADE all that is built on it.
    pub(in crate::coord) fn drop_tree(&mut self, object: &Object, cascade: bool) -> Result<()> {
        for dependent in self.catalog.dependents(object.id) {
            if self.catalog.get(dependent.id).is_none() {
                continue;
            }
            // A table takes its values from the sequences it owns, and these belong to it.
            let owner = |o: &Object| match &o.body {
                ObjectBody::Sequence(spec) => spec.owned_by.map(|(table, _)| table),
                _ => None,
            };
            if owner(object) == Some(dependent.id) {
                continue;
            }
            let own = matches!(dependent.body, ObjectBody::Companion { .. } | ObjectBody::Index { .. })
                || owner(&dependent) == Some(object.id);
            if own {
                self.drop_tree(&dependent, cascade)?;
                continue;
            }
            if !cascade {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!(
                        "cannot drop {} {} because other objects depend on it",
                        object.kind_name(),
                        object.described()
                    ),
                )
                .with_detail(format!(
                    "{} {} depends on {} {}",
                    dependent.kind_name(),
                    dependent.described(),
                    object.kind_name(),
                    object.described()
                ))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            if self.catalog.get(dependent.id).is_some() {
                let message = format!("drop cascades to {} {}", dependent.kind_name(), dependent.described());
                self.notices.push(Error::new(ErrorKind::DependentObjects, message));
                self.drop_tree(&dependent, cascade)?;
            }
        }
        if self.catalog.remove(object.id).is_some() {
            self.ops.push(DdlOp::Drop(object.id));
        }
        Ok(())
    }
}
