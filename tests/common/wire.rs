//! A blocking client of PostgreSQL's simple protocol: text results exactly as the server sends them, the transaction
//! status, and COPY with the data behind the statement as in a psql script.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long one message may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server answered to one statement.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Names and type oids of the columns; none for a command.
    pub columns: Option<Vec<(String, u32)>>,
    /// The rows, NULL is `None`.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tag.
    pub tag: String,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub enum WireError {
    /// The server's ErrorResponse: fields by their letter.
    Server(Vec<(u8, String)>),
    /// The connection is gone or speaks nonsense.
    Lost(String),
}

impl WireError {
    fn field(&self, letter: u8) -> Option<&str> {
        match self {
            WireError::Server(fields) => fields.iter().find(|(l, _)| *l == letter).map(|(_, v)| v.as_str()),
            WireError::Lost(_) => None,
        }
    }

    /// SQLSTATE; `08006` when the connection is gone.
    pub fn code(&self) -> &str {
        self.field(b'C').unwrap_or("08006")
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        match self {
            WireError::Server(_) => self.field(b'M').unwrap_or(""),
            WireError::Lost(text) => text,
        }
    }

    /// The hint.
    pub fn hint(&self) -> Option<&str> {
        self.field(b'H')
    }

    /// Where it happened.
    pub fn context(&self) -> Option<&str> {
        self.field(b'W')
    }

    /// The position in the query string, from 1.
    pub fn position(&self) -> Option<usize> {
        self.field(b'P')?.parse().ok()
    }

    /// The detail.
    pub fn detail(&self) -> Option<&str> {
        self.field(b'D')
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.message())
    }
}

impl std::error::Error for WireError {}

impl From<io::Error> for WireError {
    fn from(e: io::Error) -> Self {
        WireError::Lost(e.to_string())
    }
}

/// A session.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// `I` idle, `T` in a transaction, `E` in a failed one.
    pub status: u8,
    /// Notices received since the last call.
    pub notices: Vec<WireError>,
    /// ParameterStatus values.
    pub parameters: Vec<(String, String)>,
}

impl Wire {
    /// Opens a session.
    pub fn connect(address: &str, user: &str, database: &str) -> Result<Wire, WireError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Wire { stream, status: b'I', notices: Vec::new(), parameters: Vec::new() };
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        wire.stream.write_all(&message)?;
        loop {
            let (kind, body) = wire.receive()?;
            match kind {
                b'R' if body.starts_with(&[0, 0, 0, 0]) => {}
                b'R' => return Err(WireError::Lost("the server asks for a password".into())),
                b'S' => {
                    let texts = zero_ended(&body);
                    wire.parameters.push((texts[0].clone(), texts[1].clone()));
                }
                b'K' | b'N' => {}
                b'E' => return Err(fields(&body)),
                b'Z' => {
                    wire.status = body[0];
                    return Ok(wire);
                }
                other => return Err(WireError::Lost(format!("unexpected {:?} at start", other as char))),
            }
        }
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>), WireError> {
        let mut head = [0_u8; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length.saturating_sub(4)];
        self.stream.read_exact(&mut body)?;
        Ok((head[0], body))
    }

    fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), WireError> {
        let mut message = vec![kind];
        message.extend((body.len() as u32 + 4).to_be_bytes());
        message.extend(body);
        Ok(self.stream.write_all(&message)?)
    }

    /// Sends a query string without waiting for its answer.
    pub fn start(&mut self, sql: &str) -> Result<(), WireError> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(b'Q', &body)
    }

    /// Runs a query string and gives the answers of all its statements. The lines after the first line that ends
    /// with a semicolon are the data of COPY … FROM STDIN.
    pub fn run(&mut self, sql: &str) -> Result<Vec<Answer>, WireError> {
        let (sql, data) = copy_data(sql);
        self.start(sql)?;
        let mut answers = Vec::new();
        let mut current = Answer::default();
        let mut error: Option<WireError> = None;
        loop {
            // After a FATAL error the connection is closed.
            let (kind, body) = self.receive().map_err(|lost| error.clone().unwrap_or(lost))?;
            match kind {
                b'T' => current.columns = Some(row_description(&body)),
                b'D' => current.rows.push(data_row(&body)),
                b'C' => {
                    current.tag = zero_ended(&body).swap_remove(0);
                    answers.push(std::mem::take(&mut current));
                }
                b'I' => answers.push(Answer::default()),
                b'E' => error = Some(fields(&body)),
                b'N' => self.notices.push(fields(&body)),
                b'S' => {}
                b'G' => {
                    self.send(b'd', data.as_bytes())?;
                    self.send(b'c', &[])?;
                }
                b'H' => current.columns = Some(vec![("copy".into(), 25)]),
                b'd' => {
                    let text = String::from_utf8_lossy(&body).trim_end_matches('\n').to_string();
                    current.rows.push(vec![Some(text)]);
                }
                b'c' | b'A' => {}
                b'Z' => {
                    self.status = body.first().copied().unwrap_or(b'?');
                    return error.map_or(Ok(answers), Err);
                }
                other => return Err(WireError::Lost(format!("unexpected message {:?}", other as char))),
            }
        }
    }

    /// The next row of a query that was [started](Wire::start); `None` at its end.
    pub fn next_row(&mut self) -> Result<Option<Vec<Option<String>>>, WireError> {
        let mut error: Option<WireError> = None;
        loop {
            let (kind, body) = self.receive().map_err(|lost| error.clone().unwrap_or(lost))?;
            match kind {
                b'D' => return Ok(Some(data_row(&body))),
                b'd' => return Ok(Some(vec![Some(String::from_utf8_lossy(&body).trim_end().to_string())])),
                b'E' => error = Some(fields(&body)),
                b'Z' => return error.map_or(Ok(None), Err),
                _ => {}
            }
        }
    }

    /// The rows of the last statement.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, WireError> {
        Ok(self.run(sql)?.pop().unwrap_or_default().rows)
    }

    /// Runs statements that must succeed.
    pub fn exec(&mut self, sql: &str) {
        if let Err(e) = self.run(sql) {
            panic!("{e}\n{sql}");
        }
    }

    /// The only value of a query, as text.
    pub fn value(&mut self, sql: &str) -> Result<String, WireError> {
        let rows = self.rows(sql)?;
        let first = rows.into_iter().next().and_then(|r| r.into_iter().next()).flatten();
        Ok(first.unwrap_or_else(|| "NULL".into()))
    }

    /// A second handle of the same connection, to close it while the first waits.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }

    /// How long to wait for a message.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a time-out can be set");
    }
}

/// Splits `COPY … FROM STDIN …;` from the lines of data after it; `\.` may end them.
fn copy_data(sql: &str) -> (&str, &str) {
    let is_copy = sql.trim_start().get(..4).is_some_and(|w| w.eq_ignore_ascii_case("copy"));
    if !is_copy || !sql.to_ascii_lowercase().contains("from stdin") {
        return (sql, "");
    }
    match sql.split_once(";\n") {
        Some((statement, data)) => (statement, data.strip_suffix("\\.").unwrap_or(data)),
        None => (sql, ""),
    }
}

fn zero_ended(body: &[u8]) -> Vec<String> {
    let mut texts: Vec<String> =
        body.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned()).collect();
    texts.resize(texts.len().max(2), String::new());
    texts
}

fn fields(body: &[u8]) -> WireError {
    let fields = body
        .split(|b| *b == 0)
        .filter(|f| !f.is_empty())
        .map(|f| (f[0], String::from_utf8_lossy(&f[1..]).into_owned()))
        .collect();
    WireError::Server(fields)
}

fn u16_at(body: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([body[at], body[at + 1]]))
}

fn row_description(body: &[u8]) -> Vec<(String, u32)> {
    let mut at = 2;
    (0..u16_at(body, 0))
        .map(|_| {
            let end = at + body[at..].iter().position(|b| *b == 0).expect("a name ends");
            let name = String::from_utf8_lossy(&body[at..end]).into_owned();
            let oid = u32::from_be_bytes(body[end + 7..end + 11].try_into().expect("four bytes"));
            at = end + 19;
            (name, oid)
        })
        .collect()
}

fn data_row(body: &[u8]) -> Vec<Option<String>> {
    let mut at = 2;
    (0..u16_at(body, 0))
        .map(|_| {
            let length = i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
            at += 4;
            let length = usize::try_from(length).ok()?;
            let value = String::from_utf8_lossy(&body[at..at + length]).into_owned();
            at += length;
            Some(value)
        })
        .collect()
}
