//! Real clients: psql, tokio-postgres and psycopg 3 against the real binary. A client that is not installed fails its
//! test and says so, unless `FRESHET_SKIP_PSQL` or `FRESHET_SKIP_PSYCOPG` is set; `tests/run.sh` installs both.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Server, repository};
use futures::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::types::Type;
use tokio_postgres::{NoTls, SimpleQueryMessage};

fn server() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 2);
    (dir, server)
}

fn found(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Whether to run with this program; panics if it is missing and nobody said to do without it.
fn wanted(program: &str, skip: &str) -> bool {
    if std::env::var_os(skip).is_some() {
        println!("skipped: {skip} is set");
        return false;
    }
    assert!(found(program), "{program} is not installed; set {skip}=1 to do without");
    true
}

/// Runs a script in psql and gives what it printed, errors among it.
fn psql(server: &Server, more: &[&str], script: &str) -> String {
    let mut child = Command::new("psql")
        .args(["-X", "-v", "VERBOSITY=verbose", "-P", "pager=off"])
        .args(more)
        .arg(&server.url)
        .env("PGUSER", "freshet")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql runs");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("psql reads its script");
    let output = child.wait_with_output().expect("psql ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn psql_shows_tables_views_and_results() {
    if !wanted("psql", "FRESHET_SKIP_PSQL") {
        return;
    }
    let (_dir, server) = server();
    let made = psql(
        &server,
        &["-q"],
        "CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, amount numeric(8,2) DEFAULT 1.5);
         CREATE VIEW big AS SELECT * FROM orders WHERE amount > 10;
         CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) AS total FROM orders GROUP BY customer;
         CREATE INDEX orders_customer ON orders (customer);
         INSERT INTO orders VALUES (1, 'ann', 12.5), (2, 'bob', 3);",
    );
    assert!(!made.contains("ERROR"), "{made}");
    let answer =
        psql(&server, &["-A"], "SELECT * FROM totals ORDER BY customer;\nSELECT 1/0;\nSELECT nosuch;\n");
    assert!(answer.contains("customer|total\nann|12.50\nbob|3.00\n(2 rows)"), "{answer}");
    assert!(answer.contains("ERROR:  22012: division by zero"), "{answer}");
    assert!(
        answer.contains(
            "ERROR:  42703: column \"nosuch\" does not exist\nLINE 1: SELECT nosuch;\n               ^"
        ),
        "{answer}"
    );
    let list = psql(&server, &["-A", "-t"], "\\d\n");
    for line in ["public|orders|table|", "public|big|view|", "public|totals|materialized view|"] {
        assert!(list.contains(line), "{line} in\n{list}");
    }
    let table = psql(&server, &["-A"], "\\d orders\n");
    for line in [
        "id|integer||not null|",
        "customer|text||not null|",
        "amount|numeric(8,2)|||1.5",
        "\"orders_pkey\" PRIMARY KEY, btree (id)",
        "\"orders_customer\" btree (customer)",
    ] {
        assert!(table.contains(line), "{line} in\n{table}");
    }
    for command in [
        "\\dt",
        "\\dv",
        "\\dm",
        "\\di",
        "\\dn",
        "\\l",
        "\\du",
        "\\d+ orders",
        "\\d+ totals",
        "\\dt+",
        "\\df",
        "\\dT",
    ] {
        let shown = psql(&server, &[], &format!("{command}\n"));
        assert!(!shown.contains("ERROR"), "{command}: {shown}");
    }
}

#[test]
fn psql_runs_scripts_copies_and_cursors() {
    if !wanted("psql", "FRESHET_SKIP_PSQL") {
        return;
    }
    let (_dir, server) = server();
    let done = psql(
        &server,
        &["-A", "-t", "-v", "ON_ERROR_STOP=1", "-1"],
        "CREATE TABLE t (id int PRIMARY KEY, s text);
COPY t FROM STDIN;
1	one
2	\\N
\\.
CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, count(s) AS known FROM t;
",
    );
    assert!(done.contains("COPY 2") && !done.contains("ERROR"), "{done}");
    assert_eq!(psql(&server, &["-A", "-t"], "SELECT * FROM v;\n").trim(), "2|1");
    assert_eq!(
        psql(&server, &["-A", "-t"], "\\copy (SELECT * FROM t ORDER BY id) TO STDOUT\n").trim(),
        "1\tone\n2\t\\N"
    );
    let fetched = psql(&server, &["-A", "-t", "-v", "FETCH_COUNT=2"], "SELECT id FROM t ORDER BY id;\n");
    assert_eq!(fetched.trim(), "1\n2");
    let both = psql(&server, &["-A", "-t", "-c", "SELECT 1; SELECT 'two'"], "");
    assert_eq!(both.trim(), "1\ntwo");
    let described = psql(&server, &["-A", "-t"], "SELECT id, s, 1.5 AS n FROM t \\gdesc\n");
    assert_eq!(described.trim(), "id|integer\ns|text\nn|numeric");
}

async fn connect(server: &Server) -> tokio_postgres::Client {
    let (host, port) = server.address.rsplit_once(':').expect("host:port");
    let (client, connection) = tokio_postgres::Config::new()
        .host(host)
        .port(port.parse().expect("a port"))
        .user("freshet")
        .dbname("freshet")
        .connect(NoTls)
        .await
        .expect("a session");
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_prepares_binds_and_reads_binary_values() {
    let (_dir, server) = server();
    let client = connect(&server).await;
    client
        .batch_execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, i int, s text, b bool, f float8, y bytea, t4 float4, i2 int2);
             CREATE MATERIALIZED VIEW v AS SELECT s, count(*) AS n, sum(i) AS total FROM t GROUP BY s",
        )
        .await
        .expect("definitions");
    let insert =
        client.prepare("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8)").await.expect("prepared");
    let types =
        [Type::INT8, Type::INT4, Type::TEXT, Type::BOOL, Type::FLOAT8, Type::BYTEA, Type::FLOAT4, Type::INT2];
    assert_eq!(insert.params(), types);
    for i in 0..10_i64 {
        let word = if i % 3 == 0 { None } else { Some(format!("w{}", i % 3)) };
        let bytes: &[u8] = &[0, 255, i as u8];
        let n = client
            .execute(
                &insert,
                &[&i, &(i as i32 * 2), &word, &(i % 2 == 0), &(i as f64 / 4.0), &bytes, &1.5_f32, &-3_i16],
            )
            .await
            .expect("inserted");
        assert_eq!(n, 1);
    }
    let point = client.prepare("SELECT i, s, b, f, y, t4, i2 FROM t WHERE id = $1").await.expect("prepared");
    let row = client.query_one(&point, &[&7_i64]).await.expect("one row");
    assert_eq!(row.get::<_, i32>(0), 14);
    assert_eq!(row.get::<_, Option<&str>>(1), Some("w1"));
    assert!(!row.get::<_, bool>(2));
    assert_eq!(row.get::<_, f64>(3), 1.75);
    assert_eq!(row.get::<_, &[u8]>(4), [0, 255, 7]);
    assert_eq!((row.get::<_, f32>(5), row.get::<_, i16>(6)), (1.5, -3));
    assert!(client.query_opt(&point, &[&99_i64]).await.expect("none").is_none());
    let groups = client.query("SELECT s, n, total FROM v ORDER BY s", &[]).await.expect("rows");
    let groups: Vec<(Option<String>, i64, i64)> =
        groups.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    assert_eq!(groups, [(Some("w1".into()), 3, 24), (Some("w2".into()), 3, 30), (None, 4, 36)]);
    let failed = client.query("SELECT 1 / i FROM t WHERE id = 0", &[]).await.expect_err("division by zero");
    assert_eq!(failed.code().map(|c| c.code()), Some("22012"));
    client.query("SELECT 1", &[]).await.expect("the session goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_transactions_pipelines_and_copy() {
    let (_dir, server) = server();
    let mut client = connect(&server).await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, s text)").await.expect("a table");
    let transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO t VALUES (1, 'a')", &[]).await.expect("inserted");
    transaction.rollback().await.expect("rolled back");
    let mut transaction = client.transaction().await.expect("begun");
    transaction.execute("INSERT INTO t VALUES ($1, $2)", &[&2_i32, &"b"]).await.expect("inserted");
    let inner = transaction.savepoint("s").await.expect("a savepoint");
    inner.execute("INSERT INTO t VALUES (2, 'twice')", &[]).await.expect_err("a duplicate, now or at commit");
    inner.rollback().await.expect("back to the savepoint");
    transaction.commit().await.expect("committed");
    let sink = client.copy_in::<_, bytes::Bytes>("COPY t FROM STDIN").await.expect("COPY begins");
    let mut sink = std::pin::pin!(sink);
    for i in 10..1010 {
        sink.send(bytes::Bytes::from(format!("{i}\trow {i}\n"))).await.expect("taken");
    }
    assert_eq!(sink.finish().await.expect("COPY ends"), 1000);
    let out = client.copy_out("COPY (SELECT id FROM t ORDER BY id) TO STDOUT").await.expect("COPY begins");
    let out: Vec<bytes::Bytes> = out.try_collect().await.expect("all rows");
    assert_eq!(out.concat().iter().filter(|b| **b == b'\n').count(), 1001);
    let many = (0..200).map(|i| {
        let client = &client;
        async move { client.query_one("SELECT $1::int + 1", &[&i]).await.map(|r| r.get::<_, i32>(0)) }
    });
    let answers: Vec<i32> =
        futures::stream::iter(many).buffered(50).try_collect().await.expect("a pipeline answers in order");
    assert_eq!(answers, (1..=200).collect::<Vec<_>>());
    let messages = client.simple_query("SELECT 1 AS one; SELECT count(*) FROM t").await.expect("two results");
    let rows: Vec<_> = messages
        .iter()
        .filter_map(|m| if let SimpleQueryMessage::Row(r) = m { r.get(0) } else { None })
        .collect();
    assert_eq!(rows, ["1", "1001"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_cancels_and_subscribes() {
    let (_dir, server) = server();
    let client = connect(&server).await;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, a int);
             CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS total FROM t",
        )
        .await
        .expect("definitions");
    let subscriber = connect(&server).await;
    let live = subscriber.copy_out("COPY (SUBSCRIBE v) TO STDOUT").await.expect("a subscription");
    let mut live = std::pin::pin!(live);
    let line = |b: bytes::Bytes| {
        let text = String::from_utf8_lossy(&b).trim_end().to_string();
        text.split_once('\t').map(|(_, rest)| rest.to_string()).unwrap_or_default()
    };
    assert_eq!(line(live.next().await.expect("a row").expect("readable")), "1\t\\N");
    client.execute("INSERT INTO t VALUES (1, 41)", &[]).await.expect("inserted");
    let mut change: Vec<String> = Vec::new();
    while change.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(20), live.next()).await.expect("in time");
        let bytes = next.expect("a row").expect("readable");
        change.extend(bytes.split_inclusive(|b| *b == b'\n').map(|l| line(bytes::Bytes::copy_from_slice(l))));
    }
    change.sort();
    assert_eq!(change, ["-1\t\\N", "1\t41"]);
    subscriber.cancel_token().cancel_query(NoTls).await.expect("sent");
    let ended = tokio::time::timeout(Duration::from_secs(20), live.next()).await.expect("in time");
    let error = ended.expect("an end").expect_err("cancelled");
    assert_eq!(error.code().map(|c| c.code()), Some("57014"));
    subscriber.query("SELECT 1", &[]).await.expect("the session goes on");
}

/// A Python with psycopg 3: the one of `FRESHET_PYTHON`, or a virtual environment made beside the build.
fn python() -> Option<PathBuf> {
    if std::env::var_os("FRESHET_SKIP_PSYCOPG").is_some() {
        println!("skipped: FRESHET_SKIP_PSYCOPG is set");
        return None;
    }
    let works = |p: &PathBuf| {
        let probe = Command::new(p).args(["-c", "import psycopg"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|s| s.success())
    };
    if let Some(given) = std::env::var_os("FRESHET_PYTHON").map(PathBuf::from) {
        assert!(works(&given), "{} has no psycopg", given.display());
        return Some(given);
    }
    let system = PathBuf::from("python3");
    if works(&system) {
        return Some(system);
    }
    let venv = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("venv");
    let python = venv.join("bin/python");
    if !works(&python) {
        let advice = "set FRESHET_SKIP_PSYCOPG=1 to do without";
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
        assert!(made.is_ok_and(|s| s.success()), "python3 -m venv does not work here; {advice}");
        let got =
            Command::new(&python).args(["-m", "pip", "install", "-q", "psycopg[binary]>=3.1,<4"]).status();
        assert!(got.is_ok_and(|s| s.success()), "psycopg could not be installed; {advice}");
    }
    Some(python)
}

#[test]
fn psycopg_does_what_applications_do() {
    let Some(python) = python() else { return };
    let (_dir, server) = server();
    let output = Command::new(python)
        .arg(repository().join("tests/clients/psycopg_client.py"))
        .arg(format!("{}?user=freshet", server.url))
        .output()
        .expect("python runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
