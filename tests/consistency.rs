//! Bank transfers under load. Money only moves, so its total is the same in every state that anyone is ever shown:
//! in every SELECT, over tables and views together, and after every epoch of a SUBSCRIBE – also across restarts.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::wire::{Wire, WireError};
use common::{Random, Server, check_views};

const ACCOUNTS: u64 = 20;
const MONEY: i64 = 1000;
const WRITERS: u64 = 4;

/// How long each phase of load goes on.
fn load() -> Duration {
    let seconds = std::env::var("FRESHET_LOAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    Duration::from_secs(seconds)
}

const SCHEMA: &str = "
CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE transfers (id bigint PRIMARY KEY, src int NOT NULL, dst int NOT NULL, amount int NOT NULL);
INSERT INTO accounts SELECT i, 1000 FROM generate_series(0, 19) AS i;
CREATE MATERIALIZED VIEW held AS SELECT sum(balance) AS total, count(*) AS accounts FROM accounts;
CREATE MATERIALIZED VIEW moved AS
  SELECT account, sum(amount) AS change FROM (
    SELECT src AS account, -amount AS amount FROM transfers UNION ALL SELECT dst, amount FROM transfers) AS m
  GROUP BY account;
CREATE MATERIALIZED VIEW moved_total AS SELECT sum(change) AS total FROM moved;
CREATE MATERIALIZED VIEW wrong AS
  SELECT a.id FROM accounts a JOIN moved m ON m.account = a.id WHERE a.balance <> 1000 + m.change;
";

/// Connects to whichever server runs at the moment.
#[derive(Clone)]
struct Address(Arc<Mutex<String>>);

impl Address {
    fn of(server: &Server) -> Address {
        Address(Arc::new(Mutex::new(server.address.clone())))
    }

    fn connect(&self) -> Result<Wire, WireError> {
        let address = self.0.lock().expect("not poisoned").clone();
        Wire::connect(&address, "freshet", "freshet")
    }
}

/// Moves money until told to stop; a conflict or a lost connection is tried again with a new transfer.
fn writer(address: &Address, number: u64, stop: &AtomicBool, done: &AtomicU64) {
    let mut random = Random::new(number + 1);
    let mut session: Option<Wire> = None;
    let mut id = number;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = &mut session else {
            session = address.connect().ok();
            if session.is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
            continue;
        };
        let (src, dst, amount) = (random.below(ACCOUNTS), random.below(ACCOUNTS), random.below(50));
        if src == dst {
            continue;
        }
        id += WRITERS;
        let result = open.run(&format!(
            "BEGIN; UPDATE accounts SET balance = balance - {amount} WHERE id = {src};
             UPDATE accounts SET balance = balance + {amount} WHERE id = {dst};
             INSERT INTO transfers VALUES ({id}, {src}, {dst}, {amount}); COMMIT"
        ));
        match result {
            Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(WireError::Lost(_)) => session = None,
            Err(e) if matches!(e.code(), "40001" | "57P01" | "57P03" | "57014") => drop(open.run("ROLLBACK")),
            Err(e) => panic!("a transfer failed: {e}"),
        }
    }
}

/// Looks at one state after the other until told to stop; gives how many it has seen.
fn reader(address: &Address, stop: &AtomicBool) -> u64 {
    let looks = [
        "SELECT sum(balance), count(*) FROM accounts",
        "SELECT total, accounts FROM held",
        "SELECT coalesce(sum(change), 0) + 20000, 20 FROM moved",
        "SELECT coalesce((SELECT total FROM moved_total), 0) + 20000, 20 + (SELECT count(*) FROM wrong)",
        "SELECT h.total - s.total + 20000, h.accounts FROM held h, (SELECT sum(balance) AS total FROM accounts) AS s",
    ];
    let mut seen = 0;
    let mut session: Option<Wire> = None;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = &mut session else {
            session = address.connect().ok();
            continue;
        };
        let sql = looks[seen as usize % looks.len()];
        match open.rows(sql) {
            Ok(rows) => {
                let expected = vec![vec![Some("20000".to_string()), Some("20".to_string())]];
                assert_eq!(rows, expected, "{sql}");
                seen += 1;
            }
            Err(WireError::Lost(_)) => session = None,
            Err(e) if matches!(e.code(), "57P01" | "57P03" | "57014") => session = None,
            Err(e) => panic!("{sql}: {e}"),
        }
    }
    seen
}

/// Follows all balances and checks them after every epoch; gives how many epochs it has seen.
fn subscriber(address: &Address, stop: &AtomicBool) -> u64 {
    let mut epochs = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut session) = address.connect() else { continue };
        session.set_patience(Duration::from_millis(500));
        if session.start("COPY (SUBSCRIBE accounts WITH (PROGRESS)) TO STDOUT").is_err() {
            continue;
        }
        let mut balances: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut last = i64::MIN;
        // Ends with the server, or when nothing has come for a while.
        while let Ok(Some(row)) = session.next_row() {
            let line = row[0].clone().unwrap_or_default();
            let fields: Vec<&str> = line.split('\t').collect();
            let epoch: i64 = fields[0].parse().expect("an epoch");
            if fields[1] == "t" {
                assert!(epoch >= last, "progress went back from {last} to {epoch}");
                last = epoch;
                balances.retain(|_, b| !b.is_empty());
                if balances.is_empty() {
                    continue;
                }
                assert!(balances.values().all(|b| b.len() == 1), "two balances of one account: {balances:?}");
                let total: i64 = balances.values().flatten().sum();
                assert_eq!(total, MONEY * ACCOUNTS as i64, "at epoch {epoch}: {balances:?}");
                epochs += 1;
                continue;
            }
            assert!(epoch >= last, "a change of {epoch} after the progress to {last}");
            let [diff, id, balance] = [2, 3, 4].map(|i| fields[i].parse::<i64>().expect("a number"));
            let held = balances.entry(id).or_default();
            if diff > 0 {
                held.push(balance);
            } else if let Some(at) = held.iter().position(|b| *b == balance) {
                held.swap_remove(at);
            } else {
                // Within an epoch the insertion may come before its retraction is read, never a foreign one.
                panic!("retraction of a balance never shown: {line}");
            }
        }
    }
    epochs
}

/// Runs writers, readers and subscribers while `during` does something with the server.
fn under_load(address: &Address, during: impl FnOnce()) -> (u64, u64, u64) {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                scope.spawn({
                    let (stop, done) = (&stop, &done);
                    move || writer(address, n, stop, done)
                })
            })
            .collect();
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| reader(address, &stop))).collect();
        let subscribers: Vec<_> = (0..2).map(|_| scope.spawn(|| subscriber(address, &stop))).collect();
        during();
        stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for writer in writers {
            failed.extend(writer.join().err());
        }
        let mut sum = |threads: Vec<std::thread::ScopedJoinHandle<'_, u64>>| {
            let mut total = 0;
            for t in threads {
                match t.join() {
                    Ok(n) => total += n,
                    Err(e) => failed.push(e),
                }
            }
            total
        };
        let (seen, epochs) = (sum(readers), sum(subscribers));
        if let Some(first) = failed.into_iter().next() {
            std::panic::resume_unwind(first);
        }
        (done.load(Ordering::Relaxed), seen, epochs)
    })
}

fn settle(session: &mut Wire) {
    assert_eq!(session.value("SELECT total FROM held").expect("readable"), "20000");
    assert_eq!(session.value("SELECT coalesce(max(total), 0) FROM moved_total").expect("readable"), "0");
    assert_eq!(session.value("SELECT count(*) FROM wrong").expect("readable"), "0");
    assert_eq!(session.value("SELECT count(*) FROM accounts").expect("readable"), ACCOUNTS.to_string());
    check_views(session).expect("views equal their queries");
}

#[test]
fn money_is_never_made_or_lost_under_concurrent_transfers() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 4);
    server.connect().exec(SCHEMA);
    let (done, seen, epochs) = under_load(&Address::of(&server), || std::thread::sleep(load()));
    println!("{done} transfers, {seen} reads, {epochs} epochs of subscriptions");
    assert!(done > 20 && seen > 20 && epochs > 20, "too little happened: {done}, {seen}, {epochs}");
    settle(&mut server.connect());
}

#[test]
fn money_is_never_made_or_lost_across_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Server::start(&data, 2);
    server.connect().exec(SCHEMA);
    let address = Address::of(&server);
    let (done, seen, epochs) = under_load(&address, || {
        for (round, workers) in [1, 4, 2].into_iter().enumerate() {
            std::thread::sleep(load() / 3);
            if round % 2 == 0 {
                server.kill();
            } else {
                assert!(server.terminate().success(), "SIGTERM must end the server in order");
            }
            server = Server::start(&data, workers);
            address.0.lock().expect("not poisoned").clone_from(&server.address);
            settle(&mut server.connect());
        }
        std::thread::sleep(load() / 3);
    });
    println!("{done} transfers, {seen} reads, {epochs} epochs of subscriptions");
    assert!(done > 20 && seen > 20, "too little happened: {done}, {seen}, {epochs}");
    settle(&mut server.connect());
}

#[test]
fn a_transaction_reads_one_state_however_long_it_takes() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("data"), 2);
    server.connect().exec(SCHEMA);
    let mut session = server.connect();
    under_load(&Address::of(&server), || {
        let end = Instant::now() + load() / 2;
        while Instant::now() < end {
            session.exec("BEGIN");
            let first = session.rows("SELECT * FROM accounts ORDER BY id").expect("readable");
            let moved = session.rows("SELECT * FROM moved ORDER BY account").expect("readable");
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(session.rows("SELECT * FROM accounts ORDER BY id").expect("readable"), first);
            assert_eq!(session.rows("SELECT * FROM moved ORDER BY account").expect("readable"), moved);
            session.exec("COMMIT");
        }
    });
}
