//! The documents say what is so: their SQL is run, their tables come from the code, their links lead somewhere.
//!
//! In `README.md` and `docs/*.md`, blocks fenced as `sql` are run in order against a server of the document's own;
//! a block fenced as `sql error` must fail. A `text` block right after one must be what psql would print for it.

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use common::Server;
use common::wire::{Answer, Wire, WireError};

fn documents() -> Vec<PathBuf> {
    let root = common::repository();
    let mut files = vec![root.join("README.md")];
    let docs = std::fs::read_dir(root.join("docs")).expect("docs");
    files.extend(
        docs.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "md")),
    );
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A fenced block: its info string, its text, its line, and whether only blank lines are between it and the last.
struct Block {
    info: String,
    text: String,
    line: usize,
    follows: bool,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    let mut follows = false;
    for (i, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { info: info.trim().into(), text: String::new(), line: i + 1, follows });
            }
            (None, None) if !line.trim().is_empty() => follows = false,
            (None, None) => {}
            (Some(_), Some(_)) => {
                blocks.extend(open.take());
                follows = true;
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "an open block");
    blocks
}

/// Whether psql aligns a type to the right.
fn is_number(oid: u32) -> bool {
    [20, 21, 23, 26, 700, 701, 1700].contains(&oid)
}

/// An answer as psql prints it.
fn psql(answer: &Answer) -> String {
    let Some(columns) = &answer.columns else { return format!("{}\n", answer.tag) };
    let cell = |row: &[Option<String>], i: usize| row[i].clone().unwrap_or_default();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            let cells = answer.rows.iter().map(|r| cell(r, i).chars().count());
            cells.max().unwrap_or(0).max(name.chars().count())
        })
        .collect();
    let mut out = String::new();
    let names: Vec<String> =
        columns.iter().zip(&widths).map(|((name, _), w)| format!(" {name:^w$} ")).collect();
    let lines: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
    let _ = writeln!(out, "{}\n{}", names.join("|").trim_end(), lines.join("+"));
    for row in &answer.rows {
        let cells: Vec<String> = columns
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, ((_, oid), w))| {
                let text = cell(row, i);
                if is_number(*oid) { format!(" {text:>w$} ") } else { format!(" {text:<w$} ") }
            })
            .collect();
        let _ = writeln!(out, "{}", cells.join("|").trim_end());
    }
    let n = answer.rows.len();
    let _ = writeln!(out, "({n} row{})", if n == 1 { "" } else { "s" });
    // The rows of RETURNING are followed by what was done.
    if ["INSERT", "UPDATE", "DELETE"].iter().any(|t| answer.tag.starts_with(t)) {
        let _ = writeln!(out, "{}", answer.tag);
    }
    out
}

/// An error as psql prints it, without the line of the position.
fn psql_error(e: &WireError) -> String {
    let mut out = format!("ERROR:  {}\n", e.message());
    for (label, text) in [("DETAIL", e.detail()), ("HINT", e.hint())] {
        if let Some(text) = text {
            let _ = writeln!(out, "{label}:  {text}");
        }
    }
    out
}

/// Runs the statements of a block; what psql would print, up to and including the first error.
fn run(session: &mut Wire, sql: &str) -> (String, bool) {
    let statements = match freshet::sql::parse(sql) {
        Ok(statements) => statements.into_iter().map(|s| s.text).collect(),
        // The server says what is wrong with it.
        Err(_) => vec![sql.to_string()],
    };
    let mut out = String::new();
    for statement in statements {
        match session.run(&statement) {
            Ok(answers) => out.extend(answers.iter().map(psql)),
            Err(e) => {
                out.push_str(&psql_error(&e));
                return (out, false);
            }
        }
    }
    (out, true)
}

/// Lines without the space at their ends, which editors remove.
fn trimmed(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

#[test]
fn sql_in_the_documents_does_what_they_say() {
    let mut wrong = String::new();
    let mut ran = 0;
    for path in documents() {
        let text = read(&path);
        let blocks = blocks(&text);
        if !blocks.iter().any(|b| b.info.starts_with("sql")) {
            continue;
        }
        let dir = tempfile::tempdir().expect("dir");
        let server = Server::start(&dir.path().join("data"), 2);
        let mut session = server.connect();
        for (i, block) in blocks.iter().enumerate() {
            let expected_ok = match block.info.as_str() {
                "sql" => true,
                "sql error" => false,
                _ => continue,
            };
            ran += 1;
            let (out, ok) = run(&mut session, &block.text);
            let place = format!("{}:{}", path.display(), block.line);
            if ok != expected_ok {
                let _ = writeln!(wrong, "{place}: {}\n{out}", if ok { "should fail" } else { "fails" });
            }
            if !ok && session.status != b'I' {
                session.exec("ROLLBACK");
            }
            if let Some(next) = blocks.get(i + 1).filter(|b| b.follows && b.info == "text")
                && trimmed(&out) != trimmed(&next.text)
            {
                let _ = writeln!(wrong, "{place}: the server says\n{out}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(ran > 20, "only {ran} blocks of SQL were found");
}

#[test]
fn the_readme_has_the_table_of_settings() {
    let text = read(&common::repository().join("README.md"));
    let (begin, end) =
        ("<!-- settings: from freshet::config::markdown_table() -->\n", "<!-- end of settings -->");
    let from = text.find(begin).expect("the first marker") + begin.len();
    let to = from + text[from..].find(end).expect("the second marker");
    let table = freshet::config::markdown_table();
    assert!(
        text[from..to].trim() == table.trim(),
        "README.md should have this between the markers:\n{table}"
    );
}

#[test]
fn every_dependency_has_its_reason() {
    let root = common::repository();
    let manifest = read(&root.join("Cargo.toml"));
    let mut declared = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if inside && let Some((name, _)) = line.split_once('=') {
            declared.insert(name.trim().to_string());
        }
    }
    assert!(declared.len() > 20, "{declared:?}");
    let explained: BTreeSet<String> = read(&root.join("docs/dependencies.md"))
        .lines()
        .filter_map(|l| Some(l.strip_prefix("| `")?.split_once('`')?.0.to_string()))
        .collect();
    assert_eq!(declared, explained, "left: Cargo.toml, right: docs/dependencies.md");
}

#[test]
fn links_and_file_names_in_the_documents_lead_somewhere() {
    let root = common::repository();
    let mut wrong = Vec::new();
    for path in documents() {
        let text = read(&path);
        let dir = path.parent().expect("a directory");
        for (i, line) in text.lines().enumerate() {
            let place = format!("{}:{}", path.display(), i + 1);
            for part in line.split("](").skip(1) {
                let target = part.split(')').next().unwrap_or_default();
                let file = target.split('#').next().unwrap_or_default();
                if !target.contains("://") && !file.is_empty() && !dir.join(file).exists() {
                    wrong.push(format!("{place}: {target}"));
                }
            }
            for name in line.split('`').skip(1).step_by(2) {
                let is_file =
                    ["src/", "tests/", "docs/", "benches/", "sql/"].iter().any(|p| name.starts_with(p));
                if is_file && !name.contains(['*', '<', ' ', '…']) && !root.join(name).exists() {
                    wrong.push(format!("{place}: {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
