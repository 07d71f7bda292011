//! Rows of pg_class and of what hangs on it: columns, types, indexes, constraints, defaults, comments, rules.
//!
//! How our objects appear: tables and companions are `r`, views `v`, materialized views `m`, indexes `i`, sources
//! `f` (foreign tables, whose server is the connector, so that `\d` shows connector and options). Sinks are not
//! relations and do not appear.
//!
//! Boundary: from catalog objects to rows; what a definition reads like as SQL is decided here too, for
//! `pg_get_indexdef` and its like.

use std::collections::{BTreeMap, BTreeSet};

use super::definitions::{Rows, relations};
use super::types;
use super::value::Value;
use super::{FRESHET_SCHEMA, INFORMATION_SCHEMA, OWNER, PG_CATALOG, SystemState, oids, quote_ident};
use crate::catalog::object::{Object, ObjectBody, SequenceSpec, SequenceUse};
use crate::types::{PgType, oid};

const CLASS: u32 = 1259;
const REWRITE: u32 = 2618;
const NAMESPACE: u32 = 2615;
const HEAP: u32 = 2;
const BTREE: u32 = 403;
const WRAPPER: u32 = 13510;
const FIRST_SERVER: u32 = 13520;
const FIRST_SERVER_RELATION: u32 = 13600;

/// pg_class.relkind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassKind(pub char);

impl ClassKind {
    /// The kind under which an object appears; `None`: it does not.
    pub fn of(object: &Object) -> Option<ClassKind> {
        Some(ClassKind(match &object.body {
            ObjectBody::Table { .. } | ObjectBody::Companion { .. } => 'r',
            ObjectBody::Source { .. } => 'f',
            ObjectBody::View { .. } => 'v',
            ObjectBody::MaterializedView { .. } => 'm',
            ObjectBody::Index { .. } => 'i',
            ObjectBody::Sequence(_) => 'S',
            ObjectBody::Sink { .. } | ObjectBody::Function(_) => return None,
        }))
    }
}

/// A column of anything in pg_class.
struct Attribute {
    name: String,
    pg_type: PgType,
    not_null: bool,
    has_default: bool,
    generated: bool,
    /// `a`, `d` or nothing.
    identity: &'static str,
    dropped: bool,
}

/// Anything in pg_class.
pub(super) struct Class<'a> {
    pub oid: u32,
    pub name: String,
    pub namespace: u32,
    pub kind: char,
    attributes: Vec<Attribute>,
    pub object: Option<&'a Object>,
    has_index: bool,
    checks: usize,
}

/// The oids of all schemas by name.
pub(super) fn namespaces(state: &SystemState<'_>) -> BTreeMap<String, u32> {
    let mut all: BTreeMap<String, u32> = state.catalog.schemas().map(|(n, o)| (n.to_string(), o)).collect();
    all.insert("pg_catalog".into(), PG_CATALOG);
    all.insert("information_schema".into(), INFORMATION_SCHEMA);
    for relation in state.server_relations {
        all.entry(relation.schema.clone()).or_insert(FRESHET_SCHEMA);
    }
    all
}

/// Everything in pg_class.
pub(super) fn classes<'a>(state: &'a SystemState<'_>) -> Vec<Class<'a>> {
    let schemas = namespaces(state);
    let mut all: Vec<Class<'a>> = Vec::new();
    for relation in relations() {
        let attribute = |c: &super::SystemColumn| attribute(c.name, c.pg_type, c.not_null);
        all.push(Class {
            oid: relation.oid,
            name: relation.name.to_string(),
            namespace: schemas.get(relation.schema).copied().unwrap_or(PG_CATALOG),
            kind: relation.kind,
            attributes: relation.columns.iter().map(attribute).collect(),
            object: None,
            has_index: false,
            checks: 0,
        });
    }
    for (i, relation) in (0u32..).zip(state.server_relations) {
        all.push(Class {
            oid: FIRST_SERVER_RELATION + i,
            name: relation.name.clone(),
            namespace: schemas.get(&relation.schema).copied().unwrap_or(FRESHET_SCHEMA),
            kind: 'v',
            attributes: relation.columns.iter().map(|(n, t)| attribute(n, *t, false)).collect(),
            object: None,
            has_index: false,
            checks: 0,
        });
    }
    let indexed: BTreeSet<u32> = state
        .catalog
        .objects()
        .filter_map(|o| match o.body {
            ObjectBody::Index { on, .. } => Some(on.0),
            _ => None,
        })
        .collect();
    for object in state.catalog.objects() {
        push_object(state, object, &schemas, &indexed, &mut all);
    }
    all
}

fn push_object<'a>(
    state: &'a SystemState<'_>,
    object: &'a Object,
    schemas: &BTreeMap<String, u32>,
    indexed: &BTreeSet<u32>,
    all: &mut Vec<Class<'a>>,
) {
    let Some(ClassKind(kind)) = ClassKind::of(object) else { return };
    let namespace = schemas.get(&object.schema).copied().unwrap_or_default();
    let mut attributes: Vec<Attribute> = object.columns.iter().map(attribute_of).collect();
    let (mut key, mut checks) = (&[][..], 0);
    match &object.body {
        ObjectBody::Sequence(_) => {
            attributes = vec![
                attribute("last_value", PgType::INT8, true),
                attribute("log_cnt", PgType::INT8, true),
                attribute("is_called", PgType::BOOL, true),
            ];
        }
        ObjectBody::Index { on, columns, .. } => {
            if let Some(table) = state.catalog.get(*on) {
                attributes =
                    columns.iter().filter_map(|c| table.columns.get(*c)).map(indexed_attribute).collect();
            }
        }
        ObjectBody::Table { primary_key, checks: all, .. } => {
            key = primary_key;
            checks = all.len();
            for column in primary_key {
                if let Some(a) = attributes.get_mut(*column) {
                    a.not_null = true;
                }
            }
        }
        _ => {}
    }
    all.push(Class {
        oid: object.id.0,
        name: object.name.clone(),
        namespace,
        kind,
        attributes,
        object: Some(object),
        has_index: !key.is_empty() || indexed.contains(&object.id.0),
        checks,
    });
    if !key.is_empty() {
        all.push(Class {
            oid: oids::key_index(object.id.0),
            name: object.key_name(),
            namespace,
            kind: 'i',
            attributes: key.iter().filter_map(|c| object.columns.get(*c)).map(indexed_attribute).collect(),
            object: None,
            has_index: false,
            checks: 0,
        });
    }
}

fn attribute(name: &str, pg_type: PgType, not_null: bool) -> Attribute {
    Attribute {
        name: name.to_string(),
        pg_type,
        not_null,
        has_default: false,
        generated: false,
        identity: "",
        dropped: false,
    }
}

fn attribute_of(column: &crate::catalog::Column) -> Attribute {
    Attribute {
        name: column.name.clone(),
        pg_type: column.pg_type(),
        not_null: !column.nullable,
        has_default: column.default.is_some() || column.generated.is_some(),
        generated: column.generated.is_some(),
        identity: match column.sequence.map(|s| s.usage) {
            Some(SequenceUse::Always) => "a",
            Some(SequenceUse::ByDefault) => "d",
            Some(SequenceUse::Default) | None => "",
        },
        dropped: column.dropped,
    }
}

fn indexed_attribute(column: &crate::catalog::Column) -> Attribute {
    attribute(&column.name, column.pg_type(), false)
}

/// The relation filled with its rows, or given back when it is none of ours.
pub(super) fn fill<'a>(mut table: Rows<'a>, state: &SystemState<'_>) -> Result<Rows<'a>, Rows<'a>> {
    match table.relation.name {
        "pg_class" => pg_class(&mut table, state),
        "pg_attribute" => pg_attribute(&mut table, state),
        "pg_type" => pg_type(&mut table, state),
        "pg_namespace" => pg_namespace(&mut table, state),
        "pg_index" => pg_index(&mut table, state),
        "pg_constraint" => pg_constraint(&mut table, state),
        "pg_attrdef" => pg_attrdef(&mut table, state),
        "pg_description" => pg_description(&mut table, state),
        "pg_rewrite" => pg_rewrite(&mut table, state),
        "pg_depend" => pg_depend(&mut table, state),
        "pg_foreign_data_wrapper" => {
            table.columns(&["oid", "fdwname", "fdwowner"]);
            if !connectors(state).is_empty() {
                table.push([WRAPPER.into(), "freshet".into(), OWNER.into()]);
            }
        }
        "pg_foreign_server" => {
            table.columns(&["oid", "srvname", "srvowner", "srvfdw"]);
            for (name, oid) in connectors(state) {
                table.push([oid.into(), name.into(), OWNER.into(), WRAPPER.into()]);
            }
        }
        "pg_sequence" => pg_sequence(&mut table, state),
        "pg_foreign_table" => pg_foreign_table(&mut table, state),
        _ => return Err(table),
    }
    Ok(table)
}

fn connectors<'a>(state: &'a SystemState<'_>) -> BTreeMap<&'a str, u32> {
    let names: BTreeSet<&str> = state
        .catalog
        .objects()
        .filter_map(|o| match &o.body {
            ObjectBody::Source { connector, .. } => Some(connector.as_str()),
            _ => None,
        })
        .collect();
    names.into_iter().zip(FIRST_SERVER..).collect()
}

fn pg_foreign_table(table: &mut Rows<'_>, state: &SystemState<'_>) {
    let servers = connectors(state);
    table.columns(&["ftrelid", "ftserver", "ftoptions"]);
    for object in state.catalog.objects() {
        if let ObjectBody::Source { connector, options, format, .. } = &object.body {
            let shown = |(k, v): (&String, &String)| {
                let secret = k.contains("password") || k.contains("secret") || k.contains("token");
                Value::from(format!("{k}={}", if secret { "********" } else { v }))
            };
            let mut all: Vec<Value> = options.iter().map(shown).collect();
            if let Some((format, encoding, options)) = format {
                all.push(Value::from(format!("format={format}")));
                all.push(Value::from(format!("encode={encoding}")));
                all.extend(options.iter().map(shown));
            }
            let server = servers.get(connector.as_str()).copied().unwrap_or_default();
            table.push([object.id.0.into(), server.into(), Value::array(all)]);
        }
    }
}

fn pg_class(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "oid",
        "relname",
        "relnamespace",
        "reltype",
        "relowner",
        "relam",
        "relfilenode",
        "reltuples",
        "relhasindex",
        "relpersistence",
        "relkind",
        "relnatts",
        "relchecks",
        "relhasrules",
        "relispopulated",
        "relreplident",
    ]);
    let temporary: Vec<u32> = namespaces(state)
        .into_iter()
        .filter(|(n, _)| n.starts_with("pg_temp_"))
        .map(|(_, oid)| oid)
        .collect();
    for class in classes(state) {
        let am = match class.kind {
            'r' | 'm' => HEAP,
            'i' => BTREE,
            _ => 0,
        };
        let row_type =
            if class.object.is_some() && class.kind != 'i' { oids::row_type(class.oid) } else { 0 };
        let count = class.object.and_then(|o| (state.row_count)(o.id));
        table.push([
            class.oid.into(),
            class.name.into(),
            class.namespace.into(),
            row_type.into(),
            OWNER.into(),
            am.into(),
            (if am == 0 { 0 } else { class.oid }).into(),
            count.map_or(-1.0, |c| c as f64).into(),
            class.has_index.into(),
            (if temporary.contains(&class.namespace) { "t" } else { "p" }).into(),
            class.kind.into(),
            class.attributes.len().into(),
            class.checks.into(),
            matches!(class.kind, 'v' | 'm').into(),
            true.into(),
            (if class.kind == 'r' { 'd' } else { 'n' }).into(),
        ]);
    }
}

fn pg_attribute(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "attrelid",
        "attname",
        "atttypid",
        "attstattarget",
        "attlen",
        "attnum",
        "attndims",
        "attcacheoff",
        "atttypmod",
        "attbyval",
        "attalign",
        "attstorage",
        "attnotnull",
        "atthasdef",
        "attgenerated",
        "attidentity",
        "attislocal",
        "attcollation",
    ]);
    for class in classes(state) {
        for (number, a) in (1i64..).zip(class.attributes).filter(|(_, a)| !a.dropped) {
            let info = types::by_oid(a.pg_type.oid);
            let field = |i: usize, default: &'static str| {
                info.and_then(|t| t.fields.get(i).copied()).unwrap_or(default)
            };
            table.push([
                class.oid.into(),
                a.name.into(),
                a.pg_type.oid.into(),
                (-1).into(),
                info.map_or(-1, |t| t.len).into(),
                number.into(),
                i64::from(types::element(a.pg_type.oid).is_some()).into(),
                (-1).into(),
                a.pg_type.typmod.into(),
                (field(4, "0") == "1").into(),
                field(18, "i").into(),
                field(19, "x").into(),
                a.not_null.into(),
                a.has_default.into(),
                (if a.generated { "s" } else { "" }).into(),
                a.identity.into(),
                true.into(),
                field(22, "0").parse::<i64>().unwrap_or_default().into(),
            ]);
        }
    }
}

const TYPE_COLUMNS: &[&str] = &[
    "oid",
    "typname",
    "typnamespace",
    "typowner",
    "typlen",
    "typbyval",
    "typtype",
    "typcategory",
    "typispreferred",
    "typisdefined",
    "typdelim",
    "typrelid",
    "typsubscript",
    "typelem",
    "typarray",
    "typinput",
    "typoutput",
    "typreceive",
    "typsend",
    "typmodin",
    "typmodout",
    "typalign",
    "typstorage",
    "typbasetype",
    "typtypmod",
    "typcollation",
];

fn pg_type(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(TYPE_COLUMNS);
    for t in types::all() {
        let number = |i: usize| Value::Int(t.fields.get(i).and_then(|f| f.parse().ok()).unwrap_or_default());
        let flag = |i: usize| Value::Bool(t.fields.get(i) == Some(&"1"));
        let text = |i: usize| Value::from(t.fields.get(i).copied().unwrap_or_default());
        let namespace = if t.namespace == "pg_catalog" { PG_CATALOG } else { INFORMATION_SCHEMA };
        table.push([
            t.oid.into(),
            t.name.into(),
            namespace.into(),
            OWNER.into(),
            t.len.into(),
            flag(4),
            t.kind.into(),
            t.category.into(),
            flag(7),
            true.into(),
            text(8),
            0.into(),
            number(17),
            t.elem.into(),
            t.array.into(),
            number(11),
            number(12),
            number(13),
            number(14),
            number(15),
            number(16),
            text(18),
            text(19),
            number(20),
            number(21),
            number(22),
        ]);
    }
    let schemas = namespaces(state);
    for object in state.catalog.objects().filter(|o| o.is_relation()) {
        let id = object.id.0;
        let schema = schemas.get(&object.schema).copied().unwrap_or_default();
        let (row, array) = (oids::row_type(id), oids::row_array_type(id));
        // record_in, record_out, record_recv, record_send; array_in, …
        for (oid, name, kind, category, relation, elem, array, subscript, io) in [
            (row, object.name.clone(), 'c', 'C', id, 0, array, 0, [2290, 2291, 2402, 2403]),
            (array, format!("_{}", object.name), 'b', 'A', 0, row, 0, 6179, [750, 751, 2400, 2401]),
        ] {
            let [input, output, receive, send] = io.map(Value::from);
            table.push([
                oid.into(),
                name.into(),
                schema.into(),
                OWNER.into(),
                (-1).into(),
                false.into(),
                kind.into(),
                category.into(),
                false.into(),
                true.into(),
                ",".into(),
                relation.into(),
                subscript.into(),
                elem.into(),
                array.into(),
                input,
                output,
                receive,
                send,
                0.into(),
                0.into(),
                "d".into(),
                "x".into(),
                0.into(),
                (-1).into(),
                0.into(),
            ]);
        }
    }
}

fn pg_namespace(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&["oid", "nspname", "nspowner"]);
    for (name, oid) in namespaces(state) {
        table.push([oid.into(), name.into(), OWNER.into()]);
    }
}

/// The default btree operator class of a type.
fn operator_class(type_oid: u32) -> i64 {
    let wanted = if type_oid == oid::VARCHAR { oid::TEXT } else { type_oid };
    super::server::operator_classes()
        .iter()
        .find(|c| c.input_type == wanted && (type_oid != oid::NAME || c.name == "name_ops"))
        .map_or(0, |c| i64::from(c.oid))
}

fn pg_index(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "indexrelid",
        "indrelid",
        "indnatts",
        "indnkeyatts",
        "indisunique",
        "indisprimary",
        "indimmediate",
        "indisvalid",
        "indisready",
        "indislive",
        "indkey",
        "indcollation",
        "indclass",
        "indoption",
    ]);
    let mut push = |index: u32, relation: &Object, columns: &[usize], unique: bool, primary: bool| {
        let type_of = |c: &usize| relation.columns.get(*c).map_or(0, |c| c.type_oid);
        let collation = |c: &usize| {
            types::by_oid(type_of(c)).and_then(|t| t.fields.get(22)?.parse::<i64>().ok()).unwrap_or_default()
        };
        table.push([
            index.into(),
            relation.id.0.into(),
            columns.len().into(),
            columns.len().into(),
            unique.into(),
            primary.into(),
            true.into(),
            true.into(),
            true.into(),
            true.into(),
            Value::vector(columns.iter().map(|c| Value::from(*c + 1)).collect()),
            Value::vector(columns.iter().map(|c| Value::Int(collation(c))).collect()),
            Value::vector(columns.iter().map(|c| Value::Int(operator_class(type_of(c)))).collect()),
            Value::vector(columns.iter().map(|_| Value::Int(0)).collect()),
        ]);
    };
    for object in state.catalog.objects() {
        match &object.body {
            ObjectBody::Table { primary_key, .. } if !primary_key.is_empty() => {
                push(oids::key_index(object.id.0), object, primary_key, true, true);
            }
            ObjectBody::Index { on, columns, unique, .. } => {
                if let Some(relation) = state.catalog.get(*on) {
                    push(object.id.0, relation, columns, *unique, false);
                }
            }
            _ => {}
        }
    }
}

fn pg_constraint(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "oid",
        "conname",
        "connamespace",
        "contype",
        "convalidated",
        "conrelid",
        "conindid",
        "confupdtype",
        "confdeltype",
        "confmatchtype",
        "conislocal",
        "connoinherit",
        "conkey",
        "conbin",
    ]);
    let schemas = namespaces(state);
    for index in state.catalog.objects() {
        let ObjectBody::Index { on, columns, constraint: true, .. } = &index.body else { continue };
        let schema = schemas.get(&index.schema).copied().unwrap_or_default();
        table.push([
            index.id.0.into(),
            index.name.as_str().into(),
            schema.into(),
            "u".into(),
            true.into(),
            on.0.into(),
            index.id.0.into(),
            " ".into(),
            " ".into(),
            " ".into(),
            true.into(),
            true.into(),
            Value::array(columns.iter().map(|c| Value::from(*c + 1)).collect()),
            Value::Null,
        ]);
    }
    for object in state.catalog.objects() {
        let ObjectBody::Table { primary_key, checks, .. } = &object.body else { continue };
        let schema = schemas.get(&object.schema).copied().unwrap_or_default();
        let mut push = |oid: u32, name: String, kind: char, index: u32, key: Value, text: Value| {
            table.push([
                oid.into(),
                name.into(),
                schema.into(),
                kind.into(),
                true.into(),
                object.id.0.into(),
                index.into(),
                " ".into(),
                " ".into(),
                " ".into(),
                true.into(),
                true.into(),
                key,
                text,
            ]);
        };
        if !primary_key.is_empty() {
            let key = Value::array(primary_key.iter().map(|c| Value::from(*c + 1)).collect());
            let id = object.id.0;
            let name = object.key_name();
            push(oids::key_constraint(id), name, 'p', oids::key_index(id), key, Value::Null);
        }
        for (i, (name, text)) in checks.iter().enumerate() {
            push(oids::check(object.id.0, i), name.clone(), 'c', 0, Value::Null, text.into());
        }
    }
}

fn pg_attrdef(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&["oid", "adrelid", "adnum", "adbin"]);
    for object in state.catalog.objects() {
        for (i, column) in object.columns.iter().enumerate() {
            if let Some(text) =
                column.default.as_ref().or(column.generated.as_ref()).filter(|_| !column.dropped)
            {
                table.push([
                    oids::default(object.id.0, i + 1).into(),
                    object.id.0.into(),
                    (i + 1).into(),
                    text.into(),
                ]);
            }
        }
    }
}

fn pg_sequence(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "seqrelid",
        "seqtypid",
        "seqstart",
        "seqincrement",
        "seqmax",
        "seqmin",
        "seqcache",
        "seqcycle",
    ]);
    for object in state.catalog.objects() {
        if let ObjectBody::Sequence(s) = &object.body {
            table.push([
                object.id.0.into(),
                s.type_oid.into(),
                s.start.into(),
                s.increment.into(),
                s.max.into(),
                s.min.into(),
                s.cache.into(),
                s.cycle.into(),
            ]);
        }
    }
}

fn pg_description(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&["objoid", "classoid", "objsubid", "description"]);
    for schema in [(2200, "standard public schema"), (PG_CATALOG, "system catalog schema")] {
        table.push([schema.0.into(), NAMESPACE.into(), 0.into(), schema.1.into()]);
    }
    for object in state.catalog.objects().filter(|o| ClassKind::of(o).is_some()) {
        let own = object.comment.iter().map(|c| (0, c));
        let columns = (1usize..).zip(&object.columns).filter_map(|(i, c)| Some((i, c.comment.as_ref()?)));
        for (number, text) in own.chain(columns) {
            table.push([object.id.0.into(), CLASS.into(), number.into(), text.into()]);
        }
    }
}

fn is_view(object: &Object) -> bool {
    matches!(object.body, ObjectBody::View { .. } | ObjectBody::MaterializedView { .. })
}

fn pg_rewrite(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&[
        "oid",
        "rulename",
        "ev_class",
        "ev_type",
        "ev_enabled",
        "is_instead",
        "ev_qual",
        "ev_action",
    ]);
    for object in state.catalog.objects().filter(|o| is_view(o)) {
        table.push([
            oids::rule(object.id.0).into(),
            "_RETURN".into(),
            object.id.0.into(),
            "1".into(),
            "O".into(),
            true.into(),
            "<>".into(),
            object.ddl.as_str().into(),
        ]);
    }
}

fn pg_depend(table: &mut Rows<'_>, state: &SystemState<'_>) {
    table.columns(&["classid", "objid", "objsubid", "refclassid", "refobjid", "refobjsubid", "deptype"]);
    for object in state.catalog.objects() {
        let id = object.id.0;
        if is_view(object) {
            let rule = oids::rule(id);
            table.push([
                REWRITE.into(),
                rule.into(),
                0.into(),
                CLASS.into(),
                id.into(),
                0.into(),
                "i".into(),
            ]);
            for on in &object.depends_on {
                table.push([
                    REWRITE.into(),
                    rule.into(),
                    0.into(),
                    CLASS.into(),
                    on.0.into(),
                    0.into(),
                    "n".into(),
                ]);
            }
        }
        if let ObjectBody::Index { on, columns, .. } = &object.body {
            for column in columns {
                table.push([
                    CLASS.into(),
                    id.into(),
                    0.into(),
                    CLASS.into(),
                    on.0.into(),
                    (*column + 1).into(),
                    "a".into(),
                ]);
            }
        }
        if let ObjectBody::Sequence(SequenceSpec { owned_by: Some((on, column)), .. }) = &object.body {
            let usage = state.catalog.get(*on).and_then(|t| t.columns.get(*column)?.sequence);
            let identity = usage.is_some_and(|s| s.id == object.id && s.usage != SequenceUse::Default);
            table.push([
                CLASS.into(),
                id.into(),
                0.into(),
                CLASS.into(),
                on.0.into(),
                (*column + 1).into(),
                (if identity { "i" } else { "a" }).into(),
            ]);
        }
        if let ObjectBody::Companion { of, .. } = &object.body {
            table.push([CLASS.into(), id.into(), 0.into(), CLASS.into(), of.0.into(), 0.into(), "i".into()]);
        }
    }
}

/// `CREATE INDEX …` of an index or of a primary key's index, or only its column `number` (from 1).
pub fn index_definition(state: &crate::catalog::Catalog, index: u32, number: usize) -> Option<String> {
    let (table, columns, unique, name) = match oids::object_of_key_index(index) {
        Some(id) => {
            let table = state.get(crate::catalog::ObjectId(id))?;
            let ObjectBody::Table { primary_key, .. } = &table.body else { return None };
            (table, primary_key, true, table.key_name())
        }
        None => {
            let object = state.get(crate::catalog::ObjectId(index))?;
            let ObjectBody::Index { on, columns, unique, .. } = &object.body else { return None };
            (state.get(*on)?, columns, *unique, object.name.clone())
        }
    };
    let names: Vec<String> =
        columns.iter().filter_map(|c| table.columns.get(*c)).map(|c| quote_ident(&c.name)).collect();
    if number > 0 {
        return Some(names.get(number - 1).cloned().unwrap_or_default());
    }
    Some(format!(
        "CREATE {}INDEX {} ON {}.{} USING btree ({})",
        if unique { "UNIQUE " } else { "" },
        quote_ident(&name),
        quote_ident(&table.schema),
        quote_ident(&table.name),
        names.join(", ")
    ))
}
