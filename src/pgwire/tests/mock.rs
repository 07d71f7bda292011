//! A scripted backend: each statement is a word that says how to behave. It writes down what was asked of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::super::{Config, serve};
use crate::coord::backend::*;
use crate::error::{Error, ErrorKind, Result};
use crate::types::PgType;
use crate::types::text::TextOptions;

#[derive(Default)]
pub struct Mock {
    pub log: Arc<Mutex<Vec<String>>>,
    pub stream_dropped: Arc<AtomicBool>,
    pub batches: Arc<AtomicUsize>,
}

struct Session {
    log: Arc<Mutex<Vec<String>>>,
    dropped: Arc<AtomicBool>,
    batches: Arc<AtomicUsize>,
    cancel: CancelHandle,
    status: TransactionStatus,
    notices: Vec<Notice>,
    parameters: Vec<(String, String)>,
    /// The commit of the implicit transaction will fail.
    uncommittable: bool,
}

#[async_trait]
impl Backend for Mock {
    async fn connect(&self, params: ConnectParams, cancel: CancelHandle) -> Result<Box<dyn BackendSession>> {
        if params.database == "missing" {
            return Err(Error::new(ErrorKind::UndefinedDatabase, "database \"missing\" does not exist"));
        }
        for (k, v) in &params.options {
            self.log.lock().push(format!("{k}={v}"));
        }
        let parameters = [("server_version", "15.0"), ("client_encoding", "UTF8"), ("DateStyle", "ISO, MDY")];
        Ok(Box::new(Session {
            log: Arc::clone(&self.log),
            dropped: Arc::clone(&self.stream_dropped),
            batches: Arc::clone(&self.batches),
            cancel,
            status: TransactionStatus::Idle,
            uncommittable: false,
            notices: Vec::new(),
            parameters: parameters.map(|(k, v)| (k.to_string(), v.to_string())).to_vec(),
        }))
    }
}

struct DropFlag(Arc<AtomicBool>);

impl Drop for DropFlag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn columns() -> Arc<[OutputColumn]> {
    Arc::from([
        OutputColumn { name: "i".into(), pg_type: PgType::INT4, table_oid: 16384, attnum: 1 },
        OutputColumn::computed("t", PgType::TEXT),
    ])
}

fn batch(from: i32, to: i32) -> RecordBatch {
    let i: ArrayRef = Arc::new(Int32Array::from_iter_values(from..to));
    let t: ArrayRef =
        Arc::new((from..to).map(|v| (v % 10 != 9).then(|| format!("row {v}"))).collect::<StringArray>());
    RecordBatch::try_from_iter([("i", i), ("t", t)]).unwrap()
}

fn series(n: i32) -> BatchStream {
    futures::stream::iter((0..n).step_by(1000).map(move |from| Ok(batch(from, n.min(from + 1000))))).boxed()
}

impl Session {
    fn rows(stream: BatchStream, tag: RowsTag) -> Outcome {
        Outcome::Rows { columns: columns(), stream, tag }
    }

    /// One batch, then nothing for ever; tells when it is dropped.
    fn endless(&self, live: bool) -> BatchStream {
        let flag = DropFlag(Arc::clone(&self.dropped));
        let first = futures::stream::iter([Ok(batch(0, 1))]);
        if live {
            let ticks = futures::stream::unfold((1, flag), |(i, flag)| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Some((Ok(batch(i, i + 1)), (i + 1, flag)))
            });
            return first.chain(ticks).boxed();
        }
        let wait = futures::stream::once(async move {
            let _flag = flag;
            futures::future::pending().await
        });
        first.chain(wait).boxed()
    }
}

struct Sink(Arc<Mutex<Vec<String>>>, Vec<u8>);

#[async_trait]
impl CopySink for Sink {
    async fn data(&mut self, bytes: Bytes) -> Result<()> {
        self.1.extend_from_slice(&bytes);
        if bytes.starts_with(b"bad") {
            Err(Error::new(ErrorKind::BadCopyFormat, "missing data"))
        } else {
            Ok(())
        }
    }
    async fn finish(&mut self) -> Result<String> {
        self.0.lock().push(String::from_utf8_lossy(&self.1).into_owned());
        Ok(format!("COPY {}", self.1.iter().filter(|b| **b == b'\n').count()))
    }
    async fn fail(&mut self, message: &str) {
        self.0.lock().push(format!("copy failed: {message}"));
    }
}

#[async_trait]
impl BackendSession for Session {
    fn status(&self) -> TransactionStatus {
        self.status
    }
    fn parameter_changes(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.parameters)
    }
    fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }
    fn text_options(&mut self) -> TextOptions {
        TextOptions::default()
    }
    fn parse(&mut self, text: &str) -> Result<Vec<ParsedStatement>> {
        if text.contains("syntax!") {
            let e = Error::new(ErrorKind::Syntax, "syntax error at or near \"!\"")
                .with_position(7)
                .with_hint("No.");
            return Err(e);
        }
        let words = text.split(';').map(str::trim).filter(|s| !s.is_empty());
        Ok(words.map(|s| Arc::new(s.to_string()) as ParsedStatement).collect())
    }
    async fn describe(&mut self, statement: &ParsedStatement, param_types: &[u32]) -> Result<Description> {
        let text = statement.downcast_ref::<String>().unwrap();
        let columns = match text.as_str() {
            "param" => {
                let pg = param_types.first().filter(|o| **o != 0).map_or(PgType::TEXT, |o| PgType::of(*o));
                let columns = Arc::from([OutputColumn::computed("?column?", pg)]);
                return Ok(Description { params: vec![pg], columns: Some(columns) });
            }
            t if t.starts_with("series") || t == "live" || t == "hang" => Some(columns()),
            _ => None,
        };
        Ok(Description { params: vec![], columns })
    }
    async fn execute(&mut self, statement: &ParsedStatement, params: Vec<ScalarValue>) -> Result<Outcome> {
        let text = statement.downcast_ref::<String>().unwrap().clone();
        self.log.lock().push(text.clone());
        let command = |tag: &str| Ok(Outcome::Command { tag: tag.into() });
        if self.status == TransactionStatus::Failed && text != "rollback" {
            let text = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(Error::new(ErrorKind::FailedTransaction, text));
        }
        match text.as_str() {
            "param" => {
                let array = params[0].to_array()?;
                let pg = PgType::from_arrow(array.data_type());
                let batch = RecordBatch::try_from_iter_with_nullable([("?column?", array, true)])?;
                Ok(Outcome::Rows {
                    columns: Arc::from([OutputColumn::computed("?column?", pg)]),
                    stream: futures::stream::iter([Ok(batch)]).boxed(),
                    tag: RowsTag::select(),
                })
            }
            "begin" => {
                self.status = TransactionStatus::InBlock;
                command("BEGIN")
            }
            "commit" | "rollback" => {
                self.status = TransactionStatus::Idle;
                command("COMMIT")
            }
            "fail" => Err(Error::new(ErrorKind::DivisionByZero, "division by zero").with_detail("Because.")),
            "panic" => panic!("scripted panic"),
            "notice" => {
                self.notices.push(Notice::notice("listen"));
                command("DO")
            }
            "set" => {
                self.parameters.push(("TimeZone".into(), "Europe/Berlin".into()));
                command("SET")
            }
            "sleep" => {
                let token = self.cancel.token();
                token.cancelled().await;
                self.log.lock().push("sleep canceled".into());
                Err(Error::new(ErrorKind::QueryCanceled, "canceling statement due to user request"))
            }
            "hang" => Ok(Self::rows(self.endless(false), RowsTag::select())),
            "live" => Ok(Self::rows(self.endless(true), RowsTag::select().live())),
            "doomed" => {
                self.uncommittable = true;
                command("INSERT 0 1")
            }
            "copy in" => Ok(Outcome::CopyIn {
                columns: 2,
                format: CopyFormat::Text,
                sink: Box::new(Sink(Arc::clone(&self.log), Vec::new())),
            }),
            "copy out" => Ok(Outcome::CopyOut {
                columns: columns(),
                options: CopyOptions::new(CopyFormat::Csv),
                stream: series(12),
                live: false,
            }),
            t if t.starts_with("series ") => {
                let batches = Arc::clone(&self.batches);
                let stream = series(t[7..].parse().unwrap_or(0)).inspect(move |_| {
                    batches.fetch_add(1, Ordering::SeqCst);
                });
                Ok(Self::rows(stream.boxed(), RowsTag::select()))
            }
            _ => command("INSERT 0 1"),
        }
    }
    fn begin_implicit(&mut self) -> Result<()> {
        self.log.lock().push("(".into());
        Ok(())
    }
    async fn finish_implicit(&mut self, ok: bool) -> Result<Option<String>> {
        self.log.lock().push(if ok { ")" } else { "X" }.into());
        let bad = std::mem::take(&mut self.uncommittable);
        if ok && bad {
            return Err(Error::new(ErrorKind::UniqueViolation, "the commit failed"));
        }
        Ok(None)
    }
    fn statement_failed(&mut self, _: &Error) {
        if self.status == TransactionStatus::InBlock {
            self.status = TransactionStatus::Failed;
        }
    }
}

/// A running server with its mock.
pub struct Server {
    pub addr: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
    pub stream_dropped: Arc<AtomicBool>,
    pub batches: Arc<AtomicUsize>,
    pub shutdown: CancellationToken,
}

pub async fn start_with(config: Config) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mock = Mock::default();
    let (log, stream_dropped) = (Arc::clone(&mock.log), Arc::clone(&mock.stream_dropped));
    let batches = Arc::clone(&mock.batches);
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, Arc::new(mock), config, shutdown.clone()));
    Server { addr, log, stream_dropped, batches, shutdown }
}

pub async fn start() -> Server {
    start_with(Config::default()).await
}

impl Server {
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Waits until a condition holds, a second at most.
    pub async fn soon(&self, what: &str, condition: impl Fn(&Server) -> bool) {
        for _ in 0..100 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a second: {what}");
    }
}

/// A client that speaks bytes.
pub struct Raw {
    pub stream: TcpStream,
    pub pid: i32,
    pub secret: i32,
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut m = vec![kind];
    m.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
    m.extend_from_slice(body);
    m
}

pub fn startup(code: i32, body: &[u8]) -> Vec<u8> {
    let mut m = (body.len() as i32 + 8).to_be_bytes().to_vec();
    m.extend_from_slice(&code.to_be_bytes());
    m.extend_from_slice(body);
    m
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

pub fn execute(portal: &str, limit: i32) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), &[0], &limit.to_be_bytes()].concat())
}

pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

impl Raw {
    pub async fn open(server: &Server) -> Raw {
        Raw { stream: TcpStream::connect(server.addr).await.unwrap(), pid: 0, secret: 0 }
    }

    /// A client past its startup.
    pub async fn ready(server: &Server) -> Raw {
        let mut raw = Raw::open(server).await;
        raw.send(&startup(196_608, b"user\0me\0\0")).await;
        let all = raw.until_ready().await;
        let key = &all.iter().find(|(k, _)| *k == b'K').unwrap().1;
        raw.pid = i32::from_be_bytes(key[..4].try_into().unwrap());
        raw.secret = i32::from_be_bytes(key[4..].try_into().unwrap());
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next message, or `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let kind = self.stream.read_u8().await.ok()?;
            let len = self.stream.read_i32().await.ok()?;
            let mut body = vec![0; len as usize - 4];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((kind, body))
        };
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("no message within five seconds")
    }

    pub async fn until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        loop {
            let m = self.next().await.expect("the connection ended");
            let ready = m.0 == b'Z';
            all.push(m);
            if ready {
                return all;
            }
        }
    }

    /// The types of the messages up to ReadyForQuery, its status last; errors as their codes.
    pub async fn kinds(&mut self) -> String {
        kinds(&self.until_ready().await)
    }

    pub async fn rest(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(m) = self.next().await {
            all.push(m);
        }
        all
    }
}

pub fn field(body: &[u8], code: u8) -> String {
    let found = body.split(|b| *b == 0).find(|f| f.first() == Some(&code));
    String::from_utf8_lossy(&found.unwrap_or(b"??????")[1..]).into_owned()
}

pub fn kinds(messages: &[(u8, Vec<u8>)]) -> String {
    let shown = messages.iter().map(|(kind, body)| match kind {
        b'E' => format!("E{}", field(body, b'C')),
        b'Z' => format!("Z{}", char::from(body[0])),
        k => char::from(*k).to_string(),
    });
    shown.collect::<Vec<_>>().join(" ")
}
