//! Point reads: prepared `SELECT * FROM v WHERE k = $1` by pgbench, beside PostgreSQL on the same machine in the
//! same run.
//!
//! Run with `cargo bench --bench point_reads`. Environment: `POINT_ROWS` (100,000), `POINT_SECONDS` (5; each cell),
//! `POINT_CLIENTS` (`1,8,32`), `POINT_SERVER` (another `freshet` than the one built beside this), `PG_BIN` (the folder with `initdb`, `postgres` and `pgbench`;
//! `/usr/lib/postgresql/15/bin` if there is one). What is missing is said and left out.
//!
//! Both servers are processes of their own with default settings, reached over loopback TCP; pgbench has two threads
//! for more than one client. CPU time is the server's, from `/proc`, with PostgreSQL's processes added up.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::SinkExt;
use support::{cpu_seconds_of_tree, env_number};
use tokio_postgres::NoTls;

/// A server that is stopped when it goes out of scope.
struct Peer {
    name: &'static str,
    process: Child,
    port: u16,
    user: &'static str,
    database: &'static str,
    _data: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: the process is our child and has not been waited for, so its id is not another's.
        unsafe { libc::kill(self.process.id() as i32, libc::SIGINT) };
        // It has ended or will with us; either is fine.
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn start_freshet() -> Peer {
    let data = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let program = std::env::var_os("POINT_SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_freshet").into());
    let mut process = Command::new(program)
        .args(["--pg-addr", &format!("127.0.0.1:{port}"), "--http-addr", "127.0.0.1:0", "--data-dir"])
        .arg(data.path().join("d"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let ready = lines.any(|l| l.is_ok_and(|l| l.contains("freshet is ready")));
    assert!(ready, "the server did not become ready");
    // Its output must be taken, or it may block.
    std::thread::spawn(move || lines.for_each(drop));
    Peer { name: "Freshet", process, port, user: "freshet", database: "freshet", _data: data }
}

fn pg_bin() -> Option<PathBuf> {
    let given = std::env::var_os("PG_BIN").map(PathBuf::from);
    let usual = PathBuf::from("/usr/lib/postgresql/15/bin");
    given.or(Some(usual)).filter(|p| p.join("initdb").exists())
}

/// A command that does not run as root, because PostgreSQL refuses that.
fn unprivileged(program: &Path) -> Command {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn start_postgres(bin: &Path) -> Result<Peer, String> {
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        std::os::unix::fs::chown(data.path(), Some(65534), Some(65534)).map_err(|e| e.to_string())?;
    }
    let directory = data.path().join("pg");
    let init = unprivileged(&bin.join("initdb"))
        .args(["-A", "trust", "-U", "postgres", "-N", "-D"])
        .arg(&directory)
        .current_dir(data.path())
        .output()
        .map_err(|e| format!("initdb: {e}"))?;
    if !init.status.success() {
        return Err(format!("initdb: {}", String::from_utf8_lossy(&init.stderr)));
    }
    let port = free_port();
    let process = unprivileged(&bin.join("postgres"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-k"])
        .arg(data.path())
        .arg("-D")
        .arg(&directory)
        .current_dir(data.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("postgres: {e}"))?;
    Ok(Peer { name: "PostgreSQL 15", process, port, user: "postgres", database: "postgres", _data: data })
}

/// Creates the relation and fills it; as a view on Freshet, as a table with a primary key on PostgreSQL.
async fn fill(peer: &Peer, rows: u64) {
    let url = format!("postgresql://{}@127.0.0.1:{}/{}", peer.user, peer.port, peer.database);
    let started = Instant::now();
    let (client, connection) = loop {
        match tokio_postgres::connect(&url, NoTls).await {
            Ok(pair) => break pair,
            Err(e) if started.elapsed() > Duration::from_secs(20) => panic!("{}: {e}", peer.name),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    tokio::spawn(connection);
    let is_freshet = peer.name == "Freshet";
    let (table, define) = if is_freshet {
        let view = "CREATE TABLE t (k bigint, a bigint, b text);
            CREATE MATERIALIZED VIEW v AS SELECT k, sum(a)::bigint AS a, max(b) AS b FROM t GROUP BY k";
        ("t", view)
    } else {
        ("v", "CREATE TABLE v (k bigint PRIMARY KEY, a bigint, b text)")
    };
    client.batch_execute(define).await.expect("definitions");
    let sink = client.copy_in(&format!("COPY {table} FROM STDIN")).await.expect("COPY");
    let mut sink = Box::pin(sink);
    for start in (1..=rows).step_by(10_000) {
        let end = (start + 9_999).min(rows);
        let text: String = (start..=end).map(|k| format!("{k}\t{}\tcustomer number {k}\n", k * 7)).collect();
        sink.send(bytes::Bytes::from(text)).await.expect("COPY");
    }
    sink.as_mut().finish().await.expect("COPY");
    if !is_freshet {
        client.batch_execute("VACUUM ANALYZE v").await.expect("VACUUM");
    }
    let row = client.query_one("SELECT count(*) FROM v", &[]).await.expect("count");
    assert_eq!(row.get::<_, i64>(0), rows as i64, "{} has all rows", peer.name);
}

/// (transactions per second, average latency in ms) of a pgbench run.
fn pgbench(
    program: &Path,
    peer: &Peer,
    script: &Path,
    clients: u64,
    seconds: u64,
) -> Result<(f64, f64), String> {
    let threads = clients.min(2).to_string();
    let out = Command::new(program)
        .args(["-n", "-M", "prepared", "-h", "127.0.0.1", "-U", peer.user, "-p", &peer.port.to_string()])
        .args(["-c", &clients.to_string(), "-j", &threads, "-T", &seconds.to_string(), "-f"])
        .arg(script)
        .arg(peer.database)
        .output()
        .map_err(|e| format!("pgbench: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let number = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split('=').nth(1)?.split_whitespace().next()?.parse::<f64>().ok()
    };
    match (number("tps = "), number("latency average = ")) {
        (Some(tps), Some(latency)) if out.status.success() => Ok((tps, latency)),
        _ => Err(format!("pgbench: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

fn main() {
    let rows = env_number("POINT_ROWS", 100_000);
    let seconds = env_number("POINT_SECONDS", 5);
    let clients: Vec<u64> = std::env::var("POINT_CLIENTS")
        .unwrap_or_else(|_| "1,8,32".into())
        .split(',')
        .map(|n| n.trim().parse().expect("POINT_CLIENTS holds numbers"))
        .collect();
    let bin = pg_bin();
    let program =
        bin.as_ref().map(|b| b.join("pgbench")).filter(|p| p.exists()).unwrap_or_else(|| "pgbench".into());
    if Command::new(&program).arg("--version").output().is_err() {
        println!(
            "pgbench is not installed: nothing is measured (Debian: postgresql-contrib or postgresql-15)"
        );
        return;
    }
    let mut peers = vec![start_freshet()];
    match &bin {
        Some(bin) => match start_postgres(bin) {
            Ok(peer) => peers.push(peer),
            Err(e) => println!("PostgreSQL is left out: {e}"),
        },
        None => println!("PostgreSQL 15 is not installed: it is left out"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    for peer in &peers {
        runtime.block_on(fill(peer, rows));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("point.sql");
    std::fs::write(&script, format!("\\set k random(1, {rows})\nSELECT * FROM v WHERE k = :k;\n"))
        .expect("a script");
    println!("{rows} rows; prepared SELECT * FROM v WHERE k = $1; {seconds} s each\n");
    let head = ["server", "clients", "reads/s", "latency \u{b5}s", "CPU \u{b5}s/read"];
    let table = support::Table::new(&head);
    for count in clients {
        for peer in &peers {
            // Once briefly, so that nothing is measured for the first time.
            if let Err(e) = pgbench(&program, peer, &script, count, 1) {
                println!("{}: {e}", peer.name);
                continue;
            }
            let before = cpu_seconds_of_tree(peer.process.id());
            match pgbench(&program, peer, &script, count, seconds) {
                Ok((tps, latency)) => {
                    // PostgreSQL's processes are counted once they have been waited for.
                    std::thread::sleep(Duration::from_millis(200));
                    let cpu = cpu_seconds_of_tree(peer.process.id()) - before;
                    table.row(&[
                        peer.name.to_string(),
                        count.to_string(),
                        format!("{tps:.0}"),
                        format!("{:.1}", latency * 1e3),
                        format!("{:.1}", cpu / (tps * seconds as f64) * 1e6),
                    ]);
                }
                Err(e) => println!("{}: {e}", peer.name),
            }
        }
    }
}
