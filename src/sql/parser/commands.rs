//! Transactions, settings, SHOW, EXPLAIN, prepared statements and the small commands.

use sqlparser::tokenizer::Token;

use super::Grammar;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    Discard, Execute, Explain, ExplainFormat, ExplainStage, ExplainTarget, Isolation, Name, ObjectKind,
    OptionValue, Prepare, Set, SetValue, ShowFilter, ShowKind, ShowObjects, Statement, TransactionModes,
};

/// Statements that PostgreSQL (or another system) has and Freshet has not: first words and hint.
const NOT_BUILT: [(&[&str], &str); 33] = [
    (&["grant"], "There are no roles and privileges."),
    (&["revoke"], "There are no roles and privileges."),
    (&["reassign"], "There are no roles and privileges."),
    (&["security"], "There are no roles and privileges."),
    (&["call"], "There are no procedures."),
    (&["do"], "There are no procedural languages."),
    (&["lock"], "Transactions read one consistent state; no locks are needed."),
    (&["cluster"], "Storage is organised by the key."),
    (&["reindex"], "Indexes need no maintenance."),
    (&["load"], "Freshet has no extensions."),
    (&["import"], "Use CREATE SOURCE."),
    (&["attach"], "There is one database."),
    (&["detach"], "There is one database."),
    (&["use"], "There is one database; SET search_path chooses schemas."),
    (&["pragma"], "Use SET and SHOW."),
    (&["kill"], "Cancel the query from its client, or call pg_cancel_backend(pid)."),
    (&["cancel"], "Drop the object instead."),
    (&["pause"], ""),
    (&["resume"], ""),
    (&["validate"], ""),
    (&["acknowledge"], "Subscriptions are not built yet."),
    (&["assert"], "Compare the results of a SELECT."),
    (&["advance"], ""),
    (&["erase"], "DELETE the rows from the table they came from."),
    (&["replace"], "Use INSERT."),
    (&["upsert"], "Use INSERT."),
    (&["from"], "Begin with SELECT."),
    (&["pivot"], "Use CASE in aggregates."),
    (&["optimize"], ""),
    (&["export"], "Use COPY."),
    (&["unload"], "Use COPY."),
    (&["handler"], ""),
    (&["recover"], ""),
];

impl Grammar<'_> {
    pub(super) fn transaction(&mut self, word: &str) -> Result<Statement> {
        self.skip(1);
        match word {
            "start" => {
                self.expect(&["transaction"])?;
                Ok(Statement::Begin { start: true, modes: self.transaction_modes()? })
            }
            "begin" => {
                self.transaction_noise();
                Ok(Statement::Begin { start: false, modes: self.transaction_modes()? })
            }
            "savepoint" => Ok(Statement::Savepoint(self.identifier()?)),
            "release" => {
                self.savepoint_word();
                Ok(Statement::Release(self.identifier()?))
            }
            "commit" | "end" => {
                self.refuse_two_phase()?;
                self.transaction_noise();
                Ok(Statement::Commit { chain: self.and_chain()? })
            }
            _ => {
                self.refuse_two_phase()?;
                self.transaction_noise();
                if word == "rollback" && self.eat(&["to"]) {
                    self.savepoint_word();
                    return Ok(Statement::RollbackTo(self.identifier()?));
                }
                Ok(Statement::Rollback { chain: self.and_chain()? })
            }
        }
    }

    /// The word SAVEPOINT, unless it is the savepoint's name.
    fn savepoint_word(&mut self) {
        if matches!(self.peek_nth(1).token, Token::Word(_)) {
            self.eat(&["savepoint"]);
        }
    }

    fn transaction_noise(&mut self) {
        if !self.eat(&["work"]) {
            self.eat(&["transaction"]);
        }
    }

    fn refuse_two_phase(&mut self) -> Result<()> {
        if self.at(&["prepared"]) {
            return self.unsupported("two-phase commit", "");
        }
        Ok(())
    }

    fn and_chain(&mut self) -> Result<bool> {
        if self.eat(&["and", "chain"]) {
            return Ok(true);
        }
        self.eat(&["and", "no", "chain"]);
        Ok(false)
    }

    /// Modes separated by commas or nothing.
    fn transaction_modes(&mut self) -> Result<TransactionModes> {
        let mut modes = TransactionModes::default();
        loop {
            if self.eat(&["isolation", "level"]) {
                modes.isolation = Some(self.isolation()?);
            } else if self.eat(&["read", "only"]) {
                modes.read_only = Some(true);
            } else if self.eat(&["read", "write"]) {
                modes.read_only = Some(false);
            } else if self.eat(&["not", "deferrable"]) {
                modes.deferrable = Some(false);
            } else if self.eat(&["deferrable"]) {
                modes.deferrable = Some(true);
            } else {
                return Ok(modes);
            }
            if self.eat_token(&Token::Comma) && self.at_end() {
                return Err(self.unexpected());
            }
        }
    }

    fn isolation(&mut self) -> Result<Isolation> {
        let levels: [(&[&str], Isolation); 4] = [
            (&["read", "uncommitted"], Isolation::ReadUncommitted),
            (&["read", "committed"], Isolation::ReadCommitted),
            (&["repeatable", "read"], Isolation::RepeatableRead),
            (&["serializable"], Isolation::Serializable),
        ];
        match levels.into_iter().find(|(words, _)| self.eat(words)) {
            Some((_, level)) => Ok(level),
            None => Err(self.unexpected()),
        }
    }

    /// SET, SHOW, RESET and DISCARD.
    pub(super) fn session(&mut self, word: &str) -> Result<Statement> {
        self.skip(1);
        match word {
            "set" => self.set(),
            "show" => self.show(),
            "reset" if self.eat(&["all"]) => Ok(Statement::Reset(None)),
            "reset" => Ok(Statement::Reset(Some(self.setting_name()?))),
            _ => {
                let what = [
                    ("all", Discard::All),
                    ("plans", Discard::Plans),
                    ("sequences", Discard::Sequences),
                    ("temp", Discard::Temp),
                    ("temporary", Discard::Temp),
                ];
                match what.into_iter().find(|(word, _)| self.eat(&[word])) {
                    Some((_, what)) => Ok(Statement::Discard(what)),
                    None => Err(self.unexpected()),
                }
            }
        }
    }

    fn set(&mut self) -> Result<Statement> {
        if self.eat(&["session", "characteristics", "as", "transaction"]) {
            return Ok(Statement::SetTransaction { session: true, modes: self.transaction_modes()? });
        }
        if self.at(&["transaction", "snapshot"]) {
            return self.unsupported("SET TRANSACTION SNAPSHOT", "");
        }
        if self.eat(&["transaction"]) {
            return Ok(Statement::SetTransaction { session: false, modes: self.transaction_modes()? });
        }
        if self.at_any(&["constraints"]) {
            return self.unsupported("SET CONSTRAINTS", "Constraints are never deferred.");
        }
        let local = self.eat(&["local"]);
        let one_word = matches!(self.peek_nth(1).token, Token::Eq) || self.at_nth_to(1);
        if !local && !one_word && !self.at(&["session", "authorization"]) {
            self.eat(&["session"]);
        }
        let special: [(&[&str], &str); 6] = [
            (&["time", "zone"], "timezone"),
            (&["session", "authorization"], "session_authorization"),
            (&["authorization"], "session_authorization"),
            (&["names"], "client_encoding"),
            (&["schema"], "search_path"),
            (&["role"], "role"),
        ];
        for (words, name) in special {
            if self.at(words) && !self.at_nth_to(words.len()) && self.peek_nth(words.len()).token != Token::Eq
            {
                self.skip(words.len());
                let value = if self.eat(&["default"])
                    || name == "timezone" && self.eat(&["local"])
                    || name == "client_encoding" && self.at_end()
                {
                    SetValue::Default
                } else {
                    SetValue::Values(vec![self.setting_value()?])
                };
                return Ok(Statement::Set(Set { local, name: name.into(), value }));
            }
        }
        let name = self.setting_name()?;
        if !self.eat_token(&Token::Eq) {
            self.expect(&["to"])?;
        }
        let value = if self.eat(&["default"]) {
            SetValue::Default
        } else {
            SetValue::Values(self.list(Self::setting_value)?)
        };
        Ok(Statement::Set(Set { local, name, value }))
    }

    fn at_nth_to(&self, n: usize) -> bool {
        super::lexer::is_word(Some(self.peek_nth(n)), &["to"])
    }

    /// A setting's name, dotted for custom ones.
    fn setting_name(&mut self) -> Result<String> {
        if self.eat(&["time", "zone"]) {
            return Ok("timezone".into());
        }
        if self.eat(&["transaction", "isolation", "level"]) {
            return Ok("transaction_isolation".into());
        }
        if self.eat(&["session", "authorization"]) {
            return Ok("session_authorization".into());
        }
        let mut name = self.identifier()?;
        while self.eat_token(&Token::Period) {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        Ok(name.to_ascii_lowercase())
    }

    /// One value of SET: a string, a number, a word, `INTERVAL '…'`.
    fn setting_value(&mut self) -> Result<String> {
        if self.at(&["interval"]) {
            return match self.option_value()? {
                OptionValue::Interval(text) => Ok(text),
                other => Ok(other.to_string()),
            };
        }
        if let Some(value) = self.eat_string().or_else(|| self.eat_number()) {
            return Ok(value);
        }
        let value = match self.peek() {
            Token::Word(w) if w.quote_style.is_some() => w.value.clone(),
            Token::Word(w) => w.value.to_ascii_lowercase(),
            Token::Placeholder(_) => {
                return self.unsupported("a parameter in SET", "Call set_config(name, value, is_local).");
            }
            _ => return Err(self.unexpected()),
        };
        self.skip(1);
        Ok(value)
    }

    fn show(&mut self) -> Result<Statement> {
        if self.eat(&["create"]) {
            let Some(kind) = self.object_kind() else { return Err(self.unexpected()) };
            return Ok(Statement::ShowCreate { kind, name: self.name()? });
        }
        let kinds: [(&[&str], ShowKind); 22] = [
            (&["tables"], ShowKind::Objects(ObjectKind::Table)),
            (&["sources"], ShowKind::Objects(ObjectKind::Source)),
            (&["views"], ShowKind::Objects(ObjectKind::View)),
            (&["materialized", "views"], ShowKind::Objects(ObjectKind::MaterializedView)),
            (&["sinks"], ShowKind::Objects(ObjectKind::Sink)),
            (&["indexes"], ShowKind::Objects(ObjectKind::Index)),
            (&["indices"], ShowKind::Objects(ObjectKind::Index)),
            (&["keys"], ShowKind::Objects(ObjectKind::Index)),
            (&["columns"], ShowKind::Columns),
            (&["connections"], ShowKind::Objects(ObjectKind::Connection)),
            (&["secrets"], ShowKind::Objects(ObjectKind::Secret)),
            (&["subscriptions"], ShowKind::Objects(ObjectKind::Subscription)),
            (&["schemas"], ShowKind::Objects(ObjectKind::Schema)),
            (&["databases"], ShowKind::Objects(ObjectKind::Database)),
            (&["functions"], ShowKind::Objects(ObjectKind::Function)),
            (&["roles"], ShowKind::Roles),
            (&["users"], ShowKind::Roles),
            (&["jobs"], ShowKind::Jobs),
            (&["processlist"], ShowKind::Processlist),
            (&["cursors"], ShowKind::Cursors),
            (&["resource", "groups"], ShowKind::ResourceGroups),
            (&["clusters"], ShowKind::ResourceGroups),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(words, _)| self.eat(words)) {
            return self.show_objects(kind);
        }
        let unbuilt: [&[&str]; 6] = [
            &["internal", "tables"],
            &["subscription", "cursors"],
            &["freshness"],
            &["errors"],
            &["grants"],
            &["privileges"],
        ];
        if let Some(words) = unbuilt.into_iter().find(|words| self.at(words)) {
            let hint = "Look into the relations of schema freshet.";
            return self.unsupported(&format!("SHOW {}", words.join(" ").to_uppercase()), hint);
        }
        if self.eat(&["all"]) {
            return Ok(Statement::Show("all".into()));
        }
        Ok(Statement::Show(self.setting_name()?))
    }

    fn show_objects(&mut self, kind: ShowKind) -> Result<Statement> {
        let named = self.at_any(&["from", "in", "on"]);
        let from = if named && !self.at(&["in", "cluster"]) {
            self.skip(1);
            Some(self.name()?)
        } else {
            None
        };
        if self.eat(&["in", "cluster"]) {
            self.identifier()?;
        }
        if kind == ShowKind::Columns && from.is_none() {
            return Err(self.unexpected());
        }
        let filter = if self.eat(&["like"]) {
            Some(ShowFilter::Like(self.string()?))
        } else if self.eat(&["where"]) {
            Some(ShowFilter::Where(Box::new(self.expr()?)))
        } else {
            None
        };
        Ok(Statement::ShowObjects(Box::new(ShowObjects { kind, from, filter })))
    }

    pub(super) fn explain(&mut self) -> Result<Statement> {
        let describe = !self.at(&["explain"]);
        self.skip(1);
        if describe {
            // `DESCRIBE t` is SHOW COLUMNS FROM t.
            self.object_kind();
            let from = Some(self.name()?);
            let show = ShowObjects { kind: ShowKind::Columns, from, filter: None };
            return Ok(Statement::ShowObjects(Box::new(show)));
        }
        let mut explain = Explain {
            analyze: false,
            verbose: false,
            format: ExplainFormat::Text,
            stage: ExplainStage::Plan,
            ignored: Vec::new(),
            target: ExplainTarget::Object { kind: ObjectKind::View, name: Name::bare("") },
        };
        if *self.peek() == Token::LParen && !self.at_parenthesized_query() {
            self.explain_options(&mut explain)?;
        } else {
            self.explain_words(&mut explain)?;
        }
        explain.target = self.explain_target()?;
        Ok(Statement::Explain(Box::new(explain)))
    }

    fn at_parenthesized_query(&self) -> bool {
        let mut n = 1;
        while self.peek_nth(n).token == Token::LParen {
            n += 1;
        }
        super::lexer::is_word(Some(self.peek_nth(n)), &["select", "with", "values"])
    }

    /// The forms without parentheses: PostgreSQL's ANALYZE VERBOSE, Materialize's stage PLAN [AS f] FOR.
    fn explain_words(&mut self, explain: &mut Explain) -> Result<()> {
        if self.at(&["timestamp"]) || self.at(&["replacement"]) || self.at(&["row"]) {
            return self.unsupported("this form of EXPLAIN", "");
        }
        let stages: [(&[&str], ExplainStage); 7] = [
            (&["optimized", "plan"], ExplainStage::Plan),
            (&["physical", "plan"], ExplainStage::Physical),
            (&["logical", "plan"], ExplainStage::Logical),
            (&["decorrelated", "plan"], ExplainStage::Logical),
            (&["raw", "plan"], ExplainStage::Logical),
            (&["plan"], ExplainStage::Plan),
            (&["dataflow"], ExplainStage::Dataflow),
        ];
        if let Some((_, stage)) = stages.into_iter().find(|(words, _)| self.eat(words)) {
            explain.stage = stage;
            if self.eat(&["as"]) {
                explain.format = self.explain_format()?;
            }
            return self.expect(&["for"]);
        }
        if self.eat(&["analyze"]) || self.eat(&["analyse"]) {
            explain.analyze = true;
            if self.at_any(&["cpu", "memory", "hints"]) {
                return self.unsupported("EXPLAIN ANALYZE CPU and MEMORY", "Write EXPLAIN ANALYZE.");
            }
        }
        explain.verbose = self.eat(&["verbose"]);
        Ok(())
    }

    fn explain_format(&mut self) -> Result<ExplainFormat> {
        let position = self.error_position();
        let value = self.option_value()?.to_string();
        match value.to_ascii_lowercase().as_str() {
            "text" | "tree" => Ok(ExplainFormat::Text),
            "json" => Ok(ExplainFormat::Json),
            "xml" | "yaml" | "dot" | "graphviz" | "pgjson" => {
                self.unsupported(&format!("EXPLAIN format {value}"), "The formats are TEXT and JSON.")
            }
            _ => Err(Error::new(
                ErrorKind::InvalidParameter,
                format!("unrecognized value for EXPLAIN option \"format\": \"{value}\""),
            )
            .with_position(position)),
        }
    }

    fn explain_options(&mut self, explain: &mut Explain) -> Result<()> {
        self.expect_token(&Token::LParen)?;
        loop {
            let position = self.error_position();
            let name = self.explain_option_name()?;
            let switch = |grammar: &mut Self| grammar.explain_switch(&name);
            match name.as_str() {
                "analyze" | "analyse" => explain.analyze = switch(self)?,
                "verbose" => explain.verbose = switch(self)?,
                "format" => explain.format = self.explain_format()?,
                "type" => {
                    let word = self.option_value()?.to_string().to_ascii_lowercase();
                    explain.stage = stage(&word).ok_or_else(|| {
                        let message = format!("unrecognized value for EXPLAIN option \"type\": \"{word}\"");
                        Error::new(ErrorKind::InvalidParameter, message)
                            .with_hint("The types are plan, logical, physical, dataflow and rules.")
                            .with_position(position)
                    })?;
                }
                "plan" | "logical" | "physical" | "dataflow" | "rules" => {
                    if switch(self)? {
                        explain.stage = stage(&name).unwrap_or_default();
                    }
                }
                "costs" | "buffers" | "timing" | "summary" | "wal" | "settings" | "generic_plan" => {
                    switch(self)?;
                    explain.ignored.push(name.clone());
                }
                "state" | "cost" | "changelog" | "dot" => {
                    return self.unsupported(&format!("EXPLAIN option {}", name.to_uppercase()), "");
                }
                _ => {
                    let message = format!("unrecognized EXPLAIN option \"{name}\"");
                    return Err(Error::new(ErrorKind::Syntax, message).with_position(position));
                }
            }
            if !self.eat_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)
    }

    /// Any word: ANALYZE is reserved elsewhere.
    fn explain_option_name(&mut self) -> Result<String> {
        let Token::Word(word) = self.peek() else { return Err(self.unexpected()) };
        let name = word.value.to_ascii_lowercase();
        self.skip(1);
        Ok(name)
    }

    fn explain_switch(&mut self, name: &str) -> Result<bool> {
        if matches!(self.peek(), Token::Comma | Token::RParen) {
            return Ok(true);
        }
        match self.option_value()?.to_string().to_ascii_lowercase().as_str() {
            "true" | "on" | "1" => Ok(true),
            "false" | "off" | "0" => Ok(false),
            _ => Err(Error::new(ErrorKind::Syntax, format!("{name} requires a Boolean value"))),
        }
    }

    fn explain_target(&mut self) -> Result<ExplainTarget> {
        if self.at_any(&["materialized", "view", "index", "sink", "source", "table"]) {
            let Some(kind) = self.object_kind() else { return Err(self.unexpected()) };
            return Ok(ExplainTarget::Object { kind, name: self.name()? });
        }
        let position = self.position();
        let statement = self.statement()?;
        match statement {
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_)
            | Statement::CreateView(_)
            | Statement::CreateTable(_)
            | Statement::CreateSink(_)
            | Statement::Declare(_)
            | Statement::Execute(_)
            | Statement::Subscribe(_) => Ok(ExplainTarget::Statement(Box::new(statement))),
            _ => Err(self.source.syntax_error(position)),
        }
    }

    /// PREPARE, EXECUTE and DEALLOCATE.
    pub(super) fn prepared(&mut self, word: &str) -> Result<Statement> {
        self.skip(1);
        match word {
            "prepare" => {
                if self.at(&["transaction"]) {
                    return self.unsupported("two-phase commit", "");
                }
                let name = self.identifier()?;
                let types = if *self.peek() == Token::LParen {
                    self.parenthesized(Self::data_type)?
                } else {
                    Vec::new()
                };
                self.expect(&["as"])?;
                let from = self.position();
                let statement = self.statement()?;
                if !matches!(
                    statement,
                    Statement::Query(_)
                        | Statement::Insert(_)
                        | Statement::Update(_)
                        | Statement::Delete(_)
                        | Statement::Merge(_)
                ) {
                    return Err(self.source.syntax_error(from));
                }
                let text = self.text_since(from);
                let statement = Box::new(statement);
                Ok(Statement::Prepare(Box::new(Prepare { name, types, statement, text })))
            }
            "execute" => {
                let name = self.identifier()?;
                let args =
                    if *self.peek() == Token::LParen { self.parenthesized(Self::expr)? } else { Vec::new() };
                Ok(Statement::Execute(Box::new(Execute { name, args })))
            }
            _ => {
                if matches!(self.peek_nth(1).token, Token::Word(_)) {
                    self.eat(&["prepare"]);
                }
                let all = self.eat(&["all"]);
                Ok(Statement::Deallocate(if all { None } else { Some(self.identifier()?) }))
            }
        }
    }

    /// The rest: small commands, and refusals.
    pub(super) fn other(&mut self, word: &str) -> Result<Statement> {
        if let Some((words, hint)) = NOT_BUILT.iter().find(|(words, _)| self.at(words)) {
            return self.unsupported(&words.join(" ").to_uppercase(), hint);
        }
        if ![
            "check",
            "flush",
            "wait",
            "refresh",
            "listen",
            "unlisten",
            "notify",
            "vacuum",
            "analyze",
            "analyse",
            "checkpoint",
        ]
        .contains(&word)
        {
            return Err(self.unexpected());
        }
        self.skip(1);
        match word {
            "check" => {
                self.expect(&["materialized", "view"])?;
                let name = self.name()?;
                if self.at(&["as", "of"]) {
                    return self.unsupported("CHECK … AS OF", "");
                }
                Ok(Statement::CheckMaterializedView(name))
            }
            "flush" | "checkpoint" => Ok(Statement::Flush),
            "wait" => Ok(Statement::Wait),
            "refresh" => {
                self.expect(&["materialized", "view"])?;
                self.eat(&["concurrently"]);
                let name = self.name()?;
                if !self.eat(&["with", "data"]) && self.at(&["with", "no", "data"]) {
                    return self.unsupported("REFRESH … WITH NO DATA", "Drop the view.");
                }
                Ok(Statement::Refresh(name))
            }
            "listen" => Ok(Statement::Listen(self.identifier()?)),
            "unlisten" => {
                let all = self.eat_token(&Token::Mul);
                Ok(Statement::Unlisten(if all { None } else { Some(self.identifier()?) }))
            }
            "notify" => {
                let channel = self.identifier()?;
                let payload = if self.eat_token(&Token::Comma) { Some(self.string()?) } else { None };
                Ok(Statement::Notify { channel, payload })
            }
            _ => {
                let vacuum = word == "vacuum";
                if *self.peek() == Token::LParen {
                    self.options()?;
                }
                while vacuum && self.at_any(&["full", "freeze"]) {
                    self.skip(1);
                }
                self.eat(&["verbose"]);
                if vacuum {
                    self.eat(&["analyze"]);
                }
                let tables = if self.at_end() { Vec::new() } else { self.list(Self::analyzed_table)? };
                Ok(if vacuum { Statement::Vacuum(tables) } else { Statement::Analyze(tables) })
            }
        }
    }

    /// `name [(column, …)]`.
    fn analyzed_table(&mut self) -> Result<Name> {
        let name = self.name()?;
        if *self.peek() == Token::LParen {
            self.identifiers_in_parentheses()?;
        }
        Ok(name)
    }
}

fn stage(word: &str) -> Option<ExplainStage> {
    match word {
        "plan" => Some(ExplainStage::Plan),
        "logical" => Some(ExplainStage::Logical),
        "physical" => Some(ExplainStage::Physical),
        "dataflow" => Some(ExplainStage::Dataflow),
        "rules" => Some(ExplainStage::Rules),
        _ => None,
    }
}
