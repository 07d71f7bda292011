//! The extended query protocol: prepared statements, portals, and pipelines up to Sync.
//!
//! Boundary: names, formats and counts are checked here; parsing, typing and running are the backend's.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::ScalarValue;
use pgwire::messages::data::ParameterDescription;

use super::codec::{Body, put, write_bare};
use super::connection::{Connection, Failure, RowsInFlight};
use super::errors::protocol;
use super::rows::{Format, format_of, write_row_description};
use crate::coord::backend::{Description, Outcome, Prepared, TransactionStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;
use crate::types::binary::{parse_binary, utf8};
use crate::types::text::{TextOptions, parse_text};

/// A statement bound to its parameters.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    formats: Vec<Format>,
    state: PortalState,
}

enum PortalState {
    /// Not run yet, with its parameters.
    Ready(Vec<ScalarValue>),
    /// Rows were or are being fetched.
    Rows(Box<RowsInFlight>),
    /// A command that was run, or a portal whose run failed.
    Done,
}

impl Connection<'_> {
    /// Parse, Bind, Describe, Execute or Close.
    pub async fn extended(&mut self, kind: u8, body: Bytes) -> Result<(), Failure> {
        let body = Body(body);
        match kind {
            b'P' => self.parse(body).await,
            b'B' => Ok(self.bind(body)?),
            b'D' => Ok(self.describe(body)?),
            b'E' => self.execute(body).await,
            _ => Ok(self.close_object(body)?),
        }?;
        // A deep pipeline's replies are sent before its end.
        Ok(self.io.flush_if_full().await?)
    }

    fn prepared(&self, name: &str) -> Result<Arc<Prepared>> {
        let found = if name.is_empty() { self.unnamed.clone() } else { self.statements.get(name) };
        found.ok_or_else(|| {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_string()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            Error::new(ErrorKind::InvalidStatementName, text)
        })
    }

    async fn parse(&mut self, mut body: Body) -> Result<(), Failure> {
        let name = body.cstr()?;
        let text = body.cstr()?;
        let count = body.count(4)?;
        let mut types = Vec::with_capacity(count);
        for _ in 0..count {
            types.push(body.i32()? as u32);
        }
        body.end()?;
        if name.is_empty() {
            self.unnamed = None;
        } else if self.statements.get(&name).is_some() {
            return Err(duplicate_statement(&name).into());
        }
        self.watch.cancel.begin();
        let session = &mut self.session;
        let mut parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session.parse(&text)))
            .unwrap_or_else(|panic| Err(super::errors::panicked(&*panic)))?;
        if parsed.len() > 1 {
            let e =
                Error::new(ErrorKind::Syntax, "cannot insert multiple commands into a prepared statement");
            return Err(e.into());
        }
        let prepared = match parsed.pop() {
            Some(statement) => {
                self.begin()?;
                let description = self.watch.call(self.io, self.session.describe(&statement, &types)).await?;
                Prepared { statement: Some(statement), description: Arc::new(description) }
            }
            None => Prepared { statement: None, description: Arc::new(Description::default()) },
        };
        if name.is_empty() {
            self.unnamed = Some(Arc::new(prepared));
        } else if !self.statements.insert(&name, Arc::new(prepared)) {
            return Err(duplicate_statement(&name).into());
        }
        write_bare(b'1', self.replies());
        Ok(())
    }

    fn bind(&mut self, mut body: Body) -> Result<()> {
        let portal = body.cstr()?;
        let statement = body.cstr()?;
        let formats = read_formats(&mut body)?;
        let count = body.count(4)?;
        let prepared = self.prepared(&statement)?;
        let types = &prepared.description.params;
        if formats.len() > 1 && formats.len() != count {
            return Err(protocol(format!(
                "bind message has {} parameter formats but {count} parameters",
                formats.len()
            )));
        }
        if count != types.len() {
            return Err(protocol(format!(
                "bind message supplies {count} parameters, but prepared statement \"{statement}\" requires {}",
                types.len()
            )));
        }
        let options = self.session.text_options();
        let mut params = Vec::with_capacity(count);
        for (i, pg) in types.iter().enumerate() {
            params.push(read_parameter(&mut body, *pg, format_of(&formats, i), &options, i)?);
        }
        let formats = read_formats(&mut body)?;
        body.end()?;
        let columns = prepared.description.columns.as_ref().map_or(0, |c| c.len());
        if formats.len() > 1 && formats.len() != columns {
            return Err(protocol(format!(
                "bind message has {} result formats but query has {columns} columns",
                formats.len()
            )));
        }
        if !portal.is_empty() && self.portals.contains_key(&portal) {
            return Err(Error::new(
                ErrorKind::DuplicateCursor,
                format!("cursor \"{portal}\" already exists"),
            ));
        }
        self.portals.insert(portal, Portal { prepared, formats, state: PortalState::Ready(params) });
        write_bare(b'2', self.replies());
        Ok(())
    }

    fn describe(&mut self, mut body: Body) -> Result<()> {
        let kind = body.u8()?;
        let name = body.cstr()?;
        body.end()?;
        match kind {
            b'S' => {
                let prepared = self.prepared(&name)?;
                let types = prepared.description.params.iter().map(|pg| pg.oid).collect();
                put(&ParameterDescription::new(types), self.replies());
                self.write_columns(&prepared.description, &[]);
            }
            b'P' => {
                if let Some(portal) = self.portals.get(&name) {
                    let (description, formats) =
                        (Arc::clone(&portal.prepared.description), portal.formats.clone());
                    self.write_columns(&description, &formats);
                } else {
                    // What SQL has declared is a portal, too.
                    let columns = self.session.cursor_columns(&name).ok_or_else(|| no_portal(&name))?;
                    write_row_description(&columns, &[], self.replies());
                }
            }
            other => return Err(protocol(format!("invalid DESCRIBE message subtype {other}"))),
        }
        Ok(())
    }

    fn write_columns(&mut self, description: &Description, formats: &[Format]) {
        match &description.columns {
            Some(columns) => write_row_description(columns, formats, self.replies()),
            None => write_bare(b'n', self.replies()),
        }
    }

    async fn execute(&mut self, mut body: Body) -> Result<(), Failure> {
        let name = body.cstr()?;
        let limit = body.i32()?;
        body.end()?;
        if !self.portals.contains_key(&name) && self.session.cursor_columns(&name).is_some() {
            return self.execute_cursor(&name, limit).await;
        }
        let limit = usize::try_from(limit).ok().filter(|l| *l > 0).unwrap_or(usize::MAX);
        // Taken out while it runs: a statement may end all portals, this one included.
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let was_in_block = self.session.status() != TransactionStatus::Idle;
        let result = self.run_portal(&name, &mut portal, limit).await;
        if was_in_block && self.session.status() == TransactionStatus::Idle {
            self.portals.clear();
        } else {
            self.portals.insert(name, portal);
        }
        result
    }

    /// Execute of a cursor that SQL has declared: a FETCH.
    async fn execute_cursor(&mut self, name: &str, limit: i32) -> Result<(), Failure> {
        let count = if limit > 0 { limit.to_string() } else { "ALL".to_string() };
        let quoted = name.replace('"', "\"\"");
        let fetch = self.session.parse(&format!("FETCH {count} FROM \"{quoted}\""))?;
        let Some(fetch) = fetch.first() else { return Err(no_portal(name).into()) };
        let token = self.watch.cancel.begin();
        self.release();
        self.begin()?;
        let outcome = self.watch.call(self.io, self.session.execute(fetch, Vec::new())).await?;
        let Outcome::Rows { columns, stream, tag } = outcome else {
            return self.no_rows(outcome, &token).await;
        };
        let options = self.session.text_options();
        let mut rows = RowsInFlight::new(columns, stream, tag);
        let (sent, _) = rows.send(self.io, &self.watch, &token, &[], usize::MAX, &options).await?;
        if usize::try_from(limit) == Ok(sent) && sent > 0 {
            write_bare(b's', &mut self.io.out);
        } else {
            self.complete(format!("SELECT {sent}"));
        }
        Ok(())
    }

    async fn run_portal(&mut self, name: &str, portal: &mut Portal, limit: usize) -> Result<(), Failure> {
        let token = self.watch.cancel.begin();
        self.release();
        if let PortalState::Ready(params) = &mut portal.state {
            let params = std::mem::take(params);
            portal.state = PortalState::Done;
            let Some(statement) = &portal.prepared.statement else {
                write_bare(b'I', &mut self.io.out);
                return Ok(());
            };
            self.begin()?;
            let outcome = match self.execute_at_once(statement, &params) {
                Some(outcome) => outcome?,
                None => self.watch.call(self.io, self.session.execute(statement, params)).await?,
            };
            match outcome {
                Outcome::Rows { columns, stream, tag } => {
                    check_columns(&portal.prepared.description, &columns)?;
                    portal.state = PortalState::Rows(Box::new(RowsInFlight::new(columns, stream, tag)));
                }
                other => return self.no_rows(other, &token).await,
            }
        }
        let PortalState::Rows(rows) = &mut portal.state else {
            let text = format!("portal \"{name}\" cannot be run");
            return Err(Error::new(ErrorKind::ObjectNotInState, text).into());
        };
        let options = self.session.text_options();
        let sent = rows.send(self.io, &self.watch, &token, &portal.formats, limit, &options).await;
        match sent {
            Ok((_, true)) => write_bare(b's', &mut self.io.out),
            Ok((sent, false)) => {
                let tag = rows.command_tag(sent);
                self.complete(tag);
            }
            Err(e) => {
                portal.state = PortalState::Done;
                return Err(e);
            }
        }
        Ok(())
    }

    fn close_object(&mut self, mut body: Body) -> Result<()> {
        let kind = body.u8()?;
        let name = body.cstr()?;
        body.end()?;
        match kind {
            b'S' if name.is_empty() => self.unnamed = None,
            b'S' => drop(self.statements.remove(&name)),
            b'P' => drop(self.portals.remove(&name)),
            other => return Err(protocol(format!("invalid CLOSE message subtype {other}"))),
        }
        write_bare(b'3', self.replies());
        Ok(())
    }

    /// Sync: the pipeline's implicit transaction ends, and so do portals outside a block.
    pub async fn sync(&mut self) -> Result<(), Failure> {
        let ok = !std::mem::take(&mut self.skipping);
        if self.session.status() == TransactionStatus::Idle {
            self.portals.clear();
        }
        self.watch.cancel.begin();
        if let Err(failure) = self.finish(ok).await {
            match failure {
                Failure::Error(e) => self.report(&e),
                other => return Err(other),
            }
        }
        self.ready().await
    }
}

fn duplicate_statement(name: &str) -> Error {
    Error::new(ErrorKind::DuplicateStatement, format!("prepared statement \"{name}\" already exists"))
}

fn no_portal(name: &str) -> Error {
    Error::new(ErrorKind::InvalidCursorName, format!("portal \"{name}\" does not exist"))
}

/// A statement described long ago must still give what was described.
fn check_columns(description: &Description, columns: &[crate::coord::backend::OutputColumn]) -> Result<()> {
    let same = description.columns.as_ref().is_some_and(|described| {
        described.len() == columns.len()
            && described.iter().zip(columns).all(|(a, b)| a.pg_type.oid == b.pg_type.oid)
    });
    if same { Ok(()) } else { Err(Error::unsupported("cached plan must not change result type")) }
}

fn read_formats(body: &mut Body) -> Result<Vec<Format>> {
    let count = body.count(2)?;
    let mut formats = Vec::with_capacity(count);
    for _ in 0..count {
        formats.push(Format::of_code(body.i16()?)?);
    }
    Ok(formats)
}

fn read_parameter(
    body: &mut Body,
    pg: PgType,
    format: Format,
    options: &TextOptions,
    index: usize,
) -> Result<ScalarValue> {
    let len = body.i32()?;
    if len == -1 {
        return Ok(ScalarValue::try_from(&pg.arrow())?);
    }
    let len = usize::try_from(len).map_err(|_| protocol("invalid message format"))?;
    let bytes = body.bytes(len)?;
    match format {
        Format::Text => {
            let text = utf8(&bytes)?;
            if text.contains('\0') {
                return Err(Error::new(
                    ErrorKind::InvalidEncoding,
                    "invalid byte sequence for encoding \"UTF8\": 0x00",
                ));
            }
            parse_text(pg, text, options)
        }
        Format::Binary => parse_binary(pg, &bytes).map_err(|e| match e.kind() {
            ErrorKind::InvalidBinary => Error::new(
                ErrorKind::InvalidBinary,
                format!("incorrect binary data format in bind parameter {}", index + 1),
            ),
            _ => e,
        }),
    }
}
