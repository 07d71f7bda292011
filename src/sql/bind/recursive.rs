//! WITH RECURSIVE: the working table, and the types of its columns, which the non-recursive term decides.
//!
//! Boundary: typing; who runs the recursion reads [`LogicalPlan::RecursiveQuery`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{
    Expr, LogicalPlan, Projection, RecursiveQuery, TableScanBuilder, TableSource,
};

use super::resolve::{Resolver, to_arrow, wider};
use super::resolve_plan::output_operand;
use crate::error::{Error, ErrorKind};
use crate::sql::functions::cast::CastContext;
use crate::sql::functions::{DfResult, df_error, sets};
use crate::types::PgType;

/// The relation that stands for the rows of the step before.
pub(super) fn work_table(name: &str, schema: SchemaRef) -> Arc<dyn TableSource> {
    provider_as_source(Arc::new(CteWorkTable::new(name, schema)))
}

/// The name of the recursive query whose working table this is.
fn work_table_name(source: &dyn TableSource) -> Option<&str> {
    let source: &dyn std::any::Any = source;
    let source = source.downcast_ref::<datafusion::datasource::DefaultTableSource>()?;
    let table: &dyn std::any::Any = source.table_provider.as_ref();
    table.downcast_ref::<CteWorkTable>().map(CteWorkTable::name)
}

impl Resolver<'_> {
    pub(super) fn recursive(&mut self, r: RecursiveQuery) -> DfResult<LogicalPlan> {
        let provisional = r.static_term.schema().clone();
        let start = self.plan(Arc::unwrap_or_clone(r.static_term))?;
        let start = self.settle_outputs(start)?;
        let fields: Vec<_> =
            start.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let source = work_table(&r.name, Arc::new(Schema::new(fields)));
        let mut references = 0;
        let step =
            Arc::unwrap_or_clone(r.recursive_term).transform_up_with_subqueries(|node| match node {
                LogicalPlan::TableScan(scan) if work_table_name(scan.source.as_ref()) == Some(&r.name) => {
                    references += 1;
                    let scan = TableScanBuilder::new(scan.table_name, source.clone()).build()?;
                    Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
                }
                node => Ok(Transformed::no(node)),
            })?;
        if references > 1 {
            return Err(df_error(Error::unsupported(format!(
                "recursive reference to query \"{}\" must not appear more than once",
                r.name
            ))));
        }
        let step = match step.data {
            LogicalPlan::Projection(p) => {
                let exprs = p.expr.into_iter().zip(provisional.fields());
                let exprs = exprs.map(|(e, f)| uncoerced(e, f.data_type())).collect();
                LogicalPlan::Projection(Projection::try_new(exprs, p.input)?)
            }
            other => other,
        };
        let step = self.plan(step)?;
        let mut exprs = Vec::with_capacity(provisional.fields().len());
        for (i, f) in start.schema().fields().iter().enumerate() {
            let operand = output_operand(&step, i)?;
            let to = PgType::of_field(f);
            let refused = |overall: PgType| {
                df_error(
                    Error::new(
                        ErrorKind::DatatypeMismatch,
                        format!(
                            "recursive query \"{}\" column {} has type {} in non-recursive term but type {} overall",
                            r.name,
                            i + 1,
                            to.sql_name(),
                            overall.sql_name()
                        ),
                    )
                    .with_hint("Cast the output of the non-recursive term to the correct type."),
                )
            };
            if let Some(from) = operand.known() {
                match wider(to, from) {
                    Some(common) if common.oid == to.oid => {}
                    Some(common) => return Err(refused(common)),
                    None => return Err(refused(from)),
                }
            }
            if let (DataType::Decimal128(_, own), DataType::Decimal128(_, s)) =
                (f.data_type(), operand.field.data_type())
                && s > own
            {
                return Err(df_error(
                    Error::unsupported(format!(
                        "recursive query \"{}\" column {} has more decimal places in the recursive term",
                        r.name,
                        i + 1
                    ))
                    .with_hint("Cast the column in both terms to one numeric(precision, scale)."),
                ));
            }
            let e = if operand.known().is_some_and(|t| t.oid == to.oid) {
                operand.expr
            } else {
                self.coerce(operand, PgType::of(to.oid), CastContext::Implicit).map_err(df_error)?
            };
            let same = super::resolve::field_of(&e, step.schema())?.data_type() == f.data_type();
            let e = if same { e } else { to_arrow(e, f.data_type()) };
            // DataFusion wants the very field of the non-recursive term.
            let e = if f.metadata().is_empty() { e } else { sets::item(e, f) };
            exprs.push(e.alias(f.name()));
        }
        let step = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(step))?);
        let plan = RecursiveQuery::try_new(r.name, Arc::new(start), Arc::new(step), r.is_distinct)?;
        Ok(LogicalPlan::RecursiveQuery(plan))
    }
}

/// Without the cast to the provisional type that DataFusion's builder has put around an output.
fn uncoerced(e: Expr, provisional: &DataType) -> Expr {
    match e {
        Expr::Alias(mut a) => {
            *a.expr = uncoerced(*a.expr, provisional);
            Expr::Alias(a)
        }
        Expr::Cast(c) if c.field.data_type() == provisional && c.field.metadata().is_empty() => *c.expr,
        e => e,
    }
}
