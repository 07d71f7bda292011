//! Statements about sessions: settings, transactions, cursors, COPY, SHOW, EXPLAIN, SUBSCRIBE, prepared statements.

use sqlparser::ast;

use super::{Name, ObjectKind, OptionValue, Options, SqlQuery, Statement, Target};

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
