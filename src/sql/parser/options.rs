//! Option lists: `WITH (connector = 'file', a.b = 5)`, `FORMAT … ENCODE … (…)`, and values as settings.
//!
//! Boundary: syntax only; which options an object knows is decided where they are used.

use sqlparser::tokenizer::Token;

use super::Grammar;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::statement::{FormatEncode, OptionValue, Options};

/// More options than any object has.
const MAX_OPTIONS: usize = 500;

impl Grammar<'_> {
    /// `WITH (…)`, if it is next.
    pub(super) fn with_options(&mut self) -> Result<Options> {
        if self.at(&["with"]) && self.peek_nth(1).token == Token::LParen {
            self.skip(1);
            self.options()
        } else {
            Ok(Options::default())
        }
    }

    /// `( key [=] value, … )`.
    pub(super) fn options(&mut self) -> Result<Options> {
        let mut options = Options::default();
        self.expect_token(&Token::LParen)?;
        if self.eat_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let position = self.error_position();
            let key = self.option_key()?;
            let value = self.option_value_or_true()?;
            if options.get(&key).is_some() {
                return Err(Error::new(
                    ErrorKind::Syntax,
                    format!("option \"{key}\" provided more than once"),
                )
                .with_position(position));
            }
            if options.0.len() >= MAX_OPTIONS {
                return Err(Error::new(ErrorKind::ProgramLimit, "too many options").with_position(position));
            }
            options.0.push((key, value));
            if !self.eat_token(&Token::Comma) {
                break;
            }
        }
        self.expect_token(&Token::RParen)?;
        Ok(options)
    }

    /// A dotted key, in quotes or not; keys are always lower case.
    pub(super) fn option_key(&mut self) -> Result<String> {
        if let Some(key) = self.eat_string() {
            return Ok(key.to_lowercase());
        }
        if self.eat(&["retain", "history", "for"]) {
            return Ok("retain_history".into());
        }
        let mut key = String::new();
        loop {
            match self.peek() {
                Token::Word(w) => key.push_str(&w.value.to_lowercase()),
                Token::Number(n, _) if !key.is_empty() => key.push_str(n),
                _ => return Err(self.unexpected()),
            }
            self.skip(1);
            match self.peek() {
                Token::Period => key.push('.'),
                Token::Minus => key.push('-'),
                _ => return Ok(key),
            }
            self.skip(1);
        }
    }

    /// `= value`, `value`, or nothing, which means true.
    fn option_value_or_true(&mut self) -> Result<OptionValue> {
        if self.eat_token(&Token::Eq) || !matches!(self.peek(), Token::Comma | Token::RParen) {
            self.option_value()
        } else {
            Ok(OptionValue::Bool(true))
        }
    }

    /// A value of an option.
    pub(super) fn option_value(&mut self) -> Result<OptionValue> {
        if let Some(text) = self.eat_string() {
            return Ok(OptionValue::String(text));
        }
        if let Some(number) = self.eat_number() {
            return Ok(OptionValue::Number(number));
        }
        if *self.peek() == Token::LParen {
            return Ok(OptionValue::List(self.parenthesized(Self::option_value)?));
        }
        if self.at(&["interval"]) && !matches!(self.peek_nth(1).token, Token::Comma | Token::RParen) {
            self.skip(1);
            let mut text = self.string()?;
            if let Token::Word(unit) = self.peek() {
                text = format!("{text} {}", unit.value.to_lowercase());
                self.skip(1);
            }
            if self.eat(&["to"]) {
                self.identifier()?;
            }
            return Ok(OptionValue::Interval(text));
        }
        if self.eat(&["secret"]) {
            return self.unsupported("SECRET as an option's value", "Write the value itself.");
        }
        match self.peek() {
            Token::Word(w) => {
                let value = match &w.quote_style {
                    Some(_) => OptionValue::Ident(w.value.clone()),
                    None if w.value.eq_ignore_ascii_case("true") => OptionValue::Bool(true),
                    None if w.value.eq_ignore_ascii_case("false") => OptionValue::Bool(false),
                    None => OptionValue::Ident(w.value.to_ascii_lowercase()),
                };
                self.skip(1);
                Ok(value)
            }
            Token::Mul => {
                self.skip(1);
                Ok(OptionValue::Ident("*".into()))
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `FORMAT f ENCODE e [(…)]`, if it is next.
    pub(super) fn format_encode(&mut self) -> Result<Option<FormatEncode>> {
        if !self.eat(&["format"]) {
            return Ok(None);
        }
        let formats = ["plain", "upsert", "debezium"];
        if self.at_any(&["json", "text", "bytes", "csv", "avro", "protobuf", "parquet"]) {
            // Materialize's `FORMAT JSON`.
            let encode = self.identifier()?;
            let options = if *self.peek() == Token::LParen { self.options()? } else { Options::default() };
            return Ok(Some(FormatEncode { format: "plain".into(), encode, options }));
        }
        if !self.at_any(&formats) {
            return Err(self.unexpected());
        }
        let format = self.identifier()?;
        self.expect(&["encode"])?;
        if !self.at_any(&["json", "avro", "protobuf", "csv", "bytes", "text", "parquet"]) {
            return Err(self.unexpected());
        }
        let encode = self.identifier()?;
        let options = if *self.peek() == Token::LParen { self.options()? } else { Options::default() };
        Ok(Some(FormatEncode { format, encode, options }))
    }
}
