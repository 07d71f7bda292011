//! EXPLAIN: every stage of a statement can be printed.
//!
//! For a view the plan is the incremental one, with the facts that were used; for an ad hoc query it is what DataFusion
//! would run, or the index lookup it amounts to. EXPLAIN ANALYZE of a view shows what its operators have done since
//! it was created.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::ScalarValue;
use datafusion::physical_plan::displayable;
use futures::StreamExt;

use crate::catalog::{Object, ObjectBody};
use crate::coord::backend::{Outcome, OutputColumn, RowsTag};
use crate::coord::ddl;
use crate::coord::select::Bound;
use crate::coord::session::{Parsed, Session};
use crate::coord::show::text_rows;
use crate::dataflow::NodeStats;
use crate::error::{Error, ErrorKind, Result};
use crate::plan;
use crate::read;
use crate::sql::bind;
use crate::sql::point::PointLookup;
use crate::sql::statement::{
    Emit, Explain, ExplainFormat, ExplainStage, ExplainTarget, Name, ParsedStatement, Statement, Target,
};
use crate::types::PgType;

impl Session {
    /// The type of EXPLAIN's one column.
    pub(super) fn explain_type(&self, explain: &Explain) -> PgType {
        match explain.format {
            ExplainFormat::Text => PgType::TEXT,
            ExplainFormat::Json => PgType::of(crate::types::oid::JSON),
        }
    }

    pub(super) async fn explain(&mut self, explain: &Explain) -> Result<Outcome> {
        let text = match &explain.target {
            ExplainTarget::Object { name, .. } => self.explain_object(name, explain).await?,
            ExplainTarget::Statement(statement) => self.explain_statement(statement, explain).await?,
        };
        if explain.format == ExplainFormat::Json {
            let lines: Vec<&str> = text.lines().collect();
            let json =
                serde_json::json!([{ "Plan": { "Node Type": "Freshet", "Output": [], "Lines": lines } }]);
            let column = OutputColumn::computed("QUERY PLAN", self.explain_type(explain));
            let outcome =
                text_rows(&["QUERY PLAN"], vec![vec![Some(json.to_string())]], RowsTag::plain("EXPLAIN"))?;
            return Ok(match outcome {
                Outcome::Rows { stream, tag, .. } => {
                    Outcome::Rows { columns: vec![column].into(), stream, tag }
                }
                other => other,
            });
        }
        let rows = text.lines().map(|l| vec![Some(l.to_string())]).collect();
        text_rows(&["QUERY PLAN"], rows, RowsTag::plain("EXPLAIN"))
    }

    async fn explain_object(&mut self, name: &Name, explain: &Explain) -> Result<String> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let object = ddl::find(&catalog, &self.search_path(), name).ok_or_else(|| ddl::undefined(name))?;
        match &object.body {
            ObjectBody::MaterializedView { query, emit_on_window_close, .. } => {
                let emit = if *emit_on_window_close { Emit::OnWindowClose } else { Emit::OnUpdate };
                self.explain_maintained(&object, query, emit, explain).await
            }
            ObjectBody::Sink { query, .. } => {
                self.explain_maintained(&object, query, Emit::OnUpdate, explain).await
            }
            ObjectBody::View { query } => {
                let parsed = crate::sql::parse(query)?;
                let parsed = parsed.into_iter().next().ok_or_else(|| Error::internal("no statement"))?;
                self.explain_query(&Parsed::new(parsed), explain).await
            }
            ObjectBody::Index { .. }
            | ObjectBody::Sequence(_)
            | ObjectBody::Function(_)
            | ObjectBody::Table { .. }
            | ObjectBody::Source { .. }
            | ObjectBody::Companion { .. } => Err(Error::new(
                ErrorKind::WrongObjectType,
                format!("{} \"{}\" has no plan", object.kind_name(), object.name),
            )),
        }
    }

    async fn explain_maintained(
        &mut self,
        object: &Arc<Object>,
        query: &str,
        emit: Emit,
        explain: &Explain,
    ) -> Result<String> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        let mut context = self.context_over(&catalog, true);
        context.search_path.clone_from(&object.search_path);
        context.written_in = Some(object.clone());
        let bound = bind::bind_query_text(query, &context)?;
        if explain.stage == ExplainStage::Logical {
            return Ok(bound.plan.display_indent().to_string());
        }
        let plan = ddl::plan_query(&bound, &catalog, emit)?;
        if !explain.analyze && explain.stage != ExplainStage::Dataflow {
            return Ok(plan::explain::text(&plan));
        }
        let stats = self.stats().await?;
        let nodes: HashMap<usize, &NodeStats> = stats
            .dataflows
            .iter()
            .filter(|d| d.id == object.id)
            .flat_map(|d| d.nodes.iter().map(|n| (n.node, n)))
            .collect();
        Ok(plan::explain::text_with(&plan, &|node| nodes.get(&node).map_or_else(String::new, |n| remark(n))))
    }

    async fn explain_statement(&mut self, statement: &Statement, explain: &Explain) -> Result<String> {
        let shared = self.shared().clone();
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_) => {
                let parsed = Parsed::new(ParsedStatement {
                    statement: statement.clone(),
                    text: String::new(),
                    offset: 0,
                });
                self.explain_query(&parsed, explain).await
            }
            Statement::CreateView(view) => {
                let catalog = self.transaction().catalog(&shared);
                let context = self.context_over(&catalog, view.materialized);
                let bound = bind::bind_query(&view.query.ast, &context)?;
                self.explain_incremental(&bound, view.emit.unwrap_or_default(), explain)
            }
            Statement::CreateSink(sink) => {
                let text = match &sink.from {
                    Target::Relation(name) => format!("SELECT * FROM {name}"),
                    Target::Query(query) => query.text.clone(),
                };
                let catalog = self.transaction().catalog(&shared);
                let bound = bind::bind_query_text(&text, &self.context_over(&catalog, true))?;
                self.explain_incremental(&bound, sink.emit.unwrap_or_default(), explain)
            }
            Statement::Subscribe(subscribe) => {
                let text = match &subscribe.target {
                    Target::Relation(name) => format!("SELECT * FROM {name}"),
                    Target::Query(query) => query.text.clone(),
                };
                let catalog = self.transaction().catalog(&shared);
                let bound = bind::bind_query_text(&text, &self.context_over(&catalog, true))?;
                self.explain_incremental(&bound, Emit::OnUpdate, explain)
            }
            Statement::Execute(execute) => {
                let (parsed, _) = self.prepared(&execute.name)?;
                self.explain_query(&parsed, explain).await
            }
            other => Err(Error::unsupported(format!("EXPLAIN of {} is not supported", other.tag()))),
        }
    }

    fn explain_incremental(
        &mut self,
        bound: &bind::BoundQuery,
        emit: Emit,
        explain: &Explain,
    ) -> Result<String> {
        let shared = self.shared().clone();
        let catalog = self.transaction().catalog(&shared);
        match explain.stage {
            ExplainStage::Logical => Ok(bound.plan.display_indent().to_string()),
            ExplainStage::Rules => {
                let optimized = bind::optimize_for_view(bound.plan.clone())?;
                Ok(format!(
                    "Bound:\n{}\nOptimized:\n{}\nPlan:\n{}",
                    indent(&bound.plan.display_indent().to_string()),
                    indent(&optimized.display_indent().to_string()),
                    indent(&plan::explain::text(&*ddl::plan_query(bound, &catalog, emit)?))
                ))
            }
            _ => Ok(plan::explain::text(&*ddl::plan_query(bound, &catalog, emit)?)),
        }
    }

    async fn explain_query(&mut self, parsed: &Arc<Parsed>, explain: &Explain) -> Result<String> {
        let prepared = self.bound(parsed, &[])?;
        let (plan, point, params) = match &prepared.bound {
            Bound::Query { query, point, .. } => (query.plan.clone(), point.as_ref(), &query.param_types),
            Bound::Dml(dml) => (dml.source.clone(), None, &dml.param_types),
        };
        let shared = self.shared().clone();
        let snapshot = self.transaction().snapshot(&shared);
        if explain.stage == ExplainStage::Logical {
            return Ok(plan.display_indent().to_string());
        }
        if let (Some(point), ExplainStage::Plan) = (point, explain.stage)
            && let Some(line) = describe_lookup(point, &snapshot.world.catalog)
        {
            return Ok(line);
        }
        // Parameters have no values here: NULLs of their types let the plan be shown.
        let nulls =
            params.iter().map(|t| Ok(ScalarValue::try_from(&t.arrow())?)).collect::<Result<Vec<_>>>()?;
        let plan = bind::substitute_params(plan, &nulls, nulls.len())?;
        if explain.analyze {
            if !matches!(parsed.statement(), Statement::Query(_)) {
                return Err(Error::unsupported(
                    "EXPLAIN ANALYZE of a statement that writes is not supported",
                ));
            }
            let started = Instant::now();
            let mut stream = self.run_plan(plan.clone(), &snapshot)?;
            let mut rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch?.num_rows();
            }
            let took = started.elapsed();
            let shown = self.physical(plan, &snapshot).await?;
            return Ok(format!(
                "{}\nRows: {rows}\nExecution Time: {:.3} ms",
                shown.trim_end(),
                took.as_secs_f64() * 1e3
            ));
        }
        self.physical(plan, &snapshot).await
    }

    async fn physical(
        &mut self,
        plan: datafusion::logical_expr::LogicalPlan,
        snapshot: &Arc<crate::coord::transaction::Snapshot>,
    ) -> Result<String> {
        let stats = Some(self.stats().await?);
        let resolver = self.resolver(snapshot, stats)?;
        let plan = read::query::resolve(plan, &resolver, &snapshot.pin)?;
        let state = self.server.inner.query_state.clone();
        let physical = state.create_physical_plan(&plan).await?;
        Ok(displayable(&*physical).indent(false).to_string())
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}

fn remark(n: &NodeStats) -> String {
    format!(
        "  rows_in={} rows_out={} state_rows={} state_bytes={} time={:.3}ms",
        n.rows_in,
        n.rows_out,
        n.state_rows,
        n.state_bytes,
        n.busy.as_secs_f64() * 1e3
    )
}

fn describe_lookup(point: &PointLookup, catalog: &crate::catalog::Catalog) -> Option<String> {
    let object = catalog.get(point.object)?;
    let names: Vec<&str> =
        point.columns.iter().filter_map(|c| object.columns.get(*c)).map(|c| c.name.as_str()).collect();
    let by = if point.prefix { "key prefix" } else { "by" };
    Some(format!("Index Lookup on {} {by} ({}), {} key(s)", object.name, names.join(", "), point.keys.len()))
}
