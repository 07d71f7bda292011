//! ALTER.

use super::{Definer, undefined};
use crate::catalog::{Object, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{Alter, AlterAction, ObjectKind};

impl Definer<'_> {
    /// ALTER: renaming; the rest is refused.
    pub fn alter(&mut self, stmt: &Alter) -> Result<()> {
        let Some(object) = self.find(&stmt.name) else {
            if stmt.if_exists {
                let message = format!("relation \"{}\" does not exist, skipping", stmt.name.name);
                self.notices.push(Error::new(ErrorKind::UndefinedTable, message));
                return Ok(());
            }
            return Err(undefined(&stmt.name));
        };
        match &stmt.action {
            AlterAction::Rename(to) => {
                self.check_kind_for_rename(stmt.kind, &object)?;
                if let Some(user) = self.catalog.dependents(object.id).iter().find(|o| {
                    matches!(
                        o.body,
                        ObjectBody::View { .. }
                            | ObjectBody::MaterializedView { .. }
                            | ObjectBody::Sink { .. }
                    )
                }) {
                    return Err(Error::unsupported(format!(
                        "renaming \"{}\" is not supported while {} \"{}\" is defined over it",
                        object.name,
                        user.kind_name(),
                        user.name
                    ))
                    .with_hint("Drop the dependent object, rename, and create it again."));
                }
                let mut renamed = (*object).clone();
                renamed.name = to.clone();
                self.replace(renamed)?;
                for companion in self.catalog.dependents(object.id) {
                    if let ObjectBody::Companion { role, .. } = &companion.body
                        && companion.name == format!("{}${role}", object.name)
                    {
                        let mut c = (*companion).clone();
                        c.name = format!("{to}${role}");
                        self.replace(c)?;
                    }
                }
                Ok(())
            }
            AlterAction::Owner(_) => Ok(()),
            _ => Err(Error::unsupported(format!(
                "this form of ALTER {} is not supported",
                stmt.kind.keyword()
            ))
            .with_hint("Supported: RENAME TO.")),
        }
    }

    pub(super) fn check_kind_for_rename(&self, kind: ObjectKind, object: &Object) -> Result<()> {
        // PostgreSQL lets ALTER TABLE rename views and indexes too.
        if kind == ObjectKind::Table { Ok(()) } else { self.check_kind(kind, object) }
    }
}
