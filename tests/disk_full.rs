//! A full disk, played by a limit on the size of files: writes are refused with 53100, reads and sources go on, and
//! once there is space writes work again without a restart. Nothing acknowledged is lost.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Server, check_views, eventually};

/// Sets the greatest size of a file that the server may write, as a full disk would.
fn limit_files(server: &Server, limit: &str) {
    let status = Command::new("prlimit")
        .args([format!("--pid={}", server.pid()), format!("--fsize={limit}")])
        .status()
        .expect("prlimit (package util-linux) must be installed");
    assert!(status.success());
}

#[test]
fn writes_are_refused_while_the_disk_is_full_and_work_again_afterwards() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut server = Server::start(dir.path(), 2);
    let mut session = server.connect();
    session.exec("CREATE TABLE t (id int PRIMARY KEY, pad text)");
    session.exec("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, max(id) AS most FROM t");
    session.exec(
        "CREATE SOURCE s (n bigint) WITH (connector = 'datagen', rate = 200, \
         fields.n.kind = 'sequence', fields.n.start = 1)",
    );
    session.exec("CREATE MATERIALIZED VIEW sv AS SELECT count(*) AS n, max(n) AS most FROM s");
    limit_files(&server, "65536:");
    let mut acknowledged = 0;
    let refused = loop {
        let id = acknowledged + 1;
        match session.run(&format!("INSERT INTO t VALUES ({id}, repeat('x', 3000))")) {
            Ok(_) => acknowledged = id,
            Err(e) => break e,
        }
        assert!(acknowledged < 1000, "the limit was never reached");
    };
    assert_eq!(refused.code(), "53100", "{}", refused.message());
    let view = format!("{acknowledged} {acknowledged}");
    let shown = |session: &mut common::wire::Wire| {
        session.value("SELECT n || ' ' || most FROM v").expect("reads go on")
    };
    assert_eq!(shown(&mut session), view);
    let before: u64 = session.value("SELECT n FROM sv").expect("reads").parse().expect("a number");
    eventually(Duration::from_secs(20), || {
        let now: u64 = session.value("SELECT n FROM sv").expect("reads").parse().expect("a number");
        if now > before + 300 { Ok(()) } else { Err(format!("the source stands at {now}; {}", server.log())) }
    });
    limit_files(&server, "unlimited");
    acknowledged += 1;
    session.exec(&format!("INSERT INTO t VALUES ({acknowledged}, 'after')"));
    check_views(&mut session).expect("views equal their queries");
    server.kill();
    let mut server = Server::start(dir.path(), 1);
    let mut session = server.connect();
    assert_eq!(shown(&mut session), format!("{acknowledged} {acknowledged}"));
    // The source was read again without a gap or a double.
    let rows = session.rows("SELECT count(*), count(DISTINCT n), max(n) - min(n) + 1 FROM s").expect("reads");
    assert!(
        rows[0].iter().all(|n| *n == rows[0][0]),
        "rows, different rows, width of the sequence: {rows:?}"
    );
    check_views(&mut session).expect("views equal their queries");
    assert!(server.terminate().success());
}
