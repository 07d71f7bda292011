//! kill -9 of the real binary at random moments, and data directories as crashes and accidents leave them: every
//! acknowledged write is there exactly once, every object is there, every view equals its query.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::wire::{Wire, WireError};
use common::{Random, Server, check_views};

const SCHEMA: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, writer int NOT NULL, n int NOT NULL, word text);
CREATE TABLE log (writer int, n int);
CREATE VIEW plain AS SELECT * FROM t WHERE n >= 0;
CREATE MATERIALIZED VIEW per_writer AS SELECT writer, count(*) AS rows, sum(n) AS n, max(n) AS most FROM t GROUP BY writer;
CREATE MATERIALIZED VIEW words AS SELECT DISTINCT word FROM plain;
CREATE MATERIALIZED VIEW joined AS SELECT t.id, p.rows FROM t JOIN per_writer p ON p.writer = t.writer WHERE t.n % 10 = 0;
CREATE MATERIALIZED VIEW failing AS SELECT id, 100 / (n % 7) AS q FROM t;
CREATE INDEX t_writer ON t (writer);
COMMENT ON TABLE t IS 'kept';
";

const OBJECTS: [&str; 3] = ["SHOW TABLES", "SHOW VIEWS", "SHOW MATERIALIZED VIEWS"];

/// What one writer knows: acknowledged rows, and the one whose fate it does not know.
#[derive(Default, Clone)]
struct Known {
    rows: BTreeMap<u64, u64>,
    logged: u64,
    unsure: Option<(u64, Option<u64>, bool)>,
}

/// Inserts, updates and deletes rows of its own until the connection is lost.
fn write_until_lost(
    address: &str,
    writer: u64,
    known: &mut Known,
    acknowledged: &AtomicU64,
    stop: &AtomicBool,
) {
    let Ok(mut session) = Wire::connect(address, "freshet", "freshet") else { return };
    let mut random = Random::new(known.logged * 31 + writer + 1);
    while !stop.load(Ordering::Relaxed) {
        let n = random.below(1000);
        let id = writer + 10 * random.below(200);
        let (sql, row, logs) = match (known.rows.contains_key(&id), random.below(4)) {
            (false, _) => {
                (format!("INSERT INTO t VALUES ({id}, {writer}, {n}, 'w{}')", n % 50), Some(n), false)
            }
            (true, 0) => (format!("DELETE FROM t WHERE id = {id}"), None, false),
            (true, 1) => (
                format!(
                    "BEGIN; INSERT INTO log VALUES ({writer}, {n}); \
                     UPDATE t SET n = {n}, word = NULL WHERE id = {id}; COMMIT"
                ),
                Some(n),
                true,
            ),
            (true, _) => (format!("UPDATE t SET n = {n} WHERE id = {id}"), Some(n), false),
        };
        known.unsure = Some((id, row, logs));
        match session.run(&sql) {
            Ok(_) => {
                match row {
                    Some(n) => drop(known.rows.insert(id, n)),
                    None => drop(known.rows.remove(&id)),
                }
                known.logged += u64::from(logs);
                known.unsure = None;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(WireError::Lost(_)) => return,
            Err(e) if e.code() == "57P01" => return,
            Err(e) => panic!("{sql}: {e}"),
        }
    }
    known.unsure = None;
}

/// Compares the table with what the writers were told, and settles what they were not.
fn verify(session: &mut Wire, known: &mut [Known]) {
    for (writer, known) in known.iter_mut().enumerate() {
        let rows =
            session.rows(&format!("SELECT id, n FROM t WHERE writer = {writer} ORDER BY id")).expect("rows");
        let found: BTreeMap<u64, u64> = rows
            .iter()
            .map(|r| [0, 1].map(|i| r[i].as_deref().and_then(|v| v.parse::<u64>().ok()).expect("a number")))
            .map(|[id, n]| (id, n))
            .collect();
        assert_eq!(found.len(), rows.len(), "writer {writer}: a key is there twice");
        let logged: u64 = session
            .value(&format!("SELECT count(*) FROM log WHERE writer = {writer}"))
            .ok()
            .and_then(|v| v.parse().ok())
            .expect("a count");
        let mut with_unsure = known.clone();
        if let Some((id, row, logs)) = known.unsure.take() {
            match row {
                Some(n) => drop(with_unsure.rows.insert(id, n)),
                None => drop(with_unsure.rows.remove(&id)),
            }
            with_unsure.logged += u64::from(logs);
        }
        let kept = found == known.rows && logged == known.logged;
        let done = found == with_unsure.rows && logged == with_unsure.logged;
        if !kept && !done {
            let differing: Vec<_> = known
                .rows
                .iter()
                .filter(|(id, n)| found.get(id) != Some(n))
                .chain(found.iter().filter(|(id, n)| known.rows.get(id) != Some(n)))
                .take(10)
                .collect();
            panic!("writer {writer}: {logged} logged, told {}; differing: {differing:?}", known.logged);
        }
        known.rows = found;
        known.logged = logged;
    }
    check_views(session).expect("views equal their queries");
    let total = session.value("SELECT coalesce(sum(rows), 0) FROM per_writer").expect("readable");
    assert_eq!(session.value("SELECT count(*) FROM t").expect("readable"), total);
    let failing =
        session.value("SELECT (SELECT count(*) FROM failing) + (SELECT count(*) FROM failing$errors)");
    assert_eq!(failing.expect("readable"), total, "a row is in the view or in its errors");
}

fn objects(session: &mut Wire) -> Vec<Vec<Vec<Option<String>>>> {
    OBJECTS.iter().map(|sql| session.rows(sql).expect("a list")).collect()
}

#[test]
fn every_acknowledged_write_survives_kill_9() {
    let rounds = std::env::var("FRESHET_CRASH_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(8);
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Server::start(&data, 2);
    server.connect().exec(SCHEMA);
    let before = objects(&mut server.connect());
    let mut random = Random::new(7);
    let mut known = vec![Known::default(); 4];
    let acknowledged = AtomicU64::new(0);
    for round in 0..rounds {
        let address = server.address.clone();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (writer, known) in known.iter_mut().enumerate() {
                let (address, acknowledged, stop) = (&address, &acknowledged, &stop);
                scope.spawn(move || write_until_lost(address, writer as u64, known, acknowledged, stop));
            }
            std::thread::sleep(Duration::from_millis(50 + random.below(600)));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server = Server::start(&data, 1 + round % 4);
        let mut session = server.connect();
        verify(&mut session, &mut known);
        assert_eq!(objects(&mut session), before, "round {round}");
        let comment = session.value("SELECT obj_description('t'::regclass, 'pg_class')").expect("readable");
        assert_eq!(comment, "kept");
    }
    let n = acknowledged.load(Ordering::Relaxed);
    println!("{n} acknowledged writes in {rounds} rounds");
    assert!(n > 50, "too few writes to mean anything: {n}");
}

#[test]
fn killed_during_definitions_each_is_there_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Server::start(&data, 2);
    server
        .connect()
        .exec("CREATE TABLE base (a int); INSERT INTO base SELECT * FROM generate_series(1, 500) AS g");
    let mut random = Random::new(11);
    let mut made = 0;
    for _ in 0..4 {
        let address = server.address.clone();
        let maker = std::thread::spawn(move || {
            let Ok(mut session) = Wire::connect(&address, "freshet", "freshet") else { return made };
            for i in made.. {
                let sql = format!(
                    "BEGIN; CREATE TABLE t{i} (a int); INSERT INTO t{i} VALUES ({i}); \
                     CREATE MATERIALIZED VIEW v{i} AS SELECT t{i}.a, count(*) AS n FROM t{i} CROSS JOIN base GROUP BY t{i}.a; \
                     COMMIT"
                );
                match session.run(&sql) {
                    Ok(_) => {}
                    Err(WireError::Lost(_)) => return i,
                    Err(e) => panic!("{sql}: {e}"),
                }
            }
            made
        });
        std::thread::sleep(Duration::from_millis(30 + random.below(300)));
        server.kill();
        let acknowledged = maker.join().expect("the maker only meets lost connections");
        server = Server::start(&data, 2);
        let mut session = server.connect();
        let tables = session.rows("SHOW TABLES LIKE 't%'").expect("a list").len();
        let views = session.rows("SHOW MATERIALIZED VIEWS LIKE 'v%'").expect("a list").len();
        assert_eq!(tables, views, "a transaction's definitions come together");
        assert!(
            tables == acknowledged || tables == acknowledged + 1,
            "{tables} tables, {acknowledged} acknowledged"
        );
        for i in 0..tables {
            let rows = session.rows(&format!("SELECT a, n FROM v{i}")).expect("a view");
            assert_eq!(rows, vec![vec![Some(i.to_string()), Some("500".to_string())]]);
        }
        check_views(&mut session).expect("views equal their queries");
        made = tables;
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Server::start(&data, 1);
    server.connect().exec("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let refusal = Server::try_start(&data, 1, &[]).err().expect("the second server must not start");
    let pid = server.pid().to_string();
    assert!(refusal.contains(&pid), "the refusal names the process that holds the directory: {refusal}");
    assert_eq!(server.connect().value("SELECT a FROM t").expect("the first goes on"), "1");
    server.kill();
    let server = Server::start(&data, 1);
    assert_eq!(server.connect().value("SELECT a FROM t").expect("a dead server's lock does not count"), "1");
}

/// A stopped server's directory with a table and a view in it.
fn stopped_with_rows(data: &Path, orderly: bool) {
    let mut server = Server::start(data, 2);
    let mut session = server.connect();
    session.exec(
        "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE MATERIALIZED VIEW v AS SELECT sum(a) AS s FROM t",
    );
    for i in 1..=20 {
        session.exec(&format!("INSERT INTO t VALUES ({i}, {i})"));
    }
    if orderly {
        assert!(server.terminate().success(), "an orderly end");
    } else {
        server.kill();
    }
}

fn every_file(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { every_file(&path, found) } else { found.push(path) }
    }
}

/// The newest file of the write-ahead log.
fn last_log_file(data: &Path) -> PathBuf {
    let mut files = Vec::new();
    every_file(data, &mut files);
    files.retain(|f| {
        let path = f.strip_prefix(data).expect("inside").display().to_string();
        path.contains("log") && fs::metadata(f).is_ok_and(|m| m.len() > 0)
    });
    files.sort();
    files.pop().expect("a log file")
}

#[test]
fn a_torn_tail_of_the_log_is_cut() {
    for damage in ["half a record", "garbage", "zeros"] {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        stopped_with_rows(&data, false);
        let file = last_log_file(&data);
        let mut bytes = fs::read(&file).expect("readable");
        match damage {
            "half a record" => bytes.truncate(bytes.len() - 3),
            "garbage" => bytes.extend([0xa5; 37]),
            _ => bytes.extend([0; 512]),
        }
        fs::write(&file, &bytes).expect("writable");
        let mut server = Server::start(&data, 1);
        let mut session = server.connect();
        let n: i64 = session.value("SELECT count(*) FROM t").expect("readable").parse().expect("a number");
        // Only the record that was itself cut may be missing.
        let expected = if damage == "half a record" { 19..=20 } else { 20..=20 };
        assert!(expected.contains(&n), "{damage}: {n} rows");
        check_views(&mut session).expect("views equal their queries");
        session.exec("INSERT INTO t VALUES (100, 0)");
        server.kill();
        let server = Server::start(&data, 1);
        let again = server.connect().value("SELECT count(*) FROM t").expect("readable");
        assert_eq!(again, (n + 1).to_string(), "{damage}: what came after the cut stays");
    }
}

#[test]
fn corruption_in_the_middle_of_the_log_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    stopped_with_rows(&data, false);
    let file = last_log_file(&data);
    let mut bytes = fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&file, bytes).expect("writable");
    let refusal = Server::try_start(&data, 1, &[]).err().expect("a damaged log must not be read over");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(refusal.contains(&name), "the refusal names {name}: {refusal}");
}

#[test]
fn without_the_catalog_store_the_catalog_comes_back_from_the_log() {
    for orderly in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        stopped_with_rows(&data, orderly);
        let mut removed = 0;
        for entry in fs::read_dir(&data).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_dir() && ["meta", "catalog", "sled"].iter().any(|n| name.contains(n)) {
                fs::remove_dir_all(&path).expect("removable");
                removed += 1;
            }
        }
        assert_eq!(removed, 1, "the catalog store is one directory");
        let server = Server::start(&data, 3);
        let mut session = server.connect();
        assert_eq!(session.value("SELECT s FROM v").expect("the view is there"), "210");
        session.exec("INSERT INTO t VALUES (21, 21)");
        assert_eq!(session.value("SELECT s FROM v").expect("and kept fresh"), "231");
        check_views(&mut session).expect("views equal their queries");
    }
}

/// Values of a sequence that were handed out never come again, and altered tables come back as they were.
#[test]
fn sequences_and_altered_tables_survive_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let mut server = Server::start(&data, 2);
    server.connect().exec(
        "CREATE TABLE t (id serial PRIMARY KEY, a int);
         CREATE SEQUENCE s INCREMENT BY 7;
         CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(a) AS s FROM t;
         INSERT INTO t (a) VALUES (1), (2);",
    );
    let number = |session: &mut Wire, sql: &str| -> i64 {
        session.value(sql).expect("a value").parse().expect("a number")
    };
    let mut random = Random::new(11);
    let (mut last_id, mut last_value) = (2, 0);
    for round in 0..6 {
        let mut session = server.connect();
        for _ in 0..random.below(60) {
            let id = number(&mut session, "INSERT INTO t (a) VALUES (5) RETURNING id");
            let value = number(&mut session, "SELECT nextval('s')");
            assert!(id > last_id && value > last_value, "round {round}: {id} {value}");
            (last_id, last_value) = (id, value);
        }
        session.exec(&format!("ALTER TABLE t ADD COLUMN c{round} int DEFAULT {round}"));
        if round > 1 {
            session.exec(&format!("ALTER TABLE t DROP COLUMN c{}", round - 2));
        }
        session.exec("UPDATE t SET a = a + 1 WHERE id = 1");
        session.exec("CREATE TEMP TABLE mine (a int); INSERT INTO mine VALUES (1)");
        let rows = session.rows("SELECT * FROM t ORDER BY id").expect("rows");
        let view = session.rows("SELECT * FROM v").expect("rows");
        server.kill();
        server = Server::start(&data, 1 + round % 3);
        let mut session = server.connect();
        assert_eq!(session.rows("SELECT * FROM t ORDER BY id").expect("rows"), rows, "round {round}");
        assert_eq!(session.rows("SELECT * FROM v").expect("rows"), view, "round {round}");
        assert!(session.rows("SELECT * FROM mine").is_err(), "temporary tables go with their session");
        check_views(&mut session).expect("views equal their queries");
    }
    // An orderly end skips nothing.
    let value = number(&mut server.connect(), "SELECT nextval('s')");
    server.terminate();
    let server = Server::start(&data, 2);
    assert_eq!(number(&mut server.connect(), "SELECT nextval('s')"), value + 7);
}
