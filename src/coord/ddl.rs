//! Definitions as a session makes them: statement → objects and plans, checked against the catalog it sees.
//!
//! Everything that can be refused is refused here, with names and hints; what remains for the coordinator is whether the
//! catalog has changed in between. The new objects go into the transaction's own catalog at once, so that
//! later statements of the same transaction see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::object::{LateRows, WatermarkSpec};
use crate::catalog::{Catalog, Column, Object, ObjectBody, ObjectId};
use crate::connector::source::SourceSpec;
use crate::coord::Shared;
use crate::coord::command::DdlOp;
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::plan::{self, Plan};
use crate::sql::bind::{self, BindContext, BoundQuery};
use crate::sql::statement::{
    Alter, AlterAction, ColumnDef, Comment, Constraint, CreateIndex, CreateSchema, CreateSink, CreateSource,
    CreateTable, CreateView, Drop, Emit, LateRowsClause, Name, ObjectKind, Options, Target, WatermarkClause,
};
use crate::types::PgType;

/// The catalog a statement works on, and what it has done to it.
pub struct Definer<'a> {
    /// Shared state, for new OIDs.
    pub shared: &'a Shared,
    /// The transaction's catalog; it is changed as the statement goes along.
    pub catalog: &'a mut Catalog,
    /// The schemas searched for names, in order; new objects go to the first.
    pub search_path: Vec<String>,
    /// The user's text of the statement.
    pub text: &'a str,
    /// What the coordinator is to do.
    pub ops: Vec<DdlOp>,
    /// NOTICEs for the client.
    pub notices: Vec<Error>,
    /// Makes the context for binding against a catalog.
    pub context: &'a dyn Fn(&Catalog, bool) -> BindContext<'static>,
}

impl Definer<'_> {
    fn new_name(&self, name: &Name) -> Result<(String, String)> {
        if let Some(database) = &name.database
            && database != crate::catalog::object::DATABASE
        {
            return Err(Error::unsupported(format!(
                "cross-database references are not implemented: \"{name}\""
            )));
        }
        let schema =
            match &name.schema {
                Some(schema) => schema.clone(),
                None => self.search_path.iter().find(|s| self.catalog.has_schema(s)).cloned().ok_or_else(
                    || Error::new(ErrorKind::UndefinedSchema, "no schema has been selected to create in"),
                )?,
            };
        if ["pg_catalog", "information_schema", "freshet"].contains(&schema.as_str()) {
            return Err(Error::new(
                ErrorKind::InsufficientPrivilege,
                format!("permission denied to create \"{schema}.{}\"", name.name),
            )
            .with_detail("System catalog modifications are currently disallowed."));
        }
        if !self.catalog.has_schema(&schema) {
            return Err(Error::new(
                ErrorKind::UndefinedSchema,
                format!("schema \"{schema}\" does not exist"),
            ));
        }
        Ok((schema, name.name.clone()))
    }

    /// The object a name means along the search path.
    pub fn find(&self, name: &Name) -> Option<Arc<Object>> {
        find(self.catalog, &self.search_path, name)
    }

    /// Whether the name is taken; with IF NOT EXISTS that is a NOTICE, otherwise an error.
    fn exists(&mut self, schema: &str, name: &str, if_not_exists: bool) -> Result<bool> {
        if self.catalog.find(schema, name).is_none() {
            return Ok(false);
        }
        let message = format!("relation \"{name}\" already exists");
        if if_not_exists {
            self.notices.push(Error::new(ErrorKind::DuplicateTable, format!("{message}, skipping")));
            return Ok(true);
        }
        Err(Error::new(ErrorKind::DuplicateTable, message))
    }

    fn object(&self, schema: &str, name: &str, columns: Vec<Column>, body: ObjectBody) -> Object {
        Object {
            id: self.shared.allocate_oid(),
            schema: schema.to_string(),
            name: name.to_string(),
            columns,
            body,
            depends_on: Vec::new(),
            ddl: self.text.to_string(),
            search_path: self.search_path.clone(),
            comment: None,
        }
    }

    fn create(&mut self, object: Object, plan: Option<Arc<Plan>>) -> Result<ObjectId> {
        let id = object.id;
        self.catalog.insert(object.clone())?;
        self.ops.push(DdlOp::Create(Box::new(object), plan));
        Ok(id)
    }

    fn create_companion(
        &mut self,
        of: &Object,
        name: String,
        role: &str,
        columns: Vec<Column>,
    ) -> Result<()> {
        let mut companion = self.object(
            &of.schema,
            &name,
            columns,
            ObjectBody::Companion { of: of.id, role: role.to_string() },
        );
        companion.ddl = String::new();
        self.create(companion, None).map(drop)
    }

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

    fn create_late_companion(&mut self, object: &Object) -> Result<()> {
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

    fn columns(&self, defs: &[ColumnDef]) -> Result<Vec<Column>> {
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
    fn constraints(
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

    fn watermark(
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

    /// CREATE [OR REPLACE] VIEW and CREATE MATERIALIZED VIEW.
    pub fn create_view(&mut self, stmt: &CreateView) -> Result<()> {
        if stmt.temporary {
            return Err(Error::unsupported("temporary views are not supported"));
        }
        let (schema, name) = self.new_name(&stmt.name)?;
        if let Some(old) = self.catalog.find(&schema, &name).cloned() {
            if stmt.or_replace && !stmt.materialized {
                return self.replace_view(stmt, &old);
            }
            if stmt.or_replace {
                return Err(Error::unsupported("CREATE OR REPLACE MATERIALIZED VIEW is not supported")
                    .with_hint("DROP MATERIALIZED VIEW and create it again."));
            }
        }
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        if !stmt.materialized {
            no_options(&stmt.options)?;
            if stmt.emit.is_some() {
                return Err(Error::unsupported("EMIT needs a materialized view"));
            }
        } else {
            view_options(&stmt.options)?;
        }
        let bound = self.bind(stmt)?;
        let columns = view_columns(&bound, &stmt.columns)?;
        if !stmt.materialized {
            let body = ObjectBody::View { query: stmt.query.text.clone() };
            let mut object = self.object(&schema, &name, columns, body);
            object.depends_on = bound.depends_on.clone();
            self.create(object, None)?;
            return Ok(());
        }
        let emit = stmt.emit.unwrap_or_default();
        let plan = self.plan(&bound, emit)?;
        self.notice_unbounded(&plan);
        let body = ObjectBody::MaterializedView {
            query: stmt.query.text.clone(),
            emit_on_window_close: emit == Emit::OnWindowClose,
            unique_key: plan.facts().best_key().map(<[usize]>::to_vec).unwrap_or_default(),
            append_only: plan.facts().append_only,
            watermark_columns: plan.facts().watermarks.clone(),
        };
        let mut object = self.object(&schema, &name, columns, body);
        object.depends_on = bound.depends_on.clone();
        self.create(object.clone(), Some(plan))?;
        let errors = columns_of(&eval_error::schema());
        self.create_companion(&object, format!("{name}$errors"), "errors", errors)
    }

    fn bind(&self, stmt: &CreateView) -> Result<BoundQuery> {
        let context = (self.context)(self.catalog, stmt.materialized);
        let bound = bind::bind_query(&stmt.query.ast, &context)?;
        if !bound.param_types.is_empty() {
            return Err(Error::new(ErrorKind::UndefinedParameter, "there is no parameter $1")
                .with_detail("A view's query cannot have parameters."));
        }
        Ok(bound)
    }

    fn plan(&self, bound: &BoundQuery, emit: Emit) -> Result<Arc<Plan>> {
        plan_query(bound, self.catalog, emit)
    }

    fn notice_unbounded(&mut self, plan: &Plan) {
        for sentence in plan.facts().unbounded_state.clone() {
            self.notices.push(
                Error::new(ErrorKind::ConfigurationLimit, sentence)
                    .with_hint("A watermark, a window or a temporal filter would bound it."),
            );
        }
    }

    fn replace_view(&mut self, stmt: &CreateView, old: &Object) -> Result<()> {
        if !matches!(old.body, ObjectBody::View { .. }) {
            return Err(Error::new(ErrorKind::WrongObjectType, format!("\"{}\" is not a view", old.name)));
        }
        let bound = self.bind(stmt)?;
        if bound.depends_on.contains(&old.id) {
            return Err(Error::new(
                ErrorKind::InvalidObjectDefinition,
                format!("infinite recursion detected in rules for relation \"{}\"", old.name),
            ));
        }
        let columns = view_columns(&bound, &stmt.columns)?;
        for (i, was) in old.columns.iter().enumerate() {
            match columns.get(i) {
                None => {
                    return Err(Error::new(
                        ErrorKind::InvalidTableDefinition,
                        "cannot drop columns from view",
                    ));
                }
                Some(is) if is.name != was.name => {
                    return Err(Error::new(
                        ErrorKind::InvalidTableDefinition,
                        format!("cannot change name of view column \"{}\" to \"{}\"", was.name, is.name),
                    )
                    .with_hint(
                        "Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.",
                    ));
                }
                Some(is) if is.pg_type() != was.pg_type() => {
                    return Err(Error::new(
                        ErrorKind::InvalidTableDefinition,
                        format!(
                            "cannot change data type of view column \"{}\" from {} to {}",
                            was.name,
                            was.pg_type().sql_name(),
                            is.pg_type().sql_name()
                        ),
                    ));
                }
                Some(_) => {}
            }
        }
        if let Some(d) = self
            .catalog
            .dependents(old.id)
            .iter()
            .find(|o| matches!(o.body, ObjectBody::MaterializedView { .. } | ObjectBody::Sink { .. }))
        {
            return Err(Error::new(
                ErrorKind::DependentObjects,
                format!(
                    "cannot replace view {} because {} {} is maintained from it",
                    old.name,
                    d.kind_name(),
                    d.name
                ),
            )
            .with_hint("Drop the dependent objects first."));
        }
        let mut new = old.clone();
        new.columns = columns;
        new.body = ObjectBody::View { query: stmt.query.text.clone() };
        new.depends_on = bound.depends_on;
        new.ddl = self.text.to_string();
        new.search_path = self.search_path.clone();
        self.replace(new)
    }

    fn replace(&mut self, object: Object) -> Result<()> {
        self.catalog.replace(object.clone())?;
        self.ops.push(DdlOp::Replace(Box::new(object)));
        Ok(())
    }

    /// CREATE SINK.
    pub fn create_sink(&mut self, stmt: &CreateSink) -> Result<()> {
        let (schema, name) = self.new_name(&stmt.name)?;
        if self.exists(&schema, &name, stmt.if_not_exists)? {
            return Ok(());
        }
        let mut options: BTreeMap<String, String> =
            stmt.options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let connector = options.remove("connector").ok_or_else(|| {
            Error::new(ErrorKind::InvalidParameter, "a sink needs the option \"connector\"")
                .with_hint("Connectors: blackhole.")
        })?;
        drop(crate::connector::sink::open(&connector, &options)?);
        if stmt.format.is_some() {
            return Err(Error::unsupported("FORMAT of a blackhole sink is not supported"));
        }
        let query = match &stmt.from {
            Target::Relation(relation) => format!("SELECT * FROM {relation}"),
            Target::Query(query) => query.text.clone(),
        };
        let context = (self.context)(self.catalog, true);
        let bound = bind::bind_query_text(&query, &context)?;
        let plan = self.plan(&bound, stmt.emit.unwrap_or_default())?;
        self.notice_unbounded(&plan);
        let mut object =
            self.object(&schema, &name, Vec::new(), ObjectBody::Sink { query, connector, options });
        object.depends_on = bound.depends_on;
        self.create(object, Some(plan)).map(drop)
    }

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

    fn free_index_name(&self, table: &Object, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|c| table.columns[*c].name.as_str()).collect();
        let base = format!("{}_{}_idx", table.name, names.join("_"));
        std::iter::once(base.clone())
            .chain((1..).map(|n| format!("{base}{n}")))
            .find(|name| self.catalog.find(&table.schema, name).is_none())
            .unwrap_or(base)
    }

    /// CREATE SCHEMA.
    pub fn create_schema(&mut self, stmt: &CreateSchema) -> Result<()> {
        if self.catalog.has_schema(&stmt.name) && stmt.if_not_exists {
            let message = format!("schema \"{}\" already exists, skipping", stmt.name);
            self.notices.push(Error::new(ErrorKind::DuplicateSchema, message));
            return Ok(());
        }
        if stmt.name.starts_with("pg_") {
            return Err(Error::new(
                ErrorKind::ReservedName,
                format!("unacceptable schema name \"{}\"", stmt.name),
            )
            .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        self.catalog.add_schema(&stmt.name)?;
        self.ops.push(DdlOp::CreateSchema(stmt.name.clone()));
        Ok(())
    }

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

    fn check_kind(&self, kind: ObjectKind, object: &Object) -> Result<()> {
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

    fn drop_schema(&mut self, stmt: &Drop, name: &str) -> Result<()> {
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
    fn drop_tree(&mut self, object: &Object, cascade: bool) -> Result<()> {
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

    /// COMMENT ON.
    pub fn comment(&mut self, stmt: &Comment) -> Result<()> {
        let object = self.find(&stmt.name).ok_or_else(|| undefined(&stmt.name))?;
        let mut object = (*object).clone();
        match &stmt.column {
            None => object.comment = stmt.comment.clone(),
            Some(name) => {
                let at = position(&object.columns, name).ok_or_else(|| {
                    Error::new(
                        ErrorKind::UndefinedColumn,
                        format!("column \"{name}\" of relation \"{}\" does not exist", object.name),
                    )
                })?;
                object.columns[at].comment = stmt.comment.clone();
            }
        }
        self.replace(object)
    }

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

    fn check_kind_for_rename(&self, kind: ObjectKind, object: &Object) -> Result<()> {
        // PostgreSQL lets ALTER TABLE rename views and indexes too.
        if kind == ObjectKind::Table { Ok(()) } else { self.check_kind(kind, object) }
    }
}

/// The object a name means along a search path.
pub fn find(catalog: &Catalog, search_path: &[String], name: &Name) -> Option<Arc<Object>> {
    match &name.schema {
        Some(schema) => catalog.find(schema, &name.name).cloned(),
        None => search_path.iter().find_map(|s| catalog.find(s, &name.name)).cloned(),
    }
}

/// `relation "x" does not exist`.
pub fn undefined(name: &Name) -> Error {
    Error::new(ErrorKind::UndefinedTable, format!("relation \"{name}\" does not exist"))
}

/// The incremental plan of a bound query, or why there is none.
pub fn plan_query(bound: &BoundQuery, catalog: &Catalog, emit: Emit) -> Result<Arc<Plan>> {
    let optimized = bind::optimize_for_view(bound.plan.clone())?;
    let emit = match emit {
        Emit::OnUpdate => plan::Emit::OnUpdate,
        Emit::OnWindowClose => plan::Emit::OnWindowClose,
    };
    Ok(Arc::new(plan::lower::lower(&optimized, catalog, emit)?))
}

/// The columns of a view: those of its query, under the names given.
fn view_columns(bound: &BoundQuery, names: &[String]) -> Result<Vec<Column>> {
    if names.len() > bound.columns.len() {
        return Err(Error::new(ErrorKind::Syntax, "CREATE VIEW specifies more column names than columns"));
    }
    let mut columns: Vec<Column> = Vec::with_capacity(bound.columns.len());
    for (i, output) in bound.columns.iter().enumerate() {
        let name = names.get(i).unwrap_or(&output.name);
        if columns.iter().any(|c| &c.name == name) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        let mut column = Column::of_field(name, bound.plan.schema().field(i));
        column.type_oid = output.pg_type.oid;
        column.typmod = output.pg_type.typmod;
        columns.push(column);
    }
    Ok(columns)
}

/// The columns of a fixed Arrow schema.
fn columns_of(schema: &arrow::datatypes::Schema) -> Vec<Column> {
    schema.fields().iter().map(|f| Column::of_field(f.name(), f)).collect()
}

fn position(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|c| c.name == name)
}

fn no_options(options: &Options) -> Result<()> {
    match options.iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::new(ErrorKind::InvalidParameter, format!("unrecognized parameter \"{name}\"")))
        }
    }
}

/// The options of a materialized view that are understood; the rest is refused, not ignored.
fn view_options(options: &Options) -> Result<()> {
    match options.iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::unsupported(format!("option \"{name}\" of a materialized view is not supported")))
        }
    }
}
