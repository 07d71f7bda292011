//! The settings of the server: flags over environment (`FRESHET_*`) over configuration file over defaults.
//!
//! Boundary: plain data. `ServerSettings` can be flattened into a clap command; its flags are made from the table
//! of settings, so a new row there is a new flag here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use clap::error::ErrorKind as ClapErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::table::{SETTINGS, find};
use super::value::canonical;
use super::{Kind, MemoryUnit, Scope, Setting, TimeUnit};
use crate::error::{Error, ErrorKind, Result};

/// The settings of the server, checked.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    values: BTreeMap<&'static str, String>,
    given: Vec<&'static str>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let values = flags().map(|s| (s.name, checked_default(s))).collect();
        ServerSettings { values, given: Vec::new() }
    }
}

fn flags() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|s| s.is_flag())
}

fn checked_default(s: &Setting) -> String {
    canonical(s, s.default).unwrap_or_else(|_| s.default.to_string())
}

impl ServerSettings {
    /// Sets one value, by the setting's name or its flag's (`pg_addr`, `pg-addr`).
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let setting = find(&name.replace('-', "_")).filter(|s| s.is_flag()).ok_or_else(|| {
            Error::new(ErrorKind::UndefinedObject, format!("unrecognized configuration parameter \"{name}\""))
        })?;
        self.values.insert(setting.name, canonical(setting, value)?);
        self.given.push(setting.name);
        Ok(())
    }

    /// Takes the lines `name = value` of a configuration file; `#` begins a comment, quotes around a value are optional.
    pub fn apply_file(&mut self, text: &str) -> Result<()> {
        for (i, line) in text.lines().enumerate() {
            let line = match line.split_once('#') {
                Some((before, _)) if !before.contains(['\'', '"']) => before.trim(),
                _ => line.trim(),
            };
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let in_line = |e: Error| {
                Error::new(e.kind(), e.message().to_string())
                    .with_detail(format!("In line {} of the configuration file.", i + 1))
            };
            let Some((name, value)) = line.split_once('=') else {
                return Err(in_line(Error::new(
                    ErrorKind::Syntax,
                    format!("syntax error in configuration file: \"{line}\""),
                )));
            };
            let value = value.trim();
            let value = ['\'', '"']
                .into_iter()
                .find_map(|q| value.strip_prefix(q).and_then(|v| v.strip_suffix(q)))
                .unwrap_or(value);
            self.set(name.trim(), value).map_err(in_line)?;
        }
        Ok(())
    }

    fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    fn int(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A memory setting in bytes.
    fn bytes(&self, name: &str) -> usize {
        let unit = match find(name).map(|s| s.kind) {
            Some(Kind::Memory { unit, .. }) => unit,
            _ => MemoryUnit::Bytes,
        };
        usize::try_from(self.int(name).saturating_mul(unit.bytes() as u64)).unwrap_or(usize::MAX)
    }

    /// A time setting.
    fn time(&self, name: &str) -> Duration {
        match find(name).map(|s| s.kind) {
            Some(Kind::Time { unit: TimeUnit::Seconds, .. }) => Duration::from_secs(self.int(name)),
            _ => Duration::from_millis(self.int(name)),
        }
    }

    /// Address for PostgreSQL clients.
    pub fn pg_addr(&self) -> &str {
        self.text("pg_addr")
    }
    /// Address for HTTP.
    pub fn http_addr(&self) -> &str {
        self.text("http_addr")
    }
    /// Sessions at a time.
    pub fn max_connections(&self) -> usize {
        self.int("max_connections") as usize
    }
    /// Greatest message taken from a client, in bytes.
    pub fn max_message_size(&self) -> usize {
        self.bytes("max_message_size")
    }
    /// How long running statements may go on after SIGTERM.
    pub fn shutdown_timeout(&self) -> Duration {
        self.time("shutdown_timeout")
    }
    /// Directory of everything that is kept.
    pub fn data_dir(&self) -> &Path {
        Path::new(self.text("data_dir"))
    }
    /// Size of the log after which a checkpoint shortens it, in bytes.
    pub fn checkpoint_size(&self) -> usize {
        self.bytes("checkpoint_size")
    }
    /// How long past states stay readable.
    pub fn retention(&self) -> Duration {
        self.time("retention")
    }
    /// Threads that maintain views: as set, or the number of cores.
    pub fn workers(&self) -> usize {
        match self.int("workers") {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n as usize,
        }
    }
    /// Memory for the state of views and tables, in bytes.
    pub fn memory_limit(&self) -> usize {
        self.bytes("memory_limit")
    }
    /// Memory for all running SELECT statements, in bytes.
    pub fn query_memory_limit(&self) -> usize {
        self.bytes("query_memory_limit")
    }
    /// Rows after which an epoch is closed although more are waiting.
    pub fn epoch_max_rows(&self) -> usize {
        self.int("epoch_max_rows") as usize
    }
    /// Bytes after which an epoch is closed although more are waiting.
    pub fn epoch_max_bytes(&self) -> usize {
        self.bytes("epoch_max_bytes")
    }
    /// What is written to standard error: error, warn, info, debug or trace.
    pub fn log_level(&self) -> &str {
        self.text("log_level")
    }

    /// Every server setting with its canonical value: what sessions of this server start from.
    pub(super) fn session_defaults(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.values
            .iter()
            .filter(|(n, _)| self.given.contains(n) || find(n).is_some_and(|s| s.scope == Scope::Server))
            .map(|(n, v)| (*n, v))
    }
}

/// The names of a setting's flag and environment variable. They are made once, because clap wants names that live
/// as long as the program.
fn names(s: &Setting) -> (&'static str, &'static str) {
    static NAMES: OnceLock<BTreeMap<&'static str, (String, String)>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        flags()
            .map(|s| {
                let flag = s.name.to_ascii_lowercase().replace('_', "-");
                (s.name, (flag, format!("FRESHET_{}", s.name.to_ascii_uppercase())))
            })
            .collect()
    });
    names.get(s.name).map_or((s.name, s.name), |(flag, env)| (flag, env))
}

impl Args for ServerSettings {
    fn augment_args(command: Command) -> Command {
        let command = command.arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .env("FRESHET_CONFIG")
                .value_parser(clap::value_parser!(PathBuf))
                .help("File of settings, one `name = value` per line"),
        );
        flags().fold(command, |command, s| {
            let (flag, env) = names(s);
            let default =
                if s.default.is_empty() { String::new() } else { format!(" [default: {}]", s.default) };
            command.arg(
                Arg::new(s.name)
                    .long(flag)
                    .value_name(match s.kind {
                        Kind::Int { .. } | Kind::Real => "N",
                        Kind::Memory { .. } => "SIZE",
                        Kind::Time { .. } => "TIME",
                        Kind::Text if s.name.ends_with("_addr") => "HOST:PORT",
                        Kind::Text if s.name.ends_with("_dir") => "DIR",
                        _ => "VALUE",
                    })
                    .env(env)
                    .help(format!("{}{default}", s.doc.trim_end_matches('.'))),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServerSettings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = ServerSettings::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let refuse = |what: String, e: &dyn std::fmt::Display| {
            clap::Error::raw(ClapErrorKind::ValueValidation, format!("{what}{e}\n"))
        };
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            let text =
                std::fs::read_to_string(path).map_err(|e| refuse(format!("{}: ", path.display()), &e))?;
            self.apply_file(&text).map_err(|e| {
                let detail = e.detail().map(|d| format!(" {d}")).unwrap_or_default();
                refuse(format!("{}: ", path.display()), &format!("{e}.{detail}"))
            })?;
        }
        for s in flags() {
            if let Some(value) = matches.get_one::<String>(s.name) {
                self.set(s.name, value).map_err(|e| refuse(String::new(), &e))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::SessionSettings;
    use super::*;

    fn parse(args: &[&str]) -> std::result::Result<ServerSettings, clap::Error> {
        let command = ServerSettings::augment_args(Command::new("serve").no_binary_name(true));
        ServerSettings::from_arg_matches(&command.try_get_matches_from(args)?)
    }

    #[test]
    fn the_defaults_are_those_of_the_table() {
        let s = parse(&[]).expect("defaults");
        assert_eq!((s.pg_addr(), s.http_addr()), ("127.0.0.1:4560", "127.0.0.1:4561"));
        assert_eq!(s.data_dir(), Path::new("./freshet-data"));
        assert_eq!(s.memory_limit(), 4 << 30);
        assert!(s.workers() >= 1);
        assert_eq!(s.shutdown_timeout(), Duration::from_secs(10));
    }

    #[test]
    fn flags_override_the_file() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(
            file.path(),
            "# comment\nworkers = 3\npg-addr = '0.0.0.0:1' \n\nmemory_limit = 1GB # half\n",
        )
        .expect("write");
        let path = file.path().to_string_lossy().to_string();
        let s = parse(&["--config", &path, "--workers", "5"]).expect("settings");
        assert_eq!((s.workers(), s.pg_addr(), s.memory_limit()), (5, "0.0.0.0:1", 1 << 30));
    }

    #[test]
    fn bad_values_name_the_setting() {
        let e = parse(&["--memory-limit", "much"]).expect_err("bad");
        assert!(e.to_string().contains("invalid value for parameter \"memory_limit\": \"much\""), "{e}");
        let mut s = ServerSettings::default();
        let e = s.apply_file("workers = 2\nnonsense = 1").expect_err("bad");
        assert_eq!(e.detail(), Some("In line 2 of the configuration file."));
        assert!(s.apply_file("just words").is_err());
    }

    #[test]
    fn sessions_start_from_the_server_s_defaults() {
        let s = parse(&["--statement-timeout", "30s", "--workers", "2"]).expect("settings");
        let mut session = SessionSettings::new(&s, "ann");
        assert_eq!(session.get("statement_timeout").expect("get"), "30s");
        assert_eq!(session.get("workers").expect("get"), "2");
        assert_eq!(session.get("session_authorization").expect("get"), "ann");
        session.set("statement_timeout", "0", false).expect("set");
        session.reset_all();
        assert_eq!(session.get("statement_timeout").expect("get"), "30s");
    }
}
