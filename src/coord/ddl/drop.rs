//! DROP: objects with what hangs on them, and what depends on them with CASCADE.

use super::Definer;
use crate::catalog::{Object, ObjectBody};
use crate::coord::command::DdlOp;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{Drop, ObjectKind};

impl Definer<'_> {
    /// DROP.
    pub fn drop_objects(&mut self, stmt: &Drop) -> Result<()> {
        for name in &stmt.names {
            if stmt.kind == ObjectKind::Schema {
                self.drop_schema(stmt, &name.name)?;
                continue;
            }
            match self.find(name) {
                Some(object) => {
                    self.check_kind(stmt.kind, &object)?;
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

    /// Drops an object with its companions and indexes, and with CASCADE all that is built on it.
    pub(super) fn drop_tree(&mut self, object: &Object, cascade: bool) -> Result<()> {
        for dependent in self.catalog.dependents(object.id) {
            let own = matches!(dependent.body, ObjectBody::Companion { .. } | ObjectBody::Index { .. });
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
                        object.name
                    ),
                )
                .with_detail(format!(
                    "{} {} depends on {} {}",
                    dependent.kind_name(),
                    dependent.name,
                    object.kind_name(),
                    object.name
                ))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            if self.catalog.get(dependent.id).is_some() {
                let message = format!("drop cascades to {} {}", dependent.kind_name(), dependent.name);
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
