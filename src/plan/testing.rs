//! SQL text to plans for the unit tests of `plan` and `dataflow`, with DataFusion's own planner.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion::sql::parser::DFParser;
use datafusion::sql::planner::SqlToRel;

use crate::catalog::object::LateRows;
use crate::catalog::object::WatermarkSpec;
use crate::catalog::{Catalog, CatalogTable, Column, Object, ObjectBody, ObjectId};
use crate::error::Result;
use crate::plan::{Emit, Plan, lower};
use crate::types::PgType;

/// `t(id primary key, g, v, at)`, `u(k, w)`, and `s(id, g, v, ts)` insert-only with a watermark on ts.
pub(crate) fn catalog() -> Catalog {
    let mut catalog = Catalog::new();
    let mut add = |name: &str, columns: &[(&str, PgType)], body: ObjectBody| {
        let id = catalog.allocate_id();
        let columns = columns.iter().map(|(n, t)| Column::new(*n, *t)).collect();
        let object = Object {
            id,
            schema: "public".into(),
            name: name.into(),
            columns,
            body,
            depends_on: vec![],
            ddl: String::new(),
            search_path: Vec::new(),
            comment: None,
            seen: Vec::new(),
        };
        catalog.insert(object).unwrap();
    };
    let table = |primary_key: Vec<usize>| ObjectBody::Table {
        primary_key,
        append_only: false,
        watermark: None,
        checks: vec![],
        options: Default::default(),
    };
    let columns = |time: &'static str| {
        [("id", PgType::INT8), ("g", PgType::TEXT), ("v", PgType::INT8), (time, PgType::TIMESTAMPTZ)]
    };
    add("t", &columns("at"), table(vec![0]));
    add("u", &[("k", PgType::INT8), ("w", PgType::TEXT)], table(vec![]));
    let watermark = WatermarkSpec {
        column: 3,
        delay: 0,
        allowed_lateness: 0,
        idle_timeout: None,
        late_rows: LateRows::Drop,
    };
    let stream = ObjectBody::Table {
        primary_key: vec![],
        append_only: true,
        watermark: Some(watermark),
        checks: vec![],
        options: Default::default(),
    };
    add("s", &columns("ts"), stream.clone());
    add("s2", &columns("ts"), stream);
    catalog
}

/// Id of a relation of [`catalog`].
pub(crate) fn id_of(catalog: &Catalog, name: &str) -> ObjectId {
    catalog.find("public", name).unwrap().id
}

struct Provider {
    catalog: Catalog,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl ContextProvider for Provider {
    fn get_table_source(&self, name: TableReference) -> datafusion::common::Result<Arc<dyn TableSource>> {
        match self.catalog.find("public", name.table()) {
            Some(object) => Ok(Arc::new(CatalogTable::new(object.clone()))),
            None => datafusion::common::plan_err!("no table {name}"),
        }
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        SessionStateDefaults::default_scalar_functions()
            .into_iter()
            .find(|f| f.name() == name || f.aliases().iter().any(|a| a == name))
    }
    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        SessionStateDefaults::default_aggregate_functions()
            .into_iter()
            .find(|f| f.name() == name || f.aliases().iter().any(|a| a == name))
    }
    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        SessionStateDefaults::default_window_functions().into_iter().find(|f| f.name() == name)
    }
    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }
    fn options(&self) -> &ConfigOptions {
        &self.options
    }
    fn udf_names(&self) -> Vec<String> {
        vec![]
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }
    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }
    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// The analyzed plan of a query; `optimized` runs all of DataFusion's rules that keep `now()` as it is.
pub(crate) fn logical(sql: &str, catalog: &Catalog, optimized: bool) -> LogicalPlan {
    let mut options = ConfigOptions::default();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    let planners = SessionStateDefaults::default_expr_planners();
    let provider = Provider { catalog: catalog.clone(), options: options.clone(), planners };
    let statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
    let plan = SqlToRel::new(&provider).statement_to_plan(statement).unwrap();
    let plan = Analyzer::new().execute_and_check(plan, &options, |_, _| {}).unwrap();
    let rules = Optimizer::new()
        .rules
        .into_iter()
        .filter(|r| {
            let always = matches!(
                r.name(),
                "decorrelate_predicate_subquery" | "scalar_subquery_to_join" | "eliminate_cross_join"
            );
            always
                || (optimized && !matches!(r.name(), "simplify_expressions" | "replace_distinct_aggregate"))
        })
        .collect();
    Optimizer::with_rules(rules)
        .optimize(plan, &OptimizerContext::new_with_config_options(Arc::new(options)), |_, _| {})
        .unwrap()
}

/// The plan of a query over [`catalog`].
pub(crate) fn lowered(sql: &str, emit: Emit) -> Result<Plan> {
    let catalog = catalog();
    lower::lower(&logical(sql, &catalog, true), &catalog, emit)
}

/// The Arrow schema of a relation of [`catalog`].
pub(crate) fn schema_of(catalog: &Catalog, name: &str) -> SchemaRef {
    catalog.find("public", name).unwrap().arrow_schema()
}
