//! What DataFusion's planner asks while it resolves names: relations, functions, types.
//!
//! Boundary: answers from the bind context; every scalar function and operator is answered with a symbol.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawBinaryExpr, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, TableType,
    WindowUDF,
};
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use parking_lot::Mutex;
use sqlparser::ast::{BinaryOperator, Query, Statement};

use super::{BindContext, merged, prepare, tvf, using};
use crate::catalog::object::Seen;
use crate::catalog::{CatalogTable, Object, ObjectBody, ObjectId};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::functions::{DfResult, Symbol, aggregates, df_error, windows};

/// The schema under which a table's own number names all of its columns, also those that have been dropped.
pub const PHYSICAL: &str = "\u{1}physical";
/// Views nested deeper than this are refused.
const MAX_VIEW_DEPTH: usize = 64;
/// Columns of USING and NATURAL joins that one query's conditions name.
const MAX_MERGED: usize = 32;

/// A relation of the server itself, as plans name it.
#[derive(Debug)]
pub struct SystemTable {
    /// Schema.
    pub schema_name: String,
    /// Name.
    pub name: String,
    schema: SchemaRef,
}

impl TableSource for SystemTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn table_type(&self) -> TableType {
        TableType::View
    }
}

/// A plain view: its query stands where it is named.
struct ViewSource {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// The answers for one statement.
pub struct Provider<'a> {
    context: &'a BindContext<'a>,
    options: ConfigOptions,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    views: Mutex<Vec<ObjectId>>,
    /// The stored objects whose texts are being planned, the innermost last.
    scopes: Mutex<Vec<Arc<Object>>>,
}

impl<'a> Provider<'a> {
    /// The provider of a context.
    pub fn new(context: &'a BindContext<'a>) -> Self {
        Provider {
            context,
            options: ConfigOptions::default(),
            expr_planners: vec![Arc::new(Symbols)],
            relation_planners: vec![Arc::new(tvf::TableFunctions)],
            views: Mutex::new(Vec::new()),
            scopes: Mutex::new(context.written_in.iter().cloned().collect()),
        }
    }

    /// The relations that were named, also where the plan does not read them (an unused WITH query), and the views
    /// that were expanded.
    pub fn views(&self) -> Vec<ObjectId> {
        self.views.lock().clone()
    }

    /// DataFusion's planner over this provider.
    pub fn planner(&self) -> SqlToRel<'_, Provider<'a>> {
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(true)
            .with_map_string_types_to_utf8view(false)
            .with_collect_spans(true);
        SqlToRel::new_with_options(self, options)
    }

    /// The plan of a prepared query, with symbols in it.
    pub fn plan(&self, mut query: Query) -> DfResult<LogicalPlan> {
        let names = |query: Query| -> Option<Vec<String>> {
            let plan = self.planner().sql_statement_to_plan(Statement::Query(Box::new(query))).ok()?;
            Some(plan.schema().fields().iter().map(|f| f.name().clone()).collect())
        };
        merged::write_out(&mut query, &names);
        // One name is told apart at a time, so each turn makes progress.
        for _ in 0..MAX_MERGED {
            let planned = self.planner().sql_statement_to_plan(Statement::Query(Box::new(query.clone())));
            match &planned {
                Err(e) => match ambiguous(e) {
                    Some(name) if using::qualify(&mut query, &name) => {}
                    _ => return planned,
                },
                Ok(_) => return planned,
            }
        }
        self.planner().sql_statement_to_plan(Statement::Query(Box::new(query)))
    }

    fn view(&self, object: &Arc<Object>, text: &str) -> Result<Arc<dyn TableSource>> {
        {
            let mut scopes = self.scopes.lock();
            if scopes.len() >= MAX_VIEW_DEPTH {
                return Err(Error::new(ErrorKind::StatementTooComplex, "views are nested too deeply"));
            }
            scopes.push(object.clone());
        }
        let planned = super::with_stack(|| {
            let mut query = parse_query(text)?;
            super::function::inline(&mut query, self.context)?;
            prepare::prepare_query(&mut query, true)?;
            let plan = self.plan(query).map_err(Error::from)?;
            rename(plan, object)
        });
        self.scopes.lock().pop();
        let mut views = self.views.lock();
        if !views.contains(&object.id) {
            views.push(object.id);
        }
        let plan = planned?;
        Ok(Arc::new(ViewSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
    }

    fn relation(&self, name: &TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(database) = name.catalog()
            && database != self.context.database
        {
            return Err(Error::unsupported(format!(
                "cross-database references are not implemented: \"{name}\""
            )));
        }
        if name.schema() == Some(PHYSICAL) {
            let id = name.table().parse().ok().map(ObjectId);
            let object = id.and_then(|id| self.context.catalog.get(id)).cloned();
            let object = object.ok_or_else(|| Error::internal("no table of this number"))?;
            return Ok(Arc::new(CatalogTable::new(object)));
        }
        let scope = self.scopes.lock().last().cloned();
        let own = scope.as_ref().map(|o| &o.search_path).filter(|p| !p.is_empty());
        let path = own.unwrap_or(&self.context.search_path);
        let schemas: Vec<&str> = match name.schema() {
            Some("pg_temp") => {
                path.iter().map(String::as_str).filter(|s| s.starts_with("pg_temp_")).collect()
            }
            Some(s) => vec![s],
            None => path.iter().map(String::as_str).collect(),
        };
        for schema in schemas {
            let seen =
                scope.iter().flat_map(|o| &o.seen).find(|s| s.schema == schema && s.name == name.table());
            let found = match seen {
                Some(seen) => self.context.catalog.get(seen.id),
                // What has come up since under a name that the query's relation had is not what it means.
                None => self.context.catalog.find(schema, name.table()).filter(|o| {
                    scope.as_ref().is_none_or(|s| {
                        s.depends_on.is_empty()
                            || s.depends_on.contains(&o.id) && !s.seen.iter().any(|seen| seen.id == o.id)
                    })
                }),
            };
            if let Some(object) = found
                && object.is_relation()
            {
                let mut named = self.views.lock();
                if !named.contains(&object.id) {
                    named.push(object.id);
                }
                drop(named);
                if let Some(seen) = seen {
                    return self.as_seen(object, seen);
                }
                return match &object.body {
                    ObjectBody::View { query } => self.view(object, query),
                    ObjectBody::Source { keeps_history: false, .. } if !self.context.in_view => {
                        Err(Error::unsupported(format!("source \"{}\" does not keep its rows", object.name))
                            .with_hint("Create a materialized view on it, or let it keep its history."))
                    }
                    _ if object.columns.iter().any(|c| c.dropped) => live(object),
                    _ => Ok(Arc::new(CatalogTable::new(object.clone()))),
                };
            }
            if let Some(columns) = self.context.system.relation(schema, name.table()) {
                return Ok(Arc::new(SystemTable {
                    schema_name: schema.to_string(),
                    name: name.table().to_string(),
                    schema: columns,
                }));
            }
        }
        let written = match name.schema() {
            Some(s) => format!("{s}.{}", name.table()),
            None => name.table().to_string(),
        };
        Err(Error::new(ErrorKind::UndefinedTable, format!("relation \"{written}\" does not exist")))
    }
}

impl Provider<'_> {
    /// A relation under the names, and with the columns, that it had.
    fn as_seen(&self, object: &Arc<Object>, seen: &Seen) -> Result<Arc<dyn TableSource>> {
        let plan = match &object.body {
            ObjectBody::View { query } => {
                let view = self.view(object, query)?;
                LogicalPlanBuilder::scan("view", view, None)?.build()?
            }
            _ => {
                let source = Arc::new(CatalogTable::new(object.clone()));
                LogicalPlanBuilder::scan(TableReference::bare(object.name.as_str()), source, None)?.build()?
            }
        };
        let columns = plan.schema().columns();
        let shown = seen.columns.iter().zip(&columns).zip(&object.columns);
        let items: Vec<Expr> = shown
            .filter(|(_, now)| !now.dropped)
            .filter_map(|((was, c), _)| Some(Expr::Column(c.clone()).alias(was.as_ref()?)))
            .collect();
        let plan = LogicalPlanBuilder::from(plan).project(items)?.build()?;
        Ok(Arc::new(ViewSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
    }
}

/// A table without the columns that have been dropped.
fn live(object: &Arc<Object>) -> Result<Arc<dyn TableSource>> {
    let source = Arc::new(CatalogTable::new(object.clone()));
    let scan = LogicalPlanBuilder::scan(TableReference::bare(object.name.as_str()), source, None)?.build()?;
    let columns = scan.schema().columns();
    let items = object.live_columns().map(|(i, c)| Expr::Column(columns[i].clone()).alias(&c.name));
    let plan = LogicalPlanBuilder::from(scan).project(items)?.build()?;
    Ok(Arc::new(ViewSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
}

/// The name that the planner found ambiguous.
fn ambiguous(e: &DataFusionError) -> Option<String> {
    match e {
        DataFusionError::SchemaError(s, _) => match s.as_ref() {
            SchemaError::AmbiguousReference { field } => Some(field.name.clone()),
            _ => None,
        },
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => ambiguous(inner),
        DataFusionError::Collection(all) => ambiguous(all.first()?),
        _ => None,
    }
}

/// Parses a stored query.
pub fn parse_query(text: &str) -> Result<Query> {
    let not_a_query = || Error::new(ErrorKind::Syntax, "a query is needed here");
    let mut statements = crate::sql::parse(text)?;
    let parsed = statements.pop().filter(|_| statements.is_empty()).ok_or_else(not_a_query)?;
    match parsed.statement {
        crate::sql::Statement::Query(query) => Ok(*query),
        _ => Err(not_a_query()),
    }
}

/// The view's own column names over its query's.
fn rename(plan: LogicalPlan, object: &Object) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if columns.len() != object.columns.len() {
        return Err(Error::new(
            ErrorKind::InvalidObjectDefinition,
            format!("view \"{}\" no longer has the columns it was created with", object.name),
        ));
    }
    let items = columns.into_iter().zip(&object.columns).map(|(c, o)| Expr::Column(c).alias(&o.name));
    Ok(LogicalPlanBuilder::from(plan).project(items)?.build()?)
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        self.relation(&name).map_err(df_error)
    }

    fn get_table_function_source(&self, name: &str, _args: Vec<Expr>) -> DfResult<Arc<dyn TableSource>> {
        Err(df_error(Error::new(ErrorKind::UndefinedFunction, format!("function {name} does not exist"))))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> DfResult<Arc<dyn TableSource>> {
        Ok(super::recursive::work_table(name, schema))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let other = is_aggregate(name) || name.starts_with(windows::PREFIX);
        (!other).then(|| Symbol::udf(name))
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        is_aggregate(name).then(|| aggregates::symbol(name))
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        windows::symbol(name)
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Whether an aggregate has this name.
pub fn is_aggregate(name: &str) -> bool {
    aggregate(name).is_some() || aggregates::NAMES.contains(&name)
}

/// The aggregates that DataFusion computes; see [`aggregates`] for the others.
pub fn aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    use datafusion::functions_aggregate as a;
    Some(match name {
        "count" => a::count::count_udaf(),
        "sum" => a::sum::sum_udaf(),
        "avg" => a::average::avg_udaf(),
        "min" => a::min_max::min_udaf(),
        "max" => a::min_max::max_udaf(),
        _ => return None,
    })
}

/// Operators and special syntax as symbols.
#[derive(Debug)]
struct Symbols;

impl ExprPlanner for Symbols {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        if matches!(expr.op, BinaryOperator::And | BinaryOperator::Or) {
            return Ok(PlannerResult::Original(expr));
        }
        let name = match &expr.op {
            BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().cloned().unwrap_or_default(),
            BinaryOperator::PGExp => "^".to_string(),
            BinaryOperator::NotEq => "<>".to_string(),
            op => op.to_string(),
        };
        Ok(PlannerResult::Planned(Symbol::call(&name, vec![expr.left, expr.right])))
    }

    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Symbol::call("make_array", exprs)))
    }

    fn plan_position(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        let [needle, text] = args.as_slice() else { return Ok(PlannerResult::Original(args)) };
        // DataFusion hands over (string, substring) or (substring, string) as its grammar sees them.
        Ok(PlannerResult::Planned(Symbol::call("strpos", vec![needle.clone(), text.clone()])))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Symbol::call("extract", args)))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Symbol::call("substring", args)))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> DfResult<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(Symbol::call("overlay", args)))
    }
}

#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &sqlparser::ast::DataType) -> DfResult<Option<FieldRef>> {
        let pg = crate::sql::types::pg_type(sql_type).map_err(df_error)?;
        Ok(Some(Arc::new(pg.field("", true))))
    }
}
