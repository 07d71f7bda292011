//! Definitions as a session makes them: statement → objects and plans, checked against the catalog it sees.
//!
//! Everything that can be refused is refused here, with names and hints; what remains for the coordinator is whether the
//! catalog has changed in between. The new objects go into the transaction's own catalog at once, so that
//! later statements of the same transaction see them.

mod alter;
mod drop;
mod function;
mod index;
mod sequence;
mod table;
mod view;

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::catalog::{Catalog, Column, Object, ObjectBody, ObjectId};
use crate::coord::Shared;
use crate::coord::command::DdlOp;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{self, Plan};
use crate::sql::bind::{self, BindContext, BoundQuery};
use crate::sql::statement::{Comment, CreateSchema, Emit, Name, Options};
use crate::time::Epoch;

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
    /// The session's schema for temporary objects.
    pub temporary: String,
    /// The rows of a table as the transaction sees them, in the columns it has.
    pub rows: &'a dyn Fn(&Object) -> Result<Vec<RecordBatch>>,
    /// The epoch that the session reads at.
    pub epoch: Epoch,
    /// Columns that rows from before have to be given values for, by (table, column).
    pub fill: Vec<(ObjectId, usize)>,
}

/// Whether a schema holds some session's temporary objects.
pub fn is_temporary(schema: &str) -> bool {
    schema.starts_with("pg_temp_")
}

impl Definer<'_> {
    pub(super) fn new_name(&mut self, name: &Name) -> Result<(String, String)> {
        if let Some(database) = &name.database
            && database != crate::catalog::object::DATABASE
        {
            return Err(Error::unsupported(format!(
                "cross-database references are not implemented: \"{name}\""
            )));
        }
        let schema = match &name.schema {
            Some(schema) if schema == "pg_temp" => self.temporary_schema()?,
            Some(schema) => schema.clone(),
            None => self
                .search_path
                .iter()
                .find(|s| self.catalog.has_schema(s) && !is_temporary(s))
                .cloned()
                .ok_or_else(|| {
                    Error::new(ErrorKind::UndefinedSchema, "no schema has been selected to create in")
                })?,
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

    /// The session's schema for temporary objects, created when it is first needed.
    pub(super) fn temporary_schema(&mut self) -> Result<String> {
        let schema = self.temporary.clone();
        if !self.catalog.has_schema(&schema) {
            self.catalog.add_schema(&schema)?;
            self.ops.push(DdlOp::CreateSchema(schema.clone()));
        }
        Ok(schema)
    }

    /// Schema and name of a new object that may be temporary.
    pub(super) fn new_name_in(&mut self, name: &Name, temporary: bool) -> Result<(String, String)> {
        if !temporary {
            return self.new_name(name);
        }
        if name.schema.as_deref().is_some_and(|s| s != "pg_temp") {
            return Err(Error::new(
                ErrorKind::InvalidTableDefinition,
                "cannot create temporary relation in non-temporary schema",
            ));
        }
        Ok((self.temporary_schema()?, name.name.clone()))
    }

    /// The object a name means along the search path.
    pub fn find(&self, name: &Name) -> Option<Arc<Object>> {
        if name.schema.as_deref() == Some("pg_temp") {
            return self.catalog.find(&self.temporary, &name.name).cloned();
        }
        find(self.catalog, &self.search_path, name)
    }

    /// Whether the name is taken; with IF NOT EXISTS that is a NOTICE, otherwise an error.
    pub(super) fn exists(&mut self, schema: &str, name: &str, if_not_exists: bool) -> Result<bool> {
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

    pub(super) fn object(&self, schema: &str, name: &str, columns: Vec<Column>, body: ObjectBody) -> Object {
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
            seen: Vec::new(),
        }
    }

    pub(super) fn create(&mut self, object: Object, plan: Option<Arc<Plan>>) -> Result<ObjectId> {
        let id = object.id;
        self.catalog.insert(object.clone())?;
        self.ops.push(DdlOp::Create(Box::new(object), plan));
        Ok(id)
    }

    pub(super) fn create_companion(
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

    pub(super) fn replace(&mut self, object: Object) -> Result<()> {
        self.catalog.replace(object.clone())?;
        self.ops.push(DdlOp::Replace(Box::new(object)));
        Ok(())
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
}

/// The object a name means along a search path.
pub fn find(catalog: &Catalog, search_path: &[String], name: &Name) -> Option<Arc<Object>> {
    match &name.schema {
        Some(schema) if schema == "pg_temp" => {
            let temporary = search_path.iter().find(|s| is_temporary(s));
            temporary.and_then(|s| catalog.find(s, &name.name)).cloned()
        }
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
pub(super) fn view_columns(bound: &BoundQuery, names: &[String]) -> Result<Vec<Column>> {
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
pub(super) fn columns_of(schema: &arrow::datatypes::Schema) -> Vec<Column> {
    schema.fields().iter().map(|f| Column::of_field(f.name(), f)).collect()
}

pub(super) fn position(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|c| c.name == name && !c.dropped)
}

pub(super) fn no_options(options: &Options) -> Result<()> {
    match options.iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::new(ErrorKind::InvalidParameter, format!("unrecognized parameter \"{name}\"")))
        }
    }
}

/// The options of a materialized view that are understood; the rest is refused, not ignored.
pub(super) fn view_options(options: &Options) -> Result<()> {
    match options.iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::unsupported(format!("option \"{name}\" of a materialized view is not supported")))
        }
    }
}
