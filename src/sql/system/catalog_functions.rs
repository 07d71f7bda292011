//! Functions that ask the catalog, the session or the server.
//!
//! Boundary: one value per call.

use std::time::{Duration, Instant};

use super::cast::{is_visible, reg_oid, relation_name, schema_name, to_text};
use super::execute::Run;
use super::functions::{Function, function, lenient};
use super::{AdvisoryKey, AdvisoryRequest};
use crate::catalog::system::{OWNER, Value, index_definition, oids, procedures, quote_ident, types};
use crate::catalog::{Object, ObjectBody, ObjectId};
use crate::config::PG_VERSION;
use crate::error::Result;
use crate::types::{PgType, oid};

use super::coerce::ANY;
use oid::{BOOL, INT4, INT8, NAME, OID, REGCLASS, REGPROC, REGTYPE, TEXT, TIMESTAMPTZ, VOID};

const NAMES: u32 = 1003;

fn text(args: &[Value], i: usize) -> &str {
    args.get(i).and_then(Value::as_str).unwrap_or_default()
}

fn int(args: &[Value], i: usize) -> i64 {
    args.get(i).and_then(Value::as_int).unwrap_or_default()
}

fn oid_at(args: &[Value], i: usize) -> u32 {
    u32::try_from(int(args, i)).unwrap_or_default()
}

fn object<'r>(run: &'r Run<'_>, oid: u32) -> Option<&'r Object> {
    run.context.catalog.get(ObjectId(oid)).map(|o| &**o)
}

type Answer = Result<Value>;

fn always(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok(true.into())
}
fn never(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok(false.into())
}
fn null(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok(Value::Null)
}
fn zero(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok(Value::Int(0))
}
fn nothing(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok("".into())
}
fn current_user(run: &Run<'_>, _: &[Value]) -> Answer {
    Ok((&run.context.user).into())
}
fn current_database(run: &Run<'_>, _: &[Value]) -> Answer {
    Ok((&run.context.database).into())
}
fn current_schema(run: &Run<'_>, _: &[Value]) -> Answer {
    let exists = |s: &&String| run.context.catalog.has_schema(s) || s.as_str() == "pg_catalog";
    Ok(run.context.search_path.iter().find(exists).into())
}

fn current_schemas(run: &Run<'_>, args: &[Value]) -> Answer {
    let mut all: Vec<&str> = vec![];
    let path = &run.context.search_path;
    if args[0] == Value::Bool(true) && !path.iter().any(|s| s == "pg_catalog") {
        all.push("pg_catalog");
    }
    all.extend(
        path.iter().map(String::as_str).filter(|s| run.context.catalog.has_schema(s) || *s == "pg_catalog"),
    );
    Ok(Value::texts(all))
}

fn table_is_visible(run: &Run<'_>, args: &[Value]) -> Answer {
    Ok(is_visible(run.context, oid_at(args, 0)).into())
}

fn type_is_visible(run: &Run<'_>, args: &[Value]) -> Answer {
    let oid = oid_at(args, 0);
    if let Some(t) = types::by_oid(oid) {
        return Ok((t.namespace == "pg_catalog").into());
    }
    let relation = oids::object_of_type(oid).or_else(|| oids::object_of_array_type(oid));
    Ok(relation.and_then(|r| is_visible(run.context, r)).into())
}

fn format_type(run: &Run<'_>, args: &[Value]) -> Answer {
    if args[0].is_null() {
        return Ok(Value::Null);
    }
    let typmod = args.get(1).and_then(Value::as_int).and_then(|t| i32::try_from(t).ok()).unwrap_or(-1);
    let oid = oid_at(args, 0);
    if oid == 0 {
        return Ok("-".into());
    }
    Ok(types::format_type(run.context.catalog, oid, typmod).unwrap_or_else(|| "???".into()).into())
}

fn viewdef(run: &Run<'_>, args: &[Value]) -> Answer {
    Ok(match object(run, oid_at(args, 0)).map(|o| &o.body) {
        Some(ObjectBody::View { query } | ObjectBody::MaterializedView { query, .. }) => {
            let query = query.trim().trim_end_matches(';');
            format!(" {query};").into()
        }
        _ => Value::Null,
    })
}

fn indexdef(run: &Run<'_>, args: &[Value]) -> Answer {
    let number = usize::try_from(int(args, 1)).unwrap_or(0);
    let text = index_definition(run.context.catalog, oid_at(args, 0), number);
    let pretty = matches!(args.get(2), Some(Value::Bool(true)));
    // Pretty-printed, a table on the search path stands without its schema.
    let shown = text.map(|text| {
        let visible = run.context.search_path.iter().map(|s| format!(" ON {}.", quote_ident(s)));
        match visible.into_iter().find(|on| text.contains(on.as_str())) {
            Some(on) if pretty => text.replacen(&on, " ON ", 1),
            _ => text,
        }
    });
    Ok(shown.into())
}

fn constraintdef(run: &Run<'_>, args: &[Value]) -> Answer {
    let wanted = oid_at(args, 0);
    if let Some(table) = oids::object_of_key_constraint(wanted).and_then(|id| object(run, id)) {
        let ObjectBody::Table { primary_key, .. } = &table.body else { return Ok(Value::Null) };
        let columns: Vec<String> =
            primary_key.iter().filter_map(|c| table.columns.get(*c)).map(|c| quote_ident(&c.name)).collect();
        return Ok(format!("PRIMARY KEY ({})", columns.join(", ")).into());
    }
    if let Some(index) = object(run, wanted)
        && let ObjectBody::Index { on, columns, constraint: true, .. } = &index.body
        && let Some(table) = run.context.catalog.get(*on)
    {
        let columns: Vec<String> =
            columns.iter().filter_map(|c| table.columns.get(*c)).map(|c| quote_ident(&c.name)).collect();
        return Ok(format!("UNIQUE ({})", columns.join(", ")).into());
    }
    if oids::is_check(wanted) {
        for object in run.context.catalog.objects() {
            if let ObjectBody::Table { checks, .. } = &object.body
                && let Some((_, (_, text))) =
                    checks.iter().enumerate().find(|(i, _)| oids::check(object.id.0, *i) == wanted)
            {
                return Ok(format!("CHECK ({text})").into());
            }
        }
    }
    Ok(Value::Null)
}

fn ruledef(run: &Run<'_>, args: &[Value]) -> Answer {
    let view = oids::object_of_rule(oid_at(args, 0)).and_then(|id| object(run, id));
    Ok(view.map(|v| v.ddl.as_str()).into())
}

fn column_of(run: &Run<'_>, relation: u32, number: i64) -> Option<Option<String>> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    object(run, relation)?.columns.get(index).map(|c| c.comment.clone())
}

fn col_description(run: &Run<'_>, args: &[Value]) -> Answer {
    Ok(column_of(run, oid_at(args, 0), int(args, 1)).flatten().into())
}

fn obj_description(run: &Run<'_>, args: &[Value]) -> Answer {
    let oid = oid_at(args, 0);
    if matches!(text(args, 1), "pg_namespace" | "") && oid == 2200 {
        return Ok("standard public schema".into());
    }
    if !matches!(text(args, 1), "pg_class" | "") {
        return Ok(Value::Null);
    }
    Ok(object(run, oid).and_then(|o| o.comment.as_deref()).into())
}

fn userbyid(run: &Run<'_>, args: &[Value]) -> Answer {
    let oid = oid_at(args, 0);
    Ok(if oid == OWNER { (&run.context.user).into() } else { format!("unknown (OID={oid})").into() })
}

fn size_pretty(_: &Run<'_>, args: &[Value]) -> Answer {
    let mut size = int(args, 0);
    let mut unit = "bytes";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if size.abs() < 10 * 1024 {
            break;
        }
        size = (size + 512 * size.signum()) / 1024;
        unit = next;
    }
    Ok(format!("{size} {unit}").into())
}

fn relation_size(run: &Run<'_>, args: &[Value]) -> Answer {
    let bytes = run.context.settings.relation_bytes(ObjectId(oid_at(args, 0)));
    Ok(i64::try_from(bytes).unwrap_or(i64::MAX).into())
}

fn database_size(run: &Run<'_>, _: &[Value]) -> Answer {
    let sizes = run.context.catalog.objects().map(|o| run.context.settings.relation_bytes(o.id));
    Ok(i64::try_from(sizes.fold(0u64, u64::saturating_add)).unwrap_or(i64::MAX).into())
}

fn current_setting(run: &Run<'_>, args: &[Value]) -> Answer {
    match run.context.settings.get(text(args, 0)) {
        Ok(value) => Ok(value.into()),
        Err(_) if args.get(1) == Some(&Value::Bool(true)) => Ok(Value::Null),
        Err(e) => Err(e),
    }
}

fn set_config(run: &Run<'_>, args: &[Value]) -> Answer {
    let name = text(args, 0);
    run.context.settings.set(name, text(args, 1), args[2] == Value::Bool(true))?;
    Ok(run.context.settings.get(name)?.into())
}

fn version(_: &Run<'_>, _: &[Value]) -> Answer {
    Ok(format!(
        "PostgreSQL {PG_VERSION} (Freshet {}) on {}-{}, compiled by rustc, 64-bit",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    )
    .into())
}

fn procedure_text(
    args: &[Value],
    show: impl Fn(&crate::catalog::system::Procedure) -> Option<String>,
) -> Answer {
    let oid = oid_at(args, 0);
    Ok(procedures().iter().find(|p| p.oid == oid).and_then(show).into())
}

/// Names and types as a list.
fn typed(run: &Run<'_>, list: &[(Option<String>, u32)]) -> String {
    let one = |(name, oid): &(Option<String>, u32)| {
        let ty = types::format_type(run.context.catalog, *oid, -1).unwrap_or_default();
        name.as_ref().map_or(ty.clone(), |n| format!("{} {ty}", quote_ident(n)))
    };
    list.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn function_result(run: &Run<'_>, args: &[Value]) -> Answer {
    if let Some(ObjectBody::Function(f)) = object(run, oid_at(args, 0)).map(|o| &o.body) {
        let ty = |oid| types::format_type(run.context.catalog, oid, -1).unwrap_or_default();
        return Ok(match &f.columns {
            None => ty(f.result).into(),
            Some(_) if f.result != 0 => format!("SETOF {}", ty(f.result)).into(),
            Some(columns) => {
                let columns: Vec<_> = columns.iter().map(|(n, t)| (Some(n.clone()), *t)).collect();
                format!("TABLE({})", typed(run, &columns)).into()
            }
        });
    }
    procedure_text(args, |p| types::format_type(run.context.catalog, p.returns, -1))
}

fn function_arguments(run: &Run<'_>, args: &[Value]) -> Answer {
    if let Some(ObjectBody::Function(f)) = object(run, oid_at(args, 0)).map(|o| &o.body) {
        return Ok(typed(run, &f.args).into());
    }
    procedure_text(args, |p| {
        let names: Vec<String> =
            p.arguments.iter().filter_map(|a| types::format_type(run.context.catalog, *a, -1)).collect();
        Some(names.join(", "))
    })
}

/// `to_regclass` and its like: NULL where the cast would be an error.
fn to_reg(run: &Run<'_>, args: &[Value], ty: u32) -> Answer {
    Ok(reg_oid(run.context, text(args, 0), ty).unwrap_or_default())
}

fn describe_object(run: &Run<'_>, args: &[Value]) -> Answer {
    Ok(match relation_name(run.context, oid_at(args, 1)) {
        Some((schema, name)) => format!("{}.{}", quote_ident(&schema), quote_ident(&name)).into(),
        None => schema_name(run.context, oid_at(args, 1)).into(),
    })
}

fn type_of(run: &Run<'_>, args: &[Value]) -> Answer {
    let ty = match &args[0] {
        Value::Bool(_) => BOOL,
        Value::Int(i) if i32::try_from(*i).is_ok() => INT4,
        Value::Int(_) => INT8,
        Value::Float(_) => oid::NUMERIC,
        Value::Timestamp(_) => TIMESTAMPTZ,
        Value::Interval { .. } => oid::INTERVAL,
        Value::Array(_) => 1009,
        _ => TEXT,
    };
    Ok(to_text(run.context, &Value::from(ty), PgType::of(REGTYPE))?.into())
}

fn backend(run: &Run<'_>, args: &[Value], terminate: bool) -> Answer {
    let pid = i32::try_from(int(args, 0)).unwrap_or_default();
    let settings = run.context.settings;
    Ok(if terminate { settings.terminate_backend(pid) } else { settings.cancel_backend(pid) }.into())
}

/// Waits on the thread of the question (nobody else's), asking now and then whether to go on.
fn sleep(run: &Run<'_>, args: &[Value]) -> Answer {
    const NAP: Duration = Duration::from_millis(10);
    let seconds = match args.first() {
        Some(Value::Float(f)) => *f,
        Some(other) => other.as_int().unwrap_or(0) as f64,
        None => 0.0,
    };
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(if seconds > 0.0 {
        Duration::MAX
    } else {
        Duration::ZERO
    });
    let started = Instant::now();
    loop {
        run.context.settings.check_interrupts()?;
        let left = time.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(Value::Text("".into()));
        }
        std::thread::sleep(left.min(NAP));
    }
}

/// Privileges: whoever may connect may do everything.
const fn privilege(name: &'static str) -> Function {
    function(name, &[ANY, ANY, ANY, ANY], 2, BOOL, true, always)
}

const fn visible(name: &'static str) -> Function {
    function(name, &[OID], 1, BOOL, true, always)
}

const fn size(name: &'static str) -> Function {
    function(name, &[REGCLASS, TEXT], 1, INT8, true, relation_size)
}

const fn count(name: &'static str) -> Function {
    function(name, &[OID], 1, INT8, true, zero)
}

/// A function of advisory locks, over one number or two.
const fn lock(name: &'static str, returns: u32, serve: fn(&Run<'_>, &[Value]) -> Answer) -> Function {
    function(name, &[INT8, INT8], 1, returns, true, serve)
}

fn key(args: &[Value]) -> AdvisoryKey {
    match args {
        [_, _, ..] => AdvisoryKey::Two(int(args, 0), int(args, 1)),
        _ => AdvisoryKey::One(int(args, 0)),
    }
}

/// Holds a lock. `kind`: together with others, until the end of the transaction.
fn hold(run: &Run<'_>, args: &[Value], kind: (bool, bool), wait: bool) -> Answer {
    let (shared, transaction) = kind;
    let request = AdvisoryRequest::Lock { key: key(args), shared, transaction, wait };
    let held = run.context.settings.advisory(request)?;
    Ok(if wait { Value::Text("".into()) } else { held.into() })
}

fn unlock(run: &Run<'_>, args: &[Value], shared: bool) -> Answer {
    Ok(run.context.settings.advisory(AdvisoryRequest::Unlock { key: key(args), shared })?.into())
}

fn unlock_all(run: &Run<'_>, _: &[Value]) -> Answer {
    run.context.settings.advisory(AdvisoryRequest::UnlockAll)?;
    Ok(Value::Text("".into()))
}

const fn whoami(name: &'static str) -> Function {
    function(name, &[], 0, NAME, true, current_user)
}

pub(super) static FUNCTIONS: &[Function] = &[
    whoami("current_user"),
    whoami("session_user"),
    whoami("user"),
    whoami("current_role"),
    function("current_database", &[], 0, NAME, true, current_database),
    function("current_catalog", &[], 0, NAME, true, current_database),
    function("current_schema", &[], 0, NAME, true, current_schema),
    function("current_schemas", &[BOOL], 1, NAMES, true, current_schemas),
    function("current_query", &[], 0, TEXT, true, nothing),
    function("version", &[], 0, TEXT, true, version),
    function("current_setting", &[TEXT, BOOL], 1, TEXT, true, current_setting),
    function("set_config", &[TEXT, TEXT, BOOL], 3, TEXT, true, set_config),
    function("pg_backend_pid", &[], 0, INT4, true, |run, _| Ok(run.context.pid.into())),
    function("pg_postmaster_start_time", &[], 0, TIMESTAMPTZ, true, |run, _| {
        Ok(Value::Timestamp(run.context.started.0))
    }),
    function("pg_conf_load_time", &[], 0, TIMESTAMPTZ, true, |run, _| {
        Ok(Value::Timestamp(run.context.started.0))
    }),
    function("pg_is_in_recovery", &[], 0, BOOL, true, never),
    function("pg_is_wal_replay_paused", &[], 0, BOOL, true, never),
    function("pg_jit_available", &[], 0, BOOL, true, never),
    function("pg_cancel_backend", &[INT4], 1, BOOL, true, |run, a| backend(run, a, false)),
    function("pg_terminate_backend", &[INT4, INT8], 1, BOOL, true, |run, a| backend(run, a, true)),
    function("pg_reload_conf", &[], 0, BOOL, true, always),
    function("pg_sleep", &[oid::FLOAT8], 1, VOID, true, sleep),
    function("pg_blocking_pids", &[INT4], 1, 1007, true, |_, _| Ok(Value::array(vec![]))),
    function("pg_my_temp_schema", &[], 0, OID, true, zero),
    function("pg_is_other_temp_schema", &[OID], 1, BOOL, true, never),
    function("inet_server_addr", &[], 0, TEXT, true, null),
    function("inet_server_port", &[], 0, INT4, true, null),
    function("inet_client_addr", &[], 0, TEXT, true, null),
    function("inet_client_port", &[], 0, INT4, true, null),
    function("txid_current", &[], 0, INT8, true, |run, _| Ok(Value::Int(run.context.now.0))),
    function("pg_current_xact_id", &[], 0, TEXT, true, |run, _| Ok(run.context.now.0.to_string().into())),
    lock("pg_advisory_lock", VOID, |run, a| hold(run, a, (false, false), true)),
    lock("pg_advisory_lock_shared", VOID, |run, a| hold(run, a, (true, false), true)),
    lock("pg_advisory_xact_lock", VOID, |run, a| hold(run, a, (false, true), true)),
    lock("pg_advisory_xact_lock_shared", VOID, |run, a| hold(run, a, (true, true), true)),
    lock("pg_try_advisory_lock", BOOL, |run, a| hold(run, a, (false, false), false)),
    lock("pg_try_advisory_lock_shared", BOOL, |run, a| hold(run, a, (true, false), false)),
    lock("pg_try_advisory_xact_lock", BOOL, |run, a| hold(run, a, (false, true), false)),
    lock("pg_try_advisory_xact_lock_shared", BOOL, |run, a| hold(run, a, (true, true), false)),
    lock("pg_advisory_unlock", BOOL, |run, a| unlock(run, a, false)),
    lock("pg_advisory_unlock_shared", BOOL, |run, a| unlock(run, a, true)),
    function("pg_advisory_unlock_all", &[], 0, VOID, true, unlock_all),
    function("pg_table_is_visible", &[OID], 1, BOOL, true, table_is_visible),
    function("pg_type_is_visible", &[OID], 1, BOOL, true, type_is_visible),
    visible("pg_function_is_visible"),
    visible("pg_operator_is_visible"),
    visible("pg_opclass_is_visible"),
    visible("pg_opfamily_is_visible"),
    visible("pg_collation_is_visible"),
    visible("pg_conversion_is_visible"),
    visible("pg_statistics_obj_is_visible"),
    visible("pg_ts_config_is_visible"),
    visible("pg_ts_dict_is_visible"),
    visible("pg_ts_parser_is_visible"),
    visible("pg_ts_template_is_visible"),
    privilege("has_table_privilege"),
    privilege("has_any_column_privilege"),
    privilege("has_column_privilege"),
    privilege("has_schema_privilege"),
    privilege("has_database_privilege"),
    privilege("has_function_privilege"),
    privilege("has_sequence_privilege"),
    privilege("has_type_privilege"),
    privilege("has_tablespace_privilege"),
    privilege("has_server_privilege"),
    privilege("has_language_privilege"),
    privilege("has_foreign_data_wrapper_privilege"),
    privilege("pg_has_role"),
    function("row_security_active", &[ANY], 1, BOOL, true, never),
    lenient("format_type", &[OID, INT4], 2, TEXT, true, format_type),
    function("pg_get_viewdef", &[REGCLASS, ANY], 1, TEXT, true, viewdef),
    function("pg_get_ruledef", &[OID, BOOL], 1, TEXT, true, ruledef),
    function("pg_get_indexdef", &[REGCLASS, INT4, BOOL], 1, TEXT, true, indexdef),
    function("pg_get_constraintdef", &[OID, BOOL], 1, TEXT, true, constraintdef),
    function("pg_get_expr", &[TEXT, OID, BOOL], 2, TEXT, true, |_, a| Ok(a[0].clone())),
    function("pg_get_partkeydef", &[OID], 1, TEXT, true, null),
    function("pg_get_partition_constraintdef", &[OID], 1, TEXT, true, null),
    function("pg_get_triggerdef", &[OID, BOOL], 1, TEXT, true, null),
    function("pg_get_functiondef", &[OID], 1, TEXT, true, null),
    function("pg_get_statisticsobjdef", &[OID], 1, TEXT, true, null),
    function("pg_get_statisticsobjdef_columns", &[OID], 1, TEXT, true, null),
    function("pg_get_serial_sequence", &[TEXT, TEXT], 2, TEXT, true, null),
    function("pg_get_function_result", &[OID], 1, TEXT, true, function_result),
    function("pg_get_function_arguments", &[OID], 1, TEXT, true, function_arguments),
    function("pg_get_function_identity_arguments", &[OID], 1, TEXT, true, function_arguments),
    function("pg_get_userbyid", &[OID], 1, NAME, true, userbyid),
    function("pg_describe_object", &[OID, OID, INT4], 3, TEXT, true, describe_object),
    function("col_description", &[OID, INT4], 2, TEXT, true, col_description),
    function("obj_description", &[OID, TEXT], 1, TEXT, true, obj_description),
    function("shobj_description", &[OID, TEXT], 2, TEXT, true, null),
    function("pg_encoding_to_char", &[INT4], 1, NAME, true, |_, a| {
        Ok(if int(a, 0) == 6 { "UTF8" } else { "" }.into())
    }),
    function("pg_char_to_encoding", &[TEXT], 1, INT4, true, |_, a| {
        Ok(if text(a, 0).replace('-', "").eq_ignore_ascii_case("utf8") { 6 } else { -1 }.into())
    }),
    function("getdatabaseencoding", &[], 0, NAME, true, |_, _| Ok("UTF8".into())),
    function("pg_client_encoding", &[], 0, NAME, true, |_, _| Ok("UTF8".into())),
    function("pg_encoding_max_length", &[INT4], 1, INT4, true, |_, _| Ok(4.into())),
    function("pg_size_pretty", &[INT8], 1, TEXT, true, size_pretty),
    size("pg_total_relation_size"),
    size("pg_relation_size"),
    size("pg_table_size"),
    function("pg_indexes_size", &[REGCLASS], 1, INT8, true, zero),
    function("pg_database_size", &[ANY], 1, INT8, true, database_size),
    function("pg_tablespace_size", &[ANY], 1, INT8, true, database_size),
    function("pg_tablespace_location", &[OID], 1, TEXT, true, nothing),
    function("pg_relation_filenode", &[REGCLASS], 1, OID, true, |_, a| Ok(a[0].clone())),
    function("pg_relation_is_publishable", &[REGCLASS], 1, BOOL, true, never),
    function("pg_relation_is_updatable", &[REGCLASS, BOOL], 1, INT4, true, zero),
    function("pg_column_is_updatable", &[REGCLASS, INT4, BOOL], 2, BOOL, true, never),
    count("pg_stat_get_numscans"),
    count("pg_stat_get_live_tuples"),
    count("pg_stat_get_dead_tuples"),
    count("pg_stat_get_tuples_inserted"),
    count("pg_stat_get_tuples_updated"),
    count("pg_stat_get_tuples_deleted"),
    count("pg_stat_get_db_numbackends"),
    function("to_regclass", &[TEXT], 1, REGCLASS, true, |run, a| to_reg(run, a, REGCLASS)),
    function("to_regtype", &[TEXT], 1, REGTYPE, true, |run, a| to_reg(run, a, REGTYPE)),
    function("to_regproc", &[TEXT], 1, REGPROC, true, |run, a| to_reg(run, a, REGPROC)),
    function("to_regnamespace", &[TEXT], 1, types::REGNAMESPACE, true, |run, a| {
        to_reg(run, a, types::REGNAMESPACE)
    }),
    function("to_regrole", &[TEXT], 1, types::REGROLE, true, |run, a| to_reg(run, a, types::REGROLE)),
    lenient("pg_typeof", &[ANY], 1, TEXT, true, type_of),
];
