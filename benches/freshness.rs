//! Freshness: how long after an INSERT of one row is sent a view shows it and a SUBSCRIBE client has received it.
//!
//! Run with `cargo bench --bench freshness`. Environment: `FRESHNESS_ROUNDS` (1,000 when idle), `FRESHNESS_VIEWS`
//! (1,000 further views on other tables), `FRESHNESS_DIR` (where the data directory goes; `/dev/shm` where there is
//! one, so that the disk's fsync is not counted), `FRESHNESS_SECONDS` (5; each part under load).
//!
//! The server runs in this process on a runtime of its own; clients are tokio-postgres over loopback TCP.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freshet::config::ServerSettings;
use futures::StreamExt;
use support::{cpu_seconds, env_number, quantile};
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

/// Connections that write while there is load.
const WRITERS: u64 = 8;
/// Keys of the rows that are timed; writers under load use larger ones.
const TIMED_KEYS: i64 = 1_000_000_000;

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connect");
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            eprintln!("connection: {e}");
        }
    });
    client
}

/// Receives the view's changes; tells when each timed key came.
async fn subscribe(url: &str) -> mpsc::UnboundedReceiver<(i64, Instant)> {
    let client = connect(url).await;
    let (tx, rx) = mpsc::unbounded_channel();
    let stream =
        client.copy_out("COPY (SUBSCRIBE v WITH (SNAPSHOT = false)) TO STDOUT").await.expect("SUBSCRIBE");
    tokio::spawn(async move {
        // The client must live as long as its stream is read.
        let _client = client;
        let mut stream = Box::pin(stream);
        let mut rest = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            let now = Instant::now();
            rest.extend_from_slice(&bytes);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).into_owned();
                rest.drain(..=end);
                // The last columns are the view's: k, n.
                let key = line.split('\t').rev().nth(1).and_then(|k| k.parse::<i64>().ok());
                if let Some(key) = key.filter(|k| *k < TIMED_KEYS)
                    && tx.send((key, now)).is_err()
                {
                    return;
                }
            }
        }
    });
    rx
}

/// Delays of one part of the run, sorted.
#[derive(Default)]
struct Delays {
    acknowledged: Vec<Duration>,
    visible: Vec<Duration>,
    received: Vec<Duration>,
}

/// Inserts rows one after the other, reads each from the view and waits for the subscriber.
async fn probe(
    url: &str,
    received: &mut mpsc::UnboundedReceiver<(i64, Instant)>,
    first_key: i64,
    enough: impl Fn(usize) -> bool,
    pause: Duration,
) -> Delays {
    let (writer, reader) = (connect(url).await, connect(url).await);
    let insert = writer.prepare("INSERT INTO t VALUES ($1, $2)").await.expect("INSERT");
    let select = reader.prepare("SELECT n FROM v WHERE k = $1").await.expect("SELECT");
    let mut delays = Delays::default();
    let mut sent: HashMap<i64, Instant> = HashMap::new();
    let mut key = first_key;
    while !enough(delays.visible.len()) {
        let start = Instant::now();
        sent.insert(key, start);
        writer.execute(&insert, &[&key, &1i64]).await.expect("INSERT");
        delays.acknowledged.push(start.elapsed());
        let rows = reader.query(&select, &[&key]).await.expect("SELECT");
        assert_eq!(rows.len(), 1, "an acknowledged row must be visible");
        delays.visible.push(start.elapsed());
        let (got, at) = tokio::time::timeout(Duration::from_secs(10), received.recv())
            .await
            .expect("a subscriber is told within 10 s")
            .expect("the subscription goes on");
        if let Some(start) = sent.remove(&got) {
            delays.received.push(at.duration_since(start));
        }
        key += 1;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    for list in [&mut delays.acknowledged, &mut delays.visible, &mut delays.received] {
        list.sort_unstable();
    }
    delays
}

/// Writers of one row at a time, at `rate` rows per second together (`None`: as fast as they are answered).
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn start(url: &str, rate: Option<f64>, from: i64) -> Load {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for w in 0..WRITERS {
            let client = connect(url).await;
            let insert = client.prepare("INSERT INTO t VALUES ($1, $2)").await.expect("INSERT");
            let (stop, written) = (stop.clone(), written.clone());
            let period = rate.map(|r| Duration::from_secs_f64(WRITERS as f64 / r));
            tasks.push(tokio::spawn(async move {
                let start = Instant::now() + period.unwrap_or_default().mul_f64(w as f64 / WRITERS as f64);
                let mut n = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    if let Some(period) = period {
                        tokio::time::sleep_until((start + period * n).into()).await;
                    }
                    let key = from + i64::from(n) * WRITERS as i64 + w as i64;
                    client.execute(&insert, &[&key, &1i64]).await.expect("INSERT");
                    written.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
            }));
        }
        Load { stop, written, tasks }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer");
        }
        self.written.load(Ordering::Relaxed)
    }
}

fn row(table: &support::Table, views: u64, load: &str, d: &Delays) {
    let mut cells = vec![views.to_string(), load.to_string(), d.visible.len().to_string()];
    for list in [&d.acknowledged, &d.visible, &d.received] {
        cells.extend([0.5, 0.99].map(|q| format!("{:.0}", quantile(list, q))));
    }
    table.row(&cells);
}

async fn part(url: &str, table: &support::Table, views: u64, base: i64) {
    let rounds = env_number("FRESHNESS_ROUNDS", 1_000) as usize;
    let seconds = Duration::from_secs(env_number("FRESHNESS_SECONDS", 5));
    let mut received = subscribe(url).await;
    // Warm up: the first statements of a connection bind and plan.
    probe(url, &mut received, base, |n| n >= 50, Duration::ZERO).await;
    let delays = probe(url, &mut received, base + 100, |n| n >= rounds, Duration::from_millis(1)).await;
    row(table, views, "idle", &delays);

    let began = Instant::now();
    let load = Load::start(url, None, TIMED_KEYS + base * 1000).await;
    tokio::time::sleep(seconds).await;
    let maximum = load.stop().await as f64 / began.elapsed().as_secs_f64();

    let load = Load::start(url, Some(maximum / 2.0), 2 * TIMED_KEYS + base * 1000).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let written = load.written.load(Ordering::Relaxed);
    let enough = |_| began.elapsed() >= seconds;
    let delays = probe(url, &mut received, base + 1_000_000, enough, Duration::from_millis(1)).await;
    let rate = (load.written.load(Ordering::Relaxed) - written) as f64 / began.elapsed().as_secs_f64();
    load.stop().await;
    row(table, views, &format!("{rate:.0}/s of {maximum:.0}/s"), &delays);
}

async fn bench(url: String) {
    let views = env_number("FRESHNESS_VIEWS", 1_000);
    let client = connect(&url).await;
    let define = "CREATE TABLE t (k bigint, n bigint);
        CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS n FROM t GROUP BY k";
    client.batch_execute(define).await.expect("definitions");
    let head = [
        "views",
        "load",
        "rounds",
        "ack p50",
        "ack p99",
        "visible p50",
        "visible p99",
        "received p50",
        "received p99",
    ];
    println!(
        "\u{b5}s after the INSERT of one row was sent: acknowledged, read from the view, received by SUBSCRIBE\n"
    );
    let table = support::Table::new(&head);
    part(&url, &table, 1, 0).await;
    if views == 0 {
        return;
    }
    let started = Instant::now();
    for i in 0..views {
        if i % 10 == 0 {
            client
                .batch_execute(&format!("CREATE TABLE o{} (k bigint, n bigint)", i / 10))
                .await
                .expect("table");
        }
        let view = format!(
            "CREATE MATERIALIZED VIEW w{i} AS SELECT k, sum(n) AS n FROM o{} WHERE k <> {i} GROUP BY k",
            i / 10
        );
        client.batch_execute(&view).await.expect("view");
    }
    let created = started.elapsed();
    part(&url, &table, views + 1, 10_000_000).await;
    let before = cpu_seconds();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = (cpu_seconds() - before) / 5.0;
    println!(
        "\ncreating {views} views took {:.1} s; idle with them: {:.2} % of a core",
        created.as_secs_f64(),
        idle * 100.0
    );
}

fn main() {
    let directory = std::env::var("FRESHNESS_DIR")
        .ok()
        .or_else(|| std::path::Path::new("/dev/shm").is_dir().then(|| "/dev/shm".to_string()));
    let data = match directory {
        Some(at) => tempfile::tempdir_in(at),
        None => tempfile::tempdir(),
    }
    .expect("a directory");
    println!("data directory under {}", data.path().parent().unwrap_or(data.path()).display());
    let mut settings = ServerSettings::default();
    for (name, value) in [("pg_addr", "127.0.0.1:0"), ("http_addr", "127.0.0.1:0")] {
        settings.set(name, value).expect("a setting");
    }
    settings.set("data_dir", &data.path().join("d").to_string_lossy()).expect("a setting");
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime")
    };
    let (server_runtime, client_runtime) = (runtime(), runtime());
    let running = server_runtime.block_on(freshet::server::start(settings)).expect("the server starts");
    let url = running.url().replace("postgresql://", "postgresql://freshet@");
    let done = client_runtime.block_on(client_runtime.spawn(bench(url)));
    client_runtime.shutdown_background();
    server_runtime.block_on(running.stop()).expect("the server stops");
    done.expect("the benchmark ran through");
}
