//! `freshet migrate` against the real server: each file once, in order, whole or not at all.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::Server;

fn migrate(dir: &Path, url: &str) -> Output {
    Command::new(common::BINARY).arg("migrate").arg(dir).args(["--url", url]).output().expect("freshet runs")
}

fn succeeds(dir: &Path, url: &str) -> String {
    let output = migrate(dir, url);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn fails(dir: &Path, url: &str) -> String {
    let output = migrate(dir, url);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}{err}", String::from_utf8_lossy(&output.stdout));
    err
}

const TABLES: &str = "CREATE TABLE orders (id INT PRIMARY KEY, amount INT NOT NULL);\n\
                      CREATE TABLE customers (id INT PRIMARY KEY);\n";
const VIEWS: &str =
    "CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, sum(amount) AS amount FROM orders;\n";

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a written file");
}

#[test]
fn files_are_applied_once_in_order_and_remembered_across_a_restart() {
    let top = tempfile::tempdir().expect("dir");
    let (data, files) = (top.path().join("data"), top.path().join("files"));
    std::fs::create_dir(&files).expect("dir");
    write(&files, "001_tables.sql", TABLES);
    write(&files, "002_views.sql", VIEWS);
    write(&files, "README.md", "not a migration");
    let mut server = Server::start(&data, 1);
    let out = succeeds(&files, &server.url);
    let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("{text} in {out}"));
    assert!(at("applied 001_tables.sql") < at("applied 002_views.sql"));
    assert!(out.contains("2 migrations: 2 applied now, 0 before"), "{out}");
    assert!(succeeds(&files, &server.url).contains("2 migrations: 0 applied now, 2 before"));
    server.connect().exec("INSERT INTO orders VALUES (1, 10), (2, 5)");

    assert!(server.terminate().success());
    let server = Server::start(&data, 2);
    write(&files, "010_more.sql", "INSERT INTO orders VALUES (3, 1);");
    assert!(succeeds(&files, &server.url).contains("3 migrations: 1 applied now, 2 before"));
    let mut session = server.connect();
    assert_eq!(session.value("SELECT amount FROM totals").expect("a value"), "16");
    let rows = session
        .rows("SELECT version, name, length(checksum), applied_at <= now() FROM freshet_migrations ORDER BY version")
        .expect("rows");
    let names: Vec<String> =
        rows.iter().map(|r| r.iter().flatten().cloned().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(names, ["1 001_tables.sql 64 t", "2 002_views.sql 64 t", "10 010_more.sql 64 t"]);
}

#[test]
fn a_failing_file_leaves_nothing_and_what_came_before_stays() {
    let top = tempfile::tempdir().expect("dir");
    let (data, files) = (top.path().join("data"), top.path().join("files"));
    std::fs::create_dir(&files).expect("dir");
    write(&files, "1_tables.sql", TABLES);
    write(
        &files,
        "2_broken.sql",
        "CREATE TABLE half (a INT);\nINSERT INTO orders VALUES (1, 1);\nINSERT INTO nowhere VALUES (1);\n",
    );
    let server = Server::start(&data, 1);
    let err = fails(&files, &server.url);
    assert!(err.starts_with("freshet: 2_broken.sql"), "{err}");
    assert!(err.contains("relation \"nowhere\" does not exist"), "{err}");
    let mut session = server.connect();
    assert_eq!(session.value("SELECT count(*) FROM orders").expect("the first file"), "0");
    assert_eq!(session.rows("SELECT * FROM half").expect_err("the second file").code(), "42P01");
    assert_eq!(session.value("SELECT count(*) FROM freshet_migrations").expect("a value"), "1");
    // Mended, it goes on where it stopped.
    write(&files, "2_broken.sql", "CREATE TABLE half (a INT);");
    assert!(succeeds(&files, &server.url).contains("2 migrations: 1 applied now, 1 before"));
}

#[test]
fn files_that_do_not_fit_what_was_applied_are_refused_before_anything_is_done() {
    let top = tempfile::tempdir().expect("dir");
    let (data, files) = (top.path().join("data"), top.path().join("files"));
    std::fs::create_dir(&files).expect("dir");
    write(&files, "001_tables.sql", TABLES);
    let server = Server::start(&data, 1);
    succeeds(&files, &server.url);

    write(&files, "001_tables.sql", &format!("{TABLES}-- a harmless comment\n"));
    write(&files, "002_views.sql", VIEWS);
    let err = fails(&files, &server.url);
    assert!(err.contains("migration 001_tables.sql was changed after it was applied"), "{err}");
    assert!(err.contains("HINT:"), "{err}");
    assert_eq!(server.connect().rows("SELECT * FROM totals").expect_err("not applied").code(), "42P01");

    write(&files, "001_tables.sql", TABLES);
    write(&files, "2_again.sql", "SELECT 1;");
    assert!(fails(&files, &server.url).contains("002_views.sql and 2_again.sql have the same number"));
    std::fs::remove_file(files.join("2_again.sql")).expect("removed");
    write(&files, "003_ends.sql", "SELECT 1;\nCOMMIT;");
    assert!(fails(&files, &server.url).contains("003_ends.sql:2: COMMIT in a migration"));
}

#[test]
fn a_missing_directory_and_a_missing_server_are_named() {
    let top = tempfile::tempdir().expect("dir");
    let err = fails(&top.path().join("nowhere"), "postgresql://127.0.0.1:1/freshet");
    assert!(err.contains("could not read directory") && err.contains("nowhere"), "{err}");
    assert!(fails(top.path(), "postgresql://127.0.0.1:1/freshet").contains("there are no migrations in"));
    write(top.path(), "1_a.sql", "SELECT 1;");
    let err = fails(top.path(), "postgresql://127.0.0.1:1/freshet");
    assert!(err.contains("could not reach a server at 127.0.0.1:1"), "{err}");
    assert!(fails(top.path(), "http://example").contains("invalid connection string"));
}
