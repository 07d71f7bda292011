//! A relation at one epoch as DataFusion reads it.
//!
//! Boundary: scans and index lookups; DataFusion checks every filter again, so an index may only narrow.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};

use crate::store::{Relation, RelationSnapshot};
use crate::time::Epoch;

/// More key tuples than this are read by a scan.
const MAX_LOOKUPS: usize = 4096;
/// More rows than these are read by a scan.
const MAX_FOUND: usize = 100_000;

/// What a scan reads.
#[derive(Debug, Clone)]
enum Rows {
    Relation(RelationSnapshot),
    Batches(Vec<RecordBatch>),
}

/// A stored relation at one epoch, or rows in memory (system tables).
#[derive(Debug)]
pub struct RelationProvider {
    /// The columns as the statement was bound to them.
    schema: SchemaRef,
    rows: Rows,
    /// Where keys are looked up.
    relation: Option<(Arc<Relation>, Epoch)>,
}

impl RelationProvider {
    /// The relation at `epoch`, which the caller keeps pinned while it plans. `schema` has the same columns as the
    /// relation's own.
    pub fn new(relation: Arc<Relation>, epoch: Epoch, schema: SchemaRef) -> Self {
        let rows = Rows::Relation(relation.snapshot(epoch));
        RelationProvider { schema, rows, relation: Some((relation, epoch)) }
    }

    /// Rows in memory.
    pub fn of_batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        RelationProvider { schema, rows: Rows::Batches(batches), relation: None }
    }

    /// `column = value` or `column IN (values)` on a column of this relation.
    fn equality<'a>(&self, filter: &'a Expr) -> Option<(usize, Vec<&'a ScalarValue>)> {
        let (column, values) = match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (&**left, &**right) {
                (Expr::Column(c), Expr::Literal(v, _)) | (Expr::Literal(v, _), Expr::Column(c)) => {
                    (c, vec![v])
                }
                _ => return None,
            },
            Expr::InList(InList { expr, list, negated: false }) => match &**expr {
                Expr::Column(c) => {
                    let values = list.iter().map(|e| match e {
                        Expr::Literal(v, _) => Some(v),
                        _ => None,
                    });
                    (c, values.collect::<Option<Vec<_>>>()?)
                }
                _ => return None,
            },
            _ => return None,
        };
        let column = self.schema.index_of(column.name()).ok()?;
        let wanted = self.schema.field(column).data_type();
        values.iter().all(|v| v.data_type() == *wanted).then_some((column, values))
    }

    /// The rows that an index gives for these filters, if one serves.
    fn by_index(
        &self,
        filters: &[Expr],
        projection: Option<&[usize]>,
    ) -> crate::error::Result<Option<RecordBatch>> {
        let Some((relation, epoch)) = &self.relation else { return Ok(None) };
        let equalities: Vec<_> = filters.iter().filter_map(|f| self.equality(f)).collect();
        let values = |column: &usize| equalities.iter().find(|(c, _)| c == column).map(|(_, values)| values);
        let usable = relation
            .indexed_columns()
            .into_iter()
            .filter_map(|columns| {
                let values = columns.iter().map(values).collect::<Option<Vec<_>>>()?;
                let tuples = values.iter().try_fold(1usize, |n, v| n.checked_mul(v.len()))?;
                (tuples <= MAX_LOOKUPS).then_some((tuples, columns, values))
            })
            .min_by_key(|(tuples, ..)| *tuples);
        let Some((tuples, columns, values)) = usable else { return Ok(None) };
        // All combinations of the columns' values.
        let mut keys: Vec<ArrayRef> = Vec::with_capacity(columns.len());
        let mut repeat = tuples;
        for values in values {
            if values.is_empty() {
                return Ok(None);
            }
            repeat /= values.len();
            let column = (0..tuples).map(|i| values[i / repeat % values.len()].clone());
            keys.push(ScalarValue::iter_to_array(column)?);
        }
        relation.lookup_few(&columns, &keys, *epoch, projection, MAX_FOUND)
    }
}

#[async_trait]
impl TableProvider for RelationProvider {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let indexed: Vec<usize> =
            self.relation.iter().flat_map(|(r, _)| r.indexed_columns()).flatten().collect();
        let useful = |f: &&Expr| self.equality(f).is_some_and(|(column, _)| indexed.contains(&column));
        Ok(filters
            .iter()
            .map(|f| match useful(f) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.map(|p| p.as_slice());
        let schema = match projection {
            None => self.schema.clone(),
            Some(columns) => Arc::new(Schema::project(&self.schema, columns)?),
        };
        let found = self.by_index(filters, projection).map_err(|e| DataFusionError::External(Box::new(e)))?;
        let (parts, projection) = match (found, &self.rows) {
            // These are projected already.
            (Some(found), _) => (vec![Rows::Batches(vec![found])], None),
            (None, Rows::Relation(snapshot)) => {
                let parts = snapshot.split(state.config().target_partitions());
                (parts.into_iter().map(Rows::Relation).collect(), projection)
            }
            (None, rows) => (vec![rows.clone()], projection),
        };
        Ok(Arc::new(RelationScan::new(schema, parts, projection.map(<[usize]>::to_vec), limit)))
    }
}

/// The physical scan.
#[derive(Debug)]
struct RelationScan {
    parts: Vec<Rows>,
    projection: Option<Vec<usize>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl RelationScan {
    fn new(
        schema: SchemaRef,
        parts: Vec<Rows>,
        projection: Option<Vec<usize>>,
        limit: Option<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        RelationScan { parts, projection, limit, properties: Arc::new(properties) }
    }

    fn rows(&self, part: &Rows) -> usize {
        let rows = match part {
            Rows::Relation(snapshot) => snapshot.rows_to_scan(),
            Rows::Batches(batches) => batches.iter().map(RecordBatch::num_rows).sum(),
        };
        self.limit.map_or(rows, |limit| rows.min(limit))
    }
}

impl DisplayAs for RelationScan {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationScan: rows<={}", self.parts.iter().map(|p| self.rows(p)).sum::<usize>())?;
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for RelationScan {
    fn name(&self) -> &str {
        "RelationScan"
    }
    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }
    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }
    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }
    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let part = self.parts.get(partition).cloned();
        let part =
            part.ok_or_else(|| DataFusionError::Internal(format!("no partition {partition} to scan")))?;
        let (schema, projection) = (self.schema(), self.projection.clone());
        let batches: Box<dyn Iterator<Item = crate::error::Result<RecordBatch>> + Send> = match part {
            Rows::Relation(snapshot) => Box::new(snapshot.batch_iter(projection.as_deref())),
            Rows::Batches(batches) => Box::new(batches.into_iter().map(move |b| match &projection {
                Some(columns) => Ok(b.project(columns)?),
                None => Ok(b),
            })),
        };
        let size = context.session_config().batch_size().max(1);
        let mut left = self.limit.unwrap_or(usize::MAX);
        let own = schema.clone();
        let pieces = batches.flat_map(move |batch| pieces(batch, &own, size)).map_while(move |batch| {
            let batch = match batch {
                Ok(_) if left == 0 => return None,
                Ok(batch) if batch.num_rows() > left => batch.slice(0, left),
                Ok(batch) => batch,
                Err(e) => return Some(Err(DataFusionError::External(Box::new(e)))),
            };
            left -= batch.num_rows();
            Some(Ok(batch))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(pieces))))
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let parts = match args.partition() {
            Some(partition) => self.parts.get(partition..=partition).unwrap_or_default(),
            None => &self.parts,
        };
        let rows = parts.iter().map(|p| self.rows(p)).sum();
        statistics.num_rows = Precision::Inexact(rows);
        Ok(Arc::new(statistics))
    }
}

/// A batch under the scan's schema, in pieces of at most `size` rows.
fn pieces(
    batch: crate::error::Result<RecordBatch>,
    schema: &SchemaRef,
    size: usize,
) -> impl Iterator<Item = crate::error::Result<RecordBatch>> + use<> {
    let batch = batch.and_then(|batch| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
    });
    let rows = batch.as_ref().map_or(1, RecordBatch::num_rows);
    let mut at = 0;
    let mut batch = Some(batch);
    std::iter::from_fn(move || {
        if at >= rows {
            return None;
        }
        match &batch {
            Some(Ok(whole)) => {
                let piece = whole.slice(at, size.min(rows - at));
                at += size;
                Some(Ok(piece))
            }
            _ => {
                at = rows;
                batch.take()
            }
        }
    })
}
