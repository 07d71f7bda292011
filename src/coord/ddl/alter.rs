//! ALTER: names, columns, constraints.
//!
//! Columns never change their numbers: a dropped one keeps its place unseen, an added one comes last, so that
//! running dataflows, plans, indexes and the log go on as they are. Queries are kept as text; what they saw of
//! a relation before it was altered is noted with them ([`Seen`]).

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use datafusion::common::ScalarValue;

use super::table::{check_name, key_positions};
use super::{Definer, position, undefined};
use crate::catalog::object::{ColumnSequence, Seen, SequenceUse};
use crate::catalog::{Column, Object, ObjectBody, ObjectId};
use crate::coord::command::DdlOp;
use crate::coord::rows;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::bind::{self, BindContext};
use crate::sql::statement::{
    Alter, AlterAction, ColumnDef, Constraint, IdentityClause, ObjectKind, SequenceOptions, SqlExpr,
};
use crate::types::PgType;

fn no_column(object: &Object, name: &str) -> Error {
    Error::new(
        ErrorKind::UndefinedColumn,
        format!("column \"{name}\" of relation \"{}\" does not exist", object.name),
    )
}

fn contains_nulls(object: &Object, column: &str) -> Error {
    Error::new(
        ErrorKind::NotNullViolation,
        format!("column \"{column}\" of relation \"{}\" contains null values", object.name),
    )
    .with_table(object.schema.clone(), object.name.clone())
    .with_column(column)
}

/// Whether an object is kept as the text of a query.
fn is_query(object: &Object) -> bool {
    matches!(
        object.body,
        ObjectBody::View { .. }
            | ObjectBody::MaterializedView { .. }
            | ObjectBody::Sink { .. }
            | ObjectBody::Function(_)
    )
}

fn query_text(object: &Object) -> Option<&str> {
    match &object.body {
        ObjectBody::View { query }
        | ObjectBody::MaterializedView { query, .. }
        | ObjectBody::Sink { query, .. } => Some(query),
        _ => None,
    }
}

impl Definer<'_> {
    /// ALTER.
    pub fn alter(&mut self, stmt: &Alter) -> Result<()> {
        if stmt.kind == ObjectKind::Schema {
            return Err(Error::unsupported("ALTER SCHEMA is not supported")
                .with_hint("Create the schema again and move its objects with ALTER … SET SCHEMA."));
        }
        let found = match stmt.kind {
            ObjectKind::Function => self.find_function(&stmt.name),
            _ => self.find(&stmt.name),
        };
        let Some(object) = found else {
            if stmt.if_exists {
                let message = format!("relation \"{}\" does not exist, skipping", stmt.name.name);
                self.notices.push(Error::new(ErrorKind::UndefinedTable, message));
                return Ok(());
            }
            return Err(undefined(&stmt.name));
        };
        self.check_kind_for_alter(stmt.kind, &object)?;
        for action in &stmt.actions {
            // Each action sees what the ones before it have made of the object.
            let object = self.catalog.get(object.id).cloned().ok_or_else(|| undefined(&stmt.name))?;
            self.alter_once(stmt, &object, action)?;
        }
        Ok(())
    }

    fn alter_once(&mut self, stmt: &Alter, object: &Arc<Object>, action: &AlterAction) -> Result<()> {
        match action {
            AlterAction::Rename(to) => return self.rename(object, to),
            AlterAction::Owner(_) => return Ok(()),
            AlterAction::SetSchema(schema) => return self.set_schema(object, schema),
            AlterAction::RenameColumn { from, to } => return self.rename_column(object, from, to),
            AlterAction::Sequence { column: None, options } => return self.alter_sequence(object, options),
            _ => {}
        }
        let ObjectBody::Table { append_only, watermark, .. } = &object.body else {
            return Err(Error::unsupported(format!(
                "this form of ALTER {} is not supported",
                stmt.kind.keyword()
            ))
            .with_hint("Supported: RENAME TO, RENAME COLUMN, SET SCHEMA."));
        };
        if watermark.is_some()
            && matches!(action, AlterAction::AddColumn { .. } | AlterAction::DropColumn { .. })
            || *append_only && matches!(action, AlterAction::AddColumn { .. })
        {
            return Err(Error::unsupported("changing the columns of an append-only table is not supported")
                .with_hint("Create another table and copy the rows with INSERT ... SELECT."));
        }
        match action {
            AlterAction::AddColumn { column, if_not_exists, constraints } => {
                self.add_column(object, column, *if_not_exists, constraints)
            }
            AlterAction::DropColumn { column, if_exists, cascade } => {
                self.drop_column(object, column, *if_exists, *cascade)
            }
            AlterAction::ColumnDefault { column, default } => {
                self.column_default(object, column, default.as_ref())
            }
            AlterAction::ColumnNotNull { column, not_null } => {
                self.column_not_null(object, column, *not_null)
            }
            AlterAction::ColumnType { column, data_type, using } => {
                let to = crate::sql::types::pg_type(data_type)?;
                self.column_type(object, column, to, *using)
            }
            AlterAction::AddConstraint(constraint) => self.add_constraint(object, constraint),
            AlterAction::DropConstraint { name, if_exists, cascade } => {
                self.drop_constraint(object, name, *if_exists, *cascade)
            }
            AlterAction::RenameConstraint { from, to } => self.rename_constraint(object, from, to),
            AlterAction::AddIdentity { column, identity } => self.add_identity(object, column, identity),
            AlterAction::SetIdentity { .. }
            | AlterAction::DropIdentity { .. }
            | AlterAction::Sequence { column: Some(_), .. } => self.change_identity(object, action),
            _ => Err(Error::unsupported(format!(
                "this form of ALTER {} is not supported",
                stmt.kind.keyword()
            ))),
        }
    }

    fn check_kind_for_alter(&self, kind: ObjectKind, object: &Object) -> Result<()> {
        // PostgreSQL lets ALTER TABLE rename views, indexes and sequences too.
        if kind == ObjectKind::Table { Ok(()) } else { self.check_kind(kind, object) }
    }

    /// Notes with the queries over a relation what they have seen of it, before it is altered.
    fn note_seen(&mut self, object: &Object) -> Result<()> {
        for user in self.catalog.dependents(object.id) {
            if !is_query(&user) || user.seen.iter().any(|s| s.id == object.id) {
                continue;
            }
            let mut user = (*user).clone();
            user.seen.push(Seen {
                id: object.id,
                schema: object.schema.clone(),
                name: object.name.clone(),
                columns: object.columns.iter().map(|c| (!c.dropped).then(|| c.name.clone())).collect(),
            });
            self.replace(user)?;
        }
        Ok(())
    }

    // ---- names ----

    fn rename(&mut self, object: &Object, to: &str) -> Result<()> {
        self.note_seen(object)?;
        let mut renamed = object.clone();
        renamed.name = to.to_string();
        if let ObjectBody::Table { primary_key, options, .. } = &mut renamed.body
            && !primary_key.is_empty()
        {
            options.key_name = Some(object.key_name());
        }
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
        if matches!(object.body, ObjectBody::Sequence(_)) {
            self.rename_in_defaults(object.id, &object.schema, to)?;
        }
        Ok(())
    }

    /// The DEFAULTs of columns that take their values from a sequence name it.
    fn rename_in_defaults(&mut self, sequence: ObjectId, schema: &str, name: &str) -> Result<()> {
        let text = super::sequence::default_text(schema, name, &self.search_path);
        for table in self.catalog.dependents(sequence) {
            let mut table = (*table).clone();
            let uses =
                |c: &Column| c.sequence.is_some_and(|s| s.id == sequence && s.usage == SequenceUse::Default);
            for column in table.columns.iter_mut().filter(|c| uses(c)) {
                column.default = Some(text.clone());
            }
            self.replace(table)?;
        }
        Ok(())
    }

    fn set_schema(&mut self, object: &Object, schema: &str) -> Result<()> {
        if !self.catalog.has_schema(schema) {
            let message = format!("schema \"{schema}\" does not exist");
            return Err(Error::new(ErrorKind::UndefinedSchema, message));
        }
        if super::is_temporary(schema) != super::is_temporary(&object.schema) {
            return Err(Error::unsupported("cannot move objects into or out of temporary schemas"));
        }
        self.note_seen(object)?;
        let mut moved = object.clone();
        moved.schema = schema.to_string();
        self.replace(moved)?;
        for own in self.catalog.dependents(object.id) {
            let owned = match &own.body {
                ObjectBody::Companion { .. } | ObjectBody::Index { .. } => true,
                ObjectBody::Sequence(spec) => spec.owned_by.is_some_and(|(table, _)| table == object.id),
                _ => false,
            };
            if owned {
                let mut own = (*own).clone();
                own.schema = schema.to_string();
                let (id, name) = (own.id, own.name.clone());
                let is_sequence = matches!(own.body, ObjectBody::Sequence(_));
                self.replace(own)?;
                if is_sequence {
                    self.rename_in_defaults(id, schema, &name)?;
                }
            }
        }
        Ok(())
    }

    fn rename_column(&mut self, object: &Object, from: &str, to: &str) -> Result<()> {
        if !object.is_relation() || matches!(object.body, ObjectBody::Companion { .. }) {
            return Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("cannot rename columns of {} \"{}\"", object.kind_name(), object.name),
            ));
        }
        let at = position(&object.columns, from).ok_or_else(|| {
            Error::new(ErrorKind::UndefinedColumn, format!("column \"{from}\" does not exist"))
        })?;
        if position(&object.columns, to).is_some() {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{to}\" of relation \"{}\" already exists", object.name),
            ));
        }
        if matches!(object.body, ObjectBody::Source { .. }) {
            return Err(Error::unsupported("renaming a column of a source is not supported")
                .with_hint("Name it in a view over the source."));
        }
        self.note_seen(object)?;
        let mut altered = object.clone();
        altered.columns[at].name = to.to_string();
        for column in &mut altered.columns {
            if let Some(text) = &mut column.generated {
                *text = crate::sql::rename_column(text, from, to)?;
            }
        }
        if let ObjectBody::Table { checks, .. } = &mut altered.body {
            for (_, text) in checks {
                *text = crate::sql::rename_column(text, from, to)?;
            }
        }
        self.replace(altered)
    }

    // ---- columns ----

    fn add_column(
        &mut self,
        object: &Arc<Object>,
        def: &ColumnDef,
        if_not_exists: bool,
        constraints: &[Constraint],
    ) -> Result<()> {
        if position(&object.columns, &def.name).is_some() {
            let message = format!("column \"{}\" of relation \"{}\" already exists", def.name, object.name);
            if if_not_exists {
                self.notices.push(Error::new(ErrorKind::DuplicateColumn, format!("{message}, skipping")));
                return Ok(());
            }
            return Err(Error::new(ErrorKind::DuplicateColumn, message));
        }
        self.note_seen(object)?;
        let mut altered = (**object).clone();
        let number = altered.columns.len();
        let mut column = self
            .columns(std::slice::from_ref(&ColumnDef { generated: None, ..def.clone() }))?
            .pop()
            .ok_or_else(|| Error::internal("a column definition without its column"))?;
        column.generated = def.generated.as_ref().map(|g| g.text.clone());
        let (schema, table) = (object.schema.clone(), object.name.clone());
        self.column_sequence(&schema, &table, object.id, number, &mut column, def)?;
        altered.columns.push(column.clone());
        altered.depends_on = super::table::sequences_used(&altered);
        let context = (self.context)(self.catalog, false);
        if let Some(text) = &column.generated {
            bind::bind_generated(text, &column, &altered.columns, &context)?;
        }
        let empty = (self.rows)(object)?.iter().all(|b| b.num_rows() == 0);
        let each = column.generated.is_some()
            || column.sequence.is_some()
            || bind::is_volatile_default(&column, &context)?;
        if each && !empty {
            // A value for the moment: every row gets its own before anybody sees it.
            let zero = ScalarValue::new_default(&column.pg_type().arrow())?.to_array()?;
            column.missing = rows::as_text(&zero, &column);
            self.fill.push((object.id, number));
        } else if let (Some(text), false) = (&column.default, each) {
            let value = bind::evaluate_default(text, &column, &context)?;
            column.missing = rows::as_text(&value.to_array()?, &column);
        }
        if !column.nullable && column.missing.is_none() && !empty {
            return Err(contains_nulls(object, &column.name));
        }
        altered.columns[number] = column;
        let altered = Arc::new(altered);
        self.replace((*altered).clone())?;
        self.ops.push(DdlOp::Unchanged(object.id, self.epoch));
        for constraint in constraints {
            let now = self.catalog.get(object.id).cloned().unwrap_or_else(|| altered.clone());
            self.add_constraint(&now, constraint)?;
        }
        Ok(())
    }

    fn drop_column(
        &mut self,
        object: &Arc<Object>,
        name: &str,
        if_exists: bool,
        cascade: bool,
    ) -> Result<()> {
        let Some(at) = position(&object.columns, name) else {
            if if_exists {
                let message =
                    format!("column \"{name}\" of relation \"{}\" does not exist, skipping", object.name);
                self.notices.push(Error::new(ErrorKind::UndefinedColumn, message));
                return Ok(());
            }
            return Err(no_column(object, name));
        };
        self.note_seen(object)?;
        let altered = self.without_column(object, at, cascade)?;
        let what = format!("column {name} of table {}", object.name);
        for user in self.catalog.dependents(object.id) {
            if !is_query(&user) || !self.loses_by(&user, &altered)? {
                continue;
            }
            if !cascade {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!("cannot drop {what} because other objects depend on it"),
                )
                .with_detail(format!("{} {} depends on {what}", user.kind_name(), user.name))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            if self.catalog.get(user.id).is_some() {
                let message = format!("drop cascades to {} {}", user.kind_name(), user.name);
                self.notices.push(Error::new(ErrorKind::DependentObjects, message));
                self.drop_tree(&user, true)?;
            }
        }
        for own in self.catalog.dependents(object.id) {
            let goes = match &own.body {
                ObjectBody::Index { columns, .. } => columns.contains(&at),
                _ => false,
            };
            if goes {
                self.drop_tree(&own, true)?;
            }
        }
        self.replace(altered)?;
        for own in self.catalog.dependents(object.id) {
            if let ObjectBody::Sequence(spec) = &own.body
                && spec.owned_by == Some((object.id, at))
            {
                self.drop_tree(&own, true)?;
            }
        }
        Ok(())
    }

    /// The table with a column marked as dropped, without the constraints that name it.
    fn without_column(&mut self, object: &Object, at: usize, cascade: bool) -> Result<Object> {
        let name = object.columns[at].name.clone();
        let mut altered = object.clone();
        let mut gone = vec![at];
        for (i, column) in object.live_columns() {
            let Some(text) = &column.generated else { continue };
            if i == at || !bind::check_columns(text, &object.columns).contains(&name) {
                continue;
            }
            if !cascade {
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!(
                        "cannot drop column {name} of table {} because other objects depend on it",
                        object.name
                    ),
                )
                .with_detail(format!(
                    "column {} of table {1} depends on column {name} of table {1}",
                    column.name, object.name
                ))
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
            }
            let message = format!("drop cascades to column {} of table {}", column.name, object.name);
            self.notices.push(Error::new(ErrorKind::DependentObjects, message));
            gone.push(i);
        }
        let loses_key =
            matches!(&object.body, ObjectBody::Table { primary_key, .. } if primary_key.contains(&at));
        if loses_key {
            self.refuse_key_in_use(object)?;
        }
        if let ObjectBody::Table { primary_key, checks, options, .. } = &mut altered.body {
            if loses_key {
                primary_key.clear();
                options.key_name = None;
            }
            let named = |text: &str| {
                let names = bind::check_columns(text, &object.columns);
                gone.iter().any(|g| names.contains(&object.columns[*g].name))
            };
            checks.retain(|(_, text)| !named(text));
        }
        for i in gone {
            let dropped = &mut altered.columns[i];
            *dropped = Column {
                name: format!("........pg.dropped.{}........", i + 1),
                nullable: true,
                dropped: true,
                missing: dropped.missing.take(),
                numeric: dropped.numeric,
                ..Column::new("", dropped.pg_type())
            };
        }
        altered.depends_on = super::table::sequences_used(&altered);
        Ok(altered)
    }

    /// Views may be planned so that they rely on the key.
    fn refuse_key_in_use(&self, object: &Object) -> Result<()> {
        let user = self
            .catalog
            .dependents(object.id)
            .into_iter()
            .find(|o| matches!(o.body, ObjectBody::MaterializedView { .. } | ObjectBody::Sink { .. }));
        match user {
            Some(user) => Err(Error::unsupported(format!(
                "dropping the primary key of \"{}\" is not supported while {} \"{}\" is maintained from it",
                object.name,
                user.kind_name(),
                user.name
            ))
            .with_hint("Drop the dependent object, alter the table, and create it again.")),
            None => Ok(()),
        }
    }

    /// Whether a query no longer has its columns when a table is altered so.
    fn loses_by(&self, user: &Object, altered: &Object) -> Result<bool> {
        let Some(query) = query_text(user) else { return Ok(false) };
        let mut catalog = self.catalog.clone();
        catalog.replace(altered.clone())?;
        let user = catalog.get(user.id).cloned().unwrap_or_else(|| Arc::new(user.clone()));
        let context = BindContext {
            written_in: Some(user.clone()),
            search_path: user.search_path.clone(),
            ..(self.context)(&catalog, true)
        };
        Ok(match bind::bind_query_text(query, &context) {
            Err(_) => true,
            Ok(bound) => !user.columns.is_empty() && bound.columns.len() != user.columns.len(),
        })
    }

    fn column_default(&mut self, object: &Object, name: &str, default: Option<&SqlExpr>) -> Result<()> {
        let at = position(&object.columns, name).ok_or_else(|| no_column(object, name))?;
        let mut altered = object.clone();
        let column = &mut altered.columns[at];
        if column.generated.is_some() {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("column \"{name}\" of relation \"{}\" is a generated column", object.name),
            ));
        }
        if column.sequence.is_some_and(|s| s.usage != SequenceUse::Default) {
            return Err(Error::new(
                ErrorKind::Syntax,
                format!("column \"{name}\" of relation \"{}\" is an identity column", object.name),
            ));
        }
        column.sequence = None;
        column.default = default.map(|d| d.text.clone());
        if let Some(text) = &column.default {
            bind::bind_default(text, column, &(self.context)(self.catalog, false))?;
        }
        self.default_sequence(column)?;
        altered.depends_on = super::table::sequences_used(&altered);
        self.replace(altered)
    }

    fn column_not_null(&mut self, object: &Object, name: &str, not_null: bool) -> Result<()> {
        let at = position(&object.columns, name).ok_or_else(|| no_column(object, name))?;
        if object.columns[at].nullable != not_null {
            return Ok(());
        }
        if not_null {
            for batch in (self.rows)(object)? {
                if batch.column(at).logical_null_count() > 0 {
                    return Err(contains_nulls(object, name));
                }
            }
            self.ops.push(DdlOp::Unchanged(object.id, self.epoch));
        } else {
            if matches!(&object.body, ObjectBody::Table { primary_key, .. } if primary_key.contains(&at)) {
                return Err(Error::new(
                    ErrorKind::InvalidTableDefinition,
                    format!("column \"{name}\" is in a primary key"),
                ));
            }
            if object.columns[at].sequence.is_some_and(|s| s.usage != SequenceUse::Default) {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    format!("column \"{name}\" of relation \"{}\" is an identity column", object.name),
                ));
            }
            // Plans may rely on there being no NULL.
            if let Some(user) = self
                .catalog
                .dependents(object.id)
                .into_iter()
                .find(|o| matches!(o.body, ObjectBody::MaterializedView { .. } | ObjectBody::Sink { .. }))
            {
                return Err(Error::unsupported(format!(
                    "DROP NOT NULL is not supported while {} \"{}\" is maintained from \"{}\"",
                    user.kind_name(),
                    user.name,
                    object.name
                ))
                .with_hint("Drop the dependent object, alter the table, and create it again."));
            }
        }
        let mut altered = object.clone();
        altered.columns[at].nullable = !not_null;
        self.replace(altered)
    }

    fn column_type(&mut self, object: &Object, name: &str, to: PgType, using: bool) -> Result<()> {
        let at = position(&object.columns, name).ok_or_else(|| no_column(object, name))?;
        let from = object.columns[at].pg_type();
        if from == to && !using {
            return Ok(());
        }
        if let Some(user) = self.catalog.dependents(object.id).into_iter().find(|o| is_query(o)) {
            return Err(Error::unsupported("cannot alter type of a column used by a view or rule")
                .with_detail(format!(
                    "{} {} depends on table \"{}\"",
                    user.kind_name(),
                    user.name,
                    object.name
                )));
        }
        let texts = [PgType::TEXT.oid, PgType::VARCHAR.oid];
        let longer = to.typmod == -1 || to.typmod >= from.typmod && from.typmod != -1;
        if using || !texts.contains(&from.oid) || !texts.contains(&to.oid) || !longer {
            return Err(Error::unsupported(format!(
                "changing a column from {} to {} is not supported",
                from.sql_name(),
                to.sql_name()
            ))
            .with_hint("Add a column, fill it with UPDATE, drop the old one and rename."));
        }
        let mut altered = object.clone();
        altered.columns[at].type_oid = to.oid;
        altered.columns[at].typmod = to.typmod;
        self.replace(altered)
    }

    fn add_identity(&mut self, object: &Object, name: &str, identity: &IdentityClause) -> Result<()> {
        let at = position(&object.columns, name).ok_or_else(|| no_column(object, name))?;
        let column = &object.columns[at];
        let refused = |what: String| Err(Error::new(ErrorKind::ObjectNotInState, what));
        if crate::coord::sequence::bounds(column.type_oid).is_none() {
            return Err(Error::new(
                ErrorKind::InvalidParameter,
                "identity column type must be smallint, integer, or bigint",
            ));
        }
        if column.nullable {
            return refused(format!(
                "column \"{name}\" of relation \"{}\" must be declared NOT NULL before identity can be added",
                object.name
            ));
        }
        if column.sequence.is_some() {
            return refused(format!(
                "column \"{name}\" of relation \"{}\" is already an identity column",
                object.name
            ));
        }
        if column.default.is_some() {
            return refused(format!(
                "column \"{name}\" of relation \"{}\" already has a default value",
                object.name
            ));
        }
        let def = ColumnDef {
            name: name.to_string(),
            data_type: crate::sql::types::data_type_of(column.pg_type())?,
            not_null: true,
            default: None,
            generated: None,
            identity: Some(identity.clone()),
        };
        let mut altered = object.clone();
        let (schema, table) = (object.schema.clone(), object.name.clone());
        self.column_sequence(&schema, &table, object.id, at, &mut altered.columns[at], &def)?;
        altered.depends_on = super::table::sequences_used(&altered);
        self.replace(altered)
    }

    fn change_identity(&mut self, object: &Object, action: &AlterAction) -> Result<()> {
        let (name, skip) = match action {
            AlterAction::SetIdentity { column, .. } => (column, false),
            AlterAction::DropIdentity { column, if_exists } => (column, *if_exists),
            AlterAction::Sequence { column: Some(column), .. } => (column, false),
            _ => return Err(Error::internal("not about an identity column")),
        };
        let at = position(&object.columns, name).ok_or_else(|| no_column(object, name))?;
        let sequence = object.columns[at].sequence.filter(|s| s.usage != SequenceUse::Default);
        let Some(sequence) = sequence else {
            let message =
                format!("column \"{name}\" of relation \"{}\" is not an identity column", object.name);
            if skip {
                self.notices.push(Error::new(ErrorKind::ObjectNotInState, format!("{message}, skipping")));
                return Ok(());
            }
            return Err(Error::new(ErrorKind::ObjectNotInState, message));
        };
        let mut altered = object.clone();
        match action {
            AlterAction::SetIdentity { always, .. } => {
                let usage = if *always { SequenceUse::Always } else { SequenceUse::ByDefault };
                altered.columns[at].sequence = Some(ColumnSequence { usage, ..sequence });
                self.replace(altered)
            }
            AlterAction::Sequence { options, .. } => {
                let sequence = self.catalog.get(sequence.id).cloned();
                let sequence = sequence.ok_or_else(|| Error::internal("an identity without its sequence"))?;
                let options = SequenceOptions { owned_by: None, ..options.clone() };
                self.alter_sequence(&sequence, &options)
            }
            _ => {
                altered.columns[at].sequence = None;
                altered.depends_on = super::table::sequences_used(&altered);
                self.replace(altered)?;
                if let Some(sequence) = self.catalog.get(sequence.id).cloned() {
                    self.drop_tree(&sequence, true)?;
                }
                Ok(())
            }
        }
    }

    // ---- constraints ----

    fn add_constraint(&mut self, object: &Arc<Object>, constraint: &Constraint) -> Result<()> {
        let mut altered = (**object).clone();
        match constraint {
            Constraint::Unique { name, columns } => {
                if let Some(name) = name {
                    self.refuse_taken(object, name)?;
                }
                self.create_unique(object, name.clone(), columns)
            }
            Constraint::PrimaryKey { name, columns } => {
                let ObjectBody::Table { primary_key, options, .. } = &mut altered.body else {
                    return Err(Error::internal("a key of something that is no table"));
                };
                if !primary_key.is_empty() {
                    return Err(Error::new(
                        ErrorKind::InvalidTableDefinition,
                        format!("multiple primary keys for table \"{}\" are not allowed", object.name),
                    ));
                }
                *primary_key = key_positions(&object.columns, columns, "primary key")?;
                options.key_name = Some(name.clone().unwrap_or_else(|| format!("{}_pkey", object.name)));
                let key = primary_key.clone();
                let rows = (self.rows)(object)?;
                for at in key {
                    let nulls = rows.iter().any(|b| b.column(at).logical_null_count() > 0);
                    if nulls {
                        return Err(contains_nulls(object, &object.columns[at].name));
                    }
                    altered.columns[at].nullable = false;
                }
                self.replace(altered)?;
                self.ops.push(DdlOp::Unchanged(object.id, self.epoch));
                Ok(())
            }
            Constraint::Check { name, expr } => {
                if let Some(name) = name {
                    self.refuse_taken(object, name)?;
                }
                let context = (self.context)(self.catalog, false);
                let check = bind::bind_check(&expr.text, &object.columns, &context)?;
                let ObjectBody::Table { checks, .. } = &mut altered.body else {
                    return Err(Error::internal("a check of something that is no table"));
                };
                let name = check_name(&object.name, &object.columns, name.as_deref(), &expr.text, checks)?;
                for batch in (self.rows)(object)? {
                    let held = check.evaluate(&batch)?;
                    let held = held.as_boolean();
                    if (0..held.len()).any(|i| held.is_valid(i) && !held.value(i)) {
                        return Err(Error::new(
                            ErrorKind::CheckViolation,
                            format!(
                                "check constraint \"{name}\" of relation \"{}\" is violated by some row",
                                object.name
                            ),
                        )
                        .with_table(object.schema.clone(), object.name.clone())
                        .with_constraint(name));
                    }
                }
                checks.push((name, expr.text.clone()));
                self.replace(altered)?;
                self.ops.push(DdlOp::Unchanged(object.id, self.epoch));
                Ok(())
            }
            Constraint::ForeignKey { columns, table, referenced } => {
                self.check_foreign_key(&object.name, &object.columns, columns, table, referenced)
            }
        }
    }

    fn refuse_taken(&self, object: &Object, name: &str) -> Result<()> {
        let keys = self.catalog.unique_keys(object);
        let taken = keys.iter().any(|k| k.constraint && k.name == name)
            || matches!(&object.body, ObjectBody::Table { checks, .. } if checks.iter().any(|(n, _)| n == name));
        if !taken {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::DuplicateObject,
            format!("constraint \"{name}\" for relation \"{}\" already exists", object.name),
        ))
    }

    fn drop_constraint(&mut self, object: &Object, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let mut altered = object.clone();
        if let Some(index) = self.unique_constraint(object, name) {
            return self.drop_tree(&index, cascade);
        }
        let is_key = object.key_name() == name;
        if let ObjectBody::Table { primary_key, checks, options, .. } = &mut altered.body {
            if is_key && !primary_key.is_empty() {
                self.refuse_key_in_use(object)?;
                primary_key.clear();
                options.key_name = None;
                return self.replace(altered);
            }
            if let Some(at) = checks.iter().position(|(n, _)| n == name) {
                checks.remove(at);
                return self.replace(altered);
            }
        }
        let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", object.name);
        if if_exists {
            self.notices.push(Error::new(ErrorKind::UndefinedObject, format!("{message}, skipping")));
            return Ok(());
        }
        Err(Error::new(ErrorKind::UndefinedObject, message))
    }

    fn unique_constraint(&self, object: &Object, name: &str) -> Option<Arc<Object>> {
        let mut all = self.catalog.indexes_on(object.id).into_iter();
        all.find(|i| i.name == name && matches!(i.body, ObjectBody::Index { constraint: true, .. }))
    }

    fn rename_constraint(&mut self, object: &Object, from: &str, to: &str) -> Result<()> {
        self.refuse_taken(object, to)?;
        if let Some(index) = self.unique_constraint(object, from) {
            let mut index = (*index).clone();
            index.name = to.to_string();
            return self.replace(index);
        }
        let mut altered = object.clone();
        let is_key = object.key_name() == from;
        if let ObjectBody::Table { primary_key, checks, options, .. } = &mut altered.body {
            if is_key && !primary_key.is_empty() {
                options.key_name = Some(to.to_string());
                return self.replace(altered);
            }
            if let Some((name, _)) = checks.iter_mut().find(|(n, _)| n == from) {
                *name = to.to_string();
                return self.replace(altered);
            }
        }
        Err(Error::new(
            ErrorKind::UndefinedObject,
            format!("constraint \"{from}\" for table \"{}\" does not exist", object.name),
        ))
    }
}
