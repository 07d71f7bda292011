//! Queries of the system catalogs, answered by an evaluator of our own from the catalog snapshot.
//!
//! psql's `\d`, drivers and BI tools ask pg_catalog and information_schema with a range of SQL (correlated
//! subqueries in select lists, `ARRAY(SELECT …)`, `unnest … WITH ORDINALITY`, `(f(x)).n`, `::regclass`,
//! recursive CTEs) that has to work as in PostgreSQL over a few thousand rows, and need not be fast over more.
//! A query is bound to a plan ([`bind`], [`bind_expr`]) and run over rows in memory ([`execute`], [`evaluate`]).
//!
//! Boundary: queries that name system relations only, or none. Rows of the relations come from
//! [`crate::catalog::system`]; settings and other sessions are reached through [`SettingsView`].

mod bind;
mod bind_call;
mod bind_expr;
mod bind_from;
mod cast;
mod catalog_functions;
mod coerce;
mod evaluate;
mod execute;
mod functions;
mod output;
mod route;
mod scope;
mod set_functions;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use sqlparser::ast;

use self::bind::Binder;
use self::execute::Run;
use crate::catalog::system::{ServerRelation, SessionRow, Value};
use crate::catalog::{Catalog, ObjectId};
use crate::config::SettingRow;
use crate::error::Result;
use crate::time::EventTime;
use crate::types::{PgType, oid};

pub use route::{is_catalog_query, is_short};

/// The name of an advisory lock: one number, or two smaller ones, which are different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdvisoryKey {
    /// `pg_advisory_lock(bigint)`.
    One(i64),
    /// `pg_advisory_lock(integer, integer)`.
    Two(i64, i64),
}

/// What a session wants of its advisory locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisoryRequest {
    /// To hold one.
    Lock {
        /// Its name.
        key: AdvisoryKey,
        /// Together with others.
        shared: bool,
        /// Until the end of the transaction.
        transaction: bool,
        /// Once it is free.
        wait: bool,
    },
    /// To give one back.
    Unlock {
        /// Its name.
        key: AdvisoryKey,
        /// The one held together with others.
        shared: bool,
    },
    /// To give all of the session's back.
    UnlockAll,
}

/// What the evaluator may ask of and do to the session and its server.
pub trait SettingsView {
    /// The value of a setting, as SHOW prints it.
    fn get(&self, name: &str) -> Result<String>;
    /// Sets a setting, for the transaction only if `local`.
    fn set(&self, name: &str, value: &str, local: bool) -> Result<()>;
    /// All settings.
    fn rows(&self) -> Vec<SettingRow>;
    /// Cancels the statement of another session; whether there was one.
    fn cancel_backend(&self, _pid: i32) -> bool {
        false
    }
    /// Ends another session; whether there was one.
    fn terminate_backend(&self, _pid: i32) -> bool {
        false
    }
    /// Memory that the rows of a relation take.
    fn relation_bytes(&self, _id: ObjectId) -> u64 {
        0
    }
    /// The number of rows of a relation, if known.
    fn row_count(&self, _id: ObjectId) -> Option<u64> {
        None
    }
    /// Takes or gives back an advisory lock; whether it could be.
    fn advisory(&self, _request: AdvisoryRequest) -> Result<bool> {
        Ok(true)
    }
    /// Bytes that the rows of one step of a query may take.
    fn memory_limit(&self) -> usize {
        1 << 30
    }
    /// Asked now and then while a query runs: an error stops it.
    fn check_interrupts(&self) -> Result<()> {
        Ok(())
    }
}

/// What a query of the system catalogs is answered from.
pub struct SystemContext<'a> {
    /// Names and definitions, as the session's transaction sees them.
    pub catalog: &'a Catalog,
    /// Schemas in which unqualified names are looked for, `$user` replaced.
    pub search_path: Vec<String>,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// Process number of the session.
    pub pid: i32,
    /// Settings, other sessions, figures.
    pub settings: &'a dyn SettingsView,
    /// All sessions, for pg_stat_activity.
    pub sessions: Vec<SessionRow>,
    /// The server's own relations (`freshet.…`), shown in pg_class.
    pub server_relations: Vec<ServerRelation>,
    /// Time of the transaction.
    pub now: EventTime,
    /// When the server started.
    pub started: EventTime,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemColumn {
    /// Name as PostgreSQL gives it; names may repeat.
    pub name: String,
    /// Type under which clients see it.
    pub pg_type: PgType,
    /// The relation it is a plain column of, or 0.
    pub table_oid: u32,
    /// Its number there, from 1, or 0.
    pub attnum: i16,
}

/// What a statement takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemDescription {
    /// Types of the parameters.
    pub params: Vec<PgType>,
    /// The columns.
    pub columns: Vec<SystemColumn>,
}

/// The stack that binding and running a query may take: trees are limited in depth, not in what a level costs.
const STACK: usize = 64 * 1024 * 1024;
const STACK_LEFT: usize = 2 * 1024 * 1024;

/// The types of a query's parameters and columns. `params` are the types the client gave, 0 for those it left open.
pub fn describe(
    query: &ast::Query,
    context: &SystemContext<'_>,
    params: &[u32],
) -> Result<SystemDescription> {
    stacker::maybe_grow(STACK_LEFT, STACK, || {
        let given = params.iter().map(|o| (*o != 0 && *o != oid::UNKNOWN).then(|| PgType::of(*o))).collect();
        let binder = Binder::new(context, given);
        let bound = binder.query(query, None)?;
        let columns = columns_of(&binder.settle(bound).columns);
        Ok(SystemDescription { params: binder.parameter_types(), columns })
    })
}

fn columns_of(columns: &[scope::ScopeColumn]) -> Vec<SystemColumn> {
    columns
        .iter()
        .map(|c| SystemColumn {
            name: c.name.clone(),
            pg_type: output::shown_type(c.ty),
            table_oid: c.origin.0,
            attnum: c.origin.1,
        })
        .collect()
}

/// The rows of a query, in the Arrow types of its columns. `params` are of the types [`describe`] gave.
pub fn answer(
    query: &ast::Query,
    context: &SystemContext<'_>,
    params: &[ScalarValue],
) -> Result<(Vec<SystemColumn>, RecordBatch)> {
    stacker::maybe_grow(STACK_LEFT, STACK, || {
        let types = params.iter().map(|p| Some(PgType::from_arrow(&p.data_type()))).collect();
        let binder = Binder::new(context, types);
        let bound = binder.query(query, None)?;
        let bound = binder.settle(bound);
        let run = Run::new(context, params.iter().map(cast::from_scalar).collect());
        let rows = run.plan(&bound.plan, None)?;
        let columns = columns_of(&bound.columns);
        let mut arrays: Vec<ArrayRef> = vec![];
        for (i, column) in bound.columns.iter().enumerate() {
            let values: Vec<Value> = rows.iter().map(|r| r.get(i).cloned().unwrap_or_default()).collect();
            arrays.push(output::shown(context, &values, column.ty)?);
        }
        let fields: Vec<_> = columns
            .iter()
            .zip(&arrays)
            .map(|(c, a)| c.pg_type.field(&c.name, true).with_data_type(a.data_type().clone()))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        Ok((columns, batch))
    })
}
