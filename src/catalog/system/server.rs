//! Rows about the server as a whole: database, role, settings, sessions, functions, access methods, collations.
//!
//! Boundary: facts and what the state holds; nothing of the user's objects.

use std::sync::OnceLock;

use super::definitions::Rows;
use super::value::Value;
use super::{DATABASE_OID, OWNER, PG_CATALOG, SystemState};
use crate::catalog::object::ObjectBody;
use crate::config::{Kind, SettingRow};

/// A default operator class of btree.
pub(super) struct OperatorClass {
    pub oid: u32,
    pub name: &'static str,
    family: i64,
    pub input_type: u32,
    key_type: i64,
}

/// The default operator classes of btree.
pub(super) fn operator_classes() -> &'static [OperatorClass] {
    static ALL: OnceLock<Vec<OperatorClass>> = OnceLock::new();
    ALL.get_or_init(|| {
        include_str!("data/opclasses.txt")
            .lines()
            .filter_map(|line| {
                let f: Vec<&'static str> = line.split(' ').collect();
                Some(OperatorClass {
                    oid: f.first()?.parse().ok()?,
                    name: f.get(2)?,
                    family: f.get(3)?.parse().ok()?,
                    input_type: f.get(4)?.parse().ok()?,
                    key_type: f.get(6)?.parse().ok()?,
                })
            })
            .collect()
    })
}

/// The relation filled with its rows, or given back when it is none of ours.
pub(super) fn fill<'a>(mut table: Rows<'a>, state: &SystemState<'_>) -> Result<Rows<'a>, Rows<'a>> {
    match table.relation.name {
        "pg_database" => {
            table.columns(&[
                "oid",
                "datname",
                "datdba",
                "encoding",
                "datlocprovider",
                "datallowconn",
                "datconnlimit",
                "dattablespace",
                "datcollate",
                "datctype",
            ]);
            table.push([
                DATABASE_OID.into(),
                state.database.into(),
                OWNER.into(),
                6.into(),
                "c".into(),
                true.into(),
                (-1).into(),
                1663.into(),
                "C.UTF-8".into(),
                "C.UTF-8".into(),
            ]);
        }
        "pg_roles" | "pg_authid" => {
            table.columns(&[
                "oid",
                "rolname",
                "rolsuper",
                "rolinherit",
                "rolcreaterole",
                "rolcreatedb",
                "rolcanlogin",
                "rolreplication",
                "rolconnlimit",
                "rolbypassrls",
                "rolpassword",
            ]);
            table.push([
                OWNER.into(),
                state.user.into(),
                true.into(),
                true.into(),
                true.into(),
                true.into(),
                true.into(),
                true.into(),
                (-1).into(),
                true.into(),
                "********".into(),
            ]);
        }
        "pg_user" | "pg_shadow" => {
            table.columns(&[
                "usesysid",
                "usename",
                "usesuper",
                "usecreatedb",
                "userepl",
                "usebypassrls",
                "passwd",
            ]);
            table.push([
                OWNER.into(),
                state.user.into(),
                true.into(),
                true.into(),
                true.into(),
                true.into(),
                "********".into(),
            ]);
        }
        "pg_am" => {
            table.columns(&["oid", "amname", "amhandler", "amtype"]);
            for (oid, name, handler, kind) in
                [(2, "heap", 3, "t"), (403, "btree", 330, "i"), (405, "hash", 331, "i")]
            {
                table.push([oid.into(), name.into(), handler.into(), kind.into()]);
            }
        }
        "pg_collation" => {
            table.columns(&[
                "oid",
                "collname",
                "collnamespace",
                "collowner",
                "collprovider",
                "collisdeterministic",
                "collencoding",
                "collcollate",
                "collctype",
            ]);
            for (oid, name, provider, locale) in
                [(100, "default", "d", None), (950, "C", "c", Some("C")), (951, "POSIX", "c", Some("POSIX"))]
            {
                table.push([
                    oid.into(),
                    name.into(),
                    PG_CATALOG.into(),
                    OWNER.into(),
                    provider.into(),
                    true.into(),
                    (-1).into(),
                    locale.into(),
                    locale.into(),
                ]);
            }
        }
        "pg_language" => {
            table.columns(&["oid", "lanname", "lanowner", "lanpltrusted"]);
            for (oid, name, trusted) in [(12, "internal", false), (13, "c", false), (14, "sql", true)] {
                table.push([oid.into(), name.into(), OWNER.into(), trusted.into()]);
            }
        }
        "pg_tablespace" => {
            table.columns(&["oid", "spcname", "spcowner"]);
            for (oid, name) in [(1663, "pg_default"), (1664, "pg_global")] {
                table.push([oid.into(), name.into(), OWNER.into()]);
            }
        }
        "pg_opclass" => {
            table.columns(&[
                "oid",
                "opcmethod",
                "opcname",
                "opcnamespace",
                "opcowner",
                "opcfamily",
                "opcintype",
                "opcdefault",
                "opckeytype",
            ]);
            for c in operator_classes() {
                table.push([
                    c.oid.into(),
                    403.into(),
                    c.name.into(),
                    PG_CATALOG.into(),
                    OWNER.into(),
                    c.family.into(),
                    c.input_type.into(),
                    true.into(),
                    c.key_type.into(),
                ]);
            }
        }
        "pg_proc" => pg_proc(&mut table, state),
        "pg_settings" => pg_settings(&mut table, &state.settings),
        "pg_stat_activity" => pg_stat_activity(&mut table, state),
        "pg_stat_database" => {
            table.columns(&["datid", "datname", "numbackends", "stats_reset"]);
            table.push([
                DATABASE_OID.into(),
                state.database.into(),
                state.sessions.len().into(),
                Value::Timestamp(state.started),
            ]);
        }
        _ => return Err(table),
    }
    Ok(table)
}

/// A built-in function.
pub struct Procedure {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: &'static str,
    /// Return type.
    pub returns: u32,
    /// Argument types.
    pub arguments: Vec<u32>,
    fields: Vec<&'static str>,
}

/// The built-in functions that are shown.
pub fn procedures() -> &'static [Procedure] {
    static ALL: OnceLock<Vec<Procedure>> = OnceLock::new();
    ALL.get_or_init(|| {
        include_str!("data/procs.txt")
            .lines()
            .filter_map(|line| {
                let fields: Vec<&'static str> = line.split(' ').collect();
                Some(Procedure {
                    oid: fields.first()?.parse().ok()?,
                    name: fields.get(1)?,
                    returns: fields.get(6)?.parse().ok()?,
                    arguments: fields.get(7)?.split(',').filter_map(|a| a.parse().ok()).collect(),
                    fields,
                })
            })
            .collect()
    })
}

/// Oid of the type record.
const RECORD: u32 = 2249;
/// Oid of the language SQL.
const SQL_LANGUAGE: u32 = 14;

fn pg_proc(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "oid",
        "proname",
        "pronamespace",
        "proowner",
        "prolang",
        "procost",
        "prokind",
        "provolatile",
        "proretset",
        "proisstrict",
        "prorettype",
        "proargtypes",
        "pronargs",
        "proparallel",
        "prosrc",
    ]);
    for p in procedures() {
        let field = |i: usize| p.fields.get(i).copied().unwrap_or_default();
        table.push([
            p.oid.into(),
            p.name.into(),
            PG_CATALOG.into(),
            OWNER.into(),
            12.into(),
            1.0.into(),
            field(2).into(),
            field(3).into(),
            (field(4) == "1").into(),
            (field(5) == "1").into(),
            p.returns.into(),
            Value::vector(p.arguments.iter().map(|a| Value::from(*a)).collect()),
            p.arguments.len().into(),
            "s".into(),
            p.name.into(),
        ]);
    }
    let schemas = super::classes::namespaces(state);
    for object in state.catalog.objects() {
        let ObjectBody::Function(f) = &object.body else { continue };
        let returns = match f.columns.as_deref() {
            Some([(_, only)]) => *only,
            Some(_) => RECORD,
            None => f.result,
        };
        table.push([
            object.id.0.into(),
            object.name.as_str().into(),
            schemas.get(&object.schema).copied().unwrap_or_default().into(),
            OWNER.into(),
            SQL_LANGUAGE.into(),
            100.0.into(),
            "f".into(),
            f.volatility.into(),
            f.columns.is_some().into(),
            f.strict.into(),
            returns.into(),
            Value::vector(f.args.iter().map(|(_, oid)| Value::from(*oid)).collect()),
            f.args.len().into(),
            "u".into(),
            f.body.as_str().into(),
        ]);
    }
}

fn pg_settings(table: &mut Rows<'_>, settings: &[SettingRow]) {
    table.columns(&[
        "name",
        "setting",
        "unit",
        "category",
        "short_desc",
        "context",
        "vartype",
        "source",
        "min_val",
        "max_val",
        "enumvals",
        "boot_val",
        "reset_val",
        "pending_restart",
    ]);
    for row in settings {
        let def = row.setting_def;
        let (min, max, words) = match def.map(|d| d.kind) {
            Some(Kind::Int { min, max }) => (Some(min.to_string()), Some(max.to_string()), Value::Null),
            Some(Kind::Time { min, .. } | Kind::Memory { min, .. }) => {
                (Some(min.to_string()), Some(i32::MAX.to_string()), Value::Null)
            }
            Some(Kind::Enum(words)) => (None, None, Value::texts(words.iter().copied())),
            _ => (None, None, Value::Null),
        };
        table.push([
            row.name.as_str().into(),
            row.setting.as_str().into(),
            def.and_then(|d| d.unit()).into(),
            def.map_or("Customized Options", |d| d.category).into(),
            def.map_or("", |d| d.doc).into(),
            def.map_or("user", |d| d.context()).into(),
            def.map_or("string", |d| d.vartype()).into(),
            row.source.into(),
            min.into(),
            max.into(),
            words,
            row.boot_val.as_str().into(),
            row.reset_val.as_str().into(),
            false.into(),
        ]);
    }
}

fn pg_stat_activity(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "datid",
        "datname",
        "pid",
        "usesysid",
        "usename",
        "application_name",
        "client_addr",
        "client_port",
        "backend_start",
        "xact_start",
        "query_start",
        "state_change",
        "state",
        "query",
        "backend_type",
    ]);
    let time = |t: Option<i64>| t.map_or(Value::Null, Value::Timestamp);
    for s in state.sessions {
        table.push([
            DATABASE_OID.into(),
            s.database.as_str().into(),
            s.pid.into(),
            OWNER.into(),
            s.user.as_str().into(),
            s.application_name.as_str().into(),
            s.client_addr.as_deref().into(),
            s.client_port.into(),
            time(s.backend_start),
            time(s.xact_start),
            time(s.query_start),
            time(s.state_change),
            s.state.as_str().into(),
            s.query.as_str().into(),
            "client backend".into(),
        ]);
    }
}

/// Name of a function for regproc, by oid.
pub fn procedure_name(oid: u32) -> Option<&'static str> {
    procedures().iter().find(|p| p.oid == oid).map(|p| p.name)
}

/// Oids of the built-in functions of this name.
pub fn procedures_named(name: &str) -> impl Iterator<Item = &'static Procedure> {
    procedures().iter().filter(move |p| p.name == name)
}
