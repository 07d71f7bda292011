//! SELECT at the top, and the statements that write rows: INSERT, UPDATE, DELETE, MERGE, each with WITH before it.

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Whitespace};

use super::{Grammar, audit, lexer, normalize};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    CreateTable, Dml, Merge, MergeAction, MergeClause, Name, Options, Overriding, SqlQuery, Statement,
};

impl Grammar<'_> {
    /// SELECT, or SELECT … INTO, which is CREATE TABLE AS.
    pub(super) fn select(&mut self) -> Result<Statement> {
        if !self.selects_into() {
            return Ok(Statement::Query(self.query_with_locks()?.ast));
        }
        let from = self.position();
        let mut ast = self.native(|p| p.parse_query())?;
        normalize::query(&mut ast);
        let into = match ast.body.as_mut() {
            ast::SetExpr::Select(select) => select.into.take(),
            _ => None,
        };
        audit::query(&ast).map_err(|refusal| self.refused(refusal))?;
        let Some(ast::SelectInto { temporary, unlogged: false, table: _, name }) = into else {
            return self.unsupported("this form of SELECT INTO", "Use CREATE TABLE … AS.");
        };
        let parts: Vec<String> = name.0.iter().filter_map(|p| p.as_ident()).map(super::fold).collect();
        let mut parts = parts.into_iter().rev();
        let name =
            Name { name: parts.next().unwrap_or_default(), schema: parts.next(), database: parts.next() };
        let query = Some(SqlQuery { ast, text: self.text_since(from) });
        Ok(Statement::CreateTable(Box::new(CreateTable {
            if_not_exists: false,
            temporary,
            name,
            columns: Vec::new(),
            column_names: Vec::new(),
            constraints: Vec::new(),
            watermark: None,
            append_only: false,
            options: Options::default(),
            format: None,
            query,
            with_no_data: false,
            likes: Vec::new(),
            on_commit: None,
        })))
    }

    /// Whether INTO stands outside all parentheses of the query that begins here.
    fn selects_into(&self) -> bool {
        let mut depth = 0_usize;
        for token in &self.source.tokens[self.position()..self.end] {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ if depth == 0 && lexer::is_word(Some(token), &["into"]) => return true,
                _ => {}
            }
        }
        false
    }

    /// WITH … before a query or before INSERT, UPDATE, DELETE, MERGE.
    pub(super) fn with_statement(&mut self) -> Result<Statement> {
        if !self.with_ends_in_dml() {
            return Ok(Statement::Query(self.query_with_locks()?.ast));
        }
        let with_token = self.native(|p| Ok(p.next_token()))?;
        let recursive = self.eat(&["recursive"]);
        let cte_tables = self.native(|p| p.parse_comma_separated(Parser::parse_cte))?;
        let with = ast::With { with_token: with_token.into(), recursive, cte_tables };
        audit::with(&with).map_err(|refusal| self.refused(refusal))?;
        if self.at(&["merge"]) { self.merge(Some(with)) } else { self.dml(Some(with)) }
    }

    /// Whether INSERT, UPDATE, DELETE or MERGE stands outside all parentheses of the statement that begins here.
    fn with_ends_in_dml(&self) -> bool {
        let mut depth = 0_usize;
        let tokens = &self.source.tokens[self.position()..self.end];
        for (i, token) in tokens.iter().enumerate() {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ if depth == 0 && lexer::is_word(Some(token), &["insert", "update", "delete", "merge"]) => {
                    // `WITH update AS (…)` names a query so.
                    let after = tokens[i + 1..].iter().find(|t| !matches!(t.token, Token::Whitespace(_)));
                    if !lexer::is_word(after, &["as"]) {
                        return true;
                    }
                }
                _ if depth == 0 && lexer::is_word(Some(token), &["select", "values", "table"]) => {
                    return false;
                }
                _ => {}
            }
        }
        false
    }

    pub(super) fn dml(&mut self, with: Option<ast::With>) -> Result<Statement> {
        let overriding = self.take_overriding()?;
        let mut statement = self.native(|p| {
            let token = p.next_token();
            match &token.token {
                Token::Word(w) if w.keyword == Keyword::INSERT => p.parse_insert(token),
                Token::Word(w) if w.keyword == Keyword::UPDATE => p.parse_update(token),
                _ => p.parse_delete(token),
            }
        })?;
        normalize::statement(&mut statement);
        let (audited, statement) = match statement {
            ast::Statement::Insert(ast) => {
                (audit::insert(&ast), Statement::Insert(Box::new(Dml { ast, with, overriding })))
            }
            ast::Statement::Update(ast) => {
                (audit::update(&ast), Statement::Update(Box::new(Dml { ast, with, overriding })))
            }
            ast::Statement::Delete(ast) => {
                (audit::delete(&ast), Statement::Delete(Box::new(Dml { ast, with, overriding })))
            }
            _ => return self.unsupported("this form of data-modifying statement", ""),
        };
        audited.map_err(|refusal| self.refused(refusal))?;
        Ok(statement)
    }

    /// Takes OVERRIDING … VALUE, which sqlparser does not know, out of an INSERT that begins here.
    fn take_overriding(&mut self) -> Result<Option<Overriding>> {
        if !self.at(&["insert"]) {
            return Ok(None);
        }
        let from = self.position();
        let tokens = &self.source.tokens[from..self.end];
        let words: Vec<usize> =
            (0..tokens.len()).filter(|i| !matches!(tokens[*i].token, Token::Whitespace(_))).collect();
        let is = |at: usize, word: &str| lexer::is_word(words.get(at).and_then(|i| tokens.get(*i)), &[word]);
        let mut depth = 0_usize;
        for at in 0..words.len() {
            match &tokens[words[at]].token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > 0 || !is(at, "overriding") || !is(at + 2, "value") {
                continue;
            }
            let overriding = match (is(at + 1, "system"), is(at + 1, "user")) {
                (true, _) => Overriding::System,
                (_, true) => Overriding::User,
                _ => continue,
            };
            let blank = words[at..at + 3].iter().map(|i| from + i).collect::<Vec<_>>();
            self.without(&blank);
            return Ok(Some(overriding));
        }
        Ok(None)
    }

    /// Goes on with a parser that does not see these tokens; all others keep their places.
    fn without(&mut self, blank: &[usize]) {
        let mut tokens = self.source.tokens[self.start..self.end].to_vec();
        for at in blank {
            tokens[*at - self.start].token = Token::Whitespace(Whitespace::Space);
        }
        let done = self.parser.index();
        self.parser = Parser::new(self.dialect)
            .with_recursion_limit(super::guard::PARSER_RECURSION)
            .with_tokens_with_locations(tokens);
        while self.parser.index() < done {
            self.parser.next_token_no_skip();
        }
    }

    pub(super) fn merge(&mut self, with: Option<ast::With>) -> Result<Statement> {
        self.expect(&["merge", "into"])?;
        if self.at(&["only"]) {
            return self.unsupported("ONLY", "Tables have no children.");
        }
        let target = self.native(|p| p.parse_table_factor())?;
        self.expect(&["using"])?;
        let source = self.native(|p| p.parse_table_factor())?;
        self.expect(&["on"])?;
        let on = self.expr()?;
        audit::factor(&target).map_err(|refusal| self.refused(refusal))?;
        audit::factor(&source).map_err(|refusal| self.refused(refusal))?;
        let mut clauses = Vec::new();
        while self.eat(&["when"]) {
            clauses.push(self.merge_clause()?);
        }
        if clauses.is_empty() {
            return Err(self.unexpected());
        }
        if self.at(&["returning"]) {
            return self
                .unsupported("RETURNING of MERGE", "Read the table afterwards, in the same transaction.");
        }
        Ok(Statement::Merge(Box::new(Merge { with, target, source, on, clauses })))
    }

    fn merge_clause(&mut self) -> Result<MergeClause> {
        let matched = !self.eat(&["not"]);
        self.expect(&["matched"])?;
        if !matched && self.at(&["by"]) {
            return self.unsupported("NOT MATCHED BY", "Delete what has no match with NOT EXISTS.");
        }
        let condition = if self.eat(&["and"]) { Some(self.expr()?) } else { None };
        self.expect(&["then"])?;
        let action = if self.eat(&["do", "nothing"]) {
            MergeAction::Nothing
        } else if matched && self.eat(&["delete"]) {
            MergeAction::Delete
        } else if matched && self.eat(&["update", "set"]) {
            let assignments = self.native(|p| p.parse_comma_separated(Parser::parse_assignment))?;
            for a in &assignments {
                audit::expr(&a.value).map_err(|refusal| self.refused(refusal))?;
            }
            MergeAction::Update(assignments)
        } else if !matched && self.eat(&["insert"]) {
            self.merge_insert()?
        } else {
            return Err(self.unexpected());
        };
        Ok(MergeClause { matched, condition, action })
    }

    fn merge_insert(&mut self) -> Result<MergeAction> {
        let columns =
            if *self.peek() == Token::LParen { self.identifiers_in_parentheses()? } else { Vec::new() };
        let overriding = if self.eat(&["overriding", "system", "value"]) {
            Some(Overriding::System)
        } else if self.eat(&["overriding", "user", "value"]) {
            Some(Overriding::User)
        } else {
            None
        };
        if self.eat(&["default", "values"]) {
            if !columns.is_empty() {
                return Err(Error::new(ErrorKind::Syntax, "syntax error at or near \"DEFAULT\""));
            }
            return Ok(MergeAction::Insert { columns, overriding, values: None });
        }
        self.expect(&["values"])?;
        let values = self.parenthesized(Self::expr)?;
        Ok(MergeAction::Insert { columns, overriding, values: Some(values) })
    }
}
