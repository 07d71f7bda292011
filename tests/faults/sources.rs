//! Files of sources that are half-written, unreadable, broken or still growing: the good records are read, the bad ones
//! are shown, and nothing else stops.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::Fresh;
use crate::common::wire::Wire;
use crate::common::{check_views, eventually};

/// Waits until a query gives this value.
fn becomes(session: &mut Wire, query: &str, wanted: &str) {
    eventually(Duration::from_secs(30), || {
        let value = session.value(query).map_err(|e| format!("{query}: {e}"))?;
        if value == wanted { Ok(()) } else { Err(format!("{query}: {value} instead of {wanted}")) }
    });
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().create(true).append(true).open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}

#[test]
fn a_growing_directory_is_read_as_it_grows_and_again_after_a_restart() {
    let mut fresh = Fresh::start(&[]);
    let dir = fresh.directory.path().join("in");
    fs::create_dir_all(&dir).expect("a directory");
    append(&dir.join("a.csv"), "1,one\n2,tw");
    let mut session = fresh.server.connect();
    session.exec(&format!(
        "CREATE SOURCE s (k int, x text) WITH (connector = 'file', path = '{}', follow = true, poll.interval = '100ms') \
         FORMAT PLAIN ENCODE CSV",
        dir.display()
    ));
    session.exec("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(k) AS total, max(x) AS m FROM s");
    // Half a line is no line yet.
    becomes(&mut session, "SELECT n FROM v", "1");
    append(&dir.join("a.csv"), "o\n");
    becomes(&mut session, "SELECT n || ' ' || total FROM v", "2 3");
    append(&dir.join("b.csv"), "3,three\nnonsense,four\n5,five\n6,six");
    becomes(&mut session, "SELECT n || ' ' || total FROM v", "4 11");
    becomes(&mut session, "SELECT count(*) FROM s$errors", "1");
    check_views(&mut session).expect("views equal their queries");
    fresh.server.kill();
    append(&dir.join("b.csv"), "\n7,seven\n");
    fresh.server = crate::common::Server::start(&fresh.data(), 1);
    let mut session = fresh.server.connect();
    becomes(&mut session, "SELECT n || ' ' || total FROM v", "6 24");
    becomes(&mut session, "SELECT count(*) FROM s$errors", "1");
    check_views(&mut session).expect("views equal their queries");
    fresh.is_well();
}

#[test]
fn broken_files_stop_nothing_but_themselves() {
    let fresh = Fresh::start(&[]);
    let dir = fresh.directory.path().join("in");
    fs::create_dir_all(&dir).expect("a directory");
    fs::write(dir.join("a.jsonl"), "{\"k\": 1}\n{\"k\": \n\u{0}\n{\"k\": 99999999999}\n[1]\n{\"k\": 2}\n")
        .expect("written");
    fs::write(dir.join("b.jsonl"), b"{\"k\": 3}\n\xff\xfe\n{\"k\": 4}\n").expect("written");
    // Neither compressed nor Parquet, whatever their names say; a directory; a line without end.
    fs::write(dir.join("c.jsonl.gz"), "not compressed").expect("written");
    fs::create_dir_all(dir.join("d.jsonl")).expect("a directory");
    fs::write(dir.join("e.jsonl"), "x".repeat(5 << 20)).expect("written");
    fs::write(dir.join("f.jsonl"), "{\"k\": 5}\n").expect("written");
    let mut session = fresh.server.connect();
    session.exec(&format!(
        "CREATE SOURCE s (k int) WITH (connector = 'file', path = '{}/*', follow = true, poll.interval = '100ms') \
         FORMAT PLAIN ENCODE JSON",
        dir.display()
    ));
    session.exec("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, sum(k) AS total FROM s");
    becomes(&mut session, "SELECT n || ' ' || total FROM v", "5 15");
    let errors: u64 =
        session.value("SELECT count(*) FROM s$errors").expect("a number").parse().expect("a number");
    assert!(errors >= 5, "{errors} bad records");
    fresh.is_well();
}

#[test]
fn sources_that_cannot_be_read_say_why_and_hold_nobody_up() {
    let fresh = Fresh::start(&[]);
    let mut session = fresh.server.connect();
    let missing = fresh.directory.path().join("missing.csv");
    for path in [missing.display().to_string(), "/proc/self/mem".into(), "/dev/zero".into()] {
        // Refused, or created and then shown to have failed: either way the server goes on.
        let sql = format!(
            "CREATE SOURCE s (k int) WITH (connector = 'file', path = '{path}') FORMAT PLAIN ENCODE CSV"
        );
        if session.run(&sql).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
            let started = std::time::Instant::now();
            session.exec("DROP SOURCE s");
            assert!(started.elapsed() < Duration::from_secs(5), "{path}");
        }
    }
    // A file that is taken away and comes back.
    let path = fresh.directory.path().join("comes.csv");
    append(&path, "1\n");
    session.exec(&format!(
        "CREATE SOURCE s (k int) WITH (connector = 'file', path = '{}', follow = true, poll.interval = '100ms') \
         FORMAT PLAIN ENCODE CSV",
        path.display()
    ));
    becomes(&mut session, "SELECT count(*) FROM s", "1");
    append(&path, "2\n");
    becomes(&mut session, "SELECT count(*) FROM s", "2");
    fresh.is_well();
}
