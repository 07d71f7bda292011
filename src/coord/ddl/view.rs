//! CREATE VIEW, CREATE MATERIALIZED VIEW and CREATE SINK: queries that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Definer, columns_of, no_options, plan_query, view_columns, view_options};
use crate::catalog::{Object, ObjectBody};
use crate::error::{Error, ErrorKind, Result};
use crate::expr::eval_error;
use crate::plan::Plan;
use crate::sql::bind::{self, BoundQuery};
use crate::sql::statement::{CreateSink, CreateView, Emit, Target};

impl Definer<'_> {
    /// CREATE [OR REPLACE] VIEW and CREATE MATERIALIZED VIEW.
    pub fn create_view(&mut self, stmt: &CreateView) -> Result<()> {
        if stmt.temporary && stmt.materialized {
            return Err(Error::unsupported("temporary materialized views are not supported"));
        }
        let (mut schema, name) = self.new_name_in(&stmt.name, stmt.temporary)?;
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
        if self.reads_temporary(&bound) && !super::is_temporary(&schema) {
            if stmt.materialized {
                return Err(Error::unsupported("materialized views must not use temporary tables or views"));
            }
            let message = format!("view \"{name}\" will be a temporary view");
            self.notices.push(Error::new(ErrorKind::InvalidTableDefinition, message));
            schema = self.temporary_schema()?;
        }
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

    pub(super) fn bind(&self, stmt: &CreateView) -> Result<BoundQuery> {
        let context = (self.context)(self.catalog, stmt.materialized);
        let bound = bind::bind_query(&stmt.query.ast, &context)?;
        if !bound.param_types.is_empty() {
            return Err(Error::new(ErrorKind::UndefinedParameter, "there is no parameter $1")
                .with_detail("A view's query cannot have parameters."));
        }
        Ok(bound)
    }

    fn reads_temporary(&self, bound: &BoundQuery) -> bool {
        let temporary = |o: &std::sync::Arc<Object>| super::is_temporary(&o.schema);
        bound.depends_on.iter().any(|id| self.catalog.get(*id).is_some_and(temporary))
    }

    pub(super) fn plan(&self, bound: &BoundQuery, emit: Emit) -> Result<Arc<Plan>> {
        plan_query(bound, self.catalog, emit)
    }

    pub(super) fn notice_unbounded(&mut self, plan: &Plan) {
        for sentence in plan.facts().unbounded_state.clone() {
            self.notices.push(
                Error::new(ErrorKind::ConfigurationLimit, sentence)
                    .with_hint("A watermark, a window or a temporal filter would bound it."),
            );
        }
    }

    pub(super) fn replace_view(&mut self, stmt: &CreateView, old: &Object) -> Result<()> {
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
}
