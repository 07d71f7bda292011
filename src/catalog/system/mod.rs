//! The system catalogs `pg_catalog` and `information_schema`: which relations there are, and their rows.
//!
//! Columns, oids and types of the relations are those of PostgreSQL 15; rows are computed from the catalog when
//! they are asked for. Relations of things that Freshet does not have are empty.
//!
//! Boundary: pure data. Queries over it are the business of `sql::system`.

mod classes;
mod definitions;
pub mod oids;
mod schema_views;
mod server;
pub mod types;
mod value;

pub use classes::{ClassKind, index_definition};
pub use definitions::{SystemColumn, SystemRelation, find, relations};
pub use schema_views::is_system_schema;
pub use server::{Procedure, procedure_name, procedures, procedures_named};
pub use value::{ArrayValue, Value};

use crate::catalog::object::{Catalog, ObjectId};
use crate::config::SettingRow;
use crate::types::PgType;

/// Oid of the schema pg_catalog.
pub const PG_CATALOG: u32 = 11;
/// Oid of information_schema.
pub const INFORMATION_SCHEMA: u32 = 13207;
/// Oid of the one role.
pub const OWNER: u32 = 10;
/// Oid of the one database.
pub const DATABASE_OID: u32 = 16383;
/// Oid of the schema of the server's own relations.
pub const FRESHET_SCHEMA: u32 = 13500;

/// A relation of the server itself (`freshet.…`), which is not in the catalog but shown in pg_class.
#[derive(Debug, Clone)]
pub struct ServerRelation {
    /// Schema, `freshet`.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns.
    pub columns: Vec<(String, PgType)>,
}

/// A session, as pg_stat_activity shows it.
#[derive(Debug, Clone, Default)]
pub struct SessionRow {
    /// Process number of the session.
    pub pid: i32,
    /// User.
    pub user: String,
    /// Database.
    pub database: String,
    /// application_name.
    pub application_name: String,
    /// Address of the client.
    pub client_addr: Option<String>,
    /// Port of the client.
    pub client_port: Option<i32>,
    /// When it connected, µs since the Unix epoch.
    pub backend_start: Option<i64>,
    /// When its transaction began.
    pub xact_start: Option<i64>,
    /// When its latest query began.
    pub query_start: Option<i64>,
    /// When it last changed its state.
    pub state_change: Option<i64>,
    /// active, idle, idle in transaction, …
    pub state: String,
    /// Text of the latest query.
    pub query: String,
}

/// Everything that rows of the system relations are made of.
pub struct SystemState<'a> {
    /// Names and definitions.
    pub catalog: &'a Catalog,
    /// The user.
    pub user: &'a str,
    /// The database.
    pub database: &'a str,
    /// All settings of the session.
    pub settings: Vec<SettingRow>,
    /// All sessions.
    pub sessions: &'a [SessionRow],
    /// The server's own relations.
    pub server_relations: &'a [ServerRelation],
    /// Rows of a relation, if known.
    pub row_count: &'a dyn Fn(ObjectId) -> Option<u64>,
    /// When the server started, µs since the Unix epoch.
    pub started: i64,
}

/// The rows of a system relation, in the order of its columns.
pub fn rows(relation: &SystemRelation, state: &SystemState<'_>) -> Vec<Vec<Value>> {
    let table = definitions::Rows::new(relation);
    match relation.schema {
        "pg_catalog" => classes::fill(table, state)
            .or_else(|table| server::fill(table, state))
            .or_else(|table| schema_views::fill_pg_views(table, state)),
        _ => schema_views::fill_information_schema(table, state),
    }
    .map_or_else(|_| Vec::new(), definitions::Rows::finish)
}

/// The SQL words that must be quoted when they are names (PostgreSQL's reserved key words).
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "bigint",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "char",
    "character",
    "check",
    "coalesce",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "dec",
    "decimal",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "national",
    "natural",
    "nchar",
    "none",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

/// A name as it must be written in SQL, in quotes where needed.
pub fn quote_ident(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as an SQL literal.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests;
