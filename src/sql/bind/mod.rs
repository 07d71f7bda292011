//! Binding: from a parsed query to a typed logical plan with PostgreSQL's semantics.
//!
//! One binder serves ad hoc SELECT, views and SUBSCRIBE. The steps: the syntax tree is prepared ([`prepare`]:
//! output names, constructs DataFusion's planner reads differently), DataFusion's planner resolves names with our
//! [`provider`], every function and operator still a symbol; [`resolve`] then settles all types bottom-up; at last
//! [`decorrelate`] makes joins of subqueries and LATERAL.
//!
//! Boundary: reads the catalog, changes nothing, runs nothing.

mod check_calls;
mod checks;
mod decorrelate;
mod depend;
pub mod dml;
mod entry;
pub mod errors;
mod function;
pub(crate) mod grouping;
mod lateral;
mod merged;
pub mod optimize;
pub mod prepare;
mod provider;
mod quantified;
mod recursive;
mod resolve;
mod resolve_aggregate;
mod resolve_call;
mod resolve_plan;
pub mod scalar;
mod sequences;
mod setops;
mod sets;
mod shape;
mod syntax;
mod tvf;
mod using;
mod window;
mod window_syntax;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ParamValues;
use datafusion::common::ScalarValue;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use sqlparser::ast::Query;

pub use entry::{
    bind_check, bind_default, bind_generated, bind_interval_micros, bind_query_text, bind_statement,
    bind_watermark_delay, check_columns, evaluate_as, evaluate_constant, evaluate_default,
    is_volatile_default, reads_system_tables,
};
pub use function::check_function;
pub use optimize::optimize_for_view;
pub use provider::SystemTable;
use resolve::Resolver;

use crate::catalog::{Catalog, CatalogTable, Object, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::time::EventTime;
use crate::types::PgType;

/// Stack left below which more is taken, and how much: queries nest as deep as users write them.
const RED_ZONE: usize = 12 << 20;
const STACK: usize = 64 << 20;

/// Relations that are not in the catalog: what the server shows of itself.
pub trait SystemTables: Send + Sync {
    /// The columns of a relation of this schema and name, if there is one.
    fn relation(&self, schema: &str, name: &str) -> Option<SchemaRef>;
}

/// No system relations: for expressions and tests.
#[derive(Debug, Default)]
pub struct NoSystemTables;

impl SystemTables for NoSystemTables {
    fn relation(&self, _schema: &str, _name: &str) -> Option<SchemaRef> {
        None
    }
}

/// Where the values of sequences come from.
pub trait SequenceSource: Send + Sync {
    /// The next values of a sequence, in order.
    fn next(&self, sequence: &Object, count: usize) -> Result<Vec<i64>>;
    /// What `next` gave this session last.
    fn current(&self, sequence: &Object) -> Result<i64>;
    /// What `next` gave this session last of any sequence.
    fn last(&self) -> Result<i64>;
    /// Sets a sequence; without `called`, `value` is the next one.
    fn set(&self, sequence: &Object, value: i64, called: bool) -> Result<()>;
}

/// What a statement is bound in.
#[derive(Clone)]
pub struct BindContext<'a> {
    /// The objects.
    pub catalog: Catalog,
    /// Schemas in which unqualified names are looked up.
    pub search_path: Vec<String>,
    /// The session's time zone.
    pub time_zone: String,
    /// The transaction's `now()`.
    pub now: EventTime,
    /// The session's user.
    pub user: String,
    /// The session's database.
    pub database: String,
    /// Types of parameters the client gave; they win over inference.
    pub param_types: Vec<Option<PgType>>,
    /// Whether the query defines a view or sink: `now()` stays a call, volatile functions are refused.
    pub in_view: bool,
    /// System relations.
    pub system: &'a dyn SystemTables,
    /// The whole text the syntax tree was parsed from, for error positions.
    pub text: Option<String>,
    /// The session's sequences; none where nothing may be taken from them.
    pub sequences: Option<Arc<dyn SequenceSource>>,
    /// The stored object whose text is bound: names in it mean what they meant when it was written.
    pub written_in: Option<Arc<Object>>,
}

impl<'a> BindContext<'a> {
    /// A context with the default search path, UTC, and the clock at `now`.
    pub fn new(catalog: Catalog, now: EventTime, system: &'a dyn SystemTables) -> Self {
        BindContext {
            catalog,
            search_path: vec![crate::catalog::object::DEFAULT_SCHEMA.to_string()],
            time_zone: "UTC".to_string(),
            now,
            user: "freshet".to_string(),
            database: crate::catalog::object::DATABASE.to_string(),
            param_types: Vec::new(),
            in_view: false,
            system,
            text: None,
            sequences: None,
            written_in: None,
        }
    }
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// Name as PostgreSQL gives it; names may repeat.
    pub name: String,
    /// Type and modifier.
    pub pg_type: PgType,
    /// The relation it is a plain column of, or 0.
    pub table_oid: u32,
    /// Its number there, from 1, or 0.
    pub attnum: i16,
}

impl OutputColumn {
    /// A computed column.
    pub fn computed(name: impl Into<String>, pg_type: PgType) -> OutputColumn {
        OutputColumn { name: name.into(), pg_type, table_oid: 0, attnum: 0 }
    }
}

/// A query with all names and types settled.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    /// The plan; table sources are [`CatalogTable`] or [`SystemTable`], parameters are placeholders.
    pub plan: LogicalPlan,
    /// The columns as the client sees them.
    pub columns: Vec<OutputColumn>,
    /// Types of the parameters.
    pub param_types: Vec<PgType>,
    /// Objects it reads, views included.
    pub depends_on: Vec<ObjectId>,
    /// Whether it uses `now()` or a like function.
    pub dependent_on_now: bool,
}

impl BoundQuery {
    /// The plan with the parameters' values in place.
    pub fn with_params(&self, values: &[ScalarValue]) -> Result<LogicalPlan> {
        substitute_params(self.plan.clone(), values, self.param_types.len())
    }
}

/// A plan with the parameters' values in place.
pub fn substitute_params(plan: LogicalPlan, values: &[ScalarValue], expected: usize) -> Result<LogicalPlan> {
    if values.is_empty() && expected > 0 {
        return Err(Error::new(ErrorKind::UndefinedParameter, "there is no parameter $1"));
    }
    if values.len() != expected {
        return Err(Error::new(
            ErrorKind::ProtocolViolation,
            format!(
                "bind message supplies {} parameters, but the statement requires {expected}",
                values.len()
            ),
        ));
    }
    if values.is_empty() {
        return Ok(plan);
    }
    let list = values.iter().map(|v| ScalarAndMetadata::new(v.clone(), None)).collect();
    Ok(plan.replace_params_with_values(&ParamValues::List(list))?)
}

/// Binds a query.
pub fn bind_query(query: &Query, context: &BindContext) -> Result<BoundQuery> {
    with_stack(|| {
        let mut binder = Binder::new(context);
        let plan = binder.query(query)?;
        binder.finish(plan)
    })
}

/// Runs with enough stack for deep queries.
pub(crate) fn with_stack<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(RED_ZONE, STACK, f)
}

/// The state of binding one statement.
pub(crate) struct Binder<'a> {
    pub(crate) context: &'a BindContext<'a>,
    pub(crate) resolver: Resolver<'a>,
    pub(crate) depends_on: Vec<ObjectId>,
}

impl<'a> Binder<'a> {
    pub(crate) fn new(context: &'a BindContext<'a>) -> Self {
        Binder { context, resolver: Resolver::new(context), depends_on: Vec::new() }
    }

    /// The resolved plan of a query.
    pub(crate) fn query(&mut self, query: &Query) -> Result<LogicalPlan> {
        let mut query = query.clone();
        let functions = function::inline(&mut query, self.context)?;
        self.note(functions);
        prepare::prepare_query(&mut query, true)?;
        let provider = provider::Provider::new(self.context);
        let plan = provider.plan(query).map_err(|e| errors::planning(e, self.context))?;
        self.note(provider.views());
        self.resolve(plan)
    }

    /// Settles the types of a plan that DataFusion's planner made.
    pub(crate) fn resolve(&mut self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let plan = self.resolver.plan(plan).map_err(|e| errors::planning(e, self.context))?;
        optimize::coerce(plan).map_err(|e| errors::planning(e, self.context))
    }

    /// Remembers objects that the statement reads.
    pub(crate) fn note(&mut self, ids: Vec<ObjectId>) {
        for id in ids {
            if !self.depends_on.contains(&id) {
                self.depends_on.push(id);
            }
        }
    }

    fn finish(mut self, plan: LogicalPlan) -> Result<BoundQuery> {
        let columns = output_columns(&plan);
        let plan = settle_unknown_outputs(plan, &mut self.resolver)?;
        self.note(scanned(&plan)?);
        let mut columns = columns;
        for (column, field) in columns.iter_mut().zip(plan.schema().fields()) {
            column.pg_type = PgType::of_field(field);
        }
        Ok(BoundQuery {
            columns,
            param_types: self.resolver.param_types()?,
            depends_on: self.depends_on,
            dependent_on_now: self.resolver.uses_now,
            plan,
        })
    }
}

/// Outputs that nothing gave a type are text: `SELECT 'a'`, `SELECT $1`, `SELECT NULL`.
fn settle_unknown_outputs(plan: LogicalPlan, resolver: &mut Resolver) -> Result<LogicalPlan> {
    resolver.settle_outputs(plan).map_err(|e| errors::planning(e, resolver.context))
}

/// The catalog objects whose rows a plan reads.
pub fn scanned(plan: &LogicalPlan) -> Result<Vec<ObjectId>> {
    let mut ids = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(object) = catalog_object(scan)
            && !ids.contains(&object)
        {
            ids.push(object);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(ids)
}

fn catalog_object(scan: &datafusion::logical_expr::TableScan) -> Option<ObjectId> {
    let source: &dyn std::any::Any = scan.source.as_ref();
    source.downcast_ref::<CatalogTable>().map(|t| t.object.id)
}

/// The output columns of a plan with the names that [`prepare`] put there.
pub(crate) fn output_columns(plan: &LogicalPlan) -> Vec<OutputColumn> {
    plan.schema()
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let (table_oid, attnum) = origin(plan, i).unwrap_or((0, 0));
            OutputColumn {
                name: prepare::visible_name(field.name()).to_string(),
                pg_type: PgType::of_field(field),
                table_oid,
                attnum,
            }
        })
        .collect()
}

/// The relation and attribute number of which output `index` is a plain column.
fn origin(plan: &LogicalPlan, index: usize) -> Option<(u32, i16)> {
    let of = |input: &LogicalPlan, e: &Expr| {
        let mut e = e;
        while let Expr::Alias(a) = e {
            e = &a.expr;
        }
        let Expr::Column(c) = e else { return None };
        origin(input, input.schema().maybe_index_of_column(c)?)
    };
    match plan {
        LogicalPlan::Projection(p) => of(&p.input, p.expr.get(index)?),
        LogicalPlan::Aggregate(a) => {
            // A group expression that is repeated has one column only.
            let mut groups = a.group_expr.iter().enumerate();
            let (_, e) = groups.by_ref().filter(|(i, e)| !a.group_expr[..*i].contains(e)).nth(index)?;
            of(&a.input, e)
        }
        LogicalPlan::SubqueryAlias(a) => origin(&a.input, index),
        LogicalPlan::Filter(f) => origin(&f.input, index),
        LogicalPlan::Sort(s) => origin(&s.input, index),
        LogicalPlan::Limit(l) => origin(&l.input, index),
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => origin(input, index),
        LogicalPlan::Window(w) => origin(&w.input, index),
        LogicalPlan::Join(j) => {
            let left = j.left.schema().fields().len();
            if index < left { origin(&j.left, index) } else { origin(&j.right, index - left) }
        }
        LogicalPlan::TableScan(scan) => {
            let object = catalog_object(scan)?;
            let column = scan.projection.as_ref().map_or(index, |p| p[index]);
            Some((object.0, i16::try_from(column + 1).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
