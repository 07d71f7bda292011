//! The statements of Freshet's SQL: what a session is asked to do, before any name is looked up.
//!
//! Boundary: plain data. Names are folded as PostgreSQL folds them; queries, expressions and data types stay
//! sqlparser trees that only [`crate::sql`] looks into, each beside the user's own text where the catalog
//! must store it.

mod define;
mod dml;
mod session;

use std::fmt;

use sqlparser::ast;

pub use define::*;
pub use dml::*;
pub use session::*;

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

/// A statement.
#[derive(Debug, Clone)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, WITH ….
    Query(Box<ast::Query>),
    /// INSERT.
    Insert(Box<Dml<ast::Insert>>),
    /// UPDATE.
    Update(Box<Dml<ast::Update>>),
    /// DELETE.
    Delete(Box<Dml<ast::Delete>>),
    /// MERGE.
    Merge(Box<Merge>),
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
    /// CREATE SEQUENCE.
    CreateSequence(Box<CreateSequence>),
    /// CREATE FUNCTION.
    CreateFunction(Box<CreateFunction>),
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
            Statement::Merge(_) => "MERGE",
            Statement::CreateTable(table) if table.query.is_some() => "CREATE TABLE AS",
            Statement::CreateTable(_) => "CREATE TABLE",
            Statement::CreateSource(_) => "CREATE SOURCE",
            Statement::CreateView(view) if view.materialized => "CREATE MATERIALIZED VIEW",
            Statement::CreateView(_) => "CREATE VIEW",
            Statement::CreateIndex(_) => "CREATE INDEX",
            Statement::CreateSink(_) => "CREATE SINK",
            Statement::CreateSchema(_) => "CREATE SCHEMA",
            Statement::CreateSequence(_) => "CREATE SEQUENCE",
            Statement::CreateFunction(_) => "CREATE FUNCTION",
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
                | Statement::CreateSequence(_)
                | Statement::CreateFunction(_)
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
        ObjectKind::Sequence => "DROP SEQUENCE",
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
        ObjectKind::Sequence => "ALTER SEQUENCE",
        ObjectKind::Database => "ALTER DATABASE",
    }
}
