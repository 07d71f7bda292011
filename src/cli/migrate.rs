//! `freshet migrate`: numbered SQL files, each applied once, in order, as one transaction.
//!
//! Applied files are recorded in the table `freshet_migrations` in the same transaction, with a checksum: a file
//! that was changed, removed or slipped in before an applied one is refused before anything is done.
//! Boundary: speaks to the server as any client does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::{client, say};
use crate::error::{Error, ErrorKind, Result};
use crate::sql;
use crate::sql::statement::Statement;

const CREATE_HISTORY: &str = "CREATE TABLE freshet_migrations (
  version    INT PRIMARY KEY,
  name       TEXT NOT NULL,
  checksum   TEXT NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL
)";

/// A numbered SQL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i32,
    /// The file's name.
    pub name: String,
    /// Its statements.
    pub sql: String,
    /// SHA-256 of the file, in hex.
    pub checksum: String,
}

impl Migration {
    /// A migration from a file's name and contents; the name's leading digits are its number.
    pub fn new(name: &str, sql: &str) -> Result<Migration> {
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        let rest = name[digits.len()..].strip_suffix(".sql");
        let version = digits.parse().ok().filter(|_| rest.is_some_and(|r| r.len() > 1 && r.starts_with('_')));
        let Some(version) = version else {
            return Err(Error::new(
                ErrorKind::InvalidName,
                format!("\"{name}\" is not the name of a migration"),
            )
            .with_hint("Migrations are named with a number, an underscore and a name: 001_tables.sql."));
        };
        let checksum = Sha256::digest(sql.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Migration { version, name: name.into(), sql: sql.into(), checksum })
    }

    /// The same migration with other text: the checksum stays that of the file.
    pub(super) fn with_sql(self, sql: String) -> Migration {
        Migration { sql, ..self }
    }

    /// An error of this file, with the line if the error has a position.
    fn locate(&self, e: Error) -> Error {
        let line = e
            .position()
            .map(|p| self.sql.chars().take(p.saturating_sub(1)).filter(|c| *c == '\n').count() + 1)
            .map_or_else(String::new, |line| format!(":{line}"));
        let mut located = Error::new(e.kind(), format!("{}{line}: {}", self.name, e.message()));
        if let Some(detail) = e.detail() {
            located = located.with_detail(detail);
        }
        if let Some(hint) = e.hint() {
            located = located.with_hint(hint);
        }
        located
    }

    /// Refuses what does not parse and what would end the transaction around the file.
    fn verify(&self) -> Result<()> {
        for parsed in sql::parse(&self.sql).map_err(|e| self.locate(e))? {
            let what = match parsed.statement {
                Statement::Begin { .. } | Statement::Commit { .. } | Statement::Rollback { .. } => {
                    parsed.statement.tag()
                }
                _ => continue,
            };
            let e = Error::new(ErrorKind::ActiveTransaction, format!("{what} in a migration"))
                .with_position(parsed.offset + 1)
                .with_hint("Each file is one transaction of its own; leave BEGIN, COMMIT and ROLLBACK out.");
            return Err(self.locate(e));
        }
        Ok(())
    }
}

/// The migrations of a directory, in order. Files that do not end in `.sql` are left alone.
pub fn read_directory(dir: &Path) -> Result<Vec<Migration>> {
    let entries = std::fs::read_dir(dir).map_err(|e| {
        Error::new(ErrorKind::Io, format!("could not read directory \"{}\": {e}", dir.display()))
            .with_source(e)
    })?;
    let mut migrations: BTreeMap<i32, Migration> = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        if !name.ends_with(".sql") || path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|e| {
            Error::new(ErrorKind::Io, format!("could not read \"{}\": {e}", path.display())).with_source(e)
        })?;
        let migration = Migration::new(name, &text)?;
        if let Some(other) = migrations.get(&migration.version) {
            let (a, b) = (other.name.as_str().min(name), other.name.as_str().max(name));
            return Err(Error::new(ErrorKind::DuplicateObject, format!("{a} and {b} have the same number")));
        }
        migrations.insert(migration.version, migration);
    }
    if migrations.is_empty() {
        return Err(Error::new(
            ErrorKind::UndefinedObject,
            format!("there are no migrations in \"{}\"", dir.display()),
        )
        .with_hint("Migrations are files named 001_tables.sql, 002_views.sql and so on."));
    }
    Ok(migrations.into_values().collect())
}

/// What a server has applied: version to name and checksum.
type History = BTreeMap<i32, (String, String)>;

async fn history(client: &Client) -> Result<History> {
    let read = || async {
        let rows = client.query("SELECT version, name, checksum FROM freshet_migrations", &[]).await;
        rows.map_err(|e| client::error(&e))
    };
    let rows = match read().await {
        // The first time: read again what somebody else may have recorded at the same moment.
        Err(e) if e.kind() == ErrorKind::UndefinedTable => {
            match client::execute(client, CREATE_HISTORY).await {
                Err(e) if e.kind() != ErrorKind::DuplicateTable => return Err(e),
                _ => read().await?,
            }
        }
        rows => rows?,
    };
    let mut history = History::new();
    for row in rows {
        let get = |i| row.try_get::<_, String>(i).map_err(|e| client::error(&e));
        let version = row.try_get::<_, i32>(0).map_err(|e| client::error(&e))?;
        history.insert(version, (get(1)?, get(2)?));
    }
    Ok(history)
}

/// The migrations that are still to be applied; refuses when the files and the history do not fit together.
fn pending<'a>(migrations: &'a [Migration], history: &History) -> Result<Vec<&'a Migration>> {
    for (version, (name, checksum)) in history {
        match migrations.iter().find(|m| m.version == *version) {
            None => {
                return Err(Error::new(
                    ErrorKind::UndefinedObject,
                    format!("migration {name} was applied, but its file is missing"),
                )
                .with_hint("Put the file back; to undo what it did, write a new one."));
            }
            Some(m) if m.checksum != *checksum => {
                return Err(Error::new(
                    ErrorKind::ObjectNotInState,
                    format!("migration {} was changed after it was applied", m.name),
                )
                .with_detail(format!("Its checksum was {checksum} and is now {}.", m.checksum))
                .with_hint("Put the applied text back and write the change into a new file."));
            }
            Some(_) => {}
        }
    }
    let newest = history.last_key_value();
    let pending: Vec<&Migration> = migrations.iter().filter(|m| !history.contains_key(&m.version)).collect();
    if let (Some((newest, (name, _))), Some(first)) = (newest, pending.first())
        && first.version < *newest
    {
        return Err(Error::new(
            ErrorKind::ObjectNotInState,
            format!("migration {} comes before {name}, which was already applied", first.name),
        )
        .with_hint(format!("Give it a number above {newest}.")));
    }
    Ok(pending)
}

async fn apply_one(client: &Client, migration: &Migration) -> Result<()> {
    client::execute(client, "BEGIN").await?;
    let work = async {
        client::execute(client, &migration.sql).await?;
        client
            .execute(
                "INSERT INTO freshet_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, now())",
                &[&migration.version, &migration.name, &migration.checksum],
            )
            .await
            .map_err(|e| client::error(&e))?;
        client::execute(client, "COMMIT").await
    };
    if let Err(e) = work.await {
        // The transaction has failed already; this only ends it, and a lost connection ends it too.
        let _ = client::execute(client, "ROLLBACK").await;
        return Err(migration.locate(e));
    }
    Ok(())
}

/// Applies what is not applied yet, and returns how many that were.
pub(super) async fn apply(
    client: &Client,
    migrations: &[Migration],
    mut progress: impl FnMut(&Migration, std::time::Duration) -> Result<()>,
) -> Result<usize> {
    let history = history(client).await?;
    let pending = pending(migrations, &history)?;
    for migration in &pending {
        migration.verify()?;
    }
    for migration in &pending {
        let start = Instant::now();
        apply_one(client, migration).await?;
        progress(migration, start.elapsed())?;
    }
    Ok(pending.len())
}

/// The command.
pub async fn run(dir: &Path, url: &str) -> Result<()> {
    let migrations = read_directory(dir)?;
    let client = client::connect(url, "freshet migrate", true).await?;
    let applied =
        apply(&client, &migrations, |m, took| say(&format!("applied {} ({} ms)", m.name, took.as_millis())))
            .await?;
    say(&format!(
        "{} migrations: {applied} applied now, {} before",
        migrations.len(),
        migrations.len() - applied
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, sql: &str) -> Migration {
        Migration::new(name, sql).expect("a migration")
    }

    fn applied(migrations: &[Migration]) -> History {
        migrations.iter().map(|m| (m.version, (m.name.clone(), m.checksum.clone()))).collect()
    }

    #[test]
    fn names_are_a_number_and_a_name() {
        assert_eq!(migration("010_a.sql", "").version, 10);
        for name in ["a.sql", "_a.sql", "1.sql", "1_.sql", "1_a.txt", "99999999999_a.sql", "1-a.sql"] {
            assert!(Migration::new(name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn the_directory_is_read_in_order_of_numbers_and_numbers_are_there_once() {
        let dir = tempfile::tempdir().expect("dir");
        for name in ["10_c.sql", "2_b.sql", "001_a.sql", "notes.txt"] {
            std::fs::write(dir.path().join(name), "SELECT 1").expect("write");
        }
        let names: Vec<String> =
            read_directory(dir.path()).expect("read").into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["001_a.sql", "2_b.sql", "10_c.sql"]);
        std::fs::write(dir.path().join("02_other.sql"), "").expect("write");
        let e = read_directory(dir.path()).expect_err("twice");
        assert_eq!(e.message(), "02_other.sql and 2_b.sql have the same number");
        assert!(read_directory(&dir.path().join("missing")).is_err());
        assert!(read_directory(tempfile::tempdir().expect("dir").path()).is_err());
    }

    #[test]
    fn only_what_is_new_is_applied() {
        let all = [migration("1_a.sql", "SELECT 1"), migration("2_b.sql", "SELECT 2")];
        assert_eq!(pending(&all, &History::new()).expect("all").len(), 2);
        assert_eq!(pending(&all, &applied(&all[..1])).expect("one"), [&all[1]]);
        assert!(pending(&all, &applied(&all)).expect("none").is_empty());
    }

    #[test]
    fn files_that_do_not_fit_the_history_are_refused() {
        let (a, b) = (migration("1_a.sql", "SELECT 1"), migration("2_b.sql", "SELECT 2"));
        let changed = migration("1_a.sql", "SELECT 3");
        let refused = |files: &[Migration], history: &[Migration]| {
            pending(files, &applied(history)).expect_err("refused").message().to_string()
        };
        let both = [a.clone(), b.clone()];
        assert_eq!(
            refused(&[changed], std::slice::from_ref(&a)),
            "migration 1_a.sql was changed after it was applied"
        );
        assert_eq!(
            refused(std::slice::from_ref(&b), &[a]),
            "migration 1_a.sql was applied, but its file is missing"
        );
        assert_eq!(refused(&both, &[b]), "migration 1_a.sql comes before 2_b.sql, which was already applied");
    }

    #[test]
    fn a_migration_cannot_end_its_transaction_and_errors_name_file_and_line() {
        let e = migration("1_a.sql", "SELECT 1;\n\nCOMMIT;").verify().expect_err("refused");
        assert_eq!(e.message(), "1_a.sql:3: COMMIT in a migration");
        let e = migration("1_a.sql", "SELECT 1;\nSELEKT 2").verify().expect_err("refused");
        assert!(e.message().starts_with("1_a.sql:2: "), "{e:?}");
        migration("1_a.sql", "CREATE TABLE t (a INT); SAVEPOINT s;").verify().expect("fine");
    }
}
