//! The databases under test behind one small trait: Freshet in this process, Freshet over the wire, PostgreSQL.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use freshet::config::ServerSettings;
use freshet::coord::backend::{CancelHandle, ConnectParams, Outcome};
use freshet::coord::session::Session;
use freshet::server::Running;
use freshet::types::text::TextFormatter;
use futures::TryStreamExt;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// No statement of these tests may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Queries are bound on the thread of their session.
const STACK: usize = 64 << 20;

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
}

impl Refusal {
    fn new(code: &str, message: impl fmt::Display) -> Refusal {
        Refusal { code: code.into(), message: message.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// A result as sorted lines of text, columns divided by `|`.
pub type Rows = Vec<String>;

/// A database that takes statements one at a time.
pub trait Engine {
    /// Runs a statement as a query string of its own.
    fn run(&mut self, sql: &str) -> Result<Rows, Refusal>;
}

fn line(columns: impl Iterator<Item = Option<String>>) -> String {
    columns.map(|c| c.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|")
}

// ---- Freshet ----------------------------------------------------------------------------------

/// A running server on a directory of its own.
pub struct Freshet {
    // In the order in which they must go.
    running: Option<Running>,
    runtime: Arc<Runtime>,
    _directory: TempDir,
}

impl Freshet {
    pub fn start(workers: usize) -> Freshet {
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let mut settings = ServerSettings::default();
        let data = directory.path().join("data");
        for (name, value) in [
            ("data_dir", data.to_str().expect("a path in UTF-8")),
            ("workers", &workers.to_string()),
            ("pg_addr", "127.0.0.1:0"),
            ("http_addr", "127.0.0.1:0"),
        ] {
            settings.set(name, value).expect("a setting");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK)
            .enable_all()
            .build()
            .expect("a runtime");
        let running =
            runtime.block_on(freshet::server::start(settings)).expect("a server on an empty directory");
        Freshet { running: Some(running), runtime: Arc::new(runtime), _directory: directory }
    }

    /// A session in this process.
    pub fn session(&self) -> InProcess {
        static PID: AtomicI32 = AtomicI32::new(100_000);
        let params = ConnectParams {
            user: "freshet".into(),
            database: "freshet".into(),
            application_name: "equivalence".into(),
            options: Vec::new(),
            pid: PID.fetch_add(1, Ordering::Relaxed),
            peer: None,
            statements: Arc::default(),
        };
        let server = &self.running.as_ref().expect("running until dropped").server;
        let session = server.connect(params, CancelHandle::default()).expect("a session");
        InProcess { session: Some(session), runtime: self.runtime.clone() }
    }

    /// A session over the PostgreSQL protocol.
    pub fn client(&self) -> Wire {
        let address = self.running.as_ref().expect("running until dropped").pg_addr;
        let url = format!("host=127.0.0.1 port={} user=freshet dbname=freshet", address.port());
        Wire::connect(self.runtime.clone(), &url).expect("the server accepts connections")
    }
}

impl Drop for Freshet {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A server that has got stuck must not hide why.
            drop(
                self.runtime
                    .block_on(async { tokio::time::timeout(Duration::from_secs(10), running.stop()).await }),
            );
        }
    }
}

/// A session without a protocol between.
pub struct InProcess {
    session: Option<Session>,
    runtime: Arc<Runtime>,
}

async fn run_in(session: &mut Session, sql: &str) -> freshet::error::Result<Rows> {
    let mut rows = Rows::new();
    for statement in session.parse(sql)? {
        if let Outcome::Rows { columns, mut stream, .. } = session.execute(&statement, Vec::new()).await? {
            let options = session.text_options();
            while let Some(batch) = stream.try_next().await? {
                let schema = batch.schema();
                let formatters: Vec<TextFormatter> = columns
                    .iter()
                    .zip(schema.fields())
                    .map(|(c, f)| TextFormatter::for_type(c.pg_type, f, &options))
                    .collect();
                for row in 0..batch.num_rows() {
                    rows.push(line(formatters.iter().zip(batch.columns()).map(|(f, array)| {
                        array.is_valid(row).then(|| {
                            let mut text = Vec::new();
                            f.write(array, row, &mut text);
                            String::from_utf8_lossy(&text).into_owned()
                        })
                    })));
                }
            }
        }
    }
    rows.sort_unstable();
    Ok(rows)
}

impl Engine for InProcess {
    fn run(&mut self, sql: &str) -> Result<Rows, Refusal> {
        let Some(mut session) = self.session.take() else {
            return Err(Refusal::new("hung", "an earlier statement never ended"));
        };
        let sql = sql.to_string();
        // On a thread of the runtime, whose stack is large enough to bind on.
        let task = self.runtime.spawn(async move {
            let result = run_in(&mut session, &sql).await;
            let finished = match &result {
                Ok(_) => session.finish(true).await,
                Err(_) => {
                    session.fail_statement();
                    session.finish(false).await
                }
            };
            (session, result.and_then(|rows| finished.map(|_| rows)))
        });
        match self.runtime.block_on(async { tokio::time::timeout(PATIENCE, task).await }) {
            Ok(Ok((session, result))) => {
                self.session = Some(session);
                result.map_err(|e| Refusal::new(e.kind().sqlstate(), e.message()))
            }
            Ok(Err(panic)) => Err(Refusal::new("panic", panic)),
            Err(_) => Err(Refusal::new("hung", format!("no answer within {PATIENCE:?}"))),
        }
    }
}

// ---- the wire ---------------------------------------------------------------------------------

/// A client of the simple protocol.
pub struct Wire {
    client: tokio_postgres::Client,
    runtime: Arc<Runtime>,
}

impl Wire {
    fn connect(runtime: Arc<Runtime>, url: &str) -> Result<Wire, tokio_postgres::Error> {
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })?;
        Ok(Wire { client, runtime })
    }
}

fn within<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Refusal> {
    match runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await }) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(match e.as_db_error() {
            Some(e) => Refusal::new(e.code().code(), e.message()),
            None => Refusal::new("connection", e),
        }),
        Err(_) => Err(Refusal::new("hung", format!("no answer within {PATIENCE:?}"))),
    }
}

impl Engine for Wire {
    fn run(&mut self, sql: &str) -> Result<Rows, Refusal> {
        let messages = within(&self.runtime, self.client.simple_query(sql))?;
        let mut rows: Rows = messages
            .iter()
            .filter_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some(line((0..row.len()).map(|i| row.get(i).map(str::to_string))))
                }
                _ => None,
            })
            .collect();
        rows.sort_unstable();
        Ok(rows)
    }
}

// ---- PostgreSQL -------------------------------------------------------------------------------

const INSTALL: &str = "This test compares with a real PostgreSQL 15 and found none in PATH or /usr/lib/postgresql. \
                       Install it, for example with: apt-get install postgresql-15";

/// A PostgreSQL of one's own in a temporary directory; it ends with this value.
pub struct Postgres {
    child: Child,
    socket: PathBuf,
    runtime: Arc<Runtime>,
    _directory: TempDir,
}

fn programs() -> PathBuf {
    let mut places: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.filter_map(|e| Some(e.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    // The version asked for first, then newer ones.
    places.sort_by_key(|p| (!p.starts_with("/usr/lib/postgresql/15"), std::cmp::Reverse(p.clone())));
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    places
        .into_iter()
        .find(|p| p.join("initdb").is_file() && p.join("postgres").is_file())
        .unwrap_or_else(|| panic!("{INSTALL}"))
}

/// PostgreSQL refuses to run as root: such a test steps down to another user for it.
fn unprivileged(program: &Path) -> Command {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

impl Postgres {
    pub fn start() -> Postgres {
        let programs = programs();
        let directory = tempfile::tempdir().expect("a directory for temporary files");
        let (data, socket) = (directory.path().join("data"), directory.path().to_path_buf());
        // SAFETY: as above.
        if unsafe { libc::geteuid() } == 0 {
            std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).expect("root may chown");
        }
        let output = unprivileged(&programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=freshet",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir(directory.path())
            .output()
            .expect("initdb can be run");
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let child = unprivileged(&programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "timezone=UTC", "-c"])
            .arg(format!("unix_socket_directories={}", socket.display()))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres can be run");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Postgres { child, socket, runtime: Arc::new(runtime.expect("a runtime")), _directory: directory }
    }

    /// A session, as soon as the server accepts one.
    pub fn client(&self) -> Wire {
        let url = format!("host={} user=freshet dbname=postgres", self.socket.display());
        let since = Instant::now();
        loop {
            match Wire::connect(self.runtime.clone(), &url) {
                Ok(wire) => return wire,
                Err(e) if since.elapsed() > Duration::from_secs(30) => {
                    let log = std::fs::read_to_string(self.socket.join("log")).unwrap_or_default();
                    panic!("PostgreSQL does not accept connections: {e}\n{log}");
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT: at once; nothing of it is kept. setpriv has become the server itself, so the id is its own.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            unsafe { libc::kill(pid, libc::SIGQUIT) };
        }
        drop(self.child.wait());
    }
}
