//! Damaged data directories: refused by naming the file, or repaired; never a panic, never wrong rows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{BINARY, Random, Server, check_views};
use crate::no_panic;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// A directory with tables, views and several log segments.
fn filled(dir: &Path) {
    let mut server = Server::start(dir, 2);
    let mut session = server.connect();
    session.exec("CREATE TABLE t (id int PRIMARY KEY, k int, x text)");
    session.exec("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, max(x) AS m FROM t GROUP BY k");
    for i in 0..60 {
        session.exec(&format!(
            "INSERT INTO t SELECT {i} * 100 + j, j % 7, repeat('x', j % 50) FROM generate_series(1, 100) j"
        ));
        session.exec(&format!(
            "DELETE FROM t WHERE id = {i} * 100 + 5; UPDATE t SET k = k + 1 WHERE id = {i} * 100 + 9"
        ));
    }
    server.terminate();
}

fn check(dir: &Path) -> (bool, String) {
    let out = Command::new(BINARY).arg("check").arg(dir).output().expect("freshet check runs");
    let text = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    assert!(!text.contains("panicked"), "{text}");
    (out.status.success(), text)
}

#[test]
fn flipped_bits_are_refused_by_name_or_repaired() {
    let place = tempfile::tempdir().expect("a directory");
    let whole = place.path().join("whole");
    filled(&whole);
    let (good, text) = check(&whole);
    assert!(good, "{text}");
    let expected = {
        let server = Server::start(&whole, 1);
        server.connect().rows("SELECT k, n, m FROM v ORDER BY k").expect("rows")
    };
    let names: Vec<PathBuf> =
        files(&whole).iter().map(|p| p.strip_prefix(&whole).expect("within").to_path_buf()).collect();
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let name = &names[seed as usize % names.len()];
        let dir = place.path().join(format!("flipped{seed}"));
        copy(&whole, &dir);
        let path = dir.join(name);
        let mut bytes = fs::read(&path).expect("a file");
        if bytes.is_empty() {
            continue;
        }
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend((0..random.below(100)).map(|b| b as u8)),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        fs::write(&path, bytes).expect("written");
        let what = format!("seed {seed}: {} at {at}", name.display());
        let (_, text) = check(&dir);
        match Server::try_start(&dir, 1, &[]) {
            Err(said) => {
                assert!(!said.contains("panicked"), "{what}: {said}");
                let file = name.file_name().expect("a name").to_string_lossy();
                assert!(said.contains(&*file), "{what}: the file is not named: {said}\ncheck: {text}");
            }
            Ok(server) => {
                let mut session = server.connect();
                let rows = session.rows("SELECT k, n, m FROM v ORDER BY k").expect("rows");
                // Only the end of the log may be missing, and then views still equal their queries.
                if rows != expected {
                    assert!(name.starts_with("log"), "{what}: {rows:?} instead of {expected:?}");
                }
                check_views(&mut session).unwrap_or_else(|e| panic!("{what}: {e}"));
                no_panic(&server);
            }
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}

#[test]
fn missing_and_foreign_files_are_refused_or_ignored() {
    let place = tempfile::tempdir().expect("a directory");
    let whole = place.path().join("whole");
    filled(&whole);
    for name in files(&whole) {
        let name = name.strip_prefix(&whole).expect("within");
        let dir = place.path().join("missing");
        copy(&whole, &dir);
        fs::remove_file(dir.join(name)).expect("removed");
        check(&dir);
        match Server::try_start(&dir, 1, &[]) {
            Err(said) => assert!(!said.contains("panicked"), "{}: {said}", name.display()),
            Ok(server) => {
                server.connect().value("SELECT 1").expect("an answer");
                no_panic(&server);
            }
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
    // A directory of somebody else.
    let other = place.path().join("other");
    fs::create_dir_all(&other).expect("a directory");
    fs::write(other.join("letter.txt"), "dear").expect("written");
    let said = Server::try_start(&other, 1, &[]).err();
    assert!(said.is_none_or(|s| !s.contains("panicked")));
    assert_eq!(fs::read_to_string(other.join("letter.txt")).expect("still there"), "dear");
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("data");
    let server = Server::start(&dir, 1);
    let said = Server::try_start(&dir, 1, &[]).err().expect("a refusal");
    assert!(said.contains("in use by another server") && said.contains(&server.pid().to_string()), "{said}");
    assert_eq!(server.connect().value("SELECT 1").expect("an answer"), "1");
    drop(server);
    // The lock of a server that was killed holds nobody up.
    Server::start(&dir, 1);
}
