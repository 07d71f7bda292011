//! CREATE TABLE and CREATE SOURCE: columns, constraints, watermarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Definer, columns_of, no_options, position, undefined, view_columns};
use crate::catalog::object::{LateRows, OnCommit, SequenceUse, TableOptions, WatermarkSpec};
use crate::catalog::{Column, Object, ObjectBody, ObjectId};
use crate::connector::source::SourceSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::sql::bind;
use crate::sql::statement::{
    ColumnDef, Constraint, CreateSource, CreateTable, IdentityClause, Including, LateRowsClause, Name,
    OnCommitClause, SequenceOptions, SqlExpr, SqlQuery, WatermarkClause,
};
use crate::types::PgType;

impl Definer<'_> {
    /// CREATE TABLE; answers the table, unless there is one already.
    pub fn create_table(&mut self, stmt: &CreateTable) -> Result<Option<Arc<Object>>> {
        if stmt.format.is_some() || stmt.options.get("connector").is_some() {
            return Err(Error::unsupported("a table with a connector is not supported")
                .with_hint("Use CREATE SOURCE; sources keep their history and can be queried."));
        }
        no_options(&stmt.options)?;
        let (schema, name) = self.new_name_in(&stmt.name, stmt.temporary)?;
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(None);
        }
        if let Some(query) = &stmt.query {
            return self.create_table_as(stmt, schema, name, query).map(Some);
        }
        let id = self.shared.allocate_oid();
        let (defs, mut constraints, indexes) = self.with_likes(stmt)?;
        constraints.extend(stmt.constraints.iter().cloned());
        let mut columns = self.columns(&defs.iter().map(|(d, _)| d.clone()).collect::<Vec<_>>())?;
        for (column, (_, like)) in columns.iter_mut().zip(&defs) {
            if let Some(like) = like {
                column.type_oid = like.type_oid;
                column.typmod = like.typmod;
                column.comment.clone_from(&like.comment);
            }
        }
        let (primary_key, checks, key_name) = self.constraints(&name, &mut columns, &constraints)?;
        let watermark = self.watermark(&name, &columns, stmt.watermark.as_ref())?;
        if watermark.is_some() && !primary_key.is_empty() {
            return Err(Error::unsupported("a table with a watermark cannot have a primary key")
                .with_hint("A watermark makes the table append-only; leave the key out."));
        }
        let body = ObjectBody::Table {
            primary_key,
            append_only: stmt.append_only || watermark.is_some(),
            watermark,
            checks,
            options: TableOptions { key_name, on_commit: stmt.on_commit.map(on_commit) },
        };
        let defs: Vec<ColumnDef> = defs.into_iter().map(|(d, _)| d).collect();
        for (i, def) in defs.iter().enumerate() {
            self.column_sequence(&schema, &name, id, i, &mut columns[i], def)?;
        }
        let mut object = self.object(&schema, &name, columns, body);
        object.id = id;
        object.depends_on = sequences_used(&object);
        self.create(object.clone(), None)?;
        self.create_late_companion(&object)?;
        let object = Arc::new(object);
        for constraint in &constraints {
            if let Constraint::Unique { name, columns } = constraint {
                self.create_unique(&object, name.clone(), columns)?;
            }
        }
        for (columns, unique) in indexes {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            let positions = positions(&object, &columns)?;
            let name = self.free_name(&object, &names, "idx");
            self.add_index(&object, name, positions, unique, false)?;
        }
        Ok(Some(object))
    }

    /// CREATE TABLE AS: a table with the columns of a query.
    fn create_table_as(
        &mut self,
        stmt: &CreateTable,
        schema: String,
        name: String,
        query: &SqlQuery,
    ) -> Result<Arc<Object>> {
        let context = (self.context)(self.catalog, false);
        let bound = bind::bind_query(&query.ast, &context)?;
        let mut columns = view_columns(&bound, &stmt.column_names).map_err(|e| match e.kind() {
            ErrorKind::Syntax => Error::new(ErrorKind::Syntax, "too many column names were specified"),
            _ => e,
        })?;
        for column in &mut columns {
            column.nullable = true;
        }
        let body = ObjectBody::Table {
            primary_key: Vec::new(),
            append_only: stmt.append_only,
            watermark: None,
            checks: Vec::new(),
            options: TableOptions { key_name: None, on_commit: stmt.on_commit.map(on_commit) },
        };
        let object = self.object(&schema, &name, columns, body);
        self.create(object.clone(), None)?;
        Ok(Arc::new(object))
    }

    /// The column definitions with those of LIKE among them, and what else LIKE brings: constraints, and indexes as
    /// (columns, unique).
    #[allow(clippy::type_complexity)]
    fn with_likes(
        &self,
        stmt: &CreateTable,
    ) -> Result<(Vec<(ColumnDef, Option<Column>)>, Vec<Constraint>, Vec<(Vec<String>, bool)>)> {
        let mut defs = Vec::new();
        let (mut constraints, mut indexes) = (Vec::new(), Vec::new());
        let mut likes = stmt.likes.iter().peekable();
        for at in 0..=stmt.columns.len() {
            while let Some(like) = likes.next_if(|l| l.at == at) {
                let table = self.find(&like.table).ok_or_else(|| undefined(&like.table))?;
                if !table.is_relation() {
                    return Err(Error::new(
                        ErrorKind::WrongObjectType,
                        format!("relation \"{}\" is invalid in LIKE clause", table.name),
                    ));
                }
                for (_, column) in table.live_columns() {
                    defs.push((
                        like_column(column, like.including)?,
                        Some(column_like(column, like.including)),
                    ));
                }
                let ObjectBody::Table { primary_key, checks, .. } = &table.body else { continue };
                let names = |columns: &[usize]| -> Vec<String> {
                    columns.iter().map(|c| table.columns[*c].name.clone()).collect()
                };
                if like.including.constraints {
                    for (name, text) in checks {
                        let expr = SqlExpr { ast: crate::sql::parse_expression(text)?, text: text.clone() };
                        constraints.push(Constraint::Check { name: Some(name.clone()), expr });
                    }
                }
                if !like.including.indexes {
                    continue;
                }
                if !primary_key.is_empty() {
                    constraints.push(Constraint::PrimaryKey { name: None, columns: names(primary_key) });
                }
                for index in self.catalog.indexes_on(table.id) {
                    match &index.body {
                        ObjectBody::Index { columns, constraint: true, .. } => {
                            constraints.push(Constraint::Unique { name: None, columns: names(columns) });
                        }
                        ObjectBody::Index { columns, unique, .. } => indexes.push((names(columns), *unique)),
                        _ => {}
                    }
                }
            }
            defs.extend(stmt.columns.get(at).map(|d| (d.clone(), None)));
        }
        Ok((defs, constraints, indexes))
    }

    /// UNIQUE: an index of the constraint's name.
    pub(super) fn create_unique(
        &mut self,
        table: &Arc<Object>,
        name: Option<String>,
        columns: &[String],
    ) -> Result<()> {
        let positions = key_positions(&table.columns, columns, "unique")?;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let name = match name {
            Some(name) => name,
            None => self.free_name(table, &names, "key"),
        };
        self.exists(&table.schema, &name, false)?;
        self.add_index(table, name, positions, true, true)
    }

    pub(super) fn create_late_companion(&mut self, object: &Object) -> Result<()> {
        match object.watermark().map(|w| w.late_rows.clone()) {
            Some(LateRows::To(name)) => {
                let columns = object
                    .columns
                    .iter()
                    .map(|c| Column {
                        nullable: true,
                        default: None,
                        generated: None,
                        comment: None,
                        ..c.clone()
                    })
                    .collect();
                self.create_companion(object, name, "late", columns)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn columns(&self, defs: &[ColumnDef]) -> Result<Vec<Column>> {
        let mut columns: Vec<Column> = Vec::with_capacity(defs.len());
        for def in defs {
            if columns.iter().any(|c| c.name == def.name) {
                return Err(Error::new(
                    ErrorKind::DuplicateColumn,
                    format!("column \"{}\" specified more than once", def.name),
                ));
            }
            let pg_type = match serial_type(&def.data_type) {
                Some(serial) => serial,
                None => crate::sql::types::pg_type(&def.data_type)?,
            };
            let mut column = Column::new(&def.name, pg_type);
            column.nullable = !def.not_null;
            if def.not_null || serial_type(&def.data_type).is_some() {
                column.nullable = false;
            }
            column.default = def.default.as_ref().map(|d| d.text.clone());
            column.generated = def.generated.as_ref().map(|g| g.text.clone());
            columns.push(column);
        }
        if columns.len() > 1600 {
            return Err(Error::new(ErrorKind::TooManyColumns, "tables can have at most 1600 columns"));
        }
        // Defaults and generated columns must be bindable now, not at the first INSERT.
        let context = (self.context)(self.catalog, false);
        for column in &columns {
            if let Some(text) = &column.default {
                bind::bind_default(text, column, &context)?;
            }
            if let Some(text) = &column.generated {
                bind::bind_generated(text, column, &columns, &context)?;
            }
        }
        Ok(columns)
    }

    /// Primary key, checks, and the name of the primary key if it was given.
    #[allow(clippy::type_complexity)]
    pub(super) fn constraints(
        &self,
        table: &str,
        columns: &mut [Column],
        constraints: &[Constraint],
    ) -> Result<(Vec<usize>, Vec<(String, String)>, Option<String>)> {
        let mut primary_key = Vec::new();
        let mut key_name = None;
        let mut checks = Vec::new();
        for constraint in constraints {
            match constraint {
                Constraint::PrimaryKey { name, columns: names } => {
                    if !primary_key.is_empty() {
                        return Err(Error::new(
                            ErrorKind::InvalidTableDefinition,
                            format!("multiple primary keys for table \"{table}\" are not allowed"),
                        ));
                    }
                    primary_key = key_positions(columns, names, "primary key")?;
                    for at in &primary_key {
                        columns[*at].nullable = false;
                    }
                    key_name = Some(name.clone().unwrap_or_else(|| format!("{table}_pkey")));
                }
                Constraint::Unique { columns: names, .. } => {
                    key_positions(columns, names, "unique")?;
                }
                Constraint::Check { name, expr } => {
                    let context = (self.context)(self.catalog, false);
                    bind::bind_check(&expr.text, columns, &context)?;
                    let name = check_name(table, columns, name.as_deref(), &expr.text, &checks)?;
                    checks.push((name, expr.text.clone()));
                }
                Constraint::ForeignKey { columns: names, table: other, referenced } => {
                    self.check_foreign_key(table, columns, names, other, referenced)?;
                }
            }
        }
        Ok((primary_key, checks, key_name))
    }

    /// A foreign key that is not enforced must at least make sense.
    pub(super) fn check_foreign_key(
        &self,
        table: &str,
        columns: &[Column],
        names: &[String],
        other: &Name,
        referenced: &[String],
    ) -> Result<()> {
        let missing = |name: &str| {
            Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{name}\" referenced in foreign key constraint does not exist"),
            )
        };
        for name in names {
            position(columns, name).ok_or_else(|| missing(name))?;
        }
        let itself = other.schema.is_none() && other.name == table;
        let found = if itself { None } else { Some(self.find(other).ok_or_else(|| undefined(other))?) };
        let theirs = found.as_ref().map_or(columns, |o| &o.columns);
        for name in referenced {
            position(theirs, name).ok_or_else(|| missing(name))?;
        }
        if !referenced.is_empty() && referenced.len() != names.len() {
            return Err(Error::new(
                ErrorKind::InvalidForeignKey,
                "number of referencing and referenced columns for foreign key disagree",
            ));
        }
        Ok(())
    }

    pub(super) fn watermark(
        &self,
        relation: &str,
        columns: &[Column],
        clause: Option<&WatermarkClause>,
    ) -> Result<Option<WatermarkSpec>> {
        let Some(clause) = clause else { return Ok(None) };
        let column = position(columns, &clause.column).ok_or_else(|| {
            Error::new(ErrorKind::UndefinedColumn, format!("column \"{}\" does not exist", clause.column))
        })?;
        let pg_type = columns[column].pg_type();
        if ![PgType::TIMESTAMP, PgType::TIMESTAMPTZ].contains(&PgType::of(pg_type.oid)) {
            return Err(Error::new(
                ErrorKind::DatatypeMismatch,
                format!("the event time \"{}\" is of type {}", clause.column, pg_type.sql_name()),
            )
            .with_hint("A watermark needs a timestamp or timestamptz column."));
        }
        let context = (self.context)(self.catalog, false);
        let delay = match &clause.expr {
            Some(e) => bind::bind_watermark_delay(&e.ast, &clause.column)?,
            None => 0,
        };
        let interval =
            |e: &Option<_>| e.as_ref().map(|e| bind::bind_interval_micros(e, &context)).transpose();
        let late_rows = match &clause.late_rows {
            None => LateRows::To(format!("{relation}$late")),
            Some(LateRowsClause::Drop) => LateRows::Drop,
            Some(LateRowsClause::To(name)) => LateRows::To(name.name.clone()),
        };
        Ok(Some(WatermarkSpec {
            column,
            delay,
            allowed_lateness: interval(&clause.lateness)?.unwrap_or(0),
            idle_timeout: interval(&clause.idle)?,
            late_rows,
        }))
    }

    /// CREATE SOURCE.
    pub fn create_source(&mut self, stmt: &CreateSource) -> Result<()> {
        if !stmt.include.is_empty() {
            return Err(Error::unsupported("INCLUDE is not supported by the connectors there are"));
        }
        let (schema, name) = self.new_name(&stmt.name)?;
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        let mut options: BTreeMap<String, String> =
            stmt.options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let connector = options.remove("connector").ok_or_else(|| {
            Error::new(ErrorKind::InvalidParameter, "a source needs the option \"connector\"")
                .with_hint("Connectors: file, datagen, nexmark.")
        })?;
        let keeps_history = match options.remove("history").as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                return Err(Error::new(
                    ErrorKind::InvalidParameter,
                    format!("invalid value for option \"history\": \"{other}\""),
                )
                .with_hint("Use true or false."));
            }
        };
        let format = stmt.format.as_ref().map(|f| {
            let options = f.options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            (f.format.clone(), f.encode.clone(), options)
        });
        if stmt.constraints.iter().any(|c| !matches!(c, Constraint::PrimaryKey { .. })) {
            return Err(Error::unsupported("constraints on sources are not supported"));
        }
        if !stmt.constraints.is_empty() {
            return Err(Error::unsupported("a primary key on a source is not supported")
                .with_hint("Sources are append-only; use a view with DISTINCT or GROUP BY."));
        }
        let mut columns = self.columns(&stmt.columns)?;
        if let Some(c) = columns.iter().find(|c| c.generated.is_some()) {
            return Err(Error::unsupported(format!(
                "generated column \"{}\" of a source is not supported",
                c.name
            ))
            .with_hint("Compute it in a view over the source."));
        }
        let mut spec = SourceSpec {
            connector: connector.clone(),
            options: options.clone(),
            format: format.clone(),
            schema: Arc::new(arrow::datatypes::Schema::empty()),
        };
        if columns.is_empty() {
            let schema = crate::connector::source::derive_columns(&spec)?.ok_or_else(|| {
                Error::new(ErrorKind::InvalidTableDefinition, "a source needs at least one column").with_hint(
                    format!("Connector {} does not know its columns: declare them.", spec.connector),
                )
            })?;
            columns = columns_of(&schema);
        }
        let watermark = self.watermark(&name, &columns, stmt.watermark.as_ref())?;
        let body = ObjectBody::Source { connector, options, format, watermark, keeps_history };
        let object = self.object(&schema, &name, columns, body);
        spec.schema = object.arrow_schema();
        crate::connector::source::validate(&spec)?;
        self.create(object.clone(), None)?;
        let errors = columns_of(&eval_error::source_schema());
        self.create_companion(&object, format!("{name}$errors"), "errors", errors)?;
        self.create_late_companion(&object)
    }
}

/// The name of a CHECK: as given, or as PostgreSQL makes it.
pub(super) fn check_name(
    table: &str,
    columns: &[Column],
    given: Option<&str>,
    text: &str,
    checks: &[(String, String)],
) -> Result<String> {
    let taken = |name: &str| checks.iter().any(|(other, _)| other == name);
    if let Some(name) = given {
        if taken(name) {
            return Err(Error::new(
                ErrorKind::DuplicateObject,
                format!("constraint \"{name}\" for relation \"{table}\" already exists"),
            ));
        }
        return Ok(name.to_string());
    }
    // PostgreSQL names a check after its column, if it has just one.
    let stem = match bind::check_columns(text, columns).as_slice() {
        [column] => format!("{table}_{column}_check"),
        _ => format!("{table}_check"),
    };
    let numbered = (1..).map(|n| format!("{stem}{n}"));
    Ok(std::iter::once(stem.clone()).chain(numbered).find(|n| !taken(n)).unwrap_or(stem))
}

/// The positions of a key's columns.
pub(super) fn key_positions(columns: &[Column], names: &[String], what: &str) -> Result<Vec<usize>> {
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        let at = position(columns, name).ok_or_else(|| {
            Error::new(ErrorKind::UndefinedColumn, format!("column \"{name}\" named in key does not exist"))
        })?;
        if key.contains(&at) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" appears twice in {what} constraint"),
            ));
        }
        key.push(at);
    }
    Ok(key)
}

fn positions(object: &Object, names: &[String]) -> Result<Vec<usize>> {
    key_positions(&object.columns, names, "unique")
}

/// The type of a column that is declared serial.
pub(super) fn serial_type(data_type: &crate::sql::types::DataType) -> Option<PgType> {
    match data_type.to_string().to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some(PgType::INT4),
        "bigserial" | "serial8" => Some(PgType::INT8),
        "smallserial" | "serial2" => Some(PgType::INT2),
        _ => None,
    }
}

fn on_commit(clause: OnCommitClause) -> OnCommit {
    match clause {
        OnCommitClause::PreserveRows => OnCommit::PreserveRows,
        OnCommitClause::DeleteRows => OnCommit::DeleteRows,
        OnCommitClause::Drop => OnCommit::Drop,
    }
}

/// What LIKE takes of a column, as a definition; its type follows in [`column_like`].
fn like_column(column: &Column, including: Including) -> Result<ColumnDef> {
    let expr = |text: &Option<String>| -> Result<Option<SqlExpr>> {
        text.as_ref()
            .map(|text| Ok(SqlExpr { ast: crate::sql::parse_expression(text)?, text: text.clone() }))
            .transpose()
    };
    let identity = column.sequence.filter(|s| including.identity && s.usage != SequenceUse::Default);
    Ok(ColumnDef {
        name: column.name.clone(),
        data_type: crate::sql::types::data_type_of(column.pg_type())?,
        not_null: !column.nullable,
        default: if including.defaults { expr(&column.default)? } else { None },
        generated: if including.generated { expr(&column.generated)? } else { None },
        identity: identity.map(|s| IdentityClause {
            always: s.usage == SequenceUse::Always,
            options: SequenceOptions::default(),
        }),
    })
}

fn column_like(column: &Column, including: Including) -> Column {
    let mut like = Column::new(&column.name, column.pg_type());
    if including.comments {
        like.comment.clone_from(&column.comment);
    }
    like
}

/// The sequences that a table's columns take values from.
pub(super) fn sequences_used(object: &Object) -> Vec<ObjectId> {
    let mut used: Vec<ObjectId> =
        object.live_columns().filter_map(|(_, c)| c.sequence).map(|s| s.id).collect();
    used.sort_unstable();
    used.dedup();
    used
}
