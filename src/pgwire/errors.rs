//! Errors and notices as messages of the protocol.
//!
//! Boundary: [`crate::error::Error`] in, the bytes of ErrorResponse or NoticeResponse out.

use crate::coord::backend::Notice;
use super::codec::Message;
use crate::error::{Error, ErrorKind};

/// How bad an error is to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection ends.
    Fatal,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// Writes an ErrorResponse.
pub fn write_error(error: &Error, severity: Severity, out: &mut Vec<u8>) {
    let mut m = Message::new(b'E', out);
    let mut field = |code: u8, value: Option<&str>| {
        if let Some(value) = value {
            m.u8(code);
            m.cstr(value);
        }
    };
    field(b'S', Some(severity.text()));
    field(b'V', Some(severity.text()));
    field(b'C', Some(error.kind().sqlstate()));
    field(b'M', Some(error.message()));
    field(b'D', error.detail());
    field(b'H', error.hint());
    let position = error.position().map(|p| p.to_string());
    field(b'P', position.as_deref());
    field(b's', error.schema());
    field(b't', error.table());
    field(b'c', error.column());
    field(b'n', error.constraint());
    m.u8(0);
    m.end();
}

/// Writes a NoticeResponse.
pub fn write_notice(notice: &Notice, out: &mut Vec<u8>) {
    let mut m = Message::new(b'N', out);
    let mut field = |code: u8, value: Option<&str>| {
        if let Some(value) = value {
            m.u8(code);
            m.cstr(value);
        }
    };
    field(b'S', Some(notice.severity));
    field(b'V', Some(notice.severity));
    field(b'C', Some(notice.code));
    field(b'M', Some(&notice.message));
    field(b'D', notice.detail.as_deref());
    field(b'H', notice.hint.as_deref());
    m.u8(0);
    m.end();
}

/// 57014 for a statement that a cancel request ended.
pub fn canceled() -> Error {
    Error::new(ErrorKind::QueryCanceled, "canceling statement due to user request")
}

/// 57P01 for a session that the server ends.
pub fn shutdown() -> Error {
    Error::new(ErrorKind::AdminShutdown, "terminating connection due to administrator command")
}

/// 08P01.
pub fn protocol(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ProtocolViolation, message)
}

/// XX000 for a panic, with what it said.
pub fn panicked(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown cause".into());
    tracing::error!("a statement panicked: {text}");
    Error::internal("internal error: the statement failed unexpectedly").with_detail(text)
}
