//! PostgreSQL's own views over its catalogs: pg_tables and its like, and information_schema.
//!
//! Boundary: rows from the catalog's objects, as the views' definitions in PostgreSQL would give them.

use super::classes::{ClassKind, index_definition};
use super::definitions::Rows;
use super::types;
use super::value::Value;
use super::{SystemState, oids};
use crate::catalog::object::{Column, Object, ObjectBody};
use crate::types::{PgType, oid};

/// Whether a schema is one of the system's.
pub fn is_system_schema(name: &str) -> bool {
    matches!(name, "pg_catalog" | "information_schema")
}

fn query_of(object: &Object) -> Option<&str> {
    match &object.body {
        ObjectBody::View { query } | ObjectBody::MaterializedView { query, .. } => Some(query),
        _ => None,
    }
}

fn relations<'a>(state: &'a SystemState<'_>) -> impl Iterator<Item = (&'a Object, char)> {
    state.catalog.objects().filter_map(|o| Some((&**o, ClassKind::of(o)?.0)))
}

fn has_index(state: &SystemState<'_>, object: &Object) -> bool {
    matches!(&object.body, ObjectBody::Table { primary_key, .. } if !primary_key.is_empty())
        || !state.catalog.indexes_on(object.id).is_empty()
}

/// The views of pg_catalog.
pub(super) fn fill_pg_views<'a>(mut table: Rows<'a>, state: &SystemState<'_>) -> Result<Rows<'a>, Rows<'a>> {
    match table.relation.name {
        "pg_tables" => {
            table.columns(&[
                "schemaname",
                "tablename",
                "tableowner",
                "hasindexes",
                "hasrules",
                "hastriggers",
                "rowsecurity",
            ]);
            for (o, _) in relations(state).filter(|(_, kind)| *kind == 'r') {
                table.push([
                    o.schema.as_str().into(),
                    o.name.as_str().into(),
                    state.user.into(),
                    has_index(state, o).into(),
                    false.into(),
                    false.into(),
                    false.into(),
                ]);
            }
            for r in super::relations().iter().filter(|r| r.kind == 'r') {
                table.push([
                    r.schema.into(),
                    r.name.into(),
                    state.user.into(),
                    false.into(),
                    false.into(),
                    false.into(),
                    false.into(),
                ]);
            }
        }
        "pg_views" => {
            table.columns(&["schemaname", "viewname", "viewowner", "definition"]);
            for (o, _) in relations(state).filter(|(_, kind)| *kind == 'v') {
                table.push([
                    o.schema.as_str().into(),
                    o.name.as_str().into(),
                    state.user.into(),
                    query_of(o).into(),
                ]);
            }
            for r in super::relations().iter().filter(|r| r.kind == 'v') {
                table.push([r.schema.into(), r.name.into(), state.user.into(), "".into()]);
            }
        }
        "pg_matviews" => {
            table.columns(&[
                "schemaname",
                "matviewname",
                "matviewowner",
                "hasindexes",
                "ispopulated",
                "definition",
            ]);
            for (o, _) in relations(state).filter(|(_, kind)| *kind == 'm') {
                table.push([
                    o.schema.as_str().into(),
                    o.name.as_str().into(),
                    state.user.into(),
                    has_index(state, o).into(),
                    true.into(),
                    query_of(o).into(),
                ]);
            }
        }
        "pg_indexes" => pg_indexes(&mut table, state),
        "pg_stat_all_tables" | "pg_stat_user_tables" => {
            table.columns(&["relid", "schemaname", "relname", "n_live_tup"]);
            for (o, _) in relations(state).filter(|(_, kind)| matches!(kind, 'r' | 'm')) {
                let count = (state.row_count)(o.id).and_then(|c| i64::try_from(c).ok()).unwrap_or_default();
                table.push([o.id.0.into(), o.schema.as_str().into(), o.name.as_str().into(), count.into()]);
            }
        }
        _ => return Err(table),
    }
    Ok(table)
}

fn pg_indexes(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&["schemaname", "tablename", "indexname", "indexdef"]);
    for object in state.catalog.objects() {
        let (on, index, name) = match &object.body {
            ObjectBody::Table { primary_key, .. } if !primary_key.is_empty() => {
                (object, oids::key_index(object.id.0), object.key_name())
            }
            ObjectBody::Index { on, .. } => match state.catalog.get(*on) {
                Some(table) => (table, object.id.0, object.name.clone()),
                None => continue,
            },
            _ => continue,
        };
        table.push([
            on.schema.as_str().into(),
            on.name.as_str().into(),
            name.into(),
            index_definition(state.catalog, index, 0).into(),
        ]);
    }
}

/// The relations of information_schema.
pub(super) fn fill_information_schema<'a>(
    mut table: Rows<'a>,
    state: &SystemState<'_>,
) -> Result<Rows<'a>, Rows<'a>> {
    let database = || Value::from(state.database);
    match table.relation.name {
        "columns" => columns(&mut table, state),
        "tables" => tables(&mut table, state),
        "schemata" => {
            table.columns(&["catalog_name", "schema_name", "schema_owner"]);
            for name in super::classes::namespaces(state).into_keys() {
                table.push([database(), name.into(), state.user.into()]);
            }
        }
        "views" => {
            table.columns(&[
                "table_catalog",
                "table_schema",
                "table_name",
                "view_definition",
                "check_option",
                "is_updatable",
                "is_insertable_into",
                "is_trigger_updatable",
                "is_trigger_deletable",
                "is_trigger_insertable_into",
            ]);
            for (o, _) in relations(state).filter(|(_, kind)| *kind == 'v') {
                table.push([
                    database(),
                    o.schema.as_str().into(),
                    o.name.as_str().into(),
                    query_of(o).into(),
                    "NONE".into(),
                    "NO".into(),
                    "NO".into(),
                    "NO".into(),
                    "NO".into(),
                    "NO".into(),
                ]);
            }
        }
        "table_constraints" => table_constraints(&mut table, state),
        "key_column_usage" | "constraint_column_usage" => key_columns(&mut table, state),
        "check_constraints" => {
            table.columns(&["constraint_catalog", "constraint_schema", "constraint_name", "check_clause"]);
            for (o, _) in relations(state) {
                if let ObjectBody::Table { checks, .. } = &o.body {
                    for (name, text) in checks {
                        table.push([
                            database(),
                            o.schema.as_str().into(),
                            name.into(),
                            format!("({text})").into(),
                        ]);
                    }
                }
            }
        }
        "character_sets" => {
            table.columns(&[
                "character_set_name",
                "character_repertoire",
                "form_of_use",
                "default_collate_catalog",
            ]);
            table.push(["UTF8".into(), "UCS".into(), "UTF8".into(), database()]);
        }
        "information_schema_catalog_name" => {
            table.columns(&["catalog_name"]);
            table.push([database()]);
        }
        "enabled_roles" => {
            table.columns(&["role_name"]);
            table.push([state.user.into()]);
        }
        _ => return Err(table),
    }
    Ok(table)
}

/// Relations as information_schema counts them: without indexes and materialized views.
fn standard<'a>(state: &'a SystemState<'_>) -> impl Iterator<Item = (&'a Object, char)> {
    relations(state).filter(|(_, kind)| matches!(kind, 'r' | 'v' | 'f'))
}

fn tables(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "table_catalog",
        "table_schema",
        "table_name",
        "table_type",
        "is_insertable_into",
        "is_typed",
    ]);
    let kind_name = |kind| match kind {
        'r' => "BASE TABLE",
        'f' => "FOREIGN",
        _ => "VIEW",
    };
    for (o, kind) in standard(state) {
        let insertable = if matches!(o.body, ObjectBody::Table { .. }) { "YES" } else { "NO" };
        table.push([
            state.database.into(),
            o.schema.as_str().into(),
            o.name.as_str().into(),
            kind_name(kind).into(),
            insertable.into(),
            "NO".into(),
        ]);
    }
    for r in super::relations() {
        table.push([
            state.database.into(),
            r.schema.into(),
            r.name.into(),
            kind_name(r.kind).into(),
            "NO".into(),
            "NO".into(),
        ]);
    }
}

const COLUMN_COLUMNS: &[&str] = &[
    "table_catalog",
    "table_schema",
    "table_name",
    "column_name",
    "ordinal_position",
    "column_default",
    "is_nullable",
    "data_type",
    "character_maximum_length",
    "character_octet_length",
    "numeric_precision",
    "numeric_precision_radix",
    "numeric_scale",
    "datetime_precision",
    "udt_catalog",
    "udt_schema",
    "udt_name",
    "dtd_identifier",
    "is_self_referencing",
    "is_identity",
    "identity_cycle",
    "is_generated",
    "generation_expression",
    "is_updatable",
];

fn columns(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(COLUMN_COLUMNS);
    for (o, _) in standard(state) {
        let updatable = matches!(o.body, ObjectBody::Table { append_only: false, .. });
        for (i, c) in o.live_columns() {
            let nullable = c.nullable && !is_key_column(o, i);
            push_column(table, state, &o.schema, &o.name, i, c, nullable, updatable);
        }
    }
    for r in super::relations() {
        for (i, c) in r.columns.iter().enumerate() {
            let column = Column::new(c.name, c.pg_type);
            push_column(table, state, r.schema, r.name, i, &column, !c.not_null, false);
        }
    }
}

fn is_key_column(object: &Object, column: usize) -> bool {
    matches!(&object.body, ObjectBody::Table { primary_key, .. } if primary_key.contains(&column))
}

#[allow(clippy::too_many_arguments)]
fn push_column(
    table: &mut Rows<'_>,
    state: &SystemState<'_>,
    schema: &str,
    relation: &str,
    i: usize,
    c: &Column,
    nullable: bool,
    updatable: bool,
) {
    let yes = |b: bool| Value::from(if b { "YES" } else { "NO" });
    let pg = c.pg_type();
    let info = types::by_oid(pg.oid);
    let data_type = if info.is_some_and(|t| t.category == 'A') {
        Value::from("ARRAY")
    } else {
        types::format_type(state.catalog, pg.oid, -1).into()
    };
    let text = matches!(pg.oid, oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME);
    let length = pg.max_chars().map(Value::from).unwrap_or_default();
    let octets =
        if text { pg.max_chars().map_or(Value::Int(1 << 30), |n| Value::from(4 * n)) } else { Value::Null };
    let (precision, radix, scale) = numeric_facts(pg);
    let fraction = match pg.oid {
        oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::INTERVAL => Some(6),
        oid::DATE => Some(0),
        _ => None,
    };
    table.push([
        state.database.into(),
        schema.into(),
        relation.into(),
        c.name.as_str().into(),
        (i + 1).into(),
        c.default.as_deref().into(),
        yes(nullable),
        data_type,
        length,
        octets,
        precision.into(),
        radix.into(),
        scale.into(),
        fraction.into(),
        state.database.into(),
        info.map_or("pg_catalog", |t| t.namespace).into(),
        info.map(|t| t.name).into(),
        (i + 1).to_string().into(),
        yes(false),
        yes(false),
        yes(false),
        (if c.generated.is_some() { "ALWAYS" } else { "NEVER" }).into(),
        c.generated.as_deref().into(),
        yes(updatable),
    ]);
}

fn numeric_facts(pg: PgType) -> (Option<i64>, Option<i64>, Option<i64>) {
    match pg.oid {
        oid::INT2 => (Some(16), Some(2), Some(0)),
        oid::INT4 => (Some(32), Some(2), Some(0)),
        oid::INT8 => (Some(64), Some(2), Some(0)),
        oid::FLOAT4 => (Some(24), Some(2), None),
        oid::FLOAT8 => (Some(53), Some(2), None),
        oid::NUMERIC => match pg.numeric_parts() {
            Some((p, s)) => (Some(i64::from(p)), Some(10), Some(i64::from(s))),
            None => (None, Some(10), None),
        },
        _ => (None, None, None),
    }
}

fn table_constraints(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "constraint_type",
        "is_deferrable",
        "initially_deferred",
        "enforced",
    ]);
    for (o, _) in relations(state) {
        let ObjectBody::Table { primary_key, checks, .. } = &o.body else { continue };
        let primary = !primary_key.is_empty();
        let keys = state.catalog.unique_keys(o).into_iter().filter(|k| k.constraint).enumerate();
        let keys = keys.map(|(i, k)| (k.name, if primary && i == 0 { "PRIMARY KEY" } else { "UNIQUE" }));
        for (name, kind) in keys.chain(checks.iter().map(|(n, _)| (n.clone(), "CHECK"))) {
            table.push([
                state.database.into(),
                o.schema.as_str().into(),
                name.into(),
                state.database.into(),
                o.schema.as_str().into(),
                o.name.as_str().into(),
                kind.into(),
                "NO".into(),
                "NO".into(),
                "YES".into(),
            ]);
        }
    }
}

fn key_columns(table: &mut Rows<'_>, state: &SystemState<'_>) {
    let ordered = table.relation.name == "key_column_usage";
    let mut names = vec![
        "constraint_catalog",
        "constraint_schema",
        "constraint_name",
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
    ];
    // The other view has no positions: the last value is then written twice.
    names.push(if ordered { "ordinal_position" } else { "column_name" });
    table.columns(&names);
    for (o, _) in relations(state) {
        let keys = state.catalog.unique_keys(o).into_iter().filter(|k| k.constraint);
        let columns = keys.flat_map(|k| {
            k.columns.into_iter().enumerate().map(move |(i, c)| (k.name.clone(), i, c)).collect::<Vec<_>>()
        });
        for (key, i, column) in columns {
            let name = o.columns.get(column).map(|c| c.name.as_str());
            table.push([
                state.database.into(),
                o.schema.as_str().into(),
                key.into(),
                state.database.into(),
                o.schema.as_str().into(),
                o.name.as_str().into(),
                name.into(),
                if ordered { (i + 1).into() } else { name.into() },
            ]);
        }
    }
}
