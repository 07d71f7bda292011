//! Errors and notices as messages of the protocol.
//!
//! Boundary: [`crate::error::Error`] in, the bytes of ErrorResponse or NoticeResponse out.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use super::codec::{put, text};
use crate::coord::backend::Notice;
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

/// The fields that have a value.
fn fields<const N: usize>(all: [(u8, Option<&str>); N]) -> Vec<(u8, String)> {
    all.into_iter().filter_map(|(code, value)| Some((code, text(value?)))).collect()
}

/// Writes an ErrorResponse.
pub fn write_error(error: &Error, severity: Severity, out: &mut Vec<u8>) {
    let position = error.position().map(|p| p.to_string());
    let message = ErrorResponse::new(fields([
        (b'S', Some(severity.text())),
        (b'V', Some(severity.text())),
        (b'C', Some(error.kind().sqlstate())),
        (b'M', Some(error.message())),
        (b'D', error.detail()),
        (b'H', error.hint()),
        (b'P', position.as_deref()),
        (b'W', error.context()),
        (b's', error.schema()),
        (b't', error.table()),
        (b'c', error.column()),
        (b'n', error.constraint()),
    ]));
    put(&message, out);
}

/// Writes a NoticeResponse.
pub fn write_notice(notice: &Notice, out: &mut Vec<u8>) {
    let message = NoticeResponse::new(fields([
        (b'S', Some(notice.severity)),
        (b'V', Some(notice.severity)),
        (b'C', Some(notice.code)),
        (b'M', Some(&notice.message)),
        (b'D', notice.detail.as_deref()),
        (b'H', notice.hint.as_deref()),
    ]));
    put(&message, out);
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
