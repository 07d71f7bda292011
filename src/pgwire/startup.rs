//! The beginning of a connection: encryption requests, cancel requests, the startup message.
//!
//! Boundary: decides what the client wants and checks the form; authentication and settings are the backend's.

use bytes::{Buf, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::response::SslResponse;
use pgwire::messages::startup::{GssEncRequest, NegotiateProtocolVersion, SslRequest};
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};

use super::codec::{Body, put, text};
use super::errors::protocol;
use super::io::{Io, ReadError};
use crate::error::{Error, ErrorKind};

const PROTOCOL_3_0: i32 = 3 << 16;
/// As in PostgreSQL: what is longer is not a startup packet (HTTP requests look like gigabytes).
const MAX_STARTUP: usize = 10_000;

/// What a client wants.
pub enum Start {
    /// A session.
    Session(StartupMessage),
    /// To cancel a statement of the session with this process id and secret.
    Cancel(i32, i32),
}

/// A startup message.
#[derive(Debug, Default)]
pub struct StartupMessage {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// `application_name`.
    pub application_name: String,
    /// All other settings, those of `options` included.
    pub options: Vec<(String, String)>,
    /// Protocol options (`_pq_.…`) we do not know.
    pub unknown_options: Vec<String>,
    /// The minor version asked for.
    pub minor: i32,
}

/// Reads up to the startup or cancel message. Garbage is [`ReadError::Gone`]: the connection is just closed.
pub async fn read(io: &mut Io) -> Result<Start, ReadError> {
    let (mut ssl, mut gss) = (false, false);
    loop {
        let head = io.read_exact(8).await?;
        let len = usize::try_from((&head[..4]).get_i32()).ok();
        let len = len.filter(|l| (8..=MAX_STARTUP).contains(l)).ok_or(ReadError::Gone)?;
        if SslRequest::is_ssl_request_packet(&head) || GssEncRequest::is_gss_enc_request_packet(&head) {
            let asked = if SslRequest::is_ssl_request_packet(&head) { &mut ssl } else { &mut gss };
            if len != SslRequest::BODY_SIZE || std::mem::replace(asked, true) {
                return Err(ReadError::Gone);
            }
            put(&SslResponse::Refuse, &mut io.out);
            io.flush().await?;
            continue;
        }
        let body = io.read_exact(len - 8).await?;
        if CancelRequest::is_cancel_request_packet(&head) {
            return cancel_request(&head, &body).ok_or(ReadError::Gone);
        }
        let version = (&head[4..]).get_i32();
        return startup_message(version, Body(body)).map(Start::Session).map_err(ReadError::Fatal);
    }
}

fn cancel_request(head: &[u8], body: &[u8]) -> Option<Start> {
    let mut packet = BytesMut::from(head);
    packet.extend_from_slice(body);
    // Our secrets have the four bytes of protocol 3.0.
    let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    match CancelRequest::decode(&mut packet, &context) {
        Ok(Some(request)) if packet.is_empty() => {
            Some(Start::Cancel(request.pid, request.secret_key.as_i32()?))
        }
        _ => None,
    }
}

/// Read by hand: the crate's struct forgets the order of the settings and repairs their text.
fn startup_message(version: i32, mut body: Body) -> Result<StartupMessage, Error> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != 3 {
        return Err(Error::unsupported(format!(
            "unsupported frontend protocol {}.{minor}: server supports 3.0 to 3.0",
            major & 0xffff
        )));
    }
    let bad = || protocol("invalid startup packet layout: expected terminator as last byte");
    let mut m = StartupMessage { minor, ..Default::default() };
    let mut command_line = String::new();
    loop {
        let key = body.cstr().map_err(|e| if e.kind() == ErrorKind::InvalidEncoding { e } else { bad() })?;
        if key.is_empty() {
            break;
        }
        let value =
            body.cstr().map_err(|e| if e.kind() == ErrorKind::InvalidEncoding { e } else { bad() })?;
        match key.as_str() {
            "user" => m.user = value,
            "database" => m.database = value,
            "application_name" => m.application_name = value,
            "options" => command_line = value,
            "replication" => {
                if !matches!(value.as_str(), "false" | "off" | "no" | "0") {
                    return Err(Error::unsupported("replication connections are not supported"));
                }
            }
            key if key.starts_with("_pq_.") => m.unknown_options.push(key.to_string()),
            _ => m.options.push((key, value)),
        }
    }
    body.end().map_err(|_| bad())?;
    if m.user.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidAuthorization,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if m.database.is_empty() {
        m.database.clone_from(&m.user);
    }
    // The command line's settings come first: those of the packet itself win.
    let mut options = parse_options(&command_line)?;
    options.append(&mut m.options);
    if m.application_name.is_empty()
        && let Some(at) = options.iter().position(|(k, _)| k.eq_ignore_ascii_case("application_name"))
    {
        m.application_name = options.remove(at).1;
    }
    m.options = options;
    Ok(m)
}

/// The `options` of a startup message: `-c name=value`, `-cname=value` and `--name=value`, blanks escaped by `\`.
fn parse_options(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_ascii_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let invalid = || {
            Error::new(ErrorKind::Syntax, format!("invalid command-line argument for server process: {word}"))
        };
        let setting = match (word.as_str(), word.strip_prefix("--"), word.strip_prefix("-c")) {
            ("-c", ..) => words.next().ok_or_else(invalid)?,
            (_, Some(long), _) => long.to_string(),
            (_, _, Some(short)) => short.to_string(),
            _ => return Err(invalid()),
        };
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| Error::new(ErrorKind::Syntax, format!("-c {setting} requires a value")))?;
        settings.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(settings)
}

/// Tells the client what of its protocol version and options is not understood, if anything.
pub fn write_negotiation(m: &StartupMessage, out: &mut Vec<u8>) {
    if m.minor == 0 && m.unknown_options.is_empty() {
        return;
    }
    let options = m.unknown_options.iter().map(|o| text(o)).collect();
    put(&NegotiateProtocolVersion::new(PROTOCOL_3_0, options), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_in_all_their_spellings() {
        let o = parse_options(r"-c a=1 -cb=x\ y --c-d=3").unwrap();
        let o: Vec<(&str, &str)> = o.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(o, [("a", "1"), ("b", "x y"), ("c_d", "3")]);
        assert!(parse_options("-x").is_err());
        assert!(parse_options("-c").is_err());
        assert!(parse_options("-c a").is_err());
    }

    #[test]
    fn a_startup_message_needs_a_user_and_its_terminator() {
        let parse = |b: &'static [u8]| startup_message(PROTOCOL_3_0, Body(bytes::Bytes::from_static(b)));
        let m = parse(b"user\0u\0TimeZone\0UTC\0_pq_.x\01\0\0").unwrap();
        assert_eq!((m.user.as_str(), m.database.as_str()), ("u", "u"));
        assert_eq!(m.options, [("TimeZone".to_string(), "UTC".to_string())]);
        assert_eq!(m.unknown_options, ["_pq_.x"]);
        assert_eq!(parse(b"database\0d\0\0").unwrap_err().kind().sqlstate(), "28000");
        assert_eq!(parse(b"user\0u").unwrap_err().kind().sqlstate(), "08P01");
        assert_eq!(
            startup_message(4 << 16, Body(bytes::Bytes::new())).unwrap_err().kind().sqlstate(),
            "0A000"
        );
    }
}
