//! ALTER, sequences and functions.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::Grammar;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    Alter, AlterAction, Constraint, CreateFunction, CreateSequence, IdentityClause, Name, ObjectKind,
    SequenceOptions, Statement,
};

impl Grammar<'_> {
    pub(super) fn alter(&mut self) -> Result<Statement> {
        self.expect(&["alter"])?;
        let kind = self.existing_kind("ALTER")?;
        let if_exists = self.if_exists();
        let name = if kind == ObjectKind::Function { self.function_signature()? } else { self.name()? };
        let mut actions = vec![self.alter_action(kind)?];
        while self.eat_token(&Token::Comma) {
            if kind != ObjectKind::Table || !combines(actions.last()) {
                return self
                    .unsupported("several changes in one ALTER of this form", "Write one ALTER for each.");
            }
            actions.push(self.alter_action(kind)?);
        }
        Ok(Statement::Alter(Box::new(Alter { kind, if_exists, name, actions })))
    }

    fn alter_action(&mut self, kind: ObjectKind) -> Result<AlterAction> {
        if self.eat(&["rename", "to"]) {
            return Ok(AlterAction::Rename(self.identifier()?));
        }
        let columns = matches!(kind, ObjectKind::Table | ObjectKind::View | ObjectKind::MaterializedView);
        if columns && self.eat(&["rename"]) {
            let constraint = self.eat(&["constraint"]);
            if !constraint {
                self.eat(&["column"]);
            }
            let from = self.identifier()?;
            self.expect(&["to"])?;
            let to = self.identifier()?;
            return Ok(if constraint {
                AlterAction::RenameConstraint { from, to }
            } else {
                AlterAction::RenameColumn { from, to }
            });
        }
        if self.eat(&["set", "schema"]) {
            return Ok(AlterAction::SetSchema(self.identifier()?));
        }
        if self.eat(&["owner", "to"]) {
            if self.at_any(&["current_user", "session_user", "current_role"]) {
                self.skip(1);
                return Ok(AlterAction::Owner("current_user".into()));
            }
            return Ok(AlterAction::Owner(self.identifier()?));
        }
        if self.at(&["set"]) && self.peek_nth(1).token == Token::LParen {
            self.skip(1);
            return Ok(AlterAction::SetOptions(self.options()?));
        }
        if self.at(&["reset"]) && self.peek_nth(1).token == Token::LParen {
            self.skip(1);
            return Ok(AlterAction::ResetOptions(self.parenthesized(Self::option_key)?));
        }
        if kind == ObjectKind::Sequence {
            let options = self.sequence_options(true)?;
            return Ok(AlterAction::Sequence { column: None, options });
        }
        if kind == ObjectKind::Table {
            return self.alter_table_action();
        }
        match self.peek() {
            Token::Word(_) => self.unsupported(&format!("this form of ALTER {}", kind.keyword()), ""),
            _ => Err(self.unexpected()),
        }
    }

    fn alter_table_action(&mut self) -> Result<AlterAction> {
        if self.eat(&["add"]) {
            if let Some(constraint) = self.table_constraint()? {
                return Ok(AlterAction::AddConstraint(constraint));
            }
            self.eat(&["column"]);
            let if_not_exists = self.if_not_exists();
            let mut constraints: Vec<Constraint> = Vec::new();
            let column = Box::new(self.column(&mut constraints)?);
            return Ok(AlterAction::AddColumn { column, if_not_exists, constraints });
        }
        if self.eat(&["drop"]) {
            let constraint = self.eat(&["constraint"]);
            if !constraint {
                self.eat(&["column"]);
            }
            let if_exists = self.if_exists();
            let name = self.identifier()?;
            let cascade = self.eat(&["cascade"]);
            if !cascade {
                self.eat(&["restrict"]);
            }
            return Ok(if constraint {
                AlterAction::DropConstraint { name, if_exists, cascade }
            } else {
                AlterAction::DropColumn { column: name, if_exists, cascade }
            });
        }
        if self.eat(&["alter"]) {
            return self.alter_column();
        }
        match self.peek() {
            Token::Word(_) => self.unsupported("this form of ALTER TABLE", ""),
            _ => Err(self.unexpected()),
        }
    }

    fn alter_column(&mut self) -> Result<AlterAction> {
        self.eat(&["column"]);
        let column = self.identifier()?;
        if self.eat(&["set", "default"]) {
            return Ok(AlterAction::ColumnDefault { column, default: Some(self.sql_expr()?) });
        }
        if self.eat(&["drop", "default"]) {
            return Ok(AlterAction::ColumnDefault { column, default: None });
        }
        for (word, not_null) in [("set", true), ("drop", false)] {
            if self.eat(&[word, "not", "null"]) {
                return Ok(AlterAction::ColumnNotNull { column, not_null });
            }
        }
        if self.eat(&["set", "data", "type"]) || self.eat(&["type"]) {
            let data_type = self.data_type()?;
            let using = self.eat(&["using"]);
            if using {
                self.expr()?;
            }
            return Ok(AlterAction::ColumnType { column, data_type, using });
        }
        if self.eat(&["add", "generated"]) {
            let always = self.always_or_default()?;
            self.expect(&["as", "identity"])?;
            let identity = IdentityClause { always, options: self.identity_options()? };
            return Ok(AlterAction::AddIdentity { column, identity });
        }
        if self.eat(&["set", "generated"]) {
            return Ok(AlterAction::SetIdentity { column, always: self.always_or_default()? });
        }
        if self.eat(&["drop", "identity"]) {
            return Ok(AlterAction::DropIdentity { column, if_exists: self.if_exists() });
        }
        if self.at(&["restart"]) {
            let options = self.sequence_options(true)?;
            return Ok(AlterAction::Sequence { column: Some(column), options });
        }
        self.unsupported("this form of ALTER COLUMN", "")
    }

    fn always_or_default(&mut self) -> Result<bool> {
        if self.eat(&["always"]) {
            return Ok(true);
        }
        self.expect(&["by", "default"])?;
        Ok(false)
    }

    // ---- sequences ----

    pub(super) fn create_sequence(&mut self, temporary: bool) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let options = self.sequence_options(false)?;
        Ok(Statement::CreateSequence(Box::new(CreateSequence { if_not_exists, temporary, name, options })))
    }

    /// The options of an identity column's sequence, in parentheses.
    pub(super) fn identity_options(&mut self) -> Result<SequenceOptions> {
        if !self.eat_token(&Token::LParen) {
            return Ok(SequenceOptions::default());
        }
        let options = self.sequence_options(false)?;
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn sequence_options(&mut self, alter: bool) -> Result<SequenceOptions> {
        let mut o = SequenceOptions::default();
        loop {
            let position = self.error_position();
            let again = if self.eat(&["as"]) {
                let data_type = self.data_type()?;
                o.data_type.replace(data_type).is_some()
            } else if self.eat(&["increment"]) {
                self.eat(&["by"]);
                let n = self.bigint()?;
                o.increment.replace(n).is_some()
            } else if self.eat(&["minvalue"]) {
                let n = self.bigint()?;
                o.min.replace(Some(n)).is_some()
            } else if self.eat(&["maxvalue"]) {
                let n = self.bigint()?;
                o.max.replace(Some(n)).is_some()
            } else if self.eat(&["no", "minvalue"]) {
                o.min.replace(None).is_some()
            } else if self.eat(&["no", "maxvalue"]) {
                o.max.replace(None).is_some()
            } else if self.eat(&["start"]) {
                self.eat(&["with"]);
                let n = self.bigint()?;
                o.start.replace(n).is_some()
            } else if alter && self.eat(&["restart"]) {
                let with = self.eat(&["with"]);
                let number = with || matches!(self.peek(), Token::Number(..) | Token::Minus);
                let n = if number { Some(self.bigint()?) } else { None };
                o.restart.replace(n).is_some()
            } else if self.eat(&["cache"]) {
                let n = self.bigint()?;
                o.cache.replace(n).is_some()
            } else if self.eat(&["no", "cycle"]) {
                o.cycle.replace(false).is_some()
            } else if self.eat(&["cycle"]) {
                o.cycle.replace(true).is_some()
            } else if self.eat(&["owned", "by"]) {
                let owner = self.owner_column()?;
                o.owned_by.replace(owner).is_some()
            } else {
                return Ok(o);
            };
            if again {
                let message = "conflicting or redundant options";
                return Err(Error::new(ErrorKind::Syntax, message).with_position(position));
            }
        }
    }

    fn owner_column(&mut self) -> Result<Option<(Name, String)>> {
        if self.eat(&["none"]) {
            return Ok(None);
        }
        let full = self.name()?;
        match full.schema {
            Some(table) => Ok(Some((Name { database: None, schema: full.database, name: table }, full.name))),
            None => Err(Error::new(ErrorKind::Syntax, "invalid OWNED BY option")
                .with_hint("Specify OWNED BY table.column or OWNED BY NONE.")),
        }
    }

    fn bigint(&mut self) -> Result<i64> {
        let position = self.position();
        let Some(number) = self.eat_number() else { return Err(self.unexpected()) };
        number.parse().map_err(|_| self.source.syntax_error(position))
    }

    // ---- functions ----

    /// The name of a function and, if written, the types of its arguments.
    pub(super) fn function_signature(&mut self) -> Result<Name> {
        let name = self.name()?;
        if *self.peek() == Token::LParen {
            self.function_args()?;
        }
        Ok(name)
    }

    #[allow(clippy::type_complexity)]
    fn function_args(&mut self) -> Result<Vec<(Option<String>, ast::DataType)>> {
        self.expect_token(&Token::LParen)?;
        let mut args = Vec::new();
        if self.eat_token(&Token::RParen) {
            return Ok(args);
        }
        loop {
            if self.at_any(&["out", "inout", "variadic"]) {
                return self.unsupported("OUT and VARIADIC arguments", "Use RETURNS.");
            }
            if self.at(&["in"]) {
                self.skip(1);
            }
            // A name stands before its type, which may be one word as well.
            let named = matches!(self.peek_nth(1).token, Token::Word(_))
                && !super::lexer::is_word(
                    Some(self.peek_nth(1)),
                    &["precision", "varying", "with", "without", "default"],
                );
            let name = if named { Some(self.identifier()?) } else { None };
            let data_type = self.data_type()?;
            if self.at(&["default"]) || *self.peek() == Token::Eq {
                return self.unsupported("a default of a function's argument", "Give all arguments.");
            }
            args.push((name, data_type));
            if !self.eat_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(args)
    }

    pub(super) fn create_function(&mut self, or_replace: bool) -> Result<Statement> {
        let name = self.name()?;
        let args = self.function_args()?;
        let mut function = CreateFunction {
            or_replace,
            name,
            args,
            result: None,
            columns: None,
            set: false,
            language: String::new(),
            body: String::new(),
            volatility: 'v',
            strict: false,
        };
        if self.eat(&["returns", "table"]) {
            let column = |g: &mut Self| Ok((g.identifier()?, g.data_type()?));
            function.columns = Some(self.parenthesized(column)?);
            function.set = true;
        } else {
            self.expect(&["returns"])?;
            function.set = self.eat(&["setof"]);
            function.result = Some(self.data_type()?);
        }
        let mut body = None;
        loop {
            if self.eat(&["language"]) {
                function.language = match self.eat_string() {
                    Some(language) => language.to_lowercase(),
                    None => self.identifier()?,
                };
            } else if self.eat(&["immutable"]) {
                function.volatility = 'i';
            } else if self.eat(&["stable"]) {
                function.volatility = 's';
            } else if self.eat(&["volatile"]) {
                function.volatility = 'v';
            } else if self.eat(&["strict"]) || self.eat(&["returns", "null", "on", "null", "input"]) {
                function.strict = true;
            } else if self.eat(&["called", "on", "null", "input"]) {
                function.strict = false;
            } else if self.eat(&["parallel"]) {
                self.identifier()?;
            } else if self.at(&["cost"]) || self.at(&["rows"]) {
                self.skip(1);
                self.bigint()?;
            } else if self.at(&["security"]) || self.at(&["set"]) || self.at(&["window"]) {
                return self.unsupported("this option of CREATE FUNCTION", "");
            } else if self.eat(&["as"]) {
                body = Some(self.string()?);
            } else if self.eat(&["return"]) {
                let expr = self.sql_expr()?;
                body = Some(format!("SELECT {}", expr.text));
                if function.language.is_empty() {
                    function.language = "sql".into();
                }
            } else if self.at(&["begin"]) {
                return self.unsupported("BEGIN ATOMIC", "Write the body as a string after AS.");
            } else {
                break;
            }
        }
        function.body = match body {
            Some(body) => body,
            None if self.at_end() => {
                return Err(Error::new(ErrorKind::InvalidObjectDefinition, "no function body specified"));
            }
            None => return Err(self.unexpected()),
        };
        if function.language.is_empty() {
            return Err(Error::new(ErrorKind::InvalidObjectDefinition, "no language specified"));
        }
        Ok(Statement::CreateFunction(Box::new(function)))
    }
}

/// Whether an action may be followed by another one.
fn combines(action: Option<&AlterAction>) -> bool {
    !matches!(
        action,
        Some(
            AlterAction::Rename(_)
                | AlterAction::RenameColumn { .. }
                | AlterAction::RenameConstraint { .. }
                | AlterAction::SetSchema(_)
        )
    )
}
