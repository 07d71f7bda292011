//! The statements of Freshet's SQL: what a session is asked to do, before any name is looked up.
//!
//! Boundary: plain data. Names are folded as PostgreSQL folds them; queries, expressions and data types stay
//! sqlparser trees that only [`crate::sql`] looks into, each beside the user's own text where the catalog
//! must store it.

use std::fmt;

use sqlparser::ast;

/// One statement of a query string.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    /// What it asks for.
    pub statement: Statement,
    /// The user's own text of this statement, without the semicolon and the white space around it.
    pub text: String,
    /// Where the statement begins in the whole query string, in characters from 0.
    pub offset: usize,
}

/// A name with up to two qualifiers, folded to lower case where it was not quoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The database, if written.
    pub database: Option<String>,
    /// The schema, if written.
    pub schema: Option<String>,
    /// The object's own name.
    pub name: String,
}

impl Name {
    /// A name without qualifiers.
    pub fn bare(name: impl Into<String>) -> Self {
        Name { database: None, schema: None, name: name.into() }
    }

    /// A name in a schema.
    pub fn in_schema(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Name { database: None, schema: Some(schema.into()), name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.database, &self.schema].into_iter().flatten() {
            write!(f, "{}.", quote_identifier(part))?;
        }
        f.write_str(&quote_identifier(&self.name))
    }
}

/// An identifier as it must be written to mean itself: quoted unless it is plain lower case.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// An expression and the user's text of it (defaults, generated columns and checks are stored as text).
#[derive(Debug, Clone)]
pub struct SqlExpr {
    /// The tree.
    pub ast: ast::Expr,
    /// The user's text.
    pub text: String,
}

/// A query and the user's text of it.
#[derive(Debug, Clone)]
pub struct SqlQuery {
    /// The tree.
    pub ast: Box<ast::Query>,
    /// The user's text, without EMIT and WITH NO DATA.
    pub text: String,
}

/// A relation by name, or a query in its place.
#[derive(Debug, Clone)]
pub enum Target {
    /// A relation.
    Relation(Name),
    /// A query.
    Query(SqlQuery),
}

/// The value of an option in `WITH (…)`.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// `'text'`.
    String(String),
    /// A number, as written (with its sign).
    Number(String),
    /// `true`, `false`, or a key without a value.
    Bool(bool),
    /// `INTERVAL '5 seconds'`, `INTERVAL '5' SECOND`: the interval's text, unit included.
    Interval(String),
    /// A bare word, folded to lower case.
    Ident(String),
    /// `(a, b)`.
    List(Vec<OptionValue>),
}

impl fmt::Display for OptionValue {
    /// The value as plain text: what a connector that expects a string reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionValue::String(s)
            | OptionValue::Number(s)
            | OptionValue::Interval(s)
            | OptionValue::Ident(s) => f.write_str(s),
            OptionValue::Bool(b) => write!(f, "{b}"),
            OptionValue::List(values) => {
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// Options in the order written; names are lower case, dotted, and unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options(pub Vec<(String, OptionValue)>);

impl Options {
    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&OptionValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Takes an option out, so that what is left over at the end is unknown.
    pub fn take(&mut self, name: &str) -> Option<OptionValue> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }
}

/// `FORMAT f ENCODE e (options)`.
#[derive(Debug, Clone, PartialEq)]
pub struct FormatEncode {
    /// `plain`, `upsert` or `debezium`.
    pub format: String,
    /// `json`, `csv`, `parquet`, `bytes`, `text`, `avro` or `protobuf`.
    pub encode: String,
    /// The options in parentheses after ENCODE.
    pub options: Options,
}

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
    /// The change.
    pub action: AlterAction,
}

/// TRUNCATE.
#[derive(Debug, Clone)]
pub struct Truncate {
    /// The tables.
    pub tables: Vec<Name>,
    /// CASCADE.
    pub cascade: bool,
}

/// Where COPY reads from or writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyEndpoint {
    /// STDIN or STDOUT.
    Client,
    /// A file or URL.
    File(String),
}

/// What COPY copies.
#[derive(Debug, Clone)]
pub enum CopyObject {
    /// A relation and its columns (none: all).
    Relation {
        /// Its name.
        name: Name,
        /// The columns, empty for all.
        columns: Vec<String>,
    },
    /// A query, copied out.
    Query(SqlQuery),
    /// INSERT, UPDATE or DELETE with RETURNING.
    Dml(Box<Statement>),
    /// COPY (SUBSCRIBE …) TO STDOUT.
    Subscribe(Box<Subscribe>),
}

/// COPY.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What is copied.
    pub object: CopyObject,
    /// TO (true) or FROM (false).
    pub to: bool,
    /// The other side.
    pub endpoint: CopyEndpoint,
    /// The options, also those of the old syntax; names are lower case.
    pub options: Options,
}

/// Isolation levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED.
    ReadUncommitted,
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ or SNAPSHOT.
    RepeatableRead,
    /// SERIALIZABLE.
    Serializable,
}

impl Isolation {
    /// As SHOW transaction_isolation prints it.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        }
    }
}

/// The modes of BEGIN and SET TRANSACTION.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY (true) or READ WRITE (false).
    pub read_only: Option<bool>,
    /// \[NOT\] DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// The value given by SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// DEFAULT.
    Default,
    /// One or more values (a list is joined by commas for settings that are lists).
    Values(Vec<String>),
}

/// SET name = value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// LOCAL: until the end of the transaction.
    pub local: bool,
    /// The setting, lower case; `timezone` for TIME ZONE, `role`, `session_authorization`, `client_encoding`
    /// (NAMES) and `search_path` (SCHEMA) for the special forms.
    pub name: String,
    /// The value.
    pub value: SetValue,
}

/// What SHOW lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShowKind {
    /// Objects of a kind.
    Objects(ObjectKind),
    /// Columns of the relation named by FROM.
    Columns,
    /// Roles.
    Roles,
    /// Background jobs.
    Jobs,
    /// Sessions.
    Processlist,
    /// Declared cursors.
    Cursors,
    /// Clusters or resource groups.
    ResourceGroups,
}

/// LIKE or WHERE of SHOW.
#[derive(Debug, Clone)]
pub enum ShowFilter {
    /// LIKE 'pattern'.
    Like(String),
    /// WHERE expression over the columns shown.
    Where(Box<ast::Expr>),
}

/// SHOW TABLES, SHOW INDEXES FROM t, ….
#[derive(Debug, Clone)]
pub struct ShowObjects {
    /// What to list.
    pub kind: ShowKind,
    /// FROM or ON or IN: a schema, or a relation for COLUMNS and INDEXES.
    pub from: Option<Name>,
    /// LIKE or WHERE.
    pub filter: Option<ShowFilter>,
}

/// The output format of EXPLAIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExplainFormat {
    /// Indented lines.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// Which representation EXPLAIN prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExplainStage {
    /// What PostgreSQL users expect: the plan that would run.
    #[default]
    Plan,
    /// The bound logical plan.
    Logical,
    /// The physical plan of an ad hoc query.
    Physical,
    /// The running operators.
    Dataflow,
    /// The rules that changed the plan.
    Rules,
}

/// What EXPLAIN explains.
#[derive(Debug, Clone)]
pub enum ExplainTarget {
    /// A statement.
    Statement(Box<Statement>),
    /// An object of the catalog.
    Object {
        /// Its kind.
        kind: ObjectKind,
        /// Its name.
        name: Name,
    },
}

/// EXPLAIN.
#[derive(Debug, Clone)]
pub struct Explain {
    /// ANALYZE.
    pub analyze: bool,
    /// VERBOSE.
    pub verbose: bool,
    /// FORMAT.
    pub format: ExplainFormat,
    /// TYPE, or the stage's own word.
    pub stage: ExplainStage,
    /// Options that only change PostgreSQL's own figures (COSTS, BUFFERS, TIMING, SUMMARY, WAL, SETTINGS).
    pub ignored: Vec<String>,
    /// What is explained.
    pub target: ExplainTarget,
}

/// The envelope of SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Envelope {
    /// Rows with their difference.
    #[default]
    Diff,
    /// ENVELOPE UPSERT (KEY (…)).
    Upsert(Vec<String>),
    /// ENVELOPE DEBEZIUM (KEY (…)).
    Debezium(Vec<String>),
}

/// AS OF [AT LEAST] t.
#[derive(Debug, Clone)]
pub struct AsOf {
    /// AT LEAST.
    pub at_least: bool,
    /// The time.
    pub time: Box<ast::Expr>,
}

/// SUBSCRIBE.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// The relation or query.
    pub target: Target,
    /// SNAPSHOT, if written (default true).
    pub snapshot: Option<bool>,
    /// PROGRESS, if written (default false).
    pub progress: Option<bool>,
    /// AS OF.
    pub as_of: Option<AsOf>,
    /// UP TO.
    pub up_to: Option<Box<ast::Expr>>,
    /// ENVELOPE.
    pub envelope: Envelope,
}

/// What a cursor reads.
#[derive(Debug, Clone)]
pub enum CursorSource {
    /// A query.
    Query(SqlQuery),
    /// SUBSCRIBE.
    Subscribe(Box<Subscribe>),
}

/// DECLARE.
#[derive(Debug, Clone)]
pub struct Declare {
    /// The cursor.
    pub name: String,
    /// BINARY.
    pub binary: bool,
    /// SCROLL (true), NO SCROLL (false), or neither.
    pub scroll: Option<bool>,
    /// WITH HOLD.
    pub hold: bool,
    /// What it reads.
    pub source: CursorSource,
}

/// How many rows FETCH or MOVE passes, and which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchDirection {
    /// FORWARD n (negative: backward; NEXT is 1, PRIOR is -1, FORWARD 0 rereads the row).
    Forward(i64),
    /// ALL, FORWARD ALL.
    ForwardAll,
    /// BACKWARD ALL.
    BackwardAll,
    /// ABSOLUTE n (FIRST is 1, LAST is -1).
    Absolute(i64),
    /// RELATIVE n.
    Relative(i64),
}

/// FETCH and MOVE.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The cursor.
    pub cursor: String,
    /// How far.
    pub direction: FetchDirection,
    /// WITH (timeout = …).
    pub timeout: Option<OptionValue>,
}

/// PREPARE.
#[derive(Debug, Clone)]
pub struct Prepare {
    /// The statement's name.
    pub name: String,
    /// The declared parameter types.
    pub types: Vec<ast::DataType>,
    /// What it does.
    pub statement: Box<Statement>,
    /// The text after AS.
    pub text: String,
}

/// EXECUTE.
#[derive(Debug, Clone)]
pub struct Execute {
    /// The statement's name.
    pub name: String,
    /// The arguments.
    pub args: Vec<ast::Expr>,
}

/// What DISCARD discards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// ALL.
    All,
    /// PLANS.
    Plans,
    /// SEQUENCES.
    Sequences,
    /// TEMP.
    Temp,
}

/// A statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, WITH ….
    Query(Box<ast::Query>),
    /// INSERT.
    Insert(Box<ast::Insert>),
    /// UPDATE.
    Update(Box<ast::Update>),
    /// DELETE.
    Delete(Box<ast::Delete>),
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// CREATE SOURCE.
    CreateSource(Box<CreateSource>),
    /// CREATE \[MATERIALIZED\] VIEW.
    CreateView(Box<CreateView>),
    /// CREATE INDEX.
    CreateIndex(Box<CreateIndex>),
    /// CREATE SINK.
    CreateSink(Box<CreateSink>),
    /// CREATE SCHEMA.
    CreateSchema(CreateSchema),
    /// DROP.
    Drop(Drop),
    /// ALTER.
    Alter(Box<Alter>),
    /// COMMENT ON.
    Comment(Comment),
    /// TRUNCATE.
    Truncate(Truncate),
    /// COPY.
    Copy(Box<Copy>),
    /// BEGIN, START TRANSACTION.
    Begin {
        /// START TRANSACTION rather than BEGIN (the command tag differs).
        start: bool,
        /// The modes.
        modes: TransactionModes,
    },
    /// COMMIT, END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT name.
    Savepoint(String),
    /// RELEASE \[SAVEPOINT\] name.
    Release(String),
    /// ROLLBACK TO \[SAVEPOINT\] name.
    RollbackTo(String),
    /// SET name.
    Set(Set),
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS AS TRANSACTION.
    SetTransaction {
        /// SESSION CHARACTERISTICS: for the transactions to come.
        session: bool,
        /// The modes.
        modes: TransactionModes,
    },
    /// SHOW name; `all` for SHOW ALL.
    Show(String),
    /// RESET name; none for RESET ALL.
    Reset(Option<String>),
    /// DISCARD.
    Discard(Discard),
    /// SHOW TABLES and the like.
    ShowObjects(Box<ShowObjects>),
    /// SHOW CREATE kind name.
    ShowCreate {
        /// The object's kind.
        kind: ObjectKind,
        /// The object.
        name: Name,
    },
    /// EXPLAIN.
    Explain(Box<Explain>),
    /// SUBSCRIBE.
    Subscribe(Box<Subscribe>),
    /// DECLARE.
    Declare(Box<Declare>),
    /// FETCH.
    Fetch(Fetch),
    /// MOVE.
    Move(Fetch),
    /// CLOSE name; none for CLOSE ALL.
    Close(Option<String>),
    /// PREPARE.
    Prepare(Box<Prepare>),
    /// EXECUTE.
    Execute(Box<Execute>),
    /// DEALLOCATE name; none for DEALLOCATE ALL.
    Deallocate(Option<String>),
    /// CHECK MATERIALIZED VIEW name.
    CheckMaterializedView(Name),
    /// FLUSH.
    Flush,
    /// WAIT.
    Wait,
    /// REFRESH MATERIALIZED VIEW name: nothing to do, a view is always fresh.
    Refresh(Name),
    /// LISTEN channel.
    Listen(String),
    /// UNLISTEN channel; none for UNLISTEN *.
    Unlisten(Option<String>),
    /// NOTIFY channel, 'payload'.
    Notify {
        /// The channel.
        channel: String,
        /// The payload.
        payload: Option<String>,
    },
    /// VACUUM, with the tables named.
    Vacuum(Vec<Name>),
    /// ANALYZE, with the tables named.
    Analyze(Vec<Name>),
}

impl Statement {
    /// The command tag without row counts, as PostgreSQL sends it.
    pub fn tag(&self) -> &'static str {
        match self {
            Statement::Query(_) => "SELECT",
            Statement::Insert(_) => "INSERT",
            Statement::Update(_) => "UPDATE",
            Statement::Delete(_) => "DELETE",
            Statement::CreateTable(table) if table.query.is_some() => "CREATE TABLE AS",
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::CreateSource(_) => "CREATE SOURCE",
            Statement::CreateView(view) if view.materialized => "CREATE MATERIALIZED VIEW",
            Statement::CreateView(_) => "CREATE VIEW",
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::CreateSink(_) => "CREATE SINK",
            Statement::CreateSchema(_) => "CREATE SCHEMA",
            Statement::Drop(drop) => drop_tag(drop.kind),
            Statement::Alter(alter) => alter_tag(alter.kind),
            Statement::Comment(_) => "COMMENT",
            Statement::Truncate(_) => "TRUNCATE TABLE",
            Statement::Copy(_) => "COPY",
            Statement::Begin { start: true, .. } => "START TRANSACTION",
            Statement::Begin { .. } => "BEGIN",
            Statement::Commit { .. } => "COMMIT",
            Statement::Rollback { .. } | Statement::RollbackTo(_) => "ROLLBACK",
            Statement::Savepoint(_) => "SAVEPOINT",
            Statement::Release(_) => "RELEASE",
            Statement::Set(_) | Statement::SetTransaction { .. } => "SET",
            Statement::Show(_) | Statement::ShowObjects(_) | Statement::ShowCreate { .. } => "SHOW",
            Statement::Reset(_) => "RESET",
            Statement::Discard(Discard::All) => "DISCARD ALL",
            Statement::Discard(Discard::Plans) => "DISCARD PLANS",
            Statement::Discard(Discard::Sequences) => "DISCARD SEQUENCES",
            Statement::Discard(Discard::Temp) => "DISCARD TEMP",
            Statement::Explain(_) => "EXPLAIN",
            Statement::Subscribe(_) => "SUBSCRIBE",
            Statement::Declare(_) => "DECLARE CURSOR",
            Statement::Fetch(_) => "FETCH",
            Statement::Move(_) => "MOVE",
            Statement::Close(None) => "CLOSE CURSOR ALL",
            Statement::Close(Some(_)) => "CLOSE CURSOR",
            Statement::Prepare(_) => "PREPARE",
            Statement::Execute(_) => "EXECUTE",
            Statement::Deallocate(None) => "DEALLOCATE ALL",
            Statement::Deallocate(Some(_)) => "DEALLOCATE",
            Statement::CheckMaterializedView(_) => "CHECK MATERIALIZED VIEW",
            Statement::Flush => "FLUSH",
            Statement::Wait => "WAIT",
            Statement::Refresh(_) => "REFRESH MATERIALIZED VIEW",
            Statement::Listen(_) => "LISTEN",
            Statement::Unlisten(_) => "UNLISTEN",
            Statement::Notify { .. } => "NOTIFY",
            Statement::Vacuum(_) => "VACUUM",
            Statement::Analyze(_) => "ANALYZE",
        }
    }

    /// Whether it is one of those a failed transaction block still takes (the rest is 25P02).
    pub fn ends_transaction(&self) -> bool {
        matches!(self, Statement::Commit { .. } | Statement::Rollback { .. } | Statement::RollbackTo(_))
    }

    /// Whether it changes the catalog.
    pub fn is_ddl(&self) -> bool {
        matches!(
            self,
            Statement::CreateTable(_)
                | Statement::CreateSource(_)
                | Statement::CreateView(_)
                | Statement::CreateIndex(_)
                | Statement::CreateSink(_)
                | Statement::CreateSchema(_)
                | Statement::Drop(_)
                | Statement::Alter(_)
                | Statement::Comment(_)
        )
    }
}

fn drop_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table => "DROP TABLE",
        ObjectKind::Source => "DROP SOURCE",
        ObjectKind::View => "DROP VIEW",
        ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
        ObjectKind::Index => "DROP INDEX",
        ObjectKind::Sink => "DROP SINK",
        ObjectKind::Schema => "DROP SCHEMA",
        ObjectKind::Connection => "DROP CONNECTION",
        ObjectKind::Secret => "DROP SECRET",
        ObjectKind::Subscription => "DROP SUBSCRIPTION",
        ObjectKind::Function => "DROP FUNCTION",
        ObjectKind::Database => "DROP DATABASE",
        ObjectKind::Column => "DROP COLUMN",
    }
}

fn alter_tag(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Table | ObjectKind::Column => "ALTER TABLE",
        ObjectKind::Source => "ALTER SOURCE",
        ObjectKind::View => "ALTER VIEW",
        ObjectKind::MaterializedView => "ALTER MATERIALIZED VIEW",
        ObjectKind::Index => "ALTER INDEX",
        ObjectKind::Sink => "ALTER SINK",
        ObjectKind::Schema => "ALTER SCHEMA",
        ObjectKind::Connection => "ALTER CONNECTION",
        ObjectKind::Secret => "ALTER SECRET",
        ObjectKind::Subscription => "ALTER SUBSCRIPTION",
        ObjectKind::Function => "ALTER FUNCTION",
        ObjectKind::Database => "ALTER DATABASE",
    }
}
