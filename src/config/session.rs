//! The settings of one session: SET, SET LOCAL, RESET, SHOW, and what a client must be told of them.
//!
//! Boundary: values and their life within transactions; parsing the statements is the binder's work and sending
//! ParameterStatus the protocol's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::table::{OTHER_SYSTEM, SETTINGS, position};
use super::value::{canonical, display};
use super::{Scope, ServerSettings, Setting};
use crate::error::{Error, ErrorKind, Result};

/// A setting's values that differ from the default, by position in the table or by custom name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Values {
    known: BTreeMap<usize, String>,
    /// Names with a point (`my_app.user`) may be set to anything, as in PostgreSQL.
    custom: BTreeMap<String, String>,
}

impl Values {
    /// Whether nothing is set but the settings that every transaction has of its own.
    fn is_the_transactions(&self) -> bool {
        self.custom.is_empty() && self.known.keys().all(|i| SETTINGS[*i].name.starts_with("transaction_"))
    }
}

/// Settings kept at BEGIN or SAVEPOINT, to return to.
#[derive(Debug, Clone)]
pub struct SavedSettings(Arc<Values>, Arc<Values>);

impl SavedSettings {
    /// Whether nothing has been set since: these are the very values that `settings` has, but for a transaction that
    /// has begun or ended.
    pub fn is_of(&self, settings: &SessionSettings) -> bool {
        Arc::ptr_eq(&self.0, &settings.session)
            && (Arc::ptr_eq(&self.1, &settings.local)
                || self.1.is_the_transactions() && settings.local.is_the_transactions())
    }
}

/// A row of SHOW ALL and pg_settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingRow {
    /// Name as printed.
    pub name: String,
    /// Value as SHOW prints it (`5s`).
    pub shown: String,
    /// Value in the base unit (`5000`), as in `pg_settings.setting`.
    pub setting: String,
    /// Default in the base unit, `pg_settings.boot_val`.
    pub boot_val: String,
    /// What RESET returns to, in the base unit.
    pub reset_val: String,
    /// Where the value comes from: default, client, session.
    pub source: &'static str,
    /// The row of the table; absent for custom settings.
    pub setting_def: Option<&'static Setting>,
}

/// The settings of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionSettings {
    /// What RESET returns to: the server's defaults and what the client asked for when it connected.
    defaults: Values,
    session: Arc<Values>,
    local: Arc<Values>,
    /// `session` when the transaction began; ROLLBACK returns to it.
    at_begin: Option<Arc<Values>>,
    /// What the client was last told, and the settings as they were then.
    told: BTreeMap<usize, String>,
    told_at: Option<SavedSettings>,
    /// Session values, and what the local ones are when a transaction begins under them.
    fresh: Option<SavedSettings>,
}

impl SessionSettings {
    /// The settings of a new session of `user`: the table's defaults, overridden by the server's flags.
    pub fn new(server: &ServerSettings, user: &str) -> Self {
        let mut s = SessionSettings::default();
        for (name, value) in server.session_defaults() {
            if let Some(i) = position(name) {
                s.defaults.known.insert(i, value.clone());
            }
        }
        if let Some(i) = position("session_authorization") {
            s.defaults.known.insert(i, user.to_string());
        }
        s
    }

    /// Takes a parameter of the startup message (or of its `options`): RESET will return to it.
    pub fn set_at_startup(&mut self, name: &str, value: &str) -> Result<()> {
        (self.fresh, self.told_at) = (None, None);
        match lookup(name)? {
            Name::Known(i) => {
                let value = changeable(&SETTINGS[i]).and_then(|s| canonical(s, value))?;
                self.defaults.known.insert(i, value);
            }
            Name::Custom(n) => {
                self.defaults.custom.insert(n, value.to_string());
            }
        }
        Ok(())
    }

    /// SET name = value. `local`: until the end of the transaction only. Gives the text of a NOTICE if the
    /// setting has no effect because another system owns it.
    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<Option<String>> {
        let mut notice = None;
        match lookup(name)? {
            Name::Known(i) => {
                let setting = changeable(&SETTINGS[i])?;
                let value = canonical(setting, value)?;
                if setting.doc == OTHER_SYSTEM {
                    notice = Some(format!("setting \"{}\" has no effect", setting.name));
                }
                // The transaction's own settings end with it, however they were set.
                let local = local || setting.name.starts_with("transaction_");
                let (into, other) = self.targets(local);
                into.known.insert(i, value);
                if let Some(other) = other {
                    other.known.remove(&i);
                }
            }
            Name::Custom(n) => {
                let (into, other) = self.targets(local);
                if let Some(other) = other {
                    other.custom.remove(&n);
                }
                into.custom.insert(n, value.to_string());
            }
        }
        Ok(notice)
    }

    /// The values that a SET writes and those that it overrides.
    fn targets(&mut self, local: bool) -> (&mut Values, Option<&mut Values>) {
        if local {
            (Arc::make_mut(&mut self.local), None)
        } else {
            (Arc::make_mut(&mut self.session), Some(Arc::make_mut(&mut self.local)))
        }
    }

    /// RESET name, SET name TO DEFAULT.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        match lookup(name)? {
            Name::Known(i) => {
                changeable(&SETTINGS[i])?;
                Arc::make_mut(&mut self.session).known.remove(&i);
                Arc::make_mut(&mut self.local).known.remove(&i);
            }
            Name::Custom(n) => {
                Arc::make_mut(&mut self.session).custom.remove(&n);
                Arc::make_mut(&mut self.local).custom.remove(&n);
            }
        }
        Ok(())
    }

    /// RESET ALL, DISCARD ALL.
    pub fn reset_all(&mut self) {
        self.session = Arc::default();
        self.local = Arc::default();
    }

    /// The value of a setting as SHOW and current_setting print it.
    pub fn get(&self, name: &str) -> Result<String> {
        match lookup(name)? {
            Name::Known(i) => Ok(display(&SETTINGS[i], self.value(i))),
            Name::Custom(n) => self.custom(&n).map(str::to_string).ok_or_else(|| unknown(name)),
        }
    }

    fn value(&self, i: usize) -> &str {
        self.local
            .known
            .get(&i)
            .or_else(|| self.session.known.get(&i))
            .map_or_else(|| self.reset_value(i), String::as_str)
    }

    fn reset_value(&self, i: usize) -> &str {
        match self.defaults.known.get(&i) {
            Some(v) => v,
            None => boot_value(i),
        }
    }

    fn custom(&self, name: &str) -> Option<&str> {
        [&*self.local, &*self.session, &self.defaults]
            .into_iter()
            .find_map(|v| v.custom.get(name))
            .map(String::as_str)
    }

    /// A transaction begins. Its own settings start from their defaults.
    pub fn begin(&mut self) {
        self.at_begin = Some(self.session.clone());
        self.local = self.fresh();
    }

    /// The local values at the beginning of a transaction: made once for as long as no default is changed.
    fn fresh(&mut self) -> Arc<Values> {
        if let Some(SavedSettings(session, local)) = &self.fresh
            && Arc::ptr_eq(session, &self.session)
        {
            return local.clone();
        }
        let mut values = Values::default();
        for (name, default) in [
            ("transaction_isolation", "default_transaction_isolation"),
            ("transaction_read_only", "default_transaction_read_only"),
        ] {
            if let (Some(i), Some(d)) = (position(name), position(default)) {
                let value = self.session.known.get(&d).map_or_else(|| self.reset_value(d), String::as_str);
                values.known.insert(i, value.to_string());
            }
        }
        let local = Arc::new(values);
        self.fresh = Some(SavedSettings(self.session.clone(), local.clone()));
        local
    }

    /// The transaction ends: SET LOCAL ends with it, and a rollback undoes its SETs too.
    pub fn end(&mut self, committed: bool) {
        if let Some(before) = self.at_begin.take()
            && !committed
        {
            self.session = before;
        }
        self.local = Arc::default();
    }

    /// The values of now, for SAVEPOINT.
    pub fn save(&self) -> SavedSettings {
        SavedSettings(self.session.clone(), self.local.clone())
    }

    /// Returns to saved values, for ROLLBACK TO SAVEPOINT.
    pub fn restore(&mut self, saved: &SavedSettings) {
        self.session = saved.0.clone();
        self.local = saved.1.clone();
    }

    /// The reported settings that the client has not yet been told of (all of them at first).
    pub fn parameter_changes(&mut self) -> Vec<(String, String)> {
        let mut changes = Vec::new();
        if self.told_at.as_ref().is_some_and(|told| told.is_of(self)) {
            return changes;
        }
        self.told_at = Some(self.save());
        for (i, s) in SETTINGS.iter().enumerate().filter(|(_, s)| s.reported) {
            let now = display(s, self.value(i));
            if self.told.get(&i) != Some(&now) {
                changes.push((s.name.to_string(), now.clone()));
                self.told.insert(i, now);
            }
        }
        changes
    }

    /// All settings by name, for SHOW ALL and pg_settings.
    pub fn rows(&self) -> Vec<SettingRow> {
        let mut rows: Vec<SettingRow> = SETTINGS
            .iter()
            .enumerate()
            .map(|(i, s)| SettingRow {
                name: s.name.to_string(),
                shown: display(s, self.value(i)),
                setting: self.value(i).to_string(),
                boot_val: boot_value(i).to_string(),
                reset_val: self.reset_value(i).to_string(),
                source: if self.local.known.contains_key(&i) || self.session.known.contains_key(&i) {
                    "session"
                } else if self.defaults.known.contains_key(&i) {
                    "client"
                } else {
                    "default"
                },
                setting_def: Some(s),
            })
            .collect();
        let mut custom: BTreeMap<&String, &String> = BTreeMap::new();
        for values in [&self.defaults, &*self.session, &*self.local] {
            custom.extend(&values.custom);
        }
        rows.extend(custom.into_iter().map(|(name, value)| SettingRow {
            name: name.clone(),
            shown: value.clone(),
            setting: value.clone(),
            boot_val: String::new(),
            reset_val: self.defaults.custom.get(name).cloned().unwrap_or_default(),
            source: "session",
            setting_def: None,
        }));
        rows.sort_by_key(|r| r.name.to_ascii_lowercase());
        rows
    }

    fn canonical_of(&self, name: &str) -> &str {
        position(name).map_or("", |i| self.value(i))
    }

    /// Whether a Boolean setting is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.canonical_of(name) == "on"
    }

    /// The value of a whole number, time or memory setting in its base unit; 0 if it is none of these.
    pub fn int(&self, name: &str) -> i64 {
        self.canonical_of(name).parse().unwrap_or(0)
    }

    /// A timeout; `None` if it is switched off.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        let ms = u64::try_from(self.int(name)).ok().filter(|ms| *ms > 0)?;
        Some(Duration::from_millis(ms))
    }

    /// The word of an enumeration or any text setting, as it stands.
    pub fn text(&self, name: &str) -> &str {
        self.canonical_of(name)
    }

    /// The time zone, in the form that Arrow reads.
    pub fn time_zone(&self) -> &str {
        self.canonical_of("TimeZone")
    }

    /// The schemas of search_path in their order, names unquoted, `$user` not replaced.
    pub fn search_path(&self) -> Vec<String> {
        split_names(self.canonical_of("search_path"))
    }
}

enum Name {
    Known(usize),
    Custom(String),
}

fn lookup(name: &str) -> Result<Name> {
    let alias = match name.to_ascii_lowercase().as_str() {
        "time zone" | "time_zone" => "TimeZone",
        "schema" => "search_path",
        "names" => "client_encoding",
        "transaction isolation level" => "transaction_isolation",
        _ => name,
    };
    match position(alias) {
        Some(i) => Ok(Name::Known(i)),
        None if is_custom(name) => Ok(Name::Custom(name.to_ascii_lowercase())),
        None => Err(unknown(name)),
    }
}

/// Two or more identifiers joined by points.
fn is_custom(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    parts.len() > 1
        && parts.iter().all(|p| {
            p.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && p.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
        })
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::UndefinedObject, format!("unrecognized configuration parameter \"{name}\""))
}

fn changeable(s: &'static Setting) -> Result<&'static Setting> {
    let reason = match s.scope {
        Scope::Session | Scope::Both => return Ok(s),
        Scope::Server => "cannot be changed without restarting the server",
        Scope::Fact => "cannot be changed",
    };
    Err(Error::new(ErrorKind::CannotChangeParameter, format!("parameter \"{}\" {reason}", s.name)))
}

/// Defaults in canonical form, computed once.
fn boot_value(i: usize) -> &'static str {
    static CANONICAL: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let all = CANONICAL.get_or_init(|| {
        SETTINGS.iter().map(|s| canonical(s, s.default).unwrap_or_else(|_| s.default.to_string())).collect()
    });
    &all[i]
}

/// A list of identifiers: quoted ones as they are, others in lower case.
fn split_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut current, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut finish = |current: &mut String, was_quoted: &mut bool| {
        let name =
            if *was_quoted { std::mem::take(current) } else { std::mem::take(current).trim().to_lowercase() };
        if !name.is_empty() {
            names.push(name);
        }
        *was_quoted = false;
    };
    for c in list.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                if quoted && !was_quoted {
                    current.clear();
                }
                was_quoted = true;
            }
            ',' if !quoted => finish(&mut current, &mut was_quoted),
            c if was_quoted && !quoted && c.is_whitespace() => {}
            c => current.push(c),
        }
    }
    finish(&mut current, &mut was_quoted);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_and_read_only_ones_are_refused() {
        let mut s = SessionSettings::default();
        let e = s.set("foo", "1", false).expect_err("unknown");
        assert_eq!(
            (e.kind(), e.message()),
            (ErrorKind::UndefinedObject, "unrecognized configuration parameter \"foo\"")
        );
        assert!(s.get("foo").is_err());
        assert_eq!(
            s.set("server_version", "16", false).expect_err("read-only").message(),
            "parameter \"server_version\" cannot be changed"
        );
        assert!(s.set("data_dir", "/", false).is_err());
        assert_eq!(s.get("DATA_DIR").expect("shown"), "./freshet-data");
    }

    #[test]
    fn local_values_end_with_the_transaction_and_rollback_undoes_the_others() {
        let mut s = SessionSettings::default();
        s.begin();
        s.set("statement_timeout", "5s", true).expect("set");
        s.set("timezone", "Europe/Berlin", false).expect("set");
        assert_eq!(s.get("statement_timeout").expect("get"), "5s");
        assert_eq!(s.timeout("statement_timeout"), Some(Duration::from_secs(5)));
        s.end(true);
        assert_eq!(s.get("statement_timeout").expect("get"), "0");
        assert_eq!(s.time_zone(), "Europe/Berlin");
        s.begin();
        s.reset("TimeZone").expect("reset");
        assert_eq!(s.time_zone(), "UTC");
        let saved = s.save();
        s.set("TimeZone", "Asia/Tokyo", false).expect("set");
        s.restore(&saved);
        assert_eq!(s.time_zone(), "UTC");
        s.end(false);
        assert_eq!(s.time_zone(), "Europe/Berlin");
    }

    #[test]
    fn a_set_overrides_an_earlier_local_one_of_the_transaction() {
        let mut s = SessionSettings::default();
        s.begin();
        s.set("jit", "off", true).expect("set");
        s.set("jit", "on", false).expect("set");
        assert!(s.is_on("jit"));
        s.end(true);
        assert!(s.is_on("jit"));
    }

    #[test]
    fn clients_are_told_everything_once_and_then_only_changes() {
        let mut s = SessionSettings::default();
        s.set_at_startup("application_name", "test").expect("startup");
        let all = s.parameter_changes();
        for name in [
            "server_version",
            "client_encoding",
            "DateStyle",
            "TimeZone",
            "integer_datetimes",
            "standard_conforming_strings",
            "IntervalStyle",
            "is_superuser",
            "session_authorization",
            "server_encoding",
        ] {
            assert!(all.iter().any(|(n, _)| n == name), "{name}");
        }
        assert!(all.contains(&("application_name".to_string(), "test".to_string())));
        assert!(s.parameter_changes().is_empty());
        s.begin();
        s.set("application_name", "other", false).expect("set");
        assert_eq!(s.parameter_changes(), vec![("application_name".to_string(), "other".to_string())]);
        s.end(false);
        assert_eq!(s.parameter_changes(), vec![("application_name".to_string(), "test".to_string())]);
    }

    #[test]
    fn transactions_begin_and_end_without_a_change_of_settings() {
        let mut s = SessionSettings::default();
        let saved = s.save();
        s.begin();
        assert!(saved.is_of(&s));
        s.set("TimeZone", "Asia/Tokyo", true).expect("set");
        assert!(!saved.is_of(&s));
        s.end(true);
        assert!(saved.is_of(&s));
        s.begin();
        s.set("TimeZone", "Asia/Tokyo", false).expect("set");
        s.end(true);
        assert!(!saved.is_of(&s));
    }

    #[test]
    fn transaction_settings_start_from_their_defaults() {
        let mut s = SessionSettings::default();
        s.set("default_transaction_read_only", "on", false).expect("set");
        s.begin();
        assert!(s.is_on("transaction_read_only"));
        s.set("transaction_read_only", "off", false).expect("set");
        assert!(!s.is_on("transaction_read_only"));
        s.end(true);
        assert!(!s.is_on("transaction_read_only"));
    }

    #[test]
    fn custom_and_foreign_settings_are_taken() {
        let mut s = SessionSettings::default();
        s.set("my_app.user", "7", false).expect("set");
        assert_eq!(s.get("MY_APP.user").expect("get"), "7");
        assert!(s.set("RW_IMPLICIT_FLUSH", "true", false).expect("set").is_some());
        assert!(s.set("jit", "off", false).expect("set").is_none());
        assert!(s.rows().iter().any(|r| r.name == "my_app.user" && r.setting == "7"));
        let row = s.rows().into_iter().find(|r| r.name == "jit").expect("row");
        assert_eq!((row.shown.as_str(), row.boot_val.as_str(), row.source), ("off", "on", "session"));
    }

    #[test]
    fn the_search_path_is_split_as_identifiers() {
        let mut s = SessionSettings::default();
        assert_eq!(s.search_path(), vec!["$user", "public"]);
        s.set("search_path", "App, \"My Schema\" ,b", false).expect("set");
        assert_eq!(s.search_path(), vec!["app", "My Schema", "b"]);
    }
}
