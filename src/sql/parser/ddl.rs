//! CREATE, DROP, COMMENT and TRUNCATE.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::Grammar;
use super::table::TableElements;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    Comment, CreateIndex, CreateSchema, CreateSink, CreateSource, CreateTable, CreateView, Drop, Emit,
    IndexColumn, Name, ObjectKind, OnCommitClause, OptionValue, Options, Statement, Target, Truncate,
};

/// What cannot be created (yet): the words after CREATE, and what to do instead.
const NOT_CREATED: [(&str, &str); 24] = [
    ("connection", "Give the connection's options in the source's or sink's own WITH clause."),
    ("secret", "Give the value in the source's or sink's own WITH clause."),
    ("subscription", "SUBSCRIBE to the relation directly."),
    ("aggregate", "Functions in SQL can be created with CREATE FUNCTION."),
    ("procedure", "Functions in SQL can be created with CREATE FUNCTION."),
    ("type", "Use the built-in types."),
    ("domain", "Use the built-in types, with CHECK constraints."),
    ("extension", "Freshet has no extensions."),
    ("database", "There is one database; use schemas."),
    ("role", "There are no roles."),
    ("user", "There are no roles."),
    ("group", "There are no roles."),
    ("policy", "There is no row-level security."),
    ("trigger", "Use a materialized view or SUBSCRIBE."),
    ("rule", "Use a view."),
    ("cluster", "All objects run in one cluster."),
    ("resource", "Resource groups are not built yet."),
    ("recursive", "Write WITH RECURSIVE inside the view's query."),
    ("unlogged", "All tables are logged."),
    ("foreign", "Use CREATE SOURCE."),
    ("replacement", "Create a second view and swap the names with ALTER … RENAME."),
    ("check", "Use CHECK MATERIALIZED VIEW."),
    ("alert", "SUBSCRIBE to the relation."),
    ("statistics", "Statistics are kept automatically."),
];

impl Grammar<'_> {
    pub(super) fn create(&mut self) -> Result<Statement> {
        self.expect(&["create"])?;
        let or_replace = self.eat(&["or", "replace"]);
        let scoped = self.at_any(&["global", "local"]) && lexer_next_is_temp(self);
        if scoped {
            self.skip(1);
        }
        let temporary = self.eat(&["temp"]) || self.eat(&["temporary"]);
        if self.at_any(&["table", "source", "sink", "index", "unique", "default", "schema", "sequence"])
            && or_replace
        {
            return self.unsupported(
                "OR REPLACE for this kind of object",
                "Drop the object first, or use IF NOT EXISTS.",
            );
        }
        if temporary && !self.at_any(&["table", "view", "materialized", "recursive", "sequence"]) {
            return Err(self.unexpected());
        }
        if self.eat(&["table"]) {
            return self.create_table(temporary);
        }
        if self.eat(&["source"]) {
            return self.create_source();
        }
        if self.eat(&["materialized", "view"]) {
            return self.create_view(or_replace, true, temporary);
        }
        if self.eat(&["view"]) {
            return self.create_view(or_replace, false, temporary);
        }
        if self.eat(&["unique", "index"]) {
            return self.create_index(true);
        }
        if self.eat(&["index"]) {
            return self.create_index(false);
        }
        if self.eat(&["default", "index"]) {
            return self.create_default_index();
        }
        if self.eat(&["sink"]) {
            return self.create_sink();
        }
        if self.eat(&["schema"]) {
            return self.create_schema();
        }
        if self.eat(&["sequence"]) {
            return self.create_sequence(temporary);
        }
        if self.eat(&["function"]) {
            return self.create_function(or_replace);
        }
        if let Token::Word(word) = self.peek()
            && word.quote_style.is_none()
            && let Some((what, hint)) = NOT_CREATED.iter().find(|(w, _)| word.value.eq_ignore_ascii_case(w))
        {
            return self.unsupported(&format!("CREATE {}", what.to_uppercase()), hint);
        }
        Err(self.unexpected())
    }

    pub(super) fn if_not_exists(&mut self) -> bool {
        self.eat(&["if", "not", "exists"])
    }

    pub(super) fn if_exists(&mut self) -> bool {
        self.eat(&["if", "exists"])
    }

    fn create_table(&mut self, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let mut column_names = Vec::new();
        let mut elements = TableElements::default();
        if *self.peek() == Token::LParen {
            if self.at_column_name_list() {
                column_names = self.identifiers_in_parentheses()?;
            } else {
                elements = self.table_elements()?;
            }
        } else if self.at(&["of"]) || self.at(&["partition", "of"]) {
            return self.unsupported("this form of CREATE TABLE", "Name the columns.");
        } else if !self.at_any(&["as", "with"]) && !self.at(&["on", "commit"]) {
            return Err(self.unexpected());
        }
        let append_only = self.eat(&["append", "only"]);
        self.refuse_table_tail()?;
        let options = self.with_options()?;
        self.refuse_table_tail()?;
        let on_commit = self.on_commit()?;
        if on_commit.is_some() && !temporary {
            return Err(Error::new(
                ErrorKind::InvalidTableDefinition,
                "ON COMMIT can only be used on temporary tables",
            ));
        }
        let format = self.format_encode()?;
        let query = if self.eat(&["as"]) {
            let plain = elements.columns.is_empty() && elements.constraints.is_empty();
            if !plain || !elements.likes.is_empty() {
                return Err(self.unexpected());
            }
            Some(self.query()?)
        } else if column_names.is_empty() {
            None
        } else {
            return Err(self.unexpected());
        };
        let with_no_data = query.is_some() && self.with_data()?;
        Ok(Statement::CreateTable(Box::new(CreateTable {
            if_not_exists,
            temporary,
            name,
            columns: elements.columns,
            column_names,
            constraints: elements.constraints,
            watermark: elements.watermark,
            append_only,
            options,
            format,
            query,
            with_no_data,
            likes: elements.likes,
            on_commit,
        })))
    }

    /// `ON COMMIT …`, if it is next.
    fn on_commit(&mut self) -> Result<Option<OnCommitClause>> {
        if !self.eat(&["on", "commit"]) {
            return Ok(None);
        }
        let clauses: [(&[&str], OnCommitClause); 3] = [
            (&["preserve", "rows"], OnCommitClause::PreserveRows),
            (&["delete", "rows"], OnCommitClause::DeleteRows),
            (&["drop"], OnCommitClause::Drop),
        ];
        match clauses.into_iter().find(|(words, _)| self.eat(words)) {
            Some((_, clause)) => Ok(Some(clause)),
            None => Err(self.unexpected()),
        }
    }

    /// Whether `(a, b) AS query` is next rather than column definitions.
    fn at_column_name_list(&self) -> bool {
        let mut n = 1;
        loop {
            if !matches!(self.peek_nth(n).token, Token::Word(_)) {
                return false;
            }
            match self.peek_nth(n + 1).token {
                Token::Comma => n += 2,
                Token::RParen => return true,
                _ => return false,
            }
        }
    }

    /// Clauses of other systems (and later ones of ours) that may follow a table's columns.
    fn refuse_table_tail(&mut self) -> Result<()> {
        let refused: [(&[&str], &str); 7] = [
            (&["on", "conflict"], "An existing key is an error unless INSERT says otherwise."),
            (&["include"], "Use CREATE SOURCE."),
            (&["inherits"], ""),
            (&["partition", "by"], ""),
            (&["tablespace"], ""),
            (&["using"], ""),
            (&["from"], "Use CREATE SOURCE."),
        ];
        for (words, hint) in refused {
            if self.at(words) {
                let what = format!("{} in CREATE TABLE", words.join(" ").to_uppercase());
                return self.unsupported(&what, hint);
            }
        }
        Ok(())
    }

    /// `WITH [NO] DATA`, if it is next; true for NO.
    fn with_data(&mut self) -> Result<bool> {
        if self.eat(&["with", "no", "data"]) {
            return Ok(true);
        }
        self.eat(&["with", "data"]);
        Ok(false)
    }

    fn create_source(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if self.at_any(&["from", "in"]) {
            return self.unsupported(
                "Materialize's form of CREATE SOURCE",
                "Write CREATE SOURCE name (columns) WITH (connector = …) FORMAT PLAIN ENCODE JSON.",
            );
        }
        let elements =
            if *self.peek() == Token::LParen { self.table_elements()? } else { TableElements::default() };
        let append_only = self.eat(&["append", "only"]);
        if self.at(&["on", "conflict"]) {
            return self.unsupported("ON CONFLICT in CREATE SOURCE", "");
        }
        let include = self.include_columns()?;
        let options = self.with_options()?;
        let format = self.format_encode()?;
        if self.at(&["envelope"]) {
            return self.unsupported("ENVELOPE", "Write FORMAT UPSERT or FORMAT DEBEZIUM.");
        }
        Ok(Statement::CreateSource(Box::new(CreateSource {
            if_not_exists,
            name,
            columns: elements.columns,
            constraints: elements.constraints,
            watermark: elements.watermark,
            append_only,
            include,
            options,
            format,
        })))
    }

    fn create_view(&mut self, or_replace: bool, materialized: bool, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let columns =
            if *self.peek() == Token::LParen { self.identifiers_in_parentheses()? } else { Vec::new() };
        let cluster = if self.eat(&["in", "cluster"]) { Some(self.identifier()?) } else { None };
        if self.at(&["using"]) || self.at(&["tablespace"]) || self.at(&["refresh"]) {
            return self.unsupported("this clause of CREATE MATERIALIZED VIEW", "");
        }
        let mut options = self.with_options()?;
        if let Some(cluster) = cluster {
            options.0.push(("resource_group".into(), OptionValue::Ident(cluster)));
        }
        if self.at(&["when", "stale"]) || self.at(&["freshness"]) {
            return self.unsupported("WHEN STALE and FRESHNESS", "A view always serves its newest state.");
        }
        self.expect(&["as"])?;
        let query = self.query()?;
        let emit = self.emit()?;
        let with_no_data = materialized && self.with_data()?;
        if self.at(&["with"]) && !materialized {
            return self.unsupported("WITH CHECK OPTION", "Views cannot be written to.");
        }
        Ok(Statement::CreateView(Box::new(CreateView {
            or_replace,
            materialized,
            if_not_exists,
            temporary,
            name,
            columns,
            options,
            query,
            emit,
            with_no_data,
        })))
    }

    /// `EMIT …`, if it is next.
    fn emit(&mut self) -> Result<Option<Emit>> {
        if !self.eat(&["emit"]) {
            return Ok(None);
        }
        if self.eat(&["on", "window", "close"]) || self.eat(&["final"]) {
            return Ok(Some(Emit::OnWindowClose));
        }
        if self.eat(&["on", "update"]) || self.eat(&["changes"]) {
            if self.at(&["with", "batch"]) {
                return self.unsupported("WITH BATCH", "Set a view's refresh_interval instead.");
            }
            return Ok(Some(Emit::OnUpdate));
        }
        Err(self.unexpected())
    }

    fn create_index(&mut self, unique: bool) -> Result<Statement> {
        self.eat(&["concurrently"]);
        let if_not_exists = self.if_not_exists();
        let name = if self.at(&["on"]) { None } else { Some(self.identifier()?) };
        if if_not_exists && name.is_none() {
            return Err(self.unexpected());
        }
        self.expect(&["on"])?;
        let table = self.name()?;
        let method = if self.eat(&["using"]) { Some(self.identifier()?) } else { None };
        let columns = self.parenthesized(Self::index_column)?;
        let include = if self.eat(&["include"]) { self.identifiers_in_parentheses()? } else { Vec::new() };
        if self.at(&["nulls"]) {
            return self.unsupported("NULLS [NOT] DISTINCT", "");
        }
        let options = self.with_options()?;
        if self.at(&["tablespace"]) {
            return self.unsupported("TABLESPACE", "");
        }
        let predicate = if self.eat(&["where"]) { Some(self.sql_expr()?) } else { None };
        Ok(Statement::CreateIndex(Box::new(CreateIndex {
            unique,
            if_not_exists,
            name,
            table,
            method,
            columns,
            include,
            predicate,
            options,
        })))
    }

    fn index_column(&mut self) -> Result<IndexColumn> {
        let expr = self.sql_expr()?;
        let column = match &expr.ast {
            ast::Expr::Identifier(ident) => Some(super::fold(ident)),
            _ => None,
        };
        if matches!(self.peek(), Token::Word(w) if w.quote_style.is_none()
            && !["asc", "desc", "nulls"].iter().any(|k| w.value.eq_ignore_ascii_case(k)))
        {
            return self.unsupported("an operator class", "");
        }
        let descending = self.eat(&["desc"]);
        if !descending {
            self.eat(&["asc"]);
        }
        let nulls_first = if self.eat(&["nulls", "first"]) {
            Some(true)
        } else if self.eat(&["nulls", "last"]) {
            Some(false)
        } else {
            None
        };
        Ok(IndexColumn { expr, column, descending, nulls_first })
    }

    /// Materialize's `CREATE DEFAULT INDEX ON rel`: on the key.
    fn create_default_index(&mut self) -> Result<Statement> {
        if self.eat(&["in", "cluster"]) {
            self.identifier()?;
        }
        self.expect(&["on"])?;
        Ok(Statement::CreateIndex(Box::new(CreateIndex {
            unique: false,
            if_not_exists: false,
            name: None,
            table: self.name()?,
            method: None,
            columns: Vec::new(),
            include: Vec::new(),
            predicate: None,
            options: Options::default(),
        })))
    }

    fn create_sink(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        if self.at(&["into"]) {
            return self.unsupported("CREATE SINK … INTO", "Use FROM relation WITH (connector = …).");
        }
        let from = if self.eat(&["from"]) {
            Target::Relation(self.name()?)
        } else if self.eat(&["as"]) {
            Target::Query(self.query()?)
        } else {
            return Err(self.unexpected());
        };
        let emit = if matches!(from, Target::Query(_)) { self.emit()? } else { None };
        if self.at(&["into"]) {
            return self.unsupported("CREATE SINK … INTO", "Use WITH (connector = …).");
        }
        let options = self.with_options()?;
        let format = self.format_encode()?;
        Ok(Statement::CreateSink(Box::new(CreateSink { if_not_exists, name, from, emit, options, format })))
    }

    fn create_schema(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        if self.at(&["authorization"]) {
            return self.unsupported("CREATE SCHEMA AUTHORIZATION", "Name the schema.");
        }
        let name = self.name()?;
        if self.eat(&["authorization"]) {
            self.identifier()?;
        }
        if name.database.is_some() {
            return Err(self.unexpected());
        }
        Ok(Statement::CreateSchema(CreateSchema { if_not_exists, name: name.name }))
    }

    /// The kind of object named by the next words.
    pub(super) fn object_kind(&mut self) -> Option<ObjectKind> {
        let kinds: [(&[&str], ObjectKind); 13] = [
            (&["table"], ObjectKind::Table),
            (&["source"], ObjectKind::Source),
            (&["materialized", "view"], ObjectKind::MaterializedView),
            (&["view"], ObjectKind::View),
            (&["index"], ObjectKind::Index),
            (&["sink"], ObjectKind::Sink),
            (&["schema"], ObjectKind::Schema),
            (&["connection"], ObjectKind::Connection),
            (&["secret"], ObjectKind::Secret),
            (&["subscription"], ObjectKind::Subscription),
            (&["function"], ObjectKind::Function),
            (&["database"], ObjectKind::Database),
            (&["sequence"], ObjectKind::Sequence),
        ];
        kinds.into_iter().find(|(words, _)| self.eat(words)).map(|(_, kind)| kind)
    }

    /// Refuses the kinds of objects that cannot exist.
    pub(super) fn existing_kind(&mut self, verb: &str) -> Result<ObjectKind> {
        let position = self.position();
        let Some(kind) = self.object_kind() else {
            if let Token::Word(word) = self.peek()
                && word.quote_style.is_none()
                && let Some((what, hint)) =
                    NOT_CREATED.iter().find(|(w, _)| word.value.eq_ignore_ascii_case(w))
            {
                return self.unsupported(&format!("{verb} {}", what.to_uppercase()), hint);
            }
            if self.at_any(&["system", "default", "owned", "operator", "language", "cast", "collation"]) {
                return self.unsupported(&format!("this form of {verb}"), "");
            }
            return Err(self.source.syntax_error(position));
        };
        match kind {
            ObjectKind::Connection | ObjectKind::Secret | ObjectKind::Subscription | ObjectKind::Database => {
                let what = format!("{verb} {}", kind.keyword());
                self.unsupported(&what, "Freshet has no such objects.")
            }
            kind => Ok(kind),
        }
    }

    pub(super) fn drop(&mut self) -> Result<Statement> {
        self.expect(&["drop"])?;
        let kind = self.existing_kind("DROP")?;
        if kind == ObjectKind::Index {
            self.eat(&["concurrently"]);
        }
        let if_exists = self.if_exists();
        let names =
            if kind == ObjectKind::Function { self.list(Self::function_signature)? } else { self.names()? };
        let cascade = self.eat(&["cascade"]);
        if !cascade {
            self.eat(&["restrict"]);
        }
        Ok(Statement::Drop(Drop { kind, if_exists, names, cascade }))
    }

    pub(super) fn comment(&mut self) -> Result<Statement> {
        self.expect(&["comment", "on"])?;
        let (kind, name, column) = if self.eat(&["column"]) {
            let position = self.error_position();
            let full = self.name()?;
            let Some(relation) = full.schema else {
                return Err(
                    Error::new(ErrorKind::Syntax, "column name must be qualified").with_position(position)
                );
            };
            let relation = Name { database: None, schema: full.database, name: relation };
            (ObjectKind::Column, relation, Some(full.name))
        } else {
            (self.existing_kind("COMMENT ON")?, self.name()?, None)
        };
        self.expect(&["is"])?;
        let comment = if self.eat(&["null"]) { None } else { Some(self.string()?) };
        Ok(Statement::Comment(Comment { kind, name, column, comment }))
    }

    pub(super) fn truncate(&mut self) -> Result<Statement> {
        self.expect(&["truncate"])?;
        self.eat(&["table"]);
        let tables = self.names()?;
        let restart_identity = self.eat(&["restart", "identity"]);
        if !restart_identity {
            self.eat(&["continue", "identity"]);
        }
        let cascade = self.eat(&["cascade"]);
        if !cascade {
            self.eat(&["restrict"]);
        }
        Ok(Statement::Truncate(Truncate { tables, restart_identity, cascade }))
    }
}

fn lexer_next_is_temp(grammar: &Grammar<'_>) -> bool {
    super::lexer::is_word(Some(grammar.peek_nth(1)), &["temp", "temporary"])
}
