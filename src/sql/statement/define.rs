//! Statements that define, change and drop objects.

use sqlparser::ast;

use super::{FormatEncode, Name, Options, SqlExpr, SqlQuery, Target};

/// A column of CREATE TABLE or CREATE SOURCE.
#[derive(Debug, Clone)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: ast::DataType,
    /// NOT NULL, or a member of the column's own PRIMARY KEY.
    pub not_null: bool,
    /// `DEFAULT e`.
    pub default: Option<SqlExpr>,
    /// `GENERATED ALWAYS AS (e) STORED` or `AS e`.
    pub generated: Option<SqlExpr>,
    /// `GENERATED … AS IDENTITY`.
    pub identity: Option<IdentityClause>,
}

/// `GENERATED {ALWAYS | BY DEFAULT} AS IDENTITY [(options)]`.
#[derive(Debug, Clone)]
pub struct IdentityClause {
    /// ALWAYS: a value can be given only with OVERRIDING SYSTEM VALUE.
    pub always: bool,
    /// Options of its sequence.
    pub options: SequenceOptions,
}

/// Options of CREATE SEQUENCE and ALTER SEQUENCE.
#[derive(Debug, Clone, Default)]
pub struct SequenceOptions {
    /// AS type.
    pub data_type: Option<ast::DataType>,
    /// INCREMENT.
    pub increment: Option<i64>,
    /// MINVALUE; NO MINVALUE is `Some(None)`.
    pub min: Option<Option<i64>>,
    /// MAXVALUE; NO MAXVALUE is `Some(None)`.
    pub max: Option<Option<i64>>,
    /// START.
    pub start: Option<i64>,
    /// RESTART \[WITH n\].
    pub restart: Option<Option<i64>>,
    /// CACHE.
    pub cache: Option<i64>,
    /// \[NO\] CYCLE.
    pub cycle: Option<bool>,
    /// OWNED BY table.column; OWNED BY NONE is `Some(None)`.
    pub owned_by: Option<Option<(Name, String)>>,
}

/// CREATE SEQUENCE.
#[derive(Debug, Clone)]
pub struct CreateSequence {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// TEMP.
    pub temporary: bool,
    /// Its name.
    pub name: Name,
    /// Its options.
    pub options: SequenceOptions,
}

/// CREATE FUNCTION.
#[derive(Debug, Clone)]
pub struct CreateFunction {
    /// OR REPLACE.
    pub or_replace: bool,
    /// Its name.
    pub name: Name,
    /// Names and types of its arguments.
    pub args: Vec<(Option<String>, ast::DataType)>,
    /// The type of its result, or of each row (SETOF).
    pub result: Option<ast::DataType>,
    /// RETURNS TABLE (…).
    pub columns: Option<Vec<(String, ast::DataType)>>,
    /// SETOF.
    pub set: bool,
    /// The language, lower case.
    pub language: String,
    /// The body.
    pub body: String,
    /// `v`, `s` or `i`.
    pub volatility: char,
    /// STRICT.
    pub strict: bool,
}

/// `LIKE table [INCLUDING …]` in CREATE TABLE.
#[derive(Debug, Clone)]
pub struct LikeClause {
    /// How many of the written columns stand before it.
    pub at: usize,
    /// The table.
    pub table: Name,
    /// What is taken besides names, types and NOT NULL.
    pub including: Including,
}

/// INCLUDING of [`LikeClause`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Including {
    /// COMMENTS.
    pub comments: bool,
    /// CONSTRAINTS.
    pub constraints: bool,
    /// DEFAULTS.
    pub defaults: bool,
    /// GENERATED.
    pub generated: bool,
    /// IDENTITY.
    pub identity: bool,
    /// INDEXES.
    pub indexes: bool,
}

/// What ON COMMIT asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCommitClause {
    /// PRESERVE ROWS.
    PreserveRows,
    /// DELETE ROWS.
    DeleteRows,
    /// DROP.
    Drop,
}

/// A constraint of a table; those written beside a column come after their column's name here too.
#[derive(Debug, Clone)]
pub enum Constraint {
    /// `PRIMARY KEY (…)`.
    PrimaryKey {
        /// The constraint's name, if given.
        name: Option<String>,
        /// Its columns.
        columns: Vec<String>,
    },
    /// `UNIQUE (…)`.
    Unique {
        /// The constraint's name, if given.
        name: Option<String>,
        /// Its columns.
        columns: Vec<String>,
    },
    /// `CHECK (e)`.
    Check {
        /// The constraint's name, if given.
        name: Option<String>,
        /// The condition.
        expr: SqlExpr,
    },
    /// `FOREIGN KEY (…) REFERENCES t (…) NOT ENFORCED`: says what is so, and has no effect.
    ForeignKey {
        /// Its columns.
        columns: Vec<String>,
        /// The table referenced.
        table: Name,
        /// Its columns; empty: the primary key.
        referenced: Vec<String>,
    },
}

/// What happens to rows that come after their watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LateRowsClause {
    /// `LATE ROWS DROP`.
    Drop,
    /// `LATE ROWS TO name`.
    To(Name),
}

/// `WATERMARK FOR column [AS expr] [ALLOWED LATENESS i] [IDLE TIMEOUT i] [LATE ROWS …]`.
#[derive(Debug, Clone)]
pub struct WatermarkClause {
    /// The event-time column.
    pub column: String,
    /// The watermark, by default the column itself.
    pub expr: Option<SqlExpr>,
    /// `ALLOWED LATENESS`.
    pub lateness: Option<ast::Expr>,
    /// `IDLE TIMEOUT`.
    pub idle: Option<ast::Expr>,
    /// `LATE ROWS`.
    pub late_rows: Option<LateRowsClause>,
}

/// CREATE TABLE.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// TEMP or TEMPORARY.
    pub temporary: bool,
    /// Its name.
    pub name: Name,
    /// Its columns; empty with `query` unless names were given.
    pub columns: Vec<ColumnDef>,
    /// Column names of CREATE TABLE t (a, b) AS query.
    pub column_names: Vec<String>,
    /// Table and column constraints.
    pub constraints: Vec<Constraint>,
    /// WATERMARK FOR.
    pub watermark: Option<WatermarkClause>,
    /// APPEND ONLY.
    pub append_only: bool,
    /// WITH (…).
    pub options: Options,
    /// FORMAT … ENCODE … (a table with a connector).
    pub format: Option<FormatEncode>,
    /// AS query.
    pub query: Option<SqlQuery>,
    /// WITH NO DATA after AS query.
    pub with_no_data: bool,
    /// LIKE.
    pub likes: Vec<LikeClause>,
    /// ON COMMIT.
    pub on_commit: Option<OnCommitClause>,
}

/// CREATE SOURCE.
#[derive(Debug, Clone)]
pub struct CreateSource {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Its name.
    pub name: Name,
    /// Its columns.
    pub columns: Vec<ColumnDef>,
    /// Table and column constraints.
    pub constraints: Vec<Constraint>,
    /// WATERMARK FOR.
    pub watermark: Option<WatermarkClause>,
    /// APPEND ONLY.
    pub append_only: bool,
    /// INCLUDE clauses.
    pub include: Vec<IncludeColumn>,
    /// WITH (…).
    pub options: Options,
    /// FORMAT … ENCODE ….
    pub format: Option<FormatEncode>,
}

/// `INCLUDE {KEY|PARTITION|OFFSET|TIMESTAMP|HEADERS} [AS name]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeColumn {
    /// What to include, lower case.
    pub what: String,
    /// The column's name, if given.
    pub alias: Option<String>,
}

/// When a view emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emit {
    /// Every change, with retractions (EMIT ON UPDATE, EMIT CHANGES).
    #[default]
    OnUpdate,
    /// Final rows only (EMIT ON WINDOW CLOSE, EMIT FINAL).
    OnWindowClose,
}

/// CREATE VIEW and CREATE MATERIALIZED VIEW.
#[derive(Debug, Clone)]
pub struct CreateView {
    /// OR REPLACE.
    pub or_replace: bool,
    /// MATERIALIZED.
    pub materialized: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// TEMP or TEMPORARY.
    pub temporary: bool,
    /// Its name.
    pub name: Name,
    /// Its column names, if given.
    pub columns: Vec<String>,
    /// WITH (…); `IN CLUSTER c` appears as `resource_group`.
    pub options: Options,
    /// The query and its exact text.
    pub query: SqlQuery,
    /// EMIT, if written.
    pub emit: Option<Emit>,
    /// WITH NO DATA.
    pub with_no_data: bool,
}

/// A member of an index.
#[derive(Debug, Clone)]
pub struct IndexColumn {
    /// The expression, most often a column.
    pub expr: SqlExpr,
    /// The column's name if the expression is just that.
    pub column: Option<String>,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST or LAST, if written.
    pub nulls_first: Option<bool>,
}

/// CREATE INDEX.
#[derive(Debug, Clone)]
pub struct CreateIndex {
    /// UNIQUE.
    pub unique: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Its name, if given.
    pub name: Option<String>,
    /// The relation.
    pub table: Name,
    /// USING, lower case.
    pub method: Option<String>,
    /// The indexed columns; empty for CREATE DEFAULT INDEX.
    pub columns: Vec<IndexColumn>,
    /// INCLUDE.
    pub include: Vec<String>,
    /// WHERE.
    pub predicate: Option<SqlExpr>,
    /// WITH (…).
    pub options: Options,
}

/// CREATE SINK.
#[derive(Debug, Clone)]
pub struct CreateSink {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Its name.
    pub name: Name,
    /// FROM relation or AS query.
    pub from: Target,
    /// EMIT, if written.
    pub emit: Option<Emit>,
    /// WITH (…).
    pub options: Options,
    /// FORMAT … ENCODE ….
    pub format: Option<FormatEncode>,
}

/// CREATE SCHEMA.
#[derive(Debug, Clone)]
pub struct CreateSchema {
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Its name.
    pub name: String,
}

/// A kind of catalog object that statements name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// TABLE.
    Table,
    /// SOURCE.
    Source,
    /// VIEW.
    View,
    /// MATERIALIZED VIEW.
    MaterializedView,
    /// INDEX.
    Index,
    /// SINK.
    Sink,
    /// SCHEMA.
    Schema,
    /// CONNECTION.
    Connection,
    /// SECRET.
    Secret,
    /// SUBSCRIPTION.
    Subscription,
    /// FUNCTION.
    Function,
    /// SEQUENCE.
    Sequence,
    /// DATABASE.
    Database,
    /// COLUMN (COMMENT ON only).
    Column,
}

impl ObjectKind {
    /// The keywords, upper case, as in command tags.
    pub fn keyword(self) -> &'static str {
        match self {
            ObjectKind::Table => "TABLE",
            ObjectKind::Source => "SOURCE",
            ObjectKind::View => "VIEW",
            ObjectKind::MaterializedView => "MATERIALIZED VIEW",
            ObjectKind::Index => "INDEX",
            ObjectKind::Sink => "SINK",
            ObjectKind::Schema => "SCHEMA",
            ObjectKind::Connection => "CONNECTION",
            ObjectKind::Secret => "SECRET",
            ObjectKind::Subscription => "SUBSCRIPTION",
            ObjectKind::Function => "FUNCTION",
            ObjectKind::Sequence => "SEQUENCE",
            ObjectKind::Database => "DATABASE",
            ObjectKind::Column => "COLUMN",
        }
    }
}

/// DROP.
#[derive(Debug, Clone)]
pub struct Drop {
    /// What kind of object.
    pub kind: ObjectKind,
    /// IF EXISTS.
    pub if_exists: bool,
    /// The names.
    pub names: Vec<Name>,
    /// CASCADE.
    pub cascade: bool,
}

/// COMMENT ON.
#[derive(Debug, Clone)]
pub struct Comment {
    /// What kind of object.
    pub kind: ObjectKind,
    /// The object; for a column, the relation.
    pub name: Name,
    /// The column, for COMMENT ON COLUMN.
    pub column: Option<String>,
    /// The text; none removes the comment.
    pub comment: Option<String>,
}

/// What ALTER changes.
#[derive(Debug, Clone)]
pub enum AlterAction {
    /// RENAME TO name.
    Rename(String),
    /// RENAME \[COLUMN\] a TO b.
    RenameColumn {
        /// The column.
        from: String,
        /// Its new name.
        to: String,
    },
    /// SET SCHEMA name.
    SetSchema(String),
    /// OWNER TO role.
    Owner(String),
    /// SET (option = value, …).
    SetOptions(Options),
    /// RESET (option, …).
    ResetOptions(Vec<String>),
    /// ADD \[COLUMN\] \[IF NOT EXISTS\] column.
    AddColumn {
        /// The column.
        column: Box<ColumnDef>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Constraints written beside the column.
        constraints: Vec<Constraint>,
    },
    /// DROP \[COLUMN\] [IF EXISTS] column.
    DropColumn {
        /// The column.
        column: String,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// ADD constraint.
    AddConstraint(Constraint),
    /// DROP CONSTRAINT.
    DropConstraint {
        /// The constraint.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// RENAME CONSTRAINT a TO b.
    RenameConstraint {
        /// The constraint.
        from: String,
        /// Its new name.
        to: String,
    },
    /// ALTER COLUMN c TYPE t.
    ColumnType {
        /// The column.
        column: String,
        /// Its new type.
        data_type: ast::DataType,
        /// USING.
        using: bool,
    },
    /// ALTER SEQUENCE options; of an identity column when one is named.
    Sequence {
        /// The identity column.
        column: Option<String>,
        /// The options.
        options: SequenceOptions,
    },
    /// ALTER COLUMN c ADD GENERATED … AS IDENTITY.
    AddIdentity {
        /// The column.
        column: String,
        /// The clause.
        identity: IdentityClause,
    },
    /// ALTER COLUMN c SET GENERATED {ALWAYS | BY DEFAULT}.
    SetIdentity {
        /// The column.
        column: String,
        /// ALWAYS.
        always: bool,
    },
    /// ALTER COLUMN c DROP IDENTITY \[IF EXISTS\].
    DropIdentity {
        /// The column.
        column: String,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// ALTER COLUMN c SET DEFAULT e | DROP DEFAULT.
    ColumnDefault {
        /// The column.
        column: String,
        /// The default; none drops it.
        default: Option<SqlExpr>,
    },
    /// ALTER COLUMN c SET NOT NULL | DROP NOT NULL.
    ColumnNotNull {
        /// The column.
        column: String,
        /// SET (true) or DROP.
        not_null: bool,
    },
}

/// ALTER.
#[derive(Debug, Clone)]
pub struct Alter {
    /// What kind of object.
    pub kind: ObjectKind,
    /// IF EXISTS.
    pub if_exists: bool,
    /// The object.
    pub name: Name,
    /// The changes, in order.
    pub actions: Vec<AlterAction>,
}

/// TRUNCATE.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// The tables.
    pub tables: Vec<Name>,
    /// RESTART IDENTITY.
    pub restart_identity: bool,
    /// CASCADE.
    pub cascade: bool,
}
