//! Runs `sqllogictest/**/*.slt` over the wire. Every file is one test in every mode, named `mode::path`:
//! `workers1` and `workers4` (a server with so many workers), `restart` (the server is ended between records,
//! with SIGKILL and SIGTERM in turn, and started again with another number of workers), and `postgres` (the file
//! runs against a real PostgreSQL 15 with CREATE MATERIALIZED VIEW turned into CREATE VIEW: both must give the same).
//! At the end of a file every materialized view must equal its query (CHECK MATERIALIZED VIEW).
//!
//! Comments at the top of a file steer it: `# not in: mode, mode` names modes in which it makes no sense.
//! With `FRESHET_SLT=update` a run writes the answers into the files instead (see `tests/pg/expect.sh`).

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use common::wire::{Wire, WireError};
use common::{Server, check_views, repository};
use sqllogictest::harness::{Arguments, Failed, Trial};
use sqllogictest::{
    ColumnType, DB, DBOutput, ExpectedError, QueryExpect, Record, RecordOutput, Runner, StatementExpect,
};

const MODES: [&str; 4] = ["workers1", "workers4", "restart", "postgres"];
/// Restarts in one file.
const RESTARTS: usize = 4;
/// Failures of one file that are worth reading.
const FAILURES: usize = 12;
/// Tests at a time: each has a server with threads of its own.
const PARALLEL: usize = 3;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(PARALLEL);
    let root = repository().join("sqllogictest");
    let mut files = Vec::new();
    find(&root, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no .slt file under {}", root.display());
    let mut trials = Vec::new();
    for mode in MODES {
        for file in &files {
            let text = std::fs::read_to_string(file).expect("a readable file");
            if !excluded(&text, mode) {
                let name = file.strip_prefix(&root).expect("under the root").display().to_string();
                let file = file.clone();
                trials.push(Trial::test(format!("{mode}::{name}"), move || run(mode, &file)));
            }
        }
    }
    let conclusion = sqllogictest::harness::run(&arguments, trials);
    if let Some(Ok(cluster)) = POSTGRES.get() {
        cluster.stop();
    }
    conclusion.exit();
}

fn find(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            find(&path, files);
        } else if path.extension().is_some_and(|e| e == "slt") {
            files.push(path);
        }
    }
}

fn excluded(text: &str, mode: &str) -> bool {
    text.lines()
        .take_while(|l| l.starts_with('#') || l.is_empty())
        .filter_map(|l| l.strip_prefix("# not in:"))
        .any(|modes| modes.split(',').any(|m| m.trim() == mode))
}

/// Column types as far as they print alike: the letter after `query`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Letter(char);

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        Some(Letter(value))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl Letter {
    fn of(oid: u32) -> Letter {
        Letter(match oid {
            20 | 21 | 23 | 26 => 'I',
            700 | 701 => 'R',
            1700 => 'N',
            16 => 'B',
            1082 | 1083 | 1114 | 1184 | 1186 => 'D',
            _ => 'T',
        })
    }
}

/// What the sessions of a file share: the server, which may be exchanged under them.
struct Target {
    mode: &'static str,
    server: Mutex<Option<Server>>,
    address: Mutex<(String, String, String)>,
    generation: AtomicU64,
    /// Sessions that would lose something if the server ended.
    bound: Mutex<HashMap<u64, bool>>,
}

/// A session of a file.
struct Connection {
    id: u64,
    target: Arc<Target>,
    wire: Option<(u64, Wire)>,
    /// SET statements, run again after a restart.
    settings: Vec<String>,
    prepared: bool,
}

impl Connection {
    fn wire(&mut self) -> Result<&mut Wire, WireError> {
        let generation = self.target.generation.load(Ordering::SeqCst);
        if self.wire.as_ref().is_none_or(|(g, _)| *g != generation) {
            let (address, user, database) = self.target.address.lock().expect("not poisoned").clone();
            let mut wire = Wire::connect(&address, &user, &database)?;
            for set in &self.settings {
                wire.run(set)?;
            }
            self.wire = Some((generation, wire));
        }
        Ok(&mut self.wire.as_mut().expect("just set").1)
    }

    fn note(&mut self, sql: &str, ok: bool) {
        let status = self.wire.as_ref().map_or(b'I', |(_, w)| w.status);
        let first = sql.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if ok && status == b'I' && (first == "set" || first == "reset") {
            self.settings.push(sql.to_string());
        }
        match first.as_str() {
            "prepare" | "declare" => self.prepared = true,
            "deallocate" | "discard" | "close" => self.prepared = false,
            _ => {}
        }
        let bound = status != b'I' || self.prepared;
        self.target.bound.lock().expect("not poisoned").insert(self.id, bound);
    }
}

impl DB for Connection {
    type Error = WireError;
    type ColumnType = Letter;

    fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, WireError> {
        let text = if self.target.mode == "postgres" { as_plain_views(sql) } else { sql.to_string() };
        let answers = self.wire()?.run(&text);
        self.note(sql, answers.is_ok());
        let answer = answers?.pop().unwrap_or_default();
        let Some(columns) = answer.columns else {
            let count = answer.tag.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            return Ok(DBOutput::StatementComplete(count));
        };
        // Epochs are different in every run.
        let epochs: Vec<bool> =
            columns.iter().map(|(n, _)| matches!(n.as_str(), "freshet_epoch" | "mz_timestamp")).collect();
        let types = columns.iter().map(|(_, oid)| Letter::of(*oid)).collect();
        let show = |value: Option<String>, epoch: bool| match value {
            None => "NULL".to_string(),
            Some(_) if epoch => "<epoch>".to_string(),
            Some(v) if v.is_empty() => "(empty)".to_string(),
            Some(v) => v.replace('\n', "\\n"),
        };
        let rows = answer
            .rows
            .into_iter()
            .map(|r| r.into_iter().zip(&epochs).map(|(v, e)| show(v, *e)).collect())
            .collect();
        Ok(DBOutput::Rows { types, rows })
    }

    fn engine_name(&self) -> &str {
        if self.target.mode == "postgres" { "postgres" } else { "freshet" }
    }
}

/// The same SQL with plain views in place of materialized ones.
fn as_plain_views(sql: &str) -> String {
    let lower = sql.to_ascii_lowercase();
    let mut out = String::new();
    let mut at = 0;
    while let Some(found) = lower[at..].find("materialized view") {
        out.push_str(&sql[at..at + found]);
        at += found + "materialized ".len();
    }
    out.push_str(&sql[at..]);
    out
}

fn run(mode: &'static str, file: &Path) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let (server, address) = if mode == "postgres" {
        match POSTGRES.get_or_init(Cluster::start) {
            Ok(cluster) => (None, cluster.new_database()?),
            Err(e) if std::env::var_os("FRESHET_SKIP_POSTGRES").is_some() => {
                println!("skipped: {e}");
                return Ok(());
            }
            Err(e) => return Err(format!("{e}; set FRESHET_SKIP_POSTGRES=1 to do without").into()),
        }
    } else {
        let server = Server::start(&dir.path().join("data"), if mode == "workers1" { 1 } else { 4 });
        let address = (server.address.clone(), "freshet".to_string(), "freshet".to_string());
        (Some(server), address)
    };
    let target = Arc::new(Target {
        mode,
        server: Mutex::new(server),
        address: Mutex::new(address),
        generation: AtomicU64::new(0),
        bound: Mutex::new(HashMap::new()),
    });
    let result = run_file(&target, file);
    if let (Err(_), Some(server)) = (&result, &*target.server.lock().expect("not poisoned")) {
        let log = server.log();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        if !tail.is_empty() {
            eprintln!(
                "--- the server's last words\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
    }
    result
}

fn run_file(target: &Arc<Target>, file: &Path) -> Result<(), Failed> {
    let numbers = AtomicU64::new(0);
    let mut runner = Runner::new(|| {
        let id = numbers.fetch_add(1, Ordering::SeqCst);
        let target = target.clone();
        async move { Ok(Connection { id, target, wire: None, settings: Vec::new(), prepared: false }) }
    });
    runner.with_column_validator(sqllogictest::strict_column_validator);
    let records = sqllogictest::parse_file::<Letter>(file)?;
    let update = std::env::var("FRESHET_SLT").is_ok_and(|v| v == "update");
    let asked = records.iter().filter(|r| asks(r)).count();
    let every = (asked / (RESTARTS + 1)).max(3);
    let mut since = 0;
    let mut out = String::new();
    let mut failures = Vec::new();
    for record in records {
        if target.mode == "restart" && asks(&record) {
            since += 1;
            let free = target.bound.lock().expect("not poisoned").values().all(|b| !b);
            if since > every && free {
                since = 0;
                restart(target);
            }
        }
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        if update {
            out.push_str(&updated(&mut runner, record));
            out.push('\n');
        } else {
            failures.extend(runner.run(record).err().map(|e| e.to_string()));
            if failures.len() >= FAILURES {
                break;
            }
        }
    }
    if update {
        std::fs::write(file, format!("{}\n", out.trim_end()))?;
    }
    if target.mode != "postgres" {
        let server = target.server.lock().expect("not poisoned");
        failures.extend(check_views(&mut server.as_ref().expect("a server").connect()).err());
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

fn asks(record: &Record<Letter>) -> bool {
    matches!(record, Record::Statement { .. } | Record::Query { .. })
}

/// Ends the server – with SIGKILL and SIGTERM in turn – and starts it with another number of workers.
fn restart(target: &Target) {
    let n = target.generation.fetch_add(1, Ordering::SeqCst);
    let mut slot = target.server.lock().expect("not poisoned");
    let mut server = slot.take().expect("a server");
    if n.is_multiple_of(2) {
        server.kill();
    } else {
        let status = server.terminate();
        assert!(status.success(), "the server ended with {status} after SIGTERM");
    }
    let server = Server::start(&server.dir, [1, 3, 2, 4][n as usize % 4]);
    target.address.lock().expect("not poisoned").0.clone_from(&server.address);
    *slot = Some(server);
}

/// The record with the answer it got. What already matches stays as it is, and so does what fails although it
/// should not: that is for a human to look at.
fn updated<D, M>(runner: &mut Runner<D, M>, record: Record<Letter>) -> String
where
    D: sqllogictest::AsyncDB<ColumnType = Letter>,
    M: sqllogictest::MakeConnection<Conn = D>,
{
    let retried =
        matches!(&record, Record::Query { retry: Some(_), .. } | Record::Statement { retry: Some(_), .. });
    if retried && runner.run(record.clone()).is_ok() {
        return record.to_string();
    }
    let output = futures::executor::block_on(runner.apply_record(record.clone()));
    let error = match &output {
        RecordOutput::Query { error, .. } | RecordOutput::Statement { error, .. } => error.as_ref(),
        _ => None,
    };
    match (error, &record) {
        (Some(e), Record::Statement { expected: StatementExpect::Error(ExpectedError::Empty), .. }) => {
            let expected = ExpectedError::from_actual_error(None, &e.to_string());
            return record.to_string().replacen(
                "statement error",
                &format!("statement error {}", inline(&expected)),
                1,
            );
        }
        (
            Some(e),
            Record::Query { loc, expected: QueryExpect::Results { .. }, .. }
            | Record::Statement { loc, expected: StatementExpect::Ok | StatementExpect::Count(_), .. },
        ) => {
            eprintln!("{loc}: fails: {e}");
            return record.to_string();
        }
        (None, Record::Statement { loc, expected: StatementExpect::Error(_), .. })
            if !matches!(output, RecordOutput::Nothing) =>
        {
            eprintln!("{loc}: does not fail");
            return record.to_string();
        }
        _ => {}
    }
    let new = sqllogictest::update_record_with_output(
        &record,
        &output,
        " ",
        sqllogictest::default_validator,
        sqllogictest::default_normalizer,
        sqllogictest::strict_column_validator,
    );
    new.unwrap_or(record).to_string()
}

fn inline(expected: &ExpectedError) -> String {
    match expected {
        ExpectedError::Inline(regex) => regex.to_string(),
        ExpectedError::Multiline(text) => text.lines().next().unwrap_or_default().to_string(),
        ExpectedError::SqlState(code) => format!("({code})"),
        ExpectedError::Empty => String::new(),
    }
}

/// A PostgreSQL of our own for the time of the run.
struct Cluster {
    dir: PathBuf,
    bin: PathBuf,
    port: u16,
    databases: AtomicU64,
}

static POSTGRES: OnceLock<Result<Cluster, String>> = OnceLock::new();

impl Cluster {
    fn start() -> Result<Cluster, String> {
        let bin = postgres_bin().ok_or("PostgreSQL 15 (initdb, pg_ctl) is not installed")?;
        let dir = tempfile::Builder::new().prefix("freshet-pg").tempdir().map_err(|e| e.to_string())?.keep();
        let free = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
        let port = free.local_addr().map_err(|e| e.to_string())?.port();
        drop(free);
        let cluster = Cluster { dir, bin, port, databases: AtomicU64::new(0) };
        if is_root() {
            let owner = Command::new("chown").arg("postgres").arg(&cluster.dir).status();
            owner.map_err(|e| e.to_string())?;
        }
        let data = cluster.dir.join("data");
        cluster.tool("initdb", &["-D", &data.display().to_string(), "-U", "freshet", "-A", "trust", "-N"])?;
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c timezone=UTC \
             -c lc_messages=C",
            cluster.dir.display()
        );
        let log = cluster.dir.join("log").display().to_string();
        cluster.tool(
            "pg_ctl",
            &["-D", &data.display().to_string(), "-w", "-l", &log, "-o", &options, "start"],
        )?;
        Ok(cluster)
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        let program = self.bin.join(name);
        let mut command = if is_root() {
            let mut c = Command::new("setpriv");
            c.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            c
        } else {
            Command::new(program)
        };
        command.env("LC_ALL", "C.UTF-8").current_dir(&self.dir).args(arguments);
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .map_err(|e| format!("{name}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) }
    }

    fn new_database(&self) -> Result<(String, String, String), WireError> {
        let address = format!("127.0.0.1:{}", self.port);
        let name = format!("slt{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let mut session = Wire::connect(&address, "freshet", "postgres")?;
        session.run(&format!("CREATE DATABASE {name} LC_COLLATE 'C' TEMPLATE template0"))?;
        Ok((address, "freshet".into(), name))
    }

    fn stop(&self) {
        let data = self.dir.join("data").display().to_string();
        if self.tool("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]).is_ok() {
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

fn postgres_bin() -> Option<PathBuf> {
    let given = std::env::var_os("PG_BIN").map(PathBuf::from);
    let usual = [
        "/usr/lib/postgresql/15/bin",
        "/usr/pgsql-15/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql@15/bin",
    ];
    given.into_iter().chain(usual.map(PathBuf::from)).find(|d| d.join("initdb").is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|o| o.stdout.starts_with(b"0\n"))
}
