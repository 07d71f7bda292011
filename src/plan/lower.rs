//! From DataFusion's logical plan to an incremental [`Plan`], or a refusal with a reason.
//!
//! Lowering goes from the top down. Every step answers a [`Request`]: "these expressions over your columns, of
//! the rows where these conditions hold". Projections, filters and aliases are folded into the request on the
//! way down, so that a chain of them ends as one Map; a node that has rows of its own (scan, join, aggregate, …)
//! lowers itself with only the columns the request needs and puts that Map on top. Filters on `now()` become a
//! Temporal node there.
//!
//! Boundary: the input has been bound, type-coerced and optimised by `sql::bind`. What cannot be maintained exactly is refused with
//! 0A000, never approximated.

mod aggregate;
mod expression;
mod grouping;
mod join;
mod limit;
mod temporal;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Distinct, EmptyRelation, Expr, LogicalPlan, TableScan, Union, Values};

use crate::catalog::{Catalog, CatalogTable, ObjectId};
use crate::error::{Error, Result};
use crate::plan::facts::{self, Facts};
use crate::plan::{Emit, NodeId, Op, Plan, PlanNode};
use expression::{column_of, columns_of, strip, substitute};

/// Decides how `plan` is maintained, with the facts that the catalog tells of its relations.
pub fn lower(plan: &LogicalPlan, catalog: &Catalog, emit: Emit) -> Result<Plan> {
    lower_with(plan, emit, &|id| catalog.get(id).map(|o| facts::of_relation(o)))
}

/// Like [`lower`], with facts of the relations from elsewhere: those of a running view's own plan say more
/// (watermark columns) than its catalog entry.
pub fn lower_with(plan: &LogicalPlan, emit: Emit, known: &dyn Fn(ObjectId) -> Option<Facts>) -> Result<Plan> {
    let mut lowering = Lowering { nodes: Vec::new(), extras: Vec::new(), emit, known };
    let schema = plan.schema();
    let request = Request::columns(schema, &(0..schema.fields().len()).collect::<Vec<_>>());
    let root = lowering.request(plan, request)?;
    let root = lowering.settle_output(root)?;
    if emit == Emit::OnWindowClose && !lowering.has_window_close() {
        return Err(not_closable());
    }
    // A node that is used twice tells its notes twice.
    let mut seen = std::collections::HashSet::new();
    lowering.nodes[root].facts.unbounded_state.retain(|note| seen.insert(note.clone()));
    let names: Vec<Field> = schema
        .fields()
        .iter()
        .zip(lowering.nodes[root].schema.fields())
        .map(|(shown, own)| shown.as_ref().clone().with_data_type(own.data_type().clone()))
        .collect();
    Ok(Plan { nodes: lowering.nodes, schema: Arc::new(Schema::new(names)), emit })
}

/// The refusal of EMIT ON WINDOW CLOSE without a window that closes.
fn not_closable() -> Error {
    Error::unsupported(
        "EMIT ON WINDOW CLOSE needs a GROUP BY on a window of an event time column with a watermark",
    )
    .with_hint(
        "Group by window_end of TUMBLE over an append-only table or source that declares WATERMARK FOR.",
    )
}

/// What is wanted of a node: expressions over its columns, of the rows where all predicates are true.
#[derive(Debug, Clone)]
struct Request {
    exprs: Vec<Expr>,
    fields: Vec<FieldRef>,
    predicates: Vec<Expr>,
}

impl Request {
    /// These columns as they are, of all rows.
    fn columns(schema: &DFSchema, columns: &[usize]) -> Request {
        Request {
            exprs: columns.iter().map(|i| column_of(schema, *i)).collect(),
            fields: columns.iter().map(|i| schema.field(*i).clone()).collect(),
            predicates: Vec::new(),
        }
    }

    /// The same request to a node below, where column `i` of `schema` is `replacements[i]`.
    fn below(&self, schema: &DFSchema, replacements: &[Expr]) -> Result<Request> {
        let all =
            |list: &[Expr]| list.iter().map(|e| substitute(e, schema, replacements)).collect::<Result<_>>();
        Ok(Request {
            exprs: all(&self.exprs)?,
            fields: self.fields.clone(),
            predicates: all(&self.predicates)?,
        })
    }

    /// The columns of `schema` that the request reads; never none, because a batch without columns does not
    /// know how many rows it has.
    fn needed(&self, schema: &DFSchema) -> Result<Vec<usize>> {
        let mut set = BTreeSet::new();
        for e in self.exprs.iter().chain(&self.predicates) {
            set.extend(columns_of(e, schema)?);
        }
        if set.is_empty() && !schema.fields().is_empty() {
            let cheapest = (0..schema.fields().len())
                .min_by_key(|i| schema.field(*i).data_type().primitive_width().unwrap_or(64))
                .unwrap_or(0);
            set.insert(cheapest);
        }
        Ok(set.into_iter().collect())
    }
}

/// What lowering knows of a node beyond its public facts.
#[derive(Debug, Clone, Default)]
struct Extra {
    /// Rows lie on the worker that owns the hash of these columns (in this order); `None`: anywhere.
    partition: Option<Vec<usize>>,
    /// All rows that share a value of one of these columns come in one epoch, once.
    complete: Vec<usize>,
}

struct Lowering<'a> {
    nodes: Vec<PlanNode>,
    extras: Vec<Extra>,
    emit: Emit,
    known: &'a dyn Fn(ObjectId) -> Option<Facts>,
}

impl Lowering<'_> {
    fn add(&mut self, op: Op, inputs: Vec<NodeId>, schema: SchemaRef, facts: Facts, extra: Extra) -> NodeId {
        self.nodes.push(PlanNode { op, inputs, schema, facts });
        self.extras.push(extra);
        self.nodes.len() - 1
    }

    fn facts(&self, node: NodeId) -> &Facts {
        &self.nodes[node].facts
    }

    fn has_window_close(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n.op, Op::Reduce { emit: Emit::OnWindowClose, .. }))
    }

    /// Lowers `plan` so that the result's columns are exactly the expressions of the request.
    fn request(&mut self, plan: &LogicalPlan, request: Request) -> Result<NodeId> {
        stacker::maybe_grow(256 * 1024, 4 * 1024 * 1024, || self.request_inner(plan, request))
    }

    fn request_inner(&mut self, plan: &LogicalPlan, mut request: Request) -> Result<NodeId> {
        match plan {
            LogicalPlan::Projection(p) => {
                let exprs: Vec<Expr> = p.expr.iter().map(strip).collect();
                if folds(&exprs, &request, &p.schema)? {
                    let below = request.below(&p.schema, &exprs)?;
                    return self.request(&p.input, below);
                }
                let needed = request.needed(&p.schema)?;
                let mut inner = Request::columns(&p.schema, &needed);
                inner.exprs = needed.iter().map(|i| exprs[*i].clone()).collect();
                let node = self.request(&p.input, inner)?;
                self.finish(node, &needed, &p.schema, request)
            }
            LogicalPlan::SubqueryAlias(a) => {
                let schema = a.input.schema();
                let columns: Vec<Expr> = (0..schema.fields().len()).map(|i| column_of(schema, i)).collect();
                let below = request.below(&a.schema, &columns)?;
                self.request(&a.input, below)
            }
            LogicalPlan::Filter(f) => {
                let mut predicates: Vec<Expr> =
                    split_conjunction(&f.predicate).into_iter().cloned().collect();
                predicates.append(&mut request.predicates);
                request.predicates = predicates;
                self.request(&f.input, request)
            }
            LogicalPlan::TableScan(scan) => self.scan(scan, request),
            LogicalPlan::Join(join) => self.join(join, request),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, request),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input, request),
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on, request),
            LogicalPlan::Union(union) => self.union(union, request),
            LogicalPlan::Values(values) => self.values(values, request),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty, request),
            LogicalPlan::Window(window) => self.window(window, request),
            LogicalPlan::Sort(sort) => match sort.fetch {
                // A relation has no order: ORDER BY alone says nothing.
                None => self.request(&sort.input, request),
                Some(fetch) => self.top(&sort.input, &sort.expr, 0, fetch as u64, request),
            },
            LogicalPlan::Limit(limit) => self.limit(limit, request),
            LogicalPlan::Repartition(r) => self.request(&r.input, request),
            other => Err(Error::unsupported(format!(
                "{} is not supported in a materialized view",
                plan_words(other)
            ))),
        }
    }

    /// Puts the request's conditions and expressions on top of `node`, whose columns are the columns `columns`
    /// of `schema`.
    fn finish(
        &mut self,
        node: NodeId,
        columns: &[usize],
        schema: &DFSchema,
        request: Request,
    ) -> Result<NodeId> {
        let (temporal, plain): (Vec<Expr>, Vec<Expr>) =
            request.predicates.into_iter().partition(temporal::has_now);
        let here: Vec<Expr> = (0..columns.len()).map(|i| column_named(&self.nodes[node].schema, i)).collect();
        // Replacements by position in the logical schema; columns that were not asked for are not read.
        let mut replacements: Vec<Option<&Expr>> = vec![None; schema.fields().len()];
        for (position, column) in columns.iter().enumerate() {
            replacements[*column] = Some(&here[position]);
        }
        let bind = |e: &Expr| expression::substitute_some(e, schema, &replacements);
        let exprs = request.exprs.iter().map(bind).collect::<Result<Vec<_>>>()?;
        let plain = plain.iter().map(bind).collect::<Result<Vec<_>>>()?;
        if temporal.is_empty() {
            return self.map(node, plain, exprs, request.fields);
        }
        let temporal = temporal.iter().map(bind).collect::<Result<Vec<_>>>()?;
        self.temporal(node, plain, temporal, exprs, request.fields)
    }

    /// A Map over a node whose columns the expressions name by the node's own (unique) column names.
    fn map(
        &mut self,
        node: NodeId,
        predicates: Vec<Expr>,
        exprs: Vec<Expr>,
        fields: Vec<FieldRef>,
    ) -> Result<NodeId> {
        let schema = self.nodes[node].schema.clone();
        let df = DFSchema::try_from(schema.clone())?;
        let positions: Vec<Option<usize>> = exprs.iter().map(|e| position_of(e, &df)).collect();
        let identity = positions.len() == schema.fields().len()
            && positions.iter().enumerate().all(|(i, p)| *p == Some(i));
        if identity && predicates.is_empty() {
            return Ok(node);
        }
        let predicate = match predicates.into_iter().reduce(Expr::and) {
            None => None,
            Some(p) => Some(expression::compile(&p, &df)?),
        };
        if identity {
            let (facts, extra) = (self.facts(node).clone(), self.extras[node].clone());
            return Ok(self.add(Op::Map { predicate, exprs: None }, vec![node], schema, facts, extra));
        }
        let compiled = exprs.iter().map(|e| expression::compile(e, &df)).collect::<Result<Vec<_>>>()?;
        let out_fields = compiled
            .iter()
            .zip(&fields)
            .map(|(e, f)| {
                f.as_ref()
                    .clone()
                    .with_data_type(e.data_type().clone())
                    .with_nullable(f.is_nullable() || e.nullable())
            })
            .collect();
        let output_of = |c: usize| positions.iter().position(|p| *p == Some(c));
        let input = self.facts(node);
        let mut facts = input.project(output_of);
        for (i, expr) in exprs.iter().enumerate() {
            let lag = facts::lag(expr, &|c| df.maybe_index_of_column(c).and_then(|c| input.delay_of(c)));
            if let Some(lag) = lag
                && facts.delay_of(i).is_none()
            {
                facts.watermarks.push((i, lag));
            }
        }
        let old = &self.extras[node];
        let extra = Extra {
            partition: old.partition.as_ref().and_then(|p| p.iter().map(|c| output_of(*c)).collect()),
            complete: old.complete.iter().filter_map(|c| output_of(*c)).collect(),
        };
        let schema = unique_schema(out_fields);
        Ok(self.add(Op::Map { predicate, exprs: Some(compiled) }, vec![node], schema, facts, extra))
    }

    fn scan(&mut self, scan: &TableScan, mut request: Request) -> Result<NodeId> {
        let Some(table) = scan.source.downcast_ref::<CatalogTable>() else {
            return Err(Error::unsupported(format!(
                "relation \"{}\" cannot be used in a materialized view",
                scan.table_name.table()
            ))
            .with_hint("System relations can be queried with SELECT only."));
        };
        let full = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        let mut predicates: Vec<Expr> =
            scan.filters.iter().flat_map(|f| split_conjunction(f)).cloned().collect();
        predicates.append(&mut request.predicates);
        request.predicates = predicates;
        let columns = request.needed(&full)?;
        let id = table.object.id;
        let known = (self.known)(id).unwrap_or_else(|| facts::of_relation(&table.object));
        let facts = known.project(|c| columns.iter().position(|x| *x == c));
        let schema = unique_schema(columns.iter().map(|c| full.field(*c).as_ref().clone()).collect());
        let op = Op::Input { relation: id, columns: columns.clone() };
        let node = self.add(op, vec![], schema, facts, Extra::default());
        self.finish(node, &columns, &full, request)
    }

    fn distinct(&mut self, input: &LogicalPlan, request: Request) -> Result<NodeId> {
        let schema = input.schema();
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let node = self.request(input, Request::columns(schema, &all))?;
        let node = self.distinct_rows(node)?;
        self.finish(node, &all, schema, request)
    }

    /// Each distinct row of `node` once.
    fn distinct_rows(&mut self, node: NodeId) -> Result<NodeId> {
        let width = self.nodes[node].schema.fields().len();
        let all: Vec<usize> = (0..width).collect();
        let (node, window_end) = self.with_close_column(node, &all)?;
        let all: Vec<usize> = (0..self.nodes[node].schema.fields().len()).collect();
        let node = self.exchange_for_grouping(node, &all);
        let mut facts = self.facts(node).clone();
        if facts.append_only && window_end.is_none() {
            facts.unbounded_state.push("DISTINCT keeps every distinct row it has seen.".into());
        }
        facts.add_key(all.clone());
        let (schema, extra) = (self.nodes[node].schema.clone(), self.extras[node].clone());
        let distinct = self.add(Op::Distinct { window_end }, vec![node], schema.clone(), facts, extra);
        // Drop the column of the closing time again.
        let exprs = (0..width).map(|i| column_named(&schema, i)).collect();
        self.map(distinct, vec![], exprs, schema.fields()[..width].to_vec())
    }

    fn union(&mut self, union: &Union, request: Request) -> Result<NodeId> {
        let schema = &union.schema;
        let mut nodes = Vec::new();
        for input in &union.inputs {
            let own = input.schema();
            let columns = (0..schema.fields().len())
                .map(|i| {
                    expression::cast_to(
                        column_of(own, i),
                        own.field(i).data_type(),
                        schema.field(i).data_type(),
                    )
                })
                .collect::<Vec<_>>();
            let below = request.below(schema, &columns)?;
            nodes.push(self.request(input, below)?);
        }
        Ok(self.union_nodes(nodes))
    }

    /// All rows of nodes whose columns have the same types.
    fn union_nodes(&mut self, nodes: Vec<NodeId>) -> NodeId {
        if let [one] = nodes[..] {
            return one;
        }
        let first = self.nodes[nodes[0]].schema.clone();
        let fields: Vec<Field> = first
            .fields()
            .iter()
            .enumerate()
            .map(|(i, f)| {
                let nullable = nodes.iter().any(|n| self.nodes[*n].schema.field(i).is_nullable());
                f.as_ref().clone().with_nullable(nullable)
            })
            .collect();
        let inputs: Vec<&Facts> = nodes.iter().map(|n| self.facts(*n)).collect();
        let facts = Facts {
            append_only: inputs.iter().all(|f| f.append_only),
            unique_keys: Vec::new(),
            watermarks: inputs[0]
                .watermarks
                .iter()
                .filter_map(|(c, _)| {
                    let delays: Option<Vec<i64>> = inputs.iter().map(|f| f.delay_of(*c)).collect();
                    Some((*c, delays?.into_iter().max()?))
                })
                .collect(),
            unbounded_state: inputs.iter().flat_map(|f| f.unbounded_state.clone()).collect(),
        };
        let partition = self.extras[nodes[0]].partition.clone();
        let same = nodes.iter().all(|n| self.extras[*n].partition == partition);
        let extra = Extra { partition: partition.filter(|_| same), complete: Vec::new() };
        self.add(Op::Union, nodes, unique_schema(fields), facts, extra)
    }

    fn values(&mut self, values: &Values, request: Request) -> Result<NodeId> {
        let empty = DFSchema::empty();
        let one = one_row()?;
        let fields: Vec<Field> = values.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let mut columns = Vec::with_capacity(fields.len());
        for (i, field) in fields.iter().enumerate() {
            let mut parts = Vec::with_capacity(values.values.len());
            for row in &values.values {
                let value = expression::compile(&row[i], &empty)?.evaluate(&one)?;
                parts.push(arrow::compute::cast(&value, field.data_type())?);
            }
            let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(|p| p.as_ref()).collect();
            columns.push(arrow::compute::concat(&parts)?);
        }
        let schema = unique_schema(fields.into_iter().map(|f| f.with_nullable(true)).collect());
        let rows = RecordBatch::try_new(schema.clone(), columns)?;
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let node = self.constant(rows, schema);
        self.finish(node, &all, &values.schema, request)
    }

    fn empty(&mut self, empty: &EmptyRelation, request: Request) -> Result<NodeId> {
        // One column that nobody asked for carries the number of rows.
        let mut fields: Vec<Field> =
            empty.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let all: Vec<usize> = (0..fields.len()).collect();
        fields.push(Field::new("row", DataType::Boolean, true));
        let schema = unique_schema(fields);
        let rows = usize::from(empty.produce_one_row);
        let columns =
            schema.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), rows)).collect();
        let node = self.constant(RecordBatch::try_new(schema.clone(), columns)?, schema);
        self.finish(node, &all, &empty.schema, request)
    }

    fn constant(&mut self, rows: RecordBatch, schema: SchemaRef) -> NodeId {
        let mut facts = Facts { append_only: true, ..Facts::default() };
        if rows.num_rows() <= 1 {
            facts.add_key(vec![]);
        }
        // Constants are given out by worker 0 alone, where rows without key belong.
        let extra = Extra { partition: Some(vec![]), complete: Vec::new() };
        self.add(Op::Constant { rows }, vec![], schema, facts, extra)
    }

    /// Makes sure that a row's deletion meets its insertion: the rows of the result lie on a worker that is a
    /// function of the row, unless no row is ever deleted.
    fn settle_output(&mut self, node: NodeId) -> Result<NodeId> {
        let facts = self.facts(node);
        if facts.append_only || self.extras[node].partition.is_some() {
            return Ok(node);
        }
        Ok(self.exchange_on_row(node))
    }

    /// Rows go to the worker of their unique key, or of the whole row.
    fn exchange_on_row(&mut self, node: NodeId) -> NodeId {
        let facts = self.facts(node);
        let keys = if facts.at_most_one_row() {
            vec![]
        } else {
            let all = || (0..self.nodes[node].schema.fields().len()).collect();
            facts.best_key().map_or_else(all, <[usize]>::to_vec)
        };
        self.exchange(node, keys)
    }

    fn exchange(&mut self, node: NodeId, keys: Vec<usize>) -> NodeId {
        let (schema, facts) = (self.nodes[node].schema.clone(), self.facts(node).clone());
        let extra = Extra { partition: Some(keys.clone()), complete: self.extras[node].complete.clone() };
        self.add(Op::Exchange { keys }, vec![node], schema, facts, extra)
    }

    /// Brings rows that agree on `keys` to one worker; nothing to do where a part of the keys decides already.
    fn exchange_for_grouping(&mut self, node: NodeId, keys: &[usize]) -> NodeId {
        match &self.extras[node].partition {
            Some(p) if p.iter().all(|c| keys.contains(c)) => node,
            _ => self.exchange(node, keys.to_vec()),
        }
    }

    /// Finds among `keys` a column whose value tells when no more rows of its group will come, and appends a
    /// column with that moment where the value itself is not it. Gives the node and the column.
    fn with_close_column(&mut self, node: NodeId, keys: &[usize]) -> Result<(NodeId, Option<usize>)> {
        let facts = self.facts(node);
        if !facts.append_only {
            return Ok((node, None));
        }
        let best = facts
            .watermarks
            .iter()
            .filter(|(c, _)| keys.contains(c) && is_timestamp(self.nodes[node].schema.field(*c).data_type()))
            .min_by_key(|(_, delay)| (*delay != -1, *delay))
            .copied();
        let Some((column, delay)) = best else { return Ok((node, None)) };
        let own_type = self.nodes[node].schema.field(column).data_type();
        if delay == -1 && is_micros(own_type) {
            return Ok((node, Some(column)));
        }
        let schema = self.nodes[node].schema.clone();
        let mut exprs: Vec<Expr> = (0..schema.fields().len()).map(|i| column_named(&schema, i)).collect();
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let moment = expression::moment_type();
        let source =
            expression::cast_to(column_named(&schema, column), schema.field(column).data_type(), &moment);
        exprs.push(expression::shift_micros(source, &moment, delay + 1));
        fields.push(Arc::new(Field::new("closes_at", moment, true)));
        let node = self.map(node, vec![], exprs, fields)?;
        let closes = self.nodes[node].schema.fields().len() - 1;
        self.nodes[node].facts.watermarks.retain(|(c, _)| *c != closes);
        self.nodes[node].facts.watermarks.push((closes, -1));
        Ok((node, Some(closes)))
    }
}

fn is_timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(..))
}

fn is_micros(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, _))
}

/// The expression that names column `i` of an Arrow schema with unique names.
fn column_named(schema: &Schema, i: usize) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(schema.field(i).name().clone()))
}

fn position_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(c) => schema.maybe_index_of_column(c),
        _ => None,
    }
}

/// A schema of these fields in which every name occurs once (a second `x` becomes `x:1`).
fn unique_schema(fields: Vec<Field>) -> SchemaRef {
    let mut seen = std::collections::HashSet::new();
    let fields: Vec<Field> = fields
        .into_iter()
        .map(|f| {
            let mut name = f.name().clone();
            let mut n = 0;
            while !seen.insert(name.clone()) {
                n += 1;
                name = format!("{}:{n}", f.name());
            }
            f.with_name(name)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn one_row() -> Result<RecordBatch> {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?)
}

/// The value of an expression without columns.
fn constant_value(expr: &Expr) -> Result<datafusion::common::ScalarValue> {
    let array = expression::compile(expr, &DFSchema::empty())?.evaluate(&one_row()?)?;
    Ok(datafusion::common::ScalarValue::try_from_array(&array, 0)?)
}

/// Whether a projection can be folded into the request above it without computing anything twice.
fn folds(exprs: &[Expr], request: &Request, schema: &DFSchema) -> Result<bool> {
    let mut uses = vec![0usize; exprs.len()];
    for e in request.exprs.iter().chain(&request.predicates) {
        expression::count_uses(e, schema, &mut uses)?;
    }
    let cheap = |e: &Expr| matches!(e, Expr::Column(_) | Expr::Literal(..)) || temporal::has_now(e);
    Ok(exprs.iter().zip(uses).all(|(e, n)| n <= 1 || cheap(e)))
}

/// The words for a kind of plan in a refusal.
fn plan_words(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::RecursiveQuery(_) => "WITH RECURSIVE",
        LogicalPlan::Unnest(_) => "unnest()",
        LogicalPlan::Subquery(_) => "a subquery of this kind",
        LogicalPlan::Extension(_) => "an operation of this kind",
        _ => "a statement of this kind",
    }
}

#[cfg(test)]
mod tests;
