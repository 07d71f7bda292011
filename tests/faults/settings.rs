//! Every setting that says it has an effect has one: here is what was tested nowhere else, and a list of where the
//! others are.

use std::time::{Duration, Instant};

use freshet::config::{SETTINGS, Scope};

use crate::Fresh;
use crate::common::eventually;
use crate::common::wire::Wire;

/// Each setting with effect, and a file that has its test.
const TESTED: &[(&str, &str)] = &[
    ("pg_addr", "tests/common/mod.rs"),
    ("http_addr", "tests/common/mod.rs"),
    ("max_connections", "tests/faults/connections.rs"),
    ("max_message_size", "tests/faults/protocol.rs"),
    ("shutdown_timeout", "src/config/server.rs"),
    ("data_dir", "tests/common/mod.rs"),
    ("checkpoint_size", "src/coord/checkpoint.rs"),
    ("retention", "tests/faults/settings.rs"),
    ("workers", "tests/consistency.rs"),
    ("memory_limit", "tests/faults/settings.rs"),
    ("query_memory_limit", "tests/faults/limits.rs"),
    ("epoch_max_rows", "tests/faults/settings.rs"),
    ("epoch_max_bytes", "tests/faults/settings.rs"),
    ("log_level", "tests/faults/settings.rs"),
    ("search_path", "sqllogictest/ddl/schema.slt"),
    ("application_name", "sqllogictest/clients/settings.slt"),
    ("client_encoding", "sqllogictest/clients/settings.slt"),
    ("DateStyle", "sqllogictest/clients/session_settings.slt"),
    ("IntervalStyle", "sqllogictest/clients/session_settings.slt"),
    ("TimeZone", "sqllogictest/clients/settings.slt"),
    ("extra_float_digits", "sqllogictest/clients/settings.slt"),
    ("bytea_output", "sqllogictest/clients/session_settings.slt"),
    ("standard_conforming_strings", "sqllogictest/clients/settings.slt"),
    ("client_min_messages", "tests/faults/settings.rs"),
    ("statement_timeout", "tests/faults/stopping.rs"),
    ("lock_timeout", "tests/faults/statements.rs"),
    ("idle_in_transaction_session_timeout", "tests/faults/connections.rs"),
    ("idle_session_timeout", "tests/faults/connections.rs"),
    ("default_transaction_isolation", "sqllogictest/clients/session_settings.slt"),
    ("transaction_isolation", "sqllogictest/clients/session_settings.slt"),
    ("default_transaction_read_only", "sqllogictest/clients/session_settings.slt"),
    ("transaction_read_only", "sqllogictest/clients/session_settings.slt"),
    ("view_errors", "sqllogictest/errors/raise.slt"),
    ("subscribe_columns", "sqllogictest/subscribe/query.slt"),
    ("subscribe_buffer", "tests/faults/clients.rs"),
    ("background_ddl", "tests/faults/settings.rs"),
];

#[test]
fn every_setting_with_effect_is_tested_somewhere() {
    for setting in SETTINGS.iter().filter(|s| s.effective && s.scope != Scope::Fact) {
        let found = TESTED.iter().find(|(name, _)| *name == setting.name);
        let (name, file) = found.unwrap_or_else(|| panic!("where is {} tested?", setting.name));
        let path = crate::common::repository().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}")).to_lowercase();
        let (name, flag) = (name.to_lowercase(), name.to_lowercase().replace('_', "-"));
        assert!(text.contains(&name) || text.contains(&flag), "{file} says nothing of {name}");
    }
    for (name, _) in TESTED {
        assert!(SETTINGS.iter().any(|s| s.name == *name && s.effective), "{name} has no effect");
    }
}

/// Epochs that 2,000 rows of a source in batches of 10 make.
fn epochs(flags: &[&str]) -> u64 {
    let fresh = Fresh::start(flags);
    let mut session = fresh.server.connect();
    session.exec(
        "CREATE SOURCE s (n bigint, x text) WITH (connector = 'datagen', rows = 2000, batch.size = 10, \
         fields.n.kind = 'sequence', fields.n.start = 1, fields.x.length = 8000)",
    );
    eventually(Duration::from_secs(60), || {
        let rows = session.value("SELECT count(*) FROM s").map_err(|e| e.to_string())?;
        if rows == "2000" { Ok(()) } else { Err(format!("{rows} rows")) }
    });
    session.value("SELECT epochs_closed FROM freshet.epochs").expect("a number").parse().expect("a number")
}

#[test]
fn epoch_max_rows_and_epoch_max_bytes_bound_an_epoch() {
    // A batch of 10 rows is more than one row, and 80 kB are more than 64.
    assert!(epochs(&["--epoch-max-rows", "1"]) >= 200);
    assert!(epochs(&["--epoch-max-bytes", "64kB"]) >= 200);
}

#[test]
fn retention_says_how_long_past_states_can_be_read() {
    let fresh = Fresh::start(&["--retention", "3s"]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int)");
    session.exec("INSERT INTO t VALUES (1)");
    let then = session.value("SELECT epoch FROM freshet.epochs").expect("an epoch");
    let subscribe = format!("SUBSCRIBE t AS OF {then} UP TO {}", then.parse::<u64>().expect("a number") + 1);
    session.exec("INSERT INTO t VALUES (2)");
    let rows = session.rows(&subscribe).expect("within the retention");
    assert_eq!(rows.len(), 1, "{rows:?}");
    std::thread::sleep(Duration::from_secs(4));
    session.exec("INSERT INTO t VALUES (3); DELETE FROM t WHERE i = 1");
    session.exec("INSERT INTO t VALUES (4)");
    let e = session.run(&subscribe).expect_err("too long ago");
    assert_eq!(e.code(), "22023", "{e}");
}

#[test]
fn writes_and_views_beyond_memory_limit_are_refused() {
    let fresh = Fresh::start(&["--memory-limit", "20MB"]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int, x text)");
    let mut refused = None;
    for i in 0..100 {
        let insert = format!("INSERT INTO t SELECT {i}, repeat('x', 1000) FROM generate_series(1, 1000)");
        if let Err(e) = session.run(&insert) {
            refused = Some(e);
            break;
        }
    }
    let e = refused.expect("100 MB do not fit 20 MB");
    assert_eq!(e.code(), "53200", "{e}");
    assert!(
        session.value("SELECT count(*) FROM t").expect("reads go on").parse::<u64>().expect("a number") > 0
    );
    let e = session
        .run("CREATE MATERIALIZED VIEW v AS SELECT x, count(*) AS n FROM t GROUP BY x")
        .expect_err("a view");
    assert_eq!(e.code(), "53200", "{e}");
    // Room is made by deleting.
    session.exec("DELETE FROM t");
    eventually(Duration::from_secs(20), || {
        session.run("INSERT INTO t VALUES (1, 'small')").map(drop).map_err(|e| e.to_string())
    });
    fresh.is_well();
}

#[test]
fn background_ddl_answers_before_the_view_is_full() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    session.exec("CREATE TABLE t (i int, k int, x text)");
    session.exec("INSERT INTO t SELECT i, i / 20, 'x' || i FROM generate_series(1, 40000) i");
    session.exec("SET background_ddl = on");
    let started = Instant::now();
    session.exec(
        "CREATE MATERIALIZED VIEW v AS SELECT a.k, count(*) AS n, max(a.x || b.x) AS m FROM t a JOIN t b ON a.k = b.k GROUP BY a.k",
    );
    let answered = started.elapsed();
    eventually(Duration::from_secs(120), || {
        session.value("SELECT sum(n) FROM v").map_err(|e| e.to_string()).map(drop)
    });
    let full = started.elapsed();
    assert!(answered < full / 2, "answered after {answered:?}, full after {full:?}");
    crate::common::check_views(&mut session).expect("the view equals its query");
}

#[test]
fn log_level_says_what_is_logged() {
    let quiet = Fresh::start(&["--log-level", "error"]);
    let usual = Fresh::start(&[]);
    assert!(!quiet.server.log().contains("listening"), "{}", quiet.server.log());
    assert!(usual.server.log().contains("listening"), "{}", usual.server.log());
}

#[test]
fn client_min_messages_keeps_notices_back() {
    let fresh = Fresh::start(&[]);
    let notices = |session: &mut Wire, level: &str| {
        session.exec(&format!("SET client_min_messages = {level}"));
        session.notices.clear();
        session.exec("DROP TABLE IF EXISTS nosuch; COMMIT");
        session.notices.iter().map(|n| n.code().to_string()).collect::<Vec<_>>()
    };
    let mut session = fresh.server.connect();
    assert_eq!(notices(&mut session, "notice"), ["00000", "25P01"]);
    assert_eq!(notices(&mut session, "warning"), ["25P01"]);
    assert!(notices(&mut session, "error").is_empty());
}
