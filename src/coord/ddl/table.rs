//! CREATE TABLE and CREATE SOURCE: columns, constraints, watermarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Definer, columns_of, no_options, position};
use crate::catalog::object::{LateRows, WatermarkSpec};
use crate::catalog::{Column, Object, ObjectBody};
use crate::connector::source::SourceSpec;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::sql::bind;
use crate::sql::statement::{
    ColumnDef, Constraint, CreateSource, CreateTable, LateRowsClause, WatermarkClause,
};
use crate::types::PgType;

impl Definer<'_> {
    /// CREATE TABLE.
    pub fn create_table(&mut self, stmt: &CreateTable) -> Result<()> {
        if stmt.temporary {
            return Err(Error::unsupported("temporary tables are not supported")
                .with_hint("Create the table in a schema of its own and drop it when you are done."));
        }
        if stmt.query.is_some() {
            return Err(Error::unsupported("CREATE TABLE AS is not supported")
                .with_hint("Use CREATE TABLE and INSERT ... SELECT, or CREATE MATERIALIZED VIEW."));
        }
        if stmt.format.is_some() || stmt.options.get("connector").is_some() {
            return Err(Error::unsupported("a table with a connector is not supported")
                .with_hint("Use CREATE SOURCE; sources keep their history and can be queried."));
        }
        no_options(&stmt.options)?;
        let (schema, name) = self.new_name(&stmt.name)?;
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        let mut columns = self.columns(&stmt.columns)?;
        let (primary_key, checks) = self.constraints(&name, &mut columns, &stmt.constraints)?;
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
        };
        let object = self.object(&schema, &name, columns, body);
        self.create(object.clone(), None)?;
        self.create_late_companion(&object)
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
            let mut column = Column::new(&def.name, crate::sql::types::pg_type(&def.data_type)?);
            column.nullable = !def.not_null;
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

    #[allow(clippy::type_complexity)]
    pub(super) fn constraints(
        &self,
        table: &str,
        columns: &mut [Column],
        constraints: &[Constraint],
    ) -> Result<(Vec<usize>, Vec<(String, String)>)> {
        let mut primary_key = Vec::new();
        let mut checks = Vec::new();
        for constraint in constraints {
            match constraint {
                Constraint::PrimaryKey { columns: names, .. } => {
                    if !primary_key.is_empty() {
                        return Err(Error::new(
                            ErrorKind::InvalidTableDefinition,
                            format!("multiple primary keys for table \"{table}\" are not allowed"),
                        ));
                    }
                    for name in names {
                        let at = position(columns, name).ok_or_else(|| {
                            Error::new(
                                ErrorKind::UndefinedColumn,
                                format!("column \"{name}\" named in key does not exist"),
                            )
                        })?;
                        if primary_key.contains(&at) {
                            return Err(Error::new(
                                ErrorKind::DuplicateColumn,
                                format!("column \"{name}\" appears twice in primary key constraint"),
                            ));
                        }
                        columns[at].nullable = false;
                        primary_key.push(at);
                    }
                }
                Constraint::Unique { .. } => {
                    return Err(Error::unsupported("UNIQUE constraints are not supported")
                        .with_hint("Declare the columns as PRIMARY KEY."));
                }
                Constraint::Check { name, expr } => {
                    let context = (self.context)(self.catalog, false);
                    bind::bind_check(&expr.text, columns, &context)?;
                    let name = name.clone().unwrap_or_else(|| {
                        // PostgreSQL names a check after its column, if it has just one.
                        let stem = match bind::check_columns(&expr.text, columns).as_slice() {
                            [column] => format!("{table}_{column}_check"),
                            _ => format!("{table}_check"),
                        };
                        let taken = |name: &str| checks.iter().any(|(other, _)| other == name);
                        let numbered = (1..).map(|n| format!("{stem}{n}"));
                        std::iter::once(stem.clone()).chain(numbered).find(|n| !taken(n)).unwrap_or(stem)
                    });
                    checks.push((name, expr.text.clone()));
                }
            }
        }
        Ok((primary_key, checks))
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
