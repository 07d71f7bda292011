//! SUBSCRIBE, cursors and COPY.

use sqlparser::tokenizer::Token;

use super::Grammar;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{
    AsOf, Copy, CopyEndpoint, CopyObject, CursorSource, Declare, Envelope, Fetch, FetchDirection,
    OptionValue, Options, SqlQuery, Statement, Subscribe, Target,
};

impl Grammar<'_> {
    /// `SUBSCRIBE [TO] target clause…`; the clauses come in any order.
    pub(super) fn subscribe(&mut self) -> Result<Subscribe> {
        self.expect(&["subscribe"])?;
        self.eat(&["to"]);
        if self.at(&["subscription"]) && matches!(self.peek_nth(1).token, Token::Word(_)) {
            return self.unsupported("SUBSCRIBE TO SUBSCRIPTION", "Subscribe to the relation directly.");
        }
        let target = self.subscribe_target()?;
        let mut subscribe = Subscribe {
            target,
            snapshot: None,
            progress: None,
            as_of: None,
            up_to: None,
            envelope: Envelope::Diff,
        };
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let position = self.error_position();
            let clause = if self.eat(&["with"]) {
                self.subscribe_options(&mut subscribe)?;
                "WITH"
            } else if self.eat(&["as", "of"]) {
                let at_least = self.eat(&["at", "least"]);
                subscribe.as_of = Some(AsOf { at_least, time: Box::new(self.expr()?) });
                "AS OF"
            } else if self.eat(&["up", "to"]) {
                subscribe.up_to = Some(Box::new(self.expr()?));
                "UP TO"
            } else if self.eat(&["envelope"]) {
                subscribe.envelope = self.envelope()?;
                "ENVELOPE"
            } else if self.at(&["within", "timestamp"]) {
                return self.unsupported("WITHIN TIMESTAMP ORDER BY", "");
            } else {
                return Ok(subscribe);
            };
            if seen.contains(&clause) {
                return Err(Error::new(ErrorKind::Syntax, format!("{clause} specified more than once"))
                    .with_position(position));
            }
            seen.push(clause);
        }
    }

    fn subscribe_target(&mut self) -> Result<Target> {
        if *self.peek() != Token::LParen {
            if self.at_any(&["select", "values"]) {
                // `SUBSCRIBE SELECT …`: clauses would be ambiguous, so parentheses are required.
                return Err(self.unexpected());
            }
            return Ok(Target::Relation(self.name()?));
        }
        self.skip(1);
        let query: SqlQuery = self.query()?;
        self.expect_token(&Token::RParen)?;
        Ok(Target::Query(query))
    }

    fn subscribe_options(&mut self, subscribe: &mut Subscribe) -> Result<()> {
        let position = self.error_position();
        for (name, value) in self.options()?.0 {
            let place = match name.as_str() {
                "snapshot" => &mut subscribe.snapshot,
                "progress" => &mut subscribe.progress,
                _ => {
                    return Err(Error::new(
                        ErrorKind::Syntax,
                        format!("unrecognized SUBSCRIBE option \"{name}\""),
                    )
                    .with_hint("The options are SNAPSHOT and PROGRESS.")
                    .with_position(position));
                }
            };
            *place = Some(boolean(&name, &value)?);
        }
        Ok(())
    }

    fn envelope(&mut self) -> Result<Envelope> {
        let upsert = self.eat(&["upsert"]);
        if !upsert {
            self.expect(&["debezium"])?;
        }
        self.expect_token(&Token::LParen)?;
        self.expect(&["key"])?;
        let key = self.identifiers_in_parentheses()?;
        self.expect_token(&Token::RParen)?;
        Ok(if upsert { Envelope::Upsert(key) } else { Envelope::Debezium(key) })
    }

    pub(super) fn declare(&mut self) -> Result<Statement> {
        self.expect(&["declare"])?;
        let name = self.identifier()?;
        let (mut binary, mut scroll) = (false, None);
        loop {
            if self.eat(&["binary"]) {
                binary = true;
            } else if self.eat(&["no", "scroll"]) {
                scroll = Some(false);
            } else if self.eat(&["scroll"]) {
                scroll = Some(true);
            } else if !self.eat(&["insensitive"]) && !self.eat(&["asensitive"]) {
                break;
            }
        }
        if self.at(&["subscription", "cursor"]) {
            return self.unsupported(
                "DECLARE … SUBSCRIPTION CURSOR",
                "Use DECLARE … CURSOR FOR SUBSCRIBE TO the relation.",
            );
        }
        self.expect(&["cursor"])?;
        let hold = self.eat(&["with", "hold"]);
        if !hold {
            self.eat(&["without", "hold"]);
        }
        self.expect(&["for"])?;
        let source = if self.at(&["subscribe"]) {
            CursorSource::Subscribe(Box::new(self.subscribe()?))
        } else {
            CursorSource::Query(self.query()?)
        };
        Ok(Statement::Declare(Box::new(Declare { name, binary, scroll, hold, source })))
    }

    /// FETCH, MOVE and CLOSE.
    pub(super) fn cursor(&mut self, word: &str) -> Result<Statement> {
        self.skip(1);
        if word == "close" {
            let all = self.eat(&["all"]);
            return Ok(Statement::Close(if all { None } else { Some(self.identifier()?) }));
        }
        let direction = self.fetch_direction()?;
        if !self.eat(&["from"]) {
            self.eat(&["in"]);
        }
        let cursor = self.identifier()?;
        let timeout = if self.at(&["with"]) {
            self.skip(1);
            let position = self.error_position();
            let mut options = self.options()?;
            let timeout = options.take("timeout");
            if let Some((name, _)) = options.iter().next() {
                return Err(Error::new(ErrorKind::Syntax, format!("unrecognized FETCH option \"{name}\""))
                    .with_hint("The option is timeout.")
                    .with_position(position));
            }
            timeout
        } else {
            None
        };
        let fetch = Fetch { cursor, direction, timeout };
        Ok(if word == "fetch" { Statement::Fetch(fetch) } else { Statement::Move(fetch) })
    }

    fn fetch_direction(&mut self) -> Result<FetchDirection> {
        let direction = if self.direction_word("next") {
            FetchDirection::Forward(1)
        } else if self.direction_word("prior") {
            FetchDirection::Forward(-1)
        } else if self.direction_word("first") {
            FetchDirection::Absolute(1)
        } else if self.direction_word("last") {
            FetchDirection::Absolute(-1)
        } else if self.direction_word("absolute") {
            FetchDirection::Absolute(self.count()?)
        } else if self.direction_word("relative") {
            FetchDirection::Relative(self.count()?)
        } else if self.eat(&["all"]) {
            FetchDirection::ForwardAll
        } else if self.direction_word("forward") {
            if self.eat(&["all"]) {
                FetchDirection::ForwardAll
            } else {
                FetchDirection::Forward(self.optional_count()?.unwrap_or(1))
            }
        } else if self.direction_word("backward") {
            if self.eat(&["all"]) {
                FetchDirection::BackwardAll
            } else {
                FetchDirection::Forward(-self.optional_count()?.unwrap_or(1))
            }
        } else {
            FetchDirection::Forward(self.optional_count()?.unwrap_or(1))
        };
        Ok(direction)
    }

    /// A direction's word, unless it is the cursor's own name.
    fn direction_word(&mut self, word: &str) -> bool {
        !matches!(self.peek_nth(1).token, Token::EOF) && self.eat(&[word])
    }

    fn count(&mut self) -> Result<i64> {
        self.optional_count()?.ok_or_else(|| self.unexpected())
    }

    fn optional_count(&mut self) -> Result<Option<i64>> {
        let at = self.position();
        match self.eat_number() {
            None => Ok(None),
            // PostgreSQL counts in 32 bits here; beyond that it is a syntax error.
            Some(number) => match number.parse::<i32>() {
                Ok(n) => Ok(Some(n.into())),
                Err(_) => Err(self.source.syntax_error(at)),
            },
        }
    }

    pub(super) fn copy(&mut self) -> Result<Statement> {
        self.expect(&["copy"])?;
        let old_binary = self.eat(&["binary"]);
        let object = if self.eat_token(&Token::LParen) {
            let object = if self.at(&["subscribe"]) {
                CopyObject::Subscribe(Box::new(self.subscribe()?))
            } else if self.at_any(&["insert", "update", "delete"]) {
                CopyObject::Dml(Box::new(self.dml(None)?))
            } else {
                CopyObject::Query(self.query()?)
            };
            self.expect_token(&Token::RParen)?;
            object
        } else {
            let name = self.name()?;
            let columns =
                if *self.peek() == Token::LParen { self.identifiers_in_parentheses()? } else { Vec::new() };
            CopyObject::Relation { name, columns }
        };
        let relation = matches!(object, CopyObject::Relation { .. });
        let to = !(relation && self.eat(&["from"]));
        if to {
            self.expect(&["to"])?;
        }
        if self.at(&["program"]) {
            return self.unsupported("COPY … PROGRAM", "Use STDIN or STDOUT.");
        }
        let endpoint = if self.eat(&["stdin"]) || self.eat(&["stdout"]) {
            CopyEndpoint::Client
        } else {
            CopyEndpoint::File(self.string()?)
        };
        let mut options = self.copy_options()?;
        if old_binary {
            options.0.push(("format".into(), OptionValue::Ident("binary".into())));
        }
        if self.at(&["where"]) {
            return self.unsupported("COPY … WHERE", "Copy into a table and filter in a view.");
        }
        Ok(Statement::Copy(Box::new(Copy { object, to, endpoint, options })))
    }

    /// `[WITH] (…)`, or the options of PostgreSQL before 9.0, or Materialize's `WITH FORMAT csv`.
    fn copy_options(&mut self) -> Result<Options> {
        self.eat(&["with"]);
        if *self.peek() == Token::LParen {
            return self.options();
        }
        let mut options = Options::default();
        loop {
            self.eat(&["using"]);
            let option = if self.eat(&["binary"]) {
                ("format", OptionValue::Ident("binary".into()))
            } else if self.eat(&["csv"]) {
                ("format", OptionValue::Ident("csv".into()))
            } else if self.eat(&["header"]) {
                ("header", OptionValue::Bool(true))
            } else if let Some(name) =
                ["delimiter", "null", "quote", "escape", "encoding"].into_iter().find(|w| self.at(&[w]))
            {
                self.skip(1);
                self.eat(&["as"]);
                (if name == "delimiters" { "delimiter" } else { name }, OptionValue::String(self.string()?))
            } else if self.eat(&["format"]) {
                ("format", self.option_value()?)
            } else {
                return Ok(options);
            };
            if options.get(option.0).is_some() {
                return Err(Error::new(ErrorKind::Syntax, "conflicting or redundant options"));
            }
            options.0.push((option.0.into(), option.1));
        }
    }
}

/// The truth of an option, in PostgreSQL's spellings.
fn boolean(name: &str, value: &OptionValue) -> Result<bool> {
    let text = value.to_string().to_ascii_lowercase();
    match text.as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(Error::new(ErrorKind::Syntax, format!("{name} requires a Boolean value"))),
    }
}
