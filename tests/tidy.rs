//! The house rules, checked: layers (a module imports only from lower rows, never from its own), a module doc in
//! every file, one owner for each outside crate that must not spread, one place that reads the wall clock, no
//! leftover markers, no paths of somebody's machine. Long files and functions are printed for a human to judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. Modules of one row do not know each other.
const ROWS: &[&[&str]] = &[
    &["error"],
    &["config", "time"],
    &["types"],
    &["zset"],
    &["expr", "storage"],
    &["catalog", "store"],
    &["connector", "operator", "plan"],
    &["dataflow", "read", "sql"],
    &["coord"],
    &["http", "pgwire"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Crates that only these parts may name.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled", &["storage/meta"]),
    ("parquet", &["connector", "storage"]),
    ("sqlparser", &["sql"]),
    ("axum", &["http"]),
    ("clap", &["config", "cli", "main"]),
];

const LONG_FILE: usize = 800;
const LONG_FUNCTION: usize = 70;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files_under(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    found.sort();
}

/// A source file: its path below `src/` without the extension, and its text.
struct Source {
    name: String,
    text: String,
}

impl Source {
    fn all() -> Vec<Source> {
        let root = repository().join("src");
        let mut paths = Vec::new();
        files_under(&root, &["rs"], &mut paths);
        assert!(paths.len() > 10, "the sources are not where they should be");
        paths
            .into_iter()
            .map(|p| {
                let name = p.strip_prefix(&root).expect("under src").with_extension("");
                Source {
                    name: name.display().to_string().replace('\\', "/"),
                    text: fs::read_to_string(&p).expect("readable"),
                }
            })
            .collect()
    }

    /// The top-level module it belongs to.
    fn module(&self) -> &str {
        self.name.split('/').next().unwrap_or(&self.name)
    }

    fn is_test(&self) -> bool {
        let last = self.name.rsplit('/').next().unwrap_or("");
        last == "tests" || last == "testing" || last.ends_with("_tests") || self.name.contains("/tests/")
    }

    /// Lines of code with their numbers: no comments, no text of string literals, nothing from the unit tests on.
    fn code(&self) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        let mut all = self.text.lines().zip(1..).peekable();
        while let Some((line, number)) = all.next() {
            let next_is_module = all.peek().is_some_and(|(l, _)| l.trim_start().contains("mod "));
            if line.trim() == "#[cfg(test)]" && next_is_module {
                if all.peek().is_some_and(|(l, _)| l.trim_end().ends_with('{')) {
                    break;
                }
                all.next();
                continue;
            }
            lines.push((number, bare(line)));
        }
        lines
    }
}

/// A line without its comment and without the insides of its strings.
fn bare(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => drop(chars.next()),
            '"' => {
                in_string = !in_string;
                out.push(c);
            }
            _ if in_string => {}
            '/' if chars.peek() == Some(&'/') => break,
            _ => out.push(c),
        }
    }
    out
}

/// The word at the beginning of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// The modules that code names after `crate::`, also in `use crate::{a, b::c}`.
fn named_modules(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + root.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest).to_string());
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    start = false;
                    found.insert(word(&group[i..]).to_string());
                }
                _ => {}
            }
        }
    }
    found
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

fn report(what: &str, problems: &[String]) {
    assert!(problems.is_empty(), "{what}:\n  {}", problems.join("\n  "));
}

#[test]
fn modules_import_only_from_lower_layers() {
    let mut problems = Vec::new();
    for source in Source::all().iter().filter(|s| !s.is_test() && s.name != "lib") {
        let module = source.module();
        let Some(own) = row_of(module) else {
            problems.push(format!("{}: module {module} has no row in tests/tidy.rs", source.name));
            continue;
        };
        let code: String = source.code().into_iter().map(|(_, l)| l + "\n").collect();
        let mut named = named_modules(&code, "crate::");
        named.extend(named_modules(&code, "freshet::"));
        for other in named.iter().filter(|o| *o != module) {
            match row_of(other) {
                Some(row) if row < own => {}
                Some(row) if row == own => {
                    problems.push(format!("{}: {module} and {other} are of one row", source.name));
                }
                Some(_) => problems.push(format!("{}: {module} must not know {other}", source.name)),
                // A macro or an item of the crate's root.
                None => {}
            }
        }
    }
    report("imports against the layers", &problems);
}

#[test]
fn every_file_begins_with_its_module_doc() {
    let mut problems = Vec::new();
    for source in Source::all() {
        if !source.text.trim_start().starts_with("//!") {
            problems.push(format!("src/{}.rs", source.name));
        }
    }
    for dir in ["tests", "benches"] {
        let mut paths = Vec::new();
        files_under(&repository().join(dir), &["rs"], &mut paths);
        for path in paths {
            if !fs::read_to_string(&path).expect("readable").trim_start().starts_with("//!") {
                problems.push(path.display().to_string());
            }
        }
    }
    report("files without a module doc", &problems);
}

#[test]
fn outside_crates_have_one_owner() {
    let mut problems = Vec::new();
    for source in Source::all() {
        for (number, line) in source.code() {
            for (name, owners) in OWNERS {
                let owned =
                    owners.iter().any(|o| source.name == *o || source.name.starts_with(&format!("{o}/")));
                if !owned && names_crate(&line, name) {
                    problems.push(format!(
                        "src/{}.rs:{number} names {name}, which only {owners:?} may",
                        source.name
                    ));
                }
            }
            let foreign = ["api", "messages", "error", "tokio", "types"];
            let names_pgwire = line.match_indices("pgwire::").any(|(at, _)| {
                let free = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                free && foreign.contains(&word(&line[at + "pgwire::".len()..]))
            });
            if names_pgwire && source.module() != "pgwire" {
                problems.push(format!("src/{}.rs:{number} names the pgwire crate", source.name));
            }
        }
    }
    report("outside crates outside their owner", &problems);
}

fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = &line[..at];
        let free = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        // `datafusion::sql::sqlparser::…` is the crate too, `crate::sql::…` is not.
        free && line[at + name.len()..].starts_with("::") && !before.ends_with("crate::")
    })
}

#[test]
fn only_time_reads_the_wall_clock() {
    let mut problems = Vec::new();
    for source in Source::all().iter().filter(|s| !s.is_test()) {
        for (number, line) in source.code() {
            let wall = ["SystemTime::now", "Utc::now", "Local::now"].iter().any(|w| line.contains(w));
            let pure = ["operator", "zset", "expr", "plan"].contains(&source.module());
            if (wall && source.module() != "time") || (pure && line.contains("Instant::now")) {
                problems.push(format!("src/{}.rs:{number}: {}", source.name, line.trim()));
            }
        }
    }
    report("clocks read outside time", &problems);
}

#[test]
fn no_leftover_markers() {
    let mut problems = Vec::new();
    let markers = ["todo!", "unimplemented!", "dbg!"];
    let words = ["TODO", "FIXME", "XXX:"];
    for source in Source::all() {
        for (line, number) in source.text.lines().zip(1..) {
            let code = bare(line);
            if markers.iter().any(|m| code.contains(m)) || words.iter().any(|w| line.contains(w)) {
                problems.push(format!("src/{}.rs:{number}: {}", source.name, line.trim()));
            }
        }
    }
    report("leftover markers", &problems);
}

#[test]
fn nothing_names_somebody_s_machine() {
    let mut paths = Vec::new();
    let extensions = ["rs", "sql", "slt", "md", "toml", "sh", "py", "csv", "yml"];
    for dir in ["src", "tests", "benches", "sql", "sqllogictest", "docs"] {
        files_under(&repository().join(dir), &extensions, &mut paths);
    }
    let mut problems = Vec::new();
    paths.extend(["README.md", "Cargo.toml", ".ci/run"].map(|f| repository().join(f)));
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (line, number) in text.lines().zip(1..) {
            if machine.iter().any(|m| line.contains(m)) {
                problems.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    report("paths of a machine", &problems);
}

#[test]
fn long_files_and_functions_are_printed() {
    let mut long = Vec::new();
    for source in Source::all().iter().filter(|s| !s.is_test()) {
        let lines: Vec<&str> = source.text.lines().collect();
        if lines.len() > LONG_FILE {
            long.push(format!("src/{}.rs has {} lines", source.name, lines.len()));
        }
        for (i, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let is_function = line.trim_start().split(' ').take(4).any(|w| w == "fn");
            if !is_function || line.trim_start().starts_with("//") || line.trim_end().ends_with([';', '}']) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = lines[i..].iter().position(|l| *l == end).map_or(0, |n| n + 1);
            if length > LONG_FUNCTION {
                long.push(format!("src/{}.rs:{} has a function of {length} lines", source.name, i + 1));
            }
        }
    }
    println!("{}", long.join("\n"));
}
