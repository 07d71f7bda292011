//! Definitions in a session: what a [`Definer`] makes of a statement goes into the transaction; rows that belong to it
//! (CREATE TABLE AS, new columns) are written there as well. Also temporary objects and their end.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use crate::catalog::object::OnCommit;
use crate::catalog::{Catalog, Object, ObjectBody};
use crate::coord::aside::off_the_wire;
use crate::coord::backend::Outcome;
use crate::coord::command::{Command, DdlOp};
use crate::coord::ddl::{Definer, is_temporary};
use crate::coord::rows;
use crate::coord::session::{Parsed, Session, Severity, command};
use crate::error::{Error, Result};
use crate::sql::bind::{self, BindContext};
use crate::sql::statement::{Statement, quote_identifier};
use crate::zset::ZBatch;

impl Session {
    /// The name of this session's schema for temporary objects.
    pub(super) fn temporary_schema(&self) -> String {
        // The number is never given out again, so nothing of an earlier session of this name is in the log.
        self.temporary.get_or_init(|| format!("pg_temp_{}", self.shared().allocate_oid())).clone()
    }

    /// Definitions.
    pub(super) async fn define(&mut self, parsed: &Arc<Parsed>) -> Result<Outcome> {
        let statement = parsed.statement();
        self.check_writable(statement.tag())?;
        let shared = self.shared().clone();
        let snapshot = self.transaction().snapshot(&shared);
        let mut catalog = self.transaction().catalog(&shared);
        let whole = match statement {
            Statement::CreateView(_) | Statement::CreateTable(_) => {
                parsed.whole.as_deref().map(str::to_string)
            }
            _ => None,
        };
        let mut filled = None;
        let (ops, notices, fill) = off_the_wire(usize::MAX, || -> Result<_> {
            let context = |c: &Catalog, in_view: bool| BindContext {
                text: whole.clone(),
                ..self.context_over(c, in_view)
            };
            let epoch = snapshot.pin.epoch();
            let rows = |table: &Object| -> Result<Vec<RecordBatch>> {
                let relation = snapshot.world.relations.get(&table.id);
                match &self.transaction {
                    Some(t) => {
                        let all = t.overlay(table.id, relation.map(|r| &**r), epoch)?;
                        all.iter().map(|b| rows::widen(b, table)).collect()
                    }
                    None => Ok(Vec::new()),
                }
            };
            let mut definer = Definer {
                shared: &shared,
                catalog: &mut catalog,
                search_path: self.search_path(),
                text: &parsed.parsed.text,
                ops: Vec::new(),
                notices: Vec::new(),
                context: &context,
                temporary: self.temporary_schema(),
                rows: &rows,
                epoch,
                fill: Vec::new(),
            };
            match statement {
                Statement::CreateTable(s) => {
                    let table = definer.create_table(s)?;
                    filled = table.filter(|_| s.query.is_some() && !s.with_no_data);
                }
                Statement::CreateSource(s) => definer.create_source(s)?,
                Statement::CreateView(s) => definer.create_view(s)?,
                Statement::CreateIndex(s) => definer.create_index(s)?,
                Statement::CreateSink(s) => definer.create_sink(s)?,
                Statement::CreateSchema(s) => definer.create_schema(s)?,
                Statement::CreateSequence(s) => definer.create_sequence(s)?,
                Statement::CreateFunction(s) => definer.create_function(s)?,
                Statement::Drop(s) => definer.drop_objects(s)?,
                Statement::Alter(s) => definer.alter(s)?,
                Statement::Comment(s) => definer.comment(s)?,
                other => return Err(Error::unsupported(format!("{} is not supported", other.tag()))),
            }
            Ok((definer.ops, definer.notices, definer.fill))
        })?;
        for notice in notices {
            self.notice(Severity::Notice, notice);
        }
        self.has_temporary |= ops.iter().any(|op| matches!(op, DdlOp::CreateSchema(s) if is_temporary(s)));
        self.transaction().define(catalog, ops)?;
        for (table, column) in fill {
            self.fill_column(table, column).await?;
        }
        match (filled, statement) {
            (Some(table), Statement::CreateTable(s)) => {
                let Some(query) = &s.query else { return Ok(command(statement.tag())) };
                let count = self.fill_table(&table, &query.ast).await?;
                Ok(command(format!("SELECT {count}")))
            }
            _ => Ok(command(statement.tag())),
        }
    }

    /// CREATE TABLE AS: the rows of the query.
    async fn fill_table(&mut self, table: &Arc<Object>, query: &crate::sql::Query) -> Result<usize> {
        let context = self.bind_context(Vec::new());
        let bound = bind::bind_query(query, &context)?;
        let shared = self.shared().clone();
        let snapshot = self.transaction().snapshot(&shared);
        let batches: Vec<RecordBatch> = self.run_plan(bound.plan, &snapshot)?.try_collect().await?;
        let schema = table.arrow_schema();
        let mut changes = Vec::with_capacity(batches.len());
        for batch in batches.iter().filter(|b| b.num_rows() > 0) {
            changes.push(ZBatch::inserts(rows::conform(batch.columns(), &schema, batch.num_rows(), table)?));
        }
        let count = changes.iter().map(ZBatch::num_rows).sum();
        self.write(table, changes)?;
        Ok(count)
    }

    /// A new column of which each row has its own value.
    async fn fill_column(&mut self, table: crate::catalog::ObjectId, column: usize) -> Result<()> {
        let shared = self.shared().clone();
        let Some(table) = self.transaction().catalog(&shared).get(table).cloned() else { return Ok(()) };
        let text = format!(
            "UPDATE {}.{} SET {} = DEFAULT",
            quote_identifier(&table.schema),
            quote_identifier(&table.name),
            quote_identifier(&table.columns[column].name)
        );
        let parsed = crate::sql::parse(&text)?;
        let parsed = parsed.into_iter().next().ok_or_else(|| Error::internal("no statement"))?;
        self.dml(&Parsed::new(parsed), Vec::new()).await.map(drop)
    }

    // ---- temporary objects ----

    fn temporary_objects(&mut self) -> Vec<Arc<Object>> {
        let shared = self.shared().clone();
        let schema = self.temporary_schema();
        let catalog = self.transaction().catalog(&shared);
        catalog.objects().filter(|o| o.schema == schema).cloned().collect()
    }

    /// What ON COMMIT says of this session's temporary tables.
    pub(super) fn end_temporary_tables(&mut self) -> Result<()> {
        if self.transaction.is_none() {
            return Ok(());
        }
        for object in self.temporary_objects() {
            let ObjectBody::Table { options, .. } = &object.body else { continue };
            match options.on_commit {
                Some(OnCommit::DeleteRows) => self.empty(&object)?,
                Some(OnCommit::Drop) => self.drop_own(&object)?,
                Some(OnCommit::PreserveRows) | None => {}
            }
        }
        Ok(())
    }

    /// Drops a temporary object with everything on it.
    fn drop_own(&mut self, object: &Object) -> Result<()> {
        let shared = self.shared().clone();
        let mut catalog = self.transaction().catalog(&shared);
        let epoch = self.transaction().epoch(&shared);
        let ops = {
            let context = |c: &Catalog, in_view: bool| self.context_over(c, in_view);
            let rows = |_: &Object| -> Result<Vec<RecordBatch>> { Ok(Vec::new()) };
            let mut definer = Definer {
                shared: &shared,
                catalog: &mut catalog,
                search_path: Vec::new(),
                text: "",
                ops: Vec::new(),
                notices: Vec::new(),
                context: &context,
                temporary: String::new(),
                rows: &rows,
                epoch,
                fill: Vec::new(),
            };
            definer.drop_tree(object, true)?;
            definer.ops
        };
        let id = object.id;
        self.transaction().forget_writes(id);
        self.transaction().define(catalog, ops)
    }

    /// DISCARD TEMP.
    pub(super) fn drop_temporary(&mut self) -> Result<()> {
        if !self.has_temporary {
            return Ok(());
        }
        for object in self.temporary_objects() {
            let shared = self.shared().clone();
            if self.transaction().catalog(&shared).get(object.id).is_some()
                && !matches!(object.body, ObjectBody::Index { .. } | ObjectBody::Companion { .. })
            {
                self.drop_own(&object)?;
            }
        }
        Ok(())
    }

    /// The session ends, and with it its temporary objects. Nobody waits for the answer.
    pub(super) fn leave_temporary(&mut self) {
        if !self.has_temporary {
            return;
        }
        self.transaction = None;
        let schema = self.temporary_schema();
        if self.drop_temporary().is_err() {
            return;
        }
        let Some(transaction) = self.transaction.take() else { return };
        let (mut ddl, writes) = transaction.into_changes();
        ddl.push(DdlOp::DropSchema(schema));
        let (reply, _) = tokio::sync::oneshot::channel();
        drop(self.shared().send(Command::Commit { ddl, writes, background: false, reply }));
    }
}
