//! SELECT: which way a query is answered, and running it at the transaction's epoch.
//!
//! A point query on a key goes from the prepared statement to the key index; questions about the catalog go to the
//! catalog's evaluator; everything else goes through DataFusion over a snapshot. What has been worked out about a
//! statement is kept with it for as long as the catalog stays as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::{LogicalPlan, TableSource};
use futures::TryStreamExt;

use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::coord::aside::off_the_wire;
use crate::coord::backend::{BatchStream, Description, Outcome, OutputColumn, RowsTag};
use crate::coord::command::TableWrite;
use crate::coord::session::{Parsed, Session};
use crate::coord::transaction::Snapshot;
use crate::coord::{Shared, introspect};
use crate::error::{Error, ErrorKind, Result};
use crate::read;
use crate::read::query::{Limits, QueryStream, Resolver};
use crate::sql::bind::dml::BoundDml;
use crate::sql::bind::{self, BoundQuery};
use crate::sql::point;
use crate::sql::point::{KeyValue, PointLookup};
use crate::sql::statement::{CopyObject, CursorSource, Statement};
use crate::store::relation::Relation;
use crate::types::PgType;

/// The index of a key's prefix over at most this many rows is waited for.
const BUILT_AT_ONCE: usize = 200_000;

/// What has been worked out about a statement.
pub struct Prepared {
    /// The catalog's version, the search path and the time zone it holds for.
    version: u64,
    search_path: Vec<String>,
    time_zone: String,
    given: Vec<u32>,
    pub(super) bound: Bound,
}

/// A bound statement.
pub enum Bound {
    /// A query, with its way to an index if it has one.
    Query {
        /// The bound query.
        query: BoundQuery,
        /// The index lookup it amounts to.
        point: Option<PointLookup>,
        /// Result columns.
        columns: Arc<[OutputColumn]>,
    },
    /// INSERT, UPDATE, DELETE.
    Dml(Box<BoundDml>),
}

impl Session {
    /// The bound form of a query or DML statement, from the statement's memory if it still holds.
    pub(super) fn bound(&mut self, parsed: &Arc<Parsed>, given: &[u32]) -> Result<Arc<Prepared>> {
        if let Some(known) = self.known(parsed, given) {
            return Ok(known);
        }
        let shared = self.shared().clone();
        let transaction = self.transaction();
        // A transaction's own definitions are nobody else's: nothing bound to them is kept.
        let keep = !transaction.has_definitions();
        let version = transaction.catalog(&shared).version();
        let (search_path, time_zone) = (self.search_path(), self.settings.time_zone().to_string());
        // What the client said at Parse holds when the statement is bound again, too.
        let told = parsed.given.lock().clone();
        let given = if given.is_empty() { &told } else { given };
        let param_types = given.iter().map(|oid| (*oid != 0).then(|| PgType::of(*oid))).collect::<Vec<_>>();
        let mut context = self.bind_context(param_types);
        context.text = parsed.whole.as_deref().map(str::to_string);
        let bound = match parsed.statement() {
            Statement::Query(query) => {
                let query = off_the_wire(parsed.parsed.text.len(), || bind::bind_query(query, &context))?;
                let columns = query.columns.clone().into();
                let point = point::point_lookup(&query, &context.catalog);
                Bound::Query { query, point, columns }
            }
            statement => {
                let bind = || bind::bind_statement(statement, &context);
                Bound::Dml(Box::new(off_the_wire(parsed.parsed.text.len(), bind)?))
            }
        };
        let depends_on_now = match &bound {
            Bound::Query { query, .. } => query.dependent_on_now,
            Bound::Dml(dml) => dml.dependent_on_now,
        };
        let prepared = Arc::new(Prepared { version, search_path, time_zone, given: given.to_vec(), bound });
        if keep && !depends_on_now {
            *parsed.prepared.lock() = Some(prepared.clone());
        }
        Ok(prepared)
    }

    /// The bound form from the statement's memory, if it still holds.
    fn known(&mut self, parsed: &Parsed, given: &[u32]) -> Option<Arc<Prepared>> {
        let known = parsed.prepared.lock().clone()?;
        let shared = self.server.shared.clone();
        let transaction = self.transaction();
        if transaction.has_definitions() || transaction.catalog_version(&shared) != known.version {
            return None;
        }
        let derived = self.derived();
        let holds = known.search_path == derived.search_path
            && known.time_zone == derived.time_zone
            && if given.is_empty() { known.given == *parsed.given.lock() } else { known.given == given };
        holds.then_some(known)
    }

    /// The rows of a point query that has been bound before; `None`: this is none, or not as easy.
    pub(super) fn point_read(&mut self, parsed: &Parsed, params: &[ScalarValue]) -> Option<Result<Outcome>> {
        let known = self.known(parsed, &[])?;
        let Bound::Query { point: Some(point), columns, .. } = &known.bound else { return None };
        if self.derived().raises_view_errors {
            return None;
        }
        let shared = self.server.shared.clone();
        let transaction = self.transaction();
        if !transaction.is_read_only_so_far() {
            return None;
        }
        let snapshot = transaction.snapshot(&shared);
        let batch = look_up(point, &snapshot, params).transpose()?;
        Some(batch.map(|batch| Outcome::Rows {
            columns: columns.clone(),
            stream: Box::pin(futures::stream::iter([Ok(batch)])),
            tag: RowsTag::select(),
        }))
    }

    /// Parameter and result types.
    pub(super) fn describe_inner(&mut self, parsed: &Arc<Parsed>, given: &[u32]) -> Result<Description> {
        let no_params =
            |columns: Vec<OutputColumn>| Description { params: Vec::new(), columns: Some(columns.into()) };
        match parsed.statement() {
            Statement::Query(query) => {
                if let Some(answer) = self.catalog_description(query, given)? {
                    return Ok(answer);
                }
                let prepared = self.bound(parsed, given)?;
                match &prepared.bound {
                    Bound::Query { query, columns, .. } => {
                        Ok(Description { params: query.param_types.clone(), columns: Some(columns.clone()) })
                    }
                    Bound::Dml(_) => Err(Error::internal("a query bound as DML")),
                }
            }
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => {
                let prepared = self.bound(parsed, given)?;
                match &prepared.bound {
                    Bound::Dml(dml) => Ok(Description {
                        params: dml.param_types.clone(),
                        columns: dml.returning.as_ref().map(|r| r.columns.clone().into()),
                    }),
                    Bound::Query { .. } => Err(Error::internal("DML bound as a query")),
                }
            }
            statement @ (Statement::Show(_) | Statement::ShowObjects(_) | Statement::ShowCreate { .. }) => {
                Ok(no_params(self.show_description(statement)))
            }
            Statement::Explain(explain) => {
                Ok(no_params(vec![OutputColumn::computed("QUERY PLAN", self.explain_type(explain))]))
            }
            Statement::Subscribe(subscribe) => Ok(no_params(self.subscribe_columns(subscribe)?)),
            Statement::Fetch(fetch) => Ok(no_params(self.cursor_columns(&fetch.cursor)?.to_vec())),
            Statement::CheckMaterializedView(name) => Ok(no_params(self.check_columns(name)?)),
            Statement::Execute(execute) => {
                let (_, prepared) = self.prepared(&execute.name)?;
                Ok(Description { params: Vec::new(), columns: prepared.description.columns.clone() })
            }
            Statement::Declare(declare) => match &declare.source {
                CursorSource::Query(query) => {
                    let inner = Parsed::of_query(query, parsed.whole.clone());
                    let described = self.describe_inner(&inner, given)?;
                    Ok(Description { params: described.params, columns: None })
                }
                CursorSource::Subscribe(_) => Ok(Description::default()),
            },
            Statement::Copy(copy) => {
                if let CopyObject::Query(query) = &copy.object {
                    // Bound now, so that its errors come with Describe.
                    self.describe_inner(&Parsed::of_query(query, parsed.whole.clone()), given)?;
                }
                Ok(Description::default())
            }
            _ => Ok(Description::default()),
        }
    }

    /// SELECT.
    pub(super) async fn select(&mut self, parsed: &Arc<Parsed>, params: Vec<ScalarValue>) -> Result<Outcome> {
        // What has been bound as a query is none about the catalog.
        let prepared = match self.known(parsed, &[]) {
            Some(known) => known,
            None => {
                if let Some(answer) = self.catalog_answer(parsed, &params).await? {
                    return Ok(answer);
                }
                self.bound(parsed, &[])?
            }
        };
        let locks = match parsed.statement() {
            Statement::Query(query) => query.locks.as_slice(),
            _ => &[],
        };
        let Bound::Query { query, point, columns } = &prepared.bound else {
            return Err(Error::internal("a query bound as DML"));
        };
        let shared = self.shared().clone();
        let strict = self.derived().raises_view_errors;
        let transaction = self.transaction();
        let snapshot = transaction.snapshot(&shared);
        if strict {
            raise_view_errors(&query.depends_on, &snapshot, &shared)?;
        }
        if let Some(point) = point
            && locks.is_empty()
            && transaction.is_read_only_so_far()
            && let Some(batch) = match look_up(point, &snapshot, &params)? {
                None if prefix_index(point, &snapshot).await? => look_up(point, &snapshot, &params)?,
                found => found,
            }
        {
            return Ok(Outcome::Rows {
                columns: columns.clone(),
                stream: Box::pin(futures::stream::iter([Ok(batch)])),
                tag: RowsTag::select(),
            });
        }
        if !locks.is_empty() {
            self.lock_rows(parsed, query, &params, &snapshot).await?;
        }
        let stats = self.stats_if_needed(&query.plan).await?;
        let plan = query.with_params(&params)?;
        let stream = self.run(plan, &snapshot, stats)?;
        Ok(Outcome::Rows { columns: columns.clone(), stream: Box::pin(stream), tag: RowsTag::select() })
    }

    /// FOR UPDATE: the rows of the tables behind a query must still be there when the transaction commits, as if it had
    /// written them. Outside a block the transaction ends with the statement, and there is nothing to do.
    async fn lock_rows(
        &mut self,
        parsed: &Arc<Parsed>,
        query: &BoundQuery,
        params: &[ScalarValue],
        snapshot: &Arc<Snapshot>,
    ) -> Result<()> {
        let Statement::Query(ast) = parsed.statement() else { return Ok(()) };
        let context = self.bind_context(query.param_types.iter().map(|t| Some(*t)).collect());
        let locked = bind::dml::bind_locks(ast, &context)?;
        if !self.transaction().explicit {
            return Ok(());
        }
        self.check_writable("SELECT FOR UPDATE")?;
        for (object, bound) in locked {
            let plan = bound.with_params(params)?;
            let batches: Vec<RecordBatch> = self.run_plan(plan, snapshot)?.try_collect().await?;
            let Some(relation) = snapshot.world.relations.get(&object.id) else { continue };
            let schema = object.arrow_schema();
            for batch in batches.iter().filter(|b| b.num_rows() > 0) {
                // Rows of this transaction are nobody else's, and those an outer join makes up are nobody's.
                let present = relation.live_weight(batch, snapshot.pin.epoch())?;
                let mask: BooleanArray = present.iter().map(|n| Some(*n > 0)).collect();
                let rows = filter_record_batch(batch, &mask)?;
                let rows = RecordBatch::try_new(schema.clone(), rows.columns().to_vec())?;
                let write = TableWrite {
                    table: object.id,
                    change: crate::zset::ZBatch::deletes(rows),
                    object: object.clone(),
                    upsert: false,
                    locked: true,
                };
                self.transaction().write([write]);
            }
        }
        Ok(())
    }

    /// Runs a plan at a snapshot. The transaction's own writes are seen on top.
    pub(super) fn run_plan(&mut self, plan: LogicalPlan, snapshot: &Arc<Snapshot>) -> Result<BatchStream> {
        Ok(Box::pin(self.run(plan, snapshot, None)?))
    }

    fn run(
        &mut self,
        plan: LogicalPlan,
        snapshot: &Arc<Snapshot>,
        stats: Option<introspect::Stats>,
    ) -> Result<QueryStream> {
        let resolver = self.resolver(snapshot, stats)?;
        let limits = Limits { memory: self.server.inner.query_memory.clone(), spill: None };
        read::query::start(
            plan,
            &resolver,
            snapshot.pin.clone(),
            self.server.inner.query_state.clone(),
            &limits,
            &self.server.inner.query_runtime,
            self.cancel.clone(),
        )
    }

    /// Where the rows of a statement come from.
    pub(super) fn resolver(
        &mut self,
        snapshot: &Arc<Snapshot>,
        stats: Option<introspect::Stats>,
    ) -> Result<SessionResolver> {
        let epoch = snapshot.pin.epoch();
        let transaction = self.transaction();
        let mut own = BTreeMap::new();
        for id in transaction.written() {
            let below = snapshot.world.relations.get(&id);
            let rows = transaction.overlay(id, below.map(|r| &**r), epoch)?;
            let defined = transaction.own_definition(id).map(Object::arrow_schema);
            let schema = defined.or_else(|| rows.first().map(|b| b.schema()));
            let Some(schema) = schema.or_else(|| below.map(|r| r.schema().clone())) else {
                continue;
            };
            let relation = Relation::new("transaction", schema.clone(), Vec::new(), 1);
            for batch in rows {
                let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?;
                relation.apply(0, epoch, &crate::zset::ZBatch::inserts(batch))?;
            }
            own.insert(id, Arc::new(relation));
        }
        let created = transaction.created_relations();
        Ok(SessionResolver {
            snapshot: snapshot.clone(),
            own,
            created,
            session: self.resolver_parts(),
            stats,
        })
    }

    fn resolver_parts(&self) -> ResolverParts {
        ResolverParts { server: self.server.clone(), settings: self.settings.clone() }
    }

    /// Asks the coordinator only when a plan reads system relations.
    async fn stats_if_needed(&mut self, plan: &LogicalPlan) -> Result<Option<introspect::Stats>> {
        if bind::reads_system_tables(plan) { self.stats().await.map(Some) } else { Ok(None) }
    }
}

struct ResolverParts {
    server: crate::coord::server::Server,
    settings: crate::config::SessionSettings,
}

/// Gives a statement's sources their rows: the snapshot's, with the transaction's own on top.
pub(super) struct SessionResolver {
    snapshot: Arc<Snapshot>,
    own: BTreeMap<ObjectId, Arc<Relation>>,
    created: BTreeMap<ObjectId, Arc<Relation>>,
    session: ResolverParts,
    stats: Option<introspect::Stats>,
}

impl Resolver for SessionResolver {
    fn relation(&self, id: ObjectId) -> Result<Arc<Relation>> {
        if let Some(r) = self.own.get(&id).or_else(|| self.snapshot.world.relations.get(&id)) {
            if let Some(object) = self.snapshot.world.catalog.get(id)
                && matches!(object.body, crate::catalog::ObjectBody::Source { keeps_history: false, .. })
            {
                return Err(Error::new(
                    ErrorKind::ObjectNotInState,
                    format!("source \"{}\" keeps no history to be queried", object.name),
                )
                .with_hint("Create it with history = true, or query a materialized view over it."));
            }
            return Ok(r.clone());
        }
        self.created.get(&id).cloned().ok_or_else(|| read::query::unknown_relation(id))
    }

    fn rows(&self, name: &TableReference, _source: &dyn TableSource) -> Result<Option<Vec<RecordBatch>>> {
        let Some(stats) = &self.stats else { return Ok(None) };
        let sources = introspect::Sources {
            server: &self.session.server,
            world: &self.snapshot.world,
            stats,
            settings: &self.session.settings,
        };
        introspect::rows(name.table(), &sources).map(|rows| Some(vec![rows]))
    }
}

/// With `view_errors = raise`: a view that rows are missing from, because they could not be computed, is an error.
fn raise_view_errors(reads: &[ObjectId], snapshot: &Snapshot, shared: &Shared) -> Result<()> {
    let catalog = &snapshot.world.catalog;
    for id in reads {
        let Some(errors) = shared.companion(catalog, *id, "errors") else { continue };
        let is_view = catalog.get(*id).is_some_and(|o| matches!(o.body, ObjectBody::MaterializedView { .. }));
        let Some(relation) = snapshot.world.relations.get(&errors).filter(|_| is_view) else { continue };
        let batches = relation.snapshot(snapshot.pin.epoch()).batches(Some(&[0, 1]))?;
        let Some(first) = batches.iter().find(|b| b.num_rows() > 0) else { continue };
        let text = |column: usize| {
            first.column(column).as_string_opt::<i32>().map_or("", |a| a.value(0)).to_string()
        };
        let kind = ErrorKind::from_sqlstate(&text(0)).unwrap_or(ErrorKind::Internal);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let name = catalog.get(*id).map_or_else(String::new, |o| o.name.clone());
        return Err(Error::new(kind, text(1))
            .with_detail(format!("{rows} row(s) of view \"{name}\" could not be computed."))
            .with_hint(format!("See \"{name}$errors\", or SET view_errors = 'collect'.")));
    }
    Ok(())
}

/// Sees to the index of a key's first columns. Whether it has come to be: large ones are built while queries go on to
/// read everything.
async fn prefix_index(point: &PointLookup, snapshot: &Snapshot) -> Result<bool> {
    let Some(relation) = snapshot.world.relations.get(&point.object).cloned() else { return Ok(false) };
    if !point.prefix || relation.has_index(&point.columns) {
        return Ok(false);
    }
    let columns = point.columns.clone();
    let wait = relation.row_count() <= BUILT_AT_ONCE;
    let building = tokio::task::spawn_blocking(move || relation.create_prefix_index(&columns));
    if !wait {
        return Ok(false);
    }
    building.await.map_err(|e| Error::internal(format!("an index could not be built: {e}")))?
}

/// The rows of a point lookup; `None` if the index is not there, or the rows are many.
fn look_up(point: &PointLookup, snapshot: &Snapshot, params: &[ScalarValue]) -> Result<Option<RecordBatch>> {
    let Some(relation) = snapshot.world.relations.get(&point.object) else { return Ok(None) };
    if !relation.has_index(&point.columns) {
        return Ok(None);
    }
    let keys = point
        .keys
        .iter()
        .map(|key| {
            key.iter()
                .map(|v| match v {
                    KeyValue::Literal(value) => Ok(value.clone()),
                    KeyValue::Param(n) => params.get(*n).cloned().ok_or_else(|| {
                        Error::new(ErrorKind::UndefinedParameter, format!("there is no parameter ${}", n + 1))
                    }),
                })
                .collect::<Result<Vec<_>>>()
        })
        .collect::<Result<Vec<_>>>()?;
    read::lookup::lookup(relation, &point.columns, &keys, &point.projection, snapshot.pin.epoch())
}
